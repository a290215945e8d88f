//! UNSAFE: children that borrow, their lifetime erased. The only unsafe module of the workspace.
//!
//! A child's future lives in the heap cell of an `async_task` task. Wakers of it may be anywhere, on
//! any thread, for any time, and keep the cell allocated; and `async_task` has no lifetime for any of
//! them. So the future inside may go earlier than its cell: the owner (a nursery, or the run for its
//! main task) ends it where it is.
//!
//! ```text
//!  new ──1──▶ queued ◀──3──┐
//!               │          │              1 spawn   2 Runnable::run   3 the cell's waker, by `schedule`
//!               2          │              4 the future is ready: dropped by its own poll
//!               ▼          │              5 end_task: dropped by its owner
//!            polled ──▶ suspended
//!               │          │
//!               4          5
//!               ▼          ▼
//!             empty ◀─────-┘               an empty cell holds nothing that borrows, and may go anywhere
//! ```
//!
//! | part          | who may touch it                                                                  |
//! |---------------|-----------------------------------------------------------------------------------|
//! | future, done  | the home thread only, inside `poll`, `empty` or `drop`; gone once `live` is false   |
//! | `Meta`        | any thread; immutable, but for atomic flags                                       |
//! | the cell      | `async_task`'s reference counts                                                    |
//! | `Runnable`    | made on any thread by a wake; run, or dropped with contents, on the home thread only |
//!
//! # Rules
//!
//! 1. **An owner empties every cell it spawned before anything that its futures borrow ends**: each child
//!    runs to its end, or the owner's `Drop` calls [`end_task`] for it. An owner that is forgotten is never polled again, so the borrow it holds never ends.
//! 2. A `Runnable` is run only by its owner, from the owner's own poll, on the home thread. So a
//!    forgotten owner's children never run again.
//! 3. A cell that is not empty is never dropped off the home thread nor after its owner was forgotten:
//!    `dispose` leaks its `Runnable` instead.
//! 4. A future that was never polled is queued on the home thread, in its owner's ready list: its first
//!    `Runnable` goes there directly, and no waker of it exists yet.
//! 5. `future` and `done` are borrowed only for the length of one `poll`, `empty` or `drop` of the cell. They
//!    cannot overlap: an owner does not end tasks while it polls, and a cell that is running is not dropped.

#![expect(
    unsafe_code,
    reason = "children may borrow what outlives their nursery; see the rules above"
)]

use std::any::Any;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::future::Future;
use std::marker::{PhantomData, PhantomPinned};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::thread;

use crate::nursery::Nursery;
use crate::run::Run;
use crate::run::context::{self, Points};
use crate::run::inbox::Inbox;
use crate::tree::{Kind, Node, NodeId, TaskNode};

pub(crate) type Runnable = async_task::Runnable<Meta>;
pub(crate) type Task<T> = async_task::Task<T, Meta>;
pub(crate) type Panic = Box<dyn Any + Send>;

const EMPTY: u8 = 1;
const UNWATCHED: u8 = 2;

/// What can be known of a task from any thread.
pub(crate) struct Meta {
    pub(crate) inbox: &'static Inbox,
    pub(crate) node: NodeId,
    pub(crate) generation: u32,
    flags: AtomicU8,
}

impl Meta {
    /// Nobody wants the task's value any more: it is dropped where it is made.
    pub(crate) fn unwatch(&self) {
        self.flags.fetch_or(UNWATCHED, Ordering::Relaxed);
    }

    fn has(&self, flag: u8) -> bool {
        self.flags.load(Ordering::Acquire) & flag != 0
    }

    fn mark_empty(&self) {
        self.flags.fetch_or(EMPTY, Ordering::Release);
    }
}

/// What is to be done when a task ends.
pub(crate) trait Finish<R> {
    /// What the task's handle gets.
    type Value;

    /// The run that the task is in.
    fn run(&self) -> &Rc<Run>;

    /// Called with the result, on the home thread, inside the task's last step.
    fn finish(self, task: NodeId, result: thread::Result<R>) -> Option<Self::Value>;
}

