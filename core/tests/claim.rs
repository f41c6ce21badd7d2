//! Jobs, one call at a time: against a plain model, and what each answer means.
#![allow(missing_docs)]

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;
use sapwood_core::claim::{
    Attempts, Census, Collected, Jobs, MOST_ATTEMPTS, Outcome, Peers, Recovered, Region, State, SubmitError,
    TURN_BITS, TakeError, Taken, Ticket,
};
use sapwood_core::mem::{Mem, Real};
use sapwood_core::owner::Owner;
use sapwood_core::testing::{Crash, Table};

type Memory<M> = Table<M, u64, u64>;
type Handle<M> = Jobs<M, u64, u64, Memory<M>>;

/// Everybody lives but these seats.
struct Dead<'a>(&'a [u32]);

impl Peers for Dead<'_> {
    fn alive(&mut self, owner: Owner) -> bool {
        !self.0.contains(&owner.seat())
    }
}

fn table<M: Mem>(slots: usize, start: u64) -> Memory<M> {
    Table::new(slots, start, 0, 0).expect("a power of two")
}

fn handle<M: Mem>(table: &Memory<M>, seat: u32, most: u32) -> Handle<M> {
    let attempts = Attempts::of(most).expect("a number of attempts that can be counted");
    // SAFETY: these tests use each seat in one handle at a time.
    unsafe { Jobs::attach(table.clone(), Owner::new(seat, 1), attempts) }
}

fn all() -> Dead<'static> {
    Dead(&[])
}

fn submit(h: &mut Handle<Real>, job: u64) -> u64 {
    h.submit(job, &mut all()).expect("room").0
}

fn take(h: &mut Handle<Real>) -> Taken<u64> {
    h.take(&mut all()).expect("a job")
}

fn taken_job(h: &mut Handle<Real>) -> Option<u64> {
    h.take(&mut all()).ok().map(|t| t.job)
}

fn collected(h: &mut Handle<Real>) -> Option<u64> {
    h.collect().map(|c| match c.outcome {
        Outcome::Answer(a) => a,
        Outcome::Failed { .. } => panic!("{c:?} has failed"),
    })
}

#[test]
fn thirteen_jobs_come_back_in_order() {
    let memory = table::<Real>(16, 0);
    let (mut owner, mut worker) = (handle(&memory, 0, 3), handle(&memory, 1, 3));
    let tickets: Vec<u64> = (1..=13).map(|job| submit(&mut owner, job)).collect();
    assert!(tickets.is_sorted());
    for _ in 0..13 {
        let taken = take(&mut worker);
        let answer = taken.job * 10;
        worker.finish(taken, answer).expect("ours");
    }
    assert_eq!(worker.take(&mut all()).map(|t| t.job), Err(TakeError::Empty));
    for (i, ticket) in tickets.into_iter().enumerate() {
        let outcome = Outcome::Answer((i as u64 + 1) * 10);
        assert_eq!(owner.collect(), Some(Collected { ticket: Ticket(ticket), outcome }));
    }
    assert_eq!((owner.collect(), owner.in_flight()), (None, 0));
}

/// A job that takes long holds up neither submissions nor answers, and is collected when it is over.
#[test]
fn a_long_job_holds_up_nobody() {
    let memory = table::<Real>(4, u64::MAX - 2);
    let (mut owner, mut slow, mut quick) =
        (handle(&memory, 0, 3), handle(&memory, 1, 3), handle(&memory, 2, 3));
    submit(&mut owner, 1000);
    let long = take(&mut slow);
    for round in 0..20 {
        for i in 0..3 {
            submit(&mut owner, round * 10 + i);
        }
        assert!(matches!(owner.submit(9, &mut all()), Err(SubmitError::Full(9))), "four jobs are in flight");
        for i in 0..3 {
            let taken = take(&mut quick);
            assert_eq!(taken.job, round * 10 + i);
            quick.finish(taken, round * 10 + i).expect("ours");
        }
        for i in 0..3 {
            assert_eq!(collected(&mut owner), Some(round * 10 + i));
        }
        assert_eq!((collected(&mut owner), owner.in_flight()), (None, 1));
    }
    slow.finish(long, 1000).expect("ours, after 19 laps");
    assert_eq!(collected(&mut owner), Some(1000));
    // The whole capacity is there again.
    for i in 0..4 {
        submit(&mut owner, i);
    }
    assert!(matches!(owner.submit(9, &mut all()), Err(SubmitError::Full(9))));
    assert_eq!((0..4).map(|_| take(&mut quick).job).collect::<Vec<_>>(), [0, 1, 2, 3]);
}

