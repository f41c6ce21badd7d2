//! The protocols of `sapwood-core` on loom: every interleaving and every stale load that loom knows of, up to a bound
//! on preemptions, for the code that ships.
//!
//! [`family`] is the memory family `Loom`; [`models`] are small programs on it, each of which asserts what its protocol
//! promises; `tests/` runs them, and `tests/mutants.rs` shows that each of them is needed: every ordering weakened and
//! every step left out is noticed by some model.
//!
//! What loom can't do shapes the models: at most four threads beside the main one, no time (a sleep ends only when
//! somebody rings, so a lost wake-up is a deadlock, which loom reports), and SeqCst on loads and stores counts as
//! AcqRel (core uses SeqCst fences only). A model under a bound on preemptions is not exhaustive; without a bound loom
//! looks at *fewer* executions of some models, so the long form (`SAPWOOD_FULL=1`) raises the bound and also runs the
//! small models without one.
#![deny(unsafe_code)]

pub mod attached;
pub mod family;
pub mod guarded;
pub mod judge;
pub mod models;

use std::cell::Cell;

thread_local!(static EXECUTIONS: Cell<u64> = const { Cell::new(0) });

/// Explores `body` with at most `preemptions` involuntary thread switches an execution (`None`: any number). Returns
/// the number of executions; panics, as `body` or loom does, in the first one that fails.
pub fn explore(preemptions: Option<usize>, body: impl Fn() + Send + Sync + 'static) -> u64 {
    // Loom runs all threads of a model on the caller's, so a thread-local counts them all.
    EXECUTIONS.set(0);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 20_000;
    builder.check(move || {
        EXECUTIONS.set(EXECUTIONS.get() + 1);
        body();
    });
    EXECUTIONS.get()
}

/// Whether the environment asks for the long form: `SAPWOOD_FULL=1`.
pub fn full() -> bool {
    std::env::var("SAPWOOD_FULL").is_ok_and(|v| v == "1")
}
