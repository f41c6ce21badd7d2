//! CRC-32C (Castagnoli), which x86-64 has had an instruction for since SSE4.2.
//!
//! Polynomial 0x1EDC6F41, reflected; starts and ends inverted; check value of `"123456789"`: 0xE3069283 (RFC 3720,
//! appendix B.4 has more). It finds every error of up to five bits in a frame's head and every burst of up to 32,
//! which is what a stream that has lost its place looks like; it is no protection against somebody who means harm.
//!
//! # Safety
//! The instruction may only run on a CPU that has it: the one place that calls it has just asked.
#![allow(unsafe_code)]
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)] // a byte as the index of 256 entries; constants

#[cfg(all(target_arch = "x86_64", not(miri)))]
use hardware as best;
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
use portable as best;

/// CRC-32C of `bytes`.
///
/// ```
/// assert_eq!(sapwood_core::wire::crc32c(b"123456789"), 0xE306_9283);
/// ```
pub fn crc32c(bytes: &[u8]) -> u32 {
    best::of_bytes(bytes)
}

/// CRC-32C of these words, little endian, and of `half` between the first seven and the rest.
#[inline(always)]
pub(super) fn of_head(head: &[u64; 7], half: u32, descriptor: &[u64]) -> u32 {
    best::of_head(head, half, descriptor)
}

/// For any CPU: eight bytes at a time by eight tables (Kounavis and Berry, "A systematic approach to building high
/// performance software-based CRC generators", ISCC 2005).
#[cfg_attr(all(target_arch = "x86_64", not(miri)), allow(unused_imports))]
mod portable {
    const POLYNOMIAL: u32 = 0x82F6_3B78; // reflected

    /// Entry b of table k: the remainder of byte b with k zero bytes behind it.
    static TABLES: [[u32; 256]; 8] = tables();

