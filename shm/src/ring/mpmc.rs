//! Many producers, many consumers: values in order. See [`sapwood_core::ring::mpmc`] for the protocol.
//!
//! A value whose push returned is popped by one participant, unless that one dies before its pop returns: then it is an
//! *orphan*, which one of the others takes as a message of its own, because the dead one never had it. Orphans come out
//! of order. A push that died before it took effect was never sent.
//!
//! | who finds it                                         | an orphan                                 | counted as    |
//! |------------------------------------------------------|-------------------------------------------|---------------|
//! | a push that is blocked by the dead                   | is put back into the ring first           | `redelivered` |
//! | a pop                                                | is what the pop (or the next one) returns | `redelivered` |
//! | who takes the dead one's seat                        | is what its first pop returns             | `redelivered` |
//! | a handle that is dropped with it, into a full or a closed ring | is gone                         |               |
//! | one of these, which dies before it has passed it on  | is gone                                   |               |
//!
//! The last row is the price of the others: an orphan leaves its place in the ring when it is found, because the dead
//! one's name must not stay there, and lies in private memory until the next call hands it on. So a value is lost only
//! where two die one after the other, its reader and who has found it.
//!
//! # Safety
//! The protocol asks that no two handles have one name and that a name is used again only after recovery: a name is a
//! seat and its epoch; a seat has one holder, whose epoch is its own, and a newcomer to a seat recovers every older
//! name of it before it does anything else. In a block, each handle that `threads` makes has a name of its own.
#![allow(unsafe_code)]

use std::sync::Arc;

use sapwood_core::mem::Real;
use sapwood_core::owner::Owner;
use sapwood_core::ring::mpmc::{Handle, Immortal, Peers};
use sapwood_core::ring::{PopError as CorePop, PushError as CorePush};

use super::member::{self, Member, Recover, Watch, is_dead};
use super::region::Slots;
use super::{Figures, Peer, PopError, PushError, Shareable};
use crate::error::Error;
use crate::layout::kind;
use crate::memory::Memory;
use crate::segment::{Segment, Spec};

/// The most participants that a ring can have.
pub const PARTICIPANTS: usize = Owner::SEATS as usize;

/// What became of messages and places that the dead held, as far as this handle had to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Messages whose reader died before its pop returned, and which were delivered again.
    pub redelivered: u64,
    /// Places whose writer died before its push took effect: those values were never sent.
    pub skipped: u64,
    /// Messages that the dead held beyond what every seat could: the ring's words were broken.
    pub lost: u64,
}

/// What a ring is part of: the kind of its segment, and the bytes before it, whole lines, which are somebody else's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ground {
    pub(crate) kind: u32,
    pub(crate) front: usize,
}

/// A ring by itself.
const BARE: Ground = Ground { kind: kind::MPMC, front: 0 };

impl Ground {
    pub(crate) fn spec<T: Shareable>(self, capacity: usize, participants: usize) -> Result<Spec, Error> {
        if !(1..=PARTICIPANTS).contains(&participants) {
            return Err(Error::Participants { asked: participants, most: PARTICIPANTS });
        }
        let bytes = self.front as u64 + Slots::<T>::bytes(capacity)?;
        Ok(member::spec(self.kind, Figures::of::<T>(capacity), participants, bytes))
    }

    fn slots<T: Shareable>(self, memory: &Memory, capacity: usize) -> Result<Slots<T>, Error> {
        let bytes = Slots::<T>::bytes(capacity)? as usize;
        Ok(Slots::new(memory.part(self.front, bytes), capacity)?)
    }
}

/// The segment that a ring of `capacity` values of type `T` for `participants` handles needs: for those who make,
/// inherit or receive it by themselves.
///
/// # Errors
/// [`Error::Capacity`], unless it is a power of two that a ring of such values can have; [`Error::Participants`].
pub fn spec<T: Shareable>(capacity: usize, participants: usize) -> Result<Spec, Error> {
    BARE.spec::<T>(capacity, participants)
}

