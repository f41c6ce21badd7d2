//! The suites: which rows, and who takes part.

mod collective;
mod floor;

use std::error::Error;

use crate::args::Args;
use crate::contender::Contender;
use crate::report::{self, Row};
use crate::work;

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
            "collective" => collective::run(&effort, args.peers, &mut rows)?,
            "oversubscribed" => collective::oversubscribed(&effort, args.peers, &mut rows)?,
            other => return Err(format!("there is no suite {other:?}; see --help").into()),
        }
    }
    print!("{}", report::table(&rows));
    let (said, held) = report::first_landing(&rows);
    if !said.is_empty() && (args.peers || args.assert) {
        print!("\nfirst landing, ours over Open MPI's best setting of this run:\n{said}");
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
}

/// One contender's part in a row.
struct Part {
    contender: usize,
    what: What,
    iterations: u64,
    times: Vec<f64>,
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
        let theirs = whats.iter().filter(|what| c.own || what.peers);
        parts.extend(theirs.map(|&what| Part { contender, what, iterations: 0, times: Vec::new() }));
    }
    let expected: Vec<u64> = parts.iter().map(|p| work::expected(p.what.order, bytes, ranks)).collect();
    let mut ways = Vec::new();
    // The first round finds out how many operations fill a turn.
    for round in 0..=effort.turns {
        for (part, expected) in parts.iter_mut().zip(&expected) {
            let c = &mut contenders[part.contender];
            if failed[part.contender].is_some() {
                continue;
            }
            let done = if round == 0 { part.calibrate(effort, c, bytes) } else { part.turn(c, bytes) };
            match done {
                Ok(sums) if sums.iter().all(|s| s == expected) => {}
                Ok(_) => failed[part.contender] = Some(format!("a wrong result at {bytes} bytes")),
                Err(e) => failed[part.contender] = Some(e.to_string()),
            }
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
            None => Row::measured(name, peer, bytes, ranks, "ns", &part.times, &ways),
        });
    }
    let mut failed = failed.iter();
    contenders.retain(|_| failed.next().is_some_and(Option::is_none));
    Ok(())
}

impl Part {
    /// Finds out how many operations fill a turn.
    fn calibrate(
        &mut self,
        effort: &Effort,
        c: &mut Contender,
        bytes: usize,
    ) -> Result<Vec<u64>, Box<dyn Error>> {
        let few = c.turn(self.what.order, bytes, 3)?;
        let more = (effort.turn / 20.0 / few.nanos.max(20.0)) as u64;
        let turn = c.turn(self.what.order, bytes, more.clamp(2, 100_000))?;
        self.iterations = ((effort.turn / turn.nanos.max(20.0)) as u64).clamp(3, 1_000_000);
        Ok(turn.checksums)
    }

    fn turn(&mut self, c: &mut Contender, bytes: usize) -> Result<Vec<u64>, Box<dyn Error>> {
        let turn = c.turn(self.what.order, bytes, self.iterations)?;
        self.times.push(turn.nanos);
        Ok(turn.checksums)
    }
}

/// How long one cache line takes now from CPU to CPU, if the floor takes part: a virtual machine's CPUs move about, and
/// figures from before and after such a move have nothing to do with each other.
fn one_way(contenders: &mut [Contender]) -> Result<Option<f64>, Box<dyn Error>> {
    let floor = contenders.iter_mut().find(|c| c.name == "floor");
    floor.map(|c| Ok(c.turn("pingpong", 0, 2000)?.nanos / 2.0)).transpose()
}
