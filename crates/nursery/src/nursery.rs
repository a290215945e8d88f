//! [`open_nursery`]: the owner of child tasks.
//!
//! A nursery is a future that polls its own children: so they may borrow whatever outlives the nursery, need
//! not be `Send`, and cannot outlive it, however it ends.
//!
//! ```text
//!  body and children run ──1──▶ only children ──2──▶ closed           any of them fails: the rest is cancelled
//!        └──────────────────────3────────────────────▶ dropped
//! ```
//! 1. the body has ended  2. no child and no pending `start` is left  3. the future is dropped: the children are
//!    dropped first, oldest first, then the body
//!
//! # Invariants
//!
//! 1. `live` counts the children that have not ended, those that `start` waits for included.
//! 2. A nursery closes only when its body has ended and `live` is 0; nothing can be started after that.
//! 3. Errors are kept in the order in which they happened, and all of them leave.

pub(crate) mod child;
pub(crate) mod drop_panic;
pub(crate) mod erase;
pub(crate) mod handle;
pub(crate) mod outcome;
pub(crate) mod pool;
pub(crate) mod ready;
pub(crate) mod start;

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;

use pin_project_lite::pin_project;

use crate::checkpoint::yield_now;
use crate::deadlines::{Limit, Timer};
use crate::error::{Cancelled, TaskError};
use crate::nursery::child::Child;
use crate::nursery::drop_panic::Panic;
use crate::nursery::erase::{Birth, Finish, Task};
use crate::nursery::handle::NurseryHandle;
use crate::nursery::ready::Ready;
use crate::run::{Run, context};
use crate::scope::frame::Frame;
use crate::scope::reason::{CancelReason, CancelSource};
use crate::scope::{CancelScope, settle};
use crate::tree::{Kind, Node, NodeId, State};

/// Opens a nursery, runs `body` with it, and waits for all children.
///
/// Returns when the body and every child have ended, never earlier: nothing that was started in a nursery
/// outlives it. If the body or a child fails, the others are cancelled and waited for, and all errors are returned
/// as a group.
///
/// Children may borrow what lives outside the nursery (not the body's own variables: those may go before the
/// children do). Write the return type of the body where `?` follows the `await`.
///
/// # Cancellation
///
/// Not a cancel point: cancelled from outside, it goes on until all children have ended, each with its own
/// [`Cancelled`]. A schedule point at its end. Dropped, it drops the children, oldest first, and then the body,
/// synchronously, before anything they borrow goes.
///
/// # Errors
///
/// `E::from(`[`ErrorGroup`](crate::ErrorGroup)`)` of all errors of the body and the children, in the order in
/// which they happened, also for a single one. If they are nothing but cancellations, `E::from(Cancelled)`. If
/// the nursery's own scope was cancelled, cancellations are taken out first; with nothing left, the body's value
/// is returned. If then there is none, because the body itself ended with the cancellation, the result is that
/// cancellation; [`or_none`](OpenNursery::or_none) makes it `Ok(None)`.
///
/// # Panics
///
/// With the panic of the body or a child, after all others have been cancelled and have ended. Outside a run.
///
/// # Examples
///
/// ```
/// use std::cell::RefCell;
/// use nursery::{open_nursery, sleep};
/// use std::time::Duration;
///
/// # nursery::run(async {
/// let done = RefCell::new(vec![]); // one thread: no Arc, no Mutex
/// open_nursery(async |n| -> anyhow::Result<()> {
///     for ms in [3, 1, 2] {
///         let done = &done;
///         n.start_soon(async move {
///             sleep(Duration::from_millis(ms * 5)).await?;
///             done.borrow_mut().push(ms);
///             Ok(())
///         });
///     }
///     Ok(())
/// })
/// .await?;
/// assert_eq!(*done.borrow(), [1, 2, 3]);
/// # Ok::<(), anyhow::Error>(())
/// # }).unwrap();
/// ```
#[track_caller]
pub fn open_nursery<'env, T, E: TaskError, B>(
    body: B,
) -> OpenNursery<impl Future<Output = Result<Result<T, Cancelled>, E>>>
where
    B: for<'scope> AsyncFnOnce(&'scope Nursery<'scope, 'env, E>) -> Result<T, E>,
{
    OpenNursery { inner: drive(Location::caller(), body) }
}

