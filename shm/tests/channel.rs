//! Channels, between threads and between processes: what they promise, in the order of the behaviours CH-1 to CH-13.
#![allow(missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::rings::*;
use common::*;
use sapwood_shm::channel::{self, Channel, ChannelToken, RecvError, SendError, State, TokenError, channel};
use sapwood_shm::ring::{CapacityError, Shareable, mpmc};
use sapwood_shm::{Error, Processes, Segment};

/// The same test over both carriers.
fn over_both<T: Shareable>(capacity: usize, seats: usize, test: impl Fn(Channel<T>)) {
    test(Channel::new(capacity).expect("memory").with_deadline(PATIENCE));
    test(Channel::create(capacity, seats).expect("memory").with_deadline(PATIENCE));
}

fn two_over_both(capacity: usize, seats: usize, test: impl Fn(Channel<u64>, Channel<u64>)) {
    let local = || Channel::new(capacity).expect("memory").with_deadline(PATIENCE);
    let shared = || Channel::create(capacity, seats).expect("memory").with_deadline(PATIENCE);
    test(local(), local());
    test(shared(), shared());
}

fn twin<T: Send>(of: &Channel<T>) -> Channel<T> {
    of.try_clone().expect("a seat is free")
}

/// A thread that has begun, and now sleeps on a futex, as the kernel tells.
fn asleep<V: Send + 'static>(then: impl FnOnce() -> V + Send + 'static) -> thread::JoinHandle<V> {
    let (say, said) = mpsc::channel();
    let thread = thread::spawn(move || {
        say.send(nix::unistd::gettid()).expect("it is waited for");
        then()
    });
    let call = format!("/proc/self/task/{}/syscall", said.recv().expect("it has begun"));
    let futex = format!("{} ", libc::SYS_futex);
    until("it sleeps", || std::fs::read_to_string(&call).is_ok_and(|s| s.starts_with(&futex)));
    thread
}

#[test]
fn ch_1_what_is_sent_comes_back_and_the_channel_stays_open() {
    over_both::<u64>(8, 1, |mut channel| {
        assert_eq!((channel.send(7), channel.len(), channel.state()), (Ok(()), 1, State::Open));
        assert_eq!((channel.recv(), channel.len(), channel.state()), (Ok(7), 0, State::Open));
    });
    // The absence of a value is a value.
    let mut channel = channel::<Option<String>>(8).expect("memory");
    assert_eq!((channel.send(None), channel.len()), (Ok(()), 1));
    assert_eq!((channel.try_recv(), channel.try_recv()), (Ok(None), Err(RecvError::Empty)));
}

#[test]
fn ch_2_twelve_values_come_in_order() {
    over_both::<u64>(16, 1, |mut channel| {
        assert_eq!((channel.send_all(1..=12), channel.len()), (Ok(12), 12));
        (1..=12).for_each(|i| assert_eq!(channel.recv(), Ok(i)));
        assert_eq!(channel.try_recv(), Err(RecvError::Empty));
    });
}

#[test]
fn ch_3_values_of_a_thread_that_has_ended_are_received_by_another() {
    over_both::<u64>(128, 3, |channel| {
        let (mut tx, mut rx) = (twin(&channel), twin(&channel));
        thread::spawn(move || (0..100).for_each(|i| tx.send(i).expect("room"))).join().expect("it ended");
        thread::spawn(move || (0..100).for_each(|i| assert_eq!(rx.recv(), Ok(i)))).join().expect("in order");
    });
}

/// CH-3, between processes.
#[test]
fn ch_3_values_of_a_process_that_has_ended_are_received_by_another() {
    let name = name("ended");
    let open = || Channel::<u64>::open(&name, 128, 2);
    let running = rank(|| {
        let mut tx = open().map_err(text)?;
        wait_for_seat(tx.segment().expect("in one"), 1);
        tx.send_all(0..100).map_err(text)?;
        Ok(())
    });
    let _forget = Forget::name(&name);
    until("the rank is there", || std::fs::exists(file_of("/dev/shm".as_ref(), &name)).is_ok_and(|e| e));
    let mut rx = open().expect("a seat is free");
    ended_well(running);
    (0..100).for_each(|i| assert_eq!(rx.recv(), Ok(i)));
    // It has closed nothing; but nobody is left who could send.
    assert!(matches!(rx.recv_timeout(PATIENCE), Err(RecvError::Alone { gone: 1, peer: Some(_) })));
    let short = Duration::from_millis(1);
    assert!(matches!(rx.recv_timeout(short), Err(RecvError::TimedOut { waited }) if waited >= short), "once");
}

