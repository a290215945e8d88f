//! [`Lock`]: one task at a time; the task that has it is its owner.
//!
//! ```text
//!            ┌──────────1──────────┐
//!            ▼                     │
//!  free ──2──▶ owned by a task ──3──▶ on its way to the first waiter ──4──▶ owned by that task
//!                     └──5──▶ broken, for ever
//! ```
//! 1. [`Core::pass_on`], nobody waits  2. [`Core::try_take`]  3. [`Core::pass_on`]  4. [`Core::arrive`]
//! 5. the owner has ended: its lot breaks, or [`Core::acquire`] finds out
//!
//! What is on its way is a [`Pass`]: in the slot of the waiter, or in the yield of who found it free. If that is
//! dropped, it passes the lock on.
//!
//! # Invariants
//! 1. Nobody waits at a lock that is free.
//! 2. While anybody waits, the end of the owner breaks the lot (`is_watched`). While nobody does, it need not: who
//!    comes later finds out that the owner has ended. So a lock that nobody waits for costs the owner nothing.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::Location;
use std::rc::Rc;

use nursery::Cancelled;
use nursery::lowlevel::{
    Broken, ParkError, ParkingLot, TaskId, cancel_shielded_checkpoint, checkpoint_if_cancelled,
    current_task,
};

use crate::sync::quick::guarded;

/// Lets one task at a time into a stretch of code. The task that acquired it owns it, and must release it.
///
/// If what is to be guarded is some data, use a [`Mutex`](crate::sync::Mutex). A lock that is acquired in one task
/// and released in another is a [`Semaphore`](crate::sync::Semaphore).
///
/// It is not re-entrant: acquiring it twice is an error, not a deadlock. If the owner ends without releasing it (it
/// leaked the guard, say), the lock is *broken*: those who wait for it, or will, get [`LockError::Broken`].
///
/// # Examples
///
/// ```
/// use nursery_io::sync::{Lock, LockError};
///
/// # nursery_testing::run(async {
/// let lock = Lock::new();
/// {
///     let _guard = lock.lock().await?;
///     assert!(matches!(lock.try_acquire(), Err(LockError::AlreadyHeld { .. })));
/// } // released
/// lock.acquire().await?; // or by hand
/// lock.release()?;
/// # anyhow::Ok(())
/// # }).unwrap();
/// ```
pub struct Lock {
    core: Rc<Core>,
}

pub(crate) struct Core {
    place: &'static Location<'static>,
    is_locked: Cell<bool>,
    /// How often it has been let go of: what is on its way is only good for the turn that it was made for.
    turn: Cell<u64>,
    /// Unknown while the lock is on its way.
    owner: Cell<Option<TaskId>>,
    /// Invariant 2.
    is_watched: Cell<bool>,
    /// Somebody came who found that the owner has ended.
    is_orphaned: Cell<bool>,
    pub(crate) lot: ParkingLot<Pass>,
}

/// The lock, on its way to a task. Dropped, it goes to the next.
pub(crate) struct Pass {
    /// Present until it has arrived.
    core: Option<Rc<Core>>,
    turn: u64,
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(core) = self.core.take()
            && self.turn == core.turn.get()
        {
            core.pass_on();
        }
    }
}

impl Lock {
    /// Makes a free lock. Errors call it by the place of this call.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        Lock {
            core: Rc::new(Core {
                place: Location::caller(),
                is_locked: Cell::new(false),
                turn: Cell::new(0),
                owner: Cell::new(None),
                is_watched: Cell::new(false),
                is_orphaned: Cell::new(false),
                lot: ParkingLot::new(),
            }),
        }
    }

    /// Acquires the lock for the current task, waiting for it if need be.
    ///
    /// [`lock`](Self::lock) is the same with a guard that releases it.
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
    pub fn acquire(&self) -> impl Future<Output = Result<(), LockError>> + use<'_> {
        self.core.acquire(&"a lock", Location::caller(), false)
    }

    /// Acquires the lock for the current task if it is free.
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
    pub fn try_acquire(&self) -> Result<(), LockError> {
        self.core.try_take()
    }

    /// Releases the lock: hands it to the first of those that wait.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// [`LockError::NotOwner`] if it is not the current task that holds it.
    ///
    /// # Panics
    ///
    /// Outside a task.
    #[track_caller]
    pub fn release(&self) -> Result<(), LockError> {
        self.core.check_owner()?;
        self.core.pass_on();
        Ok(())
    }

    /// Acquires the lock, and returns a guard that releases it.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it did nothing.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Panics
    ///
    /// Outside a run.
    #[track_caller]
    pub fn lock(&self) -> impl Future<Output = Result<LockGuard<'_>, LockError>> + use<'_> {
        let acquire = self.core.acquire(&"a lock", Location::caller(), false);
        guarded(acquire, || self.core.guard())
    }

    /// Acquires the lock if it is free, and returns a guard that releases it.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire).
    ///
    /// # Panics
    ///
    /// Outside a task.
    #[track_caller]
    pub fn try_lock(&self) -> Result<LockGuard<'_>, LockError> {
        self.core.try_take()?;
        Ok(self.core.guard())
    }

    /// Returns whether somebody holds it. It stays so while it is handed over, and when it is broken.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.core.is_locked.get()
    }

    /// Returns who holds it, and how many wait.
    #[must_use]
    pub fn statistics(&self) -> LockStatistics {
        LockStatistics {
            is_locked: self.is_locked(),
            owner: self.core.owner.get(),
            tasks_waiting: self.core.lot.len(),
        }
    }

    /// Another handle of the same lock.
    pub(crate) fn share(&self) -> Lock {
        Lock { core: self.core.clone() }
    }

    pub(crate) fn core(&self) -> &Rc<Core> {
        &self.core
    }
}

