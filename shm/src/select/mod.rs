//! Waiting for several things at once: channels of any carrier, in either direction, workqueues, and deadlines.
//!
//! | who waits                     | with                                | sleeps in                                      |
//! |-------------------------------|-------------------------------------|------------------------------------------------|
//! | a thread                      | [`Select`]                          | `futex_waitv`, at all bells at once            |
//! | a task of any async runtime   | [`ready`] and the handles' own      | its runtime; the watcher's thread wakes it     |
//! | a loop around poll(2), epoll  | [`Readiness`]                       | poll; the watcher's thread writes an eventfd   |
//!
//! The *watcher* is a thread that the first future or descriptor of a process starts; it sleeps at the bells of all
//! that is waited for and runs nothing but wakers. A program that uses neither has no such thread.
//!
//! **No wake is lost.** Whoever waits announces itself at every bell, looks at everything once more, and sleeps only if
//! nothing was there; the kernel (or the watcher) compares every bell with what was announced before it sleeps. That is
//! the sleeper's half of `sapwood_core::doorbell`, made at each bell before the one look.
//!
//! **Ready means that a try would not say "not yet"**: something is there, or there is room, or an error or an end has
//! to be said. Others may be faster: the try after it may find nothing, and the caller waits again.
//!
//! Where the kernel has no futex_waitv (before 5.16, or behind a filter), a wait on several things is a sequence of
//! sleeps of a millisecond.

mod future;
mod readiness;
#[cfg(test)]
mod tests;
mod watcher;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sapwood_core::doorbell::Doorbell;
use sapwood_core::link::{Deadline, Timer};
use sapwood_core::mem::{Real, WAIT_MOST};
use sapwood_core::wait::{SLICE_NANOS, Stage, WaitPolicy, Waiter};

pub use future::{ReadyFuture, ready};
pub use readiness::Readiness;

use crate::wait::waiter;

/// What a handle can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Something can be taken: a message, a job, an answer.
    Receiving,
    /// Something can be given: there is room.
    Sending,
}

/// A handle that can be waited for together with others.
pub(crate) trait Waitable {
    /// Its bells, for whoever may outlive the handle.
    fn bells(&self) -> Arc<dyn Bells>;
    /// The bell that is rung when it becomes ready.
    fn bell(&self, direction: Direction) -> &Doorbell<Real>;
    /// Whether a try would not say "not yet", as far as memory says: no system call.
    fn is_ready(&mut self, direction: Direction) -> bool;
    /// The same, after a look whether others live: before each slice of sleep.
    fn look(&mut self, direction: Direction) -> bool;
    /// Whether others can die without it, so that somebody has to look now and then.
    fn others_can_die(&self) -> bool;
}

/// The bells of an object, kept in memory.
pub(crate) trait Bells: Send + Sync {
    /// The bell that is rung when something can be done in that direction.
    fn bell(&self, direction: Direction) -> &Doorbell<Real>;
}

/// One thing that is waited for: what a handle's `receiving`, `sending` and the like give, or a time.
pub struct Waits<'a>(Kind<'a>);

enum Kind<'a> {
    Handle(&'a mut (dyn Waitable + Send), Direction),
    Time(Timer),
}

impl fmt::Debug for Waits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Handle(_, direction) => f.debug_tuple("Waits").field(direction).finish(),
            Kind::Time(timer) => f.debug_tuple("Waits").field(timer).finish(),
        }
    }
}

impl<'a> Waits<'a> {
    pub(crate) fn handle(handle: &'a mut (dyn Waitable + Send), direction: Direction) -> Waits<'a> {
        Waits(Kind::Handle(handle, direction))
    }

    /// Is ready when so much time has passed since this call.
    pub fn after(time: Duration) -> Waits<'a> {
        Waits(Kind::Time(Deadline::after(time).start()))
    }

    fn is_ready(&mut self) -> bool {
        match &mut self.0 {
            Kind::Handle(handle, direction) => handle.is_ready(*direction),
            Kind::Time(_) => false,
        }
    }

    /// With system calls.
    fn look(&mut self) -> bool {
        match &mut self.0 {
            Kind::Handle(handle, direction) => handle.look(*direction),
            Kind::Time(timer) => timer.has_passed(),
        }
    }

    fn bell(&self) -> Option<&Doorbell<Real>> {
        match &self.0 {
            Kind::Handle(handle, direction) => Some(handle.bell(*direction)),
            Kind::Time(_) => None,
        }
    }

    /// Nanoseconds until it wants to be looked at.
    fn left(&self) -> u64 {
        match &self.0 {
            Kind::Handle(handle, _) if handle.others_can_die() => SLICE_NANOS,
            Kind::Handle(..) => u64::MAX,
            Kind::Time(timer) => timer.left(),
        }
    }
}

/// Why nothing was selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// Nothing was ready in time.
    #[error("none of {things} things was ready within {waited:?}")]
    Timeout {
        /// How many were waited for.
        things: usize,
        /// How long.
        waited: Duration,
    },
    /// The kernel can wait for so many words only.
    #[error("one wait can be for {most} things, and there are {things}")]
    TooMany {
        /// How many there were.
        things: usize,
        /// The most.
        most: usize,
    },
    /// The thread that wakes futures could not be started.
    #[error("the thread that wakes futures could not be started: error {code} of the system")]
    NoWatcher {
        /// errno.
        code: i32,
    },
    /// Nothing to wait for.
    #[error("a wait for nothing would never end")]
    Nothing,
}

