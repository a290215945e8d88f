//! What the handles of a channel share: the buffer, and the two lines of those that wait.
//!
//! A sender that waits has put its value into its seat; a receiver that waits gets its value there. So a value is
//! always in exactly one place: a sender's seat, the buffer, a receiver's seat, or a [`Taken`].
//!
//! # Invariants
//! 1. Receivers wait only while the buffer is empty and no sender waits.
//! 2. Senders wait only while the buffer is full.
//! 3. What a receiver has taken but not carried home (its future was dropped) goes to the next receiver that waits, or
//!    back in front of the buffer, in the order in which it was taken: `number` says so. The buffer may then hold more
//!    than its capacity.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::Location;
use std::rc::Rc;

use nursery::Cancelled;
use nursery::lowlevel::ParkInSpot;

use crate::channel::error::{RecvError, SendError, TryRecvError, TrySendError};
use crate::sync::line::{Line, Seat};

pub(super) struct Shared<T> {
    capacity: usize,
    buffer: RefCell<Buffer<T>>,
    pub(super) senders: Side<T>,
    pub(super) receivers: Side<T>,
    next_handle: Cell<u64>,
}

/// One side of a channel.
pub(super) struct Side<T> {
    /// Handles that are open.
    open: Cell<usize>,
    line: Line<Desk<T>>,
}

struct Buffer<T> {
    /// Invariant 3.
    returned: VecDeque<(u64, T)>,
    items: VecDeque<T>,
    /// How many values have been taken out.
    taken: u64,
    /// The most that have been in it when a sender's value came.
    peak: usize,
}

/// What is at a waiter's seat.
pub(super) struct Desk<T> {
    /// A sender's value until somebody takes it; a receiver's from when somebody brings it.
    value: Cell<Option<T>>,
    /// For a receiver's value.
    number: Cell<u64>,
    /// The handle on which it waits.
    handle: Cell<u64>,
    outcome: Cell<Outcome>,
}

#[derive(Clone, Copy, Default)]
enum Outcome {
    #[default]
    Waiting,
    /// The value has changed hands.
    Done,
    /// The handle was closed.
    Closed,
    /// The other side is gone.
    Gone,
}

impl<T> Default for Desk<T> {
    fn default() -> Self {
        Desk {
            value: Cell::new(None),
            number: Cell::new(0),
            handle: Cell::new(0),
            outcome: Cell::default(),
        }
    }
}

impl<T> Side<T> {
    fn new() -> Self {
        Side { open: Cell::new(0), line: Line::new() }
    }

    /// Wakes those that wait, on one handle or on any.
    fn dismiss(&self, handle: Option<u64>, outcome: Outcome) {
        let concerned = |desk: &Desk<T>| handle.is_none_or(|handle| desk.handle.get() == handle);
        for seat in self.line.take(concerned) {
            seat.data.outcome.set(outcome);
            seat.wake();
        }
    }
}

impl<T> Shared<T> {
    pub(super) fn new(capacity: usize) -> Rc<Self> {
        Rc::new(Shared {
            capacity,
            buffer: RefCell::new(Buffer {
                returned: VecDeque::new(),
                items: VecDeque::new(),
                taken: 0,
                peak: 0,
            }),
            senders: Side::new(),
            receivers: Side::new(),
            next_handle: Cell::new(0),
        })
    }

    /// Registers a handle of one side.
    pub(super) fn open(&self, side: &Side<T>) -> u64 {
        side.open.set(side.open.get() + 1);
        let handle = self.next_handle.get();
        self.next_handle.set(handle + 1);
        handle
    }

    /// A handle of the senders is closed.
    pub(super) fn close_sender(&self, handle: u64) {
        self.senders.dismiss(Some(handle), Outcome::Closed);
        self.senders.open.set(self.senders.open.get() - 1);
        if self.senders.open.get() == 0 {
            self.receivers.dismiss(None, Outcome::Gone);
        }
    }

    /// A handle of the receivers is closed.
    pub(super) fn close_receiver(&self, handle: u64) {
        self.receivers.dismiss(Some(handle), Outcome::Closed);
        self.receivers.open.set(self.receivers.open.get() - 1);
        if self.receivers.open.get() == 0 {
            let dropped = {
                let mut buffer = self.buffer.borrow_mut();
                (std::mem::take(&mut buffer.returned), std::mem::take(&mut buffer.items))
            };
            self.senders.dismiss(None, Outcome::Gone);
            drop(dropped); // with nothing borrowed: these are the user's values
        }
    }