/// The handles of a ring of `capacity` values, one for each of `participants` threads.
///
/// ```
/// use sapwood_shm::ring::mpmc;
///
/// let mut rings = mpmc::threads::<u64>(64, 3)?;
/// let mut last = rings.pop().unwrap();
/// let senders = rings.into_iter().zip(1..).map(|(mut ring, value)| {
///     std::thread::spawn(move || ring.try_push(value))
/// });
/// for sender in senders.collect::<Vec<_>>() {
///     sender.join().unwrap()?;
/// }
/// assert_eq!(last.try_pop()? + last.try_pop()?, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Capacity`], [`Error::Participants`], [`Error::NoSpace`].
pub fn threads<T: Shareable>(capacity: usize, participants: usize) -> Result<Vec<Ring<T>>, Error> {
    let body = spec::<T>(capacity, participants)?.body;
    let slots = Slots::new(Memory::block("a ring", body)?, capacity)?;
    let ring = |seat| Ring::on(slots.clone(), Owner::new(seat, 1), Member::thread(), Others::new(0));
    Ok((0..participants as u32).map(ring).collect())
}

/// One participant's handle, which can send and receive. Dropping it gives its seat up; the ring stays open for the
/// others.
///
/// ```
/// use sapwood_shm::ring::{PopError, PushError, mpmc::Ring};
///
/// // Each in a process of its own; up to 8 of them.
/// # let name = &format!("doc-mpmc-{}", std::process::id());
/// let mut a = Ring::<u32>::open(name, 64, 8)?;
/// let mut b = Ring::<u32>::open(name, 64, 8)?;
/// a.try_push(1)?;
/// b.try_push(2)?;
/// assert_eq!((b.try_pop(), b.try_pop(), a.try_pop()), (Ok(1), Ok(2), Err(PopError::Empty)));
/// a.close();
/// assert_eq!(b.try_push(3), Err(PushError::Closed(3)));
/// assert_eq!(b.try_pop(), Err(PopError::Drained));
/// # a.segment().unwrap().unlink()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Ring<T: Shareable> {
    ring: Handle<Real, T, Slots<T>>,
    others: Others<T>,
    member: Member,
}

/// What this participant knows of the others, and has of the dead.
#[derive(Debug)]
struct Others<T> {
    segment: Option<Arc<Segment>>,
    pushes: Watch,
    pops: Watch,
    /// Whether to ask the kernel at once.
    at_once: bool,
    orphans: Vec<T>,
    /// Whether somebody was found dead since this was last asked.
    news: bool,
    stats: Stats,
}

impl<T> Others<T> {
    fn new(seats: usize) -> Self {
        Others {
            segment: None,
            pushes: Watch::default(),
            pops: Watch::default(),
            at_once: false,
            orphans: Vec::with_capacity(seats),
            news: false,
            stats: Stats::default(),
        }
    }

    /// Whether `owner`, who blocks a push, is proven to be dead.
    fn blocks_a_push(&mut self, owner: Owner) -> bool {
        let asks = || self.at_once || self.pushes.is_due();
        let dead = self.segment.as_ref().is_some_and(|s| is_dead(s, owner, asks));
        self.news |= dead;
        dead
    }
}

impl<T> Peers<T> for Others<T> {
    /// Asked by pops only.
    fn alive(&mut self, owner: Owner) -> bool {
        let asks = || self.at_once || self.pops.is_due();
        let dead = self.segment.as_ref().is_some_and(|s| is_dead(s, owner, asks));
        self.news |= dead;
        !dead
    }

    fn orphan(&mut self, _: u64, _: Owner, message: T) {
        // There is room for one of every seat, and a seat holds one message at a time.
        if self.orphans.len() < self.orphans.capacity() {
            self.orphans.push(message);
        } else {
            self.stats.lost += 1;
        }
    }

    fn skipped(&mut self, _: u64, _: Owner) {
        self.stats.skipped += 1;
    }
}

impl<T: Shareable> Ring<T> {
    /// A participant of the ring called `name`, which is made if there is none.
    ///
    /// # Errors
    /// [`Error::NoSeat`] if it has as many as it was made for; [`Error::OtherRing`] if it is one of other values or of
    /// another capacity, [`Error::OtherSize`] if of another number of participants; [`Error::Capacity`],
    /// [`Error::Participants`], [`Error::NoSpace`], and what [`Segment::enter_named`] says.
    pub fn open(name: &str, capacity: usize, participants: usize) -> Result<Self, Error> {
        Self::open_on(BARE, name, capacity, participants)
    }

