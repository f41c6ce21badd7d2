//! `.cargo/config.toml` names every crate that the fuzz targets are made of, and no other.
#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The value of `key = "value"` lines.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let value = |line: &'a str| line.strip_prefix(key)?.strip_prefix(" = \"")?.split('"').next();
    text.lines().filter_map(value).collect()
}

/// Crates of a package's libraries for this machine: neither build scripts nor proc macros, nor what those alone need.
fn tree(package: &str) -> Vec<String> {
    let out = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--package", package, "--edges", "normal,no-proc-macro"])
        .args(["--prefix", "none", "--format", "{lib}"])
        .current_dir(root())
        .output()
        .expect("cargo can be started");
    assert!(out.status.success(), "cargo tree: {}", String::from_utf8_lossy(&out.stderr));
    let out = String::from_utf8(out.stdout).expect("UTF-8");
    let names = out.lines().filter_map(|l| l.split_whitespace().next());
    names.map(str::to_owned).collect()
}

/// What `fuzz` depends on, from its manifest.
fn dependencies_of_fuzz() -> Vec<String> {
    let manifest = text("fuzz/Cargo.toml");
    let section = manifest.split("\n[dependencies]\n").nth(1).expect("it has dependencies");
    let lines = section.lines().take_while(|l| !l.starts_with('['));
    let name = |l: &str| l.split(['=', '.', ' ']).next().unwrap_or_default().to_owned();
    lines.filter(|l| !l.is_empty()).map(name).collect()
}

/// The packages that `Cargo.lock` says a package depends on.
fn locked_dependencies(package: &str) -> Vec<String> {
    let lock = text("Cargo.lock");
    let entry = lock.split("[[package]]").find(|e| values(e, "name") == [package]);
    let entry = entry.unwrap_or_else(|| panic!("{package} is not locked"));
    let all = entry.split("dependencies = [").nth(1).unwrap_or_default();
    let names = all.lines().filter_map(|l| l.trim().strip_prefix('"')?.split(['"', ' ']).next());
    names.map(str::to_owned).collect()
}

/// libFuzzer's package is not looked up in cargo's tree, because only who fuzzes has it: what it brings stands here,
/// and is compared with the lock file.
#[test]
fn the_list_is_what_the_targets_are_made_of() {
    assert_eq!(
        dependencies_of_fuzz(),
        ["libfuzzer-sys", "sapwood-fuzz-checks"],
        "fuzz/Cargo.toml: put what a target needs into fuzz/checks, so that this test finds it"
    );
    assert_eq!(
        locked_dependencies("libfuzzer-sys"),
        ["arbitrary", "cc"],
        "libfuzzer-sys has other dependencies now; `cc` only builds it"
    );
    let mut expected: BTreeSet<String> = tree("sapwood-fuzz-checks").into_iter().collect();
    expected.extend(["___", "libfuzzer_sys"].map(str::to_owned));
    let manifest = text("fuzz/Cargo.toml");
    let (_, bins) = manifest.split_once("[[bin]]").expect("it has targets");
    expected.extend(values(bins, "name").into_iter().map(str::to_owned));

    let config = text(".cargo/config.toml");
    let list = *values(&config, "RUSTC_BOOTSTRAP").first().expect("the list is on a line of its own");
    let listed: BTreeSet<String> = list.split(',').map(str::to_owned).collect();
    let missing: Vec<_> = expected.difference(&listed).collect();
    let extra: Vec<_> = listed.difference(&expected).collect();
    let right: Vec<&str> = expected.iter().map(String::as_str).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        ".cargo/config.toml: add {missing:?}, take away {extra:?}; the whole line is then\n\
         RUSTC_BOOTSTRAP = \"{}\"",
        right.join(",")
    );
}

/// Each target is a function of the checks, and has seeds.
#[test]
fn every_target_has_its_file_and_its_seeds() {
    let manifest = text("fuzz/Cargo.toml");
    let (_, bins) = manifest.split_once("[[bin]]").expect("it has targets");
    for name in values(bins, "name") {
        let target = text(&format!("fuzz/fuzz_targets/{name}.rs"));
        assert!(target.contains(&format!("sapwood_fuzz_checks::{name}(data)")), "{name} runs another check");
        let seeds = root().join("fuzz/seeds").join(name);
        assert!(fs::read_dir(&seeds).is_ok_and(|d| d.count() > 0), "{name} has no seeds");
    }
    assert_eq!(
        values(bins, "name").len(),
        fs::read_dir(root().join("fuzz/fuzz_targets")).expect("it is there").count()
    );
}
