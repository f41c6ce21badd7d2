//! Jobs and blocks against a peer that writes anything into their memory at any time: every number stays in range,
//! every call ends within its bound of shared operations, and what it says is a typed answer that makes sense by
//! itself.
#![allow(missing_docs)]

mod common;

use std::collections::BTreeMap;

use common::seeds;
use sapwood_core::blocks::{self, Blocks, DescriptorError, Message, ReceiveError, SendError, Shape};
use sapwood_core::claim::{self, Attempts, Jobs, Outcome, SubmitError, TakeError};
use sapwood_core::mem::{Atom, Mem, Ordering};
use sapwood_core::owner::Owner;
use sapwood_core::ring::mpmc;
use sapwood_core::testing::{Adversary, Count, Hostile, Mpmc, Table, Yard};

/// Three calls of four are made against the adversary.
fn with<V>(bad: &mut Adversary, most: usize, call: impl FnOnce() -> V) -> V {
    if bad.below(4) == 0 { call() } else { bad.call(most as u64, call) }
}

fn start(bad: &mut Adversary) -> u64 {
    match bad.below(3) {
        0 => 0,
        1 => (u64::MAX >> (bad.below(4) * 14)).wrapping_sub(bad.below(9) as u64),
        _ => bad.bits(),
    }
}

type Answers = BTreeMap<&'static str, u64>;

fn check_all(of: &str, answers: &Answers, expected: &[&str]) {
    println!("{of}: {answers:?}");
    for answer in expected {
        assert!(answers.contains_key(answer), "{of}: never {answer}");
    }
}

/// What the kernel says of a name; a bad peer may write any.
struct Oracle;

fn alive(owner: Owner) -> bool {
    if owner.seat() < 8 { owner.seat().is_multiple_of(2) } else { Hostile::choice(2) == 0 }
}

impl claim::Peers for Oracle {
    fn alive(&mut self, owner: Owner) -> bool {
        alive(owner)
    }
}

fn jobs_of(seed: u64, answers: &mut Answers) {
    let mut bad = Adversary::new(seed);
    let capacity = 1 << bad.below(7);
    let table =
        Table::<Hostile, [u64; 2], u32>::new(capacity, start(&mut bad), [0; 2], 0).expect("a power of two");
    let most = bad.below(3) + 1;
    let attempts = Attempts::of(most as u32).expect("few");
    // SAFETY: one thread, two names.
    let handle = |me: u32| unsafe { Jobs::attach(table.clone(), Owner::new(me, 5), attempts) };
    let mut handles = [with(&mut bad, 2, || handle(0)), with(&mut bad, 2, || handle(2))];
    let mut held = [const { Vec::new() }; 2];
    // As `Jobs::patience` says: so many turns, each of a few words.
    let turns = 8 * capacity + 64;
    for _ in 0..14 {
        let me = bad.below(2);
        let (jobs, taken) = (&mut handles[me], &mut held[me]);
        let mut note = |what| *answers.entry(what).or_default() += 1;
        match bad.below(14) {
            0 => *jobs = with(&mut bad, 2, || handle(2 * me as u32)),
            1..=4 => note(match with(&mut bad, 5 * turns, || jobs.submit([7; 2], &mut Oracle)) {
                Ok(_) => "submitted",
                Err(SubmitError::Full([7, 7])) => "full",
                Err(SubmitError::Busy { job: [7, 7], .. }) => "submit: busy",
                Err(e) => panic!("{e:?}"),
            }),
            // Once in a call every slot is looked at, where a claim may fail four times.
            5..=7 => match with(&mut bad, 5 * turns + 9 * capacity, || jobs.take(&mut Oracle)) {
                Ok(job) => {
                    assert!(job.attempts <= 15);
                    taken.push(job);
                    note("taken");
                }
                Err(TakeError::Empty) => note("empty"),
                Err(TakeError::Busy { .. }) => note("take: busy"),
                Err(e) => panic!("{e:?}"),
            },
            8 | 9 => {
                if let Some(job) = taken.pop() {
                    let declines = bad.below(3) == 0;
                    let ticket = job.ticket;
                    // What is refused is handed back.
                    let r = with(&mut bad, 4, || match declines {
                        true => jobs.decline(job).map_err(claim::NotHeld::into_inner),
                        false => jobs.finish(job, 9).map_err(|e| e.into_inner().0),
                    });
                    assert!(r.as_ref().err().is_none_or(|job| job.ticket == ticket));
                    note(if r.is_ok() { "given back" } else { "not held" });
                }
            }
            10 | 11 => note(match with(&mut bad, 2 * turns + 3, || jobs.collect()) {
                Some(claim::Collected { outcome: Outcome::Answer(_), .. }) => "collected",
                Some(claim::Collected { outcome: Outcome::Failed { attempts }, .. }) => {
                    assert!(attempts <= 15);
                    "collected: failed"
                }
                None => "nothing to collect",
            }),
            12 => {
                let dead = Owner::new(bad.below(4) as u32, 5);
                let all = bad.below(2) == 0;
                // As often as another recovers as well, up to 64 times a slot.
                let r = with(&mut bad, 128 * capacity, || {
                    if all { jobs.recover_dead(&mut Oracle) } else { jobs.recover(dead) }
                });
                let sum = r.unsubmitted + r.redelivered + r.failed + r.uncollected;
                assert!(sum as usize <= capacity);
                note(if sum == 0 { "nothing to recover" } else { "recovered" });
            }
            _ => {
                assert!(with(&mut bad, capacity, || jobs.in_flight()) <= capacity);
                let words = 2 + capacity;
                assert!(with(&mut bad, words, || format!("{jobs:?} {table:?}")).contains("head"));
            }
        }
    }
}

