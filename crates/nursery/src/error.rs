//! What a task may fail with: [`Cancelled`], [`ErrorGroup`], [`TooSlow`], and the trait that ties them together.
//!
//! A task fails with an error type of the user's choice. The framework needs three things of it
//! ([`TaskError`]): it can be made from a [`Cancelled`] (so that `?` carries one out), it can be made
//! from a group (a nursery always groups), and it can tell whether it *is* one of the two (so that the
//! scope that was cancelled recognises its own cancellation when it comes back).

mod group;
mod impls;

pub use group::{ErrorGroup, Leaves};

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::scope::reason::CancelReason;

/// The operation did not happen, because its scope was cancelled.
///
/// Every checkpoint of a cancelled task returns it, as often as the task asks, until the task has
/// left the cancelled scope: cancellation is a state, not an event. Carry it out with `?`; the scope
/// that was cancelled absorbs it.
///
/// It cannot be made by users, only passed on:
///
/// ```compile_fail
/// let forged = nursery::Cancelled(todo!());
/// ```
///
/// # Examples
///
/// ```
/// use nursery::{CancelScope, Cancelled, checkpoint};
///
/// # nursery::run(async {
/// let scope = CancelScope::new();
/// scope.cancel_because("the user changed their mind");
/// let done = scope
///     .enter(async {
///         let error: Cancelled = checkpoint().await.unwrap_err();
///         assert_eq!(error.reason().text(), Some("the user changed their mind"));
///         Err::<(), _>(error)
///     })
///     .await?;
/// assert_eq!(done, None); // the scope absorbed it
/// # Ok::<(), Cancelled>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Cancelled(pub(crate) Arc<CancelReason>);

impl Cancelled {
    /// Returns why, and by whom, the scope was cancelled.
    #[must_use]
    pub fn reason(&self) -> &CancelReason {
        &self.0
    }
}

impl fmt::Debug for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cancelled({})", self.0)
    }
}

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cancelled due to {}", self.0)
    }
}

impl Error for Cancelled {}

/// What a task may fail with.
///
/// Implemented for [`anyhow::Error`](https://docs.rs/anyhow) (feature `anyhow`, on by default),
/// [`std::io::Error`] and [`Cancelled`]; for an enum of your own write `#[derive(TaskError)]`.
///
/// It is deliberately *not* implemented for `Box<dyn Error>`: as a nursery's error that type would make
/// the compiler demand `'static` of everything the children borrow.
///
/// # Examples
///
/// ```
/// use nursery::{Cancelled, ErrorGroup, TaskError};
///
/// #[derive(Debug)]
/// enum AppError {
///     Cancelled(Cancelled),
///     Several(ErrorGroup<AppError>),
///     DiskFull,
/// }
///
/// impl From<Cancelled> for AppError {
///     fn from(cancelled: Cancelled) -> Self { AppError::Cancelled(cancelled) }
/// }
/// impl From<ErrorGroup<AppError>> for AppError {
///     fn from(group: ErrorGroup<AppError>) -> Self { AppError::Several(group) }
/// }
/// impl TaskError for AppError {
///     fn as_cancelled(&self) -> Option<&Cancelled> {
///         match self { AppError::Cancelled(c) => Some(c), _ => None }
///     }
///     fn as_group(&self) -> Option<&ErrorGroup<Self>> {
///         match self { AppError::Several(g) => Some(g), _ => None }
///     }
///     fn as_group_mut(&mut self) -> Option<&mut ErrorGroup<Self>> {
///         match self { AppError::Several(g) => Some(g), _ => None }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be what a task fails with: it does not implement `TaskError`",
    label = "this error cannot carry a `Cancelled` out of the task",
    note = "use `anyhow::Error` (or `std::io::Error`, or `Cancelled`), or put `#[derive(nursery::TaskError)]` on an enum of your own",
    note = "`Box<dyn Error>` is refused on purpose: as a nursery's error it would force `'static` on everything the children borrow"
)]
pub trait TaskError: From<Cancelled> + From<ErrorGroup<Self>> + Sized {
    /// Returns the [`Cancelled`] that this error is, also if it is wrapped (an `io::Error`, a context, a variant).
    ///
    /// A group is not a `Cancelled`, even if all its members are.
    fn as_cancelled(&self) -> Option<&Cancelled>;

    /// Returns the group that this error is.
    fn as_group(&self) -> Option<&ErrorGroup<Self>>;

    /// Returns the group that this error is, to take members out of it.
    fn as_group_mut(&mut self) -> Option<&mut ErrorGroup<Self>>;

    /// Returns this error as a [`std::error::Error`], if it is one: what [`ErrorGroup::find`] searches.
    fn as_error(&self) -> Option<&(dyn Error + 'static)> {
        None
    }
}

/// A [`fail_after`](crate::fail_after) or [`fail_at`](crate::fail_at) scope ran out of time.
///
/// An ordinary error: unlike [`Cancelled`], no scope absorbs it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TooSlow {
    limit: Option<Duration>,
}

impl TooSlow {
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        TooSlow { limit }
    }

    /// Returns the time limit that was exceeded, if it was given as a duration.
    #[must_use]
    pub fn limit(&self) -> Option<Duration> {
        self.limit
    }
}

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.limit {
            Some(limit) => write!(f, "not done within {limit:?}"),
            None => f.write_str("not done by the deadline"),
        }
    }
}

impl Error for TooSlow {}
