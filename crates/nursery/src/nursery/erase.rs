//! UNSAFE: the cell of a task, and the wakers that point to it. The only unsafe module of the workspace.
//!
//! A child's future may borrow what lives as long as its nursery, while wakers of it may be anywhere, on any thread, for
//! any time. So the future is ended where it is by its owner (the nursery, or the run for its main task), and the empty
//! cell stays as long as anybody points to it.
//!
//! ```text
//!                 ┌────────4────────┐
//!                 ▼                 │              1 woken at home     2 step       3 waits again
//!  spawn ───▶ queued ──2──▶ running ┤              4 the same, woken meanwhile
//!                 ▲                 │              5 ready, or panicked: dropped by its own step
//!                 1                 3              6 end_task: dropped by its owner, queued or suspended
//!                 └── suspended ◀───┤
//!                                   5              an ended cell holds nothing that borrows but the value,
//!             any but running ──6──▶ ended         as long as a handle wants it
//! ```
//!
//! | part                     | who may touch it                                                           |
//! |--------------------------|----------------------------------------------------------------------------|
//! | `Common`                 | any thread; immutable but for an atomic                                      |
//! | `Home`, content, `done`  | the home thread only: the one of the run                                     |
//! | the memory               | whoever lets the last reference go, on any thread, once the task has ended;    |
//! |                          | at home it goes to the [`Pool`], elsewhere its [`Share`] in a chunk goes         |
//!
//! # Rules
//!
//! 1. **An owner ends every task it spawned before anything that its future borrows ends**: each runs to its end, or the
//!    owner's `Drop` calls [`end_task`] for it. An owner that is forgotten is never polled again, so the borrow it holds
//!    never ends.
//! 2. A step is made only by the owner, from its own poll, on the home thread. So a forgotten owner's tasks never run
//!    again.
//! 3. Every [`Task`] counts in `Home::tasks`, and all of them together, each [`Waker`] and each [`Sent`] as one in
//!    `Common::refs`. If the last `Task` goes and the task has not ended (its owner was forgotten) that one is kept: a
//!    future that is pinned and was not dropped keeps its memory. When the memory goes nothing is left in it: the joiner
//!    has gone with the end, or with the handle, and the task's own wait has ended, since who waits keeps a `Task`.
//! 4. `Task` is not `Send`. Off the home thread there are wakers and `Sent`, which touch `Common` only. A waker is at
//!    home where [`context::is_home`] says so: while that very run polls, on this thread.
//! 5. `content` and `done` are borrowed for the length of one step, or for the end of the task. These cannot overlap:
//!    `RUNNING` is set during either, and neither begins while it is.
//! 6. `Home::ready` points to the list that `done` keeps; it is good until `ENDED`, before which `LEAF` goes.

#![expect(
    unsafe_code,
    reason = "children may borrow what outlives their nursery; see the rules above"
)]

pub(crate) mod memory;

use std::cell::{Cell, UnsafeCell};
use std::future::Future;
use std::marker::{PhantomData, PhantomPinned};
use std::mem::ManuallyDrop;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};
use std::{process, thread};

use crate::instrument::Instrument;
use crate::nursery::Nursery;
use crate::nursery::drop_panic::{drop_quietly, note_drop_panic};
use crate::nursery::erase::memory::{Block, Part, Share};
use crate::nursery::pool::{self, Pool};
use crate::nursery::ready::{Owner, Ready};
use crate::run::Run;
use crate::run::context::{self, Frame};
use crate::run::inbox::Door;
use crate::stats::TaskId;
use crate::tree::{Extra, Kind, Node, NodeId, State};
use crate::wait::own::OwnWait;
use crate::wait::{WaitState, Waiter};

/// It is on its list.
const QUEUED: u16 = 1;
/// It makes a step, or ends.
const RUNNING: u16 = 2;
/// Woken while it was running: it goes on its list again.
const AGAIN: u16 = 4;
/// The future has gone.
const ENDED: u16 = 8;
/// Somebody wants the value.
const WATCHED: u16 = 16;
/// It has a node of its own in the tree.
const IN_TREE: u16 = 32;
/// It has no place in the tree any more.
const LEFT: u16 = 64;
/// It is among the leaves of its list: it has waited, and has no node, and has not been interrupted since.
const LEAF: u16 = 128;
/// The content is the value.
const VALUE: u16 = 256;

