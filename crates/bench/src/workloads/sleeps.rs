//! 100,000 sleeps: on the real clock, what they cost and how late they end; on a virtual clock, what they cost.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nursery::{Builder, Cancelled, open_nursery};
use nursery_testing::MockClock;
use rustix::time::ClockId;
use tokio::task::JoinSet;

use crate::floor::{self, Group};
use crate::stopwatch::cpu_time;
use crate::workload::{Metric, Size, Target, Workload, per_op, row};
use crate::{runtimes, statistics, tally};

pub(crate) const REAL: Workload = Workload {
    name: "100,000 sleeps, real clock",
    metrics: &[
        Metric {
            name: "CPU time",
            unit: "ns/sleep",
            targets: &[Target::Ratio("tokio JoinSet", 1.0 / 0.7)],
        },
        Metric {
            name: "late, median",
            unit: "µs",
            targets: &[Target::Ratio("tokio JoinSet", 1.0)],
        },
        Metric { name: "late, 99 %", unit: "µs", targets: &[] },
    ],
    rows: &[
        row("nursery", |size| real(size, nursery_real)),
        row("tokio JoinSet", |size| real(size, tokio_real)),
        row("tokio JoinSet, 2 threads", |size| real(size, tokio_two)),
        row("async-executor + async-io", |size| real(size, executor)),
        row("floor", |size| real(size, floor_real)),
    ],
    is_slow: true,
};

pub(crate) const VIRTUAL: Workload = Workload {
    name: "100,000 sleeps, virtual clock",
    metrics: &[Metric::only("ns/sleep", &[Target::Ratio("tokio, paused", 5.0)])],
    rows: &[
        row("nursery", |size| jumped(size, nursery_virtual)),
        row("tokio, paused", |size| jumped(size, tokio_virtual)),
        row("floor", |size| jumped(size, floor_virtual)),
    ],
    is_slow: false,
};

/// Sleeps for so long, each in a task of its own.
type Run = fn(naps: Vec<Duration>) -> Duration;

fn naps(size: Size, shortest: u64, longest: u64) -> Vec<Duration> {
    let mut random = fastrand::Rng::with_seed(1);
    let nap = |_| Duration::from_micros(random.u64(shortest..longest));
    (0..size.fixed(100_000)).map(nap).collect()
}

/// How late each sleep ended.
static LATE: Mutex<Vec<Duration>> = Mutex::new(Vec::new());

/// The shortest nap is longer than it takes to start all tasks.
fn real(size: Size, run: Run) -> Vec<f64> {
    let slower = if size == Size::Tiny { 1 } else { 50 };
    let naps = naps(size, 2_000 * slower, 20_000 * slower);
    let count = naps.len();
    let before = cpu_time(ClockId::ProcessCPUTime);
    run(naps);
    let cpu = per_op(cpu_time(ClockId::ProcessCPUTime) - before, count);
    let mut late = std::mem::take(&mut *LATE.lock().unwrap_or_else(PoisonError::into_inner));
    assert_eq!(late.len(), count, "a sleep has not ended");
    late.sort_unstable();
    let micros = |part| statistics::quantile(&late, part).as_secs_f64() * 1e6;
    vec![cpu, micros(0.5), micros(0.99)]
}

fn woken(deadline: Instant) {
    let late = Instant::now().checked_duration_since(deadline).expect("not too early");
    LATE.lock().unwrap_or_else(PoisonError::into_inner).push(late);
}

fn nursery_real(naps: Vec<Duration>) -> Duration {
    runtimes::nursery(async {
        let start = Instant::now();
        open_nursery(async |n| {
            for nap in naps {
                n.start_soon(async move {
                    nursery::sleep_until(start + nap).await?;
                    woken(start + nap);
                    Ok(())
                });
            }
            Ok::<(), Cancelled>(())
        })
        .await
    })
}

async fn tokio_sleeps(naps: Vec<Duration>) {
    let start = Instant::now();
    let mut set = JoinSet::new();
    for nap in naps {
        set.spawn(async move {
            tokio::time::sleep_until((start + nap).into()).await;
            woken(start + nap);
        });
    }
    while set.join_next().await.is_some() {}
}

fn tokio_real(naps: Vec<Duration>) -> Duration {
    runtimes::tokio(tokio_sleeps(naps))
}

fn tokio_two(naps: Vec<Duration>) -> Duration {
    runtimes::tokio_two(tokio_sleeps(naps))
}

fn executor(naps: Vec<Duration>) -> Duration {
    runtimes::executor(async move |executor| {
        let start = Instant::now();
        let sleep = |nap| async move {
            async_io::Timer::at(start + nap).await;
            woken(start + nap);
        };
        let tasks: Vec<_> = naps.into_iter().map(|nap| executor.spawn(sleep(nap))).collect();
        for task in tasks {
            task.await;
        }
    })
}

fn floor_real(naps: Vec<Duration>) -> Duration {
    runtimes::floor(async move {
        let start = Instant::now();
        let group = Group::default().into_rc();
        for nap in naps {
            group.spawn(async move {
                floor::sleep_until(start + nap).await;
                woken(start + nap);
            });
        }
        group.join().await;
    })
}

fn jumped(size: Size, run: Run) -> Vec<f64> {
    let naps = naps(size, 1, 10_000_000);
    let (count, longest) = (naps.len(), naps.iter().max().copied());
    let time = run(naps);
    assert_eq!(tally::take(), count, "a sleep has not ended");
    assert!(Some(tally::take_lap()) >= longest, "the clock has not jumped so far");
    vec![per_op(time, count)]
}

fn nursery_virtual(naps: Vec<Duration>) -> Duration {
    let builder = Builder::new().clock(MockClock::autojump());
    runtimes::nursery_with(builder, async {
        let start = nursery::now();
        open_nursery(async |n| {
            for nap in naps {
                n.start_soon(async move {
                    nursery::sleep(nap).await?;
                    tally::add(1);
                    Ok(())
                });
            }
            Ok::<(), Cancelled>(())
        })
        .await?;
        tally::set_lap(nursery::now() - start);
        Ok(())
    })
}

fn tokio_virtual(naps: Vec<Duration>) -> Duration {
    runtimes::tokio_paused(async move {
        let start = tokio::time::Instant::now();
        let mut set = JoinSet::new();
        for nap in naps {
            set.spawn(async move {
                tokio::time::sleep(nap).await;
                tally::add(1);
            });
        }
        while set.join_next().await.is_some() {}
        tally::set_lap(start.elapsed());
    })
}

fn floor_virtual(naps: Vec<Duration>) -> Duration {
    runtimes::floor_virtual(async move {
        let start = floor::now();
        let group = Group::default().into_rc();
        for nap in naps {
            group.spawn(async move {
                floor::sleep_until(floor::now() + nap).await;
                tally::add(1);
            });
        }
        group.join().await;
        tally::set_lap(floor::now() - start);
    })
}
