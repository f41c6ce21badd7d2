//! The newest value: one writer, any number of readers, who write nothing and take nothing away.
//!
//! Value n lies in cell n mod [`CELLS`], and `newest` says n:
//!
//! ```text
//!  newest            cells: 4 stripes of words each, every word on its own an atomic
//! +--------+   +-------------+-------------+-------------+-------------+
//! |   n    |   |  cell 0     |  cell 1     |  cell 2     |  cell 3     |
//! +--------+   +-------------+-------------+-------------+-------------+
//! ```
//!
//! | step                          | who    | how                                                                  |
//! |-------------------------------|--------|----------------------------------------------------------------------|
//! | fence                         | writer | Release: `newest` = n comes before what is written for n + 1         |
//! | write cell (n + 1) mod 4      | writer | relaxed stores, word by word                                         |
//! | newest = n + 1                | writer | Release                                                              |
//! | n = newest                    | reader | Acquire                                                              |
//! | copy cell n mod 4             | reader | relaxed loads, word by word                                          |
//! | fence                         | reader | Acquire                                                              |
//! | m = newest; m − n <= 2 ?      | reader | relaxed load: the writer of value n + 4 had published n + 3 before   |
//!
//! **A copy that passes the last look is whole.** Cell n mod 4 is next overwritten for value n + 4, after the writer
//! has published n + 3 and made its fence (LatestWriterFence). If a reader has seen one word of n + 4, then its own
//! fence (LatestReaderFence) comes after the writer's, and its last look finds n + 3 or more. LatestPublish (Release)
//! with LatestLook (Acquire): whoever finds n finds all of value n. Copying word by word through atomics is what makes
//! the race that the last look rules out no undefined behaviour (a racing memcpy would be).
//!
//! A reader repeats only if the writer has published three values while it copied one, and gives up after a bounded
//! number of turns ([`ReadError::Overtaken`]).
//!
//! | who dies                           | what is left             | what others see                               |
//! |------------------------------------|--------------------------|-----------------------------------------------|
//! | the writer, while it writes n + 1  | a torn cell that no n names | value n, for good or until a successor writes |
//! | the writer, after `newest` = n + 1 | nothing                  | value n + 1                                   |
//! | a reader, anywhere                 | nothing                  |                                               |
//!
//! A bad word makes a reader copy another cell: values may be wrong, nothing else.
//!
//! # Safety
//! Values travel as words: `Shareable` says that any bytes are a value and that all of its bytes are initialised.
#![allow(unsafe_code)]

use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;

use crate::mem::{Atom, Bug, Mem, Ordering, Site};
use crate::shareable::Shareable;

/// Values that are kept at a time.
pub const CELLS: usize = 4;
/// Turns after which a reader gives up.
const TURNS: usize = 64;
const WORD: usize = 8;

/// Words of a cell for values of type `T`.
pub const fn words<T>() -> usize {
    size_of::<T>().div_ceil(WORD)
}

/// Lends the memory of the values. Zeroed memory holds value 0: zeros.
///
/// # Safety
/// Every clone lends the same words for as long as it lives, and different words for different numbers: `cell` is
/// below [`CELLS`] and `i` below [`words`].
pub unsafe trait Region<M: Mem, T: Shareable>: Clone {
    /// The number of the newest value. On a line of its own.
    fn newest(&self) -> &M::U64;
    /// A word of a cell.
    fn word(&self, cell: usize, i: usize) -> &M::U64;
}

/// Why a reader has no value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// The writer published values faster than they could be copied, in every one of so many turns.
    Overtaken {
        /// How many.
        turns: usize,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ReadError::Overtaken { turns } = self;
        write!(
            f,
            "the writer overtook the reader {turns} times: the values change faster than they can be copied"
        )
    }
}

impl core::error::Error for ReadError {}

/// Publishes values.
pub struct Writer<M: Mem, T: Shareable, R: Region<M, T>> {
    region: R,
    newest: u64,
    _values: PhantomData<fn(T) -> M>,
}

