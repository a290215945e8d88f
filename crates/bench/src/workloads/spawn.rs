//! Start children that are ready at once, and wait for all of them: what a task costs.

use std::hint::black_box;
use std::time::Duration;

use futures_buffered::FuturesUnordered as Buffered;
use futures_util::future::{FutureExt, LocalBoxFuture};
use futures_util::stream::{FuturesUnordered, StreamExt};
use nursery::{Cancelled, open_nursery};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::floor::Group;
use crate::workload::{Metric, Size, Target, Workload, per_op, row};
use crate::{runtimes, tally};

pub(crate) const MANY: Workload = Workload {
    name: "spawn and join 1,000 ready children",
    metrics: &[Metric::only(
        "ns/child",
        &[Target::Ratio("tokio JoinSet", 5.0), Target::Ratio("FuturesUnordered, boxed", 1.0)],
    )],
    rows: &[
        row("nursery", |size| many(size, nursery)),
        row("tokio JoinSet", |size| many(size, tokio)),
        row("tokio TaskTracker", |size| many(size, tokio_tracker)),
        row("tokio JoinSet, 2 threads", |size| many(size, tokio_two)),
        row("async-executor", |size| many(size, executor)),
        row("FuturesUnordered, boxed", |size| many(size, unordered_boxed)),
        row("FuturesUnordered, one type", |size| many(size, unordered)),
        row("futures-buffered", |size| many(size, buffered)),
        row("moro-local", |size| many(size, moro)),
        row("floor", |size| many(size, floor)),
    ],
    is_slow: false,
};

pub(crate) const TWO: Workload = Workload {
    name: "spawn and join 2 ready children",
    metrics: &[Metric::only("ns/nursery", &[Target::Ratio("tokio JoinSet", 8.0)])],
    rows: &[
        row("nursery", |size| two(size, nursery)),
        row("tokio JoinSet", |size| two(size, tokio)),
        row("tokio TaskTracker", |size| two(size, tokio_tracker)),
        row("tokio JoinSet, 2 threads", |size| two(size, tokio_two)),
        row("async-executor", |size| two(size, executor)),
        row("FuturesUnordered, boxed", |size| two(size, unordered_boxed)),
        row("FuturesUnordered, one type", |size| two(size, unordered)),
        row("futures-buffered", |size| two(size, buffered)),
        row("moro-local", |size| two(size, moro)),
        row("floor", |size| two(size, floor)),
    ],
    is_slow: false,
};

/// Starts and joins so many children so many times.
type Run = fn(rounds: usize, children: usize) -> Duration;

fn many(size: Size, run: Run) -> Vec<f64> {
    let (rounds, children) = (size.of(200), size.fixed(1000));
    vec![per_op(checked(run, rounds, children), rounds * children)]
}

fn two(size: Size, run: Run) -> Vec<f64> {
    let rounds = size.of(50_000);
    vec![per_op(checked(run, rounds, 2), rounds)]
}

fn checked(run: Run, rounds: usize, children: usize) -> Duration {
    let time = run(rounds, children);
    assert_eq!(tally::take(), rounds * children * (children + 1) / 2, "a child has not run");
    time
}

/// What each child does. (One more than its number: the first counts, too.)
async fn child(i: usize) {
    tally::add(black_box(i) + 1);
}

fn nursery(rounds: usize, children: usize) -> Duration {
    runtimes::nursery(async {
        for _ in 0..rounds {
            open_nursery(async |n| {
                for i in 0..children {
                    n.start_soon(async move {
                        child(i).await;
                        Ok(())
                    });
                }
                Ok::<(), Cancelled>(())
            })
            .await?;
        }
        Ok(())
    })
}

fn tokio(rounds: usize, children: usize) -> Duration {
    runtimes::tokio(async move {
        for _ in 0..rounds {
            let mut set = JoinSet::new();
            for i in 0..children {
                set.spawn(child(i));
            }
            while set.join_next().await.is_some() {}
        }
    })
}

fn tokio_tracker(rounds: usize, children: usize) -> Duration {
    runtimes::tokio(async move {
        for _ in 0..rounds {
            let tracker = TaskTracker::new();
            for i in 0..children {
                tracker.spawn(child(i));
            }
            tracker.close();
            tracker.wait().await;
        }
    })
}

fn tokio_two(rounds: usize, children: usize) -> Duration {
    let time = runtimes::tokio_two(async move {
        for _ in 0..rounds {
            let mut set = JoinSet::new();
            for i in 0..children {
                set.spawn(async move { tally::add_shared(black_box(i) + 1) });
            }
            while set.join_next().await.is_some() {}
        }
    });
    tally::collect_shared();
    time
}

fn executor(rounds: usize, children: usize) -> Duration {
    runtimes::executor(async move |executor| {
        let mut tasks = Vec::with_capacity(children);
        for _ in 0..rounds {
            tasks.extend((0..children).map(|i| executor.spawn(child(i))));
            for task in tasks.drain(..) {
                task.await;
            }
        }
    })
}

fn unordered_boxed(rounds: usize, children: usize) -> Duration {
    runtimes::plain(async {
        for _ in 0..rounds {
            let mut set: FuturesUnordered<LocalBoxFuture<'_, ()>> = FuturesUnordered::new();
            for i in 0..children {
                set.push(child(i).boxed_local());
            }
            while set.next().await.is_some() {}
        }
    })
}

fn unordered(rounds: usize, children: usize) -> Duration {
    runtimes::plain(async {
        for _ in 0..rounds {
            let mut set = FuturesUnordered::new();
            for i in 0..children {
                set.push(child(i));
            }
            while set.next().await.is_some() {}
        }
    })
}

fn buffered(rounds: usize, children: usize) -> Duration {
    runtimes::plain(async {
        for _ in 0..rounds {
            let mut set = Buffered::new();
            for i in 0..children {
                set.push(child(i));
            }
            while set.next().await.is_some() {}
        }
    })
}

fn moro(rounds: usize, children: usize) -> Duration {
    runtimes::plain(async {
        for _ in 0..rounds {
            moro_local::async_scope!(|scope| {
                for i in 0..children {
                    drop(scope.spawn(child(i)));
                }
            })
            .await;
        }
    })
}

fn floor(rounds: usize, children: usize) -> Duration {
    runtimes::floor(async move {
        for _ in 0..rounds {
            let group = Group::default().into_rc();
            for i in 0..children {
                group.spawn(child(i));
            }
            group.join().await;
        }
    })
}
