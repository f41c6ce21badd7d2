//! Closing, dropping, dying, and bytes that no link sends.

use super::*;
use crate::link::{CloseError, Ended, ExchangeError, Part, Ready, RecvError, SendError, TrySendError};
use crate::wire::{HEADER_BYTES, HeaderError, WireError};

pub(super) fn checks<R: Rig>() -> Vec<Check<R>> {
    vec![
        ("what was sent before a close is received, then the close is told", closed),
        ("a closed end does nothing more", closed_here),
        ("a close of a full link is told behind what was sent", close_when_full),
        ("a close wakes whoever waits", close_wakes),
        ("what was sent before an end was dropped is received", dropped),
        ("what was sent before a death is received, then the death is told", died),
        ("a death in the middle of a message is told, with how far it came", died_within),
        ("a death wakes whoever waits", death_wakes),
        ("bytes that no link sends end it, with the rule that they break", garbage),
        ("half a frame is no frame", half_a_frame),
    ]
}

const NEITHER: Ready = Ready { recv: false, send: false };

/// Every call on this end says that it is over, and why. It may have to wait for that.
fn expect_over(link: &mut impl Link, end: Ended) {
    assert_eq!(link.poll(Ready { recv: true, send: false }, LONG), Err(end));
    for _ in 0..2 {
        // The first call waits for the end, if it has not come yet.
        assert_eq!(link.recv(&mut [], LONG), Err(RecvError::Ended { end, part: None }));
        assert_eq!(link.try_recv(), Err(end));
        let mut none = [0u8; 0];
        let into = link.recv_into(&mut ViewMut::new(&mut none), LONG);
        assert_eq!(into, Err(RecvError::Ended { end, part: None }));
        let part = Part { tag: 5, done: 0, total: 1 };
        assert_eq!(link.send(5, Source::Bytes(&[1]), LONG), Err(SendError::Ended { end, part }));
        assert_eq!(link.try_send(5, Source::Bytes(&[1])), Err(TrySendError::Ended { end }));
        assert_eq!(link.poll(Ready { recv: true, send: true }, LONG), Err(end));
        assert_eq!(link.poll(NEITHER, LONG), Err(end));
        let both = link.send_recv(5, Source::Bytes(&[1]), Target::Bytes(&mut []), LONG);
        let (send, recv) = (SendError::Ended { end, part }, RecvError::Ended { end, part: None });
        assert_eq!(both, Err(ExchangeError { send: Err(send), recv: Err(recv) }));
        assert!(!link.refuse());
    }
}

fn closed<R: Rig>(rig: &R) {
    let (mut a, mut b) = rig.pair();
    send_bytes(&mut a, 1, 30);
    send_bytes(&mut b, 2, 30); // nobody will receive it
    a.send(3, Source::Bytes(&[]), LONG).expect("sent");
    a.close(LONG).expect("there is room");
    let gone = b.send(9, Source::Bytes(&[1]), LONG);
    assert!(matches!(gone, Err(SendError::Ended { end: Ended::Gone { rank: 0 }, .. })), "{gone:?}");
    expect_bytes(&mut b, 1, 30);
    expect_bytes(&mut b, 3, 0);
    expect_over(&mut b, Ended::Closed { rank: 0 });
    b.close(LONG).expect("nothing is left to be said");
}

fn closed_here<R: Rig>(rig: &R) {
    let (mut a, mut b) = rig.pair();
    send_bytes(&mut b, 2, 30);
    a.close(LONG).expect("there is room");
    expect_over(&mut a, Ended::ClosedHere);
    assert_eq!(a.close(LONG), Err(CloseError::Ended { end: Ended::ClosedHere }));
    drop(a);
    expect_over(&mut b, Ended::Closed { rank: 0 });
}

