//! Files that may hold anything, opened as segments.
//!
//! # Safety
//! Reads and writes bytes of bodies, through the pointer and the length that an opened segment gives. That these are
//! mapped memory is what is under test: nothing else uses them here, so a wrong one is a signal and no silent fault.
#![allow(unsafe_code)]

mod image;
mod plan;
mod seeds;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use sapwood_shm::{Error, Life, Segment};

use image::{Verdict, lengths};
use plan::{Folder, Plan, Thing, Way};
pub(crate) use seeds::seeds;

/// Ends what somebody else's lock holds up.
const SOON: Duration = Duration::from_millis(2);
/// Far longer than anything takes that nobody holds up.
const PATIENCE: Duration = Duration::from_secs(20);
const NAME: &str = "x";

/// What should come of it.
#[derive(Debug)]
enum Expect {
    /// This segment, with its seats as they are.
    Same,
    /// A new segment.
    Fresh,
    /// Built over what the file holds.
    Over,
    Refused(Verdict),
    SeatTaken,
    SeatDead,
    NoSuchSeat,
    Unsettled,
    StillBuilding,
    NameTaken(Vec<u32>),
    Untrusted,
    NotSealed,
    /// What the system says to such a file.
    System,
    /// It depends on processes that are none of ours: any typed error, or success.
    Anything,
}

/// Makes a file, spoils it and opens it as a segment: received over a socket, inherited, entered or created under a
/// name.
///
/// The outcome, error variants and their numbers included, must be what an independent reading of the file gives.
/// Whatever is let in must be usable to its last byte, its seats must be as alive as the table and the locks say, and
/// who sent it must not be able to cut it off.
///
/// # Panics
/// When one of these does not hold, or the machine lacks what every case needs (memfds, a folder for files).
pub fn segment_open(data: &[u8]) {
    run(&Plan::read(data));
}

/// Returns what was expected, and came.
fn run(plan: &Plan) -> Expect {
    let folder = Folder::new().expect("a folder can be made");
    let run = match plan.way {
        Way::Receive | Way::Inherit => by_descriptor(plan, &folder),
        Way::Enter | Way::Create => by_name(plan, &folder),
    };
    run.expect("the file can be made")
}

fn by_descriptor(plan: &Plan, folder: &Folder) -> io::Result<Expect> {
    let fd = plan.descriptor(&folder.0)?;
    let file = plan.thing != Thing::Stranger;
    let _locks = if file { Some(plan.locks.take(&fd, &plan.image)?) } else { None };
    let (ours, expect) = (fd.try_clone()?, expect_of_descriptor(plan));
    let opened = match plan.way {
        Way::Receive => receive(fd, plan),
        _ => Segment::build_or_attach(fd, &plan.asked, patience(plan.locks.building())),
    };
    judge(plan, &expect, &opened.as_ref());
    if let Ok(segment) = opened {
        inspect(plan, &segment, matches!(expect, Expect::Same), None);
        let cut = nix::unistd::ftruncate(&ours, 0);
        assert!(cut.is_err(), "who sent the segment can still cut it off: {plan:?}");
        touch(&segment);
    }
    Ok(expect)
}

