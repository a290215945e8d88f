//! Memory channels: passing values from task to task.
//!
//! | for | use |
//! |---|---|
//! | values each of which goes to one receiver | [`open`] |
//! | values each of which goes to every receiver | [`broadcast`] |
//! | a value that changes, and of which only the latest counts | [`watch`] |
//! | values that are made one by one, when they are wanted | [`producer()`] |
//!
//! # Life of a channel
//!
//! [`open`] gives two handles, a [`Sender`] and a [`Receiver`], and each can be cloned. A handle is closed by
//! [`close`](Sender::close) or by being dropped; the side is gone when its last handle is closed:
//!
//! | what happens | in the other tasks |
//! |---|---|
//! | *this* handle is closed | those that wait on it, or use it, get `Closed` |
//! | the last sender is closed | receivers get what is left in the buffer, then `EndOfChannel` |
//! | the last receiver is closed | senders get `Broken`; what is left in the buffer is dropped |
//!
//! # Back-pressure
//!
//! The capacity says how far senders may run ahead. With 0, each value passes from hand to hand: `send` is done when
//! a receiver has it. The smaller, the better: a buffer hides that one side is too slow, until it is full.
//! With [`UNBOUNDED`], senders never wait, and nothing holds them back.
//!
//! # Fairness
//!
//! Values arrive in the order sent. Of several receivers that wait, the first gets the first value; senders wait
//! in order. Nobody overtakes those that wait.
//!
//! # Examples
//!
//! ```
//! use nursery::open_nursery;
//! use nursery_io::channel;
//!
//! # nursery_testing::run(async {
//! let (sender, receiver) = channel::open(0);
//! open_nursery(async |n| -> anyhow::Result<()> {
//!     for producer in 0..2 {
//!         let sender = sender.clone();
//!         n.start_soon(async move {
//!             for i in 0..3 {
//!                 sender.send(10 * producer + i).await?;
//!             }
//!             Ok(())
//!         });
//!     }
//!     drop(sender); // what ends the loop is that the last sender is gone
//!     let mut sum = 0;
//!     while let Some(item) = receiver.next().await? {
//!         sum += item;
//!     }
//!     assert_eq!(sum, 36);
//!     Ok(())
//! })
//! .await
//! # }).unwrap();
//! ```

pub mod broadcast;
mod error;
pub mod producer;
mod receiver;
mod sender;
mod shared;
pub mod watch;

pub use crate::channel::error::{RecvError, SendError, TryRecvError, TrySendError};
#[doc(inline)]
pub use crate::channel::producer::producer;
pub use crate::channel::receiver::Receiver;
pub use crate::channel::sender::Sender;
pub use crate::channel::shared::ChannelStatistics;

/// The capacity of a channel the senders of which never wait.
pub const UNBOUNDED: usize = usize::MAX;

/// Opens a channel with room for `capacity` values.
///
/// # Examples
///
/// ```
/// use nursery_io::channel::{self, TryRecvError, TrySendError};
///
/// let (sender, receiver) = channel::open(1);
/// sender.try_send("a")?;
/// assert_eq!(sender.try_send("b"), Err(TrySendError::WouldBlock("b")));
/// drop(sender);
/// assert_eq!(receiver.try_recv(), Ok("a"));
/// assert_eq!(receiver.try_recv(), Err(TryRecvError::EndOfChannel));
/// # Ok::<(), TrySendError<&str>>(())
/// ```
#[must_use]
pub fn open<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = shared::Shared::new(capacity);
    (Sender::new(shared.clone()), Receiver::new(shared))
}
