//! [`Source`]: something of the system that is read from and written to, and may be closed meanwhile.

pub(crate) mod half;
mod polled;

// `--cfg nursery_io_reactor` is for tests, on Linux, of what other systems do.
#[cfg(all(any(target_os = "linux", target_os = "android"), not(nursery_io_reactor)))]
mod epoll;
#[cfg(any(not(any(target_os = "linux", target_os = "android")), nursery_io_reactor))]
mod reactor;

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
#[cfg(unix)]
pub(crate) use std::os::fd::AsFd as Handle;
#[cfg(windows)]
pub(crate) use std::os::windows::io::AsSocket as Handle;
use std::panic::Location;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
#[cfg(unix)]
use std::time::Duration;

#[cfg(unix)]
use nursery::move_on_after;
use nursery::{cancellable, checkpoint};

#[cfg(all(any(target_os = "linux", target_os = "android"), not(nursery_io_reactor)))]
use crate::source::epoll::Watched;
#[cfg(any(not(any(target_os = "linux", target_os = "android")), nursery_io_reactor))]
use crate::source::reactor::Watched;
use crate::stream::StreamError;

/// How long to wait if nothing may tell when there is room again.
#[cfg(unix)]
pub(crate) const RETRY: Duration = Duration::from_millis(10);

/// What is waited for. At most one task waits for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    Read,
    Write,
}

/// A socket or a pipe, until it is closed.
pub(crate) struct Source<T> {
    /// `None` once it has been closed. Cloned out for use: nothing is borrowed while wakers are touched.
    io: RefCell<Option<Rc<Watched<T>>>>,
}

impl<T> Source<T> {
    /// Takes over a socket, which no longer blocks.
    pub(crate) fn new(io: T) -> io::Result<Self>
    where
        T: Handle,
    {
        Watched::new(io).map(Source::watching)
    }

    /// Takes over what may be something that cannot be waited for: that is an error.
    #[cfg(unix)]
    pub(crate) fn new_checked(io: T) -> io::Result<Self>
    where
        T: Handle,
    {
        Watched::new_checked(io).map(Source::watching)
    }

    fn watching(io: Watched<T>) -> Self {
        Source { io: RefCell::new(Some(Rc::new(io))) }
    }

    fn get(&self) -> Result<Rc<Watched<T>>, StreamError> {
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
        if let Some(io) = self.io.take() {
            io.release();
            io.wake();
        }
    }

    /// Takes it out, as the system knows it.
    pub(crate) fn into_inner(self) -> Result<T, StreamError> {
        let io = self.io.take().ok_or(StreamError::Closed)?;
        let io = Rc::into_inner(io).expect("only methods clone it, which borrow `self`");
        Ok(io.into_inner()?)
    }

    /// A call has said that it would block: it is in vain until the system says something else.
    pub(crate) fn would_block(&self, interest: Interest) -> Result<(), StreamError> {
        self.get()?.would_block(interest);
        Ok(())
    }

    /// A read of TCP has brought less than there was room for, and not the end: there is nothing left.
    pub(crate) fn read_short(&self) {
        if let Ok(io) = self.get() {
            io.read_short();
        }
    }