    /// Sends a value if that can be done at once. The handle is open.
    pub(super) fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        if self.receivers.open.get() == 0 {
            return Err(TrySendError::Broken(value));
        }
        if let Some(seat) = self.receivers.line.next(|_| true) {
            self.hand(&seat, value);
            return Ok(());
        }
        self.push(value).map_err(TrySendError::WouldBlock)
    }

    /// What [`try_send`](Self::try_send) mostly is: nobody waits, and there is room. Otherwise the value comes back.
    #[inline]
    pub(super) fn push(&self, value: T) -> Result<(), T> {
        if self.receivers.open.get() == 0 || self.receivers.line.has_seats() {
            return Err(value);
        }
        let mut buffer = self.buffer.borrow_mut();
        if buffer.len() >= self.capacity {
            return Err(value);
        }
        buffer.push(value);
        Ok(())
    }

    /// Gives a value to a receiver that waits.
    fn hand(&self, seat: &Seat<Desk<T>>, value: T) {
        seat.data.number.set(self.buffer.borrow_mut().count());
        seat.data.value.set(Some(value));
        seat.data.outcome.set(Outcome::Done);
        seat.wake();
    }

    /// What [`try_take`](Self::try_take) mostly is: nobody waits, and there is a value.
    #[inline]
    pub(super) fn pop(&self) -> Option<T> {
        if self.senders.line.has_seats() {
            return None;
        }
        self.buffer.borrow_mut().pop_new()
    }

    /// Takes a value if there is one. The handle is open.
    pub(super) fn try_take(&self) -> Result<Taken<'_, T>, TryRecvError> {
        let mut buffer = self.buffer.borrow_mut();
        if let Some((number, value)) = buffer.pop() {
            let has_room = buffer.len() < self.capacity;
            drop(buffer);
            if has_room {
                self.refill();
            }
            return Ok(Taken { shared: self, number, value: Some(value) });
        }
        drop(buffer);
        if let Some(taken) = self.take_from_sender() {
            return Ok(taken);
        }
        Err(match self.senders.open.get() {
            0 => TryRecvError::EndOfChannel,
            _ => TryRecvError::WouldBlock,
        })
    }

    /// Moves the values of senders that wait into the room there is.
    fn refill(&self) {
        while self.buffer.borrow().len() < self.capacity {
            let Some(seat) = self.senders.line.next(|_| true) else { return };
            let value = seat.data.value.take().expect("a sender that waits brings a value");
            self.buffer.borrow_mut().push(value);
            seat.data.outcome.set(Outcome::Done);
            seat.wake();
        }
    }

    fn take_from_sender(&self) -> Option<Taken<'_, T>> {
        let seat = self.senders.line.next(|_| true)?;
        let number = self.buffer.borrow_mut().count();
        let value = seat.data.value.take();
        seat.data.outcome.set(Outcome::Done);
        seat.wake();
        Some(Taken { shared: self, number, value })
    }

    /// Invariant 3.
    fn put_back(&self, number: u64, value: T) {
        if self.receivers.open.get() == 0 {
            drop(value);
        } else if let Some(seat) = self.receivers.line.next(|_| true) {
            seat.data.number.set(number);
            seat.data.value.set(Some(value));
            seat.data.outcome.set(Outcome::Done);
            seat.wake();
        } else {
            let mut buffer = self.buffer.borrow_mut();
            let at = buffer.returned.partition_point(|(other, _)| *other < number);
            buffer.returned.insert(at, (number, value));
        }
    }

    pub(super) fn statistics(&self) -> ChannelStatistics {
        let buffer = self.buffer.borrow();
        ChannelStatistics {
            current_buffer_used: buffer.len(),
            max_buffer_size: self.capacity,
            open_senders: self.senders.open.get(),
            open_receivers: self.receivers.open.get(),
            tasks_waiting_send: self.senders.line.len(),
            tasks_waiting_recv: self.receivers.line.len(),
            peak_buffer_used: buffer.peak,
        }
    }
}

impl<T> Buffer<T> {
    #[inline]
    fn len(&self) -> usize {
        self.returned.len() + self.items.len()
    }

    /// The number of the value that is taken now.
    #[inline]
    fn count(&mut self) -> u64 {
        self.taken += 1;
        self.taken - 1
    }

    #[inline]
    fn push(&mut self, value: T) {
        self.items.push_back(value);
        self.peak = self.peak.max(self.len());
    }

    #[inline]
    fn pop(&mut self) -> Option<(u64, T)> {
        if let Some(first) = self.returned.pop_front() {
            return Some(first);
        }
        let value = self.items.pop_front()?;
        Some((self.count(), value))
    }

