//! Jobs: submitted, taken, finished and collected by one that dies in the middle of it.

use std::sync::Arc;

use sapwood_shm::Segment;
use sapwood_shm::ring::PopError;
use sapwood_shm::ring::jobs::{Collected, Jobs, Outcome, Taken};

use crate::common::until;
use crate::sweep::Death;

type Job = [u64; 4];

fn job(i: u64) -> Job {
    [i, !i, i, !i]
}

fn answer(i: u64) -> Job {
    [i + 100, !i, i + 100, !i]
}

const CAPACITY: usize = 4;

/// The survivor's handle; jobs 1 and 2 wait.
pub(crate) struct World {
    segment: Arc<Segment>,
    jobs: Jobs<Job, Job>,
}

fn world() -> World {
    let mut jobs = Jobs::create(CAPACITY, 2, 3).expect("there is memory");
    for i in [1, 2] {
        jobs.submit(job(i)).expect("there is room");
    }
    World { segment: jobs.segment().expect("it is in one").clone(), jobs }
}

fn arrive(world: &World) -> Jobs<Job, Job> {
    Jobs::attach(&world.segment, CAPACITY, 3).expect("a seat is free")
}

/// Works off and collects all, whoever is in the way. Says which jobs were worked on here, with how many deaths before,
/// and which were collected.
fn finish(jobs: &mut Jobs<Job, Job>) -> (Vec<(u64, u32)>, Vec<u64>) {
    let (mut worked, mut collected) = (Vec::new(), Vec::new());
    until("nothing is left", || {
        match jobs.take() {
            Ok(taken) => {
                let i = taken.job[0];
                assert_eq!(taken.job, job(i), "a torn job");
                worked.push((i, taken.attempts));
                jobs.finish(taken, answer(i)).expect("it is held");
            }
            Err(e) => assert!(matches!(e, PopError::Empty | PopError::Busy { .. }), "{e}"),
        }
        jobs.recover_dead();
        while let Some(Collected { outcome: Outcome::Answer(a), .. }) = jobs.collect() {
            assert_eq!(a, answer(a[0] - 100), "a torn answer");
            collected.push(a[0] - 100);
        }
        jobs.census().in_flight() == 0
    });
    collected.sort_unstable();
    (worked, collected)
}

/// The table works, for a newcomer to the dead one's seat too.
fn goes_on(mut world: World) {
    let mut newcomer = arrive(&world);
    for i in 10..20 {
        world.jobs.submit(job(i)).expect("there is room");
        let taken = newcomer.take().expect("there is a job");
        newcomer.finish(taken, answer(i)).expect("it is held");
        assert_eq!(world.jobs.collect().map(|c| c.outcome), Some(Outcome::Answer(answer(i))));
    }
}

pub(crate) struct Submit;

impl Death for Submit {
    const NAME: &'static str = "submit a job";
    type World = World;
    type Actor = Jobs<Job, Job>;
    fn world() -> World {
        world()
    }
    fn arrive(world: &World) -> Self::Actor {
        arrive(world)
    }
    fn act(jobs: &mut Self::Actor) -> impl Sized {
        jobs.submit(job(3))
    }
    fn survive(mut world: World, completed: bool) -> &'static str {
        let (worked, collected) = finish(&mut world.jobs);
        let submitted = worked == [(1, 0), (2, 0), (3, 0)];
        assert!(submitted || worked == [(1, 0), (2, 0)] && !completed, "{worked:?}");
        assert_eq!(collected.len(), worked.len());
        goes_on(world);
        if submitted { "submitted" } else { "not submitted" }
    }
}

pub(crate) struct Take;

impl Death for Take {
    const NAME: &'static str = "take a job";
    type World = World;
    type Actor = Jobs<Job, Job>;
    fn world() -> World {
        world()
    }
    fn arrive(world: &World) -> Self::Actor {
        arrive(world)
    }
    fn act(jobs: &mut Self::Actor) -> impl Sized {
        jobs.take()
    }
    fn survive(mut world: World, completed: bool) -> &'static str {
        let (mut worked, collected) = finish(&mut world.jobs);
        worked.sort_unstable();
        let redelivered = worked == [(1, 1), (2, 0)];
        assert!(redelivered || worked == [(1, 0), (2, 0)] && !completed, "{worked:?}");
        assert_eq!(collected, [1, 2]);
        goes_on(world);
        if redelivered { "redelivered" } else { "not taken" }
    }
}

pub(crate) struct Finish;

impl Death for Finish {
    const NAME: &'static str = "finish a job";
    type World = World;
    type Actor = (Jobs<Job, Job>, Option<Taken<Job>>);
    fn world() -> World {
        world()
    }
    fn arrive(world: &World) -> Self::Actor {
        let mut jobs = arrive(world);
        let taken = jobs.take().expect("there is a job");
        (jobs, Some(taken))
    }
    fn act((jobs, taken): &mut Self::Actor) -> impl Sized {
        jobs.finish(taken.take().expect("once"), answer(1))
    }
    fn survive(mut world: World, completed: bool) -> &'static str {
        let (mut worked, collected) = finish(&mut world.jobs);
        worked.sort_unstable();
        let answered = worked == [(2, 0)];
        assert!(answered || worked == [(1, 1), (2, 0)] && !completed, "{worked:?}");
        assert_eq!(collected, [1, 2]);
        goes_on(world);
        if answered { "answered" } else { "redelivered" }
    }
}

pub(crate) struct Collect;

impl Death for Collect {
    const NAME: &'static str = "collect an answer";
    type World = World;
    type Actor = Jobs<Job, Job>;
    fn world() -> World {
        let mut world = world();
        for i in [1, 2] {
            let taken = world.jobs.take().expect("there is a job");
            world.jobs.finish(taken, answer(i)).expect("it is held");
        }
        world
    }
    fn arrive(world: &World) -> Self::Actor {
        arrive(world)
    }
    fn act(jobs: &mut Self::Actor) -> impl Sized {
        jobs.collect()
    }
    fn survive(mut world: World, completed: bool) -> &'static str {
        let (worked, collected) = finish(&mut world.jobs);
        assert_eq!(worked, []);
        let gone = collected == [2];
        assert!(gone || collected == [1, 2] && !completed, "{collected:?}");
        goes_on(world);
        if gone { "collected" } else { "left" }
    }
}
