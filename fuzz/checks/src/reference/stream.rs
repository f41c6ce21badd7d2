//! A whole stream at once: what comes out of it, where, and which rule it breaks first.

use super::frame::{ABORT, CLOSE, examine, glance};
use super::{Bounds, Broken, Head, broken};

/// What comes out of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Head(Head),
    /// Payload of one frame, as far as it is there; at least one byte.
    Payload {
        offset: u64,
        bytes: Vec<u8>,
    },
}

/// What a decoder should want at some place in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wants {
    Head(u64),
    Payload(u64),
    Refused(u64),
    Nothing,
}

/// How things stand after a head, before its payload.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) start: usize,
    /// Bytes of the latest message that have come.
    pub(crate) received: u64,
    /// Whether there are more to come.
    pub(crate) within: bool,
    pub(crate) refused: bool,
}

/// A frame, or what there is of it.
#[derive(Debug)]
struct Place {
    start: usize,
    /// Bytes of its head, as far as 64 of them tell.
    head: usize,
    payload: u64,
    refused: bool,
    closes: bool,
}

/// What should become of a stream.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) events: Vec<Event>,
    /// For each head among the events: where it begins, and how its message stands.
    pub(crate) heads: Vec<Heard>,
    /// The rule that is broken, and how many bytes of the stream show it.
    pub(crate) broken: Option<(usize, Broken)>,
    /// The number of the frame that is due at the end.
    pub(crate) due: u64,
    places: Vec<Place>,
}

/// The message that chunks belong to.
#[derive(Debug, Default)]
struct Open {
    kind: u8,
    flags: u8,
    tag: u64,
    total: u64,
    received: u64,
    refused: bool,
}

impl Open {
    fn is_within(&self) -> bool {
        self.received < self.total
    }

    /// The rules of the order of frames.
    fn place(&mut self, head: &Head) -> Result<(), Broken> {
        let Head { kind, flags, tag, len, offset, total, .. } = *head;
        let starts = head.is_chunk() && offset == 0;
        if starts && self.is_within() {
            return Err(broken!("Within", tag, self.tag, self.received, self.total));
        }
        if kind == CLOSE && self.is_within() {
            return Err(broken!("CloseWithin", self.tag, self.received, self.total));
        }
        if kind == ABORT && !self.is_within() {
            return Err(broken!("NothingToAbort", tag));
        }
        if head.is_chunk() && !starts && !self.is_within() {
            return Err(broken!("Orphan", kind, tag, offset));
        }
        if starts {
            *self = Open { kind, flags, tag, total, received: 0, refused: false };
        } else if head.is_chunk() || kind == ABORT {
            let mut same = vec![("tag", tag, self.tag), ("total", total, self.total)];
            if kind != ABORT {
                same.insert(0, ("kind", kind.into(), self.kind.into()));
                same.insert(1, ("flags", flags.into(), self.flags.into()));
            }
            if let Some((field, found, expected)) = same.into_iter().find(|(_, a, b)| a != b) {
                return Err(broken!("Differs" in field, found, expected));
            }
            if offset != self.received {
                return Err(broken!("Gap", tag, offset, self.received));
            }
        }
        if kind == ABORT {
            self.total = self.received;
        }
        self.received += len;
        Ok(())
    }
}

/// Reads a stream. `refuse` says whether the message is refused that is open after the n-th head.
pub(crate) fn read(bytes: &[u8], bounds: &Bounds, refuse: &dyn Fn(usize) -> bool) -> Outcome {
    let mut outcome = Outcome { due: bounds.first, ..Outcome::default() };
    let mut open = Open::default();
    let mut start = 0;
    // Each turn takes a head at least.
    while let Some(place) = outcome.frame(bytes, start, bounds, &mut open, refuse) {
        let end = (place.start + place.head) as u64 + place.payload;
        let closes = place.closes;
        outcome.places.push(place);
        if end > bytes.len() as u64 || outcome.broken.is_some() {
            break;
        }
        start = end as usize;
        if closes {
            if start < bytes.len() {
                outcome.broken = Some((start + 1, broken!("AfterClose")));
            }
            break;
        }
    }
    outcome
}

impl Outcome {
    /// The frame at `start`, or what there is of it; `None` where nothing is.
    fn frame(
        &mut self,
        bytes: &[u8],
        start: usize,
        bounds: &Bounds,
        open: &mut Open,
        refuse: &dyn Fn(usize) -> bool,
    ) -> Option<Place> {
        let rest = bytes.get(start..).filter(|rest| !rest.is_empty())?;
        let mut place = Place { start, head: 64, payload: 0, refused: false, closes: false };
        let Some(header) = rest.get(..64) else { return Some(place) };
        match glance(header) {
            Ok(head) => place.head = head,
            Err(broken) => {
                self.broken = Some((start + 64, broken));
                return Some(place);
            }
        }
        let Some(head) = rest.get(..place.head) else { return Some(place) };
        let examined = examine(head, self.due, bounds).and_then(|head| open.place(&head).map(|()| head));
        let head = match examined {
            Ok(head) => head,
            Err(broken) => {
                self.broken = Some((start + place.head, broken));
                return Some(place);
            }
        };
        self.due = self.due.wrapping_add(1);
        // A message whose last head this is can still be refused: its payload has not come.
        let within = open.is_within() || head.len > 0;
        if refuse(self.heads.len()) {
            open.refused = within;
        }
        let received = open.received - head.len;
        self.heads.push(Heard { start, received, within, refused: open.refused });
        place.payload = head.len;
        place.refused = open.refused;
        place.closes = head.kind == CLOSE;
        let (len, offset) = (head.len, head.offset);
        self.events.push(Event::Head(head));
        let there = &rest[place.head..];
        let there = &there[..usize::try_from(len).unwrap_or(usize::MAX).min(there.len())];
        if !there.is_empty() && !open.refused {
            self.events.push(Event::Payload { offset, bytes: there.to_vec() });
        }
        Some(place)
    }

    /// Bytes of payload that come out.
    pub(crate) fn payload(&self) -> usize {
        let bytes = |e: &Event| if let Event::Payload { bytes, .. } = e { bytes.len() } else { 0 };
        self.events.iter().map(bytes).sum()
    }

    /// What a decoder wants that has been given the first `at` bytes, and has found nothing wrong.
    pub(crate) fn wants(&self, at: usize) -> Wants {
        let before = self.places.partition_point(|p| p.start < at);
        let Some(place) = before.checked_sub(1).map(|i| &self.places[i]) else { return Wants::Head(64) };
        let within = at - place.start;
        // The length of the head is known from its 64th byte on.
        let head = if within < 64 { 64 } else { place.head };
        if within < head {
            return Wants::Head((head - within) as u64);
        }
        let left = place.payload - (within - place.head) as u64;
        match (left, place.closes) {
            (_, true) => Wants::Nothing,
            (0, false) => Wants::Head(64),
            (left, false) if place.refused => Wants::Refused(left),
            (left, false) => Wants::Payload(left),
        }
    }
}
