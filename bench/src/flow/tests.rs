//! The checks check: what a lane does wrong is noticed, and what it does right adds up to what the bench expects.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use super::channels::{self, Channel, Many};
use super::jobs::{self, Owner, Pair, Worker};
use super::messages::{self, Loans, Messages};
use super::records::{self, BATCH, PopRecords, PushRecords, Record};
use super::threads::{Ends, Ring, SharedRing, crowd, one_to_one, two, two_to_two};
use super::words::{self, Pop, Push};
use super::{Failure, Said, Spin, warm_up};

const N: u64 = 50;

struct Std;

impl Push for SyncSender<u64> {
    fn try_push(&mut self, word: u64) -> bool {
        self.try_send(word).is_ok()
    }
}

impl Pop for Receiver<u64> {
    fn try_pop(&mut self) -> Option<u64> {
        self.try_recv().ok()
    }
}

impl Ring for Std {
    type Tx = SyncSender<u64>;
    type Rx = Receiver<u64>;
    fn ring(capacity: usize) -> Result<(Self::Tx, Self::Rx), Failure> {
        Ok(sync_channel(capacity))
    }
}

type Queue = Arc<Mutex<VecDeque<u64>>>;

impl Push for Queue {
    fn try_push(&mut self, word: u64) -> bool {
        self.lock().expect("no panic").push_back(word);
        true
    }
}

impl Pop for Queue {
    fn try_pop(&mut self) -> Option<u64> {
        self.lock().expect("no panic").pop_front()
    }
}

impl SharedRing for Std {
    type Tx = Queue;
    type Rx = Queue;
    fn ring(_: usize) -> Result<Ends<Queue, Queue>, Failure> {
        let queue = Queue::default();
        Ok(([queue.clone(), queue.clone()], [queue.clone(), queue]))
    }
}

#[test]
fn threads_add_up() {
    let sum = |order| one_to_one::<Std>(order, N).expect("it works").sum;
    assert_eq!(sum("pingpong"), words::pingpong_sum(N));
    assert_eq!(sum("spsc"), words::stream_sum(N));
    assert_eq!(two_to_two::<Std>(N).expect("it works").sum, words::shared_sum(N));
    assert!(one_to_one::<Std>("knitting", N).is_err());
}

/// Words, records or messages that went in, to come out as they are or spoilt.
#[derive(Default)]
struct Tape<T>(VecDeque<T>);

impl Push for Tape<u64> {
    fn try_push(&mut self, word: u64) -> bool {
        self.0.push_back(word);
        true
    }
}

impl Pop for Tape<u64> {
    fn try_pop(&mut self) -> Option<u64> {
        Some(self.0.pop_front().unwrap_or(u64::MAX))
    }
}

#[test]
fn a_word_lost_repeated_or_changed_is_noticed() {
    let spoilt = |spoil: fn(&mut VecDeque<u64>)| {
        let mut tape = Tape::default();
        words::produce::<Spin>(&mut tape, N).expect("a tape takes all");
        spoil(&mut tape.0);
        words::consume::<Spin>(&mut tape, N)
    };
    assert_eq!(spoilt(|_| ()).expect("as it went in").sum, words::stream_sum(N));
    assert!(spoilt(|t| t.swap(20, 21)).is_err());
    assert!(spoilt(|t| t.truncate(60)).is_err());
    assert!(spoilt(|t| t.insert(3, t[3])).is_err());
    assert!(spoilt(|t| t[60] ^= 1 << 40).is_err());
}

#[test]
fn producers_out_of_order_are_noticed() {
    let spoilt = |spoil: fn(&mut VecDeque<u64>)| {
        let mut tape = Tape::default();
        words::produce_shared::<Spin>(&mut tape, 0, N).expect("a tape takes all");
        words::produce_shared::<Spin>(&mut tape, 1, N).expect("a tape takes all");
        spoil(&mut tape.0);
        let first = words::consume_shared::<Spin>(&mut tape, N)?;
        Ok::<_, Failure>(first.together(words::consume_shared::<Spin>(&mut tape, N)?))
    };
    assert_eq!(spoilt(|_| ()).expect("as it went in").sum, words::shared_sum(N));
    assert!(spoilt(|t| t.swap(3, 4)).is_err());
    assert!(spoilt(|t| t.insert(3, t[3])).is_err());
    let lost = spoilt(|t| {
        t.remove(3);
        t.push_back(u64::MAX);
    });
    assert_ne!(lost.expect("in order").sum, words::shared_sum(N));
}

