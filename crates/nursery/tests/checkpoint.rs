//! Checkpoints: what is a cancel point, what a schedule point, and how often one yields.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use anyhow::bail;
use futures_util::poll;
use nursery::lowlevel::{
    ParkingLot, cancel_shielded_checkpoint, checkpoint_if_cancelled, points, try_checkpoint,
    wait_all_tasks_blocked,
};
use nursery::{
    CancelScope, cancellable, checkpoint, move_on_after, now, open_nursery, shield, sleep,
    sleep_forever, sleep_until,
};
use nursery_testing::{MockClock, Test};

const SECOND: Duration = Duration::from_secs(1);

fn run<T>(main: impl Future<Output = anyhow::Result<T>>) -> T {
    nursery_testing::run(main).unwrap()
}

/// How many cancel points and schedule points the current task passes in `f`.
async fn counted<T>(f: impl Future<Output = T>) -> (u32, u32) {
    let before = points();
    f.await;
    let after = points();
    (after.cancel - before.cancel, after.schedule - before.schedule)
}

async fn in_cancelled<T>(body: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let scope = CancelScope::new();
    scope.cancel();
    let value = scope.enter(body).await?;
    Ok(value.expect("the body raised"))
}

// Which is which

#[test]
fn each_operation_is_a_cancel_point_and_a_schedule_point() {
    run(async {
        assert_eq!(counted(checkpoint()).await, (1, 1));
        assert_eq!(counted(sleep(Duration::ZERO)).await, (1, 1));
        assert_eq!(counted(sleep_until(now())).await, (1, 1));
        assert_eq!(counted(sleep(SECOND)).await, (1, 1));
        assert_eq!(counted(cancellable(async {})).await, (1, 1));
        assert_eq!(counted(wait_all_tasks_blocked(Duration::ZERO)).await, (1, 1));
        assert_eq!(counted(move_on_after(SECOND, sleep_forever())).await, (1, 1));
        let lot = ParkingLot::<()>::new();
        open_nursery(async |n| -> anyhow::Result<()> {
            let waited_for = n.start_soon(async { Ok(checkpoint().await?) });
            assert_eq!(counted(waited_for).await, (1, 1));
            let ended = n.start_soon(async { Ok(()) });
            wait_all_tasks_blocked(Duration::ZERO).await?;
            assert_eq!(counted(ended).await, (1, 1));
            n.start_soon(async {
                wait_all_tasks_blocked(Duration::ZERO).await?;
                lot.unpark_all();
                Ok(())
            });
            assert_eq!(counted(lot.park()).await, (1, 1));
            Ok(())
        })
        .await
    });
}

#[test]
fn the_two_halves_of_a_checkpoint() {
    run(async {
        assert_eq!(counted(checkpoint_if_cancelled()).await, (1, 0));
        assert_eq!(counted(cancel_shielded_checkpoint()).await, (0, 1));
        in_cancelled(async {
            assert_eq!(counted(checkpoint_if_cancelled()).await, (1, 1)); // it raises, and yields
            assert_eq!(counted(cancel_shielded_checkpoint()).await, (0, 1));
            assert_eq!(counted(checkpoint()).await, (1, 1));
            assert_eq!(counted(sleep_forever()).await, (1, 1));
            Ok(())
        })
        .await
    });
}

#[test]
fn what_is_synchronous_is_neither() {
    run(async {
        let lot = ParkingLot::<()>::new();
        let scope = CancelScope::new();
        let counts = counted(async {
            scope.cancel();
            scope.set_shield(true);
            scope.set_deadline(Some(now()));
            assert!(scope.cancel_called());
            lot.unpark_all();
        });
        assert_eq!(counts.await, (0, 0));
        // Entering and leaving a scope is not, either.
        let entered = CancelScope::new();
        assert_eq!(counted(entered.enter(async { anyhow::Ok(()) })).await, (0, 0));
        assert_eq!(counted(move_on_after(SECOND, async { anyhow::Ok(()) })).await, (0, 0));
        assert_eq!(counted(shield(async {})).await, (0, 0));
        Ok(())
    });
}

/// The nursery's part: a schedule point at its end, once, never a cancel point.
#[test]
fn trivial_yields() {
    run(async {
        let scope = CancelScope::new();
        scope.cancel();
        let counts = counted(scope.enter(open_nursery(async |_| anyhow::Ok(()))));
        assert_eq!(counts.await, (0, 1));
        assert!(!scope.cancelled_caught());

        let scope = CancelScope::new();
        scope.cancel();
        let before = points();
        scope
            .enter(open_nursery(async |n| -> anyhow::Result<()> {
                n.start_soon(async { Ok(()) }); // without a checkpoint
                Ok(())
            }))
            .await?;
        assert!(!scope.cancelled_caught());
        assert_eq!(points().cancel, before.cancel);
        assert!(points().schedule > before.schedule);

        let scope = CancelScope::new();
        scope.cancel();
        let failed = scope.enter(open_nursery(async |_| bail!("key") as anyhow::Result<()>)).await;
        assert!(failed.unwrap_err().to_string().contains("key"));
        assert!(!scope.cancelled_caught());
        Ok(())
    });
}

