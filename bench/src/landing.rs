//! What the first landing asks for, and whether a run holds it.

use std::fmt::Write as _;

use crate::report::{Row, best, group, of, of_peers};

/// What our figure must keep to.
#[derive(Clone, Copy)]
enum Limit {
    /// At most so much of the best time of the peers whose names start so.
    OfPeer(&'static str, f64),
    /// At least so much of their best rate.
    OfPeersRate(&'static str, f64),
    /// At most so much of the floor's time.
    OfFloor(f64),
    /// At most so many nanoseconds.
    Nanos(f64),
}

/// Bench, bytes, ranks.
const FIRST_LANDING: &[(&str, usize, usize, Limit)] = &[
    ("ring.pingpong", 8, 2, Limit::OfFloor(1.15)),
    ("ring.spsc", 8, 2, Limit::OfPeersRate("rtrb", 0.9)),
    ("shm.pingpong", 8, 2, Limit::OfFloor(1.15)),
    ("wire.decode", 64, 1, Limit::Nanos(20.0)),
    ("coll.allreduce", 8, 2, Limit::OfPeer("openmpi", 0.6)),
    ("coll.allreduce", 16 << 10, 2, Limit::OfPeer("openmpi", 0.8)),
    ("coll.allreduce", 1 << 20, 2, Limit::OfPeer("openmpi", 0.8)),
    ("coll.allreduce", 64 << 20, 2, Limit::OfPeer("openmpi", 0.6)),
    ("coll.allreduce_resident", 64 << 20, 2, Limit::OfPeer("openmpi", 0.3)),
    ("coll.allreduce", 8, 4, Limit::OfPeer("openmpi", 0.9)),
];

impl Limit {
    /// Whether it is kept, and by which figure: none where what it is compared with is not in this run.
    fn judge(self, ours: &Row, same: &[&Row], peers: &[&Row]) -> (Option<bool>, String) {
        let ratio = |other: Option<&Row>| other.map(|o| (ours.median / o.median, o.peer.clone()));
        let lacks = |who: &str| (None, format!("no {who} in this run"));
        match self {
            Limit::OfPeer(named, most) => ratio(best(peers, named)).map_or_else(
                || lacks(named),
                |(r, who)| (Some(r <= most), format!("{r:.2} of {who} (at most {most})")),
            ),
            Limit::OfPeersRate(named, least) => ratio(best(peers, named)).map_or_else(
                || lacks(named),
                |(r, who)| (Some(r >= least), format!("{r:.2} of {who} (at least {least})")),
            ),
            Limit::OfFloor(most) => ratio(of(same, "floor")).map_or_else(
                || lacks("floor"),
                |(r, who)| (Some(r <= most), format!("{r:.2} of {who} (at most {most})")),
            ),
            Limit::Nanos(most) => {
                let nanos = ours.median;
                (Some(nanos <= most), format!("{nanos:.1} ns (at most {most})"))
            }
        }
    }
}

/// A line for each of them of which our row was measured, and whether all of those hold. One that lacks what it is
/// compared with is not judged, and does not hold.
pub(crate) fn judge(rows: &[Row]) -> (String, bool) {
    let (mut out, mut all) = (String::new(), true);
    for &(bench, size, ranks, limit) in FIRST_LANDING {
        let same = group(rows, bench, size, ranks);
        let Some(ours) = of(&same, "sapwood") else { continue };
        let (kept, why) = limit.judge(ours, &same, &group(rows, of_peers(bench), size, ranks));
        let word = match kept {
            Some(true) => "holds",
            Some(false) => "missed",
            None => "not judged",
        };
        all &= kept == Some(true);
        let _ = writeln!(out, "{word}: {bench} {size} B, {ranks} ranks: {why}");
    }
    (out, all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bench: &str, peer: &str, size: usize, unit: &'static str, median: f64) -> Row {
        Row::measured(bench, peer, size, 2, unit, &[median], &[])
    }

    #[test]
    fn times_are_at_most_so_much_of_the_best_peer() {
        let mut rows = vec![
            row("coll.allreduce", "sapwood", 8, "ns", 100.0),
            row("coll.allreduce", "floor", 8, "ns", 80.0),
            row("coll.allreduce", "openmpi", 8, "ns", 400.0),
            row("coll.allreduce", "openmpi-tuned", 8, "ns", 200.0),
            row("coll.allreduce", "sapwood", 64 << 20, "ns", 7.0e6),
            row("coll.allreduce", "openmpi", 64 << 20, "ns", 1.0e7),
            row("coll.allreduce_resident", "sapwood", 64 << 20, "ns", 2.0e6),
        ];
        let (said, all) = judge(&rows);
        assert!(!all && said.contains("holds: coll.allreduce 8 B, 2 ranks: 0.50 of openmpi-tuned"), "{said}");
        assert!(said.contains("missed: coll.allreduce 67108864 B"), "{said}");
        assert!(said.contains("holds: coll.allreduce_resident 67108864 B, 2 ranks: 0.20"), "{said}");
        rows.truncate(4);
        assert!(judge(&rows).1);
        rows.truncate(2);
        let (said, all) = judge(&rows);
        assert!(!all && said.contains("not judged: coll.allreduce 8 B"), "{said}");
    }

    #[test]
    fn rates_are_at_least_so_much_of_it() {
        let rates = |ours: f64| {
            vec![
                row("ring.spsc", "sapwood", 8, "1/s", ours),
                row("ring.spsc", "rtrb-0.4", 8, "1/s", 2.0e8),
                row("ring.spsc", "ringbuf-0.6", 8, "1/s", 4.0e8),
            ]
        };
        let (said, all) = judge(&rates(1.9e8));
        assert!(
            all && said.contains("holds: ring.spsc 8 B, 2 ranks: 0.95 of rtrb-0.4 (at least 0.9)"),
            "{said}"
        );
        assert!(!judge(&rates(1.7e8)).1);
    }

    #[test]
    fn the_floor_and_the_clock_are_limits_too() {
        let near = |ours: f64| {
            vec![row("shm.pingpong", "sapwood", 8, "ns", ours), row("shm.pingpong", "floor", 8, "ns", 100.0)]
        };
        assert!(judge(&near(114.0)).1 && !judge(&near(116.0)).1);
        assert!(!judge(&near(1.0)[..1]).1, "no floor");
        let decode = |nanos: f64| [Row::measured("wire.decode", "sapwood", 64, 1, "ns", &[nanos], &[])];
        assert!(judge(&decode(19.5)).1 && !judge(&decode(20.5)).1);
    }
}
