//! Frames between processes: made in place, received without a copy, free again after any death.
#![allow(missing_docs)]

mod common;

use common::rings::*;
use common::*;
use sapwood_shm::ring::frames::{self, Frames, LoanError, ReceiveError};
use sapwood_shm::ring::{PopError, PushError, mpmc};
use sapwood_shm::{Error, Segment};

const FRAMES: usize = 4;
const BYTES: usize = 1000;

fn text_of<T>(e: PushError<T>) -> String {
    e.map(drop).to_string()
}

#[test]
fn frames_pass_between_processes() {
    let name = name("pass");
    let running = rank(|| {
        let mut writer = Frames::open(&name, FRAMES, BYTES, 2).map_err(text)?;
        wait_for_seat(writer.segment().expect("in one"), 1);
        for i in 0..1000_u32 {
            let mut result = Err(String::new());
            until("a frame is free", || match writer.loan() {
                Ok(mut frame) => {
                    frame[..BYTES].fill(i as u8);
                    result = frame.send(1 + i as usize % BYTES).map_err(text_of);
                    true
                }
                Err(e) => {
                    assert!(matches!(e, LoanError::Exhausted { frames: 4, .. }), "{e}");
                    false
                }
            });
            result?;
        }
        writer.close();
        Ok(())
    });
    let _forget = Forget::name(&name);
    // The writer has the first seat.
    until("the writer is there", || std::fs::exists(file_of("/dev/shm".as_ref(), &name)).is_ok_and(|e| e));
    let mut reader = Frames::open(&name, FRAMES, BYTES, 2).expect("a seat is free");
    let mut next = 0;
    until("all came", || match reader.receive() {
        Ok(message) => {
            assert_eq!((message.sender(), message.len()), (0, 1 + next as usize % BYTES));
            assert!(message.iter().all(|b| *b == next as u8), "frame {next}");
            next += 1;
            false
        }
        Err(ReceiveError::Ring(PopError::Drained)) => true,
        Err(e) => {
            assert!(matches!(e, ReceiveError::Ring(PopError::Empty | PopError::Busy { .. })), "{e}");
            false
        }
    });
    assert_eq!(next, 1000_u32);
    ended_well(running);
}

#[test]
fn what_the_dead_held_is_lent_again() {
    let name = name("held");
    let running = rank(|| {
        let mut frames = Frames::open(&name, FRAMES, BYTES, 2).map_err(text)?;
        wait_for_seat(frames.segment().expect("in one"), 1);
        frames.loan().map_err(text)?.send(1).map_err(text_of)?;
        for _ in 0..FRAMES - 1 {
            std::mem::forget(frames.loan().map_err(text)?);
        }
        frames.close();
        wait_to_be_ended()
    });
    let _forget = Forget::name(&name);
    until("the rank is there", || std::fs::exists(file_of("/dev/shm".as_ref(), &name)).is_ok_and(|e| e));
    let mut frames = Frames::open(&name, FRAMES, BYTES, 2).expect("a seat is free");
    let ring_is_closed = |frames: &mut Frames| frames.receive().map(|m| m.len());
    until("the rank has done its part", || ring_is_closed(&mut frames) == Ok(1));
    until("it holds the rest", || ring_is_closed(&mut frames) == Err(PopError::Drained.into()));
    // One was received and given back; the rank holds the others, and lives.
    drop(frames.loan().expect("one is free"));
    kill(&running, 0);
    running.wait(PATIENCE).expect("it has ended");
    let mut held = Vec::new();
    until("the dead one's frames are found", || {
        match frames.loan() {
            Ok(loan) => {
                held.push(loan.as_ptr().addr());
                std::mem::forget(loan); // so that the next one is another
            }
            Err(e) => assert!(matches!(e, LoanError::Exhausted { .. }), "{e}"),
        }
        held.len() == FRAMES
    });
    held.sort_unstable();
    held.dedup();
    assert_eq!(held.len(), FRAMES, "each once");
}

#[test]
fn what_no_frames_are_is_refused() {
    assert!(matches!(frames::threads(0, 64, 2), Err(Error::Capacity(_))));
    assert!(matches!(frames::threads(4, 0, 2), Err(Error::Frames(_))));
    assert!(matches!(frames::threads(4, usize::MAX, 2), Err(Error::Frames(_))));
    let most = u32::MAX as usize - 63;
    assert!(frames::spec(1, most, 2).is_ok());
    assert!(matches!(frames::spec(1, most + 1, 2), Err(Error::Frames(_))), "in cache lines it is 4 GiB");
    assert!(matches!(frames::threads(4, 64, 49), Err(Error::Participants { asked: 49, most: 48 })));
    let frames = Frames::create(4, 64, 2).expect("memory");
    let said = Frames::attach(frames.segment().expect("in one"), 4, 128).expect_err("longer frames");
    assert!(
        matches!(said, Error::OtherRing { ref found, ref expected } if (found.size, expected.size) == (64, 128))
    );
}

