//! Segments: what is refused and why, names, descriptors over sockets, and memory that is not there.

mod common;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use common::*;
use sapwood_shm::{Error, Life, Processes, Seat, Segment, Spec};

/// Enters seat 0 of the segment `x` of a folder, and hands the refusal back.
fn refused(folder: &Folder, spec: &Spec) -> Error {
    Segment::enter_named_in(&folder.0, "x", spec, 0, PATIENCE).map(|_| ()).expect_err("it is refused")
}

/// A segment called `x`, spoilt: `bytes` are written at `offset`. Seat 1 is held, so that it is not stale.
fn spoilt(test: &str, offset: u64, bytes: &[u8]) -> (Folder, (Segment, Seat)) {
    let folder = Folder::new(test);
    let held = Segment::create_named_in(&folder.0, "x", &spec(2), 1).expect("it can be built");
    let file = OpenOptions::new().write(true).open(file_of(&folder.0, "x")).expect("it is there");
    file.write_all_at(bytes, offset).expect("it can be written");
    (folder, held)
}

#[test]
fn a_file_that_holds_no_segment_is_refused() {
    let (folder, _held) = spoilt("magic", 0, b"nonsense");
    let said = refused(&folder, &spec(2));
    assert!(matches!(said, Error::NotASegment { found, .. } if found == u64::from_le_bytes(*b"nonsense")));
    assert!(file_of(&folder.0, "x").exists(), "what we do not know we leave alone");
}

#[test]
fn another_version_is_refused() {
    let (folder, _held) = spoilt("version", 8, &77_u32.to_le_bytes());
    assert!(matches!(refused(&folder, &spec(2)), Error::OtherVersion { found: 77, expected: 3 }));
}

#[test]
fn another_kind_size_or_layout_is_refused() {
    let (folder, _held) = spoilt("kind", 8, &[]);
    let said = refused(&folder, &Spec { kind: 901, ..spec(2) });
    assert!(matches!(said, Error::OtherKind { found: 900, expected: 901 }), "{said}");
    let said = refused(&folder, &spec(3));
    assert!(matches!(said, Error::OtherSize { found: 2, expected: 3 }), "{said}");
    let said = refused(&folder, &Spec { fingerprint: 1, ..spec(2) });
    assert!(matches!(said, Error::OtherLayout { found: 0xfeed, expected: 1 }), "{said}");
    for other in [Spec { body: 8192, ..spec(2) }, Spec { reserve: 4096, ..spec(2) }] {
        let said = refused(&folder, &other);
        assert!(
            matches!(said, Error::OtherLengths { found, expected } if found.1 + 4096 == expected.1),
            "{said}"
        );
    }
    let (_segment, _seat) =
        Segment::enter_named_in(&folder.0, "x", &spec(2), 0, PATIENCE).expect("the right spec is let in");
}

#[test]
fn a_truncated_file_is_refused() {
    let (folder, _held) = spoilt("short", 0, &[]);
    let path = file_of(&folder.0, "x");
    let whole = fs::metadata(&path).expect("it is there").len();
    for have in [whole - 1, 4096] {
        OpenOptions::new().write(true).open(&path).and_then(|f| f.set_len(have)).expect("it can be cut");
        let said = refused(&folder, &spec(2));
        assert!(matches!(said, Error::Truncated { need, have: h } if (need, h) == (whole, have)), "{said}");
    }
    for have in [4095, 0] {
        OpenOptions::new().write(true).open(&path).and_then(|f| f.set_len(have)).expect("it can be cut");
        let said = refused(&folder, &spec(2));
        assert!(matches!(said, Error::Truncated { need: 4096, have: h } if h == have), "{said}");
    }
}

/// Lengths and seats from a file are checked before anything is reckoned from them.
#[test]
fn wild_numbers_in_the_header_are_refused() {
    for (i, (offset, bytes)) in [
        (32, u64::MAX.to_le_bytes()),
        (32, [0; 8]),
        (40, u64::MAX.to_le_bytes()),
        (40, (u64::MAX >> 1).to_le_bytes()),
        (24, [255; 8]),
    ]
    .into_iter()
    .enumerate()
    {
        let (folder, _held) = spoilt(&format!("wild{i}"), offset, &bytes);
        let said = refused(&folder, &spec(2));
        assert!(matches!(said, Error::OtherLengths { .. } | Error::OtherSize { .. }), "{i}: {said}");
    }
}

