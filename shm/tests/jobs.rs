//! Jobs between processes: answered once, whoever dies of them.
#![allow(missing_docs)]

mod common;

use common::rings::*;
use common::*;
use sapwood_shm::ring::jobs::{self, Collected, FinishError, Jobs, Outcome};
use sapwood_shm::ring::{PopError, PushError};
use sapwood_shm::{Error, Processes};

/// Ends the worker that takes it.
const LAST: u64 = 1 << 40;

#[test]
fn workers_answer_each_job_once_though_one_is_killed() {
    let (name, all) = (name("workers"), 20_000_u64);
    let open = || Jobs::<u64, u64>::open(&name, 32, 4, 15);
    let running = Processes::new(3).start(|_| {
        let mut jobs = open().map_err(text)?;
        let mut last = false;
        until("the last job is taken", || match jobs.take() {
            Ok(taken) => {
                let (job, mut answer) = (taken.job, taken.job * 3);
                if job == LAST {
                    (answer, last) = (0, true);
                }
                jobs.finish(taken, answer).expect("it is held");
                last
            }
            Err(e) => {
                assert!(matches!(e, PopError::Empty | PopError::Busy { .. }), "{e}");
                false
            }
        });
        Ok::<_, String>(())
    });
    let running = running.expect("they start");
    let _forget = Forget::name(&name);
    let mut jobs = open().expect("a seat is free");
    let segment = jobs.segment().expect("in one").clone();
    until("all are there", || (0..4).all(|s| segment.seat_pid(s) != 0));
    let (mut tickets, mut next, mut answered, mut killed) = (std::collections::HashMap::new(), 0, 0, false);
    until("all is answered", || {
        if next < all {
            match jobs.submit(next) {
                Ok(ticket) => {
                    tickets.insert(ticket, next);
                    next += 1;
                }
                Err(e) => assert!(matches!(e, PushError::Full(_) | PushError::Busy { .. }), "{e}"),
            }
        }
        if let Some(Collected { ticket, outcome }) = jobs.collect() {
            let job = tickets.remove(&ticket).expect("a ticket that is collected once");
            assert_eq!(outcome, Outcome::Answer(job * 3));
            answered += 1;
        }
        if !killed && answered > all / 3 {
            kill(&running, 1);
            killed = true;
        }
        answered == all
    });
    for _ in 0..2 {
        jobs.submit(LAST).expect("there is room");
    }
    let report = running.wait(PATIENCE).expect("all end");
    let codes = report.exits.iter().filter(|e| **e == sapwood_shm::Exit::Code(0)).count();
    assert_eq!(codes, 2, "{report}");
}

#[test]
fn a_job_that_kills_its_workers_fails() {
    let mut owner = Jobs::<u32, u32>::create(4, 2, 2).expect("memory");
    let segment = owner.segment().expect("in one").clone();
    let ticket = owner.submit(1).expect("there is room");
    for deaths in 0..2 {
        let mut worker = Jobs::<u32, u32>::attach(&segment, 4, 2).expect("a seat is free");
        assert_eq!(worker.take().map(|t| t.attempts), Ok(deaths));
        assert_eq!(worker.take().map(|t| t.job), Err(PopError::Empty));
        drop(worker);
        assert!(owner.recover_dead());
    }
    let failed = Collected { ticket, outcome: Outcome::Failed { attempts: 2 } };
    assert_eq!((owner.collect(), owner.collect()), (Some(failed), None));
    assert_eq!((owner.stats().redelivered, owner.stats().failed), (1, 1));
}

#[test]
fn what_is_wrong_is_said() {
    let said = jobs::threads::<u64, u64>(3, 1, 1).expect_err("no power of two");
    assert!(matches!(said, Error::Capacity(_)), "{said}");
    let said = jobs::threads::<u64, u64>(4, 1, 16).expect_err("too many attempts");
    assert!(matches!(said, Error::Attempts(_)), "{said}");
    let table = Jobs::<u64, u32>::create(4, 2, 1).expect("memory");
    let segment = table.segment().expect("in one");
    let said = Jobs::<u64, u64>::attach(segment, 4, 1).expect_err("longer answers");
    assert!(said.to_string().contains("with answers of 4 bytes"), "{said}");
    let mut both = jobs::threads::<u64, u64>(1, 2, 1).expect("memory");
    let (mut b, mut a) = (both.pop().expect("two"), both.pop().expect("two"));
    a.submit(1).expect("there is room");
    assert_eq!(a.submit(2), Err(PushError::Full(2)));
    let taken = a.take().expect("there is a job");
    let said = b.finish(taken, 1).expect_err("it is the other's");
    assert!(matches!(said, FinishError::NotHeld(_)), "{said}");
    let (taken, answer) = said.into_inner();
    let taken = b.decline(taken).expect_err("as before").into_inner();
    a.finish(taken, answer).expect("it was handed back whole");
}

#[test]
fn a_worker_that_goes_gives_its_job_back_also_between_threads() {
    let mut both = jobs::threads::<u64, u64>(4, 2, 3).expect("memory");
    let (worker, mut owner) = (both.pop().expect("two"), both.pop().expect("two"));
    let ticket = owner.submit(5).expect("there is room");
    let went = std::thread::spawn(move || {
        let mut worker = worker;
        let _taken = worker.take().expect("there is a job");
        panic!("in the middle of it");
    });
    assert!(went.join().is_err(), "it panicked");
    let taken = owner.take().expect("it has come back");
    assert_eq!((taken.job, taken.attempts), (5, 1));
    owner.finish(taken, 25).expect("it is ours");
    assert_eq!(owner.collect().map(|c| (c.ticket, c.outcome)), Some((ticket, Outcome::Answer(25))));
}

#[test]
fn answers_of_another_alignment_are_refused() {
    let table = Jobs::<u64, [u64; 2]>::create(4, 2, 1).expect("memory");
    let said =
        Jobs::<u64, u128>::attach(table.segment().expect("in one"), 4, 1).expect_err("it lies elsewhere");
    assert!(matches!(said, Error::OtherRing { .. }), "{said}");
}

#[test]
fn who_counts_attempts_otherwise_is_refused() {
    let table = Jobs::<u64, u64>::create(4, 2, 3).expect("memory");
    let said = Jobs::<u64, u64>::attach(table.segment().expect("in one"), 4, 4).expect_err("others say 3");
    assert!(
        matches!(said, Error::OtherRing { ref found, ref expected } if (found.attempts, expected.attempts) == (3, 4)),
        "{said}"
    );
}
