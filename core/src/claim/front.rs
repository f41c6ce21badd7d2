//! What lies before a table whose participants sleep: two bells, and whether jobs will come.
//!
//! ```text
//!    0  work      128 B   workers sleep here; who submits a job, gives one back or closes rings
//!  128  answers   128 B   the owner sleeps here; who ends a job or leaves rings
//!  256  door      128 B   0 open | 1 closed: what waits is still handed out | 2 the owner has left
//! ```
//! The owner alone submits and alone writes the door, which only grows. Zeroed memory is an open door at which nobody
//! sleeps.
//!
//! **A worker that is told "over" misses no job.** It looks at the door, then at the table, then at what others hold.
//! The fence of [`ring_after_submit`](Front::ring_after_submit), which stands between the owner's last submission and
//! its store to the door, with ClaimLookDoor (Acquire): a worker that has seen the door closed and then finds nothing
//! finds nothing new for good. Such a look is a thorough one: a glance misses what has come back. What others hold may
//! still come back, so behind a closed door (whose owner waits for answers) a worker waits until nobody holds anything;
//! behind one that was left it does not, because nobody wants the answer.
//!
//! **No worker sleeps on behind a closed door.** Who ends a job fences, and then looks at the door. A worker that
//! sleeps has announced itself, fenced, and looked. If the fence of who ends the job came first, the sleeper's look
//! found the job over. If the sleeper's came first, and its look had found the door closed before it, then by
//! coherence the other one finds it closed too, and rings. And if no look before that fence found it closed, the
//! owner's ring at closing comes behind the announcement and wakes the sleeper.
//!
//! | who dies                                   | what is left            | who repairs it                                |
//! |--------------------------------------------|-------------------------|-----------------------------------------------|
//! | anyone between its change and its ring     | a sleeper asleep        | its slice of sleep ends; who recovers rings all |
//! | the owner, before the door is closed       | an open door            | workers look for its death before they sleep  |

use core::fmt;

use crate::doorbell::Doorbell;
use crate::mem::{Atom, Bug, Mem, Ordering, Site};
use crate::wait::Closely;

#[repr(C, align(128))]
struct Line<T>(T);

const CLOSED: u32 = 1;
const LEFT: u32 = 2;

/// Whether jobs will come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// They may.
    Open,
    /// None but those that wait, or come back.
    Closed,
    /// The same, and nobody will collect; also whatever a bad peer writes.
    Left,
}

/// What a worker's look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look<T, E> {
    /// A job.
    Got(T),
    /// None, for now.
    Nothing(E),
    /// None, for good.
    Over,
}

/// The words. They live in shared memory.
#[repr(C)]
pub struct Front<M: Mem> {
    work: Line<Doorbell<M>>,
    answers: Line<Doorbell<M>>,
    door: Line<M::U32>,
}

impl<M: Mem> fmt::Debug for Front<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("door", &self.door()).finish_non_exhaustive()
    }
}

impl<M: Mem> Front<M> {
    /// An open door at which nobody sleeps; the bells' counts begin at `epoch`.
    pub fn new(epoch: u32) -> Self {
        Front {
            work: Line(Doorbell::new(epoch)),
            answers: Line(Doorbell::new(epoch)),
            door: Line(M::U32::new(0)),
        }
    }

    /// Where workers sleep.
    #[inline(always)]
    pub fn work(&self) -> &Doorbell<M> {
        &self.work.0
    }

    /// Where the owner sleeps.
    #[inline(always)]
    pub fn answers(&self) -> &Doorbell<M> {
        &self.answers.0
    }

    /// Whether jobs will come.
    #[inline(always)]
    pub fn door(&self) -> Door {
        match self.door.0.load(M::at(Site::ClaimLookDoor, Ordering::Acquire)) {
            0 => Door::Open,
            CLOSED => Door::Closed,
            _ => Door::Left,
        }
    }

    /// No more jobs; `left`: and nobody to collect. The caller is the owner.
    pub fn close(&self, left: bool) {
        if self.door() != Door::Left {
            // Pairs with ClaimLookDoor by the fence in `ring_after_submit`, behind the last submission.
            self.door.0.store(if left { LEFT } else { CLOSED }, Ordering::Relaxed);
        }
        if !M::broken(Bug::ClaimSilentClose) {
            self.work().ring_anyway();
        }
    }

    /// A worker's look for a job, so closely: `take`s one from a table. `held`: whether jobs wait, or are held by
    /// somebody.
    #[inline(always)]
    pub fn look<C, T, E>(
        &self,
        closely: Closely,
        table: &mut C,
        take: impl FnOnce(&mut C, Closely) -> Result<T, E>,
        held: impl FnOnce(&C) -> bool,
    ) -> Look<T, E> {
        let mut door = self.door();
        let closely = match door {
            Door::Closed | Door::Left if !M::broken(Bug::ClaimGlanceAtTheDoor) => Closely::Thorough,
            _ => closely,
        };
        let nothing = match take(table, closely) {
            Ok(job) => return Look::Got(job),
            Err(nothing) => nothing,
        };
        if M::broken(Bug::ClaimDoorLate) {
            door = self.door();
        }
        let over = match door {
            Door::Open => false,
            Door::Closed => M::broken(Bug::ClaimForgetHeld) || !held(table),
            Door::Left => true,
        };
        if over { Look::Over } else { Look::Nothing(nothing) }
    }

    /// A job was submitted.
    #[inline(always)]
    pub fn ring_after_submit(&self) {
        self.work().ring();
    }

    /// A job is over; `back`: or waits again.
    #[inline]
    pub fn ring_after_job(&self, back: bool) {
        Doorbell::<M>::fence();
        self.answers().ring_fenced();
        // Behind a closed door workers wait for the last jobs to end.
        let back = back && !M::broken(Bug::ClaimSilentBack);
        if back || !M::broken(Bug::ClaimSilentLast) && self.door() != Door::Open {
            self.work().ring_fenced();
        }
    }

    /// After a recovery: the dead may have owed a wake to anybody.
    #[cold]
    pub fn ring_all(&self) {
        self.work().ring_anyway();
        self.answers().ring_anyway();
    }
}

static_assertions::const_assert_eq!(size_of::<Front<crate::mem::Real>>(), 384);
static_assertions::const_assert_eq!(core::mem::offset_of!(Front<crate::mem::Real>, answers), 128);
static_assertions::const_assert_eq!(core::mem::offset_of!(Front<crate::mem::Real>, door), 256);
