//! Time limits and sleeping: [`move_on_after`], [`fail_after`], [`shield`], [`sleep`], [`now`].

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use crate::checkpoint::{RaiseIfCancelled, cancelled, raise_if_cancelled, yield_now};
use crate::deadlines::Limit;
use crate::error::{Cancelled, TaskError, TooSlow};
use crate::run::context::{self, DeferredGuard, Left};
use crate::scope::frame::{Frame, scope_node};
use crate::scope::light::Light;
use crate::scope::reason::CancelSource;
use crate::scope::settle;
use crate::tree::NodeId;
use crate::wait::{Label, Origin, Slot, WaitState};

/// Returns the time on the run's clock.
///
/// # Panics
///
/// Outside a run.
#[must_use]
#[track_caller]
pub fn now() -> Instant {
    context::current_run("`nursery::now`").now()
}

/// Runs `body` for at most `limit`. `None` if the time was up: the body was cancelled, and has ended.
///
/// The limit counts from the first poll. If the body ends before the deadline is noticed, its value counts. A
/// limit of zero cancels at once: the body runs to its first checkpoint.
///
/// # Cancellation
///
/// Not a checkpoint of its own. Dropped, it drops the body.
///
/// # Errors
///
/// Those of the body. A cancellation that comes from further out passes through.
///
/// # Panics
///
/// Outside a run.
///
/// # Examples
///
/// ```
/// use nursery::{move_on_after, sleep};
/// use std::time::Duration;
///
/// # nursery::run(async {
/// let slow = move_on_after(Duration::from_millis(5), sleep(Duration::from_secs(60))).await?;
/// assert!(slow.is_none());
/// # Ok::<(), nursery::Cancelled>(())
/// # }).unwrap();
/// ```
#[track_caller]
pub fn move_on_after<T, E: TaskError, F>(limit: Duration, body: F) -> MoveOn<F>
where
    F: Future<Output = Result<T, E>>,
{
    MoveOn::new(Limit::Timeout(limit), body)
}

/// Runs `body` until `deadline`, on the run's clock. See [`move_on_after`].
///
/// # Cancellation
///
/// Not a checkpoint of its own. Dropped, it drops the body.
///
/// # Errors
///
/// Those of the body.
///
/// # Panics
///
/// Outside a run.
#[track_caller]
pub fn move_on_at<T, E: TaskError, F>(deadline: Instant, body: F) -> MoveOn<F>
where
    F: Future<Output = Result<T, E>>,
{
    MoveOn::new(Limit::At(deadline), body)
}

pin_project! {
    /// The future of [`move_on_after`] and [`move_on_at`].
    #[must_use = "a time limit does nothing unless it is awaited"]
    pub struct MoveOn<F> {
        // Before `scope`, so that it is dropped before that is left.
        #[pin]
        body: Option<F>,
        scope: Scope,
        limit: Limit,
        shield: bool,
        place: &'static Location<'static>,
    }
}

impl<F> MoveOn<F> {
    #[track_caller]
    fn new(limit: Limit, body: F) -> Self {
        MoveOn {
            body: Some(body),
            scope: Scope::Out,
            limit,
            shield: false,
            place: Location::caller(),
        }
    }

    /// Keeps cancellation from further out away from the body. Its own time limit still works.
    pub fn shielded(mut self) -> Self {
        self.shield = true;
        self
    }
}

impl Limit {
    /// Is the time up before it begins?
    pub(crate) fn is_over(self) -> bool {
        match self {
            Limit::Timeout(limit) => limit.is_zero(),
            Limit::At(at) => at <= now(),
            Limit::Never => false,
        }
    }
}

/// Where a time limit is.
enum Scope {
    Out,
    /// It waits, without a node.
    Light(Light),
    In(Frame),
}

impl Scope {
    /// Goes in, without a node if that is possible: then the body is polled before the guard is dropped.
    #[inline(always)]
    fn enter(
        &mut self,
        limit: Limit,
        shield: bool,
        place: &'static Location<'static>,
    ) -> Option<DeferredGuard> {
        if let (Scope::Out, Limit::Timeout(timeout)) = (&*self, limit)
            && !shield
            && !timeout.is_zero()
            && let Some(guard) = context::defer(timeout, place)
        {
            return Some(guard);
        }
        self.enter_again(limit, shield, place)
    }

