//! Shared blocks: lent, shared, handed over, adopted, let go, lent again; the same through deaths, and newcomers on a
//! dead one's seat. Tickets go by a relaxed word: what orders the bytes is the block's word alone.

use std::sync::Arc;

use loom::thread;
use sapwood_core::bufs::{Adopted, Holding, Region, TICKETS, Ticket, TicketError};
use sapwood_core::mem::{Atom, Mem, Ordering};
use sapwood_core::owner::Owner;
use sapwood_core::testing::Depot;

use super::{Bound, Model, look};
use crate::explore;
use crate::family::{Loom, until};
use crate::guarded::depot::{Handle, attach};

type Word = <Loom as Mem>::U64;

/// The arena, a ticket on its way, and what the kernel says: a bit for each dead epoch 1, and for each seat taken in
/// epoch 2.
#[derive(Clone)]
struct World {
    depot: Depot<Loom>,
    mail: Arc<Word>,
    dead: Arc<Word>,
    taken: Arc<Word>,
}

impl World {
    fn new(generation: u16) -> Self {
        let word = || Arc::new(Atom::new(0));
        let depot = Depot::new(1, 64, generation).expect("a shape");
        World { depot, mail: word(), dead: word(), taken: word() }
    }

    fn attach(&self, seat: u32, epoch: u32) -> Handle {
        attach(&self.depot, Owner::new(seat, epoch))
    }

    fn post(&self, t: Ticket) {
        self.mail.store((u64::from(t.bit) << 32 | t.serial) + 1, Ordering::Relaxed);
    }

    fn ticket(&self) -> Option<Ticket> {
        let letter = self.mail.load(Ordering::Relaxed).checked_sub(1)?;
        Some(Ticket { block: 0, bit: (letter >> 32) as u32, serial: letter & 0xffff_ffff })
    }

    fn adopt(&self, h: &mut Handle) -> Option<Holding> {
        match h.adopt(self.ticket()?) {
            Ok(Adopted::New(holding)) => Some(holding),
            Ok(Adopted::Again(_)) => panic!("it was ours before"),
            Err(TicketError::Stale { .. }) => None,
            Err(e) => panic!("{e}"),
        }
    }

    fn recover(&self, h: &mut Handle, dead: u32) {
        let (taken, me) = (self.taken.clone(), h.me().seat());
        let succeeded = |o: Owner| me != o.seat() && taken.load(Ordering::Acquire) & 1 << o.seat() != 0;
        h.recover(Owner::new(dead, 1), succeeded).expect("another's seat, or nothing was held before");
    }

    fn bury(&self, seat: u32) {
        self.dead.fetch_or(1 << seat, Ordering::Release);
    }

    fn is_dead(&self, seat: u32) -> bool {
        self.dead.load(Ordering::Acquire) & 1 << seat != 0
    }

    /// A thread with a handle of its own.
    fn spawn<V: 'static>(
        &self,
        seat: u32,
        epoch: u32,
        f: impl FnOnce(&World, &mut Handle) -> V + 'static,
    ) -> thread::JoinHandle<V> {
        let world = self.clone();
        thread::spawn(move || f(&world, &mut world.attach(seat, epoch)))
    }
}

/// Writes to a block, as far as loom sees it.
fn write(h: &Handle, holding: &Holding) {
    let _ = h.bytes(holding).write();
}

/// Reads a block, as far as loom sees it.
fn read(h: &Handle, holding: &Holding) {
    let _ = h.bytes(holding).read();
}

fn borrow(h: &mut Handle) -> bool {
    let Ok(holding) = h.loan() else { return false };
    write(h, &holding);
    assert_eq!(h.give_back(holding), Ok(()));
    true
}

/// Reads, writes if it is alone, lets go.
fn use_up(h: &mut Handle, holding: Holding) {
    read(h, &holding);
    if h.is_sole(&holding) {
        write(h, &holding);
    }
    assert_eq!(h.give_back(holding), Ok(()));
}

