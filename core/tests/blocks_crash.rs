//! A participant of an arena is killed before each of its shared operations, in every role: no block is lost, none has
//! two holders, and what was sent is received once.
#![allow(missing_docs)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use sapwood_core::blocks::{Block, Blocks, DescriptorError, Message, Peers, Raw, ReceiveError, Region};
use sapwood_core::mem::Bug;
use sapwood_core::owner::Owner;
use sapwood_core::ring::mpmc;
use sapwood_core::testing::{Crash, Mpmc, Yard};

type Handle = Blocks<Crash, Yard<Crash>, Mpmc<Crash, Raw>>;

fn full() -> bool {
    std::env::var_os("SAPWOOD_FULL").is_some()
}

/// What the test knows of everybody.
#[derive(Default)]
struct Truth {
    dead: BTreeSet<(u32, u32)>,
    /// The epoch in which a seat was taken last.
    epochs: BTreeMap<u32, u32>,
    /// Values whose sending returned.
    sent: BTreeSet<u64>,
    /// How often a value came by a call that returned.
    got: BTreeMap<u64, u32>,
    /// Orphans of a call that has not returned yet.
    handed: Vec<u64>,
    /// Orphans of calls that never returned: they may come again.
    perhaps: BTreeSet<u64>,
    /// Deaths within `receive`: the dead one may have had a message.
    within: u32,
    receiving: bool,
    /// Who holds which block, as the tokens say.
    held: BTreeMap<u32, u32>,
    stale: u32,
}

#[derive(Clone)]
struct World {
    yard: Yard<Crash>,
    ring: Mpmc<Crash, Raw>,
    truth: Rc<RefCell<Truth>>,
    /// Orphans are handed on with their blocks; else they are returned at once.
    keep: bool,
}

struct Eyes<'a> {
    world: &'a World,
    me: Owner,
    kept: &'a mut Vec<(Block, u64)>,
}

impl World {
    fn new(blocks: usize, capacity: usize, start: u64, generation: u16, keep: bool) -> Self {
        let ring = Mpmc::new(capacity, start, [0; 2]).expect("a power of two");
        let yard = Yard::new(blocks, 8, generation).expect("a shape");
        World { yard, ring, truth: Rc::default(), keep }
    }

    fn read(&self, message: &Message) -> u64 {
        assert_eq!(message.len, 8);
        // SAFETY: eight bytes of a block that the caller holds.
        unsafe { self.yard.bytes(message.block.index()).read().cast::<u64>().read() }
    }

    fn alive(&self, owner: Owner) -> bool {
        !self.truth.borrow().dead.contains(&(owner.seat(), owner.epoch()))
    }

    fn hold(&self, block: &Block, who: u32) {
        let mut truth = self.truth.borrow_mut();
        let before = truth.held.insert(block.index(), who);
        assert!(before.is_none(), "block {} of seat {before:?} was lent to seat {who}", block.index());
    }

    fn let_go(&self, block: &Block) {
        self.truth.borrow_mut().held.remove(&block.index());
    }

    fn got(&self, value: u64) {
        *self.truth.borrow_mut().got.entry(value).or_default() += 1;
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
        let value = self.world.read(&message);
        self.world.truth.borrow_mut().handed.push(value);
        if !self.world.keep {
            return Some(message);
        }
        self.world.hold(&message.block, self.me.seat());
        self.kept.push((message.block, value));
        None
    }

