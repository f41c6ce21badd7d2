//! Our channels and workqueues as the bench uses them, between threads and between processes: everything that the bench
//! knows of their API stands here. Every call is one that waits by itself, as its handle does unless it is told how.

use std::error::Error;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use sapwood_shm::channel::{Channel, RecvError, SendError, channel};
use sapwood_shm::queue::{self, TakeError, work_queue};

use crate::flow::channels::{self, Many, Receiver, Sender};
use crate::flow::jobs::{self, Owner, Queue, Worker};
use crate::flow::threads::two;
use crate::flow::{Failure, Said, now, words};
use crate::ring::{meeting, unlink};

/// What our threads can be asked.
pub(crate) const THREADS: &[&str] = &["wait_pingpong", "wait_mpmc", "wait_jobs", "wait_idle"];
/// What two of our processes can be asked, and what four can.
pub(crate) const TWO: &[&str] = &["wait_pingpong", "wait_idle"];
pub(crate) const FOUR: &[&str] = &["wait_mpmc"];

/// How long the ends of an idle channel wait.
const IDLE: Duration = Duration::from_millis(200);

/// A process whose ranks are so many threads.
pub(crate) struct Threads(pub(crate) usize);

impl Threads {
    pub(crate) fn obey(&mut self, bench: &str, n: u64) -> Result<Said, Failure> {
        match bench {
            "wait_pingpong" => channels::pingpong::<Ours>(self.0, n),
            "wait_mpmc" => channels::two_to_two::<Ours>(n),
            "wait_jobs" => jobs::jobs::<Ours>(self.0, n),
            "wait_idle" => {
                let (mut empty, mut full) = (channel(words::CAPACITY)?, channel(words::CAPACITY)?);
                // Whoever is alone is told so, and waits for nothing.
                let _others = (empty.try_clone()?, full.try_clone()?);
                two(|| idle(true, &mut empty), || idle(false, &mut full))
            }
            other => Err(format!("no bench {other} on channels between threads").into()),
        }
    }
}

struct Ours;

impl channels::Channel for Ours {
    type Tx = Channel<u64>;
    type Rx = Channel<u64>;
    fn channel(capacity: usize) -> Result<(Self::Tx, Self::Rx), Failure> {
        let one = channel(capacity)?;
        Ok((one.try_clone()?, one))
    }
}

impl Many for Ours {
    fn another_tx(tx: &Self::Tx) -> Result<Self::Tx, Failure> {
        Ok(tx.try_clone()?)
    }
    fn another_rx(rx: &Self::Rx) -> Result<Self::Rx, Failure> {
        Ok(rx.try_clone()?)
    }
}

impl Sender for Channel<u64> {
    #[inline(always)]
    fn send(&mut self, word: u64) -> Result<(), Failure> {
        Ok(Channel::send(self, word)?)
    }
}

impl Receiver for Channel<u64> {
    #[inline(always)]
    fn recv(&mut self) -> Result<u64, Failure> {
        Ok(Channel::recv(self)?)
    }
}

impl Queue for Ours {
    type Owner = queue::Owner<u64, u64>;
    type Worker = queue::Worker<u64, u64>;
    fn queue(capacity: usize, workers: usize) -> Result<(Self::Owner, Vec<Self::Worker>), Failure> {
        let (owner, first) = work_queue(capacity)?;
        let mut all = vec![first];
        for _ in 1..workers {
            all.push(owner.worker()?);
        }
        Ok((owner, all))
    }
}

impl Owner for queue::Owner<u64, u64> {
    fn submit(&mut self, job: u64) -> Result<(), Failure> {
        Self::submit(self, job)?;
        Ok(())
    }

    fn answer(&mut self) -> Result<u64, Failure> {
        match self.recv()?.outcome {
            queue::Outcome::Answer(answer) => Ok(answer),
            queue::Outcome::Failed { attempts } => Err(format!("a job failed {attempts} times").into()),
        }
    }
}

