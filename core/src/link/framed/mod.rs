//! A link over any byte pipe: frames of [`wire`](crate::wire), gathered into it and scattered out of it.
//!
//! **Frames go whole.** A frame is only begun when the pipe has room for all of it, so a sender that gives up stands
//! between two frames and can say so with an abort; no deadline ever leaves half a frame behind. A long message is cut
//! where the pipe is full: a chunk is as long as there is room, but no shorter than a quarter of the pipe while more
//! is to come, so that both sides copy at the same time and heads stay few. Behind every chunk there is room left for
//! an abort and a close, so that neither ever waits: whoever gives up says so at once, and a handle that is dropped
//! closes in order.
//!
//! **The receiver keeps nothing.** A head is read, then payload goes from the pipe to the caller's memory. What nobody
//! asked for stays in the pipe, which is the backpressure; the pipe knows its room, so no credits are granted.
//!
//! **Who waits for whom.** `send` reads no payload, so two ends that send more than fits and receive nothing would
//! wait for ever. Each `send` says in its frames that it is deaf. An end that finds no room looks at what is pending:
//! a deaf message longer than the pipe can't be whole before we receive, and its sender reads nothing before; we
//! receive nothing before there is room, and only that sender makes room. So neither will go on, and that is
//! `BothSending` at once. The room is looked at once more after the message was seen: what its sender read before it
//! sent, counts. A message that is shorter than the pipe, or behind others that nobody has received, is not such a
//! proof; there the deadline decides. `send_recv` is not deaf.
//!
//! Every loop moves bytes, ends a part of its call, or waits; a wait ends at the deadline.

mod inbound;
mod outbound;

use core::fmt;

use self::inbound::Inbound;
use self::outbound::Outbound;
use super::deadline::{Deadline, Timer};
use super::error::{CloseError, Ended, ExchangeError, Part, RecvError, SendError, TrySendError};
use super::pipe::{Broken, Interest, Peer, Pipe, Waited};
use super::{Incoming, Link, Ready, Source, Stats, Target};
use crate::wire::{Content, Decoder, Encoder, HEAD_MOST, HEADER_BYTES, Head, Limits, Stream};

/// Room that no chunk takes: for an abort, and a close behind it.
const RESERVE: usize = 2 * HEADER_BYTES;
/// Room with which a link counts as ready for sending.
const SHORT: usize = HEAD_MOST + HEADER_BYTES;

/// Fewest bytes that each direction of a pipe must hold.
pub const PIPE_LEAST: usize = 512;

/// A pipe that holds too little to carry frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PipeTooSmall {
    /// Bytes that its smaller direction holds.
    pub bytes: usize,
}

impl fmt::Display for PipeTooSmall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a pipe of {} bytes; a link needs {PIPE_LEAST} at least", self.bytes)
    }
}

impl core::error::Error for PipeTooSmall {}

/// One end of a link over a pipe.
pub struct Framed<P: Pipe> {
    pipe: P,
    encoder: Encoder,
    decoder: Decoder,
    /// Rank of the peer.
    rank: u16,
    /// The last head that was made.
    head: Head,
    /// Bytes of payload that are worth a frame while more is to come.
    piece: usize,
    limits: Limits,
    /// Bytes have moved since the peer was last woken.
    stirred: bool,
    /// The decoder's latest message has been announced, and is not received yet.
    pending: bool,
    /// Nothing more will come.
    ended: Option<Ended>,
    closed: bool,
    stats: Stats,
}

impl<P: Pipe> fmt::Debug for Framed<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Framed")
            .field("peer", &self.rank)
            .field("pending", &self.pending.then(|| self.latest()))
            .field("ended", &self.ended)
            .field("closed", &self.closed)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

/// What a step has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// All there is to do.
    Done,
    /// Something: there may be more.
    Moved,
    /// Nothing: it has to wait.
    Blocked,
}

