//! Seats that are taken again after their holders' deaths, and what newcomers recover first.
//!
//! # Safety
//! Clones a process past the handlers of fork. The children make system calls and touch shared words only.
#![allow(unsafe_code)]

mod common;

use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::*;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use sapwood_core::mem::{Atom, Ordering};
use sapwood_shm::{Error, Exit, Life, Processes, Running, Seat, Segment};

/// Words of the body in which processes say how far they are.
const READY: usize = 0;
const DONE: usize = 1;

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

/// For a seat that nobody has left anything under.
fn nothing(_: &Segment, _: &Seat, _: u32) -> Result<(), Error> {
    Ok(())
}

fn segment(seats: usize) -> Segment {
    Segment::create(&spec(seats)).expect("there is memory")
}

/// Ranks 0 and 1 at seats 0 and 2 of a named segment, which do `then`; this process sits at seat 1.
fn with_ranks(
    test: &str,
    ranks: usize,
    then: impl FnOnce(&Segment, Seat, usize) -> Result<(), String>,
) -> (Forget, Running, Segment, Seat) {
    let name = name(test);
    let enter = |seat| Segment::enter_named_again(&name, &spec(4), Some(seat), PATIENCE, nothing);
    let running = Processes::new(ranks).start(|rank| {
        let (segment, seat) = enter(2 * rank.rank()).map_err(text)?;
        wait_for_seat(&segment, 1);
        then(&segment, seat, rank.rank())
    });
    let running = running.expect("ranks can be started");
    let forget = Forget::name(&name);
    let (segment, seat) = enter(1).expect("seat 1 is free");
    (0..ranks).for_each(|r| wait_for_seat(&segment, 2 * r));
    (forget, running, segment, seat)
}

#[test]
fn a_newcomer_recovers_what_a_killed_holder_has_left() {
    let (_forget, running, segment, _seat) = with_ranks("killed", 1, |segment, seat, _| {
        own(segment, &seat);
        own(segment, &seat);
        set(segment, READY, seat.epoch());
        wait_to_be_ended()
    });
    until("the rank owns two words", || get(&segment, READY) != 0);
    let epoch = get(&segment, READY);
    assert_eq!(owners(&segment), [(0, epoch); 2]);
    assert!(segment.owner_alive(0, epoch));
    let said = segment.take_seat_again(0, |_, _, _| panic!("it lives")).expect_err("it lives");
    assert!(matches!(said, Error::SeatTaken { seat: 0, pid } if pid == running.pids()[0]), "{said}");
    kill(&running, 0);
    wait_for_death(&segment, 0);
    assert!(!segment.owner_alive(0, epoch));
    let mut dead = Vec::new();
    let seat = segment.take_seat_again(0, |segment, me, epoch| {
        // While it recovers the newcomer is alive under its own name already.
        assert!(segment.owner_alive(me.number(), me.epoch()) && segment.life(0) == Life::Alive);
        dead.push(epoch);
        recover(segment, me, epoch)
    });
    let seat = seat.expect("its holder is dead");
    assert_eq!((dead, owners(&segment)), (vec![epoch], vec![]));
    assert_eq!((seat.number(), seat.epoch()), (0, epoch + 1));
    assert_eq!([epoch, epoch + 1].map(|e| segment.owner_alive(0, e)), [false, true]);
    assert_eq!(segment.seat_pid(0), std::process::id());
    let said = segment.take_seat(0).expect_err("once only");
    assert!(matches!(said, Error::SeatTaken { .. }), "{said}");
}

