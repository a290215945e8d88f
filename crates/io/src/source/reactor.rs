//! [`Watched`] where there is no epoll: what async-io's reactor says of a socket or a pipe.
//!
//! As on Linux, a call that is known to be in vain is not made, and readiness is waited for instead; but the reactor is asked
//! anew for each wait.

mod relay;

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::panic::Location;
use std::task::{Context, Poll, Waker};

use async_io::Async;
use nursery::cancellable;

use crate::source::reactor::relay::Relay;
use crate::source::{Handle, Interest};
use crate::stream::StreamError;

/// A socket or a pipe, and what is known of its readiness.
pub(super) struct Watched<T> {
    io: Async<T>,
    /// By [`Interest`].
    is_blocked: [Cell<bool>; 2],
    /// Who waits, by [`Interest`]. The reactor wakes them through it.
    relays: [OnceCell<Relay>; 2],
}

impl<T> Watched<T> {
    pub(super) fn new(io: T) -> io::Result<Self>
    where
        T: Handle,
    {
        let io = Async::new(io)?;
        Ok(Watched { io, is_blocked: Default::default(), relays: Default::default() })
    }

    /// The same: it is found out at once whether it can be waited for.
    #[cfg(unix)]
    pub(super) fn new_checked(io: T) -> io::Result<Self>
    where
        T: Handle,
    {
        Watched::new(io)
    }

    pub(super) fn get_ref(&self) -> &T {
        self.io.get_ref()
    }

    pub(super) fn is_perhaps_ready(&self, interest: Interest) -> bool {
        !self.is_blocked[interest as usize].get()
    }

    /// A call has said that it would block.
    pub(super) fn would_block(&self, interest: Interest) {
        self.is_blocked[interest as usize].set(true);
    }

    /// Less was read than there was room for. The reactor is asked only after a call in vain.
    pub(super) fn read_short(&self) {}

    /// Nothing is known: the next call is made.
    pub(super) fn forget(&self, interest: Interest) {
        self.is_blocked[interest as usize].set(false);
    }

    /// Makes the next wait ask the system whether it is ready, which so may say that it is.
    pub(super) fn ask(&self, interest: Interest) -> io::Result<bool> {
        self.would_block(interest);
        Ok(true)
    }

    /// Waits until it is perhaps ready: a checkpoint. One task waits at a time.
    pub(super) async fn wait(
        &self,
        interest: Interest,
        what: &'static str,
        place: &'static Location<'static>,
    ) -> Result<(), StreamError> {
        let ready = cancellable(poll_fn(|cx| self.poll_ready(interest, cx)));
        ready.waiting_for(what).at(place).await?.map_err(StreamError::Broken)
    }

    /// The same, for who has a waker.
    pub(super) fn poll_ready(&self, interest: Interest, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if self.is_perhaps_ready(interest) {
            return Poll::Ready(Ok(()));
        }
        let relay = self.relays[interest as usize].get_or_init(Relay::new);
        let mut cx = relay.set(cx);
        let has_fired = relay.take_fired();
        let ready = match interest {
            Interest::Read => self.io.poll_readable(&mut cx),
            Interest::Write => self.io.poll_writable(&mut cx),
        };
        // The reactor does not count what it reports in the same round of its thread in which it was asked, and is asked anew:
        // that may go on for long. See `much_goes_through_and_both_ways`.
        let ready = if has_fired && ready.is_pending() { Poll::Ready(Ok(())) } else { ready };
        self.is_blocked[interest as usize].set(ready.is_pending());
        ready
    }

    /// Nobody will wait for it any more: who does finds out that it is closed.
    pub(super) fn release(&self) {
        self.forget(Interest::Read);
        self.forget(Interest::Write);
    }

    /// Wakes those who wait.
    pub(super) fn wake(&self) {
        let waiting = self.relays.each_ref().map(|relay| relay.get().and_then(Relay::take));
        waiting.into_iter().flatten().for_each(Waker::wake);
    }

    pub(super) fn into_inner(self) -> io::Result<T> {
        self.io.into_inner()
    }
}

impl<T: fmt::Debug> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get_ref().fmt(f)
    }
}