    /// The same, of one that was entered before, or needs a node from the beginning.
    fn enter_again(
        &mut self,
        limit: Limit,
        shield: bool,
        place: &'static Location<'static>,
    ) -> Option<DeferredGuard> {
        match self {
            Scope::Out => *self = Scope::In(enter(limit, shield, place)),
            Scope::Light(light) => {
                let guard = light.resume();
                if guard.is_none() {
                    self.settle();
                }
                return guard;
            }
            Scope::In(_) => {}
        }
        None
    }

    /// The body, which was polled without a node, has to wait.
    #[inline]
    fn wait(&mut self, guard: DeferredGuard) {
        let is_light = matches!(self, Scope::Light(_));
        if !(if is_light { Light::can_stay() } else { Light::has_room() }) {
            context::settle();
        }
        match guard.leave() {
            Left::Entered(node) => self.settled(node),
            Left::WithoutNode(deferred) => match self {
                Scope::Light(light) => light.stay(),
                Scope::Out | Scope::In(_) => *self = Scope::Light(Light::enter(&deferred)),
            },
        }
    }

    /// The body, which was polled without a node, has ended. Returns whether the scope absorbs its cancellation.
    #[inline(always)]
    fn leave(&mut self, guard: DeferredGuard) -> bool {
        match guard.leave() {
            Left::Entered(node) => {
                self.settled(node);
                self.end()
            }
            Left::WithoutNode(_) => {
                context::leave_within();
                if let Scope::Light(_) = self {
                    *self = Scope::Out;
                }
                false // only its own deadline would make it absorb, and that makes a node
            }
        }
    }

    /// Takes the node out. Returns whether it absorbs the cancellation that leaves it.
    #[inline]
    fn end(&mut self) -> bool {
        match self {
            Scope::In(frame) => {
                let absorbs = frame.end();
                *self = Scope::Out;
                absorbs
            }
            Scope::Out | Scope::Light(_) => false,
        }
    }

    /// It has got this node.
    #[cold]
    fn settled(&mut self, node: NodeId) {
        match self {
            Scope::Light(_) => self.settle(),
            Scope::Out | Scope::In(_) => {
                *self = Scope::In(Frame::of(context::current_run("a time limit"), node));
            }
        }
    }

    /// A light one takes its node, or gets it.
    #[cold]
    fn settle(&mut self) {
        if let Scope::Light(light) = self {
            *self = Scope::In(light.settle());
        }
    }
}

/// Enters a scope with a time limit, which may be over already.
fn enter(limit: Limit, shield: bool, place: &'static Location<'static>) -> Frame {
    if matches!(limit, Limit::At(_)) {
        context::current_run_at("a time limit", place); // panics, with advice
    }
    let mut node = scope_node(place, shield);
    if limit.is_over() {
        node.called = true;
        node.reason = Some(Arc::new(CancelSource::Deadline.into()));
    }
    let mut frame = Frame::default();
    frame.enter("a time limit", node, limit);
    frame
}

impl<F, T, E: TaskError> Future for MoveOn<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<Option<T>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (result, absorbs) = match this.scope.enter(*this.limit, *this.shield, this.place) {
            Some(guard) => match poll_and_drop(this.body, cx) {
                Poll::Ready(result) => (result, this.scope.leave(guard)),
                Poll::Pending => {
                    this.scope.wait(guard);
                    return Poll::Pending;
                }
            },
            None => {
                let Scope::In(frame) = this.scope else { unreachable!("entered") };
                let result = ready!(frame.inside(|| poll_and_drop(this.body, cx)));
                (result, this.scope.end())
            }
        };
        Poll::Ready(settle(result, absorbs).0)
    }
}

#[inline]
fn poll_and_drop<F: Future>(
    mut body: Pin<&mut Option<F>>,
    cx: &mut Context<'_>,
) -> Poll<F::Output> {
    let polled = body.as_mut().as_pin_mut().expect("polled after it was ready").poll(cx);
    if polled.is_ready() {
        body.set(None);
    }
    polled
}

