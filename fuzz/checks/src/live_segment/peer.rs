//! The bad peer: who has the segment's file, knows its layout, and writes words of it.

use std::fs::File;
use std::os::unix::fs::FileExt;

use sapwood_shm::Spec;

use crate::input::Input;

const WORD: usize = size_of::<u64>();
/// The header's page, which is judged by `segment_open`.
const SEATS_AT: usize = 4096;
const SEAT_BYTES: usize = 64;
/// Words that it remembers.
const RECENT: usize = 8;

/// Writes through the file: its pages are those that everybody has mapped.
#[derive(Debug)]
pub(crate) struct Peer {
    file: File,
    /// Words of the seat table, then of the body as far as its object reaches.
    ranges: [(usize, usize); 2],
    recent: [u64; RECENT],
    writes: usize,
    /// What it saw when it last looked at everything.
    old: Vec<(usize, Vec<u8>)>,
}

impl Peer {
    pub(crate) fn new(file: File, spec: &Spec, segment_body: usize) -> Peer {
        let seats = (SEATS_AT, spec.seats * SEAT_BYTES / WORD);
        let ranges = [seats, (segment_body, (spec.body as usize).div_ceil(WORD))];
        Peer {
            file,
            ranges,
            recent: [0, 1, 2, 3, 1 << 32, 1 << 63, u64::MAX, 0x5eed],
            writes: 0,
            old: Vec::new(),
        }
    }

    /// Looks at everything, so that it can put a word back later: as it was then, however often it has changed.
    pub(crate) fn look(&mut self) {
        self.old =
            self.ranges.iter().map(|(start, words)| (*start, self.bytes(*start, words * WORD))).collect();
    }

    /// Writes one word, whichever the input says.
    pub(crate) fn write(&mut self, input: &mut Input<'_>) {
        let at = self.place(input);
        let seen = word(&self.bytes(at, WORD), 0);
        let value = match input.u8() % 12 {
            0 => input.u64(),
            1 => seen ^ 1 << (input.u8() % 64),
            2 => seen.wrapping_add(1),
            3 => seen.wrapping_sub(1),
            4 => 0,
            5 => u64::MAX,
            6 => seen & !0xffff_ffff | u64::from(input.u32()),
            7 => seen & 0xffff_ffff | u64::from(input.u32()) << 32,
            // What stood here, or anywhere, before.
            8 | 9 => self.then(at).unwrap_or(seen),
            _ => self.recent[input.below(RECENT)],
        };
        self.recent[self.writes % RECENT] = seen;
        self.writes += 1;
        self.file
            .write_all_at(&value.to_ne_bytes(), at as u64)
            .expect("a word of the segment can be written");
    }

    /// A byte of the file on which a word begins: any, or one of those that somebody has written to.
    fn place(&self, input: &mut Input<'_>) -> usize {
        let how = input.u8();
        let (start, words) = self.ranges[usize::from(how & 3 != 0)];
        if how & 4 == 0 {
            return start + input.below(words) * WORD;
        }
        let bytes = self.bytes(start, words * WORD);
        let used: Vec<usize> =
            (0..words).filter(|w| bytes[w * WORD..(w + 1) * WORD].iter().any(|b| *b != 0)).collect();
        start + if used.is_empty() { 0 } else { input.of(&used) * WORD }
    }

    fn then(&self, at: usize) -> Option<u64> {
        let (start, bytes) =
            self.old.iter().find(|(start, bytes)| (*start..start + bytes.len()).contains(&at))?;
        Some(word(bytes, at - start))
    }

    fn bytes(&self, at: usize, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, at as u64).expect("what the segment holds can be read");
        bytes
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]))
}
