//! [`Sending`] and [`Receiving`]: the two halves of a byte stream over a [`Source`], with the rules of
//! [`stream`](crate::stream).

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::Location;
use std::task::{Context, Poll, ready};

use nursery::lowlevel::try_checkpoint;
use nursery::{cancellable, checkpoint};

use crate::source::polled::Polled;
use crate::source::{Interest, Source};
use crate::stream::{ConflictDetector, Interrupted, StreamError};

const TO_SEND: &str = "room to send";
const TO_RECEIVE: &str = "something to receive";

/// After so many system calls in a row a sender lets the others run: its peer may be as fast as it is.
const WRITES_IN_A_ROW: usize = 16;

/// Writes some of the bytes, without blocking.
pub(crate) type Write<T> = fn(&T, &[u8]) -> io::Result<usize>;

/// Reads some bytes, without blocking.
pub(crate) type Read<T> = fn(&T, &mut [u8]) -> io::Result<usize>;

/// The state of the half that sends.
#[derive(Debug, Default)]
pub(crate) struct Sending {
    conflict: ConflictDetector,
    is_over: Cell<bool>,
    interrupted: Cell<Option<Interrupted>>,
    polled: Polled,
}

impl Sending {
    /// May something be sent?
    fn check<T>(&self, source: &Source<T>) -> Result<(), StreamError> {
        if self.is_over.get() {
            return Err(StreamError::Closed);
        }
        source.check_open()?;
        self.interrupted.get().map_or(Ok(()), |interrupted| Err(interrupted.into()))
    }

    #[track_caller]
    pub(crate) fn send_all<T>(
        &self,
        source: &Source<T>,
        data: &[u8],
        write: Write<T>,
    ) -> impl Future<Output = Result<(), StreamError>> {
        let place = Location::caller();
        async move {
            let _guard = self.conflict.enter()?;
            self.check(source)?;
            let mut rest = Rest { sending: self, data, sent: 0 };
            if try_checkpoint() && rest.send_at_once(source, write)? {
                return Ok(());
            }
            let sent = cancellable(poll_fn(|cx| rest.poll(source, cx, write)));
            sent.waiting_for(TO_SEND).at(place).await?
        }
    }

    #[track_caller]
    pub(crate) fn wait_might_not_block<T>(
        &self,
        source: &Source<T>,
    ) -> impl Future<Output = Result<(), StreamError>> {
        let ready = cancellable(poll_fn(move |cx| source.poll_ready(Interest::Write, cx)));
        let ready = ready.waiting_for(TO_SEND);
        async move {
            let _guard = self.conflict.enter()?;
            self.check(source)?;
            let _asked = source.ask(Interest::Write)?; // there may have been room, and be none
            ready.await?
        }
    }

    /// Says that nothing more will be sent, by calling `shutdown`.
    pub(crate) async fn send_eof<T>(
        &self,
        source: &Source<T>,
        shutdown: fn(&T) -> io::Result<()>,
    ) -> Result<(), StreamError> {
        let _guard = self.conflict.enter()?;
        checkpoint().await?;
        self.end(source, shutdown)
    }

    fn end<T>(
        &self,
        source: &Source<T>,
        shutdown: fn(&T) -> io::Result<()>,
    ) -> Result<(), StreamError> {
        if self.is_over.get() {
            return Ok(());
        }
        self.check(source)?;
        source.with(shutdown)??;
        self.is_over.set(true);
        Ok(())
    }

    pub(crate) fn poll_write<T>(
        &self,
        source: &Source<T>,
        cx: &mut Context<'_>,
        write: impl FnMut(&T) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let _guard = self.conflict.enter()?;
        self.polled.poll(cx, TO_SEND, |cx| {
            self.check(source)?;
            source.poll(Interest::Write, cx, write)
        })
    }

    pub(crate) fn poll_close<T>(
        &self,
        source: &Source<T>,
        cx: &mut Context<'_>,
        shutdown: fn(&T) -> io::Result<()>,
    ) -> Poll<io::Result<()>> {
        let _guard = self.conflict.enter()?;
        self.polled.poll(cx, TO_SEND, |_| Poll::Ready(self.end(source, shutdown)))
    }
}

