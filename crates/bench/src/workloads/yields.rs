//! 100 tasks that take turns: what a switch costs.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_buffered::FuturesUnordered as Buffered;
use futures_util::future::{FutureExt, LocalBoxFuture};
use futures_util::stream::{FuturesUnordered, StreamExt};
use nursery::{Cancelled, open_nursery};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::floor::{self, Group};
use crate::workload::{Metric, Size, Target, Workload, per_op, row};
use crate::{runtimes, tally};

pub(crate) const WORKLOAD: Workload = Workload {
    name: "yield among 100 children",
    metrics: &[Metric::only("ns/yield", &[Target::Ratio("tokio JoinSet", 1.5)])],
    rows: &[
        row("nursery", |size| measure(size, nursery)),
        row("tokio JoinSet", |size| measure(size, tokio)),
        row("tokio yield_now", |size| measure(size, tokio_yield_now)),
        row("tokio TaskTracker + CancellationToken", |size| measure(size, tokio_tracker)),
        row("tokio JoinSet, 2 threads", |size| measure(size, tokio_two)),
        row("async-executor", |size| measure(size, executor)),
        row("FuturesUnordered, boxed", |size| measure(size, unordered_boxed)),
        row("FuturesUnordered, one type", |size| measure(size, unordered)),
        row("futures-buffered", |size| measure(size, buffered)),
        row("moro-local", |size| measure(size, moro)),
        row("floor", |size| measure(size, floor)),
    ],
    is_slow: false,
};

/// Waits for one turn, by waking itself: the same future in every row of every workload.
pub(crate) fn yield_once() -> Yield {
    Yield(false)
}

/// The future of [`yield_once`].
pub(crate) struct Yield(bool);

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.0 {
            return Poll::Ready(());
        }
        self.0 = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Lets so many children yield so many times.
type Run = fn(children: usize, yields: usize) -> Duration;

fn measure(size: Size, run: Run) -> Vec<f64> {
    let (children, yields) = (size.fixed(100), size.of(4000));
    let time = run(children, yields);
    assert_eq!(tally::take(), children * yields, "a child has not yielded");
    vec![per_op(time, children * yields)]
}

/// What each child does.
async fn child(yields: usize) {
    for _ in 0..yields {
        yield_once().await;
        tally::add(1);
    }
}

fn nursery(children: usize, yields: usize) -> Duration {
    runtimes::nursery(async {
        open_nursery(async |n| {
            for _ in 0..children {
                n.start_soon(async move {
                    child(yields).await;
                    Ok(())
                });
            }
            Ok::<(), Cancelled>(())
        })
        .await
    })
}

fn tokio(children: usize, yields: usize) -> Duration {
    runtimes::tokio(async move {
        let mut set = JoinSet::new();
        for _ in 0..children {
            set.spawn(child(yields));
        }
        while set.join_next().await.is_some() {}
    })
}

fn tokio_yield_now(children: usize, yields: usize) -> Duration {
    runtimes::tokio(async move {
        let mut set = JoinSet::new();
        for _ in 0..children {
            set.spawn(async move {
                for _ in 0..yields {
                    tokio::task::yield_now().await;
                    tally::add(1);
                }
            });
        }
        while set.join_next().await.is_some() {}
    })
}

fn tokio_tracker(children: usize, yields: usize) -> Duration {
    runtimes::tokio(async move {
        let tracker = TaskTracker::new();
        let token = CancellationToken::new();
        for _ in 0..children {
            let token = token.clone();
            tracker.spawn(async move { token.run_until_cancelled(child(yields)).await });
        }
        tracker.close();
        tracker.wait().await;
    })
}

fn tokio_two(children: usize, yields: usize) -> Duration {
    let time = runtimes::tokio_two(async move {
        let mut set = JoinSet::new();
        for _ in 0..children {
            set.spawn(async move {
                let mut done = 0;
                for _ in 0..yields {
                    yield_once().await;
                    done += 1;
                }
                tally::add_shared(done);
            });
        }
        while set.join_next().await.is_some() {}
    });
    tally::collect_shared();
    time
}

fn executor(children: usize, yields: usize) -> Duration {
    runtimes::executor(async move |executor| {
        let tasks: Vec<_> = (0..children).map(|_| executor.spawn(child(yields))).collect();
        for task in tasks {
            task.await;
        }
    })
}

fn unordered_boxed(children: usize, yields: usize) -> Duration {
    runtimes::plain(async {
        let mut set: FuturesUnordered<LocalBoxFuture<'_, ()>> =
            (0..children).map(|_| child(yields).boxed_local()).collect();
        while set.next().await.is_some() {}
    })
}

fn unordered(children: usize, yields: usize) -> Duration {
    runtimes::plain(async {
        let mut set: FuturesUnordered<_> = (0..children).map(|_| child(yields)).collect();
        while set.next().await.is_some() {}
    })
}

fn buffered(children: usize, yields: usize) -> Duration {
    runtimes::plain(async {
        let mut set: Buffered<_> = (0..children).map(|_| child(yields)).collect();
        while set.next().await.is_some() {}
    })
}

fn moro(children: usize, yields: usize) -> Duration {
    runtimes::plain(async {
        moro_local::async_scope!(|scope| {
            for _ in 0..children {
                drop(scope.spawn(child(yields)));
            }
        })
        .await;
    })
}

fn floor(children: usize, yields: usize) -> Duration {
    runtimes::floor(async move {
        let group = Group::default().into_rc();
        for _ in 0..children {
            group.spawn(async move {
                for _ in 0..yields {
                    floor::yield_now().await;
                    tally::add(1);
                }
            });
        }
        group.join().await;
    })
}
