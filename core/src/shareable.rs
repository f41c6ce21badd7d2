//! What may lie in memory that another process writes.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A value that can be copied through shared memory: any bytes are a legal value, all of its bytes are initialised, and
/// it holds no pointer. Implemented for every type that has zerocopy's traits, which its derives check field by field;
/// so a process that dies while it writes, or writes nonsense, can make a value wrong, but not undefined.
///
/// ```
/// use sapwood_core::shareable::Shareable;
/// use zerocopy::{FromBytes, Immutable, IntoBytes};
///
/// #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
/// #[repr(C)]
/// struct Job {
///     first: u64,
///     count: u32,
///     kind: u32,
/// }
///
/// fn fits<T: Shareable>() {}
/// fits::<Job>();
/// fits::<[f32; 8]>();
/// ```
/// A reference, a `bool` or a type with padding is none:
///
/// ```compile_fail
/// fn fits<T: sapwood_core::shareable::Shareable>() {}
/// fits::<&'static str>();
/// ```
pub trait Shareable: FromBytes + IntoBytes + Immutable + Copy + Send + Sync + 'static {}

impl<T: FromBytes + IntoBytes + Immutable + Copy + Send + Sync + 'static> Shareable for T {}
