//! [`ConflictDetector`]: notices that two tasks do what only one may do at a time.

use std::cell::Cell;

use crate::stream::StreamError;

/// Notices that a second task begins what a first one is in the middle of.
///
/// It does not make the second wait, as a [`Lock`](crate::sync::Lock) would: two tasks that send on one stream at the same
/// time are a mistake, and waiting would hide it.
///
/// # Examples
///
/// ```
/// use nursery_io::stream::{ConflictDetector, StreamError};
///
/// let sending = ConflictDetector::new();
/// let guard = sending.enter()?; // in the first line of the method, before anything is awaited
/// assert!(matches!(sending.enter(), Err(StreamError::Busy)));
/// drop(guard);
/// assert!(sending.enter().is_ok());
/// # Ok::<(), StreamError>(())
/// ```
#[derive(Debug, Default)]
pub struct ConflictDetector {
    is_busy: Cell<bool>,
}

impl ConflictDetector {
    /// Makes one in which nobody is.
    #[must_use]
    pub const fn new() -> Self {
        ConflictDetector { is_busy: Cell::new(false) }
    }

    /// Enters, until the guard is dropped.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// [`StreamError::Busy`] if somebody is inside.
    pub fn enter(&self) -> Result<ConflictGuard<'_>, StreamError> {
        if self.is_busy.replace(true) {
            return Err(StreamError::Busy);
        }
        Ok(ConflictGuard { detector: self })
    }
}

/// Says that somebody is inside, until it is dropped: from [`ConflictDetector::enter`].
#[derive(Debug)]
#[must_use = "who is inside has left when this is dropped"]
pub struct ConflictGuard<'a> {
    detector: &'a ConflictDetector,
}

impl Drop for ConflictGuard<'_> {
    fn drop(&mut self) {
        self.detector.is_busy.set(false);
    }
}
