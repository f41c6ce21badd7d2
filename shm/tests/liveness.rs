//! Who is dead, who only looks it, and what a seat's next taker is told.
//!
//! # Safety
//! Forks by hand, as a user's program might. The children make system calls and touch shared words only, except where
//! it is said.
#![allow(unsafe_code)]

mod common;

use std::os::fd::AsRawFd;
use std::time::Instant;

use common::*;
use nix::sys::signal::Signal;
use sapwood_shm::{Error, Exit, Life, Processes, Running, Seat, Segment};

/// Word of the body in which a grandchild says its number, and the one that ends it.
const GRANDCHILD: usize = 0;
const DONE: usize = 1;

/// One rank at seat 0 of a named segment that does `then`; this process sits at seat 1.
fn with_rank(
    test: &str,
    then: impl FnOnce(&Segment) -> Result<(), String>,
) -> (Forget, Running, Segment, Seat) {
    let name = name(test);
    let enter = |seat| Segment::enter_named(&name, &spec(3), seat, PATIENCE);
    let running = Processes::new(1).start(|_| {
        let (segment, _seat) = enter(0).map_err(|e| e.to_string())?;
        wait_for_seat(&segment, 1);
        then(&segment)
    });
    let running = running.expect("a rank can be started");
    let forget = Forget::name(&name);
    let (segment, seat) = enter(1).expect("seat 1 is free");
    wait_for_seat(&segment, 0);
    (forget, running, segment, seat)
}

#[test]
fn a_killed_holder_is_dead_before_and_after_it_is_reaped() {
    let (_forget, running, segment, _seat) = with_rank("killed", |_| wait_to_be_ended());
    let pid = running.pids()[0];
    assert_eq!(segment.seat_pid(0), pid);
    kill(&running, 0);
    wait_for_death(&segment, 0);
    until("the rank is a zombie", || state(pid) == Some('Z'));
    assert_eq!(segment.life(0), Life::Dead);
    let report = running.wait(PATIENCE).expect("it has ended");
    assert_eq!(report.exits, [Exit::Signal(9)]);
    assert_eq!(segment.life(0), Life::Dead);
    assert_eq!(segment.life(1), Life::Alive);
}

#[test]
fn a_stopped_holder_lives_however_often_one_looks() {
    let (_forget, running, segment, _seat) = with_rank("stopped", |segment| {
        until("the parent is done", || get(segment, DONE) != 0);
        Ok(())
    });
    let pid = running.pids()[0];
    running.signal(0, Signal::SIGSTOP).expect("a child of ours can be stopped");
    until("the rank is stopped", || state(pid) == Some('T'));
    for _ in 0..2000 {
        assert_eq!(segment.life(0), Life::Alive);
    }
    assert_eq!(state(pid), Some('T'), "it was stopped all the while");
    set(&segment, DONE, 1);
    running.signal(0, Signal::SIGCONT).expect("a child of ours can go on");
    let report = running.wait(PATIENCE).expect("it goes on and ends");
    assert!(report.success(), "{report}");
    assert_eq!(segment.life(0), Life::Dead, "it gave its seat up");
}

/// What a grandchild does: says that it is there, and ends when it is told to, or after a minute.
fn be_a_grandchild(segment: &Segment) -> ! {
    // SAFETY: takes nothing.
    set(segment, GRANDCHILD, unsafe { libc::getpid() }.cast_unsigned());
    let began = Instant::now();
    while get(segment, DONE) == 0 && began.elapsed() < 3 * PATIENCE {
        // SAFETY: takes nothing.
        unsafe { libc::sched_yield() };
    }
    // SAFETY: ends this process at once, without handlers of its parent.
    unsafe { libc::_exit(0) }
}

/// Kills the rank when its child is there: the rank is dead, although its child lives. Then does `check`.
fn outlived(running: Running, segment: &Segment, check: impl Fn()) {
    until("the grandchild is there", || get(segment, GRANDCHILD) != 0);
    let grandchild = get(segment, GRANDCHILD);
    assert_eq!(segment.life(0), Life::Alive);
    kill(&running, 0);
    wait_for_death(segment, 0);
    check();
    let report = running.wait(PATIENCE).expect("it has ended");
    assert_eq!(report.exits, [Exit::Signal(9)]);
    assert_eq!(segment.life(0), Life::Dead, "reaped, its number is nobody's or somebody else's");
    check();
    assert!(!ended(grandchild), "the grandchild lived all the while");
    set(segment, DONE, 1);
    until("the grandchild ends", || ended(grandchild));
    assert_eq!(segment.life(0), Life::Dead);
}

