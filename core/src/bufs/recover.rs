//! What the dead and those who left have left in an arena.

use super::handle::{TURNS, free_note};
use super::{Bufs, Header, Note, OwnSeat, Region, TICKETS, Word};
use crate::mem::{Atom, Bug, Mem, Ordering, Site};
use crate::owner::Owner;

/// What a recovery came upon.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// Blocks that the dead one held.
    pub held: u32,
    /// Tickets of its that were on their way, and are void.
    pub voided: u32,
}

impl<M: Mem, B: Region<M>> Bufs<M, B> {
    /// Clears everything that `dead` left in the arena: its holdings, and the tickets that it has issued. Needed before
    /// its seat may be used again: a newcomer calls this before it holds anything, with the name of its predecessor and
    /// with those of newcomers that died over that.
    ///
    /// `succeeded` says whether somebody else than this participant has taken the dead one's seat since: yes from the
    /// moment on in which the newcomer has the sole right to the seat, before it recovers anything, and for good; who
    /// has seen something that the newcomer did in the arena is told yes.
    ///
    /// # Errors
    /// [`OwnSeat`], where `dead`'s seat is our own, and we have held a block: whose is whose can't be told any more.
    pub fn recover(
        &mut self,
        dead: Owner,
        mut succeeded: impl FnMut(Owner) -> bool,
    ) -> Result<Recovered, OwnSeat> {
        if dead.seat() == self.me().seat() && !self.fresh {
            return Err(OwnSeat { seat: dead.seat() });
        }
        let mut recovered = Recovered::default();
        let mut over = Word::bit(dead.seat()).is_none();
        for block in 0..self.region().shape().blocks() {
            let header = self.region().header(block);
            if !M::broken(Bug::BufForgetTickets) {
                recovered.voided += void::<M>(header, |note| note.is_of(dead));
            }
            if !over {
                match take_out::<M>(header, dead, &mut succeeded) {
                    Some(held) => recovered.held += u32::from(held),
                    None => over = true,
                }
            }
        }
        Ok(recovered)
    }

    /// Makes every ticket void that this participant has issued and nobody has adopted yet. Says how many there were.
    pub fn recall(&mut self) -> u32 {
        let me = self.me();
        self.void_all(|note| note.is_of(me))
    }

    /// Makes the tickets of all void who have left in order. Says how many there were.
    pub fn void_left(&mut self) -> u32 {
        self.void_all(Note::has_left)
    }

    fn void_all(&mut self, which: impl Fn(Note) -> bool) -> u32 {
        let region = self.region();
        (0..region.shape().blocks()).map(|block| void::<M>(region.header(block), &which)).sum()
    }

    /// Lets the tickets of this participant stand without it: it issues no more, and whoever recovers its seat leaves
    /// them. Says how many there are.
    pub fn leave(&mut self) -> u32 {
        let (me, region) = (self.me(), self.region());
        let mut left = 0;
        for header in (0..region.shape().blocks()).map(|block| region.header(block)) {
            for word in &header.notes {
                let note = Note(word.load(Ordering::Relaxed));
                if note.is_of(me) {
                    // Pairs with BufLeftLoad.
                    let o = M::at(Site::BufLeave, Ordering::Release);
                    left += u32::from(word.cas(note.0, note.left().0, o).is_ok());
                }
            }
        }
        left
    }

    /// Blocks that somebody holds, and tickets on their way, by a look at every block.
    pub fn used(&self) -> (u32, u32) {
        let region = self.region();
        (0..region.shape().blocks()).fold((0, 0), |(held, tickets), block| {
            let w = Word(region.header(block).word.load(Ordering::Relaxed));
            (held + u32::from(w.holders() != 0), tickets + w.tickets().count_ones())
        })
    }

    /// The seats that hold blocks, and those whose tickets are on their way and who have not left, a bit each, by a
    /// look at every block.
    pub fn holders(&self) -> u32 {
        let region = self.region();
        (0..region.shape().blocks()).fold(0, |all, block| {
            let header = region.header(block);
            let w = Word(header.word.load(Ordering::Relaxed));
            let issuer = |bit: u32| {
                let note = Note(header.notes[bit as usize].load(Ordering::Relaxed));
                Word::bit(note.issuer().seat()).filter(|_| !note.has_left()).unwrap_or(0)
            };
            let tickets = (0..TICKETS).filter(|bit| w.has(*bit));
            tickets.fold(all | w.holders(), |all, bit| all | issuer(bit))
        })
    }
}

/// Takes the tickets of a block out whose notes are as `which` says.
fn void<M: Mem>(header: &Header<M>, which: impl Fn(Note) -> bool) -> u32 {
    let mut voided = 0;
    for bit in 0..TICKETS {
        // Pairs with BufLeave.
        let o = M::at(Site::BufLeftLoad, Ordering::Acquire);
        let first = Note(header.notes[bit as usize].load(o));
        if !which(first) {
            continue;
        }
        for _ in 0..TURNS {
            // Pairs with BufShare, as for who adopts: the note that is read next is this bit's.
            let w = Word(header.word.load(M::at(Site::BufRecoverLoad, Ordering::Acquire)));
            let note = Note(header.notes[bit as usize].load(Ordering::Relaxed));
            if note != first {
                break; // adopted, and perhaps had by another since
            }
            if w.has(bit) {
                if M::broken(Bug::BufNoteFreedFirst) {
                    free_note::<M>(header, bit, note);
                }
                // Pairs with BufLoanLoad and BufSoleLoad.
                let o = M::at(Site::BufRecover, Ordering::Release);
                if header.word.cas(w.0, w.without_ticket(bit).0, o).is_err() {
                    continue;
                }
                voided += 1;
            }
            free_note::<M>(header, bit, note);
            break;
        }
    }
    voided
}

/// Takes the dead one out of a block's holders: whether it was one. `None`: a newcomer has the seat, and what is left
/// is its own.
fn take_out<M: Mem>(
    header: &Header<M>,
    dead: Owner,
    succeeded: &mut impl FnMut(Owner) -> bool,
) -> Option<bool> {
    let bit = Word::bit(dead.seat())?;
    for _ in 0..TURNS {
        // Pairs with BufLoan and BufAdopt: a newcomer's bit shows that there is a newcomer.
        let w = Word(header.word.load(M::at(Site::BufRecoverLoad, Ordering::Acquire)));
        if w.holders() & bit == 0 {
            return Some(false);
        }
        if !M::broken(Bug::BufIgnoreSuccessor) && succeeded(dead) {
            return None;
        }
        // Pairs with BufLoanLoad and BufSoleLoad: the dead one's accesses come before this because of the proof of
        // death.
        let o = M::at(Site::BufRecover, Ordering::Release);
        if header.word.cas(w.0, w.without_holder(bit).0, o).is_ok() {
            return Some(true);
        }
        if M::broken(Bug::BufRecoverOnce) {
            break;
        }
    }
    Some(false)
}