    /// Takes a value of those that were not taken before, if those are all.
    #[inline]
    fn pop_new(&mut self) -> Option<T> {
        if !self.returned.is_empty() {
            return None;
        }
        let value = self.items.pop_front()?;
        self.count();
        Some(value)
    }
}

/// A value on its way to the user. Dropped with it, it goes back.
pub(super) struct Taken<'a, T> {
    shared: &'a Shared<T>,
    number: u64,
    value: Option<T>,
}

impl<T> Taken<'_, T> {
    #[inline]
    pub(super) fn keep(mut self) -> T {
        self.value.take().expect("taken once")
    }
}

impl<T> Drop for Taken<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            self.shared.put_back(self.number, value);
        }
    }
}

/// A sender in its line. Dropped, it leaves with its value.
pub(super) struct WaitingSend<'a, T> {
    shared: &'a Shared<T>,
    /// Present until it is dropped.
    seat: Option<Rc<Seat<Desk<T>>>>,
}

impl<'a, T> WaitingSend<'a, T> {
    pub(super) fn new(shared: &'a Shared<T>, handle: u64, value: T) -> Self {
        let seat = shared.senders.line.enter(|desk| {
            desk.handle.set(handle);
            desk.value.set(Some(value));
        });
        WaitingSend { shared, seat: Some(seat) }
    }

    pub(super) fn park(&self, place: &'static Location<'static>) -> ParkInSpot<'_> {
        self.seat().park("room in a channel", place)
    }

    fn seat(&self) -> &Seat<Desk<T>> {
        self.seat.as_deref().expect("not dropped")
    }

    /// What has come of it.
    pub(super) fn end(self, parked: Result<(), Cancelled>) -> Result<(), SendError<T>> {
        let desk = &self.seat().data;
        let Some(value) = desk.value.take() else { return Ok(()) };
        Err(match (parked, desk.outcome.get()) {
            (Err(cancelled), _) => SendError::Cancelled(cancelled, value),
            (Ok(()), Outcome::Gone) => SendError::Broken(value),
            (Ok(()), _) => SendError::Closed(value),
        })
    }
}

impl<T> Drop for WaitingSend<'_, T> {
    fn drop(&mut self) {
        let Some(seat) = self.seat.take() else { return };
        let value = seat.data.value.take();
        seat.data.outcome.set(Outcome::Waiting);
        self.shared.senders.line.leave(seat);
        drop(value);
    }
}

/// A receiver in its line. Dropped, it leaves, and what it was given goes back.
pub(super) struct WaitingRecv<'a, T> {
    shared: &'a Shared<T>,
    /// Present until it is dropped.
    seat: Option<Rc<Seat<Desk<T>>>>,
}

impl<'a, T> WaitingRecv<'a, T> {
    pub(super) fn new(shared: &'a Shared<T>, handle: u64) -> Self {
        let seat = shared.receivers.line.enter(|desk| desk.handle.set(handle));
        WaitingRecv { shared, seat: Some(seat) }
    }

    pub(super) fn park(&self, place: &'static Location<'static>) -> ParkInSpot<'_> {
        self.seat().park("a value from a channel", place)
    }

    fn seat(&self) -> &Seat<Desk<T>> {
        self.seat.as_deref().expect("not dropped")
    }

    /// What has come of it.
    pub(super) fn end(self, parked: Result<(), Cancelled>) -> Result<T, RecvError> {
        parked?;
        let desk = &self.seat().data;
        desk.value.take().ok_or(match desk.outcome.get() {
            Outcome::Gone => RecvError::EndOfChannel,
            _ => RecvError::Closed,
        })
    }
}

impl<T> Drop for WaitingRecv<'_, T> {
    fn drop(&mut self) {
        let Some(seat) = self.seat.take() else { return };
        let (number, value) = (seat.data.number.get(), seat.data.value.take());
        seat.data.outcome.set(Outcome::Waiting);
        self.shared.receivers.line.leave(seat);
        if let Some(value) = value {
            self.shared.put_back(number, value);
        }
    }
}

/// Numbers of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelStatistics {
    /// Values in the buffer.
    pub current_buffer_used: usize,
    /// How many it has room for.
    pub max_buffer_size: usize,
    /// Senders that are not closed.
    pub open_senders: usize,
    /// Receivers that are not closed.
    pub open_receivers: usize,
    /// Tasks that wait for room, or for a receiver.
    pub tasks_waiting_send: usize,
    /// Tasks that wait for a value.
    pub tasks_waiting_recv: usize,
    /// The most values that have been in the buffer when a sender put one in.
    pub peak_buffer_used: usize,
}
