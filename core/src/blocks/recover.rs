//! What the dead leave in an arena.

use super::handle::Orphans;
use super::word::POSITION_BITS;
use super::{Blocks, DescriptorError, Flight, Mail, OwnSeat, Peers, Raw, Region, Word};
use crate::mem::{Atom, Bug, Mem, Ordering, Site};
use crate::owner::Owner;
use crate::ring::mpmc::{self, LAP_BITS, State};

/// What a recovery came upon.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// Blocks that the dead one held, which are free now.
    pub freed: u32,
    /// How many of those it had received: their messages are lost with it. The others it had not sent.
    pub received: u32,
    /// Blocks that the dead one had received, which have come to us as orphans: messages are delivered again.
    pub redelivered: u32,
    /// Blocks that the dead one has sent, or was receiving, which are still on their way to somebody.
    pub in_flight: u32,
}

impl<M: Mem, B: Region<M>, R: mpmc::Region<M, Raw>> Blocks<M, B, R> {
    /// Clears everything that `dead` left in the arena and in its ring; messages that it was receiving come to `peers`
    /// as orphans. Needed before its seat may be used again: a newcomer calls this, before it loans or receives, with
    /// the name of its predecessor and with those of newcomers that died over that. Messages that it has sent stay on
    /// their way. That it is dead has been promised to [`attach`](Self::attach).
    ///
    /// # Errors
    /// [`OwnSeat`], where `dead`'s seat is our own, and we have held a block before the first recovery of our seat:
    /// whose is whose can't be told any more.
    pub fn recover(&mut self, dead: Owner, peers: &mut impl Peers) -> Result<Recovered, OwnSeat> {
        // A bit stands for all who have had the seat, so our own is looked for once, before it can be ours.
        let own = dead.seat() == self.me().seat();
        if own && !self.cleared && !self.fresh {
            return Err(OwnSeat { seat: dead.seat() });
        }
        let done = own && core::mem::replace(&mut self.cleared, true);
        let mut recovered = Recovered::default();
        if M::broken(Bug::BlockRingFirst) {
            self.recover_ring(dead, peers);
        }
        if let Some(bit) = Word::bit(dead.seat()).filter(|_| !done) {
            for index in 0..self.region().shape().blocks() {
                if !self.recover_block(index, bit, dead, peers, &mut recovered) {
                    break;
                }
            }
        }
        self.recover_ring(dead, peers);
        Ok(recovered)
    }

    fn recover_ring(&mut self, dead: Owner, peers: &mut impl Peers) {
        let shift = self.ring.region().shift();
        let mut orphans = Orphans { arena: &self.arena, peers, shift, fresh: &mut self.fresh };
        self.ring.recover(dead, &mut orphans);
    }

    /// False: a newcomer has the seat, and what is left is its own.
    fn recover_block(
        &mut self,
        index: u32,
        bit: u64,
        dead: Owner,
        peers: &mut impl Peers,
        recovered: &mut Recovered,
    ) -> bool {
        let redelivers = self.region().shape().redelivers();
        let header = self.arena.region.header(index);
        // Pairs with BlockLoan and BlockTake: a newcomer's block shows that there is a newcomer.
        let w = Word(header.word.load(M::at(Site::BlockRecoverLoad, Ordering::Acquire)));
        if w.holders() & bit == 0 {
            return true;
        }
        if !M::broken(Bug::BlockIgnoreSuccessor) && peers.succeeded(dead) {
            return false;
        }
        let flight = Flight(header.flight.load(Ordering::Relaxed));
        if self.is_in_flight(flight, w) && !M::broken(Bug::BlockFreeInFlight) {
            recovered.in_flight += 1;
            return true;
        }
        let mail = Mail(header.mail.load(Ordering::Relaxed));
        if redelivers && mail.is_of(w) && !M::broken(Bug::BlockForgetMail) {
            match self.arena.retake(index, w, mail) {
                Ok(message) => {
                    match peers.orphan(dead, message) {
                        None => {
                            recovered.redelivered += 1;
                            self.fresh = false;
                        }
                        Some(unwanted) => {
                            self.arena.give_back(unwanted.block);
                            recovered.freed += 1;
                            recovered.received += 1;
                        }
                    }
                    return true;
                }
                Err(DescriptorError::Stale { .. }) => return true,
                // A mail that can't be: a bad peer's. The block is free at least.
                Err(e) => peers.bad_orphan(dead, e),
            }
        }
        // Who receives a block raises its generation over the flight's; who sends it does not, and who is lent it has
        // reset the flight.
        let was_received = flight.is_of(w) && flight.generation() != w.generation();
        // Pairs with BlockLoanLoad. Losing the race is fine: the block has changed hands, or is free.
        let o = M::at(Site::BlockRecover, Ordering::Release);
        if header.word.cas(w.0, w.without(bit).0, o).is_ok() {
            recovered.freed += 1;
            recovered.received += u32::from(was_received);
        }
        true
    }

    /// Whether a block, whose words are these, travels in a message that somebody will receive.
    fn is_in_flight(&self, flight: Flight, w: Word) -> bool {
        let ring = self.ring.region();
        let (slot, lap) = (ring.slot(flight.position()).word(), flight.position() >> ring.shift());
        let known = LAP_BITS.min(POSITION_BITS - ring.shift());
        let same_lap = (slot.lap() ^ lap) & ((1 << known) - 1) == 0;
        flight.is_of(w) && same_lap && matches!(slot.state(), State::Full | State::Reading)
    }
}
