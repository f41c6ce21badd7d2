//! Seeds: a conversation with everything in it, under each limit, forged in each way; and its bytes as raw streams.

use super::script::{Script, bounds};
use crate::input::Input;
use crate::reference::FIELDS;
use crate::seeds::Named;

/// Steps of a script, and how many.
#[derive(Clone, Default)]
struct Steps(Vec<u8>, u8);

impl Steps {
    fn step(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self.1 += 1;
        self
    }

    fn message(self, value: u8, len: u16, tag: u8) -> Self {
        let [low, high] = len.to_le_bytes();
        self.step(&[0, value, 8, low, high, tag, 0, 0])
    }

    fn tensor(self, dtype: u8, dims: &[u8], tag: u8) -> Self {
        self.step(&[&[0, 2, dtype, dims.len() as u8], dims, &[tag, 0, 1]].concat())
    }

    fn chunk(self, quarter: u8) -> Self {
        self.step(&[2, quarter])
    }

    fn rest(self) -> Self {
        self.step(&[3])
    }

    fn abort(self) -> Self {
        self.step(&[5])
    }

    fn credit(self) -> Self {
        self.step(&[6])
    }

    fn beat(self) -> Self {
        self.step(&[7, 1, 2, 3, 4, 5, 6, 7, 8])
    }

    fn grant(self) -> Self {
        self.step(&[8, 5, 0, 0xff, 0xff, 1, 0, 0, 0, 0, 0])
    }

    fn close(self) -> Self {
        self.step(&[9])
    }

    /// The input: `start` are its first four bytes, `changes` its last.
    fn with(&self, start: [u8; 4], changes: &[u8]) -> Vec<u8> {
        [&start[..], &[self.1], &self.0, changes].concat()
    }
}

/// Frames: 0 and 2 of a message, 1 a beat; 3 and 4 of a tensor; 5 a value; 6 a credit; 7 and 8 a message and its abort;
/// 9 an empty message; 10 an empty tensor; 11 the close.
fn conversation() -> Steps {
    Steps::default()
        .grant()
        .message(0, 120, 1)
        .chunk(20)
        .beat()
        .rest()
        .tensor(10, &[3, 5], 2) // f32
        .chunk(10)
        .rest()
        .message(1, 10, 3)
        .rest()
        .credit()
        .message(0, 90, 4)
        .chunk(15)
        .abort()
        .message(0, 0, 5)
        .rest()
        .tensor(3, &[4, 0, 2], 6) // i64
        .rest()
        .close()
}

/// Limits that leave the conversation whole: frames of 600 bytes, messages of 600.
const PLAIN: [u8; 4] = [4, 0, 0, 0];

