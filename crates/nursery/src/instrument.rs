//! [`Instrument`]: hooks that watch a run. Called only when one is installed.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use crate::error::Cancelled;
use crate::stats::TaskId;

/// Watches a run: what is started, scheduled, run and ended, and when it waits.
///
/// All hooks do nothing by default. They are called with nothing borrowed, so they may look at the run, and
/// even change it. One that panics is reported on standard error and removed; the run goes on.
///
/// For a run whose main task just passes one checkpoint the order is: `before_run`, `task_spawned`,
/// `task_scheduled`, `before_task_step`, `task_yielded`, `after_task_step`, `task_scheduled`, `before_task_step`,
/// `task_exited`, `after_task_step`, `after_run`. A [`Guest`](crate::Guest) calls the first three when it is made.
///
/// # Examples
///
/// ```
/// use std::cell::Cell;
/// use std::rc::Rc;
/// use nursery::lowlevel::{Instrument, TaskId};
///
/// #[derive(Default)]
/// struct Steps(Cell<usize>);
///
/// impl Instrument for Steps {
///     fn before_task_step(&self, _: TaskId) { self.0.set(self.0.get() + 1) }
/// }
///
/// let steps = Rc::new(Steps::default());
/// nursery::Builder::new().checkpoint_budget(1).instrument(steps.clone()).run(async {
///     nursery::checkpoint().await
/// })?;
/// assert_eq!(steps.0.get(), 2);
/// # Ok::<(), nursery::Cancelled>(())
/// ```
pub trait Instrument {
    /// The run begins.
    fn before_run(&self) {}
    /// The run has ended. Called last.
    fn after_run(&self) {}
    /// A task was started.
    fn task_spawned(&self, task: TaskId) {
        let _ = task;
    }
    /// A task was put on a ready list.
    fn task_scheduled(&self, task: TaskId) {
        let _ = task;
    }
    /// A task is about to be polled.
    fn before_task_step(&self, task: TaskId) {
        let _ = task;
    }
    /// A task was polled.
    fn after_task_step(&self, task: TaskId) {
        let _ = task;
    }
    /// A task yields at a checkpoint, which is at `place`: it is ready again. Called within its step.
    fn task_yielded(&self, task: TaskId, place: &'static Location<'static>) {
        let _ = (task, place);
    }
    /// A task came to a checkpoint in a cancelled scope, which raises. Called within its step. Operations that were
    /// interrupted while they waited are not told of.
    fn cancel_raised(&self, task: TaskId, error: &Cancelled) {
        let _ = (task, error);
    }
    /// A child has failed or panicked, or a nursery's body in this task: the nursery is about to be cancelled. One that
    /// ends because it was cancelled has not failed.
    fn task_failed(&self, task: TaskId) {
        let _ = task;
    }
    /// A task has ended; its future has been dropped.
    fn task_exited(&self, task: TaskId) {
        let _ = task;
    }
    /// The run leaves the thread to its host, for this long at most (`None`: until something happens).
    fn before_io_wait(&self, timeout: Option<Duration>) {
        let _ = timeout;
    }
    /// The run has the thread again.
    fn after_io_wait(&self) {}
}

/// The instruments of a run.
pub(crate) struct Instruments {
    list: RefCell<Vec<Rc<dyn Instrument>>>,
    is_empty: Cell<bool>,
}

impl Instruments {
    pub(crate) fn new(list: Vec<Rc<dyn Instrument>>) -> Self {
        Instruments { is_empty: Cell::new(list.is_empty()), list: RefCell::new(list) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.is_empty.get()
    }

    pub(crate) fn add(&self, instrument: Rc<dyn Instrument>) {
        let mut list = self.list.borrow_mut();
        if !list.iter().any(|other| Rc::ptr_eq(other, &instrument)) {
            list.push(instrument);
        }
        self.is_empty.set(false);
    }

    pub(crate) fn remove(&self, instrument: &Rc<dyn Instrument>) -> bool {
        let removed = {
            let mut list = self.list.borrow_mut();
            let at = list.iter().position(|other| Rc::ptr_eq(other, instrument));
            let removed = at.map(|at| list.remove(at));
            self.is_empty.set(list.is_empty());
            removed
        };
        removed.is_some()
    }

    pub(crate) fn call(&self, hook: impl Fn(&dyn Instrument)) {
        let list = self.list.borrow().clone();
        for instrument in list {
            if catch_unwind(AssertUnwindSafe(|| hook(&*instrument))).is_err() {
                eprintln!("nursery: an instrument panicked (see above) and has been removed");
                self.remove(&instrument);
            }
        }
    }
}
