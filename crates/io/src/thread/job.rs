//! A job and the two sides of it: the thread that does it, and the task that waits for it.
//!
//! | | who has it | what it is for |
//! |---|---|---|
//! | [`Link`] | both | says to the thread that the task was cancelled, or has gone; and wakes the task |
//! | [`Entry`] | the run | the token of the limiter, whether the thread works, what it asks of the task |
//! | `Outcome` | both | the result, until one of them takes or drops it |
//!
//! The thread changes nothing of the run's: all that it has to say it says through the entry queue, whose calls find
//! the entry by its number. So the order of things is that of the run, and the count of those who work is exact.
//!
//! # Invariants
//!
//! 1. The entry is there, and the limiter's token borrowed, until the thread has ended its work, whatever becomes of
//!    the task; or until the run is over.
//! 2. While a thread works, its run is busy. It does not work while it waits for the run: see [`Pause`].
//! 3. Nothing foreign runs under the lock.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Wake, Waker};
use std::thread;

use nursery::lowlevel::{Busy, ParkingLot, Token};
use nursery::{Cancelled, RunLocal};

use crate::sync::Borrower;
use crate::thread::Limiter;
use crate::thread::cache::lock;
use crate::thread::from_thread::FromThreadError;

/// What the thread and its task share.
pub(crate) struct Link {
    pub(crate) token: Token,
    /// The number of the entry.
    pub(crate) id: u64,
    /// The task does not wait for the thread when it is cancelled.
    pub(crate) abandons: bool,
    state: Mutex<State>,
    /// The state has changed in a way that the thread may wait for.
    told: Condvar,
}

#[derive(Default)]
struct State {
    /// The task's scope was cancelled. Set at that moment …
    delivered: bool,
    /// … and this when the task runs next.
    cancelled: Option<Cancelled>,
    /// The task does not wait any more.
    gone: bool,
    task: Option<Waker>,
}

thread_local! {
    /// The job of this thread.
    static CURRENT: RefCell<Option<Arc<Link>>> = const { RefCell::new(None) };
}

impl Link {
    pub(crate) fn new(token: Token, id: u64, abandons: bool) -> Arc<Self> {
        Arc::new(Link { token, id, abandons, state: Mutex::default(), told: Condvar::new() })
    }

    /// The job of the current thread, if it is one of ours.
    pub(crate) fn current() -> Option<Arc<Link>> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Sets the job of the current thread.
    pub(crate) fn set_current(link: Option<Arc<Link>>) {
        drop(CURRENT.replace(link));
    }

    /// Sets whom to wake.
    pub(crate) fn set_task(&self, waker: &Waker) {
        let new = waker.clone();
        let old = lock(&self.state).task.replace(new);
        drop(old);
    }

