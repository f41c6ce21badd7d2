//! Background tasks: a number for each, results in any order, and an error only where its own result is asked for.
//!
//! ```text
//! $ cargo run --release --example pool
//! 1000 tasks for 20 threads, numbered 1 to 1000
//! the first has ended already: true
//! the last one first: 1000 * 1000 = 1000000
//! task 13 failed: panicked: an unlucky number
//! the sum of the others is 332833331, as it should be
//! ```
use std::any::Any;
use std::collections::HashMap;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use sapwood::queue::{Answer, Outcome, Owner, RecvError, Ticket, work_queue};
use sapwood::{Workers, WorkersBuilder};

type Task<R> = Box<dyn FnOnce() -> R + Send>;
/// An error is what a task panicked with.
type Ended<R> = Result<R, String>;

/// Threads that do tasks. Dropping it lets them end what they are doing.
struct Pool<R> {
    /// `None` once it was closed.
    queue: Option<Owner<Option<Task<R>>, Ended<R>>>,
    threads: Option<Workers<()>>,
    numbers: HashMap<Ticket, u64>,
    /// Ended, and not asked for yet.
    ended: HashMap<u64, Ended<R>>,
    last: u64,
}

impl<R: Send + 'static> Pool<R> {
    fn new(threads: usize) -> Result<Self, Box<dyn Error>> {
        let (owner, worker) = work_queue::<Option<Task<R>>, Ended<R>>(2 * threads)?;
        let worker = Mutex::new(worker);
        let threads = WorkersBuilder::new(threads)
            .name("pool")
            .init(move |_| worker.lock().map_err(|e| e.to_string())?.try_clone().map_err(|e| e.to_string()))
            .start(|_, jobs| {
                for mut job in jobs {
                    let task = job.take().ok_or("a task is done once")?;
                    let ended = catch_unwind(AssertUnwindSafe(task)).map_err(|panic| panicked(&*panic));
                    job.finish(ended).map_err(|e| e.to_string())?;
                }
                Ok::<(), String>(())
            })?;
        let (numbers, ended) = (HashMap::new(), HashMap::new());
        Ok(Pool { queue: Some(owner), threads: Some(threads), numbers, ended, last: 0 })
    }

    /// Hands a task in; says its number, which grows from 1 on.
    fn add(&mut self, task: impl FnOnce() -> R + Send + 'static) -> Result<u64, String> {
        let queue = self.queue.as_mut().ok_or("the pool is closed")?;
        let ticket = queue.submit(Some(Box::new(task))).map_err(|e| e.to_string())?;
        self.last += 1;
        self.numbers.insert(ticket, self.last);
        Ok(self.last)
    }

    fn note(&mut self, answer: Answer<Ended<R>>) {
        let ended = match answer.outcome {
            Outcome::Answer(ended) => ended,
            Outcome::Failed { attempts } => Err(format!("{attempts} threads ended over it")),
        };
        if let Some(number) = self.numbers.remove(&answer.ticket) {
            self.ended.insert(number, ended);
        }
    }

    fn look(&mut self) {
        while let Some(answer) = self.queue.as_mut().and_then(|queue| queue.try_recv().ok()) {
            self.note(answer);
        }
    }

    /// Waits for the end of a task, and gives its result, once.
    fn get(&mut self, number: u64) -> Ended<R> {
        loop {
            if let Some(ended) = self.ended.remove(&number) {
                return ended;
            }
            if !self.numbers.values().any(|n| *n == number) {
                return Err(format!("task {number} was never added, or its result has been given"));
            }
            let answer = self.queue.as_mut().map_or(Err(RecvError::Idle), Owner::recv);
            self.note(answer.map_err(|e| e.to_string())?);
        }
    }

    /// Whether a task has ended, well or not; never waits.
    fn is_done(&mut self, number: u64) -> bool {
        self.look();
        self.ended.contains_key(&number)
    }

    /// Whether all have.
    fn are_all_done(&mut self) -> bool {
        self.look();
        self.numbers.is_empty()
    }

    /// Whether there are results that nobody has asked for, or will be.
    fn has_task(&self) -> bool {
        !self.numbers.is_empty() || !self.ended.is_empty()
    }

    /// Gives a result, and ends the threads if it was the last one.
    fn get_and_close_on_last(&mut self, number: u64) -> Ended<R> {
        let ended = self.get(number);
        if !self.has_task() {
            self.close()?;
        }
        ended
    }

    /// Ends the threads, once all tasks are done.
    fn close(&mut self) -> Result<(), String> {
        self.queue = None;
        self.threads.take().map_or(Ok(()), |threads| threads.join().map(drop).map_err(|e| e.to_string()))
    }
}

