//! `cancel_everywhere`: what it finds, what it lets through, how many runs it makes, and what it says.

use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use nursery::lowlevel::ParkingLot;
use nursery::{
    CancelScope, Cancelled, cancellable, checkpoint, move_on_after, open_nursery, shield, sleep,
    sleep_forever,
};
use nursery_testing::{CancelEverywhere, Outcome, cancel_everywhere, victim};

const SECOND: Duration = Duration::from_secs(1);

/// The report of a search that is to fail.
#[track_caller]
fn report_of<T: Debug>(search: impl FnOnce() -> T) -> String {
    *catch_unwind(AssertUnwindSafe(search)).unwrap_err().downcast::<String>().unwrap()
}

/// Where a line of this file is.
macro_rules! line {
    ($marker:literal) => {{
        let source = include_str!("cancel_everywhere.rs");
        let at = source.lines().position(|line| line.contains(concat!("// ", $marker)));
        format!("cancel_everywhere.rs:{}", at.expect("marked") + 1)
    }};
}

/// A body that swallows, and what else a body must not do.
type Body = fn() -> Pin<Box<dyn Future<Output = anyhow::Result<()>>>>;

#[test]
fn each_point_is_struck_once_with_a_cancellation_and_once_with_a_drop() {
    let begun = Cell::new(0);
    let done = Cell::new(0);
    let explored = cancel_everywhere(async || {
        begun.set(begun.get() + 1);
        checkpoint().await?;
        checkpoint().await?;
        done.set(done.get() + 1);
        Ok::<(), Cancelled>(())
    });
    // before its first poll; after step 1; before and after step 2; before step 3, and then it was done
    assert_eq!(explored.points, 5);
    assert_eq!(explored.runs, 1 + 2 * 5);
    assert_eq!(begun.get(), 11 - 1, "dropped before its first poll, it never ran");
    // Undisturbed. Cancelled or dropped, it is nowhere too late: the last checkpoint raises still.
    assert_eq!(done.get(), 1);
}

#[test]
fn a_lost_item_is_found_where_it_is_lost() {
    let make = || RefCell::new((vec![1, 2], vec![]));
    let report = report_of(|| {
        CancelEverywhere::new().run_with(
            make,
            async |queues| {
                checkpoint().await?;
                loop {
                    let Some(item) = queues.borrow_mut().0.pop() else { return Ok(()) };
                    checkpoint().await?; // loses it
                    queues.borrow_mut().1.push(item);
                }
            },
            async |queues, _: &Outcome<Cancelled>| {
                let queues = queues.borrow();
                assert_eq!(queues.0.len() + queues.1.len(), 2, "an item is lost");
                Ok(())
            },
        )
    });
    assert!(report.contains("the check does not hold: it panicked: assertion"), "{report}");
    assert!(report.contains("an item is lost"), "{report}");
    assert!(report.contains("it was cancelled at point 3 of 7, under seed"), "{report}");
    assert!(report.contains("when the task \"main\" had come to a yield at"), "{report}");
    assert!(report.contains(&line!("loses it")), "{report}");
    assert!(report.contains("the outcome  cancelled\n"), "{report}");
    assert!(report.contains("cargo test a_lost_item_is_found_where_it_is_lost\n"), "{report}");
}

#[test]
fn a_body_must_end_as_cancelled_or_done() {
    let bad: [(&str, Body); 6] = [
        ("the body swallowed a `Cancelled`, and returned `Ok`", || {
            Box::pin(async {
                checkpoint().await.ok();
                Ok(())
            })
        }),
        ("the body failed when it was disturbed: no luck", || {
            Box::pin(async { checkpoint().await.map_err(|_| anyhow::anyhow!("no luck")) })
        }),
        ("the body panicked: `Cancelled` was not expected", || {
            Box::pin(async {
                checkpoint().await.expect("`Cancelled` was not expected");
                Ok(())
            })
        }),
        ("the body goes on for ever", || {
            Box::pin(async {
                while checkpoint().await.is_err() {}
                Ok(())
            })
        }),
        ("the body fails undisturbed: broken", || Box::pin(async { anyhow::bail!("broken") })),
        ("the body panicked: deadlock: every task waits", || {
            Box::pin(async {
                if checkpoint().await.is_err() {
                    shield(sleep_forever()).await?;
                }
                Ok(())
            })
        }),
    ];
    for (wrong, body) in bad {
        let report = report_of(|| cancel_everywhere(body));
        assert!(report.starts_with(&format!("cancel_everywhere: {wrong}")), "{report}");
    }
}

