//! Blocks: lent, filled, sent, received, given back, lent again; the same through deaths, and newcomers on a dead
//! one's seat.

use std::sync::Arc;

use loom::thread;
use sapwood_core::blocks::{Block, Message, Peers, Raw, Region, Shape};
use sapwood_core::mem::{Atom, Mem, Ordering};
use sapwood_core::owner::Owner;
use sapwood_core::testing::{Mpmc, Yard};

use super::{Bound, Model, look};
use crate::explore;
use crate::family::{Loom, until};
use crate::guarded::arena::{Handle, attach};

type Word = <Loom as Mem>::U64;

/// The arena, its ring, and what the kernel says: a bit for each dead epoch 1, and for each seat taken in epoch 2.
#[derive(Clone)]
struct World {
    yard: Yard<Loom>,
    ring: Mpmc<Loom, Raw>,
    dead: Arc<Word>,
    taken: Arc<Word>,
}

impl World {
    fn new(blocks: usize, capacity: usize, generation: u16) -> Self {
        World {
            yard: Yard::new(blocks, 64, generation).expect("a shape"),
            ring: Mpmc::new(capacity, u64::MAX, [0; 2]).expect("a power of two"),
            dead: Arc::new(Atom::new(0)),
            taken: Arc::new(Atom::new(0)),
        }
    }

    /// Messages of dead readers are delivered again.
    fn redelivering(blocks: usize, capacity: usize, generation: u16) -> Self {
        let shape = Shape::of(blocks, 64).and_then(Shape::redelivering).expect("a shape");
        World { yard: Yard::of(shape, generation), ..Self::new(blocks, capacity, generation) }
    }

    fn attach(&self, seat: u32, epoch: u32) -> (Handle, Eyes) {
        let me = Owner::new(seat, epoch);
        (attach(&self.yard, &self.ring, me), Eyes { world: self.clone(), me, orphans: vec![] })
    }

    fn bury(&self, seat: u32) {
        self.dead.fetch_or(1 << seat, Ordering::Release);
    }

    fn is_dead(&self, seat: u32) -> bool {
        self.dead.load(Ordering::Acquire) & 1 << seat != 0
    }
}

struct Eyes {
    world: World,
    me: Owner,
    orphans: Vec<Message>,
}

impl Peers for Eyes {
    fn alive(&mut self, owner: Owner) -> bool {
        owner.epoch() != 1 || !self.world.is_dead(owner.seat())
    }
    fn succeeded(&mut self, dead: Owner) -> bool {
        self.me.seat() != dead.seat() && self.world.taken.load(Ordering::Acquire) & 1 << dead.seat() != 0
    }
    fn orphan(&mut self, _: Owner, message: Message) -> Option<Message> {
        self.orphans.push(message);
        None
    }
}

/// Writes to a block, as far as loom sees it.
fn fill(h: &Handle, block: &Block) {
    let _ = h.bytes(block).write();
}

/// Reads a block, as far as loom sees it.
fn read(h: &Handle, block: &Block) {
    let _ = h.bytes(block).read();
}

fn send(h: &mut Handle, eyes: &mut Eyes) -> bool {
    let Ok(block) = h.loan() else { return false };
    fill(h, &block);
    match h.send(block, 8, eyes) {
        Ok(_) => true,
        Err(e) => {
            h.give_back(e.into_inner());
            false
        }
    }
}

fn receive(h: &mut Handle, eyes: &mut Eyes) -> bool {
    let Ok(message) = h.receive(eyes) else { return false };
    read(h, &message.block);
    h.give_back(message.block);
    true
}

/// What has come as orphans is read and given back.
fn give_back_orphans(h: &mut Handle, eyes: &mut Eyes) -> usize {
    let orphans = std::mem::take(&mut eyes.orphans);
    let n = orphans.len();
    for message in orphans {
        read(h, &message.block);
        h.give_back(message.block);
    }
    n
}

