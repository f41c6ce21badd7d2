//! Jobs: the hand-over of job, answer and slot, the same through every kind of death, and what "empty" means.

use std::sync::Arc;

use loom::thread;
use sapwood_core::claim::{Attempts, Collected, Outcome, Peers, TakeError};
use sapwood_core::mem::{Atom, Mem, Ordering};
use sapwood_core::owner::Owner;
use sapwood_core::testing::Table;

use super::{Bound, Model, look};
use crate::explore;
use crate::family::{Loom, until};
use crate::guarded::jobs::{Handle, attach};

type Memory = Table<Loom, u64, u64>;
type Word = <Loom as Mem>::U64;

/// Who is dead, a bit a seat, as the kernel says it: whatever the dead did happened before.
#[derive(Clone)]
struct Graves(Arc<Word>);

impl Graves {
    fn new() -> Self {
        Graves(Arc::new(Atom::new(0)))
    }
    fn bury(&self, seat: u32) {
        self.0.fetch_or(1 << seat, Ordering::Release);
    }
}

impl Peers for Graves {
    fn alive(&mut self, owner: Owner) -> bool {
        self.0.load(Ordering::Acquire) & 1 << owner.seat() == 0
    }
}

fn owner(seat: u32) -> Owner {
    Owner::new(seat, 1)
}

fn table(slots: usize) -> Memory {
    Table::new(slots, u64::MAX, 0, 0).expect("a power of two")
}

fn handle(table: &Memory, seat: u32) -> Handle {
    attach(table, owner(seat), Attempts::of(3).expect("a number"))
}

fn work(h: &mut Handle, peers: &mut Graves) -> Option<u64> {
    let taken = h.take(peers).ok()?;
    let job = taken.job;
    h.finish(taken, job + 100).expect("ours");
    Some(job)
}

fn answer(got: Option<Collected<u64>>) -> Option<u64> {
    got.map(|c| match c.outcome {
        Outcome::Answer(a) => a,
        Outcome::Failed { .. } => panic!("{c:?}: nobody died three times"),
    })
}

/// When all others are done: everything that is left is worked on and collected, and the table takes as many jobs as
/// it has slots, in order.
fn settle(h: &mut Handle, peers: &mut Graves, slots: u64) -> Vec<u64> {
    let mut got = Vec::new();
    h.recover_dead(peers);
    for _ in 0..2 * slots + 2 {
        work(h, peers);
        got.extend(answer(h.collect()));
    }
    assert_eq!(h.in_flight(), 0, "wedged");
    for job in 0..slots {
        h.submit(90 + job, peers).expect("room");
    }
    h.submit(99, peers).expect_err("no room");
    for job in 0..slots {
        assert_eq!(work(h, peers), Some(90 + job), "out of order");
        assert_eq!(answer(h.collect()), Some(190 + job));
    }
    got
}

/// One submits, one works, one collects, and the slot is used again by the one who submits.
fn three_roles(slots: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let (memory, mut peers) = (table(slots), Graves::new());
        let submitter = {
            let (memory, mut peers) = (memory.clone(), peers.clone());
            thread::spawn(move || {
                let mut h = handle(&memory, 1);
                (1..=2).filter(|job| h.submit(*job, &mut peers).is_ok()).collect::<Vec<u64>>()
            })
        };
        let worker = {
            let (memory, mut peers) = (memory.clone(), peers.clone());
            thread::spawn(move || _ = work(&mut handle(&memory, 2), &mut peers))
        };
        let mut h = handle(&memory, 0);
        let mut got: Vec<u64> = answer(h.collect()).into_iter().collect();
        let sent = submitter.join().expect("it submits what there is room for");
        worker.join().expect("it works");
        got.extend(settle(&mut h, &mut peers, slots as u64));
        got.sort_unstable();
        assert_eq!(got, sent.iter().map(|job| job + 100).collect::<Vec<_>>());
    })
}

/// A slot goes through a whole life, each step by another thread than the one before.
fn a_life(bound: Bound) -> u64 {
    explore(bound, || {
        let (memory, mut peers) = (table(1), Graves::new());
        let mut first = handle(&memory, 0);
        first.submit(1, &mut peers).expect("room");
        let worker = {
            let (memory, mut peers) = (memory.clone(), peers.clone());
            thread::spawn(move || _ = work(&mut handle(&memory, 1), &mut peers))
        };
        let collector = {
            let memory = memory.clone();
            thread::spawn(move || answer(handle(&memory, 2).collect()))
        };
        let second = first.submit(2, &mut peers).is_ok();
        worker.join().expect("it works");
        let mut got: Vec<u64> = collector.join().expect("it collects").into_iter().collect();
        got.extend(settle(&mut first, &mut peers, 1));
        assert_eq!(got, if second { vec![101, 102] } else { vec![101] });
    })
}

