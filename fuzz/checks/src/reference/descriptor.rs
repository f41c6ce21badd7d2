//! The descriptor, from its picture.

use super::{Broken, broken, number, word};

/// What a descriptor says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tensor {
    /// Code of the dtype.
    pub(crate) code: u8,
    pub(crate) dims: Vec<u64>,
    pub(crate) bytes: u64,
}

/// Bytes of an element, by the dtype's code: i8 to i64, u8 to u64, f16, bf16, f32, f64.
const SIZES: [u8; 12] = [1, 2, 4, 8, 1, 2, 4, 8, 2, 2, 4, 8];

/// Reads 88 bytes.
pub(crate) fn tensor(bytes: &[u8]) -> Result<Tensor, Broken> {
    assert_eq!(bytes.len(), 88);
    let [code, bits, _, _, ndim, order] = [0, 1, 2, 3, 4, 5].map(|i| bytes[i]);
    let Some(size) = usize::from(code).checked_sub(1).and_then(|i| SIZES.get(i)) else {
        return Err(broken!("Dtype", code));
    };
    if u32::from(bits) != 8 * u32::from(*size) {
        return Err(broken!("Bits", bits, 8 * size));
    }
    if bytes[2..4] != [1, 0] {
        return Err(broken!("Lanes", number(&bytes[2..4])));
    }
    if ndim > 8 {
        return Err(broken!("Ndim", ndim));
    }
    if order != 0 {
        return Err(broken!("Order", order));
    }
    for (at, end) in [(6_u8, 8), (72, 80), (80, 88)] {
        let found = number(&bytes[usize::from(at)..end]);
        if found != 0 {
            return Err(broken!("Reserved", at, found));
        }
    }
    let dims: Vec<u64> = bytes[8..72].chunks(8).map(word).collect();
    for index in ndim..8 {
        if dims[usize::from(index)] != 0 {
            return Err(broken!("UnusedDim", index, ndim, dims[usize::from(index)]));
        }
    }
    let dims = dims[..usize::from(ndim)].to_vec();
    let bytes = product(*size, &dims)?;
    Ok(Tensor { code, dims, bytes })
}

/// Bytes of all elements. Dims that are 0 are left out of the product, which must fit all the same.
fn product(size: u8, dims: &[u64]) -> Result<u64, Broken> {
    let mut bytes = u128::from(size);
    for (index, dim) in dims.iter().enumerate().filter(|(_, dim)| **dim != 0) {
        let before = bytes;
        bytes *= u128::from(*dim); // both fit 64 bits, so the product fits 128
        if bytes > u128::from(u64::MAX) {
            return Err(broken!("Overflow", index as u8, *dim, before));
        }
    }
    Ok(if dims.contains(&0) { 0 } else { bytes as u64 })
}
