//! `SAPWOOD_WAIT` overrides the builder. In a program of its own, because a variable belongs to the whole process.
#![allow(missing_docs)]

use sapwood_shm::Processes;
use sapwood_tree::{Error, Op, Tree, WaitPolicy};
use std::time::Duration;

fn run(value: &str, check: impl FnOnce(Result<Tree, Error>) -> Result<(), String>) {
    let built = Tree::builder().deadline(Duration::from_secs(60)).wait(WaitPolicy::Spin);
    let running = Processes::new(2).env("SAPWOOD_WAIT", value).start(|rank| check(built.join(&rank)));
    let report = running.expect("they start").wait(Duration::from_secs(60)).expect("they end");
    assert!(report.success(), "{value}: {report}");
}

#[test]
fn sleep_means_sleep_whatever_the_builder_says() {
    run("sleep", |tree| {
        let mut tree = tree.map_err(|e| e.to_string())?;
        for _ in 0..100 {
            tree.all_reduce(&mut [1u8; 100], Op::Sum).map_err(|e| e.to_string())?;
        }
        let stats = tree.stats();
        // Joining is over before the policy counts; a rank may by luck never have to wait, but never both of them.
        let mut sleeps = [stats.sleeps];
        tree.all_reduce(&mut sleeps, Op::Sum).map_err(|e| e.to_string())?;
        if stats.spins == 0 && stats.yields == 0 && sleeps[0] > 0 {
            Ok(())
        } else {
            Err(format!("{stats:?}"))
        }
    });
}

#[test]
fn nonsense_is_named() {
    run("fast", |tree| match tree {
        Err(e @ Error::BadWait { .. }) => {
            let said = e.to_string();
            let good = said == "SAPWOOD_WAIT is \"fast\", which is none of adaptive, spin and sleep";
            if good { Ok(()) } else { Err(said) }
        }
        other => Err(format!("{other:?}")),
    });
}
