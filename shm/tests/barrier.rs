//! A barrier between threads and between processes: whoever dies, leaves, stops or forks.
#![allow(missing_docs)]

mod common;

use std::time::Duration;

use common::rings::*;
use common::*;
use nix::sys::signal::Signal;
use sapwood_core::mem::{Atom, Mem, Ordering, Real};
use sapwood_shm::barrier::{self, Arrived, Barrier, BarrierError};
use sapwood_shm::ring::Peer;
use sapwood_shm::{Error, Exit, Processes};

const ROUNDS: u64 = 300;
/// Flag of the tally.
const THERE: usize = 0;

fn me(seat: usize) -> Peer {
    Peer { seat, pid: std::process::id() }
}

/// MTX-2
#[test]
fn mtx_2_nobody_passes_before_all_have_come_and_all_see_what_was_written() {
    let said: Vec<<Real as Mem>::U64> = (0..4).map(|_| Atom::new(0)).collect();
    let leaders = <Real as Mem>::U64::new(0);
    let participate = |mut barrier: Barrier| {
        for round in 1..=ROUNDS {
            said[barrier.seat()].store(round, Ordering::Relaxed);
            let Arrived { leader, generation } = barrier.wait().expect("all come");
            assert_eq!(generation, 2 * round - 1);
            assert!(said.iter().all(|s| s.load(Ordering::Relaxed) == round), "one has not come to {round}");
            if leader {
                leaders.store(leaders.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            }
            barrier.wait().expect("all have looked");
        }
    };
    std::thread::scope(|s| {
        let first = Barrier::new(4).expect("memory");
        let clones: Vec<_> = (0..3).map(|_| first.try_clone().expect("one of four")).collect();
        clones.into_iter().for_each(|barrier| _ = s.spawn(|| participate(barrier)));
        participate(first);
    });
    assert_eq!(leaders.load(Ordering::Relaxed), ROUNDS, "one leader a passage");
}

/// MTX-2
#[test]
fn mtx_2_processes_pass_together() {
    let (name, tally_name) = (name("pass"), name("pass-tally"));
    let values = 4 * ROUNDS as usize;
    let participate = |tally: &Tally| {
        let mut barrier = Barrier::open(&name, 4).map_err(text)?;
        for round in 0..ROUNDS as usize {
            assert!(!tally.note(4 * round + barrier.seat()), "twice in one round");
            assert_eq!(barrier.wait().map(|a| a.generation), Ok(round as u64 + 1));
            assert!((0..4).all(|seat| tally.came(4 * round + seat)), "one has not come to {round}");
        }
        Ok::<_, String>(barrier)
    };
    // Nobody leaves before all have passed the last one: the name would begin anew for who comes late.
    let running = Processes::new(3).start(|_| participate(&Tally::open(&tally_name, values)).map(drop));
    let running = running.expect("they start");
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    participate(&Tally::open(&tally_name, values)).expect("all pass");
    ended_well(running);
}

/// A rank that comes to the barrier once less than the others.
fn comes_once(name: &str, tally: &str) -> Result<(), String> {
    let mut barrier = Barrier::open(name, 3).map_err(text)?;
    barrier.wait().map_err(text)?;
    let tally = Tally::open(tally, 1);
    tally.set_flag(THERE, 1);
    wait_to_be_ended()
}

/// What all that wait again are told.
fn all_are_told(participants: [&mut Barrier; 2], meanwhile: impl FnOnce()) -> [BarrierError; 2] {
    std::thread::scope(|s| {
        let waiting = participants.map(|b| s.spawn(|| b.wait_timeout(PATIENCE).expect_err("one is missing")));
        meanwhile();
        waiting.map(|t| t.join().expect("it was told"))
    })
}

/// MTX-4
#[test]
fn mtx_4_a_killed_participant_fails_the_waits_of_all() {
    let (name, tally_name) = (name("killed"), name("killed-tally"));
    let running = rank(|| comes_once(&name, &tally_name));
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    let open = || Barrier::open(&name, 3).expect("a seat is free");
    let (mut one, mut two) = (open(), open());
    std::thread::scope(|s| {
        s.spawn(|| one.wait().expect("all come"));
        two.wait().expect("all come");
    });
    Tally::open(&tally_name, 1).wait_for_flag(THERE, 0);
    let dead = (0..3).find(|s| ![one.seat(), two.seat()].contains(s)).expect("one of three");
    let peer = Peer { seat: dead, pid: running.pids()[0] };
    let told = all_are_told([&mut one, &mut two], || kill(&running, 0));
    let expected = BarrierError::PeerDied { peer, generation: 2 };
    assert_eq!(told, [expected.clone(), expected.clone()]);
    assert_eq!(running.wait(PATIENCE).expect("it ends").exits, [Exit::Signal(9)]);
    assert_eq!(one.wait(), Err(expected.clone()), "it stays broken");
    assert!(expected.to_string().contains(&format!("{peer} died before it came")), "{expected}");
    let said = Barrier::open(&name, 3).expect_err("it is broken");
    assert!(matches!(said, Error::NoSeat { .. } | Error::SeatDead { .. }), "{said}");
}

/// MTX-4
#[test]
fn mtx_4_no_time_at_all_is_enough_to_learn_of_a_death() {
    let (name, tally_name) = (name("at-once"), name("at-once-tally"));
    let running = rank(|| {
        let _barrier = Barrier::open(&name, 2).map_err(text)?;
        let tally = Tally::open(&tally_name, 1);
        tally.set_flag(THERE, 1);
        wait_to_be_ended()
    });
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    Tally::open(&tally_name, 1).wait_for_flag(THERE, 0);
    let mut barrier = Barrier::open(&name, 2).expect("a seat is free");
    let peer = Peer { seat: 0, pid: running.pids()[0] };
    kill(&running, 0);
    running.wait(PATIENCE).expect("it ends");
    let said = barrier.wait_timeout(Duration::ZERO);
    assert_eq!(said, Err(BarrierError::PeerDied { peer, generation: 1 }));
}

/// MTX-4
#[test]
fn mtx_4_a_stopped_participant_is_missing_and_never_dead() {
    let (name, tally_name) = (name("stopped"), name("stopped-tally"));
    let running = rank(|| {
        let mut barrier = Barrier::open(&name, 3).map_err(text)?;
        barrier.wait().map_err(text)?;
        let tally = Tally::open(&tally_name, 1);
        tally.set_flag(THERE, 1);
        tally.wait_for_flag(THERE, 1);
        // The others have given up.
        match barrier.wait() {
            Err(BarrierError::Broken { missing, generation: 2 }) if missing.seat == barrier.seat() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    let open = || Barrier::open(&name, 3).expect("a seat is free");
    let (mut one, mut two) = (open(), open());
    std::thread::scope(|s| {
        s.spawn(|| one.wait().expect("all come"));
        two.wait().expect("all come");
    });
    let tally = Tally::open(&tally_name, 1);
    tally.wait_for_flag(THERE, 0);
    running.signal(0, Signal::SIGSTOP).expect("a child of ours can be stopped");
    let pid = running.pids()[0];
    until("the rank is stopped", || state(pid) == Some('T'));
    let stopped = (0..3).find(|s| ![one.seat(), two.seat()].contains(s)).expect("one of three");
    let peer = Peer { seat: stopped, pid };
    let limit = Duration::from_millis(150);
    let (first, second) = std::thread::scope(|s| {
        let patient = s.spawn(|| two.wait_timeout(PATIENCE).expect_err("one is missing"));
        (one.wait_timeout(limit).expect_err("one is missing"), patient.join().expect("it was told"))
    });
    match first {
        BarrierError::Timeout { missing, waited, generation: 2 } => {
            assert!(waited >= limit && missing.contains(&peer), "{missing:?} after {waited:?}");
        }
        other => panic!("{other}"),
    }
    assert!(matches!(second, BarrierError::Broken { generation: 2, .. }), "{second}");
    running.signal(0, Signal::SIGCONT).expect("a child of ours can go on");
    tally.set_flag(THERE, 2);
    ended_well(running);
}

/// MTX-4
#[test]
fn mtx_4_who_leaves_or_panics_fails_the_waits_of_the_others() {
    for make in [|| Barrier::new(3), || Barrier::create(3)] {
        let mut one = make().expect("memory");
        let mut two = one.try_clone().expect("one of three");
        let mut three = one.try_clone().expect("one of three");
        assert_eq!(one.try_clone().map(drop).expect_err("all have come").to_string(), no_seat());
        let panicked = std::thread::spawn(move || {
            three.wait().expect("all come");
            panic!("behind the first passage");
        });
        std::thread::scope(|s| {
            s.spawn(|| one.wait().expect("all come"));
            two.wait().expect("all come");
        });
        let told = all_are_told([&mut one, &mut two], || ());
        panicked.join().expect_err("it panicked");
        let expected = BarrierError::PeerLeft { peer: me(2), generation: 2 };
        assert_eq!(told, [expected.clone(), expected]);
    }
}

fn no_seat() -> String {
    Error::NoSeat { seats: 3 }.to_string()
}

/// MTX-4
#[test]
fn mtx_4_a_wait_whose_time_is_up_breaks_the_barrier_for_all() {
    let mut one = Barrier::create(4).expect("memory");
    let mut two = one.try_clone().expect("one of four");
    let three = one.try_clone().expect("one of four");
    let limit = Duration::from_millis(20);
    let said = one.wait_timeout(limit).expect_err("three are missing");
    let BarrierError::Timeout { missing, waited, generation: 1 } = &said else { panic!("{said}") };
    assert_eq!(*missing, [me(1), me(2), Peer { seat: 3, pid: 0 }]);
    assert!(*waited >= limit);
    let expected =
        format!("process {} in seat 2, seat 3, where nobody sits, had not come", std::process::id());
    assert!(said.to_string().contains(&expected), "{said}");
    let broken = BarrierError::Broken { missing: me(1), generation: 1 };
    assert_eq!((two.wait(), one.wait()), (Err(broken.clone()), Err(broken.clone())));
    drop(three);
    assert_eq!(two.wait(), Err(broken), "why it broke does not change");
    // No time at all is enough where nobody is missing.
    assert_eq!(Barrier::new(1).expect("memory").wait_timeout(Duration::ZERO).map(|a| a.leader), Ok(true));
}

/// W-22: counts that differ hang nobody.
#[test]
fn other_numbers_of_participants_are_refused() {
    let name = name("numbers");
    let _one = Barrier::open(&name, 3).expect("it is made");
    let _forget = Forget::name(&name);
    let said = Barrier::open(&name, 4).expect_err("another number");
    assert!(matches!(said, Error::OtherSize { found: 3, expected: 4 }), "{said}");
    assert!(said.to_string().contains("made for 3 participants, this one expects 4"), "{said}");
    let said = Barrier::new(0).expect_err("nobody");
    assert!(matches!(said, Error::Participants { asked: 0, most: barrier::PARTICIPANTS }), "{said}");
}

#[test]
fn a_forked_child_takes_no_part() {
    for make in [|| Barrier::new(2), || Barrier::create(2)] {
        let mut one = make().expect("memory");
        let mut two = one.try_clone().expect("one of two");
        // SAFETY: the child uses its copies of the handles and ends; glibc keeps its allocator usable there.
        match unsafe { libc::fork() } {
            0 => {
                let good = one.wait() == Err(BarrierError::Forked);
                drop((one, two));
                // SAFETY: ends this process at once, without handlers of its parent.
                unsafe { libc::_exit(i32::from(!good)) }
            }
            pid => match nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None) {
                Ok(nix::sys::wait::WaitStatus::Exited(_, 0)) => {}
                other => panic!("the child {pid}: {other:?}"),
            },
        }
        std::thread::scope(|s| {
            s.spawn(|| one.wait().expect("nobody has left"));
            two.wait().expect("nobody has left");
        });
    }
}
