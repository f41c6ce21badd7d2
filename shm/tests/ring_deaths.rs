//! Ends of rings that are killed or stopped at any moment, their peers and their successors.
#![allow(missing_docs)]

mod common;

use common::rings::*;
use common::*;
use nix::sys::signal::Signal;
use sapwood_shm::ring::frames::{Frames, LoanError, ReceiveError};
use sapwood_shm::ring::jobs::{Jobs, Outcome};
use sapwood_shm::ring::{Life, PopError, PushError, latest, mpmc, spsc, stream};
use sapwood_shm::{Processes, Running};

/// How many ranks are killed one after the other.
fn rounds() -> usize {
    if std::env::var_os("SAPWOOD_FULL").is_some() { 40 } else { 10 }
}

/// Whose turn it is; in the tally.
const TURN: usize = 0;
/// Set when all is to end.
const END: usize = 1;
/// How many values the round before has left to be counted on from.
const FROM: usize = 2;

/// Starts `rounds` ranks, each of which waits for its turn (counted from 1) and then does `then` until it is killed.
fn in_turn(tally: &str, values: usize, then: impl FnOnce(&Tally, usize) -> Result<(), String>) -> Running {
    let running = Processes::new(rounds()).start(|rank| {
        let tally = Tally::open(tally, values);
        tally.wait_for_flag(TURN, rank.rank() as u32);
        then(&tally, rank.rank())
    });
    running.expect("ranks can be started")
}

/// Kills the rank whose turn it is.
fn kill_now(running: &Running, tally: &Tally) -> u32 {
    let rank = tally.flag(TURN) as usize - 1;
    kill(running, rank);
    running.pids()[rank]
}

fn all_were_killed(running: Running, but_the_last: bool) {
    let report = running.wait(PATIENCE).expect("all end");
    let killed = report.exits.len() - usize::from(but_the_last);
    for (rank, exit) in report.exits.iter().enumerate() {
        let expected = if rank < killed { sapwood_shm::Exit::Signal(9) } else { sapwood_shm::Exit::Code(0) };
        assert_eq!(*exit, expected, "rank {rank}");
    }
}

/// The dead end's seat can be had as soon as the kernel has let go of it.
fn successor<T>(what: &str, mut open: impl FnMut() -> Result<T, sapwood_shm::Error>) -> T {
    let mut got = None;
    until(what, || {
        match open() {
            Ok(end) => got = Some(end),
            Err(e) => assert!(matches!(e, sapwood_shm::Error::SeatTaken { .. }), "{e}"),
        }
        got.is_some()
    });
    got.expect("it was opened")
}

#[test]
fn what_a_killed_producer_has_sent_comes_and_a_successor_goes_on() {
    let (name, tally_name) = (name("producer"), name("producer-tally"));
    let running = in_turn(&tally_name, 1, |_, rank| {
        let mut tx = successor("a producer", || spsc::Producer::<[u64; 2]>::open(&name, 64));
        let mut i = 0;
        until("the parent ends this rank", || {
            // The last one closes.
            if rank + 1 == rounds() && i == 1000 {
                return true;
            }
            i += u64::from(tx.try_push([rank as u64, i]).is_ok());
            false
        });
        Ok(())
    });
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    let tally = Tally::open(&tally_name, 1);
    let mut rx = spsc::Consumer::<[u64; 2]>::open(&name, 64).expect("seat 1 is free");
    let mut dice = Dice::new();
    for round in 0..rounds() as u64 - 1 {
        tally.set_flag(TURN, round as u32 + 1);
        let most = 1 + dice.roll(3000);
        (0..most).for_each(|i| assert_eq!(pop_again(&mut rx), [round, i]));
        let pid = kill_now(&running, &tally);
        let mut next = most;
        until("the death is noticed", || match rx.try_pop() {
            Ok(value) => {
                assert_eq!(value, [round, next], "no gap, and nothing torn");
                next += 1;
                false
            }
            Err(PopError::Empty) => false,
            Err(PopError::PeerDied { peer }) => {
                assert_eq!((peer.seat, peer.pid), (0, pid));
                true
            }
            Err(e) => panic!("{e}"),
        });
    }
    tally.set_flag(TURN, rounds() as u32);
    (0..1000).for_each(|i| assert_eq!(pop_again(&mut rx), [rounds() as u64 - 1, i]));
    until("the last one closes", || rx.try_pop() == Err(PopError::Drained));
    all_were_killed(running, true);
}

