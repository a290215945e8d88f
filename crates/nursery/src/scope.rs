//! [`CancelScope`]: the unit of cancellation, with a deadline and a shield.
//!
//! ```text
//!  Unbound ──1──▶ Open ──2──▶ Closed        cancel_called: false ──3──▶ true, never back
//! ```
//! 1. first poll of [`CancelScope::enter`]  2. its end, or drop  3. `cancel`, or the deadline
//!
//! While it is open, the truth is in its node of the tree; before and after, in the handle.

pub(crate) mod frame;
pub(crate) mod light;
pub(crate) mod reason;
pub(crate) mod remote;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use crate::deadlines::{Limit, Timer};
use crate::error::TaskError;
use crate::nursery::outcome;
use crate::run::{Run, context};
use crate::scope::frame::{Fate, Frame, Left, scope_node};
use crate::scope::reason::{CancelReason, CancelSource};
use crate::scope::remote::{Remote, RemoteScope};
use crate::tree::NodeId;

/// A part of the program that can be cancelled, has a deadline, or is shielded.
///
/// Make one, keep a clone of it, [`enter`](Self::enter) it with the code that is to be cancellable. A scope
/// is entered once in its life. All of its settings can be changed before, while and after it is entered, from
/// anywhere in the run; [`remote`](Self::remote) gives a handle for other threads.
///
/// A task is cancelled while any scope around it is cancelled that no shield keeps off. Of several cancelled
/// scopes around a task, the outermost that is in effect absorbs the cancellation.
///
/// For plain timeouts, [`move_on_after`](crate::move_on_after) and [`fail_after`](crate::fail_after) are shorter.
///
/// # Examples
///
/// ```
/// use nursery::{CancelScope, open_nursery, sleep_forever};
///
/// # nursery::run(async {
/// let scope = CancelScope::new().with_name("upload");
/// let button = scope.clone();
/// open_nursery(async |n| -> anyhow::Result<()> {
///     n.start_soon(async {
///         let uploaded = scope.enter(sleep_forever()).await?;
///         assert!(uploaded.is_none());
///         assert!(scope.cancelled_caught());
///         Ok::<(), anyhow::Error>(())
///     });
///     nursery::checkpoint().await?;
///     button.cancel();
///     Ok(())
/// })
/// .await
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct CancelScope(Rc<Shared>);

struct Shared {
    phase: RefCell<Phase>,
    // The following are valid while the phase is not `Open`; then the node's are.
    called: Cell<bool>,
    shield: Cell<bool>,
    limit: Cell<Limit>,
    reason: RefCell<Option<Arc<CancelReason>>>,
    caught: Cell<bool>,
    name: RefCell<Option<Box<str>>>,
    remote: RefCell<Option<Arc<Remote>>>,
}

enum Phase {
    Unbound,
    Open(Rc<Run>, NodeId),
    Closed,
}

impl CancelScope {
    /// Makes a scope without deadline and shield.
    #[must_use]
    pub fn new() -> Self {
        CancelScope(Rc::new(Shared {
            phase: RefCell::new(Phase::Unbound),
            called: Cell::new(false),
            shield: Cell::new(false),
            limit: Cell::new(Limit::Never),
            reason: RefCell::default(),
            caught: Cell::new(false),
            name: RefCell::default(),
            remote: RefCell::default(),
        }))
    }

    /// Sets a deadline, on the run's clock.
    #[must_use]
    pub fn with_deadline(self, at: Instant) -> Self {
        self.set_deadline(Some(at));
        self
    }

