//! The thread that waits for those who can't sleep at bells: futures and descriptors.
//!
//! Whoever wants to be woken announces itself at the bells, looks once more, and only then hands bells and announcement
//! over; the watcher sleeps at them from there on. An entry is done with once: it is taken out before it is woken, so a
//! waker that panics or comes back does no harm to the others.
//!
//! A watcher has room for what one wait of the kernel can hold, its own bell included; the next one is started when all
//! are full, and none ever ends. A forked child has none of its parent's threads: it starts its own. Wakers are woken
//! and dropped with no lock held, because that runs code of others.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use sapwood_core::doorbell::{Announced, Doorbell};
use sapwood_core::mem::{Mem, Real, WAIT_MOST};
use sapwood_core::wait::SLICE_NANOS;

use super::readiness::Flag;
use super::{Bells, Direction};
use crate::seat::Maker;

/// Bells that one watcher can have, beside its own.
const MOST: usize = WAIT_MOST - 1;

/// Who is woken.
#[derive(Clone)]
pub(super) enum Wake {
    Task(Waker),
    Flag(Arc<Flag>),
}

impl Wake {
    fn wake(self) {
        match self {
            Wake::Task(waker) => waker.wake(),
            Wake::Flag(flag) => flag.raise(),
        }
    }
}

/// A bell that somebody wants to hear.
pub(super) struct Entry {
    pub(super) bells: Arc<dyn Bells>,
    pub(super) direction: Direction,
    pub(super) announced: Announced,
    /// When it is woken even if nobody rings, on the monotonic clock: to look whether others live.
    pub(super) until: u64,
    /// Entries of one wait have one number.
    pub(super) ticket: u64,
    pub(super) wake: Wake,
}

impl Entry {
    fn bell(&self) -> &Doorbell<Real> {
        self.bells.bell(self.direction)
    }
}

/// A bell that is slept at.
type Asleep = (Arc<dyn Bells>, Direction, Announced);

struct Watcher {
    bell: Doorbell<Real>,
    entries: Mutex<Vec<Entry>>,
}

struct All {
    watchers: Vec<Arc<Watcher>>,
    tickets: u64,
}

/// How deep forks can be nested before a child may meet its ancestor's lock.
const DEPTH: usize = 64;

/// One for each depth of forks: another thread of the parent may have had the lock when it forked, and in the child
/// nobody would ever give it back.
static ALL: [Mutex<Option<All>>; DEPTH] = [const { Mutex::new(None) }; DEPTH];

/// What `f` takes out of the lists it must return: wakers run code of others when they are dropped, which may come back
/// here.
fn with_all<R>(f: impl FnOnce(&mut All) -> R) -> R {
    let depth = Maker::this().forks();
    // Nothing here panics in the middle of a change.
    let mut all = ALL[depth as usize % DEPTH].lock().unwrap_or_else(PoisonError::into_inner);
    // A future that a child has inherited from its parent must not end a wait of the child's.
    let first = || All { watchers: Vec::new(), tickets: u64::from(depth) << 48 };
    f(all.get_or_insert_with(first))
}

/// A number for the entries of one wait.
pub(super) fn ticket() -> u64 {
    with_all(|all| {
        all.tickets += 1;
        all.tickets
    })
}

/// Has `entry` woken when its bell is rung: at once, if it was rung since the announcement.
///
/// # Errors
/// No thread could be started.
pub(super) fn add(entry: Entry) -> io::Result<()> {
    let mut entry = Some(entry);
    with_all(|all| {
        for watcher in &all.watchers {
            let mut entries = watcher.entries.lock().unwrap_or_else(PoisonError::into_inner);
            if entries.len() < MOST {
                entries.extend(entry.take());
                drop(entries);
                watcher.bell.ring();
                return Ok(());
            }
        }
        let watcher = Arc::new(Watcher { bell: Doorbell::new(0), entries: Mutex::new(Vec::new()) });
        let theirs = watcher.clone();
        std::thread::Builder::new().name("sapwood-watcher".into()).spawn(move || theirs.run())?;
        watcher.entries.lock().unwrap_or_else(PoisonError::into_inner).extend(entry.take());
        watcher.bell.ring();
        all.watchers.push(watcher);
        Ok(())
    })
}

/// Forgets the entries of a wait that is over.
pub(super) fn forget(ticket: u64) {
    let forgotten = with_all(|all| {
        let mut forgotten = Vec::new();
        for watcher in &all.watchers {
            let mut entries = watcher.entries.lock().unwrap_or_else(PoisonError::into_inner);
            forgotten.extend(entries.extract_if(.., |entry| entry.ticket == ticket));
        }
        forgotten
    });
    drop(forgotten);
}

impl Watcher {
    fn run(&self) {
        // As long as the process: each turn ends with a ring, or at the next time that an entry asks for.
        loop {
            let announced = self.bell.announce();
            let (asleep, until) = self.wake_ready();
            let bells =
                asleep.iter().map(|(bells, direction, announced)| (bells.bell(*direction), *announced));
            let bells = std::iter::once((&self.bell, announced)).chain(bells);
            Doorbell::sleep_any(bells, until.saturating_sub(Real::now()));
        }
    }

    /// Wakes whose bell was rung or whose time has come; the bells of the others, and when to wake at the latest.
    fn wake_ready(&self) -> (Vec<Asleep>, u64) {
        let now = Real::now();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let due = |entry: &mut Entry| entry.bell().rung_since(entry.announced) || entry.until <= now;
        let awake: Vec<Entry> = entries.extract_if(.., due).collect();
        let asleep = entries.iter().map(|e| (e.bells.clone(), e.direction, e.announced)).collect();
        // The longest sleep: no one has to hear of anything sooner.
        let until = entries.iter().map(|entry| entry.until).fold(u64::MAX, u64::min);
        drop(entries);
        for entry in awake {
            // A waker that panics must not end the waits of all others. What it panics with may panic too when it goes.
            if let Err(why) = catch_unwind(AssertUnwindSafe(|| entry.wake.wake())) {
                std::mem::forget(why);
            }
        }
        (asleep, until.min(now.saturating_add(20 * SLICE_NANOS)))
    }
}
