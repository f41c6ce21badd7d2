//! Sapwood: collectives, channels and workqueues between threads and processes, over the fastest path that exists
//! between them.
//!
//! This crate only gathers the names; each lives in the package that it links to.
//!
//! | what | where |
//! |---|---|
//! | [`Tree`]: a tree of processes, its all-reduce and family | `sapwood-tree` |
//! | [`processes`], [`Rank`]: starting ranks, and what a launcher says | `sapwood-shm` |
//! | [`channel`]: queues at which one can wait, between threads and between processes | `sapwood-shm` |
//! | [`workers`]: the same function in many threads, all results or all failures | `sapwood-shm` |
//! | [`queue`]: jobs that are answered once, between threads and between processes | `sapwood-shm` |
//! | [`ring`]: queues of values, streams of bytes and newest values, between threads and processes | `sapwood-shm` |
//! | [`mutex`], [`barrier`]: a lock whose owner may die, and passing together | `sapwood-shm` |
//! | [`select`]: waiting for several of these at once, as futures, by descriptors | `sapwood-shm` |
//! | [`bufs`]: a tensor's storage, handed around by descriptor; [`frozen`]: a value encoded once, read by all | `sapwood-shm` |
//! | [`map`]: maps of plain data between threads and processes | `sapwood-shm` |
//! | [`link`]: messages and tensors between two ends | `sapwood-core`, `sapwood-shm` |
//! | [`shm`]: segments, seats, proof of death | `sapwood-shm` |
//!
//! Four processes average their gradients:
//!
//! ```no_run
//! use sapwood::{Op, Tree, processes};
//!
//! // Starts this program four times; each copy runs the closure as one rank.
//! let report = processes(4, |rank| {
//!     let mut tree = Tree::join(&rank)?;
//!     let mut gradients = vec![tree.rank() as f32; 1000];
//!     tree.all_reduce(&mut gradients, Op::Avg)?;
//!     assert_eq!(gradients[0], 1.5);
//!     Ok::<(), sapwood::Error>(())
//! })?;
//! assert!(report.success(), "{report}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub use sapwood_shm as shm;
pub use sapwood_shm::{Failure, Failures, Workers, WorkersBuilder, workers};
pub use sapwood_shm::{Processes, ProcessesError, Rank, Report, processes};
pub use sapwood_shm::{barrier, bufs, channel, frozen, link, map, mutex, queue, ring, select};
pub use sapwood_tree::*;

/// The README's example is compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct Readme;

/// So are those of the guide for who comes from torch-ipc.
#[cfg(doctest)]
#[doc = include_str!("../docs/PORTING.md")]
#[derive(Debug)]
pub struct Porting;
