//! A forked process that is stepped by this one.
//!
//! # Safety
//! Forks a process that has one thread (`Run::new` sees to that), so the child may do what any program may. The rest is
//! system calls on numbers.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, raise, sigaction};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, alarm, fork};

/// What the actor raises right before the operation, and right after it.
const BEGIN: Signal = Signal::SIGUSR1;
const END: Signal = Signal::SIGUSR2;
/// Seconds in which an actor must come to where it is sent.
const PATIENCE: u32 = 120;
/// Exit code of an actor that panicked.
const PANICKED: i32 = 101;
/// Exit code of an actor that could not be traced, less the number of the error.
const REFUSED: i32 = 128;
/// More instructions than any operation here has.
const MOST: usize = 5_000_000;

/// A way to a point of the operation: past so many system calls, then so often past a place in the code, then so many
/// instructions. Stepping all the way would take as long for one point as for all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    calls: usize,
    passes: Option<(u64, u64)>,
    instructions: u64,
    place: u64,
}

impl Point {
    /// Right before the operation.
    pub(crate) const BEFORE: Point = Point { calls: 0, passes: None, instructions: 0, place: 0 };
    /// Right behind the operation.
    pub(crate) const BEHIND: Point = Point { calls: usize::MAX, passes: None, instructions: 0, place: 0 };
}

/// What an operation consists of.
#[derive(Debug)]
pub(crate) struct Profile {
    /// Where each instruction lies, and where the operation ends.
    path: Vec<u64>,
    /// How often that place had been come to since the last system call, this time included.
    times: Vec<u64>,
    /// How many instructions were done at the beginning and after each system call.
    pub(crate) starts: Vec<usize>,
    /// After how many instructions shared memory had just changed.
    pub(crate) stores: Vec<usize>,
}

impl Profile {
    /// Instructions in all.
    pub(crate) fn total(&self) -> usize {
        self.path.len() - 1
    }

    /// The cheapest way to where `k` instructions are done.
    pub(crate) fn way(&self, k: usize) -> Point {
        /// So many steps back a place is looked for that is come to seldom.
        const WINDOW: usize = 400;
        /// A pass of a place costs as much as so many steps.
        const PASS: u64 = 5;
        let calls = self.starts.partition_point(|at| *at <= k) - 1;
        let (start, place) = (self.starts[calls], self.path[k]);
        let stepped = (k - start) as u64;
        let places =
            (k.saturating_sub(WINDOW).max(start)..=k).map(|p| (PASS * self.times[p] + (k - p) as u64, p));
        match places.min() {
            Some((cost, p)) if cost < stepped => {
                let passes = Some((self.path[p], self.times[p]));
                Point { calls, passes, instructions: (k - p) as u64, place }
            }
            _ => Point { calls, passes: None, instructions: stepped, place },
        }
    }
}

/// The contents of the actor's shared mappings. Only a system call changes which there are.
struct Shared {
    memory: File,
    mappings: Vec<(u64, Vec<u8>)>,
}

/// Longest mapping that is compared after each instruction.
const LONGEST: usize = 1 << 16;

impl Shared {
    fn of(pid: Pid) -> Shared {
        let memory = File::open(format!("/proc/{pid}/mem")).expect("it is traced by us");
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("it is traced by us");
        // start-end perms offset ...
        let writable = maps.lines().filter_map(|line| {
            let mut fields = line.split(' ');
            let (range, permissions) = (fields.next()?, fields.next()?);
            if permissions != "rw-s" {
                return None;
            }
            let (start, end) = range.split_once('-')?;
            let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
            Some((start, vec![0; (end - start) as usize]))
        });
        let mut shared = Shared { memory, mappings: writable.collect() };
        assert!(
            shared.mappings.iter().all(|(_, m)| m.len() <= LONGEST),
            "a scenario's segment should be small"
        );
        shared.has_changed();
        shared
    }

    /// Whether anything is different from the last look.
    fn has_changed(&mut self) -> bool {
        let mut changed = false;
        for (at, last) in &mut self.mappings {
            let mut now = vec![0; last.len()];
            // A mapping behind the end of its file can't be read.
            if self.memory.read_exact_at(&mut now, *at).is_ok() {
                changed |= now != *last;
                *last = now;
            }
        }
        changed
    }
}

/// An actor that stands at some instruction of its operation. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Traced {
    pid: Pid,
    ended: bool,
}

