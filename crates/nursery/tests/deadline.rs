//! Deadlines, time limits and sleeping: when they count from, when they are noticed, who absorbs.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::bail;
use nursery::lowlevel::{checkpoint_if_cancelled, is_cancelled, statistics};
use nursery::{
    CancelScope, Cancelled, EffectiveDeadline, ErrorGroup, TooSlow, cancellable, checkpoint,
    current_effective_deadline, fail_after, fail_at, move_on_after, move_on_at, now, open_nursery,
    shield, sleep, sleep_forever, sleep_until,
};
use nursery_testing::{MockClock, Test};

const SECOND: Duration = Duration::from_secs(1);

/// On a clock that jumps.
fn run<T>(main: impl Future<Output = anyhow::Result<T>>) -> T {
    nursery_testing::run(main).unwrap()
}

/// On a clock that is moved by hand.
fn run_on<T>(clock: &MockClock, main: impl Future<Output = anyhow::Result<T>>) -> T {
    Test::new().clock(clock).run(main).unwrap()
}

async fn forever() -> anyhow::Result<()> {
    Ok(sleep_forever().await?)
}

async fn pass() -> anyhow::Result<()> {
    Ok(checkpoint().await?)
}

/// How long `f` takes on the run's clock.
async fn takes<T>(f: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<Duration> {
    let start = now();
    f.await?;
    Ok(now() - start)
}

// Scopes

#[test]
fn basic_timeout() {
    let clock = MockClock::new();
    run_on(&clock, async {
        // Left before the deadline: it has no effect, ever.
        let scope = CancelScope::new();
        assert_eq!(scope.deadline(), None);
        let start = now();
        scope
            .enter(async {
                scope.set_deadline(Some(start + SECOND));
                assert_eq!(scope.deadline(), Some(start + SECOND));
                anyhow::Ok(())
            })
            .await?;
        assert!(!scope.cancel_called());
        clock.jump(2 * SECOND);
        for _ in 0..3 {
            checkpoint().await?;
        }
        assert!(!scope.cancel_called());
        assert_eq!(scope.deadline(), Some(start + SECOND));

        // It passes.
        let scope = CancelScope::new().with_deadline(now() + SECOND);
        let body = async {
            clock.jump(2 * SECOND);
            forever().await
        };
        assert_eq!(scope.enter(body).await?, None);
        assert!(scope.cancel_called());
        assert!(scope.cancelled_caught());

        // It is changed.
        let scope = CancelScope::new();
        let start = now();
        let body = async {
            checkpoint().await?;
            scope.set_deadline(Some(start + 10 * SECOND));
            checkpoint().await?;
            clock.jump(5 * SECOND);
            checkpoint().await?;
            scope.set_deadline(Some(start + SECOND));
            assert!(checkpoint().await.is_err());
            assert!(checkpoint().await.is_err());
            anyhow::Ok(())
        };
        scope.enter(body).await?;
        Ok(())
    });
}

#[test]
fn a_deadline_that_is_moved_back_in_time_wakes_a_sleeper_in_the_next_turn() {
    run(async {
        let scope = CancelScope::new().with_timeout(100 * SECOND);
        open_nursery(async |n| -> anyhow::Result<()> {
            let sleeper = n.start_soon(async { Ok(scope.enter(sleep_forever()).await?) });
            sleep(SECOND).await?;
            let before = now();
            scope.set_deadline(Some(before));
            assert!(!sleeper.is_finished()); // not synchronously
            assert_eq!(sleeper.await?, None);
            assert_eq!(now(), before);
            Ok(())
        })
        .await
    });
}

#[test]
fn a_deadline_can_be_postponed_brought_forward_and_removed() {
    run(async {
        let start = now();
        let scope = CancelScope::new().with_timeout(2 * SECOND);
        open_nursery(async |n| -> anyhow::Result<()> {
            let sleeper = n.start_soon(async {
                scope.enter(sleep_forever()).await?;
                Ok(now() - start)
            });
            sleep(SECOND).await?;
            scope.set_deadline(Some(start + 10 * SECOND)); // later
            sleep(4 * SECOND).await?;
            assert!(!sleeper.is_finished());
            scope.set_deadline(None); // never
            sleep(10 * SECOND).await?;
            assert!(!sleeper.is_finished());
            scope.set_deadline(Some(start + 20 * SECOND));
            scope.set_deadline(Some(start + 16 * SECOND)); // earlier
            assert_eq!(sleeper.await?, 16 * SECOND);
            Ok(())
        })
        .await
    });
}

#[test]
fn a_timeout_set_inside_counts_from_then_on() {
    run(async {
        let scope = CancelScope::new();
        let start = now();
        let ended = scope
            .enter(async {
                sleep(3 * SECOND).await?;
                scope.set_timeout(2 * SECOND);
                assert_eq!(scope.deadline(), Some(start + 5 * SECOND));
                forever().await
            })
            .await?;
        assert_eq!(ended, None);
        assert_eq!(now(), start + 5 * SECOND);
        Ok(())
    });
}

/// A61.
#[test]
fn after_a_cancellation_a_deadline_changes_nothing() {
    run(async {
        let scope = CancelScope::new();
        scope
            .enter(async {
                scope.cancel();
                scope.set_deadline(Some(now() + SECOND));
                assert!(is_cancelled());
                scope.set_deadline(None);
                assert!(is_cancelled());
                assert!(checkpoint().await.is_err());
                assert_eq!(statistics().next_deadline, None); // no timer is left
                anyhow::Ok(())
            })
            .await?;
        Ok(())
    });
}

/// A62: when an overdue deadline is noticed.
#[test]
fn an_overdue_deadline_is_noticed_by_a_turn_or_by_asking_and_not_after_the_end() {
    let clock = MockClock::new();
    run_on(&clock, async {
        // Nobody looks: the value stands.
        let scope = CancelScope::new().with_timeout(SECOND);
        let body = async {
            clock.jump(2 * SECOND);
            checkpoint_if_cancelled().await?; // not a turn
            anyhow::Ok(5)
        };
        assert_eq!(scope.enter(body).await?, Some(5));
        assert!(!scope.cancel_called());
        // Somebody asks.
        let scope = CancelScope::new().with_timeout(SECOND);
        let body = async {
            clock.jump(2 * SECOND);
            assert!(!is_cancelled());
            assert!(scope.cancel_called());
            assert!(is_cancelled());
            assert!(checkpoint_if_cancelled().await.is_err());
            anyhow::Ok(6)
        };
        assert_eq!(scope.enter(body).await?, Some(6));
        assert!(scope.cancel_called());
        assert!(!scope.cancelled_caught());
        // A turn.
        let scope = CancelScope::new().with_timeout(SECOND);
        let body = async {
            clock.jump(2 * SECOND);
            pass().await
        };
        assert_eq!(scope.enter(body).await?, None);
        Ok(())
    });
}

#[test]
fn yield_briefly_checks_for_timeout() {
    let clock = MockClock::new();
    run_on(&clock, async {
        let ended = move_on_at(now() + 5 * SECOND, async {
            checkpoint().await?;
            clock.jump(10 * SECOND);
            assert!(checkpoint().await.is_err());
            anyhow::Ok(())
        });
        assert_eq!(ended.await?, Some(()));
        Ok(())
    });
}

#[test]
fn a_body_that_ends_late_but_unnoticed_is_not_too_slow() {
    let clock = MockClock::new();
    run_on(&clock, async {
        let late = fail_after(SECOND, async {
            clock.jump(2 * SECOND);
            anyhow::Ok(5)
        });
        assert_eq!(late.await?, 5);
        Ok(())
    });
}

// At entry

#[test]
fn a_deadline_that_has_passed_cancels_at_entry() {
    run(async {
        let done = Cell::new(0);
        let body = || async {
            assert!(is_cancelled());
            // Also what need not wait raises: it does not happen.
            cancellable(async { done.set(done.get() + 1) }).await?;
            anyhow::Ok(())
        };
        assert!(move_on_after(Duration::ZERO, body()).await?.is_none());
        assert!(move_on_at(now(), body()).await?.is_none());
        let past = now().checked_sub(SECOND).unwrap();
        assert!(move_on_at(past, body()).await?.is_none());
        assert!(CancelScope::new().with_deadline(past).enter(body()).await?.is_none());
        assert!(CancelScope::new().with_timeout(Duration::ZERO).enter(body()).await?.is_none());
        assert!(fail_after(Duration::ZERO, body()).await.unwrap_err().is::<TooSlow>());
        assert!(fail_at(past, body()).await.unwrap_err().is::<TooSlow>());
        assert_eq!(done.get(), 0);
        // Without a checkpoint, the value stands.
        let value = move_on_after(Duration::ZERO, async { anyhow::Ok(5) }).await?;
        assert_eq!(value, Some(5));
        Ok(())
    });
}

#[test]
fn timeout_deadline_on_entry() {
    let clock = MockClock::new();
    run_on(&clock, async {
        let scope = CancelScope::new().with_timeout(5 * SECOND);
        assert_eq!(scope.timeout(), Some(5 * SECOND));
        assert_eq!(scope.deadline(), None);
        clock.jump(3 * SECOND);
        let start = now();
        scope
            .enter(async {
                assert_eq!(scope.deadline(), Some(start + 5 * SECOND));
                scope.set_deadline(Some(start + 3 * SECOND));
                assert_eq!(scope.deadline(), Some(start + 3 * SECOND));
                scope.set_timeout(4 * SECOND);
                assert_eq!(scope.deadline(), Some(start + 4 * SECOND));
                anyhow::Ok(())
            })
            .await?;
        // The futures too count from their first poll.
        let limited = move_on_after(5 * SECOND, async { anyhow::Ok(current_effective_deadline()) });
        let failing = fail_after(6 * SECOND, async { anyhow::Ok(current_effective_deadline()) });
        clock.jump(3 * SECOND);
        let start = now();
        assert_eq!(limited.await?, Some(EffectiveDeadline::At(start + 5 * SECOND)));
        assert_eq!(failing.await?, EffectiveDeadline::At(start + 6 * SECOND));
        Ok(())
    });
}

/// Trio raises where the two kinds are mixed up before entry; here the last one set counts.
#[test]
fn invalid_access_unentered() {
    let clock = MockClock::new();
    run_on(&clock, async {
        let scope = CancelScope::new().with_timeout(5 * SECOND);
        scope.set_deadline(Some(now() + SECOND));
        assert_eq!((scope.deadline(), scope.timeout()), (Some(now() + SECOND), None));
        let scope = CancelScope::new().with_deadline(now() + SECOND);
        scope.set_timeout(5 * SECOND);
        assert_eq!((scope.deadline(), scope.timeout()), (None, Some(5 * SECOND)));
        scope.set_deadline(None);
        assert_eq!((scope.deadline(), scope.timeout()), (None, None));
        Ok(())
    });
}

/// A relative time counts from where it was set, also if the clock is moved in the same step.
#[test]
fn a_relative_time_counts_from_where_it_was_set() {
    let clock = MockClock::new();
    run_on(&clock, async {
        let late = move_on_after(SECOND, async {
            clock.jump(2 * SECOND);
            pass().await
        });
        assert!(late.await?.is_none());
        Ok(())
    });
}

/// … or by another task, before or after it in the same turn.
#[test]
fn a_sleep_counts_from_its_first_poll_whoever_moves_the_clock() {
    for seed in 0..8 {
        let clock = MockClock::new();
        Test::new()
            .seed(seed)
            .clock(&clock)
            .run(open_nursery(async |n| -> anyhow::Result<()> {
                n.start_soon(async {
                    let start = now();
                    sleep(2 * SECOND).await?;
                    assert_eq!(now() - start, 2 * SECOND, "seed {seed}");
                    Ok(())
                });
                n.start_soon(async {
                    for _ in 0..3 {
                        clock.jump(SECOND);
                        checkpoint().await?;
                        checkpoint().await?;
                    }
                    Ok(())
                });
                Ok(())
            }))
            .unwrap();
    }
}

#[test]
fn a_limit_beyond_the_end_of_time_is_no_limit() {
    run(async {
        let scope = CancelScope::new().with_timeout(Duration::MAX);
        scope
            .enter(async {
                assert_eq!(current_effective_deadline(), EffectiveDeadline::Never);
                sleep(SECOND).await?;
                anyhow::Ok(())
            })
            .await?;
        assert!(move_on_after(SECOND, sleep(Duration::MAX)).await?.is_none());
        Ok(())
    });
}

// Several deadlines

#[test]
fn of_equal_deadlines_the_outer_scope_absorbs() {
    run(async {
        let at = now() + 5 * SECOND;
        let (outer, inner) =
            (CancelScope::new().with_deadline(at), CancelScope::new().with_deadline(at));
        let left = outer.enter(async { inner.enter(forever()).await }).await?;
        assert_eq!(left, None);
        assert!(inner.cancel_called());
        assert!(!inner.cancelled_caught());
        assert!(outer.cancelled_caught());
        Ok(())
    });
}

#[test]
fn of_two_deadlines_passed_in_one_jump_the_outer_scope_absorbs_although_the_inner_was_first() {
    let clock = MockClock::new();
    run_on(&clock, async {
        let outer = CancelScope::new().with_timeout(5 * SECOND);
        let inner = CancelScope::new().with_timeout(3 * SECOND);
        let body = async {
            clock.jump(10 * SECOND);
            forever().await
        };
        assert_eq!(outer.enter(async { inner.enter(body).await }).await?, None);
        assert!(outer.cancelled_caught());
        assert!(!inner.cancelled_caught());
        Ok(())
    });
}

#[test]
fn of_two_deadlines_at_different_times_the_earlier_scope_absorbs() {
    run(async {
        for (outer, inner) in [(5, 3), (3, 5)] {
            let start = now();
            let left = move_on_after(outer * SECOND, async {
                let inside = move_on_after(inner * SECOND, forever()).await?;
                assert_eq!(inside, None);
                anyhow::Ok(())
            })
            .await?;
            assert_eq!(left.is_some(), inner < outer);
            assert_eq!(now() - start, 3 * SECOND);
        }
        Ok(())
    });
}

/// A22.
#[test]
fn a_fail_after_inside_an_equal_move_on_after_is_not_too_slow() {
    run(async {
        let left = move_on_after(5 * SECOND, async { fail_after(5 * SECOND, forever()).await });
        assert_eq!(left.await?, None);
        let slow = fail_after(5 * SECOND, async { move_on_after(5 * SECOND, forever()).await });
        assert!(slow.await.unwrap_err().is::<TooSlow>());
        Ok(())
    });
}

#[test]
fn all_that_is_due_at_one_instant_is_cancelled_before_any_task_runs() {
    for seed in 0..8 {
        Test::new()
            .seed(seed)
            .run(async {
                let at = now() + SECOND;
                let scopes: Vec<_> = (0..5).map(|_| CancelScope::new().with_deadline(at)).collect();
                open_nursery(async |n| -> anyhow::Result<()> {
                    for own in &scopes {
                        let scopes = &scopes;
                        n.start_soon(async move {
                            own.enter(sleep_forever()).await?;
                            assert!(scopes.iter().all(|s| s.reason().is_some()));
                            Ok(())
                        });
                    }
                    Ok(())
                })
                .await
            })
            .unwrap();
    }
}

// The helpers

#[test]
fn sleep_of_trio() {
    run(async {
        let until = async {
            sleep_until(now() + SECOND).await?;
            Ok(())
        };
        assert_eq!(takes(until).await?, SECOND);
        assert_eq!(takes(async { Ok(sleep(SECOND).await?) }).await?, SECOND);
        // Zero, and what has passed: a checkpoint.
        assert_eq!(takes(async { Ok(sleep(Duration::ZERO).await?) }).await?, Duration::ZERO);
        let past = now().checked_sub(SECOND).unwrap();
        assert_eq!(takes(async { Ok(sleep_until(past).await?) }).await?, Duration::ZERO);
        let left = move_on_at(now(), async {
            assert!(sleep(Duration::ZERO).await.is_err());
            anyhow::Ok(())
        });
        assert_eq!(left.await?, Some(()));
        Ok(())
    });
}

#[test]
fn move_on_after_of_trio() {
    run(async {
        let limited = async { Ok(move_on_after(SECOND, sleep(100 * SECOND)).await?) };
        assert_eq!(takes(limited).await?, SECOND);
        assert_eq!(move_on_after(SECOND, async { anyhow::Ok(5) }).await?, Some(5));
        assert_eq!(move_on_at(now() + SECOND, async { anyhow::Ok(6) }).await?, Some(6));
        let failed = move_on_after(SECOND, async { bail!("broken") as anyhow::Result<()> }).await;
        assert_eq!(failed.unwrap_err().to_string(), "broken");
        Ok(())
    });
}

/// Trio's `test_cannot_wake_sleep_forever`: there is no way to wake a task by hand. A spurious wake-up does nothing.
#[test]
fn a_spurious_wake_up_does_not_end_sleep_forever() {
    run(async {
        let waker = RefCell::new(None);
        open_nursery(async |n| -> anyhow::Result<()> {
            let sleeper = n.start_soon(async {
                std::future::poll_fn(|cx| {
                    waker.replace(Some(cx.waker().clone()));
                    std::task::Poll::Ready(())
                })
                .await;
                forever().await
            });
            checkpoint().await?;
            sleep(SECOND).await?;
            waker.take().unwrap().wake();
            sleep(SECOND).await?;
            assert!(!sleeper.is_finished());
            n.cancel_scope().cancel();
            Ok(())
        })
        .await
    });
}

#[test]
fn fail() {
    run(async {
        let start = now();
        let slow = fail_at(start + SECOND, async { Ok(sleep(100 * SECOND).await?) }).await;
        let slow: TooSlow = slow.map_err(|e: anyhow::Error| e.downcast().unwrap()).unwrap_err();
        assert_eq!((slow.limit(), slow.to_string().as_str()), (None, "not done by the deadline"));
        assert_eq!(now(), start + SECOND);
        fail_at(now() + 100 * SECOND, pass()).await?;

        let slow = fail_after(SECOND, async { Ok(sleep(100 * SECOND).await?) }).await;
        let slow: TooSlow = slow.map_err(|e: anyhow::Error| e.downcast().unwrap()).unwrap_err();
        assert_eq!(slow.limit(), Some(SECOND));
        assert_eq!(slow.to_string(), "not done within 1s");
        assert_eq!(now(), start + 2 * SECOND);
        fail_after(100 * SECOND, pass()).await
    });
}

#[test]
fn too_slow_is_an_ordinary_error() {
    run(async {
        // No scope absorbs it, not even one that is cancelled.
        let scope = CancelScope::new();
        let left = scope
            .enter(async {
                let slow = fail_after(SECOND, forever()).await;
                scope.cancel();
                slow
            })
            .await;
        assert!(left.unwrap_err().is::<TooSlow>());
        assert!(!scope.cancelled_caught());
        // In a nursery it cancels the siblings.
        let failed = open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(fail_after(SECOND, forever()));
            forever().await
        })
        .await
        .unwrap_err();
        let group: ErrorGroup<anyhow::Error> = failed.downcast()?;
        assert!(group.find::<TooSlow>().is_some());
        assert_eq!(group.len(), 1);
        Ok(())
    });
}