#[test]
fn ch_4_an_empty_channel_that_is_closed_is_drained_at_once() {
    over_both::<u64>(8, 1, |mut channel| {
        for _ in 0..2 {
            channel.close();
            assert_eq!((channel.is_closed(), channel.state()), (true, State::Drained));
            assert_eq!(
                (channel.recv(), channel.try_recv()),
                (Err(RecvError::Drained), Err(RecvError::Drained))
            );
        }
    });
}

#[test]
fn ch_5_a_closed_channel_gives_what_it_has_and_takes_nothing() {
    over_both::<u64>(8, 1, |mut channel| {
        channel.send(7).expect("room");
        channel.close();
        assert_eq!((channel.send(8), channel.len()), (Err(SendError::Closed { value: 8 }), 1));
        assert_eq!((channel.state(), channel.recv(), channel.len()), (State::Closed, Ok(7), 0));
        assert_eq!(channel.recv(), Err(RecvError::Drained));
        assert_eq!(
            (channel.send(9), channel.try_send(9).is_err()),
            (Err(SendError::Closed { value: 9 }), true)
        );
        assert_eq!(channel.len(), 0);
    });
}

#[test]
fn ch_6_the_last_value_leaves_it_drained_for_good() {
    over_both::<u64>(4, 1, |mut channel| {
        assert_eq!(channel.send_all([1, 2]), Ok(2));
        channel.close();
        assert_eq!((channel.recv(), channel.state()), (Ok(1), State::Closed));
        assert_eq!((channel.recv(), channel.state()), (Ok(2), State::Drained));
        for _ in 0..20 {
            assert_eq!((channel.try_recv(), channel.state()), (Err(RecvError::Drained), State::Drained));
            assert!(channel.is_closed());
        }
    });
}

#[test]
fn ch_7_a_channel_goes_through_a_channel() {
    let mut requests = channel::<Channel<String>>(4).expect("memory");
    let mut server = twin(&requests);
    let served = thread::spawn(move || {
        let mut replies = server.recv().expect("a request");
        replies.send("an answer".to_owned()).expect("room");
    });
    let mut replies = channel(1).expect("memory");
    requests.send(twin(&replies)).expect("room");
    assert_eq!(replies.recv().as_deref(), Ok("an answer"));
    served.join().expect("it answered");
}

/// CH-7, between processes: a named channel goes as a token.
#[test]
fn ch_7_a_token_goes_through_a_channel_to_another_process() {
    let (asked, replied) = (name("asked"), name("replied"));
    let running = rank(|| {
        let mut requests = Channel::<ChannelToken>::open(&asked, 4, 2).map_err(text)?;
        let mut replies = requests.recv().map_err(text)?.open::<[u64; 2]>().map_err(text)?;
        replies.send([6, 7]).map_err(text)
    });
    let _forget = [Forget::name(&asked), Forget::name(&replied)];
    let mut requests = Channel::<ChannelToken>::open(&asked, 4, 2).expect("a seat is free");
    let mut replies = Channel::<[u64; 2]>::open(&replied, 4, 2).expect("a seat is free");
    requests.send(replies.token().expect("it has a name")).expect("room");
    assert_eq!(replies.recv_timeout(PATIENCE), Ok([6, 7]));
    ended_well(running);
}

