//! Bytes come in order, and ends are found out. See `sapwood_loom_tests::models::stream`.

use sapwood_loom_tests::models;

#[test]
fn models() {
    models::run_all(&models::stream::all());
}
