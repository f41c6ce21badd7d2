//! Maps between threads and between processes: [`SharedMap`]. See [`sapwood_core::map`] for the protocol.

mod calls;
mod error;
mod figures;
mod handle;
mod table;
mod token;

pub use error::MapError;
pub use figures::{Figures, MOST_KEY};
pub use handle::{DEFAULT_DEADLINE, SharedMap, spec};
pub use sapwood_core::map::{MOST, MOST_BYTES, Recovered, ShapeError};
pub use table::THREADS;
pub use token::{MapToken, TokenError};
