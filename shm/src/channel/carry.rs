//! What carries a channel's values: one contract for both carriers.

use std::sync::Arc;

use sapwood_core::mem::Real;
use sapwood_core::ring::bells::Bells;

use super::bells::Where;
use super::error::Gone;
use super::stats::Stats;
use crate::error::Error;
use crate::ring::{PopError, PushError};
use crate::segment::Segment;

/// What a party waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Room.
    Send,
    /// A message.
    Recv,
}

/// Why a sleep must not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// What is waited for may have come with the look: try again.
    Again,
    /// Nobody is left who could bring it.
    Alone(Gone),
}

/// A queue with its bells in a segment.
pub(super) trait Far<T>: Carry<T> {
    /// In which it is.
    fn segment(&self) -> &Arc<Segment>;
    /// The name that it was opened under.
    fn name(&self) -> Option<&str>;
    /// Where this handle sits.
    fn seat(&self) -> usize;
    /// Another handle.
    fn again(&self) -> Result<Box<dyn Far<T>>, Error>;
}

/// A queue with its bells.
pub(super) trait Carry<T>: Send {
    /// Appends a value, and does not ring.
    fn push_quietly(&mut self, value: T) -> Result<(), PushError<T>>;
    /// Takes the oldest value, and does not ring.
    fn pop_quietly(&mut self) -> Result<T, PopError>;
    /// Appends the oldest values to `into`, `most` at most and one at least, and does not ring.
    fn pop_some_quietly(&mut self, into: &mut Vec<T>, most: usize) -> Result<usize, PopError> {
        let mut taken = 0;
        while taken < most {
            match self.pop_quietly() {
                Ok(value) => into.push(value),
                Err(_) if taken > 0 => break,
                Err(e) => return Err(e),
            }
            taken += 1;
        }
        Ok(taken)
    }
    /// The bells.
    fn bells(&self) -> &Bells<Real>;
    /// Where they are, for whoever sleeps there.
    fn place_of_bells(&self) -> Where;
    /// Whether what `way` waits for is there, or its end. `at_once`: asks the kernel about whoever is in the way.
    fn is_ready(&mut self, way: Way, at_once: bool) -> bool;
    /// Everybody else who had joined is gone, and this was not told for this `way` yet: with the news, for
    /// [`tell`](Self::tell).
    fn alone(&mut self, way: Way) -> Option<(Gone, u64)>;
    /// `departures` are told now, for this `way`.
    fn tell(&mut self, way: Way, departures: u64);
    /// See `Channel`.
    fn close(&self);
    fn is_closed(&self) -> bool;
    fn is_drained(&mut self) -> bool;
    fn len(&self) -> usize;
    fn capacity(&self) -> usize;
    fn stats(&self) -> Stats;

    /// Appends a value, and rings.
    #[inline]
    fn push(&mut self, value: T) -> Result<(), PushError<T>> {
        let pushed = self.push_quietly(value);
        if pushed.is_ok() {
            self.bells().pushed();
        }
        pushed
    }

    /// Takes the oldest value, and rings.
    #[inline]
    fn pop(&mut self) -> Result<T, PopError> {
        let popped = self.pop_quietly();
        if popped.is_ok() {
            self.ring_popped();
        }
        popped
    }

    /// Rings for quiet pops.
    #[inline]
    fn ring_popped(&self) {
        self.bells().popped(|| self.is_closed());
    }

    /// The last look before a sleep, with proof.
    fn look(&mut self, way: Way) -> Result<(), Told> {
        if self.is_ready(way, true) {
            return Err(Told::Again);
        }
        let Some((gone, departures)) = self.alone(way) else { return Ok(()) };
        // Whatever the last of them did came before its end. As long as that is there the news is not told.
        if self.is_ready(way, true) {
            return Err(Told::Again);
        }
        self.tell(way, departures);
        Err(Told::Alone(gone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the looks find, one after the other; somebody has left.
    struct Scripted {
        ready: Vec<bool>,
        told: [u64; 2],
        bells: Bells<Real>,
    }

    impl Carry<u8> for Scripted {
        fn push_quietly(&mut self, value: u8) -> Result<(), PushError<u8>> {
            Err(PushError::Full(value))
        }
        fn pop_quietly(&mut self) -> Result<u8, PopError> {
            Err(PopError::Empty)
        }
        fn bells(&self) -> &Bells<Real> {
            &self.bells
        }
        fn place_of_bells(&self) -> Where {
            Where::Threads(Arc::default())
        }
        fn is_ready(&mut self, _: Way, _: bool) -> bool {
            self.ready.pop().unwrap_or(false)
        }
        fn alone(&mut self, way: Way) -> Option<(Gone, u64)> {
            (self.told[way as usize] != 7).then_some((Gone { gone: 1, peer: None }, 7))
        }
        fn tell(&mut self, way: Way, departures: u64) {
            self.told[way as usize] = departures;
        }
        fn close(&self) {}
        fn is_closed(&self) -> bool {
            false
        }
        fn is_drained(&mut self) -> bool {
            false
        }
        fn len(&self) -> usize {
            0
        }
        fn capacity(&self) -> usize {
            1
        }
        fn stats(&self) -> Stats {
            Stats::default()
        }
    }

    #[test]
    fn the_news_is_told_once_and_not_lost_to_what_the_last_one_left() {
        for way in [Way::Send, Way::Recv] {
            let mut carry = Scripted { ready: vec![true, false], told: [0; 2], bells: Bells::default() };
            assert_eq!(carry.look(way), Err(Told::Again), "what the last one left comes first");
            assert_eq!(carry.look(way), Err(Told::Alone(Gone { gone: 1, peer: None })), "then the news");
            assert_eq!(carry.look(way), Ok(()), "once");
        }
    }
}
