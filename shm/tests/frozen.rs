//! Frozen values: read again and again by threads and processes; names, files and bytes that can't be trusted.
#![allow(missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;

use common::rings::{ended_well, rank, text};
use common::{Forget, kill, name, until, wait_to_be_ended};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use sapwood_shm::frozen::{DecodeError, Frozen, OpenError, Published};
use sapwood_shm::{Error, Segment};
use serde::{Deserialize, Serialize};

/// A function, by name: what it needs comes as a value.
#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
enum Activation {
    Relu,
    Leaky { slope: f64 },
}

impl Activation {
    fn call(&self, x: f64) -> f64 {
        match self {
            Activation::Relu => x.max(0.0),
            Activation::Leaky { slope } => x.max(slope * x),
        }
    }
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Settings {
    layers: Vec<u32>,
    names: BTreeMap<String, Vec<Option<i64>>>,
    activation: Activation,
}

fn settings() -> Settings {
    Settings {
        layers: vec![64, 32, 16],
        names: BTreeMap::from([("a".to_owned(), vec![Some(1), None]), ("b".to_owned(), vec![])]),
        activation: Activation::Leaky { slope: 0.1 },
    }
}

#[test]
fn mar_1_one_encode_any_number_of_reads_each_its_own_copy() {
    let value = settings();
    let frozen = Frozen::new(&value).expect("it can be encoded");
    let mut first = frozen.read().expect("it can be read");
    assert_eq!(first, value);
    first.layers.clear();
    for _ in 0..10 {
        assert_eq!(frozen.read().expect("it can be read"), value, "a copy was changed, not the value");
    }
}

#[test]
fn mar_2_it_goes_to_threads_and_through_queues_and_all_read_at_a_time() {
    let (to, from) = mpsc::channel::<Frozen<Settings>>();
    let frozen = Frozen::new(&settings()).expect("it can be encoded");
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let theirs = frozen.clone();
            std::thread::spawn(move || (0..200).all(|_| theirs.read() == Ok(settings())))
        })
        .collect();
    to.send(frozen).expect("the other end lives");
    let received = from.recv().expect("it was sent");
    assert!((0..200).all(|_| received.read() == Ok(settings())));
    assert!(readers.into_iter().all(|r| r.join().expect("it ends well")));
}

#[test]
fn mar_3_tables_with_lists_keys_and_functions() {
    let frozen = Frozen::new(&settings()).expect("it can be encoded");
    let read = frozen.read().expect("it can be read");
    assert_eq!(read.names["a"], [Some(1), None]);
    assert_eq!((read.activation.call(-1.0), Activation::Relu.call(-1.0)), (-0.1, 0.0));
}

#[test]
fn mar_5_a_value_of_any_length_has_room() {
    for len in [0, 1, 10, 11, 1 << 20] {
        let value = vec!["x".repeat(len); 3];
        let frozen = Frozen::new(&value).expect("it can be encoded");
        assert!(frozen.bytes() >= 3 * len);
        assert_eq!(frozen.read(), Ok(value));
    }
}

#[test]
fn plain_values_are_read_where_they_lie() {
    let values: Vec<f64> = (0..1000).map(f64::from).collect();
    let frozen = Frozen::of(&values);
    assert_eq!((frozen.view(), frozen.bytes()), (&values[..], 8000));
    assert_eq!(frozen.view().as_ptr(), frozen.clone().view().as_ptr());
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    frozen.send(&ours).expect("it can be sent");
    let received = Frozen::<[f64]>::receive(&theirs).expect("it is good");
    assert!(received.view() == values && received.view().as_ptr().is_aligned());
    assert_ne!(received.view().as_ptr(), frozen.view().as_ptr());
    assert!(Frozen::<[u8]>::of(&[]).view().is_empty());
    #[derive(Clone, Copy, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
    #[repr(C, align(64))]
    struct Wide([u64; 8]);
    assert_eq!(Frozen::of(&[Wide([3; 8]); 3]).view()[2].0, [3; 8]);
}

/// MAR-2, over processes: through a name both ways.
#[test]
fn mar_2_another_process_reads_what_was_published() {
    let (ours, theirs) = (name("ours"), name("theirs"));
    let running = rank(|| {
        let mut read = None;
        until("it is published", || match Frozen::<Settings>::open(&ours) {
            Ok(frozen) => {
                read = Some(frozen);
                true
            }
            Err(e) => {
                assert!(matches!(e, OpenError::NotPublished { .. }), "{e}");
                false
            }
        });
        let value = read.ok_or("it was opened")?.read().map_err(text)?;
        let _published: Published =
            Frozen::new(&value.layers).map_err(text)?.publish(&theirs).map_err(text)?;
        wait_to_be_ended()
    });
    let _forget = [Forget::name(&ours), Forget::name(&theirs)];
    let published = Frozen::new(&settings()).expect("encoded").publish(&ours).expect("the name is free");
    let said = Frozen::new(&1_u8).expect("encoded").publish(&ours).expect_err("the name is taken");
    assert!(matches!(said, Error::NameTaken { .. }), "{said}");
    let mut layers = None;
    until("the answer is published", || {
        layers = Frozen::<Vec<u32>>::open(&theirs).ok();
        layers.is_some()
    });
    assert_eq!(layers.expect("opened").read(), Ok(settings().layers));
    let said = Frozen::<Vec<u16>>::open(&theirs).expect_err("another type").to_string();
    assert_eq!(
        said,
        "the frozen value is an encoded alloc::vec::Vec<u32>, not an encoded alloc::vec::Vec<u16>"
    );
    // Whoever has published it is killed: nobody has the name any more.
    kill(&running, 0);
    running.wait(common::PATIENCE).expect("it ends");
    let said = Frozen::<Vec<u32>>::open(&theirs).expect_err("its process is dead");
    assert!(matches!(said, OpenError::NotPublished { .. }), "{said}");
    drop(published);
    assert!(matches!(Frozen::<Settings>::open(&ours), Err(OpenError::NotPublished { .. })));
}