/// Where an actor stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// In its operation; from [`Traced::go`]: where it was sent.
    Inside,
    /// In its operation, but not where it was sent: it has taken another way than the one that was measured.
    Astray,
    /// Behind its operation.
    Behind,
}

/// What an actor came to on its way to a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passed {
    There,
    Call,
    Behind,
}

/// Ends a wait for an actor that makes no progress.
extern "C" fn interrupt(_: libc::c_int) {}

/// Makes waiting interruptible by the alarm. To be called once.
pub(crate) fn arm() {
    let action = SigAction::new(SigHandler::Handler(interrupt), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGALRM, &action) }.expect("a handler can be set");
}

/// Called by the actor right before its operation.
#[inline(always)]
pub(crate) fn begin() {
    raise(BEGIN).expect("a signal can be raised");
}

/// Called by the actor right after its operation.
#[inline(always)]
pub(crate) fn end() {
    raise(END).expect("a signal can be raised");
}

impl Traced {
    /// Forks an actor: `body` calls [`begin`] and [`end`] around its operation, and returns its exit code. It stands
    /// at the beginning.
    ///
    /// # Errors
    /// Why it can't be traced.
    pub(crate) fn start(body: impl FnOnce() -> u8) -> Result<Traced, String> {
        // SAFETY: this process has one thread (see the top).
        match unsafe { fork() }.map_err(|e| format!("fork: {e}"))? {
            ForkResult::Child => {
                let code = match ptrace::traceme() {
                    Ok(()) => catch_unwind(AssertUnwindSafe(body)).map_or(PANICKED, i32::from),
                    Err(e) => REFUSED + e as i32,
                };
                // SAFETY: ends this process at once, without what the parent still has to do.
                unsafe { libc::_exit(code) }
            }
            ForkResult::Parent { child } => {
                alarm::set(PATIENCE);
                let mut traced = Traced { pid: child, ended: false };
                match traced.wait() {
                    WaitStatus::Stopped(_, BEGIN) => {}
                    WaitStatus::Exited(_, code @ REFUSED..) => {
                        return Err(format!("PTRACE_TRACEME: {}", Errno::from_raw(code - REFUSED)));
                    }
                    other => panic!("the actor did not come to its beginning: {other:?}"),
                }
                let options = ptrace::Options::PTRACE_O_EXITKILL | ptrace::Options::PTRACE_O_TRACESYSGOOD;
                ptrace::setoptions(child, options).map_err(|e| format!("PTRACE_SETOPTIONS: {e}"))?;
                Ok(traced)
            }
        }
    }

