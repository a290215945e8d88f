//! Streams that are only in memory: what is sent into one end comes out of the other, as a test wants it.
//!
//! | a pair | sending |
//! |---|---|
//! | [`memory_stream_pair`], [`memory_stream_one_way_pair`] | never waits; what is sent is there at once, or when the test says so |
//! | [`bounded_stream_pair`], [`bounded_stream_one_way_pair`] | waits while more than so many bytes have not been received |
//! | [`lockstep_stream_pair`], [`lockstep_stream_one_way_pair`] | waits until all of it has been received: it is always clogged |

mod bounded;
mod hook;
mod pump;
mod queue;
mod receive;
mod send;

use std::rc::Rc;

use nursery::Cancelled;
use nursery::lowlevel::ParkError;
use nursery_io::stream::Stapled;

pub use crate::memory_stream::bounded::{BoundedReceiveStream, BoundedSendStream};
pub use crate::memory_stream::hook::{AsyncHook, Hook};
pub use crate::memory_stream::pump::memory_stream_pump;
pub use crate::memory_stream::receive::MemoryReceiveStream;
pub use crate::memory_stream::send::MemorySendStream;

use crate::memory_stream::bounded::open;
use crate::memory_stream::pump::pump;

/// What a memory stream says it waits for.
const TO_RECEIVE: &str = "something to receive";

/// One end of a [`memory_stream_pair`].
pub type MemoryStream = Stapled<MemorySendStream, MemoryReceiveStream>;

/// One end of a [`bounded_stream_pair`] or a [`lockstep_stream_pair`].
pub type BoundedStream = Stapled<BoundedSendStream, BoundedReceiveStream>;

/// Makes a stream in memory that has room for everything, and both of its ends.
///
/// Hooks of the sender carry what is sent to the receiver at once. They can be removed, to hold it up: then
/// [`memory_stream_pump`] carries it.
///
/// # Examples
///
/// ```
/// use nursery_io::stream::{ReceiveStream, Resource, SendStream};
/// use nursery_testing::memory_stream_one_way_pair;
///
/// # nursery_testing::run(async {
/// let (sender, receiver) = memory_stream_one_way_pair();
/// sender.send_all(b"hello").await?;
/// sender.aclose().await?;
/// let mut buffer = [0; 100];
/// assert_eq!(receiver.receive_some(&mut buffer).await?, 5);
/// assert_eq!(receiver.receive_some(&mut buffer).await?, 0);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[must_use]
pub fn memory_stream_one_way_pair() -> (MemorySendStream, MemoryReceiveStream) {
    let (sender, receiver) = (MemorySendStream::new(), MemoryReceiveStream::new());
    let (from, to) = (sender.outgoing.clone(), receiver.incoming.clone());
    let pump = Rc::new(move || pump(&from, &to, usize::MAX).map(drop));
    sender.close_hook.set({
        let pump = pump.clone();
        move || drop(pump()) // a receiver that is gone needs no end
    });
    sender.send_all_hook.set(async move || pump());
    (sender, receiver)
}

/// Makes a stream in memory that goes both ways, and both of its ends. See [`memory_stream_one_way_pair`].
///
/// # Examples
///
/// A server is tried without a network; and what it sends can be held up:
///
/// ```
/// use nursery_io::stream::{BufferedReceive, ReceiveStream, SendStream};
/// use nursery_testing::{memory_stream_pair, memory_stream_pump};
///
/// async fn greet(stream: impl SendStream + ReceiveStream) -> std::io::Result<()> {
///     let mut lines = BufferedReceive::new(&stream);
///     if let Some(name) = lines.read_line(100).await? {
///         stream.send_all(format!("hello, {name}").as_bytes()).await?;
///     }
///     Ok(())
/// }
///
/// # nursery_testing::run(async {
/// let (client, server) = memory_stream_pair();
/// client.send_all(b"world\n").await?;
/// server.send.send_all_hook.remove(); // the network is slow
/// greet(&server).await?;
///
/// let mut buffer = [0; 100];
/// memory_stream_pump(&server.send, &client.receive, 3)?;
/// assert_eq!(client.receive_some(&mut buffer).await?, 3);
/// assert_eq!(&buffer[..3], b"hel");
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[must_use]
pub fn memory_stream_pair() -> (MemoryStream, MemoryStream) {
    staple(memory_stream_one_way_pair(), memory_stream_one_way_pair())
}

/// Makes a stream in memory that has room for `capacity` bytes, and both of its ends.
///
/// [`send_all`](nursery_io::stream::SendStream::send_all) returns when no more than that have not been received.
#[must_use]
pub fn bounded_stream_one_way_pair(capacity: usize) -> (BoundedSendStream, BoundedReceiveStream) {
    open(capacity)
}

/// Makes a stream in memory that goes both ways, and has room for `capacity` bytes each way.
#[must_use]
pub fn bounded_stream_pair(capacity: usize) -> (BoundedStream, BoundedStream) {
    staple(open(capacity), open(capacity))
}

/// Makes a stream in memory that has no room at all, and both of its ends: who sends waits until all has been received.
///
/// So both sides proceed in lockstep, which uncovers what works only because of a buffer.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use nursery::move_on_after;
/// use nursery_io::stream::SendStream;
/// use nursery_testing::lockstep_stream_one_way_pair;
///
/// # nursery_testing::run(async {
/// let (sender, _receiver) = lockstep_stream_one_way_pair();
/// let sent = async { std::io::Result::Ok(sender.send_all(b"x").await?) };
/// assert!(move_on_after(Duration::from_secs(9), sent).await?.is_none()); // nobody receives
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[must_use]
pub fn lockstep_stream_one_way_pair() -> (BoundedSendStream, BoundedReceiveStream) {
    open(0)
}

/// Makes a stream in memory that goes both ways, and has no room at all. See [`lockstep_stream_one_way_pair`].
#[must_use]
pub fn lockstep_stream_pair() -> (BoundedStream, BoundedStream) {
    bounded_stream_pair(0)
}

/// Makes both ends of what goes there and back.
fn staple<S, R>(there: (S, R), back: (S, R)) -> (Stapled<S, R>, Stapled<S, R>) {
    (Stapled::new(there.0, back.1), Stapled::new(back.0, there.1))
}

/// Nobody breaks the lots of these streams.
fn only_cancelled(parked: Result<(), ParkError>) -> Result<(), Cancelled> {
    match parked {
        Err(ParkError::Cancelled(cancelled)) => Err(cancelled),
        _ => Ok(()),
    }
}
