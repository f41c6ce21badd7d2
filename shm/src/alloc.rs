//! Allocation of resident tensors: a collective of two exchanges, after which all ranks have theirs, or nobody has.
//!
//! | step                                                     | a rank that dies after it leaves                          |
//! |----------------------------------------------------------|-----------------------------------------------------------|
//! | rank 0 reserves and backs a block                        | memory that goes with the group                           |
//! | first exchange: rank 0's offer, or that it has none      | a block that some have mapped; the group is over          |
//! | all map it                                               | the same                                                  |
//! | second exchange: who could map it, who could not         | the same; its tensor is never used in a call that completes |
//! | all take their tensor, or let go                         | a holding word that stays 1                               |
//!
//! # Safety
//! Takes a rank's own tensor out of a block that, by the second exchange, all ranks have mapped. That a bad rank 0 told
//! others something else makes values wrong: ours lies where we hold nothing else.
#![allow(unsafe_code)]

use std::panic::Location;

use sapwood_core::call::Kind;
use sapwood_core::dtype::Element;
use sapwood_core::mem::Real;
use sapwood_core::member::{Fault, Member};

use crate::arena::{Offer, Tensor};
use crate::error::Error;
use crate::group::Group;

/// Why there is no resident tensor. But for a final fault the group goes on.
#[derive(Debug)]
pub enum AllocError {
    /// The ranks did not agree, or one is gone.
    Fault(Fault),
    /// Rank 0, which is this one, found no memory.
    Memory(Error),
    /// A rank could not provide it, so nobody has it.
    Refused {
        /// Who.
        rank: usize,
        /// Why, where it is this rank.
        why: Option<Error>,
    },
}

impl Group {
    /// A tensor of `n` zeros that all ranks have mapped, for every rank; all call it with equal `n`.
    ///
    /// # Errors
    /// [`AllocError`].
    pub fn alloc<T: Element>(
        member: &mut Member<Real, Group>,
        n: usize,
        at: &'static Location<'static>,
    ) -> Result<Tensor<T>, AllocError> {
        let bytes = n.saturating_mul(size_of::<T>());
        let (mut refusal, mut words) = (None, [0; 4]);
        if member.rank() == 0 {
            match Group::arena_of(member).reserve(bytes) {
                Ok(offer) => words = offer.to_words(),
                Err(e) => refusal = Some(e),
            }
        }
        let mut offered = [0; 4];
        tell::<T>(member, n, words, at, |q, w| {
            if q == 0 {
                offered = w;
            }
        })?;
        if let Some(e) = refusal {
            return Err(AllocError::Memory(e));
        }
        let Some(offer) = Offer::from_words(offered) else {
            return Err(AllocError::Refused { rank: 0, why: None });
        };
        let mapped = Group::arena_of(member).map(offer, bytes);
        let mut failed = None;
        tell::<T>(member, n, [u64::from(mapped.is_err()), 0, 0, 0], at, |q, w| {
            if w[0] != 0 && failed.is_none() {
                failed = Some(q);
            }
        })?;
        let mut arena = Group::arena_of(member);
        match (mapped, failed) {
            // SAFETY: all ranks say that they have mapped what rank 0 offered to all of them.
            (Ok(()), None) => Ok(unsafe { arena.tensor(offer.block, n) }),
            (mapped, failed) => {
                if mapped.is_ok() {
                    arena.abandon(offer.block);
                }
                let why = mapped.err();
                let rank = failed.unwrap_or(0);
                Err(AllocError::Refused { rank, why: why.filter(|_| rank == member.rank()) })
            }
        }
    }
}

fn tell<T: Element>(
    member: &mut Member<Real, Group>,
    n: usize,
    words: [u64; 4],
    at: &'static Location<'static>,
    each: impl FnMut(usize, [u64; 4]),
) -> Result<(), AllocError> {
    let told = member.exchange(Kind::Alloc, Some((T::DTYPE, n)), words, at, each);
    told.map(|_| ()).map_err(AllocError::Fault)
}
