//! What arrives is what was sent: order, lengths, kinds, strides, refusals.

use half::bf16;

use super::*;
use crate::link::{RecvError, TrySendError};

pub(super) fn checks<R: Rig>() -> Vec<Check<R>> {
    vec![
        ("messages arrive whole and in order", order),
        ("messages of any length arrive, longer than what the link holds too", lengths),
        ("values stay values", values),
        ("tensors arrive, with any strides on both sides", strides),
        ("every dtype arrives", dtypes),
        ("an announced message stays pending until it is received", announced),
        ("messages without bytes are messages", empty),
        ("a tensor of another dtype or shape is skipped whole, and the next one is right", refused),
        ("a message is refused by a call", refused_by_call),
        ("a target that is too small leaves the message pending", too_small),
        ("a full link hands the message back, and sends it whole later", full),
        ("the numbers add up", stats),
    ]
}

fn order<R: Rig>(rig: &R) {
    const COUNT: u64 = 3000;
    let len = |tag: u64| (tag as usize * 37) % 211;
    let (mut a, b) = rig.pair();
    let receive = |b: &mut R::L| (0..COUNT).for_each(|tag| expect_bytes(b, tag, len(tag)));
    beside(b, receive, || (0..COUNT).for_each(|tag| send_bytes(&mut a, tag, len(tag))));
}

fn lengths<R: Rig>(rig: &R) {
    let most = rig.more_than_fits();
    let near = [most / 4, most / 2, most, 2 * most].into_iter().flat_map(|n| (n - 70..n + 3).step_by(9));
    let lens: Vec<usize> = [0, 1, 7, 63, 64, 65].into_iter().chain(near).chain([10 * most + 17, 1]).collect();
    let (mut a, b) = rig.pair();
    let receive = |b: &mut R::L| lens.iter().enumerate().for_each(|(i, n)| expect_bytes(b, i as u64, *n));
    beside(b, receive, || lens.iter().enumerate().for_each(|(i, n)| send_bytes(&mut a, i as u64, *n)));
}

fn values<R: Rig>(rig: &R) {
    let (mut a, mut b) = rig.pair();
    a.send(3, Source::Value(b"encoded"), LONG).expect("sent");
    let mut into = [0; 9];
    let got = b.recv(&mut into, LONG).expect("a value");
    assert_eq!((got, &into), (Incoming { tag: 3, content: Content::Value(7) }, b"encoded\0\0"));
}

/// A row of `n` elements as the dims and strides of a tensor say, in a slice with other elements between.
struct Shape {
    dims: Vec<usize>,
    strides: Vec<isize>,
    first: usize,
    len: usize,
}

/// The same 3-dimensional tensor in memory: dense, padded rows, every other element, transposed, reversed.
fn shapes(x: usize, y: usize, z: usize) -> Vec<Shape> {
    let dims = vec![x, y, z];
    let of = |strides: [usize; 3], len| Shape {
        dims: dims.clone(),
        strides: strides.iter().map(|s| *s as isize).collect(),
        first: 0,
        len,
    };
    let mut reversed = of([y * z, z, 1], x * y * z);
    reversed.strides.iter_mut().for_each(|s| *s = -*s);
    reversed.first = x * y * z - 1;
    vec![
        of([y * z, z, 1], x * y * z),
        of([y * (z + 5), z + 5, 1], x * y * (z + 5)),
        of([y * z * 2, z * 2, 2], x * y * z * 2),
        of([1, x, x * y], x * y * z),
        reversed,
    ]
}

fn strides<R: Rig>(rig: &R) {
    let (mut a, mut b) = rig.pair();
    let n = (rig.more_than_fits() as f64).cbrt() as usize / 2 + 2;
    // The first fits, the second does not.
    for (x, y, z) in [(2, 3, 5), (n, 2 * n, 2 * n + 1)] {
        for from in shapes(x, y, z) {
            for to in shapes(x, y, z) {
                let memory: Vec<u16> = (0..from.len).map(|i| (i * 7 + 1) as u16).collect();
                let view = View::strided(&memory, from.first, &from.dims, &from.strides).expect("inside");
                let mut row = vec![0; view.bytes()];
                view.copy_to(0, &mut row);
                let mut target = vec![0xEEEE_u16; to.len];
                let receive = |b: &mut R::L| {
                    let mut slot =
                        ViewMut::strided(&mut target, to.first, &to.dims, &to.strides).expect("inside");
                    let got = b.recv_into(&mut slot, LONG).expect("the tensor");
                    let mut arrived = vec![0; slot.bytes()];
                    slot.view().copy_to(0, &mut arrived);
                    (got, arrived)
                };
                let (back, (got, arrived), ()) =
                    beside(b, receive, || a.send(5, Source::Tensor(view), LONG).expect("sent"));
                b = back;
                assert_eq!(got, Incoming { tag: 5, content: Content::Tensor(*view.descriptor()) });
                assert!(arrived == row, "{:?} to {:?}", from.strides, to.strides);
                let untouched = target.iter().filter(|e| **e == 0xEEEE).count();
                assert!(untouched >= to.len - x * y * z, "what lies between stays");
            }
        }
    }
}

