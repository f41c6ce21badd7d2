//! The queue between threads under every schedule of a few actors: see `sapwood_core::testing::explore`. Threads do not
//! die alone, so nobody dies here; but each may stop for as long as it likes, anywhere.
#![allow(missing_docs)]

use std::hash::{Hash, Hasher};
use std::rc::Rc;

use sapwood_core::mem::{Atom, Bug, Ordering};
use sapwood_core::ring::local::{Queue, Region};
use sapwood_core::ring::{PopError, PushError};
use sapwood_core::testing::Local;
use sapwood_core::testing::explore::{
    ACTORS, Change, Judge, NEWCOMER, Protocol, Replay, Report, Stage, Verdict, with_bug,
};

type Family = Replay<Spec>;

fn full() -> bool {
    std::env::var_os("SAPWOOD_FULL").is_some()
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Call {
    Push(u64),
    /// So many values from this one on.
    Batch(u64, usize),
    /// Says that it has two values and has this one.
    Short(u64),
    Pop,
    /// At most so many.
    Pops(usize),
    Close,
}
use Call::*;

impl Call {
    /// What it puts where; 0 where it has no value.
    fn values(self) -> [u64; 3] {
        match self {
            Push(v) | Short(v) => [v, 0, 0],
            Batch(v, n) => [v, v + 1, if n > 2 { v + 2 } else { 0 }],
            _ => [0; 3],
        }
    }
}

#[derive(Clone, PartialEq, Debug)]
enum Event {
    Pushed(usize),
    Popped(Vec<u64>),
    Full,
    Empty,
    Closed,
    Drained,
    Busy,
}

/// What a call has seen.
#[derive(Clone, Copy, Default, Debug, Hash)]
struct Seen {
    values: [u64; 3],
    /// The first position of its last claim, and how many.
    claim: Option<(usize, usize)>,
    full: bool,
    empty: bool,
    busy: bool,
    /// Closed when it began.
    closed: bool,
}

/// A claimed position.
#[derive(Clone, Copy, Debug, Hash)]
struct Place {
    value: u64,
    owner: u8,
    published: bool,
    /// Given back.
    over: bool,
}

struct Fixed {
    capacity: usize,
    start: u64,
    tail: usize,
    head: usize,
    slots: Vec<usize>,
}

/// The specification: a row of claims, of which a first part is taken; and which answers were true when.
#[derive(Clone)]
struct Spec {
    fixed: Rc<Fixed>,
    places: Vec<Place>,
    taken: usize,
    closed: bool,
    seen: [Seen; ACTORS],
}

impl Hash for Spec {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.places, self.taken, self.closed, &self.seen).hash(state);
    }
}

impl Spec {
    fn note(&mut self, only: Option<u8>) {
        let waiting = self.places.len() - self.taken;
        // The oldest value is not there yet, or the place of the next is not free yet.
        let late = self.places.get(self.taken).is_some_and(|p| !p.published);
        let behind = self.places.len().checked_sub(self.fixed.capacity).map(|i| self.places[i]);
        let held = behind.is_some_and(|p| !p.over);
        for (a, seen) in self.seen.iter_mut().enumerate() {
            if only.is_none_or(|o| usize::from(o) == a) {
                seen.full |= waiting == self.fixed.capacity;
                seen.empty |= waiting == 0 && !self.closed;
                seen.busy |= late || held;
            }
        }
    }

    /// A slot's word was stored: whether that was its owner's turn, and true.
    fn slot(&mut self, old: u64, new: u64, actor: u8) -> bool {
        let at = (old.wrapping_sub(self.fixed.start) >> 2) as usize;
        let (capacity, taken) = (self.fixed.capacity as u64, self.taken);
        let Some(place) = self.places.get_mut(at).filter(|p| p.owner == actor && !p.over) else {
            return false;
        };
        if old & 3 == 0 {
            let fine = !place.published && new == old | if place.value == 0 { 2 } else { 1 };
            place.published = true;
            return fine;
        }
        place.over = true;
        at < taken && place.published && new == (old & !3).wrapping_add(capacity << 2)
    }