/// When all others are done: whatever is left is received; then every block can be lent, once. Says what came.
fn settle(h: &mut Handle, eyes: &mut Eyes, dead: &[u32]) -> usize {
    for seat in dead {
        h.recover(Owner::new(*seat, 1), eyes).expect("another's seat");
    }
    let mut got = 0;
    for _ in 0..3 {
        got += usize::from(receive(h, eyes));
        got += give_back_orphans(h, eyes);
    }
    assert_eq!(h.holders(), 0, "a block is lost: {:?}", h.region());
    let all: Vec<Block> = (0..h.region().shape().blocks()).map(|_| h.loan().expect("a free block")).collect();
    all.iter().for_each(|b| fill(h, b));
    h.loan().expect_err("one block too many");
    all.into_iter().for_each(|b| h.give_back(b));
    got
}

/// The whole way of a block: one sends, one receives, a third is lent the block when it is free again.
fn hand_over(generation: u16, bound: Bound) -> u64 {
    explore(bound, move || {
        let world = World::new(1, 1, generation);
        let sender = {
            let world = world.clone();
            thread::spawn(move || {
                let (mut h, mut eyes) = world.attach(1, 1);
                send(&mut h, &mut eyes)
            })
        };
        let receiver = {
            let world = world.clone();
            thread::spawn(move || {
                let (mut h, mut eyes) = world.attach(2, 1);
                receive(&mut h, &mut eyes)
            })
        };
        let (mut h, mut eyes) = world.attach(0, 1);
        if let Ok(block) = h.loan() {
            fill(&h, &block);
            h.give_back(block);
        }
        let sent = sender.join().expect("it sends, if the block is free");
        let got = receiver.join().expect("it receives, if there is something");
        assert_eq!(usize::from(sent), usize::from(got) + settle(&mut h, &mut eyes, &[]));
    })
}

/// A sender dies before its operation `k`; another recovers, a third is lent the block or receives the message.
fn sender_dies(k: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let world = World::new(1, 1, u16::MAX - 2);
        let victim = {
            let world = world.clone();
            thread::spawn(move || {
                let (mut h, mut eyes) = world.attach(1, 1);
                let sent = until(k, || send(&mut h, &mut eyes));
                world.bury(1);
                sent == Some(true)
            })
        };
        let recoverer = {
            let world = world.clone();
            thread::spawn(move || {
                let (mut h, mut eyes) = world.attach(2, 1);
                if look(2, || world.is_dead(1)) {
                    h.recover(Owner::new(1, 1), &mut eyes).expect("another's seat");
                }
                give_back_orphans(&mut h, &mut eyes)
            })
        };
        let (mut h, mut eyes) = world.attach(0, 1);
        let received = receive(&mut h, &mut eyes);
        if let Ok(block) = h.loan() {
            fill(&h, &block);
            h.give_back(block);
        }
        let sent = victim.join().expect("it dies");
        let orphans = recoverer.join().expect("it recovers");
        let got = usize::from(received) + orphans + settle(&mut h, &mut eyes, &[1]);
        assert!(got == usize::from(sent) || !sent && got == 1, "sent {sent}, received {got} times");
    })
}

/// A receiver dies before its operation `k`; another recovers, the message comes once.
fn receiver_dies(k: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let world = World::new(1, 1, u16::MAX - 3);
        let (mut h, mut eyes) = world.attach(0, 1);
        assert!(send(&mut h, &mut eyes));
        let victim = {
            let world = world.clone();
            thread::spawn(move || {
                let (mut h, mut eyes) = world.attach(1, 1);
                let got = until(k, || receive(&mut h, &mut eyes));
                world.bury(1);
                got
            })
        };
        let recoverer = {
            let world = world.clone();
            thread::spawn(move || {
                let (mut h, mut eyes) = world.attach(2, 1);
                if look(2, || world.is_dead(1)) {
                    h.recover(Owner::new(1, 1), &mut eyes).expect("another's seat");
                }
                give_back_orphans(&mut h, &mut eyes)
            })
        };
        if let Ok(block) = h.loan() {
            fill(&h, &block);
            h.give_back(block);
        }
        let theirs = victim.join().expect("it dies");
        let orphans = recoverer.join().expect("it recovers");
        let got = usize::from(theirs == Some(true)) + orphans + settle(&mut h, &mut eyes, &[1]);
        // A receiver that had given the slot back before it died had the message.
        assert!(got == 1 || got == 0 && theirs.is_none(), "the message came {got} times");
    })
}

