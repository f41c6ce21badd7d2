//! The tree itself: a rank's handle, and its operations.

use std::panic::Location;

use sapwood_core::board::Leaving;
use sapwood_core::dtype::Element;
use sapwood_core::mem::Real;
use sapwood_core::member::Member;
use sapwood_core::reduce::Op;
use sapwood_shm::{AllocError, Group, Tensor};

use crate::error::Error;

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
        self.member.all_reduce(tensors, op, at).map_err(|f| Error::of(&self.member, f))
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
        self.member.all_reduce_with(&mut [tensor], f, at).map_err(|e| Error::of(&self.member, e))
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
        self.member.broadcast(&mut [tensor], root, at).map_err(|f| Error::of(&self.member, f))
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
        self.member.barrier(at).map_err(|f| Error::of(&self.member, f))
    }

    /// A tensor of `n` zeros in memory that all ranks share, for every rank: collectives on it need no copy in and no
    /// copy out. All ranks call it with equal `n`. The memory goes when all ranks have dropped their tensors and
    /// another one is allocated, or with the tree. What a call that fails leaves of it: see [`Tensor`].
    ///
    /// # Errors
    /// [`Error::Memory`] on rank 0 and [`Error::NoResident`] on the others where there is not enough memory: nobody
    /// has the tensor then, and the tree goes on. Else see [`Error`].
    #[track_caller]
    pub fn alloc<T: Element>(&mut self, n: usize) -> Result<Tensor<T>, Error> {
        let at = Location::caller();
        self.here()?;
        let refused = |rank, why: String| {
            let bytes = n.saturating_mul(size_of::<T>());
            Error::NoResident { rank, bytes, why }
        };
        Group::alloc(&mut self.member, n, at).map_err(|e| match e {
            AllocError::Fault(fault) => Error::of(&self.member, fault),
            AllocError::Memory(e) => e.into(),
            AllocError::Refused { rank, why: Some(e) } => refused(rank, e.to_string()),
            AllocError::Refused { rank, why: None } => refused(rank, "see the error on that rank".into()),
        })
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
