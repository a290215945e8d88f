//! The node tree: which cancellation reaches which task.
//!
//! Tasks, nurseries and scopes are nodes of one tree. A **scope** has as its parent the node that was
//! current where it is polled; a **nursery** is a scope whose child nodes are, besides the scopes of its
//! body, its tasks; a **task** is a scope too, so that one child can be cancelled alone. A node is
//! *effectively cancelled* if it was cancelled itself or if, without a shield, its parent is.
//!
//! Most tasks do without a node: they get it when something is to be below it (a scope, a nursery), or when somebody asks
//! for it (to cancel it alone, by its id, to draw the tree). Until then a task shares the node of its nursery; the ones that
//! have waited are on the list of the nursery's [leaves](Ready), where its cancellation finds them. Most time limits do without one, too:
//! see [`light`](crate::scope::light).
//!
//! ```text
//!  task main ── scope "timeout" ── nursery ─┬─ task "a" ── scope
//!                                           ├─ task "b"
//!                                           └─ scope (of the nursery's body)
//! ```
//!
//! # Invariants           ([`State::validate`] checks them after every change in debug builds)
//!
//! 1. `effective(n) = called(n) || (!shield(n) && effective(parent(n)))`. Not monotone: raising a shield clears it.
//! 2. Parent and child links agree, in both directions.
//! 3. A node that became effectively cancelled has a reason.
//! 4. No foreign code runs here: what is to be woken or dropped is collected in [`Effects`].
//!
//! # Why
//!
//! Recalculation walks along the links, without recursion and without a stack of its own, and only below
//! nodes that really flip: cancelling a chain of 100,000 nodes is one linear walk.
//!
//! Delivery to the waits of a node that flips: [`crate::wait`].

mod children;
pub(crate) mod dump;
mod effects;

use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use slotmap::{SlotMap, new_key_type};

use crate::deadlines::{Deadlines, Limit, Target, Timer};
use crate::local::Locals;
use crate::nursery::erase::Task;
use crate::nursery::ready::Ready;
use crate::park::breakers::Breakers;
use crate::scope::reason::{CancelReason, CancelSource};
use crate::tree::children::Children;
pub(crate) use crate::tree::effects::Effects;
use crate::wait::apart::{Wait, WaitId};

new_key_type! {
    /// A node of the tree.
    pub(crate) struct NodeId;
}

pub(crate) struct Node {
    pub(crate) parent: Option<NodeId>,
    /// Where it is among its parent's children.
    index: u32,
    children: Children,
    /// The waits that a cancellation of this node interrupts, of those in [`State::waits`]: head of a list.
    pub(crate) first_wait: Option<WaitId>,
    /// How many waits in the cells of tasks it interrupts. Not counted at a task's own node.
    pub(crate) own_waits: u32,
    /// `cancel` was called on this very node, or its deadline passed.
    pub(crate) called: bool,
    /// Outer cancellation does not enter.
    pub(crate) shield: bool,
    /// Invariant 1. Written by `recalculate` only.
    effective: bool,
    /// When it came, among its siblings. Counts in a circle.
    pub(crate) born: u32,
    /// Set when the node first becomes effectively cancelled, then never changed.
    pub(crate) reason: Option<Arc<CancelReason>>,
    /// Where the task was started, or the scope entered.
    pub(crate) place: &'static Location<'static>,
    pub(crate) kind: Kind,
    /// What few nodes have.
    pub(crate) extra: Option<Box<Extra>>,
}

pub(crate) enum Kind {
    Task(Task),
    /// The nursery's ready list, and its time limit.
    Nursery(Rc<Ready>, Timer),
    Scope(Timer),
}

#[derive(Default)]
pub(crate) struct Extra {
    pub(crate) name: Option<Box<str>>,
    pub(crate) locals: Option<Rc<Locals>>,
}

/// What the rest of the state knows of a node.
struct Ties {
    parent: Option<NodeId>,
    index: u32,
    is_task: bool,
    /// It has an entry in the queue of deadlines.
    has_queued_timer: bool,
}

/// The mutable heart of a run. Borrowed for moments only, never across foreign code.
pub(crate) struct State {
    pub(crate) nodes: SlotMap<NodeId, Node>,
    pub(crate) waits: SlotMap<WaitId, Wait>,
    pub(crate) deadlines: Deadlines,
    /// The number of waits on something outside the run.
    pub(crate) outside: usize,
    pub(crate) tasks: usize,
    /// The parking lots that break when a task ends.
    pub(crate) breakers: Breakers,
    /// Changes since the whole tree was last validated.
    #[cfg(debug_assertions)]
    unchecked: usize,
}

