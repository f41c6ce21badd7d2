//! ringfire: a ring of fixed slots with backpressure for words and records, descriptors and an arena for longer
//! messages.

use std::path::PathBuf;

use ringfire::{BlobConsumer, BlobProducer, BlobProducerBuilder, FlowControl};
use ringfire::{RingConsumer, RingProducer, RingProducerBuilder};

use crate::flow::messages::{self, Messages};
use crate::flow::records::{self, BATCH, PopRecords, PushRecords, Record};
use crate::flow::words::{self, Pop, Push};
use crate::flow::{Failure, Said, Spin};
use crate::{Entry, Peer, Place, patiently};

/// Longer messages: slots for their descriptors, bytes for what is in them, and how many may be under way at most.
const BLOBS: u64 = 64;
const ARENA: usize = 8 << 20;
const UNDER_WAY: usize = 32;

/// Both directions of one end, for each kind of message.
struct Fire {
    words: (RingProducer<u64>, RingConsumer<u64>),
    records: (RingProducer<Record>, RingConsumer<Record>),
    blobs: (BlobProducer<u64>, BlobConsumer<u64>),
    /// Blobs that may be sent before the reader's place must be looked at again.
    room: u64,
    first: bool,
}

impl Push for RingProducer<u64> {
    #[inline(always)]
    fn try_push(&mut self, word: u64) -> bool {
        RingProducer::try_push(self, &word).is_ok()
    }
}

impl Pop for RingConsumer<u64> {
    #[inline(always)]
    fn try_pop(&mut self) -> Option<u64> {
        self.try_recv()
    }
}

impl PushRecords for RingProducer<Record> {
    #[inline(always)]
    fn push(&mut self, records: &[Record]) -> Result<(), Failure> {
        if let [one] = records {
            // Its own waiting sleeps; trying does not.
            while self.try_push(one).is_err() {
                std::hint::spin_loop();
            }
        } else {
            self.push_batch(records);
        }
        Ok(())
    }
}

impl PopRecords for RingConsumer<Record> {
    #[inline(always)]
    fn pop(&mut self, into: &mut [Record]) -> Result<usize, Failure> {
        loop {
            let count = if let [one] = into {
                self.try_recv().map_or(0, |record| {
                    *one = record;
                    1
                })
            } else {
                self.recv_batch(into)
            };
            if count > 0 {
                return Ok(count);
            }
            std::hint::spin_loop();
        }
    }
}

impl Messages for Fire {
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        // It has no backpressure here: the oldest message would be overwritten. A look at the reader is a system call.
        let most = (ARENA / 2 / message.len()).min(UNDER_WAY) as u64;
        while self.room == 0 {
            self.room = most.saturating_sub(self.blobs.0.reader_lag());
        }
        self.room -= 1;
        self.blobs.0.push(&0, message)?;
        Ok(())
    }

    fn recv(&mut self, message: &mut [u8]) -> Result<(), Failure> {
        let mut meta = 0;
        loop {
            match self.blobs.1.recv(&mut meta, message)? {
                Some(bytes) if bytes == message.len() => return Ok(()),
                Some(_) => return Err("a message of another length".into()),
                None => std::hint::spin_loop(),
            }
        }
    }
}

impl Peer for Fire {
    fn obey(&mut self, bench: &str, bytes: usize, n: u64) -> Result<Said, Failure> {
        let batch = if bench == "msgrate" { BATCH } else { 1 };
        match (bench, self.first) {
            ("pingpong", first) if bytes == 8 => {
                words::pingpong::<Spin>(first, &mut self.words.0, &mut self.words.1, n)
            }
            ("pingpong" | "stream", first) => {
                self.room = 0; // of messages of another length
                match bench {
                    "pingpong" => messages::pingpong(first, self, bytes, n),
                    _ => messages::stream(first, self, bytes, n),
                }
            }
            ("msgrate" | "msgrate_unbatched", true) => records::produce(&mut self.records.0, n, batch),
            ("msgrate" | "msgrate_unbatched", false) => records::consume(&mut self.records.1, n, batch),
            (other, _) => Err(format!("no bench {other} on ringfire").into()),
        }
    }
}

fn join(place: &Place<'_>) -> Result<Box<dyn Peer>, Failure> {
    let meeting = place.directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let path = |what: &str, rank: usize| PathBuf::from(format!("/dev/shm/{meeting}-{what}-{rank}"));
    let (mine, theirs) = (place.rank, 1 - place.rank);
    let lossless = |capacity: usize| {
        let flow = FlowControl::LosslessBackpressure;
        RingProducerBuilder::new(capacity as u64).flow_control(flow).max_readers(1)
    };
    let words = lossless(words::CAPACITY).build(path("words", mine))?;
    let records = lossless(records::CAPACITY).build(path("records", mine))?;
    let blobs = BlobProducerBuilder::new(BLOBS, ARENA).max_readers(1).build(path("blobs", mine))?;
    let words = (words, patiently(|| RingConsumer::attach(path("words", theirs)).ok())?);
    let records = (records, patiently(|| RingConsumer::attach(path("records", theirs)).ok())?);
    let blobs = (blobs, patiently(|| BlobConsumer::attach(path("blobs", theirs)).ok())?);
    Ok(Box::new(Fire { words, records, blobs, room: 0, first: place.rank == 0 }))
}

pub(crate) fn entry() -> Entry {
    let orders = "pingpong,msgrate,msgrate_unbatched,stream";
    Entry { kind: "ringfire", package: Some("ringfire"), threads: false, orders, join }
}
