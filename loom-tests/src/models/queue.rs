//! Workqueues: nobody sleeps beside a job, an answer or a closed door, and what a job refers to goes with it. Loom
//! calls it a deadlock if somebody does.
//!
//! Workers and owner wait through [`Waiter`], the code that ships. The cell stands for the values that lie beside the
//! table: loom notices a race on it.

use std::sync::Arc;

use loom::thread;
use sapwood_core::claim::{Attempts, Collected, Front, Look, Outcome, Peers, TakeError, Taken};
use sapwood_core::doorbell::Doorbell;
use sapwood_core::owner::Owner;
use sapwood_core::testing::Table;
use sapwood_core::wait::{Closely, Prices, WaitPolicy, Waiter};

use super::{Bound, Model};
use crate::explore;
use crate::family::Loom;
use crate::guarded::Guarded;
use crate::guarded::jobs::{Handle, attach, desk};

struct Queue {
    table: Table<Loom, u64, u64>,
    front: Front<Loom>,
    /// The value of the job that is in the table.
    value: Guarded<u64>,
}

struct Immortal;

impl Peers for Immortal {
    fn alive(&mut self, _: Owner) -> bool {
        true
    }
}

/// Epochs of the bells and positions of the table lie before their wrap.
const LAST: u32 = u32::MAX >> 1;

impl Queue {
    fn new(slots: usize) -> Arc<Queue> {
        let table = Table::new(slots, u64::MAX, 0, 0).expect("a power of two");
        Arc::new(Queue { table, front: Front::new(LAST), value: Guarded::new(0) })
    }

    fn handle(&self, seat: u32) -> Handle {
        attach(&self.table, Owner::new(seat, 1), Attempts::of(3).expect("a number"))
    }

    fn submit(&self, h: &mut Handle, job: u64) {
        h.submit(job, &mut Immortal).expect("there is room");
        self.front.ring_after_submit();
    }

    fn look(&self, closely: Closely, h: &mut Handle) -> Look<Taken<u64>, TakeError> {
        let held = |h: &Handle| {
            let census = h.census();
            census.filling + census.waiting + census.claimed > 0
        };
        self.front.look(closely, h, |h, closely| h.take_looking(closely, &mut Immortal), held)
    }

    /// Waits for a job; `None`: it is over.
    fn take(&self, h: &mut Handle) -> Option<Taken<u64>> {
        let mut last = self.look(Closely::Glance, h);
        wait(self.front.work(), |closely| {
            if matches!(last, Look::Nothing(_)) {
                last = self.look(closely, h);
            }
            !matches!(last, Look::Nothing(_))
        });
        match last {
            Look::Got(taken) => Some(taken),
            Look::Over => None,
            Look::Nothing(e) => panic!("waited until there is something: {e}"),
        }
    }

    fn finish(&self, h: &Handle, taken: Taken<u64>) {
        let answer = taken.job + 100;
        desk(h).finish(taken, answer).expect("ours");
        self.front.ring_after_job(false);
    }

    fn give_up(&self, h: &Handle, taken: Taken<u64>) {
        assert_eq!(desk(h).give_up(taken).ok(), Some(false));
        self.front.ring_after_job(true);
    }

    /// Waits for an answer.
    fn answer(&self, h: &mut Handle) -> u64 {
        let mut got = None;
        wait(self.front.answers(), |_| {
            got = got.take().or_else(|| h.collect());
            got.is_some()
        });
        match got {
            Some(Collected { outcome: Outcome::Answer(a), .. }) => a,
            other => panic!("{other:?}"),
        }
    }
}

fn wait(bell: &Doorbell<Loom>, ready: impl FnMut(Closely) -> bool) {
    let mut waiter = Waiter::new(WaitPolicy::Sleep, Prices { spin: 1, give_way: 1, wake: 1 }, true);
    let waited: Result<(), ()> = waiter.wait_looking(bell, ready, || false, |_| Ok(u64::MAX));
    assert_eq!(waited, Ok(()));
}

/// A job wakes a worker, its answer wakes the owner.
fn round_trip(jobs: u64, bound: Bound) -> u64 {
    explore(bound, move || {
        let queue = Queue::new(1);
        let mut owner = queue.handle(0);
        let worker = {
            let q = queue.clone();
            thread::spawn(move || {
                let mut h = q.handle(1);
                (0..jobs).for_each(|_| {
                    let taken = q.take(&mut h).expect("a job");
                    q.finish(&h, taken);
                });
            })
        };
        for job in 1..=jobs {
            queue.submit(&mut owner, job);
            assert_eq!(queue.answer(&mut owner), job + 100);
        }
        worker.join().expect("it is woken");
    })
}

/// The owner submits, closes, and is gone; what it has submitted is done before the worker is told.
fn closed_behind_a_job(left: bool, bound: Bound) -> u64 {
    explore(bound, move || {
        let queue = Queue::new(1);
        let worker = {
            let q = queue.clone();
            thread::spawn(move || {
                let mut h = q.handle(1);
                let mut done = 0;
                while let Some(taken) = q.take(&mut h) {
                    q.finish(&h, taken);
                    done += 1;
                }
                done
            })
        };
        let mut owner = queue.handle(0);
        queue.submit(&mut owner, 1);
        queue.front.close(left);
        assert_eq!(worker.join().expect("it is told"), 1, "a job that waited was not handed out");
    })
}

