//! House rules that a compiler does not check: where unsafe may live, how long a file may be, what must not be said.
#![allow(missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

/// Files that may contain `unsafe`, each of which says why at its top. A new one is a decision: add it here.
const UNSAFE: &[&str] = &[
    "bench/peers/src/iceoryx.rs",
    "bench/src/floor.rs",
    "bench/src/plain.rs",
    "core/src/blocks/handle.rs",
    "core/src/blocks/memory.rs",
    "core/src/board.rs",
    "core/src/bufs/handle.rs",
    "core/src/bufs/memory.rs",
    "core/src/claim/desk.rs",
    "core/src/claim/jobs.rs",
    "core/src/claim/memory.rs",
    "core/src/collective/all_reduce.rs",
    "core/src/collective/broadcast.rs",
    "core/src/collective/combine.rs",
    "core/src/member.rs",
    "core/src/real.rs",
    "core/src/reduce/avx2.rs",
    "core/src/reduce/avx512.rs",
    "core/src/reduce/lanes.rs",
    "core/src/reduce/mod.rs",
    "core/src/reduce/portable.rs",
    "core/src/reduce/rounding.rs",
    "core/src/reduce/wide.rs",
    "core/src/ring/latest.rs",
    "core/src/ring/local.rs",
    "core/src/ring/mpmc.rs",
    "core/src/ring/spsc.rs",
    "core/src/ring/stream.rs",
    "core/src/tensors.rs",
    "core/src/testing/explore/cell.rs",
    "core/src/testing/explore/mpmc/mod.rs",
    "core/src/testing/heap.rs",
    "core/src/testing/hostile.rs",
    "core/src/testing/locks.rs",
    "core/src/testing/rings.rs",
    "core/src/testing/works.rs",
    "core/src/view.rs",
    "core/src/wire/checksum.rs",
    "fuzz/checks/src/segment_open/mod.rs",
    "loom-tests/src/attached.rs",
    "loom-tests/src/guarded.rs",
    "shm/src/alloc.rs",
    "shm/src/arena.rs",
    "shm/src/barrier.rs",
    "shm/src/bufs/buf.rs",
    "shm/src/bufs/depot.rs",
    "shm/src/bufs/open.rs",
    "shm/src/bufs/pool.rs",
    "shm/src/channel/bells.rs",
    "shm/src/fd_pass.rs",
    "shm/src/frozen/mod.rs",
    "shm/src/group.rs",
    "shm/src/hall.rs",
    "shm/src/link.rs",
    "shm/src/liveness.rs",
    "shm/src/map/handle.rs",
    "shm/src/map/table.rs",
    "shm/src/memory.rs",
    "shm/src/mutex.rs",
    "shm/src/processes.rs",
    "shm/src/queue/front.rs",
    "shm/src/queue/local.rs",
    "shm/src/queue/shared.rs",
    "shm/src/ring/frames.rs",
    "shm/src/ring/jobs.rs",
    "shm/src/ring/latest.rs",
    "shm/src/ring/local.rs",
    "shm/src/ring/mpmc.rs",
    "shm/src/ring/region.rs",
    "shm/src/ring/spsc.rs",
    "shm/src/ring/stream.rs",
    "shm/src/seat.rs",
    "shm/src/segment.rs",
];
const MOST_LINES: usize = 800;
const MOST_COLUMNS: usize = 120;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file with this ending, as a path from the root with its text.
fn files(ending: &str) -> Vec<(String, String)> {
    fn walk(dir: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("a folder that can be read") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
            if path.is_dir() {
                if name != "target" && name != ".git" {
                    walk(&path, ending, found);
                }
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), ending, &mut found);
    found.sort();
    let relative = |p: &PathBuf| p.strip_prefix(root()).expect("below the root").display().to_string();
    found.iter().map(|p| (relative(p), fs::read_to_string(p).expect("UTF-8"))).collect()
}

/// Source files that ship: tests and examples follow the lints alone.
fn shipped() -> Vec<(String, String)> {
    let all = files(".rs").into_iter();
    all.filter(|(p, _)| p.contains("src/") && !p.contains("/tests/")).collect()
}

fn without_comments(text: &str) -> String {
    text.lines().map(|l| l.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

#[test]
fn unsafe_lives_where_the_list_says() {
    let has = |text: &str| {
        let code = without_comments(text).replace("unsafe_code", "").replace("unsafe_op", "");
        code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
    };
    let found: Vec<String> = shipped().into_iter().filter(|(_, t)| has(t)).map(|(p, _)| p).collect();
    assert_eq!(found, UNSAFE, "left: what the code has; right: what the list allows");
}

#[test]
fn files_with_unsafe_say_why_at_their_top() {
    for (path, text) in shipped().into_iter().filter(|(p, _)| UNSAFE.contains(&p.as_str())) {
        let head: Vec<&str> = text.lines().take_while(|l| l.starts_with("//!") || l.is_empty()).collect();
        assert!(head.contains(&"//! # Safety"), "{path} has no `# Safety` in its opening");
    }
}

#[test]
fn tree_and_facade_forbid_unsafe() {
    for path in ["src/lib.rs", "tree/src/lib.rs"] {
        let text = fs::read_to_string(root().join(path)).expect("it exists");
        assert!(text.contains("#![forbid(unsafe_code)]"), "{path}");
    }
}

#[test]
fn files_and_lines_have_bounds() {
    for (path, text) in files(".rs") {
        let lines = text.lines().count();
        assert!(lines <= MOST_LINES, "{path} has {lines} lines; is there a second idea in it?");
        for (i, line) in text.lines().enumerate() {
            let table = line.trim_start().starts_with("//! |"); // rows of a table can't be broken
            assert!(table || line.chars().count() <= MOST_COLUMNS, "{path}:{} is too long", i + 1);
            assert!(
                line.trim_end() == line && !line.contains('\t'),
                "{path}:{} has stray white space",
                i + 1
            );
        }
    }
}

/// Core atomics come in through the memory families only. Clippy holds the types; this holds the ways around it.
#[test]
fn nobody_turns_the_ban_on_atomics_off() {
    // Family files, and words that are private to a process.
    const MAY: &[&str] = &["core/src/real.rs", "shm/src/seat.rs"];
    for (path, text) in shipped() {
        let off = text.contains("allow(clippy::disallowed_types");
        assert!(!off || MAY.contains(&path.as_str()), "{path} allows itself core atomics");
    }
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here so that this file does not find itself.
    let words = [["to", "do!("], ["unimple", "mented!("], ["FIX", "ME"], ["#[ign", "ore"], ["dbg", "!("]];
    for (path, text) in files(".rs").into_iter().chain(files(".sh")) {
        for word in words.map(|w| w.concat()) {
            assert!(!text.contains(&word), "{path} contains {word}");
        }
    }
}