impl PushRecords for Tape<Record> {
    fn push(&mut self, records: &[Record]) -> Result<(), Failure> {
        self.0.extend(records);
        Ok(())
    }
}

impl PopRecords for Tape<Record> {
    fn pop(&mut self, into: &mut [Record]) -> Result<usize, Failure> {
        let count = into.len().min(self.0.len()).min(7);
        into.iter_mut().zip(self.0.drain(..count)).for_each(|(to, record)| *to = record);
        Ok(count)
    }
}

#[test]
fn a_torn_record_is_noticed() {
    let spoilt = |batch: usize, spoil: fn(&mut VecDeque<Record>)| {
        let mut tape = Tape::default();
        let went = records::produce(&mut tape, N, batch).expect("a tape takes all");
        assert_eq!((went.sum, tape.0.len() as u64), (records::sum(N), warm_up(N) + N));
        spoil(&mut tape.0);
        records::consume(&mut tape, N, batch)
    };
    for batch in [1, BATCH] {
        assert_eq!(spoilt(batch, |_| ()).expect("as it went in").sum, records::sum(N));
        assert!(spoilt(batch, |t| t[30][7] = t[29][7]).is_err());
        assert!(spoilt(batch, |t| t.swap(1, 2)).is_err());
    }
}

/// Sends onto a tape, or receives from it.
impl Messages for Tape<Vec<u8>> {
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        self.0.push_back(message.to_vec());
        Ok(())
    }

    fn recv(&mut self, message: &mut [u8]) -> Result<(), Failure> {
        message.copy_from_slice(&self.0.pop_front().ok_or("no more")?);
        Ok(())
    }
}

#[test]
fn a_message_of_the_stream_that_is_not_the_expected_one_is_noticed() {
    const BYTES: usize = 200_000;
    let spoilt = |spoil: fn(&mut VecDeque<Vec<u8>>)| {
        let mut tape = Tape::default();
        let went = messages::stream(true, &mut tape, BYTES, 2).expect("a tape takes all");
        assert_eq!(went.sum, messages::stream_sum(BYTES, 2));
        spoil(&mut tape.0);
        messages::stream(false, &mut tape, BYTES, 2).map(|came| came.sum)
    };
    let right = messages::stream_sum(BYTES, 2);
    assert_eq!(spoilt(|_| ()).expect("as it went in"), right);
    // A page of the message before.
    let stale = spoilt(|t| {
        let before = t[8][4096..8192].to_vec();
        t[9][4096..8192].copy_from_slice(&before);
    });
    assert!(stale.is_err());
    assert!(spoilt(|t| t.swap(3, 4)).is_err());
    // A byte of the last one, which is looked at as a whole.
    assert_ne!(spoilt(|t| t[18][100_001] ^= 1).expect("the marks are right"), right);
}

/// An end whose other end is a thread.
struct Wire(SyncSender<Vec<u8>>, Receiver<Vec<u8>>);

fn wires() -> (Wire, Wire) {
    let ((to_b, from_a), (to_a, from_b)) = (sync_channel(1), sync_channel(1));
    (Wire(to_b, from_b), Wire(to_a, from_a))
}

impl Messages for Wire {
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        Ok(self.0.send(message.to_vec())?)
    }

    fn recv(&mut self, message: &mut [u8]) -> Result<(), Failure> {
        message.copy_from_slice(&self.1.recv()?);
        Ok(())
    }
}

impl Loans for Wire {
    fn lend(&mut self, bytes: usize, write: impl FnOnce(&mut [u8])) -> Result<(), Failure> {
        let mut message = vec![0; bytes];
        write(&mut message);
        self.send(&message)
    }

    fn borrow(&mut self, _: usize, look: impl FnOnce(&[u8])) -> Result<(), Failure> {
        look(&self.1.recv()?);
        Ok(())
    }
}

#[test]
fn messages_there_and_back_add_up() {
    for bytes in [8, 64, 4096, 100_000] {
        let (mut a, mut b) = wires();
        let said = two(
            || messages::pingpong(true, &mut a, bytes, 5),
            || messages::pingpong(false, &mut b, bytes, 5),
        );
        assert_eq!(said.expect("it works").sum, messages::pingpong_sum(bytes, 5), "{bytes}");
        let said = two(|| messages::loan(true, &mut a, bytes, 5), || messages::loan(false, &mut b, bytes, 5));
        assert_eq!(said.expect("it works").sum, messages::loan_sum(bytes, 5), "{bytes}");
    }
}

