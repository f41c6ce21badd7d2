//! Nothing is lost, doubled or torn, and closed is closed. See `sapwood_loom_tests::models::local`.

use sapwood_loom_tests::models;

#[test]
fn models() {
    models::run_all(&models::local::all());
}
