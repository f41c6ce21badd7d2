//! The word of a lock.

use core::fmt;

use crate::owner::Owner;

/// What the word of a lock says.
///
/// ```text
///  63      54 53                  32 31        22 21           2     1         0
/// +----------+----------------------+------------+--------------+---------+--------+
/// |    0     |  pid of the culprit  |  seat + 1  |    owner     | panicked| waited |
/// +----------+----------------------+------------+--------------+---------+--------+
/// ```
/// A *culprit* is who left what the lock guards in a state that nobody answers for. Process numbers of Linux have 22
/// bits at most.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Word(pub u64);

/// Why nobody answers for what a lock guards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// Its owner ended, or gave its handle up, while it had the lock.
    Died,
    /// Its owner panicked while it had the lock, and gave it back.
    Panicked,
}

/// Who left what a lock guards in a state that nobody answers for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Culprit {
    /// In which seat.
    pub seat: u32,
    /// Its process number, as it saw itself; 0 where it is not known.
    pub pid: u32,
    /// What it did.
    pub cause: Cause,
}

const WAITED: u64 = 1;
const PANICKED: u64 = 1 << 1;
const OWNER: u32 = 2;
const SEAT: u32 = OWNER + Owner::BITS;
const SEAT_MASK: u64 = (1 << 10) - 1;
const PID: u32 = SEAT + 10;
const PID_MASK: u64 = (1 << 22) - 1;

impl Word {
    /// Free, nobody waits, and whoever had it last answers for what it guards: zeroed memory.
    pub const FREE: Word = Word(0);

    /// The word that says all this.
    pub const fn new(owner: Owner, waited: bool, culprit: Option<Culprit>) -> Word {
        let (seat, pid, panicked) = match culprit {
            Some(Culprit { seat, pid, cause }) => {
                ((seat as u64 + 1) & SEAT_MASK, pid as u64 & PID_MASK, matches!(cause, Cause::Panicked))
            }
            None => (0, 0, false),
        };
        let flags = if waited { WAITED } else { 0 } | if panicked { PANICKED } else { 0 };
        Word(pid << PID | seat << SEAT | (owner.bits() as u64) << OWNER | flags)
    }

    /// Who has the lock.
    pub const fn owner(self) -> Owner {
        Owner::from_bits((self.0 >> OWNER) as u32)
    }

    /// Whether somebody may be waiting for it.
    pub const fn waited(self) -> bool {
        self.0 & WAITED != 0
    }

    /// Who is to blame for what it guards.
    pub const fn culprit(self) -> Option<Culprit> {
        let seat = (self.0 >> SEAT & SEAT_MASK) as u32;
        if seat == 0 {
            return None;
        }
        let cause = if self.0 & PANICKED != 0 { Cause::Panicked } else { Cause::Died };
        Some(Culprit { seat: seat - 1, pid: (self.0 >> PID & PID_MASK) as u32, cause })
    }

    pub(super) const fn and_waited(self) -> Word {
        Word(self.0 | WAITED)
    }

    /// The bit that says it.
    pub(super) const WAITED: u64 = WAITED;
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.owner())?;
        if self.waited() {
            f.write_str(", waited for")?;
        }
        match self.culprit() {
            Some(Culprit { seat, pid, cause }) => write!(f, ", {cause:?}: seat {seat}, process {pid}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_says_what_it_was_made_of() {
        let owners = [Owner::NOBODY, Owner::new(0, 0), Owner::new(Owner::SEATS - 1, 1023)];
        let culprits = [
            None,
            Some(Culprit { seat: 0, pid: 0, cause: Cause::Died }),
            Some(Culprit { seat: Owner::SEATS - 1, pid: (1 << 22) - 1, cause: Cause::Panicked }),
        ];
        for owner in owners {
            for waited in [false, true] {
                for culprit in culprits {
                    let word = Word::new(owner, waited, culprit);
                    assert_eq!((word.owner(), word.waited(), word.culprit()), (owner, waited, culprit));
                }
            }
        }
        assert_eq!(Word::new(Owner::NOBODY, false, None), Word::FREE);
        assert_eq!(Word(u64::MAX).culprit().map(|c| c.seat), Some(Owner::SEATS));
    }
}
