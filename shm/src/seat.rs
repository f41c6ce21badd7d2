//! Seats: who takes part in a segment, proven by a lock that the kernel drops at death.
//!
//! A holder's name is {seat, epoch}; every word that a process may leave behind in an object of the segment carries its
//! owner's. A group of ranks takes each seat once, and a dead seat stays dead ([`Segment::take_seat`]). Where objects
//! are recovered, a dead holder's seat is taken again under the next epoch ([`Segment::take_seat_again`]): the newcomer
//! first recovers what the holders before it have left.
//!
//! | step of taking seat s, last held under epoch e | what the others see                | dead after it                     |
//! |------------------------------------------------|------------------------------------|-----------------------------------|
//! | prove that holder (s, e) is dead; `buried` = e | (s, e) dead, without a system call | nothing else                      |
//! | lock byte (s, e + 1) of an own description     | being taken: alive                 | free again: as before             |
//! | look again: the epoch is e, not retired        | the same                           | the same                          |
//! | pid = 0                                        | the same                           | the same                          |
//! | start time, namespaces                         | the same                           | the same                          |
//! | pid                                            | the same                           | the same                          |
//! | epoch = e + 1 (Release), fence                 | alive as (s, e + 1); (s, e) and all before it dead, by this word | dead: e and e + 1 are to be recovered |
//! | recover what (s, d) left, d = `recovered` + 1  | words of (s, d) go, some become (s, e + 1)'s | the next one recovers d to e + 1 |
//! | `recovered` = d (Release); on until d = e      | the same                           | the next one recovers d + 1 to e + 1 |
//!
//! The epoch is raised *before* the recovery because the newcomer needs a name for it: it takes words of the dead over
//! under its own, and if it dies at that, the next one must be able to tell its words from those of the first. So all
//! epochs above `recovered` may have words in objects, and none up to it. At most [`OWNER_EPOCH`] of them may add up,
//! then their names would repeat: [`Error::SeatSpoilt`].
//!
//! Byte (s, e + 1) has one holder, and only that one raises the epoch from e, so no two newcomers take one seat. A
//! child that has kept the byte of its dead parent, (s, e), blocks nobody, if the parent's process number proves its
//! death; a child of a newcomer that died *before* it raised the epoch does, as long as it lives.
//!
//! Giving a seat up unlocks the byte, which is death as far as the name is concerned. It is unlocked rather than only
//! closed: a child that is just being started may have a copy of the description.
//!
//! # Pairings
//! - The epoch (Release) with the Acquire loads in `life` and `owner_alive`: who sees the epoch sees the words about
//!   its process. The fence behind it with the Acquire fence in `owner_alive`: who sees a word of the newcomer, however
//!   relaxed that was written, sees its epoch too.
//! - The fence behind the lock with the one in `retire_if_stale`: either the newcomer sees that the segment is retired,
//!   or the retirer sees its byte or its epoch.
//! - `recovered` (Release) with the Acquire load of the next newcomer, which thus sees what was recovered as it is now.
//!
//! # Safety
//! A forked child would keep the locks of its parent, so a handler closes them in the child. It runs between fork and
//! the child's first instruction, where only async-signal-safe calls are allowed: it closes descriptors that a fixed
//! table of atomics names, and raises a counter. The file of a seat is closed by its drop or by that handler, never by
//! both: the counter tells them apart.
#![allow(unsafe_code)]
#![allow(clippy::disallowed_types)] // words private to this process, needed in statics

use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, AtomicU32};

use sapwood_core::board::Life;
use sapwood_core::mem::{Atom, Mem, Ordering, Real};

use crate::error::Error;
use crate::layout::{OWNER_EPOCH, OWNERS, SeatLine, seat_lock};
use crate::lock::{release, take};
use crate::segment::{Segment, reopen};

/// Seats that one process can hold at a time.
const MOST: usize = 1024;
/// How often a newcomer looks anew because another one came and went meanwhile.
const LOOKS: usize = 64;

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

    /// How many forks lie between this process and the one that began.
    pub(crate) fn forks(self) -> u32 {
        self.0
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
    /// A description of its own, which has the lock. In a forked child its number may be another file's.
    file: ManuallyDrop<File>,
    place: usize,
    forks: u32,
    pid: u32,
    number: usize,
    epoch: u32,
}

/// The epoch after another. 0 is "never taken", so the count leaves it out when it wraps.
pub(crate) fn after(epoch: u32) -> u32 {
    epoch.wrapping_add(1).max(1)
}

/// Whether a dead seat may be taken, and what else must hold once the lock is ours.
struct Terms<'a> {
    once: bool,
    current: &'a dyn Fn() -> bool,
}

impl Segment {
    /// Takes a seat that nobody has sat in before.
    ///
    /// # Errors
    /// [`Error::SeatTaken`] by a living process (this one too), [`Error::SeatDead`] if whoever sat there is dead,
    /// [`Error::NoSuchSeat`].
    pub fn take_seat(&self, seat: usize) -> Result<Seat, Error> {
        self.take_seat_if(seat, &|| true)
    }

