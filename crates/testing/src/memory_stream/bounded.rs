//! [`BoundedSendStream`] and [`BoundedReceiveStream`]: the ends of a pipe in memory that has room for so many bytes.
//!
//! ```text
//!  send_all ──▶ ▒▒▒▒▒▒│██████████ ──▶ receive_some
//!               excess   capacity
//! ```
//! Who sends puts all of its data into the pipe at once, and waits until there is no excess. Cancelled or dropped it takes
//! the excess back: what is within the capacity has been sent.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io::Read;
use std::panic::Location;
use std::rc::Rc;

use nursery::checkpoint;
use nursery::lowlevel::ParkingLot;
use nursery_io::stream::{
    ConflictDetector, HalfClose, Interrupted, ReceiveStream, Resource, SendStream, StreamError,
};

use crate::memory_stream::queue::receiver_is_gone;
use crate::memory_stream::{TO_RECEIVE, only_cancelled};

const TO_SEND: &str = "room to send";

pub(super) fn open(capacity: usize) -> (BoundedSendStream, BoundedReceiveStream) {
    let pipe = Rc::new(Pipe { capacity, ..Pipe::default() });
    (
        BoundedSendStream { pipe: pipe.clone(), sending: ConflictDetector::new() },
        BoundedReceiveStream { pipe, receiving: ConflictDetector::new() },
    )
}

#[derive(Debug, Default)]
struct Pipe {
    capacity: usize,
    bytes: RefCell<VecDeque<u8>>,
    is_sender_closed: Cell<bool>,
    is_receiver_closed: Cell<bool>,
    /// Does a task wait for something to receive?
    is_awaited: Cell<bool>,
    interrupted: Cell<Option<Interrupted>>,
    /// Both sides wait here, and look again after every change.
    changed: ParkingLot,
}

impl Pipe {
    fn len(&self) -> usize {
        self.bytes.borrow().len()
    }

    fn excess(&self) -> usize {
        self.len().saturating_sub(self.capacity)
    }

    /// Fails unless something may be sent.
    fn check_sender(&self) -> Result<(), StreamError> {
        if self.is_sender_closed.get() {
            return Err(StreamError::Closed);
        }
        if self.is_receiver_closed.get() {
            return Err(receiver_is_gone());
        }
        self.interrupted.get().map_or(Ok(()), |interrupted| Err(interrupted.into()))
    }

    fn check_receiver(&self) -> Result<(), StreamError> {
        if self.is_receiver_closed.get() { Err(StreamError::Closed) } else { Ok(()) }
    }

    fn close(&self, side: &Cell<bool>) {
        side.set(true);
        self.changed.unpark_all();
    }

    fn take(&self, buffer: &mut [u8]) -> usize {
        let taken = self.bytes.borrow_mut().read(buffer);
        let count = taken.expect("a queue in memory does not fail");
        if count > 0 {
            self.changed.unpark_all();
        }
        count
    }

    /// Waits for the next change.
    async fn change(
        &self,
        what: &'static str,
        place: &'static Location<'static>,
    ) -> Result<(), StreamError> {
        Ok(only_cancelled(self.changed.park_as(what).at(place).await)?)
    }
}

/// Data on its way into the pipe.
struct Offer<'a> {
    pipe: &'a Pipe,
    of: usize,
}

impl<'a> Offer<'a> {
    fn new(pipe: &'a Pipe, data: &[u8]) -> Self {
        pipe.bytes.borrow_mut().extend(data);
        pipe.changed.unpark_all();
        Offer { pipe, of: data.len() }
    }
}

impl Drop for Offer<'_> {
    fn drop(&mut self) {
        let excess = self.pipe.excess();
        if excess == 0 {
            return;
        }
        self.pipe.bytes.borrow_mut().truncate(self.pipe.capacity);
        if excess < self.of {
            self.pipe.interrupted.set(Some(Interrupted::new(self.of - excess, self.of)));
        }
    }
}

/// The sending end of a [`bounded_stream_one_way_pair`](crate::bounded_stream_one_way_pair). Dropping it closes it.
#[derive(Debug)]
pub struct BoundedSendStream {
    pipe: Rc<Pipe>,
    sending: ConflictDetector,
}

