//! Channels of which only the latest value counts: a setting, a state, a progress.
//!
//! # Examples
//!
//! ```
//! use nursery::open_nursery;
//! use nursery_io::channel::watch;
//!
//! # nursery_testing::run(async {
//! let (sender, receiver) = watch::open(0);
//! open_nursery(async |n| -> anyhow::Result<()> {
//!     n.start_soon(async {
//!         receiver.wait_for(|percent| *percent >= 50).await?;
//!         assert!(*receiver.get() >= 50);
//!         Ok(())
//!     });
//!     for percent in 0..=100 {
//!         sender.set(percent);
//!     }
//!     Ok(())
//! })
//! .await
//! # }).unwrap();
//! ```

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::Location;
use std::rc::Rc;

use nursery::Cancelled;
use nursery::lowlevel::{ParkingLot, cancel_shielded_checkpoint, checkpoint_if_cancelled};

use crate::sync::only_cancelled;

struct Shared<T> {
    value: RefCell<Rc<T>>,
    /// How often it has been set.
    version: Cell<u64>,
    senders: Cell<usize>,
    receivers: Cell<usize>,
    waiting: ParkingLot,
}

/// Opens a channel that holds `value`. The receiver has seen it.
#[must_use]
pub fn open<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let shared = Rc::new(Shared {
        value: RefCell::new(Rc::new(value)),
        version: Cell::new(0),
        senders: Cell::new(1),
        receivers: Cell::new(1),
        waiting: ParkingLot::new(),
    });
    let receiver = Receiver { shared: shared.clone(), seen: Cell::new(0) };
    (Sender { shared }, receiver)
}

/// A handle to set the value with, from [`open`]. Dropped, it is closed; the channel ends with the last.
pub struct Sender<T> {
    shared: Rc<Shared<T>>,
}

impl<T> Sender<T> {
    /// Sets the value, and wakes those that wait for a change. It counts as a change even if it is the same value.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    pub fn set(&self, value: T) {
        let old = {
            let mut current = self.shared.value.borrow_mut();
            match Rc::get_mut(&mut current) {
                // Nobody looks at the old one: its place can be used again.
                Some(place) => (Some(std::mem::replace(place, value)), None),
                None => (None, Some(std::mem::replace(&mut *current, Rc::new(value)))),
            }
        };
        self.shared.version.set(self.shared.version.get() + 1);
        self.shared.waiting.unpark_all();
        drop(old); // with nothing borrowed: it is the user's
    }

    /// Returns the value.
    #[must_use]
    pub fn get(&self) -> Rc<T> {
        self.shared.get()
    }

    /// Adds a receiver. It has seen the value there is.
    #[must_use]
    pub fn subscribe(&self) -> Receiver<T> {
        self.shared.receivers.set(self.shared.receivers.get() + 1);
        Receiver { shared: self.shared.clone(), seen: self.shared.version.clone() }
    }

    /// Returns numbers of the channel.
    #[must_use]
    pub fn statistics(&self) -> WatchStatistics {
        self.shared.statistics()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.senders.set(self.shared.senders.get() + 1);
        Sender { shared: self.shared.clone() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.senders.set(self.shared.senders.get() - 1);
        if self.shared.senders.get() == 0 {
            self.shared.waiting.unpark_all();
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("value", &self.get()).finish_non_exhaustive()
    }
}

/// A handle to look at the value with, from [`open`] or [`Sender::subscribe`]. A clone has seen what this one has seen.
pub struct Receiver<T> {
    shared: Rc<Shared<T>>,
    /// The version it has seen.
    seen: Cell<u64>,
}

impl<T> Receiver<T> {
    /// Returns the value, without marking it as seen. What is returned stays what it is.
    #[must_use]
    pub fn get(&self) -> Rc<T> {
        self.shared.get()
    }

    /// Returns the value, and marks it as seen.
    #[must_use = "to mark the value as seen and not look at it, use `mark_seen`"]
    pub fn see(&self) -> Rc<T> {
        self.mark_seen();
        self.get()
    }

    /// Marks the value as seen.
    pub fn mark_seen(&self) {
        self.seen.set(self.shared.version.get());
    }

    /// Returns whether there is a value that has not been seen.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.seen.get() != self.shared.version.get()
    }

    /// Waits for a value that has not been seen, and marks it as seen.
    ///
    /// Of values that come in quick succession only the last is sure to be seen.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it did nothing.
    ///
    /// # Errors
    ///
    /// [`ChangedError::Cancelled`]; [`EndOfChannel`](ChangedError::EndOfChannel) if the last sender is gone, and the
    /// last value has been seen.
    ///
    /// # Panics
    ///
    /// Outside a run.
    #[track_caller]
    pub fn changed(&self) -> impl Future<Output = Result<(), ChangedError>> + use<'_, T> {
        self.until(Location::caller(), |this| this.has_changed())
    }

    /// Waits until the value is as `condition` says, and marks it as seen.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it did nothing.
    ///
    /// # Errors
    ///
    /// [`ChangedError::Cancelled`]; [`EndOfChannel`](ChangedError::EndOfChannel) if the last sender is gone, and the
    /// last value is not so.
    ///
    /// # Panics
    ///
    /// Outside a run.
    #[track_caller]
    pub fn wait_for<F: FnMut(&T) -> bool>(
        &self,
        mut condition: F,
    ) -> impl Future<Output = Result<(), ChangedError>> + use<'_, T, F> {
        self.until(Location::caller(), move |this| condition(&this.get()))
    }

    async fn until(
        &self,
        place: &'static Location<'static>,
        mut is_so: impl FnMut(&Self) -> bool,
    ) -> Result<(), ChangedError> {
        checkpoint_if_cancelled().await?;
        let mut has_yielded = false;
        loop {
            let version = self.shared.version.get(); // the one that is looked at
            let (is_so, is_over) = (is_so(self), self.shared.senders.get() == 0);
            if (is_so || is_over) && !has_yielded {
                // Before the value is seen, so that there is no time in which the future can be dropped.
                cancel_shielded_checkpoint().await;
                has_yielded = true;
            } else if is_so {
                self.seen.set(version);
                return Ok(());
            } else if is_over {
                return Err(ChangedError::EndOfChannel);
            } else {
                let parked = self.shared.waiting.park_as("a change of a value").at(place).await;
                only_cancelled(parked)?;
                has_yielded = true;
            }
        }
    }

    /// Returns numbers of the channel.
    #[must_use]
    pub fn statistics(&self) -> WatchStatistics {
        self.shared.statistics()
    }
}

