//! Ranks as processes: how they start, how they end, and who tells.

mod common;

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use common::*;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use sapwood_shm::{EnvError, Exit, MapError, Processes, ProcessesError, Rank, processes};

/// Set in a copy of this program that runs one test again, from inside as it were.
const INNER: &str = "SAPWOOD_TEST_INNER";

/// The command that runs this test again; `None` if that is what we are.
fn again() -> Option<Command> {
    if std::env::var_os(INNER).is_some() {
        return None;
    }
    let test = std::thread::current().name().expect("a test's thread bears its name").to_owned();
    let mut command = Command::new(std::env::current_exe().expect("we run"));
    command.args([&test, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(INNER, "1").env("RUST_BACKTRACE", "0").stdin(Stdio::null());
    Some(command)
}

/// Runs this test again as a launcher of ranks would, as rank 1 of 2.
fn under_a_launcher() -> Option<Output> {
    let mut command = again()?;
    command.env("SAPWOOD_RANK", "1").env("SAPWOOD_SIZE", "2").env("SAPWOOD_LOCAL_RANK", "1");
    Some(command.env("SAPWOOD_RENDEZVOUS", "name:foreign").output().expect("it can be run"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn good(_: Rank) -> Result<(), String> {
    Ok(())
}

#[test]
fn all_succeed() {
    let report = processes(3, |rank| {
        let mut input = Vec::new();
        let read = std::io::stdin().read_to_end(&mut input).map_err(|e| e.to_string())?;
        let as_it_should = rank.size() == 3 && rank.rank() < 3 && rank.local_rank() == rank.rank();
        if as_it_should && read == 0 { Ok(()) } else { Err(format!("{rank:?}, {read} bytes of input")) }
    });
    let report = report.expect("ranks can be started");
    assert_eq!(report.exits, [Exit::Code(0); 3]);
    assert!(report.success());
    assert_eq!(report.to_string(), "all 3 ranks succeeded");
}

#[test]
fn every_way_to_fail_is_told_apart() {
    let running = Processes::new(5).quiet().start(|rank| match rank.rank() {
        0 => Err("no luck"),
        1 => nix::sys::signal::raise(Signal::SIGKILL).map_err(|_| "not killed"),
        2 => panic!("on purpose"),
        3 => std::process::exit(7),
        _ => Ok(()),
    });
    let report = running.expect("ranks can be started").wait(PATIENCE).expect("they end");
    assert!(!report.success());
    let exits = [Exit::Code(1), Exit::Signal(9), Exit::Code(101), Exit::Code(7), Exit::Code(0)];
    assert_eq!(report.exits, exits);
    assert_eq!(
        report.to_string(),
        "rank 0 ended with exit code 1, rank 1 was ended by SIGKILL, rank 2 ended with exit code 101, \
         rank 3 ended with exit code 7"
    );
}

#[test]
fn a_failing_rank_says_why_on_standard_error() {
    if let Some(mut command) = again() {
        let output = command.output().expect("it can be run");
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("rank 1: no luck"), "{}", text(&output.stderr));
        assert!(!text(&output.stderr).contains("unheard"), "{}", text(&output.stderr));
        return;
    }
    // First, since the ranks of a later call pass over an earlier one as if it had succeeded.
    let quiet = Processes::new(2).quiet().start(|_| {
        eprintln!("unheard");
        Ok::<(), String>(())
    });
    let report = quiet.expect("ranks can be started").wait(PATIENCE).expect("they end");
    assert!(report.success(), "{report}");
    let report = processes(2, |rank| if rank.rank() == 1 { Err("no luck") } else { Ok(()) });
    assert_eq!(report.expect("ranks can be started").exits, [Exit::Code(0), Exit::Code(1)]);
}

/// Each rank runs the call that it was started by, and no other.
#[test]
fn one_test_may_call_several_times() {
    let path = std::env::temp_dir().join(format!("sapwood-{}", name("calls")));
    let note = |call: u32, rank: Rank| {
        let mut file = OpenOptions::new().append(true).create(true).open(&path)?;
        file.write_all(format!("{call}:{}/{}\n", rank.rank(), rank.size()).as_bytes())
    };
    let first = processes(2, |rank| note(1, rank)).expect("ranks can be started");
    assert!(first.success(), "{first}");
    let second = processes(3, |rank| note(2, rank)).expect("ranks can be started");
    assert!(second.success(), "{second}");
    let third = processes(2, |rank| note(3, rank)).expect("ranks can be started");
    let _forget = Forget(path.clone());
    assert!(third.success(), "{third}");
    let notes = fs::read_to_string(&path).expect("the ranks have written it");
    let mut notes: Vec<_> = notes.lines().collect();
    notes.sort_unstable();
    assert_eq!(notes, ["1:0/2", "1:1/2", "2:0/3", "2:1/3", "2:2/3", "3:0/2", "3:1/2"]);
}

#[test]
fn variables_reach_the_ranks() {
    let running = Processes::new(2).env("SAPWOOD_TEST_WORD", "leaf").start(|_| {
        let word = std::env::var("SAPWOOD_TEST_WORD");
        if word.as_deref() == Ok("leaf") { Ok(()) } else { Err(format!("{word:?}")) }
    });
    let report = running.expect("ranks can be started").wait_all().expect("they end");
    assert!(report.success(), "{report}");
}

#[test]
fn ranks_that_run_too_long_are_named_and_ended() {
    let running = Processes::new(3).quiet().start(|rank| match rank.rank() {
        1 => Ok(()),
        _ => wait_to_be_ended(),
    });
    let running = running.expect("ranks can be started");
    let pids = running.pids();
    assert_eq!(pids.len(), 3);
    until("rank 1 has ended", || ended(pids[1]));
    let said = running.wait(Duration::ZERO).expect_err("two of them wait");
    assert!(matches!(&said, ProcessesError::StillRunning { running, .. } if *running == [0, 2]), "{said}");
    assert!(said.to_string().contains("[0, 2]"), "{said}");
    assert_eq!(pids.iter().map(|p| state(*p)).collect::<Vec<_>>(), [None; 3], "ended and reaped");
}

#[test]
fn ranks_end_when_their_handle_goes() {
    let running = Processes::new(2).quiet().start(|_| wait_to_be_ended()).expect("ranks can be started");
    let pids = running.pids();
    running.signal(1, Signal::SIGSTOP).expect("it runs");
    until("rank 1 is stopped", || state(pids[1]) == Some('T'));
    drop(running);
    assert_eq!(pids.iter().map(|p| state(*p)).collect::<Vec<_>>(), [None; 2], "ended and reaped");
}

#[test]
fn signals_reach_the_rank_that_is_meant() {
    let running = Processes::new(2).quiet().start(|_| wait_to_be_ended()).expect("ranks can be started");
    let said = running.signal(2, Signal::SIGKILL).expect_err("there is none");
    assert!(said.to_string().contains("no rank 2"), "{said}");
    let pids = running.pids();
    running.signal(1, Signal::SIGKILL).expect("it runs");
    until("rank 1 is dead", || ended(pids[1]));
    assert!(!ended(pids[0]));
    running.signal(1, Signal::SIGKILL).expect("a zombie can still be meant");
    running.signal(0, Signal::SIGTERM).expect("it runs");
    let report = running.wait(PATIENCE).expect("both are dead");
    assert_eq!(report.exits, [Exit::Signal(15), Exit::Signal(9)]);
}

/// The copy of this test is killed while its ranks run. They hold its standard output, which ends when they all have.
#[test]
fn ranks_die_with_their_parent() {
    let Some(mut command) = again() else {
        let running = Processes::new(2).start(|_| {
            println!("<up>");
            wait_to_be_ended()
        });
        let report = running.expect("ranks can be started").wait_all().expect("they end");
        panic!("the ranks' parent was to be killed: {report}");
    };
    let mut parent = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it can be run");
    let mut output = parent.stdout.take().expect("it is piped");
    let mut seen = Vec::new();
    // Reads more, and says whether there is more to come.
    let mut read = |seen: &mut Vec<u8>| {
        let mut polls = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut polls, PollTimeout::try_from(PATIENCE).expect("it fits"));
        assert_eq!(ready, Ok(1), "nothing came for {PATIENCE:?} after {:?}", text(seen));
        let mut bytes = [0; 256];
        let n = output.read(&mut bytes).expect("it can be read");
        seen.extend(&bytes[..n]);
        n > 0
    };
    until("both ranks are up", || text(&seen).matches("<up>").count() == 2 || !read(&mut seen));
    assert_eq!(text(&seen).matches("<up>").count(), 2, "{}", text(&seen));
    parent.kill().expect("it runs");
    until("the ranks have ended", || !read(&mut seen));
    parent.wait().expect("a child of ours");
}

#[test]
fn no_ranks_are_none() {
    let said = processes(0, good).expect_err("there must be one");
    assert!(matches!(said, ProcessesError::NoRanks { n: 0 }), "{said}");
}

#[test]
fn under_a_launcher_the_rank_runs_right_here() {
    if let Some(output) = under_a_launcher() {
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains("<rank 1 of 2 ran>"), "{}", text(&output.stdout));
        assert!(text(&output.stderr).contains("rank 1: no luck"), "{}", text(&output.stderr));
        return;
    }
    let mut ran = 0;
    let report = processes(2, |rank| {
        println!("<rank {} of {} ran>", rank.rank(), rank.size());
        ran = std::process::id();
        Ok::<(), String>(())
    });
    assert_eq!(ran, std::process::id());
    assert_eq!(report.expect("nothing to start").exits, [Exit::Code(0)]);
    let report = processes(2, |_| Err("no luck")).expect("nothing to start");
    assert_eq!(report.exits, [Exit::Code(1)]);
    let running = Processes::new(2).start(good).expect("nothing to start");
    assert!(running.pids().is_empty());
}

#[test]
fn a_launcher_of_another_size_is_refused() {
    if let Some(output) = under_a_launcher() {
        assert!(output.status.success(), "{}", text(&output.stderr));
        return;
    }
    let mut ran = false;
    let said = processes(3, |_| {
        ran = true;
        Ok::<(), String>(())
    });
    let said = said.expect_err("there are 2");
    assert!(matches!(said, ProcessesError::OtherSize { asked: 3, started: 2 }), "{said}");
    assert!(said.to_string().contains("SAPWOOD_SIZE") && !ran, "{said}");
}

#[test]
fn a_launcher_that_forgets_a_variable_is_told_which() {
    if let Some(mut command) = again() {
        let output = command.env("SAPWOOD_RANK", "0").output().expect("it can be run");
        assert!(output.status.success(), "{}", text(&output.stderr));
        return;
    }
    let said = processes(1, good).expect_err("there is more to say");
    let missing = EnvError::Missing { variable: "SAPWOOD_SIZE" };
    assert!(matches!(&said, ProcessesError::Environment(e) if *e == missing), "{said}");
}

/// MAP-1, MAP-2, MAP-8: results of processes come in rank order, of any length, and none keeps its place.
#[test]
fn map_1_results_of_processes_come_in_rank_order() {
    let results = Processes::new(3).map(|rank| {
        let long = "leaf ".repeat(rank.rank() * 10_000);
        Ok::<_, String>((rank.rank() != 1).then_some((rank.rank(), long)))
    });
    let results = results.expect("ranks can be started").join_timeout(PATIENCE).expect("all end well");
    let expected = |rank: usize| Some((rank, "leaf ".repeat(rank * 10_000)));
    assert_eq!(results, [expected(0), None, expected(2)]);
}

/// MAP-5: every failure is told, with its message or the signal's name. MAP-6: also before the others have ended, and
/// once.
#[test]
fn map_5_every_failure_of_processes_is_told_with_its_message() {
    let start = |quiet: Processes| {
        quiet.map(|rank| match rank.rank() {
            0 => Err("no luck".to_owned()),
            1 => nix::sys::signal::raise(Signal::SIGKILL).map(|()| 1).map_err(|e| e.to_string()),
            2 => panic!("on purpose"),
            3 => std::process::exit(7),
            _ => wait_to_be_ended().map(|()| 0),
        })
    };
    let mut results = start(Processes::new(5).quiet()).expect("ranks can be started");
    let mut told = Vec::new();
    until("four have failed", || {
        match results.poll_failures() {
            Ok(()) => {}
            Err(MapError::Failed(new)) => told.extend(new.0),
            Err(e) => panic!("{e}"),
        }
        told.len() == 4
    });
    told.sort_by_key(|failure| failure.rank);
    let messages: Vec<_> = told.iter().map(|failure| &*failure.message).collect();
    assert_eq!(
        messages,
        [
            "no luck (ended with exit code 1)",
            "was ended by SIGKILL",
            "panicked: on purpose (ended with exit code 101)",
            "ended with exit code 7"
        ]
    );
    results.running().signal(4, Signal::SIGTERM).expect("it runs");
    let said = results.join_timeout(PATIENCE).expect_err("the last one has failed too").to_string();
    assert_eq!(said, "rank 4: was ended by SIGTERM");
}
