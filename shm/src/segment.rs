//! Segments: shared memory that is built whole, validated once, and never answers with SIGBUS.
//!
//! - Anonymous ones are memfds: nothing to leak, no limit of `/dev/shm`, sealed against shrinking, growing and further
//!   seals. Memory is reserved with `fallocate` before anything is mapped, so that too little is [`Error::NoSpace`].
//! - Named ones are files of this user alone (see `named`): they serve processes that are not related.
//!
//! A process that dies while it builds leaves a segment without its magic and the build lock free: the next one builds
//! again.
//!
//! # Safety
//! Forms references to the header and the seat table. Both lie in the mapped prefix, consist of atomic words only, for
//! which any bytes are valid, and stay mapped as long as the segment lives.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, SealFlag, fallocate, fcntl, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::ftruncate;
use sapwood_core::mem::{Atom, Ordering};

use crate::error::Error;
pub use crate::layout::Spec;
use crate::layout::{BUILD_LOCK, Header, MAGIC, MOST_SEATS, PAGE, SeatLine, VERSION};
use crate::limits::memory_left;
use crate::lock::Held;

/// Shared memory with a header, seats, a body and a sparse reserve.
#[derive(Debug)]
pub struct Segment {
    file: File,
    map: MmapRaw,
    spec: Spec,
    /// The name that it was opened under.
    path: Option<PathBuf>,
}

/// A mapped range of a segment.
#[derive(Debug)]
pub struct Mapping(MmapRaw);

impl Mapping {
    /// First byte.
    pub fn ptr(&self) -> *mut u8 {
        self.0.as_mut_ptr()
    }

    /// Bytes.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Segment {
    /// A new anonymous segment.
    ///
    /// ```
    /// use sapwood_shm::{Segment, Spec};
    ///
    /// let spec = Spec { kind: 77, fingerprint: 1, seats: 2, body: 100, reserve: 0 };
    /// let segment = Segment::create(&spec)?;
    /// assert_eq!(segment.body_len(), 4096); // whole pages
    /// # Ok::<(), sapwood_shm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoSpace`], or what the system refuses.
    pub fn create(spec: &Spec) -> Result<Segment, Error> {
        Self::build(File::from(Self::anonymous_fd()?), spec, None)
    }

