//! `assert_checkpoints` and `assert_no_checkpoints`. Trio's tests of them.

use std::future::{Future, ready};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_lite::FutureExt;
use nursery::lowlevel::{cancel_shielded_checkpoint, checkpoint_if_cancelled};
use nursery::{CancelScope, Cancelled, checkpoint, sleep};
use nursery_testing::{assert_checkpoints, assert_no_checkpoints};

type Result<T = (), E = Cancelled> = std::result::Result<T, E>;

/// What the assertion says, if it fails.
async fn complaint<T>(assertion: impl Future<Output = T>) -> Option<String> {
    let result = AssertUnwindSafe(assertion).catch_unwind().await;
    result.err().map(|panic| *panic.downcast::<String>().expect("a text"))
}

async fn yields() -> Result {
    cancel_shielded_checkpoint().await;
    Ok(())
}

#[nursery_testing::test]
async fn assert_checkpoints_of_trio() -> Result {
    assert_eq!(assert_checkpoints(async { checkpoint().await.map(|()| 42) }).await?, 42);
    assert_checkpoints(sleep(Duration::ZERO)).await?;
    // Half a checkpoint does not do …
    for _ in 0..2 {
        let nothing =
            complaint(assert_checkpoints(async { Ok::<(), Cancelled>(()) })).await.unwrap();
        assert!(nothing.ends_with("it passed 0 cancel points and 0 schedule points"), "{nothing}");
        assert!(nothing.contains("tests/checkpoints.rs:"), "{nothing}");
        let half = complaint(assert_checkpoints(yields())).await.unwrap();
        assert!(half.ends_with("it passed 0 cancel points and 1 schedule points"), "{half}");
        let half = complaint(assert_checkpoints(checkpoint_if_cancelled())).await.unwrap();
        assert!(half.ends_with("it passed 1 cancel points and 0 schedule points"), "{half}");
    }
    // … but two halves of two calls do.
    assert_checkpoints(async {
        checkpoint_if_cancelled().await?;
        yields().await
    })
    .await?;
    // With an error, nothing is asked for.
    let failed: Result<(), &str> = assert_checkpoints(ready(Err("no"))).await;
    assert_eq!(failed, Err("no"));
    Ok(())
}

#[nursery_testing::test]
async fn assert_no_checkpoints_of_trio() -> Result {
    assert_eq!(assert_no_checkpoints(ready(42)).await, 42);
    for (bad, passed) in [
        (complaint(assert_no_checkpoints(checkpoint())).await, "1 cancel points and 1 schedule"),
        (complaint(assert_no_checkpoints(yields())).await, "0 cancel points and 1 schedule"),
        (
            complaint(assert_no_checkpoints(checkpoint_if_cancelled())).await,
            "1 cancel points and 0",
        ),
        // Also of what fails.
        (
            complaint(assert_no_checkpoints(async {
                checkpoint_if_cancelled().await?;
                anyhow::bail!("and fails") as anyhow::Result<()>
            }))
            .await,
            "1 cancel points and 0",
        ),
    ] {
        let bad = bad.expect("it complains");
        assert!(bad.contains("is not to be a checkpoint") && bad.contains(passed), "{bad}");
    }
    // Cancelled, a checkpoint is one still.
    let scope = CancelScope::new();
    scope.cancel();
    let cancelled = scope.enter(async {
        assert!(complaint(assert_no_checkpoints(checkpoint())).await.is_some());
        checkpoint().await
    });
    assert_eq!(cancelled.await?, None);
    Ok(())
}

/// What other tasks do meanwhile does not count.
#[nursery_testing::test]
async fn points_are_counted_for_the_task() -> Result {
    nursery::open_nursery(async |n| {
        n.start_soon(async {
            for _ in 0..5 {
                checkpoint().await?;
            }
            Ok::<(), Cancelled>(())
        });
        // Suspended by hand, and not by a checkpoint.
        let mut polls = 0;
        let by_hand = std::future::poll_fn(|cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            if polls < 4 { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
        });
        assert_no_checkpoints(by_hand).await;
        Ok(())
    })
    .await
}
