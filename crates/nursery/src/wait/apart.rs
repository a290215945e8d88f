//! Waits that lie apart from their tasks, in a table: the second and further ones of a task that waits for several things
//! at once, those that are polled with another waker, and those that were moved to another task.

use std::task::Waker;

use slotmap::new_key_type;

use crate::deadlines::Timer;
use crate::nursery::erase::Task;
use crate::park::Place;
use crate::run::context;
use crate::tree::{Effects, NodeId, State};
use crate::wait::{Label, WaitState};

new_key_type! {
    /// A wait in the table.
    pub(crate) struct WaitId;
}

pub(crate) struct Wait {
    pub(crate) state: WaitState,
    /// Waits on something that is not a task of this run.
    pub(super) outside: bool,
    /// The node whose cancellation interrupts it.
    pub(super) node: NodeId,
    /// The task that polls it.
    pub(crate) task: Task,
    prev_on_node: Option<WaitId>,
    next_on_node: Option<WaitId>,
    /// In the lot in which it is parked, while it is waiting.
    pub(super) place: Option<Place>,
    /// For sleepers.
    pub(crate) timer: Timer,
    /// Present if it was polled with a waker that is not its task's.
    pub(super) waker: Option<Waker>,
    pub(super) label: Label,
}

impl Wait {
    /// One that waits, for nothing yet.
    pub(super) fn new(node: NodeId, task: Task, label: Label, waker: Option<Waker>) -> Self {
        Wait {
            state: WaitState::Waiting,
            outside: false,
            node,
            task,
            prev_on_node: None,
            next_on_node: None,
            place: None,
            timer: Timer::Never,
            waker,
            label,
        }
    }

    /// The node of the task that polls it.
    pub(crate) fn task(&self) -> Option<NodeId> {
        self.task.known_node()
    }
}

impl State {
    /// Interrupts the waits in the table that a node interrupts.
    pub(super) fn deliver_apart(&mut self, node: NodeId, fx: &mut Effects) {
        let mut at = self.nodes[node].first_wait;
        while let Some(id) = at {
            at = self.waits[id].next_on_node;
            self.wake_apart(id, WaitState::Cancelled, fx);
        }
    }

    /// Gives a wait its result, unless it has one. Returns whether it took it.
    pub(super) fn wake_apart(&mut self, id: WaitId, result: WaitState, fx: &mut Effects) -> bool {
        let Some(wait) = self.waits.get_mut(id).filter(|wait| wait.state == WaitState::Waiting)
        else {
            return false;
        };
        wait.state = result;
        if let Some(place) = wait.place.take() {
            place.leave();
        }
        match wait.waker.take() {
            Some(waker) => fx.wake.push(waker),
            None => fx.wake_task(&wait.task),
        }
        true
    }

    /// A wait has been taken out of its lot. Returns whether it is parked there, and so is waiting.
    pub(crate) fn leave_lot(&mut self, id: WaitId) -> bool {
        self.waits.get_mut(id).is_some_and(|wait| wait.place.take().is_some())
    }

    /// Has it no result yet?
    pub(crate) fn is_waiting_apart(&self, id: WaitId) -> bool {
        self.waits.get(id).is_some_and(|wait| wait.state == WaitState::Waiting)
    }

    /// Adds a wait to its node.
    pub(super) fn insert_apart(&mut self, wait: Wait) -> WaitId {
        let id = self.waits.insert(wait);
        self.join_node(id);
        id
    }

    /// Takes a wait out.
    pub(super) fn remove_apart(&mut self, id: WaitId) -> Option<Wait> {
        self.leave_node(id);
        self.waits.remove(id)
    }

    /// Moves a wait to the node and task in which its operation is polled now.
    pub(super) fn move_apart(&mut self, id: WaitId, node: NodeId, fx: &mut Effects) {
        self.leave_node(id);
        let wait = &mut self.waits[id];
        wait.node = node;
        if let Some(task) = context::current() {
            wait.task = task;
        }
        self.join_node(id);
        if self.effective(node) {
            self.wake_apart(id, WaitState::Cancelled, fx);
        }
    }

    fn join_node(&mut self, id: WaitId) {
        let node = self.nodes.get_mut(self.waits[id].node);
        let head = node.and_then(|node| node.first_wait.replace(id));
        if let Some(head) = head {
            self.waits[head].prev_on_node = Some(id);
        }
        self.waits[id].next_on_node = head;
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

    /// The waits in the table that a node interrupts, the newest first.
    pub(super) fn apart_on(&self, node: NodeId) -> impl Iterator<Item = &Wait> {
        let first = self.nodes.get(node).and_then(|node| self.waits.get(node.first_wait?));
        std::iter::successors(first, |wait| self.waits.get(wait.next_on_node?))
    }
}
