//! What is explored: few calls, in which everything meets.

use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use super::Call::{self, *};
use super::Ring;
use crate::ring::mpmc::LAP_BITS;
use crate::testing::explore::Report;

/// Scripts that run beside one another.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What it is about.
    pub name: &'static str,
    /// Logarithms of the capacities.
    pub shifts: &'static [u32],
    /// Calls made in a row before, by whom.
    pub before: &'static [(u8, Call)],
    /// Script i is actor i's.
    pub scripts: &'static [&'static [Call]],
    /// Deaths at most; anybody may die.
    pub deaths: u32,
}

impl Scenario {
    /// Explores it in a ring of 2^`shift` slots whose first position is `start`.
    ///
    /// # Errors
    /// The violation found.
    pub fn explore(&self, shift: u32, start: u64) -> Result<Report, String> {
        let (ring, mut stage) = Ring::stage(shift, start);
        for (actor, call) in self.before {
            stage.perform(&ring, *actor, *call)?;
        }
        let report = stage.explore(&ring, self.scripts, self.deaths, u8::MAX);
        report.map_err(|what| format!("{}, capacity {}, from {start:#x}: {what}", self.name, 1 << shift))
    }
}

/// First positions of a ring of 2^`shift` slots: 0, and such that positions and laps wrap.
pub fn starts(shift: u32) -> Vec<u64> {
    let laps = 1u64 << (LAP_BITS + shift);
    vec![0, u64::MAX, u64::MAX - 1, laps - 1, laps - 2]
}

const fn scenario(
    name: &'static str,
    shifts: &'static [u32],
    deaths: u32,
    scripts: &'static [&'static [Call]],
) -> Scenario {
    Scenario { name, shifts, before: &[], scripts, deaths }
}

/// Two actors.
pub const TWO: &[Scenario] = &[
    scenario("send | receive", &[0, 1, 2], 2, &[&[Push(1), Push(2)], &[Pop, Pop]]),
    scenario("send, receive | the same", &[0, 1, 2], 2, &[&[Push(1), Pop], &[Push(2), Pop]]),
    scenario("three each", &[0, 1, 2], 2, &[&[Push(1), Push(2), Push(3)], &[Pop, Pop, Pop]]),
    scenario("mixed", &[0, 1, 2], 2, &[&[Push(1), Pop, Push(2)], &[Push(3), Pop, Pop]]),
    scenario("four each", &[0, 1, 2], 2, &[&[Push(1), Push(2), Push(3), Push(4)], &[Pop, Pop, Pop, Pop]]),
    scenario(
        "send | recover, receive",
        &[0, 1],
        2,
        &[&[Push(1), Push(2)], &[Recover(0), Pop, Recover(0), Pop]],
    ),
    scenario("panics", &[0, 1], 2, &[&[PushPanics, Push(1)], &[PopPanics, Push(2), Pop]]),
    scenario("send, close | receive", &[0, 1, 2], 2, &[&[Push(1), Push(2), Close], &[Pop, Pop, Pop]]),
    scenario("close, send | receive", &[0, 1], 2, &[&[Push(1), Close, Push(2)], &[Pop, Pop, Pop]]),
    scenario("close | send, receive", &[0, 1], 2, &[&[Close, Pop, Pop], &[Push(1), Push(2), Pop, Pop]]),
    scenario("a panic, and closed", &[0, 1], 2, &[&[PushPanics, Close, Pop], &[Push(1), PopPanics, Pop]]),
];

/// More of two actors.
pub const TWO_LONG: &[Scenario] = &[
    scenario(
        "panics, more",
        &[0, 1],
        2,
        &[&[PushPanics, Push(1), PopPanics], &[Pop, PushPanics, Push(2), Pop]],
    ),
    scenario("mixed, more", &[0, 1, 2], 2, &[&[Push(1), Push(2), Pop, Pop], &[Pop, Push(3), Pop]]),
    scenario(
        "six each",
        &[0, 1, 2],
        2,
        &[&[Push(1), Push(2), Push(3), Push(4), Push(5), Push(6)], &[Pop, Pop, Pop, Pop, Pop, Pop]],
    ),
    scenario(
        "mixed, and closed",
        &[0, 1, 2],
        2,
        &[&[Push(1), Pop, Push(2), Close, Pop], &[Push(3), Pop, Push(4), Pop, Pop]],
    ),
];

