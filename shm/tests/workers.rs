//! Workers as threads: results in rank order, or every failure.
#![allow(missing_docs)]

mod common;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use common::until;
use sapwood_shm::{Failure, Failures, JoinError, WorkersBuilder, workers};

fn failures(of: &[(usize, &str)]) -> Failures {
    Failures(of.iter().map(|(rank, text)| Failure { rank: *rank, message: (*text).to_owned() }).collect())
}

/// Fails in some ranks, each in its own way.
fn fails(rank: usize) -> Result<usize, String> {
    match rank {
        1 => panic!("rank one, {}", "on purpose"),
        3 => Err("no luck".to_owned()),
        4 => std::panic::panic_any(4_u32),
        _ => Ok(rank),
    }
}

const FAILED: [(usize, &str); 3] =
    [(1, "panicked: rank one, on purpose"), (3, "no luck"), (4, "panicked with something that is no text")];

#[test]
fn map_1_results_come_in_rank_order_and_map_3_ranks_are_told() {
    let all = workers(8, |rank| Ok::<_, String>([rank, rank * 10])).expect("threads");
    assert_eq!(all.len(), 8);
    assert_eq!(all.join(), Ok((0..8).map(|rank| [rank, rank * 10]).collect()));
    assert_eq!(workers(0, |_| Ok::<_, String>(())).expect("none").join(), Ok(vec![]));
}

#[test]
fn map_2_no_value_keeps_its_place() {
    let all = workers(4, |rank| Ok::<_, String>((rank % 2 == 0).then_some(rank))).expect("threads");
    assert_eq!(all.join(), Ok(vec![Some(0), None, Some(2), None]));
}

#[test]
fn map_4_a_thousand_threads_return_a_value_each() {
    let all = workers(1000, Ok::<_, String>).expect("threads");
    assert_eq!(all.join(), Ok((0..1000).collect()));
}

#[test]
fn map_5_every_failure_is_reported_with_its_message() {
    let said = workers(6, fails).expect("threads").join().expect_err("three fail");
    assert_eq!(said, failures(&FAILED));
    assert_eq!(
        said.to_string(),
        "rank 1: panicked: rank one, on purpose; rank 3: no luck; rank 4: panicked with something that is no text"
    );
}

/// Workers that wait until the test lets them go.
fn held() -> (impl FnMut(), Mutex<Receiver<()>>) {
    let (send, receive) = channel();
    (move || send.send(()).expect("somebody waits"), Mutex::new(receive))
}

#[test]
fn map_6_failures_are_polled_while_others_run_and_told_once() {
    let (mut go, held) = held();
    let all = workers(3, move |rank| match rank {
        0 => held.lock().expect("one waits").recv().map(|()| 42).map_err(|e| e.to_string()),
        _ => fails(2 * rank - 1),
    });
    let mut all = all.expect("threads");
    let mut told = Vec::new();
    until("both are seen", || {
        if let Err(Failures(new)) = all.poll_failures() {
            told.extend(new);
        }
        told.len() == 2
    });
    told.sort_by_key(|failure| failure.rank);
    assert_eq!(Failures(told), failures(&[(1, FAILED[0].1), (2, FAILED[1].1)]));
    assert_eq!((all.poll_failures(), all.running()), (Ok(()), 1));
    go();
    assert_eq!(all.join(), Ok(vec![42]), "what the survivors have");
}

#[test]
fn map_8_large_values_come_whole() {
    let given: Arc<Vec<u8>> = Arc::new((0..1 << 20).map(|i| i as u8).collect());
    let copy = given.clone();
    let all = workers(2, move |rank| Ok::<_, String>(copy[rank..].to_vec())).expect("threads");
    let back = all.join().expect("both");
    assert!(back[0] == given[..] && back[1] == given[1..]);
}

