//! One wait of one operation: what a cancellation interrupts, and what a hand-off is committed to.
//!
//! A wait is the record of an operation that is suspended. It has one result, whichever comes first:
//!
//! ```text
//!                ┌──1──▶ Woken        the waker side committed to it; a later cancellation changes nothing
//!    Waiting ────┼──2──▶ Cancelled    it has left its parking lot; a later wake-up goes to the next waiter
//!                └──3──▶ Broken       its parking lot broke
//! ```
//! 1. [`State::wake_wait`], by an unpark or a sleeper's timer  2. [`State::deliver`]  3. [`State::wake_wait`]
//!
//! The record lies in the cell of the task that waits ([`own`]), or else in a table ([`apart`]). It is found from its node
//! (for cancellation), from its parking lot (for hand-off, in order of arrival), and by its own operation, which holds a
//! [`Waiter`] in a [`Slot`] and ends the wait when it ends or is dropped.

pub(crate) mod apart;
pub(crate) mod own;

use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::deadlines::{Limit, Target, Timer};
use crate::error::Cancelled;
use crate::nursery::erase::Task;
use crate::park::{LotCore, Place};
use crate::run::Run;
use crate::run::context;
use crate::tree::{Effects, Kind, NodeId, State};
use crate::wait::apart::{Wait, WaitId};
use crate::wait::own::Within;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitState {
    Waiting,
    Woken,
    Cancelled,
    Broken,
}

/// What is waited for, and where the program says so.
#[derive(Clone, Copy)]
pub(crate) struct Label {
    pub(crate) what: &'static str,
    pub(crate) place: &'static Location<'static>,
}

/// Who waits: the name of a wait. It may be over.
#[derive(Clone)]
pub(crate) enum Waiter {
    /// The wait of this number in the task's cell.
    Own(Task, u32),
    Apart(WaitId),
}

impl Waiter {
    pub(crate) fn is(&self, other: &Waiter) -> bool {
        match (self, other) {
            (Waiter::Own(task, number), Waiter::Own(other, its)) => task.is(other) && number == its,
            (Waiter::Apart(id), Waiter::Apart(other)) => id == other,
            _ => false,
        }
    }

    /// Has it no result yet?
    #[inline]
    pub(crate) fn is_waiting(&self, run: &Run) -> bool {
        match self {
            Waiter::Own(task, number) => task.wait().is_waiting(*number) && !run.is_closed(),
            Waiter::Apart(id) => run.state.borrow().is_waiting_apart(*id),
        }
    }

    /// Gives it its result, which it has not yet, and wakes its task, from wherever.
    #[inline(always)] // what it is called with was just put together, and would go through memory
    pub(crate) fn wake(&self, run: &Run, result: WaitState) {
        match self {
            Waiter::Own(task, _) => {
                task.wait().set_result(result);
                task.wake_from_anywhere(run);
            }
            Waiter::Apart(_) => {
                run.change(|state, fx| state.wake_wait(self, result, fx));
            }
        }
    }

    /// Whom a timer of its has to tell.
    fn target(&self) -> Target {
        match self {
            Waiter::Own(task, _) => Target::Sleeper(task.clone()),
            Waiter::Apart(id) => Target::Apart(*id),
        }
    }
}

impl State {
    /// Interrupts the waits of a node that has become cancelled.
    pub(crate) fn deliver(&mut self, node: NodeId, fx: &mut Effects) {
        self.deliver_apart(node, fx);
        if let Some(list) = self.nodes[node].list() {
            list.cancel_leaves(fx);
        }
        if let Some(task) = self.waiting_at(node) {
            task.wait().wake(task, WaitState::Cancelled, fx);
        }
    }

    /// The task whose own wait a node interrupts.
    fn waiting_at(&self, node: NodeId) -> Option<&Task> {
        let task = match &self.nodes.get(node)?.kind {
            Kind::Task(task) => task,
            _ if self.nodes[node].own_waits > 0 => self.task(self.task_of(node)?)?,
            _ => return None,
        };
        Some(task).filter(|task| task.wait().node() == node && !task.wait().is_free())
    }

    /// Gives a wait its result, unless it has one, or is over. Returns whether it took it.
    #[inline]
    pub(crate) fn wake_wait(
        &mut self,
        waiter: &Waiter,
        result: WaitState,
        fx: &mut Effects,
    ) -> bool {
        match waiter {
            Waiter::Own(task, number) => {
                task.wait().is(*number) && task.wait().wake(task, result, fx)
            }
            Waiter::Apart(id) => self.wake_apart(*id, result, fx),
        }
    }