/// Rank 0 is killed as the owner of two words. Rank 1 takes its seat and is killed when it has taken the first of them
/// over: then one word is the first one's, one the second one's, and a third newcomer recovers both.
#[test]
fn a_newcomer_killed_in_its_recovery_is_recovered_too() {
    let (_forget, running, segment, _seat) = with_ranks("midway", 2, |segment, seat, rank| {
        if rank == 0 {
            own(segment, &seat);
            own(segment, &seat);
            set(segment, READY, 1);
            return wait_to_be_ended();
        }
        until("rank 0 is dead", || segment.life(0) == Life::Dead);
        let stuck = segment.take_seat_again(0, |segment, me, dead| {
            let (mine, theirs) = (owner(0, me.epoch()), owner(0, dead));
            let first = OWNED.map(|i| word(segment, i)).find(|w| w.load(Ordering::Acquire) == theirs);
            first.expect("rank 0 has left two").store(mine, Ordering::Release);
            set(segment, READY, 2);
            wait_to_be_ended().expect_err("the parent ends us");
            Ok(())
        });
        Err(format!("{stuck:?}"))
    });
    until("rank 0 owns two words", || get(&segment, READY) == 1);
    kill(&running, 0);
    until("rank 1 recovers", || get(&segment, READY) == 2);
    assert_eq!(owners(&segment), [(0, 2), (0, 1)]);
    assert_eq!([1, 2].map(|e| segment.owner_alive(0, e)), [false, true]);
    kill(&running, 1);
    wait_for_death(&segment, 0);
    assert!(!segment.owner_alive(0, 2));
    let mut dead = Vec::new();
    let seat = segment.take_seat_again(0, |segment, me, epoch| {
        dead.push(epoch);
        recover(segment, me, epoch)
    });
    assert_eq!(seat.expect("both are dead").epoch(), 3);
    assert_eq!((dead, owners(&segment)), (vec![1, 2], vec![]));
}

#[test]
fn a_recovery_that_fails_is_done_again_by_the_next() {
    let segment = segment(1);
    drop(segment.take_seat(0).expect("it is free"));
    let refuse = |_: &Segment, _: &Seat, _| Err(Error::Closed);
    let said = segment.take_seat_again(0, refuse).map(|_| ()).expect_err("it could not be recovered");
    assert!(matches!(said, Error::Closed), "{said}");
    assert_eq!(segment.life(0), Life::Dead, "nobody sits there");
    let mut dead = Vec::new();
    let note = |_: &Segment, _: &Seat, epoch| {
        dead.push(epoch);
        if dead.len() == 2 { Err(Error::Closed) } else { Ok(()) }
    };
    segment.take_seat_again(0, note).expect_err("the second could not be recovered");
    assert_eq!(dead, [1, 2]);
    let mut dead = Vec::new();
    let note = |_: &Segment, _: &Seat, epoch| {
        dead.push(epoch);
        Ok(())
    };
    let seat = segment.take_seat_again(0, note).expect("it is free");
    assert_eq!((dead, seat.epoch()), (vec![2, 3], 4), "the first was recovered for good");
}

/// Names of owners repeat after 1024 epochs: so many dead ones can't be told apart.
#[test]
fn a_seat_whose_every_newcomer_fails_is_given_up() {
    let segment = segment(2);
    let refuse = |_: &Segment, _: &Seat, _| Err(Error::Closed);
    for _ in 1..1024 {
        let said = segment.take_seat_again(0, refuse).map(drop);
        assert!(matches!(said, Ok(()) | Err(Error::Closed)), "{said:?}");
    }
    let said = segment.take_seat_again(0, refuse).map(drop).expect_err("too many");
    assert!(matches!(said, Error::SeatSpoilt { seat: 0, deaths: 1024 }), "{said}");
    assert_eq!(segment.take_any_seat(nothing).expect("there is another").number(), 1);
    let _other = segment.take_seat_again(1, nothing).expect("it was given up");
    let said = segment.take_any_seat(nothing).map(drop).expect_err("no other is left");
    assert!(matches!(said, Error::SeatSpoilt { seat: 0, .. }), "{said}");
}

#[test]
fn two_thousand_holders_one_after_another_have_one_name_at_a_time() {
    let segment = segment(1);
    let mut last = 0;
    for turn in 1..=2100 {
        let mut dead = Vec::new();
        let seat = segment.take_seat_again(0, |segment, me, epoch| {
            dead.push(epoch);
            recover(segment, me, epoch)
        });
        let seat = seat.expect("it was given up");
        assert_eq!((seat.epoch(), dead), (turn, (last..turn).filter(|e| *e != 0).collect()));
        assert_eq!(owners(&segment), []);
        own(&segment, &seat);
        // What the names of owners can tell apart: of the last 1024 epochs, this one alone lives.
        let alive = |e: &u32| segment.owner_alive(0, *e & 1023);
        if turn % 100 == 0 || turn >= 2099 || turn % 1024 < 2 {
            assert_eq!((turn.saturating_sub(1023)..=turn).filter(alive).collect::<Vec<_>>(), [turn]);
        }
        last = turn;
    }
}

