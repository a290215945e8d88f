//! 100 groups of 100 tasks that wait: what it costs to set them up, and to cancel them all.
//!
//! Two meanings of cancelling: nursery, `CancellationToken` and the floor wake each task, which sees it and returns;
//! the others drop its future where it stands. Either way the clock stops when the last of them has gone.

use std::future::{Future, pending, poll_fn};
use std::task::Poll;
use std::time::Duration;

use futures_buffered::FuturesUnordered as Buffered;
use futures_util::future::{FutureExt, LocalBoxFuture};
use futures_util::stream::{FuturesUnordered, Stream, StreamExt};
use nursery::{Cancelled, open_nursery, sleep_forever};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::floor::{self, Group};
use crate::stopwatch::Stopwatch;
use crate::tally::Ended;
use crate::workload::{Metric, Size, Target, Workload, per_op, row};
use crate::workloads::yields::yield_once;
use crate::{runtimes, tally};

const TARGETS: &[Target] = &[Target::Ratio("tokio JoinSet", 3.0)];

pub(crate) const WORKLOAD: Workload = Workload {
    name: "100 × 100 blocked tasks",
    metrics: &[
        Metric { name: "set up", unit: "ns/task", targets: TARGETS },
        Metric { name: "cancel", unit: "ns/task", targets: TARGETS },
    ],
    rows: &[
        row("nursery", |size| measure(size, nursery)),
        row("tokio JoinSet", |size| measure(size, tokio)),
        row("tokio TaskTracker + CancellationToken", |size| measure(size, tokio_token)),
        row("async-executor", |size| measure(size, executor)),
        row("FuturesUnordered, boxed", |size| measure(size, unordered)),
        row("futures-buffered", |size| measure(size, buffered)),
        row("moro-local", |size| measure(size, moro)),
        row("floor", |size| measure(size, floor)),
    ],
    is_slow: false,
};

/// Sets up `side` groups of `side` tasks, cancels them, and returns the time of both together; the set-up is noted
/// as the lap.
type Run = fn(side: usize) -> Duration;

fn measure(size: Size, run: Run) -> Vec<f64> {
    let (runs, side) = (size.of(8), size.fixed(100));
    let mut setup = Duration::ZERO;
    let mut cancel = Duration::ZERO;
    for _ in 0..runs {
        let both = run(side);
        let lap = tally::take_lap();
        setup += lap;
        cancel += both - lap;
        assert_eq!(tally::take(), side * side, "a task has not run");
        assert_eq!(tally::take_ended(), side * side, "a task has not ended");
    }
    let tasks = runs * side * side;
    vec![per_op(setup, tasks), per_op(cancel, tasks)]
}

/// What each task does.
async fn blocked<T>(wait: impl Future<Output = T>) -> T {
    let _ended = Ended;
    tally::add(1);
    wait.await
}

/// Returns when all tasks wait, and notes the time since `start`.
async fn set_up(side: usize, start: Stopwatch) {
    while tally::done() < side * side {
        yield_once().await;
    }
    tally::set_lap(start.elapsed());
}

/// Returns when all tasks have ended.
async fn all_ended(side: usize) {
    while tally::ended() < side * side {
        yield_once().await;
    }
}

fn nursery(side: usize) -> Duration {
    runtimes::nursery(async {
        let start = Stopwatch::start();
        open_nursery(async |outer| {
            for _ in 0..side {
                outer.start_soon(open_nursery(async move |inner| {
                    for _ in 0..side {
                        inner.start_soon(blocked(sleep_forever()));
                    }
                    Ok::<(), Cancelled>(())
                }));
            }
            set_up(side, start).await;
            outer.cancel_scope().cancel();
            Ok::<(), Cancelled>(())
        })
        .await
    })
}

