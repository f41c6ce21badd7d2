//! The memory of a map on the heap, for any memory family.

use core::fmt;
use std::sync::Arc;
use std::vec::Vec;

use crate::map::{Commit, Count, Kind, Region, Shape};
use crate::mem::{Atom, Mem};

struct Memory<M: Mem> {
    commit: M::U64,
    count: M::U64,
    words: Vec<M::U64>,
    stride: usize,
}

/// The words of a map. Clones share them.
pub struct Chart<M: Mem>(Arc<Memory<M>>);

impl<M: Mem> Clone for Chart<M> {
    fn clone(&self) -> Self {
        Chart(self.0.clone())
    }
}

impl<M: Mem> fmt::Debug for Chart<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chart").field("words", &self.0.words.len()).finish_non_exhaustive()
    }
}

impl<M: Mem> Chart<M> {
    /// An empty map after `changes` changes of the number of its pairs.
    pub fn new(shape: &Shape, changes: u64) -> Self {
        let words = (0..shape.entries() * shape.words()).map(|_| M::U64::new(0)).collect();
        let commit = M::U64::new(Commit::new(changes, 0, Kind::Idle).0);
        let count = M::U64::new(Count::new(changes, 0).0);
        Chart(Arc::new(Memory { commit, count, words, stride: shape.words() }))
    }
}

impl<M: Mem> Region<M> for Chart<M> {
    fn commit(&self) -> &M::U64 {
        &self.0.commit
    }
    fn count(&self) -> &M::U64 {
        &self.0.count
    }
    fn word(&self, entry: usize, i: usize) -> &M::U64 {
        assert!(i < self.0.stride, "a word of the entry");
        &self.0.words[entry * self.0.stride + i]
    }
}