async fn drive<'env, T, E: TaskError, B>(
    place: &'static Location<'static>,
    body: B,
) -> Result<Result<T, Cancelled>, E>
where
    B: for<'scope> AsyncFnOnce(&'scope Nursery<'scope, 'env, E>) -> Result<T, E>,
{
    let mut frame = Frame::default();
    let nursery = Nursery::open(&mut frame, place);
    // Declared after the nursery that it borrows, and driven by what is declared after it: dropped half-way, the
    // children go first, then the body, then the nursery.
    let mut body = pin!(Some(body(&nursery)));
    let owner = Owner { core: nursery.core.clone(), frame };
    Drive { owner, body: body.as_mut(), body_ended: false, result: None, exit: Exit::Open }.await
}

pin_project! {
    /// The future of [`open_nursery`].
    #[must_use = "a nursery does nothing unless it is awaited"]
    pub struct OpenNursery<F> {
        #[pin]
        inner: F,
    }
}

impl<F> OpenNursery<F> {
    /// Tells apart, in the value, that the nursery's own cancellation ended the body: `Ok(None)`.
    ///
    /// # Errors
    ///
    /// As [`open_nursery`], without that one case.
    ///
    /// # Examples
    ///
    /// ```
    /// use nursery::{Cancelled, open_nursery, sleep_forever};
    ///
    /// # nursery::run(async {
    /// let stopped = open_nursery(async |n| -> Result<(), Cancelled> {
    ///     n.cancel_scope().cancel();
    ///     sleep_forever().await
    /// })
    /// .or_none()
    /// .await?;
    /// assert_eq!(stopped, None);
    /// # Ok::<(), Cancelled>(())
    /// # }).unwrap();
    /// ```
    pub async fn or_none<T, E>(self) -> Result<Option<T>, E>
    where
        F: Future<Output = Result<Result<T, Cancelled>, E>>,
    {
        Ok(self.inner.await?.ok())
    }
}

impl<F, T, E> Future for OpenNursery<F>
where
    E: From<Cancelled>,
    F: Future<Output = Result<Result<T, Cancelled>, E>>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().inner.poll(cx).map(|result| result?.map_err(E::from))
    }
}

impl<F> fmt::Debug for OpenNursery<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenNursery").finish_non_exhaustive()
    }
}

/// An open nursery, as its body and its children see it: whoever has it may start children.
///
/// # Lifetimes
///
/// `'scope` is the life of the nursery itself: children may borrow for it, among other things the nursery, to
/// start siblings. `'env` is what surrounds it, and outlives it. Both are as in [`std::thread::scope`].
pub struct Nursery<'scope, 'env: 'scope, E> {
    core: Rc<Core<E>>,
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// What a nursery, its handles and its children share.
pub(crate) struct Core<E> {
    pub(crate) run: Rc<Run>,
    pub(crate) node: NodeId,
    pub(crate) ready: Rc<Ready>,
    /// Invariant 3.
    errors: RefCell<Vec<E>>,
    /// The first panic of the body or a child.
    panic: RefCell<Option<Panic>>,
    /// It has cancelled itself because something failed.
    has_cancelled: Cell<bool>,
    /// Invariant 1.
    live: Cell<usize>,
    /// Invariant 2.
    closed: Cell<bool>,
    scope: OnceCell<CancelScope>,
}

impl<'scope, 'env, E: TaskError> Nursery<'scope, 'env, E> {
    fn open(frame: &mut Frame, place: &'static Location<'static>) -> Self {
        let ready = context::current_run_at("`open_nursery`", place).take_list();
        let node = frame.enter(
            "`open_nursery`",
            Node::new(Kind::Nursery(ready.clone(), Timer::Never), place),
            Limit::Never,
        );
        let (run, _) = frame.entry().expect("entered");
        let core = Core {
            run: run.clone(),
            node,
            ready,
            errors: RefCell::default(),
            panic: RefCell::default(),
            has_cancelled: Cell::new(false),
            live: Cell::new(0),
            closed: Cell::new(false),
            scope: OnceCell::new(),
        };
        Nursery { core: Rc::new(core), scope: PhantomData, env: PhantomData }
    }