    /// The same, if `current` still holds once nobody else can take the seat.
    pub(crate) fn take_seat_if(&self, seat: usize, current: &dyn Fn() -> bool) -> Result<Seat, Error> {
        if seat >= self.spec().seats {
            return Err(Error::NoSuchSeat { seat, seats: self.spec().seats });
        }
        let mut standing = Seat::standing(self)?;
        self.sit(&mut standing, seat, &Terms { once: true, current })?;
        Ok(standing)
    }

    /// Takes a seat whose holder is dead or has given it up, or that nobody has taken yet.
    ///
    /// Before the seat is the caller's, `recover` is called for each epoch of it that has not been recovered (mostly
    /// one, none for a fresh seat), with the segment, the caller's seat and the dead epoch. It must go through all
    /// objects of the segment and deal with every word that names the owner {seat, dead epoch}, acting under the name
    /// of the caller's seat. It has to be idempotent: who dies at it is followed by somebody who does it again. If it
    /// fails the seat is given up, and the next one tries.
    ///
    /// Don't use it in a group of ranks, where a dead seat has to stay dead.
    ///
    /// ```
    /// use sapwood_shm::{Segment, Spec};
    ///
    /// let spec = Spec { kind: 77, fingerprint: 1, seats: 2, body: 4096, reserve: 0 };
    /// let segment = Segment::create(&spec)?;
    /// let first = segment.take_seat_again(0, |_, _, _| unreachable!("nobody has sat there"))?;
    /// let name = (first.number(), first.epoch());
    /// assert!(segment.owner_alive(name.0, name.1));
    /// drop(first);
    /// assert!(!segment.owner_alive(name.0, name.1));
    /// let second = segment.take_seat_again(0, |_, me, dead| {
    ///     assert_eq!((me.number(), dead), name); // every word of (0, dead) would be dealt with here
    ///     Ok(())
    /// })?;
    /// assert_ne!(second.epoch(), name.1);
    /// # Ok::<(), sapwood_shm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::SeatTaken`] by a living process (this one too), [`Error::NoSuchSeat`] (the first 1022 have names),
    /// [`Error::SeatSpoilt`], [`Error::Retired`], and what `recover` returns.
    pub fn take_seat_again(
        &self,
        seat: usize,
        recover: impl FnMut(&Segment, &Seat, u32) -> Result<(), Error>,
    ) -> Result<Seat, Error> {
        self.take_again_if(Some(seat), &|| true, recover)
    }

    /// Takes the first seat that can be had; else as [`take_seat_again`](Self::take_seat_again).
    ///
    /// # Errors
    /// [`Error::NoSeat`], [`Error::Retired`], what `recover` returns, and [`Error::SeatSpoilt`] if no other seat is
    /// left.
    pub fn take_any_seat(
        &self,
        recover: impl FnMut(&Segment, &Seat, u32) -> Result<(), Error>,
    ) -> Result<Seat, Error> {
        self.take_again_if(None, &|| true, recover)
    }

    pub(crate) fn take_again_if(
        &self,
        seat: Option<usize>,
        current: &dyn Fn() -> bool,
        mut recover: impl FnMut(&Segment, &Seat, u32) -> Result<(), Error>,
    ) -> Result<Seat, Error> {
        let (seats, terms) = (self.spec().seats.min(OWNERS), Terms { once: false, current });
        if let Some(seat) = seat.filter(|s| *s >= seats) {
            return Err(Error::NoSuchSeat { seat, seats });
        }
        let mut standing = Seat::standing(self)?;
        let mut said = Error::NoSeat { seats };
        for number in seat.map_or(0..seats, |s| s..s + 1) {
            match self.sit(&mut standing, number, &terms) {
                Ok(()) => {
                    self.recover_seat(&standing, &mut recover)?;
                    return Ok(standing);
                }
                Err(Error::SeatTaken { .. }) if seat.is_none() => {}
                Err(spoilt @ Error::SeatSpoilt { .. }) if seat.is_none() => said = spoilt,
                Err(e) => return Err(e),
            }
        }
        Err(said)
    }

    /// The steps of the table up to the fence.
    fn sit(&self, standing: &mut Seat, seat: usize, terms: &Terms<'_>) -> Result<(), Error> {
        let line = self.seat_line(seat);
        for _ in 0..LOOKS {
            // Pairs with the store below: the words about its process are this holder's, or a later one's.
            let epoch = line.epoch.load(Ordering::Acquire);
            let pid = line.pid.load(Ordering::Acquire);
            if epoch != 0 && self.holder_life(seat, epoch) != Life::Dead {
                return Err(Error::SeatTaken { seat, pid });
            }
            if epoch != 0 && terms.once {
                return Err(Error::SeatDead { seat, pid });
            }
            let next = after(epoch);
            let locked = take(&*standing.file, seat_lock(seat, next))?;
            if locked {
                // From here on dropping it unlocks the byte.
                (standing.number, standing.epoch) = (seat, next);
            }
            // While the byte is ours nobody else raises the epoch from this one.
            match (locked, line.epoch.load(Ordering::Acquire) == epoch) {
                (true, true) => return self.sit_down(line, standing, terms),
                (false, true) => return Err(Error::SeatTaken { seat, pid: 0 }),
                (_, false) => standing.stand_up(), // somebody came, and may be gone already
            }
        }
        Err(Error::SeatTaken { seat, pid: line.pid.load(Ordering::Acquire) })
    }

