//! Workers as threads: `workers(n, f)` runs `f` once in each of n threads, and joins to all results or all failures.
//!
//! ```
//! let workers = sapwood_shm::workers(4, |rank| Ok::<_, String>(rank * rank))?;
//! assert_eq!(workers.join()?, [0, 1, 4, 9]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//! What is shared is captured in an `Arc`; what a worker needs for itself its `init` makes, in its own thread. What
//! could dangle or race does not compile:
//!
//! ```compile_fail
//! let local = [1, 2, 3];
//! sapwood_shm::workers(2, |rank| Ok::<_, String>(local[rank])).unwrap(); // may outlive `local`
//! ```
//!
//! ```compile_fail
//! let counter = std::rc::Rc::new(0);
//! sapwood_shm::workers(2, move |_| Ok::<_, String>(*counter)).unwrap(); // may not be shared
//! ```

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// Why a worker has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which one.
    pub rank: usize,
    /// Its error, what it panicked with, or how its process ended.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {}: {}", self.rank, self.message)
    }
}

/// Every failure, by rank. There is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failures(pub Vec<Failure>);

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, failure) in self.0.iter().enumerate() {
            write!(f, "{}{failure}", if i > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Failures {}

/// A thread could not be started. Those that were end without running anything of the caller's.
#[derive(Debug, thiserror::Error)]
#[error("could not start worker {rank} of {of}: {source}")]
pub struct StartError {
    /// Which.
    pub rank: usize,
    /// Of how many.
    pub of: usize,
    /// What the system said.
    pub source: io::Error,
}

/// Why there are no results.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError<R> {
    /// Some have failed; all have ended.
    #[error(transparent)]
    Failed(#[from] Failures),
    /// The deadline passed.
    #[error("{} of {} workers were still running after {waited:?}", .workers.running(), .workers.len())]
    StillRunning {
        /// How long it was.
        waited: Duration,
        /// To be joined later.
        workers: Workers<R>,
    },
}

/// Runs `f` once in each of `n` threads, with its rank, 0 to n - 1. None begins before all have been started.
///
/// # Errors
/// [`StartError`]. A worker that fails is no error here: [`Workers::join`] says so.
pub fn workers<R, E>(
    n: usize,
    f: impl Fn(usize) -> Result<R, E> + Send + Sync + 'static,
) -> Result<Workers<R>, StartError>
where
    R: Send + 'static,
    E: fmt::Display,
{
    WorkersBuilder::new(n).start(move |rank, ()| f(rank))
}

type Init<S> = dyn Fn(usize) -> Result<S, String> + Send + Sync;

/// Settings for workers that are to be started.
///
/// ```
/// use sapwood_shm::WorkersBuilder;
///
/// let workers = WorkersBuilder::new(3)
///     .init(|rank| Ok::<_, String>(vec![rank; 2])) // in each thread, before it begins
///     .start(|_, mine| Ok::<_, String>(mine.into_iter().sum::<usize>()))?;
/// assert_eq!(workers.join()?, [0, 2, 4]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct WorkersBuilder<S = ()> {
    n: usize,
    name: String,
    init: Arc<Init<S>>,
}

impl<S> fmt::Debug for WorkersBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkersBuilder").field("n", &self.n).field("name", &self.name).finish_non_exhaustive()
    }
}

impl WorkersBuilder {
    /// `n` workers.
    pub fn new(n: usize) -> Self {
        WorkersBuilder { n, name: "worker".to_owned(), init: Arc::new(|_| Ok(())) }
    }
}

impl<S: 'static> WorkersBuilder<S> {
    /// Threads are called `name` and their rank.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What each worker makes for itself before it begins. If that fails, it never begins, and joining reports it.
    pub fn init<T: 'static, E: fmt::Display>(
        self,
        init: impl Fn(usize) -> Result<T, E> + Send + Sync + 'static,
    ) -> WorkersBuilder<T> {
        let init = Arc::new(move |rank| init(rank).map_err(|e| e.to_string()));
        WorkersBuilder { n: self.n, name: self.name, init }
    }

    /// Starts them.
    ///
    /// # Errors
    /// As for [`workers`].
    pub fn start<R, E>(
        self,
        f: impl Fn(usize, S) -> Result<R, E> + Send + Sync + 'static,
    ) -> Result<Workers<R>, StartError>
    where
        R: Send + 'static,
        E: fmt::Display,
    {
        let (gate, f) = (Arc::new(Gate::default()), Arc::new(f));
        let mut threads = Vec::with_capacity(self.n);
        for rank in 0..self.n {
            let (ended, f, init) = (Ended(gate.clone()), f.clone(), self.init.clone());
            let run = move || {
                // The end is counted after all that the caller's closures hold is gone: locals go last one first.
                let ended = ended;
                let (f, init) = (f, init);
                if !ended.0.pass() {
                    return Err("the others could not be started".to_owned());
                }
                let state = init(rank)?;
                f(rank, state).map_err(|e| e.to_string())
            };
            match Builder::new().name(format!("{}-{rank}", self.name)).spawn(run) {
                Ok(thread) => threads.push(Some(thread)),
                Err(source) => {
                    gate.open(false);
                    return Err(StartError { rank, of: self.n, source });
                }
            }
        }
        // What the closures hold goes with the last worker, not here beside them.
        drop((f, self.init));
        gate.open(true);
        Ok(Workers { results: threads.iter().map(|_| Fate::Running).collect(), threads, gate })
    }
}

