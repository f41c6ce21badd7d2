//! A mutex and a barrier.

use std::sync::Arc;

use sapwood_shm::barrier::{self, Barrier};
use sapwood_shm::mutex::{self, LockError, Mutex};
use sapwood_shm::{Error, Segment, Spec};

use super::{NOW, Object, SEATS, World};

type Value = [u64; 4];

/// A mutex.
pub(crate) struct Lock(Mutex<Value>);

impl Object for Lock {
    fn spec() -> Result<Spec, Error> {
        mutex::spec::<Value>(SEATS)
    }

    fn attach(segment: &Arc<Segment>, _: usize) -> Result<Self, Error> {
        Mutex::attach(segment).map(Lock)
    }

    fn step(&mut self, world: &mut World<'_>) {
        let what = world.input.u8();
        let locked = if what & 1 == 0 { self.0.try_lock() } else { self.0.lock_timeout(NOW) };
        let had = match &locked {
            Ok(_) => Ok(()),
            Err(LockError::OwnerDied { peer, .. }) => Err(LockError::OwnerDied { peer: *peer, guard: () }),
            Err(LockError::OwnerPanicked { peer, .. }) => {
                Err(LockError::OwnerPanicked { peer: *peer, guard: () })
            }
            Err(_) => Ok(()),
        };
        world.said("lock of", had);
        let Some(mut guard) = world.said("lock", locked.or_else(LockError::into_guard)) else { return };
        let before = *guard;
        *guard = before.map(|n| n.wrapping_add(1));
        world.meddle();
        let _after: Value = std::hint::black_box(*guard);
        if what & 2 == 0 {
            guard.mark_consistent();
        }
        // An owner that is stopped.
        if what & 0x1c == 0x1c {
            std::mem::forget(guard);
        }
    }

    fn works(handles: &mut [Self]) {
        for i in 0..10_u64 {
            let [lock, other, ..] = handles else { unreachable!("there are three") };
            let mut guard = lock.0.try_lock().expect("nobody has it");
            assert_eq!(*guard, [i; 4]);
            *guard = [i + 1; 4];
            assert!(other.0.try_lock().is_err(), "it is had already");
            drop(guard);
            assert_eq!(*other.0.try_lock().expect("nobody has it"), [i + 1; 4]);
        }
    }
}

/// A barrier of `N`: of one it is passed, of more it is broken by a wait that does not wait.
pub(crate) struct Meeting<const N: usize>(Barrier);

impl<const N: usize> Object for Meeting<N> {
    const HANDLES: usize = N;

    fn spec() -> Result<Spec, Error> {
        barrier::spec(N)
    }

    fn attach(segment: &Arc<Segment>, _: usize) -> Result<Self, Error> {
        Barrier::attach(segment).map(Meeting)
    }

    fn step(&mut self, world: &mut World<'_>) {
        let said = self.0.wait_timeout(NOW);
        world.said("wait", said);
        assert!(self.0.participants() == N && self.0.seat() < N);
    }

    fn works(handles: &mut [Self]) {
        let meet = |barrier: &mut Barrier| {
            for i in 1..4 {
                let arrived = barrier.wait_timeout(super::PATIENCE).expect("all come");
                assert_eq!(arrived.generation, i);
            }
        };
        let Some((Meeting(here), others)) = handles.split_first_mut() else { return };
        std::thread::scope(|s| {
            let others = others.iter_mut().map(|Meeting(there)| s.spawn(|| meet(there)));
            let others: Vec<_> = others.collect();
            meet(here);
            // The scope's own end does not wait for what a thread frees last, and would be called a leak.
            others.into_iter().for_each(|other| other.join().expect("all come"));
        });
    }
}