impl Core {
    #[inline]
    #[track_caller]
    pub(crate) fn try_take(&self) -> Result<(), LockError> {
        let task = current_task();
        if !self.is_locked.get() {
            self.is_locked.set(true);
            self.owner.set(Some(task));
            return Ok(());
        }
        Err(match self.owner.get() {
            Some(owner) if owner == task => LockError::AlreadyHeld { lock: self.place, owner },
            owner => LockError::WouldBlock { lock: self.place, owner },
        })
    }

    /// Acquires the lock. `is_checked` says that the current task has just passed a checkpoint.
    #[expect(clippy::manual_async_fn, reason = "an `async fn` would copy its arguments")]
    pub(crate) fn acquire<'a>(
        self: &'a Rc<Self>,
        what: &'static &'static str,
        place: &'static Location<'static>,
        is_checked: bool,
    ) -> impl Future<Output = Result<(), LockError>> + use<'a> {
        async move {
            if !is_checked {
                checkpoint_if_cancelled().await?;
            }
            let parked = if self.is_locked.get() && self.owner.get() != Some(current_task()) {
                if let Err(broken) = self.watch() {
                    self.is_orphaned.set(true);
                    return Err(self.broken(broken.by));
                }
                self.lot.park_as(what).at(place).await
            } else {
                self.try_take()?;
                let pass = self.pass();
                cancel_shielded_checkpoint().await;
                Ok(pass)
            };
            match parked {
                Ok(pass) => self.arrive(pass),
                Err(error) => Err(self.refused(error)),
            }
        }
    }

    /// The guard of a lock that the current task owns.
    pub(crate) fn guard(self: &Rc<Self>) -> LockGuard<'_> {
        LockGuard { core: self, task: self.owner.get() }
    }

    fn pass(self: &Rc<Self>) -> Pass {
        Pass { core: Some(self.clone()), turn: self.turn.get() }
    }

    /// The current task has got the lock, and owns it now.
    #[inline(always)] // what it returns would go through memory
    pub(crate) fn arrive(&self, mut pass: Pass) -> Result<(), LockError> {
        pass.core = None;
        let task = current_task();
        if self.owner.get() == Some(task) && self.turn.get() == pass.turn {
            return Ok(());
        }
        self.arrive_elsewhere(task, pass.turn)
    }

    #[cold]
    fn arrive_elsewhere(&self, task: TaskId, turn: u64) -> Result<(), LockError> {
        let owner = self.owner.get();
        if turn != self.turn.get() {
            // This very task has released it before the call that acquires it returned.
            return Err(LockError::NotOwner { lock: self.place, owner, task });
        }
        // The future was moved to another task after the lock had been handed to it.
        if !self.unwatch() {
            return Err(self.broken(owner.into_iter().collect()));
        }
        self.owner.set(Some(task));
        self.watch_if_waited_for();
        Ok(())
    }

    /// The current task's wait has ended without the lock.
    #[cold]
    pub(crate) fn refused(&self, error: ParkError) -> LockError {
        match error {
            ParkError::Broken(broken) => self.broken(broken.by),
            ParkError::Cancelled(cancelled) => LockError::Cancelled(cancelled),
            other => unreachable!("there is no third reason: {other}"),
        }
    }

    /// Errs unless the current task owns the lock.
    #[track_caller]
    pub(crate) fn check_owner(&self) -> Result<(), LockError> {
        let (owner, task) = (self.owner.get(), current_task());
        if owner == Some(task) {
            return Ok(());
        }
        Err(LockError::NotOwner { lock: self.place, owner, task })
    }

    /// Lets go of the lock: it belongs to the first waiter, or to nobody.
    pub(crate) fn pass_on(self: &Rc<Self>) {
        if self.lot.is_empty() {
            return self.set_free();
        }
        // It is not broken, since somebody waits. From here on the task that is woken owns it.
        let former = self.owner.take().filter(|_| self.is_watched.replace(false));
        self.turn.set(self.turn.get() + 1);
        let note = |task, is_watched| {
            self.owner.set(Some(task));
            self.is_watched.set(is_watched);
        };
        if let Err(mut pass) = self.lot.pass_on(self.pass(), former, note) {
            pass.core = None; // those who waited have gone with their run
            self.is_locked.set(false);
        }
    }

    fn set_free(&self) {
        if self.unwatch() {
            self.owner.set(None);
            self.turn.set(self.turn.get() + 1);
            self.is_locked.set(false);
        }
    }

    /// Makes the end of the owner break the lot. Errs if it has ended.
    #[inline]
    fn watch(&self) -> Result<(), Broken> {
        match self.owner.get() {
            Some(owner) if !self.is_watched.get() => self.watch_now(owner),
            _ => Ok(()),
        }
    }

    fn watch_now(&self, owner: TaskId) -> Result<(), Broken> {
        self.lot.add_breaker(owner)?;
        self.is_watched.set(true);
        Ok(())
    }

    pub(crate) fn watch_if_waited_for(&self) {
        if !self.lot.is_empty() {
            // One that has ended cannot be waited for: its successor finds out when it comes.
            let _ended = self.watch();
        }
    }

    /// Takes that back. Returns false if the lock is broken.
    fn unwatch(&self) -> bool {
        match self.owner.get() {
            Some(owner) if self.is_watched.replace(false) => {
                self.lot.remove_breaker(owner) || self.lot.broken_by().is_empty()
            }
            _ => !self.is_orphaned.get(),
        }
    }

    fn broken(&self, by: Vec<TaskId>) -> LockError {
        LockError::Broken { lock: self.place, by }
    }
}