fn close_when_full<R: Rig>(rig: &R) {
    let fill =
        |link: &mut R::L| (0..).take_while(|tag| link.try_send(*tag, Source::Bytes(&[])).is_ok()).count();
    let (mut a, b) = rig.pair();
    let sent = fill(&mut a) as u64;
    let receive = |b: &mut R::L| {
        (0..sent).for_each(|tag| expect_bytes(b, tag, 0));
        expect_over(b, Ended::Closed { rank: 0 });
    };
    let (_, _, said) = beside(b, receive, || a.close(LONG));
    said.expect("room is made");
    // Where nobody makes room it ends at its deadline at the latest, and the peer finds out all the same.
    let (mut a, mut b) = rig.pair();
    let sent = fill(&mut a) as u64;
    let end = match a.close(SHORT) {
        Ok(()) => Ended::Closed { rank: 0 },
        Err(CloseError::Deadline { .. }) => Ended::Gone { rank: 0 },
        other => panic!("{other:?}"),
    };
    (0..sent).for_each(|tag| expect_bytes(&mut b, tag, 0));
    expect_over(&mut b, end);
    expect_over(&mut a, Ended::ClosedHere);
}

fn close_wakes<R: Rig>(rig: &R) {
    let (mut a, b) = rig.pair();
    beside(b, |b| expect_over(b, Ended::Closed { rank: 0 }), || a.close(LONG).expect("there is room"));
    // A sender in the middle of a message too: nobody will receive it.
    let (a, b) = rig.pair();
    let total = 3 * rig.more_than_fits();
    let (_, result, ()) = beside(
        b,
        |b| b.send(4, Source::Bytes(&payload(4, total)), LONG),
        || {
            let mut a = a;
            a.poll(Ready { recv: true, send: false }, LONG).expect("open");
            drop(a);
        },
    );
    match result {
        Err(SendError::Ended { end: Ended::Closed { rank: 0 } | Ended::Gone { rank: 0 }, part }) => {
            assert!(part.done > 0 && part.done < part.total, "{part}");
        }
        other => panic!("{other:?}"),
    }
}

fn dropped<R: Rig>(rig: &R) {
    let (mut a, mut b) = rig.pair();
    send_bytes(&mut a, 1, 30);
    drop(a);
    expect_bytes(&mut b, 1, 30);
    expect_over(&mut b, Ended::Closed { rank: 0 });
    // In the middle of a message, which is aborted by the deadline, and without room to say so.
    let (mut a, mut b) = rig.pair();
    let total = 3 * rig.more_than_fits();
    let cut = a.send(2, Source::Bytes(&payload(2, total)), Deadline::NONE);
    assert!(matches!(cut, Err(SendError::Cut { .. })), "{cut:?}");
    drop(a);
    let mut into = vec![0; total];
    match b.recv(&mut into, LONG) {
        Err(RecvError::Aborted { part }) => assert_eq!(part.tag, 2),
        Err(RecvError::Ended { end: Ended::Gone { rank: 0 }, part: Some(part) }) => assert_eq!(part.tag, 2),
        other => panic!("{other:?}"),
    }
}

/// The end of a link to rank 0, which is dead. Its process may be known.
fn is_death(end: Ended) -> bool {
    matches!(end, Ended::Died { rank: 0, .. })
}

fn died<R: Rig>(rig: &R) {
    let (mut a, mut b) = rig.pair();
    send_bytes(&mut a, 1, 30);
    send_bytes(&mut a, 2, 0);
    rig.kill(a);
    expect_bytes(&mut b, 1, 30);
    expect_bytes(&mut b, 2, 0);
    let end = b.poll(Ready { recv: true, send: false }, LONG).expect_err("nothing follows");
    assert!(is_death(end), "{end}");
    expect_over(&mut b, end);
    assert_eq!(b.close(LONG), Err(CloseError::Ended { end }));
}

