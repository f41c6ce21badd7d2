//! Shared blocks: every ordering that is not relaxed, weakened, and mistakes in the logic that take two at a time to do
//! harm; some model must notice each. `core/tests/bufs_{crash,explore}.rs` notice the other mistakes.

use sapwood_core::mem::Bug::*;
use sapwood_core::mem::Site::*;
use sapwood_loom_tests::family::Mutant::{self, Mistake, Weak};
use sapwood_loom_tests::judge;
use sapwood_loom_tests::models::bufs;

const BUFS: &[Mutant] = &[
    Weak(BufLoanLoad),
    Weak(BufLoan),
    Weak(BufShare),
    Weak(BufAdoptLoad),
    Weak(BufAdopt),
    Weak(BufDrop),
    Weak(BufSoleLoad),
    Weak(BufLeave),
    Weak(BufLeftLoad),
    Weak(BufRecoverLoad),
    Weak(BufRecover),
    Mistake(BufLoanSameGeneration),
    Mistake(BufIgnoreSuccessor),
];

#[test]
fn every_mutant_is_noticed() {
    judge::every_mutant_is_noticed(&[(BUFS, bufs::all())]);
}
