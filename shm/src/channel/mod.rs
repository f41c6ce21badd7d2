//! Channels: bounded queues at which one can wait, between threads and between processes.
//!
//! | channel          | what passes                                  | made by                                          |
//! |------------------|----------------------------------------------|--------------------------------------------------|
//! | [`Channel`]      | values of any type, between threads          | [`channel`], [`Channel::new`]                    |
//! | [`Channel`]      | [`Shareable`] values, between processes      | [`Channel::open`], `create`, `attach`            |
//! | [`FrameChannel`] | bytes made in place, values of serde         | [`FrameChannel::new`], `open`, `create`, `attach` |
//!
//! Every handle can send and receive; [`Channel::try_clone`] makes another one. Messages come out in the order in which
//! they went in, each to one receiver.
//!
//! **Three forms of each call.** `send` waits until the handle's deadline ([`DEADLINE`], or what
//! [`Channel::with_deadline`] says), `send_timeout` as long as it is told, `try_send` not at all. Whoever waits spins,
//! yields and sleeps in the kernel; a call that needs no waiting makes no system call (unless somebody sleeps, who is
//! woken) and allocates nothing.
//!
//! **The end.** [`Channel::close`] says that nothing more will be sent. What was sent before is still received; then
//! receives say [`Drained`](RecvError::Drained), to all who wait. Dropping a handle closes nothing. Where everybody
//! else who had joined is gone, a call that would wait for them says [`Alone`](RecvError::Alone) instead, within 50
//! ms: once for each such state, and whoever calls again waits for a newcomer.
//!
//! **A death** between processes is proof by the kernel, and no clock:
//!
//! | who dies                                | what becomes of the message                | what the others notice                  |
//! |-----------------------------------------|--------------------------------------------|-----------------------------------------|
//! | a sender before its send took effect    | it was never sent                          | nothing; counted as `skipped`           |
//! | a sender after that                     | it is received                             | nothing                                 |
//! | a receiver before its receive returned  | somebody else receives it, out of order    | nothing; counted as `redelivered`       |
//! | a receiver after that                   | it was received                            | nothing                                 |
//! | the last other one                      | what it has sent is received               | then [`Alone`](RecvError::Alone)        |
//!
//! A participant that was stopped (SIGSTOP, a debugger) is not dead. If it was stopped in the middle of a call, those
//! behind it wait, and at their deadline they are told who holds them up: [`Busy`](RecvError::Busy). A dead one's
//! seat is taken by whoever comes next.
//!
//! A **forked child** holds no end: its calls fail with [`Forked`](RecvError::Forked).

mod bells;
mod calls;
pub(crate) mod carry;
mod error;
mod frame_builder;
mod frames;
mod iter;
mod local;
pub(crate) mod ready;
mod shared;
mod stats;
mod token;
mod waits;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sapwood_core::wait::WaitPolicy;

pub use crate::codec::DecodeError;
pub use error::{RecvError, SendAllError, SendError};
pub use frame_builder::FrameChannelBuilder;
pub use frames::{Frame, FrameChannel, Received, RecvValueError, SendValueError, frame_spec};
pub use iter::{IntoIter, Iter};
pub use stats::{State, Stats};
pub use token::{ChannelToken, TokenError};

use crate::error::Error;
use crate::ring::Shareable;
use crate::segment::{Segment, Spec};
use crate::wait::Patience;
use bells::{Farewell, Where};
use carry::{Carry, Far};
use local::Local;
use shared::Shared;

/// How long a call waits if nobody says otherwise.
pub const DEADLINE: Duration = Duration::from_secs(300);

/// A channel of at least `capacity` values (the next power of two) between the threads of this process.
///
/// # Errors
/// As for [`Channel::new`].
pub fn channel<T: Send>(capacity: usize) -> Result<Channel<T>, Error> {
    Channel::new(capacity)
}

/// The segment that a channel of `capacity` values of type `T` for `participants` handles needs: for those who make,
/// inherit or receive it by themselves.
///
/// # Errors
/// [`Error::Capacity`], unless it is a power of two that a channel of such values can have; [`Error::Participants`].
pub fn spec<T: Shareable>(capacity: usize, participants: usize) -> Result<Spec, Error> {
    shared::spec::<T>(capacity, participants)
}

