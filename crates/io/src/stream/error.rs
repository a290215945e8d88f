//! [`StreamError`]: why something could not be sent, received, accepted or closed.

use std::error::Error;
use std::fmt;
use std::io;

use nursery::{Cancelled, TaskError};

/// Why something could not be sent, received, accepted or closed.
///
/// The borders are drawn by *who did it*: the scope was cancelled, this side closed, the other side or what lies
/// between failed, or this side did two things at once.
///
/// `?` carries it into `anyhow::Error`, and into [`io::Error`], from which it comes back unharmed:
///
/// ```
/// use std::io;
/// use nursery_io::stream::StreamError;
///
/// let error = io::Error::from(StreamError::Closed); // through code that only knows `io::Error`
/// assert!(matches!(StreamError::from(error), StreamError::Closed));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum StreamError {
    /// The scope was cancelled.
    Cancelled(Cancelled),
    /// This side has closed it: before, or meanwhile, in another task.
    Closed,
    /// The peer, the network or the protocol has failed, as the cause says. It will not work again.
    Broken(io::Error),
    /// Another task is in the middle of an operation that excludes this one.
    Busy,
    /// There is no room to receive anything into.
    EmptyBuffer,
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamError::Cancelled(cancelled) => cancelled.fmt(f),
            StreamError::Closed => f.write_str("it has been closed on this side"),
            StreamError::Broken(_) => f.write_str("the connection is broken"),
            StreamError::Busy => {
                f.write_str("another task is in the middle of an operation that excludes this one")
            }
            StreamError::EmptyBuffer => f.write_str(
                "the buffer to receive into has no room: 0 bytes would look like the end",
            ),
        }
    }
}

impl Error for StreamError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            StreamError::Cancelled(cancelled) => Some(cancelled),
            StreamError::Broken(cause) => Some(cause),
            StreamError::Closed | StreamError::Busy | StreamError::EmptyBuffer => None,
        }
    }
}

impl From<Cancelled> for StreamError {
    fn from(cancelled: Cancelled) -> Self {
        StreamError::Cancelled(cancelled)
    }
}

/// [`Broken`](StreamError::Broken), unless it holds a [`Cancelled`] or another `StreamError`.
impl From<io::Error> for StreamError {
    fn from(error: io::Error) -> Self {
        match error.downcast::<StreamError>() {
            Ok(stream) => stream,
            Err(error) => match error.as_cancelled() {
                Some(cancelled) => StreamError::Cancelled(cancelled.clone()),
                None => StreamError::Broken(error),
            },
        }
    }
}

/// A [`Broken`](StreamError::Broken) becomes its cause; the others are held by the error.
impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Cancelled(cancelled) => cancelled.into(),
            StreamError::Broken(cause) => cause,
            StreamError::Busy => io::Error::new(io::ErrorKind::ResourceBusy, error),
            StreamError::EmptyBuffer => io::Error::new(io::ErrorKind::InvalidInput, error),
            StreamError::Closed => io::Error::other(error),
        }
    }
}

/// An earlier [`send_all`](crate::stream::SendStream::send_all) was cancelled or dropped half-way: the stream sends no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interrupted {
    /// How much of its data had gone.
    pub sent: usize,
    /// How much it was to send.
    pub of: usize,
}

impl Interrupted {
    /// Makes one. For implementations of streams.
    #[must_use]
    pub fn new(sent: usize, of: usize) -> Self {
        Interrupted { sent, of }
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Interrupted { sent, of } = self;
        write!(f, "an earlier `send_all` ended after {sent} of its {of} bytes")
    }
}

impl Error for Interrupted {}

impl From<Interrupted> for StreamError {
    fn from(interrupted: Interrupted) -> Self {
        StreamError::Broken(io::Error::new(io::ErrorKind::BrokenPipe, interrupted))
    }
}