/// Makes a task of `future`.
///
/// # Safety
///
/// The caller is the owner of rules 1 to 4:
/// - it empties the cell (runs the task to its end, kills it, or drops its `Runnable`) before `'a` ends, or
///   is itself forgotten with the borrow `'a` in it;
/// - it runs the `Runnable`, and any other that `schedule` gives it, only on the present thread, or
///   `dispose`s of it.
unsafe fn spawn<'a, F, D>(node: NodeId, future: F, done: D) -> Task<Option<D::Value>>
where
    F: Future + 'a,
    D: Finish<F::Output> + 'a,
    D::Value: 'a,
{
    let run = done.run().clone();
    let meta = Meta { inbox: run.inbox, node, generation: run.generation, flags: AtomicU8::new(0) };
    let make = |meta: &Meta| ChildCell {
        meta: std::ptr::from_ref(meta),
        points: Cell::new(Points::default()),
        live: Cell::new(true),
        future: UnsafeCell::new(ManuallyDrop::new(future)),
        done: UnsafeCell::new(ManuallyDrop::new(done)),
        _pinned: PhantomPinned,
    };
    let builder = async_task::Builder::new().metadata(meta);
    // SAFETY: not `Send`, not `'static`: the caller keeps the rules above. `schedule` captures nothing, so it
    // is `Send`, `Sync` and `'static`.
    let (runnable, task) = unsafe { builder.spawn_unchecked(make, schedule) };
    run.schedule(runnable); // rule 4
    task
}

/// Spawns a child that may borrow what outlives the nursery.
pub(crate) fn spawn_scoped<'scope, 'env, E, F, D>(
    _nursery: &'scope Nursery<'scope, 'env, E>,
    node: NodeId,
    future: F,
    done: D,
) -> Task<Option<D::Value>>
where
    F: Future + 'scope,
    D: Finish<F::Output> + 'scope,
    D::Value: 'scope,
{
    // SAFETY: `'scope` is a borrow of the nursery itself, a local of the future that drives it. That future's
    // `Owner` ends all children before the nursery, and so `'scope`, can end, and only it runs them.
    unsafe { spawn(node, future, done) }
}

/// Spawns a task that borrows nothing.
pub(crate) fn spawn_static<F, D>(node: NodeId, future: F, done: D) -> Task<Option<D::Value>>
where
    F: Future + 'static,
    D: Finish<F::Output> + 'static,
    D::Value: 'static,
{
    // SAFETY: nothing is borrowed, so no borrow can end too early; the lists of a run are run by that run,
    // on its thread, only.
    unsafe { spawn(node, future, done) }
}

/// Spawns the main task of a run.
pub(crate) fn spawn_main<'a, F, D>(
    _owner: PhantomData<&'a mut &'a ()>,
    node: NodeId,
    future: F,
    done: D,
) -> Task<Option<D::Value>>
where
    F: Future + 'a,
    D: Finish<F::Output> + 'a,
    D::Value: 'a,
{
    // SAFETY: the caller is `Guest<'a>`, which holds this `PhantomData`, has a destructor that ends all tasks,
    // and is the only one to run them.
    unsafe { spawn(node, future, done) }
}

/// Ends a suspended or queued task: drops its future where it is, on this thread.
///
/// For owners, while they do not poll: the task is not running. `queued` is the task's `Runnable`, if it is in
/// a list; a task that was never polled always is (rule 4).
///
/// Returns false, and does nothing, if it is running after all: if it ends itself through some detour.
pub(crate) fn end_task(run: &Run, id: NodeId, queued: Option<Runnable>) -> bool {
    match run.state.borrow().task(id) {
        Some(task) if task.running => return false,
        Some(_) => {}
        None => return true, // it has ended; `queued` has nothing in it
    }
    run.instrument(|i| i.task_exited(run.task_id(id)));
    let node = run.state.borrow_mut().remove(id);
    if let Some(Node { kind: Kind::Task(TaskNode { kill: Some(kill), .. }), .. }) = &node {
        // SAFETY: the task is suspended or queued; it has not ended, or its node would have gone, and the
        // `Kill` with it. The node was removed just now, so that this happens only once.
        unsafe { kill.kill() };
    }
    drop(queued); // drops the future of a task that was never polled
    drop(node);
    true
}