/// In the count of references: it is in the inbox.
const SENT: u32 = 1 << 31;

/// What can be known of a task without knowing its future.
struct Head {
    common: Common,
    home: Home,
}

/// What any thread may look at.
struct Common {
    /// Rule 3; and [`SENT`].
    refs: AtomicU32,
    actions: &'static Actions,
    /// In what the memory is a part of; there it says which run this is a task of.
    share: Share,
}

impl Common {
    #[inline]
    fn is_home(&self) -> bool {
        let home = self.share.home();
        context::is_home(home.inbox, home.generation)
    }
}

/// What only the home thread may look at.
struct Home {
    /// Rule 3.
    tasks: Cell<u32>,
    flags: Cell<u16>,
    /// The place in the order of arrival.
    born: u32,
    /// Its node; as long as it has none, the one that its node will be below.
    node: Cell<NodeId>,
    /// Where it is among the leaves of its list.
    leaf: Cell<u32>,
    place: &'static Location<'static>,
    frame: Frame,
    /// Rule 6.
    ready: NonNull<Ready>,
    /// The wait for its end.
    joiner: Cell<Option<Waiter>>,
    /// What it waits for itself.
    wait: OwnWait,
}

impl Home {
    #[inline]
    fn new(
        born: u32,
        node: NodeId,
        place: &'static Location<'static>,
        ready: NonNull<Ready>,
    ) -> Self {
        Home {
            tasks: Cell::new(1),
            flags: Cell::new(WATCHED),
            born,
            node: Cell::new(node),
            leaf: Cell::new(0),
            place,
            frame: Frame::new(node),
            ready,
            joiner: Cell::new(None),
            wait: OwnWait::new(),
        }
    }
}

/// What can be done to a cell of unknown content. The `Task` is one of the type that the actions are of.
struct Actions {
    /// Makes a step. The owner calls it (rule 2); the task has not ended, and `RUNNING` has just been set.
    step: unsafe fn(&Task, &Run),
    /// Drops the future, in its place. `RUNNING` and `ENDED` have just been set.
    clear: unsafe fn(&Task),
    /// Moves the value, if there is one, to an `Option` of its type. The task has ended.
    take: unsafe fn(&Task, *mut ()),
    /// Frees the memory; in the run, if that is known. Nobody points to it any more, and nothing is in it.
    free: unsafe fn(NonNull<Head>, Option<&Run>),
}

/// What is to be done when a task ends.
pub(crate) trait Finish<R> {
    /// What the task's handle gets.
    type Value;

    /// The list that it is put on when it is woken.
    fn ready(&self) -> &Rc<Ready>;

    /// Called with the result, on the home thread, inside the task's last step.
    fn finish(self, task: &Task, result: thread::Result<R>) -> Option<Self::Value>;
}

/// Where a task begins.
pub(crate) struct Birth {
    /// The node that its own will be below.
    pub(crate) parent: NodeId,
    pub(crate) place: &'static Location<'static>,
    pub(crate) extra: Option<Box<Extra>>,
    /// It needs its node at once. Others get it when somebody asks, or when something is to be below it.
    pub(crate) in_tree: bool,
}

impl Birth {
    /// Of a task that is no child.
    pub(crate) fn named(name: &str, parent: NodeId, place: &'static Location<'static>) -> Self {
        let extra = Some(Box::new(Extra { name: Some(name.into()), ..Extra::default() }));
        Birth { parent, place, extra, in_tree: true }
    }
}

#[repr(C)]
struct TaskCell<F: Future, D: Finish<F::Output>> {
    head: Head,
    done: UnsafeCell<ManuallyDrop<D>>,
    content: UnsafeCell<Content<F, D::Value>>,
    _pinned: PhantomPinned,
}

/// The future, as long as the task has not ended; then the value, if it has that [flag](VALUE). The future stays where it
/// is until it is dropped.
union Content<F, V> {
    future: ManuallyDrop<F>,
    value: ManuallyDrop<V>,
}

