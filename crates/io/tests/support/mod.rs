//! What the tests of this crate have in common.
#![allow(dead_code, reason = "each of the tests uses some of it")]

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

use nursery::Cancelled;
use nursery::lowlevel::{points, wait_all_tasks_blocked};
use nursery_testing::Test;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Runs `main`, which is not to fail.
#[track_caller]
pub(crate) fn run<T>(main: impl Future<Output = anyhow::Result<T>>) -> T {
    nursery_testing::run(main).unwrap()
}

/// Runs `main` under 100 seeds, with a yield in each operation, as trio does it.
#[track_caller]
pub(crate) fn seeds(main: impl AsyncFn() -> anyhow::Result<()>) {
    seeds_with_budget(1, main);
}

/// The same, where operations that need not wait yield every so many times only: the others take the short way.
#[track_caller]
pub(crate) fn seeds_with_budget(budget: u32, main: impl AsyncFn() -> anyhow::Result<()>) {
    for seed in 0..100 {
        if let Err(error) = Test::new().seed(seed).checkpoint_budget(budget).run(main()) {
            panic!("seed {seed}: {error:?}");
        }
    }
}

/// Waits until all other tasks wait.
pub(crate) async fn settled() -> Result<(), Cancelled> {
    wait_all_tasks_blocked(Duration::ZERO).await
}

/// Awaits `op`, which has to be a cancel point and a schedule point.
pub(crate) async fn checkpoints<T>(op: impl Future<Output = T>) -> T {
    let before = points();
    let value = op.await;
    let after = points();
    assert!(after.cancel != before.cancel, "not a cancel point");
    assert!(after.schedule != before.schedule, "not a schedule point");
    value
}

/// Calls `each` and is polled again, so many times.
pub(crate) async fn spin(times: usize, mut each: impl FnMut()) {
    for _ in 0..times {
        each();
        let mut was_polled = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut was_polled, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

type Hook = Box<dyn FnOnce()>;

thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

/// Makes a waker that calls `hook`, inside the call that wakes it first. There is one hook at a time.
pub(crate) fn waker_that_calls(hook: impl FnOnce() + 'static) -> Waker {
    struct Hooked;

    impl Wake for Hooked {
        fn wake(self: Arc<Self>) {
            let hook = HOOK.take();
            hook.into_iter().for_each(|hook| hook());
        }
    }

    drop(HOOK.replace(Some(Box::new(hook))));
    Waker::from(Arc::new(Hooked))
}
