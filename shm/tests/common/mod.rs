//! What the tests share: names that go again, bounded waiting, words in a segment's body.
#![allow(dead_code)] // each test program uses a part of it

pub(crate) mod hostile;
pub(crate) mod rings;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sapwood_core::mem::{Atom, Mem, Ordering, Real};
use sapwood_shm::{Error, Life, Running, Seat, Segment, Spec};

pub(crate) type Word = <Real as Mem>::U32;

/// Far longer than anything here takes: whoever waits as long has found a fault.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A segment of `seats` seats and a body of a page.
pub(crate) fn spec(seats: usize) -> Spec {
    Spec { kind: 900, fingerprint: 0xfeed, seats, body: 4096, reserve: 0 }
}

/// Looks until `seen` holds.
pub(crate) fn until(what: &str, mut seen: impl FnMut() -> bool) {
    let began = Instant::now();
    while !seen() {
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        std::thread::yield_now();
    }
}

/// Word `i` of the body.
pub(crate) fn word(segment: &Segment, i: usize) -> &Word {
    assert!(i < segment.body_len() / size_of::<Word>());
    // SAFETY: inside the body, which begins on a page and stays mapped as long as the segment lives; any bytes are a
    // word, and everybody uses them as words only.
    unsafe { &*segment.body_ptr().cast::<Word>().add(i) }
}

pub(crate) fn set(segment: &Segment, i: usize, value: u32) {
    word(segment, i).store(value, Ordering::Release);
}

pub(crate) fn get(segment: &Segment, i: usize) -> u32 {
    word(segment, i).load(Ordering::Acquire)
}

/// A name for the segment of one test of this program, the same in the ranks that it starts.
pub(crate) fn name(test: &str) -> String {
    let parent = if std::env::var_os("SAPWOOD_RANK").is_some() {
        nix::unistd::getppid().as_raw().cast_unsigned()
    } else {
        std::process::id()
    };
    format!("test-{parent}-{test}")
}

/// The file of a name.
pub(crate) fn file_of(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("sapwood-{}-{name}", nix::unistd::geteuid()))
}

/// Takes the name away when the test ends, well or badly. Not for ranks.
pub(crate) struct Forget(pub(crate) PathBuf);

impl Forget {
    pub(crate) fn name(name: &str) -> Forget {
        Forget(file_of(Path::new("/dev/shm"), name))
    }
}

impl Drop for Forget {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A folder of its own that goes when the test ends.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(test: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("sapwood-test-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder can be made");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a rank does that its parent is to end.
pub(crate) fn wait_to_be_ended() -> Result<(), String> {
    std::thread::sleep(3 * PATIENCE);
    Err("nobody has ended this rank".to_owned())
}

/// Waits until a seat is taken by a living process.
pub(crate) fn wait_for_seat(segment: &Segment, seat: usize) {
    until("a rank takes its seat", || segment.life(seat) == Life::Alive && segment.seat_pid(seat) != 0);
}

/// Looks at a seat until it is dead. It may pass through dying, but never come back.
pub(crate) fn wait_for_death(segment: &Segment, seat: usize) {
    let mut last = Life::Alive;
    until("a killed holder is dead", || {
        let now = segment.life(seat);
        assert!(now != Life::Absent, "a seat that was taken can't become absent");
        assert!(last == Life::Alive || now != Life::Alive, "it was {last:?} and became {now:?}");
        last = now;
        now == Life::Dead
    });
    assert_eq!(segment.life(seat), Life::Dead);
}

pub(crate) fn kill(running: &Running, rank: usize) {
    running.signal(rank, nix::sys::signal::Signal::SIGKILL).expect("a child of ours can be killed");
}

/// The state letter of a process (proc(5), field 3 of `stat`); `None` if there is none of this number.
pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 1..].trim_start().chars().next()
}

/// Whether the process runs no more, be it reaped or not.
pub(crate) fn ended(pid: u32) -> bool {
    matches!(state(pid), None | Some('Z' | 'X'))
}

/// Words of the body that make up an object: each is 0 or names its owner.
pub(crate) const OWNED: std::ops::Range<usize> = 64..128;

/// The name of an owner, as an object's word holds it.
pub(crate) fn owner(seat: usize, epoch: u32) -> u32 {
    (seat as u32 + 1) << 10 | epoch & 1023
}

/// Takes a free word of the object.
pub(crate) fn own(segment: &Segment, seat: &Seat) {
    let mine = owner(seat.number(), seat.epoch());
    let taken = OWNED.map(|i| word(segment, i)).any(|w| w.cas(0, mine, Ordering::Relaxed).is_ok());
    assert!(taken, "the object has a word for everybody");
}

/// Recovers the object from a dead holder: each of its words is taken over by the newcomer, under its own name, then
/// freed. A newcomer that dies in between leaves its name.
pub(crate) fn recover(segment: &Segment, me: &Seat, dead: u32) -> Result<(), Error> {
    let (mine, theirs) = (owner(me.number(), me.epoch()), owner(me.number(), dead));
    for w in OWNED.map(|i| word(segment, i)) {
        if w.cas(theirs, mine, Ordering::Acquire).is_ok() {
            w.store(0, Ordering::Release);
        }
    }
    Ok(())
}

/// Every owner that the object names, as (seat, epoch).
pub(crate) fn owners(segment: &Segment) -> Vec<(usize, u32)> {
    let words = OWNED.map(|i| word(segment, i).load(Ordering::Acquire)).filter(|w| *w != 0);
    words.map(|w| ((w >> 10) as usize - 1, w & 1023)).collect()
}
