//! Our rings and channels as the bench uses them, between threads and between processes: everything that the bench
//! knows of their API stands here. Beside them the floor, which obeys the same orders.

use std::error::Error;
use std::sync::Arc;

use sapwood_shm::{Seat, Segment};

use crate::flow::threads::two;
use crate::flow::{Failure, Said};
use crate::plain::{Heap, Plain};

/// What the floor of either kind can be asked.
pub(crate) const FLOOR: &[&str] = &["pingpong", "spsc", "msgrate", "msgrate_unbatched", "stream", "loan"];

/// A process whose ranks are threads.
pub(crate) enum Threads {
    Floor([Plain<Arc<Heap>>; 2]),
}

impl Threads {
    pub(crate) fn new(kind: &str) -> Result<Threads, Box<dyn Error>> {
        match kind {
            "rings-floor" => Ok(Threads::Floor(Plain::pair())),
            other => Err(format!("no contender of kind {other}").into()),
        }
    }

    pub(crate) fn obey(&mut self, bench: &str, bytes: usize, n: u64) -> Result<Said, Box<dyn Error>> {
        let said: Result<Said, Failure> = match self {
            Threads::Floor([a, b]) => two(|| a.obey(bench, bytes, n), || b.obey(bench, bytes, n)),
        };
        Ok(said.map_err(|e| e.to_string())?)
    }
}

/// One of several processes.
pub(crate) enum Process {
    Floor(Plain<(Segment, Seat)>),
}

impl Process {
    pub(crate) fn join(kind: &str, rank: usize, ranks: usize) -> Result<Process, Box<dyn Error>> {
        match kind {
            "lanes-floor" => Ok(Process::Floor(Plain::join(rank, ranks)?)),
            other => Err(format!("no contender of kind {other}").into()),
        }
    }

    pub(crate) fn obey(&mut self, bench: &str, bytes: usize, n: u64) -> Result<Said, Box<dyn Error>> {
        let said = match self {
            Process::Floor(floor) => floor.obey(bench, bytes, n),
        };
        Ok(said.map_err(|e| e.to_string())?)
    }
}
