//! Header fields and seat lines that are wrong in every way when a segment is opened or a seat is looked at. Values may
//! be wrong then, and calls may fail; nothing else.

mod common;

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

use common::hostile::*;
use common::*;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use sapwood_shm::{Error, Life, Segment, Spec};

/// A field of a segment's header: where, how long, and the error that says it is wrong.
struct Field {
    at: u64,
    bytes: usize,
    names_it: fn(&Error) -> bool,
}

const FIELDS: [Field; 7] = [
    Field { at: 0, bytes: 8, names_it: |e| matches!(e, Error::NotASegment { .. }) },
    Field { at: 8, bytes: 4, names_it: |e| matches!(e, Error::OtherVersion { .. }) },
    Field { at: 12, bytes: 4, names_it: |e| matches!(e, Error::OtherKind { .. }) },
    Field { at: 16, bytes: 8, names_it: |e| matches!(e, Error::OtherLayout { .. }) },
    Field { at: 24, bytes: 4, names_it: |e| matches!(e, Error::OtherSize { .. }) },
    Field { at: 32, bytes: 8, names_it: |e| matches!(e, Error::OtherLengths { .. }) },
    Field { at: 40, bytes: 8, names_it: |e| matches!(e, Error::OtherLengths { .. }) },
];
const MAGIC: usize = 0;
const SEATS: usize = 4;
/// Nothing depends on them where a segment is attached.
const UNCHECKED: [(u64, usize); 3] = [(28, 4), (48, 8), (60, 4)];

/// Wrong in every way: off by one, every bit, everything, nothing, the halves the other way round, at random.
fn wrong(right: u64, bits: u32, random: &mut Random) -> Vec<u64> {
    let mut all: Vec<u64> = (0..bits).map(|b| right ^ 1 << b).collect();
    all.extend([
        0,
        u64::MAX,
        right.wrapping_add(1),
        right.wrapping_sub(1),
        right.rotate_left(bits / 2),
        !right,
    ]);
    all.extend((0..16).map(|_| random.next()));
    let mask = u64::MAX >> (64 - bits);
    all.iter_mut().for_each(|v| *v &= mask);
    all.retain(|v| *v != right & mask);
    all
}

/// A segment in a file that this test has too.
fn built(spec: &Spec) -> (File, Segment) {
    let fd = Segment::anonymous_fd().expect("a file without a name can be made");
    let file = File::from(fd.try_clone().expect("a descriptor can be duplicated"));
    (file, Segment::build_or_attach(fd, spec, PATIENCE).expect("there is memory"))
}

/// Receives the file over a socket: attaches, and never builds.
fn receive(file: &File, spec: &Spec) -> Result<Segment, Error> {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let fds = [file.as_raw_fd()];
    let carrier = [std::io::IoSlice::new(b"S")];
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(ours.as_raw_fd(), &carrier, &rights, MsgFlags::empty(), None).expect("it can be sent");
    Segment::receive(&theirs, spec)
}

#[test]
fn a_header_field_that_is_wrong_in_any_way_is_named() {
    let (spec, mut random) = (spec(3), Random(1));
    let (file, segment) = built(&spec);
    for field in &FIELDS {
        let right = read(&file, field.at, field.bytes);
        for value in wrong(right, field.bytes as u32 * 8, &mut random) {
            write(&file, field.at, field.bytes, value);
            let said = receive(&file, &spec).expect_err("it is wrong");
            assert!((field.names_it)(&said), "{value:#x} at {}: {said}", field.at);
            let inherited = file.as_fd().try_clone_to_owned().expect("a descriptor can be duplicated");
            // Without its magic it is what a builder left that died, and is built again.
            match Segment::build_or_attach(inherited, &spec, PATIENCE) {
                Ok(_) => assert_eq!(field.at, FIELDS[MAGIC].at, "{value:#x}"),
                Err(said) => assert!((field.names_it)(&said), "{value:#x} at {}: {said}", field.at),
            }
        }
        write(&file, field.at, field.bytes, right);
        receive(&file, &spec).expect("all is right again");
    }
    for (at, bytes) in UNCHECKED {
        for value in wrong(read(&file, at, bytes), bytes as u32 * 8, &mut random) {
            write(&file, at, bytes, value);
            let attached = receive(&file, &spec).expect("nothing depends on it");
            assert_eq!(attached.nonce(), segment.nonce());
        }
    }
}

