//! The ready list of a nursery: which of its children are to be polled in its next turn.
//!
//! A child that is woken is put here, and the nursery's owner is woken, so that the task that owns the nursery
//! is put on *its* list, and so on up to the root. When the nursery is polled it takes what is on the list now,
//! once each; what becomes ready meanwhile waits for the next turn.
//!
//! A wake-up on the run's own thread costs no atomic operation, whether it comes through a waker or from the run itself.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

use crate::gaps::Gaps;
use crate::nursery::drop_panic;
use crate::nursery::erase::Task;
use crate::run::{Run, context};
use crate::tree::{Effects, NodeId, sort_by_age};
use crate::wait::WaitState;

/// How much the tasks of a run have to do: entries on all its lists, and tasks that are to poll again.
#[derive(Clone, Default)]
pub(crate) struct Load(Rc<Cell<usize>>);

impl Load {
    pub(crate) fn add(&self, n: usize) {
        self.0.set(self.0.get().wrapping_add(n));
    }

    pub(crate) fn sub(&self, n: usize) {
        self.0.set(self.0.get().wrapping_sub(n));
    }
}

pub(crate) struct Ready {
    list: RefCell<VecDeque<Task>>,
    pub(crate) load: Load,
    /// The nursery's leaves: tasks that have waited, and have no node. Each knows its index. Who is interrupted leaves.
    leaves: RefCell<Gaps<Task>>,
    /// Who polls the nursery. Absent while it does, and once it has been woken.
    owner: RefCell<Option<Owner>>,
    /// Tasks on this list that are not below the nursery's node yet: those that `start` waits for.
    starting: RefCell<Vec<NodeId>>,
    polling: Cell<bool>,
    /// The owner has nothing of its own left to do: it waits for its children.
    pub(crate) waits_for_children: Cell<bool>,
}

/// So much room for entries is kept when there are none.
const LONG: usize = 1024;

/// The first room for entries.
const SHORT: usize = 16;

#[cold]
fn grow(list: &mut VecDeque<Task>) {
    list.reserve(list.len().max(SHORT));
}

/// Who is to be woken when something is put on a list.
pub(crate) enum Owner {
    /// A task of the run, which polls the nursery with its own waker.
    Task(Task),
    /// Something else in which the nursery is polled.
    Foreign(Waker),
}

impl Owner {
    pub(crate) fn wake(self, run: &Run) {
        match self {
            Owner::Task(task) => run.change(|_, fx| fx.wake_task(&task)),
            Owner::Foreign(waker) => waker.wake(),
        }
    }

    fn is_like(&self, waker: &Waker) -> bool {
        match self {
            Owner::Task(task) => task.is_woken_by(waker),
            Owner::Foreign(owner) => !context::is_task_waker(waker) && owner.will_wake(waker),
        }
    }

    fn new(waker: &Waker) -> Self {
        match context::current() {
            Some(task) if task.is_woken_by(waker) => Owner::Task(task),
            _ => Owner::Foreign(waker.clone()),
        }
    }
}

impl Ready {
    pub(crate) fn new(load: Load) -> Self {
        Ready {
            list: RefCell::default(),
            load,
            leaves: RefCell::default(),
            owner: RefCell::default(),
            starting: RefCell::default(),
            polling: Cell::new(false),
            waits_for_children: Cell::new(false),
        }
    }

    /// Makes it as new, for another nursery. Nothing is in it any more.
    pub(crate) fn reset(&self) {
        let owner = self.owner.take();
        drop(owner);
        self.polling.set(false);
        self.waits_for_children.set(false);
    }

    /// Puts a task on the list. Returns whether the [owner](Self::take_owner) is to be woken.
    #[must_use]
    #[inline]
    pub(crate) fn push(&self, task: Task) -> bool {
        self.load.add(1);
        self.push_again(task)
    }

