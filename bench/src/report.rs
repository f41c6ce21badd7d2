//! What comes out: JSON lines, and a table of ours, the floor, and the best peer.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

/// One measurement, or why there is none.
pub(crate) struct Row {
    pub(crate) bench: String,
    pub(crate) peer: String,
    pub(crate) size: usize,
    pub(crate) ranks: usize,
    pub(crate) unit: &'static str,
    pub(crate) median: f64,
    pub(crate) p99: f64,
    pub(crate) n: usize,
    pub(crate) note: Option<String>,
}

impl Row {
    /// The line of a JSON file.
    fn json(&self) -> String {
        let text = |s: &str| s.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " ");
        let note = self.note.as_ref().map_or_else(String::new, |n| format!(",\"note\":\"{}\"", text(n)));
        let who = format!("\"bench\":\"{}\",\"peer\":\"{}\"", self.bench, text(&self.peer));
        let what = format!("\"size\":{},\"ranks\":{},\"unit\":\"{}\"", self.size, self.ranks, self.unit);
        let figures = format!("\"median\":{:.1},\"p99\":{:.1},\"n\":{}", self.median, self.p99, self.n);
        format!("{{{who},{what},{figures}{note}}}")
    }

    fn ok(&self) -> bool {
        self.unit != "error"
    }
}

/// Appends all rows to a file.
pub(crate) fn append(path: &Path, rows: &[Row]) -> Result<(), Box<dyn Error>> {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    rows.iter().try_for_each(|r| writeln!(file, "{}", r.json()))?;
    Ok(())
}

fn human(unit: &str, v: f64) -> String {
    match unit {
        "ns" if v >= 1e6 => format!("{:.2} ms", v / 1e6),
        "ns" if v >= 1e3 => format!("{:.2} µs", v / 1e3),
        "ns" => format!("{v:.0} ns"),
        "B/s" => format!("{:.1} GB/s", v / 1e9),
        _ => format!("{v:.0} {unit}"),
    }
}

/// The rows of one bench, size and number of ranks.
fn group<'a>(rows: &'a [Row], key: &Row) -> Vec<&'a Row> {
    let same = |r: &&Row| (&r.bench, r.size, r.ranks) == (&key.bench, key.size, key.ranks);
    rows.iter().filter(same).collect()
}

/// The least of the peers that ran.
fn best<'a>(rows: &[&'a Row]) -> Option<&'a Row> {
    let peers = rows.iter().filter(|r| r.ok() && r.peer != "floor" && !r.peer.starts_with("sapwood"));
    peers.min_by(|a, b| a.median.total_cmp(&b.median)).copied()
}

fn of<'a>(rows: &[&'a Row], peer: &str) -> Option<&'a Row> {
    rows.iter().find(|r| r.ok() && r.peer == peer).copied()
}

/// A Markdown table, one line for each bench, size and number of ranks.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut out = String::from(
        "| bench | bytes | ranks | sapwood | floor | best peer | ours / floor | ours / best peer |\n",
    );
    out += "|---|---|---|---|---|---|---|---|\n";
    let mut seen: Vec<(&str, usize, usize)> = Vec::new();
    for row in rows {
        let key = (row.bench.as_str(), row.size, row.ranks);
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        let all = group(rows, row);
        let (ours, floor, best) = (of(&all, "sapwood"), of(&all, "floor"), best(&all));
        let cell = |r: Option<&Row>| r.map_or_else(|| "–".into(), |r| human(r.unit, r.median));
        let ratio = |a: Option<&Row>, b: Option<&Row>| match (a, b) {
            (Some(a), Some(b)) => format!("{:.2}", a.median / b.median),
            _ => "–".into(),
        };
        let named = best.map_or_else(|| "–".into(), |b| format!("{} ({})", human(b.unit, b.median), b.peer));
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {named} | {} | {} |",
            row.bench,
            row.size,
            row.ranks,
            cell(ours),
            cell(floor),
            ratio(ours, floor),
            ratio(ours, best),
        );
    }
    for row in rows.iter().filter(|r| !r.ok()) {
        let why = row.note.as_deref().unwrap_or("no reason given");
        let _ = writeln!(out, "\n{} did not run {} at {} bytes: {why}", row.peer, row.bench, row.size);
    }
    out
}

/// The ratios that the first landing asks for: bench, bytes, ranks, most of the best peer's time.
const FIRST_LANDING: &[(&str, usize, usize, f64)] = &[
    ("coll.allreduce", 8, 2, 0.6),
    ("coll.allreduce", 16 << 10, 2, 0.8),
    ("coll.allreduce", 1 << 20, 2, 0.8),
    ("coll.allreduce", 64 << 20, 2, 0.6),
    ("coll.allreduce_resident", 64 << 20, 2, 0.3),
    ("coll.allreduce", 8, 4, 0.9),
];

/// A line for each of them that this run can judge, and whether all of those hold. A resident row is compared with the
/// peers' private tensors: they have no other.
pub(crate) fn first_landing(rows: &[Row]) -> (String, bool) {
    let (mut out, mut all) = (String::new(), true);
    for (bench, size, ranks, most) in FIRST_LANDING {
        let at = |bench: &str| {
            let same = |r: &&Row| r.bench == bench && r.size == *size && r.ranks == *ranks;
            rows.iter().filter(same).collect::<Vec<_>>()
        };
        let peers = at(bench.trim_end_matches("_resident"));
        if let (Some(ours), Some(best)) = (of(&at(bench), "sapwood"), best(&peers)) {
            let ratio = ours.median / best.median;
            let word = if ratio <= *most { "holds" } else { "missed" };
            all &= ratio <= *most;
            let _ = writeln!(
                out,
                "{word}: {bench} {size} B, {ranks} ranks: {ratio:.2} of {} (at most {most})",
                best.peer
            );
        }
    }
    (out, all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bench: &str, peer: &str, size: usize, median: f64) -> Row {
        let (bench, peer) = (bench.to_owned(), peer.to_owned());
        Row { bench, peer, size, ranks: 2, unit: "ns", median, p99: median, n: 5, note: None }
    }

    #[test]
    fn ratios_are_ours_over_the_best_peer() {
        let mut rows = vec![
            row("coll.allreduce", "sapwood", 8, 100.0),
            row("coll.allreduce", "floor", 8, 80.0),
            row("coll.allreduce", "openmpi", 8, 400.0),
            row("coll.allreduce", "openmpi-tuned", 8, 200.0),
            row("coll.allreduce", "sapwood", 64 << 20, 7.0e6),
            row("coll.allreduce", "openmpi", 64 << 20, 1.0e7),
            row("coll.allreduce_resident", "sapwood", 64 << 20, 2.0e6),
        ];
        let table = table(&rows);
        assert!(
            table.contains(
                "| coll.allreduce | 8 | 2 | 100 ns | 80 ns | 200 ns (openmpi-tuned) | 1.25 | 0.50 |"
            ),
            "{table}"
        );
        let (said, all) = first_landing(&rows);
        assert!(
            !all && said.contains("holds: coll.allreduce 8 B")
                && said.contains("missed: coll.allreduce 67108864 B")
        );
        assert!(said.contains("holds: coll.allreduce_resident 67108864 B, 2 ranks: 0.20"), "{said}");
        rows.truncate(4);
        assert!(first_landing(&rows).1);
    }

    #[test]
    fn a_line_of_json_survives_quotes() {
        let mut row = row("b", "p", 1, 2.0);
        (row.unit, row.note) = ("error", Some("say \"no\"\nnow".into()));
        assert!(row.json().ends_with(r#","note":"say \"no\" now"}"#), "{}", row.json());
    }
}
