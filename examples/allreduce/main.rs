//! How long an all-reduce takes between processes of this host, from 8 bytes to 64 MiB, for tensors in private
//! memory and for tensors that lie in the memory all ranks share; and what waiting cost each rank.
//!
//! ```text
//! cargo run --release --example allreduce
//! cargo run --release --example allreduce -- --ranks 8 --verify
//! ```
//!
//! All options: `-- --help`. With `--verify` each rank rewrites its tensor before every operation and checks every
//! element after it; a barrier then lets all ranks start together, and neither the rewrite nor the check is in the
//! times. Prints (times are medians and the slowest hundredth on rank 0; GB/s is tensor bytes over the resident
//! median, 10⁹ per s):
//!
//! ```text
//! 2 ranks on 2 CPUs, pids […], linked by shared memory
//! f32 sums
//!
//!        bytes    rounds   private µs       p99 µs  resident µs     GB/s
//!            8      4000            …            …            …        …
//!            …
//!     67108864         …            …            …            …        …
//!
//! rank       pid   operations        spins       yields       sleeps  involuntary    CPU s
//!    0         …            …            …            …            …            …        …
//!    1         …            …            …            …            …            …        …
//! ```
//!
//! Under a launcher that sets SAPWOOD_RANK, SAPWOOD_SIZE, SAPWOOD_LOCAL_RANK and SAPWOOD_RENDEZVOUS each process is
//! one of the launcher's ranks and starts none itself.

mod measure;
mod options;
mod payload;
mod usage;

use std::{error::Error, process::ExitCode, thread};

use measure::{Bench, Times};
use options::{HELP, Options};
use sapwood::{Rank, Tree};

fn main() -> ExitCode {
    let options = match Options::parse() {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("allreduce: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    // The ranks are this program again: each parses the same command line and then runs the closure.
    match sapwood::processes(options.ranks, |rank| run(&rank, &options)) {
        Ok(report) if report.success() => ExitCode::SUCCESS,
        Ok(report) => {
            eprintln!("allreduce: {report}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("allreduce: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(rank: &Rank, options: &Options) -> Result<(), Box<dyn Error>> {
    let tree = Tree::join(rank)?;
    if options.verify {
        payload::check_size(tree.size())?;
    }
    let prints = tree.rank() == 0;
    if prints {
        let cpus = thread::available_parallelism()?;
        println!("{} ranks on {cpus} CPUs, pids {:?}, linked by {}", tree.size(), tree.pids(), tree.link());
        println!("f32 sums{}\n", if options.verify { ", every element of every round verified" } else { "" });
        println!("       bytes    rounds   private µs       p99 µs  resident µs     GB/s");
    }
    let mut bench = Bench::new(tree, options)?;
    for bytes in options.sizes() {
        let (private, resident) = bench.row(bytes)?;
        if prints {
            print_row(bytes, &private, &resident);
        }
    }
    let ranks = usage::gather(bench.into_tree())?;
    if prints {
        usage::print(&ranks);
    }
    Ok(())
}

fn print_row(bytes: usize, private: &Times, resident: &Times) {
    println!(
        "{bytes:12}  {:8}  {:11.2}  {:11.2}  {:11.2}  {:7.3}",
        private.count() + resident.count(),
        private.quantile(0.5).as_secs_f64() * 1e6,
        private.quantile(0.99).as_secs_f64() * 1e6,
        resident.quantile(0.5).as_secs_f64() * 1e6,
        bytes as f64 / resident.quantile(0.5).as_secs_f64() / 1e9,
    );
}
