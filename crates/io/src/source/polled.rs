//! [`Polled`]: an operation that is polled without a future of its own, as `AsyncRead` and `AsyncWrite` demand.

use std::cell::Cell;
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, Pending, pending};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use nursery::{Cancellable, Checkpoint, cancellable, checkpoint};

use crate::stream::StreamError;

/// What remains between two polls. Whoever polls next goes on with it, also if it is another task: so it is renewed with
/// each poll, and holds nothing that could be lost.
#[derive(Default)]
pub(crate) struct Polled(Cell<Option<Box<State>>>);

struct State {
    checkpoint: Checkpoint,
    /// Registered with the run, so that a cancellation wakes the task.
    wait: Option<Cancellable<Pending<Infallible>>>,
}

impl Polled {
    /// A checkpoint, then `attempt`, which has registered with whatever will wake the task if it is pending.
    ///
    /// The checkpoint comes first, also its yield: what `attempt` has done can be returned at once.
    pub(crate) fn poll<R>(
        &self,
        cx: &mut Context<'_>,
        what: &'static str,
        attempt: impl FnOnce(&mut Context<'_>) -> Poll<Result<R, StreamError>>,
    ) -> Poll<io::Result<R>> {
        // Taken out: wakers are foreign code.
        let mut state = self
            .0
            .take()
            .unwrap_or_else(|| Box::new(State { checkpoint: checkpoint(), wait: None }));
        let result = state.poll(cx, what, attempt);
        if result.is_pending() {
            let old = self.0.replace(Some(state));
            drop(old);
        }
        result.map_err(io::Error::from)
    }
}

impl State {
    fn poll<R>(
        &mut self,
        cx: &mut Context<'_>,
        what: &'static str,
        attempt: impl FnOnce(&mut Context<'_>) -> Poll<Result<R, StreamError>>,
    ) -> Poll<Result<R, StreamError>> {
        ready!(Pin::new(&mut self.checkpoint).poll(cx))?;
        self.checkpoint = checkpoint();
        if let Poll::Ready(result) = attempt(cx) {
            return Poll::Ready(result);
        }
        let mut wait = cancellable(pending()).waiting_for(what);
        if let Poll::Ready(Err(cancelled)) = Pin::new(&mut wait).poll(cx) {
            return Poll::Ready(Err(cancelled.into()));
        }
        self.wait = Some(wait);
        Poll::Pending
    }
}

impl fmt::Debug for Polled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Polled")
    }
}