    /// A file without contents or name, to be inherited by processes that will build a segment in it together.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn anonymous_fd() -> Result<OwnedFd, Error> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        memfd_create(c"sapwood", flags).map_err(|e| Error::system("memfd_create", e))
    }

    /// The segment in an inherited file: built by whoever comes first, attached by the others.
    ///
    /// # Errors
    /// As for [`create`](Self::create); where it is built already, what differs from `spec`.
    pub fn build_or_attach(fd: OwnedFd, spec: &Spec, deadline: Duration) -> Result<Segment, Error> {
        // Of its own: a lock of an inherited description would be everybody's.
        let file = reopen(&fd)?;
        let began = Instant::now();
        let _building = loop {
            if let Some(held) = Held::exclusive(&file, BUILD_LOCK)? {
                break held;
            }
            if began.elapsed() >= deadline {
                return Err(Error::StillBuilding { waited: began.elapsed() });
            }
            std::thread::yield_now();
        };
        let size = fstat(&file).map_err(|e| Error::system("fstat of the segment", e))?.st_size;
        if size >= PAGE.cast_signed() && Peek::at(&file)?.header().magic.load(Ordering::Acquire) == MAGIC {
            require_seals(&file)?;
            return Self::attach(reopen(&fd)?, spec, None);
        }
        Self::build(reopen(&fd)?, spec, None)
    }

    /// Builds a segment in an empty file (or over one whose builder died).
    pub(crate) fn build(file: File, spec: &Spec, path: Option<PathBuf>) -> Result<Segment, Error> {
        if spec.seats > MOST_SEATS {
            return Err(Error::TooManySeats { seats: spec.seats, limit: MOST_SEATS });
        }
        spec_fits(spec)?;
        let (prefix, have) = (spec.prefix(), memory_left());
        if prefix > have {
            return Err(Error::NoSpace { what: "a segment", need: prefix, have });
        }
        // Beyond this limit the kernel would not answer but send SIGXFSZ.
        let (limit, _) = getrlimit(Resource::RLIMIT_FSIZE).map_err(|e| Error::system("getrlimit", e))?;
        if spec.length() > limit {
            return Err(Error::FileLimit { need: spec.length(), limit });
        }
        ftruncate(&file, spec.length().cast_signed())
            .map_err(|e| Error::system("ftruncate of the segment", e))?;
        back(&file, 0, prefix, "a segment")?;
        if path.is_none() {
            seal(&file)?;
        }
        let segment = Segment { map: map(&file, 0, prefix)?, file, spec: *spec, path };
        let h = segment.header();
        h.version.store(VERSION, Ordering::Relaxed);
        h.kind.store(spec.kind, Ordering::Relaxed);
        h.fingerprint.store(spec.fingerprint, Ordering::Relaxed);
        h.seats.store(spec.seats as u32, Ordering::Relaxed);
        h.prefix.store(prefix, Ordering::Relaxed);
        h.length.store(spec.length(), Ordering::Relaxed);
        h.nonce.store(nonce(), Ordering::Relaxed);
        // Pairs with the Acquire loads of whoever attaches.
        h.magic.store(MAGIC, Ordering::Release);
        Ok(segment)
    }

    /// Attaches to a segment that is built, if it is what `spec` says.
    pub(crate) fn attach(file: File, spec: &Spec, path: Option<PathBuf>) -> Result<Segment, Error> {
        let peek = Peek::at(&file)?;
        let h = peek.header();
        let magic = h.magic.load(Ordering::Acquire);
        if magic != MAGIC {
            return Err(Error::NotASegment { found: magic, expected: MAGIC });
        }
        let version = h.version.load(Ordering::Relaxed);
        if version != VERSION {
            return Err(Error::OtherVersion { found: version, expected: VERSION });
        }
        let kind = h.kind.load(Ordering::Relaxed);
        if kind != spec.kind {
            return Err(Error::OtherKind { found: kind, expected: spec.kind });
        }
        let seats = h.seats.load(Ordering::Relaxed);
        if seats as usize != spec.seats {
            return Err(Error::OtherSize { found: seats, expected: spec.seats as u32 });
        }
        let fingerprint = h.fingerprint.load(Ordering::Relaxed);
        if fingerprint != spec.fingerprint {
            return Err(Error::OtherLayout { found: fingerprint, expected: spec.fingerprint });
        }
        spec_fits(spec)?;
        let lengths = (h.prefix.load(Ordering::Relaxed), h.length.load(Ordering::Relaxed));
        if lengths != (spec.prefix(), spec.length()) {
            let expected = (spec.prefix(), spec.length());
            return Err(Error::OtherLengths { found: lengths, expected });
        }
        let have =
            fstat(&file).map_err(|e| Error::system("fstat of the segment", e))?.st_size.cast_unsigned();
        if have < spec.length() {
            return Err(Error::Truncated { need: spec.length(), have });
        }
        Ok(Segment { map: map(&file, 0, spec.prefix())?, file, spec: *spec, path })
    }

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: the prefix begins with a page for the header (see the top of the file).
        unsafe { &*self.map.as_ptr().cast::<Header>() }
    }

    pub(crate) fn seat_line(&self, seat: usize) -> &SeatLine {
        assert!(seat < self.spec.seats, "seat {seat} of {}", self.spec.seats);
        // SAFETY: the seat table has `seats` lines behind the header's page, inside the prefix.
        unsafe { &*self.map.as_ptr().add(PAGE as usize).cast::<SeatLine>().add(seat) }
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn path(&self) -> Option<&PathBuf> {
        self.path.as_ref()
    }

    /// What it was made for.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// A number that no other segment has.
    pub fn nonce(&self) -> u64 {
        self.header().nonce.load(Ordering::Relaxed)
    }

    /// First byte of the body; on a page.
    #[inline(always)]
    pub fn body_ptr(&self) -> *mut u8 {
        self.map.as_mut_ptr().wrapping_add(self.spec.front() as usize)
    }

    /// Bytes of the body: whole pages.
    pub fn body_len(&self) -> usize {
        (self.spec.prefix() - self.spec.front()) as usize
    }

    /// Where the reserve begins in the file.
    pub fn reserve_offset(&self) -> u64 {
        self.spec.prefix()
    }

    /// Bytes of the reserve.
    pub fn reserve_len(&self) -> u64 {
        self.spec.length() - self.spec.prefix()
    }

    /// Backs `len` bytes of the file from `offset` with memory, all zeros where they were not backed before.
    ///
    /// # Errors
    /// [`Error::NoSpace`]: then nothing of it is backed that was not before.
    pub fn back(&self, offset: u64, len: u64) -> Result<(), Error> {
        let have = memory_left();
        if len > have {
            return Err(Error::NoSpace { what: "a resident tensor", need: len, have });
        }
        // tmpfs gives back what a failed call had already got.
        back(&self.file, offset, len, "a resident tensor")
    }

    /// Gives the memory of these bytes back; they read as zeros until they are backed again.
    ///
    /// # Errors
    /// What the system refuses.
    pub(crate) fn release(&self, offset: u64, len: u64) -> Result<(), Error> {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(&self.file, flags, offset.cast_signed(), len.cast_signed())
            .map_err(|e| Error::system("giving memory back", e))
    }

    /// Maps bytes of the file; `offset` is on a page, and they have been backed.
    ///
    /// # Errors
    /// [`Error::Truncated`] outside of the file, and what the system refuses.
    pub fn map(&self, offset: u64, len: u64) -> Result<Mapping, Error> {
        match offset.checked_add(len) {
            Some(end) if end <= self.spec.length() => Ok(Mapping(map(&self.file, offset, len)?)),
            end => Err(Error::Truncated { need: end.unwrap_or(u64::MAX), have: self.spec.length() }),
        }
    }
}

