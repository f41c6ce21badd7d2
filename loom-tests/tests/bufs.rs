//! Shared blocks are free when nobody holds them. See `sapwood_loom_tests::models::bufs`.

use sapwood_loom_tests::models;

#[test]
fn models() {
    models::run_all(&models::bufs::all());
}
