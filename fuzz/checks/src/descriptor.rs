//! Descriptors of 88 arbitrary bytes.

use sapwood_core::dtype::Dtype;
use sapwood_core::wire::{DESCRIPTOR_BYTES, Descriptor};

use crate::reference::compare::{descriptor_broken, tensor_of};
use crate::reference::tensor;
use crate::seeds::Named;

/// Decodes the first 88 bytes (zeros behind the last) as a descriptor: what it says, or which rule it breaks and with
/// which numbers, is what the reference says; what is accepted encodes to the same bytes, and is what the constructor
/// makes of its dims.
///
/// # Panics
/// When one of these does not hold.
pub fn descriptor(data: &[u8]) {
    let bytes: [u8; DESCRIPTOR_BYTES] = std::array::from_fn(|i| data.get(i).copied().unwrap_or(0));
    match (Descriptor::decode(&bytes), tensor(&bytes)) {
        (Ok(descriptor), Ok(tensor)) => {
            assert_eq!(tensor_of(&descriptor), tensor);
            assert_eq!(descriptor.encode(), bytes, "one tensor, one encoding");
            let dtype = Dtype::from_code(tensor.code).expect("it was accepted");
            assert_eq!(Descriptor::new(dtype, &tensor.dims), Ok(descriptor));
        }
        (Err(error), Err(broken)) => {
            assert_eq!(descriptor_broken(&error), broken);
            assert!(!error.to_string().is_empty());
        }
        (said, expected) => panic!("{said:?}, and {expected:?} by the reference, of {bytes:02x?}"),
    }
}

/// Tensors of every dtype, at the edges of what fits, and each rule broken.
pub(crate) fn seeds() -> Vec<Named> {
    let mut all = Vec::new();
    let mut add = |name: &str, data: &[u8]| all.push((name.to_owned(), data.to_vec()));
    for dtype in Dtype::ALL {
        let made = Descriptor::new(dtype, &[3, 5]).expect("it is small");
        add(&format!("good_{dtype}"), &made.encode());
    }
    for (name, dims) in [
        ("scalar", &[][..]),
        ("empty", &[7, 0, 9]),
        ("eight", &[1, 2, 3, 4, 5, 6, 7, 8]),
        ("most", &[u64::MAX / 8]),
        ("most_of_two", &[1 << 31, 1 << 29]),
    ] {
        add(name, &Descriptor::new(Dtype::F64, dims).expect("it fits").encode());
    }
    let good = Descriptor::new(Dtype::F64, &[3, 5]).expect("it is small").encode();
    let mut spoil = |name: &str, at: usize, with: &[u8]| {
        let mut data = good;
        data[at..at + with.len()].copy_from_slice(with);
        add(name, &data);
    };
    spoil("dtype_0", 0, &[0]);
    spoil("dtype_13", 0, &[13]);
    spoil("bits", 1, &[63]);
    spoil("lanes", 2, &[2, 0]);
    spoil("ndim_9", 4, &[9]);
    spoil("ndim_less", 4, &[1]);
    spoil("order", 5, &[1]);
    spoil("reserved_6", 6, &[0, 1]);
    spoil("reserved_72", 72, &[1]);
    spoil("reserved_87", 87, &[1]);
    spoil("unused_dim", 64, &[1]);
    spoil("product_wraps_to_0", 8, &[[0, 0, 0, 0, 1, 0, 0, 0], [0, 0, 0, 0x20, 0, 0, 0, 0]].concat());
    spoil("product_wraps", 8, &[[0xff; 8], [0xff; 8]].concat());
    spoil("zero_hides_nonsense", 8, &[[0; 8], [0xff; 8]].concat());
    all
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn ten_thousand_descriptors_break_every_rule() {
        let seen = RefCell::new(BTreeMap::<&str, u32>::new());
        let seeds: Vec<Vec<u8>> = seeds().into_iter().map(|(_, data)| data).collect();
        crate::cases(10_000, &seeds, |data| {
            descriptor(data);
            let bytes: Vec<u8> = data.iter().copied().chain([0; 88]).take(88).collect();
            *seen.borrow_mut().entry(tensor(&bytes).map_or_else(|b| b.rule, |_| "")).or_default() += 1;
        });
        let all = ["", "Dtype", "Bits", "Lanes", "Ndim", "Order", "Reserved", "UnusedDim", "Overflow"];
        for rule in all {
            assert!(seen.borrow().get(rule).is_some_and(|n| *n >= 10), "{rule:?} is hardly ever broken");
        }
    }
}