    /// Waits for the next stop, for as long as the alarm lets it that was set where the actor was sent on its way.
    fn wait(&mut self) -> WaitStatus {
        let status = waitpid(self.pid, None).unwrap_or_else(|e| panic!("the actor makes no progress: {e}"));
        self.ended = matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..));
        status
    }

    /// One instruction; a system call is one.
    pub(crate) fn step(&mut self) -> At {
        ptrace::step(self.pid, None).expect("it is stopped");
        match self.wait() {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => At::Inside,
            WaitStatus::Stopped(_, END) => At::Behind,
            other => panic!("the actor stopped in its operation with {other:?}"),
        }
    }

    /// To the end of the next system call.
    fn call(&mut self) -> At {
        for _ in ["into the call", "out of it"] {
            ptrace::syscall(self.pid, None).expect("it is stopped");
            match self.wait() {
                WaitStatus::PtraceSyscall(_) => {}
                WaitStatus::Stopped(_, END) => return At::Behind,
                other => panic!("the actor stopped in its operation with {other:?}"),
            }
        }
        At::Inside
    }

    /// Lets it run until it stands right before a system call of this number.
    pub(crate) fn until_call(&mut self, number: i64) -> At {
        alarm::set(PATIENCE);
        for _ in 0..MOST {
            ptrace::syscall(self.pid, None).expect("it is stopped");
            match self.wait() {
                WaitStatus::PtraceSyscall(_) => {}
                WaitStatus::Stopped(_, END) => return At::Behind,
                other => panic!("the actor stopped in its operation with {other:?}"),
            }
            // It stops again after each call, with the same number: right before the first is what is wanted.
            if ptrace::getregs(self.pid).expect("it is stopped").orig_rax == number as u64 {
                return At::Inside;
            }
        }
        panic!("an operation of more than {MOST} system calls");
    }

    /// From the beginning to a point.
    pub(crate) fn go(&mut self, to: Point) -> At {
        alarm::set(PATIENCE);
        for _ in 0..to.calls {
            if self.call() == At::Behind {
                return At::Behind;
            }
        }
        match to.passes.map(|(place, times)| self.pass(place, times)) {
            Some(Passed::Behind) => return At::Behind,
            Some(Passed::Call) => return At::Astray,
            Some(Passed::There) | None => {}
        }
        for _ in 0..to.instructions {
            if self.step() == At::Behind {
                return At::Behind;
            }
        }
        if self.next().0 == to.place { At::Inside } else { At::Astray }
    }

    /// Lets it run until it has come so often to a place. The code there is changed meanwhile, in this process alone.
    fn pass(&mut self, place: u64, times: u64) -> Passed {
        const TRAP: libc::c_long = 0xcc; // int3
        let address = place as ptrace::AddressType;
        let code = ptrace::read(self.pid, address).expect("it is code");
        let pid = self.pid;
        let put = |code| ptrace::write(pid, address, code).expect("a tracer may");
        let set_trap = || put(code & !0xff | TRAP);
        set_trap();
        for time in 1..=times {
            ptrace::syscall(self.pid, None).expect("it is stopped");
            let passed = match self.wait() {
                WaitStatus::Stopped(_, Signal::SIGTRAP) => Passed::There,
                WaitStatus::Stopped(_, END) => Passed::Behind,
                WaitStatus::PtraceSyscall(_) => Passed::Call,
                other => panic!("the actor stopped in its operation with {other:?}"),
            };
            put(code);
            if passed != Passed::There {
                return passed;
            }
            let mut regs = ptrace::getregs(self.pid).expect("it is stopped");
            assert_eq!(regs.rip, place + 1, "behind the trap");
            regs.rip = place;
            ptrace::setregs(self.pid, regs).expect("a tracer may");
            if time < times {
                if self.step() == At::Behind {
                    return Passed::Behind;
                }
                set_trap();
            }
        }
        Passed::There
    }

    /// Where the next instruction lies, and whether it is a system call.
    fn next(&self) -> (u64, bool) {
        let place = ptrace::getregs(self.pid).expect("it is stopped").rip;
        let code = ptrace::read(self.pid, place as ptrace::AddressType).expect("it is code");
        (place, code & 0xffff == 0x050f) // 0f 05: syscall
    }

    /// Steps through the whole operation.
    pub(crate) fn measure(&mut self) -> Profile {
        alarm::set(PATIENCE);
        let mut profile =
            Profile { path: Vec::new(), times: Vec::new(), starts: vec![0], stores: Vec::new() };
        let (mut shared, mut seen) = (Shared::of(self.pid), HashMap::new());
        for k in 1..MOST {
            let (place, call) = self.next();
            let times = seen.entry(place).or_insert(0);
            *times += 1;
            profile.path.push(place);
            profile.times.push(*times);
            if self.step() == At::Behind {
                return profile;
            }
            if call {
                profile.starts.push(k);
                (shared, seen) = (Shared::of(self.pid), HashMap::new());
            } else if shared.has_changed() {
                profile.stores.push(k);
            }
        }
        panic!("an operation of more than {MOST} instructions");
    }

    /// Lets it go on from where it stands, to the end of its program; its exit code.
    pub(crate) fn finish(mut self, at: At) -> u8 {
        alarm::set(PATIENCE);
        let mut behind = at == At::Behind;
        for _ in 0..2 {
            ptrace::cont(self.pid, None).expect("it is stopped");
            match self.wait() {
                WaitStatus::Stopped(_, END) if !behind => behind = true,
                WaitStatus::Exited(_, code) if behind => return code as u8,
                other => panic!("the actor went on and came to {other:?}"),
            }
        }
        panic!("the actor came to its end twice");
    }

    /// Kills it where it stands; back when the kernel has taken everything away from it.
    pub(crate) fn kill(mut self) {
        kill(self.pid, Signal::SIGKILL).expect("a child of ours can be killed");
        match self.wait() {
            WaitStatus::Signaled(_, Signal::SIGKILL, _) => {}
            other => panic!("the actor was killed and came to {other:?}"),
        }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if !self.ended {
            // Both fail only for one that has ended.
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
        }
    }
}
