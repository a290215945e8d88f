//! [`Semaphore`]: a number of permits, given and taken by anybody.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::rc::Rc;

use nursery::Cancelled;
use nursery::lowlevel::{ParkingLot, cancel_shielded_checkpoint, checkpoint_if_cancelled};

use crate::sync::quick::{Rest, quick};
use crate::sync::{WouldBlock, only_cancelled};

/// A number of permits that tasks take, and give back or add to.
///
/// It does not know who has them: one task may release what another acquired. To limit how many tasks do something
/// at a time, a [`CapacityLimiter`](crate::sync::CapacityLimiter) is better: it knows who is inside, and can be
/// resized.
///
/// # Examples
///
/// ```
/// use nursery_io::sync::Semaphore;
///
/// # nursery_testing::run(async {
/// let permits = Semaphore::new(1);
/// {
///     let _permit = permits.acquire().await?;
///     assert!(permits.try_acquire().is_err());
/// } // given back
/// permits.acquire().await?.forget(); // kept, until somebody …
/// permits.release()?; // … releases one
/// assert_eq!(permits.value(), 1);
/// # anyhow::Ok(())
/// # }).unwrap();
/// ```
pub struct Semaphore {
    core: Rc<Core>,
}

struct Core {
    /// Zero while anybody waits.
    value: Cell<usize>,
    max: Option<usize>,
    waiting: ParkingLot<Handed>,
}

/// A permit, on its way to a waiter. Dropped, it goes to the next.
struct Handed(Option<Rc<Core>>);

impl Drop for Handed {
    fn drop(&mut self) {
        if let Some(core) = self.0.take() {
            core.give_back();
        }
    }
}

impl Semaphore {
    /// Makes a semaphore with `initial` permits, to which any number may be added.
    #[must_use]
    pub fn new(initial: usize) -> Self {
        let (value, waiting) = (Cell::new(initial), ParkingLot::new());
        Semaphore { core: Rc::new(Core { value, max: None, waiting }) }
    }

    /// Makes a semaphore with `initial` permits, that never has more than `max`: a [`Permit`] that is dropped when all are
    /// there adds none.
    ///
    /// # Panics
    ///
    /// If `initial` is more than `max`.
    #[must_use]
    #[track_caller]
    pub fn with_max(initial: usize, max: usize) -> Self {
        assert!(initial <= max, "a semaphore of at most {max} permits cannot begin with {initial}");
        let (value, waiting) = (Cell::new(initial), ParkingLot::new());
        Semaphore { core: Rc::new(Core { value, max: Some(max), waiting }) }
    }

    /// Takes a permit, waiting for one if need be. Dropped, it is given back.
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
    pub fn acquire(&self) -> impl Future<Output = Result<Permit<'_>, Cancelled>> + use<'_> {
        let place = Location::caller();
        let at_once = |()| self.try_acquire().map(Ok).map_err(drop);
        quick((), at_once, move |(), is_tried| Rest::Slow(self.acquire_slowly(is_tried, place)))
    }

    #[expect(clippy::manual_async_fn, reason = "an `async fn` would copy its arguments")]
    fn acquire_slowly(
        &self,
        is_tried: bool,
        place: &'static Location<'static>,
    ) -> impl Future<Output = Result<Permit<'_>, Cancelled>> {
        async move {
            if !is_tried {
                checkpoint_if_cancelled().await?;
                if let Ok(permit) = self.try_acquire() {
                    cancel_shielded_checkpoint().await;
                    return Ok(permit);
                }
            }
            let parked = self.core.waiting.park_as("a semaphore").at(place).await;
            only_cancelled(parked)?.0 = None;
            Ok(Permit { core: &self.core })
        }
    }

    /// Takes a permit if there is one.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`].
    pub fn try_acquire(&self) -> Result<Permit<'_>, WouldBlock> {
        let Some(rest) = self.core.value.get().checked_sub(1) else { return Err(WouldBlock) };
        self.core.value.set(rest);
        Ok(Permit { core: &self.core })
    }

    /// Adds a permit: it goes to the task that has waited longest, if any waits.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// [`TooManyPermits`] if there are as many as there may be: then nothing happened.
    pub fn release(&self) -> Result<(), TooManyPermits> {
        self.add_permits(1)
    }

    /// Adds permits: they go to the tasks that have waited longest, as far as any wait.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// [`TooManyPermits`] if there would be more than there may be: then nothing happened.
    pub fn add_permits(&self, count: usize) -> Result<(), TooManyPermits> {
        let core = &self.core;
        let taken = count.min(core.waiting.len());
        let max = core.max.unwrap_or(usize::MAX);
        let value = core.value.get().checked_add(count - taken).filter(|value| *value <= max);
        core.value.set(value.ok_or(TooManyPermits { max, count })?);
        for _ in 0..taken {
            core.hand_over();
        }
        Ok(())
    }

    /// Returns how many permits there are to take.
    #[must_use]
    pub fn value(&self) -> usize {
        self.core.value.get()
    }

    /// Returns how many permits there may be.
    #[must_use]
    pub fn max_value(&self) -> Option<usize> {
        self.core.max
    }

    /// Returns the number of permits, and how many tasks wait.
    #[must_use]
    pub fn statistics(&self) -> SemaphoreStatistics {
        SemaphoreStatistics {
            value: self.value(),
            max_value: self.max_value(),
            tasks_waiting: self.core.waiting.len(),
        }
    }
}

impl Core {
    fn give_back(self: &Rc<Self>) {
        if self.waiting.is_empty() {
            let max = self.max.unwrap_or(usize::MAX);
            self.value.set(self.value.get().saturating_add(1).min(max));
        } else {
            self.hand_over();
        }
    }

    /// Hands a permit to the first waiter, or puts it back if there is none after all.
    fn hand_over(self: &Rc<Self>) {
        let undelivered = self.waiting.hand_over(Handed(Some(self.clone()))).err();
        drop(undelivered);
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("value", &self.value())
            .field("max_value", &self.max_value())
            .field("tasks_waiting", &self.core.waiting.len())
            .finish()
    }
}

/// A permit of a [`Semaphore`], until it is dropped.
#[must_use = "dropped, it gives the permit back"]
pub struct Permit<'a> {
    core: &'a Rc<Core>,
}

impl Permit<'_> {
    /// Keeps the permit from being given back. What becomes of it is up to you: see [`Semaphore::release`].
    #[expect(clippy::mem_forget, reason = "it owns nothing but the duty to give the permit back")]
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.core.give_back();
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

/// Numbers of a [`Semaphore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SemaphoreStatistics {
    /// Permits to take.
    pub value: usize,
    /// How many there may be.
    pub max_value: Option<usize>,
    /// Tasks that wait for one.
    pub tasks_waiting: usize,
}

/// A [`Semaphore`] cannot have more permits than its maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TooManyPermits {
    /// How many there may be.
    pub max: usize,
    /// How many were to be added.
    pub count: usize,
}

impl fmt::Display for TooManyPermits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TooManyPermits { max, count } = self;
        write!(f, "{count} more would be too many permits for a semaphore of at most {max}")
    }
}

impl std::error::Error for TooManyPermits {}

impl From<TooManyPermits> for std::io::Error {
    fn from(error: TooManyPermits) -> Self {
        std::io::Error::other(error)
    }
}