    /// Sets a time limit, which counts from the moment the scope is entered.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        self.set_timeout(timeout);
        self
    }

    /// Makes outer cancellation stop at this scope.
    #[must_use]
    pub fn with_shield(self, on: bool) -> Self {
        self.set_shield(on);
        self
    }

    /// Names the scope, for the tree.
    #[must_use]
    pub fn with_name(self, name: impl Into<Box<str>>) -> Self {
        *self.0.name.borrow_mut() = Some(name.into());
        self
    }

    /// The handle of a nursery's own scope.
    pub(crate) fn of_node(run: Rc<Run>, node: NodeId) -> Self {
        let scope = CancelScope::new();
        *scope.0.phase.borrow_mut() = Phase::Open(run, node);
        scope
    }

    /// The node has been left: from now on the handle knows.
    pub(crate) fn close(&self, fate: Option<Fate>, caught: bool) {
        if let Some(Fate { called, shield, reason }) = fate {
            self.0.called.set(called);
            self.0.shield.set(shield);
            self.0.reason.replace(reason.filter(|_| called));
        }
        self.0.caught.set(caught);
        if let Some(remote) = &*self.0.remote.borrow() {
            remote.unbind();
        }
        let old = self.0.phase.replace(Phase::Closed);
        drop(old);
    }

    fn open(&self) -> Option<(Rc<Run>, NodeId)> {
        match &*self.0.phase.borrow() {
            Phase::Open(run, node) => Some((run.clone(), *node)),
            _ => None,
        }
    }

    /// Runs `body` inside this scope.
    ///
    /// Returns `Some` with the body's value; `None` if this scope was cancelled and absorbed the cancellation that
    /// came out of the body. A body that ends without passing a checkpoint after the cancellation keeps its value.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint of its own. Dropped, it drops the body and leaves the tree; nothing async runs.
    ///
    /// # Errors
    ///
    /// Those of the body; of a group, absorbed cancellations are taken out first.
    ///
    /// # Panics
    ///
    /// When it is first polled, if the scope has been entered before; outside a run.
    #[track_caller]
    pub fn enter<T, E: TaskError, F>(&self, body: F) -> Enter<F>
    where
        F: Future<Output = Result<T, E>>,
    {
        Enter {
            body: Some(body),
            open: Open { scope: self.clone(), frame: Frame::default() },
            place: Location::caller(),
        }
    }

    /// Cancels everything inside, now and in the future.
    ///
    /// Before the scope is entered, it is remembered; afterwards, nothing happens. Cannot be undone. Tasks
    /// that wait inside are woken with [`Cancelled`](crate::Cancelled), others raise at their next checkpoint.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint, not even for a task that cancels itself.
    pub fn cancel(&self) {
        self.cancel_because(CancelSource::Explicit);
    }

    /// The same, with a reason, which every [`Cancelled`](crate::Cancelled) carries. The first reason stands.
    pub fn cancel_because(&self, reason: impl Into<CancelReason>) {
        let reason = reason.into();
        match self.open() {
            Some((run, node)) => run.cancel(node, reason),
            None => self.cancel_handle(reason),
        }
    }

    fn cancel_handle(&self, reason: CancelReason) {
        if !self.0.called.replace(true) {
            let task = context::try_current_run().and_then(|run| {
                let state = run.state.borrow();
                run.current_task_name(&state)
            });
            self.0.reason.replace(Some(Arc::new(reason.with_task(task))));
        }
    }

    /// Returns whether this very scope has been cancelled, or its deadline has passed.
    ///
    /// If the deadline has passed and the run has not noticed yet, this notices it.
    #[must_use]
    pub fn cancel_called(&self) -> bool {
        self.notice_deadline();
        self.is_called()
    }

    /// The same, without looking at the clock.
    fn is_called(&self) -> bool {
        match self.open() {
            Some((run, node)) => run.state.borrow().nodes.get(node).is_some_and(|n| n.called),
            None => {
                if self.0.remote.borrow().as_ref().is_some_and(|r| r.reason().is_some()) {
                    self.0.called.set(true);
                }
                self.0.called.get()
            }
        }
    }

    /// Cancels the scope if its deadline has passed. Not after its end: what was not noticed by then never was.
    fn notice_deadline(&self) {
        if let Some((run, node)) = self.open() {
            let has_timer =
                run.state.borrow().nodes.get(node).is_some_and(|n| n.timer() != Timer::Never);
            if !has_timer {
                return;
            }
            let now = run.now();
            let is_over = {
                let state = run.state.borrow();
                let deadline = state.nodes.get(node).and_then(|node| state.deadline(node));
                deadline.is_some_and(|at| at <= now)
            };
            if is_over {
                run.change(|state, fx| state.cancel(node, |_| CancelSource::Deadline.into(), fx));
            }
        } else if matches!(*self.0.phase.borrow(), Phase::Unbound)
            && let Limit::At(at) = self.0.limit.get()
            && let Some(run) = context::try_current_run()
            && at <= run.now()
            && !self.0.called.replace(true)
        {
            self.0.reason.replace(Some(Arc::new(CancelSource::Deadline.into())));
        }
    }

    /// Returns whether this scope absorbed a cancellation when it was left.
    #[must_use]
    pub fn cancelled_caught(&self) -> bool {
        self.0.caught.get()
    }

    /// Returns why this scope was cancelled, if it was.
    #[must_use]
    pub fn reason(&self) -> Option<CancelReason> {
        if !self.cancel_called() {
            return None;
        }
        match self.open() {
            Some((run, node)) => Some((*run.state.borrow().reason(node)).clone()),
            None => {
                let own = self.0.reason.borrow().as_deref().cloned();
                own.or_else(|| self.0.remote.borrow().as_ref()?.reason())
            }
        }
    }

    /// Returns whether the scope has been entered, now or in the past: it cannot be entered again.
    #[must_use]
    pub fn is_entered(&self) -> bool {
        !matches!(*self.0.phase.borrow(), Phase::Unbound)
    }

    /// Switches the shield: with it, cancellation from outside does not reach what is inside.
    ///
    /// The scope's own `cancel` and deadline work in spite of it. Switched off while an outer scope is
    /// cancelled, the tasks that wait inside are woken at once; switched on then, they are no longer cancelled,
    /// but a cancellation that has been delivered stays delivered.
    pub fn set_shield(&self, on: bool) {
        self.0.shield.set(on);
        if let Some((run, node)) = self.open() {
            run.change(|state, fx| state.set_shield(node, on, fx));
        }
    }

    /// Returns whether the shield is up.
    #[must_use]
    pub fn shield(&self) -> bool {
        self.0.shield.get()
    }

    /// Sets or removes the deadline, on the run's clock. One that has passed takes effect at the next schedule point.
    ///
    /// After a cancellation it has no effect.
    pub fn set_deadline(&self, at: Option<Instant>) {
        let limit = at.map_or(Limit::Never, Limit::At);
        self.0.limit.set(limit);
        if let Some((run, node)) = self.open() {
            run.state.borrow_mut().set_limit(node, limit);
            self.wake_run(&run, at);
        }
    }

    /// Sets the time limit: from entry on if the scope has not been entered yet, else from now on.
    pub fn set_timeout(&self, timeout: Duration) {
        self.0.limit.set(Limit::Timeout(timeout));
        if let Some((run, _)) = self.open() {
            self.set_deadline(run.now().checked_add(timeout));
        }
    }

    /// A deadline that was set by the run's host must reach a run that sleeps; one that has passed must be
    /// noticed by the next schedule point.
    fn wake_run(&self, run: &Rc<Run>, at: Option<Instant>) {
        if !context::is_current(run) {
            run.inbox.wake_root(run.generation);
        } else if let Some(at) = at {
            let now = run.now();
            if at <= now {
                run.overdue.set(Some(now));
                context::exhaust_budget();
            }
        }
    }

    /// Returns the deadline. `None` if there is none, and before entry if the limit is a timeout.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if let Some((run, node)) = self.open() {
            if matches!(run.state.borrow().nodes.get(node)?.timer(), Timer::After { .. }) {
                run.now();
            }
            let state = run.state.borrow();
            if let Some(at) = state.deadline(state.nodes.get(node)?) {
                return Some(at);
            }
        }
        match self.0.limit.get() {
            Limit::At(at) => Some(at),
            Limit::Never | Limit::Timeout(_) => None,
        }
    }

    /// Returns the time limit that was given as a duration, if it was.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        match self.0.limit.get() {
            Limit::Timeout(timeout) => Some(timeout),
            Limit::Never | Limit::At(_) => None,
        }
    }

    /// Returns a handle with which other threads can cancel this scope.
    #[must_use]
    pub fn remote(&self) -> RemoteScope {
        let mut remote = self.0.remote.borrow_mut();
        let remote = remote.get_or_insert_default();
        if let Some((run, node)) = self.open() {
            remote.bind(run.token.clone(), node);
        }
        RemoteScope::new(remote.clone())
    }

    /// Enters: binds the handle to a node below the current one.
    fn bind(&self, frame: &mut Frame, place: &'static Location<'static>) {
        assert!(
            !self.is_entered(),
            "the cancel scope entered at {place} has been entered before\n\
             \n\
             A scope is entered once in its life: its deadline, `cancel_called` and `cancelled_caught` belong to \
             that one use. Make a new one with `CancelScope::new()` for each use, in the loop or function that \
             enters it, and share clones of the handle with who is to cancel it."
        );
        let run = context::current_run_at("a cancel scope", place);
        let limit = self.0.limit.get();
        let mut node = scope_node(place, self.0.shield.get());
        let from_remote = self.0.remote.borrow().as_ref().and_then(|remote| remote.reason());
        node.called = self.0.called.get() || from_remote.is_some();
        node.reason = self.0.reason.borrow().clone().or(from_remote.map(Arc::new));
        if limit.is_over() && !node.called {
            node.called = true;
            node.reason = Some(Arc::new(CancelSource::Deadline.into()));
        }
        if let Some(name) = &*self.0.name.borrow() {
            node.extra().name = Some(name.clone());
        }
        let id = frame.enter("a cancel scope", node, limit);
        self.0.phase.replace(Phase::Open(run.clone(), id));
        let remote = self.0.remote.borrow().clone();
        if let Some(reason) = remote.and_then(|remote| remote.bind(run.token.clone(), id)) {
            // It may have come since `from_remote`; see a_remote_cancel_that_races_with_the_entry_is_not_lost.
            run.change(|state, fx| state.cancel(id, |_| reason, fx));
        }
    }
}