/// A handle of a channel, which can send and receive.
///
/// Between threads, of values of any type:
///
/// ```
/// use sapwood_shm::channel::{RecvError, channel};
///
/// let mut results = channel::<String>(64)?;
/// let mut workers = results.try_clone()?;
/// let worker = std::thread::spawn(move || {
///     for i in 0..100 {
///         workers.send(format!("result {i}"))?;
///     }
///     workers.close();
///     Ok::<(), sapwood_shm::channel::SendError<String>>(())
/// });
/// let mut got = 0;
/// for result in &mut results {
///     assert_eq!(result?, format!("result {got}"));
///     got += 1;
/// }
/// assert_eq!((got, results.recv()), (100, Err(RecvError::Drained)));
/// worker.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
/// Between processes, of plain data; each of these in a process of its own:
///
/// ```
/// use sapwood_shm::channel::Channel;
///
/// # let name = &format!("doc-channel-{}", std::process::id());
/// let mut a = Channel::<[f32; 4]>::open(name, 64, 8)?;
/// let mut b = Channel::<[f32; 4]>::open(name, 64, 8)?;
/// a.send([1.0, 2.0, 3.0, 4.0])?;
/// assert_eq!(b.recv()?, [1.0, 2.0, 3.0, 4.0]);
/// # a.segment().unwrap().unlink()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
/// A type with a pointer can't go to another process:
///
/// ```compile_fail
/// sapwood_shm::channel::Channel::<String>::open("strings", 64, 2);
/// ```
/// A value that was sent belongs to the receiver, and can't be used any more where it came from:
///
/// ```compile_fail
/// let mut channel = sapwood_shm::channel::channel::<String>(4).unwrap();
/// let text = "mine".to_owned();
/// channel.send(text).unwrap();
/// println!("{text}");
/// ```
pub struct Channel<T: Send> {
    carrier: Carrier<T>,
    patience: Patience,
    limit: Duration,
    /// What a wait beside others has learnt.
    news: waits::News,
    /// After the carrier, whose seat goes first.
    farewell: Farewell,
}

enum Carrier<T: Send> {
    Threads(Local<T>),
    Processes(Box<dyn Far<T>>),
}

impl<T: Send> Carrier<T> {
    fn as_ref(&self) -> &dyn Carry<T> {
        match self {
            Carrier::Threads(local) => local,
            Carrier::Processes(shared) => &**shared,
        }
    }

    fn as_mut(&mut self) -> &mut dyn Carry<T> {
        match self {
            Carrier::Threads(local) => local,
            Carrier::Processes(shared) => &mut **shared,
        }
    }
}

impl<T: Send> fmt::Debug for Channel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, capacity, seat) = (self.len(), self.capacity(), self.seat());
        let mut f = f.debug_struct("Channel");
        f.field("len", &len).field("capacity", &capacity).field("closed", &self.is_closed());
        f.field("seat", &seat).finish_non_exhaustive()
    }
}

impl<T: Send> Channel<T> {
    /// A channel of at least `capacity` values (the next power of two) between the threads of this process.
    ///
    /// # Errors
    /// [`Error::Capacity`] for none, or more than any channel of such values can have; [`Error::NoSpace`].
    pub fn new(capacity: usize) -> Result<Self, Error> {
        let local = Local::new(capacity)?;
        let bells = local.place_of_bells();
        Ok(Self::on(Carrier::Threads(local), bells))
    }

    fn on(carrier: Carrier<T>, bells: Where) -> Self {
        let (patience, farewell) = (Patience::default(), Farewell::new(bells));
        Channel { carrier, patience, limit: DEADLINE, news: [None; 2], farewell }
    }

    /// Another handle of the same channel in this process, with the same deadline. Between processes it takes another
    /// seat.
    ///
    /// # Errors
    /// [`Error::NoSeat`] and what else [`attach`](Self::attach) says; none between threads.
    pub fn try_clone(&self) -> Result<Self, Error> {
        let carrier = match &self.carrier {
            Carrier::Threads(local) => Carrier::Threads(local.twin()),
            Carrier::Processes(shared) => Carrier::Processes(shared.again()?),
        };
        let twin = Self::on(carrier, self.farewell.bells.clone());
        Ok(twin.with_deadline(self.limit).with_waiting(self.patience.policy()))
    }

