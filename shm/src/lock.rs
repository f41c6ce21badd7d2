//! Locks on one byte of a file that belong to an open file description (fcntl(2), "Open file description locks"): the
//! kernel drops them when the last descriptor of the description goes, at death too, and never while a process is
//! merely stopped.

use std::fs::File;
use std::os::fd::AsFd;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{F_UNLCK, F_WRLCK, SEEK_SET, flock};

use crate::error::Error;

fn byte(kind: i32, at: i64) -> flock {
    flock { l_type: kind as i16, l_whence: SEEK_SET as i16, l_start: at, l_len: 1, l_pid: 0 }
}

/// Tries to lock a byte for this description; `false` if another one holds it.
pub(crate) fn take(file: &impl AsFd, at: i64) -> Result<bool, Error> {
    match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&byte(F_WRLCK, at))) {
        Ok(_) => Ok(true),
        Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(false),
        Err(e) => Err(Error::system("locking a byte of the segment", e)),
    }
}

/// Gives a byte up for this description, whoever else has a copy of it.
pub(crate) fn release(file: &impl AsFd, at: i64) {
    // Cannot fail for a byte that we hold; if it did, closing the file would drop the lock.
    let _ = fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&byte(F_UNLCK, at)));
}

/// Whether another description holds the byte. Where the kernel can't say, somebody might.
pub(crate) fn held_by_another(file: &impl AsFd, at: i64) -> bool {
    let mut lock = byte(F_WRLCK, at);
    let asked = fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut lock));
    asked.is_err() || i32::from(lock.l_type) != F_UNLCK
}

/// A byte that is locked until this is dropped.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    file: &'a File,
    at: i64,
}

impl<'a> Held<'a> {
    pub(crate) fn exclusive(file: &'a File, at: i64) -> Result<Option<Held<'a>>, Error> {
        Ok(take(file, at)?.then_some(Held { file, at }))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        release(self.file, self.at);
    }
}
