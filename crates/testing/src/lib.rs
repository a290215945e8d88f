//! Tools that test programs built on [`nursery`] without sleeping and without luck.
//!
//! - **Virtual time**: when all tasks wait, the clock jumps to the next deadline. An hour takes no time.
//! - **One seed** decides the order of tasks: what failed once fails again, and a hundred orders are a loop.
//! - **Every point** at which a body can be cancelled, or dropped, is tried, and what is left behind is reported.
//! - **Stuck** tests fail at once, with the tree of what waits for what.
//! - **Traces** of a run as text, as a picture, or for a trace viewer, compared with a file.
//!
//! What sets it apart: nothing of it is inside the core. Clocks, instruments and seeds are public, so your tools can do
//! what these do.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use nursery::{Cancelled, now, open_nursery, sleep};
//! use nursery_testing::{cancel_everywhere, orders, run};
//!
//! const HOUR: Duration = Duration::from_secs(3600);
//!
//! async fn two_naps() -> Result<(), Cancelled> {
//!     let start = now();
//!     open_nursery(async |n| {
//!         n.start_soon(sleep(HOUR));
//!         n.start_soon(sleep(2 * HOUR));
//!         Ok(())
//!     })
//!     .await?;
//!     assert_eq!(now() - start, 2 * HOUR);
//!     Ok(())
//! }
//!
//! run(two_naps())?; // takes no time
//! orders(10, two_naps); // whoever runs first
//! cancel_everywhere(two_naps); // cancelled, and dropped, before and after each wait
//! # Ok::<(), Cancelled>(())
//! ```
//!
//! # Where to find what
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
//! | what does it send, and what if its peer is slow, or gone? | [`memory_stream_pair`], [`lockstep_stream_pair`] |
//! | does a stream of my own keep the contract? | [`check_half_closeable_stream`], [`check_two_way_stream`], [`check_one_way_stream`] |
//! | have the others got as far as they can? | [`wait_all_tasks_blocked`] |
//!
//! Tasks, time limits and cancellation are in [`nursery`]; sockets, channels and locks in `nursery-io`. The folder `book` of the
//! repository has a tutorial with a chapter on testing: `just book` builds it.
#![forbid(unsafe_code)]
#![doc(test(attr(deny(warnings))))]

mod cancel_everywhere;
mod check_stream;
mod checkpoints;
mod expected;
pub mod groups;
mod hostile_waker;
mod memory_stream;
mod mock_clock;
mod open_stream;
mod orders;
mod run;
mod sequencer;
mod trace;

pub use crate::cancel_everywhere::{
    CancelEverywhere, Explored, Outcome, cancel_everywhere, victim,
};
pub use crate::check_stream::{
    CheckStream, check_half_closeable_stream, check_one_way_stream, check_two_way_stream,
};
pub use crate::checkpoints::{assert_checkpoints, assert_no_checkpoints};
pub use crate::expected::assert_expected;
pub use crate::hostile_waker::{Hostile, Strike, hostile, hostile_with};
pub use crate::memory_stream::{
    AsyncHook, BoundedReceiveStream, BoundedSendStream, BoundedStream, Hook, MemoryReceiveStream,
    MemorySendStream, MemoryStream, bounded_stream_one_way_pair, bounded_stream_pair,
    lockstep_stream_one_way_pair, lockstep_stream_pair, memory_stream_one_way_pair,
    memory_stream_pair, memory_stream_pump,
};
pub use crate::mock_clock::MockClock;
pub use crate::open_stream::open_stream_to_listener;
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