impl<T> Shared<T> {
    fn get(&self) -> Rc<T> {
        self.value.borrow().clone()
    }

    fn statistics(&self) -> WatchStatistics {
        WatchStatistics {
            open_senders: self.senders.get(),
            open_receivers: self.receivers.get(),
            tasks_waiting: self.waiting.len(),
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.shared.receivers.set(self.shared.receivers.get() + 1);
        Receiver { shared: self.shared.clone(), seen: self.seen.clone() }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receivers.set(self.shared.receivers.get() - 1);
    }
}

impl<T: fmt::Debug> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("value", &self.get())
            .field("has_changed", &self.has_changed())
            .finish_non_exhaustive()
    }
}

/// Numbers of a watch channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchStatistics {
    /// Senders that are not closed.
    pub open_senders: usize,
    /// Receivers that are not closed.
    pub open_receivers: usize,
    /// Tasks that wait for a change.
    pub tasks_waiting: usize,
}

/// Why a change was not waited for to the end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ChangedError {
    /// The scope was cancelled.
    Cancelled(Cancelled),
    /// The last sender is gone: the value will not change any more.
    EndOfChannel,
}

impl From<Cancelled> for ChangedError {
    fn from(cancelled: Cancelled) -> Self {
        ChangedError::Cancelled(cancelled)
    }
}

impl fmt::Display for ChangedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChangedError::Cancelled(cancelled) => cancelled.fmt(f),
            ChangedError::EndOfChannel => {
                f.write_str("all senders of the watch channel are gone: its value stays")
            }
        }
    }
}

impl Error for ChangedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            ChangedError::Cancelled(cancelled) => Some(cancelled),
            ChangedError::EndOfChannel => None,
        }
    }
}

impl From<ChangedError> for io::Error {
    fn from(error: ChangedError) -> Self {
        match error {
            ChangedError::EndOfChannel => io::Error::new(io::ErrorKind::UnexpectedEof, error),
            other => io::Error::other(other),
        }
    }
}
