//! Participants of channels that are killed or stopped in the middle of it, while others wait.
#![allow(missing_docs)]

mod common;

use std::thread;
use std::time::Duration;

use common::rings::*;
use common::*;
use nix::sys::signal::Signal;
use sapwood_shm::channel::{Channel, FrameChannel, RecvError, SendError};
use sapwood_shm::{Exit, Processes, Running};

/// How many ranks are killed one after the other.
fn rounds() -> usize {
    if std::env::var_os("SAPWOOD_FULL").is_some() { 40 } else { 10 }
}

/// Flags in the tally.
const TURN: usize = 0;

/// Ranks that take part at a time, beside the parent.
const AT_A_TIME: usize = 3;
/// Values that each sends.
const EACH: usize = 2000;

/// Sends its own values and receives whatever comes, blocking all the time, in two threads.
fn take_part(name: &str, tally_name: &str, own: std::ops::Range<usize>) -> Result<(), String> {
    let open = || Channel::<u64>::open(name, 16, 2 * AT_A_TIME + 2).map(|c| c.with_deadline(PATIENCE));
    let mut opened = None;
    until("seats are free", || {
        opened = open().and_then(|tx| Ok((tx.try_clone()?, tx))).ok();
        opened.is_some()
    });
    let (mut rx, mut tx) = opened.expect("it was opened");
    let values = rounds() * EACH;
    thread::scope(|scope| {
        scope.spawn(|| {
            let tally = Tally::open(tally_name, 2 * values);
            for value in own {
                match tx.send(value as u64) {
                    // Behind the received ones: the sent ones.
                    Ok(()) => drop(tally.note(values + value)),
                    Err(SendError::Closed { .. }) => break,
                    Err(e) => panic!("{e}"),
                }
            }
        });
        let tally = Tally::open(tally_name, 2 * values);
        for value in &mut rx {
            let value = value.map_err(text)?;
            assert!(!tally.note(value as usize), "{value} came twice");
        }
        Ok(())
    })
}

#[test]
fn a_storm_of_deaths_strands_nobody() {
    let (name, tally_name) = (name("storm"), name("storm-tally"));
    let values = rounds() * EACH;
    let running = Processes::new(rounds()).start(|rank| {
        Tally::open(&tally_name, 2 * values).wait_for_flag(TURN, rank.rank() as u32);
        take_part(&name, &tally_name, rank.rank() * EACH..(rank.rank() + 1) * EACH)
    });
    let running = running.expect("ranks can be started");
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    let tally = Tally::open(&tally_name, 2 * values);
    let mut channel = Channel::<u64>::open(&name, 16, 2 * AT_A_TIME + 2).expect("a seat is free");
    let (mut dice, mut alive) = (Dice::new(), Vec::new());
    for rank in 0..rounds() {
        tally.set_flag(TURN, rank as u32 + 1);
        alive.push(rank);
        until("the newcomer sends", || tally.came(values + rank * EACH + 5));
        if alive.len() == AT_A_TIME && rank + 1 < rounds() {
            (0..dice.roll(100_000)).for_each(|_| std::hint::spin_loop());
            kill(&running, alive.remove(dice.roll(AT_A_TIME as u64) as usize));
        }
    }
    channel.close();
    for value in &mut channel {
        let value = value.expect("no error");
        assert!(!tally.note(value as usize), "{value} came twice");
    }
    let killed = rounds() - alive.len();
    let report = running.wait(PATIENCE).expect("all end: nobody sleeps on beside a closed channel");
    let ended = report.exits.iter().filter(|e| **e == Exit::Code(0)).count();
    assert_eq!(ended, alive.len(), "{report}");
    // Whoever dies between receiving a value and saying so takes it along; so may one that lost the race with the
    // close.
    let missing = (0..values).filter(|v| tally.came(values + v) && !tally.came(*v)).count();
    assert!(missing <= killed, "{missing} values are missing after {killed} deaths");
}

/// A rank that opens the channel, does `then`, and waits for its end.
fn companion(then: impl FnOnce() -> Result<(), String>) -> Running {
    rank(|| {
        then()?;
        wait_to_be_ended()
    })
}

