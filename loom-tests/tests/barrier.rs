//! Nobody passes early. See `sapwood_loom_tests::models::barrier`.

use sapwood_loom_tests::models;

#[test]
fn models() {
    models::run_all(&models::barrier::all());
}
