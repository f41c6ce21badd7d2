//! The protocols and kernels of Sapwood that need no operating system: `no_std`, no allocation.
#![no_std]
#![deny(unsafe_code)]
#![warn(clippy::std_instead_of_core)]

#[cfg(any(test, feature = "testing"))]
extern crate std;

pub mod dtype;
pub mod mem;
mod real;
pub mod reduce;
