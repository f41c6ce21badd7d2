//! Owners and workers of queues that are killed or stopped, and what the others make of it.
#![allow(missing_docs)]

mod common;

use std::collections::HashMap;
use std::time::Duration;

use common::rings::*;
use common::*;
use nix::sys::signal::Signal;
use sapwood_shm::Processes;
use sapwood_shm::queue::{Answer, Outcome, Owner, RecvError, TakeError, WorkQueue, Worker};

type Jobs = WorkQueue<[u64; 2], u64>;

const CAPACITY: usize = 16;

fn jobs() -> Jobs {
    Jobs::new(CAPACITY).workers(20)
}

/// How many jobs have been taken, in the tally.
const TAKEN: usize = 0;
/// Whose turn it is.
const TURN: usize = 1;
/// Whether the parent has looked at who lives.
const LOOKED: usize = 2;

fn answered(answer: Answer<u64>) -> u64 {
    match answer.outcome {
        Outcome::Answer(a) => a,
        Outcome::Failed { attempts } => panic!("failed after {attempts} attempts"),
    }
}

/// Starts `ranks` that take a job each, when it is their turn (counted from 1), and then do `then` with it.
fn takers(
    ranks: usize,
    queue: &str,
    tally: &str,
    then: impl FnOnce(usize, sapwood_shm::queue::Job<[u64; 2], u64>) -> Result<(), String>,
) -> sapwood_shm::Running {
    let running = Processes::new(ranks).quiet().start(|rank| {
        let (mut worker, tally) = (jobs().worker(queue).map_err(text)?, Tally::open(tally, 1));
        tally.wait_for_flag(TURN, rank.rank() as u32);
        let job = worker.take().map_err(text)?;
        tally.set_flag(TAKEN, rank.rank() as u32 + 1);
        then(rank.rank(), job)
    });
    running.expect("ranks can be started")
}

#[test]
fn wq_3_a_job_whose_worker_is_killed_is_done_by_another() {
    let (name, tally_name) = (name("redelivery"), name("redelivery-tally"));
    let running = takers(2, &name, &tally_name, |rank, job| match rank {
        0 => wait_to_be_ended(),
        _ => {
            let answer = job[0] + u64::from(job.attempts());
            job.finish(answer).map_err(text)
        }
    });
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    let tally = Tally::open(&tally_name, 1);
    let mut owner = jobs().owner(&name).expect("memory");
    let ticket = owner.submit([100, 0]).expect("there is room");
    tally.set_flag(TURN, 1);
    tally.wait_for_flag(TAKEN, 0);
    tally.set_flag(TURN, 2); // waits for a job
    // Before it has come, nobody would be left.
    until("both have come", || owner.workers() == 2);
    kill(&running, 0);
    let all = owner.drain().expect("the other one does it");
    assert_eq!((all[0].ticket, answered(all[0])), (ticket, 101));
    assert_eq!((all.len(), owner.stats().redelivered, owner.stats().failed), (1, 1, 0));
    let report = running.wait(PATIENCE).expect("both end");
    assert_eq!(report.exits, [sapwood_shm::Exit::Signal(9), sapwood_shm::Exit::Code(0)]);
}

#[test]
fn a_job_that_kills_three_workers_fails() {
    let (name, tally_name) = (name("poison"), name("poison-tally"));
    let running = takers(3, &name, &tally_name, |_, _| wait_to_be_ended());
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    let tally = Tally::open(&tally_name, 1);
    let mut owner = jobs().owner(&name).expect("memory");
    let ticket = owner.submit([1, 1]).expect("there is room");
    for rank in 0..3 {
        tally.set_flag(TURN, rank + 1);
        tally.wait_for_flag(TAKEN, rank);
        kill(&running, rank as usize);
    }
    let failed = Answer { ticket, outcome: Outcome::Failed { attempts: 3 } };
    assert_eq!(owner.recv(), Ok(failed), "though nobody is left");
    assert_eq!((owner.stats().redelivered, owner.stats().failed), (2, 1));
    assert_eq!(owner.recv(), Err(RecvError::Idle));
}

#[test]
fn a_stopped_worker_is_never_declared_dead() {
    let (name, tally_name) = (name("stopped"), name("stopped-tally"));
    let running = takers(1, &name, &tally_name, |_, job| {
        let answer = job[0] * 2;
        Tally::open(&tally_name, 1).wait_for_flag(LOOKED, 0);
        job.finish(answer).map_err(text)
    });
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    let tally = Tally::open(&tally_name, 1);
    let mut owner = jobs().owner(&name).expect("memory");
    let mut other = owner.worker().expect("a seat is free");
    owner.submit([21, 0]).expect("there is room");
    tally.set_flag(TURN, 1);
    tally.wait_for_flag(TAKEN, 0);
    running.signal(0, Signal::SIGSTOP).expect("it runs");
    until("it is stopped", || state(running.pids()[0]) == Some('T'));
    // Several slices of sleep, each with a look at who lives.
    let said = other.take_timeout(Duration::from_millis(300)).expect_err("it is another's");
    assert!(matches!(said, TakeError::TimedOut { holder: None, .. }), "{said}");
    let said = owner.recv_timeout(Duration::from_millis(300)).expect_err("it has stopped");
    assert!(matches!(said, RecvError::TimedOut { in_flight: 1, workers: 2, .. }), "{said}");
    tally.set_flag(LOOKED, 1);
    running.signal(0, Signal::SIGCONT).expect("it is stopped");
    assert_eq!(answered(owner.recv().expect("it goes on")), 42);
    assert_eq!(owner.stats().redelivered, 0);
    ended_well(running);
}

