//! Plain memory for the models, and the board's unsafe steps, made safe by loom.
//!
//! # Safety
//! Loom checks each access to a cell before it lends the address, and panics where another thread's access to the same
//! cell is not ordered with it. So an access that is made is not a race, whatever the model does.
#![allow(unsafe_code)]

use sapwood_core::board::{Body, End, Place};
use sapwood_core::call::Fingerprint;
use sapwood_core::mem::{Mem, RaceCell};
use sapwood_core::member::{Member, Patience};
use sapwood_core::sizes::INLINE;
use sapwood_core::testing::Heap;

use crate::family::Loom;

/// A value that threads hand to one another by other means.
#[derive(Debug)]
pub struct Guarded<T: Copy>(<Loom as Mem>::Cell<T>);

// SAFETY: loom panics before two threads touch the value at once, as said above.
unsafe impl<T: Copy + Send> Send for Guarded<T> {}
// SAFETY: as above.
unsafe impl<T: Copy + Send> Sync for Guarded<T> {}

impl<T: Copy> Guarded<T> {
    /// A cell that holds `v`.
    pub fn new(v: T) -> Self {
        Guarded(RaceCell::new(v))
    }
    /// The value; panics in a race.
    pub fn get(&self) -> T {
        // SAFETY: the address is the value's, and loom has found no race.
        self.0.with(|p| unsafe { *p })
    }
    /// Changes the value; panics in a race.
    pub fn set(&self, v: T) {
        // SAFETY: as above.
        self.0.with_mut(|p| unsafe { *p = v })
    }
}

/// Publishes operation `n` with four equal words; panics in a race.
pub fn publish(place: &Place<Loom>, n: u64, steps: u64, word: u64) {
    // SAFETY: the contract is against races on the body, which loom notices; all other accesses are atomic.
    unsafe { place.publish(n, steps, &Body { what: 1, count: word, payload: [word; INLINE / 8] }) }
}

/// Publishes a further step of operation `n`.
pub fn step(place: &Place<Loom>, n: u64, steps: u64) {
    // SAFETY: what the step stands for is in cells, whose races loom notices.
    unsafe { place.step(n, steps) };
}

/// Ends a rank whose last operation is `n`.
pub fn end(place: &Place<Loom>, end: End, n: u64) {
    // SAFETY: as above.
    unsafe { place.end(end, n) };
}

/// Rank `me` of `ranks`.
pub fn member(
    heap: &Heap<Loom>,
    me: usize,
    ranks: usize,
    n: u64,
    patience: Patience,
) -> Member<Loom, Heap<Loom>> {
    assert!(me < ranks);
    // SAFETY: a second member of a rank would race with the first on its line, which loom notices.
    unsafe { Member::new(heap.clone(), me, ranks, n, patience) }
}

/// The word of operation `n`, read from both ends of the line; panics in a race.
pub fn word(place: &Place<Loom>, n: u64) -> u64 {
    // SAFETY: loom has found no race in the two accesses to the body, and there is no switch of threads between the
    // second one and the read.
    let (Fingerprint { count, .. }, payload) = unsafe { (place.fingerprint(n), *place.payload(n)) };
    assert_eq!(payload, [count; INLINE / 8], "a torn line");
    count
}

/// Handles of jobs.
pub mod jobs {
    use sapwood_core::claim::{Attempts, Desk, Jobs};
    use sapwood_core::owner::Owner;
    use sapwood_core::testing::Table;

    use crate::family::Loom;

    /// A participant.
    pub type Handle = Jobs<Loom, u64, u64, Table<Loom, u64, u64>>;

    /// Where the jobs of a handle are ended. A model that ends another's there makes a race, which loom reports.
    pub fn desk(of: &Handle) -> Desk<Loom, u64, u64, Table<Loom, u64, u64>> {
        // SAFETY: as below.
        unsafe { of.desk() }
    }

    /// Takes part as `me`. A model that uses one name twice at a time makes a race, which loom reports.
    pub fn attach(table: &Table<Loom, u64, u64>, me: Owner, attempts: Attempts) -> Handle {
        // SAFETY: the contract is against races on job and answer, which loom notices before it lends their addresses.
        unsafe { Jobs::attach(table.clone(), me, attempts) }
    }
}

/// Handles of blocks.
pub mod arena {
    use sapwood_core::blocks::{Blocks, Raw};
    use sapwood_core::owner::Owner;
    use sapwood_core::ring::mpmc;
    use sapwood_core::testing::{Mpmc, Yard};

    use crate::family::Loom;

    /// A participant.
    pub type Handle = Blocks<Loom, Yard<Loom>, Mpmc<Loom, Raw>>;

    /// Takes part as `me`. A model that uses one name twice at a time makes a race, which loom reports.
    pub fn attach(yard: &Yard<Loom>, ring: &Mpmc<Loom, Raw>, me: Owner) -> Handle {
        // SAFETY: the contract is against races on descriptors and bytes, which loom notices before it lends their
        // addresses.
        let handle = unsafe { Blocks::attach(yard.clone(), mpmc::Handle::attach(ring.clone(), me)) };
        handle.expect("a seat that can hold blocks")
    }
}

/// Handles of shared blocks.
pub mod depot {
    use sapwood_core::bufs::Bufs;
    use sapwood_core::owner::Owner;
    use sapwood_core::testing::Depot;

    use crate::family::Loom;

    /// A participant.
    pub type Handle = Bufs<Loom, Depot<Loom>>;

    /// Takes part as `me`. A model that uses one name twice at a time makes a race, which loom reports.
    pub fn attach(depot: &Depot<Loom>, me: Owner) -> Handle {
        // SAFETY: the contract is against races on bytes, which loom notices before it lends their addresses.
        unsafe { Bufs::attach(depot.clone(), me) }.expect("a seat that can hold blocks")
    }
}
