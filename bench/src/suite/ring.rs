//! Rings between threads.

use std::error::Error;

use super::{Effort, Figure, Sums, What, join_crates, measure};
use crate::contender::{Contender, Ranks};
use crate::flow::words;
use crate::report::Row;
use crate::ring::{FLOOR, RINGS};

const PINGPONG: What = What {
    name: "ring.pingpong",
    order: "pingpong",
    peers: true,
    figure: Figure::OneWay,
    sums: |_, _, n| Sums::Each(words::pingpong_sum(n)),
};
const SPSC: What = What {
    name: "ring.spsc",
    order: "spsc",
    peers: true,
    figure: Figure::Rate,
    sums: |_, _, n| Sums::Each(words::stream_sum(n)),
};
const MPMC: What = What {
    name: "ring.mpmc2p2c",
    order: "mpmc",
    peers: true,
    figure: Figure::Rate,
    sums: |_, _, n| Sums::Together(words::shared_sum(n)),
};

pub(super) fn run(effort: &Effort, peers: bool, rows: &mut Vec<Row>) -> Result<(), Box<dyn Error>> {
    let own = |name, kind| Contender::own_ranks(name, kind, 2, Ranks::Threads);
    let mut all = vec![
        own("sapwood", "rings")?.knowing(RINGS),
        own("sapwood-local", "rings-local")?.knowing(RINGS),
        own("floor", "rings-floor")?.knowing(FLOOR),
    ];
    if peers {
        let orders = [PINGPONG, SPSC, MPMC].map(|what| what.order);
        join_crates(Ranks::Threads, 2, &orders, "", PINGPONG.name, &mut all, rows);
    }
    for (what, threads) in [(PINGPONG, 2), (SPSC, 2), (MPMC, 4)] {
        measure(effort, &mut all, &[what], 8, threads, rows)?;
    }
    Ok(())
}
