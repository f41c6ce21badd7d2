//! Channels of values and of frames, and a workqueue.

use std::sync::Arc;

use sapwood_shm::channel::{self, Channel, FrameChannel, FrameChannelBuilder};
use sapwood_shm::queue::{Job, Outcome, Owner, WorkQueue, Worker};
use sapwood_shm::{Error, Segment, Spec};

use super::rings::{Value, read};
use super::{NOW, Object, SEATS, World};

const CAPACITY: usize = 4;
const BYTES: usize = 100;
/// Messages at a time: those of the dead are delivered first, and one may be of each seat.
const MOST: usize = CAPACITY + SEATS;

/// A channel of values.
pub(crate) struct Values(Channel<Value>);

impl Object for Values {
    fn spec() -> Result<Spec, Error> {
        channel::spec::<Value>(CAPACITY, SEATS)
    }

    fn attach(segment: &Arc<Segment>, _: usize) -> Result<Self, Error> {
        Channel::attach(segment, CAPACITY).map(|c| Values(c.with_deadline(NOW)))
    }

    fn step(&mut self, world: &mut World<'_>) {
        let (c, what) = (&mut self.0, world.input.u8());
        let (many, mut some) = (usize::from(what >> 4), Vec::new());
        match what & 15 {
            0..3 => drop(world.said("send", c.send([7; 3]))),
            3..5 => drop(world.said("try send", c.try_send([7; 3]))),
            5 => drop(world.said("send all", c.send_all([[5; 3]; 16].into_iter().take(many)))),
            6..9 => drop(world.said("recv", c.recv())),
            9..11 => drop(world.said("try recv", c.try_recv())),
            11 => drop(world.said("batch", c.recv_batch_timeout(&mut some, many, NOW))),
            12 => drop(world.said("try batch", c.try_recv_batch(&mut some, many))),
            13 => {
                let got = world.said("slice", c.recv_slice(&mut [[0; 3]; 16][..many]));
                assert!(got.is_none_or(|n| n <= many));
            }
            14 => drop((c.state(), c.is_closed(), c.is_empty(), c.stats(), c.seat())),
            _ if many == 1 => c.close(),
            _ => {
                if let Some(other) = world.said("clone", c.try_clone()) {
                    *c = other.with_deadline(NOW);
                }
            }
        }
        assert!(some.len() <= many && c.len() <= MOST, "{} of {many}; {}", some.len(), c.len());
    }

    fn works(handles: &mut [Self]) {
        for i in 0..2 * CAPACITY as u64 {
            assert_eq!(handles[0].0.send([i; 3]), Ok(()));
            assert_eq!(handles[1].0.recv(), Ok([i; 3]));
        }
    }
}

/// A channel of frames; those of dead readers are delivered again, if `AGAIN`.
pub(crate) struct Frames<const AGAIN: bool>(FrameChannel);

impl<const AGAIN: bool> Frames<AGAIN> {
    fn plan() -> FrameChannelBuilder {
        let plan = FrameChannel::builder(CAPACITY, BYTES).participants(SEATS);
        if AGAIN { plan.redelivering() } else { plan }
    }
}

impl<const AGAIN: bool> Object for Frames<AGAIN> {
    fn spec() -> Result<Spec, Error> {
        Self::plan().spec()
    }

    fn attach(segment: &Arc<Segment>, _: usize) -> Result<Self, Error> {
        Self::plan().attach(segment).map(|c| Frames(c.with_deadline(NOW)))
    }

    fn step(&mut self, world: &mut World<'_>) {
        let (c, what) = (&mut self.0, world.input.u8());
        let most = c.bytes();
        match what & 15 {
            0..4 => {
                let loan = if what & 16 == 0 { c.try_loan() } else { c.loan() };
                let Some(mut frame) = world.said("loan", loan) else { return };
                assert_eq!(frame.len(), most);
                frame.fill(what);
                world.meddle();
                let len = world.input.below(most + 1);
                match what >> 5 {
                    // A sender that is stopped.
                    7 => std::mem::forget(frame),
                    6 => drop(frame),
                    _ => drop(world.said("send", frame.send(len))),
                }
            }
            4..8 => {
                let received = if what & 16 == 0 { c.try_recv() } else { c.recv() };
                let Some(frame) = world.said("recv", received) else { return };
                assert!(frame.len() <= most, "{} bytes of a frame of {most}", frame.len());
                world.meddle();
                read(&frame);
                // A receiver that is stopped.
                if what >> 5 == 7 {
                    std::mem::forget(frame);
                }
            }
            8..10 => drop(world.said("send value", c.send_value(&vec![u64::from(what); 9]))),
            10 => drop(world.said("send text", c.send_value("text"))),
            11 => drop(world.said("recv value", c.recv_value::<Vec<u64>>())),
            12 => drop(world.said("recv text", c.recv_value::<String>())),
            13 => {
                let _ = (c.state(), c.is_closed(), c.is_empty(), c.stats());
                assert!(c.len() <= MOST && c.seat() < SEATS);
            }
            14 => {
                if let Some(other) = world.said("clone", c.try_clone()) {
                    *c = other.with_deadline(NOW);
                }
            }
            _ if what >> 4 == 1 => c.close(),
            _ => {}
        }
    }

