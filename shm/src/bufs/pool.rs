//! The pool: participants, allocation, adoption, and what the dead have left.
//!
//! # Safety
//! The protocol asks that no two handles that are used at a time have one seat, and that a newcomer recovers its seat
//! before anything else: `enter` does, with the seat's lock held, and all calls of a handle take turns at `state`. A
//! seat holds a block once, however many buffers of this process name it; `state` counts those.
//!
//! A block's word may say anything once a bad peer has written it, so what a handle has says its own memory. `loan`
//! passes over a block that has names here, and `adopt` refuses one that was found to be this seat's alone and of which
//! nothing has been sent since, and one whose header says another use than the names here have it for. So within one
//! handle there is no second way to bytes that somebody may write. What remains: two handles of one process know
//! nothing of each other. A bad peer that takes one's bit out of a word has the block lent to the other, as it would to
//! another process, and both write to it. Who does not trust its peers keeps to one handle of a pool in a process.
#![allow(unsafe_code)]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sapwood_core::bufs::{self, Adopted, Bufs, Holding, Shape, ShapeError, Ticket, TicketError};
use sapwood_core::mem::Real;
use sapwood_core::owner::Owner;

use super::buf::{SharedBuf, UniqueBuf};
use super::depot::Depot;
use super::open::OpenBuf;
use super::{
    AdoptError, AllocError, Contents, Descriptor, IN_FLIGHT, PARTICIPANTS, ShareError, Shareable, Use,
};
use crate::error::Error;
use crate::layout::kind;
use crate::memory::Memory;
use crate::ring::Peer;
use crate::ring::member::{self, Member, Recover, Watch};
use crate::segment::{Segment, Spec};

/// Raised with every change of what lies in a pool's memory.
const VERSION: u64 = 1;
/// Where the fingerprint says how many buffers there are, less one; below that their cache lines.
const BLOCKS: u32 = 32;

/// The segment that `blocks` buffers of `bytes` bytes for `participants` handles need: for those who make, inherit or
/// receive it by themselves.
///
/// # Errors
/// [`Error::Frames`], [`Error::Participants`].
pub fn spec(blocks: usize, bytes: usize, participants: usize) -> Result<Spec, Error> {
    if !(1..=PARTICIPANTS).contains(&participants) {
        return Err(Error::Participants { asked: participants, most: PARTICIPANTS });
    }
    let shape = shape(blocks, bytes)?;
    let lines = shape.bytes() as u64 / 64;
    let fingerprint = VERSION << 56 | u64::from(shape.blocks() - 1) << BLOCKS | lines;
    Ok(Spec { kind: kind::BUFS, fingerprint, seats: participants, body: Depot::bytes(shape), reserve: 0 })
}

fn shape(blocks: usize, bytes: usize) -> Result<Shape, Error> {
    let most = u32::MAX as usize * 64;
    if bytes > most {
        return Err(ShapeError::TooLarge { asked: bytes, most }.into());
    }
    Ok(Shape::of(blocks, bytes)?)
}

/// What a segment's fingerprint says about buffers and bytes of each.
fn figures(fingerprint: u64) -> (u64, u64) {
    ((fingerprint >> BLOCKS & 0xff_ffff) + 1, (fingerprint & u64::from(u32::MAX)) * 64)
}

/// What the segment was made for is not a ring.
fn explain(error: Error) -> Error {
    match error {
        Error::OtherRing { found, expected } => Error::OtherBufs {
            found: figures(found.fingerprint()),
            expected: figures(expected.fingerprint()),
        },
        other => other,
    }
}

/// What is in use in a pool, as far as a look at every buffer can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Buffers.
    pub blocks: u32,
    /// Bytes of each.
    pub bytes: usize,
    /// Buffers that somebody holds.
    pub held: u32,
    /// Descriptors that nobody has adopted.
    pub in_flight: u32,
}

