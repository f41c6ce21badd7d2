//! A segment's file as bytes, and what should come of opening it: read by offsets from the layout's picture
//! (`shm/src/layout.rs`), in 128 bits, without the code that it judges.

use sapwood_shm::{Error, Life, Spec};

pub(crate) const PAGE: u64 = 4096;
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"sapwood\0");
pub(crate) const VERSION: u32 = 3;
/// Seats that a segment can have.
pub(crate) const MOST_SEATS: u32 = 4096;

/// Offset and width of every field of the header.
pub(crate) const HEADER: [(usize, usize); 10] =
    [(0, 8), (8, 4), (12, 4), (16, 8), (24, 4), (28, 4), (32, 8), (40, 8), (48, 8), (56, 4)];
/// Offset and width of every field of a seat's line.
pub(crate) const SEAT: [(usize, usize); 6] = [(0, 4), (4, 4), (8, 8), (16, 8), (24, 4), (40, 8)];

/// Who this process is, as seats know it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Me {
    pub(crate) pid: u32,
    pub(crate) start: u64,
    pub(crate) namespace: u64,
    pub(crate) time: u64,
}

/// The bytes of a file: `front`, then zeros up to `length`.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) front: Vec<u8>,
    pub(crate) length: u64,
}

/// What becomes of attaching to a file with a spec.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    Truncated { need: u64, have: u64 },
    NotASegment(u64),
    OtherVersion(u32),
    OtherKind(u32),
    OtherSize(u32),
    OtherLayout,
}

impl Verdict {
    /// Whether `said` is this refusal, with the right numbers.
    pub(crate) fn is(&self, said: &Error) -> bool {
        match (self, said) {
            (Verdict::Truncated { need, have }, Error::Truncated { need: n, have: h }) => {
                (need, have) == (n, h)
            }
            (Verdict::NotASegment(word), Error::NotASegment { found, expected }) => {
                found == word && *expected == MAGIC
            }
            (Verdict::OtherVersion(version), Error::OtherVersion { found, .. }) => found == version,
            (Verdict::OtherKind(kind), Error::OtherKind { found, .. }) => found == kind,
            (Verdict::OtherSize(seats), Error::OtherSize { found, .. }) => found == seats,
            (Verdict::OtherLayout, Error::OtherLayout { .. } | Error::OtherLengths { .. }) => true,
            _ => false,
        }
    }
}

/// Prefix and length of the file of a segment.
pub(crate) fn lengths(spec: &Spec) -> (u64, u64) {
    let pages = |bytes: u128| bytes.div_ceil(u128::from(PAGE)) * u128::from(PAGE);
    let prefix = u128::from(PAGE) + pages(spec.seats as u128 * 64) + pages(u128::from(spec.body));
    let length = prefix + pages(u128::from(spec.reserve));
    (u64::try_from(prefix).expect("small specs only"), u64::try_from(length).expect("small specs only"))
}

impl Image {
    /// A segment that is built and in which nobody sits.
    pub(crate) fn built(spec: &Spec) -> Image {
        let (prefix, length) = lengths(spec);
        let mut image = Image { front: vec![0; 2 * PAGE as usize], length };
        let values = [
            MAGIC,
            VERSION.into(),
            spec.kind.into(),
            spec.fingerprint,
            spec.seats as u64,
            0,
            prefix,
            length,
            0x5eed,
            0,
        ];
        for ((at, width), value) in HEADER.into_iter().zip(values) {
            image.set(at, width, value);
        }
        image
    }

    pub(crate) fn set(&mut self, at: usize, width: usize, value: u64) {
        let end = at + width;
        if self.front.len() < end {
            self.front.resize(end, 0);
        }
        self.front[at..end].copy_from_slice(&value.to_le_bytes()[..width]);
    }

    /// The number of `width` bytes at `at`; zeros behind the end.
    pub(crate) fn get(&self, at: usize, width: usize) -> u64 {
        let byte = |i: usize| u64::from(self.front.get(at + i).copied().unwrap_or(0));
        (0..width).map(|i| byte(i) << (8 * i)).sum()
    }