/// A call that may have to wait, in halves.
#[derive(Default)]
struct Call<'a> {
    out: Option<Outbound<'a>>,
    sent: Option<Result<(), SendError>>,
    into: Option<Inbound<'a>>,
    got: Option<Result<Incoming, RecvError>>,
}

impl Call<'_> {
    /// Bytes of payload that have moved.
    fn progress(&self) -> u64 {
        let sent = self.out.as_ref().map_or(0, |out| out.sent);
        sent + self.into.as_ref().map_or(0, |into| into.received)
    }

    fn is_over(&self) -> bool {
        (self.out.is_none() || self.sent.is_some()) && (self.into.is_none() || self.got.is_some())
    }
}

impl<P: Pipe> Framed<P> {
    /// The end of `pipe` that sends the stream `ours` and receives the stream `theirs`. Both ends have the same
    /// limits.
    ///
    /// # Errors
    /// [`PipeTooSmall`].
    pub fn new(pipe: P, ours: Stream, theirs: Stream, limits: Limits) -> Result<Self, PipeTooSmall> {
        let bytes = pipe.outgoing().min(pipe.incoming());
        if bytes < PIPE_LEAST {
            return Err(PipeTooSmall { bytes });
        }
        let piece = (pipe.outgoing() / 4).saturating_sub(HEAD_MOST).max(HEADER_BYTES);
        Ok(Framed {
            encoder: Encoder::new(ours, limits),
            decoder: Decoder::new(theirs, limits),
            rank: theirs.rank,
            head: Head::new(),
            piece: piece.min(usize::try_from(limits.max_frame).unwrap_or(usize::MAX)),
            limits,
            stirred: false,
            pending: false,
            ended: None,
            closed: false,
            stats: Stats::default(),
            pipe,
        })
    }

    /// What carries the bytes.
    pub fn pipe(&self) -> &P {
        &self.pipe
    }

    /// What carries the bytes. Whoever reads or writes here takes bytes out of the stream, or puts some in.
    pub fn pipe_mut(&mut self) -> &mut P {
        &mut self.pipe
    }

    /// The latest message.
    #[inline]
    fn latest(&self) -> Incoming {
        // Nobody asks before there was one.
        let nothing = Incoming { tag: 0, content: Content::Bytes(0) };
        self.decoder.message().map_or(nothing, |m| Incoming { tag: m.tag, content: m.content })
    }

    /// Why the link is over, if it is known to be.
    fn over(&self) -> Option<Ended> {
        if self.closed { Some(Ended::ClosedHere) } else { self.ended }
    }

    /// Why the peer's end, as the pipe sees it, speaks no more.
    fn gone(&self) -> Option<Ended> {
        match self.pipe.peer() {
            Peer::Open => None,
            Peer::Gone => Some(Ended::Gone { rank: self.rank }),
            Peer::Dead => Some(Ended::Died { rank: self.rank, pid: self.pipe.pid() }),
        }
    }

    /// The link is over. A peer whose bytes break rules is told by the end of the pipe.
    #[cold]
    fn end(&mut self, ended: Ended) -> Ended {
        if matches!(ended, Ended::Wire { .. } | Ended::Broken(_)) {
            self.pipe.shut();
        }
        self.pending = false;
        *self.ended.get_or_insert(ended)
    }

    #[cold]
    fn broken(&mut self, broken: Broken) -> Ended {
        self.end(Ended::Broken(broken))
    }

    /// Goes on with a call until its halves are done or the deadline has passed.
    fn drive(&mut self, call: &mut Call<'_>, deadline: Deadline) {
        let mut timer: Option<Timer> = None;
        while !call.is_over() {
            let before = call.progress();
            let moved = self.step(call);
            if call.is_over() || moved && call.progress() != before {
                continue;
            }
            let timer = timer.get_or_insert_with(|| deadline.start());
            if timer.has_passed() {
                self.give_up(call, timer);
                return;
            }
            if moved {
                // Frames without payload, or what is skipped: these are no reason to forget the time.
                continue;
            }
            let write = match &call.out {
                Some(out) if call.sent.is_none() => out.need + RESERVE,
                _ => 0,
            };
            let reading = call.into.is_some() && call.got.is_none();
            let interest = Interest { write, read: reading || !self.pending };
            if let Err(ended) = self.wait(interest, timer) {
                self.fail(call, ended);
            }
        }
    }

