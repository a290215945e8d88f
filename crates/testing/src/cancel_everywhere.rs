//! [`cancel_everywhere`]: a body cancelled, and dropped, at each of its points, one after the other.
//!
//! ```text
//!  body ──┬──────┬──────┬──────┬──▶ Ok          once undisturbed: its points are counted
//!         ×      │      │      │                then cancelled at the first, the second, … the last,
//!                ×      │      │                and dropped at each;
//!                       ×      │                after each run: is anything left? does the check hold?
//!                              ×
//! ```
//!
//! One [`Plan`] watches and strikes in one run ([`plan`]); [`mod@attempt`] makes such a run and sees what it has
//! left; [`report`] judges it, in words.

mod attempt;
mod place;
mod plan;
mod report;
mod victim;

use std::fmt::Debug;

use nursery::TaskError;

use crate::cancel_everywhere::attempt::Attempt;
use crate::cancel_everywhere::plan::{Blow, How, Plan};
use crate::orders::all_seeds;
use crate::run::Test;

pub use crate::cancel_everywhere::victim::victim;

/// Runs `body` again and again, each time cancelled or dropped at another point, and fails if that does harm.
///
/// Code that is correct when nobody cancels it may lose an item, leak a permit or hang when somebody does, at just one of
/// its `await`s. Such bugs are found by users, under load, years later. There are only as many places where a
/// cancellation can hit as there are steps, so this tries them all: *before* an operation, *while* it waits, and *after* its
/// result is there but before the task has run; the whole under the virtual clock, so that it takes milliseconds.
///
/// `body` is called anew for each run, and must do the same each time. After each run
///
/// - every task below it has ended, and no wait, scope, deadline or thread is left,
/// - a body that was cancelled has ended as cancelled, or has finished; it has not failed with another error, has not
///   *swallowed* a `Cancelled` and returned `Ok`, has not panicked, does not hang and does not go on for ever,
/// - the user's own check holds, if there is one: see [`CancelEverywhere::run_with`].
///
/// If one of this does not hold it panics, and says what, in which run, and at which place in the source the task was.
/// To cancel a part of the body while the rest goes on, mark it as the [`victim()`]. For other settings, see
/// [`CancelEverywhere`].
///
/// # Panics
///
/// If `body` does not survive, or fails without being disturbed; inside a run.
///
/// # Examples
///
/// A worker that takes jobs from one queue and puts the results into another. Between the two, the job is in its hands:
///
/// ```should_panic
/// use std::cell::RefCell;
/// use nursery::{Cancelled, checkpoint};
/// use nursery_testing::CancelEverywhere;
///
/// #[derive(Default)]
/// struct Queues { jobs: RefCell<Vec<u32>>, results: RefCell<Vec<u32>> }
///
/// async fn work(queues: &Queues) -> Result<(), Cancelled> {
///     loop {
///         checkpoint().await?; // lets the others at the queues
///         let Some(job) = queues.jobs.borrow_mut().pop() else { return Ok(()) };
///         checkpoint().await?; // stands for the work. Cancelled here, the job is in neither queue
///         queues.results.borrow_mut().push(job * job);
///     }
/// }
///
/// let make = || Queues { jobs: RefCell::new(vec![1, 2, 3]), ..Queues::default() };
/// CancelEverywhere::new().run_with(make, work, async |queues, _| {
///     assert_eq!(queues.jobs.borrow().len() + queues.results.borrow().len(), 3, "a job is lost");
///     Ok(())
/// });
/// ```
///
/// ```text
/// cancel_everywhere: the check does not hold: it panicked: assertion `left == right` failed: a job is lost
///   left: 2
///  right: 3
///
/// the run      it was cancelled at point 3 of 15, under seed 0
/// the point    when the task "main" had come to a yield at src/work.rs:12
/// the raise    src/work.rs:12
/// the outcome  cancelled
/// to repeat    SEED=0 cargo test jobs_are_not_lost
/// ```
///
/// The cure is to take the job when nothing can come between any more:
///
/// ```
/// # use std::cell::RefCell;
/// # use nursery::{Cancelled, checkpoint};
/// # use nursery_testing::CancelEverywhere;
/// # #[derive(Default)]
/// # struct Queues { jobs: RefCell<Vec<u32>>, results: RefCell<Vec<u32>> }
/// async fn work(queues: &Queues) -> Result<(), Cancelled> {
///     loop {
///         checkpoint().await?;
///         let Some(job) = queues.jobs.borrow().last().copied() else { return Ok(()) };
///         checkpoint().await?; // cancelled here, the job has not been touched
///         queues.jobs.borrow_mut().pop();
///         queues.results.borrow_mut().push(job * job);
///     }
/// }
/// # let make = || Queues { jobs: RefCell::new(vec![1, 2, 3]), ..Queues::default() };
/// # let explored = CancelEverywhere::new().run_with(make, work, async |queues, _| {
/// #     assert_eq!(queues.jobs.borrow().len() + queues.results.borrow().len(), 3, "a job is lost");
/// #     Ok(())
/// # });
/// # assert_eq!(explored.points, 15);
/// ```
#[track_caller]
pub fn cancel_everywhere<E: TaskError + Debug>(body: impl AsyncFn() -> Result<(), E>) -> Explored {
    CancelEverywhere::new().run(body)
}