#[test]
fn a_forked_child_does_not_keep_its_parent_alive() {
    let (_forget, running, segment, _seat) = with_rank("forked", |segment| {
        // SAFETY: the child does what a forked child may.
        match unsafe { libc::fork() } {
            0 => be_a_grandchild(segment),
            pid => assert!(pid > 0, "fork failed"),
        }
        wait_to_be_ended()
    });
    let pid = running.pids()[0];
    // The handler has closed the child's copy of the lock, so it went with the parent.
    outlived(running, &segment, || {
        let said = segment.take_seat(0).expect_err("its holder is dead");
        assert!(matches!(said, Error::SeatDead { seat: 0, pid: p } if p == pid), "{said}");
    });
}

/// No handler runs here, so the child holds its parent's lock. The parent's process number has to prove its death.
#[test]
fn a_cloned_child_that_holds_the_lock_does_not_keep_its_parent_alive() {
    let (_forget, running, segment, _seat) = with_rank("cloned", |segment| {
        // SAFETY: like fork: no flags, the same stack in a copy of the memory; the child does what such a one may.
        match unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } {
            0 => be_a_grandchild(segment),
            pid => assert!(pid > 0, "clone failed"),
        }
        wait_to_be_ended()
    });
    let pid = running.pids()[0];
    outlived(running, &segment, || {
        let said = segment.take_seat(0).expect_err("the lock is still held, but its holder is dead");
        assert!(matches!(said, Error::SeatDead { seat: 0, pid: p } if p == pid), "{said}");
    });
}

/// Forks; the child runs `child` and ends with its code, which is handed back.
fn in_a_fork(child: impl FnOnce() -> i32) -> i32 {
    // SAFETY: `child` does what a forked child may; glibc keeps its allocator usable there.
    match unsafe { libc::fork() } {
        0 => {
            let code = child();
            // SAFETY: ends this process at once, without handlers of its parent.
            unsafe { libc::_exit(code) }
        }
        pid => match nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None) {
            Ok(nix::sys::wait::WaitStatus::Exited(_, code)) => code,
            other => panic!("the child {pid} did not end by itself: {other:?}"),
        },
    }
}

#[test]
fn a_holder_whose_main_thread_has_ended_lives() {
    let (_forget, running, segment, _seat) = with_rank("headless", |segment| {
        // A fork has one thread, so it can end its main one. The rank's own belongs to the test harness.
        let code = in_a_fork(|| {
            let _seat = segment.take_seat(2).expect("seat 2 is free");
            std::thread::scope(|s| {
                s.spawn(|| be_a_grandchild(segment));
                until("the thread is there", || get(segment, GRANDCHILD) != 0);
                // SAFETY: ends this thread alone; its stack, from which the other one borrows, stays mapped.
                unsafe { libc::syscall(libc::SYS_exit, 0) };
            });
            2
        });
        if code == 0 { Ok(()) } else { Err(format!("the fork ended with {code}")) }
    });
    until("the fork is there", || get(&segment, GRANDCHILD) != 0);
    let pid = get(&segment, GRANDCHILD);
    until("its main thread has ended", || state(pid) == Some('Z'));
    for _ in 0..200 {
        assert_eq!(segment.life(2), Life::Alive);
    }
    set(&segment, DONE, 1);
    wait_for_death(&segment, 2);
    let report = running.wait(PATIENCE).expect("it ends after its child");
    assert!(report.success(), "{report}");
}

#[test]
fn a_seat_that_nobody_took_is_absent() {
    let segment = Segment::create(&spec(3)).expect("there is memory");
    assert_eq!([0, 1, 2].map(|s| segment.life(s)), [Life::Absent; 3]);
    let _seat = segment.take_seat(1).expect("it is free");
    assert_eq!([0, 1, 2].map(|s| segment.life(s)), [Life::Absent, Life::Alive, Life::Absent]);
    assert_eq!([0, 1, 2].map(|s| segment.seat_pid(s)), [0, std::process::id(), 0]);
}

