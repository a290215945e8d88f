//! The contracts of byte streams, listeners and everything else that has to be closed.
//!
//! | to | look at |
//! |---|---|
//! | send bytes, receive bytes | [`SendStream`], [`ReceiveStream`] |
//! | say that nothing more will be sent, and go on receiving | [`HalfClose`] |
//! | accept connections | [`Listener`] |
//! | close, whatever it is | [`Resource`], [`aclose_forcefully`] |
//! | make one stream of two | [`Stapled`] |
//! | receive lines and messages | [`BufferedReceive`] |
//! | write a stream of your own | [`ConflictDetector`]; `nursery-testing` has a kit that checks it |
//!
//! All methods take `&self`: one task sends while another receives and a third closes. Code that is generic over them
//! works with sockets, pipes, TLS and the memory streams of `nursery-testing`.
//!
//! # What every implementation keeps
//!
//! 1. Each method is a checkpoint, also if it need not wait; not necessarily if it fails with anything but
//!    [`Cancelled`](StreamError::Cancelled).
//! 2. Of two tasks that send at the same time, or receive at the same time, the second gets [`StreamError::Busy`], before
//!    it has had any effect; the first is not disturbed. Sending and receiving do not conflict.
//! 3. Closing never conflicts: tasks that wait in another method of the object get [`StreamError::Closed`]; so does
//!    everything that is called afterwards, except closing again.
//! 4. When the peer is gone, it is [`StreamError::Broken`], and stays so.
//! 5. Dropping the object closes it, forcefully.
//!
//! # A `send_all` that did not get to its end
//!
//! Cancelled or dropped before the first byte has gone, it did nothing. Cancelled or dropped half-way, the peer has
//! the beginning of a message of which the end will never come, and whatever were sent now would be taken for that end. So
//! the stream refuses: every further `send_all` and `send_eof` fails with [`StreamError::Broken`], the cause of which is an
//! [`Interrupted`] that tells how much had gone. Receiving and closing still work. Who wants to go on after a
//! cancellation sends in pieces, by [`AsyncWrite`](futures_lite::AsyncWrite), which our streams implement too.
//!
//! # Examples
//!
//! ```
//! use nursery_io::stream::{ReceiveStream, SendStream, StreamError};
//!
//! async fn copy(from: impl ReceiveStream, to: impl SendStream) -> Result<u64, StreamError> {
//!     let mut buffer = vec![0; 65536];
//!     let mut copied = 0;
//!     loop {
//!         let n = from.receive_some(&mut buffer).await?;
//!         if n == 0 {
//!             return Ok(copied);
//!         }
//!         to.send_all(&buffer[..n]).await?;
//!         copied += n as u64;
//!     }
//! }
//! # let _ = |stream: std::rc::Rc<nursery_io::net::TcpStream>| drop(copy(stream.clone(), &*stream));
//! ```

mod buffered;
mod conflict;
mod error;
mod stapled;

use std::future::Future;
use std::rc::Rc;

use nursery::{CancelScope, Cancelled};

pub use crate::stream::buffered::{BufferedReceive, TooLong};
pub use crate::stream::conflict::{ConflictDetector, ConflictGuard};
pub use crate::stream::error::{Interrupted, StreamError};
pub use crate::stream::stapled::Stapled;

/// Something that has to be closed, and may have to say goodbye first.
pub trait Resource {
    /// Closes it, gracefully if that is possible.
    ///
    /// Closing again does nothing. Dropping the object closes it too, without any goodbye: nothing async runs there.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled, it still does the minimum: it is closed, forcefully. Dropped before its end, it
    /// may be left open; what closes it then is to drop the object.
    ///
    /// # Errors
    ///
    /// [`Cancelled`](StreamError::Cancelled); [`Broken`](StreamError::Broken) if the goodbye failed. It is closed nevertheless.
    fn aclose(&self) -> impl Future<Output = Result<(), StreamError>>;
}

/// Sends bytes, in order. What arrives at the other end is the same bytes, but not in the same pieces.
pub trait SendStream: Resource {
    /// Sends all of `data`, waiting until the stream has taken it. It may not have arrived then.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, also for empty data; may be cut half-way: then the stream refuses to send any more, see the
    /// [module](self).
    ///
    /// # Errors
    ///
    /// Those of [`StreamError`]. [`Closed`](StreamError::Closed) also after [`send_eof`](HalfClose::send_eof), and also
    /// for empty data.
    fn send_all(&self, data: &[u8]) -> impl Future<Output = Result<(), StreamError>>;

    /// Waits until [`send_all`](Self::send_all) might take something without waiting.
    ///
    /// For senders that want to decide as late as possible what to send. It may return too early, never too late.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it did nothing.
    ///
    /// # Errors
    ///
    /// As [`send_all`](Self::send_all), with which it conflicts. If the peer is gone it may also return: what
    /// it must not do is wait.
    fn wait_send_all_might_not_block(&self) -> impl Future<Output = Result<(), StreamError>>;
}

