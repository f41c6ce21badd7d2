//! Segments between processes: built by whoever comes first, whoever dies at it, sent over sockets; and memory that is
//! backed, mapped, released, or not there.
//!
//! # Safety
//! Writes to mapped bytes, as the crate's own callers do: words, or bytes that nobody else knows.
#![allow(unsafe_code)]

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, FromRawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use common::*;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use sapwood_shm::{Error, Life, Processes, Rendezvous, Segment, Spec};

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

#[test]
fn four_processes_build_one_inherited_segment() {
    let report = sapwood_shm::processes(4, |rank| {
        let Rendezvous::Inherited(fd) = rank.rendezvous().map_err(text)? else {
            return Err("no descriptor was inherited".to_owned());
        };
        let segment = Segment::build_or_attach(fd, &spec(4), PATIENCE).map_err(text)?;
        let _seat = segment.take_seat(rank.rank()).map_err(text)?;
        set(&segment, rank.rank(), segment.nonce() as u32 | 1);
        until("all have come", || (0..4).all(|r| get(&segment, r) != 0));
        let mine = segment.nonce() as u32 | 1;
        if (0..4).any(|r| get(&segment, r) != mine) {
            return Err("another rank is in another segment".to_owned());
        }
        Ok(())
    });
    let report = report.expect("ranks can be started");
    assert!(report.success(), "{report}");
}

#[test]
fn four_processes_build_one_named_segment() {
    let name = name("race");
    let running = Processes::new(4).start(|rank| {
        for round in 0..10 {
            let name = format!("{name}-{round}");
            let (segment, _seat) =
                Segment::enter_named(&name, &spec(4), rank.rank(), PATIENCE).map_err(text)?;
            set(&segment, rank.rank(), 1);
            until("all have come to one segment", || (0..4).all(|r| get(&segment, r) != 0));
            segment.unlink().map_err(text)?;
        }
        Ok::<(), String>(())
    });
    let _forget: Vec<_> = (0..10).map(|r| Forget::name(&format!("{name}-{r}"))).collect();
    let report = running.expect("ranks can be started").wait(PATIENCE).expect("they end");
    assert!(report.success(), "{report}");
    for round in 0..10 {
        assert!(
            !file_of(Path::new("/dev/shm"), &format!("{name}-{round}")).exists(),
            "round {round} is left"
        );
    }
}

/// Where the build lock lies (see the crate's `layout`), as somebody who knows takes it.
fn hold_build_lock(file: &impl AsFd) {
    let lock = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 1 << 61,
        l_len: 1,
        l_pid: 0,
    };
    nix::fcntl::fcntl(file.as_fd(), nix::fcntl::FcntlArg::F_OFD_SETLK(&lock)).expect("nobody holds it");
}

/// The rank holds the build lock over a segment that has its length and some of its header, and is killed there.
#[test]
fn a_builder_that_is_killed_midway_leaves_the_work_to_the_next() {
    let running = Processes::new(1).start(|rank| {
        let Ok(Rendezvous::Inherited(fd)) = rank.rendezvous() else { return Err("no descriptor".to_owned()) };
        let file = File::from(fd);
        hold_build_lock(&file);
        file.set_len(12288).map_err(text)?;
        std::os::unix::fs::FileExt::write_all_at(&file, &[1; 16], 8).map_err(text)?;
        wait_to_be_ended()
    });
    let running = running.expect("a rank can be started");
    let file = memfd_of(running.pids()[0]);
    let open = || file.as_fd().try_clone_to_owned().expect("descriptors can be duplicated");
    until("the rank has begun to build", || word_at(&file, 8) == 0x0101_0101);
    let said = Segment::build_or_attach(open(), &spec(1), Duration::ZERO).expect_err("the rank is at it");
    assert!(matches!(said, Error::StillBuilding { .. }), "{said}");
    kill(&running, 0);
    let segment = Segment::build_or_attach(open(), &spec(1), PATIENCE).expect("nobody is at it any more");
    assert_eq!(segment.life(0), Life::Absent);
    let again = Segment::build_or_attach(open(), &spec(1), PATIENCE).expect("it is built");
    assert_eq!(again.nonce(), segment.nonce());
    let said = Segment::build_or_attach(open(), &spec(2), PATIENCE).expect_err("for one rank");
    assert!(matches!(said, Error::OtherSize { found: 1, expected: 2 }), "{said}");
}

