//! A block's words, and the descriptor that travels.

use core::fmt;

/// How many seats can hold blocks.
pub const SEATS: u32 = 48;
const SHIFT: u32 = SEATS;
/// Bits of a flight's position.
pub(super) const POSITION_BITS: u32 = SHIFT;
const LOW: u64 = (1 << SHIFT) - 1;
/// Generations from one life of a block to the next.
const LOAN: u16 = 2;

/// Generation and holders.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Word(pub u64);

impl Word {
    /// Packs a word.
    pub const fn new(generation: u16, holders: u64) -> Word {
        Word((generation as u64) << SHIFT | holders & LOW)
    }

    /// How many changes of hands there were, modulo 2^16.
    pub const fn generation(self) -> u16 {
        (self.0 >> SHIFT) as u16
    }

    /// Who holds the block: bit s is seat s.
    pub const fn holders(self) -> u64 {
        self.0 & LOW
    }

    /// The bit of a seat; `None` of a seat that can hold no blocks.
    pub const fn bit(seat: u32) -> Option<u64> {
        if seat < SEATS { Some(1 << seat) } else { None }
    }

    /// Lent to `bit`.
    pub(super) const fn lent(self, bit: u64) -> Word {
        Word::new(self.generation().wrapping_add(LOAN), bit)
    }

    /// Without `bit`.
    pub(super) const fn without(self, bit: u64) -> Word {
        Word::new(self.generation(), self.holders() & !bit)
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {}, holders {:#x}", self.generation(), self.holders())
    }
}

/// Generation and position of the last journey.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flight(pub u64);

impl Flight {
    /// Packs a flight; of the position the low 48 bits count.
    pub const fn new(generation: u16, position: u64) -> Flight {
        Flight((generation as u64) << SHIFT | position & LOW)
    }

    /// What no block of `generation` is in.
    pub(super) const fn none(generation: u16) -> Flight {
        Flight::new(generation.wrapping_sub(LOAN), 0)
    }

    /// When.
    pub const fn generation(self) -> u16 {
        (self.0 >> SHIFT) as u16
    }

    /// Where, modulo 2^48.
    pub const fn position(self) -> u64 {
        self.0 & LOW
    }

    /// Whether this is the last journey of a block whose word is `w`.
    pub(super) const fn is_of(self, w: Word) -> bool {
        w.generation().wrapping_sub(self.generation()) < LOAN
    }

    /// Whether position `at`, of which the low `bits` are known, is this one.
    pub(super) const fn is_at(self, at: u64, bits: u32) -> bool {
        let bits = if bits < SHIFT { bits } else { SHIFT };
        (self.position() ^ at) & ((1 << bits) - 1) == 0
    }
}

impl fmt::Debug for Flight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {}, position {:#x}", self.generation(), self.position())
    }
}

/// What a block holds once it is received, where messages of dead readers are delivered again.
///
/// ```text
///  63         48   47   46    41 40                       0
/// +-------------+------+--------+--------------------------+
/// | generation  | kept | sender |     bytes of the message |
/// +-------------+------+--------+--------------------------+
/// ```
/// Not kept: a message that was sent when the block's word had this generation, and is received when it has the next.
/// Kept: one that had been received already.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mail(pub u64);

const LEN_BITS: u32 = 41;
const KEPT: u64 = 1 << (SHIFT - 1);
/// The most bytes of a message that a mail can name.
pub(super) const MOST_LEN: usize = 1 << (LEN_BITS - 1);

impl Mail {
    const fn new(generation: u16, kept: u64, sender: u32, len: usize) -> Mail {
        let sender = (sender as u64 & 0x3f) << LEN_BITS;
        Mail((generation as u64) << SHIFT | kept | sender | len as u64 & ((1 << LEN_BITS) - 1))
    }

    /// Sent in `generation`.
    pub const fn sent(generation: u16, sender: u32, len: usize) -> Mail {
        Mail::new(generation, 0, sender, len)
    }

    /// Received before the block's word had `generation`, or then.
    pub const fn kept(generation: u16, sender: u32, len: usize) -> Mail {
        Mail::new(generation, KEPT, sender, len)
    }

    /// What no block of `generation` holds.
    pub(super) const fn none(generation: u16) -> Mail {
        Mail::new(generation.wrapping_sub(LOAN), 0, 0, 0)
    }

    /// When.
    pub const fn generation(self) -> u16 {
        (self.0 >> SHIFT) as u16
    }

    /// Whether it had been received already.
    pub const fn is_kept(self) -> bool {
        self.0 & KEPT != 0
    }