/// Makes a task of `future`, and puts it on its list. That nothing on the way has to drop it lets the compiler take it from
/// where it was made.
///
/// # Safety
///
/// The caller is the owner of rules 1 and 2: it ends the task before `'a` ends, or is itself forgotten with the borrow
/// `'a` in it; and it, on the present thread, is the only one to make steps.
unsafe fn spawn<'a, F, D>(
    run: &Run,
    future: ManuallyDrop<F>,
    done: D,
    birth: Birth,
) -> Handle<D::Value>
where
    F: Future + 'a,
    D: Finish<F::Output> + 'a,
    D::Value: 'a,
{
    let Birth { parent, place, extra, in_tree } = birth;
    let ready = NonNull::from(&**done.ready());
    // It is put together in its place: nothing happens on the way that might need it elsewhere.
    let (cell, share) = TaskCell::<F, D>::allocate(&run.pool);
    let common = Common { refs: AtomicU32::new(1), actions: TaskCell::<F, D>::ACTIONS, share };
    let born = run.birth();
    // SAFETY: the memory is ours, and is that of a cell.
    unsafe {
        cell.write(TaskCell {
            head: Head { common, home: Home::new(born, parent, place, ready) },
            done: UnsafeCell::new(ManuallyDrop::new(done)),
            content: UnsafeCell::new(Content { future }),
            _pinned: PhantomPinned,
        });
    }
    let task = Task(cell.cast());
    if in_tree || extra.is_some() || !run.instruments.is_empty() {
        let node = task.enter_tree(&mut run.state.borrow_mut(), extra);
        run.instrument(|i| i.task_spawned(run.task_id(node)));
    }
    task.wake(run);
    Handle { task, _value: PhantomData }
}

/// Spawns a child that may borrow what outlives the nursery.
pub(crate) fn spawn_scoped<'scope, 'env, E, F, D>(
    nursery: &'scope Nursery<'scope, 'env, E>,
    future: ManuallyDrop<F>,
    done: D,
    birth: Birth,
) -> Handle<D::Value>
where
    F: Future + 'scope,
    D: Finish<F::Output> + 'scope,
    D::Value: 'scope,
{
    // SAFETY: `'scope` is a borrow of the nursery itself, a local of the future that drives it. That future's
    // `Owner` ends all children before the nursery, and so `'scope`, can end, and only it runs them.
    unsafe { spawn(&nursery.core.run, future, done, birth) }
}

/// Spawns a task that borrows nothing.
pub(crate) fn spawn_static<F, D>(run: &Run, future: F, done: D, birth: Birth) -> Handle<D::Value>
where
    F: Future + 'static,
    D: Finish<F::Output> + 'static,
    D::Value: 'static,
{
    // SAFETY: nothing is borrowed, so no borrow can end too early; the lists of a run are run by that run,
    // on its thread, only.
    unsafe { spawn(run, ManuallyDrop::new(future), done, birth) }
}

/// Spawns the main task of a run.
pub(crate) fn spawn_main<'a, F, D>(
    _owner: PhantomData<&'a mut &'a ()>,
    run: &Run,
    future: F,
    done: D,
    birth: Birth,
) -> Handle<D::Value>
where
    F: Future + 'a,
    D: Finish<F::Output> + 'a,
    D::Value: 'a,
{
    // SAFETY: the caller is `Guest<'a>`, which holds this `PhantomData`, has a destructor that ends all tasks,
    // and is the only one to run them.
    unsafe { spawn(run, ManuallyDrop::new(future), done, birth) }
}

/// Ends a suspended or queued task: drops its future where it is, on this thread.
///
/// For owners, while they do not poll: the task is not running. Returns false, and does nothing, if it is running after
/// all: if it ends itself through some detour.
pub(crate) fn end_task(run: &Run, task: &Task) -> bool {
    if task.has(ENDED | RUNNING) {
        return task.has(ENDED);
    }
    tell(run, task, |i, id| i.task_exited(id));
    if task.has(ENDED | RUNNING) {
        return true; // the hook has done it
    }
    let node = task.known_node().and_then(|id| run.state.borrow_mut().remove_task(id, task));
    task.leave_leaves();
    task.mark(ENDED | RUNNING);
    task.take_off_list();
    // SAFETY: of its own type; the flags have just been set.
    unsafe { (task.common().actions.clear)(task) };
    drop_quietly(node);
    task.unmark(RUNNING);
    task.wake_joiner(run);
    true
}

/// A task, seen by its run. Not `Send`.
pub(crate) struct Task(NonNull<Head>);

impl Clone for Task {
    #[inline]
    fn clone(&self) -> Self {
        let tasks = &self.home().tasks;
        match tasks.get().checked_add(1) {
            Some(more) => tasks.set(more),
            None => process::abort(), // four billion handles have been forgotten
        }
        Task(self.0)
    }
}