/// D9.
#[test]
fn an_error_that_leaves_together_with_the_cancellation_wins_over_too_slow() {
    run(async {
        let left = fail_after(
            SECOND,
            open_nursery(async |n| -> anyhow::Result<()> {
                n.start_soon(async {
                    let _cancelled = sleep_forever().await;
                    bail!("could not close") as anyhow::Result<()>
                });
                forever().await
            }),
        )
        .await
        .unwrap_err();
        let group: ErrorGroup<anyhow::Error> = left.downcast()?;
        assert_eq!(group.into_single().unwrap().to_string(), "could not close");
        Ok(())
    });
}

#[test]
fn fail_after_converts_into_io_errors_too() {
    let slow = nursery_testing::run(async {
        fail_after(SECOND, async { Ok::<(), std::io::Error>(sleep_forever().await?) }).await
    });
    assert_eq!(slow.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn a_time_limit_around_something_ready_costs_no_time_and_no_timer() {
    run(async {
        let baseline = statistics();
        for _ in 0..1000 {
            move_on_after(SECOND, async { anyhow::Ok(()) }).await?;
        }
        assert_eq!(statistics(), baseline);
        Ok(())
    });
}

// Ties, and stale timers

#[test]
fn sleepers_wake_in_the_order_of_their_deadlines_and_ties_in_one_turn() {
    for seed in 0..8 {
        Test::new()
            .seed(seed)
            .run(async {
                let start = now();
                let woken = RefCell::new(Vec::<(u32, Instant)>::new());
                open_nursery(async |n| -> anyhow::Result<()> {
                    for seconds in [3, 1, 2, 3, 1, 2] {
                        let woken = &woken;
                        n.start_soon(async move {
                            sleep(seconds * SECOND).await?;
                            woken.borrow_mut().push((seconds, now()));
                            Ok(())
                        });
                    }
                    Ok(())
                })
                .await?;
                let expected: Vec<_> =
                    [1, 1, 2, 2, 3, 3].map(|s: u32| (s, start + s * SECOND)).into();
                assert_eq!(woken.take(), expected, "seed {seed}");
                anyhow::Ok(())
            })
            .unwrap();
    }
}

#[test]
fn a_deadline_that_is_set_again_and_again_counts_once() {
    run(async {
        let start = now();
        let scope = CancelScope::new();
        let ended = scope
            .enter(async {
                for i in (1..10_000).rev() {
                    scope.set_deadline(Some(start + i * SECOND));
                }
                assert_eq!(statistics().next_deadline, Some(SECOND));
                for i in 1..10_000 {
                    scope.set_deadline(Some(start + i * SECOND));
                }
                assert_eq!(statistics().next_deadline, Some(9_999 * SECOND));
                forever().await
            })
            .await?;
        assert_eq!(ended, None);
        assert_eq!(now(), start + 9_999 * SECOND);
        assert_eq!(statistics().next_deadline, None);
        Ok(())
    });
}

#[test]
fn timers_of_what_was_cancelled_or_dropped_do_not_move_the_clock() {
    run(async {
        let start = now();
        for _ in 0..100 {
            move_on_after(Duration::ZERO, sleep(100 * SECOND)).await?;
            drop(futures_util::poll!(Box::pin(sleep(50 * SECOND))));
        }
        assert_eq!(statistics().next_deadline, None);
        sleep(SECOND).await?;
        assert_eq!(now(), start + SECOND);
        Ok(())
    });
}

// The effective deadline

#[test]
fn current_effective_deadline_of_trio() {
    use EffectiveDeadline::{At, Never};
    let clock = MockClock::new();
    run_on(&clock, async {
        let at = |seconds: u32| now() + seconds * SECOND;
        let (first, second) =
            (CancelScope::new().with_deadline(at(5)), CancelScope::new().with_deadline(at(10)));
        assert_eq!(current_effective_deadline(), Never);
        let inside = async {
            assert_eq!(current_effective_deadline(), At(at(5)));
            second.set_deadline(Some(at(3)));
            assert_eq!(current_effective_deadline(), At(at(3)));
            second.set_deadline(Some(at(10)));
            assert_eq!(current_effective_deadline(), At(at(5)));
            second.set_shield(true);
            assert_eq!(current_effective_deadline(), At(at(10)));
            second.set_shield(false);
            assert_eq!(current_effective_deadline(), At(at(5)));
            first.cancel();
            assert_eq!(current_effective_deadline(), EffectiveDeadline::Cancelled);
            second.set_shield(true);
            assert_eq!(current_effective_deadline(), At(at(10)));
            anyhow::Ok(())
        };
        first
            .enter(async {
                second.enter(inside).await?;
                assert_eq!(current_effective_deadline(), EffectiveDeadline::Cancelled);
                anyhow::Ok(())
            })
            .await?;
        assert_eq!(current_effective_deadline(), Never);
        Ok(())
    });
}

#[test]
fn under_a_shield_without_a_deadline_there_is_none_though_the_outer_scope_is_cancelled() {
    run(async {
        move_on_after(Duration::ZERO, async {
            let inside = shield(async { current_effective_deadline() }).await;
            assert_eq!(inside, EffectiveDeadline::Never);
            anyhow::Ok(())
        })
        .await?;
        Ok(())
    });
}

#[test]
fn an_overdue_deadline_that_nobody_noticed_is_shown_as_it_is() {
    let clock = MockClock::new();
    run_on(&clock, async {
        let at = now() + SECOND;
        move_on_at(at, async {
            clock.jump(2 * SECOND);
            assert_eq!(current_effective_deadline(), EffectiveDeadline::At(at));
            assert!(!is_cancelled());
            anyhow::Ok(())
        })
        .await?;
        Ok(())
    });
}

#[test]
fn a_child_has_the_deadline_of_its_nursery_not_of_the_call() {
    run(async {
        let at = now() + 5 * SECOND;
        move_on_at(
            at,
            open_nursery(async |n| -> anyhow::Result<()> {
                let child = move_on_after(SECOND, async {
                    anyhow::Ok(n.start_soon(async { Ok(current_effective_deadline()) }))
                })
                .await?
                .unwrap();
                assert_eq!(child.await?, EffectiveDeadline::At(at));
                Ok(())
            }),
        )
        .await?;
        Ok(())
    });
}

// The system clock

/// The only test that waits for real time: never too early.
#[test]
fn timekeeping() {
    let limit = Duration::from_millis(5);
    let passed = Test::new().real_clock().run(async {
        let start = now();
        assert!(move_on_after(limit, sleep_forever()).await?.is_none());
        sleep(limit).await?;
        sleep_until(now() + limit).await?;
        Ok::<_, Cancelled>(now() - start)
    });
    assert!(passed.unwrap() >= 3 * limit);
}
