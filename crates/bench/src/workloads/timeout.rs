//! A time limit that is not reached: around one yield, and around a future that is ready at once.

use std::hint::black_box;
use std::time::Duration;

use futures_lite::FutureExt;
use nursery::{Cancelled, move_on_after};

use crate::workload::{Metric, Size, Target, Workload, per_op, row};
use crate::workloads::yields::yield_once;
use crate::{floor, runtimes, tally};

pub(crate) const YIELD: Workload = Workload {
    name: "timeout around one yield",
    metrics: &[Metric::only("ns/timeout", &[Target::Ratio("tokio timeout", 3.0)])],
    rows: &[
        row("nursery", |size| measure(size, nursery_yield)),
        row("tokio timeout", |size| measure(size, tokio_yield)),
        row("async-executor + async-io", |size| measure(size, executor_yield)),
        row("floor", |size| measure(size, floor_yield)),
    ],
    is_slow: false,
};

pub(crate) const READY: Workload = Workload {
    name: "timeout around a ready future",
    metrics: &[Metric::only("ns/timeout", &[Target::AtMost(10.0)])],
    rows: &[
        row("nursery", |size| measure(size, nursery_ready)),
        row("tokio timeout", |size| measure(size, tokio_ready)),
        row("async-executor + async-io", |size| measure(size, executor_ready)),
        row("floor", |size| measure(size, floor_ready)),
    ],
    is_slow: false,
};

const LIMIT: Duration = Duration::from_secs(10);

/// Sets so many time limits.
type Run = fn(rounds: usize) -> Duration;

fn measure(size: Size, run: Run) -> Vec<f64> {
    let rounds = size.of(400_000);
    let time = run(rounds);
    assert_eq!(tally::take(), rounds * (rounds - 1) / 2, "a body has not ended");
    vec![per_op(time, rounds)]
}

async fn yields(i: usize) -> usize {
    yield_once().await;
    i
}

async fn ready(i: usize) -> usize {
    black_box(i)
}

fn nursery_yield(rounds: usize) -> Duration {
    runtimes::nursery(async {
        for i in 0..rounds {
            let body = async { Ok::<_, Cancelled>(yields(i).await) };
            tally::add(move_on_after(LIMIT, body).await?.expect("in time"));
        }
        Ok(())
    })
}

fn nursery_ready(rounds: usize) -> Duration {
    runtimes::nursery(async {
        for i in 0..rounds {
            let body = async { Ok::<_, Cancelled>(ready(i).await) };
            tally::add(move_on_after(LIMIT, body).await?.expect("in time"));
        }
        Ok(())
    })
}

fn tokio_yield(rounds: usize) -> Duration {
    runtimes::tokio(async move {
        for i in 0..rounds {
            tally::add(tokio::time::timeout(LIMIT, yields(i)).await.expect("in time"));
        }
    })
}

fn tokio_ready(rounds: usize) -> Duration {
    runtimes::tokio(async move {
        for i in 0..rounds {
            tally::add(tokio::time::timeout(LIMIT, ready(i)).await.expect("in time"));
        }
    })
}

/// The limit of async-io: a timer that is made when it is first polled.
async fn too_late() -> Option<usize> {
    async_io::Timer::after(LIMIT).await;
    None
}

fn executor_yield(rounds: usize) -> Duration {
    runtimes::executor(async move |_| {
        for i in 0..rounds {
            let body = async { Some(yields(i).await) };
            tally::add(body.or(too_late()).await.expect("in time"));
        }
    })
}

fn executor_ready(rounds: usize) -> Duration {
    runtimes::executor(async move |_| {
        for i in 0..rounds {
            let body = async { Some(ready(i).await) };
            tally::add(body.or(too_late()).await.expect("in time"));
        }
    })
}

fn floor_yield(rounds: usize) -> Duration {
    runtimes::floor(async move {
        for i in 0..rounds {
            let body = async {
                floor::yield_now().await;
                i
            };
            tally::add(floor::timeout(LIMIT, body).await.expect("in time"));
        }
    })
}

fn floor_ready(rounds: usize) -> Duration {
    runtimes::floor(async move {
        for i in 0..rounds {
            tally::add(floor::timeout(LIMIT, ready(i)).await.expect("in time"));
        }
    })
}
