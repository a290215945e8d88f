//! The same workloads on tokio's current-thread runtime, and on `FuturesUnordered`.

use std::cell::Cell;
use std::future::Future;
use std::hint::black_box;
use std::time::{Duration, Instant};

use futures_util::future::{FutureExt, LocalBoxFuture};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::task::{JoinSet, yield_now};

use crate::per_op;

fn block_on<T>(main: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(main)
}

pub(crate) fn spawn_join() -> f64 {
    const ROUNDS: usize = 20;
    block_on(async {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            let mut set = JoinSet::new();
            for i in 0..1000 {
                set.spawn(async move {
                    black_box(i);
                });
            }
            while set.join_next().await.is_some() {}
        }
        per_op(start.elapsed(), ROUNDS * 1000)
    })
}

pub(crate) fn unordered() -> f64 {
    const ROUNDS: usize = 50;
    block_on(async {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            let mut set: FuturesUnordered<LocalBoxFuture<'_, ()>> = FuturesUnordered::new();
            for i in 0..1000 {
                set.push(
                    async move {
                        black_box(i);
                    }
                    .boxed_local(),
                );
            }
            while set.next().await.is_some() {}
        }
        per_op(start.elapsed(), ROUNDS * 1000)
    })
}

pub(crate) fn small() -> f64 {
    const ROUNDS: usize = 5_000;
    block_on(async {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            let mut set = JoinSet::new();
            set.spawn(async {});
            set.spawn(async {});
            while set.join_next().await.is_some() {}
        }
        per_op(start.elapsed(), ROUNDS)
    })
}

pub(crate) fn yields() -> f64 {
    const YIELDS: usize = 500;
    block_on(async {
        let start = Instant::now();
        let mut set = JoinSet::new();
        for _ in 0..100 {
            set.spawn(async {
                for _ in 0..YIELDS {
                    yield_now().await;
                }
            });
        }
        while set.join_next().await.is_some() {}
        per_op(start.elapsed(), 100 * YIELDS)
    })
}

/// 100 sets of 100 tasks: set up, then aborted and joined. (The futures are dropped, no code of theirs runs.)
pub(crate) fn cancel_tree() -> (f64, f64) {
    block_on(async {
        let start = Instant::now();
        let mut sets = Vec::new();
        for _ in 0..100 {
            let mut set = JoinSet::new();
            for _ in 0..100 {
                set.spawn(std::future::pending::<()>());
            }
            sets.push(set);
        }
        for _ in 0..200 {
            yield_now().await; // all have been polled
        }
        let setup = per_op(start.elapsed(), 10_000);
        let start = Instant::now();
        for set in &mut sets {
            set.abort_all();
        }
        for set in &mut sets {
            while set.join_next().await.is_some() {}
        }
        (setup, per_op(start.elapsed(), 10_000))
    })
}

pub(crate) fn timeout_yield() -> f64 {
    const ROUNDS: usize = 20_000;
    block_on(async {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            let mut yielded = Cell::new(false);
            let once = std::future::poll_fn(|cx| {
                if *yielded.get_mut() {
                    return std::task::Poll::Ready(());
                }
                yielded.set(true);
                cx.waker().wake_by_ref();
                std::task::Poll::Pending
            });
            let _ = black_box(tokio::time::timeout(Duration::from_secs(10), once).await);
        }
        per_op(start.elapsed(), ROUNDS)
    })
}

pub(crate) fn timeout_ready() -> f64 {
    const ROUNDS: usize = 100_000;
    block_on(async {
        let start = Instant::now();
        for i in 0..ROUNDS {
            let _ = black_box(tokio::time::timeout(Duration::from_secs(10), async { i }).await);
        }
        per_op(start.elapsed(), ROUNDS)
    })
}

pub(crate) fn checkpoint() -> f64 {
    const ROUNDS: usize = 1_000_000;
    block_on(async {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            tokio::task::consume_budget().await;
        }
        per_op(start.elapsed(), ROUNDS)
    })
}

pub(crate) fn virtual_sleeps() -> f64 {
    const SLEEPS: u64 = 5_000;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let start = Instant::now();
        let mut rng = fastrand::Rng::with_seed(1);
        let mut set = JoinSet::new();
        for _ in 0..SLEEPS {
            let nap = Duration::from_micros(rng.u64(1..10_000_000));
            set.spawn(tokio::time::sleep(nap));
        }
        while set.join_next().await.is_some() {}
        per_op(start.elapsed(), usize::try_from(SLEEPS).unwrap_or(1))
    })
}

const MESSAGES: usize = 100_000;

pub(crate) fn channel() -> f64 {
    block_on(async {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(64);
        let start = Instant::now();
        let task = tokio::spawn(async move {
            for i in 0..MESSAGES {
                let _ = sender.send(i).await;
            }
        });
        while let Some(i) = receiver.recv().await {
            black_box(i);
        }
        let _ = task.await;
        per_op(start.elapsed(), MESSAGES)
    })
}

pub(crate) fn flume() -> f64 {
    block_on(async {
        let (sender, receiver) = flume::bounded(64);
        let start = Instant::now();
        let task = tokio::spawn(async move {
            for i in 0..MESSAGES {
                let _ = sender.send_async(i).await;
            }
        });
        while let Ok(i) = receiver.recv_async().await {
            black_box(i);
        }
        let _ = task.await;
        per_op(start.elapsed(), MESSAGES)
    })
}

pub(crate) fn ping_pong() -> f64 {
    const TRIPS: usize = 20_000;
    block_on(async {
        let (ping, mut pinged) = tokio::sync::mpsc::channel(1);
        let (pong, mut ponged) = tokio::sync::mpsc::channel(1);
        let start = Instant::now();
        let task = tokio::spawn(async move {
            while let Some(i) = pinged.recv().await {
                let _ = pong.send(i).await;
            }
        });
        for i in 0..TRIPS {
            let _ = ping.send(i).await;
            black_box(ponged.recv().await);
        }
        drop(ping);
        let _ = task.await;
        per_op(start.elapsed(), 2 * TRIPS)
    })
}

pub(crate) fn mutex() -> f64 {
    const TURNS: usize = 2_000;
    block_on(async {
        let mutex = std::sync::Arc::new(tokio::sync::Mutex::new(0_usize));
        let start = Instant::now();
        let mut set = JoinSet::new();
        for _ in 0..16 {
            let mutex = mutex.clone();
            set.spawn(async move {
                for _ in 0..TURNS {
                    let mut guard = mutex.lock().await;
                    *guard += 1;
                    yield_now().await;
                }
            });
        }
        while set.join_next().await.is_some() {}
        per_op(start.elapsed(), 16 * TURNS)
    })
}
