//! Waiting for others: a bell on a line of its own, and one handle's way of waiting there.
//!
//! Everything that blocks does it here: spin, yield, sleep in slices of at most 50 ms (`sapwood_core::wait`). Before
//! each slice the caller looks whether those it waits for live, and the deadline is looked at; a wait that finds what
//! it is for asks for neither.

use std::time::Duration;

use sapwood_core::doorbell::Doorbell;
use sapwood_core::link::Deadline;
use sapwood_core::mem::Real;
use sapwood_core::wait::{Closely, Stage, WaitPolicy, WaitStats, Waiter};

use crate::limits::{allowed_cpus, cpu_quota};
use crate::prices::prices;

/// A bell that nothing else shares a cache line with. Zeroed memory is one that nobody waits on.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Bell {
    pub(crate) bell: Doorbell<Real>,
}

/// Why a wait ended before what it is for had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop<E> {
    /// The deadline has passed.
    TimedOut {
        /// How long it was.
        waited: Duration,
    },
    /// The look at the others says that there is nothing to wait for.
    Told(E),
}

/// One handle's way of waiting: private, keeps what it has learnt. Made at the first wait, because the prices of a
/// machine take half a millisecond to measure.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    policy: WaitPolicy,
    waiter: Option<Waiter>,
}

impl Patience {
    /// Waits as `policy` says.
    pub(crate) fn new(policy: WaitPolicy) -> Patience {
        Patience { policy, waiter: None }
    }

    /// As which it waits.
    pub(crate) fn policy(&self) -> WaitPolicy {
        self.policy
    }

    /// How often each stage was used.
    pub(crate) fn stats(&self) -> WaitStats {
        self.waiter.as_ref().map(Waiter::stats).unwrap_or_default()
    }

    /// Waits at `bell` until `ready`, which whoever rings it has made true. `look` is asked before each slice of sleep,
    /// and may end the wait.
    ///
    /// # Errors
    /// [`Stop`]: at the deadline, or as `look` says.
    pub(crate) fn wait<E>(
        &mut self,
        bell: &Doorbell<Real>,
        deadline: Deadline,
        mut ready: impl FnMut() -> bool,
        look: impl FnMut() -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        self.wait_looking(bell, deadline, |_| ready(), look)
    }

    /// The same for one to whom a thorough look costs much: it is asked for glances until the first sleep. After an
    /// `Err` the caller looks once more, thoroughly.
    ///
    /// # Errors
    /// As for [`wait`](Self::wait).
    pub(crate) fn wait_looking<E>(
        &mut self,
        bell: &Doorbell<Real>,
        deadline: Deadline,
        mut ready: impl FnMut(Closely) -> bool,
        mut look: impl FnMut() -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        if ready(Closely::Glance) {
            return Ok(());
        }
        let timer = deadline.start();
        if timer.has_passed() {
            return Err(Stop::TimedOut { waited: Duration::ZERO });
        }
        let waiter = self.waiter.get_or_insert_with(|| waiter(self.policy));
        // Whoever will ring may be any of many: the budget of spinning shrinks by itself where they share our CPU.
        waiter.wait_looking(
            bell,
            ready,
            || true,
            |stage| match stage {
                Stage::Patient => Ok(u64::MAX),
                Stage::Asleep => match timer.left() {
                    0 => Err(Stop::TimedOut { waited: timer.waited() }),
                    left => look().map(|()| left).map_err(Stop::Told),
                },
            },
        )
    }
}

/// A waiter that spins only where two parties can each have a CPU.
pub(crate) fn waiter(policy: WaitPolicy) -> Waiter {
    let cpus: u32 = allowed_cpus().iter().map(|word| word.count_ones()).sum();
    let crowded = cpus < 2 || cpu_quota().is_some_and(|quota| quota < 2.0);
    Waiter::new(policy, prices(), crowded)
}
