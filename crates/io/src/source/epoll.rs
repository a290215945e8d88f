//! [`Watched`] on Linux: what the epoll of a run says of a socket or a pipe.
//!
//! Reading and writing each are *perhaps ready* or *not ready*:
//!
//! ```text
//!  perhaps ready ──1──▶ not ready ──2──▶ perhaps ready
//! ```
//! 1. [`Watched::would_block`], [`Watched::read_short`], [`Watched::ask`]: a call has found out  2. [`Readiness::note`]: an edge
//!    was reported, or [`Watched::forget`]
//!
//! While it is perhaps ready, the call is simply made. While it is not, the call would be in vain, and is not made: an edge
//! will come.
//!
//! # Invariants
//!
//! No edge is missed:
//!
//! 1. Edges are noted between the steps of tasks, by [`driver`], and so never between a call and what is concluded from it.
//!    What happens after the call is noted after it.
//! 2. Who waits is registered, and to register reports as an edge what is ready at that moment. So it can be left until
//!    somebody waits for the first time, and what never waits is never registered.
//! 3. A short read says that there is nothing left, but only of TCP, and not if there was more to tell than that bytes have
//!    come: the end, an error, or an urgent byte, before which each read stops.
//! 4. Not ready is what the system would call it, too, as otherwise it would see no edge. A call that was in vain for another
//!    reason, such as a full queue of whom it is for, says nothing of the next: [`Source::run_retrying`] forgets it.
//!
//! Perhaps ready, it may turn out not to be: then a call was made in vain, and nothing else happens.
//!
//! # Runs
//!
//! Made outside of any run, it belongs to whichever waits for it. Usually that is one; but each that has waited has
//! registered it with its own epoll, and all of these tell the same [`Readiness`].
//!
//! [`Source::run_retrying`]: crate::source::Source::run_retrying

mod bell;
mod driver;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::Location;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use nursery::lowlevel::Spot;
use rustix::event::epoll::EventFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionbio;

use crate::source::Interest;
use crate::source::epoll::driver::{Driver, Place};
use crate::stream::StreamError;

/// What there is to read, or that there will be nothing.
const READ: EventFlags = EventFlags::IN.union(EventFlags::PRI).union(EventFlags::RDHUP);

const WRITE: EventFlags = EventFlags::OUT;

/// Reported without being asked for, and to both directions.
const OVER: EventFlags = EventFlags::HUP.union(EventFlags::ERR);

/// What makes short reads mean nothing.
const MORE_THAN_BYTES: EventFlags = OVER.union(EventFlags::PRI).union(EventFlags::RDHUP);

/// A socket or a pipe, and what is known of its readiness.
pub(super) struct Watched<T> {
    io: T,
    fd: for<'a> fn(&'a T) -> BorrowedFd<'a>,
    readiness: Rc<Readiness>,
    /// One for each run that has waited, unless it is known to be over.
    places: RefCell<Vec<Place>>,
}

impl<T> Watched<T> {
    pub(super) fn new(io: T) -> io::Result<Self>
    where
        T: AsFd,
    {
        ioctl_fionbio(&io, true)?;
        Ok(Watched { io, fd: T::as_fd, readiness: Rc::default(), places: RefCell::default() })
    }

    /// The same, and finds out whether it can be waited for at all.
    pub(super) fn new_checked(io: T) -> io::Result<Self>
    where
        T: AsFd,
    {
        driver::check(io.as_fd())?;
        Watched::new(io)
    }

    pub(super) fn get_ref(&self) -> &T {
        &self.io
    }

    fn direction(&self, interest: Interest) -> &Direction {
        &self.readiness.directions[interest as usize]
    }

    pub(super) fn is_perhaps_ready(&self, interest: Interest) -> bool {
        !self.direction(interest).is_blocked.get()
    }

    /// A call has said that it would block.
    pub(super) fn would_block(&self, interest: Interest) {
        self.direction(interest).is_blocked.set(true);
    }

    /// Less was read than there was room for.
    pub(super) fn read_short(&self) {
        if !self.readiness.has_more_than_bytes.get() {
            self.would_block(Interest::Read);
        }
    }

    /// Nothing is known: the next call is made.
    pub(super) fn forget(&self, interest: Interest) {
        self.direction(interest).is_blocked.set(false);
    }

