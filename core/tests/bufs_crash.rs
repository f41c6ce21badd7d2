//! A participant of an arena of shared blocks is killed before each of its shared operations, in every role: no block
//! is lost, none is lent while somebody holds it, and a ticket that stands can be adopted.
#![allow(missing_docs)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use sapwood_core::bufs::{Adopted, Bufs, Holding, Region, ShareError, TICKETS, Ticket, TicketError};
use sapwood_core::mem::Bug;
use sapwood_core::owner::Owner;
use sapwood_core::testing::{Crash, Depot};

type Handle = Bufs<Crash, Depot<Crash>>;

fn full() -> bool {
    std::env::var_os("SAPWOOD_FULL").is_some()
}

/// A ticket as its carrier has it.
#[derive(Clone, Copy, Debug)]
struct Sent {
    ticket: Ticket,
    value: u64,
    issuer: (u32, u32),
}

/// What the test knows of everybody.
#[derive(Default)]
struct Truth {
    dead: BTreeSet<(u32, u32)>,
    /// Dead ones that were recovered as a whole.
    recovered: BTreeSet<(u32, u32)>,
    /// Those whose recovery has begun: their tickets may be void.
    begun: BTreeSet<(u32, u32)>,
    /// Those whose `leave` returned.
    left: BTreeSet<(u32, u32)>,
    epochs: BTreeMap<u32, u32>,
    carrier: Vec<Sent>,
    /// Block and seat of every holding of the living.
    held: BTreeSet<(u32, u32)>,
}

#[derive(Clone)]
struct World {
    depot: Depot<Crash>,
    truth: Rc<RefCell<Truth>>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Call {
    Loan(u64),
    Share,
    HandOver,
    /// The ticket that has been on its way for longest.
    Adopt,
    Free,
    Recall,
    /// For good: the script ends.
    Leave,
    /// All who died on this seat.
    Recover(u32),
}
use Call::*;

struct Participant {
    world: World,
    handle: Handle,
    /// Holdings with the values in them.
    mine: Vec<(Holding, u64)>,
}

impl World {
    fn new(blocks: usize, generation: u16) -> Self {
        let depot = Depot::new(blocks, 8, generation).expect("a shape");
        World { depot, truth: Rc::default() }
    }

    fn hold(&self, block: u32, seat: u32, alone: bool) {
        let mut truth = self.truth.borrow_mut();
        let others = truth.held.iter().filter(|h| h.0 == block).count();
        assert!(!alone || others == 0, "block {block} was lent to seat {seat}, and held: {:?}", truth.held);
        assert!(truth.held.insert((block, seat)), "seat {seat} has block {block} already");
    }

    /// Whether nothing is left in the arena.
    fn is_clean(&self) -> bool {
        (0..self.depot.shape().blocks()).all(|i| {
            let header = self.depot.header(i);
            header.word().is_free() && header.notes().iter().all(|n| n.issuer() == Owner::NOBODY)
        })
    }
}

impl Participant {
    fn attach(world: &World, seat: u32) -> Self {
        let epoch = {
            let mut truth = world.truth.borrow_mut();
            let epoch = truth.epochs.entry(seat).or_insert(0);
            *epoch += 1;
            *epoch
        };
        // SAFETY: one living handle a seat; newcomers recover first, as the scripts say.
        let handle = unsafe { Bufs::attach(world.depot.clone(), Owner::new(seat, epoch)) };
        Participant { world: world.clone(), handle: handle.expect("a seat"), mine: Vec::new() }
    }

    fn name(&self) -> (u32, u32) {
        (self.handle.me().seat(), self.handle.me().epoch())
    }

    fn read(&self, holding: &Holding) -> u64 {
        // SAFETY: eight bytes of a block that we hold.
        unsafe { self.handle.bytes(holding).read().cast::<u64>().read() }
    }

    fn adopt(&mut self, sent: Sent) -> Result<(), TicketError> {
        match self.handle.adopt(sent.ticket)? {
            Adopted::New(holding) => {
                self.world.hold(holding.block(), self.name().0, false);
                assert_eq!(self.read(&holding), sent.value, "another value came");
                self.mine.push((holding, sent.value));
            }
            Adopted::Again(holding) => {
                let block = holding.block();
                assert!(self.mine.iter().any(|m| m.0.block() == block), "we did not have block {block}");
            }
        }
        Ok(())
    }

    fn send(&self, ticket: Ticket, value: u64) {
        self.world.truth.borrow_mut().carrier.push(Sent { ticket, value, issuer: self.name() });
    }