    /// Bytes that a frame may take.
    #[inline]
    fn room(&mut self, wanted: usize) -> usize {
        self.pipe.room(wanted + RESERVE).saturating_sub(RESERVE)
    }

    /// Wakes the peer for what has moved.
    #[inline]
    fn wake(&mut self) {
        if self.stirred {
            self.stirred = false;
            self.pipe.notify();
        }
    }

    fn wait(&mut self, interest: Interest, timer: &Timer) -> Result<Waited, Ended> {
        self.wake();
        self.stats.waits += 1;
        self.pipe.wait(interest, timer.until()).map_err(|b| self.broken(b))
    }

    /// One step of each half. Says whether anything has changed.
    fn step(&mut self, call: &mut Call<'_>) -> bool {
        let mut moved = false;
        if let (Some(out), None) = (&mut call.out, &call.sent) {
            let step = match self.step_out(out) {
                Ok(Step::Blocked) if call.into.is_none() || call.got.is_some() => {
                    self.look_while_blocked(out)
                }
                step => step,
            };
            moved |= !matches!(step, Ok(Step::Blocked));
            match step {
                Ok(Step::Done) => call.sent = Some(Ok(())),
                Ok(_) => {}
                Err(error) => call.sent = Some(Err(error)),
            }
        }
        if let (Some(into), None) = (&mut call.into, &call.got) {
            let step = self.step_in(into);
            moved |= !matches!(step, Ok(Step::Blocked));
            match step {
                Ok(Step::Done) => call.got = Some(Ok(self.taken())),
                Ok(_) => {}
                Err(error) => call.got = Some(Err(error)),
            }
        }
        self.wake();
        moved
    }

    /// The deadline has passed.
    #[cold]
    fn give_up(&mut self, call: &mut Call<'_>, timer: &Timer) {
        if let (Some(out), None) = (&call.out, &call.sent) {
            call.sent = Some(Err(self.cut(out, timer.waited())));
        }
        if let (Some(into), None) = (&call.into, &call.got) {
            call.got = Some(Err(self.cut_short(into, timer.waited())));
        }
    }

    /// The link is over in the middle of a call.
    #[cold]
    fn fail(&mut self, call: &mut Call<'_>, end: Ended) {
        if let (Some(out), None) = (&call.out, &call.sent) {
            call.sent = Some(Err(SendError::Ended { end, part: out.part() }));
        }
        if let (Some(into), None) = (&call.into, &call.got) {
            call.got = Some(Err(RecvError::Ended { end, part: into.part() }));
        }
    }

    /// Writes the last frame, for which there is always room, and closes the pipe.
    fn say_close(&mut self) -> Result<(), Ended> {
        // No message is ever left open between two calls, unless the pipe broke in its middle.
        let said = if self.encoder.close(&mut self.head).is_ok() { self.write_head() } else { Ok(()) };
        self.wake();
        self.pipe.shut();
        self.closed = true;
        said
    }
}

impl<P: Pipe> Link for Framed<P> {
    fn send(&mut self, tag: u64, source: Source<'_>, deadline: Deadline) -> Result<(), SendError> {
        let mut out = self.begin(tag, source, true)?;
        // A short message that finds room, as most do, needs nothing of what follows.
        if self.step_out(&mut out)? == Step::Done {
            self.wake();
            return Ok(());
        }
        let mut call = Call { out: Some(out), ..Call::default() };
        self.drive(&mut call, deadline);
        call.sent.unwrap_or(Ok(()))
    }

