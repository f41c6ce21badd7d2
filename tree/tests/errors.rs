//! Bad input and ranks that end, each as the typed error that a user sees. Ranks are threads of this process.
#![allow(missing_docs)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use sapwood_tree::{Contents, Error, LeaveReason, Op, Reason, Tree};

/// A name that no other test of this run has.
fn name(test: &str) -> String {
    format!("{test}-{}", std::process::id())
}

/// Runs `f` as every rank of a tree of threads.
fn ranks<V: Send>(size: usize, test: &str, f: impl Fn(Tree) -> V + Sync) -> Vec<V> {
    let name = name(test);
    let run = |rank| {
        let builder = Tree::builder().deadline(Duration::from_secs(20));
        f(builder.local(rank, size, &name).expect("all ranks come"))
    };
    std::thread::scope(|s| {
        let run = &run;
        let threads: Vec<_> = (0..size).map(|r| s.spawn(move || run(r))).collect();
        threads.into_iter().map(|t| t.join().expect("no panic")).collect()
    })
}

fn leftovers(test: &str) -> Vec<String> {
    let files = std::fs::read_dir("/dev/shm").expect("it can be read");
    let names = files.filter_map(|f| f.ok()?.file_name().into_string().ok());
    names.filter(|n| n.contains(&name(test))).collect()
}

#[test]
fn unrelated_ranks_meet_under_a_name_and_leave_nothing_behind() {
    for round in 0..20 {
        let sums = ranks(3, "meet", |mut tree| {
            let mut t = [tree.rank() as u64 + 1, round];
            assert_eq!(tree.all_reduce(&mut t, Op::Sum).expect("all agree"), 3);
            assert_eq!(tree.pids(), [std::process::id(); 3]);
            t
        });
        assert_eq!(sums, [[6, 3 * round]; 3]);
        assert_eq!(leftovers("meet"), [""; 0]);
    }
}

#[test]
fn a_mismatch_names_both_calls_with_file_and_line_on_every_rank() {
    let said = ranks(3, "mismatch", |mut tree| {
        let mut t = vec![1.0f32; 40];
        let error = if tree.rank() == 2 {
            tree.all_reduce(&mut t[..30], Op::Sum).expect_err("30 is not 40")
        } else {
            tree.all_reduce(&mut t, Op::Sum).expect_err("30 is not 40")
        };
        assert!(matches!(error, Error::Mismatch(_)), "{error:?}");
        assert_eq!(t, [1.0; 40]);
        // The tree goes on.
        tree.all_reduce(&mut t, Op::Sum).expect("all agree");
        assert_eq!(t, [3.0; 40]);
        error.to_string()
    });
    let here = file!();
    for (rank, said) in said.iter().enumerate() {
        let other = if rank == 2 { 0 } else { 2 };
        let (mine, theirs) = if rank == 2 { (30, 40) } else { (40, 30) };
        let begin = format!(
            "the ranks' calls do not agree: rank {rank} called all_reduce(sum, {mine} x f32) at {here}:"
        );
        assert!(said.starts_with(&begin), "{said}");
        assert!(
            said.contains(&format!("rank {other} called all_reduce(sum, {theirs} x f32) at {here}:")),
            "{said}"
        );
    }
}

#[test]
fn every_difference_between_calls_is_a_mismatch() {
    ranks(2, "differences", |mut tree| {
        let odd = tree.rank() == 1;
        let mut t = vec![1.0f32; 2000];
        for what in 0..6 {
            let result = match (what, odd) {
                (_, false) => tree.all_reduce(&mut t, Op::Sum).map(drop),
                (0, _) => tree.all_reduce(&mut t, Op::Prod).map(drop),
                (1, _) => tree.all_reduce(&mut vec![1i32; 2000], Op::Sum).map(drop),
                (2, _) => tree.all_reduce_many(&mut [&mut t[..1000], &mut [1.0; 1000]], Op::Sum).map(drop),
                (3, _) => tree.broadcast(&mut t, 0),
                (4, _) => tree.barrier(),
                (_, _) => tree.alloc::<f32>(2000).map(drop),
            };
            let error = result.expect_err("they differ");
            assert!(matches!(error, Error::Mismatch(_)), "{what}: {error}");
        }
        assert!(tree.barrier().is_ok());
    });
}

