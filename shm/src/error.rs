//! What shared memory can fail with.

use std::io;
use std::path::PathBuf;

use sapwood_core::ring::CapacityError;

use crate::layout::kind_name;
use crate::ring::Figures;

/// Why a segment, a seat or memory in them could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// The call and what it was for.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// There is not enough memory. Nothing was kept.
    #[error("{what} needs {need} bytes of shared memory, but there are only {have}")]
    NoSpace {
        /// For what.
        what: &'static str,
        /// Bytes needed.
        need: u64,
        /// Bytes that could be had.
        have: u64,
    },
    /// The process may not make files that long. A segment's file is sparse: the limit is on addresses, not on memory.
    #[error(
        "a segment's file has {need} bytes, nearly all of them sparse, and this process may make files of {limit}: \
             raise the limit with `ulimit -f unlimited`"
    )]
    FileLimit {
        /// Bytes of the file.
        need: u64,
        /// RLIMIT_FSIZE.
        limit: u64,
    },
    /// This process is a forked child of the one that has this handle, and the handle's memory is that one's own.
    #[error("a forked child does not hold its parent's {what}")]
    Forked {
        /// What the handle is of.
        what: &'static str,
    },
    /// A name that no segment can have.
    #[error("{name:?} can't name a segment: use 1 to 64 of A-Z a-z 0-9 . _ - and don't begin with a dot")]
    BadName {
        /// The name.
        name: String,
    },
    /// What stands under the name is not a file that this user made and keeps to himself.
    #[error("{} is not used: {why}", path.display())]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The file is too short for what it says it holds.
    #[error("the segment is truncated: it has {have} bytes and should have {need}")]
    Truncated {
        /// Bytes that its header promises.
        need: u64,
        /// Bytes that it has.
        have: u64,
    },
    /// The file holds no segment.
    #[error("the file holds no segment: it begins with {found:#018x}, not with {expected:#018x}")]
    NotASegment {
        /// What it begins with.
        found: u64,
        /// What a segment begins with.
        expected: u64,
    },
    /// The segment was laid out by another version.
    #[error(
        "the segment has layout version {found}, this program has {expected}: build all ranks from one version"
    )]
    OtherVersion {
        /// The segment's.
        found: u32,
        /// Ours.
        expected: u32,
    },
    /// The segment holds something else.
    #[error("the segment holds {}, not {}", kind_name(*found), kind_name(*expected))]
    OtherKind {
        /// The segment's.
        found: u32,
        /// The kind that was asked for.
        expected: u32,
    },
    /// The segment has another number of seats: the participants disagree about their number.
    #[error("the segment was made for {found} participants, this one expects {expected}")]
    OtherSize {
        /// The segment's.
        found: u32,
        /// The number that was asked for.
        expected: u32,
    },
    /// The segment's contents are laid out differently.
    #[error(
        "the segment's layout is {found:#x}, this program's {expected:#x}: build all ranks from one version"
    )]
    OtherLayout {
        /// The segment's.
        found: u64,
        /// Ours.
        expected: u64,
    },
    /// The segment has other lengths than its layout says here.
    #[error(
        "the segment has {found:?} bytes (backed, in all), this program expects {expected:?}: build all \
         participants from one version"
    )]
    OtherLengths {
        /// The segment's: bytes that are backed, and bytes in all.
        found: (u64, u64),
        /// Ours.
        expected: (u64, u64),
    },
    /// The segment holds other values, or as many others.
    #[error("the segment was made for {found}, this program expects {expected}")]
    OtherRing {
        /// The segment's.
        found: Box<Figures>,
        /// What was asked for.
        expected: Box<Figures>,
    },
    /// The segment holds other buffers.
    #[error("the segment holds {}, this program expects {}", bufs(.found), bufs(.expected))]
    OtherBufs {
        /// The segment's: how many, and bytes of each.
        found: (u64, u64),
        /// What was asked for.
        expected: (u64, u64),
    },
    /// The segment holds a map of other keys or values, or of another capacity.
    #[error("the segment holds a map of {found}, this program expects one of {expected}")]
    OtherMap {
        /// The segment's.
        found: Box<crate::map::Figures>,
        /// What was asked for.
        expected: Box<crate::map::Figures>,
    },
    /// No map has that shape.
    #[error(transparent)]
    Map(#[from] sapwood_core::map::ShapeError),
    /// No ring has that capacity.
    #[error(transparent)]
    Capacity(#[from] CapacityError),
    /// No frames have that shape.
    #[error(transparent)]
    Frames(#[from] sapwood_core::blocks::ShapeError),
    /// A job can't have so many attempts.
    #[error(transparent)]
    Attempts(#[from] sapwood_core::claim::AttemptsError),
    /// A link that holds too little to carry frames.
    #[error("a link of {asked} bytes each way can't carry frames: it needs {least}")]
    LinkTooSmall {
        /// What was asked for.
        asked: usize,
        /// The least.
        least: usize,
    },
    /// Nothing has that many participants.
    #[error("1 to {most} participants are possible here, and {asked} were asked for")]
    Participants {
        /// What was asked for.
        asked: usize,
        /// The most.
        most: usize,
    },
    /// An end that was closed stays closed.
    #[error(
        "the {end} of this ring has closed it for good; once its other holders are gone, a new one can be made"
    )]
    EndClosed {
        /// Which end.
        end: &'static str,
    },
    /// The name is taken by a segment with living holders.
    #[error("the name {name:?} is taken by a segment that processes {holders:?} hold")]
    NameTaken {
        /// The name.
        name: String,
        /// Process numbers, as the holders see themselves.
        holders: Vec<u32>,
    },
    /// A living process sits there: a participant was started twice.
    #[error("seat {seat} is taken by process {pid}; was it started twice?")]
    SeatTaken {
        /// The seat.
        seat: usize,
        /// Who sits there, as it sees itself; 0 if it has just come.
        pid: u32,
    },
    /// The process that sat there is dead, and the others know it as dead.
    #[error("rank {seat} was process {pid}, which is dead; its group has to start anew")]
    SeatDead {
        /// The seat.
        seat: usize,
        /// Who sat there, as it saw itself.
        pid: u32,
    },
    /// No file can be that long.
    #[error(
        "a segment with a body of {body} bytes and a reserve of {reserve} is longer than any file can be"
    )]
    SpecTooLong {
        /// Bytes of the body.
        body: u64,
        /// Bytes of the reserve.
        reserve: u64,
    },
    /// All seats are taken by living processes.
    #[error("all {seats} seats of the segment are taken by living processes")]
    NoSeat {
        /// How many there are.
        seats: usize,
    },
    /// Whoever took the seat has died while recovering it, so often that the names of the dead would repeat.
    #[error(
        "{deaths} processes have died one after another while they recovered seat {seat}; no further one may try"
    )]
    SeatSpoilt {
        /// The seat.
        seat: usize,
        /// Epochs that are not recovered.
        deaths: u32,
    },
    /// The segment's name is being taken away, or has been.
    #[error("the segment has lost its name; enter the one that has it now")]
    Retired,
    /// No such seat.
    #[error("the segment has {seats} seats, and seat {seat} is none of them")]
    NoSuchSeat {
        /// What was asked for.
        seat: usize,
        /// How many there are.
        seats: usize,
    },
    /// The deadline passed while another process was building the segment.
    #[error("another process has been building the segment for {waited:?}")]
    StillBuilding {
        /// How long.
        waited: std::time::Duration,
    },
    /// The name changed hands again and again until the deadline.
    #[error("the name {name:?} changed hands until {waited:?} had passed")]
    Unsettled {
        /// The name.
        name: String,
        /// How long.
        waited: std::time::Duration,
    },
    /// No segment can be that long.
    #[error("{bytes} bytes a rank are more than an arena can hold")]
    TooLong {
        /// Bytes for each rank.
        bytes: u64,
    },
    /// All blocks of the arena are in use.
    #[error("a group can hold {limit} resident tensors at a time, and has as many; drop one on every rank")]
    TooManyTensors {
        /// How many there can be.
        limit: usize,
    },
    /// Rank 0 offered a block that can't be.
    #[error("rank 0 offered block {block} or a place for it that can't be")]
    BadOffer {
        /// The block.
        block: usize,
    },
    /// More seats than a segment can have.
    #[error("a segment can have {limit} seats at most, not {seats}")]
    TooManySeats {
        /// What was asked for.
        seats: usize,
        /// How many there can be.
        limit: usize,
    },
    /// The segment came in a file that others can still make shorter.
    #[error(
        "the segment's file is not sealed: whoever holds it could cut it off, and whoever uses it would get SIGBUS"
    )]
    NotSealed,
    /// A message carried no file descriptor, or several.
    #[error("expected a message with one file descriptor, got {got}")]
    NotOneDescriptor {
        /// How many there were.
        got: usize,
    },
    /// Not all of a message's file descriptors arrived: there were far more than one, or this process may not have any
    /// more. Those that came are closed.
    #[error(
        "expected a message with one file descriptor, but {got} arrived and others were cut off: the message carried \
             too many, or this process may not open more (`ulimit -n`)"
    )]
    DescriptorsCut {
        /// How many arrived.
        got: usize,
    },
    /// The other end of the socket has closed.
    #[error("the other end closed the socket before it sent a descriptor")]
    Closed,
}

impl Error {
    /// A failed call, with what it was for.
    pub(crate) fn system(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Error::System { what: what.into(), source: source.into() }
    }
}

fn bufs((blocks, bytes): &(u64, u64)) -> String {
    format!("{blocks} buffers of {bytes} bytes")
}