impl Node {
    const BLANK: Node = Node {
        parent: None,
        index: 0,
        children: Children::None,
        first_wait: None,
        own_waits: 0,
        called: false,
        shield: false,
        effective: false,
        born: 0,
        reason: None,
        place: Location::caller(),
        kind: Kind::Scope(Timer::Never),
        extra: None,
    };

    #[inline(always)]
    pub(crate) fn new(kind: Kind, place: &'static Location<'static>) -> Self {
        Node { kind, place, ..Node::BLANK }
    }

    pub(crate) fn effective(&self) -> bool {
        self.effective
    }

    pub(crate) fn is_task(&self) -> bool {
        matches!(self.kind, Kind::Task(_))
    }

    /// Is there nothing below it, and nothing in it that is not ours?
    #[inline]
    fn is_plain(&self) -> bool {
        let is_own = match &self.kind {
            Kind::Nursery(list, _) => Rc::strong_count(list) > 1,
            Kind::Task(_) | Kind::Scope(_) => true,
        };
        let is_alone = matches!(self.children, Children::None);
        is_own && is_alone && self.extra.is_none()
    }

    #[inline(always)]
    fn ties(&self) -> Ties {
        let has_queued_timer = match &self.kind {
            Kind::Nursery(_, timer) | Kind::Scope(timer) => matches!(timer, Timer::At { .. }),
            Kind::Task(_) => false,
        };
        Ties { parent: self.parent, index: self.index, is_task: self.is_task(), has_queued_timer }
    }

    /// The time limit. Tasks have none.
    pub(crate) fn timer(&self) -> Timer {
        match self.kind {
            Kind::Nursery(_, timer) | Kind::Scope(timer) => timer,
            Kind::Task(_) => Timer::Never,
        }
    }

    pub(crate) fn timer_mut(&mut self) -> Option<&mut Timer> {
        match &mut self.kind {
            Kind::Nursery(_, timer) | Kind::Scope(timer) => Some(timer),
            Kind::Task(_) => None,
        }
    }

    pub(crate) fn take_timer(&mut self) -> Timer {
        self.timer_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The ready list of a nursery.
    pub(crate) fn list(&self) -> Option<&Rc<Ready>> {
        match &self.kind {
            Kind::Nursery(ready, _) => Some(ready),
            Kind::Task(_) | Kind::Scope(_) => None,
        }
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.extra.as_ref()?.name.as_deref()
    }

    pub(crate) fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// The name, or else the place, for messages.
    pub(crate) fn label(&self) -> String {
        match self.name() {
            Some(name) => name.to_owned(),
            None => format!("{}:{}", self.place.file(), self.place.line()),
        }
    }
}

impl State {
    /// An empty tree, whose timers count from `epoch`.
    pub(crate) fn new(epoch: Instant) -> Self {
        State {
            nodes: SlotMap::with_key(),
            waits: SlotMap::with_key(),
            deadlines: Deadlines::new(epoch),
            outside: 0,
            tasks: 0,
            breakers: Breakers::default(),
            #[cfg(debug_assertions)]
            unchecked: 0,
        }
    }

    /// Adds `node` as the youngest child of `parent`; it inherits cancellation at once.
    #[inline]
    pub(crate) fn insert(&mut self, parent: Option<NodeId>, node: Node) -> NodeId {
        let id = self.insert_blank(parent, node.shield, node.called);
        self.tasks += usize::from(node.is_task());
        let new = &mut self.nodes[id];
        if node.reason.is_some() {
            new.reason = node.reason;
        }
        new.born = node.born;
        new.place = node.place;
        new.kind = node.kind;
        new.extra = node.extra;
        self.validate(id);
        id
    }

    /// The same, for a scope that had a time limit before it had a node: `timer` sets that for the node.
    pub(crate) fn insert_limit(
        &mut self,
        parent: Option<NodeId>,
        born: u32,
        place: &'static Location<'static>,
        timer: impl FnOnce(&mut Deadlines, Target) -> Timer,
    ) -> NodeId {
        let id = self.insert_blank(parent, false, false);
        let new = &mut self.nodes[id];
        new.born = born;
        new.place = place;
        new.kind = Kind::Scope(timer(&mut self.deadlines, Target::Scope(id)));
        self.sweep_fresh();
        self.validate(id);
        id
    }

