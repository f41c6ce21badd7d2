//! What a channel is like now, and what a handle of it has seen.

use sapwood_core::wait::WaitStats;

/// How far the life of a channel has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It can be sent to.
    Open,
    /// It can't be sent to any more, but something is still in it, or somebody is in the middle of sending.
    Closed,
    /// It can't be sent to any more, and nothing will ever come out of it.
    Drained,
}

/// What the dead have left, as far as this handle had to do with it, and how it has waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Messages that were delivered again: their reader died before its receive returned, or, in a channel of frames
    /// [that is made so](super::FrameChannelBuilder::redelivering), before it had given them back.
    pub redelivered: u64,
    /// Places whose sender died before its send took effect: those values were never sent.
    pub skipped: u64,
    /// Messages that were lost with a reader which had received them and died: frames that it had not given back. A
    /// value is copied out of the channel, so it is the reader's once its receive has returned, and never counted here.
    pub lost_with_reader: u64,
    /// Messages that the dead held beyond what they could: the channel's words were broken.
    pub lost: u64,
    /// How often each stage of waiting was used.
    pub waits: WaitStats,
}