/// M8.
#[test]
fn spurious_polls_count_nothing() {
    run(async {
        let before = points();
        let mut waiting = pin!(sleep(SECOND));
        for _ in 0..100 {
            assert!(poll!(&mut waiting).is_pending());
        }
        waiting.await?;
        let after = points();
        assert_eq!((after.cancel - before.cancel, after.schedule - before.schedule), (1, 1));
        Ok(())
    });
}

// When it looks

#[test]
fn a_checkpoint_yields_before_it_raises() {
    run(in_cancelled(async {
        let mut raising = pin!(checkpoint());
        assert!(poll!(&mut raising).is_pending());
        assert!(matches!(poll!(&mut raising), Poll::Ready(Err(_))));
        Ok(())
    }));
}

/// A70: scheduling comes first, then the look.
#[test]
fn a_checkpoint_sees_what_was_cancelled_while_it_yielded() {
    run(async {
        let scope = CancelScope::new();
        scope
            .enter(async {
                let mut yielding = pin!(checkpoint());
                assert!(poll!(&mut yielding).is_pending());
                scope.cancel();
                assert!(yielding.await.is_err());
                anyhow::Ok(())
            })
            .await?;
        Ok(())
    });
}

#[test]
fn a_checkpoint_notices_a_deadline_that_has_just_passed_but_the_bare_check_may_not() {
    let clock = MockClock::new();
    Test::new()
        .clock(&clock)
        .run(async {
            let scope = CancelScope::new().with_timeout(SECOND);
            scope
                .enter(async {
                    clock.jump(SECOND);
                    checkpoint_if_cancelled().await?;
                    assert!(checkpoint().await.is_err());
                    anyhow::Ok(())
                })
                .await?;
            anyhow::Ok(())
        })
        .unwrap();
}

/// A74: a task that yielded runs again in the next turn, not in this one.
#[test]
fn two_tasks_that_yield_take_turns() {
    for seed in 0..8 {
        Test::new()
            .seed(seed)
            .run(async {
                let log = RefCell::new(vec![]);
                open_nursery(async |n| -> anyhow::Result<()> {
                    for name in ["a", "b"] {
                        let log = &log;
                        n.start_soon(async move {
                            for i in 0..5 {
                                log.borrow_mut().push((i, name));
                                checkpoint().await?;
                            }
                            Ok(())
                        });
                    }
                    Ok(())
                })
                .await?;
                let mut log = log.take();
                let turns: Vec<_> = log.iter().map(|(i, _)| *i).collect();
                assert_eq!(turns, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4], "seed {seed}");
                log.sort_unstable();
                log.dedup();
                assert_eq!(log.len(), 10);
                anyhow::Ok(())
            })
            .unwrap();
    }
}

// The budget

#[test]
fn one_checkpoint_in_every_n_yields_exactly() {
    for budget in [1, 2, 3, 7, 64] {
        Test::new()
            .checkpoint_budget(budget)
            .run(async {
                let mut yields = vec![];
                for i in 1..=10 * budget {
                    let (cancel, schedule) = counted(checkpoint()).await;
                    assert_eq!(cancel, 1);
                    if schedule > 0 {
                        yields.push(i);
                    }
                }
                let expected: Vec<_> = (1..=10).map(|i| i * budget).collect();
                assert_eq!(yields, expected);
                anyhow::Ok(())
            })
            .unwrap();
    }
}

#[test]
fn all_operations_that_need_not_wait_share_one_budget() {
    Test::new()
        .checkpoint_budget(6)
        .run(open_nursery(async |n| -> anyhow::Result<()> {
            let mut ended: Vec<_> = (0..10).map(|_| n.start_soon(async { Ok(()) })).collect();
            wait_all_tasks_blocked(Duration::ZERO).await?;
            for _ in 0..10 {
                let before = points();
                checkpoint().await?;
                sleep(Duration::ZERO).await?;
                sleep_until(now()).await?;
                cancellable(async {}).await?;
                ended.pop().unwrap().await?;
                assert_eq!(points().schedule, before.schedule, "five do not yield");
                cancel_shielded_checkpoint().await;
                assert_eq!(points().schedule, before.schedule + 1, "the sixth does");
                assert_eq!(points().cancel, before.cancel + 5);
            }
            Ok(())
        }))
        .unwrap();
}

#[test]
fn a_wait_renews_the_budget() {
    Test::new()
        .checkpoint_budget(4)
        .run(async {
            for _ in 0..5 {
                sleep(SECOND).await?;
                for _ in 0..3 {
                    assert_eq!(counted(checkpoint()).await, (1, 0));
                }
            }
            anyhow::Ok(())
        })
        .unwrap();
}

