//! Every crash point of the ring of many to many: a push, a pop, a recovery, a close, and scripts of them, for every
//! fill, capacity and wrap. Sequential; `mpmc_explore` has the schedules.
#![allow(missing_docs)]

use sapwood_core::testing::explore::Stage;
use sapwood_core::testing::explore::mpmc::Call::{self, *};
use sapwood_core::testing::explore::mpmc::scenarios::starts;
use sapwood_core::testing::explore::mpmc::{HEIR, Ring};

const VICTIM: u8 = 1;
const SECOND: u8 = 4;
const SURVIVOR: u8 = 3;

fn full() -> bool {
    std::env::var_os("SAPWOOD_FULL").is_some()
}

/// A ring through which `turns` messages have gone and in which `fill` wait.
fn before(shift: u32, start: u64, turns: u64, fill: u64) -> (Ring, Stage<Ring>) {
    let (ring, mut stage) = Ring::stage(shift, start);
    let turns = (0..turns).flat_map(|i| [Push(100 + i), Pop]);
    for call in turns.chain((0..fill).map(|i| Push(200 + i))) {
        stage.perform(&ring, 0, call).expect("nobody is in the way");
    }
    (ring, stage)
}

const VICTIMS: &[&[Call]] = &[
    &[Push(1)],
    &[Pop],
    &[Push(1), Pop],
    &[Pop, Push(1)],
    &[Pop, Pop, Push(1), Push(2)],
    &[PushPanics, Push(1)],
    &[PopPanics, Pop],
    &[Close],
    &[Push(1), Close, Pop],
    &[Pop, Close, Pop, Pop],
];

/// What the survivor does after the death and before the ring is emptied.
const SURVIVORS: &[&[Call]] = &[
    &[],
    &[Push(50)],
    &[Pop],
    &[Push(50), Push(51), Pop, Pop],
    &[Pop, Pop, Push(50), Push(51), Push(52)],
    &[Recover(VICTIM), Recover(SECOND), Push(50), Pop],
    &[Close, Pop, Pop],
    &[Pop, Close, Recover(VICTIM), Pop, Push(50)],
];

#[derive(Default)]
struct Counts {
    points: u64,
    orphans: u64,
    skips: u64,
    both: u64,
}

impl Counts {
    fn add(&mut self, stage: &Stage<Ring>) {
        let (skipped, orphans) = stage.world().judge().left_behind();
        self.points += 1;
        self.orphans += orphans as u64;
        self.skips += skipped as u64;
        self.both += u64::from(skipped + orphans > 1);
    }
}

/// What the others do after the death; then everything must be there.
fn afterwards(ring: &Ring, stage: &Stage<Ring>, counts: &mut Counts, at: &str) {
    for calls in SURVIVORS {
        let mut stage = stage.clone();
        for call in *calls {
            stage.perform(ring, SURVIVOR, *call).unwrap_or_else(|e| panic!("{at}, then {calls:?}: {e}"));
        }
        stage.settle(ring).unwrap_or_else(|e| panic!("{at}, then {calls:?}: {e}"));
        counts.add(&stage);
    }
}

#[test]
fn one_death() {
    let (mut counts, mut heirs) = (Counts::default(), 0);
    for shift in 0..3 {
        for start in starts(shift) {
            for (turns, fill) in (0..3).flat_map(|t| (0..=1u64 << shift).map(move |f| (t, f))) {
                let (ring, stage) = before(shift, start, turns, fill);
                for calls in VICTIMS {
                    for k in 0.. {
                        let at =
                            format!("2^{shift} slots from {start:#x}, {fill} messages, {calls:?} until {k}");
                        let mut stage = stage.clone();
                        let all = stage.kill(&ring, VICTIM, calls, k).unwrap_or_else(|e| panic!("{at}: {e}"));
                        afterwards(&ring, &stage, &mut counts, &at);
                        // And somebody on the dead one's seat.
                        for call in [Succeed(VICTIM), Push(60), Pop] {
                            stage.perform(&ring, HEIR, call).unwrap_or_else(|e| panic!("{at}, an heir: {e}"));
                        }
                        stage.settle(&ring).unwrap_or_else(|e| panic!("{at}, an heir: {e}"));
                        heirs += 1;
                        if all {
                            break;
                        }
                    }
                }
            }
        }
    }
    let Counts { points, orphans, skips, .. } = counts;
    println!("one death: killed at {points} points, {orphans} orphans, {skips} skipped; {heirs} heirs");
    assert!(orphans > 0 && skips > 0);
}

/// The second one dies on its own account, or while it recovers from the first.
#[test]
fn two_deaths() {
    let mut counts = Counts::default();
    let second: &[&[Call]] =
        &[&[Push(30)], &[Pop], &[Push(30), Push(31), Pop], &[Recover(VICTIM), Pop], &[Close, Pop, Pop]];
    let all_starts = |shift| if full() { starts(shift) } else { vec![u64::MAX] };
    for shift in 0..3 {
        for start in all_starts(shift) {
            for fill in 0..=1u64 << shift {
                let (ring, stage) = before(shift, start, 1, fill);
                for (calls, others) in VICTIMS.iter().flat_map(|v| second.iter().map(move |s| (v, s))) {
                    pairs(&ring, &stage, (calls, others), &mut counts);
                }
            }
        }
    }
    let Counts { points, orphans, skips, both } = counts;
    println!(
        "two deaths: killed at {points} points, {orphans} orphans, {skips} skipped, {both} times both left some"
    );
    assert!(both > 0);
}

fn pairs(ring: &Ring, stage: &Stage<Ring>, (calls, others): (&[Call], &[Call]), counts: &mut Counts) {
    for k in 0.. {
        let mut first = stage.clone();
        let at = format!("{calls:?} until {k}");
        let all = first.kill(ring, VICTIM, calls, k).unwrap_or_else(|e| panic!("{at}: {e}"));
        for k in 0.. {
            let at = format!("{at}, {others:?} until {k}");
            let mut second = first.clone();
            let all = second.kill(ring, SECOND, others, k).unwrap_or_else(|e| panic!("{at}: {e}"));
            afterwards(ring, &second, counts, &at);
            if all {
                break;
            }
        }
        if all {
            break;
        }
    }
}

/// A handle any number of laps behind finds its place, also after the hints were overwritten with old values.
#[test]
fn stale_handles_catch_up() {
    let mut ends = 0;
    for shift in 0..3 {
        for start in starts(shift) {
            let fills = 0..=1u64 << shift;
            for (turns, fill) in (0..14).flat_map(|t| fills.clone().map(move |f| (t, f))) {
                for hints in [None, Some(0), Some(turns / 2)] {
                    let (ring, mut stage) = Ring::stage(shift, start);
                    let at =
                        format!("2^{shift} slots from {start:#x}, {turns} turns, {fill} messages, {hints:?}");
                    stage.perform(&ring, VICTIM, Attach).expect("nothing is in the way");
                    let turns = (0..turns).flat_map(|i| [Push(100 + i), Pop]);
                    let fill = (0..fill).map(|i| Push(200 + i));
                    let old = [Push(70), Pop, Push(71), Pop, Close, Pop].map(|call| (VICTIM, call));
                    let first = turns.chain(fill).chain(hints.map(Hints)).map(|call| (0, call));
                    for (actor, call) in first.chain(old) {
                        stage.perform(&ring, actor, call).unwrap_or_else(|e| panic!("{at}: {e}"));
                    }
                    stage.settle(&ring).unwrap_or_else(|e| panic!("{at}: {e}"));
                    ends += 1;
                }
            }
        }
    }
    println!("stale handles: {ends} rings");
}