/// Whoever opens a name looks at all seats: a number from a file must not decide how long that takes, nor is a file
/// that claims more than a segment can have somebody's whose death would free the name.
#[test]
fn more_seats_than_there_can_be_are_not_even_looked_at() {
    let said = Segment::create(&spec(4097)).map(|_| ()).expect_err("nobody has as many");
    assert!(matches!(said, Error::TooManySeats { seats: 4097, limit: 4096 }), "{said}");
    let said = Segment::create(&spec((1 << 32) + 2)).map(|_| ()).expect_err("it would be taken for 2");
    assert!(matches!(said, Error::TooManySeats { .. }), "{said}");
    // The header of 4097 seats, right in itself, and a first seat whose holder is dead.
    let (folder, held) = spoilt("seats", 24, &4097_u32.to_le_bytes());
    drop(held);
    let prefix = 4096 + 65 * 4096 + 4096_u64;
    let path = file_of(&folder.0, "x");
    let file = OpenOptions::new().write(true).open(&path).expect("it is there");
    let spoil = |at, bytes: &[u8]| file.write_all_at(bytes, at).expect("it can be written");
    spoil(32, &prefix.to_le_bytes());
    spoil(40, &prefix.to_le_bytes());
    spoil(4096, &1_u32.to_le_bytes());
    file.set_len(prefix).expect("it can be longer");
    let said = refused(&folder, &spec(2));
    assert!(matches!(said, Error::OtherSize { found: 4097, expected: 2 }), "{said}");
    let said =
        Segment::create_named_in(&folder.0, "x", &spec(2), 0).map(|_| ()).expect_err("the name is taken");
    assert!(matches!(&said, Error::NameTaken { holders, .. } if holders.is_empty()), "{said}");
}

#[test]
fn only_a_file_of_our_own_is_trusted() {
    let (folder, _held) = spoilt("trust", 0, &[]);
    let path = file_of(&folder.0, "x");
    let untrusted = |word: &str| {
        let said = refused(&folder, &spec(2));
        assert!(
            matches!(&said, Error::Untrusted { path: p, why } if *p == path && why.contains(word)),
            "{said}"
        );
        let said =
            Segment::create_named_in(&folder.0, "x", &spec(2), 0).map(|_| ()).expect_err("nor built over");
        assert!(matches!(said, Error::Untrusted { .. }), "{said}");
    };
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("it is ours");
    untrusted("others");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
    let real = folder.0.join("real");
    fs::rename(&path, &real).expect("it can be moved");
    symlink(&real, &path).expect("a link can be made");
    untrusted("symbolic link");
    fs::remove_file(&path).expect("it is there");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR)
        .expect("a pipe");
    untrusted("regular");
    if nix::unistd::geteuid().is_root() {
        fs::remove_file(&path).expect("it is there");
        fs::rename(&real, &path).expect("it can be moved");
        std::os::unix::fs::chown(&path, Some(12345), None).expect("root may");
        untrusted("another user");
    }
}

#[test]
fn bad_names_are_refused() {
    for name in ["", ".x", "a/b", "a b", "ä", "../x", &"x".repeat(65)] {
        let said =
            Segment::create_named(name, &spec(1), 0).map(|_| ()).expect_err("no file can be called so");
        assert!(matches!(&said, Error::BadName { name: n } if n == name), "{said}");
        let said = Segment::enter_named(name, &spec(1), 0, PATIENCE).map(|_| ()).expect_err("nor here");
        assert!(matches!(said, Error::BadName { .. }), "{said}");
    }
    let folder = Folder::new("names");
    for name in ["x".repeat(64), "a.B-c_9".to_owned(), "-".to_owned()] {
        let (segment, _seat) = Segment::create_named_in(&folder.0, &name, &spec(1), 0).expect("a good name");
        assert!(file_of(&folder.0, &name).exists());
        segment.unlink().expect("it is ours");
    }
}

#[test]
fn a_named_segment_is_ours_alone_and_goes_when_unlinked() {
    let name = name("unlink");
    let _forget = Forget::name(&name);
    let path = file_of(Path::new("/dev/shm"), &name);
    let (segment, _first) = Segment::create_named(&name, &spec(2), 0).expect("the name is free");
    let file = fs::metadata(&path).expect("it has its name");
    assert_eq!((file.mode() & 0o777, file.uid()), (0o600, nix::unistd::geteuid().as_raw()));
    let (other, _seat) = Segment::enter_named(&name, &spec(2), 1, PATIENCE).expect("it can be entered");
    assert_eq!(other.nonce(), segment.nonce());
    set(&segment, 5, 55);
    assert_eq!(get(&other, 5), 55);
    segment.unlink().expect("it is ours");
    assert!(!path.exists());
    segment.unlink().expect("once more does nothing");
    let (fresh, _second) = Segment::create_named(&name, &spec(2), 0).expect("the name is free again");
    assert_ne!(fresh.nonce(), segment.nonce());
    other.unlink().expect("the name is another's now, and stays");
    assert!(path.exists());
    assert_eq!(get(&segment, 5), 55, "those who have it mapped keep it");
}

