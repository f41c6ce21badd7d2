//! The suites: which rows, and who takes part.

mod channel;
mod collective;
mod floor;
mod ring;
mod shm;
mod wire;

use std::error::Error;

use crate::args::Args;
use crate::contender::{Contender, Ranks};
use crate::report::{self, Row};
use crate::{crates, landing};

/// How long and how often.
pub(crate) struct Effort {
    /// Nanoseconds of a turn.
    turn: f64,
    turns: usize,
}

impl Effort {
    fn new(quick: bool) -> Self {
        if quick { Effort { turn: 5.0e6, turns: 3 } } else { Effort { turn: 40.0e6, turns: 7 } }
    }
}

/// Runs what was asked for; false if `--assert` was given and a ratio was missed.
pub(crate) fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    let (effort, mut rows) = (Effort::new(args.quick), Vec::new());
    for suite in &args.suites {
        match suite.as_str() {
            "floor" => floor::run(&effort, &mut rows)?,
            "ring" => ring::run(&effort, args.peers, &mut rows)?,
            "shm" => shm::run(&effort, args.peers, &mut rows)?,
            "channel" => channel::run(&effort, args.peers, &mut rows)?,
            "wire" => wire::run(&effort, &mut rows)?,
            "collective" => collective::run(&effort, args.peers, &mut rows)?,
            "oversubscribed" => collective::oversubscribed(&effort, args.peers, &mut rows)?,
            other => return Err(format!("there is no suite {other:?}; see --help").into()),
        }
    }
    print!("{}", report::table(&rows));
    let (said, held) = landing::judge(&rows);
    if !said.is_empty() && (args.peers || args.assert) {
        print!("\nfirst landing:\n{said}");
    }
    if let Some(path) = &args.json {
        report::append(path, &rows)?;
    }
    Ok(held || !args.assert)
}

/// An operation, as a row and as an order.
#[derive(Clone, Copy)]
struct What {
    name: &'static str,
    order: &'static str,
    /// Whether peers have it too.
    peers: bool,
    figure: Figure,
    /// What the ranks must sum up to, from bytes, ranks and iterations.
    sums: fn(usize, usize, u64) -> Sums,
}

/// What becomes of the nanoseconds an operation.
#[derive(Clone, Copy)]
enum Figure {
    /// Nanoseconds.
    Time,
    /// Half of them: of an operation that goes there and back.
    OneWay,
    /// Operations a second.
    Rate,
    /// Bytes a second.
    Bandwidth,
}

impl Figure {
    fn of(self, nanos: f64, bytes: usize) -> f64 {
        match self {
            Figure::Time => nanos,
            Figure::OneWay => nanos / 2.0,
            Figure::Rate => 1e9 / nanos,
            Figure::Bandwidth => bytes as f64 * 1e9 / nanos,
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Figure::Time | Figure::OneWay => "ns",
            Figure::Rate => "1/s",
            Figure::Bandwidth => "B/s",
        }
    }
}

/// What the checksums of a turn must be.
#[derive(Clone, Copy)]
enum Sums {
    /// This one from every process.
    Each(u64),
    /// One of the two, and the same from every process.
    OneOf(u64, u64),
    /// So much in all.
    Together(u64),
}

impl Sums {
    fn hold(self, found: &[u64]) -> bool {
        match self {
            Sums::Each(sum) => found.iter().all(|f| *f == sum),
            Sums::OneOf(a, b) => Sums::Each(a).hold(found) || Sums::Each(b).hold(found),
            Sums::Together(sum) => found.iter().fold(0, |s: u64, f| s.wrapping_add(*f)) == sum,
        }
    }
}

/// Adds the peers that are crates to the contenders, and a row for each that can't take part.
fn join_crates(
    what: Ranks,
    ranks: usize,
    orders: &[&str],
    suffix: &str,
    row: &str,
    all: &mut Vec<Contender>,
    rows: &mut Vec<Row>,
) {
    let (running, missing) = crates::start(what, ranks, orders, suffix);
    all.extend(running);
    for m in missing {
        // Threads and processes of one row have the same program, which is missing once.
        if !rows.iter().any(|r| !r.ok() && (r.bench.as_str(), &r.peer) == (row, &m.name)) {
            rows.push(Row::error(row, &m.name, 0, ranks, m.reason));
        }
    }
}

/// One contender's part in a row.
struct Part {
    contender: usize,
    what: What,
    bytes: usize,
    ranks: usize,
    iterations: u64,
    sums: Sums,
    figures: Vec<f64>,
}

