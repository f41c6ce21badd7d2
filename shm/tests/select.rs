//! Waits for several things at once: channels between threads and between processes, frames, times; by sleeping, by a
//! descriptor, as futures.
//!
//! # Safety
//! A rank of its own forbids itself one system call, by a filter that lives through the call which installs it. A
//! forked child waits in its one thread, and ends without coming back.
#![allow(missing_docs)]
#![allow(unsafe_code)]

mod common;

use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use common::rings::*;
use common::*;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sapwood_core::wait::WaitPolicy;
use sapwood_shm::channel::{Channel, FrameChannel, RecvError, SendError, channel};
use sapwood_shm::select::{Readiness, Select, SelectError, Waits};
use sapwood_shm::{Processes, Running};

const MILLI: Duration = Duration::from_millis(1);

fn readable(readiness: &Readiness, limit: PollTimeout) -> bool {
    let mut fds = [PollFd::new(readiness.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, limit).expect("poll(2)") == 1
}

/// CH-12: select over channels, of both carriers and in both directions, and over time.
#[test]
fn ch_12_select_takes_what_is_ready_and_wakes_for_each() {
    let name = name("mix");
    let _forget = Forget::name(&name);
    for policy in [WaitPolicy::Sleep, WaitPolicy::Adaptive] {
        let mut words = channel::<String>(2).expect("memory");
        let mut far = Channel::<u64>::create(2, 3).expect("memory");
        let mut full = channel::<u8>(1).expect("memory");
        let mut frames = FrameChannel::new(2, 64).expect("memory");
        full.send(1).expect("there is room");
        // Or the wait would say that there is nobody to wait for.
        let _others = (words.try_clone(), far.try_clone(), full.try_clone(), frames.try_clone());
        let mut select = Select::new().waiting(policy);
        for turn in 0..8 {
            let there: Box<dyn FnOnce() + Send> = match turn % 4 {
                0 => {
                    let mut tx = words.try_clone().expect("a handle");
                    Box::new(move || tx.send("a word".to_owned()).expect("there is room"))
                }
                1 => {
                    let mut tx = far.try_clone().expect("a seat");
                    Box::new(move || tx.send(7).expect("there is room"))
                }
                2 => {
                    let mut rx = full.try_clone().expect("a handle");
                    Box::new(move || assert_eq!(rx.recv(), Ok(1)))
                }
                _ => {
                    let mut tx = frames.try_clone().expect("a seat");
                    Box::new(move || tx.send_value(&5_u32).expect("a frame is free"))
                }
            };
            // The doer is there before the wait begins: nobody else leaves or comes meanwhile.
            let (go, gone) = std::sync::mpsc::channel();
            let doer = thread::spawn(move || {
                gone.recv().expect("it is told");
                there();
            });
            let none = &mut [words.receiving(), far.receiving(), full.sending(), frames.receiving()];
            assert!(matches!(select.wait_timeout(none, MILLI), Err(SelectError::Timeout { things: 4, .. })));
            go.send(()).expect("it waits");
            let on = &mut [words.receiving(), far.receiving(), full.sending(), frames.receiving()];
            let found = select.wait_timeout(on, PATIENCE);
            assert_eq!(found, Ok(turn % 4), "{policy:?}");
            doer.join().expect("it has done it");
            match turn % 4 {
                0 => assert_eq!(words.try_recv().as_deref(), Ok("a word")),
                1 => assert_eq!(far.try_recv(), Ok(7)),
                2 => assert_eq!(full.try_send(1), Ok(())),
                _ => assert_eq!(frames.recv_value::<u32>().expect("it was sent"), 5),
            }
        }
    }
}

#[test]
fn the_end_of_a_channel_is_something_to_select() {
    let (mut a, mut b) = (channel::<u8>(1).expect("memory"), channel::<u8>(1).expect("memory"));
    b.send(1).expect("there is room");
    let _other = b.try_clone().expect("a handle");
    let mut closer = a.try_clone().expect("a handle");
    let closing = thread::spawn(move || closer.close());
    let mut select = Select::new();
    assert_eq!(select.wait_timeout(&mut [a.receiving(), b.sending()], PATIENCE), Ok(0));
    closing.join().expect("it closed");
    assert_eq!(a.try_recv(), Err(RecvError::Drained));
    assert_eq!(select.poll(&mut [b.sending()]), None, "it is full");
    b.close();
    assert_eq!(select.poll(&mut [b.sending()]), Some(0));
    assert_eq!(b.try_send(2), Err(SendError::Closed { value: 2 }));
}

#[test]
fn what_a_select_has_learnt_is_told_by_the_next_call_unless_it_is_out_of_date() {
    let alone = |said: &Result<u64, RecvError>| matches!(said, Err(RecvError::Alone { gone: 1, .. }));
    let mut select = Select::new();
    let mut a = Channel::<u64>::create(1, 2).expect("memory").with_deadline(PATIENCE);
    drop(a.try_clone().expect("a seat is free"));
    assert_eq!(select.wait_timeout(&mut [a.receiving()], PATIENCE), Ok(0));
    let said = a.recv();
    assert!(alone(&said), "a call that waits: {said:?}");
    drop(a.try_clone().expect("a seat is free"));
    assert_eq!(select.wait_timeout(&mut [a.receiving()], PATIENCE), Ok(0));
    let mut late = a.try_clone().expect("a seat is free");
    late.send(1).expect("room");
    assert_eq!((a.recv(), a.try_recv()), (Ok(1), Err(RecvError::Empty)), "somebody is there again");
    drop(late);
    a.send(2).expect("room");
    assert_eq!(select.wait_timeout(&mut [a.sending()], PATIENCE), Ok(0));
    assert!(matches!(a.send(3), Err(SendError::Alone { gone: 1, value: 3, .. })));

    let mut a = FrameChannel::new(1, 64).expect("memory").with_deadline(PATIENCE);
    drop(a.try_clone().expect("a seat is free"));
    assert_eq!(select.wait_timeout(&mut [a.receiving()], PATIENCE), Ok(0));
    assert!(matches!(a.recv().map(drop), Err(RecvError::Alone { gone: 1, .. })));
    a.send_value(&1_u8).expect("the frame is free");
    assert_eq!(select.wait_timeout(&mut [a.sending()], PATIENCE), Ok(0));
    assert!(matches!(a.loan().map(drop), Err(SendError::Alone { gone: 1, .. })));
}

#[test]
fn a_forked_child_does_not_wait_for_an_end_that_it_does_not_hold() {
    let mut queue = channel::<u8>(1).expect("memory");
    let mut frames = FrameChannel::new(1, 64).expect("memory");
    frames.send_value(&1_u8).expect("the frame is free");
    // SAFETY: the child looks, and ends without unwinding or coming back.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let mut select = Select::new();
        let fine = select.poll(&mut [queue.receiving()]) == Some(0)
            && queue.try_recv() == Err(RecvError::Forked)
            && select.poll(&mut [frames.sending()]) == Some(0)
            && matches!(frames.try_loan().map(drop), Err(SendError::Forked { value: () }));
        // SAFETY: ends this process at once.
        unsafe { libc::_exit(i32::from(!fine)) };
    }
    let ended = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).expect("a child of ours");
    assert!(matches!(ended, nix::sys::wait::WaitStatus::Exited(_, 0)), "{ended:?}");
}

