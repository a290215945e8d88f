//! [`Turns`]: a socket at which several tasks may wait, each for something whole: a connection, a datagram.

use std::fmt;
use std::future::Future;
use std::io;

use crate::source::{Handle, Interest, Source};
use crate::stream::StreamError;
use crate::sync::Semaphore;

/// A socket at which the tasks that wait take turns: first come, first served.
pub(crate) struct Turns<T> {
    pub(crate) source: Source<T>,
    /// By [`Interest`].
    turns: [Semaphore; 2],
}

impl<T> Turns<T> {
    pub(crate) fn new(io: T) -> io::Result<Self>
    where
        T: Handle,
    {
        let turns = [Semaphore::new(1), Semaphore::new(1)];
        Ok(Turns { source: Source::new(io)?, turns })
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
        self.in_turn(interest, self.source.run(interest, what, op))
    }

    /// The same, for what the system does not always report.
    #[cfg(unix)]
    #[track_caller]
    pub(crate) fn run_retrying<R>(
        &self,
        interest: Interest,
        what: &'static str,
        op: impl FnMut(&T) -> io::Result<R>,
    ) -> impl Future<Output = Result<R, StreamError>> {
        self.in_turn(interest, self.source.run_retrying(interest, what, op))
    }

    #[track_caller]
    fn in_turn<R>(
        &self,
        interest: Interest,
        done: impl Future<Output = Result<R, StreamError>>,
    ) -> impl Future<Output = Result<R, StreamError>> {
        let turn = &self.turns[interest as usize];
        let acquired = turn.acquire();
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
