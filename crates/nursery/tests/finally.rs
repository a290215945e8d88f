//! `finally`: the clean-up runs whatever the body did, shielded and limited, and no error is lost.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use anyhow::bail;
use futures_util::{FutureExt, poll};
use nursery::lowlevel::{is_cancelled, statistics, wait_all_tasks_blocked};
use nursery::{
    CancelScope, ErrorGroup, TaskError, TooSlow, checkpoint, finally, move_on_after, now,
    open_nursery, sleep, sleep_forever,
};

const SECOND: Duration = Duration::from_secs(1);

fn run<T>(main: impl Future<Output = anyhow::Result<T>>) -> T {
    nursery_testing::run(main).unwrap()
}

async fn forever() -> anyhow::Result<()> {
    Ok(sleep_forever().await?)
}

/// A clean-up that waits, and notes that it has come to its end.
async fn clean(cleaned: &Cell<u32>) -> anyhow::Result<()> {
    assert!(!is_cancelled());
    sleep(SECOND).await?;
    cleaned.set(cleaned.get() + 1);
    Ok(())
}

fn texts(error: anyhow::Error) -> Vec<String> {
    let group: ErrorGroup<anyhow::Error> = error.downcast().expect("a group");
    group.iter().map(ToString::to_string).collect()
}

#[test]
fn after_a_body_that_returned() {
    run(async {
        let cleaned = Cell::new(0);
        let value = finally(async { anyhow::Ok(5) }, 2 * SECOND, async || clean(&cleaned).await);
        assert_eq!(value.await?, 5);
        assert_eq!(cleaned.get(), 1);
        Ok(())
    });
}

#[test]
fn after_a_body_that_failed() {
    run(async {
        let cleaned = Cell::new(0);
        let body = async { bail!("broken") as anyhow::Result<()> };
        let failed = finally(body, 2 * SECOND, async || clean(&cleaned).await).await;
        assert_eq!(failed.unwrap_err().to_string(), "broken");
        assert_eq!(cleaned.get(), 1);
        Ok(())
    });
}

#[test]
fn after_a_body_that_was_cancelled() {
    run(async {
        let cleaned = Cell::new(0);
        let scope = CancelScope::new();
        let start = now();
        open_nursery(async |n| -> anyhow::Result<()> {
            let body =
                async { finally(forever(), 2 * SECOND, async || clean(&cleaned).await).await };
            let child = n.start_soon(scope.enter(body));
            wait_all_tasks_blocked(Duration::ZERO).await?;
            scope.cancel();
            assert_eq!(child.await?, None);
            Ok(())
        })
        .await?;
        assert!(scope.cancelled_caught());
        assert_eq!(cleaned.get(), 1);
        assert_eq!(now() - start, SECOND); // the clean-up could wait
        Ok(())
    });
}

#[test]
fn in_a_scope_that_was_cancelled_before_the_body_runs_to_its_first_checkpoint_and_is_cleaned_up() {
    run(async {
        let cleaned = Cell::new(0);
        let left = move_on_after(
            Duration::ZERO,
            finally(async { Ok(checkpoint().await?) }, 2 * SECOND, async || clean(&cleaned).await),
        );
        assert_eq!(left.await?, None);
        assert_eq!(cleaned.get(), 1);
        Ok(())
    });
}

#[test]
fn after_a_body_that_panicked() {
    run(async {
        let cleaned = Cell::new(0);
        let body = async {
            checkpoint().await?;
            panic!("on fire") as anyhow::Result<()>
        };
        let outcome = AssertUnwindSafe(finally(body, 2 * SECOND, async || clean(&cleaned).await))
            .catch_unwind()
            .await;
        assert_eq!(*outcome.unwrap_err().downcast::<&str>().unwrap(), "on fire");
        assert_eq!(cleaned.get(), 1);
        Ok(())
    });
}

/// The panic goes on, also if the clean-up fails, and the clean-up's own panic when it is the only one.
#[test]
fn panics_are_not_lost() {
    run(async {
        let body = async { panic!("body") as anyhow::Result<()> };
        let outcome = AssertUnwindSafe(finally(body, SECOND, async || bail!("clean-up")))
            .catch_unwind()
            .await;
        assert_eq!(*outcome.unwrap_err().downcast::<&str>().unwrap(), "body");
        let cleanup = async || panic!("clean-up");
        let outcome = AssertUnwindSafe(finally(async { anyhow::Ok(()) }, SECOND, cleanup))
            .catch_unwind()
            .await;
        assert_eq!(*outcome.unwrap_err().downcast::<&str>().unwrap(), "clean-up");
        Ok(())
    });
}

#[test]
fn the_body_is_dropped_before_the_clean_up_begins() {
    struct Note<'a>(&'a RefCell<Vec<&'static str>>);
    impl Drop for Note<'_> {
        fn drop(&mut self) {
            self.0.borrow_mut().push("body dropped");
        }
    }
    run(async {
        let log = RefCell::new(vec![]);
        let held = Note(&log);
        let body = async move {
            let _held = held;
            checkpoint().await?;
            Ok(())
        };
        finally(body, SECOND, async || {
            log.borrow_mut().push("clean-up");
            anyhow::Ok(())
        })
        .await?;
        assert_eq!(log.take(), ["body dropped", "clean-up"]);
        Ok(())
    });
}

#[test]
fn a_clean_up_that_fails_makes_the_whole_fail() {
    run(async {
        let failed = finally(async { anyhow::Ok(5) }, SECOND, async || bail!("clean-up")).await;
        assert_eq!(failed.unwrap_err().to_string(), "clean-up");
        Ok(())
    });
}

