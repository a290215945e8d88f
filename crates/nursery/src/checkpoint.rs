//! Checkpoints: where a task looks whether it is cancelled, and lets others run.
//!
//! Every operation that may wait begins with [`RaiseIfCancelled`], and, if it need not wait, ends with a
//! yield when the task's budget is used up. So each is a cancel point on every call, and a schedule point
//! often enough, whether or not it waits; also one that raises, so that a loop that swallows `Cancelled` starves
//! nobody.

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use crate::error::Cancelled;
use crate::instrument::Instrument;
use crate::run::context;
use crate::stats::TaskId;
use crate::wait::{Label, Origin, Slot, WaitState};

/// Lets other tasks run, and raises if the current scope is cancelled.
///
/// Put one into a long computation to keep it cancellable and its siblings alive. It yields at least once in
/// every [`checkpoint_budget`](crate::Builder::checkpoint_budget) calls, and looks at the scope on every call.
///
/// # Cancellation
///
/// A checkpoint, always. Cancelled or dropped, it did nothing.
///
/// # Errors
///
/// [`Cancelled`].
///
/// # Panics
///
/// Outside a run.
///
/// # Examples
///
/// ```
/// # nursery::run(async {
/// for chunk in [[1, 2], [3, 4]] {
///     nursery::checkpoint().await?;
///     let _sum: i32 = chunk.iter().sum();
/// }
/// # Ok::<(), nursery::Cancelled>(())
/// # }).unwrap();
/// ```
#[inline]
pub fn checkpoint() -> Checkpoint {
    Checkpoint { yielded: false }
}

/// The future of [`checkpoint`].
#[derive(Debug)]
#[must_use = "a checkpoint does nothing unless it is awaited"]
pub struct Checkpoint {
    yielded: bool,
}

impl Future for Checkpoint {
    type Output = Result<(), Cancelled>;

    #[inline]
    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.yielded {
            let cancelled = context::is_cancelled();
            if !context::spend_budget() {
                self.yielded = true;
                return yield_now(cx);
            }
            if !cancelled {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Ready(if context::is_cancelled_now() { Err(cancelled()) } else { Ok(()) })
    }
}

/// Raises if the current scope is cancelled; otherwise goes on without letting others run.
///
/// # Cancellation
///
/// A cancel point; a schedule point only if it raises.
///
/// # Errors
///
/// [`Cancelled`].
///
/// # Panics
///
/// Outside a run.
pub fn checkpoint_if_cancelled() -> CheckpointIfCancelled {
    CheckpointIfCancelled { check: raise_if_cancelled() }
}

/// The future of [`checkpoint_if_cancelled`].
#[derive(Debug)]
#[must_use = "a checkpoint does nothing unless it is awaited"]
pub struct CheckpointIfCancelled {
    check: RaiseIfCancelled,
}

impl Future for CheckpointIfCancelled {
    type Output = Result<(), Cancelled>;

    #[inline]
    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        context::expect_task("`checkpoint_if_cancelled`");
        self.check.poll_check(cx)
    }
}

/// Lets other tasks run, without looking whether the scope is cancelled.
///
/// For the end of an operation that has had its effect: it must not raise any more.
///
/// # Cancellation
///
/// A schedule point, not a cancel point.
///
/// # Panics
///
/// Outside a run.
pub fn cancel_shielded_checkpoint() -> CancelShieldedCheckpoint {
    CancelShieldedCheckpoint { yielded: false }
}

/// The future of [`cancel_shielded_checkpoint`].
#[derive(Debug)]
#[must_use = "a checkpoint does nothing unless it is awaited"]
pub struct CancelShieldedCheckpoint {
    yielded: bool,
}

impl Future for CancelShieldedCheckpoint {
    type Output = ();

    #[inline]
    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.yielded || context::spend_budget() {
            return Poll::Ready(());
        }
        self.yielded = true;
        yield_now(cx)
    }
}

