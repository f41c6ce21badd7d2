//! A barrier with one verdict: what was said before it is heard behind it, all are told the same, and nobody stays
//! asleep beside a verdict. Loom calls that a deadlock.

use loom::thread;
use sapwood_core::mem::{Atom, Mem, Ordering};
use sapwood_core::muster::{Muster, Region, Standing, Why};
use sapwood_core::testing::Court;
use sapwood_core::wait::{Prices, Stage, WaitPolicy, Waiter};

use super::{Bound, Model};
use crate::explore;
use crate::family::{Loom, until};

type Part = Muster<Loom, Court<Loom>>;
type Word = std::sync::Arc<<Loom as Mem>::U32>;

/// Across both wraps.
const START: u64 = u64::MAX;

/// Waits for the verdict, as `shm` does: whoever is `gone` is given up.
fn wait(part: &Part, gone: impl Fn(usize) -> Option<Why>) -> Standing {
    let mut waiter = Waiter::new(WaitPolicy::Sleep, Prices { spin: 1, give_way: 1, wake: 1 }, true);
    for _ in 0..4 {
        let standing = std::cell::Cell::new(Standing::Open);
        let ready = || {
            standing.set(part.poll());
            standing.get() != Standing::Open
        };
        let idle = |stage| match stage {
            Stage::Patient => Ok(u64::MAX),
            Stage::Asleep => match part.missing().find_map(|seat| gone(seat).map(|why| (seat, why))) {
                Some(gone) => Err(gone),
                None => Ok(u64::MAX),
            },
        };
        match waiter.wait(part.region().bell(), ready, || false, idle) {
            Ok(()) => return standing.get(),
            Err((seat, why)) => match part.break_off(seat, why) {
                Standing::Open => {}
                other => return other,
            },
        }
    }
    panic!("no verdict")
}

fn left(part: &Part, seat: usize) -> Option<Why> {
    part.has_left(seat).then_some(Why::Left)
}

fn say(court: &Court<Loom>, part: &mut Part) {
    let generation = part.generation().wrapping_add(1);
    court.say(part.me(), generation, generation);
    part.arrive();
}

fn hear(court: &Court<Loom>, part: &Part) {
    for seat in (0..court.seats()).filter(|s| *s != part.me()) {
        assert_eq!(court.said(seat, part.generation()), part.generation(), "{seat} was not heard");
    }
}

fn is_passed(standing: Standing) -> bool {
    matches!(standing, Standing::Passed { .. })
}

/// `seats` participants pass `generations` times.
fn pass(seats: usize, generations: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let court = Court::<Loom>::new(seats, START);
        let participate = move |court: Court<Loom>, me: usize| {
            let mut part = Muster::attach(court.clone(), me, START);
            (0..generations)
                .map(|_| {
                    say(&court, &mut part);
                    let standing = wait(&part, |_| None);
                    assert!(is_passed(standing), "{standing:?}");
                    hear(&court, &part);
                    u32::from(standing == Standing::Passed { leader: true })
                })
                .sum::<u32>()
        };
        let others: Vec<_> = (1..seats)
            .map(|me| (me, court.clone()))
            .map(|(me, court)| thread::spawn(move || participate(court, me)))
            .collect();
        let mut leaders = participate(court.clone(), 0);
        leaders += others.into_iter().map(|t| t.join().expect("it passed")).sum::<u32>();
        assert_eq!(leaders, generations as u32, "one leader a passage");
    })
}

/// One does not wait for the other, who arrives: both are told the same.
fn gives_up(bound: Bound) -> u64 {
    explore(bound, || {
        let court = Court::<Loom>::new(2, START);
        let other = {
            let court = court.clone();
            thread::spawn(move || {
                let mut part = Muster::attach(court.clone(), 1, START);
                say(&court, &mut part);
                let standing = wait(&part, |_| None);
                if is_passed(standing) {
                    hear(&court, &part);
                }
                standing
            })
        };
        let mut part = Muster::attach(court.clone(), 0, START);
        say(&court, &mut part);
        let mine = match part.break_off(1, Why::Missing) {
            Standing::Open => wait(&part, |_| None),
            other => other,
        };
        if is_passed(mine) {
            hear(&court, &part);
        }
        let theirs = other.join().expect("it is told");
        assert!(mine == theirs || is_passed(mine) && is_passed(theirs), "{mine:?}, {theirs:?}");
    })
}

