//! Real segments against a bad peer: header fields and seat lines that are wrong in every way when a segment is opened,
//! and another process that writes nonsense over all that a peer may write, at full speed, while ranks work. Values may
//! be wrong then, and calls may fail; nothing else. Where an access left its bounds the kernel would end this process.
//!
//! # Safety
//! Maps segments by hand and writes their words as atomics: what a process that knows the layout can do.
#![allow(unsafe_code)]

mod common;

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::panic::Location;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::*;
use memmap2::{MmapOptions, MmapRaw};
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use sapwood_core::board::Leaving;
use sapwood_core::link::{Deadline, Link, Source};
use sapwood_core::mem::{Atom, Mem, Ordering, Real};
use sapwood_core::member::{Fault, Member, Patience};
use sapwood_core::reduce::Op;
use sapwood_core::wait::WaitPolicy;
use sapwood_shm::ring::{frames, jobs, latest, mpmc, spsc, stream};
use sapwood_shm::{AllocError, Error, Group, Life, Processes, Rendezvous, Segment, Spec, link, prices};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

fn rounds(short: usize) -> usize {
    if std::env::var_os("SAPWOOD_FULL").is_some() { 20 * short } else { short }
}

/// A field of a segment's header: where, how long, and the error that says it is wrong.
struct Field {
    at: u64,
    bytes: usize,
    names_it: fn(&Error) -> bool,
}

const FIELDS: [Field; 7] = [
    Field { at: 0, bytes: 8, names_it: |e| matches!(e, Error::NotASegment { .. }) },
    Field { at: 8, bytes: 4, names_it: |e| matches!(e, Error::OtherVersion { .. }) },
    Field { at: 12, bytes: 4, names_it: |e| matches!(e, Error::OtherKind { .. }) },
    Field { at: 16, bytes: 8, names_it: |e| matches!(e, Error::OtherLayout { .. }) },
    Field { at: 24, bytes: 4, names_it: |e| matches!(e, Error::OtherSize { .. }) },
    Field { at: 32, bytes: 8, names_it: |e| matches!(e, Error::OtherLengths { .. }) },
    Field { at: 40, bytes: 8, names_it: |e| matches!(e, Error::OtherLengths { .. }) },
];
const MAGIC: usize = 0;
const SEATS: usize = 4;
/// Nothing depends on them where a segment is attached.
const UNCHECKED: [(u64, usize); 3] = [(28, 4), (48, 8), (60, 4)];

/// Wrong in every way: off by one, every bit, everything, nothing, the halves the other way round, at random.
fn wrong(right: u64, bits: u32, random: &mut Random) -> Vec<u64> {
    let mut all: Vec<u64> = (0..bits).map(|b| right ^ 1 << b).collect();
    all.extend([
        0,
        u64::MAX,
        right.wrapping_add(1),
        right.wrapping_sub(1),
        right.rotate_left(bits / 2),
        !right,
    ]);
    all.extend((0..16).map(|_| random.next()));
    let mask = u64::MAX >> (64 - bits);
    all.iter_mut().for_each(|v| *v &= mask);
    all.retain(|v| *v != right & mask);
    all
}

fn read(file: &File, at: u64, bytes: usize) -> u64 {
    let mut word = [0; 8];
    file.read_exact_at(&mut word[..bytes], at).expect("it is there");
    u64::from_le_bytes(word)
}

fn write(file: &File, at: u64, bytes: usize, value: u64) {
    file.write_all_at(&value.to_le_bytes()[..bytes], at).expect("it is there");
}

/// A segment in a file that this test has too.
fn built(spec: &Spec) -> (File, Segment) {
    let fd = Segment::anonymous_fd().expect("a file without a name can be made");
    let file = File::from(fd.try_clone().expect("a descriptor can be duplicated"));
    (file, Segment::build_or_attach(fd, spec, PATIENCE).expect("there is memory"))
}