/// Pops, also while the dead one's seat waits for its successor.
fn pop_again<T: sapwood_shm::ring::Shareable>(rx: &mut spsc::Consumer<T>) -> T {
    let mut got = None;
    until("a value is there", || {
        match rx.try_pop() {
            Ok(value) => got = Some(value),
            Err(e) => assert!(matches!(e, PopError::Empty | PopError::PeerDied { .. }), "{e}"),
        }
        got.is_some()
    });
    got.expect("it was there")
}

#[test]
fn what_a_killed_consumer_has_not_taken_goes_to_its_successor() {
    let (name, tally_name) = (name("consumer"), name("consumer-tally"));
    let values = 4000 * rounds();
    let running = in_turn(&tally_name, values, |tally, rank| {
        let mut rx = successor("a consumer", || spsc::Consumer::<u64>::open(&name, 64));
        let mut last = None;
        until("the parent ends this rank", || {
            match rx.try_pop() {
                Ok(value) => {
                    assert!(!tally.note(value as usize), "{value} came twice");
                    assert!(last.is_none_or(|before| before + 1 == value), "{value} came after {last:?}");
                    last = Some(value);
                }
                Err(PopError::Drained) => return true,
                Err(e) => assert_eq!(e, PopError::Empty),
            }
            false
        });
        assert_eq!(rank + 1, rounds());
        Ok(())
    });
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    let tally = Tally::open(&tally_name, values);
    let mut tx = spsc::Producer::<u64>::open(&name, 64).expect("seat 0 is free");
    let (mut dice, mut next) = (Dice::new(), 0);
    for round in 1..rounds() as u32 {
        tally.set_flag(TURN, round);
        let end = next + 100 + dice.roll(3000);
        until("the consumer takes some", || {
            match tx.try_push(next) {
                Ok(()) => next += 1,
                Err(e) => assert!(matches!(e, PushError::Full(_) | PushError::PeerDied { .. }), "{e}"),
            }
            next == end
        });
        let pid = kill_now(&running, &tally);
        until("the death is noticed", || match tx.try_push(next) {
            Ok(()) => {
                next += 1;
                false
            }
            Err(PushError::Full(_)) => false,
            Err(PushError::PeerDied { peer, value }) => {
                assert_eq!((peer.seat, peer.pid, value), (1, pid, next));
                true
            }
            Err(e) => panic!("{e}"),
        });
    }
    tally.set_flag(TURN, rounds() as u32);
    until("all is taken", || tx.is_empty());
    drop(tx);
    all_were_killed(running, true);
    // A consumer may die between taking a value and saying so.
    let missing = (0..next as usize).filter(|value| !tally.came(*value)).count();
    assert!(missing < rounds(), "{missing} values are missing after {} deaths", rounds() - 1);
}

#[test]
fn bytes_of_a_killed_writer_come_and_a_successor_goes_on() {
    let (name, tally_name) = (name("writer"), name("writer-tally"));
    let pattern: Vec<u8> = (0..=250).collect();
    let running = in_turn(&tally_name, 1, |tally, _| {
        let mut tx = successor("a writer", || stream::Writer::open(&name, 1 << 14));
        let mut sent = tally.flag(FROM) as usize;
        until("the parent ends this rank", || {
            let at = sent % pattern.len();
            sent += tx.write(&[&pattern[at..], &pattern[..at]]).unwrap_or(0);
            false
        });
        Ok(())
    });
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    let tally = Tally::open(&tally_name, 1);
    let mut rx = stream::Reader::open(&name, 1 << 14).expect("seat 1 is free");
    let (mut dice, mut got, mut some) = (Dice::new(), 0_usize, vec![0; 5000]);
    for round in 1..=rounds() as u32 {
        tally.set_flag(FROM, got as u32);
        tally.set_flag(TURN, round);
        let (mut killed, end) = (None, got + 1 + dice.roll(1 << 20) as usize);
        until("the death is noticed", || {
            match rx.read(&mut some) {
                Ok(n) => {
                    let right = (got..).zip(&some[..n]).all(|(i, b)| *b == (i % pattern.len()) as u8);
                    assert!(right, "within {n} bytes at {got}");
                    got += n;
                }
                Err(PopError::PeerDied { peer }) => return killed == Some(peer.pid),
                Err(e) => assert_eq!(e, PopError::Empty),
            }
            if got >= end && killed.is_none() {
                killed = Some(kill_now(&running, &tally));
            }
            false
        });
    }
    all_were_killed(running, false);
}

