//! Real segments beside a bad peer: another process writes nonsense over all that a peer may write, at full speed,
//! while ranks, rings and links work. Values may be wrong then, and calls may fail; nothing else. Where an access left
//! its bounds the kernel would end this process.

mod common;

use std::fs::File;
use std::panic::Location;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::hostile::*;
use common::*;
use sapwood_core::board::Leaving;
use sapwood_core::link::{Deadline, Link, Source};
use sapwood_core::mem::Real;
use sapwood_core::member::{Fault, Member, Patience};
use sapwood_core::reduce::Op;
use sapwood_core::wait::WaitPolicy;
use sapwood_shm::barrier::Barrier;
use sapwood_shm::bufs::Pool;
use sapwood_shm::channel::{Channel, FrameChannel, FrameChannelBuilder};
use sapwood_shm::map::SharedMap;
use sapwood_shm::mutex::{LockError, Mutex};
use sapwood_shm::ring::{frames, jobs, latest, mpmc, spsc, stream};
use sapwood_shm::{AllocError, Error, Group, Life, Rendezvous, Segment, link, prices};

const DEADLINE: Duration = Duration::from_millis(60);

/// One rank's work: calls of every kind until the group is over for it, or it has had enough. No result is believed.
fn work(m: &mut Member<Real, Group>, turn: usize) -> Result<(), Fault> {
    const FENCE: u32 = 0xFE4C_E5E5;
    let here = Location::caller();
    let mut resident = match Group::alloc::<f32>(m, 20_000, here) {
        Ok(t) => Some(t),
        Err(AllocError::Fault(fault)) => return Err(fault),
        Err(_) => None,
    };
    for len in [2, 30, 900, 25_000, 300_000] {
        let mut t = vec![1u32; len + 8];
        t[..4].fill(FENCE);
        t[len + 4..].fill(FENCE);
        let own = &mut t[4..len + 4];
        let add = |s: &mut [u32], n: &[u32]| s.iter_mut().zip(n).for_each(|(s, n)| *s = s.wrapping_add(*n));
        let said = match (turn + len / 10) % 4 {
            0 => m.all_reduce_with(&mut [own], add, here).map(drop),
            1 => m.broadcast(&mut [own], turn % m.size(), here),
            _ => m.all_reduce(&mut [own], Op::Sum, here).map(drop),
        };
        assert!(t[..4] == [FENCE; 4] && t[len + 4..] == [FENCE; 4], "a write beyond a tensor of {len}");
        goes_on(said)?;
    }
    if let Some(t) = resident.as_deref_mut() {
        goes_on(m.all_reduce(&mut [t], Op::Sum, here).map(drop))?;
    }
    goes_on(m.barrier(here))
}

/// A mismatch is an answer too.
fn goes_on(said: Result<(), Fault>) -> Result<(), Fault> {
    said.or_else(|fault| if matches!(fault, Fault::Mismatch { .. }) { Ok(()) } else { Err(fault) })
}

/// Enters, for as long as that may take, and works as one rank. Says how many turns came to their end, and what ended
/// it.
fn rank(
    name: &str,
    (rank, ranks): (usize, usize),
    patience: Duration,
    entered: &mpsc::Sender<bool>,
    go: &mpsc::Receiver<()>,
) -> String {
    let group = Group::enter(Rendezvous::Name(name.to_owned()), rank, ranks, patience);
    let _ = entered.send(group.is_ok());
    let _ = go.recv();
    let group = match group {
        Ok(group) => group,
        Err(e) => return format!("entering: {e}"),
    };
    let deadline = DEADLINE.as_nanos() as u64;
    let patience = Patience { policy: WaitPolicy::Adaptive, prices: prices(), crowded: false, deadline };
    let mut m = group.member(patience);
    let mut turns = 0;
    let fault = loop {
        match work(&mut m, turns) {
            Ok(()) if turns < 12 => turns += 1,
            end => break end,
        }
    };
    // Whatever the board says is only said.
    let (behind, pids, cpus) = (m.behind().count(), m.region().pids(), m.region().cpus());
    assert!(behind <= ranks && pids.len() == ranks && cpus <= 1024);
    (0..ranks).for_each(|q| drop(m.calls(q).map(|(a, b)| format!("{a} {b}"))));
    m.leave(Leaving::Dropped);
    format!("{turns} turns, then {fault:?}")
}

