//! 16 tasks and one mutex, held across a yield: every turn hands it over.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use nursery::{Cancelled, open_nursery};
use tokio::task::JoinSet;

use crate::workload::{Metric, Size, Target, Workload, per_op, row};
use crate::workloads::yields::yield_once;
use crate::{runtimes, tally};

pub(crate) const WORKLOAD: Workload = Workload {
    name: "mutex among 16 tasks",
    metrics: &[Metric::only("ns/turn", &[Target::Ratio("tokio Mutex", 2.0)])],
    rows: &[
        row("nursery", |size| measure(size, nursery)),
        row("tokio Mutex", |size| measure(size, tokio)),
        row("tokio Mutex, 2 threads", |size| measure(size, tokio_two)),
        row("async-lock on async-executor", |size| measure(size, executor)),
    ],
    is_slow: false,
};

const TASKS: usize = 16;

/// Locks and counts up so many times in each task; tells the tally the last number.
type Run = fn(turns: usize) -> Duration;

fn measure(size: Size, run: Run) -> Vec<f64> {
    let turns = size.of(20_000);
    let time = run(turns);
    assert_eq!(tally::take(), TASKS * turns, "a turn is missing");
    vec![per_op(time, TASKS * turns)]
}

fn nursery(turns: usize) -> Duration {
    let mutex = nursery_io::sync::Mutex::new(0);
    let time = runtimes::nursery(async {
        open_nursery(async |n| {
            for _ in 0..TASKS {
                n.start_soon(async {
                    for _ in 0..turns {
                        let mut count = mutex.lock().await.expect("nobody cancels");
                        *count += 1;
                        yield_once().await;
                    }
                    Ok(())
                });
            }
            Ok::<(), Cancelled>(())
        })
        .await
    });
    tally::add(mutex.into_inner());
    time
}

async fn under_tokio(turns: usize, mutex: Arc<tokio::sync::Mutex<usize>>) {
    let mut set = JoinSet::new();
    for _ in 0..TASKS {
        let mutex = mutex.clone();
        set.spawn(async move {
            for _ in 0..turns {
                let mut count = mutex.lock().await;
                *count += 1;
                yield_once().await;
            }
        });
    }
    while set.join_next().await.is_some() {}
}

fn tokio(turns: usize) -> Duration {
    let mutex = Arc::new(tokio::sync::Mutex::new(0));
    let time = runtimes::tokio(under_tokio(turns, mutex.clone()));
    tally::add(*mutex.try_lock().expect("all have ended"));
    time
}

fn tokio_two(turns: usize) -> Duration {
    let mutex = Arc::new(tokio::sync::Mutex::new(0));
    let time = runtimes::tokio_two(under_tokio(turns, mutex.clone()));
    tally::add(*mutex.try_lock().expect("all have ended"));
    time
}

fn executor(turns: usize) -> Duration {
    let mutex = Rc::new(async_lock::Mutex::new(0));
    let shared = mutex.clone();
    let time = runtimes::executor(async move |executor| {
        let task = |mutex: Rc<async_lock::Mutex<usize>>| async move {
            for _ in 0..turns {
                let mut count = mutex.lock().await;
                *count += 1;
                yield_once().await;
            }
        };
        let tasks: Vec<_> = (0..TASKS).map(|_| executor.spawn(task(shared.clone()))).collect();
        for task in tasks {
            task.await;
        }
    });
    tally::add(*mutex.try_lock().expect("all have ended"));
    time
}
