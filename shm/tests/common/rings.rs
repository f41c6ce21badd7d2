//! What the tests of rings share: ends of processes that wait for each other, and a tally of what came.

use sapwood_core::mem::{Atom, Mem, Ordering, Real};
use sapwood_shm::ring::{PopError, PushError, Shareable, spsc};
use sapwood_shm::{Processes, Running, Seat, Segment, Spec};

use super::{PATIENCE, until, word};

/// Starts one rank.
pub(crate) fn rank(then: impl FnOnce() -> Result<(), String>) -> Running {
    Processes::new(1).start(|_| then()).expect("a rank can be started")
}

pub(crate) fn ended_well(running: Running) {
    let report = running.wait(PATIENCE).expect("it ends");
    assert!(report.success(), "{report}");
}

pub(crate) fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

/// Runs `child` in a forked child, which ends well if it says so.
pub(crate) fn in_a_fork(child: impl FnOnce() -> bool) {
    // SAFETY: the child looks at its copy of the handles and ends; glibc keeps its allocator usable there.
    match unsafe { libc::fork() } {
        0 => {
            let good = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(false);
            // SAFETY: ends this process at once, without handlers of its parent.
            unsafe { libc::_exit(i32::from(!good)) }
        }
        pid => match nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None) {
            Ok(nix::sys::wait::WaitStatus::Exited(_, 0)) => {}
            other => panic!("the child {pid}: {other:?}"),
        },
    }
}

/// Pushes, waiting for room.
pub(crate) fn push<T: Shareable>(tx: &mut spsc::Producer<T>, value: T) {
    until("there is room", || match tx.try_push(value) {
        Ok(()) => true,
        Err(PushError::Full(_)) => false,
        Err(e) => panic!("{}", e.map(|_| ())),
    });
}

/// Pops, waiting for a value.
pub(crate) fn pop<T: Shareable>(rx: &mut spsc::Consumer<T>) -> T {
    let mut got = None;
    until("a value is there", || {
        match rx.try_pop() {
            Ok(value) => got = Some(value),
            Err(e) => assert_eq!(e, PopError::Empty),
        }
        got.is_some()
    });
    got.expect("it was there")
}

/// Which values came, a bit each, and flags, in a segment that processes share.
pub(crate) struct Tally(Segment, #[allow(dead_code)] Seat);

const FLAGS: usize = 16;

impl Tally {
    fn spec(values: usize) -> Spec {
        let words = FLAGS + values.div_ceil(32);
        Spec { kind: 901, fingerprint: values as u64, seats: 1022, body: words as u64 * 4, reserve: 0 }
    }

    /// For `values` values, under a name.
    pub(crate) fn open(name: &str, values: usize) -> Tally {
        let entered = Segment::enter_named_again(name, &Self::spec(values), None, PATIENCE, |_, _, _| Ok(()));
        let (segment, seat) = entered.expect("the tally can be opened");
        Tally(segment, seat)
    }

    /// Notes a value; says whether it had come before.
    pub(crate) fn note(&self, value: usize) -> bool {
        let bit = 1 << (value % 32);
        word(&self.0, FLAGS + value / 32).fetch_or(bit, Ordering::AcqRel) & bit != 0
    }

    pub(crate) fn came(&self, value: usize) -> bool {
        word(&self.0, FLAGS + value / 32).load(Ordering::Acquire) & (1 << (value % 32)) != 0
    }

    pub(crate) fn flag(&self, i: usize) -> u32 {
        assert!(i < FLAGS);
        word(&self.0, i).load(Ordering::Acquire)
    }

    pub(crate) fn set_flag(&self, i: usize, to: u32) {
        assert!(i < FLAGS);
        word(&self.0, i).store(to, Ordering::Release);
        Real::wake(word(&self.0, i));
    }

    /// Sleeps until the flag is above `value`.
    pub(crate) fn wait_for_flag(&self, i: usize, value: u32) {
        until("a flag is set", || {
            let now = self.flag(i);
            if now <= value {
                Real::wait(word(&self.0, i), now, 1_000_000_000);
            }
            now > value
        });
    }
}

/// Numbers that differ from run to run; the seed is printed, so that it stands beside a failure.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new() -> Dice {
        let seed = std::time::UNIX_EPOCH.elapsed().map_or(1, |d| d.as_nanos() as u64) | 1;
        println!("seed {seed}");
        Dice(seed)
    }

    /// Below `most`.
    pub(crate) fn roll(&mut self, most: u64) -> u64 {
        // Xorshift (Marsaglia 2003).
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}