impl<F> fmt::Debug for MoveOn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MoveOn").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// Runs `body` for at most `limit`, and fails with [`TooSlow`] if the time was up.
///
/// As [`move_on_after`], but the caller cannot overlook it. If other errors came out of the body together
/// with the cancellation, those are returned.
///
/// # Cancellation
///
/// Not a checkpoint of its own. Dropped, it drops the body.
///
/// # Errors
///
/// [`TooSlow`]; those of the body.
///
/// # Panics
///
/// Outside a run.
///
/// # Examples
///
/// ```
/// use nursery::{TooSlow, fail_after, sleep};
/// use std::time::Duration;
///
/// # nursery::run(async {
/// let slow = fail_after(Duration::from_millis(5), async {
///     Ok::<(), anyhow::Error>(sleep(Duration::from_secs(60)).await?)
/// });
/// let error = slow.await.unwrap_err();
/// assert_eq!(error.to_string(), "not done within 5ms");
/// assert!(error.is::<TooSlow>());
/// # Ok::<(), anyhow::Error>(())
/// # }).unwrap();
/// ```
#[track_caller]
pub fn fail_after<T, E, F>(limit: Duration, body: F) -> FailAt<F>
where
    E: TaskError + From<TooSlow>,
    F: Future<Output = Result<T, E>>,
{
    FailAt { inner: move_on_after(limit, body), limit: Some(limit) }
}

/// Runs `body` until `deadline`, on the run's clock, and fails with [`TooSlow`] if it is not done by then.
///
/// # Cancellation
///
/// Not a checkpoint of its own. Dropped, it drops the body.
///
/// # Errors
///
/// [`TooSlow`]; those of the body.
///
/// # Panics
///
/// Outside a run.
#[track_caller]
pub fn fail_at<T, E, F>(deadline: Instant, body: F) -> FailAt<F>
where
    E: TaskError + From<TooSlow>,
    F: Future<Output = Result<T, E>>,
{
    FailAt { inner: move_on_at(deadline, body), limit: None }
}

pin_project! {
    /// The future of [`fail_after`] and [`fail_at`].
    #[must_use = "a time limit does nothing unless it is awaited"]
    #[derive(Debug)]
    pub struct FailAt<F> {
        #[pin]
        inner: MoveOn<F>,
        limit: Option<Duration>,
    }
}

impl<F> FailAt<F> {
    /// Keeps cancellation from further out away from the body. Its own time limit still works.
    pub fn shielded(mut self) -> Self {
        self.inner.shield = true;
        self
    }
}

impl<F, T, E> Future for FailAt<F>
where
    E: TaskError + From<TooSlow>,
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(cx));
        Poll::Ready(result.and_then(|value| value.ok_or_else(|| TooSlow::new(*this.limit).into())))
    }
}

/// Runs `body` with cancellation from outside kept off.
///
/// For what must not be interrupted half-way. Give it a time limit of its own, or use
/// [`finally`](crate::finally) for clean-up: a shield without one can hold up the end of the program for ever.
///
/// # Cancellation
///
/// Not a checkpoint of its own, and keeps cancellation from those inside. It does not keep the future from being
/// dropped.
///
/// # Panics
///
/// Outside a run.
///
/// # Examples
///
/// ```
/// use nursery::{CancelScope, checkpoint, shield};
///
/// # nursery::run(async {
/// let scope = CancelScope::new();
/// scope.cancel();
/// let saved = scope
///     .enter(async {
///         shield(async { checkpoint().await }).await?; // done, although cancelled
///         checkpoint().await?; // raises
///         Ok::<(), nursery::Cancelled>(())
///     })
///     .await?;
/// assert!(saved.is_none());
/// # Ok::<(), nursery::Cancelled>(())
/// # }).unwrap();
/// ```
#[track_caller]
pub fn shield<F: Future>(body: F) -> Shield<F> {
    Shield { body: Some(body), frame: Frame::default(), place: Location::caller() }
}

pin_project! {
    /// The future of [`shield`].
    #[must_use = "a shield does nothing unless it is awaited"]
    pub struct Shield<F> {
        #[pin]
        body: Option<F>,
        frame: Frame,
        place: &'static Location<'static>,
    }
}

impl<F: Future> Future for Shield<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if this.frame.entry().is_none() {
            this.frame.enter("a shield", scope_node(this.place, true), Limit::Never);
        }
        let value = ready!(this.frame.inside(|| poll_and_drop(this.body, cx)));
        this.frame.end();
        Poll::Ready(value)
    }
}

impl<F> fmt::Debug for Shield<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shield").finish_non_exhaustive()
    }
}

/// Waits for `duration`, on the run's clock. Zero is a [`checkpoint`](crate::checkpoint()).
///
/// Of a sleep that ends at the instant of a deadline around it, the deadline wins.
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
/// use std::time::Duration;
/// # nursery::run(async {
/// let before = nursery::now();
/// nursery::sleep(Duration::from_millis(2)).await?;
/// assert!(nursery::now() - before >= Duration::from_millis(2));
/// # Ok::<(), nursery::Cancelled>(())
/// # }).unwrap();
/// ```
#[track_caller]
pub fn sleep(duration: Duration) -> Sleep {
    Sleep::new(Limit::Timeout(duration))
}