/// All ranks of one group. Every call must come back long before `PATIENCE` is over.
fn group(name: &str, ranks: usize, freeze: bool, go: &dyn Fn(bool)) -> Vec<String> {
    let (entered, has_entered) = mpsc::channel();
    let (say, said) = mpsc::channel();
    let mut starts = Vec::new();
    if freeze {
        go(false);
    }
    // Where nobody is in the way all enter, however long the others take on a busy machine.
    let patience = if freeze { PATIENCE / 2 } else { DEADLINE };
    for r in 0..ranks {
        let (entered, say, name) = (entered.clone(), say.clone(), name.to_owned());
        let (start, started) = mpsc::channel();
        starts.push(start);
        std::thread::spawn(move || {
            let _ = say.send(rank(&name, (r, ranks), patience, &entered, &started));
        });
    }
    drop((entered, say));
    for _ in 0..ranks {
        let ok = has_entered.recv_timeout(PATIENCE).expect("whoever enters comes back");
        assert!(ok || !freeze, "nobody was in the way");
    }
    go(true);
    if freeze {
        let file = File::open(file_of(Path::new("/dev/shm"), name)).expect("all are in it");
        until("the bad peer has found it", || read(&file, FOUND as u64, 4) != 0);
    }
    drop(starts);
    let stories: Vec<_> = (0..ranks).map_while(|_| said.recv_timeout(PATIENCE).ok()).collect();
    assert_eq!(stories.len(), ranks, "a rank panicked or never came back; the others: {stories:?}");
    stories
}

#[test]
fn ranks_end_with_typed_errors_beside_a_peer_that_writes_nonsense_everywhere() {
    let (mut stories, counted) = (Vec::new(), std::cell::RefCell::new(Vec::new()));
    beside_a_bad_peer("board", 24, |i, name, go| {
        counted.borrow_mut().extend(group(name, 2 + i % 2, i % 4 != 3, go));
    });
    stories.append(&mut counted.borrow_mut());
    let count = |what: &str| stories.iter().filter(|s| s.contains(what)).count();
    let ends = ["entering", "TimedOut", "Died", "Left", "Failed", "BadToken", "Ok("].map(|e| (e, count(e)));
    println!(
        "{} ranks, {} ended in their first turn: {ends:?}",
        stories.len(),
        stories.iter().filter(|s| s.starts_with("0 turns")).count()
    );
    assert!(
        count("Err(") > 0 && stories.iter().filter(|s| s.starts_with("0 turns")).count() < stories.len(),
        "{stories:?}"
    );
}

/// The very words are written on which entering decides: header and seats. Whoever comes gets a segment that is what it
/// should be, or a typed error, before long.
#[test]
fn who_enters_beside_a_peer_that_writes_nonsense_comes_back_with_a_typed_answer() {
    let answers = std::cell::RefCell::new(std::collections::BTreeMap::<String, u32>::new());
    beside_a_bad_peer("enter", 12, |_, name, go| {
        let (spec, patience) = (spec(3), Duration::from_millis(20));
        go(false);
        let _first = Segment::enter_named(name, &spec, 0, PATIENCE).expect("the first");
        let file = File::open(file_of(Path::new("/dev/shm"), name)).expect("it is there");
        go(true);
        until("the bad peer has found it", || read(&file, FOUND as u64, 4) != 0);
        for i in 0..60 {
            let began = Instant::now();
            let answer = match i % 4 {
                0 => Segment::create_named(name, &spec, 1),
                _ => Segment::enter_named(name, &spec, 1 + i % 2, patience),
            };
            assert!(began.elapsed() < PATIENCE);
            let said = match answer {
                Ok((segment, _seat)) => {
                    assert_eq!((segment.body_len(), segment.spec()), (4096, &spec));
                    (0..3).for_each(|s| {
                        assert!(segment.life(s) != Life::Absent || segment.seat_pid(s) < u32::MAX)
                    });
                    "in".to_owned()
                }
                Err(e) => format!("{e:?}").split([' ', '{', '(']).next().unwrap_or_default().to_owned(),
            };
            *answers.borrow_mut().entry(said).or_default() += 1;
        }
    });
    println!("{:?}", answers.borrow());
    assert!(answers.borrow().len() >= 3, "the bad peer has done no harm: {:?}", answers.borrow());
}

