//! Buffers: alone, shared, open; by descriptor through rings, threads and processes; refusals.
#![allow(missing_docs)]

mod common;

use common::rings::{ended_well, rank, text};
use common::{Forget, name, until};
use sapwood_core::view::View;
use sapwood_shm::bufs::{
    AdoptError, AllocError, Contents, Descriptor, IN_FLIGHT, Pool, ShareError, Stats, Use,
};
use sapwood_shm::ring::mpmc::{self, Ring};
use sapwood_shm::ring::{PopError, PushError};

fn used(pool: &Pool) -> (u32, u32) {
    let Stats { held, in_flight, .. } = pool.stats();
    (held, in_flight)
}

fn pair(blocks: usize, bytes: usize) -> (Pool, Pool) {
    let mut pools = Pool::threads(blocks, bytes, 2).expect("there is memory");
    let second = pools.pop().expect("two");
    (pools.pop().expect("two"), second)
}

fn take(ring: &mut Ring<Descriptor>, pool: &Pool) -> sapwood_shm::bufs::SharedBuf<f32> {
    let mut got = None;
    until("a descriptor comes", || match ring.try_pop_with(|d| pool.adopt::<f32>(d)) {
        Ok(adopted) => {
            got = Some(adopted.expect("it is good"));
            true
        }
        Err(e) => {
            assert!(matches!(e, PopError::Empty | PopError::Busy { .. }), "{e}");
            false
        }
    });
    got.expect("it came")
}

fn give(ring: &mut Ring<Descriptor>, descriptor: Descriptor) {
    until("there is room", || match ring.try_push(descriptor) {
        Ok(()) => true,
        Err(e) => {
            assert!(matches!(e, PushError::Full(_) | PushError::Busy { .. }), "{e}");
            false
        }
    });
}

#[test]
fn the_last_holder_frees_it() {
    let (ours, theirs) = pair(1, 4096);
    let mut buf = ours.alloc::<u32>(1000).expect("one is free");
    buf.iter_mut().zip(0..).for_each(|(v, i)| *v = i);
    let said = theirs.alloc::<u8>(1).expect_err("there is one only");
    assert_eq!(said, AllocError::Exhausted { blocks: 1, bytes: 4096, held: 1, in_flight: 0 });
    let shared = buf.into_shared();
    let again = shared.try_clone().expect("it is ours");
    let descriptor = shared.share().expect("there is a place");
    assert_eq!(used(&ours), (1, 1));
    let received = theirs.adopt::<u32>(descriptor).expect("it is on its way");
    assert_eq!(used(&theirs), (1, 0));
    assert_eq!(shared.as_ptr(), again.as_ptr());
    assert!(received.iter().zip(0..).all(|(v, i)| *v == i) && received.len() == 1000);
    drop((shared, again));
    assert_eq!(used(&ours), (1, 0));
    let received = received.into_unique().expect("it has the buffer alone");
    assert_eq!(received[999], 999);
    drop(received);
    assert_eq!(used(&ours), (0, 0));
}

#[test]
fn who_has_it_alone_writes_and_nobody_else() {
    let (ours, theirs) = pair(2, 256);
    let mut shared = ours.alloc::<u64>(8).expect("one is free").into_shared();
    shared.get_mut().expect("nobody else has it").fill(1);
    let clone = shared.try_clone().expect("it is ours");
    assert!(shared.get_mut().is_none(), "there is a clone");
    let shared = shared.into_unique().expect_err("the same");
    drop(clone);
    let descriptor = shared.share().expect("a place");
    let shared = shared.into_unique().expect_err("one is on its way");
    let mut other = theirs.adopt::<u64>(descriptor).expect("it is on its way");
    let shared = shared.into_unique().expect_err("another holds it");
    assert!(other.get_mut().is_none());
    drop(shared);
    other.get_mut().expect("it is alone").fill(2);
    assert!(other.iter().all(|v| *v == 2));
}

