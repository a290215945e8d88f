//! [`OnceCell`]: a value that is made once, by whoever asks first.

use std::cell::{self, Cell};
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::rc::Rc;

use nursery::Cancelled;
use nursery::lowlevel::{ParkingLot, cancel_shielded_checkpoint, checkpoint_if_cancelled};

use crate::sync::only_cancelled;

/// A value that the first task to ask for it makes, while the others wait.
///
/// If making it fails, is cancelled, panics or is dropped, the next task in the queue tries.
///
/// # Examples
///
/// ```
/// use nursery::{Cancelled, checkpoint};
/// use nursery_io::sync::OnceCell;
///
/// # nursery_testing::run(async {
/// let config = OnceCell::new();
/// let load = async || {
///     checkpoint().await?;
///     Ok::<_, Cancelled>(String::from("config"))
/// };
/// assert_eq!(config.get_or_try_init(load).await?, "config");
/// assert_eq!(config.get_or_try_init(load).await?, "config"); // not loaded again
/// # Ok::<(), Cancelled>(())
/// # }).unwrap();
/// ```
pub struct OnceCell<T> {
    value: cell::OnceCell<T>,
    core: Rc<Core>,
}

#[derive(Default)]
struct Core {
    is_being_made: Cell<bool>,
    waiting: ParkingLot<Turn>,
}

/// The right to make the value; `None` when it has been made. Dropped, it goes to the next.
struct Turn(Option<Rc<Core>>);

impl Turn {
    /// The value is there: everybody may know.
    fn finish(mut self) {
        let Some(core) = self.0.take() else { return };
        core.is_being_made.set(false);
        while core.waiting.hand_over(Turn(None)).is_ok() {}
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(core) = self.0.take() else { return };
        if core.waiting.is_empty() {
            core.is_being_made.set(false);
        } else {
            let undelivered = core.waiting.hand_over(Turn(Some(core.clone()))).err();
            drop(undelivered);
        }
    }
}

impl<T> OnceCell<T> {
    /// Makes an empty cell.
    #[must_use]
    pub fn new() -> Self {
        OnceCell { value: cell::OnceCell::new(), core: Rc::default() }
    }

    /// Returns the value, if it has been made.
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// Returns the value, if it has been made.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut()
    }

    /// Returns the value, if it has been made.
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }

    /// Sets the value.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// The value, if there is one already, or one is being made.
    pub fn set(&self, value: T) -> Result<(), T> {
        if self.core.is_being_made.get() {
            return Err(value);
        }
        self.value.set(value)
    }

    /// Returns the value; makes it, or waits until it is made, if need be.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it did nothing, except that `init` may have run.
    ///
    /// # Errors
    ///
    /// [`Cancelled`].
    ///
    /// # Panics
    ///
    /// Outside a run.
    #[track_caller]
    pub fn get_or_init<'a, F>(&'a self, init: F) -> impl Future<Output = Result<&'a T, Cancelled>>
    where
        F: AsyncFnOnce() -> T + 'a,
    {
        self.get_or_try_init(async || Ok(init().await))
    }

    /// Returns the value; makes it, or waits until it is made, if need be.
    ///
    /// Asking for the value of the same cell in `init` is a deadlock.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it did nothing, except that `init` may have run.
    ///
    /// # Errors
    ///
    /// [`Cancelled`]; that of `init`.
    ///
    /// # Panics
    ///
    /// Outside a run.
    #[track_caller]
    pub fn get_or_try_init<'a, E, F>(&'a self, init: F) -> impl Future<Output = Result<&'a T, E>>
    where
        E: From<Cancelled>,
        F: AsyncFnOnce() -> Result<T, E> + 'a,
    {
        let place = Location::caller();
        async move {
            checkpoint_if_cancelled().await?;
            if self.get().is_none() {
                let turn = if self.core.is_being_made.replace(true) {
                    let parked = self.core.waiting.park_as("a value to be made").at(place).await;
                    only_cancelled(parked)?
                } else {
                    Turn(Some(self.core.clone()))
                };
                if turn.0.is_none() {
                    return Ok(self.made());
                }
                let value = init().await?;
                let _first = self.value.set(value);
                turn.finish();
            }
            cancel_shielded_checkpoint().await;
            Ok(self.made())
        }
    }

    fn made(&self) -> &T {
        self.value.get().expect("it has been made")
    }
}

impl<T> Default for OnceCell<T> {
    fn default() -> Self {
        OnceCell::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnceCell")
            .field("value", &self.value.get())
            .field("is_being_made", &self.core.is_being_made.get())
            .field("tasks_waiting", &self.core.waiting.len())
            .finish()
    }
}
