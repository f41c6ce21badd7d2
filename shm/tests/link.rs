//! Links over shared memory: the contract, and what only processes can do to each other.
//!
//! # Safety
//! Forks by hand, as a user's program might. The child looks at its copy of a handle and ends.
#![allow(unsafe_code)]

mod common;

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use common::rings::*;
use common::*;
use nix::sys::signal::Signal;
use sapwood_core::link::{Deadline, Ended, Link, Pipe, Ready, RecvError, SendError, Source, TrySendError};
use sapwood_core::testing::{Rig, contract};
use sapwood_core::wait::WaitPolicy;
use sapwood_core::wire::Stream;
use sapwood_shm::link::{self, ShmLink, ShmPipe};
use sapwood_shm::{Error, Exit, Running, Segment};

/// Far longer than anything here takes.
const LONG: Deadline = Deadline::after(PATIENCE);
const CAPACITY: usize = 1 << 12;

/// Both ends in one process, each with a mapping of its own.
struct Mapped(usize);

impl Rig for Mapped {
    type L = ShmLink;

    fn pair(&self) -> (ShmLink, ShmLink) {
        let spec = link::spec(self.0).expect("a capacity");
        let segment = Segment::create(&spec).expect("memory");
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        segment.send(&ours).expect("it can be sent");
        let other = Segment::receive(&theirs, &spec).expect("it can be received");
        let end = |segment, me| link::attach(&Arc::new(segment), self.0, me).expect("the seat is free");
        (end(segment, 0), end(other, 1))
    }

    fn more_than_fits(&self) -> usize {
        self.0
    }

    fn kill(&self, mut link: ShmLink) {
        link.pipe_mut().die();
    }

    fn inject(&self, link: &mut ShmLink, bytes: &[u8]) {
        link.pipe_mut().write(&[bytes]).expect("there is room");
        link.pipe_mut().notify();
    }

    fn stream(&self) -> Stream {
        Stream::default()
    }
}

#[test]
fn the_contract_over_segments() {
    for capacity in [1024, 4096, 1 << 16] {
        contract(&Mapped(capacity));
    }
}

/// A rank at end 1 of a link of this process's.
fn with_peer(test: &str, there: impl FnOnce(ShmLink) -> Result<(), String>) -> (Forget, Running, ShmLink) {
    let name = name(test);
    let wait_for = |link: &ShmLink, end| wait_for_seat(link.pipe().segment().expect("it is in one"), end);
    let running = rank(|| {
        let link = link::open(&name, CAPACITY, 1).map_err(text)?;
        wait_for(&link, 0);
        there(link)
    });
    let forget = Forget::name(&name);
    let link = link::open(&name, CAPACITY, 0).expect("end 0 is free");
    wait_for(&link, 1);
    (forget, running, link)
}

fn payload(tag: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (i.wrapping_mul(0x9E37_79B9) >> 7).wrapping_add(tag * 13) as u8).collect()
}

#[test]
fn messages_of_all_lengths_pass_between_processes() {
    let lengths = || (0..40).map(|i: usize| i * i * i * i % 70_001);
    let (_forget, running, mut link) = with_peer("echo", |mut link| {
        let mut into = vec![0; 70_001];
        for (tag, len) in (0..).zip(lengths()) {
            let got = link.recv(&mut into, LONG).map_err(text)?;
            assert!(got.tag == tag && into[..len] == payload(tag, len), "message {tag} of {len} bytes");
            link.send(tag + 100, Source::Value(&into[..len]), LONG).map_err(text)?;
        }
        link.close(LONG).map_err(text)
    });
    let mut into = vec![0; 70_001];
    for (tag, len) in (0..).zip(lengths()) {
        link.send(tag, Source::Bytes(&payload(tag, len)), LONG).expect("the peer receives");
        let got = link.recv(&mut into, LONG).expect("the peer answers");
        assert!(got.tag == tag + 100 && into[..len] == payload(tag, len), "answer {tag} of {len} bytes");
    }
    let said = link.recv(&mut into, LONG).expect_err("nothing follows");
    assert_eq!(said, RecvError::Ended { end: Ended::Closed { rank: 1 }, part: None });
    ended_well(running);
}

#[test]
fn what_was_sent_before_a_close_is_received_after_it() {
    let (_forget, running, mut link) = with_peer("close", |mut link| {
        for tag in 0..10 {
            link.try_send(tag, Source::Bytes(&payload(tag, 50))).map_err(text)?;
        }
        Ok(()) // dropped
    });
    ended_well(running);
    let mut into = [0; 50];
    for tag in 0..10 {
        assert_eq!(link.recv(&mut into, Deadline::NONE).map(|got| got.tag), Ok(tag));
        assert_eq!(into[..], payload(tag, 50));
    }
    let said = link.recv(&mut into, LONG).expect_err("nothing follows");
    assert_eq!(said, RecvError::Ended { end: Ended::Closed { rank: 1 }, part: None });
}

fn is_death(end: Ended, pid: u32) -> bool {
    end == Ended::Died { rank: 1, pid: Some(pid) }
}

