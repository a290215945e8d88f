//! Channels of which every receiver gets every value.
//!
//! Sending never waits. The channel keeps the last values, as many as its capacity says. A receiver that falls
//! further behind *lags*: it is told so once, with the number of values it has missed
//! ([`RecvError::Lagged`]), and goes on with the oldest value that is kept. Where nothing may be missed, give each
//! receiver a [channel](crate::channel::open) of its own: then the slowest holds up the sender.
//!
//! # Examples
//!
//! ```
//! use nursery_io::channel::broadcast::{self, RecvError};
//!
//! # nursery_testing::run(async {
//! let (sender, receiver) = broadcast::open(2);
//! let other = receiver.clone();
//! sender.send("a")?;
//! sender.send("b")?;
//! assert_eq!(receiver.recv().await?, "a");
//! sender.send("c")?; // there is no room for "a" any more
//! assert_eq!(receiver.recv().await?, "b");
//! assert!(matches!(other.recv().await, Err(RecvError::Lagged(1))));
//! assert_eq!(other.recv().await?, "b");
//! # anyhow::Ok(())
//! # }).unwrap();
//! ```

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::Location;
use std::rc::Rc;

use nursery::Cancelled;
use nursery::lowlevel::{Park, ParkingLot, cancel_shielded_checkpoint, checkpoint_if_cancelled};

use crate::channel::error::{SendError, TryRecvError};
use crate::sync::only_cancelled;

struct Shared<T> {
    capacity: usize,
    ring: RefCell<Ring<T>>,
    senders: Cell<usize>,
    receivers: Cell<usize>,
    waiting: ParkingLot,
}

/// The values that are kept. Values are numbered from 0.
struct Ring<T> {
    /// Each with the number of receivers that have not had it yet. Shared, so that it is cloned with nothing borrowed.
    values: VecDeque<(Rc<T>, usize)>,
    /// The number of the first of them.
    first: u64,
}

impl<T> Ring<T> {
    fn end(&self) -> u64 {
        self.first + self.values.len() as u64
    }

    /// Counts a receiver in or out of the values from `from` on. Returns the values nobody needs any more.
    fn count(&mut self, from: u64, change: impl Fn(usize) -> usize) -> VecDeque<(Rc<T>, usize)> {
        let from = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        for (_, missing) in self.values.iter_mut().skip(from) {
            *missing = change(*missing);
        }
        self.trim()
    }

    /// Takes out the values at the front that nobody needs any more.
    fn trim(&mut self) -> VecDeque<(Rc<T>, usize)> {
        let done = self.values.iter().take_while(|(_, missing)| *missing == 0).count();
        self.first += done as u64;
        self.values.drain(..done).collect()
    }
}

/// Opens a channel that keeps the last `capacity` values.
///
/// # Panics
///
/// If `capacity` is 0.
#[must_use]
#[track_caller]
pub fn open<T: Clone>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a broadcast channel keeps at least one value");
    let shared = Rc::new(Shared {
        capacity,
        ring: RefCell::new(Ring { values: VecDeque::new(), first: 0 }),
        senders: Cell::new(1),
        receivers: Cell::new(1),
        waiting: ParkingLot::new(),
    });
    let receiver = Receiver { shared: shared.clone(), next: Cell::new(0) };
    (Sender { shared }, receiver)
}

/// A handle to send with, from [`open`]. Dropped, it is closed; the channel ends with the last.
pub struct Sender<T> {
    shared: Rc<Shared<T>>,
}

impl<T> Sender<T> {
    /// Sends a value to all receivers there are. Returns how many.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// [`SendError::Broken`] if there are none.
    pub fn send(&self, value: T) -> Result<usize, SendError<T>> {
        let shared = &self.shared;
        let receivers = shared.receivers.get();
        if receivers == 0 {
            return Err(SendError::Broken(value));
        }
        let overwritten = {
            let mut ring = shared.ring.borrow_mut();
            ring.values.push_back((Rc::new(value), receivers));
            if ring.values.len() > shared.capacity {
                ring.first += 1;
                ring.values.pop_front()
            } else {
                None
            }
        };
        shared.waiting.unpark_all();
        drop(overwritten);
        Ok(receivers)
    }

    /// Adds a receiver. It gets what is sent from now on.
    #[must_use]
    pub fn subscribe(&self) -> Receiver<T> {
        let shared = self.shared.clone();
        shared.receivers.set(shared.receivers.get() + 1);
        let next = Cell::new(shared.ring.borrow().end());
        Receiver { shared, next }
    }

