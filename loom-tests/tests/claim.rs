//! Jobs are answered once. See `sapwood_loom_tests::models::claim`.

use sapwood_loom_tests::models;

#[test]
fn models() {
    models::run_all(&models::claim::all());
}
