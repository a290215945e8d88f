//! [`run()`] and [`Test`]: a virtual clock and a seed, in one call.

use std::future::Future;

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
#[derive(Clone, Debug)]
#[must_use = "a `Test` does nothing until `run`"]
pub struct Test {
    seed: u64,
    budget: u32,
    clock: Option<MockClock>,
}

impl Test {
    /// Makes a test with the defaults of [`run()`].
    ///
    /// # Panics
    ///
    /// If the environment variable `SEED` is set to something that is no number.
    pub fn new() -> Self {
        let seed = std::env::var("SEED").ok().map(|text| match text.parse() {
            Ok(seed) => seed,
            Err(_) => panic!("the environment variable SEED is to be a number, not {text:?}"),
        });
        Test { seed: seed.unwrap_or(0), budget: 1, clock: Some(MockClock::autojump()) }
    }

    /// Sets the seed from which the order of ready tasks is drawn.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the checkpoint budget. See [`Builder::checkpoint_budget`].
    pub fn checkpoint_budget(mut self, budget: u32) -> Self {
        self.budget = budget;
        self
    }

    /// Sets the clock, of which the caller keeps a clone to move it.
    pub fn clock(mut self, clock: &MockClock) -> Self {
        self.clock = Some(clock.clone());
        self
    }

    /// Runs on the system clock.
    pub fn real_clock(mut self) -> Self {
        self.clock = None;
        self
    }

    /// Makes the [`Builder`] of this test, for further settings.
    pub fn builder(self) -> Builder {
        let builder = Builder::new().seed(self.seed).checkpoint_budget(self.budget);
        match self.clock {
            Some(clock) => builder.clock(clock),
            None => builder,
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
    /// With the panic of `main` or of a child; with the tree of tasks, if all of them wait for ever.
    #[track_caller]
    pub fn run<T, E: TaskError>(self, main: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.builder().run(main)
    }
}

impl Default for Test {
    fn default() -> Self {
        Test::new()
    }
}
