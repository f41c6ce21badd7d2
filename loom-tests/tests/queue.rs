//! Nobody sleeps beside a job, an answer or a closed door. See `sapwood_loom_tests::models::queue`.

use sapwood_loom_tests::models;

#[test]
fn models() {
    models::run_all(&models::queue::all());
}
