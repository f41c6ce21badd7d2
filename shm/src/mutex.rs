//! A mutex between threads and between processes, whose owner may die. See [`sapwood_core::lock`] for the protocol.
//!
//! # Safety
//! A guard lends what the mutex guards as `&T` and `&mut T`. It has the lock, and one handle at a time has it: names
//! are a seat and its epoch, a seat has one holder, and a newcomer recovers every older name of its seat before it
//! does anything else; in a block, a seat is given out again only after its handle has given the lock back. The lock
//! is taken from an owner only with proof of its death. What lies there is [`Shareable`]: any bytes are a value, so
//! what a death has left half written is one too. A bad peer may write to it while it is lent, as to everything that
//! it has mapped: then values are wrong, nothing else. A forked child is lent nothing.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::convert::Infallible;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sapwood_core::doorbell::Doorbell;
use sapwood_core::link::Deadline;
use sapwood_core::lock::{Cause, Culprit, Desk, Held, Lock, Region, State};
use sapwood_core::mem::{Atom, Mem, Ordering, Real};
use sapwood_core::owner::Owner;
use sapwood_core::shareable::Shareable;

use crate::error::Error;
use crate::layout::{OWNERS, kind};
use crate::memory::Memory;
use crate::ring::member::{self, Member, Recover, Watch};
use crate::ring::{Figures, Peer};
use crate::segment::{Segment, Spec};
use crate::wait::{Bell, Patience, Stop};

/// How long [`Mutex::lock`] waits, unless its handle was told otherwise.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(300);
/// The most handles of a mutex between processes.
pub const PARTICIPANTS: usize = OWNERS;
/// The most handles of a mutex between threads.
pub const THREADS: usize = (4096 - DESKS) / size_of::<Desk<Real>>();

/// Where the desks begin: behind the word and the bell, 128 bytes each.
const DESKS: usize = 256;
/// Bytes that the value is kept from the rest: two cache lines, because they are fetched in pairs.
const APART: usize = 128;

type Word = <Real as Mem>::U64;

/// Why a lock was not had, or why it should not be used without thought. `G` is the guard.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LockError<G> {
    /// The lock was had, but who had it before died with it, or gave its handle up: what it guards is as it was then.
    /// Everybody is told so until somebody says that it is whole again, by [`Guard::mark_consistent`].
    #[error("{peer} ended while it held the mutex: what it guards may be half changed")]
    OwnerDied {
        /// Who.
        peer: Peer,
        /// The lock is held all the same.
        guard: G,
    },
    /// The same, but it panicked.
    #[error("{peer} panicked while it held the mutex: what it guards may be half changed")]
    OwnerPanicked {
        /// Who.
        peer: Peer,
        /// The lock is held all the same.
        guard: G,
    },
    /// The time was up.
    #[error("the mutex was not free within {waited:?}: {} holds it", held_by(*.holder))]
    Timeout {
        /// Who had it last; `None`: nobody for long.
        holder: Option<Peer>,
        /// How long this call has waited.
        waited: Duration,
    },
    /// Somebody has it, and the call does not wait.
    #[error("the mutex is not free: {} holds it", held_by(*.holder))]
    Busy {
        /// Who; `None`: others were faster, again and again.
        holder: Option<Peer>,
    },
    /// This thread has it already, by this handle or another one.
    #[error("this thread holds the mutex already, so it would wait for itself")]
    WouldDeadlock,
    /// This process is a forked child of the one that has this handle.
    #[error("a forked child does not hold its parent's handle of a mutex")]
    Forked,
}

fn held_by(holder: Option<Peer>) -> String {
    holder.map_or_else(|| "one after the other".to_owned(), |peer| peer.to_string())
}

impl<G> LockError<G> {
    /// The same with another guard.
    pub fn map<U>(self, f: impl FnOnce(G) -> U) -> LockError<U> {
        match self {
            LockError::OwnerDied { peer, guard } => LockError::OwnerDied { peer, guard: f(guard) },
            LockError::OwnerPanicked { peer, guard } => LockError::OwnerPanicked { peer, guard: f(guard) },
            LockError::Timeout { holder, waited } => LockError::Timeout { holder, waited },
            LockError::Busy { holder } => LockError::Busy { holder },
            LockError::WouldDeadlock => LockError::WouldDeadlock,
            LockError::Forked => LockError::Forked,
        }
    }

