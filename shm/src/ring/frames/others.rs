//! What a participant knows of the others, and does about what the dead have left.

use std::sync::Arc;

use sapwood_core::blocks::{self, Immortal};
use sapwood_core::owner::Owner;

use super::super::PopError;
use super::super::member::{Watch, is_dead};
use super::Frames;
use crate::segment::Segment;

/// What this participant knows of the others, and has of the dead.
#[derive(Debug)]
pub(super) struct Others {
    pub(super) segment: Option<Arc<Segment>>,
    loans: Watch,
    sends: Watch,
    receives: Watch,
    rescues: Watch,
    pub(super) at_once: bool,
    pub(super) me: usize,
    pub(super) orphans: Vec<blocks::Message>,
    /// How many orphans this handle may have.
    most: usize,
    /// Whether somebody was found dead since this was last asked.
    pub(super) news: bool,
    pub(super) stats: Stats,
}

/// What the dead had, as far as this handle had to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Frames that were delivered again: their reader died before its receive returned, or, where the frames of dead
    /// readers are delivered again, before it had given them back.
    pub redelivered: u64,
    /// Frames that were received by one that died before it gave them back.
    pub lost_with_reader: u64,
}

impl Others {
    /// Of one of `seats` participants. `again`: how many frames there are, where those of dead readers are delivered
    /// again.
    pub(super) fn new(seats: usize, again: Option<usize>) -> Self {
        let [loans, sends, receives, rescues] = Default::default();
        let orphans = Vec::with_capacity(seats);
        let stats = Stats::default();
        Others {
            segment: None,
            loans,
            sends,
            receives,
            rescues,
            at_once: false,
            me: usize::MAX,
            orphans,
            most: again.unwrap_or(seats),
            news: false,
            stats,
        }
    }

    /// Whether `owner`, who blocks a send, is proven to be dead.
    pub(super) fn blocks_a_send(&mut self, owner: Owner) -> bool {
        let asks = || self.at_once || self.sends.is_due();
        let dead = self.segment.as_ref().is_some_and(|s| is_dead(s, owner, asks));
        self.news |= dead;
        dead
    }

    pub(super) fn recovered(&mut self, what: Result<blocks::Recovered, blocks::OwnSeat>) {
        self.news = true;
        // It fails only for a handle's own seat, after it has held a block: never here.
        self.stats.lost_with_reader += what.map_or(0, |what| u64::from(what.received));
    }
}

impl blocks::Peers for Others {
    /// Asked by receives only.
    fn alive(&mut self, owner: Owner) -> bool {
        let asks = || self.at_once || self.receives.is_due();
        let dead = self.segment.as_ref().is_some_and(|s| is_dead(s, owner, asks));
        self.news |= dead;
        !dead
    }

    fn succeeded(&mut self, dead: Owner) -> bool {
        let seat = dead.seat() as usize;
        // Our own seat is recovered by us, before we are in it.
        let others = self.segment.as_ref().filter(|_| seat != self.me);
        others.is_some_and(|segment| segment.owner_succeeded(seat, dead.epoch()))
    }

    fn orphan(&mut self, _: Owner, message: blocks::Message) -> Option<blocks::Message> {
        // There is room for one of every seat, and a seat receives one message at a time; where it may have more, for
        // one of every frame.
        if self.orphans.len() >= self.most {
            return Some(message);
        }
        self.orphans.push(message);
        None
    }
}

impl Frames {
    /// No frame is free: what the dead hold is.
    #[cold]
    pub(super) fn free_the_dead(&mut self) {
        let Some(segment) = self.others.segment.clone() else { return };
        if !self.others.at_once && !self.others.loans.is_due() {
            return;
        }
        // What the dead were receiving is in their senders' names, and nobody may have a frame to come round to it.
        self.unearth();
        self.send_orphans();
        self.recover_dead(&segment, self.inner.holders(), true);
    }

    /// Recovers the dead among the seats of a set. What comes of it goes on its way again at once, or stays here for
    /// who has asked.
    fn recover_dead(&mut self, segment: &Segment, holders: u64, send: bool) {
        let me = self.others.me;
        for seat in (0..segment.spec().seats).filter(|s| *s != me && holders >> s & 1 == 1) {
            let epoch = segment.seat_epoch(seat);
            if epoch == 0 || segment.owner_alive(seat, epoch) {
                continue;
            }
            // Newcomers may have died before they had recovered their predecessors.
            for dead in segment.unrecovered(seat, epoch) {
                let recovered = self.inner.recover(Owner::new(seat as u32, dead), &mut self.others);
                self.others.recovered(recovered);
                if send {
                    self.send_orphans();
                }
            }
        }
    }

    /// What the dead were receiving goes on its way again, as far as there is room.
    #[cold]
    pub(crate) fn send_orphans(&mut self) {
        while let Some(orphan) = self.others.orphans.pop() {
            let (len, sender) = (orphan.len, orphan.sender);
            if let Err(e) = self.inner.resend(orphan, &mut Immortal) {
                let block = e.into_inner();
                self.others.orphans.push(blocks::Message { block, len, sender });
                break;
            }
            self.others.stats.redelivered += 1;
        }
    }

    /// Takes over what the dead were receiving; a receive returns it.
    #[cold]
    pub(crate) fn unearth(&mut self) {
        let before = std::mem::replace(&mut self.others.at_once, true);
        self.inner.recover_readers(&mut self.others);
        self.others.at_once = before;
        self.rescue();
    }

    /// Where frames are delivered again: takes over what the dead had received and not given back; a receive returns
    /// it. Asks the kernel about all who have such a frame.
    #[cold]
    pub(super) fn rescue(&mut self) {
        let Some(segment) = self.others.segment.clone().filter(|_| self.redelivers()) else { return };
        self.recover_dead(&segment, self.inner.readers(), false);
    }

    /// The same now and then, for one who finds nothing again and again and does not wait.
    pub(super) fn rescue_if_due(&mut self) {
        if self.redelivers() && (self.others.at_once || self.others.rescues.is_due()) {
            self.rescue();
        }
    }

    /// Nothing more can be sent, and nothing is left in the ring. Where frames are delivered again, that is not the
    /// last word as long as somebody else has one that may come back.
    pub(super) fn drained(&self) -> PopError {
        let readers = if self.redelivers() { self.inner.readers() } else { 0 };
        match readers & !1_u64.unbounded_shl(self.others.me as u32) {
            0 => PopError::Drained,
            others => PopError::Busy { holder: self.peer(others.trailing_zeros() as usize) },
        }
    }
}
