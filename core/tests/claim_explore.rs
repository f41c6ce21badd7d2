//! Jobs under every schedule of a few actors, with deaths anywhere: see `sapwood_core::testing::explore`.
#![allow(missing_docs)]

use std::rc::Rc;

use sapwood_core::claim::{Attempts, Jobs, Outcome, Peers, Region, State, TURN_BITS, TakeError, Word};
use sapwood_core::mem::Bug;
use sapwood_core::owner::Owner;
use sapwood_core::testing::Table;
use sapwood_core::testing::explore::{
    ACTORS, Change, Judge, NEWCOMER, Protocol, Replay, Report, Stage, Verdict, with_bug,
};

type Family = Replay<Spec>;
type Memory = Table<Family, u64, u64>;

const MOST: u32 = 3;
const ANSWER: u64 = 1000;

fn full() -> bool {
    std::env::var_os("SAPWOOD_FULL").is_some()
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Call {
    Submit(u64),
    /// Takes and answers.
    Work,
    /// Takes and declines.
    Decline,
    Collect,
    /// If this actor is dead.
    Recover(u8),
}
use Call::*;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Event {
    Submitted(u64),
    Worked(u64),
    /// Collected, before its slot is given back.
    InHand(u64),
    Collected(u64),
    Failed,
    Empty,
    Nothing,
}

/// What is promised.
#[derive(Clone, Hash)]
struct Spec {
    words: Rc<Vec<usize>>,
    /// By slot: its word.
    now: Vec<u64>,
    /// Slots in the order in which their jobs were claimed to be filled, until they are taken for the first time.
    new: Vec<u8>,
    submitted: Vec<u64>,
    /// Answers, who had them in hand, and whether that call returned.
    had: Vec<(u64, u8, bool)>,
    /// By actor: slots in which a job has waited since its call began.
    waiting: [u8; ACTORS],
    failed: u8,
}

fn waits(word: u64) -> bool {
    matches!(Word(word).state(), State::Filled | State::Again)
}

impl Spec {
    fn legal(&mut self, i: usize, c: Change) -> bool {
        let (old, new) = (Word(c.old), Word(c.new));
        let me = |w: Word| w.owner() == name(c.actor);
        let dead = |w: Word| c.dead >> w.owner().seat() & 1 == 1;
        let turns = new.turn().wrapping_sub(old.turn()) & ((1 << TURN_BITS) - 1);
        let died = new.attempts().wrapping_sub(old.attempts());
        let step = (old.state(), new.state(), turns, died);
        let slot = i as u8;
        match step {
            (State::Free, State::Filling, 1, _) => {
                self.new.push(slot);
                me(new) && new.attempts() == 0
            }
            (State::Filling, State::Filled, 0, 0) => me(old),
            (State::Filled, State::Claimed, 0, 0) => {
                let first = self.new.first() == Some(&slot);
                self.new.retain(|s| *s != slot);
                first && me(new)
            }
            (State::Again, State::Claimed, 0, 0) => me(new),
            (State::Claimed, State::Done | State::Again, 0, 0) => me(old),
            (State::Done, State::Collecting, 0, 0) => me(new),
            (State::Failed, State::CollectingFailed, 0, 0) => me(new),
            (State::Collecting | State::CollectingFailed, State::Free, 0, _) => me(old),
            (State::Filling, State::Free, 0, _) => {
                self.new.retain(|s| *s != slot);
                dead(old)
            }
            (State::Claimed, State::Again, 0, 1) => dead(old) && new.attempts() < MOST,
            (State::Claimed, State::Failed, 0, 1) => dead(old) && new.attempts() == MOST,
            (State::Collecting, State::Done, 0, 0) => dead(old),
            (State::CollectingFailed, State::Failed, 0, 0) => dead(old),
            (a, b, 1, 0) if a == b => {
                matches!(a, State::Claimed | State::Again | State::Done | State::Failed)
                    && old.owner() == new.owner()
            }
            _ => false,
        }
    }
}

impl Judge for Spec {
    type Call = Call;
    type Event = Event;

    fn begins(&mut self, actor: u8, _: Call, _: u8) {
        let all = self.now.iter().enumerate().filter(|(_, w)| waits(**w));
        self.waiting[usize::from(actor)] = all.fold(0, |set, (i, _)| set | 1 << i);
    }

    fn changes(&mut self, c: Change) -> Verdict {
        let words = self.words.clone();
        let Some(i) = words.iter().position(|w| *w == c.word) else { return Ok(()) };
        self.now[i] = c.new;
        if !waits(c.new) {
            self.waiting.iter_mut().for_each(|set| *set &= !(1 << i));
        }
        if self.legal(i, c) {
            return Ok(());
        }
        Err(format!(
            "actor {} made {:?} to {:?} in slot {i}, new: {:?}",
            c.actor,
            Word(c.old),
            Word(c.new),
            self.new
        ))
    }

    fn tick(&mut self) {}

    fn event(&mut self, actor: u8, dead: u8, event: Event) -> Verdict {
        match event {
            Event::Submitted(job) => {
                self.submitted.push(job);
                self.submitted.sort_unstable();
            }
            Event::InHand(job) => {
                if let Some(had) = self.had.iter().find(|h| h.0 == job)
                    && (had.2 || dead >> had.1 & 1 == 0)
                {
                    return Err(format!("actor {actor} has answer {job} after {had:?}"));
                }
                self.had.retain(|h| h.0 != job);
                self.had.push((job, actor, false));
                self.had.sort_unstable();
            }
            Event::Collected(job) => {
                self.had.iter_mut().filter(|h| h.0 == job).for_each(|h| h.2 = true);
            }
            Event::Failed => self.failed += 1,
            Event::Empty => {
                let set = self.waiting[usize::from(actor)];
                if set != 0 {
                    return Err(format!("actor {actor} finds nothing, but jobs wait in {set:#b}"));
                }
            }
            Event::Worked(_) | Event::Nothing => (),
        }
        Ok(())
    }

    fn idle(&mut self, actor: u8) {
        self.waiting[usize::from(actor)] = 0;
    }
}

fn name(actor: u8) -> Owner {
    Owner::new(actor.into(), 1)
}

struct Eyes;

impl Peers for Eyes {
    fn alive(&mut self, owner: Owner) -> bool {
        Family::alive(owner.seat() as u8)
    }
}

struct Jobbers {
    table: Memory,
}

impl Jobbers {
    fn stage(shift: u32, start: u64) -> (Jobbers, Stage<Jobbers>) {
        Stage::new(|| {
            let table = Memory::new(1 << shift, start, 0, 0).expect("a power of two");
            let slots = 0..1u64 << shift;
            let words: Vec<_> = slots.clone().map(|i| Family::word_of(|| _ = table.slot(i).word())).collect();
            let now = slots.map(|i| table.slot(i).word().0).collect();
            let spec = Spec {
                words: Rc::new(words),
                now,
                new: vec![],
                submitted: vec![],
                had: vec![],
                waiting: [0; ACTORS],
                failed: 0,
            };
            (Jobbers { table }, spec)
        })
    }
}

impl Protocol for Jobbers {
    type Judge = Spec;
    type Local = ();

    fn act(&self, actor: u8, (): &mut (), call: Call) {
        let attempts = Attempts::of(MOST).expect("a number");
        // SAFETY: each actor has a name of its own.
        let mut h = unsafe { Jobs::attach(self.table.clone(), name(actor), attempts) };
        match call {
            Submit(job) => {
                let ok = h.submit(job, &mut Eyes).is_ok();
                Family::emit(if ok { Event::Submitted(job) } else { Event::Nothing });
            }
            Work | Decline => match h.take(&mut Eyes) {
                Ok(taken) => {
                    let job = taken.job;
                    if call == Work {
                        h.finish(taken, job + ANSWER).expect("ours");
                    } else {
                        h.decline(taken).expect("ours");
                    }
                    Family::emit(Event::Worked(job));
                }
                Err(TakeError::Empty) => Family::emit(Event::Empty),
                Err(_) => Family::emit(Event::Nothing),
            },
            Collect => {
                let got = h.collect_with(|c| match c.outcome {
                    Outcome::Answer(a) => {
                        Family::emit(Event::InHand(a - ANSWER));
                        Event::Collected(a - ANSWER)
                    }
                    Outcome::Failed { .. } => Event::Failed,
                });
                Family::emit(got.unwrap_or(Event::Nothing));
            }
            Recover(of) => {
                if !Family::alive(of) {
                    h.recover(name(of));
                }
            }
        }
    }

    fn settle(&self, stage: &mut Stage<Jobbers>) -> Verdict {
        let dead = stage.world().dead();
        for of in (0..NEWCOMER).filter(|a| dead >> a & 1 == 1) {
            stage.perform(self, NEWCOMER, Recover(of))?;
        }
        for _ in 0..6 {
            stage.perform(self, NEWCOMER, Work)?;
            stage.perform(self, NEWCOMER, Collect)?;
        }
        let spec = stage.world().judge();
        if spec.now.iter().any(|w| Word(*w).state() != State::Free) {
            return Err(format!("wedged: {:?}", spec.now.iter().map(|w| Word(*w)).collect::<Vec<_>>()));
        }
        let lost = spec.submitted.iter().filter(|j| !spec.had.iter().any(|h| h.0 == **j)).count();
        if lost > usize::from(spec.failed) {
            return Err(format!("{lost} of {:?} are lost, {:?} came", spec.submitted, spec.had));
        }
        for i in 0..self.table.shift() + 1 {
            let events = stage.perform(self, NEWCOMER, Submit(100 + u64::from(i)))?;
            if events.last() == Some(&Event::Nothing) {
                return Err(format!("no room for job {i}"));
            }
        }
        Ok(())
    }
}

struct Scenario {
    name: &'static str,
    shifts: &'static [u32],
    before: &'static [(u8, Call)],
    scripts: &'static [&'static [Call]],
    deaths: u32,
}

