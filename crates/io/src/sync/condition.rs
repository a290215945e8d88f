//! [`Condition`]: waits until what a lock guards has changed.

use std::fmt;
use std::future::Future;
use std::panic::Location;

use nursery::lowlevel::{ParkError, ParkingLot, checkpoint_if_cancelled};
use nursery::shield;

use crate::sync::lock::Pass;
use crate::sync::{Lock, LockError, LockStatistics};

/// A [`Lock`], and a queue of tasks that wait until something that it guards has changed.
///
/// To wait, a task must own the lock; while it waits, it does not; when it goes on, it does again. To notify, a task
/// must own the lock as well. A notification that finds nobody is forgotten. Wait in a loop that looks at what
/// is waited for: between the notification and the lock, others may have been there.
///
/// If the lock breaks, nobody can notify any more: those that have been notified are told so, the others wait for ever.
///
/// # Examples
///
/// ```
/// use std::cell::Cell;
/// use nursery::open_nursery;
/// use nursery_io::sync::Condition;
///
/// # nursery_testing::run(async {
/// let (condition, money) = (Condition::new(), Cell::new(0));
/// open_nursery(async |n| -> anyhow::Result<()> {
///     n.start_soon(async {
///         let _guard = condition.lock().lock().await?;
///         while money.get() < 10 {
///             condition.wait().await?;
///         }
///         money.set(money.get() - 10);
///         Ok(())
///     });
///     for _ in 0..2 {
///         let _guard = condition.lock().lock().await?;
///         money.set(money.get() + 6);
///         condition.notify_all()?;
///     }
///     Ok(())
/// })
/// .await?;
/// assert_eq!(money.get(), 2);
/// # anyhow::Ok(())
/// # }).unwrap();
/// ```
pub struct Condition {
    lock: Lock,
    waiting: ParkingLot<Pass>,
}

impl Condition {
    /// Makes a condition with a lock of its own.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        Condition { lock: Lock::new(), waiting: ParkingLot::new() }
    }

    /// Makes a condition on a lock that other conditions may use as well.
    #[must_use]
    pub fn with_lock(lock: &Lock) -> Self {
        Condition { lock: lock.share(), waiting: ParkingLot::new() }
    }

    /// Returns the lock.
    #[must_use]
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// Releases the lock, waits for a notification, and acquires the lock again.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled before it waits, it did nothing; cancelled while it waits, it still acquires
    /// the lock, under a shield: it is owned whether this succeeds or is cancelled. A notification that had come already
    /// is lost. Dropped while it waits, the lock is not owned any more.
    ///
    /// # Errors
    ///
    /// [`LockError::NotOwner`] if the current task does not own the lock: then nothing happened.
    /// [`LockError::Cancelled`]. [`LockError::Broken`]: then the lock is not owned.
    ///
    /// # Panics
    ///
    /// Outside a run.
    #[track_caller]
    pub fn wait(&self) -> impl Future<Output = Result<(), LockError>> + use<'_> {
        let place = Location::caller();
        async move {
            checkpoint_if_cancelled().await?;
            let lock = self.lock.core();
            lock.check_owner()?;
            lock.pass_on();
            match self.waiting.park_as("a condition").at(place).await {
                Err(ParkError::Cancelled(cancelled)) => {
                    shield(lock.acquire(&"the lock of a condition", place, false)).await?;
                    Err(cancelled.into())
                }
                Err(error) => Err(lock.refused(error)),
                Ok(pass) => lock.arrive(pass),
            }
        }
    }

    /// Wakes the `count` tasks that have waited longest: they queue for the lock. Returns how many there were.
    ///
    /// The current task keeps the lock.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// [`LockError::NotOwner`].
    ///
    /// # Panics
    ///
    /// Outside a task.
    #[track_caller]
    pub fn notify(&self, count: usize) -> Result<usize, LockError> {
        let lock = self.lock.core();
        lock.check_owner()?;
        let count = count.min(self.waiting.len());
        self.waiting.repark(&lock.lot, count);
        lock.watch_if_waited_for();
        Ok(count)
    }

    /// Wakes all tasks that wait: they queue for the lock. Returns how many there were.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// [`LockError::NotOwner`].
    ///
    /// # Panics
    ///
    /// Outside a task.
    #[track_caller]
    pub fn notify_all(&self) -> Result<usize, LockError> {
        self.notify(usize::MAX)
    }

    /// Returns how many tasks wait for a notification, and the numbers of the lock.
    #[must_use]
    pub fn statistics(&self) -> ConditionStatistics {
        ConditionStatistics { tasks_waiting: self.waiting.len(), lock: self.lock.statistics() }
    }
}

impl Default for Condition {
    #[track_caller]
    fn default() -> Self {
        Condition::new()
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition")
            .field("tasks_waiting", &self.waiting.len())
            .field("lock", &self.lock)
            .finish()
    }
}

/// Numbers of a [`Condition`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConditionStatistics {
    /// Tasks that wait for a notification.
    pub tasks_waiting: usize,
    /// Those of the lock.
    pub lock: LockStatistics,
}
