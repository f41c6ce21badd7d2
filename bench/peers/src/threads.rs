//! Queues between threads. Every end tries and, where that fails, spins (one to one) or yields (two to two): none of
//! them sleeps, which no queue's own waiting beats while all threads run.

use crate::flow::threads::{Ring, SharedRing, one_to_one, two_to_two};
use crate::flow::words::{Pop, Push};
use crate::flow::{Failure, Said};
use crate::{Entry, Peer, Place};

const ONE_TO_ONE: &str = "pingpong,spsc";
const ALL: &str = "pingpong,spsc,mpmc";

/// Runs the orders on one kind of queue.
struct Threads {
    one_to_one: fn(&str, u64) -> Result<Said, Failure>,
    two_to_two: Option<fn(u64) -> Result<Said, Failure>>,
}

impl Peer for Threads {
    fn obey(&mut self, bench: &str, _bytes: usize, n: u64) -> Result<Said, Failure> {
        match (bench, self.two_to_two) {
            ("mpmc", Some(run)) => run(n),
            _ => (self.one_to_one)(bench, n),
        }
    }
}

#[allow(dead_code)] // where all such peers are left out
fn pair<R: Ring>(_: &Place<'_>) -> Result<Box<dyn Peer>, Failure> {
    Ok(Box::new(Threads { one_to_one: one_to_one::<R>, two_to_two: None }))
}

#[allow(dead_code)] // the same
fn many<R: Ring + SharedRing>(_: &Place<'_>) -> Result<Box<dyn Peer>, Failure> {
    Ok(Box::new(Threads { one_to_one: one_to_one::<R>, two_to_two: Some(two_to_two::<R>) }))
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

type Join = fn(&Place<'_>) -> Result<Box<dyn Peer>, Failure>;

pub(crate) fn entries() -> Vec<Entry> {
    let entry = |kind, package, orders, join: Join| Entry { kind, package, threads: true, orders, join };
    vec![
        #[cfg(feature = "rtrb")]
        entry("rtrb", Some("rtrb"), ONE_TO_ONE, pair::<Rtrb>),
        #[cfg(feature = "ringbuf")]
        entry("ringbuf", Some("ringbuf"), ONE_TO_ONE, pair::<Ringbuf>),
        #[cfg(feature = "crossbeam-channel")]
        entry("crossbeam-channel", Some("crossbeam-channel"), ALL, many::<Crossbeam>),
        #[cfg(feature = "kanal")]
        entry("kanal", Some("kanal"), ALL, many::<Kanal>),
        #[cfg(feature = "concurrent-queue")]
        entry("concurrent-queue", Some("concurrent-queue"), ALL, many::<Queue>),
        #[cfg(feature = "flume")]
        entry("flume", Some("flume"), ALL, many::<Flume>),
        entry("std-mpsc", None, ONE_TO_ONE, pair::<Std>),
    ]
}