#[test]
fn ten_threads_that_select_get_every_message_once() {
    let channels: Vec<Channel<u64>> = (0..4).map(|_| channel(8).expect("memory")).collect();
    let twins = || channels.iter().map(|c| c.try_clone().expect("a handle")).collect::<Vec<_>>();
    let total: u64 = thread::scope(|scope| {
        let readers: Vec<_> = (0..10)
            .map(|_| {
                let mut mine = twins();
                scope.spawn(move || {
                    let (mut select, mut sum) = (Select::new(), 0);
                    while !mine.is_empty() {
                        let mut on: Vec<_> = mine.iter_mut().map(Channel::receiving).collect();
                        let found =
                            select.wait_timeout(&mut on, PATIENCE).expect("all are closed in the end");
                        match mine[found].try_recv() {
                            Ok(value) => sum += value,
                            Err(RecvError::Drained) => drop(mine.remove(found)),
                            // Another was faster.
                            Err(RecvError::Empty | RecvError::Busy { .. }) => {}
                            Err(e) => panic!("{e}"),
                        }
                    }
                    sum
                })
            })
            .collect();
        let writers: Vec<_> = twins()
            .into_iter()
            .map(|mut tx| {
                scope.spawn(move || {
                    (1..=2000).for_each(|v| tx.send(v).expect("there are readers"));
                    tx.close();
                })
            })
            .collect();
        writers.into_iter().for_each(|w| w.join().expect("no panic"));
        readers.into_iter().map(|r| r.join().expect("no panic")).sum()
    });
    assert_eq!(total, 4 * 2000 * 2001 / 2);
}