/// Measures rows of one length, all contenders and operations in turn, round by round. A contender that fails or
/// answers a wrong result is dropped, with a row that says why; if it is ours, the bench fails.
fn measure(
    effort: &Effort,
    contenders: &mut Vec<Contender>,
    whats: &[What],
    bytes: usize,
    ranks: usize,
    rows: &mut Vec<Row>,
) -> Result<(), Box<dyn Error>> {
    let mut failed: Vec<Option<String>> = contenders.iter().map(|_| None).collect();
    let mut parts: Vec<Part> = Vec::new();
    for (contender, c) in contenders.iter().enumerate() {
        let theirs = whats.iter().filter(|what| (c.own || what.peers) && c.knows(what.order));
        parts.extend(theirs.map(|&what| Part::new(contender, what, bytes, ranks)));
    }
    let mut ways = Vec::new();
    // The first round finds out how many operations fill a turn.
    for round in 0..=effort.turns {
        for part in &mut parts {
            let c = &mut contenders[part.contender];
            if failed[part.contender].is_some() {
                continue;
            }
            let done = if round == 0 { part.calibrate(effort, c) } else { part.turn(c) };
            failed[part.contender] = done.err().map(|why| why.to_string());
            if let (true, Some(why)) = (c.own, &failed[part.contender]) {
                return Err(format!("{}, {}: {why}", c.name, part.what.name).into());
            }
        }
        ways.extend(one_way(contenders)?);
    }
    for part in &parts {
        let (name, peer) = (part.what.name, &contenders[part.contender].name);
        rows.push(match &failed[part.contender] {
            Some(why) => Row::error(name, peer, bytes, ranks, why.clone()),
            None => Row::measured(name, peer, bytes, ranks, part.what.figure.unit(), &part.figures, &ways),
        });
    }
    let mut failed = failed.iter();
    contenders.retain(|_| failed.next().is_some_and(Option::is_none));
    Ok(())
}

impl Part {
    fn new(contender: usize, what: What, bytes: usize, ranks: usize) -> Part {
        Part { contender, what, bytes, ranks, iterations: 0, sums: Sums::Each(0), figures: Vec::new() }
    }

    /// So many operations; how many nanoseconds each took.
    fn operate(&mut self, c: &mut Contender, iterations: u64) -> Result<f64, Box<dyn Error>> {
        if self.iterations != iterations {
            self.iterations = iterations;
            self.sums = (self.what.sums)(self.bytes, self.ranks, iterations);
        }
        let turn = c.turn(self.what.order, self.bytes, iterations)?;
        if self.sums.hold(&turn.checksums) {
            // Where nobody paces anybody, one may be done before another begins.
            let together = matches!(self.sums, Sums::Together(_));
            Ok(if together { turn.span / iterations as f64 } else { turn.nanos }.max(0.1))
        } else {
            Err(format!("a wrong result at {} bytes", self.bytes).into())
        }
    }

    /// Finds out how many operations fill a turn: more and more of them, until their time is worth something.
    fn calibrate(&mut self, effort: &Effort, c: &mut Contender) -> Result<(), Box<dyn Error>> {
        let mut nanos = self.operate(c, 3)?;
        for _ in 0..4 {
            let took = nanos * self.iterations as f64;
            let more = (effort.turn / 10.0 / took).clamp(1.0, 50.0);
            nanos = self.operate(c, (self.iterations as f64 * more).ceil() as u64)?;
            if took > effort.turn / 20.0 {
                break;
            }
        }
        // What disturbed these must not make every turn a short one, of which the threads' start is the better part.
        for _ in 0..4 {
            let iterations = ((effort.turn / nanos) as u64).clamp(3, 50_000_000);
            nanos = self.operate(c, iterations)?;
            if nanos * iterations as f64 > effort.turn / 2.0 {
                break;
            }
        }
        Ok(())
    }

    fn turn(&mut self, c: &mut Contender) -> Result<(), Box<dyn Error>> {
        let nanos = self.operate(c, self.iterations)?;
        self.figures.push(self.what.figure.of(nanos, self.bytes));
        Ok(())
    }
}

/// How long one cache line takes now from CPU to CPU, if the floor takes part: a virtual machine's CPUs move about, and
/// figures from before and after such a move have nothing to do with each other.
fn one_way(contenders: &mut [Contender]) -> Result<Option<f64>, Box<dyn Error>> {
    let floor = contenders.iter_mut().find(|c| c.name == "floor");
    floor.map(|c| Ok(c.turn("pingpong", 0, 2000)?.nanos / 2.0)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_in_their_units() {
        assert_eq!(Figure::OneWay.of(300.0, 8), 150.0);
        assert_eq!(Figure::Rate.of(10.0, 8), 1e8);
        assert_eq!(Figure::Bandwidth.of(1e3, 2000), 2e9);
    }

    #[test]
    fn sums_are_of_each_or_of_all() {
        assert!(Sums::Each(5).hold(&[5, 5]) && !Sums::Each(5).hold(&[5, 0]));
        assert!(Sums::OneOf(4, 5).hold(&[5, 5]) && !Sums::OneOf(4, 5).hold(&[4, 5]));
        assert!(Sums::Together(5).hold(&[0, 2, 3]) && !Sums::Together(5).hold(&[5, 5]));
    }
}
