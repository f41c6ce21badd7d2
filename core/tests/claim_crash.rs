//! A participant of a table is killed before each of its shared operations, in every role: each job that was submitted
//! is collected once, and the whole capacity is there again.
#![allow(missing_docs)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use sapwood_core::claim::{
    Attempts, Desk, Jobs, Outcome, Peers, Region, SubmitError, TURN_BITS, TakeError, Taken,
};
use sapwood_core::mem::Bug;
use sapwood_core::owner::Owner;
use sapwood_core::testing::{Crash, Table};

type Memory = Table<Crash, u64, u64>;
type Handle = Jobs<Crash, u64, u64, Memory>;

const MOST: u32 = 2;
const ANSWER: u64 = 7_000_000;

fn full() -> bool {
    std::env::var_os("SAPWOOD_FULL").is_some()
}

#[derive(Default)]
struct Truth {
    dead: BTreeSet<u32>,
    /// Tickets by job, of submissions that returned.
    submitted: BTreeMap<u64, u64>,
    /// How often a job's end came by a call that returned, by ticket.
    collected: BTreeMap<u64, u32>,
    /// What is being collected, before its slot is given back.
    in_hand: Option<u64>,
    /// What the dead had in hand: it may come again, or be gone.
    perhaps: BTreeSet<u64>,
    /// Tickets whose answer was committed by a call that returned.
    answered: BTreeSet<u64>,
    /// Who died with the job, by ticket.
    deaths: BTreeMap<u64, u32>,
    /// The last ticket that was taken for the first time, and all of them.
    last_new: Option<u64>,
    taken: BTreeSet<u64>,
    start: u64,
}

#[derive(Clone)]
struct World {
    table: Memory,
    truth: Rc<RefCell<Truth>>,
}

struct Eyes<'a>(&'a World);

