//! [`hostile`]: wakers that use the run at the very moment they are woken or dropped.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use nursery::{lowlevel, now, tree};

type Mischief = Rc<dyn Fn(Strike)>;

thread_local! {
    /// What the wakers of each [`Hostile`] do. Not in the wakers, which may be sent to other threads.
    static MISCHIEF: RefCell<BTreeMap<u64, Mischief>> = const { RefCell::new(BTreeMap::new()) };
    static NEXT: Cell<u64> = const { Cell::new(0) };
}

/// When a hostile waker strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strike {
    /// It is woken.
    Wake,
    /// Its last clone is dropped.
    Drop,
}

/// Polls `f` with wakers that look around in the run whenever they are woken or dropped, each poll with another one.
///
/// A waker is foreign code: it may do anything. A primitive that wakes or drops one while it has something borrowed
/// or locked works until the day it meets an executor whose wakers come back to it. With this, that day is today: a
/// `RefCell` that is borrowed panics, and a lock is found held. The wakers do wake the task.
///
/// # Cancellation
///
/// As `f`.
///
/// # Panics
///
/// As `f`, and with what the wakers run into.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use nursery::sleep;
/// use nursery_testing::hostile;
///
/// nursery_testing::run(hostile(sleep(Duration::from_secs(1))))?;
/// # Ok::<(), nursery::Cancelled>(())
/// ```
pub fn hostile<F: Future>(f: F) -> Hostile<F> {
    hostile_with(|_| look_around(), f)
}

/// As [`hostile`], with wakers that do what `mischief` says: cancel a scope, set an event, send to the channel that wakes
/// them. It is not called by itself again while it runs.
///
/// # Examples
///
/// ```
/// use std::cell::Cell;
/// use std::rc::Rc;
/// use nursery::{Cancelled, checkpoint};
/// use nursery_testing::{Strike, hostile_with};
///
/// let (wakes, count) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
/// let mischief = {
///     let wakes = wakes.clone();
///     move |strike| wakes.set(wakes.get() + u32::from(strike == Strike::Wake))
/// };
/// nursery_testing::run(hostile_with(mischief, async {
///     checkpoint().await?; // wakes its own task
///     count.set(wakes.get());
///     Ok::<(), Cancelled>(())
/// }))?;
/// assert_eq!(count.get(), 1);
/// # Ok::<(), Cancelled>(())
/// ```
pub fn hostile_with<F: Future>(mischief: impl Fn(Strike) + 'static, f: F) -> Hostile<F> {
    let id = NEXT.get();
    NEXT.set(id + 1);
    let is_busy = Cell::new(false);
    let once_at_a_time = move |strike| {
        if !is_busy.replace(true) {
            let _rest = Rest(&is_busy);
            mischief(strike);
        }
    };
    MISCHIEF.with(|all| all.borrow_mut().insert(id, Rc::new(once_at_a_time)));
    Hostile { inner: Some(Box::pin(f)), id }
}

/// Ends a mischief, also one that panics.
struct Rest<'a>(&'a Cell<bool>);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// Reads whatever of the run can be read: all of it is borrowed for a moment.
fn look_around() {
    if !lowlevel::in_run() {
        return;
    }
    let names: Vec<_> = lowlevel::tasks().into_iter().map(|task| task.name()).collect();
    let seen = (names, tree().to_string(), lowlevel::statistics(), now());
    drop(seen);
    lowlevel::token().run_soon(|| drop(tree())).ok();
    if lowlevel::in_task() {
        let _ = (lowlevel::points(), lowlevel::is_cancelled());
    }
}

/// The future of [`hostile`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct Hostile<F> {
    /// `None` when it is done: dropped before the mischief ends.
    inner: Option<Pin<Box<F>>>,
    id: u64,
}

impl<F: Future> Future for Hostile<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let (id, real) = (self.id, cx.waker().clone());
        let waker = Waker::from(Arc::new(HostileWaker { id, real }));
        let inner = self.inner.as_mut().expect("polled after it was ready");
        let poll = inner.as_mut().poll(&mut Context::from_waker(&waker));
        if poll.is_ready() {
            self.inner = None;
        }
        poll
    }
}

impl<F> Drop for Hostile<F> {
    fn drop(&mut self) {
        self.inner = None;
        let mischief = MISCHIEF.try_with(|all| all.borrow_mut().remove(&self.id));
        drop(mischief); // outside the borrow: it is foreign
    }
}

impl<F> fmt::Debug for Hostile<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hostile").field("is_done", &self.inner.is_none()).finish_non_exhaustive()
    }
}

struct HostileWaker {
    id: u64,
    real: Waker,
}

impl HostileWaker {
    /// Does its mischief, if this is the thread of the run.
    fn strike(&self, strike: Strike) {
        let mischief = MISCHIEF.try_with(|all| all.borrow().get(&self.id).cloned());
        if let Ok(Some(mischief)) = mischief {
            mischief(strike);
        }
    }
}

impl Wake for HostileWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.strike(Strike::Wake);
        self.real.wake_by_ref();
    }
}

impl Drop for HostileWaker {
    fn drop(&mut self) {
        self.strike(Strike::Drop);
    }
}
