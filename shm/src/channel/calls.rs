//! Sending and receiving: tries, and waits in between.

use std::cell::RefCell;
use std::time::Duration;

use sapwood_core::link::{Deadline, Timer};

use super::carry::{Carry, Told, Way};
use super::error::Gone;
use super::ready::{Ready, Side};
use super::{Carrier, Channel, RecvError, SendAllError, SendError};
use crate::ring::{PopError, PushError};
use crate::wait::{Patience, Stop};

/// Why waiting is over.
pub(super) enum Over {
    TimedOut { waited: Duration },
    Alone(Gone),
}

/// One call's waiting.
pub(super) struct Wait {
    deadline: Deadline,
    timer: Option<Timer>,
}

impl Wait {
    pub(super) fn until(deadline: Deadline) -> Wait {
        Wait { deadline, timer: None }
    }

    /// Sleeps until `side` may be ready; the time runs from the first such call on.
    ///
    /// # Errors
    /// [`Over`].
    pub(super) fn on<'b>(&mut self, side: impl Ready<'b>, patience: &mut Patience) -> Result<(), Over> {
        let timer = *self.timer.get_or_insert_with(|| self.deadline.start());
        let (bell, side) = (side.bell(), RefCell::new(side));
        let ready = || side.borrow_mut().is_ready();
        let waited = patience.wait(bell, Deadline::at(timer.until()), ready, || side.borrow_mut().look());
        match waited {
            // Somebody may be faster every time: the deadline holds all the same.
            Ok(()) | Err(Stop::Told(Told::Again)) if !timer.has_passed() => Ok(()),
            Err(Stop::Told(Told::Alone(gone))) => Err(Over::Alone(gone)),
            _ => Err(Over::TimedOut { waited: timer.waited() }),
        }
    }
}

impl<T: Send> Channel<T> {
    /// Sends a value, and waits for room until the handle's deadline.
    ///
    /// # Errors
    /// [`SendError`] without [`Full`](SendError::Full), with the value.
    #[inline]
    pub fn send(&mut self, value: T) -> Result<(), SendError<T>> {
        match self.push(value) {
            Ok(()) => Ok(()),
            Err(e) => self.send_later(e, &mut Wait::until(Deadline::after(self.limit))),
        }
    }

    /// Sends a value, and waits for room as long as `limit`.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    #[inline]
    pub fn send_timeout(&mut self, value: T, limit: Duration) -> Result<(), SendError<T>> {
        match self.push(value) {
            Ok(()) => Ok(()),
            Err(e) => self.send_later(e, &mut Wait::until(Deadline::after(limit))),
        }
    }

    /// Sends a value if there is room.
    ///
    /// # Errors
    /// [`SendError`] without [`TimedOut`](SendError::TimedOut), with the value; [`Alone`](SendError::Alone) only where
    /// a wait beside others has learnt it.
    #[inline]
    pub fn try_send(&mut self, value: T) -> Result<(), SendError<T>> {
        self.push(value).map_err(|e| self.not_sent(e))
    }

    #[cold]
    fn not_sent(&mut self, e: PushError<T>) -> SendError<T> {
        match (e, self.news[Way::Send as usize].take()) {
            (PushError::Full(value), Some(Gone { gone, peer })) => SendError::Alone { gone, peer, value },
            (e, _) => SendError::of(e, self.capacity()),
        }
    }

    /// Sends all values that an iterator yields, in order, and says how many; the deadline is for the whole. Readers
    /// are woken for each, before the iterator is asked for the next one: it may wait for what they do. Whatever ends
    /// the call early, even a panic of the iterator, what was sent is there. By reference (`send_all(&mut iterator)`)
    /// the rest stays with the caller.
    ///
    /// # Errors
    /// [`SendAllError`]: the first values were sent, the next one is handed back.
    pub fn send_all(&mut self, values: impl IntoIterator<Item = T>) -> Result<usize, SendAllError<T>> {
        let (mut wait, mut sent) = (Wait::until(Deadline::after(self.limit)), 0);
        for value in values {
            if let Err(e) = self.push(value) {
                self.send_later(e, &mut wait).map_err(|error| SendAllError { sent, error })?;
            }
            sent += 1;
        }
        Ok(sent)
    }