    /// The same, of a task that is to poll again, and so is counted already.
    #[must_use]
    pub(crate) fn push_again(&self, task: Task) -> bool {
        let mut list = self.list.borrow_mut();
        if list.len() == list.capacity() {
            grow(&mut list);
        }
        list.push_back(task);
        drop(list);
        !self.polling.get() && self.owner.borrow().is_some()
    }

    /// Makes the owner look, unless it is looking.
    pub(crate) fn wake_owner(&self, run: &Run) {
        if let Some(owner) = self.take_owner() {
            owner.wake(run);
        }
    }

    /// Whom to wake, with nothing borrowed.
    pub(crate) fn take_owner(&self) -> Option<Owner> {
        if self.polling.get() { None } else { self.owner.borrow_mut().take() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
    }

    /// Polls the children that are ready now, once each.
    pub(crate) fn run_batch(&self, run: &Run) {
        self.run_first(run, self.order_batch(run));
    }

    /// The same, if nothing else in the run has anything to do. Returns false if there is, or nothing here.
    #[inline]
    pub(crate) fn run_batch_alone(&self, run: &Run) -> bool {
        let len = self.list.borrow().len();
        if len == 0 || self.load.0.get() != len {
            return false;
        }
        self.order_first(run, len);
        self.run_first(run, len);
        true
    }

    /// Puts the children that are ready now in the order in which they will run, and returns their number.
    #[inline]
    pub(crate) fn order_batch(&self, run: &Run) -> usize {
        let len = self.list.borrow().len();
        self.order_first(run, len);
        len
    }

    #[inline]
    fn order_first(&self, run: &Run, batch: usize) {
        if batch > 1 {
            run.order(&mut self.list.borrow_mut());
        }
    }

    /// Polls a batch: those that have become ready since it was ordered wait for the next.
    pub(crate) fn run_first(&self, run: &Run, batch: usize) {
        for _ in 0..batch {
            let next = self.list.borrow_mut().pop_front();
            match next {
                Some(task) => {
                    self.load.sub(1);
                    task.step(run);
                }
                None => break,
            }
            run.notice_overdue();
        }
        let mut list = self.list.borrow_mut();
        if list.capacity() > LONG && list.is_empty() {
            list.shrink_to(LONG); // all came at once; most of them may wait for long
        }
    }

    /// The owner begins a poll: no need to wake it.
    pub(crate) fn begin_poll(&self) {
        self.polling.set(true);
    }

    /// The owner is about to wait: whoever is pushed from now on wakes it.
    pub(crate) fn end_poll(&self, waker: &Waker) {
        if self.is_empty() {
            self.set_owner(waker);
        }
        self.polling.set(false);
        // What was cloned or dropped just now, which is foreign too, may have woken a child.
        if !self.is_empty() {
            waker.wake_by_ref();
        }
    }

    fn set_owner(&self, waker: &Waker) {
        let is_known = self.owner.borrow().as_ref().is_some_and(|owner| owner.is_like(waker));
        if !is_known {
            let old = self.owner.replace(Some(Owner::new(waker)));
            drop(old);
        }
    }

    pub(crate) fn add_starting(&self, task: NodeId) {
        self.starting.borrow_mut().push(task);
    }

    pub(crate) fn remove_starting(&self, task: NodeId) {
        self.starting.borrow_mut().retain(|&other| other != task);
    }

    /// Takes a task off the list.
    pub(crate) fn remove(&self, task: &Task) {
        let mut list = self.list.borrow_mut();
        let before = list.len();
        list.retain(|other| !other.is(task));
        self.load.sub(before - list.len());
    }

    /// Adds a leaf. Returns its index.
    #[inline]
    pub(crate) fn add_leaf(&self, task: Task) -> u32 {
        self.leaves.borrow_mut().push(task)
    }

    /// Takes a leaf out.
    #[inline]
    pub(crate) fn remove_leaf(&self, index: u32) -> Option<Task> {
        let mut leaves = self.leaves.borrow_mut();
        let (leaf, is_loose) = leaves.remove(index);
        if is_loose {
            leaves.close_up(Task::set_leaf_index);
        }
        leaf
    }

    /// Interrupts the waits of the leaves: the nursery's node has become cancelled. They go on the list, where they are no
    /// leaves any more; one by one this would cost more.
    pub(crate) fn cancel_leaves(&self, fx: &mut Effects) {
        let mut list = self.list.borrow_mut();
        let before = list.len();
        let goes =
            |leaf: &Task| leaf.wait().take_result(WaitState::Cancelled) && leaf.leaf_goes_on_list();
        self.leaves.borrow_mut().give(goes, |leaf| list.push_back(leaf));
        let added = list.len() - before;
        drop(list);
        if added > 0 {
            self.load.add(added);
            fx.wake_owner_of(self);
        }
    }

    /// The tasks of the nursery that have no node, but for one that is running.
    pub(crate) fn tasks_without_node(&self) -> Vec<Task> {
        let queued = self.list.borrow();
        let queued = queued.iter().filter(|task| !task.is_in_tree() && !task.is_leaf());
        queued.chain(self.leaves.borrow().iter()).cloned().collect()
    }

    fn take_all(&self) -> VecDeque<Task> {
        let tasks = self.list.take();
        self.load.sub(tasks.len());
        tasks.iter().for_each(Task::unqueue);
        tasks
    }

    /// Ends the tasks of this list, oldest first: those of the nursery, then those that are starting.
    pub(crate) fn end_all(self: &Rc<Self>, run: &Rc<Run>, node: NodeId) {
        let _run = context::enter_run(run);
        let starting = self.starting_tasks(run);
        let (queued, mut tasks) = (self.take_all(), self.tasks_below(run, node));
        // The main task and the system tasks share a list: what is not below `node` has its turn later.
        let is_shared = Rc::ptr_eq(self, &run.ready);
        if !is_shared {
            let is_starting = |task: &Task| starting.iter().any(|other| other.is(task));
            tasks.extend(queued.iter().filter(|&task| !is_starting(task)).cloned());
        }
        sort_by_age(&mut tasks, Task::born);
        for task in tasks.into_iter().chain(starting) {
            drop_panic::quietly(|| _ = run.drop_task(&task));
        }
        if is_shared {
            queued.iter().for_each(|task| drop_panic::quietly(|| task.wake(run)));
        }
        drop_panic::drop_quietly(self.owner.take());
    }

    fn starting_tasks(&self, run: &Run) -> Vec<Task> {
        let (starting, state) = (self.starting.take(), run.state.borrow());
        starting.into_iter().filter_map(|id| state.task(id)).cloned().collect()
    }

    fn tasks_below(&self, run: &Run, node: NodeId) -> Vec<Task> {
        let state = run.state.borrow();
        let below = state.children(node).filter_map(|id| state.task(id));
        let below = below.filter(|task| task.is_on(self)).cloned();
        below.chain(self.leaves.borrow().iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::lowlevel::wait_all_tasks_blocked;
    use crate::run::context;
    use crate::{Builder, Cancelled, open_nursery, sleep_forever};

    #[test]
    fn the_load_is_what_is_on_the_lists() {
        let result = Builder::new().run(async {
            let run = context::current_run("a test");
            let load = || run.load.0.get();
            assert_eq!(load(), 0, "this task runs");
            open_nursery(async |n| {
                (0..3).for_each(|_| drop(n.start_soon(sleep_forever())));
                assert_eq!(load(), 3);
                wait_all_tasks_blocked(Duration::ZERO).await?;
                assert_eq!(load(), 0);
                n.cancel_scope().cancel();
                assert_eq!(load(), 3, "all at once");
                Ok(())
            })
            .await?;
            assert_eq!(load(), 0);
            Ok::<(), Cancelled>(())
        });
        result.unwrap();
    }
}
