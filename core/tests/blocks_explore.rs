//! Blocks under every schedule of a few actors, with deaths anywhere, and a newcomer on a dead one's seat: see
//! `sapwood_core::testing::explore`.
#![allow(missing_docs)]

use std::rc::Rc;

use sapwood_core::blocks::{Blocks, Flight, Message, Peers, Raw, ReceiveError, Region, Shape, Word};
use sapwood_core::mem::{Atom, Bug, Mem, Ordering};
use sapwood_core::owner::Owner;
use sapwood_core::ring::mpmc;
use sapwood_core::testing::explore::{
    ACTORS, Change, Judge, NEWCOMER, Protocol, Replay, Report, Stage, Verdict, with_bug,
};
use sapwood_core::testing::{Mpmc, Yard};

type Family = Replay<Spec>;
type Handle = Blocks<Family, Yard<Family>, Mpmc<Family, Raw>>;

/// The only actor that takes another one's seat.
const HEIR: u8 = 2;

fn full() -> bool {
    std::env::var_os("SAPWOOD_FULL").is_some()
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Call {
    /// Loans, writes, sends so many bytes; what can't be sent is given back.
    Send(u64),
    /// Receives, writes, gives back.
    Receive,
    /// Loans, writes, gives back.
    Borrow,
    /// Recovers, if this actor is dead.
    Recover(u8),
    /// Recovers what the heir of this actor has left.
    RecoverHeir(u8),
    /// Takes the seat of a dead actor, and recovers before anything else.
    Succeed(u8),
    /// Recovers, if this actor is dead, and sends what has come to it again.
    Resend(u8),
    /// As many blocks as there are, all at once.
    BorrowAll,
}
use Call::*;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Event {
    Sent(u64),
    Got(u64),
    /// Handed over before its slot is given back.
    Orphan(u64),
    Nothing,
}

#[derive(Clone, Copy, PartialEq, Hash, Debug, Default)]
struct Hold {
    /// One more than the actor that holds the block.
    holder: u8,
    /// It has noted a flight of this generation.
    flies: bool,
    /// It has the message received.
    received: bool,
}

/// What is promised.
#[derive(Clone, Hash)]
struct Spec {
    /// The number of each block's word; that of its flight comes next.
    words: Rc<Vec<usize>>,
    generations: Vec<u16>,
    holds: Vec<Hold>,
    sent: Vec<u64>,
    /// Message, who had it, and whether that call returned.
    had: Vec<(u64, u8, bool)>,
    calls: [u8; ACTORS],
    ended: u8,
    /// Deaths within `Receive`.
    perhaps: u8,
    heir_of: Option<u8>,
    /// Messages of dead readers are delivered again.
    redelivers: bool,
    /// Messages that an actor has given back and not said so yet.
    unsaid: [u8; ACTORS],
}

const RECEIVE: u8 = 2;

impl Spec {
    fn seat(&self, actor: u8) -> u32 {
        u32::from(if actor == HEIR { self.heir_of.unwrap_or(HEIR) } else { actor })
    }

    fn word(&mut self, i: usize, c: Change) -> Verdict {
        let (old, new, mine) = (Word(c.old), Word(c.new), 1u64 << self.seat(c.actor));
        let grown = new.generation().wrapping_sub(old.generation());
        let hold = self.holds[i];
        let dead = |one_more: u8| one_more > 0 && c.dead >> (one_more - 1) & 1 == 1;
        let me = c.actor + 1;
        let fine = match (old.holders(), new.holders(), grown) {
            (0, to, 2) => to == mine,
            (_, to, 1) => to == mine && (hold.flies || dead(hold.holder)),
            (_, 0, 0) if hold.holder == me => {
                self.unsaid[usize::from(c.actor)] += u8::from(hold.received);
                !hold.flies
            }
            (_, 0, 0) => dead(hold.holder) && !(self.redelivers && hold.received),
            _ => false,
        };
        self.generations[i] = new.generation();
        let received = grown == 1;
        self.holds[i] = Hold { holder: if new.holders() == 0 { 0 } else { me }, flies: false, received };
        if fine { Ok(()) } else { Err(format!("actor {} made {old:?} of {hold:?} to {new:?}", c.actor)) }
    }

    fn have(&mut self, value: u64, actor: u8, dead: u8, returned: bool) -> Verdict {
        if let Some(had) = self.had.iter().find(|h| h.0 == value)
            && (had.2 || had.1 != actor && dead >> had.1 & 1 == 0)
        {
            return Err(format!("actor {actor} has message {value} after {had:?}"));
        }
        self.had.retain(|h| h.0 != value);
        self.had.push((value, actor, returned));
        self.had.sort_unstable();
        Ok(())
    }
}

impl Judge for Spec {
    type Call = Call;
    type Event = Event;

    fn begins(&mut self, actor: u8, call: Call, _: u8) {
        self.calls[usize::from(actor)] = if call == Receive { RECEIVE } else { 1 };
        self.ended &= !(1 << actor);
        if let Succeed(of) = call {
            self.heir_of = Some(of);
        }
    }

    fn changes(&mut self, c: Change) -> Verdict {
        let words = self.words.clone();
        if let Some(i) = words.iter().position(|w| *w == c.word) {
            return self.word(i, c);
        }
        if let Some(i) = words.iter().position(|w| *w + 1 == c.word) {
            self.holds[i].flies |=
                self.holds[i].holder == c.actor + 1 && Flight(c.new).generation() == self.generations[i];
        }
        Ok(())
    }

    fn tick(&mut self) {}

    fn event(&mut self, actor: u8, dead: u8, event: Event) -> Verdict {
        let unsaid = &mut self.unsaid[usize::from(actor)];
        if matches!(event, Event::Orphan(_) | Event::Got(_)) {
            *unsaid = unsaid.saturating_sub(1);
        }
        match event {
            // Given back by then.
            Event::Orphan(value) if self.redelivers => return self.have(value, actor, dead, true),
            Event::Orphan(value) => return self.have(value, actor, dead, false),
            Event::Got(value) => self.have(value, actor, dead, true)?,
            Event::Sent(value) => {
                self.sent.push(value);
                self.sent.sort_unstable();
            }
            Event::Nothing => (),
        }
        self.ended |= 1 << actor;
        // Orphans of a call that has returned will not come again.
        self.had.iter_mut().filter(|h| h.1 == actor).for_each(|h| h.2 = true);
        Ok(())
    }

    fn idle(&mut self, actor: u8) {
        let call = std::mem::take(&mut self.calls[usize::from(actor)]);
        let perhaps = u8::from(call == RECEIVE && self.ended >> actor & 1 == 0);
        let unsaid = std::mem::take(&mut self.unsaid[usize::from(actor)]);
        self.perhaps += if self.redelivers { unsaid } else { perhaps };
    }
}

struct Arena {
    yard: Yard<Family>,
    ring: Mpmc<Family, Raw>,
    /// The seats that have been taken again, a bit each.
    taken: <Family as Mem>::U64,
}

struct Eyes<'a> {
    arena: &'a Arena,
    me: Owner,
    keeps: bool,
    kept: Vec<Message>,
}

