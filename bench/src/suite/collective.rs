//! Collectives against the floor and the MPIs.

use std::error::Error;

use super::{Effort, Figure, Sums, What, measure};
use crate::contender::Contender;
use crate::peers;
use crate::report::Row;
use crate::work;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

const SIZES: [usize; 7] = [8, KIB, 16 * KIB, 256 * KIB, MIB, 16 * MIB, 64 * MIB];

const ALL_REDUCE: What = What {
    name: "coll.allreduce",
    order: "allreduce",
    peers: true,
    figure: Figure::Time,
    sums: |bytes, ranks, _| Sums::Each(work::expected("allreduce", bytes, ranks)),
};
/// No peer has resident tensors; its figures are compared with the peers' private ones.
const RESIDENT: What =
    What { name: "coll.allreduce_resident", order: "allreduce_resident", peers: false, ..ALL_REDUCE };
const BARRIER: What = What { name: "coll.barrier", order: "barrier", ..ALL_REDUCE };
const BROADCAST: What = What {
    name: "coll.bcast",
    order: "bcast",
    sums: |bytes, ranks, _| Sums::Each(work::expected("bcast", bytes, ranks)),
    ..ALL_REDUCE
};

/// Adds the peers to the contenders, and a row for each that can't take part.
fn join_peers(ranks: usize, all: &mut Vec<Contender>, rows: &mut Vec<Row>) {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let (running, missing) = peers::start(ranks, cpus);
    all.extend(running);
    rows.extend(missing.into_iter().map(|m| Row::error(ALL_REDUCE.name, &m.name, 0, ranks, m.reason)));
}

/// Two ranks on two CPUs.
pub(super) fn run(effort: &Effort, peers: bool, rows: &mut Vec<Row>) -> Result<(), Box<dyn Error>> {
    let mut all = vec![Contender::own("sapwood", "sapwood", 2)?, Contender::own("floor", "floor", 2)?];
    if peers {
        join_peers(2, &mut all, rows);
    }
    for size in SIZES {
        measure(effort, &mut all, &[ALL_REDUCE, RESIDENT], size, 2, rows)?;
    }
    measure(effort, &mut all, &[BARRIER], 0, 2, rows)?;
    for size in [8, 64 * MIB] {
        measure(effort, &mut all, &[BROADCAST], size, 2, rows)?;
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
            join_peers(ranks, &mut all, rows);
        }
        for size in SIZES {
            measure(effort, &mut all, &[ALL_REDUCE], size, ranks, rows)?;
        }
    }
    Ok(())
}