fn panicked(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    format!(
        "panicked: {}",
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word")
    )
}

const TASKS: u64 = 1000;
const UNLUCKY: u64 = 13;

fn main() -> Result<(), Box<dyn Error>> {
    let mut pool = Pool::new(20)?;
    for n in 1..=TASKS {
        let number = pool.add(move || if n == UNLUCKY { panic!("an unlucky number") } else { n * n })?;
        assert_eq!(number, n);
    }
    println!("{TASKS} tasks for 20 threads, numbered 1 to {TASKS}");
    println!("the first has ended already: {}", pool.is_done(1));
    println!("the last one first: {TASKS} * {TASKS} = {}", pool.get(TASKS)?);
    while !pool.are_all_done() {
        std::thread::yield_now();
    }
    assert!(pool.is_done(UNLUCKY), "a failed task counts as done");
    let mut sum = 0;
    for number in 1..TASKS {
        match pool.get_and_close_on_last(number) {
            Ok(square) => sum += square,
            Err(e) => {
                println!("task {number} failed: {e}");
                assert_eq!(number, UNLUCKY);
            }
        }
    }
    println!("the sum of the others is {sum}, as it should be");
    assert_eq!(sum, (1..TASKS).filter(|n| *n != UNLUCKY).map(|n| n * n).sum());
    assert!(!pool.has_task() && pool.add(|| 0).is_err(), "it was closed with its last result");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    fn until(what: &str, mut seen: impl FnMut() -> bool) {
        let began = std::time::Instant::now();
        while !seen() {
            assert!(began.elapsed().as_secs() < 20, "in vain: {what}");
            std::thread::yield_now();
        }
    }

    /// BTP-1; BT-1, which is the same with one task.
    #[test]
    fn btp_1_numbers_grow_and_results_come_in_any_order() {
        let mut pool = Pool::new(20).expect("threads");
        for n in 1..=1000 {
            assert_eq!(pool.add(move || (n, vec![n; 3])), Ok(n));
        }
        for n in (1..=1000).rev() {
            assert_eq!(pool.get(n), Ok((n, vec![n; 3])));
        }
    }

    /// BTP-2; BT-3.
    #[test]
    fn btp_2_a_failed_task_fails_at_its_own_get_only() {
        let mut pool = Pool::new(2).expect("threads");
        for n in 1..=9 {
            pool.add(move || if n == 5 { panic!("five") } else { n }).expect("it is open");
        }
        until("all are done", || pool.are_all_done());
        for n in [9, 1, 2, 3, 4, 6, 7, 8] {
            assert_eq!(pool.get(n), Ok(n));
        }
        assert_eq!(pool.get(5), Err("panicked: five".to_owned()));
    }

    /// BTP-3; BT-2.
    #[test]
    fn btp_3_whether_tasks_are_done_is_said_without_waiting() {
        let mut pool = Pool::new(2).expect("threads");
        let (go, held) = channel::<()>();
        pool.add(move || held.recv().is_ok()).expect("it is open");
        pool.add(|| panic!("a failed task counts")).expect("it is open");
        until("the second is done", || pool.is_done(2));
        assert!(!pool.is_done(1) && !pool.are_all_done() && !pool.is_done(3));
        go.send(()).expect("it waits");
        until("both are done", || pool.are_all_done());
        assert!(pool.is_done(1));
        assert_eq!(pool.get(1), Ok(true));
    }

    #[test]
    fn btp_4_a_result_is_given_once() {
        let mut pool = Pool::new(1).expect("threads");
        assert!(!pool.has_task());
        let number = pool.add(|| 7).expect("it is open");
        assert!(pool.has_task());
        assert_eq!(pool.get(number), Ok(7));
        assert!(!pool.has_task());
        let said = pool.get(number).expect_err("it has been given");
        assert!(said.contains("has been given"), "{said}");
    }

    #[test]
    fn btp_5_threads_end_with_the_last_result() {
        let mut pool = Pool::new(3).expect("threads");
        let numbers: Vec<u64> = (0..5).map(|n| pool.add(move || n).expect("it is open")).collect();
        for (number, n) in numbers.into_iter().zip(0..) {
            assert!(pool.threads.is_some());
            assert_eq!(pool.get_and_close_on_last(number), Ok(n));
        }
        assert!(pool.threads.is_none() && pool.add(|| 0).is_err());
    }
}