    /// Adds a node to be filled in. So it is put together in its place, and not read back from elsewhere right after it was
    /// stored there by parts.
    #[inline]
    fn insert_blank(&mut self, parent: Option<NodeId>, shield: bool, called: bool) -> NodeId {
        let above = parent.and_then(|parent| self.nodes.get(parent));
        let effective = called || (!shield && above.is_some_and(Node::effective));
        let reason = above.filter(|_| effective).and_then(|above| above.reason.clone());
        let id = self.nodes.insert(Node::BLANK);
        self.link(id, parent);
        let new = &mut self.nodes[id];
        new.called = called;
        new.shield = shield;
        new.effective = effective;
        new.reason = reason;
        id
    }

    /// Takes a node out. Nodes that are still below it (left by futures that were forgotten or moved away)
    /// become roots, to be adopted where they are next polled.
    #[inline]
    pub(crate) fn remove(&mut self, id: NodeId) -> Option<Node> {
        let ties = self.nodes.get(id)?.ties();
        let node = self.nodes.remove(id)?;
        self.untie(ties);
        if !matches!(node.children, Children::None) {
            self.release(&node.children);
        }
        Some(node)
    }

    /// Takes a node out, as [`remove`](Self::remove) does, that is of no further interest. `None`: it is gone. Returns
    /// whether it [absorbs](Self::absorbs), and what is to be dropped with nothing borrowed: mostly nothing.
    #[inline]
    pub(crate) fn discard(&mut self, id: NodeId) -> Option<(bool, Option<Node>)> {
        let node = self.nodes.get(id)?;
        let absorbs = self.absorbs_in(node);
        if !node.is_plain() {
            return Some((absorbs, self.remove(id)));
        }
        let ties = node.ties();
        drop(self.nodes.remove(id));
        self.untie(ties);
        Some((absorbs, None))
    }

    /// A node that was tied so has been taken out.
    #[inline(always)]
    fn untie(&mut self, ties: Ties) {
        self.leave_parent(ties.parent, ties.index);
        self.tasks -= usize::from(ties.is_task);
        if ties.has_queued_timer {
            self.forget_queued();
        }
    }

    /// Takes the node of a task out, unless the tree has been emptied since it came.
    pub(crate) fn remove_task(&mut self, id: NodeId, task: &Task) -> Option<Node> {
        let is_there = self.task(id).is_some_and(|other| other.is(task));
        is_there.then(|| self.remove(id)).flatten()
    }

    /// Makes roots of those whose parent has gone.
    #[cold]
    fn release(&mut self, orphans: &Children) {
        for orphan in orphans.iter() {
            self.nodes[orphan].parent = None;
        }
        for orphan in orphans.iter() {
            self.walk(orphan, &mut Effects::default()); // ceasing to be cancelled wakes nobody
        }
    }

    /// Moves a node, with all that is below it, under `parent`.
    pub(crate) fn reparent(&mut self, id: NodeId, parent: Option<NodeId>, fx: &mut Effects) {
        self.unlink(id);
        self.link(id, parent);
        self.recalculate(id, fx);
    }

    /// Marks a node cancelled. The first reason stands.
    pub(crate) fn cancel(
        &mut self,
        id: NodeId,
        reason: impl FnOnce(&State) -> CancelReason,
        fx: &mut Effects,
    ) {
        let Some(node) = self.nodes.get(id) else { return };
        if node.called {
            return;
        }
        let reason = node.reason.is_none().then(|| Arc::new(reason(self)));
        let node = &mut self.nodes[id];
        node.called = true;
        node.reason = reason.or_else(|| node.reason.take());
        let timer = node.take_timer();
        self.forget_timer(timer);
        self.recalculate(id, fx);
    }

    pub(crate) fn set_shield(&mut self, id: NodeId, on: bool, fx: &mut Effects) {
        if let Some(node) = self.nodes.get_mut(id)
            && (node.shield != on || fx.overdue.is_some())
        {
            node.shield = on;
            self.recalculate(id, fx);
        }
    }

    /// Gives a new node its time limit.
    #[inline]
    pub(crate) fn arm(&mut self, id: NodeId, limit: Limit) {
        let State { nodes, deadlines, .. } = self;
        if let Some(timer) = nodes.get_mut(id).filter(|node| !node.called).and_then(Node::timer_mut)
        {
            *timer = deadlines.set(Target::Scope(id), limit);
            self.sweep_fresh();
        }
    }