/// WQ-2, MAP-9: a tensor goes by reference, and what the worker writes is there for who sent it; also where the
/// descriptor is a part of a larger message.
#[test]
fn wq_2_map_9_the_workers_fill_is_seen_by_the_owner() {
    let (ours, theirs) = pair(4, 4096);
    let grid = ours.alloc::<f32>(1000).expect("one is free").into_open();
    grid.fill(0.0);
    // A message that has other things too, as bytes.
    let message = (7_u8, "sum".to_owned(), vec![Some(grid.share().expect("a place"))]);
    let message = postcard::to_allocvec(&message).expect("it can be encoded");
    let worker = std::thread::spawn(move || {
        let (_, _, descriptors): (u8, String, Vec<Option<Descriptor>>) =
            postcard::from_bytes(&message).expect("it can be decoded");
        let grid = theirs.adopt_open::<f32>(descriptors[0].expect("one")).expect("it is on its way");
        assert_eq!(grid.get(3), 0.0);
        grid.write(0, &[1.5; 1000]);
        grid.set(999, 2.5);
    });
    worker.join().expect("it ends well");
    assert_eq!((grid.get(0), grid.get(998), grid.get(999), grid.len()), (1.5, 1.5, 2.5, 1000));
    let alone = grid.into_unique().expect("the worker has let go");
    assert_eq!(alone.iter().filter(|v| **v == 1.5).count(), 999);
    let view = View::dense(&alone, &[10, 100]);
    assert!(view.is_ok_and(|view| view.bytes() == 4000));
}

#[test]
fn wide_values_are_so_many_words() {
    let pool = Pool::create(1, 4096, 1).expect("there is memory");
    let open = pool.alloc::<[u64; 3]>(10).expect("one is free").into_open();
    open.fill([1, 2, 3]);
    open.set(4, [u64::MAX, 0, 1 << 40]);
    assert_eq!((open.get(3), open.get(4), open.get(5)), ([1, 2, 3], [u64::MAX, 0, 1 << 40], [1, 2, 3]));
    assert_eq!(open.to_vec().len(), 10);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| open.get(10)));
    assert!(caught.is_err(), "there is no value 10");
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| open.write(8, &[[0; 3]; 3])));
    assert!(caught.is_err(), "there are two from 8 on");
}

#[test]
fn as_many_descriptors_as_there_can_be() {
    let (ours, theirs) = pair(1, 64);
    let buf = ours.alloc::<u8>(64).expect("one is free").into_shared();
    let sent: Vec<_> = (0..IN_FLIGHT).map(|_| buf.share().expect("a place")).collect();
    assert_eq!(buf.share(), Err(ShareError::TooMany { most: IN_FLIGHT }));
    let kept = buf.into_descriptor().expect_err("no place");
    assert_eq!(kept.error, ShareError::TooMany { most: IN_FLIGHT });
    drop(kept.buf);
    let adopted: Vec<_> = sent.iter().map(|d| theirs.adopt::<u8>(*d).expect("it is on its way")).collect();
    assert_eq!(adopted.len(), IN_FLIGHT);
    for d in sent {
        assert!(matches!(theirs.adopt::<u8>(d), Err(AdoptError::Void { block: 0, .. })), "adopted once");
    }
    drop(adopted);
    assert_eq!(used(&ours), (0, 0));
}

#[test]
fn what_it_holds_must_be_what_is_asked_for() {
    let (ours, theirs) = pair(1, 64);
    let buf = ours.alloc::<f32>(4).expect("one is free").into_shared();
    let Err(AdoptError::Other { found, expected, descriptor }) =
        theirs.adopt::<f64>(buf.share().expect("a place"))
    else {
        panic!("other values")
    };
    assert_eq!(found, Contents { how: Use::Still, size: 4, align: 4, len: 4 });
    assert_eq!((expected.size, expected.align), (8, 8));
    let said = theirs.adopt_open::<f32>(descriptor.expect("there was a place")).expect_err("it is still");
    assert_eq!(
        said.to_string(),
        "the buffer holds 4 values of 4 bytes, aligned to 4, to be read, not 0 values of 4 bytes, aligned to 4, to be \
         read and written"
    );
    let AdoptError::Other { descriptor: Some(descriptor), .. } = said else { panic!("{said}") };
    assert_eq!(theirs.adopt::<u32>(descriptor).expect("as wide, and as aligned").len(), 4);
    let too_long = ours.alloc::<u64>(9).expect_err("eight fit");
    assert_eq!(too_long, AllocError::TooLong { len: 9, need: 72, most: 64 });
    assert!(matches!(ours.alloc::<u64>(usize::MAX), Err(AllocError::TooLong { .. })));
    let other = Pool::create(1, 64, 1).expect("there is memory");
    let said = other.adopt::<f32>(buf.share().expect("a place")).expect_err("of another pool");
    assert!(matches!(said, AdoptError::OtherPool { block: 0, .. }), "{said}");
}

