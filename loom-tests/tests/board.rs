//! Lines are reused safely and survivors agree. See `sapwood_loom_tests::models::board`.

use sapwood_loom_tests::models;

#[test]
fn models() {
    models::run_all(&models::board::all());
}
