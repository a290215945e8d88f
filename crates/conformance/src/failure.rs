//! What leaves a statement abnormally: [`Failure`], a tree of named errors and cancellations.

use nursery::{Cancelled, ErrorGroup, TaskError};
use serde_json::{Value, json};

/// An error of the language is known by its name; the rest is nursery's own.
#[derive(Debug, TaskError)]
pub(crate) enum Failure {
    Named(String),
    Cancelled(Cancelled),
    Group(ErrorGroup<Self>),
}

impl Failure {
    pub(crate) fn named(name: &str) -> Self {
        Failure::Named(name.to_owned())
    }

    pub(crate) fn unbound() -> Self {
        Failure::named("Unbound")
    }

    /// The name of this leaf, if it is an error.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Failure::Named(name) => Some(name),
            Failure::Cancelled(_) | Failure::Group(_) => None,
        }
    }

    pub(crate) fn leaves(&self) -> Vec<&Failure> {
        match self {
            Failure::Group(group) => group.leaves().collect(),
            leaf => vec![leaf],
        }
    }

    /// The sorted names of the errors, cancellations left out.
    pub(crate) fn names(&self) -> Vec<String> {
        let leaves = self.leaves().into_iter();
        let mut names: Vec<_> = leaves.filter_map(|leaf| leaf.name().map(str::to_owned)).collect();
        names.sort();
        names
    }

    /// The first cancellation.
    pub(crate) fn cancellation(&self) -> Option<&Cancelled> {
        self.leaves().into_iter().find_map(Failure::as_cancelled)
    }

    /// The tree as it stands in a trace, where a group's members are in the order of their text.
    pub(crate) fn tree(&self) -> Value {
        match self {
            Failure::Named(name) => json!(name),
            Failure::Cancelled(_) => json!("Cancelled"),
            Failure::Group(group) => {
                let mut members: Vec<Value> = group.iter().map(Failure::tree).collect();
                members.sort_by_cached_key(crate::trace::python_text);
                json!({ "group": members })
            }
        }
    }

    /// Parts the tree into the leaves that `matches` and the others. Each part keeps the nesting; a group
    /// in which nothing is left goes.
    pub(crate) fn split(
        self,
        matches: &dyn Fn(&Failure) -> bool,
    ) -> (Option<Failure>, Option<Failure>) {
        let Failure::Group(group) = self else {
            return if matches(&self) { (Some(self), None) } else { (None, Some(self)) };
        };
        let (mut yes, mut no) = (vec![], vec![]);
        for member in group {
            let (a, b) = member.split(matches);
            yes.extend(a);
            no.extend(b);
        }
        let join = |members: Vec<Failure>| {
            (!members.is_empty()).then(|| Failure::Group(ErrorGroup::new(members)))
        };
        (join(yes), join(no))
    }
}
