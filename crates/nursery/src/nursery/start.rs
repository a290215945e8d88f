//! [`Nursery::start`] and [`TaskStatus`]: start a child, and wait until it says that it is ready.
//!
//! ```text
//!             starting ──1──▶ moved        the child is the nursery's: its errors go there, its scopes are there
//!                │
//!                ├──2──▶ ended             its error is `start`'s
//!                └──3──▶ dropped           with `start`, synchronously
//! ```
//! 1. [`TaskStatus::started`], unless the caller is cancelled  2. the child ends first  3. `start` is dropped
//!
//! The child is polled by the nursery from the beginning. What moves is its node: first it is below a hidden
//! scope where `start` was called, so that the caller's timeouts and cancellation apply; then below the nursery.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::mem::ManuallyDrop;
use std::panic::{Location, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::thread;

use crate::deadlines::Limit;
use crate::error::{Cancelled, TaskError};
use crate::nursery::erase::{Birth, Finish, Handle, Task};
use crate::nursery::handle::{NurseryClosed, NurseryHandle};
use crate::nursery::ready::Ready;
use crate::nursery::{Core, Nursery, erase};
use crate::run::{Run, context};
use crate::scope::frame::{Frame, scope_node};
use crate::scope::reason::{CancelReason, CancelSource};
use crate::tree::NodeId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Moved,
    Ended,
}

/// What `start` and the child's `TaskStatus` share.
struct Starting<V> {
    phase: Cell<Phase>,
    value: RefCell<Option<V>>,
    caller: RefCell<Option<Waker>>,
    run: Rc<Run>,
    ready: Rc<Ready>,
    /// Where the caller waits.
    hidden: NodeId,
    /// The nursery's node.
    target: NodeId,
    child: Cell<Option<NodeId>>,
}

impl<V> Starting<V> {
    fn set_phase(&self, phase: Phase) {
        self.phase.set(phase);
        let caller = self.caller.take();
        caller.into_iter().for_each(Waker::wake);
    }

    /// The child has been dropped, and `start` with it, or is about to be.
    fn is_dropped(&self) -> bool {
        let state = self.run.state.borrow();
        self.child.get().is_none_or(|child| state.task(child).is_none())
    }

    /// Moves the child, with all that is below it, into the nursery.
    fn move_in(&self) {
        let Some(child) = self.child.get() else { return };
        self.ready.remove_starting(child);
        self.run.change(|state, fx| state.reparent(child, Some(self.target), fx));
        self.set_phase(Phase::Moved);
    }
}

/// With it a child says that it is ready, to whoever called [`Nursery::start`].
///
/// It may be passed on: any task can say so in the child's name. For a function that is also called
/// directly, or by `start_soon`, there is [`TaskStatus::ignored`].
pub struct TaskStatus<V> {
    starting: Option<Rc<Starting<V>>>,
}

impl<V> TaskStatus<V> {
    /// Makes a status that nobody waits for.
    #[must_use]
    pub fn ignored() -> Self {
        TaskStatus { starting: None }
    }

    /// Says that the child is ready, and moves it into the nursery; `value` is what `start` returns.
    ///
    /// If the caller of `start` is cancelled at this moment, the child stays where it is, and shares the
    /// caller's fate; if `start` has ended, nothing happens. Says so once, since it takes `self`.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    pub fn started(self, value: V) {
        let Some(starting) = self.starting else { return };
        if starting.phase.get() != Phase::Starting || starting.is_dropped() {
            return;
        }
        starting.value.replace(Some(value));
        let is_cancelled = starting.run.state.borrow().effective(starting.hidden);
        if !is_cancelled {
            starting.move_in();
        }
    }
}

impl<V> fmt::Debug for TaskStatus<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskStatus").field("ignored", &self.starting.is_none()).finish()
    }
}