/// CH-7, between processes: one without a name goes as a descriptor, over a Unix socket.
#[test]
fn ch_7_a_channel_without_a_name_goes_over_a_socket() {
    let mut channel = Channel::<u64>::create(4, 2).expect("memory");
    assert!(matches!(channel.token(), Err(TokenError::Nameless)));
    let (ours, theirs) = UnixStream::pair().expect("a socket");
    channel.segment().expect("in one").send(&ours).expect("it is sent");
    let spec = channel::spec::<u64>(4, 2).expect("a capacity");
    let segment = Arc::new(Segment::receive(&theirs, &spec).expect("it came"));
    let mut other = Channel::<u64>::attach(&segment, 4).expect("a seat is free");
    assert_eq!((other.send(1), channel.recv()), (Ok(()), Ok(1)));
    let other_spec = channel::spec::<u64>(8, 2).expect("a capacity");
    channel.segment().expect("in one").send(&ours).expect("it is sent");
    assert!(matches!(Segment::receive(&theirs, &other_spec), Err(Error::OtherLayout { .. })));
}

#[test]
fn ch_8_ten_sleeping_readers_wake_with_drained() {
    over_both::<u64>(8, 11, |mut channel| {
        let readers: Vec<_> =
            (0..10).map(|_| twin(&channel)).map(|mut rx| asleep(move || (rx.recv(), rx.state()))).collect();
        channel.close();
        for reader in readers {
            assert_eq!(reader.join().expect("it woke"), (Err(RecvError::Drained), State::Drained));
        }
    });
}

