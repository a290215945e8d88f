//! [`Effects`]: what follows from a change of the state, and is done when that is no longer borrowed.

use std::iter;
use std::task::Waker;
use std::time::Instant;

use crate::nursery::drop_panic::Panics;
use crate::nursery::erase::Task;
use crate::nursery::ready::{Owner, Ready};
use crate::run::context;
use crate::tree::NodeId;

/// What is to be done once the state is no longer borrowed.
#[derive(Default)]
pub(crate) struct Effects {
    pub(crate) wake: Wakers,
    /// Some task was put on its list.
    pub(crate) is_scheduled: bool,
    /// Which ones, if there are instruments to tell.
    pub(crate) announce: Vec<NodeId>,
    /// Some node became, or ceased to be, effectively cancelled.
    pub(crate) flipped: bool,
    /// The time, if some deadline may have passed and not been noticed: a walk notices it.
    pub(crate) overdue: Option<Instant>,
}

impl Effects {
    /// Wakes a task: it is put on its list, and who polls that list is woken, up to the root. If it runs, or is
    /// on its list already, it is told to poll once more.
    #[inline]
    pub(crate) fn wake_task(&mut self, task: &Task) {
        if self.queue(task) {
            self.wake_upwards(task.take_owner());
        }
    }

    /// Something has been put on a list: who polls it is woken, up to the root.
    pub(crate) fn wake_owner_of(&mut self, list: &Ready) {
        self.is_scheduled = true;
        self.wake_upwards(list.take_owner());
    }

    #[inline(never)]
    fn wake_upwards(&mut self, mut owner: Option<Owner>) {
        loop {
            match owner {
                Some(Owner::Task(next)) if self.queue(&next) => owner = next.take_owner(),
                Some(Owner::Foreign(waker)) => return self.wake.push(waker),
                Some(Owner::Task(_)) | None => return,
            }
        }
    }

    /// Puts a task on its list. Returns whether its owner is to be woken.
    #[inline]
    fn queue(&mut self, task: &Task) -> bool {
        let Some(wakes_owner) = task.queue() else { return false };
        self.is_scheduled = true;
        if context::is_watched() {
            self.announce.extend(task.known_node());
        }
        wakes_owner
    }
}

/// Wakers, in the order in which they are to be woken. One needs no allocation.
#[derive(Default)]
pub(crate) struct Wakers {
    first: Option<Waker>,
    rest: Vec<Waker>,
}

impl Wakers {
    pub(crate) fn push(&mut self, waker: Waker) {
        match self.first {
            None => self.first = Some(waker),
            Some(_) => self.rest.push(waker),
        }
    }

    /// Wakes them. If one panics, the others are woken all the same, and then the panic goes on.
    #[inline]
    pub(crate) fn wake(&mut self) {
        let Some(first) = self.first.take() else { return };
        if self.rest.is_empty() {
            return first.wake();
        }
        let mut panics = Panics::default();
        for waker in iter::once(first).chain(self.rest.drain(..)) {
            panics.catch(|| waker.wake());
        }
        panics.resume();
    }
}