impl BoundedSendStream {
    /// Closes it, now. A task that waits in it gets [`Closed`](StreamError::Closed).
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    pub fn close(&self) {
        self.pipe.close(&self.pipe.is_sender_closed);
    }
}

impl Resource for BoundedSendStream {
    async fn aclose(&self) -> Result<(), StreamError> {
        self.close();
        Ok(checkpoint().await?)
    }
}

impl SendStream for BoundedSendStream {
    #[track_caller]
    fn send_all(&self, data: &[u8]) -> impl Future<Output = Result<(), StreamError>> {
        let place = Location::caller();
        async move {
            let _guard = self.sending.enter()?;
            self.pipe.check_sender()?;
            checkpoint().await?;
            self.pipe.check_sender()?;
            let _offer = Offer::new(&self.pipe, data);
            while self.pipe.excess() > 0 {
                self.pipe.change(TO_SEND, place).await?;
                if self.pipe.excess() > 0 {
                    self.pipe.check_sender()?;
                }
            }
            Ok(())
        }
    }

    #[track_caller]
    fn wait_send_all_might_not_block(&self) -> impl Future<Output = Result<(), StreamError>> {
        let place = Location::caller();
        async move {
            let _guard = self.sending.enter()?;
            self.pipe.check_sender()?;
            checkpoint().await?;
            loop {
                self.pipe.check_sender()?;
                if self.pipe.len() < self.pipe.capacity || self.pipe.is_awaited.get() {
                    return Ok(());
                }
                self.pipe.change(TO_SEND, place).await?;
            }
        }
    }
}

/// The same as to close it, but that it conflicts with sending.
impl HalfClose for BoundedSendStream {
    async fn send_eof(&self) -> Result<(), StreamError> {
        let _guard = self.sending.enter()?;
        checkpoint().await?;
        if !self.pipe.is_sender_closed.get() {
            self.pipe.check_sender()?;
            self.close();
        }
        Ok(())
    }
}

impl Drop for BoundedSendStream {
    fn drop(&mut self) {
        self.close();
    }
}

/// The receiving end of a [`bounded_stream_one_way_pair`](crate::bounded_stream_one_way_pair). Dropping it closes it.
#[derive(Debug)]
pub struct BoundedReceiveStream {
    pipe: Rc<Pipe>,
    receiving: ConflictDetector,
}

impl BoundedReceiveStream {
    /// Closes it, now. A task that waits in it gets [`Closed`](StreamError::Closed).
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    pub fn close(&self) {
        self.pipe.close(&self.pipe.is_receiver_closed);
    }
}

impl Resource for BoundedReceiveStream {
    async fn aclose(&self) -> Result<(), StreamError> {
        self.close();
        Ok(checkpoint().await?)
    }
}

impl ReceiveStream for BoundedReceiveStream {
    #[track_caller]
    fn receive_some(&self, buffer: &mut [u8]) -> impl Future<Output = Result<usize, StreamError>> {
        let place = Location::caller();
        async move {
            let _guard = self.receiving.enter()?;
            self.pipe.check_receiver()?;
            if buffer.is_empty() {
                return Err(StreamError::EmptyBuffer);
            }
            checkpoint().await?;
            let _awaited = Awaited::new(&self.pipe);
            loop {
                self.pipe.check_receiver()?;
                let count = self.pipe.take(buffer);
                if count > 0 || self.pipe.is_sender_closed.get() {
                    return Ok(count);
                }
                self.pipe.change(TO_RECEIVE, place).await?;
            }
        }
    }
}

/// Says that a task waits for something to receive, until it is dropped.
struct Awaited<'a>(&'a Pipe);

impl<'a> Awaited<'a> {
    fn new(pipe: &'a Pipe) -> Self {
        pipe.is_awaited.set(true);
        pipe.changed.unpark_all();
        Awaited(pipe)
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.0.is_awaited.set(false);
    }
}

impl Drop for BoundedReceiveStream {
    fn drop(&mut self) {
        self.close();
    }
}
