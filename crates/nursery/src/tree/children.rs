//! [`Children`]: what is right below a node, in order. Each child knows its index.

use crate::gaps::Gaps;
use crate::tree::NodeId;

/// Mostly none, or one: a scope in a scope, or in a task.
#[derive(Debug, Default)]
pub(super) enum Children {
    #[default]
    None,
    One(NodeId),
    Many(Box<Gaps<NodeId>>),
}

impl Children {
    /// Adds a child at the end. Returns its index.
    #[inline]
    pub(super) fn push(&mut self, child: NodeId) -> u32 {
        match self {
            Children::None => {
                *self = Children::One(child);
                0
            }
            Children::One(first) => {
                let mut many = Box::<Gaps<NodeId>>::default();
                many.push(*first);
                let index = many.push(child);
                *self = Children::Many(many);
                index
            }
            Children::Many(many) => many.push(child),
        }
    }

    /// Takes the child at an index out. Returns whether the list is to be [closed up](Self::close_up).
    #[inline]
    pub(super) fn remove(&mut self, index: u32) -> bool {
        match self {
            Children::None => false,
            Children::One(_) => {
                *self = Children::None;
                false
            }
            Children::Many(many) => many.remove(index).1,
        }
    }

    /// The child at an index, or the next after it.
    #[inline]
    pub(super) fn at_or_after(&self, index: u32) -> Option<NodeId> {
        match self {
            Children::One(child) if index == 0 => Some(*child),
            Children::None | Children::One(_) => None,
            Children::Many(many) => many.at_or_after(index).copied(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = NodeId> + '_ {
        let (one, many) = match self {
            Children::None => (None, None),
            Children::One(child) => (Some(*child), None),
            Children::Many(many) => (None, Some(many.iter())),
        };
        one.into_iter().chain(many.into_iter().flatten().copied())
    }

    /// Takes the gaps out, and gives the children their new indices.
    pub(super) fn close_up(&mut self, mut tell: impl FnMut(NodeId, u32)) {
        if let Children::Many(many) = self {
            many.close_up(|&child, index| tell(child, index));
        }
    }
}

#[cfg(test)]
mod tests {
    use slotmap::SlotMap;

    use super::*;
    use crate::gaps::FEW;

    /// Against a naive twin: a vector of children, and each child's index on its own.
    #[test]
    fn children_stay_in_order_whoever_goes() {
        for seed in 0..100 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut nodes = SlotMap::<NodeId, u32>::with_key();
            let (mut children, mut twin) = (Children::default(), Vec::new());
            let growing = random.usize(1..100);
            for step in 0..1000 {
                if twin.is_empty() || random.usize(..100) < growing && step < 500 {
                    let child = nodes.insert(0);
                    nodes[child] = children.push(child);
                    twin.push(child);
                } else {
                    let child = twin.remove(random.usize(..twin.len()));
                    if children.remove(nodes[child]) {
                        children.close_up(|child, index| nodes[child] = index);
                    }
                }
                assert!(children.iter().eq(twin.iter().copied()), "seed {seed}");
                assert_eq!(children.at_or_after(0), twin.first().copied());
                for pair in twin.windows(2) {
                    assert_eq!(children.at_or_after(nodes[pair[0]]), Some(pair[0]));
                    assert_eq!(children.at_or_after(nodes[pair[0]] + 1), Some(pair[1]));
                }
                if let Children::Many(many) = &children {
                    assert!(many.span() <= FEW + 2 * twin.len(), "mostly gaps");
                }
            }
        }
    }
}