#[test]
fn the_newest_value_of_a_killed_writer_is_whole_and_a_successor_counts_on() {
    let (name, tally_name) = (name("newest"), name("newest-tally"));
    let running = in_turn(&tally_name, 1, |_, _| {
        let mut writer = successor("a writer", || latest::Writer::<[u64; 40]>::open(&name));
        until("the parent ends this rank", || {
            let next = writer.published() + 1;
            assert_eq!(writer.publish(&[next; 40]), Ok(next));
            false
        });
        Ok(())
    });
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    let tally = Tally::open(&tally_name, 1);
    let reader = latest::Reader::<[u64; 40]>::open(&name).expect("a seat is free");
    let (mut dice, mut seen) = (Dice::new(), 0);
    let look = |seen: &mut u64| match reader.read() {
        Ok((n, value)) => {
            assert!(n >= *seen && value == [n; 40], "value {n} after {seen} is {value:?}");
            *seen = n;
        }
        Err(e) => {
            assert!(matches!(e, latest::ReadError::Nothing | latest::ReadError::Overtaken { .. }), "{e}")
        }
    };
    for round in 1..=rounds() as u32 {
        tally.set_flag(TURN, round);
        let end = seen + 1 + dice.roll(20_000);
        until("the writer writes", || {
            look(&mut seen);
            seen >= end
        });
        kill_now(&running, &tally);
        until("the writer is dead", || {
            look(&mut seen);
            reader.peer().0 == Life::Dead
        });
        look(&mut seen);
        assert_eq!(reader.published(), seen);
    }
    all_were_killed(running, false);
}

/// Ranks that take part at a time.
const AT_A_TIME: usize = 3;
/// What a rank sends at most; its values are its own.
const EACH: usize = 4000;

/// Sends and receives until it is killed, or all is to end.
fn take_part(ring: &mut mpmc::Ring<u64>, tally: &Tally, own: std::ops::Range<usize>) {
    let values = rounds() * EACH;
    let mut own = own.peekable();
    until("the ring is drained", || {
        if tally.flag(END) == 0 {
            match own.peek().map(|value| (*value, ring.try_push(*value as u64))) {
                // Behind the received ones: the sent ones.
                Some((value, Ok(()))) => drop((own.next(), tally.note(values + value))),
                Some((_, Err(PushError::Full(_) | PushError::Busy { .. } | PushError::Closed(_)))) | None => {
                }
                Some((_, Err(e))) => panic!("{e}"),
            }
        }
        match ring.try_pop() {
            Ok(value) => assert!(!tally.note(value as usize), "{value} came twice"),
            Err(PopError::Drained) => return true,
            Err(e) => assert!(matches!(e, PopError::Empty | PopError::Busy { .. }), "{e}"),
        }
        false
    });
}

/// Ranks come one after the other, and one of those that are there is killed at a moment that nobody has chosen, until
/// all have come; then all is to end, by `end` in this process. Everything that was sent comes, but for what a dead one
/// had just been given. Hands back this process's handle, which is the only one left.
fn storm<H>(
    test: &str,
    open: impl Fn(&str) -> Result<H, sapwood_shm::Error>,
    part: impl Fn(&mut H, &Tally, std::ops::Range<usize>),
    end: impl Fn(&H),
) -> H {
    let (name, tally_name) = (name(test), name(&format!("{test}-tally")));
    let values = rounds() * EACH;
    let running = in_turn(&tally_name, 2 * values, |tally, rank| {
        let mut entered = None;
        until("a seat is free", || {
            match open(&name) {
                Ok(handle) => entered = Some(handle),
                Err(e) => assert!(matches!(e, sapwood_shm::Error::NoSeat { .. }), "{e}"),
            }
            entered.is_some()
        });
        part(&mut entered.expect("it was opened"), tally, rank * EACH..(rank + 1) * EACH);
        Ok(())
    });
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    let tally = Tally::open(&tally_name, 2 * values);
    let mut handle = open(&name).expect("a seat is free");
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
    tally.set_flag(END, 1);
    end(&handle);
    part(&mut handle, &tally, 0..0);
    let killed = rounds() - alive.len();
    let report = running.wait(PATIENCE).expect("all end");
    let ended = report.exits.iter().filter(|e| **e == sapwood_shm::Exit::Code(0)).count();
    assert_eq!(ended, alive.len(), "{report}");
    // Whoever dies between taking a value and saying so takes it along.
    let missing = (0..values).filter(|v| tally.came(values + v) && !tally.came(*v)).count();
    assert!(missing <= killed, "{missing} values are missing after {killed} deaths");
    handle
}