    fn bad_orphan(&mut self, _: Owner, error: DescriptorError) {
        assert!(matches!(error, DescriptorError::Stale { .. }), "{error}");
        self.world.truth.borrow_mut().stale += 1;
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Call {
    Loan(u64),
    Send,
    Receive,
    Free,
    /// All who died on this seat.
    Recover(u32),
}
use Call::*;

struct Participant {
    world: World,
    handle: Handle,
    /// Blocks with the values in them.
    mine: Vec<(Block, u64)>,
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

    fn seat(&self) -> u32 {
        self.handle.me().seat()
    }

    fn call(&mut self, call: Call) {
        let (me, world, seat) = (self.handle.me(), self.world.clone(), self.seat());
        match call {
            Loan(value) => {
                let Ok(block) = self.handle.loan() else { return };
                world.hold(&block, seat);
                // SAFETY: eight bytes of a block that was lent just now.
                unsafe { self.handle.bytes(&block).write().cast::<u64>().write(value) };
                self.mine.push((block, value));
            }
            Send => {
                let Some((block, value)) = self.mine.pop() else { return };
                let value = value + 10_000;
                // SAFETY: as above. A message that is sent on is another one.
                unsafe { self.handle.bytes(&block).write().cast::<u64>().write(value) };
                world.let_go(&block);
                let mut eyes = Eyes { world: &world, me, kept: &mut self.mine };
                match self.handle.send(block, 8, &mut eyes) {
                    Ok(_) => assert!(world.truth.borrow_mut().sent.insert(value)),
                    Err(e) => {
                        let block = e.into_inner();
                        world.hold(&block, seat);
                        self.mine.push((block, value));
                    }
                }
            }
            Receive => {
                world.truth.borrow_mut().receiving = true;
                let mut eyes = Eyes { world: &world, me, kept: &mut self.mine };
                match self.handle.receive(&mut eyes) {
                    Ok(message) => {
                        world.hold(&message.block, seat);
                        world.got(world.read(&message));
                        let value = world.read(&message);
                        self.mine.push((message.block, value));
                    }
                    Err(ReceiveError::Empty | ReceiveError::Busy { .. }) => (),
                    Err(e) => panic!("{e}"),
                }
                world.truth.borrow_mut().receiving = false;
            }
            Free => {
                let Some((block, value)) = self.mine.pop() else { return };
                // SAFETY: as above; we have held it since.
                let now = unsafe { self.handle.bytes(&block).read().cast::<u64>().read() };
                assert_eq!(now, value, "somebody has written to a block that we hold");
                world.let_go(&block);
                self.handle.give_back(block);
            }
            Recover(seat) => {
                // Also newcomers that died while they recovered.
                let dead = world.truth.borrow().dead.clone();
                for (seat, epoch) in dead.into_iter().filter(|d| d.0 == seat) {
                    let mut eyes = Eyes { world: &world, me, kept: &mut self.mine };
                    let recovered = self.handle.recover(Owner::new(seat, epoch), &mut eyes);
                    recovered.expect("nothing was held before, or another's seat");
                }
            }
        }
        let handed = std::mem::take(&mut world.truth.borrow_mut().handed);
        handed.into_iter().for_each(|value| world.got(value));
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
    let mut truth = world.truth.borrow_mut();
    // One that is killed while it attaches has been there all the same.
    truth.epochs.insert(seat, me.epoch());
    truth.dead.insert((seat, me.epoch()));
    // One whose name is still in the ring has not had its message.
    let slots = 1u64 << mpmc::Region::shift(&world.ring);
    let word = |i| mpmc::Region::slot(&world.ring, i).word();
    let reads = (0..slots).any(|i| word(i).state() == mpmc::State::Reading && word(i).owner() == me);
    truth.within += u32::from(std::mem::take(&mut truth.receiving) && !reads);
    let handed = std::mem::take(&mut truth.handed);
    truth.perhaps.extend(handed);
    truth.held.retain(|_, who| *who != seat);
    end.is_some()
}

/// A survivor recovers `dead` and empties the ring: all blocks are free, and all that was sent has come once.
fn settle(world: &World, seat: u32, dead: &[u32]) {
    let mut p = Participant::attach(world, seat);
    dead.iter().for_each(|d| p.call(Recover(*d)));
    // What was freed must not be what we were handed.
    (0..2).for_each(|i| p.call(Loan(2000 + i)));
    for _ in 0..32 {
        p.call(Receive);
    }
    while !p.mine.is_empty() {
        p.call(Free);
    }
    assert_eq!(p.handle.ring().len(), 0, "wedged");
    let blocks = world.yard.shape().blocks();
    let word = |i| world.yard.header(i).word();
    assert!((0..blocks).all(|i| word(i).holders() == 0), "lost: {:?}", world.yard);
    for i in 0..u64::from(blocks) {
        p.call(Loan(1000 + i));
    }
    assert_eq!(p.mine.len() as u32, blocks, "not all blocks can be lent");
    assert!(p.handle.loan().is_err(), "one block too many");
    let truth = world.truth.borrow();
    assert!(truth.got.values().all(|n| *n == 1), "a message came twice: {:?}", truth.got);
    let lost = |v: &&u64| !truth.got.contains_key(v) && !truth.perhaps.contains(v);
    let missing = truth.sent.iter().filter(lost).count() as u32;
    assert!(missing <= truth.within, "{missing} messages are lost, {} deaths while receiving", truth.within);
}

const STARTS: [(u64, u16); 4] =
    [(0, 0), (u64::MAX - 1, u16::MAX - 2), ((1 << 48) - 1, u16::MAX), ((1 << 42) - 1, 7)];

const VICTIMS: &[&[Call]] = &[
    &[Loan(1), Send],
    &[Loan(1), Free, Loan(2), Send],
    &[Receive, Free],
    &[Receive, Send],
    &[Receive, Receive, Free, Loan(1), Send],
    &[Loan(1), Send, Loan(2), Send, Receive, Free, Receive],
];

/// A world in which survivor 0 has sent `fill` messages; the blocks have been around before.
fn before(blocks: usize, capacity: usize, at: (u64, u16), fill: usize, keep: bool, lives: bool) -> World {
    let world = World::new(blocks, capacity, at.0, at.1, keep);
    let mut p = Participant::attach(&world, 0);
    for i in 0..fill as u64 {
        p.call(Loan(100 + i));
        p.call(Send);
    }
    // Only what is on its way is left of it; leaving is as good as dying.
    assert!(p.mine.is_empty());
    if !lives {
        world.truth.borrow_mut().dead.insert((0, 1));
    }
    world
}

/// The seat that settles, whether orphans are kept, whether the sender lives.
const SURVIVORS: [(u32, bool, bool); 7] = [
    (3, true, true),
    (3, true, false),
    (1, true, true),
    (1, true, false),
    (0, true, false),
    (3, false, true),
    (1, false, false),
];

/// Every death of every victim, recovered by another seat, by a newcomer on the same one, or by the sender's successor.
fn one_death(stride: u64) -> u64 {
    let mut points = 0;
    for (blocks, capacity) in [(1, 1), (2, 1), (3, 4)] {
        for at in STARTS {
            for fill in 0..=capacity.min(blocks) {
                for calls in VICTIMS {
                    for (survivor, keep, lives) in SURVIVORS {
                        for k in (0..10_000).step_by(stride as usize) {
                            let world = before(blocks, capacity, at, fill, keep, lives);
                            let over = victim(&world, 1, calls, k);
                            let run = || {
                                // A newcomer recovers its own predecessor first.
                                let dead = if survivor == 0 { [0, 1] } else { [1, 0] };
                                settle(&world, survivor, &dead);
                            };
                            let what = format!(
                                "{calls:?} k {k}, {blocks} blocks, fill {fill}, {survivor} {keep} {lives}"
                            );
                            context(&what, run);
                            points += 1;
                            if over {
                                break;
                            }
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
    let seconds: &[&[Call]] =
        &[&[Recover(1), Receive, Free], &[Receive, Free], &[Loan(50), Send, Recover(1)]];
    let mut pairs = 0;
    for calls in &VICTIMS[..5] {
        for second in seconds {
            for (seat, settler) in [(2, 3), (1, 3), (2, 1), (1, 1), (2, 2)] {
                // A newcomer on the victim's seat recovers before all else.
                if seat == 1 && second[0] != Recover(1) {
                    continue;
                }
                for keep in [true, false] {
                    for k in (0..10_000).step_by(stride as usize) {
                        let mut over = false;
                        for k2 in (0..10_000).step_by(stride as usize) {
                            let world = before(3, 2, (u64::MAX - 1, u16::MAX - 1), 2, keep, k % 2 == 0);
                            over = victim(&world, 1, calls, k);
                            let over2 = victim(&world, seat, second, k2);
                            let dead = if settler == 2 { [2, 1, 0] } else { [1, 2, 0] };
                            let what =
                                format!("{calls:?} k {k}, {second:?} seat {seat} k {k2}, {settler} {keep}");
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
        }
    }
    pairs
}

/// A reader dies, three takers of its orphan die one after another at every combination of points.
fn a_chain_of_deaths() -> u64 {
    let mut chains = 0;
    for (k1, k2, k3) in (0..10).flat_map(|a| (0..20).flat_map(move |b| (0..24).map(move |c| (a, b, c)))) {
        let world = before(1, 1, (u64::MAX, u16::MAX), 1, true, true);
        victim(&world, 1, &[Receive], k1);
        victim(&world, 2, &[Recover(1)], k2);
        victim(&world, 3, &[Recover(2), Recover(1)], k3);
        context(&format!("a chain of deaths at {k1}, {k2}, {k3}"), || settle(&world, 4, &[3, 2, 1, 0]));
        chains += 1;
    }
    chains
}

/// An orphan's taker gives the block back at once and dies before it has given back the slot. The block goes on, until
/// its generation is what it was; the next taker must not think that it is the orphan's.
fn a_stale_orphan() -> u32 {
    let mut stale = 0;
    for turns in [0, 1, 2, 21_844, 21_845, 32_766, 32_767, 32_768] {
        for lend in [false, true] {
            for k in 0..40 {
                let world = before(1, 1, (0, 0), 1, false, true);
                victim(&world, 1, &[Receive], 4);
                victim(&world, 2, &[Recover(1)], k);
                let mut p = Participant::attach(&world, 3);
                if world.yard.header(0).word().holders() != 0 {
                    p.call(Recover(2));
                    continue;
                }
                for i in 0..turns {
                    p.call(Loan(i));
                    p.call(Free);
                }
                if lend {
                    p.call(Loan(7));
                    let mut other = Participant::attach(&world, 4);
                    other.call(Recover(2));
                    assert_eq!(
                        world.yard.header(0).word().holders(),
                        1 << 3,
                        "an orphan's taker took our block"
                    );
                    p.call(Free);
                }
                context(&format!("{turns} turns, k {k}, lent {lend}"), || settle(&world, 5, &[2, 1, 0]));
                stale += world.truth.borrow().stale;
            }
        }
    }
    stale
}

#[test]
fn one_death_anywhere_loses_no_block_and_no_message() {
    println!("blocks: killed at {} points", one_death(1));
}

#[test]
fn two_deaths_lose_no_block_and_no_message() {
    println!("blocks: {} pairs of deaths", two_deaths(if full() { 1 } else { 3 }));
}

#[test]
fn an_orphan_survives_all_who_die_over_it() {
    println!("blocks: {} chains of deaths", a_chain_of_deaths());
}

#[test]
fn a_block_that_was_given_back_is_not_taken_again() {
    let stale = a_stale_orphan();
    println!("blocks: {stale} stale orphans");
    assert!(stale > 0, "no taker died between block and slot");
}

#[test]
fn mistakes_are_noticed() {
    let scenarios: &[(&str, &dyn Fn())] = &[
        ("one death", &|| _ = one_death(1)),
        ("a chain of deaths", &|| _ = a_chain_of_deaths()),
        ("a stale orphan", &|| _ = a_stale_orphan()),
        ("two deaths", &|| _ = two_deaths(2)),
    ];
    std::panic::set_hook(Box::new(|_| {}));
    let bugs = [
        Bug::BlockFlightLate,
        Bug::BlockTakeLate,
        Bug::BlockFreeInFlight,
        Bug::BlockRingFirst,
        Bug::BlockFlightFallsBehind,
        Bug::BlockOrphanUnchecked,
        Bug::BlockKeepsFlight,
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
