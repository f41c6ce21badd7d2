//! The rings against a peer that writes anything into their memory at any time: every index stays in range, every call
//! ends within its bound of shared operations, and what it says is a typed answer that makes sense by itself.
//!
//! Both ends act in turn in one thread, some calls against the adversary and some not, over memory that keeps what the
//! adversary has left in it. The regions assert their bounds, and debug assertions and overflow checks are on.
#![allow(missing_docs)]

mod common;

use std::fmt::Debug;

use common::seeds;
use sapwood_core::owner::Owner;
use sapwood_core::ring::{PopError, PushError, latest, mpmc, spsc, stream};
use sapwood_core::shareable::Shareable;
use sapwood_core::testing::{Adversary, Hostile, Latest, Mpmc, Spsc, Stream};
use zerocopy::FromZeros;

/// Where positions begin: at 0, before their wraps, anywhere.
fn start(bad: &mut Adversary) -> u64 {
    let edge = [0, u64::MAX, u64::MAX >> 3, u64::MAX >> 22, 1 << 61, 1 << 63][bad.below(6)];
    match bad.below(3) {
        0 => edge,
        1 => edge.wrapping_sub(bad.below(9) as u64),
        _ => bad.bits(),
    }
}

/// Three calls of four are made against the adversary.
fn with<V>(bad: &mut Adversary, most: usize, call: impl FnOnce() -> V) -> V {
    if bad.below(4) == 0 { call() } else { bad.call(most as u64, call) }
}