#[test]
fn a_peer_that_is_killed_while_it_sends_is_told() {
    let rounds = if std::env::var_os("SAPWOOD_FULL").is_some() { 100 } else { 5 };
    let name = |round: usize| name(&format!("sender{round}"));
    let running = sapwood_shm::Processes::new(rounds).start(|rank| {
        let mut link = link::open(&name(rank.rank()), CAPACITY, 1).map_err(text)?;
        let message = payload(0, 3 * CAPACITY);
        // Until it is killed.
        (0..).try_for_each(|tag| link.send(tag, Source::Bytes(&message), LONG)).map_err(text)
    });
    let (running, message) = (running.expect("ranks can be started"), payload(0, 3 * CAPACITY));
    let (mut dice, mut into) = (Dice::new(), vec![0; 3 * CAPACITY]);
    for round in 0..rounds {
        let _forget = Forget::name(&name(round));
        let mut link = link::open(&name(round), CAPACITY, 0).expect("end 0 is free");
        let (last, mut next) = (dice.roll(50), 0);
        let end = loop {
            into.fill(0xAA);
            match link.recv(&mut into, LONG) {
                Ok(got) => {
                    assert!(got.tag == next && into == message, "message {next}");
                    if next == last {
                        (0..dice.roll(10_000)).for_each(|_| std::hint::spin_loop());
                        kill(&running, round);
                    }
                    next += 1;
                }
                Err(RecvError::Ended { end, part }) => {
                    let done = part.map_or(0, |part| part.done as usize);
                    assert!(into[..done] == message[..done], "{done} bytes of message {next}");
                    break end;
                }
                Err(e) => panic!("{e}"),
            }
        };
        assert!(is_death(end, running.pids()[round]), "{end}");
        let said = link.send(0, Source::Bytes(&[1]), LONG).expect_err("the link is over");
        assert!(matches!(said, SendError::Ended { end: e, .. } if e == end), "{said}");
        wait_for_death(link.pipe().segment().expect("it is in one"), 1);
        let said = link::open(&name(round), CAPACITY, 1).expect_err("it died there");
        assert!(matches!(said, Error::SeatDead { seat: 1, .. }), "{said}");
    }
    let report = running.wait(PATIENCE).expect("they have ended");
    assert_eq!(report.exits, vec![Exit::Signal(9); rounds]);
}

#[test]
fn a_peer_that_is_killed_while_one_waits_for_room_is_told() {
    let (_forget, running, mut link) = with_peer("receiver", |mut link| {
        link.poll(Ready { recv: true, send: false }, LONG).map_err(text)?;
        wait_to_be_ended() // and receives nothing
    });
    let pid = running.pids()[0];
    let message = vec![1; 3 * CAPACITY];
    let sender = std::thread::spawn(move || link.send(0, Source::Bytes(&message), LONG));
    until("the sender waits", || !sender.is_finished());
    kill(&running, 0);
    let said = sender.join().expect("it ends").expect_err("nobody receives");
    match said {
        SendError::Ended { end, .. } => assert!(is_death(end, pid), "{end}"),
        e => panic!("{e}"),
    }
}

/// Who only ever tries and never waits is told too.
#[test]
fn a_death_is_found_by_trying() {
    let (_forget, running, mut link) = with_peer("trying", |mut link| {
        link.try_send(1, Source::Bytes(b"last")).map_err(text)?;
        wait_to_be_ended()
    });
    link.poll(Ready { recv: true, send: false }, LONG).expect("the last message");
    kill(&running, 0);
    let mut end = None;
    let mut got = 0;
    until("the death is found", || {
        match link.try_recv() {
            Ok(Some(_)) => {
                link.recv(&mut [0; 4], Deadline::NONE).expect("it is there");
                got += 1;
            }
            Ok(None) => {}
            Err(e) => end = Some(e),
        }
        end.is_some()
    });
    assert_eq!(got, 1);
    assert!(end.is_some_and(|end| is_death(end, running.pids()[0])), "{end:?}");
    let said = link.try_send(2, Source::Bytes(&[])).expect_err("the link is over");
    assert!(matches!(said, TrySendError::Ended { .. }), "{said}");
}

#[test]
fn a_stopped_peer_costs_a_deadline_and_nothing_else() {
    let (_forget, running, mut link) = with_peer("stopped", |mut link| {
        let mut into = [0; 8];
        link.send(1, Source::Bytes(b"here"), LONG).map_err(text)?;
        let got = link.recv(&mut into, LONG).map_err(text)?;
        link.send(got.tag + 1, Source::Bytes(&into), LONG).map_err(text)
    });
    let mut into = [0; 8];
    link.recv(&mut into, LONG).expect("it is there");
    running.signal(0, Signal::SIGSTOP).expect("a child of ours can be stopped");
    until("the rank is stopped", || state(running.pids()[0]) == Some('T'));
    let limit = Duration::from_millis(120);
    match link.recv(&mut into, Deadline::after(limit)) {
        Err(RecvError::Deadline { waited }) => assert!(waited >= limit, "{waited:?}"),
        other => panic!("{other:?}"),
    }
    link.send(7, Source::Bytes(b"bytes"), LONG).expect("there is room");
    running.signal(0, Signal::SIGCONT).expect("a child of ours can go on");
    assert_eq!(link.recv(&mut into, LONG).map(|got| got.tag), Ok(8));
    ended_well(running);
}

