//! Segments under a name: `/dev/shm/sapwood-<uid>-<name>`, mode 0600, for processes of one user that are not related.
//!
//! A named segment is built whole in a file without a name, its builder takes its seat, and then it is linked into
//! place: nobody ever sees half of it, and nobody sees one that nobody has sat in. A name that is taken stays taken
//! (rename would replace a living one). A name whose holders are all dead is *stale*: whoever finds it retires the
//! segment and takes the name away.
//!
//! | step                              | who                | what a crash after it leaves                               |
//! |-----------------------------------|--------------------|------------------------------------------------------------|
//! | build in an O_TMPFILE, take a seat | creator           | nothing                                                    |
//! | link to the name                  | creator            | a stale name                                               |
//! | open, lock the byte of a seat     | anyone             | the byte goes with its holder                              |
//! | look again: same inode, not retired | the same         | the same                                                   |
//! | write the seat's words, raise its epoch | the same     | a dead seat: stale once all that came are dead             |
//! | lock the name, retire, check all dead, unlink | who found it stale | the lock goes with its holder; a retired segment is looked at again by the next |
//!
//! The retirer sets `retired` before it looks at the seats, a newcomer locks its byte before it looks at `retired`: one
//! of the two sees the other. A newcomer that sees `retired` gives the byte up and has left no trace; one that does not
//! will be seen, so the segment keeps its name. Files under a name can't be sealed: truncation by another process of
//! the same user is outside of what this protects against.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat, lstat};
use nix::unistd::{geteuid, linkat};
use sapwood_core::board::Life;
use sapwood_core::mem::{Atom, Mem, Ordering, Real};

use crate::error::Error;
use crate::layout::{MOST_SEATS, NAME_LOCK, Spec};
use crate::lock::Held;
use crate::seat::Seat;
use crate::segment::{Peek, Segment, reopen};

/// Where named segments live.
pub(crate) const DIRECTORY: &str = "/dev/shm";

/// The file of a name.
fn path(directory: &Path, name: &str) -> Result<PathBuf, Error> {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !(1..=64).contains(&name.len()) || name.starts_with('.') || !name.chars().all(good) {
        return Err(Error::BadName { name: name.to_owned() });
    }
    Ok(directory.join(format!("sapwood-{}-{name}", geteuid())))
}

/// How a newcomer takes its seat, if the condition holds once nobody else can take it.
///
/// Whatever a seat is recovered by (`recover` of `take_again_if`) is called about one segment only, also where a name
/// changes hands: it is called after the last look that can say [`Error::Retired`], a segment that was just built has
/// nothing to recover, and what `recover` itself returns ends `enter` (a caller's own may return that error; those of
/// the rings do not). `ring::frames` keeps a handle from call to call and relies on it.
type Sit<'a> = &'a mut dyn FnMut(&Segment, &dyn Fn() -> bool) -> Result<Seat, Error>;

impl Segment {
    /// Takes seat `seat`, in which nobody has sat yet, in the segment called `name`, which is built if there is none.
    ///
    /// # Errors
    /// What differs from `spec` where there is one, [`Error::SeatTaken`], [`Error::SeatDead`], [`Error::Untrusted`] for
    /// a file that is not this user's alone, [`Error::NoSpace`], [`Error::Unsettled`].
    pub fn enter_named(
        name: &str,
        spec: &Spec,
        seat: usize,
        deadline: Duration,
    ) -> Result<(Segment, Seat), Error> {
        Self::enter_named_in(Path::new(DIRECTORY), name, spec, seat, deadline)
    }

    /// The same in another folder.
    ///
    /// # Errors
    /// As for [`enter_named`](Self::enter_named).
    pub fn enter_named_in(
        directory: &Path,
        name: &str,
        spec: &Spec,
        seat: usize,
        deadline: Duration,
    ) -> Result<(Segment, Seat), Error> {
        enter(directory, name, spec, deadline, &mut |segment, current| segment.take_seat_if(seat, current))
    }

