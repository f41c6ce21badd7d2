//! The floor: what two ranks need at least, written by hand, without checks, errors or other ranks. Plain code, not a
//! proven bound.
//!
//! # Safety
//! Works on raw bytes of a segment that both ranks have mapped. Who writes what when is the protocol of each function:
//! a flag is raised (Release) after the bytes were written and read (Acquire) before they are looked at.
#![allow(unsafe_code)]

use std::error::Error;
use std::time::Duration;

use sapwood_core::mem::{Atom, Mem, Ordering, Real};
use sapwood_shm::{Seat, Segment, Spec};

use crate::ring::meeting;

type U64 = <Real as Mem>::U64;

/// The longest tensor, in bytes.
pub(crate) const MOST: usize = 64 << 20;
/// Two pages of flags, then for each rank: a line with payload, bounce buffers, a tensor.
const FLAGS: usize = 8192;
const LINE: usize = 128;
/// A chunk of a long private tensor, and how many of them are in flight.
const CHUNK: usize = 32 << 10;
const CHUNKS: usize = 4;
const BOUNCE: usize = CHUNK * CHUNKS;

/// One of the two ranks.
pub(crate) struct Floor {
    segment: Segment,
    _seat: Seat,
    rank: usize,
    private: Vec<f32>,
    /// Flags raised so far; both ranks count alike.
    count: u64,
    chunks: u64,
}

impl Floor {
    pub(crate) fn join(rank: usize, ranks: usize) -> Result<Floor, Box<dyn Error>> {
        if ranks != 2 {
            return Err("the floor is written for two ranks".into());
        }
        let body = FLAGS + 2 * (BOUNCE + MOST);
        let spec = Spec { kind: 0xF100, fingerprint: 1, seats: 2, body: body as u64, reserve: 0 };
        let (segment, seat) = Segment::enter_named(&meeting()?, &spec, rank, Duration::from_secs(20))?;
        let mut floor =
            Floor { segment, _seat: seat, rank, private: vec![0.0; MOST / 4], count: 0, chunks: 0 };
        floor.barrier();
        if rank == 0 {
            floor.segment.unlink()?;
        }
        Ok(floor)
    }

    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    fn flag(&self, which: usize, rank: usize) -> &U64 {
        // SAFETY: inside the flags' pages; an atomic word, for which zeros are valid.
        unsafe { &*self.segment.body_ptr().add((2 * which + rank) * LINE).cast::<U64>() }
    }

    /// The payload beside flag 0 of a rank.
    fn beside(&self, rank: usize, parity: u64) -> *mut f32 {
        self.segment.body_ptr().wrapping_add(rank * LINE + 8 + (parity & 1) as usize * 32).cast()
    }

    fn bounce(&self, rank: usize, chunk: u64) -> *mut f32 {
        let at = FLAGS + rank * BOUNCE + (chunk % CHUNKS as u64) as usize * CHUNK;
        self.segment.body_ptr().wrapping_add(at).cast()
    }

    fn tensor(&self, rank: usize) -> *mut f32 {
        self.segment.body_ptr().wrapping_add(FLAGS + 2 * BOUNCE + rank * MOST).cast()
    }

    pub(crate) fn payload(&mut self, bench: &str, n: usize) -> &mut [f32] {
        if bench.ends_with("resident") {
            // SAFETY: our own tensor; the other rank touches it only inside an operation.
            unsafe { std::slice::from_raw_parts_mut(self.tensor(self.rank), n) }
        } else {
            &mut self.private[..n]
        }
    }

    fn await_flag(&self, which: usize, count: u64) {
        let flag = self.flag(which, 1 - self.rank);
        while flag.load(Ordering::Acquire) < count {
            Real::spin();
        }
    }

    fn barrier(&mut self) {
        self.count += 1;
        self.flag(1, self.rank).store(self.count, Ordering::Release);
        self.await_flag(1, self.count);
    }

    pub(crate) fn operation(&mut self, bench: &str, n: usize) -> Result<(), Box<dyn Error>> {
        match (bench, n) {
            ("barrier", _) => self.barrier(),
            ("pingpong", _) => self.pingpong(),
            ("allreduce", ..=8) => self.in_line(n),
            ("allreduce", _) => self.in_chunks(n),
            ("allreduce_resident", _) => self.in_place(n),
            ("bcast", _) => self.broadcast(n),
            (other, _) => return Err(format!("no floor for {other}").into()),
        }
        Ok(())
    }

