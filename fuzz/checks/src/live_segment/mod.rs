//! Objects at work in a segment whose words somebody overwrites, at any moment between two calls and while something
//! of the object is held.
//!
//! The input picks an object, then step after step: a call of one of its handles, a handle that goes and another one
//! that comes, or a word of the seat table or the body that is written by whoever has the file and knows the layout.
//! What is written *within* a call is the family `Hostile`'s affair (`core/tests/hostile_*.rs`), and what is written by
//! another process at full speed that of `shm/tests/hostile.rs`: here the same bytes always do the same, a fuzzer looks
//! for them, and AddressSanitizer looks on.

mod channels;
mod locks;
mod peer;
mod pools;
mod rings;
mod seeds;
mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sapwood_shm::{Error, Segment, Spec};

use crate::input::Input;
use peer::Peer;
pub(crate) use seeds::seeds;

/// Seats of most segments here: one more than handles, so that a seat can be lost.
pub(crate) const SEATS: usize = 4;
/// For calls that would wait.
pub(crate) const NOW: Duration = Duration::ZERO;
/// Far longer than anything takes that waits for nobody, also on a machine that runs something else meanwhile.
const PATIENCE: Duration = Duration::from_secs(40);
/// Steps of a case.
const STEPS: usize = 200;
/// How often a case asks for a handle in vain before it ends: most that is refused once is refused for good.
const REFUSALS: usize = 12;

/// What a case works on, through several handles.
pub(crate) trait Object: Sized {
    /// How many handles there are at a time.
    const HANDLES: usize = 3;

    fn spec() -> Result<Spec, Error>;

    /// Handle `i`.
    fn attach(segment: &Arc<Segment>, i: usize) -> Result<Self, Error>;

    /// One call, or several that belong together.
    fn step(&mut self, world: &mut World<'_>);

    /// The handle goes.
    fn go(self, _: &mut World<'_>) {}

    /// What every good object does, with nobody in the way.
    fn works(handles: &mut [Self]);
}

/// What is around the object.
pub(crate) struct World<'a> {
    pub(crate) input: Input<'a>,
    peer: Peer,
    /// Descriptors of buffers on their way.
    pub(crate) mail: Vec<[u8; 16]>,
    seen: &'a mut Seen,
}

/// How often each answer came, if anybody wants to know.
type Seen = Option<BTreeMap<String, u32>>;

impl World<'_> {
    /// The bad peer's chance, while something is held.
    pub(crate) fn meddle(&mut self) {
        let what = self.input.u8();
        if what & 4 != 0 {
            self.peer.look();
        }
        for _ in 0..what % 4 {
            self.peer.write(&mut self.input);
        }
    }

    /// The answer of a call. An error is one with a sentence.
    pub(crate) fn said<V, E: fmt::Debug + fmt::Display>(
        &mut self,
        what: &str,
        said: Result<V, E>,
    ) -> Option<V> {
        if let Err(e) = &said {
            assert!(!e.to_string().is_empty(), "{what}: an error without a sentence");
        }
        if let Some(seen) = &mut self.seen {
            let word = said.as_ref().map_or_else(|e| format!("{e:?}"), |_| "Ok".to_owned());
            let word = word.split([' ', '{', '(']).next().unwrap_or_default();
            *seen.entry(format!("{what}: {word}")).or_default() += 1;
        }
        said.ok()
    }
}

