//! [`orders`]: a body in many orders of tasks; the one that fails is printed with the command that repeats it.

use std::any::Any;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use nursery::TaskError;

use crate::run::{Test, seed_from_environment};

/// Runs `body` under the seeds 0 to `seeds - 1`, each time from the start. An `Err` is a failure, and so is a panic.
///
/// Bugs of concurrency show in some orders only. Under a seed the order of ready tasks is shuffled, but always in the same
/// way: a failure says which seed it was, and `SEED=17 cargo test name` runs this one alone, as often as needed.
///
/// # Panics
///
/// If `body` fails, with the seed and the command.
///
/// # Examples
///
/// ```
/// use std::cell::Cell;
/// use nursery::{Cancelled, checkpoint, open_nursery};
///
/// nursery_testing::orders(20, async || {
///     let sum = Cell::new(0);
///     open_nursery(async |n| -> Result<(), Cancelled> {
///         for i in 1..=3 {
///             let sum = &sum;
///             n.start_soon(async move {
///                 checkpoint().await?;
///                 sum.set(sum.get() + i); // no checkpoint between reading and writing
///                 Ok(())
///             });
///         }
///         Ok(())
///     })
///     .await?;
///     assert_eq!(sum.get(), 6);
///     Ok::<(), Cancelled>(())
/// });
/// ```
#[track_caller]
pub fn orders<E: TaskError + Debug>(seeds: u64, body: impl AsyncFn() -> Result<(), E>) {
    Test::new().orders(seeds, body);
}

impl Test {
    /// As [`orders`], with the other settings of this test. A clock that was set goes on from order to order.
    ///
    /// # Panics
    ///
    /// If `body` fails, with the seed and the command that repeats it.
    #[track_caller]
    pub fn orders<E: TaskError + Debug>(self, seeds: u64, body: impl AsyncFn() -> Result<(), E>) {
        for seed in all_seeds(seeds) {
            let test = self.clone().seed(seed);
            let result = catch_unwind(AssertUnwindSafe(|| test.run(body())));
            let failure = match result {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => format!("it returned an error: {error:?}"),
                Err(panic) => format!("it panicked: {}", text_of(&*panic)),
            };
            panic!("under seed {seed}, {failure}\nto repeat it: {}", repeat(seed));
        }
    }
}

/// Those from 0, or the one of the environment.
pub(crate) fn all_seeds(count: u64) -> Vec<u64> {
    seed_from_environment().map_or_else(|| (0..count).collect(), |seed| vec![seed])
}

/// The command that repeats the test that runs on this thread, under `seed`.
pub(crate) fn repeat(seed: u64) -> String {
    let thread = thread::current();
    // With one thread for all tests, it is not named after the test.
    let name = thread.name().filter(|name| *name != "main").unwrap_or_default();
    format!("SEED={seed} cargo test {name}").trim_end().to_owned()
}

/// What a panic said.
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> String {
    let literal = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = literal.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "something that is no text".to_owned())
}
