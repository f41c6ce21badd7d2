//! Memory families and a heap region for tests: feature `testing`, uses std.

mod count;
mod crash;
pub mod explore;
mod heap;
mod rings;
mod works;

pub use count::{Count, Counts};
pub use crash::{Crash, Killed};
pub use heap::Heap;
pub use rings::{Latest, Mpmc, Spsc, Stream};
pub use works::{Table, Yard};