fn receive(fd: OwnedFd, plan: &Plan) -> Result<Segment, Error> {
    let (from, to) = UnixStream::pair().expect("a pair of sockets");
    let fds = [fd.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let carrier = [io::IoSlice::new(b"S")];
    sendmsg::<()>(from.as_raw_fd(), &carrier, &rights, MsgFlags::empty(), None).expect("it can be sent");
    Segment::receive(&to, &plan.asked)
}

fn expect_of_descriptor(plan: &Plan) -> Expect {
    let image = &plan.image;
    let verdict = || match image.verdict(&plan.asked) {
        Verdict::Good => Expect::Same,
        other => Expect::Refused(other),
    };
    // A mapping that may be written is asked for before anything is read.
    let fixed = plan.thing == Thing::Fixed && image.length >= image::PAGE;
    match (plan.way, plan.thing) {
        (_, Thing::Stranger) => Expect::Anything,
        (Way::Receive, Thing::Loose | Thing::Other) => Expect::NotSealed,
        (Way::Receive, _) if fixed => Expect::System,
        (Way::Receive, _) => verdict(),
        _ if plan.locks.building() => Expect::StillBuilding,
        _ if fixed => Expect::System,
        (_, Thing::Loose | Thing::Other) if image.has_magic() => Expect::NotSealed,
        _ if image.has_magic() => verdict(),
        (_, Thing::Loose) => Expect::Over,
        // Not to be sealed, or sealed with another length.
        (_, Thing::Other | Thing::Fixed) => Expect::System,
        _ if image.length == lengths(&plan.asked).1 => Expect::Over,
        _ => Expect::System,
    }
}

fn by_name(plan: &Plan, folder: &Folder) -> io::Result<Expect> {
    let path = folder.0.join(format!("sapwood-{}-{NAME}", nix::unistd::geteuid()));
    let file = plan.named(&path)?;
    let _locks = file.as_ref().map(|f| plan.locks.take(f, &plan.image)).transpose()?;
    let expect = expect_of_name(plan);
    let deadline = patience(matches!(expect, Expect::Unsettled | Expect::Anything));
    match plan.way {
        Way::Enter => {
            let opened = Segment::enter_named_in(&folder.0, NAME, &plan.asked, plan.seat, deadline);
            judge(plan, &expect, &opened.as_ref().map(|(segment, _)| segment));
            if let Ok((segment, seat)) = opened {
                assert_eq!((seat.number(), seat.is_mine()), (plan.seat, true));
                assert_eq!(
                    (segment.life(plan.seat), segment.seat_pid(plan.seat)),
                    (Life::Alive, plan.me.pid)
                );
                inspect(plan, &segment, matches!(expect, Expect::Same), Some(plan.seat));
                // It would wait for whoever holds the lock of the name.
                if !(plan.locks.name() && segment.nonce() == plan.image.nonce()) {
                    segment.unlink().expect("the name is ours, or another's");
                }
            }
        }
        _ => {
            let opened = Segment::create_named_in(&folder.0, NAME, &plan.asked, plan.seat);
            judge(plan, &expect, &opened.as_ref().map(|(segment, _)| segment));
            if let Ok((segment, _seat)) = opened {
                inspect(plan, &segment, false, None);
                segment.unlink().expect("the name is ours");
                assert!(!path.exists(), "the name of a segment that was just made goes with it");
            }
        }
    }
    Ok(expect)
}

fn expect_of_name(plan: &Plan) -> Expect {
    let (image, locks) = (&plan.image, plan.locks);
    // It sits down before it looks at the name.
    if plan.way == Way::Create && plan.seat >= plan.asked.seats {
        return Expect::NoSuchSeat;
    }
    match plan.thing {
        Thing::Proper => {}
        Thing::Loose | Thing::Fixed | Thing::Other => return Expect::Untrusted,
        Thing::Stranger => return Expect::System,
    }
    let mut holders = Vec::new();
    if let Some(seats) = image.seats_of_any() {
        let lives: Option<Vec<Life>> = (0..seats).map(|s| image.life(s, locks.seat(s), &plan.me)).collect();
        let Some(lives) = lives else { return Expect::Anything };
        let gone = lives.iter().all(|l| matches!(l, Life::Absent | Life::Dead));
        let stale = gone && lives.contains(&Life::Dead);
        let held_up = locks.name() && (stale || image.retired());
        match plan.way {
            Way::Enter if held_up => return Expect::Unsettled,
            _ if held_up => return Expect::NameTaken(holders),
            Way::Enter if stale && plan.seat >= plan.asked.seats => return Expect::NoSuchSeat,
            _ if stale => return Expect::Fresh,
            _ => {}
        }
        let sit = (0..seats).filter(|s| lives[*s] != Life::Absent);
        holders.extend(sit.map(|s| image.seat(s, 1) as u32));
    }
    if plan.way == Way::Create {
        return Expect::NameTaken(holders);
    }
    match image.verdict(&plan.asked) {
        Verdict::Good if plan.seat >= plan.asked.seats => Expect::NoSuchSeat,
        Verdict::Good if image.seat(plan.seat, 0) == 0 && locks.seat(plan.seat) => Expect::SeatTaken,
        Verdict::Good if image.seat(plan.seat, 0) == 0 => Expect::Same,
        Verdict::Good => match image.life(plan.seat, locks.seat(plan.seat), &plan.me) {
            Some(Life::Dead) => Expect::SeatDead,
            Some(_) => Expect::SeatTaken,
            None => Expect::Anything,
        },
        other => Expect::Refused(other),
    }
}

fn patience(held_up: bool) -> Duration {
    if held_up { SOON } else { PATIENCE }
}

fn judge(plan: &Plan, expect: &Expect, opened: &Result<&Segment, &Error>) {
    // Of whoever has just come nothing is known yet.
    let pid = || if plan.image.seat(plan.seat, 0) == 0 { 0 } else { plan.image.seat(plan.seat, 1) as u32 };
    let agrees = match (expect, opened) {
        (Expect::Same, Ok(segment)) => segment.nonce() == plan.image.nonce(),
        (Expect::Fresh, Ok(segment)) => segment.nonce() != plan.image.nonce(),
        (Expect::Anything | Expect::Over, Ok(_)) => true,
        (Expect::Anything, Err(said)) => !said.to_string().is_empty(),
        (Expect::Refused(verdict), Err(said)) => verdict.is(said),
        (Expect::SeatTaken, Err(Error::SeatTaken { seat, pid: p }))
        | (Expect::SeatDead, Err(Error::SeatDead { seat, pid: p })) => (*seat, *p) == (plan.seat, pid()),
        (Expect::NoSuchSeat, Err(Error::NoSuchSeat { seat, seats })) => {
            (*seat, *seats) == (plan.seat, plan.asked.seats)
        }
        (Expect::NameTaken(pids), Err(Error::NameTaken { name, holders })) => name == NAME && holders == pids,
        (Expect::Unsettled, Err(Error::Unsettled { .. }))
        | (Expect::StillBuilding, Err(Error::StillBuilding { .. }))
        | (Expect::Untrusted, Err(Error::Untrusted { .. }))
        | (Expect::NotSealed, Err(Error::NotSealed))
        | (Expect::System, Err(Error::System { .. })) => true,
        _ => false,
    };
    assert!(agrees, "expected {expect:?}, got {opened:?}, from {plan:?}");
}

/// An opened segment can be used to its last byte. `same`: it is the one of the plan, so its seats are known.
fn inspect(plan: &Plan, segment: &Segment, same: bool, taken: Option<usize>) {
    assert_eq!(*segment.spec(), plan.asked);
    let (prefix, length) = lengths(&plan.asked);
    assert_eq!((segment.reserve_offset(), segment.reserve_len()), (prefix, length - prefix));
    assert_eq!(segment.body_len() as u64, plan.asked.body);
    touch(segment);
    if length > prefix {
        segment.back(prefix, image::PAGE).expect("a page can be had");
        segment.map(prefix, image::PAGE).expect("it is inside of the file");
    }
    segment.map(length, image::PAGE).expect_err("it is behind the end");
    for seat in (0..plan.asked.seats).filter(|s| same && Some(*s) != taken) {
        let (locked, life) = (plan.locks.seat(seat), segment.life(seat));
        let known = plan.image.life(seat, locked, &plan.me);
        assert!(known.is_none_or(|k| k == life), "seat {seat} is {life:?}, and {known:?} by {plan:?}");
        assert_eq!(u64::from(segment.seat_pid(seat)), plan.image.seat(seat, 1));
        match segment.take_seat(seat) {
            Err(Error::SeatTaken { .. }) => assert!(locked, "nobody sits on {seat}: {plan:?}"),
            Err(Error::SeatDead { .. }) => {
                assert!(life == Life::Dead && plan.image.seat(seat, 0) != 0, "{plan:?}");
            }
            Err(Error::Retired) => assert!(plan.image.retired() && plan.way != Way::Enter, "{plan:?}"),
            Err(e) => panic!("seat {seat}: {e}, {plan:?}"),
            Ok(_seat) => {
                assert!(!locked && plan.image.seat(seat, 0) == 0, "seat {seat} was not free: {plan:?}");
                assert_eq!(segment.life(seat), Life::Alive);
            }
        }
    }
}

/// Reads and writes a byte of every page of the body, and its last.
fn touch(segment: &Segment) {
    let (body, len) = (segment.body_ptr(), segment.body_len());
    for at in (0..len).step_by(image::PAGE as usize).chain(len.checked_sub(1)) {
        // SAFETY: inside the body by its own account; this process alone knows of the segment, and no reference to its
        // bytes exists.
        unsafe {
            let byte = body.add(at).read_volatile();
            body.add(at).write_volatile(byte ^ 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;

    /// Every outcome comes up, so that none of the properties holds for want of cases.
    #[test]
    fn ten_thousand_files() {
        let seen = RefCell::new(BTreeMap::<String, u32>::new());
        let seeds: Vec<Vec<u8>> = seeds().into_iter().map(|(_, data)| data).collect();
        crate::cases(10_000, &seeds, |data| {
            let plan = Plan::read(data);
            let outcome = format!("{:?}", run(&plan));
            let word = outcome.split([' ', '(', '{']).next().unwrap_or_default();
            let word = if word == "Refused" { &outcome[8..11] } else { word };
            *seen.borrow_mut().entry(format!("{:?} {word}", plan.way)).or_default() += 1;
        });
        for (outcome, count) in seen.borrow().iter() {
            println!("{count:6} {outcome}");
        }
        let all = "Receive Same, Receive NotSealed, Receive System, Receive Not, Receive Oth, Receive Tru, \
                   Inherit Same, Inherit Over, Inherit NotSealed, Inherit System, Inherit StillBuilding, \
                   Inherit Oth, Inherit Tru, Enter Same, Enter Fresh, Enter SeatTaken, Enter SeatDead, \
                   Enter NoSuchSeat, Enter Unsettled, Enter Untrusted, Enter System, Enter Not, Enter Oth, \
                   Enter Tru, Create Fresh, Create NameTaken, Create Untrusted, Create System";
        for outcome in all.split(", ") {
            assert!(seen.borrow().get(outcome).is_some_and(|n| *n >= 5), "hardly ever: {outcome}");
        }
    }
}
