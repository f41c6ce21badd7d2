//! Deadlines, wake-ups, and two ends that wait for each other.

use super::*;
use crate::link::{ExchangeError, Part, Ready, RecvError, SendError};
use crate::wire::{Encoder, Head, Limits};

pub(super) fn checks<R: Rig>() -> Vec<Check<R>> {
    vec![
        ("a deadline before anything came leaves the link as it was", nothing_came),
        ("a deadline before anything was sent leaves the link as it was", nothing_went),
        ("a deadline in the middle of sending aborts the message", cut_sending),
        ("after an abort both directions go on", after_an_abort),
        ("a deadline in the middle of receiving skips the rest", cut_receiving),
        ("beats without end keep no call from its deadline", beats),
        ("who waits is woken", woken),
        ("poll says what would not have to wait", polled),
        ("two ends that both send more than fits both learn it", both_sending),
        ("a message that can wait whole keeps nobody from sending", not_both_sending),
        ("two ends that exchange never wait for each other", exchange),
        ("an exchange goes on with the half that can", half_an_exchange),
    ]
}

fn nothing_came<R: Rig>(rig: &R) {
    let (mut a, mut b) = rig.pair();
    let mut into = [0; 4];
    for deadline in [Deadline::NONE, SHORT] {
        let error = b.recv(&mut into, deadline);
        assert!(matches!(error, Err(RecvError::Deadline { .. })), "{error:?}");
    }
    expect_usable(&mut a, &mut b);
}

/// Sends messages of this length until there is no room; says how many.
fn fill(link: &mut impl Link, len: usize) -> u64 {
    (0..).take_while(|tag| link.try_send(*tag, Source::Bytes(&payload(*tag, len))).is_ok()).count() as u64
}

fn nothing_went<R: Rig>(rig: &R) {
    let (mut a, mut b) = rig.pair();
    let (sent, empty) = (fill(&mut a, 100), fill(&mut a, 0));
    for deadline in [Deadline::NONE, SHORT] {
        let error = a.send(77, Source::Bytes(&payload(77, 200)), deadline);
        assert!(matches!(error, Err(SendError::Deadline { tag: 77, .. })), "{error:?}");
    }
    (0..sent).for_each(|tag| expect_bytes(&mut b, tag, 100));
    (0..empty).for_each(|tag| expect_bytes(&mut b, tag, 0));
    assert_eq!(b.try_recv(), Ok(None), "nothing of it arrived");
    expect_usable(&mut a, &mut b);
}

/// Begins a message that can't be whole before the peer receives, and gives it up; says how much was sent.
fn send_a_part(link: &mut impl Link, tag: u64, total: usize) -> u64 {
    match link.send(tag, Source::Bytes(&payload(tag, total)), SHORT) {
        Err(SendError::Cut { part, .. }) => {
            assert_eq!((part.tag, part.total), (tag, total as u64));
            assert!(part.done > 0 && part.done < part.total, "{part}");
            part.done
        }
        other => panic!("{other:?}"),
    }
}

fn expect_aborted(link: &mut impl Link, tag: u64, total: usize, done: u64) {
    let mut into = vec![0; total];
    let part = Part { tag, done, total: total as u64 };
    assert_eq!(link.recv(&mut into, LONG), Err(RecvError::Aborted { part }));
    assert!(into[..done as usize] == payload(tag, total)[..done as usize], "what came is right");
}

fn cut_sending<R: Rig>(rig: &R) {
    let (mut a, mut b) = rig.pair();
    let total = 3 * rig.more_than_fits();
    for tag in 0..3 {
        let done = send_a_part(&mut a, tag, total);
        expect_aborted(&mut b, tag, total, done);
    }
    // Nobody is told of a message that he skips anyway.
    let _ = send_a_part(&mut a, 4, total);
    b.poll(Ready { recv: true, send: false }, LONG).expect("open");
    assert!(b.refuse());
    assert_eq!(b.try_recv(), Ok(None));
    expect_usable(&mut a, &mut b);
    assert_eq!((a.stats().sent.aborted, b.stats().received.aborted), (4, 4));
}

fn after_an_abort<R: Rig>(rig: &R) {
    let (mut a, b) = rig.pair();
    let total = 3 * rig.more_than_fits();
    let done = send_a_part(&mut a, 1, total);
    let receive = |b: &mut R::L| {
        expect_aborted(b, 1, total, done);
        expect_bytes(b, 2, 10);
    };
    let (b, _, _) = beside(b, receive, || send_bytes(&mut a, 2, 10));
    let done = send_a_part(&mut a, 3, total);
    let answer = |b: &mut R::L| {
        expect_aborted(b, 3, total, done);
        send_bytes(b, 4, 10);
    };
    let (mut b, _, _) = beside(b, answer, || expect_bytes(&mut a, 4, 10));
    expect_usable(&mut a, &mut b);
}