#[test]
fn workers_are_told_of_the_owners_death_and_a_successor_has_the_answers() {
    let (name, tally_name) = (name("owner"), name("owner-tally"));
    let running = Processes::new(1).quiet().start(|_| {
        let (mut owner, tally) = (jobs().owner(&name).map_err(text)?, Tally::open(&tally_name, 1));
        for n in [1, 2] {
            owner.submit([n, n]).map_err(text)?;
        }
        tally.set_flag(TURN, 1);
        wait_to_be_ended()
    });
    let running = running.expect("it starts");
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    let tally = Tally::open(&tally_name, 1);
    let mut worker = jobs().worker(&name).expect("a seat is free");
    let mut asleep = worker.try_clone().expect("a seat is free");
    tally.wait_for_flag(TURN, 0);
    let work = |worker: &mut Worker<[u64; 2], u64>| {
        let job = worker.take().expect("it waits");
        let answer = job[0] * 10;
        job.finish(answer).expect("it is ours");
    };
    work(&mut worker);
    kill(&running, 0);
    work(&mut worker); // what waits is done
    let pid = running.pids()[0];
    let sleeper = std::thread::spawn(move || asleep.take().expect_err("nothing comes"));
    for said in [sleeper.join().expect("it ends"), worker.take().expect_err("nothing comes")] {
        assert!(matches!(said, TakeError::OwnerDied { peer } if (peer.seat, peer.pid) == (0, pid)), "{said}");
    }
    let mut owner = jobs().owner(&name).expect("the seat of the dead");
    assert_eq!(owner.pending(), 2);
    let all: Vec<u64> = owner.drain().expect("both").into_iter().map(answered).collect();
    assert_eq!(all, [10, 20]);
    owner.submit([3, 3]).expect("there is room");
    work(&mut worker);
    assert_eq!(answered(owner.recv().expect("it goes on")), 30);
}

/// WQ-9: where all holders were killed, the name goes to a new queue.
#[test]
fn wq_9_a_stale_name_is_taken_over() {
    let (name, tally_name) = (name("stale"), name("stale-tally"));
    let running = Processes::new(1).quiet().start(|_| {
        let mut owner = Owner::<u64, u64>::open(&name, 4).map_err(text)?;
        owner.submit(1).map_err(text)?;
        let tally = Tally::open(&tally_name, 1);
        tally.set_flag(TURN, 1);
        wait_to_be_ended()
    });
    let running = running.expect("it starts");
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    let tally = Tally::open(&tally_name, 1);
    tally.wait_for_flag(TURN, 0);
    kill(&running, 0);
    drop(running);
    // Of another capacity and of other types: nothing is left of the old one.
    let mut owner = Owner::<u32, u32>::open(&name, 8).expect("a new one");
    assert_eq!((owner.pending(), owner.recv()), (0, Err(RecvError::Idle)));
}

/// Workers are killed one after the other, at any moment; each job is answered once.
#[test]
fn every_job_is_answered_though_workers_are_killed() {
    let rounds = if std::env::var_os("SAPWOOD_FULL").is_some() { 16 } else { 6 };
    let name = name("many");
    let running = Processes::new(rounds).start(|_| {
        for job in jobs().attempts(15).worker(&name).map_err(text)? {
            let answer = job[0] ^ job[1];
            job.finish(answer).map_err(text)?;
        }
        Ok::<_, String>(())
    });
    let running = running.expect("ranks can be started");
    let _forget = Forget::name(&name);
    let mut owner = jobs().attempts(15).owner(&name).expect("memory");
    until("all have come", || owner.workers() == rounds);
    let (mut dice, mut open) = (Dice::new(), HashMap::new());
    let mut next = 0_u64;
    for round in 0..rounds - 1 {
        for _ in 0..500 + dice.roll(2_000) {
            next += 1;
            open.insert(owner.submit([next, !next]).expect("there will be room"), next);
            if dice.roll(2) == 0 {
                let answer = owner.recv().expect("one comes");
                assert!(open.remove(&answer.ticket).is_some(), "a ticket that is received once");
                assert_eq!(answered(answer), u64::MAX);
            }
        }
        kill(&running, round);
    }
    for answer in owner.drain().expect("the last one does what is left") {
        assert!(open.remove(&answer.ticket).is_some(), "a ticket that is received once");
        assert_eq!(answered(answer), u64::MAX);
    }
    assert_eq!((open.len(), owner.pending(), owner.stats().answered), (0, 0, next));
    owner.close();
    let report = running.wait(PATIENCE).expect("all end");
    assert_eq!(report.exits.last(), Some(&sapwood_shm::Exit::Code(0)), "{report}");
}
