//! [`Relay`]: a waker that stays the same, and wakes whoever waits at the moment.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

/// What the reactor knows of a task that waits.
///
/// The reactor wakes a waker that is replaced by another, and does so, as it clones and drops them, under its lock. So it
/// gets the same one each time: a task whose waker is another with each poll would keep itself awake for ever.
pub(crate) struct Relay {
    task: Arc<Task>,
    waker: Waker,
}

#[derive(Default)]
struct Task {
    waker: Mutex<Option<Waker>>,
    /// The reactor has woken, which nobody has asked about yet.
    has_fired: AtomicBool,
}

impl Task {
    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Relay {
    pub(crate) fn new() -> Self {
        let task = Arc::<Task>::default();
        Relay { waker: task.clone().into(), task }
    }

    /// Makes the task of `cx` the one that is woken. Returns the context for the reactor.
    pub(crate) fn set(&self, cx: &Context<'_>) -> Context<'_> {
        let is_set = self.task.lock().as_ref().is_some_and(|old| old.will_wake(cx.waker()));
        if !is_set {
            let new = cx.waker().clone(); // foreign, as is dropping the old one: not under the lock
            let old = self.task.lock().replace(new);
            drop(old);
        }
        Context::from_waker(&self.waker)
    }

    /// Has the reactor woken since this was last asked?
    pub(crate) fn take_fired(&self) -> bool {
        self.task.has_fired.swap(false, Ordering::AcqRel)
    }

    /// Takes out the task that waits, if there is one: it is to be woken otherwise.
    pub(crate) fn take(&self) -> Option<Waker> {
        self.task.lock().take()
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_fired.store(true, Ordering::Release);
        let task = self.lock().take();
        task.into_iter().for_each(Waker::wake);
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Relay")
    }
}