    /// The news without the guard, which gives the lock back: an error that can be kept and sent.
    pub fn without_guard(self) -> LockError<()> {
        self.map(drop)
    }

    /// The guard, if the lock was had: for whoever can work with what a dead owner has left.
    ///
    /// # Errors
    /// It was not.
    pub fn into_guard(self) -> Result<G, LockError<()>> {
        match self {
            LockError::OwnerDied { guard, .. } | LockError::OwnerPanicked { guard, .. } => Ok(guard),
            other => Err(other.without_guard()),
        }
    }
}

impl<'a, T: Shareable> From<LockError<Guard<'a, T>>> for LockError<()> {
    fn from(error: LockError<Guard<'a, T>>) -> Self {
        error.without_guard()
    }
}

/// Where everything of a mutex lies.
struct Place<T> {
    word: NonNull<Word>,
    bell: NonNull<Bell>,
    desks: NonNull<Desk<Real>>,
    seats: usize,
    value: NonNull<T>,
    _memory: Memory,
}

// SAFETY: addresses and what keeps them mapped; words are atomics, and only a guard uses the value.
unsafe impl<T: Shareable> Send for Place<T> {}
// SAFETY: as above.
unsafe impl<T: Shareable> Sync for Place<T> {}

impl<T: Shareable> Place<T> {
    fn value_at(seats: usize) -> usize {
        const { assert!(align_of::<T>() <= APART, "values on multiples of at most 128 bytes") };
        (DESKS + seats * size_of::<Desk<Real>>()).next_multiple_of(APART)
    }

    fn bytes(seats: usize) -> usize {
        Self::value_at(seats) + size_of::<T>()
    }

    fn new(memory: Memory, seats: usize) -> Self {
        Place {
            word: memory.at(0, 1),
            bell: memory.at(APART, 1),
            desks: memory.at(DESKS, seats),
            seats,
            value: memory.at(Self::value_at(seats), 1),
            _memory: memory,
        }
    }

    fn memory(&self) -> Memory {
        self._memory.clone()
    }
}

impl<T: Shareable> Region<Real> for Place<T> {
    #[inline(always)]
    fn word(&self) -> &Word {
        // SAFETY: inside the memory, which lives as long as we do; an atomic word.
        unsafe { self.word.as_ref() }
    }

    fn bell(&self) -> &Doorbell<Real> {
        // SAFETY: as above.
        unsafe { &self.bell.as_ref().bell }
    }

    #[inline(always)]
    fn desk(&self, seat: u32) -> Option<&Desk<Real>> {
        // SAFETY: one of our desks, which are atomic words inside the memory.
        ((seat as usize) < self.seats).then(|| unsafe { self.desks.add(seat as usize).as_ref() })
    }
}

/// The segment that a mutex around a `T` for `participants` handles needs: for those who make, inherit or receive it by
/// themselves.
///
/// # Errors
/// [`Error::Participants`].
pub fn spec<T: Shareable>(participants: usize) -> Result<Spec, Error> {
    if !(1..=PARTICIPANTS).contains(&participants) {
        return Err(Error::Participants { asked: participants, most: PARTICIPANTS });
    }
    let bytes = Place::<T>::bytes(participants) as u64;
    Ok(member::spec(kind::MUTEX, Figures::of::<T>(1), participants, bytes))
}

/// The address of something of this thread's own.
#[inline(always)]
fn address() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

/// A number that no other living thread has: its address, and, because another process may have the same number in its
/// own namespace and the same addresses, something random of the process.
#[cold]
fn this_thread() -> u64 {
    static PROCESS: OnceLock<u64> = OnceLock::new();
    PROCESS.get_or_init(|| RandomState::new().hash_one(0)) ^ address() as u64
}

