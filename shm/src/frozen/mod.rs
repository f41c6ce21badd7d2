//! A value that is encoded once and read any number of times, by any thread or process.
//!
//! [`Frozen<T>`] holds a value of any serde type as bytes (postcard), or plain values side by side ([`Frozen<[U]>`]),
//! which are read where they lie. It can't be changed any more, by nobody: between processes its bytes are in a memory
//! file that the kernel has sealed against writing, which whoever receives it checks, so a reader need not trust the
//! writer to leave them alone.
//!
//! | to whom                        | how                                                         | copies              |
//! |--------------------------------|-------------------------------------------------------------|---------------------|
//! | another thread                 | a clone: both have the same bytes                           | none                |
//! | a process at a Unix socket     | [`send`](Frozen::send), [`receive`](Frozen::receive)        | one, into the file, the first time |
//! | a child                        | [`file`](Frozen::file), inherited; [`from_file`](Frozen::from_file) | the same    |
//! | any process of this user       | [`publish`](Frozen::publish) under a name, [`open`](Frozen::open) | one on each side: files under names can't be sealed |
//!
//! A name lives as long as what [`publish`](Frozen::publish) returned; if its process dies, it is free again.
//!
//! # Safety
//! The bytes of a sealed file are lent as a slice. The kernel keeps everybody from writing to it, cutting it off and
//! taking the seals away, as is checked before it is mapped; so they stay as they are as long as the mapping lives.
#![allow(unsafe_code)]

mod image;
mod named;

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};

use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::image::{Lines, Place, Type};
pub use self::named::Published;
use crate::codec;
pub use crate::codec::{DecodeError, EncodeError};
use crate::error::Error;
use crate::fd_pass;
use crate::ring::Shareable;
use crate::segment::Segment;

/// Why no frozen value was received or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No file, no name, or none that can be trusted.
    #[error(transparent)]
    Memory(#[from] Error),
    /// Nobody has published a value under this name, or whoever had is dead.
    #[error("nobody publishes a value under the name {name:?}")]
    NotPublished {
        /// The name.
        name: String,
    },
    /// It is no frozen value.
    #[error("the file holds no frozen value: it begins with {found:#018x}")]
    NotFrozen {
        /// What it begins with.
        found: u64,
    },
    /// It was frozen by another version.
    #[error("the value was frozen in layout version {found}, this program has {expected}")]
    OtherVersion {
        /// The value's.
        found: u32,
        /// Ours.
        expected: u32,
    },
    /// It is a value of another type.
    #[error("the frozen value is {found}, not {expected}")]
    OtherType {
        /// What it is.
        found: Box<str>,
        /// What was asked for.
        expected: Box<str>,
    },
    /// It is shorter than it says.
    #[error("the frozen value is truncated: it has {have} bytes and should have {need}")]
    Truncated {
        /// Bytes that it should have.
        need: u64,
        /// Bytes that it has.
        have: u64,
    },
    /// Its lengths can't be.
    #[error("the frozen value claims a type's name of {name} bytes and a value of {value}")]
    BadLengths {
        /// Bytes of the name.
        name: u64,
        /// Bytes of the value.
        value: u64,
    },
    /// Its bytes are not those that were frozen.
    #[error("the frozen value is damaged: its digest is {found:#010x} and should be {expected:#010x}")]
    Damaged {
        /// Of its bytes.
        found: u32,
        /// That it was frozen with.
        expected: u32,
    },
    /// It is longer than this reader takes.
    #[error("the frozen value has {bytes} bytes, and {most} are the most that are read")]
    TooLong {
        /// Its bytes.
        bytes: u64,
        /// The most.
        most: u64,
    },
    /// Parts of its file have no memory, as none has that a good sender makes.
    #[error("the file of the frozen value has {bytes} bytes, and only {backed} of them are there")]
    Sparse {
        /// Bytes that it says it has.
        bytes: u64,
        /// Bytes of memory that it has.
        backed: u64,
    },
    /// Whoever has the file could still change it, or it is no file in memory.
    #[error("the file of the frozen value is not sealed against writing: whoever holds it could change it")]
    NotSealed,
}

