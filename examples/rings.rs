//! Jobs for three processes over a ring of many, while one of them is killed; results come back over another one.
//!
//! ```text
//! $ cargo run --release --example rings
//! 3 workers square the numbers below 20000
//! worker 1 is killed in the middle of it
//! the sum is 2666466670000, as it should be; 2 workers were left
//! ```
//! The program starts itself again for the workers. What the killed one had in its hands is sent once more, because
//! nobody has answered it: a ring itself hands a message on only if its reader died before it had it.
use std::error::Error;

use sapwood::Processes;
use sapwood::ring::{PopError, PushError, mpmc::Ring};

/// Numbers to be squared.
const JOBS: u64 = 20_000;
const WORKERS: usize = 3;
/// Places of each ring.
const CAPACITY: usize = 64;

type Jobs = Ring<u64>;
type Results = Ring<[u64; 2]>;

fn main() -> Result<(), Box<dyn Error>> {
    // The same in the workers: they are this program again, and their parent's number is in the name.
    let parent = if std::env::var_os("SAPWOOD_RANK").is_some() {
        std::os::unix::process::parent_id()
    } else {
        std::process::id()
    };
    let name = |what: &str| format!("rings-{parent}-{what}");
    let jobs = || Jobs::open(&name("jobs"), CAPACITY, WORKERS + 1);
    let results = || Results::open(&name("results"), CAPACITY, WORKERS + 1);

    let workers = Processes::new(WORKERS).start(|_| work(jobs()?, results()?))?;
    let (mut jobs, mut results) = (jobs()?, results()?);
    println!("{WORKERS} workers square the numbers below {JOBS}");

    let mut squares = vec![None; JOBS as usize];
    let (mut next, mut answered, mut killed) = (0, 0, false);
    while answered < JOBS {
        if next < JOBS && jobs.try_push(next).is_ok() {
            next += 1;
        }
        match results.try_pop() {
            Ok([job, square]) => answered += u64::from(squares[job as usize].replace(square).is_none()),
            Err(PopError::Empty | PopError::Busy { .. }) => std::thread::yield_now(),
            Err(e) => return Err(e.into()),
        }
        if !killed && answered >= JOBS / 4 {
            workers.signal(1, nix::sys::signal::Signal::SIGKILL)?;
            println!("worker 1 is killed in the middle of it");
            killed = true;
        }
        // All was sent and nothing is under way: what is missing went with the dead one.
        if next == JOBS
            && jobs.is_empty()
            && results.is_empty()
            && let Some(lost) = squares.iter().position(Option::is_none)
        {
            let _ = jobs.try_push(lost as u64);
        }
    }
    let sum: u64 = squares.iter().flatten().sum();
    println!("the sum is {sum}, as it should be; {} workers were left", jobs.others());
    assert_eq!(sum, (0..JOBS).map(|n| n * n).sum());
    jobs.close();
    drop(workers.wait_all()?);
    for segment in [jobs.segment(), results.segment()].into_iter().flatten() {
        segment.unlink()?;
    }
    Ok(())
}

/// Takes jobs until there will be no more.
fn work(mut jobs: Jobs, mut results: Results) -> Result<(), Box<dyn Error>> {
    loop {
        match jobs.try_pop() {
            Ok(n) => {
                let mut answer = [n, n * n];
                // Ends when the parent has taken an answer, or has ended, and us with it.
                while let Err(e) = results.try_push(answer) {
                    if !matches!(e, PushError::Full(_) | PushError::Busy { .. }) {
                        return Err(e.map(|_| ()).into());
                    }
                    answer = e.into_inner();
                    std::thread::yield_now();
                }
            }
            Err(PopError::Drained) => return Ok(()),
            Err(PopError::Empty | PopError::Busy { .. }) => std::thread::yield_now(),
            Err(e) => return Err(e.into()),
        }
    }
}
