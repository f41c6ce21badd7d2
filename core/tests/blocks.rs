//! Blocks, one call at a time: against a plain model, and what each answer means.
#![allow(missing_docs)]

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;
use sapwood_core::blocks::{
    Block, Blocks, Descriptor, DescriptorError, Exhausted, Immortal, Message, Peers, Raw, ReceiveError,
    Region, SEATS, SendError, Shape, ShapeError,
};
use sapwood_core::mem::{Mem, Real};
use sapwood_core::owner::Owner;
use sapwood_core::ring::mpmc;
use sapwood_core::testing::{Crash, Mpmc, Yard};

type Handle<M> = Blocks<M, Yard<M>, Mpmc<M, Raw>>;

struct Arena<M: Mem> {
    yard: Yard<M>,
    ring: Mpmc<M, Raw>,
}

impl<M: Mem> Arena<M> {
    fn new(blocks: usize, capacity: usize, generation: u16) -> Self {
        let yard = Yard::new(blocks, 64, generation).expect("a shape");
        Arena { yard, ring: Mpmc::new(capacity, u64::MAX - 1, [0; 2]).expect("a power of two") }
    }

    fn attach(&self, seat: u32, epoch: u32) -> Handle<M> {
        // SAFETY: these tests use each seat in one handle at a time, and newcomers recover first.
        let handle = unsafe {
            let ring = mpmc::Handle::attach(self.ring.clone(), Owner::new(seat, epoch));
            Blocks::attach(self.yard.clone(), ring)
        };
        handle.expect("a seat")
    }
}

fn write<M: Mem>(h: &Handle<M>, block: &Block, value: u64) {
    // SAFETY: eight bytes of a block that the caller holds.
    unsafe { h.bytes(block).write().cast::<u64>().write(value) }
}

fn read<M: Mem>(h: &Handle<M>, block: &Block) -> u64 {
    // SAFETY: as above.
    unsafe { h.bytes(block).read().cast::<u64>().read() }
}

fn send(h: &mut Handle<Real>, value: u64) {
    let block = h.loan().expect("a free block");
    write(h, &block, value);
    h.send(block, 8, &mut Immortal).expect("room");
}

/// The address of what is sent is the address of what is received.
#[test]
fn a_block_travels_without_a_copy() {
    let arena = Arena::<Real>::new(2, 2, u16::MAX);
    let (mut a, mut b) = (arena.attach(0, 1), arena.attach(47, 1));
    for i in 0..40_000u64 {
        let block = a.loan().expect("a free block");
        let address = a.bytes(&block).write().addr();
        write(&a, &block, i);
        a.send(block, 64, &mut Immortal).expect("room");
        let message = b.receive(&mut Immortal).expect("a message");
        assert_eq!((message.len, message.sender, read(&b, &message.block)), (64, 0, i));
        assert_eq!(b.bytes(&message.block).read().addr(), address);
        // And back, without giving the block back.
        write(&b, &message.block, i + 1);
        b.send(message.block, 8, &mut Immortal).expect("room");
        let message = a.receive(&mut Immortal).expect("a message");
        assert_eq!((message.len, message.sender, read(&a, &message.block)), (8, 47, i + 1));
        a.give_back(message.block);
    }
    assert_eq!((a.holders(), a.receive(&mut Immortal)), (0, Err(ReceiveError::Empty)));
}

#[test]
fn a_block_that_only_another_arena_has_is_refused() {
    let (large, small) = (Arena::<Real>::new(2, 2, 0), Arena::<Real>::new(1, 2, 0));
    let (mut theirs, mut h) = (large.attach(0, 1), small.attach(0, 1));
    let _first = theirs.loan().expect("a free block");
    let second = theirs.loan().expect("a free block");
    let said = |e: Box<dyn std::any::Any + Send>| e.downcast::<String>().expect("a sentence").to_string();
    let e = said(catch_unwind(AssertUnwindSafe(|| h.bytes(&second).read())).expect_err("it is none of ours"));
    assert_eq!(e, "block 1 is none of this arena's 1: it came from another one");
    let e = catch_unwind(AssertUnwindSafe(|| h.send(second, 8, &mut Immortal))).expect_err("nor is it sent");
    assert_eq!(said(e), "block 1 is none of this arena's 1: it came from another one");
    let mut larger = Arena::<Real>::new(4, 2, 0).attach(40, 1);
    let third = larger.loan().expect("a free block");
    let e = catch_unwind(AssertUnwindSafe(|| h.give_back(third))).expect_err("nor given back");
    assert_eq!(said(e), "block 3 is none of this arena's 1: it came from another one");
    assert_eq!(h.holders(), 0, "nothing was written");
}

