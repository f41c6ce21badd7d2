//! Proof of death. No clock decides: a process that is merely stopped or slow is alive for ever.
//!
//! Of the holder of a seat under epoch e, the last one that it was taken under:
//!
//! | seen                                                                  | answer | why it is proof                              |
//! |-----------------------------------------------------------------------|--------|----------------------------------------------|
//! | `buried` is e                                                         | dead   | somebody has proved it                       |
//! | byte (seat, e) free                                                   | dead   | the kernel dropped the lock at its death, or it gave the seat up; it had it before it raised the epoch |
//! | byte held, holder in another PID namespace                            | alive  | nothing more can be known                    |
//! | byte held, no process of that number and start time, or its pidfd is readable | dead | a child holds the description of its dead parent |
//! | the same, start times seen from different time namespaces             | by number and pidfd alone | the kernel shifts what it shows by the reader's offset |
//! | the same, `/proc` is of a PID namespace that does not show the process | by number and pidfd alone | that number is another process there |
//! | byte held, every thread of it is exiting                              | dying  | it executes no instruction of its program any more |
//! | else                                                                  | alive  |                                              |
//!
//! Of the seat, where its last holder is dead (or there was none, e = 0):
//!
//! | seen                                                                  | answer |
//! |-----------------------------------------------------------------------|--------|
//! | byte (seat, e + 1) held                                               | alive: it is being taken |
//! | then another epoch than e                                             | look again |
//! | e = 0, not marked by the process that was to bring a holder           | absent |
//! | else                                                                  | dead (marked: its parent has reaped it) |
//!
//! Of an owner {seat, epoch} whose name stands in some word: dead if the seat's epoch is another one (only proof of
//! death raises it), else as its holder. A name has the last ten bits of its epoch; that they repeat does no harm,
//! because a seat is recovered before it goes on.
//!
//! A look costs at most two system calls where the lock is free and a dozen where it is held; it is taken by whoever
//! has waited long, never on a fast path.
//!
//! # Safety
//! `pidfd_open` through libc: it takes numbers, and what it returns is taken over once.
#![allow(unsafe_code)]

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sapwood_core::board::Life;
use sapwood_core::mem::{Atom, Mem, Ordering, Real};

use crate::layout::{OWNER_EPOCH, SeatLine, seat_lock};
use crate::lock::held_by_another;
use crate::seat::after;
use crate::segment::Segment;

/// How often a seat is looked at anew because it was taken meanwhile.
const LOOKS: usize = 64;

impl Segment {
    /// Whether whoever took the seat lives.
    pub fn life(&self, seat: usize) -> Life {
        let line = self.seat_line(seat);
        for _ in 0..LOOKS {
            let epoch = line.epoch.load(Ordering::Acquire);
            let holder = if epoch == 0 { Life::Dead } else { self.holder_life(seat, epoch) };
            if holder != Life::Dead {
                return holder;
            }
            if held_by_another(self.file(), seat_lock(seat, after(epoch))) {
                return Life::Alive;
            }
            // Pairs with the store in `never`.
            let never = line.never.load(Ordering::Acquire) != 0;
            // Who has taken it since the first look may have had the lock since the second.
            if line.epoch.load(Ordering::Acquire) == epoch {
                return if epoch == 0 && !never { Life::Absent } else { Life::Dead };
            }
        }
        Life::Alive // as often as one looked somebody came
    }

    /// Whether the owner of a word may still act on it. `false` only for proof: its seat has been taken under another
    /// epoch since, or its holder has ended or given it up. A process that is stopped is alive, and so is one that is
    /// just dying. Only the last ten bits of `epoch` count, as in an owner's name.
    ///
    /// The look at a living owner costs some ten system calls, the next one at a dead owner none.
    pub fn owner_alive(&self, seat: usize, epoch: u32) -> bool {
        // With the fence in `sit_down`: whoever has seen a word of this owner now sees its epoch, or a later one.
        Real::fence(Ordering::Acquire);
        if seat >= self.spec().seats {
            return false; // nobody has that name
        }
        let now = self.seat_line(seat).epoch.load(Ordering::Acquire);
        now != 0 && (now ^ epoch) & OWNER_EPOCH == 0 && self.holder_life(seat, now) != Life::Dead
    }

    /// Whether somebody has proved already that the owner of a word is dead: [`owner_alive`](Self::owner_alive) without
    /// its system calls.
    pub(crate) fn owner_known_dead(&self, seat: usize, epoch: u32) -> bool {
        // As in `owner_alive`.
        Real::fence(Ordering::Acquire);
        if seat >= self.spec().seats {
            return true; // nobody has that name
        }
        let line = self.seat_line(seat);
        let now = line.epoch.load(Ordering::Acquire);
        // Pairs with the store in `holder_life`.
        now == 0 || (now ^ epoch) & OWNER_EPOCH != 0 || line.buried.load(Ordering::Acquire) == now
    }

    /// Whether somebody has taken the seat since `epoch`, of which the last ten bits count.
    pub(crate) fn owner_succeeded(&self, seat: usize, epoch: u32) -> bool {
        // As in `owner_alive`.
        Real::fence(Ordering::Acquire);
        seat < self.spec().seats && (self.seat_epoch(seat) ^ epoch) & OWNER_EPOCH != 0
    }

    /// Whether somebody has taken the seat since `epoch`, which was seen in its line.
    pub(crate) fn seat_succeeded(&self, seat: usize, epoch: u32) -> bool {
        // As in `owner_alive`.
        Real::fence(Ordering::Acquire);
        self.seat_epoch(seat) != epoch
    }

