//! The map: every ordering that is not relaxed, weakened, and the mistakes in the logic that take two at a time to do
//! harm; some model must notice each. `core/tests/map_crash.rs` notices the other mistakes.

use sapwood_core::mem::Bug::*;
use sapwood_core::mem::Site::*;
use sapwood_loom_tests::family::Mutant::{self, Mistake, Weak};
use sapwood_loom_tests::judge;
use sapwood_loom_tests::models::map;

const MAP: &[Mutant] = &[
    Weak(MapLock),
    Weak(MapUnlock),
    Weak(MapUnlockDead),
    Weak(MapLook),
    Weak(MapCommit),
    Weak(MapClaimLoad),
    Weak(MapGiveBack),
    Weak(MapBury),
    Weak(MapWriterFence),
    Weak(MapReaderFence),
    Weak(MapInstall),
    Weak(MapHelpLoad),
    Weak(MapFinishLoad),
    Weak(MapFinish),
    Weak(MapSettle),
    Mistake(MapAssumeDead),
    Mistake(MapReaderNoSecondLook),
    Mistake(MapHelperNoSecondLook),
    Mistake(MapCommitFirst),
    Mistake(MapPublishFirst),
];

#[test]
fn every_mutant_is_noticed() {
    judge::every_mutant_is_noticed(&[(MAP, map::all())]);
}