fn tokio(side: usize) -> Duration {
    runtimes::tokio(async move {
        let start = Stopwatch::start();
        let mut outer = JoinSet::new();
        for _ in 0..side {
            outer.spawn(async move {
                let mut inner = JoinSet::new();
                for _ in 0..side {
                    inner.spawn(blocked(pending::<()>()));
                }
                while inner.join_next().await.is_some() {}
            });
        }
        set_up(side, start).await;
        outer.shutdown().await;
        all_ended(side).await; // `shutdown` does not wait for the sets inside
    })
}

fn tokio_token(side: usize) -> Duration {
    runtimes::tokio(async move {
        let start = Stopwatch::start();
        let token = CancellationToken::new();
        let outer = TaskTracker::new();
        for _ in 0..side {
            let token = token.child_token();
            outer.spawn(async move {
                let inner = TaskTracker::new();
                for _ in 0..side {
                    let token = token.clone();
                    inner.spawn(async move { blocked(token.cancelled()).await });
                }
                inner.close();
                inner.wait().await;
            });
        }
        outer.close();
        set_up(side, start).await;
        token.cancel();
        outer.wait().await;
    })
}

fn executor(side: usize) -> Duration {
    runtimes::executor(async move |executor| {
        let start = Stopwatch::start();
        let group = || {
            let inner = executor.clone();
            executor.spawn(async move {
                let tasks: Vec<_> =
                    (0..side).map(|_| inner.spawn(blocked(pending::<()>()))).collect();
                for task in tasks {
                    task.await;
                }
            })
        };
        let groups: Vec<_> = (0..side).map(|_| group()).collect();
        set_up(side, start).await;
        drop(groups);
        all_ended(side).await;
    })
}

/// Polls a set of sets until all tasks wait; then drops it.
async fn poll_then_drop(side: usize, start: Stopwatch, mut outer: impl Stream + Unpin) {
    poll_fn(|cx| {
        assert!(outer.poll_next_unpin(cx).is_pending(), "the tasks wait for ever");
        if tally::done() == side * side {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
    tally::set_lap(start.elapsed());
}

fn unordered(side: usize) -> Duration {
    runtimes::plain(async {
        let start = Stopwatch::start();
        let group = || async move {
            let tasks = (0..side).map(|_| blocked(pending()).boxed_local());
            let mut inner: FuturesUnordered<LocalBoxFuture<'_, ()>> = tasks.collect();
            while inner.next().await.is_some() {}
        };
        let groups = (0..side).map(|_| group().boxed_local());
        let outer: FuturesUnordered<LocalBoxFuture<'_, ()>> = groups.collect();
        poll_then_drop(side, start, outer).await;
    })
}

fn buffered(side: usize) -> Duration {
    runtimes::plain(async {
        let start = Stopwatch::start();
        let group = || async move {
            let mut inner: Buffered<_> = (0..side).map(|_| blocked(pending::<()>())).collect();
            while inner.next().await.is_some() {}
        };
        let outer: Buffered<_> = (0..side).map(|_| group()).collect();
        poll_then_drop(side, start, outer).await;
    })
}

fn moro(side: usize) -> Duration {
    runtimes::plain(async {
        let start = Stopwatch::start();
        moro_local::async_scope!(|scope| {
            for _ in 0..side {
                drop(scope.spawn(async move {
                    moro_local::async_scope!(|inner| {
                        for _ in 0..side {
                            drop(inner.spawn(blocked(pending::<()>())));
                        }
                    })
                    .await;
                }));
            }
            set_up(side, start).await;
            scope.terminate::<()>(()).await;
        })
        .await;
    })
}

fn floor(side: usize) -> Duration {
    runtimes::floor(async move {
        let start = Stopwatch::start();
        let outer = Group::default().into_rc();
        for _ in 0..side {
            let inner = outer.open_inner();
            outer.spawn(async move {
                for _ in 0..side {
                    let group = inner.clone();
                    inner.spawn(async move { blocked(group.cancelled()).await });
                }
                inner.join().await;
            });
        }
        while tally::done() < side * side {
            floor::yield_now().await;
        }
        tally::set_lap(start.elapsed());
        outer.cancel();
        outer.join().await;
    })
}