/// The file that a rank has inherited, once it runs.
fn memfd_of(pid: u32) -> File {
    let mut found = None;
    until("the rank has its descriptor", || {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let environ = String::from_utf8_lossy(&environ);
        let fd = environ.split('\0').find_map(|v| v.strip_prefix("SAPWOOD_RENDEZVOUS=fd:"));
        let open = |fd| File::options().read(true).write(true).open(format!("/proc/{pid}/fd/{fd}")).ok();
        found = fd.and_then(open);
        found.is_some()
    });
    found.expect("just seen")
}

fn word_at(file: &File, at: u64) -> u32 {
    let mut bytes = [0; 4];
    let read = std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, at);
    read.map_or(0, |()| u32::from_le_bytes(bytes))
}

#[test]
fn a_segment_goes_to_another_process_over_a_socket() {
    let folder = std::env::temp_dir().join(format!("sapwood-{}", name("socket")));
    let running = Processes::new(1).start(|_| {
        let mut to = None;
        until("the parent listens", || {
            to = UnixStream::connect(&folder).ok();
            to.is_some()
        });
        let to = to.expect("just seen");
        to.set_read_timeout(Some(PATIENCE)).map_err(text)?;
        let segment = Segment::receive(&to, &spec(1)).map_err(text)?;
        let _seat = segment.take_seat(0).map_err(text)?;
        set(&segment, 1, 11);
        until("the parent has seen it", || get(&segment, 2) == 22);
        Ok::<(), String>(())
    });
    let running = running.expect("a rank can be started");
    let _forget = Forget(folder.clone());
    let listener = std::os::unix::net::UnixListener::bind(&folder).expect("a socket can be made");
    let segment = Segment::create(&spec(1)).expect("there is memory");
    let (to, _) = listener.accept().expect("the rank connects");
    segment.send(&to).expect("it can be sent");
    until("the rank has written", || get(&segment, 1) == 11);
    assert_eq!(segment.seat_pid(0), running.pids()[0]);
    set(&segment, 2, 22);
    let report = running.wait(PATIENCE).expect("it ends");
    assert!(report.success(), "{report}");
}