#[test]
fn what_can_not_be_lent_or_sent_is_said_and_handed_back() {
    let arena = Arena::<Real>::new(3, 2, 0);
    let mut h = arena.attach(0, 1);
    let blocks: Vec<Block> = (0..3).map(|_| h.loan().expect("a free block")).collect();
    assert_eq!(h.loan(), Err(Exhausted { blocks: 3, bytes: 64 }));
    assert_eq!(
        Exhausted { blocks: 3, bytes: 64 }.to_string(),
        "no block is free: all 3 of 64 bytes are held or on their way"
    );
    let mut blocks = blocks.into_iter();
    let e = h.send(blocks.next().expect("three"), 65, &mut Immortal).expect_err("too long");
    assert_eq!(e.to_string(), "a message of 65 bytes does not fit into a block of 64");
    h.send(e.into_inner(), 0, &mut Immortal).expect("room");
    h.send(blocks.next().expect("three"), 1, &mut Immortal).expect("room");
    let e = h.send(blocks.next().expect("three"), 1, &mut Immortal).expect_err("the ring is full");
    assert!(matches!(e, SendError::Full(_)));
    let block = e.into_inner();
    h.ring().close();
    let e = h.send(block, 1, &mut Immortal).expect_err("closed");
    assert!(matches!(e, SendError::Closed(_)));
    h.give_back(e.into_inner());
    for len in [0, 1] {
        let message = h.receive(&mut Immortal).expect("sent before the close");
        assert_eq!(message.len, len);
        h.give_back(message.block);
    }
    assert_eq!(h.receive(&mut Immortal), Err(ReceiveError::Drained));
    assert_eq!(h.holders(), 0);
}

#[test]
fn only_seats_that_have_a_bit_take_part() {
    let arena = Arena::<Real>::new(1, 1, 0);
    for (seat, fits) in [(0, true), (SEATS - 1, true), (SEATS, false), (1000, false)] {
        // SAFETY: one handle at a time.
        let handle = unsafe {
            let ring = mpmc::Handle::attach(arena.ring.clone(), Owner::new(seat, 1));
            Blocks::attach(arena.yard.clone(), ring)
        };
        assert_eq!(handle.is_ok(), fits, "seat {seat}");
        if let Err(e) = handle {
            let text = format!("seat {seat} can't hold blocks: an arena knows 48 seats, 0 to 47");
            assert_eq!(e.to_string(), text);
        }
    }
    assert_eq!(Yard::<Real>::new(0, 64, 0).err(), Some(ShapeError::NoBlocks));
    assert_eq!(Shape::of(4, 0).err(), Some(ShapeError::NoBytes));
}

