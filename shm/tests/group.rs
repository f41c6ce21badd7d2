//! Groups and their arenas. A process may hold several seats, so two ranks of a group can live in one test.
//!
//! # Safety
//! Looks at resident bytes through the pointers that collectives use, while nobody else touches them.
#![allow(unsafe_code)]

mod common;

use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use common::rings::{ended_well, in_a_fork, rank};
use common::*;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use sapwood_core::board::Region;
use sapwood_shm::{BLOCKS, Error, Group, Life, Offer, Rendezvous, Segment, Tensor, allowed_cpus};

fn meeting() -> OwnedFd {
    Segment::anonymous_fd().expect("a file without a name can be made")
}

fn enter(meeting: &OwnedFd, rank: usize, ranks: usize) -> Result<Group, Error> {
    let fd = meeting.try_clone().expect("a descriptor can be duplicated");
    Group::enter(Rendezvous::Inherited(fd), rank, ranks, PATIENCE)
}

/// All ranks of a group, in this process.
fn group<const N: usize>() -> [Group; N] {
    let meeting = meeting();
    std::array::from_fn(|rank| enter(&meeting, rank, N).expect("the seat is free"))
}

/// What a collective allocation does: rank 0 finds room, all map it, all take their tensor.
fn allocate<const N: usize>(groups: &mut [Group; N], len: usize) -> (Offer, [Tensor<u32>; N]) {
    let offer = groups[0].arena_mut().reserve(len * 4).expect("there is memory");
    let offer = Offer::from_words(offer.to_words()).expect("as it was sent");
    for group in groups.iter_mut() {
        group.arena_mut().map(offer, len * 4).expect("it can be mapped");
    }
    // SAFETY: all have just mapped the one offer.
    (offer, std::array::from_fn(|r| unsafe { groups[r].arena_mut().tensor(offer.block, len) }))
}

#[test]
fn ranks_know_each_other() {
    let meeting = meeting();
    let me = std::process::id();
    let zero = enter(&meeting, 0, 2).expect("the seat is free");
    assert_eq!(zero.pids(), [me, 0]);
    assert_eq!((zero.life(0), zero.life(1)), (Life::Alive, Life::Absent));
    let said = enter(&meeting, 0, 2).expect_err("rank 0 is here");
    assert!(matches!(said, Error::SeatTaken { seat: 0, pid } if pid == me), "{said}");
    let said = enter(&meeting, 2, 3).expect_err("there are two");
    assert!(matches!(said, Error::OtherSize { found: 2, expected: 3 }), "{said}");
    let one = enter(&meeting, 1, 2).expect("the seat is free");
    assert!(zero.is_mine() && one.is_mine());
    assert_eq!(zero.pids(), [me, me]);
    drop(one);
    until("rank 1 has left", || zero.life(1) == Life::Dead);
    let said = enter(&meeting, 1, 2).expect_err("the others know it as dead");
    assert!(matches!(said, Error::SeatDead { seat: 1, .. }), "{said}");
}

#[test]
fn a_group_forgets_its_name() {
    let name = name("group");
    let _forget = Forget::name(&name);
    let enter = |rank| Group::enter(Rendezvous::Name(name.clone()), rank, 2, PATIENCE).expect("it is free");
    let (zero, one) = (enter(0), enter(1));
    let path = file_of(Path::new("/dev/shm"), &name);
    assert!(path.exists());
    zero.forget_name().expect("it is ours");
    one.forget_name().expect("nothing is left to do");
    assert!(!path.exists());
    assert_eq!(one.pids(), zero.pids());
    let anonymous: [Group; 1] = group();
    anonymous[0].forget_name().expect("it has none");
}

/// Enters from a thread that may run on one processor only.
fn enter_on(cpu: usize, meeting: &OwnedFd, rank: usize) -> Group {
    let pinned = || {
        let mut set = CpuSet::new();
        set.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)).expect("we may run there");
        enter(meeting, rank, 2).expect("the seat is free")
    };
    std::thread::scope(|s| s.spawn(pinned).join().expect("it does not panic"))
}

