//! Workqueues between threads and between processes: what goes through, in which order, and who is told of what.
#![allow(missing_docs)]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::rings::*;
use common::*;
use sapwood_shm::queue::{
    Answer, FinishError, Outcome, Owner, RecvError, SubmitError, TakeError, WaitPolicy, WorkQueue, Worker,
    work_queue,
};
use sapwood_shm::{Error, Segment};

const SOON: Duration = Duration::from_millis(20);

fn answered<A>(answer: Answer<A>) -> A {
    match answer.outcome {
        Outcome::Answer(a) => a,
        Outcome::Failed { attempts } => panic!("failed after {attempts} attempts"),
    }
}

/// Echoes until there are no more jobs; says how many there were.
fn echo<T: Default + Send + 'static>(worker: Worker<T, T>) -> thread::JoinHandle<usize> {
    thread::spawn(move || {
        let mut count = 0;
        for mut job in worker {
            let value = std::mem::take(&mut *job);
            job.finish(value).unwrap_or_else(|_| panic!("it is ours"));
            count += 1;
        }
        count
    })
}

#[test]
fn wq_1_values_of_any_type_survive_a_round_trip() {
    #[derive(Debug, Clone, PartialEq, Default)]
    struct Plain(bool, f64, String, Vec<Option<u8>>, BTreeMap<String, Vec<BTreeMap<u32, String>>>);
    let nested = BTreeMap::from([("a".to_owned(), vec![BTreeMap::from([(1, "x".to_owned())])])]);
    let values = [
        Plain(true, -1.5, "short".to_owned(), vec![], BTreeMap::new()),
        Plain(false, f64::MAX, "long ".repeat(10_000), vec![Some(1), None], nested),
    ];
    let (mut owner, worker) = work_queue::<Plain, Plain>(4).expect("memory");
    let echo = echo(worker);
    for value in &values {
        owner.submit(value.clone()).expect("there is room");
        assert_eq!(answered(owner.recv().expect("it comes")), *value);
    }
    drop(owner);
    assert_eq!(echo.join().expect("it ends"), 2);
}

type Tensor = Arc<Mutex<Vec<f32>>>;

#[test]
fn wq_2_a_shared_tensor_stays_shared_also_inside_of_something_else() {
    let tensors: [Tensor; 2] = std::array::from_fn(|_| Arc::new(Mutex::new(vec![0.0; 4])));
    let (mut owner, worker) = work_queue::<(Tensor, BTreeMap<String, Vec<Tensor>>), ()>(4).expect("memory");
    let filling = thread::spawn(move || {
        for job in worker {
            job.0.lock().expect("nobody panics").fill(7.0);
            job.1["nested"][0].lock().expect("nobody panics").fill(8.0);
            job.finish(()).expect("it is ours");
        }
    });
    let nested = BTreeMap::from([("nested".to_owned(), vec![tensors[1].clone()])]);
    owner.submit((tensors[0].clone(), nested)).expect("there is room");
    owner.recv().expect("it comes");
    assert_eq!(*tensors[0].lock().expect("nobody panics"), [7.0; 4]);
    assert_eq!(*tensors[1].lock().expect("nobody panics"), [8.0; 4]);
    drop(owner);
    filling.join().expect("it ends");
}

#[test]
fn wq_11_a_value_keeps_its_type() {
    #[derive(Debug, PartialEq)]
    struct Class {
        field: u32,
    }
    type Any = Option<Box<dyn std::any::Any + Send>>;
    let (mut owner, worker) = work_queue::<Any, Any>(4).expect("memory");
    let echo = echo(worker);
    owner.submit(Some(Box::new(Class { field: 3 }))).expect("there is room");
    let back = answered(owner.recv().expect("it comes")).expect("something");
    assert_eq!(*back.downcast::<Class>().expect("what it was"), Class { field: 3 });
    drop(owner);
    assert_eq!(echo.join().expect("it ends"), 1);
}