    /// Gives a node another time limit. A relative one counts from the next reading of the clock.
    pub(crate) fn set_limit(&mut self, id: NodeId, limit: Limit) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        let old = node.take_timer();
        let called = node.called;
        self.forget_timer(old);
        if !called && let Some(timer) = self.nodes[id].timer_mut() {
            *timer = self.deadlines.set(Target::Scope(id), limit);
            self.sweep_fresh();
        }
    }

    #[inline]
    pub(crate) fn sweep_fresh(&mut self) {
        if self.deadlines.has_many_fresh() {
            self.sweep_fresh_now();
        }
    }

    #[cold]
    fn sweep_fresh_now(&mut self) {
        let State { nodes, waits, deadlines, .. } = self;
        deadlines.sweep_fresh(|target, seq| is_live(nodes, waits, target, seq));
    }

    /// The deadline of a node, if it has one that counts already.
    pub(crate) fn deadline(&self, node: &Node) -> Option<Instant> {
        match node.timer() {
            Timer::At { at, .. } => self.deadlines.instant(at),
            Timer::Never | Timer::After { .. } => None,
        }
    }

    /// Does this scope absorb the cancellation that leaves it? Asked when it is left: the outermost
    /// cancelled scope that can be reached without crossing a shield does.
    pub(crate) fn absorbs(&self, id: NodeId) -> bool {
        self.nodes.get(id).is_some_and(|node| self.absorbs_in(node))
    }

    /// The same, of a node that may have been taken out.
    #[inline]
    pub(crate) fn absorbs_in(&self, node: &Node) -> bool {
        node.called && (node.shield || !node.parent.is_some_and(|p| self.effective(p)))
    }

    pub(crate) fn effective(&self, id: NodeId) -> bool {
        self.nodes.get(id).is_some_and(Node::effective)
    }

    /// Why a node is, or was, cancelled.
    pub(crate) fn known_reason(&self, id: NodeId) -> Option<Arc<CancelReason>> {
        self.nodes.get(id)?.reason.clone()
    }

    /// The reason with which a checkpoint in this node raises.
    pub(crate) fn reason(&self, id: NodeId) -> Arc<CancelReason> {
        match self.known_reason(id) {
            Some(reason) => reason,
            None => Arc::new(CancelReason::new(CancelSource::Unknown)),
        }
    }

    /// The children of a node, in the order in which they entered the tree.
    pub(crate) fn children(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.get(id).into_iter().flat_map(|node| node.children.iter())
    }

    /// The same: they may have entered the tree in another order than they came.
    pub(crate) fn children_by_age(&self, id: NodeId) -> Vec<NodeId> {
        let mut children: Vec<NodeId> = self.children(id).collect();
        sort_by_age(&mut children, |&child| self.nodes[child].born);
        children
    }

    /// The tasks that have no node, but for one that is running.
    pub(crate) fn tasks_without_node(&self) -> Vec<Task> {
        let lists = self.nodes.values().filter_map(Node::list);
        lists.flat_map(|list| list.tasks_without_node()).collect()
    }

    pub(crate) fn tasks_with_node(&self) -> impl Iterator<Item = &Task> {
        self.nodes.keys().filter_map(|id| self.task(id))
    }

    pub(crate) fn task(&self, id: NodeId) -> Option<&Task> {
        match self.nodes.get(id) {
            Some(Node { kind: Kind::Task(task), .. }) => Some(task),
            _ => None,
        }
    }

    /// What the children of a task inherit.
    pub(crate) fn locals_of(&self, id: NodeId) -> Option<Box<Extra>> {
        let locals = self.nodes.get(id)?.extra.as_ref()?.locals.clone()?;
        Some(Box::new(Extra { locals: Some(locals), ..Extra::default() }))
    }

    /// The task that a node belongs to: itself, or the nearest task above.
    pub(crate) fn task_of(&self, id: NodeId) -> Option<NodeId> {
        std::iter::successors(Some(id), |&at| self.nodes.get(at)?.parent)
            .find(|&at| self.nodes.get(at).is_some_and(Node::is_task))
    }

    pub(crate) fn label(&self, id: NodeId) -> String {
        self.nodes.get(id).map_or_else(|| "ended".to_owned(), Node::label)
    }

    pub(crate) fn timer_of(&self, target: &Target) -> Option<Timer> {
        timer_of(&self.nodes, &self.waits, target)
    }

    /// Sets the timer of a target that is there.
    pub(crate) fn set_timer_of(&mut self, target: &Target, timer: Timer) {
        match target {
            Target::Scope(id) => {
                if let Some(old) = self.nodes[*id].timer_mut() {
                    *old = timer;
                }
            }
            Target::Sleeper(task) => task.wait().timer.set(timer),
            Target::Apart(id) => self.waits[*id].timer = timer,
        }
    }

