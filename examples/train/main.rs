//! Four processes fit a small neural network to hand-written digits, each on its shard of every batch. Their gradients
//! are averaged by an all-reduce in shared memory; the tensor they lie in is shared itself, so nothing is copied in or
//! out. At the end rank 0 trains once more in one process, folding the same shards in rank order, and the weights must
//! be equal bit for bit.
//!
//! ```text
//! cargo run --release --example train
//! ```
//!
//! Other numbers of ranks, epochs, rows per batch: `-- --help`. Prints (pids and times vary, the rest does not):
//!
//! ```text
//! 4 ranks, pids […], linked by shared memory
//! 1437 rows to train on, 360 held out; 4810 parameters, one all-reduce of 19244 bytes per step
//!
//! epoch    loss   held-out   all-reduce (median)
//!     1  1.2399     85.8 %          … µs
//!     2  0.2296     93.6 %          … µs
//!    …
//!    30  0.0046     96.9 %          … µs
//!
//! trained in … s
//! every rank holds the same weights
//! one process alone arrives at the same: bit for bit equal
//! ```
//!
//! The exit code is 1, and a message says why, where the held-out accuracy stays below 0.95, where ranks disagree, or
//! where the run of one process arrives elsewhere.
//!
//! Under a launcher that sets SAPWOOD_RANK, SAPWOOD_SIZE, SAPWOOD_LOCAL_RANK and SAPWOOD_RENDEZVOUS each process is
//! one of the launcher's ranks and starts none itself.

mod alone;
mod data;
mod mlp;
mod options;
mod random;
mod show;
mod step;
mod together;

use std::process::ExitCode;

use options::{HELP, Options};

fn main() -> ExitCode {
    let options = match Options::parse() {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("train: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    // The ranks are this program again: each parses the same command line and then runs the closure.
    match sapwood::processes(options.ranks, |rank| together::run(&rank, &options)) {
        Ok(report) if report.success() => ExitCode::SUCCESS,
        Ok(report) => {
            eprintln!("train: {report}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("train: {error}");
            ExitCode::FAILURE
        }
    }
}