#[test]
fn processors_of_all_ranks_are_counted_once() {
    let mask = allowed_cpus();
    let allowed: Vec<usize> = (0..mask.len() * 64).filter(|c| mask[c / 64] >> (c % 64) & 1 == 1).collect();
    let (first, last) = (allowed[0], allowed[allowed.len() - 1]);
    for (a, b) in [(first, last), (last, last)] {
        let meeting = meeting();
        let zero = enter_on(a, &meeting, 0);
        assert_eq!(zero.cpus(), 1);
        let one = enter_on(b, &meeting, 1);
        let both = if a == b { 1 } else { 2 };
        assert_eq!((zero.cpus(), one.cpus()), (both, both));
    }
}

#[test]
fn offers_travel_in_words() {
    for offer in [
        Offer { block: 0, offset: 0, retired: None },
        Offer { block: BLOCKS - 1, offset: 1 << 39, retired: Some(0) },
    ] {
        assert_eq!(Offer::from_words(offer.to_words()), Some(offer));
    }
    assert_eq!(Offer::from_words([0; 4]), None);
}

#[test]
fn each_rank_has_a_tensor_that_the_others_can_reach() {
    let mut groups: [Group; 2] = group();
    let (_, mut tensors) = allocate(&mut groups, 3000);
    for (rank, tensor) in tensors.iter_mut().enumerate() {
        assert_eq!(tensor.len(), 3000);
        assert!(tensor.iter().all(|v| *v == 0));
        assert_eq!(tensor.as_ptr().addr() % 4096, 0);
        tensor.fill(rank as u32 + 1);
    }
    for (owner, other) in [(0, 1), (1, 0)] {
        let token = groups[owner].token(tensors[owner][7..].as_ptr().cast(), 40).expect("it is resident");
        let there = groups[other].resident(owner, token, 40).expect("it is mapped");
        // SAFETY: 40 bytes of a tensor that nobody writes now, on a multiple of 4.
        let seen = unsafe { std::slice::from_raw_parts(there.cast::<u32>(), 10) };
        assert_eq!(seen, &[owner as u32 + 1; 10]);
    }
}

/// The part of a block that is a rank's own, and nothing else.
#[test]
fn tokens_keep_inside_their_owners_part_of_a_block() {
    let mut groups: [Group; 2] = group();
    let (_, first) = allocate(&mut groups, 1024);
    let (_, second) = allocate(&mut groups, 2048);
    let part = 2048 * 4; // whole pages
    let [zero, one] = &groups;
    for (rank, group) in groups.iter().enumerate() {
        let start: *const u8 = second[rank].as_ptr().cast();
        let token = group.token(start, part).expect("the whole tensor");
        assert_eq!(group.token(start, part + 1), None);
        assert_eq!(group.token(start, usize::MAX), None);
        assert_eq!(group.token(start.wrapping_add(part - 1), 1), Some(token + part as u64 - 1));
        assert_eq!(group.token(start.wrapping_add(part - 1), 2), None);
        assert_eq!(group.token(start.wrapping_sub(1), 1), None, "another rank's part, or none");
        assert_eq!(group.token(start.wrapping_add(part), 1), None, "another rank's part, or none");
        for other in [zero, one] {
            let at = |token, bytes| other.resident(rank, token, bytes);
            assert!(at(token, part).is_some());
            assert_eq!(at(token, part + 1), None);
            assert_eq!(at(token, usize::MAX), None);
            assert_eq!(at(token + part as u64 - 1, 2), None);
            assert_eq!(at(token + part as u64, 1), None);
            assert_eq!(at(token - 1, 1), None);
            assert_eq!(at(u64::MAX, 1), None);
            assert_eq!(at(u64::MAX, usize::MAX), None);
            assert_eq!(other.resident(1 - rank, token, 1), None, "it is not that rank's");
            assert_eq!(other.resident(rank + 2, token, 1), None, "no such rank");
        }
        let mine = group.token(first[rank].as_ptr().cast(), 8).expect("the other block");
        assert!(mine < token && zero.resident(rank, mine, 8).is_some());
    }
    let own = [0_u8; 16];
    assert_eq!(zero.token(own.as_ptr(), 16), None, "not resident");
}

