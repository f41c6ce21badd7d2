//! The bytes of a frozen value, as they lie in memory, in a sealed file, or under a name.
//!
//! ```text
//!  0        8         12     16     20      24    32            40       44  64          64 + name
//!  +--------+---------+------+------+-------+-----+-------------+--------+-0-+-----------+---...---+
//!  | magic  | version | form | size | align | len | len of name | digest |   | type name |  value  |
//!  +--------+---------+------+------+-------+-----+-------------+--------+---+-----------+---...---+
//! ```
//! The type's name is filled up to a multiple of 64, so that the value begins on a cache line. The digest (CRC-32C) is
//! of both. All numbers little-endian.

use sapwood_core::wire::crc32c;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::OpenError;

const MAGIC: u64 = u64::from_le_bytes(*b"sapfroz\0");
const VERSION: u32 = 1;
/// Bytes before the name.
pub(super) const FRONT: usize = 64;
/// The longest name of a type.
const MOST_NAME: usize = 1 << 16;

/// What is frozen, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Type {
    pub(super) name: &'static str,
    /// 1: encoded; 2: plain values, side by side.
    form: u32,
    size: u32,
    align: u32,
}

impl Type {
    pub(super) fn encoded<T>() -> Type {
        Type { name: std::any::type_name::<T>(), form: 1, size: 0, align: 0 }
    }

    pub(super) fn plain<U>() -> Type {
        const {
            assert!(size_of::<U>() > 0 && align_of::<U>() <= FRONT, "values of a byte or more, on 64 at most")
        };
        const { assert!(size_of::<U>() <= u32::MAX as usize, "values of less than 4 GiB") };
        let (size, align) = (size_of::<U>() as u32, align_of::<U>() as u32);
        Type { name: std::any::type_name::<[U]>(), form: 2, size, align }
    }
}

/// A cache line.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C, align(64))]
struct Line([u8; FRONT]);

/// An image in memory of this process.
pub(super) struct Lines(Vec<Line>);

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} cache lines", self.0.len())
    }
}

impl Lines {
    /// Zeros, `len` bytes or a few more.
    pub(super) fn zeroed(len: usize) -> Lines {
        Lines(vec![Line([0; FRONT]); len.div_ceil(FRONT)])
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.as_mut_bytes()
    }
}

/// Where the value lies in an image: from here, so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: usize,
    pub(super) len: usize,
}

impl Place {
    /// Bytes of the image up to the value's end.
    pub(super) fn end(self) -> usize {
        self.at + self.len
    }
}

/// An image of a value of type `of`.
pub(super) fn image(of: Type, value: &[u8]) -> (Lines, Place) {
    let place = Place { at: FRONT + of.name.len().next_multiple_of(FRONT), len: value.len() };
    let mut lines = Lines::zeroed(place.end());
    let bytes = lines.bytes_mut();
    bytes[FRONT..FRONT + of.name.len()].copy_from_slice(of.name.as_bytes());
    bytes[place.at..place.end()].copy_from_slice(value);
    let digest = crc32c(&bytes[FRONT..place.end()]);
    let mut at = 0;
    let mut put = |word: &[u8]| {
        bytes[at..at + word.len()].copy_from_slice(word);
        at += word.len();
    };
    put(&MAGIC.to_le_bytes());
    [VERSION, of.form, of.size, of.align].iter().for_each(|word| put(&word.to_le_bytes()));
    [place.len as u64, of.name.len() as u64].iter().for_each(|word| put(&word.to_le_bytes()));
    put(&digest.to_le_bytes());
    (lines, place)
}

