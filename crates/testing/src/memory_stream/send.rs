//! [`MemorySendStream`]: the end of a memory stream into which is sent.

use std::future::Future;
use std::panic::Location;
use std::rc::Rc;

use nursery::checkpoint;
use nursery_io::stream::{ConflictDetector, HalfClose, Resource, SendStream, StreamError};

use crate::memory_stream::hook::{AsyncHook, Hook};
use crate::memory_stream::queue::ByteQueue;

/// The end of a memory stream into which is sent: from [`memory_stream_pair`](crate::memory_stream_pair), or by itself.
///
/// By itself it keeps what is sent, until the test gets it with [`get_data`](Self::get_data). Its hooks tell the test when
/// it is used, let it wait or fail, and may be changed at any time. Dropping it closes it.
///
/// # Examples
///
/// ```
/// use std::io;
/// use nursery_io::stream::{SendStream, StreamError};
/// use nursery_testing::MemorySendStream;
///
/// # nursery_testing::run(async {
/// let sender = MemorySendStream::new();
/// sender.send_all(b"GET / HTTP/1.1\r\n").await?;
/// assert_eq!(sender.try_get_data().as_deref(), Some(&b"GET / HTTP/1.1\r\n"[..]));
///
/// sender.send_all_hook.set(async || Err(io::Error::other("the cable is cut").into()));
/// assert!(matches!(sender.send_all(b"\r\n").await, Err(StreamError::Broken(_))));
/// # Ok::<(), io::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct MemorySendStream {
    /// Awaited by `send_all`, when it has sent.
    pub send_all_hook: AsyncHook,
    /// Awaited by `wait_send_all_might_not_block`.
    pub wait_send_all_might_not_block_hook: AsyncHook,
    /// Called when the stream has been closed, once.
    pub close_hook: Hook,
    pub(super) outgoing: Rc<ByteQueue>,
    sending: ConflictDetector,
    getting: ConflictDetector,
}

impl MemorySendStream {
    /// Makes one that is connected to nothing.
    #[must_use]
    pub fn new() -> Self {
        MemorySendStream::default()
    }

    /// Waits until something has been sent, and takes all of it. Nothing, at the end.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it took nothing.
    ///
    /// # Errors
    ///
    /// [`Cancelled`](StreamError::Cancelled); [`Busy`](StreamError::Busy) if another task is in it.
    #[track_caller]
    pub fn get_data(&self) -> impl Future<Output = Result<Vec<u8>, StreamError>> {
        let place = Location::caller();
        async move {
            let _guard = self.getting.enter()?;
            checkpoint().await?;
            self.outgoing.wait(place).await?;
            Ok(self.outgoing.try_take(usize::MAX).unwrap_or_default())
        }
    }

    /// Takes what has been sent; `None` if that is nothing. Nothing, at the end.
    pub fn try_get_data(&self) -> Option<Vec<u8>> {
        self.outgoing.try_take(usize::MAX)
    }

    /// Closes it, now.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    pub fn close(&self) {
        if self.outgoing.end() {
            self.close_hook.call();
        }
    }
}

impl Resource for MemorySendStream {
    async fn aclose(&self) -> Result<(), StreamError> {
        self.close();
        Ok(checkpoint().await?)
    }
}

impl SendStream for MemorySendStream {
    async fn send_all(&self, data: &[u8]) -> Result<(), StreamError> {
        let _guard = self.sending.enter()?;
        self.outgoing.check()?;
        checkpoint().await?;
        self.outgoing.put(data)?;
        self.send_all_hook.call().await
    }

    async fn wait_send_all_might_not_block(&self) -> Result<(), StreamError> {
        let _guard = self.sending.enter()?;
        self.outgoing.check()?;
        checkpoint().await?;
        self.wait_send_all_might_not_block_hook.call().await?;
        self.outgoing.check()
    }
}

/// The same as to close it, but that it conflicts with sending.
impl HalfClose for MemorySendStream {
    async fn send_eof(&self) -> Result<(), StreamError> {
        let _guard = self.sending.enter()?;
        checkpoint().await?;
        self.close();
        Ok(())
    }
}

impl Drop for MemorySendStream {
    fn drop(&mut self) {
        self.close();
    }
}