    /// Returns numbers of the channel.
    #[must_use]
    pub fn statistics(&self) -> BroadcastStatistics {
        self.shared.statistics()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.senders.set(self.shared.senders.get() + 1);
        Sender { shared: self.shared.clone() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.senders.set(self.shared.senders.get() - 1);
        if self.shared.senders.get() == 0 {
            self.shared.waiting.unpark_all();
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("channel", &self.statistics()).finish()
    }
}

/// A handle to receive with, from [`open`] or [`Sender::subscribe`]. A clone is a receiver of its own, as far as this one.
pub struct Receiver<T> {
    shared: Rc<Shared<T>>,
    /// The number of the value it gets next.
    next: Cell<u64>,
}

impl<T: Clone> Receiver<T> {
    /// Receives the next value, waiting for it if need be.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it took nothing.
    ///
    /// # Errors
    ///
    /// [`RecvError::Cancelled`]; [`Lagged`](RecvError::Lagged) if values were missed;
    /// [`EndOfChannel`](RecvError::EndOfChannel) if the last sender is gone, and nothing is left.
    ///
    /// # Panics
    ///
    /// Outside a run.
    #[track_caller]
    pub fn recv(&self) -> impl Future<Output = Result<T, RecvError>> + use<'_, T> {
        let place = Location::caller();
        async move {
            checkpoint_if_cancelled().await?;
            if !self.is_waiting() {
                // Before the value is taken, so that there is no time in which it can be dropped.
                cancel_shielded_checkpoint().await;
            }
            loop {
                match self.take() {
                    Some(result) => return result,
                    // Several tasks may receive on one handle: another may have been faster.
                    None => only_cancelled(self.park(place).await)?,
                }
            }
        }
    }

    /// Receives the next value if there is one.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::WouldBlock`]; otherwise as [`recv`](Self::recv), where having missed some values is not an
    /// error: they are skipped.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        loop {
            return match self.take() {
                Some(Ok(value)) => Ok(value),
                Some(Err(RecvError::Lagged(_))) => continue,
                Some(Err(_)) => Err(TryRecvError::EndOfChannel),
                None => Err(TryRecvError::WouldBlock),
            };
        }
    }

    /// The next value or the end; `None` if neither is there yet.
    fn take(&self) -> Option<Result<T, RecvError>> {
        let taken = self.take_shared()?;
        Some(taken.map(|value| Rc::try_unwrap(value).unwrap_or_else(|value| T::clone(&value))))
    }

    fn take_shared(&self) -> Option<Result<Rc<T>, RecvError>> {
        let mut ring = self.shared.ring.borrow_mut();
        let next = self.next.get();
        if next < ring.first {
            self.next.set(ring.first);
            return Some(Err(RecvError::Lagged(ring.first - next)));
        }
        let at = usize::try_from(next - ring.first).unwrap_or(usize::MAX);
        let Some((_, missing)) = ring.values.get_mut(at) else {
            return (self.shared.senders.get() == 0).then_some(Err(RecvError::EndOfChannel));
        };
        *missing -= 1;
        self.next.set(next + 1);
        // The last receiver to have it takes it.
        if *missing == 0 && at == 0 {
            ring.first += 1;
            return ring.values.pop_front().map(|(value, _)| Ok(value));
        }
        ring.values.get(at).map(|(value, _)| Ok(value.clone()))
    }
}

impl<T> Receiver<T> {
    fn is_waiting(&self) -> bool {
        self.next.get() == self.shared.ring.borrow().end() && self.shared.senders.get() > 0
    }

    fn park(&self, place: &'static Location<'static>) -> Park<'_> {
        self.shared.waiting.park_as("a value from a broadcast channel").at(place)
    }

    /// Returns numbers of the channel.
    #[must_use]
    pub fn statistics(&self) -> BroadcastStatistics {
        self.shared.statistics()
    }
}

impl<T> Shared<T> {
    fn statistics(&self) -> BroadcastStatistics {
        BroadcastStatistics {
            kept: self.ring.borrow().values.len(),
            capacity: self.capacity,
            open_senders: self.senders.get(),
            open_receivers: self.receivers.get(),
            tasks_waiting: self.waiting.len(),
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.shared.receivers.set(self.shared.receivers.get() + 1);
        let needless = self.shared.ring.borrow_mut().count(self.next.get(), |n| n + 1);
        debug_assert!(needless.is_empty(), "it needs more, not less");
        Receiver { shared: self.shared.clone(), next: self.next.clone() }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receivers.set(self.shared.receivers.get() - 1);
        let needless = self.shared.ring.borrow_mut().count(self.next.get(), |n| n - 1);
        drop(needless); // with nothing borrowed: these are the user's values
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("channel", &self.statistics()).finish()
    }
}

/// Numbers of a broadcast channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BroadcastStatistics {
    /// Values that some receiver has not had yet.
    pub kept: usize,
    /// How many are kept at most.
    pub capacity: usize,
    /// Senders that are not closed.
    pub open_senders: usize,
    /// Receivers that are not closed.
    pub open_receivers: usize,
    /// Tasks that wait for a value.
    pub tasks_waiting: usize,
}

/// Why [`Receiver::recv`] received nothing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RecvError {
    /// The scope was cancelled.
    Cancelled(Cancelled),
    /// The receiver was too slow: so many values were overwritten before it had them.
    Lagged(u64),
    /// The last sender is gone, and nothing is left.
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
            RecvError::Lagged(count) => {
                write!(f, "{count} values of a broadcast were missed: the receiver was too slow")
            }
            RecvError::EndOfChannel => {
                f.write_str("all senders of the broadcast channel are gone, and nothing is left")
            }
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