    /// Is it registered, whether or not it has its result?
    pub(crate) fn has_wait(&self, waiter: &Waiter) -> bool {
        match waiter {
            Waiter::Own(task, number) => task.wait().is(*number),
            Waiter::Apart(id) => self.waits.contains_key(*id),
        }
    }

    /// Says where in a lot a wait is.
    pub(crate) fn set_place(&mut self, waiter: &Waiter, place: Place) {
        match waiter {
            Waiter::Own(task, _) => task.wait().set_place(place),
            Waiter::Apart(id) => self.waits[*id].place = Some(place),
        }
    }

    /// The nodes of the tasks of all waits. Leaves have none.
    pub(crate) fn waiting_tasks(&self) -> impl Iterator<Item = NodeId> {
        let is_waiting = |task: &Task| !task.wait().is_free();
        let tasks = self.nodes.keys();
        let own = tasks.filter(move |&id| self.task(id).is_some_and(is_waiting));
        own.chain(self.waits.values().filter_map(Wait::task))
    }

    /// What is waited for directly in a node, the newest wait first, and in which lot.
    pub(crate) fn waits_on(&self, node: NodeId) -> Vec<(Label, Option<Rc<LotCore>>)> {
        let apart = self.apart_on(node).filter(|wait| wait.state == WaitState::Waiting);
        let own = self.waiting_at(node).and_then(|task| task.wait().describe());
        let apart = apart.map(|wait| (wait.label, wait.place.clone()));
        apart.chain(own).map(|(label, place)| (label, place.map(|place| place.lot))).collect()
    }

    /// A sleeper's timer is due: it has none any more. Returns who sleeps.
    pub(crate) fn take_sleeper(&mut self, target: Target) -> Option<Waiter> {
        match target {
            Target::Scope(_) => None,
            Target::Sleeper(task) => {
                task.wait().timer.set(Timer::Never);
                let number = task.wait().number();
                Some(Waiter::Own(task, number))
            }
            Target::Apart(id) => {
                self.waits[id].timer = Timer::Never;
                Some(Waiter::Apart(id))
            }
        }
    }

    fn set_timer(&mut self, waiter: &Waiter, limit: Limit) {
        let timer = self.deadlines.set(waiter.target(), limit);
        match waiter {
            Waiter::Own(task, _) => task.wait().timer.set(timer),
            Waiter::Apart(id) => self.waits[*id].timer = timer,
        }
        self.sweep_fresh();
    }

    /// Takes back what the rest of the state knows of a wait that is over.
    fn forget_wait(&mut self, outside: bool, timer: Timer) {
        self.outside -= usize::from(outside);
        self.forget_timer(timer);
    }

    /// A task's own wait goes on in the table: it is polled with another waker, in another node or by another task.
    fn set_apart(
        &mut self,
        own: &Task,
        node: NodeId,
        waker: Option<Waker>,
        fx: &mut Effects,
    ) -> Option<WaitId> {
        let task = context::current()?;
        let ended = own.wait().end()?;
        if own.seat() != ended.node {
            self.unmark_node(ended.node);
        }
        let mut wait = Wait::new(node, task, ended.label, waker);
        wait.state = ended.state; // the waker that was cloned, which is foreign, may have woken it
        wait.outside = ended.outside;
        wait.place = ended.place;
        let place = wait.place.clone();
        let id = self.insert_apart(wait);
        if let Some(place) = place {
            place.give_to(Waiter::Apart(id));
        }
        self.waits[id].timer = self.deadlines.hand_on(ended.timer, Target::Apart(id));
        if self.effective(node) {
            self.wake_apart(id, WaitState::Cancelled, fx);
        }
        Some(id)
    }

    /// A scope has got its node: the task's wait, if it began within that scope, is there from now on.
    pub(crate) fn move_within(&mut self, task: &Task, within: Within, node: NodeId) {
        if let Some(above) = task.wait().move_within(within, node) {
            if above != task.seat() {
                self.unmark_node(above);
            }
            self.mark_node(node);
        }
    }

    /// A node that is no task's has a wait that lies in the cell of its task.
    fn mark_node(&mut self, node: NodeId) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.own_waits += 1;
        }
    }

    fn unmark_node(&mut self, node: NodeId) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.own_waits -= 1;
        }
    }
}

/// The place of an operation for its wait: registered while the operation is suspended.
///
/// Dropping it withdraws the wait.
#[derive(Default)]
pub(crate) struct Slot {
    entry: Option<(Rc<Run>, Waiter)>,
}

