//! [`ParkingLot`]: a fair queue of suspended tasks, with a slot for what is handed over.
//!
//! The queue that every primitive is made of. Waiters stand in order of arrival. Waking one commits to it:
//! it leaves the queue, and what is handed to it is kept for it, so that a cancellation that comes later finds the hand-off
//! done; a cancellation that comes earlier has taken the waiter out of the queue already. If a waiter's future is
//! dropped after the hand-off, what was handed over is dropped: make it a guard, whose drop passes it on.
//!
//! Each waiter has a ticket, by which its place in the queue is found when it leaves before its turn.

pub(crate) mod breakers;
mod queue;
pub(crate) mod spot;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::checkpoint::{RaiseIfCancelled, raise_if_cancelled};
use crate::error::Cancelled;
use crate::park::queue::Queue;
use crate::run::{Run, context};
use crate::stats::TaskId;
use crate::tree::State;
use crate::wait::{Label, Origin, Slot, WaitState, Waiter};

/// The part of a lot that the run knows.
#[derive(Default)]
pub(crate) struct LotCore {
    queue: RefCell<Queue>,
    len: Cell<usize>,
    /// The last waiter's. They count from one.
    ticket: Cell<u64>,
    /// The run whose tasks are parked here. Present while there are any.
    run: RefCell<Option<Rc<Run>>>,
    broken_by: RefCell<Vec<TaskId>>,
}

/// Where in a lot a wait is.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) lot: Rc<LotCore>,
    /// Never used again in this lot.
    pub(crate) ticket: u64,
}

impl Place {
    /// A new one, at the end of a lot.
    #[inline(always)] // it would go through memory
    pub(crate) fn at_the_end(lot: &Rc<LotCore>, waiter: &Waiter) -> Place {
        Place { lot: lot.clone(), ticket: lot.append(waiter.clone()) }
    }

    /// Leaves the lot, unless that has been emptied.
    #[inline]
    pub(crate) fn leave(self) {
        self.lot.remove(self.ticket);
    }

    /// Somebody else has this place from now on.
    pub(crate) fn give_to(&self, waiter: Waiter) {
        self.lot.queue.borrow_mut().replace(self.ticket, waiter);
    }
}

impl LotCore {
    /// Adds a wait at the end. Returns its ticket.
    #[inline(always)] // the waiter is looked at again by the caller
    fn append(&self, waiter: Waiter) -> u64 {
        let ticket = self.ticket.get() + 1;
        self.ticket.set(ticket);
        self.queue.borrow_mut().push(ticket, waiter);
        self.len.set(self.len.get() + 1);
        ticket
    }

    #[inline]
    fn remove(&self, ticket: u64) {
        if self.queue.borrow_mut().remove(ticket) {
            self.len.set(self.len.get() - 1);
        }
    }

    /// Who has waited longest.
    #[inline]
    fn first(&self) -> Option<(u64, Waiter)> {
        self.queue.borrow().first().cloned()
    }

    /// The run of those who are parked here, if there are any.
    #[inline]
    fn run(&self) -> Option<Rc<Run>> {
        if self.len.get() == 0 { None } else { self.run.borrow().clone() }
    }

    /// Are its waiters gone with their run, because their futures were forgotten, not dropped?
    fn is_left_behind(&self, run: &Run) -> bool {
        let state = run.state.borrow();
        run.is_closed() || self.first().is_some_and(|(_, first)| !state.has_wait(&first))
    }

    fn clear(&self) {
        self.queue.take();
        self.len.set(0);
    }

    /// Takes out who has waited longest, and is to be woken.
    #[inline(always)] // it is large, and is looked at at once
    fn take_first(&self) -> Option<First> {
        let run = self.run()?;
        let (ticket, waiter) = self.queue.borrow_mut().take_first()?;
        self.len.set(self.len.get() - 1);
        let is_parked = match &waiter {
            _ if run.is_closed() => false,
            Waiter::Own(task, number) => task.wait().leave_lot(*number),
            Waiter::Apart(id) => run.state.borrow_mut().leave_lot(*id),
        };
        if !is_parked {
            self.clear(); // see `is_left_behind`
            return None;
        }
        Some(First { run, ticket, waiter })
    }