#[test]
fn many_to_many_survives_a_storm_of_deaths() {
    let open = |name: &str| mpmc::Ring::<u64>::open(name, 16, AT_A_TIME + 1);
    let ring = storm("storm", open, take_part, mpmc::Ring::close);
    assert_eq!(ring.others(), 0);
}

/// Frames of the storm, and their bytes: the number of the value, again and again.
const FRAMES: (usize, usize) = (8, 192);

fn pass_frames(frames: &mut Frames, tally: &Tally, own: std::ops::Range<usize>) {
    let values = rounds() * EACH;
    let mut own = own.peekable();
    until("the ring is drained", || {
        let next = own.peek().copied().filter(|_| tally.flag(END) == 0);
        if let Some((value, mut frame)) = next.and_then(|value| Some((value, frames.loan().ok()?))) {
            frame.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&(value as u64).to_le_bytes()));
            match frame.send(FRAMES.1) {
                Ok(()) => drop((own.next(), tally.note(values + value))),
                Err(PushError::Full(_) | PushError::Busy { .. } | PushError::Closed(_)) => {}
                Err(e) => panic!("{}", e.map(drop)),
            }
        }
        match frames.receive() {
            Ok(message) => {
                let words =
                    || message.chunks_exact(8).map(|w| u64::from_le_bytes(w.try_into().expect("8 bytes")));
                let value = words().next().expect("it is not empty");
                assert!(message.len() == FRAMES.1 && words().all(|w| w == value), "{:?}", &message[..]);
                assert!(!tally.note(value as usize), "{value} came twice");
            }
            Err(ReceiveError::Ring(PopError::Drained)) => return true,
            Err(e) => {
                let waits = matches!(e, ReceiveError::Ring(PopError::Empty | PopError::Busy { .. }));
                assert!(waits, "{e}");
            }
        }
        false
    });
}

#[test]
fn frames_survive_a_storm_of_deaths() {
    let open = |name: &str| Frames::open(name, FRAMES.0, FRAMES.1, AT_A_TIME + 1);
    let mut frames = storm("frame-storm", open, pass_frames, Frames::close);
    // None is lost, and none has two holders.
    let mut held = std::collections::BTreeSet::new();
    until("what the dead held is found", || {
        if let Ok(loan) = frames.loan() {
            assert!(held.insert(loan.as_ptr().addr()), "a frame was lent twice");
            std::mem::forget(loan);
        }
        held.len() == FRAMES.0
    });
    assert!(matches!(frames.loan(), Err(LoanError::Exhausted { .. })));
}

/// Submits its own jobs, and works on and collects anybody's.
fn do_jobs(jobs: &mut Jobs<u64, u64>, tally: &Tally, own: std::ops::Range<usize>) {
    let values = rounds() * EACH;
    let (mut own, mut takings) = (own.peekable(), 0);
    until("all jobs are over", || {
        let ending = tally.flag(END) != 0;
        if let Some(value) = own.peek().copied().filter(|_| !ending) {
            match jobs.submit(value as u64) {
                Ok(_) => drop((own.next(), tally.note(values + value))),
                Err(e) => assert!(matches!(e, PushError::Full(_) | PushError::Busy { .. }), "{e}"),
            }
        }
        match jobs.take() {
            Ok(taken) => {
                takings += 1;
                // Some go back, to be taken again.
                if takings % 7 == 0 {
                    jobs.decline(taken).expect("it is held");
                } else {
                    let answer = !taken.job;
                    jobs.finish(taken, answer).expect("it is held");
                }
            }
            Err(e) => assert!(matches!(e, PopError::Empty | PopError::Busy { .. }), "{e}"),
        }
        match jobs.collect().map(|collected| collected.outcome) {
            Some(Outcome::Answer(answer)) => {
                let value = !answer as usize;
                assert!(value < values, "no answer of ours: {answer:#x}");
                assert!(!tally.note(value), "job {value} was collected twice");
            }
            Some(Outcome::Failed { attempts }) => panic!("{attempts} workers have died of one job"),
            None => return ending && jobs.census().in_flight() == 0,
        }
        false
    });
}

