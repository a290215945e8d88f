//! Structured concurrency for Rust, in the design of Python's trio.
//!
//! - **Nurseries** own their tasks: when [`open_nursery`] returns, every child has ended. Children borrow from
//!   their parent, and need not be `Send`.
//! - **Cancel scopes** carry deadlines and shields. Cancellation is *level-triggered*, arrives as
//!   `Err(`[`Cancelled`]`)` at checkpoints, and is absorbed by the scope that was cancelled.
//! - **Clean-up is ordinary async code**: a cancelled task is told, and waited for; it is not dropped where it
//!   stands.
//! - **No error is lost**: all failures leave a nursery, in an [`ErrorGroup`].
//! - **Tests run on a virtual clock**, in an order drawn from a seed (`nursery-testing`).
//!
//! What sets it apart: nothing outlives its nursery, whether it returns, fails, panics, is cancelled, dropped or
//! forgotten; and the whole runs by itself or as a [`Guest`] inside tokio or any other executor.
//!
//! # Example
//!
//! ```
//! use std::cell::RefCell;
//! use std::time::Duration;
//! use nursery::{ErrorGroup, move_on_after, open_nursery, sleep};
//!
//! async fn fetch(url: &str) -> anyhow::Result<usize> {
//!     sleep(Duration::from_millis(2)).await?; // a checkpoint: `?` carries `Cancelled` out
//!     anyhow::ensure!(url != "bad", "no such host: {url}");
//!     Ok(url.len())
//! }
//!
//! fn main() -> anyhow::Result<()> {
//!     nursery::run(async {
//!         let urls = ["one", "three"];
//!         let sizes = RefCell::new(vec![]); // one thread: no Arc, no Mutex, no Send
//!         open_nursery(async |n| -> anyhow::Result<()> {
//!             for url in &urls {
//!                 let sizes = &sizes;
//!                 n.start_soon(async move {
//!                     let size = fetch(url).await?;
//!                     sizes.borrow_mut().push(size);
//!                     Ok(())
//!                 });
//!             }
//!             Ok(())
//!         })
//!         .await?; // both have ended
//!         assert_eq!(sizes.take().len(), 2);
//!
//!         // A time limit: `None` if the time was up.
//!         let slow = move_on_after(Duration::from_millis(1), sleep(Duration::from_secs(60)));
//!         assert!(slow.await?.is_none());
//!
//!         // A child that fails: its siblings are cancelled, and waited for.
//!         let failed = open_nursery(async |n| -> anyhow::Result<()> {
//!             n.start_soon(fetch("bad"));
//!             n.start_soon(async { anyhow::Ok(sleep(Duration::from_secs(60)).await?) });
//!             Ok(())
//!         })
//!         .await
//!         .unwrap_err();
//!         let group: ErrorGroup<anyhow::Error> = failed.downcast()?;
//!         assert_eq!(group.into_single().unwrap().to_string(), "no such host: bad");
//!         Ok(())
//!     })
//! }
//! ```
//!
//! # Where to find what
//!
//! | for | look at |
//! |---|---|
//! | starting a run | [`run()`], [`Builder`], [`Guest`], [`main`](macro@main) |
//! | tasks | [`open_nursery`], [`Nursery`], [`Child`], [`NurseryHandle`], [`TaskStatus`] |
//! | several at once | [`gather()`], [`map_concurrent`], [`race`], [`as_completed`], [`map_unordered`] |
//! | time limits and cancellation | [`move_on_after`], [`fail_after`], [`shield()`], [`CancelScope`], [`CancelReason`] |
//! | clean-up | [`finally`] |
//! | waiting | [`checkpoint()`], [`sleep`], [`cancellable`] for futures of other libraries |
//! | errors | [`Cancelled`], [`TaskError`], [`ErrorGroup`], [`TooSlow`] |
//! | values per task or run | [`TaskLocal`], [`RunLocal`] |
//! | looking inside | [`tree()`], [`lowlevel::Instrument`], [`lowlevel::statistics`] |
//! | building primitives | [`lowlevel`] |
//!
//! Events, locks, channels, sockets, pipes, signals and threads are in `nursery-io`; virtual time and the other tools for
//! tests in `nursery-testing`. The folder `book` of the repository has a tutorial: `just book` builds it.

mod busy;
mod checkpoint;
mod cleanup;
mod clock;
mod deadlines;
mod error;
mod gaps;
mod gather;
mod instrument;
mod local;
pub mod lowlevel;
mod nursery;
mod park;
mod run;
mod scope;
mod stats;
mod time;
mod tree;
mod wait;

#[doc(inline)]
pub use crate::{
    nursery::child::Child,
    nursery::handle::{NurseryClosed, NurseryHandle},
    nursery::start::TaskStatus,
    nursery::{Nursery, OpenNursery, open_nursery},
    run::{Builder, Guest, run},
};

#[doc(inline)]
pub use crate::gather::{Completed, as_completed, gather, map_concurrent, map_unordered, race};

#[doc(inline)]
pub use crate::{
    checkpoint::{Cancellable, Checkpoint, cancellable, checkpoint},
    cleanup::finally,
    scope::reason::{CancelReason, CancelSource},
    scope::remote::RemoteScope,
    scope::{CancelScope, EffectiveDeadline, Enter, current_effective_deadline},
    time::{
        FailAt, Forever, MoveOn, Shield, Sleep, fail_after, fail_at, move_on_after, move_on_at,
        now, shield, sleep, sleep_forever, sleep_until,
    },
};

#[doc(inline)]
pub use crate::{
    clock::{Clock, Idle, OnIdle, SystemClock},
    error::{Cancelled, ErrorGroup, Leaves, TaskError, TooSlow},
    local::{RunLocal, TaskLocal},
    tree::dump::{NodeKind, Tree, TreeNode, TreeWait, tree},
};

#[cfg(feature = "macros")]
pub use nursery_macros::{TaskError, main};