fn cut_receiving<R: Rig>(rig: &R) {
    let (mut a, mut b) = rig.pair();
    let total = 3 * rig.more_than_fits();
    // What comes is the beginning of a message whose sender then does something else.
    let (stream, header) = (rig.stream(), first_frame(rig.stream(), total));
    rig.inject(&mut a, &[&header.encode(None)[..], &[1; 8]].concat());
    let mut into = vec![0; total];
    match b.recv(&mut into, SHORT) {
        Err(RecvError::Cut { part, .. }) => assert_eq!(part, Part { tag: 7, done: 8, total: total as u64 }),
        other => panic!("{other:?}"),
    }
    assert_eq!((&into[..8], into[8]), (&[1; 8][..], 0));
    rig.inject(&mut a, &[2; 4]);
    let abort =
        Header { kind: Kind::Abort, len: 0, offset: 12, sequence: stream.first.wrapping_add(1), ..header };
    rig.inject(&mut a, &abort.encode(None));
    let next = Header { total: 3, len: 3, sequence: stream.first.wrapping_add(2), ..header };
    rig.inject(&mut a, &[&next.encode(None)[..], &payload(7, 3)].concat());
    expect_bytes(&mut b, 7, 3);
    assert_eq!((b.try_recv(), b.stats().skipped), (Ok(None), 1));
}

fn beats<R: Rig>(rig: &R) {
    let (mut a, mut b) = rig.pair();
    let mut encoder = Encoder::new(rig.stream(), Limits::DEFAULT);
    let (mut head, mut all) = (Head::new(), Vec::new());
    // As many as surely fit, since a link that holds little of what it might is no use.
    for n in 0..rig.more_than_fits() as u64 / 4 / 64 {
        encoder.beat(n, &mut head).expect("open");
        all.extend_from_slice(head.bytes());
    }
    rig.inject(&mut a, &all);
    let error = b.recv(&mut [], Deadline::NONE);
    assert!(matches!(error, Err(RecvError::Deadline { .. })), "{error:?}");
    encoder.credit(&mut head).expect("open");
    rig.inject(&mut a, head.bytes());
    assert_eq!(b.poll(Ready { recv: true, send: false }, SHORT), Ok(Ready::default()));
    send_bytes(&mut b, 3, 10);
    expect_bytes(&mut a, 3, 10);
}

fn woken<R: Rig>(rig: &R) {
    let (mut a, b) = rig.pair();
    // Each answer waits for the question, each question for the answer before.
    let answer = |b: &mut R::L| {
        for tag in 0..200 {
            expect_bytes(b, tag, 8);
            send_bytes(b, tag, 8);
        }
    };
    let ask = || {
        for tag in 0..200 {
            send_bytes(&mut a, tag, 8);
            expect_bytes(&mut a, tag, 8);
        }
    };
    let (mut b, _, _) = beside(b, answer, ask);
    // A sender that found no room is woken by whoever receives, refuses or skips.
    let long = 5 * rig.more_than_fits();
    (b, _, _) = beside(
        b,
        |b| {
            b.poll(Ready { recv: true, send: false }, LONG).expect("open");
            assert!(b.refuse());
            expect_bytes(b, 2, long);
        },
        || [1, 2].into_iter().for_each(|tag| send_bytes(&mut a, tag, long)),
    );
    expect_usable(&mut a, &mut b);
}

fn polled<R: Rig>(rig: &R) {
    let (mut a, mut b) = rig.pair();
    let (recv, send) = (Ready { recv: true, send: false }, Ready { recv: false, send: true });
    let both = Ready { recv: true, send: true };
    assert_eq!(b.poll(recv, SHORT), Ok(Ready::default()));
    assert_eq!(b.poll(send, LONG), Ok(send));
    assert_eq!(b.poll(both, LONG), Ok(send));
    send_bytes(&mut a, 1, 5);
    assert_eq!(b.poll(recv, LONG).map(|r| r.recv), Ok(true));
    expect_bytes(&mut b, 1, 5);
    let sent = fill(&mut a, 100);
    // A message of 100 bytes did not fit; perhaps a shorter one still does, but not for ever.
    let mut more = 0;
    while a.poll(send, Deadline::NONE) == Ok(send) {
        a.try_send(0, Source::Bytes(&[])).expect("poll said so");
        more += 1;
        assert!(more < 100);
    }
    assert_eq!(a.poll(both, SHORT), Ok(Ready::default()));
    let (mut b, _, ready) = beside(
        b,
        |b| {
            (0..sent).for_each(|tag| expect_bytes(b, tag, 100));
            (0..more).for_each(|_| expect_bytes(b, 0, 0));
        },
        || a.poll(send, LONG),
    );
    assert_eq!(ready, Ok(send));
    expect_usable(&mut a, &mut b);
}