impl Drop for Task {
    #[inline]
    fn drop(&mut self) {
        self.let_go(None);
    }
}

impl Task {
    /// It is dropped; in its run, if that is known.
    #[inline]
    fn let_go(&mut self, run: Option<&Run>) {
        let home = self.home();
        let left = home.tasks.get() - 1;
        home.tasks.set(left);
        if left == 0 && self.has(ENDED) {
            // SAFETY: this was the last `Task`; they count as one.
            unsafe { release(self.0, run) };
        }
    }

    fn head(&self) -> &Head {
        // SAFETY: a `Task` keeps its cell.
        unsafe { self.0.as_ref() }
    }

    fn common(&self) -> &Common {
        &self.head().common
    }

    fn home(&self) -> &Home {
        &self.head().home
    }

    #[inline]
    fn has(&self, flags: u16) -> bool {
        self.home().flags.get() & flags != 0
    }

    #[inline]
    fn mark(&self, flags: u16) {
        let all = &self.home().flags;
        all.set(all.get() | flags);
    }

    #[inline]
    fn unmark(&self, flags: u16) {
        let all = &self.home().flags;
        all.set(all.get() & !flags);
    }

    /// The list that the task is put on. Not once it has ended.
    fn ready(&self) -> &Ready {
        debug_assert!(!self.has(ENDED), "its list may have gone");
        // SAFETY: rule 6: callers have looked at `ENDED`, or just set it and not yet dropped `done`.
        unsafe { self.home().ready.as_ref() }
    }

    pub(crate) fn is_on(&self, list: &Ready) -> bool {
        std::ptr::eq(self.home().ready.as_ptr(), list)
    }

    pub(crate) fn is(&self, other: &Task) -> bool {
        self.0 == other.0
    }

    pub(crate) fn born(&self) -> u32 {
        self.home().born
    }

    pub(crate) fn place(&self) -> &'static Location<'static> {
        self.home().place
    }

    #[inline]
    pub(crate) fn wait(&self) -> &OwnWait {
        &self.home().wait
    }

    /// Has its future gone?
    pub(crate) fn has_ended(&self) -> bool {
        self.has(ENDED)
    }

    #[inline]
    pub(crate) fn frame(&self) -> &Frame {
        &self.home().frame
    }

    #[inline]
    pub(crate) fn is_in_tree(&self) -> bool {
        self.has(IN_TREE)
    }

    pub(crate) fn is_leaf(&self) -> bool {
        self.has(LEAF)
    }

    pub(crate) fn set_leaf_index(&self, index: u32) {
        self.home().leaf.set(index);
    }

    /// Its node, or, as long as it has none, the one above.
    #[inline]
    pub(crate) fn seat(&self) -> NodeId {
        self.home().node.get()
    }

    /// Its node, if it has one.
    #[inline]
    pub(crate) fn known_node(&self) -> Option<NodeId> {
        self.has(IN_TREE).then(|| self.home().node.get())
    }

    /// Its node.
    #[inline]
    pub(crate) fn node(&self, run: &Run) -> NodeId {
        match self.known_node() {
            Some(node) => node,
            None => self.node_in(&mut run.state.borrow_mut()),
        }
    }

    /// The same, for who has borrowed the state.
    pub(crate) fn node_in(&self, state: &mut State) -> NodeId {
        match self.known_node() {
            Some(node) => node,
            None => self.enter_tree(state, None),
        }
    }

    /// It loses its place in the tree. Returns its node, if it has one.
    #[inline]
    pub(crate) fn leave_tree(&self) -> Option<NodeId> {
        self.mark(LEFT);
        self.known_node()
    }

    #[cold]
    fn enter_tree(&self, state: &mut State, extra: Option<Box<Extra>>) -> NodeId {
        let home = self.home();
        let mut node = Node::new(Kind::Task(self.clone()), home.place);
        node.born = home.born;
        node.extra = extra;
        let above = home.node.get();
        if home.wait.state() == Some(WaitState::Cancelled) {
            node.reason = state.known_reason(above); // it has been delivered, and stands
        }
        let id = state.insert(Some(above), node);
        if self.has(LEFT) {
            state.remove(id); // all it wants is a name of its own
        }
        home.node.set(id);
        home.frame.enter(id); // if it runs, it is there
        home.wait.follow(above, id);
        self.mark(IN_TREE);
        self.leave_leaves();
        id
    }

