//! Where the thread is: the current run, node and task, set while they are polled.
//!
//! The fast path of every checkpoint reads nothing but the plain cells here. `cancelled` is a copy of
//! the current node's state in the tree: it is taken when the node becomes current, and again after every
//! change that flips some node ([`refresh`]). A guard that puts an outer position back knows by `flips`
//! whether its own copy is still good.

use std::cell::{Cell, RefCell};
use std::panic::Location;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use crate::deadlines::Limit;
use crate::run::Run;
use crate::run::inbox::Inbox;
use crate::scope::frame::scope_node;
use crate::tree::NodeId;

/// Where the thread is. Copied as a whole when it changes, field by field when it is read.
#[derive(Clone, Copy)]
struct Frame {
    node: Option<NodeId>,
    task: Option<NodeId>,
    /// Address of the waker that the current task is polled with. It stays where it is during the poll.
    waker: usize,
    points: Points,
    /// How many operations may still succeed in this poll of the task without yielding.
    budget: u32,
    /// Is the current node effectively cancelled?
    cancelled: bool,
    /// The current task is to be polled again in the next turn.
    again: bool,
}

impl Frame {
    const NONE: Frame = Frame {
        node: None,
        task: None,
        waker: 0,
        points: Points { cancel: 0, schedule: 0 },
        budget: 0,
        cancelled: false,
        again: false,
    };
}

struct Hot {
    frame: Cell<Frame>,
    /// Changes when any node flips.
    flips: Cell<u32>,
    home: Cell<Home>,
    /// The scope in which the thread is though its node is not in the tree yet.
    deferred: Cell<Option<Deferred>>,
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

impl Hot {
    fn change(&self, f: impl FnOnce(&mut Frame)) {
        let mut frame = self.frame.get();
        f(&mut frame);
        self.frame.set(frame);
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
            frame: Cell::new(Frame::NONE),
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
    frame: Frame,
}

/// Makes `run` the current one, at no task.
pub(crate) fn enter_run(run: &Rc<Run>) -> RunGuard {
    enter_deferred();
    let outer = RUN.with(|current| current.replace(Some(run.clone())));
    HOT.with(|hot| RunGuard {
        outer,
        home: hot.home.replace(Home::of(run)),
        frame: hot.frame.replace(Frame::NONE),
    })
}

impl Drop for RunGuard {
    fn drop(&mut self) {
        let ended = RUN.with(|current| current.replace(self.outer.take()));
        drop(ended);
        HOT.with(|hot| {
            hot.frame.set(self.frame);
            hot.home.set(self.home);
            hot.flips.set(hot.flips.get().wrapping_add(1));
        });
        refresh_current();
    }
}

/// Puts the outer node back.
pub(crate) struct NodeGuard {
    node: Option<NodeId>,
    cancelled: bool,
    flips: u32,
}

/// Makes `node` the current one.
#[inline]
pub(crate) fn enter_node(node: NodeId, cancelled: bool) -> NodeGuard {
    HOT.with(|hot| {
        let outer = hot.frame.get();
        hot.change(|frame| {
            frame.node = Some(node);
            frame.cancelled = cancelled;
        });
        NodeGuard { node: outer.node, cancelled: outer.cancelled, flips: hot.flips.get() }
    })
}

impl Drop for NodeGuard {
    #[inline]
    fn drop(&mut self) {
        let stale = HOT.with(|hot| {
            hot.change(|frame| {
                frame.node = self.node;
                frame.cancelled = self.cancelled;
            });
            hot.flips.get() != self.flips
        });
        if stale {
            refresh_current();
        }
    }
}

/// A time limit whose scope is not in the tree yet.
///
/// Most bodies of a time limit are ready at once, and never need its node: it is made when somebody asks for the
/// current node, or when the body has to wait. There is one at a time.
#[derive(Clone, Copy)]
pub(crate) struct Deferred {
    pub(crate) timeout: Duration,
    pub(crate) place: &'static Location<'static>,
}

/// Puts the outer node back. Dropped without a word, it takes the node out again.
pub(crate) struct DeferredGuard {
    outer: Option<NodeId>,
}

/// Makes a deferred scope the current one. Not under a virtual clock, which may be moved by hand before the body waits,
/// nor outside tasks: there it is `None`.
#[inline]
pub(crate) fn defer(deferred: Deferred) -> Option<DeferredGuard> {
    HOT.with(|hot| {
        if !hot.home.get().is_system_clock || hot.frame.get().task.is_none() {
            return None;
        }
        enter_deferred();
        hot.deferred.set(Some(deferred));
        Some(DeferredGuard { outer: hot.frame.get().node })
    })
}

impl DeferredGuard {
    /// Leaves the scope. Its node, if it has one, is the caller's.
    #[inline]
    pub(crate) fn leave(mut self) -> Option<NodeId> {
        self.restore()
    }

