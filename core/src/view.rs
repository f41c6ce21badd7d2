//! Tensors in the caller's memory: dtype, dims and strides, and the way through them in row-major order.
//!
//! A view is checked once, when it is made: every element that it can reach lies inside the slice, and those of a
//! [`ViewMut`] lie in different places. After that its bytes are a row, whatever the strides: cut into *runs*, pieces
//! that lie together in memory, in the order in which elements travel. Dims that lie together are merged, so a dense
//! tensor is one run, a block of columns has a run for each row, and a transposed matrix one for each element.
//!
//! ```text
//!  dims [3, 2], strides [4, 1], first 1            runs of 2 elements
//!  memory   . a b .  . c d .  . e f .      ---->   a b | c d | e f
//! ```
//!
//! # Safety
//! Elements are read and written as bytes, which [`Element`] allows: no padding, every bit pattern a value. The runs
//! of a [`ViewMut`] are handed out as exclusive slices side by side, which the check for overlap allows.
#![allow(unsafe_code)]

use core::fmt;
use core::marker::PhantomData;

use crate::dtype::{Dtype, Element};
use crate::wire::{DIMS_MOST, Descriptor, DescriptorError};

/// Why these dims and strides make no view of this slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ViewError {
    /// More dims than 8, or more bytes than can be counted.
    Shape(DescriptorError),
    /// Another number of strides than of dims.
    Strides {
        /// Dims.
        dims: usize,
        /// Strides.
        strides: usize,
    },
    /// A dense view has as many elements as its slice, not more and not fewer.
    Length {
        /// Elements of the view.
        elements: usize,
        /// Elements of the slice.
        len: usize,
    },
    /// Some element would lie outside the slice.
    Outside {
        /// Least index of an element.
        lowest: i128,
        /// Greatest index of an element.
        highest: i128,
        /// Elements of the slice.
        len: usize,
    },
    /// Two elements of a view to be written might lie in the same place: a stride is not longer than the way that all
    /// shorter ones go together.
    Overlap {
        /// The dim whose stride is too short.
        dim: usize,
        /// Its stride.
        stride: isize,
        /// How far the dims of shorter strides reach, in elements.
        reach: u128,
    },
}

/// The way through a tensor: loops around runs.
#[derive(Clone, Copy)]
struct Nest {
    descriptor: Descriptor,
    /// Bytes in all.
    bytes: usize,
    /// Bytes of a run; 0 only if there are none at all.
    run: usize,
    /// Where the first run begins, in bytes of the slice.
    first: usize,
    /// Loops around a run.
    loops: usize,
    /// Turns and bytes of a turn, the slowest loop first.
    turns: [(usize, isize); DIMS_MOST],
}

impl Nest {
    fn dense(dtype: Dtype, dims: &[usize], len: usize) -> Result<Nest, ViewError> {
        let descriptor = describe(dtype, dims)?;
        let bytes = descriptor.bytes() as usize;
        let elements = bytes / dtype.size();
        if elements != len {
            return Err(ViewError::Length { elements, len });
        }
        Ok(Nest { descriptor, bytes, run: bytes, first: 0, loops: 0, turns: [(0, 0); DIMS_MOST] })
    }

    fn strided(
        dtype: Dtype,
        dims: &[usize],
        strides: &[isize],
        first: usize,
        len: usize,
    ) -> Result<Nest, ViewError> {
        if dims.len() != strides.len() {
            return Err(ViewError::Strides { dims: dims.len(), strides: strides.len() });
        }
        let descriptor = describe(dtype, dims)?;
        let bytes = descriptor.bytes() as usize;
        let mut nest = Nest { descriptor, bytes, run: 0, first: 0, loops: 0, turns: [(0, 0); DIMS_MOST] };
        if bytes == 0 {
            return Ok(nest);
        }
        // No dim is 0, so their product, and with it each dim, is below 2^63; and so is each stride: no sum of eight
        // products comes near 2^127, since where one dim is large the others are small.
        let way = |dim: &usize, stride: &isize| (*dim as i128 - 1) * *stride as i128;
        let ways = || dims.iter().zip(strides).map(|(d, s)| way(d, s));
        let lowest = first as i128 + ways().filter(|w| *w < 0).sum::<i128>();
        let highest = first as i128 + ways().filter(|w| *w > 0).sum::<i128>();
        if lowest < 0 || highest >= len as i128 {
            return Err(ViewError::Outside { lowest, highest, len });
        }
        // Strides of dims that move at all are shorter than the slice, so that bytes don't overflow either.
        nest.first = first * dtype.size();
        nest.run = dtype.size();
        let moving = dims.iter().zip(strides).filter(|(dim, _)| **dim > 1);
        for (dim, stride) in moving.rev() {
            let step = stride * dtype.size() as isize;
            match nest.turns[..nest.loops].first_mut() {
                // The loop outside goes on where the one inside ends.
                Some((turns, inner)) if step == *inner * *turns as isize => *turns *= dim,
                None if step == nest.run as isize => nest.run *= dim,
                _ => {
                    nest.turns.copy_within(..nest.loops, 1);
                    nest.turns[0] = (*dim, step);
                    nest.loops += 1;
                }
            }
        }
        Ok(nest)
    }

