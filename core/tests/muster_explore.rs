//! A barrier under every schedule of a few participants, with deaths anywhere: a passage has one verdict.
#![allow(missing_docs)]

use sapwood_core::mem::{Atom, Bug, Ordering};
use sapwood_core::muster::{Muster, Region, Standing, Why};
use sapwood_core::testing::Court;
use sapwood_core::testing::explore::{Change, Judge, Protocol, Replay, Report, Stage, Verdict, with_bug};

type Family = Replay<Spec>;
type Memory = Court<Family>;

/// All have passed this generation: the next one is the first of the low half's wrap.
const START: u64 = u32::MAX as u64;
const MOST: usize = 3;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Call {
    /// Says something, arrives, looks twice how it stands.
    Arrive,
    /// Looks again.
    Look,
    /// Does not wait for this one any longer.
    GiveUp(u8),
    /// Looks whether this one has left or is dead, and then gives it up.
    Bury(u8),
    Leave,
}
use Call::*;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Event {
    /// What the verdict on this generation is said to be.
    Told(u64, Standing),
    /// What this one said before it arrived is not there.
    Unheard(usize),
    Nothing,
}

/// What is promised.
#[derive(Clone, Hash)]
struct Spec {
    verdict: usize,
    arrivals: [usize; MOST],
    /// Where all stand.
    at: [u64; MOST],
    /// Verdicts by generation after `START`: passed, or who is to blame.
    told: [Option<Option<(u32, u8)>>; 4],
    /// Who was leader, by generation.
    leaders: [u8; 4],
    left: u8,
    seats: usize,
}

fn code(why: Why) -> u8 {
    match why {
        Why::Died => 0,
        Why::Left => 1,
        Why::Missing => 2,
    }
}

fn since(generation: u64) -> usize {
    generation.wrapping_sub(START) as usize & 3
}

impl Judge for Spec {
    type Call = Call;
    type Event = Event;

    fn begins(&mut self, actor: u8, call: Call, _: u8) {
        if call == Leave {
            self.left |= 1 << actor;
        }
    }

    fn changes(&mut self, c: Change) -> Verdict {
        if let Some(seat) = self.arrivals.iter().position(|w| *w == c.word) {
            self.at[seat] = c.new;
            return Ok(());
        }
        if c.word != self.verdict {
            return Ok(());
        }
        let next = ((c.old >> 32) + 1) & 0xffff_ffff;
        let all = self.at[..self.seats].iter().all(|at| at & 0xffff_ffff == next);
        let legal = c.old & 3 == 0 && c.new >> 32 == next && (c.new & 3 != 0 || all);
        if legal { Ok(()) } else { Err(format!("{:#x} became {:#x}, arrivals {:?}", c.old, c.new, self.at)) }
    }

    fn tick(&mut self) {}

    fn event(&mut self, actor: u8, dead: u8, event: Event) -> Verdict {
        let (generation, standing) = match event {
            Event::Told(generation, standing) => (generation, standing),
            Event::Unheard(seat) => return Err(format!("actor {actor} does not see what {seat} said")),
            Event::Nothing => return Ok(()),
        };
        let verdict = match standing {
            Standing::Open => return Ok(()),
            Standing::Passed { leader } => {
                let leaders = &mut self.leaders[since(generation)];
                *leaders |= u8::from(leader) << actor;
                if leaders.count_ones() > 1 {
                    return Err(format!("{:#b} lead generation {generation}", leaders));
                }
                None
            }
            Standing::Broken { seat, why } => {
                let gone = match why {
                    Why::Died => dead,
                    Why::Left => self.left,
                    Why::Missing => u8::MAX,
                };
                if gone >> seat & 1 == 0 || self.at[seat as usize] == generation && why != Why::Missing {
                    return Err(format!("{seat} {why:?}, says actor {actor}, arrivals {:?}", self.at));
                }
                Some((seat, code(why)))
            }
        };
        match self.told[since(generation)].replace(verdict) {
            Some(before) if before != verdict => {
                Err(format!("generation {generation}: {before:?} for one, {verdict:?} for actor {actor}"))
            }
            _ => Ok(()),
        }
    }

    fn idle(&mut self, _: u8) {}
}

/// What a participant keeps: how often it has arrived, and whether it was told that this passage is over.
#[derive(Clone, Hash, Default)]
struct Local {
    arrived: u64,
    over: bool,
    broken: bool,
}

struct Square {
    court: Memory,
    seats: usize,
}

impl Square {
    fn stage(seats: usize) -> (Square, Stage<Square>) {
        Stage::new(|| {
            let court = Memory::new(seats, START);
            let number = |word: &dyn Fn()| Family::word_of(word);
            let verdict = number(&|| _ = court.verdict().load(Ordering::Relaxed));
            let mut arrivals = [usize::MAX; MOST];
            for (seat, at) in arrivals.iter_mut().enumerate().take(seats) {
                use sapwood_core::barrier::Arrivals;
                *at = number(&|| _ = court.arrival(seat).load(Ordering::Relaxed));
            }
            let spec = Spec {
                verdict,
                arrivals,
                at: [START; MOST],
                told: [None; 4],
                leaders: [0; 4],
                left: 0,
                seats,
            };
            (Square { court, seats }, spec)
        })
    }