/// Receives the file over a socket: attaches, and never builds.
fn receive(file: &File, spec: &Spec) -> Result<Segment, Error> {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let fds = [file.as_raw_fd()];
    let carrier = [std::io::IoSlice::new(b"S")];
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(ours.as_raw_fd(), &carrier, &rights, MsgFlags::empty(), None).expect("it can be sent");
    Segment::receive(&theirs, spec)
}

#[test]
fn a_header_field_that_is_wrong_in_any_way_is_named() {
    let (spec, mut random) = (spec(3), Random(1));
    let (file, segment) = built(&spec);
    for field in &FIELDS {
        let right = read(&file, field.at, field.bytes);
        for value in wrong(right, field.bytes as u32 * 8, &mut random) {
            write(&file, field.at, field.bytes, value);
            let said = receive(&file, &spec).expect_err("it is wrong");
            assert!((field.names_it)(&said), "{value:#x} at {}: {said}", field.at);
            let inherited = file.as_fd().try_clone_to_owned().expect("a descriptor can be duplicated");
            // Without its magic it is what a builder left that died, and is built again.
            match Segment::build_or_attach(inherited, &spec, PATIENCE) {
                Ok(_) => assert_eq!(field.at, FIELDS[MAGIC].at, "{value:#x}"),
                Err(said) => assert!((field.names_it)(&said), "{value:#x} at {}: {said}", field.at),
            }
        }
        write(&file, field.at, field.bytes, right);
        receive(&file, &spec).expect("all is right again");
    }
    for (at, bytes) in UNCHECKED {
        for value in wrong(read(&file, at, bytes), bytes as u32 * 8, &mut random) {
            write(&file, at, bytes, value);
            let attached = receive(&file, &spec).expect("nothing depends on it");
            assert_eq!(attached.nonce(), segment.nonce());
        }
    }
}

/// Several fields at once, any bytes in the whole page: an error, or a segment that is what it should be.
#[test]
fn a_header_of_any_bytes_is_refused_or_right() {
    let (spec, mut random) = (spec(3), Random(2));
    let (file, _segment) = built(&spec);
    let mut good = [0; 64];
    file.read_exact_at(&mut good, 0).expect("it is there");
    for _ in 0..rounds(2_000) {
        let mut bytes = good;
        for _ in 0..=random.below(6) {
            let (at, long) = (random.below(64), random.below(12) + 1);
            bytes[at..64.min(at + long)].iter_mut().for_each(|b| *b = random.next() as u8);
        }
        file.write_all_at(&bytes, 0).expect("it is there");
        match receive(&file, &spec) {
            Err(_) => assert_ne!(bytes[..48], good[..48]),
            Ok(segment) => {
                assert!(bytes[..28] == good[..28] && bytes[32..48] == good[32..48]);
                assert_eq!(segment.body_len(), 4096);
            }
        }
    }
}

/// Under a name too, where whoever finds the file first looks for living holders, by what the file itself says.
#[test]
fn a_named_header_that_is_wrong_in_any_way_is_named() {
    let (folder, spec, mut random) = (Folder::new("hostile"), spec(3), Random(3));
    let enter = |spec: &Spec| Segment::enter_named_in(&folder.0, "x", spec, 1, PATIENCE);
    let (_segment, _seat) = enter(&spec).expect("a new one");
    let path = file_of(&folder.0, "x");
    let file = File::options().read(true).write(true).open(&path).expect("it is ours");
    for (i, field) in FIELDS.iter().enumerate() {
        let right = read(&file, field.at, field.bytes);
        for value in wrong(right, field.bytes as u32 * 8, &mut random) {
            // How many seats a file can claim is another test's.
            let value = if i == SEATS { value & 0xFFF } else { value };
            if value == right {
                continue;
            }
            write(&file, field.at, field.bytes, value);
            let said = enter(&spec).map(|_| ()).expect_err("it is wrong");
            assert!((field.names_it)(&said), "{value:#x} at {}: {said}", field.at);
            assert!(path.exists(), "{value:#x} at {}: the name was taken away", field.at);
        }
        write(&file, field.at, field.bytes, right);
    }
    let said = enter(&spec).map(|_| ()).expect_err("all is right again, and we sit there");
    assert!(matches!(said, Error::SeatTaken { seat: 1, .. }), "{said}");
}

