//! Messages of some length: there and back, and in a stream, copied in and out or made in place.
//!
//! A message that is copied lies in the sender's own memory and ends in the receiver's own. Every message is marked
//! anew: a short one in every word, a longer one in a word of each 512 bytes, or of each page; one that is made in
//! place in its first and last word, so that the time does not grow with the length. The receiver looks at every mark.
//! After the timed ones goes one more message, of which every word is known and checked.

use super::{Check, Failure, Said, timed, warm_up};

/// Both directions of one end; messages are copied.
pub(crate) trait Messages {
    /// Sends a message out of the caller's memory; waits where there is no room.
    fn send(&mut self, message: &[u8]) -> Result<(), Failure>;
    /// Waits for the next message, which has this length, and puts it into the caller's memory.
    fn recv(&mut self, message: &mut [u8]) -> Result<(), Failure>;
}

/// Both directions of one end; messages are made and looked at where they are.
pub(crate) trait Loans {
    /// Lends room for a message, and sends it when `write` has made it.
    fn lend(&mut self, bytes: usize, write: impl FnOnce(&mut [u8])) -> Result<(), Failure>;
    /// Waits for the next message, which has this length, and gives its room back when `look` has looked at it.
    fn borrow(&mut self, bytes: usize, look: impl FnOnce(&[u8])) -> Result<(), Failure>;
}

/// Bytes from mark to mark.
#[derive(Clone, Copy)]
struct Step(usize);

impl Step {
    fn copied(bytes: usize) -> Step {
        Step(match bytes {
            ..=64 => 8,
            65..=65_536 => 512,
            _ => 4096,
        })
    }

    fn in_place(bytes: usize) -> Step {
        Step(bytes.max(16) - 8)
    }
}

/// Which message: rounds count up, and the answer of a round is not its question.
fn mark(round: u64, back: bool) -> u64 {
    (2 * round + u64::from(back)).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1
}

#[inline(always)]
fn stamp(message: &mut [u8], step: Step, mark: u64) {
    for (k, part) in message.chunks_mut(step.0).enumerate() {
        if let Some(word) = part.first_chunk_mut::<8>() {
            *word = mark.wrapping_add(k as u64).to_le_bytes();
        }
    }
}

#[inline(always)]
fn look(message: &[u8], step: Step, mark: u64, check: &mut Check) {
    for (k, part) in message.chunks(step.0).enumerate() {
        if let Some(word) = part.first_chunk::<8>() {
            check.word(u64::from_le_bytes(*word), mark.wrapping_add(k as u64));
        }
    }
}

/// What [`look`] sums up to.
fn marks(bytes: usize, step: Step, mark: u64) -> u64 {
    (0..bytes)
        .step_by(step.0)
        .filter(|at| at + 8 <= bytes)
        .fold((0, 0u64), |(k, sum), _| (k + 1, sum.wrapping_add(mark.wrapping_add(k))))
        .1
}

/// A message of which every word is known and unlike its neighbours.
fn fill(message: &mut [u8], back: bool) {
    message.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i * 7 + i / 251 + usize::from(back)) as u8);
}

