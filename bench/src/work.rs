//! What a rank of this program does when it gets an order: the same as bench/peers/mpi_driver.c.

use std::error::Error;
use std::time::Instant;

use sapwood_shm::Rank;
use sapwood_tree::{Op, Tensor, Tree};

use crate::floor::{Floor, MOST};
use crate::flow::Said;

/// Up to so many bytes the rewriting is inside the timed loop, and taken off.
const SHORT: usize = 4096;

/// A rank's tensors, and what it works with.
#[allow(clippy::large_enum_variant)] // a process has one
pub(crate) enum Tensors {
    /// Our own collectives.
    Tree { tree: Tree, private: Vec<f32>, resident: Tensor<f32> },
    /// The hand-written minimum.
    Floor(Floor),
}

impl Tensors {
    pub(crate) fn join(kind: &str, rank: usize, ranks: usize) -> Result<Tensors, Box<dyn Error>> {
        match kind {
            "sapwood" => {
                let mut tree = Tree::join(&Rank::from_env()?.ok_or("no SAPWOOD_RANK")?)?;
                let resident = tree.alloc(MOST / 4)?;
                Ok(Tensors::Tree { tree, private: vec![0.0; MOST / 4], resident })
            }
            "floor" => Ok(Tensors::Floor(Floor::join(rank, ranks)?)),
            other => Err(format!("no contender of kind {other}").into()),
        }
    }

    fn rank(&self) -> usize {
        match self {
            Tensors::Tree { tree, .. } => tree.rank(),
            Tensors::Floor(floor) => floor.rank(),
        }
    }

    fn payload(&mut self, bench: &str, n: usize) -> &mut [f32] {
        match self {
            Tensors::Tree { private, resident, .. } => {
                if bench.ends_with("resident") {
                    &mut resident[..n]
                } else {
                    &mut private[..n]
                }
            }
            Tensors::Floor(floor) => floor.payload(bench, n),
        }
    }

    fn operation(&mut self, bench: &str, n: usize) -> Result<(), Box<dyn Error>> {
        match self {
            Tensors::Tree { tree, private, resident } => match bench {
                "allreduce" => drop(tree.all_reduce(&mut private[..n], Op::Sum)?),
                "allreduce_resident" => drop(tree.all_reduce(&mut resident[..n], Op::Sum)?),
                "bcast" => tree.broadcast(&mut private[..n], 0)?,
                "barrier" => tree.barrier()?,
                other => return Err(format!("no bench {other}").into()),
            },
            Tensors::Floor(floor) => floor.operation(bench, n)?,
        }
        Ok(())
    }

    fn barrier(&mut self) -> Result<(), Box<dyn Error>> {
        self.operation("barrier", 0)
    }
}

/// Small whole numbers, so that sums are exact in any order.
fn fill(payload: &mut [f32], rank: usize, round: u64) {
    payload.fill(((rank as u64 + round) % 7 + 1) as f32);
    std::hint::black_box(payload);
}

/// Values of which no two within 1021 are alike, so that parts in the wrong place are seen; sums are exact.
fn known(i: usize, rank: usize) -> f32 {
    (i % 1021 + 1 + rank) as f32
}

fn checksum(values: impl ExactSizeIterator<Item = f32>) -> u64 {
    let n = values.len() as u64;
    values.fold(n, |s, v| s.wrapping_mul(31).wrapping_add(u64::from(v.to_bits())))
}

/// The checksum that every rank must answer.
pub(crate) fn expected(bench: &str, bytes: usize, ranks: usize) -> u64 {
    match bench {
        "bcast" => checksum((0..bytes / 4).map(|i| known(i, 0))),
        _ => checksum((0..bytes / 4).map(|i| (0..ranks).map(|rank| known(i, rank)).sum())),
    }
}

/// Nanoseconds an operation, and the checksum of one more on known values.
pub(crate) fn measure(
    t: &mut Tensors,
    bench: &str,
    bytes: usize,
    iterations: u64,
) -> Result<Said, Box<dyn Error>> {
    let (n, rank) = (bytes / 4, t.rank());
    for round in 0..iterations / 10 + 2 {
        fill(t.payload(bench, n), rank, round);
        t.operation(bench, n)?;
    }
    t.barrier()?;
    let spent = if bytes <= SHORT {
        let start = Instant::now();
        for round in 0..iterations {
            fill(t.payload(bench, n), rank, round);
        }
        let rewriting = start.elapsed();
        t.barrier()?;
        let start = Instant::now();
        for round in 0..iterations {
            fill(t.payload(bench, n), rank, round);
            t.operation(bench, n)?;
        }
        start.elapsed().saturating_sub(rewriting).as_nanos() as f64
    } else {
        let mut spent = 0.0;
        for round in 0..iterations {
            fill(t.payload(bench, n), rank, round);
            t.barrier()?;
            let start = Instant::now();
            t.operation(bench, n)?;
            spent += start.elapsed().as_nanos() as f64;
        }
        spent
    };
    t.payload(bench, n).iter_mut().enumerate().for_each(|(i, v)| *v = known(i, rank));
    t.operation(bench, n)?;
    let sum = checksum(t.payload(bench, n).iter().copied());
    t.barrier()?;
    Ok(Said { nanos: spent / iterations as f64, sum, span: (0, 0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_sees_swapped_chunks_and_missing_ranks() {
        let right: Vec<f32> = (0..4096).map(|i| known(i, 0) + known(i, 1)).collect();
        assert_eq!(checksum(right.iter().copied()), expected("allreduce", 4 * 4096, 2));
        let mut swapped = right.clone();
        swapped[..2048].rotate_left(1024);
        assert_ne!(checksum(swapped.into_iter()), expected("allreduce", 4 * 4096, 2));
        assert_ne!(expected("bcast", 4 * 4096, 2), expected("allreduce", 4 * 4096, 2));
        assert_eq!(expected("barrier", 0, 4), 0);
    }
}