/// Where the lines of the seats begin, and what lies in one: epoch, pid, start time, namespace, never, buried,
/// recovered.
const SEAT_TABLE: u64 = 4096;
const WORDS: [(u64, usize); 7] = [(0, 4), (4, 4), (8, 8), (16, 8), (24, 4), (28, 4), (32, 4)];

fn set_line(file: &File, seat: u64, line: [u64; 7]) {
    for ((at, bytes), value) in WORDS.into_iter().zip(line) {
        write(file, SEAT_TABLE + 64 * seat + at, bytes, value);
    }
}

/// A look at a seat that nobody holds. A rank that another test starts just now may have the description of its last
/// holder too, until it is this program anew.
fn free<V>(what: &str, mut look: impl FnMut() -> Result<V, Error>) -> Result<V, Error> {
    let mut answer = None;
    until(what, || {
        answer = Some(look());
        !matches!(answer, Some(Err(Error::SeatTaken { seat: 0, .. })))
    });
    answer.expect("just seen")
}

fn lines() -> impl Iterator<Item = [u64; 7]> {
    let us = std::process::id();
    let parent = nix::unistd::getppid().as_raw().cast_unsigned();
    let pids = [0, 1, us, parent, 4_194_303, i32::MAX as u32, 1 << 31, u32::MAX];
    let (start, space) = (u64::MAX - 1, u64::MAX - 2); // to be put in: what we say of ourselves
    let times = [0, 1, start, u64::MAX, 1 << 63];
    let spaces = [(0, 0), (space, 0), (space, 1), (u64::MAX, u64::from(u32::MAX))];
    let epochs = [0, 1, 2, 0x3FF, 0x400, u32::MAX];
    epochs.into_iter().flat_map(move |epoch| {
        pids.into_iter().flat_map(move |pid| {
            times.into_iter().flat_map(move |time| {
                spaces.into_iter().flat_map(move |(space, never)| {
                    [(0, 0), (epoch, epoch), (1, u32::MAX), (u32::MAX, 7)]
                        .into_iter()
                        .map(move |(b, r)| [epoch.into(), pid.into(), time, space, never, b.into(), r.into()])
                })
            })
        })
    })
}

#[test]
fn any_words_in_a_seat_line_give_a_life_and_a_typed_answer() {
    let (file, segment) = built(&spec(2));
    // Seat 1 is held by us, and says what a process says of itself.
    let seat = segment.take_seat(1).expect("it is free");
    assert_eq!(seat.epoch(), 1);
    let mut ours = [0; 7];
    for (word, (at, bytes)) in ours.iter_mut().zip(WORDS) {
        *word = read(&file, SEAT_TABLE + 64 + at, bytes);
    }
    let mut lives = [0; 2];
    for mut line in lines() {
        if line[2] == u64::MAX - 1 {
            line[2] = ours[2];
        }
        if line[3] == u64::MAX - 2 {
            line[3] = ours[3];
        }
        let [epoch, pid, start, space, never, buried, _] = line;
        let what = format!("{line:?}");
        set_line(&file, 0, line);
        set_line(&file, 1, line);
        // Nobody holds seat 0: the locks decide, then the epoch.
        let expected = if epoch == 0 && never == 0 { Life::Absent } else { Life::Dead };
        until(&what, || segment.life(0) == expected);
        match free(&what, || segment.take_seat(0)) {
            Ok(_) => assert_eq!(epoch, 0, "{what}"),
            Err(Error::SeatDead { seat: 0, pid: said }) => {
                assert!(epoch != 0 && u64::from(said) == pid, "{what}")
            }
            Err(e) => panic!("{what}: {e}"),
        }
        // We hold seat 1: alive, unless the line names somebody else, or another epoch than ours.
        let life = segment.life(1);
        let known = pid != 0 && space == ours[3] && start != 0;
        let ourselves = (pid, start) == (ours[1], ours[2]);
        let alive = epoch == 0 || epoch == 1 && buried != 1 && (ourselves || !known);
        assert!(life != Life::Absent && (life == Life::Alive || !alive), "{what}: {life:?}");
        lives[usize::from(life == Life::Alive)] += 1;
        match segment.take_seat(1).expect_err("we hold it") {
            Error::SeatTaken { seat: 1, .. } => {}
            Error::SeatDead { seat: 1, .. } => assert!(!alive, "{what}"),
            e => panic!("{what}: {e}"),
        }
        assert_eq!(u64::from(segment.seat_pid(1)), pid);
    }
    println!("the line of a living holder: {lives:?} (dead, alive)");
    assert!(lives[0] > 0 && lives[1] > 0);
}

