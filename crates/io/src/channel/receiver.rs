//! [`Receiver`]: the end of a channel where values come out.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_lite::Stream;
use nursery::lowlevel::{cancel_shielded_checkpoint, checkpoint_if_cancelled, is_cancelled};

use crate::channel::error::{RecvError, TryRecvError};
use crate::channel::shared::{ChannelStatistics, Shared, Taken, WaitingRecv};
use crate::sync::quick::{Rest, quick};

/// A handle to receive values with, from [`open`](crate::channel::open).
///
/// Several tasks may use one handle at a time: each value goes to one of them. Clones are handles of their own:
/// they share the values, too. A clone of a closed handle is closed.
///
/// It is also a [`Stream`], that ends with the channel. A stream that has been polled stands in line until it is
/// polled again, or the handle is used in another way, or dropped; what it was given meanwhile is not lost.
pub struct Receiver<T> {
    shared: Rc<Shared<T>>,
    handle: u64,
    is_closed: Cell<bool>,
    /// Present once it has been used as a stream.
    stream: RefCell<Option<Driver<T>>>,
}

impl<T> Receiver<T> {
    pub(super) fn new(shared: Rc<Shared<T>>) -> Self {
        let handle = shared.open(&shared.receivers);
        Receiver::with_handle(shared, handle, false)
    }

    fn with_handle(shared: Rc<Shared<T>>, handle: u64, is_closed: bool) -> Self {
        Receiver { shared, handle, is_closed: Cell::new(is_closed), stream: RefCell::new(None) }
    }