    /// Breaks the lot: everybody in it, and everybody who comes, gets [`Broken`].
    pub(crate) fn break_by(&self, task: TaskId) {
        self.broken_by.borrow_mut().push(task);
        while let Some(first) = self.take_first() {
            first.waiter.wake(&first.run, WaitState::Broken);
        }
    }

    fn add_breaker(self: &Rc<Self>, task: TaskId) -> bool {
        context::with_run(|run| {
            let Some(run) = run else { return false };
            let Some(node) = task.node_in(run) else { return false };
            let State { nodes, breakers, .. } = &mut *run.state.borrow_mut();
            let is_there = nodes.contains_key(node);
            if is_there {
                breakers.add(node, self.clone());
            }
            is_there
        })
    }

    /// Takes one breaker out, and adds another, if anybody is parked. Returns whether it did.
    #[inline]
    fn pass_breaker(self: &Rc<Self>, run: &Run, former: Option<TaskId>, next: TaskId) -> bool {
        let State { nodes, breakers, .. } = &mut *run.state.borrow_mut();
        let former = former.and_then(|task| breakers.remove(task.node_in(run)?, self));
        let is_next = self.len.get() > 0 && nodes.contains_key(next.node);
        if is_next {
            breakers.add(next.node, former.unwrap_or_else(|| self.clone()));
        }
        is_next
    }

    fn remove_breaker(self: &Rc<Self>, task: TaskId) -> bool {
        let lot = context::with_run(|run| {
            let run = run?;
            let node = task.node_in(run)?;
            run.state.borrow_mut().breakers.remove(node, self)
        });
        lot.is_some()
    }

    fn broken(&self) -> Option<Broken> {
        let by = self.broken_by.borrow();
        if by.is_empty() { None } else { Some(Broken { by: by.clone() }) }
    }
}

/// Who had waited longest in a lot.
struct First {
    run: Rc<Run>,
    ticket: u64,
    waiter: Waiter,
}

impl First {
    #[inline(always)] // its parts are stored one by one otherwise, and read back as one
    fn task(&self) -> TaskId {
        let task = match &self.waiter {
            Waiter::Own(task, _) => task.clone(),
            Waiter::Apart(id) => self.run.state.borrow().waits[*id].task.clone(),
        };
        self.run.task_id(task.node(&self.run))
    }
}

/// A fair queue of suspended tasks: the building block of synchronisation primitives.
///
/// [`park`](Self::park) suspends the current task until somebody [`unpark`](Self::unpark_one)s it, which can
/// hand it a value of type `V`. First come, first served. A lot is not tied to a run until somebody parks
/// in it.
///
/// # Examples
///
/// An event:
///
/// ```
/// use std::cell::Cell;
/// use nursery::{Cancelled, checkpoint, open_nursery};
/// use nursery::lowlevel::{ParkError, ParkingLot};
///
/// #[derive(Default)]
/// struct Event { is_set: Cell<bool>, waiters: ParkingLot }
///
/// impl Event {
///     fn set(&self) {
///         self.is_set.set(true);
///         self.waiters.unpark_all();
///     }
///     async fn wait(&self) -> Result<(), ParkError> {
///         if self.is_set.get() {
///             checkpoint().await?;
///             return Ok(());
///         }
///         self.waiters.park().await
///     }
/// }
///
/// # nursery::run(async {
/// let event = Event::default();
/// open_nursery(async |n| -> anyhow::Result<()> {
///     n.start_soon(async { Ok(event.wait().await?) });
///     event.set();
///     Ok(())
/// })
/// .await
/// # }).unwrap();
/// ```
pub struct ParkingLot<V = ()> {
    lot: Rc<Lot<V>>,
}

struct Lot<V> {
    core: Rc<LotCore>,
    /// What has been handed over and not been fetched yet.
    handed: RefCell<Notes<V>>,
    /// Where waiters that parked here have been reparked to.
    moved: RefCell<Notes<(Rc<Lot<V>>, u64)>>,
}

/// What has been noted for waiters, by ticket. Mostly there is one at a time, which costs no allocation.
struct Notes<T> {
    one: Option<(u64, T)>,
    /// The others.
    many: BTreeMap<u64, T>,
}

impl<T> Notes<T> {
    fn new() -> Self {
        Notes { one: None, many: BTreeMap::new() }
    }

