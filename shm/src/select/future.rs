//! Waiting as a future, for any runtime or none: the watcher's thread wakes the task.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::readiness::register;
use super::watcher::{self, Wake};
use super::{Select, SelectError, Waits};

/// Is done when one of `on` is ready; gives its index.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use sapwood_shm::select::{Waits, ready};
///
/// // On any executor.
/// let which = pollster::block_on(ready(&mut [Waits::after(Duration::from_millis(1))]))?;
/// assert_eq!(which, 0);
/// # Ok(())
/// # }
/// ```
pub fn ready<'w, 'a>(on: &'w mut [Waits<'a>]) -> ReadyFuture<'w, 'a> {
    ReadyFuture { on, select: Select::new(), ticket: None }
}

/// What [`ready`] returns. Dropping it ends the wait.
#[must_use = "a future does nothing unless it is polled"]
pub struct ReadyFuture<'w, 'a> {
    on: &'w mut [Waits<'a>],
    select: Select,
    ticket: Option<u64>,
}

impl fmt::Debug for ReadyFuture<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadyFuture").field("on", &self.on).finish()
    }
}

/// A wait of `ticket` with its task's waker: whether something is ready already.
pub(crate) fn poll_ready(
    on: &mut [Waits<'_>],
    ticket: &mut Option<u64>,
    context: &Context<'_>,
) -> io::Result<bool> {
    if let Some(old) = ticket.take() {
        watcher::forget(old);
    }
    let new = watcher::ticket();
    let ready = register(on, new, &Wake::Task(context.waker().clone()))?;
    *ticket = (!ready).then_some(new);
    Ok(ready)
}

impl Future for ReadyFuture<'_, '_> {
    type Output = Result<usize, SelectError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { on, select, ticket } = &mut *self;
        if on.is_empty() {
            return Poll::Ready(Err(SelectError::Nothing));
        }
        if let Some(found) = select.poll(on) {
            return Poll::Ready(Ok(found));
        }
        match poll_ready(on, ticket, context) {
            Ok(false) => Poll::Pending,
            Ok(true) => match select.poll(on) {
                Some(found) => Poll::Ready(Ok(found)),
                None => {
                    // Others were faster: try again soon.
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
            },
            Err(e) => Poll::Ready(Err(SelectError::NoWatcher { code: e.raw_os_error().unwrap_or(0) })),
        }
    }
}

impl Drop for ReadyFuture<'_, '_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            watcher::forget(ticket);
        }
    }
}
