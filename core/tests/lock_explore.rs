//! A lock under every schedule of a few actors, with deaths anywhere: see `sapwood_core::testing::explore`.
#![allow(missing_docs)]

use sapwood_core::lock::{Cause, Culprit, Held, Lock, Region, State, Word};
use sapwood_core::mem::{Atom, Bug, Ordering};
use sapwood_core::owner::Owner;
use sapwood_core::testing::Latch;
use sapwood_core::testing::explore::{
    ACTORS, Change, Judge, NEWCOMER, Protocol, Replay, Report, Stage, Verdict, with_bug,
};

type Family = Replay<Spec>;
type Memory = Latch<Family>;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Call {
    /// Takes the lock as one that does not wait, changes what it guards, gives it back.
    Try,
    /// The same as one that waits; from the dead, too.
    Poll,
    /// The same, and panics before it has written the second half.
    Panic,
    /// Looks at what it guards, if nobody is to blame for that, and changes nothing.
    Shy,
    /// Takes the lock and forgets it; then drops the handle.
    Forget,
    /// A newcomer to the seat of this actor does what it must, if that one is dead.
    Recover(u8),
}
use Call::*;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Event {
    /// Had the lock: what it found, and whether it was told of somebody.
    Had { torn: bool, told: Option<Culprit> },
    /// Did not get it, because of this one.
    Not(Owner),
}

/// What is promised.
#[derive(Clone, Hash)]
struct Spec {
    word: usize,
    now: u64,
    /// Who has panicked with the lock, or forgotten it, a bit each.
    guilty: u8,
}

fn name(actor: u8) -> Owner {
    Owner::new(actor.into(), 1)
}

impl Spec {
    fn legal(&self, c: Change) -> bool {
        let (old, new) = (Word(c.old), Word(c.new));
        let me = name(c.actor);
        let dead = |o: Owner| o != Owner::NOBODY && c.dead >> o.seat() & 1 == 1;
        let died = Culprit {
            seat: old.owner().seat(),
            pid: old.owner().seat().wrapping_add(10),
            cause: Cause::Died,
        };
        if new.0 == Word::new(old.owner(), true, old.culprit()).0 {
            return true;
        }
        match (old.owner(), new.owner()) {
            (Owner::NOBODY, to) => to == me && new.culprit() == old.culprit() && new.waited() == old.waited(),
            (from, Owner::NOBODY) if from == me => !new.waited(),
            (from, Owner::NOBODY) => dead(from) && new.culprit() == Some(died) && !new.waited(),
            (from, to) => {
                dead(from) && to == me && new.culprit() == Some(died) && new.waited() == old.waited()
            }
        }
    }
}

impl Judge for Spec {
    type Call = Call;
    type Event = Event;

    fn begins(&mut self, actor: u8, call: Call, _: u8) {
        if matches!(call, Panic | Forget) {
            self.guilty |= 1 << actor;
        }
    }

    fn changes(&mut self, c: Change) -> Verdict {
        if c.word != self.word {
            return Ok(());
        }
        self.now = c.new;
        if self.legal(c) {
            return Ok(());
        }
        Err(format!("actor {} made {:?} to {:?}", c.actor, Word(c.old), Word(c.new)))
    }

    fn tick(&mut self) {}

    fn event(&mut self, actor: u8, dead: u8, event: Event) -> Verdict {
        match event {
            Event::Had { torn: true, told: None } => {
                Err(format!("actor {actor} is told nothing of a torn value"))
            }
            Event::Had { told: Some(Culprit { seat, pid, cause }), .. } => {
                let by = match cause {
                    Cause::Died => dead | self.guilty,
                    Cause::Panicked => self.guilty,
                };
                let right = by >> (seat & 7) & 1 == 1 && pid == seat + 10;
                if right {
                    Ok(())
                } else {
                    Err(format!("actor {actor} is told that {seat}, {pid} {cause:?}"))
                }
            }
            _ => Ok(()),
        }
    }

    fn idle(&mut self, _: u8) {}
}

struct Door {
    latch: Memory,
}

fn pid(actor: u8) -> u32 {
    u32::from(actor) + 10
}

impl Door {
    fn stage(seats: usize) -> (Door, Stage<Door>) {
        Stage::new(|| {
            let latch = Memory::new(seats);
            let look = || _ = latch.word().load(Ordering::Relaxed);
            let word = Family::word_of(look);
            (Door { latch }, Spec { word, now: 0, guilty: 0 })
        })
    }

