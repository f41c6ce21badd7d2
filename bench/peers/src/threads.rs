//! Queues between threads. In the rows of rings every end tries and, where that fails, spins (one to one) or yields
//! (two to two): none of them sleeps, which no queue's own waiting beats while all threads run. In the rows of channels
//! it calls what waits by itself.

use crate::flow::channels::{self, Channel, Many, Receiver, Sender};
use crate::flow::jobs::{self, Pair};
use crate::flow::threads::{Ring, SharedRing, one_to_one, two_to_two};
use crate::flow::words::{Pop, Push};
use crate::flow::{Failure, Said};
use crate::{Entry, Peer, Place};

#[allow(dead_code)] // where all such peers are left out
const ONE_TO_ONE: &str = "pingpong,spsc";
#[allow(dead_code)] // the same
const ALL: &str = "pingpong,spsc,mpmc";
const ALL_AND_WAITING: &str = "pingpong,spsc,mpmc,wait_pingpong,wait_mpmc,wait_jobs";
const ONE_TO_ONE_AND_WAITING: &str = "pingpong,spsc,wait_pingpong";

/// Runs the orders on one kind of queue.
struct Threads {
    ranks: usize,
    waiting: Option<fn(&str, usize, u64) -> Result<Said, Failure>>,
    one_to_one: fn(&str, u64) -> Result<Said, Failure>,
    two_to_two: Option<fn(u64) -> Result<Said, Failure>>,
}

impl Peer for Threads {
    fn obey(&mut self, bench: &str, _bytes: usize, n: u64) -> Result<Said, Failure> {
        match (bench, self.two_to_two, self.waiting) {
            ("mpmc", Some(run), _) => run(n),
            (bench, _, Some(run)) if bench.starts_with("wait_") => run(bench, self.ranks, n),
            _ => (self.one_to_one)(bench, n),
        }
    }
}

#[allow(dead_code)] // where all such peers are left out
fn pair<R: Ring>(place: &Place<'_>) -> Result<Box<dyn Peer>, Failure> {
    let (ranks, one_to_one) = (place.ranks, one_to_one::<R>);
    Ok(Box::new(Threads { ranks, waiting: None, one_to_one, two_to_two: None }))
}

/// One that can wait, of one to one.
fn waiting_pair<R: Ring + Channel>(place: &Place<'_>) -> Result<Box<dyn Peer>, Failure> {
    let waiting = |order: &str, ranks, n| match order {
        "wait_pingpong" => channels::pingpong::<R>(ranks, n),
        other => Err(format!("no bench {other} on a channel with one receiver").into()),
    };
    let (ranks, one_to_one) = (place.ranks, one_to_one::<R>);
    Ok(Box::new(Threads { ranks, waiting: Some(waiting), one_to_one, two_to_two: None }))
}

#[allow(dead_code)] // the same
fn many<R: Ring + SharedRing>(place: &Place<'_>) -> Result<Box<dyn Peer>, Failure> {
    let (ranks, one_to_one) = (place.ranks, one_to_one::<R>);
    Ok(Box::new(Threads { ranks, waiting: None, one_to_one, two_to_two: Some(two_to_two::<R>) }))
}

#[allow(dead_code)] // the same
fn waiting_many<R: Ring + SharedRing + Many>(place: &Place<'_>) -> Result<Box<dyn Peer>, Failure> {
    let waiting = |order: &str, ranks, n| match order {
        "wait_pingpong" => channels::pingpong::<R>(ranks, n),
        "wait_mpmc" => channels::two_to_two::<R>(n),
        "wait_jobs" => jobs::jobs::<Pair<R>>(ranks, n),
        other => Err(format!("no bench {other} on a channel").into()),
    };
    let (ranks, one_to_one) = (place.ranks, one_to_one::<R>);
    Ok(Box::new(Threads { ranks, waiting: Some(waiting), one_to_one, two_to_two: Some(two_to_two::<R>) }))
}

