//! The wire: a sender's script through encoder and decoder, its frames forged, and raw streams.

mod forge;
mod script;
mod seeds;

use crate::input::Input;
use crate::reference::compare::{Splits, follow};
use crate::reference::{Bounds, Outcome, read, reseal};
use forge::forge;
use script::{Script, bounds};
pub(crate) use seeds::{seeds, stream_seeds};

/// A sender's script: messages, chunks, frames between them, aborts, refusals by the receiver; then the frames changed
/// by somebody who can compute checksums, and damaged.
///
/// The encoder makes of the script what its documentation says; that, and the forged stream, give in any split what an
/// independent decoder gives: the same heads and payload, the same wants, the same error with the same numbers at the
/// same byte. What is accepted is encoded as it would be sent.
///
/// ```text
/// byte 0, 1   limits, and what both ends know
///      2      bit i: the message is refused that is open after heads i, i + 8, …
///      3      splits: 0 whole, 1 single bytes, else by chance
///      4      steps of the script; they follow, then the changes
/// ```
///
/// # Panics
/// When one of these does not hold.
pub fn wire(data: &[u8]) {
    run(data);
}

/// Returns what should become of the forged stream.
fn run(data: &[u8]) -> Outcome {
    let mut input = Input::new(data);
    let (bounds, refused, splits) = (bounds(&mut input), input.u8(), splits(input.u8()));
    let mut script = Script::new(bounds);
    script.run(&mut input);
    let (mut frames, sent) = (script.frames, script.expected);

    let stream = frames.concat();
    let outcome = read(&stream, &bounds, &|_| false);
    assert_eq!(
        (&outcome.events, &outcome.broken),
        (&sent, &None),
        "what was encoded is not what was asked for"
    );
    follow(&stream, &bounds, &|_| false, &outcome, Splits::Whole);

    forge(&mut frames, &bounds, &mut input);
    compare(&frames.concat(), &bounds, refused, splits)
}

/// A raw stream, at once, byte by byte and in pieces: always the same comes out, and never more than went in.
///
/// ```text
/// byte 0, 1   limits, and what both ends know
///      2      bit i: the message is refused that is open after heads i, i + 8, …
///      3      seed of the pieces
///      4      bit 0: checksums are put right first; bit 1: sequence, rank, lane and epoch too
///      5 …    the stream
/// ```
///
/// # Panics
/// When this does not hold, or something else comes out than an independent decoder gives.
pub fn wire_stream(data: &[u8]) {
    run_stream(data);
}

/// Returns what should become of the stream.
fn run_stream(data: &[u8]) -> Outcome {
    let mut input = Input::new(data);
    let (bounds, refused, seed, right) = (bounds(&mut input), input.u8(), input.u8(), input.u8());
    let mut stream = input.bytes(usize::MAX).to_vec();
    if right & 1 != 0 {
        put_right(&mut stream, right & 2 != 0, &bounds);
    }
    compare(&stream, &bounds, refused, Splits::Whole);
    compare(&stream, &bounds, refused, Splits::Single);
    let outcome = compare(&stream, &bounds, refused, Splits::Random(seed.into()));
    let payload = outcome.payload();
    assert!(payload + 64 * outcome.heads.len() <= stream.len());
    outcome
}

fn splits(choice: u8) -> Splits {
    match choice {
        0 => Splits::Whole,
        1 => Splits::Single,
        seed => Splits::Random(seed.into()),
    }
}

fn compare(stream: &[u8], bounds: &Bounds, refused: u8, splits: Splits) -> Outcome {
    let refuse = |head: usize| refused >> (head % 8) & 1 != 0;
    let outcome = read(stream, bounds, &refuse);
    follow(stream, bounds, &refuse, &outcome, splits);
    outcome
}

/// Goes from frame to frame and puts the checksums right, and with `numbers` what both ends know.
fn put_right(stream: &mut [u8], numbers: bool, bounds: &Bounds) {
    let (mut at, mut due) = (0, bounds.first);
    // Each turn takes a head at least.
    while let Some(frame) = stream.get_mut(at..).filter(|rest| rest.len() >= 64) {
        if numbers {
            frame[7] = bounds.lane;
            frame[8..16].copy_from_slice(&due.to_le_bytes());
            frame[52..56].copy_from_slice(&bounds.epoch.to_le_bytes());
            frame[62..64].copy_from_slice(&bounds.rank.to_le_bytes());
        }
        reseal(frame);
        let head = if frame[4] == 2 && frame[32..40] == [0; 8] { 152 } else { 64 };
        let len = frame[24..32].iter().rev().fold(0_usize, |n, b| n << 8 | usize::from(*b));
        at = at.saturating_add(head).saturating_add(len);
        due = due.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;
    use crate::seeds::Named;

    /// Runs ten thousand cases; how often each rule was the one that was broken.
    fn broken(seeds: Vec<Named>, run: impl Fn(&[u8]) -> Outcome) -> BTreeMap<&'static str, u32> {
        let seen = RefCell::new(BTreeMap::new());
        let seeds: Vec<Vec<u8>> = seeds.into_iter().map(|(_, data)| data).collect();
        crate::cases(10_000, &seeds, |data| {
            let rule = run(data).broken.map_or("", |(_, broken)| broken.rule);
            *seen.borrow_mut().entry(rule).or_default() += 1;
        });
        seen.into_inner()
    }

    #[test]
    fn ten_thousand_scripts_break_every_rule() {
        let seen = broken(seeds(), run);
        let header = "Magic Words Kind Flags FlagsOfKind DescriptorLength Checksum Unused TooLong MessageTooLong \
                      Offset Empty Epoch Rank Lane Sequence";
        let descriptor = "Dtype Bits Lanes Ndim Order Reserved UnusedDim Overflow Total";
        let order = "Orphan Within Gap Differs NothingToAbort CloseWithin AfterClose";
        for rule in [header, descriptor, order].into_iter().flat_map(str::split_whitespace).chain([""]) {
            assert!(seen.get(rule).is_some_and(|n| *n >= 3), "{rule:?} is hardly ever broken: {seen:?}");
        }
    }

    #[test]
    fn ten_thousand_streams() {
        let seen = broken(stream_seeds(), run_stream);
        assert!(seen.len() > 15, "few rules are reached: {seen:?}");
    }
}
