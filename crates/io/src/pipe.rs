//! Pipes, and whatever else is read or written by a file descriptor: [`open`], [`PipeSender`], [`PipeReceiver`].
//!
//! They keep the contracts of [`stream`](crate::stream), each in one direction; [`Stapled`](crate::stream::Stapled) makes one
//! stream of two.
//!
//! # Examples
//!
//! ```
//! use nursery_io::pipe;
//! use nursery_io::stream::{ReceiveStream, Resource, SendStream};
//!
//! # nursery_testing::run(async {
//! let (sender, receiver) = pipe::open()?;
//! sender.send_all(b"down the pipe").await?;
//! sender.aclose().await?;
//! let mut buffer = [0; 100];
//! assert_eq!(receiver.receive_some(&mut buffer).await?, 13);
//! assert_eq!(receiver.receive_some(&mut buffer).await?, 0);
//! # Ok::<(), std::io::Error>(())
//! # }).unwrap();
//! ```

use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_lite::{AsyncRead, AsyncWrite};
use nursery::checkpoint;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::source::Source;
use crate::source::half::{Receiving, Sending};
use crate::stream::{HalfClose, ReceiveStream, Resource, SendStream, StreamError};

/// Opens a pipe: what is sent into one end is received at the other.
///
/// # Errors
///
/// Those of the system, which may have no room for it.
pub fn open() -> io::Result<(PipeSender, PipeReceiver)> {
    let (reader, writer) = io::pipe()?;
    Ok((PipeSender::from_fd(writer)?, PipeReceiver::from_fd(reader)?))
}

/// A file descriptor, and the mode in which it was.
///
/// The mode is one of the *open file*, which other processes may share: so it is put back before the descriptor is closed.
#[derive(Debug)]
struct Lent {
    source: Source<File>,
    flags: OFlags,
}

impl Lent {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        let flags = fcntl_getfl(&fd)?;
        Ok(Lent { source: Source::new_checked(File::from(fd))?, flags })
    }

    fn close(&self) {
        // A descriptor that cannot be changed can still be closed.
        let _ = self.source.with(|io| fcntl_setfl(io.as_fd(), self.flags));
        self.source.close();
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.close();
    }
}

/// The end of a pipe into which is sent.
///
/// Dropping it closes it. It also is an [`AsyncWrite`], by value and by reference.
#[derive(Debug)]
pub struct PipeSender {
    lent: Lent,
    sending: Sending,
}

/// The end of a pipe from which is received.
///
/// Dropping it closes it. It also is an [`AsyncRead`], by value and by reference.
#[derive(Debug)]
pub struct PipeReceiver {
    lent: Lent,
    receiving: Receiving,
}

impl PipeSender {
    /// Takes over a descriptor: of a pipe, a terminal, a child's standard input. It no longer blocks, until it is closed:
    /// then its mode is as it was.
    ///
    /// # Errors
    ///
    /// Those of the system: a regular file, for one, cannot be waited for.
    pub fn from_fd(fd: impl Into<OwnedFd>) -> io::Result<Self> {
        Ok(PipeSender { lent: Lent::new(fd.into())?, sending: Sending::default() })
    }

    /// Closes it, now. What other tasks wait for in it ends with [`Closed`](StreamError::Closed).
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    pub fn close(&self) {
        self.lent.close();
    }
}

impl PipeReceiver {
    /// Takes over a descriptor: of a pipe, a terminal, a child's standard output. It no longer blocks, until it is closed:
    /// then its mode is as it was.
    ///
    /// # Errors
    ///
    /// Those of the system: a regular file, for one, cannot be waited for.
    pub fn from_fd(fd: impl Into<OwnedFd>) -> io::Result<Self> {
        Ok(PipeReceiver { lent: Lent::new(fd.into())?, receiving: Receiving::default() })
    }

    /// Closes it, now. What other tasks wait for in it ends with [`Closed`](StreamError::Closed).
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    pub fn close(&self) {
        self.lent.close();
    }
}

fn write(mut io: &File, data: &[u8]) -> io::Result<usize> {
    io.write(data)
}

fn read(mut io: &File, buffer: &mut [u8]) -> io::Result<usize> {
    io.read(buffer)
}

impl Resource for PipeSender {
    async fn aclose(&self) -> Result<(), StreamError> {
        self.close();
        Ok(checkpoint().await?)
    }
}

impl SendStream for PipeSender {
    #[track_caller]
    fn send_all(&self, data: &[u8]) -> impl Future<Output = Result<(), StreamError>> {
        self.sending.send_all(&self.lent.source, data, write)
    }

    #[track_caller]
    fn wait_send_all_might_not_block(&self) -> impl Future<Output = Result<(), StreamError>> {
        self.sending.wait_might_not_block(&self.lent.source)
    }
}

/// The same as to close it.
impl HalfClose for PipeSender {}

impl Resource for PipeReceiver {
    async fn aclose(&self) -> Result<(), StreamError> {
        self.close();
        Ok(checkpoint().await?)
    }
}

impl ReceiveStream for PipeReceiver {
    #[track_caller]
    fn receive_some(&self, buffer: &mut [u8]) -> impl Future<Output = Result<usize, StreamError>> {
        self.receiving.receive_some(&self.lent.source, buffer, read)
    }
}

impl AsyncWrite for &PipeSender {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.sending.poll_write(&self.lent.source, cx, |io| write(io, data))
    }

    /// There is nothing to flush: the system has all that was written.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.close();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for PipeSender {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_close(cx)
    }
}

impl AsyncRead for &PipeReceiver {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.receiving.poll_read(&self.lent.source, cx, buffer, read)
    }
}

impl AsyncRead for PipeReceiver {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_read(cx, buffer)
    }
}
