//! The operations on tensors inside one host, over the board. One file an operation; `combine` is what they reduce
//! with.

mod all_reduce;
mod broadcast;
mod combine;

/// Where the slice of `rank` begins when `len` elements of `size` bytes are shared out among `ranks`: on multiples of
/// 64 bytes, so that no two ranks write to one cache line of an aligned tensor. `cut(ranks)` is `len`.
pub(crate) fn cut(len: usize, size: usize, rank: usize, ranks: usize) -> usize {
    if rank == ranks {
        return len;
    }
    let step = 64 / size;
    // Exact also where len * rank would not fit.
    (len / ranks * rank + len % ranks * rank / ranks) / step * step
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn slices_cover_everything_once() {
        for len in [0, 1, 15, 16, 17, 100, 4096, usize::MAX / 8] {
            for ranks in 1..=9 {
                let mut before = 0;
                for r in 0..ranks {
                    let (a, b) = (cut(len, 8, r, ranks), cut(len, 8, r + 1, ranks));
                    assert!(a == before && a <= b && (r == 0 || a % 8 == 0), "{len} {ranks} {r}");
                    assert!(b - a <= len.div_ceil(ranks) + 8, "{len} {ranks} {r}: {}", b - a);
                    before = b;
                }
                assert_eq!(before, len);
            }
        }
    }
}
