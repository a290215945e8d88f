//! [`Busy`]: work outside the run, of which the run knows that it goes on.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use crate::run::{Run, context};

/// Says that something outside works for the run, and will come back: a thread that computes, a process that is waited
/// for.
///
/// It differs from *waiting* for the outside, where nobody knows whether anything comes. While there is a `Busy` a
/// virtual clock does not jump however long it takes (see [`Idle::busy`](crate::Idle::busy)), and the run is not
/// taken for stuck. Under the system clock it is a number in the [statistics](crate::lowlevel::RunStatistics).
///
/// # Cancellation
///
/// Not a checkpoint.
///
/// # Panics
///
/// Outside a run.
///
/// # Examples
///
/// ```
/// use nursery::lowlevel;
///
/// # nursery::run(async {
/// let work = lowlevel::busy();
/// assert_eq!(lowlevel::statistics().busy, 1);
/// work.set(false); // it waits for the run
/// work.set(true);
/// drop(work); // it has come back
/// assert_eq!(lowlevel::statistics().busy, 0);
/// # Ok::<(), nursery::Cancelled>(())
/// # }).unwrap();
/// ```
#[must_use = "the run is busy only while this lives"]
#[track_caller]
pub fn busy() -> Busy {
    let busy = Busy { run: context::current_run("`lowlevel::busy`"), counts: Cell::new(false) };
    busy.set(true);
    busy
}

/// Work outside the run, until it is dropped: from [`busy`].
pub struct Busy {
    run: Rc<Run>,
    counts: Cell<bool>,
}

impl Busy {
    /// Says whether the work goes on, or waits for the run itself: then time may pass.
    pub fn set(&self, on: bool) {
        let count = &self.run.busy;
        match (self.counts.replace(on), on) {
            (false, true) => count.set(count.get() + 1),
            (true, false) => {
                count.set(count.get() - 1);
                if count.get() == 0 {
                    // Guests' hosts may say so while the run sleeps: its clock is asked again.
                    self.run.inbox.wake_root(self.run.generation);
                }
            }
            _ => {}
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.set(false);
    }
}

impl fmt::Debug for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Busy").field("on", &self.counts.get()).finish_non_exhaustive()
    }
}