    /// Where the run lies that holds byte `at` of the row, and how the way goes on from there.
    fn seek(&self, at: usize) -> Place {
        let mut place =
            Place { left: self.bytes.saturating_sub(at), skip: 0, offset: self.first, index: [0; DIMS_MOST] };
        if at == 0 || place.left == 0 {
            return place;
        }
        place.skip = at % self.run;
        let mut number = at / self.run;
        for (i, (turns, step)) in self.turns[..self.loops].iter().enumerate().rev() {
            place.index[i] = number % turns;
            number /= turns;
            place.offset = place.offset.wrapping_add_signed(place.index[i] as isize * step);
        }
        place
    }
}

/// A place in the row.
#[derive(Clone, Copy)]
struct Place {
    /// Bytes of the row from here on.
    left: usize,
    /// Bytes of this run that are behind us.
    skip: usize,
    /// Where this run begins, in bytes of the slice. In the slice as long as `left` is not 0.
    offset: usize,
    index: [usize; DIMS_MOST],
}

impl Place {
    /// The rest of this run, as an offset in the slice and a length; then goes to the next.
    #[inline]
    fn next(&mut self, nest: &Nest) -> Option<(usize, usize)> {
        if self.left == 0 {
            return None;
        }
        let found = (self.offset + self.skip, nest.run - self.skip);
        self.left -= found.1;
        self.skip = 0;
        for (i, (turns, step)) in nest.turns[..nest.loops].iter().enumerate().rev() {
            self.index[i] += 1;
            self.offset = self.offset.wrapping_add_signed(*step);
            if self.index[i] < *turns {
                break;
            }
            self.index[i] = 0;
            self.offset = self.offset.wrapping_add_signed(-(step * *turns as isize));
        }
        Some(found)
    }
}

/// A tensor to be read.
///
/// ```
/// use sapwood_core::view::View;
///
/// let matrix = [1u8, 2, 3, 4, 5, 6];
/// let transposed = View::strided(&matrix, 0, &[3, 2], &[1, 3]).unwrap();
/// let mut row = [0; 6];
/// assert_eq!(transposed.copy_to(0, &mut row), 6);
/// assert_eq!(row, [1, 4, 2, 5, 3, 6]);
/// ```
#[derive(Clone, Copy)]
pub struct View<'a> {
    memory: &'a [u8],
    nest: Nest,
}

/// A tensor to be written: no two of its elements lie in the same place.
///
/// ```
/// use sapwood_core::view::ViewMut;
///
/// let mut matrix = [0u8; 6];
/// let mut column = ViewMut::strided(&mut matrix, 1, &[2], &[3]).unwrap();
/// assert_eq!(column.copy_from(0, &[7, 8]), 2);
/// assert_eq!(matrix, [0, 7, 0, 0, 8, 0]);
/// ```
pub struct ViewMut<'a> {
    memory: &'a mut [u8],
    nest: Nest,
}

impl<'a> View<'a> {
    /// All of a slice, as one dim.
    #[inline]
    pub fn new<T: Element>(slice: &'a [T]) -> View<'a> {
        let memory = bytes_of(slice);
        View { memory, nest: flat(T::DTYPE, slice.len(), memory.len()) }
    }

    /// All of a slice, dense and row-major.
    ///
    /// # Errors
    /// [`ViewError::Shape`] and [`ViewError::Length`].
    pub fn dense<T: Element>(slice: &'a [T], dims: &[usize]) -> Result<View<'a>, ViewError> {
        Ok(View { memory: bytes_of(slice), nest: Nest::dense(T::DTYPE, dims, slice.len())? })
    }

    /// The elements `first + i0 * strides[0] + i1 * strides[1] + …` of a slice. Strides count elements; they may be
    /// negative, or 0 to repeat.
    ///
    /// # Errors
    /// [`ViewError`], all but `Length` and `Overlap`.
    pub fn strided<T: Element>(
        slice: &'a [T],
        first: usize,
        dims: &[usize],
        strides: &[isize],
    ) -> Result<View<'a>, ViewError> {
        let nest = Nest::strided(T::DTYPE, dims, strides, first, slice.len())?;
        Ok(View { memory: bytes_of(slice), nest })
    }

    /// Dtype and dims.
    #[inline]
    pub fn descriptor(&self) -> &Descriptor {
        &self.nest.descriptor
    }

    /// Bytes of all elements.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.nest.bytes
    }