    pub(crate) fn forget_timer(&mut self, timer: Timer) {
        if matches!(timer, Timer::At { .. }) {
            self.forget_queued();
        }
    }

    /// An entry in the queue of deadlines stands for nothing any more.
    #[inline]
    fn forget_queued(&mut self) {
        if self.deadlines.forget() {
            let State { nodes, waits, deadlines, .. } = self;
            deadlines.sweep(|target, seq| is_live(nodes, waits, target, seq));
        }
    }

    /// Restores invariant 1 at and below `start`, and delivers to the nodes that became cancelled.
    fn recalculate(&mut self, start: NodeId, fx: &mut Effects) {
        self.walk(start, fx);
        self.validate(start);
    }

    fn walk(&mut self, start: NodeId, fx: &mut Effects) {
        let mut at = start;
        loop {
            let descend =
                self.flip(at, fx).then(|| self.nodes[at].children.at_or_after(0)).flatten();
            at = match descend {
                Some(child) => child,
                None => match self.next_in_walk(at, start) {
                    Some(next) => next,
                    None => break,
                },
            };
        }
    }

    /// Recomputes one node. Returns whether it changed.
    fn flip(&mut self, id: NodeId, fx: &mut Effects) -> bool {
        if let Some(now) = fx.overdue {
            self.notice_deadline(id, now);
        }
        let node = &self.nodes[id];
        let above = node.parent.filter(|_| !node.shield).and_then(|p| self.nodes.get(p));
        let inherited = above.is_some_and(Node::effective);
        let effective = node.called || inherited;
        if effective == node.effective {
            return false;
        }
        let reason = match node.reason {
            None if effective => above.and_then(|a| a.reason.clone()),
            _ => None,
        };
        let node = &mut self.nodes[id];
        node.effective = effective;
        node.reason = node.reason.take().or(reason);
        fx.flipped = true;
        if effective {
            self.deliver(id, fx);
        }
        true
    }

    fn notice_deadline(&mut self, id: NodeId, now: Instant) {
        let node = &mut self.nodes[id];
        if matches!(node.timer(), Timer::At { at, .. } if self.deadlines.is_due(at, now)) {
            node.called = true;
            node.reason.get_or_insert_with(|| Arc::new(CancelSource::Deadline.into()));
            let timer = node.take_timer();
            self.forget_timer(timer);
        }
    }

    /// The node after `at` in a walk below `start` that does not descend from `at`.
    fn next_in_walk(&self, mut at: NodeId, start: NodeId) -> Option<NodeId> {
        while at != start {
            let node = &self.nodes[at];
            let above = node.parent?;
            let next = self.nodes[above].children.at_or_after(node.index + 1);
            if next.is_some() {
                return next;
            }
            at = above;
        }
        None
    }

    #[inline(always)]
    fn link(&mut self, id: NodeId, parent: Option<NodeId>) {
        let Some(parent) = parent.filter(|&p| self.nodes.contains_key(p)) else { return };
        let index = self.nodes[parent].children.push(id);
        let node = &mut self.nodes[id];
        node.parent = Some(parent);
        node.index = index;
    }

    fn unlink(&mut self, id: NodeId) {
        let node = &mut self.nodes[id];
        let (parent, index) = (node.parent.take(), node.index);
        self.leave_parent(parent, index);
    }

    /// One of the children of `parent`, if there is such a node, has gone.
    #[inline(always)]
    fn leave_parent(&mut self, parent: Option<NodeId>, index: u32) {
        if let Some(parent) = parent
            && self.nodes[parent].children.remove(index)
        {
            self.close_up(parent);
        }
    }

    #[cold]
    fn close_up(&mut self, parent: NodeId) {
        let mut children = std::mem::take(&mut self.nodes[parent].children);
        children.close_up(|child, index| self.nodes[child].index = index);
        self.nodes[parent].children = children;
    }

    /// Checks the invariants around `changed`; the whole tree while it is small, and every so often when it is not.
    #[cfg(debug_assertions)]
    fn validate(&mut self, changed: NodeId) {
        self.unchecked += 1;
        if self.nodes.len() <= 16 || self.unchecked >= self.nodes.len() {
            self.unchecked = 0;
            self.nodes.keys().for_each(|id| self.validate_node(id));
        } else if self.nodes.contains_key(changed) {
            self.validate_node(changed);
        }
    }