/// A queue whose ends are these types, made by this expression, with these two calls.
macro_rules! queue {
    ($name:ident, $tx:ty, $rx:ty, $ring:expr, |$to:ident, $word:ident| $push:expr, |$from:ident| $pop:expr) => {
        struct $name;
        impl Push for $tx {
            #[inline(always)]
            fn try_push(&mut self, $word: u64) -> bool {
                let $to = self;
                $push
            }
        }
        impl Pop for $rx {
            #[inline(always)]
            fn try_pop(&mut self) -> Option<u64> {
                let $from = self;
                $pop
            }
        }
        impl Ring for $name {
            type Tx = $tx;
            type Rx = $rx;
            fn ring(capacity: usize) -> Result<($tx, $rx), Failure> {
                let make: fn(usize) -> ($tx, $rx) = $ring;
                Ok(make(capacity))
            }
        }
    };
}

/// Ends that can be cloned serve two to two.
#[allow(unused_macros)]
macro_rules! shared {
    ($name:ident, $tx:ty, $rx:ty) => {
        impl SharedRing for $name {
            type Tx = $tx;
            type Rx = $rx;
            fn ring(capacity: usize) -> Result<([$tx; 2], [$rx; 2]), Failure> {
                let (tx, rx) = <$name as Ring>::ring(capacity)?;
                Ok(([tx.clone(), tx], [rx.clone(), rx]))
            }
        }
    };
}

/// The calls of a queue's ends that wait by themselves: all of these are called `send` and `recv`.
macro_rules! waits {
    ($name:ident, $tx:ty, $rx:ty) => {
        impl Sender for $tx {
            #[inline(always)]
            fn send(&mut self, word: u64) -> Result<(), Failure> {
                Ok(<$tx>::send(self, word)?)
            }
        }
        impl Receiver for $rx {
            #[inline(always)]
            fn recv(&mut self) -> Result<u64, Failure> {
                Ok(<$rx>::recv(self)?)
            }
        }
        impl Channel for $name {
            type Tx = $tx;
            type Rx = $rx;
            fn channel(capacity: usize) -> Result<($tx, $rx), Failure> {
                <$name as Ring>::ring(capacity)
            }
        }
    };
}

/// The same where ends can be cloned.
#[allow(unused_macros)]
macro_rules! waits_shared {
    ($name:ident, $tx:ty, $rx:ty) => {
        waits!($name, $tx, $rx);
        impl Many for $name {
            fn another_tx(tx: &$tx) -> Result<$tx, Failure> {
                Ok(tx.clone())
            }
            fn another_rx(rx: &$rx) -> Result<$rx, Failure> {
                Ok(rx.clone())
            }
        }
    };
}

#[cfg(feature = "rtrb")]
queue!(
    Rtrb,
    rtrb::Producer<u64>,
    rtrb::Consumer<u64>,
    rtrb::RingBuffer::new,
    |to, word| to.push(word).is_ok(),
    |from| from.pop().ok()
);

#[cfg(feature = "ringbuf")]
mod ringbuf_ends {
    use ringbuf::traits::{Consumer, Producer, Split};
    use ringbuf::{CachingCons, CachingProd, HeapRb};

    pub(super) type Shared = std::sync::Arc<HeapRb<u64>>;
    pub(super) struct Tx(CachingProd<Shared>);
    pub(super) struct Rx(CachingCons<Shared>);

    impl Tx {
        #[inline(always)]
        pub(super) fn push(&mut self, word: u64) -> bool {
            self.0.try_push(word).is_ok()
        }
    }

    impl Rx {
        #[inline(always)]
        pub(super) fn pop(&mut self) -> Option<u64> {
            self.0.try_pop()
        }
    }

    pub(super) fn ring(capacity: usize) -> (Tx, Rx) {
        let (tx, rx) = HeapRb::new(capacity).split();
        (Tx(tx), Rx(rx))
    }
}
#[cfg(feature = "ringbuf")]
queue!(Ringbuf, ringbuf_ends::Tx, ringbuf_ends::Rx, ringbuf_ends::ring, |to, word| to.push(word), |from| {
    from.pop()
});

