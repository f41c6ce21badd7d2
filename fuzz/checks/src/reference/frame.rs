//! One head, from its picture: what it says, and the rules that need nothing but the head and what both ends know.

use super::{Broken, Tensor, broken, number, tensor, word};

const DATA: u8 = 1;
pub(crate) const TENSOR: u8 = 2;
const BEAT: u8 = 4;
pub(crate) const ABORT: u8 = 5;
pub(crate) const CLOSE: u8 = 6;

/// Offset and width of every field of a header, in the order of the picture.
pub(crate) const FIELDS: [(usize, usize); 15] = [
    (0, 4),  // magic
    (4, 1),  // kind
    (5, 1),  // flags
    (6, 1),  // words
    (7, 1),  // lane
    (8, 8),  // sequence
    (16, 8), // tag
    (24, 8), // len
    (32, 8), // offset
    (40, 8), // total
    (48, 2), // credits
    (50, 2), // ack
    (52, 4), // epoch
    (60, 2), // descriptor
    (62, 2), // rank
];

/// What both ends know of a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) max_frame: u64,
    pub(crate) max_message: u64,
    pub(crate) rank: u16,
    pub(crate) lane: u8,
    pub(crate) epoch: u32,
    pub(crate) first: u64,
}

/// What a head says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) lane: u8,
    pub(crate) sequence: u64,
    pub(crate) tag: u64,
    pub(crate) len: u64,
    pub(crate) offset: u64,
    pub(crate) total: u64,
    pub(crate) credits: u16,
    pub(crate) ack: u16,
    pub(crate) epoch: u32,
    pub(crate) rank: u16,
    pub(crate) tensor: Option<Tensor>,
}

impl Head {
    pub(crate) fn is_chunk(&self) -> bool {
        matches!(self.kind, DATA | TENSOR)
    }
}

/// CRC-32C, a bit at a time.
fn crc32c<'a>(bytes: impl IntoIterator<Item = &'a u8>) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

fn sum(header: &[u8], descriptor: &[u8]) -> u32 {
    crc32c(header[..56].iter().chain(&header[60..64]).chain(descriptor))
}

/// Bytes of descriptor that must lie behind this header.
fn follows(header: &[u8]) -> usize {
    if header[4] == TENSOR && number(&header[32..40]) == 0 { 88 } else { 0 }
}

/// Puts the right checksum into the head at the front of a frame, as far as it is there.
pub(crate) fn reseal(frame: &mut [u8]) {
    if frame.len() >= 64 {
        let end = (64 + follows(frame)).min(frame.len());
        let right = sum(&frame[..64], &frame[64..end]);
        frame[56..60].copy_from_slice(&right.to_le_bytes());
    }
}

/// First look at 64 bytes: the rules that come before the checksum. Returns how many bytes the whole head has.
pub(crate) fn glance(header: &[u8]) -> Result<usize, Broken> {
    let [kind, flags, words] = [4, 5, 6].map(|i| header[i]);
    if header[..4] != *b"SPW1" {
        return Err(broken!("Magic", number(&header[..4])));
    }
    if words != 8 {
        return Err(broken!("Words", words));
    }
    let allowed = match kind {
        DATA => 0b11_u8,
        TENSOR => 0b10,
        3..=6 => 0,
        _ => return Err(broken!("Kind", kind)),
    };
    if flags > 0b11 {
        return Err(broken!("Flags", flags, 0b11_u8));
    }
    if flags | allowed != allowed {
        return Err(broken!("FlagsOfKind", kind, flags, allowed));
    }
    let (found, expected) = (number(&header[60..62]), follows(header) as u128);
    if found != expected {
        return Err(broken!("DescriptorLength", kind, word(&header[32..40]), found, expected));
    }
    Ok(64 + follows(header))
}

/// Second look, at a whole head: all rules but those of the order of frames. `due` is the number of the frame.
pub(crate) fn examine(head: &[u8], due: u64, bounds: &Bounds) -> Result<Head, Broken> {
    let (header, behind) = head.split_at(64);
    let said = crc_of(header);
    let right = sum(header, behind);
    if said != right {
        return Err(broken!("Checksum", said, right));
    }
    let field = |i: usize| word(&header[FIELDS[i].0..FIELDS[i].0 + FIELDS[i].1]);
    let mut head = Head {
        kind: header[4],
        flags: header[5],
        lane: header[7],
        sequence: field(5),
        tag: field(6),
        len: field(7),
        offset: field(8),
        total: field(9),
        credits: field(10) as u16,
        ack: field(11) as u16,
        epoch: field(12) as u32,
        rank: field(14) as u16,
        tensor: None,
    };
    limits(&head, bounds)?;
    let theirs = [
        (head.epoch != bounds.epoch, broken!("Epoch", head.epoch, bounds.epoch)),
        (head.rank != bounds.rank, broken!("Rank", head.rank, bounds.rank)),
        (head.lane != bounds.lane, broken!("Lane", head.lane, bounds.lane)),
        (head.sequence != due, broken!("Sequence", head.sequence, due)),
    ];
    if let Some((_, broken)) = theirs.into_iter().find(|(wrong, _)| *wrong) {
        return Err(broken);
    }
    if !behind.is_empty() {
        let tensor = tensor(behind)?;
        if tensor.bytes != head.total {
            return Err(broken!("Total", tensor.bytes, head.total));
        }
        head.tensor = Some(tensor);
    }
    Ok(head)
}

fn crc_of(header: &[u8]) -> u32 {
    number(&header[56..60]) as u32
}

/// Unused fields, len, total, offset, empty chunk.
fn limits(head: &Head, bounds: &Bounds) -> Result<(), Broken> {
    let Head { kind, tag, len, offset, total, .. } = *head;
    let unused: &[(&str, u64)] = match kind {
        DATA | TENSOR => &[],
        BEAT => &[("len", len), ("offset", offset), ("total", total)],
        ABORT => &[("len", len)],
        _ => &[("tag", tag), ("len", len), ("offset", offset), ("total", total)],
    };
    if let Some((field, found)) = unused.iter().find(|(_, found)| *found != 0) {
        return Err(broken!("Unused" in field, kind, *found));
    }
    if len > bounds.max_frame {
        return Err(broken!("TooLong", len, bounds.max_frame));
    }
    // No address counts further.
    let most = bounds.max_message.min(u64::MAX >> 1);
    if total > most {
        return Err(broken!("MessageTooLong", total, most));
    }
    if u128::from(offset) + u128::from(len) > u128::from(total) {
        return Err(broken!("Offset", offset, len, total));
    }
    if head.is_chunk() && len == 0 && total > 0 {
        return Err(broken!("Empty", offset, total));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::crc32c;

    /// RFC 3720, appendix B.4, and the check value of the catalogues.
    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&rising), 0x46dd_794e);
    }
}
