//! What the ends of a lane do while they are measured: the loops, the payloads, the checks.
//!
//! Sapwood, the floor and the peers run this very text (`bench/peers` compiles it too), so that they differ in nothing
//! but the calls that are measured. Every loop begins with a warm-up, after which it does not pause: where one end
//! sends and another receives, each takes the time of its own N messages in the middle of the stream, and the slower
//! one's counts. Nobody leaves a loop early: a message that is not the expected one is remembered, and told at the end.

pub(crate) mod channels;
pub(crate) mod jobs;
pub(crate) mod messages;
pub(crate) mod records;
pub(crate) mod serve;
pub(crate) mod threads;
pub(crate) mod words;

#[cfg(test)]
mod tests;

use std::error::Error;

use nix::time::{ClockId, clock_gettime};

/// Why a turn can't be counted.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// What one end says after a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    /// Nanoseconds an operation; of a ping-pong, there and back.
    pub(crate) nanos: f64,
    /// The sum of what came and went.
    pub(crate) sum: u64,
    /// When the timed part began and ended, in nanoseconds of the machine's clock.
    pub(crate) span: (u64, u64),
}

impl Said {
    /// What two ends say together: the slower one's time, and a sum that must be the same.
    pub(crate) fn alike(self, other: Said) -> Result<Said, Failure> {
        if self.sum == other.sum {
            Ok(Said { sum: self.sum, ..self.together(other) })
        } else {
            Err(format!("one end sums up to {}, the other to {}", self.sum, other.sum).into())
        }
    }

    /// The same where each end has a part of the messages.
    pub(crate) fn together(self, other: Said) -> Said {
        Said {
            nanos: self.nanos.max(other.nanos),
            sum: self.sum.wrapping_add(other.sum),
            span: (self.span.0.min(other.span.0), self.span.1.max(other.span.1)),
        }
    }
}

/// Nanoseconds of the clock that all processes of the machine share.
pub(crate) fn now() -> u64 {
    // Fails for clocks that do not exist, and this one always does.
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |t| t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64)
}

/// Does `one` for each of the warm-up and then of the `n` timed operations.
#[inline(always)]
fn timed(n: u64, mut one: impl FnMut(u64) -> Result<(), Failure>) -> Result<Said, Failure> {
    let warm = warm_up(n);
    (0..warm).try_for_each(&mut one)?;
    let from = now();
    (warm..warm + n).try_for_each(&mut one)?;
    let until = now();
    Ok(Said { nanos: (until - from) as f64 / n as f64, sum: 0, span: (from, until) })
}

/// Operations before the timed ones.
pub(crate) fn warm_up(iterations: u64) -> u64 {
    iterations / 10 + 16
}

/// How an end waits for the other. Begun anew for every operation that has to wait.
pub(crate) trait Wait {
    /// The beginning of a wait.
    fn begin() -> Self;
    /// Another try was in vain.
    fn miss(&mut self);
}

/// For an end that has a CPU to itself.
pub(crate) struct Spin;

impl Wait for Spin {
    #[inline(always)]
    fn begin() -> Self {
        Spin
    }
    #[inline(always)]
    fn miss(&mut self) {
        std::hint::spin_loop();
    }
}

/// For ends that share CPUs: whoever is waited for may need ours, so every try in vain yields. No queue that was tried
/// did better with some spinning before it, and 15 turns cost two of them two thirds of their rate.
pub(crate) struct Yield;

impl Wait for Yield {
    #[inline(always)]
    fn begin() -> Self {
        Yield
    }
    #[inline(always)]
    fn miss(&mut self) {
        std::thread::yield_now();
    }
}

/// Collects what came: the sum, and whether every word was the expected one.
#[derive(Default)]
struct Check {
    sum: u64,
    wrong: u64,
}

impl Check {
    #[inline(always)]
    fn word(&mut self, found: u64, expected: u64) {
        self.sum = self.sum.wrapping_add(found);
        self.wrong |= found ^ expected;
    }

    fn of(self, said: Said) -> Result<Said, Failure> {
        if self.wrong == 0 {
            Ok(Said { sum: self.sum, ..said })
        } else {
            Err("a message was lost, torn, or out of order".into())
        }
    }
}