/// A bad peer's descriptors are typed errors, and nothing is touched.
#[test]
fn descriptors_that_lie_are_refused() {
    let arena = Arena::<Real>::new(2, 2, 7);
    // SAFETY: a name that nobody else has.
    let mut liar = unsafe { mpmc::Handle::<Real, Raw, _>::attach(arena.ring.clone(), Owner::new(9, 1)) };
    let mut h = arena.attach(0, 1);
    let block = h.loan().expect("a free block");
    let words = || [0, 1].map(|i| arena.yard.header(i).word());
    let good = Descriptor { block: block.index(), generation: 9, sender: 0, len: 64 };
    let before = words();
    let found = before[block.index() as usize];
    let cases = [
        (Descriptor { block: 2, ..good }, DescriptorError::Block { block: 2, blocks: 2 }),
        (Descriptor { block: u32::MAX, ..good }, DescriptorError::Block { block: u32::MAX, blocks: 2 }),
        (Descriptor { len: 65, ..good }, DescriptorError::Length { len: 65, most: 64 }),
        (Descriptor { len: u64::MAX, ..good }, DescriptorError::Length { len: u64::MAX, most: 64 }),
        (Descriptor { sender: 48, ..good }, DescriptorError::Sender { seat: 48 }),
        (
            Descriptor { generation: 8, ..good },
            DescriptorError::Stale { block: good.block, generation: 8, found },
        ),
        (
            Descriptor { sender: 1, ..good },
            DescriptorError::Stale { block: good.block, generation: 9, found },
        ),
    ];
    for (lie, error) in cases {
        liar.try_push(lie.to_raw(), &mut mpmc::Immortal).expect("room");
        assert_eq!(h.receive(&mut Immortal), Err(ReceiveError::Bad(error)));
        assert_eq!(words(), before, "{error}");
    }
    h.give_back(block);
    send(&mut h, 5);
    assert_eq!(h.receive(&mut Immortal).map(|m| m.len), Ok(8), "the ring goes on");
}

struct Oracle {
    dead: Vec<u32>,
    taken: bool,
}

impl Peers for Oracle {
    fn alive(&mut self, owner: Owner) -> bool {
        !self.dead.contains(&owner.seat())
    }
    fn succeeded(&mut self, _: Owner) -> bool {
        self.taken
    }
    fn orphan(&mut self, _: Owner, message: Message) -> Option<Message> {
        Some(message)
    }
}

#[test]
fn a_seat_is_recovered_before_it_holds_anything() {
    let arena = Arena::<Real>::new(3, 2, 0);
    let mut old = arena.attach(5, 1);
    let (dead, mut oracle) = (old.me(), Oracle { dead: vec![5], taken: false });
    let _held = old.loan().expect("a free block");
    send(&mut old, 77);
    // A newcomer that holds a block already can't tell it from its predecessor's.
    let mut late = arena.attach(5, 2);
    let block = late.loan().expect("a free block");
    let e = late.recover(dead, &mut oracle).expect_err("too late");
    assert_eq!(e.to_string(), "seat 5 was to recover its predecessor before it held its first block");
    late.give_back(block);
    let mut newcomer = arena.attach(5, 3);
    let recovered = newcomer.recover(dead, &mut oracle).expect("nothing was held");
    assert_eq!((recovered.freed, recovered.in_flight), (1, 1));
    // From now on others leave the seat's blocks alone, also if they come late.
    let mine = newcomer.loan().expect("a free block");
    oracle.taken = true;
    let mut other = arena.attach(6, 1);
    assert_eq!(other.recover(dead, &mut oracle).map(|r| r.freed), Ok(0));
    assert_eq!(other.holders(), 1 << 5);
    newcomer.give_back(mine);
    let message = newcomer.receive(&mut oracle).expect("what the predecessor has sent");
    assert_eq!(read(&newcomer, &message.block), 77);
    newcomer.give_back(message.block);
    assert_eq!(other.holders(), 0);
}

#[test]
fn whoever_is_stopped_while_sending_is_named() {
    let arena = Arena::<Crash>::new(2, 2, 0);
    let (mut h, mut stopped) = (arena.attach(0, 1), arena.attach(1, 1));
    let block = stopped.loan().expect("a free block");
    // Closed, slot, claim, hint, flight: it stops before it writes the descriptor.
    assert!(Crash::until(5, || stopped.send(block, 8, &mut Immortal)).is_none());
    assert_eq!(h.receive(&mut Immortal), Err(ReceiveError::Busy { owner: Owner::new(1, 1) }));
    let mut oracle = Oracle { dead: vec![1], taken: false };
    assert_eq!(h.receive(&mut oracle), Err(ReceiveError::Empty));
    assert_eq!(h.recover(Owner::new(1, 1), &mut oracle).map(|r| (r.freed, r.in_flight)), Ok((1, 0)));
    assert_eq!(h.holders(), 0);
}

