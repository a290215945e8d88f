//! One wait of one operation: what a cancellation interrupts, and what a hand-off is committed to.
//!
//! A [`Wait`] is the record of an operation that is suspended. It has one result, whichever comes first:
//!
//! ```text
//!                ┌──1──▶ Woken        the waker side committed to it; a later cancellation changes nothing
//!    Waiting ────┼──2──▶ Cancelled    it has left its parking lot; a later wake-up goes to the next waiter
//!                └──3──▶ Broken       its parking lot broke
//! ```
//! 1. [`State::wake_wait`], by an unpark or a sleeper's timer  2. [`State::deliver`]  3. [`State::wake_wait`]
//!
//! The record is found by its node (for cancellation), by its parking lot (for hand-off, in order of
//! arrival), and by its own operation, which holds its [`WaitId`] in a [`Slot`] and takes it out when it ends
//! or is dropped.

use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use slotmap::new_key_type;

use crate::deadlines::{Limit, Target, Timer};
use crate::error::Cancelled;
use crate::nursery::erase::Task;
use crate::park::{LotCore, Place};
use crate::run::Run;
use crate::run::context;
use crate::tree::{Effects, NodeId, State};

new_key_type! {
    /// A suspended operation.
    pub(crate) struct WaitId;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitState {
    Waiting,
    Woken,
    Cancelled,
    Broken,
}

pub(crate) struct Wait {
    pub(crate) state: WaitState,
    /// Waits on something that is not a task of this run.
    outside: bool,
    /// The node whose cancellation interrupts it.
    pub(crate) node: NodeId,
    /// The task that polls it.
    task: Task,
    prev_on_node: Option<WaitId>,
    pub(crate) next_on_node: Option<WaitId>,
    /// The lot it is parked in, while `state` is `Waiting`.
    pub(crate) lot: Option<Rc<LotCore>>,
    pub(crate) prev_in_lot: Option<WaitId>,
    pub(crate) next_in_lot: Option<WaitId>,
    /// For sleepers.
    pub(crate) timer: Timer,
    /// Present if the operation was polled with a waker that is not its task's.
    waker: Option<Waker>,
    pub(crate) label: Label,
}

impl Wait {
    /// Takes it out of its lot, if it is in one.
    #[inline]
    pub(crate) fn take_place_in_lot(&mut self) -> Option<Place> {
        let lot = self.lot.take()?;
        Some(Place { lot, prev: self.prev_in_lot.take(), next: self.next_in_lot.take() })
    }

    /// The node of the task that polls it.
    pub(crate) fn task(&self) -> NodeId {
        self.task.known_node().expect("who waits has a node")
    }
}

/// What is waited for, and where the program says so.
#[derive(Clone, Copy)]
pub(crate) struct Label {
    pub(crate) what: &'static str,
    pub(crate) place: &'static Location<'static>,
}

impl State {
    /// Interrupts the waits of a node that has become cancelled.
    pub(crate) fn deliver(&mut self, node: NodeId, fx: &mut Effects) {
        let mut at = self.nodes[node].first_wait;
        while let Some(id) = at {
            at = self.waits[id].next_on_node;
            self.wake_wait(id, WaitState::Cancelled, fx);
        }
    }

    /// Gives a wait its result, unless it has one. Returns whether it took it.
    pub(crate) fn wake_wait(&mut self, id: WaitId, result: WaitState, fx: &mut Effects) -> bool {
        let Some(wait) = self.waits.get_mut(id) else { return false };
        if wait.state != WaitState::Waiting {
            return false;
        }
        wait.state = result;
        match wait.waker.take() {
            Some(waker) => fx.wake.push(waker),
            None => fx.wake_task(&wait.task),
        }
        if let Some(place) = wait.take_place_in_lot() {
            self.close_ranks(&place);
        }
        true
    }

    /// Adds a wait to its node, and to the lot it names.
    #[inline]
    fn insert_wait(&mut self, mut wait: Wait, limit: Limit) -> WaitId {
        let State { nodes, waits, deadlines, .. } = self;
        let (mut head, mut tail) = (None, None);
        self.outside += usize::from(wait.outside);
        let id = waits.insert_with_key(|id| {
            if let Some(node) = nodes.get_mut(wait.node) {
                head = node.first_wait.replace(id);
                wait.next_on_node = head;
            }
            if let Some(lot) = &wait.lot {
                tail = lot.append(id);
                wait.prev_in_lot = tail;
            }
            if limit != Limit::Never {
                wait.timer = deadlines.set(Target::Sleeper(id), limit);
            }
            wait
        });
        if let Some(head) = head {
            waits[head].prev_on_node = Some(id);
        }
        if let Some(tail) = tail {
            waits[tail].next_in_lot = Some(id);
        }
        if limit != Limit::Never {
            self.sweep_fresh();
        }
        id
    }

    #[inline]
    fn remove_wait(&mut self, id: WaitId) -> Option<Wait> {
        let mut wait = self.waits.remove(id)?;
        if let Some(place) = wait.take_place_in_lot() {
            self.close_ranks(&place);
        }
        self.unlink_from_node(id, &wait);
        self.outside -= usize::from(wait.outside);
        if wait.timer != Timer::Never {
            self.forget_timer(wait.timer);
        }
        Some(wait)
    }

    /// Closes the gap that a wait leaves among those of its node.
    #[inline]
    fn unlink_from_node(&mut self, id: WaitId, wait: &Wait) {
        let (prev, next) = (wait.prev_on_node, wait.next_on_node);
        if let Some(next) = next {
            self.waits[next].prev_on_node = prev;
        }
        match prev {
            Some(prev) => self.waits[prev].next_on_node = next,
            None => {
                if let Some(node) = self.nodes.get_mut(wait.node)
                    && node.first_wait == Some(id)
                {
                    node.first_wait = next;
                }
            }
        }
    }

    fn leave_node(&mut self, id: WaitId) {
        let Some(wait) = self.waits.get_mut(id) else { return };
        let (node, prev, next) = (wait.node, wait.prev_on_node.take(), wait.next_on_node.take());
        if let Some(next) = next {
            self.waits[next].prev_on_node = prev;
        }
        match prev {
            Some(prev) => self.waits[prev].next_on_node = next,
            None => {
                if let Some(node) = self.nodes.get_mut(node).filter(|n| n.first_wait == Some(id)) {
                    node.first_wait = next;
                }
            }
        }
    }

    /// Moves a wait to the node and task in which its operation is polled now.
    fn move_wait(&mut self, id: WaitId, node: NodeId, fx: &mut Effects) {
        self.leave_node(id);
        let head = self.nodes.get(node).and_then(|n| n.first_wait);
        if let Some(head) = head {
            self.waits[head].prev_on_node = Some(id);
        }
        if let Some(node) = self.nodes.get_mut(node) {
            node.first_wait = Some(id);
        }
        let wait = &mut self.waits[id];
        wait.node = node;
        if let Some(task) = context::current() {
            wait.task = task;
        }
        wait.next_on_node = head;
        if self.effective(node) {
            self.wake_wait(id, WaitState::Cancelled, fx);
        }
    }
}

/// The place of an operation for its [`Wait`]: registered while the operation is suspended.
///
/// Dropping it withdraws the wait.
#[derive(Default)]
pub(crate) struct Slot {
    entry: Option<(Rc<Run>, WaitId)>,
}

/// How to register a wait.
#[derive(Clone, Copy)]
pub(crate) struct Params<'a> {
    pub(crate) label: Label,
    pub(crate) limit: Limit,
    pub(crate) lot: Option<&'a Rc<LotCore>>,
    pub(crate) outside: bool,
}

