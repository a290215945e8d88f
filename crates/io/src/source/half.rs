//! [`Sending`] and [`Receiving`]: the two halves of a byte stream over a [`Source`], with the rules of
//! [`stream`](crate::stream).

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::task::{Context, Poll, ready};

use nursery::{cancellable, checkpoint};

use crate::source::polled::Polled;
use crate::source::{Interest, Source};
use crate::stream::{ConflictDetector, Interrupted, StreamError};

const TO_SEND: &str = "room to send";
const TO_RECEIVE: &str = "something to receive";

/// After so many system calls in a row a sender lets the others run: its peer may be as fast as it is.
const WRITES_IN_A_ROW: usize = 16;

/// Writes some of the bytes, without blocking.
type Write<T> = fn(&T, &[u8]) -> io::Result<usize>;

/// Reads some bytes, without blocking.
type Read<T> = fn(&T, &mut [u8]) -> io::Result<usize>;

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
        let mut rest = Rest { sending: self, data, sent: 0 };
        let sent = cancellable(poll_fn(move |cx| rest.poll(source, cx, write)));
        let sent = sent.waiting_for(TO_SEND);
        async move {
            let _guard = self.conflict.enter()?;
            self.check(source)?;
            sent.await?
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
    fn poll<T>(
        &mut self,
        source: &Source<T>,
        cx: &mut Context<'_>,
        write: Write<T>,
    ) -> Poll<Result<(), StreamError>> {
        source.check_open()?;
        for _ in 0..WRITES_IN_A_ROW {
            let rest = &self.data[self.sent..];
            if rest.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let n = ready!(source.poll(Interest::Write, cx, |io| write(io, rest)))?;
            if n == 0 {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into()));
            }
            self.sent += n;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
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
}

impl Receiving {
    #[track_caller]
    pub(crate) fn receive_some<T>(
        &self,
        source: &Source<T>,
        buffer: &mut [u8],
        read: Read<T>,
    ) -> impl Future<Output = Result<usize, StreamError>> {
        let is_empty = buffer.is_empty();
        let received = source.run(Interest::Read, TO_RECEIVE, move |io| read(io, buffer));
        async move {
            let _guard = self.conflict.enter()?;
            source.check_open()?;
            if is_empty {
                return Err(StreamError::EmptyBuffer);
            }
            received.await
        }
    }

    pub(crate) fn poll_read<T>(
        &self,
        source: &Source<T>,
        cx: &mut Context<'_>,
        read: impl FnMut(&T) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let _guard = self.conflict.enter()?;
        self.polled.poll(cx, TO_RECEIVE, |cx| source.poll(Interest::Read, cx, read))
    }
}