    /// A participant of a new ring without a name, in a [`segment`](Self::segment) to be handed on.
    ///
    /// # Errors
    /// [`Error::Capacity`], [`Error::Participants`], [`Error::NoSpace`].
    pub fn create(capacity: usize, participants: usize) -> Result<Self, Error> {
        Self::create_on(BARE, capacity, participants)
    }

    /// A participant of the ring in a segment that was inherited or received.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn attach(segment: &Arc<Segment>, capacity: usize) -> Result<Self, Error> {
        Self::attach_on(BARE, segment, capacity)
    }

    pub(crate) fn open_on(
        ground: Ground,
        name: &str,
        capacity: usize,
        participants: usize,
    ) -> Result<Self, Error> {
        let spec = ground.spec::<T>(capacity, participants)?;
        Self::enter(ground, capacity, participants, |recover| Member::open(name, &spec, None, recover))
    }

    /// The one called `name` that has this number; [`Error::Retired`] if another one has the name, or none.
    pub(crate) fn open_meant_on(
        ground: Ground,
        name: &str,
        nonce: u64,
        capacity: usize,
        participants: usize,
    ) -> Result<Self, Error> {
        let spec = ground.spec::<T>(capacity, participants)?;
        let sit = |recover: Recover<'_>| Member::open_meant(name, nonce, &spec, recover);
        Self::enter(ground, capacity, participants, sit)
    }

    pub(crate) fn create_on(ground: Ground, capacity: usize, participants: usize) -> Result<Self, Error> {
        let spec = ground.spec::<T>(capacity, participants)?;
        Self::attach_on(ground, &member::create(&spec)?, capacity)
    }

    pub(crate) fn attach_on(ground: Ground, segment: &Arc<Segment>, capacity: usize) -> Result<Self, Error> {
        let seats = segment.spec().seats;
        let spec = ground.spec::<T>(capacity, seats)?;
        Self::enter(ground, capacity, seats, |recover| Member::sit(segment, &spec, None, recover))
    }

    /// Takes a seat, and whatever its dead holders have left in the ring.
    fn enter(
        ground: Ground,
        capacity: usize,
        seats: usize,
        sit: impl FnOnce(Recover<'_>) -> Result<Member, Error>,
    ) -> Result<Self, Error> {
        let mut others = Others::new(seats);
        let member = sit(&mut |segment, me, dead| {
            // SAFETY: the segment stays mapped to the end of this call, and so long the handle lives.
            let slots = ground.slots(&unsafe { Memory::lent(segment) }, capacity)?;
            let (me, dead) = (member::name(me), Owner::new(me.number() as u32, dead));
            // SAFETY: the seat is ours already, and so is the name; nobody has used it before.
            unsafe { Handle::attach(slots, me) }.recover(dead, &mut others);
            others.news = true;
            Ok(())
        })?;
        others.segment = member.segment().cloned();
        let slots = ground.slots(&member.memory(), capacity)?;
        let me = member.owner();
        let mut ring = Self::on(slots, me, member, others);
        // A participant that only pushes would keep from the others what its predecessor was reading.
        ring.put_back();
        Ok(ring)
    }

    fn on(slots: Slots<T>, me: Owner, member: Member, others: Others<T>) -> Self {
        // SAFETY: as said at the top, nobody else has the name; in a segment, `enter` has recovered the seat.
        Ring { ring: unsafe { Handle::attach(slots, me) }, others, member }
    }

    /// Appends a value.
    ///
    /// # Errors
    /// [`PushError`] without [`PeerDied`](PushError::PeerDied), with the value.
    #[inline]
    pub fn try_push(&mut self, value: T) -> Result<(), PushError<T>> {
        if !self.member.is_mine() {
            return Err(PushError::Forked(value));
        }
        if !self.others.orphans.is_empty() {
            self.put_back();
        }
        match self.ring.try_push(value, &mut Immortal) {
            Ok(_) => Ok(()),
            Err(CorePush::Full(value)) => Err(PushError::Full(value)),
            Err(CorePush::Closed(value)) => Err(PushError::Closed(value)),
            Err(CorePush::Busy { owner, value }) => self.push_past(owner, value),
            Err(e) => Err(PushError::Full(e.into_inner())),
        }
    }

    /// The next place is held by somebody: if by the dead, it is cleared, and what they had is put back first.
    #[cold]
    fn push_past(&mut self, mut owner: Owner, value: T) -> Result<(), PushError<T>> {
        // Each turn but the last buries somebody else.
        for _ in 0..=self.others.orphans.capacity() {
            if owner == Owner::NOBODY || !self.others.blocks_a_push(owner) {
                break;
            }
            self.ring.recover(owner, &mut self.others);
            self.put_back();
            match self.ring.try_push(value, &mut Immortal) {
                Ok(_) => return Ok(()),
                Err(CorePush::Closed(_)) => return Err(PushError::Closed(value)),
                Err(CorePush::Busy { owner: next, .. }) => owner = next,
                Err(_) => return Err(PushError::Full(value)),
            }
        }
        Err(PushError::Busy { holder: self.holder(owner), value })
    }

    /// Orphans that this handle has go back into the ring, as far as there is room.
    #[cold]
    pub(crate) fn put_back(&mut self) {
        while let Some(orphan) = self.others.orphans.last() {
            if self.ring.try_push(*orphan, &mut Immortal).is_err() {
                break;
            }
            self.others.orphans.pop();
            self.others.stats.redelivered += 1;
        }
    }

    /// Takes the oldest value.
    ///
    /// # Errors
    /// [`PopError`] without [`PeerDied`](PopError::PeerDied): others may still come.
    #[inline]
    pub fn try_pop(&mut self) -> Result<T, PopError> {
        if !self.member.is_mine() {
            return Err(PopError::Forked);
        }
        if !self.others.orphans.is_empty() {
            return self.orphan().ok_or(PopError::Empty);
        }
        match self.ring.try_pop(&mut self.others) {
            Ok((_, value)) => Ok(value),
            Err(CorePop::Empty) => Err(PopError::Empty),
            Err(e) => self.pop_past(e),
        }
    }

    /// Takes the oldest value and calls `take` with it before its place is given back: if this process dies in `take`,
    /// another participant receives the value. If `take` panics, the value is gone.
    ///
    /// # Errors
    /// As for [`try_pop`](Self::try_pop); then `take` was not called.
    #[inline]
    pub fn try_pop_with<V>(&mut self, take: impl FnOnce(T) -> V) -> Result<V, PopError> {
        if !self.member.is_mine() {
            return Err(PopError::Forked);
        }
        if !self.others.orphans.is_empty() {
            return self.orphan().map(take).ok_or(PopError::Empty);
        }
        let mut take = Some(take);
        let taken = self.ring.try_pop_with(|_, value| take.take().map(|take| take(value)), &mut self.others);
        let value = match taken {
            Ok(Some(taken)) => return Ok(taken),
            Ok(None) | Err(CorePop::Empty) => return Err(PopError::Empty),
            Err(e) => self.pop_past(e)?,
        };
        take.map(|take| take(value)).ok_or(PopError::Empty)
    }

    #[cold]
    fn orphan(&mut self) -> Option<T> {
        let orphan = self.others.orphans.pop();
        self.others.stats.redelivered += u64::from(orphan.is_some());
        orphan
    }

    #[cold]
    fn pop_past(&mut self, e: CorePop) -> Result<T, PopError> {
        if let Some(orphan) = self.orphan() {
            return Ok(orphan);
        }
        match e {
            CorePop::Busy { owner } => Err(PopError::Busy { holder: self.holder(owner) }),
            CorePop::Drained => {
                // The last word: nobody who holds a message may be dead.
                let last = self.asking(true, |ring| ring.ring.try_pop(&mut ring.others));
                match last {
                    // Nothing comes behind the seal, unless a bad peer has broken it.
                    Ok((_, value)) => Ok(value),
                    Err(_) => self.orphan().ok_or(PopError::Drained),
                }
            }
            _ => Err(PopError::Empty),
        }
    }

    /// Whether a push would find room; else what it would say. `at_once`: asks the kernel about whoever is in the way.
    pub(crate) fn has_room(&mut self, at_once: bool) -> Result<(), PushError<()>> {
        if !self.member.is_mine() {
            return Err(PushError::Forked(()));
        }
        // Each turn but the last buries somebody.
        for _ in 0..=self.others.orphans.capacity() {
            match self.ring.has_room(&mut Immortal) {
                Err(CorePush::Busy { owner, .. }) => {
                    if owner == Owner::NOBODY
                        || !self.asking(at_once, |ring| ring.others.blocks_a_push(owner))
                    {
                        return Err(PushError::Busy { holder: self.holder(owner), value: () });
                    }
                    self.ring.recover(owner, &mut self.others);
                    self.put_back();
                }
                Err(CorePush::Closed(())) => return Err(PushError::Closed(())),
                Err(_) => return Err(PushError::Full(())),
                Ok(()) => return Ok(()),
            }
        }
        Err(PushError::Busy { holder: None, value: () })
    }

    /// Whether a pop would find a value; else what it would say. `at_once`: asks the kernel about whoever is in the
    /// way.
    pub(crate) fn has_value(&mut self, at_once: bool) -> Result<(), PopError> {
        if !self.member.is_mine() {
            return Err(PopError::Forked);
        }
        let said = self.asking(at_once, |ring| ring.ring.has_message(&mut ring.others));
        match said {
            _ if !self.others.orphans.is_empty() => Ok(()),
            Ok(()) => Ok(()),
            Err(CorePop::Busy { owner }) => Err(PopError::Busy { holder: self.holder(owner) }),
            Err(CorePop::Drained) => Err(PopError::Drained),
            Err(_) => Err(PopError::Empty),
        }
    }

    /// Takes over what the dead were reading; a pop returns it.
    #[cold]
    pub(crate) fn unearth(&mut self) {
        self.asking(true, |ring| ring.ring.recover_readers(&mut ring.others));
    }

    fn asking<V>(&mut self, at_once: bool, then: impl FnOnce(&mut Self) -> V) -> V {
        self.others.at_once = at_once;
        let value = then(self);
        self.others.at_once = false;
        value
    }

    /// Orphans that this handle has and nobody else can find.
    pub(crate) fn orphans(&self) -> usize {
        self.others.orphans.len()
    }

    /// Whether somebody was found dead, or left a seat to this handle, since this was last asked.
    #[inline]
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.others.news)
    }

    pub(crate) fn member(&self) -> &Member {
        &self.member
    }

    fn holder(&self, owner: Owner) -> Option<Peer> {
        let seats = self.others.segment.as_ref().map_or(PARTICIPANTS, |segment| segment.spec().seats);
        let seat = owner.seat() as usize;
        (seat < seats).then(|| self.member.peer(seat))
    }

    /// Says that nothing more may be sent. Pushes that are on their way beside it may still take effect; once all has
    /// been taken, pops say [`Drained`](PopError::Drained).
    ///
    /// In a forked child it does nothing.
    pub fn close(&self) {
        if self.member.is_mine() {
            self.ring.close();
        }
    }

    /// Whether the ring was closed. Values may still be in it.
    pub fn is_closed(&self) -> bool {
        self.ring.is_closed()
    }

    /// Values in the ring, roughly: others may be in the middle of something.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether nothing is in the ring, roughly.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// How many values fit.
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    /// In which seat this participant sits; its number, between threads.
    pub fn seat(&self) -> usize {
        self.ring.me().seat() as usize
    }

    /// Other participants that live now, by proof: some microseconds for each. Threads are not counted: they live.
    pub fn others(&self) -> usize {
        let Some(segment) = self.member.segment() else { return 0 };
        let seats = 0..segment.spec().seats;
        seats.filter(|s| *s != self.seat() && segment.life(*s) == super::Life::Alive).count()
    }

    /// What the dead had left.
    pub fn stats(&self) -> Stats {
        self.others.stats
    }

    /// The segment that the ring is in; `None` between threads.
    pub fn segment(&self) -> Option<&Arc<Segment>> {
        self.member.segment()
    }
}

impl<T: Shareable> Drop for Ring<T> {
    fn drop(&mut self) {
        if self.member.is_mine() {
            self.put_back();
        }
    }
}
