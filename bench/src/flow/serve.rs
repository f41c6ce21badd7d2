//! A rank's side of the contenders' protocol; `contender.rs` in the bench has the other.

use std::error::Error;
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::Said;

/// Ties this thread to the CPU of a rank.
pub(crate) fn pin(rank: usize) -> Result<(), nix::Error> {
    let mut set = CpuSet::new();
    set.set(rank % cpus())?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// CPUs of this machine: pinning must not make them one.
fn cpus() -> usize {
    static CPUS: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *CPUS.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Joins the others, then takes orders until there are no more. Whatever fails is the last answer.
pub(crate) fn serve<T, J: Display, E: Display>(
    directory: &Path,
    rank: usize,
    join: impl FnOnce() -> Result<T, J>,
    mut obey: impl FnMut(&mut T, &str, usize, u64) -> Result<Said, E>,
) -> Result<(), Box<dyn Error>> {
    let orders = BufReader::new(File::open(directory.join(format!("order.{rank}")))?);
    let mut answers = OpenOptions::new().write(true).open(directory.join(format!("answer.{rank}")))?;
    let work = |answers: &mut File| -> Result<(), Box<dyn Error>> {
        let mut joined = join().map_err(|e| e.to_string())?;
        writeln!(answers, "0 0")?;
        for order in orders.lines() {
            let order = order?;
            let mut fields = order.split(' ');
            let mut field = || fields.next().ok_or("half an order");
            let (bench, bytes, iterations) = (field()?, field()?.parse()?, field()?.parse()?);
            let said = obey(&mut joined, bench, bytes, iterations).map_err(|e| e.to_string())?;
            writeln!(answers, "{:.2} {} {} {}", said.nanos, said.sum, said.span.0, said.span.1)?;
        }
        Ok(())
    };
    if let Err(why) = work(&mut answers) {
        writeln!(answers, "error {}", why.to_string().replace('\n', " "))?;
    }
    Ok(())
}
