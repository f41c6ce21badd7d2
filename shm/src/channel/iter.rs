//! Messages one after the other.

use sapwood_core::link::Deadline;

use super::{Channel, RecvError};

/// Receives until the channel is drained, and waits as long as it takes. An error that is not the end
/// ([`Alone`](RecvError::Alone), [`Forked`](RecvError::Forked)) is yielded, as the last item.
#[derive(Debug)]
pub struct Iter<'a, T: Send> {
    channel: &'a mut Channel<T>,
    over: bool,
}

/// The same, with the handle in it.
#[derive(Debug)]
pub struct IntoIter<T: Send> {
    channel: Channel<T>,
    over: bool,
}

fn next<T: Send>(channel: &mut Channel<T>, over: &mut bool) -> Option<Result<T, RecvError>> {
    if *over {
        return None;
    }
    let received = channel.recv_until(Deadline::at(u64::MAX));
    *over = received.is_err();
    if matches!(received, Err(RecvError::Drained)) { None } else { Some(received) }
}

impl<T: Send> Iterator for Iter<'_, T> {
    type Item = Result<T, RecvError>;
    fn next(&mut self) -> Option<Self::Item> {
        next(self.channel, &mut self.over)
    }
}

impl<T: Send> Iterator for IntoIter<T> {
    type Item = Result<T, RecvError>;
    fn next(&mut self) -> Option<Self::Item> {
        next(&mut self.channel, &mut self.over)
    }
}

impl<T: Send> std::iter::FusedIterator for Iter<'_, T> {}
impl<T: Send> std::iter::FusedIterator for IntoIter<T> {}

impl<T: Send> Channel<T> {
    /// Receives until the channel is drained, and waits as long as it takes: see [`Iter`].
    pub fn iter(&mut self) -> Iter<'_, T> {
        Iter { channel: self, over: false }
    }
}

impl<'a, T: Send> IntoIterator for &'a mut Channel<T> {
    type Item = Result<T, RecvError>;
    type IntoIter = Iter<'a, T>;
    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T: Send> IntoIterator for Channel<T> {
    type Item = Result<T, RecvError>;
    type IntoIter = IntoIter<T>;
    fn into_iter(self) -> IntoIter<T> {
        IntoIter { channel: self, over: false }
    }
}
