//! One at a time has the lock, and no waiter is forgotten. See `sapwood_loom_tests::models::lock`.

use sapwood_loom_tests::models;

#[test]
fn models() {
    models::run_all(&models::lock::all());
}
