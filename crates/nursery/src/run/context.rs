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

use crate::run::Run;
use crate::tree::NodeId;

struct Hot {
    node: Cell<Option<NodeId>>,
    task: Cell<Option<NodeId>>,
    /// Is the current node effectively cancelled?
    cancelled: Cell<bool>,
    /// How many operations may still succeed in this poll of the task without yielding.
    budget: Cell<u32>,
    /// Changes when any node flips.
    flips: Cell<u32>,
    cancel_points: Cell<u32>,
    schedule_points: Cell<u32>,
    /// Identity of the current task's own waker.
    waker: Cell<(*const (), usize)>,
}

thread_local! {
    static HOT: Hot = const {
        Hot {
            node: Cell::new(None),
            task: Cell::new(None),
            cancelled: Cell::new(false),
            budget: Cell::new(0),
            flips: Cell::new(0),
            cancel_points: Cell::new(0),
            schedule_points: Cell::new(0),
            waker: Cell::new((std::ptr::null(), 0)),
        }
    };
    static RUN: RefCell<Option<Rc<Run>>> = const { RefCell::new(None) };
}

/// Puts back what was current before.
pub(crate) struct RunGuard {
    outer: Option<Rc<Run>>,
    position: (Option<NodeId>, Option<NodeId>),
}

/// Makes `run` the current one, at no task.
pub(crate) fn enter_run(run: &Rc<Run>) -> RunGuard {
    let outer = RUN.with(|current| current.replace(Some(run.clone())));
    let position = HOT.with(|hot| (hot.node.take(), hot.task.take()));
    RunGuard { outer, position }
}

impl Drop for RunGuard {
    fn drop(&mut self) {
        let ended = RUN.with(|current| current.replace(self.outer.take()));
        drop(ended);
        HOT.with(|hot| {
            hot.node.set(self.position.0);
            hot.task.set(self.position.1);
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
pub(crate) fn enter_node(node: NodeId, cancelled: bool) -> NodeGuard {
    HOT.with(|hot| NodeGuard {
        node: hot.node.replace(Some(node)),
        cancelled: hot.cancelled.replace(cancelled),
        flips: hot.flips.get(),
    })
}

impl Drop for NodeGuard {
    fn drop(&mut self) {
        let stale = HOT.with(|hot| {
            hot.node.set(self.node);
            hot.cancelled.set(self.cancelled);
            hot.flips.get() != self.flips
        });
        if stale {
            refresh_current();
        }
    }
}

/// How often a task has passed a cancel point and a schedule point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Points {
    pub(crate) cancel: u32,
    pub(crate) schedule: u32,
}

/// Puts the outer task back.
pub(crate) struct TaskGuard<'a> {
    _node: NodeGuard,
    task: Option<NodeId>,
    budget: u32,
    waker: (*const (), usize),
    outer: Points,
    points: &'a Cell<Points>,
}

/// Makes `task` the current one for a poll with `waker`; it has the run's whole budget.
pub(crate) fn enter_task<'a>(
    task: NodeId,
    cancelled: bool,
    budget: u32,
    waker: &Waker,
    points: &'a Cell<Points>,
) -> TaskGuard<'a> {
    let node = enter_node(task, cancelled);
    HOT.with(|hot| TaskGuard {
        _node: node,
        task: hot.task.replace(Some(task)),
        budget: hot.budget.replace(budget - 1),
        waker: hot.waker.replace(identity(waker)),
        outer: hot.replace_points(points.get()),
        points,
    })
}

impl Drop for TaskGuard<'_> {
    fn drop(&mut self) {
        HOT.with(|hot| {
            hot.task.set(self.task);
            hot.budget.set(self.budget);
            hot.waker.set(self.waker);
            self.points.set(hot.replace_points(self.outer));
        });
    }
}

impl Hot {
    fn replace_points(&self, points: Points) -> Points {
        Points {
            cancel: self.cancel_points.replace(points.cancel),
            schedule: self.schedule_points.replace(points.schedule),
        }
    }
}