    /// Starts a child, and goes on.
    ///
    /// The child runs from the next turn on, under the scopes around the *nursery*: those around this call do
    /// not concern it. It inherits the task-local values of the task that calls this. The handle that is returned
    /// can be awaited for the child's value, or dropped, which changes nothing.
    ///
    /// Can be called by the body, by children and by whatever they call, as long as the nursery is open; also if
    /// it is cancelled: then the child runs to its first checkpoint.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    #[track_caller]
    pub fn start_soon<T: 'scope>(
        &'scope self,
        child: impl Future<Output = Result<T, E>> + 'scope,
    ) -> Child<'scope, T> {
        let place = Location::caller();
        if self.core.closed.get() {
            // Only the destructor of a child that is being dropped can get here.
            drop(child);
            return Child::gone(place);
        }
        let child = ManuallyDrop::new(child);
        let birth = self.core.admit(place);
        let done = ChildEnd(self.core.clone());
        Child::new(erase::spawn_scoped(self, child, done, birth), &self.core.run)
    }

    /// Returns the nursery's own cancel scope, around the body and all children.
    pub fn cancel_scope(&self) -> &CancelScope {
        self.core.scope()
    }

    /// Returns a handle for structs that keep a nursery, and for children that borrow nothing.
    pub fn handle(&self) -> NurseryHandle<E> {
        NurseryHandle::new(self.core.clone())
    }
}

impl<E> fmt::Debug for Nursery<'_, '_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nursery").field("children", &self.core.live.get()).finish_non_exhaustive()
    }
}

impl<E> Drop for Core<E> {
    fn drop(&mut self) {
        self.run.keep_list(&self.ready);
    }
}

impl<E> Core<E> {
    fn scope(&self) -> &CancelScope {
        self.scope.get_or_init(|| CancelScope::of_node(self.run.clone(), self.node))
    }

    /// Cancels the nursery because something of `task` failed.
    #[inline]
    fn cancel_because(&self, text: &str, task: impl Fn() -> Option<NodeId>) {
        // Of many that end one after the other, one cancels.
        if !self.has_cancelled.replace(true) {
            self.cancel_once(text, task);
        }
    }

    #[cold]
    fn cancel_once(&self, text: &str, task: impl Fn() -> Option<NodeId>) {
        if self.run.state.borrow().nodes.get(self.node).is_some_and(|node| node.called) {
            return; // and no name is needed
        }
        let task = task();
        self.run.change(|state, fx| {
            let reason = |state: &State| {
                let task = task.map(|task| state.label(task).into_boxed_str());
                CancelReason::new(CancelSource::Nursery).with_text(text).with_task(task)
            };
            state.cancel(self.node, reason, fx);
        });
    }

    fn tell_failure(&self, task: Option<NodeId>) {
        if let Some(task) = task {
            self.run.instrument(|i| i.task_failed(self.run.task_id(task)));
        }
    }

    fn add_panic(&self, panic: Panic) {
        let surplus = drop_panic::keep_first(&mut self.panic.borrow_mut(), panic);
        drop(surplus);
    }

    /// Makes the next turns here, as long as nothing else in the run has anything to do: what is above would do
    /// nothing in these turns but come back here.
    fn run_alone(&self) {
        for _ in 0..TURNS_ALONE {
            if drop_panic::has_drop_panic()
                || !self.run.begin_turn_alone()
                || !self.ready.run_batch_alone(&self.run)
            {
                break;
            }
        }
    }

    /// Ends one of `live`.
    fn leave(&self) {
        self.live.set(self.live.get() - 1);
    }
}

impl<E: TaskError> Core<E> {
    /// Lets a child in.
    fn admit(&self, place: &'static Location<'static>) -> Birth {
        self.live.set(self.live.get() + 1);
        self.run.birth_of_child(self.node, place)
    }

