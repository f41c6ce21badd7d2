//! Memory families and a heap region for tests: feature `testing`, uses std.

mod count;
mod crash;
mod heap;
mod hostile;
mod rings;

pub use count::{Count, Counts};
pub use crash::{Crash, Killed};
pub use heap::Heap;
pub use hostile::{Adversary, Hostile, TICK};
pub use rings::{Latest, Mpmc, Spsc, Stream};
