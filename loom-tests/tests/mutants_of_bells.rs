//! The bells of a channel: each ring that is left out, and each fence behind which it is made, weakened; some model
//! must notice.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sapwood_core::mem::Bug::*;
use sapwood_core::mem::Site::*;
use sapwood_loom_tests::family::Mutant::{self, Mistake, Weak};
use sapwood_loom_tests::family::with_mutant;
use sapwood_loom_tests::models::bells;

const MUTANTS: &[Mutant] = &[
    Mistake(BellsForgetTheSeal),
    Mistake(BellsCloseForReaders),
    Mistake(BellsCloseForSenders),
    Mistake(BellNoSecondLook),
    Weak(BellSleeperFence),
    Weak(BellWakerFence),
];

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message");
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_mutant_is_noticed() {
    // The panics are the point here; what each says is printed in the table.
    std::panic::set_hook(Box::new(|_| {}));
    let models = bells::all();
    let noticed = MUTANTS.iter().map(|mutant| {
        let by = models.iter().find_map(|m| {
            let run = || with_mutant(Some(*mutant), || (m.run)(Some(m.bound)));
            catch_unwind(AssertUnwindSafe(run)).err().map(|e| (m.name.as_str(), message(&*e)))
        });
        (mutant, by)
    });
    let noticed: Vec<_> = noticed.collect();
    let _ = std::panic::take_hook();
    for (mutant, by) in &noticed {
        let (by, said) = by.as_ref().map_or(("NOBODY", ""), |(by, said)| (*by, said.as_str()));
        println!("{mutant:?} | {by} | {}", said.chars().take(100).collect::<String>());
    }
    for (mutant, by) in &noticed {
        let (by, said) = by.as_ref().unwrap_or_else(|| panic!("no model notices {mutant:?}"));
        let too_big = said.contains("maximum number of branches");
        assert!(!too_big, "{by} is too big to say anything of {mutant:?}");
    }
}