    #[cfg(not(debug_assertions))]
    #[expect(clippy::unused_self, reason = "the same call as in debug builds")]
    fn validate(&mut self, _changed: NodeId) {}

    #[cfg(debug_assertions)]
    fn validate_node(&self, id: NodeId) {
        let node = &self.nodes[id];
        let above = node.parent.is_some_and(|p| self.nodes[p].effective);
        assert_eq!(node.effective, node.called || (!node.shield && above), "invariant 1");
        assert!(!node.effective || node.reason.is_some(), "invariant 3");
        if let Some(parent) = node.parent {
            let children = &self.nodes[parent].children;
            assert_eq!(children.at_or_after(node.index), Some(id), "invariant 2");
        }
        for child in node.children.iter() {
            assert_eq!(self.nodes[child].parent, Some(id), "invariant 2");
        }
    }
}

/// Puts what was born, in a circle of numbers, in order. All of it within half a circle.
pub(crate) fn sort_by_age<T>(all: &mut [T], born: impl Fn(&T) -> u32) {
    if let Some(any) = all.first().map(&born) {
        all.sort_by_key(|one| born(one).wrapping_sub(any).cast_signed());
    }
}

/// The timer of a target, if that is still there.
fn timer_of(
    nodes: &SlotMap<NodeId, Node>,
    waits: &SlotMap<WaitId, Wait>,
    target: &Target,
) -> Option<Timer> {
    match target {
        Target::Scope(id) => nodes.get(*id).map(Node::timer),
        Target::Sleeper(task) => Some(task.wait().timer.get()),
        Target::Apart(id) => waits.get(*id).map(|wait| wait.timer),
    }
}

/// Does a timer of this number still stand for something?
pub(crate) fn is_live(
    nodes: &SlotMap<NodeId, Node>,
    waits: &SlotMap<WaitId, Wait>,
    target: &Target,
    seq: u32,
) -> bool {
    timer_of(nodes, waits, target).and_then(Timer::seq) == Some(seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Node {
        Node::new(Kind::Scope(Timer::Never), Location::caller())
    }

    fn explicit(_: &State) -> CancelReason {
        CancelReason::new(CancelSource::Explicit)
    }

    /// Deep is fine: cancelling and taking down a chain of 100,000 nodes is iterative and linear.
    #[test]
    fn a_chain_of_100_000_nodes_is_cancelled_and_removed_without_recursion() {
        let mut state = State::new(crate::clock::real_now());
        let mut chain = vec![state.insert(None, scope())];
        for _ in 1..100_000 {
            let parent = chain.last().copied();
            chain.push(state.insert(parent, scope()));
        }
        let mut fx = Effects::default();
        state.cancel(chain[0], explicit, &mut fx);
        assert!(fx.flipped);
        assert!(state.effective(chain[99_999]));
        state.remove(chain[50_000]);
        assert!(state.nodes[chain[50_001]].parent.is_none());
        for &id in chain.iter().rev() {
            state.remove(id);
        }
        assert!(state.nodes.is_empty());
    }

    /// Against a naive twin: random changes, and after each the definition of invariant 1 by recursion.
    #[test]
    fn recalculation_agrees_with_the_definition() {
        fn naive(state: &State, id: NodeId) -> bool {
            let node = &state.nodes[id];
            node.called || (!node.shield && node.parent.is_some_and(|p| naive(state, p)))
        }
        for seed in 0..200_u64 {
            let mut rng = seed * 2 + 1;
            let mut below = |n: usize| {
                rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                usize::try_from(rng >> 33).unwrap() % n
            };
            let mut state = State::new(crate::clock::real_now());
            let mut ids = vec![state.insert(None, scope())];
            for _ in 0..60 {
                let mut fx = Effects::default();
                let id = ids[below(ids.len())];
                match below(6) {
                    0 | 1 => ids.push(state.insert(Some(id), scope())),
                    2 if below(4) == 0 => state.cancel(id, explicit, &mut fx),
                    3 => state.set_shield(id, below(2) == 0, &mut fx),
                    4 => {
                        let to = ids[below(ids.len())];
                        let cycle = std::iter::successors(Some(to), |&n| state.nodes[n].parent)
                            .any(|above| above == id);
                        if !cycle {
                            state.reparent(id, Some(to), &mut fx);
                        }
                    }
                    _ => {}
                }
                for &id in &ids {
                    assert_eq!(state.effective(id), naive(&state, id), "seed {seed}");
                }
            }
        }
    }
}
