//! Maps in maps: what names one to another process.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Figures, SharedMap};
use crate::error::Error;
use crate::ring::Shareable;

/// The longest name that a segment can have, in bytes.
const NAME: usize = 64;

/// Names a map that was opened by name, in plain data: a value of another map, or a message. Whoever reads it
/// [opens](MapToken::open) the very map that is meant, or is told that it is no more. The map in the map is live: what
/// one writes there all others see.
///
/// ```
/// use sapwood_shm::map::{MapToken, SharedMap};
///
/// # let name = |what| format!("doc-map-{}-{what}", std::process::id());
/// let mut jobs = SharedMap::<u64, u64>::open(&name("jobs"), 100, 8)?;
/// let mut all = SharedMap::<u32, MapToken>::open(&name("all"), 10, 8)?;
/// all.insert(1, jobs.token()?)?;
///
/// let mut same = all.get(&1)?.expect("it was inserted").open::<u64, u64>()?;
/// same.insert(7, 49)?;
/// assert_eq!(jobs.get(&7)?, Some(49));
/// # jobs.segment().unwrap().unlink()?;
/// # all.segment().unwrap().unlink()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
/// A token keeps nothing alive: a map lives as long as one of its handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct MapToken {
    nonce: u64,
    fingerprint: u64,
    participants: u32,
    length: u32,
    name: [u8; NAME],
}

/// Why there is no map behind a token, or no token of a map.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The map was not opened by name.
    #[error("a map without a name can't be named: send its segment over a Unix socket")]
    Nameless,
    /// The token is none: its bytes name nothing.
    #[error("a token of {length} bytes of name and {participants} participants names nothing")]
    Malformed {
        /// Bytes of the name that it claims.
        length: u32,
        /// Participants that it claims.
        participants: u32,
    },
    /// The name is another map's by now, or nobody's: all who had the one that was meant are gone.
    #[error("the map called {name:?} that was meant is gone: another one has its name")]
    Stale {
        /// The name.
        name: String,
    },
    /// It could not be opened.
    #[error(transparent)]
    Open(#[from] Error),
}

impl<K: Shareable, V: Shareable> SharedMap<K, V> {
    /// What names this map to whoever gets it.
    ///
    /// # Errors
    /// [`TokenError::Nameless`].
    pub fn token(&self) -> Result<MapToken, TokenError> {
        let (segment, name) = (self.segment(), self.name());
        let (Some(segment), Some(name)) = (segment, name) else { return Err(TokenError::Nameless) };
        let mut bytes = [0; NAME];
        bytes.get_mut(..name.len()).ok_or(TokenError::Nameless)?.copy_from_slice(name.as_bytes());
        Ok(MapToken {
            nonce: segment.nonce(),
            fingerprint: segment.spec().fingerprint,
            participants: segment.spec().seats as u32,
            length: name.len() as u32,
            name: bytes,
        })
    }
}

impl MapToken {
    /// A handle of the map that is meant.
    ///
    /// # Errors
    /// [`TokenError`]; [`Error::OtherMap`] if its keys and values have not the size of `K` and `V`.
    pub fn open<K: Shareable, V: Shareable>(&self) -> Result<SharedMap<K, V>, TokenError> {
        let MapToken { length, participants, .. } = *self;
        let malformed = TokenError::Malformed { length, participants };
        let name = self.name.get(..length as usize).and_then(|name| std::str::from_utf8(name).ok());
        let Some(name) = name else { return Err(malformed) };
        let meant = Figures::from_fingerprint(self.fingerprint);
        let Ok(capacity) = usize::try_from(meant.capacity) else { return Err(malformed) };
        let expected = Figures::of::<K, V>(capacity);
        if meant != expected {
            let (found, expected) = (Box::new(meant), Box::new(expected));
            return Err(Error::OtherMap { found, expected }.into());
        }
        let map = SharedMap::open_meant(name, self.nonce, capacity, participants as usize);
        map.map_err(|e| match e {
            Error::Retired => TokenError::Stale { name: name.to_owned() },
            other => other.into(),
        })
    }
}
