//! [`Frame`]: a node of the tree that lives as long as a future is inside it.
//!
//! ```text
//!  new ──1──▶ entered ──2──▶ left       1 first poll, under the node that is current then   2 leave, or drop
//! ```
//!
//! A frame that is polled under another node than before (its future was moved to another task) moves there.

use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;

use crate::deadlines::{Limit, Timer};
use crate::run::{Run, context};
use crate::scope::reason::CancelReason;
use crate::tree::{Kind, Node, NodeId};

#[derive(Default)]
pub(crate) struct Frame {
    entry: Option<(Rc<Run>, NodeId)>,
}

/// What a frame was when it was left.
pub(crate) struct Left {
    /// It absorbs the cancellations that leave it.
    pub(crate) absorbs: bool,
    /// `None`: the tree had been emptied before.
    pub(crate) fate: Option<Fate>,
}

/// What a node was in the end.
pub(crate) struct Fate {
    pub(crate) called: bool,
    pub(crate) shield: bool,
    pub(crate) reason: Option<Arc<CancelReason>>,
}

impl Frame {
    /// The frame of a node that is in the tree already.
    pub(crate) fn of(run: Rc<Run>, node: NodeId) -> Self {
        Frame { entry: Some((run, node)) }
    }

    pub(crate) fn entry(&self) -> Option<&(Rc<Run>, NodeId)> {
        self.entry.as_ref()
    }

    /// Adds a node below the current one.
    pub(crate) fn enter(&mut self, what: &str, mut node: Node, limit: Limit) -> NodeId {
        let run = context::current_run_at(what, node.place);
        let parent = context::position_at(what, node.place);
        node.born = run.birth();
        let id = {
            let mut state = run.state.borrow_mut();
            let id = state.insert(Some(parent), node);
            if limit != Limit::Never {
                state.arm(id, limit);
            }
            id
        };
        if limit != Limit::Never {
            run.limit_was_set();
        }
        self.entry = Some((run, id));
        id
    }

    /// Calls `f`, which polls what is inside, with this node as the current one.
    #[inline]
    #[track_caller]
    pub(crate) fn inside<R>(&mut self, f: impl FnOnce() -> R) -> R {
        let (run, id) = self.entry.as_ref().expect("entered");
        let parent = context::position("a scope or nursery");
        assert!(
            context::is_current(run),
            "a scope or nursery that was entered in one run was polled in another\n\
             \n\
             It belongs to the tree of the run it was entered in, with its clock and its tasks. Move the \
             whole computation to the other run before it is first polled."
        );
        let (is_moved, mut cancelled) = match run.state.borrow().nodes.get(*id) {
            Some(node) => (node.parent != Some(parent), node.effective()),
            None => (false, false),
        };
        if is_moved {
            run.change(|state, fx| state.reparent(*id, Some(parent), fx));
            cancelled = run.state.borrow().effective(*id);
        }
        let _inside = context::enter_node(*id, cancelled);
        f()
    }

    /// Takes the node out of the tree.
    #[inline]
    pub(crate) fn leave(&mut self) -> Option<Left> {
        let (run, id) = self.entry.take()?;
        let mut state = run.state.borrow_mut();
        let fate = state.nodes.get(id).map(|node| Fate {
            called: node.called,
            shield: node.shield,
            reason: node.reason.clone(),
        });
        let ended = state.discard(id);
        drop(state);
        Some(Left { absorbs: ended.is_some_and(|(absorbs, _rest)| absorbs), fate })
    }

    /// The same, for a node that is of no further interest. Returns whether it absorbs the cancellations that leave it.
    #[inline]
    pub(crate) fn end(&mut self) -> bool {
        let Some((run, id)) = self.entry.take() else { return false };
        let ended = run.state.borrow_mut().discard(id);
        ended.is_some_and(|(absorbs, _rest)| absorbs)
    }
}

impl Frame {
    /// For futures that are dropped half-way.
    #[cold]
    fn drop_now(&mut self) {
        self.end();
    }
}

impl Drop for Frame {
    #[inline]
    fn drop(&mut self) {
        if self.entry.is_some() {
            self.drop_now();
        }
    }
}

/// A scope's node.
#[inline(always)]
pub(crate) fn scope_node(place: &'static Location<'static>, shield: bool) -> Node {
    let mut node = Node::new(Kind::Scope(Timer::Never), place);
    node.shield = shield;
    node
}
