//! Tools that test programs built on [`nursery`] without sleeping and without luck.
//!
//! | doubt | tool |
//! |---|---|
//! | does it work, and without waiting for real time? | [`run()`], [`macro@test`] |
//! | in another order of tasks? | [`Test::seed`]; `SEED=7 cargo test name` repeats one |
//! | at other times? | [`MockClock`] |
//! | does it get stuck? | [`run()`]: it fails at once, with the tree of what waits for what |
//! | have the others got as far as they can? | [`wait_all_tasks_blocked`] |
#![forbid(unsafe_code)]
#![doc(test(attr(deny(warnings))))]

mod mock_clock;
mod run;

pub use crate::mock_clock::MockClock;
pub use crate::run::{Test, run};
pub use nursery::lowlevel::wait_all_tasks_blocked;
pub use nursery_macros::test;

/// What the expansion of [`macro@test`] needs; no part of the public API.
#[doc(hidden)]
pub mod __private {
    pub use nursery::Cancelled;
}