/// One handle of a mutex around a `T`, between threads or between processes. Each thread has a handle of its own.
///
/// A lock that nobody else wants costs two atomic operations to take and give back, and no system call. One that
/// others want is waited for by spinning, yielding and sleeping, in that order; it is not fair.
///
/// **A death** with the lock hands it on: who waits proves the death (being slow, or stopped, is none), has the lock,
/// and is told by [`LockError::OwnerDied`], an error that holds the guard. So is everybody after, until one of them
/// has made what the mutex guards whole and says so.
///
/// | who                                      | what the others find                                              |
/// |------------------------------------------|-------------------------------------------------------------------|
/// | dies with the lock, or drops its handle  | [`OwnerDied`](LockError::OwnerDied) with the guard: who is next   |
/// | panics while it has a guard              | [`OwnerPanicked`](LockError::OwnerPanicked), the same             |
/// | is stopped with the lock                 | [`Timeout`](LockError::Timeout) that names it                     |
/// | dies while it waits                      | nothing                                                           |
/// | forks while it has a guard               | nothing: the child has no part in it                              |
///
/// The lock is taken once a thread: a second time is [`LockError::WouldDeadlock`], or does not compile:
///
/// ```compile_fail,E0499
/// let mut mutex = sapwood_shm::mutex::Mutex::new(0_u64).unwrap();
/// let one = mutex.lock().unwrap();
/// let two = mutex.lock().unwrap();
/// drop((one, two));
/// ```
///
/// Giving back what one does not hold can't be written: only the guard can, and it stays with its thread:
///
/// ```compile_fail,E0277
/// let mut mutex = sapwood_shm::mutex::Mutex::new(0_u64).unwrap();
/// let guard = mutex.lock().unwrap();
/// std::thread::scope(|s| s.spawn(move || drop(guard)));
/// ```
///
/// Between threads:
///
/// ```
/// use sapwood_shm::mutex::Mutex;
///
/// let mut sum = Mutex::new(0_u64)?;
/// std::thread::scope(|s| {
///     for _ in 0..3 {
///         let mut sum = sum.try_clone().expect("a handle for each thread");
///         s.spawn(move || (0..100).for_each(|_| *sum.lock().expect("nobody dies") += 1));
///     }
/// });
/// assert_eq!(*sum.lock().map_err(|e| e.without_guard())?, 300);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
/// Between processes, where one of them leaves without giving the lock back:
///
/// ```
/// use sapwood_shm::mutex::{LockError, Mutex};
///
/// // Each in a process of its own; up to 4 of them. The value of a new mutex is all zeros.
/// # let name = &format!("doc-mutex-{}", std::process::id());
/// let mut mine = Mutex::<[u64; 2]>::open(name, 4)?;
/// let mut other = Mutex::<[u64; 2]>::open(name, 4)?;
/// let mut guard = other.lock().map_err(|e| e.without_guard())?;
/// guard[0] = 1;
/// std::mem::forget(guard); // ends between the two halves
/// drop(other);
/// match mine.lock() {
///     Err(LockError::OwnerDied { peer, mut guard }) => {
///         assert_eq!((peer.pid, *guard), (std::process::id(), [1, 0]));
///         guard[1] = 1;
///         guard.mark_consistent();
///     }
///     other => panic!("{other:?}"),
/// }
/// assert_eq!(mine.lock().map(|guard| *guard).map_err(|e| e.without_guard())?, [1, 1]);
/// # mine.segment().unwrap().unlink()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Mutex<T: Shareable> {
    lock: Lock<Real, Place<T>>,
    /// The address of the thread that used this handle last.
    thread: usize,
    deadline: Duration,
    patience: Patience,
    watch: Watch,
    member: Member,
}

impl<T: Shareable> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex")
            .field("lock", &self.lock)
            .field("member", &self.member)
            .finish_non_exhaustive()
    }
}

