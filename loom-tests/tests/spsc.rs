//! Values come whole and in order, and ends are found out. See `sapwood_loom_tests::models::spsc`.

use sapwood_loom_tests::models;

#[test]
fn models() {
    models::run_all(&models::spsc::all());
}