#[test]
fn wq_3_each_job_goes_to_exactly_one_worker() {
    const JOBS: usize = 20_000;
    let (mut owner, worker) = work_queue::<usize, usize>(8).expect("memory");
    let others: Vec<_> = (0..3).map(|_| echo(owner.worker().expect("there is a name"))).collect();
    let first = echo(worker);
    for job in 0..JOBS {
        owner.submit(job).expect("workers make room");
    }
    let mut seen = vec![0; JOBS];
    for answer in owner.drain().expect("all come") {
        seen[answered(answer)] += 1;
    }
    assert!(seen.iter().all(|count| *count == 1));
    owner.close();
    let done: usize = others.into_iter().chain([first]).map(|t| t.join().expect("it ends")).sum();
    assert_eq!(done, JOBS);
}

#[test]
fn wq_4_receiving_waits_or_says_that_nothing_is_there() {
    let (mut owner, mut worker) = work_queue::<u32, u32>(4).expect("memory");
    assert_eq!(worker.try_take().expect_err("nothing was submitted"), TakeError::Empty);
    assert_eq!(owner.try_recv(), Err(RecvError::Idle));
    let waiting = thread::spawn(move || {
        let job = worker.take().expect("it comes");
        let twice = *job * 2;
        (worker, job.finish(twice))
    });
    owner.submit(21).expect("there is room");
    assert_eq!(answered(owner.recv().expect("it comes")), 42);
    let (mut worker, finished) = waiting.join().expect("it ends");
    finished.expect("it was ours");
    let said = worker.take_timeout(SOON).expect_err("nothing was submitted");
    assert!(matches!(said, TakeError::TimedOut { waited, holder: None } if waited >= SOON), "{said}");
    owner.submit(1).expect("there is room");
    assert_eq!(owner.try_recv(), Err(RecvError::Empty { in_flight: 1 }));
    let said = owner.recv_timeout(SOON).expect_err("nobody has taken it");
    let expected = matches!(said, RecvError::TimedOut { waited, in_flight: 1, workers: 1 } if waited >= SOON);
    assert!(expected, "{said}");
}

#[test]
fn wq_5_each_submission_is_a_job_of_its_own_in_order() {
    let (mut owner, mut worker) = work_queue::<&str, ()>(4).expect("memory");
    let tickets: Vec<_> = ["a", "b", "c"].map(|job| owner.submit(job).expect("there is room")).into();
    for (job, ticket) in ["a", "b", "c"].iter().zip(tickets) {
        let taken = worker.take().expect("it waits");
        assert_eq!((&*taken, taken.ticket(), taken.attempts()), (job, ticket, 0));
        taken.finish(()).expect("it is ours");
    }
    assert_eq!(worker.try_take().expect_err("no fourth"), TakeError::Empty);
}

#[test]
fn wq_6_drain_waits_for_jobs_in_flight() {
    let (mut owner, mut worker) = work_queue::<u32, u32>(16).expect("memory");
    let (holds, held) = mpsc::channel();
    let working = thread::spawn(move || {
        // One job is in this worker's hands when the owner begins to drain.
        let first = worker.take().expect("it comes");
        holds.send(()).expect("the test waits");
        let n = *first;
        first.finish(n).expect("it is ours");
        for job in &mut worker {
            let n = *job;
            job.finish(n).expect("it is ours");
        }
    });
    for n in 1..=13 {
        owner.submit(n).expect("there is room");
    }
    held.recv().expect("it takes one");
    let all: Vec<u32> = owner.drain().expect("all come").into_iter().map(answered).collect();
    assert_eq!(all, (1..=13).collect::<Vec<_>>());
    assert_eq!(owner.try_recv(), Err(RecvError::Idle), "the 14th is nothing");
    assert_eq!((owner.pending(), owner.stats().answered), (0, 13));
    drop(owner);
    working.join().expect("it ends");
}

