//! Ranks that are killed or stopped, as real processes.
#![allow(missing_docs)]

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sapwood_shm::{Exit, Processes, Rank, Running};
use sapwood_tree::{Contents, Error, Op, Tree};

/// The long form of a test.
fn full() -> bool {
    std::env::var_os("SAPWOOD_FULL").is_some()
}

const DEADLINE: Duration = Duration::from_secs(60);

fn join(rank: &Rank) -> Result<Tree, Error> {
    Tree::builder().deadline(DEADLINE).join(rank)
}

/// A small deterministic sequence (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below
    }
}

fn pause(time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        std::thread::yield_now();
    }
}

/// Operations of every scheme without end; every result is checked. Returns how it ended.
fn work(tree: &mut Tree) -> Error {
    let (rank, size) = (tree.rank() as u32, tree.size() as u32);
    let mut resident = match tree.alloc::<u32>(30_000) {
        Ok(t) => t,
        Err(e) => return e,
    };
    let sum = |i: u32, round: u32| (0..size).fold(0u32, |s, q| s.wrapping_add(q.wrapping_mul(i) ^ round));
    for round in 0u32.. {
        for len in [2usize, 100, 3000, 100_000] {
            let mut t: Vec<u32> = (0..len as u32).map(|i| rank.wrapping_mul(i) ^ round).collect();
            let before = t.clone();
            match tree.all_reduce(&mut t, Op::Sum) {
                Ok(n) => {
                    assert_eq!(n, size as usize);
                    assert!((0..len as u32).all(|i| t[i as usize] == sum(i, round)), "a wrong sum of {len}");
                }
                Err(e) => {
                    let contents = match &e {
                        Error::PeerDied { contents, .. } | Error::PeerFailed { contents, .. } => *contents,
                        e => panic!("an unexpected error: {e}"),
                    };
                    assert!(contents == Contents::Unspecified || t == before, "the tensor was touched");
                    return e;
                }
            }
        }
        resident.iter_mut().enumerate().for_each(|(i, v)| *v = rank.wrapping_mul(i as u32) ^ round);
        if let Err(e) = tree.all_reduce(&mut resident, Op::Sum) {
            return e;
        }
        assert!(resident.iter().enumerate().all(|(i, v)| *v == sum(i as u32, round)), "a wrong resident sum");
        let root = round as usize % size as usize;
        for len in [1usize, 500, 50_000] {
            let mut t = vec![if rank as usize == root { round } else { 0 }; len];
            if let Err(e) = tree.broadcast(&mut t, root) {
                return e;
            }
            assert!(t.iter().all(|v| *v == round), "a wrong broadcast");
        }
        if let Err(e) = tree.barrier() {
            return e;
        }
    }
    unreachable!("rounds without end")
}

/// What a survivor of rank `victim`'s death must say.
fn survive(rank: Rank, victim: usize) -> Result<(), String> {
    let mut tree = match join(&rank) {
        Ok(tree) => tree,
        Err(Error::PeerDied { rank, .. }) if rank == victim => return Ok(()),
        Err(e) => return Err(format!("joining: {e}")),
    };
    match work(&mut tree) {
        Error::PeerDied { rank, .. } if rank == victim => Ok(()),
        e => Err(format!("expected the death of rank {victim}, got: {e}")),
    }
}

fn check(running: Running, victim: usize, what: &str) {
    if running.pids().is_empty() {
        return; // in a rank, on its way to a later round
    }
    let report = running.wait(DEADLINE).unwrap_or_else(|e| panic!("{what}: {e}"));
    for (rank, exit) in report.exits.iter().enumerate() {
        let expected = if rank == victim { Exit::Signal(9) } else { Exit::Code(0) };
        assert_eq!(*exit, expected, "{what}: rank {rank}; {report}");
    }
}

/// SIGKILL at a random moment: before, while and after the ranks join, in any operation.
#[test]
fn a_rank_killed_at_any_moment_is_named_by_all_survivors() {
    let rounds = if full() { 2000 } else { 200 };
    let mut dice = Dice(20_170_531);
    for round in 0..rounds {
        let size = 2 + dice.roll(3) as usize;
        let victim = dice.roll(size as u64) as usize;
        let delay = Duration::from_micros(dice.roll(30_000));
        let running = Processes::new(size).start(|rank| survive(rank, victim)).expect("they start");
        if !running.pids().is_empty() {
            pause(delay);
        }
        running.signal(victim, Signal::SIGKILL).expect("it is our child");
        check(running, victim, &format!("round {round}: {size} ranks, victim {victim}, after {delay:?}"));
    }
    println!("{rounds} random deaths: every survivor named the dead rank");
}

