//! Channels sent through channels: what names one to another process.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::Channel;
use super::shared::Shared;
use crate::error::Error;
use crate::ring::{Figures, Shareable};

/// The longest name that a segment can have, in bytes.
const NAME: usize = 64;

/// Names a channel that was opened by name, in plain data: it can go through another channel, and whoever receives it
/// [opens](ChannelToken::open) the very channel that was meant, or is told that it is no more.
///
/// ```
/// use sapwood_shm::channel::{Channel, ChannelToken};
///
/// # let name = |what| format!("doc-token-{}-{what}", std::process::id());
/// let mut requests = Channel::<ChannelToken>::open(&name("requests"), 16, 2)?;
/// let mut replies = Channel::<u64>::open(&name("replies"), 16, 2)?;
/// requests.send(replies.token()?)?;
///
/// // Whoever serves, in another process:
/// # let mut requests = requests.try_clone()?;
/// let mut to = requests.recv()?.open::<u64>()?;
/// to.send(42)?;
///
/// assert_eq!(replies.recv()?, 42);
/// # requests.segment().unwrap().unlink()?;
/// # replies.segment().unwrap().unlink()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
/// A channel without a name goes over a Unix socket instead: see [`Channel::create`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct ChannelToken {
    nonce: u64,
    fingerprint: u64,
    participants: u32,
    length: u32,
    name: [u8; NAME],
}

/// Why there is no channel behind a token, or no token of a channel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The channel was not opened by name.
    #[error("a channel without a name can't be named: send its segment over a Unix socket")]
    Nameless,
    /// The token is none: its bytes name nothing.
    #[error("a token of {length} bytes of name and {participants} participants names nothing")]
    Malformed {
        /// Bytes of the name that it claims.
        length: u32,
        /// Participants that it claims.
        participants: u32,
    },
    /// The name is another channel's by now, or nobody's: all who had the one that was meant are gone.
    #[error("the channel called {name:?} that was meant is gone: another one has its name")]
    Stale {
        /// The name.
        name: String,
    },
    /// It could not be opened.
    #[error(transparent)]
    Open(#[from] Error),
}

impl<T: Shareable> Channel<T> {
    /// What names this channel to whoever gets it.
    ///
    /// # Errors
    /// [`TokenError::Nameless`].
    pub fn token(&self) -> Result<ChannelToken, TokenError> {
        let far = self.far().ok_or(TokenError::Nameless)?;
        let name = far.name().ok_or(TokenError::Nameless)?.as_bytes();
        let (segment, mut bytes) = (far.segment(), [0; NAME]);
        bytes.get_mut(..name.len()).ok_or(TokenError::Nameless)?.copy_from_slice(name);
        Ok(ChannelToken {
            nonce: segment.nonce(),
            fingerprint: segment.spec().fingerprint,
            participants: segment.spec().seats as u32,
            length: name.len() as u32,
            name: bytes,
        })
    }
}

impl ChannelToken {
    /// A handle of the channel that is meant.
    ///
    /// # Errors
    /// [`TokenError`]; [`Error::OtherRing`] if its values are not of `T`'s size and alignment.
    pub fn open<T: Shareable>(&self) -> Result<Channel<T>, TokenError> {
        let ChannelToken { length, participants, .. } = *self;
        let malformed = TokenError::Malformed { length, participants };
        let name = self.name.get(..length as usize).and_then(|name| std::str::from_utf8(name).ok());
        let Some(name) = name else { return Err(malformed) };
        let meant = Figures::from_fingerprint(self.fingerprint);
        let Ok(capacity) = usize::try_from(meant.capacity) else { return Err(malformed) };
        let expected = Figures::of::<T>(capacity);
        if meant != expected {
            let (found, expected) = (Box::new(meant), Box::new(expected));
            return Err(Error::OtherRing { found, expected }.into());
        }
        let shared = Shared::open_meant(name, self.nonce, capacity, participants as usize);
        shared.map(Channel::between).map_err(|e| match e {
            Error::Retired => TokenError::Stale { name: name.to_owned() },
            other => other.into(),
        })
    }
}