#[derive(Clone, Debug)]
enum Call {
    Loan,
    Send(usize),
    GiveBack(usize),
    Receive,
    /// Dies, is recovered by the next participant, and a newcomer takes its seat.
    Die,
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        4 => Just(Call::Loan),
        4 => (0usize..8).prop_map(Call::Send),
        2 => (0usize..8).prop_map(Call::GiveBack),
        4 => Just(Call::Receive),
        1 => Just(Call::Die),
    ]
}

struct Participant {
    handle: Handle<Real>,
    epoch: u32,
    held: Vec<(Block, u64)>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        if std::env::var_os("SAPWOOD_FULL").is_some() { 20_000 } else { 1_000 }
    ))]

    /// Any calls of three participants, with deaths and newcomers: a plain queue, and who has what.
    #[test]
    fn blocks_are_what_the_model_is(
        blocks in 1usize..6,
        shift in 0u32..3,
        generation in prop_oneof![Just(0u16), (0u16..6).prop_map(|d| u16::MAX - d)],
        calls in prop::collection::vec((0usize..3, call()), 1..150),
    ) {
        let arena = Arena::<Real>::new(blocks, 1 << shift, generation);
        let mut all: Vec<Participant> = (0..3)
            .map(|seat| Participant { handle: arena.attach(seat, 1), epoch: 1, held: Vec::new() })
            .collect();
        let (mut queue, mut value) = (VecDeque::new(), 0u64);
        for (who, call) in calls {
            let next = (who + 1) % 3;
            let free = blocks - queue.len() - all.iter().map(|p| p.held.len()).sum::<usize>();
            let p = &mut all[who];
            let pick = |held: &[(Block, u64)], i: usize| (!held.is_empty()).then(|| i % held.len());
            match call {
                Call::Loan => match p.handle.loan() {
                    Ok(block) => {
                        prop_assert!(free > 0);
                        value += 1;
                        write(&p.handle, &block, value);
                        p.held.push((block, value));
                    }
                    Err(_) => prop_assert_eq!(free, 0),
                },
                Call::Send(i) => if let Some(i) = pick(&p.held, i) {
                    let (block, v) = p.held.swap_remove(i);
                    match p.handle.send(block, 8, &mut Immortal) {
                        Ok(_) => {
                            prop_assert!(queue.len() < 1 << shift);
                            queue.push_back((v, who as u32));
                        }
                        Err(e) => {
                            prop_assert!(matches!(e, SendError::Full(_)) && queue.len() == 1 << shift);
                            p.held.push((e.into_inner(), v));
                        }
                    }
                },
                Call::GiveBack(i) => if let Some(i) = pick(&p.held, i) {
                    let (block, v) = p.held.swap_remove(i);
                    prop_assert_eq!(read(&p.handle, &block), v, "written to by another");
                    p.handle.give_back(block);
                },
                Call::Receive => match p.handle.receive(&mut Immortal) {
                    Ok(message) => {
                        let v = read(&p.handle, &message.block);
                        prop_assert_eq!(queue.pop_front(), Some((v, message.sender)));
                        p.held.push((message.block, v));
                    }
                    Err(e) => prop_assert!(e == ReceiveError::Empty && queue.is_empty()),
                },
                Call::Die => {
                    let (lost, dead) = (p.held.len() as u32, p.handle.me());
                    p.held.clear();
                    p.epoch += 1;
                    let epoch = p.epoch;
                    let mut oracle = Oracle { dead: vec![who as u32], taken: false };
                    let in_flight = queue.iter().filter(|m| m.1 == who as u32).count() as u32;
                    let recovered = all[next].handle.recover(dead, &mut oracle).expect("another's seat");
                    prop_assert_eq!((recovered.freed, recovered.in_flight), (lost, in_flight));
                    all[who].handle = arena.attach(who as u32, epoch);
                    let again = all[who].handle.recover(dead, &mut oracle).expect("fresh");
                    prop_assert_eq!((again.freed, again.in_flight), (0, in_flight));
                }
            }
            let mut has = BTreeMap::new();
            for (i, p) in all.iter().enumerate() {
                for (block, _) in &p.held {
                    prop_assert_eq!(has.insert(block.index(), i), None, "one block, two holders");
                    prop_assert_eq!(arena.yard.header(block.index()).word().holders(), 1 << i);
                }
            }
        }
    }
}