/// How often each answer came.
type Answers = std::collections::BTreeMap<String, u32>;

fn note<V>(answers: &mut Answers, what: &str, said: Result<V, impl std::fmt::Debug>) {
    let said = said.map_or_else(|e| format!("{e:?}").replace('"', ""), |_| "Ok".to_owned());
    let word = said.split([' ', '{', '(']).next().unwrap_or_default();
    *answers.entry(format!("{what}: {word}")).or_default() += 1;
}

/// For calls that wait.
const SOON: Duration = Duration::from_millis(1);
/// Calls on each object, a turn; enough for the bad peer to be met, and successors come when an end has failed.
const TURNS: usize = 100_000;

/// Opens both ends, says so, and works on both in turn. What an end is opened anew after a while finds anything.
type Work = fn(&str, &mut dyn FnMut(), &mut Answers) -> Result<(), Error>;

fn values(name: &str, opened: &mut dyn FnMut(), answers: &mut Answers) -> Result<(), Error> {
    let open =
        || Ok::<_, Error>((spsc::Producer::<u64>::open(name, 64)?, spsc::Consumer::<u64>::open(name, 64)?));
    let (mut tx, mut rx) = open()?;
    opened();
    let mut into = [0; 40];
    for i in 0..TURNS {
        note(answers, "push", tx.try_push(7));
        note(answers, "pop", rx.try_pop());
        if i % 5 == 0 {
            note(answers, "push many", tx.push_slice(&[3; 40]));
            note(answers, "pop many", rx.pop_slice(&mut into));
            assert!(tx.len() <= 64);
        }
        if i % 10_000 == 9_999 {
            note(answers, "peers", Ok::<_, ()>((tx.peer(), rx.peer())));
            tx.leave();
            rx.leave();
            match open() {
                Ok(ends) => (tx, rx) = ends,
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}

fn many(name: &str, opened: &mut dyn FnMut(), answers: &mut Answers) -> Result<(), Error> {
    let open = || mpmc::Ring::<[u64; 3]>::open(name, 16, 8);
    let mut rings = [open()?, open()?, open()?];
    opened();
    for i in 0..TURNS {
        let ring = &mut rings[i % 3];
        note(answers, "push", ring.try_push([7; 3]));
        note(answers, "pop", ring.try_pop());
        assert!(ring.len() <= 16);
        if i % 10_000 == 9_999 {
            rings[i % 3] = open()?;
        }
    }
    Ok(())
}

fn bytes(name: &str, opened: &mut dyn FnMut(), answers: &mut Answers) -> Result<(), Error> {
    let (mut tx, mut rx) = (stream::Writer::open(name, 4096)?, stream::Reader::open(name, 4096)?);
    opened();
    let (from, mut into) = ([7; 5000], [0; 5000]);
    for i in 0..TURNS {
        let wrote = tx.write(&[&from[..i % 100], &from[..i % 5000]]);
        let read = rx.read(&mut into[..(i * 7) % 5000]);
        assert!(wrote.as_ref().is_ok_and(|n| *n <= 4096) || wrote.is_err());
        assert!(read.as_ref().is_ok_and(|n| *n <= 4096) || read.is_err());
        note(answers, "write", wrote);
        note(answers, "read", read);
        assert!(tx.room() <= 4096 && rx.available() <= 4096);
    }
    Ok(())
}

fn newest(name: &str, opened: &mut dyn FnMut(), answers: &mut Answers) -> Result<(), Error> {
    let (mut tx, rx) = (latest::Writer::<[u64; 9]>::open(name)?, latest::Reader::<[u64; 9]>::open(name)?);
    opened();
    for i in 0..TURNS as u64 {
        note(answers, "publish", tx.publish(&[i; 9]));
        note(answers, "read", rx.read());
    }
    Ok(())
}

fn loans(name: &str, opened: &mut dyn FnMut(), answers: &mut Answers) -> Result<(), Error> {
    let open = || frames::Frames::open(name, 8, 300, 4);
    let mut ends = [open()?, open()?];
    opened();
    for i in 0..TURNS {
        let [tx, rx] = &mut ends;
        match tx.loan() {
            Ok(mut loan) => {
                let len = loan.len();
                loan.fill(7);
                note(answers, "send", loan.send(i % (len + 1)).map_err(|e| e.map(|_| ())));
            }
            Err(e) => note(answers, "loan", Err::<(), _>(e)),
        }
        match rx.receive() {
            Ok(message) => {
                assert!(
                    message.len() <= 320 && message.iter().map(|b| u64::from(*b)).sum::<u64>() < 320 * 256
                );
                note(answers, "receive", Ok::<_, ()>(()));
            }
            Err(e) => note(answers, "receive", Err::<(), _>(e)),
        }
        if i % 10_000 == 9_999 {
            ends[i / 10_000 % 2] = open()?;
        }
    }
    Ok(())
}

fn work_items(name: &str, opened: &mut dyn FnMut(), answers: &mut Answers) -> Result<(), Error> {
    let open = || jobs::Jobs::<u64, [u64; 2]>::open(name, 16, 4, 3);
    let mut ends = [open()?, open()?];
    opened();
    for i in 0..TURNS {
        let [owner, worker] = &mut ends;
        note(answers, "submit", owner.submit(i as u64));
        match worker.take() {
            Ok(taken) if i % 9 == 0 => note(answers, "decline", worker.decline(taken)),
            Ok(taken) => note(answers, "finish", worker.finish(taken, [7; 2])),
            Err(e) => note(answers, "take", Err::<(), _>(e)),
        }
        note(answers, "collect", owner.collect().ok_or("Empty"));
        if i % 10_000 == 9_999 {
            owner.recover_dead();
            assert!(owner.census().in_flight() <= 16);
            ends[i / 10_000 % 2] = open()?;
        }
    }
    Ok(())
}

fn messages(name: &str, opened: &mut dyn FnMut(), answers: &mut Answers) -> Result<(), Error> {
    let (mut a, mut b) = (link::open(name, 4096, 0)?, link::open(name, 4096, 1)?);
    opened();
    let (soon, mut into) = (Deadline::after(Duration::from_millis(1)), [0; 3000]);
    for i in 0..TURNS / 100 {
        note(answers, "try_send", a.try_send(i as u64, Source::Bytes(&[7; 100])));
        note(answers, "try_recv", b.try_recv());
        note(answers, "recv", b.recv(&mut into, soon));
        if i % 16 == 0 {
            note(answers, "send", b.send(i as u64, Source::Bytes(&[7; 3000]), soon));
            note(answers, "recv long", a.recv(&mut into, soon));
        }
    }
    note(answers, "close", a.close(soon));
    Ok(())
}

fn locks(name: &str, opened: &mut dyn FnMut(), answers: &mut Answers) -> Result<(), Error> {
    let open = || Mutex::<[u64; 4]>::open(name, 4);
    let mut ends = [open()?, open()?];
    opened();
    for i in 0..TURNS {
        for mutex in &mut ends {
            let locked = if i % 64 == 0 { mutex.lock_timeout(SOON) } else { mutex.try_lock() };
            note(answers, "lock", locked.as_ref().map(drop));
            if let Ok(mut guard) = locked.or_else(LockError::into_guard) {
                *guard = [i as u64; 4];
                guard.mark_consistent();
            }
        }
        if i % 10_000 == 9_999 {
            ends[i / 10_000 % 2] = open()?;
        }
    }
    Ok(())
}

fn meetings(name: &str, opened: &mut dyn FnMut(), answers: &mut Answers) -> Result<(), Error> {
    let (mut one, mut two) = (Barrier::open(name, 2)?, Barrier::open(name, 2)?);
    opened();
    for _ in 0..TURNS / 1000 {
        std::thread::scope(|s| {
            let other = s.spawn(|| two.wait_timeout(SOON));
            note(answers, "wait", one.wait_timeout(SOON));
            note(answers, "wait", other.join().expect("it does not panic"));
        });
    }
    Ok(())
}

fn channels(name: &str, opened: &mut dyn FnMut(), answers: &mut Answers) -> Result<(), Error> {
    let open = || Channel::<[u64; 3]>::open(name, 4, 4);
    let mut ends = [open()?, open()?];
    opened();
    let (mut some, short) = (Vec::new(), Duration::from_micros(200));
    // A turn waits four times, and beside busy others a sleep of 200 microseconds takes some milliseconds.
    for i in 0..TURNS / 500 {
        let [tx, rx] = &mut ends;
        note(answers, "send", tx.send_timeout([7; 3], short));
        note(answers, "try_send", rx.try_send([7; 3]));
        note(answers, "recv", rx.recv_timeout(short));
        note(answers, "batch", rx.recv_batch_timeout(&mut some, 3, short));
        note(answers, "state", Ok::<_, ()>(tx.state()));
        assert!(some.len() <= 3 && tx.len() <= 8);
        some.clear();
        if i % 50 == 49 {
            ends[i / 50 % 2] = open()?;
        }
    }
    Ok(())
}

fn channels_of_frames(name: &str, opened: &mut dyn FnMut(), answers: &mut Answers) -> Result<(), Error> {
    frames_of(FrameChannel::builder(4, 300).participants(4), name, opened, answers)
}

fn frames_that_come_again(name: &str, opened: &mut dyn FnMut(), answers: &mut Answers) -> Result<(), Error> {
    frames_of(FrameChannel::builder(4, 300).participants(4).redelivering(), name, opened, answers)
}

fn frames_of(
    plan: FrameChannelBuilder,
    name: &str,
    opened: &mut dyn FnMut(),
    answers: &mut Answers,
) -> Result<(), Error> {
    let open = || plan.open(name).map(|c| c.with_deadline(Duration::from_micros(200)));
    let mut ends = [open()?, open()?];
    opened();
    // As in a channel of values.
    for i in 0..TURNS / 500 {
        let [tx, rx] = &mut ends;
        note(answers, "send", tx.send_value(&[i as u64; 9]));
        note(answers, "recv", rx.recv_value::<[u64; 9]>());
        note(answers, "bytes", rx.recv().map(|m| assert!(m.len() <= 320)));
        note(answers, "state", Ok::<_, ()>(rx.state()));
        if i % 50 == 49 {
            ends[i / 50 % 2] = open()?;
        }
    }
    Ok(())
}

/// One handle of the pool has buffers alone, reads and opens what the other sends, and what it sends itself.
fn buffers(name: &str, opened: &mut dyn FnMut(), answers: &mut Answers) -> Result<(), Error> {
    let open = || Pool::open(name, 8, 256, 4);
    let mut ends = [open()?, open()?];
    opened();
    for i in 0..TURNS / 10 {
        // First, because what a bad peer makes held for good is not lent any more.
        if i % 1000 == 999 {
            ends.iter().for_each(|end| _ = (end.recall(), end.void_left()));
            ends[i / 1000 % 2] = open()?;
        }
        let [from, to] = &ends;
        let alone = from.alloc::<u64>(32);
        note(answers, "alloc", alone.as_ref().map(drop));
        let Ok(mut alone) = alone else { continue };
        alone.fill(i as u64);
        assert_eq!(alone.len(), 32);
        if i % 2 == 0 {
            let shared = alone.into_shared();
            for (what, end) in [("adopt", to), ("adopt ours", from)] {
                let Ok(descriptor) = shared.share() else { continue };
                let adopted = end.adopt::<u64>(descriptor);
                note(answers, what, adopted.as_ref().map(drop));
                adopted.iter().for_each(|values| assert!(values.len() <= 32 && values.iter().count() <= 32));
            }
            note(answers, "alone again", shared.into_unique().map(drop));
        } else {
            let shared = alone.into_open();
            let Ok(descriptor) = shared.into_descriptor() else { continue };
            let adopted = to.adopt_open::<u64>(descriptor);
            note(answers, "adopt open", adopted.as_ref().map(drop));
            adopted.iter().for_each(|values| assert!(values.len() <= 32 && values.to_vec().len() <= 32));
        }
        let stats = to.stats();
        assert!(stats.blocks == 8 && stats.held <= 8 && stats.in_flight <= 8 * 16);
    }
    Ok(())
}

fn pairs(name: &str, opened: &mut dyn FnMut(), answers: &mut Answers) -> Result<(), Error> {
    let short = Duration::from_micros(200);
    let open = || SharedMap::<u64, [u64; 3]>::open(name, 16, 4).map(|map| map.with_deadline(short));
    let mut ends = [open()?, open()?];
    opened();
    for i in 0..TURNS / 50 {
        let key = i as u64 % 20;
        for map in &mut ends {
            note(answers, "insert", map.insert(key, [7; 3]));
            note(answers, "get", map.get(&(key / 2)));
            note(answers, "update", map.try_update(&key, |n| n.map(|n| n.map(|n| n.wrapping_add(1)))));
            note(answers, "remove", map.try_remove(&(key / 3)));
        }
        if i % 50 == 49 {
            let [one, two] = &mut ends;
            note(answers, "snapshot", one.snapshot().map(|all| assert!(all.len() <= 64)));
            note(answers, "drain", two.drain().map(|all| assert!(all.len() <= 64)));
        }
        if i % 500 == 499 {
            ends[i / 500 % 2] = open()?;
        }
    }
    Ok(())
}

/// One object, beside the bad peer. Every call must come back long before `PATIENCE` is over.
fn object(what: &str, name: &str, work: Work, freeze: bool, go: &dyn Fn(bool)) -> Answers {
    let (say, said) = mpsc::channel();
    let (opened, has_opened) = mpsc::channel();
    let (start, started) = mpsc::channel::<()>();
    if freeze {
        go(false);
    }
    let of = name.to_owned();
    std::thread::spawn(move || {
        let mut answers = Answers::new();
        let mut wait = || {
            let _ = opened.send(());
            let _ = started.recv();
        };
        let end = work(&of, &mut wait, &mut answers);
        note(&mut answers, "opened", end);
        let _ = say.send(answers);
    });
    let opened = has_opened.recv_timeout(PATIENCE);
    assert!(opened.is_ok() || !freeze, "nobody was in the way");
    go(true);
    if freeze {
        let file = File::open(file_of(Path::new("/dev/shm"), name)).expect("all are in it");
        until("the bad peer has found it", || read(&file, FOUND as u64, 4) != 0);
    }
    drop(start);
    said.recv_timeout(2 * PATIENCE).unwrap_or_else(|e| panic!("{what}, opened by then: {freeze}: {e}"))
}

#[test]
fn rings_and_links_answer_beside_a_peer_that_writes_nonsense_everywhere() {
    let works: &[(&str, Work)] = &[
        ("spsc", values),
        ("mpmc", many),
        ("stream", bytes),
        ("latest", newest),
        ("frames", loans),
        ("jobs", work_items),
        ("link", messages),
        ("mutex", locks),
        ("barrier", meetings),
        ("channel", channels),
        ("channel of frames", channels_of_frames),
        ("frames that come again", frames_that_come_again),
        ("pool", buffers),
        ("map", pairs),
    ];
    let all = std::cell::RefCell::new(std::collections::BTreeMap::<&str, Answers>::new());
    beside_a_bad_peer("rings", 6 * works.len(), |i, name, go| {
        let (what, work) = works[i % works.len()];
        let found = object(what, name, work, i / works.len() % 4 != 3, go);
        let mut all = all.borrow_mut();
        let answers = all.entry(what).or_default();
        found.into_iter().for_each(|(said, n)| *answers.entry(said).or_default() += n);
    });
    let mut harm = 0;
    for (what, answers) in all.borrow().iter() {
        println!("{what}: {answers:?}");
        let usual = |said: &str| [": Ok", ": Empty", ": Full"].iter().any(|u| said.ends_with(u));
        harm += answers.iter().filter(|(said, _)| !usual(said)).map(|(_, n)| n).sum::<u32>();
    }
    assert!(harm > 0, "the bad peer has done no harm");
}
