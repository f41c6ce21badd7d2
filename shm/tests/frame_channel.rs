//! Channels of frames and of serde's values.
#![allow(missing_docs)]

mod common;

use std::thread;
use std::time::Duration;

use common::rings::*;
use common::*;
use sapwood_shm::Error;
use sapwood_shm::channel::{
    Channel, DecodeError, FrameChannel, FrameChannelBuilder, RecvError, RecvValueError, SendError,
    SendValueError, State,
};
use serde::{Deserialize, Serialize};

fn frames(count: usize, bytes: usize) -> FrameChannel {
    FrameChannel::new(count, bytes).expect("memory").with_deadline(PATIENCE)
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Report {
    name: String,
    losses: Vec<f64>,
    best: Option<usize>,
}

#[test]
fn a_frame_is_filled_where_it_is_read() {
    let mut tx = frames(2, 100);
    let mut rx = tx.try_clone().expect("a seat is free");
    let mut frame = tx.loan().expect("one is free");
    assert_eq!(frame.len(), 128, "whole lines");
    frame[..3].copy_from_slice(b"abc");
    let at = frame.as_ptr().addr() & 4095;
    frame.send(3).expect("room");
    assert_eq!(rx.len(), 1);
    let got = rx.recv().expect("it is there");
    assert_eq!((&got[..], got.sender()), (&b"abc"[..], 0));
    assert_eq!(got.as_ptr().addr() & 4095, at, "the same bytes, mapped anywhere");
    drop(got);
    assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
}

#[test]
fn whoever_has_no_frame_waits_for_one() {
    let mut tx = frames(1, 64);
    let mut rx = tx.try_clone().expect("a seat is free");
    tx.send_value(&1_u32).expect("the frame is free");
    assert!(matches!(tx.try_loan().map(drop), Err(SendError::Full { capacity: 1, value: () })));
    let sender = thread::spawn(move || (2..100_u32).for_each(|i| tx.send_value(&i).expect("in time")));
    for i in 1..100 {
        assert_eq!(rx.recv_value::<u32>().expect("in time"), i);
    }
    sender.join().expect("it sent");
    // One that is dropped is free again.
    drop(rx.loan().expect("it is free"));
    drop(rx.try_loan().expect("it is free"));
}

#[test]
fn values_of_serde_pass_between_processes() {
    let name = name("values");
    let report =
        |i: usize| Report { name: format!("rank {i}"), losses: vec![0.5; i], best: (i > 1).then_some(i) };
    let running = rank(|| {
        let mut tx = FrameChannel::open(&name, 4, 1 << 12, 2).map_err(text)?.with_deadline(PATIENCE);
        for i in 0..100 {
            tx.send_value(&report(i)).map_err(text)?;
        }
        tx.close();
        Ok(())
    });
    let _forget = Forget::name(&name);
    let mut rx = FrameChannel::open(&name, 4, 1 << 12, 2).expect("a seat is free").with_deadline(PATIENCE);
    for i in 0..100 {
        assert_eq!(rx.recv_value::<Report>().expect("in time"), report(i));
    }
    assert!(matches!(rx.recv_value::<Report>(), Err(RecvValueError::Channel(RecvError::Drained))));
    assert_eq!(rx.state(), State::Drained);
    ended_well(running);
}

#[test]
fn what_does_not_fit_or_is_none_is_refused_and_the_next_one_passes() {
    let mut tx = frames(2, 64);
    let mut rx = tx.try_clone().expect("a seat is free");
    let said = tx.send_value(&vec![7_u8; 64]).expect_err("and its length");
    assert!(matches!(said, SendValueError::TooLong { bytes: 64 }), "{said}");
    tx.send_value(&vec![7_u8; 63]).expect("a byte less");
    assert_eq!(rx.recv_value::<Vec<u8>>().expect("it came"), vec![7; 63]);
    // A length that claims more than there is: refused, and nothing is allocated for it.
    let mut frame = tx.loan().expect("one is free");
    frame[..10].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
    frame.send(10).expect("room");
    let said = rx.recv_value::<Vec<u64>>().expect_err("nobody has that many");
    assert!(matches!(said, RecvValueError::Decode { len: 10, sender: 0, .. }), "{said}");
    tx.send_value(&(1_u8, 2_u8)).expect("room");
    let said = rx.recv_value::<u8>().expect_err("two values");
    assert!(matches!(said, RecvValueError::Trailing { used: 1, len: 2, sender: 0 }), "{said}");
    tx.send_value("text").expect("room");
    assert_eq!(rx.recv_value::<String>().expect("it came"), "text");
}

#[derive(Debug, Deserialize)]
struct Nested(#[allow(dead_code)] Option<Box<Nested>>);

#[test]
fn a_value_without_end_is_refused() {
    let mut tx = frames(2, 1 << 20);
    let mut rx = tx.try_clone().expect("a seat is free");
    let mut frame = tx.loan().expect("one is free");
    frame.fill(1);
    frame.send(1 << 20).expect("room");
    let said = rx.recv_value::<Nested>().expect_err("a million deep");
    let too_deep = |e: &RecvValueError| {
        matches!(e, RecvValueError::Decode { source: DecodeError::TooDeep { .. }, sender: 0, .. })
    };
    assert!(too_deep(&said), "{said}");
    // As many of nothing as a number can say.
    let mut frame = tx.loan().expect("both are free again");
    frame[..10].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
    frame.send(10).expect("room");
    let said = rx.recv_value::<Vec<()>>().expect_err("too many");
    assert!(matches!(said, RecvValueError::Decode { source: DecodeError::TooMany { .. }, .. }), "{said}");
}

#[test]
fn a_close_wakes_both_kinds_of_waiters() {
    let mut tx = frames(1, 64);
    let mut waiting = tx.try_clone().expect("a seat is free");
    let held = tx.loan().expect("one is free");
    let mut reader = waiting.try_clone().expect("a seat is free");
    let mut closer = waiting.try_clone().expect("a seat is free");
    let lender = thread::spawn(move || waiting.loan().map(drop));
    let reader = thread::spawn(move || reader.recv().map(drop));
    closer.close();
    assert!(matches!(lender.join().expect("it woke"), Err(SendError::Closed { value: () })));
    assert!(matches!(reader.join().expect("it woke"), Err(RecvError::Drained)));
    assert!(matches!(held.send(1), Err(SendError::Closed { .. })));
}

#[test]
fn whoever_is_left_alone_with_frames_is_told() {
    let mut last = frames(1, 64);
    let other = last.try_clone().expect("a seat is free");
    let waiting = thread::spawn(move || last.recv().map(drop));
    drop(other);
    let said = waiting.join().expect("it woke");
    assert!(matches!(said, Err(RecvError::Alone { gone: 1, peer: Some(_) })), "{said:?}");
}

#[test]
fn absurd_shapes_and_other_things_are_refused() {
    assert!(matches!(FrameChannel::new(0, 64), Err(Error::Capacity(_))));
    assert!(matches!(FrameChannel::new(3, 64), Err(Error::Capacity(_))));
    assert!(matches!(FrameChannel::new(2, 0), Err(Error::Frames(_))));
    assert!(matches!(FrameChannel::new(2, usize::MAX), Err(Error::Frames(_))));
    assert!(matches!(FrameChannel::new(1 << 20, 1 << 30), Err(Error::NoSpace { .. } | Error::Frames(_))));
    assert!(matches!(FrameChannel::create(2, 64, 49), Err(Error::Participants { asked: 49, most: 48 })));
    let name = name("kinds");
    let _forget = Forget::name(&name);
    let _channel = FrameChannel::open(&name, 2, 64, 2).expect("memory");
    assert!(matches!(Channel::<[u64; 8]>::open(&name, 2, 2), Err(Error::OtherKind { .. })));
    assert!(matches!(FrameChannel::open(&name, 2, 128, 2), Err(Error::OtherRing { .. })));
    assert!(matches!(FrameChannel::open(&name, 2, 64, 3), Err(Error::OtherSize { .. })));
}

#[test]
fn a_deadline_of_frames_is_kept() {
    let (mut a, limit) = (frames(1, 64), Duration::from_millis(60));
    let _b = a.try_clone().expect("a seat is free");
    assert!(
        matches!(a.recv_timeout(limit).map(drop), Err(RecvError::TimedOut { waited }) if waited >= limit)
    );
    let mut c = a.try_clone().expect("a seat is free");
    let held = c.loan().expect("it is free");
    assert!(
        matches!(a.loan_timeout(limit).map(drop), Err(SendError::TimedOut { waited, .. }) if waited >= limit)
    );
    drop(held);
}

fn again(participants: usize) -> FrameChannelBuilder {
    FrameChannel::builder(2, 64).participants(participants).redelivering()
}

#[test]
fn participants_agree_whether_frames_are_delivered_again() {
    let (counts, again) = (frames(2, 64), again(48).create().expect("memory"));
    let said = self::again(48).attach(counts.segment()).map(drop);
    assert!(
        matches!(&said, Err(Error::OtherRing { found, expected }) if !found.redelivers && expected.redelivers)
    );
    let said =
        FrameChannel::attach(again.segment(), 2, 64).map(drop).expect_err("it was made with the choice");
    assert!(said.to_string().contains("delivered again if a reader dies"), "{said}");
    // One of more than 4 GiB is refused as ever.
    let said = FrameChannel::builder(1, 1 << 32).redelivering().spec();
    assert!(matches!(said, Err(Error::Frames(_))), "{said:?}");
}

#[test]
fn a_frame_that_its_reader_leaves_with_is_delivered_again() {
    for redelivers in [true, false] {
        let plan = FrameChannel::builder(2, 64).participants(3);
        let plan = if redelivers { plan.redelivering() } else { plan };
        let mut tx = plan.create().expect("memory").with_deadline(PATIENCE);
        let mut reader = tx.try_clone().expect("a seat is free");
        let mut other = tx.try_clone().expect("a seat is free");
        tx.send_value(&7_u32).expect("a frame is free");
        std::mem::forget(reader.recv().expect("it was sent"));
        assert!(matches!(other.try_recv().map(drop), Err(RecvError::Empty)), "its reader lives");
        drop(reader);
        if redelivers {
            // The message is there, once, and names who has sent it.
            let message = other.recv().expect("it comes again");
            assert_eq!((message[0], message.sender()), (7, 0));
            drop(message);
        }
        // Both frames are free.
        std::mem::forget((tx.loan().expect("one"), ()));
        drop(tx.loan().expect("and the other"));
        let (a, b) = (tx.stats(), other.stats());
        let counted = (a.redelivered + b.redelivered, a.lost_with_reader + b.lost_with_reader);
        assert_eq!(counted, if redelivers { (1, 0) } else { (0, 1) });
    }
}

#[test]
fn the_last_word_waits_for_frames_that_may_come_back() {
    let mut tx = again(3).create().expect("memory").with_deadline(PATIENCE);
    let mut reader = tx.try_clone().expect("a seat is free");
    let mut other = tx.try_clone().expect("a seat is free");
    tx.send_value(&1_u32).expect("a frame is free");
    tx.send_value(&2_u32).expect("a frame is free");
    tx.close();
    let message = reader.recv().expect("it was sent");
    assert_eq!(other.recv_value::<u32>().expect("it was sent"), 2);
    assert_eq!(other.state(), State::Closed);
    let said = other.try_recv().map(drop);
    assert!(matches!(said, Err(RecvError::Busy { holder: Some(peer), .. }) if peer.seat == 1), "{said:?}");
    let waiter = thread::spawn(move || other.recv().map(drop));
    drop(message);
    assert!(matches!(waiter.join().expect("it woke"), Err(RecvError::Drained)));
    assert_eq!(tx.state(), State::Drained);
}

#[test]
fn who_only_asks_now_and_then_finds_what_comes_again() {
    let mut tx = again(3).create().expect("memory").with_deadline(PATIENCE);
    let (mut reader, mut other) = (tx.try_clone().expect("a seat"), tx.try_clone().expect("a seat"));
    tx.send_value(&7_u32).expect("a frame is free");
    std::mem::forget(reader.recv().expect("it was sent"));
    drop(reader);
    until("it comes again", || other.try_recv().is_ok_and(|message| message[0] == 7));
}