fn digest(message: &[u8]) -> u64 {
    message.iter().fold(message.len() as u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
}

/// What the known message sums up to.
fn known(bytes: usize, back: bool) -> u64 {
    let mut message = vec![0; bytes];
    fill(&mut message, back);
    digest(&message)
}

/// A message there and another one back, `n` times.
pub(crate) fn pingpong(first: bool, lane: &mut impl Messages, bytes: usize, n: u64) -> Result<Said, Failure> {
    let (mut out, mut into) = (vec![0u8; bytes], vec![0u8; bytes]);
    let (step, mut check) = (Step::copied(bytes), Check::default());
    let said = timed(n, |r| {
        stamp(&mut out, step, mark(r, !first));
        if first {
            lane.send(&out)?;
        }
        lane.recv(&mut into)?;
        look(&into, step, mark(r, first), &mut check);
        if !first {
            lane.send(&out)?;
        }
        Ok(())
    })?;
    let mut said = check.of(said)?;
    fill(&mut out, !first);
    if first {
        lane.send(&out)?;
    }
    lane.recv(&mut into)?;
    if !first {
        lane.send(&out)?;
    }
    let sent = (0..warm_up(n) + n)
        .fold(digest(&out), |sum, r| sum.wrapping_add(marks(bytes, step, mark(r, !first))));
    said.sum = said.sum.wrapping_add(digest(&into)).wrapping_add(sent);
    Ok(said)
}

/// Messages one way: from the first end to the other.
pub(crate) fn stream(first: bool, lane: &mut impl Messages, bytes: usize, n: u64) -> Result<Said, Failure> {
    let (mut message, step) = (vec![0u8; bytes], Step::copied(bytes));
    let mut check = Check::default();
    let said = timed(n, |r| {
        if first {
            stamp(&mut message, step, mark(r, false));
            lane.send(&message)
        } else {
            lane.recv(&mut message)?;
            look(&message, step, mark(r, false), &mut check);
            Ok(())
        }
    })?;
    let mut said = check.of(said)?;
    if first {
        fill(&mut message, false);
        lane.send(&message)?;
        said.sum = (0..warm_up(n) + n).fold(0, |sum, r| sum.wrapping_add(marks(bytes, step, mark(r, false))));
    } else {
        lane.recv(&mut message)?;
    }
    said.sum = said.sum.wrapping_add(digest(&message));
    Ok(said)
}

/// A message made in place there, and another one back, `n` times.
pub(crate) fn loan(first: bool, lane: &mut impl Loans, bytes: usize, n: u64) -> Result<Said, Failure> {
    let (step, mut check) = (Step::in_place(bytes), Check::default());
    let said = timed(n, |r| {
        if first {
            lane.lend(bytes, |m| stamp(m, step, mark(r, false)))?;
        }
        lane.borrow(bytes, |m| look(m, step, mark(r, first), &mut check))?;
        if !first {
            lane.lend(bytes, |m| stamp(m, step, mark(r, true)))?;
        }
        Ok(())
    })?;
    let mut said = check.of(said)?;
    let (mut came, mut went) = (0, 0);
    let mut make = |lane: &mut _| {
        Loans::lend(lane, bytes, |m| {
            fill(m, !first);
            went = digest(m);
        })
    };
    if first {
        make(lane)?;
        lane.borrow(bytes, |m| came = digest(m))?;
    } else {
        lane.borrow(bytes, |m| came = digest(m))?;
        make(lane)?;
    }
    let sent =
        (0..warm_up(n) + n).fold(0, |sum: u64, r| sum.wrapping_add(marks(bytes, step, mark(r, !first))));
    said.sum = said.sum.wrapping_add(came).wrapping_add(went).wrapping_add(sent);
    Ok(said)
}

fn both_ways(bytes: usize, step: Step, n: u64) -> u64 {
    let both = known(bytes, false).wrapping_add(known(bytes, true));
    (0..warm_up(n) + n).fold(both, |sum, r| {
        let (out, back) = (marks(bytes, step, mark(r, false)), marks(bytes, step, mark(r, true)));
        sum.wrapping_add(out).wrapping_add(back)
    })
}

/// What both ends of [`pingpong`] must sum up to.
pub(crate) fn pingpong_sum(bytes: usize, n: u64) -> u64 {
    both_ways(bytes, Step::copied(bytes), n)
}

/// What both ends of [`loan`] must sum up to.
pub(crate) fn loan_sum(bytes: usize, n: u64) -> u64 {
    both_ways(bytes, Step::in_place(bytes), n)
}

/// What both ends of [`stream`] must sum up to.
pub(crate) fn stream_sum(bytes: usize, n: u64) -> u64 {
    let step = Step::copied(bytes);
    (0..warm_up(n) + n)
        .fold(known(bytes, false), |sum, r| sum.wrapping_add(marks(bytes, step, mark(r, false))))
}