/// When all others are done: every block can be lent.
fn settle(world: &World, h: &mut Handle, dead: &[u32]) {
    dead.iter().for_each(|seat| world.recover(h, *seat));
    h.void_left();
    let w = world.depot.header(0).word();
    assert!(w.is_free(), "a block is lost: {w:?}");
    assert!(borrow(h));
}

/// One hands over, one adopts, a third is lent the block when it is free again.
fn hand_over(generation: u16, bound: Bound) -> u64 {
    explore(bound, move || {
        let world = World::new(generation);
        let sender = world.spawn(1, 1, |world, h| {
            let Ok(holding) = h.loan() else { return false };
            write(h, &holding);
            world.post(h.hand_over(holding).expect("a place"));
            true
        });
        let receiver = world.spawn(2, 1, |world, h| {
            let holding = if look(2, || world.ticket().is_some()) { world.adopt(h) } else { None };
            let got = holding.is_some();
            holding.into_iter().for_each(|holding| use_up(h, holding));
            got
        });
        let mut h = world.attach(0, 1);
        borrow(&mut h);
        let sent = sender.join().expect("it sends, if the block is free");
        let got = receiver.join().expect("it adopts, if there is something");
        assert!(sent || !got);
        if sent && !got {
            let holding = world.adopt(&mut h).expect("it is on its way");
            use_up(&mut h, holding);
        }
        settle(&world, &mut h, &[]);
    })
}

/// One shares, and writes again if it is alone; two have the ticket, and one adopts it.
fn share(bound: Bound) -> u64 {
    explore(bound, move || {
        let world = World::new(u16::MAX);
        let mut h = world.attach(1, 1);
        let holding = h.loan().expect("a free block");
        write(&h, &holding);
        world.post(h.share(&holding).expect("a place"));
        let readers = [2, 3].map(|seat| {
            world.spawn(seat, 1, |world, h| {
                let holding = world.adopt(h);
                let got = holding.is_some();
                holding.into_iter().for_each(|holding| use_up(h, holding));
                got
            })
        });
        use_up(&mut h, holding);
        let got = readers.map(|r| r.join().expect("it adopts, or not"));
        assert!(got[0] != got[1], "one ticket was adopted so: {got:?}");
        settle(&world, &mut world.attach(0, 1), &[]);
    })
}

/// One dies before its operation `k` while it lends and hands over; another recovers it, a third is lent the block or
/// has the ticket.
fn sender_dies(k: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let world = World::new(u16::MAX - 1);
        let victim = world.spawn(1, 1, move |world, h| {
            let sent = until(k, || {
                let Ok(holding) = h.loan() else { return };
                write(h, &holding);
                world.post(h.hand_over(holding).expect("a place"));
            });
            world.bury(1);
            sent.is_some()
        });
        let recoverer = world.spawn(2, 1, |world, h| {
            if look(2, || world.is_dead(1)) {
                world.recover(h, 1);
            }
        });
        let mut h = world.attach(0, 1);
        if let Some(holding) = world.adopt(&mut h) {
            use_up(&mut h, holding);
        }
        borrow(&mut h);
        victim.join().expect("it dies");
        recoverer.join().expect("it recovers");
        settle(&world, &mut h, &[1]);
    })
}

/// One dies before its operation `k` while it adopts; another recovers it, a third wants the block.
fn receiver_dies(k: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let world = World::new(u16::MAX - 1);
        let mut sender = world.attach(3, 1);
        let holding = sender.loan().expect("a free block");
        write(&sender, &holding);
        world.post(sender.hand_over(holding).expect("a place"));
        let victim = world.spawn(1, 1, move |world, h| {
            let _ = until(k, || {
                let holding = world.adopt(h);
                holding.into_iter().for_each(|holding| use_up(h, holding));
            });
            world.bury(1);
        });
        let recoverer = world.spawn(2, 1, |world, h| {
            if look(2, || world.is_dead(1)) {
                world.recover(h, 1);
            }
        });
        let mut h = world.attach(0, 1);
        victim.join().expect("it dies");
        borrow(&mut h);
        recoverer.join().expect("it recovers");
        sender.recall();
        settle(&world, &mut h, &[1]);
    })
}