/// A worker dies before its operation `k`; another recovers, a third does the job, the first submits anew.
fn worker_dies(k: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let (memory, mut peers) = (table(1), Graves::new());
        let mut h = handle(&memory, 0);
        h.submit(1, &mut peers).expect("room");
        let victim = {
            let (memory, graves) = (memory.clone(), peers.clone());
            thread::spawn(move || {
                let mut peers = graves.clone();
                let _ = until(k, || work(&mut handle(&memory, 1), &mut peers));
                graves.bury(1);
            })
        };
        // Says that it has recovered, without ordering anything.
        let told = Arc::new(Word::new(0));
        let recoverer = {
            let (memory, peers, told) = (memory.clone(), peers.clone(), told.clone());
            thread::spawn(move || {
                if look(2, || !peers.clone().alive(owner(1))) {
                    handle(&memory, 2).recover(owner(1));
                    told.store(1, Ordering::Relaxed);
                }
            })
        };
        look(2, || told.load(Ordering::Relaxed) == 1);
        work(&mut h, &mut peers);
        let mut got: Vec<u64> = answer(h.collect()).into_iter().collect();
        if !got.is_empty() {
            h.submit(2, &mut peers).expect("room");
        }
        victim.join().expect("it dies");
        recoverer.join().expect("it recovers");
        got.extend(settle(&mut h, &mut peers, 1));
        assert!(got == [101] || got == [101, 102], "{got:?}");
    })
}

/// A submitter dies before its operation `k`; another recovers while a second submitter comes to the slot.
fn submitter_dies(k: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let (memory, mut peers) = (table(1), Graves::new());
        let victim = {
            let (memory, graves) = (memory.clone(), peers.clone());
            thread::spawn(move || {
                let mut peers = graves.clone();
                let sent = until(k, || handle(&memory, 1).submit(1, &mut peers).is_ok());
                graves.bury(1);
                sent == Some(true)
            })
        };
        let recoverer = {
            let (memory, peers) = (memory.clone(), peers.clone());
            thread::spawn(move || {
                if look(2, || !peers.clone().alive(owner(1))) {
                    handle(&memory, 2).recover(owner(1));
                }
            })
        };
        let mut h = handle(&memory, 0);
        let second = h.submit(2, &mut peers).is_ok();
        let one = victim.join().expect("it dies");
        recoverer.join().expect("it recovers");
        let got = settle(&mut h, &mut peers, 1);
        assert!(!one || got.contains(&101), "a job that was submitted is lost");
        assert_eq!(second, got.contains(&102));
        assert!(got.len() <= 2);
    })
}

/// A worker answers, collects its own answer and dies before its operation `k`; another recovers; a third collects and
/// submits anew.
fn collector_dies(k: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let (memory, mut peers) = (table(1), Graves::new());
        let mut h = handle(&memory, 0);
        h.submit(1, &mut peers).expect("room");
        // The worker that answered is the one that dies collecting: Done looks the same before and after.
        work(&mut handle(&memory, 1), &mut peers).expect("a job");
        let victim = {
            let (memory, graves) = (memory.clone(), peers.clone());
            thread::spawn(move || {
                let got = until(k, || handle(&memory, 1).collect());
                graves.bury(1);
                got.flatten().is_some()
            })
        };
        let recoverer = {
            let (memory, peers) = (memory.clone(), peers.clone());
            thread::spawn(move || {
                if look(2, || !peers.clone().alive(owner(1))) {
                    handle(&memory, 2).recover(owner(1));
                }
            })
        };
        let mine = answer(h.collect());
        let second = mine.is_some() && h.submit(2, &mut peers).is_ok();
        let theirs = victim.join().expect("it dies");
        recoverer.join().expect("it recovers");
        let got = settle(&mut h, &mut peers, 1);
        let ones =
            got.iter().filter(|a| **a == 101).count() + usize::from(mine.is_some()) + usize::from(theirs);
        // A collector that had given the slot back before it died had its answer.
        assert!(ones == 1 || ones == 0 && k >= 5, "the answer came {ones} times, k = {k}");
        assert_eq!(second, got.contains(&102));
    })
}

/// A worker declines; another does the job, whose slot is then used again.
fn declined(bound: Bound) -> u64 {
    explore(bound, || {
        let (memory, mut peers) = (table(1), Graves::new());
        let mut h = handle(&memory, 0);
        h.submit(1, &mut peers).expect("room");
        let decliner = {
            let (memory, mut peers) = (memory.clone(), peers.clone());
            thread::spawn(move || {
                let mut h = handle(&memory, 1);
                if let Ok(taken) = h.take(&mut peers) {
                    h.decline(taken).expect("ours");
                }
            })
        };
        work(&mut h, &mut peers);
        let mut got: Vec<u64> = answer(h.collect()).into_iter().collect();
        let second = !got.is_empty() && h.submit(2, &mut peers).is_ok();
        decliner.join().expect("it declines, or comes too late");
        got.extend(settle(&mut h, &mut peers, 1));
        assert_eq!(got, if second { vec![101, 102] } else { vec![101] });
    })
}

