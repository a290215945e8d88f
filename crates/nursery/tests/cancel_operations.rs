//! Every operation that waits, cancelled and dropped at each point of its life, and against a deadline.
//!
//! The points: before its first poll, while it waits, after its wake-up has been committed.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_util::poll;
use nursery::lowlevel::{
    ParkingLot, cancel_shielded_checkpoint, checkpoint_if_cancelled, statistics,
    wait_all_tasks_blocked,
};
use nursery::{
    CancelScope, Child, cancellable, checkpoint, move_on_after, move_on_at, now, open_nursery,
    shield, sleep, sleep_forever, sleep_until,
};
use nursery_testing::{MockClock, Test};
use tokio::sync::oneshot;

const SECOND: Duration = Duration::from_secs(1);

fn run<T>(main: impl Future<Output = anyhow::Result<T>>) -> T {
    nursery_testing::run(main).unwrap()
}

/// Lets everybody run who can, whether or not the caller is cancelled.
async fn turns() {
    for _ in 0..3 {
        cancel_shielded_checkpoint().await;
    }
}

/// Cancels an operation before its first poll and, if `waits`, while it waits; drops it there too.
///
/// `make` gives a new operation each time, one that would wait unless it is a bare checkpoint.
async fn cancel_and_drop<F, T, E>(what: &str, mut make: impl FnMut() -> F) -> anyhow::Result<()>
where
    F: Future<Output = Result<T, E>>,
{
    let baseline = statistics();
    // Cancelled before the first poll.
    let scope = CancelScope::new();
    scope.cancel();
    scope
        .enter(async {
            for _ in 0..3 {
                assert!(make().await.is_err(), "{what}: cancelled before its first poll");
            }
            anyhow::Ok(())
        })
        .await?;
    // Cancelled while it waits.
    let scope = CancelScope::new();
    scope
        .enter(async {
            let mut operation = pin!(make());
            assert!(poll!(&mut operation).is_pending(), "{what}: waits");
            scope.cancel();
            assert!(operation.await.is_err(), "{what}: cancelled while it waited");
            anyhow::Ok(())
        })
        .await?;
    assert_eq!(statistics(), baseline, "{what}: cancelled, it left nothing");
    // Dropped before its first poll, while it waits, and after it was cancelled.
    drop(make());
    {
        let mut operation = Box::pin(make());
        assert!(poll!(&mut operation).is_pending());
        drop(operation);
    }
    let scope = CancelScope::new();
    scope
        .enter(async {
            let mut operation = Box::pin(make());
            assert!(poll!(&mut operation).is_pending());
            scope.cancel();
            drop(operation);
            anyhow::Ok(())
        })
        .await?;
    assert_eq!(statistics(), baseline, "{what}: dropped, it left nothing");
    // A deadline while it waits.
    let start = now();
    assert!(
        move_on_after(Duration::ZERO, async { anyhow::Ok(make().await.is_err()) }).await?
            == Some(true),
        "{what}: a time limit of zero"
    );
    assert_eq!(now(), start);
    assert_eq!(statistics(), baseline, "{what}: at rest");
    Ok(())
}

/// For operations that wait for longer than a second: a deadline ends them exactly when it is due.
async fn ends_at_deadline<F, T, E>(what: &str, make: impl FnOnce() -> F) -> anyhow::Result<()>
where
    F: Future<Output = Result<T, E>>,
    anyhow::Error: From<E>,
{
    let baseline = statistics();
    let start = now();
    let ended = move_on_after(SECOND, async { Ok(make().await?) }).await;
    assert!(ended.map_err(|e: anyhow::Error| e)?.is_none(), "{what}: the time was up");
    assert_eq!(now(), start + SECOND, "{what}: on time");
    assert_eq!(statistics(), baseline, "{what}: at rest");
    Ok(())
}

#[test]
fn sleeping() {
    run(async {
        cancel_and_drop("sleep", || sleep(SECOND)).await?;
        cancel_and_drop("sleep(0)", || sleep(Duration::ZERO)).await?;
        cancel_and_drop("sleep_until", || sleep_until(now() + SECOND)).await?;
        cancel_and_drop("sleep_until, passed", || sleep_until(now())).await?;
        cancel_and_drop("sleep_forever", sleep_forever).await?;
        ends_at_deadline("sleep", || sleep(2 * SECOND)).await?;
        ends_at_deadline("sleep_forever", sleep_forever).await
    });
}

#[test]
fn checkpoints() {
    run(async {
        cancel_and_drop("checkpoint", checkpoint).await?;
        let scope = CancelScope::new();
        scope
            .enter(async {
                drop(checkpoint_if_cancelled());
                scope.cancel();
                let mut half = Box::pin(checkpoint_if_cancelled());
                assert!(poll!(&mut half).is_pending()); // it yields before it raises
                drop(half);
                assert!(checkpoint_if_cancelled().await.is_err());
                anyhow::Ok(())
            })
            .await?;
        Ok(())
    });
}