/// The one place that a long job has cost is free again behind a job that waits: full, and still in order.
fn waiting_is_not_stepped_over<M: Mem>() {
    let memory = table::<M>(4, 0);
    let mut owner = handle(&memory, 0, 3);
    let mut workers: Vec<_> = (1..=4).map(|seat| handle(&memory, seat, 3)).collect();
    let mut taken = Vec::new();
    for (i, w) in workers.iter_mut().enumerate() {
        owner.submit(i as u64, &mut all()).expect("room");
        taken.push(Some(w.take(&mut all()).expect("a job")));
    }
    let mut end = |i: usize, owner: &mut Handle<M>| {
        workers[i].finish(taken[i].take().expect("not yet"), 0).expect("ours");
        owner.collect().expect("its answer");
    };
    end(1, &mut owner);
    assert_eq!(owner.submit(5, &mut all()), Ok(Ticket(5)), "0 was stepped over");
    end(0, &mut owner);
    assert_eq!(owner.submit(8, &mut all()), Ok(Ticket(8)), "2 and 3 were stepped over");
    end(3, &mut owner);
    assert_eq!(owner.submit(9, &mut all()), Err(SubmitError::Full(9)), "5 waits in the next place");
    let mut worker = handle(&memory, 5, 3);
    let mut take = || worker.take(&mut all()).expect("a job").job;
    assert_eq!((take(), take()), (5, 8));
    assert_eq!(owner.submit(11, &mut all()), Ok(Ticket(11)));
    assert_eq!(worker.take(&mut all()).expect("a job").job, 11);
}

#[test]
fn a_waiting_job_is_never_stepped_over() {
    waiting_is_not_stepped_over::<Real>();
    let broken = || waiting_is_not_stepped_over::<Crash>();
    let noticed = |bug| catch_unwind(|| Crash::with_bug(bug, broken)).is_err();
    assert!(noticed(sapwood_core::mem::Bug::ClaimStepOverFilled));
}

#[test]
fn a_job_is_delivered_until_its_attempts_are_used_up() {
    for most in [1, 3, MOST_ATTEMPTS] {
        let memory = table::<Real>(2, u64::MAX);
        let mut owner = handle(&memory, 0, most);
        let ticket = submit(&mut owner, 7);
        let mut recovered = Recovered::default();
        for i in 0..most {
            let mut victim = handle(&memory, 1, most);
            let taken = take(&mut victim);
            assert_eq!((taken.ticket, taken.job, taken.attempts), (Ticket(ticket), 7, i));
            recovered = owner.recover(victim.me());
            assert_eq!(recovered.redelivered + recovered.failed, 1);
        }
        assert_eq!(recovered, Recovered { failed: 1, ..Recovered::default() });
        assert_eq!(taken_job(&mut owner), None);
        let failed = Collected { ticket: Ticket(ticket), outcome: Outcome::Failed { attempts: most } };
        assert_eq!((owner.collect(), owner.collect(), owner.in_flight()), (Some(failed), None, 0));
        // The count begins anew with the next job.
        submit(&mut owner, 8);
        assert_eq!(take(&mut owner).attempts, 0);
    }
}

#[test]
fn declining_is_no_attempt_and_loses_nothing() {
    let memory = table::<Real>(2, 0);
    let (mut owner, mut worker) = (handle(&memory, 0, 1), handle(&memory, 1, 1));
    submit(&mut owner, 5);
    for _ in 0..40 {
        let taken = take(&mut worker);
        assert_eq!((taken.job, taken.attempts), (5, 0));
        worker.decline(taken).expect("ours");
        assert_eq!(owner.census(), Census { waiting: 1, ..Census::default() });
    }
    let taken = take(&mut owner);
    owner.finish(taken, 50).expect("ours");
    assert_eq!(collected(&mut owner), Some(50));
}

#[test]
fn a_job_of_another_table_is_not_finished() {
    let (one, two) = (table::<Real>(1, 0), table::<Real>(1, 0));
    let (mut a, mut b) = (handle(&one, 0, 3), handle(&two, 0, 3));
    submit(&mut a, 1);
    submit(&mut b, 2);
    let taken = take(&mut a);
    let e = b.finish(taken, 3).expect_err("not this table's");
    assert_eq!((e.ticket, e.found.state()), (Ticket(0), State::Filled));
    assert!(e.to_string().starts_with("job 0 is not held by this worker"), "{e}");
    let (taken, answer) = e.into_inner();
    assert_eq!((taken.job, answer), (1, 3), "both are handed back");
    let taken = b.decline(taken).expect_err("nor is it declined").into_inner();
    assert_eq!(take(&mut b).job, 2);
    a.finish(taken, 30).expect("it is still a's");
    assert_eq!(collected(&mut a), Some(30));
}