    const fn tables() -> [[u32; 256]; 8] {
        let mut tables = [[0; 256]; 8];
        let mut b = 0;
        while b < 256 {
            let (mut crc, mut bit) = (b as u32, 0);
            while bit < 8 {
                crc = crc >> 1 ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 };
                bit += 1;
            }
            tables[0][b] = crc;
            b += 1;
        }
        let mut k = 1;
        while k < 8 {
            let mut b = 0;
            while b < 256 {
                let crc = tables[k - 1][b];
                tables[k][b] = crc >> 8 ^ tables[0][(crc & 0xFF) as usize];
                b += 1;
            }
            k += 1;
        }
        tables
    }

    fn byte(crc: u32, b: u8) -> u32 {
        crc >> 8 ^ TABLES[0][usize::from(crc as u8 ^ b)]
    }

    fn word(crc: u32, word: u64) -> u32 {
        let bytes = (word ^ u64::from(crc)).to_le_bytes();
        bytes.iter().zip(TABLES.iter().rev()).fold(0, |crc, (b, table)| crc ^ table[usize::from(*b)])
    }

    pub(super) fn of_bytes(bytes: &[u8]) -> u32 {
        let (words, rest) = bytes.as_chunks();
        let crc = words.iter().fold(!0, |crc, w| word(crc, u64::from_le_bytes(*w)));
        !rest.iter().fold(crc, |crc, b| byte(crc, *b))
    }

    pub(super) fn of_head(head: &[u64; 7], half: u32, descriptor: &[u64]) -> u32 {
        let crc = head.iter().fold(!0, |crc, w| word(crc, *w));
        let crc = half.to_le_bytes().iter().fold(crc, |crc, b| byte(crc, *b));
        !descriptor.iter().fold(crc, |crc, w| word(crc, *w))
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod hardware {
    use core::arch::x86_64::{__cpuid_count, _mm_crc32_u8, _mm_crc32_u32, _mm_crc32_u64};
    use core::sync::atomic::{AtomicU8, Ordering};

    use super::portable;

    /// 0 until a thread has asked, then 1 (no) or 2 (yes). Private to the process and in no protocol; relaxed, because
    /// whoever reads 0 asks the CPU again and gets the same answer.
    static SUPPORTED: AtomicU8 = AtomicU8::new(0);

    #[inline(always)]
    pub(super) fn supported() -> bool {
        cfg!(target_feature = "sse4.2")
            || match SUPPORTED.load(Ordering::Relaxed) {
                0 => ask(),
                answer => answer == 2,
            }
    }

    #[cold]
    #[allow(unused_unsafe)] // newer compilers know that the instruction is always there on x86_64
    fn ask() -> bool {
        const SSE4_2: u32 = 1 << 20; // leaf 1, ecx
        // SAFETY: every CPU of this architecture has the instruction, and leaf 1.
        let yes = unsafe { __cpuid_count(1, 0) }.ecx & SSE4_2 != 0;
        SUPPORTED.store(1 + u8::from(yes), Ordering::Relaxed);
        yes
    }

    pub(super) fn of_bytes(bytes: &[u8]) -> u32 {
        if supported() {
            // SAFETY: the CPU has just said that it has SSE4.2.
            unsafe { bytes_sse42(bytes) }
        } else {
            portable::of_bytes(bytes)
        }
    }

    #[inline(always)]
    pub(super) fn of_head(head: &[u64; 7], half: u32, descriptor: &[u64]) -> u32 {
        if supported() {
            // SAFETY: the CPU has just said that it has SSE4.2.
            unsafe { head_sse42(head, half, descriptor) }
        } else {
            portable::of_head(head, half, descriptor)
        }
    }

    /// The instruction keeps 32 bits in a register of 64.
    #[target_feature(enable = "sse4.2")]
    fn bytes_sse42(bytes: &[u8]) -> u32 {
        let (words, rest) = bytes.as_chunks();
        let crc = words.iter().fold(u64::from(!0u32), |crc, w| _mm_crc32_u64(crc, u64::from_le_bytes(*w)));
        !rest.iter().fold(crc as u32, |crc, b| _mm_crc32_u8(crc, *b))
    }

    #[target_feature(enable = "sse4.2")]
    fn head_sse42(head: &[u64; 7], half: u32, descriptor: &[u64]) -> u32 {
        let crc = head.iter().fold(u64::from(!0u32), |crc, w| _mm_crc32_u64(crc, *w));
        let crc = u64::from(_mm_crc32_u32(crc as u32, half));
        !(descriptor.iter().fold(crc, |crc, w| _mm_crc32_u64(crc, *w)) as u32)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    /// Bit by bit, from the definition.
    fn naive(bytes: &[u8]) -> u32 {
        let mut crc = !0u32;
        for b in bytes {
            crc ^= u32::from(*b);
            for _ in 0..8 {
                crc = crc >> 1 ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 };
            }
        }
        !crc
    }

    /// The vectors of RFC 3720, appendix B.4.
    #[test]
    fn known_vectors() {
        let up: Vec<u8> = (0..32).collect();
        let down: Vec<u8> = (0..32).rev().collect();
        let vectors: [(&[u8], u32); 6] = [
            (b"", 0),
            (b"123456789", 0xE306_9283),
            (&[0; 32], 0x8A91_36AA),
            (&[0xFF; 32], 0x62A8_AB43),
            (&up, 0x46DD_794E),
            (&down, 0x113F_DB5C),
        ];
        for (bytes, crc) in vectors {
            assert_eq!(
                (naive(bytes), portable::of_bytes(bytes), crc32c(bytes)),
                (crc, crc, crc),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn all_ways_agree_on_all_lengths_and_places() {
        let bytes: Vec<u8> = (0..400u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for start in 0..9 {
            for end in start..bytes.len() {
                let part = &bytes[start..end];
                let crc = naive(part);
                assert_eq!((portable::of_bytes(part), crc32c(part)), (crc, crc), "{start}..{end}");
            }
        }
    }

    #[test]
    fn a_head_is_its_bytes_without_the_checksum() {
        let words: Vec<u64> = (1..19u64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
        let (head, descriptor) = (words[..7].try_into().expect("seven"), &words[7..]);
        for descriptor in [&[], descriptor] {
            let mut bytes: Vec<u8> = words[..7].iter().flat_map(|w| w.to_le_bytes()).collect();
            bytes.extend(0xDEAD_BEEFu32.to_le_bytes());
            bytes.extend(descriptor.iter().flat_map(|w| w.to_le_bytes()));
            let crc = naive(&bytes);
            assert_eq!(portable::of_head(head, 0xDEAD_BEEF, descriptor), crc);
            assert_eq!(of_head(head, 0xDEAD_BEEF, descriptor), crc);
        }
    }
}
