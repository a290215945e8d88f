//! What a run did, as a list of events: the differences between one look at its tree and the next.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::Location;
use std::time::{Duration, Instant};

use nursery::lowlevel::{Points, TaskId};
use nursery::{NodeKind, Tree, TreeNode};

#[derive(Default)]
pub(crate) struct Record {
    start: Option<Instant>,
    time: Duration,
    /// All tasks, nurseries and scopes there have been. The others know them by their position here.
    pub(crate) nodes: Vec<Node>,
    /// All waits there have been.
    pub(crate) waits: Vec<Wait>,
    pub(crate) events: Vec<Event>,
    /// Those in the tree at the last look, by its ids.
    living: BTreeMap<u64, usize>,
    tasks: BTreeMap<TaskId, usize>,
    /// The tasks that are being polled; each polls the next.
    steps: Vec<Step>,
}

pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    /// Where it was last.
    pub(crate) parent: Option<usize>,
    pub(crate) name: Option<String>,
    pub(crate) place: &'static Location<'static>,
    pub(crate) shield: bool,
    /// Itself or from above.
    is_cancelled: bool,
    /// Of a task: what it does now is cancelled.
    is_hit: bool,
    /// Those that go on.
    waits: Vec<usize>,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) node: usize,
    pub(crate) what: &'static str,
    pub(crate) place: &'static Location<'static>,
}

pub(crate) struct Event {
    /// Since the run began.
    pub(crate) time: Duration,
    /// In which step, by the position of its `Begins`; `None`: between the steps.
    pub(crate) step: Option<usize>,
    /// Whom it happens to.
    pub(crate) node: usize,
    pub(crate) what: What,
}

pub(crate) enum What {
    /// A task is started, a scope or nursery entered.
    Enters,
    /// A task ends, a scope or nursery is left.
    Leaves,
    /// A task is put on a ready list.
    Wakes,
    /// A step of a task. `is_own`: it did not only poll its children. `shows`: it did something that is an event.
    Begins {
        is_own: bool,
        shows: bool,
    },
    Ends {
        began: usize,
    },
    /// It was itself cancelled.
    Cancelled {
        reason: String,
    },
    /// The child failed, or a body in the task.
    Fails,
    /// What the task does is cancelled, or is so no longer.
    Hit(bool),
    Waits(usize),
    WaitsNoMore(usize),
}

impl Event {
    /// Is it something that a task or time does, and not just what follows from it?
    pub(crate) fn is_deed(&self) -> bool {
        match self.what {
            What::Enters | What::Leaves | What::Cancelled { .. } | What::Fails | What::Waits(_) => {
                true
            }
            What::Begins { is_own, shows } => is_own && !shows,
            What::Wakes | What::Ends { .. } | What::Hit(_) | What::WaitsNoMore(_) => false,
        }
    }
}

struct Step {
    task: usize,
    began: usize,
    points: Points,
    has_polled: bool,
    shows: bool,
}

impl Record {
    /// Notes how the tree differs from what it was at the last look.
    pub(crate) fn look(&mut self, tree: &Tree, now: Instant) {
        self.time = now.saturating_duration_since(*self.start.get_or_insert(now));
        let nodes = Located::all(tree);
        nodes.iter().for_each(|node| self.follow(node));
        // The task that did it goes last.
        let doer = self.steps.last().map(|step| step.task);
        let (ended, gone): (Vec<_>, Vec<_>) =
            self.take_gone(&nodes).into_iter().partition(|&i| Some(i) == doer);
        self.bury(gone);
        nodes.iter().for_each(|node| self.note_cancel(node.tree));
        if let Some(&doer) = ended.first() {
            self.note_hit(doer, self.nodes[doer].is_cancelled); // it had left its scopes
        }
        self.bury(ended);
        nodes.iter().for_each(|node| self.welcome(node));
        self.note_hits(&nodes);
        nodes.iter().for_each(|node| self.note_new_waits(node.tree));
    }

    pub(crate) fn scheduled(&mut self, task: TaskId) {
        if let Some(&task) = self.tasks.get(&task) {
            self.push(task, What::Wakes);
        }
    }

    pub(crate) fn failed(&mut self, task: TaskId) {
        if let Some(&task) = self.tasks.get(&task) {
            self.push(task, What::Fails);
        }
    }