/// Seat 1 has died, perhaps with the block. One recovers it, while a newcomer takes the seat, recovers, and has the
/// block under the same bit, lent or adopted; a third wants it too.
fn newcomer(held: bool, adopts: bool, bound: Bound) -> u64 {
    explore(bound, move || {
        let world = World::new(u16::MAX - 1);
        let (mut dead, mut sender) = (world.attach(1, 1), world.attach(3, 1));
        if adopts {
            let holding = sender.loan().expect("a free block");
            write(&sender, &holding);
            if held {
                world.post(sender.share(&holding).expect("a place"));
                let _ = world.adopt(&mut dead).expect("it was sent");
            }
            world.post(sender.hand_over(holding).expect("a place"));
        } else if held {
            let holding = dead.loan().expect("a free block");
            write(&dead, &holding);
        }
        world.bury(1);
        let newcomer = world.spawn(1, 2, move |world, h| {
            world.taken.fetch_or(1 << 1, Ordering::Release);
            world.recover(h, 1);
            let holding = if adopts { world.adopt(h) } else { h.loan().ok() };
            if let Some(holding) = holding {
                read(h, &holding);
                if h.is_sole(&holding) {
                    write(h, &holding);
                }
                assert!(world.depot.header(0).word().holders() & 2 != 0, "it was taken from the newcomer");
                use_up(h, holding);
            }
        });
        let recoverer = world.spawn(2, 1, |world, h| world.recover(h, 1));
        recoverer.join().expect("it recovers");
        let mut h = world.attach(0, 1);
        borrow(&mut h);
        newcomer.join().expect("nobody takes its block");
        settle(&world, &mut h, &[]);
    })
}

/// One issues a ticket and leaves, while another, who finds all other places taken, looks for one to use again: the
/// ticket stands.
fn leaves(bound: Bound) -> u64 {
    explore(bound, || {
        let world = World::new(0);
        let mut stays = world.attach(2, 1);
        let holding = stays.loan().expect("a free block");
        let mut goes = world.attach(1, 1);
        world.post(stays.share(&holding).expect("a place"));
        let its = world.adopt(&mut goes).expect("it was sent");
        // But for the last place.
        (1..TICKETS).for_each(|_| _ = stays.share(&holding).expect("a place"));
        let world2 = world.clone();
        let leaver = thread::spawn(move || {
            let ticket = goes.hand_over(its).ok();
            if let Some(t) = ticket {
                world2.post(t);
            }
            goes.leave();
            ticket
        });
        let more = stays.share(&holding);
        let ticket = leaver.join().expect("it leaves");
        assert!(ticket.is_none() || more.is_err(), "one place was had twice");
        let mut h = world.attach(0, 1);
        if let Some(ticket) = ticket {
            assert!(matches!(h.adopt(ticket), Ok(Adopted::New(_))), "its ticket stands");
        }
    })
}

/// All models of shared blocks.
pub fn all() -> Vec<Model> {
    let mut models = vec![
        Model::new("handed over, adopted, lent to a third", 3, &[Some(4)], |b| hand_over(0, b)),
        Model::new("the same, across the wrap", 2, &[Some(3)], |b| hand_over(u16::MAX, b)),
        Model::new("shared: two have one ticket", 3, &[Some(4)], share),
        Model::new("a newcomer borrows what is being recovered", 3, &[Some(4)], |b| newcomer(true, false, b)),
        Model::new("a newcomer borrows what was free", 3, &[Some(4)], |b| newcomer(false, false, b)),
        Model::new("a newcomer adopts what is being recovered", 3, &[Some(4)], |b| newcomer(true, true, b)),
        Model::new("a newcomer adopts what was on its way", 3, &[Some(4)], |b| newcomer(false, true, b)),
        Model::new("one leaves, another looks for a place", 3, &[Some(4)], leaves),
    ];
    for k in 1..8 {
        let name = format!("a sender dies before its operation {k}");
        models.push(Model::new(name, 2, &[Some(3)], move |b| sender_dies(k, b)));
    }
    for k in 2..14 {
        let name = format!("a receiver dies before its operation {k}");
        models.push(Model::new(name, 3, &[Some(4)], move |b| receiver_dies(k, b)));
    }
    models
}