    /// How long this handle's calls wait (default: [`DEADLINE`]).
    pub fn with_deadline(self, limit: Duration) -> Self {
        Channel { limit, ..self }
    }

    /// How this handle waits.
    pub fn with_waiting(self, policy: WaitPolicy) -> Self {
        Channel { patience: Patience::new(policy), ..self }
    }

    /// Says that nothing more will be sent; to a closed channel, nothing. A send that is on its way beside it may still
    /// take effect; once all has been received, receives say [`Drained`](RecvError::Drained).
    ///
    /// In a forked child it does nothing.
    pub fn close(&mut self) {
        self.carrier.as_ref().close();
    }

    /// Whether the channel was closed. Messages may still be in it.
    pub fn is_closed(&self) -> bool {
        self.carrier.as_ref().is_closed()
    }

    /// How far the channel's life has gone. A receive that takes the last message of a closed channel leaves it
    /// [`Drained`](State::Drained), and from then on it stays so.
    pub fn state(&mut self) -> State {
        let carrier = self.carrier.as_mut();
        match (carrier.is_closed(), carrier.is_drained()) {
            (_, true) => State::Drained,
            (true, false) => State::Closed,
            (false, false) => State::Open,
        }
    }

    /// Messages in the channel, roughly: others may be in the middle of something.
    pub fn len(&self) -> usize {
        self.carrier.as_ref().len()
    }

    /// Whether nothing is in the channel, roughly.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many messages fit.
    pub fn capacity(&self) -> usize {
        self.carrier.as_ref().capacity()
    }

    /// What this handle has seen.
    pub fn stats(&self) -> Stats {
        Stats { waits: self.patience.stats(), ..self.carrier.as_ref().stats() }
    }

    /// The segment that the channel is in; `None` between threads.
    pub fn segment(&self) -> Option<&Arc<Segment>> {
        self.far().map(Far::segment)
    }

    /// In which seat this handle sits; `None` between threads.
    pub fn seat(&self) -> Option<usize> {
        self.far().map(Far::seat)
    }

    fn far(&self) -> Option<&dyn Far<T>> {
        match &self.carrier {
            Carrier::Threads(_) => None,
            Carrier::Processes(shared) => Some(&**shared),
        }
    }
}

impl<T: Shareable> Channel<T> {
    /// A handle of the channel called `name`, of `capacity` values for up to `participants` handles, which is made if
    /// there is none.
    ///
    /// # Errors
    /// [`Error::NoSeat`] if it has as many as it was made for; [`Error::OtherRing`] if it is one of other values or of
    /// another capacity, [`Error::OtherSize`] if of another number of participants, [`Error::OtherKind`] if the name is
    /// something else's; [`Error::Capacity`], [`Error::Participants`], [`Error::NoSpace`], and what
    /// [`Segment::enter_named`] says.
    pub fn open(name: &str, capacity: usize, participants: usize) -> Result<Self, Error> {
        Ok(Self::between(Shared::open(name, capacity, participants)?))
    }

    /// A handle of a new channel without a name, in a [`segment`](Self::segment) to be inherited or sent.
    ///
    /// ```
    /// use std::os::unix::net::UnixStream;
    /// use std::sync::Arc;
    /// use sapwood_shm::{Segment, channel::{self, Channel}};
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let mut a = Channel::<u64>::create(16, 2)?;
    /// a.segment().unwrap().send(&ours)?;
    /// // In the process at the other end of the socket:
    /// let segment = Arc::new(Segment::receive(&theirs, &channel::spec::<u64>(16, 2)?)?);
    /// let mut b = Channel::<u64>::attach(&segment, 16)?;
    /// b.send(7)?;
    /// assert_eq!(a.recv()?, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Capacity`], [`Error::Participants`], [`Error::NoSpace`].
    pub fn create(capacity: usize, participants: usize) -> Result<Self, Error> {
        Ok(Self::between(Shared::create(capacity, participants)?))
    }

    /// A handle of the channel in a segment that was made with [`spec`](fn@spec), inherited or received.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn attach(segment: &Arc<Segment>, capacity: usize) -> Result<Self, Error> {
        Ok(Self::between(Shared::attach(segment, capacity)?))
    }

    fn between(shared: Shared<T>) -> Self {
        let bells = shared.place_of_bells();
        Self::on(Carrier::Processes(Box::new(shared)), bells)
    }
}