/// How [`cancel_everywhere`](cancel_everywhere()) is to be done.
///
/// # Examples
///
/// ```
/// use nursery::{Cancelled, checkpoint};
/// use nursery_testing::CancelEverywhere;
///
/// let explored = CancelEverywhere::new().seeds(3).only_cancel().run(async || {
///     checkpoint().await?;
///     checkpoint().await?;
///     Ok::<(), Cancelled>(())
/// });
/// assert_eq!(explored.points, 3 * 5); // before it began, and on both sides of each yield
/// assert_eq!(explored.runs, 3 * (5 + 1));
/// ```
#[derive(Clone, Debug)]
#[must_use = "a `CancelEverywhere` does nothing until `run`"]
pub struct CancelEverywhere {
    test: Test,
    seeds: Option<u64>,
    how: Vec<How>,
    pairs: bool,
    limit: Option<u32>,
    allowed: Allowed,
}

/// What a body that is disturbed may do.
#[derive(Clone, Copy, Debug, Default)]
struct Allowed {
    swallow: bool,
    fail: bool,
}

impl CancelEverywhere {
    /// Cancels and drops, at every point, under one seed: that of the environment variable `SEED`, or 0.
    pub fn new() -> Self {
        CancelEverywhere {
            test: Test::new(),
            seeds: None,
            how: vec![How::Cancelled, How::Dropped],
            pairs: false,
            limit: None,
            allowed: Allowed::default(),
        }
    }

    /// Does the whole under each of the seeds 0 to `count - 1`.
    pub fn seeds(mut self, count: u64) -> Self {
        self.seeds = Some(count);
        self
    }

    /// Cancels, and does not drop.
    pub fn only_cancel(mut self) -> Self {
        self.how = vec![How::Cancelled];
        self
    }

    /// Drops, and does not cancel.
    pub fn only_drop(mut self) -> Self {
        self.how = vec![How::Dropped];
        self
    }

    /// Also drops what has been cancelled, at each point of its clean-up: what a `select!` does that loses patience.
    /// The number of runs grows with the square of the points.
    pub fn pairs(mut self) -> Self {
        self.pairs = true;
        self
    }

    /// Tries at most so many points of each victim, evenly spread.
    pub fn limit(mut self, points: u32) -> Self {
        self.limit = Some(points);
        self
    }

    /// Sets the checkpoint budget. With more than the default of 1 there are fewer points.
    pub fn checkpoint_budget(mut self, budget: u32) -> Self {
        self.test = self.test.checkpoint_budget(budget);
        self
    }

    /// Sets a limit in real time for each run. See [`Test::time_limit`].
    pub fn time_limit(mut self, limit: std::time::Duration) -> Self {
        self.test = self.test.time_limit(limit);
        self
    }

    /// Allows a body that was cancelled to return `Ok` although a checkpoint raised in it: it handles cancellation itself,
    /// say by returning what it has so far.
    pub fn may_swallow(mut self) -> Self {
        self.allowed.swallow = true;
        self
    }

    /// Allows a body that was disturbed to fail with an error; the check sees it, as [`Outcome::Failed`].
    pub fn may_fail(mut self) -> Self {
        self.allowed.fail = true;
        self
    }

