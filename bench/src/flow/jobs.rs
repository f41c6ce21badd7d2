//! Jobs: an owner that always has so many under way, and workers that answer them, in threads that have no CPUs of
//! their own. The jobs have nothing in them: what is measured is their way there and their answers' way back.

use std::marker::PhantomData;

use super::channels::{Many, Receiver, Sender};
use super::threads::{End, crowd};
use super::{Failure, Said, timed, warm_up};

/// Jobs under way at any time.
const UNDER_WAY: u64 = 64;
/// Jobs that a queue holds: many more, so that one that takes long keeps nobody from taking the next ones.
const PLACES: usize = 1024;

/// Who submits jobs and receives their answers.
pub(crate) trait Owner: Send {
    /// Submits a job; sleeps where there is no room.
    fn submit(&mut self, job: u64) -> Result<(), Failure>;
    /// The next answer; sleeps where there is none.
    fn answer(&mut self) -> Result<u64, Failure>;
}

/// Who answers jobs.
pub(crate) trait Worker: Send {
    /// Takes a job, sleeping where there is none, and answers it; false if there will be none any more.
    fn work(&mut self, answer: impl FnOnce(u64) -> u64) -> Result<bool, Failure>;
}

/// A way to make queues of jobs between threads.
pub(crate) trait Queue {
    /// Whose end tells the workers, when it is dropped, that there will be no more.
    type Owner: Owner;
    /// One of the others.
    type Worker: Worker;
    /// A queue that holds `capacity` jobs, with so many workers.
    fn queue(capacity: usize, workers: usize) -> Result<(Self::Owner, Vec<Self::Worker>), Failure>;
}

fn job(i: u64) -> u64 {
    5 * i + 1
}

fn answer(job: u64) -> u64 {
    job.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// The owner's part: each answer that comes makes room for another job. The sum is that of the answers.
fn own(mut owner: impl Owner, n: u64) -> Result<Said, Failure> {
    let mut sum = 0u64;
    (0..UNDER_WAY).try_for_each(|i| owner.submit(job(i)))?;
    let said = timed(n, |i| {
        sum = sum.wrapping_add(owner.answer()?);
        owner.submit(job(UNDER_WAY + i))
    })?;
    for _ in 0..UNDER_WAY {
        sum = sum.wrapping_add(owner.answer()?);
    }
    Ok(Said { sum, ..said })
}

/// A worker's part: its sum is that of the jobs, and it takes no time.
fn serve(mut worker: impl Worker) -> Result<u64, Failure> {
    let mut sum = 0u64;
    // Ends when the owner is gone.
    while worker.work(|job| {
        sum = sum.wrapping_add(job);
        answer(job)
    })? {}
    Ok(sum)
}

/// `n` jobs, of one owner and `threads` - 1 workers.
pub(crate) fn jobs<Q: Queue>(threads: usize, n: u64) -> Result<Said, Failure> {
    let (owner, workers) = Q::queue(PLACES, threads - 1)?;
    let mut ends: Vec<End<'_>> = vec![Box::new(move || own(owner, n))];
    // The owner's time counts alone.
    let nothing = Said { nanos: 0.0, sum: 0, span: (u64::MAX, 0) };
    for worker in workers {
        ends.push(Box::new(move || Ok(Said { sum: serve(worker)?, ..nothing })));
    }
    Ok(crowd(ends)?.into_iter().fold(nothing, Said::together))
}

/// What owner and workers must sum up to together: each job once, each answer once.
pub(crate) fn sum(n: u64) -> u64 {
    let all = UNDER_WAY + warm_up(n) + n;
    (0..all).map(job).fold(0, |sum, job| sum.wrapping_add(job).wrapping_add(answer(job)))
}

/// Two channels used as a queue of jobs.
#[allow(dead_code)] // peers and tests alone do that
pub(crate) struct Pair<C>(PhantomData<C>);

/// Either end of it: where it sends to and where it receives from.
#[allow(dead_code)] // the same
pub(crate) struct PairEnd<C: Many>(C::Tx, C::Rx);

impl<C: Many> Queue for Pair<C> {
    type Owner = PairEnd<C>;
    type Worker = PairEnd<C>;
    fn queue(capacity: usize, workers: usize) -> Result<(PairEnd<C>, Vec<PairEnd<C>>), Failure> {
        let (jobs, to_do) = C::channel(capacity)?;
        let (done, answers) = C::channel(capacity)?;
        let worker = |_| Ok(PairEnd(C::another_tx(&done)?, C::another_rx(&to_do)?));
        Ok((PairEnd(jobs, answers), (0..workers).map(worker).collect::<Result<_, Failure>>()?))
    }
}

impl<C: Many> Owner for PairEnd<C> {
    fn submit(&mut self, job: u64) -> Result<(), Failure> {
        self.0.send(job)
    }

    fn answer(&mut self) -> Result<u64, Failure> {
        self.1.recv()
    }
}

impl<C: Many> Worker for PairEnd<C> {
    fn work(&mut self, answer: impl FnOnce(u64) -> u64) -> Result<bool, Failure> {
        // Fails when the owner has dropped its end; a failure before that leaves a sum that is not right.
        let Ok(job) = self.1.recv() else { return Ok(false) };
        self.0.send(answer(job))?;
        Ok(true)
    }
}
