//! Rings between threads of one process, which answers for all of them.

use std::sync::Barrier;
use std::thread;

use super::serve::pin;
use super::words::{self, Pop, Push};
use super::{Failure, Said, Spin, Yield, now};

/// A way to make rings of words between threads.
pub(crate) trait Ring {
    /// The end that words go into.
    type Tx: Push + Send;
    /// The end that words come out of.
    type Rx: Pop + Send;
    /// A ring that holds `capacity` words.
    fn ring(capacity: usize) -> Result<(Self::Tx, Self::Rx), Failure>;
}

/// The same with two ends on either side.
pub(crate) trait SharedRing {
    /// An end that words go into.
    type Tx: Push + Send;
    /// An end that words come out of.
    type Rx: Pop + Send;
    /// A ring that holds `capacity` words.
    fn ring(capacity: usize) -> Result<Ends<Self::Tx, Self::Rx>, Failure>;
}

/// Two of either.
pub(crate) type Ends<Tx, Rx> = ([Tx; 2], [Rx; 2]);

/// What an end does while it is measured.
pub(super) type End<'a> = Box<dyn FnOnce() -> Result<Said, Failure> + Send + 'a>;

/// On lines of its own: ends keep positions beside their pointers, and two ends on one line would slow each other down.
#[repr(align(128))]
pub(super) struct Apart<T>(pub(super) T);

/// Runs every end in a thread of its own, pinned as the rank of its place is.
pub(super) fn run<const N: usize>(ends: [End<'_>; N]) -> Result<[Said; N], Failure> {
    let mut said = [Said { nanos: 0.0, sum: 0, span: (0, 0) }; N];
    thread::scope(|scope| {
        let threads: Vec<_> = (0..N)
            .zip(ends)
            .map(|(rank, end)| {
                scope.spawn(move || {
                    pin(rank)?;
                    end()
                })
            })
            .collect();
        for (said, thread) in said.iter_mut().zip(threads) {
            *said = thread.join().map_err(|_| "a thread panicked")??;
        }
        Ok(said)
    })
}

/// Runs ends in threads that no CPU is kept for, of which there are more than CPUs. They begin together, and that is
/// when their spans begin: who warms up is in the way of others who do not any more.
pub(super) fn crowd(ends: Vec<End<'_>>) -> Result<Vec<Said>, Failure> {
    let all = Barrier::new(ends.len());
    thread::scope(|scope| {
        let start = |end: End<'_>| {
            all.wait();
            let from = now();
            end().map(|said| Said { span: (from, said.span.1), ..said })
        };
        let threads: Vec<_> = ends.into_iter().map(|end| scope.spawn(move || start(end))).collect();
        // All of them are heard, so that none of those that fail later is a panic of the scope.
        let said: Vec<_> = threads.into_iter().map(thread::ScopedJoinHandle::join).collect();
        said.into_iter().map(|said| said.map_err(|_| "a thread panicked")?).collect()
    })
}

/// Two threads that sum up to the same.
pub(crate) fn two(
    a: impl FnOnce() -> Result<Said, Failure> + Send,
    b: impl FnOnce() -> Result<Said, Failure> + Send,
) -> Result<Said, Failure> {
    let [a, b] = run([Box::new(a), Box::new(b)])?;
    a.alike(b)
}

/// Two threads: `pingpong` and `spsc`.
pub(crate) fn one_to_one<R: Ring>(order: &str, n: u64) -> Result<Said, Failure> {
    let (there, from_a) = R::ring(words::CAPACITY)?;
    let (mut there, mut from_a) = (Apart(there), Apart(from_a));
    match order {
        "pingpong" => {
            let (back, from_b) = R::ring(words::CAPACITY)?;
            let (mut back, mut from_b) = (Apart(back), Apart(from_b));
            two(
                move || words::pingpong::<Spin>(true, &mut there.0, &mut from_b.0, n),
                move || words::pingpong::<Spin>(false, &mut back.0, &mut from_a.0, n),
            )
        }
        "spsc" => two(
            move || words::produce::<Spin>(&mut there.0, n),
            move || words::consume::<Spin>(&mut from_a.0, n),
        ),
        other => Err(format!("no bench {other} between two threads").into()),
    }
}

/// Four threads: two producers, two consumers, one of each on every CPU where there are two.
pub(crate) fn two_to_two<R: SharedRing>(n: u64) -> Result<Said, Failure> {
    let ([p, q], [c, d]) = R::ring(words::CAPACITY)?;
    let (mut p, mut q, mut c, mut d) = (Apart(p), Apart(q), Apart(c), Apart(d));
    let [a, b, c, d] = run([
        Box::new(move || words::produce_shared::<Yield>(&mut p.0, 0, n)),
        Box::new(move || words::produce_shared::<Yield>(&mut q.0, 1, n)),
        Box::new(move || words::consume_shared::<Yield>(&mut c.0, n)),
        Box::new(move || words::consume_shared::<Yield>(&mut d.0, n)),
    ])?;
    Ok(a.together(b).together(c).together(d))
}
