//! The decisions of one case, and the file that they describe.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::libc::{F_WRLCK, SEEK_SET, flock};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use sapwood_shm::Spec;

use super::image::{HEADER, Image, MAGIC, Me, PAGE, SEAT, lengths};
use crate::input::Input;

/// Seats that cases ask for, at most.
const SEATS: usize = 4;
const KIND: u32 = 900;
const FINGERPRINT: u64 = 0xfeed;

/// How the file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// `Segment::receive`, sent over a socket.
    Receive,
    /// `Segment::build_or_attach`.
    Inherit,
    /// `Segment::enter_named_in`.
    Enter,
    /// `Segment::create_named_in`.
    Create,
}

/// What is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thing {
    /// A memfd, sealed as segments are; under a name: a file of this user alone.
    Proper,
    /// A memfd without seals; under a name: a file that others may open.
    Loose,
    /// A memfd that may not be written; under a name: a symbolic link to a proper file.
    Fixed,
    /// A file without a name; under a name: a pipe.
    Other,
    /// Something that is no file of memory; under a name: a folder.
    Stranger,
}

/// What nobody else may lock while the file is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Locks(u8);

impl Locks {
    pub(crate) fn seat(self, seat: usize) -> bool {
        seat < SEATS && self.0 & 1 << seat != 0
    }

    pub(crate) fn name(self) -> bool {
        self.0 & 0x10 != 0
    }

    pub(crate) fn building(self) -> bool {
        self.0 & 0x20 != 0
    }

    /// Takes them for a description of its own, which is returned.
    pub(crate) fn take(self, file: &impl AsFd, image: &Image) -> io::Result<File> {
        let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
        let own = OpenOptions::new().read(true).write(true).open(path)?;
        // As `shm/src/layout.rs` has them.
        // A seat's byte is that of its epoch; of one that nobody has taken, the first one's.
        let byte = |s: usize| (1 << 60) + ((s as i64) << 28) + (image.seat(s, 0).max(1) % (1 << 28)) as i64;
        let seats = (0..SEATS).filter(|s| self.seat(*s)).map(byte);
        let others = [(self.building(), 1 << 61), (self.name(), (1 << 61) + 1)];
        for at in seats.chain(others.into_iter().filter(|(held, _)| *held).map(|(_, at)| at)) {
            let lock =
                flock { l_type: F_WRLCK as i16, l_whence: SEEK_SET as i16, l_start: at, l_len: 1, l_pid: 0 };
            fcntl(&own, FcntlArg::F_OFD_SETLK(&lock))?;
        }
        Ok(own)
    }
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) way: Way,
    pub(crate) thing: Thing,
    /// What the opener asks for.
    pub(crate) asked: Spec,
    /// The seat that it wants: perhaps one that there is not.
    pub(crate) seat: usize,
    pub(crate) image: Image,
    pub(crate) locks: Locks,
    pub(crate) me: Me,
}

impl Plan {
    /// ```text
    /// byte 0      way of opening
    ///      1      thing that is opened
    ///      2      seats asked for (0 to 4)
    ///      3      bit 0: a page or two of body; bit 1: a reserve of four pages or none
    ///      4      seat wanted
    ///      5      locks: bits 0 to 3 seats, 4 name, 5 building
    ///      6      length of the file: see `length`
    ///      7      0: the rest is the file; else: a built segment, changed as the rest says
    /// ```
    pub(crate) fn read(data: &[u8]) -> Plan {
        static ME: LazyLock<Me> = LazyLock::new(me);
        let mut input = Input::new(data);
        let way = input.of(&[Way::Receive, Way::Enter, Way::Create, Way::Inherit]);
        let things = [Thing::Proper, Thing::Loose, Thing::Fixed, Thing::Other, Thing::Stranger];
        // Mostly proper ones: the rest is refused before a byte is read.
        let thing = things.get(input.below(16)).copied().unwrap_or(Thing::Proper);
        let seats = input.below(SEATS + 1);
        let sizes = input.u8();
        let body = PAGE * (1 + u64::from(sizes & 1));
        let reserve = PAGE * 4 * u64::from(sizes >> 1 & 1);
        let asked = Spec { kind: KIND, fingerprint: FINGERPRINT, seats, body, reserve };
        let seat = input.below(SEATS + 2);
        let locks = Locks(input.u8());
        let length = input.u8();
        let mut image = if input.u8() == 0 {
            let front = input.bytes(2 * PAGE as usize).to_vec();
            let length = (front.len() as u64).next_multiple_of(PAGE);
            Image { front, length }
        } else {
            changed(&mut input, &asked, &ME)
        };
        image.length = self::length(length, &image, &asked);
        // What lies behind the end is not in the file.
        image.front.truncate(usize::try_from(image.length).unwrap_or(usize::MAX));
        Plan { way, thing, asked, seat, image, locks, me: *ME }
    }

    fn fill(&self, file: &File) -> io::Result<()> {
        file.write_all_at(&self.image.front, 0)?;
        file.set_len(self.image.length)
    }

