//! Ranks as processes: `processes(n, f)` runs this program n times, each copy running `f` as one rank.
//!
//! # Safety
//! Between fork and exec a child of ours asks the kernel to die with its parent and keeps descriptors open; both are
//! async-signal-safe system calls. An inherited descriptor is a number in a variable; it is only ever reopened.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::error::Error;
use crate::liveness::pidfd;
use crate::rank::{EnvError, Rank};
use crate::segment::Segment;
use crate::workers::Failure;

/// The descriptor of the file in which a rank leaves its result, where one is asked for.
pub(crate) const RESULT: &str = "SAPWOOD_RESULT";
/// Which call of [`processes`] of the program a child belongs to, counted for each thread name from 1.
const CALL: &str = "SAPWOOD_CALL";

/// Why ranks could not be started or waited for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessesError {
    /// A tree of no ranks.
    #[error("asked for {n} processes, but there must be at least 1")]
    NoRanks {
        /// What was asked for.
        n: usize,
    },
    /// A launcher started another number of ranks than the program asks for.
    #[error("the program asks for {asked} processes, but its launcher started {started} (SAPWOOD_SIZE)")]
    OtherSize {
        /// What the program asks for.
        asked: usize,
        /// What the launcher says.
        started: usize,
    },
    /// A process could not be started. Those that were have been ended.
    #[error("could not start rank {rank}: {source}")]
    Start {
        /// Which.
        rank: usize,
        /// What the system said.
        source: io::Error,
    },
    /// The deadline passed. All ranks have been ended.
    #[error("ranks {running:?} were still running after {waited:?}, and were ended")]
    StillRunning {
        /// Who was still running.
        running: Vec<usize>,
        /// How long.
        waited: Duration,
    },
    /// A launcher's variable is missing or makes no sense.
    #[error(transparent)]
    Environment(#[from] EnvError),
    /// The ranks' meeting point could not be made.
    #[error(transparent)]
    Memory(#[from] Error),
    /// Waiting failed.
    #[error("waiting for rank {rank}: {source}")]
    Wait {
        /// For whom.
        rank: usize,
        /// What the system said.
        source: io::Error,
    },
}

/// How a rank ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this code: 0 for success.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "ended with exit code {code}"),
            Exit::Signal(signal) => match Signal::try_from(*signal) {
                Ok(signal) => write!(f, "was ended by {signal}"),
                Err(_) => write!(f, "was ended by signal {signal}"),
            },
        }
    }
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        status.code().map_or_else(|| Exit::Signal(status.signal().unwrap_or(0)), Exit::Code)
    }
}

/// How all ranks ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// By rank.
    pub exits: Vec<Exit>,
}

impl Report {
    fn all(n: usize, exit: Exit) -> Self {
        Report { exits: vec![exit; n] }
    }

    /// Whether all ranks ended with code 0.
    pub fn success(&self) -> bool {
        self.exits.iter().all(|e| *e == Exit::Code(0))
    }
}