/// How often each answer came: a test in which one never comes tests less than it says.
#[derive(Default)]
struct Answers(std::collections::BTreeMap<&'static str, u64>);

impl Answers {
    fn note(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    fn push<T>(&mut self, r: Result<bool, PushError<T>>) {
        self.note(match r {
            Ok(true) => "pushed",
            Ok(false) => "pushed nothing",
            Err(PushError::Full(_)) => "full",
            Err(PushError::Closed(_)) => "closed",
            Err(PushError::Busy { .. }) => "push: busy",
            Err(_) => unreachable!("no other answer"),
        });
    }

    fn pop(&mut self, r: Result<(), PopError>) {
        self.note(match r {
            Ok(()) => "popped",
            Err(PopError::Empty) => "empty",
            Err(PopError::Drained) => "drained",
            Err(PopError::Busy { .. }) => "pop: busy",
            Err(_) => unreachable!("no other answer"),
        });
    }

    fn all(&self, of: &str, expected: &[&str]) {
        println!("{of}: {:?}", self.0);
        for answer in expected {
            assert!(self.0.contains_key(answer), "{of}: never {answer}");
        }
    }
}

fn spsc_of<T: Shareable + FromZeros + Debug>(seed: u64, answers: &mut Answers) {
    let mut bad = Adversary::new(seed);
    let capacity = 1 << bad.below(5);
    let shape = spsc::Shape::of::<T>(capacity).expect("a power of two");
    let ring = Spsc::<Hostile, T>::new(capacity, start(&mut bad), T::new_zeroed()).expect("a power of two");
    // SAFETY: this thread is both ends, one after the other, and nobody else is there.
    let producer = || unsafe { spsc::Producer::attach(ring.clone()) };
    // SAFETY: as above.
    let consumer = || unsafe { spsc::Consumer::attach(ring.clone()) };
    // Attaching: the free word, and the producer looks at each line.
    let mut p = with(&mut bad, 1 + shape.lines, producer);
    let mut c = with(&mut bad, 1, consumer);
    let value = T::new_zeroed();
    for _ in 0..12 {
        let k = bad.below(2 * capacity + 2);
        match bad.below(12) {
            0 => p = with(&mut bad, 1 + shape.lines, producer),
            1 => c = with(&mut bad, 1, consumer),
            // Is it closed, is there room; the value, its count.
            2 | 3 => answers.push(with(&mut bad, 4, || p.try_push(value)).map(|()| true)),
            4 => {
                let values = vec![value; k];
                // At worst a look, a value and its count for each.
                let r = with(&mut bad, 2 + 3 * k, || p.push_slice(&values));
                assert!(r.is_err() || r.is_ok_and(|n| n <= k), "{r:?} of {k}");
                answers.push(r.map(|n| n > 0));
            }
            // A look, is it closed, a second look; the value, its place given back.
            5..=7 => answers.pop(with(&mut bad, 5, || c.try_pop()).map(|_| ())),
            8 => {
                let mut into = vec![value; k];
                // At worst a value a look.
                let r = with(&mut bad, 2 * (k + 1) + 3, || c.pop_slice(&mut into));
                assert!(r.is_err() || r.is_ok_and(|n| n <= k), "{r:?} of {k}");
                answers.pop(r.map(|_| ()));
            }
            9 => {
                let len = with(&mut bad, 1, || p.len());
                assert!(len <= capacity);
                with(&mut bad, 1, || p.is_empty());
                with(&mut bad, 1, || c.has_next());
                with(&mut bad, 1, || p.has_room());
            }
            10 if k == 0 => with(&mut bad, 1, || p.close()),
            11 if k == 0 => with(&mut bad, 1, || c.close()),
            _ => {
                let said = with(&mut bad, 100, || format!("{p:?} {c:?} {}", p.is_closed()));
                assert!(said.contains("tail") && said.contains("head"));
            }
        }
    }
}

#[test]
fn one_to_one() {
    let mut answers = Answers::default();
    seeds(24_000, |seed| {
        spsc_of::<u64>(seed, &mut answers);
        spsc_of::<[u64; 3]>(seed, &mut answers);
        spsc_of::<[u8; 100]>(seed, &mut answers);
        spsc_of::<()>(seed, &mut answers);
    });
    answers.all("spsc", &["pushed", "full", "closed", "popped", "empty", "drained"]);
}

fn stream_of(seed: u64, answers: &mut Answers) {
    let mut bad = Adversary::new(seed);
    let capacity = 1 << bad.below(7);
    let pipe = Stream::<Hostile>::new(capacity, start(&mut bad)).expect("a power of two");
    // SAFETY: this thread is both ends, one after the other, and nobody else is there.
    let writer = || unsafe { stream::Writer::attach(pipe.clone()) };
    // SAFETY: as above.
    let reader = || unsafe { stream::Reader::attach(pipe.clone()) };
    let (mut w, mut r) = (with(&mut bad, 2, writer), with(&mut bad, 2, reader));
    for _ in 0..10 {
        let k = bad.below(2 * capacity + 2);
        match bad.below(10) {
            0 => w = with(&mut bad, 2, writer),
            1 => r = with(&mut bad, 2, reader),
            2..=4 => {
                let bytes = vec![7; k];
                let cut = bad.below(k + 1);
                let parts = [&bytes[..cut], &bytes[cut..]];
                // Is it closed, is there room; the bytes, published once.
                let said = with(&mut bad, 3 + k.min(capacity), || w.write(&parts));
                assert!(said.is_err() || said.is_ok_and(|n| n <= k && n <= capacity), "{said:?} of {k}");
                answers.push(said.map(|n| n > 0));
            }
            5..=7 => {
                let mut into = vec![0; k];
                let said = with(&mut bad, 4 + k.min(capacity), || r.read(&mut into));
                assert!(said.is_err() || said.is_ok_and(|n| n <= k && n <= capacity), "{said:?} of {k}");
                answers.pop(said.map(|_| ()));
            }
            8 => {
                assert!(with(&mut bad, 1, || w.room()) <= capacity);
                assert!(with(&mut bad, 1, || w.look()) <= capacity);
                assert!(with(&mut bad, 1, || r.available()) <= capacity);
                assert!(with(&mut bad, 1, || r.look()) <= capacity);
                with(&mut bad, 1, || w.is_empty());
            }
            _ if k == 0 => with(&mut bad, 1, || w.close()),
            _ if k == 1 => with(&mut bad, 1, || r.close()),
            _ => assert!(with(&mut bad, 100, || format!("{w:?} {r:?}")).contains("ends")),
        }
    }
}

#[test]
fn bytes() {
    let mut answers = Answers::default();
    seeds(60_000, |seed| stream_of(seed, &mut answers));
    answers.all("stream", &["pushed", "full", "closed", "popped", "empty", "drained"]);
}

/// Pieces of a long copy are published one by one, with the positions in private memory.
#[test]
fn bytes_of_several_pieces() {
    seeds(20, |seed| {
        let mut bad = Adversary::new(seed);
        let capacity = 1 << 17;
        let pipe = Stream::<Hostile>::new(capacity, start(&mut bad)).expect("a power of two");
        // SAFETY: this thread is both ends.
        let (mut w, mut r) =
            unsafe { (stream::Writer::attach(pipe.clone()), stream::Reader::attach(pipe.clone())) };
        let (bytes, mut into) = (vec![7; capacity + 5], vec![0; capacity + 5]);
        let bound = (capacity + 2 + 5) as u64;
        for _ in 0..3 {
            let wrote = bad.call(bound, || w.write(&[&bytes[..7], &bytes[7..]])).unwrap_or(0);
            let read = bad.call(bound, || r.read(&mut into)).unwrap_or(0);
            assert!(wrote <= capacity && read <= capacity);
        }
    });
}

fn latest_of<T: Shareable + FromZeros>(seed: u64, answers: &mut Answers) {
    let mut bad = Adversary::new(seed);
    let memory = Latest::<Hostile>::new::<T>(start(&mut bad));
    let words = latest::words::<T>();
    // SAFETY: this thread is the only writer.
    let writer = || unsafe { latest::Writer::<_, T, _>::attach(memory.clone()) };
    let mut w = with(&mut bad, 1, writer);
    let r = latest::Reader::<_, T, _>::attach(memory.clone());
    for _ in 0..6 {
        match bad.below(6) {
            0 => w = with(&mut bad, 1, writer),
            1 | 2 => with(&mut bad, words + 2, || w.publish(&T::new_zeroed())),
            3 | 4 => match with(&mut bad, 64 * (words + 3), || r.read()) {
                Ok(_) => answers.note("read"),
                Err(latest::ReadError::Overtaken { turns: 64 }) => answers.note("overtaken"),
                Err(e) => panic!("no other answer: {e}"),
            },
            _ => {
                with(&mut bad, 1, || r.published());
                assert!(with(&mut bad, 10, || format!("{r:?} {w:?}")).contains("newest"));
            }
        }
    }
}

#[test]
fn the_newest_value() {
    let mut answers = Answers::default();
    seeds(16_000, |seed| {
        latest_of::<u64>(seed, &mut answers);
        latest_of::<[u8; 21]>(seed, &mut answers);
        latest_of::<[u64; 9]>(seed, &mut answers);
        latest_of::<()>(seed, &mut answers);
    });
    answers.all("latest", &["read", "overtaken"]);
}

/// What the kernel says of a name; a bad peer may write any, also of the dead and of those who never were.
struct Oracle {
    orphans: u64,
    skipped: u64,
}

impl<T> mpmc::Peers<T> for Oracle {
    fn alive(&mut self, owner: Owner) -> bool {
        if owner.seat() < 8 { owner.seat().is_multiple_of(2) } else { Hostile::choice(2) == 0 }
    }
    fn orphan(&mut self, _: u64, _: Owner, _: T) {
        self.orphans += 1;
    }
    fn skipped(&mut self, _: u64, _: Owner) {
        self.skipped += 1;
    }
}

fn mpmc_of<T: Shareable + FromZeros>(seed: u64, answers: &mut Answers) {
    let mut bad = Adversary::new(seed);
    let capacity = 1 << bad.below(4);
    let ring = Mpmc::<Hostile, T>::new(capacity, start(&mut bad), T::new_zeroed()).expect("a power of two");
    // SAFETY: one thread, two names.
    let handle = |me: u32| unsafe { mpmc::Handle::attach(ring.clone(), Owner::new(me, 5)) };
    let mut handles = [with(&mut bad, 2, || handle(0)), with(&mut bad, 2, || handle(2))];
    let mut peers = Oracle { orphans: 0, skipped: 0 };
    // As `Handle::patience` says: so many turns, each of a word, the flag, a hint and the burial of a dead one at most.
    let turns = 4 * capacity + 64;
    let each = 6;
    for _ in 0..10 {
        let me = bad.below(2);
        let h = &mut handles[me];
        match bad.below(12) {
            0 => *h = with(&mut bad, 2, || handle(2 * me as u32)),
            1..=4 => {
                let r = with(&mut bad, 1 + turns * each + 2, || h.try_push(T::new_zeroed(), &mut peers));
                answers.push(r.map(|_| true));
            }
            5..=8 => {
                // "Drained" is said once, after a look at every slot.
                let most = turns * each + 2 + capacity * 4;
                answers.pop(with(&mut bad, most, || h.try_pop(&mut peers)).map(|_| ()));
            }
            9 => {
                let dead = Owner::new(bad.below(4) as u32, 5);
                with(&mut bad, 4 * capacity, || h.recover(dead, &mut peers));
            }
            10 => {
                assert!(with(&mut bad, 4, || h.len().max(usize::from(h.is_empty()))) <= capacity);
                assert!(with(&mut bad, 100, || format!("{h:?} {:?}", h.is_closed())).contains("head"));
            }
            _ if bad.below(3) == 0 => with(&mut bad, 1, || h.close()),
            _ => {}
        }
    }
    for (what, times) in [("orphan", peers.orphans), ("skipped", peers.skipped)] {
        if times > 0 {
            answers.note(what);
        }
    }
}

#[test]
fn many_to_many() {
    let mut answers = Answers::default();
    seeds(16_000, |seed| {
        mpmc_of::<u64>(seed, &mut answers);
        mpmc_of::<[u64; 7]>(seed, &mut answers);
        mpmc_of::<()>(seed, &mut answers);
    });
    let push = ["pushed", "full", "closed", "push: busy"];
    let pop = ["popped", "empty", "drained", "pop: busy", "orphan", "skipped"];
    answers.all("mpmc", &[&push[..], &pop].concat());
}
