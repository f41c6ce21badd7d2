//! The carrier between threads: a queue on the heap, and a token for each handle.

use std::sync::Arc;

use sapwood_core::mem::Real;
use sapwood_core::ring::bells::Bells;

use super::bells::Where;
use super::carry::{Carry, Way};
use super::error::Gone;
use super::stats::Stats;
use crate::error::Error;
use crate::ring::local::Queue;
use crate::ring::{PopError, PushError};
use crate::seat::Maker;

/// One handle. A forked child has a copy of the queue, through which nothing comes: it is told so.
pub(super) struct Local<T: Send> {
    queue: Queue<T>,
    bells: Arc<Bells<Real>>,
    /// One for each handle: a sole one has nobody to wait for.
    token: Arc<()>,
    maker: Maker,
}

impl<T: Send> Local<T> {
    pub(super) fn new(capacity: usize) -> Result<Self, Error> {
        let queue = Queue::new(capacity)?;
        Ok(Local { queue, bells: Arc::default(), token: Arc::default(), maker: Maker::this() })
    }

    /// Another handle.
    pub(super) fn twin(&self) -> Self {
        let Local { queue, bells, token, maker } = self;
        Local { queue: queue.clone(), bells: bells.clone(), token: token.clone(), maker: *maker }
    }
}

impl<T: Send> Carry<T> for Local<T> {
    #[inline]
    fn push_quietly(&mut self, value: T) -> Result<(), PushError<T>> {
        if self.maker.is_this() { self.queue.try_push(value) } else { Err(PushError::Forked(value)) }
    }

    #[inline]
    fn pop_quietly(&mut self) -> Result<T, PopError> {
        if self.maker.is_this() { self.queue.try_pop() } else { Err(PopError::Forked) }
    }

    fn pop_some_quietly(&mut self, into: &mut Vec<T>, most: usize) -> Result<usize, PopError> {
        if self.maker.is_this() { self.queue.pop_batch(into, most) } else { Err(PopError::Forked) }
    }

    #[inline(always)]
    fn bells(&self) -> &Bells<Real> {
        &self.bells
    }

    fn place_of_bells(&self) -> Where {
        Where::Threads(self.bells.clone())
    }

    fn is_ready(&mut self, way: Way, _: bool) -> bool {
        // A forked child is told so by the try.
        !self.maker.is_this()
            || match way {
                Way::Send => {
                    !matches!(self.queue.has_room(), Err(PushError::Full(()) | PushError::Busy { .. }))
                }
                Way::Recv => !matches!(self.queue.has_value(), Err(PopError::Empty | PopError::Busy { .. })),
            }
    }

    fn alone(&mut self, _: Way) -> Option<(Gone, u64)> {
        // Nobody can make a handle but from a handle, and ours is borrowed. What the others did before they dropped
        // theirs comes before this.
        Arc::get_mut(&mut self.token).map(|()| (Gone { gone: 0, peer: None }, 0))
    }

    /// Whoever is alone stays so until he makes another handle, and is told each time.
    fn tell(&mut self, _: Way, _: u64) {}

    fn close(&self) {
        if self.maker.is_this() {
            self.queue.close();
            self.bells.closed();
        }
    }

    #[inline]
    fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    fn is_drained(&mut self) -> bool {
        self.queue.has_value() == Err(PopError::Drained)
    }

    fn len(&self) -> usize {
        self.queue.len()
    }

    fn capacity(&self) -> usize {
        self.queue.capacity()
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }
}