impl Default for CancelScope {
    fn default() -> Self {
        CancelScope::new()
    }
}

impl fmt::Debug for CancelScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match *self.0.phase.borrow() {
            Phase::Unbound => "unbound",
            Phase::Open(..) => "active",
            Phase::Closed => "exited",
        };
        write!(f, "<CancelScope {phase}")?;
        if let Some(name) = &*self.0.name.borrow() {
            write!(f, " {name:?}")?;
        }
        if self.is_called() {
            f.write_str(", cancelled")?;
        } else {
            self.fmt_limit(f)?;
        }
        if self.shield() {
            f.write_str(", shielded")?;
        }
        f.write_str(">")
    }
}

impl CancelScope {
    fn fmt_limit(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = self.open().map(|(run, _)| run).or_else(context::try_current_run);
        match (self.deadline(), clock) {
            (Some(at), Some(run)) => write!(f, ", deadline {}", Relative(at, run.now())),
            (Some(_), None) => f.write_str(", with a deadline"),
            (None, _) => match self.timeout() {
                Some(timeout) => write!(f, ", timeout {timeout:?}"),
                None => Ok(()),
            },
        }
    }
}

/// An instant, told from another.
pub(crate) struct Relative(pub(crate) Instant, pub(crate) Instant);

impl fmt::Display for Relative {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Relative(at, now) = *self;
        match at.checked_duration_since(now) {
            Some(left) => write!(f, "in {left:?}"),
            None => write!(f, "{:?} ago", now - at),
        }
    }
}