#[test]
fn each_task_has_a_budget_of_its_own() {
    Test::new()
        .checkpoint_budget(3)
        .run(async {
            let log = RefCell::new(String::new());
            open_nursery(async |n| -> anyhow::Result<()> {
                for name in ['a', 'b'] {
                    let log = &log;
                    n.start_soon(async move {
                        for _ in 0..6 {
                            log.borrow_mut().push(name);
                            checkpoint().await?;
                        }
                        Ok(())
                    });
                }
                Ok(())
            })
            .await?;
            let log = log.take();
            let shares = ["aaabbbaaabbb", "aaabbbbbbaaa", "bbbaaaaaabbb", "bbbaaabbbaaa"];
            assert!(shares.contains(&log.as_str()), "{log}");
            anyhow::Ok(())
        })
        .unwrap();
}

#[test]
fn whatever_the_budget_every_call_is_a_cancel_point() {
    for budget in [1, 2, 1000] {
        Test::new()
            .checkpoint_budget(budget)
            .run(async {
                let scope = CancelScope::new();
                scope
                    .enter(async {
                        checkpoint().await?;
                        scope.cancel();
                        for _ in 0..5 {
                            assert!(checkpoint().await.is_err());
                            assert!(checkpoint_if_cancelled().await.is_err());
                            assert!(sleep(Duration::ZERO).await.is_err());
                            assert!(cancellable(async {}).await.is_err());
                        }
                        anyhow::Ok(())
                    })
                    .await?;
                anyhow::Ok(())
            })
            .unwrap();
    }
}

#[test]
#[should_panic(expected = "a checkpoint budget of 0 would never let an operation succeed")]
fn a_budget_of_zero_is_refused() {
    let _ = Test::new().checkpoint_budget(0).run(async { anyhow::Ok(()) });
}

/// A loop that swallows cancellations must not keep the others from running.
async fn swallowing<F, T, E>(operation: impl Fn() -> F) -> anyhow::Result<()>
where
    F: Future<Output = Result<T, E>>,
{
    let stop = Cell::new(false);
    open_nursery(async |n| -> anyhow::Result<()> {
        n.start_soon(in_cancelled(async {
            for _ in 0..100_000 {
                if stop.get() {
                    return Ok(());
                }
                assert!(operation().await.is_err());
            }
            bail!("the other task starved")
        }));
        n.start_soon(async {
            for _ in 0..10 {
                checkpoint().await?;
            }
            stop.set(true);
            Ok(())
        });
        Ok(())
    })
    .await
}

#[test]
fn a_loop_that_swallows_cancellations_starves_nobody() {
    for budget in [1, 64] {
        Test::new()
            .checkpoint_budget(budget)
            .run(async {
                let lot = ParkingLot::<()>::new();
                swallowing(checkpoint).await?;
                swallowing(checkpoint_if_cancelled).await?;
                swallowing(|| sleep(Duration::ZERO)).await?;
                swallowing(|| sleep(SECOND)).await?;
                swallowing(sleep_forever).await?;
                swallowing(|| lot.park()).await?;
                swallowing(|| cancellable(async {})).await?;
                swallowing(|| wait_all_tasks_blocked(Duration::ZERO)).await
            })
            .unwrap();
    }
}

#[test]
fn a_loop_of_operations_that_need_not_wait_starves_no_timer() {
    Test::new()
        .checkpoint_budget(64)
        .run(async {
            let clock = now();
            let ended = move_on_after(SECOND, async {
                open_nursery(async |n| -> anyhow::Result<()> {
                    let sleeper = n.start_soon(async { Ok(sleep(SECOND / 2).await?) });
                    sleeper.await?;
                    for _ in 0..1000 {
                        checkpoint().await?;
                    }
                    Ok(())
                })
                .await
            });
            assert_eq!(ended.await?, Some(()));
            assert_eq!(now() - clock, SECOND / 2);
            anyhow::Ok(())
        })
        .unwrap();
}

// Outside

#[test]
fn outside_a_run_a_checkpoint_panics_with_advice() {
    let polled = std::panic::catch_unwind(|| {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = pin!(checkpoint()).poll(&mut context);
    });
    let text = *polled.unwrap_err().downcast::<String>().unwrap();
    assert!(text.contains("outside a run"), "{text}");
    assert!(text.contains("`nursery::run(...)`"), "{text}");
}

#[test]
fn without_a_future_a_checkpoint_is_passed_only_if_it_neither_raises_nor_yields() {
    assert!(!try_checkpoint(), "outside a run");
    let main = async {
        while try_checkpoint() {}
        checkpoint().await?; // yields
        let passed = counted(async {
            assert_eq!([(); 4].map(|()| try_checkpoint()), [true, true, false, false])
        });
        assert_eq!(passed.await, (4, 0));
        checkpoint().await?;
        in_cancelled(async {
            assert!(!try_checkpoint());
            Ok(())
        })
        .await?;
        assert!(try_checkpoint(), "it took nothing from the budget");
        anyhow::Ok(())
    };
    Test::new().checkpoint_budget(3).run(main).unwrap();
}
