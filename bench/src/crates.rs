//! The Rust crates, and the sockets and pipes of the system, that take part. `bench/peers` has their calls.

use std::path::Path;
use std::process::Command;

use crate::contender::{Contender, Ranks};
use crate::peers::{DRIVERS, Missing};

/// What the peers' own program says of one of them.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    kind: String,
    ranks: Ranks,
    orders: Vec<String>,
}

impl Entry {
    /// `NAME KIND threads|processes ORDER,ORDER...`
    fn parse(line: &str) -> Option<Entry> {
        let mut fields = line.split(' ').map(str::to_owned);
        let (name, kind) = (fields.next()?, fields.next()?);
        let ranks = match fields.next()?.as_str() {
            "threads" => Ranks::Threads,
            "processes" => Ranks::Processes,
            _ => return None,
        };
        let orders = fields.next()?.split(',').map(str::to_owned).collect();
        Some(Entry { name, kind, ranks, orders })
    }
}

/// Starts every peer whose ranks are such and that knows one of these orders. `suffix` ends their names.
pub(crate) fn start(
    what: Ranks,
    ranks: usize,
    orders: &[&str],
    suffix: &str,
) -> (Vec<Contender>, Vec<Missing>) {
    let program = Path::new(DRIVERS).join("sapwood-peers");
    let (mut running, mut missing) = (Vec::new(), left_out());
    let listed = match Command::new(&program).arg("--list").output() {
        Ok(said) if said.status.success() => String::from_utf8_lossy(&said.stdout).into_owned(),
        _ => {
            let reason = format!("{} is missing: run bench/peers.sh", program.display());
            missing.push(Missing { name: "sapwood-peers".to_owned(), reason });
            String::new()
        }
    };
    let entries = listed.lines().filter_map(Entry::parse).filter(|e| e.ranks == what);
    for entry in entries.filter(|e| e.orders.iter().any(|o| orders.contains(&o.as_str()))) {
        let name = format!("{}{suffix}", entry.name);
        let started = Contender::started(&name, false, ranks, what, |rank, _| {
            let mut command = Command::new(&program);
            command.args([&entry.kind, &rank.to_string(), &ranks.to_string()]);
            command
        });
        match started {
            Ok(contender) => running.push(contender.knowing(&entry.orders)),
            Err(e) => missing.push(Missing { name, reason: e.to_string() }),
        }
    }
    (running, missing)
}

/// Those that bench/peers.sh could not build: a line each, `NAME REASON`.
fn left_out() -> Vec<Missing> {
    let said = std::fs::read_to_string(Path::new(DRIVERS).join("left-out")).unwrap_or_default();
    let lines = said.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(name, reason)| Missing { name: name.to_owned(), reason: reason.to_owned() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_list_is_an_entry() {
        let entry = Entry::parse("rtrb-0.4 rtrb threads pingpong,spsc").expect("an entry");
        assert_eq!((entry.name.as_str(), entry.kind.as_str()), ("rtrb-0.4", "rtrb"));
        assert_eq!((entry.ranks, entry.orders), (Ranks::Threads, vec!["pingpong".into(), "spsc".into()]));
        assert_eq!(Entry::parse("rtrb-0.4 rtrb fibres spsc"), None);
        assert_eq!(Entry::parse("rtrb-0.4 rtrb"), None);
    }
}
