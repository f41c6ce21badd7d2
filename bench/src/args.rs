//! The command line.

use std::error::Error;
use std::path::PathBuf;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
Measures Sapwood, the floor below it and its peers, side by side in one run.

    sapwood-bench --suite NAME[,NAME] [--peers] [--quick] [--json FILE] [--assert]

    --suite   floor, ring, shm, channel, wire, collective, oversubscribed (default: floor,collective)
    --peers   also the peers that bench/peers.sh has installed
    --quick   fewer and shorter turns: a smoke test, not a measurement
    --json    appends one line a measurement to FILE
    --assert  exit code 1 if a ratio of the first landing is missed";

/// What to do.
pub(crate) enum Mode {
    Help,
    Bench,
    /// One rank of a contender; started by the bench itself.
    Contender {
        kind: String,
        rank: usize,
        ranks: usize,
        directory: PathBuf,
    },
}

/// The options.
pub(crate) struct Args {
    pub(crate) mode: Mode,
    pub(crate) suites: Vec<String>,
    pub(crate) peers: bool,
    pub(crate) quick: bool,
    pub(crate) json: Option<PathBuf>,
    pub(crate) assert: bool,
}

impl Args {
    pub(crate) fn parse() -> Result<Args, Box<dyn Error>> {
        use lexopt::prelude::*;
        let mut args = Args {
            mode: Mode::Bench,
            suites: vec!["floor".into(), "collective".into()],
            peers: false,
            quick: false,
            json: None,
            assert: false,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Long("suite") => {
                    args.suites = parser.value()?.string()?.split(',').map(str::to_owned).collect();
                }
                Long("peers") => args.peers = true,
                Long("quick") => args.quick = true,
                Long("assert") => args.assert = true,
                Long("json") => args.json = Some(parser.value()?.into()),
                Long("help") | Short('h') => args.mode = Mode::Help,
                Long("contender") => {
                    let mut values = parser.values()?;
                    let mut next = || values.next().ok_or("--contender takes KIND RANK RANKS DIRECTORY");
                    let (kind, rank) = (next()?.string()?, next()?.parse()?);
                    let (ranks, directory) = (next()?.parse()?, next()?.into());
                    args.mode = Mode::Contender { kind, rank, ranks, directory };
                }
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(args)
    }
}