/// Several fields at once, any bytes in the whole page: an error, or a segment that is what it should be.
#[test]
fn a_header_of_any_bytes_is_refused_or_right() {
    let (spec, mut random) = (spec(3), Random(2));
    let (file, _segment) = built(&spec);
    let mut good = [0; 64];
    file.read_exact_at(&mut good, 0).expect("it is there");
    for _ in 0..rounds(2_000) {
        let mut bytes = good;
        for _ in 0..=random.below(6) {
            let (at, long) = (random.below(64), random.below(12) + 1);
            bytes[at..64.min(at + long)].iter_mut().for_each(|b| *b = random.next() as u8);
        }
        file.write_all_at(&bytes, 0).expect("it is there");
        match receive(&file, &spec) {
            Err(_) => assert_ne!(bytes[..48], good[..48]),
            Ok(segment) => {
                assert!(bytes[..28] == good[..28] && bytes[32..48] == good[32..48]);
                assert_eq!(segment.body_len(), 4096);
            }
        }
    }
}

/// Under a name too, where whoever finds the file first looks for living holders, by what the file itself says.
#[test]
fn a_named_header_that_is_wrong_in_any_way_is_named() {
    let (folder, spec, mut random) = (Folder::new("hostile"), spec(3), Random(3));
    let enter = |spec: &Spec| Segment::enter_named_in(&folder.0, "x", spec, 1, PATIENCE);
    let (_segment, _seat) = enter(&spec).expect("a new one");
    let path = file_of(&folder.0, "x");
    let file = File::options().read(true).write(true).open(&path).expect("it is ours");
    for (i, field) in FIELDS.iter().enumerate() {
        let right = read(&file, field.at, field.bytes);
        for value in wrong(right, field.bytes as u32 * 8, &mut random) {
            // How many seats a file can claim is another test's.
            let value = if i == SEATS { value & 0xFFF } else { value };
            if value == right {
                continue;
            }
            write(&file, field.at, field.bytes, value);
            let said = enter(&spec).map(|_| ()).expect_err("it is wrong");
            assert!((field.names_it)(&said), "{value:#x} at {}: {said}", field.at);
            assert!(path.exists(), "{value:#x} at {}: the name was taken away", field.at);
        }
        write(&file, field.at, field.bytes, right);
    }
    let said = enter(&spec).map(|_| ()).expect_err("all is right again, and we sit there");
    assert!(matches!(said, Error::SeatTaken { seat: 1, .. }), "{said}");
}

/// Where the lines of the seats begin, and what lies in one: epoch, pid, start time, namespace, never, buried,
/// recovered.
const SEAT_TABLE: u64 = 4096;
const WORDS: [(u64, usize); 7] = [(0, 4), (4, 4), (8, 8), (16, 8), (24, 4), (28, 4), (32, 4)];

fn set_line(file: &File, seat: u64, line: [u64; 7]) {
    for ((at, bytes), value) in WORDS.into_iter().zip(line) {
        write(file, SEAT_TABLE + 64 * seat + at, bytes, value);
    }
}

/// A look at a seat that nobody holds. A rank that another test starts just now may have the description of its last
/// holder too, until it is this program anew.
fn free<V>(what: &str, mut look: impl FnMut() -> Result<V, Error>) -> Result<V, Error> {
    let mut answer = None;
    until(what, || {
        answer = Some(look());
        !matches!(answer, Some(Err(Error::SeatTaken { seat: 0, .. })))
    });
    answer.expect("just seen")
}

fn lines() -> impl Iterator<Item = [u64; 7]> {
    let us = std::process::id();
    let parent = nix::unistd::getppid().as_raw().cast_unsigned();
    let pids = [0, 1, us, parent, 4_194_303, i32::MAX as u32, 1 << 31, u32::MAX];
    let (start, space) = (u64::MAX - 1, u64::MAX - 2); // to be put in: what we say of ourselves
    let times = [0, 1, start, u64::MAX, 1 << 63];
    let spaces = [(0, 0), (space, 0), (space, 1), (u64::MAX, u64::from(u32::MAX))];
    let epochs = [0, 1, 2, 0x3FF, 0x400, u32::MAX];
    epochs.into_iter().flat_map(move |epoch| {
        pids.into_iter().flat_map(move |pid| {
            times.into_iter().flat_map(move |time| {
                spaces.into_iter().flat_map(move |(space, never)| {
                    [(0, 0), (epoch, epoch), (1, u32::MAX), (u32::MAX, 7)]
                        .into_iter()
                        .map(move |(b, r)| [epoch.into(), pid.into(), time, space, never, b.into(), r.into()])
                })
            })
        })
    })
}

