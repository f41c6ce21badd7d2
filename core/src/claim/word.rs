//! A slot's word: turn, attempts, owner, state.

use core::fmt;

use crate::owner::Owner;

/// What a slot is in the middle of. Done and Again are Claimed with one bit more, a state of collecting is the state
/// before with one bit more; see the module's opening.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Nothing: a submitter may claim it.
    Free = 0,
    /// A submitter is writing.
    Filling = 1,
    /// A job waits for its first taking.
    Filled = 2,
    /// A worker has it.
    Claimed = 4,
    /// A job waits that has been taken before.
    Again = 5,
    /// An answer waits.
    Done = 6,
    /// All attempts are used up.
    Failed = 7,
    /// An owner is reading the answer.
    Collecting = 14,
    /// An owner is reading that there is none.
    CollectingFailed = 15,
}

/// A worker declines by setting this bit.
pub(super) const DECLINED: u64 = State::Again as u64 & !(State::Claimed as u64);
/// A worker answers by setting this bit.
pub(super) const ANSWERED: u64 = State::Done as u64 & !(State::Claimed as u64);
/// What an owner adds to the state that it found.
const COLLECTED: u64 = 8;

/// Bits of a turn.
pub const TURN_BITS: u32 = 64 - TURN_SHIFT;
/// The most attempts that a word can count.
pub const MOST_ATTEMPTS: u32 = (1 << ATTEMPTS_BITS) - 1;
const STATE_BITS: u32 = 4;
const ATTEMPTS_BITS: u32 = 4;
const ATTEMPTS_SHIFT: u32 = STATE_BITS + Owner::BITS;
const TURN_SHIFT: u32 = ATTEMPTS_SHIFT + ATTEMPTS_BITS;
const TURN: u64 = u64::MAX << TURN_SHIFT;

/// The word.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Word(pub u64);

impl Word {
    /// Packs a word.
    pub const fn new(turn: u64, attempts: u32, owner: Owner, state: State) -> Word {
        let held = (attempts as u64) << ATTEMPTS_SHIFT | (owner.bits() as u64) << STATE_BITS;
        Word(turn << TURN_SHIFT | held | state as u64)
    }

    /// Laps before this one are past.
    pub const fn turn(self) -> u64 {
        self.0 >> TURN_SHIFT
    }

    /// How many workers have died of the job.
    pub const fn attempts(self) -> u32 {
        (self.0 >> ATTEMPTS_SHIFT) as u32 & MOST_ATTEMPTS
    }

    /// Who holds the slot, or held it last.
    pub const fn owner(self) -> Owner {
        Owner::from_bits((self.0 >> STATE_BITS) as u32)
    }

    /// In which state. Bits that belong to none are read as the state of somebody who is collecting, over whom nobody
    /// steps: whatever a bad peer writes blocks the slot, no more.
    pub const fn state(self) -> State {
        match self.0 & ((1 << STATE_BITS) - 1) {
            0 => State::Free,
            1 => State::Filling,
            2 => State::Filled,
            4 => State::Claimed,
            5 => State::Again,
            6 => State::Done,
            7 => State::Failed,
            15 => State::CollectingFailed,
            _ => State::Collecting,
        }
    }

    /// Whether somebody is in the middle of something.
    pub const fn is_held(self) -> bool {
        matches!(self.state(), State::Filling | State::Claimed | State::Collecting | State::CollectingFailed)
    }

    /// How many turns this word is ahead of `lap`, across the wrap.
    pub(super) const fn ahead_of(self, lap: u64) -> i64 {
        (self.turn().wrapping_sub(lap) << TURN_SHIFT) as i64 >> TURN_SHIFT
    }

    /// The lap, modulo all turns.
    pub(super) const fn lap(position: u64, shift: u32) -> u64 {
        (position >> shift) & (u64::MAX >> TURN_SHIFT)
    }

    /// In another state, held by `owner`.
    pub(super) const fn held(self, owner: Owner, state: State) -> Word {
        Word::new(self.turn(), self.attempts(), owner, state)
    }

