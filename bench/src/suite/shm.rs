//! Rings and messages between processes.

use std::error::Error;

use super::{Effort, Figure, Sums, What, join_crates, measure};
use crate::contender::{Contender, Ranks};
use crate::flow::{messages, records, words};
use crate::report::Row;
use crate::ring::{FLOOR, LANES, QUEUE};

const PINGPONG: What = What {
    name: "shm.pingpong",
    order: "pingpong",
    peers: true,
    figure: Figure::OneWay,
    // Eight bytes go as a word where there are words.
    sums: |bytes, _, n| match bytes {
        8 => Sums::OneOf(words::pingpong_sum(n), messages::pingpong_sum(bytes, n)),
        _ => Sums::Each(messages::pingpong_sum(bytes, n)),
    },
};
const MSGRATE: What = What {
    name: "shm.msgrate",
    order: "msgrate",
    peers: true,
    figure: Figure::Rate,
    sums: |_, _, n| Sums::Each(records::sum(n)),
};
/// Every message is published by itself.
const MSGRATE_UNBATCHED: What = What { name: "shm.msgrate_unbatched", order: "msgrate_unbatched", ..MSGRATE };
const STREAM: What = What {
    name: "shm.stream",
    order: "stream",
    peers: true,
    figure: Figure::Bandwidth,
    sums: |bytes, _, n| Sums::Each(messages::stream_sum(bytes, n)),
};
const LOAN: What = What {
    name: "shm.loan",
    order: "loan",
    peers: true,
    figure: Figure::OneWay,
    sums: |bytes, _, n| Sums::Each(messages::loan_sum(bytes, n)),
};
const MPMC: What = What {
    name: "shm.mpmc2p2c",
    order: "mpmc",
    peers: true,
    figure: Figure::Rate,
    sums: |_, _, n| Sums::Together(words::shared_sum(n)),
};

const RINGFIRE: &str = "its queue drops messages when it is full, so that no sum can be right";

/// A row for each length, in bytes.
const ROWS: [(What, usize); 7] = [
    (PINGPONG, 8),
    (PINGPONG, 4 << 10),
    (MSGRATE, 64),
    (MSGRATE_UNBATCHED, 64),
    (STREAM, 1 << 20),
    (LOAN, 4 << 10),
    (LOAN, 1 << 20),
];

pub(super) fn run(effort: &Effort, peers: bool, rows: &mut Vec<Row>) -> Result<(), Box<dyn Error>> {
    two(effort, peers, rows)?;
    four(effort, peers, rows)
}

fn floor() -> Result<Contender, Box<dyn Error>> {
    Ok(Contender::own("floor", "lanes-floor", 2)?.knowing(FLOOR))
}

fn two(effort: &Effort, peers: bool, rows: &mut Vec<Row>) -> Result<(), Box<dyn Error>> {
    let mut all = vec![Contender::own("sapwood", "lanes", 2)?.knowing(LANES), floor()?];
    if peers {
        let orders = ROWS.map(|(what, _)| what.order);
        join_crates(Ranks::Processes, 2, &orders, "", PINGPONG.name, &mut all, rows);
    }
    for (what, bytes) in ROWS {
        measure(effort, &mut all, &[what], bytes, 2, rows)?;
    }
    Ok(())
}

/// Two processes send and two receive. Hardly a peer does that; so the threads' queues stand beside ours. The floor has
/// no such ring, and only says how long a line takes.
fn four(effort: &Effort, peers: bool, rows: &mut Vec<Row>) -> Result<(), Box<dyn Error>> {
    let mut all = vec![Contender::own("sapwood", "lanes", 4)?.knowing(QUEUE), floor()?];
    if peers {
        join_crates(Ranks::Processes, 4, &[MPMC.order], "", MPMC.name, &mut all, rows);
        join_crates(Ranks::Threads, 4, &[MPMC.order], "-threads", MPMC.name, &mut all, rows);
        rows.push(Row::error(MPMC.name, "ringfire", 8, 4, RINGFIRE.to_owned()));
    }
    measure(effort, &mut all, &[MPMC], 8, 4, rows)
}
