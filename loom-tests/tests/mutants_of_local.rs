//! The queue between threads: every ordering that is not relaxed, weakened, and every mistake in the logic; some model
//! must notice each.

use sapwood_core::mem::Bug::*;
use sapwood_core::mem::Site::*;
use sapwood_loom_tests::family::Mutant::{self, Mistake, Weak};
use sapwood_loom_tests::judge;
use sapwood_loom_tests::models::local;

const MUTANTS: &[Mutant] = &[
    Weak(LocalPublish),
    Weak(LocalPopLoad),
    Weak(LocalFree),
    Weak(LocalPushLoad),
    Weak(LocalClose),
    Weak(LocalCloseLoad),
    Mistake(LocalPublishFirst),
    Mistake(LocalFreeFirst),
    Mistake(LocalSameLap),
    Mistake(LocalOneTooMany),
    Mistake(LocalNoVoid),
    Mistake(LocalDrainedEarly),
    Mistake(LocalClaimOverClose),
    Mistake(LocalEmptyUncompared),
    Mistake(LocalFullUncompared),
    Mistake(LocalPublishForward),
];

#[test]
fn every_mutant_is_noticed() {
    judge::every_mutant_is_noticed(&[(MUTANTS, local::all())]);
}
