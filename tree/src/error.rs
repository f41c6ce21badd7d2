//! What a tree's calls can fail with: who, what, and whether the caller's tensor is still what it was.

use std::fmt;
use std::time::Duration;

use sapwood_core::board::{Failing, Leaving};
use sapwood_core::call::Call;
use sapwood_core::mem::Real;
use sapwood_core::member::{Fault, Member};
use sapwood_core::reduce::Unsupported;
use sapwood_shm::Group;

/// What a failed call left in the caller's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// They are as before the call.
    AsBefore,
    /// Some elements hold results, some do not. A resident tensor may be poisoned too: see
    /// [`Tensor`](sapwood_shm::Tensor).
    Unspecified,
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Contents::AsBefore => "the tensors are as before",
            Contents::Unspecified => "the tensors' contents are unspecified",
        })
    }
}

/// Why a rank gave up in the middle of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The closure that it had passed panicked.
    ClosurePanicked,
    /// Its deadline passed while it waited for this rank.
    TimedOut {
        /// For whom it waited.
        waiting_for: usize,
    },
    /// It learnt that this rank was gone.
    LostPeer {
        /// Who was gone.
        rank: usize,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::ClosurePanicked => f.write_str("its closure panicked"),
            Reason::TimedOut { waiting_for } => {
                write!(f, "its deadline passed while it waited for rank {waiting_for}")
            }
            Reason::LostPeer { rank } => write!(f, "it had lost rank {rank}"),
        }
    }
}

impl From<Failing> for Reason {
    fn from(failing: Failing) -> Self {
        match failing {
            Failing::ClosurePanicked => Reason::ClosurePanicked,
            Failing::TimedOut(rank) => Reason::TimedOut { waiting_for: rank as usize },
            Failing::BecauseDead(rank) | Failing::BecauseGone(rank) => {
                Reason::LostPeer { rank: rank as usize }
            }
        }
    }
}

/// Why a rank left the tree between two operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaveReason {
    /// It dropped its tree, as a function that returns does.
    Dropped,
    /// It dropped its tree while unwinding from a panic.
    Panicked,
}

impl fmt::Display for LeaveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LeaveReason::Dropped => "it returned or dropped its tree",
            LeaveReason::Panicked => "it panicked",
        })
    }
}

impl From<Leaving> for LeaveReason {
    fn from(leaving: Leaving) -> Self {
        match leaving {
            Leaving::Dropped => LeaveReason::Dropped,
            Leaving::Panicked => LeaveReason::Panicked,
        }
    }
}

/// Two calls of one operation that do not agree.
#[derive(Debug, Clone, Copy)]
pub struct Mismatch {
    /// The rank that reports.
    pub rank: usize,
    /// Its call.
    pub call: Call,
    /// The first rank, by number, that called something else.
    pub other_rank: usize,
    /// That rank's call.
    pub other_call: Call,
}

