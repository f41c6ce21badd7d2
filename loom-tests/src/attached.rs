//! Ends of rings, made safe by loom.
//!
//! # Safety
//! That a ring has one producer, that a name has one handle: these are contracts against races on cells. Loom checks
//! each access to a cell before it lends the address, and panics where another thread's access to the same cell is not
//! ordered with it. So an access that is made is not a race, whatever the model does.
#![allow(unsafe_code)]

use sapwood_core::owner::Owner;
use sapwood_core::ring::{latest, mpmc, spsc, stream};
use sapwood_core::shareable::Shareable;
use sapwood_core::testing::{Latest, Mpmc, Spsc, Stream};

use crate::family::Loom;

/// The sending end of a ring of one to one.
pub type Producer<T> = spsc::Producer<Loom, T, Spsc<Loom, T>>;
/// The receiving end of a ring of one to one.
pub type Consumer<T> = spsc::Consumer<Loom, T, Spsc<Loom, T>>;
/// The writing end of a pipe.
pub type Writer = stream::Writer<Loom, Stream<Loom>>;
/// The reading end of a pipe.
pub type Reader = stream::Reader<Loom, Stream<Loom>>;
/// Publishes the newest value.
pub type Publisher<T> = latest::Writer<Loom, T, Latest<Loom>>;
/// A participant of a ring of many to many.
pub type Handle = mpmc::Handle<Loom, u64, Mpmc<Loom, u64>>;

/// The sending end.
pub fn producer<T: Shareable>(ring: &Spsc<Loom, T>) -> Producer<T> {
    // SAFETY: loom finds races, as said at the top.
    unsafe { Producer::attach(ring.clone()) }
}

/// The receiving end.
pub fn consumer<T: Shareable>(ring: &Spsc<Loom, T>) -> Consumer<T> {
    // SAFETY: as above.
    unsafe { Consumer::attach(ring.clone()) }
}

/// The writing end.
pub fn writer(pipe: &Stream<Loom>) -> Writer {
    // SAFETY: as above.
    unsafe { Writer::attach(pipe.clone()) }
}

/// The reading end.
pub fn reader(pipe: &Stream<Loom>) -> Reader {
    // SAFETY: as above.
    unsafe { Reader::attach(pipe.clone()) }
}

/// Who publishes.
pub fn publisher<T: Shareable>(memory: &Latest<Loom>) -> Publisher<T> {
    // SAFETY: the words are atomics: nothing can race.
    unsafe { Publisher::attach(memory.clone()) }
}

/// A participant named after its number.
pub fn handle(ring: &Mpmc<Loom, u64>, seat: u32) -> Handle {
    // SAFETY: as above.
    unsafe { Handle::attach(ring.clone(), Owner::new(seat, 1)) }
}
