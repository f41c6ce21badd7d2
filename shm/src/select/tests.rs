//! Waits for a handle that is as simple as can be. Those of the real ones: `tests/select.rs`.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sapwood_core::doorbell::Doorbell;
use sapwood_core::mem::{Atom, Mem, Ordering, Real, WAIT_MOST};
use sapwood_core::wait::WaitPolicy;
use std::os::fd::AsFd;

use super::{Bells, Direction, Readiness, Select, SelectError, Waitable, Waits, ready};

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

/// A count that one side raises and the other takes down.
struct Counter {
    bell: Doorbell<Real>,
    count: <Real as Mem>::U32,
}

impl Bells for Counter {
    fn bell(&self, _: Direction) -> &Doorbell<Real> {
        &self.bell
    }
}

#[derive(Clone)]
struct Handle(Arc<Counter>);

impl Handle {
    fn new() -> Handle {
        Handle(Arc::new(Counter { bell: Doorbell::new(0), count: Atom::new(0) }))
    }

    fn raise(&self) {
        self.0.count.store(1, Ordering::Release);
        self.0.bell.ring();
    }

    fn take(&self) {
        self.0.count.store(0, Ordering::Release);
    }

    fn waits(&mut self) -> Waits<'_> {
        Waits::handle(self, Direction::Receiving)
    }
}

impl Waitable for Handle {
    fn bells(&self) -> Arc<dyn Bells> {
        self.0.clone()
    }
    fn bell(&self, _: Direction) -> &Doorbell<Real> {
        &self.0.bell
    }
    fn is_ready(&mut self, _: Direction) -> bool {
        self.0.count.load(Ordering::Acquire) > 0
    }
    fn look(&mut self, direction: Direction) -> bool {
        self.is_ready(direction)
    }
    fn others_can_die(&self) -> bool {
        false
    }
}

#[test]
fn a_sleeping_select_is_woken_by_each_of_its_handles() {
    for policy in [WaitPolicy::Sleep, WaitPolicy::Adaptive] {
        let mut handles = [Handle::new(), Handle::new(), Handle::new()];
        let mut select = Select::new().waiting(policy);
        for rung in [2, 0, 1, 1] {
            let there = handles[rung].clone();
            let rings = thread::spawn(move || there.raise());
            let found = select.wait_timeout(&mut handles.each_mut().map(Handle::waits), LONG);
            assert_eq!(found, Ok(rung), "{policy:?}");
            rings.join().expect("it rings");
            handles[rung].take();
        }
    }
}

#[test]
fn a_handle_that_is_always_ready_hides_no_other() {
    let mut handles = [Handle::new(), Handle::new(), Handle::new()];
    handles.iter().for_each(Handle::raise);
    let mut select = Select::new();
    let mut seen = [0; 3];
    for _ in 0..30 {
        seen[select.wait(&mut handles.each_mut().map(Handle::waits)).expect("all are ready")] += 1;
    }
    assert_eq!(seen, [10; 3]);
}

#[test]
fn times_and_limits_end_a_wait() {
    let mut handle = Handle::new();
    let mut select = Select::new();
    let start = Instant::now();
    let mut on = [handle.waits(), Waits::after(Duration::from_millis(5))];
    assert_eq!(select.wait_timeout(&mut on, LONG), Ok(1));
    assert!(start.elapsed() >= Duration::from_millis(5) && start.elapsed() < LONG);
    let mut spinning = Select::new().waiting(WaitPolicy::Spin);
    let mut on = [handle.waits(), Waits::after(Duration::from_millis(5))];
    assert_eq!(spinning.wait_timeout(&mut on, LONG), Ok(1), "who never sleeps sees times pass too");
    let said = select.wait_timeout(&mut [handle.waits()], Duration::from_millis(2));
    assert!(
        matches!(said, Err(SelectError::Timeout { things: 1, waited }) if waited >= Duration::from_millis(2)),
        "{said:?}"
    );
    assert_eq!(select.wait(&mut []), Err(SelectError::Nothing));
    let mut many: Vec<_> = (0..=WAIT_MOST).map(|_| Waits::after(LONG)).collect();
    let too_many = SelectError::TooMany { things: WAIT_MOST + 1, most: WAIT_MOST };
    assert_eq!(select.wait(&mut many), Err(too_many));
}

