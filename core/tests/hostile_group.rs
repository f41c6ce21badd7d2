//! A group's rank against peers that write anything into the group's memory at any time: every collective ends with a
//! typed error or a value, perhaps a wrong one, within its deadlines; it stays within the buffers, never touches a
//! tensor that its error says is untouched, and writes to no memory that is not its own, a buffer's, or a tensor that
//! the rank named in the token owns.
//!
//! One thread is the rank; the others are the adversary alone, which repeats what the rank says of itself often enough
//! that every collective gets through to its end.
#![allow(missing_docs)]

mod common;

use std::cell::RefCell;
use std::collections::BTreeMap;

use common::{here, seeds};
use sapwood_core::barrier::{Arrivals, Barrier};
use sapwood_core::board::{Buffer, Leaving, Life, Place, Region};
use sapwood_core::call::Kind;
use sapwood_core::doorbell::Doorbell;
use sapwood_core::mem::{Atom, Mem};
use sapwood_core::member::{Fault, Member, Patience};
use sapwood_core::reduce::Op;
use sapwood_core::sizes::{Area, Sizes};
use sapwood_core::testing::{Adversary, Heap, Hostile, TICK};
use sapwood_core::wait::{Prices, WaitPolicy};

/// Bytes of a rank's tensors.
const PART: usize = 4096;
/// Looks at the clock before a wait gives up.
const LOOKS: u64 = 8;

/// A heap whose buffers the adversary writes too, and which checks what it is asked for.
struct Wild {
    heap: Heap<Hostile>,
    ranks: usize,
    /// How often each rank's token was looked up.
    lookups: RefCell<BTreeMap<usize, u32>>,
}

impl Wild {
    fn room(&self, area: Area) -> usize {
        let sizes = self.sizes();
        match area {
            Area::Slot(_) => sizes.slot,
            Area::Window(w, i) => {
                assert!(self.ranks == 2 && i < sizes.windows[w].count, "chunk {i} of window {w}");
                sizes.windows[w].chunk
            }
            Area::Block(i) => {
                assert!(i < sizes.block_chunks, "chunk {i} of a block");
                sizes.block - i * (sizes.block / sizes.block_chunks)
            }
            Area::Result => sizes.result(self.ranks),
        }
    }
}

// SAFETY: as the heap does; what the adversary writes into a buffer stays within it.
unsafe impl Region<Hostile> for Wild {
    fn place(&self, rank: usize) -> &Place<Hostile> {
        assert!(rank < self.ranks, "rank {rank} of {}", self.ranks);
        self.heap.place(rank)
    }

    fn buffer(&self, rank: usize, area: Area) -> Buffer<'_, Hostile> {
        assert!(rank < self.ranks, "rank {rank} of {}", self.ranks);
        let (buffer, room) = (self.heap.buffer(rank, area), self.room(area));
        // SAFETY: the layout gives the buffer this room, and this thread is alone.
        unsafe { Hostile::scribble(buffer.start, room) };
        buffer
    }

    fn sizes(&self) -> &Sizes {
        self.heap.sizes()
    }

    fn life(&self, rank: usize) -> Life {
        assert!(rank < self.ranks, "rank {rank} of {}", self.ranks);
        self.heap.life(rank)
    }

    fn token(&self, start: *const u8, bytes: usize) -> Option<u64> {
        self.heap.token(start, bytes)
    }

    fn resident(&self, rank: usize, token: u64, bytes: usize) -> Option<*mut u8> {
        *self.lookups.borrow_mut().entry(rank).or_default() += 1;
        self.heap.resident(rank, token, bytes)
    }

    fn poison(&self, start: usize, bytes: usize) {
        self.heap.poison(start, bytes);
    }
}

#[derive(Clone, Copy, Debug)]
enum What {
    Reduce(usize),
    Parts(usize),
    Closure(usize),
    Resident(usize),
    Broadcast(usize),
    Barrier,
    Exchange,
    Join,
}

const WHAT: [What; 21] = [
    What::Reduce(0),
    What::Reduce(2),
    What::Reduce(14),
    What::Reduce(40),
    What::Reduce(100),
    What::Reduce(200),
    What::Reduce(300),
    What::Parts(50),
    What::Parts(300),
    What::Closure(2),
    What::Closure(14),
    What::Closure(200),
    What::Resident(60),
    What::Resident(300),
    What::Resident(1024),
    What::Broadcast(3),
    What::Broadcast(12),
    What::Broadcast(300),
    What::Barrier,
    What::Exchange,
    What::Join,
];

/// Waits that a rank of `ranks` makes at most in one operation, catching up with the one before included: for each
/// chunk of the shortest kind, two for each rank.
fn waits(what: What, ranks: usize) -> u64 {
    let len = match what {
        What::Reduce(n) | What::Parts(n) | What::Closure(n) | What::Resident(n) | What::Broadcast(n) => n,
        What::Barrier | What::Exchange | What::Join => 0,
    };
    ((len * 4).div_ceil(64) as u64 * 2 + 4) * ranks as u64
}