    pub(crate) fn step_begins(&mut self, task: TaskId, points: Points) {
        let Some(&task) = self.tasks.get(&task) else { return };
        if let Some(outer) = self.steps.last_mut() {
            outer.has_polled = true;
        }
        let began = self.events.len();
        self.steps.push(Step { task, began, points, has_polled: false, shows: false });
        self.push(task, What::Begins { is_own: true, shows: false });
    }

    pub(crate) fn step_ends(&mut self, task: TaskId, points: Points) {
        let Some(&task) = self.tasks.get(&task) else { return };
        let Some(step) = self.steps.pop_if(|step| step.task == task) else { return };
        let is_own = !step.has_polled || step.shows || step.points != points;
        self.events[step.began].what = What::Begins { is_own, shows: step.shows };
        self.events.push(Event {
            time: self.time,
            step: Some(step.began),
            node: task,
            what: What::Ends { began: step.began },
        });
    }

    fn push(&mut self, node: usize, what: What) {
        let step = self.steps.last_mut();
        let event = Event { time: self.time, step: step.as_ref().map(|s| s.began), node, what };
        if let Some(step) = step
            && step.began != self.events.len()
            && event.is_deed()
        {
            step.shows = true;
        }
        self.events.push(event);
    }

    /// Notes what has become of a node that was there before.
    fn follow(&mut self, Located { tree, parent }: &Located<'_>) {
        let Some(&i) = self.living.get(&tree.id) else { return };
        let parent = parent.and_then(|id| self.living.get(&id)).copied();
        let node = &mut self.nodes[i];
        node.parent = parent.or(node.parent);
        node.name.clone_from(&tree.name);
        node.shield |= tree.shield;
        let waits = waits_of(tree);
        let (left, over): (Vec<_>, Vec<_>) = node.waits.iter().partition(|&&wait| {
            let Wait { what, place, .. } = &self.waits[wait];
            waits.contains(&(what, place))
        });
        node.waits = left;
        for wait in over {
            self.push(i, What::WaitsNoMore(wait));
        }
    }

    /// Notes that a node was cancelled, if it was not already cancelled from above: then nothing comes of it.
    fn note_cancel(&mut self, tree: &TreeNode) {
        let Some(&i) = self.living.get(&tree.id) else { return };
        let was_cancelled =
            std::mem::replace(&mut self.nodes[i].is_cancelled, tree.effectively_cancelled);
        let Some(reason) = tree.reason.as_ref().filter(|_| tree.cancel_called && !was_cancelled)
        else {
            return;
        };
        self.push(i, What::Cancelled { reason: reason.to_string() });
    }

