//! [`Driver`]: the epoll of a run, and who looks at it.
//!
//! A run that has a thread of its own waits in the epoll itself, when it has nothing to do, and looks at it now and then
//! when it has: see [`bell`](super::bell). A guest's thread waits wherever its host does; so its epoll is one descriptor
//! of many of async-io's reactor:
//!
//! ```text
//!  ┌────────── armed ──────────┐
//!  ▼                           │
//!  async-io's reactor ──1──▶ Alarm ──2──▶ entry queue ──3──▶ look ──4──▶ tasks
//!                                              ▲               │
//!                                              └───── again ───┘
//! ```
//! 1. our epoll has events: for the reactor it is one descriptor of many, whatever thread it runs in  2. on that thread
//! 3. on the run's thread, between two turns  4. each socket's [`Readiness`] learns what has happened, and wakes
//!
//! So however many sockets have something, the reactor wakes us once. A look that has found something is followed by another,
//! after the tasks that it woke have run: what came meanwhile is learnt for one system call, where to arm the reactor and to
//! sleep takes seven. When a look finds nothing, the reactor is armed again, for one alarm.
//!
//! # The run
//!
//! It is not kept alive by any of this, and can be found to be stuck: who waits for a socket says so itself, as a wait on the
//! outside world. The alarm has a weak token only. Calls of the entry queue are made up to the run's very end, so sockets
//! work for system tasks that clean up, too.
//!
//! # Invariants
//!
//! 1. If somebody waits, a look is due: the run's thread will look, the reactor is armed, or a call is in the entry queue.
//! 2. Nothing is borrowed while wakers are touched, which are foreign code: one may close sockets, or wait for them.
//! 3. An event finds its socket by a key that is never used again, so one that comes too late finds nobody.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use async_io::Async;
use nursery::RunLocal;
use nursery::lowlevel::{self, OnceKey, RunId, WeakToken};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use slotmap::{Key as _, KeyData, SlotMap, new_key_type};

use crate::source::epoll::Readiness;
use crate::source::epoll::bell::Bell;

/// So many events are taken at a time: then those that were woken have their turn.
pub(super) const AT_ONCE: usize = if cfg!(test) { 4 } else { 32 };

new_key_type! {
    /// A socket that is registered.
    struct Key;
}

pub(super) struct Driver {
    epoll: Rc<OwnedFd>,
    /// Of a guest.
    reactor: Option<Reactor>,
    sockets: RefCell<SlotMap<Key, Rc<Readiness>>>,
    /// Empty, but for a look that goes on.
    events: Cell<Vec<Event>>,
    woken: Cell<Vec<Rc<Readiness>>>,
}

static DRIVER: RunLocal<Driver> = RunLocal::new();

/// Where the epoll of a guest is watched.
struct Reactor {
    epoll: Async<Rc<OwnedFd>>,
    alarm: Waker,
    /// It is armed, or a call is in the entry queue.
    is_due: Cell<bool>,
}

/// Finds out whether this can be waited for.
pub(super) fn check(fd: BorrowedFd<'_>) -> io::Result<()> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    Ok(epoll::add(&epoll, fd, EventData::new_u64(0), EventFlags::empty())?)
}

impl Driver {
    /// The one of the run that polls.
    pub(super) fn of_this_run() -> io::Result<Rc<Driver>> {
        if let Some(driver) = DRIVER.get_shared() {
            return Ok(driver);
        }
        DRIVER.set(Driver::new()?);
        Ok(DRIVER.get_shared().expect("it was set"))
    }

    fn new() -> io::Result<Driver> {
        let epoll = Rc::new(epoll::create(CreateFlags::CLOEXEC)?);
        let is_guest = !lowlevel::set_parker(Bell::new(&epoll)?);
        let reactor = is_guest.then(|| Reactor::new(epoll.clone())).transpose()?;
        Ok(Driver {
            epoll,
            reactor,
            sockets: RefCell::default(),
            events: Cell::new(Vec::with_capacity(AT_ONCE)),
            woken: Cell::default(),
        })
    }

    pub(super) fn register(
        self: &Rc<Self>,
        fd: BorrowedFd<'_>,
        flags: EventFlags,
        readiness: &Rc<Readiness>,
    ) -> io::Result<Place> {
        let key = self.sockets.borrow_mut().insert(readiness.clone());
        if let Err(error) = epoll::add(&self.epoll, fd, data(key), flags | EventFlags::ET) {
            self.sockets.borrow_mut().remove(key);
            return Err(error.into());
        }
        let looker = if self.reactor.is_none() { lowlevel::current_run() } else { None };
        Ok(Place { driver: Rc::downgrade(self), looker, key, flags })
    }

