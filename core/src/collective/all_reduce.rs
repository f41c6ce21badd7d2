//! All-reduce inside one host. Cost for p ranks and a tensor of N bytes (private memory unless said):
//!
//! | scheme   | when                       | synchronisations  | bytes that cross between cores, a rank                |
//! |----------|----------------------------|-------------------|-------------------------------------------------------|
//! | inline   | N <= 32                    | 1                 | 64 (p − 1)                                            |
//! | flat     | N <= 4 KiB, p > 2          | 1                 | N (p − 1)                                             |
//! | swap     | p = 2                      | 1 a chunk         | N                                                     |
//! | blocks   | otherwise                  | 2 a block         | 2 N (p − 1) / p                                       |
//! | resident | all tensors are resident   | 2                 | 2 N (p − 1) / p, and no copy in or out                |
//!
//! Every element is folded in rank order, ((x0 op x1) op x2) ..., by every scheme, whatever the chunking: the bits
//! depend on values and rank order alone (NaN payloads excepted). Flat all-read and reduce-scatter + all-gather are
//! textbook (Thakur, Rabenseifner, Gropp, "Optimization of collective communication operations in MPICH", 2005);
//! `swap` is our own:
//!
//! ```text
//!   operation k:    rank 0 writes A, reads B        rank 1 writes B, reads A
//!   operation k+1:  rank 0 writes B, reads A        rank 1 writes A, reads B
//! ```
//! What a rank has read it writes next time: its stores hit lines that its core owns already, only the reads cross,
//! and no acknowledgement is needed, because the only reader of a buffer is its next writer. Long tensors do this chunk
//! by chunk with a few chunks in flight: one pass reads the peer's chunk j, combines it, and refills the same lines
//! with this rank's chunk j + K.
//!
//! | rank dies (swap, blocks)           | what is left               | survivors                                              |
//! |------------------------------------|----------------------------|--------------------------------------------------------|
//! | while it fills a buffer            | its step is not published  | never read the buffer; the operation fails             |
//! | after a step                       | the chunk is whole         | use it, and fail at the next one                       |
//! | while it writes a resident tensor  | torn elements in tensors   | never pass the closing rendezvous: the error says that the tensor is unspecified; see `member` |
//!
//! A bad peer can make results wrong, no more: a token is read once, looked up once among the tensors of its own rank,
//! and what was found is used. So whatever it names, and however often it changes that, kernels get memory that is
//! mapped, and never the same memory for two ranks.
//!
//! # Safety
//! Unsafe here is the copying between the caller's tensors and the buffers. Who may touch a buffer when is argued at
//! each scheme; lengths never exceed what `Sizes` promises for the buffer.
#![allow(unsafe_code)]

use core::mem::MaybeUninit;
use core::panic::Location;

use super::combine::{BuiltIn, Closure, Combine};
use super::cut;
use crate::board::Region;
use crate::call::{Fingerprint, Kind, count_word};
use crate::dtype::Element;
use crate::mem::Mem;
use crate::member::{Fault, Member, Spot};
use crate::reduce::{Kernel, Op, apart};
use crate::sizes::Scheme;
use crate::sizes::{Area, INLINE};
use crate::tensors::{Cursor, Tensors};

/// What the ranks of a long all-reduce tell each other at its start: payload word 0.
const PRIVATE: u64 = u64::MAX;

/// Ranks of a group whose tensors are reduced where they lie, at most; in a larger one they go through blocks.
const RESIDENT_RANKS: usize = 256;

struct Work<'a, T: Element> {
    tensors: Tensors<'a, T>,
    call: Fingerprint,
    spot: Spot,
}

/// Where the ranks' resident tensors are mapped here, by rank: in private memory.
struct Mapped<T> {
    starts: [MaybeUninit<*mut T>; RESIDENT_RANKS],
    /// So many are known.
    ranks: usize,
}

impl<T> Mapped<T> {
    /// None is known yet. Costs nothing, since most operations never ask.
    #[inline(always)]
    fn new() -> Self {
        Mapped { starts: [const { MaybeUninit::uninit() }; RESIDENT_RANKS], ranks: 0 }
    }