#[test]
fn what_is_lost_is_recalled_by_its_sender_or_by_others_once_it_has_left() {
    let (ours, theirs) = pair(2, 64);
    let lost = ours.alloc::<u8>(1).expect("one is free").into_descriptor().expect("a place");
    assert_eq!((used(&ours), theirs.recall(), theirs.void_left()), ((0, 1), 0, 0));
    assert_eq!((ours.recall(), used(&ours)), (1, (0, 0)));
    assert!(theirs.adopt::<u8>(lost).is_err());
    let kept = ours.alloc::<u8>(2).expect("one is free").into_shared();
    let (sent, lost) = (kept.share().expect("a place"), kept.share().expect("a place"));
    drop(kept);
    drop(ours);
    // It has left in order: a newcomer on its seat leaves what it has sent.
    let newcomer = theirs.try_clone().expect("a seat is free");
    assert_eq!((newcomer.seat(), used(&newcomer)), (0, (0, 2)));
    assert_eq!(theirs.adopt::<u8>(sent).expect("it stands").len(), 2);
    assert_eq!((theirs.void_left(), used(&theirs)), (1, (0, 0)));
    assert!(matches!(newcomer.adopt::<u8>(lost), Err(AdoptError::Void { .. })));
}

#[test]
fn a_pool_of_another_shape_is_told() {
    let name = name("shape");
    let _forget = Forget::name(&name);
    let pool = Pool::open(&name, 3, 100, 2).expect("there is memory");
    assert_eq!((pool.bytes(), pool.stats().blocks), (128, 3));
    let said = Pool::open(&name, 3, 200, 2).expect_err("other buffers").to_string();
    assert_eq!(said, "the segment holds 3 buffers of 128 bytes, this program expects 3 buffers of 256 bytes");
    let said = Pool::open(&name, 3, 100, 3).expect_err("other participants").to_string();
    assert!(said.contains("2 participants"), "{said}");
    let second = Pool::open(&name, 3, 100, 2).expect("a seat is free");
    let said = Pool::open(&name, 3, 100, 2).expect_err("no seat");
    assert!(matches!(said, sapwood_shm::Error::NoSeat { seats: 2 }), "{said}");
    assert_eq!(second.seat(), 1);
    assert!(matches!(Pool::create(1, 1, 33), Err(sapwood_shm::Error::Participants { asked: 33, most: 32 })));
    assert!(Pool::create(0, 1, 1).is_err() && Pool::create(1, 0, 1).is_err());
}

#[test]
fn a_forked_child_holds_nothing() {
    let (ours, theirs) = pair(2, 64);
    let buf = ours.alloc::<u8>(4).expect("one is free").into_shared();
    let descriptor = buf.share().expect("a place");
    // SAFETY: the child makes no call that needs another thread, and ends at once.
    match unsafe { nix::unistd::fork() }.expect("it can fork") {
        nix::unistd::ForkResult::Child => {
            let refused = ours.alloc::<u8>(1).is_err_and(|e| e == AllocError::Forked)
                && buf.share() == Err(ShareError::Forked)
                && matches!(theirs.adopt::<u8>(descriptor), Err(AdoptError::Forked))
                && buf.is_empty()
                && ours.recall() == 0;
            drop((buf, ours, theirs));
            // SAFETY: ends the child.
            unsafe { libc::_exit(i32::from(!refused)) };
        }
        nix::unistd::ForkResult::Parent { child } => {
            let ended = nix::sys::wait::waitpid(child, None).expect("it ends");
            assert_eq!(ended, nix::sys::wait::WaitStatus::Exited(child, 0));
        }
    }
    assert_eq!(used(&ours), (1, 1), "what the child dropped is the parent's");
    assert_eq!(theirs.adopt::<u8>(descriptor).expect("it is on its way").len(), 4);
}

