//! The floor: a task system as lean as safe Rust allows, to show how far everybody else is from it.
//!
//! It is no runtime: one thread, tasks that are `'static`, no panic is caught, no task has a result, and nothing can
//! wake a task from outside, because wakers are not used at all: what waits puts its task's number where the one who
//! wakes it finds it. All a task costs is its box, its place in a slab and its turns in a queue.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

thread_local! {
    static SYSTEM: System = System::new();
}

type TaskId = usize;

/// An instant, and a number that keeps equal ones apart.
type TimerId = (Instant, u64);

struct System {
    tasks: RefCell<Slab<Task>>,
    ready: RefCell<VecDeque<TaskId>>,
    /// The task that is being polled.
    current: Cell<TaskId>,
    timers: RefCell<BTreeMap<TimerId, TaskId>>,
    timers_made: Cell<u64>,
    /// The time as of the last time anybody looked.
    now: Cell<Instant>,
    is_virtual: Cell<bool>,
}

struct Task {
    /// Absent while it is polled.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    group: Rc<Group>,
}

/// After how many turns the clock is read again.
const TURNS_PER_LOOK: usize = 64;

impl System {
    fn new() -> Self {
        System {
            tasks: RefCell::default(),
            ready: RefCell::default(),
            current: Cell::new(0),
            timers: RefCell::default(),
            timers_made: Cell::new(0),
            now: Cell::new(Instant::now()),
            is_virtual: Cell::new(false),
        }
    }

    fn wake(&self, task: TaskId) {
        self.ready.borrow_mut().push_back(task);
    }

    fn run_to_the_end(&self) {
        loop {
            let mut turns = 0;
            while let Some(task) = self.next() {
                self.poll(task);
                turns += 1;
                if turns % TURNS_PER_LOOK == 0 {
                    self.look_at_the_clock();
                }
            }
            let Some(next) = self.timers.borrow().first_key_value().map(|(timer, _)| timer.0)
            else {
                return;
            };
            self.wait_until(next);
        }
    }

    fn next(&self) -> Option<TaskId> {
        self.ready.borrow_mut().pop_front()
    }

    fn poll(&self, id: TaskId) {
        let future = self.tasks.borrow_mut().get_mut(id).and_then(|task| task.future.take());
        let Some(mut future) = future else { return };
        self.current.set(id);
        if future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            self.tasks.borrow_mut()[id].future = Some(future);
        } else {
            drop(future);
            let task = self.tasks.borrow_mut().remove(id);
            task.group.leave(self);
        }
    }

    fn wait_until(&self, next: Instant) {
        if self.is_virtual.get() {
            self.now.set(next);
        } else {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        self.look_at_the_clock();
    }

    fn look_at_the_clock(&self) {
        if !self.is_virtual.get() {
            self.now.set(Instant::now());
        }
        let mut timers = self.timers.borrow_mut();
        while let Some(first) = timers.first_entry().filter(|first| first.key().0 <= self.now.get())
        {
            self.wake(first.remove());
        }
    }
}

/// Runs `main` and all it spawns.
pub(crate) fn run(main: impl Future<Output = ()> + 'static) {
    SYSTEM.with(|system| {
        system.is_virtual.set(false);
        system.now.set(Instant::now());
    });
    Group::default().into_rc().spawn(main);
    SYSTEM.with(System::run_to_the_end);
}

/// The same, on a clock that jumps to the next timer when every task waits.
pub(crate) fn run_virtual(main: impl Future<Output = ()> + 'static) {
    run(async {
        SYSTEM.with(|system| system.is_virtual.set(true));
        main.await;
    });
}

/// Returns the cached time.
pub(crate) fn now() -> Instant {
    SYSTEM.with(|system| system.now.get())
}

/// Owns tasks, waits for them, cancels them.
#[derive(Default)]
pub(crate) struct Group {
    live: Cell<usize>,
    /// The task in [`join`](Group::join).
    owner: Cell<Option<TaskId>>,
    is_cancelled: Cell<bool>,
    /// The tasks in [`cancelled`](Group::cancelled).
    waiting: RefCell<Vec<TaskId>>,
    inner: RefCell<Vec<Rc<Group>>>,
}

impl Group {
    pub(crate) fn into_rc(self) -> Rc<Self> {
        Rc::new(self)
    }

    /// Makes a group that is cancelled with this one.
    pub(crate) fn open_inner(&self) -> Rc<Group> {
        let inner = Group::default().into_rc();
        self.inner.borrow_mut().push(inner.clone());
        inner
    }

    pub(crate) fn spawn(self: &Rc<Self>, future: impl Future<Output = ()> + 'static) {
        self.live.set(self.live.get() + 1);
        let task = Task { future: Some(Box::pin(future)), group: self.clone() };
        SYSTEM.with(|system| {
            let id = system.tasks.borrow_mut().insert(task);
            system.wake(id);
        });
    }

    fn leave(&self, system: &System) {
        self.live.set(self.live.get() - 1);
        if self.live.get() == 0
            && let Some(owner) = self.owner.take()
        {
            system.wake(owner);
        }
    }

    /// Waits until all tasks have ended.
    pub(crate) fn join(&self) -> impl Future<Output = ()> {
        poll_fn(|_| {
            if self.live.get() == 0 {
                return Poll::Ready(());
            }
            self.owner.set(Some(SYSTEM.with(|system| system.current.get())));
            Poll::Pending
        })
    }

    /// Waits until the group is cancelled.
    pub(crate) fn cancelled(&self) -> impl Future<Output = ()> {
        poll_fn(|_| {
            if self.is_cancelled.get() {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(SYSTEM.with(|system| system.current.get()));
            Poll::Pending
        })
    }

    pub(crate) fn cancel(&self) {
        self.is_cancelled.set(true);
        SYSTEM.with(|system| system.ready.borrow_mut().extend(self.waiting.take()));
        for inner in self.inner.take() {
            inner.cancel();
        }
    }
}

/// Lets the other tasks take a turn.
pub(crate) fn yield_now() -> impl Future<Output = ()> {
    let mut has_yielded = false;
    poll_fn(move |_| {
        if has_yielded {
            return Poll::Ready(());
        }
        has_yielded = true;
        SYSTEM.with(|system| system.wake(system.current.get()));
        Poll::Pending
    })
}

/// An entry in the map of timers, as long as it lives.
struct Timer(TimerId);

impl Timer {
    fn set(at: Instant) -> Self {
        SYSTEM.with(|system| {
            let id = (at, system.timers_made.get());
            system.timers_made.set(id.1 + 1);
            system.timers.borrow_mut().insert(id, system.current.get());
            Timer(id)
        })
    }

    fn is_over(&self) -> bool {
        self.0.0 <= now()
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        SYSTEM.with(|system| system.timers.borrow_mut().remove(&self.0));
    }
}

/// Waits until `at`.
pub(crate) async fn sleep_until(at: Instant) {
    let timer = Timer::set(at);
    poll_fn(|_| if timer.is_over() { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// Runs `body` for at most `limit`; sets a timer only if it has to wait.
pub(crate) async fn timeout<T>(limit: Duration, body: impl Future<Output = T>) -> Option<T> {
    let mut body = pin!(body);
    let mut timer = None;
    poll_fn(|cx| {
        if let Poll::Ready(value) = body.as_mut().poll(cx) {
            return Poll::Ready(Some(value));
        }
        let timer = timer.get_or_insert_with(|| Timer::set(now() + limit));
        if timer.is_over() { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}
