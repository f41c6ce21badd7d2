//! Shared blocks under every schedule of a few actors, with deaths anywhere, and a newcomer on a dead one's seat: see
//! `sapwood_core::testing::explore`.
#![allow(missing_docs)]

use std::rc::Rc;

use sapwood_core::bufs::{Adopted, Bufs, Holding, Note, Region, TICKETS, Ticket, TicketError, Word};
use sapwood_core::mem::{Atom, Bug, Mem, Ordering};
use sapwood_core::owner::Owner;
use sapwood_core::testing::Depot;
use sapwood_core::testing::explore::{
    ACTORS, Change, Judge, NEWCOMER, Protocol, Replay, Report, Stage, Verdict, with_bug,
};

type Family = Replay<Spec>;
type Handle = Bufs<Family, Depot<Family>>;

/// The only actor that takes another one's seat.
const HEIR: u8 = 2;

fn full() -> bool {
    std::env::var_os("SAPWOOD_FULL").is_some()
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Call {
    /// Loans, writes, hands over: the ticket goes into the mail.
    Send,
    /// Loans, writes, shares, reads, lets go.
    Share,
    /// Loans, writes, shares, waits for nothing, writes again if it is alone, lets go.
    Rewrite,
    /// Adopts what is in the mail, which keeps a copy; reads, writes if it is alone, lets go.
    Adopt,
    /// Loans, shares, recalls, shares again; lets go.
    Reissue,
    /// Adopts and hands over: the mail has the new ticket.
    PassOn,
    /// Loans, writes, lets go.
    Borrow,
    /// Voids what this actor has sent.
    Recall,
    /// Leaves: what it has sent stands.
    Leave,
    /// Recovers, if this actor is dead.
    Recover(u8),
    /// Recovers what the heir of this actor has left.
    RecoverHeir(u8),
    /// Takes the seat of a dead actor, and recovers before anything else.
    Succeed(u8),
    /// As many blocks as there are, all at once, when the tickets of those who left are void.
    BorrowAll,
}
use Call::*;

/// What is promised.
#[derive(Clone, Hash)]
struct Spec {
    /// The number of each block's word.
    words: Rc<Vec<usize>>,
    /// The number of each block's first note.
    notes: Rc<Vec<usize>>,
    /// The note of the ticket that an actor has taken out last.
    adopted: [u64; ACTORS],
    serials: Vec<[u64; TICKETS as usize]>,
    /// Who sits in a seat when that seat's bit was set: one more than the actor, by block and seat.
    holders: Vec<[u8; ACTORS]>,
    heir_of: Option<u8>,
}

impl Spec {
    fn seat(&self, actor: u8) -> u8 {
        if actor == HEIR { self.heir_of.unwrap_or(HEIR) } else { actor }
    }
}

impl Judge for Spec {
    type Call = Call;
    /// The serial of a ticket that was adopted.
    type Event = u64;

    fn begins(&mut self, _: u8, call: Call, _: u8) {
        if let Succeed(of) = call {
            self.heir_of = Some(of);
        }
    }

    fn changes(&mut self, c: Change) -> Verdict {
        let words = self.words.clone();
        for (first, serials) in self.notes.iter().zip(&mut self.serials) {
            if let Some(serial) = c.word.checked_sub(*first).and_then(|i| serials.get_mut(i)) {
                *serial = Note(c.new).serial();
            }
        }
        let Some(block) = words.iter().position(|w| *w == c.word) else { return Ok(()) };
        let (old, new, seat) = (Word(c.old), Word(c.new), self.seat(c.actor));
        let (mine, me) = (1u32 << seat, c.actor + 1);
        let came = new.holders() & !old.holders();
        let went = old.holders() & !new.holders();
        let wrong = |what: &str| Err(format!("actor {} made {old:?} to {new:?}: {what}", c.actor));
        if came & !mine != 0 {
            return wrong("another's holding");
        }
        for gone in (0..ACTORS as u8).filter(|s| went >> s & 1 == 1) {
            let holder = std::mem::take(&mut self.holders[block][usize::from(gone)]);
            if holder != me && (holder == 0 || c.dead >> (holder - 1) & 1 == 0) {
                return wrong("a living one's holding was taken");
            }
        }
        if came != 0 {
            self.holders[block][usize::from(seat)] = me;
        }
        let taken = (old.tickets() & !new.tickets()).trailing_zeros() as usize;
        if let Some(serial) = self.serials[block].get(taken) {
            self.adopted[usize::from(c.actor)] = *serial;
        }
        let lent = came != 0 && new.tickets() == old.tickets();
        if lent && !old.is_free() {
            return wrong("lent, and not free");
        }
        Ok(())
    }

    fn tick(&mut self) {}

    fn event(&mut self, actor: u8, _: u8, serial: u64) -> Verdict {
        let taken = self.adopted[usize::from(actor)];
        if serial == taken {
            return Ok(());
        }
        Err(format!("actor {actor} adopted ticket {serial} and has taken ticket {taken}"))
    }

    fn idle(&mut self, actor: u8) {
        self.adopted[usize::from(actor)] = 0;
    }
}

struct Arena {
    depot: Depot<Family>,
    /// The ticket on its way: {block: 8, bit: 8, serial: 48} + 1. Whoever takes it leaves a copy.
    mail: <Family as Mem>::U64,
    /// The seats that have been taken again, a bit each.
    taken: <Family as Mem>::U64,
}

#[derive(Clone, Hash, Default)]
struct Local {
    heir_of: Option<u8>,
}

impl Arena {
    fn stage(blocks: usize, generation: u16) -> (Arena, Stage<Arena>) {
        Stage::new(|| {
            let depot = Depot::<Family>::new(blocks, 64, generation).expect("a shape");
            let words = (0..blocks as u32).map(|i| Family::word_of(|| _ = depot.header(i).word())).collect();
            let last = (0..blocks as u32).map(|i| Family::word_of(|| _ = depot.header(i).notes()));
            let notes = last.map(|last| last + 1 - TICKETS as usize).collect();
            let spec = Spec {
                words: Rc::new(words),
                notes: Rc::new(notes),
                adopted: [0; ACTORS],
                serials: vec![[0; TICKETS as usize]; blocks],
                holders: vec![[0; ACTORS]; blocks],
                heir_of: None,
            };
            (Arena { depot, mail: Atom::new(0), taken: Atom::new(0) }, spec)
        })
    }

    fn post(&self, t: Ticket) {
        let letter = u64::from(t.block) << 56 | u64::from(t.bit) << 48 | t.serial;
        self.mail.store(letter + 1, Ordering::Release);
    }

    fn ticket(&self) -> Option<Ticket> {
        let letter = self.mail.load(Ordering::Acquire).checked_sub(1)?;
        let (block, bit) = ((letter >> 56) as u32, (letter >> 48) as u32 & 0xff);
        Some(Ticket { block, bit, serial: letter & ((1 << 48) - 1) })
    }

    fn adopt(&self, h: &mut Handle) -> Option<Holding> {
        let ticket = self.ticket()?;
        match h.adopt(ticket) {
            Ok(Adopted::New(holding)) => {
                Family::emit(ticket.serial);
                Some(holding)
            }
            Ok(Adopted::Again(h)) => panic!("block {} was ours before the call", h.block()),
            Err(TicketError::Stale { .. }) => None,
            Err(e) => panic!("{e}"),
        }
    }
}

fn write(h: &Handle, holding: &Holding) {
    let _ = h.bytes(holding).write();
}

fn read(h: &Handle, holding: &Holding) {
    let _ = h.bytes(holding).read();
}

fn write_if_sole(h: &Handle, holding: &Holding) {
    if h.is_sole(holding) {
        write(h, holding);
    }
}

impl Protocol for Arena {
    type Judge = Spec;
    type Local = Local;

    fn act(&self, actor: u8, local: &mut Local, call: Call) {
        if let Succeed(of) = call {
            local.heir_of = Some(of);
            self.taken.fetch_or(1 << of, Ordering::Release);
        }
        let me = local.heir_of.map_or_else(|| Owner::new(actor.into(), 1), |of| Owner::new(of.into(), 2));
        // SAFETY: each actor has a name of its own, and the heir recovers its predecessor first.
        let mut h: Handle = unsafe { Bufs::attach(self.depot.clone(), me) }.expect("a seat");
        let succeeded = |dead: Owner| {
            let taken = self.taken.load(Ordering::Acquire) >> dead.seat() & 1 == 1;
            taken && dead.epoch() == 1 && me.seat() != dead.seat()
        };
        let over = |h: &mut Handle, holding| assert_eq!(h.give_back(holding), Ok(()));
        match call {
            Send | Share | Rewrite | Reissue | Borrow => {
                let Ok(holding) = h.loan() else { return };
                write(&h, &holding);
                if call == Send {
                    self.post(h.hand_over(holding).expect("a place"));
                    return;
                }
                if call != Borrow {
                    self.post(h.share(&holding).expect("a place"));
                    read(&h, &holding);
                }
                if call == Reissue {
                    h.recall();
                    self.post(h.share(&holding).expect("a place"));
                }
                if call == Rewrite {
                    write_if_sole(&h, &holding);
                }
                over(&mut h, holding);
            }
            Adopt | PassOn => {
                let Some(holding) = self.adopt(&mut h) else { return };
                read(&h, &holding);
                if call == PassOn {
                    self.post(h.hand_over(holding).expect("a place"));
                    return;
                }
                write_if_sole(&h, &holding);
                over(&mut h, holding);
            }
            Recall => _ = h.recall(),
            Leave => _ = h.leave(),
            Recover(of) => {
                if !Family::alive(of) {
                    let dead = Owner::new(of.into(), 1);
                    h.recover(dead, succeeded).expect("another's seat");
                    for i in 0..self.depot.shape().blocks() {
                        let left = self.depot.header(i).word().holders() >> of & 1 == 1;
                        assert!(!left || succeeded(dead), "a dead one's holding was left");
                    }
                }
            }
            RecoverHeir(of) => {
                h.recover(Owner::new(of.into(), 2), succeeded).map(|_| ()).expect("another's seat");
            }
            Succeed(of) => {
                h.recover(Owner::new(of.into(), 1), succeeded).map(|_| ()).expect("nothing is held yet");
            }
            BorrowAll => {
                h.void_left();
                let blocks: Vec<_> =
                    (0..self.depot.shape().blocks()).map(|_| h.loan().expect("a block is lost")).collect();
                assert!(h.loan().is_err(), "a block too many");
                for i in 0..self.depot.shape().blocks() {
                    let notes = self.depot.header(i).notes();
                    assert!(notes.iter().all(|n| n.issuer() == Owner::NOBODY), "a note is lost: {notes:?}");
                }
                blocks.into_iter().for_each(|b| over(&mut h, b));
            }
        }
    }

    fn may_begin(&self, call: Call, dead: u8) -> bool {
        if let Succeed(of) = call { dead >> of & 1 == 1 } else { true }
    }

    fn settle(&self, stage: &mut Stage<Arena>) -> Verdict {
        let dead = stage.world().dead();
        let heir_of = stage.world().judge().heir_of;
        for of in (0..=HEIR).filter(|a| dead >> a & 1 == 1) {
            stage.perform(self, NEWCOMER, Recover(of))?;
        }
        if let (Some(of), true) = (heir_of, dead >> HEIR & 1 == 1) {
            stage.perform(self, NEWCOMER, RecoverHeir(of))?;
        }
        // The living take back what they have sent.
        for actor in (0..=HEIR).filter(|a| dead >> a & 1 == 0) {
            stage.perform(self, actor, Recall)?;
        }
        stage.perform(self, NEWCOMER, BorrowAll).map(|_| ())
    }
}

struct Scenario {
    name: &'static str,
    blocks: usize,
    before: &'static [(u8, Call)],
    scripts: &'static [&'static [Call]],
    deaths: u32,
    mortal: u8,
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "hand over | adopt | borrow",
        blocks: 1,
        before: &[],
        scripts: &[&[Send], &[Adopt], &[Borrow]],
        deaths: 2,
        mortal: 3,
    },
    Scenario {
        name: "share, write if alone | adopt, adopt a copy",
        blocks: 1,
        before: &[],
        scripts: &[&[Rewrite, Share], &[Adopt, Adopt]],
        deaths: 2,
        mortal: 3,
    },
    Scenario {
        name: "two adopt one ticket, one passes it on | its issuer recalls",
        blocks: 1,
        before: &[(0, Send)],
        scripts: &[&[Recall, Borrow], &[PassOn], &[Adopt]],
        deaths: 1,
        mortal: 6,
    },
    Scenario {
        name: "hand over, recall | recover, adopt | recover, borrow",
        blocks: 1,
        before: &[],
        scripts: &[&[Send, Recall], &[Recover(0), Adopt], &[Recover(0), Borrow]],
        deaths: 1,
        mortal: 1,
    },
    Scenario {
        name: "adopt, pass on | recover, borrow | issuer shares again",
        blocks: 1,
        before: &[(1, Send)],
        scripts: &[&[PassOn], &[Share], &[Recover(0), Borrow]],
        deaths: 1,
        mortal: 1,
    },
    Scenario {
        name: "hand over, leave | recover, adopt | borrow",
        blocks: 1,
        before: &[],
        scripts: &[&[Send, Leave], &[Recover(0), Adopt]],
        deaths: 2,
        mortal: 3,
    },
    Scenario {
        name: "share, recall, share again | adopt",
        blocks: 1,
        before: &[],
        scripts: &[&[Reissue], &[Adopt]],
        deaths: 2,
        mortal: 3,
    },
    Scenario {
        name: "share | adopt | recover",
        blocks: 1,
        before: &[],
        scripts: &[&[Share], &[Adopt], &[Recover(0)]],
        deaths: 1,
        mortal: 1,
    },
    Scenario {
        name: "a holder dies | another recovers, borrows | its heir borrows",
        blocks: 1,
        before: &[],
        scripts: &[&[Borrow], &[Recover(0), Borrow], &[Succeed(0), Borrow]],
        deaths: 1,
        mortal: 1,
    },
    Scenario {
        name: "one dies adopting | another recovers, borrows | its heir adopts",
        blocks: 1,
        before: &[(1, Send)],
        scripts: &[&[Adopt], &[Recover(0), Borrow], &[Succeed(0), Adopt]],
        deaths: 1,
        mortal: 1,
    },
];

