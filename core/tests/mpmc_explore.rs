//! The ring of many to many under every schedule of a few actors, with deaths anywhere: see
//! `sapwood_core::testing::explore`.
#![allow(missing_docs)]

use std::time::Instant;

use sapwood_core::mem::Bug;
use sapwood_core::ring::mpmc::LAP_BITS;
use sapwood_core::testing::explore::mpmc::scenarios::{
    STALE, Scenario, THREE, THREE_LONG, TWO, TWO_LONG, starts,
};
use sapwood_core::testing::explore::{Report, with_bug};

fn full() -> bool {
    std::env::var_os("SAPWOOD_FULL").is_some()
}

/// Explores all of `short`, and of `long` if the environment asks for it, from the starts that `from` picks.
fn explore(what: &str, short: &[Scenario], long: &[Scenario], from: fn(u32) -> Vec<u64>) {
    let (began, mut all) = (Instant::now(), Report::default());
    let long = if full() { long } else { &[] };
    for scenario in short.iter().chain(long) {
        let start = Instant::now();
        let mut report = Report::default();
        for shift in scenario.shifts {
            let starts = if full() { starts(*shift) } else { from(*shift) };
            for start in starts {
                report += scenario.explore(*shift, start).unwrap_or_else(|what| panic!("{what}"));
            }
        }
        println!("{report}, {:>6.2} s: {}", start.elapsed().as_secs_f64(), scenario.name);
        assert!(report.ends > 1, "{}: one end shows nothing", scenario.name);
        all += report;
    }
    println!("{all}, {:>6.2} s: {what}, in all", began.elapsed().as_secs_f64());
}

/// From 0, and such that positions or laps wrap.
#[test]
fn two_actors() {
    explore("two actors", TWO, TWO_LONG, |shift| {
        let [zero, wraps, _, lap_wraps, _] = starts(shift)[..] else { unreachable!("five starts") };
        vec![if shift == 0 { zero } else { lap_wraps }, wraps]
    });
}

/// Positions and laps wrap in the middle.
#[test]
fn three_actors() {
    explore("three actors", THREE, THREE_LONG, |shift| {
        let [_, wraps, _, lap_wraps, _] = starts(shift)[..] else { unreachable!("five starts") };
        vec![if shift == 0 { wraps } else { lap_wraps }]
    });
}

#[test]
fn stale_handles_and_hints() {
    explore("stale handles and hints", STALE, &[], |shift| {
        // The first laps are made beforehand.
        vec![u64::MAX - 3, (1 << (LAP_BITS + shift)) - 3]
    });
}

/// The first scenario that notices `bug`, and what it said.
fn noticed(bug: Option<Bug>) -> Option<(&'static str, String)> {
    let scenarios =
        TWO.iter().chain(THREE).chain(STALE).flat_map(|s| s.shifts.iter().map(move |shift| (s, *shift)));
    for (scenario, shift) in scenarios {
        if let Err(said) = with_bug(bug, || scenario.explore(shift, u64::MAX)) {
            return Some((scenario.name, said.lines().next().unwrap_or_default().to_owned()));
        }
    }
    None
}

#[test]
fn every_mistake_is_noticed() {
    use Bug::*;
    let all = [
        MpmcSameLap,
        MpmcHintFirst,
        MpmcAssumeDead,
        MpmcAssumeAlive,
        MpmcFreeThenRead,
        MpmcNoTakeOver,
        MpmcPublishFirst,
        MpmcStepOver,
        MpmcJumpTooFar,
        MpmcPopJumpTooFar,
        MpmcTakeOverUnderOldName,
        MpmcNoSeal,
        MpmcPassSeal,
        MpmcForgetReaders,
    ];
    // Some panic on the way; what they say is printed below.
    std::panic::set_hook(Box::new(|_| {}));
    let results = all.map(|bug| (bug, noticed(Some(bug))));
    let _ = std::panic::take_hook();
    for (bug, by) in &results {
        println!("{:<28} | {}", format!("{bug:?}"), by.as_ref().map_or("NOBODY", |(_, said)| said));
    }
    for (bug, by) in results {
        assert!(by.is_some(), "no scenario notices {bug:?}");
    }
}