    /// How many sockets are registered, which the system and we agree about.
    #[cfg(test)]
    pub(super) fn registered(&self) -> usize {
        use std::os::fd::AsRawFd;

        let path = format!("/proc/self/fdinfo/{}", self.epoll.as_raw_fd());
        let info = std::fs::read_to_string(path).expect("the system tells");
        let ours = if self.reactor.is_some() { 0 } else { 2 }; // what a bell is made of
        let count = info.lines().filter(|line| line.starts_with("tfd:")).count() - ours;
        assert_eq!(count, self.sockets.borrow().len());
        count
    }

    /// Makes sure that somebody will look.
    pub(super) fn expect_events(&self) -> io::Result<()> {
        self.reactor.as_ref().map_or(Ok(()), Reactor::arm)
    }

    /// For a guest.
    fn look_as_guest(&self) {
        let Some(reactor) = &self.reactor else { return };
        reactor.is_due.set(false);
        if self.look(Some(Timespec::default())) {
            reactor.is_due.set(true);
            reactor.alarm.wake_by_ref();
        } else {
            reactor.arm().expect("the reactor knows this epoll, and was armed before");
        }
    }

    /// Tells the sockets what has happened; waits for something, for so long. Returns whether there may be more.
    fn look(&self, timeout: Option<Timespec>) -> bool {
        let mut events = self.events.take();
        let mut woken = self.woken.take();
        let found = epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref());
        let is_to_look_again = match found {
            Ok(count) => count > 0,
            Err(error) if error == Errno::INTR => true,
            Err(error) => panic!("an epoll that does not wait: {error}"),
        };
        for event in events.drain(..) {
            let key = Key::from(KeyData::from_ffi(event.data.u64()));
            if let Some(readiness) = self.sockets.borrow().get(key) {
                readiness.note(event.flags);
                woken.push(readiness.clone());
            }
        }
        self.events.set(events);
        woken.drain(..).for_each(|readiness| readiness.wake());
        self.woken.set(woken);
        is_to_look_again
    }
}

/// Looks at the epoll of the current run, after it has been asked how long to wait for something.
pub(super) fn look_at_all(timeout: impl FnOnce() -> Option<Timespec>) {
    if let Some(driver) = DRIVER.get_shared() {
        driver.look(timeout());
    }
}

impl Reactor {
    fn new(epoll: Rc<OwnedFd>) -> io::Result<Reactor> {
        let alarm = Alarm { token: lowlevel::token().downgrade(), key: OnceKey::new() };
        Ok(Reactor {
            epoll: Async::new_nonblocking(epoll)?,
            alarm: Arc::new(alarm).into(),
            is_due: Cell::new(false),
        })
    }

    /// Makes sure that the alarm comes.
    fn arm(&self) -> io::Result<()> {
        if self.is_due.get() {
            return Ok(());
        }
        let mut cx = Context::from_waker(&self.alarm);
        // The first answer may be that to the last question.
        while self.epoll.poll_readable(&mut cx)?.is_ready() {}
        self.is_due.set(true);
        Ok(())
    }
}

fn data(key: Key) -> EventData {
    EventData::new_u64(key.data().as_ffi())
}

/// What the reactor wakes, on any thread.
struct Alarm {
    token: WeakToken,
    key: OnceKey,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // If the run is over, there is nobody to be told.
        let _ = self.token.run_soon_once(self.key, || {
            let driver = DRIVER.get_shared();
            driver.into_iter().for_each(|driver| driver.look_as_guest());
        });
    }
}

/// A socket's registration with the driver of one run.
pub(super) struct Place {
    driver: Weak<Driver>,
    /// The run, if its own thread looks.
    looker: Option<RunId>,
    key: Key,
    flags: EventFlags,
}

impl Place {
    pub(super) fn is_of(&self, driver: &Rc<Driver>) -> bool {
        std::ptr::eq(self.driver.as_ptr(), Rc::as_ptr(driver))
    }

    /// Will the present run note these without being asked to?
    #[inline]
    pub(super) fn is_expecting(&self, flags: EventFlags) -> bool {
        self.looker.is_some()
            && self.looker == lowlevel::current_run()
            && self.flags.contains(flags)
    }

    pub(super) fn is_of_living_run(&self) -> bool {
        self.driver.strong_count() > 0
    }

    /// Adds to what is reported.
    pub(super) fn add(
        &mut self,
        driver: &Driver,
        fd: BorrowedFd<'_>,
        flags: EventFlags,
    ) -> io::Result<()> {
        if !self.flags.contains(flags) {
            let flags = self.flags | flags;
            epoll::modify(&driver.epoll, fd, data(self.key), flags | EventFlags::ET)?;
            self.flags = flags;
        }
        Ok(())
    }

    /// The socket is closed, or no longer ours.
    pub(super) fn leave(self, fd: BorrowedFd<'_>) {
        let Some(driver) = self.driver.upgrade() else { return };
        // It was registered, and is open.
        let _ = epoll::delete(&driver.epoll, fd);
        let readiness = driver.sockets.borrow_mut().remove(self.key);
        drop(readiness);
    }
}
