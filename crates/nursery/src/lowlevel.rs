//! The sharp tools: everything that primitives, test benches and debuggers are made of.
//!
//! `nursery-io` and `nursery-testing` use nothing but this and the crate's root: what they can do, your crate can.
//!
//! | to | use |
//! |---|---|
//! | suspend and wake tasks, in order, with a hand-over | [`ParkingLot`] |
//! | suspend and wake one task | [`Spot`] |
//! | do the two halves of a checkpoint apart | [`checkpoint_if_cancelled`], [`cancel_shielded_checkpoint`] |
//! | pass a checkpoint without a future | [`try_checkpoint`] |
//! | learn of a cancellation without being interrupted | [`cancelled`] |
//! | get into the run from another thread | [`token`], [`Token`], [`WeakToken`] |
//! | run something beside the main task | [`spawn_system_task`] |
//! | watch a run | [`Instrument`], [`statistics`], [`points`] |
//! | say that something outside works for the run | [`busy`] |
//! | watch descriptors in the run's own thread | [`Parker`], [`set_parker`] |
//! | wait until nothing moves any more | [`wait_all_tasks_blocked`] |

use std::future::Future;
use std::panic::Location;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

pub use crate::busy::{Busy, busy};
pub use crate::checkpoint::{
    CancelShieldedCheckpoint, CheckpointIfCancelled, UntilCancelled, cancel_shielded_checkpoint,
    checkpoint_if_cancelled, until_cancelled as cancelled,
};
pub use crate::instrument::Instrument;
pub use crate::local::Previous;
pub use crate::park::spot::{ParkInSpot, Spot};
pub use crate::park::{Broken, Park, ParkError, ParkingLot};
pub use crate::run::host::Parker;
pub use crate::run::inbox::{OnceKey, RunFinished, Token, WeakToken};
pub use crate::stats::{RunId, RunStatistics, TaskId};

use crate::checkpoint::raise_if_cancelled;
use crate::error::Cancelled;
use crate::nursery::erase::{self, Birth};
use crate::run::{SystemEnd, context};
#[cfg(doc)]
use crate::scope::reason::CancelSource;
use crate::stats;
use crate::tree::Kind;
use crate::wait::{Label, Origin, Slot, WaitState, Waiter};

/// Returns the identity of the current run. `None` outside a run.
#[inline]
#[must_use]
pub fn current_run() -> Option<RunId> {
    context::current_generation().map(RunId)
}

/// Returns the identity of the current task.
///
/// # Panics
///
/// Outside a task.
#[must_use]
#[track_caller]
pub fn current_task() -> TaskId {
    let Some(task) = context::current_task_id() else {
        context::position("`current_task`"); // panics, with advice
        unreachable!("a task without a run")
    };
    task
}

/// Returns whether a run is polling on this thread.
#[must_use]
pub fn in_run() -> bool {
    context::try_current_run().is_some()
}

/// Returns whether a task is being polled on this thread.
///
/// False in entry-queue calls, and in hooks that are called between steps.
#[must_use]
pub fn in_task() -> bool {
    in_run() && context::is_in_task()
}

/// Returns whether the current scope is effectively cancelled: whether the next checkpoint would raise.
///
/// # Panics
///
/// Outside a task.
#[must_use]
#[track_caller]
pub fn is_cancelled() -> bool {
    context::position("`lowlevel::is_cancelled`");
    context::is_cancelled_now()
}

/// Passes a whole checkpoint if that can be done at once. Returns false if the scope is cancelled, or others are to run
/// first: then nothing was passed but a cancel point, and a checkpoint is due.
///
/// For the short way through an operation that need not wait: no future has to be made for it. False outside a task.
///
/// # Examples
///
/// ```
/// use nursery::lowlevel::try_checkpoint;
///
/// # nursery::run(async {
/// if !try_checkpoint() {
///     nursery::checkpoint().await?;
/// }
/// # Ok::<(), nursery::Cancelled>(())
/// # }).unwrap();
/// ```
#[inline]
#[must_use = "if it is false, a checkpoint is due"]
pub fn try_checkpoint() -> bool {
    !context::is_cancelled() && context::spend_budget()
}

/// Returns the token of the current run.
///
/// # Panics
///
/// Outside a run.
#[must_use]
#[track_caller]
pub fn token() -> Token {
    context::current_run("`lowlevel::token`").token.clone()
}

/// Returns numbers of the current run.
///
/// # Panics
///
/// Outside a run.
#[must_use]
#[track_caller]
pub fn statistics() -> RunStatistics {
    stats::statistics(&context::current_run("`lowlevel::statistics`"))
}

/// Returns how many cancel points and schedule points the current task has passed.
///
/// The difference of two readings tells whether what lies between them was a checkpoint. The counts wrap around.
///
/// # Panics
///
/// Outside a task.
#[must_use]
#[track_caller]
pub fn points() -> Points {
    context::position("`lowlevel::points`");
    let points = context::points();
    Points { cancel: points.cancel, schedule: points.schedule }
}

/// How many cancel points and schedule points a task has passed, from [`points`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Points {
    /// Where it looked whether it is cancelled.
    pub cancel: u32,
    /// Where it let others run.
    pub schedule: u32,
}

/// Installs an instrument in the current run. One that is installed already is not installed again.
///
/// # Panics
///
/// Outside a run.
#[track_caller]
pub fn add_instrument(instrument: Rc<dyn Instrument>) {
    let run = context::current_run("`lowlevel::add_instrument`");
    run.settle(); // it is told of every task by name
    run.instruments.add(instrument);
    context::watch();
}

