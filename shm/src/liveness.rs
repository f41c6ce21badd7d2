//! Proof of death. No clock decides: a process that is merely stopped or slow is alive for ever.
//!
//! | seen                                                                  | answer | why it is proof                              |
//! |-----------------------------------------------------------------------|--------|----------------------------------------------|
//! | lock free, epoch 0                                                    | absent | nobody has sat there                         |
//! | lock free, epoch 0, marked by the process that was to bring it        | dead   | its parent has reaped it                     |
//! | lock free, epoch not 0                                                | dead   | the kernel dropped the lock at its death (or it gave the seat up) |
//! | lock held, holder in another PID namespace, or not yet written        | alive  | nothing more can be known                    |
//! | lock held, no process of that number and start time, or its pidfd is readable | dead | a child holds the description of its dead parent |
//! | lock held, every thread of it is exiting                              | dying  | it executes no instruction of its program any more |
//! | else                                                                  | alive  |                                              |
//!
//! A look costs two system calls where the lock is free and some ten where it is held; it is taken by whoever has
//! waited long, never on a fast path.
//!
//! # Safety
//! `pidfd_open` through libc: it takes numbers, and what it returns is taken over once.
#![allow(unsafe_code)]

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sapwood_core::board::Life;
use sapwood_core::mem::{Atom, Ordering};

use crate::layout::SEAT_LOCKS;
use crate::lock::held_by_another;
use crate::segment::Segment;

impl Segment {
    /// Whether whoever took the seat lives.
    pub fn life(&self, seat: usize) -> Life {
        let line = self.seat_line(seat);
        // Before the lock: a lock that is free then belonged to this epoch or an earlier one.
        let epoch = line.epoch.load(Ordering::Acquire);
        if !held_by_another(self.file(), SEAT_LOCKS + seat as i64) {
            // The seat may have been taken and lost since the first look.
            let never = line.never.load(Ordering::Acquire) != 0;
            let now = line.epoch.load(Ordering::Acquire);
            return if now == 0 && !never { Life::Absent } else { Life::Dead };
        }
        let pid = line.pid.load(Ordering::Acquire);
        let start = line.start.load(Ordering::Acquire);
        if epoch == 0 || pid == 0 || line.namespace.load(Ordering::Acquire) != pid_namespace() || start == 0 {
            return Life::Alive;
        }
        process_life(pid, start)
    }
}

/// The life of a process of this PID namespace.
fn process_life(pid: u32, start: u64) -> Life {
    let fd = match pidfd(pid) {
        Ok(fd) => fd,
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Life::Dead,
        Err(_) => return Life::Alive,
    };
    let mut buffer = [0; STAT];
    let (another, exits) = stat(pid, &mut buffer).map_or((false, false), |stat| {
        (field(stat, 22).is_some_and(|now| now != start), exits(stat) && every_thread_exits(pid))
    });
    // Last: as long as this is not readable the number has been this process's, so all the looks before were at it.
    let mut polls = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    let ended = poll(&mut polls, PollTimeout::ZERO) == Ok(1) && polls[0].any() == Some(true);
    match (ended || another, exits) {
        (true, _) => Life::Dead,
        (false, true) => Life::Dying,
        (false, false) => Life::Alive,
    }
}

/// A descriptor of the process, readable once all its threads have ended.
pub(crate) fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes two numbers; what it returns is a new descriptor of ours, or -1.
    unsafe {
        match libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32 {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Bytes of a `stat` line that are looked at: its 52 fields are shorter.
const STAT: usize = 1024;

/// The `stat` line of a process (proc(5)). Allocates nothing: ranks look at each other between two collectives.
fn stat(pid: u32, buffer: &mut [u8; STAT]) -> Option<&str> {
    let mut path = [0; 32];
    let mut rest = &mut path[..];
    write!(rest, "/proc/{pid}/stat").ok()?;
    let unused = rest.len();
    let path = std::str::from_utf8(&path[..path.len() - unused]).ok()?;
    let len = fs::File::open(path).ok()?.read(buffer).ok()?;
    std::str::from_utf8(&buffer[..len]).ok()
}

/// When the process started, in clock ticks since boot.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    field(stat(pid, &mut [0; STAT])?, 22)
}

/// A field of a `stat` line, counted from 1. The name, field 2, may contain anything, brackets and blanks too.
fn field(stat: &str, number: usize) -> Option<u64> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    after_name.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

/// PF_EXITING in the flags of a task (include/linux/sched.h): it will not return to user mode.
fn exits(stat: &str) -> bool {
    const PF_EXITING: u64 = 4;
    field(stat, 9).is_some_and(|flags| flags & PF_EXITING != 0)
}

/// How often the threads are listed anew because one came or went meanwhile.
const LISTINGS: usize = 64;

/// All of them, not the main thread alone: that one may end while others go on.
fn every_thread_exits(pid: u32) -> bool {
    let folder = format!("/proc/{pid}/task");
    let list = || fs::read_dir(&folder)?.map(|t| Ok(t?.path())).collect::<io::Result<Vec<_>>>();
    let Ok(mut threads) = list() else { return false };
    for _ in 0..LISTINGS {
        let mut gone = false;
        for thread in &threads {
            match fs::read_to_string(thread.join("stat")) {
                Ok(stat) if !exits(&stat) => return false,
                Ok(_) => {}
                // The kernel ends a listing early when the thread that it has come to goes.
                Err(_) => gone = true,
            }
        }
        // The same again: no thread has started another one before it began to exit.
        let Ok(now) = list() else { return false };
        if !gone && now == threads {
            return !now.is_empty();
        }
        threads = now;
    }
    false
}

/// The inode of this process's PID namespace; 0 where it can't be known. A process never changes it.
pub(crate) fn pid_namespace() -> u64 {
    static INODE: OnceLock<u64> = OnceLock::new();
    *INODE.get_or_init(|| fs::metadata("/proc/self/ns/pid").map_or(0, |m| m.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_any_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194308 5 6 7 8 9 10 11 12 13 14 1 0 987654 20 30";
        assert_eq!(field(stat, 9), Some(4_194_308));
        assert_eq!(field(stat, 22), Some(987_654));
        assert_eq!((field(stat, 99), field("nonsense", 22)), (None, None));
        assert!(exits(stat));
        assert!(!exits("42 (x) S 1 42 42 0 -1 4194304 5"));
    }

    #[test]
    fn this_process_lives_and_another_start_time_does_not() {
        let me = std::process::id();
        let start = start_time(me).expect("we run");
        assert_eq!(process_life(me, start), Life::Alive);
        assert_eq!(process_life(me, start + 1), Life::Dead);
        assert!(!every_thread_exits(me));
        assert_ne!(pid_namespace(), 0);
    }
}