/// The value's place, as the first [`FRONT`] bytes of an image say it; they may say anything.
pub(super) fn place(front: &[u8; FRONT]) -> Result<Place, OpenError> {
    let (magic, version) = (long(front, 0), word(front, 8));
    if magic != MAGIC {
        return Err(OpenError::NotFrozen { found: magic });
    }
    if version != VERSION {
        return Err(OpenError::OtherVersion { found: version, expected: VERSION });
    }
    let (len, name) = (long(front, 24), long(front, 32));
    let place = usize::try_from(name).ok().filter(|name| *name <= MOST_NAME).and_then(|name| {
        let at = FRONT + name.next_multiple_of(FRONT);
        let len = usize::try_from(len).ok()?;
        at.checked_add(len).map(|_| Place { at, len })
    });
    place.ok_or(OpenError::BadLengths { name, value: len })
}

/// Looks whether an image is whole and of type `of`. Where the value lies in it.
pub(super) fn check(bytes: &[u8], of: Type) -> Result<Place, OpenError> {
    let Some(front) = bytes.first_chunk::<FRONT>() else {
        return Err(OpenError::Truncated { need: FRONT as u64, have: bytes.len() as u64 });
    };
    let place = place(front)?;
    let Some(body) = bytes.get(FRONT..place.end()) else {
        return Err(OpenError::Truncated { need: place.end() as u64, have: bytes.len() as u64 });
    };
    // `place` has seen that it is shorter than what lies before the value.
    let name = body.get(..long(front, 32) as usize).unwrap_or_default();
    let layout = (word(front, 12), word(front, 16), word(front, 20));
    if name != of.name.as_bytes() || layout != (of.form, of.size, of.align) {
        let found = describe(&String::from_utf8_lossy(name), layout);
        let expected = describe(of.name, (of.form, of.size, of.align));
        return Err(OpenError::OtherType { found: found.into(), expected: expected.into() });
    }
    if of.form == 2 && !place.len.is_multiple_of(of.size as usize) {
        return Err(OpenError::BadLengths { name: name.len() as u64, value: place.len as u64 });
    }
    // Last: it takes as long as the value is long.
    let (digest, found) = (word(front, 40), crc32c(body));
    if digest != found {
        return Err(OpenError::Damaged { found, expected: digest });
    }
    Ok(place)
}

fn describe(name: &str, (form, size, align): (u32, u32, u32)) -> String {
    match form {
        1 => format!("an encoded {name}"),
        2 => format!("a plain {name} with values of {size} bytes, aligned to {align}"),
        other => format!("{name} in form {other}"),
    }
}

fn word(bytes: &[u8; FRONT], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn long(bytes: &[u8; FRONT], at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_taken_as_it_is_or_not_at_all() {
        let of = Type::plain::<u32>();
        let (lines, place) = image(of, &[7; 100]);
        let whole = lines.bytes();
        assert_eq!(check(whole, of), Ok(place));
        assert_eq!((place.at % FRONT, place.len), (0, 100));
        for len in 0..place.end() {
            let said = check(&whole[..len], of).expect_err("it is cut off");
            assert!(matches!(said, OpenError::Truncated { .. }), "{len}: {said}");
        }
        // Every bit of it counts, but for those that nobody reads.
        let name = FRONT + of.name.len();
        for at in (0..44).chain(FRONT..name).chain(place.at..place.end()) {
            for bit in 0..8 {
                let mut other = whole.to_vec();
                other[at] ^= 1 << bit;
                assert!(check(&other, of).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn the_type_counts() {
        let (lines, _) = image(Type::plain::<u32>(), &[0; 8]);
        for of in
            [Type::plain::<f32>(), Type::plain::<u64>(), Type::encoded::<u32>(), Type::encoded::<[u32; 2]>()]
        {
            let said = check(lines.bytes(), of).expect_err("another type");
            assert!(matches!(said, OpenError::OtherType { .. }), "{said}");
        }
        let said = check(lines.bytes(), Type::encoded::<u8>()).expect_err("another type").to_string();
        assert_eq!(
            said,
            "the frozen value is a plain [u32] with values of 4 bytes, aligned to 4, not an encoded u8"
        );
    }
}
