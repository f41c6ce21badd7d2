//! A function in many threads, and in many processes: all results in order, or every failure.
//!
//! ```text
//! $ cargo run --release --example map
//! 8 threads count the primes below 400000: 33860
//! 3 threads fail: rank 1: panicked: no such slice; rank 2: no luck
//! 4 processes count them too: 33860
//! ```
use std::error::Error;
use std::sync::Arc;

use sapwood::{Processes, WorkersBuilder, workers};

const BELOW: usize = 400_000;
const PRIMES: usize = 33_860;

/// Primes among every `step`th number from `first` on.
fn count(first: usize, step: usize) -> usize {
    let is_prime = |n: &usize| *n > 1 && (2..).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    (first..BELOW).step_by(step).filter(is_prime).count()
}

fn main() -> Result<(), Box<dyn Error>> {
    // In the ranks that are started below, all before that runs again; they count once.
    let is_rank = std::env::var_os("SAPWOOD_RANK").is_some();
    if !is_rank {
        in_threads()?;
    }
    let primes = Processes::new(4).map(|rank| Ok::<_, String>(count(rank.rank(), rank.size())))?;
    let primes: usize = primes.join()?.into_iter().sum();
    println!("4 processes count them too: {primes}");
    assert_eq!(primes, PRIMES);
    Ok(())
}

fn in_threads() -> Result<(), Box<dyn Error>> {
    // What all need is made once and shared; what each needs for itself, its `init` makes.
    let slices: Arc<Vec<usize>> = Arc::new((0..8).collect());
    let threads = WorkersBuilder::new(8).name("prime").init(|_| Ok::<_, String>(Vec::new())).start(
        move |rank, mut found: Vec<usize>| {
            found.push(count(slices[rank], slices.len()));
            Ok::<_, String>(found.into_iter().sum::<usize>())
        },
    )?;
    let primes: usize = threads.join()?.into_iter().sum();
    println!("8 threads count the primes below {BELOW}: {primes}");
    assert_eq!(primes, PRIMES);

    // Its panic goes to standard error too, as any thread's.
    let failing = workers(3, |rank| match rank {
        0 => Ok(()),
        1 => panic!("no such slice"),
        _ => Err("no luck"),
    })?;
    let failures = failing.join().expect_err("two fail");
    println!("3 threads fail: {failures}");
    assert_eq!(failures.0.iter().map(|f| f.rank).collect::<Vec<_>>(), [1, 2]);
    Ok(())
}