    #[inline]
    fn restore(&mut self) -> Option<NodeId> {
        let outer = self.outer.take()?;
        HOT.with(|hot| {
            if hot.deferred.take().is_some() {
                return None;
            }
            let entered = hot.frame.get().node;
            hot.change(|frame| frame.node = Some(outer));
            refresh_current();
            entered
        })
    }
}

impl Drop for DeferredGuard {
    /// For panics.
    #[inline]
    fn drop(&mut self) {
        if let Some(node) = self.restore() {
            let node = with_run(|run| run.and_then(|run| run.state.borrow_mut().remove(node)));
            drop(node);
        }
    }
}

/// Gives the deferred scope its node, if there is one.
#[inline]
pub(crate) fn enter_deferred() {
    if HOT.with(|hot| hot.deferred.get().is_some()) {
        enter_deferred_now();
    }
}

#[cold]
fn enter_deferred_now() {
    let (deferred, parent) = HOT.with(|hot| (hot.deferred.take(), hot.frame.get().node));
    let (Some(Deferred { timeout, place }), Some(run)) = (deferred, try_current_run()) else {
        return;
    };
    let id = {
        let mut state = run.state.borrow_mut();
        let id = state.insert(parent, scope_node(place, false));
        state.set_limit(id, Limit::Timeout(timeout));
        id
    };
    HOT.with(|hot| hot.change(|frame| frame.node = Some(id)));
}

/// Puts the outer task back.
pub(crate) struct TaskGuard<'a> {
    outer: Frame,
    flips: u32,
    points: &'a Cell<Points>,
}

/// Makes `task` the current one for a poll with `waker`; it has the run's whole budget.
#[inline]
pub(crate) fn enter_task<'a>(
    task: NodeId,
    cancelled: bool,
    budget: u32,
    waker: &Waker,
    points: &'a Cell<Points>,
) -> TaskGuard<'a> {
    let frame = Frame {
        node: Some(task),
        task: Some(task),
        waker: identity(waker),
        points: points.get(),
        budget: budget - 1,
        cancelled,
        again: false,
    };
    HOT.with(|hot| TaskGuard { outer: hot.frame.replace(frame), flips: hot.flips.get(), points })
}

impl Drop for TaskGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        let (again, stale) = HOT.with(|hot| {
            let frame = hot.frame.replace(self.outer);
            self.points.set(frame.points);
            (frame.again, hot.flips.get() != self.flips)
        });
        if again {
            with_run(|run| run.inspect(|run| run.load.sub(1)).is_some());
        }
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

/// May the current run have instruments?
#[inline]
pub(crate) fn is_watched() -> bool {
    HOT.with(|hot| hot.home.get().is_watched)
}

/// The current run gets an instrument.
pub(crate) fn watch() {
    HOT.with(|hot| hot.home.set(Home { is_watched: true, ..hot.home.get() }));
}

/// Makes the current task, or whoever else polls with `waker`, poll again in its next turn.
#[inline]
pub(crate) fn poll_again(waker: &Waker) {
    if !is_task_waker(waker) {
        return waker.wake_by_ref();
    }
    let is_first = HOT.with(|hot| {
        let is_first = !hot.frame.get().again;
        hot.change(|frame| frame.again = true);
        is_first
    });
    if is_first {
        with_run(|run| run.inspect(|run| run.load.add(1)).is_some());
    }
}

/// Is the current task to be polled again?
#[inline]
pub(crate) fn is_again() -> bool {
    HOT.with(|hot| hot.frame.get().again)
}

fn identity(waker: &Waker) -> usize {
    std::ptr::from_ref(waker).addr()
}

/// Is this the waker that the current task itself is polled with? A clone of it does not count, which
/// costs whoever asks a little, and nothing else.
pub(crate) fn is_task_waker(waker: &Waker) -> bool {
    HOT.with(|hot| hot.frame.get().waker == identity(waker))
}

/// Is the current node effectively cancelled? Counts as a cancel point.
#[inline]
pub(crate) fn is_cancelled() -> bool {
    HOT.with(|hot| {
        hot.change(|frame| frame.points.cancel = frame.points.cancel.wrapping_add(1));
        hot.frame.get().cancelled
    })
}

/// The same, not counted.
#[inline]
pub(crate) fn is_cancelled_now() -> bool {
    HOT.with(|hot| hot.frame.get().cancelled)
}

/// Takes one from the budget. Returns false if it is used up: the operation has to yield.
#[inline]
pub(crate) fn spend_budget() -> bool {
    HOT.with(|hot| match hot.frame.get().budget.checked_sub(1) {
        Some(rest) => {
            hot.change(|frame| frame.budget = rest);
            true
        }
        None => false,
    })
}

/// Makes the next operation of the current task yield.
pub(crate) fn exhaust_budget() {
    HOT.with(|hot| hot.change(|frame| frame.budget = 0));
}

pub(crate) fn count_schedule_point() {
    HOT.with(|hot| {
        hot.change(|frame| frame.points.schedule = frame.points.schedule.wrapping_add(1));
    });
}

pub(crate) fn points() -> Points {
    HOT.with(|hot| hot.frame.get().points)
}

/// Takes a new copy of the current node's state, if `run` is the current run.
pub(crate) fn refresh(run: &Run) {
    HOT.with(|hot| hot.flips.set(hot.flips.get().wrapping_add(1)));
    if is_current(run) {
        refresh_current();
    }
}

fn refresh_current() {
    let Some(node) = HOT.with(|hot| hot.frame.get().node) else { return };
    let cancelled = with_run(|run| run.is_some_and(|run| run.state.borrow().effective(node)));
    HOT.with(|hot| hot.change(|frame| frame.cancelled = cancelled));
}

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

/// The current node and task.
///
/// # Panics
///
/// Outside a task, with advice.
#[track_caller]
pub(crate) fn position(what: &str) -> (NodeId, NodeId) {
    position_at(what, Location::caller())
}

/// The same, for what was made at `place`.
pub(crate) fn position_at(what: &str, place: &Location<'_>) -> (NodeId, NodeId) {
    enter_deferred();
    match HOT.with(|hot| hot.frame.get()) {
        Frame { node: Some(node), task: Some(task), .. } => (node, task),
        _ => outside(what, place),
    }
}

pub(crate) fn current_task() -> Option<NodeId> {
    HOT.with(|hot| hot.frame.get().task)
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