    fn is_empty(&self) -> bool {
        self.one.is_none() && self.many.is_empty()
    }

    #[inline]
    fn put(&mut self, ticket: u64, note: T) {
        if self.one.is_none() {
            self.one = Some((ticket, note));
        } else {
            self.many.insert(ticket, note);
        }
    }

    #[inline(always)] // what comes out would go through memory
    fn take(&mut self, ticket: u64) -> Option<T> {
        match self.one.take_if(|(one, _)| *one == ticket) {
            Some((_, note)) => Some(note),
            None => self.many.remove(&ticket),
        }
    }
}

impl<V> Lot<V> {
    #[inline(always)] // the same
    fn take_handed(&self, ticket: u64) -> Option<V> {
        self.handed.borrow_mut().take(ticket)
    }

    fn take_moved(&self, ticket: u64) -> Option<(Rc<Lot<V>>, u64)> {
        self.moved.borrow_mut().take(ticket)
    }

    /// Calls `f` with the lot in which a waiter that parked in this one has got its result, and its ticket there.
    #[inline]
    fn follow<R>(&self, ticket: u64, f: impl FnOnce(&Lot<V>, u64) -> R) -> R {
        let moved = if self.moved.borrow().is_empty() { None } else { self.follow_far(ticket) };
        match moved {
            Some((lot, ticket)) => f(&lot, ticket),
            None => f(self, ticket),
        }
    }

    #[cold]
    fn follow_far(&self, ticket: u64) -> Option<(Rc<Lot<V>>, u64)> {
        let mut at = self.take_moved(ticket)?;
        while let Some(next) = at.0.take_moved(at.1) {
            at = next;
        }
        Some(at)
    }
}

impl<V> ParkingLot<V> {
    /// Makes an empty lot.
    #[must_use]
    pub fn new() -> Self {
        ParkingLot {
            lot: Rc::new(Lot {
                core: Rc::default(),
                handed: RefCell::new(Notes::new()),
                moved: RefCell::new(Notes::new()),
            }),
        }
    }