/// The count of a seat's epochs wraps past 0, which is "never taken".
#[test]
fn the_epoch_after_the_last_is_the_first() {
    let folder = Folder::new("wrap");
    let (segment, _other) = Segment::create_named_in(&folder.0, "x", &spec(2), 1).expect("the name is free");
    let file = OpenOptions::new().write(true).open(file_of(&folder.0, "x")).expect("it is there");
    // The line of seat 0, as if it had been taken and recovered so often (see the crate's `layout`).
    file.write_all_at(&u32::MAX.to_ne_bytes(), 4096).expect("it can be written");
    file.write_all_at(&(u32::MAX - 1).to_ne_bytes(), 4096 + 32).expect("it can be written");
    assert_eq!(segment.life(0), Life::Dead);
    for (epoch, dead) in [(1, u32::MAX), (2, 1)] {
        let mut found = Vec::new();
        let seat = segment.take_seat_again(0, |_, _, dead| {
            found.push(dead);
            Ok(())
        });
        let seat = seat.expect("nobody holds it");
        assert_eq!((seat.epoch(), found), (epoch, vec![dead]));
        assert_eq!([epoch, dead].map(|e| segment.owner_alive(0, e)), [true, false]);
    }
}

#[test]
fn a_seat_given_up_is_free_at_once() {
    let segment = segment(2);
    let seat = segment.take_seat_again(0, nothing).expect("it is free");
    assert!(segment.owner_alive(0, 1) && !segment.owner_alive(1, 1), "nobody has sat at 1");
    assert!(!segment.owner_alive(2, 1) && !segment.owner_alive(usize::MAX, 1), "there are no such seats");
    // A child that is just being started has a copy of the lock's description for a while; this one keeps it.
    let child = clone_child(|| until_word(&segment, DONE));
    drop(seat);
    assert_eq!((segment.life(0), segment.owner_alive(0, 1)), (Life::Dead, false));
    let seat = segment.take_seat_again(0, nothing).expect("it is free");
    assert_eq!(seat.epoch(), 2);
    set(&segment, DONE, 1);
    assert_eq!(reap(child), WaitStatus::Exited(child, 0));
    assert!(segment.owner_alive(0, 2));
}

/// A child that does `child` and ends with code 0. No handler runs in it, so it keeps the locks of its parent.
fn clone_child(child: impl FnOnce()) -> Pid {
    // SAFETY: like fork: no flags, the same stack in a copy of the memory; the child does what such a one may.
    match unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } {
        0 => {
            child();
            // SAFETY: ends this process at once, without handlers of its parent.
            unsafe { libc::_exit(0) }
        }
        pid => {
            assert!(pid > 0, "clone failed");
            Pid::from_raw(pid as i32)
        }
    }
}

fn reap(child: Pid) -> WaitStatus {
    waitpid(child, None).expect("it is a child of ours")
}

/// What a cloned child waits for: system calls and shared words only.
fn until_word(segment: &Segment, word: usize) {
    let began = Instant::now();
    while get(segment, word) == 0 && began.elapsed() < 3 * PATIENCE {
        // SAFETY: takes nothing.
        unsafe { libc::sched_yield() };
    }
}

/// The clone has the handle of its parent's seat, in a copy of the memory, and drops it.
#[test]
fn a_cloned_child_can_not_give_its_parents_seat_up() {
    let segment = segment(1);
    let seat = segment.take_seat_again(0, nothing).expect("it is free");
    let child = clone_child(|| {
        // SAFETY: the parent's copy of the handle lives in the parent's memory; this one is dropped here once.
        drop(unsafe { std::ptr::read(&seat) });
    });
    assert_eq!(reap(child), WaitStatus::Exited(child, 0));
    assert_eq!((segment.life(0), segment.owner_alive(0, 1)), (Life::Alive, true));
    let said = segment.take_seat_again(0, nothing).expect_err("we hold it");
    assert!(matches!(said, Error::SeatTaken { .. }), "{said}");
}

/// The dead rank's child holds the byte of its parent's epoch. Its process number proves the death, and the next epoch
/// has another byte.
#[test]
fn a_seat_is_taken_again_although_a_child_of_the_dead_holds_its_lock() {
    let (_forget, running, segment, _seat) = with_ranks("orphan", 1, |segment, seat, _| {
        own(segment, &seat);
        clone_child(|| {
            // SAFETY: takes nothing.
            set(segment, READY, unsafe { libc::getpid() }.cast_unsigned());
            until_word(segment, DONE);
        });
        wait_to_be_ended()
    });
    until("the child is there", || get(&segment, READY) != 0);
    kill(&running, 0);
    wait_for_death(&segment, 0);
    assert!(!segment.owner_alive(0, 1));
    let seat = segment.take_seat_again(0, recover).expect("its holder is dead");
    assert_eq!((seat.epoch(), owners(&segment)), (2, vec![]));
    assert!(!ended(get(&segment, READY)), "the child lived all the while");
    drop(seat);
    assert_eq!(segment.take_any_seat(recover).expect("it was given up").epoch(), 3);
    set(&segment, DONE, 1);
    let report = running.wait(PATIENCE).expect("it has ended");
    assert_eq!(report.exits, [Exit::Signal(9)]);
}