/// Puts a woken task on its list: directly from inside its own run, through the inbox from anywhere else.
fn schedule(runnable: Runnable) {
    let meta = runnable.metadata();
    let (inbox, generation) = (meta.inbox, meta.generation);
    match context::try_current_run() {
        Some(run) if std::ptr::eq(run.inbox, inbox) && run.generation == generation => {
            run.schedule(runnable);
        }
        _ => inbox.push_woken(generation, runnable),
    }
}

/// Gets rid of a `Runnable` whose run, or nursery, has gone.
pub(crate) fn dispose(runnable: Runnable) {
    if runnable.metadata().has(EMPTY) {
        drop(runnable);
    } else {
        // Rule 3: its owner was forgotten, and what the future borrows may be gone.
        #[expect(clippy::mem_forget, reason = "leaking is the only sound thing to do")]
        std::mem::forget(runnable);
    }
}

/// What the `async_task` cell holds.
struct ChildCell<F, D> {
    /// In the header of the same cell: lives as long as `self`.
    meta: *const Meta,
    points: Cell<Points>,
    /// `future` and `done` have not been dropped or moved out.
    live: Cell<bool>,
    future: UnsafeCell<ManuallyDrop<F>>,
    done: UnsafeCell<ManuallyDrop<D>>,
    _pinned: PhantomPinned,
}

impl<F, D> ChildCell<F, D> {
    fn meta(&self) -> &Meta {
        // SAFETY: `async_task` keeps the header, with the metadata, as long as the future it made with it.
        unsafe { &*self.meta }
    }

    /// Drops the future in its place. The caller has cleared `live`, so that it happens once.
    fn drop_future(&self) -> thread::Result<()> {
        catch_unwind(AssertUnwindSafe(|| {
            let future = self.future.get();
            // SAFETY: rule 5: nobody else borrows the future now, and nobody will again.
            let future = unsafe { &mut *future };
            // SAFETY: dropped once, since `live` was cleared before; pinned, so it is dropped in its place.
            unsafe { ManuallyDrop::drop(future) }
        }))
    }

    /// The run, for the length of a step: `done` stays where it is until the end.
    fn run<R>(&self) -> &Rc<Run>
    where
        D: Finish<R>,
    {
        let done = self.done.get();
        // SAFETY: rule 5: nobody borrows `done` mutably before `take_done`, and the borrow ends before that.
        let done = unsafe { &*done };
        done.run()
    }

    /// Moves `done` out. The caller has cleared `live`, so that it happens once.
    fn take_done(&self) -> D {
        let done = self.done.get();
        // SAFETY: rule 5, as for the future.
        let done = unsafe { &mut *done };
        // SAFETY: taken once, since `live` was cleared before.
        unsafe { ManuallyDrop::take(done) }
    }

    /// Drops what the cell holds, unless that has happened. Panics in there are kept, not propagated.
    fn empty(&self) {
        if !self.live.replace(false) {
            return;
        }
        if let Err(panic) = self.drop_future() {
            note_drop_panic(panic);
        }
        drop_quietly(self.take_done());
        self.meta().mark_empty();
    }

    /// Drops the future promptly, and reports its result.
    fn finish<R>(&self, mut result: thread::Result<R>) -> Option<D::Value>
    where
        D: Finish<R>,
    {
        self.live.set(false);
        if let Err(panic) = self.drop_future()
            && result.is_ok()
        {
            // The value, which nobody will get, may panic in its turn.
            drop_quietly(std::mem::replace(&mut result, Err(panic)));
        }
        let done = self.take_done();
        self.meta().mark_empty();
        let value = done.finish(self.meta().node, result);
        if self.meta().has(UNWATCHED) {
            drop_quietly(value);
            return None;
        }
        value
    }
}

