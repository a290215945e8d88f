//! [`SocketStream`]: what TCP streams and Unix streams have in common, which is almost everything.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_lite::{AsyncRead, AsyncWrite};
use nursery::checkpoint;

use crate::source::Source;
use crate::source::half::{Drains, Read, Receiving, Sending, Write};
use crate::stream::{HalfClose, ReceiveStream, Resource, SendStream, StreamError};

/// A connected socket for streams of bytes: a [`TcpStream`](crate::net::TcpStream) or a
/// [`UnixStream`](crate::net::UnixStream).
///
/// It keeps the contracts of [`stream`](crate::stream), and is shared by reference: one task sends while another receives.
/// Dropping it closes it. It also is an [`AsyncRead`] and an [`AsyncWrite`], by value and by reference, for libraries that
/// know nothing else: there, too, each call is a checkpoint, and [`Cancelled`](nursery::Cancelled) is held by the
/// [`io::Error`]. Closing it as an `AsyncWrite` is [`send_eof`](HalfClose::send_eof).
pub struct SocketStream<T> {
    source: Source<T>,
    sending: Sending,
    receiving: Receiving,
    calls: Calls<T>,
}

/// How the system is called for a kind of socket.
pub(crate) struct Calls<T> {
    pub(crate) read: Read<T>,
    pub(crate) write: Write<T>,
    pub(crate) shutdown: fn(&T) -> io::Result<()>,
    pub(crate) drains: Drains,
}

impl<T> SocketStream<T> {
    pub(crate) fn new(source: Source<T>, calls: Calls<T>) -> Self {
        SocketStream {
            source,
            sending: Sending::default(),
            receiving: Receiving::new(calls.drains),
            calls,
        }
    }

    /// Closes the socket, now. What other tasks wait for in it ends with [`Closed`](StreamError::Closed).
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    pub fn close(&self) {
        self.source.close();
    }

    /// Calls `f` with the socket of the standard library, for what has no method here. It does not block.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`].
    pub fn with<R>(&self, f: impl FnOnce(&T) -> R) -> Result<R, StreamError> {
        self.source.with(f)
    }

    pub(crate) fn into_inner(self) -> io::Result<T> {
        Ok(self.source.into_inner()?)
    }
}

impl<T> Resource for SocketStream<T> {
    async fn aclose(&self) -> Result<(), StreamError> {
        self.close();
        Ok(checkpoint().await?)
    }
}

impl<T> SendStream for SocketStream<T>
where
    for<'a> &'a T: io::Write,
{
    #[track_caller]
    fn send_all(&self, data: &[u8]) -> impl Future<Output = Result<(), StreamError>> {
        self.sending.send_all(&self.source, data, self.calls.write)
    }

    #[track_caller]
    fn wait_send_all_might_not_block(&self) -> impl Future<Output = Result<(), StreamError>> {
        self.sending.wait_might_not_block(&self.source)
    }
}

impl<T> HalfClose for SocketStream<T>
where
    for<'a> &'a T: io::Write,
{
    async fn send_eof(&self) -> Result<(), StreamError> {
        self.sending.send_eof(&self.source, self.calls.shutdown).await
    }
}

impl<T> ReceiveStream for SocketStream<T>
where
    for<'a> &'a T: io::Read,
{
    #[track_caller]
    fn receive_some(&self, buffer: &mut [u8]) -> impl Future<Output = Result<usize, StreamError>> {
        self.receiving.receive_some(&self.source, buffer, self.calls.read)
    }
}

impl<T> AsyncRead for &SocketStream<T>
where
    for<'a> &'a T: io::Read,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.receiving.poll_read(&self.source, cx, buffer, self.calls.read)
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.receiving
            .poll_read_with(&self.source, cx, |mut io| io::Read::read_vectored(&mut io, buffers))
    }
}

impl<T> AsyncWrite for &SocketStream<T>
where
    for<'a> &'a T: io::Write,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.sending.poll_write(&self.source, cx, |io| (self.calls.write)(io, data))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.sending.poll_write(&self.source, cx, |mut io| io::Write::write_vectored(&mut io, data))
    }

    /// There is nothing to flush: the system has all that was written.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sending.poll_close(&self.source, cx, self.calls.shutdown)
    }
}

impl<T> AsyncRead for SocketStream<T>
where
    for<'a> &'a T: io::Read,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_read(cx, buffer)
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_read_vectored(cx, buffers)
    }
}

impl<T> AsyncWrite for SocketStream<T>
where
    for<'a> &'a T: io::Write,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_write(cx, data)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_write_vectored(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_close(cx)
    }
}

impl<T: fmt::Debug> fmt::Debug for SocketStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SocketStream").field(&self.source).finish()
    }
}