/// A receiver dies before its operation `k`, of an arena that delivers again; another recovers meanwhile, and sends
/// what it gets again if it is to. The message is given back in full once, whenever the receiver dies.
fn receiver_dies_and_it_comes_again(k: usize, resends: bool, bound: Bound) -> u64 {
    explore(bound, move || {
        let world = World::redelivering(1, 1, u16::MAX - 3);
        let (mut h, mut eyes) = world.attach(0, 1);
        assert!(send(&mut h, &mut eyes));
        let victim = {
            let world = world.clone();
            thread::spawn(move || {
                let (mut h, mut eyes) = world.attach(1, 1);
                let got = until(k, || receive(&mut h, &mut eyes));
                world.bury(1);
                got
            })
        };
        let recoverer = {
            let world = world.clone();
            thread::spawn(move || {
                let (mut h, mut eyes) = world.attach(2, 1);
                if look(2, || world.is_dead(1)) {
                    h.recover(Owner::new(1, 1), &mut eyes).expect("another's seat");
                }
                if resends {
                    for message in std::mem::take(&mut eyes.orphans) {
                        read(&h, &message.block);
                        h.resend(message, &mut eyes).expect("there is room");
                    }
                }
                give_back_orphans(&mut h, &mut eyes)
            })
        };
        if let Ok(block) = h.loan() {
            fill(&h, &block);
            h.give_back(block);
        }
        let theirs = victim.join().expect("it dies");
        let orphans = recoverer.join().expect("it recovers");
        let got = usize::from(theirs == Some(true)) + orphans + settle(&mut h, &mut eyes, &[1]);
        assert_eq!(got, 1, "how often the message came");
    })
}

/// A reader has died with a message. Two recover it at the same time, or one and a newcomer on its seat; whoever gets
/// the message is alone with it.
fn two_take_it_again(newcomer: bool, bound: Bound) -> u64 {
    explore(bound, move || {
        let world = World::redelivering(1, 1, u16::MAX - 3);
        let (mut h, mut eyes) = world.attach(0, 1);
        assert!(send(&mut h, &mut eyes));
        let (mut dead, mut theirs) = world.attach(1, 1);
        let message = dead.receive(&mut theirs).expect("it was sent");
        read(&dead, &message.block);
        world.bury(1);
        let taker = |seat, epoch| {
            let world = world.clone();
            thread::spawn(move || {
                if seat == 1 {
                    world.taken.fetch_or(1 << 1, Ordering::Release);
                }
                let (mut h, mut eyes) = world.attach(seat, epoch);
                h.recover(Owner::new(1, 1), &mut eyes).expect("another's seat, or nothing was held before");
                // Whoever has it may do with it as it likes.
                eyes.orphans.iter().for_each(|message| fill(&h, &message.block));
                give_back_orphans(&mut h, &mut eyes)
            })
        };
        let takers = [taker(2, 1), if newcomer { taker(1, 2) } else { taker(3, 1) }];
        if let Ok(block) = h.loan() {
            fill(&h, &block);
            h.give_back(block);
        }
        let got: usize = takers.map(|t| t.join().expect("it recovers")).iter().sum();
        assert_eq!(got + settle(&mut h, &mut eyes, &[]), 1, "how often the message came");
    })
}