/// "Empty" is exact: who was told of a submission finds a job.
fn told_of_a_job(bound: Bound) -> u64 {
    explore(bound, || {
        let (memory, mut peers) = (table(2), Graves::new());
        let told = Arc::new(<Loom as Mem>::U64::new(0));
        let submitters: Vec<_> = [1, 2]
            .map(|seat| {
                let (memory, mut peers, told) = (memory.clone(), peers.clone(), told.clone());
                thread::spawn(move || {
                    handle(&memory, seat).submit(u64::from(seat), &mut peers).expect("room");
                    if seat == 2 {
                        told.store(1, Ordering::Release);
                    }
                })
            })
            .into();
        let mut h = handle(&memory, 0);
        if told.load(Ordering::Acquire) == 1 {
            assert_ne!(h.take(&mut peers).map(|_| ()), Err(TakeError::Empty), "empty, after a submission");
        }
        submitters.into_iter().for_each(|t| t.join().expect("there is room"));
    })
}

/// A job takes long: a submitter steps over it while its worker answers. No place is lost, and no order.
fn stepped_over(bound: Bound) -> u64 {
    explore(bound, || {
        let (memory, mut peers) = (table(2), Graves::new());
        let (mut h, mut slow) = (handle(&memory, 0), handle(&memory, 1));
        h.submit(1, &mut peers).expect("room");
        h.submit(2, &mut peers).expect("room");
        let long = slow.take(&mut peers).expect("a job");
        assert_eq!(work(&mut h, &mut peers), Some(2));
        assert_eq!(answer(h.collect()), Some(102));
        let worker = thread::spawn(move || slow.finish(long, 101).expect("ours"));
        let mut sent = vec![];
        for job in [3, 4] {
            if h.submit(job, &mut peers).is_ok() {
                sent.push(job);
                work(&mut h, &mut peers);
            }
        }
        worker.join().expect("it answers");
        let mut got = settle(&mut h, &mut peers, 2);
        got.sort_unstable();
        assert!(sent.contains(&3), "there was room");
        assert_eq!(got, [1].into_iter().chain(sent).map(|job| job + 100).collect::<Vec<_>>());
    })
}

/// Jobs take long on both sides of a place that may be in the middle of being filled when a submitter comes round.
fn round_to_a_submitter(bound: Bound) -> u64 {
    explore(bound, || {
        let (memory, mut peers) = (table(4), Graves::new());
        let mut h = handle(&memory, 0);
        let mut long = Vec::new();
        for job in 1..=3 {
            h.submit(job, &mut peers).expect("room");
            long.push(Some(h.take(&mut peers).expect("a job")));
        }
        let other = {
            let (memory, mut peers) = (memory.clone(), peers.clone());
            thread::spawn(move || handle(&memory, 1).submit(4, &mut peers).is_ok())
        };
        let mut sent = vec![1, 2, 3];
        let mut got = Vec::new();
        for (over, job) in [(1, 5), (0, 6)] {
            let taken = long[over].take().expect("not yet");
            let answer_of = taken.job + 100;
            h.finish(taken, answer_of).expect("ours");
            got.extend(answer(h.collect()));
            if h.submit(job, &mut peers).is_ok() {
                sent.push(job);
            }
        }
        if other.join().expect("it submits") {
            sent.push(4);
        }
        h.finish(long[2].take().expect("not yet"), 103).expect("ours");
        got.extend(settle(&mut h, &mut peers, 4));
        got.sort_unstable();
        sent.sort_unstable();
        assert_eq!(got, sent.iter().map(|job| job + 100).collect::<Vec<_>>());
    })
}

/// All models of jobs.
pub fn all() -> Vec<Model> {
    let mut models = vec![
        Model::new("a life of a slot, across the wrap", 4, &[Some(5), None], a_life),
        Model::new("submit, work, collect: 1 slot", 4, &[Some(5)], |b| three_roles(1, b)),
        Model::new("submit, work, collect: 2 slots", 3, &[Some(4)], |b| three_roles(2, b)),
        Model::new("a job is declined, done by another, its slot used again", 2, &[Some(3), None], declined),
        Model::new("told of a job", 2, &[Some(3)], told_of_a_job),
        Model::new("a long job is stepped over while it ends", 3, &[Some(4), None], stepped_over),
        Model::new("round to a submitter", 2, &[Some(3)], round_to_a_submitter),
    ];
    for k in 2..9 {
        let name = |who: &str| format!("a {who} dies before its operation {k}");
        models.push(Model::new(name("worker"), 1, &[Some(2)], move |b| worker_dies(k, b)));
        models.push(Model::new(name("submitter"), 2, &[Some(3)], move |b| submitter_dies(k, b)));
        models.push(Model::new(name("collector"), 2, &[Some(3)], move |b| collector_dies(k, b)));
    }
    models
}