#[cfg(feature = "crossbeam-channel")]
queue!(
    Crossbeam,
    crossbeam_channel::Sender<u64>,
    crossbeam_channel::Receiver<u64>,
    crossbeam_channel::bounded,
    |to, word| to.try_send(word).is_ok(),
    |from| from.try_recv().ok()
);
#[cfg(feature = "crossbeam-channel")]
shared!(Crossbeam, crossbeam_channel::Sender<u64>, crossbeam_channel::Receiver<u64>);
#[cfg(feature = "crossbeam-channel")]
waits_shared!(Crossbeam, crossbeam_channel::Sender<u64>, crossbeam_channel::Receiver<u64>);

#[cfg(feature = "kanal")]
queue!(
    Kanal,
    kanal::Sender<u64>,
    kanal::Receiver<u64>,
    kanal::bounded,
    |to, word| to.try_send(word).is_ok_and(|sent| sent),
    |from| from.try_recv().ok().flatten()
);
#[cfg(feature = "kanal")]
shared!(Kanal, kanal::Sender<u64>, kanal::Receiver<u64>);
#[cfg(feature = "kanal")]
waits_shared!(Kanal, kanal::Sender<u64>, kanal::Receiver<u64>);

#[cfg(feature = "flume")]
queue!(
    Flume,
    flume::Sender<u64>,
    flume::Receiver<u64>,
    flume::bounded,
    |to, word| to.try_send(word).is_ok(),
    |from| from.try_recv().ok()
);
#[cfg(feature = "flume")]
shared!(Flume, flume::Sender<u64>, flume::Receiver<u64>);
#[cfg(feature = "flume")]
waits_shared!(Flume, flume::Sender<u64>, flume::Receiver<u64>);

#[cfg(feature = "concurrent-queue")]
mod queue_ends {
    use std::sync::Arc;

    #[derive(Clone)]
    pub(super) struct Tx(pub(super) Arc<concurrent_queue::ConcurrentQueue<u64>>);
    #[derive(Clone)]
    pub(super) struct Rx(pub(super) Arc<concurrent_queue::ConcurrentQueue<u64>>);

    pub(super) fn ring(capacity: usize) -> (Tx, Rx) {
        let queue = Arc::new(concurrent_queue::ConcurrentQueue::bounded(capacity));
        (Tx(queue.clone()), Rx(queue))
    }
}
#[cfg(feature = "concurrent-queue")]
queue!(Queue, queue_ends::Tx, queue_ends::Rx, queue_ends::ring, |to, word| to.0.push(word).is_ok(), |from| {
    from.0.pop().ok()
});
#[cfg(feature = "concurrent-queue")]
shared!(Queue, queue_ends::Tx, queue_ends::Rx);

queue!(
    Std,
    std::sync::mpsc::SyncSender<u64>,
    std::sync::mpsc::Receiver<u64>,
    std::sync::mpsc::sync_channel,
    |to, word| to.try_send(word).is_ok(),
    |from| from.try_recv().ok()
);

waits!(Std, std::sync::mpsc::SyncSender<u64>, std::sync::mpsc::Receiver<u64>);

type Join = fn(&Place<'_>) -> Result<Box<dyn Peer>, Failure>;

pub(crate) fn entries() -> Vec<Entry> {
    let entry = |kind, package, orders, join: Join| Entry { kind, package, threads: true, orders, join };
    vec![
        #[cfg(feature = "rtrb")]
        entry("rtrb", Some("rtrb"), ONE_TO_ONE, pair::<Rtrb>),
        #[cfg(feature = "ringbuf")]
        entry("ringbuf", Some("ringbuf"), ONE_TO_ONE, pair::<Ringbuf>),
        #[cfg(feature = "crossbeam-channel")]
        entry("crossbeam-channel", Some("crossbeam-channel"), ALL_AND_WAITING, waiting_many::<Crossbeam>),
        #[cfg(feature = "kanal")]
        entry("kanal", Some("kanal"), ALL_AND_WAITING, waiting_many::<Kanal>),
        #[cfg(feature = "concurrent-queue")]
        entry("concurrent-queue", Some("concurrent-queue"), ALL, many::<Queue>),
        #[cfg(feature = "flume")]
        entry("flume", Some("flume"), ALL_AND_WAITING, waiting_many::<Flume>),
        entry("std-mpsc", None, ONE_TO_ONE_AND_WAITING, waiting_pair::<Std>),
    ]
}
