//! [`MemoryReceiveStream`]: the end of a memory stream from which is received.

use std::future::Future;
use std::panic::Location;
use std::rc::Rc;

use nursery::checkpoint;
use nursery_io::stream::{ConflictDetector, ReceiveStream, Resource, StreamError};

use crate::memory_stream::hook::{AsyncHook, Hook};
use crate::memory_stream::queue::{ByteQueue, State};

/// The end of a memory stream from which is received: from [`memory_stream_pair`](crate::memory_stream_pair), or by
/// itself.
///
/// By itself it gives what the test puts into it, with [`put_data`](Self::put_data). Dropping it closes it.
///
/// # Examples
///
/// ```
/// use nursery_io::stream::BufferedReceive;
/// use nursery_testing::MemoryReceiveStream;
///
/// # nursery_testing::run(async {
/// let receiver = MemoryReceiveStream::new();
/// receiver.put_data(b"half a line, ")?;
/// receiver.put_data(b"and the other half\n")?;
/// receiver.put_eof()?;
/// let mut lines = BufferedReceive::new(receiver);
/// assert_eq!(lines.read_line(100).await?.as_deref(), Some("half a line, and the other half"));
/// assert_eq!(lines.read_line(100).await?, None);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct MemoryReceiveStream {
    /// Awaited by `receive_some`, before it looks for something to receive.
    pub receive_some_hook: AsyncHook,
    /// Called when the stream has been closed, once.
    pub close_hook: Hook,
    pub(super) incoming: Rc<ByteQueue>,
    receiving: ConflictDetector,
}

impl MemoryReceiveStream {
    /// Makes one that is connected to nothing.
    #[must_use]
    pub fn new() -> Self {
        MemoryReceiveStream::default()
    }

    /// Puts bytes where they are received.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`] after [`put_eof`](Self::put_eof); [`StreamError::Broken`] if the stream has been closed.
    pub fn put_data(&self, data: &[u8]) -> Result<(), StreamError> {
        self.incoming.put(data)
    }

    /// Puts the end of the stream behind what has been put.
    ///
    /// # Errors
    ///
    /// [`StreamError::Broken`] if the stream has been closed.
    pub fn put_eof(&self) -> Result<(), StreamError> {
        self.incoming.end();
        if self.is_closed() { self.incoming.check() } else { Ok(()) }
    }

    /// Closes it, now. A task that waits in it gets [`Closed`](StreamError::Closed).
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    pub fn close(&self) {
        if self.incoming.abandon() {
            self.close_hook.call();
        }
    }

    fn is_closed(&self) -> bool {
        self.incoming.state() == State::Gone
    }

    fn check_open(&self) -> Result<(), StreamError> {
        if self.is_closed() { Err(StreamError::Closed) } else { Ok(()) }
    }
}

impl Resource for MemoryReceiveStream {
    async fn aclose(&self) -> Result<(), StreamError> {
        self.close();
        Ok(checkpoint().await?)
    }
}

impl ReceiveStream for MemoryReceiveStream {
    #[track_caller]
    fn receive_some(&self, buffer: &mut [u8]) -> impl Future<Output = Result<usize, StreamError>> {
        let place = Location::caller();
        async move {
            let _guard = self.receiving.enter()?;
            self.check_open()?;
            if buffer.is_empty() {
                return Err(StreamError::EmptyBuffer);
            }
            checkpoint().await?;
            self.receive_some_hook.call().await?;
            self.incoming.wait(place).await?;
            self.check_open()?;
            Ok(self.incoming.take(buffer))
        }
    }
}

impl Drop for MemoryReceiveStream {
    fn drop(&mut self) {
        self.close();
    }
}