type Run = fn(Input<'_>, &mut Seen);

/// Every object, by the input's first byte.
pub(crate) const OBJECTS: [(&str, Run); 14] = [
    ("channel", run::<channels::Values>),
    ("frame_channel", run::<channels::Frames<false>>),
    ("queue", run::<channels::Queue>),
    ("mutex", run::<locks::Lock>),
    ("barrier", run::<locks::Meeting<3>>),
    ("barrier_alone", run::<locks::Meeting<1>>),
    ("map", run::<table::Table>),
    ("bufs", run::<pools::Buffers>),
    ("mpmc", run::<rings::Many>),
    ("frames", run::<rings::Loans>),
    ("jobs", run::<rings::Work>),
    ("spsc", run::<rings::Pair>),
    ("latest", run::<rings::Newest>),
    ("frame_channel_again", run::<channels::Frames<true>>),
];

/// Works on an object while a bad peer overwrites words of its segment.
///
/// Values may be wrong then and calls may fail; nothing else: no call panics or runs on, a length is within what it is
/// the length of, a descriptor is adopted within its pool only, and no access leaves its bounds. When all handles are
/// gone a fresh object works.
///
/// # Panics
/// When one of these does not hold, or the machine lacks what every case needs (memfds).
pub fn live_segment(data: &[u8]) {
    case(data, &mut None);
}

fn case(data: &[u8], seen: &mut Seen) {
    let mut input = Input::new(data);
    let (_, run) = input.of(&OBJECTS);
    run(input, seen);
}

fn segment(spec: &Spec) -> (Arc<Segment>, OwnedFd) {
    let fd = Segment::anonymous_fd().expect("a file without a name");
    let ours = fd.try_clone().expect("a descriptor");
    (Arc::new(Segment::build_or_attach(fd, spec, PATIENCE).expect("a segment can be had")), ours)
}

fn run<O: Object>(input: Input<'_>, seen: &mut Seen) {
    let spec = O::spec().expect("it can be made");
    let (segment, file) = segment(&spec);
    let body = segment.reserve_offset() as usize - segment.body_len();
    let peer = Peer::new(File::from(file), &spec, body);
    let mut world = World { input, peer, mail: Vec::new(), seen };
    let handle = |i| O::attach(&segment, i);
    let mut handles: Vec<Option<O>> =
        (0..O::HANDLES).map(|i| Some(handle(i).expect("nobody is in the way yet"))).collect();
    let mut refusals = 0;
    for _ in 0..STEPS {
        if world.input.is_empty() || refusals == REFUSALS {
            break;
        }
        let began = Instant::now();
        let what = world.input.u8();
        let i = usize::from(what >> 4) % O::HANDLES;
        match (what & 7, &mut handles[i]) {
            (0 | 1, _) if what & 8 == 0 => world.peer.write(&mut world.input),
            (0, _) => world.peer.look(),
            (2, here) => {
                if let Some(gone) = here.take() {
                    gone.go(&mut world);
                }
                handles[i] = world.said("attach", handle(i));
            }
            (_, Some(here)) => here.step(&mut world),
            (_, here @ None) => *here = world.said("attach", handle(i)),
        }
        refusals += usize::from(handles[i].is_none());
        assert!(began.elapsed() < PATIENCE, "a step that waits for nobody took {:?}", began.elapsed());
    }
    for gone in handles.into_iter().flatten() {
        gone.go(&mut world);
        world.meddle();
    }
    drop(segment);
    let (fresh, _) = self::segment(&spec);
    let mut handles: Vec<O> =
        (0..O::HANDLES).map(|i| O::attach(&fresh, i).expect("nobody is in the way")).collect();
    O::works(&mut handles);
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// All objects give answers that they give only when somebody has been at their words, and no case hangs.
    #[test]
    fn ten_thousand_lives() {
        let (tell, told) = mpsc::channel();
        let cases = std::thread::spawn(move || {
            let (seeds, seen) = (seeds(), std::cell::RefCell::new(BTreeMap::<String, u32>::new()));
            let seeds: Vec<Vec<u8>> = seeds.into_iter().map(|(_, data)| data).collect();
            crate::cases(10_000, &seeds, |data| {
                let mut of_case = Some(BTreeMap::new());
                let _ = tell.send(data.to_vec());
                case(data, &mut of_case);
                let mut seen = seen.borrow_mut();
                of_case.into_iter().flatten().for_each(|(said, n)| *seen.entry(said).or_default() += n);
            });
            seen.into_inner()
        });
        let mut last = Vec::new();
        loop {
            match told.recv_timeout(2 * PATIENCE) {
                Ok(data) => last = data,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("it does not come back: {last:02x?}"),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        let seen = cases.join().unwrap_or_else(|_| panic!("a property does not hold: {last:02x?}"));
        for (said, count) in &seen {
            println!("{count:6} {said}");
        }
        for said in SEEN {
            assert!(seen.get(said).is_some_and(|n| *n >= 3), "hardly ever: {said}");
        }
    }

    /// Each comes of a word that was overwritten: nobody is dead here, and everybody closes what he leaves.
    const SEEN: [&str; 12] = [
        "adopt open: Other",
        "adopt: Other",
        "attach: SeatSpoilt",
        "finish: NotHeld",
        "lock of: OwnerDied",
        "push: Busy",
        "receive: Bad",
        "recv text: Decode",
        "recv: Bad",
        "submit: Busy",
        "wait: PeerDied",
        "wait: PeerLeft",
    ];
}