/// Why a call on a tree failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A rank is dead: killed, or its process ended without dropping the tree. Every later call on this tree fails
    /// with the same.
    #[error("rank {rank} died; {contents}")]
    PeerDied {
        /// Who.
        rank: usize,
        /// What is left in the tensors.
        contents: Contents,
    },
    /// A rank left between two operations. Every later call on this tree fails with the same.
    #[error("rank {rank} left the tree: {reason}; {contents}")]
    PeerLeft {
        /// Who.
        rank: usize,
        /// Why.
        reason: LeaveReason,
        /// What is left in the tensors.
        contents: Contents,
    },
    /// A rank gave up in the middle of an operation. Every later call on this tree fails with the same.
    #[error("rank {rank} gave up: {reason}; {contents}")]
    PeerFailed {
        /// Who.
        rank: usize,
        /// Why.
        reason: Reason,
        /// What is left in the tensors.
        contents: Contents,
    },
    /// The ranks did not make the same call. The tensors are as before, and the tree goes on.
    #[error(
        "the ranks' calls do not agree: rank {} called {}, rank {} called {}",
        .0.rank, .0.call, .0.other_rank, .0.other_call
    )]
    Mismatch(Box<Mismatch>),
    /// The deadline passed. Every later call on this tree fails.
    #[error("waited {waited:?} for {}; {contents}", ranks(waiting_for))]
    TimedOut {
        /// Ranks that have not made the call, or are in the middle of it.
        waiting_for: Vec<usize>,
        /// How long.
        waited: Duration,
        /// What is left in the tensors.
        contents: Contents,
    },
    /// Not all ranks came before the deadline, so there is no tree.
    #[error("waited {waited:?} for a tree of {size} ranks, but {} never came", ranks(missing))]
    MissingRanks {
        /// Who never came.
        missing: Vec<usize>,
        /// Ranks that were expected.
        size: usize,
        /// How long.
        waited: Duration,
    },
    /// A rank wrote something that no correct rank writes. Every later call on this tree fails.
    #[error("rank {rank} named a resident tensor that does not exist; {contents}")]
    BadPeer {
        /// Who.
        rank: usize,
        /// What is left in the tensors.
        contents: Contents,
    },
    /// This element type has no such operation.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// No rank has the number that was named as root.
    #[error("rank {root} was named as the root, but the tree's ranks are 0 to {}", size - 1)]
    NoSuchRoot {
        /// What was asked for.
        root: usize,
        /// Ranks in the tree.
        size: usize,
    },
    /// A rank number that the size does not allow.
    #[error("a tree of {size} ranks has no rank {rank}")]
    NoSuchRank {
        /// What was asked for.
        rank: usize,
        /// Ranks in the tree.
        size: usize,
    },
    /// A number of ranks that no tree can have.
    #[error("a tree can't have {size} ranks: it must have between 1 and {}", crate::MAX_RANKS)]
    BadSize {
        /// What was asked for.
        size: usize,
    },
    /// A forked child used the tree of its parent.
    #[error("this process was forked from rank {rank}, and a tree belongs to the process that joined it")]
    Forked {
        /// The parent's rank.
        rank: usize,
    },
    /// Not every rank could map the memory of a resident tensor. Nobody has it; the tree goes on.
    #[error("rank {rank} could not provide a resident tensor of {bytes} bytes a rank: {why}")]
    NoResident {
        /// Who.
        rank: usize,
        /// Bytes for each rank.
        bytes: usize,
        /// Its reason if it is this rank or the first, else where to look.
        why: String,
    },
    /// `SAPWOOD_WAIT` holds something else than `adaptive`, `spin` or `sleep`.
    #[error("SAPWOOD_WAIT is {value:?}, which is none of adaptive, spin and sleep")]
    BadWait {
        /// What it holds.
        value: String,
    },
    /// A launcher's variable is missing or makes no sense.
    #[error(transparent)]
    Environment(#[from] sapwood_shm::EnvError),
    /// The shared memory of the tree could not be had.
    #[error("{}", of_ranks(.0))]
    Memory(#[from] sapwood_shm::Error),
}

impl Error {
    /// The error for a fault of the member's last operation.
    #[cold]
    pub(crate) fn of(member: &Member<Real, Group>, fault: Fault) -> Error {
        let contents = if member.touched() { Contents::Unspecified } else { Contents::AsBefore };
        match fault {
            Fault::Died { rank } => Error::PeerDied { rank, contents },
            Fault::Left { rank, reason } => Error::PeerLeft { rank, reason: reason.into(), contents },
            Fault::Failed { rank, reason } => Error::PeerFailed { rank, reason: reason.into(), contents },
            Fault::Mismatch { rank: other_rank } => match member.calls(other_rank) {
                Some((call, other_call)) => {
                    Error::Mismatch(Box::new(Mismatch { rank: member.rank(), call, other_rank, other_call }))
                }
                None => Error::BadPeer { rank: other_rank, contents },
            },
            Fault::TimedOut { rank, nanos } => {
                let mut waiting_for: Vec<usize> = member.behind().collect();
                if waiting_for.is_empty() {
                    waiting_for.push(rank);
                }
                Error::TimedOut { waiting_for, waited: Duration::from_nanos(nanos), contents }
            }
            Fault::Unsupported(e) => Error::Unsupported(e),
            Fault::NoSuchRoot { root, size } => Error::NoSuchRoot { root, size },
            Fault::BadToken { rank } => Error::BadPeer { rank, contents },
            fault => unreachable!("a fault that this version does not know: {fault:?}"),
        }
    }
}

/// `rank 3`, or `ranks 1, 2 and 5`.
fn ranks(all: &[usize]) -> String {
    match all {
        [] => "nobody".into(),
        [one] => format!("rank {one}"),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(usize::to_string).collect();
            format!("ranks {} and {last}", first.join(", "))
        }
    }
}

/// What shared memory says, in a tree's words: its seats are ranks.
fn of_ranks(error: &sapwood_shm::Error) -> String {
    use sapwood_shm::Error::{NoSuchSeat, OtherSize, SeatDead, SeatTaken};
    match error {
        SeatTaken { seat, pid } => format!("rank {seat} is taken by process {pid}; was it started twice?"),
        SeatDead { seat, pid } => {
            format!("rank {seat} was process {pid}, which is dead; its tree has to start anew")
        }
        NoSuchSeat { seat, seats } => format!("the tree has {seats} ranks, and rank {seat} is none of them"),
        OtherSize { found, expected } => {
            format!("the segment was made for {found} ranks, this one expects {expected}")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_who_and_how_long() {
        let e = Error::TimedOut {
            waiting_for: vec![1, 2, 5],
            waited: Duration::from_secs(3),
            contents: Contents::AsBefore,
        };
        assert_eq!(e.to_string(), "waited 3s for ranks 1, 2 and 5; the tensors are as before");
        let e = Error::PeerDied { rank: 3, contents: Contents::Unspecified };
        assert_eq!(e.to_string(), "rank 3 died; the tensors' contents are unspecified");
        assert_eq!(ranks(&[7]), "rank 7");
    }

    #[test]
    fn an_error_is_small_enough_to_return() {
        assert!(size_of::<Error>() <= 72, "{}", size_of::<Error>());
    }
}