    /// It becomes a leaf.
    #[inline]
    fn join_leaves(&self) {
        self.mark(LEAF);
        self.set_leaf_index(self.ready().add_leaf(self.clone()));
    }

    /// It is no leaf any more.
    #[inline]
    fn leave_leaves(&self) {
        if self.has(LEAF) {
            self.leave_leaves_now();
        }
    }

    #[inline(never)]
    fn leave_leaves_now(&self) {
        self.unmark(LEAF);
        let leaf = self.ready().remove_leaf(self.home().leaf.get());
        debug_assert!(leaf.is_some_and(|leaf| leaf.is(self)), "its index");
    }

    /// Puts the task on its list. `None`: it is there already, or will be, or has ended. Otherwise returned is whether
    /// the list's [owner](Self::take_owner) is to be woken.
    #[inline]
    pub(crate) fn queue(&self) -> Option<bool> {
        self.goes_on_list(0).then(|| self.ready().push(self.clone()))
    }

    /// A leaf that goes on its list is none any more: returns whether the caller is to put it there.
    #[inline]
    pub(crate) fn leaf_goes_on_list(&self) -> bool {
        self.goes_on_list(LEAF)
    }

    /// It is to go on its list, unless it is there already, or will be, or has ended; and has a flag no more then.
    #[inline]
    fn goes_on_list(&self, but: u16) -> bool {
        let flags = &self.home().flags;
        let before = flags.get();
        if before & (QUEUED | RUNNING | ENDED | AGAIN) == 0 {
            flags.set(before & !but | QUEUED);
            return true;
        }
        if before & (RUNNING | ENDED | AGAIN) == RUNNING {
            flags.set(before | AGAIN);
            self.ready().load.add(1); // that is something to do, too
        }
        false
    }

    /// It has been taken off its list, by the list itself.
    pub(crate) fn unqueue(&self) {
        self.unmark(QUEUED);
    }

    /// For a task that is just ending.
    fn take_off_list(&self) {
        if self.has(QUEUED) {
            self.unmark(QUEUED);
            // SAFETY: rule 6: `done` is still there.
            unsafe { self.home().ready.as_ref() }.remove(self);
        }
    }

    /// Puts the task on its list, and wakes who looks there.
    #[inline]
    pub(crate) fn wake(&self, run: &Run) {
        if let Some(wakes_owner) = self.queue() {
            self.was_put(run, wakes_owner);
        }
    }

    /// It has been put on its list: tells those who have to know.
    #[inline]
    fn was_put(&self, run: &Run, wakes_owner: bool) {
        if wakes_owner || context::is_watched() {
            self.was_queued(run, wakes_owner);
        }
    }

    /// The same, for who may not be in the run just now: then the host has to poll.
    #[inline(always)]
    pub(crate) fn wake_from_anywhere(&self, run: &Run) {
        self.wake(run);
        if !context::is_current(run) {
            run.wake_host();
        }
    }

    /// Whom to wake, with nothing borrowed, when the task has been put on its list.
    pub(crate) fn take_owner(&self) -> Option<Owner> {
        self.ready().take_owner()
    }

    #[cold]
    fn was_queued(&self, run: &Run, wakes_owner: bool) {
        if wakes_owner && let Some(owner) = self.take_owner() {
            owner.wake(run);
        }
        if !run.instruments.is_empty() && !self.has(ENDED) {
            let node = self.node(run);
            run.instrument(|i| i.task_scheduled(run.task_id(node)));
        }
    }

    /// Makes a step. For its owner only (rule 2), which has taken it off its list.
    #[inline]
    pub(crate) fn step(self, run: &Run) {
        let flags = &self.home().flags;
        let before = flags.get() & !QUEUED;
        let can_run = before & (RUNNING | ENDED) == 0;
        flags.set(if can_run { before | RUNNING } else { before });
        if can_run {
            // SAFETY: of its own type; it is its owner's turn (rule 2).
            unsafe { (self.common().actions.step)(&self, run) };
        }
        ManuallyDrop::new(self).let_go(Some(run));
    }

    fn wake_joiner(&self, run: &Run) {
        if let Some(joiner) = self.home().joiner.take() {
            run.change(|state, fx| state.wake_wait(&joiner, WaitState::Woken, fx));
        }
    }