impl<F, D> Future for ChildCell<F, D>
where
    F: Future,
    D: Finish<F::Output>,
{
    type Output = Option<D::Value>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.as_ref().get_ref();
        let id = this.meta().node;
        let run = this.run();
        let cancelled = run.begin_step(id, || Kill::new(this));
        let _task = context::enter_task(id, cancelled, run.budget, cx.waker(), &this.points);
        run.instrument(|i| i.before_task_step(run.task_id(id)));
        let result = catch_unwind(AssertUnwindSafe(|| {
            let future = this.future.get();
            // SAFETY: rule 5: this poll is the only one, and nothing empties a running cell.
            let future = unsafe { &mut *future };
            // SAFETY: `self` is pinned, and the future is never moved out of it.
            let future = unsafe { Pin::new_unchecked(&mut **future) };
            future.poll(cx)
        }));
        let result = match result {
            Ok(Poll::Pending) => {
                run.suspend(id, cx);
                run.instrument(|i| i.after_task_step(run.task_id(id)));
                return Poll::Pending;
            }
            Ok(Poll::Ready(value)) => Ok(value),
            Err(panic) => Err(panic),
        };
        let run = run.clone();
        let value = this.finish(result);
        run.instrument(|i| i.after_task_step(run.task_id(id)));
        Poll::Ready(value)
    }
}

fn drop_quietly<T>(value: T) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        note_drop_panic(panic);
    }
}

impl<F, D> Drop for ChildCell<F, D> {
    fn drop(&mut self) {
        self.empty();
    }
}

/// Drops a suspended task's future where it is.
#[derive(Clone, Copy)]
pub(crate) struct Kill {
    cell: *const (),
    empty: unsafe fn(*const ()),
}

impl Kill {
    fn new<F, D>(cell: &ChildCell<F, D>) -> Self {
        /// # Safety
        ///
        /// `cell` points to a `ChildCell<F, D>` in its `async_task` cell, which nobody polls or drops now.
        unsafe fn empty<F, D>(cell: *const ()) {
            // SAFETY: by the caller's promise.
            let cell = unsafe { &*cell.cast::<ChildCell<F, D>>() };
            cell.empty();
        }
        Kill { cell: std::ptr::from_ref(cell).cast(), empty: empty::<F, D> }
    }

    /// Empties the cell.
    ///
    /// # Safety
    ///
    /// The task is suspended or queued, on this thread, and has not ended: its node holds this `Kill` until then.
    unsafe fn kill(self) {
        // SAFETY: a task that has not ended keeps its cell: its node's waker, or a `Runnable`, counts as a reference.
        unsafe { (self.empty)(self.cell) }
    }
}

impl Run {
    /// A step of a task begins. Returns whether the task is cancelled.
    fn begin_step(&self, id: NodeId, kill: impl FnOnce() -> Kill) -> bool {
        self.count_step();
        match self.state.borrow_mut().nodes.get_mut(id) {
            Some(node) => {
                if let Kind::Task(task) = &mut node.kind {
                    task.notified = false;
                    task.running = true;
                    if task.kill.is_none() {
                        task.kill = Some(kill());
                    }
                }
                node.effective()
            }
            None => false,
        }
    }

    /// The task waits: its node gets its waker, which also keeps the cell.
    fn suspend(&self, id: NodeId, cx: &Context<'_>) {
        let mut state = self.state.borrow_mut();
        let Some(Node { kind: Kind::Task(task), .. }) = state.nodes.get_mut(id) else { return };
        task.running = false;
        if task.waker.is_none() {
            task.waker = Some(cx.waker().clone());
        }
        if task.notified {
            drop(state);
            cx.waker().wake_by_ref();
        }
    }
}

thread_local! {
    static DROP_PANIC: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

fn note_drop_panic(panic: Panic) {
    let surplus = DROP_PANIC.with(|first| {
        let mut first = first.borrow_mut();
        if first.is_none() { first.replace(panic) } else { Some(panic) }
    });
    drop(surplus);
}

/// The first panic of a value that was dropped since this was last asked.
pub(crate) fn take_drop_panic() -> Option<Panic> {
    DROP_PANIC.with(|first| first.borrow_mut().take())
}