/// A participant of a pool of buffers in shared memory. Its buffers keep its seat: that is given up when the last of
/// them and this are dropped.
///
/// Calls of one handle and its buffers take turns at a lock of this process; reading and writing values needs none. To
/// threads that allocate or share very often, give each a handle of its own ([`try_clone`](Self::try_clone)).
///
/// Between threads of one process a buffer need not travel by descriptor: it is `Send`. [`threads`](Self::threads)
/// makes a pool whose participants hold buffers apart from each other, as processes do.
///
/// ```
/// use sapwood_shm::bufs::{Descriptor, Pool};
/// use sapwood_shm::ring::mpmc::Ring;
///
/// // Each in a process of its own: 16 buffers of 1 MiB for up to 4 participants, and a ring for messages.
/// # let name = &format!("doc-bufs-{}", std::process::id());
/// # let ring = &format!("doc-bufs-ring-{}", std::process::id());
/// let ours = Pool::open(name, 16, 1 << 20, 4)?;
/// let theirs = Pool::open(name, 16, 1 << 20, 4)?;
/// let mut tx = Ring::<Descriptor>::open(ring, 64, 4)?;
/// let mut rx = Ring::<Descriptor>::open(ring, 64, 4)?;
///
/// let mut tensor = ours.alloc::<f32>(1000)?;
/// tensor.fill(1.5);
/// let tensor = tensor.into_shared();
/// tx.try_push(tensor.share()?)?; // sixteen bytes; we go on reading
///
/// let received = rx.try_pop_with(|descriptor| theirs.adopt::<f32>(descriptor))??;
/// assert_eq!(received[999], 1.5);
/// drop(tensor);
/// let mut alone = received.into_unique().expect("nobody else holds it now");
/// alone[0] = 2.0;
/// # ours.segment().unlink()?;
/// # tx.segment().unwrap().unlink()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Pool {
    inner: Arc<Inner>,
}

/// What the handle and its buffers have in common.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) depot: Depot,
    state: Mutex<State>,
    member: Member,
    segment: Arc<Segment>,
    id: u32,
}

/// What one call at a time may change.
#[derive(Debug)]
struct State {
    bufs: Bufs<Real, Depot>,
    /// What the seat holds, by block.
    held: Box<[Held]>,
    watch: Watch,
    /// Whether the last look for the dead has found nothing.
    in_vain: bool,
}

/// A block that the seat may hold, and how many buffers of this process name it. One that none names is to be given
/// back, when a bad peer lets us.
#[derive(Debug, Default)]
struct Held {
    holding: Option<Holding>,
    /// More than can be counted up to, though none is ever dropped.
    names: u64,
    /// Whether it was found to be this seat's alone, and no descriptor was made of it since: then there is none.
    alone: bool,
    /// What those that name it take it for.
    how: Option<Use>,
}

impl Pool {
    /// A participant of the pool called `name`, which is made if there is none: `blocks` buffers of `bytes` bytes each,
    /// rounded up to whole cache lines, for up to `participants` handles at a time, [`PARTICIPANTS`] at most.
    ///
    /// # Errors
    /// [`Error::NoSeat`] if it has as many as it was made for; [`Error::OtherBufs`], [`Error::OtherSize`] if it was
    /// made for others; [`Error::Frames`], [`Error::Participants`], [`Error::NoSpace`], and what
    /// [`Segment::enter_named`] says.
    pub fn open(name: &str, blocks: usize, bytes: usize, participants: usize) -> Result<Self, Error> {
        let spec = spec(blocks, bytes, participants)?;
        Self::enter(shape(blocks, bytes)?, |recover| Member::open(name, &spec, None, recover))
    }

    /// A participant of a new pool without a name, in a [`segment`](Self::segment) to be handed on.
    ///
    /// # Errors
    /// [`Error::Frames`], [`Error::Participants`], [`Error::NoSpace`].
    pub fn create(blocks: usize, bytes: usize, participants: usize) -> Result<Self, Error> {
        Self::attach(&member::create(&spec(blocks, bytes, participants)?)?, blocks, bytes)
    }