/// CH-8, between processes.
#[test]
fn ch_8_ten_sleeping_processes_wake_with_drained() {
    let name = name("sleepers");
    let open = || Channel::<u64>::open(&name, 8, 11);
    let running = Processes::new(10).start(|_| match open().map_err(text)?.recv_timeout(PATIENCE) {
        Err(RecvError::Drained) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let running = running.expect("ranks can be started");
    let _forget = Forget::name(&name);
    let mut channel = open().expect("a seat is free");
    let futex = format!("{} ", libc::SYS_futex);
    for pid in running.pids() {
        until("it sleeps", || {
            std::fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|s| s.starts_with(&futex))
        });
    }
    channel.close();
    ended_well(running);
}

/// Ten producers of a hundred values each, five workers, results: every value ten times.
fn many_to_many(jobs: &mut Channel<u64>, results: &mut Channel<u64>) {
    let producers: Vec<_> = (0..10)
        .map(|_| twin(jobs))
        .map(|mut tx| thread::spawn(move || (0..100).for_each(|i| tx.send(i).expect("room in time"))))
        .collect();
    let workers: Vec<_> = (0..5)
        .map(|_| (twin(jobs), twin(results)))
        .map(|(mut rx, mut tx)| {
            thread::spawn(move || rx.iter().map(|job| tx.send(job.expect("a job")).expect("room")).count())
        })
        .collect();
    let mut counts = BTreeMap::<u64, usize>::new();
    for _ in 0..1000 {
        *counts.entry(results.recv().expect("a result")).or_default() += 1;
    }
    producers.into_iter().for_each(|p| p.join().expect("it sent"));
    jobs.close();
    let done: usize = workers.into_iter().map(|w| w.join().expect("it exits on Drained")).sum();
    assert_eq!((done, results.try_recv()), (1000, Err(RecvError::Empty)));
    assert!(counts.len() == 100 && counts.values().all(|n| *n == 10), "{counts:?}");
}

#[test]
fn ch_9_ten_producers_and_five_workers_lose_and_repeat_nothing() {
    for capacity in [1, 8, 1024] {
        two_over_both(capacity, 16, |mut jobs, mut results| many_to_many(&mut jobs, &mut results));
    }
}

#[test]
fn ch_10_ping_and_pong() {
    two_over_both(1, 2, |mut pings, mut pongs| {
        let (mut there, mut back) = (twin(&pings), twin(&pongs));
        let ponger = thread::spawn(move || {
            there.iter().map(|ping| back.send(ping.expect("a ping") + 100).expect("room")).count()
        });
        for i in 0..10 {
            pings.send(i).expect("room");
            assert_eq!(pongs.recv(), Ok(i + 100));
        }
        pings.close();
        assert_eq!(ponger.join().expect("it ends on Drained"), 10);
    });
}

/// CH-10, between processes, through both ways of a pair of channels.
#[test]
fn ch_10_ping_and_pong_between_processes() {
    let names = [name("ping"), name("pong")];
    let open = || names.each_ref().map(|n| Channel::<u64>::open(n, 1, 2).map(|c| c.with_deadline(PATIENCE)));
    let running = rank(|| {
        let [pings, pongs] = open();
        let (mut pings, mut pongs) = (pings.map_err(text)?, pongs.map_err(text)?);
        for ping in &mut pings {
            pongs.send(ping.map_err(text)? + 100).map_err(text)?;
        }
        Ok(())
    });
    let _forget = names.each_ref().map(|n| Forget::name(n));
    let [mut pings, mut pongs] = open().map(|c| c.expect("a seat is free"));
    for i in 0..10 {
        assert_eq!((pings.send(i), pongs.recv()), (Ok(()), Ok(i + 100)));
    }
    pings.close();
    ended_well(running);
}

#[test]
fn ch_11_empty_is_neither_drained_nor_a_value() {
    over_both::<u64>(4, 1, |mut channel| {
        assert_eq!(channel.try_recv(), Err(RecvError::Empty));
        channel.send(0).expect("room");
        assert_eq!((channel.try_recv(), channel.try_recv()), (Ok(0), Err(RecvError::Empty)));
        channel.close();
        assert_eq!(channel.try_recv(), Err(RecvError::Drained));
    });
}

#[test]
fn ch_12_a_full_channel_makes_senders_wait() {
    over_both::<u64>(2, 2, |mut channel| {
        assert_eq!((channel.try_send(1), channel.try_send(2)), (Ok(()), Ok(())));
        assert_eq!(channel.try_send(3), Err(SendError::Full { capacity: 2, value: 3 }));
        let mut tx = twin(&channel);
        let short = Duration::from_millis(2);
        let said = channel.send_timeout(3, short);
        assert!(
            matches!(said, Err(SendError::TimedOut { capacity: 2, waited, value: 3 }) if waited >= short)
        );
        let sender = asleep(move || (tx.send(3), tx.send(4)));
        (1..=4).for_each(|i| assert_eq!(channel.recv(), Ok(i)));
        assert_eq!(sender.join().expect("it woke"), (Ok(()), Ok(())));
    });
}

/// CH-12: a close ends the wait of a sender too.
#[test]
fn ch_12_a_close_wakes_waiting_senders() {
    over_both::<u64>(1, 3, |mut channel| {
        channel.send(1).expect("room");
        let senders: Vec<_> =
            (2..4).map(|i| (i, twin(&channel))).map(|(i, mut tx)| asleep(move || tx.send(i))).collect();
        channel.close();
        for (i, sender) in (2..4).zip(senders) {
            assert_eq!(sender.join().expect("it woke"), Err(SendError::Closed { value: i }));
        }
        assert_eq!((channel.recv(), channel.recv()), (Ok(1), Err(RecvError::Drained)));
    });
}

#[test]
fn ch_13_a_batch_that_fails_leaves_a_clean_prefix_and_wakes_readers() {
    over_both::<u64>(4, 3, |mut channel| {
        let mut values = 1..=9;
        let mut channel_2 = twin(&channel).with_deadline(Duration::from_millis(2));
        let said = channel_2.send_all(&mut values).expect_err("four places");
        assert_eq!(said.sent, 4);
        assert!(matches!(said.error, SendError::TimedOut { value: 5, .. }), "{said}");
        assert_eq!(values.collect::<Vec<_>>(), [6, 7, 8, 9], "the rest is the caller's");
        let mut got = Vec::new();
        assert_eq!(channel.recv_batch(&mut got, 9), Ok(4));
        assert_eq!(got, [1, 2, 3, 4]);

        // A reader that sleeps is woken by what went in before the iterator broke off.
        drop(channel_2);
        let mut rx = twin(&channel);
        let reader = asleep(move || rx.recv());
        let broken = (1..=3).map(|i| if i == 2 { panic!("the second one can't be made") } else { i });
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| channel.send_all(broken)));
        assert!(caught.is_err());
        assert_eq!(reader.join().expect("it woke"), Ok(1));
        assert_eq!(channel.try_recv(), Err(RecvError::Empty));
        channel.close();
        let said = channel.send_all([1, 2]).expect_err("it is closed");
        assert_eq!((said.sent, said.error), (0, SendError::Closed { value: 1 }));
    });
}

