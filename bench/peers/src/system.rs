//! What the system brings: Unix sockets and pipes, once sleeping in the kernel and once spinning on it.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::flow::messages::{self, Messages};
use crate::flow::records::{self, BATCH, PopRecords, PushRecords, Record};
use crate::flow::words::{self, Pop, Push};
use crate::flow::{Failure, Said, Yield};
use crate::{Entry, Peer, Place, patiently};

/// As much as a pipe may hold without privileges, and as a socket's buffer is asked to.
const BUFFER: usize = 1 << 20;
/// Bytes of records read at once.
const AHEAD: usize = 64 << 10;

/// A byte stream each way.
struct Stream {
    to: File,
    from: File,
    /// Records that were read and not yet taken.
    ahead: Vec<u8>,
    taken: usize,
    first: bool,
}

impl Stream {
    fn new(to: OwnedFd, from: OwnedFd, spin: bool, first: bool) -> Result<Stream, Failure> {
        if spin {
            never_sleep(&to)?;
            never_sleep(&from)?;
        }
        Ok(Stream { to: to.into(), from: from.into(), ahead: Vec::with_capacity(AHEAD), taken: 0, first })
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        while !bytes.is_empty() {
            match self.to.write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(e) if e.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn read_some(from: &mut File, into: &mut [u8]) -> Result<usize, Failure> {
        loop {
            match from.read(into) {
                Ok(0) => return Err("the other end has closed".into()),
                Ok(n) => return Ok(n),
                Err(e) if e.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

fn never_sleep(fd: &impl AsFd) -> Result<(), Failure> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}

impl Messages for Stream {
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        self.write_all(message)
    }

    fn recv(&mut self, message: &mut [u8]) -> Result<(), Failure> {
        let mut at = 0;
        while at < message.len() {
            at += Self::read_some(&mut self.from, &mut message[at..])?;
        }
        Ok(())
    }
}

impl PushRecords for Stream {
    fn push(&mut self, records: &[Record]) -> Result<(), Failure> {
        let mut bytes = [0u8; BATCH * 64];
        let words = records.iter().flatten();
        bytes.chunks_exact_mut(8).zip(words).for_each(|(b, word)| b.copy_from_slice(&word.to_ne_bytes()));
        self.write_all(&bytes[..records.len() * 64])
    }
}

impl PopRecords for Stream {
    fn pop(&mut self, into: &mut [Record]) -> Result<usize, Failure> {
        while self.ahead.len() - self.taken < 64 {
            self.ahead.drain(..self.taken);
            self.taken = 0;
            let have = self.ahead.len();
            self.ahead.resize(AHEAD, 0);
            let n = Self::read_some(&mut self.from, &mut self.ahead[have..])?;
            self.ahead.truncate(have + n);
        }
        let count = into.len().min((self.ahead.len() - self.taken) / 64);
        let bytes = &self.ahead[self.taken..][..count * 64];
        let words = bytes.chunks_exact(8).map(|b| b.try_into().map_or(0, u64::from_ne_bytes));
        into.iter_mut().flatten().zip(words).for_each(|(to, word)| *to = word);
        self.taken += count * 64;
        Ok(count)
    }
}

impl Peer for Stream {
    fn obey(&mut self, bench: &str, bytes: usize, n: u64) -> Result<Said, Failure> {
        let batch = if bench == "msgrate" { BATCH } else { 1 };
        match (bench, self.first) {
            ("pingpong" | "wait_pingpong", first) => messages::pingpong(first, self, bytes, n),
            ("stream", first) => messages::stream(first, self, bytes, n),
            ("msgrate" | "msgrate_unbatched", true) => records::produce(self, n, batch),
            ("msgrate" | "msgrate_unbatched", false) => records::consume(self, n, batch),
            (other, _) => Err(format!("no bench {other} on a byte stream").into()),
        }
    }
}

fn socket(place: &Place<'_>, spin: bool) -> Result<Box<dyn Peer>, Failure> {
    let path = place.directory.join("socket");
    let end = if place.rank == 0 {
        UnixListener::bind(path)?.accept()?.0
    } else {
        patiently(|| UnixStream::connect(&path).ok())?
    };
    setsockopt(&end, sockopt::SndBuf, &BUFFER)?;
    let other = OwnedFd::from(end.try_clone()?);
    Ok(Box::new(Stream::new(other, end.into(), spin, place.rank == 0)?))
}

/// Makes the pipe, or finds that the other end has made it.
fn pipe(place: &Place<'_>, name: &str, write: bool) -> Result<OwnedFd, Failure> {
    let path = place.directory.join(name);
    match mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(()) | Err(nix::Error::EEXIST) => {}
        Err(e) => return Err(e.into()),
    }
    // Sleeps until the other end opens it too.
    let file = OpenOptions::new().read(!write).write(write).open(path)?;
    fcntl(&file, FcntlArg::F_SETPIPE_SZ(BUFFER as i32))?;
    Ok(file.into())
}

fn pipes(place: &Place<'_>, spin: bool) -> Result<Box<dyn Peer>, Failure> {
    if place.ranks == 4 {
        let end: File = pipe(place, "queue", place.rank < 2)?.into();
        if spin {
            never_sleep(&end)?;
        }
        return Ok(Box::new(Queue { end, rank: place.rank }));
    }
    let first = place.rank == 0;
    let there = pipe(place, "there", first)?;
    let back = pipe(place, "back", !first)?;
    let (to, from) = if first { (there, back) } else { (back, there) };
    Ok(Box::new(Stream::new(to, from, spin, first)?))
}

/// One end of a pipe that two write to and two read from, a word at a time.
struct Queue {
    end: File,
    rank: usize,
}

impl Push for Queue {
    fn try_push(&mut self, word: u64) -> bool {
        // Never half a word: a pipe takes up to PIPE_BUF bytes whole or not at all.
        matches!(self.end.write(&word.to_ne_bytes()), Ok(8))
    }
}

impl Pop for Queue {
    fn try_pop(&mut self) -> Option<u64> {
        let mut bytes = [0; 8];
        matches!(self.end.read(&mut bytes), Ok(8)).then_some(u64::from_ne_bytes(bytes))
    }
}

impl Peer for Queue {
    fn obey(&mut self, bench: &str, _bytes: usize, n: u64) -> Result<Said, Failure> {
        match (bench, self.rank) {
            ("mpmc" | "wait_mpmc", who @ 0..2) => words::produce_shared::<Yield>(self, who as u64, n),
            ("mpmc" | "wait_mpmc", _) => words::consume_shared::<Yield>(self, n),
            (other, _) => Err(format!("no bench {other} on a shared pipe").into()),
        }
    }
}

pub(crate) fn entries() -> Vec<Entry> {
    let entry = |kind, orders, join| Entry { kind, package: None, threads: false, orders, join };
    const ORDERS: &str = "pingpong,msgrate,msgrate_unbatched,stream";
    const PIPES: &str = "pingpong,msgrate,msgrate_unbatched,stream,mpmc";
    // Those that don't spin sleep in every row.
    const SLEEPING: &str = "pingpong,msgrate,msgrate_unbatched,stream,wait_pingpong";
    const SLEEPING_PIPES: &str = "pingpong,msgrate,msgrate_unbatched,stream,mpmc,wait_pingpong,wait_mpmc";
    vec![
        entry("unix-socket", SLEEPING, |place| socket(place, false)),
        entry("unix-socket-spin", ORDERS, |place| socket(place, true)),
        entry("pipe", SLEEPING_PIPES, |place| pipes(place, false)),
        entry("pipe-spin", PIPES, |place| pipes(place, true)),
    ]
}
