//! [`Barrier`]: nobody goes on before all have come.

use std::fmt;
use std::future::Future;
use std::panic::Location;

use nursery::Cancelled;
use nursery::lowlevel::{ParkingLot, cancel_shielded_checkpoint, checkpoint_if_cancelled};

use crate::sync::only_cancelled;

/// Lets tasks go on in groups: each waits until as many have come as the group has.
///
/// It can be used again at once: who comes next begins the next group. A task that gives up (cancelled, or dropped,
/// before its group is complete) has not come.
///
/// # Examples
///
/// ```
/// use std::cell::Cell;
/// use nursery::{Cancelled, open_nursery};
/// use nursery_io::sync::Barrier;
///
/// # nursery_testing::run(async {
/// let (barrier, arrived) = (Barrier::new(3), Cell::new(0));
/// open_nursery(async |n| {
///     for _ in 0..3 {
///         n.start_soon(async {
///             arrived.set(arrived.get() + 1);
///             barrier.wait().await?;
///             assert_eq!(arrived.get(), 3);
///             Ok(())
///         });
///     }
///     Ok::<(), Cancelled>(())
/// })
/// .await
/// # }).unwrap();
/// ```
pub struct Barrier {
    size: usize,
    waiting: ParkingLot,
}

impl Barrier {
    /// Makes a barrier for groups of `size` tasks. With 0 or 1, nobody waits.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Barrier { size, waiting: ParkingLot::new() }
    }

    /// Waits until the group is complete. One of the group, the last to come, is told that it is the leader.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled, or dropped before the group is complete, it did nothing.
    ///
    /// # Errors
    ///
    /// [`Cancelled`].
    ///
    /// # Panics
    ///
    /// Outside a run.
    #[track_caller]
    pub fn wait(&self) -> impl Future<Output = Result<BarrierWait, Cancelled>> + use<'_> {
        let place = Location::caller();
        async move {
            checkpoint_if_cancelled().await?;
            if self.waiting.len() + 1 < self.size {
                only_cancelled(self.waiting.park_as("a barrier").at(place).await)?;
                return Ok(BarrierWait { is_leader: false });
            }
            self.waiting.unpark_all();
            cancel_shielded_checkpoint().await;
            Ok(BarrierWait { is_leader: true })
        }
    }

    /// Returns the size of a group, and how many wait for theirs to be complete.
    #[must_use]
    pub fn statistics(&self) -> BarrierStatistics {
        BarrierStatistics { size: self.size, tasks_waiting: self.waiting.len() }
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("size", &self.size)
            .field("tasks_waiting", &self.waiting.len())
            .finish()
    }
}

/// What a task learns at a [`Barrier`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWait {
    is_leader: bool,
}

impl BarrierWait {
    /// Returns whether this task was the last of its group.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.is_leader
    }
}

/// Numbers of a [`Barrier`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BarrierStatistics {
    /// How many tasks make a group.
    pub size: usize,
    /// Tasks that have come.
    pub tasks_waiting: usize,
}