    /// Is `waker` one of this task's?
    #[inline]
    pub(crate) fn is_woken_by(&self, waker: &Waker) -> bool {
        waker.data() == self.0.as_ptr().cast_const().cast() && std::ptr::eq(waker.vtable(), &WAKER)
    }

    /// As a waker borrows it.
    fn raw(&self) -> RawWaker {
        RawWaker::new(self.0.as_ptr().cast_const().cast(), &WAKER)
    }
}

/// The task that is being polled, as [`context`] knows it: for the length of a step, which keeps the `Task`.
#[derive(Clone, Copy)]
pub(crate) struct Current(NonNull<Head>);

impl Current {
    pub(crate) fn new(task: &Task) -> Self {
        Current(task.0)
    }

    /// Calls `f` with the task.
    #[inline]
    pub(crate) fn with<R>(self, f: impl FnOnce(&Task) -> R) -> R {
        let task = ManuallyDrop::new(Task(self.0));
        f(&task)
    }
}

/// The task's value, for who waits for it.
pub(crate) struct Handle<V> {
    task: Task,
    _value: PhantomData<V>,
}

impl<V> Handle<V> {
    pub(crate) fn task(&self) -> &Task {
        &self.task
    }

    /// Is it a task of this run?
    pub(crate) fn is_in(&self, run: &Run) -> bool {
        *self.task.common().share.home() == Door { inbox: run.inbox, generation: run.generation }
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.task.has(ENDED) && !self.task.has(RUNNING)
    }

    /// The wait that is woken at the end.
    pub(crate) fn set_joiner(&self, waiter: Option<Waiter>) {
        if !self.is_finished() {
            self.task.home().joiner.set(waiter);
        }
    }

    /// Takes the value of a task that has ended. `None`: there is none, or not any more.
    pub(crate) fn take(&mut self) -> Option<V> {
        let mut value: Option<V> = None;
        if self.is_finished() {
            // SAFETY: of its own type, of which `V` is the type of the value: `spawn` made this handle with it.
            unsafe { (self.task.common().actions.take)(&self.task, (&raw mut value).cast()) };
        }
        value
    }
}

impl<V> Drop for Handle<V> {
    /// Lets the task go on by itself.
    fn drop(&mut self) {
        self.task.unmark(WATCHED);
        drop(self.task.home().joiner.take()); // nobody waits any more
        drop(self.take()); // if it is ending just now, its step drops the value
    }
}

impl<F: Future, D: Finish<F::Output>> TaskCell<F, D> {
    const ACTIONS: &'static Actions =
        &Actions { step: Self::step, clear: Self::clear, take: Self::take, free: Self::free };

    /// How many parts of a block it takes. Those that follow an address are not always enough for a higher alignment.
    const PARTS: usize = {
        let slack = align_of::<Self>().saturating_sub(align_of::<Part>());
        (size_of::<Self>() + slack).div_ceil(size_of::<Part>())
    };

    /// Is its memory from the pool, and goes there again?
    const POOLED: bool = Self::PARTS <= pool::LARGEST && align_of::<Self>() <= align_of::<Part>();

    /// Memory for one.
    #[inline]
    fn allocate(pool: &Pool) -> (NonNull<Self>, Share) {
        if Self::POOLED {
            let Block { at, share } = pool.take(Self::PARTS);
            return (at.cast(), share);
        }
        let Block { at, share } = pool.take_apart(Self::PARTS);
        let aligned = at.addr().get().next_multiple_of(align_of::<Self>());
        (at.with_addr(NonZero::new(aligned).expect("it fits in the block")).cast(), share)
    }

    /// See [`Actions::free`].
    unsafe fn free(head: NonNull<Head>, run: Option<&Run>) {
        // SAFETY: by the caller's promise.
        let common = unsafe { &head.as_ref().common };
        let is_home = run.is_some() || common.is_home();
        // SAFETY: we are alone, and it is not looked at any more.
        let share = unsafe { (&raw const common.share).read() };
        if !Self::POOLED || !is_home {
            return drop(share);
        }
        let block = Block { at: head.cast(), share };
        match run {
            Some(run) => run.pool.put(block, Self::PARTS),
            None => context::with_run(|run| match run {
                Some(run) => run.pool.put(block, Self::PARTS),
                None => drop(block),
            }),
        }
    }

    /// # Safety
    ///
    /// The task is of this type.
    unsafe fn of(task: &Task) -> &Self {
        // SAFETY: by the caller's promise; the pointer is that of the whole cell, which `task` keeps.
        unsafe { task.0.cast::<Self>().as_ref() }
    }

