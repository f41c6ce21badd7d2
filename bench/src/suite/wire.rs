//! The wire: a head and 64 bytes of payload, decoded and encoded on one CPU. The floor is the checksum of the head
//! alone, without which neither can be right.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use sapwood_core::wire::{
    Content, Decoder, Encoder, Frame, HEADER_BYTES, Head, Limits, Message, Stream, crc32c,
};

use super::Effort;
use crate::flow::serve::pin;
use crate::report::Row;

const PAYLOAD: usize = 64;
const FRAME: usize = HEADER_BYTES + PAYLOAD;
/// Frames of the prepared stream, which stays in the first-level cache.
const FRAMES: u64 = 128;

pub(super) fn run(effort: &Effort, rows: &mut Vec<Row>) -> Result<(), Box<dyn Error>> {
    let (stream, sum) = prepare()?;
    let measured = std::thread::scope(|s| {
        let thread = s.spawn(|| -> Result<[Vec<f64>; 3], String> {
            pin(0).map_err(|e| e.to_string())?;
            let mut times = [const { Vec::new() }; 3];
            for _ in 0..effort.turns {
                times[0].push(turn(effort, || decode(&stream), sum)?);
                times[1].push(turn(effort, encode, sum)?);
                times[2].push(turn(effort, || Ok(checksums(&stream)), checksums(&stream))?);
            }
            Ok(times)
        });
        thread.join().map_err(|_| "a panic".to_owned())?
    })?;
    let [decode, encode, floor] = &measured;
    for (bench, ours) in [("wire.decode", decode), ("wire.encode", encode)] {
        rows.push(Row::measured(bench, "sapwood", PAYLOAD, 1, "ns", ours, &[]));
        rows.push(Row::measured(bench, "floor", PAYLOAD, 1, "ns", floor, &[]));
    }
    Ok(())
}

/// Nanoseconds a frame of passes over the stream, each of which must sum up to `sum`.
fn turn(effort: &Effort, mut pass: impl FnMut() -> Result<u64, String>, sum: u64) -> Result<f64, String> {
    let (start, mut frames) = (Instant::now(), 0);
    while (start.elapsed().as_nanos() as f64) < effort.turn {
        for _ in 0..32 {
            if pass()? != sum {
                return Err("a frame that is not what was sent".into());
            }
            frames += FRAMES;
        }
    }
    Ok(start.elapsed().as_nanos() as f64 / frames as f64)
}

fn message(tag: u64) -> Message {
    Message { tag, content: Content::Bytes(PAYLOAD as u64), deaf: false }
}

/// The frames, and what a pass sums up to: tags, and the first byte of each payload.
fn prepare() -> Result<(Vec<u8>, u64), Box<dyn Error>> {
    let mut encoder = Encoder::new(Stream::default(), Limits::DEFAULT);
    let (mut stream, mut head) = (Vec::with_capacity(FRAMES as usize * FRAME), Head::new());
    for tag in 0..FRAMES {
        encoder.begin(message(tag))?;
        assert_eq!(encoder.chunk(u64::MAX, &mut head), Some(PAYLOAD as u64), "one chunk");
        stream.extend_from_slice(head.bytes());
        stream.extend((0..PAYLOAD).map(|i| (tag as usize + i) as u8));
    }
    assert_eq!(stream.len(), FRAMES as usize * FRAME, "no descriptors");
    Ok((stream, (0..FRAMES).map(|tag| tag + u64::from(tag as u8)).sum()))
}

fn decode(stream: &[u8]) -> Result<u64, String> {
    let mut decoder = Decoder::new(Stream::default(), Limits::DEFAULT);
    let (mut rest, mut sum) = (black_box(stream), 0);
    while !rest.is_empty() {
        let (taken, frame) = decoder.feed(rest).map_err(|e| e.to_string())?;
        sum += match frame {
            Some(Frame::Head(header)) => header.tag,
            Some(Frame::Payload { bytes, .. }) => u64::from(bytes[0]),
            None => 0,
        };
        rest = &rest[taken..];
    }
    Ok(sum)
}

fn encode() -> Result<u64, String> {
    let mut encoder = Encoder::new(Stream::default(), Limits::DEFAULT);
    let (mut head, mut sum) = (Head::new(), 0);
    for tag in 0..FRAMES {
        encoder.begin(message(black_box(tag))).map_err(|e| e.to_string())?;
        encoder.chunk(u64::MAX, &mut head).ok_or("nothing to send")?;
        // The tag as it stands in the head; a payload would begin with the same byte.
        let tag = black_box(head.bytes())[16..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
        sum += tag + u64::from(tag as u8);
    }
    Ok(sum)
}

/// The checksum of every head: its first 60 bytes stand for the 60 that are summed.
fn checksums(stream: &[u8]) -> u64 {
    let heads = black_box(stream).chunks_exact(FRAME);
    heads.map(|frame| u64::from(crc32c(&frame[..HEADER_BYTES - 4]))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_sums_up_and_a_bad_frame_is_noticed() {
        let (mut stream, sum) = prepare().expect("frames");
        assert_eq!(decode(&stream).expect("as it was made"), sum);
        assert_eq!(encode().expect("it goes"), sum);
        stream[FRAME + HEADER_BYTES] ^= 1;
        assert_ne!(decode(&stream).expect("payload has no checksum"), sum);
        stream[FRAME + 16] ^= 1;
        assert!(decode(&stream).is_err());
    }
}
