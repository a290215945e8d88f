//! Who runs a row: every runtime is built first, then told to run one future, whose time is taken inside it.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use async_executor::LocalExecutor;
use futures_util::future::LocalBoxFuture;
use nursery::{Builder, Cancelled};

use crate::floor;
use crate::stopwatch::Stopwatch;

async fn timed<T>(work: impl Future<Output = T>) -> (Duration, T) {
    let start = Stopwatch::start();
    let value = work.await;
    (start.elapsed(), value)
}

/// nursery, with what `Builder::run` does by default.
pub(crate) fn nursery(main: impl Future<Output = Result<(), Cancelled>>) -> Duration {
    nursery_with(Builder::new(), main)
}

/// nursery, with another builder.
pub(crate) fn nursery_with(
    builder: Builder,
    main: impl Future<Output = Result<(), Cancelled>>,
) -> Duration {
    let run = builder.run(async {
        let (time, result) = timed(main).await;
        result.map(|()| time)
    });
    run.expect("nobody cancels a benchmark")
}

/// tokio's current-thread runtime. What `block_on` itself polls it treats worse than a task: so `main` is a task.
pub(crate) fn tokio(main: impl Future<Output = ()> + Send + 'static) -> Duration {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    tokio_on(builder.enable_all(), main)
}

/// tokio's current-thread runtime, on a clock that jumps.
pub(crate) fn tokio_paused(main: impl Future<Output = ()> + Send + 'static) -> Duration {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    tokio_on(builder.enable_time().start_paused(true), main)
}

/// tokio's multi-thread runtime with two threads.
pub(crate) fn tokio_two(main: impl Future<Output = ()> + Send + 'static) -> Duration {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    tokio_on(builder.worker_threads(2).enable_all(), main)
}

fn tokio_on(
    builder: &mut tokio::runtime::Builder,
    main: impl Future<Output = ()> + Send + 'static,
) -> Duration {
    let runtime = builder.build().expect("a runtime");
    let main = runtime.spawn(timed(main));
    runtime.block_on(main).expect("no panic").0
}

/// async-executor's `LocalExecutor`, with async-io's reactor. `main` is a task, as with tokio.
pub(crate) fn executor<F: Future<Output = ()> + 'static>(
    main: impl FnOnce(Rc<LocalExecutor<'static>>) -> F,
) -> Duration {
    let executor = Rc::new(LocalExecutor::new());
    let main = executor.spawn(timed(main(executor.clone())));
    async_io::block_on(executor.run(main)).0
}

/// No executor: the future is polled when it was woken.
pub(crate) fn plain(main: impl Future<Output = ()>) -> Duration {
    futures_lite::future::block_on(timed(main)).0
}

/// The floor.
pub(crate) fn floor(main: impl Future<Output = ()> + 'static) -> Duration {
    floor_on(floor::run, main)
}

/// The floor, on a clock that jumps.
pub(crate) fn floor_virtual(main: impl Future<Output = ()> + 'static) -> Duration {
    floor_on(floor::run_virtual, main)
}

fn floor_on(
    run: fn(LocalBoxFuture<'static, ()>),
    main: impl Future<Output = ()> + 'static,
) -> Duration {
    let time = Rc::new(Cell::new(None));
    let slot = time.clone();
    run(Box::pin(async move { slot.set(Some(timed(main).await.0)) }));
    time.take().expect("it has run to its end")
}
