//! [`finally`]: clean-up that runs whatever happened, shielded, within a time limit of its own.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use crate::error::{ErrorGroup, TaskError, TooSlow};
use crate::time::move_on_after;

/// Runs `body`, then `cleanup`, whatever the body did: it returned, failed, was cancelled or panicked.
///
/// The clean-up is ordinary async code. It is shielded, so that it can wait although the task is cancelled, and
/// it has a time limit, so that it cannot hold up the end of the program. It begins after the body has been
/// dropped.
///
/// # Cancellation
///
/// Not a checkpoint of its own; the clean-up is shielded. *Dropped*, it drops the body, and the
/// clean-up does not run: nothing async can. What must happen then too belongs into a `Drop`.
///
/// # Errors
///
/// Those of the body and of the clean-up; if both fail, a group of the two, in this order, so that no error is
/// lost, whichever of them is a cancellation. A clean-up that exceeds `limit` is cancelled, and counts as failed with
/// [`TooSlow`].
///
/// # Panics
///
/// With the panic of the body, after the clean-up; with that of the clean-up.
///
/// # Examples
///
/// ```
/// use nursery::{finally, move_on_after, sleep, sleep_forever};
/// use std::cell::Cell;
/// use std::time::Duration;
///
/// # nursery::run(async {
/// let said_goodbye = Cell::new(false);
/// let connection = finally(
///     async { Ok(sleep_forever().await?) },
///     Duration::from_secs(1),
///     async || {
///         sleep(Duration::from_millis(1)).await?; // works, although cancelled
///         said_goodbye.set(true);
///         anyhow::Ok(())
///     },
/// );
/// move_on_after(Duration::from_millis(1), connection).await?;
/// assert!(said_goodbye.get());
/// # anyhow::Ok(())
/// # }).unwrap();
/// ```
pub async fn finally<T, E, C>(
    body: impl Future<Output = Result<T, E>>,
    limit: Duration,
    cleanup: C,
) -> Result<T, E>
where
    E: TaskError + From<TooSlow>,
    C: AsyncFnOnce() -> Result<(), E>,
{
    let result = catching(body).await;
    let cleaned = move_on_after(limit, cleanup()).shielded().await;
    let cleaned = cleaned.and_then(|done| done.ok_or_else(|| TooSlow::new(Some(limit)).into()));
    match (result, cleaned) {
        (Err(panic), _) => resume_unwind(panic),
        (Ok(result), Ok(())) => result,
        (Ok(Ok(_)), Err(error)) => Err(error),
        (Ok(Err(first)), Err(second)) => Err(ErrorGroup::new(vec![first, second]).into()),
    }
}

/// Polls a future to its end, or to its panic, and drops it.
async fn catching<F: Future>(future: F) -> thread::Result<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}