    /// Takes a seat in the segment called `name`, which is built if there is none: `seat`, or the first that can be
    /// had; also one whose holder is dead, which is recovered first, as by [`take_seat_again`](Self::take_seat_again).
    /// Where all holders are dead nothing is recovered: the name goes to a new segment.
    ///
    /// # Errors
    /// As for [`enter_named`](Self::enter_named), [`Error::NoSeat`] instead of a dead seat, and what `recover` returns.
    pub fn enter_named_again(
        name: &str,
        spec: &Spec,
        seat: Option<usize>,
        deadline: Duration,
        recover: impl FnMut(&Segment, &Seat, u32) -> Result<(), Error>,
    ) -> Result<(Segment, Seat), Error> {
        Self::enter_named_again_in(Path::new(DIRECTORY), name, spec, seat, deadline, recover)
    }

    /// The same in another folder.
    ///
    /// # Errors
    /// As for [`enter_named_again`](Self::enter_named_again).
    pub fn enter_named_again_in(
        directory: &Path,
        name: &str,
        spec: &Spec,
        seat: Option<usize>,
        deadline: Duration,
        mut recover: impl FnMut(&Segment, &Seat, u32) -> Result<(), Error>,
    ) -> Result<(Segment, Seat), Error> {
        enter(directory, name, spec, deadline, &mut |segment, current| {
            segment.take_again_if(seat, current, &mut recover)
        })
    }

    /// Takes a seat, as [`enter_named_again`](Self::enter_named_again) does, in the very segment that is meant: the one
    /// with this number. Nothing is built.
    ///
    /// # Errors
    /// [`Error::Retired`] if it has the name no more, and as for [`enter_named_again`](Self::enter_named_again).
    pub(crate) fn enter_meant(
        name: &str,
        nonce: u64,
        spec: &Spec,
        deadline: Duration,
        mut recover: impl FnMut(&Segment, &Seat, u32) -> Result<(), Error>,
    ) -> Result<(Segment, Seat), Error> {
        let (path, began) = (path(Path::new(DIRECTORY), name)?, Instant::now());
        let sit: Sit<'_> = &mut |segment, current| segment.take_again_if(None, current, &mut recover);
        // Each turn that is not the last found a name that somebody was just taking away.
        while let Some(file) = open_trusted(&path)? {
            let found = match Peek::at(&file) {
                Err(Error::Truncated { .. }) => break,
                peek => peek?.header().nonce.load(Ordering::Acquire),
            };
            if found != nonce {
                break;
            }
            if let Some(entered) = enter_file(file, &path, spec, sit)? {
                return Ok(entered);
            }
            if began.elapsed() >= deadline {
                return Err(Error::Unsettled { name: name.to_owned(), waited: began.elapsed() });
            }
            std::thread::yield_now();
        }
        Err(Error::Retired)
    }

    /// Builds a segment under a name that nobody living holds, and takes seat `seat` in it.
    ///
    /// # Errors
    /// [`Error::NameTaken`], and as for [`enter_named`](Self::enter_named).
    pub fn create_named(name: &str, spec: &Spec, seat: usize) -> Result<(Segment, Seat), Error> {
        Self::create_named_in(Path::new(DIRECTORY), name, spec, seat)
    }

    /// The same in another folder.
    ///
    /// # Errors
    /// As for [`create_named`](Self::create_named).
    pub fn create_named_in(
        directory: &Path,
        name: &str,
        spec: &Spec,
        seat: usize,
    ) -> Result<(Segment, Seat), Error> {
        create(directory, name, spec, seat, |_| Ok(()))
    }

    /// The same; `fill` writes into the segment before anybody can find it.
    pub(crate) fn create_named_filled(
        name: &str,
        spec: &Spec,
        seat: usize,
        fill: impl FnOnce(&Segment) -> Result<(), Error>,
    ) -> Result<(Segment, Seat), Error> {
        create(Path::new(DIRECTORY), name, spec, seat, fill)
    }

    /// The segment called `name`, whatever it holds, if somebody living has it.
    pub(crate) fn find_named(name: &str) -> Result<Option<Segment>, Error> {
        let path = path(Path::new(DIRECTORY), name)?;
        let Some(file) = open_trusted(&path)? else { return Ok(None) };
        if retire_if_stale(&file, &path)?.is_none() {
            return Ok(None);
        }
        Segment::attach_any(&file)
    }