    /// The whole row, if it lies together.
    #[inline]
    pub fn as_slice(&self) -> Option<&'a [u8]> {
        (self.nest.run == self.nest.bytes).then(|| &self.memory[self.nest.first..][..self.nest.bytes])
    }

    /// The runs from byte `at` of the row on. The first is the rest of the run that holds it.
    #[inline]
    pub fn runs(&self, at: usize) -> Runs<'a, '_> {
        Runs { memory: self.memory, nest: &self.nest, place: self.nest.seek(at) }
    }

    /// Copies the row from byte `at` on, as much as there is and `to` has room for; says how many bytes.
    pub fn copy_to(&self, at: usize, to: &mut [u8]) -> usize {
        let mut done = 0;
        for run in self.runs(at) {
            let n = run.len().min(to.len() - done);
            to[done..done + n].copy_from_slice(&run[..n]);
            done += n;
            if done == to.len() {
                break;
            }
        }
        done
    }
}

impl<'a> ViewMut<'a> {
    /// All of a slice, as one dim.
    #[inline]
    pub fn new<T: Element>(slice: &'a mut [T]) -> ViewMut<'a> {
        let len = slice.len();
        let memory = bytes_of_mut(slice);
        ViewMut { nest: flat(T::DTYPE, len, memory.len()), memory }
    }

    /// All of a slice, dense and row-major.
    ///
    /// # Errors
    /// [`ViewError::Shape`] and [`ViewError::Length`].
    pub fn dense<T: Element>(slice: &'a mut [T], dims: &[usize]) -> Result<ViewMut<'a>, ViewError> {
        let nest = Nest::dense(T::DTYPE, dims, slice.len())?;
        Ok(ViewMut { memory: bytes_of_mut(slice), nest })
    }

    /// The elements `first + i0 * strides[0] + i1 * strides[1] + …` of a slice. Strides count elements and may be
    /// negative.
    ///
    /// # Errors
    /// [`ViewError`], all but `Length`. [`ViewError::Overlap`] also where strides interlock so that no two elements
    /// meet after all: what slicing, transposing and reversing makes of a dense tensor never does.
    pub fn strided<T: Element>(
        slice: &'a mut [T],
        first: usize,
        dims: &[usize],
        strides: &[isize],
    ) -> Result<ViewMut<'a>, ViewError> {
        let nest = Nest::strided(T::DTYPE, dims, strides, first, slice.len())?;
        if nest.bytes > 0 {
            apart(dims, strides)?;
        }
        Ok(ViewMut { memory: bytes_of_mut(slice), nest })
    }

    /// Dtype and dims.
    #[inline]
    pub fn descriptor(&self) -> &Descriptor {
        &self.nest.descriptor
    }

    /// Bytes of all elements.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.nest.bytes
    }

    /// The same tensor, to be read.
    #[inline]
    pub fn view(&self) -> View<'_> {
        View { memory: self.memory, nest: self.nest }
    }

    /// The same tensor for a while.
    #[inline]
    pub fn reborrow(&mut self) -> ViewMut<'_> {
        ViewMut { memory: self.memory, nest: self.nest }
    }

    /// The whole row, if it lies together.
    #[inline]
    pub fn as_mut_slice(&mut self) -> Option<&mut [u8]> {
        (self.nest.run == self.nest.bytes).then(|| &mut self.memory[self.nest.first..][..self.nest.bytes])
    }

    /// The runs from byte `at` of the row on. The first is the rest of the run that holds it.
    #[inline]
    pub fn runs_mut(&mut self, at: usize) -> RunsMut<'_> {
        let memory: *mut [u8] = self.memory;
        RunsMut { memory, nest: &self.nest, place: self.nest.seek(at), _borrow: PhantomData }
    }

    /// Copies `from` into the row from byte `at` on, as much as there is room for; says how many bytes.
    pub fn copy_from(&mut self, at: usize, from: &[u8]) -> usize {
        let mut done = 0;
        for run in self.runs_mut(at) {
            let n = run.len().min(from.len() - done);
            run[..n].copy_from_slice(&from[done..done + n]);
            done += n;
            if done == from.len() {
                break;
            }
        }
        done
    }
}

/// Pieces of a tensor that lie together in memory, in row-major order.
#[derive(Clone)]
pub struct Runs<'a, 'n> {
    memory: &'a [u8],
    nest: &'n Nest,
    place: Place,
}

impl<'a> Iterator for Runs<'a, '_> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (offset, len) = self.place.next(self.nest)?;
        Some(&self.memory[offset..offset + len])
    }
}

/// Pieces of a tensor that lie together in memory, in row-major order, to be written.
pub struct RunsMut<'v> {
    memory: *mut [u8],
    nest: &'v Nest,
    place: Place,
    _borrow: PhantomData<&'v mut [u8]>,
}