#[test]
fn jobs() {
    let mut answers = Answers::new();
    seeds(20_000, |seed| jobs_of(seed, &mut answers));
    let submit =
        ["submitted", "full", "submit: busy", "taken", "empty", "take: busy", "given back", "not held"];
    let collect = ["collected", "collected: failed", "nothing to collect", "recovered", "nothing to recover"];
    check_all("jobs", &answers, &[&submit[..], &collect].concat());
}

impl blocks::Peers for Oracle {
    fn alive(&mut self, owner: Owner) -> bool {
        alive(owner)
    }
    fn succeeded(&mut self, _: Owner) -> bool {
        Hostile::choice(2) == 0
    }
    fn orphan(&mut self, _: Owner, message: Message) -> Option<Message> {
        (Hostile::choice(2) == 0).then_some(message)
    }
    fn bad_orphan(&mut self, _: Owner, error: DescriptorError) {
        assert!(!error.to_string().is_empty());
    }
}

fn blocks_of(seed: u64, answers: &mut Answers) {
    let mut bad = Adversary::new(seed);
    let (count, slots) = (bad.below(6) + 1, 1 << bad.below(4));
    let shape = Shape::of(count, 100).expect("few");
    let shape = if bad.below(2) == 0 { shape } else { shape.redelivering().expect("small blocks") };
    let yard = Yard::<Hostile>::of(shape, bad.bits() as u16);
    let ring = Mpmc::<Hostile, blocks::Raw>::new(slots, start(&mut bad), [0; 2]).expect("a power of two");
    let handle = |me: u32| {
        // SAFETY: one thread, two names.
        let end = unsafe { mpmc::Handle::attach(ring.clone(), Owner::new(me, 5)) };
        // SAFETY: as above, and the only ring.
        unsafe { Blocks::attach(yard.clone(), end) }.expect("a seat below 48")
    };
    let mut handles = [with(&mut bad, 2, || handle(0)), with(&mut bad, 2, || handle(47))];
    let mut held = [const { Vec::new() }; 2];
    // As for the ring; the burial of a dead reader takes its block too.
    let turns = (4 * slots + 64) * 12;
    for _ in 0..12 {
        let me = bad.below(2);
        let (h, mine) = (&mut handles[me], &mut held[me]);
        let mut note = |what| *answers.entry(what).or_default() += 1;
        match bad.below(12) {
            0..=3 => match with(&mut bad, 3 * count + 1, || h.loan()) {
                Ok(block) => {
                    let bytes = with(&mut bad, 1, || h.bytes(&block).write());
                    // SAFETY: a block has so many bytes, and this thread is alone.
                    unsafe { bytes.write_bytes(7, 128) };
                    mine.push(block);
                    note("lent");
                }
                Err(blocks::Exhausted { bytes: 128, .. }) => note("exhausted"),
                Err(e) => panic!("{e}"),
            },
            4..=6 => {
                if let Some(block) = mine.pop() {
                    let len = bad.below(160);
                    let again = bad.below(3) == 0;
                    let sent = with(&mut bad, turns + 6, || match again {
                        true => h.resend(Message { block, len, sender: 5 }, &mut Oracle),
                        false => h.send(block, len, &mut Oracle),
                    });
                    match sent {
                        Ok(_) => note("sent"),
                        Err(e) => {
                            note(match &e {
                                SendError::Full(_) => "full",
                                SendError::Closed(_) => "closed",
                                SendError::Busy { .. } => "send: busy",
                                SendError::TooLong { len: l, most: 128, .. } if *l == len => "too long",
                                e => panic!("{e:?}"),
                            });
                            mine.push(e.into_inner());
                        }
                    }
                }
            }
            7..=9 => match with(&mut bad, turns + 5 + slots * 12, || h.receive(&mut Oracle)) {
                Ok(message) => {
                    assert!(
                        message.len <= 128 && (message.block.index() as usize) < count && message.sender < 48
                    );
                    let bytes = with(&mut bad, 1, || h.bytes(&message.block).read());
                    // SAFETY: as above.
                    let sum =
                        (0..message.len).map(|i| u64::from(unsafe { bytes.add(i).read() })).sum::<u64>();
                    assert!(sum <= 128 * 255);
                    mine.push(message.block);
                    note("received");
                }
                Err(ReceiveError::Empty) => note("empty"),
                Err(ReceiveError::Drained) => note("drained"),
                Err(ReceiveError::Busy { .. }) => note("receive: busy"),
                Err(ReceiveError::Bad(e)) => note(match e {
                    DescriptorError::Block { .. } => "no such block",
                    DescriptorError::Length { .. } => "no such length",
                    DescriptorError::Sender { .. } => "no such sender",
                    DescriptorError::Stale { .. } => "stale",
                    e => panic!("{e}"),
                }),
                Err(e) => panic!("{e}"),
            },
            10 => {
                if let Some(block) = mine.pop() {
                    with(&mut bad, 1, || h.give_back(block));
                } else if bad.below(8) == 0 {
                    with(&mut bad, 1, || h.ring().close());
                }
            }
            _ => {
                let dead = Owner::new([0, 1, 2, 47, 48, 500][bad.below(6)], 5);
                // A block: its word, its flight, a slot, its mail, two changes and the way back. A slot: its word, and
                // the burial.
                match with(&mut bad, 7 * count + 15 * slots, || h.recover(dead, &mut Oracle)) {
                    Ok(r) => {
                        assert!((r.freed + r.in_flight + r.redelivered) as usize <= count);
                        if r.redelivered > 0 {
                            *answers.entry("redelivered").or_default() += 1;
                        }
                    }
                    Err(blocks::OwnSeat { seat }) => assert_eq!(seat, dead.seat()),
                }
                with(&mut bad, count + slots, || h.holders());
                with(&mut bad, 2 * count + slots, || h.readers());
                assert!(with(&mut bad, 100, || format!("{h:?} {yard:?}")).contains("me"));
            }
        }
    }
}

