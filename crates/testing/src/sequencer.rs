//! [`Sequencer`]: brings blocks of code of several tasks into one order.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::rc::Rc;

use nursery::lowlevel::{ParkError, ParkingLot};
use nursery::{Cancelled, checkpoint};

/// Lets one block of code after the other run, in the order of their numbers, in whichever tasks they are.
///
/// Turn 0 comes at once; turn `n` when the [`Turn`] `n - 1` has been dropped, however its block ended. If a task that waits
/// for its turn is cancelled or dropped, the order cannot be kept any more: all the others that wait, or will, panic.
///
/// # Examples
///
/// ```
/// use std::cell::RefCell;
/// use nursery::{Cancelled, open_nursery};
/// use nursery_testing::Sequencer;
///
/// # nursery_testing::run(async {
/// let (seq, said) = (Sequencer::new(), RefCell::new(vec![]));
/// open_nursery(async |n| -> Result<(), Cancelled> {
///     n.start_soon(async {
///         drop(seq.turn(0).await?);
///         let _turn = seq.turn(2).await?;
///         said.borrow_mut().push("second");
///         Ok(())
///     });
///     n.start_soon(async {
///         let _turn = seq.turn(1).await?;
///         said.borrow_mut().push("first");
///         Ok(())
///     });
///     Ok(())
/// })
/// .await?;
/// assert_eq!(said.take(), ["first", "second"]);
/// # Ok::<(), Cancelled>(())
/// # }).unwrap();
/// ```
#[derive(Default)]
pub struct Sequencer {
    /// Whose turn it is, or will be when it comes.
    next: Cell<u32>,
    /// The turns that were asked for.
    asked: RefCell<BTreeMap<u32, Asked>>,
    /// The turn that nobody will take any more.
    broken: Cell<Option<u32>>,
}

struct Asked {
    place: &'static Location<'static>,
    /// Where it is waited for.
    lot: Rc<ParkingLot>,
}

impl Sequencer {
    /// Makes a sequencer whose next turn is 0.
    #[must_use]
    pub fn new() -> Self {
        Sequencer::default()
    }

    /// Waits for turn `n`, which lasts until what this returns is dropped.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it breaks the sequence.
    ///
    /// # Errors
    ///
    /// [`Cancelled`].
    ///
    /// # Panics
    ///
    /// If turn `n` was asked for before; if the sequence is broken; outside a run.
    #[track_caller]
    pub fn turn(&self, n: u32) -> impl Future<Output = Result<Turn<'_>, Cancelled>> + use<'_> {
        let place = Location::caller();
        async move {
            let lot = self.ask(n, place);
            let waiting = Waiting { seq: self, n, has_come: false };
            self.check_whole(place);
            if self.next.get() == n {
                checkpoint().await?;
            } else if let Err(ParkError::Cancelled(cancelled)) =
                lot.park_as("its turn").at(place).await
            {
                return Err(cancelled);
            }
            self.check_whole(place);
            Ok(waiting.come())
        }
    }

    fn ask(&self, n: u32, place: &'static Location<'static>) -> Rc<ParkingLot> {
        let mut asked = self.asked.borrow_mut();
        if let Some(Asked { place: first, .. }) = asked.get(&n) {
            panic!("turn {n} is asked for at {place}, and was at {first}: each comes once");
        }
        let lot = Rc::<ParkingLot>::default();
        asked.insert(n, Asked { place, lot: lot.clone() });
        lot
    }

    fn check_whole(&self, place: &Location<'_>) {
        if let Some(missing) = self.broken.get() {
            panic!(
                "turn {missing} of a sequence will never come, which is noticed at {place}: what waited for it was \
                 cancelled or dropped"
            );
        }
    }

    fn wake(&self, n: u32) {
        let lot = self.asked.borrow().get(&n).map(|asked| asked.lot.clone());
        if let Some(lot) = lot {
            lot.unpark_all();
        }
    }

    fn break_at(&self, n: u32) {
        self.broken.set(self.broken.get().or(Some(n)));
        let all: Vec<_> = self.asked.borrow().keys().copied().collect();
        all.into_iter().for_each(|n| self.wake(n));
    }
}

/// Breaks the sequence if it is dropped before the turn has come.
struct Waiting<'a> {
    seq: &'a Sequencer,
    n: u32,
    has_come: bool,
}

impl<'a> Waiting<'a> {
    fn come(mut self) -> Turn<'a> {
        self.has_come = true;
        Turn { seq: self.seq, n: self.n }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.has_come {
            self.seq.break_at(self.n);
        }
    }
}

/// A turn, from [`Sequencer::turn`]. The next one comes when it is dropped.
#[must_use = "the turn is over when this is dropped"]
pub struct Turn<'a> {
    seq: &'a Sequencer,
    n: u32,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.seq.next.set(self.n + 1);
        self.seq.wake(self.n + 1);
    }
}

impl fmt::Debug for Turn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("n", &self.n).finish_non_exhaustive()
    }
}

impl fmt::Debug for Sequencer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sequencer")
            .field("next", &self.next.get())
            .field("broken", &self.broken.get())
            .finish_non_exhaustive()
    }
}
