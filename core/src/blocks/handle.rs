//! One participant's handle: loan, send, receive, give back.
//!
//! # Safety
//! Nothing unsafe is done here but to promise, with [`Blocks::attach`], what the ring's handle promises: a block's
//! bytes are handed out as an address, and who may use it says [`Blocks::bytes`].
#![allow(unsafe_code)]

use core::fmt;
use core::marker::PhantomData;

use super::{
    Descriptor, DescriptorError, Exhausted, Flight, Header, Mail, Raw, ReceiveError, Region, SeatError,
    SendError, Word,
};
use crate::board::Buffer;
use crate::mem::{Atom, Bug, Mem, Ordering, Site};
use crate::owner::Owner;
use crate::ring::mpmc::{self, LAP_BITS};
use crate::ring::{PopError, PushError};

/// A block that this participant holds. It is given to [`send`](Blocks::send) or [`give_back`](Blocks::give_back), of
/// the handle that it came from; one that is dropped instead stays held until its holder has left or died, and
/// [`recover`](Blocks::recover) finds it.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "a block that is neither sent nor given back stays held until its holder's end"]
pub struct Block {
    pub(super) index: u32,
    pub(super) generation: u16,
}

impl Block {
    /// Its number.
    pub fn index(&self) -> u32 {
        self.index
    }
}

/// A block that was received.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "the block of a message stays held until it is given back"]
pub struct Message {
    /// The block.
    pub block: Block,
    /// Bytes of the message, from the start of the block.
    pub len: usize,
    /// The seat that sent it.
    pub sender: u32,
}

/// What a participant knows of the others, and does with what the dead leave.
pub trait Peers {
    /// False only for an owner that is proven to be dead, as was promised to [`attach`](Blocks::attach). Asked only
    /// where a call is blocked.
    fn alive(&mut self, owner: Owner) -> bool;

    /// Whether somebody else than this participant has taken `dead`'s seat since. Yes from the moment on in which the
    /// newcomer has the sole right to the seat, before it recovers anything, and for good; who has seen something that
    /// the newcomer did in the arena is told yes.
    fn succeeded(&mut self, dead: Owner) -> bool;

    /// A message whose reader died while it received; where messages are delivered again
    /// ([`Shape::redelivering`](super::Shape::redelivering)), also one whose reader died before it had given the block
    /// back. The block is this participant's now. A message that is returned is not wanted: its block is given back.
    fn orphan(&mut self, reader: Owner, message: Message) -> Option<Message>;

    /// An orphan that names a block it can't have: its reader had given the block back, or a bad peer has sent it.
    fn bad_orphan(&mut self, _reader: Owner, _error: DescriptorError) {}
}

/// Threads of one process, which do not die alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Immortal;

impl Peers for Immortal {
    fn alive(&mut self, _: Owner) -> bool {
        true
    }

    fn succeeded(&mut self, _: Owner) -> bool {
        true
    }

    fn orphan(&mut self, _: Owner, message: Message) -> Option<Message> {
        Some(message)
    }
}

/// One participant.
pub struct Blocks<M: Mem, B: Region<M>, R: mpmc::Region<M, Raw>> {
    pub(super) arena: Arena<M, B>,
    pub(super) ring: mpmc::Handle<M, Raw, R>,
    /// Which block to look at first.
    next: u32,
    /// Whether this participant has never held a block.
    pub(super) fresh: bool,
    /// Whether the blocks of its predecessors have been looked for.
    pub(super) cleared: bool,
}

/// What the ring's callbacks need of a handle.
pub(super) struct Arena<M: Mem, B: Region<M>> {
    pub(super) region: B,
    pub(super) me: Owner,
    bit: u64,
    _family: PhantomData<fn() -> M>,
}

impl<M: Mem, B: Region<M>, R: mpmc::Region<M, Raw>> fmt::Debug for Blocks<M, B, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocks").field("me", &self.arena.me).field("ring", &self.ring).finish_non_exhaustive()
    }
}

