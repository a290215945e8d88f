//! [`Trace`]: records a run, and shows it as text, as a picture, or to a trace viewer.
//!
//! An instrument that compares the tree before and after each step of each task: what has come, gone, begun to wait or
//! been cancelled meanwhile was done by that task, or, between the steps, by time. [`record`] makes events of it; the
//! other files show them.

mod perfetto;
mod record;
mod svg;
mod text;

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use nursery::lowlevel::{self, Instrument, TaskId};

use crate::trace::record::Record;

/// Records what happens in a run.
///
/// Install it with [`Builder::instrument`](nursery::Builder::instrument); when the run has ended, take what you need: a
/// [`text`](Self::text), a picture ([`svg`](Self::svg)), or a file for a trace viewer ([`perfetto`](Self::perfetto)). On a
/// virtual clock, with a seed, they are the same in every run, byte for byte: compare them with files, by
/// [`assert_expected`](crate::assert_expected).
///
/// It walks the whole tree at every step: that is for tests and small programs. It sees what lasts from one step of a task
/// to another; a scope that is entered and left without a pause between is not noticed. A step in which a task only lets
/// its children run is not shown. Of several failures under one nursery, only the first, which cancels the others, is
/// marked.
///
/// A second run that it is installed in takes the place of the first.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use nursery::{Cancelled, move_on_after, sleep_forever};
/// use nursery_testing::{Test, Trace};
///
/// let trace = Trace::new();
/// Test::new().builder().instrument(trace.clone()).run(async {
///     move_on_after(Duration::from_secs(3), sleep_forever()).await
/// })?;
/// let text = trace.text();
/// let mut lines = text.lines();
/// assert!(lines.next().unwrap().starts_with("0 s    main  starts ("));
/// assert!(lines.any(|line| line.starts_with("3 s  (time)  cancels the scope of main (")));
/// assert!(text.ends_with("3 s    main  ends\n"));
/// # Ok::<(), Cancelled>(())
/// ```
#[derive(Default)]
pub struct Trace {
    record: RefCell<Record>,
}

impl Trace {
    /// Makes a trace of nothing.
    #[must_use]
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// Returns what happened, a line for each event: when, which task, what.
    #[must_use]
    pub fn text(&self) -> String {
        text::render(&self.record.borrow())
    }

    /// Draws what happened.
    ///
    /// From left to right: events, with the time above where it changes. (On a virtual clock, running takes no time.)
    /// From top to bottom: the tasks, children below their parents. A thick line is a task that runs, a dashed one a task
    /// that waits, with what for above it if there is room. A line is red while the task is cancelled. Brackets are a
    /// nursery, an outline is a scope, hatched if it is a shield. A red bar is where something is cancelled, a cross where
    /// something fails.
    ///
    /// It can be a file of its own, which follows the theme, or part of an HTML page, whose text colour it takes over.
    #[must_use]
    pub fn svg(&self, title: &str) -> String {
        svg::render(&self.record.borrow(), title)
    }

    /// Returns what happened as JSON for <https://ui.perfetto.dev> or `chrome://tracing`: a track for each task.
    ///
    /// Every event there comes at least a microsecond after the one before, so that what takes no time on a
    /// virtual clock can be seen.
    #[must_use]
    pub fn perfetto(&self) -> String {
        perfetto::render(&self.record.borrow())
    }

    /// Notes what has changed in the tree, and then what `note` says.
    fn look(&self, note: impl FnOnce(&mut Record)) {
        if !lowlevel::in_run() {
            return;
        }
        let (tree, now) = (nursery::tree(), nursery::now()); // nothing is borrowed: the clock is foreign
        let mut record = self.record.borrow_mut();
        record.look(&tree, now);
        note(&mut record);
    }
}

impl Instrument for Trace {
    fn before_run(&self) {
        self.record.take();
        self.look(|_| {});
    }

    fn after_run(&self) {
        self.look(|_| {});
    }

    fn task_spawned(&self, _: TaskId) {
        self.look(|_| {});
    }

    fn task_scheduled(&self, task: TaskId) {
        self.look(|record| record.scheduled(task));
    }

    fn before_task_step(&self, task: TaskId) {
        let points = lowlevel::points();
        self.look(|record| record.step_begins(task, points));
    }

    fn after_task_step(&self, task: TaskId) {
        let points = lowlevel::points();
        self.look(|record| record.step_ends(task, points));
    }

    fn task_failed(&self, task: TaskId) {
        self.look(|record| record.failed(task));
    }

    fn task_exited(&self, _: TaskId) {
        self.look(|_| {});
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("events", &self.record.borrow().events.len()).finish()
    }
}
