//! The tree itself: a rank's handle, and its operations.

use std::panic::Location;
use std::time::Duration;

use sapwood_core::board::Leaving;
use sapwood_core::call::Kind;
use sapwood_core::dtype::Element;
use sapwood_core::mem::Real;
use sapwood_core::member::{Fault, Member};
use sapwood_core::reduce::Op;
use sapwood_shm::{Group, Offer, Rank, Tensor};

use crate::builder::Builder;
use crate::error::{Contents, Error, Mismatch};

/// What a rank has done and how it has waited, since it joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Operations that this rank has taken part in.
    pub operations: u64,
    /// Turns of spin loops.
    pub spins: u64,
    /// Times the CPU was given away to whoever wanted it.
    pub yields: u64,
    /// Times the rank went to sleep in the kernel.
    pub sleeps: u64,
}

/// One rank of a tree of processes.
///
/// All ranks make the same calls in the same order. A call returns the same bits on every rank. Calls take `&mut self`;
/// the handle can be moved to another thread.
#[derive(Debug)]
pub struct Tree {
    member: Member<Real, Group>,
}

impl Tree {
    pub(crate) fn new(member: Member<Real, Group>) -> Self {
        Tree { member }
    }

    /// Settings for a tree that is to be made.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Joins the tree of the ranks that [`processes`](sapwood_shm::processes) or a launcher started. Returns when all
    /// have come.
    ///
    /// # Errors
    /// [`Error::MissingRanks`] at the deadline, [`Error::PeerDied`] if a rank dies meanwhile, [`Error::Memory`] if
    /// the shared memory can't be had, is of another layout (other size, other version), or the rank is taken.
    pub fn join(rank: &Rank) -> Result<Tree, Error> {
        Tree::builder().join(rank)
    }

    /// Joins the tree called `name`: for processes of one user on one host that nobody has started together. `rank`
    /// counts from 0; all ranks name the same `size`. The name is free again once all have joined.
    ///
    /// # Errors
    /// As for [`join`](Self::join), and for a name that no file can have.
    pub fn local(rank: usize, size: usize, name: &str) -> Result<Tree, Error> {
        Tree::builder().local(rank, size, name)
    }

    /// The tree that a launcher's variables describe; `None` if there are none.
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `SAPWOOD_RANK` | this rank, from 0 |
    /// | `SAPWOOD_SIZE` | number of ranks |
    /// | `SAPWOOD_LOCAL_RANK` | this rank among those of its host |
    /// | `SAPWOOD_RENDEZVOUS` | where they meet: `name:NAME`, as in [`local`](Self::local), or `fd:N`, inherited |
    ///
    /// # Errors
    /// [`Error::Environment`] names the variable that is missing or makes no sense; else as for [`join`](Self::join).
    pub fn from_env() -> Result<Option<Tree>, Error> {
        Rank::from_env()?.map(|rank| Tree::join(&rank)).transpose()
    }

    /// This rank's number, from 0.
    pub fn rank(&self) -> usize {
        self.member.rank()
    }

    /// Ranks in the tree.
    pub fn size(&self) -> usize {
        self.member.size()
    }

    /// Process number of each rank, as that rank sees itself.
    pub fn pids(&self) -> Vec<u32> {
        self.member.region().pids()
    }

