//! Buffers that one has alone, and buffers that many read.
//!
//! # Safety
//! Slices of a buffer's bytes are made here. The protocol says whose they are: of a [`UniqueBuf`] this process's, which
//! has one name for it, with no other seat among the holders and no descriptor on its way; nobody else can come to it
//! but by a descriptor that its owner makes, which takes the `UniqueBuf`. Of a [`SharedBuf`] nobody writes: its header
//! says *still*, which changes only while one has it alone, and an [`OpenBuf`] is made of *open* ones only. As many
//! values as the length says lie in the buffer, as `alloc` and `adopt` have checked; buffers begin on cache lines, and
//! values are aligned to 64 at most. Any bytes are a [`Shareable`] value. A forked child gets no bytes.
//! What a bad peer can do about a block's word, and what holds all the same, is argued at the top of `pool`.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use super::open::OpenBuf;
use super::pool::Part;
use super::{Contents, Descriptor, Kept, ShareError, Shareable, Use};

/// A buffer that nobody else holds: to be filled. Dropping it frees it.
///
/// ```
/// use sapwood_shm::bufs::Pool;
///
/// let pool = Pool::create(1, 4096, 2)?;
/// let mut buf = pool.alloc::<f32>(100)?;
/// buf.fill(0.0);
/// buf[7] = 1.0;
/// assert_eq!(buf.iter().sum::<f32>(), 1.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct UniqueBuf<T: Shareable> {
    part: Part,
    len: usize,
    _values: PhantomData<T>,
}

/// A buffer that many can hold, and all read. The last one that drops it frees it.
#[derive(Debug)]
pub struct SharedBuf<T: Shareable> {
    part: Part,
    len: usize,
    _values: PhantomData<T>,
}

impl<T: Shareable> UniqueBuf<T> {
    pub(super) fn new(part: Part, len: usize) -> Self {
        UniqueBuf { part, len, _values: PhantomData }
    }

    /// To be read by many.
    pub fn into_shared(self) -> SharedBuf<T> {
        SharedBuf::new(self.part, self.len)
    }

    /// To be read and written by many, value by value.
    pub fn into_open(self) -> OpenBuf<T> {
        self.part.say(Contents::of::<T>(Use::Open, self.len));
        OpenBuf::new(self.part, self.len)
    }

    /// Hands the buffer over: from here on its descriptor holds it. Whoever [adopts](super::Pool::adopt) that is alone
    /// with it and can [write](SharedBuf::into_unique).
    ///
    /// # Errors
    /// [`Kept`], with the buffer: in a forked child.
    pub fn into_descriptor(self) -> Result<Descriptor, Kept<Self>> {
        let len = self.len;
        self.part.hand_over().map_err(|(error, part)| Kept { error, buf: Self::new(part, len) })
    }
}

impl<T: Shareable> Deref for UniqueBuf<T> {
    type Target = [T];
    #[inline]
    fn deref(&self) -> &[T] {
        slice(&self.part, self.len)
    }
}

impl<T: Shareable> DerefMut for UniqueBuf<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        slice_mut(&mut self.part, self.len)
    }
}

impl<T: Shareable> SharedBuf<T> {
    pub(super) fn new(part: Part, len: usize) -> Self {
        SharedBuf { part, len, _values: PhantomData }
    }

    /// A descriptor with which somebody else becomes a holder too. The buffer is held until it is adopted.
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

    /// To write, if nobody else holds the buffer and no descriptor of it is on its way.
    ///
    /// # Errors
    /// The buffer, if there is another.
    pub fn into_unique(self) -> Result<UniqueBuf<T>, Self> {
        if self.part.is_sole() { Ok(UniqueBuf::new(self.part, self.len)) } else { Err(self) }
    }

    /// The values, to write, if nobody else holds the buffer and no descriptor of it is on its way.
    pub fn get_mut(&mut self) -> Option<&mut [T]> {
        let alone = self.part.is_sole();
        alone.then(|| slice_mut(&mut self.part, self.len))
    }
}

impl<T: Shareable> Deref for SharedBuf<T> {
    type Target = [T];
    #[inline]
    fn deref(&self) -> &[T] {
        slice(&self.part, self.len)
    }
}

/// The values of a buffer that nobody writes but who has `part` for writing.
#[inline]
fn slice<T: Shareable>(part: &Part, len: usize) -> &[T] {
    if !part.inner.is_mine() {
        return &[];
    }
    // SAFETY: see the top; the pool lives as long as the part.
    unsafe { std::slice::from_raw_parts(part.inner.depot.start(part.block).cast::<T>().as_ptr(), len) }
}

/// The values of a buffer that nobody else has.
#[inline]
fn slice_mut<T: Shareable>(part: &mut Part, len: usize) -> &mut [T] {
    if !part.inner.is_mine() {
        return &mut [];
    }
    // SAFETY: see the top; the pool lives as long as the part, which is borrowed for writing.
    unsafe { std::slice::from_raw_parts_mut(part.inner.depot.start(part.block).cast::<T>().as_ptr(), len) }
}