#[test]
fn wq_6_what_came_before_a_drain_failed_is_not_lost() {
    let (mut owner, mut worker) = work_queue::<u32, u32>(4).expect("memory");
    for n in [1, 2] {
        owner.submit(n).expect("there is room");
    }
    worker.take().expect("it waits").finish(10).expect("it is ours");
    let said = owner.drain_timeout(SOON).expect_err("the second is not over");
    assert!(matches!(said, RecvError::TimedOut { in_flight: 1, .. }), "{said}");
    assert_eq!(owner.pending(), 2);
    assert_eq!(answered(owner.try_recv().expect("the first came")), 10);
    worker.take().expect("it waits").finish(20).expect("it is ours");
    assert_eq!(owner.drain().expect("the rest").into_iter().map(answered).collect::<Vec<_>>(), [20]);
}

#[test]
fn wq_7_a_queue_of_one_carries_any_amount_both_ways() {
    const JOBS: u64 = 10_000;
    let (mut owner, worker) = work_queue::<u64, u64>(1).expect("memory");
    assert_eq!(owner.capacity(), 1);
    let echo = echo(worker);
    for job in 0..JOBS {
        owner.submit(job).expect("answers make room");
    }
    let all: Vec<u64> = owner.drain().expect("all come").into_iter().map(answered).collect();
    assert_eq!(all, (0..JOBS).collect::<Vec<_>>());
    drop(owner);
    assert_eq!(echo.join().expect("it ends") as u64, JOBS);
}

#[test]
fn wq_7_between_processes() {
    const JOBS: u64 = 5_000;
    let name = name("one");
    let running = rank(|| {
        for job in Worker::<u64, u64>::open(&name, 1).map_err(text)? {
            let answer = *job * 3;
            job.finish(answer).map_err(text)?;
        }
        Ok(())
    });
    let mut owner = Owner::<u64, u64>::open(&name, 1).expect("memory");
    for job in 0..JOBS {
        owner.submit(job).expect("answers make room");
    }
    let all: Vec<u64> = owner.drain().expect("all come").into_iter().map(answered).collect();
    assert_eq!(all, (0..JOBS).map(|job| job * 3).collect::<Vec<_>>());
    owner.close();
    ended_well(running);
}

/// WQ-8: a queue without a name is an argument like any other, between threads and in a segment; and its owner may go
/// while a worker still uses its end.
#[test]
fn wq_8_an_unnamed_queue_is_handed_on_and_its_owner_may_go_first() {
    let (mut owner, mut worker) = work_queue::<u32, u32>(4).expect("memory");
    owner.submit(1).expect("there is room");
    drop(owner);
    let left = thread::spawn(move || {
        let job = worker.take().expect("what waits is handed out");
        let n = *job;
        job.finish(n).expect("it is ours");
        worker.take().expect_err("no more comes")
    });
    assert_eq!(left.join().expect("it ends"), TakeError::Closed);

    let mut owner = Owner::<u32, u32>::create(4).expect("memory");
    let segment = owner.segment().expect("in one");
    let mut worker = Worker::<u32, u32>::attach(segment, 4).expect("a seat is free");
    owner.submit(2).expect("there is room");
    let job = worker.take().expect("it waits");
    drop(owner);
    job.finish(4).expect("it is still ours");
    assert_eq!(worker.take().expect_err("no more comes"), TakeError::Closed);
}

#[test]
fn wq_9_a_name_has_one_owner_and_goes_with_the_last_handle() {
    let name = name("nine");
    let path = file_of(std::path::Path::new("/dev/shm"), &name);
    let owner = Owner::<u32, u32>::open(&name, 4).expect("memory");
    let said = Owner::<u32, u32>::open(&name, 4).expect_err("there is one");
    assert!(matches!(said, Error::SeatTaken { seat: 0, .. }), "{said}");
    let workers: Vec<Worker<u32, u32>> =
        (0..2).map(|_| Worker::open(&name, 4).expect("a seat is free")).collect();
    drop(owner);
    let said = Owner::<u32, u32>::open(&name, 4).expect_err("it has left for good");
    assert!(matches!(said, Error::EndClosed { end: "owner" }), "{said}");
    assert!(path.exists(), "workers hold it");
    drop(workers);
    assert!(!path.exists(), "nobody holds it");
    drop(Owner::<u32, u32>::open(&name, 4).expect("a new one"));
    assert!(!path.exists(), "nobody holds it");
}

