//! A push or a pop that succeeds allocates nothing and makes no system call.
//!
//! # Safety
//! The counter hands everything on to the system's allocator. A forked child, which has one thread, makes its rings,
//! counts what it allocates, and forbids itself every system call but the one that ends it: the kernel holds it to that
//! with SIGSYS.
#![allow(unsafe_code)]
#![allow(clippy::disallowed_types)] // the counter is this test's own

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use sapwood_core::link::{Deadline, Link, Source};
use sapwood_shm::bufs::{Descriptor, Pool};
use sapwood_shm::channel::{Channel, FrameChannel, RecvError, SendError};
use sapwood_shm::mutex::Mutex;
use sapwood_shm::ring::{PopError, PushError, frames, jobs, latest, mpmc, spsc, stream};

use sapwood_shm::map::{MapError, SharedMap};

use sapwood_shm::queue::{Outcome, WorkQueue};

use sapwood_shm::{Segment, link};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as asked.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: as asked.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// From here on every system call but the end ends this process with SIGSYS.
fn forbid_system_calls() {
    let jump =
        |code: u32, k: u32, yes: u8, no: u8| libc::sock_filter { code: code as u16, jt: yes, jf: no, k };
    let mut program = [
        // The number of the call is the first word that a filter is shown.
        jump(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        jump(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_exit_group as u32, 0, 1),
        jump(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
        jump(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_KILL_PROCESS, 0, 0),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: takes numbers, and a program that lives through the call.
    let set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    assert!(set, "seccomp: {}", std::io::Error::last_os_error());
}

/// Runs `make` and then what it returns in a child: that part without system calls. The child's last word is whether
/// it allocated.
fn child<F: FnMut()>(make: impl FnOnce() -> F) -> WaitStatus {
    // SAFETY: the child is one thread with a copy of everything; glibc keeps its allocator usable there.
    match unsafe { libc::fork() } {
        0 => {
            let mut quiet = make();
            // Once for the pages and the first look of everything.
            quiet();
            forbid_system_calls();
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            (0..1000).for_each(|_| quiet());
            let made = ALLOCATIONS.load(Ordering::Relaxed) - before;
            // SAFETY: ends this process at once.
            unsafe { libc::syscall(libc::SYS_exit_group, i32::from(made != 0)) };
            unreachable!("it has ended")
        }
        pid => waitpid(Pid::from_raw(pid), None).expect("a child of ours"),
    }
}

fn is_quiet<F: FnMut()>(what: &str, make: impl FnOnce() -> F) {
    match child(make) {
        WaitStatus::Exited(_, 0) => {}
        WaitStatus::Exited(_, 1) => panic!("{what}: it allocates"),
        WaitStatus::Signaled(_, Signal::SIGSYS, _) => panic!("{what}: it makes a system call"),
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn the_trap_works() {
    let called = child(|| {
        let mut turn = 0;
        move || {
            turn += 1;
            if turn == 500 {
                // SAFETY: takes nothing.
                unsafe { libc::syscall(libc::SYS_getppid) };
            }
        }
    });
    assert!(matches!(called, WaitStatus::Signaled(_, Signal::SIGSYS, _)), "{called:?}");
    let allocated = child(|| || drop(std::hint::black_box(Box::new(1))));
    assert!(matches!(allocated, WaitStatus::Exited(_, 1)), "{allocated:?}");
}

/// Through a lap and more.
fn turn(tx: &mut spsc::Producer<u64>, rx: &mut spsc::Consumer<u64>) {
    let mut some = [0; 8];
    for i in 0..8 {
        assert_eq!(tx.try_push(i), Ok(()));
    }
    for i in 0..8 {
        assert_eq!(rx.try_pop(), Ok(i));
    }
    assert_eq!((tx.push_slice(&[1, 2, 3, 4, 5]), rx.pop_slice(&mut some)), (Ok(5), Ok(5)));
}

#[test]
fn a_ring_of_two_is_quiet() {
    is_quiet("between threads", || {
        let (mut tx, mut rx) = spsc::pair(8).expect("memory");
        move || {
            turn(&mut tx, &mut rx);
            // A thread does not die alone, so nobody asks about it, however often there is nothing.
            assert_eq!(rx.try_pop(), Err(PopError::Empty));
            assert_eq!(tx.push_slice(&[0; 9]), Ok(8));
            assert_eq!(tx.try_push(8), Err(PushError::Full(8)));
            assert_eq!(rx.pop_slice(&mut [1; 8]), Ok(8));
        }
    });
    is_quiet("between processes", || {
        let mut tx = spsc::Producer::create(8).expect("memory");
        let mut rx = spsc::Consumer::attach(tx.segment().expect("in one"), 8).expect("seat 1 is free");
        move || turn(&mut tx, &mut rx)
    });
}

#[test]
fn a_ring_of_many_is_quiet() {
    is_quiet("between processes", || {
        let mut a = mpmc::Ring::<u64>::create(8, 2).expect("memory");
        let mut b = mpmc::Ring::<u64>::attach(a.segment().expect("in one"), 8).expect("a seat is free");
        move || {
            for i in 0..8 {
                assert_eq!(if i % 2 == 0 { a.try_push(i) } else { b.try_push(i) }, Ok(()));
            }
            assert_eq!(a.try_push(8), Err(PushError::Full(8)));
            for i in 0..8 {
                assert_eq!(if i < 4 { a.try_pop() } else { b.try_pop() }, Ok(i));
            }
            assert_eq!(a.try_pop(), Err(PopError::Empty));
        }
    });
}

/// Sends and receives in every way, with room for all.
fn talk(a: &mut Channel<u64>, b: &mut Channel<u64>, some: &mut Vec<u64>, slice: &mut [u64; 4]) {
    for i in 0..8 {
        assert_eq!(if i % 2 == 0 { a.send(i) } else { b.send(i) }, Ok(()));
    }
    assert!(matches!(a.try_send(8), Err(SendError::Full { .. })));
    for i in 0..8 {
        assert_eq!(if i < 4 { a.recv() } else { b.recv() }, Ok(i));
    }
    assert_eq!(a.try_recv(), Err(RecvError::Empty));
    assert_eq!((a.send_all(0..8), b.recv_batch(some, 4), b.recv_slice(slice)), (Ok(8), Ok(4), Ok(4)));
    some.clear();
}

#[test]
fn a_channel_is_quiet() {
    let talk_between = |mut a: Channel<u64>| {
        let mut b = a.try_clone().expect("a seat is free");
        let (mut some, mut slice) = (Vec::with_capacity(8), [0; 4]);
        move || talk(&mut a, &mut b, &mut some, &mut slice)
    };
    is_quiet("between threads", || talk_between(Channel::new(8).expect("memory")));
    is_quiet("between processes", || talk_between(Channel::create(8, 2).expect("memory")));
}

#[test]
fn a_channel_of_frames_is_quiet() {
    is_quiet("between processes", || {
        let mut a = FrameChannel::new(4, 256).expect("memory");
        let mut b = a.try_clone().expect("a seat is free");
        move || {
            for i in 0..4_u8 {
                let mut frame = a.loan().expect("one is free");
                frame[..100].fill(i);
                assert!(frame.send(100).is_ok());
            }
            for i in 0..4_u8 {
                assert_eq!(b.recv().expect("it is there")[..], [i; 100]);
            }
            b.send_value(&(1_u8, 2_u64)).expect("one is free");
            assert_eq!(a.recv_value::<(u8, u64)>().expect("it is there"), (1, 2));
        }
    });
}

#[test]
fn frames_are_quiet() {
    is_quiet("between processes", || {
        let mut tx = frames::Frames::create(4, 256, 2).expect("memory");
        let mut rx = frames::Frames::attach(tx.segment().expect("in one"), 4, 256).expect("a seat is free");
        move || {
            for i in 0..4 {
                let mut frame = tx.loan().expect("one is free");
                frame.fill(i);
                frame.send(100).expect("there is room");
            }
            for i in 0..4 {
                let message = rx.receive().expect("it is there");
                assert_eq!(message[..], [i; 100]);
            }
            drop(tx.loan().expect("one is free"));
            assert_eq!(rx.receive().err(), Some(PopError::Empty.into()));
        }
    });
}

#[test]
fn jobs_are_quiet() {
    is_quiet("between processes", || {
        let mut owner = jobs::Jobs::<u64, u64>::create(8, 2, 3).expect("memory");
        let mut worker = jobs::Jobs::attach(owner.segment().expect("in one"), 8, 3).expect("a seat is free");
        move || {
            for i in 0..8 {
                owner.submit(i).expect("there is room");
            }
            assert_eq!(owner.submit(8), Err(PushError::Full(8)));
            let declined = worker.take().expect("there is a job");
            worker.decline(declined).expect("it is held");
            for _ in 0..8 {
                let taken: jobs::Taken<u64> = worker.take().expect("there is a job");
                let answer = taken.job * 3;
                worker.finish(taken, answer).expect("it is held");
            }
            let sum = (0..8).filter_map(|_| owner.collect()).map(|c| match c.outcome {
                jobs::Outcome::Answer(answer) => answer,
                jobs::Outcome::Failed { .. } => 0,
            });
            assert_eq!(sum.sum::<u64>(), 84);
        }
    });
}

/// Allocated, shared, sent, adopted and dropped on both sides; one is handed over, written and dropped.
#[test]
fn a_buffer_is_quiet() {
    is_quiet("a buffer", || {
        let mut pools = Pool::threads(4, 4096, 2).expect("there is memory");
        let (theirs, ours) = (pools.pop().expect("two"), pools.pop().expect("two"));
        let mut rings = mpmc::threads::<Descriptor>(8, 2).expect("a power of two");
        let (mut rx, mut tx) = (rings.pop().expect("two"), rings.pop().expect("two"));
        move || {
            let mut buf = ours.alloc::<u64>(512).expect("one is free");
            buf.fill(7);
            let buf = buf.into_shared();
            assert!(tx.try_push(buf.share().expect("a place")).is_ok());
            let received =
                rx.try_pop_with(|d| theirs.adopt::<u64>(d)).expect("it was sent").expect("it is good");
            let clone = received.try_clone().expect("it is ours");
            drop((buf, received));
            let mut alone = clone.into_unique().expect("nobody else has it");
            alone[0] = 8;
            let open = alone.into_open();
            open.set(1, open.get(0));
            let descriptor = open.into_descriptor().expect("a place");
            assert_eq!(ours.adopt_open::<u64>(descriptor).expect("it is on its way").get(1), 8);
        }
    });
}

#[test]
fn a_stream_is_quiet() {
    is_quiet("between processes", || {
        let mut tx = stream::Writer::create(64).expect("memory");
        let mut rx = stream::Reader::attach(tx.segment().expect("in one"), 64).expect("seat 1 is free");
        let mut into = [0; 64];
        move || {
            assert_eq!((tx.write(&[&[1; 30], &[2; 20]]), rx.read(&mut into)), (Ok(50), Ok(50)));
        }
    });
}

#[test]
fn a_newest_value_is_quiet() {
    is_quiet("between processes", || {
        let mut writer = latest::Writer::<[u64; 20]>::create().expect("memory");
        let reader = latest::Reader::<[u64; 20]>::attach(writer.segment().expect("in one"));
        let (reader, mut i) = (reader.expect("a seat is free"), 0);
        move || {
            i += 1;
            assert_eq!((writer.publish(&[i; 20]), reader.read()), (Ok(i), Ok((i, [i; 20]))));
        }
    });
}

#[test]
fn a_link_is_quiet() {
    is_quiet("in a segment", || {
        let segment = Segment::create(&link::spec(4096).expect("a capacity")).expect("memory");
        let segment = Arc::new(segment);
        let end = |me| link::attach(&segment, 4096, me).expect("the seat is free");
        let (mut a, mut b, mut into) = (end(0), end(1), [0; 100]);
        move || {
            a.try_send(1, Source::Bytes(&[1; 100])).expect("there is room");
            let got = b.recv(&mut into, Deadline::NONE).expect("it is there");
            assert_eq!((got.tag, into), (1, [1; 100]));
        }
    });
}

#[test]
fn a_lock_that_nobody_else_wants_is_quiet() {
    for make in [|| Mutex::new(0_u64), || Mutex::create(0_u64, 2)] {
        is_quiet("taken and given back", move || {
            let (mut mutex, mut i) = (make().expect("memory"), 0);
            move || {
                i += 1;
                let mut guard = mutex.lock().expect("it is free");
                *guard += 1;
                assert_eq!(*guard, i);
            }
        });
    }
}

#[test]
fn maps_are_quiet() {
    let turn = |map: &mut SharedMap<[u8; 12], [u64; 3]>| {
        for i in 0..8 {
            assert_eq!(map.insert([i; 12], [1; 3]), Ok(None));
            assert_eq!(map.insert([i; 12], [2; 3]), Ok(Some([1; 3])));
            assert_eq!(map.update(&[i; 12], |v| v.map(|_| [3; 3])), Ok(Some([3; 3])));
            assert_eq!((map.get(&[i; 12]), map.get(&[99; 12])), (Ok(Some([3; 3])), Ok(None)));
        }
        assert_eq!(map.len(), 8);
        assert!(matches!(map.insert([8; 12], [0; 3]), Err(MapError::Full { .. })));
        (0..8).for_each(|i| assert_eq!(map.remove(&[i; 12]), Ok(Some([3; 3]))));
    };
    is_quiet("a map between threads", || {
        let mut map = SharedMap::new(8).expect("there is memory");
        move || turn(&mut map)
    });
    is_quiet("a map between processes", || {
        let mut map = SharedMap::create(8, 2).expect("there is memory");
        move || turn(&mut map)
    });
}

#[test]
fn a_workqueue_is_quiet() {
    is_quiet("between processes", || {
        let queue = WorkQueue::<[u64; 3], u64>::new(8).workers(2);
        let mut owner = queue.create().expect("memory");
        let mut worker = queue.attach(owner.segment().expect("in one")).expect("a seat is free");
        move || {
            let tickets: [_; 8] =
                std::array::from_fn(|i| owner.submit([i as u64; 3]).expect("there is room"));
            for i in 0..8 {
                let job = worker.take().expect("it waits");
                let sum = job.iter().sum();
                if i == 3 {
                    job.decline().expect("it is ours");
                    continue;
                }
                job.finish(sum).expect("it is ours");
            }
            worker.take().expect("it has come back").finish(9).expect("it is ours");
            for (i, ticket) in tickets.into_iter().enumerate() {
                let answer = owner.recv().expect("it is there");
                assert_eq!((answer.ticket, answer.outcome), (ticket, Outcome::Answer(3 * i as u64)));
            }
        }
    });
}
