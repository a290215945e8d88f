//! [`run()`] and [`Test`]: a virtual clock and a seed, in one call.

mod limit;

use std::fmt;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use nursery::lowlevel::{Instrument, in_run};
use nursery::{Builder, TaskError};

use crate::mock_clock::MockClock;

/// Runs `main` on a clock that jumps, in an order drawn from a seed, with a checkpoint budget of 1.
///
/// The seed is the environment variable `SEED`, or 0. For other settings, see [`Test`].
///
/// # Errors
///
/// That of `main`, unchanged.
///
/// # Panics
///
/// With the panic of `main` or of a child; with the tree of tasks, if all of them wait for ever.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use nursery::{Cancelled, move_on_after, sleep_forever};
///
/// nursery_testing::run(async {
///     assert!(move_on_after(Duration::from_secs(3600), sleep_forever()).await?.is_none());
///     Ok::<(), Cancelled>(())
/// })?;
/// # Ok::<(), Cancelled>(())
/// ```
#[track_caller]
pub fn run<T, E: TaskError>(main: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    Test::new().run(main)
}

/// A run for a test, with settings.
///
/// # Examples
///
/// ```
/// use nursery::{Cancelled, checkpoint};
/// use nursery_testing::Test;
///
/// for seed in 0..100 {
///     Test::new().seed(seed).run(async { checkpoint().await })?;
/// }
/// # Ok::<(), Cancelled>(())
/// ```
#[derive(Clone)]
#[must_use = "a `Test` does nothing until `run`"]
pub struct Test {
    seed: u64,
    budget: u32,
    clock: Time,
    limit: Option<Duration>,
    instruments: Vec<Rc<dyn Instrument>>,
}

#[derive(Clone, Debug)]
enum Time {
    /// A clock that jumps, made anew for each run.
    Jumping,
    Given(MockClock),
    System,
}

/// The number in the environment variable `SEED`.
pub(crate) fn seed_from_environment() -> Option<u64> {
    std::env::var("SEED").ok().map(|text| match text.parse() {
        Ok(seed) => seed,
        Err(_) => panic!("the environment variable SEED is to be a number, not {text:?}"),
    })
}

impl Test {
    /// Makes a test with the defaults of [`run()`].
    ///
    /// # Panics
    ///
    /// If the environment variable `SEED` is set to something that is no number.
    pub fn new() -> Self {
        Test {
            seed: seed_from_environment().unwrap_or(0),
            budget: 1,
            clock: Time::Jumping,
            limit: None,
            instruments: Vec::new(),
        }
    }

    /// Sets the seed from which the order of ready tasks is drawn.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    pub(crate) fn get_seed(&self) -> u64 {
        self.seed
    }

    /// Sets the checkpoint budget. See [`Builder::checkpoint_budget`].
    pub fn checkpoint_budget(mut self, budget: u32) -> Self {
        self.budget = budget;
        self
    }

    /// Sets the clock, of which the caller keeps a clone to move it.
    pub fn clock(mut self, clock: &MockClock) -> Self {
        self.clock = Time::Given(clock.clone());
        self
    }

    /// Runs on the system clock.
    pub fn real_clock(mut self) -> Self {
        self.clock = Time::System;
        self
    }

    /// Sets a limit in real time, whatever the clock says: a test that is not done by then fails, with the tree of its
    /// tasks, instead of hanging. Default: none.
    ///
    /// A task that computes for ever, and never comes to a checkpoint, cannot be stopped.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Installs an instrument from the start. See [`Instrument`].
    pub fn instrument(mut self, instrument: Rc<dyn Instrument>) -> Self {
        self.instruments.push(instrument);
        self
    }

    /// Makes the [`Builder`] of this test, for further settings. The time limit is not among them.
    pub fn builder(self) -> Builder {
        let mut builder = Builder::new().seed(self.seed).checkpoint_budget(self.budget);
        for instrument in self.instruments {
            builder = builder.instrument(instrument);
        }
        match self.clock {
            Time::Jumping => builder.clock(MockClock::autojump()),
            Time::Given(clock) => builder.clock(clock),
            Time::System => builder,
        }
    }

    /// Runs `main`.
    ///
    /// # Errors
    ///
    /// That of `main`, unchanged.
    ///
    /// # Panics
    ///
    /// With the panic of `main` or of a child; with the tree of tasks, if all of them wait for ever or the
    /// [time limit](Self::time_limit) has passed.
    #[track_caller]
    pub fn run<T, E: TaskError>(self, main: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        match self.limit {
            Some(limit) if !in_run() => limit::run_within(limit, self.builder(), main),
            _ => self.builder().run(main),
        }
    }
}

impl Default for Test {
    fn default() -> Self {
        Test::new()
    }
}

impl fmt::Debug for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Test")
            .field("seed", &self.seed)
            .field("checkpoint_budget", &self.budget)
            .field("clock", &self.clock)
            .field("time_limit", &self.limit)
            .finish_non_exhaustive()
    }
}
