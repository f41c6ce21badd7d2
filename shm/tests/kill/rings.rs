//! Rings: pushed to and popped from, one to one and many to many, closed, and taken over.
//!
//! The actor holds both ends (a forked child can hold what its parent can't see in its hands); when it is dead the
//! survivor takes both seats again.

use std::sync::Arc;

use sapwood_shm::ring::{Life, PopError, PushError, latest, spsc, stream};
use sapwood_shm::{Error, Segment, Spec};

use crate::common::until;
use crate::sweep::Death;

/// A value that has a cache line to itself, so that it can be torn.
pub(crate) type Value = [u64; 7];

fn value(i: u64) -> Value {
    [i, !i, i, !i, i, !i, i]
}

fn made(spec: Result<Spec, Error>) -> Arc<Segment> {
    Arc::new(Segment::create(&spec.expect("such a ring can be")).expect("there is memory"))
}

const CAPACITY: usize = 2;

pub(crate) type Ends = (spsc::Producer<Value>, spsc::Consumer<Value>);

fn ends(segment: &Arc<Segment>) -> Ends {
    let tx = spsc::Producer::attach(segment, CAPACITY).expect("seat 0 is free");
    (tx, spsc::Consumer::attach(segment, CAPACITY).expect("seat 1 is free"))
}

fn put(tx: &mut spsc::Producer<Value>, i: u64) {
    assert_eq!(tx.try_push(value(i)), Ok(()), "there is room");
}

/// Both ends after a lap and a half, with value 3 in the ring.
fn in_the_middle(segment: &Arc<Segment>) -> Ends {
    let (mut tx, mut rx) = ends(segment);
    for i in 0..4 {
        put(&mut tx, i);
        if i < 3 {
            assert_eq!(rx.try_pop(), Ok(value(i)));
        }
    }
    (tx, rx)
}

/// The ring works: through more than a lap.
fn goes_on((mut tx, mut rx): Ends, left: Option<u64>) {
    if let Some(i) = left {
        assert_eq!(rx.try_pop(), Ok(value(i)));
    }
    for i in 10..20 {
        put(&mut tx, i);
        assert_eq!(rx.try_pop(), Ok(value(i)));
    }
    assert_eq!(rx.try_pop(), Err(PopError::Empty));
}

pub(crate) struct Push;

impl Death for Push {
    const NAME: &'static str = "push to a ring of two";
    type World = Arc<Segment>;
    type Actor = Ends;
    fn world() -> Arc<Segment> {
        made(spsc::spec::<Value>(CAPACITY))
    }
    fn arrive(segment: &Arc<Segment>) -> Ends {
        in_the_middle(segment)
    }
    fn act((tx, _): &mut Ends) -> impl Sized {
        tx.try_push(value(4))
    }
    fn survive(segment: Arc<Segment>, completed: bool) -> &'static str {
        let mut rx = spsc::Consumer::attach(&segment, CAPACITY).expect("its holder is dead");
        assert_eq!(rx.try_pop(), Ok(value(3)));
        let mut sent = false;
        until("the death is noticed", || match rx.try_pop() {
            Ok(v) => {
                assert!(v == value(4) && !sent, "{v:?}");
                sent = true;
                false
            }
            Err(PopError::PeerDied { peer }) => peer.seat == 0,
            Err(e) => e != PopError::Empty,
        });
        assert!(sent || !completed);
        let tx = spsc::Producer::attach(&segment, CAPACITY).expect("its holder is dead");
        goes_on((tx, rx), None);
        if sent { "sent" } else { "not sent" }
    }
}

pub(crate) struct PushSlice;

impl Death for PushSlice {
    const NAME: &'static str = "push several to a ring of two";
    type World = Arc<Segment>;
    type Actor = (spsc::Producer<u64>, Vec<u64>);
    fn world() -> Arc<Segment> {
        made(spsc::spec::<u64>(32))
    }
    fn arrive(segment: &Arc<Segment>) -> (spsc::Producer<u64>, Vec<u64>) {
        (spsc::Producer::attach(segment, 32).expect("seat 0 is free"), (0..20).collect())
    }
    fn act((tx, values): &mut (spsc::Producer<u64>, Vec<u64>)) -> impl Sized {
        tx.push_slice(values)
    }
    fn survive(segment: Arc<Segment>, completed: bool) -> &'static str {
        let mut rx = spsc::Consumer::<u64>::attach(&segment, 32).expect("seat 1 is free");
        let mut tx = spsc::Producer::<u64>::attach(&segment, 32).expect("its holder is dead");
        assert_eq!(tx.try_push(1000), Ok(()));
        let mut next = 0;
        let last = loop {
            match rx.try_pop() {
                Ok(v) if v == next => next += 1,
                other => break other,
            }
        };
        assert_eq!(last, Ok(1000), "after {next} values");
        assert!(next == 20 || next < 20 && !completed);
        match next {
            0 => "none sent",
            20 => "all sent",
            _ => "some sent",
        }
    }
}