/// A `send_all` on its way.
struct Rest<'sending, 'data> {
    sending: &'sending Sending,
    data: &'data [u8],
    sent: usize,
}

impl Rest<'_, '_> {
    /// Sends what the system takes in one call. Returns whether that was all.
    fn send_at_once<T>(
        &mut self,
        source: &Source<T>,
        write: Write<T>,
    ) -> Result<bool, StreamError> {
        if self.is_over() {
            return Ok(true);
        }
        let rest = self.rest();
        if let Some(n) = source.attempt(Interest::Write, &mut |io| write(io, rest))? {
            self.add(n)?;
        }
        Ok(self.is_over())
    }

    fn poll<T>(
        &mut self,
        source: &Source<T>,
        cx: &mut Context<'_>,
        write: Write<T>,
    ) -> Poll<Result<(), StreamError>> {
        source.check_open()?;
        for _ in 0..WRITES_IN_A_ROW {
            if self.is_over() {
                return Poll::Ready(Ok(()));
            }
            let rest = self.rest();
            let n = ready!(source.poll(Interest::Write, cx, |io| write(io, rest)))?;
            self.add(n)?;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn rest(&self) -> &[u8] {
        &self.data[self.sent..]
    }

    fn is_over(&self) -> bool {
        self.sent == self.data.len()
    }

    /// The system has taken so many.
    fn add(&mut self, n: usize) -> Result<(), StreamError> {
        if n == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        self.sent += n;
        Ok(())
    }
}

impl Drop for Rest<'_, '_> {
    fn drop(&mut self) {
        let of = self.data.len();
        if (1..of).contains(&self.sent) {
            self.sending.interrupted.set(Some(Interrupted::new(self.sent, of)));
        }
    }
}

/// The state of the half that receives.
#[derive(Debug, Default)]
pub(crate) struct Receiving {
    conflict: ConflictDetector,
    polled: Polled,
    drains: Drains,
}

/// What a read says of those to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Drains {
    /// Nothing: a terminal gives a line, and a local socket what came with a descriptor, although there is more.
    #[default]
    Unknown,
    /// If it brings less than there is room for, there is nothing left.
    ByShortReads,
}

impl Receiving {
    pub(crate) fn new(drains: Drains) -> Self {
        Receiving { drains, ..Receiving::default() }
    }

    fn read<T>(
        &self,
        source: &Source<T>,
        io: &T,
        buffer: &mut [u8],
        read: Read<T>,
    ) -> io::Result<usize> {
        let n = read(io, buffer)?;
        if self.drains == Drains::ByShortReads && (1..buffer.len()).contains(&n) {
            source.read_short();
        }
        Ok(n)
    }

    #[track_caller]
    pub(crate) fn receive_some<T>(
        &self,
        source: &Source<T>,
        buffer: &mut [u8],
        read: Read<T>,
    ) -> impl Future<Output = Result<usize, StreamError>> {
        let place = Location::caller();
        async move {
            let _guard = self.conflict.enter()?;
            source.check_open()?;
            if buffer.is_empty() {
                return Err(StreamError::EmptyBuffer);
            }
            let read = |io: &T| self.read(source, io, buffer, read);
            source.run_at(Interest::Read, TO_RECEIVE, place, read).await
        }
    }

    pub(crate) fn poll_read<T>(
        &self,
        source: &Source<T>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        read: Read<T>,
    ) -> Poll<io::Result<usize>> {
        self.poll_read_with(source, cx, |io| self.read(source, io, buffer, read))
    }

    /// The same, with a read that says nothing of those to come.
    pub(crate) fn poll_read_with<T>(
        &self,
        source: &Source<T>,
        cx: &mut Context<'_>,
        read: impl FnMut(&T) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let _guard = self.conflict.enter()?;
        self.polled.poll(cx, TO_RECEIVE, |cx| source.poll(Interest::Read, cx, read))
    }
}
