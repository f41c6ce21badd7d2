//! Pairs are whole, and counted. See `sapwood_loom_tests::models::map`.

use sapwood_loom_tests::models;

#[test]
fn models() {
    models::run_all(&models::map::all());
}
