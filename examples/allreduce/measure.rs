//! The timed rounds of one size.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use sapwood::{Op, Tensor, Tree};

use crate::{options::Options, payload};

/// Rounds of one kind of tensor end after about this long.
const BUDGET: Duration = Duration::from_millis(500);

/// The two tensors, made once and large enough for every row.
pub(crate) struct Bench {
    tree: Tree,
    private: Vec<f32>,
    resident: Tensor<f32>,
    rounds: Rounds,
}

/// How rounds are run, and how many have been.
struct Rounds {
    most: usize,
    verify: bool,
    /// Never repeats, so that a contribution to an earlier round cannot pass for one to this.
    next: u32,
}

/// Sorted, never empty.
#[derive(Debug)]
pub(crate) struct Times(Vec<Duration>);

impl Bench {
    pub(crate) fn new(mut tree: Tree, options: &Options) -> Result<Bench, sapwood::Error> {
        let elements = options.max / size_of::<f32>();
        let resident = tree.alloc(elements)?;
        let rounds = Rounds { most: options.iters, verify: options.verify, next: 0 };
        Ok(Bench { tree, private: vec![0.0; elements], resident, rounds })
    }

    /// Times of all-reduces of `bytes` bytes: of a private tensor, of a resident one.
    ///
    /// # Errors
    /// What a collective reported; under `--verify` the first wrong element.
    pub(crate) fn row(&mut self, bytes: usize) -> Result<(Times, Times), Box<dyn Error>> {
        let elements = bytes / size_of::<f32>();
        let private = self.rounds.run(&mut self.tree, &mut self.private[..elements]);
        let private = private.map_err(|error| format!("private tensor of {bytes} bytes: {error}"))?;
        let resident = self.rounds.run(&mut self.tree, &mut self.resident[..elements]);
        let resident = resident.map_err(|error| format!("resident tensor of {bytes} bytes: {error}"))?;
        Ok((private, resident))
    }

    pub(crate) fn into_tree(self) -> Tree {
        self.tree
    }
}

impl Rounds {
    fn run(&mut self, tree: &mut Tree, tensor: &mut [f32]) -> Result<Times, Box<dyn Error>> {
        // Zeros stay zeros however often they are summed. The untimed round also makes the pages.
        tensor.fill(0.0);
        self.once(tree, tensor)?;
        let mut times = Vec::with_capacity(self.most);
        let begin = Instant::now();
        let mut batch = 1;
        while batch > 0 {
            for _ in 0..batch {
                times.push(self.once(tree, tensor)?);
            }
            // Ranks must agree on the number of rounds: the slowest rank's clock decides for all.
            let mut elapsed = [begin.elapsed().as_nanos() as u64];
            tree.all_reduce(&mut elapsed, Op::Max)?;
            let left = (BUDGET.as_nanos() as u64).saturating_sub(elapsed[0]);
            let affordable =
                (u128::from(left) * times.len() as u128 / u128::from(elapsed[0].max(1))) as usize;
            batch = (2 * batch).min(affordable).min(self.most - times.len());
        }
        times.sort_unstable();
        Ok(Times(times))
    }

    /// One all-reduce, timed from this rank's call to its return.
    fn once(&mut self, tree: &mut Tree, tensor: &mut [f32]) -> Result<Duration, Box<dyn Error>> {
        let (rank, size, round) = (tree.rank(), tree.size(), self.next);
        self.next = round.checked_add(1).ok_or("2³² rounds are done")?;
        if self.verify {
            payload::fill(tensor, rank, round);
            tree.barrier()?;
        }
        let begin = Instant::now();
        let contributors = tree.all_reduce(tensor, Op::Sum)?;
        let time = begin.elapsed();
        if self.verify {
            if contributors != size {
                return Err(format!("{contributors} of {size} ranks contributed to round {round}").into());
            }
            payload::check(tensor, size, round)?;
        }
        Ok(time)
    }
}

impl Times {
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The time that `part` of all rounds did not exceed, `0.0..=1.0`.
    pub(crate) fn quantile(&self, part: f64) -> Duration {
        self.0[((self.0.len() as f64 * part) as usize).min(self.0.len() - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_occurred() {
        let times = Times((1..=1000).map(Duration::from_nanos).collect());
        assert_eq!(times.quantile(0.5), Duration::from_nanos(501));
        assert_eq!(times.quantile(0.99), Duration::from_nanos(991));
        assert_eq!(times.quantile(1.0), Duration::from_nanos(1000));
        let one = Times(vec![Duration::from_nanos(7)]);
        assert_eq!(one.quantile(0.99), Duration::from_nanos(7));
    }
}
