//! [`Child`]: the handle of a child task.

use std::fmt;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::checkpoint::{RaiseIfCancelled, raise_if_cancelled, yield_now};
use crate::error::Cancelled;
use crate::nursery::erase::Handle;
use crate::run::{Run, context};
use crate::scope::reason::{CancelReason, CancelSource};
use crate::stats::TaskId;
use crate::tree::NodeId;
use crate::wait::{Label, Origin, Slot, WaitState};

/// A child of a nursery, from [`Nursery::start_soon`](crate::Nursery::start_soon).
///
/// Await it for the child's value; cancel the child alone with [`cancel`](Self::cancel). Dropping it changes
/// nothing: the child belongs to its nursery.
///
/// # Cancellation
///
/// Awaiting it is a checkpoint, always. Cancelled or dropped, it did nothing: the child goes on.
///
/// # Errors
///
/// [`Cancelled`]: the waiting task is cancelled, or the child has no value, because it failed (then its nursery has
/// been cancelled, and the error leaves there) or was cancelled itself.
///
/// # Examples
///
/// ```
/// use nursery::open_nursery;
///
/// # nursery::run(async {
/// let sum = open_nursery(async |n| -> anyhow::Result<i32> {
///     let a = n.start_soon(async { Ok(40) }).named("a");
///     let b = n.start_soon(async { Ok(2) }).named("b");
///     Ok(a.await? + b.await?)
/// })
/// .await?;
/// assert_eq!(sum, 42);
/// # Ok::<(), anyhow::Error>(())
/// # }).unwrap();
/// ```
pub struct Child<'scope, T> {
    join: Join<T>,
    run: Option<Rc<Run>>,
    scope: PhantomData<&'scope ()>,
}

impl<T> Unpin for Child<'_, T> {}

impl<T> Child<'_, T> {
    pub(crate) fn new(handle: Handle<T>, run: &Rc<Run>) -> Self {
        let place = handle.task().place();
        Child { join: Join::new(Some(handle), place), run: Some(run.clone()), scope: PhantomData }
    }

    /// The handle of a child that was dropped before it was started.
    pub(crate) fn gone(place: &'static Location<'static>) -> Self {
        Child { join: Join::new(None, place), run: None, scope: PhantomData }
    }

    /// Names the child, for the tree, for reasons and for instruments.
    #[must_use = "the name is set; the handle may be dropped"]
    pub fn named(self, name: impl Into<Box<str>>) -> Self {
        self.set_name(name);
        self
    }

    /// Names the child.
    pub fn set_name(&self, name: impl Into<Box<str>>) {
        let name = name.into(); // foreign: outside the borrow
        let Some((run, id)) = self.position() else { return };
        let old = match run.state.borrow_mut().nodes.get_mut(id) {
            Some(node) => node.extra().name.replace(name),
            None => Some(name),
        };
        drop(old);
    }

    /// The task's node. If it has ended without one, it gets one for its name's sake.
    fn position(&self) -> Option<(&Rc<Run>, NodeId)> {
        let run = self.run.as_ref()?;
        Some((run, self.join.task.as_ref()?.task().node(run)))
    }

    /// Cancels this child alone. Its nursery and its siblings are not concerned.
    ///
    /// The child gets [`Cancelled`] at its next checkpoint, and absorbs it at its end: it does not count as failed.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    pub fn cancel(&self) {
        self.cancel_because(CancelSource::Explicit);
    }

    /// The same, with a reason.
    pub fn cancel_because(&self, reason: impl Into<CancelReason>) {
        let reason = reason.into();
        if let Some((run, node)) = self.position() {
            run.cancel(node, reason);
        }
    }

    /// Cancels this child and waits for its end. Returns its value if it had one nevertheless.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled, it still does the minimum: the child has been cancelled.
    ///
    /// # Errors
    ///
    /// [`Cancelled`]: of the waiting task.
    pub async fn cancel_and_join(mut self) -> Result<Option<T>, Cancelled> {
        self.cancel();
        poll_fn(|cx| self.join.poll(cx)).await
    }

    /// Returns whether the child has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.join.is_finished()
    }

    /// Returns the identity of the child's task; `None` if it was started when its nursery was being dropped.
    #[must_use]
    pub fn id(&self) -> Option<TaskId> {
        self.position().map(|(run, node)| run.task_id(node))
    }
}

