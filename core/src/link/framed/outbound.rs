//! The sending half of a framed link.

use core::time::Duration;

use super::{Framed, RESERVE, Step, none_of};
use crate::link::Source;
use crate::link::error::{Ended, Part, SendError, TrySendError};
use crate::link::pipe::{Broken, Pipe};
use crate::wire::{EncodeError, HEAD_MOST, HEADER_BYTES, Message};

/// Parts of a frame that are handed to the pipe at once.
const PARTS: usize = 32;

/// A message that is being sent.
#[derive(Debug)]
pub(super) struct Outbound<'a> {
    source: Source<'a>,
    tag: u64,
    total: u64,
    pub(super) sent: u64,
    deaf: bool,
    /// Room that the next step needs.
    pub(super) need: usize,
}

impl Outbound<'_> {
    pub(super) fn part(&self) -> Part {
        Part { tag: self.tag, done: self.sent, total: self.total }
    }
}

impl<P: Pipe> Framed<P> {
    /// Begins a message. Nothing is written yet.
    pub(super) fn begin<'a>(
        &mut self,
        tag: u64,
        source: Source<'a>,
        deaf: bool,
    ) -> Result<Outbound<'a>, SendError> {
        let content = source.content();
        let total = content.bytes();
        if let Some(end) = self.over().or_else(|| self.gone()) {
            return Err(SendError::Ended { end, part: none_of(tag, total) });
        }
        match self.encoder.begin(Message { tag, content, deaf }) {
            Ok(()) => Ok(Outbound { source, tag, total, sent: 0, deaf, need: 0 }),
            Err(EncodeError::TooLong { total, most }) => Err(SendError::TooLong { total, most }),
            // The encoder is between two messages whenever no call is running, and is closed with the link.
            Err(_) => Err(SendError::Ended { end: Ended::ClosedHere, part: none_of(tag, total) }),
        }
    }

    /// Whether there is room for a message whole.
    pub(super) fn fits(&mut self, source: &Source<'_>) -> Result<(), TrySendError> {
        let content = source.content();
        let total = content.bytes();
        let first = if content.descriptor().is_some() { HEAD_MOST } else { HEADER_BYTES };
        let later = total.div_ceil(self.limits.max_frame.max(1)).saturating_sub(1);
        let need =
            later.saturating_mul(HEADER_BYTES as u64).saturating_add(total).saturating_add(first as u64);
        let need = usize::try_from(need).unwrap_or(usize::MAX);
        if let Some(end) = self.over().or_else(|| self.gone()) {
            return Err(TrySendError::Ended { end });
        }
        let most = self.pipe.outgoing() - RESERVE;
        if total > self.limits.max_message {
            return Err(TrySendError::TooLong { total, most: self.limits.max_message });
        }
        if need > most {
            return Err(TrySendError::Never { need, most });
        }
        match self.room(need) {
            room if room >= need => Ok(()),
            room => Err(TrySendError::Full { need, room }),
        }
    }

    /// Writes a frame of the message, if there is room for one that is worth it.
    pub(super) fn step_out(&mut self, out: &mut Outbound<'_>) -> Result<Step, SendError> {
        let failed = |end, out: &Outbound<'_>| SendError::Ended { end, part: out.part() };
        if let Some(end) = self.ended {
            return Err(failed(end, out));
        }
        let (head, left) = (self.encoder.head_bytes(), out.total - out.sent);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        out.need = head + left.min(self.piece);
        let room = self.room(out.need);
        if room < out.need {
            return match self.gone() {
                None => Ok(Step::Blocked),
                Some(end) => Err(failed(end, out)),
            };
        }
        let Some(n) = self.encoder.chunk((room - head) as u64, &mut self.head) else {
            return Ok(Step::Done);
        };
        self.write_frame(&out.source, out.sent as usize, n as usize)
            .map_err(|b| failed(self.broken(b), out))?;
        self.stirred = true;
        out.sent += n;
        self.stats.sent.frames += 1;
        self.stats.sent.bytes += n;
        if out.sent < out.total {
            return Ok(Step::Moved);
        }
        self.stats.sent.messages += 1;
        Ok(Step::Done)
    }

    /// Writes the head and `n` bytes of payload from `at` on, for which there is room.
    fn write_frame(&mut self, source: &Source<'_>, at: usize, n: usize) -> Result<(), Broken> {
        let together = match source {
            Source::Bytes(bytes) | Source::Value(bytes) => Some(*bytes),
            Source::Tensor(view) => view.as_slice(),
        };
        match (together, source) {
            (Some(_), _) if n == 0 => self.pipe.write(&[self.head.bytes()]),
            (Some(bytes), _) => self.pipe.write(&[self.head.bytes(), &bytes[at..at + n]]),
            (None, Source::Tensor(view)) => {
                let mut parts: [&[u8]; PARTS] = [&[]; PARTS];
                parts[0] = self.head.bytes();
                let (mut used, mut left) = (1, n);
                for run in view.runs(at) {
                    if used == PARTS {
                        self.pipe.write(&parts)?;
                        used = 0;
                    }
                    parts[used] = &run[..run.len().min(left)];
                    left -= parts[used].len();
                    used += 1;
                    if left == 0 {
                        break;
                    }
                }
                self.pipe.write(&parts[..used])
            }
            (None, _) => Ok(()),
        }
    }

    /// Writes the head alone, for which room was left.
    pub(super) fn write_head(&mut self) -> Result<(), Ended> {
        if self.pipe.room(HEADER_BYTES) < HEADER_BYTES {
            return Err(match self.gone() {
                Some(end) => end,
                None => self.broken(Broken { what: "it took room back that it had given" }),
            });
        }
        let written = self.pipe.write(&[self.head.bytes()]);
        written.map_err(|b| self.broken(b))?;
        self.stirred = true;
        self.stats.sent.frames += 1;
        Ok(())
    }

    /// Gives the message up. Says so to the peer if it has heard of it.
    fn abandon(&mut self) {
        if self.encoder.abort(&mut self.head) {
            self.stats.sent.aborted += 1;
            // A pipe that fails here says so in the next call.
            let _ = self.write_head();
            self.wake();
        }
    }

    /// The deadline has passed.
    pub(super) fn cut(&mut self, out: &Outbound<'_>, waited: Duration) -> SendError {
        self.abandon();
        match out.part() {
            Part { done: 0, tag, .. } => SendError::Deadline { tag, waited },
            part => SendError::Cut { part, waited },
        }
    }

    /// There is no room for the next frame, and this call reads nothing: what lies in the other direction says whether
    /// there ever will be.
    pub(super) fn look_while_blocked(&mut self, out: &Outbound<'_>) -> Result<Step, SendError> {
        if self.pump().map_err(|end| SendError::Ended { end, part: out.part() })? == Step::Moved {
            return Ok(Step::Moved);
        }
        let theirs = match self.decoder.message() {
            Some(m) if self.pending && m.deaf && out.deaf => m.content.bytes(),
            _ => return Ok(Step::Blocked),
        };
        if theirs <= (self.pipe.incoming() - RESERVE) as u64 || self.room(out.need) >= out.need {
            return Ok(Step::Blocked);
        }
        self.abandon();
        Err(SendError::BothSending { part: out.part(), theirs })
    }
}

impl From<SendError> for TrySendError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::TooLong { total, most } => TrySendError::TooLong { total, most },
            SendError::Ended { end, .. } => TrySendError::Ended { end },
            // Only waiting ends like this, and trying does not wait.
            _ => TrySendError::Ended { end: Ended::ClosedHere },
        }
    }
}
