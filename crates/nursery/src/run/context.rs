//! Where the thread is: the current run, node and task, set while they are polled.
//!
//! The fast path of every checkpoint reads nothing but plain cells: which task is current, here, and its [`Frame`], which
//! lies in the task's own cell. `cancelled` is a copy of the current node's state in the tree: it is taken when the node becomes current, and again after every
//! change that flips some node ([`refresh`]). A guard that puts an outer position back knows by `flips`
//! whether its own copy is still good.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use slotmap::{Key as _, KeyData};

use crate::deadlines::{Deadlines, Tick, nanos};
use crate::nursery::erase::{Current, Task};
use crate::run::Run;
use crate::run::inbox::Inbox;
use crate::stats::TaskId;
use crate::tree::NodeId;
use crate::wait::own::Within;

/// Where a task is. It lives in the task's cell, and is current while the task is polled.
pub(crate) struct Frame {
    /// The current node. As long as the task has none, that above it.
    node: Cell<Packed>,
    points: Cell<Points>,
    /// How many operations may still succeed in this poll of the task without yielding.
    budget: Cell<u32>,
    /// Is the current node effectively cancelled?
    cancelled: Cell<bool>,
}

/// A node, in one word: it is stored by halves otherwise, and to load what was just stored so takes long.
#[derive(Clone, Copy)]
struct Packed(u64);

impl Packed {
    #[inline]
    fn new(node: NodeId) -> Self {
        Packed(node.data().as_ffi())
    }

    #[inline]
    fn node(self) -> NodeId {
        KeyData::from_ffi(self.0).into()
    }
}

impl Frame {
    pub(crate) fn new(node: NodeId) -> Self {
        Frame {
            node: Cell::new(Packed::new(node)),
            points: Cell::new(Points { cancel: 0, schedule: 0 }),
            budget: Cell::new(0),
            cancelled: Cell::new(false),
        }
    }

    /// Goes to a new node right below. What reached the task above reaches it there.
    #[inline]
    pub(crate) fn enter(&self, node: NodeId) {
        self.node.set(Packed::new(node));
    }
}

struct Hot {
    current: Cell<Option<Current>>,
    /// Changes when any node flips.
    flips: Cell<u32>,
    home: Cell<Home>,
    /// The scope in which the thread is though its node is not in the tree yet.
    deferred: Cell<Option<Deferred>>,
}

/// Calls `f` with the current task's frame, if there is one.
#[inline]
fn with_frame<R>(f: impl FnOnce(Option<&Frame>) -> R) -> R {
    match HOT.with(|hot| hot.current.get()) {
        Some(current) => current.with(|task| f(Some(task.frame()))),
        None => f(None),
    }
}

/// What a waker has to know of the current run.
#[derive(Clone, Copy)]
struct Home {
    /// Address of its inbox; 0 outside runs.
    inbox: usize,
    generation: u32,
    /// It has instruments, or had some.
    is_watched: bool,
    is_system_clock: bool,
}

impl Home {
    const NONE: Home = Home { inbox: 0, generation: 0, is_watched: false, is_system_clock: false };

    fn of(run: &Run) -> Home {
        Home {
            inbox: std::ptr::from_ref(run.inbox).addr(),
            generation: run.generation,
            is_watched: !run.instruments.is_empty(),
            is_system_clock: run.is_system_clock,
        }
    }
}

/// How often a task has passed a cancel point and a schedule point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Points {
    pub(crate) cancel: u32,
    pub(crate) schedule: u32,
}

thread_local! {
    static HOT: Hot = const {
        Hot {
            current: Cell::new(None),
            flips: Cell::new(0),
            home: Cell::new(Home::NONE),
            deferred: Cell::new(None),
        }
    };
    static RUN: RefCell<Option<Rc<Run>>> = const { RefCell::new(None) };
}

/// Puts back what was current before.
pub(crate) struct RunGuard {
    outer: Option<Rc<Run>>,
    home: Home,
    current: Option<Current>,
}

/// Makes `run` the current one, at no task.
pub(crate) fn enter_run(run: &Rc<Run>) -> RunGuard {
    settle();
    let outer = set_run(Some(run.clone()));
    HOT.with(|hot| RunGuard {
        outer,
        home: hot.home.replace(Home::of(run)),
        current: hot.current.take(),
    })
}

