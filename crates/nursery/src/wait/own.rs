//! [`OwnWait`]: the wait of a task, in the task's cell.
//!
//! Mostly a task waits for one thing at a time, and polls it with its own waker. Then the record needs no place in a
//! table: it is where the task is, which is looked at anyway when it waits and when it is woken.

use std::cell::Cell;
use std::rc::Rc;

use slotmap::Key as _;

use crate::deadlines::Timer;
use crate::nursery::erase::Task;
use crate::park::{LotCore, Place};
use crate::scope::light::LightCell;
use crate::tree::{Effects, NodeId};
use crate::wait::{Label, WaitState};

pub(crate) struct OwnWait {
    /// `None`: the task waits for nothing, or otherwise.
    state: Cell<Option<WaitState>>,
    /// Waits on something that is not a task of this run.
    outside: Cell<bool>,
    within: Cell<Within>,
    /// Which wait it is, of all that were here. Counts in a circle.
    number: Cell<u32>,
    /// The node whose cancellation interrupts it.
    node: Cell<NodeId>,
    /// The lot in which it is parked, while it is waiting.
    lot: Cell<Option<Rc<LotCore>>>,
    /// In that lot.
    ticket: Cell<u64>,
    /// For sleepers, or else for the light scope.
    pub(crate) timer: Cell<Timer>,
    label: Cell<Option<Label>>,
    pub(crate) light: LightCell,
}

/// Whether a wait began in a scope that had no node, and so is to go there when it gets one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Within {
    /// No: it is where its node says.
    Node,
    /// In the [`Deferred`](crate::run::context::Deferred) scope that is current.
    Deferred,
    /// In the task's [`Light`](crate::scope::light::Light) one.
    Light,
}

/// What an [`OwnWait`] was, for who goes on with it elsewhere.
pub(super) struct Ended {
    pub(super) state: WaitState,
    pub(super) outside: bool,
    pub(super) node: NodeId,
    pub(super) place: Option<Place>,
    pub(super) timer: Timer,
    pub(super) label: Label,
}

impl OwnWait {
    pub(crate) fn new() -> Self {
        OwnWait {
            state: Cell::new(None),
            outside: Cell::new(false),
            within: Cell::new(Within::Node),
            number: Cell::new(0),
            node: Cell::new(NodeId::null()),
            lot: Cell::new(None),
            ticket: Cell::new(0),
            timer: Cell::new(Timer::Never),
            label: Cell::new(None),
            light: LightCell::default(),
        }
    }

    #[inline]
    pub(crate) fn is_free(&self) -> bool {
        self.state.get().is_none()
    }

    /// Begins another wait. Returns its number.
    #[inline]
    pub(super) fn begin(&self, node: NodeId, within: Within, label: &Label, outside: bool) -> u32 {
        let number = self.number.get().wrapping_add(1);
        self.number.set(number);
        self.state.set(Some(WaitState::Waiting));
        self.outside.set(outside);
        self.within.set(within);
        self.node.set(node);
        self.label.set(Some(*label));
        number
    }

    /// Ends it, if nothing outside the cell knows of it. `seat` is that of its task.
    #[inline]
    pub(super) fn end_alone(&self, seat: NodeId) -> Option<WaitState> {
        if self.outside.get() || self.node.get() != seat || self.has_timer() || self.is_parked() {
            return None;
        }
        self.state.take()
    }

    fn has_timer(&self) -> bool {
        !self.light.is_waiting() && self.timer.get() != Timer::Never
    }

    fn is_parked(&self) -> bool {
        let lot = self.lot.take();
        let is_parked = lot.is_some();
        if is_parked {
            self.lot.set(lot);
        }
        is_parked
    }

    /// Ends it.
    pub(super) fn end(&self) -> Option<Ended> {
        Some(Ended {
            state: self.state.take()?,
            outside: self.outside.get(),
            node: self.node.get(),
            place: self.take_place(),
            timer: if self.light.is_waiting() { Timer::Never } else { self.timer.take() },
            label: self.label.get()?,
        })
    }

