//! A listener in memory.

use std::io;

use nursery::checkpoint;
use nursery_io::channel::{self, Receiver, Sender};
use nursery_io::stream::{Listener, Resource, StreamError};
use nursery_testing::BoundedStream;

/// Accepts the ends of memory streams that a test sends it.
pub(crate) struct MemoryListener {
    incoming: Receiver<BoundedStream>,
}

/// A listener, and where to send it the other ends of its connections.
pub(crate) fn memory_listener() -> (Sender<BoundedStream>, MemoryListener) {
    let (sender, incoming) = channel::open(channel::UNBOUNDED);
    (sender, MemoryListener { incoming })
}

impl Resource for MemoryListener {
    async fn aclose(&self) -> Result<(), StreamError> {
        self.incoming.close();
        Ok(checkpoint().await?)
    }
}

impl Listener for MemoryListener {
    type Stream = BoundedStream;

    async fn accept(&self) -> Result<BoundedStream, StreamError> {
        Ok(self.incoming.recv().await.map_err(io::Error::from)?)
    }
}
