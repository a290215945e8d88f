//! [`NurseryHandle`]: a nursery that can be kept in a struct, for children that borrow nothing.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::rc::Rc;

use crate::error::TaskError;
use crate::nursery::child::Child;
use crate::nursery::{ChildEnd, Core, erase};
use crate::scope::CancelScope;

/// A handle of an open nursery, from [`Nursery::handle`](crate::Nursery::handle).
///
/// Clone it and keep it where a `&Nursery` cannot go. It does not keep the nursery open: after the end,
/// [`start_soon`](Self::start_soon) gives the future back.
///
/// # Examples
///
/// ```
/// use nursery::{NurseryHandle, open_nursery};
///
/// struct Pool { nursery: NurseryHandle<anyhow::Error> }
///
/// # nursery::run(async {
/// let pool = open_nursery(async |n| -> anyhow::Result<Pool> {
///     let pool = Pool { nursery: n.handle() };
///     pool.nursery.start_soon(async { Ok(()) })?;
///     Ok(pool)
/// })
/// .await?;
/// assert!(pool.nursery.start_soon(async { Ok(()) }).is_err());
/// # Ok::<(), anyhow::Error>(())
/// # }).unwrap();
/// ```
pub struct NurseryHandle<E> {
    pub(crate) core: Rc<Core<E>>,
}

impl<E: TaskError> NurseryHandle<E> {
    pub(crate) fn new(core: Rc<Core<E>>) -> Self {
        NurseryHandle { core }
    }

    /// Starts a child, and goes on. See [`Nursery::start_soon`](crate::Nursery::start_soon).
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// [`NurseryClosed`], which gives the future back, if the nursery has ended.
    #[track_caller]
    pub fn start_soon<T: 'static, F>(&self, child: F) -> Result<Child<'static, T>, NurseryClosed<F>>
    where
        F: Future<Output = Result<T, E>> + 'static,
        E: 'static,
    {
        if self.core.closed.get() {
            return Err(NurseryClosed(child));
        }
        let place = Location::caller();
        let birth = self.core.admit(place);
        let done = ChildEnd(self.core.clone());
        let run = &self.core.run;
        Ok(Child::new(erase::spawn_static(run, child, done, birth), run))
    }

    /// Returns the nursery's own cancel scope.
    #[must_use]
    pub fn cancel_scope(&self) -> &CancelScope {
        self.core.scope()
    }

    /// Returns whether the nursery has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.core.closed.get()
    }
}

impl<E> Clone for NurseryHandle<E> {
    fn clone(&self) -> Self {
        NurseryHandle { core: self.core.clone() }
    }
}

impl<E> fmt::Debug for NurseryHandle<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NurseryHandle").field("closed", &self.core.closed.get()).finish()
    }
}

/// The nursery has ended and takes no more children; the future is given back, and was not polled.
pub struct NurseryClosed<F>(pub F);

impl<F> fmt::Debug for NurseryClosed<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NurseryClosed")
    }
}

impl<F> fmt::Display for NurseryClosed<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the nursery has ended and takes no more children")
    }
}

impl<F> std::error::Error for NurseryClosed<F> {}