/// A worker that was recovered although it lives may find its name in the slot again, but over another job.
#[test]
fn an_earlier_job_of_the_same_place_is_not_finished() {
    let memory = table::<Real>(1, 0);
    let (mut owner, mut worker) = (handle(&memory, 0, 3), handle(&memory, 1, 3));
    submit(&mut owner, 1);
    let lost = take(&mut worker);
    owner.recover(Owner::new(1, 1));
    let again = take(&mut owner);
    owner.finish(again, 10).expect("ours");
    assert_eq!(collected(&mut owner), Some(10));
    let ticket = submit(&mut owner, 2);
    let held = take(&mut worker);
    let e = worker.finish(lost, 11).expect_err("it was job 1");
    assert_eq!((e.instead, e.found.state()), (Some(Ticket(ticket)), State::Claimed));
    assert!(e.to_string().ends_with(", of job 1"), "{e}");
    let e = worker.decline(e.into_inner().0).expect_err("nor is another job declined in its place");
    assert_eq!(e.ticket, Ticket(0));
    worker.finish(held, 20).expect("ours");
    assert_eq!(collected(&mut owner), Some(20));
}

#[test]
fn a_panic_over_an_answer_gives_its_slot_back() {
    let memory = table::<Real>(1, 0);
    let mut h = handle(&memory, 0, 3);
    submit(&mut h, 1);
    let taken = take(&mut h);
    h.finish(taken, 2).expect("ours");
    let panicked = catch_unwind(AssertUnwindSafe(|| h.collect_with(|c| panic!("over {c:?}"))));
    assert!(panicked.is_err());
    assert_eq!((h.collect(), h.in_flight()), (None, 0));
    submit(&mut h, 3);
}

/// Whoever is stopped in the middle of a call is named where it blocks, and nowhere else.
#[test]
fn the_stopped_are_named_and_not_robbed() {
    let memory = table::<Crash>(2, 0);
    let mut h = handle(&memory, 0, 3);
    h.submit(1, &mut all()).expect("room");
    let mut stopped = handle(&memory, 1, 3);
    // Look, claim, hint: it stops before it writes the job.
    assert_eq!(Crash::until(3, || stopped.submit(2, &mut all())), None);
    assert_eq!(h.submit(3, &mut all()), Err(SubmitError::Full(3)), "1 waits");
    let one = h.take(&mut all()).expect("1");
    let busy = Owner::new(1, 1);
    assert_eq!(h.take(&mut all()).map(|t| t.job), Err(TakeError::Busy { owner: busy }));
    h.decline(one).expect("ours");
    let one = h.take(&mut all()).expect("a job that has come back is found all the same");
    assert_eq!(h.submit(3, &mut all()), Err(SubmitError::Busy { owner: busy, job: 3 }));
    assert_eq!(memory.slot(1).word().state(), State::Filling);
    // It dies: it never submitted anything.
    assert_eq!(h.submit(3, &mut Dead(&[1])), Ok(Ticket(3)), "1 takes long and is stepped over");
    assert_eq!(h.take(&mut all()).map(|t| t.job), Ok(3));
    h.finish(one, 10).expect("ours");

    // An owner stops over an answer: look, claim, ticket, answer.
    let mut stopped = handle(&memory, 2, 3);
    assert_eq!(Crash::until(4, || stopped.collect()), None);
    assert_eq!((h.collect(), h.census().collecting), (None, 1));
    let busy = Owner::new(2, 1);
    assert_eq!(h.submit(4, &mut all()), Err(SubmitError::Busy { owner: busy, job: 4 }));
    assert_eq!(h.submit(4, &mut Dead(&[2])), Err(SubmitError::Full(4)), "its answer goes to another");
    let answer = Collected { ticket: Ticket(0), outcome: Outcome::Answer(10) };
    assert_eq!(h.collect(), Some(answer));
    assert_eq!(h.submit(4, &mut all()), Ok(Ticket(4)));
}