#[test]
fn parking() {
    run(async {
        let lot = ParkingLot::<i32>::new();
        cancel_and_drop("park", || lot.park()).await?;
        assert!(lot.is_empty());
        ends_at_deadline("park", || lot.park()).await?;
        assert_eq!(lot.unpark_one(1), Err(1));
        Ok(())
    });
}

#[test]
fn foreign_futures() {
    run(async {
        cancel_and_drop("cancellable", || cancellable(pending::<()>())).await?;
        let (_tx, mut rx) = oneshot::channel::<()>();
        ends_at_deadline("cancellable", || cancellable(&mut rx).inside()).await
    });
}

#[test]
fn waiting_for_a_child() {
    run(async {
        open_nursery(async |n| -> anyhow::Result<()> {
            // Children that never end: cancelling or dropping what waits for them leaves them alone.
            let children: Vec<_> = (0..16).map(|_| n.start_soon(sleeper())).collect();
            let mut children = children.into_iter();
            wait_all_tasks_blocked(Duration::ZERO).await?;
            let alive = statistics().tasks_living;
            let mut next = || children.next().unwrap();
            cancel_and_drop("child", &mut next).await?;
            ends_at_deadline("child", &mut next).await?;
            assert_eq!(statistics().tasks_living, alive);
            n.cancel_scope().cancel();
            Ok(())
        })
        .await
    });
}

async fn sleeper() -> anyhow::Result<()> {
    Ok(sleep_forever().await?)
}

#[test]
fn waiting_for_all_tasks_to_block() {
    run(async {
        cancel_and_drop("wait_all_tasks_blocked", || wait_all_tasks_blocked(Duration::ZERO)).await
    });
}

/// A dropped `wait_all_tasks_blocked` with a long cushion must not hold the clock for as long.
#[test]
fn a_dropped_wait_for_all_tasks_does_not_hold_the_clock() {
    run(async {
        {
            let mut long = pin!(wait_all_tasks_blocked(Duration::from_secs(3600)));
            assert!(poll!(&mut long).is_pending());
        }
        sleep(SECOND).await?;
        Ok(())
    });
}

// After the wake-up has been committed

#[test]
fn a_sleep_that_is_over_is_cancelled_nevertheless() {
    let clock = MockClock::new();
    Test::new()
        .clock(&clock)
        .run(async {
            let scope = CancelScope::new();
            scope
                .enter(async {
                    let mut over = pin!(sleep(SECOND));
                    assert!(poll!(&mut over).is_pending());
                    clock.jump(SECOND);
                    turns().await;
                    scope.cancel(); // nothing is lost: a sleep has no value
                    assert!(over.await.is_err());
                    anyhow::Ok(())
                })
                .await?;
            // Without the cancellation, it is over; dropped there, it leaves nothing.
            let baseline = statistics();
            let mut over = Box::pin(sleep(SECOND));
            assert!(poll!(&mut over).is_pending());
            clock.jump(SECOND);
            turns().await;
            assert!(matches!(poll!(&mut over), Poll::Ready(Ok(()))));
            let mut over = Box::pin(sleep(SECOND));
            assert!(poll!(&mut over).is_pending());
            clock.jump(SECOND);
            turns().await;
            drop(over);
            assert_eq!(statistics(), baseline);
            anyhow::Ok(())
        })
        .unwrap();
}

#[test]
fn what_was_handed_to_a_parked_task_is_returned_in_spite_of_a_cancellation() {
    run(async {
        let lot = ParkingLot::<i32>::new();
        let scope = CancelScope::new();
        scope
            .enter(async {
                let mut parked = pin!(lot.park());
                assert!(poll!(&mut parked).is_pending());
                lot.unpark_one(7).unwrap();
                scope.cancel();
                assert_eq!(parked.await?, 7);
                assert!(checkpoint().await.is_err());
                anyhow::Ok(())
            })
            .await?;
        Ok(())
    });
}

#[test]
fn what_was_handed_to_a_parked_task_is_dropped_with_it_and_can_pass_itself_on() {
    struct Permit(Rc<ParkingLot<Permit>>, Rc<Cell<u32>>);
    impl Drop for Permit {
        fn drop(&mut self) {
            self.1.set(self.1.get() + 1);
            if self.1.get() == 1 {
                let again = Permit(self.0.clone(), self.1.clone());
                assert!(self.0.unpark_one(again).is_ok(), "somebody else waits");
            }
        }
    }
    run(async {
        let (lot, drops) = (Rc::new(ParkingLot::new()), Rc::new(Cell::new(0)));
        let baseline = statistics();
        let (mut first, mut second) = (Box::pin(lot.park()), Box::pin(lot.park()));
        assert!(poll!(&mut first).is_pending());
        assert!(poll!(&mut second).is_pending());
        assert!(lot.unpark_one(Permit(lot.clone(), drops.clone())).is_ok());
        drop(first);
        assert_eq!(drops.get(), 1);
        drop(second.await?);
        assert_eq!(drops.get(), 2);
        assert_eq!(statistics(), baseline);
        Ok(())
    });
}

