//! [`Turns`]: a socket at which several tasks may wait, each for something whole: a connection, a datagram.

use std::fmt;
use std::future::Future;
use std::io;

use async_io::Async;

use crate::source::{Interest, Source};
use crate::stream::StreamError;
use crate::sync::Semaphore;

/// A socket at which the tasks that wait take turns: first come, first served.
pub(crate) struct Turns<T> {
    pub(crate) source: Source<T>,
    /// By [`Interest`].
    turns: [Semaphore; 2],
}

impl<T> Turns<T> {
    pub(crate) fn new(io: Async<T>) -> Self {
        Turns { source: Source::new(io), turns: [Semaphore::new(1), Semaphore::new(1)] }
    }

    /// Does `op`, waiting until it is its turn and does not block: a checkpoint. When the socket is closed, the task whose
    /// turn it is learns it, and then the next.
    #[track_caller]
    pub(crate) fn run<R>(
        &self,
        interest: Interest,
        what: &'static str,
        op: impl FnMut(&T) -> io::Result<R>,
    ) -> impl Future<Output = Result<R, StreamError>> {
        let turn = &self.turns[interest as usize];
        let acquired = turn.acquire();
        let done = self.source.run(interest, what, op);
        async move {
            let _permit = match turn.try_acquire() {
                Ok(permit) => permit,
                Err(_) => acquired.await?,
            };
            done.await
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Turns<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}