fn died_within<R: Rig>(rig: &R) {
    let (mut a, mut b) = rig.pair();
    let header = first_frame(rig.stream(), 80);
    rig.inject(&mut a, &[&header.encode(None)[..], &[1; 8]].concat());
    rig.kill(a);
    let mut into = [0; 80];
    match b.recv(&mut into, LONG) {
        Err(RecvError::Ended { end, part: Some(part) }) => {
            assert!(is_death(end), "{end}");
            assert_eq!(part, Part { tag: 7, done: 8, total: 80 });
            assert_eq!((&into[..8], into[8]), (&[1; 8][..], 0));
            expect_over(&mut b, end);
        }
        other => panic!("{other:?}"),
    }
}

fn death_wakes<R: Rig>(rig: &R) {
    let total = 3 * rig.more_than_fits();
    let (a, b) = rig.pair();
    let wait = |b: &mut R::L| b.recv(&mut [], LONG);
    let (_, result, ()) = beside(b, wait, || rig.kill(a));
    assert!(matches!(result, Err(RecvError::Ended { end, .. }) if is_death(end)), "{result:?}");
    let (a, b) = rig.pair();
    let wait = |b: &mut R::L| b.send(1, Source::Bytes(&payload(1, total)), LONG);
    let (_, result, ()) = beside(b, wait, || rig.kill(a));
    assert!(matches!(result, Err(SendError::Ended { end, .. }) if is_death(end)), "{result:?}");
}

fn garbage<R: Rig>(rig: &R) {
    let second = rig.stream().first.wrapping_add(1);
    let good = Header { sequence: second, ..first_frame(rig.stream(), 12) };
    let mut text = [b' '; HEADER_BYTES];
    text[..16].copy_from_slice(b"GET / HTTP/1.1\r\n");
    let mut kind = good.encode(None);
    kind[4] = 99;
    let mut torn = good.encode(None);
    torn[30] ^= 4;
    let cases = [
        (text, "Magic"),
        ([0; 64], "Magic"),
        (kind, "Kind"),
        (torn, "Checksum"),
        (Header { sequence: rig.stream().first, ..good }.encode(None), "Sequence"),
        (Header { epoch: 77, ..good }.encode(None), "Epoch"),
        (Header { rank: 77, ..good }.encode(None), "Rank"),
        (Header { offset: u64::MAX - 3, ..good }.encode(None), "Offset"),
        (Header { total: 13, offset: 1, ..good }.encode(None), "Orphan"),
        (Header { len: u64::MAX, ..good }.encode(None), "TooLong"),
        (Header { total: u64::MAX, ..good }.encode(None), "MessageTooLong"),
    ];
    for (bytes, rule) in cases {
        let (mut a, mut b) = rig.pair();
        send_bytes(&mut a, 1, 12);
        rig.inject(&mut a, &bytes);
        expect_bytes(&mut b, 1, 12);
        let end = b.poll(Ready { recv: true, send: false }, LONG).expect_err("what follows is no frame");
        match end {
            Ended::Wire { rank: 0, frame, error } => {
                assert_eq!(frame, second);
                let said = std::format!("{error:?}");
                assert!(said.contains(rule), "{said} where {rule} is broken");
                let foreign = matches!(error, WireError::Header(HeaderError::Magic { .. }));
                assert_eq!(foreign, rule == "Magic");
            }
            other => panic!("{other:?}"),
        }
        expect_over(&mut b, end);
        // Whoever sent it is told that the link is over.
        let told = a.poll(Ready { recv: true, send: false }, LONG);
        assert_eq!(told, Err(Ended::Gone { rank: 1 }));
    }
}

fn half_a_frame<R: Rig>(rig: &R) {
    let (mut a, mut b) = rig.pair();
    rig.inject(&mut a, b"SPW1");
    assert_eq!(b.try_recv(), Ok(None));
    assert_eq!(b.poll(Ready { recv: true, send: false }, SHORT), Ok(NEITHER));
    rig.kill(a);
    let error = b.recv(&mut [], LONG);
    assert!(matches!(error, Err(RecvError::Ended { end, part: None }) if is_death(end)), "{error:?}");
}
