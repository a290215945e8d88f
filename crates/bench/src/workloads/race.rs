//! A race of two: one yields once and wins, the other waits for ever.
//!
//! Two meanings: `select` and its kin poll both in place and forget the loser; a nursery makes tasks of them, cancels
//! the loser and waits until it has ended.

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use futures_lite::FutureExt;
use futures_util::future::{self, LocalBoxFuture};
use futures_util::stream::{FuturesUnordered, StreamExt};
use nursery::{Cancelled, sleep_forever};
use tokio::task::JoinSet;

use crate::workload::{Metric, Size, Workload, per_op, row};
use crate::workloads::yields::yield_once;
use crate::{runtimes, tally};

pub(crate) const WORKLOAD: Workload = Workload {
    name: "race of two",
    metrics: &[Metric::only("ns/race", &[])],
    rows: &[
        row("nursery", |size| measure(size, nursery)),
        row("tokio select!", |size| measure(size, tokio_select)),
        row("tokio JoinSet", |size| measure(size, tokio)),
        row("futures select", |size| measure(size, select)),
        row("futures-lite or", |size| measure(size, or)),
        row("FuturesUnordered, boxed", |size| measure(size, unordered)),
    ],
    is_slow: false,
};

fn measure(size: Size, run: fn(rounds: usize) -> Duration) -> Vec<f64> {
    let rounds = size.of(100_000);
    let time = run(rounds);
    assert_eq!(tally::take(), rounds * (rounds - 1) / 2, "the wrong one has won");
    vec![per_op(time, rounds)]
}

async fn winner(i: usize) -> usize {
    yield_once().await;
    i
}

fn nursery(rounds: usize) -> Duration {
    runtimes::nursery(async {
        for i in 0..rounds {
            let contestant = async |wins| {
                if wins {
                    return Ok::<_, Cancelled>(winner(i).await);
                }
                sleep_forever().await.map(|()| 0)
            };
            tally::add(nursery::race([true, false].map(contestant)).await?);
        }
        Ok(())
    })
}

fn tokio_select(rounds: usize) -> Duration {
    runtimes::tokio(async move {
        for i in 0..rounds {
            tally::add(tokio::select! {
                i = winner(i) => i,
                never = pending() => never,
            });
        }
    })
}

fn tokio(rounds: usize) -> Duration {
    runtimes::tokio(async move {
        for i in 0..rounds {
            let mut set = JoinSet::new();
            set.spawn(winner(i));
            set.spawn(pending());
            tally::add(set.join_next().await.expect("two").expect("no panic"));
            set.shutdown().await;
        }
    })
}

fn select(rounds: usize) -> Duration {
    runtimes::plain(async {
        for i in 0..rounds {
            let winner = pin!(winner(i));
            let first = future::select(winner, pending()).await;
            tally::add(first.factor_first().0);
        }
    })
}

fn or(rounds: usize) -> Duration {
    runtimes::plain(async {
        for i in 0..rounds {
            tally::add(winner(i).or(pending()).await);
        }
    })
}

fn unordered(rounds: usize) -> Duration {
    runtimes::plain(async {
        for i in 0..rounds {
            let mut set: FuturesUnordered<LocalBoxFuture<'_, usize>> = FuturesUnordered::new();
            set.push(Box::pin(winner(i)));
            set.push(Box::pin(pending()));
            tally::add(set.next().await.expect("two"));
        }
    })
}
