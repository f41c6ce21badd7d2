//! Workqueues: the door's ordering, weakened, and rings and looks that are left out; some model must notice each. Those
//! of jobs and bells have tables of their own.

use sapwood_core::mem::Bug::*;
use sapwood_core::mem::Site::*;
use sapwood_loom_tests::family::Mutant::{self, Mistake, Weak};
use sapwood_loom_tests::judge;
use sapwood_loom_tests::models::queue;

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
    Mistake(BellGlanceAsleep),
    Mistake(ClaimGlanceAtTheDoor),
];

#[test]
fn every_mutant_is_noticed() {
    judge::every_mutant_is_noticed(&[(QUEUE, queue::all())]);
}
