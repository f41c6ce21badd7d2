//! Whoever sleeps at a channel is woken. See `sapwood_loom_tests::models::bells`.

use sapwood_loom_tests::models;

#[test]
fn models() {
    models::run_all(&models::bells::all());
}