    /// Takes the name away, if it still is this segment's. The segment itself lives on until its last holder ends.
    ///
    /// # Errors
    /// What the system refuses; [`Error::Unsettled`] if somebody else has been at the name for a second.
    pub fn unlink(&self) -> Result<(), Error> {
        let Some(path) = self.path() else { return Ok(()) };
        // Of its own: other threads of this process are to be kept out too.
        let (file, began) = (reopen(self.file())?, Instant::now());
        while same_file(&file, path) {
            // Whoever holds this lock takes the same name away, or finds that it is not stale and leaves it.
            if let Some(_held) = Held::exclusive(&file, NAME_LOCK)? {
                return if same_file(&file, path) { unlink(path) } else { Ok(()) };
            }
            if began.elapsed() > LINGER {
                return Err(Error::Unsettled { name: path.display().to_string(), waited: began.elapsed() });
            }
            std::thread::yield_now();
        }
        Ok(())
    }
}

impl Segment {
    /// Takes the name away if all its holders are gone: for the last one that leaves, so that nothing stays behind. Who
    /// comes just now keeps it.
    pub(crate) fn forget(&self) {
        if let Some(path) = self.path() {
            // What fails here leaves a stale name, which the next one to come takes over.
            let _ = retire_if_stale(self.file(), path);
        }
    }
}

/// How often a creator tries to get a name that others are taking away.
const TRIES: usize = 16;
/// How long whoever unlinks a name waits for somebody else who is at it.
const LINGER: Duration = Duration::from_secs(1);

fn create(
    directory: &Path,
    name: &str,
    spec: &Spec,
    seat: usize,
    fill: impl FnOnce(&Segment) -> Result<(), Error>,
) -> Result<(Segment, Seat), Error> {
    let path = path(directory, name)?;
    let built = build_unnamed(directory, spec, &path)?;
    fill(&built)?;
    let seat = built.take_seat(seat)?;
    for _ in 0..TRIES {
        if link(&built, &path)? {
            return Ok((built, seat));
        }
        let Some(file) = open_trusted(&path)? else { continue };
        if let Some(holders) = retire_if_stale(&file, &path)? {
            return Err(Error::NameTaken { name: name.to_owned(), holders });
        }
        std::thread::yield_now();
    }
    Err(Error::NameTaken { name: name.to_owned(), holders: Vec::new() })
}

fn enter(
    directory: &Path,
    name: &str,
    spec: &Spec,
    deadline: Duration,
    sit: Sit<'_>,
) -> Result<(Segment, Seat), Error> {
    let (path, began) = (path(directory, name)?, Instant::now());
    // Each turn that is not the last found a name that somebody was just taking away or making.
    loop {
        if let Some(file) = open_trusted(&path)? {
            if let Some(entered) = enter_file(file, &path, spec, sit)? {
                return Ok(entered);
            }
        } else {
            let built = build_unnamed(directory, spec, &path)?;
            // Before it is linked: whoever finds it finds a holder.
            let seat = sit(&built, &|| true)?;
            if link(&built, &path)? {
                return Ok((built, seat));
            }
        }
        if began.elapsed() >= deadline {
            return Err(Error::Unsettled { name: name.to_owned(), waited: began.elapsed() });
        }
        std::thread::yield_now();
    }
}

/// `None`: the name is just changing hands, look again.
fn enter_file(file: File, path: &Path, spec: &Spec, sit: Sit<'_>) -> Result<Option<(Segment, Seat)>, Error> {
    if retire_if_stale(&file, path)?.is_none() {
        return Ok(None);
    }
    let segment = Segment::attach(file, spec, Some(path.to_path_buf()))?;
    match sit(&segment, &|| same_file(segment.file(), path)) {
        Ok(seat) => Ok(Some((segment, seat))),
        Err(Error::Retired) => Ok(None),
        // Its last holder may have died since the name was looked at.
        Err(Error::SeatDead { .. }) if retire_if_stale(segment.file(), path)?.is_none() => Ok(None),
        Err(e) => Err(e),
    }
}

fn build_unnamed(directory: &Path, spec: &Spec, path: &Path) -> Result<Segment, Error> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let fd = open(directory, flags, Mode::S_IRUSR | Mode::S_IWUSR)
        .map_err(|e| Error::system(format!("making a file in {}", directory.display()), e))?;
    Segment::build(File::from(fd), spec, Some(path.to_path_buf()))
}

/// `false` if the name is taken.
fn link(built: &Segment, path: &Path) -> Result<bool, Error> {
    let from = format!("/proc/self/fd/{}", built.file().as_raw_fd());
    match linkat(AT_FDCWD, from.as_str(), AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW) {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        Err(e) => Err(Error::system(format!("linking {}", path.display()), e)),
    }
}