impl<T> Future for Child<'_, T> {
    type Output = Result<T, Cancelled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let value = ready!(self.join.poll(cx))?;
        Poll::Ready(value.ok_or_else(no_value))
    }
}

fn no_value() -> Cancelled {
    let text = "the child that was waited for failed or was cancelled";
    Cancelled(Arc::new(CancelReason::new(CancelSource::Nursery).with_text(text)))
}

impl<T> fmt::Debug for Child<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child").field("finished", &self.is_finished()).finish_non_exhaustive()
    }
}

/// Waits for a task's value.
struct Join<T> {
    /// `None` if the child was never started.
    task: Option<Handle<T>>,
    progress: Progress,
    slot: Slot,
    place: &'static Location<'static>,
}

/// How far the present wait is.
enum Progress {
    Checking(RaiseIfCancelled),
    Polling,
    /// The value is there, and has yielded to others.
    Yielded,
}

impl<T> Join<T> {
    fn new(task: Option<Handle<T>>, place: &'static Location<'static>) -> Self {
        Join { task, progress: Progress::new(), slot: Slot::default(), place }
    }

    fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(Handle::is_finished)
    }

    /// The value; `None`: it has none. Cancelled, it can be polled again: the child goes on.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<T>, Cancelled>> {
        let result = ready!(self.poll_once(cx));
        self.progress = Progress::new();
        self.slot.withdraw();
        Poll::Ready(result)
    }

    fn poll_once(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<T>, Cancelled>> {
        if let Progress::Checking(check) = &mut self.progress {
            context::expect_task_at(WHAT, self.place);
            ready!(check.poll_check(cx))?;
            self.progress = Progress::Polling;
        }
        let waited = self.slot.is_registered();
        let state = if waited { self.slot.poll(cx) } else { Poll::Pending };
        if self.is_finished() {
            if !waited && matches!(self.progress, Progress::Polling) && !context::spend_budget() {
                self.progress = Progress::Yielded;
                return yield_now(cx);
            }
            return Poll::Ready(Ok(self.task.as_mut().and_then(Handle::take)));
        }
        if state == Poll::Ready(WaitState::Cancelled) {
            return Poll::Ready(Err(self.slot.cancelled()));
        }
        if waited {
            self.tell_child(); // the wait may have gone elsewhere
        } else {
            self.wait(cx);
            if self.is_finished() {
                // The waker that was cloned, which is foreign, has dropped the nursery.
                return Poll::Ready(Ok(self.task.as_mut().and_then(Handle::take)));
            }
        }
        Poll::Pending
    }

    /// Registers the wait, which the task's end wakes.
    fn wait(&mut self, cx: &mut Context<'_>) {
        let label = Label { what: WHAT, place: self.place };
        self.slot.register(cx, &label, Origin::Inside);
        if let (Some(task), Some(run)) = (&self.task, self.slot.run()) {
            assert!(
                task.is_in(run),
                "a child was awaited in another run than its own\n\
                 \n\
                 The child's end wakes tasks of its own run only. Send its result to the other run instead: through \
                 `lowlevel::Token::run_soon`, or a channel of threads."
            );
        }
        self.tell_child();
    }

    /// Tells the child whom to wake at its end.
    fn tell_child(&self) {
        if let Some(task) = &self.task {
            task.set_joiner(self.slot.waiter().cloned());
        }
    }
}

impl Progress {
    fn new() -> Self {
        Progress::Checking(raise_if_cancelled())
    }
}

const WHAT: &str = "a child";