/// The test's own clock decides nothing: it only bounds what the issue promises, with room for a loaded machine.
#[test]
fn survivors_learn_of_a_death_at_once() {
    let running = Processes::new(2).start(|rank| -> Result<(), String> {
        let mut tree = join(&rank).map_err(|e| e.to_string())?;
        if tree.rank() == 1 {
            // Killed by itself, so that the other one knows when.
            let mut now = [nanos()];
            tree.broadcast(&mut now, 1).map_err(|e| e.to_string())?;
            nix::sys::signal::raise(Signal::SIGKILL).map_err(|e| e.to_string())?;
            return Err("still alive".into());
        }
        let mut killed = [0];
        tree.broadcast(&mut killed, 1).map_err(|e| e.to_string())?;
        let error = tree.barrier().expect_err("rank 1 is dead");
        let took = Duration::from_nanos(nanos() - killed[0]);
        println!("a death was noticed after {took:?}: {error}");
        let good = matches!(error, Error::PeerDied { rank: 1, contents: Contents::AsBefore });
        if good && took < Duration::from_secs(2) { Ok(()) } else { Err(format!("{error} after {took:?}")) }
    });
    check(running.expect("they start"), 1, "a death");
}

/// Monotonic time, the same in every process.
fn nanos() -> u64 {
    let t = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("it always exists");
    t.tv_sec().cast_unsigned() * 1_000_000_000 + t.tv_nsec().cast_unsigned()
}

/// A forked child holds its parent's descriptors, and with them the parent's lock if nobody closed it.
#[test]
fn a_killed_rank_with_a_living_child_is_dead() {
    let running = Processes::new(2).start(|rank| -> Result<(), String> {
        let mut tree = join(&rank).map_err(|e| e.to_string())?;
        if tree.rank() == 1 {
            // SAFETY: the child makes one system call over and over until it is killed (by the survivor, or in 60 s).
            let mut pid = match unsafe { nix::unistd::fork() }.map_err(|e| e.to_string())? {
                nix::unistd::ForkResult::Parent { child } => [child.as_raw().cast_unsigned()],
                nix::unistd::ForkResult::Child => {
                    nix::unistd::alarm::set(60);
                    loop {
                        nix::unistd::pause();
                    }
                }
            };
            tree.broadcast(&mut pid, 1).map_err(|e| e.to_string())?;
            nix::sys::signal::raise(Signal::SIGKILL).map_err(|e| e.to_string())?;
        }
        let mut pid = [0u32];
        tree.broadcast(&mut pid, 1).map_err(|e| e.to_string())?;
        let error = tree.barrier().expect_err("rank 1 is dead");
        let child = nix::unistd::Pid::from_raw(pid[0].cast_signed());
        let alive = nix::sys::signal::kill(child, None).is_ok();
        nix::sys::signal::kill(child, Signal::SIGKILL).map_err(|e| e.to_string())?;
        let good = alive && matches!(error, Error::PeerDied { rank: 1, .. });
        if good { Ok(()) } else { Err(format!("child alive: {alive}; {error}")) }
    });
    check(running.expect("they start"), 1, "a death with a living child");
}

/// Seconds of processor time of a process (proc(5), fields 14 and 15 of `stat`, in ticks of 10 ms).
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let after = &stat[stat.rfind(')').expect("a name") + 1..];
    let fields: Vec<&str> = after.split_ascii_whitespace().collect();
    let ticks = |i: usize| fields[i - 3].parse::<f64>().expect("a number");
    (ticks(14) + ticks(15)) / 100.0
}