#[test]
fn a_loan_that_is_dropped_is_free_again() {
    let mut both = frames::threads(1, 64, 2).expect("memory");
    let (mut b, mut a) = (both.pop().expect("two"), both.pop().expect("two"));
    for i in 0..10 {
        drop(a.loan().expect("it is free"));
        let mut frame = b.loan().expect("it is free");
        frame[0] = i;
        frame.send(1).map_err(text_of).expect("there is room");
        assert!(matches!(a.loan(), Err(LoanError::Exhausted { frames: 1, bytes: 64 })));
        assert_eq!(a.receive().map(|m| m.to_vec()), Ok(vec![i]));
    }
}

/// The message in slot 0 of a fresh ring, as the death of a reader in that seat, in its first epoch, leaves it: between
/// its claim and the give-back.
fn dies_reading(segment: &Segment, seat: u64) {
    // The ring's hints take 384 bytes; a word is {lap: 42, seat + 1: 10, epoch: 10, state: 2}.
    let word = segment.body_ptr().wrapping_add(384).cast::<u64>();
    // SAFETY: inside the body, on its alignment, and nobody else is at it now.
    unsafe {
        assert_eq!(word.read(), 2, "full, in lap 0");
        word.write(((seat + 1) << 10 | 1) << 2 | 3);
    }
}

#[test]
fn what_a_dead_reader_held_reaches_others_though_a_sender_has_its_seat() {
    let mut old = mpmc::Ring::<u64>::create(4, 2).expect("memory");
    let segment = old.segment().expect("in one").clone();
    drop(mpmc::Ring::<u64>::attach(&segment, 4).expect("a seat is free"));
    old.try_push(7).expect("there is room");
    dies_reading(&segment, 1);
    let mut newcomer = mpmc::Ring::<u64>::attach(&segment, 4).expect("the dead one's seat");
    newcomer.try_push(8).expect("there is room");
    assert_eq!((old.try_pop(), old.try_pop()), (Ok(7), Ok(8)));
    drop(newcomer);

    let mut old = Frames::create(1, 64, 2).expect("memory");
    let segment = old.segment().expect("in one").clone();
    drop(Frames::attach(&segment, 1, 64).expect("a seat is free"));
    let mut loan = old.loan().expect("one is free");
    loan[0] = 9;
    loan.send(1).map_err(text_of).expect("there is room");
    dies_reading(&segment, 1);
    let mut newcomer = Frames::attach(&segment, 1, 64).expect("the dead one's seat");
    assert!(matches!(newcomer.loan(), Err(LoanError::Exhausted { .. })), "the only one is on its way");
    assert_eq!(old.receive().map(|m| m.to_vec()), Ok(vec![9]));
    drop(newcomer.loan().expect("it has come back"));
}

#[test]
fn what_the_dead_before_a_dead_newcomer_held_is_found() {
    let mut old = Frames::create(1, 64, 2).expect("memory");
    let segment = old.segment().expect("in one").clone();
    drop(Frames::attach(&segment, 1, 64).expect("a seat is free"));
    old.loan().expect("one is free").send(1).map_err(text_of).expect("there is room");
    dies_reading(&segment, 1);
    // A newcomer takes the seat and dies before it has recovered anything.
    let died = segment.take_seat_again(1, |_, _, dead| Err(Error::NoSeat { seats: dead as usize }));
    assert!(matches!(died, Err(Error::NoSeat { seats: 1 })), "{died:?}");
    let slot = segment.body_ptr().wrapping_add(384).cast::<u64>();
    // A participant that only sends finds it too.
    until("what was being received is on its way again", || {
        assert!(matches!(old.loan(), Err(LoanError::Exhausted { .. })));
        // SAFETY: inside the body, on its alignment, and nobody else is at it now.
        let state = unsafe { slot.read() } & 3;
        assert!(state == 3 || state == 2, "{state}");
        state == 2
    });
    assert_eq!(old.receive().map(|m| m.len()), Ok(1));
    drop(old.loan().expect("it has come back"));
}
