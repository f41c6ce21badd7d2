//! Holders of buffers that are killed or stopped at any moment: in the end all buffers are free, and nobody is taken
//! for dead who lives.
#![allow(missing_docs)]

mod common;

use common::rings::*;
use common::*;
use nix::sys::signal::Signal;
use sapwood_shm::bufs::{AdoptError, AllocError, Descriptor, Pool, Stats};
use sapwood_shm::ring::PopError;
use sapwood_shm::ring::mpmc::Ring;
use sapwood_shm::{Error, Processes};

/// How many ranks are killed one after the other.
fn rounds() -> usize {
    if std::env::var_os("SAPWOOD_FULL").is_some() { 60 } else { 12 }
}

/// Whose turn it is; in the tally.
const TURN: usize = 0;
/// What a rank has done.
const DONE: usize = 1;
const BUFS: usize = 8;
const BYTES: usize = 4096;

/// A seat that is free as soon as the kernel has let go of it.
fn seat<T>(mut open: impl FnMut() -> Result<T, Error>) -> T {
    let mut got = None;
    until("a seat is free", || {
        match open() {
            Ok(end) => got = Some(end),
            Err(e) => assert!(matches!(e, Error::NoSeat { .. } | Error::Unsettled { .. }), "{e}"),
        }
        got.is_some()
    });
    got.expect("it was opened")
}

fn used(pool: &Pool) -> (u32, u32) {
    let Stats { held, in_flight, .. } = pool.stats();
    (held, in_flight)
}

/// All buffers can be had, each once.
fn all_are_free(pool: &Pool) {
    let mut all = Vec::new();
    until("all buffers are free", || {
        match pool.alloc::<u64>(8) {
            Ok(buf) => all.push(buf),
            Err(e) => assert!(matches!(e, AllocError::Exhausted { .. }), "{e}"),
        }
        all.len() == BUFS
    });
    let mut places: Vec<_> = all.iter().map(|b| b.as_ptr().addr()).collect();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), BUFS, "each once");
    drop(all);
    assert_eq!(used(pool), (0, 0));
}

/// The last of what the dead had been reading, and the rest.
fn drain(ring: &mut Ring<Descriptor>, pool: &Pool) {
    until("the ring is empty", || match ring.try_pop_with(|d| pool.adopt::<u64>(d)) {
        Ok(Ok(buf)) => {
            assert!(buf.iter().all(|v| *v == buf[0]), "torn");
            false
        }
        Ok(Err(e)) => {
            assert!(matches!(e, AdoptError::Void { .. }), "{e}");
            false
        }
        Err(PopError::Busy { .. }) => false,
        Err(e) => e == PopError::Empty,
    });
}

#[test]
fn a_storm_of_deaths_leaves_all_buffers_free() {
    let (pool_name, ring_name, tally_name) = (name("pool"), name("ring"), name("tally"));
    let pool = || Pool::open(&pool_name, BUFS, BYTES, 3);
    let ring = || Ring::<Descriptor>::open(&ring_name, 16, 3);
    let running = Processes::new(rounds()).start(|rank| {
        let tally = Tally::open(&tally_name, 1);
        tally.wait_for_flag(TURN, rank.rank() as u32);
        let (pool, mut ring, mut held, mut turn) = (seat(pool), seat(ring), Vec::new(), 0_u32);
        until("the parent ends this rank", || {
            if let Ok(Ok(buf)) = ring.try_pop_with(|d| pool.adopt::<u64>(d)) {
                assert!(buf.iter().all(|v| *v == buf[0]), "torn");
                // It passes some on, keeps some, and lets some go.
                turn += 1;
                if turn.is_multiple_of(3)
                    && let Ok(d) = buf.share()
                    && ring.try_push(d).is_err()
                {
                    pool.recall();
                }
                held.push(buf);
                tally.set_flag(DONE, rank.rank() as u32 + 1);
            }
            if held.len() > 2 {
                held.clear();
            }
            false
        });
        Ok::<(), String>(())
    });
    let running = running.expect("ranks can be started");
    let _forget = [Forget::name(&pool_name), Forget::name(&ring_name), Forget::name(&tally_name)];
    let tally = Tally::open(&tally_name, 1);
    let (pool, mut ring) = (seat(pool), seat(ring));
    let (mut dice, mut value) = (Dice::new(), 0_u64);
    let mut send = |ring: &mut Ring<Descriptor>| {
        let before = value;
        if let Ok(mut buf) = pool.alloc::<u64>(BYTES / 8) {
            buf.fill(value);
            value += 1;
            let descriptor = buf.into_descriptor().expect("a place");
            if let Err(e) = ring.try_push(descriptor) {
                drop(pool.adopt::<u64>(e.into_inner()).expect("ours, and not sent"));
            }
        }
        value - before
    };
    for round in 0..rounds() {
        tally.set_flag(TURN, round as u32 + 1);
        until("the rank has adopted", || {
            send(&mut ring);
            tally.flag(DONE) > round as u32
        });
        let mut left = dice.roll(500);
        until("the rank lets go of buffers", || {
            left = left.saturating_sub(send(&mut ring));
            left == 0
        });
        kill(&running, round);
    }
    let report = running.wait(PATIENCE).expect("all end");
    assert!(report.exits.iter().all(|e| *e == sapwood_shm::Exit::Signal(9)), "{report}");
    drain(&mut ring, &pool);
    // An orphan that a second one had when it died is lost: at most one a death.
    let lost = pool.recall();
    println!("{value} buffers, {lost} recalled after {} deaths", rounds());
    assert!(lost <= rounds(), "{lost}");
    all_are_free(&pool);
}