#[test]
fn a_stopped_holder_is_never_robbed() {
    let (_forget, running, segment, _seat) = with_ranks("stopped", 1, |segment, seat, _| {
        own(segment, &seat);
        set(segment, READY, 1);
        until("the parent is done", || get(segment, DONE) != 0);
        if segment.owner_alive(0, seat.epoch()) && owners(segment) == [(0, 1)] {
            Ok(())
        } else {
            Err(format!("robbed: {:?}", owners(segment)))
        }
    });
    until("the rank owns a word", || get(&segment, READY) == 1);
    let pid = running.pids()[0];
    running.signal(0, Signal::SIGSTOP).expect("a child of ours can be stopped");
    until("the rank is stopped", || state(pid) == Some('T'));
    for _ in 0..500 {
        assert!(segment.owner_alive(0, 1));
        let said = segment.take_seat_again(0, |_, _, _| panic!("it lives")).expect_err("it lives");
        assert!(matches!(said, Error::SeatTaken { seat: 0, pid: p } if p == pid), "{said}");
        assert_eq!(segment.take_any_seat(recover).expect("there is another").number(), 2);
    }
    assert_eq!(state(pid), Some('T'), "it was stopped all the while");
    set(&segment, DONE, 1);
    running.signal(0, Signal::SIGCONT).expect("a child of ours can go on");
    let report = running.wait(PATIENCE).expect("it goes on and ends");
    assert!(report.success(), "{report}");
    assert!(!segment.owner_alive(0, 1), "it has left");
}

#[test]
fn all_seats_taken_is_an_error_with_their_number() {
    let segment = segment(3);
    let take = || segment.take_any_seat(nothing);
    let seats: Vec<Seat> = (0..3).map(|_| take().expect("one is free")).collect();
    assert_eq!(seats.iter().map(Seat::number).collect::<Vec<_>>(), [0, 1, 2]);
    let said = take().map(drop).expect_err("none is free");
    assert!(matches!(said, Error::NoSeat { seats: 3 }), "{said}");
    assert!(said.to_string().contains("all 3 seats"), "{said}");
    drop(seats);
    let said = segment.take_seat_again(3, nothing).map(drop).expect_err("there is none");
    assert!(matches!(said, Error::NoSuchSeat { seat: 3, seats: 3 }), "{said}");
}

/// Owners' names have room for 1022 seats. Others may be taken once, by ranks that own no words.
#[test]
fn seats_without_a_name_are_not_taken_again() {
    let segment = segment(1025);
    let said = segment.take_seat_again(1022, nothing).map(drop).expect_err("it has no name");
    assert!(matches!(said, Error::NoSuchSeat { seat: 1022, seats: 1022 }), "{said}");
    let last = segment.take_seat_again(1021, nothing).expect("it is free");
    assert!(segment.owner_alive(1021, last.epoch()));
    let rank = segment.take_seat(1024).expect("it is free");
    assert_eq!(rank.number(), 1024);
}

/// Four processes take seats of two, over and over; the winners of a seat never meet in it.
#[test]
fn newcomers_at_once_get_a_seat_each_or_are_told_that_there_is_none() {
    let (turns, name) = (300, name("rush"));
    let running = Processes::new(4).start(|rank| {
        let enter = || Segment::enter_named_again(&name, &spec(8), Some(4 + rank.rank()), PATIENCE, nothing);
        let (segment, _own) = enter().map_err(text)?;
        set(&segment, 8 + rank.rank(), 1);
        until("all have come", || (0..4).all(|r| get(&segment, 8 + r) != 0));
        let (mut sat, mut turned_away) = (0, 0);
        while sat < turns {
            let wanted = (sat + turned_away) % 2;
            match segment.take_seat_again(wanted, recover) {
                Ok(seat) => {
                    // Whoever else sat here now would find the word, or we its.
                    let mine = rank.rank() as u32 + 1;
                    word(&segment, 16 + wanted)
                        .cas(0, mine, Ordering::AcqRel)
                        .map_err(|w| format!("rank {} sits at {wanted} too", w - 1))?;
                    if !segment.owner_alive(wanted, seat.epoch()) {
                        return Err(format!("a living holder was called dead at {wanted}"));
                    }
                    set(&segment, 16 + wanted, 0);
                    sat += 1;
                }
                Err(Error::SeatTaken { .. }) => turned_away += 1,
                Err(e) => return Err(text(e)),
            }
        }
        Ok(())
    });
    let _forget = Forget::name(&name);
    let report = running.expect("ranks can be started").wait(3 * PATIENCE).expect("they end");
    assert!(report.success(), "{report}");
}

