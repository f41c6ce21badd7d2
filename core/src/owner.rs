//! Who a process leaves behind: the name that stands in every word which a death may leave in the middle of something.

use core::fmt;

/// A seat and the epoch in which it was taken, in 20 bits.
///
/// ```text
///  19        10 9         0
/// +------------+-----------+
/// |  seat + 1  |   epoch   |    0: nobody;  0xfffff: the seal of a closed ring
/// +------------+-----------+
/// ```
/// A seat's epoch grows whenever the seat is taken, and a newcomer first recovers, in every object, what the seat's
/// last holder has left. So an owner that is dead never comes back, although the field holds the epoch modulo 1024
/// only.
///
/// ```
/// use sapwood_core::owner::Owner;
///
/// let owner = Owner::new(3, 1025);
/// assert_eq!((owner.seat(), owner.epoch()), (3, 1));
/// assert_eq!(owner.to_string(), "seat 3, epoch 1");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner(u32);

impl Owner {
    /// No owner.
    pub const NOBODY: Owner = Owner(0);
    /// The name in the position at which a closed ring ends.
    pub(crate) const SEAL: Owner = Owner(Self::MASK);
    /// How many seats can have owners.
    pub const SEATS: u32 = 1022;
    /// Bits of a word that an owner takes.
    pub(crate) const BITS: u32 = 20;
    pub(crate) const MASK: u32 = (1 << Self::BITS) - 1;
    const EPOCHS: u32 = 1 << 10;

    /// Whoever took `seat` in `epoch`, of which the low 10 bits count.
    ///
    /// # Panics
    /// If `seat` is not below [`SEATS`](Self::SEATS).
    pub const fn new(seat: u32, epoch: u32) -> Owner {
        assert!(seat < Self::SEATS, "a seat that can have owners");
        Owner((seat + 1) << 10 | (epoch & (Self::EPOCHS - 1)))
    }

    /// Which seat. Of [`NOBODY`](Self::NOBODY) and of whatever a broken word names: a seat that no segment has.
    pub const fn seat(self) -> u32 {
        (self.0 >> 10).wrapping_sub(1)
    }

    /// In which epoch, modulo 1024.
    pub const fn epoch(self) -> u32 {
        self.0 & (Self::EPOCHS - 1)
    }

    /// Whether this is the name of the holder of `seat` in the full `epoch`.
    pub const fn is(self, seat: u32, epoch: u32) -> bool {
        self.seat() == seat && self.epoch() == epoch & (Self::EPOCHS - 1)
    }

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    /// From the bits of a word; what does not belong to an owner is cut off.
    pub(crate) const fn from_bits(bits: u32) -> Owner {
        Owner(bits & Self::MASK)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Owner::NOBODY => f.write_str("nobody"),
            Owner::SEAL => f.write_str("the seal"),
            owner => write!(f, "seat {}, epoch {}", owner.seat(), owner.epoch()),
        }
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owner({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_owner_is_nobody_or_the_seal() {
        for seat in [0, 1, 500, Owner::SEATS - 1] {
            for epoch in [0, 1, 1023, 1024, u32::MAX] {
                let owner = Owner::new(seat, epoch);
                assert!(owner != Owner::NOBODY && owner != Owner::SEAL, "{owner}");
                assert!(owner.is(seat, epoch) && Owner::from_bits(owner.bits()) == owner);
            }
        }
        assert!(Owner::NOBODY.seat() >= Owner::SEATS && Owner::SEAL.seat() >= Owner::SEATS);
    }
}