/// Receives bytes, in order.
pub trait ReceiveStream: Resource {
    /// Receives at least one byte, and what else is there, into `buffer`. Returns how many; 0 at the end of the
    /// stream, and ever after.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it took nothing.
    ///
    /// # Errors
    ///
    /// Those of [`StreamError`]. [`Closed`](StreamError::Closed) even if there was something to receive;
    /// [`EmptyBuffer`](StreamError::EmptyBuffer), because 0 would look like the end.
    fn receive_some(&self, buffer: &mut [u8]) -> impl Future<Output = Result<usize, StreamError>>;
}

/// A stream the sending half of which can be closed alone.
pub trait HalfClose: SendStream {
    /// Says that nothing more will be sent: the peer receives what has been sent, and then the end.
    ///
    /// Saying so again does nothing. If the stream is one that receives, that goes on.
    ///
    /// What is provided is for streams that only send: for them it is the same as to close.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, the peer may or may not have been told; say it again.
    ///
    /// # Errors
    ///
    /// Those of [`StreamError`]. It conflicts with [`send_all`](SendStream::send_all).
    fn send_eof(&self) -> impl Future<Output = Result<(), StreamError>> {
        self.aclose()
    }
}

/// Accepts connections.
pub trait Listener: Resource {
    /// What is accepted.
    type Stream: Resource;

    /// Waits for a connection. Several tasks may.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it accepted nothing.
    ///
    /// # Errors
    ///
    /// [`Closed`](StreamError::Closed) if the listener is or gets closed; [`Broken`](StreamError::Broken) with the error of
    /// the system. A connection that failed before it was accepted is no error: it waits for the next.
    fn accept(&self) -> impl Future<Output = Result<Self::Stream, StreamError>>;
}

/// Closes `resource` at once, without waiting for any goodbye.
///
/// It is [`aclose`](Resource::aclose) in a scope that has been cancelled already.
///
/// # Cancellation
///
/// A schedule point. Cancelled from outside, it still does the minimum: it is closed.
///
/// # Errors
///
/// [`Cancelled`](StreamError::Cancelled), from outside; those of `aclose`. It is closed nevertheless.
///
/// # Examples
///
/// ```
/// use nursery_io::net::{TcpListener, TcpStream};
/// use nursery_io::stream::{SendStream, StreamError, aclose_forcefully};
///
/// # nursery_testing::run(async {
/// let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
/// let stream = TcpStream::connect(listener.local_addr()?).await?;
/// aclose_forcefully(&stream).await?;
/// assert!(matches!(stream.send_all(b"late").await, Err(StreamError::Closed)));
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
pub async fn aclose_forcefully<R: Resource + ?Sized>(resource: &R) -> Result<(), StreamError> {
    let scope = CancelScope::new().with_name("aclose_forcefully");
    scope.cancel();
    let close = async {
        match resource.aclose().await {
            Err(StreamError::Cancelled(cancelled)) => Err(cancelled),
            other => Ok(other),
        }
    };
    let closed: Option<Result<(), StreamError>> = scope.enter::<_, Cancelled, _>(close).await?;
    closed.unwrap_or(Ok(()))
}

/// What points to a stream is a stream.
macro_rules! delegate_to_what_it_points_to {
    ($($pointer:ty),*) => {$(
        impl<T: Resource + ?Sized> Resource for $pointer {
            fn aclose(&self) -> impl Future<Output = Result<(), StreamError>> {
                (**self).aclose()
            }
        }

        impl<T: SendStream + ?Sized> SendStream for $pointer {
            fn send_all(&self, data: &[u8]) -> impl Future<Output = Result<(), StreamError>> {
                (**self).send_all(data)
            }

            fn wait_send_all_might_not_block(
                &self,
            ) -> impl Future<Output = Result<(), StreamError>> {
                (**self).wait_send_all_might_not_block()
            }
        }

        impl<T: ReceiveStream + ?Sized> ReceiveStream for $pointer {
            fn receive_some(
                &self,
                buffer: &mut [u8],
            ) -> impl Future<Output = Result<usize, StreamError>> {
                (**self).receive_some(buffer)
            }
        }

        impl<T: HalfClose + ?Sized> HalfClose for $pointer {
            fn send_eof(&self) -> impl Future<Output = Result<(), StreamError>> {
                (**self).send_eof()
            }
        }

        impl<T: Listener + ?Sized> Listener for $pointer {
            type Stream = T::Stream;

            fn accept(&self) -> impl Future<Output = Result<Self::Stream, StreamError>> {
                (**self).accept()
            }
        }
    )*};
}

delegate_to_what_it_points_to!(&T, Rc<T>);
