//! Where messages of dead readers are delivered again, a participant is killed before each of its shared operations, in
//! every role: every message that was sent is given back in full once, whoever had it before, and none that was not.
#![allow(missing_docs)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use sapwood_core::blocks::{Blocks, DescriptorError, Message, Peers, Raw, ReceiveError, Region, Shape};
use sapwood_core::mem::Bug;
use sapwood_core::owner::Owner;
use sapwood_core::ring::mpmc::{self, State};
use sapwood_core::testing::{Crash, Mpmc, Yard};

type Handle = Blocks<Crash, Yard<Crash>, Mpmc<Crash, Raw>>;

/// What the test knows of everybody.
#[derive(Default)]
struct Truth {
    dead: BTreeSet<(u32, u32)>,
    /// The epoch in which a seat was taken last.
    epochs: BTreeMap<u32, u32>,
    /// Values that are published.
    sent: BTreeSet<u64>,
    /// What a call is sending for the first time, and how many messages were on their way when it began.
    sending: Option<(u64, usize)>,
    /// What a call is giving back, and whether its block was held before.
    ending: Option<(u64, u32)>,
    /// How often a value was given back in full.
    done: BTreeMap<u64, u32>,
    /// Who holds which block, as the tokens say.
    held: BTreeMap<u32, u32>,
    redelivered: u32,
}

#[derive(Clone)]
struct World {
    yard: Yard<Crash>,
    ring: Mpmc<Crash, Raw>,
    truth: Rc<RefCell<Truth>>,
}

struct Eyes<'a> {
    world: &'a World,
    me: Owner,
    mine: &'a mut Vec<Message>,
}

impl World {
    fn new(blocks: usize, capacity: usize, (start, generation): (u64, u16)) -> Self {
        let ring = Mpmc::new(capacity, start, [0; 2]).expect("a power of two");
        let shape = Shape::of(blocks, 8).and_then(Shape::redelivering).expect("a shape");
        World { yard: Yard::of(shape, generation), ring, truth: Rc::default() }
    }

    fn read(&self, message: &Message) -> u64 {
        assert_eq!(message.len, 8);
        // SAFETY: eight bytes of a block that the caller holds.
        unsafe { self.yard.bytes(message.block.index()).read().cast::<u64>().read() }
    }

    fn alive(&self, owner: Owner) -> bool {
        !self.truth.borrow().dead.contains(&(owner.seat(), owner.epoch()))
    }

    fn hold(&self, block: u32, who: u32) {
        let before = self.truth.borrow_mut().held.insert(block, who);
        assert!(before.is_none(), "block {block} of seat {before:?} came to seat {who}");
    }

    fn full(&self) -> usize {
        let slots = 1u64 << mpmc::Region::shift(&self.ring);
        (0..slots).filter(|i| mpmc::Region::slot(&self.ring, *i).word().state() == State::Full).count()
    }
}