/// Nothing is set while the thread is being torn down, and what it still drops is dropped.
fn set_run(run: Option<Rc<Run>>) -> Option<Rc<Run>> {
    RUN.try_with(|current| current.replace(run)).ok().flatten()
}

impl Drop for RunGuard {
    fn drop(&mut self) {
        let ended = set_run(self.outer.take());
        drop(ended);
        HOT.with(|hot| {
            hot.current.set(self.current);
            hot.home.set(self.home);
            hot.flips.set(hot.flips.get().wrapping_add(1));
        });
        refresh_current();
    }
}

/// Puts the outer node back.
pub(crate) struct NodeGuard {
    outer: Option<(NodeId, bool)>,
    flips: u32,
}

/// Makes `node` the current one.
#[inline]
pub(crate) fn enter_node(node: NodeId, cancelled: bool) -> NodeGuard {
    let outer = with_frame(|frame| {
        frame.map(|frame| {
            let outer = frame.node.replace(Packed::new(node)).node();
            (outer, frame.cancelled.replace(cancelled))
        })
    });
    NodeGuard { outer, flips: HOT.with(|hot| hot.flips.get()) }
}

impl Drop for NodeGuard {
    #[inline]
    fn drop(&mut self) {
        let Some((node, cancelled)) = self.outer else { return };
        set_position(node, cancelled);
        if HOT.with(|hot| hot.flips.get()) != self.flips {
            refresh_current();
        }
    }
}

#[inline]
fn set_position(node: NodeId, cancelled: bool) {
    with_frame(|frame| {
        if let Some(frame) = frame {
            frame.enter(node);
            frame.cancelled.set(cancelled);
        }
    });
}

/// A time limit whose scope is not in the tree yet.
///
/// Most bodies of a time limit are ready at once, and never need its node: it is made when somebody asks for the current
/// node. When the body has to wait it becomes a [`Light`](crate::scope::light::Light) one if it can, and is deferred again
/// whenever it is polled. There is one at a time.
#[derive(Clone, Copy)]
pub(crate) struct Deferred {
    /// One word: a `Duration` would be stored by parts, and read back as one.
    pub(crate) tick: Tick,
    /// It counts from the next reading of the clock. Else it counts already.
    pub(crate) is_after: bool,
    /// It is the task's light scope, which has its timer: the two above say nothing.
    is_light: bool,
    pub(crate) place: &'static Location<'static>,
}

#[cold]
fn tick_after(nanos: Tick) -> Tick {
    try_current_run().map_or(nanos, |run| {
        let now = run.now();
        run.state.borrow().deadlines.tick(now).saturating_add(nanos)
    })
}

/// Puts the outer node back. Dropped without a word, it takes the node out again.
pub(crate) struct DeferredGuard {
    /// `None`: the task's own.
    outer: Option<NodeId>,
    flips: u32,
}

/// How a deferred scope was left.
pub(crate) enum Left {
    WithoutNode(Deferred),
    Entered(NodeId),
}

/// Makes a scope with a time limit, which was never entered before, the current one. Outside tasks it is `None`.
#[inline(always)]
pub(crate) fn defer(timeout: Duration, place: &'static Location<'static>) -> Option<DeferredGuard> {
    let is_after = HOT.with(|hot| hot.home.get().is_system_clock);
    let nanos = nanos(timeout);
    // A virtual clock may be moved by hand in this very step.
    let tick = if is_after { nanos } else { tick_after(nanos) };
    enter_deferred(Deferred { tick, is_after, is_light: false, place })
}

/// Makes the light scope of the current task the current one.
#[inline]
pub(crate) fn resume(place: &'static Location<'static>) -> Option<DeferredGuard> {
    enter_deferred(Deferred { tick: 0, is_after: false, is_light: true, place })
}

#[inline(always)]
fn enter_deferred(deferred: Deferred) -> Option<DeferredGuard> {
    if HOT.with(|hot| hot.deferred.get().is_some()) {
        settle();
    }
    let outer = HOT.with(|hot| hot.current.get())?.with(|task| {
        let node = task.frame().node.get().node();
        Some(node).filter(|&node| node != task.seat())
    });
    HOT.with(|hot| {
        hot.deferred.set(Some(deferred));
        Some(DeferredGuard { outer, flips: hot.flips.get() })
    })
}

