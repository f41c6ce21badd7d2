//! What a newcomer to a seat does about its dead holders.

use super::word::{Home, Slot, State};
use super::{HOME, Map, Region, SLOT};
use crate::mem::{Atom, Bug, Mem, Ordering, Site};
use crate::owner::Owner;
use crate::shareable::Shareable;

/// What the dead had left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// Homes that it held. Others may have taken one over before.
    pub homes: u32,
    /// Entries with pairs that were never inserted.
    pub entries: u32,
}

impl<M: Mem, K: Shareable, V: Shareable, R: Region<M>> Map<M, K, V, R> {
    /// Gives back what `dead`, who is proven to be so, held: a look at every entry. After it the seat of the dead may
    /// be used again.
    pub fn recover(&self, dead: Owner) -> Recovered {
        let mut found = Recovered::default();
        // What he has announced is done, whoever does it; and he announces nothing any more.
        if !M::broken(Bug::MapBuryUnhelped) {
            self.help();
        }
        for entry in 0..self.shape.entries {
            let word = self.region.word(entry, SLOT);
            // Relaxed: nothing is read, and what the dead did is known with his death.
            let w = Slot(word.load(Ordering::Relaxed));
            if w.state() == State::Filling && w.owner() == dead {
                // Pairs with MapClaimLoad. It fails where another one recovers the same.
                let bury = word.cas(w.0, w.freed().0, M::at(Site::MapBury, Ordering::Release));
                found.entries += u32::from(bury.is_ok());
            }
            let word = self.region.word(entry, HOME);
            let w = Home(word.load(Ordering::Relaxed));
            if w.owner() == dead {
                // Pairs with MapLock. It fails where somebody has taken the home over.
                let open =
                    word.cas(w.0, w.held(Owner::NOBODY).0, M::at(Site::MapUnlockDead, Ordering::Release));
                found.homes += u32::from(open.is_ok());
            }
        }
        found
    }
}