/// `all 4 ranks succeeded`, or each failure by rank.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.success() {
            return write!(f, "all {} ranks succeeded", self.exits.len());
        }
        let failed = self.exits.iter().enumerate().filter(|(_, e)| **e != Exit::Code(0));
        for (i, (rank, exit)) in failed.enumerate() {
            write!(f, "{}rank {rank} {exit}", if i > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

/// Starts `n` ranks and waits for them. Each is this very program again, with the same arguments: it runs like the
/// first one **up to this call**, so code before it runs in every rank. There, `f` runs, and the process ends: with
/// code 0, or, if `f` fails, with its error on standard error and code 1. In the starting process `f` does not run.
///
/// Under the test harness the ranks run only the test that makes the call. A program may call it several times: a rank
/// passes over the calls before its own as if they had succeeded. Where a launcher has set `SAPWOOD_RANK`, `f` runs
/// right here as that rank, and nothing is started.
///
/// Ranks die with the thread that started them. Standard input is empty in them.
///
/// ```no_run
/// let report = sapwood_shm::processes(2, |rank| {
///     println!("rank {} of {}", rank.rank(), rank.size());
///     Ok::<(), std::io::Error>(())
/// })?;
/// assert!(report.success(), "{report}");
/// # Ok::<(), sapwood_shm::ProcessesError>(())
/// ```
///
/// # Errors
/// See [`ProcessesError`]. A rank that fails is no error here: the report says so.
pub fn processes<E: fmt::Display>(
    n: usize,
    f: impl FnOnce(Rank) -> Result<(), E>,
) -> Result<Report, ProcessesError> {
    Processes::new(n).start(f)?.wait_all()
}

/// Settings for ranks that are to be started.
#[derive(Debug, Clone)]
pub struct Processes {
    n: usize,
    variables: Vec<(OsString, OsString)>,
    quiet: bool,
}

impl Processes {
    /// `n` ranks.
    pub fn new(n: usize) -> Self {
        Processes { n, variables: Vec::new(), quiet: false }
    }

    /// Sets a variable in every rank.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Throws the ranks' standard output and error away.
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Starts them, as [`processes`] does, and goes on.
    ///
    /// # Errors
    /// See [`ProcessesError`].
    pub fn start<E: fmt::Display>(
        self,
        f: impl FnOnce(Rank) -> Result<(), E>,
    ) -> Result<Running, ProcessesError> {
        self.start_with(f, &[])
    }

    pub(crate) fn ranks(&self) -> usize {
        self.n
    }

    /// The same; a rank inherits its file of `files`, if there is one.
    pub(crate) fn start_with<E: fmt::Display>(
        self,
        f: impl FnOnce(Rank) -> Result<(), E>,
        files: &[OwnedFd],
    ) -> Result<Running, ProcessesError> {
        if self.n == 0 {
            return Err(ProcessesError::NoRanks { n: 0 });
        }
        let call = next_call();
        let Some(rank) = Rank::from_env()? else { return self.spawn(call, files) };
        let own = std::env::var(CALL).ok().and_then(|c| c.parse::<u32>().ok());
        match own {
            Some(own) if call < own => return Ok(Running::ended(Report::all(self.n, Exit::Code(0)))),
            _ if rank.size() != self.n => {
                return Err(ProcessesError::OtherSize { asked: self.n, started: rank.size() });
            }
            _ => {}
        }
        let number = rank.rank();
        let code = match f(rank) {
            Ok(()) => 0,
            Err(e) => {
                eprintln!("rank {number}: {e}");
                1
            }
        };
        if own.is_some() {
            std::process::exit(code);
        }
        Ok(Running::ended(Report::all(1, Exit::Code(code))))
    }

    fn spawn(self, call: u32, files: &[OwnedFd]) -> Result<Running, ProcessesError> {
        let meeting = Segment::anonymous_fd()?;
        let mut running = Running::ended(Report { exits: Vec::new() });
        for rank in 0..self.n {
            // If this fails, dropping `running` ends those that have been started.
            let child = self.command(rank, call, &meeting, files.get(rank)).spawn();
            running.children.push(child.map_err(|source| ProcessesError::Start { rank, source })?);
            running.exits.push(None);
        }
        running.meeting = Some(File::from(meeting));
        Ok(running)
    }

    fn command(&self, rank: usize, call: u32, meeting: &OwnedFd, result: Option<&OwnedFd>) -> Command {
        let mut command = Command::new("/proc/self/exe");
        match test_name() {
            Some(test) => command.args([test.as_str(), "--exact", "--nocapture", "--test-threads=1"]),
            None => command.args(std::env::args_os().skip(1)),
        };
        let fd = meeting.as_raw_fd();
        let kept = [Some(fd), result.map(AsRawFd::as_raw_fd)];
        command
            .envs(self.variables.iter().map(|(k, v)| (k, v)))
            .env("SAPWOOD_RANK", rank.to_string())
            .env("SAPWOOD_SIZE", self.n.to_string())
            .env("SAPWOOD_LOCAL_RANK", rank.to_string())
            .env("SAPWOOD_RENDEZVOUS", format!("fd:{fd}"))
            .env(CALL, call.to_string())
            .stdin(Stdio::null());
        match kept[1] {
            Some(result) => command.env(RESULT, result.to_string()),
            None => command.env_remove(RESULT),
        };
        if self.quiet {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        if let Some(name) = std::env::args_os().next() {
            command.arg0(name);
        }
        let parent = std::process::id();
        // SAFETY: prctl, getppid, fcntl and _exit are async-signal-safe and take numbers.
        unsafe {
            command.pre_exec(move || {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                    return Err(io::Error::last_os_error());
                }
                // The parent may have died before we asked.
                if libc::getppid() as u32 != parent {
                    libc::_exit(1);
                }
                for fd in kept.into_iter().flatten() {
                    if libc::fcntl(fd, libc::F_SETFD, 0) != 0 {
                        return Err(io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        command
    }
}

/// Under the test harness, the test that this thread runs: harness threads bear their test's name, and cargo puts test
/// programs in a folder `deps`.
fn test_name() -> Option<String> {
    let thread = std::thread::current();
    let name = thread.name().filter(|n| *n != "main")?;
    let program = std::env::current_exe().ok()?;
    (program.parent()?.file_name()? == "deps").then(|| name.to_owned())
}

/// Counts the calls of this thread's name: tests run in threads of their own names, in the parent all at once, in a
/// child one alone.
fn next_call() -> u32 {
    static CALLS: LazyLock<Mutex<HashMap<Option<String>, u32>>> = LazyLock::new(Mutex::default);
    let mut calls = CALLS.lock().unwrap_or_else(PoisonError::into_inner);
    let count = calls.entry(std::thread::current().name().map(str::to_owned)).or_default();
    *count += 1;
    *count
}

/// Ranks that have been started. Dropping it ends those that still run.
#[derive(Debug)]
pub struct Running {
    children: Vec<Child>,
    exits: Vec<Option<Exit>>,
    /// The file that the ranks meet in.
    meeting: Option<File>,
    /// Ranks that have ended, and of whom it is not yet known whether they ever came to the meeting.
    unaccounted: Vec<usize>,
    /// Ranks whose failure [`Running::poll_failures`] has told.
    told: Vec<usize>,
}

/// How often the meeting is looked at while somebody is unaccounted for.
const LOOK: Duration = Duration::from_millis(20);

impl Running {
    fn ended(report: Report) -> Self {
        Running {
            children: Vec::new(),
            exits: report.exits.into_iter().map(Some).collect(),
            meeting: None,
            unaccounted: Vec::new(),
            told: Vec::new(),
        }
    }

    /// Process numbers, by rank. Empty where nothing was started: in a rank, for the calls before its own.
    pub fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }

    /// Sends a signal to a rank. A rank that has been waited for gets none.
    ///
    /// # Errors
    /// No such rank, or what the system says.
    pub fn signal(&self, rank: usize, signal: nix::sys::signal::Signal) -> io::Result<()> {
        let exit = self.exits.get(rank).ok_or_else(|| io::Error::other(format!("no rank {rank}")))?;
        let (None, Some(child)) = (exit, self.children.get(rank)) else { return Ok(()) };
        Ok(nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), signal)?)
    }

    /// Says who has failed so far, and how it ended, without waiting. A failure is told once.
    ///
    /// # Errors
    /// [`ProcessesError::Wait`].
    pub fn poll_failures(&mut self) -> Result<Vec<Failure>, ProcessesError> {
        self.look()?;
        let ended = self.exits.iter().enumerate().filter_map(|(rank, exit)| Some((rank, (*exit)?)));
        let new = ended.filter(|(rank, exit)| *exit != Exit::Code(0) && !self.told.contains(rank));
        let new: Vec<Failure> = new.map(|(rank, exit)| Failure { rank, message: exit.to_string() }).collect();
        self.told.extend(new.iter().map(|failure| failure.rank));
        Ok(new)
    }

    /// Whose failure has been told.
    pub(crate) fn told(&self) -> &[usize] {
        &self.told
    }

    /// Waits for all, however long they run.
    ///
    /// # Errors
    /// [`ProcessesError::Wait`].
    pub fn wait_all(mut self) -> Result<Report, ProcessesError> {
        self.reap(None)?;
        Ok(self.report())
    }

    /// Waits for all, for at most `deadline`.
    ///
    /// # Errors
    /// [`ProcessesError::StillRunning`]: then all have been ended.
    pub fn wait(mut self, deadline: Duration) -> Result<Report, ProcessesError> {
        self.reap(Some(deadline))?;
        Ok(self.report())
    }

    pub(crate) fn report(&self) -> Report {
        Report { exits: self.exits.iter().map(|e| e.unwrap_or(Exit::Code(0))).collect() }
    }

    /// Notes who has ended.
    fn look(&mut self) -> Result<(), ProcessesError> {
        for (rank, child) in self.children.iter_mut().enumerate() {
            if self.exits[rank].is_none() {
                let status = child.try_wait().map_err(|source| ProcessesError::Wait { rank, source })?;
                self.exits[rank] = status.map(Exit::from);
                self.unaccounted.extend(status.map(|_| rank));
            }
        }
        self.account();
        Ok(())
    }

    pub(crate) fn reap(&mut self, deadline: Option<Duration>) -> Result<(), ProcessesError> {
        let began = Instant::now();
        loop {
            self.look()?;
            let running: Vec<usize> = (0..self.exits.len()).filter(|r| self.exits[*r].is_none()).collect();
            if running.is_empty() {
                return Ok(());
            }
            let waited = began.elapsed();
            let left = deadline.map(|d| d.saturating_sub(waited));
            if left == Some(Duration::ZERO) {
                return Err(ProcessesError::StillRunning { running, waited });
            }
            let look = (!self.unaccounted.is_empty()).then_some(LOOK);
            self.sleep(&running, left.into_iter().chain(look).min())?;
        }
    }

    /// Tells the ranks that wait for the others at their meeting of those who ended before they came. As long as
    /// nobody has made the meeting there is nobody to tell.
    fn account(&mut self) {
        if self.unaccounted.is_empty() {
            return;
        }
        let met = self.meeting.as_ref().and_then(|f| Segment::attach_any(f).ok()?);
        if let Some(met) = met {
            for rank in self.unaccounted.drain(..).filter(|r| *r < met.spec().seats) {
                met.never(rank);
            }
        }
    }

    /// Sleeps until one of them ends.
    fn sleep(&self, running: &[usize], left: Option<Duration>) -> Result<(), ProcessesError> {
        let open = |r: &usize| pidfd(self.children[*r].id()).map_err(|source| (*r, source));
        let fds: Result<Vec<OwnedFd>, _> = running.iter().map(open).collect();
        let fds = fds.map_err(|(rank, source)| ProcessesError::Wait { rank, source })?;
        let mut polls: Vec<_> =
            fds.iter().map(|f| PollFd::new(std::os::fd::AsFd::as_fd(f), PollFlags::POLLIN)).collect();
        let timeout = left.map_or(PollTimeout::NONE, |l| {
            PollTimeout::try_from(l + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut polls, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(e) => Err(ProcessesError::Wait { rank: running[0], source: e.into() }),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for (child, exit) in self.children.iter_mut().zip(&self.exits) {
            if exit.is_none() {
                // Both fail only for a child that has ended meanwhile.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}