/// Puts the task at the end of the queue.
#[cold]
#[inline(never)]
#[track_caller]
pub(crate) fn yield_now<T>(cx: &Context<'_>) -> Poll<T> {
    context::expect_task("a checkpoint"); // outside a run the budget is always used up
    // The task may have computed for long between its checkpoints: deadlines are looked at now.
    context::with_run(|run| {
        if let Some(run) = run {
            run.read_clock_next_turn();
        }
    });
    context::count_schedule_point();
    let place = Location::caller();
    tell(|instrument, task| instrument.task_yielded(task, place));
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// Tells the instruments something of the current task.
fn tell(hook: impl Fn(&dyn Instrument, TaskId)) {
    if !context::is_watched() {
        return;
    }
    if let (Some(run), Some(task)) = (context::try_current_run(), context::current_task()) {
        let task = run.task_id(task);
        run.instrument(|instrument| hook(instrument, task));
    }
}

/// The error that a checkpoint raises in the current node, which is cancelled.
#[cold]
pub(crate) fn cancelled() -> Cancelled {
    let error = cancellation();
    tell(|instrument, task| instrument.cancel_raised(task, &error));
    error
}

/// The error for the current node, which is cancelled; it need not be raised.
fn cancellation() -> Cancelled {
    let node = context::seat("a checkpoint");
    Cancelled(context::with_run(|run| match run {
        Some(run) => run.state.borrow().reason(node),
        None => Arc::new(crate::CancelSource::Unknown.into()),
    }))
}

/// The first half of every operation: raises if the scope is cancelled, after a yield if one is due.
#[derive(Debug, Default)]
pub(crate) struct RaiseIfCancelled {
    yielded: bool,
    counted: bool,
}

pub(crate) fn raise_if_cancelled() -> RaiseIfCancelled {
    RaiseIfCancelled::default()
}

impl RaiseIfCancelled {
    #[inline]
    #[track_caller]
    pub(crate) fn poll_check(&mut self, cx: &Context<'_>) -> Poll<Result<(), Cancelled>> {
        if self.yielded {
            return Poll::Ready(Err(cancelled())); // what was seen stands, even if a shield went up meanwhile
        }
        let is_cancelled = if self.counted {
            context::is_cancelled_now()
        } else {
            self.counted = true;
            context::is_cancelled()
        };
        if !is_cancelled {
            return Poll::Ready(Ok(()));
        }
        if !context::spend_budget() {
            self.yielded = true;
            return yield_now(cx);
        }
        Poll::Ready(Err(cancelled()))
    }
}

/// Makes any future a checkpoint: cancelled, it is dropped, and [`Cancelled`] is returned.
///
/// The way to use futures of other libraries: an `async-io` socket, a tokio channel in a
/// [`Guest`](crate::Guest), an `async-channel` that a thread sends to.
///
/// # Cancellation
///
/// A checkpoint, always. Cancelled before the first poll, the foreign future is not polled. Cancelled
/// while it waits, it is *dropped*: what that means is up to the foreign future (look for "cancel safety" in its
/// docs). A result that is there at that moment is returned.
///
/// A foreign future that is ready at its first poll may be followed by a yield, with its result kept; dropped there, the
/// result is dropped, too. An operation that takes something for good (a read) is safe if only the *readiness* is
/// awaited in here, after a [`checkpoint`], and what is ready is taken outside.
///
/// # Errors
///
/// [`Cancelled`].
///
/// # Panics
///
/// Outside a run.
///
/// # Examples
///
/// ```
/// use nursery::{cancellable, move_on_after};
/// use std::time::Duration;
///
/// # nursery::run(async {
/// let (tx, rx) = tokio::sync::oneshot::channel();
/// std::thread::spawn(move || tx.send("from a thread"));
/// assert_eq!(cancellable(rx).await?, Ok("from a thread"));
///
/// let never = cancellable(std::future::pending::<()>());
/// assert!(move_on_after(Duration::from_millis(5), never).await?.is_none());
/// # Ok::<(), nursery::Cancelled>(())
/// # }).unwrap();
/// ```
#[track_caller]
pub fn cancellable<F: Future>(foreign: F) -> Cancellable<F> {
    Cancellable {
        foreign: Some(foreign),
        done: None,
        check: raise_if_cancelled(),
        is_checked: false,
        slot: Slot::default(),
        label: Label { what: "a foreign future", place: Location::caller() },
        outside: true,
    }
}

pin_project! {
    /// The future of [`cancellable`].
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct Cancellable<F: Future> {
        // First, so that it is dropped first.
        #[pin]
        foreign: Option<F>,
        done: Option<F::Output>,
        check: RaiseIfCancelled,
        is_checked: bool,
        slot: Slot,
        label: Label,
        outside: bool,
    }
}

impl<F: Future> Cancellable<F> {
    /// Sets the words by which the tree says what is waited for, such as `"a socket"`.
    pub fn waiting_for(mut self, what: &'static str) -> Self {
        self.label.what = what;
        self
    }

    /// Sets the place that the tree and instruments show: that of the operation that it is a part of.
    pub fn at(mut self, place: &'static Location<'static>) -> Self {
        self.label.place = place;
        self
    }

    /// Says that the future is woken by tasks of this run, not from outside: it does not keep a deadlock
    /// from being found.
    pub fn inside(mut self) -> Self {
        self.outside = false;
        self
    }
}

impl<F: Future> Future for Cancellable<F> {
    type Output = Result<F::Output, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(done) = this.done.take() {
            return Poll::Ready(Ok(done)); // after the yield below
        }
        if !*this.is_checked {
            context::expect_task_at(this.label.what, this.label.place);
            if let Err(error) = ready!(this.check.poll_check(cx)) {
                this.foreign.set(None);
                return Poll::Ready(Err(error));
            }
            *this.is_checked = true;
        }
        let waited = this.slot.is_registered();
        let state = if waited { this.slot.poll(cx) } else { Poll::Pending };
        let foreign = this.foreign.as_mut().as_pin_mut().expect("polled after it was ready");
        if let Poll::Ready(output) = foreign.poll(cx) {
            this.foreign.set(None);
            this.slot.withdraw();
            if waited || context::spend_budget() {
                return Poll::Ready(Ok(output));
            }
            *this.done = Some(output);
            return yield_now(cx);
        }
        let error = match state {
            Poll::Ready(WaitState::Cancelled) => this.slot.cancelled(),
            // The foreign future itself may have cancelled the scope.
            _ if !waited && context::is_cancelled_now() => cancelled(),
            _ => {
                if !waited {
                    let origin = if *this.outside { Origin::Outside } else { Origin::Inside };
                    this.slot.register(cx, this.label, origin);
                }
                return Poll::Pending;
            }
        };
        this.slot.withdraw();
        this.foreign.set(None);
        Poll::Ready(Err(error))
    }
}

