//! Segments handed to processes that did not inherit them: the descriptor travels over a Unix socket (unix(7),
//! SCM_RIGHTS).
//!
//! # Safety
//! The message is received through libc, because nix hands out nothing of a message that was cut, and its descriptors
//! would stay open. What the kernel has written is walked as recvmsg(2) says; each descriptor is taken over once.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

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
        send(to, self.file())
    }

    /// Takes the segment that the other end [sent](Self::send), if it is what `spec` says. Waits as long as the
    /// socket's read time-out allows. Only anonymous segments can be received: their files are sealed, so that whoever
    /// sent one can't cut it off later. Another file is [`Error::NotSealed`].
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::NotOneDescriptor`], [`Error::DescriptorsCut`], what differs from `spec`, and what
    /// the socket says (a time-out is [`Error::System`]).
    pub fn receive(from: &UnixStream, spec: &Spec) -> Result<Segment, Error> {
        let fd = receive_one(from)?;
        require_seals(&fd)?;
        Segment::attach(reopen(&fd)?, spec, None)
    }
}

/// Hands a file on.
pub(crate) fn send(to: &UnixStream, file: &File) -> Result<(), Error> {
    let fds = [file.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(&[CARRIER])], &rights, flags, None)
        .map_err(|e| Error::system("sending a segment", e))?;
    Ok(())
}

/// The one file that the next message carries.
pub(crate) fn receive_one(from: &UnixStream) -> Result<OwnedFd, Error> {
    let mut fds = receive(from)?;
    match (fds.pop(), fds.len()) {
        (Some(fd), 0) => Ok(fd),
        (last, more) => Err(Error::NotOneDescriptor { got: more + usize::from(last.is_some()) }),
    }
}

/// Room for more than the one descriptor that is wanted, so that a second one is counted rather than cut off.
const ROOM: usize = 8;

/// All descriptors of one message, close-on-exec, owned: those that nobody wants are closed.
fn receive(from: &UnixStream) -> Result<Vec<OwnedFd>, Error> {
    let mut carrier = 0_u8;
    let mut iov = libc::iovec { iov_base: (&raw mut carrier).cast(), iov_len: 1 };
    // Words, so that the headers in it are aligned.
    let mut space = [0_u64; 2 + ROOM / 2];
    // SAFETY: a msghdr is numbers and pointers; zeros are valid for all of them.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&mut iov, 1);
    (message.msg_control, message.msg_controllen) = (space.as_mut_ptr().cast(), size_of_val(&space) as _);
    // SAFETY: `message` names `iov`, which names `carrier`, and `space`, all with their true lengths, and all live.
    let got = unsafe { libc::recvmsg(from.as_raw_fd(), &mut message, libc::MSG_CMSG_CLOEXEC) };
    if got < 0 {
        return Err(Error::system("receiving a segment", io::Error::last_os_error()));
    }
    let fds = descriptors(&message);
    match got {
        0 => Err(Error::Closed),
        _ if message.msg_flags & libc::MSG_CTRUNC != 0 => Err(Error::DescriptorsCut { got: fds.len() }),
        _ => Ok(fds),
    }
}

/// Takes over what a received message brought, be it cut or whole.
fn descriptors(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the kernel has filled the control memory that `message` names and said how much; the macros stay inside
    // it, and each header moves on by at least its own size.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !next.is_null() {
        // SAFETY: not null, so a whole header of the kernel's, aligned because the memory is made of words.
        let header = unsafe { &*next };
        if (header.cmsg_level, header.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: as for CMSG_FIRSTHDR; CMSG_LEN only reckons.
            let (data, empty) = unsafe { (libc::CMSG_DATA(next).cast::<i32>(), libc::CMSG_LEN(0) as usize) };
            let count = (header.cmsg_len as usize).saturating_sub(empty) / size_of::<i32>();
            // SAFETY: `count` numbers lie behind the header, inside the control memory: the kernel has cut the length
            // to what it wrote. Each is a descriptor that it has just made for us and that nobody else knows.
            fds.extend((0..count).map(|i| unsafe { OwnedFd::from_raw_fd(data.add(i).read_unaligned()) }));
        }
        // SAFETY: as for CMSG_FIRSTHDR.
        next = unsafe { libc::CMSG_NXTHDR(message, next) };
    }
    fds
}

static_assertions::const_assert_eq!(size_of::<libc::cmsghdr>(), 16); // two words of `space`