    /// Asks the system whether it is ready, whatever is known. What it says, which may be less than that a call would be in
    /// vain, is forgotten with the guard.
    pub(crate) fn ask(&self, interest: Interest) -> Result<Asked<'_, T>, StreamError> {
        self.get()?.ask(interest)?;
        Ok(Asked { source: self, interest })
    }

    /// Calls `op` until it does something else than saying that it would block.
    pub(crate) fn poll<R>(
        &self,
        interest: Interest,
        cx: &Context<'_>,
        mut op: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<Result<R, StreamError>> {
        loop {
            ready!(self.poll_ready(interest, cx))?;
            if let Some(result) = self.attempt(interest, &mut op)? {
                return Poll::Ready(Ok(result));
            }
        }
    }

    /// Does `op`, unless it is known to be in vain. `None`: it would block.
    pub(crate) fn attempt<R>(
        &self,
        interest: Interest,
        op: &mut impl FnMut(&T) -> io::Result<R>,
    ) -> Result<Option<R>, StreamError> {
        loop {
            let io = self.get()?;
            if !io.is_perhaps_ready(interest) {
                return Ok(None);
            }
            match op(io.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    io.would_block(interest);
                    return Ok(None);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Ok(Some(result.map_err(StreamError::Broken)?)),
            }
        }
    }

    /// Waits until an operation might not block, which may turn out wrong.
    #[inline]
    async fn wait(
        &self,
        interest: Interest,
        what: &'static str,
        place: &'static Location<'static>,
    ) -> Result<(), StreamError> {
        let io = self.get()?;
        io.wait(interest, what, place).await
    }

    /// The same, for who has a waker.
    pub(crate) fn poll_ready(
        &self,
        interest: Interest,
        cx: &Context<'_>,
    ) -> Poll<Result<(), StreamError>> {
        self.get()?.poll_ready(interest, cx).map_err(StreamError::Broken)
    }

    /// Does `op`, waiting until it does not block: a checkpoint.
    #[track_caller]
    pub(crate) fn run<R>(
        &self,
        interest: Interest,
        what: &'static str,
        op: impl FnMut(&T) -> io::Result<R>,
    ) -> impl Future<Output = Result<R, StreamError>> {
        self.run_at(interest, what, Location::caller(), op)
    }

    /// The same, at a place.
    pub(crate) async fn run_at<R>(
        &self,
        interest: Interest,
        what: &'static str,
        place: &'static Location<'static>,
        mut op: impl FnMut(&T) -> io::Result<R>,
    ) -> Result<R, StreamError> {
        checkpoint().await?;
        // From here on only readiness is waited for: what `op` has done is never held back in a yield, where it
        // would be lost with a future that is dropped there.
        loop {
            if let Some(result) = self.attempt(interest, &mut op)? {
                return Ok(result);
            }
            self.wait(interest, what, place).await?;
        }
    }

    /// The same, if an operation may be in vain although the system reports that it is ready, and never reports that it no
    /// longer is: it is tried whatever is known, and after a while again.
    #[cfg(unix)]
    #[track_caller]
    pub(crate) fn run_retrying<R>(
        &self,
        interest: Interest,
        what: &'static str,
        mut op: impl FnMut(&T) -> io::Result<R>,
    ) -> impl Future<Output = Result<R, StreamError>> {
        let place = Location::caller();
        async move {
            checkpoint().await?;
            let _asked = Asked { source: self, interest };
            loop {
                self.get()?.forget(interest);
                if let Some(result) = self.attempt(interest, &mut op)? {
                    return Ok(result);
                }
                let is_said_to_be_ready = self.get()?.ask(interest)?;
                let ready = cancellable(poll_fn(|cx| {
                    if !is_said_to_be_ready {
                        return self.poll_ready(interest, cx);
                    }
                    // Only of its end it can be told: the attempt itself makes the system say that it is ready.
                    self.would_block(interest)?;
                    let _ = self.poll_ready(interest, cx)?;
                    Poll::Pending
                }));
                let waited = move_on_after(RETRY, ready.waiting_for(what).at(place));
                waited.await?.transpose()?;
            }
        }
    }
}

/// What the system has said may be believed while it is waited for. Afterwards calls are made, to find out.
#[must_use = "it is forgotten with this"]
pub(crate) struct Asked<'a, T> {
    source: &'a Source<T>,
    interest: Interest,
}

impl<T> Drop for Asked<'_, T> {
    fn drop(&mut self) {
        if let Ok(io) = self.source.get() {
            io.forget(self.interest);
        }
    }
}

impl<T> Drop for Source<T> {
    fn drop(&mut self) {
        if let Some(io) = self.io.take() {
            io.release();
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
mod tests;
