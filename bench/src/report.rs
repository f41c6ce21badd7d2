//! What comes out: JSON lines, and a table of ours, the floor, and the best peer.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use crate::stats::summary;

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
    /// Least and most that one cache line's way from CPU to CPU took meanwhile, in ns.
    pub(crate) way: Option<(f64, f64)>,
}

impl Row {
    /// From the times or rates of all turns; `p99` is what 99 of 100 turns do at least as well as. `ways`: what one
    /// cache line's way took meanwhile, in ns.
    pub(crate) fn measured(
        bench: &str,
        peer: &str,
        size: usize,
        ranks: usize,
        unit: &'static str,
        values: &[f64],
        ways: &[f64],
    ) -> Row {
        let (median, p99) = if higher_is_better(unit) {
            let (median, p99) = summary(&values.iter().map(|v| -v).collect::<Vec<_>>());
            (-median, -p99)
        } else {
            summary(values)
        };
        let (bench, peer) = (bench.to_owned(), peer.to_owned());
        let way = ways.iter().fold(None, |way: Option<(f64, f64)>, &w| {
            Some(way.map_or((w, w), |(least, most)| (least.min(w), most.max(w))))
        });
        let note = way.map(|(least, most)| format!("one way {least:.0} to {most:.0} ns"));
        Row { bench, peer, size, ranks, unit, median, p99, n: values.len(), note, way }
    }

    /// Of something that could not be measured.
    pub(crate) fn error(bench: &str, peer: &str, size: usize, ranks: usize, why: String) -> Row {
        let (bench, peer) = (bench.to_owned(), peer.to_owned());
        Row {
            bench,
            peer,
            size,
            ranks,
            unit: "error",
            median: 0.0,
            p99: 0.0,
            n: 0,
            note: Some(why),
            way: None,
        }
    }

    /// The line of a JSON file.
    fn json(&self) -> String {
        let text = |s: &str| s.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " ");
        let note = self.note.as_ref().map_or_else(String::new, |n| format!(",\"note\":\"{}\"", text(n)));
        let who = format!("\"bench\":\"{}\",\"peer\":\"{}\"", self.bench, text(&self.peer));
        let what = format!("\"size\":{},\"ranks\":{},\"unit\":\"{}\"", self.size, self.ranks, self.unit);
        // A share of a CPU is far below one.
        let digits = if self.unit == "s/s" { 7 } else { 1 };
        let (median, p99) = (self.median, self.p99);
        let figures = format!("\"median\":{median:.digits$},\"p99\":{p99:.digits$},\"n\":{}", self.n);
        format!("{{{who},{what},{figures}{note}}}")
    }

    pub(crate) fn ok(&self) -> bool {
        self.unit != "error"
    }
}

/// Whether the greater figure of such a unit is the better one.
pub(crate) fn higher_is_better(unit: &str) -> bool {
    matches!(unit, "1/s" | "B/s")
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
        "ns" if v < 10.0 => format!("{v:.1} ns"),
        "ns" => format!("{v:.0} ns"),
        "B/s" => format!("{:.1} GB/s", v / 1e9),
        "1/s" if v >= 1e6 => format!("{:.1} M/s", v / 1e6),
        "1/s" => format!("{:.0} k/s", v / 1e3),
        "s/s" => format!("{v:.5} s/s"),
        _ => format!("{v:.0} {unit}"),
    }
}

/// The rows of one bench, size and number of ranks.
pub(crate) fn group<'a>(rows: &'a [Row], bench: &str, size: usize, ranks: usize) -> Vec<&'a Row> {
    let same = |r: &&Row| (r.bench.as_str(), r.size, r.ranks) == (bench, size, ranks);
    rows.iter().filter(same).collect()
}

/// What peers do instead of a bench: they have no resident tensors, so private ones.
pub(crate) fn of_peers(bench: &str) -> &str {
    bench.trim_end_matches("_resident")
}

/// A row during which a cache line's way changed by more is not to be believed: the CPUs moved, or were not ours.
const UNSTEADY: f64 = 1.5;

/// The best of the peers that ran and whose names start so.
pub(crate) fn best<'a>(rows: &[&'a Row], named: &str) -> Option<&'a Row> {
    let peer = |r: &&&Row| r.peer != "floor" && !r.peer.starts_with("sapwood") && r.peer.starts_with(named);
    let peers = rows.iter().filter(|r| r.ok()).filter(peer);
    peers
        .min_by(|a, b| match higher_is_better(a.unit) {
            true => b.median.total_cmp(&a.median),
            false => a.median.total_cmp(&b.median),
        })
        .copied()
}

