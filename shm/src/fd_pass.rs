//! Segments handed to processes that did not inherit them: the descriptor travels over a Unix socket (unix(7),
//! SCM_RIGHTS).
//!
//! # Safety
//! nix hands received descriptors out as numbers; they are taken over at once, each exactly once.
#![allow(unsafe_code)]

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};

use crate::error::Error;
use crate::layout::Spec;
use crate::segment::{Segment, reopen, require_seals};

/// The byte that a descriptor travels with: a message can't be empty.
const CARRIER: u8 = b'S';

impl Segment {
    /// Hands the segment to whoever reads the other end with [`receive`](Self::receive).
    ///
    /// ```
    /// use std::os::unix::net::UnixStream;
    /// use sapwood_shm::{Segment, Spec};
    ///
    /// let spec = Spec { kind: 77, fingerprint: 1, seats: 1, body: 4096, reserve: 0 };
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let segment = Segment::create(&spec)?;
    /// segment.send(&ours)?;
    /// assert_eq!(Segment::receive(&theirs, &spec)?.nonce(), segment.nonce());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// What the socket says.
    pub fn send(&self, to: &UnixStream) -> Result<(), Error> {
        let fds = [self.file().as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(&[CARRIER])], &rights, flags, None)
            .map_err(|e| Error::system("sending a segment", e))?;
        Ok(())
    }

    /// Takes the segment that the other end [sent](Self::send), if it is what `spec` says. Waits as long as the
    /// socket's read time-out allows. Only anonymous segments can be received: their files are sealed, so that whoever
    /// sent one can't cut it off later. Another file is [`Error::NotSealed`].
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::NotOneDescriptor`], what differs from `spec`, and what the socket says (a time-out
    /// is [`Error::System`]).
    pub fn receive(from: &UnixStream, spec: &Spec) -> Result<Segment, Error> {
        let mut fds = receive(from)?;
        match (fds.pop(), fds.len()) {
            (Some(fd), 0) => {
                let file = reopen(&fd)?;
                require_seals(&file)?;
                Segment::attach(file, spec, None)
            }
            (last, more) => Err(Error::NotOneDescriptor { got: more + usize::from(last.is_some()) }),
        }
    }
}

/// All descriptors of one message, close-on-exec, owned: those that nobody wants are closed.
fn receive(from: &UnixStream) -> Result<Vec<OwnedFd>, Error> {
    let mut carrier = [0];
    let mut iov = [IoSliceMut::new(&mut carrier)];
    // Room for more than the one that is wanted, so that a second one is seen rather than cut off.
    let mut space = nix::cmsg_space!([i32; 8]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<UnixAddr>(from.as_raw_fd(), &mut iov, Some(&mut space), flags)
        .map_err(|e| Error::system("receiving a segment", e))?;
    let mut fds = Vec::new();
    for control in message.cmsgs().map_err(|e| Error::system("reading a control message", e))? {
        if let ControlMessageOwned::ScmRights(got) = control {
            fds.extend(got.into_iter().map(own));
        }
    }
    if message.bytes == 0 { Err(Error::Closed) } else { Ok(fds) }
}

fn own(fd: i32) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
