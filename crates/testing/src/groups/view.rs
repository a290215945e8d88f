//! An error, or a tree of errors, whatever their type.

use std::any::Any;
use std::error::Error;
use std::fmt::Debug;
use std::io;
use std::iter::successors;

use nursery::TaskError;

pub(crate) struct View<'a> {
    own: &'a dyn Any,
    error: Option<&'a (dyn Error + 'static)>,
    /// What it says, and its causes; if it says nothing, how it is debugged.
    pub(crate) text: String,
    /// How it is debugged.
    pub(crate) debug: String,
    /// The members, if it is a group.
    pub(crate) members: Option<Vec<View<'a>>>,
}

impl<'a> View<'a> {
    pub(crate) fn of<E: TaskError + Debug + 'static>(own: &'a E) -> Self {
        let error = own.as_error();
        let debug = error.map_or_else(|| format!("{own:?}"), |error| format!("{error:?}"));
        let said = causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ");
        let members = own.as_group().map(|group| group.iter().map(View::of).collect());
        let text = if error.is_some() { said } else { debug.clone() };
        View { own, error, text, debug, members }
    }

    /// The first of the causes that is an `X`, itself included.
    pub(crate) fn find<X: Error + 'static>(&self) -> Option<&'a X> {
        let cause = || causes(self.error).find_map(|cause| cause.downcast_ref());
        self.own.downcast_ref().or_else(cause)
    }

    pub(crate) fn own<E: 'static>(&self) -> Option<&'a E> {
        self.own.downcast_ref()
    }

    /// What is in it, however deep, and is no group; or itself.
    pub(crate) fn leaves(&self) -> Vec<&View<'a>> {
        match &self.members {
            None => vec![self],
            Some(members) => members.iter().flat_map(View::leaves).collect(),
        }
    }
}

/// An error and its causes. An `io::Error` hides what it holds from `source`.
fn causes<'a>(
    error: Option<&'a (dyn Error + 'static)>,
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(error, |&error| {
        let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        held.map_or_else(|| error.source(), |held| Some(held))
    })
}
