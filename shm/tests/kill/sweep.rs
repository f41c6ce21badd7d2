//! Which points an operation is killed or stopped at, and what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Instant;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::tracer::{At, Point, Profile, Traced, arm, begin, end};

/// An operation whose actor is killed at every instruction.
pub(crate) trait Death {
    /// What is done, and to what.
    const NAME: &'static str;
    /// What is there before; made anew for each death, in the process that survives.
    type World;
    /// What the actor has before it begins.
    type Actor;
    /// Makes what is there before.
    fn world() -> Self::World;
    /// The actor makes its own.
    fn arrive(world: &Self::World) -> Self::Actor;
    /// The operation.
    fn act(actor: &mut Self::Actor) -> impl Sized;
    /// What a survivor makes of it; panics if anything is not as it must be. Says what had become of the operation.
    /// `completed` if the actor was killed right behind it.
    fn survive(world: Self::World, completed: bool) -> &'static str;
}

/// An operation whose actor stands still at every instruction while others do something whole, and then goes on.
pub(crate) trait Stall {
    /// What is done, and what the others do meanwhile.
    const NAME: &'static str;
    /// As in [`Death`].
    type World;
    /// As in [`Death`].
    type Actor;
    /// What the operation returns.
    type Done;
    /// As in [`Death`].
    fn world() -> Self::World;
    /// As in [`Death`].
    fn arrive(world: &Self::World) -> Self::Actor;
    /// As in [`Death`].
    fn act(actor: &mut Self::Actor) -> Self::Done;
    /// What the others do while the actor stands still; `completed` if it stands behind its operation.
    fn meanwhile(world: &mut Self::World, completed: bool);
    /// What the actor says of how its operation ended.
    fn report(actor: Self::Actor, done: Self::Done) -> u8;
    /// What became of both, given what the actor said; panics if anything is not as it must be.
    fn conclude(world: Self::World, report: u8) -> &'static str;
}

/// How this run goes.
#[derive(Debug)]
pub(crate) struct Run {
    full: bool,
    seed: u64,
}

/// Without `SAPWOOD_FULL`: instructions from the beginning, and random ones.
const FIRST: usize = 300;
const RANDOM: usize = 200;

impl Run {
    /// Sees that actors can be traced, and keeps this process and theirs on one CPU: a step is a switch from one to the
    /// other.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn new() -> Result<Run, String> {
        if cfg!(not(target_arch = "x86_64")) {
            return Err("system calls are told from other instructions on x86-64 only".to_owned());
        }
        let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
        assert_eq!(threads, 1, "only a process of one thread may be forked and go on");
        let mut here = CpuSet::new();
        let cpu = nix::sched::sched_getcpu().map_err(|e| format!("getcpu: {e}"))?;
        here.set(cpu)
            .and_then(|()| sched_setaffinity(Pid::from_raw(0), &here))
            .map_err(|e| format!("affinity: {e}"))?;
        arm();
        let probe = || {
            begin();
            end();
            0
        };
        let mut probe = Traced::start(probe).map_err(|e| format!("ptrace refused: {e}"))?;
        probe.measure();
        let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_nanos() as u64);
        let seed = std::env::var("SAPWOOD_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(clock);
        Ok(Run { full: std::env::var_os("SAPWOOD_FULL").is_some(), seed })
    }

    /// Where an operation is interrupted.
    fn points(&self, profile: &Profile) -> Vec<Point> {
        let total = profile.total();
        let mut wanted: BTreeSet<usize> = BTreeSet::new();
        if self.full || total <= FIRST + RANDOM {
            wanted.extend(0..=total);
        } else {
            wanted.extend(0..=FIRST);
            wanted
                .extend(profile.starts.iter().chain(&profile.stores).flat_map(|k| [k.saturating_sub(1), *k]));
            let mut state = self.seed;
            wanted.extend((0..RANDOM).map(|_| splitmix(&mut state) as usize % total));
        }
        wanted.into_iter().map(|k| profile.way(k)).chain([Point::BEHIND]).collect()
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// Interrupts an operation at all points of this run. `once` does it at one point and says what came of it.
fn sweep(
    run: &Run,
    name: &str,
    how: &str,
    profile: &Profile,
    mut once: impl FnMut(Point) -> (At, &'static str),
) {
    let (points, total, began) = (run.points(profile), profile.total(), Instant::now());
    let (mut ends, mut astray): (BTreeMap<&str, usize>, _) = (BTreeMap::new(), 0);
    for point in &points {
        match catch_unwind(AssertUnwindSafe(|| once(*point))) {
            Ok((at, label)) => {
                *ends.entry(label).or_default() += 1;
                astray += usize::from(at == At::Astray);
            }
            Err(panic) => {
                eprintln!("{name}: {how} after {point:?} of {total} instructions, seed {}", run.seed);
                resume_unwind(panic);
            }
        }
    }
    let ends: Vec<String> = ends.iter().map(|(label, count)| format!("{label} {count}")).collect();
    println!(
        "{name}: {how} at {} of {} instructions ({} system calls, {} stores to shared memory; {astray} points \
         missed; seed {}): {}; {:.2} ms each",
        points.len(),
        total + 2,
        profile.starts.len() - 1,
        profile.stores.len(),
        run.seed,
        ends.join(", "),
        began.elapsed().as_secs_f64() * 1e3 / points.len() as f64
    );
}

/// Kills the actor of `D` at all points.
pub(crate) fn die<D: Death>(run: &Run) {
    let start = |world: &D::World| {
        let body = || {
            let mut actor = D::arrive(world);
            begin();
            let _done = D::act(&mut actor);
            end();
            0
        };
        Traced::start(body).expect("it could be traced before")
    };
    let once = |point| {
        let world = D::world();
        let mut actor = start(&world);
        let at = actor.go(point);
        actor.kill();
        (at, D::survive(world, at == At::Behind))
    };
    // What is made once in a process is made here, so that all actors find it made and go the same way.
    once(Point::BEHIND);
    once(Point::BEFORE);
    let world = D::world();
    let mut first = start(&world);
    let profile = first.measure();
    first.kill();
    D::survive(world, true);
    sweep(run, D::NAME, "killed", &profile, once);
}

/// Stops the actor of `S` at all points, and lets it go on.
pub(crate) fn stall<S: Stall>(run: &Run) {
    let start = |world: &S::World| {
        let body = || {
            let mut actor = S::arrive(world);
            begin();
            let done = S::act(&mut actor);
            end();
            S::report(actor, done)
        };
        Traced::start(body).expect("it could be traced before")
    };
    let once = |point| {
        let mut world = S::world();
        let mut actor = start(&world);
        let at = actor.go(point);
        S::meanwhile(&mut world, at == At::Behind);
        (at, S::conclude(world, actor.finish(at)))
    };
    // As in `die`.
    once(Point::BEHIND);
    once(Point::BEFORE);
    let mut world = S::world();
    let mut first = start(&world);
    let profile = first.measure();
    S::meanwhile(&mut world, true);
    S::conclude(world, first.finish(At::Behind));
    sweep(run, S::NAME, "stopped", &profile, once);
}
