//! How a channel of frames is made.

use std::sync::Arc;

use super::FrameChannel;
use super::frames::GROUND;
use crate::error::Error;
use crate::ring::frames::{PARTICIPANTS, Plan};
use crate::segment::{Segment, Spec};

/// How a channel of frames is made. Whoever opens it says the same, or gets [`Error::OtherRing`].
///
/// ```
/// use sapwood_shm::Error;
/// use sapwood_shm::channel::FrameChannel;
///
/// let jobs = FrameChannel::builder(8, 4096).redelivering();
/// let mut owner = jobs.create()?;
/// let mut worker = jobs.attach(owner.segment())?;
/// owner.send_value("what must not be lost")?;
/// // A worker that ends before it has given the frame back has not done its work: another one gets it.
/// std::mem::forget(worker.recv()?);
/// drop(worker);
/// assert_eq!(owner.recv_value::<String>()?, "what must not be lost");
/// assert_eq!(owner.stats().redelivered, 1);
///
/// let other = FrameChannel::attach(owner.segment(), 8, 4096);
/// assert!(matches!(other, Err(Error::OtherRing { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
#[must_use = "nothing is made yet"]
pub struct FrameChannelBuilder {
    plan: Plan,
    participants: usize,
}

impl FrameChannelBuilder {
    pub(super) fn new(frames: usize, bytes: usize) -> Self {
        let plan = Plan { ground: GROUND, frames, bytes, redelivers: false };
        FrameChannelBuilder { plan, participants: PARTICIPANTS }
    }

    /// For up to so many handles (default: as many as there can be). Not looked at by [`attach`](Self::attach): a
    /// segment says so itself.
    pub fn participants(self, participants: usize) -> Self {
        FrameChannelBuilder { participants, ..self }
    }

    /// A frame whose reader dies, or leaves, after its receive returned and before the frame was given back is
    /// delivered again, out of order, to one of the others, and counted as `redelivered`; without this it is free
    /// again, and counted as `lost_with_reader`. The dead reader may have acted on it: every frame is received at least
    /// once, by one at a time, and never again once it was given back. While nobody waits, and who only tries finds
    /// frames enough, it may take some tries until it is found.
    ///
    /// [`recv_value`](FrameChannel::recv_value) gives the frame back before it returns: what it has returned never
    /// comes again. Who is to be done with a value first reads it out of a frame that it holds.
    ///
    /// As long as somebody has a frame that may come back, receives of a closed and empty channel say
    /// [`Busy`](super::RecvError::Busy), not [`Drained`](super::RecvError::Drained); those that wait do so for its
    /// end.
    pub fn redelivering(mut self) -> Self {
        self.plan.redelivers = true;
        self
    }

    /// A handle of the channel called `name`, which is made if there is none.
    ///
    /// # Errors
    /// As for [`FrameChannel::open`].
    pub fn open(self, name: &str) -> Result<FrameChannel, Error> {
        FrameChannel::open_as(self.plan, name, self.participants)
    }

    /// A handle of a new channel without a name, in a [`segment`](FrameChannel::segment) to be inherited or sent.
    ///
    /// # Errors
    /// As for [`FrameChannel::create`].
    pub fn create(self) -> Result<FrameChannel, Error> {
        FrameChannel::create_as(self.plan, self.participants)
    }

    /// A handle of the channel in a segment that was made with [`spec`](Self::spec), inherited or received.
    ///
    /// # Errors
    /// As for [`FrameChannel::attach`].
    pub fn attach(self, segment: &Arc<Segment>) -> Result<FrameChannel, Error> {
        FrameChannel::attach_as(self.plan, segment)
    }

    /// The segment that the channel needs: for those who make, inherit or receive it by themselves.
    ///
    /// # Errors
    /// As for [`frame_spec`](super::frame_spec).
    pub fn spec(self) -> Result<Spec, Error> {
        self.plan.spec(self.participants)
    }
}