const fn scenario(
    name: &'static str,
    shifts: &'static [u32],
    before: &'static [(u8, Call)],
    scripts: &'static [&'static [Call]],
    deaths: u32,
) -> Scenario {
    Scenario { name, shifts, before, scripts, deaths }
}

const SCENARIOS: &[Scenario] = &[
    scenario("submit | work", &[0, 1], &[], &[&[Submit(1), Submit(2)], &[Work, Work]], 2),
    scenario("submit, collect | work", &[0, 1], &[], &[&[Submit(1), Collect, Submit(2)], &[Work, Work]], 2),
    scenario(
        "work | recover, work, collect",
        &[0, 1],
        &[(2, Submit(1))],
        &[&[Work], &[Recover(0), Work, Collect]],
        2,
    ),
    scenario(
        "collect | recover, collect, submit",
        &[0, 1],
        &[(2, Submit(1)), (0, Work)],
        &[&[Collect, Submit(2)], &[Recover(0), Collect, Submit(3)]],
        2,
    ),
    scenario(
        "submit | recover, submit, work",
        &[0, 1],
        &[],
        &[&[Submit(1)], &[Recover(0), Submit(2), Work]],
        2,
    ),
    scenario(
        "decline | work, collect, submit",
        &[0, 1],
        &[(2, Submit(1))],
        &[&[Decline, Work], &[Work, Collect, Submit(2)]],
        1,
    ),
    scenario(
        "a long job | work, collect, submit, submit",
        &[1],
        &[(2, Submit(1)), (2, Submit(2))],
        &[&[Work], &[Work, Collect, Submit(3), Work, Submit(4)]],
        2,
    ),
    scenario("submit | submit | work", &[1], &[], &[&[Submit(1)], &[Submit(2)], &[Work, Work]], 1),
    scenario("submit | work | collect", &[0], &[], &[&[Submit(1), Submit(2)], &[Work], &[Collect]], 1),
];

