//! Memory families, a heap region, a pipe in memory and the contract of links, for tests: feature `testing`, uses std.

pub mod contract;
mod count;
mod crash;
pub mod explore;
mod heap;
mod hostile;
mod locks;
mod map;
mod pipe;
mod rings;
mod works;

pub use contract::{Rig, contract};
pub use count::{Count, Counts};
pub use crash::{Crash, Killed};
pub use heap::Heap;
pub use hostile::{Adversary, Hostile, TICK};
pub use locks::{Court, Latch};
pub use map::Chart;
pub use pipe::MemoryPipe;
pub use rings::{Latest, Local, Mpmc, Spsc, Stream};
pub use works::{Depot, Table, Yard};