impl<'v> Iterator for RunsMut<'v> {
    type Item = &'v mut [u8];

    #[inline]
    fn next(&mut self) -> Option<&'v mut [u8]> {
        let (offset, len) = self.place.next(self.nest)?;
        assert!(offset + len <= self.memory.len());
        // SAFETY: inside the memory that is borrowed exclusively for 'v, as just seen. No other slice of this iterator
        // holds any of these bytes: each run is handed out once, and the check for overlap has shown that runs lie
        // apart (dense ones have just one).
        Some(unsafe { core::slice::from_raw_parts_mut(self.memory.cast::<u8>().add(offset), len) })
    }
}

fn describe(dtype: Dtype, dims: &[usize]) -> Result<Descriptor, ViewError> {
    let mut wide = [0; DIMS_MOST];
    let too_many = DescriptorError::Ndim { found: dims.len().min(255) as u8 };
    let used = wide.get_mut(..dims.len()).ok_or(ViewError::Shape(too_many))?;
    used.iter_mut().zip(dims).for_each(|(w, d)| *w = *d as u64);
    let descriptor = Descriptor::new(dtype, used).map_err(ViewError::Shape)?;
    match dims.last() {
        Some(dim) if descriptor.bytes() > isize::MAX as u64 => {
            let before = descriptor.bytes() / *dim as u64;
            let (index, dim) = (dims.len() - 1, *dim as u64);
            Err(ViewError::Shape(DescriptorError::Overflow { index, dim, bytes: before }))
        }
        _ => Ok(descriptor),
    }
}

/// One dim of as many elements as a slice has.
#[inline]
fn flat(dtype: Dtype, len: usize, bytes: usize) -> Nest {
    let descriptor = Descriptor::flat(dtype, len as u64, bytes as u64);
    Nest { descriptor, bytes, run: bytes, first: 0, loops: 0, turns: [(0, 0); DIMS_MOST] }
}

/// Checks that no two elements lie in one place: taken by length, each stride must be longer than the way that all the
/// shorter ones go together, for then the longest one in which two indices differ decides.
fn apart(dims: &[usize], strides: &[isize]) -> Result<(), ViewError> {
    let (mut order, mut n) = ([0; DIMS_MOST], 0);
    for (i, _) in dims.iter().enumerate().filter(|(_, dim)| **dim > 1) {
        order[n] = i;
        n += 1;
    }
    let order = &mut order[..n];
    order.sort_unstable_by_key(|i| strides[*i].unsigned_abs());
    let mut reach = 0u128;
    for &mut dim in order {
        let (stride, length) = (strides[dim], strides[dim].unsigned_abs() as u128);
        if length <= reach {
            return Err(ViewError::Overlap { dim, stride, reach });
        }
        reach += (dims[dim] as u128 - 1) * length;
    }
    Ok(())
}

#[inline(always)]
fn bytes_of<T: Element>(slice: &[T]) -> &[u8] {
    // SAFETY: the same memory, borrowed for as long; elements have no padding, so that all of it is initialised, and a
    // byte needs no alignment.
    unsafe { core::slice::from_raw_parts(slice.as_ptr().cast(), size_of_val(slice)) }
}

#[inline(always)]
fn bytes_of_mut<T: Element>(slice: &mut [T]) -> &mut [u8] {
    // SAFETY: as in `bytes_of`, exclusively; whatever bytes are written are values, because every bit pattern is one.
    unsafe { core::slice::from_raw_parts_mut(slice.as_mut_ptr().cast(), size_of_val(slice)) }
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View({}, runs of {} bytes)", self.nest.descriptor, self.nest.run)
    }
}

impl fmt::Debug for ViewMut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ViewMut({}, runs of {} bytes)", self.nest.descriptor, self.nest.run)
    }
}

impl fmt::Debug for Runs<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Runs({} bytes left)", self.place.left)
    }
}

impl fmt::Debug for RunsMut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunsMut({} bytes left)", self.place.left)
    }
}

impl fmt::Display for ViewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ViewError::Shape(error) => fmt::Display::fmt(error, f),
            ViewError::Strides { dims, strides } => write!(f, "{strides} strides for {dims} dims"),
            ViewError::Length { elements, len } => {
                write!(f, "a dense tensor of {elements} elements over a slice of {len}")
            }
            ViewError::Outside { lowest, highest, len } => {
                write!(f, "a tensor that reaches from element {lowest} to {highest} of a slice of {len}")
            }
            ViewError::Overlap { dim, stride, reach } => write!(
                f,
                "dim {dim} has a stride of {stride}, but dims of shorter strides reach {reach} elements far: elements \
                 that are to be written might lie in the same place"
            ),
        }
    }
}

impl core::error::Error for ViewError {}
