//! Why a value could not be sent or received. What could not be sent comes back.

use std::error::Error;
use std::fmt;
use std::io;

use nursery::Cancelled;

const CLOSED: &str = "this handle of the channel has been closed";
const NO_RECEIVERS: &str = "all receivers of the channel are gone";
const END: &str = "all senders of the channel are gone, and nothing is left in it";

/// Why [`send`](crate::channel::Sender::send) did not send, with the value.
///
/// `?` carries it into [`anyhow::Error`](https://docs.rs/anyhow) if the value is `Send` and `'static`; if it
/// is not, leave it behind:
///
/// ```
/// use std::rc::Rc;
/// use nursery_io::channel::{self, SendError};
///
/// # nursery_testing::run(async {
/// let (sender, receiver) = channel::open(1);
/// sender.send(Rc::new(1)).await.map_err(SendError::without_value)?;
/// # drop(receiver);
/// # anyhow::Ok(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum SendError<T> {
    /// The scope was cancelled.
    Cancelled(Cancelled, T),
    /// The handle has been closed.
    Closed(T),
    /// The last receiver is gone.
    Broken(T),
}

impl<T> SendError<T> {
    /// Returns the value that was not sent.
    pub fn into_value(self) -> T {
        match self {
            SendError::Cancelled(_, value)
            | SendError::Closed(value)
            | SendError::Broken(value) => value,
        }
    }

    /// Drops the value that was not sent, and returns the reason alone.
    #[must_use]
    pub fn without_value(self) -> SendError<()> {
        match self {
            SendError::Cancelled(cancelled, _) => SendError::Cancelled(cancelled, ()),
            SendError::Closed(_) => SendError::Closed(()),
            SendError::Broken(_) => SendError::Broken(()),
        }
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Cancelled(cancelled, _) => cancelled.fmt(f),
            SendError::Closed(_) => f.write_str("Closed(..)"),
            SendError::Broken(_) => f.write_str("Broken(..)"),
        }
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Cancelled(cancelled, _) => cancelled.fmt(f),
            SendError::Closed(_) => f.write_str(CLOSED),
            SendError::Broken(_) => f.write_str(NO_RECEIVERS),
        }
    }
}

impl<T> Error for SendError<T> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            SendError::Cancelled(cancelled, _) => Some(cancelled),
            _ => None,
        }
    }
}

/// The value is dropped.
impl<T> From<SendError<T>> for io::Error {
    fn from(error: SendError<T>) -> Self {
        match error.without_value() {
            error @ SendError::Broken(()) => io::Error::new(io::ErrorKind::BrokenPipe, error),
            error => io::Error::other(error),
        }
    }
}

/// Why [`try_send`](crate::channel::Sender::try_send) did not send, with the value.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrySendError<T> {
    /// No receiver waits, and there is no room.
    WouldBlock(T),
    /// The handle has been closed.
    Closed(T),
    /// The last receiver is gone.
    Broken(T),
}

impl<T> TrySendError<T> {
    /// Returns the value that was not sent.
    pub fn into_value(self) -> T {
        match self {
            TrySendError::WouldBlock(value)
            | TrySendError::Closed(value)
            | TrySendError::Broken(value) => value,
        }
    }

    /// Drops the value that was not sent, and returns the reason alone.
    #[must_use]
    pub fn without_value(self) -> TrySendError<()> {
        match self {
            TrySendError::WouldBlock(_) => TrySendError::WouldBlock(()),
            TrySendError::Closed(_) => TrySendError::Closed(()),
            TrySendError::Broken(_) => TrySendError::Broken(()),
        }
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrySendError::WouldBlock(_) => "WouldBlock(..)",
            TrySendError::Closed(_) => "Closed(..)",
            TrySendError::Broken(_) => "Broken(..)",
        })
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrySendError::WouldBlock(_) => "the channel has no room",
            TrySendError::Closed(_) => CLOSED,
            TrySendError::Broken(_) => NO_RECEIVERS,
        })
    }
}

impl<T> Error for TrySendError<T> {}

/// The value is dropped.
impl<T> From<TrySendError<T>> for io::Error {
    fn from(error: TrySendError<T>) -> Self {
        match error.without_value() {
            error @ TrySendError::WouldBlock(()) => {
                io::Error::new(io::ErrorKind::WouldBlock, error)
            }
            error @ TrySendError::Broken(()) => io::Error::new(io::ErrorKind::BrokenPipe, error),
            error => io::Error::other(error),
        }
    }
}

/// Why [`recv`](crate::channel::Receiver::recv) received nothing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RecvError {
    /// The scope was cancelled.
    Cancelled(Cancelled),
    /// The handle has been closed.
    Closed,
    /// The last sender is gone, and so is all that was sent.
    EndOfChannel,
}

impl From<Cancelled> for RecvError {
    fn from(cancelled: Cancelled) -> Self {
        RecvError::Cancelled(cancelled)
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecvError::Cancelled(cancelled) => cancelled.fmt(f),
            RecvError::Closed => f.write_str(CLOSED),
            RecvError::EndOfChannel => f.write_str(END),
        }
    }
}

impl Error for RecvError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            RecvError::Cancelled(cancelled) => Some(cancelled),
            _ => None,
        }
    }
}

impl From<RecvError> for io::Error {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::EndOfChannel => io::Error::new(io::ErrorKind::UnexpectedEof, error),
            other => io::Error::other(other),
        }
    }
}

/// Why [`try_recv`](crate::channel::Receiver::try_recv) received nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryRecvError {
    /// Nothing is in the buffer, and no sender waits.
    WouldBlock,
    /// The handle has been closed.
    Closed,
    /// The last sender is gone, and so is all that was sent.
    EndOfChannel,
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TryRecvError::WouldBlock => "the channel is empty",
            TryRecvError::Closed => CLOSED,
            TryRecvError::EndOfChannel => END,
        })
    }
}

impl Error for TryRecvError {}

impl From<TryRecvError> for io::Error {
    fn from(error: TryRecvError) -> Self {
        let kind = match error {
            TryRecvError::WouldBlock => io::ErrorKind::WouldBlock,
            TryRecvError::EndOfChannel => io::ErrorKind::UnexpectedEof,
            TryRecvError::Closed => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