/// Waits until `deadline`, on the run's clock. One that has passed is a [`checkpoint`](crate::checkpoint()).
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
#[track_caller]
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep::new(Limit::At(deadline))
}

/// Waits until it is cancelled.
///
/// # Cancellation
///
/// A checkpoint, always: it ends with it.
///
/// # Errors
///
/// [`Cancelled`], always.
///
/// # Panics
///
/// Outside a run.
#[track_caller]
pub fn sleep_forever() -> Forever {
    Forever { stage: Stage::new(()) }
}

/// The future of [`sleep`] and [`sleep_until`].
#[must_use = "a sleep does nothing unless it is awaited"]
pub struct Sleep {
    stage: Stage<Limit>,
}

/// How far a sleep is. What it does not need any more takes no room.
enum Stage<L> {
    New {
        limit: L,
        check: RaiseIfCancelled,
        place: &'static Location<'static>,
    },
    Waiting(Slot),
    /// It had not to wait, but lets others go first.
    Yielded,
    Ended,
}

impl<L> Stage<L> {
    #[track_caller]
    fn new(limit: L) -> Self {
        Stage::New { limit, check: raise_if_cancelled(), place: Location::caller() }
    }

    /// Begins to wait.
    #[inline(always)]
    fn wait(&mut self, cx: &Context<'_>, label: &Label, limit: Limit) {
        *self = Stage::Waiting(Slot::default());
        let Stage::Waiting(slot) = self else { unreachable!("just set") };
        slot.register(cx, label, Origin::Inside);
        slot.set_limit(limit);
    }
}

impl Sleep {
    #[track_caller]
    fn new(limit: Limit) -> Self {
        Sleep { stage: Stage::new(limit) }
    }
}

impl Future for Sleep {
    type Output = Result<(), Cancelled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let stage = &mut self.stage;
        let result = match stage {
            Stage::New { limit, check, place } => {
                let (label, limit) = (Label { what: "a sleep", place }, *limit);
                context::expect_task_at(label.what, label.place);
                match ready!(check.poll_check(cx)) {
                    Ok(()) if !limit.is_over() => {
                        stage.wait(cx, &label, limit);
                        return Poll::Pending;
                    }
                    Ok(()) if !context::spend_budget() => {
                        *stage = Stage::Yielded;
                        return yield_now(cx);
                    }
                    checked => checked,
                }
            }
            Stage::Yielded => raise(),
            Stage::Waiting(slot) => match ready!(slot.poll(cx)) {
                WaitState::Cancelled => Err(slot.cancelled()),
                // A cancellation that came between the timer and now wins: there is no result to lose.
                _ => raise(),
            },
            Stage::Ended => panic!("a sleep was polled after it had ended"),
        };
        *stage = Stage::Ended;
        Poll::Ready(result)
    }
}

fn raise() -> Result<(), Cancelled> {
    if context::is_cancelled_now() { Err(cancelled()) } else { Ok(()) }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sleep = f.debug_struct("Sleep");
        if let Stage::New { limit, .. } = &self.stage {
            sleep.field("limit", limit);
        }
        sleep.finish_non_exhaustive()
    }
}

/// The future of [`sleep_forever`].
#[must_use = "a sleep does nothing unless it is awaited"]
pub struct Forever {
    stage: Stage<()>,
}

impl Future for Forever {
    type Output = Result<(), Cancelled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let stage = &mut self.stage;
        let error = match stage {
            Stage::New { check, place, .. } => {
                let label = Label { what: "its cancellation (`sleep_forever`)", place };
                context::expect_task_at(label.what, label.place);
                match ready!(check.poll_check(cx)) {
                    Ok(()) => {
                        stage.wait(cx, &label, Limit::Never);
                        return Poll::Pending;
                    }
                    Err(error) => error,
                }
            }
            Stage::Waiting(slot) => {
                let state = ready!(slot.poll(cx));
                assert!(
                    state == WaitState::Cancelled,
                    "`sleep_forever` was woken by something that is not a cancellation"
                );
                slot.cancelled()
            }
            Stage::Yielded | Stage::Ended => panic!("a sleep was polled after it had ended"),
        };
        *stage = Stage::Ended;
        Poll::Ready(Err(error))
    }
}

impl fmt::Debug for Forever {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forever").finish_non_exhaustive()
    }
}
