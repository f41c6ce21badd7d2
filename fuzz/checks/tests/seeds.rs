//! The committed seeds: they are what the generator writes, and every property holds on them and on what else lies
//! there.
#![allow(missing_docs)]

use std::fs;
use std::path::PathBuf;

use sapwood_fuzz_checks::{TARGETS, seeds};

fn folder(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../seeds").join(target)
}

#[test]
fn the_committed_seeds_are_the_generated_ones() {
    for seed in seeds() {
        let path = folder(seed.target).join(&seed.name);
        let same = fs::read(&path).is_ok_and(|data| data == seed.data);
        assert!(same, "{}: run `cargo run -p sapwood-fuzz-checks --example seeds`", path.display());
    }
}

#[test]
fn every_property_holds_on_the_committed_seeds() {
    for (name, check) in TARGETS {
        let mut files: Vec<_> = fs::read_dir(folder(name)).expect("it is there").flatten().collect();
        assert!(!files.is_empty(), "{name} has no seeds");
        files.sort_by_key(|f| f.file_name());
        for file in files {
            let data = fs::read(file.path()).expect("it can be read");
            let held = std::panic::catch_unwind(|| check(&data));
            assert!(held.is_ok(), "{} breaks a property", file.path().display());
        }
    }
}