    #[inline(always)]
    fn push(&mut self, value: T) -> Result<(), PushError<T>> {
        let pushed = match &mut self.carrier {
            Carrier::Threads(local) => local.push(value),
            Carrier::Processes(shared) => shared.push(value),
        };
        if pushed.is_ok() {
            self.news[Way::Send as usize] = None; // out of date
        }
        pushed
    }

    #[inline(always)]
    fn pop(&mut self) -> Result<T, PopError> {
        let popped = match &mut self.carrier {
            Carrier::Threads(local) => local.pop(),
            Carrier::Processes(shared) => shared.pop(),
        };
        if popped.is_ok() {
            self.news[Way::Recv as usize] = None; // out of date
        }
        popped
    }

    /// One direction, to be waited for, and how this handle waits.
    pub(crate) fn side(&mut self, way: Way) -> (Side<'_, T>, &mut Patience) {
        let Channel { carrier, farewell, patience, .. } = self;
        (Side { carrier: carrier.as_mut(), bells: &farewell.bells, way }, patience)
    }

    fn wait(&mut self, way: Way, wait: &mut Wait) -> Result<(), Over> {
        let (side, patience) = self.side(way);
        wait.on(side, patience)
    }

    #[cold]
    fn send_later(&mut self, mut said: PushError<T>, wait: &mut Wait) -> Result<(), SendError<T>> {
        // Ends at the deadline at the latest.
        loop {
            let value = match said {
                // What a wait beside others has learnt is told once: no wait here would learn it again.
                PushError::Full(value) => match self.news[Way::Send as usize].take() {
                    Some(Gone { gone, peer }) => return Err(SendError::Alone { gone, peer, value }),
                    None => value,
                },
                PushError::Busy { value, .. } => value,
                e => return Err(SendError::of(e, self.capacity())),
            };
            let over = self.wait(Way::Send, wait);
            said = match self.push(value) {
                Ok(()) => return Ok(()),
                Err(e) => e,
            };
            let Err(over) = over else { continue };
            let capacity = self.capacity();
            return Err(match (over, said) {
                (_, e @ (PushError::Closed(_) | PushError::Forked(_))) => SendError::of(e, capacity),
                (Over::Alone(Gone { gone, peer }), e) => {
                    SendError::Alone { gone, peer, value: e.into_inner() }
                }
                (Over::TimedOut { waited }, PushError::Busy { holder, value }) => {
                    SendError::Busy { holder, waited, value }
                }
                (Over::TimedOut { waited }, e) => {
                    SendError::TimedOut { capacity, waited, value: e.into_inner() }
                }
            });
        }
    }

