//! The rings: of one to one, of many, the newest value, frames, jobs.

use std::sync::Arc;

use sapwood_shm::ring::{frames, jobs, latest, mpmc, spsc};
use sapwood_shm::{Error, Segment, Spec};

use super::{Object, SEATS, World};

pub(crate) type Value = [u64; 3];
const CAPACITY: usize = 4;
const BYTES: usize = 100;

/// A ring of many to many.
pub(crate) struct Many(mpmc::Ring<Value>);

impl Object for Many {
    fn spec() -> Result<Spec, Error> {
        mpmc::spec::<Value>(CAPACITY, SEATS)
    }

    fn attach(segment: &Arc<Segment>, _: usize) -> Result<Self, Error> {
        mpmc::Ring::attach(segment, CAPACITY).map(Many)
    }

    fn step(&mut self, world: &mut World<'_>) {
        let ring = &mut self.0;
        match world.input.u8() % 16 {
            0..6 => drop(world.said("push", ring.try_push([7; 3]))),
            6..11 => drop(world.said("pop", ring.try_pop())),
            11..13 => {
                let popped = ring.try_pop_with(|value| {
                    world.meddle();
                    value
                });
                world.said("pop with", popped);
            }
            13 => assert!(ring.others() < SEATS && ring.seat() < SEATS),
            14 => drop((ring.stats(), ring.is_closed(), ring.is_empty())),
            _ if world.input.u8() == 1 => ring.close(),
            _ => {}
        }
        assert!(ring.len() <= CAPACITY);
    }

    fn works(handles: &mut [Self]) {
        for i in 0..2 * CAPACITY as u64 {
            assert_eq!(handles[0].0.try_push([i; 3]), Ok(()));
            assert_eq!(handles[1].0.try_pop(), Ok([i; 3]));
        }
    }
}

/// Frames by themselves.
pub(crate) struct Loans(frames::Frames);

impl Object for Loans {
    fn spec() -> Result<Spec, Error> {
        frames::spec(CAPACITY, BYTES, SEATS)
    }

    fn attach(segment: &Arc<Segment>, _: usize) -> Result<Self, Error> {
        frames::Frames::attach(segment, CAPACITY, BYTES).map(Loans)
    }

    fn step(&mut self, world: &mut World<'_>) {
        let most = self.0.bytes();
        match world.input.u8() % 16 {
            0..7 => {
                let loan = self.0.loan();
                let Some(mut loan) = world.said("loan", loan) else { return };
                assert_eq!(loan.len(), most);
                loan.fill(world.input.u8());
                world.meddle();
                let len = world.input.below(most + 1);
                match world.input.u8() % 8 {
                    // A writer that is stopped.
                    0 => std::mem::forget(loan),
                    1 => drop(loan),
                    _ => drop(world.said("send", loan.send(len))),
                }
            }
            7..14 => {
                let message = self.0.receive();
                let Some(message) = world.said("receive", message) else { return };
                assert!(message.len() <= most, "{} bytes of a frame of {most}", message.len());
                world.meddle();
                read(&message);
                // A reader that is stopped.
                if world.input.u8() % 8 == 1 {
                    std::mem::forget(message);
                }
            }
            14 => {
                assert!(
                    self.0.len() <= CAPACITY + SEATS && self.0.frames() == CAPACITY && self.0.seat() < SEATS
                );
                let _ = (self.0.stats(), self.0.is_closed(), self.0.is_empty());
            }
            _ if world.input.u8() == 1 => self.0.close(),
            _ => {}
        }
    }

    fn works(handles: &mut [Self]) {
        for i in 0..2 * CAPACITY {
            let mut loan = handles[0].0.loan().expect("a frame is free");
            loan.fill(i as u8);
            loan.send(BYTES).expect("there is room");
            let message = handles[1].0.receive().expect("it was sent");
            assert_eq!(message[..], [i as u8; BYTES]);
        }
    }
}

/// Every byte is read.
pub(crate) fn read(bytes: &[u8]) {
    let sum: u64 = bytes.iter().map(|b| u64::from(*b)).sum();
    assert!(std::hint::black_box(sum) <= 255 * bytes.len() as u64);
}

/// A table of jobs, and what this handle has taken of it.
pub(crate) struct Work(jobs::Jobs<u64, [u64; 2]>, Vec<jobs::Taken<u64>>);

impl Object for Work {
    fn spec() -> Result<Spec, Error> {
        jobs::spec::<u64, [u64; 2]>(CAPACITY, SEATS, 3)
    }

    fn attach(segment: &Arc<Segment>, _: usize) -> Result<Self, Error> {
        jobs::Jobs::attach(segment, CAPACITY, 3).map(|jobs| Work(jobs, Vec::new()))
    }