impl Peers for Eyes<'_> {
    fn alive(&mut self, owner: Owner) -> bool {
        Family::alive(if owner.epoch() == 2 { HEIR } else { owner.seat() as u8 })
    }
    fn succeeded(&mut self, dead: Owner) -> bool {
        let taken = self.arena.taken.load(Ordering::Acquire) >> dead.seat() & 1 == 1;
        taken && dead.epoch() == 1 && self.me.seat() != dead.seat()
    }
    fn orphan(&mut self, _: Owner, message: Message) -> Option<Message> {
        if self.arena.yard.shape().redelivers() {
            self.kept.push(message);
            return None;
        }
        Family::emit(Event::Orphan(message.len as u64));
        if !self.keeps {
            return Some(message);
        }
        self.kept.push(message);
        None
    }
}

#[derive(Clone, Hash, Default)]
struct Local {
    heir_of: Option<u8>,
}

impl Arena {
    fn stage(of: &Scenario, start: u64, generation: u16) -> (Arena, Stage<Arena>) {
        let Scenario { blocks, capacity, redelivers, .. } = *of;
        let shape = Shape::of(blocks, 64).expect("a shape");
        let shape = if redelivers { shape.redelivering().expect("small blocks") } else { shape };
        Stage::new(|| {
            let yard = Yard::<Family>::of(shape, generation);
            let ring = Mpmc::new(capacity, start, [0; 2]).expect("a power of two");
            let words = (0..blocks as u32).map(|i| Family::word_of(|| _ = yard.header(i).word())).collect();
            let spec = Spec {
                words: Rc::new(words),
                generations: vec![generation; blocks],
                holds: vec![Hold::default(); blocks],
                sent: vec![],
                had: vec![],
                calls: [0; ACTORS],
                ended: 0,
                perhaps: 0,
                heir_of: None,
                redelivers,
                unsaid: [0; ACTORS],
            };
            (Arena { yard, ring, taken: Atom::new(0) }, spec)
        })
    }