    fn push(&mut self, start: *mut T) {
        self.starts[self.ranks].write(start);
        self.ranks += 1;
    }

    #[inline(always)]
    fn of(&self, rank: usize) -> *mut T {
        // SAFETY: the first `ranks` were written, by `push`.
        unsafe { self.starts[..self.ranks][rank].assume_init() }
    }
}

/// Fails the group if the caller's closure unwinds through us.
struct Unwinding<'a, M: Mem, R: Region<M>>(&'a mut Member<M, R>);

impl<M: Mem, R: Region<M>> Drop for Unwinding<'_, M, R> {
    fn drop(&mut self) {
        self.0.closure_panicked();
    }
}

impl<M: Mem, R: Region<M>> Member<M, R> {
    /// Reduces everybody's tensors with `op`, element by element; everybody gets the result, in place. Says how many
    /// ranks contributed.
    #[inline]
    pub fn all_reduce<T: Element>(
        &mut self,
        tensors: &mut [&mut [T]],
        op: Op,
        at: &'static Location<'static>,
    ) -> Result<usize, Fault> {
        let kernel = Kernel::new(op).map_err(Fault::Unsupported)?;
        let result = self.reduce(tensors, &mut BuiltIn { op, kernel }, at);
        self.settle(result)
    }

    /// The same with a closure `f(accumulator, next)`, which is given equal pieces of the ranks' tensors, in rank
    /// order. If it panics the group is over: the others get [`Fault::Failed`].
    pub fn all_reduce_with<T: Element>(
        &mut self,
        tensors: &mut [&mut [T]],
        f: impl Fn(&mut [T], &[T]),
        at: &'static Location<'static>,
    ) -> Result<usize, Fault> {
        let guard = Unwinding(self);
        let result = guard.0.reduce(tensors, &mut Closure::new(f), at);
        let result = guard.0.settle(result);
        core::mem::forget(guard);
        result
    }

    #[inline]
    fn reduce<T: Element, C: Combine<T>>(
        &mut self,
        list: &mut [&mut [T]],
        c: &mut C,
        at: &'static Location<'static>,
    ) -> Result<usize, Fault> {
        let count = count_word(list.iter().map(|t| t.len()));
        let parts = list.len() as u32;
        let tensors = Tensors::new(list);
        let total = tensors.total();
        let work = Work {
            call: Fingerprint::new(Kind::AllReduce, c.with(), Some(T::DTYPE), 0, count),
            spot: Spot { at, tensors: parts, total: total as u64 },
            tensors,
        };
        self.begin()?;
        if self.size == 1 {
            return self.alone(&work, c);
        }
        match self.region.sizes().scheme(total.saturating_mul(size_of::<T>()), self.size, C::BUILT_IN) {
            Scheme::Inline => self.inline(&work, c),
            Scheme::Flat => self.flat(&work, c),
            Scheme::Swap(w) => self.swap(&work, c, w),
            Scheme::Blocks => self.blocks(&work, c),
        }
    }

    fn alone<T: Element>(&mut self, w: &Work<'_, T>, c: &mut impl Combine<T>) -> Result<usize, Fault> {
        self.publish(w.call, [0; INLINE / 8], 0, &w.spot);
        let contributors = self.everyone()?;
        // SAFETY: the pieces are the caller's own.
        w.tensors.pieces(&mut Cursor::default(), 0, w.tensors.total(), |p, n, _| unsafe {
            c.fold(n, 1, |_| p, 1, |_| p);
        });
        Ok(contributors)
    }

    /// The payload rides in the line: whoever sees the sequence has it.
    #[inline]
    fn inline<T: Element>(&mut self, w: &Work<'_, T>, c: &mut impl Combine<T>) -> Result<usize, Fault> {
        let (t, total) = (&w.tensors, w.tensors.total());
        // SAFETY: the scheme is for at most INLINE bytes.
        let payload = unsafe { t.payload() };
        self.publish(w.call, payload, 0, &w.spot);
        let contributors = self.everyone()?;
        let (n, me, size) = (self.n, self.me, self.size);
        let theirs = |q: usize| self.place(q).payload(n).cast::<T>();
        t.pieces(&mut Cursor::default(), 0, total, |p, len, at| {
            // Never our own line: whoever read it may have taken it along, and it would have to come back.
            let from = |q: usize| if q == me { p.cast_const() } else { theirs(q).wrapping_add(at) };
            // SAFETY: all lines of operation n were seen and stay until we publish n + 1.
            unsafe { c.fold(len, size, from, 1, |_| p) };
        });
        Ok(contributors)
    }

