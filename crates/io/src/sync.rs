//! What tasks agree by: events, locks, semaphores, conditions, barriers.
//!
//! | to | use |
//! |---|---|
//! | tell everybody that something has happened | [`Event`] |
//! | let one task at a time at some data | [`Mutex`] |
//! | let many read, or one write | [`RwLock`] |
//! | let one task at a time into a stretch of code | [`Lock`] |
//! | wait until data that a lock guards has changed | [`Condition`] |
//! | let a number of tasks in at a time | [`CapacityLimiter`] |
//! | count something that is given and taken by different tasks | [`Semaphore`] |
//! | let several tasks arrive before any goes on | [`Barrier`] |
//! | compute a value once, whoever asks first | [`OnceCell`] |
//!
//! # Fairness
//!
//! First come, first served; and a newcomer, even one that only tries, never overtakes those that wait: what is
//! released is handed to the first of them, which has it from that moment on, before it runs. A task that is
//! cancelled leaves the queue, and the others keep their order. A task to which something was handed before it
//! was cancelled has it. If its future is *dropped* instead, what was handed to it goes to the next.
//!
//! # One run
//!
//! They can be made anywhere, also outside a run; but tasks that wait at the same object belong to the same run. They are
//! shared by reference: children of a nursery borrow.

mod barrier;
mod condition;
mod event;
mod limiter;
pub(crate) mod line;
mod lock;
mod mutex;
mod once;
pub(crate) mod quick;
mod rwlock;
mod semaphore;

use std::fmt;
use std::io;

use nursery::Cancelled;
use nursery::lowlevel::ParkError;

pub use crate::sync::barrier::{Barrier, BarrierStatistics, BarrierWait};
pub use crate::sync::condition::{Condition, ConditionStatistics};
pub use crate::sync::event::{Event, EventStatistics};
pub use crate::sync::limiter::{Borrower, CapacityLimiter, LimiterError, LimiterStatistics, Token};
pub use crate::sync::lock::{Lock, LockError, LockGuard, LockStatistics};
pub use crate::sync::mutex::{Mutex, MutexGuard};
pub use crate::sync::once::OnceCell;
pub use crate::sync::rwlock::{ReadGuard, RwLock, RwLockStatistics, WriteGuard};
pub use crate::sync::semaphore::{Permit, Semaphore, SemaphoreStatistics, TooManyPermits};

/// A `try_` operation could not be done at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WouldBlock;

impl fmt::Display for WouldBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it could not be done without waiting")
    }
}

impl std::error::Error for WouldBlock {}

impl From<WouldBlock> for io::Error {
    fn from(error: WouldBlock) -> Self {
        io::Error::new(io::ErrorKind::WouldBlock, error)
    }
}

/// The result of parking in a lot that nobody breaks.
pub(crate) fn only_cancelled<V>(result: Result<V, ParkError>) -> Result<V, Cancelled> {
    result.map_err(|error| match error {
        ParkError::Cancelled(cancelled) => cancelled,
        other => unreachable!("a lot without an owner is not broken: {other}"),
    })
}
