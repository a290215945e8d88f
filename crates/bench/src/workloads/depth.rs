//! Nurseries in nurseries: what each level adds to a yield of the task at the bottom.
//!
//! The figure is the time of one such yield, divided by the depth. Where every task is scheduled by itself (tokio,
//! async-executor, the floor), the depth does not matter; where a parent polls its children, each level is a step.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use async_executor::LocalExecutor;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use nursery::{Cancelled, open_nursery};
use tokio::task::JoinSet;

use crate::floor::{self, Group};
use crate::stopwatch::Stopwatch;
use crate::workload::{Metric, Size, Target, Workload, per_op, row};
use crate::workloads::yields::yield_once;
use crate::{runtimes, tally};

/// The same peers at some depth.
macro_rules! rows {
    ($depth:literal) => {
        &[
            row("nursery", |size| measure(size, $depth, nursery)),
            row("tokio JoinSet", |size| measure(size, $depth, tokio)),
            row("async-executor", |size| measure(size, $depth, executor)),
            row("FuturesUnordered, boxed", |size| measure(size, $depth, unordered)),
            row("moro-local", |size| measure(size, $depth, moro)),
            row("floor", |size| measure(size, $depth, floor)),
            row("floor, boxes in boxes", |size| measure(size, $depth, boxes)),
        ]
    };
}

const PER_LEVEL: &[Metric] = &[Metric::only("ns/level", &[Target::AtMost(15.0)])];

pub(crate) const ONE: Workload = Workload {
    name: "yield at depth 1",
    metrics: &[Metric::only("ns/level", &[])],
    rows: rows!(1),
    is_slow: false,
};

pub(crate) const EIGHT: Workload =
    Workload { name: "yield at depth 8", metrics: PER_LEVEL, rows: rows!(8), is_slow: false };

pub(crate) const SIXTY_FOUR: Workload =
    Workload { name: "yield at depth 64", metrics: PER_LEVEL, rows: rows!(64), is_slow: false };

/// Opens nurseries so deep, and yields so often at the bottom.
type Run = fn(depth: usize, yields: usize);

fn measure(size: Size, depth: usize, run: Run) -> Vec<f64> {
    let yields = size.of(40_000);
    run(depth, yields);
    assert_eq!(tally::take(), yields, "the task at the bottom has not yielded");
    vec![per_op(tally::take_lap(), yields * depth)]
}

/// What the task at the bottom does. It takes the time itself, so that opening the nurseries does not count.
async fn leaf(yields: usize) {
    let start = Stopwatch::start();
    for _ in 0..yields {
        yield_once().await;
        tally::add(1);
    }
    tally::set_lap(start.elapsed());
}

fn nursery(depth: usize, yields: usize) {
    type Boxed = Pin<Box<dyn Future<Output = Result<(), Cancelled>>>>;
    fn level(depth: usize, yields: usize) -> Boxed {
        Box::pin(async move {
            if depth == 0 {
                leaf(yields).await;
                return Ok(());
            }
            open_nursery(async |n| {
                n.start_soon(level(depth - 1, yields));
                Ok(())
            })
            .await
        })
    }
    runtimes::nursery(level(depth, yields));
}

fn tokio(depth: usize, yields: usize) {
    fn level(depth: usize, yields: usize) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            if depth == 0 {
                return leaf(yields).await;
            }
            let mut set = JoinSet::new();
            set.spawn(level(depth - 1, yields));
            while set.join_next().await.is_some() {}
        })
    }
    runtimes::tokio(level(depth, yields));
}

fn executor(depth: usize, yields: usize) {
    fn level(
        executor: Rc<LocalExecutor<'static>>,
        depth: usize,
        yields: usize,
    ) -> LocalBoxFuture<'static, ()> {
        Box::pin(async move {
            if depth == 0 {
                return leaf(yields).await;
            }
            executor.spawn(level(executor.clone(), depth - 1, yields)).await;
        })
    }
    runtimes::executor(|executor| level(executor, depth, yields));
}

fn unordered(depth: usize, yields: usize) {
    fn level(depth: usize, yields: usize) -> LocalBoxFuture<'static, ()> {
        Box::pin(async move {
            if depth == 0 {
                return leaf(yields).await;
            }
            let mut set = FuturesUnordered::new();
            set.push(level(depth - 1, yields));
            while set.next().await.is_some() {}
        })
    }
    runtimes::plain(level(depth, yields));
}

fn moro(depth: usize, yields: usize) {
    fn level(depth: usize, yields: usize) -> LocalBoxFuture<'static, ()> {
        Box::pin(async move {
            if depth == 0 {
                return leaf(yields).await;
            }
            moro_local::async_scope!(|scope| drop(scope.spawn(level(depth - 1, yields)))).await;
        })
    }
    runtimes::plain(level(depth, yields));
}

fn floor(depth: usize, yields: usize) {
    fn level(depth: usize, yields: usize) -> LocalBoxFuture<'static, ()> {
        Box::pin(async move {
            if depth == 0 {
                let start = Stopwatch::start();
                for _ in 0..yields {
                    floor::yield_now().await;
                    tally::add(1);
                }
                return tally::set_lap(start.elapsed());
            }
            let group = Group::default().into_rc();
            group.spawn(level(depth - 1, yields));
            group.join().await;
        })
    }
    runtimes::floor(level(depth, yields));
}

/// No bookkeeping at all: a parent is a box that polls the box of its child.
fn boxes(depth: usize, yields: usize) {
    fn level(depth: usize, yields: usize) -> LocalBoxFuture<'static, ()> {
        Box::pin(async move {
            if depth == 0 {
                return leaf(yields).await;
            }
            level(depth - 1, yields).await;
        })
    }
    runtimes::plain(level(depth, yields));
}
