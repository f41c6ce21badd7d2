//! Our rings as the bench uses them, between threads and between processes: everything that the bench knows of their
//! API stands here. Beside them the floor, which obeys the same orders.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sapwood_shm::ring::{frames::Frames, local, mpmc, spsc, stream};
use sapwood_shm::{Rank, Rendezvous, Seat, Segment};

use crate::flow::messages::{self, Loans, Messages};
use crate::flow::records::{self, BATCH, PopRecords, PushRecords, Record};
use crate::flow::threads::{Ends, Ring, SharedRing, one_to_one, two, two_to_two};
use crate::flow::words::{self, Pop, Push};
use crate::flow::{Failure, Said, Spin, Yield};
use crate::plain::{Heap, Plain};

/// What the floor of either kind can be asked.
pub(crate) const FLOOR: &[&str] = &["pingpong", "spsc", "msgrate", "msgrate_unbatched", "stream", "loan"];
/// What ours can be asked: between threads, between two processes, between four.
pub(crate) const RINGS: &[&str] = &["pingpong", "spsc", "mpmc"];
pub(crate) const LANES: &[&str] = &["pingpong", "msgrate", "msgrate_unbatched", "stream", "loan"];
pub(crate) const QUEUE: &[&str] = &["mpmc"];

/// Bytes of a stream's ring.
const STREAM: usize = 256 << 10;
/// Frames each way, and their bytes.
const FRAMES: (usize, usize) = (4, 1 << 20);

/// A process whose ranks are threads.
pub(crate) enum Threads {
    Ours,
    Local,
    Floor(Box<[Plain<Arc<Heap>>; 2]>),
}

impl Threads {
    pub(crate) fn new(kind: &str) -> Result<Threads, Box<dyn Error>> {
        match kind {
            "rings" => Ok(Threads::Ours),
            "rings-local" => Ok(Threads::Local),
            "rings-floor" => Ok(Threads::Floor(Box::new(Plain::pair()))),
            other => Err(format!("no contender of kind {other}").into()),
        }
    }

    pub(crate) fn obey(&mut self, bench: &str, bytes: usize, n: u64) -> Result<Said, Failure> {
        match self {
            Threads::Ours if bench == "mpmc" => two_to_two::<Ours>(n),
            Threads::Ours => one_to_one::<Ours>(bench, n),
            Threads::Local if bench == "mpmc" => two_to_two::<Local>(n),
            Threads::Local => one_to_one::<Local>(bench, n),
            Threads::Floor(ends) => {
                let [a, b] = &mut **ends;
                two(|| a.obey(bench, bytes, n), || b.obey(bench, bytes, n))
            }
        }
    }
}

/// Our rings between threads.
struct Ours;

impl Ring for Ours {
    type Tx = spsc::Producer<u64>;
    type Rx = spsc::Consumer<u64>;
    fn ring(capacity: usize) -> Result<(Self::Tx, Self::Rx), Failure> {
        Ok(spsc::pair(capacity)?)
    }
}

impl SharedRing for Ours {
    type Tx = mpmc::Ring<u64>;
    type Rx = mpmc::Ring<u64>;
    fn ring(capacity: usize) -> Result<Ends<Self::Tx, Self::Rx>, Failure> {
        let mut rings = mpmc::threads(capacity, 4)?;
        let mut one = || rings.pop().ok_or("four handles");
        Ok(([one()?, one()?], [one()?, one()?]))
    }
}

/// Our queue for any values, which threads only can share.
struct Local;

impl Ring for Local {
    type Tx = local::Queue<u64>;
    type Rx = local::Queue<u64>;
    fn ring(capacity: usize) -> Result<(Self::Tx, Self::Rx), Failure> {
        let queue = local::Queue::new(capacity)?;
        Ok((queue.clone(), queue))
    }
}

impl SharedRing for Local {
    type Tx = local::Queue<u64>;
    type Rx = local::Queue<u64>;
    fn ring(capacity: usize) -> Result<Ends<Self::Tx, Self::Rx>, Failure> {
        let queue = local::Queue::new(capacity)?;
        Ok(([queue.clone(), queue.clone()], [queue.clone(), queue]))
    }
}

impl Push for local::Queue<u64> {
    #[inline(always)]
    fn try_push(&mut self, word: u64) -> bool {
        local::Queue::try_push(self, word).is_ok()
    }
}