#[test]
fn a_reader_whose_last_sender_is_killed_is_told_who() {
    let (name, tally_name) = (name("last"), name("last-tally"));
    let open = || Channel::<u64>::open(&name, 4, 3);
    let running = companion(|| {
        let mut tx = open().map_err(text)?;
        tx.send_all([1, 2]).map_err(text)?;
        let tally = Tally::open(&tally_name, 1);
        tally.set_flag(TURN, 1);
        std::mem::forget((tx, tally));
        Ok(())
    });
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    Tally::open(&tally_name, 1).wait_for_flag(TURN, 0);
    let mut rx = open().expect("a seat is free");
    let pid = running.pids()[0];
    let reader = thread::spawn(move || {
        let got = [rx.recv(), rx.recv(), rx.recv()];
        (got, rx)
    });
    kill(&running, 0);
    let (got, mut rx) = reader.join().expect("it woke");
    assert_eq!(got[..2], [Ok(1), Ok(2)]);
    assert!(
        matches!(got[2], Err(RecvError::Alone { gone: 1, peer: Some(peer) }) if peer.pid == pid),
        "{got:?}"
    );
    // A newcomer can go on.
    let mut tx = open().expect("a seat is free");
    tx.send(3).expect("room");
    assert_eq!(rx.recv(), Ok(3));
    assert!(!running.wait(PATIENCE).expect("it ended").success());
}

#[test]
fn a_stopped_participant_is_not_dead() {
    let (name, tally_name) = (name("stopped"), name("stopped-tally"));
    let open = || Channel::<u64>::open(&name, 4, 2);
    let running = rank(|| {
        let mut tx = open().map_err(text)?.with_deadline(3 * PATIENCE);
        let tally = Tally::open(&tally_name, 1);
        tally.set_flag(TURN, 1);
        tx.recv().map_err(text)?;
        tx.send(2).map_err(text)
    });
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    Tally::open(&tally_name, 1).wait_for_flag(TURN, 0);
    let mut rx = open().expect("a seat is free");
    running.signal(0, Signal::SIGSTOP).expect("a child of ours can be stopped");
    until("the rank is stopped", || state(running.pids()[0]) == Some('T'));
    // Longer than several looks at the others: it may be slow for as long as it likes.
    let said = rx.recv_timeout(Duration::from_millis(200));
    assert!(matches!(said, Err(RecvError::TimedOut { .. })), "{said:?}");
    assert_eq!(rx.send_all([1]), Ok(1));
    assert!(rx.segment().expect("in one").life(1 - rx.seat().expect("in one")) == sapwood_shm::Life::Alive);
    running.signal(0, Signal::SIGCONT).expect("a child of ours can go on");
    ended_well(running);
    assert_eq!(rx.recv(), Ok(2));
}

#[test]
fn frames_of_a_killed_reader_are_counted_and_free_again() {
    let (name, tally_name) = (name("frames"), name("frames-tally"));
    let open = || FrameChannel::open(&name, 2, 64, 3).map(|c| c.with_deadline(PATIENCE));
    let running = companion(|| {
        let mut rx = open().map_err(text)?;
        std::mem::forget(rx.recv().map_err(text)?);
        let tally = Tally::open(&tally_name, 1);
        tally.set_flag(TURN, 1);
        std::mem::forget((rx, tally));
        Ok(())
    });
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    let mut tx = open().expect("a seat is free");
    tx.send_value(&7_u64).expect("a frame is free");
    Tally::open(&tally_name, 1).wait_for_flag(TURN, 0);
    tx.send_value(&8_u64).expect("a frame is free");
    let said = tx.loan_timeout(Duration::from_millis(1)).map(drop);
    assert!(matches!(said, Err(SendError::TimedOut { capacity: 2, .. })), "the living have both: {said:?}");
    // Whoever waits for a frame gets the one that the dead one had.
    let mut waiting = tx.try_clone().expect("a seat is free");
    let waiter = thread::spawn(move || waiting.loan().map(drop).map(|()| waiting.stats()));
    kill(&running, 0);
    let stats = waiter.join().expect("it woke").expect("a frame came");
    assert_eq!((stats.lost_with_reader, stats.redelivered), (1, 0));
    assert_eq!(tx.recv_value::<u64>().expect("it was sent"), 8);
    assert!(!running.wait(PATIENCE).expect("it ended").success());
}