/// WQ-12: calls after close are errors. WQ-13: closing wakes workers, and so does dropping.
#[test]
fn wq_12_after_close_nothing_is_submitted_and_wq_13_sleepers_wake() {
    for drops in [false, true] {
        let (mut owner, worker) = work_queue::<u32, u32>(4).expect("memory");
        let others = (0..3).map(|_| owner.worker().expect("there is a name"));
        let asleep: Vec<_> = others.chain([worker]).collect();
        let asleep: Vec<_> = asleep
            .into_iter()
            .map(|w| thread::spawn(move || w.waiting(WaitPolicy::Sleep).take().expect_err("none comes")))
            .collect();
        if drops {
            drop(owner);
        } else {
            owner.close();
            assert_eq!(owner.submit(1), Err(SubmitError::Closed(1)));
            assert_eq!(owner.try_submit(1), Err(SubmitError::Closed(1)));
            assert_eq!(owner.drain(), Ok(vec![]));
        }
        for sleeper in asleep {
            assert_eq!(sleeper.join().expect("it wakes"), TakeError::Closed);
        }
    }
}

#[test]
fn wq_13_workers_are_told_of_the_close_when_no_job_can_come_back() {
    let (mut owner, mut a) = work_queue::<u32, u32>(4).expect("memory");
    let mut b = owner.worker().expect("there is a name");
    owner.submit(1).expect("there is room");
    let job = a.take().expect("it waits");
    owner.close();
    assert_eq!(b.try_take().expect_err("it may come back"), TakeError::Empty);
    let waiting = thread::spawn(move || {
        let job = b.take().expect("it comes back");
        assert_eq!(job.attempts(), 1);
        job.finish(7).expect("it is ours");
        b.take().expect_err("no more comes")
    });
    drop(job);
    assert_eq!(waiting.join().expect("it ends"), TakeError::Closed);
    assert_eq!(a.take().expect_err("no more comes"), TakeError::Closed);
    assert_eq!(owner.drain().expect("one").into_iter().map(answered).collect::<Vec<_>>(), [7]);
}

#[test]
fn a_job_that_is_dropped_is_done_again_and_at_last_fails() {
    let (mut owner, mut worker) = work_queue::<String, ()>(4).expect("memory");
    let ticket = owner.submit("poison".to_owned()).expect("there is room");
    for deaths in 0..3 {
        let job = worker.take().expect("it waits");
        assert_eq!((job.attempts(), &**job), (deaths, "poison"));
        let went = thread::spawn(move || {
            let _job = job;
            panic!("on purpose");
        });
        assert!(went.join().is_err());
    }
    assert_eq!(worker.try_take().expect_err("it is over"), TakeError::Empty);
    let failed = Answer { ticket, outcome: Outcome::Failed { attempts: 3 } };
    assert_eq!(owner.recv(), Ok(failed));
    let stats = owner.stats();
    assert_eq!((stats.redelivered, stats.failed, stats.answered), (2, 1, 0));
}

/// Can't be dropped in peace.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped, on purpose");
    }
}

/// What a call says, unless it panics.
fn caught<R>(call: impl FnOnce() -> R) -> Result<R, ()> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).map_err(drop)
}

