//! The ready list of a nursery: which of its children are to be polled in its next turn.
//!
//! A child that is woken is put here, and the nursery's own waker is woken, so that the task that owns
//! the nursery is put on *its* list, and so on up to the root. When the nursery is polled it takes what is on
//! the list now, once each; what becomes ready meanwhile waits for the next turn.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::task::Waker;

use crate::nursery::erase::Runnable;
use crate::run::{Run, context};
use crate::tree::{Kind, Node, NodeId};

#[derive(Default)]
pub(crate) struct Ready {
    list: RefCell<VecDeque<Runnable>>,
    /// Wakes the owner. Absent while the owner polls, and once it has been woken.
    owner: RefCell<Option<Waker>>,
    /// Tasks on this list that are not below the nursery's node yet: those that `start` waits for.
    starting: RefCell<Vec<NodeId>>,
    polling: Cell<bool>,
    /// The owner has nothing of its own left to do: it waits for its children.
    pub(crate) waits_for_children: Cell<bool>,
}

impl Ready {
    /// Puts a task on the list. Returns whom to wake, with nothing borrowed.
    #[must_use]
    pub(crate) fn push(&self, runnable: Runnable) -> Option<Waker> {
        self.list.borrow_mut().push_back(runnable);
        self.take_owner()
    }

    /// Makes the owner look, unless it is looking.
    pub(crate) fn wake_owner(&self) {
        self.take_owner().into_iter().for_each(Waker::wake);
    }

    fn take_owner(&self) -> Option<Waker> {
        if self.polling.get() { None } else { self.owner.borrow_mut().take() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
    }

    /// Polls the children that are ready now, once each.
    pub(crate) fn run_batch(&self, run: &Run) {
        self.run_first(run, self.order_batch(run));
    }

    /// Puts the children that are ready now in the order in which they will run, and returns their number.
    pub(crate) fn order_batch(&self, run: &Run) -> usize {
        let mut list = self.list.borrow_mut();
        if list.len() > 1 {
            run.order(list.make_contiguous());
        }
        list.len()
    }

    /// Polls a batch: those that have become ready since it was ordered wait for the next.
    pub(crate) fn run_first(&self, run: &Run, batch: usize) {
        for _ in 0..batch {
            let next = self.list.borrow_mut().pop_front();
            match next {
                Some(runnable) => runnable.run(),
                None => break,
            };
            run.notice_overdue();
        }
    }

    /// The owner begins a poll: no need to wake it.
    pub(crate) fn begin_poll(&self) {
        self.polling.set(true);
    }

    /// The owner is about to wait: whoever is pushed from now on wakes it.
    pub(crate) fn end_poll(&self, waker: &Waker) {
        self.polling.set(false);
        if !self.is_empty() {
            waker.wake_by_ref();
            return;
        }
        let stale = match &*self.owner.borrow() {
            Some(owner) => !owner.will_wake(waker),
            None => true,
        };
        if stale {
            let old = self.owner.replace(Some(waker.clone()));
            drop(old);
        }
    }

    pub(crate) fn add_starting(&self, task: NodeId) {
        self.starting.borrow_mut().push(task);
    }

    pub(crate) fn remove_starting(&self, task: NodeId) {
        self.starting.borrow_mut().retain(|&other| other != task);
    }

    /// Takes one task's `Runnable` off the list.
    pub(crate) fn take(&self, task: NodeId) -> Option<Runnable> {
        let mut list = self.list.borrow_mut();
        let at = list.iter().position(|runnable| runnable.metadata().node == task)?;
        list.remove(at)
    }

    /// Ends every task of this list, oldest first: those below `node`, then those that are starting.
    pub(crate) fn end_all(self: &Rc<Self>, run: &Rc<Run>, node: NodeId) {
        let _run = context::enter_run(run);
        let list = self.list.take();
        let mut queued: BTreeMap<NodeId, Runnable> =
            list.into_iter().map(|runnable| (runnable.metadata().node, runnable)).collect();
        let mut tasks: Vec<NodeId> = {
            let state = run.state.borrow();
            state
                .children(node)
                .filter(|&child| match &state.nodes[child] {
                    Node { kind: Kind::Task(task), .. } => Rc::ptr_eq(&task.ready, self),
                    _ => false,
                })
                .collect()
        };
        tasks.append(&mut self.starting.take());
        for task in tasks {
            run.drop_task(task, queued.remove(&task));
        }
        for (task, runnable) in queued {
            // The main task and the system tasks share a list: what is not below `node` has its turn later. Of
            // others, which ended meanwhile, nothing is left.
            let is_live = run.state.borrow().task(task).is_some();
            if is_live {
                self.list.borrow_mut().push_back(runnable);
            }
        }
        let owner = self.owner.take();
        drop(owner);
    }
}
