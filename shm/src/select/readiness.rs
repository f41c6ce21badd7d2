//! A descriptor that becomes readable when something is ready: for loops around poll(2), epoll, io_uring, mio.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::sys::eventfd::{EfdFlags, EventFd};
use sapwood_core::doorbell::Doorbell;
use sapwood_core::mem::{Mem, Real};

use super::watcher::{self, Entry, Wake};
use super::{Kind, Waits};
use crate::seat::Maker;

/// An eventfd that does not block.
pub(super) struct Flag(EventFd);

impl Flag {
    /// Makes the descriptor readable. It counts: that it is full already is as good.
    pub(super) fn raise(&self) {
        let _ = self.0.write(1);
    }
}

/// A descriptor for a wait that happens elsewhere.
///
/// [`arm`](Self::arm) says for what; from then on the descriptor ([`AsFd`]) is readable as soon as one of these things
/// is ready, and stays so until it is armed again. It may become readable for nothing: always try, then arm, then poll.
///
/// Between processes it also becomes readable 20 times a second, so that whoever tries learns of a death.
///
/// ```
/// use std::os::fd::AsFd;
/// use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
/// use sapwood_shm::channel::channel;
/// use sapwood_shm::select::Readiness;
///
/// let mut messages = channel::<u32>(4)?;
/// let mut sender = messages.try_clone()?;
/// let there = std::thread::spawn(move || sender.send(7).map(|()| sender));
/// let mut readiness = Readiness::new()?;
/// let message = loop {
///     // First try, then arm, then poll.
///     if let Ok(message) = messages.try_recv() {
///         break message;
///     }
///     if !readiness.arm(&mut [messages.receiving()])? {
///         poll(&mut [PollFd::new(readiness.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?;
///     }
/// };
/// assert_eq!(message, 7);
/// # there.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Readiness {
    flag: Arc<Flag>,
    ticket: u64,
    maker: Maker,
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness").field("fd", &self.flag.0.as_fd()).finish()
    }
}

impl Readiness {
    /// A descriptor that is not armed: never readable.
    ///
    /// # Errors
    /// No descriptor is left (`ulimit -n`).
    pub fn new() -> io::Result<Readiness> {
        let flag = EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Readiness { flag: Arc::new(Flag(flag)), ticket: watcher::ticket(), maker: Maker::this() })
    }

    /// Says what to wait for, instead of what was said before. Returns whether one of them is ready now: then the
    /// descriptor is readable already. Times are waited for as anything else.
    ///
    /// # Errors
    /// The watcher's thread could not be started; this process is a forked child of the one that has the descriptor,
    /// whose raises it would take away.
    pub fn arm(&mut self, on: &mut [Waits<'_>]) -> io::Result<bool> {
        if !self.maker.is_this() {
            return Err(io::Error::other("a forked child does not hold its parent's descriptor"));
        }
        watcher::forget(self.ticket);
        // A new number, so that a raise of the old wait that is on its way is a raise for nothing.
        self.ticket = watcher::ticket();
        // EAGAIN: it was not raised.
        let _ = self.flag.0.read();
        let ready = register(on, self.ticket, &Wake::Flag(self.flag.clone()))?;
        if ready {
            self.flag.raise();
        }
        Ok(ready)
    }
}

impl AsFd for Readiness {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.flag.0.as_fd()
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        watcher::forget(self.ticket);
    }
}

/// Announces a wait at all bells and looks once more: if nothing is ready, the watcher wakes.
pub(super) fn register(on: &mut [Waits<'_>], ticket: u64, wake: &Wake) -> io::Result<bool> {
    let mut entries = Vec::with_capacity(on.len());
    // A time has no bell: it goes with one of the others, or with a bell that nobody rings.
    let until = on.iter().map(Waits::left).fold(u64::MAX, u64::min);
    let until = Real::now().saturating_add(until);
    for waits in &*on {
        let (bells, direction) = match &waits.0 {
            Kind::Handle(handle, direction) => (handle.bells(), *direction),
            Kind::Time(_) => {
                (Arc::new(Silent(Doorbell::new(0))) as Arc<dyn super::Bells>, super::Direction::Receiving)
            }
        };
        let announced = bells.bell(direction).announce();
        entries.push(Entry { bells, direction, announced, until, ticket, wake: wake.clone() });
    }
    if on.iter_mut().any(Waits::look) {
        return Ok(true);
    }
    for entry in entries {
        if let Err(e) = watcher::add(entry) {
            watcher::forget(ticket);
            return Err(e);
        }
    }
    Ok(false)
}

/// A bell that nobody rings.
struct Silent(Doorbell<Real>);

impl super::Bells for Silent {
    fn bell(&self, _: super::Direction) -> &Doorbell<Real> {
        &self.0
    }
}