    fn write(h: &Handle, block: &sapwood_core::blocks::Block) {
        let _ = h.bytes(block).write();
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
        let handle =
            unsafe { Blocks::attach(self.yard.clone(), mpmc::Handle::attach(self.ring.clone(), me)) };
        let mut h = handle.expect("a seat");
        let mut eyes = Eyes { arena: self, me, keeps: matches!(call, Succeed(_)), kept: vec![] };
        let mut event = Event::Nothing;
        match call {
            Send(len) => {
                if let Ok(block) = h.loan() {
                    Arena::write(&h, &block);
                    match h.send(block, len as usize, &mut eyes) {
                        Ok(_) => event = Event::Sent(len),
                        Err(e) => h.give_back(e.into_inner()),
                    }
                }
            }
            Receive => match h.receive(&mut eyes) {
                Ok(message) => {
                    Arena::write(&h, &message.block);
                    event = Event::Got(message.len as u64);
                    h.give_back(message.block);
                }
                Err(ReceiveError::Bad(e)) => panic!("{e}"),
                Err(_) => (),
            },
            Borrow => {
                if let Ok(block) = h.loan() {
                    Arena::write(&h, &block);
                    h.give_back(block);
                }
            }
            Recover(of) => {
                if !Family::alive(of) {
                    h.recover(Owner::new(of.into(), 1), &mut eyes).expect("another's seat");
                }
            }
            Resend(of) => {
                if !Family::alive(of) {
                    h.recover(Owner::new(of.into(), 1), &mut eyes).expect("another's seat");
                    for message in std::mem::take(&mut eyes.kept) {
                        let (len, sender) = (message.len, message.sender);
                        if let Err(e) = h.resend(message, &mut eyes) {
                            eyes.kept.push(Message { block: e.into_inner(), len, sender });
                        }
                    }
                }
            }
            RecoverHeir(of) => {
                h.recover(Owner::new(of.into(), 2), &mut eyes).map(|_| ()).expect("another's seat");
            }
            Succeed(of) => {
                h.recover(Owner::new(of.into(), 1), &mut eyes).map(|_| ()).expect("nothing is held yet");
            }
            BorrowAll => {
                let blocks: Vec<_> =
                    (0..self.yard.shape().blocks()).map(|_| h.loan().expect("a block is lost")).collect();
                assert!(h.loan().is_err(), "a block too many");
                blocks.into_iter().for_each(|b| h.give_back(b));
            }
        }
        for message in eyes.kept {
            Arena::write(&h, &message.block);
            let len = message.len as u64;
            h.give_back(message.block);
            if self.yard.shape().redelivers() {
                Family::emit(Event::Orphan(len));
            }
        }
        Family::emit(event);
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
        for _ in 0..6 {
            stage.perform(self, NEWCOMER, Receive)?;
        }
        stage.perform(self, NEWCOMER, BorrowAll)?;
        let spec = stage.world().judge();
        let lost = spec.sent.iter().filter(|v| !spec.had.iter().any(|h| h.0 == **v)).count();
        if lost > usize::from(spec.perhaps) {
            return Err(format!("{lost} of {:?} are lost, {:?} came", spec.sent, spec.had));
        }
        Ok(())
    }
}