#[test]
fn killed_between_taking_the_descriptor_and_owning_the_buffer() {
    let (pool_name, ring_name, tally_name) = (name("late"), name("late-ring"), name("late-tally"));
    let pool = || Pool::open(&pool_name, BUFS, BYTES, 2);
    let ring = || Ring::<Descriptor>::open(&ring_name, 16, 2);
    let running = rank(|| {
        let (tally, _pool, mut ring) = (Tally::open(&tally_name, 1), seat(pool), seat(ring));
        until("a descriptor comes", || ring.try_pop().is_ok());
        tally.set_flag(DONE, 1);
        wait_to_be_ended()
    });
    let _forget = [Forget::name(&pool_name), Forget::name(&ring_name), Forget::name(&tally_name)];
    let (tally, pool, mut ring) = (Tally::open(&tally_name, 1), seat(pool), seat(ring));
    let descriptor = pool.alloc::<u64>(8).expect("one is free").into_descriptor().expect("a place");
    assert!(ring.try_push(descriptor).is_ok());
    tally.wait_for_flag(DONE, 0);
    kill(&running, 0);
    running.wait(PATIENCE).expect("it ends");
    drain(&mut ring, &pool);
    // Nobody has it and nobody will: it is its sender's until it says so.
    assert_eq!(used(&pool), (0, 1));
    assert_eq!((pool.recall(), used(&pool)), (1, (0, 0)));
    assert!(matches!(pool.adopt::<u64>(descriptor), Err(AdoptError::Void { block: _, .. })));
    all_are_free(&pool);
}

#[test]
fn what_a_dead_one_has_sent_can_be_adopted_until_it_is_recovered() {
    let (pool_name, ring_name, tally_name) = (name("sent"), name("sent-ring"), name("sent-tally"));
    let pool = || Pool::open(&pool_name, BUFS, BYTES, 2);
    let ring = || Ring::<Descriptor>::open(&ring_name, 16, 2);
    let running = rank(|| {
        let (tally, pool, mut ring) = (Tally::open(&tally_name, 1), seat(pool), seat(ring));
        let mut all = Vec::new();
        for i in 0..BUFS as u64 {
            let mut buf = pool.alloc::<u64>(8).map_err(text)?;
            buf.fill(i);
            let buf = buf.into_shared();
            ring.try_push(buf.share().map_err(text)?).map_err(text)?;
            all.push(buf);
        }
        tally.set_flag(DONE, 1);
        wait_to_be_ended()
    });
    let _forget = [Forget::name(&pool_name), Forget::name(&ring_name), Forget::name(&tally_name)];
    let (tally, pool, mut ring) = (Tally::open(&tally_name, 1), seat(pool), seat(ring));
    tally.wait_for_flag(DONE, 0);
    kill(&running, 0);
    running.wait(PATIENCE).expect("it ends");
    assert_eq!(used(&pool), (BUFS as u32, BUFS as u32));
    let first = pool.adopt::<u64>(ring.try_pop().expect("it was sent")).expect("it stands");
    assert!(first.iter().all(|v| *v == 0) && first.len() == 8);
    let second = ring.try_pop().expect("it was sent");
    // No buffer is free, so the dead one is recovered: what it held and what it had sent.
    let third = pool.alloc::<u64>(8).expect("the dead hold nothing");
    assert!(matches!(pool.adopt::<u64>(second), Err(AdoptError::Void { .. })));
    assert!(first.iter().all(|v| *v == 0), "ours stays");
    drop((first, third));
    all_are_free(&pool);
}

#[test]
fn a_stopped_holder_is_not_dead() {
    let (pool_name, tally_name) = (name("stopped"), name("stopped-tally"));
    let pool = || Pool::open(&pool_name, BUFS, BYTES, 2);
    let running = rank(|| {
        let (tally, pool) = (Tally::open(&tally_name, 1), seat(pool));
        let all: Vec<_> = (0..BUFS).map(|_| pool.alloc::<u64>(8).expect("one is free")).collect();
        tally.set_flag(DONE, 1);
        tally.wait_for_flag(TURN, 0);
        assert!(all.iter().all(|b| b.len() == 8));
        Ok(())
    });
    let _forget = [Forget::name(&pool_name), Forget::name(&tally_name)];
    let (tally, pool) = (Tally::open(&tally_name, 1), seat(pool));
    tally.wait_for_flag(DONE, 0);
    running.signal(0, Signal::SIGSTOP).expect("a child of ours can be stopped");
    until("the rank is stopped", || state(running.pids()[0]) == Some('T'));
    for _ in 0..2000 {
        let said = pool.alloc::<u64>(8).expect_err("the stopped one has them all");
        assert_eq!(said, AllocError::Exhausted { blocks: 8, bytes: BYTES, held: 8, in_flight: 0 });
    }
    running.signal(0, Signal::SIGCONT).expect("a child of ours can go on");
    tally.set_flag(TURN, 1);
    ended_well(running);
    all_are_free(&pool);
}
