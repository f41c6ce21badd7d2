//! The receiving half of a framed link.

use core::time::Duration;

use super::{Framed, Step};
use crate::link::error::{Ended, Part, RecvError};
use crate::link::pipe::{Broken, Pipe};
use crate::link::{Incoming, Link, Target};
use crate::wire::{Header, Kind, Message, Want};

/// Parts of a payload that are read at once.
const PARTS: usize = 32;
/// Heads and skipped pieces that are looked at before a call looks at the clock again: a peer that sends beats for
/// ever must not keep a call from its deadline.
const TURNS: usize = 64;

/// A message that is being received.
#[derive(Debug)]
pub(super) struct Inbound<'a> {
    target: Target<'a>,
    /// A message is being received that fits.
    begun: bool,
    tag: u64,
    total: u64,
    pub(super) received: u64,
}

impl<'a> Inbound<'a> {
    pub(super) fn new(target: Target<'a>) -> Self {
        Inbound { target, begun: false, tag: 0, total: 0, received: 0 }
    }

    pub(super) fn part(&self) -> Option<Part> {
        self.begun.then_some(Part { tag: self.tag, done: self.received, total: self.total })
    }
}

impl<P: Pipe> Framed<P> {
    /// Reads as much of the message as is there.
    pub(super) fn step_in(&mut self, into: &mut Inbound<'_>) -> Result<Step, RecvError> {
        let ended = |end, into: &Inbound<'_>| RecvError::Ended { end, part: into.part() };
        // Asked before the pipe is looked at: what a peer wrote before it went is there then.
        let gone = self.gone();
        match self.look().map_err(|end| ended(end, into))? {
            Step::Done => {}
            step => return Ok(step),
        }
        if !into.begun {
            self.accept(into)?;
        }
        let mut moved = Step::Blocked;
        loop {
            match self.decoder.want() {
                Want::Payload(n) => match self.read_payload(into, n) {
                    Ok(0) => break,
                    Ok(n) => {
                        self.decoder.taken(n);
                        self.stirred = true;
                        into.received += n as u64;
                        self.stats.received.bytes += n as u64;
                    }
                    Err(b) => return Err(ended(self.broken(b), into)),
                },
                _ if !self.decoder.is_within() => return Ok(Step::Done),
                _ => match self.read_head().map_err(|end| ended(end, into))? {
                    None => break,
                    Some(h) if h.kind == Kind::Abort => {
                        self.pending = false;
                        let part = Part { tag: h.tag, done: into.received, total: h.total };
                        return Err(RecvError::Aborted { part });
                    }
                    Some(_) => {}
                },
            }
            moved = Step::Moved;
        }
        match gone {
            Some(end) if moved == Step::Blocked => Err(ended(self.end(end), into)),
            _ => Ok(moved),
        }
    }

    /// Whether the pending message fits the target.
    fn accept(&mut self, into: &mut Inbound<'_>) -> Result<(), RecvError> {
        let Some(Message { tag, content, .. }) = self.decoder.message() else { return Ok(()) };
        let (tag, total) = (*tag, content.bytes());
        match &into.target {
            Target::Bytes(bytes) if total > bytes.len() as u64 => {
                return Err(RecvError::TooSmall { tag, content: *content, room: bytes.len() });
            }
            Target::Tensor(view) if content.descriptor() != Some(view.descriptor()) => {
                let error = RecvError::Refused { tag, found: *content, expected: *view.descriptor() };
                self.refuse();
                return Err(error);
            }
            _ => {}
        }
        (into.begun, into.tag, into.total) = (true, tag, total);
        Ok(())
    }

