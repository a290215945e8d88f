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

use crate::nursery::drop_panic;
use crate::nursery::erase::Task;
use crate::run::{Run, context};
use crate::tree::{NodeId, sort_by_age};

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
    /// Who polls the nursery. Absent while it does, and once it has been woken.
    owner: RefCell<Option<Owner>>,
    /// Tasks on this list that are not below the nursery's node yet: those that `start` waits for.
    starting: RefCell<Vec<NodeId>>,
    polling: Cell<bool>,
    /// The owner has nothing of its own left to do: it waits for its children.
    pub(crate) waits_for_children: Cell<bool>,
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

    /// Has nothing else in the run anything to do but what is on this list?
    pub(crate) fn is_alone(&self) -> bool {
        let len = self.list.borrow().len();
        len > 0 && self.load.0.get() == len
    }

    /// Puts a task on the list. Returns whether the [owner](Self::take_owner) is to be woken.
    #[must_use]
    pub(crate) fn push(&self, task: Task) -> bool {
        self.list.borrow_mut().push_back(task);
        self.load.add(1);
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

    /// Puts the children that are ready now in the order in which they will run, and returns their number.
    pub(crate) fn order_batch(&self, run: &Run) -> usize {
        let len = self.list.borrow().len();
        if len > 1 {
            run.order(self.list.borrow_mut().make_contiguous());
        }
        len
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

    /// The tasks on the list.
    pub(crate) fn tasks(&self) -> Vec<Task> {
        self.list.borrow().iter().cloned().collect()
    }

    fn take_all(&self) -> VecDeque<Task> {
        let tasks = self.list.take();
        self.load.sub(tasks.len());
        tasks.iter().for_each(Task::unqueue);
        tasks
    }

    /// Ends the tasks of this list, oldest first: those below `node`, then those that are starting. Of a nursery whose
    /// run is over, all are on the list.
    pub(crate) fn end_all(self: &Rc<Self>, run: &Rc<Run>, node: NodeId) {
        let _run = context::enter_run(run);
        let mut queued = self.take_all();
        for task in &queued {
            task.node(run); // there it is found
        }
        for task in self.tasks_below(run, node) {
            drop_panic::quietly(|| _ = run.drop_task(&task));
        }
        sort_by_age(queued.make_contiguous(), Task::born);
        for task in queued {
            drop_panic::quietly(|| {
                if Rc::ptr_eq(self, &run.ready) {
                    // The main task and the system tasks share a list: what is not below `node` has its turn later.
                    task.wake(run);
                } else {
                    _ = run.drop_task(&task);
                }
            });
        }
        drop_panic::drop_quietly(self.owner.take());
    }

    fn tasks_below(&self, run: &Run, node: NodeId) -> Vec<Task> {
        let starting = self.starting.take();
        let state = run.state.borrow();
        let below = state.children_by_age(node).into_iter().chain(starting);
        below.filter_map(|id| state.task(id)).filter(|task| task.is_on(self)).cloned().collect()
    }
}
