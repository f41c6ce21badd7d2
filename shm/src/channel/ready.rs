//! One direction of a handle, as something that can be waited for: alone, or beside others.

use sapwood_core::doorbell::Doorbell;
use sapwood_core::mem::Real;
use sapwood_core::ring::bells::Bells;

use super::bells::Where;
use super::carry::{Carry, Told, Way};

/// Something that can be waited for, at a bell that lives as long as `'b`.
pub(crate) trait Ready<'b> {
    /// Where to sleep until it may be ready.
    fn bell(&self) -> &'b Doorbell<Real>;
    /// Whether a try would say anything but "not yet". Somebody else may be faster.
    fn is_ready(&mut self) -> bool;
    /// To be called before each slice of sleep; looks for proof that nobody will come.
    ///
    /// # Errors
    /// [`Told`], which says why not to sleep.
    fn look(&mut self) -> Result<(), Told>;
}

/// Where those sleep who wait for `way`.
pub(super) fn bell(bells: &Bells<Real>, way: Way) -> &Doorbell<Real> {
    match way {
        Way::Send => bells.not_full(),
        Way::Recv => bells.not_empty(),
    }
}

/// One direction of a channel's handle.
pub(crate) struct Side<'a, T> {
    pub(super) carrier: &'a mut dyn Carry<T>,
    pub(super) bells: &'a Where,
    pub(super) way: Way,
}

impl<'b, T> Ready<'b> for Side<'b, T> {
    fn bell(&self) -> &'b Doorbell<Real> {
        bell(self.bells, self.way)
    }

    fn is_ready(&mut self) -> bool {
        self.carrier.is_ready(self.way, false)
    }

    fn look(&mut self) -> Result<(), Told> {
        self.carrier.look(self.way)
    }
}