impl Pop for local::Queue<u64> {
    #[inline(always)]
    fn try_pop(&mut self) -> Option<u64> {
        local::Queue::try_pop(self).ok()
    }
}

impl Push for spsc::Producer<u64> {
    #[inline(always)]
    fn try_push(&mut self, word: u64) -> bool {
        spsc::Producer::try_push(self, word).is_ok()
    }
}

impl Pop for spsc::Consumer<u64> {
    #[inline(always)]
    fn try_pop(&mut self) -> Option<u64> {
        spsc::Consumer::try_pop(self).ok()
    }
}

impl Push for mpmc::Ring<u64> {
    #[inline(always)]
    fn try_push(&mut self, word: u64) -> bool {
        mpmc::Ring::try_push(self, word).is_ok()
    }
}

impl Pop for mpmc::Ring<u64> {
    #[inline(always)]
    fn try_pop(&mut self) -> Option<u64> {
        mpmc::Ring::try_pop(self).ok()
    }
}

impl PushRecords for spsc::Producer<Record> {
    #[inline(always)]
    fn push(&mut self, records: &[Record]) -> Result<(), Failure> {
        if let [one] = records {
            while self.try_push(*one).is_err() {
                std::hint::spin_loop();
            }
            return Ok(());
        }
        let mut sent = 0;
        while sent < records.len() {
            match self.push_slice(&records[sent..])? {
                0 => std::hint::spin_loop(),
                n => sent += n,
            }
        }
        Ok(())
    }
}

impl PopRecords for spsc::Consumer<Record> {
    #[inline(always)]
    fn pop(&mut self, into: &mut [Record]) -> Result<usize, Failure> {
        loop {
            let got = if let [one] = into {
                self.try_pop().map(|record| {
                    *one = record;
                    1
                })
            } else {
                self.pop_slice(into)
            };
            match got {
                Ok(n) => return Ok(n),
                Err(_) => std::hint::spin_loop(),
            }
        }
    }
}

/// One of several processes.
pub(crate) enum Process {
    Lanes(Box<Lanes>),
    Queue { ring: mpmc::Ring<u64>, rank: usize },
    Floor(Plain<(Segment, Seat)>),
}

impl Process {
    pub(crate) fn join(kind: &str, rank: usize, ranks: usize) -> Result<Process, Box<dyn Error>> {
        match (kind, ranks) {
            ("lanes", 2) => Ok(Process::Lanes(Box::new(Lanes::join(rank)?))),
            ("lanes", _) => {
                let mut ring = mpmc::Ring::open(&meeting()?, words::CAPACITY, ranks)?;
                if rank == 0 {
                    // A word of each other one: only then has it done with the name.
                    (1..ranks).try_for_each(|_| patiently(|| Pop::try_pop(&mut ring).is_some()))?;
                    unlink(ring.segment())?;
                } else {
                    patiently(|| Push::try_push(&mut ring, 0))?;
                }
                Ok(Process::Queue { ring, rank })
            }
            ("lanes-floor", _) => Ok(Process::Floor(Plain::join(rank, ranks)?)),
            (other, _) => Err(format!("no contender of kind {other}").into()),
        }
    }

    pub(crate) fn obey(&mut self, bench: &str, bytes: usize, n: u64) -> Result<Said, Failure> {
        match (self, bench) {
            (Process::Lanes(lanes), _) => lanes.obey(bench, bytes, n),
            (Process::Queue { ring, rank: who @ 0..2 }, "mpmc") => {
                words::produce_shared::<Yield>(ring, *who as u64, n)
            }
            (Process::Queue { ring, .. }, "mpmc") => words::consume_shared::<Yield>(ring, n),
            (Process::Queue { .. }, other) => Err(format!("no bench {other} on a queue").into()),
            (Process::Floor(floor), _) => floor.obey(bench, bytes, n),
        }
    }
}

/// Both directions of one of two processes, for each kind of message.
pub(crate) struct Lanes {
    words: (spsc::Producer<u64>, spsc::Consumer<u64>),
    records: (spsc::Producer<Record>, spsc::Consumer<Record>),
    bytes: (stream::Writer, stream::Reader),
    frames: (Frames, Frames),
    first: bool,
}

