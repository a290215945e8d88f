//! [`assert_checkpoints`] and [`assert_no_checkpoints`]: whether a piece of code can be cancelled, and lets others run.

use std::future::Future;
use std::panic::Location;

use nursery::lowlevel::{Points, points};

/// Runs `f`, and fails unless it passed a cancel point and a schedule point: if not one call with both, then two.
///
/// If `f` returns an error nothing is checked: an operation that fails need not be a checkpoint.
///
/// # Cancellation
///
/// As `f`.
///
/// # Errors
///
/// That of `f`.
///
/// # Panics
///
/// If one of the two was missing; outside a task.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use nursery::sleep;
/// use nursery_testing::assert_checkpoints;
///
/// # nursery_testing::run(async {
/// assert_checkpoints(sleep(Duration::ZERO)).await
/// # }).unwrap();
/// ```
#[track_caller]
pub fn assert_checkpoints<T, E>(
    f: impl Future<Output = Result<T, E>>,
) -> impl Future<Output = Result<T, E>> {
    let place = Location::caller();
    async move {
        let before = points();
        let value = f.await?;
        let passed = Passed::since(before);
        assert!(
            passed.cancel > 0 && passed.schedule > 0,
            "the code at {place} is not a checkpoint: {passed}"
        );
        Ok(value)
    }
}

/// Runs `f`, and fails if it passed a cancel point or a schedule point; also if it returns an error.
///
/// # Cancellation
///
/// As `f`: it is not to be a checkpoint.
///
/// # Panics
///
/// If there was one; outside a task.
///
/// # Examples
///
/// ```
/// use nursery_testing::assert_no_checkpoints;
///
/// # nursery_testing::run(async {
/// let answer = assert_no_checkpoints(async { 6 * 7 }).await;
/// assert_eq!(answer, 42);
/// # Ok::<(), nursery::Cancelled>(())
/// # }).unwrap();
/// ```
#[track_caller]
pub fn assert_no_checkpoints<T>(f: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = Location::caller();
    async move {
        let before = points();
        let value = f.await;
        let passed = Passed::since(before);
        assert!(
            passed.cancel == 0 && passed.schedule == 0,
            "the code at {place} is not to be a checkpoint: {passed}"
        );
        value
    }
}

struct Passed {
    cancel: u32,
    schedule: u32,
}

impl Passed {
    fn since(before: Points) -> Self {
        let now = points();
        Passed {
            cancel: now.cancel.wrapping_sub(before.cancel),
            schedule: now.schedule.wrapping_sub(before.schedule),
        }
    }
}

impl std::fmt::Display for Passed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "it passed {} cancel points and {} schedule points", self.cancel, self.schedule)
    }
}
