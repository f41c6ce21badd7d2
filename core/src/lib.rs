//! The protocols and kernels of Sapwood that need no operating system but a futex: `no_std`, no allocation.
#![no_std]
#![deny(unsafe_code)]
#![warn(clippy::std_instead_of_core)]

#[cfg(any(test, feature = "testing"))]
extern crate std;

pub mod barrier;
pub mod blocks;
pub mod board;
pub mod bufs;
pub mod call;
pub mod claim;
mod collective;
pub mod doorbell;
pub mod dtype;
pub mod layout;
pub mod link;
pub mod lock;
pub mod map;
pub mod mem;
pub mod member;
pub mod muster;
pub mod owner;
mod real;
pub mod reduce;
pub mod ring;
pub mod shareable;
pub mod sizes;
mod tensors;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod view;
pub mod wait;
pub mod wire;