/// A rank that opens the channel `name`, does `then` with it, and waits for its end.
fn companion(name: &str, then: impl FnOnce(&mut Channel<u64>) -> Result<(), String>) -> Running {
    rank(|| {
        let mut mine = Channel::open(name, 4, 3).map_err(text)?;
        then(&mut mine)?;
        wait_to_be_ended()
    })
}

#[test]
fn a_select_over_processes_learns_that_all_are_killed() {
    let name = name("killed");
    let running = companion(&name, |mine| mine.send(1).map_err(text));
    let _forget = Forget::name(&name);
    let mut far = Channel::<u64>::open(&name, 4, 3).expect("a seat");
    let mut never = channel::<u8>(1).expect("memory");
    let keep = never.try_clone().expect("a handle");
    let mut select = Select::new();
    let mut wait = |far: &mut Channel<u64>, never: &mut Channel<u8>| {
        select.wait_timeout(&mut [never.receiving(), far.receiving()], PATIENCE)
    };
    assert_eq!(wait(&mut far, &mut never), Ok(1));
    assert_eq!(far.try_recv(), Ok(1));
    kill(&running, 0);
    assert_eq!(wait(&mut far, &mut never), Ok(1));
    let said = far.try_recv();
    let pid = running.pids()[0];
    assert!(
        matches!(said, Err(RecvError::Alone { gone: 1, peer: Some(peer) }) if peer.pid == pid),
        "{said:?}"
    );
    // Told once: now it waits for a newcomer.
    assert_eq!(far.try_recv(), Err(RecvError::Empty));
    let waited = select.wait_timeout(&mut [far.receiving()], 2 * MILLI);
    assert!(matches!(waited, Err(SelectError::Timeout { .. })), "{waited:?}");
    drop(keep);
}

#[test]
fn poll_waits_for_threads_and_for_processes() {
    let (asks, answers) = (name("asks"), name("answers"));
    let open = |name: &str| Channel::<u64>::open(name, 4, 3).map_err(text);
    let running = rank(|| {
        let (mut asks, mut answers) = (open(&asks)?, open(&answers)?);
        let asked = asks.recv_timeout(PATIENCE).map_err(text)?;
        answers.send(asked + 1).map_err(text)
    });
    let _forget = [Forget::name(&asks), Forget::name(&answers)];
    let (mut asks, mut answers) = (open(&asks).expect("a seat"), open(&answers).expect("a seat"));
    let mut near = channel::<u8>(1).expect("memory");
    let mut tx = near.try_clone().expect("a handle");
    let mut readiness = Readiness::new().expect("a descriptor");

    assert!(!readiness.arm(&mut [near.receiving()]).expect("a watcher"));
    assert!(!readable(&readiness, PollTimeout::ZERO));
    let sender = thread::spawn(move || tx.send(1).map(|()| tx));
    assert!(readable(&readiness, PollTimeout::from(20_000u16)));
    assert_eq!(near.try_recv(), Ok(1));
    let _keep = sender.join().expect("no panic").expect("there was room");

    asks.send(41).expect("there is room");
    let mut answer = Err(RecvError::Empty);
    until("the rank answers", || {
        answer = answers.try_recv();
        if answer.is_err() && !readiness.arm(&mut [answers.receiving()]).expect("a watcher") {
            assert!(readable(&readiness, PollTimeout::from(20_000u16)));
        }
        answer.is_ok()
    });
    assert_eq!(answer, Ok(42));
    ended_well(running);
}