/// A deadline bounds how long a name may change hands; nobody is told that it did before he has looked.
#[test]
fn a_name_that_is_at_rest_is_entered_without_any_time() {
    let folder = Folder::new("at_once");
    let enter = |seat| Segment::enter_named_in(&folder.0, "x", &spec(2), seat, Duration::ZERO);
    let (_first, _seat) = enter(0).expect("the name is free");
    let (_second, _seat) = enter(1).expect("the segment is there");
}

#[test]
fn a_name_with_a_living_holder_is_taken() {
    let folder = Folder::new("taken");
    let (_segment, _seat) =
        Segment::enter_named_in(&folder.0, "x", &spec(2), 1, PATIENCE).expect("the name is free");
    let said = Segment::create_named_in(&folder.0, "x", &spec(2), 0).map(|_| ()).expect_err("we sit there");
    let me = std::process::id();
    assert!(matches!(&said, Error::NameTaken { name, holders } if name == "x" && *holders == [me]), "{said}");
    assert!(said.to_string().contains(&me.to_string()), "{said}");
}

#[test]
fn a_name_whose_holders_are_all_dead_is_taken_over() {
    let folder = Folder::new("stale");
    let enter = |spec: &Spec, seat| Segment::enter_named_in(&folder.0, "x", spec, seat, PATIENCE);
    let (first, seat) = enter(&spec(2), 0).expect("the name is free");
    let (_, other) = enter(&spec(2), 1).expect("seat 1 is free");
    drop(seat);
    assert_eq!(first.life(0), Life::Dead);
    let said = enter(&spec(2), 0).map(|_| ()).expect_err("seat 1 still lives, so seat 0 is known as dead");
    assert!(matches!(said, Error::SeatDead { seat: 0, .. }), "{said}");
    drop(other);
    assert_eq!(first.life(1), Life::Dead);
    // Even for another spec: the old segment is nobody's.
    let (second, _seat) = enter(&spec(3), 0).expect("a stale name is free");
    assert_ne!(second.nonce(), first.nonce());
    let created = Segment::create_named_in(&folder.0, "x", &spec(2), 0).map(|_| ());
    assert!(matches!(created, Err(Error::NameTaken { .. })), "the new one lives");
    drop(_seat);
    assert_eq!(second.life(0), Life::Dead);
    let (third, _seat) = Segment::create_named_in(&folder.0, "x", &spec(2), 0).expect("stale again");
    assert_ne!(third.nonce(), second.nonce());
}

/// The rank dies with its seat in the segment; its name is taken over by this process.
#[test]
fn the_name_of_a_killed_rank_is_taken_over() {
    let name = name("heir");
    let running = Processes::new(1).start(|_| {
        let (_segment, _seat) =
            Segment::enter_named(&name, &spec(1), 0, PATIENCE).map_err(|e| e.to_string())?;
        wait_to_be_ended()
    });
    let running = running.expect("a rank can be started");
    let _forget = Forget::name(&name);
    let path = file_of(Path::new("/dev/shm"), &name);
    until("the rank has made the segment", || path.exists());
    let pid = running.pids()[0];
    until("the rank sits in it", || match Segment::create_named(&name, &spec(1), 0) {
        Err(Error::NameTaken { holders, .. }) => holders == [pid],
        other => panic!("it lives, or is about to: {other:?}"),
    });
    kill(&running, 0);
    until("the name is free", || match Segment::enter_named(&name, &spec(1), 0, PATIENCE) {
        Ok((segment, _seat)) => segment.life(0) == Life::Alive,
        Err(Error::SeatTaken { .. }) => false,
        Err(e) => panic!("{e}"),
    });
}

/// Whoever was about to take the name away has died after it had retired the segment, in which somebody sits: the next
/// one finds that it is not stale.
#[test]
fn a_segment_that_a_dead_process_has_retired_is_entered_all_the_same() {
    let (folder, (segment, _held)) = spoilt("retired", 56, &1_u32.to_le_bytes());
    let said = segment.take_seat(0).map(|_| ()).expect_err("nobody knows yet whether it is");
    assert!(matches!(said, Error::Retired), "{said}");
    assert_eq!(segment.life(0), Life::Absent, "the try has left nothing");
    let entered = Segment::enter_named_in(&folder.0, "x", &spec(2), 0, PATIENCE);
    let (other, _seat) = entered.expect("seat 1 lives, so it is not stale");
    assert_eq!(other.nonce(), segment.nonce());
}