impl Slot {
    pub(crate) fn is_registered(&self) -> bool {
        self.entry.is_some()
    }

    pub(crate) fn id(&self) -> Option<WaitId> {
        self.entry.as_ref().map(|(_, id)| *id)
    }

    pub(crate) fn run(&self) -> Option<&Rc<Run>> {
        self.entry.as_ref().map(|(run, _)| run)
    }

    /// Registers the wait with the current task. The current node must not be cancelled.
    #[inline]
    #[track_caller]
    pub(crate) fn register(&mut self, cx: &Context<'_>, params: Params<'_>) {
        debug_assert!(self.entry.is_none());
        let run = context::current_run_at(params.label.what, params.label.place);
        let (node, task) = context::place_at(params.label.what, params.label.place);
        context::count_schedule_point();
        if let Some(lot) = params.lot {
            lot.adopt(&run);
        }
        // The task's own waker need not be kept: the task's node has it.
        let waker = (!context::is_task_waker(cx.waker())).then(|| cx.waker().clone());
        let id = {
            let mut state = run.state.borrow_mut();
            state.insert_wait(
                Wait {
                    state: WaitState::Waiting,
                    outside: params.outside,
                    node,
                    task,
                    prev_on_node: None,
                    next_on_node: None,
                    lot: params.lot.cloned(),
                    prev_in_lot: None,
                    next_in_lot: None,
                    timer: Timer::Never,
                    waker,
                    label: params.label,
                },
                params.limit,
            )
        };
        if params.limit != Limit::Never {
            run.limit_was_set();
        }
        self.entry = Some((run, id));
    }

    /// Looks at a registered wait. While it is still waiting, it is kept up to date: which waker, task
    /// and node it belongs to may have changed since the last poll.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<WaitState> {
        let (run, id) = self.entry.as_ref().expect("polled before it was registered");
        match run.state.borrow().waits.get(*id) {
            None => return Poll::Ready(WaitState::Broken), // the run has ended
            Some(wait) if wait.state != WaitState::Waiting => return Poll::Ready(wait.state),
            Some(_) => {}
        }
        let node = context::position("something that waits");
        let own_waker = context::is_task_waker(cx.waker());
        {
            let state = run.state.borrow();
            let wait = &state.waits[*id];
            let is_there = wait.node == node && context::is_current_task(&wait.task);
            if is_there && own_waker && wait.waker.is_none() {
                return Poll::Pending;
            }
        }
        let waker = (!own_waker).then(|| cx.waker().clone());
        let (old, state) = run.change(|state, fx| {
            let wait = &mut state.waits[*id];
            let old = std::mem::replace(&mut wait.waker, waker);
            if wait.node != node || !context::is_current_task(&wait.task) {
                state.move_wait(*id, node, fx);
            }
            (old, state.waits[*id].state)
        });
        drop(old); // outside the borrow: it may be foreign
        if state == WaitState::Waiting { Poll::Pending } else { Poll::Ready(state) }
    }

    /// The error of a cancelled wait.
    pub(crate) fn cancelled(&self) -> Cancelled {
        let (run, id) = self.entry.as_ref().expect("registered");
        let state = run.state.borrow();
        Cancelled(match state.waits.get(*id) {
            Some(wait) => state.reason(wait.node),
            None => Arc::new(crate::CancelSource::Unknown.into()),
        })
    }

    /// Withdraws the wait, and says in which state it was.
    #[inline]
    pub(crate) fn withdraw(&mut self) -> Option<WaitState> {
        let (run, id) = self.entry.take()?;
        let wait = run.state.borrow_mut().remove_wait(id);
        wait.map(|wait| wait.state) // the rest, with its waker, is dropped here, outside the borrow
    }
}

impl Drop for Slot {
    #[inline]
    fn drop(&mut self) {
        if self.entry.is_some() {
            self.withdraw();
        }
    }
}