#[test]
fn poll_sees_a_descriptor_become_readable() {
    let mut handle = Handle::new();
    let mut readiness = Readiness::new().expect("a descriptor");
    let readable = |readiness: &Readiness, limit: PollTimeout| {
        let mut fds = [PollFd::new(readiness.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, limit).expect("poll(2)") == 1
    };
    assert!(!readable(&readiness, PollTimeout::ZERO), "nothing was said to wait for");
    for _ in 0..3 {
        assert!(!readiness.arm(&mut [handle.waits()]).expect("a watcher"));
        assert!(!readable(&readiness, PollTimeout::ZERO));
        let there = handle.clone();
        let rings = thread::spawn(move || there.raise());
        assert!(readable(&readiness, PollTimeout::from(20_000u16)));
        rings.join().expect("it rings");
        assert!(readiness.arm(&mut [handle.waits()]).expect("a watcher"), "it is ready already");
        assert!(readable(&readiness, PollTimeout::ZERO));
        handle.take();
    }
    assert!(
        !readiness.arm(&mut [handle.waits(), Waits::after(Duration::from_millis(3))]).expect("a watcher")
    );
    assert!(readable(&readiness, PollTimeout::from(20_000u16)), "a time passes");
}

#[test]
fn a_future_needs_no_particular_runtime() {
    let mut handles = [Handle::new(), Handle::new()];
    let there = handles[1].clone();
    let rings = thread::spawn(move || there.raise());
    let found = pollster::block_on(ready(&mut handles.each_mut().map(Handle::waits)));
    assert_eq!(found, Ok(1));
    rings.join().expect("it rings");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    handles[1].take();
    let there = handles[0].clone();
    let found = runtime.block_on(async move {
        let waits = tokio::spawn(async move {
            let mut mine = handles;
            ready(&mut mine.each_mut().map(Handle::waits)).await
        });
        tokio::task::yield_now().await;
        there.raise();
        tokio::time::timeout(LONG, waits).await.expect("in time").expect("no panic")
    });
    assert_eq!(found, Ok(0));
}

#[test]
fn more_futures_than_one_wait_can_hold() {
    let mut handles: Vec<Handle> = (0..3 * WAIT_MOST).map(|_| Handle::new()).collect();
    let there = handles.clone();
    let mut waits: Vec<[Waits<'_>; 1]> = handles.iter_mut().map(|handle| [handle.waits()]).collect();
    let mut futures: Vec<_> = waits.iter_mut().map(|on| Box::pin(ready(on))).collect();
    let mut context = Context::from_waker(Waker::noop());
    assert!(futures.iter_mut().all(|future| future.as_mut().poll(&mut context).is_pending()));
    for (handle, future) in there.iter().zip(&mut futures) {
        let raised = handle.clone();
        let rings = thread::spawn(move || raised.raise());
        assert_eq!(pollster::block_on(future), Ok(0));
        rings.join().expect("it rings");
    }
}

#[test]
fn a_wait_that_was_given_up_wakes_nobody() {
    let mut handle = Handle::new();
    let there = handle.clone();
    let mut on = [handle.waits()];
    let mut future = Box::pin(ready(&mut on));
    let woken = Arc::new(Woken(Atom::new(0)));
    let waker = Waker::from(woken.clone());
    assert_eq!(future.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending);
    drop(future);
    there.raise();
    // Whoever waits behind it is woken after it would have been.
    there.take();
    let mut other = there.clone();
    let rings = thread::spawn(move || there.raise());
    assert_eq!(pollster::block_on(ready(&mut [other.waits()])), Ok(0));
    rings.join().expect("it rings");
    assert_eq!(woken.0.load(Ordering::Acquire), 0);
}

struct Panics;

impl std::task::Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("on purpose");
    }
}

#[test]
fn a_waker_that_panics_ends_nobody_elses_wait() {
    let (mut bad, mut good) = (Handle::new(), Handle::new());
    let there = [bad.clone(), good.clone()];
    let mut on = [bad.waits()];
    let mut panics = Box::pin(ready(&mut on));
    let waker = Waker::from(Arc::new(Panics));
    assert!(panics.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let rings = thread::spawn(move || {
        there[0].raise();
        there[1].raise();
    });
    assert_eq!(pollster::block_on(ready(&mut [good.waits()])), Ok(0));
    rings.join().expect("it rings");
    // The watcher goes on.
    assert_eq!(pollster::block_on(ready(&mut [Waits::after(Duration::from_millis(1))])), Ok(0));
}

/// Ends a wait when it goes, as an executor's waker does that has the task.
struct Ends(u64);

impl Drop for Ends {
    fn drop(&mut self) {
        super::watcher::forget(self.0);
    }
}

impl std::task::Wake for Ends {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn the_last_waker_may_end_another_wait_when_it_goes() {
    let (say, said) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut handle = Handle::new();
        let mut on = [handle.waits()];
        let mut future = Box::pin(ready(&mut on));
        let waker = Waker::from(Arc::new(Ends(super::watcher::ticket())));
        assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        // Its entry has the last one.
        drop(future);
        let _ = say.send(());
    });
    assert_eq!(said.recv_timeout(LONG), Ok(()), "a waker was dropped under a lock that it wants");
}

struct Woken(<Real as Mem>::U32);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(1, Ordering::Release);
    }
}