impl Peers for Eyes<'_> {
    fn alive(&mut self, owner: Owner) -> bool {
        self.world.alive(owner)
    }

    fn succeeded(&mut self, dead: Owner) -> bool {
        let epoch = self.world.truth.borrow().epochs.get(&dead.seat()).copied();
        self.me.seat() != dead.seat() && epoch != Some(dead.epoch())
    }

    fn orphan(&mut self, reader: Owner, message: Message) -> Option<Message> {
        assert!(!self.world.alive(reader), "an orphan of a living reader");
        self.world.hold(message.block.index(), self.me.seat());
        self.mine.push(message);
        None
    }

    fn bad_orphan(&mut self, _: Owner, error: DescriptorError) {
        panic!("{error}");
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Call {
    Send(u64),
    Receive,
    /// Gives back what was received last.
    End,
    /// Is lent a block and keeps it.
    Hold,
    /// All who died on this seat.
    Recover(u32),
    /// What came as an orphan goes on its way again.
    Resend,
}
use Call::*;

struct Participant {
    world: World,
    handle: Handle,
    mine: Vec<Message>,
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
        let handle = unsafe {
            let ring = mpmc::Handle::attach(world.ring.clone(), Owner::new(seat, epoch));
            Blocks::attach(world.yard.clone(), ring)
        };
        Participant { world: world.clone(), handle: handle.expect("a seat"), mine: Vec::new() }
    }

    fn call(&mut self, call: Call) {
        let (me, world) = (self.handle.me(), self.world.clone());
        let seat = me.seat();
        match call {
            Send(value) => {
                let Ok(block) = self.handle.loan() else { return };
                world.hold(block.index(), seat);
                // SAFETY: eight bytes of a block that was lent just now.
                unsafe { self.handle.bytes(&block).write().cast::<u64>().write(value) };
                world.truth.borrow_mut().held.remove(&block.index());
                let full = world.full();
                world.truth.borrow_mut().sending = Some((value, full));
                let sent = self.handle.send(block, 8, &mut Eyes { world: &world, me, mine: &mut self.mine });
                world.truth.borrow_mut().sending = None;
                match sent {
                    Ok(_) => assert!(world.truth.borrow_mut().sent.insert(value)),
                    Err(e) => self.handle.give_back(e.into_inner()),
                }
            }
            Receive => {
                let mut eyes = Eyes { world: &world, me, mine: &mut self.mine };
                match self.handle.receive(&mut eyes) {
                    Ok(message) => {
                        world.hold(message.block.index(), seat);
                        self.mine.push(message);
                    }
                    Err(ReceiveError::Empty | ReceiveError::Busy { .. }) => (),
                    Err(e) => panic!("{e}"),
                }
            }
            End => {
                let Some(message) = self.mine.pop() else { return };
                let (value, index) = (world.read(&message), message.block.index());
                world.truth.borrow_mut().held.remove(&index);
                world.truth.borrow_mut().ending = Some((value, index));
                self.handle.give_back(message.block);
                let mut truth = world.truth.borrow_mut();
                truth.ending = None;
                *truth.done.entry(value).or_default() += 1;
            }
            Hold => {
                let Ok(block) = self.handle.loan() else { return };
                world.hold(block.index(), seat);
            }
            Recover(seat) => {
                let dead = world.truth.borrow().dead.clone();
                for (seat, epoch) in dead.into_iter().filter(|d| d.0 == seat) {
                    let mut eyes = Eyes { world: &world, me, mine: &mut self.mine };
                    let recovered = self.handle.recover(Owner::new(seat, epoch), &mut eyes);
                    let recovered = recovered.expect("nothing was held before, or another's seat");
                    assert_eq!(recovered.received, 0, "a message is lost with its reader");
                    world.truth.borrow_mut().redelivered += recovered.redelivered;
                }
            }
            Resend => {
                let Some(message) = self.mine.pop() else { return };
                let (len, sender) = (message.len, message.sender);
                world.truth.borrow_mut().held.remove(&message.block.index());
                let mut eyes = Eyes { world: &world, me, mine: &mut self.mine };
                if let Err(e) = self.handle.resend(message, &mut eyes) {
                    let block = e.into_inner();
                    world.hold(block.index(), seat);
                    self.mine.push(Message { block, len, sender });
                }
            }
        }
    }
}

/// Runs `calls` on `seat` and kills it before its shared operation `k`; says whether it came to its end, and then it
/// leaves without giving anything back.
fn victim(world: &World, seat: u32, calls: &[Call], k: u64) -> bool {
    let me = Owner::new(seat, world.truth.borrow().epochs.get(&seat).copied().unwrap_or(0) + 1);
    let end = Crash::until(k, || {
        let mut p = Participant::attach(world, seat);
        calls.iter().for_each(|c| p.call(*c));
    });
    let full = world.full();
    let mut truth = world.truth.borrow_mut();
    // One that is killed while it attaches has been there all the same.
    truth.epochs.insert(seat, me.epoch());
    truth.dead.insert((seat, me.epoch()));
    if let Some((value, before)) = truth.sending.take()
        && full > before
    {
        truth.sent.insert(value);
    }
    if let Some((value, index)) = truth.ending.take()
        && world.yard.header(index).word().holders() == 0
    {
        *truth.done.entry(value).or_default() += 1;
    }
    truth.held.retain(|_, who| *who != seat);
    end.is_some()
}