    /// There and back: half of it is one line's way.
    fn pingpong(&mut self) {
        self.count += 1;
        if self.rank == 0 {
            self.flag(2, 0).store(self.count, Ordering::Release);
            self.await_flag(2, self.count);
        } else {
            self.await_flag(2, self.count);
            self.flag(2, 1).store(self.count, Ordering::Release);
        }
    }

    fn in_line(&mut self, n: usize) {
        self.count += 1;
        let (mine, theirs) = (self.beside(self.rank, self.count), self.beside(1 - self.rank, self.count));
        // SAFETY: up to 8 floats beside our flag, in the place of this parity: the other rank has read what lay there
        // two operations ago before it raised its flag for the last one.
        unsafe { mine.copy_from_nonoverlapping(self.private.as_ptr(), n) };
        self.flag(0, self.rank).store(self.count, Ordering::Release);
        self.await_flag(0, self.count);
        for i in 0..n {
            // SAFETY: raised after it was written.
            self.private[i] += unsafe { *theirs.add(i) };
        }
    }

    fn in_chunks(&mut self, n: usize) {
        let (step, first) = (CHUNK / 4, self.chunks);
        let total = n.div_ceil(step) as u64;
        let len = |j: u64| step.min(n - j as usize * step);
        let mut sent = 0;
        for j in 0..total {
            while sent < total && sent < j + CHUNKS as u64 {
                // The place is free once the other rank has read what lay there before.
                self.await_flag(4, (first + sent + 1).saturating_sub(CHUNKS as u64));
                // SAFETY: a chunk of the private tensor to a place that nobody reads now.
                unsafe {
                    let from = self.private.as_ptr().add(sent as usize * step);
                    self.bounce(self.rank, first + sent).copy_from_nonoverlapping(from, len(sent));
                }
                sent += 1;
                self.flag(3, self.rank).store(first + sent, Ordering::Release);
            }
            self.await_flag(3, first + j + 1);
            // SAFETY: the other rank's chunk is whole, and stays until our flag 4 has passed it.
            let theirs = unsafe { std::slice::from_raw_parts(self.bounce(1 - self.rank, first + j), len(j)) };
            let own = &mut self.private[j as usize * step..];
            own.iter_mut().zip(theirs).for_each(|(a, b)| *a += b);
            self.flag(4, self.rank).store(first + j + 1, Ordering::Release);
        }
        self.chunks = first + total;
    }

    fn in_place(&mut self, n: usize) {
        self.barrier();
        let half = n / 2;
        let (from, len) = if self.rank == 0 { (0, half) } else { (half, n - half) };
        let (mine, theirs) = (self.tensor(self.rank), self.tensor(1 - self.rank));
        for i in from..from + len {
            // SAFETY: between the two barriers each rank touches its half of both tensors only.
            unsafe {
                let sum = *mine.add(i) + *theirs.add(i);
                *mine.add(i) = sum;
                *theirs.add(i) = sum;
            }
        }
        self.barrier();
    }

    fn broadcast(&mut self, n: usize) {
        let (step, first) = (CHUNK / 4, self.chunks);
        for j in 0..n.div_ceil(step) as u64 {
            let (at, len) = (j as usize * step, step.min(n - j as usize * step));
            if self.rank == 0 {
                self.await_flag(4, (first + j + 1).saturating_sub(CHUNKS as u64));
                // SAFETY: as in `in_chunks`.
                unsafe {
                    self.bounce(0, first + j).copy_from_nonoverlapping(self.private.as_ptr().add(at), len)
                };
                self.flag(3, 0).store(first + j + 1, Ordering::Release);
            } else {
                self.await_flag(3, first + j + 1);
                // SAFETY: as in `in_chunks`.
                unsafe {
                    self.private.as_mut_ptr().add(at).copy_from_nonoverlapping(self.bounce(0, first + j), len)
                };
                self.flag(4, 1).store(first + j + 1, Ordering::Release);
            }
        }
        self.chunks = first + n.div_ceil(step) as u64;
        // Both sides' counts go on together, whoever sent.
        self.flag(3, self.rank).store(self.chunks, Ordering::Release);
        self.flag(4, self.rank).store(self.chunks, Ordering::Release);
    }
}
