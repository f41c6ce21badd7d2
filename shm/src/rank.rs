//! What a rank is told by whoever started it: four variables.

use std::os::fd::OwnedFd;

use crate::error::Error;
use crate::segment::reopen;

const RANK: &str = "SAPWOOD_RANK";
const SIZE: &str = "SAPWOOD_SIZE";
const LOCAL_RANK: &str = "SAPWOOD_LOCAL_RANK";
const RENDEZVOUS: &str = "SAPWOOD_RENDEZVOUS";

/// A launcher's variable that is missing or makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvError {
    /// SAPWOOD_RANK is there, but not what belongs to it.
    #[error("SAPWOOD_RANK is set, but {variable} is not")]
    Missing {
        /// Which.
        variable: &'static str,
    },
    /// Not what it should be.
    #[error("{variable} is {value:?}, which is not {expected}")]
    Bad {
        /// Which.
        variable: &'static str,
        /// What it holds.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A rank that the size does not allow.
    #[error("SAPWOOD_RANK is {rank} and SAPWOOD_SIZE is {size}, but ranks count from 0")]
    OutOfRange {
        /// The rank.
        rank: usize,
        /// The size.
        size: usize,
    },
}

/// One rank, as its launcher describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rank {
    rank: usize,
    size: usize,
    local_rank: usize,
    source: Source,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Inherited(i32),
    Name(String),
}

/// Where ranks meet.
#[derive(Debug)]
pub enum Rendezvous {
    /// In a file without a name that they have inherited.
    Inherited(OwnedFd),
    /// Under a name.
    Name(String),
}

impl Rank {
    /// The rank that `SAPWOOD_RANK`, `SAPWOOD_SIZE`, `SAPWOOD_LOCAL_RANK` and `SAPWOOD_RENDEZVOUS` (`fd:NUMBER` or
    /// `name:NAME`) describe; `None` if the first is not set.
    ///
    /// # Errors
    /// Names the variable that is missing or makes no sense.
    pub fn from_env() -> Result<Option<Rank>, EnvError> {
        Self::from_variables(|name| std::env::var_os(name).map(|v| v.to_string_lossy().into_owned()))
    }

    fn from_variables(get: impl Fn(&'static str) -> Option<String>) -> Result<Option<Rank>, EnvError> {
        if get(RANK).is_none() {
            return Ok(None);
        }
        let need = |variable| get(variable).ok_or(EnvError::Missing { variable });
        let number = |variable| {
            let value = need(variable)?;
            let bad = |_| EnvError::Bad { variable, value: value.clone(), expected: "a whole number from 0" };
            value.trim().parse::<usize>().map_err(bad)
        };
        let (rank, size, local_rank) = (number(RANK)?, number(SIZE)?, number(LOCAL_RANK)?);
        if rank >= size {
            return Err(EnvError::OutOfRange { rank, size });
        }
        let value = need(RENDEZVOUS)?;
        let source = match value.split_once(':') {
            Some(("name", name)) => Some(Source::Name(name.to_owned())),
            Some(("fd", fd)) => fd.parse().ok().filter(|fd| *fd >= 0).map(Source::Inherited),
            _ => None,
        };
        let expected = "fd:NUMBER or name:NAME";
        let source = source.ok_or(EnvError::Bad { variable: RENDEZVOUS, value, expected })?;
        Ok(Some(Rank { rank, size, local_rank, source }))
    }

    /// Its number, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Its number among those of its host.
    pub fn local_rank(&self) -> usize {
        self.local_rank
    }

    /// Where the ranks meet.
    ///
    /// # Errors
    /// The inherited descriptor is not open.
    pub fn rendezvous(&self) -> Result<Rendezvous, Error> {
        match &self.source {
            Source::Name(name) => Ok(Rendezvous::Name(name.clone())),
            Source::Inherited(fd) => {
                // Reopened by number, through /proc: a number from outside proves nothing about ownership.
                let file = reopen(fd)?;
                Ok(Rendezvous::Inherited(file.into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rank: &str, size: &str, local: &str, place: &str) -> Result<Option<Rank>, EnvError> {
        let all = [(RANK, rank), (SIZE, size), (LOCAL_RANK, local), (RENDEZVOUS, place)];
        Rank::from_variables(|name| {
            let value = all.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
            value.filter(|v| !v.is_empty())
        })
    }

    #[test]
    fn good_variables_make_a_rank() {
        let rank = of("1", "2", "1", "name:x").expect("good").expect("a rank");
        assert_eq!((rank.rank(), rank.size(), rank.local_rank()), (1, 2, 1));
        assert!(matches!(rank.rendezvous(), Ok(Rendezvous::Name(n)) if n == "x"));
        assert_eq!(of("", "2", "1", "name:x"), Ok(None));
    }

    #[test]
    fn bad_ones_are_named() {
        assert_eq!(of("0", "", "0", "name:x"), Err(EnvError::Missing { variable: SIZE }));
        assert_eq!(of("0", "1", "", "name:x"), Err(EnvError::Missing { variable: LOCAL_RANK }));
        assert_eq!(of("0", "1", "0", ""), Err(EnvError::Missing { variable: RENDEZVOUS }));
        assert_eq!(of("2", "2", "0", "name:x"), Err(EnvError::OutOfRange { rank: 2, size: 2 }));
        for (rank, size, place, variable) in [
            ("-1", "2", "name:x", RANK),
            ("0", "two", "name:x", SIZE),
            ("0", "2", "fd:-1", RENDEZVOUS),
            ("0", "2", "fd:x", RENDEZVOUS),
            ("0", "2", "x", RENDEZVOUS),
        ] {
            let said = of(rank, size, "0", place);
            assert!(matches!(&said, Err(EnvError::Bad { variable: v, .. }) if *v == variable), "{said:?}");
        }
        let closed = of("0", "1", "0", "fd:999999").expect("good").expect("a rank");
        let said = closed.rendezvous().expect_err("no such descriptor").to_string();
        assert!(said.contains("999999"), "{said}");
    }
}