    /// A child has ended: its value, if it has one, goes to its handle; everything else is the nursery's.
    fn child_ended<T>(&self, task: &Task, result: thread::Result<Result<T, E>>) -> Option<T> {
        let value = match result {
            Ok(Ok(value)) => Some(value),
            failure => {
                // Without a node it was not cancelled alone.
                let node = task.known_node();
                let absorbs = node.is_some_and(|id| self.run.state.borrow().absorbs(id));
                let name = || Some(task.node(&self.run));
                self.settle(failure, absorbs, ["a child failed", "a child panicked"], name)
            }
        };
        self.run.end_of_task(task);
        self.leave();
        value
    }

    fn body_ended<T>(&self, result: thread::Result<Result<T, E>>) -> Option<T> {
        if let Ok(Ok(value)) = result {
            return Some(value);
        }
        let name = || self.run.state.borrow().task_of(self.node);
        self.settle(result, false, ["the body failed", "the body panicked"], name)
    }

    /// Takes the failure of the body or a child, if it is one, and cancels the rest because of it.
    fn settle<T>(
        &self,
        result: thread::Result<Result<T, E>>,
        absorbs: bool,
        [failed, panicked]: [&str; 2],
        task: impl Fn() -> Option<NodeId>,
    ) -> Option<T> {
        match result {
            Ok(result) => match settle(result, absorbs).0 {
                Ok(value) => value,
                Err(error) => {
                    if error.as_cancelled().is_none() {
                        self.tell_failure(task());
                    }
                    self.errors.borrow_mut().push(error);
                    self.cancel_because(failed, task);
                    None
                }
            },
            Err(panic) => {
                self.tell_failure(task());
                self.add_panic(panic);
                self.cancel_because(panicked, task);
                None
            }
        }
    }
}

/// What is to be done at the end of a child.
struct ChildEnd<E>(Rc<Core<E>>);

impl<T, E: TaskError> Finish<Result<T, E>> for ChildEnd<E> {
    type Value = T;

    fn ready(&self) -> &Rc<Ready> {
        &self.0.ready
    }

    fn finish(self, task: &Task, result: thread::Result<Result<T, E>>) -> Option<T> {
        self.0.child_ended(task, result)
    }
}

/// Owns the children: ends them all when it is dropped before they have ended.
struct Owner<E> {
    core: Rc<Core<E>>,
    frame: Frame,
}

impl<E> Owner<E> {
    /// Has nothing failed, and does nobody have a handle or the scope?
    #[inline]
    fn is_plain(&self) -> bool {
        let Core { errors, panic, scope, .. } = &*self.core;
        let is_well = errors.borrow().is_empty() && panic.borrow().is_none();
        is_well && scope.get().is_none() && !self.has_handles()
    }

    fn has_handles(&self) -> bool {
        let own = 2; // the nursery's, and this one
        Rc::strong_count(&self.core) > own
    }

    /// Handles that are left may ask for the scope after the end: it is made while its node is there.
    fn prepare_handles(&self) {
        if self.has_handles() {
            self.core.scope();
        }
    }
}

impl<E> Drop for Owner<E> {
    fn drop(&mut self) {
        if self.core.closed.replace(true) {
            return;
        }
        self.core.ready.end_all(&self.core.run, self.core.node);
        self.prepare_handles();
        let left = self.frame.leave();
        if let Some(scope) = self.core.scope.get() {
            scope.close(left.and_then(|left| left.fate), false);
        }
        let panic = drop_panic::take_drop_panic();
        if let Some(panic) = panic
            && !thread::panicking()
        {
            resume_unwind(panic);
        }
    }
}

/// So many turns a nursery makes by itself at most: whoever wakes a task through its waker while it is polled, which
/// the run cannot see, waits no longer.
const TURNS_ALONE: usize = 32;

/// How the end of a nursery goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Exit {
    Open,
    /// It has yielded, or waited, since its body ended.
    Yielded,
}

/// Polls the body and the children.
struct Drive<'b, E, T, F> {
    owner: Owner<E>,
    body: Pin<&'b mut Option<F>>,
    /// Kept apart: a future that borrows from itself is not to be looked at through a shared reference.
    body_ended: bool,
    result: Option<T>,
    exit: Exit,
}