impl<M: Mem, B: Region<M>, R: mpmc::Region<M, Raw>> Blocks<M, B, R> {
    /// Takes part in the arena under the name that `ring` has.
    ///
    /// # Safety
    /// `ring` is the only ring whose messages name blocks of this arena, for all participants the same. No two
    /// handles that are used at the same time have one seat; a newcomer to a seat attaches, and recovers its
    /// predecessor in this arena, before it does anything else here.
    ///
    /// A block is given to the handle that it came from only: to [`bytes`](Self::bytes), [`send`](Self::send) and
    /// [`give_back`](Self::give_back). What is checked of it is that the arena has one of that number: another arena's
    /// block makes two holders of one of ours, though never an access outside.
    ///
    /// Nobody who may still act is called dead, neither by [`recover`](Self::recover) nor by what a [`Peers`] answers
    /// to [`alive`](Peers::alive), and [`succeeded`](Peers::succeeded) says yes as early as it promises. Else a block
    /// has two holders.
    ///
    /// # Errors
    /// [`SeatError`], for a seat that can hold no blocks.
    pub unsafe fn attach(region: B, ring: mpmc::Handle<M, Raw, R>) -> Result<Self, SeatError> {
        let (me, blocks) = (ring.me(), region.shape().blocks());
        let bit = Word::bit(me.seat()).ok_or_else(|| SeatError { seat: me.seat() })?;
        // Participants begin at different blocks, so that they meet seldom.
        let next = (u64::from(me.seat()) * u64::from(blocks) / u64::from(super::SEATS)) as u32;
        let arena = Arena { region, me, bit, _family: PhantomData };
        Ok(Blocks { arena, ring, next, fresh: true, cleared: false })
    }

    /// Under which name.
    pub fn me(&self) -> Owner {
        self.arena.me
    }

    /// The memory of the blocks.
    pub fn region(&self) -> &B {
        &self.arena.region
    }

    /// The ring that carries the messages. Only looks and [`close`](mpmc::Handle::close) are of use: messages are sent
    /// and received here.
    pub fn ring(&self) -> &mpmc::Handle<M, Raw, R> {
        &self.ring
    }

    /// Lends a block. What its bytes hold is not said.
    ///
    /// # Errors
    /// [`Exhausted`]: every block was held when it was looked at. Blocks that the dead hold come back by
    /// [`recover`](Self::recover) only; [`holders`](Self::holders) says whom to ask after.
    #[inline]
    pub fn loan(&mut self) -> Result<Block, Exhausted> {
        let shape = self.arena.region.shape();
        let mut index = self.next;
        for _ in 0..shape.blocks() {
            if index >= shape.blocks() {
                index = 0;
            }
            let header = self.arena.region.header(index);
            // Pairs with BlockFree and BlockRecover.
            let w = Word(header.word.load(M::at(Site::BlockLoanLoad, Ordering::Acquire)));
            if w.holders() == 0 {
                let mut mine = w.lent(self.arena.bit);
                if M::broken(Bug::BlockLoanSameGeneration) {
                    mine = Word::new(w.generation(), self.arena.bit);
                }
                // Pairs with BlockRecoverLoad.
                let o = M::at(Site::BlockLoan, Ordering::Release);
                if header.word.cas(w.0, mine.0, o).is_ok() {
                    let generation = mine.generation();
                    if !M::broken(Bug::BlockKeepsFlight) {
                        header.flight.store(Flight::none(generation).0, Ordering::Relaxed);
                    }
                    if shape.redelivers() && !M::broken(Bug::BlockKeepsMail) {
                        header.mail.store(Mail::none(generation).0, Ordering::Relaxed);
                    }
                    self.next = index + 1;
                    self.fresh = false;
                    return Ok(Block { index, generation });
                }
            }
            index += 1;
        }
        Err(Exhausted { blocks: shape.blocks(), bytes: shape.bytes() })
    }