    /// A participant of the pool in a segment that was inherited or received.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn attach(segment: &Arc<Segment>, blocks: usize, bytes: usize) -> Result<Self, Error> {
        let spec = spec(blocks, bytes, segment.spec().seats)?;
        Self::enter(shape(blocks, bytes)?, |recover| Member::sit(segment, &spec, None, recover))
    }

    /// The participants of a new pool in this process, all of them.
    ///
    /// ```
    /// use sapwood_shm::bufs::Pool;
    ///
    /// let mut pools = Pool::threads(4, 4096, 2)?;
    /// let (theirs, ours) = (pools.pop().unwrap(), pools.pop().unwrap());
    /// let mut numbers = ours.alloc::<u64>(512)?;
    /// numbers.fill(7);
    /// let descriptor = numbers.into_descriptor()?;
    /// let sum = std::thread::spawn(move || theirs.adopt::<u64>(descriptor).map(|n| n.iter().sum::<u64>()));
    /// assert_eq!(sum.join().unwrap()?, 512 * 7);
    /// assert_eq!(ours.stats().held, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`create`](Self::create).
    pub fn threads(blocks: usize, bytes: usize, participants: usize) -> Result<Vec<Self>, Error> {
        let first = Self::create(blocks, bytes, participants)?;
        let more = (1..participants).map(|_| first.try_clone()).collect::<Result<Vec<_>, _>>()?;
        Ok(std::iter::once(first).chain(more).collect())
    }

    /// Another participant in this process, in a seat of its own.
    ///
    /// # Errors
    /// [`Error::NoSeat`], and what the system refuses.
    pub fn try_clone(&self) -> Result<Self, Error> {
        let (segment, shape) = (&self.inner.segment, bufs::Region::shape(&self.inner.depot));
        Self::enter(shape, |recover| Member::sit(segment, segment.spec(), None, recover))
    }

    fn enter(shape: Shape, sit: impl FnOnce(Recover<'_>) -> Result<Member, Error>) -> Result<Self, Error> {
        let attach = |memory: Memory, me: Owner| {
            // SAFETY: see the top.
            let attached = unsafe { Bufs::attach(Depot::new(memory, shape), me) };
            attached.map_err(|e| Error::NoSuchSeat { seat: e.seat as usize, seats: PARTICIPANTS })
        };
        let member = sit(&mut |segment, me, dead| {
            // SAFETY: the segment stays mapped to the end of this call.
            let memory = unsafe { Memory::lent(segment) };
            // Ours: nobody else has it, and we hold nothing yet, so it can't fail.
            let dead = Owner::new(me.number() as u32, dead);
            let _ = attach(memory, member::name(me))?.recover(dead, |_| false);
            Ok(())
        });
        let member = member.map_err(explain)?;
        let segment = member.segment().expect("a pool is in a segment").clone();
        let bufs = attach(member.memory(), member.owner())?;
        let held = (0..shape.blocks()).map(|_| Held::default()).collect();
        let state = Mutex::new(State { bufs, held, watch: Watch::default(), in_vain: false });
        let (depot, nonce) = (Depot::new(member.memory(), shape), segment.nonce());
        let id = (nonce ^ nonce >> 32) as u32;
        Ok(Pool { inner: Arc::new(Inner { depot, state, member, segment, id }) })
    }

    /// A buffer of `len` values, this handle's alone. What they are is not said: what the last holder left, or zeros.
    ///
    /// # Errors
    /// [`AllocError`].
    pub fn alloc<T: Shareable>(&self, len: usize) -> Result<UniqueBuf<T>, AllocError> {
        let contents = Contents::of::<T>(Use::Still, len);
        let most = self.bytes();
        match len.checked_mul(size_of::<T>()) {
            Some(need) if need <= most => (),
            need => return Err(AllocError::TooLong { len, need: need.unwrap_or(usize::MAX), most }),
        }
        let block = self.inner.loan(contents)?;
        Ok(UniqueBuf::new(Part::new(&self.inner, block), len))
    }

    /// Makes this participant a holder of the buffer of a descriptor that somebody [shared](SharedBuf::share) or
    /// [handed over](UniqueBuf::into_descriptor).
    ///
    /// # Errors
    /// [`AdoptError`].
    pub fn adopt<T: Shareable>(&self, descriptor: Descriptor) -> Result<SharedBuf<T>, AdoptError> {
        let (part, len) = self.adopt_as(descriptor, Contents::of::<T>(Use::Still, 0))?;
        Ok(SharedBuf::new(part, len))
    }

    /// The same for a buffer that is [open](UniqueBuf::into_open).
    ///
    /// # Errors
    /// [`AdoptError`].
    pub fn adopt_open<T: Shareable>(&self, descriptor: Descriptor) -> Result<OpenBuf<T>, AdoptError> {
        let (part, len) = self.adopt_as(descriptor, Contents::of::<T>(Use::Open, 0))?;
        Ok(OpenBuf::new(part, len))
    }

    fn adopt_as(&self, descriptor: Descriptor, expected: Contents) -> Result<(Part, usize), AdoptError> {
        let (block, said) = self.inner.adopt(descriptor)?;
        let part = Part::new(&self.inner, block);
        match Contents::checked(said, self.bytes()) {
            Some(found) if Contents { len: expected.len, ..found } == expected => Ok((part, found.len)),
            Some(found) => {
                let descriptor = part.hand_over().ok();
                Err(AdoptError::Other { found, expected, descriptor })
            }
            None => Err(AdoptError::Broken { block, said }),
        }
    }

    /// Makes all descriptors void that were made of this handle's buffers and nobody has adopted: for a sender that
    /// knows that its messages are lost. Says how many there were. In a forked child it does nothing.
    pub fn recall(&self) -> usize {
        self.inner.state().map_or(0, |mut state| state.bufs.recall() as usize)
    }

    /// Makes all descriptors void whose senders have dropped their pools: for who knows that nobody will adopt them.
    /// Says how many there were. In a forked child it does nothing.
    pub fn void_left(&self) -> usize {
        self.inner.state().map_or(0, |mut state| state.bufs.void_left() as usize)
    }

    /// Bytes of a buffer.
    pub fn bytes(&self) -> usize {
        bufs::Region::shape(&self.inner.depot).bytes()
    }

    /// What is in use: a look at each buffer.
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }

    /// In which seat this participant sits.
    pub fn seat(&self) -> usize {
        self.inner.member.owner().seat() as usize
    }

    /// The segment that the pool is in.
    pub fn segment(&self) -> &Arc<Segment> {
        &self.inner.segment
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_mine(&self) -> bool {
        self.member.is_mine()
    }

    /// `None` in a forked child, where the lock may have been copied as it was held.
    fn state(&self) -> Option<MutexGuard<'_, State>> {
        self.is_mine().then(|| self.lock())
    }

    /// Only looks, and takes no turn: a forked child may.
    fn stats(&self) -> Stats {
        let shape = bufs::Region::shape(&self.depot);
        let words = (0..shape.blocks()).map(|block| bufs::Region::header(&self.depot, block).word());
        let (held, in_flight) = words.fold((0, 0), |(held, in_flight), word| {
            (held + u32::from(word.holders() != 0), in_flight + word.tickets().count_ones())
        });
        Stats { blocks: shape.blocks(), bytes: shape.bytes(), held, in_flight }
    }

    fn loan(&self, contents: Contents) -> Result<u32, AllocError> {
        let mut state = self.state().ok_or(AllocError::Forked)?;
        let lent = state.loan().or_else(|| {
            self.free_the_dead(&mut state);
            state.loan()
        });
        let Some(holding) = lent else {
            let Stats { blocks, bytes, held, in_flight } = self.stats();
            return Err(AllocError::Exhausted { blocks, bytes, held, in_flight });
        };
        state.in_vain = false;
        state.bufs.say(&holding, contents.said());
        let block = holding.block();
        state.held[block as usize] =
            Held { holding: Some(holding), names: 1, alone: true, how: Some(contents.how) };
        Ok(block)
    }

    /// No buffer is free: what the dead hold is, and what is still to be given back.
    #[cold]
    fn free_the_dead(&self, state: &mut State) {
        let State { bufs, held, .. } = state;
        for held in held.iter_mut().filter(|h| h.names == 0) {
            held.give_back(bufs);
        }
        // The first time at once; in a loop of tries now and then.
        if std::mem::replace(&mut state.in_vain, true) && !state.watch.is_due() {
            return;
        }
        let (segment, holders, me) = (&self.segment, state.bufs.holders(), self.member.owner().seat());
        for seat in (0..segment.spec().seats).filter(|s| holders >> s & 1 == 1 && *s != me as usize) {
            let epoch = segment.seat_epoch(seat);
            if epoch != 0 && !segment.owner_alive(seat, epoch) {
                self.free_what_was_held(state, seat, epoch);
            }
        }
    }

    /// What those have left who had the seat up to `epoch`, whose holder is dead. Somebody may have sat down since.
    fn free_what_was_held(&self, state: &mut State, seat: usize, epoch: u32) {
        // A bit is the seat's, not an epoch's: it goes unless somebody has sat down.
        let succeeded = |_| self.segment.seat_succeeded(seat, epoch);
        // Newcomers that died before they had recovered their predecessors have left those to us.
        for dead in self.segment.unrecovered(seat, epoch) {
            // Not our seat, so it can't fail.
            let _ = state.bufs.recover(Owner::new(seat as u32, dead), succeeded);
        }
    }

    /// The block, and what was said of it.
    fn adopt(&self, descriptor: Descriptor) -> Result<(u32, [u64; 2]), AdoptError> {
        let mut state = self.state().ok_or(AdoptError::Forked)?;
        let Descriptor { pool, block, .. } = descriptor;
        let shape = bufs::Region::shape(&self.depot);
        let blocks = shape.blocks();
        if pool != self.id || block >= blocks {
            return Err(AdoptError::OtherPool { block, pool, ours: self.id, blocks });
        }
        let holding = match state.bufs.adopt(descriptor.ticket()) {
            // Whether we had it before says our own count: the word may say anything.
            Ok(Adopted::New(holding) | Adopted::Again(holding)) => holding,
            Err(TicketError::Busy { block }) => return Err(AdoptError::Busy { block }),
            Err(TicketError::Stale { block, found, .. }) => {
                return Err(AdoptError::Void { block, last: self.peer(found.issuer()) });
            }
            Err(_) => return Err(AdoptError::Void { block, last: None }),
        };
        let said = state.bufs.said(block);
        let how = Contents::checked(said, shape.bytes()).map(|contents| contents.how);
        let held = &mut state.held[block as usize];
        held.holding = Some(holding);
        if held.names == 0 {
            (held.alone, held.how) = (false, how);
        } else if held.alone || held.how != how {
            return Err(AdoptError::Broken { block, said });
        }
        held.names += 1;
        Ok((block, said))
    }

    fn peer(&self, owner: Owner) -> Option<Peer> {
        let seat = owner.seat() as usize;
        (seat < self.segment.spec().seats).then(|| self.member.peer(seat))
    }
}