fn both_sending<R: Rig>(rig: &R) {
    let (mut a, b) = rig.pair();
    let total = 3 * rig.more_than_fits();
    let half_a_second = Deadline::after(Duration::from_millis(500));
    let send = |link: &mut R::L, tag| link.send(tag, Source::Bytes(&payload(tag, total)), half_a_second);
    let (mut b, there, here) = beside(b, |b| send(b, 2), || send(&mut a, 1));
    for (tag, result) in [(1, here), (2, there)] {
        match result {
            Err(SendError::BothSending { part, theirs }) => {
                assert_eq!((part.tag, part.total, theirs), (tag, total as u64, total as u64));
            }
            Err(SendError::Cut { part, .. }) => assert_eq!((part.tag, part.total), (tag, total as u64)),
            other => panic!("{other:?}"),
        }
    }
    // Neither message was whole, and the link goes on.
    for (link, tag) in [(&mut a, 2), (&mut b, 1)] {
        let mut into = vec![0; total];
        let error = link.recv(&mut into, LONG);
        assert!(matches!(error, Err(RecvError::Aborted { part }) if part.tag == tag), "{error:?}");
    }
    expect_usable(&mut a, &mut b);
}

/// Whoever sent it may be about to receive: only the deadline may end this.
fn not_both_sending<R: Rig>(rig: &R) {
    let (mut a, mut b) = rig.pair();
    let total = 3 * rig.more_than_fits();
    send_bytes(&mut b, 2, 10);
    let done = send_a_part(&mut a, 1, total);
    expect_aborted(&mut b, 1, total, done);
    expect_bytes(&mut a, 2, 10);
    expect_usable(&mut a, &mut b);
}

fn exchange<R: Rig>(rig: &R) {
    let (mut a, b) = rig.pair();
    let total = 5 * rig.more_than_fits();
    let swap = |link: &mut R::L, mine: u64, theirs: u64, len: usize| {
        let mut into = vec![0; len];
        let got = link.send_recv(mine, Source::Bytes(&payload(mine, len)), Target::Bytes(&mut into), LONG);
        assert_eq!(got, Ok(Incoming { tag: theirs, content: Content::Bytes(len as u64) }));
        assert!(into == payload(theirs, len));
    };
    let lens = [total, 0, 1, total + 3, 200];
    let (b, _, _) = beside(
        b,
        |b| lens.iter().for_each(|n| swap(b, 2, 1, *n)),
        || lens.iter().for_each(|n| swap(&mut a, 1, 2, *n)),
    );
    // Against an end that sends first and receives then, and one that does the opposite.
    let (b, _, _) = beside(
        b,
        |b| {
            send_bytes(b, 2, total);
            expect_bytes(b, 1, total);
        },
        || swap(&mut a, 1, 2, total),
    );
    let (mut b, _, _) = beside(
        b,
        |b| {
            expect_bytes(b, 1, total);
            send_bytes(b, 2, total);
        },
        || swap(&mut a, 1, 2, total),
    );
    expect_usable(&mut a, &mut b);
}

fn half_an_exchange<R: Rig>(rig: &R) {
    let (mut a, b) = rig.pair();
    let total = 3 * rig.more_than_fits();
    // What comes is refused: what goes arrives all the same.
    let mut into = [0.0f32; 3];
    let (mut b, _, result) = beside(
        b,
        |b| {
            send_bytes(b, 2, total);
            expect_bytes(b, 1, total);
        },
        || {
            let target = Target::Tensor(ViewMut::new(&mut into));
            a.send_recv(1, Source::Bytes(&payload(1, total)), target, LONG)
        },
    );
    let refused =
        matches!(result, Err(ExchangeError { send: Ok(()), recv: Err(RecvError::Refused { tag: 2, .. }) }));
    assert!(refused, "{result:?}");
    // Nobody takes what goes: what comes arrives all the same. What is left of the refused message is skipped first, or
    // there might be no room.
    assert_eq!(a.poll(Ready { recv: true, send: false }, SHORT), Ok(Ready::default()));
    send_bytes(&mut b, 4, 10);
    let mut into = [0; 10];
    let result = a.send_recv(3, Source::Bytes(&payload(3, total)), Target::Bytes(&mut into), SHORT);
    assert!(into[..] == payload(4, 10));
    match result {
        Err(ExchangeError { send: Err(SendError::Cut { part, .. }), recv: Ok(got) }) => {
            assert_eq!((part.tag, got.tag), (3, 4));
            expect_aborted(&mut b, 3, total, part.done);
        }
        other => panic!("{other:?}"),
    }
    expect_usable(&mut a, &mut b);
}
