//! What the tests against a bad peer share: its dice, its words in a file, and the process that it is.
//!
//! # Safety
//! Maps segments by hand and writes their words as atomics: what a process that knows the layout can do.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Instant;

use memmap2::{MmapOptions, MmapRaw};
use nix::sys::signal::Signal;
use sapwood_core::mem::{Atom, Mem, Ordering, Real};
use sapwood_shm::Processes;

use super::*;

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

pub(crate) fn rounds(short: usize) -> usize {
    if std::env::var_os("SAPWOOD_FULL").is_some() { 20 * short } else { short }
}

pub(crate) fn read(file: &File, at: u64, bytes: usize) -> u64 {
    let mut word = [0; 8];
    file.read_exact_at(&mut word[..bytes], at).expect("it is there");
    u64::from_le_bytes(word)
}

pub(crate) fn write(file: &File, at: u64, bytes: usize, value: u64) {
    file.write_all_at(&value.to_le_bytes()[..bytes], at).expect("it is there");
}

/// How a bad peer's bytes lie: the files of one test, newest last.
pub(crate) fn victims(test: &str) -> Vec<std::path::PathBuf> {
    let prefix = format!("sapwood-{}-{}", nix::unistd::geteuid(), name(test));
    let files = std::fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    let mut found: Vec<_> = files
        .filter(|f| f.file_name().to_string_lossy().starts_with(&prefix))
        .filter_map(|f| Some((f.metadata().ok()?.ino(), f.path())))
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, path)| path).collect()
}

/// Four bytes of the header that nothing depends on: not 0 once the bad peer has found the segment.
pub(crate) const FOUND: usize = 60;

/// What the bad peer has mapped: header, seats, body, all that is not sparse.
pub(crate) struct Spray {
    inode: u64,
    header: [u64; 8],
    map: MmapRaw,
}

impl Spray {
    /// A named file is whole when it gets its name, so that its length can be believed once.
    pub(crate) fn of(path: &Path) -> Option<Spray> {
        let file = File::options().read(true).write(true).open(path).ok()?;
        let prefix = read(&file, 32, 8) as usize;
        let meta = file.metadata().ok()?;
        let map = MmapOptions::new().len(prefix.min(meta.len() as usize)).map_raw(&file).ok()?;
        let header = std::array::from_fn(|i| read(&file, i as u64 * 8, 8));
        Some(Spray { inode: meta.ino(), header, map })
    }

    pub(crate) fn word(&self, at: usize) -> &<Real as Mem>::U64 {
        assert!(at < self.map.len() / 8);
        // SAFETY: inside the mapping, and aligned: it begins on a page. Any bytes are a word.
        unsafe { &*self.map.as_ptr().cast::<<Real as Mem>::U64>().add(at) }
    }

    /// Writes `count` words, in each file somewhere else: everywhere; the seats; the places, or what lies at
    /// the beginning of a ring; all behind these; the header, which is right again and again.
    pub(crate) fn words(&self, count: usize, random: &mut Random, recent: &mut [u64; 8]) {
        let end = self.map.len() / 8;
        let places = 1024..1280.min(end);
        let buffers = places.end.min(end - 1)..end;
        let front = [0..end, places.clone(), 512..1024, places.clone(), buffers, 0..8];
        let focus = front[self.inode as usize % front.len()].clone();
        self.word(FOUND / 8).fetch_or(1 << 63, Ordering::Relaxed);
        // At full speed, or slowly enough that the others come further.
        let pause = if self.inode & 1 == 0 { 0 } else { 1 << (self.inode >> 1 & 7) };
        for _ in 0..count / (pause + 1) {
            (0..pause * 20).for_each(|_| std::hint::spin_loop());
            let at = focus.start + random.below(focus.len());
            // Half of the words are spared, others in each file: one that says "closed" hides all the rest.
            if Random(self.inode << 32 ^ at as u64).next() & 1 == 0 {
                continue;
            }
            let word = self.word(at);
            if at < 8 && random.below(4) > 0 {
                word.store(self.header[at], Ordering::Relaxed);
                continue;
            }
            let seen = word.load(Ordering::Relaxed);
            recent[random.below(8)] = seen;
            word.store(
                match random.below(8) {
                    0 => random.next(),
                    1 => seen ^ 1 << random.below(64),
                    2 => seen.wrapping_add(1),
                    3 => seen.wrapping_sub(1),
                    4 => 0,
                    5 => u64::MAX,
                    _ if at < 8 => self.header[at],
                    _ => recent[random.below(8)],
                },
                Ordering::Relaxed,
            );
        }
    }
}

/// The bad peer: a process that writes nonsense into the newest file of the test until it is killed.
pub(crate) fn bad_peer(test: &str) -> Result<(), String> {
    let (mut random, mut recent, mut current) = (Random(7), [0; 8], None::<Spray>);
    let began = Instant::now();
    while began.elapsed() < 10 * PATIENCE {
        let newest = victims(test).pop().and_then(|p| std::fs::metadata(&p).ok().map(|m| (m.ino(), p)));
        if let Some((inode, path)) = newest
            && current.as_ref().is_none_or(|c| c.inode != inode)
        {
            current = Spray::of(&path);
        }
        if let Some(spray) = &current {
            spray.words(50_000, &mut random, &mut recent);
        }
    }
    Err("nobody has ended this rank".to_owned())
}

/// Runs `round` again and again, each with a name of its own, beside the bad peer. `freeze` stops it until the round
/// has begun: then what is opened is whole, and only what is used is not.
pub(crate) fn beside_a_bad_peer(
    test: &'static str,
    short: usize,
    round: impl Fn(usize, &str, &dyn Fn(bool)),
) {
    let running = Processes::new(1).start(move |_| bad_peer(test)).expect("a rank can be started");
    let pid = running.pids()[0];
    let go = |go: bool| {
        running.signal(0, if go { Signal::SIGCONT } else { Signal::SIGSTOP }).expect("a child of ours");
        until("the bad peer has stopped, or goes on", || (state(pid) == Some('T')) != go);
    };
    for i in 0..rounds(short) {
        let name = format!("{}-{i}", name(test));
        let _forget = Forget::name(&name);
        round(i, &name, &go);
        go(true);
    }
    assert!(!ended(pid), "the bad peer has ended by itself");
    kill(&running, 0);
    let _ = running.wait(PATIENCE);
}
