//! [`Sender`]: the end of a channel where values go in.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::rc::Rc;

use nursery::lowlevel::{cancel_shielded_checkpoint, checkpoint_if_cancelled};

use crate::channel::error::{SendError, TrySendError};
use crate::channel::shared::{ChannelStatistics, Shared, WaitingSend};
use crate::sync::quick::{Rest, quick};

/// A handle to send values with, from [`open`](crate::channel::open).
///
/// Several tasks may use one handle at a time. Clones are handles of their own: the channel ends when all of them
/// are closed. A clone of a closed handle is closed.
pub struct Sender<T> {
    shared: Rc<Shared<T>>,
    handle: u64,
    is_closed: Cell<bool>,
}

impl<T> Sender<T> {
    pub(super) fn new(shared: Rc<Shared<T>>) -> Self {
        let handle = shared.open(&shared.senders);
        Sender { shared, handle, is_closed: Cell::new(false) }
    }

    /// Sends a value, waiting for room, or for a receiver, if need be.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it did nothing: cancelled, the value comes back in the error; dropped, the
    /// value is dropped too. (Dropped in the yield after it had succeeded, it is sent.)
    ///
    /// # Errors
    ///
    /// [`SendError::Cancelled`]; [`Closed`](SendError::Closed) if this handle is closed, or becomes so;
    /// [`Broken`](SendError::Broken) if the last receiver is closed, or becomes so.
    ///
    /// # Panics
    ///
    /// Outside a run.
    #[track_caller]
    pub fn send(&self, value: T) -> impl Future<Output = Result<(), SendError<T>>> + use<'_, T> {
        let place = Location::caller();
        let at_once = |value| self.push(value).map(Ok);
        quick(value, at_once, move |value, is_checked| {
            let value = if is_checked {
                match self.send_now(value) {
                    Ok(sent) => return Rest::Done(sent),
                    Err(value) => value,
                }
            } else {
                value
            };
            Rest::Slow(self.send_slowly(value, is_checked, place))
        })
    }

    #[expect(clippy::manual_async_fn, reason = "an `async fn` would have room for the value twice")]
    fn send_slowly(
        &self,
        value: T,
        is_tried: bool,
        place: &'static Location<'static>,
    ) -> impl Future<Output = Result<(), SendError<T>>> + use<'_, T> {
        async move {
            let value = if is_tried {
                value
            } else {
                if let Err(cancelled) = checkpoint_if_cancelled().await {
                    return Err(SendError::Cancelled(cancelled, value));
                }
                match self.send_now(value) {
                    Err(value) => value,
                    Ok(sent) => {
                        sent?;
                        cancel_shielded_checkpoint().await;
                        return Ok(());
                    }
                }
            };
            let waiting = WaitingSend::new(&self.shared, self.handle, value);
            let parked = waiting.park(place).await;
            waiting.end(parked)
        }
    }

    /// Sends the value if there is room and nothing else is to be done.
    #[inline]
    fn push(&self, value: T) -> Result<(), T> {
        if self.is_closed.get() { Err(value) } else { self.shared.push(value) }
    }

    /// What can be said at once; the value, if it has to wait.
    #[inline(never)]
    fn send_now(&self, value: T) -> Result<Result<(), SendError<T>>, T> {
        match self.try_send(value) {
            Ok(()) => Ok(Ok(())),
            Err(TrySendError::Closed(value)) => Ok(Err(SendError::Closed(value))),
            Err(TrySendError::Broken(value)) => Ok(Err(SendError::Broken(value))),
            Err(TrySendError::WouldBlock(value)) => Err(value),
        }
    }

    /// Sends a value if a receiver waits or there is room.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Closed`] if this handle is closed; else [`Broken`](TrySendError::Broken) if the last receiver is;
    /// else [`WouldBlock`](TrySendError::WouldBlock).
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        if self.is_closed.get() {
            return Err(TrySendError::Closed(value));
        }
        self.shared.try_send(value)
    }

    /// Closes this handle. Tasks that wait on it get [`SendError::Closed`]. Closing it again changes nothing.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    pub fn close(&self) {
        if !self.is_closed.replace(true) {
            self.shared.close_sender(self.handle);
        }
    }

    /// Returns whether this handle is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    /// Returns numbers of the channel.
    #[must_use]
    pub fn statistics(&self) -> ChannelStatistics {
        self.shared.statistics()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        if self.is_closed() {
            return Sender { shared: self.shared.clone(), handle: 0, is_closed: Cell::new(true) };
        }
        Sender::new(self.shared.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("is_closed", &self.is_closed())
            .field("channel", &self.statistics())
            .finish()
    }
}