    /// Slots go by the parity of the operation, like lines, and are reused under the same argument.
    fn flat<T: Element>(&mut self, w: &Work<'_, T>, c: &mut impl Combine<T>) -> Result<usize, Fault> {
        let (t, total, n) = (&w.tensors, w.tensors.total(), self.next());
        let mine = self.region.buffer(self.me, Area::Slot(n)).write().cast();
        // SAFETY: the scheme is for at most a slot; our slot of this parity has no reader, since everybody has
        // published n − 1.
        unsafe { t.copy_out(&mut Cursor::default(), 0, total, mine) };
        self.publish(w.call, [0; INLINE / 8], 0, &w.spot);
        let contributors = self.everyone()?;
        let (region, me, size) = (&self.region, self.me, self.size);
        let theirs = |q: usize| region.buffer(q, Area::Slot(n)).read().cast::<T>();
        t.pieces(&mut Cursor::default(), 0, total, |p, len, at| {
            let from = |q: usize| if q == me { p.cast_const() } else { theirs(q).wrapping_add(at) };
            // SAFETY: every slot was whole before its line, which we have seen, and stays until we publish n + 1.
            unsafe { c.fold(len, size, from, 1, |_| p) };
        });
        Ok(contributors)
    }

    /// Tells everybody whether our tensor is resident, and learns it of everybody. `filled` steps are published if it
    /// is not. Says how many contribute, and whether all are resident: then `mapped` knows where.
    fn open<T: Element>(
        &mut self,
        w: &Work<'_, T>,
        filled: u64,
        mapped: &mut Mapped<T>,
    ) -> Result<(usize, bool), Fault> {
        let bytes = w.tensors.total() * size_of::<T>();
        let own = w.tensors.only().and_then(|start| Some((start, self.token(w)?)));
        if let Some((start, _)) = own {
            self.lend(start.addr(), bytes);
        }
        let (token, steps) = own.map_or((PRIVATE, filled), |(_, token)| (token, 0));
        self.publish(w.call, [token, 0, 0, 0], steps, &w.spot);
        let contributors = self.everyone()?;
        let Some((own, _)) = own else { return Ok((contributors, false)) };
        let mut tokens = [const { MaybeUninit::uninit() }; RESIDENT_RANKS];
        for (q, token) in tokens.iter_mut().enumerate().take(self.size) {
            // Volatile, and once: a bad peer may write another one even now.
            // SAFETY: all lines of this operation were seen.
            let theirs = unsafe { self.place(q).payload(self.n).cast::<u64>().read_volatile() };
            if theirs == PRIVATE && q != self.me {
                self.take_back();
                return Ok((contributors, false));
            }
            token.write(theirs);
        }
        for (q, token) in tokens[..self.size].iter().enumerate() {
            // SAFETY: the loop above has written the first `size`.
            let theirs = || self.region.resident(q, unsafe { token.assume_init() }, bytes);
            let start = if q == self.me { Some(own) } else { theirs().map(|p| p.cast::<T>()) };
            match start {
                Some(start) if start.is_aligned() => mapped.push(start),
                _ => return Err(Fault::BadToken { rank: q }),
            }
        }
        Ok((contributors, true))
    }

    /// The token of a resident tensor that is long enough to be reduced where it lies.
    fn token<T: Element>(&self, w: &Work<'_, T>) -> Option<u64> {
        let bytes = w.tensors.total() * size_of::<T>();
        let start = w.tensors.only()?;
        let long = bytes >= self.region.sizes().resident_from && self.size <= RESIDENT_RANKS;
        if long { self.region.token(start.cast(), bytes) } else { None }
    }

