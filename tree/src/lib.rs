//! A tree of processes and its collectives. Today its ranks share one host.
//!
//! Promises: every wait has a deadline; a rank that dies, leaves, or makes another call than the rest is an [`Error`]
//! on the others that says who and what; after its first call of a shape a collective allocates nothing; every rank
//! gets the same bits, and they depend on values and rank order alone.
//!
//! ```
//! use sapwood_tree::{Op, Tree};
//!
//! // A tree of one needs nobody else; with more, each process names its own rank.
//! let mut tree = Tree::local(0, 1, "doc-example")?;
//! let mut gradients = vec![1.0f32; 100];
//! let contributors = tree.all_reduce(&mut gradients, Op::Avg)?;
//! assert_eq!((contributors, gradients[99]), (1, 1.0));
//! # Ok::<(), sapwood_tree::Error>(())
//! ```
#![forbid(unsafe_code)]

mod builder;
mod error;
mod tree;

pub use builder::{Builder, DEFAULT_DEADLINE, MAX_RANKS};
pub use error::{Contents, Error, LeaveReason, Mismatch, Reason};
pub use sapwood_core::dtype::{Dtype, Element};
pub use sapwood_core::reduce::{Op, Unsupported};
pub use sapwood_core::wait::WaitPolicy;
pub use sapwood_shm::Tensor;
pub use tree::{Stats, Tree};