/// MAR-2, over processes: neither who receives a value nor who has made it can change it.
#[test]
fn mar_2_a_sealed_value_is_changed_by_nobody() {
    let ours = name("socket");
    let running = rank(|| {
        let listener = std::os::unix::net::UnixListener::bind(format!("/tmp/{ours}")).map_err(text)?;
        let (stream, _) = listener.accept().map_err(text)?;
        let frozen = Frozen::<Settings>::receive(&stream).map_err(text)?;
        let file = frozen.file().map_err(text)?;
        let written = file.write_all_at(b"x", 100);
        let again = Frozen::<Settings>::from_file(file).map_err(text)?;
        let same = (0..3).all(|_| frozen.read() == Ok(settings()) && again.read() == Ok(settings()));
        if written.is_err() && file.set_len(10).is_err() && same { Ok(()) } else { Err("changed".into()) }
    });
    let _forget = Forget(format!("/tmp/{ours}").into());
    let mut stream = None;
    until("the rank listens", || {
        stream = UnixStream::connect(format!("/tmp/{ours}")).ok();
        stream.is_some()
    });
    let frozen = Frozen::new(&settings()).expect("encoded");
    frozen.send(&stream.expect("connected")).expect("it can be sent");
    let file = frozen.file().expect("it has one");
    assert!(file.write_all_at(b"x", 100).is_err(), "sealed for whoever has made it, too");
    ended_well(running);
}

fn memfd(bytes: &[u8]) -> File {
    let mut file = File::from(Segment::anonymous_fd().expect("a file"));
    file.write_all(bytes).expect("there is room");
    file
}

fn seal(file: &File, seals: SealFlag) {
    fcntl(file, FcntlArg::F_ADD_SEALS(seals)).expect("it can be sealed");
}

#[test]
fn what_can_still_change_or_is_none_is_refused() {
    let frozen = Frozen::new(&settings()).expect("encoded");
    let file = frozen.file().expect("it has one");
    let mut image = vec![0; file.metadata().expect("it has").len() as usize];
    file.read_exact_at(&mut image, 0).expect("it can be read");
    let open = |bytes: &[u8], seals| {
        let file = memfd(bytes);
        seal(&file, seals);
        Frozen::<Settings>::from_file(&file).map(|f| f.read())
    };
    let all =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    assert_eq!(open(&image, all), Ok(Ok(settings())));
    for missing in [SealFlag::F_SEAL_WRITE, SealFlag::F_SEAL_SHRINK, SealFlag::F_SEAL_GROW] {
        assert_eq!(open(&image, all - missing), Err(OpenError::NotSealed), "{missing:?}");
    }
    for len in 0..image.len() {
        let said = open(&image[..len], all).expect_err("cut off");
        assert!(matches!(said, OpenError::Truncated { .. }), "{len}: {said}");
    }
    for at in (0..44).chain(64..image.len()) {
        let mut bad = image.clone();
        bad[at] = !bad[at];
        assert!(open(&bad, all).is_err(), "byte {at}");
    }
    assert!(matches!(open(&[7; 4096], all), Err(OpenError::NotFrozen { .. })));
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    drop(ours);
    assert!(matches!(Frozen::<u8>::receive(&theirs), Err(OpenError::Memory(Error::Closed))));
}

/// Opening a pipe by its name would wait for a writer; reading what has no memory would take some.
#[test]
fn a_pipe_and_a_file_without_memory_are_refused_before_they_cost_anything() {
    let path = std::path::PathBuf::from(format!("/tmp/{}", name("pipe")));
    let _forget = Forget(path.clone());
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let pipe = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path).expect("it is there");
    assert_eq!(Frozen::<u8>::from_file(&pipe).map(drop), Err(OpenError::NotSealed));

    let long = memfd(&[]);
    long.set_len(1 << 40).expect("a length takes no memory");
    seal(
        &long,
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL,
    );
    let said = Frozen::<u8>::from_file(&long).map(drop);
    assert_eq!(said, Err(OpenError::Sparse { bytes: 1 << 40, backed: 0 }));
}

/// The digest of a bad peer's bytes is right, and they are no value of the type all the same.
#[test]
fn bytes_that_are_no_value_are_a_typed_error() {
    #[derive(Serialize, Deserialize, Debug)]
    struct Endless(Option<Box<Endless>>);
    let bytes = |len| {
        let mut value = Endless(None);
        for _ in 0..len {
            value = Endless(Some(Box::new(value)));
        }
        Frozen::new(&value).expect("encoded")
    };
    assert!(bytes(20).read().is_ok());
    let said = bytes(1000).read().expect_err("too deep");
    assert!(matches!(said, DecodeError::TooDeep { most: 128, .. }), "{said}");
    let nobody = name("nobody");
    assert!(matches!(Frozen::<u8>::open(&nobody), Err(OpenError::NotPublished { name }) if name == nobody));
    assert!(matches!(Frozen::<u8>::open("no/such"), Err(OpenError::Memory(Error::BadName { .. }))));
}

#[test]
fn another_object_under_the_name_is_told() {
    let name = name("ring");
    let _forget = Forget::name(&name);
    let _tx = sapwood_shm::ring::spsc::Producer::<u64>::open(&name, 8).expect("the name is free");
    let said = Frozen::<u8>::open(&name).expect_err("it is a ring").to_string();
    assert_eq!(said, "the segment holds a ring of one producer and one consumer, not a frozen value");
}