// The body is pinned elsewhere; nothing here is.
impl<E, T, F> Unpin for Drive<'_, E, T, F> {}

impl<E: TaskError, T, F> Future for Drive<'_, E, T, F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<Result<T, Cancelled>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Drive { owner: Owner { core, frame }, body, body_ended, result, exit } = &mut *self;
        core.ready.begin_poll();
        // What the body starts or wakes now runs in the next turn. Which of the two comes first is left to chance.
        let batch = core.ready.order_batch(&core.run);
        frame.inside(|| {
            // With no children it does not matter: then this is no branch that nobody can predict.
            let body_first = !*body_ended && (core.run.coin() | (batch == 0));
            if body_first {
                *body_ended = poll_body(core, body, result, cx);
            }
            core.ready.run_first(&core.run, batch);
            if !body_first && !*body_ended {
                *body_ended = poll_body(core, body, result, cx);
            }
            core.run_alone();
        });
        if let Some(panic) = drop_panic::take_drop_panic() {
            core.add_panic(panic);
            core.cancel_because("a destructor panicked", || None);
        }
        let is_done = *body_ended && core.live.get() == 0;
        if !is_done {
            if *body_ended {
                if *exit == Exit::Open {
                    *exit = Exit::Yielded; // it waits: that is its schedule point
                    context::count_schedule_point();
                }
                core.ready.waits_for_children.set(true);
            }
            core.ready.end_poll(cx.waker());
            return Poll::Pending;
        }
        if *exit == Exit::Open && !context::spend_budget() {
            *exit = Exit::Yielded;
            return yield_now(cx);
        }
        self.close()
    }
}

impl<E: TaskError, T, F> Drive<'_, E, T, F> {
    fn close(&mut self) -> Poll<Result<Result<T, Cancelled>, E>> {
        self.owner.core.closed.set(true);
        if self.owner.is_plain()
            && let Some(value) = self.result.take()
        {
            self.owner.frame.end();
            return Poll::Ready(Ok(Ok(value)));
        }
        self.close_with_errors()
    }

    /// With errors, or at least with somebody who may ask for them.
    #[cold]
    fn close_with_errors(&mut self) -> Poll<Result<Result<T, Cancelled>, E>> {
        self.owner.prepare_handles();
        let core = self.owner.core.clone();
        let left = self.owner.frame.leave().expect("entered");
        let panic = core.panic.take();
        let joined = match outcome::join(core.errors.take()) {
            Some(error) => Err(error),
            None => Ok(()),
        };
        let (settled, caught) = settle(joined, left.absorbs);
        let reason = left.fate.as_ref().and_then(|fate| fate.reason.clone());
        if let Some(scope) = core.scope.get() {
            scope.close(left.fate, caught);
        }
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        Poll::Ready(match (settled, self.result.take()) {
            (Err(error), _) => Err(error),
            (Ok(_), Some(value)) => Ok(Ok(value)),
            (Ok(_), None) => {
                Ok(Err(Cancelled(reason.unwrap_or_else(|| Arc::new(CancelSource::Unknown.into())))))
            }
        })
    }
}

/// Polls the body; drops it, inside the nursery, when it has ended. Returns whether it has.
fn poll_body<E: TaskError, T, F>(
    core: &Core<E>,
    slot: &mut Pin<&mut Option<F>>,
    value: &mut Option<T>,
    cx: &mut Context<'_>,
) -> bool
where
    F: Future<Output = Result<T, E>>,
{
    let body = slot.as_mut().as_pin_mut().expect("has not ended");
    let result = match catch_unwind(AssertUnwindSafe(|| body.poll(cx))) {
        Ok(Poll::Pending) => return false,
        Ok(Poll::Ready(result)) => Ok(result),
        Err(panic) => Err(panic),
    };
    let dropped = catch_unwind(AssertUnwindSafe(|| slot.set(None)));
    *value = core.body_ended(result);
    if let Err(panic) = dropped {
        core.add_panic(panic);
        core.cancel_because("the body panicked", || None);
    }
    true
}