/// Seat 1 has died, perhaps with a block. One recovers it, while a newcomer takes the seat, recovers, and is lent the
/// block under the same bit; a third wants it too.
fn newcomer_borrows(held: bool, bound: Bound) -> u64 {
    explore(bound, move || {
        let world = World::new(1, 1, u16::MAX - 2);
        let (mut dead, _) = world.attach(1, 1);
        if held {
            let block = dead.loan().expect("a free block");
            fill(&dead, &block);
        }
        world.bury(1);
        let newcomer = {
            let world = world.clone();
            thread::spawn(move || {
                world.taken.fetch_or(1 << 1, Ordering::Release);
                let (mut h, mut eyes) = world.attach(1, 2);
                h.recover(Owner::new(1, 1), &mut eyes).expect("nothing was held before");
                if let Ok(block) = h.loan() {
                    fill(&h, &block);
                    fill(&h, &block);
                    h.give_back(block);
                }
            })
        };
        let recoverer = {
            let world = world.clone();
            thread::spawn(move || {
                let (mut h, mut eyes) = world.attach(2, 1);
                h.recover(Owner::new(1, 1), &mut eyes).expect("another's seat");
            })
        };
        recoverer.join().expect("it recovers");
        let (mut h, mut eyes) = world.attach(0, 1);
        if let Ok(block) = h.loan() {
            fill(&h, &block);
            h.give_back(block);
        }
        newcomer.join().expect("nobody takes its block");
        assert_eq!(settle(&mut h, &mut eyes, &[]), 0);
    })
}

/// Seat 1 has sent a message and left. One recovers the seat, while a newcomer takes it and receives the message,
/// whose block then has the same bit as before; a third wants a block.
fn newcomer_receives(bound: Bound) -> u64 {
    explore(bound, || {
        let world = World::new(1, 1, u16::MAX - 2);
        let (mut gone, mut eyes) = world.attach(1, 1);
        assert!(send(&mut gone, &mut eyes));
        world.bury(1);
        let newcomer = {
            let world = world.clone();
            thread::spawn(move || {
                world.taken.fetch_or(1 << 1, Ordering::Release);
                let (mut h, mut eyes) = world.attach(1, 2);
                h.recover(Owner::new(1, 1), &mut eyes).expect("nothing was held before");
                let message = h.receive(&mut eyes).expect("what the predecessor has sent");
                fill(&h, &message.block);
                fill(&h, &message.block);
                h.give_back(message.block);
            })
        };
        let recoverer = {
            let world = world.clone();
            thread::spawn(move || {
                let (mut h, mut eyes) = world.attach(2, 1);
                h.recover(Owner::new(1, 1), &mut eyes).expect("another's seat");
            })
        };
        recoverer.join().expect("it recovers");
        let (mut h, mut eyes) = world.attach(0, 1);
        if let Ok(block) = h.loan() {
            fill(&h, &block);
            h.give_back(block);
        }
        newcomer.join().expect("nobody takes its block");
        assert_eq!(settle(&mut h, &mut eyes, &[]), 0);
    })
}

/// All models of blocks.
pub fn all() -> Vec<Model> {
    let mut models = vec![
        Model::new("arena hand-over: sent, received, lent to a third", 3, &[Some(4)], |b| hand_over(0, b)),
        Model::new("the same, across the wrap", 2, &[Some(3)], |b| hand_over(u16::MAX - 2, b)),
        Model::new("a newcomer borrows what is being recovered", 3, &[Some(4)], |b| {
            newcomer_borrows(true, b)
        }),
        Model::new("a newcomer borrows what was free", 3, &[Some(4)], |b| newcomer_borrows(false, b)),
        Model::new("a newcomer receives what is being recovered", 3, &[Some(3)], newcomer_receives),
    ];
    for k in [1, 2, 3, 5, 7, 8, 9, 10] {
        let name = format!("a sender dies before its operation {k}");
        models.push(Model::new(name, 2, &[Some(3)], move |b| sender_dies(k, b)));
    }
    for k in 2..10 {
        let name = format!("a receiver dies before its operation {k}");
        models.push(Model::new(name, 3, &[Some(4)], move |b| receiver_dies(k, b)));
    }
    for k in 2..10 {
        for resends in [true, false] {
            let how = if resends { "sent again" } else { "kept" };
            let name = format!("a receiver dies before its operation {k}, and the message is {how}");
            let run = move |b| receiver_dies_and_it_comes_again(k, resends, b);
            models.push(Model::new(name, 3, &[Some(4)], run));
        }
    }
    let two = |b| two_take_it_again(false, b);
    models.push(Model::new("two take a message again", 3, &[Some(4)], two));
    let heir = |b| two_take_it_again(true, b);
    models.push(Model::new("a newcomer and another take a message again", 3, &[Some(4)], heir));
    models
}
