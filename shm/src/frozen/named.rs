//! Frozen values under a name. Files under names can't be sealed, so whoever opens one copies it, by reads, which
//! whoever cuts the file off meanwhile can only make come short.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use super::image::{self, FRONT, Lines};
use super::{Bytes, Freezable, Frozen, OpenError, sealed};
use crate::error::Error;
use crate::layout::kind;
use crate::seat::Seat;
use crate::segment::{Segment, Spec};

/// A name under which a value can be opened, until this is dropped or its process ends. Values that were opened live
/// on.
#[derive(Debug)]
pub struct Published {
    seat: Seat,
    segment: Segment,
}

impl Drop for Published {
    fn drop(&mut self) {
        if self.seat.is_mine() {
            // If it fails, the name is stale once the seat is given up, and whoever comes across it takes it away.
            let _ = self.segment.unlink();
        }
    }
}

impl<T: ?Sized> Frozen<T> {
    /// The most bytes of a value that [`open`](Self::open) copies.
    pub const MOST: u64 = 1 << 32;

    /// Makes the value known under a name, to all processes of this user.
    ///
    /// ```
    /// use sapwood_shm::frozen::Frozen;
    ///
    /// # let name = &format!("doc-frozen-{}", std::process::id());
    /// let published = Frozen::new(&vec![1_u64, 2, 3])?.publish(name)?;
    /// let theirs = Frozen::<Vec<u64>>::open(name)?; // in another process
    /// drop(published);
    /// assert_eq!(theirs.read()?, [1, 2, 3]);
    /// assert!(Frozen::<Vec<u64>>::open(name).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NameTaken`] by what a living process has under it, [`Error::BadName`], [`Error::NoSpace`], and what the
    /// system refuses.
    pub fn publish(&self, name: &str) -> Result<Published, Error> {
        let image = &self.inner.image()[..self.inner.place.end()];
        let spec =
            Spec { kind: kind::FROZEN, fingerprint: 1, seats: 1, body: image.len() as u64, reserve: 0 };
        let (segment, seat) = Segment::create_named_filled(name, &spec, 0, |segment| {
            let written = segment.file().write_all_at(image, spec.front());
            written.map_err(|e| Error::system("writing a frozen value", e))
        })?;
        Ok(Published { seat, segment })
    }
}

impl<T: Freezable + ?Sized> Frozen<T> {
    /// A copy of the value that somebody has [published](Self::publish) under a name, of [`MOST`](Self::MOST) bytes at
    /// most.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(name: &str) -> Result<Self, OpenError> {
        let found = Segment::find_named(name)?;
        let segment = found.ok_or_else(|| OpenError::NotPublished { name: name.to_owned() })?;
        let Spec { kind: found, .. } = *segment.spec();
        if found != kind::FROZEN {
            return Err(Error::OtherKind { found, expected: kind::FROZEN }.into());
        }
        let (file, at, have) = (segment.file(), segment.spec().front(), segment.body_len() as u64);
        let mut front = [0; FRONT];
        read(file, &mut front, at, have)?;
        let need = image::place(&front)?.end();
        if need as u64 > Self::MOST {
            return Err(OpenError::TooLong { bytes: need as u64, most: Self::MOST });
        }
        // What it claims must be there, before as much is allocated.
        if need as u64 > have {
            return Err(OpenError::Truncated { need: need as u64, have });
        }
        let mut lines = Lines::zeroed(need);
        read(file, &mut lines.bytes_mut()[..need], at, have)?;
        let place = image::check(&lines.bytes()[..need], <T as sealed::Sealed>::of())?;
        Ok(Self::with(Bytes::Own(lines), place, OnceLock::new()))
    }
}

fn read(file: &std::fs::File, into: &mut [u8], at: u64, have: u64) -> Result<(), OpenError> {
    file.read_exact_at(into, at).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => OpenError::Truncated { need: into.len() as u64, have },
        _ => Error::system("reading a frozen value", e).into(),
    })
}