/// A survivor recovers `dead` and empties the ring: all blocks are free, and all that was sent was given back once.
fn settle(world: &World, seat: u32, dead: &[u32]) {
    let mut p = Participant::attach(world, seat);
    dead.iter().for_each(|d| p.call(Recover(*d)));
    for _ in 0..16 {
        p.call(Receive);
    }
    while !p.mine.is_empty() {
        p.call(End);
    }
    assert_eq!(p.handle.ring().len(), 0, "wedged");
    assert_eq!((p.handle.holders(), p.handle.readers()), (0, 0), "a block is lost: {:?}", world.yard);
    let truth = world.truth.borrow();
    let sent: BTreeMap<u64, u32> = truth.sent.iter().map(|value| (*value, 1)).collect();
    assert_eq!(truth.done, sent, "left: how often each was given back in full; right: what was sent");
}

const STARTS: [(u64, u16); 4] =
    [(0, 0), (u64::MAX - 1, u16::MAX - 2), ((1 << 48) - 1, u16::MAX), ((1 << 42) - 1, 7)];

const VICTIMS: &[&[Call]] = &[
    &[Send(1)],
    &[Receive],
    &[Receive, End],
    &[Receive, End, Send(1), Receive, Receive],
    &[Send(1), Send(2), Receive, End, Receive],
    &[Hold, Receive],
];

/// A world in which survivor 0 has sent `fill` messages; the blocks have been around before.
fn before(blocks: usize, capacity: usize, at: (u64, u16), fill: usize, lives: bool) -> World {
    let world = World::new(blocks, capacity, at);
    let mut p = Participant::attach(&world, 0);
    (0..fill as u64).for_each(|i| p.call(Send(100 + i)));
    if !lives {
        world.truth.borrow_mut().dead.insert((0, 1));
    }
    world
}

