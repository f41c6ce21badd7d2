//! ipc-channel: byte channels over Unix sockets; 1 MiB goes in pieces.

use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender};

use crate::flow::messages::{self, Messages};
use crate::flow::records::{self, BATCH, PopRecords, PushRecords, Record};
use crate::flow::{Failure, Said};
use crate::{Entry, Peer, Place, patiently};

/// What the connecting end hands over: where to send to it, and where it sends.
type Hello = (IpcBytesSender, IpcBytesReceiver);

struct Channels {
    to: IpcBytesSender,
    from: IpcBytesReceiver,
    first: bool,
    /// Whether it sleeps where there is nothing to receive.
    sleeps: bool,
}

impl Channels {
    /// Spins, since a wake-up would cost more than all the rest, unless it is to sleep.
    fn next(&self) -> Result<Vec<u8>, Failure> {
        if self.sleeps {
            return self.from.recv().map_err(|e| e.to_string().into());
        }
        loop {
            match self.from.try_recv() {
                Ok(bytes) => return Ok(bytes),
                Err(ipc_channel::TryRecvError::Empty) => std::hint::spin_loop(),
                Err(e) => return Err(e.to_string().into()),
            }
        }
    }
}

impl Messages for Channels {
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        Ok(self.to.send(message)?)
    }

    fn recv(&mut self, message: &mut [u8]) -> Result<(), Failure> {
        let bytes = self.next()?;
        if bytes.len() != message.len() {
            return Err("a message of another length".into());
        }
        message.copy_from_slice(&bytes);
        Ok(())
    }
}

impl PushRecords for Channels {
    fn push(&mut self, records: &[Record]) -> Result<(), Failure> {
        let mut bytes = [0u8; BATCH * 64];
        let words = records.iter().flatten();
        bytes.chunks_exact_mut(8).zip(words).for_each(|(b, word)| b.copy_from_slice(&word.to_ne_bytes()));
        Ok(self.to.send(&bytes[..records.len() * 64])?)
    }
}

impl PopRecords for Channels {
    fn pop(&mut self, into: &mut [Record]) -> Result<usize, Failure> {
        let bytes = self.next()?;
        let count = bytes.len() / 64;
        if count > into.len() {
            return Err("a batch of another length".into());
        }
        let words = bytes.chunks_exact(8).map(|b| b.try_into().map_or(0, u64::from_ne_bytes));
        into.iter_mut().flatten().zip(words).for_each(|(to, word)| *to = word);
        Ok(count)
    }
}

impl Peer for Channels {
    fn obey(&mut self, bench: &str, bytes: usize, n: u64) -> Result<Said, Failure> {
        self.sleeps = bench == "wait_pingpong";
        let batch = if bench == "msgrate" { BATCH } else { 1 };
        match (bench, self.first) {
            ("pingpong" | "wait_pingpong", first) => messages::pingpong(first, self, bytes, n),
            ("stream", first) => messages::stream(first, self, bytes, n),
            ("msgrate" | "msgrate_unbatched", true) => records::produce(self, n, batch),
            ("msgrate" | "msgrate_unbatched", false) => records::consume(self, n, batch),
            (other, _) => Err(format!("no bench {other} on ipc-channel").into()),
        }
    }
}

/// Rank 0 waits under a name that it leaves in a file.
fn join(place: &Place<'_>) -> Result<Box<dyn Peer>, Failure> {
    let path = place.directory.join("ipc-channel");
    if place.rank == 0 {
        let (server, name) = IpcOneShotServer::<Hello>::new()?;
        let draft = place.directory.join("ipc-channel.draft");
        std::fs::write(&draft, name)?;
        std::fs::rename(draft, path)?; // whole, or not there
        let (_, (to, from)) = server.accept().map_err(|e| e.to_string())?;
        return Ok(Box::new(Channels { to, from, first: true, sleeps: false }));
    }
    let name = patiently(|| std::fs::read_to_string(&path).ok())?;
    let (to_me, from) = ipc::bytes_channel()?;
    let (to, from_me) = ipc::bytes_channel()?;
    let hello = IpcSender::<Hello>::connect(name)?;
    hello.send((to_me, from_me)).map_err(|e| e.to_string())?;
    Ok(Box::new(Channels { to, from, first: false, sleeps: false }))
}

pub(crate) fn entry() -> Entry {
    let orders = "pingpong,msgrate,msgrate_unbatched,stream,wait_pingpong";
    Entry { kind: "ipc-channel", package: Some("ipc-channel"), threads: false, orders, join }
}
