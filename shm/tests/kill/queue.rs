//! Workqueues: submitted to, taken from, answered, received from, closed and left by one that dies in the middle of it,
//! while others have gone to sleep at its bells.

use std::sync::Arc;
use std::time::Duration;

use sapwood_shm::Segment;
use sapwood_shm::queue::{Job, Outcome, Owner, RecvError, TakeError, WorkQueue, Worker};

use crate::sweep::Death;

type Value = [u64; 4];

fn job(i: u64) -> Value {
    [i, !i, i, !i]
}

fn answer(i: u64) -> Value {
    [i + 100, !i, i + 100, !i]
}

fn queue() -> WorkQueue<Value, Value> {
    WorkQueue::new(4).workers(3)
}

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);
/// Long enough to have gone to sleep.
const SHORT: Duration = Duration::from_millis(1);

/// A queue whose worker has slept and not been woken: whoever submits next has somebody to wake.
pub(crate) struct Waiting {
    segment: Arc<Segment>,
    worker: Worker<Value, Value>,
}

fn waiting() -> Waiting {
    let segment = Arc::new(Segment::create(&queue().spec().expect("a capacity")).expect("there is memory"));
    let mut worker = queue().attach(&segment).expect("a seat is free").with_deadline(LONG);
    let said = worker.take_timeout(SHORT).expect_err("no owner has come");
    assert!(matches!(said, TakeError::TimedOut { .. }), "{said}");
    Waiting { segment, worker }
}

fn owner(segment: &Arc<Segment>) -> Owner<Value, Value> {
    queue().attach_owner(segment).expect("that seat is free").with_deadline(LONG)
}

fn is_the_dead_owner(said: &TakeError) -> bool {
    matches!(said, TakeError::OwnerDied { peer } if peer.seat == 0 && peer.pid != std::process::id())
}

/// Answers the next job; says which, and how many had died of it.
fn work(worker: &mut Worker<Value, Value>) -> (u64, u32) {
    let taken = worker.take().expect("there is a job");
    let (i, attempts) = (taken[0], taken.attempts());
    assert_eq!(*taken, job(i), "a torn job");
    taken.finish(answer(i)).expect("it is held");
    (i, attempts)
}

/// All answers, by job.
fn answers(owner: &mut Owner<Value, Value>) -> Vec<u64> {
    let all = owner.drain().expect("all come").into_iter().map(|a| match a.outcome {
        Outcome::Answer(a) => {
            assert_eq!(a, answer(a[0] - 100), "a torn answer");
            a[0] - 100
        }
        Outcome::Failed { attempts } => panic!("failed after {attempts} attempts"),
    });
    let mut all: Vec<u64> = all.collect();
    all.sort_unstable();
    all
}

/// The queue works.
fn goes_on(owner: &mut Owner<Value, Value>, worker: &mut Worker<Value, Value>) {
    for i in 10..16 {
        owner.submit(job(i)).expect("there is room");
        assert_eq!(work(worker), (i, 0));
        assert_eq!(answers(owner), [i]);
    }
}

pub(crate) struct Submit;

impl Death for Submit {
    const NAME: &'static str = "submit to a queue, waking a worker";
    type World = Waiting;
    type Actor = Owner<Value, Value>;
    fn world() -> Waiting {
        waiting()
    }
    fn arrive(world: &Waiting) -> Self::Actor {
        owner(&world.segment)
    }
    fn act(owner: &mut Self::Actor) -> impl Sized {
        owner.submit(job(3))
    }
    fn survive(mut world: Waiting, completed: bool) -> &'static str {
        let submitted = match world.worker.take() {
            Ok(taken) => {
                assert_eq!(*taken, job(3), "a torn job");
                taken.finish(answer(3)).expect("it is held");
                assert!(is_the_dead_owner(&world.worker.take().expect_err("one job")));
                true
            }
            Err(said) => {
                assert!(is_the_dead_owner(&said) && !completed, "{said}");
                false
            }
        };
        let mut next = owner(&world.segment);
        assert_eq!(answers(&mut next), if submitted { vec![3] } else { vec![] });
        goes_on(&mut next, &mut world.worker);
        if submitted { "submitted" } else { "not submitted" }
    }
}

pub(crate) struct Close;

impl Death for Close {
    const NAME: &'static str = "close a queue, waking a worker";
    type World = Waiting;
    type Actor = Owner<Value, Value>;
    fn world() -> Waiting {
        waiting()
    }
    fn arrive(world: &Waiting) -> Self::Actor {
        owner(&world.segment)
    }
    fn act(owner: &mut Self::Actor) -> impl Sized {
        owner.close();
    }
    fn survive(mut world: Waiting, completed: bool) -> &'static str {
        match world.worker.take().expect_err("there is no job") {
            TakeError::Closed => "closed",
            said if is_the_dead_owner(&said) && !completed => {
                goes_on(&mut owner(&world.segment), &mut world.worker);
                "not closed"
            }
            said => panic!("{said}"),
        }
    }
}

/// A queue with jobs 1 and 2, whose owner has slept and not been woken.
pub(crate) struct Busy {
    segment: Arc<Segment>,
    owner: Owner<Value, Value>,
}