/// Two workers: while one holds the last job, the other waits behind the closed door. `gives_up`: until it comes back.
fn the_last_job(gives_up: bool, closed_first: bool, bound: Bound) -> u64 {
    explore(bound, move || {
        let queue = Queue::new(1);
        let (mut owner, mut first) = (queue.handle(0), queue.handle(1));
        queue.submit(&mut owner, 1);
        let taken = first.take(&mut Immortal).expect("a job");
        if closed_first {
            queue.front.close(false);
        }
        let other = {
            let q = queue.clone();
            thread::spawn(move || {
                let mut h = q.handle(2);
                let mut done = 0;
                while let Some(taken) = q.take(&mut h) {
                    assert_eq!((taken.job, taken.attempts), (1, 1));
                    assert_eq!(q.value.get(), 7, "what came with the job");
                    q.finish(&h, taken);
                    done += 1;
                }
                done
            })
        };
        let holder = {
            let q = queue.clone();
            thread::spawn(move || {
                if gives_up {
                    q.value.set(7);
                    q.give_up(&first, taken);
                } else {
                    q.finish(&first, taken);
                }
            })
        };
        if !closed_first {
            queue.front.close(false);
        }
        holder.join().expect("it ends its job");
        assert_eq!(other.join().expect("it is told"), u32::from(gives_up));
        assert_eq!(queue.answer(&mut owner), 101);
        queue.value.set(8);
    })
}

/// A job has come back, or does so, when the owner leaves: whoever looks after that is handed it before he is told.
fn left_behind_one_that_came_back(bound: Bound) -> u64 {
    explore(bound, || {
        let queue = Queue::new(1);
        let (mut owner, mut first) = (queue.handle(0), queue.handle(1));
        queue.submit(&mut owner, 1);
        let taken = first.take(&mut Immortal).expect("a job");
        let other = {
            let q = queue.clone();
            thread::spawn(move || {
                let mut h = q.handle(2);
                let mut done = 0;
                while let Some(taken) = q.take(&mut h) {
                    q.finish(&h, taken);
                    done += 1;
                }
                done
            })
        };
        queue.give_up(&first, taken);
        queue.front.close(true);
        assert_eq!(other.join().expect("it is told"), 1, "a job that waited was not handed out");
    })
}

/// A job comes back to a worker that sleeps, before anybody closes.
fn given_back(bound: Bound) -> u64 {
    explore(bound, || {
        let queue = Queue::new(1);
        let (mut owner, mut first) = (queue.handle(0), queue.handle(1));
        queue.submit(&mut owner, 1);
        let taken = first.take(&mut Immortal).expect("a job");
        let other = {
            let q = queue.clone();
            thread::spawn(move || {
                let mut h = q.handle(2);
                let taken = q.take(&mut h).expect("it comes back");
                assert_eq!((taken.attempts, q.value.get()), (1, 7));
                q.value.set(9);
                q.finish(&h, taken);
            })
        };
        queue.value.set(7);
        queue.give_up(&first, taken);
        assert_eq!(queue.answer(&mut owner), 101);
        assert_eq!(queue.value.get(), 9);
        other.join().expect("it is woken");
    })
}

/// A job takes long; it is stepped over while its worker gives it up. No place is lost, and it is done by another.
fn given_up_while_stepped_over(bound: Bound) -> u64 {
    explore(bound, || {
        let queue = Queue::new(2);
        let (mut h, mut slow) = (queue.handle(0), queue.handle(1));
        queue.submit(&mut h, 1);
        let long = slow.take(&mut Immortal).expect("a job");
        queue.submit(&mut h, 2);
        let second = h.take(&mut Immortal).expect("a job");
        queue.finish(&h, second);
        assert_eq!(queue.answer(&mut h), 102);
        let giving = {
            let q = queue.clone();
            thread::spawn(move || q.give_up(&slow, long))
        };
        // Comes round to the slot of the long one.
        queue.submit(&mut h, 3);
        giving.join().expect("it gives it up");
        let mut worked = Vec::new();
        while let Ok(taken) = h.take(&mut Immortal) {
            worked.push((taken.job, taken.attempts));
            queue.finish(&h, taken);
        }
        worked.sort_unstable();
        assert_eq!(worked, [(1, 1), (3, 0)]);
        let mut got = [queue.answer(&mut h), queue.answer(&mut h)];
        got.sort_unstable();
        assert_eq!(got, [101, 103]);
        for job in [4, 5] {
            h.submit(job, &mut Immortal).expect("no place is lost");
        }
        let both = [h.take(&mut Immortal), h.take(&mut Immortal)].map(|t| t.expect("a job").job);
        assert_eq!(both, [4, 5], "in order");
    })
}

/// All models of queues.
pub fn all() -> Vec<Model> {
    vec![
        Model::new("a job wakes a worker, its answer the owner", 3, &[Some(4)], |b| round_trip(1, b)),
        Model::new("two jobs in turn", 2, &[Some(3)], |b| round_trip(2, b)),
        Model::new("closed behind a job", 3, &[Some(4)], |b| closed_behind_a_job(false, b)),
        Model::new("left behind a job", 3, &[Some(4)], |b| closed_behind_a_job(true, b)),
        Model::new("left behind a job that came back", 3, &[Some(4)], left_behind_one_that_came_back),
        Model::new("a job comes back to who sleeps", 3, &[Some(4)], given_back),
        Model::new("the last job ends behind a closed door", 3, &[Some(5)], |b| the_last_job(false, true, b)),
        Model::new("the last job ends while the door closes", 2, &[Some(3)], |b| {
            the_last_job(false, false, b)
        }),
        Model::new("the last job comes back behind a closed door", 3, &[Some(5)], |b| {
            the_last_job(true, true, b)
        }),
        Model::new("the last job comes back while the door closes", 2, &[Some(3)], |b| {
            the_last_job(true, false, b)
        }),
        Model::new("a job is given up while it is stepped over", 3, &[Some(4)], given_up_while_stepped_over),
    ]
}
