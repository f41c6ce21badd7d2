//! A call's fingerprint: what the ranks of one operation must agree on, in two words of the flag line.
//!
//! ```text
//!  what:  63  62          48              32     24      16      8       0
//!       +----+--------------+--------------+------+-------+-------+-------+
//!       | C  |      0       |     root     |  0   | dtype |  op   | kind  |
//!       +----+--------------+--------------+------+-------+-------+-------+
//!  count: elements of the one tensor; of several: bit 63 and a digest of their number and lengths
//! ```
//! C (this rank contributes) is counted, never compared. Where the call stands in the program is carried for the
//! message and never compared: ranks may take different branches. Of a closure only that it is one is compared.

use core::fmt;
use core::panic::Location;

use crate::dtype::Dtype;
use crate::reduce::Op;

const CONTRIBUTES: u64 = 1 << 63;
const SEVERAL: u64 = 1 << 63;
const CLOSURE: u8 = 0xFF;

/// Which operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Everybody's tensors are reduced; everybody gets the result.
    AllReduce = 1,
    /// Everybody gets the root's tensors.
    Broadcast = 2,
    /// Everybody waits for everybody.
    Barrier = 3,
    /// Everybody gets a resident tensor.
    Alloc = 4,
}

impl Kind {
    fn from_code(code: u8) -> Option<Kind> {
        [Kind::AllReduce, Kind::Broadcast, Kind::Barrier, Kind::Alloc].into_iter().find(|k| *k as u8 == code)
    }

    /// The name of the call.
    pub fn name(self) -> &'static str {
        match self {
            Kind::AllReduce => "all_reduce",
            Kind::Broadcast => "broadcast",
            Kind::Barrier => "barrier",
            Kind::Alloc => "alloc",
        }
    }
}

/// How an all-reduce combines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum With {
    /// Not at all: the operation does not reduce.
    Nothing,
    /// A built-in operation.
    Op(Op),
    /// The caller's closure.
    Closure,
}

/// The fingerprint of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fingerprint {
    /// Kind, operation, dtype, root; and whether the rank contributes.
    pub what: u64,
    /// Element count, or digest.
    pub count: u64,
}

impl Fingerprint {
    /// The fingerprint of a call by a rank that contributes.
    #[inline]
    pub fn new(kind: Kind, with: With, dtype: Option<Dtype>, root: usize, count: u64) -> Self {
        let op = match with {
            With::Nothing => 0,
            With::Op(op) => op.code(),
            With::Closure => CLOSURE,
        };
        let dtype = dtype.map_or(0, |d| d.code());
        let what = u64::from(kind as u8) | u64::from(op) << 8 | u64::from(dtype) << 16 | (root as u64) << 32;
        Fingerprint { what: what | CONTRIBUTES, count }
    }

    /// Whether two ranks make the same call.
    #[inline(always)]
    pub fn agrees(&self, other: &Fingerprint) -> bool {
        (self.what ^ other.what) & !CONTRIBUTES == 0 && self.count == other.count
    }

    /// Whether the rank contributes.
    #[inline(always)]
    pub fn contributes(&self) -> bool {
        self.what & CONTRIBUTES != 0
    }
}

/// The `count` word for tensors of these lengths.
#[inline]
pub fn count_word(lengths: impl ExactSizeIterator<Item = usize>) -> u64 {
    let several = lengths.len() != 1;
    let mut word = lengths.len() as u64;
    for n in lengths {
        if !several {
            return n as u64;
        }
        // The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): every bit of the lengths reaches every bit.
        word = word.wrapping_add(n as u64).wrapping_add(0x9E37_79B9_7F4A_7C15);
        word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^= word >> 31;
    }
    word | SEVERAL
}

/// Bytes of a call's file name that are kept.
pub const FILE_BYTES: usize = 104;

/// Where a rank's call stands in its program, for messages; written only where it differs from the last one.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CallSite {
    /// Elements of all tensors.
    pub total: u64,
    /// Number of tensors.
    pub tensors: u32,
    /// Line of the call.
    pub line: u32,
    /// Bytes of `file` in use.
    pub len: u64,
    /// The last bytes of the file's name.
    pub file: [u8; FILE_BYTES],
}

impl CallSite {
    /// An empty one.
    pub const EMPTY: CallSite = CallSite { total: 0, tensors: 0, line: 0, len: 0, file: [0; FILE_BYTES] };

    /// The site of a call over `tensors` tensors of `total` elements.
    pub fn new(at: &Location<'_>, tensors: u32, total: u64) -> Self {
        let name = at.file().as_bytes();
        let name = &name[name.len().saturating_sub(FILE_BYTES)..];
        let mut site = CallSite { total, tensors, line: at.line(), len: name.len() as u64, ..Self::EMPTY };
        site.file[..name.len()].copy_from_slice(name);
        site
    }

    /// The file's name; its tail if it is long.
    pub fn file(&self) -> &str {
        let bytes = &self.file[..(self.len as usize).min(FILE_BYTES)];
        // A long name may have been cut inside a character.
        let start = bytes.iter().position(|b| b & 0xC0 != 0x80).unwrap_or(bytes.len());
        core::str::from_utf8(&bytes[start..]).unwrap_or("<unreadable file name>")
    }
}

