//! Collectives against the floor and the MPIs.

use std::error::Error;
use std::path::Path;
use std::process::Command;

use super::{Effort, row};
use crate::contender::Contender;
use crate::report::Row;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

const SIZES: [usize; 7] = [8, KIB, 16 * KIB, 256 * KIB, MIB, 16 * MIB, 64 * MIB];
const DRIVER: &str = "target/peers/openmpi";

/// Settings that keep large scratch buffers mapped between calls: without them glibc maps and unmaps one a call.
const MALLOC: [(&str, &str); 3] = [
    ("MALLOC_MMAP_THRESHOLD_", "8589934592"),
    ("MALLOC_TRIM_THRESHOLD_", "17179869184"),
    ("MALLOC_TOP_PAD_", "16777216"),
];
/// For long tensors: segmented ring.
const RING: [&str; 6] =
    ["--mca", "coll_tuned_use_dynamic_rules", "1", "--mca", "coll_tuned_allreduce_algorithm", "6"];

fn mpirun(ranks: usize) -> Command {
    let mut command = Command::new("mpirun");
    command.args(["-n", &ranks.to_string(), "--bind-to", "none", "--oversubscribe", "--allow-run-as-root"]);
    command
}

/// Starts a peer, or says why it can't run.
fn peer(name: &str, mut command: Command, ranks: usize, all: &mut Vec<Contender>, rows: &mut Vec<Row>) {
    let started = if Path::new(DRIVER).exists() {
        Contender::launched(name, command.arg(DRIVER), ranks)
    } else {
        Err(format!("{DRIVER} is missing: run bench/peers.sh").into())
    };
    match started {
        Ok(contender) => all.push(contender),
        Err(e) => rows.push(Row {
            bench: "coll.allreduce".into(),
            peer: name.into(),
            size: 0,
            ranks,
            unit: "error",
            median: 0.0,
            p99: 0.0,
            n: 0,
            note: Some(e.to_string()),
        }),
    }
}

/// Two ranks on two CPUs.
pub(super) fn run(effort: &Effort, peers: bool, rows: &mut Vec<Row>) -> Result<(), Box<dyn Error>> {
    let mut all = vec![Contender::own("sapwood", "sapwood", 2)?, Contender::own("floor", "floor", 2)?];
    if peers {
        peer("openmpi", mpirun(2), 2, &mut all, rows);
        let mut tuned = mpirun(2);
        tuned.args(RING).envs(MALLOC);
        peer("openmpi-tuned", tuned, 2, &mut all, rows);
    }
    for size in SIZES {
        row(effort, &mut all, "coll.allreduce", "allreduce", size, 2, rows)?;
        // At once, because the machine changes with time; no peer has resident tensors.
        let mut peers = all.split_off(2.min(all.len()));
        row(effort, &mut all, "coll.allreduce_resident", "allreduce_resident", size, 2, rows)?;
        all.append(&mut peers);
    }
    row(effort, &mut all, "coll.barrier", "barrier", 0, 2, rows)?;
    for size in [8, 64 * MIB] {
        row(effort, &mut all, "coll.bcast", "bcast", size, 2, rows)?;
    }
    Ok(())
}

/// More ranks than CPUs.
pub(super) fn oversubscribed(
    effort: &Effort,
    peers: bool,
    rows: &mut Vec<Row>,
) -> Result<(), Box<dyn Error>> {
    for ranks in [4, 8] {
        let mut all = vec![Contender::own("sapwood", "sapwood", ranks)?];
        if peers {
            let mut yielding = mpirun(ranks);
            yielding.args(["--mca", "mpi_yield_when_idle", "1"]).envs(MALLOC);
            peer("openmpi-yielding", yielding, ranks, &mut all, rows);
        }
        for size in [8, KIB, 16 * KIB, 256 * KIB, MIB, 16 * MIB] {
            row(effort, &mut all, "coll.allreduce", "allreduce", size, ranks, rows)?;
        }
    }
    Ok(())
}
