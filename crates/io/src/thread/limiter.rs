//! [`Limiter`]: how many threads there may be at a time.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;

use nursery::RunLocal;

use crate::sync::{Borrower, CapacityLimiter};

/// Decides how many threads may work at a time: a [`CapacityLimiter`], or something of your own that also does
/// other things: count, ask a server, prefer somebody.
///
/// Given to [`Call::limiter`](crate::thread::to_thread::Call::limiter). The borrower stands for one thread.
///
/// # Examples
///
/// ```
/// use std::cell::Cell;
/// use std::future::Future;
/// use std::io;
/// use std::pin::Pin;
/// use std::rc::Rc;
/// use nursery_io::sync::Borrower;
/// use nursery_io::thread::{Limiter, to_thread};
///
/// #[derive(Default)]
/// struct Counting(Cell<u32>);
///
/// impl Limiter for Counting {
///     fn acquire_on_behalf_of<'a>(
///         &'a self,
///         _: &'a Borrower,
///     ) -> Pin<Box<dyn Future<Output = io::Result<()>> + 'a>> {
///         self.0.set(self.0.get() + 1);
///         Box::pin(async { Ok(()) })
///     }
///     fn release_on_behalf_of(&self, _: &Borrower) -> io::Result<()> {
///         Ok(())
///     }
/// }
///
/// # nursery_testing::run(async {
/// let count = Rc::new(Counting::default());
/// to_thread::run_sync(|| {}).limiter(&count).await?;
/// assert_eq!(count.0.get(), 1);
/// # Ok::<(), io::Error>(())
/// # }).unwrap();
/// ```
pub trait Limiter: 'static {
    /// Waits until there may be one more thread.
    ///
    /// # Cancellation
    ///
    /// Is to be a checkpoint; cancelled or dropped, it did nothing.
    ///
    /// # Errors
    ///
    /// An error takes the place of the call. A cancellation is to be held by the [`io::Error`].
    fn acquire_on_behalf_of<'a>(
        &'a self,
        borrower: &'a Borrower,
    ) -> Pin<Box<dyn Future<Output = io::Result<()>> + 'a>>;

    /// Called when the thread has really ended, by the run, between its tasks.
    ///
    /// # Errors
    ///
    /// An error takes the place of the thread's result. If nobody waits for that any more, it is lost.
    fn release_on_behalf_of(&self, borrower: &Borrower) -> io::Result<()>;
}

impl Limiter for CapacityLimiter {
    fn acquire_on_behalf_of<'a>(
        &'a self,
        borrower: &'a Borrower,
    ) -> Pin<Box<dyn Future<Output = io::Result<()>> + 'a>> {
        Box::pin(async move {
            let token = CapacityLimiter::acquire_on_behalf_of(self, borrower).await;
            token.map_err(acquire_error)?.forget();
            Ok(())
        })
    }

    fn release_on_behalf_of(&self, borrower: &Borrower) -> io::Result<()> {
        Ok(CapacityLimiter::release_on_behalf_of(self, borrower)?)
    }
}

fn acquire_error(error: crate::sync::LimiterError) -> io::Error {
    match error {
        crate::sync::LimiterError::Cancelled(cancelled) => cancelled.into(),
        other => other.into(),
    }
}

/// As many threads as trio allows: for waiting, not for computing, of which fewer would do.
const DEFAULT_TOTAL: usize = 40;

static DEFAULT: RunLocal<CapacityLimiter> =
    RunLocal::with_default(|| CapacityLimiter::new(DEFAULT_TOTAL));

/// Returns the limiter of this run's threads that are given no other: 40 tokens, which can be changed.
///
/// A thread that goes back into the run, where something needs another thread, holds its token meanwhile: 40 of these
/// wait for each other for ever. Give the inner ones a limiter of their own. (To lend a token while its thread waits would
/// let the number of threads grow without bound, and that is what the limit is for.)
///
/// # Panics
///
/// Outside a run.
///
/// # Examples
///
/// ```
/// use nursery_io::thread::default_limiter;
///
/// # nursery_testing::run(async {
/// default_limiter().set_total_tokens(8);
/// # Ok::<(), nursery::Cancelled>(())
/// # }).unwrap();
/// ```
#[must_use]
#[track_caller]
pub fn default_limiter() -> Rc<CapacityLimiter> {
    DEFAULT.get_shared().expect("it has a default")
}