#[test]
fn a_rank_that_returns_drops_or_panics_has_left() {
    ranks(3, "left", |mut tree| {
        tree.barrier().expect("all are here");
        match tree.rank() {
            1 => {}
            rank => {
                let error = tree.barrier().expect_err("rank 1 is gone");
                let left =
                    Error::PeerLeft { rank: 1, reason: LeaveReason::Dropped, contents: Contents::AsBefore };
                assert_eq!(error.to_string(), left.to_string(), "rank {rank}");
                assert!(
                    error.to_string().starts_with("rank 1 left the tree: it returned or dropped its tree")
                );
                // It stays so.
                assert!(matches!(tree.barrier(), Err(Error::PeerLeft { rank: 1, .. })));
            }
        }
    });
    ranks(2, "panicked", |mut tree| {
        if tree.rank() == 1 {
            let unwound = catch_unwind(AssertUnwindSafe(move || {
                tree.barrier().expect("all are here");
                panic!("on purpose, with a tree of {}", tree.size());
            }));
            assert!(unwound.is_err());
        } else {
            tree.barrier().expect("all are here");
            let error = tree.barrier().expect_err("rank 1 is gone");
            assert!(
                matches!(error, Error::PeerLeft { rank: 1, reason: LeaveReason::Panicked, .. }),
                "{error}"
            );
        }
    });
}

#[test]
fn a_program_that_ends_after_its_last_collective_is_no_failure() {
    for _ in 0..200 {
        ranks(2, "ends", |mut tree| {
            let mut t = vec![1.0f32; 10_000];
            tree.all_reduce(&mut t, Op::Sum).expect("rank 0 may have returned already");
            assert_eq!(t, [2.0; 10_000]);
        });
    }
}

#[test]
fn a_closure_that_panics_fails_the_others() {
    for len in [3, 5000] {
        ranks(3, "closure", |mut tree| {
            let bad = tree.rank() == 1;
            let mut t = vec![1u32; len];
            let call = || {
                tree.all_reduce_with(&mut t, |sum, next| {
                    assert!(!bad, "on purpose");
                    sum.iter_mut().zip(next).for_each(|(s, n)| *s += n);
                })
            };
            match catch_unwind(AssertUnwindSafe(call)) {
                Err(_) => assert!(bad),
                Ok(Ok(3)) => assert!(len == 3 && !bad, "short tensors need nobody's closure but one's own"),
                Ok(result) => {
                    let error = result.expect_err("3 ranks or an error");
                    let reason = Reason::ClosurePanicked;
                    assert!(
                        matches!(&error, Error::PeerFailed { rank: 1, reason: r, .. } if *r == reason),
                        "{error}"
                    );
                }
            }
            let next = tree.barrier().expect_err("rank 1 is out");
            assert!(matches!(next, Error::PeerFailed { rank: 1, .. }), "{next}");
        });
    }
}

#[test]
fn a_missing_rank_is_named_at_the_deadline() {
    let name = name("missing");
    let began = Instant::now();
    let run = |rank: usize| {
        let builder = Tree::builder().join_deadline(Duration::from_millis(100));
        builder.local(rank, 4, &name).expect_err("ranks 1 and 2 never come").to_string()
    };
    let said =
        std::thread::scope(|s| [s.spawn(|| run(0)), s.spawn(|| run(3))].map(|t| t.join().expect("no panic")));
    assert!(began.elapsed() < Duration::from_secs(10));
    for said in said {
        let named = said.ends_with("for a tree of 4 ranks, but ranks 1 and 2 never came");
        let passed_on = said.starts_with("rank ") && said.contains("gave up");
        assert!(named || passed_on, "{said}");
    }
    assert_eq!(leftovers("missing"), [""; 0]);
}