    /// Suspends the current task until it is unparked.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it left the queue; if a value had been handed to it when it was
    /// dropped, the value is dropped too. A value that was handed over before the cancellation is returned.
    ///
    /// # Errors
    ///
    /// [`ParkError::Cancelled`]; [`ParkError::Broken`] if the lot is or becomes broken.
    ///
    /// # Panics
    ///
    /// Outside a run, or if tasks of another run are parked here.
    #[track_caller]
    pub fn park(&self) -> Park<'_, V> {
        self.park_as("a parking lot")
    }

    /// The same, with the words by which the tree says what is waited for, such as `"a lock"`.
    #[track_caller]
    pub fn park_as(&self, what: &'static str) -> Park<'_, V> {
        Park {
            lot: self,
            check: raise_if_cancelled(),
            slot: Slot::default(),
            ticket: 0,
            label: Label { what, place: Location::caller() },
        }
    }

    /// Wakes the task that has waited longest, and hands `value` to it. Returns the task.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// The value, if nobody is parked.
    pub fn unpark_one(&self, value: V) -> Result<TaskId, V> {
        self.hand(value, First::task)
    }

    /// The same, for who need not know the task, which then needs no name: it costs less.
    ///
    /// # Errors
    ///
    /// The value, if nobody is parked.
    #[inline]
    pub fn hand_over(&self, value: V) -> Result<(), V> {
        self.hand(value, |_| ())
    }

    /// The same, for what has one owner at a time, such as a lock: the end of the task that is woken breaks the lot as long
    /// as others are parked in it, and that of `former` does not any more.
    ///
    /// `note` is called before the task is woken, with the task and whether its end breaks the lot: not if nobody else is
    /// parked, nor if the task has ended and left its wait to another. It must not wake or drop anything foreign.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// The value, if nobody is parked: then nothing has changed.
    #[inline]
    pub fn pass_on(
        &self,
        value: V,
        former: Option<TaskId>,
        note: impl FnOnce(TaskId, bool),
    ) -> Result<(), V> {
        self.hand(value, |first| {
            let task = first.task();
            note(task, self.lot.core.pass_breaker(&first.run, former, task));
        })
    }

    /// Wakes the task that has waited longest, and hands `value` to it; `look` sees it before. The value is there before
    /// the task can run.
    #[inline(always)] // the waiter is looked at again by `look`
    fn hand<R>(&self, value: V, look: impl FnOnce(&First) -> R) -> Result<R, V> {
        let Some(first) = self.lot.core.take_first() else { return Err(value) };
        let seen = look(&first);
        self.lot.handed.borrow_mut().put(first.ticket, value);
        first.waiter.wake(&first.run, WaitState::Woken);
        Ok(seen)
    }

    /// Moves the `count` oldest waiters, in order, to the end of another lot.
    ///
    /// They are cancelled, woken and handed values there, as if they had parked there.
    ///
    /// # Panics
    ///
    /// If tasks of another run are parked in `to`.
    #[track_caller]
    pub fn repark(&self, to: &ParkingLot<V>, count: usize) {
        let Some(run) = self.lot.core.run() else { return };
        if self.lot.core.is_left_behind(&run) {
            return self.lot.core.clear();
        }
        if Rc::ptr_eq(&self.lot, &to.lot) {
            return;
        }
        to.lot.core.adopt(&run);
        for _ in 0..count {
            let Some((old, waiter)) = self.lot.core.first() else { break };
            self.lot.core.remove(old);
            let place = Place::at_the_end(&to.lot.core, &waiter);
            let ticket = place.ticket;
            run.state.borrow_mut().set_place(&waiter, place);
            self.lot.moved.borrow_mut().put(old, (to.lot.clone(), ticket));
        }
    }

    /// Moves all waiters to another lot.
    #[track_caller]
    pub fn repark_all(&self, to: &ParkingLot<V>) {
        self.repark(to, usize::MAX);
    }

    /// Breaks the lot in the name of the current task: everybody who is parked, or parks from now on, gets
    /// [`ParkError::Broken`]. It cannot be mended.
    ///
    /// # Panics
    ///
    /// Outside a task.
    #[track_caller]
    pub fn break_lot(&self) {
        let run = context::current_run("`ParkingLot::break_lot`");
        let task = context::task("`ParkingLot::break_lot`");
        self.lot.core.break_by(run.task_id(task.node(&run)));
    }

    /// Makes the lot break when `task` ends. Asked several times, it counts.
    ///
    /// # Errors
    ///
    /// [`Broken`] if the task has ended already.
    pub fn add_breaker(&self, task: TaskId) -> Result<(), Broken> {
        if self.lot.core.add_breaker(task) { Ok(()) } else { Err(Broken { by: vec![task] }) }
    }

    /// Takes one [`add_breaker`](Self::add_breaker) back. Returns false if there was none.
    pub fn remove_breaker(&self, task: TaskId) -> bool {
        self.lot.core.remove_breaker(task)
    }

    /// Returns who broke the lot, in order; empty if nobody has.
    #[must_use]
    pub fn broken_by(&self) -> Vec<TaskId> {
        self.lot.core.broken_by.borrow().clone()
    }

    /// Returns the number of parked tasks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lot.core.len.get()
    }

    /// Returns whether nobody is parked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl ParkingLot<()> {
    /// Wakes up to `count` of the longest waiting tasks. Returns how many.
    pub fn unpark(&self, count: usize) -> usize {
        (0..count).take_while(|_| self.hand_over(()).is_ok()).count()
    }

    /// Wakes everybody. Returns how many.
    pub fn unpark_all(&self) -> usize {
        self.unpark(self.len())
    }
}

impl LotCore {
    /// Ties the lot to a run while it is occupied.
    #[inline]
    #[track_caller]
    pub(crate) fn adopt(&self, run: &Rc<Run>) {
        let is_known = self.run.borrow().as_ref().is_some_and(|owner| Rc::ptr_eq(owner, run));
        if !is_known {
            self.change_owner(run);
        }
    }