impl<T: Shareable> Mutex<T> {
    /// A mutex around `value` for the threads of this process: up to [`THREADS`] handles.
    ///
    /// # Errors
    /// [`Error::NoSpace`].
    pub fn new(value: T) -> Result<Self, Error> {
        let place = Place::<T>::new(Memory::block("a mutex", Place::<T>::bytes(THREADS) as u64)?, THREADS);
        // SAFETY: inside the memory, on its alignment, and nobody else knows of it yet.
        unsafe { place.value.write(value) };
        Self::among_threads(place)
    }

    /// The mutex called `name`, for up to `participants` handles, which is made if there is none; its value is all
    /// zeros then.
    ///
    /// # Errors
    /// As for [`mpmc::Ring::open`](crate::ring::mpmc::Ring::open).
    pub fn open(name: &str, participants: usize) -> Result<Self, Error> {
        let spec = spec::<T>(participants)?;
        Self::enter(participants, |recover| Member::open(name, &spec, None, recover))
    }

    /// A new mutex without a name around `value`, in a [`segment`](Self::segment) to be handed on.
    ///
    /// # Errors
    /// As for [`spec`], and [`Error::NoSpace`].
    pub fn create(value: T, participants: usize) -> Result<Self, Error> {
        let mutex = Self::attach(&member::create(&spec::<T>(participants)?)?)?;
        // SAFETY: inside the memory, on its alignment, and nobody else has the segment yet.
        unsafe { mutex.lock.region().value.write(value) };
        Ok(mutex)
    }

