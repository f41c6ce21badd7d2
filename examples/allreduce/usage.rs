//! What the run cost each rank. The figures reach rank 0 by an all-reduce as well: each rank fills its own row of a
//! table of zeros, and the sum is the whole table.

use std::{error::Error, process, time::Duration};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};
use sapwood::{Op, Tree};

const FIELDS: usize = 7;

/// One rank's figures, from the start of its process to the end of the last row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pid: u64,
    operations: u64,
    spins: u64,
    yields: u64,
    sleeps: u64,
    /// Context switches that the kernel forced.
    involuntary: u64,
    cpu_micros: u64,
}

impl Usage {
    fn of_this_rank(tree: &Tree) -> Result<Usage, Box<dyn Error>> {
        let stats = tree.stats();
        let kernel = getrusage(UsageWho::RUSAGE_SELF)?;
        Ok(Usage {
            pid: u64::from(process::id()),
            operations: stats.operations,
            spins: stats.spins,
            yields: stats.yields,
            sleeps: stats.sleeps,
            involuntary: u64::try_from(kernel.involuntary_context_switches())?,
            cpu_micros: u64::try_from((kernel.user_time() + kernel.system_time()).num_microseconds())?,
        })
    }

    fn row(&self) -> [u64; FIELDS] {
        let Usage { pid, operations, spins, yields, sleeps, involuntary, cpu_micros } = *self;
        [pid, operations, spins, yields, sleeps, involuntary, cpu_micros]
    }

    fn from_row(row: [u64; FIELDS]) -> Usage {
        let [pid, operations, spins, yields, sleeps, involuntary, cpu_micros] = row;
        Usage { pid, operations, spins, yields, sleeps, involuntary, cpu_micros }
    }
}

/// Every rank's figures, in rank order.
pub(crate) fn gather(mut tree: Tree) -> Result<Vec<Usage>, Box<dyn Error>> {
    let mut table = vec![0; tree.size() * FIELDS];
    table[tree.rank() * FIELDS..][..FIELDS].copy_from_slice(&Usage::of_this_rank(&tree)?.row());
    tree.all_reduce(&mut table, Op::Sum)?;
    let (rows, _) = table.as_chunks::<FIELDS>();
    Ok(rows.iter().map(|row| Usage::from_row(*row)).collect())
}

pub(crate) fn print(ranks: &[Usage]) {
    println!("\nrank       pid   operations        spins       yields       sleeps  involuntary    CPU s");
    for (rank, usage) in ranks.iter().enumerate() {
        let Usage { pid, operations, spins, yields, sleeps, involuntary, cpu_micros } = usage;
        let cpu = Duration::from_micros(*cpu_micros).as_secs_f64();
        println!(
            "{rank:4}  {pid:8}  {operations:11}  {spins:11}  {yields:11}  {sleeps:11}  {involuntary:11}  {cpu:7.2}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_figures() {
        let row = [1, 2, 3, 4, 5, 6, 7];
        assert_eq!(Usage::from_row(row).row(), row);
    }
}