    fn try_send(&mut self, tag: u64, source: Source<'_>) -> Result<(), TrySendError> {
        self.fits(&source)?;
        let mut out = self.begin(tag, source, false)?;
        // There is room for all of it: each turn writes a frame, and none is blocked.
        loop {
            match self.step_out(&mut out)? {
                Step::Done => break,
                Step::Moved => {}
                Step::Blocked => {
                    let end = self.broken(Broken { what: "it took room back that it had given" });
                    return Err(TrySendError::Ended { end });
                }
            }
        }
        self.wake();
        Ok(())
    }

    fn try_recv(&mut self) -> Result<Option<Incoming>, Ended> {
        let looked = self.look();
        self.wake();
        looked.map(|_| self.pending.then(|| self.latest()))
    }

    fn receive(&mut self, target: Target<'_>, deadline: Deadline) -> Result<Incoming, RecvError> {
        let mut into = Inbound::new(target);
        match self.step_in(&mut into) {
            // It was there, whole.
            Ok(Step::Done) => {
                self.wake();
                return Ok(self.taken());
            }
            Ok(_) => {}
            Err(error) => {
                self.wake();
                return Err(error);
            }
        }
        let mut call = Call { into: Some(into), ..Call::default() };
        self.drive(&mut call, deadline);
        call.got.unwrap_or(Err(RecvError::Ended { end: Ended::ClosedHere, part: None }))
    }

    fn send_recv(
        &mut self,
        tag: u64,
        source: Source<'_>,
        target: Target<'_>,
        deadline: Deadline,
    ) -> Result<Incoming, ExchangeError> {
        let mut call = Call { into: Some(Inbound::new(target)), ..Call::default() };
        match self.begin(tag, source, false) {
            Ok(out) => call.out = Some(out),
            // What can't be sent does not keep the other half from being received.
            Err(error) => call.sent = Some(Err(error)),
        }
        self.drive(&mut call, deadline);
        match (call.sent, call.got) {
            (Some(Ok(())), Some(Ok(incoming))) => Ok(incoming),
            (send, recv) => {
                let none = RecvError::Ended { end: Ended::ClosedHere, part: None };
                Err(ExchangeError { send: send.unwrap_or(Ok(())), recv: recv.unwrap_or(Err(none)) })
            }
        }
    }

    fn refuse(&mut self) -> bool {
        let pending = core::mem::take(&mut self.pending);
        if pending {
            self.decoder.refuse();
            self.stats.skipped += 1;
        }
        pending
    }

    fn poll(&mut self, wanted: Ready, deadline: Deadline) -> Result<Ready, Ended> {
        let mut timer: Option<Timer> = None;
        loop {
            let gone = self.gone();
            let step = self.look()?;
            let send = self.room(SHORT) >= SHORT;
            let ready = Ready { recv: self.pending, send };
            if wanted.recv && ready.recv || wanted.send && ready.send {
                self.wake();
                return Ok(ready);
            }
            if let Some(end) = gone.filter(|_| wanted.send) {
                return Err(end);
            }
            let timer = timer.get_or_insert_with(|| deadline.start());
            if timer.has_passed() {
                self.wake();
                return Ok(Ready::default());
            }
            if step != Step::Moved {
                let write = if wanted.send { SHORT + RESERVE } else { 0 };
                self.wait(Interest { write, read: !self.pending }, timer)?;
            }
        }
    }

    fn close(&mut self, _deadline: Deadline) -> Result<(), CloseError> {
        let over = self.over();
        let said = if self.closed { Ok(()) } else { self.say_close() };
        match (over, said) {
            (Some(Ended::Closed { .. }), _) | (None, Ok(())) => Ok(()),
            (Some(end), _) | (None, Err(end)) => Err(CloseError::Ended { end }),
        }
    }

    fn stats(&self) -> Stats {
        self.stats
    }
}

impl<P: Pipe> Drop for Framed<P> {
    fn drop(&mut self) {
        if !self.closed {
            // Where that fails the peer finds this end gone, which is as true.
            let _ = self.say_close();
        }
    }
}

/// How far a message of which nothing has moved came.
fn none_of(tag: u64, total: u64) -> Part {
    Part { tag, done: 0, total }
}
