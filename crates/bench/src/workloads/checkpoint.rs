//! A checkpoint when nothing is the matter: what it costs to ask.

use std::hint::black_box;
use std::time::Duration;

use nursery::{Builder, checkpoint};
use tokio_util::sync::CancellationToken;

use crate::workload::{Metric, Size, Target, Workload, per_op, row};
use crate::{runtimes, tally};

pub(crate) const WORKLOAD: Workload = Workload {
    name: "checkpoint, nothing to do",
    metrics: &[Metric::only("ns/checkpoint", &[Target::AtMost(2.0)])],
    rows: &[
        row("nursery", |size| measure(size, |rounds| nursery(Builder::new(), rounds))),
        row("nursery, never yields", |size| {
            measure(size, |rounds| nursery(Builder::new().checkpoint_budget(u32::MAX), rounds))
        }),
        row("tokio consume_budget", |size| measure(size, tokio)),
        row("tokio CancellationToken", |size| measure(size, token)),
    ],
    is_slow: false,
};

fn measure(size: Size, run: fn(rounds: usize) -> Duration) -> Vec<f64> {
    let rounds = size.of(4_000_000);
    let time = run(rounds);
    assert_eq!(tally::take(), rounds, "a checkpoint is missing");
    vec![per_op(time, rounds)]
}

fn nursery(builder: Builder, rounds: usize) -> Duration {
    runtimes::nursery_with(builder, async {
        let mut passed = 0;
        for _ in 0..rounds {
            checkpoint().await?;
            passed = black_box(passed + 1);
        }
        tally::add(passed);
        Ok(())
    })
}

fn tokio(rounds: usize) -> Duration {
    runtimes::tokio(async move {
        let mut passed = 0;
        for _ in 0..rounds {
            tokio::task::consume_budget().await;
            passed = black_box(passed + 1);
        }
        tally::add(passed);
    })
}

fn token(rounds: usize) -> Duration {
    runtimes::tokio(async move {
        let token = CancellationToken::new();
        let mut passed = 0;
        while passed < rounds && !token.is_cancelled() {
            passed = black_box(passed + 1);
        }
        tally::add(passed);
    })
}