impl<F: Future> std::fmt::Debug for Cancellable<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cancellable").field("what", &self.label.what).finish_non_exhaustive()
    }
}

/// Waits until the current scope is cancelled, and returns the cancellation as a value.
///
/// For operations that cannot stop when they are cancelled but want to know: poll it beside the operation. Once
/// the cancellation has been delivered it stays delivered, even if a shield goes up meanwhile.
///
/// # Cancellation
///
/// It ends with it.
///
/// # Panics
///
/// Outside a run.
///
/// # Examples
///
/// ```
/// use nursery::{lowlevel, move_on_after};
/// use std::time::Duration;
///
/// # nursery::run(async {
/// move_on_after(Duration::from_millis(1), async {
///     let cancelled = lowlevel::cancelled().await;
///     assert_eq!(cancelled.reason().source(), nursery::CancelSource::Deadline);
///     Ok::<(), nursery::Cancelled>(())
/// })
/// .await?;
/// # Ok::<(), nursery::Cancelled>(())
/// # }).unwrap();
/// ```
#[track_caller]
pub fn until_cancelled() -> UntilCancelled {
    UntilCancelled {
        slot: Slot::default(),
        label: Label { what: "its own cancellation", place: Location::caller() },
    }
}

/// The future of [`cancelled`](crate::lowlevel::cancelled).
#[must_use = "futures do nothing unless they are awaited"]
pub struct UntilCancelled {
    slot: Slot,
    label: Label,
}

impl UntilCancelled {
    /// Sets the words by which the tree says what is waited for, and the place: those of the operation that it is a
    /// part of.
    pub fn waiting_for(mut self, what: &'static str, place: &'static Location<'static>) -> Self {
        self.label = Label { what, place };
        self
    }
}

impl Future for UntilCancelled {
    type Output = Cancelled;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Cancelled> {
        let this = &mut *self;
        if !this.slot.is_registered() {
            context::expect_task_at(this.label.what, this.label.place);
            if context::is_cancelled() {
                return Poll::Ready(cancellation());
            }
            this.slot.register(cx, &this.label, Origin::Inside);
            return Poll::Pending;
        }
        ready!(this.slot.poll(cx));
        let error = this.slot.cancelled();
        this.slot.withdraw();
        Poll::Ready(error)
    }
}

impl std::fmt::Debug for UntilCancelled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UntilCancelled").finish_non_exhaustive()
    }
}