fn busy() -> Busy {
    let mut owner = queue().create().expect("there is memory").with_deadline(LONG);
    for i in [1, 2] {
        owner.submit(job(i)).expect("there is room");
    }
    let said = owner.recv_timeout(SHORT).expect_err("nobody works");
    assert!(matches!(said, RecvError::TimedOut { in_flight: 2, workers: 0, .. }), "{said}");
    Busy { segment: owner.segment().expect("it is in one").clone(), owner }
}

fn worker(segment: &Arc<Segment>) -> Worker<Value, Value> {
    queue().attach(segment).expect("a seat is free").with_deadline(LONG)
}

/// What is left is worked off by a newcomer; says with how many deaths before, by job.
fn work_off(world: &mut Busy, count: usize) -> Vec<(u64, u32)> {
    let mut newcomer = worker(&world.segment);
    let mut worked: Vec<_> = (0..count).map(|_| work(&mut newcomer)).collect();
    worked.sort_unstable();
    assert_eq!(answers(&mut world.owner), [1, 2]);
    assert_eq!(newcomer.try_take().map(|j| *j), Err(TakeError::Empty), "no job twice");
    goes_on(&mut world.owner, &mut newcomer);
    worked
}

pub(crate) struct Take;

impl Death for Take {
    const NAME: &'static str = "take from a queue";
    type World = Busy;
    type Actor = Worker<Value, Value>;
    fn world() -> Busy {
        busy()
    }
    fn arrive(world: &Busy) -> Self::Actor {
        worker(&world.segment)
    }
    fn act(worker: &mut Self::Actor) -> impl Sized {
        worker.take()
    }
    fn survive(mut world: Busy, completed: bool) -> &'static str {
        let worked = work_off(&mut world, 2);
        let taken = worked == [(1, 1), (2, 0)];
        assert!(taken || worked == [(1, 0), (2, 0)] && !completed, "{worked:?}");
        assert_eq!(world.owner.stats().redelivered, u64::from(taken));
        if taken { "redelivered" } else { "not taken" }
    }
}

/// A worker that has taken a job.
type Working = (Worker<Value, Value>, Option<Job<Value, Value>>);

fn working(world: &Busy) -> Working {
    let mut worker = worker(&world.segment);
    let job = worker.take().expect("there is a job");
    (worker, Some(job))
}

pub(crate) struct Finish;

impl Death for Finish {
    const NAME: &'static str = "finish a job of a queue, waking the owner";
    type World = Busy;
    type Actor = Working;
    fn world() -> Busy {
        busy()
    }
    fn arrive(world: &Busy) -> Working {
        working(world)
    }
    fn act((_, job): &mut Working) -> impl Sized {
        job.take().expect("once").finish(answer(1))
    }
    fn survive(mut world: Busy, completed: bool) -> &'static str {
        // Whether the answer is there decides how many jobs are left: the owner is told one or the other.
        let first = world.owner.recv_timeout(LONG);
        let answered = match &first {
            Ok(a) => a.outcome == Outcome::Answer(answer(1)),
            Err(said) => {
                assert_eq!(*said, RecvError::NoWorkers { in_flight: 2 });
                false
            }
        };
        assert!(answered || !completed && first.is_err(), "{first:?}");
        let mut newcomer = worker(&world.segment);
        let mut worked: Vec<_> = (0..2 - u32::from(answered)).map(|_| work(&mut newcomer)).collect();
        worked.sort_unstable();
        assert_eq!(worked, if answered { vec![(2, 0)] } else { vec![(1, 1), (2, 0)] });
        assert_eq!(answers(&mut world.owner), if answered { vec![2] } else { vec![1, 2] });
        goes_on(&mut world.owner, &mut newcomer);
        if answered { "answered" } else { "redelivered" }
    }
}

pub(crate) struct Leave;

impl Death for Leave {
    const NAME: &'static str = "leave a queue with a job";
    type World = Busy;
    type Actor = Option<Working>;
    fn world() -> Busy {
        busy()
    }
    fn arrive(world: &Busy) -> Self::Actor {
        Some(working(world))
    }
    fn act(actor: &mut Self::Actor) -> impl Sized {
        drop(actor.take());
    }
    fn survive(mut world: Busy, _: bool) -> &'static str {
        assert_eq!(work_off(&mut world, 2), [(1, 1), (2, 0)]);
        assert_eq!(world.owner.stats().redelivered, 1);
        "redelivered"
    }
}

pub(crate) struct Receive;

impl Death for Receive {
    const NAME: &'static str = "receive an answer of a queue";
    type World = Arc<Segment>;
    type Actor = Owner<Value, Value>;
    fn world() -> Arc<Segment> {
        Arc::new(Segment::create(&queue().spec().expect("a capacity")).expect("there is memory"))
    }
    fn arrive(segment: &Arc<Segment>) -> Self::Actor {
        let (mut owner, mut worker) = (owner(segment), worker(segment));
        for i in [1, 2] {
            owner.submit(job(i)).expect("there is room");
            work(&mut worker);
        }
        owner
    }
    fn act(owner: &mut Self::Actor) -> impl Sized {
        owner.recv()
    }
    fn survive(segment: Arc<Segment>, completed: bool) -> &'static str {
        let mut next = owner(&segment);
        let got = answers(&mut next);
        let gone = got == [2];
        assert!(gone || got == [1, 2] && !completed, "{got:?}");
        goes_on(&mut next, &mut worker(&segment));
        if gone { "received" } else { "left" }
    }
}
