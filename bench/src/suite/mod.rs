//! The suites: which rows, and who takes part.

mod collective;
mod floor;

use std::error::Error;

use crate::args::Args;
use crate::contender::Contender;
use crate::report::{self, Row};
use crate::stats::summary;

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
    if !said.is_empty() {
        print!("\nfirst landing, ours over the best peer of this run:\n{said}");
    }
    if let Some(path) = &args.json {
        report::append(path, &rows)?;
    }
    Ok(held || !args.assert)
}

/// Measures one row of all contenders, turn by turn in turn. A contender that fails is dropped, with a row that says
/// why. Checksums of all must agree.
fn row(
    effort: &Effort,
    contenders: &mut Vec<Contender>,
    name: &str,
    bench: &str,
    bytes: usize,
    ranks: usize,
    rows: &mut Vec<Row>,
) -> Result<(), Box<dyn Error>> {
    let mut measured: Vec<(u64, Vec<f64>, u64)> = Vec::new();
    let failed = |c: &Contender, e: Box<dyn Error>| Row {
        bench: name.to_owned(),
        peer: c.name.clone(),
        size: bytes,
        ranks,
        unit: "error",
        median: 0.0,
        p99: 0.0,
        n: 0,
        note: Some(e.to_string()),
    };
    let mut i = 0;
    while i < contenders.len() {
        // How many operations fill a turn.
        let guess = contenders[i].turn(bench, bytes, 3).and_then(|t| {
            let more = (effort.turn / 20.0 / t.nanos.max(20.0)) as u64;
            contenders[i].turn(bench, bytes, more.clamp(2, 100_000))
        });
        match guess {
            Ok(t) => {
                let iterations = (effort.turn / t.nanos.max(20.0)) as u64;
                measured.push((iterations.clamp(3, 1_000_000), Vec::new(), t.checksum));
                i += 1;
            }
            Err(e) => {
                rows.push(failed(&contenders[i], e));
                drop(contenders.remove(i));
            }
        }
    }
    for _ in 0..effort.turns {
        for (c, (iterations, times, _)) in contenders.iter_mut().zip(&mut measured) {
            times.push(c.turn(bench, bytes, *iterations)?.nanos);
        }
    }
    for (c, (_, times, checksum)) in contenders.iter().zip(&measured) {
        if *checksum != measured[0].2 {
            return Err(
                format!("{name}, {bytes} bytes: {} and {} disagree", c.name, contenders[0].name).into()
            );
        }
        let (median, p99) = summary(times);
        let (name, peer) = (name.to_owned(), c.name.clone());
        rows.push(Row {
            bench: name,
            peer,
            size: bytes,
            ranks,
            unit: "ns",
            median,
            p99,
            n: times.len(),
            note: None,
        });
    }
    Ok(())
}