    /// Receives the oldest message, and waits for one until the handle's deadline.
    ///
    /// # Errors
    /// [`RecvError`] without [`Empty`](RecvError::Empty).
    #[inline]
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.recv_until(Deadline::after(self.limit))
    }

    /// Receives the oldest message, and waits for one as long as `limit`.
    ///
    /// # Errors
    /// As for [`recv`](Self::recv).
    #[inline]
    pub fn recv_timeout(&mut self, limit: Duration) -> Result<T, RecvError> {
        self.recv_until(Deadline::after(limit))
    }

    /// Receives the oldest message if one is there.
    ///
    /// # Errors
    /// [`RecvError`] without [`TimedOut`](RecvError::TimedOut), and with [`Alone`](RecvError::Alone) only where a wait
    /// beside others has learnt it. [`Empty`](RecvError::Empty) says "not yet", [`Drained`](RecvError::Drained) "never
    /// again".
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, RecvError> {
        self.pop().map_err(|e| self.not_received(e))
    }

    #[cold]
    fn not_received(&mut self, e: PopError) -> RecvError {
        match (e, self.news[Way::Recv as usize].take()) {
            (PopError::Empty, Some(Gone { gone, peer })) => RecvError::Alone { gone, peer },
            (e, _) => RecvError::of(e),
        }
    }

    #[inline]
    pub(super) fn recv_until(&mut self, deadline: Deadline) -> Result<T, RecvError> {
        match self.pop() {
            Ok(value) => Ok(value),
            Err(e) => self.recv_later(e, deadline, Self::pop),
        }
    }

    /// Appends to `into` what is there, `most` messages at most, and says how many; waits for the first one until the
    /// handle's deadline. Senders are woken once for all. Allocates only where `into` has to grow.
    ///
    /// # Errors
    /// As for [`recv`](Self::recv), with nothing received.
    pub fn recv_batch(&mut self, into: &mut Vec<T>, most: usize) -> Result<usize, RecvError> {
        self.recv_batch_timeout(into, most, self.limit)
    }

    /// The same, and waits for the first one as long as `limit`.
    ///
    /// # Errors
    /// As for [`recv_batch`](Self::recv_batch).
    pub fn recv_batch_timeout(
        &mut self,
        into: &mut Vec<T>,
        most: usize,
        limit: Duration,
    ) -> Result<usize, RecvError> {
        match self.pop_some(into, most) {
            Ok(taken) => Ok(taken),
            Err(e) => self.recv_later(e, Deadline::after(limit), |channel| channel.pop_some(into, most)),
        }
    }

    /// The same, and does not wait.
    ///
    /// # Errors
    /// As for [`try_recv`](Self::try_recv), with nothing received.
    pub fn try_recv_batch(&mut self, into: &mut Vec<T>, most: usize) -> Result<usize, RecvError> {
        self.pop_some(into, most).map_err(|e| self.not_received(e))
    }

    /// Fills the beginning of `into` with what is there, and says how many messages that were; waits for the first one
    /// until the handle's deadline. What the places held is dropped.
    ///
    /// # Errors
    /// As for [`recv`](Self::recv), with nothing received.
    pub fn recv_slice(&mut self, into: &mut [T]) -> Result<usize, RecvError> {
        let Some((first, rest)) = into.split_first_mut() else { return Ok(0) };
        *first = self.recv()?;
        let (mut taken, mut owing) = (1, Owing { owed: false, channel: self });
        for place in rest {
            let Ok(value) = owing.channel.carrier.as_mut().pop_quietly() else { break };
            owing.owed = true;
            *place = value; // drops what was there, and may panic
            taken += 1;
        }
        Ok(taken)
    }

    fn pop_some(&mut self, into: &mut Vec<T>, most: usize) -> Result<usize, PopError> {
        if most == 0 {
            return Ok(0);
        }
        let carrier = self.carrier.as_mut();
        let taken = carrier.pop_some_quietly(into, most)?;
        carrier.ring_popped();
        self.news[Way::Recv as usize] = None; // out of date
        Ok(taken)
    }

    #[cold]
    fn recv_later<V>(
        &mut self,
        said: PopError,
        deadline: Deadline,
        mut pop: impl FnMut(&mut Self) -> Result<V, PopError>,
    ) -> Result<V, RecvError> {
        let (mut said, mut wait) = (said, Wait::until(deadline));
        // Ends at the deadline at the latest.
        loop {
            if !matches!(said, PopError::Empty | PopError::Busy { .. }) {
                return Err(RecvError::of(said));
            }
            // What a wait beside others has learnt is told once: no wait here would learn it again.
            if said == PopError::Empty
                && let Some(Gone { gone, peer }) = self.news[Way::Recv as usize].take()
            {
                return Err(RecvError::Alone { gone, peer });
            }
            let over = self.wait(Way::Recv, &mut wait);
            said = match pop(self) {
                Ok(value) => return Ok(value),
                Err(e) => e,
            };
            let Err(over) = over else { continue };
            return Err(match (over, said) {
                (_, e @ (PopError::Drained | PopError::Forked)) => RecvError::of(e),
                (Over::Alone(Gone { gone, peer }), _) => RecvError::Alone { gone, peer },
                (Over::TimedOut { waited }, PopError::Busy { holder }) => RecvError::Busy { holder, waited },
                (Over::TimedOut { waited }, _) => RecvError::TimedOut { waited },
            });
        }
    }
}

/// What was received quietly. Rings when it goes, also by a panic.
struct Owing<'a, T: Send> {
    owed: bool,
    channel: &'a mut Channel<T>,
}

impl<T: Send> Drop for Owing<'_, T> {
    fn drop(&mut self) {
        if self.owed {
            self.channel.carrier.as_ref().ring_popped();
        }
    }
}