impl DeferredGuard {
    /// Leaves the scope. Its node, if it has one, is the caller's.
    #[inline]
    pub(crate) fn leave(self) -> Left {
        ManuallyDrop::new(self).restore()
    }

    #[inline]
    fn restore(&self) -> Left {
        if let Some(deferred) = HOT.with(|hot| hot.deferred.take()) {
            return Left::WithoutNode(deferred);
        }
        let (entered, seat) = with_current(|task, position| (position, task.seat()));
        set_position(self.outer.unwrap_or(seat), is_cancelled_now());
        if HOT.with(|hot| hot.flips.get()) != self.flips {
            refresh_current();
        }
        Left::Entered(entered)
    }
}

impl Drop for DeferredGuard {
    /// For panics.
    #[inline]
    fn drop(&mut self) {
        match self.restore() {
            Left::Entered(node) => {
                let node = with_run(|run| run.and_then(|run| run.state.borrow_mut().remove(node)));
                drop(node);
            }
            Left::WithoutNode(_) => leave_within(),
        }
    }
}

/// Calls `f` with the current task and the current node. There is a task.
#[inline]
pub(crate) fn with_current<R>(f: impl FnOnce(&Task, NodeId) -> R) -> R {
    let current = HOT.with(|hot| hot.current.get()).expect("a task is polled");
    current.with(|task| f(task, task.frame().node.get().node()))
}

/// Where a wait is that begins now.
#[inline]
pub(crate) fn within() -> Within {
    let is_deferred = HOT.with(|hot| hot.deferred.get().is_some());
    if is_deferred { Within::Deferred } else { Within::Node }
}

/// The current scope, which has no node, is left: a wait of the task that is still there is outside.
#[inline]
pub(crate) fn leave_within() {
    with_current(|task, _| task.wait().leave_within());
}

/// Is a wait that began within that in the current scope?
#[inline]
pub(crate) fn is_within(within: Within) -> bool {
    match HOT.with(|hot| hot.deferred.get()) {
        None => within == Within::Node,
        Some(Deferred { is_light: true, .. }) => within != Within::Node,
        Some(_) => within == Within::Deferred,
    }
}

/// Gives the current task its node, and the deferred scope, if there is one, its own.
#[inline]
pub(crate) fn settle() {
    let (current, is_deferred) = HOT.with(|hot| (hot.current.get(), hot.deferred.get().is_some()));
    if current.is_some_and(|current| !current.with(Task::is_in_tree)) {
        enter_task_now();
    }
    if is_deferred {
        enter_deferred_now();
    }
}

#[cold]
fn enter_task_now() {
    let current = HOT.with(|hot| hot.current.get());
    if let (Some(current), Some(run)) = (current, try_current_run()) {
        current.with(|task| task.node(&run));
    }
}

#[cold]
fn enter_deferred_now() {
    let (deferred, parent) = (HOT.with(|hot| hot.deferred.take()), current_node());
    let (Some(deferred), Some(task)) = (deferred, current()) else { return };
    let entered = with_run(|run| {
        let run = run?;
        let mut state = run.state.borrow_mut();
        if deferred.is_light {
            task.wait().keep_within();
            return state.settle_light(&task, run.birth());
        }
        let timer = |deadlines: &mut Deadlines, target| deadlines.set_deferred(target, &deferred);
        let node = state.insert_limit(parent, run.birth(), deferred.place, timer);
        state.move_within(&task, Within::Deferred, node);
        Some(node)
    });
    with_frame(|frame| frame.zip(entered).inspect(|(frame, node)| frame.enter(*node)).is_some());
}

/// Puts the outer task back.
pub(crate) struct TaskGuard<'a> {
    outer: Option<Current>,
    flips: u32,
    _task: PhantomData<&'a Task>,
}

/// Makes `task` the current one for a poll; it has the run's whole budget. `node` is its own, or the one above.
#[inline]
pub(crate) fn enter_task(task: &Task, node: NodeId, cancelled: bool, budget: u32) -> TaskGuard<'_> {
    let frame = task.frame();
    frame.enter(node);
    frame.budget.set(budget - 1);
    frame.cancelled.set(cancelled);
    HOT.with(|hot| TaskGuard {
        outer: hot.current.replace(Some(Current::new(task))),
        flips: hot.flips.get(),
        _task: PhantomData,
    })
}

