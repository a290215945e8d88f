//! [`Light`]: a time limit around a body that waits, which has no node of its own in the tree.
//!
//! A time limit is entered and left more often than anything else that is a scope, and mostly nobody asks for it while it is
//! there. So it takes no node as long as its task's cell has room for what must be known of it: one at a time in a task.
//!
//! ```text
//!              ┌──────────3──────────┐
//!              ▼                     │         1 the body has to wait    2 it is needed in the tree
//!  Free ──1──▶ Waiting ──2──▶ Settled ──4──▶ Free    3 left, or dropped    4 its owner has noticed: it has the node now
//! ```
//!
//! It is needed in the tree when its deadline passes, when somebody wants to see the tree, and when something is to be
//! below it.
//!
//! # Invariants
//!
//! 1. While it waits, the timer in the task's wait is that of the light scope. A sleeper who needs that settles it first.
//! 2. Nothing cancels it but its deadline, which settles it: so as long as it has no node, it is cancelled if what is
//!    around it is.
//! 3. What is around it is the task, or else the node of the wait that began [within](Within) it.

use std::cell::Cell;
use std::panic::Location;
use std::rc::Rc;

use crate::deadlines::{Target, Timer};
use crate::nursery::erase::Task;
use crate::run::Run;
use crate::run::context::{self, Deferred, DeferredGuard};
use crate::scope::frame::Frame;
use crate::tree::{NodeId, State};
use crate::wait::own::Within;

/// The room for a light scope in the cell of a task. Free, it is empty.
#[derive(Default)]
pub(crate) struct LightCell {
    /// Of the one that waits.
    place: Cell<Option<&'static Location<'static>>>,
    /// Of the one that was settled.
    node: Cell<Option<NodeId>>,
}

impl LightCell {
    /// Is there one that has no node?
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        self.place.get().is_some()
    }

    #[inline]
    fn is_free(&self) -> bool {
        !self.is_waiting() && self.node.get().is_none()
    }
}

/// The owner of a light scope.
pub(crate) struct Light {
    run: Rc<Run>,
    task: Task,
}

impl Light {
    /// Can the deferred scope, whose body has to wait, become a light one?
    #[inline]
    pub(crate) fn has_room() -> bool {
        context::with_current(|task, position| {
            task.wait().light.is_free()
                && task.wait().timer.get() == Timer::Never
                && is_around(task, position)
        })
    }

    /// The same, of a light one whose body has to wait again.
    #[inline]
    pub(crate) fn can_stay() -> bool {
        context::with_current(is_around)
    }

    /// Makes it one. There [is room](Self::has_room).
    #[inline]
    pub(crate) fn enter(deferred: &Deferred) -> Light {
        let run = context::current_run_at("a time limit", deferred.place);
        let task = context::task_at("a time limit", deferred.place);
        task.wait().light.place.set(Some(deferred.place));
        task.wait().keep_within();
        let mut state = run.state.borrow_mut();
        let timer = state.deadlines.set_deferred(Target::Sleeper(task.clone()), deferred);
        task.wait().timer.set(timer);
        state.sweep_fresh();
        drop(state);
        Light { run, task }
    }

    /// Its owner polls the body again. `None`: it is to be [settled](Self::settle), since it is needed in the tree, or
    /// polled elsewhere.
    #[inline]
    pub(crate) fn resume(&self) -> Option<DeferredGuard> {
        let place = self.task.wait().light.place.get()?;
        let is_here = context::is_current_task(&self.task) && context::with_current(is_around);
        if is_here { context::resume(place) } else { None }
    }

    /// The body has to wait again.
    #[inline]
    pub(crate) fn stay(&self) {
        self.task.wait().keep_within();
    }

    /// Its owner takes the node; it gets one now, if it has none yet.
    #[cold]
    pub(crate) fn settle(&self) -> Frame {
        self.run.state.borrow_mut().settle_light(&self.task, self.run.birth());
        let node = self.task.wait().light.node.take();
        Frame::of(self.run.clone(), node.expect("settled"))
    }

    #[cold]
    fn leave_node(&self, node: NodeId) {
        let node = self.run.state.borrow_mut().remove(node);
        drop(node); // with nothing borrowed
    }
}

impl Drop for Light {
    fn drop(&mut self) {
        let wait = self.task.wait();
        if wait.light.place.take().is_some() {
            let timer = wait.timer.take();
            if matches!(timer, Timer::At { .. }) && !self.run.is_closed() {
                self.run.state.borrow_mut().forget_timer(timer);
            }
        } else if let Some(node) = wait.light.node.take() {
            self.leave_node(node);
        }
    }
}

/// Invariant 3, of the current position.
fn is_around(task: &Task, position: NodeId) -> bool {
    position == task.seat() || task.wait().is_within_at(position)
}

impl State {
    /// Gives the light scope of a task, if there is one, its node, which is born now.
    #[cold]
    pub(crate) fn settle_light(&mut self, task: &Task, born: u32) -> Option<NodeId> {
        let place = task.wait().light.place.take()?;
        // A task that has ended has left it to somebody, who will take it to where it is polled.
        let own = if task.has_ended() { None } else { Some(task.node_in(self)) };
        let above = task.wait().node_within().or(own);
        let own_timer = task.wait().timer.take();
        let id = self.insert_limit(above, born, place, |deadlines, target| {
            deadlines.hand_on(own_timer, target)
        });
        task.wait().light.node.set(Some(id));
        self.move_within(task, Within::Light, id);
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::task::Poll;
    use std::time::{Duration, Instant};

    use crate::clock::{Clock, Idle, OnIdle, real_now};
    use crate::run::context;
    use crate::{Builder, Cancelled, move_on_after};

    /// A clock that goes on by a minute whenever there is nothing to do.
    struct Minutes(Instant, Cell<u32>);

    impl Clock for Minutes {
        fn now(&self) -> Instant {
            self.0 + Duration::from_secs(60) * self.1.get()
        }

        fn on_idle(&self, _: &Idle) -> OnIdle {
            self.1.set(self.1.get() + 1);
            OnIdle::Again
        }
    }

    fn timers() -> usize {
        context::current_run("a test").state.borrow().deadlines.len()
    }

    async fn wait_once() -> Result<(), Cancelled> {
        let mut first = true;
        poll_fn(|cx| {
            cx.waker().wake_by_ref();
            if std::mem::take(&mut first) { Poll::Pending } else { Poll::Ready(Ok(())) }
        })
        .await
    }

    #[test]
    fn time_limits_that_come_and_go_leave_few_timers() {
        for fires in [false, true] {
            let clock = Minutes(real_now(), Cell::new(0));
            let main = async {
                for _ in 0..10_000 {
                    let limited = move_on_after(Duration::from_secs(1), async {
                        if fires { crate::sleep_forever().await } else { wait_once().await }
                    });
                    assert_eq!(limited.await?.is_none(), fires);
                    assert!(timers() <= if fires { 0 } else { 150 }, "{}", timers());
                }
                Ok::<(), Cancelled>(())
            };
            Builder::new().clock(clock).run(main).unwrap();
        }
    }
}
