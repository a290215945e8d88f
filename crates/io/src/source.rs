//! [`Source`]: something of the system that is read from and written to, and may be closed meanwhile.

pub(crate) mod half;
mod polled;
mod relay;

use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use async_io::Async;
use nursery::cancellable;

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
}

impl<T> Source<T> {
    pub(crate) fn new(io: Async<T>) -> Self {
        Source { io: RefCell::new(Some(Rc::new(io))), relays: Default::default() }
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
        loop {
            let io = self.get()?;
            match op(io.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => return Poll::Ready(result.map_err(StreamError::Broken)),
            }
            ready!(self.poll_ready(interest, cx))?;
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
        let done = cancellable(poll_fn(move |cx| self.poll(interest, cx, &mut op)));
        let done = done.waiting_for(what);
        async move { done.await? }
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