pin_project! {
    /// The future of [`CancelScope::enter`].
    #[must_use = "a scope does nothing unless it is awaited"]
    pub struct Enter<F> {
        // Before `open`, so that it is dropped before the scope is left.
        #[pin]
        body: Option<F>,
        open: Open,
        place: &'static Location<'static>,
    }
}

/// A scope being entered. Dropped, it leaves the scope.
struct Open {
    scope: CancelScope,
    frame: Frame,
}

impl Open {
    fn leave(&mut self) -> Option<Left> {
        self.frame.leave()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(left) = self.leave() {
            self.scope.close(left.fate, false);
        }
    }
}

impl<F, T, E: TaskError> Future for Enter<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<Option<T>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if this.open.frame.entry().is_none() {
            this.open.scope.bind(&mut this.open.frame, this.place);
        }
        let body = this.body.as_mut().as_pin_mut().expect("polled after it was ready");
        let result = ready!(this.open.frame.inside(|| body.poll(cx)));
        this.open.frame.inside(|| this.body.set(None));
        let left = this.open.leave().expect("entered");
        let (result, caught) = settle(result, left.absorbs);
        this.open.scope.close(left.fate, caught);
        Poll::Ready(result)
    }
}

impl<F> fmt::Debug for Enter<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enter").field("scope", &self.open.scope).finish_non_exhaustive()
    }
}

