//! Jobs and blocks: every ordering that is not relaxed, weakened, and the mistakes in the logic that take two at a time
//! to do harm; some model must notice each. `core/tests/{claim,blocks}_crash.rs` notice the other mistakes.

use sapwood_core::mem::Bug::*;
use sapwood_core::mem::Site::*;
use sapwood_loom_tests::family::Mutant::{self, Mistake, Weak};
use sapwood_loom_tests::judge;
use sapwood_loom_tests::models::{blocks, claim};

const JOBS: &[Mutant] = &[
    Weak(ClaimSubmit),
    Weak(ClaimTakeLoad),
    Weak(ClaimFinish),
    Weak(ClaimDecline),
    Weak(ClaimCollect),
    Weak(ClaimFree),
    Weak(ClaimSubmitLoad),
    Weak(ClaimRedeliver),
    Weak(ClaimUnsubmit),
    Weak(ClaimUncollect),
    Weak(ClaimHintLoad),
    Weak(ClaimHintStore),
    Mistake(ClaimSubmitFirst),
    Mistake(ClaimFinishFirst),
    Mistake(ClaimFinishByStore),
    Mistake(ClaimFreeFirst),
    Mistake(ClaimStepOverFilling),
];

const BLOCKS: &[Mutant] = &[
    Weak(BlockLoanLoad),
    Weak(BlockLoan),
    Weak(BlockTake),
    Weak(BlockFree),
    Weak(BlockRecoverLoad),
    Weak(BlockRecover),
    Mistake(BlockLoanSameGeneration),
    Mistake(BlockSameGeneration),
    Mistake(BlockTakeLate),
    Mistake(BlockIgnoreSuccessor),
    Mistake(BlockForgetMail),
];

#[test]
fn every_mutant_is_noticed() {
    judge::every_mutant_is_noticed(&[(BLOCKS, blocks::all()), (JOBS, claim::all())]);
}