/// Shared operations and turns of one wait at most: the quick stages, and so many slices as the clock allows. In a
/// slice: the announcement, the look, the bells, of each rank its end and life, the clock, the sleep.
fn wait(ranks: usize, policy: WaitPolicy) -> u64 {
    let ranks = ranks as u64;
    let look = 8 * ranks + 8;
    match policy {
        WaitPolicy::Spin => 100 + (LOOKS + 2) * (2 * (1 << 16) + look),
        _ => 2 * (24 + 64 + 50) + (LOOKS + 2) * look,
    }
}

struct Test {
    bad: Adversary,
    ranks: usize,
    policy: WaitPolicy,
    faults: Faults,
}

/// How often each end came; how often each operation came to its end among several ranks.
#[derive(Default, Debug)]
struct Faults(BTreeMap<&'static str, u64>, BTreeMap<String, u64>);

impl Test {
    fn note<V>(&mut self, what: What, r: &Result<V, Fault>) {
        if r.is_ok() && self.ranks > 1 {
            *self.faults.1.entry(format!("{what:?}, {} ranks", self.ranks.min(3))).or_default() += 1;
        }
        let what = match r {
            Ok(_) => "done",
            Err(Fault::Died { rank }) if *rank < self.ranks => "died",
            Err(Fault::Left { rank, .. }) if *rank < self.ranks => "left",
            Err(Fault::Failed { rank, .. }) if *rank < self.ranks => "failed",
            Err(Fault::Mismatch { rank }) if *rank < self.ranks => "mismatch",
            Err(Fault::TimedOut { rank, .. }) if *rank < self.ranks => "timed out",
            Err(Fault::BadToken { rank }) if *rank < self.ranks => "bad token",
            Err(e) => panic!("{e:?} of {} ranks", self.ranks),
        };
        *self.faults.0.entry(what).or_default() += 1;
    }

    /// One operation. Says whether the group goes on.
    fn act(&mut self, m: &mut Member<Hostile, Wild>, what: What) -> bool {
        let me = m.rank();
        // As many again for the copying, whose pieces count too.
        let most = 2 * (waits(what, self.ranks) * wait(self.ranks, self.policy) + 100);
        let root = self.bad.below(self.ranks);
        const FENCE: [u32; 8] = [0xFE4C_E5E5; 8];
        let tensor = |len: usize| {
            let mut t = FENCE.to_vec();
            t.extend((0..len as u32).map(|i| i * 3 + me as u32));
            t.extend(FENCE);
            t
        };
        let result = match what {
            What::Reduce(len) | What::Parts(len) | What::Closure(len) | What::Broadcast(len) => {
                let (mut t, before) = (tensor(len), tensor(len));
                let own = &mut t[8..8 + len];
                let add =
                    |s: &mut [u32], n: &[u32]| s.iter_mut().zip(n).for_each(|(s, n)| *s = s.wrapping_add(*n));
                let r = self.bad.call(most, || match what {
                    What::Closure(_) => m.all_reduce_with(&mut [own], add, here()),
                    What::Broadcast(_) => m.broadcast(&mut [own], root, here()).map(|()| 0),
                    What::Parts(_) => {
                        let (a, b) = own.split_at_mut(len / 3);
                        m.all_reduce(&mut [a, &mut [], b], Op::Xor, here())
                    }
                    _ => m.all_reduce(&mut [own], Op::Sum, here()),
                });
                assert!(t[..8] == FENCE && t[8 + len..] == FENCE, "{what:?}: a write beyond the tensor");
                assert!(r.is_ok() || m.touched() || t == before, "{what:?} says that it touched nothing");
                r.map(|_| ())
            }
            What::Resident(len) => {
                m.region().lookups.borrow_mut().clear();
                let heap = m.region().heap.clone();
                // SAFETY: nobody else is here.
                let t = unsafe { heap.tensor::<u32>(me, len) };
                t.fill(9);
                let r = self.bad.call(most, || m.all_reduce(&mut [t], Op::Sum, here()));
                // Once: what was checked is what is used.
                let lookups = m.region().lookups.borrow();
                assert!(lookups.iter().all(|(q, n)| *q != me && *n == 1), "looked up: {lookups:?}");
                assert!(
                    r.is_ok() || m.touched() || t.iter().all(|v| *v == 9),
                    "it says that it touched nothing"
                );
                r.map(|_| ())
            }
            What::Barrier => self.bad.call(most, || m.barrier(here())),
            What::Exchange => {
                let mut ranks = Vec::new();
                let each = |q: usize, _: [u64; 4]| ranks.push(q);
                let r = self.bad.call(most, || m.exchange(Kind::Alloc, None, [7; 4], here(), each));
                assert!(r.is_err() || ranks.into_iter().eq(0..self.ranks));
                r.map(|_| ())
            }
            What::Join => self.bad.call(most, || m.join()),
        };
        self.note(what, &result);
        let looks = 4 * self.ranks as u64 + 8;
        assert!(self.bad.call(looks, || m.behind().all(|q| q < m.size())));
        if let Err(Fault::Mismatch { rank }) = result {
            // Whatever the board says of the calls makes a sentence.
            let calls = self.bad.call(looks, || m.calls(rank));
            assert!(calls.is_none_or(|(a, b)| format!("{a} {b} {}", b.line()).contains(") at ")));
        }
        match result {
            Ok(()) | Err(Fault::Mismatch { .. }) => true,
            Err(fault) => {
                assert_eq!(self.bad.call(looks, || m.barrier(here())), Err(fault), "the answer stays");
                false
            }
        }
    }
}

fn group(seed: u64, faults: &mut Faults, policy: WaitPolicy) {
    let mut bad = Adversary::new(seed);
    let ranks = [1, 2, 2, 2, 3, 3, 4, 5][bad.below(8)];
    (0..ranks).for_each(|q| bad.offer((q * PART) as u64));
    bad.offer(u64::MAX); // a private tensor
    let me = bad.below(ranks);
    let n = [0, u64::MAX - 1, bad.bits()][bad.below(3)];
    // Who is dead stays so.
    let dead = bad.bits() & bad.bits() & bad.bits();
    let absent = bad.bits() & bad.bits() & bad.bits();
    let life = move |q: usize| match (dead >> q & 1, absent >> q & 1) {
        (1, 0) => Life::Dead,
        (1, _) => Life::Dying,
        (_, 1) => Life::Absent,
        _ => Life::Alive,
    };
    let heap = Heap::<Hostile>::new(Sizes::TINY, ranks, n, PART * ranks, life);
    let prices = Prices { spin: 1, give_way: 1, wake: 1 };
    let patience = Patience { policy, prices, crowded: bad.below(2) == 0, deadline: LOOKS * TICK };
    let region = Wild { heap, ranks, lookups: RefCell::default() };
    // SAFETY: the only member, of a rank that the heap has places for, all at `n`.
    let mut m = unsafe { Member::new(region, me, ranks, n, patience) };
    let mut test = Test { bad, ranks, policy, faults: std::mem::take(faults) };
    for _ in 0..4 {
        let what = WHAT[test.bad.below(WHAT.len())];
        if !test.act(&mut m, what) {
            break;
        }
    }
    test.bad.call(40 * ranks as u64 + 10, || m.leave(Leaving::Dropped));
    *faults = test.faults;
}

#[test]
fn every_collective_ends_within_its_bound() {
    let mut faults = Faults::default();
    seeds(300_000, |seed| {
        let policy = if seed & 1 == 0 { WaitPolicy::Adaptive } else { WaitPolicy::Sleep };
        group(seed, &mut faults, policy);
    });
    println!("{:?}\nto the end: {:?}", faults.0, faults.1);
    assert_eq!(faults.1.len(), 2 * WHAT.len(), "not every collective came to its end");
    for fault in ["done", "died", "left", "failed", "mismatch", "timed out", "bad token"] {
        assert!(faults.0.contains_key(fault), "never {fault}: {faults:?}");
    }
}

/// Who spins looks at the clock seldom: few seeds.
#[test]
fn spinning_ends_too() {
    let mut faults = Faults::default();
    seeds(6, |seed| group(seed, &mut faults, WaitPolicy::Spin));
    println!("{faults:?}");
}

#[test]
fn a_bell_is_rung_and_slept_on_in_few_steps() {
    seeds(2_000, |seed| {
        let mut bad = Adversary::new(seed);
        let bell = Doorbell::<Hostile>::new(bad.bits() as u32);
        for _ in 0..6 {
            match bad.below(4) {
                // A fence and a look; the change and the wake.
                0 => bad.call(4, || bell.ring()),
                // A fence, eight tries, the wake.
                1 => bad.call(18, || bell.ring_anyway()),
                2 => bad.call(3, || {
                    let announced = bell.announce();
                    let _ = bell.sleep(announced, 1_000_000_000);
                }),
                _ => assert!(format!("{bell:?}").starts_with("Doorbell")),
            }
        }
    });
}

struct Words(Vec<<Hostile as Mem>::U64>);

impl Arrivals<Hostile> for Words {
    fn arrival(&self, rank: usize) -> &<Hostile as Mem>::U64 {
        &self.0[rank]
    }
}

#[test]
fn a_barrier_looks_once_a_look() {
    seeds(2_000, |seed| {
        let mut bad = Adversary::new(seed);
        let start = bad.bits();
        let words = Words((0..3).map(|_| Atom::new(start)).collect());
        let mut barrier = Barrier::<Hostile>::new(start);
        for _ in 0..5 {
            bad.call(1, || barrier.arrive(&words, 1));
            for q in 0..3 {
                bad.call(1, || barrier.arrived(&words, q));
            }
        }
    });
}