impl State {
    /// A block that nothing here has a name of. One that has, and is called free, was called so by a bad peer: it is
    /// held again, and not lent to us a second time.
    fn loan(&mut self) -> Option<Holding> {
        for _ in 0..=self.held.len() {
            let holding = self.bufs.loan().ok()?;
            let held = &mut self.held[holding.block() as usize];
            if held.names == 0 {
                return Some(holding);
            }
            held.holding = Some(holding);
        }
        None
    }
}

impl Held {
    /// A ticket instead of one name, of which there is one at least.
    fn hand_over(&mut self, bufs: &mut Bufs<Real, Depot>) -> Result<Ticket, ShareError> {
        let Some(holding) = self.holding.take() else { unreachable!("a name without a holding") };
        if self.names > 1 {
            let shared = bufs.share(&holding);
            self.holding = Some(holding);
            self.alone &= shared.is_err();
            return shared.map_err(|e| refusal(&e));
        }
        bufs.hand_over(holding).map_err(|(e, holding)| {
            self.holding = Some(holding);
            refusal(&e)
        })
    }

    fn give_back(&mut self, bufs: &mut Bufs<Real, Depot>) {
        if let Some(holding) = self.holding.take() {
            self.holding = bufs.give_back(holding).err();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(mut state) = self.state() {
            let State { bufs, held, .. } = &mut *state;
            held.iter_mut().for_each(|held| held.give_back(bufs));
            // What is on its way stands without us.
            bufs.leave();
        }
    }
}

/// A name of a block that this process's seat holds.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) inner: Arc<Inner>,
    pub(super) block: u32,
    /// Whether `names` counts this one.
    counts: bool,
}