    fn call(&mut self, call: Call) {
        let (world, me) = (self.world.clone(), self.name());
        match call {
            Loan(value) => {
                let Ok(holding) = self.handle.loan() else { return };
                world.hold(holding.block(), me.0, true);
                assert!(self.handle.is_sole(&holding));
                // SAFETY: eight bytes of a block that was lent just now.
                unsafe { self.handle.bytes(&holding).write().cast::<u64>().write(value) };
                self.mine.push((holding, value));
            }
            Share => {
                let Some((holding, value)) = self.mine.last() else { return };
                if let Ok(ticket) = self.handle.share(holding) {
                    assert!(!self.handle.is_sole(holding));
                    self.send(ticket, *value);
                }
            }
            HandOver => {
                let Some((holding, value)) = self.mine.pop() else { return };
                world.truth.borrow_mut().held.remove(&(holding.block(), me.0));
                let ticket = self.handle.hand_over(holding).expect("there is a place for it");
                self.send(ticket, value);
            }
            Adopt => {
                let first = {
                    let mut truth = world.truth.borrow_mut();
                    if truth.carrier.is_empty() { None } else { Some(truth.carrier.remove(0)) }
                };
                let Some(sent) = first else { return };
                let gone = world.truth.borrow().recovered.contains(&sent.issuer)
                    && !world.truth.borrow().left.contains(&sent.issuer);
                let perhaps = gone || {
                    let t = world.truth.borrow();
                    t.begun.contains(&sent.issuer) && !t.left.contains(&sent.issuer)
                };
                match self.adopt(sent) {
                    Ok(()) => assert!(!gone, "{sent:?} of one that was recovered"),
                    Err(TicketError::Stale { .. }) => assert!(perhaps, "{sent:?} was void"),
                    Err(e) => panic!("{e}"),
                }
            }
            Free => {
                let Some((holding, value)) = self.mine.pop() else { return };
                assert_eq!(self.read(&holding), value, "somebody has written to a block that we hold");
                world.truth.borrow_mut().held.remove(&(holding.block(), me.0));
                assert_eq!(self.handle.give_back(holding), Ok(()));
            }
            Recall => {
                // From here on they may be void.
                world.truth.borrow_mut().carrier.retain(|s| s.issuer != me);
                self.handle.recall();
            }
            Leave => {
                while !self.mine.is_empty() {
                    self.call(Free);
                }
                self.handle.leave();
                world.truth.borrow_mut().left.insert(me);
            }
            Recover(seat) => {
                // Also newcomers that died while they recovered.
                let dead = world.truth.borrow().dead.clone();
                for (seat, epoch) in dead.into_iter().filter(|d| d.0 == seat) {
                    world.truth.borrow_mut().begun.insert((seat, epoch));
                    let newest = world.truth.borrow().epochs.get(&seat).copied();
                    let succeeded = |o: Owner| me.0 != o.seat() && newest != Some(o.epoch());
                    let recovered = self.handle.recover(Owner::new(seat, epoch), succeeded);
                    recovered.expect("nothing was held before, or another's seat");
                    world.truth.borrow_mut().recovered.insert((seat, epoch));
                }
            }
        }
    }
}

/// Runs `calls` on `seat` and kills it before its shared operation `k`; says whether it came to its end, and then it
/// ends without giving anything back.
fn victim(world: &World, seat: u32, calls: &[Call], k: u64) -> bool {
    let epoch = world.truth.borrow().epochs.get(&seat).copied().unwrap_or(0) + 1;
    let end = Crash::until(k, || {
        let mut p = Participant::attach(world, seat);
        calls.iter().for_each(|c| p.call(*c));
    });
    let mut truth = world.truth.borrow_mut();
    truth.epochs.insert(seat, epoch);
    truth.dead.insert((seat, epoch));
    truth.held.retain(|h| h.1 != seat);
    // Of one that died while it left, some tickets stand and the others don't.
    if end.is_none() && calls.contains(&Leave) {
        truth.carrier.retain(|s| s.issuer != (seat, epoch));
    }
    end.is_some()
}

/// A survivor adopts what is on its way, before or after it recovers the dead: then everything is free, once.
fn settle(world: &World, seat: u32, dead: &[u32], first: bool) {
    let mut p = Participant::attach(world, seat);
    // What a newcomer inherits, it recovers before all else.
    dead.iter().filter(|d| **d == seat).for_each(|d| p.call(Recover(*d)));
    let adopt = |p: &mut Participant| {
        while !p.world.truth.borrow().carrier.is_empty() {
            p.call(Adopt);
        }
    };
    if first {
        adopt(&mut p);
    }
    dead.iter().for_each(|d| {
        if *d != seat {
            p.call(Recover(*d));
        }
    });
    // What was freed must not be what we hold.
    (0..2).for_each(|i| p.call(Loan(2000 + i)));
    adopt(&mut p);
    while !p.mine.is_empty() {
        p.call(Free);
    }
    p.handle.void_left();
    p.handle.recall();
    assert!(world.is_clean(), "left over: {:?}", world.depot);
    let blocks = world.depot.shape().blocks();
    for i in 0..u64::from(blocks) {
        p.call(Loan(1000 + i));
    }
    assert_eq!(p.mine.len() as u32, blocks, "not all blocks can be lent");
    assert!(p.handle.loan().is_err(), "one block too many");
    assert_eq!(p.handle.used(), (blocks, 0));
    assert_eq!(p.handle.holders(), 1 << seat);
}

const VICTIMS: &[&[Call]] = &[
    &[Loan(1), Share, Free],
    &[Loan(1), HandOver],
    &[Adopt, Free],
    &[Adopt, Share, Free, Adopt, Free],
    &[Loan(1), Share, Share, Leave],
    &[Loan(1), Share, HandOver, Recall],
    &[Adopt, HandOver, Adopt, Free, Loan(7), Leave],
    &[Loan(1), Share, Adopt, Adopt, Adopt, Free],
];

/// A world in which survivor 0 has sent `fill` tickets of one block, which it holds no more, and has left or died.
fn before(blocks: usize, generation: u16, fill: usize, leaves: bool) -> World {
    let world = World::new(blocks, generation);
    let mut p = Participant::attach(&world, 0);
    if fill > 0 {
        p.call(Loan(100));
        (1..fill).for_each(|_| p.call(Share));
        p.call(HandOver);
    }
    if leaves {
        p.call(Leave);
    }
    world.truth.borrow_mut().dead.insert((0, 1));
    world
}

/// Every death of every victim, recovered by another seat, by a newcomer on the same one, or by the sender's successor.
fn one_death(stride: u64) -> u64 {
    let mut points = 0;
    let generations = [0, u16::MAX - 1, u16::MAX];
    let worlds = [(1, 0), (1, 1), (2, 2), (2, 3)];
    for (generation, (blocks, fill)) in generations.into_iter().flat_map(|g| worlds.map(|w| (g, w))) {
        for calls in VICTIMS {
            for (survivor, first) in [(3, true), (3, false), (1, true), (1, false), (0, false)] {
                for leaves in [true, false] {
                    for k in (0..10_000).step_by(stride as usize) {
                        let world = before(blocks, generation, fill, leaves);
                        let over = victim(&world, 1, calls, k);
                        let what = format!(
                            "{calls:?} k {k}, {blocks} blocks, fill {fill}, {survivor} {first} {leaves}"
                        );
                        context(&what, || settle(&world, survivor, &[0, 1], first));
                        points += 1;
                        if over {
                            break;
                        }
                    }
                }
            }
        }
    }
    points
}

fn context(what: &str, run: impl FnOnce()) {
    if let Err(e) = catch_unwind(AssertUnwindSafe(run)) {
        let text = e.downcast_ref::<String>().cloned();
        let text = text.or_else(|| e.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default();
        panic!("{what}: {text}");
    }
}

/// The second victim dies while it recovers from the first, on another seat or as its successor; a third settles.
fn two_deaths(stride: u64) -> u64 {
    let seconds: &[&[Call]] = &[&[Recover(1), Adopt, Free], &[Adopt, Share, Recover(1), Leave]];
    let mut pairs = 0;
    for calls in VICTIMS {
        for second in seconds {
            for (seat, settler) in [(2, 3), (1, 3), (2, 1), (1, 1), (2, 2)] {
                if seat == 1 && second[0] != Recover(1) {
                    continue;
                }
                for k in (0..10_000).step_by(stride as usize) {
                    let mut over = false;
                    for k2 in (0..10_000).step_by(stride as usize) {
                        let world = before(2, u16::MAX - 1, 2, k % 2 == 0);
                        over = victim(&world, 1, calls, k);
                        let over2 = victim(&world, seat, second, k2);
                        let what = format!("{calls:?} k {k}, {second:?} seat {seat} k {k2}, {settler}");
                        context(&what, || settle(&world, settler, &[0, 1, 2], k2 % 2 == 0));
                        pairs += 1;
                        if over2 {
                            break;
                        }
                    }
                    if over {
                        break;
                    }
                }
            }
        }
    }
    pairs
}

/// One adopts and dies before it has freed the note, again and again: the issuer never runs out of notes.
fn notes_of_the_dead() -> u64 {
    let mut leftovers = 0;
    for k in 0..12 {
        let world = World::new(1, 7);
        let mut p = Participant::attach(&world, 0);
        p.call(Loan(1));
        for _ in 0..40 {
            p.call(Share);
            let sent = *world.truth.borrow().carrier.first().expect("a note can be had");
            victim(&world, 1, &[Adopt], k);
            p.call(Recover(1));
            leftovers += u64::from(p.handle.adopt(sent.ticket).is_err());
            world.truth.borrow_mut().carrier.clear();
        }
        p.call(Free);
        p.handle.recall();
        context(&format!("k {k}"), || settle(&world, 2, &[1], true));
    }
    leftovers
}

/// A copy of a ticket that was adopted long ago is void, whatever stands in its bit's place now.
fn copies() {
    let world = World::new(1, 0);
    let (mut p, mut q) = (Participant::attach(&world, 0), Participant::attach(&world, 1));
    p.call(Loan(1));
    p.call(Share);
    let copy = world.truth.borrow().carrier[0];
    q.call(Adopt);
    q.call(Free);
    assert!(matches!(q.handle.adopt(copy.ticket), Err(TicketError::Stale { .. })));
    // The same bit again.
    p.call(Share);
    let newer = world.truth.borrow().carrier[0];
    assert_eq!((newer.ticket.bit, newer.ticket.serial), (copy.ticket.bit, copy.ticket.serial + 1));
    let said = q.handle.adopt(copy.ticket);
    assert!(matches!(said, Err(TicketError::Stale { .. })), "a copy was adopted: {said:?}");
    q.call(Adopt);
    assert_eq!(q.mine.len(), 1);
}

/// As many tickets as there are bits, of one who leaves and one who stays; one more is refused, and all can be adopted.
fn a_full_house() {
    for before in [0, 7, 16] {
        let world = World::new(1, u16::MAX - 20);
        let (mut p, mut q) = (Participant::attach(&world, 0), Participant::attach(&world, 1));
        p.call(Loan(1));
        p.call(Share);
        q.call(Adopt);
        (0..before).for_each(|_| p.call(Share));
        (before..TICKETS).for_each(|_| q.call(Share));
        q.call(Leave);
        let said = p.handle.share(&p.mine[0].0);
        assert_eq!(said, Err(ShareError::TooMany { block: 0, most: TICKETS }));
        assert_eq!(p.handle.used(), (1, TICKETS));
        world.truth.borrow_mut().dead.insert((1, 1));
        p.call(Recover(1));
        let mut r = Participant::attach(&world, 2);
        (0..TICKETS).for_each(|_| r.call(Adopt));
        assert_eq!(p.handle.used(), (1, 0));
        (0..TICKETS).for_each(|_| r.call(Share));
        assert_eq!(r.handle.recall(), TICKETS);
    }
}

#[test]
fn as_many_tickets_as_a_block_can_have() {
    a_full_house();
}

#[test]
fn one_death_anywhere_loses_no_block() {
    println!("bufs: killed at {} points", one_death(1));
}

#[test]
fn two_deaths_lose_no_block() {
    println!("bufs: {} pairs of deaths", two_deaths(if full() { 1 } else { 3 }));
}

#[test]
fn an_issuer_never_runs_out_of_notes_over_the_dead() {
    let leftovers = notes_of_the_dead();
    println!("bufs: {leftovers} tickets were adopted by the dead");
    assert!(leftovers > 100, "{leftovers}");
}

#[test]
fn a_copy_of_a_ticket_is_void() {
    copies();
}

#[test]
fn mistakes_are_noticed() {
    let scenarios: &[(&str, &dyn Fn())] = &[
        ("copies", &copies),
        ("a full house", &a_full_house),
        ("one death", &|| _ = one_death(1)),
        ("notes of the dead", &|| _ = notes_of_the_dead()),
        ("two deaths", &|| _ = two_deaths(2)),
    ];
    std::panic::set_hook(Box::new(|_| {}));
    let bugs = [
        Bug::BufLoanOverTickets,
        Bug::BufNoteLate,
        Bug::BufNoteReused,
        Bug::BufAdoptUnchecked,
        Bug::BufNoteFreedFirst,
        Bug::BufForgetTickets,
    ];
    let noticed = bugs.map(|bug| {
        let fails = |run: &dyn Fn()| catch_unwind(AssertUnwindSafe(|| Crash::with_bug(bug, run))).is_err();
        (bug, scenarios.iter().find(|(_, run)| fails(run)).map(|(name, _)| *name))
    });
    let _ = std::panic::take_hook();
    for (bug, by) in noticed {
        println!("mutant {bug:?} | noticed by {}", by.unwrap_or("NOBODY"));
    }
    assert!(noticed.iter().all(|(_, by)| by.is_some()), "a mistake that nobody notices");
}