    /// Two ranks, chunk by chunk. Chunk x of the running count goes through place x % K of side (rank + x / K) % 2, so
    /// what this rank writes as x + K it has read as x.
    fn swap<T: Element, C: Combine<T>>(
        &mut self,
        w: &Work<'_, T>,
        c: &mut C,
        setting: usize,
    ) -> Result<usize, Fault> {
        let window = self.region.sizes().windows[setting];
        let (t, total, k) = (&w.tensors, w.tensors.total(), window.count);
        let chunk = window.chunk / size_of::<T>();
        let (chunks, first) = (total.div_ceil(chunk), self.turns[setting]);
        let (me, peer) = (self.me, 1 - self.me);
        let place = |side: usize, x: u64| {
            let side = (side as u64 + x / k as u64) & 1;
            (side as usize, Area::Window(setting, (x % k as u64) as usize))
        };
        let len = |j: usize| chunk.min(total - j * chunk);
        let (mut out, mut inn) = (Cursor::default(), Cursor::default());
        let private = self.token(w).is_none();
        let ahead = chunks.min(k);
        if private {
            let (side, area) = place(me, first);
            // SAFETY: a chunk fits its place; its last reader was this rank, in chunk `first - K`.
            unsafe { t.copy_out(&mut out, 0, len(0), self.region.buffer(side, area).write().cast()) };
        }
        let mut mapped = Mapped::new();
        let (contributors, resident) = self.open(w, 1, &mut mapped)?;
        if resident {
            return self.resident(w, c, contributors, &mapped);
        }
        self.turns[setting] = first.wrapping_add(chunks as u64);
        for j in usize::from(private)..ahead {
            let (side, area) = place(me, first.wrapping_add(j as u64));
            // SAFETY: as above.
            unsafe { t.copy_out(&mut out, j * chunk, len(j), self.region.buffer(side, area).write().cast()) };
            self.step(j as u64 + 1);
        }
        for j in 0..chunks {
            self.await_step(peer, j as u64 + 1)?;
            self.touched = true;
            let (side, area) = place(peer, first.wrapping_add(j as u64));
            let buffer = self.region.buffer(side, area);
            let theirs = buffer.read().cast::<T>();
            let refill = if j + k < chunks { len(j + k) } else { 0 };
            if let (Some(start), true) = (t.only(), refill > 0) {
                let own = start.wrapping_add(j * chunk);
                let (a, b) = if me == 0 { (own.cast_const(), theirs) } else { (theirs, own.cast_const()) };
                let next = start.wrapping_add((j + k) * chunk);
                // SAFETY: the peer's chunk is whole and will not be written before we refill it; ranges of the tensor
                // are disjoint chunks.
                unsafe { c.pair_refill(own, a, b, len(j), buffer.write().cast(), next, refill) };
                self.step((j + k) as u64 + 1);
                continue;
            }
            t.pieces(&mut inn, j * chunk, len(j), |own, n, at| {
                let theirs = theirs.wrapping_add(at);
                let (a, b) = if me == 0 { (own.cast_const(), theirs) } else { (theirs, own.cast_const()) };
                // SAFETY: as above.
                unsafe { c.pair(own, a, b, n) };
            });
            if refill > 0 {
                // SAFETY: as above; `out` walks the chunks in order, ahead of `inn`.
                unsafe { t.copy_out(&mut out, (j + k) * chunk, refill, buffer.write().cast()) };
                self.step((j + k) as u64 + 1);
            }
        }
        Ok(contributors)
    }

    /// Reduce-scatter and all-gather, block by block. Step 2 b + 1: this rank's part of block b lies in its block;
    /// step 2 b + 2: the slice that it has reduced lies in its result. The block is overwritten after everybody's
    /// 2 b + 2 (they have read it), the result after everybody's 2 b + 3 (they have gathered it).
    fn blocks<T: Element, C: Combine<T>>(&mut self, w: &Work<'_, T>, c: &mut C) -> Result<usize, Fault> {
        let total = w.tensors.total();
        let block = self.region.sizes().block / size_of::<T>();
        let (mut out, mut inn) = (Cursor::default(), Cursor::default());
        let private = self.token(w).is_none();
        if private {
            self.fill_block(w, &mut out, 0, block.min(total));
        }
        let mut mapped = Mapped::new();
        let (contributors, resident) = self.open(w, 1, &mut mapped)?;
        if resident {
            return self.resident(w, c, contributors, &mapped);
        }
        for b in 0..total.div_ceil(block) {
            let (at, len) = (b * block, block.min(total - b * block));
            if b > 0 || !private {
                self.fill_block(w, &mut out, at, len);
                self.step(2 * b as u64 + 1);
            }
            self.reduce_slice(w, c, &mut inn, b, at, len)?;
        }
        Ok(contributors)
    }