impl Part {
    /// One that is counted already.
    fn new(inner: &Arc<Inner>, block: u32) -> Part {
        Part { inner: inner.clone(), block, counts: true }
    }

    /// Another one.
    pub(super) fn try_clone(&self) -> Result<Part, ShareError> {
        let mut state = self.inner.state().ok_or(ShareError::Forked)?;
        state.held[self.block as usize].names += 1;
        Ok(Part::new(&self.inner, self.block))
    }

    pub(super) fn share(&self) -> Result<Descriptor, ShareError> {
        let mut state = self.inner.state().ok_or(ShareError::Forked)?;
        let State { bufs, held, .. } = &mut *state;
        let held = &mut held[self.block as usize];
        let Some(holding) = &held.holding else { unreachable!("{self:?} has a holding") };
        let ticket = bufs.share(holding).map_err(|e| refusal(&e))?;
        held.alone = false;
        Ok(self.descriptor(ticket))
    }

    /// A descriptor instead of this name: where it is the last one, in one step.
    pub(super) fn hand_over(mut self) -> Result<Descriptor, (ShareError, Part)> {
        let ticket = match self.inner.state() {
            None => Err(ShareError::Forked),
            Some(mut state) => {
                let State { bufs, held, .. } = &mut *state;
                let held = &mut held[self.block as usize];
                let ticket = held.hand_over(bufs);
                // At once, before anybody can adopt it: what is adopted then is counted anew.
                held.names -= u64::from(ticket.is_ok());
                ticket
            }
        };
        match ticket {
            Ok(ticket) => {
                self.counts = false;
                Ok(self.descriptor(ticket))
            }
            Err(e) => Err((e, self)),
        }
    }

