//! [`memory_stream_pump`]: carries bytes from a sender to a receiver that know nothing of each other.

use nursery_io::stream::StreamError;

use crate::memory_stream::queue::{ByteQueue, State, receiver_is_gone};
use crate::memory_stream::{MemoryReceiveStream, MemorySendStream};

/// Carries up to `max` bytes that have been sent, or the end, to a receiver. Returns false if there was nothing to be
/// carried.
///
/// For pairs whose hooks have been removed, and for ends that were made apart: what is sent arrives late, in pieces, or
/// never.
///
/// # Cancellation
///
/// Not a checkpoint.
///
/// # Errors
///
/// [`StreamError::Broken`] if the receiver has been closed; the bytes are lost.
pub fn memory_stream_pump(
    from: &MemorySendStream,
    to: &MemoryReceiveStream,
    max: usize,
) -> Result<bool, StreamError> {
    pump(&from.outgoing, &to.incoming, max)
}

pub(super) fn pump(from: &ByteQueue, to: &ByteQueue, max: usize) -> Result<bool, StreamError> {
    if to.state() == State::Gone {
        from.try_take(usize::MAX);
        return Err(receiver_is_gone());
    }
    match from.try_take(max) {
        None => Ok(false),
        Some(bytes) if bytes.is_empty() => Ok(from.state() != State::Open && to.end()),
        Some(bytes) => to.put(&bytes).map(|()| true),
    }
}