#[test]
fn jobs_survive_a_storm_of_deaths() {
    let open = |name: &str| Jobs::<u64, u64>::open(name, 16, AT_A_TIME + 1, 15);
    let jobs = storm("job-storm", open, do_jobs, |_| ());
    assert_eq!(jobs.census().in_flight(), 0);
}

#[test]
fn a_stopped_peer_is_not_dead_however_often_one_asks() {
    let name = name("stopped");
    let running = rank(|| {
        let mut tx = spsc::Producer::<u64>::open(&name, 64).map_err(text)?;
        let mut i = 0;
        until("the consumer closes", || match tx.try_push(i) {
            Ok(()) => {
                i += 1;
                false
            }
            Err(PushError::Closed(_)) => true,
            Err(e) => {
                assert!(matches!(e, PushError::Full(_)), "{e}");
                false
            }
        });
        Ok(())
    });
    let _forget = Forget::name(&name);
    let mut rx = spsc::Consumer::<u64>::open(&name, 64).expect("seat 1 is free");
    assert_eq!(pop(&mut rx), 0);
    running.signal(0, Signal::SIGSTOP).expect("a child of ours can be stopped");
    until("the rank is stopped", || state(running.pids()[0]) == Some('T'));
    let mut next = 1;
    until("nothing is left", || match rx.try_pop() {
        Ok(value) => {
            assert_eq!(value, next);
            next += 1;
            false
        }
        Err(e) => e == PopError::Empty,
    });
    for _ in 0..1000 {
        assert_eq!(rx.peer(), (Life::Alive, sapwood_shm::ring::Peer { seat: 0, pid: running.pids()[0] }));
        (0..100).for_each(|_| assert_eq!(rx.try_pop(), Err(PopError::Empty)));
    }
    let said = spsc::Producer::<u64>::open(&name, 64).expect_err("it is held");
    assert!(matches!(said, sapwood_shm::Error::SeatTaken { seat: 0, .. }), "{said}");
    running.signal(0, Signal::SIGCONT).expect("a child of ours can go on");
    assert_eq!(pop(&mut rx), next);
    drop(rx);
    ended_well(running);
}

#[test]
fn a_name_whose_holders_are_all_dead_begins_anew() {
    let (name, tally_name) = (name("stale"), name("stale-tally"));
    let running = rank(|| {
        let tally = Tally::open(&tally_name, 1);
        let mut tx = spsc::Producer::<u64>::open(&name, 64).map_err(text)?;
        let mut rx = spsc::Consumer::<u64>::open(&name, 64).map_err(text)?;
        push(&mut tx, 1);
        push(&mut tx, 2);
        assert_eq!(rx.try_pop(), Ok(1));
        tally.set_flag(TURN, 1);
        wait_to_be_ended()
    });
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    Tally::open(&tally_name, 1).wait_for_flag(TURN, 0);
    let said = spsc::Consumer::<u64>::open(&name, 64).expect_err("the rank has it");
    let pid = running.pids()[0];
    assert!(matches!(said, sapwood_shm::Error::SeatTaken { seat: 1, pid: p } if p == pid), "{said}");
    kill(&running, 0);
    let report = running.wait(PATIENCE).expect("it ends");
    assert_eq!(report.exits, [sapwood_shm::Exit::Signal(9)]);
    // Another capacity, too: nothing of the old one is left.
    let mut rx = spsc::Consumer::<u64>::open(&name, 8).expect("the name is free");
    assert_eq!((rx.try_pop(), rx.peer().0), (Err(PopError::Empty), Life::Absent));
}
