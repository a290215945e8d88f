//! [`Mutex`]: some data, and the lock in front of it.

use std::cell::{RefCell, RefMut};
use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::panic::Location;

use crate::sync::quick::{Rest, guarded, quick};
use crate::sync::{Lock, LockError, LockGuard, LockStatistics};

/// Some data that one task at a time may have, also across checkpoints.
///
/// Data that is only touched *between* checkpoints needs none: the tasks of a run take turns, and a
/// [`RefCell`] or [`Cell`](std::cell::Cell) does.
///
/// It is a [`Lock`] in all respects: first come, first served; owned by a task; not re-entrant; broken if the owner ends
/// with the guard leaked. It is not poisoned by panics.
///
/// # Examples
///
/// ```
/// use nursery::{checkpoint, open_nursery};
/// use nursery_io::sync::Mutex;
///
/// # nursery_testing::run(async {
/// let log = Mutex::new(vec![]);
/// open_nursery(async |n| -> anyhow::Result<()> {
///     for name in ["a", "b"] {
///         let log = &log;
///         n.start_soon(async move {
///             let mut log = log.lock().await?;
///             log.push(name);
///             checkpoint().await?; // the other one has to wait
///             log.push(name);
///             Ok(())
///         });
///     }
///     Ok(())
/// })
/// .await?;
/// let log = log.into_inner();
/// assert!(log == ["a", "a", "b", "b"] || log == ["b", "b", "a", "a"]);
/// # anyhow::Ok(())
/// # }).unwrap();
/// ```
pub struct Mutex<T> {
    value: RefCell<T>,
    lock: Lock,
}

impl<T> Mutex<T> {
    /// Makes an unlocked mutex. Errors call it by the place of this call.
    #[track_caller]
    pub fn new(value: T) -> Self {
        Mutex { value: RefCell::new(value), lock: Lock::new() }
    }

    /// Locks the data for the current task, waiting for it if need be.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it did nothing.
    ///
    /// # Errors
    ///
    /// [`LockError::Cancelled`]; [`AlreadyHeld`](LockError::AlreadyHeld) by this task;
    /// [`Broken`](LockError::Broken).
    ///
    /// # Panics
    ///
    /// Outside a run.
    #[track_caller]
    pub fn lock(&self) -> impl Future<Output = Result<MutexGuard<'_, T>, LockError>> + use<'_, T> {
        let place = Location::caller();
        let at_once = |()| match self.is_locked() {
            false => Ok(self.lock.try_acquire()),
            true => Err(()),
        };
        let acquire = quick((), at_once, move |(), is_checked| {
            let lock = self.lock.core();
            Rest::Slow(lock.acquire(&"a mutex", place, is_checked))
        });
        guarded(acquire, || self.guard())
    }

    /// Locks the data if it is free.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// [`LockError::WouldBlock`]; [`AlreadyHeld`](LockError::AlreadyHeld) by this task.
    ///
    /// # Panics
    ///
    /// Outside a task.
    #[track_caller]
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>, LockError> {
        self.lock.try_acquire()?;
        Ok(self.guard())
    }

    fn guard(&self) -> MutexGuard<'_, T> {
        MutexGuard { value: self.value.borrow_mut(), _lock: self.lock.core().guard() }
    }

    /// Returns whether somebody has it.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.lock.is_locked()
    }

    /// Returns the data, which nobody else can have.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Returns the data.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    /// Returns who holds it, and how many wait.
    #[must_use]
    pub fn statistics(&self) -> LockStatistics {
        self.lock.statistics()
    }
}

impl<T: Default> Default for Mutex<T> {
    #[track_caller]
    fn default() -> Self {
        Mutex::new(T::default())
    }
}

impl<T: fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut mutex = f.debug_struct("Mutex");
        match self.value.try_borrow() {
            Ok(value) => mutex.field("value", &*value),
            Err(_) => mutex.field("value", &format_args!("<locked>")),
        };
        mutex.field("tasks_waiting", &self.statistics().tasks_waiting).finish()
    }
}

/// The data of a [`Mutex`], until it is dropped.
#[must_use = "dropped, it unlocks the mutex"]
pub struct MutexGuard<'a, T> {
    // First, so that the data is let go before the lock is.
    value: RefMut<'a, T>,
    _lock: LockGuard<'a>,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MutexGuard").field(&*self.value).finish()
    }
}