pub(crate) fn of<'a>(rows: &[&'a Row], peer: &str) -> Option<&'a Row> {
    rows.iter().find(|r| r.ok() && r.peer == peer).copied()
}

/// A Markdown table, one line for each bench, size and number of ranks.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut out = String::from(
        "| bench | bytes | ranks | sapwood | floor | best peer | ours / floor | ours / best peer |\n",
    );
    out += "|---|---|---|---|---|---|---|---|\n";
    let mut seen: Vec<(&str, usize, usize)> = Vec::new();
    for row in rows.iter().filter(|r| r.ok()) {
        let key = (row.bench.as_str(), row.size, row.ranks);
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        let all = group(rows, &row.bench, row.size, row.ranks);
        let peers = group(rows, of_peers(&row.bench), row.size, row.ranks);
        let (ours, floor, best) = (of(&all, "sapwood"), of(&all, "floor"), best(&peers, ""));
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
    for row in rows.iter().filter(|r| r.peer == "sapwood") {
        if let Some((least, most)) = row.way.filter(|(least, most)| *most > UNSTEADY * least) {
            let what = format!("{} at {} bytes", row.bench, row.size);
            let _ = writeln!(out, "\nunsteady: {what}, one line's way took {least:.0} to {most:.0} ns");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bench: &str, peer: &str, size: usize, median: f64) -> Row {
        Row::measured(bench, peer, size, 2, "ns", &[median], &[])
    }

    #[test]
    fn ratios_are_ours_over_the_best_peer() {
        let rows = vec![
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
    }

    #[test]
    fn of_rates_the_best_is_the_greatest_and_the_tail_the_least() {
        let rate = |peer: &str, values: &[f64]| Row::measured("ring.spsc", peer, 8, 2, "1/s", values, &[]);
        let rows = [
            rate("sapwood", &[2.0e8, 3.0e8, 1.0e8]),
            rate("rtrb-0.4", &[1.0e8]),
            rate("ringbuf-0.6", &[1.6e8]),
            rate("pipe", &[4.0e5]),
        ];
        assert_eq!((rows[0].median, rows[0].p99), (2.0e8, 1.0e8));
        let table = table(&rows);
        assert!(
            table.contains("| ring.spsc | 8 | 2 | 200.0 M/s | – | 160.0 M/s (ringbuf-0.6) | – | 1.25 |"),
            "{table}"
        );
        assert_eq!(human("1/s", 4.0e5), "400 k/s");
    }

    #[test]
    fn resident_rows_have_the_peers_private_ones_beside_them() {
        let rows = [
            row("coll.allreduce_resident", "sapwood", 8, 100.0),
            row("coll.allreduce", "mpich-4", 8, 200.0),
            Row::error("coll.allreduce", "openmpi-4", 0, 2, "not here".into()),
        ];
        let table = table(&rows);
        assert!(
            table.contains("| coll.allreduce_resident | 8 | 2 | 100 ns | – | 200 ns (mpich-4) | – | 0.50 |")
        );
        assert!(!table.contains("| coll.allreduce | 0 |") && table.contains("not here"), "{table}");
    }

    #[test]
    fn a_row_during_which_the_cpus_moved_is_named() {
        let rows = [Row::measured("b", "sapwood", 8, 2, "ns", &[1.0], &[40.0, 180.0, 50.0])];
        assert!(table(&rows).contains("unsteady: b at 8 bytes, one line's way took 40 to 180 ns"));
        let rows = [Row::measured("b", "sapwood", 8, 2, "ns", &[1.0], &[40.0, 50.0])];
        assert!(!table(&rows).contains("unsteady"));
        assert!(rows[0].json().ends_with(r#""n":1,"note":"one way 40 to 50 ns"}"#), "{}", rows[0].json());
    }

    #[test]
    fn a_small_share_of_a_cpu_is_not_none() {
        let idle = Row::measured("chan.idle", "sapwood", 8, 2, "s/s", &[0.00025], &[]);
        assert!(idle.json().contains(r#""median":0.0002500,"#), "{}", idle.json());
        assert!(table(&[idle]).contains("| 0.00025 s/s |"));
    }

    #[test]
    fn a_line_of_json_survives_quotes() {
        let mut row = row("b", "p", 1, 2.0);
        (row.unit, row.note) = ("error", Some("say \"no\"\nnow".into()));
        assert!(row.json().ends_with(r#","note":"say \"no\" now"}"#), "{}", row.json());
    }
}