    /// Asks the system whether it is ready now. Returns what it says.
    pub(super) fn ask(&self, interest: Interest) -> io::Result<bool> {
        let flags = match interest {
            Interest::Read => PollFlags::IN,
            Interest::Write => PollFlags::OUT,
        };
        let mut fds = [PollFd::from_borrowed_fd((self.fd)(&self.io), flags)];
        let is_ready = poll(&mut fds, Some(&Timespec::default()))? > 0;
        self.direction(interest).is_blocked.set(!is_ready);
        Ok(is_ready)
    }

    /// Waits until it is perhaps ready: a checkpoint, unless it is so at once. One task waits at a time.
    #[inline]
    pub(super) async fn wait(
        &self,
        interest: Interest,
        what: &'static str,
        place: &'static Location<'static>,
    ) -> Result<(), StreamError> {
        if !self.is_perhaps_ready(interest) {
            self.expect(interest).map_err(StreamError::Broken)?;
            let spot = &self.direction(interest).spot;
            spot.park_as(what).at(place).outside().await?;
        }
        Ok(())
    }

    /// The same, for who has a waker.
    pub(super) fn poll_ready(&self, interest: Interest, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if self.is_perhaps_ready(interest) {
            return Poll::Ready(Ok(()));
        }
        self.expect(interest)?;
        self.direction(interest).set_waker(cx.waker());
        Poll::Pending
    }

    /// Makes sure that an edge will be noted.
    fn expect(&self, interest: Interest) -> io::Result<()> {
        let flags = match interest {
            Interest::Read => READ,
            Interest::Write => WRITE,
        };
        if self.places.borrow().iter().any(|place| place.is_expecting(flags)) {
            return Ok(());
        }
        let driver = Driver::of_this_run()?;
        self.register(&driver, flags)?;
        driver.expect_events()
    }

    /// Makes the driver report these, beside those that it reports already.
    fn register(&self, driver: &Rc<Driver>, flags: EventFlags) -> io::Result<()> {
        let mut places = self.places.borrow_mut();
        let fd = (self.fd)(&self.io);
        match places.iter_mut().find(|place| place.is_of(driver)) {
            Some(place) => place.add(driver, fd, flags),
            None => {
                places.retain(Place::is_of_living_run);
                places.push(driver.register(fd, flags, &self.readiness)?);
                Ok(())
            }
        }
    }

    /// Nobody will wait for it any more.
    pub(super) fn release(&self) {
        for place in self.places.take() {
            place.leave((self.fd)(&self.io));
        }
    }

    /// Wakes those who wait.
    pub(super) fn wake(&self) {
        self.readiness.directions.iter().for_each(Direction::wake);
    }

    pub(super) fn into_inner(self) -> io::Result<T> {
        self.release();
        Ok(self.io)
    }
}

/// What epolls have said of a socket, and what calls have found out since.
#[derive(Default)]
struct Readiness {
    /// By [`Interest`].
    directions: [Direction; 2],
    has_more_than_bytes: Cell<bool>,
}

#[derive(Default)]
struct Direction {
    is_blocked: Cell<bool>,
    /// An edge has been noted, and whoever waits is about to be woken.
    is_edge: Cell<bool>,
    spot: Spot,
    waker: Cell<Option<Waker>>,
}

impl Direction {
    /// Sets who is to be woken by the next edge.
    fn set_waker(&self, waker: &Waker) {
        let old = self.waker.take();
        let is_set = old.as_ref().is_some_and(|old| old.will_wake(waker));
        let (new, old) = if is_set { (old, None) } else { (Some(waker.clone()), old) };
        self.waker.set(new);
        drop(old); // foreign: it may come back to us
    }

    fn wake(&self) {
        self.spot.unpark();
        self.waker.take().into_iter().for_each(Waker::wake);
    }
}

impl Readiness {
    /// Notes what an epoll reports.
    fn note(&self, flags: EventFlags) {
        if flags.intersects(MORE_THAN_BYTES) {
            self.has_more_than_bytes.set(true);
        }
        for (direction, wanted) in self.directions.iter().zip([READ, WRITE]) {
            if flags.intersects(wanted.union(OVER)) {
                direction.is_blocked.set(false);
                direction.is_edge.set(true);
            }
        }
    }

    /// Wakes those who wait for what has been noted.
    fn wake(&self) {
        for direction in &self.directions {
            if direction.is_edge.take() {
                direction.wake();
            }
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.fmt(f)
    }
}

#[cfg(test)]
mod tests;