#[test]
fn a_job_that_panics_when_it_is_dropped_is_over_all_the_same_and_its_answer_is_not_lost() {
    let (mut owner, mut worker) =
        WorkQueue::<Option<Bomb>, u32>::new(4).attempts(1).threads().expect("memory");
    let mut submit = |owner: &mut Owner<_, _>, bomb: bool| {
        let ticket = owner.submit(bomb.then(|| Bomb)).unwrap_or_else(|_| panic!("there is room"));
        let job = worker.take().expect("it waits");
        if bomb {
            drop(job)
        } else {
            job.finish(7).unwrap_or_else(|_| panic!("it is ours"))
        }
        ticket
    };
    let failed = |ticket| Answer { ticket, outcome: Outcome::Failed { attempts: 1 } };
    let ticket = submit(&mut owner, true);
    assert!(caught(|| owner.try_recv().map(drop)).is_err(), "the owner drops it");
    assert_eq!((owner.pending(), owner.stats().failed), (1, 1));
    assert_eq!(owner.try_recv(), Ok(failed(ticket)));
    assert_eq!(owner.try_recv(), Err(RecvError::Idle));

    // Nor are those lost that a drain had by then, and they come in their order.
    let tickets = [false, true, false].map(|bomb| submit(&mut owner, bomb));
    assert!(caught(|| owner.drain().map(drop)).is_err(), "the owner drops it");
    assert_eq!(owner.pending(), 3);
    let all = owner.drain().expect("all are over");
    assert_eq!(all.iter().map(|answer| answer.ticket).collect::<Vec<_>>(), tickets);
    assert_eq!(all[1], failed(tickets[1]));

    // Nor one that is collected to make room.
    let tickets = [true, false, false, false].map(|bomb| submit(&mut owner, bomb));
    assert!(caught(|| owner.try_submit(None).map(drop)).is_err(), "the owner drops it");
    let all = owner.drain().expect("all are over");
    assert_eq!(all.iter().map(|answer| answer.ticket).collect::<Vec<_>>(), tickets);
}

#[test]
fn a_job_that_is_declined_counts_no_attempt_and_several_are_held_at_once() {
    let mut shared = Owner::<u64, u64>::create(4).expect("memory");
    let worker = shared.worker().expect("a seat is free");
    let (mut local, other) = work_queue::<u64, u64>(4).expect("memory");
    for (owner, mut worker) in [(&mut shared, worker), (&mut local, other)] {
        for n in [1, 2, 3] {
            owner.submit(n).expect("there is room");
        }
        let (a, b) = (worker.take().expect("it waits"), worker.take().expect("it waits"));
        a.decline().expect("it is ours");
        b.finish(20).expect("it is ours");
        let c = worker.take().expect("it waits");
        let a = worker.take().expect("it has come back");
        assert_eq!((*c, *a, a.attempts()), (3, 1, 0));
        drop(worker); // its jobs outlive it
        c.finish(30).expect("it is ours");
        a.finish(10).expect("it is ours");
        let mut all: Vec<u64> = owner.drain().expect("all come").into_iter().map(answered).collect();
        all.sort_unstable();
        assert_eq!((all, owner.stats().redelivered), (vec![10, 20, 30], 0));
    }
}

#[test]
fn an_owner_is_told_that_nobody_works() {
    let (mut owner, worker) = work_queue::<u32, u32>(1).expect("memory");
    owner.submit(1).expect("there is room");
    let waiting = thread::spawn(move || {
        let said = owner.recv();
        (owner, said)
    });
    drop(worker);
    let (mut owner, said) = waiting.join().expect("it ends");
    assert_eq!(said, Err(RecvError::NoWorkers { in_flight: 1 }));
    assert_eq!(owner.submit(2), Err(SubmitError::NoWorkers { in_flight: 1, job: 2 }));
    let mut worker = owner.worker().expect("there is a name");
    worker.take().expect("it waits").finish(5).expect("it is ours");
    assert_eq!(answered(owner.recv().expect("it came")), 5);
}

#[test]
fn a_full_queue_hands_the_job_back() {
    let (mut owner, _worker) = work_queue::<Box<u32>, ()>(2).expect("memory");
    for n in [1, 2] {
        owner.try_submit(Box::new(n)).expect("there is room");
    }
    assert_eq!(owner.try_submit(Box::new(3)), Err(SubmitError::Full(Box::new(3))));
    let said = owner.submit_timeout(Box::new(4), SOON).expect_err("nobody works");
    assert!(matches!(said, SubmitError::TimedOut { waited, workers: 1, .. } if waited >= SOON), "{said}");
    assert_eq!(said.into_inner(), Box::new(4));
}