#[test]
fn an_echo_is_not_an_answer() {
    let (mut a, b) = wires();
    let echo = move || {
        // The marked messages of a ping-pong of one; each comes back as it is.
        for _ in 0..warm_up(1) + 1 {
            b.0.send(b.1.recv()?)?;
        }
        Ok(Said { nanos: 0.0, sum: 0, span: (0, 0) })
    };
    let said = two(|| messages::pingpong(true, &mut a, 64, 1), echo);
    assert!(said.expect_err("nobody answered").to_string().contains("out of order"));
}

/// A channel of the standard library whose receiving end is shared.
struct Sleeping;

type Shared = Arc<Mutex<Receiver<u64>>>;

impl channels::Sender for SyncSender<u64> {
    fn send(&mut self, word: u64) -> Result<(), Failure> {
        Ok(SyncSender::send(self, word)?)
    }
}

impl channels::Receiver for Shared {
    fn recv(&mut self) -> Result<u64, Failure> {
        Ok(self.lock().expect("no panic").recv()?)
    }
}

impl Channel for Sleeping {
    type Tx = SyncSender<u64>;
    type Rx = Shared;
    fn channel(capacity: usize) -> Result<(Self::Tx, Self::Rx), Failure> {
        let (tx, rx) = sync_channel(capacity);
        Ok((tx, Arc::new(Mutex::new(rx))))
    }
}

impl Many for Sleeping {
    fn another_tx(tx: &Self::Tx) -> Result<Self::Tx, Failure> {
        Ok(tx.clone())
    }
    fn another_rx(rx: &Self::Rx) -> Result<Self::Rx, Failure> {
        Ok(rx.clone())
    }
}

#[test]
fn threads_that_sleep_add_up() {
    let pingpong = |threads| channels::pingpong::<Sleeping>(threads, N).expect("it works").sum;
    assert_eq!(pingpong(2), words::pingpong_sum(N));
    for threads in [4, 8] {
        assert_eq!(pingpong(threads), channels::pingpong_sum(threads, N));
    }
    assert_ne!(channels::pingpong_sum(4, N), channels::pingpong_sum(8, N));
    assert_eq!(channels::two_to_two::<Sleeping>(N).expect("it works").sum, words::shared_sum(N));
    for threads in [2, 4] {
        assert_eq!(jobs::jobs::<Pair<Sleeping>>(threads, N).expect("it works").sum, jobs::sum(N));
    }
    assert_ne!(jobs::sum(N), jobs::sum(N + 1));
}

#[test]
fn an_end_that_fails_in_a_crowd_is_told() {
    let fine = || Ok(Said { nanos: 0.0, sum: 1, span: (0, 0) });
    assert_eq!(crowd(vec![Box::new(fine), Box::new(fine)]).expect("both are fine").len(), 2);
    let said = crowd(vec![Box::new(fine), Box::new(|| Err("no more".into()))]);
    assert_eq!(said.expect_err("one has failed").to_string(), "no more");
}

/// Has each job done twice, and counts both answers: one that is left behind would reach a worker as a failed send, if
/// the owner is gone before it.
struct Twice;

struct TwiceOwner(jobs::PairEnd<Sleeping>);

impl jobs::Queue for Twice {
    type Owner = TwiceOwner;
    type Worker = jobs::PairEnd<Sleeping>;
    fn queue(capacity: usize, workers: usize) -> Result<(Self::Owner, Vec<Self::Worker>), Failure> {
        let (owner, workers) = <Pair<Sleeping> as jobs::Queue>::queue(capacity, workers)?;
        Ok((TwiceOwner(owner), workers))
    }
}

impl Owner for TwiceOwner {
    fn submit(&mut self, job: u64) -> Result<(), Failure> {
        self.0.submit(job)?;
        self.0.submit(job)
    }

    fn answer(&mut self) -> Result<u64, Failure> {
        Ok(self.0.answer()?.wrapping_add(self.0.answer()?))
    }
}

#[test]
fn a_job_that_is_done_twice_is_noticed() {
    assert_ne!(jobs::jobs::<Twice>(3, N).expect("it works").sum, jobs::sum(N));
}

#[test]
fn a_worker_ends_with_its_owner() {
    let (mut owner, mut workers) = <Pair<Sleeping> as jobs::Queue>::queue(4, 1).expect("a queue");
    let worker = &mut workers[0];
    owner.submit(5).expect("there is room");
    assert!(worker.work(|job| job + 1).expect("a job"));
    assert_eq!(owner.answer().expect("an answer"), 6);
    drop(owner);
    assert!(!worker.work(|_| unreachable!("nobody submits")).expect("it is told"));
}