/// The file under the name, if there is one; only a regular file of ours that nobody else may touch will do.
fn open_trusted(path: &Path) -> Result<Option<File>, Error> {
    let untrusted = |why| Error::Untrusted { path: path.to_path_buf(), why };
    let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let file = match open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::ENOENT) => return Ok(None),
        Err(Errno::ELOOP) => return Err(untrusted("it is a symbolic link")),
        Err(Errno::EACCES) => return Err(untrusted("this user may not open it")),
        Err(e) => return Err(Error::system(format!("opening {}", path.display()), e)),
    };
    let stat = fstat(&file).map_err(|e| Error::system("fstat of the segment", e))?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(untrusted("it is not a regular file"));
    }
    if stat.st_uid != geteuid().as_raw() {
        return Err(untrusted("it belongs to another user"));
    }
    if stat.st_mode & 0o077 != 0 {
        return Err(untrusted("others may open it"));
    }
    Ok(Some(file))
}

fn same_file(file: &File, path: &Path) -> bool {
    match (fstat(file), lstat(path)) {
        (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
        _ => false,
    }
}

fn unlink(path: &Path) -> Result<(), Error> {
    match nix::unistd::unlink(path) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(e) => Err(Error::system(format!("unlinking {}", path.display()), e)),
    }
}

/// Takes the name of a stale segment away (`None`), or says who holds it. One that nobody has ever sat in is none of
/// ours, since ours are linked with a holder; it is left alone.
fn retire_if_stale(file: &File, path: &Path) -> Result<Option<Vec<u32>>, Error> {
    let Some(seats) = Segment::attach_any(file)? else { return Ok(Some(Vec::new())) };
    let stale = || {
        let lives: Vec<Life> = (0..seats.spec().seats).map(|s| seats.life(s)).collect();
        let none_lives = lives.iter().all(|l| matches!(l, Life::Absent | Life::Dead));
        none_lives && lives.contains(&Life::Dead)
    };
    let retired = &seats.header().retired;
    if !stale() && retired.load(Ordering::Acquire) == 0 {
        let holders = (0..seats.spec().seats).filter(|s| seats.life(*s) != Life::Absent);
        return Ok(Some(holders.map(|s| seats.seat_pid(s)).collect()));
    }
    let Some(_held) = Held::exclusive(file, NAME_LOCK)? else { return Ok(None) };
    if !same_file(file, path) {
        return Ok(None);
    }
    retired.store(1, Ordering::Release);
    // With the fence in `sit_down`: either the newcomer sees `retired`, or we see its byte or its epoch.
    Real::fence(Ordering::SeqCst);
    if stale() {
        unlink(path)?;
    } else {
        retired.store(0, Ordering::Release);
    }
    Ok(None)
}

impl Segment {
    /// Whatever segment of this version the file holds, to look at its seats; `None` if it holds none.
    pub(crate) fn attach_any(file: &File) -> Result<Option<Segment>, Error> {
        let peek = match Peek::at(file) {
            Err(Error::Truncated { .. }) => return Ok(None),
            peek => peek?,
        };
        let h = peek.header();
        let spec = |body, reserve| Spec {
            kind: h.kind.load(Ordering::Relaxed),
            fingerprint: h.fingerprint.load(Ordering::Relaxed),
            seats: h.seats.load(Ordering::Relaxed) as usize,
            body,
            reserve,
        };
        let (prefix, length) = (h.prefix.load(Ordering::Relaxed), h.length.load(Ordering::Relaxed));
        // What is looked at next is as long as this number says.
        if spec(0, 0).seats > MOST_SEATS {
            return Ok(None);
        }
        let front = spec(0, 0).front();
        let (Some(body), Some(reserve)) = (prefix.checked_sub(front), length.checked_sub(prefix)) else {
            return Ok(None);
        };
        // `attach` checks everything against this spec again, the file's length above all.
        let copy = file.try_clone().map_err(|e| Error::system("duplicating a descriptor", e))?;
        if length > i64::MAX.cast_unsigned() || spec(body, reserve).length() != length {
            return Ok(None);
        }
        match Segment::attach(copy, &spec(body, reserve), None) {
            Ok(segment) => Ok(Some(segment)),
            Err(Error::System { what, source }) => Err(Error::System { what, source }),
            Err(_) => Ok(None),
        }
    }
}