    fn descriptor(&self, ticket: Ticket) -> Descriptor {
        Descriptor::new(self.inner.id, ticket)
    }

    /// Whether nobody else has the block: no other name here, no other seat, no descriptor on its way.
    pub(super) fn is_sole(&self) -> bool {
        self.inner.state().is_some_and(|mut state| {
            let State { bufs, held, .. } = &mut *state;
            let held = &mut held[self.block as usize];
            let sole = held.names == 1 && held.holding.as_ref().is_some_and(|h| bufs.is_sole(h));
            held.alone |= sole;
            sole
        })
    }

    /// To be called of one that is [alone](Self::is_sole).
    pub(super) fn say(&self, contents: Contents) {
        if let Some(mut state) = self.inner.state() {
            let State { bufs, held, .. } = &mut *state;
            let held = &mut held[self.block as usize];
            held.how = Some(contents.how);
            held.holding.iter().for_each(|h| bufs.say(h, contents.said()));
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.counts {
            return;
        }
        if let Some(mut state) = self.inner.state() {
            let State { bufs, held, .. } = &mut *state;
            let held = &mut held[self.block as usize];
            held.names -= 1;
            if held.names == 0 {
                held.give_back(bufs);
            }
        }
    }
}

fn refusal(e: &bufs::ShareError) -> ShareError {
    match e {
        bufs::ShareError::Busy { block } => ShareError::Busy { block: *block },
        _ => ShareError::TooMany { most: IN_FLIGHT },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn two() -> (Pool, Pool) {
        let mut pools = Pool::threads(1, 64, 2).expect("a pool");
        let (b, a) = (pools.pop().expect("two"), pools.pop().expect("two"));
        (a, b)
    }

    /// A bad peer changes the word of the only buffer: it begins the body.
    fn change(pool: &Pool, to: impl Fn(u64) -> u64) {
        change_at(pool, 0, to);
    }

    fn change_at(pool: &Pool, offset: u64, change: impl Fn(u64) -> u64) {
        let (file, mut word) = (pool.segment().file(), [0; 8]);
        let at = pool.segment().reserve_offset() - pool.segment().body_len() as u64 + offset;
        file.read_exact_at(&mut word, at).expect("it is there");
        let changed = change(u64::from_ne_bytes(word));
        file.write_all_at(&changed.to_ne_bytes(), at).expect("it is there");
    }

    /// Between the look at who sits there and the look at what was recovered a newcomer can have sat down.
    #[test]
    fn a_newcomer_is_not_taken_for_one_of_its_dead_predecessors() {
        let (a, b) = two();
        let (seat, epoch) = (b.seat(), b.inner.member.owner().epoch());
        drop(b);
        let newcomer = a.try_clone().expect("a seat is free");
        assert_eq!(newcomer.seat(), seat, "it has the dead one's seat");
        let buf = newcomer.alloc::<u64>(8).expect("it is free").into_shared();
        let descriptor = buf.share().expect("there is a place");
        a.inner.free_what_was_held(&mut a.inner.lock(), seat, epoch);
        assert_eq!((a.stats().held, a.stats().in_flight), (1, 1));
        drop(buf);
        assert_eq!(a.adopt::<u64>(descriptor).expect("it stands").len(), 8);
    }

    #[test]
    fn who_is_called_a_holder_by_a_bad_peer_alone_can_adopt_share_and_let_go() {
        let (a, b) = two();
        let descriptor =
            a.alloc::<u64>(8).expect("it is free").into_shared().into_descriptor().expect("a ticket");
        change(&b, |word| word | 1 << b.seat());
        let adopted = b.adopt::<u64>(descriptor).expect("it stands");
        let again = adopted.share().expect("it is held");
        let handed = adopted.into_descriptor().expect("it is held");
        assert_eq!(a.adopt::<u64>(again).expect("it stands").len(), 8);
        drop(a.adopt::<u64>(handed).expect("it stands"));
        assert_eq!((a.stats().held, a.stats().in_flight), (0, 0));
    }

    #[test]
    fn a_buffer_that_a_bad_peer_calls_free_is_not_lent_to_its_holder_again() {
        let (a, _b) = two();
        let buf = a.alloc::<u64>(8).expect("it is free");
        change(&a, |word| word & !(u64::from(u32::MAX)));
        let said = a.alloc::<u64>(8).map(drop);
        assert!(matches!(said, Err(AllocError::Exhausted { .. })), "{said:?}");
        drop(buf);
        a.alloc::<u64>(8).expect("it is free");
    }

    #[test]
    fn a_descriptor_that_a_bad_peer_has_forged_opens_no_buffer_that_its_holder_has_alone() {
        let (a, b) = two();
        let buf = a.alloc::<u64>(8).expect("it is free").into_shared();
        let descriptor = buf.share().expect("there is a place");
        let tickets = 0xffff << 32;
        change(&b, |word| word & !tickets);
        let mut buf = buf.into_unique().expect("the word says so");
        change(&b, |word| word | 1 << (32 + a.seat()));
        let said = a.adopt::<u64>(descriptor).expect_err("it is had alone");
        assert!(matches!(said, AdoptError::Broken { block: 0, .. }), "{said}");
        buf.fill(7);
        // It is as it was, and can be sent and received again.
        let again = buf.into_descriptor().expect("it is held");
        assert_eq!(a.adopt::<u64>(again).expect("it stands")[7], 7);
    }

    #[test]
    fn a_buffer_that_is_read_here_is_not_written_here_because_a_bad_peer_says_so() {
        let (a, b) = two();
        let buf = a.alloc::<u64>(8).expect("it is free").into_shared();
        let descriptor = buf.share().expect("there is a place");
        change_at(&b, 8, |said| said + (1 << 56));
        let said = a.adopt_open::<u64>(descriptor).expect_err("it is read here");
        assert!(matches!(said, AdoptError::Broken { block: 0, .. }), "{said}");
    }

    #[test]
    fn figures_take_no_turn() {
        let (a, _b) = two();
        let (say, said) = std::sync::mpsc::channel();
        std::thread::scope(|s| {
            let turn = a.inner.lock();
            s.spawn(|| say.send(a.stats()).expect("it is waited for"));
            let came = said.recv_timeout(std::time::Duration::from_secs(30));
            drop(turn);
            assert_eq!(came.map(|stats| stats.held), Ok(0));
        });
    }
}