pub(crate) struct Pop;

impl Death for Pop {
    const NAME: &'static str = "pop from a ring of two";
    type World = Arc<Segment>;
    type Actor = Ends;
    fn world() -> Arc<Segment> {
        made(spsc::spec::<Value>(CAPACITY))
    }
    fn arrive(segment: &Arc<Segment>) -> Ends {
        in_the_middle(segment)
    }
    fn act((_, rx): &mut Ends) -> impl Sized {
        rx.try_pop()
    }
    fn survive(segment: Arc<Segment>, completed: bool) -> &'static str {
        let mut tx = spsc::Producer::attach(&segment, CAPACITY).expect("its holder is dead");
        // Full at once, or after one more: depends on whether the place of value 3 was given back.
        let room = (4..7).take_while(|i| tx.try_push(value(*i)).is_ok()).count() as u64;
        until("the death is noticed", || match tx.try_push(value(9)) {
            Err(PushError::PeerDied { peer, value: v }) => peer.seat == 1 && v == value(9),
            Err(PushError::Full(_)) => false,
            other => panic!("{other:?}"),
        });
        let mut rx = spsc::Consumer::attach(&segment, CAPACITY).expect("its holder is dead");
        let left = 2 + room;
        assert!(left == 4 || left == 3, "{room} more than value 3 found room");
        for i in left..=3 + room {
            assert_eq!(rx.try_pop(), Ok(value(i)));
        }
        assert!(left == 4 || !completed);
        goes_on((tx, rx), None);
        if left == 4 { "taken" } else { "not taken" }
    }
}

/// Dropping an end.
pub(crate) struct Close;

impl Death for Close {
    const NAME: &'static str = "close a ring of two";
    type World = Arc<Segment>;
    type Actor = Option<Ends>;
    fn world() -> Arc<Segment> {
        made(spsc::spec::<Value>(CAPACITY))
    }
    fn arrive(segment: &Arc<Segment>) -> Option<Ends> {
        Some(in_the_middle(segment))
    }
    fn act(ends: &mut Option<Ends>) -> impl Sized {
        let (tx, rx) = ends.take().expect("once");
        drop(tx);
        rx
    }
    fn survive(segment: Arc<Segment>, completed: bool) -> &'static str {
        let mut rx = spsc::Consumer::attach(&segment, CAPACITY).expect("its holder is dead");
        assert_eq!(rx.try_pop(), Ok(value(3)));
        let mut end = PopError::Empty;
        until("there is an end", || {
            end = rx.try_pop().expect_err("nothing more was sent");
            end != PopError::Empty
        });
        let said = spsc::Producer::<Value>::attach(&segment, CAPACITY);
        match end {
            PopError::Drained => {
                assert!(matches!(said, Err(Error::EndClosed { end: "producer" })), "{said:?}")
            }
            PopError::PeerDied { .. } if !completed => goes_on((said.expect("it is free"), rx), None),
            other => panic!("{other}"),
        }
        if end == PopError::Drained { "closed" } else { "dead" }
    }
}

/// A newcomer to a dead end is killed in its turn.
pub(crate) struct Succeed;

impl Death for Succeed {
    const NAME: &'static str = "take a dead end of a ring of two";
    type World = Arc<Segment>;
    type Actor = (Arc<Segment>, spsc::Consumer<Value>, Option<spsc::Producer<Value>>);
    fn world() -> Arc<Segment> {
        let segment = made(spsc::spec::<Value>(CAPACITY));
        let (tx, rx) = in_the_middle(&segment);
        tx.leave();
        rx.leave();
        segment
    }
    fn arrive(segment: &Arc<Segment>) -> Self::Actor {
        (segment.clone(), spsc::Consumer::attach(segment, CAPACITY).expect("it is free"), None)
    }
    fn act((segment, _, tx): &mut Self::Actor) -> impl Sized {
        *tx = spsc::Producer::attach(segment, CAPACITY).ok();
    }
    fn survive(segment: Arc<Segment>, _: bool) -> &'static str {
        let life = segment.life(0);
        assert_eq!(life, Life::Dead);
        goes_on(ends(&segment), Some(3));
        "taken again"
    }
}

const PATTERN: [u8; 8] = *b"abcdefgh";

pub(crate) struct Write;

