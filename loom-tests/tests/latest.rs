//! Copies are whole. See `sapwood_loom_tests::models::latest`.

use sapwood_loom_tests::models;

#[test]
fn models() {
    models::run_all(&models::latest::all());
}