/// CH-7: what is sent by reference is used by the receiver, here of another process, which sends it back.
#[test]
fn ch_7_map_9_a_tensor_goes_to_another_process_and_back() {
    let (pool_name, there, back) = (name("pool"), name("there"), name("back"));
    let open = || Pool::open(&pool_name, 4, 1 << 16, 2).map_err(text);
    let ring = |name: &str| Ring::<Descriptor>::open(name, 8, 2).map_err(text);
    let running = rank(|| {
        let (pool, mut rx, mut tx) = (open()?, ring(&there)?, ring(&back)?);
        for _ in 0..100 {
            let mut tensor = take(&mut rx, &pool).into_unique().map_err(|_| "it was handed over whole")?;
            tensor.iter_mut().for_each(|v| *v += 1.0);
            give(&mut tx, tensor.into_descriptor().map_err(text)?);
        }
        Ok(())
    });
    let _forget = [Forget::name(&pool_name), Forget::name(&there), Forget::name(&back)];
    let (pool, mut tx, mut rx) =
        (open().expect("a seat"), ring(&there).expect("a seat"), ring(&back).expect("one"));
    let mut tensor = pool.alloc::<f32>(1 << 14).expect("one is free");
    tensor.fill(0.0);
    let address = tensor.as_ptr();
    for _ in 0..100 {
        give(&mut tx, tensor.into_descriptor().expect("a place"));
        tensor = take(&mut rx, &pool).into_unique().expect("it was handed over whole");
    }
    assert!(tensor.iter().all(|v| *v == 100.0) && tensor.as_ptr() == address);
    drop(tensor);
    ended_well(running);
    assert_eq!(used(&pool), (0, 0));
}

/// Eight threads hand sixteen buffers around, share and drop them; each carries what its writer wrote.
#[test]
fn many_threads_hand_buffers_around() {
    const THREADS: u64 = 8;
    let pools = Pool::threads(16, 256, THREADS as usize + 1).expect("there is memory");
    let mut rings = mpmc::threads::<Descriptor>(64, THREADS as usize).expect("a power of two");
    let mut pools = pools.into_iter();
    let watcher = pools.next().expect("one more");
    let threads: Vec<_> = pools
        .enumerate()
        .map(|(me, pool)| {
            let mut ring = rings.pop().expect("one each");
            std::thread::spawn(move || {
                let (mut made, mut got) = (0_u64, 0_u64);
                let mut keep = Vec::new();
                for turn in 0..4000_u64 {
                    if let Ok(mut buf) = pool.alloc::<u64>(32) {
                        buf.fill((me as u64) << 32 | turn);
                        made += 1;
                        let buf = buf.into_shared();
                        // Two readers, and now and then we keep it too.
                        let sent = [buf.share(), buf.share()];
                        for d in sent.into_iter().flatten() {
                            if let Err(e) = ring.try_push(d) {
                                drop(pool.adopt::<u64>(e.into_inner()).expect("ours, and not sent"));
                            }
                        }
                        if turn % 3 == 0 {
                            keep.push(buf);
                        }
                    }
                    if let Ok(adopted) = ring.try_pop_with(|d| pool.adopt::<u64>(d)) {
                        let buf = adopted.expect("it is on its way");
                        assert!(buf.iter().all(|v| *v == buf[0]), "torn: {:?}", &buf[..]);
                        got += 1;
                    }
                    if keep.len() > 1 {
                        keep.clear();
                    }
                }
                (made, got, ring)
            })
        })
        .collect();
    let ended: Vec<_> = threads.into_iter().map(|t| t.join().expect("it ends well")).collect();
    let (made, got): (u64, u64) = (ended.iter().map(|e| e.0).sum(), ended.iter().map(|e| e.1).sum());
    println!("{made} buffers, {got} adopted");
    assert!(made > 1000 && got > 1000);
    // What is left in the ring has been sent by those who have left, and stands.
    let (_, _, mut ring) = ended.into_iter().next_back().expect("one");
    until("the ring is empty", || match ring.try_pop_with(|d| watcher.adopt::<u64>(d)) {
        Ok(adopted) => {
            assert_eq!(adopted.expect("it stands").len(), 32);
            false
        }
        Err(e) => e == PopError::Empty,
    });
    assert_eq!(used(&watcher), (0, 0));
}