impl Drop for TaskGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        let stale = HOT.with(|hot| {
            hot.current.set(self.outer);
            hot.flips.get() != self.flips
        });
        if stale {
            refresh_current();
        }
    }
}

/// Is this the inbox of the current run?
#[inline]
pub(crate) fn is_home(inbox: &'static Inbox, generation: u32) -> bool {
    let home = HOT.with(|hot| hot.home.get());
    home.inbox == std::ptr::from_ref(inbox).addr() && home.generation == generation
}

/// The current run's, which tells it from all others.
#[inline]
pub(crate) fn current_generation() -> Option<u32> {
    let home = HOT.with(|hot| hot.home.get());
    (home.inbox != 0).then_some(home.generation)
}

/// May the current run have instruments?
#[inline]
pub(crate) fn is_watched() -> bool {
    HOT.with(|hot| hot.home.get().is_watched)
}

/// The current run gets an instrument.
pub(crate) fn watch() {
    HOT.with(|hot| hot.home.set(Home { is_watched: true, ..hot.home.get() }));
}

/// Is this a waker of the current task?
#[inline]
pub(crate) fn is_task_waker(waker: &Waker) -> bool {
    HOT.with(|hot| hot.current.get())
        .is_some_and(|current| current.with(|task| task.is_woken_by(waker)))
}

/// Is the current node effectively cancelled? Counts as a cancel point.
#[inline]
pub(crate) fn is_cancelled() -> bool {
    with_frame(|frame| {
        frame.is_some_and(|frame| {
            let points = frame.points.get();
            frame.points.set(Points { cancel: points.cancel.wrapping_add(1), ..points });
            frame.cancelled.get()
        })
    })
}

/// The same, not counted.
#[inline]
pub(crate) fn is_cancelled_now() -> bool {
    with_frame(|frame| frame.is_some_and(|frame| frame.cancelled.get()))
}

/// Takes one from the budget. Returns false if it is used up, or outside tasks: the operation has to yield.
#[inline]
pub(crate) fn spend_budget() -> bool {
    with_frame(|frame| {
        let rest = frame.and_then(|frame| Some((frame, frame.budget.get().checked_sub(1)?)));
        rest.inspect(|(frame, rest)| frame.budget.set(*rest)).is_some()
    })
}

/// Makes the next operation of the current task yield.
pub(crate) fn exhaust_budget() {
    with_frame(|frame| frame.inspect(|frame| frame.budget.set(0)).is_some());
}

pub(crate) fn count_schedule_point() {
    with_frame(|frame| {
        if let Some(frame) = frame {
            let points = frame.points.get();
            frame.points.set(Points { schedule: points.schedule.wrapping_add(1), ..points });
        }
    });
}

pub(crate) fn points() -> Points {
    with_frame(|frame| frame.map(|frame| frame.points.get()).unwrap_or_default())
}

/// Takes a new copy of the current node's state, if `run` is the current run.
pub(crate) fn refresh(run: &Run) {
    HOT.with(|hot| hot.flips.set(hot.flips.get().wrapping_add(1)));
    if is_current(run) {
        refresh_current();
    }
}

fn refresh_current() {
    let Some(node) = current_node() else { return };
    let cancelled = with_run(|run| run.is_some_and(|run| run.state.borrow().effective(node)));
    set_position(node, cancelled);
}

/// The current node, or the one that it will be below.
#[inline]
fn current_node() -> Option<NodeId> {
    with_frame(|frame| frame.map(|frame| frame.node.get().node()))
}

#[inline]
pub(crate) fn is_current(run: &Run) -> bool {
    is_home(run.inbox, run.generation)
}

/// Calls `f` with the current run; with none, too, while the thread is being torn down. `f` must not poll, wake
/// or drop anything foreign.
pub(crate) fn with_run<R>(f: impl FnOnce(Option<&Rc<Run>>) -> R) -> R {
    let mut f = Some(f);
    let mut call = |run: Option<&Rc<Run>>| f.take().map(|f| f(run));
    let result = RUN.try_with(|run| call(run.borrow().as_ref()));
    result.unwrap_or_else(|_| call(None)).expect("called once")
}