    fn change(&mut self, Change { word, old, new, actor, .. }: Change) -> bool {
        let seen = &mut self.seen[usize::from(actor)];
        if self.fixed.slots.contains(&word) {
            return self.slot(old, new, actor);
        }
        let k = (new.wrapping_sub(old) >> 2) as usize;
        if word == self.fixed.tail {
            if new == old | 1 {
                self.closed = true;
                return true;
            }
            seen.claim = Some((self.places.len(), k));
            let values = seen.values;
            let claimed = values.iter().take(k);
            self.places.extend(claimed.map(|v| Place {
                value: *v,
                owner: actor,
                published: false,
                over: false,
            }));
            let waiting = self.places.len() - self.taken;
            return !self.closed && old & 3 == 0 && (1..=3).contains(&k) && waiting <= self.fixed.capacity;
        }
        if word == self.fixed.head {
            seen.claim = Some((self.taken, k));
            let run = self.places.get_mut(self.taken..self.taken + k);
            self.taken += k;
            return run.is_some_and(|run| {
                run.iter_mut().for_each(|p| p.owner = actor);
                run.iter().all(|p| p.published)
            });
        }
        true // how long it pays to stand back
    }
}

impl Judge for Spec {
    type Call = Call;
    type Event = Event;

    fn begins(&mut self, actor: u8, call: Call, _dead: u8) {
        let closed = self.closed;
        self.seen[usize::from(actor)] = Seen { values: call.values(), closed, ..Seen::default() };
        self.note(Some(actor));
    }

    fn changes(&mut self, change: Change) -> Verdict {
        if self.change(change) { Ok(()) } else { Err(format!("{change:x?}")) }
    }

    fn tick(&mut self) {
        self.note(None);
    }

    fn event(&mut self, actor: u8, _dead: u8, event: Event) -> Verdict {
        let seen = self.seen[usize::from(actor)];
        let run = seen.claim.map_or(&[][..], |(at, k)| &self.places[at..at + k]);
        let fine = match &event {
            Event::Pushed(n) => {
                let values = run.iter().filter(|p| p.value != 0).count();
                !seen.closed && values == *n && run.iter().all(|p| p.published)
            }
            Event::Popped(values) => run.iter().map(|p| p.value).eq(values.iter().copied()),
            Event::Full => seen.full,
            Event::Empty => seen.empty && !seen.closed,
            Event::Closed => self.closed,
            Event::Drained => self.closed && self.taken == self.places.len(),
            Event::Busy => seen.busy,
        };
        if fine { Ok(()) } else { Err(format!("actor {actor}: {event:?} is not true here: {seen:?}")) }
    }

    fn idle(&mut self, actor: u8) {
        self.seen[usize::from(actor)] = Seen::default();
    }
}

struct Ring(Queue<Family, u64, Local<Family, u64>>);

impl Ring {
    fn stage(capacity: usize, start: u64) -> (Ring, Stage<Ring>) {
        Stage::new(|| {
            let queue = Local::<Family, u64>::queue(capacity, start, 0).expect("a capacity");
            let word = |i: u64| Family::word_of(|| _ = queue.region().word(i).load(Ordering::Relaxed));
            let fixed = Fixed {
                capacity,
                start: start << 2,
                tail: Family::word_of(|| _ = queue.is_closed()),
                head: Family::word_of(|| _ = queue.region().ends().words()),
                slots: (0..capacity as u64).map(word).collect(),
            };
            let seen = [Seen::default(); ACTORS];
            (Ring(queue), Spec { fixed: Rc::new(fixed), places: Vec::new(), taken: 0, closed: false, seen })
        })
    }
}

/// Says that it has two values.
struct Liar(Option<u64>);

impl Iterator for Liar {
    type Item = u64;
    fn next(&mut self) -> Option<u64> {
        self.0.take()
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        (2, Some(2))
    }
}
impl ExactSizeIterator for Liar {}

impl Protocol for Ring {
    type Judge = Spec;
    type Local = ();

    fn act(&self, _me: u8, (): &mut (), call: Call) {
        let pushed = |said: Result<usize, PushError<()>>| match said {
            Ok(n) => Event::Pushed(n),
            Err(PushError::Full(())) => Event::Full,
            Err(PushError::Closed(())) => Event::Closed,
            Err(_) => Event::Busy,
        };
        let popped = |said: Result<Vec<u64>, PopError>| match said {
            Ok(values) => Event::Popped(values),
            Err(PopError::Empty) => Event::Empty,
            Err(PopError::Drained) => Event::Drained,
            Err(_) => Event::Busy,
        };
        Family::emit(match call {
            Push(v) => pushed(self.0.try_push(v).map(|()| 1).map_err(|e| e.map(|_| ()))),
            Batch(v, n) => pushed(self.0.push_batch(&mut (v..v + n as u64).collect::<Vec<_>>().into_iter())),
            Short(v) => pushed(self.0.push_batch(&mut Liar(Some(v)))),
            Pop => popped(self.0.try_pop().map(|v| vec![v])),
            Pops(most) => {
                let mut got = Vec::new();
                popped(self.0.pop_batch(&mut got, most).map(|_| got))
            }
            Close => return self.0.close(),
        });
    }

