//! The family that ships: core atomics, `UnsafeCell`, futexes.
//!
//! # Safety
//! Unsafe here is system calls on words that outlive the call (`futex`, `clock_gettime`, `getcpu`) and nothing else;
//! the cell only lends its address, and whoever uses the address proves that it may.
#![allow(unsafe_code)]
#![allow(clippy::disallowed_types)] // a family file

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::mem::{Atom, Mem, RaceCell, WAIT_MOST, Woke, wait_in_slices};

/// Core atomics over memory that threads or processes share.
#[derive(Debug, Clone, Copy)]
pub struct Real;

macro_rules! word {
    ($name:ident, $atomic:ty, $v:ty) => {
        /// A shared word, laid out as the integer itself.
        #[repr(transparent)]
        #[derive(Debug)]
        pub struct $name($atomic);

        impl Atom<$v> for $name {
            #[inline(always)]
            fn new(v: $v) -> Self {
                $name(<$atomic>::new(v))
            }
            #[inline(always)]
            fn load(&self, o: Ordering) -> $v {
                self.0.load(o)
            }
            #[inline(always)]
            fn store(&self, v: $v, o: Ordering) {
                self.0.store(v, o)
            }
            #[inline(always)]
            fn cas(&self, old: $v, new: $v, o: Ordering) -> Result<$v, $v> {
                self.0.compare_exchange(old, new, o, Ordering::Relaxed)
            }
            #[inline(always)]
            fn fetch_or(&self, v: $v, o: Ordering) -> $v {
                self.0.fetch_or(v, o)
            }
        }
    };
}

word!(RealU32, AtomicU32, u32);
word!(RealU64, AtomicU64, u64);

/// One word of a wait on several: `struct futex_waitv` of linux/futex.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct WaitOn {
    seen: u64,
    word: u64,
    flags: u32,
    reserved: u32,
}

/// FUTEX2_SIZE_U32: a word of 32 bits, not private to the process.
const SHARED_U32: u32 = 2;

/// Whether the system has refused to wait on several words: 1 once it has.
static NO_WAITV: AtomicU32 = AtomicU32::new(0);

/// Plain memory, laid out as `T`.
#[repr(transparent)]
#[derive(Debug)]
pub struct RealCell<T>(UnsafeCell<T>);

impl<T> RaceCell<T> for RealCell<T> {
    #[inline(always)]
    fn new(v: T) -> Self {
        RealCell(UnsafeCell::new(v))
    }
    #[inline(always)]
    fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }
    #[inline(always)]
    fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

// SAFETY: the cell itself does nothing but lend its address; every access through that address is guarded by a
// protocol word, and the argument stands where the access is made.
unsafe impl<T: Copy + Send> Sync for RealCell<T> {}

impl Mem for Real {
    type U32 = RealU32;
    type U64 = RealU64;
    type Cell<T: Copy> = RealCell<T>;

    #[inline(always)]
    fn fence(o: Ordering) {
        core::sync::atomic::fence(o)
    }

    #[inline(always)]
    fn spin() {
        core::hint::spin_loop()
    }

    fn yield_now() {
        // SAFETY: takes no arguments and touches no memory of ours.
        unsafe { libc::sched_yield() };
    }

    fn cpu() -> u32 {
        // SAFETY: takes no arguments; -1 (no such call) becomes a number that no processor has.
        unsafe { libc::sched_getcpu() as u32 }
    }

    fn now() -> u64 {
        let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `t` is a timespec of ours that lives through the call. CLOCK_MONOTONIC always exists on Linux.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
        t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
    }

    fn wait(word: &RealU32, seen: u32, nanos: u64) -> Woke {
        let t = libc::timespec {
            tv_sec: (nanos / 1_000_000_000) as libc::time_t,
            tv_nsec: (nanos % 1_000_000_000) as libc::c_long,
        };
        // The word may be in memory of several processes, so the futex is never a private one.
        // SAFETY: the word outlives the call (we borrow it), and so does `t`; a relative time-out is what FUTEX_WAIT
        // takes.
        let r = unsafe { libc::syscall(libc::SYS_futex, word.0.as_ptr(), libc::FUTEX_WAIT, seen, &t) };
        // SAFETY: errno is this thread's own.
        if r == -1 && unsafe { *libc::__errno_location() } == libc::ETIMEDOUT {
            Woke::TimedOut
        } else {
            Woke::Look
        }
    }

    fn wait_any(words: &mut dyn Iterator<Item = (&RealU32, u32)>, nanos: u64) -> Woke {
        if NO_WAITV.load(Ordering::Relaxed) != 0 {
            return wait_in_slices::<Real>(words, nanos);
        }
        let mut on = [WaitOn { seen: 0, word: 0, flags: SHARED_U32, reserved: 0 }; WAIT_MOST];
        let mut n = 0;
        // No more than the kernel takes: what is left out is looked at when the caller's slice ends.
        for (on, (word, seen)) in on.iter_mut().zip(&mut *words) {
            (on.seen, on.word) = (seen.into(), word.0.as_ptr() as u64);
            n += 1;
        }
        let until = Self::now().saturating_add(nanos);
        let t = libc::timespec {
            tv_sec: (until / 1_000_000_000) as libc::time_t,
            tv_nsec: (until % 1_000_000_000) as libc::c_long,
        };
        // SAFETY: `n` entries of `on` are filled, their words are borrowed as long as the iterator's items live, which
        // is longer than this call; no flags; the time-out is absolute, on the clock that is named, and lives as well.
        let r = unsafe {
            libc::syscall(libc::SYS_futex_waitv, on.as_ptr(), n, 0, &raw const t, libc::CLOCK_MONOTONIC)
        };
        if r != -1 {
            return Woke::Look;
        }
        // SAFETY: errno is this thread's own.
        let error = unsafe { *libc::__errno_location() };
        match error {
            libc::ETIMEDOUT => Woke::TimedOut,
            // An old kernel, or a filter.
            libc::ENOSYS | libc::EPERM => {
                NO_WAITV.store(1, Ordering::Relaxed);
                Woke::Look
            }
            _ => Woke::Look,
        }
    }

    fn wake(word: &RealU32) -> u32 {
        // SAFETY: FUTEX_WAKE only uses the address, which is valid while we borrow the word.
        let r = unsafe { libc::syscall(libc::SYS_futex, word.0.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
        r.max(0) as u32
    }
}