/// A bad rank 0 says that nobody holds a block in which this rank has its tensor, and offers its bytes anew.
#[test]
fn a_block_that_this_rank_holds_is_not_taken_from_under_it() {
    let mut groups: [Group; 2] = group();
    let (first, [_zero, mut one]) = allocate(&mut groups, 1000);
    one.fill(7);
    let lie = Offer { block: first.block + 1, offset: first.offset, retired: Some(first.block) };
    let said = groups[1].arena_mut().map(lie, 4000).expect_err("rank 1 holds it");
    assert!(matches!(said, Error::BadOffer { block } if block == first.block), "{said}");
    let lie = Offer { block: first.block, offset: 1 << 20, retired: None };
    let said = groups[1].arena_mut().map(lie, 4000).expect_err("the number is in use");
    assert!(matches!(said, Error::BadOffer { block } if block == first.block), "{said}");
    assert!(one.iter().all(|v| *v == 7));
    let token = groups[1].token(one.as_ptr().cast(), 4000);
    assert!(token.is_some_and(|t| groups[0].resident(1, t, 4000).is_some()), "it is resident as before");
    drop(one);
    let honest = Offer { block: first.block + 1, offset: first.offset, retired: Some(first.block) };
    groups[1].arena_mut().map(honest, 4000).expect("now nobody holds it");
}

#[test]
fn a_poisoned_tensor_is_refused_and_the_others_are_not() {
    let mut groups: [Group; 1] = group();
    let (_, [mut bad]) = allocate(&mut groups, 100);
    let (_, [mut good]) = allocate(&mut groups, 100);
    let start = bad[7..].as_ptr().addr();
    let own = [0_u32; 10];
    groups[0].poison(own.as_ptr().addr(), 40); // no tensor of the group
    assert!(!bad.is_poisoned() && !good.is_poisoned());
    groups[0].poison(start, 40);
    assert!(bad.is_poisoned() && !good.is_poisoned());
    let uses: [fn(&mut Tensor<u32>) -> u32; 2] = [|t| t[0], |t| std::mem::take(&mut t[0])];
    for used in uses {
        let said = catch_unwind(AssertUnwindSafe(|| used(&mut bad))).expect_err("it is poisoned");
        let said = said.downcast_ref::<&str>().expect("a sentence");
        assert!(said.contains("may still write to it; drop it"), "{said}");
        assert_eq!(used(&mut good), 0);
    }
    drop(bad);
    let (_, [anew]) = allocate(&mut groups, 100);
    assert!(!anew.is_poisoned() && anew.iter().all(|v| *v == 0));
}

#[test]
fn a_forked_child_has_no_part_in_its_parents_tensors() {
    // In a process of its own: a panic in a fork of a program with other threads may find a lock taken for ever.
    ended_well(rank(|| {
        let mut groups: [Group; 1] = group();
        let (first, [mut tensor]) = allocate(&mut groups, 100);
        tensor[0] = 7;
        in_a_fork(|| {
            let uses: [fn(&mut Tensor<u32>) -> u32; 2] = [|t| t[0], |t| std::mem::replace(&mut t[0], 9)];
            let refused = uses.map(|used| {
                let said = catch_unwind(AssertUnwindSafe(|| used(&mut tensor)));
                said.is_err_and(|e| e.downcast_ref::<&str>().is_some_and(|s| s.contains("forked child")))
            });
            // SAFETY: the parent's copy of the handle lives in the parent's memory; this one is dropped here once.
            drop(unsafe { std::ptr::read(&tensor) });
            refused == [true; 2]
        });
        let (second, _) = allocate(&mut groups, 100);
        assert_eq!(second.retired, None, "the child has not given up what its parent holds");
        assert_ne!(second.offset, first.offset);
        assert_eq!(tensor[0], 7);
        Ok(())
    }));
}

#[test]
fn memory_is_used_again_once_all_ranks_have_dropped_it_and_is_zero_then() {
    let mut groups: [Group; 2] = group();
    let (first, mut tensors) = allocate(&mut groups, 5000);
    tensors.iter_mut().for_each(|t| t.fill(u32::MAX));
    let [zero, one] = tensors;
    drop(zero);
    let (second, others) = allocate(&mut groups, 5000);
    assert_eq!(second.retired, None, "rank 1 still holds it");
    assert!(second.offset >= first.offset + 2 * 20480);
    assert!(one.iter().all(|v| *v == u32::MAX));
    drop(one);
    let (third, again) = allocate(&mut groups, 5000);
    assert_eq!((third.retired, third.offset), (Some(first.block), first.offset));
    assert_ne!(third.block, second.block);
    assert!(again.iter().flat_map(|t| t.iter()).all(|v| *v == 0));
    drop(others);
    assert!(again[1].iter().all(|v| *v == 0));
}