impl Default for Lock {
    #[track_caller]
    fn default() -> Self {
        Lock::new()
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("is_locked", &self.is_locked())
            .field("owner", &self.core.owner.get())
            .field("tasks_waiting", &self.core.lot.len())
            .finish()
    }
}

/// Releases a [`Lock`] when it is dropped.
///
/// The lock belongs to the task that acquired it: if that task ends while somebody else still has the guard, all that wait
/// for the lock, or come before the guard is dropped, find it broken, and so it stays. If the task does not own the lock
/// any more (it released it by hand), the guard does nothing.
#[must_use = "dropped, it releases the lock"]
pub struct LockGuard<'a> {
    core: &'a Rc<Core>,
    task: Option<TaskId>,
}

impl Drop for LockGuard<'_> {
    fn drop(&mut self) {
        if self.task.is_some() && self.core.owner.get() == self.task {
            self.core.pass_on();
        }
    }
}

impl fmt::Debug for LockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").field("lock", &self.core.place).finish()
    }
}

/// Numbers of a [`Lock`] or a [`Mutex`](crate::sync::Mutex).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockStatistics {
    /// Does somebody hold it?
    pub is_locked: bool,
    /// The task that holds it.
    pub owner: Option<TaskId>,
    /// Tasks that wait for it.
    pub tasks_waiting: usize,
}

/// Why a [`Lock`], [`Mutex`](crate::sync::Mutex) or [`Condition`](crate::sync::Condition) refused.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LockError {
    /// The scope was cancelled.
    Cancelled(Cancelled),
    /// Another task holds the lock, or it is promised to one.
    #[non_exhaustive]
    WouldBlock {
        /// Where the lock was made.
        lock: &'static Location<'static>,
        /// Who holds it.
        owner: Option<TaskId>,
    },
    /// The current task holds the lock already.
    #[non_exhaustive]
    AlreadyHeld {
        /// Where the lock was made.
        lock: &'static Location<'static>,
        /// The current task.
        owner: TaskId,
    },
    /// The current task does not hold the lock.
    #[non_exhaustive]
    NotOwner {
        /// Where the lock was made.
        lock: &'static Location<'static>,
        /// Who holds it.
        owner: Option<TaskId>,
        /// The current task.
        task: TaskId,
    },
    /// The owner of the lock has ended without releasing it.
    #[non_exhaustive]
    Broken {
        /// Where the lock was made.
        lock: &'static Location<'static>,
        /// The task that has ended.
        by: Vec<TaskId>,
    },
}

impl From<Cancelled> for LockError {
    fn from(cancelled: Cancelled) -> Self {
        LockError::Cancelled(cancelled)
    }
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Cancelled(cancelled) => cancelled.fmt(f),
            LockError::WouldBlock { lock, owner: Some(owner) } => {
                write!(f, "the lock made at {lock} is held by {owner:?}")
            }
            LockError::WouldBlock { lock, owner: None } => {
                write!(f, "the lock made at {lock} is being handed over")
            }
            LockError::AlreadyHeld { lock, owner } => {
                write!(f, "the lock made at {lock} is already held by this task, {owner:?}")
            }
            LockError::NotOwner { lock, owner: Some(owner), task } => {
                write!(
                    f,
                    "the lock made at {lock} is held by {owner:?}, not by this task, {task:?}"
                )
            }
            LockError::NotOwner { lock, owner: None, task } => {
                write!(f, "the lock made at {lock} is not held by this task, {task:?}")
            }
            LockError::Broken { lock, by } => {
                write!(f, "the lock made at {lock} was never released by {by:?}, which has ended")
            }
        }
    }
}

impl std::error::Error for LockError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LockError::Cancelled(cancelled) => Some(cancelled),
            _ => None,
        }
    }
}

impl From<LockError> for io::Error {
    fn from(error: LockError) -> Self {
        match error {
            LockError::WouldBlock { .. } => io::Error::new(io::ErrorKind::WouldBlock, error),
            other => io::Error::other(other),
        }
    }
}