/// One rank's call, decoded for a message.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    fingerprint: Fingerprint,
    site: CallSite,
}

impl Call {
    /// The call that a rank published.
    pub fn new(fingerprint: Fingerprint, site: CallSite) -> Self {
        Call { fingerprint, site }
    }

    /// Which operation; `None` if a bad peer wrote nonsense.
    pub fn kind(&self) -> Option<Kind> {
        Kind::from_code(self.fingerprint.what as u8)
    }

    /// File of the call (its tail if the name is long).
    pub fn file(&self) -> &str {
        self.site.file()
    }

    /// Line of the call.
    pub fn line(&self) -> u32 {
        self.site.line
    }

    /// Elements of all tensors of the call.
    pub fn elements(&self) -> u64 {
        self.site.total
    }
}

/// `all_reduce(sum, 12 x f32) at src/main.rs:7`
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.fingerprint.what;
        f.write_str(self.kind().map_or("an unknown operation", Kind::name))?;
        f.write_str("(")?;
        match (what >> 8) as u8 {
            0 => {}
            CLOSURE => f.write_str("closure, ")?,
            code => write!(f, "{}, ", Op::from_code(code).map_or("unknown op", |op| op.name()))?,
        }
        if let Some(dtype) = Dtype::from_code((what >> 16) as u8) {
            write!(f, "{} x {dtype}", self.site.total)?;
            if self.site.tensors != 1 {
                write!(f, " in {} tensors", self.site.tensors)?;
            }
        }
        if self.kind() == Some(Kind::Broadcast) {
            write!(f, ", root {}", (what >> 32) as u16)?;
        }
        write!(f, ") at {}:{}", self.site.file(), self.site.line)
    }
}

static_assertions::const_assert_eq!(size_of::<CallSite>(), 128);

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn what_differs_is_seen() {
        let of = |kind, with, dtype, root, count| Fingerprint::new(kind, with, Some(dtype), root, count);
        let a = of(Kind::AllReduce, With::Op(Op::Sum), Dtype::F32, 0, 5);
        assert!(a.agrees(&a));
        let others = [
            of(Kind::Broadcast, With::Op(Op::Sum), Dtype::F32, 0, 5),
            of(Kind::AllReduce, With::Op(Op::Max), Dtype::F32, 0, 5),
            of(Kind::AllReduce, With::Closure, Dtype::F32, 0, 5),
            of(Kind::AllReduce, With::Op(Op::Sum), Dtype::I32, 0, 5),
            of(Kind::AllReduce, With::Op(Op::Sum), Dtype::F32, 1, 5),
            of(Kind::AllReduce, With::Op(Op::Sum), Dtype::F32, 0, 6),
        ];
        for b in others {
            assert!(!a.agrees(&b) && !b.agrees(&a), "{a:?} {b:?}");
        }
        let quiet = Fingerprint { what: a.what & !CONTRIBUTES, ..a };
        assert!(a.agrees(&quiet) && !quiet.contributes() && a.contributes());
    }

    #[test]
    fn counts_of_several_tensors_never_look_like_one() {
        let word = |lengths: &[usize]| count_word(lengths.iter().copied());
        assert_eq!(word(&[7]), 7);
        let all = [word(&[]), word(&[3, 4]), word(&[4, 3]), word(&[7, 0]), word(&[0, 7]), word(&[3, 4, 0])];
        for (i, a) in all.iter().enumerate() {
            assert!(a & SEVERAL != 0);
            assert!(all.iter().skip(i + 1).all(|b| a != b));
        }
    }

    #[test]
    fn a_call_reads_like_the_source() {
        let f = Fingerprint::new(Kind::AllReduce, With::Op(Op::Sum), Some(Dtype::F32), 0, 12);
        let site = CallSite::new(Location::caller(), 1, 12);
        let said = Call::new(f, site).to_string();
        assert!(said.starts_with("all_reduce(sum, 12 x f32) at ") && said.contains("call.rs:"), "{said}");
        let f = Fingerprint::new(Kind::Broadcast, With::Nothing, Some(Dtype::U8), 3, 12);
        let said = Call::new(f, CallSite { tensors: 2, total: 12, ..site }).to_string();
        assert!(said.starts_with("broadcast(12 x u8 in 2 tensors, root 3) at "), "{said}");
        let bad = Call::new(Fingerprint { what: u64::MAX, count: 0 }, site).to_string();
        assert!(bad.starts_with("an unknown operation("), "{bad}");
    }

    #[test]
    fn a_long_file_name_keeps_its_end() {
        let mut site = CallSite::new(Location::caller(), 1, 5);
        assert!(site.file().ends_with("call.rs"));
        site.file = [b'x'; FILE_BYTES];
        site.file[0] = 0xA9; // the second byte of a character that was cut
        site.len = u64::MAX;
        assert_eq!(site.file().len(), FILE_BYTES - 1);
    }
}