    /// One turn on, else the same.
    pub(super) const fn stepped_over(self) -> Word {
        Word((self.0 & TURN).wrapping_add(1 << TURN_SHIFT) | self.0 & !TURN)
    }

    /// Claimed for the job of a new life.
    pub(super) const fn claimed_to_fill(self, owner: Owner) -> Word {
        Word::new(self.turn().wrapping_add(1), 0, owner, State::Filling)
    }

    /// Its owner has died of the job.
    pub(super) const fn after_a_death(self, most: u32) -> Word {
        let attempts = self.attempts() + 1;
        let (attempts, state) =
            if attempts < most { (attempts, State::Again) } else { (most, State::Failed) };
        Word::new(self.turn(), attempts, self.owner(), state)
    }

    /// Done or Failed, as `owner` collects it.
    pub(super) const fn collected(self, owner: Owner) -> Word {
        Word(Word::new(self.turn(), self.attempts(), owner, State::Free).0 | self.0 & 7 | COLLECTED)
    }

    /// Collecting, as it was before.
    pub(super) const fn uncollected(self) -> Word {
        Word(self.0 & !COLLECTED)
    }

    /// Given back.
    pub(super) const fn freed(self) -> Word {
        Word::new(self.turn(), 0, Owner::NOBODY, State::Free)
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}(turn {:#x}, {} attempts, {})",
            self.state(),
            self.turn(),
            self.attempts(),
            self.owner()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 9] = [
        State::Free,
        State::Filling,
        State::Filled,
        State::Claimed,
        State::Again,
        State::Done,
        State::Failed,
        State::Collecting,
        State::CollectingFailed,
    ];

    #[test]
    fn a_word_keeps_what_is_put_into_it() {
        for state in STATES {
            for owner in [Owner::NOBODY, Owner::new(0, 0), Owner::new(1021, 1023)] {
                for (turn, attempts) in [(0, 0), (1, 15), (u64::MAX >> TURN_SHIFT, 7)] {
                    let w = Word::new(turn, attempts, owner, state);
                    assert_eq!(
                        (w.turn(), w.attempts(), w.owner(), w.state()),
                        (turn, attempts, owner, state)
                    );
                    let over = w.stepped_over();
                    assert_eq!(over.turn(), (turn + 1) & (u64::MAX >> TURN_SHIFT));
                    assert_eq!(over.0 & !TURN, w.0 & !TURN);
                    assert_eq!((over.ahead_of(turn), w.ahead_of(over.turn())), (1, -1), "across the wrap");
                }
            }
        }
    }

    #[test]
    fn one_bit_ends_a_claim_or_a_collection() {
        let me = Owner::new(3, 9);
        let claimed = Word::new(7, 2, me, State::Claimed);
        assert_eq!(Word(claimed.0 | ANSWERED), Word::new(7, 2, me, State::Done));
        assert_eq!(Word(claimed.0 | DECLINED), Word::new(7, 2, me, State::Again));
        for (state, collecting) in
            [(State::Done, State::Collecting), (State::Failed, State::CollectingFailed)]
        {
            let w = Word::new(7, 2, Owner::NOBODY, state).collected(me);
            assert_eq!(w, Word::new(7, 2, me, collecting));
            assert_eq!(w.uncollected(), Word::new(7, 2, me, state));
        }
    }

    #[test]
    fn attempts_run_out() {
        let w = Word::new(1, 0, Owner::new(0, 0), State::Claimed);
        assert_eq!((w.after_a_death(2).state(), w.after_a_death(2).attempts()), (State::Again, 1));
        assert_eq!((w.after_a_death(1).state(), w.after_a_death(1).attempts()), (State::Failed, 1));
        let last = Word::new(1, MOST_ATTEMPTS, Owner::new(0, 0), State::Claimed).after_a_death(MOST_ATTEMPTS);
        assert_eq!((last.state(), last.attempts(), last.turn()), (State::Failed, MOST_ATTEMPTS, 1));
    }

    #[test]
    fn bits_of_no_state_block() {
        for bits in [3, 8, 9, 10, 11, 12, 13] {
            assert!(Word(bits).is_held() && Word(bits).state() == State::Collecting);
        }
    }
}
