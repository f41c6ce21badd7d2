//! Links over a pipe in memory keep the contract, in whatever pieces the pipe hands bytes out.
#![allow(missing_docs)]

use std::time::Duration;

use sapwood_core::link::{
    Broken, Deadline, Framed, Interest, Link, PIPE_LEAST, Peer, Pipe, PipeTooSmall, Ready, RecvError,
    SendError, Source, Waited,
};
use sapwood_core::testing::{MemoryPipe, Rig, contract};
use sapwood_core::wire::{Encoder, Head, Limits, Stream};

struct Memory {
    capacity: usize,
    limits: Limits,
    seed: Option<u64>,
}

impl Rig for Memory {
    type L = Framed<MemoryPipe>;

    fn pair(&self) -> (Self::L, Self::L) {
        let (a, b) = MemoryPipe::pair(self.capacity);
        match self.seed {
            Some(seed) => MemoryPipe::frame(a.splitting(seed), b.splitting(seed ^ 0xF0F0), self.limits),
            None => MemoryPipe::frame(a, b, self.limits),
        }
    }

    fn more_than_fits(&self) -> usize {
        self.capacity
    }

    fn kill(&self, mut link: Self::L) {
        link.pipe_mut().kill();
    }

    fn inject(&self, link: &mut Self::L, bytes: &[u8]) {
        link.pipe_mut().write(&[bytes]).expect("there is room");
        link.pipe_mut().notify();
    }

    fn stream(&self) -> Stream {
        Stream { rank: 0, lane: 0, epoch: 1, first: u64::MAX - 1 }
    }
}

#[test]
fn the_contract_over_pipes_of_all_lengths() {
    for capacity in [1024, 1500, 4096, 1 << 16] {
        contract(&Memory { capacity, limits: Limits::DEFAULT, seed: None });
    }
}

#[test]
fn the_contract_in_short_frames() {
    for max_frame in [17, 50, 100] {
        let limits = Limits { max_frame, ..Limits::DEFAULT };
        contract(&Memory { capacity: 4096, limits, seed: None });
    }
}

#[test]
fn the_contract_in_random_pieces() {
    let turns = if std::env::var_os("SAPWOOD_FULL").is_some() { 100 } else { 5 };
    for seed in 1..=turns {
        contract(&Memory { capacity: 1024 << (seed % 4), limits: Limits::DEFAULT, seed: Some(seed * 7919) });
    }
}

/// No deadline is needed to find out: each end sees that the other one is deaf.
#[test]
fn two_ends_that_both_send_learn_it_at_once() {
    let never = Deadline::after(Duration::from_secs(3600));
    for (capacity, len) in [(512, 385), (1024, 1 << 20), (4096, 4096)] {
        let (mut a, mut b) = MemoryPipe::links(capacity);
        let payload = vec![3; len];
        let results = std::thread::scope(|s| {
            let there = s.spawn(|| b.send(2, Source::Bytes(&payload), never));
            let here = a.send(1, Source::Bytes(&payload), never);
            [here, there.join().expect("no panic")]
        });
        for (tag, result) in (1..).zip(results) {
            match result {
                Err(SendError::BothSending { part, theirs }) => {
                    assert_eq!((part.tag, part.total, theirs), (tag, len as u64, len as u64));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn the_smallest_pipe_carries_a_link_and_a_smaller_one_none() {
    let (mut a, mut b) = MemoryPipe::links(PIPE_LEAST);
    let soon = Deadline::after(Duration::from_secs(30));
    let payload: Vec<u8> = (0..10_000u32).map(|i| (i * 7) as u8).collect();
    let mut into = vec![0; payload.len()];
    std::thread::scope(|s| {
        s.spawn(|| a.send(1, Source::Bytes(&payload), soon).expect("sent"));
        b.recv(&mut into, soon).expect("received");
    });
    assert!(into == payload);
    let (pipe, _) = MemoryPipe::pair(PIPE_LEAST - 1);
    let refused = Framed::new(pipe, Stream::default(), Stream::default(), Limits::DEFAULT).map(|_| ());
    assert_eq!(refused, Err(PipeTooSmall { bytes: PIPE_LEAST - 1 }));
}

/// A peer that sends beats as fast as they are read, for ever, and reads nothing.
struct Beating {
    encoder: Encoder,
    head: Head,
    at: usize,
    beats: u64,
}

impl Pipe for Beating {
    fn outgoing(&self) -> usize {
        1024
    }
    fn incoming(&self) -> usize {
        1024
    }
    fn room(&mut self, _wanted: usize) -> usize {
        100
    }
    fn write(&mut self, _parts: &[&[u8]]) -> Result<(), Broken> {
        panic!("there is room for a close alone, and nobody closes")
    }
    fn read(&mut self, parts: &mut [&mut [u8]]) -> Result<usize, Broken> {
        if self.at == self.head.bytes().len() {
            self.beats += 1;
            assert!(self.beats < 100_000_000, "a call forgot its deadline");
            self.encoder.beat(self.beats, &mut self.head).expect("open");
            self.at = 0;
        }
        let from = &self.head.bytes()[self.at..];
        let n = parts[0].len().min(from.len());
        parts[0][..n].copy_from_slice(&from[..n]);
        self.at += n;
        Ok(n)
    }
    fn notify(&mut self) {}
    fn peer(&self) -> Peer {
        Peer::Open
    }
    fn wait(&mut self, interest: Interest, _until: u64) -> Result<Waited, Broken> {
        assert!(interest.read, "there is always something to read");
        Ok(Waited::Look)
    }
    fn shut(&mut self) {}
}

#[test]
fn a_peer_that_only_beats_keeps_no_call_from_its_deadline() {
    let stream = Stream::default();
    let beating =
        || Beating { encoder: Encoder::new(stream, Limits::DEFAULT), head: Head::new(), at: 0, beats: 0 };
    let link = || Framed::new(beating(), stream, stream, Limits::DEFAULT).expect("large enough");
    let short = Deadline::after(Duration::from_millis(5));
    // Its drop would write.
    let mut link = std::mem::ManuallyDrop::new(link());
    assert_eq!(link.try_recv(), Ok(None));
    let error = link.recv(&mut [], short);
    assert!(matches!(error, Err(RecvError::Deadline { .. })), "{error:?}");
    let error = link.send(1, Source::Bytes(&[0; 500]), short);
    assert!(matches!(error, Err(SendError::Deadline { .. })), "{error:?}");
    assert_eq!(link.poll(Ready { recv: true, send: true }, short), Ok(Ready::default()));
    assert!(link.stats().received.frames > 64);
}
