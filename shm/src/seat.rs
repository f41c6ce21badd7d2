//! Seats: who takes part in a segment, proven by a lock that the kernel drops at death.
//!
//! | step of taking seat s          | what the others see                    | dead after it                              |
//! |--------------------------------|----------------------------------------|--------------------------------------------|
//! | lock byte s of an own description | held, pid 0 or the last holder's: alive | free again: as before                     |
//! | pid = 0                        | being taken: alive                     | epoch as before: the last holder is dead    |
//! | start time, namespace          | the same                               | the same                                    |
//! | pid                            | alive                                  | the same                                    |
//! | epoch + 1 (Release)            | alive                                  | dead: lock free, epoch not 0                |
//!
//! # Safety
//! A forked child would keep the locks of its parent, so a handler closes them in the child. It runs between fork and
//! the child's first instruction, where only async-signal-safe calls are allowed: it closes descriptors that a fixed
//! table of atomics names, and raises a counter.
#![allow(unsafe_code)]
#![allow(clippy::disallowed_types)] // words private to this process, needed in statics

use std::fs::File;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::Once;
use std::sync::atomic::{AtomicI32, AtomicU32};

use sapwood_core::mem::{Atom, Mem, Ordering, Real};

use crate::error::Error;
use crate::layout::SEAT_LOCKS;
use crate::lock::take;
use crate::segment::{Segment, reopen};

/// Seats that one process can hold at a time.
const MOST: usize = 1024;

/// Descriptors of this process's seats, plus one; 0 is a free place.
static LOCKS: [AtomicI32; MOST] = [const { AtomicI32::new(0) }; MOST];
/// How many forks lie between the first process and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);
static HANDLER: Once = Once::new();

/// Runs in a forked child: it holds no seat.
extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    for lock in &LOCKS {
        let fd = lock.swap(0, Ordering::Relaxed) - 1;
        if fd >= 0 {
            // SAFETY: the table named a descriptor of the parent's seat; the child's copy is of no use to anyone, and
            // the seat it belongs to knows by FORKS that it must not close it again.
            unsafe { libc::close(fd) };
        }
    }
}

fn watch_forks() {
    HANDLER.call_once(|| {
        // SAFETY: the handler is async-signal-safe (see the top). Failing means no memory for its registration.
        let failed = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        assert_eq!(failed, 0, "pthread_atfork: no memory");
    });
}

/// The process that made something, as against its forked children.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Maker(u32);

impl Maker {
    /// This process.
    pub(crate) fn this() -> Maker {
        watch_forks();
        Maker(FORKS.load(Ordering::Relaxed))
    }

    /// Whether this process is the one.
    #[inline(always)]
    pub(crate) fn is_this(self) -> bool {
        self.0 == FORKS.load(Ordering::Relaxed)
    }
}

/// A seat in a segment, held until this is dropped or the process ends.
#[derive(Debug)]
pub struct Seat {
    fd: i32,
    place: usize,
    forks: u32,
    number: usize,
}

impl Segment {
    /// Takes a seat.
    ///
    /// # Errors
    /// [`Error::SeatTaken`] by a living process (this one too), [`Error::SeatDead`] if whoever sat there is dead,
    /// [`Error::NoSuchSeat`].
    pub fn take_seat(&self, seat: usize) -> Result<Seat, Error> {
        if seat >= self.spec().seats {
            return Err(Error::NoSuchSeat { seat, seats: self.spec().seats });
        }
        watch_forks();
        let (file, line) = (reopen(self.file())?, self.seat_line(seat));
        if !take(&file, SEAT_LOCKS + seat as i64)? {
            return Err(Error::SeatTaken { seat, pid: line.pid.load(Ordering::Acquire) });
        }
        let epoch = line.epoch.load(Ordering::Acquire);
        if epoch != 0 {
            return Err(Error::SeatDead { seat, pid: line.pid.load(Ordering::Acquire) });
        }
        let me = std::process::id();
        line.pid.store(0, Ordering::Release);
        line.start.store(crate::liveness::start_time(me).unwrap_or(0), Ordering::Release);
        line.namespace.store(crate::liveness::pid_namespace(), Ordering::Release);
        line.pid.store(me, Ordering::Release);
        // Pairs with the Acquire load in `life`.
        line.epoch.store(epoch + 1, Ordering::Release);
        // With the fence of whoever retires the segment: one of the two sees the other.
        Real::fence(Ordering::SeqCst);
        Seat::register(file, seat)
    }

    /// Says of a seat that nobody has taken that nobody ever will, because the process that was to take it has ended.
    /// Only whoever started (and reaped) that process can know.
    pub(crate) fn never(&self, seat: usize) {
        // Pairs with the Acquire load in `life`: the process's own stores come before its end.
        self.seat_line(seat).never.store(1, Ordering::Release);
    }

    /// Process number of whoever took the seat, as it sees itself; 0 if nobody has.
    pub fn seat_pid(&self, seat: usize) -> u32 {
        self.seat_line(seat).pid.load(Ordering::Acquire)
    }
}

impl Seat {
    fn register(file: File, number: usize) -> Result<Seat, Error> {
        let name = file.as_raw_fd() + 1;
        let free = |l: &AtomicI32| l.compare_exchange(0, name, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        let place = LOCKS.iter().position(free);
        let place = place.ok_or_else(|| {
            let full = std::io::Error::other(format!("this process holds {MOST} seats already"));
            Error::system("taking a seat", full)
        })?;
        Ok(Seat { fd: file.into_raw_fd(), place, forks: FORKS.load(Ordering::Relaxed), number })
    }

    /// Which seat.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Whether this process took the seat, and is not a forked child of the one that did.
    #[inline(always)]
    pub fn is_mine(&self) -> bool {
        self.forks == FORKS.load(Ordering::Relaxed)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.is_mine() {
            LOCKS[self.place].store(0, Ordering::Relaxed);
            // SAFETY: the descriptor is ours, open since `register`, and nobody closes it after this.
            unsafe { libc::close(self.fd) };
        }
    }
}
