//! A passage has one verdict, and no sleeper is left behind it. See `sapwood_loom_tests::models::muster`.

use sapwood_loom_tests::models;

#[test]
fn models() {
    models::run_all(&models::muster::all());
}