    /// See [`Actions::step`].
    unsafe fn step(task: &Task, run: &Run) {
        // SAFETY: by the caller's promise.
        let this = unsafe { Self::of(task) };
        run.count_step();
        let node = task.home().node.get();
        let cancelled = run.state.borrow().effective(node);
        // SAFETY: `WAKER` keeps the contract of wakers; this one is borrowed from `task`, and not dropped.
        let waker = ManuallyDrop::new(unsafe { Waker::from_raw(task.raw()) });
        {
            let _task = context::enter_task(task, node, cancelled, run.budget);
            tell(run, task, |i, id| i.before_task_step(id));
            match this.poll_future(&mut Context::from_waker(&waker)) {
                Poll::Pending => {
                    task.suspend(run);
                    tell(run, task, |i, id| i.after_task_step(id));
                    return;
                }
                Poll::Ready(result) => {
                    let result = this.end_future(result);
                    this.finish(task, run, result);
                    tell(run, task, |i, id| i.after_task_step(id));
                }
            }
        }
        task.unmark(RUNNING);
        if !task.has(WATCHED) {
            drop_quietly(this.take_value(task));
        }
    }

    /// Polls the future.
    #[inline]
    fn poll_future(&self, cx: &mut Context<'_>) -> Poll<thread::Result<F::Output>> {
        let result = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: rule 5: `RUNNING` is set, so that nobody else touches the content.
            let content = unsafe { &mut *self.content.get() };
            // SAFETY: the task has not ended.
            let future = unsafe { &mut *content.future };
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

    /// Drops the future, in its place. The task is ending, which happens once.
    #[inline]
    fn empty(&self) -> thread::Result<()> {
        catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: rule 5.
            let content = unsafe { &mut *self.content.get() };
            // SAFETY: the future is there, and is not looked at any more, also if this panics.
            unsafe { ManuallyDrop::drop(&mut content.future) };
        }))
    }

    /// Drops the future, which has ended, promptly.
    #[inline]
    fn end_future(&self, mut result: thread::Result<F::Output>) -> thread::Result<F::Output> {
        if let Err(panic) = self.empty()
            && result.is_ok()
        {
            // The value, which nobody will get, may panic in its turn.
            drop_quietly(std::mem::replace(&mut result, Err(panic)));
        }
        result
    }

    /// Moves `done` out. `ENDED` has just been set, which happens once.
    fn take_done(&self) -> D {
        // SAFETY: rule 5.
        let done = unsafe { &mut *self.done.get() };
        // SAFETY: taken once.
        unsafe { ManuallyDrop::take(done) }
    }

    /// Reports the result.
    #[inline]
    fn finish(&self, task: &Task, run: &Run, result: thread::Result<F::Output>) {
        if task.has(AGAIN) {
            task.ready().load.sub(1);
        }
        task.leave_leaves();
        task.mark(ENDED);
        let done = self.take_done();
        let value = done.finish(task, result);
        if task.has(WATCHED) {
            if let Some(value) = value {
                // SAFETY: rule 5.
                unsafe { self.content.get().write(Content { value: ManuallyDrop::new(value) }) };
                task.mark(VALUE);
            }
            task.unmark(RUNNING); // whoever is woken may take the value at once
            task.wake_joiner(run);
        } else {
            drop_quietly(value);
        }
    }

    fn take_value(&self, task: &Task) -> Option<D::Value> {
        if !task.has(VALUE) {
            return None;
        }
        task.unmark(VALUE);
        // SAFETY: the task has ended: the content is touched only here, for a moment.
        let content = unsafe { &mut *self.content.get() };
        // SAFETY: the flag said that it is there. Taken once.
        Some(unsafe { ManuallyDrop::take(&mut content.value) })
    }

    /// See [`Actions::clear`].
    unsafe fn clear(task: &Task) {
        // SAFETY: by the caller's promise.
        let this = unsafe { Self::of(task) };
        if let Err(panic) = this.empty() {
            note_drop_panic(panic);
        }
        drop_quietly(this.take_done());
    }

    /// See [`Actions::take`].
    unsafe fn take(task: &Task, to: *mut ()) {
        // SAFETY: by the caller's promise.
        let this = unsafe { Self::of(task) };
        // SAFETY: by the caller's promise.
        let to = unsafe { &mut *to.cast::<Option<D::Value>>() };
        *to = this.take_value(task);
    }
}