#[test]
fn a_rank_that_is_started_twice_is_told_who_has_its_place() {
    let name = name("twice");
    let (say, hear) = std::sync::mpsc::channel();
    std::thread::scope(|s| {
        for _ in 0..2 {
            let (say, name) = (say.clone(), &name);
            s.spawn(move || {
                let tree = Tree::builder().join_deadline(Duration::from_secs(20)).local(0, 2, name);
                say.send(tree).expect("the test listens");
            });
        }
        // One of the two has the seat and waits for rank 1; the other one is told.
        let error = hear.recv().expect("one of them is refused").expect_err("rank 1 is not here");
        let pid = std::process::id();
        let told = error.to_string();
        let just_taken = told == "rank 0 is taken by process 0; was it started twice?";
        assert!(
            just_taken || told == format!("rank 0 is taken by process {pid}; was it started twice?"),
            "{told}"
        );
        let second = Tree::local(1, 2, &name).expect("both are here");
        drop((hear.recv().expect("the other one").expect("both are here"), second));
    });
}

#[test]
fn ranks_that_disagree_about_their_number_are_told_so() {
    let name = name("sizes");
    std::thread::scope(|s| {
        let first = s.spawn(|| Tree::builder().join_deadline(Duration::from_secs(20)).local(0, 2, &name));
        while leftovers("sizes").is_empty() {
            std::thread::yield_now();
        }
        let error = Tree::local(1, 3, &name).expect_err("2 is not 3");
        assert_eq!(error.to_string(), "the segment was made for 2 ranks, this one expects 3");
        drop(Tree::local(1, 2, &name).expect("now they agree"));
        first.join().expect("no panic").expect("both came");
    });
}

#[test]
fn bad_arguments_are_refused_before_anything_is_made() {
    let said = |r: Result<Tree, Error>| r.expect_err("refused").to_string();
    assert_eq!(said(Tree::local(2, 2, "x")), "a tree of 2 ranks has no rank 2");
    assert!(said(Tree::local(0, 0, "x")).starts_with("a tree can't have 0 ranks"));
    assert!(said(Tree::local(0, 1 << 20, "x")).starts_with("a tree can't have 1048576 ranks"));
    for bad in ["", ".x", "a/b", "ü", &"x".repeat(65)] {
        assert!(said(Tree::local(0, 1, bad)).contains("can't name a segment"), "{bad}");
    }
    let mut tree = Tree::local(0, 1, &name("arguments")).expect("alone");
    let root = tree.broadcast(&mut [1u8], 1).expect_err("no such root");
    assert_eq!(root.to_string(), "rank 1 was named as the root, but the tree's ranks are 0 to 0");
    let avg = tree.all_reduce(&mut [1i32], Op::Avg).expect_err("integers have no average");
    assert!(matches!(avg, Error::Unsupported(_)), "{avg}");
}

#[test]
fn too_large_a_tensor_is_refused_everywhere_and_the_tree_goes_on() {
    ranks(2, "large", |mut tree| {
        for n in [1usize << 38, usize::MAX / 8, usize::MAX] {
            let error = tree.alloc::<f64>(n).expect_err("nobody has that much memory");
            let expected = if tree.rank() == 0 {
                matches!(error, Error::Memory(_))
            } else {
                matches!(error, Error::NoResident { rank: 0, .. })
            };
            assert!(expected, "{n}: {error}");
        }
        let t = tree.alloc::<f64>(1000).expect("there is enough for that");
        assert_eq!(*t, [0.0; 1000]);
    });
}

#[test]
fn resident_tensors_come_as_zeros_and_their_memory_is_used_again() {
    ranks(2, "resident", |mut tree| {
        let mut kept = tree.alloc::<u64>(5000).expect("memory");
        for round in 0..50 {
            let mut t = tree.alloc::<u64>(100_000).expect("memory");
            assert!(t.iter().all(|v| *v == 0), "round {round}");
            t.fill(tree.rank() as u64 + 1);
            kept.fill(7);
            assert_eq!(tree.all_reduce(&mut t, Op::Sum).expect("all agree"), 2);
            tree.all_reduce(&mut kept[10..4000], Op::Sum).expect("all agree");
            assert!(t.iter().all(|v| *v == 3) && kept[10..4000].iter().all(|v| *v == 14) && kept[9] == 7);
        }
        let last = tree.alloc::<u8>(0).expect("nothing is a size too");
        drop(tree);
        // Tensors outlive the tree.
        assert_eq!((kept[10], last.len()), (14, 0));
    });
}