    /// Those that are there no longer, the inner ones first.
    fn take_gone(&mut self, nodes: &[Located<'_>]) -> Vec<usize> {
        let there: BTreeSet<u64> = nodes.iter().map(|node| node.tree.id).collect();
        let gone = self.living.extract_if(.., |id, _| !there.contains(id));
        let mut gone: Vec<usize> = gone.map(|(_, i)| i).collect();
        gone.sort_by_key(|&i| (std::cmp::Reverse(self.above(i).count()), i));
        gone
    }

    fn bury(&mut self, gone: Vec<usize>) {
        for i in gone {
            for wait in std::mem::take(&mut self.nodes[i].waits) {
                self.push(i, What::WaitsNoMore(wait));
            }
            self.push(i, What::Leaves);
        }
    }

    fn welcome(&mut self, Located { tree, parent }: &Located<'_>) {
        if self.living.contains_key(&tree.id) {
            return;
        }
        let i = self.nodes.len();
        self.living.insert(tree.id, i);
        if let Some(task) = tree.task {
            self.tasks.insert(task, i);
        }
        self.nodes.push(Node {
            kind: tree.kind,
            parent: parent.and_then(|id| self.living.get(&id)).copied(),
            name: tree.name.clone(),
            place: tree.place,
            shield: tree.shield,
            is_cancelled: false,
            is_hit: false,
            waits: Vec::new(),
        });
        self.push(i, What::Enters);
        self.note_cancel(tree);
    }

    /// A task is hit by a cancellation if the innermost of its own scopes is.
    fn note_hits(&mut self, nodes: &[Located<'_>]) {
        let mut hit: BTreeMap<usize, bool> = BTreeMap::new();
        for node in nodes {
            let i = self.living[&node.tree.id];
            if let Some(task) = self.task_of(i) {
                hit.insert(task, node.tree.effectively_cancelled);
            }
        }
        for (task, is_hit) in hit {
            self.note_hit(task, is_hit);
        }
    }

    fn note_hit(&mut self, task: usize, is_hit: bool) {
        if std::mem::replace(&mut self.nodes[task].is_hit, is_hit) != is_hit {
            self.push(task, What::Hit(is_hit));
        }
    }

    fn note_new_waits(&mut self, tree: &TreeNode) {
        let i = self.living[&tree.id];
        for (what, place) in waits_of(tree) {
            let wait = Wait { node: i, what, place };
            let is_known = self.nodes[i].waits.iter().any(|&known| self.waits[known] == wait);
            if !is_known {
                self.nodes[i].waits.push(self.waits.len());
                self.push(i, What::Waits(self.waits.len()));
                self.waits.push(wait);
            }
        }
    }

    fn above(&self, i: usize) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(Some(i), |&i| self.nodes[i].parent)
    }

    /// The task that a node belongs to: itself, or the nearest task above.
    pub(crate) fn task_of(&self, i: usize) -> Option<usize> {
        self.above(i).find(|&i| self.nodes[i].kind == NodeKind::Task)
    }

    pub(crate) fn is_below(&self, i: usize, ancestor: usize) -> bool {
        self.above(i).any(|above| above == ancestor)
    }

    /// Which task did it. `None`: time, or somebody outside.
    pub(crate) fn by(&self, event: &Event) -> Option<usize> {
        event.step.map(|began| self.events[began].node)
    }

    /// The tasks in the order of the tree: each before those below it, siblings as they came.
    pub(crate) fn rows(&self) -> Vec<usize> {
        let mut below: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
        for (i, node) in self.nodes.iter().enumerate() {
            below.entry(node.parent).or_default().push(i);
        }
        let mut rows = Vec::new();
        let mut stack = vec![None];
        while let Some(at) = stack.pop() {
            rows.extend(at);
            stack.extend(below.get(&at).into_iter().flatten().rev().map(|&i| Some(i)));
        }
        rows.retain(|&i| self.nodes[i].kind == NodeKind::Task);
        rows
    }

    /// The names of the nodes; those without one are called by their place.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut used: BTreeMap<String, usize> = BTreeMap::new();
        let mut names = Vec::new();
        for node in &self.nodes {
            let name = node.name.clone().unwrap_or_else(|| Place(node.place).to_string());
            if node.kind == NodeKind::Task {
                let used = used.entry(name.clone()).or_default();
                *used += 1;
                names.push(if *used == 1 { name } else { format!("{name} #{used}") });
            } else {
                names.push(name);
            }
        }
        names
    }
}

/// What is waited for directly in a node, a nursery's tasks included.
fn waits_of(node: &TreeNode) -> Vec<(&'static str, &'static Location<'static>)> {
    let children = node.waits_for_children.then_some(("its children", node.place));
    node.waits.iter().rev().map(|wait| (wait.what, wait.place)).chain(children).collect()
}

/// A node of a tree, and its parent there.
struct Located<'a> {
    tree: &'a TreeNode,
    parent: Option<u64>,
}

impl<'a> Located<'a> {
    /// All but those that every run has: its root, and the nursery of the system tasks.
    fn all(tree: &'a Tree) -> Vec<Self> {
        let mut path: Vec<&TreeNode> = Vec::new();
        let mut all = Vec::new();
        for tree in tree.nodes() {
            path.truncate(tree.depth);
            let above = path.last();
            let is_system = tree.kind == NodeKind::Nursery
                && above.is_some_and(|above| above.kind == NodeKind::Run);
            if tree.kind != NodeKind::Run && !is_system {
                all.push(Located { tree, parent: above.map(|above| above.id) });
            }
            path.push(tree);
        }
        all
    }
}

/// A place, without the folder.
pub(crate) struct Place(pub(crate) &'static Location<'static>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.0.file();
        write!(f, "{}:{}", file.rsplit(['/', '\\']).next().unwrap_or(file), self.0.line())
    }
}

/// A time, in seconds.
pub(crate) struct Seconds(pub(crate) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:09}", self.0.as_secs(), self.0.subsec_nanos());
        write!(f, "{} s", text.trim_end_matches('0').trim_end_matches('.'))
    }
}