    /// The bytes of a block: as many as the shape says, the holder's alone until it sends the block or gives it back.
    /// A message's are there as the sender left them.
    ///
    /// # Panics
    /// If the arena has no block of that number: it came from another one.
    #[inline(always)]
    pub fn bytes(&self, block: &Block) -> Buffer<'_, M> {
        self.refuse_foreign(block);
        self.arena.region.bytes(block.index)
    }

    /// The region trusts that it is asked for no other numbers.
    #[inline(always)]
    fn refuse_foreign(&self, block: &Block) {
        let blocks = self.arena.region.shape().blocks();
        if block.index >= blocks {
            foreign(block.index, blocks);
        }
    }

    /// Gives a block back.
    ///
    /// # Panics
    /// As for [`bytes`](Self::bytes).
    #[inline]
    pub fn give_back(&mut self, block: Block) {
        self.refuse_foreign(&block);
        self.next = block.index;
        self.arena.give_back(block);
    }

    /// Sends the first `len` bytes of a block, without a copy, and says at which position. The block is no longer ours.
    ///
    /// # Panics
    /// As for [`bytes`](Self::bytes).
    ///
    /// # Errors
    /// [`SendError`], with the block.
    #[inline]
    pub fn send(&mut self, block: Block, len: usize, peers: &mut impl Peers) -> Result<u64, SendError> {
        let (shape, seat) = (self.arena.region.shape(), self.arena.me.seat());
        let generation = block.generation;
        let early = M::broken(Bug::BlockMailEarly);
        let mail = if early { Mail::kept(generation, seat, len) } else { Mail::sent(generation, seat, len) };
        self.push(block, len, shape.redelivers().then_some(mail), peers)
    }

    /// Sends a message on that came as an orphan: whoever dies on the way, it is one that was received before. Else as
    /// [`send`](Self::send).
    ///
    /// # Panics
    /// As for [`bytes`](Self::bytes).
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    #[cold]
    pub fn resend(&mut self, message: Message, peers: &mut impl Peers) -> Result<u64, SendError> {
        let Message { block, len, sender } = message;
        if !self.arena.region.shape().redelivers() || M::broken(Bug::BlockResendAsNew) {
            return self.send(block, len, peers);
        }
        self.refuse_foreign(&block);
        // A store: whoever may still want to raise the mail expects an older one.
        let mail = Mail::kept(block.generation, sender, len);
        self.arena.region.header(block.index).mail.store(mail.0, Ordering::Relaxed);
        self.push(block, len, None, peers)
    }

    #[inline(always)]
    fn push(
        &mut self,
        block: Block,
        len: usize,
        mail: Option<Mail>,
        peers: &mut impl Peers,
    ) -> Result<u64, SendError> {
        let most = self.arena.region.shape().bytes();
        if len > most {
            return Err(SendError::TooLong { len, most, block });
        }
        self.refuse_foreign(&block);
        let Block { index, generation } = block;
        let sender = self.arena.me.seat() as u16; // below SEATS
        let descriptor = Descriptor { block: index, generation, sender, len: len as u64 };
        let header = self.arena.region.header(index);
        let fly = |at| {
            header.flight.store(Flight::new(generation, at).0, Ordering::Relaxed);
            if let Some(mail) = mail {
                header.mail.store(mail.0, Ordering::Relaxed);
            }
        };
        let make = |at| {
            if !M::broken(Bug::BlockFlightLate) {
                fly(at); // published with the descriptor
            }
            descriptor.to_raw()
        };
        let shift = self.ring.region().shift();
        let mut orphans = Orphans { arena: &self.arena, peers, shift, fresh: &mut self.fresh };
        let sent = self.ring.try_push_with(make, &mut orphans);
        if M::broken(Bug::BlockFlightLate) {
            sent.into_iter().for_each(fly);
        }
        sent.map_err(|e| {
            let block = Block { index, generation };
            match e {
                PushError::Full(()) => SendError::Full(block),
                PushError::Closed(()) => SendError::Closed(block),
                PushError::Busy { owner, .. } => SendError::Busy { owner, block },
            }
        })
    }

    /// Receives the oldest message.
    ///
    /// # Errors
    /// [`ReceiveError`].
    #[inline]
    pub fn receive(&mut self, peers: &mut impl Peers) -> Result<Message, ReceiveError> {
        let (arena, shift) = (&self.arena, self.ring.region().shift());
        let mut orphans = Orphans { arena, peers, shift, fresh: &mut self.fresh };
        let received = if M::broken(Bug::BlockTakeLate) {
            self.ring.try_pop(&mut orphans).map(|(_, raw)| arena.take(raw))
        } else {
            self.ring.try_pop_with(|_, raw| arena.take(raw), &mut orphans)
        };
        match received {
            Ok(Ok(message)) => {
                self.fresh = false;
                Ok(message)
            }
            Ok(Err(e)) => Err(ReceiveError::Bad(e)),
            Err(PopError::Empty) => Err(ReceiveError::Empty),
            Err(PopError::Drained) => Err(ReceiveError::Drained),
            Err(PopError::Busy { owner }) => Err(ReceiveError::Busy { owner }),
        }
    }

    /// Whether a receive would find a message now; somebody else may be faster. What belongs to the dead is buried on
    /// the way, as by a receive.
    ///
    /// # Errors
    /// What a receive would say, but for what it would find wrong with the message.
    pub fn has_message(&mut self, peers: &mut impl Peers) -> Result<(), ReceiveError> {
        let (arena, shift) = (&self.arena, self.ring.region().shift());
        let mut orphans = Orphans { arena, peers, shift, fresh: &mut self.fresh };
        self.ring.has_message(&mut orphans).map_err(|e| match e {
            PopError::Empty => ReceiveError::Empty,
            PopError::Drained => ReceiveError::Drained,
            PopError::Busy { owner } => ReceiveError::Busy { owner },
        })
    }

    /// Takes over what the dead were receiving: see [`mpmc::Handle::recover_readers`].
    pub fn recover_readers(&mut self, peers: &mut impl Peers) {
        let (arena, shift) = (&self.arena, self.ring.region().shift());
        let mut orphans = Orphans { arena, peers, shift, fresh: &mut self.fresh };
        self.ring.recover_readers(&mut orphans);
    }

    /// Whether a block is free now, by a look at every block; somebody else may be faster.
    pub fn has_free(&self) -> bool {
        let region = &self.arena.region;
        let free = |i| Word(region.header(i).word.load(Ordering::Relaxed)).holders() == 0;
        (0..region.shape().blocks()).any(free)
    }

    /// The seats that hold blocks, have sent blocks which nobody has received yet, or are in the middle of receiving, a
    /// bit each, by a look at every block and at every slot of the ring.
    pub fn holders(&self) -> u64 {
        let (region, ring) = (&self.arena.region, self.ring.region());
        let held = |i| Word(region.header(i).word.load(Ordering::Relaxed)).holders();
        let holders = (0..region.shape().blocks()).fold(0, |all, i| all | held(i));
        (0..1u64 << ring.shift()).fold(holders, |all, at| all | receiving(ring.slot(at).word()))
    }

    /// Where messages are delivered again: the seats that have one which may come back, because they have received it
    /// and not given its block back, or are in the middle of receiving. By a look at every slot and every block; a
    /// message that stays received while this looks is found, whoever takes it over.
    pub fn readers(&self) -> u64 {
        let (region, ring) = (&self.arena.region, self.ring.region());
        // The slots first: a reader has its bit in the block before it gives the slot back.
        let slots = (0..1u64 << ring.shift()).fold(0, |all, at| all | receiving(ring.slot(at).word()));
        let received = |i| {
            let header = region.header(i);
            let w = header.word();
            let mail = Mail(header.mail.load(Ordering::Relaxed));
            if mail.is_of(w) { w.holders() } else { 0 }
        };
        (0..region.shape().blocks()).fold(slots, |all, i| all | received(i))
    }
}