/// From where a wait will be woken.
#[derive(Clone, Copy)]
pub(crate) enum Origin<'a> {
    Inside,
    Outside,
    /// Of a parking lot, in which it takes a place.
    Lot(&'a Rc<LotCore>),
}

impl Slot {
    pub(crate) fn is_registered(&self) -> bool {
        self.entry.is_some()
    }

    pub(crate) fn waiter(&self) -> Option<&Waiter> {
        self.entry.as_ref().map(|(_, waiter)| waiter)
    }

    pub(crate) fn run(&self) -> Option<&Rc<Run>> {
        self.entry.as_ref().map(|(run, _)| run)
    }

    /// Registers the wait with the current task. The current node must not be cancelled. Returns the ticket in the lot; 0,
    /// which is no waiter's, if it has no place in one.
    #[inline(always)] // the label is put together for it, and would go through memory
    #[track_caller]
    pub(crate) fn register(&mut self, cx: &Context<'_>, label: &Label, origin: Origin<'_>) -> u64 {
        debug_assert!(self.entry.is_none());
        let outside = matches!(origin, Origin::Outside);
        let run = context::current_run_at(label.what, label.place);
        let node = context::seat_at(label.what, label.place);
        let task = context::task_at(label.what, label.place);
        context::count_schedule_point();
        if let Origin::Lot(lot) = origin {
            lot.adopt(&run);
        }
        let waker = (!task.is_woken_by(cx.waker())).then(|| cx.waker().clone());
        let (run, waiter) = if waker.is_none() && task.wait().is_free() {
            if task.seat() != node {
                run.state.borrow_mut().mark_node(node);
            }
            let number = task.wait().begin(node, context::within(), label, outside);
            self.entry.insert((run, Waiter::Own(task, number)))
        } else {
            let node = context::position_at(label.what, label.place);
            let mut wait = Wait::new(node, task, *label, waker);
            wait.outside = outside;
            let id = run.change(|state, fx| {
                let id = state.insert_apart(wait);
                if state.effective(node) {
                    // The waker that was cloned, which is foreign, has cancelled the scope.
                    state.wake_apart(id, WaitState::Cancelled, fx);
                }
                id
            });
            self.entry.insert((run, Waiter::Apart(id)))
        };
        if outside {
            run.state.borrow_mut().outside += 1;
        }
        match origin {
            Origin::Lot(lot) => enter_lot(run, lot, waiter),
            Origin::Inside | Origin::Outside => NO_TICKET,
        }
    }

    /// Makes a wait that was just registered end at a time.
    #[inline]
    pub(crate) fn set_limit(&self, limit: Limit) {
        if limit != Limit::Never {
            self.set_timer(limit);
        }
    }

    fn set_timer(&self, limit: Limit) {
        if let Some((run, waiter)) = &self.entry {
            if let Waiter::Own(task, _) = waiter
                && task.wait().light.is_waiting()
            {
                context::settle();
                run.state.borrow_mut().settle_light(task, run.birth());
            }
            run.state.borrow_mut().set_timer(waiter, limit);
            run.limit_was_set();
        }
    }

    /// Looks at a registered wait. While it is still waiting, it is kept up to date: which waker, task
    /// and node it belongs to may have changed since the last poll.
    #[inline]
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<WaitState> {
        match self.entry.as_ref().expect("polled before it was registered") {
            (run, _) if run.is_closed() => Poll::Ready(WaitState::Broken),
            (_, Waiter::Own(task, _)) => match task.wait().state() {
                Some(WaitState::Waiting) => self.poll_own(cx),
                Some(state) => Poll::Ready(state),
                None => Poll::Ready(WaitState::Broken),
            },
            (_, Waiter::Apart(id)) => self.poll_apart(*id, cx),
        }
    }

    fn poll_own(&mut self, cx: &Context<'_>) -> Poll<WaitState> {
        let Some((run, waiter)) = &mut self.entry else { unreachable!("it is registered") };
        let Waiter::Own(task, _) = waiter else { unreachable!("its own") };
        let own_waker = context::is_task_waker(cx.waker());
        let seat = context::seat("something that waits");
        let is_there = task.wait().node() == seat && context::is_within(task.wait().within());
        if is_there && own_waker && context::is_current_task(task) {
            return Poll::Pending;
        }
        let node = context::position("something that waits");
        let waker = (!own_waker).then(|| cx.waker().clone());
        let id = run.change(|state, fx| state.set_apart(task, node, waker, fx));
        let Some(id) = id else { return Poll::Ready(WaitState::Broken) };
        *waiter = Waiter::Apart(id);
        self.state_apart(id)
    }

