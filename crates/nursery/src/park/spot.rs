//! [`Spot`]: a place for one suspended task.
//!
//! Where each waiter has a place of its own anyway, with what it brings along, it needs no queue, and nothing is
//! handed over through it. As in a lot, who wakes commits to it: a cancellation that comes later changes nothing, and
//! one that came earlier has emptied the spot.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::checkpoint::{RaiseIfCancelled, raise_if_cancelled};
use crate::error::Cancelled;
use crate::run::Run;
use crate::scope::reason::CancelSource;
use crate::wait::{Label, Origin, Slot, WaitState, Waiter};

/// A place for one suspended task: a [`ParkingLot`](super::ParkingLot) without the queue.
///
/// For primitives that keep their waiters in an order of their own, each in a place where it is seen what it wants.
///
/// # Examples
///
/// A cell that is written once, and read by one:
///
/// ```
/// use std::cell::Cell;
/// use nursery::lowlevel::Spot;
/// use nursery::{Cancelled, checkpoint, open_nursery};
///
/// #[derive(Default)]
/// struct Promise { value: Cell<Option<u32>>, reader: Spot }
///
/// impl Promise {
///     fn keep(&self, value: u32) {
///         self.value.set(Some(value));
///         self.reader.unpark();
///     }
///     async fn read(&self) -> Result<u32, Cancelled> {
///         if let Some(value) = self.value.take() {
///             checkpoint().await?;
///             return Ok(value);
///         }
///         self.reader.park().await?;
///         Ok(self.value.take().expect("kept"))
///     }
/// }
///
/// # nursery::run(async {
/// let promise = Promise::default();
/// open_nursery(async |n| {
///     let read = n.start_soon(promise.read());
///     checkpoint().await?;
///     promise.keep(7);
///     assert_eq!(read.await?, 7);
///     Ok::<(), Cancelled>(())
/// })
/// .await
/// # }).unwrap();
/// ```
#[derive(Default)]
pub struct Spot {
    /// Of who parked here last.
    run: RefCell<Option<Rc<Run>>>,
    /// Who parked here last. It may be interrupted by now.
    waiter: RefCell<Option<Waiter>>,
}

impl Spot {
    /// Makes an empty spot.
    #[must_use]
    pub const fn new() -> Self {
        Spot { run: RefCell::new(None), waiter: RefCell::new(None) }
    }

    /// Suspends the current task until it is unparked.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it left the spot.
    ///
    /// # Errors
    ///
    /// [`Cancelled`].
    ///
    /// # Panics
    ///
    /// Outside a run, or if another task is parked here.
    #[track_caller]
    pub fn park(&self) -> ParkInSpot<'_> {
        self.park_as("a spot")
    }

    /// The same, with the words by which the tree says what is waited for, such as `"a value from a channel"`.
    #[track_caller]
    pub fn park_as(&self, what: &'static str) -> ParkInSpot<'_> {
        ParkInSpot {
            spot: self,
            check: raise_if_cancelled(),
            slot: Slot::default(),
            label: Label { what, place: Location::caller() },
            outside: false,
        }
    }

    /// Wakes the task that is parked here. Returns false if there is none.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    #[inline]
    pub fn unpark(&self) -> bool {
        let waiter = self.waiter.take();
        let Some((waiter, run)) = waiter.zip(self.run.borrow().clone()) else { return false };
        let is_parked = waiter.is_waiting(&run);
        if is_parked {
            waiter.wake(&run, WaitState::Woken);
        }
        is_parked
    }

    /// Returns whether a task is parked here.
    #[must_use]
    #[inline]
    pub fn is_taken(&self) -> bool {
        match (&*self.waiter.borrow(), &*self.run.borrow()) {
            (Some(waiter), Some(run)) => waiter.is_waiting(run),
            _ => false,
        }
    }

    /// Notes who is parked here.
    #[inline]
    fn take_up(&self, slot: &Slot) {
        let run = slot.run().expect("registered");
        let is_known = self.run.borrow().as_ref().is_some_and(|known| Rc::ptr_eq(known, run));
        if !is_known {
            let old = self.run.replace(Some(run.clone()));
            drop(old);
        }
        self.waiter.replace(slot.waiter().cloned());
    }
}

impl fmt::Debug for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spot").field("is_taken", &self.is_taken()).finish()
    }
}

/// The future of [`Spot::park`].
#[must_use = "a task parks only while this is awaited"]
pub struct ParkInSpot<'a> {
    spot: &'a Spot,
    check: RaiseIfCancelled,
    slot: Slot,
    label: Label,
    outside: bool,
}

impl ParkInSpot<'_> {
    /// Sets the place that the tree shows, for operations that find out only later whether they have to park.
    pub fn at(mut self, place: &'static Location<'static>) -> Self {
        self.label.place = place;
        self
    }

    /// Says that the task is woken from outside the run: it is not found to be stuck.
    pub fn outside(mut self) -> Self {
        self.outside = true;
        self
    }

    #[inline]
    fn begin(&mut self, cx: &Context<'_>) {
        let origin = if self.outside { Origin::Outside } else { Origin::Inside };
        self.slot.register(cx, &self.label, origin);
        if self.spot.is_taken() {
            self.slot.withdraw();
            panic!(
                "a second task parked in a `Spot`, at {}\n\
                 \n\
                 It has room for one. Give each waiter a spot of its own, or use a `ParkingLot`.",
                self.label.place
            );
        }
        self.spot.take_up(&self.slot);
    }
}

impl Future for ParkInSpot<'_> {
    type Output = Result<(), Cancelled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if !this.slot.is_registered() {
            ready!(this.check.poll_check(cx))?;
            this.begin(cx);
            return Poll::Pending;
        }
        let Poll::Ready(state) = this.slot.poll(cx) else {
            this.spot.take_up(&this.slot); // the wait may have gone elsewhere
            return Poll::Pending;
        };
        let result = match state {
            WaitState::Cancelled => Err(this.slot.cancelled()),
            WaitState::Broken => Err(Cancelled(Arc::new(CancelSource::Unknown.into()))), // its run is over
            WaitState::Woken | WaitState::Waiting => Ok(()),
        };
        this.slot.withdraw();
        Poll::Ready(result)
    }
}

impl fmt::Debug for ParkInSpot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_parked = self.slot.is_registered();
        f.debug_struct("ParkInSpot").field("is_parked", &is_parked).finish_non_exhaustive()
    }
}
