//! Nobody is dead because he is looked at from another namespace. Each test needs the kernel's leave to make one, and
//! says so where it is refused.
//!
//! # Safety
//! Forks by hand, as containers are made. The children have one thread; they make system calls, look at a segment and
//! end at once.
#![allow(unsafe_code)]

mod common;

use common::*;
use nix::mount::{MsFlags, mount};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use sapwood_shm::{Life, Segment};

/// What a child ends with.
const GOOD: i32 = 0;
const BAD: i32 = 1;
const REFUSED: i32 = 77;

/// Word of the body in which a child says how far it is.
const TURN: usize = 0;

/// Runs `child` in a forked child, and hands back the code that it ends with.
fn in_a_fork(child: impl FnOnce() -> i32) -> i32 {
    // SAFETY: `child` does what a forked child may; glibc keeps its allocator usable there.
    match unsafe { libc::fork() } {
        0 => {
            let code = child();
            // SAFETY: ends this process at once, without handlers of its parent.
            unsafe { libc::_exit(code) }
        }
        pid => match waitpid(Pid::from_raw(pid), None) {
            Ok(WaitStatus::Exited(_, code)) => code,
            other => panic!("the child {pid} did not end by itself: {other:?}"),
        },
    }
}

/// Leaves the namespaces named by `flags`, as root or as the root of a user namespace of its own.
fn leave(flags: i32) -> bool {
    // SAFETY: takes a number.
    let unshare = |flags| unsafe { libc::unshare(flags) } == 0;
    unshare(flags) || unshare(flags | libc::CLONE_NEWUSER)
}

fn good(what: bool) -> i32 {
    if what { GOOD } else { BAD }
}

/// Says why nothing was seen, if nothing was.
fn conclude(code: i32) {
    match code {
        REFUSED => println!("skipped: this user may not make such namespaces here"),
        code => assert_eq!(code, GOOD, "a living holder was called dead"),
    }
}

#[test]
fn a_holder_is_alive_for_who_counts_time_from_another_boot() {
    let segment = Segment::create(&spec(2)).expect("there is memory");
    let _seat = segment.take_seat(0).expect("it is free");
    assert_eq!(segment.life(0), Life::Alive);
    conclude(in_a_fork(|| {
        // The children of this process count from another boot; it does not itself.
        if !leave(libc::CLONE_NEWTIME)
            || std::fs::write("/proc/self/timens_offsets", "boottime 1000000 0").is_err()
        {
            return REFUSED;
        }
        in_a_fork(|| good(segment.life(0) == Life::Alive && segment.owner_alive(0, 1)))
    }));
    assert_eq!(segment.life(0), Life::Alive);
}

/// A number says nothing in another PID namespace, also where the child has been forked from a process of this one.
#[test]
fn a_holder_is_alive_for_a_child_that_has_no_such_number() {
    let segment = Segment::create(&spec(2)).expect("there is memory");
    let _seat = segment.take_seat(0).expect("it is free");
    assert_eq!(segment.life(0), Life::Alive);
    conclude(in_a_fork(|| {
        if !leave(libc::CLONE_NEWPID) {
            return REFUSED;
        }
        in_a_fork(|| good(segment.life(0) == Life::Alive))
    }));
    assert_eq!(segment.life(0), Life::Alive);
}

/// The holder sees its own `/proc`, whoever looks at it that of another PID namespace, in which the holder's number is
/// somebody else's.
#[test]
fn a_holder_is_alive_for_who_sees_the_proc_of_another_namespace() {
    let segment = Segment::create(&spec(2)).expect("there is memory");
    conclude(in_a_fork(|| {
        if !leave(libc::CLONE_NEWPID | libc::CLONE_NEWNS) {
            return REFUSED;
        }
        // Number 1 of a PID namespace, with a child that is left behind in the mount namespace that it leaves.
        in_a_fork(|| {
            // SAFETY: as for `in_a_fork`.
            let looker = match unsafe { libc::fork() } {
                0 => {
                    until("the holder sits", || get(&segment, TURN) != 0);
                    let code = good(segment.life(0) == Life::Alive);
                    // SAFETY: ends this process at once.
                    unsafe { libc::_exit(code) }
                }
                pid => Pid::from_raw(pid),
            };
            let none = None::<&str>;
            let mounted = leave(libc::CLONE_NEWNS)
                && mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).is_ok()
                && mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none).is_ok();
            let seat = segment.take_seat(0);
            set(&segment, TURN, 1);
            let seen = waitpid(looker, None);
            match (mounted, seat) {
                (false, _) => REFUSED,
                (true, Ok(_)) => good(seen == Ok(WaitStatus::Exited(looker, GOOD))),
                (true, Err(_)) => BAD,
            }
        })
    }));
}
