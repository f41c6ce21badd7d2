//! Whether each mutant is noticed: the tables that `tests/mutants*.rs` print.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sapwood_core::testing::explore::with_bug;

use crate::family::{Mutant, with_mutant};
use crate::models::Model;

/// What a panic said, in one line.
fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message");
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// The first of `models` that fails under the mutant, and what it said.
fn noticed(mutant: Mutant, models: &[Model]) -> Option<(String, String)> {
    models.iter().find_map(|m| {
        // Some models are explorations of schedules, which have a switch of their own.
        let bug = if let Mutant::Mistake(bug) = mutant { Some(bug) } else { None };
        let run = || with_bug(bug, || with_mutant(Some(mutant), || (m.run)(Some(m.bound))));
        catch_unwind(AssertUnwindSafe(run)).err().map(|e| (m.name.clone(), message(&*e)))
    })
}

/// Tries every mutant on its models, in order, and prints who has noticed it by what.
///
/// # Panics
/// If one is noticed by none, or by a model that is too big to say anything.
pub fn every_mutant_is_noticed(tables: &[(impl AsRef<[Mutant]>, Vec<Model>)]) {
    // The panics are the point here; what each says is printed in the table.
    std::panic::set_hook(Box::new(|_| {}));
    let each = tables.iter().flat_map(|(mutants, models)| mutants.as_ref().iter().map(move |m| (*m, models)));
    let results: Vec<_> = each.map(|(mutant, models)| (mutant, noticed(mutant, models))).collect();
    let _ = std::panic::take_hook();
    println!("{:<28} | {:<58} | message", "mutant", "noticed by");
    for (mutant, by) in &results {
        let name = match mutant {
            Mutant::Weak(site) => format!("{site:?} -> relaxed"),
            Mutant::Mistake(bug) => format!("{bug:?}"),
        };
        let (by, said) = by.as_ref().map_or(("NOBODY", ""), |(by, said)| (by, said));
        println!("{name:<28} | {by:<58} | {}", said.chars().take(100).collect::<String>());
    }
    for (mutant, by) in &results {
        let (by, said) = by.as_ref().unwrap_or_else(|| panic!("no model notices {mutant:?}"));
        let too_big = said.contains("maximum number of branches");
        assert!(!too_big, "{by} is too big to say anything of {mutant:?}");
    }
}