impl Scenario {
    fn explore(&self, generation: u16) -> Result<Report, String> {
        let (arena, mut stage) = Arena::stage(self.blocks, generation);
        for (actor, call) in self.before {
            stage.perform(&arena, *actor, *call)?;
        }
        let report = stage.explore(&arena, self.scripts, self.deaths, self.mortal);
        report.map_err(|what| format!("{}, from {generation}: {what}", self.name))
    }
}

#[test]
fn every_schedule_keeps_what_shared_blocks_promise() {
    let mut all = Report::default();
    let starts: &[u16] = &[u16::MAX - 1, 0, u16::MAX];
    for scenario in SCENARIOS {
        for generation in &starts[..if full() { 3 } else { 1 }] {
            let report = scenario.explore(*generation).unwrap_or_else(|what| panic!("{what}"));
            println!("{report}: {}", scenario.name);
            assert!(report.ends > 1, "one end shows nothing");
            all += report;
        }
    }
    println!("{all}: bufs, in all");
}

#[test]
fn mistakes_are_noticed() {
    std::panic::set_hook(Box::new(|_| {}));
    let bugs = [
        Bug::BufLoanSameGeneration,
        Bug::BufShareSameGeneration,
        Bug::BufLoanOverTickets,
        Bug::BufNoteLate,
        Bug::BufGiveInTwoSteps,
        Bug::BufNoteFreedFirst,
        Bug::BufIgnoreSuccessor,
        Bug::BufRecoverOnce,
        Bug::BufForgetTickets,
    ];
    let noticed = bugs.map(|bug| {
        let said = SCENARIOS.iter().find_map(|s| with_bug(Some(bug), || s.explore(7)).err());
        (bug, said)
    });
    let _ = std::panic::take_hook();
    for (bug, said) in &noticed {
        println!("{bug:?} | {}", said.as_ref().map_or("NOBODY", |s| s.lines().next().unwrap_or_default()));
    }
    assert!(noticed.iter().all(|(_, said)| said.is_some()), "a mistake that nobody notices");
}