/// One passes, comes again and does not wait for the other then: the other one has passed all the same.
fn breaks_the_next(bound: Bound) -> u64 {
    explore(bound, || {
        let court = Court::<Loom>::new(2, START);
        let other = {
            let court = court.clone();
            thread::spawn(move || {
                let mut part = Muster::attach(court.clone(), 1, START);
                say(&court, &mut part);
                assert!(is_passed(wait(&part, |_| None)), "it was passed by the other one");
                hear(&court, &part);
            })
        };
        let mut part = Muster::attach(court.clone(), 0, START);
        say(&court, &mut part);
        assert!(is_passed(wait(&part, |_| None)));
        hear(&court, &part);
        part.arrive();
        assert_eq!(part.break_off(1, Why::Missing), Standing::Broken { seat: 1, why: Why::Missing });
        other.join().expect("it passed");
    })
}

/// Two wait for a third, that never comes. One gives it up, and the other one wakes.
fn never_comes(bound: Bound) -> u64 {
    explore(bound, || {
        let court = Court::<Loom>::new(3, START);
        let other = {
            let court = court.clone();
            thread::spawn(move || {
                let mut part = Muster::attach(court, 1, START);
                part.arrive();
                wait(&part, |_| None)
            })
        };
        let mut part = Muster::attach(court, 0, START);
        part.arrive();
        let broken = Standing::Broken { seat: 2, why: Why::Missing };
        assert_eq!(part.break_off(2, Why::Missing), broken);
        assert_eq!(other.join().expect("it is told"), broken);
    })
}

/// One arrives, passes and leaves; the other passes, and its next passage breaks.
fn leaves(bound: Bound) -> u64 {
    explore(bound, || {
        let court = Court::<Loom>::new(2, START);
        let other = {
            let court = court.clone();
            thread::spawn(move || {
                let mut part = Muster::attach(court.clone(), 1, START);
                say(&court, &mut part);
                part.leave();
            })
        };
        let mut part = Muster::attach(court.clone(), 0, START);
        say(&court, &mut part);
        let first = wait(&part, |seat| left(&part, seat));
        assert!(is_passed(first), "it had arrived before it left: {first:?}");
        hear(&court, &part);
        part.arrive();
        let second = wait(&part, |seat| left(&part, seat));
        assert_eq!(second, Standing::Broken { seat: 1, why: Why::Left });
        other.join().expect("it left");
    })
}

/// One dies before its operation `k`; whoever buries it rings. Two that wait are told the same.
fn dies(k: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let court = Court::<Loom>::new(3, START);
        let dead: Word = Word::new(Atom::new(0));
        let victim = {
            let (court, dead) = (court.clone(), dead.clone());
            thread::spawn(move || {
                until(k, || {
                    let mut part = Muster::attach(court.clone(), 2, START);
                    part.arrive();
                    part.poll();
                });
                dead.store(1, Ordering::Release);
                court.bell().ring_anyway();
            })
        };
        let participate = move |court: Court<Loom>, dead: Word, me: usize| {
            let mut part = Muster::attach(court, me, START);
            part.arrive();
            wait(&part, |seat| (seat == 2 && dead.load(Ordering::Acquire) != 0).then_some(Why::Died))
        };
        let other = {
            let (court, dead) = (court.clone(), dead.clone());
            thread::spawn(move || participate(court, dead, 1))
        };
        let mine = participate(court, dead, 0);
        let theirs = other.join().expect("it is told");
        victim.join().expect("it dies");
        let right =
            if k == 0 { mine == Standing::Broken { seat: 2, why: Why::Died } } else { is_passed(mine) };
        assert!(right && is_passed(mine) == is_passed(theirs), "k {k}: {mine:?}, {theirs:?}");
    })
}

/// All models of the barrier with a verdict.
pub fn all() -> Vec<Model> {
    let mut models = vec![
        Model::new("two pass", 3, &[Some(4), None], |b| pass(2, 1, b)),
        Model::new("two pass twice", 2, &[Some(3)], |b| pass(2, 2, b)),
        Model::new("three pass", 2, &[Some(2)], |b| pass(3, 1, b)),
        Model::new("one gives the other up", 4, &[Some(4)], gives_up),
        Model::new("one passes and breaks the next", 3, &[Some(4)], breaks_the_next),
        Model::new("two wait for a third", 4, &[Some(6), None], never_comes),
        Model::new("one arrives and leaves", 4, &[Some(4)], leaves),
    ];
    for k in 0..5 {
        let name = format!("one of three dies before its operation {k}");
        models.push(Model::new(name, 1, &[Some(2)], move |b| dies(k, b)));
    }
    models
}
