//! The tensor descriptor: 88 bytes behind the header of a tensor's first frame.
//!
//! ```text
//!       0      1      2      3      4      5      6      7
//!    +------+------+-------------+------+------+-------------+
//!  0 | code | bits |    lanes    | ndim | order|      0      |   code: of `Dtype`; bits: of an element; lanes: 1;
//!    +------+------+-------------+------+------+-------------+   order: 0, row-major and dense
//!  8 |                       dims[0]                         |
//!    +-------------------------------------------------------+
//!    |                         ...                           |   dims from ndim on: 0
//!    +-------------------------------------------------------+
//! 64 |                       dims[7]                         |
//!    +-------------------------------------------------------+
//! 72 |                          0                            |   reserved: a hint where the tensor lies
//!    +-------------------------------------------------------+
//! 80 |                          0                            |   reserved: a checksum of the payload
//!    +-------------------------------------------------------+
//! ```
//!
//! Little endian. Every tensor has one encoding and every encoding that is accepted is that of one tensor. Rules, in
//! the order in which they are checked: code, bits, lanes, ndim, order, reserved bytes, dims that are not in use, and
//! last the product: the bytes of an element times all dims that are not 0 must fit 64 bits, *also if another dim is
//! 0*, because a shape whose other dims are nonsense is not an empty tensor but a lie. Strides stay off the wire.

use core::fmt;

use super::error::DescriptorError;
use crate::dtype::Dtype;

/// Most dimensions of a tensor.
pub const DIMS_MOST: usize = 8;
/// Bytes of an encoded descriptor.
pub const DESCRIPTOR_BYTES: usize = 88;
/// The same in words.
pub(super) const DESCRIPTOR_WORDS: usize = DESCRIPTOR_BYTES / 8;

/// Dtype and dims of a tensor: at most 8 dims, and a number of bytes that fits 64 bits. No dims is one element.
///
/// ```
/// use sapwood_core::dtype::Dtype;
/// use sapwood_core::wire::Descriptor;
///
/// let d = Descriptor::new(Dtype::F32, &[3, 5]).unwrap();
/// assert_eq!((d.bytes(), d.to_string()), (60, "f32[3, 5]".to_owned()));
/// assert_eq!(Descriptor::decode(&d.encode()), Ok(d));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    dtype: Dtype,
    ndim: u8,
    /// 0 from `ndim` on.
    dims: [u64; DIMS_MOST],
    bytes: u64,
}

impl Descriptor {
    /// The descriptor of a tensor of these dims, in elements.
    ///
    /// # Errors
    /// [`DescriptorError::Ndim`] (255 stands for every larger number too) and [`DescriptorError::Overflow`].
    pub fn new(dtype: Dtype, dims: &[u64]) -> Result<Descriptor, DescriptorError> {
        let mut all = [0; DIMS_MOST];
        let too_many = DescriptorError::Ndim { found: u8::try_from(dims.len()).unwrap_or(u8::MAX) };
        all.get_mut(..dims.len()).ok_or(too_many)?.copy_from_slice(dims);
        let bytes = product(dtype, dims)?;
        Ok(Descriptor { dtype, ndim: dims.len() as u8, dims: all, bytes })
    }

    /// One dim of `len` elements, which are `bytes` bytes.
    #[inline]
    pub(crate) fn flat(dtype: Dtype, len: u64, bytes: u64) -> Descriptor {
        debug_assert_eq!(len.checked_mul(dtype.size() as u64), Some(bytes));
        Descriptor { dtype, ndim: 1, dims: [len, 0, 0, 0, 0, 0, 0, 0], bytes }
    }

    /// The type of the elements.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Elements along each dimension, the slowest first.
    pub fn dims(&self) -> &[u64] {
        self.dims.get(..usize::from(self.ndim)).unwrap_or(&self.dims)
    }

    /// Bytes of all elements.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The descriptor as it travels.
    pub fn encode(&self) -> [u8; DESCRIPTOR_BYTES] {
        let mut bytes = [0; DESCRIPTOR_BYTES];
        for (to, word) in bytes.as_chunks_mut().0.iter_mut().zip(self.words()) {
            *to = word.to_le_bytes();
        }
        bytes
    }

    /// Reads a descriptor.
    ///
    /// # Errors
    /// One variant for each rule; the first that is broken.
    pub fn decode(bytes: &[u8; DESCRIPTOR_BYTES]) -> Result<Descriptor, DescriptorError> {
        let mut words = [0; DESCRIPTOR_WORDS];
        for (word, from) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*from);
        }
        Descriptor::from_words(&words)
    }

    /// The encoding, a word at a time.
    pub(super) fn words(&self) -> [u64; DESCRIPTOR_WORDS] {
        let first = u64::from(self.dtype.code())
            | u64::from(bits(self.dtype)) << 8
            | 1 << 16
            | u64::from(self.ndim) << 32;
        let [a, b, c, d, e, f, g, h] = self.dims;
        [first, a, b, c, d, e, f, g, h, 0, 0]
    }

    pub(super) fn from_words(words: &[u64; DESCRIPTOR_WORDS]) -> Result<Descriptor, DescriptorError> {
        use DescriptorError as E;
        let [first, a, b, c, d, e, f, g, h, hint, checksum] = *words;
        let dims = [a, b, c, d, e, f, g, h];
        let dtype = Dtype::from_code(first as u8).ok_or(E::Dtype { found: first as u8 })?;
        let (found, expected) = ((first >> 8) as u8, bits(dtype));
        if found != expected {
            return Err(E::Bits { found, expected });
        }
        let lanes = (first >> 16) as u16;
        if lanes != 1 {
            return Err(E::Lanes { found: lanes });
        }
        let ndim = (first >> 32) as u8;
        let (used, unused) = dims.split_at_checked(usize::from(ndim)).ok_or(E::Ndim { found: ndim })?;
        let order = (first >> 40) as u8;
        if order != 0 {
            return Err(E::Order { found: order });
        }
        for (at, found) in [(6, first >> 48), (72, hint), (80, checksum)] {
            if found != 0 {
                return Err(E::Reserved { at, found });
            }
        }
        for (i, found) in unused.iter().enumerate() {
            if *found != 0 {
                return Err(E::UnusedDim { index: i.saturating_add(used.len()), ndim, found: *found });
            }
        }
        Ok(Descriptor { dtype, ndim, dims, bytes: product(dtype, used)? })
    }
}

fn bits(dtype: Dtype) -> u8 {
    dtype.size().saturating_mul(8) as u8
}

/// Bytes of all elements.
fn product(dtype: Dtype, dims: &[u64]) -> Result<u64, DescriptorError> {
    let (mut bytes, mut empty) = (dtype.size() as u64, false);
    for (index, dim) in dims.iter().enumerate() {
        if *dim == 0 {
            empty = true;
            continue;
        }
        bytes = bytes.checked_mul(*dim).ok_or(DescriptorError::Overflow { index, dim: *dim, bytes })?;
    }
    Ok(if empty { 0 } else { bytes })
}

/// `f32[3, 5]`
impl fmt::Display for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.dims())
    }
}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
