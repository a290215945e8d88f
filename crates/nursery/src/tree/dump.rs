//! [`Tree`]: a picture of the run's tasks, nurseries and scopes.

mod cycle;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::Location;
use std::rc::Rc;
use std::time::Instant;

use slotmap::Key;

use crate::park::LotCore;
use crate::run::{Run, context};
use crate::scope::Relative;
use crate::scope::reason::CancelReason;
use crate::stats::TaskId;
use crate::tree::{Kind, Node, NodeId, State};
use crate::wait;

/// Returns a picture of the current run: every task, nursery and scope, and what they wait for, and where.
///
/// # Panics
///
/// Outside a run.
///
/// # Examples
///
/// ```
/// use nursery::{checkpoint, open_nursery, sleep_forever, tree};
///
/// # nursery::run(async {
/// open_nursery(async |n| {
///     n.start_soon(async { sleep_forever().await }).set_name("waiter");
///     while !tree().to_string().contains("waits for its cancellation") {
///         checkpoint().await?;
///     }
///     n.cancel_scope().cancel();
///     Ok::<(), nursery::Cancelled>(())
/// })
/// .await
/// # }).unwrap();
/// ```
#[must_use]
#[track_caller]
pub fn tree() -> Tree {
    snapshot(&context::current_run("`nursery::tree`"))
}

pub(crate) fn snapshot(run: &Run) -> Tree {
    let now = run.now();
    run.settle();
    let state = run.state.borrow();
    let holders = holders(&state);
    let mut nodes = Vec::new();
    let orphans = state.nodes.iter().filter(|(id, n)| n.parent.is_none() && *id != run.root);
    let mut stack: Vec<(NodeId, usize)> = orphans.map(|(id, _)| (id, 0)).collect();
    // When the run has ended, nothing is left.
    stack.extend(state.nodes.contains_key(run.root).then_some((run.root, 0)));
    while let Some((id, depth)) = stack.pop() {
        let waits = waits(run, &state, &holders, id);
        nodes.push(describe(run, &state, id, depth, now, waits));
        stack.extend(state.children_by_age(id).into_iter().rev().map(|child| (child, depth + 1)));
    }
    Tree { nodes }
}

/// Which tasks break a lot when they end: those that hold what its waiters wait for.
type Holders = BTreeMap<*const LotCore, Vec<NodeId>>;

fn holders(state: &State) -> Holders {
    let mut holders = Holders::new();
    for (task, lot) in state.breakers.iter() {
        holders.entry(Rc::as_ptr(lot)).or_default().push(task);
    }
    holders
}

/// What is waited for directly in a node, the newest wait first.
fn waits(run: &Run, state: &State, holders: &Holders, id: NodeId) -> Vec<TreeWait> {
    let describe = |(label, lot): (wait::Label, Option<Rc<LotCore>>)| {
        let holders = lot.and_then(|lot| holders.get(&Rc::as_ptr(&lot)));
        TreeWait {
            what: label.what,
            place: label.place,
            held_by: holders.into_iter().flatten().map(|&task| run.task_id(task)).collect(),
            holders: holders.into_iter().flatten().map(|&task| state.label(task)).collect(),
        }
    };
    state.waits_on(id).into_iter().map(describe).collect()
}

fn describe(
    run: &Run,
    state: &State,
    id: NodeId,
    depth: usize,
    now: Instant,
    waits: Vec<TreeWait>,
) -> TreeNode {
    let node = &state.nodes[id];
    TreeNode {
        id: id.data().as_ffi(),
        depth,
        kind: kind(run, id, node),
        task: node.is_task().then(|| run.task_id(id)),
        name: node.name().map(str::to_owned),
        place: node.place,
        waits,
        waits_for_children: waits_for_children(run, id, node),
        deadline: state.deadline(node),
        now,
        shield: node.shield,
        cancel_called: node.called,
        effectively_cancelled: node.effective(),
        reason: node.reason.as_deref().filter(|_| node.effective()).cloned(),
    }
}

fn waits_for_children(run: &Run, id: NodeId, node: &Node) -> bool {
    match &node.kind {
        // The run's own list is no task's.
        Kind::Nursery(ready, _) => {
            id != run.root && id != run.system && ready.waits_for_children.get()
        }
        Kind::Task(_) | Kind::Scope(_) => false,
    }
}

