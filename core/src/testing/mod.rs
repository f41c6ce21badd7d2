//! Memory families and a heap region for tests: feature `testing`, uses std.

mod count;
mod crash;
mod heap;

pub use count::{Count, Counts};
pub use crash::{Crash, Killed};
pub use heap::Heap;