    fn poll_apart(&self, id: WaitId, cx: &Context<'_>) -> Poll<WaitState> {
        if let Poll::Ready(state) = self.state_apart(id) {
            return Poll::Ready(state);
        }
        let (run, _) = self.entry.as_ref().expect("registered");
        let node = context::position("something that waits");
        let own_waker = context::is_task_waker(cx.waker());
        let is_there = |wait: &Wait| wait.node == node && context::is_current_task(&wait.task);
        if own_waker && {
            let wait = &run.state.borrow().waits[id];
            is_there(wait) && wait.waker.is_none()
        } {
            return Poll::Pending;
        }
        let waker = (!own_waker).then(|| cx.waker().clone());
        let old = run.change(|state, fx| {
            let wait = state.waits.get_mut(id)?;
            let old = std::mem::replace(&mut wait.waker, waker);
            if !is_there(wait) {
                state.move_apart(id, node, fx);
            }
            old
        });
        drop(old); // outside the borrow: it may be foreign
        self.state_apart(id)
    }

    fn state_apart(&self, id: WaitId) -> Poll<WaitState> {
        let (run, _) = self.entry.as_ref().expect("registered");
        match run.state.borrow().waits.get(id) {
            Some(wait) if wait.state == WaitState::Waiting => Poll::Pending,
            Some(wait) => Poll::Ready(wait.state),
            None => Poll::Ready(WaitState::Broken), // the run has ended
        }
    }

    /// The error of a cancelled wait.
    pub(crate) fn cancelled(&self) -> Cancelled {
        let (run, waiter) = self.entry.as_ref().expect("registered");
        let state = run.state.borrow();
        let node = match waiter {
            Waiter::Own(task, _) => Some(task.wait().node()),
            Waiter::Apart(id) => state.waits.get(*id).map(|wait| wait.node),
        };
        Cancelled(match node {
            Some(node) => state.reason(node),
            None => Arc::new(crate::CancelSource::Unknown.into()),
        })
    }

    /// Withdraws the wait, and says in which state it was.
    #[inline(always)] // nothing is left to drop then, which the compiler is to see
    pub(crate) fn withdraw(&mut self) -> Option<WaitState> {
        let (run, waiter) = self.entry.as_ref()?;
        let state = waiter.withdraw(run); // where it is: on its way through the stack it would be stored by parts
        self.entry = None;
        state
    }
}

impl Waiter {
    /// Ends its wait, and says in which state it was.
    #[inline]
    fn withdraw(&self, run: &Run) -> Option<WaitState> {
        let alone = match self {
            Waiter::Own(task, _) => task.wait().end_alone(task.seat()),
            Waiter::Apart(_) => None,
        };
        alone.or_else(|| self.withdraw_everywhere(run))
    }

    fn withdraw_everywhere(&self, run: &Run) -> Option<WaitState> {
        match self {
            Waiter::Own(task, _) => {
                let ended = task.wait().end()?;
                let is_elsewhere = task.seat() != ended.node;
                if (is_elsewhere || ended.outside || ended.timer != Timer::Never)
                    && !run.is_closed()
                {
                    let mut state = run.state.borrow_mut();
                    if is_elsewhere {
                        state.unmark_node(ended.node);
                    }
                    state.forget_wait(ended.outside, ended.timer);
                }
                if let Some(place) = ended.place {
                    place.leave();
                }
                Some(ended.state)
            }
            Waiter::Apart(id) => {
                let mut state = run.state.borrow_mut();
                let mut wait = state.remove_apart(*id)?;
                state.forget_wait(wait.outside, wait.timer);
                drop(state); // its waker is dropped outside the borrow
                if let Some(place) = wait.place.take() {
                    place.leave();
                }
                Some(wait.state)
            }
        }
    }
}

impl Drop for Slot {
    #[inline(always)] // see `withdraw`
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// Lots count from one.
const NO_TICKET: u64 = 0;

/// Adds a wait at the end of a lot. Returns its ticket.
#[inline(always)] // the waiter is looked at again by the caller
fn enter_lot(run: &Run, lot: &Rc<LotCore>, waiter: &Waiter) -> u64 {
    match waiter {
        Waiter::Own(task, _) => {
            let place = Place::at_the_end(lot, waiter);
            let ticket = place.ticket;
            task.wait().set_place(place);
            ticket
        }
        Waiter::Apart(id) => match run.state.borrow_mut().waits.get_mut(*id) {
            Some(wait) if wait.state == WaitState::Waiting => {
                wait.place.insert(Place::at_the_end(lot, waiter)).ticket
            }
            _ => NO_TICKET, // it is cancelled already
        },
    }
}
