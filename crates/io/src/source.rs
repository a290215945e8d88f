//! [`Source`]: something of the system that is read from and written to, and may be closed meanwhile.

pub(crate) mod half;
mod polled;
mod relay;

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::Location;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use async_io::Async;
use nursery::{cancellable, checkpoint};

use crate::source::relay::Relay;
use crate::stream::StreamError;

/// What is waited for. At most one task waits for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    Read,
    Write,
}

/// A socket or a pipe, until it is closed.
pub(crate) struct Source<T> {
    /// `None` once it has been closed. Cloned out for use: nothing is borrowed while wakers are touched.
    io: RefCell<Option<Rc<Async<T>>>>,
    /// Who waits, by [`Interest`]. The reactor wakes them through it; and so do we, when it is closed.
    relays: [OnceCell<Relay>; 2],
    /// Has the reactor been asked, by [`Interest`], since it last said that something is ready?
    is_asked: [Cell<bool>; 2],
}

impl<T> Source<T> {
    pub(crate) fn new(io: Async<T>) -> Self {
        Source {
            io: RefCell::new(Some(Rc::new(io))),
            relays: Default::default(),
            is_asked: Default::default(),
        }
    }

    fn get(&self) -> Result<Rc<Async<T>>, StreamError> {
        self.io.borrow().clone().ok_or(StreamError::Closed)
    }

    pub(crate) fn check_open(&self) -> Result<(), StreamError> {
        if self.io.borrow().is_some() { Ok(()) } else { Err(StreamError::Closed) }
    }

    /// Calls `f` with what it is, for what does not wait.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&T) -> R) -> Result<R, StreamError> {
        Ok(f(self.get()?.get_ref()))
    }

    /// Closes it, and wakes those that wait.
    pub(crate) fn close(&self) {
        let io = self.io.take();
        drop(io);
        self.relays.iter().filter_map(OnceCell::get).for_each(Relay::wake);
    }

    /// Takes it out, as the system knows it.
    pub(crate) fn into_inner(self) -> Result<T, StreamError> {
        let io = self.io.take().ok_or(StreamError::Closed)?;
        let io = Rc::into_inner(io).expect("only `poll` clones it, which borrows `self`");
        Ok(io.into_inner()?)
    }

    /// Calls `op` until it does something else than saying that it would block.
    pub(crate) fn poll<R>(
        &self,
        interest: Interest,
        cx: &mut Context<'_>,
        mut op: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<Result<R, StreamError>> {
        if self.is_asked[interest as usize].get() {
            // Takes the answer, if it is there: else the next wait would have it, and `op` would be tried for nothing.
            let _ = self.poll_ready(interest, cx)?;
        }
        loop {
            if let Some(result) = self.attempt(&mut op)? {
                return Poll::Ready(Ok(result));
            }
            ready!(self.poll_ready(interest, cx))?;
        }
    }

    /// Does `op`. `None`: it would block.
    fn attempt<R>(
        &self,
        op: &mut impl FnMut(&T) -> io::Result<R>,
    ) -> Result<Option<R>, StreamError> {
        loop {
            let io = self.get()?;
            match op(io.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Ok(Some(result.map_err(StreamError::Broken)?)),
            }
        }
    }

    /// Waits until `op` might not block, which may turn out wrong.
    pub(crate) fn poll_ready(
        &self,
        interest: Interest,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), StreamError>> {
        let io = self.get()?;
        let relay = self.relays[interest as usize].get_or_init(Relay::new);
        let mut cx = relay.set(cx);
        let ready = match interest {
            Interest::Read => io.poll_readable(&mut cx),
            Interest::Write => io.poll_writable(&mut cx),
        };
        self.is_asked[interest as usize].set(ready.is_pending());
        ready.map_err(StreamError::Broken)
    }

    /// Does `op`, waiting until it does not block: a checkpoint.
    #[track_caller]
    pub(crate) fn run<R>(
        &self,
        interest: Interest,
        what: &'static str,
        mut op: impl FnMut(&T) -> io::Result<R>,
    ) -> impl Future<Output = Result<R, StreamError>> {
        let place = Location::caller();
        async move {
            checkpoint().await?;
            // From here on only readiness is waited for: what `op` has done is never held back in a yield, where it
            // would be lost with a future that is dropped there.
            loop {
                if let Some(result) = self.attempt(&mut op)? {
                    return Ok(result);
                }
                let ready = cancellable(poll_fn(|cx| self.poll_ready(interest, cx)));
                ready.waiting_for(what).at(place).await??;
            }
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Source<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.get() {
            Ok(io) => io.get_ref().fmt(f),
            Err(_) => f.write_str("closed"),
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use nursery::lowlevel::wait_all_tasks_blocked;
    use nursery::open_nursery;

    use super::*;

    /// An attempt in vain is a system call.
    #[test]
    fn one_attempt_before_the_wait_and_one_after_it() {
        nursery_testing::run(async {
            let (one, mut other) = UnixStream::pair()?;
            let source = Source::new(Async::new(one)?);
            let attempts = Cell::new(0);
            for _ in 0..3 {
                attempts.set(0);
                let read = |mut io: &UnixStream| {
                    attempts.set(attempts.get() + 1);
                    io.read(&mut [0; 10])
                };
                open_nursery(async |n| -> io::Result<()> {
                    let received = n.start_soon(async {
                        Ok(source.run(Interest::Read, "something to receive", read).await?)
                    });
                    wait_all_tasks_blocked(Duration::ZERO).await?;
                    assert_eq!(attempts.get(), 1);
                    other.write_all(b"x")?;
                    assert_eq!((received.await?, attempts.get()), (1, 2));
                    Ok(())
                })
                .await?;
            }
            io::Result::Ok(())
        })
        .unwrap();
    }
}