/// Three actors.
pub const THREE: &[Scenario] = &[
    scenario("two send, one receives", &[0, 1], 3, &[&[Push(1)], &[Push(2)], &[Pop]]),
    scenario("one sends, two receive", &[0, 1], 3, &[&[Push(1)], &[Pop], &[Pop]]),
    scenario("one sends twice, two receive", &[0, 1], 2, &[&[Push(1), Push(2)], &[Pop], &[Pop]]),
    scenario("a third recovers", &[0, 1], 3, &[&[Push(1)], &[Pop], &[Recover(0), Recover(1)]]),
    scenario(
        "a third recovers from a receiver",
        &[0, 1],
        2,
        &[&[Push(1), Push(2)], &[Pop, Pop], &[Recover(1)]],
    ),
    scenario("an heir of the sender", &[0, 1], 2, &[&[Push(1)], &[Pop], &[Succeed(0), Push(2), Pop]]),
    scenario("an heir of the receiver", &[0, 1], 2, &[&[Push(1), Push(2)], &[Pop], &[Succeed(1), Pop]]),
    scenario("a third closes", &[0, 1], 3, &[&[Push(1)], &[Pop], &[Close]]),
    scenario("one sends and closes, two receive", &[0, 1], 2, &[&[Push(1), Close], &[Pop], &[Pop, Pop]]),
    scenario("one closes, one sends, one drains", &[0, 1], 2, &[&[Close], &[Push(1)], &[Pop, Pop]]),
    scenario("two close", &[0], 2, &[&[Close, Pop], &[Push(1)], &[Close, Pop]]),
];

/// More of three actors.
pub const THREE_LONG: &[Scenario] = &[
    scenario("three send", &[0, 1], 3, &[&[Push(1)], &[Push(2)], &[Push(3)]]),
    scenario("two send, one receives twice", &[0, 1], 2, &[&[Push(1)], &[Push(2)], &[Pop, Pop]]),
    scenario("two send, one receives, again", &[0, 1], 1, &[&[Push(1), Push(2)], &[Pop, Pop], &[Push(3)]]),
    scenario(
        "all recover",
        &[0, 1],
        2,
        &[&[Push(1), Pop], &[Recover(0), Push(2)], &[Recover(0), Recover(1), Pop]],
    ),
    scenario("send and close, drain, send", &[0, 1], 3, &[&[Push(1), Close], &[Pop, Pop], &[Push(2)]]),
    scenario("send and close, two drain", &[0, 1], 3, &[&[Push(1), Close], &[Pop, Pop], &[Pop, Pop]]),
    scenario("close, two send, and drain", &[0, 1], 1, &[&[Close], &[Push(1)], &[Push(2), Pop]]),
    scenario(
        "an heir, and closed",
        &[0, 1],
        2,
        &[&[Push(1), Pop], &[Push(2), Close, Pop], &[Succeed(0), Pop, Pop]],
    ),
];

/// Handles that were made long ago, and hints that went back to what they were then.
pub const STALE: &[Scenario] = &[
    Scenario {
        name: "a handle three laps behind, old hints",
        shifts: &[0, 1],
        before: &[
            (1, Attach),
            (0, Push(91)),
            (0, Pop),
            (0, Push(92)),
            (0, Pop),
            (0, Push(93)),
            (0, Pop),
            (0, Push(94)),
            (0, Hints(0)),
        ],
        scripts: &[&[Pop, Push(1)], &[Push(2), Pop]],
        deaths: 2,
    },
    Scenario {
        name: "handles behind, and closed",
        shifts: &[0, 1],
        before: &[
            (1, Attach),
            (0, Push(91)),
            (0, Pop),
            (0, Push(92)),
            (0, Pop),
            (0, Push(93)),
            (0, Hints(1)),
        ],
        scripts: &[&[Close, Pop, Pop], &[Push(2), Pop]],
        deaths: 2,
    },
];