#[test]
fn what_is_a_failure_can_be_allowed() {
    let swallows = async || {
        checkpoint().await.ok();
        anyhow::Ok(())
    };
    CancelEverywhere::new().may_swallow().run(swallows);
    let failures = Cell::new(0);
    CancelEverywhere::new().may_fail().run_with(
        || (),
        async |()| checkpoint().await.map_err(|_| anyhow::anyhow!("no luck")),
        async |(), outcome| {
            failures.set(failures.get() + usize::from(matches!(outcome, Outcome::Failed(_))));
            Ok(())
        },
    );
    assert_eq!(failures.get(), 3, "before it began, and on both sides of its yield");
}

/// The body of an async closure may leave tasks in places that outlive it.
#[test]
fn what_is_left_behind_is_shown() {
    let report = report_of(|| {
        CancelEverywhere::new().only_drop().run_with(
            || RefCell::new(None),
            async |attic| {
                let mut nap = Box::pin(sleep(SECOND));
                std::future::poll_fn(|cx| {
                    assert!(nap.as_mut().poll(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
                attic.replace(Some(nap));
                Ok::<(), Cancelled>(())
            },
            async |_, _| Ok(()),
        )
    });
    assert!(
        report.starts_with("cancel_everywhere: something is left: 1 wait, 1 deadline\n"),
        "{report}"
    );
    assert!(report.contains("the run      it was not disturbed"), "{report}");
    assert!(report.contains("task \"main\""), "{report}");
}

/// A hand-over to a waiter that is cancelled between the wake-up and its step.
#[test]
fn a_wake_up_that_is_lost_after_the_hand_over_is_found() {
    /// A semaphore whose permit is lost when the waiter it was given to is dropped.
    struct Leaky {
        free: Cell<u32>,
        lot: ParkingLot,
    }
    impl Leaky {
        async fn acquire(&self) -> anyhow::Result<()> {
            checkpoint().await?;
            if self.free.get() > 0 {
                self.free.set(self.free.get() - 1);
            } else {
                self.lot.park().await?; // loses the permit
            }
            Ok(())
        }
        fn release(&self) {
            if self.lot.unpark_one(()).is_err() {
                self.free.set(self.free.get() + 1);
            }
        }
    }
    let search = |search: CancelEverywhere| {
        search.seeds(8).run_with(
            || Leaky { free: Cell::new(1), lot: ParkingLot::new() },
            async |leaky| {
                open_nursery(async |n| {
                    n.start_soon(victim(async {
                        leaky.acquire().await?;
                        leaky.release();
                        anyhow::Ok(())
                    }));
                    leaky.acquire().await?;
                    for _ in 0..4 {
                        checkpoint().await?;
                    }
                    leaky.release();
                    Ok(())
                })
                .await
            },
            async |leaky, outcome| {
                assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
                assert_eq!(leaky.free.get(), 1);
                Ok(())
            },
        )
    };
    // The lot itself keeps its promise: a wake-up that was given is not taken back by a later cancellation.
    search(CancelEverywhere::new().only_cancel());
    let report = report_of(|| search(CancelEverywhere::new().only_drop()));
    assert!(report.contains("the run      victim 1 was dropped at point"), "{report}");
    assert!(report.contains("the check does not hold"), "{report}");
}

#[test]
fn a_victim_is_struck_and_the_rest_goes_on() {
    let (mut ends, struck) = ([0, 0], Cell::new(0));
    let both = Cell::new((0, 0));
    let explored = cancel_everywhere(async || {
        open_nursery(async |n| {
            let [a, b] = [1, 2].map(|yields| {
                n.start_soon(victim(async move {
                    for _ in 0..yields {
                        checkpoint().await?;
                    }
                    Ok::<(), Cancelled>(())
                }))
            });
            let ended = (a.await?, b.await?);
            let (none_a, none_b) = both.get();
            both.set((
                none_a + usize::from(ended.0.is_none()),
                none_b + usize::from(ended.1.is_none()),
            ));
            struck.set(struck.get() + 1);
            Ok(())
        })
        .await
    });
    (ends[0], ends[1]) = both.get();
    assert_eq!(struck.get(), explored.runs, "the rest goes on in every run");
    assert!(ends[0] >= 4 && ends[1] > ends[0], "{ends:?}");
    assert!(explored.runs > ends[0] + ends[1], "one run at least was not disturbed");
}

#[test]
fn outside_a_victim_is_what_it_wraps() {
    let got = nursery_testing::run(victim(async {
        checkpoint().await?;
        Ok::<_, Cancelled>(42)
    }));
    assert_eq!(got.unwrap(), Some(42));
}

#[test]
fn pairs_drop_what_is_cleaning_up() {
    let interrupted = Cell::new(0);
    struct Note<'a>(&'a Cell<u32>, bool);
    impl Drop for Note<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + u32::from(!self.1));
        }
    }
    let body = async || {
        let result = checkpoint().await;
        let mut note = Note(&interrupted, false);
        shield(sleep(SECOND)).await?; // the clean-up
        note.1 = true;
        result
    };
    let singles = CancelEverywhere::new().only_cancel().run(body);
    assert_eq!(interrupted.take(), 0);
    let pairs = CancelEverywhere::new().only_cancel().pairs().run(body);
    assert!(interrupted.get() > 0);
    assert_eq!(pairs.points, singles.points);
    let report = report_of(|| {
        CancelEverywhere::new().only_cancel().pairs().run_with(
            || (),
            async |()| body().await,
            async |(), outcome| {
                assert!(!matches!(outcome, Outcome::Dropped), "interrupted");
                Ok(())
            },
        )
    });
    assert!(
        report.contains("it was cancelled at point 0 of 5, then dropped at point 1,"),
        "{report}"
    );
    let both =
        "the point    before it began; and then when the task \"main\" had come to a yield at";
    assert!(report.contains(both), "{report}");
    assert!(pairs.runs > 2 * singles.runs);
}

