//! Frames changed by somebody who knows the layout: fields with their checksums put right, frames that are missing,
//! twice or in another place, and plain damage.

use crate::input::Input;
use crate::reference::{Bounds, FIELDS, reseal};

/// Changes at most.
const MOST: usize = 8;

/// Changes the frames of a stream as the input says, until it ends.
pub(crate) fn forge(frames: &mut Vec<Vec<u8>>, bounds: &Bounds, input: &mut Input<'_>) {
    for _ in 0..MOST {
        if input.is_empty() || frames.is_empty() {
            break;
        }
        let (how, i) = (input.below(16), input.below(frames.len()));
        match how {
            0..6 => field(&mut frames[i], input),
            6 | 7 => descriptor(&mut frames[i], input),
            8 => {
                let (copy, at) = (frames[i].clone(), input.below(frames.len() + 1));
                frames.insert(at, copy);
            }
            9 => drop(frames.remove(i)),
            10 => {
                let j = input.below(frames.len());
                frames.swap(i, j);
            }
            11 => renumber(frames, bounds),
            12 => turn(&mut frames[i], input),
            _ => damage(&mut frames[i], how, input),
        }
    }
}

/// A field of the header, and the checksum put right.
fn field(frame: &mut [u8], input: &mut Input<'_>) {
    let (at, width) = input.of(&FIELDS);
    if frame.len() >= 64 {
        let value = value(frame, at, width, input);
        put(frame, at, width, value);
        reseal(frame);
    }
}

/// A word or a byte of the descriptor, and the checksum put right.
fn descriptor(frame: &mut [u8], input: &mut Input<'_>) {
    let (at, width) = match input.below(20) {
        i @ 0..11 => (64 + 8 * i, 8),
        i => (64 + (i - 11) % 8, 1),
    };
    if frame.len() >= 152 {
        let value = value(frame, at, width, input);
        put(frame, at, width, value);
        reseal(frame);
    }
}

/// Makes the frame one of another kind, or the descriptor's length what the kind demands.
fn turn(frame: &mut Vec<u8>, input: &mut Input<'_>) {
    if frame.len() < 64 {
        return;
    }
    let kind = input.below(7) as u8;
    frame[4] = kind;
    if kind > 2 {
        // A frame without payload, flags or chunk.
        frame.truncate(64);
        frame[5] = 0;
        frame[60..62].fill(0);
        put(frame, 24, 8, 0);
        if kind != 5 {
            frame[32..48].fill(0);
        }
        if kind != 4 && kind != 5 {
            put(frame, 16, 8, 0);
        }
    }
    reseal(frame);
}

/// As if every frame had been sent as it stands now.
fn renumber(frames: &mut [Vec<u8>], bounds: &Bounds) {
    for (i, frame) in frames.iter_mut().enumerate().filter(|(_, f)| f.len() >= 64) {
        put(frame, 8, 8, bounds.first.wrapping_add(i as u64));
        reseal(frame);
    }
}

/// Bits that fall over, bytes that get lost or come from nowhere.
fn damage(frame: &mut Vec<u8>, how: usize, input: &mut Input<'_>) {
    let at = usize::from(input.u16()) % (frame.len() + 1);
    match how {
        13 if at < frame.len() => frame[at] ^= 1 << input.below(8),
        14 => {
            let n = input.below(100).min(frame.len() - at);
            frame.drain(at..at + n);
        }
        _ => {
            let n = input.below(100);
            frame.splice(at..at, input.bytes(n).iter().copied());
        }
    }
}

fn put(frame: &mut [u8], at: usize, width: usize, value: u64) {
    frame[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
}

fn get(frame: &[u8], at: usize, width: usize) -> u64 {
    frame[at..at + width].iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

/// A new value: an edge, next to the old one, or another field's.
fn value(frame: &[u8], at: usize, width: usize, input: &mut Input<'_>) -> u64 {
    let now = get(frame, at, width);
    let [len, offset, total] = [24, 32, 40].map(|at| get(frame, at, 8));
    match input.below(16) {
        0 => 0,
        1 => 1,
        2 => u64::MAX,
        3 => u64::MAX >> 1,
        4 => now.wrapping_add(1),
        5 => now.wrapping_sub(1),
        6 => now ^ 1 << input.below(64),
        7 => 1 << input.below(64),
        8 => len,
        9 => offset,
        10 => total,
        11 => total.wrapping_sub(offset),
        12 => offset.wrapping_neg(),
        13 => u64::from(input.u16()),
        14 => u64::from(input.u8()),
        _ => input.u64(),
    }
}