    /// Reads at most `n` bytes of payload to where they belong.
    fn read_payload(&mut self, into: &mut Inbound<'_>, n: usize) -> Result<usize, Broken> {
        let at = into.received as usize;
        let view = match &mut into.target {
            Target::Bytes(bytes) => return self.pipe.read(&mut [&mut bytes[at..at + n]]),
            Target::Tensor(view) => view,
        };
        if let Some(bytes) = view.as_mut_slice() {
            return self.pipe.read(&mut [&mut bytes[at..at + n]]);
        }
        let mut parts: [&mut [u8]; PARTS] = core::array::from_fn(|_| Default::default());
        let (mut used, mut left) = (0, n);
        for run in view.runs_mut(at) {
            let len = run.len().min(left);
            parts[used] = &mut run[..len];
            left -= len;
            used += 1;
            if used == PARTS || left == 0 {
                break;
            }
        }
        self.pipe.read(&mut parts[..used])
    }

    /// The message has been received.
    pub(super) fn taken(&mut self) -> Incoming {
        self.stats.received.messages += 1;
        self.pending = false;
        self.latest()
    }

    /// The deadline has passed.
    pub(super) fn cut_short(&mut self, into: &Inbound<'_>, waited: Duration) -> RecvError {
        match into.part() {
            Some(part) if part.done > 0 => {
                self.refuse();
                RecvError::Cut { part, waited }
            }
            _ => RecvError::Deadline { waited },
        }
    }

    /// Looks for the next message. `Done`: one is pending; `Moved`: there may be more; `Blocked`: nothing is there,
    /// and the peer may still send.
    pub(super) fn look(&mut self) -> Result<Step, Ended> {
        if let Some(end) = self.over() {
            return Err(end);
        }
        let gone = self.gone();
        match (self.pump()?, gone) {
            (Step::Blocked, Some(end)) => Err(self.end(end)),
            (step, _) => Ok(step),
        }
    }

    /// Reads heads, and skips what was refused, until a message is pending (`Done`).
    pub(super) fn pump(&mut self) -> Result<Step, Ended> {
        for turn in 0..TURNS {
            match self.turn()? {
                Step::Done => return Ok(Step::Done),
                Step::Moved => {}
                Step::Blocked if turn == 0 => return Ok(Step::Blocked),
                Step::Blocked => break,
            }
        }
        Ok(Step::Moved)
    }

    fn turn(&mut self) -> Result<Step, Ended> {
        if self.pending {
            return Ok(Step::Done);
        }
        match self.decoder.want() {
            Want::Head(_) => match self.read_head()? {
                None => Ok(Step::Blocked),
                Some(h) if h.kind.is_chunk() && h.offset == 0 => {
                    self.pending = true;
                    Ok(Step::Done)
                }
                Some(_) => Ok(Step::Moved),
            },
            Want::Refused(n) | Want::Payload(n) => match self.pipe.skip(n) {
                Ok(0) => Ok(Step::Blocked),
                Ok(n) => {
                    self.decoder.taken(n);
                    self.stirred = true;
                    self.stats.received.bytes += n as u64;
                    Ok(Step::Moved)
                }
                Err(b) => Err(self.broken(b)),
            },
            Want::Nothing => Err(self.end(Ended::Closed { rank: self.rank })),
        }
    }

    /// Reads a head, if all of it is there; a part of it is kept by the decoder.
    fn read_head(&mut self) -> Result<Option<Header>, Ended> {
        // Each turn takes what is missing or as much of it as there is: 152 turns at most.
        while let Want::Head(_) = self.decoder.want() {
            let got = match self.pipe.read(&mut [self.decoder.space()]) {
                Ok(0) => return Ok(None),
                Ok(got) => got,
                Err(b) => return Err(self.broken(b)),
            };
            self.stirred = true;
            let number = self.decoder.sequence();
            match self.decoder.filled(got) {
                Ok(Some(h)) => {
                    self.stats.received.frames += 1;
                    self.stats.received.aborted += u64::from(h.kind == Kind::Abort);
                    return Ok(Some(h));
                }
                Ok(None) => {}
                Err(error) => return Err(self.end(Ended::Wire { rank: self.rank, frame: number, error })),
            }
        }
        Ok(None)
    }
}