#[test]
fn a_result_that_is_there_is_returned_in_spite_of_a_cancellation() {
    run(async {
        let scope = CancelScope::new();
        scope
            .enter(async {
                let (tx, rx) = oneshot::channel();
                let mut foreign = pin!(cancellable(rx));
                assert!(poll!(&mut foreign).is_pending());
                tx.send(5).unwrap();
                scope.cancel();
                assert_eq!(foreign.await?, Ok(5));
                anyhow::Ok(())
            })
            .await?;
        // A future that was ready at once, cancelled while the operation yields.
        let scope = CancelScope::new();
        scope
            .enter(async {
                let mut foreign = pin!(cancellable(async { 6 }));
                assert!(poll!(&mut foreign).is_pending());
                scope.cancel();
                assert_eq!(foreign.await?, 6);
                anyhow::Ok(())
            })
            .await?;
        Ok(())
    });
}

#[test]
fn a_foreign_future_is_not_polled_when_cancelled_first_and_dropped_when_cancelled_later() {
    struct Probe<'a>(&'a RefCell<Vec<&'static str>>);
    impl Future for Probe<'_> {
        type Output = ();
        fn poll(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<()> {
            self.0.borrow_mut().push("polled");
            Poll::Pending
        }
    }
    impl Drop for Probe<'_> {
        fn drop(&mut self) {
            self.0.borrow_mut().push("dropped");
        }
    }
    run(async {
        let log = RefCell::new(vec![]);
        let scope = CancelScope::new();
        scope.cancel();
        scope.enter(cancellable(Probe(&log))).await?;
        assert_eq!(log.take(), ["dropped"]);
        let scope = CancelScope::new();
        scope
            .enter(async {
                let mut foreign = pin!(cancellable(Probe(&log)));
                assert!(poll!(&mut foreign).is_pending());
                scope.cancel();
                assert!(foreign.as_mut().await.is_err());
                // Dropped by the cancellation, not with the operation.
                assert_eq!(log.take().last(), Some(&"dropped"));
                anyhow::Ok(())
            })
            .await?;
        assert!(log.take().is_empty());
        Ok(())
    });
}

#[test]
fn a_foreign_future_that_cancels_its_own_scope_is_interrupted() {
    run(async {
        let scope = CancelScope::new();
        let polls = Cell::new(0);
        let ended = scope
            .enter(cancellable(std::future::poll_fn(|_| {
                polls.set(polls.get() + 1);
                scope.cancel();
                Poll::<()>::Pending
            })))
            .await?;
        assert_eq!(ended, None);
        assert_eq!(polls.get(), 1);
        Ok(())
    });
}

#[test]
fn the_value_of_an_ended_child_is_returned_in_spite_of_a_cancellation() {
    run(async {
        open_nursery(async |n| -> anyhow::Result<()> {
            let scope = CancelScope::new();
            scope
                .enter(async {
                    let mut child = n.start_soon(async { Ok(5) });
                    assert!(poll!(&mut child).is_pending());
                    turns().await;
                    scope.cancel();
                    assert_eq!(child.await?, 5);
                    anyhow::Ok(())
                })
                .await?;
            Ok(())
        })
        .await
    });
}

#[test]
fn a_child_can_be_awaited_again_after_a_cancelled_wait() {
    run(async {
        open_nursery(async |n| -> anyhow::Result<()> {
            let mut child: Child<'_, i32> = n.start_soon(async {
                sleep(2 * SECOND).await?;
                Ok(5)
            });
            assert!(move_on_after(SECOND, &mut child).await?.is_none());
            assert!(!child.is_finished());
            assert_eq!(child.await?, 5);
            Ok(())
        })
        .await
    });
}

#[test]
fn the_value_of_a_child_goes_with_a_handle_that_is_dropped_after_its_end() {
    run(async {
        let value = Rc::new(());
        open_nursery(async |n| -> anyhow::Result<()> {
            // Ended and never waited for; ended while waited for; still running.
            let idle = n.start_soon(async { Ok(value.clone()) });
            let mut polled = n.start_soon(async { Ok(value.clone()) });
            assert!(poll!(&mut polled).is_pending());
            let running = n.start_soon(async {
                sleep(SECOND).await?;
                Ok(value.clone())
            });
            turns().await;
            drop((idle, polled, running));
            sleep(2 * SECOND).await?;
            assert_eq!(Rc::strong_count(&value), 1);
            Ok(())
        })
        .await
    });
}