fn dtypes<R: Rig>(rig: &R) {
    fn pass<T: Element, L: Link>(a: &mut L, b: &mut L, elements: [T; 3]) {
        a.send(1, Source::Tensor(View::new(&elements)), LONG).expect("sent");
        let mut into = [T::default(); 3];
        let got = b.recv_into(&mut ViewMut::new(&mut into), LONG).expect("the tensor");
        assert_eq!(got.content, Content::Tensor(Descriptor::new(T::DTYPE, &[3]).expect("legal")));
        assert_eq!(into, elements);
    }
    let (mut a, mut b) = rig.pair();
    pass(&mut a, &mut b, [1i8, -2, 3]);
    pass(&mut a, &mut b, [1i16, -2, 3]);
    pass(&mut a, &mut b, [1i32, -2, 3]);
    pass(&mut a, &mut b, [1i64, -2, i64::MIN]);
    pass(&mut a, &mut b, [1u8, 2, 255]);
    pass(&mut a, &mut b, [1u16, 2, 3]);
    pass(&mut a, &mut b, [1u32, 2, 3]);
    pass(&mut a, &mut b, [1u64, 2, u64::MAX]);
    pass(&mut a, &mut b, [half::f16::ONE, half::f16::PI, half::f16::MAX]);
    pass(&mut a, &mut b, [bf16::ONE, bf16::PI, bf16::MAX]);
    pass(&mut a, &mut b, [1f32, -2.5, f32::INFINITY]);
    pass(&mut a, &mut b, [1f64, -2.5, f64::MIN_POSITIVE]);
}

fn announced<R: Rig>(rig: &R) {
    let (mut a, mut b) = rig.pair();
    assert_eq!(b.try_recv(), Ok(None));
    let tensor = [1.5f32; 6];
    let view = View::dense(&tensor, &[2, 3]).expect("dense");
    a.send(8, Source::Tensor(view), LONG).expect("sent");
    send_bytes(&mut a, 9, 4);
    b.poll(crate::link::Ready { recv: true, send: false }, LONG).expect("open");
    let first = Incoming { tag: 8, content: Content::Tensor(*view.descriptor()) };
    for _ in 0..3 {
        assert_eq!(b.try_recv(), Ok(Some(first)));
    }
    // Both a tensor's slot and plain bytes will take it.
    let mut into = [0; 24];
    assert_eq!(b.recv(&mut into, LONG), Ok(first));
    assert_eq!(into.as_chunks::<4>().0, [1.5f32.to_le_bytes(); 6]);
    expect_bytes(&mut b, 9, 4);
    assert_eq!(b.try_recv(), Ok(None));
}

fn empty<R: Rig>(rig: &R) {
    let (mut a, mut b) = rig.pair();
    let none = [0u32; 0];
    let view = View::strided(&none, 0, &[3, 0, 2], &[0, 0, 0]).expect("reaches nothing");
    a.send(1, Source::Bytes(&[]), LONG).expect("sent");
    a.send(2, Source::Tensor(view), LONG).expect("sent");
    a.try_send(3, Source::Value(&[])).expect("sent");
    a.send(4, Source::Tensor(view), LONG).expect("sent");
    send_bytes(&mut a, 5, 1);
    expect_bytes(&mut b, 1, 0);
    let mut room = [0u32; 0];
    let mut slot = ViewMut::strided(&mut room, 0, &[3, 0, 2], &[1, 1, 1]).expect("reaches nothing");
    assert_eq!(b.recv_into(&mut slot, LONG).map(|m| m.tag), Ok(2));
    assert_eq!(b.recv(&mut [], LONG), Ok(Incoming { tag: 3, content: Content::Value(0) }));
    let mut other = [0u32; 0];
    let error = b.recv_into(&mut ViewMut::new(&mut other), LONG);
    assert!(matches!(error, Err(RecvError::Refused { tag: 4, .. })), "also without elements: {error:?}");
    expect_bytes(&mut b, 5, 1);
}