/// Rank 1 is in no call and may come to this one whenever it likes: the tensor is refused from then on. Had it left,
/// nobody could have begun.
#[test]
fn a_resident_tensor_is_refused_after_a_failed_call_only_where_somebody_may_still_write_to_it() {
    for leaves in [false, true] {
        let name = name(if leaves { "at-rest" } else { "poisoned" });
        std::thread::scope(|s| {
            let (done, until_done) = std::sync::mpsc::channel::<()>();
            let name = &name;
            s.spawn(move || {
                let mut tree = Tree::local(1, 2, name).expect("both come");
                let _mine = tree.alloc::<u64>(5000).expect("memory");
                let kept = (!leaves).then_some(tree);
                // Ends, with an error, when rank 0 is done.
                drop((until_done.recv(), kept));
            });
            let builder = Tree::builder().join_deadline(Duration::from_secs(20));
            let mut tree = builder.deadline(Duration::from_millis(500)).local(0, 2, name).expect("both come");
            let mut t = tree.alloc::<u64>(5000).expect("memory");
            t.fill(4);
            let error = tree.all_reduce(&mut t, Op::Sum).expect_err("rank 1 does not call it");
            let again = tree.barrier().expect_err("the tree is over");
            if leaves {
                let left = Contents::AsBefore;
                assert!(matches!(error, Error::PeerLeft { rank: 1, contents, .. } if contents == left));
                assert!(matches!(again, Error::PeerLeft { rank: 1, .. }), "{again}");
                assert!(!t.is_poisoned() && t.iter().all(|v| *v == 4));
            } else {
                let left = Contents::Unspecified;
                assert!(matches!(error, Error::TimedOut { contents, .. } if contents == left), "{error}");
                assert!(matches!(again, Error::TimedOut { .. }), "{again}");
                assert!(t.is_poisoned());
                assert!(catch_unwind(AssertUnwindSafe(|| t[0])).is_err());
                assert!(tree.alloc::<u64>(10).is_err(), "the tree is over");
            }
            drop(done);
        });
    }
}

/// A refusal between a drop and the next allocation must not leave the ranks with different views of the arena.
#[test]
fn memory_is_used_again_after_a_refusal() {
    ranks(2, "refusal", |mut tree| {
        for _ in 0..10 {
            drop(tree.alloc::<u64>(50_000).expect("memory"));
            tree.barrier().expect("both have dropped theirs");
            assert!(tree.alloc::<u64>(1 << 45).is_err(), "nobody has that much memory");
            let mut t = tree.alloc::<u64>(70_000).expect("memory");
            t.fill(1);
            assert_eq!(tree.all_reduce(&mut t, Op::Sum).expect("all agree"), 2);
            assert!(t.iter().all(|v| *v == 2));
        }
    });
}

#[test]
fn a_tree_of_one_needs_nobody() {
    fn can_be_moved_to_another_thread<T: Send>(_: &T) {}
    let mut tree = Tree::local(0, 1, &name("one")).expect("alone");
    let mut t = [3.0f32, 5.0];
    can_be_moved_to_another_thread(&tree);
    assert_eq!(tree.all_reduce(&mut t, Op::Avg).expect("alone"), 1);
    assert_eq!(tree.all_reduce_with(&mut t, |_, _| unreachable!("nobody to fold with")).expect("alone"), 1);
    tree.broadcast(&mut t, 0).expect("alone");
    tree.barrier().expect("alone");
    assert_eq!((t, tree.size(), tree.link()), ([3.0, 5.0], 1, "shared memory"));
}