impl Worker for queue::Worker<u64, u64> {
    fn work(&mut self, answer: impl FnOnce(u64) -> u64) -> Result<bool, Failure> {
        match self.take() {
            Ok(job) => {
                let answer = answer(*job);
                job.finish(answer)?;
                Ok(true)
            }
            Err(TakeError::Closed) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }
}

/// Nanoseconds that this thread has run for, in the program and in the kernel.
fn burnt() -> Result<u64, Failure> {
    let ran = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(ran.tv_sec() as u64 * 1_000_000_000 + ran.tv_nsec() as u64)
}

/// Waits in vain: for a message where none comes, or for room where nobody makes any. The "operation" is a second of
/// waiting, and its nanoseconds are those that it has burnt.
fn idle(receives: bool, channel: &mut Channel<u64>) -> Result<Said, Failure> {
    if !receives {
        (0..channel.capacity() as u64).try_for_each(|word| Channel::send(channel, word))?;
    }
    let (from, before) = (now(), burnt()?);
    match receives {
        true => match channel.recv_timeout(IDLE) {
            Err(RecvError::TimedOut { .. }) => {}
            other => return Err(format!("an empty channel gave {other:?}").into()),
        },
        false => match channel.send_timeout(0, IDLE) {
            Err(SendError::TimedOut { .. }) => {}
            other => return Err(format!("a full channel said {other:?}").into()),
        },
    }
    let (until, ran) = (now(), burnt()? - before);
    let held = channel.len();
    if held != if receives { 0 } else { channel.capacity() } {
        return Err(format!("nobody came, and yet the channel holds {held} words").into());
    }
    while channel.try_recv().is_ok() {}
    Ok(Said { nanos: ran as f64 * 1e9 / (until - from) as f64, sum: 0, span: (from, until) })
}

/// One of several processes: of two, the ends of a channel each way; of four, those of one channel.
pub(crate) struct Process {
    /// Of two: on which it sends. Of four: the one that there is.
    to: Channel<u64>,
    /// Of two: on which it receives.
    from: Option<Channel<u64>>,
    rank: usize,
}

impl Process {
    pub(crate) fn join(rank: usize, ranks: usize) -> Result<Process, Box<dyn Error>> {
        let meeting = meeting()?;
        let open = |of: usize| Channel::open(&format!("{meeting}-{of}"), words::CAPACITY, ranks);
        let mut process = match ranks {
            2 => Process { to: open(rank)?, from: Some(open(1 - rank)?), rank },
            _ => Process { to: open(0)?, from: None, rank },
        };
        // Whoever takes a name away has heard before that the others have done with it.
        if let Some(from) = &mut process.from {
            process.to.send(0)?;
            from.recv()?;
            unlink(process.to.segment())?;
        } else if rank == 0 {
            (1..ranks).try_for_each(|_| process.to.recv().map(drop))?;
            unlink(process.to.segment())?;
        } else {
            process.to.send(0)?;
        }
        Ok(process)
    }

    pub(crate) fn obey(&mut self, bench: &str, n: u64) -> Result<Said, Failure> {
        match (bench, &mut self.from, self.rank) {
            ("wait_pingpong", Some(from), rank) => words::pingpong_by(
                rank == 0,
                |word| Sender::send(&mut self.to, word),
                || Receiver::recv(from),
                n,
            ),
            ("wait_idle", Some(_), rank) => idle(rank == 0, &mut self.to),
            ("wait_mpmc", None, who @ 0..2) => {
                words::produce_shared_by(|word| Sender::send(&mut self.to, word), who as u64, n)
            }
            ("wait_mpmc", None, _) => words::consume_shared_by(|| Receiver::recv(&mut self.to), n),
            (other, ..) => Err(format!("no bench {other} on channels between these processes").into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_add_up() {
        const N: u64 = 50;
        let sum = |bench, threads| Threads(threads).obey(bench, N).expect("it works").sum;
        assert_eq!(sum("wait_pingpong", 2), words::pingpong_sum(N));
        assert_eq!(sum("wait_pingpong", 4), channels::pingpong_sum(4, N));
        assert_eq!(sum("wait_mpmc", 4), words::shared_sum(N));
        assert_eq!(sum("wait_jobs", 4), jobs::sum(N));
        assert!(Threads(2).obey("knitting", N).is_err());
    }

    #[test]
    fn who_waits_in_vain_waits_as_long_as_it_should() {
        let said = Threads(2).obey("wait_idle", 1).expect("it works");
        // Of 1e9; how much is for the bench to say, not for a test on a busy machine.
        assert!(said.nanos > 0.0 && said.span.1 - said.span.0 >= 200_000_000, "{said:?}");
    }

    #[test]
    fn a_channel_that_is_not_idle_is_noticed() {
        let mut one = channel(4).expect("a channel");
        let mut other = one.try_clone().expect("another handle");
        Channel::send(&mut other, 7).expect("there is room");
        assert!(idle(true, &mut one).expect_err("a word came").to_string().contains("Ok(7)"));
    }
}
