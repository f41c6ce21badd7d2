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
use sapwood_shm::queue::{Outcome, WorkQueue};
use sapwood_shm::ring::{PopError, PushError, latest, mpmc, spsc, stream};
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