/// The current run, if there is one (also not while the thread is being torn down).
pub(crate) fn try_current_run() -> Option<Rc<Run>> {
    RUN.try_with(|run| run.borrow().clone()).ok().flatten()
}

/// The current run.
///
/// # Panics
///
/// Outside a run, with advice.
#[track_caller]
pub(crate) fn current_run(what: &str) -> Rc<Run> {
    current_run_at(what, Location::caller())
}

/// The same, for what was made at `place`.
pub(crate) fn current_run_at(what: &str, place: &Location<'_>) -> Rc<Run> {
    match try_current_run() {
        Some(run) => run,
        None => outside(what, place),
    }
}

/// The current node.
///
/// # Panics
///
/// Outside a task, with advice.
#[track_caller]
pub(crate) fn position(what: &str) -> NodeId {
    position_at(what, Location::caller())
}

/// The same, for what was made at `place`.
pub(crate) fn position_at(what: &str, place: &Location<'_>) -> NodeId {
    settle();
    current_node().unwrap_or_else(|| outside(what, place))
}

/// The current node, for something that adds nothing below it: that above, as long as the task, or the time limit that is
/// current, has none.
///
/// # Panics
///
/// Outside a task, with advice.
#[track_caller]
pub(crate) fn seat(what: &str) -> NodeId {
    seat_at(what, Location::caller())
}

/// The same, for what was made at `place`.
#[inline]
pub(crate) fn seat_at(what: &str, place: &Location<'_>) -> NodeId {
    current_node().unwrap_or_else(|| outside(what, place))
}

/// Panics, with advice, outside a task.
#[inline]
#[track_caller]
pub(crate) fn expect_task(what: &str) {
    expect_task_at(what, Location::caller());
}

/// The same, for what was made at `place`.
#[inline]
pub(crate) fn expect_task_at(what: &str, place: &Location<'_>) {
    if !is_in_task() {
        outside(what, place);
    }
}

/// The current task.
///
/// # Panics
///
/// Outside a task, with advice.
#[track_caller]
pub(crate) fn task(what: &str) -> Task {
    task_at(what, Location::caller())
}

/// The same, for what was made at `place`.
#[inline]
pub(crate) fn task_at(what: &str, place: &Location<'_>) -> Task {
    current().unwrap_or_else(|| outside(what, place))
}

/// The current task.
#[inline]
pub(crate) fn current() -> Option<Task> {
    HOT.with(|hot| hot.current.get()).map(|current| current.with(Task::clone))
}

#[inline]
pub(crate) fn is_current_task(task: &Task) -> bool {
    HOT.with(|hot| hot.current.get()).is_some_and(|current| current.with(|it| it.is(task)))
}

/// The node of the current task.
pub(crate) fn current_task() -> Option<NodeId> {
    settle();
    known_task()
}

/// The same, if it has one yet.
#[inline]
pub(crate) fn known_task() -> Option<NodeId> {
    HOT.with(|hot| hot.current.get())?.with(Task::known_node)
}

#[inline]
pub(crate) fn is_in_task() -> bool {
    HOT.with(|hot| hot.current.get()).is_some()
}

/// The current task, as others see it.
#[inline]
pub(crate) fn current_task_id() -> Option<TaskId> {
    let node = current_task()?;
    Some(TaskId { generation: HOT.with(|hot| hot.home.get().generation), node })
}

#[cold]
fn outside(what: &str, place: &Location<'_>) -> ! {
    assert!(
        try_current_run().is_none(),
        "{what} was used in a run, but outside a task, at {place}\n\
         \n\
         Only tasks can wait and be cancelled. Calls that were given to `lowlevel::Token::run_soon`, and the hooks \
         of clocks and of instruments, run between the tasks: from there, cancel a scope, unpark a task, or start \
         a child with `NurseryHandle::start_soon`."
    );
    panic!(
        "{what} was used outside a run, at {place}\n\
         \n\
         It belongs to the run that polls it, and no run is polling on this thread. Usual causes:\n\
         - `nursery::run(...)`, or `#[nursery::main]`, is missing around the program\n\
         - the future is polled by another executor (`block_on`, `tokio::spawn`): make the whole program a \
         `Guest` of it with `Builder::guest`, or move the call inside the run\n\
         - the call is in a thread of its own: send it into the run with `lowlevel::Token::run_soon`"
    );
}