    #[cold]
    #[track_caller]
    fn change_owner(&self, run: &Rc<Run>) {
        let mut owner = self.run.borrow_mut();
        let is_other = owner.as_ref().is_some_and(|owner| !Rc::ptr_eq(owner, run));
        if owner.as_ref().is_some_and(|owner| is_other && self.is_left_behind(owner)) {
            self.clear();
        }
        assert!(
            !is_other || self.len.get() == 0,
            "a task of one run cannot wait where tasks of another run wait\n\
             \n\
             Events, locks and channels belong to one run at a time: they are exact and fast because they need \
             no lock. Between runs, use what is made for threads (`async-channel`, `event-listener`) through \
             `nursery::cancellable`."
        );
        if owner.is_none() || is_other {
            let old = owner.replace(run.clone());
            drop(owner);
            drop(old);
        }
    }
}

impl<V> Default for ParkingLot<V> {
    fn default() -> Self {
        ParkingLot::new()
    }
}

impl<V> fmt::Debug for ParkingLot<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParkingLot")
            .field("tasks_waiting", &self.len())
            .field("broken_by", &self.lot.core.broken_by.borrow())
            .finish()
    }
}

/// The future of [`ParkingLot::park`].
#[must_use = "a task parks only while this is awaited"]
pub struct Park<'a, V = ()> {
    lot: &'a ParkingLot<V>,
    check: RaiseIfCancelled,
    slot: Slot,
    /// In the lot, if the slot is registered. No waiter's, if it has no place there.
    ticket: u64,
    label: Label,
}

impl<V> Unpin for Park<'_, V> {}

impl<V> Park<'_, V> {
    /// Sets the place that the tree shows, for operations that find out only later whether they have to park.
    pub fn at(mut self, place: &'static Location<'static>) -> Self {
        self.label.place = place;
        self
    }

    /// Is the task parked, or woken and not yet resumed?
    #[must_use]
    pub fn is_parked(&self) -> bool {
        self.slot.is_registered()
    }
}

impl<V> Future for Park<'_, V> {
    type Output = Result<V, ParkError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if !this.slot.is_registered() {
            ready!(this.check.poll_check(cx))?;
            if let Some(broken) = this.lot.lot.core.broken() {
                return Poll::Ready(Err(broken.into()));
            }
            let origin = Origin::Lot(&this.lot.lot.core);
            this.ticket = this.slot.register(cx, &this.label, origin);
            return Poll::Pending;
        }
        let state = ready!(this.slot.poll(cx));
        let error = (state == WaitState::Cancelled).then(|| this.slot.cancelled());
        this.slot.withdraw();
        Poll::Ready(this.lot.lot.follow(this.ticket, |lot, ticket| match (state, error) {
            (_, Some(cancelled)) => Err(cancelled.into()),
            (WaitState::Broken, _) => {
                Err(lot.core.broken().unwrap_or(Broken { by: Vec::new() }).into())
            }
            _ => Ok(lot.take_handed(ticket).expect("handed over before the task was woken")),
        }))
    }
}

impl<V> Drop for Park<'_, V> {
    fn drop(&mut self) {
        // A hand-off that came too late for this waiter: dropped, with nothing borrowed, it passes itself on.
        if self.slot.withdraw().is_some() {
            let handed = self.lot.lot.follow(self.ticket, Lot::take_handed);
            drop(handed);
        }
    }
}

impl<V> fmt::Debug for Park<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Park").field("is_parked", &self.is_parked()).finish_non_exhaustive()
    }
}

/// A parking lot was broken: the task that had to wake those parked in it has ended without doing so.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broken {
    /// The tasks that broke it.
    pub by: Vec<TaskId>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the parking lot was broken by {:?}", self.by)
    }
}

impl std::error::Error for Broken {}

/// Why a task was not unparked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ParkError {
    /// Its scope was cancelled.
    Cancelled(Cancelled),
    /// The lot is broken.
    Broken(Broken),
}

impl From<Cancelled> for ParkError {
    fn from(cancelled: Cancelled) -> Self {
        ParkError::Cancelled(cancelled)
    }
}

impl From<Broken> for ParkError {
    fn from(broken: Broken) -> Self {
        ParkError::Broken(broken)
    }
}

impl fmt::Display for ParkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParkError::Cancelled(cancelled) => cancelled.fmt(f),
            ParkError::Broken(broken) => broken.fmt(f),
        }
    }
}

impl std::error::Error for ParkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ParkError::Cancelled(cancelled) => Some(cancelled),
            ParkError::Broken(broken) => Some(broken),
        }
    }
}