/// Removes an instrument from the current run. Returns false if it was not installed.
///
/// # Panics
///
/// Outside a run.
#[track_caller]
pub fn remove_instrument(instrument: &Rc<dyn Instrument>) -> bool {
    context::current_run("`lowlevel::remove_instrument`").instruments.remove(instrument)
}

/// Makes the thread of the current run wait in `parker` from now on, while nothing is ready.
///
/// Returns false, and does nothing, if the run is a [`Guest`](crate::Guest), which waits where its host does, or has a
/// parker already.
///
/// Until then the thread waits in async-io's reactor, which falls asleep in half a dozen system calls, and shares what it
/// watches with a thread of its own. With a parker that thread serves all that async-io watches.
///
/// # Panics
///
/// Outside a run.
#[track_caller]
pub fn set_parker(parker: Rc<dyn Parker>) -> bool {
    context::current_run("`lowlevel::set_parker`").host.set_parker(parker)
}

/// Starts a task that belongs to the run itself, not to a nursery.
///
/// It is under no scope but the run's own: when the main task has ended, it is cancelled (with reason
/// [`CancelSource::Shutdown`]), and waited for. It does not keep the run alive, and inherits no task-local values. If it
/// panics, the whole run is cancelled and ends with that panic.
///
/// # Cancellation
///
/// Not a checkpoint.
///
/// # Errors
///
/// [`RunFinished`], which gives the future back, when the run is stopping.
///
/// # Panics
///
/// Outside a run.
#[track_caller]
pub fn spawn_system_task<F>(name: &str, task: F) -> Result<TaskId, RunFinished<F>>
where
    F: Future<Output = Result<(), Cancelled>> + 'static,
{
    let run = context::current_run("`lowlevel::spawn_system_task`");
    if run.is_closed() || run.state.borrow().effective(run.system) {
        return Err(RunFinished(task));
    }
    let birth = Birth::named(name, run.system, Location::caller());
    run.live.set(run.live.get() + 1);
    let handle = erase::spawn_static(&run, task, SystemEnd(run.clone()), birth);
    Ok(run.task_id(handle.task().node(&run)))
}

/// Waits until every other task waits, and has done so for `cushion` of real time.
///
/// For tests: "until the others have got as far as they can". Several tasks may be in it at once: they count as
/// waiting, and those with the smallest cushion go first, all together. Sleeps count as waiting; a virtual clock
/// does not jump meanwhile.
///
/// # Cancellation
///
/// A checkpoint, always. Cancelled or dropped, it did nothing.
///
/// # Errors
///
/// [`Cancelled`].
///
/// # Panics
///
/// Outside a run.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use nursery::{lowlevel, open_nursery, sleep_forever};
///
/// # nursery::run(async {
/// open_nursery(async |n| {
///     n.start_soon(async { sleep_forever().await });
///     lowlevel::wait_all_tasks_blocked(Duration::ZERO).await?;
///     assert_eq!(lowlevel::statistics().waits, 1); // it sleeps
///     n.cancel_scope().cancel();
///     Ok::<(), nursery::Cancelled>(())
/// })
/// .await
/// # }).unwrap();
/// ```
#[track_caller]
pub fn wait_all_tasks_blocked(
    cushion: Duration,
) -> impl Future<Output = Result<(), Cancelled>> + use<> {
    let label = Label { what: "all other tasks to wait", place: Location::caller() };
    let mut check = raise_if_cancelled();
    let mut slot = Slot::default();
    std::future::poll_fn(move |cx| {
        if !slot.is_registered() {
            context::current_run_at(label.what, label.place); // panics, with advice, outside a run
            std::task::ready!(check.poll_check(cx))?;
            slot.register(cx, &label, Origin::Inside);
        } else if let Poll::Ready(state) = slot.poll(cx) {
            let result = match state {
                WaitState::Cancelled => Err(slot.cancelled()),
                _ => Ok(()),
            };
            slot.withdraw();
            change_blocked(None);
            return Poll::Ready(result);
        }
        // Also when it is polled once more: the wait may have gone elsewhere.
        change_blocked(slot.waiter().map(|waiter| (cushion, waiter.clone())));
        Poll::Pending
    })
}

/// Adds a task that waits for all others, if it is not known; takes those out that wait no longer.
fn change_blocked(added: Option<(Duration, Waiter)>) {
    if let Some(run) = context::try_current_run() {
        let state = run.state.borrow();
        let mut blocked = run.blocked.borrow_mut();
        blocked.retain(|(_, wait)| state.has_wait(wait));
        let is_known = |waiter: &Waiter| blocked.iter().any(|(_, known)| known.is(waiter));
        let added = added.filter(|(_, waiter)| !is_known(waiter));
        blocked.extend(added);
    }
}

/// Returns the tasks of the current run, in no particular order.
///
/// # Panics
///
/// Outside a run.
#[must_use]
#[track_caller]
pub fn tasks() -> Vec<TaskId> {
    let run = context::current_run("`lowlevel::tasks`");
    run.settle();
    let state = run.state.borrow();
    let tasks = state.nodes.iter().filter(|(_, node)| matches!(node.kind, Kind::Task(_)));
    tasks.map(|(id, _)| run.task_id(id)).collect()
}