    /// The mutex in a segment that was inherited or received.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn attach(segment: &Arc<Segment>) -> Result<Self, Error> {
        let participants = segment.spec().seats;
        let spec = spec::<T>(participants)?;
        Self::enter(participants, |recover| Member::sit(segment, &spec, None, recover))
    }

    /// Another handle of the same mutex, for another thread of this process; of a mutex between processes it takes a
    /// seat.
    ///
    /// # Errors
    /// [`Error::NoSeat`] if all are taken, and as for [`attach`](Self::attach).
    pub fn try_clone(&self) -> Result<Self, Error> {
        let other = match self.segment() {
            Some(segment) => Self::attach(segment),
            None => Self::among_threads(Place::new(self.lock.region().memory(), THREADS)),
        };
        Ok(other?.with_deadline(self.deadline))
    }

    /// [`lock`](Self::lock) waits as long as this at most.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    fn enter(seats: usize, sit: impl FnOnce(Recover<'_>) -> Result<Member, Error>) -> Result<Self, Error> {
        let member = sit(&mut |segment, me, dead| {
            // SAFETY: the segment stays mapped to the end of this call, and so long the words are used.
            let place = Place::<T>::new(unsafe { Memory::lent(segment) }, seats);
            Lock::<Real, _>::recover(&place, Owner::new(me.number() as u32, dead));
            Ok(())
        })?;
        let place = Place::new(member.memory(), seats);
        let me = member.owner();
        Ok(Self::on(place, me, member))
    }

    /// Takes a seat of a block.
    fn among_threads(place: Place<T>) -> Result<Self, Error> {
        // The one before gave the lock back before it said that its seat is free: pairs with the store in `drop`.
        let free =
            |seat: &u32| place.desk(*seat).is_some_and(|d| d.taken.cas(0, 1, Ordering::Acquire).is_ok());
        let seat = (0..THREADS as u32).find(free).ok_or(Error::NoSeat { seats: THREADS })?;
        Ok(Self::on(place, Owner::new(seat, 1), Member::thread()))
    }

    fn on(place: Place<T>, me: Owner, member: Member) -> Self {
        Mutex {
            lock: Lock::attach(place, me, std::process::id()),
            thread: 0,
            deadline: DEFAULT_DEADLINE,
            patience: Patience::default(),
            watch: Watch::default(),
            member,
        }
    }

    /// Takes the lock, and waits for it as long as the handle's deadline says.
    ///
    /// # Errors
    /// [`LockError`] without [`Busy`](LockError::Busy). The lock is held after [`OwnerDied`](LockError::OwnerDied) and
    /// [`OwnerPanicked`](LockError::OwnerPanicked), as long as the error's guard lives.
    #[inline]
    pub fn lock(&mut self) -> Result<Guard<'_, T>, LockError<Guard<'_, T>>> {
        self.lock_timeout(self.deadline)
    }

    /// The same, but waits for at most `limit`.
    ///
    /// # Errors
    /// As for [`lock`](Self::lock).
    #[inline]
    pub fn lock_timeout(&mut self, limit: Duration) -> Result<Guard<'_, T>, LockError<Guard<'_, T>>> {
        match self.begin() {
            Ok(Ok(held)) => self.guard(held),
            Ok(Err(_)) => match self.wait(limit) {
                Ok(held) => self.guard(held),
                Err(e) => Err(e.map(|never| match never {})),
            },
            Err(e) => Err(e.map(|never| match never {})),
        }
    }

    /// Takes the lock if nobody has it, or if it is known that who has it is dead: the kernel is asked now and then
    /// only.
    ///
    /// # Errors
    /// [`LockError`] without [`Timeout`](LockError::Timeout).
    #[inline]
    pub fn try_lock(&mut self) -> Result<Guard<'_, T>, LockError<Guard<'_, T>>> {
        match self.begin() {
            Ok(Ok(held)) => self.guard(held),
            Ok(Err(owner)) => match self.inherit_now(owner) {
                Some(held) => self.guard(held),
                None => Err(LockError::Busy { holder: self.peer(owner) }),
            },
            Err(e) => Err(e.map(|never| match never {})),
        }
    }

    /// The way of all calls until they would wait.
    #[inline]
    fn begin(&mut self) -> Result<Result<Held, Owner>, LockError<Infallible>> {
        if !self.member.is_mine() {
            return Err(LockError::Forked);
        }
        let thread = address();
        if self.thread != thread {
            self.thread = thread;
            self.lock.note(this_thread());
        }
        match self.lock.try_take() {
            Err(owner) if self.is_ours(owner) => Err(LockError::WouldDeadlock),
            tried => Ok(tried),
        }
    }

    /// Whether this thread has the lock, by this handle or another one.
    #[cold]
    fn is_ours(&self, owner: Owner) -> bool {
        owner == self.lock.me() || self.lock.is_held_by_thread(this_thread())
    }

    #[cold]
    fn wait(&mut self, limit: Duration) -> Result<Held, LockError<Infallible>> {
        let timer = Deadline::after(limit).start();
        let (owner, segment) = (Cell::new(Owner::NOBODY), self.member.segment());
        let lock = &self.lock;
        let dead =
            || segment.is_some_and(|s| !s.owner_alive(owner.get().seat() as usize, owner.get().epoch()));
        // Each turn but the last finds a death that another one was faster to inherit; ends at the deadline.
        loop {
            let mut held = None;
            let ready = || match lock.poll() {
                Ok(taken) => {
                    held = Some(taken);
                    true
                }
                Err(other) => {
                    owner.set(other);
                    false
                }
            };
            // Nobody is not dead: others were faster.
            let look = || if owner.get() != Owner::NOBODY && dead() { Err(()) } else { Ok(()) };
            let until = Deadline::at(timer.until());
            match self.patience.wait(lock.region().bell(), until, ready, look) {
                Ok(()) => return Ok(held.expect("it is ready when it is taken")),
                Err(Stop::Told(())) => {
                    if let Some(held) = lock.inherit(owner.get()) {
                        return Ok(held);
                    }
                }
                // The time may be up before the first look: no call ends by naming the dead.
                Err(Stop::TimedOut { .. }) => {
                    let heir = look().err().and_then(|()| lock.inherit(owner.get()));
                    let holder = self.peer(owner.get());
                    return heir.ok_or_else(|| LockError::Timeout { holder, waited: timer.waited() });
                }
            }
        }
    }

    #[cold]
    fn inherit_now(&mut self, owner: Owner) -> Option<Held> {
        let segment = self.member.segment().filter(|_| owner != Owner::NOBODY)?;
        let (seat, epoch) = (owner.seat() as usize, owner.epoch());
        let dead =
            segment.owner_known_dead(seat, epoch) || self.watch.is_due() && !segment.owner_alive(seat, epoch);
        if dead { self.lock.inherit(owner) } else { None }
    }

    fn peer(&self, owner: Owner) -> Option<Peer> {
        let seat = owner.seat();
        self.lock.region().desk(seat).map(|_| Peer { seat: seat as usize, pid: self.lock.pid(seat) })
    }

    #[inline]
    fn guard(&mut self, held: Held) -> Result<Guard<'_, T>, LockError<Guard<'_, T>>> {
        let culprit = held.culprit();
        let panicking = std::thread::panicking();
        let guard =
            Guard { held: Some(held), mutex: self, consistent: false, panicking, _thread: PhantomData };
        let Some(Culprit { seat, pid, cause }) = culprit else { return Ok(guard) };
        let peer = Peer { seat: seat as usize, pid };
        Err(match cause {
            Cause::Died => LockError::OwnerDied { peer, guard },
            Cause::Panicked => LockError::OwnerPanicked { peer, guard },
        })
    }

    /// In which seat this handle sits; its number, between threads.
    pub fn seat(&self) -> usize {
        self.lock.me().seat() as usize
    }

    /// The segment that the mutex is in; `None` between threads.
    pub fn segment(&self) -> Option<&Arc<Segment>> {
        self.member.segment()
    }
}