/// Whoever has begun to receive may not have its bit in the block yet: the sender's is there.
fn receiving(slot: mpmc::Word) -> u64 {
    match slot.state() {
        mpmc::State::Reading => Word::bit(slot.owner().seat()).unwrap_or(0),
        _ => 0,
    }
}

#[cold]
#[inline(never)]
fn foreign(index: u32, blocks: u32) -> ! {
    panic!("block {index} is none of this arena's {blocks}: it came from another one")
}

impl<M: Mem, B: Region<M>> Arena<M, B> {
    #[inline(always)]
    pub(super) fn give_back(&self, block: Block) {
        let free = Word::new(block.generation, 0);
        // Pairs with BlockLoanLoad. A store: our bit is in the word, and nobody else changes it.
        let o = M::at(Site::BlockFree, Ordering::Release);
        self.region.header(block.index).word.store(free.0, o);
    }

    /// The header that a descriptor names, its sender's bit, and its length, once all is checked.
    #[inline(always)]
    fn check(&self, d: Descriptor) -> Result<(&Header<M>, u64, usize), DescriptorError> {
        let shape = self.region.shape();
        if d.block >= shape.blocks() {
            return Err(DescriptorError::Block { block: d.block, blocks: shape.blocks() });
        }
        let len = usize::try_from(d.len).ok().filter(|len| *len <= shape.bytes());
        let len = len.ok_or_else(|| DescriptorError::Length { len: d.len, most: shape.bytes() })?;
        let seat = u32::from(d.sender);
        let sender = Word::bit(seat).ok_or(DescriptorError::Sender { seat })?;
        Ok((self.region.header(d.block), sender, len))
    }

    /// Takes the block of a message whose slot was Full and is now in our name: its word is the sender's exactly.
    #[inline(always)]
    fn take(&self, raw: Raw) -> Result<Message, DescriptorError> {
        let d = Descriptor::from_raw(raw);
        let (header, sender, len) = self.check(d)?;
        self.change_hands(header, Word::new(d.generation, sender), d, len)
    }

