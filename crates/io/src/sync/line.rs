//! [`Line`]: a queue of waiters each of which brings something along.
//!
//! A [`ParkingLot`] hands a value to whoever is first, unseen. Where the other side has to know the waiter before
//! it commits itself (does it want to read or to write? which value does it bring? through which
//! handle?), each waiter has a lot to itself, in a [`Seat`] together with what it brings, and the seats stand in line.
//!
//! A waiter whose scope is cancelled has left its lot at that moment, and its seat when it runs: in between, the
//! seat is in the line but does not *wait*, and is passed over. Seats are used again: in steady state,
//! nothing is allocated.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::Location;
use std::rc::Rc;

use nursery::lowlevel::{Park, ParkingLot};

/// So many empty seats are kept for later.
const SPARE: usize = 32;

pub(crate) struct Line<D> {
    state: RefCell<State<D>>,
}

struct State<D> {
    /// In order of arrival. Those whose `in_line` is false have left it from the middle.
    queue: VecDeque<Rc<Seat<D>>>,
    /// How many have left it from the middle.
    gone: usize,
    spare: Vec<Rc<Seat<D>>>,
}

/// A waiter's place in a line. What it brings (`data`) is set before it enters, and empty when it has left.
pub(crate) struct Seat<D> {
    lot: ParkingLot,
    in_line: Cell<bool>,
    pub(crate) data: D,
}

impl<D> Seat<D> {
    /// Waits until somebody takes the seat out of the line and wakes it.
    pub(crate) fn park(&self, what: &'static str, place: &'static Location<'static>) -> Park<'_> {
        self.lot.park_as(what).at(place)
    }

    /// Wakes the waiter of a seat that was taken out of the line.
    pub(crate) fn wake(&self) {
        let _interrupted_since = self.lot.unpark_one(()).is_err();
    }

    /// Does it wait, and has not been interrupted?
    pub(crate) fn is_waiting(&self) -> bool {
        self.in_line.get() && !self.lot.is_empty()
    }
}

impl<D: Default> Line<D> {
    /// Enters the line with an empty seat, that `fill` fills.
    pub(crate) fn enter(&self, fill: impl FnOnce(&D)) -> Rc<Seat<D>> {
        let spare = self.state.borrow_mut().spare.pop();
        let seat = spare.unwrap_or_else(|| {
            let (lot, in_line) = (ParkingLot::new(), Cell::new(false));
            Rc::new(Seat { lot, in_line, data: D::default() })
        });
        fill(&seat.data);
        seat.in_line.set(true);
        self.state.borrow_mut().queue.push_back(seat.clone());
        seat
    }
}

impl<D> Line<D> {
    pub(crate) fn new() -> Self {
        let state = State { queue: VecDeque::new(), gone: 0, spare: Vec::new() };
        Line { state: RefCell::new(state) }
    }

    /// Gives an emptied seat back; takes it out of the line first if it is still there.
    pub(crate) fn leave(&self, mut seat: Rc<Seat<D>>) {
        let mut state = self.state.borrow_mut();
        if seat.in_line.replace(false) {
            state.gone += 1;
            if state.gone > 8 && state.gone > state.queue.len() / 2 {
                state.queue.retain(|seat| seat.in_line.get());
                state.gone = 0;
            }
        }
        if state.spare.len() < SPARE && Rc::get_mut(&mut seat).is_some() {
            state.spare.push(seat);
        }
    }

    /// Takes the first waiter out of the line, if `accept` accepts it. It is to be woken.
    #[inline]
    pub(crate) fn next(&self, accept: impl FnOnce(&D) -> bool) -> Option<Rc<Seat<D>>> {
        let mut state = self.state.borrow_mut();
        state.skip();
        if !accept(&state.queue.front()?.data) {
            return None;
        }
        let seat = state.queue.pop_front()?;
        seat.in_line.set(false);
        Some(seat)
    }

    /// Takes all waiters out of the line that `accept` accepts. They are to be woken.
    pub(crate) fn take(&self, accept: impl Fn(&D) -> bool) -> Vec<Rc<Seat<D>>> {
        let mut state = self.state.borrow_mut();
        let accepted = |seat: &&Rc<Seat<D>>| seat.is_waiting() && accept(&seat.data);
        let seats: Vec<_> = state.queue.iter().filter(accepted).cloned().collect();
        for seat in &seats {
            seat.in_line.set(false);
        }
        state.queue.retain(|seat| seat.in_line.get());
        state.gone = 0;
        seats
    }

    /// Does nobody wait?
    pub(crate) fn is_empty(&self) -> bool {
        let mut state = self.state.borrow_mut();
        state.skip();
        state.queue.is_empty()
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.state.borrow().queue.iter().filter(|seat| seat.is_waiting()).count()
    }
}

impl<D> State<D> {
    /// Drops those off the front that do not wait.
    #[inline]
    fn skip(&mut self) {
        while self.queue.front().is_some_and(|seat| !seat.is_waiting()) {
            let seat = self.queue.pop_front().expect("looked at");
            if !seat.in_line.replace(false) {
                self.gone -= 1;
            }
        }
    }
}