#[test]
fn map_9_what_is_shared_is_shared_and_plain_values_are_copies() {
    let (shared, plain) = (Arc::new(Mutex::new(vec![0.0_f32; 4])), [1, 2, 3]);
    let tensor = shared.clone();
    let all = workers(4, move |rank| {
        let mut plain = plain;
        plain[0] = rank;
        tensor.lock().map_err(|e| e.to_string())?[rank] = rank as f32;
        Ok::<_, String>(plain[0])
    });
    assert_eq!(all.expect("threads").join(), Ok(vec![0, 1, 2, 3]));
    assert_eq!((plain, &*shared.lock().expect("nobody panics")), ([1, 2, 3], &vec![0.0, 1.0, 2.0, 3.0]));
}

#[test]
fn map_10_init_runs_in_each_thread_and_its_failure_is_the_workers() {
    let init = |rank| match rank {
        1 => Err("no state".to_owned()),
        2 => panic!("no state either"),
        _ => Ok((rank, std::thread::current().id())),
    };
    let began = Arc::new(Mutex::new(Vec::new()));
    let noted = began.clone();
    let all = WorkersBuilder::new(4).name("mapper").init(init).start(move |rank, (mine, thread)| {
        noted.lock().map_err(|e| e.to_string())?.push(rank);
        let current = std::thread::current();
        assert_eq!((mine, thread), (rank, current.id()));
        assert_eq!(current.name(), Some(&*format!("mapper-{rank}")));
        Ok::<_, String>(())
    });
    let said = all.expect("threads").join().expect_err("two have no state");
    assert_eq!(said, failures(&[(1, "no state"), (2, "panicked: no state either")]));
    let mut began = began.lock().expect("nobody panics").clone();
    began.sort_unstable();
    assert_eq!(began, [0, 3]);
}

#[test]
fn all_run_at_once() {
    let barrier = Arc::new(Barrier::new(20));
    let all = workers(20, move |_| Ok::<_, String>(barrier.wait().is_leader()));
    let leaders = all.expect("threads").join().expect("all meet").into_iter().filter(|l| *l).count();
    assert_eq!(leaders, 1);
}

#[test]
fn joining_has_a_deadline_and_gives_the_workers_back() {
    let (mut go, held) = held();
    let all = workers(2, move |rank| match rank {
        0 => held.lock().expect("one waits").recv().map_err(|e| e.to_string()),
        _ => Ok(()),
    });
    let limit = Duration::from_millis(20);
    let said = all.expect("threads").join_timeout(limit).expect_err("one is held");
    let text = said.to_string();
    let JoinError::StillRunning { waited, workers } = said else { panic!("{text}") };
    assert!(waited >= limit && text.starts_with("1 of 2 workers were still running after"), "{text}");
    go();
    assert_eq!(workers.join_timeout(common::PATIENCE).expect("both").len(), 2);
}

#[test]
fn failures_come_through_a_join_with_a_deadline() {
    let said = workers(6, fails).expect("threads").join_timeout(common::PATIENCE).expect_err("three fail");
    assert!(matches!(said, JoinError::Failed(f) if f == failures(&FAILED)));
}

/// Says that it goes, and waits until it may.
struct Slow(Sender<()>, Mutex<Receiver<()>>);

impl Drop for Slow {
    fn drop(&mut self) {
        self.0.send(()).expect("the test waits for it");
        let go = self.1.get_mut().expect("nobody has panicked with it");
        go.recv_timeout(common::PATIENCE).expect("the test lets it go");
    }
}

#[test]
fn a_worker_has_ended_when_all_that_it_holds_is_gone() {
    let ((going, goes), (let_go, go)) = (channel(), channel());
    let slow = Slow(going, Mutex::new(go));
    let all = workers(1, move |rank| {
        let _ = &slow;
        Ok::<_, String>(rank)
    });
    let all = all.expect("threads");
    goes.recv_timeout(common::PATIENCE).expect("the worker is done");
    let said = all.join_timeout(Duration::from_millis(20)).expect_err("it goes on");
    let JoinError::StillRunning { workers, .. } = said else { panic!("{said}") };
    let_go.send(()).expect("it waits");
    assert_eq!(workers.join(), Ok(vec![0]));
}