    fn settle(&self, stage: &mut Stage<Self>) -> Verdict {
        let places = stage.world().judge().places.len();
        for _ in 0..=places {
            match stage.perform(self, NEWCOMER, Pop)?.first() {
                Some(Event::Popped(_)) => (),
                Some(Event::Empty | Event::Drained) => break,
                other => return Err(format!("all is quiet, and a pop says {other:?}")),
            }
        }
        let spec = stage.world().judge();
        if spec.taken == spec.places.len() && spec.places.iter().all(|p| p.over) {
            Ok(())
        } else {
            Err(format!("left behind: {:?}, {} taken", spec.places, spec.taken))
        }
    }
}

struct Scenario {
    name: &'static str,
    capacity: usize,
    before: &'static [Call],
    scripts: &'static [&'static [Call]],
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "two pushes each, pops",
        capacity: 1,
        before: &[],
        scripts: &[&[Push(1), Push(2)], &[Pop, Pop]],
    },
    Scenario {
        name: "two and one",
        capacity: 1,
        before: &[],
        scripts: &[&[Push(1)], &[Push(2)], &[Pop, Pop]],
    },
    Scenario { name: "two and one", capacity: 2, before: &[], scripts: &[&[Push(1)], &[Push(2)], &[Pop]] },
    Scenario { name: "one and two", capacity: 2, before: &[Push(1)], scripts: &[&[Push(2)], &[Pop], &[Pop]] },
    Scenario { name: "full", capacity: 2, before: &[Batch(1, 2)], scripts: &[&[Push(3)], &[Pop], &[Pop]] },
    Scenario {
        name: "batches",
        capacity: 2,
        before: &[],
        scripts: &[&[Batch(1, 2)], &[Push(7)], &[Pops(2)]],
    },
    Scenario {
        name: "batches",
        capacity: 4,
        before: &[Push(9)],
        scripts: &[&[Batch(1, 3)], &[Pops(4), Pops(2)]],
    },
    Scenario {
        name: "a short batch",
        capacity: 2,
        before: &[],
        scripts: &[&[Short(1), Push(2)], &[Pop, Pop]],
    },
    Scenario {
        name: "close",
        capacity: 1,
        before: &[],
        scripts: &[&[Push(1), Push(2)], &[Close], &[Pop, Pop]],
    },
    Scenario { name: "close", capacity: 2, before: &[], scripts: &[&[Push(1)], &[Close, Pop], &[Pop]] },
    Scenario {
        name: "close a batch",
        capacity: 2,
        before: &[],
        scripts: &[&[Batch(1, 2)], &[Close, Pops(2), Pop]],
    },
];

impl Scenario {
    fn explore(&self, start: u64) -> Result<Report, String> {
        let (ring, mut stage) = Ring::stage(self.capacity, start);
        for call in self.before {
            stage.perform(&ring, NEWCOMER, *call)?;
        }
        let report = stage.explore(&ring, self.scripts, 0, 0);
        report.map_err(|what| format!("{}, capacity {}, from {start:#x}: {what}", self.name, self.capacity))
    }
}

/// From a start at which positions wrap in the middle, and in the long form from 0.
#[test]
fn every_schedule_keeps_what_the_queue_promises() {
    let mut all = Report::default();
    for scenario in SCENARIOS {
        for start in &[u64::MAX >> 2, 0][..if full() { 2 } else { 1 }] {
            let report = scenario.explore(*start).unwrap_or_else(|what| panic!("{what}"));
            println!("{report}: {}, capacity {}", scenario.name, scenario.capacity);
            assert!(report.ends > 1, "one end shows nothing");
            all += report;
        }
    }
    println!("{all}: the queue, in all");
}

#[test]
fn every_mistake_is_noticed() {
    use Bug::*;
    let all = [
        LocalPublishFirst,
        LocalFreeFirst,
        LocalSameLap,
        LocalOneTooMany,
        LocalNoVoid,
        LocalDrainedEarly,
        LocalClaimOverClose,
        LocalEmptyUncompared,
        LocalFullUncompared,
    ];
    std::panic::set_hook(Box::new(|_| {})); // some panic on the way
    let results = all.map(|bug| {
        (bug, with_bug(Some(bug), || SCENARIOS.iter().find_map(|s| s.explore(u64::MAX >> 2).err())))
    });
    let _ = std::panic::take_hook();
    for (bug, by) in &results {
        println!(
            "{bug:<24?} | {}",
            by.as_ref().map_or("NOBODY", |said| said.lines().next().unwrap_or_default())
        );
    }
    for (bug, by) in results {
        assert!(by.is_some(), "no scenario notices {bug:?}");
    }
}