    /// What moves the data between the ranks.
    pub fn link(&self) -> &'static str {
        "shared memory"
    }

    /// How this rank has waited so far.
    pub fn stats(&self) -> Stats {
        let w = self.member.wait_stats();
        Stats { operations: self.member.operations(), spins: w.spins, yields: w.yields, sleeps: w.sleeps }
    }

    /// Reduces everybody's tensors with `op`, element by element, in place; everybody gets the same bits:
    /// `((x0 op x1) op x2) ...` in rank order. f16 and bf16 are accumulated in f32 and rounded once; integers wrap;
    /// min and max propagate NaN. Says how many ranks contributed.
    ///
    /// Tensors of all ranks have equal lengths. Where all of them are resident ([`alloc`](Self::alloc)) and long enough
    /// they are reduced where they lie.
    ///
    /// # Errors
    /// See [`Error`]; `Unsupported` for an average of integers and bit operations on floats.
    #[inline]
    #[track_caller]
    pub fn all_reduce<T: Element>(&mut self, tensor: &mut [T], op: Op) -> Result<usize, Error> {
        self.all_reduce_many(&mut [tensor], op)
    }

    /// The same for several tensors in one call, with one synchronisation for all of them. Number and lengths must be
    /// equal on all ranks.
    ///
    /// # Errors
    /// As for [`all_reduce`](Self::all_reduce).
    #[inline]
    #[track_caller]
    pub fn all_reduce_many<T: Element>(&mut self, tensors: &mut [&mut [T]], op: Op) -> Result<usize, Error> {
        let at = Location::caller();
        self.here()?;
        self.member.all_reduce(tensors, op, at).map_err(|f| explain(&self.member, f))
    }

    /// The same with a closure `f(accumulator, next)`, called with equal pieces of two ranks' tensors, in rank order:
    /// it need not be commutative. It must work element by element, because it sees the tensors in pieces whose
    /// bounds are unspecified, and must compute the same on every rank.
    ///
    /// ```
    /// # let mut tree = sapwood_tree::Tree::local(0, 1, "closure-example")?;
    /// let mut longest = [3u32, 9];
    /// tree.all_reduce_with(&mut longest, |best, next| {
    ///     best.iter_mut().zip(next).for_each(|(b, n)| *b = (*b).max(*n));
    /// })?;
    /// assert_eq!(longest, [3, 9]);
    /// # Ok::<(), sapwood_tree::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`all_reduce`](Self::all_reduce). If the closure panics, the panic goes on here, and the other ranks get
    /// [`Error::PeerFailed`].
    #[track_caller]
    pub fn all_reduce_with<T: Element>(
        &mut self,
        tensor: &mut [T],
        f: impl Fn(&mut [T], &[T]),
    ) -> Result<usize, Error> {
        let at = Location::caller();
        self.here()?;
        self.member.all_reduce_with(&mut [tensor], f, at).map_err(|e| explain(&self.member, e))
    }

    /// Gives every rank the tensor of rank `root`. Lengths are equal on all ranks. The root of a short tensor does
    /// not wait for the others.
    ///
    /// # Errors
    /// See [`Error`]; `NoSuchRoot` for a root that is no rank. A root that had returned when another rank made a
    /// different call learns of it at its next call.
    #[inline]
    #[track_caller]
    pub fn broadcast<T: Element>(&mut self, tensor: &mut [T], root: usize) -> Result<(), Error> {
        let at = Location::caller();
        self.here()?;
        self.member.broadcast(&mut [tensor], root, at).map_err(|f| explain(&self.member, f))
    }

    /// Returns when all ranks have called it. What a rank wrote to shared memory before is visible to all after.
    ///
    /// # Errors
    /// See [`Error`].
    #[inline]
    #[track_caller]
    pub fn barrier(&mut self) -> Result<(), Error> {
        let at = Location::caller();
        self.here()?;
        self.member.barrier(at).map_err(|f| explain(&self.member, f))
    }

    /// A tensor of `n` zeros in memory that all ranks share, for every rank: collectives on it need no copy in and no
    /// copy out. All ranks call it with equal `n`. The memory goes when all ranks have dropped their tensors and
    /// another one is allocated, or with the tree.
    ///
    /// # Errors
    /// [`Error::Memory`] on rank 0 and [`Error::NoResident`] on the others where there is not enough memory: nobody
    /// has the tensor then, and the tree goes on. Else see [`Error`].
    #[track_caller]
    pub fn alloc<T: Element>(&mut self, n: usize) -> Result<Tensor<T>, Error> {
        let at = Location::caller();
        self.here()?;
        let bytes = n.saturating_mul(size_of::<T>());
        let (mut refusal, mut words) = (None, [0; 4]);
        if self.rank() == 0 {
            match self.member.region_mut().arena_mut().reserve(bytes) {
                Ok(offer) => words = offer.to_words(),
                Err(e) => refusal = Some(e),
            }
        }
        let mut offered = [0; 4];
        self.tell::<T>(n, words, at, |q, w| {
            if q == 0 {
                offered = w;
            }
        })?;
        if let Some(e) = refusal {
            return Err(e.into());
        }
        let nobody = |rank, why: String| Error::NoResident { rank, bytes, why };
        let Some(offer) = Offer::from_words(offered) else {
            return Err(nobody(0, "see the error on that rank".into()));
        };
        let mapped = self.member.region_mut().arena_mut().map(offer, bytes);
        let mut failed = None;
        self.tell::<T>(n, [u64::from(mapped.is_err()), 0, 0, 0], at, |q, w| {
            if w[0] != 0 && failed.is_none() {
                failed = Some(q);
            }
        })?;
        let arena = self.member.region_mut().arena_mut();
        match failed {
            None => Ok(arena.tensor(offer.block, n)),
            Some(rank) => {
                arena.abandon(offer.block);
                Err(nobody(
                    rank,
                    mapped.err().map_or_else(|| "see the error on that rank".into(), |e| e.to_string()),
                ))
            }
        }
    }

    fn tell<T: Element>(
        &mut self,
        n: usize,
        words: [u64; 4],
        at: &'static Location<'static>,
        each: impl FnMut(usize, [u64; 4]),
    ) -> Result<(), Error> {
        let told = self.member.exchange(Kind::Alloc, Some((T::DTYPE, n)), words, at, each);
        told.map(|_| ()).map_err(|f| explain(&self.member, f))
    }

    /// A forked child must not speak for its parent.
    #[inline(always)]
    fn here(&self) -> Result<(), Error> {
        if self.member.region().is_mine() { Ok(()) } else { Err(Error::Forked { rank: self.rank() }) }
    }
}

/// Says goodbye: the others' next call fails with `PeerLeft`. Never blocks.
impl Drop for Tree {
    fn drop(&mut self) {
        if self.here().is_ok() {
            let panicked = std::thread::panicking();
            self.member.leave(if panicked { Leaving::Panicked } else { Leaving::Dropped });
        }
    }
}

/// The error for a fault of the member's last operation.
#[cold]
pub(crate) fn explain(member: &Member<Real, Group>, fault: Fault) -> Error {
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