#[test]
fn a_frame_of_a_killed_reader_is_delivered_again_where_its_maker_says_so() {
    let (name, tally_name) = (name("again"), name("again-tally"));
    let open = || {
        let plan = FrameChannel::builder(2, 64).participants(3).redelivering();
        plan.open(&name).map(|c| c.with_deadline(PATIENCE))
    };
    let running = companion(|| {
        let mut rx = open().map_err(text)?;
        std::mem::forget(rx.recv().map_err(text)?);
        let tally = Tally::open(&tally_name, 1);
        tally.set_flag(TURN, 1);
        std::mem::forget((rx, tally));
        Ok(())
    });
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    let mut tx = open().expect("a seat is free");
    tx.send_value(&7_u64).expect("a frame is free");
    Tally::open(&tally_name, 1).wait_for_flag(TURN, 0);
    // Whoever waits for a message gets the one that the dead one had; until then it is nobody else's.
    let mut waiting = tx.try_clone().expect("a seat is free");
    assert!(matches!(waiting.try_recv(), Err(RecvError::Empty)));
    let waiter = thread::spawn(move || {
        let got = waiting.recv_value::<u64>();
        (got, waiting.stats())
    });
    kill(&running, 0);
    let (got, stats) = waiter.join().expect("it woke");
    assert_eq!(got.expect("the dead one had not given it back"), 7);
    assert_eq!((stats.lost_with_reader, stats.redelivered), (0, 1));
    tx.close();
    assert!(matches!(tx.recv(), Err(RecvError::Drained)), "once");
    assert!(!running.wait(PATIENCE).expect("it ended").success());
}

/// Every frame is worked off, although all readers but one are killed over one: only those frames come again.
#[test]
fn readers_that_are_killed_over_their_frames_leave_none_undone() {
    let (name, tally_name) = (name("undone"), name("undone-tally"));
    const READERS: usize = 5;
    /// The flag that says who is to be killed next.
    const DOOMED: usize = 0;
    let values = 100 * rounds();
    let dooms = |value: usize| value % (values / (READERS - 1)) == 7;
    let open = || {
        let plan = FrameChannel::builder(8, 64).participants(READERS + 1).redelivering();
        plan.open(&name).map(|c| c.with_deadline(PATIENCE))
    };
    let running = Processes::new(READERS).start(|rank| {
        let mut rx = open().map_err(text)?;
        // The values that were done; behind those: that were begun.
        let tally = Tally::open(&tally_name, 2 * values);
        tally.set_flag(1 + rank.rank(), 1);
        let said = loop {
            let message = match rx.recv() {
                Ok(message) => message,
                Err(e) => break e,
            };
            let value = u32::from_le_bytes([message[0], message[1], message[2], message[3]]) as usize;
            let again = tally.note(values + value);
            assert!(!again || dooms(value), "{value} came twice, and nobody has died over it");
            if dooms(value) && !again {
                tally.set_flag(DOOMED, 1 + rank.rank() as u32);
                return wait_to_be_ended();
            }
            assert!(!tally.note(value), "{value} was done, and came again");
        };
        if said == RecvError::Drained { Ok(()) } else { Err(said.to_string()) }
    });
    let running = running.expect("ranks can be started");
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    let tally = Tally::open(&tally_name, 2 * values);
    (0..READERS).for_each(|rank| tally.wait_for_flag(1 + rank, 0));
    let mut tx = open().expect("a seat is free");
    let mut dice = Dice::new();
    for value in 0..values {
        let mut frame = tx.loan().expect("some reader lives");
        frame[..4].copy_from_slice(&(value as u32).to_le_bytes());
        frame.send(4).map_err(|e| e.map(drop)).expect("room");
        if dooms(value) {
            tally.wait_for_flag(DOOMED, 0);
            let rank = tally.flag(DOOMED) as usize - 1;
            tally.set_flag(DOOMED, 0);
            (0..dice.roll(100_000)).for_each(|_| std::hint::spin_loop());
            kill(&running, rank);
        }
    }
    tx.close();
    let report = running.wait(PATIENCE).expect("all end");
    let ended = report.exits.iter().filter(|e| **e == Exit::Code(0)).count();
    assert_eq!(ended, 1, "{report}");
    let undone: Vec<usize> = (0..values).filter(|v| !tally.came(*v)).collect();
    assert!(undone.is_empty(), "frames that nobody has worked off: {undone:?}");
}