    /// Receives the next value, waiting for one if need be.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it took nothing.
    ///
    /// # Errors
    ///
    /// [`RecvError::Cancelled`]; [`Closed`](RecvError::Closed) if this handle is closed, or becomes so;
    /// [`EndOfChannel`](RecvError::EndOfChannel) when the last sender is closed and the buffer is empty.
    ///
    /// # Panics
    ///
    /// Outside a run.
    #[track_caller]
    pub fn recv(&self) -> impl Future<Output = Result<T, RecvError>> + use<'_, T> {
        let place = Location::caller();
        let at_once = |()| self.pop().map(Ok).ok_or(());
        quick((), at_once, move |(), is_checked| {
            match if is_checked { self.recv_now() } else { None } {
                Some(received) => Rest::Done(received),
                None => Rest::Slow(self.recv_slowly(is_checked, place)),
            }
        })
    }

    #[expect(clippy::manual_async_fn, reason = "an `async fn` would copy its arguments")]
    fn recv_slowly(
        &self,
        is_tried: bool,
        place: &'static Location<'static>,
    ) -> impl Future<Output = Result<T, RecvError>> + use<'_, T> {
        async move {
            if !is_tried {
                checkpoint_if_cancelled().await?;
                if let Some(taken) = self.take_now() {
                    let taken = taken?;
                    cancel_shielded_checkpoint().await;
                    return Ok(taken.keep());
                }
            }
            let waiting = WaitingRecv::new(&self.shared, self.handle);
            let parked = waiting.park(place).await;
            waiting.end(parked)
        }
    }

    /// A value, if there is one and nothing else is to be done.
    #[inline]
    fn pop(&self) -> Option<T> {
        let is_plain = !self.is_closed.get() && self.stream.borrow().is_none();
        if is_plain { self.shared.pop() } else { None }
    }

    /// What can be said at once, when it need not go back any more.
    #[inline(never)]
    fn recv_now(&self) -> Option<Result<T, RecvError>> {
        self.take_now().map(|taken| taken.map(Taken::keep))
    }

    /// What can be said at once; `None` if it has to wait.
    fn take_now(&self) -> Option<Result<Taken<'_, T>, RecvError>> {
        match self.try_take() {
            Ok(taken) => Some(Ok(taken)),
            Err(TryRecvError::Closed) => Some(Err(RecvError::Closed)),
            Err(TryRecvError::EndOfChannel) => Some(Err(RecvError::EndOfChannel)),
            Err(TryRecvError::WouldBlock) => None,
        }
    }

    /// Receives the next value, or `None` at the end of the channel: for `while let` loops.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it took nothing.
    ///
    /// # Errors
    ///
    /// [`RecvError::Cancelled`]; [`Closed`](RecvError::Closed) if this handle is closed, or becomes so.
    ///
    /// # Panics
    ///
    /// Outside a run.
    #[track_caller]
    pub fn next(&self) -> impl Future<Output = Result<Option<T>, RecvError>> + use<'_, T> {
        let place = Location::caller();
        let at_once = |()| self.pop().map(|value| Ok(Some(value))).ok_or(());
        quick((), at_once, move |(), is_checked| {
            match if is_checked { self.recv_now() } else { None } {
                Some(received) => Rest::Done(or_end(received)),
                None => {
                    Rest::Slow(async move { or_end(self.recv_slowly(is_checked, place).await) })
                }
            }
        })
    }

    /// Receives the next value if there is one.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Closed`] if this handle is closed; else, if no value is there,
    /// [`EndOfChannel`](TryRecvError::EndOfChannel) if the last sender is closed, or
    /// [`WouldBlock`](TryRecvError::WouldBlock).
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.try_take().map(Taken::keep)
    }

    #[inline]
    fn try_take(&self) -> Result<Taken<'_, T>, TryRecvError> {
        if self.is_closed.get() {
            return Err(TryRecvError::Closed);
        }
        self.leave_stream();
        self.shared.try_take()
    }

    /// What a stream waits for that is not polled any more is not to be kept from who asks now.
    #[inline]
    fn leave_stream(&self) {
        if self.stream.borrow().is_some() {
            let driver = self.stream.take();
            drop(driver);
        }
    }

    /// Closes this handle. Tasks that wait on it get [`RecvError::Closed`]. Closing it again changes nothing.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    pub fn close(&self) {
        if !self.is_closed.replace(true) {
            self.leave_stream();
            self.shared.close_receiver(self.handle);
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

/// What a loop wants to know.
#[inline]
fn or_end<T>(received: Result<T, RecvError>) -> Result<Option<T>, RecvError> {
    match received {
        Ok(value) => Ok(Some(value)),
        Err(RecvError::EndOfChannel) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Receives for a stream: a future that is made once and never ends, and leaves each result in `out`.
struct Driver<T> {
    out: Rc<Cell<Option<Result<T, RecvError>>>>,
    future: Pin<Box<dyn Future<Output = ()>>>,
}

impl<T: 'static> Driver<T> {
    fn new(shared: Rc<Shared<T>>, handle: u64) -> Self {
        let out = Rc::new(Cell::new(None));
        let future = drive(shared, handle, out.clone());
        Driver { out, future: Box::pin(future) }
    }
}

async fn drive<T>(shared: Rc<Shared<T>>, handle: u64, out: Rc<Cell<Option<Result<T, RecvError>>>>) {
    loop {
        out.set(Some(recv_for_stream(&shared, handle).await));
        pause().await;
    }
}

async fn recv_for_stream<T>(shared: &Shared<T>, handle: u64) -> Result<T, RecvError> {
    checkpoint_if_cancelled().await?;
    match shared.try_take() {
        Ok(taken) => {
            cancel_shielded_checkpoint().await;
            Ok(taken.keep())
        }
        Err(TryRecvError::WouldBlock) => {
            let waiting = WaitingRecv::new(shared, handle);
            let parked = waiting.park(Location::caller()).await;
            waiting.end(parked)
        }
        Err(_) => Err(RecvError::EndOfChannel),
    }
}

/// Leaves the future, until it is polled again.
fn pause() -> impl Future<Output = ()> {
    let mut was_polled = false;
    std::future::poll_fn(move |_| {
        if std::mem::replace(&mut was_polled, true) { Poll::Ready(()) } else { Poll::Pending }
    })
}

/// Ends with the channel; the items are errors when the task is cancelled, or the handle closed.
impl<T: 'static> Stream for Receiver<T> {
    type Item = Result<T, RecvError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.is_closed.get() {
            return Poll::Ready(Some(Err(RecvError::Closed)));
        }
        let new = || Driver::new(this.shared.clone(), this.handle);
        let driver = this.stream.get_mut().get_or_insert_with(new);
        loop {
            let never = driver.future.as_mut().poll(cx);
            debug_assert!(never.is_pending(), "it loops for ever");
            return match driver.out.take() {
                // It was meant for a step that was given up since, in a scope that has been left.
                Some(Err(RecvError::Cancelled(_))) if !is_cancelled() => continue,
                Some(Err(RecvError::EndOfChannel)) => Poll::Ready(None),
                Some(result) => Poll::Ready(Some(result)),
                None => Poll::Pending,
            };
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        if self.is_closed() {
            return Receiver::with_handle(self.shared.clone(), 0, true);
        }
        Receiver::new(self.shared.clone())
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("is_closed", &self.is_closed())
            .field("channel", &self.statistics())
            .finish()
    }
}