fn identity(waker: &Waker) -> (*const (), usize) {
    (waker.data(), std::ptr::from_ref(waker.vtable()).addr())
}

/// Is this the waker that the current task itself was polled with?
pub(crate) fn is_task_waker(waker: &Waker) -> bool {
    HOT.with(|hot| hot.waker.get() == identity(waker))
}

/// Is the current node effectively cancelled? Counts as a cancel point.
#[inline]
pub(crate) fn is_cancelled() -> bool {
    HOT.with(|hot| {
        hot.cancel_points.set(hot.cancel_points.get().wrapping_add(1));
        hot.cancelled.get()
    })
}

/// The same, not counted.
#[inline]
pub(crate) fn is_cancelled_now() -> bool {
    HOT.with(|hot| hot.cancelled.get())
}

/// Takes one from the budget. Returns false if it is used up: the operation has to yield.
#[inline]
pub(crate) fn spend_budget() -> bool {
    HOT.with(|hot| match hot.budget.get().checked_sub(1) {
        Some(rest) => {
            hot.budget.set(rest);
            true
        }
        None => false,
    })
}

/// Makes the next operation of the current task yield.
pub(crate) fn exhaust_budget() {
    HOT.with(|hot| hot.budget.set(0));
}

pub(crate) fn count_schedule_point() {
    HOT.with(|hot| hot.schedule_points.set(hot.schedule_points.get().wrapping_add(1)));
}

pub(crate) fn points() -> Points {
    HOT.with(|hot| Points { cancel: hot.cancel_points.get(), schedule: hot.schedule_points.get() })
}

/// Takes a new copy of the current node's state, if `run` is the current run.
pub(crate) fn refresh(run: &Run) {
    HOT.with(|hot| hot.flips.set(hot.flips.get().wrapping_add(1)));
    if is_current(run) {
        refresh_current();
    }
}

fn refresh_current() {
    let Some(node) = HOT.with(|hot| hot.node.get()) else { return };
    let cancelled = with_run(|run| run.is_some_and(|run| run.state.borrow().effective(node)));
    HOT.with(|hot| hot.cancelled.set(cancelled));
}

pub(crate) fn is_current(run: &Run) -> bool {
    with_run(|current| current.is_some_and(|current| std::ptr::eq(&raw const **current, run)))
}

/// Calls `f` with the current run. `f` must not poll, wake or drop anything foreign.
pub(crate) fn with_run<R>(f: impl FnOnce(Option<&Rc<Run>>) -> R) -> R {
    RUN.try_with(|run| f(run.borrow().as_ref())).unwrap_or_else(|_| unreachable_after_exit())
}

fn unreachable_after_exit() -> ! {
    panic!("the thread is ending: no run can be in progress on it")
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
    match try_current_run() {
        Some(run) => run,
        None => outside(what),
    }
}

/// The current node and task.
#[track_caller]
pub(crate) fn position() -> (NodeId, NodeId) {
    HOT.with(|hot| match (hot.node.get(), hot.task.get()) {
        (Some(node), Some(task)) => (node, task),
        _ => outside("this operation"),
    })
}

pub(crate) fn current_task() -> Option<NodeId> {
    HOT.with(|hot| hot.task.get())
}

#[track_caller]
fn outside(what: &str) -> ! {
    let at = Location::caller();
    panic!(
        "{what} was used outside a run, at {at}\n\
         \n\
         It belongs to the run that polls it, and no run is polling on this thread. Usual causes:\n\
         - `nursery::run(...)`, or `#[nursery::main]`, is missing around the program\n\
         - the future is polled by another executor (`block_on`, `tokio::spawn`): make the whole program a \
         `Guest` of it with `Builder::guest`, or move the call inside the run\n\
         - the call is in a thread of its own: send it into the run with `lowlevel::Token::run_soon`"
    );
}