#[test]
fn those_that_wait_for_all_tasks_are_woken_together_and_cannot_be_cancelled_after_that() {
    for seed in 0..8 {
        Test::new()
            .seed(seed)
            .run(async {
                let scopes = [CancelScope::new(), CancelScope::new()];
                let woken = Cell::new(0);
                open_nursery(async |n| -> anyhow::Result<()> {
                    for (own, other) in [(0, 1), (1, 0)] {
                        let (scopes, woken) = (&scopes, &woken);
                        n.start_soon(async move {
                            scopes[own]
                                .enter(async {
                                    wait_all_tasks_blocked(Duration::ZERO).await?;
                                    scopes[other].cancel();
                                    woken.set(woken.get() + 1);
                                    anyhow::Ok(())
                                })
                                .await?;
                            Ok(())
                        });
                    }
                    Ok(())
                })
                .await?;
                assert_eq!(woken.get(), 2);
                anyhow::Ok(())
            })
            .unwrap();
    }
}

// A deadline at the same instant

#[test]
fn of_a_sleep_and_a_deadline_at_one_instant_the_deadline_wins() {
    for seed in 0..8 {
        Test::new()
            .seed(seed)
            .run(async {
                assert!(move_on_after(SECOND, sleep(SECOND)).await?.is_none());
                let at = now() + SECOND;
                assert!(move_on_at(at, sleep_until(at)).await?.is_none());
                // In whichever order they are set.
                let mut over = pin!(sleep_until(now() + SECOND));
                assert!(poll!(&mut over).is_pending());
                let late = move_on_at(now() + SECOND, over);
                assert!(late.await?.is_none());
                anyhow::Ok(())
            })
            .unwrap();
    }
}

#[test]
fn of_a_hand_off_and_a_deadline_at_one_instant_the_deadline_wins_and_nothing_is_lost() {
    for seed in 0..16 {
        Test::new()
            .seed(seed)
            .run(async {
                let lot = ParkingLot::<i32>::new();
                open_nursery(async |n| -> anyhow::Result<()> {
                    let waiter = n.start_soon(async {
                        move_on_after(SECOND, async { Ok(lot.park().await?) }).await
                    });
                    let sender = n.start_soon(async {
                        sleep(SECOND).await?;
                        Ok(lot.unpark_one(5))
                    });
                    assert_eq!(waiter.await?, None, "seed {seed}");
                    assert_eq!(sender.await?, Err(5), "seed {seed}");
                    Ok(())
                })
                .await
            })
            .unwrap();
    }
}

#[test]
fn of_a_childs_end_and_a_deadline_at_one_instant_either_may_win_and_the_value_stays() {
    let mut seen = [false; 2];
    for seed in 0..32 {
        Test::new()
            .seed(seed)
            .run(async {
                open_nursery(async |n| -> anyhow::Result<()> {
                    let mut child = n.start_soon(async {
                        sleep(SECOND).await?;
                        Ok(5)
                    });
                    let got = move_on_after(SECOND, &mut child).await?;
                    seen[usize::from(got.is_some())] = true;
                    let value = match got {
                        Some(value) => value,
                        None => child.await?,
                    };
                    assert_eq!(value, 5, "seed {seed}");
                    Ok(())
                })
                .await
            })
            .unwrap();
    }
    assert_eq!(seen, [true; 2]);
}

#[test]
fn a_deadline_that_has_passed_is_seen_by_the_very_next_operation() {
    let clock = MockClock::new();
    Test::new()
        .clock(&clock)
        .run(async {
            let lot = ParkingLot::<()>::new();
            let late = async |operation: Pin<&mut dyn Future<Output = bool>>| {
                move_on_after(SECOND, async {
                    clock.jump(SECOND);
                    anyhow::Ok(operation.await)
                })
                .await
                .map(|raised| raised.expect("not absorbed"))
            };
            assert!(late(pin!(async { checkpoint().await.is_err() })).await?);
            assert!(late(pin!(async { sleep(SECOND).await.is_err() })).await?);
            assert!(late(pin!(async { sleep(Duration::ZERO).await.is_err() })).await?);
            assert!(late(pin!(async { sleep_forever().await.is_err() })).await?);
            assert!(late(pin!(async { lot.park().await.is_err() })).await?);
            let foreign = cancellable(pending::<()>()).inside();
            assert!(late(pin!(async { foreign.await.is_err() })).await?);
            open_nursery(async |n| -> anyhow::Result<()> {
                let child = n.start_soon(sleeper());
                assert!(late(pin!(async { child.await.is_err() })).await?);
                n.cancel_scope().cancel();
                Ok(())
            })
            .await?;
            shield(checkpoint()).await?;
            anyhow::Ok(())
        })
        .unwrap();
}