impl Lanes {
    fn join(rank: usize) -> Result<Lanes, Box<dyn Error>> {
        let meeting = meeting()?;
        let name = |what: &str, rank: usize| format!("{meeting}-{what}-{rank}");
        let (mine, theirs) = (rank, 1 - rank);
        let mut lanes = Lanes {
            records: (
                spsc::Producer::open(&name("records", mine), records::CAPACITY)?,
                spsc::Consumer::open(&name("records", theirs), records::CAPACITY)?,
            ),
            bytes: (
                stream::Writer::open(&name("bytes", mine), STREAM)?,
                stream::Reader::open(&name("bytes", theirs), STREAM)?,
            ),
            frames: (
                Frames::open(&name("frames", mine), FRAMES.0, FRAMES.1, 2)?,
                Frames::open(&name("frames", theirs), FRAMES.0, FRAMES.1, 2)?,
            ),
            words: (
                spsc::Producer::open(&name("words", mine), words::CAPACITY)?,
                spsc::Consumer::open(&name("words", theirs), words::CAPACITY)?,
            ),
            first: rank == 0,
        };
        // Each takes away the names of what it sends on, once a word from the other says that it has done with them.
        patiently(|| Push::try_push(&mut lanes.words.0, 0))?;
        patiently(|| Pop::try_pop(&mut lanes.words.1).is_some())?;
        unlink(lanes.words.0.segment())?;
        unlink(lanes.records.0.segment())?;
        unlink(lanes.bytes.0.segment())?;
        unlink(lanes.frames.0.segment())?;
        Ok(lanes)
    }

    fn obey(&mut self, bench: &str, bytes: usize, n: u64) -> Result<Said, Failure> {
        let batch = if bench == "msgrate" { BATCH } else { 1 };
        match (bench, self.first) {
            ("pingpong", first) if bytes == 8 => {
                words::pingpong::<Spin>(first, &mut self.words.0, &mut self.words.1, n)
            }
            ("pingpong", first) => messages::pingpong(first, self, bytes, n),
            ("stream", first) => messages::stream(first, self, bytes, n),
            ("loan", first) => messages::loan(first, self, bytes, n),
            ("msgrate" | "msgrate_unbatched", true) => records::produce(&mut self.records.0, n, batch),
            ("msgrate" | "msgrate_unbatched", false) => records::consume(&mut self.records.1, n, batch),
            (other, _) => Err(format!("no bench {other} between two processes").into()),
        }
    }
}

impl Messages for Lanes {
    fn send(&mut self, mut message: &[u8]) -> Result<(), Failure> {
        while !message.is_empty() {
            match self.bytes.0.write(&[message]) {
                Ok(n) => message = &message[n..],
                Err(_) => std::hint::spin_loop(),
            }
        }
        Ok(())
    }

    fn recv(&mut self, message: &mut [u8]) -> Result<(), Failure> {
        let mut at = 0;
        while at < message.len() {
            match self.bytes.1.read(&mut message[at..]) {
                Ok(n) => at += n,
                Err(_) => std::hint::spin_loop(),
            }
        }
        Ok(())
    }
}

impl Loans for Lanes {
    fn lend(&mut self, bytes: usize, write: impl FnOnce(&mut [u8])) -> Result<(), Failure> {
        // One is always free: the ends answer each other, so at most one of the four is on its way or being read.
        let mut loan = self.frames.0.loan()?;
        write(&mut loan[..bytes]);
        Ok(loan.send(bytes).map_err(|e| e.to_string())?)
    }

    fn borrow(&mut self, bytes: usize, look: impl FnOnce(&[u8])) -> Result<(), Failure> {
        loop {
            if let Ok(message) = self.frames.1.receive() {
                look(&message[..bytes]);
                return Ok(());
            }
            std::hint::spin_loop();
        }
    }
}

/// Under which name this contender's processes meet.
pub(crate) fn meeting() -> Result<String, Box<dyn Error>> {
    match Rank::from_env()?.ok_or("no SAPWOOD_RANK")?.rendezvous()? {
        Rendezvous::Name(name) => Ok(name),
        _ => Err("contenders meet under a name".into()),
    }
}

fn patiently(mut come: impl FnMut() -> bool) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    while !come() {
        if began.elapsed() > Duration::from_secs(20) {
            return Err("the other processes did not come within 20 s".into());
        }
        std::thread::yield_now();
    }
    Ok(())
}

pub(crate) fn unlink(segment: Option<&Arc<Segment>>) -> Result<(), Box<dyn Error>> {
    Ok(segment.ok_or("a ring without a segment")?.unlink()?)
}