/// What comes out of a scope, and whether it absorbed anything.
pub(crate) fn settle<T, E: TaskError>(
    result: Result<T, E>,
    absorbs: bool,
) -> (Result<Option<T>, E>, bool) {
    match result {
        Ok(value) => (Ok(Some(value)), false),
        Err(error) if !absorbs => (Err(error), false),
        Err(error) => match outcome::absorb(error) {
            (None, caught) => (Ok(None), caught),
            (Some(rest), caught) => (Err(rest), caught),
        },
    }
}

/// When the current task will be cancelled if nothing else happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EffectiveDeadline {
    /// It is cancelled already.
    Cancelled,
    /// At this instant of the run's clock; which may just have passed.
    At(Instant),
    /// No deadline reaches it.
    Never,
}

/// Returns the earliest deadline of the scopes around the current task, up to the first shield.
///
/// # Panics
///
/// Outside a task.
///
/// # Examples
///
/// ```
/// use nursery::{EffectiveDeadline, current_effective_deadline, move_on_after, now};
/// use std::time::Duration;
///
/// # nursery::run(async {
/// assert_eq!(current_effective_deadline(), EffectiveDeadline::Never);
/// move_on_after(Duration::from_secs(5), async {
///     let EffectiveDeadline::At(at) = current_effective_deadline() else { panic!() };
///     assert!(at <= now() + Duration::from_secs(5));
///     Ok::<(), nursery::Cancelled>(())
/// })
/// .await?;
/// # Ok::<(), nursery::Cancelled>(())
/// # }).unwrap();
/// ```
#[must_use]
#[track_caller]
pub fn current_effective_deadline() -> EffectiveDeadline {
    let node = context::position("`current_effective_deadline`");
    let run = context::current_run("`current_effective_deadline`");
    run.now(); // relative deadlines begin to count
    let state = run.state.borrow();
    if state.effective(node) {
        return EffectiveDeadline::Cancelled;
    }
    let mut earliest: Option<Instant> = None;
    let mut at = Some(node);
    while let Some(node) = at.and_then(|id| state.nodes.get(id)) {
        if let Some(at) = state.deadline(node) {
            earliest = Some(earliest.map_or(at, |other| other.min(at)));
        }
        at = node.parent.filter(|_| !node.shield);
    }
    earliest.map_or(EffectiveDeadline::Never, EffectiveDeadline::At)
}
