//! Tools that test programs built on [`nursery`] without sleeping and without luck.
//!
//! | doubt | tool |
//! |---|---|
//! | does it work, and without waiting for real time? | [`run()`], [`macro@test`] |
//! | in another order of tasks? | [`orders()`]; `SEED=7 cargo test name` repeats one |
//! | in *this* order? | [`Sequencer`] |
//! | does it survive being cancelled, or dropped, at any point? | [`cancel_everywhere`](cancel_everywhere()), [`victim()`] |
//! | can it be cancelled at all, and lets others run? | [`assert_checkpoints`], [`assert_no_checkpoints`] |
//! | does it survive wakers that use the run? | [`hostile`] |
//! | at other times? | [`MockClock`] |
//! | does it get stuck? | [`run()`]: it fails at once, with the tree of what waits for what, and any circle |
//! | what happened, and in which order? | [`Trace`]: text, a picture, a file for a trace viewer; [`assert_expected`] |
//! | are these the errors that came out? | [`groups`] |
//! | have the others got as far as they can? | [`wait_all_tasks_blocked`] |
#![forbid(unsafe_code)]
#![doc(test(attr(deny(warnings))))]

mod cancel_everywhere;
mod checkpoints;
mod expected;
pub mod groups;
mod hostile_waker;
mod mock_clock;
mod orders;
mod run;
mod sequencer;
mod trace;

pub use crate::cancel_everywhere::{
    CancelEverywhere, Explored, Outcome, cancel_everywhere, victim,
};
pub use crate::checkpoints::{assert_checkpoints, assert_no_checkpoints};
pub use crate::expected::assert_expected;
pub use crate::hostile_waker::{Hostile, Strike, hostile, hostile_with};
pub use crate::mock_clock::MockClock;
pub use crate::orders::orders;
pub use crate::run::{Test, run};
pub use crate::sequencer::{Sequencer, Turn};
pub use crate::trace::Trace;
pub use nursery::lowlevel::wait_all_tasks_blocked;
pub use nursery_macros::test;

/// What the expansion of [`macro@test`] needs; no part of the public API.
#[doc(hidden)]
pub mod __private {
    pub use nursery::Cancelled;
}
