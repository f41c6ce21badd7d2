//! The command line.

use lexopt::prelude::*;

pub(crate) const HELP: &str = "\
Processes of this host all-reduce f32 tensors of growing size through shared memory.

Usage: cargo run --release --example allreduce -- [options]

  --ranks N    processes to start (default 2); a launcher that set SAPWOOD_RANK has started them already
  --max BYTES  the largest tensor (default 67108864), a multiple of 4, at least 8
  --iters N    rounds per size and kind of tensor, at most (default 2000); about half a second ends them earlier
  --verify     rewrite the tensors before every round and check every element after it
  --help       this text";

const SMALLEST: usize = 8;
/// From one size to the next.
const FACTOR: usize = 8;

/// What to measure; the same on every rank, since each parses the same command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) ranks: usize,
    /// Bytes of the largest tensor.
    pub(crate) max: usize,
    pub(crate) iters: usize,
    pub(crate) verify: bool,
}

impl Options {
    /// `None`: the user asked for help.
    ///
    /// # Errors
    /// Says which argument is unknown or out of range.
    pub(crate) fn parse() -> Result<Option<Options>, lexopt::Error> {
        let mut options = Options { ranks: 2, max: 64 << 20, iters: 2000, verify: false };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("ranks") => options.ranks = at_least(1, "--ranks", &mut arguments)?,
                Long("max") => options.max = at_least(SMALLEST, "--max", &mut arguments)?,
                Long("iters") => options.iters = at_least(1, "--iters", &mut arguments)?,
                Long("verify") => options.verify = true,
                Long("help") | Short('h') => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        match options.max % size_of::<f32>() {
            0 => Ok(Some(options)),
            _ => Err(format!("--max {} is not a multiple of {}", options.max, size_of::<f32>()).into()),
        }
    }

    /// Bytes of each row's tensor: the powers of the factor, and at last `max` itself.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = usize> + use<> {
        let max = self.max;
        let powers = std::iter::successors(Some(SMALLEST), |size| size.checked_mul(FACTOR));
        powers.take_while(move |size| *size < max).chain([max])
    }
}

fn at_least(least: usize, name: &str, arguments: &mut lexopt::Parser) -> Result<usize, lexopt::Error> {
    let number = arguments.value()?.parse()?;
    if number < least {
        return Err(format!("{name} must be at least {least}").into());
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_end_with_the_largest() {
        let sizes = |max| Options { ranks: 2, max, iters: 1, verify: false }.sizes().collect::<Vec<_>>();
        assert_eq!(sizes(8), [8]);
        assert_eq!(sizes(64), [8, 64]);
        assert_eq!(sizes(100), [8, 64, 100]);
        assert_eq!(sizes(64 << 20).len(), 9);
        assert_eq!(sizes(64 << 20).last(), Some(&(64 << 20)));
    }
}