    /// The seat that sent it, below 64.
    pub const fn sender(self) -> u32 {
        (self.0 >> LEN_BITS) as u32 & 0x3f
    }

    /// Bytes of the message, whatever a block has.
    pub const fn len(self) -> u64 {
        self.0 & ((1 << LEN_BITS) - 1)
    }

    /// Whether it has none.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Whether a block whose word is `w` holds this message, received.
    pub const fn is_of(self, w: Word) -> bool {
        match w.generation().wrapping_sub(self.generation()) {
            0 => self.is_kept(),
            1 => true,
            _ => false,
        }
    }
}

impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = if self.is_kept() { "kept" } else { "sent" };
        write!(
            f,
            "{kept} in generation {}: {} bytes of seat {}",
            self.generation(),
            self.len(),
            self.sender()
        )
    }
}

/// A descriptor as it travels: {block: 32, generation: 16, sender: 16}, {length: 64}.
pub type Raw = [u64; 2];

/// Which bytes a message has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Descriptor {
    /// The number of the block.
    pub block: u32,
    /// Its generation when it was sent.
    pub generation: u16,
    /// The seat that sent it.
    pub sender: u16,
    /// Bytes of the message, from the start of the block.
    pub len: u64,
}

impl Descriptor {
    /// As it travels.
    pub const fn to_raw(self) -> Raw {
        [(self.block as u64) << 32 | (self.generation as u64) << 16 | self.sender as u64, self.len]
    }

    /// As it came; anything may be wrong with it.
    pub const fn from_raw(raw: Raw) -> Descriptor {
        let [first, len] = raw;
        Descriptor {
            block: (first >> 32) as u32,
            generation: (first >> 16) as u16,
            sender: first as u16,
            len,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_what_is_put_into_them() {
        for generation in [0, 1, u16::MAX] {
            for holders in [0, 1, 1 << 47, LOW] {
                let w = Word::new(generation, holders);
                assert_eq!((w.generation(), w.holders()), (generation, holders));
                let f = Flight::new(generation, holders);
                assert_eq!((f.generation(), f.position()), (generation, holders));
            }
            let block = Descriptor { block: u32::MAX - 1, generation, sender: 47, len: u64::MAX };
            assert_eq!(Descriptor::from_raw(block.to_raw()), block);
        }
        assert_eq!((Word::bit(0), Word::bit(47), Word::bit(48)), (Some(1), Some(1 << 47), None));
    }

    #[test]
    fn a_flight_is_of_its_generation_and_the_next() {
        for g in [0, 1, 7, u16::MAX - 1, u16::MAX] {
            let w = Word::new(g, 1);
            let of = |back: u16| Flight::new(g.wrapping_sub(back), 5).is_of(w);
            assert!(of(0) && of(1) && !of(2) && !of(3) && !of(u16::MAX));
            assert!(!Flight::none(g).is_of(w));
            // What a life's last flight can be, seen from the next life.
            assert!(
                !Flight::new(g, 5).is_of(w.lent(2)) && !Flight::new(g.wrapping_sub(1), 5).is_of(w.lent(2))
            );
        }
    }

    #[test]
    fn a_mail_is_of_what_was_received_only() {
        for g in [0, 1, 7, u16::MAX - 1, u16::MAX] {
            let (sent, kept) = (Mail::sent(g, 47, MOST_LEN), Mail::kept(g, 3, 0));
            assert_eq!(
                (sent.generation(), sent.is_kept(), sent.sender(), sent.len()),
                (g, false, 47, 1 << 40)
            );
            assert_eq!(
                (kept.generation(), kept.is_kept(), kept.sender(), kept.is_empty()),
                (g, true, 3, true)
            );
            let word = |more: u16| Word::new(g.wrapping_add(more), 1);
            let of = |mail: Mail| [0, 1, 2, 3, u16::MAX].map(|more| mail.is_of(word(more)));
            assert_eq!(of(sent), [false, true, false, false, false], "sent, and not received yet");
            assert_eq!(of(kept), [true, true, false, false, false]);
            assert!(!Mail::none(g).is_of(Word::new(g, 1)));
            // What a life's last mail can be, seen from the next life.
            assert!(!kept.is_of(word(0).lent(2)) && !sent.is_of(word(0).lent(2)));
        }
    }

    #[test]
    fn positions_are_compared_as_far_as_they_are_known() {
        let f = Flight::new(3, u64::MAX);
        assert!(f.is_at(u64::MAX, 64) && f.is_at(u64::MAX >> 16, 64) && f.is_at(u64::MAX >> 22, 42));
        assert!(!f.is_at(u64::MAX - 1, 42) && !f.is_at(u64::MAX >> 22, 48));
    }
}