    /// Copies our part of a block to where the others find it: all but our own slice.
    fn fill_block<T: Element>(&self, w: &Work<'_, T>, out: &mut Cursor, at: usize, len: usize) {
        let size = size_of::<T>();
        let to = self.region.buffer(self.me, Area::Block(0)).write().cast::<T>();
        let own = cut(len, size, self.me, self.size)..cut(len, size, self.me + 1, self.size);
        for (from, until) in [(0, own.start), (own.end, len)] {
            // SAFETY: len is at most a block; nobody reads ours any more (see `blocks`).
            unsafe { w.tensors.copy_out(out, at + from, until - from, to.add(from)) };
        }
    }

    fn reduce_slice<T: Element, C: Combine<T>>(
        &mut self,
        w: &Work<'_, T>,
        c: &mut C,
        inn: &mut Cursor,
        b: usize,
        at: usize,
        len: usize,
    ) -> Result<(), Fault> {
        let (me, ranks, size) = (self.me, self.size, size_of::<T>());
        let others = move || (1..ranks).map(move |i| (me + i) % ranks);
        for q in others() {
            self.await_step(q, 2 * b as u64 + 1)?;
        }
        self.touched = true;
        let (from, until) = (cut(len, size, me, ranks), cut(len, size, me + 1, ranks));
        let region = &self.region;
        let result = region.buffer(me, Area::Result).write().cast::<T>();
        let part = |q: usize| region.buffer(q, Area::Block(0)).read().cast::<T>().wrapping_add(from);
        let mut own = *inn; // the gathering below starts from the beginning of the block again
        w.tensors.pieces(&mut own, at + from, until - from, |p, n, o| {
            let src = |q: usize| if q == me { p.cast_const() } else { part(q).wrapping_add(o) };
            // SAFETY: everybody's part of this block is whole until we publish the next step; the slice fits a
            // result, which nobody reads any more (see `blocks`).
            unsafe { c.fold(n, ranks, src, 2, |d| if d == 0 { p } else { result.wrapping_add(o) }) };
        });
        self.step(2 * b as u64 + 2);
        for q in others() {
            self.await_step(q, 2 * b as u64 + 2)?;
        }
        for q in (0..ranks).filter(|q| *q != me) {
            let (from, until) = (cut(len, size, q, ranks), cut(len, size, q + 1, ranks));
            let theirs = self.region.buffer(q, Area::Result).read().cast();
            // SAFETY: q's slice is whole until we publish the next block's first step.
            unsafe { w.tensors.copy_in(inn, at + from, until - from, theirs) };
        }
        Ok(())
    }

    /// All tensors lie in shared memory: each rank reduces its slice of all of them and writes it to all of them.
    fn resident<T: Element, C: Combine<T>>(
        &mut self,
        w: &Work<'_, T>,
        c: &mut C,
        contributors: usize,
        mapped: &Mapped<T>,
    ) -> Result<usize, Fault> {
        let (total, size) = (w.tensors.total(), self.size);
        let from = cut(total, size_of::<T>(), self.me, size);
        let until = cut(total, size_of::<T>(), self.me + 1, size);
        let slice = |q: usize| mapped.of(q).wrapping_add(from);
        M::touch((until - from) * size_of::<T>());
        let read = |q: usize| slice(q).cast_const();
        debug_assert!(apart(until - from, size, &read, size, &slice), "tensors of two ranks overlap");
        // SAFETY: everybody has published this operation, so nobody else touches this slice of any tensor until it
        // has seen us at the rendezvous. Each tensor is aligned, mapped with `total` elements, and overlaps no other:
        // the region sets them aside for each rank.
        unsafe { c.fold(until - from, size, read, size, slice) };
        self.rendezvous()?;
        Ok(contributors)
    }
}