    /// The steps from the lock to the fence.
    fn sit_down(&self, line: &SeatLine, standing: &mut Seat, terms: &Terms<'_>) -> Result<(), Error> {
        // With the fence in `retire_if_stale`.
        Real::fence(Ordering::SeqCst);
        if self.header().retired.load(Ordering::Acquire) != 0 || !(terms.current)() {
            standing.stand_up();
            return Err(Error::Retired);
        }
        let deaths = standing.epoch.wrapping_sub(line.recovered.load(Ordering::Acquire));
        if !terms.once && deaths > OWNER_EPOCH {
            standing.stand_up();
            return Err(Error::SeatSpoilt { seat: standing.number, deaths });
        }
        line.pid.store(0, Ordering::Release);
        line.start.store(crate::liveness::own_start().unwrap_or(0), Ordering::Release);
        line.time.store(crate::liveness::time_namespace(), Ordering::Release);
        line.namespace.store(crate::liveness::pid_namespace(), Ordering::Release);
        line.pid.store(standing.pid, Ordering::Release);
        // Pairs with the Acquire loads in `life` and `owner_alive`.
        line.epoch.store(standing.epoch, Ordering::Release);
        // With the Acquire fence in `owner_alive`: whatever this holder will write comes after its epoch.
        Real::fence(Ordering::SeqCst);
        Ok(())
    }

    /// Recovers all epochs of the seat that have not been, up to the one before ours.
    fn recover_seat(
        &self,
        seat: &Seat,
        recover: &mut dyn FnMut(&Segment, &Seat, u32) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let recovered = &self.seat_line(seat.number).recovered;
        // Pairs with the store below, of whoever recovered the seat last.
        let mut done = recovered.load(Ordering::Acquire);
        for _ in 0..OWNER_EPOCH {
            done = after(done);
            if done == seat.epoch {
                break;
            }
            recover(self, seat, done)?;
            recovered.store(done, Ordering::Release);
        }
        Ok(())
    }

    /// The epochs of a seat, up to `last`, whose holders may have left words in objects. All are dead if the holder
    /// under `last` is.
    pub(crate) fn unrecovered(&self, seat: usize, last: u32) -> impl Iterator<Item = u32> + use<> {
        // Pairs with the store in `recover_seat`. It may have passed `last` by now, or say anything: then none is left.
        let done = self.seat_line(seat).recovered.load(Ordering::Acquire);
        let some = (1..=OWNER_EPOCH).contains(&last.wrapping_sub(done));
        let first = some.then(|| after(done));
        std::iter::successors(first, move |e| (*e != last).then(|| after(*e))).take(OWNER_EPOCH as usize)
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
    /// A description of the segment's file that has no lock yet. In the table before it has: a child that is forked
    /// meanwhile gives its copy up.
    fn standing(segment: &Segment) -> Result<Seat, Error> {
        watch_forks();
        let (forks, file) = (FORKS.load(Ordering::Relaxed), reopen(segment.file())?);
        let name = file.as_raw_fd() + 1;
        let free = |l: &AtomicI32| l.compare_exchange(0, name, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        let place = LOCKS.iter().position(free);
        let place = place.ok_or_else(|| {
            let full = std::io::Error::other(format!("this process holds {MOST} seats already"));
            Error::system("taking a seat", full)
        })?;
        let file = ManuallyDrop::new(file);
        Ok(Seat { file, place, forks, pid: std::process::id(), number: 0, epoch: 0 })
    }

    /// Gives the lock up, if it has one.
    fn stand_up(&mut self) {
        // A child that was cloned past the handler shares its parent's lock, which is not its own to give up.
        if self.epoch != 0 && std::process::id() == self.pid {
            release(&*self.file, seat_lock(self.number, self.epoch));
        }
        self.epoch = 0;
    }

    /// Which seat.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Under which epoch it is held: the seat's number and this are its holder's name.
    pub fn epoch(&self) -> u32 {
        self.epoch
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
            self.stand_up();
            LOCKS[self.place].store(0, Ordering::Relaxed);
            // SAFETY: open since `standing`, no forked child's handler has closed it (we are none), and nobody uses or
            // drops it after this.
            unsafe { ManuallyDrop::drop(&mut self.file) };
        }
    }
}
