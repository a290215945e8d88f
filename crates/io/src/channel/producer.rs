//! [`producer()`]: what a generator would be, as a task that sends to whoever is in the block.
//!
//! ```text
//!  asleep ──1──▶ runs ──2──▶ rests in `send` ──1──▶ runs … ──3──▶ ended ──▶ EndOfChannel
//!     └────────────┴──────────────┴──4──▶ cancelled, cleans up ──▶ ended
//! ```
//! 1. somebody waits in `recv`  2. a receiver has the value  3. it returns  4. the block is left, the receiver closed, or
//!    everything around is cancelled
//!
//! # Invariants
//!
//! 1. The producer runs only if a receiver waited since its last value was taken.
//! 2. Both functions run in scopes of their own, and neither fails the nursery: so whose error it is, and how many
//!    there are, is known, and no cancellation of this file leaves it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::rc::Rc;

use nursery::lowlevel::{ParkingLot, checkpoint_if_cancelled};
use nursery::{CancelScope, Cancelled, ErrorGroup, Nursery, TaskError, open_nursery};

use crate::channel::error::{RecvError, SendError};
use crate::channel::{self, ChannelStatistics};
use crate::sync::only_cancelled;

/// Runs `produce` in a task that sends values, and `body` with what receives them; the producer lives as long as the
/// body.
///
/// Instead of an async generator, in which a cancel scope or a nursery around a `yield` would be left while it is
/// open. The producer only moves on demand: it begins when somebody first waits for a value, and its
/// [`send`](Sender::send) returns when somebody waits for the next one.
///
/// When the body returns, or closes the receiver, the producer is cancelled, and the block ends when it has. When the
/// producer fails, the body is cancelled.
///
/// # Cancellation
///
/// Not a cancel point of its own. A body that has returned a value keeps it: a cancellation
/// from outside that meets the producer after that is left to the next checkpoint. Dropped, it drops the producer and
/// the body.
///
/// # Errors
///
/// That of the body or of the producer, as it is; if both fail, an [`ErrorGroup`] of the two, in the order in which
/// they happened. Cancellations beside an error are left out, and one that comes from leaving the block does not
/// get out at all.
///
/// # Panics
///
/// With the panic of the body or the producer, after the other has been cancelled and has ended. Outside a run.
///
/// # Examples
///
/// ```
/// use nursery_io::channel::{self, producer::Sender};
///
/// async fn squares(sender: &Sender<u32>) -> anyhow::Result<()> {
///     for i in 1.. {
///         sender.send(i * i).await?;
///     }
///     Ok(())
/// }
///
/// # nursery_testing::run(async {
/// let found = channel::producer(squares, async |receiver| {
///     while let Some(square) = receiver.next().await? {
///         if square > 50 {
///             return Ok(square);
///         }
///     }
///     anyhow::bail!("no square is large enough")
/// })
/// .await?; // the producer has been cancelled, and has ended
/// assert_eq!(found, 64);
/// # anyhow::Ok(())
/// # }).unwrap();
/// ```
#[track_caller]
pub fn producer<'env, T, R, E, P, B>(produce: P, body: B) -> impl Future<Output = Result<R, E>>
where
    T: 'env,
    E: TaskError + 'env,
    P: AsyncFnOnce(&Sender<T>) -> Result<(), E> + 'env,
    B: AsyncFnOnce(&Receiver<T>) -> Result<R, E>,
{
    let errors = Rc::new(RefCell::new(Vec::new()));
    let failures = errors.clone();
    let nursery = open_nursery(async move |n: &Nursery<'_, 'env, E>| {
        let block = Rc::new(Block::default());
        let (sender, receiver) = channel::open(0);
        let sender = Sender { inner: sender, block: block.clone() };
        let receiver = Receiver { inner: receiver, block };
        let (block, errors) = (sender.block.clone(), failures.clone());
        n.start_soon(async move {
            let task = async {
                sender.wait_for_demand().await?; // invariant 1
                produce(&sender).await
            };
            if let Err(error) = block.production.enter(task).await
                && !(block.is_left.get() && error.as_cancelled().is_some())
            {
                errors.borrow_mut().push(error);
                block.consumption.cancel_because("the producer failed");
            }
            Ok(())
        })
        .set_name("producer");
        let result = receiver.block.consumption.enter(body(&receiver)).await;
        receiver.block.is_left.set(result.is_ok());
        receiver.end("the block was left");
        Ok(result.unwrap_or_else(|error| {
            failures.borrow_mut().push(error);
            None
        }))
    });
    async move {
        let value = nursery.await?;
        match (join(errors.take()), value) {
            (Some(error), _) => Err(error),
            (None, value) => {
                Ok(value.expect("the body is cancelled from here only if the producer failed"))
            }
        }
    }
}