pub(crate) fn seeds() -> Vec<Named> {
    let mut all = Vec::new();
    let mut add = |name: String, data| all.push((name, data));
    let talk = conversation();
    for limits in 0..8 {
        add(format!("limits_{limits}"), talk.with([limits, 0, 0, 2], &[]));
    }
    for far in 0..4 {
        add(format!("far_{far}"), talk.with([4, 1 << far, 0, 3], &[]));
    }
    for (refused, splits) in [(0x01, 0), (0x08, 1), (0x10, 4), (0xff, 5), (0x02, 6)] {
        add(format!("refused_{refused:02x}"), talk.with([0, 0, refused, splits], &[]));
    }
    // Each field of a first frame, a later chunk, a beat, a tensor's first and an abort.
    for frame in [0, 1, 2, 3, 8] {
        for field in 0..FIELDS.len() as u8 {
            for (value, how) in [(&[2][..], "ones"), (&[4], "more"), (&[14, 3], "three")] {
                let change = [&[0, frame, field], value].concat();
                add(format!("frame{frame}_field{field}_{how}"), talk.with(PLAIN, &change));
            }
        }
    }
    // Each word and each of the first bytes of the descriptor.
    for place in 0..19 {
        add(format!("descriptor_{place}_more"), talk.with(PLAIN, &[6, 3, place, 4]));
        add(format!("descriptor_{place}_ones"), talk.with(PLAIN, &[6, 3, place, 2]));
    }
    const RENUMBER: [u8; 2] = [11, 0];
    for i in 0..12 {
        add(format!("without_{i}"), talk.with(PLAIN, &[&[9, i], &RENUMBER[..]].concat()));
        add(format!("twice_{i}"), talk.with(PLAIN, &[&[8, i, i], &RENUMBER[..]].concat()));
        add(format!("swapped_{i}"), talk.with(PLAIN, &[&[10, i, 2], &RENUMBER[..]].concat()));
    }
    for kind in 0..7 {
        add(format!("chunk_turned_{kind}"), talk.with(PLAIN, &[12, 2, kind]));
        add(format!("beat_turned_{kind}"), talk.with(PLAIN, &[12, 1, kind]));
    }
    add("missing".to_owned(), talk.with(PLAIN, &[9, 1]));
    add("bit".to_owned(), talk.with(PLAIN, &[13, 3, 100, 0, 1]));
    add("lost_bytes".to_owned(), talk.with([4, 0, 0, 1], &[14, 0, 70, 0, 9]));
    add("more_bytes".to_owned(), talk.with([4, 0, 0, 7], &[15, 0, 70, 0, 5, 1, 2, 3, 4, 5]));
    // Two wild dims whose product wraps to the total.
    let wraps = [0, 3, 9, 0, 6, 3, 1, 7, 32, 6, 3, 2, 7, 32];
    add("product_wraps".to_owned(), talk.with(PLAIN, &wraps));
    for (name, change) in [
        ("empty_chunk", &[0, 2, 7, 0][..]),
        ("empty_later_chunk", &[0, 4, 7, 0]),
        ("nine_dims", &[6, 3, 15, 14, 9]),
        ("product_too_long", &[6, 3, 1, 2, 6, 3, 2, 2]),
        ("a_dim_too_long", &[6, 10, 1, 3]),
    ] {
        add(name.to_owned(), talk.with(PLAIN, change));
    }
    add(
        "largest".to_owned(),
        Steps::default().step(&[0, 0, 4, 1, 0, 0]).rest().abort().with([2, 0, 0, 8], &[]),
    );
    add("too_large".to_owned(), Steps::default().step(&[0, 0, 6, 1, 0, 0]).rest().with([2, 0, 0, 0], &[]));
    add("refused_steps".to_owned(), talk.clone().close().beat().message(0, 1, 1).with(PLAIN, &[]));
    all
}

pub(crate) fn stream_seeds() -> Vec<Named> {
    let mut all = vec![("nothing".to_owned(), vec![0; 5]), ("foreign".to_owned(), foreign())];
    let talk = conversation();
    for (limits, right) in [(4, 0), (0, 1), (7, 3)] {
        let stream = stream(&talk, limits);
        for (name, refused) in [("talk", 0), ("refused", 0x11)] {
            let start = [limits, 0, refused, 3, right];
            all.push((format!("{name}_{limits}"), [&start[..], &stream].concat()));
        }
        let half = stream.len() / 2;
        all.push((format!("half_{limits}"), [&[limits, 0, 0, 4, right], &stream[..half]].concat()));
        let behind = [&[limits, 0, 0, 5, right], &stream[..], &[0]].concat();
        all.push((format!("behind_close_{limits}"), behind));
    }
    for (name, steps) in [
        ("tensor", Steps::default().tensor(11, &[2, 2], 1).rest()),
        ("beat", Steps::default().beat()),
        ("close", Steps::default().close()),
        ("abort", Steps::default().message(0, 9, 1).chunk(1).abort()),
    ] {
        all.push((name.to_owned(), [&[4, 0, 0, 6, 3], &stream(&steps, 4)[..]].concat()));
    }
    all
}

fn stream(steps: &Steps, limits: u8) -> Vec<u8> {
    let input = steps.with([limits, 0, 0, 0], &[]);
    let mut input = Input::new(&input);
    let mut script = Script::new(bounds(&mut input));
    input.bytes(2);
    script.run(&mut input);
    script.frames.concat()
}

/// Somebody who has come to the wrong port.
fn foreign() -> Vec<u8> {
    let request = b"GET / HTTP/1.1\r\nHost: example.org\r\nAccept: text/html\r\nConnection: close\r\n\r\n";
    [&[4, 0, 0, 7, 0], &request[..]].concat()
}
