//! Producers, workers and a collector, joined by two channels that close one after the other: once the producers are
//! done the jobs are closed, the workers finish what is left and end, then the results are closed, and the collector
//! ends.
//!
//! ```text
//! $ cargo run --release --example producer_consumer
//! between threads
//!   producer 0 has sent its 2000 numbers
//!   producer 1 has sent its 2000 numbers
//!   the jobs are closed; workers finish what is left
//!   worker 0 has squared 148 numbers, and found the jobs drained
//!   worker 2 has squared 544 numbers, and found the jobs drained
//!   worker 1 has squared 3308 numbers, and found the jobs drained
//!   the results are closed
//!   4000 results came, with the sum 21325334000, as it should be
//! between processes
//!   ...
//! ```
//! The second half is the same with every party in a process of its own: this program again.

use std::error::Error;
use std::thread;
use std::time::Duration;

use sapwood::Processes;
use sapwood::channel::{Channel, channel};

const PRODUCERS: u64 = 2;
const WORKERS: usize = 3;
/// Numbers that each producer sends.
const EACH: u64 = 2000;
/// Places of each channel: far fewer than numbers, so that the fast wait for the slow.
const CAPACITY: usize = 16;

/// Nothing here takes as long.
const SOON: Duration = Duration::from_secs(60);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn produce(number: u64, jobs: &mut Channel<u64>) -> Result<()> {
    jobs.send_all(number * EACH..(number + 1) * EACH)?;
    println!("  producer {number} has sent its {EACH} numbers");
    Ok(())
}

fn work(number: usize, jobs: &mut Channel<u64>, results: &mut Channel<u64>) -> Result<()> {
    let mut squared = 0;
    for job in jobs {
        let job = job?;
        results.send(job * job)?;
        squared += 1;
    }
    println!("  worker {number} has squared {squared} numbers, and found the jobs drained");
    Ok(())
}

fn collect(results: &mut Channel<u64>) -> Result<()> {
    let (mut count, mut sum) = (0, 0);
    for result in results {
        sum += result?;
        count += 1;
    }
    let all = PRODUCERS * EACH;
    assert_eq!((count, sum), (all, (0..all).map(|n| n * n).sum()), "every number once");
    println!("  {count} results came, with the sum {sum}, as it should be");
    Ok(())
}

fn between_threads() -> Result<()> {
    println!("between threads");
    let mut jobs = channel::<u64>(CAPACITY)?.with_deadline(SOON);
    let mut results = channel::<u64>(CAPACITY)?.with_deadline(SOON);
    thread::scope(|scope| {
        let mut producers = Vec::new();
        for number in 0..PRODUCERS {
            let mut jobs = jobs.try_clone()?;
            producers.push(scope.spawn(move || produce(number, &mut jobs)));
        }
        let mut workers = Vec::new();
        for number in 0..WORKERS {
            let (mut jobs, mut results) = (jobs.try_clone()?, results.try_clone()?);
            workers.push(scope.spawn(move || work(number, &mut jobs, &mut results)));
        }
        let mut incoming = results.try_clone()?;
        let collector = scope.spawn(move || collect(&mut incoming));
        for producer in producers {
            producer.join().expect("no panic")?;
        }
        jobs.close();
        println!("  the jobs are closed; workers finish what is left");
        for worker in workers {
            worker.join().expect("no panic")?;
        }
        results.close();
        println!("  the results are closed");
        collector.join().expect("no panic")
    })
}

fn between_processes() -> Result<()> {
    // The same in the ranks: they are this program again, and their parent's number is in the name.
    let ranked = std::env::var_os("SAPWOOD_RANK").is_some();
    let parent = if ranked { std::os::unix::process::parent_id() } else { std::process::id() };
    let open = |what: &str| {
        let name = format!("producer-consumer-{parent}-{what}");
        let handles = PRODUCERS as usize + WORKERS + 2;
        Channel::<u64>::open(&name, CAPACITY, handles).map(|channel| channel.with_deadline(SOON))
    };
    if !ranked {
        println!("between processes");
    }
    let producers = Processes::new(PRODUCERS as usize);
    let producers = producers.start(|rank| produce(rank.rank() as u64, &mut open("jobs")?))?;
    let workers = Processes::new(WORKERS);
    let workers = workers.start(|rank| work(rank.rank(), &mut open("jobs")?, &mut open("results")?))?;

    let (mut jobs, mut results, mut incoming) = (open("jobs")?, open("results")?, open("results")?);
    let collector = thread::spawn(move || collect(&mut incoming));
    let report = producers.wait(SOON)?;
    jobs.close();
    println!("  the jobs are closed; workers finish what is left");
    assert!(report.success(), "{report}");
    let report = workers.wait(SOON)?;
    results.close();
    println!("  the results are closed");
    assert!(report.success(), "{report}");
    for channel in [&jobs, &results] {
        channel.segment().expect("it has a name").unlink()?;
    }
    collector.join().expect("no panic")
}

fn main() -> Result<()> {
    // The ranks of the second half run this program too.
    if std::env::var_os("SAPWOOD_RANK").is_none() {
        between_threads()?;
    }
    between_processes()
}
