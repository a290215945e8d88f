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
//! | content, done | the home thread only, inside a step, `empty` or `drop`; gone once `ENDING` is set    |
//! | `Meta`        | any thread; immutable, but for atomic flags                                       |
//! | the cell      | `async_task`'s reference counts                                                    |
//! | `Runnable`    | made on any thread by a wake; run, or dropped with contents, on the home thread only |
//!
//! # Rules
//!
//! 1. **An owner empties every cell it spawned before anything that its futures borrow ends**: each child
//!    runs to its end, or the owner's `Drop` calls [`end_task`] for it. An owner that is forgotten is never polled again, so the borrow it holds never ends.
//! 2. A `Runnable` or a [`Direct`] is run only by its owner, from the owner's own poll, on the home thread. So a
//!    forgotten owner's children never run again.
//! 3. A cell that is not empty is never dropped off the home thread nor after its owner was forgotten:
//!    `dispose` leaks its `Runnable` instead.
//! 4. A future that was never polled is queued on the home thread, in its owner's ready list: its first
//!    `Runnable` goes there directly, and no waker of it exists yet.
//! 5. `content` and `done` are borrowed only for the length of one step, `empty` or `drop` of the cell. They
//!    cannot overlap: an owner does not end tasks while it polls, and a cell that is running is not dropped.
//! 6. `Meta::cell` is set by the first poll, before there is any waker, and is good until `ENDING`. Only the home thread
//!    looks there, and only it can set `ENDING`.
//! 7. The run wakes a suspended task without its waker: it moves the waker from the task's node to a [`Direct`] on the
//!    list, which keeps the cell, and steps it from there. `async_task` sees nothing of such a step. If it is the last,
//!    and somebody wants the value, the result stays in the cell until a `Runnable` takes it home: at once, unless
//!    another thread has woken the task just then and its `Runnable` is on the way. Until then the task has not ended.

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
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

use crate::nursery::Nursery;
use crate::nursery::ready::{Entry, Owner, Ready};
use crate::run::Run;
use crate::run::context::{self, Points};
use crate::run::inbox::Inbox;
use crate::tree::{Kind, Node, NodeId, TaskNode};

pub(crate) type Runnable = async_task::Runnable<Meta>;
pub(crate) type Task<T> = async_task::Task<T, Meta>;
pub(crate) type Panic = Box<dyn Any + Send>;

/// Nothing is left in the cell.
const EMPTY: u8 = 1;
/// Nobody wants the value.
const UNWATCHED: u8 = 2;
/// The future and `done` have been dropped or moved out, or are just being.
const ENDING: u8 = 4;
/// A `Runnable` is on the home list.
const QUEUED: u8 = 8;
/// The future has ended in a step that was not its `Runnable`'s: the next `Runnable` brings the result home.
const DONE: u8 = 16;
/// That `Runnable` is to run where it is scheduled.
const AT_ONCE: u8 = 32;

/// What can be known of a task from any thread.
pub(crate) struct Meta {
    pub(crate) inbox: &'static Inbox,
    pub(crate) node: NodeId,
    pub(crate) generation: u32,
    flags: AtomicU8,
    actions: &'static Actions,
    /// The [`ChildCell`] behind it, from the first poll on. Home thread only, and only until `ENDING`: then
    /// `async_task` may use the place for something else.
    cell: AtomicPtr<()>,
}

/// What can be done to a cell of unknown content.
struct Actions {
    /// See [`ChildCell::empty_at`].
    empty: unsafe fn(*const ()),
    /// See [`ChildCell::step_at`].
    step: unsafe fn(*const (), Waker),
    /// See [`ChildCell::push_at`].
    push: unsafe fn(*const (), Runnable),
}

impl Meta {
    /// Nobody wants the task's value any more: it is dropped where it is made.
    pub(crate) fn unwatch(&self) {
        self.mark(UNWATCHED);
    }

    fn has(&self, flag: u8) -> bool {
        self.flags.load(Ordering::Acquire) & flag != 0
    }

    fn mark_empty(&self) {
        self.mark(EMPTY);
    }