#[test]
fn a_batch_is_longer_than_the_channel() {
    over_both::<u64>(4, 2, |mut channel| {
        let mut tx = twin(&channel);
        let sender = thread::spawn(move || tx.send_all(0..1000));
        let (mut got, mut slice) = (Vec::new(), [0; 3]);
        while got.len() < 1000 {
            if got.len() % 2 == 0 {
                channel.recv_batch(&mut got, 5).expect("in time");
            } else {
                let n = channel.recv_slice(&mut slice).expect("in time");
                got.extend(&slice[..n]);
            }
        }
        assert!(got.iter().copied().eq(0..1000), "in order");
        assert_eq!(sender.join().expect("it sent"), Ok(1000));
        assert_eq!((channel.recv_batch(&mut got, 0), channel.recv_slice(&mut [])), (Ok(0), Ok(0)));
        assert_eq!(channel.try_recv_batch(&mut got, 1), Err(RecvError::Empty));
    });
}

#[test]
fn the_iterator_yields_until_drained() {
    over_both::<u64>(8, 2, |channel| {
        let mut tx = twin(&channel);
        let sender = thread::spawn(move || {
            tx.send_all(0..100).expect("in time");
            tx.close();
        });
        let got: Result<Vec<u64>, RecvError> = channel.into_iter().collect();
        assert!(got.expect("no error").into_iter().eq(0..100));
        sender.join().expect("it sent");
    });
}

#[test]
fn whoever_is_left_alone_is_told() {
    over_both::<u64>(1, 2, |mut channel| {
        let other = twin(&channel);
        let waiting = asleep(move || {
            let empty = channel.recv();
            channel.send(1).expect("room");
            (empty, channel)
        });
        drop(other);
        let (said, mut channel) = waiting.join().expect("it woke");
        assert!(matches!(said, Err(RecvError::Alone { .. })), "{said:?}");
        assert!(matches!(channel.send(2), Err(SendError::Alone { value: 2, .. })));
        // The iterator says so too, and ends.
        let mut twin_now = twin(&channel);
        assert_eq!(twin_now.recv(), Ok(1));
        drop(channel);
        let items: Vec<_> = twin_now.iter().collect();
        assert!(matches!(items[..], [Err(RecvError::Alone { .. })]), "{items:?}");
    });
}

/// A sole handle waits for whoever may come by the name.
#[test]
fn the_first_one_waits_for_others() {
    let mut first = Channel::<u64>::create(4, 2).expect("memory");
    let segment = first.segment().expect("in one").clone();
    let short = Duration::from_millis(1);
    assert!(matches!(first.recv_timeout(short), Err(RecvError::TimedOut { .. })));
    let waiting = asleep(move || first.recv_timeout(PATIENCE));
    Channel::<u64>::attach(&segment, 4).expect("a seat is free").send(1).expect("room");
    assert_eq!(waiting.join().expect("it woke"), Ok(1));
}