#[test]
fn futures_run_under_tokio_and_without_a_runtime() {
    let mut requests = channel::<u32>(2).expect("memory");
    let mut replies = Channel::<u64>::create(2, 4).expect("memory");
    let (mut rx, mut tx) = (requests.try_clone().expect("a handle"), replies.try_clone().expect("a seat"));
    let server = thread::spawn(move || {
        pollster::block_on(async {
            while let Ok(n) = rx.recv_async().await {
                tx.send_async(u64::from(n) * 2).await.expect("the client reads");
            }
            tx.close();
        });
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let sum = runtime.block_on(async move {
        let asks = tokio::spawn(async move {
            for n in 0..200 {
                requests.send_async(n).await.expect("the server reads");
            }
            requests.close();
        });
        let hears = tokio::spawn(async move {
            let mut sum = 0;
            while let Ok(reply) = replies.recv_async().await {
                sum += reply;
            }
            (sum, replies.recv_async().await)
        });
        asks.await.expect("no panic");
        tokio::time::timeout(PATIENCE, hears).await.expect("in time").expect("no panic")
    });
    assert_eq!(sum, (199 * 200, Err(RecvError::Drained)));
    server.join().expect("no panic");
}

#[test]
fn a_future_that_is_dropped_takes_nothing_along() {
    let mut rx = channel::<u8>(1).expect("memory");
    let mut tx = rx.try_clone().expect("a handle");
    pollster::block_on(async {
        let mut early = Box::pin(rx.recv_async());
        let polled = std::future::poll_fn(|context| std::task::Poll::Ready(early.as_mut().poll(context)));
        assert!(polled.await.is_pending());
    });
    tx.send(9).expect("there is room");
    assert_eq!(pollster::block_on(rx.recv_async()), Ok(9));
}

/// Another thread may be in the middle of a wait when a process forks: its child waits all the same.
#[test]
fn a_forked_child_can_wait_whatever_its_parents_threads_were_doing() {
    // In a rank of its own, which has no other threads than these.
    let running = rank(|| {
        let over = std::sync::Arc::new(std::sync::OnceLock::new());
        let seen = over.clone();
        let busy = thread::spawn(move || {
            while seen.get().is_none() {
                let mut rx = channel::<u8>(1).expect("memory");
                let _other = rx.try_clone().expect("a handle");
                let mut on = [rx.receiving()];
                let mut wait = Box::pin(sapwood_shm::select::ready(&mut on));
                let noop = std::task::Waker::noop();
                assert!(wait.as_mut().poll(&mut std::task::Context::from_waker(noop)).is_pending());
            }
        });
        for _ in 0..200 {
            // SAFETY: the child waits, and ends without unwinding or coming back.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                let found = pollster::block_on(sapwood_shm::select::ready(&mut [Waits::after(MILLI / 10)]));
                // SAFETY: ends this process at once.
                unsafe { libc::_exit(i32::from(found != Ok(0))) };
            }
            let pid = nix::unistd::Pid::from_raw(pid);
            let mut status = nix::sys::wait::WaitStatus::StillAlive;
            until("the child has waited", || {
                status =
                    nix::sys::wait::waitpid(pid, Some(nix::sys::wait::WaitPidFlag::WNOHANG)).expect("ours");
                status != nix::sys::wait::WaitStatus::StillAlive
            });
            assert_eq!(status, nix::sys::wait::WaitStatus::Exited(pid, 0));
        }
        over.set(()).map_err(|()| "it was not over".to_owned())?;
        busy.join().map_err(|_| "the other thread panicked".to_owned())
    });
    ended_well(running);
}

/// From here on futex_waitv(2) does not exist for this process.
fn forbid_waitv() -> Result<(), String> {
    let jump =
        |code: u32, k: u32, yes: u8, no: u8| libc::sock_filter { code: code as u16, jt: yes, jf: no, k };
    let refuse = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let mut program = [
        // The number of the call is the first word that a filter is shown.
        jump(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        jump(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_futex_waitv as u32, 0, 1),
        jump(libc::BPF_RET | libc::BPF_K, refuse, 0, 0),
        jump(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: takes numbers, and a program that lives through the call.
    let set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    if set { Ok(()) } else { Err(format!("seccomp: {}", std::io::Error::last_os_error())) }
}

#[test]
fn without_futex_waitv_a_select_wakes_all_the_same() {
    let running = Processes::new(1).start(|_| {
        forbid_waitv()?;
        // SAFETY: an empty list of words: it fails in any case, and the question is how.
        let r = unsafe { libc::syscall(libc::SYS_futex_waitv, 0, 0, 0, 0, 0) };
        assert_eq!((r, std::io::Error::last_os_error().raw_os_error()), (-1, Some(libc::ENOSYS)));
        let (mut a, mut b) = (channel::<u8>(1).map_err(text)?, channel::<u8>(1).map_err(text)?);
        let mut select = Select::new().waiting(WaitPolicy::Sleep);
        for turn in 0..20 {
            let mut tx = if turn % 2 == 0 { &a } else { &b }.try_clone().map_err(text)?;
            let _keep = (a.try_clone().map_err(text)?, b.try_clone().map_err(text)?);
            let sender = thread::spawn(move || tx.send(turn));
            let found =
                select.wait_timeout(&mut [a.receiving(), b.receiving(), Waits::after(PATIENCE)], PATIENCE);
            assert_eq!(found, Ok(usize::from(turn % 2)));
            assert_eq!(if turn % 2 == 0 { &mut a } else { &mut b }.try_recv(), Ok(turn));
            sender.join().expect("no panic").map_err(text)?;
        }
        let found = pollster::block_on(sapwood_shm::select::ready(&mut [Waits::after(3 * MILLI)]));
        assert_eq!(found, Ok(0));
        Ok::<(), String>(())
    });
    ended_well(running.expect("a rank can be started"));
}