    /// Flags are changed on the home thread only: no other can come in between.
    fn mark(&self, flag: u8) {
        self.flags.store(self.flags.load(Ordering::Relaxed) | flag, Ordering::Release);
    }

    fn unmark(&self, flag: u8) {
        self.flags.store(self.flags.load(Ordering::Relaxed) & !flag, Ordering::Release);
    }
}

/// What is to be done when a task ends.
pub(crate) trait Finish<R> {
    /// What the task's handle gets.
    type Value;

    /// The run that the task is in.
    fn run(&self) -> &Rc<Run>;

    /// The list that it is put on when it is woken.
    fn ready(&self) -> &Rc<Ready>;

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
    let (run, ready) = (done.run().clone(), done.ready().clone());
    let meta = Meta {
        inbox: run.inbox,
        node,
        generation: run.generation,
        flags: AtomicU8::new(QUEUED),
        actions: &const {
            Actions {
                empty: ChildCell::<F, D>::empty_at,
                step: ChildCell::<F, D>::step_at,
                push: ChildCell::<F, D>::push_at,
            }
        },
        cell: AtomicPtr::new(std::ptr::null_mut()),
    };
    let make = |meta: &Meta| ChildCell {
        meta: NonNull::from(meta),
        points: Cell::new(Points::default()),
        content: UnsafeCell::new(Content::Future(future)),
        done: UnsafeCell::new(ManuallyDrop::new(done)),
        _pinned: PhantomPinned,
    };
    let builder = async_task::Builder::new().metadata(meta);
    // SAFETY: not `Send`, not `'static`: the caller keeps the rules above. `schedule` captures nothing, so it
    // is `Send`, `Sync` and `'static`.
    let (runnable, task) = unsafe { builder.spawn_unchecked(make, schedule) };
    let owner = ready.push(Entry::Woken(runnable)); // rule 4
    was_put_on_list(&run, node, owner);
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
/// For owners, while they do not poll: the task is not running. `queued` is what its list has of the task; a task that
/// was never polled always is on it (rule 4).
///
/// Returns false, and does nothing, if it is running after all: if it ends itself through some detour.
pub(crate) fn end_task(run: &Run, id: NodeId, queued: Vec<Entry>) -> bool {
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
    if context::is_home(inbox, generation) {
        schedule_at_home(runnable);
    } else {
        inbox.push_woken(generation, runnable);
    }
}

/// Puts a task of the current run on its list.
pub(crate) fn schedule_at_home(runnable: Runnable) {
    let meta = runnable.metadata();
    if meta.has(EMPTY) {
        return drop(runnable); // nothing is left of it
    }
    if meta.has(AT_ONCE) {
        runnable.run(); // rule 2: inside its owner's poll
        return;
    }
    meta.mark(QUEUED);
    let (cell, push) = (meta.cell.load(Ordering::Relaxed), meta.actions.push);
    // SAFETY: rule 6: this is the home thread, the cell is not empty, and it has been polled: it has a waker.
    unsafe { push(cell, runnable) };
}

/// Wakes the owner of a list, if it is to be woken, and tells the instruments.
fn was_put_on_list(run: &Run, task: NodeId, owner: Option<Owner>) {
    if let Some(owner) = owner {
        owner.wake(run);
    }
    if !run.instruments.is_empty() && run.state.borrow().task(task).is_some() {
        run.instrument(|i| i.task_scheduled(run.task_id(task)));
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
struct ChildCell<F: Future, D> {
    /// In the header of the same cell: lives as long as this.
    meta: NonNull<Meta>,
    points: Cell<Points>,
    content: UnsafeCell<Content<F, thread::Result<F::Output>>>,
    done: UnsafeCell<ManuallyDrop<D>>,
    _pinned: PhantomPinned,
}

/// The future stays where it is until it is dropped.
enum Content<F, R> {
    Future(F),
    /// See `DONE`. Boxed, so that it takes no room in a small cell.
    Result(Box<R>),
    Empty,
}

impl<F: Future, D> ChildCell<F, D> {
    fn meta(&self) -> &Meta {
        // SAFETY: `async_task` keeps the header, with the metadata, as long as the future it made with it.
        unsafe { self.meta.as_ref() }
    }

    /// Drops what is in the cell, in its place.
    #[inline]
    fn clear(&self) -> thread::Result<()> {
        catch_unwind(AssertUnwindSafe(|| {
            let place = self.content.get();
            // SAFETY: rule 5: nobody else borrows the content now. Pinned, the future is dropped in its place.
            unsafe { *place = Content::Empty };
        }))
    }

    /// Leaves a result in the cell, which is clear.
    fn leave_result(&self, result: thread::Result<F::Output>) {
        let place = self.content.get();
        // SAFETY: rule 5.
        unsafe { *place = Content::Result(Box::new(result)) };
    }

    /// Polls the future.
    fn poll_future(&self, cx: &mut Context<'_>) -> Poll<thread::Result<F::Output>> {
        let result = catch_unwind(AssertUnwindSafe(|| {
            let content = self.content.get();
            // SAFETY: rule 5: this poll is the only one, and nothing empties a running cell.
            let content = unsafe { &mut *content };
            let Content::Future(future) = content else { unreachable!("polled once too often") };
            // SAFETY: the cell is pinned, and the future is never moved out of it.
            let future = unsafe { Pin::new_unchecked(future) };
            future.poll(cx)
        }));
        match result {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }

    /// Drops the future, which has ended, promptly.
    fn end_future(&self, mut result: thread::Result<F::Output>) -> thread::Result<F::Output> {
        if let Err(panic) = self.clear()
            && result.is_ok()
        {
            // The value, which nobody will get, may panic in its turn.
            drop_quietly(std::mem::replace(&mut result, Err(panic)));
        }
        result
    }

    /// Takes the result that an earlier step has left.
    fn take_result(&self) -> Option<thread::Result<F::Output>> {
        if !self.meta().has(DONE) {
            return None;
        }
        let content = self.content.get();
        // SAFETY: rule 5.
        let content = unsafe { &mut *content };
        match std::mem::replace(content, Content::Empty) {
            Content::Result(result) => Some(*result),
            Content::Future(_) | Content::Empty => unreachable!("there is a result"),
        }
    }

    /// What is to be done at the end; until then, the run and the list.
    fn done(&self) -> &D {
        let done = self.done.get();
        // SAFETY: rule 5: nobody borrows `done` mutably before `take_done`, and the borrow ends before that.
        unsafe { &*done }
    }

    /// Moves `done` out. The caller has set `ENDING`, so that it happens once.
    fn take_done(&self) -> D {
        let done = self.done.get();
        // SAFETY: rule 5, as for the future.
        let done = unsafe { &mut *done };
        // SAFETY: taken once, since `ENDING` was set before.
        unsafe { ManuallyDrop::take(done) }
    }

    /// Drops what the cell holds, unless that has happened. Panics in there are kept, not propagated.
    fn empty(&self) {
        if self.meta().has(ENDING) {
            return;
        }
        self.meta().mark(ENDING);
        if let Err(panic) = self.clear() {
            note_drop_panic(panic);
        }
        drop_quietly(self.take_done());
        self.meta().mark_empty();
    }

    /// The same, by a pointer to its beginning.
    ///
    /// # Safety
    ///
    /// `cell` points to a `ChildCell<F, D>` that is not ending, and that nobody polls now.
    unsafe fn empty_at(cell: *const ()) {
        // SAFETY: by the caller's promise.
        let cell = unsafe { &*cell.cast::<ChildCell<F, D>>() };
        cell.empty();
    }

    fn kill(&self) -> Kill {
        self.meta().cell.store(std::ptr::from_ref(self).cast_mut().cast(), Ordering::Relaxed);
        Kill(self.meta)
    }

    /// Reports the result.
    fn finish(&self, result: thread::Result<F::Output>) -> Option<D::Value>
    where
        D: Finish<F::Output>,
    {
        self.meta().mark(ENDING);
        let done = self.take_done();
        self.meta().mark_empty();
        let value = done.finish(self.meta().node, result);
        if self.meta().has(UNWATCHED) {
            drop_quietly(value);
            return None;
        }
        value
    }

    /// Puts the task on its list.
    ///
    /// # Safety
    ///
    /// As `empty_at`.
    unsafe fn push_at(cell: *const (), runnable: Runnable)
    where
        D: Finish<F::Output>,
    {
        // SAFETY: by the caller's promise.
        let this = unsafe { &*cell.cast::<ChildCell<F, D>>() };
        let task = runnable.metadata().node;
        let owner = this.done().ready().push(Entry::Woken(runnable));
        if owner.is_some() || context::is_watched() {
            let run = this.done().run().clone(); // the cell may go now
            was_put_on_list(&run, task, owner);
        }
    }

    /// A step that is not the `Runnable`'s. If the future ends, its result is left for the `Runnable`.
    ///
    /// # Safety
    ///
    /// As `empty_at`; the caller is the task's owner, and `waker` the task's own.
    unsafe fn step_at(cell: *const (), waker: Waker)
    where
        D: Finish<F::Output>,
    {
        // SAFETY: by the caller's promise; `waker` keeps the cell.
        let this = unsafe { &*cell.cast::<ChildCell<F, D>>() };
        let id = this.meta().node;
        let run = this.done().run().clone();
        let Some(cancelled) = run.begin_direct_step(id) else { return };
        {
            let budget = run.budget;
            let _task = context::enter_task(id, cancelled, budget, &waker, &this.points);
            run.instrument(|i| i.before_task_step(run.task_id(id)));
            match this.poll_future(&mut Context::from_waker(&waker)) {
                Poll::Pending => {
                    run.suspend(id, || waker);
                    run.instrument(|i| i.after_task_step(run.task_id(id)));
                    return;
                }
                Poll::Ready(result) => {
                    let result = this.end_future(result);
                    if this.meta().has(UNWATCHED) {
                        this.finish(result);
                        run.instrument(|i| i.after_task_step(run.task_id(id)));
                        return;
                    }
                    this.leave_result(result);
                }
            }
        }
        run.stop_running(id);
        let meta = this.meta;
        // SAFETY: `async_task` keeps the header while there is `waker`.
        let meta = unsafe { meta.as_ref() };
        meta.mark(DONE | AT_ONCE);
        waker.wake_by_ref(); // a no-op if a `Runnable` is on its way already; otherwise, the cell has gone now
        meta.unmark(AT_ONCE);
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
        this.meta().unmark(QUEUED);
        if this.meta().has(ENDING) {
            return Poll::Pending; // it was ended by its owner; never polled again
        }
        let id = this.meta().node;
        let run = this.done().run();
        let early = this.take_result();
        let cancelled = match early {
            Some(_) => run.state.borrow().effective(id),
            None => run.begin_step(id, || this.kill()),
        };
        let _task = context::enter_task(id, cancelled, run.budget, cx.waker(), &this.points);
        let result = match early {
            Some(result) => result,
            None => {
                run.instrument(|i| i.before_task_step(run.task_id(id)));
                match this.poll_future(cx) {
                    Poll::Ready(result) => this.end_future(result),
                    Poll::Pending => {
                        run.suspend(id, || cx.waker().clone());
                        run.instrument(|i| i.after_task_step(run.task_id(id)));
                        return Poll::Pending;
                    }
                }
            }
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

impl<F: Future, D> Drop for ChildCell<F, D> {
    fn drop(&mut self) {
        self.empty();
    }
}

/// Drops a suspended task's future where it is.
#[derive(Clone, Copy)]
pub(crate) struct Kill(NonNull<Meta>);

impl Kill {
    fn meta<'a>(self) -> &'a Meta {
        // SAFETY: a node has this only as long as its task has not ended, and a `Direct` has a waker: either keeps
        // the header.
        unsafe { self.0.as_ref() }
    }

    /// The cell, unless it is ending.
    fn cell(self) -> Option<*const ()> {
        let meta = self.meta();
        (!meta.has(ENDING)).then(|| meta.cell.load(Ordering::Relaxed).cast_const())
    }

    /// Empties the cell.
    ///
    /// # Safety
    ///
    /// On the home thread, while nobody polls the task.
    unsafe fn kill(self) {
        if let Some(cell) = self.cell() {
            // SAFETY: by the caller's promise; it is not ending.
            unsafe { (self.meta().actions.empty)(cell) }
        }
    }

    /// Is the task on its list, as a `Runnable`?
    pub(crate) fn is_queued(self) -> bool {
        self.meta().has(QUEUED)
    }
}

/// A suspended task that the run has woken.
pub(crate) struct Direct {
    kill: Kill,
    /// The task's own. It keeps the cell.
    waker: Waker,
}

impl Direct {
    /// Both are the task's, from its node.
    pub(crate) fn new(kill: Kill, waker: Waker) -> Self {
        Direct { kill, waker }
    }

    pub(crate) fn task(&self) -> NodeId {
        self.kill.meta().node
    }

    /// Makes a step of the task. For its owner only (rule 2).
    pub(crate) fn run(self) {
        let Direct { kill, waker } = self;
        if kill.meta().has(DONE) {
            return; // its `Runnable` is on the way
        }
        if let Some(cell) = kill.cell() {
            // SAFETY: rules 2 and 7: its owner polls it, on the home thread; it is suspended, and not ending.
            unsafe { (kill.meta().actions.step)(cell, waker) }
        }
    }
}

impl Run {
    /// A step of a task begins. Returns whether the task is cancelled.
    fn begin_step(&self, id: NodeId, kill: impl FnOnce() -> Kill) -> bool {
        self.count_step();
        match self.state.borrow_mut().nodes.get_mut(id) {
            Some(node) => {
                if let Kind::Task(task) = &mut node.kind {
                    task.set_notified(false);
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

    /// The same for a task that the run has woken. `None`: it has made a step since, or has ended.
    fn begin_direct_step(&self, id: NodeId) -> Option<bool> {
        let cancelled = {
            let mut state = self.state.borrow_mut();
            let node = state.nodes.get_mut(id)?;
            let cancelled = node.effective();
            let Kind::Task(task) = &mut node.kind else { return None };
            if task.waker.is_some() {
                return None; // woken through its waker, too, it was faster
            }
            task.set_notified(false);
            task.running = true;
            cancelled
        };
        self.count_step();
        Some(cancelled)
    }

    /// The task waits: its node gets its waker, which also keeps the cell.
    fn suspend(&self, id: NodeId, waker: impl FnOnce() -> Waker) {
        let owner = {
            let mut state = self.state.borrow_mut();
            let Some(Node { kind: Kind::Task(task), .. }) = state.nodes.get_mut(id) else { return };
            task.running = false;
            if task.waker.is_none() {
                task.waker = Some(waker());
            }
            if !task.is_notified() && !context::is_again() {
                return;
            }
            task.set_notified(false);
            match task.take_direct() {
                Some(direct) => task.ready.push(Entry::Direct(direct)),
                None => return, // it is on its list already
            }
        };
        was_put_on_list(self, id, owner);
    }

    /// The task's future has ended.
    fn stop_running(&self, id: NodeId) {
        if let Some(Node { kind: Kind::Task(task), .. }) = self.state.borrow_mut().nodes.get_mut(id)
        {
            task.running = false;
        }
    }
}

thread_local! {
    static DROP_PANIC: RefCell<Option<Panic>> = const { RefCell::new(None) };
    /// There may be one.
    static HAS_DROP_PANIC: Cell<bool> = const { Cell::new(false) };
}

fn note_drop_panic(panic: Panic) {
    HAS_DROP_PANIC.set(true);
    let surplus = DROP_PANIC.with(|first| {
        let mut first = first.borrow_mut();
        if first.is_none() { first.replace(panic) } else { Some(panic) }
    });
    drop(surplus);
}

/// Has a value panicked that was dropped?
pub(crate) fn has_drop_panic() -> bool {
    HAS_DROP_PANIC.get()
}

/// The first panic of a value that was dropped since this was last asked.
pub(crate) fn take_drop_panic() -> Option<Panic> {
    if !HAS_DROP_PANIC.replace(false) {
        return None;
    }
    DROP_PANIC.with(|first| first.borrow_mut().take())
}
