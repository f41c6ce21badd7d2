//! Views against a naive walk: every index by itself.
#![allow(missing_docs)]

use std::collections::HashSet;

use half::bf16;
use proptest::collection::vec;
use proptest::prelude::*;
use sapwood_core::dtype::Dtype;
use sapwood_core::view::{View, ViewError, ViewMut};
use sapwood_core::wire::{Descriptor, DescriptorError};

/// Indices of all elements, in row-major order.
fn walk(first: usize, dims: &[usize], strides: &[isize]) -> Vec<i128> {
    let mut all = vec![first as i128];
    for (dim, stride) in dims.iter().zip(strides) {
        let next = |at: &i128| (0..*dim).map(|i| at + i as i128 * *stride as i128).collect::<Vec<_>>();
        all = all.iter().flat_map(next).collect();
    }
    all
}

/// Lengths of what lies together in memory, by the walk alone.
fn pieces(indices: &[i128]) -> usize {
    1 + indices.windows(2).filter(|w| w[1] != w[0] + 1).count()
}

fn elements(len: usize) -> Vec<u16> {
    (0..len as u16).map(|i| i.wrapping_mul(257).wrapping_add(3)).collect()
}

/// Dims and strides of some part of a dense tensor: sliced with steps, dims in any order, some reversed.
#[derive(Clone, Debug)]
struct Part {
    dims: Vec<usize>,
    strides: Vec<isize>,
    first: usize,
    len: usize,
}

fn part() -> impl Strategy<Value = Part> {
    let dim = (1usize..5, 1usize..4, any::<bool>()); // elements, step, reversed
    (vec(dim, 0..4), 0usize..4).prop_flat_map(|(dims, slack)| {
        let (mut len, mut all, mut first) = (1, Vec::new(), 0);
        for (n, step, reversed) in dims.iter().rev() {
            let stride = (len * step) as isize;
            if *reversed {
                first += (n - 1) * len * step;
            }
            all.push((*n, if *reversed { -stride } else { stride }));
            len *= n * step;
        }
        Just(all).prop_shuffle().prop_map(move |all| Part {
            dims: all.iter().map(|(n, _)| *n).collect(),
            strides: all.iter().map(|(_, s)| *s).collect(),
            first,
            len: len + slack,
        })
    })
}