    /// The task has got a node of its own: if it waits in the one above, it waits in its own from now on.
    pub(crate) fn follow(&self, above: NodeId, node: NodeId) {
        if !self.is_free() && self.node.get() == above {
            self.node.set(node);
        }
    }

    /// The deferred scope waits, as a light one.
    #[inline]
    pub(crate) fn keep_within(&self) {
        if self.within.get() == Within::Deferred {
            self.within.set(Within::Light);
        }
    }

    /// The scope without a node that is current is left: if the wait is still there, it is outside.
    #[inline]
    pub(crate) fn leave_within(&self) {
        self.within.set(Within::Node);
    }

    /// Did it begin in the light scope, in this node?
    pub(crate) fn is_within_at(&self, node: NodeId) -> bool {
        !self.is_free() && self.within.get() != Within::Node && self.node.get() == node
    }

    /// The node around the light scope, if it began in that.
    pub(crate) fn node_within(&self) -> Option<NodeId> {
        (!self.is_free() && self.within.get() == Within::Light).then(|| self.node.get())
    }

    /// Goes to the node of the scope in which it began, if it did. Returns the node where it was.
    pub(super) fn move_within(&self, within: Within, node: NodeId) -> Option<NodeId> {
        if self.is_free() || self.within.get() != within {
            return None;
        }
        self.within.set(Within::Node);
        Some(self.node.replace(node))
    }

    #[inline]
    pub(super) fn within(&self) -> Within {
        self.within.get()
    }

    #[inline]
    pub(crate) fn state(&self) -> Option<WaitState> {
        self.state.get()
    }

    pub(super) fn number(&self) -> u32 {
        self.number.get()
    }

    #[inline]
    pub(super) fn node(&self) -> NodeId {
        self.node.get()
    }

    pub(super) fn set_place(&self, place: Place) {
        self.ticket.set(place.ticket);
        self.lot.set(Some(place.lot));
    }

    #[inline]
    fn take_place(&self) -> Option<Place> {
        self.lot.take().map(|lot| Place { lot, ticket: self.ticket.get() })
    }

    /// The wait of this number has been taken out of its lot. Returns whether it is parked there, and so is waiting.
    #[inline]
    pub(crate) fn leave_lot(&self, number: u32) -> bool {
        self.is(number) && self.lot.take().is_some()
    }

    /// Gives it its result. It is waiting.
    #[inline]
    pub(crate) fn set_result(&self, result: WaitState) {
        self.state.set(Some(result));
    }

    /// Is it the wait of this number?
    #[inline]
    pub(super) fn is(&self, number: u32) -> bool {
        self.number.get() == number && !self.is_free()
    }

    /// Is it the wait of this number, and has no result yet?
    #[inline]
    pub(crate) fn is_waiting(&self, number: u32) -> bool {
        self.number.get() == number && self.state.get() == Some(WaitState::Waiting)
    }

    /// What a waiting task waits for, and the lot in which it is parked.
    pub(super) fn describe(&self) -> Option<(Label, Option<Place>)> {
        if self.state.get() != Some(WaitState::Waiting) {
            return None;
        }
        let place = self.take_place();
        place.iter().for_each(|place| self.set_place(place.clone()));
        Some((self.label.get()?, place))
    }

    /// Gives it its result, unless it has one. Returns whether it took it.
    #[inline]
    pub(crate) fn wake(&self, task: &Task, result: WaitState, fx: &mut Effects) -> bool {
        let is_taken = self.take_result(result);
        if is_taken {
            fx.wake_task(task);
        }
        is_taken
    }

    /// The same, without a word to its task.
    #[inline]
    pub(crate) fn take_result(&self, result: WaitState) -> bool {
        let is_waiting = self.state.get() == Some(WaitState::Waiting);
        if is_waiting {
            self.state.set(Some(result));
            if let Some(place) = self.take_place() {
                place.leave();
            }
        }
        is_waiting
    }
}