/// The error that stands for all: the only one that is not a cancellation, or a group of those.
fn join<E: TaskError>(errors: Vec<E>) -> Option<E> {
    let (mut cancelled, mut failed) = (Vec::new(), Vec::new());
    for error in errors {
        if error.as_cancelled().is_some() { &mut cancelled } else { &mut failed }.push(error);
    }
    match failed.len() {
        0 => cancelled.into_iter().next(),
        1 => failed.pop(),
        _ => Some(ErrorGroup::new(failed).into()),
    }
}

/// What the two ends share.
#[derive(Default)]
struct Block {
    /// Where the producer waits until a receiver does.
    demand: ParkingLot,
    /// Around the producer.
    production: CancelScope,
    /// Around the body.
    consumption: CancelScope,
    /// Nobody will receive any more.
    is_closed: Cell<bool>,
    /// The body has returned a value.
    is_left: Cell<bool>,
}

/// The producer's end, in [`producer()`].
pub struct Sender<T> {
    inner: channel::Sender<T>,
    block: Rc<Block>,
}

impl<T> Sender<T> {
    /// Hands a value to a receiver, and returns when the next one is wanted.
    ///
    /// When the block is left, or the receiver closed, the producer is cancelled: it is here that it hears of it.
    ///
    /// # Cancellation
    ///
    /// A checkpoint; may be cut half-way: cancelled or dropped before a receiver has the value, the value is dropped;
    /// afterwards, it has been sent.
    ///
    /// # Errors
    ///
    /// [`SendError::Cancelled`]; under a shield also [`SendError::Broken`]: nothing is wanted any more.
    ///
    /// # Panics
    ///
    /// Outside a run.
    pub async fn send(&self, value: T) -> Result<(), SendError<()>> {
        self.inner.send(value).await.map_err(SendError::without_value)?;
        self.wait_for_demand().await.map_err(|cancelled| SendError::Cancelled(cancelled, ()))?;
        if self.block.is_closed.get() { Err(SendError::Broken(())) } else { Ok(()) }
    }

    /// Waits until a receiver waits, or none ever will.
    async fn wait_for_demand(&self) -> Result<(), Cancelled> {
        loop {
            // Also after it was woken: whoever waited may have been cancelled, and the rest with it.
            checkpoint_if_cancelled().await?;
            if self.inner.statistics().tasks_waiting_recv > 0 || self.block.is_closed.get() {
                return Ok(());
            }
            only_cancelled(self.block.demand.park_as("the demand for a value").await)?;
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("channel", &self.inner.statistics()).finish()
    }
}

/// The body's end, in [`producer()`]. It cannot leave the block.
///
/// Several tasks may use it at a time: values go to those that wait, in order.
pub struct Receiver<T> {
    inner: channel::Receiver<T>,
    block: Rc<Block>,
}

impl<T> Receiver<T> {
    /// Receives the next value; the producer is awake as long as this waits.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it took nothing, but may have woken the producer, whose value
    /// goes to the next one that asks.
    ///
    /// # Errors
    ///
    /// [`RecvError::Cancelled`], also when the producer has failed; [`Closed`](RecvError::Closed) if this is closed, or
    /// becomes so; [`EndOfChannel`](RecvError::EndOfChannel) when the producer has returned.
    ///
    /// # Panics
    ///
    /// Outside a run.
    pub async fn recv(&self) -> Result<T, RecvError> {
        // It looks again when this waits, and not before: that is in the same poll.
        self.block.demand.unpark_all();
        let received = self.inner.recv().await;
        if matches!(received, Err(RecvError::EndOfChannel)) {
            // The producer may have failed: that is not the end of the values.
            checkpoint_if_cancelled().await?;
        }
        received
    }

    /// Receives the next value, or `None` when the producer has returned: for `while let` loops.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it took nothing, but may have woken the producer, whose value
    /// goes to the next one that asks.
    ///
    /// # Errors
    ///
    /// [`RecvError::Cancelled`], also when the producer has failed; [`Closed`](RecvError::Closed) if this is closed, or
    /// becomes so.
    ///
    /// # Panics
    ///
    /// Outside a run.
    pub async fn next(&self) -> Result<Option<T>, RecvError> {
        match self.recv().await {
            Ok(value) => Ok(Some(value)),
            Err(RecvError::EndOfChannel) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Cancels the producer, and closes this: tasks that wait here get [`RecvError::Closed`]. Closing it again changes
    /// nothing.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    pub fn close(&self) {
        self.end("the receiver was closed");
    }

    fn end(&self, why: &str) {
        self.block.is_closed.set(true);
        self.block.production.cancel_because(why);
        self.inner.close();
        self.block.demand.unpark_all();
    }

    /// Returns whether this is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }

    /// Returns numbers of the channel.
    #[must_use]
    pub fn statistics(&self) -> ChannelStatistics {
        self.inner.statistics()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("is_closed", &self.is_closed())
            .field("channel", &self.inner.statistics())
            .finish()
    }
}