proptest! {
    #[test]
    fn a_view_is_made_iff_all_it_reaches_is_inside(
        dims in vec(0usize..4, 0..4),
        strides in vec(-6isize..7, 4),
        first in 0usize..30,
        len in 0usize..40,
    ) {
        let strides = &strides[..dims.len()];
        let memory = elements(len);
        let indices = walk(first, &dims, strides);
        let inside = indices.iter().all(|i| (0..len as i128).contains(i));
        let view = View::strided(&memory, first, &dims, strides);
        match &view {
            Ok(view) => {
                let row: Vec<u8> = indices.iter().flat_map(|i| memory[*i as usize].to_le_bytes()).collect();
                let runs: Vec<&[u8]> = view.runs(0).collect();
                prop_assert_eq!(runs.concat(), row);
                prop_assert_eq!(view.bytes(), indices.len() * 2);
            }
            Err(ViewError::Outside { lowest, highest, len: l }) => {
                prop_assert_eq!(*l, len);
                prop_assert_eq!(Some(lowest), indices.iter().min());
                prop_assert_eq!(Some(highest), indices.iter().max());
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
        prop_assert_eq!(view.is_ok(), inside);
        // To be written only if, in truth, no two elements meet.
        let mut copy = memory.clone();
        let apart = indices.iter().collect::<HashSet<_>>().len() == indices.len();
        match ViewMut::strided(&mut copy, first, &dims, strides) {
            Ok(_) => prop_assert!(inside && apart),
            Err(ViewError::Overlap { .. }) => prop_assert!(inside),
            Err(error) => prop_assert_eq!(Some(error), view.err()),
        }
    }

    #[test]
    fn parts_of_dense_tensors_are_read_and_written_from_any_byte(part in part(), at in any::<prop::sample::Index>()) {
        let Part { dims, strides, first, len } = &part;
        let memory = elements(*len);
        let indices = walk(*first, dims, strides);
        let row: Vec<u8> = indices.iter().flat_map(|i| memory[*i as usize].to_le_bytes()).collect();
        let view = View::strided(&memory, *first, dims, strides).expect("a part");
        let at = at.index(row.len() + 1);
        let mut out = vec![0; row.len() - at];
        prop_assert_eq!(view.copy_to(at, &mut out), out.len());
        prop_assert_eq!(&out, &row[at..]);
        prop_assert_eq!(view.runs(at).map(|r| r.len()).sum::<usize>(), row.len() - at);
        prop_assert!(view.runs(0).all(|r| !r.is_empty()));
        prop_assert_eq!(view.as_slice().is_some(), pieces(&indices) == 1);

        // Written from `at` on: what comes before stays, what lies between stays.
        let mut target = vec![0xEEEE_u16; *len];
        let mut slot = ViewMut::strided(&mut target, *first, dims, strides).expect("parts do not overlap");
        prop_assert_eq!(slot.copy_from(at, &row[at..]), row.len() - at);
        prop_assert_eq!(slot.view().runs(0).flatten().copied().collect::<Vec<u8>>()[at..].to_vec(), row[at..].to_vec());
        let written: Vec<u8> = target.iter().flat_map(|e| e.to_le_bytes()).collect();
        let mut expected = vec![0xEE; len * 2];
        for (n, i) in indices.iter().enumerate() {
            for b in 0..2 {
                if 2 * n + b >= at {
                    expected[2 * *i as usize + b] = row[2 * n + b];
                }
            }
        }
        prop_assert_eq!(written, expected);
    }
}

#[test]
fn dims_that_lie_together_are_one_run() {
    let memory = elements(120);
    let runs = |dims: &[usize], strides: &[isize]| {
        let view = View::strided(&memory, 0, dims, strides).expect("inside");
        view.runs(0).map(|r| r.len() / 2).collect::<Vec<_>>()
    };
    assert_eq!(runs(&[2, 3, 4], &[12, 4, 1]), [24]);
    assert_eq!(runs(&[2, 1, 3, 4], &[12, 99, 4, 1]), [24]);
    assert_eq!(runs(&[5, 4], &[10, 1]), [4; 5]);
    assert_eq!(runs(&[2, 3, 4], &[30, 8, 1]), [4; 6]);
    assert_eq!(runs(&[3, 4], &[1, 3]), [1; 12]);
    assert_eq!(runs(&[2, 2], &[0, 1]), [2, 2]);
}

#[test]
fn shapes_that_make_no_view() {
    let memory = [0u32; 12];
    let strided = |dims: &[usize], strides: &[isize]| View::strided(&memory, 0, dims, strides).map(|_| ());
    assert_eq!(strided(&[3, 4], &[4]), Err(ViewError::Strides { dims: 2, strides: 1 }));
    let ndim = |found| Err(ViewError::Shape(DescriptorError::Ndim { found }));
    assert_eq!(strided(&[1; 9], &[0; 9]), ndim(9));
    assert_eq!(strided(&[1; 300], &[0; 300]), ndim(255));
    let wraps = ViewError::Shape(DescriptorError::Overflow { index: 1, dim: 1 << 31, bytes: 1 << 33 });
    assert_eq!(strided(&[1 << 31, 1 << 31], &[0, 0]), Err(wraps));
    let long = ViewError::Shape(DescriptorError::Overflow { index: 0, dim: 1 << 61, bytes: 4 });
    assert_eq!(strided(&[1 << 61], &[0]), Err(long), "more than an address can count");
    assert_eq!(strided(&[1 << 60], &[0]), Ok(()), "one element, over and over");
    assert_eq!(strided(&[2], &[isize::MIN]).map_err(|e| e.to_string().len() > 20), Err(true));
    assert_eq!(strided(&[1 << 60], &[isize::MAX]).map_err(|e| e.to_string().len() > 20), Err(true));
    for (dims, elements) in [(&[3, 5][..], 15), (&[11], 11), (&[], 1), (&[12, 0], 0)] {
        let error = Err(ViewError::Length { elements, len: 12 });
        assert_eq!(View::dense(&memory, dims).map(|_| ()), error);
        let mut memory = memory;
        assert_eq!(ViewMut::dense(&mut memory, dims).map(|_| ()), error);
    }
    let mut memory = [0u32; 12];
    let mut overlap =
        |dims: &[usize], strides: &[isize]| match ViewMut::strided(&mut memory, 0, dims, strides) {
            Err(ViewError::Overlap { dim, stride, reach }) => (dim, stride, reach),
            other => panic!("{other:?}"),
        };
    assert_eq!(overlap(&[2], &[0]), (0, 0, 0));
    assert_eq!(overlap(&[3, 3], &[1, 1]), (1, 1, 2));
    assert_eq!(overlap(&[3, 3], &[2, 1]), (0, 2, 2));
}

#[test]
fn what_a_view_says_of_itself() {
    let (mut floats, halves) = ([0.5f32; 6], [bf16::ONE; 4]);
    let of = |dtype, dims: &[u64]| Descriptor::new(dtype, dims).expect("legal");
    assert_eq!(View::new(&halves).descriptor(), &of(Dtype::Bf16, &[4]));
    assert_eq!(View::new(&[0u8; 0]).descriptor(), &of(Dtype::U8, &[0]));
    assert_eq!(View::dense(&floats, &[3, 2]).expect("dense").descriptor(), &of(Dtype::F32, &[3, 2]));
    assert_eq!(ViewMut::new(&mut floats).descriptor(), &of(Dtype::F32, &[6]));
    let mut dense = ViewMut::dense(&mut floats, &[3, 2]).expect("dense");
    assert_eq!((dense.bytes(), dense.as_mut_slice().map(|s| s.len())), (24, Some(24)));
    assert_eq!(dense.view().as_slice().map(|s| s.len()), Some(24));
    assert_eq!(View::dense(&[7i64], &[]).expect("a scalar").bytes(), 8);
    let empty = View::strided(&halves, 99, &[0, 3], &[5, 5]).expect("reaches nothing");
    assert_eq!((empty.bytes(), empty.runs(0).count(), empty.as_slice()), (0, 0, Some(&[][..])));
}