impl Death for Write {
    const NAME: &'static str = "write to a stream";
    type World = Arc<Segment>;
    type Actor = (stream::Writer, stream::Reader);
    fn world() -> Arc<Segment> {
        made(stream::spec(16))
    }
    fn arrive(segment: &Arc<Segment>) -> Self::Actor {
        let mut tx = stream::Writer::attach(segment, 16).expect("seat 0 is free");
        let mut rx = stream::Reader::attach(segment, 16).expect("seat 1 is free");
        // So that the write goes over the end.
        assert_eq!((tx.write(&[&PATTERN, b"ab"]), rx.read(&mut [0; 9])), (Ok(10), Ok(9)));
        (tx, rx)
    }
    fn act((tx, _): &mut Self::Actor) -> impl Sized {
        tx.write(&[&PATTERN[2..5], &PATTERN[5..], b"a"])
    }
    fn survive(segment: Arc<Segment>, completed: bool) -> &'static str {
        let mut tx = stream::Writer::attach(&segment, 16).expect("its holder is dead");
        let mut rx = stream::Reader::attach(&segment, 16).expect("its holder is dead");
        assert_eq!(tx.write(&[b"!"]), Ok(1));
        let mut got = [0; 16];
        match (rx.read(&mut got).expect("there is something"), &got) {
            (9, b"bcdefgha!\0\0\0\0\0\0\0") => "sent",
            (2, b"b!\0\0\0\0\0\0\0\0\0\0\0\0\0\0") if !completed => "not sent",
            (n, got) => panic!("{n} bytes: {got:?}"),
        }
    }
}

pub(crate) struct Read;

impl Death for Read {
    const NAME: &'static str = "read from a stream";
    type World = Arc<Segment>;
    type Actor = (stream::Writer, stream::Reader, [u8; 6]);
    fn world() -> Arc<Segment> {
        made(stream::spec(16))
    }
    fn arrive(segment: &Arc<Segment>) -> Self::Actor {
        let mut tx = stream::Writer::attach(segment, 16).expect("seat 0 is free");
        let mut rx = stream::Reader::attach(segment, 16).expect("seat 1 is free");
        assert_eq!((tx.write(&[&[0; 12]]), rx.read(&mut [0; 12])), (Ok(12), Ok(12)));
        assert_eq!(tx.write(&[&PATTERN]), Ok(8));
        (tx, rx, [0; 6])
    }
    fn act((_, rx, into): &mut Self::Actor) -> impl Sized {
        rx.read(into)
    }
    fn survive(segment: Arc<Segment>, completed: bool) -> &'static str {
        let mut tx = stream::Writer::attach(&segment, 16).expect("its holder is dead");
        let mut rx = stream::Reader::attach(&segment, 16).expect("its holder is dead");
        assert_eq!(tx.write(&[b"!!!!!!!!"]), Ok(8));
        let mut got = [0; 16];
        match (rx.read(&mut got).expect("there is something"), &got) {
            (10, b"gh!!!!!!!!\0\0\0\0\0\0") => "taken",
            (16, b"abcdefgh!!!!!!!!") if !completed => "not taken",
            (n, got) => panic!("{n} bytes: {got:?}"),
        }
    }
}

pub(crate) struct Publish;

impl Death for Publish {
    const NAME: &'static str = "publish a newest value";
    type World = Arc<Segment>;
    type Actor = latest::Writer<[u64; 11]>;
    fn world() -> Arc<Segment> {
        Arc::new(Segment::create(&latest::spec::<[u64; 11]>()).expect("there is memory"))
    }
    fn arrive(segment: &Arc<Segment>) -> Self::Actor {
        let mut writer = latest::Writer::attach(segment).expect("seat 0 is free");
        (1..=6).for_each(|i| assert_eq!(writer.publish(&[i; 11]), Ok(i)));
        writer
    }
    fn act(writer: &mut Self::Actor) -> impl Sized {
        writer.publish(&[7; 11])
    }
    fn survive(segment: Arc<Segment>, completed: bool) -> &'static str {
        let reader = latest::Reader::<[u64; 11]>::attach(&segment).expect("a seat is free");
        let (n, value) = reader.read().expect("nobody overtakes");
        assert!(value == [n; 11] && (n == 7 || n == 6 && !completed), "{n}: {value:?}");
        let mut writer = latest::Writer::<[u64; 11]>::attach(&segment).expect("its holder is dead");
        assert_eq!((writer.publish(&[n + 1; 11]), reader.read()), (Ok(n + 1), Ok((n + 1, [n + 1; 11]))));
        if n == 7 { "published" } else { "not published" }
    }
}
