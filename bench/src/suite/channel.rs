//! Channels and workqueues, whose calls wait by themselves and may sleep: between threads and between processes, with
//! CPUs enough and without.

use std::error::Error;

use super::{Effort, Figure, Sums, What, join_crates, measure};
use crate::channel::{FOUR, THREADS, TWO};
use crate::contender::{Contender, Ranks};
use crate::flow::{channels, jobs, messages, words};
use crate::report::Row;
use crate::ring::FLOOR;

const PINGPONG: What = What {
    name: "chan.pingpong",
    order: "wait_pingpong",
    peers: true,
    figure: Figure::OneWay,
    sums: |_, ranks, n| Sums::Each(channels::pingpong_sum(ranks, n)),
};
const PINGPONG_PROCESSES: What = What {
    name: "chan.pingpong_processes",
    // Eight bytes go as a word where there are words.
    sums: |bytes, _, n| Sums::OneOf(words::pingpong_sum(n), messages::pingpong_sum(bytes, n)),
    ..PINGPONG
};
const MPMC: What = What {
    name: "chan.mpmc2p2c",
    order: "wait_mpmc",
    peers: true,
    figure: Figure::Rate,
    sums: |_, _, n| Sums::Together(words::shared_sum(n)),
};
const MPMC_PROCESSES: What = What { name: "chan.mpmc2p2c_processes", ..MPMC };
const JOBS: What = What {
    name: "queue.jobs",
    order: "wait_jobs",
    peers: true,
    figure: Figure::Rate,
    sums: |_, _, n| Sums::Each(jobs::sum(n)),
};
/// How many threads share the machine's CPUs: of two, two, four and eight on each.
const CROWDS: [usize; 3] = [4, 8, 16];

pub(super) fn run(effort: &Effort, peers: bool, rows: &mut Vec<Row>) -> Result<(), Box<dyn Error>> {
    threads(effort, peers, rows)?;
    processes(effort, peers, rows)?;
    CROWDS.into_iter().try_for_each(|ranks| crowd(effort, peers, ranks, rows))
}

/// Only says how long a cache line takes: none of these has a floor that sleeps.
fn floor() -> Result<Contender, Box<dyn Error>> {
    Ok(Contender::own_ranks("floor", "rings-floor", 2, Ranks::Threads)?.knowing(FLOOR))
}

/// Ours, then the floor, then those of the peers that know one of these orders.
fn all(
    what: Ranks,
    ranks: usize,
    whats: &[What],
    peers: bool,
    rows: &mut Vec<Row>,
) -> Result<Vec<Contender>, Box<dyn Error>> {
    let (kind, knows) = match (what, ranks) {
        (Ranks::Threads, _) => ("channels", THREADS),
        (Ranks::Processes, 2) => ("channels-processes", TWO),
        (Ranks::Processes, _) => ("channels-processes", FOUR),
    };
    let mut all = vec![Contender::own_ranks("sapwood", kind, ranks, what)?.knowing(knows), floor()?];
    if peers {
        let orders: Vec<&str> = whats.iter().map(|what| what.order).collect();
        join_crates(what, ranks, &orders, "", whats[0].name, &mut all, rows);
    }
    Ok(all)
}

/// Threads on CPUs of their own.
fn threads(effort: &Effort, peers: bool, rows: &mut Vec<Row>) -> Result<(), Box<dyn Error>> {
    let mut all = all(Ranks::Threads, 2, &[PINGPONG, MPMC], peers, rows)?;
    measure(effort, &mut all, &[PINGPONG], 8, 2, rows)?;
    measure(effort, &mut all, &[MPMC], 8, 4, rows)?;
    idle(effort, "chan.idle", &mut all[0], rows)
}

/// The same between processes.
fn processes(effort: &Effort, peers: bool, rows: &mut Vec<Row>) -> Result<(), Box<dyn Error>> {
    let mut two = all(Ranks::Processes, 2, &[PINGPONG_PROCESSES], peers, rows)?;
    measure(effort, &mut two, &[PINGPONG_PROCESSES], 8, 2, rows)?;
    idle(effort, "chan.idle_processes", &mut two[0], rows)?;
    drop(two);
    let mut four = all(Ranks::Processes, 4, &[MPMC_PROCESSES], peers, rows)?;
    measure(effort, &mut four, &[MPMC_PROCESSES], 8, 4, rows)
}

/// More threads than CPUs.
fn crowd(effort: &Effort, peers: bool, ranks: usize, rows: &mut Vec<Row>) -> Result<(), Box<dyn Error>> {
    let mut all = all(Ranks::Threads, ranks, &[PINGPONG, JOBS], peers, rows)?;
    measure(effort, &mut all, &[PINGPONG], 8, ranks, rows)?;
    measure(effort, &mut all, &[JOBS], 8, ranks, rows)
}

/// What a pair that waits in vain burns: of the end that burns more, CPU seconds a second.
fn idle(
    effort: &Effort,
    name: &str,
    ours: &mut Contender,
    rows: &mut Vec<Row>,
) -> Result<(), Box<dyn Error>> {
    // What a process does once, at its first wait, is no part of it.
    ours.turn("wait_idle", 8, 1)?;
    let turn = |_| Ok(ours.turn("wait_idle", 8, 1)?.nanos / 1e9);
    let burnt = (0..effort.turns).map(turn).collect::<Result<Vec<f64>, Box<dyn Error>>>()?;
    rows.push(Row::measured(name, "sapwood", 8, 2, "s/s", &burnt, &[]));
    Ok(())
}
