//! Workqueues: the door's ordering, weakened, and rings and looks that are left out; some model must notice each. Those
//! of jobs and bells have tables of their own.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sapwood_core::mem::Bug::*;
use sapwood_core::mem::Site::*;
use sapwood_loom_tests::family::Mutant::{self, Mistake, Weak};
use sapwood_loom_tests::family::with_mutant;
use sapwood_loom_tests::models::{Model, queue};

const QUEUE: &[Mutant] = &[
    Weak(ClaimLookDoor),
    Weak(ClaimRedeliver),
    Weak(BellSleeperFence),
    Weak(BellWakerFence),
    Mistake(ClaimSilentClose),
    Mistake(ClaimDoorLate),
    Mistake(ClaimForgetHeld),
    Mistake(ClaimSilentBack),
    Mistake(ClaimSilentLast),
    Mistake(ClaimGiveUpByStore),
];

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message");
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// The first of `models` that fails under the mutant, and what it said.
fn noticed(mutant: Mutant, models: &[Model]) -> Option<(&str, String)> {
    models.iter().find_map(|m| {
        let run = || with_mutant(Some(mutant), || (m.run)(Some(m.bound)));
        catch_unwind(AssertUnwindSafe(run)).err().map(|e| (m.name.as_str(), message(&*e)))
    })
}

fn judge(mutants: &[Mutant], models: &[Model]) {
    let results: Vec<_> = mutants.iter().map(|m| (m, noticed(*m, models))).collect();
    for (mutant, by) in &results {
        let name = match mutant {
            Weak(site) => format!("{site:?} -> relaxed"),
            Mistake(bug) => format!("{bug:?}"),
        };
        let (by, said) = by.as_ref().map_or(("NOBODY", ""), |(by, said)| (*by, said.as_str()));
        println!("{name:<28} | {by:<58} | {}", said.chars().take(100).collect::<String>());
    }
    for (mutant, by) in &results {
        let (by, said) = by.as_ref().unwrap_or_else(|| panic!("no model notices {mutant:?}"));
        assert!(
            !said.contains("maximum number of branches"),
            "{by} is too big to say anything of {mutant:?}"
        );
    }
}

#[test]
fn every_mutant_is_noticed() {
    // The panics are the point here; what each says is printed in the table.
    std::panic::set_hook(Box::new(|_| {}));
    let judged = catch_unwind(AssertUnwindSafe(|| judge(QUEUE, &queue::all()))).map_err(|e| message(&*e));
    let _ = std::panic::take_hook();
    judged.expect("all are noticed");
}