/// Reads the newest value.
#[derive(Clone)]
pub struct Reader<M: Mem, T: Shareable, R: Region<M, T>> {
    region: R,
    _values: PhantomData<fn(M) -> T>,
}

impl<M: Mem, T: Shareable, R: Region<M, T>> fmt::Debug for Writer<M, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("newest", &self.newest).finish()
    }
}

impl<M: Mem, T: Shareable, R: Region<M, T>> fmt::Debug for Reader<M, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("newest", &self.region.newest().load(Ordering::Relaxed)).finish()
    }
}

impl<M: Mem, T: Shareable, R: Region<M, T>> Writer<M, T, R> {
    /// The writer of memory that is new, or whose last writer is gone.
    ///
    /// # Safety
    /// Nobody else writes, and everything that a former writer did happened before.
    pub unsafe fn attach(region: R) -> Self {
        let newest = region.newest().load(Ordering::Relaxed);
        Writer { region, newest, _values: PhantomData }
    }

    /// Makes `value` the newest one. Never waits.
    #[inline]
    pub fn publish(&mut self, value: &T) {
        let next = self.newest.wrapping_add(1);
        let cell = if M::broken(Bug::LatestSameCell) { self.newest } else { next } as usize % CELLS;
        // Pairs with LatestReaderFence.
        M::fence(M::at(Site::LatestWriterFence, Ordering::Release));
        let mut chunks = value.as_bytes().chunks_exact(WORD);
        let mut i = 0;
        for chunk in &mut chunks {
            let word = u64::from_ne_bytes(chunk.try_into().unwrap_or_default());
            self.region.word(cell, i).store(word, Ordering::Relaxed);
            i += 1;
        }
        let rest = chunks.remainder();
        if !rest.is_empty() {
            let mut last = [0; WORD];
            last[..rest.len()].copy_from_slice(rest);
            self.region.word(cell, i).store(u64::from_ne_bytes(last), Ordering::Relaxed);
        }
        // Pairs with LatestLook.
        self.region.newest().store(next, M::at(Site::LatestPublish, Ordering::Release));
        self.newest = next;
    }

    /// How many values were published.
    pub fn published(&self) -> u64 {
        self.newest
    }
}

impl<M: Mem, T: Shareable, R: Region<M, T>> Reader<M, T, R> {
    /// A reader.
    pub fn attach(region: R) -> Self {
        Reader { region, _values: PhantomData }
    }

    /// The number of the newest value: 0 as long as none was published.
    #[inline]
    pub fn published(&self) -> u64 {
        self.region.newest().load(M::at(Site::LatestLook, Ordering::Acquire))
    }

    /// The newest value and its number.
    ///
    /// # Errors
    /// [`ReadError::Overtaken`].
    #[inline]
    pub fn read(&self) -> Result<(u64, T), ReadError> {
        for _ in 0..TURNS {
            // Pairs with LatestPublish.
            let n = self.region.newest().load(M::at(Site::LatestLook, Ordering::Acquire));
            let value = self.copy(n as usize % CELLS);
            // Pairs with LatestWriterFence.
            M::fence(M::at(Site::LatestReaderFence, Ordering::Acquire));
            let now = self.region.newest().load(Ordering::Relaxed);
            if M::broken(Bug::LatestNoSecondLook) || now.wrapping_sub(n) < CELLS as u64 - 1 {
                return Ok((n, value));
            }
        }
        Err(ReadError::Overtaken { turns: TURNS })
    }

    #[inline(always)]
    fn copy(&self, cell: usize) -> T {
        let mut value = MaybeUninit::<T>::zeroed();
        let bytes: *mut u8 = value.as_mut_ptr().cast();
        for i in 0..words::<T>() {
            let word = self.region.word(cell, i).load(Ordering::Relaxed).to_ne_bytes();
            let len = WORD.min(size_of::<T>() - i * WORD);
            // SAFETY: `len` bytes from byte i * WORD on lie inside the value, and are ours alone.
            unsafe { bytes.add(i * WORD).copy_from_nonoverlapping(word.as_ptr(), len) };
        }
        // SAFETY: all bytes are initialised, and any bytes are a T.
        unsafe { value.assume_init() }
    }
}