/// What workers wait at before they begin, and who waits for them at their end.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Whether to begin, once that is decided.
    begin: Option<bool>,
    ended: usize,
}

impl Gate {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, begin: bool) {
        self.lock().begin = Some(begin);
        self.changed.notify_all();
    }

    fn pass(&self) -> bool {
        let decided = self.changed.wait_while(self.lock(), |state| state.begin.is_none());
        decided.unwrap_or_else(PoisonError::into_inner).begin == Some(true)
    }
}

/// Counts a worker's end, also by a panic.
struct Ended(Arc<Gate>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.lock().ended += 1;
        self.0.changed.notify_all();
    }
}

#[derive(Debug)]
enum Fate<R> {
    Running,
    Done(R),
    Failed(Failure),
    /// A failure that [`Workers::poll_failures`] has told.
    Told,
}

/// Workers that have been started. Dropping it lets them run on.
#[must_use = "workers that nobody joins run on, and nobody learns of their failures"]
pub struct Workers<R> {
    threads: Vec<Option<JoinHandle<Result<R, String>>>>,
    results: Vec<Fate<R>>,
    gate: Arc<Gate>,
}

impl<R> fmt::Debug for Workers<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("n", &self.len()).field("running", &self.running()).finish()
    }
}

impl<R> Workers<R> {
    /// How many were started.
    pub fn len(&self) -> usize {
        self.threads.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }

    /// How many have not ended.
    pub fn running(&self) -> usize {
        self.threads.iter().flatten().filter(|thread| !thread.is_finished()).count()
    }

    /// Says who has failed so far, without waiting. A failure is told once: [`join`](Self::join) then returns the
    /// results of the others.
    ///
    /// # Errors
    /// Those that have failed since the last call.
    pub fn poll_failures(&mut self) -> Result<(), Failures> {
        self.reap(false);
        let failed = self.results.iter_mut().filter(|fate| matches!(fate, Fate::Failed(_)));
        let failed = failed.map(|fate| std::mem::replace(fate, Fate::Told));
        let failures: Vec<Failure> = failed
            .filter_map(|fate| match fate {
                Fate::Failed(failure) => Some(failure),
                _ => None,
            })
            .collect();
        if failures.is_empty() { Ok(()) } else { Err(Failures(failures)) }
    }

    /// Waits for all, however long they run: their results, by rank.
    ///
    /// # Errors
    /// Every failure, by rank, once all have ended; the results of the others are dropped.
    pub fn join(mut self) -> Result<Vec<R>, Failures> {
        self.reap(true);
        self.conclude()
    }

    /// The same, waiting for at most `limit`.
    ///
    /// # Errors
    /// [`JoinError`]; at the deadline with the workers, which run on.
    pub fn join_timeout(mut self, limit: Duration) -> Result<Vec<R>, JoinError<R>> {
        let (began, all) = (Instant::now(), self.len());
        let waiting =
            self.gate.changed.wait_timeout_while(self.gate.lock(), limit, |state| state.ended < all);
        let ended = waiting.unwrap_or_else(PoisonError::into_inner).0.ended;
        if ended < all {
            return Err(JoinError::StillRunning { waited: began.elapsed(), workers: self });
        }
        self.reap(true);
        Ok(self.conclude()?)
    }

    /// Notes how threads ended; `all`, or those that have.
    fn reap(&mut self, all: bool) {
        for (rank, (thread, fate)) in self.threads.iter_mut().zip(&mut self.results).enumerate() {
            if let Some(ended) = thread.take_if(|thread| all || thread.is_finished()) {
                *fate = match ended.join() {
                    Ok(Ok(result)) => Fate::Done(result),
                    Ok(Err(message)) => Fate::Failed(Failure { rank, message }),
                    Err(panic) => Fate::Failed(Failure { rank, message: panicked(&*panic) }),
                };
            }
        }
    }

    fn conclude(self) -> Result<Vec<R>, Failures> {
        let (mut results, mut failures) = (Vec::with_capacity(self.results.len()), Vec::new());
        for fate in self.results {
            match fate {
                Fate::Done(result) => results.push(result),
                Fate::Failed(failure) => failures.push(failure),
                Fate::Told | Fate::Running => {}
            }
        }
        if failures.is_empty() { Ok(results) } else { Err(Failures(failures)) }
    }
}

/// What a panic says.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    match text.or_else(|| panic.downcast_ref::<&str>().copied()) {
        Some(text) => format!("panicked: {text}"),
        None => "panicked with something that is no text".to_owned(),
    }
}