#[test]
fn errors_are_sentences_and_hand_the_job_back() {
    let busy = SubmitError::Busy { owner: Owner::new(3, 2), job: 5 };
    assert_eq!(busy.to_string(), "the next place for a job is held by seat 3, epoch 2");
    assert_eq!((busy.into_inner(), SubmitError::Full(6).into_inner()), (5, 6));
    assert_eq!(SubmitError::Full(0).to_string(), "the table of jobs is full");
    assert_eq!(TakeError::Empty.to_string(), "no job waits");
    let busy = TakeError::Busy { owner: Owner::NOBODY };
    assert_eq!(busy.to_string(), "the next job is held by nobody");
}

#[derive(Clone, Debug)]
enum Call {
    Submit,
    Take,
    /// One of the jobs that this participant holds, if there is one.
    Finish(usize),
    Decline(usize),
    Collect,
    /// Dies, is recovered by the next participant, and a newcomer takes its seat.
    Die,
    /// A fresh handle under the same name: it knows the hints only.
    Forget,
    /// Late stores: the hints fall this far behind.
    Behind(u64, u64),
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        5 => Just(Call::Submit),
        5 => Just(Call::Take),
        4 => (0usize..8).prop_map(Call::Finish),
        1 => (0usize..8).prop_map(Call::Decline),
        4 => Just(Call::Collect),
        1 => Just(Call::Die),
        1 => Just(Call::Forget),
        1 => (0u64..40, 0u64..40).prop_map(|(t, h)| Call::Behind(t, h)),
    ]
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Step {
    New,
    Again,
    Held(usize),
    Over(Option<u64>),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    ticket: u64,
    /// The last position of its slot that is past, counted from the start.
    age: u64,
    attempts: u32,
    step: Step,
}

/// What a table is: places, tickets, and nothing that is hard.
struct Model {
    start: u64,
    places: Vec<Option<Entry>>,
    /// Positions from the start that are past.
    past: u64,
    fresh: VecDeque<u64>,
    most: u32,
}

const MOST: u32 = 2;

impl Model {
    fn place(&self, position: u64) -> usize {
        (self.start.wrapping_add(position) % self.places.len() as u64) as usize
    }

    fn submit(&mut self) -> Option<u64> {
        for at in self.past..self.past + self.places.len() as u64 {
            match self.places[self.place(at)] {
                None => {
                    for over in self.past..at {
                        let place = self.place(over);
                        self.places[place].as_mut().expect("taken").age = over;
                    }
                    self.past = at + 1;
                    let (ticket, place) = (self.start.wrapping_add(at), self.place(at));
                    self.places[place] = Some(Entry { ticket, age: at, attempts: 0, step: Step::New });
                    self.fresh.push_back(ticket);
                    return Some(ticket);
                }
                Some(Entry { step: Step::New, .. }) => return None,
                Some(_) => (),
            }
        }
        None
    }

    fn entry(&mut self, ticket: u64) -> &mut Entry {
        self.places.iter_mut().flatten().find(|e| e.ticket == ticket).expect("a job in the table")
    }

    fn take(&mut self, who: usize, found: Option<(u64, u32)>) {
        let Some((ticket, attempts)) = found else {
            let waiting = |e: &Entry| matches!(e.step, Step::New | Step::Again);
            assert!(!self.places.iter().flatten().any(waiting), "a job that waits was not found");
            return;
        };
        if self.entry(ticket).step == Step::New {
            assert_eq!(self.fresh.pop_front(), Some(ticket), "new jobs are taken in order");
        }
        let e = self.entry(ticket);
        assert!(matches!(e.step, Step::New | Step::Again), "{e:?} was taken");
        assert_eq!(e.attempts, attempts);
        e.step = Step::Held(who);
    }

    fn die(&mut self, who: usize) -> Recovered {
        let mut recovered = Recovered::default();
        for e in self.places.iter_mut().flatten().filter(|e| e.step == Step::Held(who)) {
            e.attempts += 1;
            let failed = e.attempts == self.most;
            e.step = if failed { Step::Over(None) } else { Step::Again };
            recovered.failed += u32::from(failed);
            recovered.redelivered += u32::from(!failed);
        }
        recovered
    }

    /// The oldest job that is over.
    fn collect(&mut self) -> Option<(u64, Option<u64>, u32)> {
        let over = |e: &Entry| matches!(e.step, Step::Over(_));
        let oldest = self.places.iter().flatten().filter(|e| over(e)).min_by_key(|e| e.age).copied()?;
        let place = self.places.iter().position(|p| p.is_some_and(|e| e.ticket == oldest.ticket))?;
        self.places[place] = None;
        let Step::Over(answer) = oldest.step else { unreachable!("it is over") };
        Some((oldest.ticket, answer, oldest.attempts))
    }
}