    /// Under which epoch the seat was taken last; 0: never.
    pub(crate) fn seat_epoch(&self, seat: usize) -> u32 {
        self.seat_line(seat).epoch.load(Ordering::Acquire)
    }

    /// The life of whoever took the seat under `epoch`, which has been seen in its line.
    pub(crate) fn holder_life(&self, seat: usize, epoch: u32) -> Life {
        let line = self.seat_line(seat);
        // Pairs with the store below: what the prover knew, we know.
        if line.buried.load(Ordering::Acquire) == epoch {
            return Life::Dead;
        }
        let life = if held_by_another(self.file(), seat_lock(seat, epoch)) {
            Segment::process_life_of(line)
        } else {
            Life::Dead
        };
        if life == Life::Dead {
            line.buried.store(epoch, Ordering::Release);
        } else if line.epoch.load(Ordering::Acquire) != epoch {
            // The words were another holder's. It came after proof of this one's death.
            return Life::Dead;
        }
        life
    }

    /// What can be known of the process in a line whose lock is held.
    fn process_life_of(line: &SeatLine) -> Life {
        let pid = line.pid.load(Ordering::Acquire);
        let here = pid_namespace();
        if pid == 0 || here == UNKNOWN || line.namespace.load(Ordering::Acquire) != here {
            return Life::Alive;
        }
        let (start, clock) = (line.start.load(Ordering::Acquire), time_namespace());
        let comparable = start != 0 && clock != UNKNOWN && line.time.load(Ordering::Acquire) == clock;
        process_life(pid, comparable.then_some(start))
    }
}

/// The life of a process of this PID namespace, which started at `start` as seen from this time namespace, if that is
/// known.
fn process_life(pid: u32, start: Option<u64>) -> Life {
    let fd = match pidfd(pid) {
        Ok(fd) => fd,
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Life::Dead,
        Err(_) => return Life::Alive,
    };
    let mut buffer = [0; STAT];
    let (mut another, mut exiting) = (false, false);
    if let Some(shown) = shown_as(&fd)
        && let Some(stat) = stat(shown, &mut buffer)
    {
        another = start.zip(field(stat, 22)).is_some_and(|(then, now)| then != now);
        exiting = exits(stat) && every_thread_exits(shown);
    }
    // Last: as long as this is not readable the number has been this process's, so all the looks before were at it.
    let mut polls = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    let ended = poll(&mut polls, PollTimeout::ZERO) == Ok(1) && polls[0].any() == Some(true);
    match (ended || another, exiting) {
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

/// The front of a small file in `/proc/{folder}{number}{name}`. Allocates nothing: ranks look at each other between two
/// collectives.
fn read_proc<'a>((folder, number, name): (&str, u32, &str), buffer: &'a mut [u8; STAT]) -> Option<&'a str> {
    let mut path = [0; 40];
    let mut rest = &mut path[..];
    write!(rest, "/proc/{folder}{number}{name}").ok()?;
    let unused = rest.len();
    let path = std::str::from_utf8(&path[..path.len() - unused]).ok()?;
    let len = fs::File::open(path).ok()?.read(buffer).ok()?;
    std::str::from_utf8(&buffer[..len]).ok()
}

/// The `stat` line of a process (proc(5)), by the number that `/proc` has for it.
fn stat(shown: u32, buffer: &mut [u8; STAT]) -> Option<&str> {
    read_proc(("", shown, "/stat"), buffer)
}

/// By which number `/proc` shows the process of a pidfd: another one than ours, or none, where it was mounted in
/// another PID namespace (fdinfo of a pidfd, since Linux 5.2).
fn shown_as(pidfd: &OwnedFd) -> Option<u32> {
    let mut buffer = [0; STAT];
    let info = read_proc(("self/fdinfo/", pidfd.as_raw_fd().cast_unsigned(), ""), &mut buffer)?;
    let number = info.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    number.trim().parse().ok().filter(|shown| *shown != 0)
}

/// When this process started, in clock ticks since boot as its time namespace has it; `None` where there is no `/proc`.
pub(crate) fn own_start() -> Option<u64> {
    // Not by number: that is another process's where `/proc` is another PID namespace's.
    let mut buffer = [0; STAT];
    let len = fs::File::open("/proc/self/stat").ok()?.read(&mut buffer).ok()?;
    field(std::str::from_utf8(&buffer[..len]).ok()?, 22)
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

/// A namespace that can't be known. It is no other process's, nor is it ours.
const UNKNOWN: u64 = 0;

/// The inode of this process's PID namespace. Asked for each time: a forked child may be in another one.
pub(crate) fn pid_namespace() -> u64 {
    fs::metadata("/proc/self/ns/pid").map_or(UNKNOWN, |m| m.ino())
}

/// The inode of this process's time namespace; 1 where the kernel has none, so that all clocks are one.
pub(crate) fn time_namespace() -> u64 {
    match fs::metadata("/proc/self/ns/time") {
        Ok(m) => m.ino(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => 1,
        Err(_) => UNKNOWN,
    }
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
        let start = own_start().expect("we run");
        assert_eq!(process_life(me, Some(start)), Life::Alive);
        assert_eq!(process_life(me, Some(start + 1)), Life::Dead);
        assert_eq!(process_life(me, None), Life::Alive, "by its number alone");
        assert_eq!(shown_as(&pidfd(me).expect("we run")), Some(me), "/proc is our own namespace's");
        assert!(!every_thread_exits(me));
        assert!(pid_namespace() != UNKNOWN && time_namespace() != UNKNOWN);
    }
}