    /// Takes the block of an orphan, whose slot we have taken over: its word is the sender's or of a reader that died.
    #[cold]
    fn take_orphan(&self, at: u64, shift: u32, raw: Raw) -> Result<Message, DescriptorError> {
        let d = Descriptor::from_raw(raw);
        let (header, _, len) = self.check(d)?;
        // Relaxed: who wrote these has sent the message, or is dead.
        let w = Word(header.word.load(Ordering::Relaxed));
        let flight = Flight(header.flight.load(Ordering::Relaxed));
        let here = flight.is_of(w) && flight.is_at(at, LAP_BITS + shift);
        let here = here || M::broken(Bug::BlockOrphanUnchecked);
        if w.holders() == 0 || !here {
            return Err(DescriptorError::Stale { block: d.block, generation: d.generation, found: w });
        }
        if flight.generation() != w.generation() && !M::broken(Bug::BlockFlightFallsBehind) {
            header.flight.store(Flight::new(w.generation(), flight.position()).0, Ordering::Relaxed);
        }
        if self.region.shape().redelivers() && !M::broken(Bug::BlockOrphanMailFallsBehind) {
            let mail = Mail(header.mail.load(Ordering::Relaxed));
            // Else it was sent in this generation.
            if mail.generation() != w.generation() {
                let kept = Mail::kept(w.generation(), u32::from(d.sender), len);
                header.mail.store(kept.0, Ordering::Relaxed);
            }
        }
        self.change_hands(header, w, d, len)
    }

    /// Takes a block that the dead had received, and that is in flight no more: its word was `w`, whose mail is `mail`.
    /// `Stale`: another one was faster.
    #[cold]
    pub(super) fn retake(&self, block: u32, w: Word, mail: Mail) -> Result<Message, DescriptorError> {
        let (generation, sender) = (w.generation(), mail.sender() as u16); // below 64
        let d = Descriptor { block, generation, sender, len: mail.len() };
        let (header, _, len) = self.check(d)?;
        let kept = Mail::kept(generation, mail.sender(), len).0;
        if M::broken(Bug::BlockMailByStore) {
            header.mail.store(kept, Ordering::Relaxed);
        } else if mail.generation() != generation && !M::broken(Bug::BlockMailFallsBehind) {
            // By a CAS, because others may do the same, and be late. Losing the race is fine: the mail is raised.
            let _ = header.mail.cas(mail.0, kept, Ordering::Relaxed);
        }
        self.change_hands(header, w, d, len)
    }

    #[inline(always)]
    fn change_hands(
        &self,
        header: &Header<M>,
        w: Word,
        d: Descriptor,
        len: usize,
    ) -> Result<Message, DescriptorError> {
        let kept = M::broken(Bug::BlockSameGeneration);
        let generation = if kept { w.generation() } else { w.generation().wrapping_add(1) };
        let mine = Word::new(generation, self.bit);
        // Pairs with BlockRecoverLoad.
        match header.word.cas(w.0, mine.0, M::at(Site::BlockTake, Ordering::Release)) {
            Ok(_) => {
                let block = Block { index: d.block, generation };
                Ok(Message { block, len, sender: u32::from(d.sender) })
            }
            Err(found) => {
                let found = Word(found);
                Err(DescriptorError::Stale { block: d.block, generation: d.generation, found })
            }
        }
    }
}

/// The ring's view of the peers: orphans come with their blocks.
pub(super) struct Orphans<'a, M: Mem, B: Region<M>, P> {
    pub(super) arena: &'a Arena<M, B>,
    pub(super) peers: &'a mut P,
    pub(super) shift: u32,
    pub(super) fresh: &'a mut bool,
}

impl<M: Mem, B: Region<M>, P: Peers> mpmc::Peers<Raw> for Orphans<'_, M, B, P> {
    fn alive(&mut self, owner: Owner) -> bool {
        self.peers.alive(owner)
    }

    fn orphan(&mut self, at: u64, reader: Owner, raw: Raw) {
        match self.arena.take_orphan(at, self.shift, raw) {
            Ok(message) => match self.peers.orphan(reader, message) {
                Some(unwanted) => self.arena.give_back(unwanted.block),
                None => *self.fresh = false,
            },
            Err(e) => self.peers.bad_orphan(reader, e),
        }
    }
}
