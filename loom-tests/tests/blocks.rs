//! Blocks have one holder. See `sapwood_loom_tests::models::blocks`.

use sapwood_loom_tests::models;

#[test]
fn models() {
    models::run_all(&models::blocks::all());
}
