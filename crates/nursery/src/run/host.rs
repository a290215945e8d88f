//! Who polls a run, and where its thread waits while nothing is ready.
//!
//! ```text
//!  a thread of its own ──▶ async-io's reactor ──1──▶ a parker            1 the run sets one
//!  a guest             ──▶ wherever its host waits
//! ```
//!
//! A crate that watches descriptors of its own, sockets above all, can put its own wait in the place of the reactor's: then
//! the thread falls asleep in one system call. What async-io watches is served by a thread of async-io's from then on.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::run::{Guest, Run, context};

#[cfg(not(miri))]
use async_io::block_on;
/// Miri does not know the system calls of async-io's reactor.
#[cfg(miri)]
use futures_lite::future::block_on;

/// Where the thread of a run waits while nothing is ready.
///
/// See [`set_parker`](crate::lowlevel::set_parker).
pub trait Parker {
    /// Waits until the [`unparker`](Self::unparker) is woken, something else has happened, or `until` has come, in real
    /// time. It may return earlier.
    ///
    /// If the unparker has been woken since the last call, it does not wait, but looks what has happened.
    ///
    /// Called between two turns, on the run's thread. The run is the current one: what has happened can be told to tasks
    /// through their wakers.
    fn park(&self, until: Option<Instant>);

    /// Returns what ends the present wait or the next, from any thread.
    fn unparker(&self) -> Waker;
}

/// How a run is polled.
#[derive(Default)]
pub(crate) struct Host {
    /// It is no guest.
    has_thread: Cell<bool>,
    parker: RefCell<Option<Rc<dyn Parker>>>,
    /// When the parker has to return.
    until: Cell<Option<Instant>>,
    /// All that is ready was woken by the parker.
    has_arrivals: Cell<bool>,
}

impl Host {
    /// Sets where the run waits from now on, unless it is a guest, or does so elsewhere already.
    pub(crate) fn set_parker(&self, parker: Rc<dyn Parker>) -> bool {
        let is_free = self.has_thread.get() && !self.has_parker();
        if is_free {
            self.parker.replace(Some(parker));
        }
        is_free
    }

    pub(crate) fn has_parker(&self) -> bool {
        self.parker.borrow().is_some()
    }

    /// The next wait is to end then.
    pub(crate) fn wake_at(&self, until: Option<Instant>) {
        self.until.set(until);
    }

    /// Is all that is ready, or was when the turn began, woken by the parker?
    pub(crate) fn has_arrivals(&self) -> bool {
        self.has_arrivals.get()
    }

    /// From now on what is ready has been woken by tasks, too.
    pub(crate) fn end_of_arrivals(&self) {
        self.has_arrivals.set(false);
    }

    /// The run is over.
    pub(crate) fn close(&self) {
        let parker = self.parker.take();
        drop(parker);
    }
}

/// Polls a run until it ends, on this thread.
pub(crate) fn run_here<T, E>(guest: Guest<'_, T, E>) -> Result<T, E> {
    let run = guest.run.clone();
    run.host.has_thread.set(true);
    let mut guest = pin!(guest);
    let result = block_on(poll_fn(|cx| match guest.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending if run.host.has_parker() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    }));
    result.unwrap_or_else(|| park_here(guest, &run))
}

/// The same, with a parker.
fn park_here<T, E>(mut guest: Pin<&mut Guest<'_, T, E>>, run: &Rc<Run>) -> Result<T, E> {
    let parker = run.host.parker.borrow().clone().expect("set");
    let unparker = parker.unparker();
    let mut cx = Context::from_waker(&unparker);
    loop {
        if let Poll::Ready(result) = guest.as_mut().poll(&mut cx) {
            return result;
        }
        let _run = context::enter_run(run);
        let is_idle = run.ready.is_empty();
        parker.park(run.host.until.take());
        run.host.has_arrivals.set(is_idle);
    }
}