/// No file, and so no segment, can be as long as some specs ask for.
fn spec_fits(spec: &Spec) -> Result<(), Error> {
    if spec.fits() { Ok(()) } else { Err(Error::SpecTooLong { body: spec.body, reserve: spec.reserve }) }
}

/// A look at the first page of a file that may hold anything.
pub(crate) struct Peek(MmapRaw);

impl Peek {
    pub(crate) fn at(file: &File) -> Result<Peek, Error> {
        let have = fstat(file).map_err(|e| Error::system("fstat of the segment", e))?.st_size.cast_unsigned();
        if have < PAGE {
            return Err(Error::Truncated { need: PAGE, have });
        }
        Ok(Peek(map(file, 0, PAGE)?))
    }

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: a page is mapped; any bytes are a valid header.
        unsafe { &*self.0.as_ptr().cast::<Header>() }
    }
}

/// The same file under an own open file description: locks belong to descriptions.
pub(crate) fn reopen(fd: &impl AsRawFd) -> Result<File, Error> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let fd =
        open(path.as_str(), flags, Mode::empty()).map_err(|e| Error::system(format!("opening {path}"), e))?;
    Ok(File::from(fd))
}

fn back(file: &File, offset: u64, len: u64, what: &'static str) -> Result<(), Error> {
    match fallocate(file, FallocateFlags::empty(), offset.cast_signed(), len.cast_signed()) {
        Ok(()) => Ok(()),
        Err(nix::Error::ENOSPC) => Err(Error::NoSpace { what, need: len, have: room(file) }),
        Err(e) => Err(Error::system(format!("reserving {len} bytes for {what}"), e)),
    }
}

