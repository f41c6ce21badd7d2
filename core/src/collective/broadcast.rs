//! Broadcast inside one host, from any root.
//!
//! | scheme | when        | root                                              | others                                    |
//! |--------|-------------|---------------------------------------------------|-------------------------------------------|
//! | inline | N <= 32     | writes its line and returns                       | wait for the root's line                  |
//! | slot   | N <= 4 KiB  | copies into its slot, writes its line and returns | wait for the root's line, copy out        |
//! | chunks | otherwise   | keeps a ring of chunks full, waits for the last   | copy chunk by chunk, each step frees one  |
//!
//! In the short schemes the root waits for nobody; it catches up before its next operation, and learns there of calls
//! that did not agree. One synchronisation a broadcast (a chunk), N bytes read a rank.
//!
//! A root that dies leaves a line or steps that never come; a reader that dies leaves the root without a step. Both
//! are named by whoever waits.
//!
//! # Safety
//! Unsafe here is the copying between the caller's tensors and the root's buffers.
#![allow(unsafe_code)]

use core::panic::Location;

use crate::board::Region;
use crate::call::{Fingerprint, Kind, With, count_word};
use crate::dtype::Element;
use crate::mem::Mem;
use crate::member::{Fault, Member, Spot};
use crate::sizes::{Area, INLINE};
use crate::tensors::{Cursor, Tensors};

struct Work<'a, T: Element> {
    tensors: Tensors<'a, T>,
    call: Fingerprint,
    spot: Spot,
    root: usize,
}

impl<M: Mem, R: Region<M>> Member<M, R> {
    /// Gives everybody the root's tensors.
    #[inline]
    pub fn broadcast<T: Element>(
        &mut self,
        tensors: &mut [&mut [T]],
        root: usize,
        at: &'static Location<'static>,
    ) -> Result<(), Fault> {
        if root >= self.size {
            return Err(Fault::NoSuchRoot { root, size: self.size });
        }
        let count = count_word(tensors.iter().map(|t| t.len()));
        let parts = tensors.len() as u32;
        let tensors = Tensors::new(tensors);
        let total = tensors.total();
        let work = Work {
            call: Fingerprint::new(Kind::Broadcast, With::Nothing, Some(T::DTYPE), root, count),
            spot: Spot { at, tensors: parts, total: total as u64 },
            tensors,
            root,
        };
        let bytes = total.saturating_mul(size_of::<T>());
        let result = self.begin().and_then(|()| match bytes {
            ..=INLINE => self.in_line(&work),
            _ if bytes <= self.region.sizes().slot => self.in_slot(&work),
            _ => self.in_chunks(&work),
        });
        self.settle(result)
    }

    #[inline]
    fn in_line<T: Element>(&mut self, w: &Work<'_, T>) -> Result<(), Fault> {
        let (t, total) = (&w.tensors, w.tensors.total());
        let mut payload = [0; INLINE / 8];
        if self.me == w.root {
            // SAFETY: the scheme is for at most INLINE bytes.
            payload = unsafe { t.payload() };
        }
        self.publish(w.call, payload, 0, &w.spot);
        if self.me != w.root {
            self.only(w.root)?;
            let from = self.place(w.root).payload(self.n).cast();
            // SAFETY: the root's line was seen and stays until we publish n + 1.
            unsafe { t.copy_in(&mut Cursor::default(), 0, total, from) };
        }
        Ok(())
    }

    fn in_slot<T: Element>(&mut self, w: &Work<'_, T>) -> Result<(), Fault> {
        let (t, total, n) = (&w.tensors, w.tensors.total(), self.next());
        if self.me == w.root {
            let slot = self.region.buffer(self.me, Area::Slot(n)).write().cast();
            // SAFETY: the scheme is for at most a slot; ours of this parity has no reader, since everybody has
            // published n − 1.
            unsafe { t.copy_out(&mut Cursor::default(), 0, total, slot) };
        }
        self.publish(w.call, [0; INLINE / 8], 0, &w.spot);
        if self.me != w.root {
            self.only(w.root)?;
            let slot = self.region.buffer(w.root, Area::Slot(n)).read().cast();
            // SAFETY: the slot was whole before the line, which we have seen, and stays until we publish n + 1.
            unsafe { t.copy_in(&mut Cursor::default(), 0, total, slot) };
        }
        Ok(())
    }

    /// Everybody waits for everybody first, so that all calls are known to agree before the root depends on the
    /// others' steps. The root leaves when the last chunk was read: its block is free again.
    fn in_chunks<T: Element>(&mut self, w: &Work<'_, T>) -> Result<(), Fault> {
        let (t, total, root) = (&w.tensors, w.tensors.total(), w.root);
        let ring = self.region.sizes().block_chunks;
        let chunk = self.region.sizes().block / ring / size_of::<T>();
        let chunks = total.div_ceil(chunk);
        let len = |j: usize| chunk.min(total - j * chunk);
        let others = |me: usize, size: usize| (1..size).map(move |i| (me + i) % size);
        let mut cursor = Cursor::default();
        self.publish(w.call, [0; INLINE / 8], 0, &w.spot);
        self.everyone()?;
        for j in 0..chunks {
            let area = Area::Block(j % ring);
            if self.me == root {
                for q in others(root, self.size).filter(|_| j >= ring) {
                    self.await_step(q, (j - ring) as u64 + 1)?;
                }
                // SAFETY: a chunk fits; everybody has read what lay there.
                unsafe {
                    t.copy_out(&mut cursor, j * chunk, len(j), self.region.buffer(root, area).write().cast());
                }
                self.step(j as u64 + 1);
            } else {
                self.await_step(root, j as u64 + 1)?;
                self.touched = true;
                // SAFETY: the chunk is whole and stays until we publish the step that frees it.
                unsafe {
                    t.copy_in(&mut cursor, j * chunk, len(j), self.region.buffer(root, area).read().cast());
                }
                self.step(j as u64 + 1);
            }
        }
        if self.me == root {
            for q in others(root, self.size) {
                self.await_step(q, chunks as u64)?;
            }
        }
        Ok(())
    }
}
