//! Channels between threads, whose calls wait by themselves and may sleep: there and back between two that have a CPU
//! each, or between many pairs that have not; two to two.

use super::threads::{Apart, End, crowd, run, two};
use super::words::{self, CAPACITY, SIDES};
use super::{Failure, Said, warm_up};

/// The end that words go into.
pub(crate) trait Sender: Send {
    /// Puts the word in; sleeps where there is no room.
    fn send(&mut self, word: u64) -> Result<(), Failure>;
}

/// The end that words come out of.
pub(crate) trait Receiver: Send {
    /// The next word; sleeps where there is none.
    fn recv(&mut self) -> Result<u64, Failure>;
}

/// A way to make channels between threads.
pub(crate) trait Channel {
    /// The end that words go into.
    type Tx: Sender;
    /// The end that words come out of.
    type Rx: Receiver;
    /// A channel that holds `capacity` words.
    fn channel(capacity: usize) -> Result<(Self::Tx, Self::Rx), Failure>;
}

/// One that can have several ends on either side.
pub(crate) trait Many: Channel {
    /// Another end for words to go into.
    fn another_tx(tx: &Self::Tx) -> Result<Self::Tx, Failure>;
    /// Another end for words to come out of.
    fn another_rx(rx: &Self::Rx) -> Result<Self::Rx, Failure>;
}

/// Both ends of a ping-pong.
fn players<C: Channel>(n: u64) -> Result<[impl FnOnce() -> Result<Said, Failure> + Send; 2], Failure> {
    let (there, from_a) = C::channel(CAPACITY)?;
    let (back, from_b) = C::channel(CAPACITY)?;
    let player = move |first: bool, to: C::Tx, from: C::Rx| {
        let (mut to, mut from) = (Apart(to), Apart(from));
        move || words::pingpong_by(first, |word| to.0.send(word), || from.0.recv(), n)
    };
    Ok([player(true, there, from_b), player(false, back, from_a)])
}

/// A word there and another one back, `n` times: between two threads on CPUs of their own, or, of more, between as many
/// pairs, which have `n` rounds together and no CPU that is theirs. Of those counts the time of all rounds from the
/// beginning on: a pair that has the CPUs to itself while others have not begun must not look fast.
pub(crate) fn pingpong<C: Channel>(threads: usize, n: u64) -> Result<Said, Failure> {
    if threads == 2 {
        let [a, b] = players::<C>(n)?;
        return two(a, b);
    }
    let mut ends: Vec<End<'_>> = Vec::with_capacity(threads);
    let pairs = (threads / 2) as u64;
    let each = n.div_ceil(pairs);
    for _ in 0..pairs {
        let [a, b] = players::<C>(each)?;
        ends.push(Box::new(a));
        ends.push(Box::new(b));
    }
    let said = crowd(ends)?.into_iter().reduce(Said::together).ok_or("a ping-pong of nobody")?;
    let rounds = pairs * (warm_up(each) + each);
    Ok(Said { nanos: (said.span.1 - said.span.0) as f64 / rounds as f64, ..said })
}

/// What a [`pingpong`] must sum up to: of two, either end; of more, all of them together.
pub(crate) fn pingpong_sum(threads: usize, n: u64) -> u64 {
    let pairs = (threads / 2) as u64;
    match pairs {
        1 => words::pingpong_sum(n),
        _ => words::pingpong_sum(n.div_ceil(pairs)).wrapping_mul(2 * pairs),
    }
}

/// Four threads: two producers, two consumers, one of each on every CPU where there are two.
pub(crate) fn two_to_two<C: Many>(n: u64) -> Result<Said, Failure> {
    const { assert!(SIDES == 2) };
    let (p, c) = C::channel(CAPACITY)?;
    let (q, d) = (C::another_tx(&p)?, C::another_rx(&c)?);
    let (mut p, mut q, mut c, mut d) = (Apart(p), Apart(q), Apart(c), Apart(d));
    let [a, b, c, d] = run([
        Box::new(move || words::produce_shared_by(|word| p.0.send(word), 0, n)),
        Box::new(move || words::produce_shared_by(|word| q.0.send(word), 1, n)),
        Box::new(move || words::consume_shared_by(|| c.0.recv(), n)),
        Box::new(move || words::consume_shared_by(|| d.0.recv(), n)),
    ])?;
    Ok(a.together(b).together(c).together(d))
}
