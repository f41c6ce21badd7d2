//! One participant's handle: loan, share, hand over, adopt, let go.
//!
//! # Safety
//! Nothing unsafe is done here but to ask, with [`Bufs::attach`], for what the handle's promises rest on: a block's
//! bytes are handed out as an address, and who may use it says [`Bufs::bytes`].
#![allow(unsafe_code)]

use core::fmt;
use core::marker::PhantomData;

use super::{
    Exhausted, Header, Note, Region, SEATS, SeatError, ShareError, TICKETS, Ticket, TicketError, Word,
};
use crate::board::Buffer;
use crate::mem::{Atom, Bug, Mem, Ordering, Site};
use crate::owner::Owner;

/// How often a CAS is tried that only others' success can make fail.
pub(super) const TURNS: u32 = 1 << 10;

/// A block that this participant's seat holds. It is given to [`give_back`](Bufs::give_back) or
/// [`hand_over`](Bufs::hand_over) of the handle that it came from; one that is dropped instead stays held until its
/// holder has left or died and was recovered.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "a block that is neither handed over nor given back stays held until its holder's end"]
pub struct Holding {
    pub(super) block: u32,
}

impl Holding {
    /// The number of the block.
    pub fn block(&self) -> u32 {
        self.block
    }
}

/// What became of a ticket.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "the block stays held until it is given back"]
pub enum Adopted {
    /// The block is held by this participant's seat now.
    New(Holding),
    /// It was before, or so the block's word says: the ticket is taken out, and the seat holds the block once, as a
    /// set does. To be given back once too; who knows of no other holding of the block has met a bad peer, and has
    /// this one.
    Again(Holding),
}

/// One participant.
pub struct Bufs<M: Mem, B: Region<M>> {
    region: B,
    me: Owner,
    pub(super) bit: u32,
    /// Which block to look at first.
    next: u32,
    /// Whether this participant has never held a block.
    pub(super) fresh: bool,
    _family: PhantomData<fn() -> M>,
}

impl<M: Mem, B: Region<M>> fmt::Debug for Bufs<M, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bufs").field("me", &self.me).finish_non_exhaustive()
    }
}

impl<M: Mem, B: Region<M>> Bufs<M, B> {
    /// Takes part in the arena as `me`.
    ///
    /// # Safety
    /// No two handles that are used at the same time have one seat; a newcomer to a seat attaches, and recovers its
    /// predecessors in this arena, before it does anything else here.
    ///
    /// # Errors
    /// [`SeatError`], for a seat that can hold no blocks.
    pub unsafe fn attach(region: B, me: Owner) -> Result<Self, SeatError> {
        let bit = Word::bit(me.seat()).ok_or_else(|| SeatError { seat: me.seat() })?;
        let blocks = region.shape().blocks();
        // Participants begin at different blocks, so that they meet seldom.
        let next = (u64::from(me.seat()) * u64::from(blocks) / u64::from(SEATS)) as u32;
        Ok(Bufs { region, me, bit, next, fresh: true, _family: PhantomData })
    }

    /// Under which name.
    pub fn me(&self) -> Owner {
        self.me
    }

    /// The memory of the blocks.
    pub fn region(&self) -> &B {
        &self.region
    }

    /// Lends a block, to this seat alone. What its bytes hold is not said.
    ///
    /// # Errors
    /// [`Exhausted`]: every block was held, or on its way, when it was looked at. What the dead hold comes back by
    /// [`recover`](Self::recover) only.
    #[inline]
    pub fn loan(&mut self) -> Result<Holding, Exhausted> {
        let shape = self.region.shape();
        let mut block = self.next;
        for _ in 0..shape.blocks() {
            if block >= shape.blocks() {
                block = 0;
            }
            let header = self.region.header(block);
            // Pairs with BufDrop and BufRecover.
            let w = Word(header.word.load(M::at(Site::BufLoanLoad, Ordering::Acquire)));
            if w.is_free() || M::broken(Bug::BufLoanOverTickets) && w.holders() == 0 {
                let grown = if M::broken(Bug::BufLoanSameGeneration) { w } else { w.next() };
                // Pairs with BufRecoverLoad.
                let o = M::at(Site::BufLoan, Ordering::Release);
                if header.word.cas(w.0, grown.with_holder(self.bit).0, o).is_ok() {
                    self.next = block + 1;
                    self.fresh = false;
                    return Ok(Holding { block });
                }
            }
            block += 1;
        }
        Err(Exhausted { blocks: shape.blocks(), bytes: shape.bytes() })
    }