fn refused<R: Rig>(rig: &R) {
    let (mut a, b) = rig.pair();
    let long = vec![7u8; 3 * rig.more_than_fits()];
    let short = [1.0f32, 2.0, 3.0];
    let send = || {
        a.send(1, Source::Tensor(View::new(&long)), LONG).expect("sent, and skipped there");
        a.send(2, Source::Bytes(&long), LONG).expect("sent, and skipped there");
        a.send(3, Source::Tensor(View::dense(&short, &[3, 1]).expect("dense")), LONG).expect("sent");
        a.send(4, Source::Tensor(View::new(&short)), LONG).expect("sent");
    };
    let receive = |b: &mut R::L| {
        let mut into = [0.0f32; 3];
        let expected = Descriptor::new(Dtype::F32, &[3]).expect("legal");
        let found = [
            Content::Tensor(Descriptor::new(Dtype::U8, &[long.len() as u64]).expect("legal")),
            Content::Bytes(long.len() as u64),
            Content::Tensor(Descriptor::new(Dtype::F32, &[3, 1]).expect("legal")),
        ];
        for (tag, found) in (1..).zip(found) {
            let error = b.recv_into(&mut ViewMut::new(&mut into), LONG);
            assert_eq!(error, Err(RecvError::Refused { tag, found, expected }));
            assert_eq!(into, [0.0; 3], "the target is as before");
        }
        assert_eq!(b.recv_into(&mut ViewMut::new(&mut into), LONG).map(|m| m.tag), Ok(4));
        assert_eq!(into, short);
        assert_eq!(b.stats().skipped, 3);
    };
    beside(b, receive, send);
}

fn refused_by_call<R: Rig>(rig: &R) {
    let (mut a, mut b) = rig.pair();
    assert!(!b.refuse(), "there is nothing to refuse");
    let long = rig.more_than_fits() * 2;
    let receive = |b: &mut R::L| {
        for tag in [1, 3, 4] {
            b.poll(crate::link::Ready { recv: true, send: false }, LONG).expect("open");
            assert_eq!(b.try_recv().map(|m| m.map(|m| m.tag)), Ok(Some(tag)));
            assert!(b.refuse() && !b.refuse());
            if tag == 1 {
                expect_bytes(b, 2, 10);
            }
        }
        expect_bytes(b, 5, 10);
    };
    (b, _, _) = beside(b, receive, || {
        [(1, long), (2, 10), (3, 0), (4, long), (5, 10)]
            .into_iter()
            .for_each(|(t, n)| send_bytes(&mut a, t, n))
    });
    expect_usable(&mut a, &mut b);
}

fn too_small<R: Rig>(rig: &R) {
    let (mut a, mut b) = rig.pair();
    send_bytes(&mut a, 6, 10);
    let mut into = [0; 10];
    for room in [0, 9] {
        let error = RecvError::TooSmall { tag: 6, content: Content::Bytes(10), room };
        assert_eq!(b.recv(&mut into[..room], LONG), Err(error));
        assert_eq!(into, [0; 10]);
    }
    expect_bytes(&mut b, 6, 10);
}

fn full<R: Rig>(rig: &R) {
    let (mut a, mut b) = rig.pair();
    let most = rig.more_than_fits();
    let never = a.try_send(0, Source::Bytes(&payload(0, most)));
    assert!(matches!(never, Err(TrySendError::Never { need, .. }) if need >= most), "{never:?}");
    let (mut sent, mut got) = (0, 0);
    // Fill, take one, fill again: each message goes whole or not at all.
    for _ in 0..50 {
        let refused = loop {
            match a.try_send(sent, Source::Bytes(&payload(sent, 100))) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
            assert!((sent - got) as usize * 100 <= 2 * most, "a link holds what it says");
        };
        assert!(matches!(refused, TrySendError::Full { need, room } if room < need), "{refused}");
        expect_bytes(&mut b, got, 100);
        got += 1;
    }
    (got..sent).for_each(|tag| expect_bytes(&mut b, tag, 100));
    assert_eq!(b.try_recv(), Ok(None));
    assert!(sent > 50, "room that is made is used");
    expect_usable(&mut a, &mut b);
}

fn stats<R: Rig>(rig: &R) {
    let (mut a, mut b) = rig.pair();
    assert_eq!((a.stats(), b.stats()), Default::default());
    for tag in 0..3 {
        send_bytes(&mut a, tag, 50);
    }
    expect_bytes(&mut b, 0, 50);
    b.poll(crate::link::Ready { recv: true, send: false }, LONG).expect("open");
    assert!(b.refuse());
    expect_bytes(&mut b, 2, 50);
    let (sent, received) = (a.stats().sent, b.stats().received);
    assert_eq!((sent.messages, sent.bytes, sent.aborted), (3, 150, 0));
    assert_eq!((received.messages, received.bytes, received.aborted), (2, 150, 0));
    assert_eq!((sent.frames, received.frames, b.stats().skipped), (received.frames, sent.frames, 1));
    assert_eq!(a.receive(Target::Bytes(&mut []), SHORT).map(|_| ()).map_err(|_| ()), Err(()));
    assert!(a.stats().waits > 0);
}