impl Peers for Eyes<'_> {
    fn alive(&mut self, owner: Owner) -> bool {
        !self.0.truth.borrow().dead.contains(&owner.seat())
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Call {
    Submit(u64),
    Take,
    Finish,
    Decline,
    GiveUp,
    Collect,
    Recover(u32),
    RecoverDead,
}
use Call::*;

struct Participant {
    world: World,
    handle: Handle,
    desk: Desk<Crash, u64, u64, Memory>,
    mine: Vec<Taken<u64>>,
}

impl Participant {
    fn attach(world: &World, seat: u32) -> Self {
        let attempts = Attempts::of(MOST).expect("a number");
        // SAFETY: each seat is used by one handle at a time, and once.
        let handle: Handle = unsafe { Jobs::attach(world.table.clone(), Owner::new(seat, 1), attempts) };
        // SAFETY: it is given what this handle has taken.
        let desk = unsafe { handle.desk() };
        Participant { world: world.clone(), handle, desk, mine: Vec::new() }
    }

    /// False: there was nothing to do.
    fn call(&mut self, call: Call) -> bool {
        let world = self.world.clone();
        let mut eyes = Eyes(&world);
        match call {
            Submit(job) => match self.handle.submit(job, &mut eyes) {
                Ok(ticket) => {
                    let before = world.truth.borrow_mut().submitted.insert(job, ticket.0);
                    assert_eq!(before, None);
                    true
                }
                Err(SubmitError::Full(_)) => false,
                Err(e) => panic!("nobody is stopped: {e}"),
            },
            Take => {
                let taken = match self.handle.take(&mut eyes) {
                    Ok(taken) => taken,
                    Err(TakeError::Empty) => return false,
                    Err(e) => panic!("nobody is stopped: {e}"),
                };
                let mut truth = world.truth.borrow_mut();
                let ticket = taken.ticket.0;
                assert!(!truth.answered.contains(&ticket), "a job that was answered is done again");
                assert_eq!(taken.attempts, truth.deaths.get(&ticket).copied().unwrap_or(0));
                let since = |t: u64| t.wrapping_sub(truth.start);
                if taken.attempts == 0 && !truth.taken.contains(&ticket) {
                    assert!(truth.last_new.is_none_or(|t| since(t) < since(ticket)), "out of order");
                    truth.last_new = Some(ticket);
                    truth.taken.insert(ticket);
                }
                self.mine.push(taken);
                true
            }
            Finish => {
                let Some(taken) = self.mine.pop() else { return false };
                let (ticket, answer) = (taken.ticket.0, taken.job + ANSWER);
                self.handle.finish(taken, answer).expect("ours");
                world.truth.borrow_mut().answered.insert(ticket);
                true
            }
            Decline => {
                let Some(taken) = self.mine.pop() else { return false };
                self.handle.decline(taken).expect("ours");
                true
            }
            GiveUp => {
                let Some(taken) = self.mine.pop() else { return false };
                let ticket = taken.ticket.0;
                let last = self.desk.give_up(taken).expect("ours");
                let mut truth = world.truth.borrow_mut();
                let deaths = truth.deaths.entry(ticket).or_default();
                *deaths += 1;
                assert_eq!(last, *deaths == MOST);
                true
            }
            Collect => {
                let got = self.handle.collect_with(|c| {
                    world.truth.borrow_mut().in_hand = Some(c.ticket.0);
                    c
                });
                let mut truth = world.truth.borrow_mut();
                truth.in_hand = None;
                let Some(c) = got else { return false };
                *truth.collected.entry(c.ticket.0).or_default() += 1;
                match c.outcome {
                    Outcome::Answer(a) => {
                        let known = truth.submitted.iter().find(|(_, t)| **t == c.ticket.0).map(|(j, _)| *j);
                        assert!(known.is_none_or(|job| a == job + ANSWER), "the answer to another job");
                        assert!(a > ANSWER, "an answer that nobody gave");
                    }
                    Outcome::Failed { attempts } => {
                        assert_eq!((attempts, truth.deaths.get(&c.ticket.0)), (MOST, Some(&MOST)));
                    }
                }
                true
            }
            Recover(seat) => {
                let dead = world.truth.borrow().dead.contains(&seat);
                dead && self.handle.recover(Owner::new(seat, 1)) != Default::default()
            }
            RecoverDead => self.handle.recover_dead(&mut eyes) != Default::default(),
        }
    }
}

/// Runs `calls` on `seat` and kills it before its shared operation `k`; says whether it came to its end, after which it
/// leaves.
fn victim(world: &World, seat: u32, calls: &[Call], k: u64) -> bool {
    let end = Crash::until(k, || {
        let mut p = Participant::attach(world, seat);
        for call in calls {
            p.call(*call);
        }
    });
    let mut truth = world.truth.borrow_mut();
    truth.dead.insert(seat);
    if let Some(ticket) = truth.in_hand.take() {
        truth.perhaps.insert(ticket);
    }
    end.is_some()
}

/// Who died with which job: what the words say when nobody has recovered anything yet.
fn note_deaths(world: &World, seat: u32) {
    let shift = world.table.shift();
    let claimed: Vec<u64> = (0..1u64 << shift)
        .filter(|i| {
            let w = world.table.slot(*i).word();
            w.state() == sapwood_core::claim::State::Claimed && w.owner().seat() == seat
        })
        .collect();
    // The ticket of a job lies in plain memory, which nobody touches now: the slot and the tickets given tell it.
    let mut truth = world.truth.borrow_mut();
    for place in claimed {
        let here = |t: &&u64| **t & ((1 << shift) - 1) == place;
        let ticket =
            truth.submitted.values().filter(here).max_by_key(|t| t.wrapping_sub(truth.start)).copied();
        let ticket = ticket.expect("a job that is claimed was submitted");
        *truth.deaths.entry(ticket).or_default() += 1;
    }
}

/// A survivor works and collects until nothing is left, then fills the table and empties it again, in order.
fn settle(world: &World, seat: u32) {
    let mut p = Participant::attach(world, seat);
    p.call(RecoverDead);
    for _ in 0..64 {
        p.call(Take);
        p.call(Finish);
        p.call(Collect);
    }
    assert_eq!((p.handle.in_flight(), p.handle.census().in_flight()), (0, 0), "wedged: {:?}", world.table);
    let n = p.handle.capacity() as u64;
    for i in 0..n {
        assert!(p.call(Submit(5000 + i)), "a place is lost");
    }
    assert!(!p.call(Submit(6000)), "a place too many");
    for i in 0..n {
        assert!(p.call(Take));
        assert_eq!(p.mine[0].job, 5000 + i, "out of order");
        assert!(p.call(Finish) && p.call(Collect));
    }
    assert!(!p.call(Take) && !p.call(Collect));
    let truth = world.truth.borrow();
    assert!(truth.collected.values().all(|n| *n == 1), "collected twice: {:?}", truth.collected);
    for (job, ticket) in &truth.submitted {
        let came = truth.collected.contains_key(ticket) || truth.perhaps.contains(ticket);
        assert!(came, "job {job} was lost");
    }
}

fn starts(shift: u32) -> [u64; 4] {
    [0, u64::MAX, (1 << (TURN_BITS + shift)) - 1, (1u64 << (TURN_BITS + shift)).wrapping_sub(2)]
}

/// `laps` jobs have come and gone; then `waiting` wait, `long` of them with a worker that lives and holds them.
fn before(shift: u32, start: u64, laps: u64, waiting: u64, long: bool) -> (World, Participant) {
    let table = Table::new(1 << shift, start, 0, 0).expect("a power of two");
    let truth = Truth { start, ..Truth::default() };
    let world = World { table, truth: Rc::new(RefCell::new(truth)) };
    let mut p = Participant::attach(&world, 0);
    for i in 0..laps {
        assert!(p.call(Submit(100 + i)) && p.call(Take) && p.call(Finish) && p.call(Collect));
    }
    for i in 0..waiting {
        assert!(p.call(Submit(200 + i)));
    }
    if long && waiting > 0 {
        assert!(p.call(Take));
    }
    (world, p)
}

const VICTIMS: &[&[Call]] = &[
    &[Submit(1)],
    &[Take, Finish],
    &[Take, Decline, Take, Finish],
    &[Take, GiveUp, Take, GiveUp, Collect],
    &[Take, Finish, Collect],
    &[Submit(1), Submit(2), Take, Take, Finish, Collect, Submit(3)],
    &[Take, Take, Finish, Finish, Collect, Submit(1), Collect],
];

const SURVIVORS: &[&[Call]] = &[
    &[],
    &[Submit(50), Take, Finish, Submit(51), Submit(52)],
    &[Take, RecoverDead, Take, Finish, Finish, Collect, Submit(50)],
    &[Collect, Recover(1), Collect, Submit(50), Take, Finish, Take, Decline],
];

fn one_death(shifts: std::ops::Range<u32>) -> u64 {
    let mut points = 0;
    for shift in shifts {
        for start in starts(shift) {
            for (laps, waiting) in (0..3).flat_map(|l| (0..=1 << shift).map(move |w| (l, w))) {
                for (long, calls) in
                    [false, true].into_iter().flat_map(|l| VICTIMS.iter().map(move |v| (l, v)))
                {
                    for survivor in SURVIVORS {
                        for k in 0..10_000 {
                            let (world, mut first) = before(shift, start, laps, waiting, long);
                            let over = victim(&world, 1, calls, k);
                            note_deaths(&world, 1);
                            let what = format!("n {}, {start:#x}, {laps}, {waiting}, {long}", 1 << shift);
                            context(&format!("{what}: {calls:?} k {k}, then {survivor:?}"), || {
                                let mut p = Participant::attach(&world, 2);
                                survivor.iter().for_each(|c| _ = p.call(*c));
                                while p.call(Finish) {}
                                while first.call(Finish) {}
                                settle(&world, 3);
                            });
                            points += 1;
                            if over {
                                break;
                            }
                        }
                    }
                }
            }
        }
    }
    points
}

fn context(what: &str, run: impl FnOnce()) {
    if let Err(e) = catch_unwind(AssertUnwindSafe(run)) {
        let text = e.downcast_ref::<String>().cloned();
        let text = text.or_else(|| e.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default();
        panic!("{what}: {text}");
    }
}

/// The second victim is killed while it recovers from the first, or works on what that one has left.
fn two_deaths(stride: u64) -> u64 {
    let seconds: &[&[Call]] = &[
        &[Recover(1), Take, Finish, Collect],
        &[RecoverDead, Collect, Submit(30), Take],
        &[Submit(30), Recover(1), Take, Finish],
    ];
    let mut pairs = 0;
    for (shift, start) in [(0, u64::MAX), (1, (1 << (TURN_BITS + 1)) - 1), (2, 0)] {
        for calls in VICTIMS {
            for second in seconds {
                for waiting in 0..=1 << shift {
                    for k in (0..10_000).step_by(stride as usize) {
                        let mut over = false;
                        for k2 in (0..10_000).step_by(stride as usize) {
                            let (world, _first) = before(shift, start, 1, waiting, false);
                            over = victim(&world, 1, calls, k);
                            note_deaths(&world, 1);
                            let over2 = victim(&world, 2, second, k2);
                            note_deaths(&world, 2);
                            context(&format!("{calls:?} k {k}, {second:?} k {k2}, {waiting}"), || {
                                settle(&world, 3);
                            });
                            pairs += 1;
                            if over2 {
                                break;
                            }
                        }
                        if over {
                            break;
                        }
                    }
                }
            }
        }
    }
    pairs
}

/// Handles that have slept for many laps, and hints that late stores have put back, find their places.
fn stale_handles() -> u64 {
    let mut cases = 0;
    for shift in 0..3 {
        for start in starts(shift) {
            for (laps, back) in (0..14u64).flat_map(|l| [None, Some(0), Some(l / 2)].map(move |b| (l, b))) {
                let table = Table::new(1 << shift, start, 0, 0).expect("a power of two");
                let world =
                    World { table, truth: Rc::new(RefCell::new(Truth { start, ..Truth::default() })) };
                let (mut sleeper, mut awake) =
                    (Participant::attach(&world, 0), Participant::attach(&world, 1));
                for i in 0..laps {
                    assert!(awake.call(Submit(100 + i)));
                    assert!(awake.call(Take) && awake.call(Finish) && awake.call(Collect));
                }
                if let Some(back) = back {
                    world.table.hints().set(start.wrapping_add(back), start.wrapping_add(back));
                }
                context(&format!("n {}, {start:#x}, {laps} laps, hints {back:?}", 1 << shift), || {
                    assert!(sleeper.call(Submit(1)));
                    assert!(awake.call(Take) && awake.call(Finish));
                    assert!(sleeper.call(Collect) && !sleeper.call(Take) && !sleeper.call(Collect));
                    if shift > 0 {
                        assert!(awake.call(Submit(2)) && awake.call(Submit(3)) && sleeper.call(Take));
                        assert_eq!(sleeper.mine[0].job, 2, "out of order");
                        assert!(sleeper.call(Finish) && sleeper.call(Take) && sleeper.call(Finish));
                    }
                    settle(&world, 3);
                });
                cases += 1;
            }
        }
    }
    cases
}

/// Whoever is stopped holds its slot, whatever others do.
fn the_stopped_keep_their_slots() -> u64 {
    let mut points = 0;
    for calls in [&[Submit(1)][..], &[Take, Finish], &[Take, Finish, Collect]] {
        for k in 0..40 {
            let (world, _first) = before(1, 0, 1, 1, false);
            victim(&world, 1, calls, k);
            // Not dead: only stopped.
            world.truth.borrow_mut().dead.clear();
            let words = |held: bool| -> Vec<u64> {
                let all = (0..2).map(|i| world.table.slot(i).word());
                let mine = all.filter(|w| w.is_held() && w.owner().seat() == 1);
                // A worker's slot may be stepped over.
                mine.map(|w| if held { w.0 << TURN_BITS } else { w.0 }).collect()
            };
            let before = words(true);
            let mut p = Participant::attach(&world, 2);
            for job in 60..64 {
                let mut eyes = Eyes(&world);
                _ = p.handle.submit(job, &mut eyes);
                if let Ok(taken) = p.handle.take(&mut eyes) {
                    p.handle.finish(taken, 0).expect("ours");
                }
                _ = p.handle.collect();
                assert_eq!(p.handle.recover_dead(&mut eyes), Default::default());
            }
            assert_eq!(words(true), before, "{calls:?} k {k}: somebody was robbed");
            points += 1;
        }
    }
    points
}

/// A worker that has found nothing finds what comes back later, and no new job before its turn.
fn idle_workers() {
    let (world, mut first) = before(2, 0, 1, 1, true);
    let mut idle = Participant::attach(&world, 2);
    assert!(!idle.call(Take) && !idle.call(Take));
    assert!(first.call(Decline) && idle.call(Take) && idle.call(Finish) && idle.call(Collect));
    // Seat 1 claims a place and stops; another job is submitted behind it.
    victim(&world, 1, &[Submit(1)], 4);
    world.truth.borrow_mut().dead.clear();
    assert!(first.call(Submit(2)));
    let mut eyes = Eyes(&world);
    assert!(matches!(idle.handle.take(&mut eyes), Err(TakeError::Busy { .. })), "2 comes after 1");
}

/// Jobs that take long hold up no other's answer, also laps later, and each is collected when it is over: also where
/// there are more of them than a collector keeps in mind.
fn long_jobs() -> u64 {
    let mut cases = 0;
    for (shift, long) in [(1, 1), (2, 1), (2, 3), (5, 15), (5, 17), (5, 30)] {
        for start in starts(shift) {
            let (world, mut owner) = before(shift, start, 1, 0, false);
            let mut slow = Participant::attach(&world, 1);
            context(&format!("n {}, {start:#x}, {long} long jobs", 1 << shift), || {
                for job in 0..long {
                    assert!(owner.call(Submit(200 + job)) && slow.call(Take) && !owner.call(Collect));
                }
                for job in 0..4 << shift {
                    assert!(owner.call(Submit(1000 + job)) && owner.call(Take) && owner.call(Finish));
                    assert!(owner.call(Collect), "the answer of a short job is held up");
                    assert!(!owner.call(Collect));
                }
                for _ in 0..long {
                    assert!(slow.call(Finish) && owner.call(Collect), "a long job was forgotten");
                }
                settle(&world, 3);
            });
            cases += 1;
        }
    }
    cases
}

#[test]
fn long_jobs_hold_up_no_answer() {
    println!("claim: {} tables with long jobs", long_jobs());
}

#[test]
fn idle_workers_find_what_comes_back() {
    idle_workers();
}

#[test]
fn one_death_anywhere_loses_no_job() {
    println!("claim: killed at {} points", one_death(0..if full() { 4 } else { 3 }));
}

#[test]
fn two_deaths_lose_no_job() {
    println!("claim: {} pairs of deaths", two_deaths(if full() { 1 } else { 2 }));
}

#[test]
fn whoever_has_slept_finds_its_place() {
    println!("claim: {} stale handles", stale_handles());
}

#[test]
fn nobody_is_dead_because_he_is_stopped() {
    println!("claim: stopped at {} points", the_stopped_keep_their_slots());
}

#[test]
fn mistakes_are_noticed() {
    let scenarios: &[(&str, &dyn Fn())] = &[
        ("idle workers", &idle_workers),
        ("long jobs", &|| _ = long_jobs()),
        ("stale handles", &|| _ = stale_handles()),
        ("the stopped", &|| _ = the_stopped_keep_their_slots()),
        ("one death", &|| _ = one_death(0..2)),
        ("two deaths", &|| _ = two_deaths(2)),
    ];
    std::panic::set_hook(Box::new(|_| {}));
    let bugs = [
        Bug::ClaimSubmitFirst,
        Bug::ClaimFinishFirst,
        Bug::ClaimSameTurn,
        Bug::ClaimHintFirst,
        Bug::ClaimAssumeDead,
        Bug::ClaimAssumeAlive,
        Bug::ClaimJumpTooFar,
        Bug::ClaimTakeJumpTooFar,
        Bug::ClaimNoSearch,
        Bug::ClaimSearchTakesNew,
        Bug::ClaimAlwaysQuiet,
        Bug::ClaimDropJob,
        Bug::ClaimUncounted,
        Bug::ClaimDropAnswer,
        Bug::ClaimRedoDone,
        Bug::ClaimForgetPassed,
        Bug::ClaimTrailStays,
    ];
    let noticed = bugs.map(|bug| {
        let fails = |run: &dyn Fn()| catch_unwind(AssertUnwindSafe(|| Crash::with_bug(bug, run))).is_err();
        (bug, scenarios.iter().find(|(_, run)| fails(run)).map(|(name, _)| *name))
    });
    let _ = std::panic::take_hook();
    for (bug, by) in noticed {
        println!("mutant {bug:?} | noticed by {}", by.unwrap_or("NOBODY"));
    }
    assert!(noticed.iter().all(|(_, by)| by.is_some()), "a mistake that nobody notices");
}