impl<'scope, 'env, E: TaskError> Nursery<'scope, 'env, E> {
    /// Starts a child, and waits until it calls [`TaskStatus::started`]; returns the value it gave.
    ///
    /// For children that others depend on: when `start` returns, the server listens. Until then the child
    /// is under the scopes of the *caller*, so a timeout around `start` cancels a child that is slow to start, and
    /// an error of the child is an error of `start`; from then on it is the nursery's, as if it had been started with
    /// [`start_soon`](Self::start_soon). The nursery stays open while a `start` is pending.
    ///
    /// # Cancellation
    ///
    /// Cancelled, it waits for the child, which is cancelled with it: what comes out is the child's result.
    /// Dropped before the child has started, it drops the child.
    ///
    /// # Errors
    ///
    /// The error of a child that ends before it has started, bare, not in a group.
    ///
    /// # Panics
    ///
    /// If the child returns `Ok` without having called `started`; with the child's panic; in another run than the
    /// nursery's.
    ///
    /// # Examples
    ///
    /// ```
    /// use nursery::{TaskStatus, checkpoint, open_nursery, sleep_forever};
    ///
    /// async fn listen(status: TaskStatus<u16>) -> anyhow::Result<()> {
    ///     checkpoint().await?; // bind the socket …
    ///     status.started(8080);
    ///     Ok(sleep_forever().await?)
    /// }
    ///
    /// # nursery::run(async {
    /// open_nursery(async |n| {
    ///     let port = n.start(listen).await?;
    ///     assert_eq!(port, 8080); // it listens now
    ///     n.cancel_scope().cancel();
    ///     anyhow::Ok(())
    /// })
    /// .await
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn start<V: 'scope, F>(
        &'scope self,
        child: F,
    ) -> impl Future<Output = Result<V, E>> + use<'scope, 'env, V, F, E>
    where
        F: AsyncFnOnce(TaskStatus<V>) -> Result<(), E> + 'scope,
        E: 'scope,
    {
        let place = Location::caller();
        async move {
            if self.core.closed.get() {
                // Only a destructor that polls by hand, of a nursery that is being dropped, can get here.
                return Err(E::from(dropped()));
            }
            let (mut pending, status, birth, done) = Pending::begin(&self.core, place);
            let child = async move { child(status).await };
            pending.adopt(&erase::spawn_scoped(self, ManuallyDrop::new(child), done, birth));
            pending.wait().await;
            pending.finish()
        }
    }
}

impl<E: TaskError + 'static> NurseryHandle<E> {
    /// Starts a child, and waits until it calls [`TaskStatus::started`]; returns the value it gave. See
    /// [`Nursery::start`](crate::Nursery::start).
    ///
    /// # Cancellation
    ///
    /// Cancelled, it waits for the child, which is cancelled with it: what comes out is the child's result.
    /// Dropped before the child has started, it drops the child.
    ///
    /// # Errors
    ///
    /// [`NurseryClosed`], which gives the function back, if the nursery has ended; inside, the error of a child
    /// that ends before it has started, bare, not in a group.
    ///
    /// # Panics
    ///
    /// If the child returns `Ok` without having called `started`; with the child's panic; in another run than the
    /// nursery's.
    ///
    /// # Examples
    ///
    /// ```
    /// use nursery::{TaskStatus, open_nursery, sleep_forever};
    ///
    /// # nursery::run(async {
    /// open_nursery(async |n| {
    ///     let handle = n.handle();
    ///     let listen = async |status: TaskStatus<u16>| {
    ///         status.started(8080);
    ///         anyhow::Ok(sleep_forever().await?)
    ///     };
    ///     let port = handle.start(listen).await??;
    ///     assert_eq!(port, 8080);
    ///     handle.cancel_scope().cancel();
    ///     anyhow::Ok(())
    /// })
    /// .await
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn start<V: 'static, F>(
        &self,
        child: F,
    ) -> impl Future<Output = Result<Result<V, E>, NurseryClosed<F>>> + use<V, F, E>
    where
        F: AsyncFnOnce(TaskStatus<V>) -> Result<(), E> + 'static,
    {
        let place = Location::caller();
        let core = self.core.clone();
        async move {
            if core.closed.get() {
                return Err(NurseryClosed(child));
            }
            let (mut pending, status, birth, done) = Pending::begin(&core, place);
            let child = async move { child(status).await };
            pending.adopt(&erase::spawn_static(&core.run, child, done, birth));
            pending.wait().await;
            Ok(pending.finish())
        }
    }
}

/// The error of a `start` whose nursery is dropped.
fn dropped() -> Cancelled {
    let text = "the nursery of the child that was to start was dropped";
    Cancelled(Arc::new(CancelReason::new(CancelSource::Unknown).with_text(text)))
}

/// The result of a child that ended before it had started.
type Early<E> = Rc<RefCell<Option<thread::Result<Result<(), E>>>>>;

/// What is to be done at the end of a child that was given to `start`.
struct StartEnd<V, E> {
    core: Rc<Core<E>>,
    starting: Rc<Starting<V>>,
    early: Early<E>,
}

impl<V, E: TaskError> Finish<Result<(), E>> for StartEnd<V, E> {
    type Value = ();

    fn ready(&self) -> &Rc<Ready> {
        &self.core.ready
    }

    fn finish(self, task: &Task, result: thread::Result<Result<(), E>>) -> Option<()> {
        let StartEnd { core, starting, early } = &self;
        if starting.phase.get() == Phase::Moved {
            return core.child_ended(task, result);
        }
        early.replace(Some(result));
        starting.phase.set(Phase::Ended); // hooks and destructors may drop `start`: the rest is done here
        core.run.end_of_task(task);
        core.ready.remove_starting(task.node(&core.run));
        core.leave();
        starting.set_phase(Phase::Ended);
        None
    }
}

impl<V, E> Drop for StartEnd<V, E> {
    /// The child is dropped with its nursery: who waits for it learns of that.
    fn drop(&mut self) {
        if self.starting.phase.get() == Phase::Starting {
            self.starting.set_phase(Phase::Ended);
        }
    }
}

