//! `Test`: its settings, and its time limit.

use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use nursery::lowlevel::{Instrument, TaskId, points};
use nursery::{
    Cancelled, cancellable, checkpoint, now, open_nursery, shield, sleep, sleep_forever,
};
use nursery_testing::{MockClock, Test};

const SECOND: Duration = Duration::from_secs(1);
/// Of real time: it passes, in full, in each test of something that hangs.
const LIMIT: Duration = Duration::from_millis(5);

#[track_caller]
fn panic_of(f: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(f)).unwrap_err();
    let literal = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    literal.unwrap_or_else(|| *panic.downcast::<String>().unwrap())
}

/// A test with a time limit that is too short for it, in a program that does not end.
fn hang(f: impl AsyncFnOnce() -> Result<(), Cancelled>) -> String {
    panic_of(|| Test::new().time_limit(LIMIT).run(f()).unwrap())
}

#[test]
fn a_test_that_waits_for_the_outside_for_ever_fails_with_its_tree() {
    let text = hang(async || {
        open_nursery(async |n| {
            n.start_soon(cancellable(pending::<()>())).set_name("reader");
            Ok(())
        })
        .await
    });
    assert!(text.starts_with("the test is not done after 5ms of real time\n"), "{text}");
    assert!(text.contains("task \"main\""), "{text}");
    assert!(text.contains("task \"reader\""), "{text}");
    assert!(text.contains("waits for a foreign future"), "{text}");
}

/// The virtual clock stands still meanwhile.
#[test]
fn a_test_that_goes_on_for_ever_fails_too() {
    let text = hang(async || {
        let start = now();
        loop {
            checkpoint().await?;
            assert_eq!(now(), start);
        }
    });
    assert!(text.contains("not done after 5ms"), "{text}");
    assert!(text.contains("task \"main\""), "{text}");
}

/// It is not asked to end: it is dropped.
#[test]
fn a_shield_does_not_keep_it() {
    let text = hang(async || shield(cancellable(pending::<()>())).await);
    assert!(text.contains("shielded"), "{text}");
}

#[test]
fn what_is_done_in_time_is_not_touched() {
    let test = || Test::new().time_limit(3600 * SECOND);
    assert_eq!(test().run(async { Ok::<_, Cancelled>(42) }).unwrap(), 42);
    let before = test().run(async {
        let start = now();
        sleep(24 * 3600 * SECOND).await?; // not of real time
        Ok::<_, Cancelled>(now() - start)
    });
    assert_eq!(before.unwrap(), 24 * 3600 * SECOND);
    let error = test().run(async { anyhow::bail!("its own") as anyhow::Result<()> }).unwrap_err();
    assert_eq!(error.to_string(), "its own");
    let deadlock = panic_of(|| drop(test().run(async { sleep_forever().await })));
    assert!(deadlock.starts_with("deadlock"), "{deadlock}");
}

#[test]
fn a_test_within_a_run_is_refused_with_or_without_a_limit() {
    for limit in [None, Some(SECOND)] {
        let text = panic_of(|| {
            Test::new()
                .run(async {
                    let inner =
                        limit.into_iter().fold(Test::new(), |test, limit| test.time_limit(limit));
                    inner.run(async { Ok::<(), Cancelled>(()) })
                })
                .unwrap();
        });
        assert!(text.starts_with("`run` was called inside a run"), "{text}");
    }
}

/// Trio's `trio_test`: clock and instruments are chosen by the test.
#[test]
fn settings_are_the_runs() {
    struct Nobody;
    impl Instrument for Nobody {
        fn task_spawned(&self, _: TaskId) {
            panic!("called");
        }
    }
    let clock = MockClock::new();
    let instrument = Rc::new(Nobody);
    let test = Test::new().clock(&clock).instrument(instrument.clone()).checkpoint_budget(3);
    assert_eq!(Rc::strong_count(&instrument), 2);
    let text = format!("{test:?}");
    assert!(text.contains("checkpoint_budget: 3, clock: Given(MockClock"), "{text}");
    test.run(async {
        assert_eq!(now(), nursery::Clock::now(&clock));
        let before = points();
        checkpoint().await?;
        checkpoint().await?;
        assert_eq!(points().schedule, before.schedule);
        checkpoint().await?;
        assert_eq!(points().schedule, before.schedule + 1);
        Ok::<(), Cancelled>(())
    })
    .unwrap();
    assert_eq!(Rc::strong_count(&instrument), 1, "it was told, panicked, and was let go");
}

#[test]
fn each_run_has_a_jumping_clock_of_its_own() {
    let test = Test::new();
    for _ in 0..2 {
        let slept = test.clone().run(async {
            let start = now();
            sleep(SECOND).await?;
            Ok::<_, Cancelled>(now() - start)
        });
        assert_eq!(slept.unwrap(), SECOND);
    }
}

#[test]
fn on_the_real_clock_time_passes_by_itself() {
    let mut polls = 0;
    let main = async {
        let (start, mut nap) = (now(), std::pin::pin!(sleep(Duration::from_millis(1))));
        poll_fn(|cx| {
            polls += 1;
            match nap.as_mut().poll(cx) {
                Poll::Ready(result) => Poll::Ready(result),
                Poll::Pending => Poll::Pending,
            }
        })
        .await?;
        Ok::<_, Cancelled>(now() - start)
    };
    assert!(Test::new().real_clock().run(main).unwrap() >= Duration::from_millis(1));
    assert_eq!(polls, 2, "it waited, and was woken once");
}