    pub(crate) fn wake_task(&self) {
        let task = lock(&self.state).task.take();
        task.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn is_delivered(&self) -> bool {
        lock(&self.state).delivered
    }

    pub(crate) fn deliver(&self, cancelled: Cancelled) {
        let mut state = lock(&self.state);
        state.delivered = true;
        state.cancelled = Some(cancelled);
        self.told.notify_all();
    }

    /// The task does not wait any more.
    pub(crate) fn leave(&self) {
        let task = {
            let mut state = lock(&self.state);
            state.gone = true;
            self.told.notify_all();
            state.task.take()
        };
        drop(task);
    }

    pub(crate) fn is_gone(&self) -> bool {
        lock(&self.state).gone
    }

    /// Called by the thread: was the task cancelled?
    pub(crate) fn check(&self) -> Result<(), FromThreadError> {
        let mut state = lock(&self.state);
        loop {
            if let Some(cancelled) = &state.cancelled {
                return Err(FromThreadError::Cancelled(cancelled.clone()));
            }
            if state.gone {
                return Err(FromThreadError::Gone);
            }
            if !state.delivered {
                return Ok(());
            }
            // The task is ready to run, and brings the reason.
            state = self.told.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The waker of the task's wait for its cancellation. It is woken inside the call that cancels: so a thread that is told
/// something after that call does not miss the cancellation.
impl Wake for Link {
    fn wake(self: Arc<Self>) {
        lock(&self.state).delivered = true;
        self.wake_task();
    }
}

pub(crate) type Outcome<T> = Mutex<Option<thread::Result<T>>>;

/// Something that the thread wants its task to do.
pub(crate) type Request = Box<dyn FnOnce(Rc<Entry>) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// The run's side of a job.
pub(crate) struct Entry {
    pub(crate) link: Arc<Link>,
    limiter: Rc<dyn Limiter>,
    borrower: Borrower,
    busy: Busy,
    /// The task waits.
    is_hosted: Cell<bool>,
    /// At most one: the thread waits for it.
    request: RefCell<Option<Request>>,
    /// The thread has ended, the task has not taken the result yet. What the limiter said.
    finished: Cell<Option<thread::Result<io::Result<()>>>>,
}

impl Entry {
    pub(crate) fn new(
        link: Arc<Link>,
        limiter: Rc<dyn Limiter>,
        borrower: Borrower,
        busy: Busy,
    ) -> Rc<Self> {
        Rc::new(Entry {
            link,
            limiter,
            borrower,
            busy,
            is_hosted: Cell::new(true),
            request: RefCell::default(),
            finished: Cell::default(),
        })
    }

    /// The entry of a thread that works for the current run.
    pub(crate) fn find(id: u64) -> Option<Rc<Self>> {
        Jobs::current().entries.borrow().get(&id).cloned()
    }

    pub(crate) fn pause(self: Rc<Self>) -> Pause {
        self.busy.set(false);
        Pause(self)
    }

    /// The task stops waiting.
    pub(crate) fn leave(&self) {
        self.is_hosted.set(false);
        let request = self.request.take();
        self.link.leave();
        drop(request);
    }

    pub(crate) fn take_request(&self) -> Option<Request> {
        self.request.take()
    }

    pub(crate) fn take_finished(&self) -> Option<thread::Result<io::Result<()>>> {
        self.finished.take()
    }

    /// Called through the entry queue: the thread wants something.
    pub(crate) fn ask(id: u64, request: Request) {
        if let Some(entry) = Entry::find(id).filter(|entry| entry.is_hosted.get()) {
            let none = entry.request.replace(Some(request));
            debug_assert!(none.is_none(), "a thread waits for one thing at a time");
            entry.link.wake_task();
        }
    }

    /// Called through the entry queue: the thread has ended its work.
    pub(crate) fn finish<T>(id: u64, outcome: &Outcome<T>) {
        let jobs = Jobs::current();
        let Some(entry) = jobs.remove(id) else { return };
        let released = entry.release();
        // The cancellation came first: the task has left, or will as soon as it runs.
        let is_abandoned =
            !entry.is_hosted.get() || (entry.link.abandons && entry.link.is_delivered());
        if is_abandoned {
            let late = lock(outcome).take();
            drop(late);
            if let Err(panic) = released {
                resume_unwind(panic);
            }
        } else {
            entry.finished.set(Some(released));
            entry.link.wake_task();
        }
    }

    /// Gives the limiter's token back; ends the run's being busy.
    pub(crate) fn release(&self) -> thread::Result<io::Result<()>> {
        self.busy.set(false);
        catch_unwind(AssertUnwindSafe(|| self.limiter.release_on_behalf_of(&self.borrower)))
    }
}

/// The thread waits for the run: time may pass.
pub(crate) struct Pause(Rc<Entry>);

impl Drop for Pause {
    fn drop(&mut self) {
        self.0.busy.set(true);
    }
}

/// The jobs of a run that have not ended.
#[derive(Default)]
pub(crate) struct Jobs {
    entries: RefCell<BTreeMap<u64, Rc<Entry>>>,
    next: Cell<u64>,
    /// Who waits until there are none.
    pub(crate) all_done: ParkingLot,
}

static JOBS: RunLocal<Jobs> = RunLocal::with_default(Jobs::default);

impl Jobs {
    #[track_caller]
    pub(crate) fn current() -> Rc<Self> {
        JOBS.get_shared().expect("it has a default")
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.next.replace(self.next.get() + 1)
    }

    pub(crate) fn add(&self, entry: Rc<Entry>) {
        self.entries.borrow_mut().insert(entry.link.id, entry);
    }

    pub(crate) fn remove(&self, id: u64) -> Option<Rc<Entry>> {
        let entry = self.entries.borrow_mut().remove(&id);
        if self.len() == 0 {
            self.all_done.unpark_all();
        }
        entry
    }
}