/// A segment to the letter, in a file that its maker could cut off under whoever has mapped it.
#[test]
fn a_segment_that_is_not_sealed_is_refused() {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let segment = Segment::create(&spec(1)).expect("there is memory");
    segment.send(&ours).expect("it can be sent");
    let mut contents = vec![0; segment.reserve_offset() as usize];
    std::os::unix::fs::FileExt::read_exact_at(&received(&theirs), &mut contents, 0).expect("it is as long");
    let loose = Segment::anonymous_fd().expect("a memfd can be made");
    let copy = File::from(loose.try_clone().expect("descriptors can be duplicated"));
    std::os::unix::fs::FileExt::write_all_at(&copy, &contents, 0).expect("there is memory");
    let fds = [copy.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let carrier = [std::io::IoSlice::new(b"S")];
    sendmsg::<()>(ours.as_raw_fd(), &carrier, &rights, MsgFlags::empty(), None).expect("it can be sent");
    let said = Segment::receive(&theirs, &spec(1)).map(|_| ()).expect_err("it could be cut off");
    assert!(matches!(said, Error::NotSealed), "{said}");
    // One that can't even be opened by its name is not tried.
    let fds = [ours.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(ours.as_raw_fd(), &carrier, &rights, MsgFlags::empty(), None).expect("it can be sent");
    let said = Segment::receive(&theirs, &spec(1)).map(|_| ()).expect_err("a socket");
    assert!(matches!(said, Error::NotSealed), "{said}");
    let said = Segment::build_or_attach(loose, &spec(1), PATIENCE).map(|_| ()).expect_err("nor inherited");
    assert!(matches!(said, Error::NotSealed), "{said}");
}

/// The one file that comes over a socket.
fn received(from: &UnixStream) -> File {
    let mut byte = [0];
    let mut iov = [std::io::IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([i32; 1]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message =
        recvmsg::<UnixAddr>(from.as_raw_fd(), &mut iov, Some(&mut space), flags).expect("it was sent");
    match message.cmsgs().expect("not cut off").next() {
        Some(ControlMessageOwned::ScmRights(fds)) => {
            // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
            unsafe { File::from_raw_fd(fds[0]) }
        }
        other => panic!("not a descriptor: {other:?}"),
    }
}

#[test]
fn messages_without_just_one_segment_are_refused() {
    let (mut ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let segment = Segment::create(&spec(1)).expect("there is memory");
    let receive = || Segment::receive(&theirs, &spec(1)).expect_err("it is refused");

    ours.write_all(b"S").expect("it can be written");
    assert!(matches!(receive(), Error::NotOneDescriptor { got: 0 }));

    let null = File::open("/dev/null").expect("it exists");
    for count in [2, 8] {
        let fds = vec![null.as_raw_fd(); count];
        let rights = [ControlMessage::ScmRights(&fds)];
        let carrier = [std::io::IoSlice::new(b"S")];
        sendmsg::<()>(ours.as_raw_fd(), &carrier, &rights, MsgFlags::empty(), None).expect("it can be sent");
        assert!(matches!(receive(), Error::NotOneDescriptor { got } if got == count));
    }

    segment.send(&ours).expect("it can be sent");
    let said = Segment::receive(&theirs, &spec(2)).expect_err("it is for one rank");
    assert!(matches!(said, Error::OtherSize { found: 1, expected: 2 }), "{said}");

    theirs.set_read_timeout(Some(Duration::from_millis(1))).expect("it can be set");
    let said = receive();
    assert!(
        matches!(&said, Error::System { source, .. } if source.raw_os_error() == Some(libc::EAGAIN)),
        "{said}"
    );

    // A rank that another test starts just now may have the other end too, until it is this program anew.
    theirs.set_read_timeout(Some(PATIENCE)).expect("it can be set");
    drop(ours);
    assert!(matches!(receive(), Error::Closed));
    let said = segment.send(&theirs).expect_err("nobody is there");
    assert!(
        matches!(&said, Error::System { source, .. } if source.raw_os_error() == Some(libc::EPIPE)),
        "{said}"
    );
}

/// Descriptors that are received but not wanted are closed: this may be done without end. Three fit into the room for
/// them, twenty do not: those that came along are closed too.
#[test]
fn refused_descriptors_do_not_pile_up() {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let folder = Folder::new("pile");
    let path = folder.0.join("file");
    let file = File::create(&path).expect("a file can be made");
    let inode = file.metadata().expect("it exists").ino();
    let fds = [file.as_raw_fd(); 20];
    for _ in 0..10 {
        for sent in [3, 20] {
            let rights = [ControlMessage::ScmRights(&fds[..sent])];
            let carrier = [std::io::IoSlice::new(b"S")];
            sendmsg::<()>(ours.as_raw_fd(), &carrier, &rights, MsgFlags::empty(), None)
                .expect("it can be sent");
            let said = Segment::receive(&theirs, &spec(1)).expect_err("several are not one");
            match sent {
                3 => assert!(matches!(said, Error::NotOneDescriptor { got: 3 }), "{said}"),
                _ => assert!(matches!(said, Error::DescriptorsCut { got: 8 }), "{said}"),
            }
        }
    }
    let open = fs::read_dir("/proc/self/fd").expect("proc is mounted").flatten();
    let open = open.filter(|e| fs::metadata(e.path()).is_ok_and(|m| m.ino() == inode)).count();
    assert_eq!(open, 1);
    let segment = Segment::create(&spec(1)).expect("there is memory");
    segment.send(&ours).expect("it can be sent");
    let received =
        Segment::receive(&theirs, &spec(1)).expect("the next message is read as if nothing had been");
    assert_eq!(received.nonce(), segment.nonce());
}

/// The kernel then hands over the message without the descriptor.
#[test]
fn a_process_out_of_descriptors_is_told_so() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let running = Processes::new(1).start(|_| {
        let (ours, theirs) = UnixStream::pair().map_err(text)?;
        let segment = Segment::create(&spec(1)).map_err(text)?;
        segment.send(&ours).map_err(text)?;
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(text)?;
        // Numbers below it that are free would still be given out.
        let mut fillers = Vec::new();
        let free = File::open("/dev/null").map_err(text)?.as_raw_fd();
        while fillers.last().is_none_or(|f: &File| f.as_raw_fd() < free + 8) {
            fillers.push(File::open("/dev/null").map_err(text)?);
        }
        let most = fillers.iter().map(AsRawFd::as_raw_fd).max().unwrap_or(0) as u64 + 1;
        setrlimit(Resource::RLIMIT_NOFILE, most, hard).map_err(text)?;
        match Segment::receive(&theirs, &spec(1)) {
            Err(Error::DescriptorsCut { got: 0 }) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let report = running.expect("a rank can be started").wait(PATIENCE).expect("it ends");
    assert!(report.success(), "{report}");
}

#[test]
fn the_reserve_is_backed_mapped_and_released() {
    let spec = Spec { reserve: 1 << 20, ..spec(1) };
    let segment = Segment::create(&spec).expect("there is memory");
    assert_eq!((segment.reserve_len(), segment.body_len()), (1 << 20, 4096));
    let start = segment.reserve_offset();
    segment.back(start, 8192).expect("there is memory");
    let first = segment.map(start, 8192).expect("it is inside");
    let second = segment.map(start + 4096, 4096).expect("it is inside");
    assert_eq!((first.len(), second.len()), (8192, 4096));
    let word = |at: *mut u8| -> &Word {
        // SAFETY: within a mapping that lives to the end of the test, on a page; any bytes are a word.
        unsafe { &*at.cast::<Word>() }
    };
    use sapwood_core::mem::{Atom, Ordering::SeqCst};
    word(first.ptr().wrapping_add(4096)).store(7, SeqCst);
    assert_eq!(word(second.ptr()).load(SeqCst), 7);
    segment.back(start, 8192).expect("twice is no fault");
    assert_eq!(word(second.ptr()).load(SeqCst), 7, "and keeps what is there");

    let end = start + (1 << 20);
    assert_eq!(segment.map(end - 4096, 4096).expect("the last page").len(), 4096);
    for (offset, len) in [(end, 4096), (end - 4096, 8192), (u64::MAX - 4095, 4096), (4096, u64::MAX)] {
        let said = segment.map(offset, len).expect_err("it is outside");
        assert!(matches!(said, Error::Truncated { have, .. } if have == end), "{said}");
    }
    // Sealed against growing: nothing can be backed behind the end.
    let said = segment.back(end, 4096).expect_err("it is outside");
    assert!(
        matches!(&said, Error::System { source, .. } if source.raw_os_error() == Some(libc::EPERM)),
        "{said}"
    );
}

#[test]
fn more_than_there_is_is_refused_before_it_is_touched() {
    let huge = Spec { body: 1 << 50, ..spec(1) };
    let said = Segment::create(&huge).map(|_| ()).expect_err("nobody has a pebibyte");
    assert!(matches!(said, Error::NoSpace { need, have, .. } if need > 1 << 50 && have < need), "{said}");
    let segment = Segment::create(&Spec { reserve: 1 << 50, ..spec(1) }).expect("a reserve is sparse");
    let said = segment.back(segment.reserve_offset(), 1 << 50).expect_err("nobody has a pebibyte");
    assert!(matches!(said, Error::NoSpace { need, .. } if need == 1 << 50), "{said}");
}

/// On a file system of 64 KiB that only this thread sees.
#[test]
fn a_full_file_system_is_an_error_and_never_a_signal() {
    use nix::mount::{MsFlags, mount};
    let folder = Folder::new("small");
    let none = None::<&str>;
    let small = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
        .and_then(|()| mount(Some("tmpfs"), &folder.0, Some("tmpfs"), MsFlags::empty(), Some("size=64k")));
    if let Err(e) = small {
        eprintln!("left out: this user may not mount a small file system ({e})");
        return;
    }
    let create = |name: &str, body, reserve| {
        Segment::create_named_in(&folder.0, name, &Spec { body, reserve, ..spec(1) }, 0)
    };
    let said = create("big", 1 << 20, 0).map(|_| ()).expect_err("64 KiB are not a MiB");
    assert!(matches!(said, Error::NoSpace { need, have, .. } if need > 1 << 20 && have <= 65536), "{said}");
    assert_eq!(fs::read_dir(&folder.0).expect("it can be read").count(), 0, "nothing is left");

    let (segment, _seat) = create("fits", 4096, 1 << 20).expect("12 KiB fit, and the reserve is sparse");
    let start = segment.reserve_offset();
    let said = segment.back(start, 1 << 20).expect_err("64 KiB are not a MiB");
    assert!(matches!(said, Error::NoSpace { need, have, .. } if need == 1 << 20 && have <= 65536), "{said}");
    let left = 65536 - start;
    segment.back(start, left).expect("nothing of the failed try is kept");
    let said = segment.back(start + left, 4096).expect_err("it is full to the last page");
    assert!(matches!(said, Error::NoSpace { have: 0, .. }), "{said}");
    let mapping = segment.map(start, left).expect("it is inside");
    for at in (0..mapping.len()).step_by(4096) {
        // SAFETY: inside the mapping, which nobody else knows.
        unsafe { mapping.ptr().add(at).write(1) };
    }
    // So that the folder can go; what is mapped stays.
    nix::mount::umount2(&folder.0, nix::mount::MntFlags::MNT_DETACH).expect("we have mounted it");
}
