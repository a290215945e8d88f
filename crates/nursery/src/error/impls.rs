//! [`TaskError`] for the error types that everybody has: `Cancelled`, `io::Error`, `anyhow::Error`.

use std::error::Error;
use std::io;

use crate::error::{Cancelled, ErrorGroup, TaskError};

/// A group can only hold cancellations then: the first stands for all.
impl From<ErrorGroup<Cancelled>> for Cancelled {
    fn from(group: ErrorGroup<Cancelled>) -> Self {
        group.into_iter().next().expect("a group has at least one error")
    }
}

impl TaskError for Cancelled {
    fn as_cancelled(&self) -> Option<&Cancelled> {
        Some(self)
    }

    fn as_group(&self) -> Option<&ErrorGroup<Self>> {
        None
    }

    fn as_group_mut(&mut self) -> Option<&mut ErrorGroup<Self>> {
        None
    }

    fn as_error(&self) -> Option<&(dyn Error + 'static)> {
        Some(self)
    }
}

/// The error is of kind [`io::ErrorKind::Other`] and holds the `Cancelled`, so that it passes through code
/// that only knows `io::Error` (rustls, hyper, `AsyncRead`) and is recognised by its scope on the other side.
impl From<Cancelled> for io::Error {
    fn from(cancelled: Cancelled) -> Self {
        io::Error::other(cancelled)
    }
}

impl From<ErrorGroup<io::Error>> for io::Error {
    fn from(group: ErrorGroup<io::Error>) -> Self {
        io::Error::other(group)
    }
}

impl From<crate::TooSlow> for io::Error {
    fn from(too_slow: crate::TooSlow) -> Self {
        io::Error::new(io::ErrorKind::TimedOut, too_slow)
    }
}

impl TaskError for io::Error {
    fn as_cancelled(&self) -> Option<&Cancelled> {
        find_cancelled(self)
    }

    fn as_group(&self) -> Option<&ErrorGroup<Self>> {
        self.get_ref()?.downcast_ref()
    }

    fn as_group_mut(&mut self) -> Option<&mut ErrorGroup<Self>> {
        self.get_mut()?.downcast_mut()
    }

    fn as_error(&self) -> Option<&(dyn Error + 'static)> {
        Some(self)
    }
}

#[cfg(feature = "anyhow")]
impl TaskError for anyhow::Error {
    fn as_cancelled(&self) -> Option<&Cancelled> {
        find_cancelled(self.as_ref())
    }

    fn as_group(&self) -> Option<&ErrorGroup<Self>> {
        self.downcast_ref()
    }

    fn as_group_mut(&mut self) -> Option<&mut ErrorGroup<Self>> {
        self.downcast_mut()
    }

    fn as_error(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.as_ref())
    }
}

/// Walks the causes of `error` to a `Cancelled`.
fn find_cancelled<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Cancelled> {
    let mut cause: Option<&'a (dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(cancelled) = error.downcast_ref::<Cancelled>() {
            return Some(cancelled);
        }
        cause = next_cause(error);
    }
    None
}

/// The cause of an error. An `io::Error` hides what it holds from `source()`.
pub(crate) fn next_cause<'a>(
    error: &'a (dyn Error + 'static),
) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(held) => Some(held),
        None => error.source(),
    }
}
