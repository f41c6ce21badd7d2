//! Rings of words: there and back, one to one, two to two. Two to two nobody paces anybody: what counts there is the
//! time from the first one's beginning to the last one's end.

use super::{Check, Failure, Said, Wait, timed, warm_up};

/// Words that a ring holds.
pub(crate) const CAPACITY: usize = 1024;

/// The end that words go into.
pub(crate) trait Push {
    /// Puts the word in; false where there is no room.
    fn try_push(&mut self, word: u64) -> bool;
}

/// The end that words come out of.
pub(crate) trait Pop {
    /// The next word, if there is one.
    fn try_pop(&mut self) -> Option<u64>;
}

#[inline(always)]
fn push<W: Wait>(to: &mut impl Push, word: u64) -> Result<(), Failure> {
    let mut wait = W::begin();
    while !to.try_push(word) {
        wait.miss();
    }
    Ok(())
}

#[inline(always)]
fn pop<W: Wait>(from: &mut impl Pop) -> Result<u64, Failure> {
    let mut wait = W::begin();
    loop {
        match from.try_pop() {
            Some(word) => return Ok(word),
            None => wait.miss(),
        }
    }
}

/// What goes out in a round, and what comes back. Never zero, which fresh memory holds.
fn ball(round: u64) -> (u64, u64) {
    (2 * round + 1, 2 * round + 2)
}

/// One word there and another one back, `n` times.
pub(crate) fn pingpong<W: Wait>(
    first: bool,
    to: &mut impl Push,
    from: &mut impl Pop,
    n: u64,
) -> Result<Said, Failure> {
    pingpong_by(first, |word| push::<W>(to, word), || pop::<W>(from), n)
}

/// The same by calls that wait by themselves and can fail.
#[inline(always)]
pub(crate) fn pingpong_by(
    first: bool,
    mut send: impl FnMut(u64) -> Result<(), Failure>,
    mut recv: impl FnMut() -> Result<u64, Failure>,
    n: u64,
) -> Result<Said, Failure> {
    let mut check = Check::default();
    let said = timed(n, |r| {
        let (out, back) = ball(r);
        if first {
            send(out)?;
            check.word(recv()?, back);
        } else {
            check.word(recv()?, out);
            send(back)?;
        }
        check.sum = check.sum.wrapping_add(if first { out } else { back });
        Ok(())
    })?;
    check.of(said)
}

/// What both ends of [`pingpong`] must sum up to.
pub(crate) fn pingpong_sum(n: u64) -> u64 {
    (0..warm_up(n) + n).map(|r| ball(r).0 + ball(r).1).fold(0, u64::wrapping_add)
}

/// The sending end: 1, 2, 3 …
pub(crate) fn produce<W: Wait>(to: &mut impl Push, n: u64) -> Result<Said, Failure> {
    let mut sum = 0u64;
    let said = timed(n, |i| {
        push::<W>(to, i + 1)?;
        sum = sum.wrapping_add(i + 1);
        Ok(())
    })?;
    Ok(Said { sum, ..said })
}

/// The receiving end.
pub(crate) fn consume<W: Wait>(from: &mut impl Pop, n: u64) -> Result<Said, Failure> {
    let mut check = Check::default();
    let said = timed(n, |i| {
        check.word(pop::<W>(from)?, i + 1);
        Ok(())
    })?;
    check.of(said)
}

/// What both ends of a stream must sum up to.
pub(crate) fn stream_sum(n: u64) -> u64 {
    (0..warm_up(n) + n).fold(0, |sum, i| sum.wrapping_add(i + 1))
}

/// Producers, and consumers, of the row 2p2c.
pub(crate) const SIDES: u64 = 2;

/// How many of the `n` messages each producer sends and each consumer takes.
fn share(n: u64) -> u64 {
    n.div_ceil(SIDES)
}

/// Producer `who` of two: its number, and a count. The consumers have all of the sum.
pub(crate) fn produce_shared<W: Wait>(to: &mut impl Push, who: u64, n: u64) -> Result<Said, Failure> {
    produce_shared_by(|word| push::<W>(to, word), who, n)
}

/// The same by calls that wait by themselves and can fail.
#[inline(always)]
pub(crate) fn produce_shared_by(
    mut send: impl FnMut(u64) -> Result<(), Failure>,
    who: u64,
    n: u64,
) -> Result<Said, Failure> {
    timed(share(n), |i| send((i + 1) << 1 | who))
}

/// One of two consumers: takes half of all, and of each producer in its order.
pub(crate) fn consume_shared<W: Wait>(from: &mut impl Pop, n: u64) -> Result<Said, Failure> {
    consume_shared_by(|| pop::<W>(from), n)
}

/// The same by calls that wait by themselves and can fail.
#[inline(always)]
pub(crate) fn consume_shared_by(
    mut recv: impl FnMut() -> Result<u64, Failure>,
    n: u64,
) -> Result<Said, Failure> {
    let (mut last, mut sum, mut ordered) = ([0u64; SIDES as usize], 0u64, true);
    let said = timed(share(n), |_| {
        let word = recv()?;
        let last = &mut last[(word & 1) as usize];
        ordered &= word >> 1 > *last;
        *last = word >> 1;
        sum = sum.wrapping_add(word);
        Ok(())
    })?;
    if ordered { Ok(Said { sum, ..said }) } else { Err("a producer's messages came out of order".into()) }
}

/// What the consumers of 2p2c must sum up to together.
pub(crate) fn shared_sum(n: u64) -> u64 {
    let count = warm_up(share(n)) + share(n);
    (0..count).fold(0, |sum, i| sum.wrapping_add(4 * (i + 1) + 1))
}