#[test]
fn blocks() {
    let mut answers = Answers::new();
    seeds(20_000, |seed| blocks_of(seed, &mut answers));
    let send = ["lent", "exhausted", "sent", "full", "closed", "send: busy", "too long", "received", "empty"];
    let again = ["redelivered"];
    let bad = ["drained", "receive: busy", "no such block", "no such length", "no such sender", "stale"];
    check_all("blocks", &answers, &[&send[..], &bad, &again].concat());
}

/// The dead and the living as a bad peer has painted them: all even seats live.
struct Painted;

impl claim::Peers for Painted {
    fn alive(&mut self, owner: Owner) -> bool {
        alive(owner)
    }
}

/// Slot words that make a handle walk over the whole table again and again: the walks count as turns, so that a call
/// costs a few looks a slot, not the square of their number.
#[test]
fn painted_jobs_cost_a_few_looks_a_slot() {
    const N: usize = 1024;
    let paint = |word: fn(u64) -> claim::Word| {
        let table = Table::<Count, u64, u64>::new(N, 0, 0, 0).expect("a power of two");
        for i in 0..N as u64 {
            let slot = std::ptr::from_ref(claim::Region::slot(&table, i));
            // SAFETY: a slot begins with its word (repr C), and nobody else is here.
            unsafe { &*slot.cast::<<Count as Mem>::U64>() }.store(word(i).0, Ordering::Relaxed);
        }
        // SAFETY: the only handle.
        unsafe { Jobs::attach(table, Owner::new(0, 1), Attempts::of(3).expect("few")) }
    };
    let (dead, living) = (Owner::new(1, 1), Owner::new(2, 1));
    let looks = |call: &mut dyn FnMut()| Count::of(call).loads as usize;
    // Jobs that take long everywhere; behind them it looks as if others had been further on.
    let mut jobs = paint(|i| {
        let turn = if i == N as u64 - 1 { 5 } else { 0 };
        claim::Word::new(turn, 0, Owner::new(2, 1), claim::State::Claimed)
    });
    let submit =
        looks(&mut || assert!(matches!(jobs.submit(7, &mut Painted), Err(SubmitError::Busy { .. }))));
    // Submitters that died everywhere.
    let mut jobs = paint(|_| claim::Word::new(1, 0, Owner::new(1, 1), claim::State::Filling));
    let take = looks(&mut || assert!(jobs.take(&mut Painted).is_err()));
    println!("{submit} and {take} looks, {N} slots");
    assert!(submit < 20 * N && take < 20 * N, "{submit} and {take} looks at {N} slots");
    assert!(!alive(dead) && alive(living));
}
