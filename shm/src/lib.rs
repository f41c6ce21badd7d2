//! Shared memory of one host: segments, seats, proof of death, groups, resident tensors, and ranks as processes.
//!
//! Promises: too little memory is an error before anything is mapped, never a SIGBUS; a process that dies at any
//! instruction leaves nothing that others wait for without learning of the death; no clock ever declares anybody dead.
#![deny(unsafe_code)]

mod alloc;
mod arena;
pub mod barrier;
pub mod bufs;
pub mod channel;
mod codec;
mod error;
mod fd_pass;
pub mod frozen;
mod group;
mod hall;
mod layout;
mod limits;
pub mod link;
mod liveness;
mod lock;
pub mod map;
mod mapped;
mod memory;
pub mod mutex;
mod named;
mod prices;
mod processes;
pub mod queue;
mod rank;
pub mod ring;
mod seat;
mod segment;
pub mod select;
mod wait;
mod workers;

pub use alloc::AllocError;
pub use arena::{Arena, Offer, Tensor};
pub use error::Error;
pub use group::Group;
pub use hall::BLOCKS;
pub use limits::{CPU_WORDS, allowed_cpus, cpu_quota};
pub use mapped::{MapError, Mapped};
pub use prices::{prices, wake_price};
pub use processes::{Exit, Processes, ProcessesError, Report, Running, processes};
pub use rank::{EnvError, Rank, Rendezvous};
pub use sapwood_core::board::Life;
pub use seat::Seat;
pub use segment::{Mapping, Segment, Spec};
pub use workers::{Failure, Failures, JoinError, StartError, Workers, WorkersBuilder, workers};