    /// The file as a descriptor.
    pub(crate) fn descriptor(&self, folder: &Path) -> io::Result<OwnedFd> {
        let memfd = |seals| -> io::Result<OwnedFd> {
            let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
            let file = File::from(memfd_create(c"sapwood-fuzz", flags)?);
            self.fill(&file)?;
            fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
            Ok(file.into())
        };
        let proper = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        match self.thing {
            Thing::Proper => memfd(proper),
            Thing::Loose => memfd(SealFlag::empty()),
            Thing::Fixed => memfd(proper | SealFlag::F_SEAL_WRITE),
            Thing::Other => {
                let flags = OFlag::O_TMPFILE.bits();
                let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(folder)?;
                self.fill(&file)?;
                Ok(file.into())
            }
            Thing::Stranger => match self.seat {
                0 => Ok(io::pipe()?.0.into()),
                1 => Ok(UnixStream::pair()?.0.into()),
                2 => Ok(File::open(folder)?.into()),
                _ => Ok(File::open("/dev/null")?.into()),
            },
        }
    }

    /// The file under the name.
    pub(crate) fn named(&self, path: &Path) -> io::Result<Option<File>> {
        let make = |path: &Path, mode| -> io::Result<Option<File>> {
            let file = OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path)?;
            self.fill(&file)?;
            Ok(Some(file))
        };
        match self.thing {
            Thing::Proper => make(path, 0o600),
            Thing::Loose => {
                // Not by the mode above, from which the process's mask is taken.
                let file = make(path, 0o600);
                fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o604))?;
                file
            }
            Thing::Fixed => {
                let real = path.with_extension("real");
                let file = make(&real, 0o600)?;
                symlink(&real, path)?;
                Ok(file)
            }
            Thing::Other => Ok(nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).map(|()| None)?),
            Thing::Stranger => fs::create_dir(path).map(|()| None),
        }
    }
}

/// The length of the file, by a byte: mostly what its header should say, else something next to it, what the header
/// does say, or some power of two.
fn length(choice: u8, image: &Image, asked: &Spec) -> u64 {
    let stated = image.get(40, 8);
    match choice {
        0x80..0x88 => image.length.wrapping_add_signed(i64::from(choice) - 0x84).min(1 << 20),
        0x88..0x90 => (u64::from(choice) - 0x88) * PAGE,
        0x90 => PAGE - 1,
        0x91 => lengths(asked).1,
        // Sparse, so that no claim in the header is out of reach.
        0x92 => stated.min(1 << 36),
        0xa0..0xc5 => 1 << (choice - 0xa0),
        _ => image.length,
    }
}

/// A built segment, changed: what it was made for, then up to 16 words of header and seats.
fn changed(input: &mut Input<'_>, asked: &Spec, me: &Me) -> Image {
    let made = match input.below(8) {
        0 => Spec { kind: asked.kind + 1, ..*asked },
        1 => Spec { seats: input.below(SEATS + 2), ..*asked },
        2 => Spec { fingerprint: asked.fingerprint ^ 1, ..*asked },
        3 => Spec { body: PAGE * input.below(4) as u64, ..*asked },
        4 => Spec { reserve: PAGE * input.below(4) as u64, ..*asked },
        _ => *asked,
    };
    let mut image = Image::built(&made);
    for _ in 0..16 {
        if input.is_empty() {
            break;
        }
        let (at, width) = match input.u8() {
            place @ 0..64 => HEADER[usize::from(place) % HEADER.len()],
            place @ 64..192 => {
                let (seat, field) = (usize::from(place) / 8 % 8, usize::from(place) % SEAT.len());
                (PAGE as usize + 64 * seat + SEAT[field].0, SEAT[field].1)
            }
            _ => (input.below(2 * PAGE as usize), 1),
        };
        let now = image.get(at, width);
        let value = match input.below(16) {
            0 => 0,
            1 => 1,
            2 => u64::MAX,
            3 => u64::MAX >> 1,
            4 => input.u64(),
            5 => me.pid.into(),
            6 => me.start,
            7 => [me.namespace, me.time][usize::from(at % 64 == 40)],
            8 => now.wrapping_add(1),
            9 => now.wrapping_sub(1),
            10 => MAGIC,
            11 => now ^ 1 << input.below(64),
            12 => 1 << input.below(64),
            13 => u64::from(input.u16()) * PAGE,
            14 => u64::from(input.u32()),
            _ => u64::from(input.u8()),
        };
        image.set(at, width, value);
    }
    image
}

/// From proc(5), as anybody reads it.
fn me() -> Me {
    let stat = fs::read_to_string("/proc/self/stat").expect("proc is mounted");
    let after_name = stat.rsplit_once(')').expect("a name in brackets").1;
    let start = after_name.split_whitespace().nth(19).expect("a start time").parse().expect("a number");
    let [namespace, time] =
        ["pid", "time"].map(|of| fs::metadata(format!("/proc/self/ns/{of}")).map_or(1, |file| file.ino()));
    Me { pid: std::process::id(), start, namespace, time }
}

/// A folder that goes when the case ends; in memory where that is possible.
#[derive(Debug)]
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> io::Result<Folder> {
        let shm = Path::new("/dev/shm");
        let parent = if shm.is_dir() { shm.to_path_buf() } else { std::env::temp_dir() };
        let thread = format!("{:?}", std::thread::current().id());
        let number: String = thread.chars().filter(char::is_ascii_digit).collect();
        let path = parent.join(format!("sapwood-fuzz-{}-{number}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