#[test]
fn if_both_fail_both_errors_leave_in_order() {
    run(async {
        let body = async { bail!("body") as anyhow::Result<()> };
        let failed = finally(body, SECOND, async || bail!("clean-up")).await;
        assert_eq!(texts(failed.unwrap_err()), ["body", "clean-up"]);
        Ok(())
    });
}

#[test]
fn if_the_body_was_cancelled_and_the_clean_up_fails_only_the_failure_leaves_the_scope() {
    run(async {
        let left =
            move_on_after(SECOND, finally(forever(), SECOND, async || bail!("clean-up"))).await;
        assert_eq!(texts(left.unwrap_err()), ["clean-up"]);
        Ok(())
    });
}

#[test]
fn a_clean_up_that_overruns_is_cancelled_and_counts_as_too_slow() {
    run(async {
        let start = now();
        let told = Cell::new(false);
        let cleanup = async || {
            let raised = sleep_forever().await;
            told.set(raised.is_err());
            anyhow::Ok(raised?)
        };
        let failed = finally(async { anyhow::Ok(5) }, SECOND, cleanup).await.unwrap_err();
        assert_eq!(failed.downcast_ref::<TooSlow>().unwrap().limit(), Some(SECOND));
        assert!(told.get());
        assert_eq!(now() - start, SECOND);
        // Together with the body's error.
        let body = async { bail!("body") as anyhow::Result<()> };
        let failed = finally(body, SECOND, async || forever().await).await;
        assert_eq!(texts(failed.unwrap_err()), ["body", "not done within 1s"]);
        // And with the body's cancellation: nothing is lost here either.
        let left =
            move_on_after(SECOND, finally(forever(), SECOND, async || forever().await)).await;
        assert_eq!(texts(left.unwrap_err()), ["not done within 1s"]);
        Ok(())
    });
}

#[test]
fn a_clean_up_with_a_limit_of_zero_runs_to_its_first_checkpoint() {
    run(async {
        let steps = Cell::new(0);
        let cleanup = async || {
            steps.set(1);
            checkpoint().await?;
            steps.set(2);
            anyhow::Ok(())
        };
        let failed = finally(async { anyhow::Ok(()) }, Duration::ZERO, cleanup).await;
        assert!(failed.unwrap_err().is::<TooSlow>());
        assert_eq!(steps.get(), 1);
        Ok(())
    });
}

#[test]
fn a_cancellation_that_comes_during_the_clean_up_does_not_interrupt_it() {
    run(async {
        let cleaned = Cell::new(0);
        let scope = CancelScope::new();
        let body = async {
            finally(async { anyhow::Ok(5) }, 2 * SECOND, async || clean(&cleaned).await).await
        };
        let value = scope
            .enter(async {
                let mut whole = pin!(body);
                assert!(poll!(&mut whole).is_pending());
                scope.cancel();
                whole.await
            })
            .await?;
        assert_eq!(cleaned.get(), 1);
        assert_eq!(value, Some(5)); // and there was no checkpoint after it
        assert!(!scope.cancelled_caught());
        Ok(())
    });
}

/// A clean-up whose last act is to raise within its limit keeps the error of a stray cancellation.
#[test]
fn a_clean_up_that_swallows_its_own_overrun_has_succeeded() {
    run(async {
        let cleanup = async || {
            assert!(sleep_forever().await.is_err());
            anyhow::Ok(())
        };
        assert_eq!(finally(async { anyhow::Ok(5) }, SECOND, cleanup).await?, 5);
        Ok(())
    });
}

#[test]
fn nested_clean_ups_run_inside_out() {
    run(async {
        let log = RefCell::new(vec![]);
        let note = async |what: &'static str| {
            sleep(SECOND).await?;
            log.borrow_mut().push(what);
            anyhow::Ok(())
        };
        let inner = finally(forever(), 2 * SECOND, async || note("inner").await);
        let outer = finally(inner, 2 * SECOND, async || note("outer").await);
        assert_eq!(move_on_after(SECOND, outer).await?, None);
        assert_eq!(log.take(), ["inner", "outer"]);
        Ok(())
    });
}

#[test]
fn dropped_it_drops_the_body_and_cleans_nothing_up() {
    run(async {
        let cleaned = Cell::new(0);
        let alive = Rc::new(());
        let baseline = statistics();
        {
            let held = alive.clone();
            let body = async move {
                let _held = held;
                forever().await
            };
            let mut whole = pin!(finally(body, SECOND, async || clean(&cleaned).await));
            assert!(poll!(&mut whole).is_pending());
        }
        assert_eq!(Rc::strong_count(&alive), 1);
        // Dropped during the clean-up, which then does not come to its end.
        {
            let whole =
                finally(async { anyhow::Ok(()) }, 2 * SECOND, async || clean(&cleaned).await);
            let mut whole = pin!(whole);
            assert!(poll!(&mut whole).is_pending());
        }
        // Dropped before it was polled.
        drop(finally(forever(), SECOND, async || clean(&cleaned).await));
        sleep(5 * SECOND).await?;
        assert_eq!(cleaned.get(), 0);
        assert_eq!(statistics(), baseline);
        Ok(())
    });
}

#[test]
fn the_whole_can_fail_with_its_cancellation() {
    run(async {
        let scope = CancelScope::new();
        let seen = RefCell::new(None);
        scope.cancel_because("enough");
        let body = async {
            let left = finally(forever(), SECOND, async || anyhow::Ok(())).await;
            seen.replace(left.as_ref().err().and_then(TaskError::as_cancelled).cloned());
            left
        };
        assert_eq!(scope.enter(body).await?, None);
        assert_eq!(seen.take().unwrap().reason().text(), Some("enough"));
        Ok(())
    });
}