fn context(what: &str, run: impl FnOnce()) {
    if let Err(e) = catch_unwind(AssertUnwindSafe(run)) {
        let text = e.downcast_ref::<String>().cloned();
        let text = text.or_else(|| e.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default();
        panic!("{what}: {text}");
    }
}

/// The seat that settles, and whether the sender lives.
const SURVIVORS: [(u32, bool); 4] = [(3, true), (1, true), (1, false), (0, false)];

/// Every death of every victim, recovered by another seat, by a newcomer on the same one, or by the sender's successor.
fn one_death() -> (u32, u32) {
    let (mut points, mut redelivered) = (0, 0);
    for (blocks, capacity) in [(1, 1), (2, 1), (3, 4)] {
        for at in STARTS {
            for fill in 0..=capacity.min(blocks) {
                for calls in VICTIMS {
                    for (survivor, lives) in SURVIVORS {
                        for k in 0..10_000 {
                            let world = before(blocks, capacity, at, fill, lives);
                            let over = victim(&world, 1, calls, k);
                            // A newcomer recovers its own predecessor first.
                            let dead = if survivor == 0 { [0, 1] } else { [1, 0] };
                            let what =
                                format!("{calls:?} k {k}, {blocks} blocks, {fill}, {survivor} {lives}");
                            context(&what, || settle(&world, survivor, &dead));
                            points += 1;
                            redelivered += world.truth.borrow().redelivered;
                            if over {
                                break;
                            }
                        }
                    }
                }
            }
        }
    }
    (points, redelivered)
}

/// Who recovers from the first victim dies too, with what has come to it or while it sends that on; a third settles.
fn two_deaths() -> u32 {
    let seconds: &[&[Call]] = &[
        &[Recover(1), End],
        &[Recover(1), Resend, Resend],
        &[Recover(1), Resend, Receive, End],
        &[Receive, Recover(1), Resend, End],
    ];
    let mut pairs = 0;
    for (calls, second) in VICTIMS.iter().flat_map(|c| seconds.iter().map(move |s| (c, s))) {
        for (seat, settler) in [(2, 3), (1, 3), (2, 1), (1, 1), (2, 2)] {
            // A newcomer on the victim's seat recovers before all else.
            if seat == 1 && second[0] != Recover(1) {
                continue;
            }
            for k in 0..10_000 {
                let mut over = false;
                for k2 in 0..10_000 {
                    let world = before(3, 4, (u64::MAX - 1, u16::MAX - 1), 2, k % 2 == 0);
                    over = victim(&world, 1, calls, k);
                    let over2 = victim(&world, seat, second, k2);
                    let dead = if settler == 2 { [2, 1, 0] } else { [1, 2, 0] };
                    let what = format!("{calls:?} k {k}, {second:?} seat {seat} k {k2}, {settler}");
                    context(&what, || settle(&world, settler, &dead));
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
    pairs
}

/// A reader dies, three who take what it had die one after another at every combination of points.
fn a_chain_of_deaths() -> u32 {
    let mut chains = 0;
    for (k1, k2, k3) in (0..10).flat_map(|a| (0..26).flat_map(move |b| (0..30).map(move |c| (a, b, c)))) {
        let world = before(1, 1, (u64::MAX, u16::MAX), 1, true);
        victim(&world, 1, &[Receive], k1);
        victim(&world, 2, &[Recover(1), Resend], k2);
        victim(&world, 3, &[Recover(2), Recover(1), Resend, Receive], k3);
        context(&format!("a chain of deaths at {k1}, {k2}, {k3}"), || settle(&world, 4, &[3, 2, 1, 0]));
        chains += 1;
    }
    chains
}

/// A block goes on without being sent until its generation is what it was: it holds no message of its former life.
fn a_block_that_comes_round() {
    for (turns, calls) in [(32_767, &[Hold][..]), (32_766, &[Hold]), (32_768, &[Hold])] {
        let world = before(1, 1, (0, 0), 1, true);
        let mut p = Participant::attach(&world, 2);
        p.call(Receive);
        p.call(End);
        for _ in 0..turns {
            let block = p.handle.loan().expect("it is free");
            p.handle.give_back(block);
        }
        victim(&world, 1, calls, 10_000);
        context(&format!("{turns} turns"), || settle(&world, 3, &[1]));
    }
}

#[test]
fn one_death_anywhere_loses_no_message() {
    let (points, redelivered) = one_death();
    println!("blocks: killed at {points} points, {redelivered} times redelivered");
    assert!(redelivered > 0, "nobody died with a message");
}

#[test]
fn two_deaths_lose_no_message() {
    println!("blocks: {} pairs of deaths", two_deaths());
}

#[test]
fn a_message_survives_all_who_die_over_it() {
    println!("blocks: {} chains of deaths", a_chain_of_deaths());
}

#[test]
fn a_block_holds_no_message_of_a_former_life() {
    a_block_that_comes_round();
}

#[test]
fn mistakes_are_noticed() {
    let scenarios: &[(&str, &dyn Fn())] = &[
        ("one death", &|| _ = one_death()),
        ("a block that comes round", &a_block_that_comes_round),
        ("a chain of deaths", &|| _ = a_chain_of_deaths()),
        ("two deaths", &|| _ = two_deaths()),
    ];
    std::panic::set_hook(Box::new(|_| {}));
    let bugs = [
        Bug::BlockKeepsMail,
        Bug::BlockMailEarly,
        Bug::BlockForgetMail,
        Bug::BlockMailFallsBehind,
        Bug::BlockOrphanMailFallsBehind,
        Bug::BlockResendAsNew,
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