    fn tell(&self, me: usize, generation: u64, standing: Standing, local: &mut Local) {
        match standing {
            Standing::Passed { .. } => {
                local.over = true;
                for seat in (0..self.seats).filter(|s| *s != me) {
                    let said = self.court.said(seat, generation);
                    Family::emit(if said == generation & 1 { Event::Nothing } else { Event::Unheard(seat) });
                }
            }
            Standing::Broken { .. } => local.broken = true,
            Standing::Open => {}
        }
        Family::emit(Event::Told(generation, standing));
    }
}

impl Protocol for Square {
    type Judge = Spec;
    type Local = Local;

    fn act(&self, actor: u8, local: &mut Local, call: Call) {
        let (me, generation) = (usize::from(actor), START.wrapping_add(local.arrived));
        let mut muster = Muster::<Family, Memory>::attach(self.court.clone(), me, generation);
        let waits = local.arrived > 0 && !local.over && !local.broken;
        match call {
            Arrive if local.broken || waits => {}
            Arrive => {
                let generation = generation.wrapping_add(1);
                if let Standing::Broken { .. } = muster.coming() {
                    local.broken = true;
                    return;
                }
                self.court.say(me, generation, generation & 1);
                muster.arrive();
                *local = Local { arrived: local.arrived + 1, over: false, broken: false };
                let standing = muster.poll();
                self.tell(me, generation, standing, local);
            }
            Look if waits => {
                let standing = muster.poll();
                self.tell(me, generation, standing, local);
            }
            GiveUp(of) if waits => {
                let standing = muster.break_off(of.into(), Why::Missing);
                self.tell(me, generation, standing, local);
            }
            Bury(of) if waits => {
                let left = muster.has_left(of.into());
                if left || !Family::alive(of) {
                    let left = left || muster.has_left(of.into());
                    let standing = muster.break_off(of.into(), if left { Why::Left } else { Why::Died });
                    self.tell(me, generation, standing, local);
                }
            }
            Leave => muster.leave(),
            _ => {}
        }
    }

    fn settle(&self, _: &mut Stage<Square>) -> Verdict {
        Ok(())
    }
}

struct Scenario {
    name: &'static str,
    scripts: &'static [&'static [Call]],
    deaths: u32,
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "two pass twice",
        scripts: &[&[Arrive, Look, Arrive, Look], &[Arrive, Look, Arrive, Look]],
        deaths: 1,
    },
    Scenario {
        name: "one gives up",
        scripts: &[&[Arrive, GiveUp(1), Look], &[Arrive, Look, Arrive]],
        deaths: 1,
    },
    Scenario { name: "both give up", scripts: &[&[Arrive, GiveUp(1)], &[Arrive, GiveUp(0)]], deaths: 1 },
    Scenario {
        name: "passed, then given up",
        scripts: &[&[Arrive, Look], &[Arrive, Look, Arrive, GiveUp(0)]],
        deaths: 1,
    },
    Scenario { name: "a death", scripts: &[&[Arrive, Bury(1), Look], &[Arrive, Look]], deaths: 1 },
    Scenario { name: "a leave", scripts: &[&[Arrive, Bury(1), Look], &[Arrive, Leave]], deaths: 1 },
    Scenario {
        name: "three, one gives up",
        scripts: &[&[Arrive, GiveUp(2), Look], &[Arrive, Look], &[Arrive]],
        deaths: 1,
    },
    Scenario {
        name: "three, two bury",
        scripts: &[&[Arrive, Bury(2), Look], &[Arrive, Bury(2)], &[Arrive]],
        deaths: 1,
    },
];

impl Scenario {
    fn explore(&self) -> Result<Report, String> {
        let (square, stage) = Square::stage(self.scripts.len());
        let report = { stage }.explore(&square, self.scripts, self.deaths, u8::MAX);
        report.map_err(|what| format!("{}: {what}", self.name))
    }
}

#[test]
fn every_schedule_has_one_verdict() {
    let mut all = Report::default();
    for scenario in SCENARIOS {
        let report = scenario.explore().unwrap_or_else(|what| panic!("{what}"));
        println!("{report}: {}", scenario.name);
        assert!(report.ends > 1, "one end shows nothing");
        all += report;
    }
    println!("{all}: barriers, in all");
}

#[test]
fn mistakes_are_noticed() {
    std::panic::set_hook(Box::new(|_| {}));
    let bugs = [Bug::MusterNoSecondLook, Bug::MusterBreakByStore, Bug::MusterNextIsOurs, Bug::MusterEarly];
    let noticed =
        bugs.map(|bug| (bug, SCENARIOS.iter().find_map(|s| with_bug(Some(bug), || s.explore()).err())));
    let _ = std::panic::take_hook();
    for (bug, said) in &noticed {
        println!("{bug:?} | {}", said.as_ref().map_or("NOBODY", |s| s.lines().next().unwrap_or_default()));
    }
    assert!(noticed.iter().all(|(_, said)| said.is_some()), "a mistake that nobody notices");
}