impl Scenario {
    fn explore(&self, shift: u32, start: u64) -> Result<Report, String> {
        let (jobbers, mut stage) = Jobbers::stage(shift, start);
        for (actor, call) in self.before {
            stage.perform(&jobbers, *actor, *call)?;
        }
        let report = stage.explore(&jobbers, self.scripts, self.deaths, u8::MAX);
        report.map_err(|what| format!("{}, {} slots, from {start:#x}: {what}", self.name, 1 << shift))
    }
}

#[test]
fn every_schedule_keeps_what_jobs_promise() {
    let mut all = Report::default();
    for scenario in SCENARIOS {
        for shift in scenario.shifts {
            let starts = [u64::MAX, (1 << (TURN_BITS + shift)) - 1, 0];
            for start in &starts[..if full() { 3 } else { 2 }] {
                let report = scenario.explore(*shift, *start).unwrap_or_else(|what| panic!("{what}"));
                println!("{report}: {}, {} slots", scenario.name, 1 << shift);
                assert!(report.ends > 1, "one end shows nothing");
                all += report;
            }
        }
    }
    println!("{all}: jobs, in all");
}

#[test]
fn mistakes_are_noticed() {
    std::panic::set_hook(Box::new(|_| {}));
    let bugs = [
        Bug::ClaimSubmitFirst,
        Bug::ClaimFinishFirst,
        Bug::ClaimFreeFirst,
        Bug::ClaimFinishByStore,
        Bug::ClaimSameTurn,
        Bug::ClaimHintFirst,
        Bug::ClaimAssumeDead,
        Bug::ClaimNoSearch,
        Bug::ClaimDropJob,
        Bug::ClaimUncounted,
        Bug::ClaimDropAnswer,
        Bug::ClaimRedoDone,
    ];
    let noticed = bugs.map(|bug| {
        let said = SCENARIOS.iter().find_map(|s| {
            s.shifts.iter().find_map(|shift| with_bug(Some(bug), || s.explore(*shift, u64::MAX)).err())
        });
        (bug, said)
    });
    let _ = std::panic::take_hook();
    for (bug, said) in &noticed {
        println!("{bug:?} | {}", said.as_ref().map_or("NOBODY", |s| s.lines().next().unwrap_or_default()));
    }
    assert!(noticed.iter().all(|(_, said)| said.is_some()), "a mistake that nobody notices");
}