/// Gives up the seat, and with it the lock, if a guard was forgotten.
impl<T: Shareable> Drop for Mutex<T> {
    fn drop(&mut self) {
        if !self.member.is_mine() {
            return;
        }
        self.lock.leave();
        if let (None, Some(desk)) = (self.member.segment(), self.lock.region().desk(self.lock.me().seat())) {
            desk.taken.store(0, Ordering::Release);
        }
    }
}

/// The lock, and access to what it guards. Dropping it gives the lock back; while a panic unwinds, with the news of it.
///
/// # Panics
/// In a forked child every access to the value does: the lock is the parent's.
#[must_use = "a guard that is not kept gives the lock back at once"]
pub struct Guard<'a, T: Shareable> {
    held: Option<Held>,
    mutex: &'a mut Mutex<T>,
    consistent: bool,
    /// Whether the thread was unwinding already when it took the lock.
    panicking: bool,
    /// Stays with its thread, so that "this thread has it already" is true.
    _thread: PhantomData<*const ()>,
}

// SAFETY: it gives out `&T` alone, and `T` may be shared.
unsafe impl<T: Shareable> Sync for Guard<'_, T> {}

impl<T: Shareable> Guard<'_, T> {
    /// What the mutex guards is whole, whoever has died or panicked over it: later owners are not told of it any more.
    /// It takes effect when the guard is dropped.
    pub fn mark_consistent(&mut self) {
        self.consistent = true;
    }

    fn is_mine(&self) -> bool {
        self.mutex.member.is_mine()
    }
}

impl<T: Shareable> Deref for Guard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        assert!(self.is_mine(), "a forked child does not hold its parent's mutex");
        // SAFETY: inside the memory, on its alignment, any bytes are a value; we have the lock, and are no forked
        // child, so no correct participant writes to it while we are borrowed.
        unsafe { self.mutex.lock.region().value.as_ref() }
    }
}

impl<T: Shareable> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        assert!(self.is_mine(), "a forked child does not hold its parent's mutex");
        let mut value = self.mutex.lock.region().value;
        // SAFETY: as for `deref`, and no correct participant reads it either.
        unsafe { value.as_mut() }
    }
}

impl<T: Shareable + fmt::Debug> fmt::Debug for Guard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_mine() {
            true => f.debug_tuple("Guard").field(&**self).finish(),
            false => f.write_str("Guard(of the parent)"),
        }
    }
}

impl<T: Shareable> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let Some(held) = self.held.take().filter(|_| self.mutex.member.is_mine()) else { return };
        let state = if !self.panicking && std::thread::panicking() {
            State::Spoilt(Cause::Panicked)
        } else if self.consistent {
            State::Whole
        } else {
            State::Same
        };
        // Fails only where a bad peer has overwritten the word: then it is not ours to give back.
        let _ = self.mutex.lock.free(held, state);
    }
}
