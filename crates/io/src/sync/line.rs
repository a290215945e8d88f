//! [`Line`]: a queue of waiters each of which brings something along.
//!
//! A parking lot hands a value to whoever is first, unseen. Where the other side has to know the waiter before
//! it commits itself (does it want to read or to write? which value does it bring? through which
//! handle?), each waiter has a [`Spot`] to itself, in a [`Seat`] together with what it brings, and the seats stand in line.
//!
//! A waiter whose scope is cancelled has left its spot at that moment, and its seat when it runs: in between, the
//! seat is in the line but does not *wait*, and is passed over. Seats are used again: in steady state,
//! nothing is allocated.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::Location;
use std::rc::Rc;

use nursery::lowlevel::{ParkInSpot, Spot};

/// So many empty seats are kept for later.
const SPARE: usize = 32;

pub(crate) struct Line<D> {
    /// How many seats are in the queue, those included that do not wait any more: mostly none.
    seats: Cell<usize>,
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
    spot: Spot,
    in_line: Cell<bool>,
    pub(crate) data: D,
}

impl<D> Seat<D> {
    /// Waits until somebody takes the seat out of the line and wakes it.
    pub(crate) fn park(
        &self,
        what: &'static str,
        place: &'static Location<'static>,
    ) -> ParkInSpot<'_> {
        self.spot.park_as(what).at(place)
    }

    /// Wakes the waiter of a seat that was taken out of the line.
    pub(crate) fn wake(&self) {
        let _interrupted_since = !self.spot.unpark();
    }

    /// Does it wait, and has not been interrupted?
    pub(crate) fn is_waiting(&self) -> bool {
        self.in_line.get() && self.spot.is_taken()
    }
}

impl<D: Default> Line<D> {
    /// Enters the line with an empty seat, that `fill` fills.
    pub(crate) fn enter(&self, fill: impl FnOnce(&D)) -> Rc<Seat<D>> {
        let spare = self.state.borrow_mut().spare.pop();
        let seat = spare.unwrap_or_else(|| {
            Rc::new(Seat { spot: Spot::new(), in_line: Cell::new(false), data: D::default() })
        });
        fill(&seat.data);
        seat.in_line.set(true);
        self.change(|state| state.queue.push_back(seat.clone()));
        seat
    }
}

impl<D> Line<D> {
    pub(crate) fn new() -> Self {
        let state = State { queue: VecDeque::new(), gone: 0, spare: Vec::new() };
        Line { seats: Cell::new(0), state: RefCell::new(state) }
    }

    fn change<R>(&self, change: impl FnOnce(&mut State<D>) -> R) -> R {
        let mut state = self.state.borrow_mut();
        let result = change(&mut state);
        self.seats.set(state.queue.len());
        result
    }

    /// Gives an emptied seat back; takes it out of the line first if it is still there.
    pub(crate) fn leave(&self, mut seat: Rc<Seat<D>>) {
        self.change(|state| {
            if seat.in_line.replace(false) {
                state.gone += 1;
                state.tidy();
            }
            if state.spare.len() < SPARE && Rc::get_mut(&mut seat).is_some() {
                state.spare.push(seat);
            }
        });
    }

    /// Takes the first waiter out of the line, if `accept` accepts it. It is to be woken.
    #[inline]
    pub(crate) fn next(&self, accept: impl FnOnce(&D) -> bool) -> Option<Rc<Seat<D>>> {
        if !self.has_seats() {
            return None;
        }
        self.change(|state| {
            state.skip();
            state
                .queue
                .pop_front_if(|seat| accept(&seat.data))
                .inspect(|seat| seat.in_line.set(false))
        })
    }

    /// Takes all waiters out of the line that `accept` accepts. They are to be woken.
    pub(crate) fn take(&self, accept: impl Fn(&D) -> bool) -> Vec<Rc<Seat<D>>> {
        self.change(|state| {
            let accepted = |seat: &&Rc<Seat<D>>| seat.is_waiting() && accept(&seat.data);
            let seats: Vec<_> = state.queue.iter().filter(accepted).cloned().collect();
            for seat in &seats {
                seat.in_line.set(false);
            }
            state.queue.retain(|seat| seat.in_line.get());
            state.gone = 0;
            seats
        })
    }

    /// May anybody wait?
    #[inline]
    pub(crate) fn has_seats(&self) -> bool {
        self.seats.get() > 0
    }

    /// Does nobody wait?
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        !self.has_seats()
            || self.change(|state| {
                state.skip();
                state.queue.is_empty()
            })
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.state.borrow().queue.iter().filter(|seat| seat.is_waiting()).count()
    }
}

impl<D> State<D> {
    /// Drops those that have left from the middle when they are too many.
    fn tidy(&mut self) {
        if self.gone > 8 && self.gone > self.queue.len() / 2 {
            self.queue.retain(|seat| seat.in_line.get());
            self.gone = 0;
        }
    }

    /// Drops those off the front that do not wait.
    fn skip(&mut self) {
        while self.queue.front().is_some_and(|seat| !seat.is_waiting()) {
            let seat = self.queue.pop_front().expect("looked at");
            if !seat.in_line.replace(false) {
                self.gone -= 1;
            }
        }
    }
}