/// Where the seats of the dead are taken again, their names are recovered, so many as the words say and names there
/// are.
#[test]
fn any_words_in_a_seat_line_end_a_recovery() {
    let (file, segment) = built(&spec(2));
    let mut answers = [0; 3];
    for (i, line) in lines().enumerate().filter(|(i, _)| i % 7 == 0) {
        set_line(&file, 0, line);
        let mut recovered = 0_u32;
        let any = i % 2 == 0;
        let answer = free(&format!("{line:?}"), || {
            recovered = 0;
            let recover = |_: &Segment, _: &_, _| {
                recovered += 1;
                Ok(())
            };
            if any { segment.take_any_seat(recover) } else { segment.take_seat_again(0, recover) }
        });
        assert!(recovered <= 1023, "{line:?}");
        match answer {
            Ok(seat) => answers[seat.number()] += 1,
            Err(Error::SeatSpoilt { seat: 0, deaths: 1024.. }) if !any => answers[2] += 1,
            Err(e) => panic!("{line:?}: {e}"),
        }
        set_line(&file, 1, [0; 7]);
    }
    println!("seat 0, seat 1, spoilt: {answers:?}");
    assert!(answers.iter().all(|n| *n > 0), "{answers:?}");
}

/// How a bad peer's bytes lie: the files of one test, newest last.
fn victims(test: &str) -> Vec<std::path::PathBuf> {
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
const FOUND: usize = 60;

/// What the bad peer has mapped: header, seats, body, all that is not sparse.
struct Spray {
    inode: u64,
    header: [u64; 8],
    map: MmapRaw,
}

impl Spray {
    /// A named file is whole when it gets its name, so that its length can be believed once.
    fn of(path: &Path) -> Option<Spray> {
        let file = File::options().read(true).write(true).open(path).ok()?;
        let prefix = read(&file, 32, 8) as usize;
        let meta = file.metadata().ok()?;
        let map = MmapOptions::new().len(prefix.min(meta.len() as usize)).map_raw(&file).ok()?;
        let header = std::array::from_fn(|i| read(&file, i as u64 * 8, 8));
        Some(Spray { inode: meta.ino(), header, map })
    }

    fn word(&self, at: usize) -> &<Real as Mem>::U64 {
        assert!(at < self.map.len() / 8);
        // SAFETY: inside the mapping, and aligned: it begins on a page. Any bytes are a word.
        unsafe { &*self.map.as_ptr().cast::<<Real as Mem>::U64>().add(at) }
    }

    /// Writes `count` words, in each file somewhere else: everywhere; the seats; the places, or what lies at
    /// the beginning of a ring; all behind these; the header, which is right again and again.
    fn words(&self, count: usize, random: &mut Random, recent: &mut [u64; 8]) {
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
fn bad_peer(test: &str) -> Result<(), String> {
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
fn beside_a_bad_peer(test: &'static str, short: usize, round: impl Fn(usize, &str, &dyn Fn(bool))) {
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

const DEADLINE: Duration = Duration::from_millis(60);

/// One rank's work: calls of every kind until the group is over for it, or it has had enough. No result is believed.
fn work(m: &mut Member<Real, Group>, turn: usize) -> Result<(), Fault> {
    const FENCE: u32 = 0xFE4C_E5E5;
    let here = Location::caller();
    let mut resident = match Group::alloc::<f32>(m, 20_000, here) {
        Ok(t) => Some(t),
        Err(AllocError::Fault(fault)) => return Err(fault),
        Err(_) => None,
    };
    for len in [2, 30, 900, 25_000, 300_000] {
        let mut t = vec![1u32; len + 8];
        t[..4].fill(FENCE);
        t[len + 4..].fill(FENCE);
        let own = &mut t[4..len + 4];
        let add = |s: &mut [u32], n: &[u32]| s.iter_mut().zip(n).for_each(|(s, n)| *s = s.wrapping_add(*n));
        let said = match (turn + len / 10) % 4 {
            0 => m.all_reduce_with(&mut [own], add, here).map(drop),
            1 => m.broadcast(&mut [own], turn % m.size(), here),
            _ => m.all_reduce(&mut [own], Op::Sum, here).map(drop),
        };
        assert!(t[..4] == [FENCE; 4] && t[len + 4..] == [FENCE; 4], "a write beyond a tensor of {len}");
        goes_on(said)?;
    }
    if let Some(t) = resident.as_deref_mut() {
        goes_on(m.all_reduce(&mut [t], Op::Sum, here).map(drop))?;
    }
    goes_on(m.barrier(here))
}

/// A mismatch is an answer too.
fn goes_on(said: Result<(), Fault>) -> Result<(), Fault> {
    said.or_else(|fault| if matches!(fault, Fault::Mismatch { .. }) { Ok(()) } else { Err(fault) })
}

/// Enters and works as one rank. Says how many turns came to their end, and what ended it.
fn rank(
    name: &str,
    rank: usize,
    ranks: usize,
    entered: &mpsc::Sender<bool>,
    go: &mpsc::Receiver<()>,
) -> String {
    let group = Group::enter(Rendezvous::Name(name.to_owned()), rank, ranks, DEADLINE);
    let _ = entered.send(group.is_ok());
    let _ = go.recv();
    let group = match group {
        Ok(group) => group,
        Err(e) => return format!("entering: {e}"),
    };
    let deadline = DEADLINE.as_nanos() as u64;
    let patience = Patience { policy: WaitPolicy::Adaptive, prices: prices(), crowded: false, deadline };
    let mut m = group.member(patience);
    let mut turns = 0;
    let fault = loop {
        match work(&mut m, turns) {
            Ok(()) if turns < 12 => turns += 1,
            end => break end,
        }
    };
    // Whatever the board says is only said.
    let (behind, pids, cpus) = (m.behind().count(), m.region().pids(), m.region().cpus());
    assert!(behind <= ranks && pids.len() == ranks && cpus <= 1024);
    (0..ranks).for_each(|q| drop(m.calls(q).map(|(a, b)| format!("{a} {b}"))));
    m.leave(Leaving::Dropped);
    format!("{turns} turns, then {fault:?}")
}

/// All ranks of one group. Every call must come back long before `PATIENCE` is over.
fn group(name: &str, ranks: usize, freeze: bool, go: &dyn Fn(bool)) -> Vec<String> {
    let (entered, has_entered) = mpsc::channel();
    let (say, said) = mpsc::channel();
    let mut starts = Vec::new();
    if freeze {
        go(false);
    }
    for r in 0..ranks {
        let (entered, say, name) = (entered.clone(), say.clone(), name.to_owned());
        let (start, started) = mpsc::channel();
        starts.push(start);
        std::thread::spawn(move || {
            let _ = say.send(rank(&name, r, ranks, &entered, &started));
        });
    }
    drop((entered, say));
    for _ in 0..ranks {
        let ok = has_entered.recv_timeout(PATIENCE).expect("whoever enters comes back");
        assert!(ok || !freeze, "nobody was in the way");
    }
    go(true);
    if freeze {
        let file = File::open(file_of(Path::new("/dev/shm"), name)).expect("all are in it");
        until("the bad peer has found it", || read(&file, FOUND as u64, 4) != 0);
    }
    drop(starts);
    let stories: Vec<_> = (0..ranks).map_while(|_| said.recv_timeout(PATIENCE).ok()).collect();
    assert_eq!(stories.len(), ranks, "a rank panicked or never came back; the others: {stories:?}");
    stories
}

#[test]
fn ranks_end_with_typed_errors_beside_a_peer_that_writes_nonsense_everywhere() {
    let (mut stories, counted) = (Vec::new(), std::cell::RefCell::new(Vec::new()));
    beside_a_bad_peer("board", 24, |i, name, go| {
        counted.borrow_mut().extend(group(name, 2 + i % 2, i % 4 != 3, go));
    });
    stories.append(&mut counted.borrow_mut());
    let count = |what: &str| stories.iter().filter(|s| s.contains(what)).count();
    let ends = ["entering", "TimedOut", "Died", "Left", "Failed", "BadToken", "Ok("].map(|e| (e, count(e)));
    println!(
        "{} ranks, {} ended in their first turn: {ends:?}",
        stories.len(),
        stories.iter().filter(|s| s.starts_with("0 turns")).count()
    );
    assert!(
        count("Err(") > 0 && stories.iter().filter(|s| s.starts_with("0 turns")).count() < stories.len(),
        "{stories:?}"
    );
}

/// The very words are written on which entering decides: header and seats. Whoever comes gets a segment that is what it
/// should be, or a typed error, before long.
#[test]
fn who_enters_beside_a_peer_that_writes_nonsense_comes_back_with_a_typed_answer() {
    let answers = std::cell::RefCell::new(std::collections::BTreeMap::<String, u32>::new());
    beside_a_bad_peer("enter", 12, |_, name, go| {
        let (spec, patience) = (spec(3), Duration::from_millis(20));
        go(false);
        let _first = Segment::enter_named(name, &spec, 0, PATIENCE).expect("the first");
        let file = File::open(file_of(Path::new("/dev/shm"), name)).expect("it is there");
        go(true);
        until("the bad peer has found it", || read(&file, FOUND as u64, 4) != 0);
        for i in 0..60 {
            let began = Instant::now();
            let answer = match i % 4 {
                0 => Segment::create_named(name, &spec, 1),
                _ => Segment::enter_named(name, &spec, 1 + i % 2, patience),
            };
            assert!(began.elapsed() < PATIENCE);
            let said = match answer {
                Ok((segment, _seat)) => {
                    assert_eq!((segment.body_len(), segment.spec()), (4096, &spec));
                    (0..3).for_each(|s| {
                        assert!(segment.life(s) != Life::Absent || segment.seat_pid(s) < u32::MAX)
                    });
                    "in".to_owned()
                }
                Err(e) => format!("{e:?}").split([' ', '{', '(']).next().unwrap_or_default().to_owned(),
            };
            *answers.borrow_mut().entry(said).or_default() += 1;
        }
    });
    println!("{:?}", answers.borrow());
    assert!(answers.borrow().len() >= 3, "the bad peer has done no harm: {:?}", answers.borrow());
}

/// How often each answer came.
type Answers = std::collections::BTreeMap<String, u32>;

fn note<V>(answers: &mut Answers, what: &str, said: Result<V, impl std::fmt::Debug>) {
    let said = said.map_or_else(|e| format!("{e:?}").replace('"', ""), |_| "Ok".to_owned());
    let word = said.split([' ', '{', '(']).next().unwrap_or_default();
    *answers.entry(format!("{what}: {word}")).or_default() += 1;
}

/// Calls on each object, a turn; enough for the bad peer to be met, and successors come when an end has failed.
const TURNS: usize = 100_000;

/// Opens both ends, says so, and works on both in turn. What an end is opened anew after a while finds anything.
type Work = fn(&str, &mut dyn FnMut(), &mut Answers) -> Result<(), Error>;

fn values(name: &str, opened: &mut dyn FnMut(), answers: &mut Answers) -> Result<(), Error> {
    let open =
        || Ok::<_, Error>((spsc::Producer::<u64>::open(name, 64)?, spsc::Consumer::<u64>::open(name, 64)?));
    let (mut tx, mut rx) = open()?;
    opened();
    let mut into = [0; 40];
    for i in 0..TURNS {
        note(answers, "push", tx.try_push(7));
        note(answers, "pop", rx.try_pop());
        if i % 5 == 0 {
            note(answers, "push many", tx.push_slice(&[3; 40]));
            note(answers, "pop many", rx.pop_slice(&mut into));
            assert!(tx.len() <= 64);
        }
        if i % 10_000 == 9_999 {
            note(answers, "peers", Ok::<_, ()>((tx.peer(), rx.peer())));
            tx.leave();
            rx.leave();
            match open() {
                Ok(ends) => (tx, rx) = ends,
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}

fn many(name: &str, opened: &mut dyn FnMut(), answers: &mut Answers) -> Result<(), Error> {
    let open = || mpmc::Ring::<[u64; 3]>::open(name, 16, 8);
    let mut rings = [open()?, open()?, open()?];
    opened();
    for i in 0..TURNS {
        let ring = &mut rings[i % 3];
        note(answers, "push", ring.try_push([7; 3]));
        note(answers, "pop", ring.try_pop());
        assert!(ring.len() <= 16);
        if i % 10_000 == 9_999 {
            rings[i % 3] = open()?;
        }
    }
    Ok(())
}

fn bytes(name: &str, opened: &mut dyn FnMut(), answers: &mut Answers) -> Result<(), Error> {
    let (mut tx, mut rx) = (stream::Writer::open(name, 4096)?, stream::Reader::open(name, 4096)?);
    opened();
    let (from, mut into) = ([7; 5000], [0; 5000]);
    for i in 0..TURNS {
        let wrote = tx.write(&[&from[..i % 100], &from[..i % 5000]]);
        let read = rx.read(&mut into[..(i * 7) % 5000]);
        assert!(wrote.as_ref().is_ok_and(|n| *n <= 4096) || wrote.is_err());
        assert!(read.as_ref().is_ok_and(|n| *n <= 4096) || read.is_err());
        note(answers, "write", wrote);
        note(answers, "read", read);
        assert!(tx.room() <= 4096 && rx.available() <= 4096);
    }
    Ok(())
}

fn newest(name: &str, opened: &mut dyn FnMut(), answers: &mut Answers) -> Result<(), Error> {
    let (mut tx, rx) = (latest::Writer::<[u64; 9]>::open(name)?, latest::Reader::<[u64; 9]>::open(name)?);
    opened();
    for i in 0..TURNS as u64 {
        note(answers, "publish", tx.publish(&[i; 9]));
        note(answers, "read", rx.read());
    }
    Ok(())
}

fn loans(name: &str, opened: &mut dyn FnMut(), answers: &mut Answers) -> Result<(), Error> {
    let open = || frames::Frames::open(name, 8, 300, 4);
    let mut ends = [open()?, open()?];
    opened();
    for i in 0..TURNS {
        let [tx, rx] = &mut ends;
        match tx.loan() {
            Ok(mut loan) => {
                let len = loan.len();
                loan.fill(7);
                note(answers, "send", loan.send(i % (len + 1)).map_err(|e| e.map(|_| ())));
            }
            Err(e) => note(answers, "loan", Err::<(), _>(e)),
        }
        match rx.receive() {
            Ok(message) => {
                assert!(
                    message.len() <= 320 && message.iter().map(|b| u64::from(*b)).sum::<u64>() < 320 * 256
                );
                note(answers, "receive", Ok::<_, ()>(()));
            }
            Err(e) => note(answers, "receive", Err::<(), _>(e)),
        }
        if i % 10_000 == 9_999 {
            ends[i / 10_000 % 2] = open()?;
        }
    }
    Ok(())
}

fn work_items(name: &str, opened: &mut dyn FnMut(), answers: &mut Answers) -> Result<(), Error> {
    let open = || jobs::Jobs::<u64, [u64; 2]>::open(name, 16, 4, 3);
    let mut ends = [open()?, open()?];
    opened();
    for i in 0..TURNS {
        let [owner, worker] = &mut ends;
        note(answers, "submit", owner.submit(i as u64));
        match worker.take() {
            Ok(taken) if i % 9 == 0 => note(answers, "decline", worker.decline(taken)),
            Ok(taken) => note(answers, "finish", worker.finish(taken, [7; 2])),
            Err(e) => note(answers, "take", Err::<(), _>(e)),
        }
        note(answers, "collect", owner.collect().ok_or("Empty"));
        if i % 10_000 == 9_999 {
            owner.recover_dead();
            assert!(owner.census().in_flight() <= 16);
            ends[i / 10_000 % 2] = open()?;
        }
    }
    Ok(())
}

fn messages(name: &str, opened: &mut dyn FnMut(), answers: &mut Answers) -> Result<(), Error> {
    let (mut a, mut b) = (link::open(name, 4096, 0)?, link::open(name, 4096, 1)?);
    opened();
    let (soon, mut into) = (Deadline::after(Duration::from_millis(1)), [0; 3000]);
    for i in 0..TURNS / 100 {
        note(answers, "try_send", a.try_send(i as u64, Source::Bytes(&[7; 100])));
        note(answers, "try_recv", b.try_recv());
        note(answers, "recv", b.recv(&mut into, soon));
        if i % 16 == 0 {
            note(answers, "send", b.send(i as u64, Source::Bytes(&[7; 3000]), soon));
            note(answers, "recv long", a.recv(&mut into, soon));
        }
    }
    note(answers, "close", a.close(soon));
    Ok(())
}

/// One object, beside the bad peer. Every call must come back long before `PATIENCE` is over.
fn object(name: &str, work: Work, freeze: bool, go: &dyn Fn(bool)) -> Answers {
    let (say, said) = mpsc::channel();
    let (opened, has_opened) = mpsc::channel();
    let (start, started) = mpsc::channel::<()>();
    if freeze {
        go(false);
    }
    let of = name.to_owned();
    std::thread::spawn(move || {
        let mut answers = Answers::new();
        let mut wait = || {
            let _ = opened.send(());
            let _ = started.recv();
        };
        let end = work(&of, &mut wait, &mut answers);
        note(&mut answers, "opened", end);
        let _ = say.send(answers);
    });
    let opened = has_opened.recv_timeout(PATIENCE);
    assert!(opened.is_ok() || !freeze, "nobody was in the way");
    go(true);
    if freeze {
        let file = File::open(file_of(Path::new("/dev/shm"), name)).expect("all are in it");
        until("the bad peer has found it", || read(&file, FOUND as u64, 4) != 0);
    }
    drop(start);
    said.recv_timeout(2 * PATIENCE).expect("every call comes back, and none panics")
}

#[test]
fn rings_and_links_answer_beside_a_peer_that_writes_nonsense_everywhere() {
    let works: [(&str, Work); 7] = [
        ("spsc", values),
        ("mpmc", many),
        ("stream", bytes),
        ("latest", newest),
        ("frames", loans),
        ("jobs", work_items),
        ("link", messages),
    ];
    let all = std::cell::RefCell::new(std::collections::BTreeMap::<&str, Answers>::new());
    beside_a_bad_peer("rings", 42, |i, name, go| {
        let (what, work) = works[i % works.len()];
        let found = object(name, work, i / works.len() % 4 != 3, go);
        let mut all = all.borrow_mut();
        let answers = all.entry(what).or_default();
        found.into_iter().for_each(|(said, n)| *answers.entry(said).or_default() += n);
    });
    let mut harm = 0;
    for (what, answers) in all.borrow().iter() {
        println!("{what}: {answers:?}");
        let usual = |said: &str| [": Ok", ": Empty", ": Full"].iter().any(|u| said.ends_with(u));
        harm += answers.iter().filter(|(said, _)| !usual(said)).map(|(_, n)| n).sum::<u32>();
    }
    assert!(harm > 0, "the bad peer has done no harm");
}