    /// What one does that has the lock. Who is told of a culprit does not read what it has left: a half may be torn.
    fn inside(&self, lock: &Lock<Family, Memory>, held: Held, call: Call) {
        let told = held.culprit();
        let mut value = 7;
        if told.is_none() {
            let halves = (self.latch.read(0), self.latch.read(1));
            value = halves.0.wrapping_add(1) % 4;
            Family::emit(Event::Had { torn: halves.0 != halves.1, told });
        } else {
            Family::emit(Event::Had { torn: false, told });
        }
        if call == Shy {
            return lock.free(held, State::Same).expect("ours");
        }
        self.latch.write(0, value);
        match call {
            Panic => lock.free(held, State::Spoilt(Cause::Panicked)).expect("ours"),
            Forget => assert!(lock.leave(), "it had the lock"),
            _ => {
                self.latch.write(1, value);
                lock.free(held, State::Whole).expect("ours");
            }
        }
    }
}

impl Protocol for Door {
    type Judge = Spec;
    type Local = ();

    fn act(&self, actor: u8, (): &mut (), call: Call) {
        if let Recover(of) = call {
            if !Family::alive(of) {
                Lock::<Family, Memory>::recover(&self.latch, name(of));
            }
            return;
        }
        let lock = Lock::<Family, Memory>::attach(self.latch.clone(), name(actor), pid(actor));
        let tried = if call == Poll { lock.poll() } else { lock.try_take() };
        let had = match tried {
            Ok(held) => Ok(held),
            Err(owner) if call == Poll && owner != Owner::NOBODY && !Family::alive(owner.seat() as u8) => {
                lock.inherit(owner).ok_or(owner)
            }
            Err(owner) => Err(owner),
        };
        match had {
            Ok(held) => self.inside(&lock, held, call),
            Err(owner) => Family::emit(Event::Not(owner)),
        }
    }

    fn settle(&self, stage: &mut Stage<Door>) -> Verdict {
        let dead = stage.world().dead();
        for of in (0..NEWCOMER).filter(|a| dead >> a & 1 == 1) {
            stage.perform(self, NEWCOMER, Recover(of))?;
        }
        for call in [Try, Try, Poll] {
            let events = stage.perform(self, NEWCOMER, call)?;
            if !matches!(events.last(), Some(Event::Had { .. })) {
                return Err(format!("wedged: {:?}", Word(stage.world().judge().now)));
            }
        }
        let now = Word(stage.world().judge().now);
        if now != Word::FREE { Err(format!("not free and clean in the end: {now:?}")) } else { Ok(()) }
    }
}

struct Scenario {
    name: &'static str,
    scripts: &'static [&'static [Call]],
    deaths: u32,
}

const SCENARIOS: &[Scenario] = &[
    Scenario { name: "try, try | try, try", scripts: &[&[Try, Try], &[Try, Try]], deaths: 2 },
    Scenario { name: "poll, poll | poll, poll", scripts: &[&[Poll, Poll], &[Poll, Poll]], deaths: 2 },
    Scenario { name: "try | poll | poll", scripts: &[&[Try], &[Poll], &[Poll]], deaths: 2 },
    Scenario {
        name: "try | shy | recover, poll",
        scripts: &[&[Try], &[Shy], &[Recover(0), Poll]],
        deaths: 2,
    },
    Scenario { name: "panic | poll, shy", scripts: &[&[Panic], &[Poll, Shy]], deaths: 2 },
    Scenario { name: "forget | shy, poll", scripts: &[&[Forget], &[Shy, Poll]], deaths: 2 },
    Scenario {
        name: "try | poll | recover, recover",
        scripts: &[&[Try], &[Poll], &[Recover(0), Recover(1), Try]],
        deaths: 2,
    },
];

impl Scenario {
    fn explore(&self) -> Result<Report, String> {
        let (door, stage) = Door::stage(ACTORS);
        let report = stage.explore(&door, self.scripts, self.deaths, u8::MAX);
        report.map_err(|what| format!("{}: {what}", self.name))
    }
}

#[test]
fn every_schedule_keeps_what_a_lock_promises() {
    let mut all = Report::default();
    for scenario in SCENARIOS {
        let report = scenario.explore().unwrap_or_else(|what| panic!("{what}"));
        println!("{report}: {}", scenario.name);
        assert!(report.ends > 1, "one end shows nothing");
        all += report;
    }
    println!("{all}: locks, in all");
}

#[test]
fn mistakes_are_noticed() {
    std::panic::set_hook(Box::new(|_| {}));
    let bugs = [Bug::LockForgetsDeath, Bug::LockInheritByStore, Bug::LockNoRecovery, Bug::LockForgetsWaiters];
    let noticed =
        bugs.map(|bug| (bug, SCENARIOS.iter().find_map(|s| with_bug(Some(bug), || s.explore()).err())));
    let _ = std::panic::take_hook();
    for (bug, said) in &noticed {
        println!("{bug:?} | {}", said.as_ref().map_or("NOBODY", |s| s.lines().next().unwrap_or_default()));
    }
    assert!(noticed.iter().all(|(_, said)| said.is_some()), "a mistake that nobody notices");
}
