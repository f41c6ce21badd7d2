//! Where fuzzing starts: inputs that reach what chance would be long in finding. They are committed under `fuzz/seeds`;
//! `cargo run -p sapwood-fuzz-checks --example seeds` writes them, a test compares them. Whatever else lies there is an
//! input that once found something.

use crate::{descriptor, live_segment, segment_open, wire};

/// An input of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// The target.
    pub target: &'static str,
    /// Name of its file.
    pub name: String,
    /// The input.
    pub data: Vec<u8>,
}

/// Name and bytes.
pub(crate) type Named = (String, Vec<u8>);

/// All seeds of all targets.
pub fn seeds() -> Vec<Seed> {
    let all: [(&'static str, Vec<Named>); 5] = [
        ("wire", wire::seeds()),
        ("wire_stream", wire::stream_seeds()),
        ("descriptor", descriptor::seeds()),
        ("segment_open", segment_open::seeds()),
        ("live_segment", live_segment::seeds()),
    ];
    let seed = |target, (name, data)| Seed { target, name, data };
    all.into_iter().flat_map(|(target, list)| list.into_iter().map(move |s| seed(target, s))).collect()
}

/// The inputs of one target.
pub fn seeds_of(target: &str) -> Vec<Vec<u8>> {
    seeds().into_iter().filter(|s| s.target == target).map(|s| s.data).collect()
}
