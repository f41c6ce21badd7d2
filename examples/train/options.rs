//! The command line.

use lexopt::prelude::*;

pub(crate) const HELP: &str = "\
Processes of this host train a small network together; their gradients meet in shared memory.

Usage: cargo run --release --example train -- [options]

  --ranks N    processes to start (default 4); a launcher that set SAPWOOD_RANK has started them already
  --epochs N   passes over the training rows (default 30)
  --batch N    rows per step, over all ranks together (default 64)
  --help       this text";

/// What to do; the same on every rank, since each parses the same command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) ranks: usize,
    pub(crate) epochs: usize,
    /// Rows of one global batch.
    pub(crate) batch: usize,
}

impl Options {
    /// `None`: the user asked for help.
    ///
    /// # Errors
    /// Says which argument is unknown or out of range.
    pub(crate) fn parse() -> Result<Option<Options>, lexopt::Error> {
        let mut options = Options { ranks: 4, epochs: 30, batch: 64 };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("ranks") => options.ranks = positive("--ranks", &mut arguments)?,
                Long("epochs") => options.epochs = positive("--epochs", &mut arguments)?,
                Long("batch") => options.batch = positive("--batch", &mut arguments)?,
                Long("help") | Short('h') => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Some(options))
    }
}

fn positive(name: &str, arguments: &mut lexopt::Parser) -> Result<usize, lexopt::Error> {
    match arguments.value()?.parse()? {
        0 => Err(format!("{name} must be at least 1").into()),
        number => Ok(number),
    }
}
