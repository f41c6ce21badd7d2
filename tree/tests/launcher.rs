//! A launcher's variables make a tree, and wrong ones are named. Each rank is this very test again, started with
//! variables as a launcher would.
#![allow(missing_docs)]

use std::process::{Child, Command};

use sapwood_tree::{Error, Op, Tree};

const TEST: &str = "a_launchers_variables_make_a_tree";

fn launch(rank: &str, size: &str, rendezvous: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args([TEST, "--exact", "--nocapture"]);
    command.env("SAPWOOD_RANK", rank).env("SAPWOOD_SIZE", size).env("SAPWOOD_LOCAL_RANK", rank);
    command.env("SAPWOOD_RENDEZVOUS", rendezvous);
    command.spawn().expect("it starts")
}

#[test]
fn a_launchers_variables_make_a_tree() {
    match Tree::from_env() {
        // As a rank.
        Ok(Some(mut tree)) => {
            let mut t = vec![tree.rank() as f32; 2000];
            assert_eq!(tree.all_reduce(&mut t, Op::Avg).expect("all agree"), 3);
            assert_eq!(t, [1.0; 2000]);
        }
        // As a rank that the launcher got wrong: the exit code says so.
        Err(Error::Environment(e)) => {
            println!("{e}");
            std::process::exit(42);
        }
        Err(e) => panic!("{e}"),
        // As the launcher.
        Ok(None) => {
            let meeting = format!("name:launcher-{}", std::process::id());
            let ranks: Vec<Child> = ["0", "1", "2"].map(|r| launch(r, "3", &meeting)).into();
            for mut rank in ranks {
                assert!(rank.wait().expect("it ends").success());
            }
            for (rank, size, rendezvous) in [
                ("3", "3", meeting.as_str()),
                ("x", "3", &meeting),
                ("0", "", &meeting),
                ("0", "1", "nowhere"),
            ] {
                let code = launch(rank, size, rendezvous).wait().expect("it ends").code();
                assert_eq!(code, Some(42), "{rank} {size} {rendezvous}");
            }
        }
    }
}
