//! A channel beside other things that are waited for, and as a future.

use std::sync::Arc;

use sapwood_core::doorbell::Doorbell;
use sapwood_core::mem::Real;

use super::bells::Where;
use super::carry::{Told, Way};
use super::error::Gone;
use super::ready::bell;
use super::{Channel, FrameChannel, RecvError, SendError};
use crate::select::{Bells, Direction, SelectError, Waitable, Waits, ready};

impl From<Direction> for Way {
    fn from(direction: Direction) -> Way {
        match direction {
            Direction::Receiving => Way::Recv,
            Direction::Sending => Way::Send,
        }
    }
}

impl Bells for Where {
    fn bell(&self, direction: Direction) -> &Doorbell<Real> {
        bell(self, direction.into())
    }
}

/// What a wait beside others has learnt, and the next try says: for each way.
pub(super) type News = [Option<Gone>; 2];

/// Whether whoever waits has to be told now.
pub(super) fn told(said: Result<(), Told>, news: &mut Option<Gone>) -> bool {
    match said {
        Ok(()) => news.is_some(),
        Err(Told::Again) => true,
        Err(Told::Alone(gone)) => {
            *news = Some(gone);
            true
        }
    }
}

impl<T: Send> Waitable for Channel<T> {
    fn bells(&self) -> Arc<dyn Bells> {
        Arc::new(self.farewell.bells.clone())
    }
    fn bell(&self, direction: Direction) -> &Doorbell<Real> {
        bell(&self.farewell.bells, direction.into())
    }
    fn is_ready(&mut self, direction: Direction) -> bool {
        let way = Way::from(direction);
        self.news[way as usize].is_some() || self.carrier.as_mut().is_ready(way, false)
    }
    fn look(&mut self, direction: Direction) -> bool {
        let way = Way::from(direction);
        told(self.carrier.as_mut().look(way), &mut self.news[way as usize])
    }
    fn others_can_die(&self) -> bool {
        self.far().is_some()
    }
}

impl<T: Send> Channel<T> {
    /// For a wait beside others: ready when a receive would not wait.
    ///
    /// ```
    /// use std::time::Duration;
    /// use sapwood_shm::channel::channel;
    /// use sapwood_shm::select::{Select, Waits};
    ///
    /// let (mut jobs, mut stop) = (channel::<u32>(8)?, channel::<()>(1)?);
    /// jobs.send(7)?;
    /// let mut select = Select::new();
    /// match select.wait(&mut [stop.receiving(), jobs.receiving(), Waits::after(Duration::from_secs(1))])? {
    ///     0 => println!("stopped"),
    ///     1 => assert_eq!(jobs.try_recv()?, 7),
    ///     _ => println!("nothing to do for a second"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn receiving(&mut self) -> Waits<'_> {
        Waits::handle(self, Direction::Receiving)
    }

    /// For a wait beside others: ready when a send would not wait.
    pub fn sending(&mut self) -> Waits<'_> {
        Waits::handle(self, Direction::Sending)
    }

    /// Receives the oldest message, as a future of any runtime. It has no deadline of its own; dropping it loses
    /// nothing.
    ///
    /// ```
    /// use sapwood_shm::channel::channel;
    ///
    /// let mut a = channel::<&str>(8)?;
    /// let mut b = a.try_clone()?;
    /// let there = std::thread::spawn(move || pollster::block_on(b.recv_async()));
    /// pollster::block_on(a.send_async("hello"))?;
    /// assert_eq!(there.join().unwrap()?, "hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`recv`](Self::recv), and [`RecvError::NoWatcher`].
    pub async fn recv_async(&mut self) -> Result<T, RecvError> {
        // Each turn was woken for something, or finds that others were faster.
        loop {
            match self.try_recv() {
                Err(RecvError::Empty | RecvError::Busy { .. }) => {}
                said => return said,
            }
            if let Err(SelectError::NoWatcher { code }) = ready(&mut [self.receiving()]).await {
                return Err(RecvError::NoWatcher { code });
            }
        }
    }

    /// Sends a value, as a future of any runtime. It has no deadline of its own; whoever drops it before it is done
    /// drops the value.
    ///
    /// # Errors
    /// As for [`send`](Self::send), and [`SendError::NoWatcher`].
    pub async fn send_async(&mut self, value: T) -> Result<(), SendError<T>> {
        let mut mine = value;
        // Each turn was woken for something, or finds that others were faster.
        loop {
            mine = match self.try_send(mine) {
                Err(SendError::Full { value, .. } | SendError::Busy { value, .. }) => value,
                said => return said,
            };
            if let Err(SelectError::NoWatcher { code }) = ready(&mut [self.sending()]).await {
                return Err(SendError::NoWatcher { code, value: mine });
            }
        }
    }
}

impl Waitable for FrameChannel {
    fn bells(&self) -> Arc<dyn Bells> {
        Arc::new(FrameChannel::bells(self))
    }
    fn bell(&self, direction: Direction) -> &Doorbell<Real> {
        FrameChannel::bell(self, direction.into())
    }
    fn is_ready(&mut self, direction: Direction) -> bool {
        FrameChannel::is_ready(self, direction.into())
    }
    fn look(&mut self, direction: Direction) -> bool {
        FrameChannel::look(self, direction.into())
    }
    fn others_can_die(&self) -> bool {
        true
    }
}

impl FrameChannel {
    /// For a wait beside others: ready when a receive would not wait.
    pub fn receiving(&mut self) -> Waits<'_> {
        Waits::handle(self, Direction::Receiving)
    }

    /// For a wait beside others: ready when a loan would not wait.
    pub fn sending(&mut self) -> Waits<'_> {
        Waits::handle(self, Direction::Sending)
    }
}