    fn step(&mut self, world: &mut World<'_>) {
        let Work(jobs, taken) = self;
        match world.input.u8() % 16 {
            0..5 => drop(world.said("submit", jobs.submit(7))),
            5..8 if taken.len() < CAPACITY => taken.extend(world.said("take", jobs.take())),
            5..8 => taken.clear(),
            8..11 => {
                if let Some(job) = taken.pop() {
                    world.said("finish", jobs.finish(job, [7; 2]));
                }
            }
            11 => {
                if let Some(job) = taken.pop() {
                    world.said("decline", jobs.decline(job));
                }
            }
            12..14 => drop(jobs.collect()),
            14 => drop(jobs.recover_dead()),
            _ => {
                let census = jobs.census();
                assert!(census.in_flight() as usize <= CAPACITY && jobs.seat() < SEATS);
                let _ = jobs.stats();
            }
        }
    }

    fn works(handles: &mut [Self]) {
        for i in 0..2 * CAPACITY as u64 {
            let ticket = handles[0].0.submit(i).expect("there is room");
            let taken = handles[1].0.take().expect("it was submitted");
            assert_eq!(taken.job, i);
            handles[1].0.finish(taken, [i; 2]).expect("it is held");
            let answer = handles[0].0.collect().expect("it is over");
            assert_eq!((answer.ticket, answer.outcome), (ticket, jobs::Outcome::Answer([i; 2])));
        }
    }
}

/// A ring of one to one.
pub(crate) enum Pair {
    Tx(spsc::Producer<Value>),
    Rx(spsc::Consumer<Value>),
}

/// Of the newest value.
pub(crate) enum Newest {
    Tx(latest::Writer<[u64; 9]>),
    Rx(latest::Reader<[u64; 9]>),
}

impl Object for Pair {
    const HANDLES: usize = 2;

    fn spec() -> Result<Spec, Error> {
        spsc::spec::<Value>(8)
    }

    fn attach(segment: &Arc<Segment>, i: usize) -> Result<Self, Error> {
        match i {
            0 => spsc::Producer::attach(segment, 8).map(Pair::Tx),
            _ => spsc::Consumer::attach(segment, 8).map(Pair::Rx),
        }
    }

    fn step(&mut self, world: &mut World<'_>) {
        let (what, many) = (world.input.u8() % 8, world.input.below(12));
        match self {
            Pair::Tx(tx) => {
                match what {
                    0..4 => drop(world.said("push", tx.try_push([7; 3]))),
                    4..7 => {
                        let pushed = world.said("push slice", tx.push_slice(&[[3; 3]; 12][..many]));
                        assert!(pushed.is_none_or(|n| n <= many));
                    }
                    _ => drop((tx.has_room(), tx.is_closed(), tx.peer(), tx.is_empty())),
                }
                assert!(tx.len() <= tx.capacity());
            }
            Pair::Rx(rx) => match what {
                0..4 => drop(world.said("pop", rx.try_pop())),
                4..7 => {
                    let popped = world.said("pop slice", rx.pop_slice(&mut [[0; 3]; 12][..many]));
                    assert!(popped.is_none_or(|n| n <= many));
                }
                _ => drop((rx.has_next(), rx.is_closed(), rx.peer())),
            },
        }
    }

    fn go(self, world: &mut World<'_>) {
        match self {
            _ if world.input.u8() % 4 == 3 => {}
            Pair::Tx(tx) => tx.leave(),
            Pair::Rx(rx) => rx.leave(),
        }
    }

    fn works(handles: &mut [Self]) {
        let [Pair::Tx(tx), Pair::Rx(rx)] = handles else { unreachable!("as they were attached") };
        for i in 0..20 {
            assert_eq!((tx.try_push([i; 3]), rx.try_pop()), (Ok(()), Ok([i; 3])));
        }
    }
}

impl Object for Newest {
    fn spec() -> Result<Spec, Error> {
        Ok(latest::spec::<[u64; 9]>())
    }

    fn attach(segment: &Arc<Segment>, i: usize) -> Result<Self, Error> {
        match i {
            0 => latest::Writer::attach(segment).map(Newest::Tx),
            _ => latest::Reader::attach(segment).map(Newest::Rx),
        }
    }

    fn step(&mut self, world: &mut World<'_>) {
        let what = world.input.u8() % 8;
        match self {
            Newest::Tx(tx) if what == 0 => drop(tx.published()),
            Newest::Tx(tx) => drop(world.said("publish", tx.publish(&[9; 9]))),
            Newest::Rx(rx) if what == 0 => drop((rx.published(), rx.peer())),
            Newest::Rx(rx) => drop(world.said("read", rx.read())),
        }
    }

    fn works(handles: &mut [Self]) {
        let [Newest::Tx(tx), Newest::Rx(rx), _] = handles else { unreachable!("as they were attached") };
        for i in 1..10 {
            assert_eq!((tx.publish(&[i; 9]), rx.read()), (Ok(i), Ok((i, [i; 9]))));
        }
    }
}
