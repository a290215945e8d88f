//! Which tasks of a [`Tree`] wait for each other, in a circle.
//!
//! A task waits for those that hold what it waits for, for those in a nursery whose body has ended, for a child that it
//! joins, and for one that it starts. What else it waits for, an event or a channel say, anybody could bring.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::Location;

use crate::stats::TaskId;
use crate::tree::dump::{NodeKind, Place, Tree, TreeNode};

/// One task waits for another. Tasks are given by their position in the tree.
struct Edge {
    from: usize,
    to: usize,
    /// What it waits for, and what the other has to do with it.
    why: String,
}

/// Tasks that wait for each other in a circle, a line for each.
pub(crate) struct Cycle(Vec<String>);

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| writeln!(f, "- {line}"))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Visit {
    New,
    OnPath,
    Done,
}

impl Tree {
    /// Finds circles of waiting tasks: one in each knot, whose first task is the first in the tree.
    pub(crate) fn cycles(&self) -> Vec<Cycle> {
        let edges = self.edges();
        let mut visits = vec![Visit::New; self.nodes.len()];
        let starts = 0..self.nodes.len();
        starts.filter_map(|start| self.cycle_from(start, &edges, &mut visits)).collect()
    }

    fn cycle_from(
        &self,
        start: usize,
        edges: &BTreeMap<usize, Vec<Edge>>,
        visits: &mut [Visit],
    ) -> Option<Cycle> {
        if visits[start] != Visit::New {
            return None;
        }
        visits[start] = Visit::OnPath;
        // The tasks from `start` to where we are, and which of their edges is next.
        let mut path = vec![(start, 0)];
        while let Some((at, next)) = path.last_mut() {
            let Some(edge) = edges.get(at).and_then(|edges| edges.get(*next)) else {
                visits[*at] = Visit::Done;
                path.pop();
                continue;
            };
            *next += 1;
            match visits[edge.to] {
                Visit::Done => {}
                Visit::New => {
                    visits[edge.to] = Visit::OnPath;
                    path.push((edge.to, 0));
                }
                Visit::OnPath => {
                    path.iter().for_each(|&(task, _)| visits[task] = Visit::Done);
                    let circle = path.iter().skip_while(|&&(task, _)| task != edge.to);
                    let taken = circle.map(|&(task, next)| &edges[&task][next - 1]);
                    return Some(Cycle(taken.map(|edge| self.in_words(edge)).collect()));
                }
            }
        }
        None
    }

    fn in_words(&self, edge: &Edge) -> String {
        let [from, to] = [edge.from, edge.to].map(|task| Label(&self.nodes[task]));
        format!("{from} waits for {} {to}", edge.why)
    }

    /// Who waits for whom, by who waits.
    fn edges(&self) -> BTreeMap<usize, Vec<Edge>> {
        let tasks = Tasks::of(&self.nodes);
        let mut edges: BTreeMap<usize, Vec<Edge>> = BTreeMap::new();
        let mut path: Vec<usize> = Vec::new();
        for (i, node) in self.nodes.iter().enumerate() {
            path.truncate(node.depth);
            let edge = self.edge_to(i, &path);
            path.push(i);
            let waits = self.task_at(&path).map(|task| tasks.edges_of_waits(task, node));
            for edge in edge.into_iter().chain(waits.into_iter().flatten()) {
                edges.entry(edge.from).or_default().push(edge);
            }
        }
        edges
    }

    /// The task that the last node of a path belongs to.
    fn task_at(&self, path: &[usize]) -> Option<usize> {
        path.iter().rev().copied().find(|&i| self.nodes[i].kind == NodeKind::Task)
    }

    /// A task is waited for by the one that closes its nursery, or that starts it. `path` leads to its parent.
    fn edge_to(&self, to: usize, path: &[usize]) -> Option<Edge> {
        if self.nodes[to].kind != NodeKind::Task {
            return None;
        }
        let parent = &self.nodes[*path.last()?];
        let why = match parent.kind {
            NodeKind::Scope | NodeKind::Task => "the start of".to_owned(),
            _ if parent.waits_for_children => {
                format!("its children ({}), among them", Place(parent.place))
            }
            _ => return None,
        };
        Some(Edge { from: self.task_at(path)?, to, why })
    }
}

/// Where in the tree tasks are.
struct Tasks {
    by_id: BTreeMap<TaskId, usize>,
    /// By the place where they were started.
    by_place: BTreeMap<&'static Location<'static>, Vec<usize>>,
}

impl Tasks {
    fn of(nodes: &[TreeNode]) -> Self {
        let mut tasks = Tasks { by_id: BTreeMap::new(), by_place: BTreeMap::new() };
        for (i, node) in nodes.iter().enumerate() {
            if let Some(id) = node.task {
                tasks.by_id.insert(id, i);
                tasks.by_place.entry(node.place).or_default().push(i);
            }
        }
        tasks
    }

    fn edges_of_waits(&self, from: usize, node: &TreeNode) -> Vec<Edge> {
        let mut edges = Vec::new();
        for wait in &node.waits {
            let why = format!("{} ({}), held by", wait.what, Place(wait.place));
            let holders = wait.held_by.iter().filter_map(|id| self.by_id.get(id));
            edges.extend(holders.map(|&to| Edge { from, to, why: why.clone() }));
            // The place of a join is where the child was started: by it, it is known, unless it has a twin.
            if wait.what == "a child"
                && let Some(&[to]) = self.by_place.get(wait.place).map(Vec::as_slice)
            {
                edges.push(Edge { from, to, why: "the end of".to_owned() });
            }
        }
        edges
    }
}

/// A task, by its name or else its place.
struct Label<'a>(&'a TreeNode);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.name {
            Some(name) => write!(f, "task {name:?}"),
            None => write!(f, "task ({})", Place(self.0.place)),
        }
    }
}