    fn header(&self, field: usize) -> u64 {
        let (at, width) = HEADER[field];
        self.get(at, width)
    }

    pub(crate) fn seat(&self, seat: usize, field: usize) -> u64 {
        let (at, width) = SEAT[field];
        self.get(PAGE as usize + 64 * seat + at, width)
    }

    /// The epoch that somebody says he has proved the death of.
    fn buried(&self, seat: usize) -> u64 {
        self.get(PAGE as usize + 64 * seat + 28, 4)
    }

    pub(crate) fn nonce(&self) -> u64 {
        self.header(8)
    }

    pub(crate) fn retired(&self) -> bool {
        self.header(9) != 0
    }

    /// Whether it has a header with the magic.
    pub(crate) fn has_magic(&self) -> bool {
        self.length >= PAGE && self.header(0) == MAGIC
    }

    /// What becomes of attaching with `asked`.
    pub(crate) fn verdict(&self, asked: &Spec) -> Verdict {
        let have = self.length;
        if have < PAGE {
            return Verdict::Truncated { need: PAGE, have };
        }
        let [magic, version, kind, fingerprint, seats] = [0, 1, 2, 3, 4].map(|field| self.header(field));
        let stated = (self.header(6), self.header(7));
        let wanted = lengths(asked);
        if magic != MAGIC {
            Verdict::NotASegment(magic)
        } else if version != u64::from(VERSION) {
            Verdict::OtherVersion(version as u32)
        } else if kind != u64::from(asked.kind) {
            Verdict::OtherKind(kind as u32)
        } else if seats != asked.seats as u64 {
            Verdict::OtherSize(seats as u32)
        } else if fingerprint != asked.fingerprint || stated != wanted {
            Verdict::OtherLayout
        } else if have < wanted.1 {
            Verdict::Truncated { need: wanted.1, have }
        } else {
            Verdict::Good
        }
    }

    /// The number of seats, if the file holds a segment of whatever spec.
    pub(crate) fn seats_of_any(&self) -> Option<usize> {
        let [version, seats, prefix, length] = [1, 4, 6, 7].map(|field| u128::from(self.header(field)));
        let page = u128::from(PAGE);
        let front = page + (seats * 64).div_ceil(page) * page;
        let good = self.has_magic()
            && version == u128::from(VERSION)
            && seats <= u128::from(MOST_SEATS)
            && front <= prefix
            && prefix <= length
            && prefix % page == 0
            && length % page == 0
            && length <= u128::from(self.length);
        good.then_some(seats as usize)
    }

    /// The life of a seat, where the file and the locks alone decide; `None` where it depends on other processes.
    pub(crate) fn life(&self, seat: usize, locked: bool, me: &Me) -> Option<Life> {
        const PID_MAX: u64 = 1 << 22; // include/linux/threads.h: no process has a larger number
        let [epoch, pid, start, namespace, never, time] =
            [0, 1, 2, 3, 4, 5].map(|field| self.seat(seat, field));
        if epoch == 0 {
            return Some(match (locked, never) {
                (true, _) => Life::Alive, // it is being taken
                (false, 0) => Life::Absent,
                (false, _) => Life::Dead,
            });
        }
        if !locked || self.buried(seat) == epoch {
            return Some(Life::Dead);
        }
        if pid == 0 || namespace != me.namespace {
            return Some(Life::Alive);
        }
        // Another time namespace's start says nothing.
        let another = start != 0 && time == me.time && start != me.start;
        match pid {
            pid if pid == u64::from(me.pid) => Some(if another { Life::Dead } else { Life::Alive }),
            // No number at all: the kernel refuses the question.
            pid if pid > i32::MAX as u64 => Some(Life::Alive),
            pid if pid > PID_MAX => Some(Life::Dead),
            _ => None,
        }
    }
}
