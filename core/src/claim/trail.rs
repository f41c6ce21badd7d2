//! Where a collector has come by.
//!
//! A place that was seen free at a position stays so for this position: the next life in it begins a lap later. So of
//! what a collector has passed it keeps in mind only what was not free, and looks at nothing else again: without that,
//! a worker that is stopped with a job would cost every later answer a walk from this job on.

/// Places that can be kept in mind: more are walked over each time, as long as so many are not over.
const MOST: usize = 16;

/// Positions before `seen` are free, or freed by this collector, but for those in `held`, the oldest first.
pub(super) struct Trail {
    held: [u64; MOST],
    count: usize,
    seen: u64,
}

impl Trail {
    /// Nothing but `from` and what comes after counts.
    pub(super) const fn new(from: u64) -> Trail {
        Trail { held: [0; MOST], count: 0, seen: from }
    }

    /// The oldest position that may not be free.
    #[inline(always)]
    pub(super) const fn first(&self) -> u64 {
        if self.count == 0 { self.seen } else { self.held[0] }
    }

    /// Where the walk goes on.
    #[inline(always)]
    pub(super) const fn seen(&self) -> u64 {
        self.seen
    }

    /// The `k`-th that was not free.
    #[inline(always)]
    pub(super) fn held(&self, k: usize) -> Option<u64> {
        self.held[..self.count].get(k).copied()
    }

    /// The `k`-th is free by now.
    #[inline]
    pub(super) fn remove(&mut self, k: usize) {
        self.held.copy_within(k + 1..self.count, k);
        self.count -= 1;
    }

    /// The position at which the walk goes on is free.
    #[inline(always)]
    pub(super) fn free(&mut self) {
        self.seen = self.seen.wrapping_add(1);
    }

    /// It is not. False: that can't be kept in mind.
    #[inline]
    pub(super) fn keep(&mut self) -> bool {
        let room = self.count < MOST;
        if room {
            self.held[self.count] = self.seen;
            self.count += 1;
            self.free();
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_free_is_kept_in_order() {
        let start = u64::MAX - 3;
        let mut trail = Trail::new(start);
        let at = |i: u64| start.wrapping_add(i);
        trail.free();
        for _ in 1..=MOST {
            assert!(trail.keep());
        }
        assert!(!trail.keep(), "there are so many");
        assert_eq!((trail.first(), trail.seen()), (at(1), at(1 + MOST as u64)));
        trail.remove(1);
        trail.remove(0);
        assert_eq!((trail.first(), trail.held(0), trail.held(MOST - 2)), (at(3), Some(at(3)), None));
        assert!(trail.keep());
        assert_eq!(trail.held(MOST - 2), Some(at(1 + MOST as u64)));
        (0..MOST - 1).for_each(|_| trail.remove(0));
        assert_eq!((trail.first(), trail.held(0)), (trail.seen(), None));
    }
}