    /// The bytes of a block: as many as the shape says. Its holders' to read; to write only while
    /// [`is_sole`](Self::is_sole), or by an agreement of all who hold it.
    #[inline(always)]
    pub fn bytes(&self, holding: &Holding) -> Buffer<'_, M> {
        self.region.bytes(holding.block)
    }

    /// Two words about the bytes, which whoever adopts a ticket finds as they were when it was issued. To be called
    /// while the block [is](Self::is_sole) this seat's alone.
    pub fn say(&mut self, holding: &Holding, said: [u64; 2]) {
        let words = &self.region.header(holding.block).said;
        words.iter().zip(said).for_each(|(word, said)| word.store(said, Ordering::Relaxed));
    }

    /// What the last one who was alone with the block said of its bytes. A bad peer may have said anything.
    #[inline]
    pub fn said(&self, block: u32) -> [u64; 2] {
        let said = &self.region.header(block.min(self.region.shape().blocks() - 1)).said;
        [said[0].load(Ordering::Relaxed), said[1].load(Ordering::Relaxed)]
    }

    /// Whether no other seat holds the block and no ticket of it is on its way. Once so, it stays so until this seat
    /// issues a ticket; everything that others did with the block has been done before.
    #[inline]
    pub fn is_sole(&self, holding: &Holding) -> bool {
        let header = self.region.header(holding.block);
        // Pairs with BufDrop and BufRecover.
        let w = Word(header.word.load(M::at(Site::BufSoleLoad, Ordering::Acquire)));
        w.holders() == self.bit && w.tickets() == 0
    }

    /// Issues a ticket for a block, with which another participant (or this one) becomes a holder too.
    ///
    /// # Errors
    /// [`ShareError`].
    #[inline]
    pub fn share(&mut self, holding: &Holding) -> Result<Ticket, ShareError> {
        self.issue(holding.block, |w| w)
    }

    /// Issues a ticket that takes the place of the holding: the block is no longer ours.
    ///
    /// # Errors
    /// [`ShareError`], with the holding.
    #[inline]
    pub fn hand_over(&mut self, holding: Holding) -> Result<Ticket, (ShareError, Holding)> {
        let bit = self.bit;
        if M::broken(Bug::BufGiveInTwoSteps) {
            self.let_go(holding.block);
        }
        self.issue(holding.block, |w| w.without_holder(bit)).map_err(|e| (e, holding))
    }

    fn issue(&mut self, block: u32, change: impl Fn(Word) -> Word) -> Result<Ticket, ShareError> {
        let header = self.region.header(block);
        let late = M::broken(Bug::BufNoteLate);
        let claimed = self.claim(header).or_else(|| self.claim_leftover(header));
        let (bit, from, note) = claimed.ok_or(ShareError::TooMany { block, most: TICKETS })?;
        let mut w = Word(header.word.load(Ordering::Relaxed));
        for _ in 0..TURNS {
            let grown = if M::broken(Bug::BufShareSameGeneration) { w } else { w.next() };
            // Pairs with BufAdoptLoad.
            let o = M::at(Site::BufShare, Ordering::Release);
            match header.word.cas(w.0, change(grown.with_ticket(bit)).0, o) {
                Ok(_) => {
                    if late {
                        let _ = header.notes[bit as usize].cas(from.0, note.0, Ordering::Relaxed);
                    }
                    return Ok(Ticket { block, bit, serial: note.serial() });
                }
                Err(found) => w = Word(found),
            }
        }
        free_note::<M>(header, bit, note);
        Err(ShareError::Busy { block })
    }

    /// A note that nobody has: its bit, what it was, and what it is.
    #[inline]
    fn claim(&self, header: &Header<M>) -> Option<(u32, Note, Note)> {
        // Issuers begin at different notes, so that they meet seldom.
        let mut bits = (0..TICKETS).map(|i| (i + self.me.seat()) % TICKETS);
        bits.find_map(|bit| {
            let note = Note(header.notes[bit as usize].load(Ordering::Relaxed));
            if note.is_free() { self.claim_note(header, bit, note) } else { None }
        })
    }

    fn claim_note(&self, header: &Header<M>, bit: u32, note: Note) -> Option<(u32, Note, Note)> {
        let mine = note.claimed(self.me);
        if M::broken(Bug::BufNoteLate) {
            return Some((bit, note, mine));
        }
        header.notes[bit as usize].cas(note.0, mine.0, Ordering::Relaxed).ok().map(|_| (bit, note, mine))
    }

    /// A note whose ticket was adopted by one that died before it freed the note: ours, and nobody issues tickets in
    /// our name now but we; or of one who has left, and issues no more.
    #[cold]
    fn claim_leftover(&self, header: &Header<M>) -> Option<(u32, Note, Note)> {
        (0..TICKETS).find_map(|bit| {
            // Pairs with BufLeave: of a ticket that stands alone we see in the word that it was issued.
            let o = M::at(Site::BufLeftLoad, Ordering::Acquire);
            let note = Note(header.notes[bit as usize].load(o));
            let stands = Word(header.word.load(Ordering::Relaxed)).has(bit);
            let over = !stands || M::broken(Bug::BufNoteReused);
            let leftover = over && (note.is_of(self.me) || note.has_left());
            if leftover { self.claim_note(header, bit, note) } else { None }
        })
    }

    /// Makes this seat a holder of a ticket's block; the ticket is void from then on.
    ///
    /// # Errors
    /// [`TicketError`]; nothing was touched.
    #[inline]
    pub fn adopt(&mut self, ticket: Ticket) -> Result<Adopted, TicketError> {
        let (block, blocks) = (ticket.block, self.region.shape().blocks());
        if block >= blocks {
            return Err(TicketError::Block { block, blocks });
        }
        if ticket.bit >= TICKETS {
            return Err(TicketError::Bit { bit: ticket.bit });
        }
        let header = self.region.header(block);
        for _ in 0..TURNS {
            // Pairs with BufShare.
            let w = Word(header.word.load(M::at(Site::BufAdoptLoad, Ordering::Acquire)));
            let note = Note(header.notes[ticket.bit as usize].load(Ordering::Relaxed));
            let same = note.serial() == ticket.serial && !note.is_free();
            if !w.has(ticket.bit) || !same && !M::broken(Bug::BufAdoptUnchecked) {
                return Err(TicketError::Stale { block, serial: ticket.serial, found: note });
            }
            if M::broken(Bug::BufNoteFreedFirst) {
                free_note::<M>(header, ticket.bit, note);
            }
            let mine = w.without_ticket(ticket.bit).with_holder(self.bit);
            // Pairs with BufRecoverLoad.
            if header.word.cas(w.0, mine.0, M::at(Site::BufAdopt, Ordering::Release)).is_ok() {
                free_note::<M>(header, ticket.bit, note);
                self.fresh = false;
                let again = w.holders() & self.bit != 0;
                let holding = Holding { block };
                return Ok(if again { Adopted::Again(holding) } else { Adopted::New(holding) });
            }
        }
        Err(TicketError::Busy { block })
    }

    /// Lets a block go.
    ///
    /// # Errors
    /// The holding, where others were faster, more often than can be: a bad peer. It can be tried again; else the block
    /// stays held until this seat is recovered.
    #[inline]
    pub fn give_back(&mut self, holding: Holding) -> Result<(), Holding> {
        self.next = holding.block;
        if self.let_go(holding.block) { Ok(()) } else { Err(holding) }
    }

    fn let_go(&self, block: u32) -> bool {
        let header = self.region.header(block);
        let mut w = Word(header.word.load(Ordering::Relaxed));
        for _ in 0..TURNS {
            // Pairs with BufLoanLoad and BufSoleLoad.
            let o = M::at(Site::BufDrop, Ordering::Release);
            match header.word.cas(w.0, w.without_holder(self.bit).0, o) {
                Ok(_) => return true,
                Err(found) => w = Word(found),
            }
        }
        false
    }
}

/// Frees a note whose bit was taken out of the word. Where it is another by now, somebody else has.
pub(super) fn free_note<M: Mem>(header: &Header<M>, bit: u32, note: Note) {
    let word = &header.notes[bit as usize];
    if let Err(found) = word.cas(note.0, note.freed().0, Ordering::Relaxed)
        && found == note.left().0
    {
        // Its issuer has left meanwhile.
        let _ = word.cas(found, note.freed().0, Ordering::Relaxed);
    }
}
