//! A pipe between two threads: bounded buffers behind a mutex.

use core::fmt;
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use crate::link::{Broken, Framed, Interest, Peer, Pipe, Waited};
use crate::mem::{Mem, Real};
use crate::wire::{Limits, Stream};

struct State {
    /// By the end that writes.
    ways: [VecDeque<u8>; 2],
    ends: [Peer; 2],
    /// How often each end was woken.
    woken: [u64; 2],
}

struct Shared {
    capacity: usize,
    state: Mutex<State>,
    bell: Condvar,
}

/// One end of a pipe in memory, for tests. Bytes are there at once, but a waiter is woken by
/// [`notify`](Pipe::notify) alone: who forgets it waits until the deadline.
///
/// With a seed it reads in pieces of random length, and gives room of random length beyond what was asked for.
pub struct MemoryPipe {
    shared: Arc<Shared>,
    me: usize,
    random: Option<u64>,
}

impl fmt::Debug for MemoryPipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        let held = [state.ways[0].len(), state.ways[1].len()];
        write!(f, "MemoryPipe(end {}, {held:?} of {} bytes, {:?})", self.me, self.shared.capacity, state.ends)
    }
}

impl MemoryPipe {
    /// Two ends that hold `capacity` bytes in each direction.
    pub fn pair(capacity: usize) -> (MemoryPipe, MemoryPipe) {
        let ways = [VecDeque::with_capacity(capacity), VecDeque::with_capacity(capacity)];
        let state = Mutex::new(State { ways, ends: [Peer::Open; 2], woken: [0; 2] });
        let shared = Arc::new(Shared { capacity, state, bell: Condvar::new() });
        let end = |me| MemoryPipe { shared: shared.clone(), me, random: None };
        (end(0), end(1))
    }

    /// Two ends of a link over such a pipe, of ranks 0 and 1.
    ///
    /// # Panics
    /// If the capacity is too small for a link.
    pub fn links(capacity: usize) -> (Framed<MemoryPipe>, Framed<MemoryPipe>) {
        let (a, b) = MemoryPipe::pair(capacity);
        MemoryPipe::frame(a, b, Limits::DEFAULT)
    }

    /// A link over these two ends, of ranks 0 and 1.
    ///
    /// # Panics
    /// If the capacity is too small for a link.
    pub fn frame(a: MemoryPipe, b: MemoryPipe, limits: Limits) -> (Framed<MemoryPipe>, Framed<MemoryPipe>) {
        let stream = |rank| Stream { rank, lane: 0, epoch: 1, first: u64::MAX - 1 };
        let link = |pipe, me, peer| {
            Framed::new(pipe, stream(me), stream(peer), limits).expect("a capacity that carries frames")
        };
        (link(a, 0, 1), link(b, 1, 0))
    }

    /// The same end, which reads in random pieces.
    pub fn splitting(mut self, seed: u64) -> MemoryPipe {
        self.random = Some(seed | 1);
        self
    }

    /// This end is dead from now on: nothing that it does has an effect, and the peer finds the proof.
    pub fn kill(&mut self) {
        self.leave(Peer::Dead);
    }

    fn leave(&mut self, how: Peer) {
        let me = self.me;
        let mut state = self.state();
        if state.ends[me] == Peer::Open {
            state.ends[me] = how;
            state.woken[1 - me] += 1;
        }
        drop(state);
        self.shared.bell.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A random number from `least` to `most`; `most` without a seed.
    fn pick(&mut self, least: usize, most: usize) -> usize {
        let Some(x) = &mut self.random else { return most };
        // Marsaglia, "Xorshift RNGs", Journal of Statistical Software 2003.
        *x ^= *x << 13;
        *x ^= *x >> 7;
        *x ^= *x << 17;
        least + (*x >> 16) as usize % (most - least + 1)
    }

    fn is_open(&self) -> bool {
        self.state().ends[self.me] == Peer::Open
    }
}

impl Pipe for MemoryPipe {
    fn outgoing(&self) -> usize {
        self.shared.capacity
    }

    fn incoming(&self) -> usize {
        self.shared.capacity
    }

    fn room(&mut self, wanted: usize) -> usize {
        if !self.is_open() {
            return 0;
        }
        let room = self.shared.capacity - self.state().ways[self.me].len();
        if room > wanted { self.pick(wanted, room) } else { room }
    }

    fn write(&mut self, parts: &[&[u8]]) -> Result<(), Broken> {
        if !self.is_open() {
            return Ok(());
        }
        let mut state = self.state();
        let way = &mut state.ways[self.me];
        parts.iter().for_each(|p| way.extend(*p));
        match way.len() <= self.shared.capacity {
            true => Ok(()),
            false => Err(Broken { what: "more was written than there was room for" }),
        }
    }

    fn read(&mut self, parts: &mut [&mut [u8]]) -> Result<usize, Broken> {
        if !self.is_open() {
            return Ok(0);
        }
        let from = 1 - self.me;
        let most = parts.iter().map(|p| p.len()).sum::<usize>().min(self.state().ways[from].len());
        let n = self.pick(most.min(1), most);
        let mut state = self.state();
        let mut bytes = state.ways[from].drain(..n);
        for to in parts.iter_mut().flat_map(|p| p.iter_mut()).take(n) {
            *to = bytes.next().unwrap_or_default();
        }
        drop(bytes);
        Ok(n)
    }

    fn notify(&mut self) {
        self.state().woken[1 - self.me] += 1;
        self.shared.bell.notify_all();
    }

    fn peer(&self) -> Peer {
        self.state().ends[1 - self.me]
    }

    fn wait(&mut self, interest: Interest, until: u64) -> Result<Waited, Broken> {
        let (me, peer) = (self.me, 1 - self.me);
        let mut state = self.state();
        // Ends when something of the interest is there, the peer is gone, or the time is up.
        loop {
            let readable = interest.read && !state.ways[peer].is_empty();
            let writable =
                interest.write > 0 && state.ways[me].len() + interest.write <= self.shared.capacity;
            if readable || writable || state.ends[peer] != Peer::Open {
                return Ok(Waited::Look);
            }
            let seen = state.woken[me];
            while state.woken[me] == seen {
                let left = until.saturating_sub(Real::now());
                if left == 0 {
                    return Ok(Waited::TimedOut);
                }
                let slept = self.shared.bell.wait_timeout(state, Duration::from_nanos(left));
                state = slept.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
            }
        }
    }

    fn shut(&mut self) {
        self.leave(Peer::Gone);
    }
}

impl Drop for MemoryPipe {
    fn drop(&mut self) {
        self.leave(Peer::Gone);
    }
}