/// A `start` that is waiting. Dropped, it drops the child.
struct Pending<V, E> {
    starting: Rc<Starting<V>>,
    early: Early<E>,
    core: Rc<Core<E>>,
    // Last: the child below it goes first.
    hidden: Frame,
}

impl<V, E: TaskError> Pending<V, E> {
    /// What starts, with all that its task needs.
    fn begin(
        core: &Rc<Core<E>>,
        place: &'static Location<'static>,
    ) -> (Self, TaskStatus<V>, Birth, StartEnd<V, E>) {
        let pending = Pending::new(core, place);
        let (status, birth, done) = (pending.status(), pending.admit(place), pending.end());
        (pending, status, birth, done)
    }

    fn new(core: &Rc<Core<E>>, place: &'static Location<'static>) -> Self {
        assert!(
            context::is_current(&core.run),
            "`start` was called in another run than the nursery's\n\
             \n\
             The child would be under the scopes of both. Send what it is to do to a task of that run instead, or use \
             `start_soon`."
        );
        let mut frame = Frame::default();
        let mut node = scope_node(place, false);
        node.extra().name = Some("start".into());
        let hidden = frame.enter("`Nursery::start`", node, Limit::Never);
        // It keeps the nursery open, besides the child: the caller may want to try again.
        core.live.set(core.live.get() + 1);
        let starting = Starting {
            phase: Cell::new(Phase::Starting),
            value: RefCell::new(None),
            caller: RefCell::default(),
            run: core.run.clone(),
            ready: core.ready.clone(),
            hidden,
            target: core.node,
            child: Cell::new(None),
        };
        Pending {
            starting: Rc::new(starting),
            early: Rc::default(),
            core: core.clone(),
            hidden: frame,
        }
    }

    fn status(&self) -> TaskStatus<V> {
        TaskStatus { starting: Some(self.starting.clone()) }
    }

    /// Lets the child in.
    fn admit(&self, place: &'static Location<'static>) -> Birth {
        let Pending { core, starting, .. } = self;
        core.live.set(core.live.get() + 1);
        let birth = core.run.birth_of_child(starting.hidden, place);
        Birth { in_tree: true, ..birth }
    }

    fn adopt(&self, child: &Handle<()>) {
        let node = child.task().node(&self.core.run);
        self.core.ready.add_starting(node);
        self.starting.child.set(Some(node));
        if self.core.closed.get() {
            self.core.run.drop_task(child.task()); // a hook has dropped the nursery
        }
    }

    fn end(&self) -> StartEnd<V, E> {
        StartEnd {
            core: self.core.clone(),
            starting: self.starting.clone(),
            early: self.early.clone(),
        }
    }

    /// Waits until the child has moved or ended. Not interrupted: a cancellation reaches the child.
    async fn wait(&mut self) {
        let Pending { starting, hidden, .. } = self;
        poll_fn(|cx| {
            hidden.inside(|| {}); // follows its caller, should that be moved to another task
            if starting.phase.get() != Phase::Starting {
                return Poll::Ready(());
            }
            context::count_schedule_point();
            let old = starting.caller.replace(Some(cx.waker().clone()));
            drop(old);
            if starting.phase.get() == Phase::Starting { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    fn finish(self) -> Result<V, E> {
        let value = self.starting.value.take();
        if self.starting.phase.get() == Phase::Moved {
            return Ok(value.expect("moved by `started`, with a value"));
        }
        match (self.early.take(), value) {
            (None, _) => Err(E::from(dropped())),
            (Some(Err(panic)), _) => resume_unwind(panic),
            (Some(Ok(Err(error))), _) => Err(error),
            (Some(Ok(Ok(()))), Some(value)) => Ok(value),
            (Some(Ok(Ok(()))), None) => panic!(
                "a child given to `Nursery::start` ended without calling `TaskStatus::started`\n\
                 \n\
                 `start` has no value to return. Usual causes:\n\
                 - the child returns early, on a path that does not call `started`: return an error there\n\
                 - its `TaskStatus` was dropped, or given to a task that never got to call it\n\
                 - nobody has to wait for it: use `start_soon`"
            ),
        }
    }
}

impl<V, E> Drop for Pending<V, E> {
    fn drop(&mut self) {
        let Pending { starting, core, .. } = self;
        let caller = starting.caller.take();
        drop(caller);
        if let Some(child) = starting.child.get()
            && starting.phase.get() == Phase::Starting
            && !core.closed.get()
        {
            let _run = (!context::is_current(&core.run)).then(|| context::enter_run(&core.run));
            let task = core.run.state.borrow().task(child).cloned();
            if task.is_none_or(|task| core.run.drop_task(&task)) {
                core.ready.remove_starting(child);
                core.leave();
                starting.phase.set(Phase::Ended);
            } else {
                // The child itself, by some detour, drops what waits for it: the nursery has it from now on.
                starting.move_in();
                core.run.cancel(child, CancelSource::Unknown.into());
            }
        }
        core.leave();
        core.ready.wake_owner(&core.run);
    }
}