impl PartialEq for OpenError {
    /// As sentences.
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

/// A value that can be read and not changed. Clones have the same bytes.
///
/// ```
/// use std::collections::BTreeMap;
/// use sapwood_shm::frozen::Frozen;
///
/// let settings = BTreeMap::from([("layers", vec![64, 32]), ("seed", vec![1])]);
/// let settings: BTreeMap<String, Vec<u32>> = settings.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
/// let frozen = Frozen::new(&settings)?;
/// let theirs = frozen.clone();
/// let worker = std::thread::spawn(move || theirs.read().map(|settings| settings["layers"].len()));
/// assert_eq!(worker.join().unwrap()?, 2);
/// assert_eq!(frozen.read()?, settings);
///
/// // Plain values are read where they lie.
/// let table = Frozen::of(&[1.0_f32, 2.0, 3.0]);
/// assert_eq!(table.view()[1], 2.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
/// Nothing is refused when it runs that a compiler can refuse. There is no frozen nothing (MAR-6):
///
/// ```compile_fail,E0308
/// sapwood_shm::frozen::Frozen::<u32>::new(&None);
/// ```
/// What was dropped is not read (MAR-6):
///
/// ```compile_fail,E0382
/// let frozen = sapwood_shm::frozen::Frozen::new(&1_u32).unwrap();
/// drop(frozen);
/// frozen.read();
/// ```
/// A function that has captured something is no value (MAR-4): freeze what it has captured, by name, and the function's
/// own name as a variant of an enum.
///
/// ```compile_fail,E0277
/// let captured = 5;
/// sapwood_shm::frozen::Frozen::new(&move |x: u32| x + captured);
/// ```
pub struct Frozen<T: ?Sized> {
    inner: Arc<Inner>,
    _value: PhantomData<fn() -> T>,
}

#[derive(Debug)]
struct Inner {
    bytes: Bytes,
    place: Place,
    /// The sealed file, once somebody has asked for it.
    file: OnceLock<File>,
}

#[derive(Debug)]
enum Bytes {
    /// Of this process.
    Own(Lines),
    /// Of a sealed file.
    Sealed(MmapRaw),
}

impl Inner {
    /// The whole image.
    fn image(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Own(lines) => lines.bytes(),
            // SAFETY: mapped, and sealed, so nobody writes to it (see the top).
            Bytes::Sealed(map) => unsafe { std::slice::from_raw_parts(map.as_ptr(), map.len()) },
        }
    }

    fn value(&self) -> &[u8] {
        &self.image()[self.place.at..self.place.end()]
    }
}

impl<T: ?Sized> Clone for Frozen<T> {
    fn clone(&self) -> Self {
        Frozen { inner: self.inner.clone(), _value: PhantomData }
    }
}

impl<T: ?Sized> fmt::Debug for Frozen<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, bytes) = (std::any::type_name::<T>(), self.bytes());
        write!(f, "Frozen {name} of {bytes} bytes")
    }
}

impl<T: Serialize> Frozen<T> {
    /// Encodes a value.
    ///
    /// # Errors
    /// [`EncodeError`]: its `Serialize` fails, or needs a format that says of each value what it is.
    pub fn new(value: &T) -> Result<Self, EncodeError> {
        let bytes = codec::encode(value)?;
        Ok(Self::own(Type::encoded::<T>(), &bytes))
    }
}

impl<T: DeserializeOwned> Frozen<T> {
    /// A copy of the value, equal to the one that was frozen and independent of all others.
    ///
    /// # Errors
    /// [`DecodeError`], of a value from another process that its type does not allow, or that is nested too deeply.
    pub fn read(&self) -> Result<T, DecodeError> {
        codec::decode(self.inner.value())
    }
}

impl<U: Shareable> Frozen<[U]> {
    /// Copies plain values.
    pub fn of(values: &[U]) -> Self {
        Self::own(Type::plain::<U>(), zerocopy::IntoBytes::as_bytes(values))
    }

    /// The values, where they lie.
    pub fn view(&self) -> &[U] {
        let bytes = self.inner.value();
        // SAFETY: they begin on a cache line, in an image that does, so they are aligned; as many whole values lie
        // there (`check`, `of`); any bytes are a value.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<U>()) }
    }
}

/// What is asked for when a value is opened: its type's name and form. Implemented for every `T` that [`Frozen`] reads,
/// and for slices of plain values.
pub trait Freezable: sealed::Sealed {}

mod sealed {
    use super::{DeserializeOwned, Shareable, Type};

    #[allow(unreachable_pub, private_interfaces)] // nobody outside can name it
    pub trait Sealed {
        fn of() -> Type;
    }

    #[allow(private_interfaces)]
    impl<T: DeserializeOwned> Sealed for T {
        fn of() -> Type {
            Type::encoded::<T>()
        }
    }

    #[allow(private_interfaces)]
    impl<U: Shareable> Sealed for [U] {
        fn of() -> Type {
            Type::plain::<U>()
        }
    }
}

impl<T: sealed::Sealed + ?Sized> Freezable for T {}