#[test]
fn a_peer_that_has_not_come_yet_is_waited_for() {
    let mut link = link::attach(&segment(), CAPACITY, 0).expect("end 0 is free");
    let said = link.recv(&mut [0; 8], Deadline::after(Duration::from_millis(1)));
    assert!(matches!(said, Err(RecvError::Deadline { .. })), "{said:?}");
    link.try_send(1, Source::Bytes(b"early")).expect("there is room");
    let segment = link.pipe().segment().expect("it is in one").clone();
    let mut late = link::attach(&segment, CAPACITY, 1).expect("end 1 is free");
    let mut into = [0; 5];
    late.recv(&mut into, Deadline::NONE).expect("it is there");
    assert_eq!(&into, b"early");
}

fn segment() -> Arc<Segment> {
    Arc::new(Segment::create(&link::spec(CAPACITY).expect("a capacity")).expect("memory"))
}

#[test]
fn every_way_of_waiting_waits() {
    for policy in [WaitPolicy::Adaptive, WaitPolicy::Spin, WaitPolicy::Sleep] {
        let segment = segment();
        let end = |me| ShmPipe::attach(&segment, CAPACITY, me).expect("the seat is free").waiting(policy);
        let (mut a, mut b) = (end(0), end(1));
        let interest = sapwood_core::link::Interest { read: true, write: 0 };
        let until = Deadline::after(PATIENCE).start().until();
        let there = std::thread::spawn(move || {
            let mut got = [0; 1];
            for i in 0..200 {
                while b.read(&mut [&mut got]).expect("it works") == 0 {
                    b.wait(interest, until).expect("it works");
                }
                assert_eq!(got, [i]);
                b.write(&[&got]).expect("there is room");
                b.notify();
            }
        });
        let mut got = [0; 1];
        for i in 0..200 {
            a.write(&[&[i]]).expect("there is room");
            a.notify();
            while a.read(&mut [&mut got]).expect("it works") == 0 {
                a.wait(interest, until).expect("it works");
            }
            assert_eq!(got, [i], "{policy:?}");
        }
        there.join().expect("all came");
    }
}

#[test]
fn what_is_no_link_is_refused() {
    let said = link::pair(256).expect_err("too small for a frame");
    assert!(matches!(said, Error::LinkTooSmall { asked: 256, least: 512 }), "{said}");
    let said = link::pair(1000).expect_err("no power of two");
    assert!(matches!(said, Error::Capacity(_)), "{said}");
    let segment = segment();
    let said = link::attach(&segment, 2 * CAPACITY, 0).expect_err("another capacity");
    assert!(matches!(said, Error::OtherRing { ref found, .. } if found.capacity == CAPACITY as u64), "{said}");
    let said = link::attach(&segment, CAPACITY, 2).expect_err("a link has two ends");
    assert!(matches!(said, Error::NoSuchSeat { seat: 2, seats: 2 }), "{said}");
    let _link = link::attach(&segment, CAPACITY, 0).expect("end 0 is free");
    let said = link::attach(&segment, CAPACITY, 0).expect_err("it has a holder");
    assert!(matches!(said, Error::SeatTaken { seat: 0, .. }), "{said}");
}

#[test]
fn a_forked_child_holds_no_end() {
    let segment = segment();
    let mut a = link::attach(&segment, CAPACITY, 0).expect("end 0 is free");
    let mut b = link::attach(&segment, CAPACITY, 1).expect("end 1 is free");
    a.try_send(1, Source::Bytes(b"one")).expect("there is room");
    // SAFETY: the child uses its copies of the handles and ends; glibc keeps its allocator usable there.
    match unsafe { libc::fork() } {
        0 => {
            let sent = a.try_send(2, Source::Bytes(b"two"));
            let got = b.try_recv();
            // SAFETY: the parent's copies live in the parent's memory; these are dropped here once.
            unsafe { drop((std::ptr::read(&a), std::ptr::read(&b))) };
            let good = matches!(sent, Err(TrySendError::Ended { end: Ended::Broken(_) }))
                && matches!(got, Err(Ended::Broken(_)));
            // SAFETY: ends this process at once, without handlers of its parent.
            unsafe { libc::_exit(i32::from(!good)) }
        }
        pid => match nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None) {
            Ok(nix::sys::wait::WaitStatus::Exited(_, 0)) => {}
            other => panic!("the child {pid}: {other:?}"),
        },
    }
    let mut into = [0; 3];
    assert_eq!(b.recv(&mut into, Deadline::NONE).map(|got| (got.tag, into)), Ok((1, *b"one")));
    b.send(3, Source::Bytes(b"it"), LONG).expect("the link is as before");
    assert_eq!(a.recv(&mut into, LONG).map(|got| got.tag), Ok(3));
}