struct Participant {
    handle: Handle<Real>,
    epoch: u32,
    held: Vec<Taken<u64>>,
}

fn participant(memory: &Memory<Real>, seat: usize, epoch: u32) -> Handle<Real> {
    let attempts = Attempts::of(MOST).expect("a number");
    // SAFETY: one handle a seat, and a newcomer comes after recovery.
    unsafe { Jobs::attach(memory.clone(), Owner::new(seat as u32, epoch), attempts) }
}

fn step(memory: &Memory<Real>, model: &mut Model, all: &mut [Participant], who: usize, call: &Call) {
    let next = (who + 1) % all.len();
    let p = &mut all[who];
    match call {
        Call::Submit => {
            let job = model.past * 3 + 1;
            let got = p.handle.submit(job, &mut self::all()).map(|t| t.0);
            assert_eq!(got, model.submit().ok_or(SubmitError::Full(job)));
        }
        Call::Take => {
            let got = p.handle.take(&mut self::all());
            model.take(who, got.as_ref().ok().map(|t| (t.ticket.0, t.attempts)));
            match got {
                Ok(taken) => p.held.push(taken),
                Err(e) => assert_eq!(e, TakeError::Empty),
            }
        }
        Call::Finish(i) | Call::Decline(i) => {
            if p.held.is_empty() {
                return;
            }
            let taken = p.held.swap_remove(i % p.held.len());
            let (ticket, answer) = (taken.ticket.0, taken.job ^ 0xFF);
            if let Call::Finish(_) = call {
                p.handle.finish(taken, answer).expect("ours");
                model.entry(ticket).step = Step::Over(Some(answer));
            } else {
                p.handle.decline(taken).expect("ours");
                model.entry(ticket).step = Step::Again;
            }
        }
        Call::Collect => {
            let got = p.handle.collect().map(|c| match c.outcome {
                Outcome::Answer(a) => (c.ticket.0, Some(a), None),
                Outcome::Failed { attempts } => (c.ticket.0, None, Some(attempts)),
            });
            let want = model.collect().map(|(t, a, n)| (t, a, a.is_none().then_some(n)));
            assert_eq!(got, want);
        }
        Call::Die => {
            p.held.clear();
            let (dead, epoch) = (p.handle.me(), p.epoch + 1);
            assert_eq!(all[next].handle.recover(dead), model.die(who));
            assert_eq!(all[next].handle.recover(dead), Recovered::default(), "twice finds nothing");
            all[who].handle = participant(memory, who, epoch);
            all[who].epoch = epoch;
        }
        Call::Forget => p.handle = participant(memory, who, p.epoch),
        Call::Behind(tail, head) => {
            let oldest = model.fresh.front().map(|ticket| ticket.wrapping_sub(model.start));
            let behind = |position: u64, by: u64| model.start.wrapping_add(position.saturating_sub(by));
            memory.hints().set(behind(model.past, *tail), behind(oldest.unwrap_or(model.past), *head));
        }
    }
    let census = all[next].handle.census();
    let count = |f: fn(Step) -> bool| model.places.iter().flatten().filter(|e| f(e.step)).count() as u32;
    let want = Census {
        waiting: count(|s| matches!(s, Step::New | Step::Again)),
        claimed: count(|s| matches!(s, Step::Held(_))),
        over: count(|s| matches!(s, Step::Over(_))),
        ..Census::default()
    };
    assert_eq!(census, want);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        if std::env::var_os("SAPWOOD_FULL").is_some() { 20_000 } else { 1_000 }
    ))]

    /// Any calls of three participants, with deaths, forgotten positions and hints that fall behind.
    #[test]
    fn jobs_are_what_the_model_is(
        shift in 0u32..4,
        start in prop_oneof![
            Just(0u64),
            (0u64..8).prop_map(|d| u64::MAX - d),
            (0u64..8, 0u32..4).prop_map(|(d, s)| (1u64 << (TURN_BITS + s)) - d),
        ],
        calls in prop::collection::vec((0usize..3, call()), 1..200),
    ) {
        let memory = table::<Real>(1 << shift, start);
        let mut model = Model {
            start, places: vec![None; 1 << shift], past: 0, fresh: VecDeque::new(), most: MOST,
        };
        let mut all: Vec<Participant> = (0..3)
            .map(|seat| Participant { handle: participant(&memory, seat, 1), epoch: 1, held: Vec::new() })
            .collect();
        for (who, call) in &calls {
            step(&memory, &mut model, &mut all, *who, call);
        }
    }
}
