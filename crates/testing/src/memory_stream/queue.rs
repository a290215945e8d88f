//! [`ByteQueue`]: bytes on their way, without a bound, and the task that waits for them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::mem;
use std::panic::Location;

use nursery::lowlevel::ParkingLot;
use nursery_io::stream::StreamError;

use crate::memory_stream::{TO_RECEIVE, only_cancelled};

/// What becomes of bytes that are put into a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    #[default]
    Open,
    /// Who puts them has said that there will be no more.
    Ended,
    /// Who takes them has gone.
    Gone,
}

#[derive(Debug, Default)]
pub(crate) struct ByteQueue {
    bytes: RefCell<VecDeque<u8>>,
    state: Cell<State>,
    waiting: ParkingLot,
}

impl ByteQueue {
    pub(crate) fn state(&self) -> State {
        self.state.get()
    }

    /// Fails unless bytes may be put.
    pub(crate) fn check(&self) -> Result<(), StreamError> {
        match self.state.get() {
            State::Open => Ok(()),
            State::Ended => Err(StreamError::Closed),
            State::Gone => Err(receiver_is_gone()),
        }
    }

    pub(crate) fn put(&self, data: &[u8]) -> Result<(), StreamError> {
        self.check()?;
        self.bytes.borrow_mut().extend(data);
        if !data.is_empty() {
            self.waiting.unpark_all();
        }
        Ok(())
    }

    /// Says that there will be no more. Returns whether that is new.
    pub(crate) fn end(&self) -> bool {
        let is_new = self.state.get() == State::Open;
        if is_new {
            self.state.set(State::Ended);
            self.waiting.unpark_all();
        }
        is_new
    }

    /// Says that no more will be taken. Returns whether that is new.
    pub(crate) fn abandon(&self) -> bool {
        self.bytes.borrow_mut().clear();
        let is_new = self.state.replace(State::Gone) != State::Gone;
        self.waiting.unpark_all();
        is_new
    }

    /// Takes what is there, as much as there is room for.
    pub(crate) fn take(&self, buffer: &mut [u8]) -> usize {
        self.bytes.borrow_mut().read(buffer).expect("a queue in memory does not fail")
    }

    /// Takes up to `max` bytes; `None` if it would have to wait for the first. Nothing, at the end.
    pub(crate) fn try_take(&self, max: usize) -> Option<Vec<u8>> {
        let mut bytes = self.bytes.borrow_mut();
        if bytes.is_empty() && self.state.get() == State::Open {
            return None;
        }
        let count = max.min(bytes.len());
        let rest = bytes.split_off(count);
        Some(mem::replace(&mut *bytes, rest).into())
    }

    /// Waits until something is there, or the end is. Takes nothing.
    pub(crate) async fn wait(&self, place: &'static Location<'static>) -> Result<(), StreamError> {
        while self.bytes.borrow().is_empty() && self.state.get() == State::Open {
            only_cancelled(self.waiting.park_as(TO_RECEIVE).at(place).await)?;
        }
        Ok(())
    }
}

pub(crate) fn receiver_is_gone() -> StreamError {
    io::Error::new(io::ErrorKind::BrokenPipe, "the receiver is gone").into()
}