#[test]
fn a_seat_is_taken_once_by_one_process() {
    let segment = Segment::create(&spec(2)).expect("there is memory");
    let seat = segment.take_seat(0).expect("it is free");
    assert_eq!(seat.number(), 0);
    let said = segment.take_seat(0).expect_err("we have it");
    assert!(matches!(said, Error::SeatTaken { seat: 0, pid } if pid == std::process::id()), "{said}");
    assert!(said.to_string().contains(&std::process::id().to_string()), "{said}");
    let said = segment.take_seat(2).expect_err("there is none");
    assert!(matches!(said, Error::NoSuchSeat { seat: 2, seats: 2 }), "{said}");
    drop(seat);
    assert_eq!(segment.life(0), Life::Dead);
    let said = segment.take_seat(0).expect_err("the others know it as dead");
    assert!(matches!(said, Error::SeatDead { seat: 0, pid } if pid == std::process::id()), "{said}");
}

#[test]
fn a_seat_is_taken_once_by_two_processes() {
    let (_forget, running, segment, _seat) = with_rank("twice", |segment| {
        let said = segment.take_seat(1).map(|_| ()).expect_err("the parent has it").to_string();
        let parent = nix::unistd::getppid().to_string();
        assert!(said.contains("seat 1 is taken") && said.contains(&parent), "{said}");
        set(segment, GRANDCHILD, 1);
        until("the parent is done", || get(segment, DONE) != 0);
        Ok(())
    });
    let pid = running.pids()[0];
    let said = segment.take_seat(0).expect_err("the rank has it");
    assert!(matches!(said, Error::SeatTaken { seat: 0, pid: p } if p == pid), "{said}");
    assert_eq!(segment.life(0), Life::Alive, "our try has not hurt it");
    set(&segment, DONE, 1);
    let report = running.wait(PATIENCE).expect("it ends");
    assert!(report.success(), "{report}");
    assert_eq!(get(&segment, GRANDCHILD), 1);
}

#[test]
fn a_forked_child_has_no_part_in_its_parents_seat() {
    let segment = Segment::create(&spec(1)).expect("there is memory");
    let seat = segment.take_seat(0).expect("it is free");
    let before = open_descriptors();
    let code = in_a_fork(|| {
        if seat.is_mine() {
            return 1;
        }
        // The number that the seat had here is free, so a file gets it. Dropping the seat must not close that file.
        let files: Vec<_> = (0..64).map_while(|_| std::fs::File::open("/dev/null").ok()).collect();
        if files.len() != 64 || !files.iter().any(|f| before.contains(&f.as_raw_fd())) {
            return 2;
        }
        // SAFETY: the parent's copy of the handle lives in the parent's memory; this one is dropped here once.
        drop(unsafe { std::ptr::read(&seat) });
        if files.iter().any(|f| f.metadata().is_err()) {
            return 3;
        }
        0
    });
    assert_eq!(code, 0);
    assert!(seat.is_mine());
    assert_eq!(segment.life(0), Life::Alive);
    let said = segment.take_seat(0).expect_err("the parent still has it");
    assert!(matches!(said, Error::SeatTaken { .. }), "{said}");
}

/// Numbers of this process's open descriptors that lead to a memfd of ours.
fn open_descriptors() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc/self/fd").expect("proc is mounted").flatten();
    let ours = entries.filter(|e| {
        std::fs::read_link(e.path()).is_ok_and(|to| to.to_string_lossy().starts_with("/memfd:sapwood"))
    });
    ours.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

#[test]
fn a_childs_own_seat_is_its_own() {
    let segment = Segment::create(&spec(2)).expect("there is memory");
    let _seat = segment.take_seat(0).expect("it is free");
    let code = in_a_fork(|| match segment.take_seat(1) {
        Ok(seat) if seat.is_mine() && segment.life(1) == Life::Alive && segment.life(0) == Life::Alive => 0,
        _ => 1,
    });
    assert_eq!(code, 0);
    wait_for_death(&segment, 1);
    assert_eq!(segment.life(0), Life::Alive);
}