/// The holders of a named segment come and go; as long as one is there it keeps its name and its contents.
#[test]
fn a_named_segment_lives_on_while_its_seats_change_hands() {
    let folder = Folder::new("hands");
    let dead = Mutex::new(Vec::new());
    let enter = |seat| {
        Segment::enter_named_again_in(&folder.0, "x", &spec(2), seat, PATIENCE, |_, me, epoch| {
            dead.lock().expect("nobody panics").push((me.number(), epoch));
            Ok(())
        })
    };
    let found = || std::mem::take(&mut *dead.lock().expect("nobody panics"));
    let (first, zero) = enter(None).expect("the name is free");
    let (_, one) = enter(None).expect("there is another seat");
    assert_eq!((zero.number(), one.number(), found()), (0, 1, vec![]));
    let said = enter(None).map(drop).expect_err("both are taken");
    assert!(matches!(said, Error::NoSeat { seats: 2 }), "{said}");
    drop(zero);
    let (again, zero) = enter(None).expect("seat 0 was given up");
    assert_eq!((again.nonce(), zero.number(), found()), (first.nonce(), 0, vec![(0, 1)]));
    drop(one);
    let (again, one) = enter(Some(1)).expect("seat 1 was given up");
    assert_eq!((again.nonce(), one.epoch(), found()), (first.nonce(), 2, vec![(1, 1)]));
    let said = Segment::enter_named_in(&folder.0, "x", &spec(2), 1, PATIENCE).map(drop).expect_err("taken");
    assert!(matches!(said, Error::SeatTaken { seat: 1, .. }), "{said}");
    drop(one);
    // A group takes its seats once, however they are taken elsewhere.
    let said = Segment::enter_named_in(&folder.0, "x", &spec(2), 1, PATIENCE).map(drop).expect_err("dead");
    assert!(matches!(said, Error::SeatDead { seat: 1, .. }), "{said}");
    drop(zero);
    let (fresh, zero) = enter(None).expect("the name is stale");
    assert_ne!(fresh.nonce(), first.nonce());
    assert_eq!((zero.epoch(), found()), (1, vec![]), "a new segment has nothing to recover");
    // Whoever still has the old one can't sit down in it any more.
    let said = first.take_any_seat(nothing).map(drop).expect_err("it is retired");
    assert!(matches!(said, Error::Retired), "{said}");
}

/// Somebody else has the lock of the name, as a process that is taking a stale name away.
#[test]
fn unlinking_waits_for_whoever_is_at_the_name() {
    let folder = Folder::new("linger");
    let (segment, _seat) = Segment::create_named_in(&folder.0, "x", &spec(1), 0).expect("it is free");
    let path = file_of(&folder.0, "x");
    let other = OpenOptions::new().read(true).write(true).open(&path).expect("it is there");
    lock_name(&other, libc::F_WRLCK);
    let said = segment.unlink().expect_err("somebody is at it");
    assert!(matches!(said, Error::Unsettled { waited, .. } if waited >= Duration::from_secs(1)), "{said}");
    std::thread::scope(|s| {
        let unlinking = s.spawn(|| segment.unlink());
        lock_name(&other, libc::F_UNLCK);
        unlinking.join().expect("no panic").expect("nobody is at it any more");
    });
    assert!(!Path::new(&path).exists());
}

/// Takes or gives up the lock of a segment's name (see the crate's `layout`).
fn lock_name(file: &impl AsFd, kind: i32) {
    let lock = libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: (1 << 61) + 1,
        l_len: 1,
        l_pid: 0,
    };
    nix::fcntl::fcntl(file.as_fd(), nix::fcntl::FcntlArg::F_OFD_SETLK(&lock)).expect("nobody holds it");
}