/// Bytes that the file's file system still has.
fn room(file: &File) -> u64 {
    nix::sys::statvfs::fstatvfs(file).map_or(0, |s| s.blocks_available() * s.fragment_size())
}

/// What an anonymous segment's file may never do again.
const SEALS: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_SEAL);

/// Files under a name can't be sealed; memfds can, once: a builder that died after it has left the work done.
fn seal(file: &File) -> Result<(), Error> {
    let have = fcntl(file, FcntlArg::F_GET_SEALS).map_err(|e| Error::system("reading the seals", e))?;
    if SealFlag::from_bits_truncate(have).contains(SEALS) {
        return Ok(());
    }
    fcntl(file, FcntlArg::F_ADD_SEALS(SEALS)).map_err(|e| Error::system("sealing the segment", e)).map(|_| ())
}

/// Refuses a file from elsewhere that is not sealed, one that knows no seals among them. Of what is no file in memory
/// nothing else is asked: a pipe's opening may wait, a device's may do anything.
pub(crate) fn require_seals(file: &impl AsFd) -> Result<(), Error> {
    let have = fcntl(file, FcntlArg::F_GET_SEALS).unwrap_or(0);
    if SealFlag::from_bits_truncate(have).contains(SEALS) { Ok(()) } else { Err(Error::NotSealed) }
}

fn map(file: &File, offset: u64, len: u64) -> Result<MmapRaw, Error> {
    let too_long = |_| io::Error::from(io::ErrorKind::OutOfMemory);
    let len = usize::try_from(len).map_err(too_long).map_err(|e| Error::system("mmap of the segment", e))?;
    let mapped = MmapOptions::new().offset(offset).len(len).map_raw(file);
    mapped.map_err(|e| Error::system(format!("mmap of {len} bytes of the segment"), e))
}

/// 64 random bits; where the kernel gives none, the clock and the process number, which no two segments share either.
fn nonce() -> u64 {
    let mut bytes = [0; 8];
    let random = File::open("/dev/urandom").and_then(|mut f| io::Read::read_exact(&mut f, &mut bytes));
    let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_nanos() as u64);
    u64::from_ne_bytes(bytes) ^ if random.is_ok() { 0 } else { clock ^ u64::from(std::process::id()) << 40 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sapwood_core::mem::{Mem, Real};

    #[test]
    fn released_memory_reads_as_zeros_once_it_is_backed_again() {
        let spec = Spec { kind: 77, fingerprint: 1, seats: 1, body: 1, reserve: 1 << 20 };
        let segment = Segment::create(&spec).expect("there is memory");
        let start = segment.reserve_offset();
        segment.back(start, 8192).expect("there is memory");
        let mapping = segment.map(start, 8192).expect("it is inside");
        // SAFETY: within a mapping that lives to the end of the test, on a page; any bytes are a word.
        let word = unsafe { &*mapping.ptr().wrapping_add(4096).cast::<<Real as Mem>::U64>() };
        word.store(7, Ordering::Relaxed);
        segment.release(start, 8192).expect("it can be released");
        segment.back(start, 8192).expect("there is memory");
        assert_eq!(word.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_spec_whose_lengths_wrap_is_refused() {
        let spec = Spec { kind: 77, fingerprint: 1, seats: 1, body: 100, reserve: 0 };
        for (body, reserve) in [(u64::MAX - 4095, 0), (u64::MAX, 0), (0, u64::MAX), (1 << 62, 1 << 62)] {
            let said = Segment::create(&Spec { body, reserve, ..spec }).expect_err("no file is that long");
            assert!(matches!(said, Error::SpecTooLong { .. }), "{said}");
        }
        assert!(spec.fits() && !Spec { seats: usize::MAX, ..spec }.fits());
    }
}
