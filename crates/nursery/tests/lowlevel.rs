//! The halves of a checkpoint, the points that are counted, and `lowlevel::cancelled`, for operations that cannot stop.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use futures_concurrency::future::Join;
use nursery::lowlevel::{
    self, ParkingLot, cancel_shielded_checkpoint, checkpoint_if_cancelled, wait_all_tasks_blocked,
};
use nursery::{
    CancelScope, CancelSource, Cancelled, cancellable, checkpoint, move_on_after, open_nursery,
    shield, sleep, sleep_forever,
};
use nursery_testing::Test;

async fn settle() -> Result<(), Cancelled> {
    wait_all_tasks_blocked(Duration::ZERO).await
}

/// Polls a future once, with the waker of the current task.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}

/// How many cancel points and schedule points `f` passes.
async fn points<F: Future>(f: F) -> (F::Output, u32, u32) {
    let before = lowlevel::points();
    let output = f.await;
    let after = lowlevel::points();
    (output, after.cancel - before.cancel, after.schedule - before.schedule)
}

/// `trivial_yields`, A68–A72, D3: what is a cancel point, and what a schedule point.
#[test]
fn what_each_primitive_passes() {
    nursery_testing::run(async {
        let lot = ParkingLot::<()>::new();
        let now = nursery::now();
        let (result, cancel, schedule) = points(checkpoint()).await;
        assert_eq!((result.is_ok(), cancel, schedule), (true, 1, 1));
        let (result, cancel, schedule) = points(checkpoint_if_cancelled()).await;
        assert_eq!((result.is_ok(), cancel, schedule), (true, 1, 0));
        let ((), cancel, schedule) = points(cancel_shielded_checkpoint()).await;
        assert_eq!((cancel, schedule), (0, 1));
        let (result, cancel, schedule) = points(sleep(Duration::ZERO)).await;
        assert_eq!((result.is_ok(), cancel, schedule), (true, 1, 1));
        let (result, cancel, schedule) = points(nursery::sleep_until(now)).await;
        assert_eq!((result.is_ok(), cancel, schedule), (true, 1, 1));
        let (result, cancel, schedule) = points(sleep(Duration::from_secs(1))).await;
        assert_eq!((result.is_ok(), cancel, schedule), (true, 1, 1));
        let (result, cancel, schedule) = points(cancellable(async {})).await;
        assert_eq!((result.is_ok(), cancel, schedule), (true, 1, 1));
        // Scopes are no checkpoints of their own.
        let body = async || Ok::<_, Cancelled>(());
        assert_eq!(points(CancelScope::new().enter(body())).await.1, 0);
        let (_, cancel, schedule) = points(move_on_after(Duration::from_secs(1), body())).await;
        assert_eq!((cancel, schedule), (0, 0));
        let (_, cancel, schedule) = points(shield(body())).await;
        assert_eq!((cancel, schedule), (0, 0));
        // What is sync passes none.
        let before = lowlevel::points();
        lot.unpark_all();
        CancelScope::new().cancel();
        let _ = (lowlevel::is_cancelled(), lowlevel::statistics(), nursery::tree());
        assert_eq!(lowlevel::points(), before);
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// A69, A71: cancelled, the cancel points raise, after a yield.
#[test]
fn what_each_primitive_passes_when_it_is_cancelled() {
    nursery_testing::run(async {
        let scope = CancelScope::new();
        scope.cancel();
        let body = async {
            let (result, cancel, schedule) = points(checkpoint()).await;
            assert_eq!((result.is_err(), cancel, schedule), (true, 1, 1));
            let (result, cancel, schedule) = points(checkpoint_if_cancelled()).await;
            assert_eq!((result.is_err(), cancel, schedule), (true, 1, 1));
            let ((), cancel, schedule) = points(cancel_shielded_checkpoint()).await;
            assert_eq!((cancel, schedule), (0, 1));
            let (result, cancel, schedule) = points(sleep(Duration::from_secs(1))).await;
            assert_eq!((result.is_err(), cancel, schedule), (true, 1, 1));
            let (result, cancel, schedule) = points(sleep_forever()).await;
            assert_eq!((result.is_err(), cancel, schedule), (true, 1, 1));
            let (result, cancel, schedule) = points(cancellable(async {})).await;
            assert_eq!((result.is_err(), cancel, schedule), (true, 1, 1));
            let (result, cancel, schedule) = points(ParkingLot::<()>::new().park()).await;
            assert_eq!((result.is_err(), cancel, schedule), (true, 1, 1));
            Ok::<_, Cancelled>(())
        };
        assert!(scope.enter(body).await?.is_some());
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// B20, B21, the nursery half of `trivial_yields`: its end is a schedule point, and no cancel point.
#[test]
fn the_end_of_a_nursery_schedules_once_and_does_not_raise() {
    nursery_testing::run(async {
        let (result, cancel, schedule) =
            points(open_nursery(async |_| Ok::<_, Cancelled>(1))).await;
        assert_eq!((result?, cancel, schedule), (1, 0, 1));
        let scope = CancelScope::new();
        scope.cancel();
        let body = async {
            let (result, cancel, schedule) =
                points(open_nursery(async |_| Ok::<_, Cancelled>(2))).await;
            assert_eq!((result?, cancel, schedule), (2, 0, 1));
            let (result, cancel, schedule) = points(open_nursery(async |n| {
                n.start_soon(async { Ok(()) });
                Ok::<_, Cancelled>(3)
            }))
            .await;
            assert_eq!((result?, cancel), (3, 0));
            assert!(schedule >= 1);
            Ok::<_, Cancelled>(())
        };
        assert!(scope.enter(body).await?.is_some());
        assert!(!scope.cancelled_caught());
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// Each task has its own counts.
#[test]
fn points_are_counted_for_each_task() {
    nursery_testing::run(async {
        let before = lowlevel::points();
        open_nursery(async |n| {
            n.start_soon(async {
                assert_eq!((lowlevel::points().cancel, lowlevel::points().schedule), (0, 0));
                for _ in 0..10 {
                    checkpoint().await?;
                }
                assert_eq!(lowlevel::points().cancel, 10);
                Ok(())
            });
            Ok::<_, Cancelled>(())
        })
        .await?;
        let after = lowlevel::points();
        assert_eq!((after.cancel - before.cancel, after.schedule - before.schedule), (0, 1));
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// `checkpoint_if_cancelled` does not see what is not cancelled yet; it lets nobody run.
#[test]
fn a_check_that_finds_nothing_does_not_let_others_run() {
    nursery_testing::run(async {
        let ran = RefCell::new(false);
        open_nursery(async |n| {
            n.start_soon(async {
                ran.replace(true);
                Ok(())
            });
            for _ in 0..100 {
                checkpoint_if_cancelled().await?;
            }
            assert!(!*ran.borrow());
            cancel_shielded_checkpoint().await;
            Ok::<_, Cancelled>(())
        })
        .await?;
        assert!(*ran.borrow());
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// `failed_abort`: an operation that refuses to be interrupted defers the cancellation to its end.
#[test]
fn failed_abort() {
    for seed in 0..20 {
        let record = RefCell::new(vec![]);
        Test::new()
            .seed(seed)
            .run(async {
                let (lot, scope) = (ParkingLot::<i32>::new(), CancelScope::new());
                open_nursery(async |n| -> anyhow::Result<()> {
                    n.start_soon(async {
                        let stubborn = async {
                            record.borrow_mut().push("sleep");
                            assert_eq!(shield(lot.park()).await?, 1);
                            record.borrow_mut().push("woke");
                            if checkpoint_if_cancelled().await.is_err() {
                                record.borrow_mut().push("cancelled");
                            }
                            anyhow::Ok(())
                        };
                        scope.enter(stubborn).await?;
                        Ok(())
                    });
                    settle().await?;
                    assert_eq!(*record.borrow(), ["sleep"]);
                    scope.cancel();
                    settle().await?;
                    assert_eq!(*record.borrow(), ["sleep"], "not woken");
                    lot.unpark_one(1).unwrap();
                    Ok(())
                })
                .await
            })
            .unwrap();
        assert_eq!(record.take(), ["sleep", "woke", "cancelled"]);
    }
}

/// An operation that is told of its cancellation, and ends some time later, with it.
async fn slow_to_stop(
    lot: &ParkingLot<()>,
    record: &RefCell<Vec<&'static str>>,
) -> Result<(), Cancelled> {
    let told = async {
        let cancelled = lowlevel::cancelled().await;
        record.borrow_mut().push("abort called");
        cancelled
    };
    let done = shield(lot.park());
    let (cancelled, done) = (told, done).join().await;
    done.unwrap();
    Err(cancelled)
}

/// `slow_abort_basic`: entered cancelled, it is told at once, and raises when it is done.
#[test]
fn slow_abort_basic() {
    nursery_testing::run(async {
        let (lot, record) = (ParkingLot::new(), RefCell::new(vec![]));
        open_nursery(async |n| {
            let scope = CancelScope::new();
            scope.cancel();
            let slow = n.start_soon(async {
                Ok::<_, Cancelled>(slow_to_stop(&lot, &record).await.unwrap_err())
            });
            slow.cancel();
            settle().await?;
            assert_eq!(*record.borrow(), ["abort called"]);
            assert!(!slow.is_finished());
            lot.unpark_all();
            let raised = slow.await?;
            assert_eq!(raised.reason().source(), CancelSource::Explicit);
            Ok::<_, Cancelled>(())
        })
        .await
    })
    .unwrap();
}

/// `slow_abort_edge_cases`, A13, A30, A32: told once; what was delivered stays delivered, though a shield goes up.
#[test]
fn slow_abort_edge_cases() {
    for seed in 0..20 {
        Test::new()
            .seed(seed)
            .run(async {
                let (lot, record) = (ParkingLot::new(), RefCell::new(vec![]));
                let (outer1, outer2) = (CancelScope::new(), CancelScope::new());
                let nursery_scope = RefCell::new(None);
                let body = async {
                    open_nursery(async |n| {
                        nursery_scope.replace(Some(n.cancel_scope().clone()));
                        n.start_soon(async {
                            record.borrow_mut().push("sleeping");
                            slow_to_stop(&lot, &record).await.unwrap_err();
                            record.borrow_mut().push("cancelled");
                            checkpoint().await.expect("shielded by now");
                            record.borrow_mut().push("done");
                            Ok(())
                        });
                        Ok::<_, Cancelled>(())
                    })
                    .await
                };
                open_nursery(async |n| {
                    n.start_soon(async {
                        outer1.enter(async { outer2.enter(body).await }).await?;
                        Ok(())
                    });
                    settle().await?;
                    assert_eq!(*record.borrow(), ["sleeping"]);
                    outer1.cancel_because("the first");
                    outer2.cancel();
                    // Before the operation could run, the task is shielded.
                    nursery_scope.take().unwrap().set_shield(true);
                    settle().await?;
                    assert_eq!(*record.borrow(), ["sleeping", "abort called"]);
                    lot.unpark_all();
                    Ok::<_, Cancelled>(())
                })
                .await?;
                assert_eq!(*record.borrow(), ["sleeping", "abort called", "cancelled", "done"]);
                Ok::<_, Cancelled>(())
            })
            .unwrap();
    }
}

/// The cancellation that is delivered is a value: it can be looked at without being raised.
#[test]
fn cancelled_is_sticky_and_carries_the_reason() {
    nursery_testing::run(async {
        let scope = CancelScope::new();
        let result = scope
            .enter(async {
                let mut told = pin!(lowlevel::cancelled());
                assert!(poll_once(&mut told).await.is_pending());
                scope.cancel_because("stop");
                scope.set_shield(true); // shields from outside only
                let Poll::Ready(cancelled) = poll_once(&mut told).await else { panic!("told") };
                assert_eq!(cancelled.reason().text(), Some("stop"));
                assert_eq!(cancelled.reason().task(), Some("main"));
                // Asked again, in the same state: at once.
                assert!(poll_once(&mut pin!(lowlevel::cancelled())).await.is_ready());
                // Behind a shield of its own it is not told.
                let told =
                    shield(async { poll_once(&mut pin!(lowlevel::cancelled())).await }).await;
                assert!(told.is_pending());
                Ok::<_, Cancelled>("its value stands")
            })
            .await?;
        assert_eq!(result, Some("its value stands"));
        assert!(!scope.cancelled_caught());
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// Dropped, it leaves nothing behind.
#[test]
fn cancelled_can_be_dropped() {
    nursery_testing::run(async {
        let scope = CancelScope::new();
        scope
            .enter(async {
                let mut told = Box::pin(lowlevel::cancelled());
                assert!(poll_once(&mut told).await.is_pending());
                assert_eq!(lowlevel::statistics().waits, 1);
                drop(told);
                assert_eq!(lowlevel::statistics().waits, 0);
                scope.cancel();
                checkpoint().await.unwrap_err();
                Ok::<_, Cancelled>(())
            })
            .await?;
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// `is_cancelled` says what the next checkpoint will do, and is none itself.
#[test]
fn is_cancelled_asks_without_raising() {
    nursery_testing::run(async {
        assert!(!lowlevel::is_cancelled());
        let (outer, inner) = (CancelScope::new(), CancelScope::new());
        outer.cancel();
        outer
            .enter(async {
                assert!(lowlevel::is_cancelled());
                inner.set_shield(true);
                let body = async {
                    assert!(!lowlevel::is_cancelled());
                    inner.set_shield(false);
                    assert!(lowlevel::is_cancelled());
                    inner.set_shield(true);
                    assert!(!lowlevel::is_cancelled());
                    checkpoint().await?;
                    inner.cancel();
                    assert!(lowlevel::is_cancelled());
                    Ok::<_, Cancelled>(())
                };
                inner.enter(body).await?;
                assert!(lowlevel::is_cancelled());
                Ok::<_, Cancelled>(())
            })
            .await?;
        assert!(!lowlevel::is_cancelled());
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}
