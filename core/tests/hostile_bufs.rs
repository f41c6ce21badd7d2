//! Shared blocks against a peer that writes anything into their memory at any time: every number stays in range, every
//! call ends within its bound of shared operations, and what it says is a typed answer that makes sense by itself.
#![allow(missing_docs)]

mod common;

use std::collections::BTreeMap;

use common::seeds;
use sapwood_core::bufs::{Adopted, Bufs, Exhausted, OwnSeat, ShareError, TICKETS, Ticket, TicketError};
use sapwood_core::owner::Owner;
use sapwood_core::testing::{Adversary, Depot, Hostile};

/// Three calls of four are made against the adversary.
fn with<V>(bad: &mut Adversary, most: usize, call: impl FnOnce() -> V) -> V {
    if bad.below(4) == 0 { call() } else { bad.call(most as u64, call) }
}

/// As often as a change is tried where others are faster.
const TURNS: usize = 1 << 10;
const NOTES: usize = TICKETS as usize;

type Answers = BTreeMap<&'static str, u64>;

fn bufs_of(seed: u64, answers: &mut Answers) {
    let mut bad = Adversary::new(seed);
    let count = bad.below(6) + 1;
    let depot = Depot::<Hostile>::new(count, 100, bad.bits() as u16).expect("few");
    // SAFETY: one thread, two names.
    let handle =
        |me: u32| unsafe { Bufs::attach(depot.clone(), Owner::new(me, 5)) }.expect("a seat below 32");
    let mut handles = [with(&mut bad, 2, || handle(0)), with(&mut bad, 2, || handle(31))];
    let (mut held, mut tickets) = ([const { Vec::new() }; 2], Vec::new());
    // Every note is looked at twice and claimed; then the word.
    let issue = 6 * NOTES + TURNS + 4;
    for _ in 0..14 {
        let me = bad.below(2);
        let (h, mine) = (&mut handles[me], &mut held[me]);
        let mut note = |what| *answers.entry(what).or_default() += 1;
        match bad.below(12) {
            0..=2 => match with(&mut bad, 2 * count, || h.loan()) {
                Ok(holding) => {
                    assert!((holding.block() as usize) < count);
                    let bytes = with(&mut bad, 1, || h.bytes(&holding).write());
                    // SAFETY: a block has so many bytes, and this thread is alone.
                    unsafe { bytes.write_bytes(7, 128) };
                    with(&mut bad, 2, || h.say(&holding, [1, 2]));
                    mine.push(holding);
                    note("lent");
                }
                Err(Exhausted { bytes: 128, .. }) => note("exhausted"),
                Err(e) => panic!("{e}"),
            },
            3 | 4 => {
                if let Some(holding) = mine.last() {
                    match with(&mut bad, issue, || h.share(holding)) {
                        Ok(ticket) => {
                            assert!(ticket.bit < TICKETS && ticket.serial < 1 << 40);
                            tickets.push(ticket);
                            note("shared");
                        }
                        Err(ShareError::TooMany { most: TICKETS, .. }) => note("too many"),
                        Err(ShareError::Busy { .. }) => note("share: busy"),
                        Err(e) => panic!("{e}"),
                    }
                    note(if with(&mut bad, 1, || h.is_sole(holding)) { "alone" } else { "not alone" });
                }
            }
            5 => {
                if let Some(holding) = mine.pop() {
                    match with(&mut bad, issue, || h.hand_over(holding)) {
                        Ok(ticket) => {
                            tickets.push(ticket);
                            note("handed over");
                        }
                        Err((e, back)) => {
                            assert!(!e.to_string().is_empty());
                            mine.push(back);
                            note("not handed over");
                        }
                    }
                }
            }
            6..=8 => {
                let wild = |bad: &mut Adversary| {
                    let bit = bad.bits() as u32 >> (bad.below(4) * 9);
                    Ticket { block: bad.below(9) as u32, bit, serial: bad.bits() >> (bad.below(3) * 20) }
                };
                let ticket = if bad.below(3) == 0 {
                    wild(&mut bad)
                } else {
                    tickets.pop().unwrap_or_else(|| wild(&mut bad))
                };
                match with(&mut bad, 3 * TURNS + 2, || h.adopt(ticket)) {
                    Ok(Adopted::New(holding)) => {
                        assert!((holding.block() as usize) < count);
                        let _ = with(&mut bad, 2, || h.said(holding.block()));
                        mine.push(holding);
                        note("adopted");
                    }
                    Ok(Adopted::Again(holding)) => {
                        assert!((holding.block() as usize) < count);
                        note("adopted again");
                    }
                    Err(e) => {
                        assert!(!e.to_string().is_empty());
                        note(match e {
                            TicketError::Block { .. } => "no such block",
                            TicketError::Bit { .. } => "no such bit",
                            TicketError::Stale { .. } => "stale",
                            TicketError::Busy { .. } => "adopt: busy",
                            e => panic!("{e}"),
                        });
                    }
                }
            }
            9 => {
                if let Some(holding) = mine.pop() {
                    match with(&mut bad, TURNS + 1, || h.give_back(holding)) {
                        Ok(()) => note("given back"),
                        Err(_) => note("not given back"),
                    }
                }
            }
            10 => {
                // A block: each note, and for each that is the one's so many tries.
                let most = count * NOTES * (4 * TURNS + 8);
                match bad.below(3) {
                    0 => assert!(with(&mut bad, most, || h.recall()) as usize <= count * NOTES),
                    1 => assert!(with(&mut bad, most, || h.void_left()) as usize <= count * NOTES),
                    _ => assert!(with(&mut bad, 2 * count * NOTES, || h.leave()) as usize <= count * NOTES),
                }
                let (blocks, on_the_way) = with(&mut bad, count, || h.used());
                assert!(blocks as usize <= count && on_the_way as usize <= count * NOTES);
            }
            _ => {
                let dead = Owner::new([0, 1, 2, 31, 32, 500][bad.below(6)], 5);
                let most = count * (NOTES * (4 * TURNS + 8) + 3 * TURNS);
                match with(&mut bad, most, || h.recover(dead, |_| Hostile::choice(2) == 0)) {
                    Ok(r) => {
                        assert!(r.held as usize <= count && r.voided as usize <= count * NOTES);
                        note("recovered");
                    }
                    Err(OwnSeat { seat }) => assert_eq!(seat, dead.seat()),
                }
                with(&mut bad, count * (NOTES + 1), || h.holders());
                assert!(with(&mut bad, 100, || format!("{h:?} {depot:?}")).contains("me"));
            }
        }
    }
}

#[test]
fn bufs() {
    let mut answers = Answers::new();
    seeds(20_000, |seed| bufs_of(seed, &mut answers));
    println!("{answers:?}");
    let expected = [
        "lent",
        "exhausted",
        "shared",
        "too many",
        "alone",
        "not alone",
        "handed over",
        "not handed over",
        "adopted",
        "adopted again",
        "no such block",
        "no such bit",
        "stale",
        "given back",
        "recovered",
    ];
    for answer in expected {
        assert!(answers.contains_key(answer), "never {answer}");
    }
}
