//! Seeds: each way in, with each thing; each field of header and seats spoilt; each life of a seat.

use crate::seeds::Named;

/// The first bytes of an input, in the order of `Plan::read`. Byte 7 is 1: a built segment, changed.
struct Start {
    way: u8,
    thing: u8,
    seats: u8,
    sizes: u8,
    seat: u8,
    locks: u8,
    length: u8,
}

const RECEIVE: u8 = 0;
const ENTER: u8 = 1;
const CREATE: u8 = 2;
const INHERIT: u8 = 3;
const WAYS: [(&str, u8); 4] =
    [("receive", RECEIVE), ("enter", ENTER), ("create", CREATE), ("inherit", INHERIT)];
/// No `made` other than `asked`.
const AS_ASKED: u8 = 7;
/// Place of field `f` of the header; of field `f` of the seat 0, whose lines begin at 64 (see `changed`).
const fn header(field: u8) -> u8 {
    field
}
const SEAT_0: [u8; 5] = [65, 66, 67, 68, 64];
const SEAT_1: [u8; 5] = [75, 71, 72, 73, 74];
/// Values, as `changed` numbers them.
const ZERO: u8 = 0;
const ONE: u8 = 1;
const ALL_ONES: u8 = 2;
const HALF: u8 = 3;
const PID: u8 = 5;
const START: u8 = 6;
const NAMESPACE: u8 = 7;
const MORE: u8 = 8;

impl Start {
    const fn new(way: u8) -> Start {
        Start { way, thing: 0, seats: 2, sizes: 2, seat: 0, locks: 0, length: 0 }
    }

    fn with(&self, rest: &[u8]) -> Vec<u8> {
        let Start { way, thing, seats, sizes, seat, locks, length } = *self;
        let mut data = vec![way, thing, seats, sizes, seat, locks, length, 1, AS_ASKED];
        data.extend_from_slice(rest);
        data
    }
}

/// Name and bytes of every seed.
pub(crate) fn seeds() -> Vec<Named> {
    let mut all = Vec::new();
    let mut add = |name: String, data| all.push((name, data));
    for (name, way) in WAYS {
        add(format!("{name}_good"), Start::new(way).with(&[]));
        for (thing, kind) in ["proper", "loose", "fixed", "other", "stranger"].iter().enumerate().skip(1) {
            add(format!("{name}_{kind}"), Start { thing: thing as u8, ..Start::new(way) }.with(&[]));
        }
        for field in 0..10 {
            for (value, how) in [(MORE, "more"), (ALL_ONES, "ones"), (ZERO, "zero")] {
                let data = Start::new(way).with(&[header(field), value]);
                add(format!("{name}_field{field}_{how}"), data);
            }
        }
        // A length that no address reaches, one page, a byte too few, a sparse file of 64 GiB.
        add(format!("{name}_endless"), Start::new(way).with(&[header(7), HALF]));
        for length in [0x83, 0x89, 0x90, 0xc4] {
            add(format!("{name}_length{length:x}"), Start { length, ..Start::new(way) }.with(&[]));
        }
        add(format!("{name}_held_up"), Start { locks: 0x30, ..Start::new(way) }.with(&[SEAT_0[0], ONE]));
        add(format!("{name}_raw"), [&[way, 0, 2, 2, 0, 0, 0, 0][..], b"sapwood\0\x02"].concat());
    }
    for (name, way) in &WAYS[1..3] {
        let alive = [SEAT_0[0], ONE, SEAT_0[1], PID, SEAT_0[2], START, SEAT_0[3], NAMESPACE];
        let another_start = [SEAT_0[0], ONE, SEAT_0[1], PID, SEAT_0[2], ONE, SEAT_0[3], NAMESPACE];
        let (locked, free) = (Start { locks: 1, ..Start::new(*way) }, Start::new(*way));
        add(format!("{name}_alive"), locked.with(&alive));
        add(format!("{name}_stale"), free.with(&alive));
        add(format!("{name}_child_holds_lock"), locked.with(&another_start));
        add(format!("{name}_just_taking"), locked.with(&[SEAT_0[1], ZERO]));
        add(format!("{name}_half_taken"), locked.with(&another_start[2..]));
        add(format!("{name}_more_seats_than_can_be"), many_seats(*way));
        add(format!("{name}_dead_beside_living"), Start { locks: 2, ..Start::new(*way) }.with(&alive));
        add(format!("{name}_never_came"), free.with(&[SEAT_0[4], ONE, SEAT_1[4], ONE]));
        add(format!("{name}_retired"), free.with(&[header(9), ONE]));
        add(format!("{name}_retired_alive"), locked.with(&[&[header(9), ONE], &alive[..]].concat()));
        add(format!("{name}_no_such_seat"), Start { seat: 5, ..Start::new(*way) }.with(&[]));
    }
    all
}

/// A header of 5000 seats, right in itself, in a file as long as it says, and a first seat whose holder is dead.
fn many_seats(way: u8) -> Vec<u8> {
    const U32: u8 = 14;
    const PAGES: u8 = 13;
    const AS_STATED: u8 = 0x92;
    let pages = 1 + (5000_u32 * 64).div_ceil(4096) as u16 + 1;
    let [low, high] = pages.to_le_bytes();
    let [a, b, c, d] = 5000_u32.to_le_bytes();
    let changes = [
        &[header(4), U32, a, b, c, d][..],
        &[header(6), PAGES, low, high],
        &[header(7), PAGES, low, high],
        &[SEAT_0[0], ONE],
    ];
    Start { length: AS_STATED, ..Start::new(way) }.with(&changes.concat())
}