/// Stopped for 10 s: not dead, not an error, and the others wait without burning their processors.
#[test]
fn a_stopped_rank_is_waited_for_in_peace() {
    let stop = Duration::from_secs(10);
    let meet = format!("stopped-{}", std::process::id());
    let meeting = meet.clone();
    let running =
        Processes::new(2).env("SAPWOOD_TEST_MEET", &meet).start(move |rank| -> Result<(), String> {
            let mut tree = join(&rank).map_err(|e| e.to_string())?;
            tree.barrier().map_err(|e| e.to_string())?;
            if tree.rank() == 1 {
                // The parent is told that we are about to stop by joining it in a tree of two.
                let meeting = std::env::var("SAPWOOD_TEST_MEET").map_err(|e| e.to_string())?;
                drop(Tree::local(1, 2, &meeting).map_err(|e| e.to_string())?);
                nix::sys::signal::raise(Signal::SIGSTOP).map_err(|e| e.to_string())?;
            }
            let mut t = [1u32];
            tree.all_reduce(&mut t, Op::Sum).map_err(|e| e.to_string())?;
            if t == [2] { Ok(()) } else { Err(format!("{t:?}")) }
        });
    let running = running.expect("they start");
    drop(Tree::local(0, 2, &meeting).expect("rank 1 comes"));
    let pids = running.pids();
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", pids[1])).expect("it runs");
    while !state().contains(") T ") {
        std::thread::yield_now();
    }
    let before = cpu_seconds(pids[0]);
    std::thread::sleep(stop); // the very thing that is tested: ten seconds of standing still
    let burnt = cpu_seconds(pids[0]) - before;
    println!("while its peer stood still for {stop:?}, a rank used {burnt:.2} s of processor time");
    assert!(burnt <= 0.05 * stop.as_secs_f64(), "{burnt} s");
    running.signal(1, Signal::SIGCONT).expect("it is our child");
    let report = running.wait(DEADLINE).expect("both end");
    assert!(report.success(), "{report}");
}

/// Four times more ranks than CPUs (if there are two): nobody spins, and everything goes on.
#[test]
fn outnumbered_cpus_are_never_spun_on() {
    let ranks = 8.max(4 * std::thread::available_parallelism().map_or(1, usize::from));
    let running = Processes::new(ranks).start(|rank| -> Result<(), String> {
        let mut tree = join(&rank).map_err(|e| e.to_string())?;
        for round in 0..300u32 {
            for len in [2usize, 600, 40_000] {
                let mut t = vec![round + tree.rank() as u32; len];
                tree.all_reduce(&mut t, Op::Max).map_err(|e| e.to_string())?;
                if t != vec![round + tree.size() as u32 - 1; len] {
                    return Err("a wrong maximum".into());
                }
            }
        }
        let stats = tree.stats();
        if stats.spins == 0 && stats.yields > 0 { Ok(()) } else { Err(format!("{stats:?}")) }
    });
    let report = running.expect("they start").wait(DEADLINE).expect("all end");
    assert!(report.success(), "{report}");
}

#[test]
fn a_forked_child_is_refused_and_does_no_harm() {
    let running = Processes::new(2).start(|rank| -> Result<(), String> {
        let mut tree = join(&rank).map_err(|e| e.to_string())?;
        tree.barrier().map_err(|e| e.to_string())?;
        // SAFETY: the child only asks the tree, which refuses at once, and ends.
        match unsafe { nix::unistd::fork() }.map_err(|e| e.to_string())? {
            nix::unistd::ForkResult::Child => {
                let refused = matches!(tree.barrier(), Err(Error::Forked { .. }));
                drop(tree); // must not speak for the parent
                std::process::exit(if refused { 0 } else { 3 });
            }
            nix::unistd::ForkResult::Parent { child } => {
                let status = nix::sys::wait::waitpid(child, None).map_err(|e| e.to_string())?;
                if status != nix::sys::wait::WaitStatus::Exited(child, 0) {
                    return Err(format!("the child ended with {status:?}"));
                }
            }
        }
        tree.barrier().map_err(|e| format!("after the child has ended: {e}"))
    });
    let report = running.expect("they start").wait(DEADLINE).expect("both end");
    assert!(report.success(), "{report}");
}

/// A limit on the length of files is a refusal with a remedy, not a SIGXFSZ.
#[test]
fn a_limit_on_file_lengths_is_refused_with_a_remedy() {
    let running = Processes::new(1).start(|rank| -> Result<(), String> {
        let limit = nix::sys::resource::Resource::RLIMIT_FSIZE;
        nix::sys::resource::setrlimit(limit, 1 << 30, 1 << 30).map_err(|e| e.to_string())?;
        let error = join(&rank).expect_err("a tree's file is longer than 1 GiB").to_string();
        if error.contains("ulimit -f unlimited") { Ok(()) } else { Err(error) }
    });
    let report = running.expect("it starts").wait(DEADLINE).expect("it ends");
    assert!(report.success(), "{report}");
}
