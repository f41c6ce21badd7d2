//! Which kernels this CPU can run, asked once.

use core::fmt;
use core::sync::atomic::{AtomicU8, Ordering};

/// A set of kernels, by what it needs of the CPU. All levels yield the same bits.
///
/// ```
/// use sapwood_core::reduce::Level;
///
/// let level = Level::detect();
/// println!("reductions run on the {level} kernels");
/// assert!(level >= Level::Portable);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Level {
    /// Any CPU.
    Portable,
    /// x86-64 with AVX2 and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
}

/// 0 until a thread has asked, then one more than the level. Private to the process and in no protocol, hence no word
/// of a memory family; relaxed, because whoever reads 0 asks the CPU again and gets the same answer.
static DETECTED: AtomicU8 = AtomicU8::new(0);

impl Level {
    /// Every level, from the least to the greatest.
    pub const ALL: [Level; 3] = [Level::Portable, Level::Avx2, Level::Avx512];

    /// The greatest level that this CPU has and this system supports. Only the first call asks the CPU.
    #[inline]
    pub fn detect() -> Level {
        match DETECTED.load(Ordering::Relaxed) {
            1 => Level::Portable,
            2 => Level::Avx2,
            3 => Level::Avx512,
            _ => Level::ask(),
        }
    }

    #[cold]
    fn ask() -> Level {
        #[cfg(all(target_arch = "x86_64", not(miri)))] // Miri has no CPU to ask
        let level = super::avx2::supported();
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let level = Level::Portable;
        DETECTED.store(level as u8 + 1, Ordering::Relaxed);
        level
    }

    /// The name in lower case, such as `"avx512"`.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
