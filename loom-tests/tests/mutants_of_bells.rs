//! The bells of a channel: each ring that is left out, and each fence behind which it is made, weakened; some model
//! must notice.

use sapwood_core::mem::Bug::*;
use sapwood_core::mem::Site::*;
use sapwood_loom_tests::family::Mutant::{self, Mistake, Weak};
use sapwood_loom_tests::judge;
use sapwood_loom_tests::models::bells;

const MUTANTS: &[Mutant] = &[
    Mistake(BellsForgetTheSeal),
    Mistake(BellsCloseForReaders),
    Mistake(BellsCloseForSenders),
    Mistake(BellNoSecondLook),
    Weak(BellSleeperFence),
    Weak(BellWakerFence),
];

#[test]
fn every_mutant_is_noticed() {
    judge::every_mutant_is_noticed(&[(MUTANTS, bells::all())]);
}