impl Task {
    /// The step is over, and the task waits, or has been woken meanwhile.
    #[inline]
    fn suspend(&self, run: &Run) {
        let flags = &self.home().flags;
        let before = flags.get() & !RUNNING;
        if before & AGAIN == 0 {
            flags.set(before);
            if before & (IN_TREE | LEAF) == 0 {
                self.join_leaves(); // there it is found
            }
            return;
        }
        flags.set(before & !AGAIN | QUEUED);
        self.was_put(run, self.ready().push_again(self.clone()));
    }
}

/// Tells the instruments, if there are any.
#[inline]
fn tell(run: &Run, task: &Task, hook: impl Fn(&dyn Instrument, TaskId)) {
    if !run.instruments.is_empty() {
        let id = run.task_id(task.node(run));
        run.instrument(|instrument| hook(instrument, id));
    }
}

/// A task that was woken from outside, on its way home.
pub(crate) struct Sent(NonNull<Head>);

// SAFETY: rule 4: until it is home, only `Common` is touched.
unsafe impl Send for Sent {}

impl Sent {
    /// Wakes the task, at home.
    pub(crate) fn deliver(self, run: &Run) {
        // SAFETY: a `Sent` counts in `refs`.
        let head = unsafe { self.0.as_ref() };
        // What the thread that woke it did before is seen by the step that follows.
        head.common.refs.fetch_and(!SENT, Ordering::Acquire);
        ManuallyDrop::new(Task(self.0)).wake(run); // it counts as long as it is here
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        // SAFETY: a `Sent` counts in `refs`.
        unsafe { release(self.0, None) };
    }
}

static WAKER: RawWakerVTable = RawWakerVTable::new(clone_waker, wake, wake_by_ref, drop_waker);

/// Adds a reference.
unsafe fn retain(head: NonNull<Head>) {
    // SAFETY: the caller has one.
    let refs = unsafe { &head.as_ref().common.refs };
    if refs.fetch_add(1, Ordering::Relaxed) & !SENT > !SENT / 2 {
        process::abort();
    }
}

/// Takes a reference away. With the last one the memory goes; the task has ended (rule 3).
unsafe fn release(head: NonNull<Head>, run: Option<&Run>) {
    // SAFETY: the caller has a reference.
    let common = unsafe { &head.as_ref().common };
    // Whoever has the only one is alone.
    if common.refs.load(Ordering::Acquire) & !SENT != 1 {
        if common.refs.fetch_sub(1, Ordering::Release) & !SENT != 1 {
            return;
        }
        fence(Ordering::Acquire);
    }
    // SAFETY: that was the last reference; the task has ended, so that nothing is in the cell.
    unsafe { (common.actions.free)(head, run) };
}

fn head_of(waker: *const ()) -> NonNull<Head> {
    NonNull::new(waker.cast_mut().cast()).expect("made by `Task::raw`")
}

unsafe fn clone_waker(waker: *const ()) -> RawWaker {
    // SAFETY: the waker that is cloned keeps the cell.
    unsafe { retain(head_of(waker)) };
    RawWaker::new(waker, &WAKER)
}

unsafe fn wake(waker: *const ()) {
    // SAFETY: the same waker.
    unsafe { wake_by_ref(waker) };
    // SAFETY: it has been used up.
    unsafe { drop_waker(waker) };
}

unsafe fn wake_by_ref(waker: *const ()) {
    let head = head_of(waker);
    // SAFETY: the waker keeps the cell.
    let common = unsafe { &head.as_ref().common };
    if common.is_home() {
        let task = ManuallyDrop::new(Task(head));
        if let Some(wakes_owner) = task.queue()
            && (wakes_owner || context::is_watched())
            && let Some(run) = context::try_current_run()
        {
            task.was_queued(&run, wakes_owner);
        }
    } else if common.refs.fetch_or(SENT, Ordering::AcqRel) & SENT == 0 {
        // SAFETY: the waker keeps the cell; the reference is the `Sent`'s.
        unsafe { retain(head) };
        let home = common.share.home();
        home.inbox.push_woken(home.generation, Sent(head));
    }
}

unsafe fn drop_waker(waker: *const ()) {
    // SAFETY: the waker counts in `refs`.
    unsafe { release(head_of(waker), None) };
}
