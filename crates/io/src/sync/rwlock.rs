//! [`RwLock`]: many readers, or one writer.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::rc::Rc;

use nursery::Cancelled;
use nursery::lowlevel::{cancel_shielded_checkpoint, checkpoint_if_cancelled};

use crate::sync::WouldBlock;
use crate::sync::line::{Line, Seat};

/// Some data that many tasks may read, or one may write, also across checkpoints.
///
/// Fair between tasks: readers and writers stand in one queue, so neither can starve the other. A reader that
/// comes while a writer waits, waits behind it. It follows that a task must not read twice at a time: a
/// writer that comes in between makes it wait for itself. It has no owner: a guard may be dropped anywhere, and one
/// that is leaked locks it for ever.
///
/// # Examples
///
/// ```
/// use nursery::Cancelled;
/// use nursery_io::sync::RwLock;
///
/// # nursery_testing::run(async {
/// let config = RwLock::new(String::from("old"));
/// {
///     let (a, b) = (config.read().await?, config.read().await?);
///     assert_eq!(*a, *b);
///     assert!(config.try_write().is_err());
/// }
/// *config.write().await? = String::from("new");
/// assert_eq!(config.into_inner(), "new");
/// # Ok::<(), Cancelled>(())
/// # }).unwrap();
/// ```
pub struct RwLock<T> {
    value: RefCell<T>,
    core: Core,
}

struct Core {
    readers: Cell<usize>,
    is_written: Cell<bool>,
    waiting: Line<Data>,
}

/// What a waiter wants, and whether it has it.
#[derive(Default)]
struct Data {
    writes: Cell<bool>,
    is_granted: Cell<bool>,
}

impl<T> RwLock<T> {
    /// Makes an unlocked lock.
    pub fn new(value: T) -> Self {
        let (readers, is_written) = (Cell::new(0), Cell::new(false));
        let core = Core { readers, is_written, waiting: Line::new() };
        RwLock { value: RefCell::new(value), core }
    }

    /// Locks the data for reading, waiting for it if need be.
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
    pub fn read(&self) -> impl Future<Output = Result<ReadGuard<'_, T>, Cancelled>> + use<'_, T> {
        let place = Location::caller();
        async move {
            let held = self.core.lock(false, place).await?;
            Ok(ReadGuard { value: self.value.borrow(), _held: held })
        }
    }

    /// Locks the data for writing, waiting for it if need be.
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
    pub fn write(&self) -> impl Future<Output = Result<WriteGuard<'_, T>, Cancelled>> + use<'_, T> {
        let place = Location::caller();
        async move {
            let held = self.core.lock(true, place).await?;
            Ok(WriteGuard { value: self.value.borrow_mut(), _held: held })
        }
    }

    /// Locks the data for reading, if nobody writes or waits.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`].
    pub fn try_read(&self) -> Result<ReadGuard<'_, T>, WouldBlock> {
        let held = self.core.try_lock(false).ok_or(WouldBlock)?;
        Ok(ReadGuard { value: self.value.borrow(), _held: held })
    }

    /// Locks the data for writing, if nobody has it or waits.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`].
    pub fn try_write(&self) -> Result<WriteGuard<'_, T>, WouldBlock> {
        let held = self.core.try_lock(true).ok_or(WouldBlock)?;
        Ok(WriteGuard { value: self.value.borrow_mut(), _held: held })
    }

    /// Returns the data, which nobody else can have.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Returns the data.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    /// Returns how many read, write and wait.
    #[must_use]
    pub fn statistics(&self) -> RwLockStatistics {
        RwLockStatistics {
            readers: self.core.readers.get(),
            is_written: self.core.is_written.get(),
            tasks_waiting: self.core.waiting.len(),
        }
    }
}

impl Core {
    fn is_free_for(&self, writes: bool) -> bool {
        !self.is_written.get() && (!writes || self.readers.get() == 0)
    }

    fn take(&self, writes: bool) {
        if writes {
            self.is_written.set(true);
        } else {
            self.readers.set(self.readers.get() + 1);
        }
    }

    fn try_lock(&self, writes: bool) -> Option<Held<'_>> {
        if !self.is_free_for(writes) || !self.waiting.is_empty() {
            return None;
        }
        self.take(writes);
        Some(Held { core: self, writes })
    }

    async fn lock(
        &self,
        writes: bool,
        place: &'static Location<'static>,
    ) -> Result<Held<'_>, Cancelled> {
        checkpoint_if_cancelled().await?;
        if let Some(held) = self.try_lock(writes) {
            cancel_shielded_checkpoint().await;
            return Ok(held);
        }
        let seat = self.waiting.enter(|data| data.writes.set(writes));
        let waiting = Waiting { core: self, seat: Some(seat) };
        let what = if writes { "a lock, to write" } else { "a lock, to read" };
        waiting.seat().park(what, place).await?;
        waiting.seat().data.is_granted.set(false);
        Ok(Held { core: self, writes })
    }

    /// Lets in whom it can.
    fn grant(&self) {
        while let Some(seat) = self.waiting.next(|data| self.is_free_for(data.writes.get())) {
            self.take(seat.data.writes.get());
            seat.data.is_granted.set(true);
            seat.wake();
        }
    }

    fn release(&self, writes: bool) {
        if writes {
            self.is_written.set(false);
        } else {
            self.readers.set(self.readers.get() - 1);
        }
        self.grant();
    }
}

/// A place in the queue. Dropped, it leaves the queue, or releases what it was granted.
struct Waiting<'a> {
    core: &'a Core,
    /// Present until it is dropped.
    seat: Option<Rc<Seat<Data>>>,
}

impl Waiting<'_> {
    fn seat(&self) -> &Seat<Data> {
        self.seat.as_deref().expect("not dropped")
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(seat) = self.seat.take() else { return };
        let (writes, is_granted) = (seat.data.writes.get(), seat.data.is_granted.take());
        self.core.waiting.leave(seat);
        if is_granted {
            self.core.release(writes);
        } else {
            self.core.grant(); // a writer that gives up may have held up readers
        }
    }
}

struct Held<'a> {
    core: &'a Core,
    writes: bool,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.core.release(self.writes);
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        RwLock::new(T::default())
    }
}

impl<T: fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lock = f.debug_struct("RwLock");
        match self.value.try_borrow() {
            Ok(value) => lock.field("value", &*value),
            Err(_) => lock.field("value", &format_args!("<locked>")),
        };
        lock.field("tasks_waiting", &self.core.waiting.len()).finish()
    }
}

/// The data of an [`RwLock`], to read, until it is dropped.
#[must_use = "dropped, it unlocks the lock"]
pub struct ReadGuard<'a, T> {
    // First, so that the data is let go before the lock is.
    value: Ref<'a, T>,
    _held: Held<'a>,
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for ReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadGuard").field(&*self.value).finish()
    }
}

/// The data of an [`RwLock`], to write, until it is dropped.
#[must_use = "dropped, it unlocks the lock"]
pub struct WriteGuard<'a, T> {
    // First, so that the data is let go before the lock is.
    value: RefMut<'a, T>,
    _held: Held<'a>,
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for WriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WriteGuard").field(&*self.value).finish()
    }
}

/// Numbers of an [`RwLock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RwLockStatistics {
    /// Tasks that read.
    pub readers: usize,
    /// Does one write?
    pub is_written: bool,
    /// Tasks that wait for either.
    pub tasks_waiting: usize,
}
