//! The peers that are Rust crates or come with the system: each as a contender of the bench.
//!
//! ```text
//! sapwood-peers --list                        NAME KIND threads|processes ORDER,ORDER...   one line a peer
//! sapwood-peers KIND RANK RANKS DIRECTORY     takes the bench's orders
//! ```
//! The loops, the payloads and the checks are the bench's own (`bench/src/flow`); here are only the calls.

#[allow(dead_code)] // what only the bench needs
#[path = "../../src/flow/mod.rs"]
mod flow;

#[cfg(feature = "ringfire")]
mod fire;
#[cfg(feature = "iceoryx2")]
mod iceoryx;
#[cfg(feature = "ipc-channel")]
mod ipc;
mod system;
mod threads;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use flow::{Failure, Said, serve};

/// One process of a peer.
trait Peer {
    /// Obeys `BENCH BYTES ITERATIONS`.
    fn obey(&mut self, bench: &str, bytes: usize, n: u64) -> Result<Said, Failure>;
}

/// What a process is told when it starts.
struct Place<'a> {
    rank: usize,
    ranks: usize,
    directory: &'a Path,
}

/// Asks until there is an answer, for as long as a start may take.
#[allow(dead_code)] // where no such peer is built
fn patiently<T>(mut ask: impl FnMut() -> Option<T>) -> Result<T, Failure> {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if began.elapsed() > Duration::from_secs(20) {
            return Err("the other end did not come within 20 s".into());
        }
        std::thread::yield_now();
    }
}

/// A peer as `--list` shows it, and how it begins.
struct Entry {
    kind: &'static str,
    /// Whose version its name carries; none of what comes with the system.
    package: Option<&'static str>,
    threads: bool,
    orders: &'static str,
    join: fn(&Place<'_>) -> Result<Box<dyn Peer>, Failure>,
}

fn entries() -> Vec<Entry> {
    let mut all = threads::entries();
    #[cfg(feature = "iceoryx2")]
    all.push(iceoryx::entry());
    #[cfg(feature = "ringfire")]
    all.push(fire::entry());
    #[cfg(feature = "ipc-channel")]
    all.push(ipc::entry());
    all.extend(system::entries());
    all
}

impl Entry {
    /// The kind, and the version that stands in the lock file.
    fn name(&self) -> String {
        let version = self.package.and_then(version);
        version.map_or_else(|| self.kind.to_owned(), |version| format!("{}-{version}", self.kind))
    }
}

/// Major and minor version of a package.
fn version(package: &str) -> Option<String> {
    let lock = include_str!("../Cargo.lock");
    let (_, rest) = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    let mut parts = rest.split(['.', '"']);
    Some(format!("{}.{}", parts.next()?, parts.next()?))
}

fn run() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--list"] => {
            for e in entries() {
                let ranks = if e.threads { "threads" } else { "processes" };
                println!("{} {} {ranks} {}", e.name(), e.kind, e.orders);
            }
            Ok(())
        }
        [kind, rank, ranks, directory] => {
            let entry = entries().into_iter().find(|e| e.kind == kind);
            let entry = entry.ok_or_else(|| format!("no peer {kind}"))?;
            let place = Place { rank: rank.parse()?, ranks: ranks.parse()?, directory: directory.as_ref() };
            if !entry.threads {
                serve::pin(place.rank)?;
            }
            serve::serve(
                place.directory,
                place.rank,
                || (entry.join)(&place),
                |peer, bench, bytes, n| peer.obey(bench, bytes, n),
            )
        }
        _ => Err("usage: sapwood-peers --list | KIND RANK RANKS DIRECTORY".into()),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("sapwood-peers: {why}");
            ExitCode::FAILURE
        }
    }
}
