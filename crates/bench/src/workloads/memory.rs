//! What an idle child with 64 bytes of state takes from the heap (`--features alloc`).

use std::future::pending;
use std::hint::black_box;

use futures_buffered::FuturesUnordered as Buffered;
use futures_util::future::{FutureExt, LocalBoxFuture};
use futures_util::stream::{FuturesUnordered, Stream, StreamExt};
use nursery::{Cancelled, open_nursery, sleep_forever};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::floor::{self, Group};
use crate::workload::{Metric, Size, Target, Workload, row};
use crate::workloads::yields::yield_once;
use crate::{alloc, runtimes, tally};

pub(crate) const WORKLOAD: Workload = Workload {
    name: "idle child with 64 bytes of state",
    metrics: &[Metric::only("bytes", &[Target::AtMost(180.0)])],
    rows: &[
        row("nursery", |size| measure(size, nursery)),
        row("tokio JoinSet", |size| measure(size, tokio)),
        row("tokio TaskTracker + CancellationToken", |size| measure(size, tokio_token)),
        row("async-executor", |size| measure(size, executor)),
        row("FuturesUnordered, boxed", |size| measure(size, unordered_boxed)),
        row("FuturesUnordered, one type", |size| measure(size, unordered)),
        row("futures-buffered", |size| measure(size, buffered)),
        row("moro-local", |size| measure(size, moro)),
        row("floor", |size| measure(size, floor)),
    ],
    is_slow: false,
};

/// Starts so many children; calls [`all_idle`] when they wait, and ends them.
type Run = fn(children: usize);

#[expect(clippy::cast_precision_loss, reason = "a mean needs no more digits")]
fn measure(size: Size, run: Run) -> Vec<f64> {
    let children = size.fixed(10_000);
    alloc::mark();
    run(children);
    assert_eq!(tally::take(), children, "a child has not run");
    let bytes = alloc::take_growth().expect("taken when all were idle");
    vec![bytes as f64 / children as f64]
}

/// Returns whether all children wait; takes the heap's growth then.
fn all_idle(children: usize) -> bool {
    let is_idle = tally::done() == children;
    if is_idle {
        alloc::note_growth();
    }
    is_idle
}

async fn until_idle(children: usize) {
    while !all_idle(children) {
        yield_once().await;
    }
}

fn state() -> [u64; 8] {
    tally::add(1);
    black_box([0; 8])
}

/// A child that is dropped where it waits.
async fn idle() {
    let state = state();
    pending::<()>().await;
    black_box(&state);
}

fn nursery(children: usize) {
    runtimes::nursery(async {
        alloc::mark();
        open_nursery(async |n| {
            for _ in 0..children {
                n.start_soon(async {
                    let state = state();
                    let cancelled = sleep_forever().await;
                    black_box(&state);
                    cancelled
                });
            }
            until_idle(children).await;
            n.cancel_scope().cancel();
            Ok::<(), Cancelled>(())
        })
        .await
    });
}

fn tokio(children: usize) {
    runtimes::tokio(async move {
        alloc::mark();
        let mut set = JoinSet::new();
        for _ in 0..children {
            set.spawn(idle());
        }
        until_idle(children).await;
        set.shutdown().await;
    });
}

fn tokio_token(children: usize) {
    runtimes::tokio(async move {
        alloc::mark();
        let tracker = TaskTracker::new();
        let token = CancellationToken::new();
        for _ in 0..children {
            let token = token.clone();
            tracker.spawn(async move {
                let state = state();
                token.cancelled().await;
                black_box(&state);
            });
        }
        tracker.close();
        until_idle(children).await;
        token.cancel();
        tracker.wait().await;
    });
}

fn executor(children: usize) {
    runtimes::executor(async move |executor| {
        alloc::mark();
        let tasks: Vec<_> = (0..children).map(|_| executor.spawn(idle())).collect();
        until_idle(children).await;
        drop(tasks);
    });
}

/// Polls a set until all children wait.
async fn poll_until_idle(children: usize, mut set: impl Stream + Unpin) {
    std::future::poll_fn(|cx| {
        assert!(set.poll_next_unpin(cx).is_pending(), "the children wait for ever");
        if all_idle(children) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

fn unordered_boxed(children: usize) {
    runtimes::plain(async {
        alloc::mark();
        let set: FuturesUnordered<LocalBoxFuture<'_, ()>> =
            (0..children).map(|_| idle().boxed_local()).collect();
        poll_until_idle(children, set).await;
    });
}

fn unordered(children: usize) {
    runtimes::plain(async {
        alloc::mark();
        let set: FuturesUnordered<_> = (0..children).map(|_| idle()).collect();
        poll_until_idle(children, set).await;
    });
}

fn buffered(children: usize) {
    runtimes::plain(async {
        alloc::mark();
        let set: Buffered<_> = (0..children).map(|_| idle()).collect();
        poll_until_idle(children, set).await;
    });
}

fn moro(children: usize) {
    runtimes::plain(async {
        alloc::mark();
        moro_local::async_scope!(|scope| {
            for _ in 0..children {
                drop(scope.spawn(idle()));
            }
            until_idle(children).await;
            scope.terminate::<()>(()).await;
        })
        .await;
    });
}

fn floor(children: usize) {
    runtimes::floor(async move {
        alloc::mark();
        let group = Group::default().into_rc();
        for _ in 0..children {
            let scope = group.clone();
            group.spawn(async move {
                let state = state();
                scope.cancelled().await;
                black_box(&state);
            });
        }
        while !all_idle(children) {
            floor::yield_now().await;
        }
        group.cancel();
        group.join().await;
    });
}
