//! Cells of the family `Replay`.
//!
//! # Safety
//! A cell's bytes lie in the world and are copied to and from a value on the stack, which is what the caller's closure
//! gets. So a closure never sees memory that another actor touches. Types of cells must have no padding, and any bytes
//! must be a value of theirs (what `Shareable` asks for): a cell is torn while it is being written.
#![allow(unsafe_code)]

use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use std::format;
use std::vec;
use std::vec::Vec;

use super::Judge;
use super::memory::{Log, Plain, World, operation, push_cell};
use crate::mem::RaceCell;

/// What a cell holds while it is being written.
const TORN: u8 = 0xde;
const WORD: usize = 8;

/// Plain memory of a world, by its number.
pub struct ReplayCell<J, T>(usize, PhantomData<fn(J) -> T>);

impl<J, T> fmt::Debug for ReplayCell<J, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cell {}", self.0)
    }
}

fn bytes_of<T: Copy>(value: &MaybeUninit<T>) -> Vec<u8> {
    let mut bytes = vec![0; size_of::<T>()];
    // SAFETY: as many bytes as the value has, all of them initialised (no padding, as said above), into a vector of
    // that length.
    unsafe { bytes.as_mut_ptr().copy_from_nonoverlapping(value.as_ptr().cast(), size_of::<T>()) };
    bytes
}

fn value_of<T: Copy>(bytes: &[u8]) -> MaybeUninit<T> {
    assert_eq!(bytes.len(), size_of::<T>());
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: as many bytes as the value has, into the value.
    unsafe { value.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), size_of::<T>()) };
    value
}

/// Logs bytes as words, and one word more so that an answer is never empty.
fn say(bytes: &[u8], log: &mut Log) {
    log.push(0);
    log.extend(bytes.chunks(WORD).map(|c| {
        let mut word = [0; WORD];
        word[..c.len()].copy_from_slice(c);
        u64::from_ne_bytes(word)
    }));
}

fn said(answer: &[u64], len: usize) -> Vec<u8> {
    answer[1..].iter().flat_map(|w| w.to_ne_bytes()).take(len).collect()
}

impl<J: Judge, T: Copy> ReplayCell<J, T> {
    const WORDS: usize = 1 + size_of::<T>().div_ceil(WORD);

    fn step(&self, make: impl FnOnce(&mut World<J>, u8, Plain) -> Plain) {
        let change = |w: &mut World<J>, actor: u8, log: &mut Log| {
            let cell = w.cells[self.0];
            w.cells[self.0] = make(w, actor, cell);
            log.push(0);
        };
        let _ = operation::<J, _>(1, change, |_| ());
    }
}

// An access is two operations, so that others can come in the middle of it.
impl<J: Judge, T: Copy> RaceCell<T> for ReplayCell<J, T> {
    fn new(v: T) -> Self {
        ReplayCell(push_cell::<J>(&bytes_of(&MaybeUninit::new(v))), PhantomData)
    }

    fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        self.step(|w, actor, cell| {
            if let Some(writer) = cell.writing {
                w.blame(format!("actor {actor} reads what actor {writer} is in the middle of writing"));
            }
            Plain { reading: cell.reading | 1 << actor, ..cell }
        });
        let read = |w: &mut World<J>, actor: u8, log: &mut Log| {
            w.cells[self.0].reading &= !(1 << actor);
            let cell = w.cells[self.0];
            say(&w.bytes[cell.at..cell.at + cell.len], log);
        };
        let bytes = operation::<J, _>(Self::WORDS, read, |a| said(a, size_of::<T>()));
        let value = bytes.map_or(MaybeUninit::zeroed(), |b| value_of::<T>(&b));
        f(value.as_ptr())
    }

    fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        let tear = |w: &mut World<J>, actor: u8, log: &mut Log| {
            let cell = w.cells[self.0];
            let other = cell.writing.filter(|o| w.dead() >> o & 1 == 0);
            if cell.reading != 0 || other.is_some() {
                w.blame(format!(
                    "actor {actor} writes while actors {:#b} read and {other:?} writes",
                    cell.reading
                ));
            }
            let bytes = &mut w.bytes[cell.at..cell.at + cell.len];
            say(bytes, log);
            bytes.fill(TORN);
            w.cells[self.0].writing = Some(actor);
        };
        let bytes = operation::<J, _>(Self::WORDS, tear, |a| said(a, size_of::<T>()));
        let mut value = bytes.map_or(MaybeUninit::zeroed(), |b| value_of::<T>(&b));
        let result = f(value.as_mut_ptr());
        self.step(|w, actor, cell| {
            if cell.writing != Some(actor) {
                w.blame(format!("what actor {actor} wrote was overwritten meanwhile"));
            }
            w.bytes[cell.at..cell.at + cell.len].copy_from_slice(&bytes_of(&value));
            Plain { writing: None, ..cell }
        });
        result
    }
}