fn kind(run: &Run, id: NodeId, node: &Node) -> NodeKind {
    match &node.kind {
        _ if id == run.root => NodeKind::Run,
        Kind::Task(_) => NodeKind::Task,
        Kind::Nursery(..) => NodeKind::Nursery,
        Kind::Scope(_) => NodeKind::Scope,
    }
}

/// A picture of a run, from [`tree()`]. Its `Display` is for people.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: Vec<TreeNode>,
}

impl Tree {
    /// Returns the nodes, each before those below it, siblings in the order in which they came.
    #[must_use]
    pub fn nodes(&self) -> &[TreeNode] {
        &self.nodes
    }
}

/// What a node of the tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NodeKind {
    /// The root.
    Run,
    /// A task.
    Task,
    /// A nursery.
    Nursery,
    /// A cancel scope, a time limit or a shield.
    Scope,
}

/// One node of a [`Tree`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TreeNode {
    /// Tells it from all other nodes that the run has had or will have.
    pub id: u64,
    /// How far it is from the root.
    pub depth: usize,
    /// What it is.
    pub kind: NodeKind,
    /// Which task it is, if it is one.
    pub task: Option<TaskId>,
    /// Its name, if it was given one.
    pub name: Option<String>,
    /// Where the task was started, or the scope or nursery entered.
    pub place: &'static Location<'static>,
    /// What is waited for directly in it.
    pub waits: Vec<TreeWait>,
    /// It is a nursery whose body has ended: the task that opened it waits for those in it.
    pub waits_for_children: bool,
    /// Its deadline, unless it has been cancelled.
    pub deadline: Option<Instant>,
    /// The time at which the picture was made.
    pub now: Instant,
    /// Outer cancellation does not enter.
    pub shield: bool,
    /// It was cancelled itself.
    pub cancel_called: bool,
    /// It is cancelled, itself or from above.
    pub effectively_cancelled: bool,
    /// Why.
    pub reason: Option<CancelReason>,
}

/// Something that is waited for, from [`TreeNode::waits`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TreeWait {
    /// What it is, such as `"a lock"`.
    pub what: &'static str,
    /// Where the program says so.
    pub place: &'static Location<'static>,
    /// The tasks that hold it, where that is known: the
    /// [breakers](crate::lowlevel::ParkingLot::add_breaker) of the lot.
    pub held_by: Vec<TaskId>,
    /// Their names.
    holders: Vec<String>,
}

impl fmt::Display for TreeNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            NodeKind::Run => "run",
            NodeKind::Task => "task",
            NodeKind::Nursery => "nursery",
            NodeKind::Scope => "scope",
        })?;
        if let Some(name) = &self.name {
            write!(f, " {name:?}")?;
        }
        if self.kind != NodeKind::Run {
            write!(f, " ({})", Place(self.place))?;
        }
        for wait in &self.waits {
            write!(f, ", waits for {} ({})", wait.what, Place(wait.place))?;
            for holder in &wait.holders {
                write!(f, ", held by task {holder:?}")?;
            }
        }
        if let Some(at) = self.deadline {
            write!(f, ", deadline {}", Relative(at, self.now))?;
        }
        if self.shield {
            f.write_str(", shielded")?;
        }
        match (&self.reason, self.cancel_called) {
            (Some(reason), true) => write!(f, ", CANCELLED: {reason}"),
            (Some(_), false) => f.write_str(", cancelled from above"),
            (None, _) => Ok(()),
        }
    }
}

struct Place<'a>(&'a Location<'a>);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0.file(), self.0.line())
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // For each level: does another sibling follow there?
        let mut follows: Vec<bool> = Vec::new();
        for (i, node) in self.nodes.iter().enumerate() {
            let later = &self.nodes[i + 1..];
            let has_next = later
                .iter()
                .take_while(|other| other.depth >= node.depth)
                .any(|other| other.depth == node.depth);
            follows.truncate(node.depth);
            for &follows in follows.iter().skip(1) {
                f.write_str(if follows { "│  " } else { "   " })?;
            }
            if node.depth > 0 {
                f.write_str(if has_next { "├─ " } else { "└─ " })?;
            }
            follows.push(has_next);
            writeln!(f, "{node}")?;
        }
        Ok(())
    }
}
