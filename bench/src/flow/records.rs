//! Messages of one cache line, one to one: one by one, and in batches.

use super::{Check, Failure, Said, now, warm_up};

/// A message of 64 bytes.
pub(crate) type Record = [u64; 8];
/// Records of a batch.
pub(crate) const BATCH: usize = 32;
/// Records that a ring holds.
pub(crate) const CAPACITY: usize = 1024;

/// The end that records go into.
pub(crate) trait PushRecords {
    /// Sends all of them; waits where there is no room.
    fn push(&mut self, records: &[Record]) -> Result<(), Failure>;
}

/// The end that records come out of.
pub(crate) trait PopRecords {
    /// Takes at least one, and as many as there are and fit; waits where there is none.
    fn pop(&mut self, into: &mut [Record]) -> Result<usize, Failure>;
}

#[inline(always)]
fn record(i: u64) -> Record {
    std::array::from_fn(|k| 8 * i + k as u64 + 1)
}

/// Times `some`, which does a batch from its place on and says how many that were.
#[inline(always)]
fn batches(n: u64, mut some: impl FnMut(u64, usize) -> Result<u64, Failure>) -> Result<Said, Failure> {
    let mut run = |mut at: u64, until: u64| -> Result<(), Failure> {
        while at < until {
            at += some(at, (until - at).min(BATCH as u64) as usize)?;
        }
        Ok(())
    };
    let warm = warm_up(n);
    run(0, warm)?;
    let from = now();
    run(warm, warm + n)?;
    let until = now();
    Ok(Said { nanos: (until - from) as f64 / n as f64, sum: 0, span: (from, until) })
}

/// The sending end; `batch` records a call.
pub(crate) fn produce(to: &mut impl PushRecords, n: u64, batch: usize) -> Result<Said, Failure> {
    let (mut records, mut sum) = ([[0; 8]; BATCH], 0u64);
    let said = batches(n, |at, most| {
        let now = batch.min(most);
        for (i, r) in (at..).zip(records[..now].iter_mut()) {
            *r = record(i);
            sum = r.iter().fold(sum, |sum, word| sum.wrapping_add(*word));
        }
        to.push(&records[..now])?;
        Ok(now as u64)
    })?;
    Ok(Said { sum, ..said })
}

/// The receiving end; up to `batch` records a call.
pub(crate) fn consume(from: &mut impl PopRecords, n: u64, batch: usize) -> Result<Said, Failure> {
    let (mut records, mut check) = ([[0; 8]; BATCH], Check::default());
    let said = batches(n, |at, most| {
        let now = from.pop(&mut records[..batch.min(most)])?;
        for (i, r) in (at..).zip(&records[..now]) {
            r.iter().zip(record(i)).for_each(|(word, expected)| check.word(*word, expected));
        }
        Ok(now as u64)
    })?;
    check.of(said)
}

/// What both ends must sum up to.
pub(crate) fn sum(n: u64) -> u64 {
    (0..warm_up(n) + n).flat_map(record).fold(0, u64::wrapping_add)
}