#[test]
fn any_words_in_a_seat_line_give_a_life_and_a_typed_answer() {
    let (file, segment) = built(&spec(2));
    // Seat 1 is held by us, and says what a process says of itself.
    let seat = segment.take_seat(1).expect("it is free");
    assert_eq!(seat.epoch(), 1);
    let mut ours = [0; 7];
    for (word, (at, bytes)) in ours.iter_mut().zip(WORDS) {
        *word = read(&file, SEAT_TABLE + 64 + at, bytes);
    }
    let mut lives = [0; 2];
    for mut line in lines() {
        if line[2] == u64::MAX - 1 {
            line[2] = ours[2];
        }
        if line[3] == u64::MAX - 2 {
            line[3] = ours[3];
        }
        let [epoch, pid, start, space, never, buried, _] = line;
        let what = format!("{line:?}");
        set_line(&file, 0, line);
        set_line(&file, 1, line);
        // Nobody holds seat 0: the locks decide, then the epoch.
        let expected = if epoch == 0 && never == 0 { Life::Absent } else { Life::Dead };
        until(&what, || segment.life(0) == expected);
        match free(&what, || segment.take_seat(0)) {
            Ok(_) => assert_eq!(epoch, 0, "{what}"),
            Err(Error::SeatDead { seat: 0, pid: said }) => {
                assert!(epoch != 0 && u64::from(said) == pid, "{what}")
            }
            Err(e) => panic!("{what}: {e}"),
        }
        // We hold seat 1: alive, unless the line names somebody else, or another epoch than ours. A number says enough
        // where no start time is known.
        let life = segment.life(1);
        let known = pid != 0 && space == ours[3];
        let ourselves = pid == ours[1] && (start == ours[2] || start == 0);
        let alive = epoch == 0 || epoch == 1 && buried != 1 && (ourselves || !known);
        assert!(life != Life::Absent && (life == Life::Alive || !alive), "{what}: {life:?}");
        lives[usize::from(life == Life::Alive)] += 1;
        match segment.take_seat(1).expect_err("we hold it") {
            Error::SeatTaken { seat: 1, .. } => {}
            Error::SeatDead { seat: 1, .. } => assert!(!alive, "{what}"),
            e => panic!("{what}: {e}"),
        }
        assert_eq!(u64::from(segment.seat_pid(1)), pid);
    }
    println!("the line of a living holder: {lives:?} (dead, alive)");
    assert!(lives[0] > 0 && lives[1] > 0);
}

/// Where the seats of the dead are taken again, their names are recovered, so many as the words say and names there
/// are.
#[test]
fn any_words_in_a_seat_line_end_a_recovery() {
    let (file, segment) = built(&spec(2));
    let mut answers = [0; 3];
    for (i, line) in lines().enumerate().filter(|(i, _)| i % 7 == 0) {
        set_line(&file, 0, line);
        let mut recovered = 0_u32;
        let any = i % 2 == 0;
        let answer = free(&format!("{line:?}"), || {
            recovered = 0;
            let recover = |_: &Segment, _: &_, _| {
                recovered += 1;
                Ok(())
            };
            if any { segment.take_any_seat(recover) } else { segment.take_seat_again(0, recover) }
        });
        assert!(recovered <= 1023, "{line:?}");
        match answer {
            Ok(seat) => answers[seat.number()] += 1,
            Err(Error::SeatSpoilt { seat: 0, deaths: 1024.. }) if !any => answers[2] += 1,
            Err(e) => panic!("{line:?}: {e}"),
        }
        set_line(&file, 1, [0; 7]);
    }
    println!("seat 0, seat 1, spoilt: {answers:?}");
    assert!(answers.iter().all(|n| *n > 0), "{answers:?}");
}
