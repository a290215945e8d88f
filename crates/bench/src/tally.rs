//! What the tasks of a row tell the measurement: how much they did, so that a row that does nothing fails.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

thread_local! {
    static DONE: Cell<usize> = const { Cell::new(0) };
    static ENDED: Cell<usize> = const { Cell::new(0) };
    static LAP: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// The twin of the thread's tally, for rows on several threads.
static SHARED: AtomicUsize = AtomicUsize::new(0);

/// Counts work done on this thread.
pub(crate) fn add(work: usize) {
    DONE.set(DONE.get() + work);
}

/// Returns what this thread has done since the last [`take`].
pub(crate) fn done() -> usize {
    DONE.get()
}

/// Returns the same, and starts again at 0.
pub(crate) fn take() -> usize {
    DONE.take()
}

/// Counts work done on any thread.
pub(crate) fn add_shared(work: usize) {
    SHARED.fetch_add(work, Ordering::Relaxed);
}

/// Moves what other threads have done to the tally of this one.
pub(crate) fn collect_shared() {
    add(SHARED.swap(0, Ordering::Relaxed));
}

/// Counts, by being dropped, a task that has ended.
pub(crate) struct Ended;

impl Drop for Ended {
    fn drop(&mut self) {
        ENDED.set(ENDED.get() + 1);
    }
}

/// Returns how many [`Ended`] have been dropped since the last [`take_ended`].
pub(crate) fn ended() -> usize {
    ENDED.get()
}

/// Returns the same, and starts again at 0.
pub(crate) fn take_ended() -> usize {
    ENDED.take()
}

/// Notes a time that was taken inside a task.
pub(crate) fn set_lap(lap: Duration) {
    LAP.set(lap);
}

/// Returns that time.
pub(crate) fn take_lap() -> Duration {
    LAP.take()
}
