//! [`Event`]: something has happened, and everybody may know.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::panic::Location;

use nursery::lowlevel::ParkingLot;
use nursery::{Cancelled, checkpoint};

use crate::sync::only_cancelled;

/// Something that happens once, and that tasks can wait for.
///
/// ```text
///  unset ──set──▶ set, for ever
/// ```
///
/// There is no way back, on purpose: whoever waits for something that happens again wants a new event for each
/// time, a [`Condition`](crate::sync::Condition), or a [channel](crate::channel).
///
/// # Examples
///
/// ```
/// use nursery::{Cancelled, open_nursery};
/// use nursery_io::sync::Event;
///
/// # nursery_testing::run(async {
/// let ready = Event::new();
/// open_nursery(async |n| {
///     n.start_soon(async {
///         ready.wait().await?;
///         Ok(())
///     });
///     ready.set();
///     Ok::<(), Cancelled>(())
/// })
/// .await?;
/// assert!(ready.is_set());
/// # Ok::<(), Cancelled>(())
/// # }).unwrap();
/// ```
#[derive(Default)]
pub struct Event {
    is_set: Cell<bool>,
    waiting: ParkingLot,
}

impl Event {
    /// Makes an event that is not set.
    #[must_use]
    pub fn new() -> Self {
        Event::default()
    }

    /// Sets it, and wakes all that wait. Setting it again changes nothing.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    pub fn set(&self) {
        if !self.is_set.replace(true) {
            self.waiting.unpark_all();
        }
    }

    /// Returns whether it is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.is_set.get()
    }

    /// Waits until it is set.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it did nothing.
    ///
    /// # Errors
    ///
    /// [`Cancelled`].
    ///
    /// # Panics
    ///
    /// Outside a run.
    #[track_caller]
    pub fn wait(&self) -> impl Future<Output = Result<(), Cancelled>> + use<'_> {
        let place = Location::caller();
        async move {
            if self.is_set.get() {
                return checkpoint().await;
            }
            only_cancelled(self.waiting.park_as("an event").at(place).await)
        }
    }

    /// Returns how many tasks wait.
    #[must_use]
    pub fn statistics(&self) -> EventStatistics {
        EventStatistics { tasks_waiting: self.waiting.len() }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("is_set", &self.is_set())
            .field("tasks_waiting", &self.waiting.len())
            .finish()
    }
}

/// Numbers of an [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventStatistics {
    /// Tasks that wait for it.
    pub tasks_waiting: usize,
}
