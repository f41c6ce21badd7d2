//! How long a call may wait.

use core::time::Duration;

use crate::mem::{Mem, Real};

/// When a call's waiting ends. What needs no waiting is done whatever the deadline says.
///
/// ```
/// use core::time::Duration;
/// use sapwood_core::link::Deadline;
///
/// assert!(Deadline::NONE.start().has_passed());
/// assert!(!Deadline::after(Duration::from_secs(60)).start().has_passed());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(When);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    After(u64),
    At(u64),
}

impl Deadline {
    /// No waiting at all.
    pub const NONE: Deadline = Deadline(When::At(0));

    /// So long after the call's first wait: a call that never waits never asks for the time.
    pub const fn after(limit: Duration) -> Deadline {
        let nanos = limit.as_nanos();
        Deadline(When::After(if nanos > u64::MAX as u128 { u64::MAX } else { nanos as u64 }))
    }

    /// At this time of the monotonic clock, in nanoseconds ([`Mem::now`] of [`Real`]).
    pub const fn at(nanos: u64) -> Deadline {
        Deadline(When::At(nanos))
    }

    /// The call's first wait begins.
    pub fn start(self) -> Timer {
        let since = Real::now();
        let until = match self.0 {
            When::After(nanos) => since.saturating_add(nanos),
            When::At(nanos) => nanos,
        };
        Timer { since, until }
    }
}

/// A deadline that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timer {
    since: u64,
    until: u64,
}

impl Timer {
    /// When it ends, in nanoseconds of the monotonic clock.
    pub fn until(&self) -> u64 {
        self.until
    }

    /// Whether it has ended.
    pub fn has_passed(&self) -> bool {
        Real::now() >= self.until
    }

    /// Nanoseconds until it ends; 0 when it has.
    pub fn left(&self) -> u64 {
        self.until.saturating_sub(Real::now())
    }

    /// How long it has run.
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(Real::now().saturating_sub(self.since))
    }
}