#[test]
fn a_tensor_outlives_its_group() {
    let mut groups: [Group; 2] = group();
    let (_, mut tensors) = allocate(&mut groups, 100);
    drop(groups);
    tensors[1].fill(9);
    assert!(tensors[1].iter().all(|v| *v == 9) && tensors[0].iter().all(|v| *v == 0));
}

#[test]
fn a_block_that_not_all_could_map_is_given_up() {
    let mut groups: [Group; 2] = group();
    let offer = groups[0].arena_mut().reserve(64).expect("there is memory");
    groups[0].arena_mut().map(offer, 64).expect("it can be mapped");
    groups[0].arena_mut().abandon(offer.block);
    groups[0].arena_mut().abandon(BLOCKS); // no such block: nothing to give up
    assert_eq!(groups[0].resident(0, 0, 1), None);
    let next = groups[0].arena_mut().reserve(64).expect("there is memory");
    assert_eq!((next.retired, next.offset), (Some(offer.block), offer.offset));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut groups: [Group; 2] = group();
    for bytes in [1 << 40, 1 << 62, usize::MAX / 2, usize::MAX] {
        let said = groups[0].arena_mut().reserve(bytes).expect_err("no arena is that long");
        assert!(matches!(said, Error::TooLong { bytes: b } if b == bytes as u64), "{bytes}: {said}");
        let offer = Offer { block: 0, offset: 0, retired: None };
        let said = groups[1].arena_mut().map(offer, bytes).expect_err("nor can it be mapped");
        assert!(matches!(said, Error::TooLong { .. } | Error::Truncated { .. }), "{bytes}: {said}");
    }
    let good = Offer { block: 0, offset: 0, retired: None };
    for (offer, block) in [
        (Offer { block: BLOCKS, ..good }, BLOCKS),
        (Offer { retired: Some(BLOCKS), ..good }, BLOCKS),
        (Offer { offset: u64::MAX, ..good }, 0),
        (Offer { offset: 8, ..good }, 0),
    ] {
        let said = groups[1].arena_mut().map(offer, 64).expect_err("there is none");
        assert!(matches!(said, Error::BadOffer { block: b } if b == block), "{offer:?}: {said}");
    }
    let said = groups[1].arena_mut().map(Offer { offset: 1 << 40, ..good }, 64).expect_err("behind the end");
    assert!(matches!(said, Error::Truncated { .. }), "{said}");
}

#[test]
fn a_blocks_tensor_is_handed_out_once_and_as_it_was_made() {
    let mut groups: [Group; 1] = group();
    let offer = groups[0].arena_mut().reserve(4096).expect("there is memory");
    groups[0].arena_mut().map(offer, 4096).expect("it can be mapped");
    let mut refused = |block: usize, len: usize| {
        // SAFETY: there is but one rank.
        let tensor = || unsafe { groups[0].arena_mut().tensor::<u32>(block, len) };
        catch_unwind(AssertUnwindSafe(tensor)).map(|t| t.len()).is_err()
    };
    assert!(refused(offer.block + 1, 1024), "not mapped");
    assert!(refused(offer.block, 1025), "another size");
    assert!(refused(offer.block, usize::MAX / 4 + 2), "a size that overflows to a small one");
    // SAFETY: there is but one rank.
    let tensor = unsafe { groups[0].arena_mut().tensor::<u32>(offer.block, 1024) };
    assert_eq!(tensor.len(), 1024);
    // SAFETY: as above.
    let again = || unsafe { groups[0].arena_mut().tensor::<u32>(offer.block, 1024) }.len();
    assert!(catch_unwind(AssertUnwindSafe(again)).is_err(), "two handles of the same bytes");
}

#[test]
fn all_blocks_can_be_used_and_used_again() {
    let mut groups: [Group; 1] = group();
    let mut tensors: Vec<_> = (0..BLOCKS).map(|_| allocate(&mut groups, 1)).collect();
    let said = groups[0].arena_mut().reserve(4).expect_err("all are in use");
    assert!(matches!(said, Error::TooManyTensors { limit: BLOCKS }), "{said}");
    let (dropped, _) = tensors.swap_remove(500);
    let (offer, _fresh) = allocate(&mut groups, 1);
    assert_eq!((offer.block, offer.retired), (dropped.block, Some(dropped.block)), "the only free one");
    let said = groups[0].arena_mut().reserve(4).expect_err("all are in use again");
    assert!(matches!(said, Error::TooManyTensors { limit: BLOCKS }), "{said}");
}