struct Scenario {
    name: &'static str,
    blocks: usize,
    capacity: usize,
    before: &'static [(u8, Call)],
    scripts: &'static [&'static [Call]],
    deaths: u32,
    mortal: u8,
    redelivers: bool,
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "send | receive",
        blocks: 1,
        capacity: 1,
        before: &[],
        scripts: &[&[Send(1), Send(2)], &[Receive, Receive]],
        deaths: 2,
        mortal: 3,
        redelivers: false,
    },
    Scenario {
        name: "send | receive | borrow",
        blocks: 1,
        capacity: 1,
        before: &[],
        scripts: &[&[Send(1)], &[Receive], &[Borrow]],
        deaths: 2,
        mortal: 3,
        redelivers: false,
    },
    Scenario {
        name: "receive | recover, receive, borrow",
        blocks: 1,
        capacity: 1,
        before: &[(0, Send(1))],
        scripts: &[&[Receive], &[Recover(0), Receive, Borrow]],
        deaths: 2,
        mortal: 3,
        redelivers: false,
    },
    Scenario {
        name: "send, receive | recover, send | borrow",
        blocks: 2,
        capacity: 1,
        before: &[],
        scripts: &[&[Send(1), Receive], &[Recover(0), Send(2)]],
        deaths: 2,
        mortal: 3,
        redelivers: false,
    },
    Scenario {
        name: "send, send | receive | receive, recover",
        blocks: 2,
        capacity: 1,
        before: &[],
        scripts: &[&[Send(1), Send(2)], &[Receive], &[Recover(1), Receive]],
        deaths: 2,
        mortal: 7,
        redelivers: false,
    },
    Scenario {
        name: "a sender dies | another recovers, borrows | its heir receives, borrows",
        blocks: 1,
        capacity: 1,
        before: &[],
        scripts: &[&[Send(1)], &[Recover(0), Borrow], &[Succeed(0), Receive, Borrow]],
        deaths: 1,
        mortal: 1,
        redelivers: false,
    },
    Scenario {
        name: "a receiver dies | another recovers, borrows | its heir recovers, borrows",
        blocks: 1,
        capacity: 1,
        before: &[(1, Send(1))],
        scripts: &[&[Receive], &[Recover(0), Borrow], &[Succeed(0), Borrow]],
        deaths: 2,
        mortal: 5,
        redelivers: false,
    },
    Scenario {
        name: "again: receive | recover, receive, borrow",
        blocks: 1,
        capacity: 1,
        before: &[(0, Send(1))],
        scripts: &[&[Receive], &[Recover(0), Receive, Borrow]],
        deaths: 2,
        mortal: 3,
        redelivers: true,
    },
    Scenario {
        name: "again: send | receive | recover both",
        blocks: 1,
        capacity: 1,
        before: &[],
        scripts: &[&[Send(1)], &[Receive], &[Recover(0), Recover(1)]],
        deaths: 2,
        mortal: 3,
        redelivers: true,
    },
    Scenario {
        name: "again: a receiver dies | two recover, one of them sends it again",
        blocks: 1,
        capacity: 2,
        before: &[(1, Send(1))],
        scripts: &[&[Receive], &[Resend(0), Receive], &[Recover(0)]],
        deaths: 2,
        mortal: 3,
        redelivers: true,
    },
    Scenario {
        name: "again: a receiver dies | another recovers, sends it again | its heir recovers",
        blocks: 1,
        capacity: 1,
        before: &[(1, Send(1))],
        scripts: &[&[Receive], &[Resend(0)], &[Succeed(0), Borrow]],
        deaths: 2,
        mortal: 5,
        redelivers: true,
    },
    Scenario {
        name: "again: receive | resend, receive | receive, resend",
        blocks: 1,
        capacity: 1,
        before: &[(0, Send(1))],
        scripts: &[&[Receive], &[Resend(0), Receive], &[Resend(1), Receive]],
        deaths: 2,
        mortal: 3,
        redelivers: true,
    },
];

impl Scenario {
    fn explore(&self, start: u64, generation: u16) -> Result<Report, String> {
        let (arena, mut stage) = Arena::stage(self, start, generation);
        for (actor, call) in self.before {
            stage.perform(&arena, *actor, *call)?;
        }
        let report = stage.explore(&arena, self.scripts, self.deaths, self.mortal);
        report.map_err(|what| format!("{}, from {start:#x}: {what}", self.name))
    }
}

#[test]
fn every_schedule_keeps_what_blocks_promise() {
    let mut all = Report::default();
    let starts: &[_] = &[(u64::MAX, u16::MAX - 2), (0, 0), ((1 << 48) - 1, u16::MAX)];
    for scenario in SCENARIOS {
        for (start, generation) in &starts[..if full() { 3 } else { 1 }] {
            let report = scenario.explore(*start, *generation).unwrap_or_else(|what| panic!("{what}"));
            println!("{report}: {}", scenario.name);
            assert!(report.ends > 1, "one end shows nothing");
            all += report;
        }
    }
    println!("{all}: blocks, in all");
}

#[test]
fn mistakes_are_noticed() {
    std::panic::set_hook(Box::new(|_| {}));
    let bugs = [
        Bug::BlockLoanSameGeneration,
        Bug::BlockSameGeneration,
        Bug::BlockFlightLate,
        Bug::BlockTakeLate,
        Bug::BlockFreeInFlight,
        Bug::BlockIgnoreSuccessor,
        Bug::BlockRingFirst,
        Bug::BlockForgetMail,
        Bug::BlockMailByStore,
        Bug::BlockResendAsNew,
    ];
    let noticed = bugs.map(|bug| {
        let said = SCENARIOS.iter().find_map(|s| with_bug(Some(bug), || s.explore(u64::MAX, 7)).err());
        (bug, said)
    });
    let _ = std::panic::take_hook();
    for (bug, said) in &noticed {
        println!("{bug:?} | {}", said.as_ref().map_or("NOBODY", |s| s.lines().next().unwrap_or_default()));
    }
    assert!(noticed.iter().all(|(_, said)| said.is_some()), "a mistake that nobody notices");
}