#[test]
fn a_limit_spreads_its_points() {
    let seen = RefCell::new(vec![]);
    let ten = |search: CancelEverywhere| {
        seen.take();
        search.run_with(
            || Cell::new(0),
            async |steps| {
                for _ in 0..10 {
                    checkpoint().await?;
                    steps.set(steps.get() + 1);
                }
                Ok::<(), Cancelled>(())
            },
            async |steps, _| {
                seen.borrow_mut().push(steps.get());
                Ok(())
            },
        )
    };
    let all = ten(CancelEverywhere::new().only_cancel());
    assert_eq!(all.points, 21);
    let some = ten(CancelEverywhere::new().only_cancel().limit(3));
    assert_eq!((some.points, some.runs), (3, 4));
    assert_eq!(*seen.borrow(), [10, 0, 4, 9], "undisturbed; the first, the middle, the last");
    assert_eq!(ten(CancelEverywhere::new().limit(1)).runs, 3);
    assert_eq!(ten(CancelEverywhere::new().limit(1000)).points, 21);
}

#[test]
fn seeds_multiply_the_runs() {
    let body = async || checkpoint().await;
    let one = CancelEverywhere::new().run(body);
    let many = CancelEverywhere::new().seeds(5).run(body);
    assert_eq!((many.points, many.runs), (5 * one.points, 5 * one.runs));
}

/// Scopes of its own, with deadlines, may absorb what is theirs; and waits may be for something outside.
#[test]
fn bodies_that_behave_pass() {
    let explored = CancelEverywhere::new().pairs().seeds(2).run(async || {
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async { Ok(sleep(SECOND).await?) });
            n.start_soon(async {
                assert!(move_on_after(SECOND / 2, sleep_forever()).await?.is_none());
                let foreign = cancellable(pending::<()>());
                assert!(move_on_after(SECOND / 2, foreign).await?.is_none());
                anyhow::Ok(())
            });
            let scope = CancelScope::new();
            scope.cancel();
            assert!(scope.enter(checkpoint()).await?.is_none());
            n.start(async |status| {
                checkpoint().await?;
                status.started(());
                Ok(checkpoint().await?)
            })
            .await
        })
        .await
    });
    assert!(explored.points > 20 * explored.seeds, "{explored:?}");
}

/// The report in the docs of `cancel_everywhere`, whole.
#[test]
fn a_report_is_complete() {
    let report = report_of(|| {
        CancelEverywhere::new().run_with(
            || (RefCell::new(vec![1, 2, 3]), RefCell::new(vec![])),
            async |(jobs, results)| {
                loop {
                    checkpoint().await?;
                    let Some(job) = jobs.borrow_mut().pop() else { return Ok(()) };
                    checkpoint().await?; // the work
                    results.borrow_mut().push(job * job);
                }
            },
            async |(jobs, results), _: &Outcome<Cancelled>| {
                assert_eq!(jobs.borrow().len() + results.borrow().len(), 3, "a job is lost");
                Ok(())
            },
        )
    });
    let place = format!("tests/{}", line!("the work"));
    let expected = format!(
        "cancel_everywhere: the check does not hold: it panicked: assertion `left == right` failed: a job is lost\n  \
           left: 2\n \
          right: 3\n\
         \n\
         the run      it was cancelled at point 3 of 15, under seed 0\n\
         the point    when the task \"main\" had come to a yield at {place}\n\
         the raise    {place}\n\
         the outcome  cancelled\n\
         to repeat    SEED=0 cargo test a_report_is_complete\n"
    );
    assert_eq!(report, expected);
}
