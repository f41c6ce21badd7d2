//! Locks and barriers: every ordering that is not relaxed, weakened, and the mistakes in the logic; some model must
//! notice each. `core/tests/{lock,muster}_explore.rs` notice the mistakes that are not here.

use sapwood_core::mem::Bug::*;
use sapwood_core::mem::Site::*;
use sapwood_loom_tests::family::Mutant::{self, Mistake, Weak};
use sapwood_loom_tests::judge;
use sapwood_loom_tests::models::{lock, muster};

const LOCKS: &[Mutant] = &[
    Weak(LockTake),
    Weak(LockFree),
    Weak(LockLook),
    Weak(LockRecover),
    Mistake(LockSilentWaiter),
    Mistake(LockFreeByStore),
    Mistake(LockRingFirst),
    Mistake(LockInheritByStore),
];

const BARRIERS: &[Mutant] = &[
    Weak(BarrierArrive),
    Weak(BarrierLook),
    Weak(MusterDecide),
    Weak(MusterLook),
    Weak(MusterLeave),
    Weak(MusterLookLeft),
    Mistake(MusterNoSecondLook),
    Mistake(MusterBreakByStore),
    Mistake(MusterNextIsOurs),
    Mistake(MusterRingFirst),
    Mistake(MusterEarly),
];

#[test]
fn every_mutant_is_noticed() {
    judge::every_mutant_is_noticed(&[(LOCKS, lock::all()), (BARRIERS, muster::all())]);
}