impl<T: ?Sized> Frozen<T> {
    fn own(of: Type, value: &[u8]) -> Self {
        let (lines, place) = image::image(of, value);
        Self::with(Bytes::Own(lines), place, OnceLock::new())
    }

    fn with(bytes: Bytes, place: Place, file: OnceLock<File>) -> Self {
        Frozen { inner: Arc::new(Inner { bytes, place, file }), _value: PhantomData }
    }

    /// Bytes of the value.
    pub fn bytes(&self) -> usize {
        self.inner.place.len
    }

    /// The value in a sealed file without a name, to be inherited; the same one whenever it is asked for.
    ///
    /// # Errors
    /// [`Error::NoSpace`], and what the system refuses.
    pub fn file(&self) -> Result<&File, Error> {
        if let Some(file) = self.inner.file.get() {
            return Ok(file);
        }
        let file = sealed_file(&self.inner.image()[..self.inner.place.end()])?;
        // Of two that come at a time, the first one's stays.
        Ok(self.inner.file.get_or_init(|| file))
    }

    /// Hands the value to whoever reads the other end with [`receive`](Self::receive).
    ///
    /// ```
    /// use std::os::unix::net::UnixStream;
    /// use sapwood_shm::frozen::Frozen;
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// Frozen::new(&("weights".to_owned(), 3_u32))?.send(&ours)?;
    /// let received = Frozen::<(String, u32)>::receive(&theirs)?;
    /// assert_eq!(received.read()?.1, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`file`](Self::file), and what the socket says.
    pub fn send(&self, to: &UnixStream) -> Result<(), Error> {
        fd_pass::send(to, self.file()?)
    }
}

impl<T: Freezable + ?Sized> Frozen<T> {
    /// Takes the value that the other end [sent](Self::send). Waits as long as the socket's read time-out allows.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn receive(from: &UnixStream) -> Result<Self, OpenError> {
        Self::from_file(fd_pass::receive_one(from)?)
    }

    /// The value in a [file](Self::file) that was inherited or received. It is not read: whatever its length, it is
    /// mapped, once its digest is right.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn from_file(fd: impl AsFd) -> Result<Self, OpenError> {
        // Before it is opened: that of a pipe would wait, that of a device may do anything. Only files in memory have
        // seals.
        let have = fcntl(&fd, FcntlArg::F_GET_SEALS).unwrap_or(0);
        let stat = fstat(&fd).map_err(|e| Error::system("fstat of a frozen value", e))?;
        let regular = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG;
        if !regular || !SealFlag::from_bits_truncate(have).contains(SEALS) {
            return Err(OpenError::NotSealed);
        }
        let len = stat.st_size.cast_unsigned();
        if len < image::FRONT as u64 {
            return Err(OpenError::Truncated { need: image::FRONT as u64, have: len });
        }
        // What has no memory costs its sender nothing, and would get some of ours as it is read.
        let backed = stat.st_blocks.cast_unsigned().saturating_mul(BLOCK);
        if backed < len {
            return Err(OpenError::Sparse { bytes: len, backed });
        }
        let file = read_only(&fd)?;
        let map = MmapOptions::new().map_raw_read_only(&file);
        let map = map.map_err(|e| Error::system(format!("mmap of a frozen value of {len} bytes"), e))?;
        // SAFETY: as in `image`: it is mapped, and sealed.
        let bytes = unsafe { std::slice::from_raw_parts(map.as_ptr(), map.len()) };
        let place = image::check(bytes, <T as sealed::Sealed>::of())?;
        Ok(Self::with(Bytes::Sealed(map), place, OnceLock::from(file)))
    }
}

/// Bytes of the blocks that fstat counts.
const BLOCK: u64 = 512;
/// What nobody may do to a frozen value's file any more.
const SEALS: SealFlag = SealFlag::F_SEAL_SHRINK
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_WRITE)
    .union(SealFlag::F_SEAL_SEAL);

fn sealed_file(image: &[u8]) -> Result<File, Error> {
    let have = crate::limits::memory_left();
    if image.len() as u64 > have {
        return Err(Error::NoSpace { what: "a frozen value", need: image.len() as u64, have });
    }
    let mut file = File::from(Segment::anonymous_fd()?);
    file.write_all(image).map_err(|e| Error::system("writing a frozen value", e))?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SEALS)).map_err(|e| Error::system("sealing a frozen value", e))?;
    Ok(file)
}

/// The same file, not to be written: before Linux 6.7 a file sealed against writing can be mapped only so.
fn read_only(fd: &impl AsFd) -> Result<File, Error> {
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    let opened = open(path.as_str(), OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty());
    opened.map(File::from).map_err(|e| Error::system(format!("opening {path}"), e))
}