    fn works(handles: &mut [Self]) {
        for i in 0..2 * CAPACITY as u64 {
            handles[0].0.send_value(&[i; 5]).expect("there is room");
            assert_eq!(handles[1].0.recv_value::<[u64; 5]>().expect("it was sent"), [i; 5]);
        }
    }
}

type Answer = [u64; 2];

/// An end of a workqueue; a worker with the jobs that it has.
pub(crate) enum Queue {
    Owner(Owner<u64, Answer>),
    Worker(Worker<u64, Answer>, Vec<Job<u64, Answer>>),
}

fn queue() -> WorkQueue<u64, Answer> {
    WorkQueue::new(CAPACITY).workers(3)
}

impl Object for Queue {
    fn spec() -> Result<Spec, Error> {
        queue().spec()
    }

    fn attach(segment: &Arc<Segment>, i: usize) -> Result<Self, Error> {
        match i {
            0 => queue().attach_owner(segment).map(|owner| Queue::Owner(owner.with_deadline(NOW))),
            _ => queue().attach(segment).map(|worker| Queue::Worker(worker.with_deadline(NOW), Vec::new())),
        }
    }

    fn step(&mut self, world: &mut World<'_>) {
        match self {
            Queue::Owner(owner) => step_of_owner(owner, world),
            Queue::Worker(worker, jobs) => step_of_worker(worker, jobs, world),
        }
    }

    fn go(self, world: &mut World<'_>) {
        if let Queue::Worker(worker, jobs) = self {
            // Jobs may outlive their worker.
            drop(worker);
            for job in jobs {
                world.meddle();
                drop(job);
            }
        }
    }

    fn works(handles: &mut [Self]) {
        let [Queue::Owner(owner), Queue::Worker(worker, _), _] = handles else {
            unreachable!("as they were attached")
        };
        for i in 0..2 * CAPACITY as u64 {
            let ticket = owner.submit(i).expect("there is room");
            let job = worker.take().expect("it was submitted");
            assert_eq!(*job, i);
            job.finish([i; 2]).expect("it is held");
            let answer = owner.recv().expect("it is over");
            assert_eq!((answer.ticket, answer.outcome), (ticket, Outcome::Answer([i; 2])));
        }
    }
}

fn step_of_owner(owner: &mut Owner<u64, Answer>, world: &mut World<'_>) {
    let what = world.input.u8();
    match what & 15 {
        0..4 => drop(world.said("submit", owner.submit(7))),
        4..6 => drop(world.said("try submit", owner.try_submit(8))),
        6..9 => drop(world.said("recv", owner.recv())),
        9..11 => drop(world.said("try recv", owner.try_recv())),
        11..13 => drop(world.said("drain", owner.drain())),
        13 if what >> 4 == 1 => owner.close(),
        _ => {
            let _ = (owner.pending(), owner.stats());
            assert!(owner.workers() <= 4 && owner.capacity() == CAPACITY);
        }
    }
}

fn step_of_worker(worker: &mut Worker<u64, Answer>, jobs: &mut Vec<Job<u64, Answer>>, world: &mut World<'_>) {
    let what = world.input.u8();
    match what & 15 {
        0..4 => jobs.extend(world.said("take", worker.take())),
        4..7 => jobs.extend(world.said("try take", worker.try_take())),
        7..11 => {
            if let Some(job) = jobs.pop() {
                world.said("finish", job.finish([7; 2]));
            }
        }
        11 => {
            if let Some(job) = jobs.pop() {
                world.said("decline", job.decline());
            }
        }
        12..14 => drop(jobs.pop()),
        _ => {
            if let Some(other) = world.said("clone", worker.try_clone()) {
                *worker = other.with_deadline(NOW);
            }
        }
    }
    if jobs.len() > CAPACITY {
        drop(jobs.remove(0));
    }
}
