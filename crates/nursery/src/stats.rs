//! What can be known of a run from inside: the identity of tasks, numbers, and whether it is stuck.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::run::{Run, context};
use crate::tree::{Kind, NodeId, State, dump};

/// The identity of a task. Copy it, compare it; two tasks never have the same one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    pub(crate) generation: u32,
    pub(crate) node: NodeId,
}

impl TaskId {
    /// Returns the task's name: the one it was given, or else the place where it was started. `None` if it has
    /// ended, or belongs to another run.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        let run = context::try_current_run()?;
        let node = self.node_in(&run)?;
        let state = run.state.borrow();
        state.nodes.get(node).map(crate::tree::Node::label)
    }

    /// Returns the task that opened the nursery this task is in. `None` for the main task and system tasks.
    #[must_use]
    pub fn parent(&self) -> Option<TaskId> {
        let run = context::try_current_run()?;
        let state = run.state.borrow();
        let above = state.nodes.get(self.node_in(&run)?)?.parent?;
        state.task_of(above).map(|node| run.task_id(node))
    }

    pub(crate) fn node_in(self, run: &Run) -> Option<NodeId> {
        (self.generation == run.generation).then_some(self.node)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "<task {name:?}>"),
            None => write!(f, "<task {:?}>", self.node),
        }
    }
}

/// The identity of a run. Copy it, compare it; two runs never have the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub(crate) u32);

/// Numbers of a run, from [`lowlevel::statistics`](crate::lowlevel::statistics).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunStatistics {
    /// Tasks that have not ended, main and system tasks included.
    pub tasks_living: usize,
    /// Operations that are suspended.
    pub waits: usize,
    /// Of those, how many wait for something outside the run.
    pub waits_outside: usize,
    /// Things that go on outside and will come back: see [`lowlevel::busy`](crate::lowlevel::busy).
    pub busy: usize,
    /// Nodes of the tree: tasks, nurseries and scopes.
    pub nodes: usize,
    /// Time to the next deadline; zero if it has passed.
    pub next_deadline: Option<Duration>,
    /// Calls that wait in the entry queue.
    pub entry_queue: usize,
}

pub(crate) fn statistics(run: &Run) -> RunStatistics {
    let now = run.now();
    context::settle();
    let mut state = run.state.borrow_mut();
    let without_node = state.tasks_without_node();
    let leaves_that_wait = without_node.iter().filter(|task| !task.wait().is_free());
    let tasks = state.tasks_with_node().chain(&without_node);
    let light = tasks.filter(|task| task.wait().light.is_waiting()).count();
    RunStatistics {
        tasks_living: state.tasks + without_node.len(),
        waits: state.waiting_tasks().count() + leaves_that_wait.count(),
        waits_outside: state.outside,
        busy: run.busy.get(),
        nodes: state.nodes.len() + without_node.len() + light,
        next_deadline: state.next_deadline().map(|at| at.saturating_duration_since(now)),
        entry_queue: run.inbox.calls_waiting(),
    }
}

/// How many waits are for something outside the run: those that say so, tasks that wait for something the run
/// does not know (a foreign future without `cancellable`), work that goes on, and tokens in foreign hands.
pub(crate) fn waits_outside(run: &Run) -> usize {
    let state = run.state.borrow();
    let known = waiting_tasks(&state);
    let unknown = state.nodes.iter().filter(|(id, node)| node.is_task() && !known.contains(id));
    let unknown_leaves =
        state.tasks_without_node().into_iter().filter(|task| task.wait().is_free());
    let unknown = unknown.count() + unknown_leaves.count();
    state.outside + unknown + run.busy.get() + usize::from(run.token.is_shared())
}

/// The tasks of which it is known what they wait for.
fn waiting_tasks(state: &State) -> BTreeSet<NodeId> {
    let mut known: BTreeSet<NodeId> = state.waiting_tasks().collect();
    for (id, node) in &state.nodes {
        let waiter = match &node.kind {
            // Its owner; the children may be elsewhere still, while `start` waits for them.
            Kind::Nursery(ready, _) => Some(id).filter(|_| ready.waits_for_children.get()),
            Kind::Task(_) => node.parent.filter(|&above| match state.nodes[above].kind {
                Kind::Nursery(..) => false,
                Kind::Scope(_) | Kind::Task(_) => true, // the caller of `start`
            }),
            Kind::Scope(_) => None,
        };
        known.extend(waiter.and_then(|waiter| state.task_of(waiter)));
    }
    known
}

/// Ends a run in which nothing will ever happen again.
pub(crate) fn panic_deadlock(run: &Run) -> ! {
    let tree = dump::snapshot(run);
    let mut circles = String::new();
    for cycle in tree.cycles() {
        circles += &format!("These wait for each other:\n{cycle}\n");
    }
    panic!(
        "deadlock: every task waits for something that only another task could bring\n\
         \n\
         {tree}\n\
         {circles}\
         Nothing is ready, no deadline is set, and nothing is expected from outside. Usual causes:\n\
         - an event that nobody will set, or a channel that nobody will send on or close\n\
         - two tasks that each hold what the other waits for\n\
         - a service that waits to be cancelled, and nobody is left to do it: call `cancel_scope().cancel()`"
    )
}
