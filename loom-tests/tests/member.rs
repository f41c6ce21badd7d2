//! What members do, as it ships. See `sapwood_loom_tests::models::member`.

use sapwood_loom_tests::models;

#[test]
fn models() {
    models::run_all(&models::member::all());
}
