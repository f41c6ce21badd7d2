//! Results of ranks that are processes: each leaves its own, or why it has none, in a file without a name that its
//! parent has made for it.
//!
//! ```text
//! +-----+----------------------------------------+
//! | tag | 0: the result, in postcard's encoding  |    nothing at all: the rank ended before it could say anything
//! |     | 1: why there is none, as text          |
//! +-----+----------------------------------------+
//! ```
//! The file is read when the rank has ended, so that nothing has to be said about half of one: a rank that dies while
//! it writes did not end with code 0, and what it has left counts as text only.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::processes::{Exit, Processes, ProcessesError, RESULT, Running};
use crate::rank::Rank;
use crate::segment::Segment;
use crate::workers::{Failure, Failures, panicked};

const VALUE: u8 = 0;
const TEXT: u8 = 1;

/// Why there are no results.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// Ranks could not be started or waited for, or ran too long.
    #[error(transparent)]
    Processes(#[from] ProcessesError),
    /// Some have failed; all have ended.
    #[error(transparent)]
    Failed(#[from] Failures),
}

impl Processes {
    /// Starts the ranks as [`start`](Self::start) does; each gives a result back, which travels in postcard's encoding.
    ///
    /// ```no_run
    /// use sapwood_shm::Processes;
    ///
    /// let squares = Processes::new(3).map(|rank| Ok::<_, String>(rank.rank() * rank.rank()))?;
    /// assert_eq!(squares.join()?, [0, 1, 4]);
    /// # Ok::<(), sapwood_shm::MapError>(())
    /// ```
    /// In a rank of another call of the program, which passes over this one, there are no results; where a launcher has
    /// set `SAPWOOD_RANK`, there is one.
    ///
    /// # Errors
    /// See [`ProcessesError`].
    pub fn map<R, E>(self, f: impl FnOnce(Rank) -> Result<R, E>) -> Result<Mapped<R>, ProcessesError>
    where
        R: Serialize + DeserializeOwned,
        E: fmt::Display,
    {
        let files: Result<Vec<OwnedFd>, _> = match Rank::from_env()? {
            None => (0..self.ranks()).map(|_| Segment::anonymous_fd()).collect(),
            Some(_) => Ok(Vec::new()),
        };
        let (files, mut own) = (files?, None);
        let mut failed = None;
        let run = |rank: Rank| -> Result<(), String> {
            let number = rank.rank();
            match catch_unwind(AssertUnwindSafe(|| f(rank))) {
                Ok(Ok(value)) => {
                    leave(&value)?;
                    own = Some(value);
                    Ok(())
                }
                Ok(Err(e)) => {
                    let text = e.to_string();
                    tell(TEXT, text.as_bytes());
                    failed = Some(Failure { rank: number, message: text.clone() });
                    Err(text)
                }
                Err(panic) => {
                    tell(TEXT, panicked(&*panic).as_bytes());
                    resume_unwind(panic)
                }
            }
        };
        let running = self.start_with(run, &files)?;
        Ok(Mapped {
            running,
            files: files.into_iter().map(File::from).collect(),
            own,
            failed,
            _result: PhantomData,
        })
    }
}

/// Leaves a result, where it is asked for.
fn leave(value: &impl Serialize) -> Result<(), String> {
    let bytes =
        postcard::to_extend(value, Vec::new()).map_err(|e| format!("its result can't be encoded: {e}"));
    match bytes {
        Ok(bytes) => tell(VALUE, &bytes),
        Err(text) => {
            tell(TEXT, text.as_bytes());
            return Err(text);
        }
    }
    Ok(())
}

fn tell(tag: u8, bytes: &[u8]) {
    let Some(fd) = std::env::var(RESULT).ok().and_then(|fd| fd.parse::<u32>().ok()) else { return };
    // What fails here the parent sees: nothing is there.
    if let Ok(mut file) = File::options().write(true).open(format!("/proc/self/fd/{fd}")) {
        let _ = file.write_all(&[&[tag], bytes].concat());
    }
}

/// Ranks whose results are awaited. Dropping it ends those that still run.
#[derive(Debug)]
pub struct Mapped<R> {
    running: Running,
    files: Vec<File>,
    /// Where this process is the rank.
    own: Option<R>,
    failed: Option<Failure>,
    _result: PhantomData<fn() -> R>,
}

impl<R: DeserializeOwned> Mapped<R> {
    /// The processes.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// Says who has failed so far, without waiting. A failure is told once: [`join`](Self::join) then returns the
    /// results of the others.
    ///
    /// # Errors
    /// [`MapError::Failed`]: those that have failed since the last call; [`ProcessesError::Wait`].
    pub fn poll_failures(&mut self) -> Result<(), MapError> {
        let mut failures = self.running.poll_failures()?;
        for failure in &mut failures {
            failure.message = self.words(failure.rank, &failure.message);
        }
        if failures.is_empty() { Ok(()) } else { Err(Failures(failures).into()) }
    }

    /// Waits for all, however long they run: their results, by rank.
    ///
    /// # Errors
    /// [`MapError::Failed`]: every failure, by rank; [`ProcessesError::Wait`].
    pub fn join(mut self) -> Result<Vec<R>, MapError> {
        self.running.reap(None)?;
        self.conclude()
    }

    /// The same, waiting for at most `limit`.
    ///
    /// # Errors
    /// As for [`join`](Self::join), and [`ProcessesError::StillRunning`]: then all have been ended.
    pub fn join_timeout(mut self, limit: Duration) -> Result<Vec<R>, MapError> {
        self.running.reap(Some(limit))?;
        self.conclude()
    }

    fn conclude(mut self) -> Result<Vec<R>, MapError> {
        if let Some(failure) = self.failed {
            return Err(Failures(vec![failure]).into());
        }
        if self.files.is_empty() {
            return Ok(self.own.into_iter().collect());
        }
        let exits = self.running.report().exits;
        let told = self.running.told().to_vec();
        let (mut results, mut failures) = (Vec::with_capacity(exits.len()), Vec::new());
        for (rank, exit) in exits.into_iter().enumerate().filter(|(rank, _)| !told.contains(rank)) {
            match self.result(rank, exit) {
                Ok(result) => results.push(result),
                Err(message) => failures.push(Failure { rank, message }),
            }
        }
        if failures.is_empty() { Ok(results) } else { Err(Failures(failures).into()) }
    }

    fn result(&mut self, rank: usize, exit: Exit) -> Result<R, String> {
        if exit != Exit::Code(0) {
            return Err(self.words(rank, &exit.to_string()));
        }
        match self.left(rank).split_first() {
            Some((&VALUE, bytes)) => {
                postcard::from_bytes(bytes).map_err(|e| format!("its result can't be decoded: {e}"))
            }
            _ => Err("ended well, but without a result".to_owned()),
        }
    }

    /// How a rank ended, and what it said of it.
    fn words(&mut self, rank: usize, exit: &str) -> String {
        match self.left(rank).split_first() {
            Some((&TEXT, text)) => format!("{} ({exit})", String::from_utf8_lossy(text)),
            _ => exit.to_owned(),
        }
    }

    /// What a rank that has ended has left.
    fn left(&mut self, rank: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(file) = self.files.get_mut(rank)
            && file.rewind().and_then(|()| file.read_to_end(&mut bytes)).is_err()
        {
            bytes.clear();
        }
        bytes
    }
}
