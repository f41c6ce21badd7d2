//! Buffers that many read and write at a time.
//!
//! # Safety
//! The bytes of an open buffer are used as atomic words only, by all who hold it: its header says *open*, which changes
//! only while one has it alone. Words lie inside the buffer, because as many values lie in it as the length says and a
//! value is so many whole words.
#![allow(unsafe_code)]

use std::marker::PhantomData;

use sapwood_core::mem::{Atom, Mem, Ordering, Real};
use zerocopy::IntoBytes;

use super::buf::UniqueBuf;
use super::pool::Part;
use super::{Contents, Descriptor, Kept, ShareError, Shareable, Use};

type Word = <Real as Mem>::U32;
const WORD: usize = size_of::<Word>();

/// A buffer that many hold, read and write, in words of four bytes that are each whole: what one writes another reads,
/// at the latest once a message says so. Values of more than a word may be seen half written, and two that write one
/// value at a time may leave a mixture: who writes which part is for its holders to agree on.
///
/// ```
/// use sapwood_shm::bufs::Pool;
///
/// let mut pools = Pool::threads(4, 4096, 2)?;
/// let (theirs, ours) = (pools.pop().unwrap(), pools.pop().unwrap());
/// let grid = ours.alloc::<f32>(1000)?.into_open();
/// grid.fill(0.0);
/// let descriptor = grid.share()?;
/// let worker = std::thread::spawn(move || {
///     let grid = theirs.adopt_open::<f32>(descriptor).unwrap();
///     grid.write(500, &[1.0; 500]);
/// });
/// worker.join().unwrap();
/// assert_eq!((grid.get(499), grid.get(500)), (0.0, 1.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
/// Values are whole words; bytes and halves are put together by who stores them:
///
/// ```compile_fail
/// let pool = sapwood_shm::bufs::Pool::create(1, 64, 1).unwrap();
/// pool.alloc::<u8>(64).unwrap().into_open().set(0, 1);
/// ```
#[derive(Debug)]
pub struct OpenBuf<T: Shareable> {
    part: Part,
    len: usize,
    _values: PhantomData<T>,
}

impl<T: Shareable> OpenBuf<T> {
    const WORDS: usize = {
        assert!(size_of::<T>().is_multiple_of(WORD), "values of an open buffer are whole words of 4 bytes");
        size_of::<T>() / WORD
    };

    pub(super) fn new(part: Part, len: usize) -> Self {
        OpenBuf { part, len, _values: PhantomData }
    }

    /// Values.
    #[allow(clippy::len_without_is_empty)] // as long as it was made
    pub fn len(&self) -> usize {
        self.len
    }

    /// The words of values `from` to `from + count`; none in a forked child.
    fn words(&self, from: usize, count: usize) -> &[Word] {
        let end = from.checked_add(count);
        assert!(end.is_some_and(|end| end <= self.len), "{count} values from {from} on, of {}", self.len);
        if !self.part.inner.is_mine() {
            return &[];
        }
        let start = self.part.inner.depot.start(self.part.block).cast::<Word>();
        // SAFETY: inside the buffer, as just checked, which lives as long as the part; atomic words, for which any
        // bytes are valid (see the top).
        unsafe { std::slice::from_raw_parts(start.add(from * Self::WORDS).as_ptr(), count * Self::WORDS) }
    }

    /// Value `i`; zeros in a forked child.
    ///
    /// # Panics
    /// If there is none.
    #[inline]
    pub fn get(&self, i: usize) -> T {
        let mut value = [T::new_zeroed()];
        self.read(i, &mut value);
        value[0]
    }

    /// Writes value `i`. In a forked child it does nothing.
    ///
    /// # Panics
    /// If there is none.
    #[inline]
    pub fn set(&self, i: usize, value: T) {
        self.write(i, &[value]);
    }

    /// Copies the values from `from` on.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn read(&self, from: usize, into: &mut [T]) {
        let words = self.words(from, into.len());
        for (place, word) in into.iter_mut().zip(words.chunks_exact(Self::WORDS)) {
            let bytes = place_bytes(place);
            for (bytes, word) in bytes.chunks_exact_mut(WORD).zip(word) {
                bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
            }
        }
    }

    /// Writes values from `from` on. In a forked child it does nothing.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn write(&self, from: usize, values: &[T]) {
        let words = self.words(from, values.len());
        for (bytes, word) in values.as_bytes().chunks_exact(WORD).zip(words) {
            let value = bytes.try_into().map_or(0, u32::from_ne_bytes);
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Writes one value everywhere.
    pub fn fill(&self, value: T) {
        (0..self.len).for_each(|i| self.set(i, value));
    }

    /// All values, as they are now.
    pub fn to_vec(&self) -> Vec<T> {
        let mut all = vec![T::new_zeroed(); self.len];
        self.read(0, &mut all);
        all
    }

    /// A descriptor with which somebody else becomes a holder too, by [`adopt_open`](super::Pool::adopt_open).
    ///
    /// # Errors
    /// [`ShareError`].
    pub fn share(&self) -> Result<Descriptor, ShareError> {
        self.part.share()
    }

    /// A descriptor that takes this one's place.
    ///
    /// # Errors
    /// [`Kept`], with the buffer.
    pub fn into_descriptor(self) -> Result<Descriptor, Kept<Self>> {
        let len = self.len;
        self.part.hand_over().map_err(|(error, part)| Kept { error, buf: Self::new(part, len) })
    }

    /// The same buffer once more, in this process.
    ///
    /// # Errors
    /// [`ShareError::Forked`].
    pub fn try_clone(&self) -> Result<Self, ShareError> {
        Ok(Self::new(self.part.try_clone()?, self.len))
    }

    /// To have alone, if nobody else holds the buffer and no descriptor of it is on its way.
    ///
    /// # Errors
    /// The buffer, if there is another.
    pub fn into_unique(self) -> Result<UniqueBuf<T>, Self> {
        if !self.part.is_sole() {
            return Err(self);
        }
        self.part.say(Contents::of::<T>(Use::Still, self.len));
        Ok(UniqueBuf::new(self.part, self.len))
    }
}

fn place_bytes<T: Shareable>(place: &mut T) -> &mut [u8] {
    place.as_mut_bytes()
}