/// A thread's way of waiting for several things. Fair: who was ready last is asked last, so that a handle which is
/// always ready does not hide the others.
///
/// ```
/// use std::time::Duration;
/// use sapwood_shm::channel::{Channel, channel};
/// use sapwood_shm::select::{Select, SelectError, Waits};
///
/// let (mut near, mut far) = (channel::<String>(4)?, Channel::<u64>::create(4, 2)?);
/// // Others that could send; else the wait would say that there are none.
/// let (mut sender, _other) = (near.try_clone()?, far.try_clone()?);
/// let mut select = Select::new();
/// let nothing = select.wait_timeout(&mut [near.receiving(), far.receiving()], Duration::from_millis(1));
/// assert!(matches!(nothing, Err(SelectError::Timeout { things: 2, .. })));
///
/// let there = std::thread::spawn(move || sender.send("hello".to_owned()).map(|()| sender));
/// let pause = Waits::after(Duration::from_secs(60));
/// assert_eq!(select.wait(&mut [far.receiving(), near.receiving(), pause])?, 1);
/// assert_eq!(near.try_recv()?, "hello");
/// # there.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Select {
    waiter: Option<Waiter>,
    policy: WaitPolicy,
    /// Where to begin to look.
    turn: usize,
}

/// How long [`Select::wait`] waits.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(300);

impl Select {
    /// One that has not waited yet.
    pub fn new() -> Select {
        Select::default()
    }

    /// How it waits.
    pub fn waiting(self, policy: WaitPolicy) -> Select {
        Select { waiter: None, policy, ..self }
    }

    /// Which of `on` is ready now, if one is.
    pub fn poll(&mut self, on: &mut [Waits<'_>]) -> Option<usize> {
        self.find(on, |waits| waits.look())
    }

    /// Waits until one of `on` is ready, and says which: its index.
    ///
    /// # Errors
    /// [`SelectError`]; [`Timeout`](SelectError::Timeout) after 300 s.
    pub fn wait(&mut self, on: &mut [Waits<'_>]) -> Result<usize, SelectError> {
        self.wait_timeout(on, DEFAULT_DEADLINE)
    }

    /// The same, for so long at most.
    ///
    /// # Errors
    /// [`SelectError`].
    pub fn wait_timeout(&mut self, on: &mut [Waits<'_>], limit: Duration) -> Result<usize, SelectError> {
        let things = on.len();
        match things {
            0 => return Err(SelectError::Nothing),
            n if n > WAIT_MOST => return Err(SelectError::TooMany { things, most: WAIT_MOST }),
            _ => {}
        }
        if let Some(found) = self.find(on, |waits| waits.is_ready()) {
            return Ok(found);
        }
        let timer = Deadline::after(limit).start();
        let timed_out = |timer: &Timer| SelectError::Timeout { things, waited: timer.waited() };
        let mut waiter = self.waiter.take().unwrap_or_else(|| waiter(self.policy));
        let found = self.find_waiting(on, &timer, &mut waiter);
        self.waiter = Some(waiter);
        found.ok_or_else(|| timed_out(&timer))
    }

    /// `None` at the deadline.
    fn find_waiting(&mut self, on: &mut [Waits<'_>], timer: &Timer, waiter: &mut Waiter) -> Option<usize> {
        let (found, on) = (Cell::new(None), RefCell::new(on));
        let me = RefCell::new(self);
        let mut ready = || {
            found.set(me.borrow_mut().find(&mut on.borrow_mut(), |waits| waits.is_ready()));
            found.get().is_some()
        };
        // Times, and whether others live, are looked at before the first sleep; by who never sleeps, now and then.
        let hurried = waiter.hurry::<Real, ()>(&mut ready, || true, &mut |stage| match stage {
            Stage::Patient => Ok(u64::MAX),
            Stage::Asleep => {
                found.set(me.borrow_mut().find(&mut on.borrow_mut(), |waits| waits.look()));
                if found.get().is_some() || timer.has_passed() { Err(()) } else { Ok(u64::MAX) }
            }
        });
        if hurried != Ok(false) {
            return found.get();
        }
        let (me, on) = (me.into_inner(), on.into_inner());
        // Ends when something is ready, or at the deadline.
        loop {
            let mut announced = [None; WAIT_MOST];
            for (announced, waits) in announced.iter_mut().zip(&*on) {
                *announced = waits.bell().map(Doorbell::announce);
            }
            if let Some(found) = me.find(on, |waits| waits.look()) {
                return Some(found);
            }
            let left = on.iter().map(Waits::left).fold(timer.left(), u64::min);
            if timer.has_passed() {
                return None;
            }
            waiter.count_sleep();
            let bells = on.iter().zip(announced).filter_map(|(waits, announced)| waits.bell().zip(announced));
            Doorbell::sleep_any(bells, left);
        }
    }

    /// The first that is, beginning with the one after the last that was.
    fn find<'a>(
        &mut self,
        on: &mut [Waits<'a>],
        mut is: impl FnMut(&mut Waits<'a>) -> bool,
    ) -> Option<usize> {
        let n = on.len();
        let found = (0..n).map(|k| (self.turn + k) % n).find(|i| is(&mut on[*i]))?;
        self.turn = found + 1;
        Some(found)
    }
}