    /// Runs `body` as often as needed.
    ///
    /// # Panics
    ///
    /// If `body` does not survive, or fails without being disturbed; inside a run.
    #[track_caller]
    pub fn run<E: TaskError + Debug>(self, body: impl AsyncFn() -> Result<(), E>) -> Explored {
        self.run_with(|| (), async |()| body().await, async |(), _| Ok(()))
    }

    /// Runs `body` as often as needed, each time with a new state from `make`, and after each run `check`, undisturbed.
    ///
    /// `check` panics or errs if the run did harm: an item is lost, a permit is leaked. It may wait, for the lock or the item
    /// that must be there: if it is not, that is a deadlock, and reported.
    ///
    /// # Panics
    ///
    /// If `body` does not survive, or fails without being disturbed; inside a run.
    #[track_caller]
    pub fn run_with<S, E: TaskError + Debug>(
        self,
        make: impl Fn() -> S,
        body: impl AsyncFn(&S) -> Result<(), E>,
        check: impl AsyncFn(&S, &Outcome<E>) -> Result<(), E>,
    ) -> Explored {
        let attempt = |test: &Test, blow, patience| {
            attempt::attempt(test, Plan::new(blow, patience), &make, &body, &check)
        };
        let mut explored = Explored { seeds: 0, points: 0, runs: 0 };
        for seed in self.seeds.map_or_else(|| vec![self.test.get_seed()], all_seeds) {
            explored.seeds += 1;
            let under_seed = self.test.clone().seed(seed);
            self.explore(
                seed,
                &|blow, patience| attempt(&under_seed, blow, patience),
                &mut explored,
            );
        }
        explored
    }

    /// All points, in order: the first failure that is found is the one that is found when it is repeated.
    #[track_caller]
    fn explore<E: Debug>(
        &self,
        seed: u64,
        attempt: &dyn Fn(Option<Blow>, u32) -> Attempt<E>,
        explored: &mut Explored,
    ) {
        let undisturbed = attempt(None, 0);
        report::check(&undisturbed, None, seed, self.allowed);
        explored.runs += 1;
        let patience = undisturbed.plan.patience();
        let mut strike = |blow: Blow, of: u32| {
            let struck = attempt(Some(blow), patience);
            report::check(&struck, Some((blow, of)), seed, self.allowed);
            explored.runs += 1;
            struck.plan.points().get(blow.victim).copied().unwrap_or_default()
        };
        let all = undisturbed.plan.points();
        // The whole body, if it has marked no victims.
        let marked = usize::from(all.len() > 1);
        for (victim, &points) in all.iter().enumerate().skip(marked) {
            for point in self.choose(points) {
                explored.points += 1;
                for &how in &self.how {
                    let blow = Blow { victim, point, how, then_dropped: None };
                    let lived = strike(blow, points);
                    if self.pairs && how == How::Cancelled {
                        for then in point + 1..lived {
                            strike(Blow { then_dropped: Some(then), ..blow }, points);
                        }
                    }
                }
            }
        }
    }

    /// Which of so many points are tried.
    fn choose(&self, points: u32) -> Vec<u32> {
        match self.limit {
            Some(limit) if limit < points => {
                let last = u64::from(points - 1);
                let gaps = u64::from(limit.saturating_sub(1).max(1));
                let at = |i: u32| u32::try_from(u64::from(i) * last / gaps).unwrap_or(points - 1);
                (0..limit).map(at).collect()
            }
            _ => (0..points).collect(),
        }
    }
}

impl Default for CancelEverywhere {
    fn default() -> Self {
        CancelEverywhere::new()
    }
}

/// How a body has ended, for the check.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome<E> {
    /// It returned `Ok`: it was not disturbed, or finished nevertheless.
    Done,
    /// It ended with the cancellation that was done to it.
    Cancelled,
    /// It was dropped.
    Dropped,
    /// It failed.
    Failed(E),
}

/// How much was tried, from [`cancel_everywhere`](cancel_everywhere()).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explored {
    /// The seeds under which it was done.
    pub seeds: usize,
    /// The points at which the body was struck, of all seeds and victims.
    pub points: usize,
    /// How often the body ran, the undisturbed runs included.
    pub runs: usize,
}
