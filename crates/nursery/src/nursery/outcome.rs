//! Which errors leave a scope or a nursery: cancellations that are absorbed are taken out of the tree of errors.

use crate::error::{ErrorGroup, TaskError};

/// What is left of an error when a scope that absorbs is left, and whether anything was taken out.
///
/// A bare cancellation goes; of a group, the cancelled leaves go, and groups that become empty. Everything
/// else stays as it is.
pub(crate) fn absorb<E: TaskError>(mut error: E) -> (Option<E>, bool) {
    if error.as_cancelled().is_some() {
        return (None, true);
    }
    let Some(group) = error.as_group_mut() else { return (Some(error), false) };
    let mut caught = false;
    let kept: Vec<E> = std::mem::take(group.errors_mut())
        .into_iter()
        .filter_map(|member| {
            let (left, some) = absorb(member);
            caught |= some;
            left
        })
        .collect();
    if kept.is_empty() {
        return (None, caught);
    }
    *group.errors_mut() = kept;
    (Some(error), caught)
}

/// Joins the failures of a nursery: a group, or, if they are nothing but cancellations, a cancellation.
pub(crate) fn join<E: TaskError>(mut errors: Vec<E>) -> Option<E> {
    if errors.is_empty() {
        return None;
    }
    if errors.iter().all(is_only_cancelled) {
        return Some(errors.swap_remove(0));
    }
    Some(E::from(ErrorGroup::new(errors)))
}

fn is_only_cancelled<E: TaskError>(error: &E) -> bool {
    error.as_cancelled().is_some()
}
