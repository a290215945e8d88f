//! Threads: out of the run with what blocks or computes ([`to_thread`]), and back into it ([`from_thread`]).
//!
//! ```text
//!   task                                 thread
//!   to_thread::run_sync(f).await  ──────▶ f()
//!     waits, and does what f asks ◀────── from_thread::run(async || …)       blocks until it is done
//!     is cancelled; goes on waiting ····▶ from_thread::check_cancelled()?    fails
//!     has the result              ◀────── returns, panics
//! ```
//!
//! # Things that come from other threads, or go to them
//!
//! Everything else in this crate belongs to one run, and is not `Send`. Between threads, use what was made for that, on
//! this side through [`cancellable`](nursery::cancellable), which makes a checkpoint of it:
//!
//! | to | use |
//! |---|---|
//! | call something that blocks, or computes for long | [`to_thread::run_sync`] |
//! | do something in the run, and wait for it in a thread | [`from_thread`] |
//! | do something in the run, and not wait | [`Token::run_soon`](nursery::lowlevel::Token::run_soon) |
//! | cancel something from a thread | [`CancelScope::remote`](nursery::CancelScope::remote) |
//! | receive values from threads, or send them some | `async-channel`: `cancellable(rx.recv())`, `rx.recv_blocking()` |
//! | learn that something has happened | `event-listener`: `cancellable(event.listen())`, and `listen().wait()` |
//! | share data | [`Arc`](std::sync::Arc) and [`Mutex`](std::sync::Mutex), never locked across an `await` |
//! | one value, once | a oneshot channel of any library: `cancellable(rx)` |
//!
//! Do not give a thread's `f` an event or a lock of another library to wait for *this* run with: it would hold its
//! place in the limiter, and nothing would tell it that the run has ended. Let it call [`from_thread`].
//!
//! # Context
//!
//! A thread is no task: it has no task-locals and no scopes. Give `f` what it needs, by `move`. What it does through
//! [`from_thread::run`] is done by the task that waits for it, which has its context as always; what that sets in a
//! task-local stays set when the thread has ended.
//!
//! # Time
//!
//! Under a virtual clock, time stands still while a thread works: a jump never happens behind its back, not even if its
//! task has left it alone. A thread that waits for the run in [`from_thread`] does not work, and time passes. So a thread
//! that waits *by other means* for something that happens later on the clock waits for ever.

mod cache;
pub mod from_thread;
mod job;
mod limiter;
pub mod to_thread;

use std::future::Future;
use std::panic::Location;

use nursery::{Cancelled, checkpoint};

pub use crate::thread::limiter::{Limiter, default_limiter};

use crate::sync::only_cancelled;
use crate::thread::job::Jobs;

/// Returns how many threads work for this run, the abandoned ones included.
///
/// # Panics
///
/// Outside a run.
///
/// # Examples
///
/// ```
/// use nursery_io::thread::{active_thread_count, from_thread, to_thread};
///
/// # nursery_testing::run(async {
/// let inside = to_thread::run_sync(|| from_thread::run_sync(active_thread_count)).await??;
/// assert_eq!((inside, active_thread_count()), (1, 0));
/// # anyhow::Ok(())
/// # }).unwrap();
/// ```
#[must_use]
#[track_caller]
pub fn active_thread_count() -> usize {
    Jobs::current().len()
}

/// Waits until no thread works for this run, not even one that was abandoned.
///
/// For tests, and for the end of a program that would not leave something half done.
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
#[track_caller]
pub fn wait_all_threads_completed() -> impl Future<Output = Result<(), Cancelled>> + use<> {
    let place = Location::caller();
    async move {
        checkpoint().await?;
        let jobs = Jobs::current();
        while jobs.len() > 0 {
            only_cancelled(jobs.all_done.park_as("all threads to end").at(place).await)?;
        }
        Ok(())
    }
}
