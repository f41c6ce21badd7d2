//! No wake-up is lost. See `sapwood_loom_tests::models::doorbell`.

use sapwood_loom_tests::models;

#[test]
fn models() {
    models::run_all(&models::doorbell::all());
}