#[test]
fn what_is_left_in_a_queue_is_dropped_once() {
    let value = Arc::new(());
    let (mut owner, mut worker) = work_queue::<Arc<()>, Arc<()>>(4).expect("memory");
    for _ in 0..4 {
        owner.submit(value.clone()).expect("there is room");
    }
    let job = worker.take().expect("it waits");
    worker.take().expect("it waits").finish(value.clone()).expect("it is ours");
    assert_eq!(Arc::strong_count(&value), 1 + 4);
    drop(owner);
    drop(worker);
    assert_eq!(Arc::strong_count(&value), 1 + 4, "a job holds the queue");
    drop(job);
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn names_of_workers_are_used_again() {
    let (owner, worker) = work_queue::<u32, u32>(4).expect("memory");
    for _ in 0..3_000 {
        drop(worker.try_clone().expect("there is a name"));
    }
    let many: Vec<_> = (0..1020).map(|_| owner.worker().expect("there is a name")).collect();
    assert_eq!(owner.workers(), 1021);
    assert!(matches!(owner.worker(), Err(Error::NoSeat { seats: 1021 })));
    drop(many);
    assert_eq!(owner.workers(), 1);
}

#[test]
fn what_can_not_be_is_said() {
    for capacity in [0, usize::MAX, 1 << 60] {
        let said = work_queue::<u32, u32>(capacity).expect_err("no table has it");
        assert!(matches!(said, Error::Capacity(_) | Error::NoSpace { .. }), "{said}");
        let said = Owner::<u32, u32>::create(capacity).expect_err("no table has it");
        assert!(matches!(said, Error::Capacity(_) | Error::NoSpace { .. }), "{said}");
    }
    let said = WorkQueue::<u32, u32>::new(4).attempts(16).threads().expect_err("too many attempts");
    assert!(matches!(said, Error::Attempts(_)), "{said}");
    for workers in [0, 1022, usize::MAX] {
        let said = WorkQueue::<u32, u32>::new(4).workers(workers).create().expect_err("no such number");
        assert!(matches!(said, Error::Participants { most: 1021, .. }), "{said}");
    }
    assert_eq!(work_queue::<u32, u32>(5).expect("memory").0.capacity(), 8);
}

#[test]
fn who_opens_another_queue_is_told() {
    let owner = WorkQueue::<u64, u32>::new(4).workers(2).create().expect("memory");
    let segment = owner.segment().expect("in one");
    let said = WorkQueue::<u64, u64>::new(4).workers(2).attach(segment).expect_err("longer answers");
    assert!(said.to_string().contains("with answers of 4 bytes"), "{said}");
    let said = WorkQueue::<u64, u32>::new(8).workers(2).attach(segment).expect_err("more places");
    assert!(matches!(said, Error::OtherRing { .. }), "{said}");
    let said =
        WorkQueue::<u64, u32>::new(4).workers(2).attempts(4).attach(segment).expect_err("more attempts");
    assert!(
        matches!(said, Error::OtherRing { ref found, ref expected } if (found.attempts, expected.attempts) == (3, 4)),
        "{said}"
    );
    assert!(said.to_string().contains("and 3 attempts"), "{said}");
    let said = WorkQueue::<u64, u32>::new(4).workers(3).attach(segment).expect_err("more workers");
    assert!(matches!(said, Error::OtherSize { found: 3, expected: 4 }), "{said}");
    let other = Arc::new(Segment::create(&spec(2)).expect("memory"));
    let said = WorkQueue::<u64, u32>::new(4).workers(1).attach(&other).expect_err("no queue");
    assert!(matches!(said, Error::OtherKind { .. }), "{said}");
    let queue = WorkQueue::<u64, u32>::new(4).workers(2);
    let _both = [queue.attach(segment).expect("a seat"), queue.attach(segment).expect("a seat")];
    let said = queue.attach(segment).expect_err("both are taken");
    assert!(matches!(said, Error::NoSeat { seats: 2 }), "{said}");
}

/// Many of both, of all sizes, with jobs that are dropped now and then.
#[test]
fn every_job_is_answered_whatever_the_workers_do() {
    let mut dice = Dice::new();
    for capacity in [1, 2, 8] {
        let (mut owner, first) = WorkQueue::<u64, u64>::new(capacity).attempts(15).threads().expect("memory");
        let mut workers: Vec<_> = (0..2).map(|_| first.try_clone().expect("a name")).collect();
        workers.push(first);
        let threads: Vec<_> = workers
            .into_iter()
            .zip(3..)
            .map(|(worker, every)| {
                thread::spawn(move || {
                    for (job, i) in worker.into_iter().zip(1_u64..) {
                        match i % every {
                            0 if job.attempts() < 2 => drop(job),
                            1 => job.decline().expect("it is ours"),
                            _ => {
                                let n = *job;
                                job.finish(n + 1).expect("it is ours");
                            }
                        }
                    }
                })
            })
            .collect();
        let (mut open, mut done) = (HashMap::new(), 0);
        let mut check = |open: &mut HashMap<_, u64>, answer: Answer<u64>| {
            let job = open.remove(&answer.ticket).expect("a ticket that is received once");
            assert_eq!(answered(answer), job + 1);
            done += 1;
        };
        for job in 0..3_000 {
            open.insert(owner.submit(job).expect("there will be room"), job);
            if dice.roll(3) == 0 {
                check(&mut open, owner.recv().expect("one comes"));
            }
        }
        for answer in owner.drain().expect("all come") {
            check(&mut open, answer);
        }
        assert_eq!((done, open.len(), owner.stats().failed), (3_000, 0, 0));
        owner.close();
        threads.into_iter().for_each(|t| t.join().expect("it ends"));
    }
}

#[test]
fn a_forked_child_holds_nothing() {
    let mut owner = Owner::<u32, u32>::create(4).expect("memory");
    let mut worker = owner.worker().expect("a seat is free");
    let (mut here, mut there) = work_queue::<u32, u32>(4).expect("memory");
    for owner in [&mut owner, &mut here] {
        owner.submit(1).expect("there is room");
        owner.submit(2).expect("there is room");
    }
    let jobs = [worker.take().expect("it waits"), there.take().expect("it waits")];
    // SAFETY: the child does nothing but look at what it has, and ends at once; a failed look ends it otherwise.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let mut fine = true;
        for (owner, worker) in [(&mut owner, &mut worker), (&mut here, &mut there)] {
            fine &= owner.try_submit(3) == Err(SubmitError::Forked(3));
            fine &= owner.try_recv() == Err(RecvError::Forked);
            fine &= matches!(worker.try_take(), Err(TakeError::Forked));
            fine &= matches!(worker.take(), Err(TakeError::Forked));
        }
        fine &= matches!(here.worker(), Err(Error::Forked { .. }));
        fine &= matches!(there.try_clone(), Err(Error::Forked { .. }));
        fine &= here.workers() == 0;
        for job in jobs {
            fine &= job.finish(9) == Err(FinishError::Forked(9));
        }
        drop((owner, worker, here, there));
        // SAFETY: ends this process at once.
        unsafe { libc::_exit(i32::from(!fine)) };
    }
    let ended = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).expect("a child of ours");
    assert!(matches!(ended, nix::sys::wait::WaitStatus::Exited(_, 0)), "{ended:?}");
    for job in jobs {
        job.finish(9).expect("it is still ours");
    }
    assert_eq!(answered(owner.recv().expect("it came")), 9);
    assert_eq!(answered(here.recv().expect("it came")), 9);
    assert_eq!(*worker.take().expect("still open"), 2);
}