#[test]
fn values_are_dropped_once() {
    let value = Arc::new(());
    let mut channel = channel::<Arc<()>>(4).expect("memory");
    channel.send_all([value.clone(), value.clone(), value.clone()]).expect("room");
    drop(channel.recv().expect("it is there"));
    assert_eq!(Arc::strong_count(&value), 3);
    drop(channel);
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn borrowed_values_pass_between_scoped_threads() {
    let text = "borrowed".to_owned();
    let mut rx = channel::<&str>(4).expect("memory");
    thread::scope(|scope| {
        let mut tx = rx.try_clone().expect("between threads");
        let text = &text;
        scope.spawn(move || tx.send(text));
        assert_eq!(rx.recv(), Ok("borrowed"));
    });
}

#[test]
fn absurd_capacities_are_refused() {
    assert!(matches!(Channel::<u8>::new(0), Err(Error::Capacity(CapacityError::Zero))));
    assert!(matches!(Channel::<u8>::create(0, 1), Err(Error::Capacity(CapacityError::Zero))));
    assert_eq!(Channel::<u8>::new(5).expect("memory").capacity(), 8);
    let said = Channel::<u8>::create(5, 1).expect_err("no power of two");
    assert!(matches!(said, Error::Capacity(CapacityError::NotAPowerOfTwo { asked: 5, next: 8 })), "{said}");
    for capacity in [usize::MAX, usize::MAX / 2 + 1] {
        assert!(matches!(Channel::<u64>::new(capacity), Err(Error::Capacity(_))));
        assert!(matches!(Channel::<u64>::create(capacity, 1), Err(Error::Capacity(_))));
    }
    let said = Channel::<[u64; 1 << 10]>::create(1 << 30, 1).expect_err("eight TiB");
    assert!(matches!(said, Error::NoSpace { need, have, .. } if need > have), "{said}");
    let said = Channel::<[u64; 1 << 10]>::new(1 << 30).expect_err("eight TiB");
    assert!(matches!(said, Error::NoSpace { need, have, .. } if need > have), "{said}");
    for participants in [0, 1023, usize::MAX] {
        let said = Channel::<u8>::create(1, participants).expect_err("no such number");
        assert!(matches!(said, Error::Participants { most: 1022, .. }), "{said}");
    }
}

#[test]
fn another_type_and_another_thing_are_refused() {
    let name = name("types");
    let _forget = Forget::name(&name);
    let channel = Channel::<u64>::open(&name, 4, 2).expect("memory");
    let said = Channel::<[u32; 4]>::open(&name, 4, 2).expect_err("other values");
    assert!(matches!(said, Error::OtherRing { .. }) && said.to_string().contains("16 bytes"), "{said}");
    assert!(matches!(Channel::<u64>::open(&name, 8, 2), Err(Error::OtherRing { .. })));
    assert!(matches!(Channel::<u64>::open(&name, 4, 3), Err(Error::OtherSize { found: 2, expected: 3 })));
    let said = mpmc::Ring::<u64>::open(&name, 4, 2).expect_err("a ring is no channel");
    assert!(matches!(said, Error::OtherKind { .. }) && said.to_string().contains("a channel"), "{said}");
    let token = channel.token().expect("it has a name");
    assert!(matches!(token.open::<u32>(), Err(TokenError::Open(Error::OtherRing { .. }))));
    let _second = token.open::<u64>().expect("a seat is free");
    assert!(matches!(Channel::<u64>::open(&name, 4, 2), Err(Error::NoSeat { seats: 2 })));
    assert!(matches!(channel.try_clone(), Err(Error::NoSeat { seats: 2 })));
}

#[test]
fn a_name_whose_holders_are_all_gone_begins_anew() {
    let name = name("anew");
    let _forget = Forget::name(&name);
    let open = || Channel::<u64>::open(&name, 4, 2);
    let mut old = open().expect("memory");
    old.send(1).expect("room");
    old.close();
    let nonce = old.segment().expect("in one").nonce();
    let kept = open().expect("a seat is free");
    drop(old);
    let mut same = open().expect("a seat is free");
    assert_eq!((same.recv(), same.recv()), (Ok(1), Err(RecvError::Drained)), "as long as one has it");
    drop((same, kept));
    let mut new = None;
    // Another test's child has our descriptors until its exec, and seems to hold the seats.
    until("the name is another channel's", || {
        let opened = open().expect("a seat is free");
        let anew = opened.segment().expect("in one").nonce() != nonce;
        new = anew.then_some(opened);
        anew
    });
    let mut new = new.expect("it was opened");
    assert_eq!((new.state(), new.try_recv()), (State::Open, Err(RecvError::Empty)));
}

#[test]
fn a_stale_token_and_a_broken_one_open_nothing() {
    let name = name("stale");
    let forget = Forget::name(&name);
    let channel = Channel::<u64>::open(&name, 4, 2).expect("memory");
    let token = channel.token().expect("it has a name");
    drop(channel);
    // Another test's child has our descriptors until its exec, and seems to hold the seats.
    until("nothing is left of the attempt", || {
        assert!(matches!(token.open::<u64>(), Err(TokenError::Stale { name: n }) if n == name));
        !std::fs::exists(&forget.0).expect("/dev/shm")
    });
    let newer = Channel::<u64>::open(&name, 4, 2).expect("memory");
    assert!(matches!(token.open::<u64>(), Err(TokenError::Stale { .. })));
    assert!(newer.token().expect("it has a name").open::<u64>().is_ok());

    use zerocopy::{FromBytes, IntoBytes};
    let mut bytes = newer.token().expect("it has a name").as_bytes().to_vec();
    for i in 0..bytes.len() {
        bytes[i] ^= 0xff;
        let broken = ChannelToken::read_from_bytes(&bytes).expect("as long as a token");
        assert!(broken.open::<u64>().is_err() || i >= 24 + name.len(), "byte {i} does not matter");
        bytes[i] ^= 0xff;
    }
}

#[test]
fn a_forked_child_holds_no_end() {
    over_both::<u64>(4, 2, |mut channel| {
        channel.send(1).expect("room");
        let code = in_a_child(|| {
            channel.close();
            let said = (channel.try_recv(), channel.send(2), channel.recv());
            said == (Err(RecvError::Forked), Err(SendError::Forked { value: 2 }), Err(RecvError::Forked))
        });
        assert_eq!(code, 0, "the child was told");
        assert_eq!(
            (channel.is_closed(), channel.recv(), channel.try_recv()),
            (false, Ok(1), Err(RecvError::Empty))
        );
    });
}

/// Runs `then` in a forked child; 0 if it said yes.
#[allow(unsafe_code)]
fn in_a_child(then: impl FnOnce() -> bool) -> i32 {
    // SAFETY: the child runs this thread alone, makes no other, and leaves without unwinding or destructors.
    match unsafe { nix::unistd::fork() }.expect("a child") {
        nix::unistd::ForkResult::Child => {
            let code = i32::from(!then());
            // SAFETY: ends this process at once.
            unsafe { libc::_exit(code) }
        }
        nix::unistd::ForkResult::Parent { child } => {
            match nix::sys::wait::waitpid(child, None).expect("a child of ours") {
                nix::sys::wait::WaitStatus::Exited(_, code) => code,
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn what_is_said_is_a_sentence() {
    let waited = Duration::from_millis(1500);
    let peer = Some(sapwood_shm::ring::Peer { seat: 1, pid: 77 });
    let said = |e: &dyn std::fmt::Display| e.to_string();
    assert_eq!(
        said(&SendError::Full { capacity: 4, value: () }),
        "the channel is full: all 4 places are taken"
    );
    assert_eq!(
        said(&RecvError::Busy { holder: peer, waited }),
        "after 1.5s the next message of the channel is still held by process 77 in seat 1"
    );
    assert_eq!(
        said(&RecvError::Alone { gone: 3, peer }),
        "nothing is in the channel, and nobody is left to send: \
         3 participants are gone, process 77 in seat 1 among them"
    );
    assert_eq!(
        said(&SendError::TimedOut { capacity: 4, waited, value: () }),
        "nobody has made room in the channel of 4 places for 1.5s"
    );
}

#[test]
fn a_deadline_is_kept() {
    over_both::<u64>(1, 2, |mut channel| {
        let _other = twin(&channel);
        let (limit, began) = (Duration::from_millis(80), Instant::now());
        let said = channel.recv_timeout(limit);
        assert!(matches!(said, Err(RecvError::TimedOut { waited }) if waited >= limit), "{said:?}");
        assert!(began.elapsed() < PATIENCE);
        assert!(matches!(channel.recv_timeout(Duration::ZERO), Err(RecvError::TimedOut { .. })));
        assert!(channel.stats().waits.sleeps > 0);
    });
}
