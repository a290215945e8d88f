//! Shields: what they keep off, what they do not, and switching them on and off meanwhile.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_util::poll;
use nursery::lowlevel::{checkpoint_if_cancelled, is_cancelled, wait_all_tasks_blocked};
use nursery::{
    CancelScope, EffectiveDeadline, TooSlow, checkpoint, current_effective_deadline, fail_after,
    fail_at, move_on_after, move_on_at, now, open_nursery, shield, sleep, sleep_forever,
};

const SECOND: Duration = Duration::from_secs(1);

fn run<T>(main: impl Future<Output = anyhow::Result<T>>) -> T {
    nursery_testing::run(main).unwrap()
}

async fn settled() -> anyhow::Result<()> {
    Ok(wait_all_tasks_blocked(Duration::ZERO).await?)
}

/// Runs `body` in a scope that is cancelled already. The body need not raise.
async fn in_cancelled<T>(body: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let scope = CancelScope::new();
    scope.cancel();
    let value = scope.enter(body).await?;
    Ok(value.expect("the body raised"))
}

#[test]
fn cancel_shielding() {
    run(async {
        let (outer, inner) = (CancelScope::new(), CancelScope::new());
        let body = async {
            checkpoint().await?;
            outer.cancel();
            assert!(checkpoint().await.is_err());
            assert!(!inner.shield());
            inner.set_shield(true);
            assert!(inner.shield());
            checkpoint().await?; // kept off
            let innermost = CancelScope::new();
            innermost.cancel();
            let raised = innermost.enter(async { anyhow::Ok(checkpoint().await?) }).await?;
            assert_eq!(raised, None); // from inside the shield
            checkpoint().await?;
            inner.set_shield(false);
            assert!(checkpoint().await.is_err());
            inner.set_shield(true);
            checkpoint().await?;
            inner.cancel(); // the shield does not keep off its own scope
            checkpoint().await?;
            unreachable!("raised, and absorbed by `inner`")
        };
        let left = outer.enter(async { inner.enter::<(), anyhow::Error, _>(body).await }).await?;
        assert_eq!(left, Some(None));
        assert!(inner.cancelled_caught());
        assert!(!outer.cancelled_caught());
        Ok(())
    });
}

#[test]
fn a_shield_can_be_set_before_entry_and_after_exit() {
    run(async {
        let (outer, inner) = (CancelScope::new(), CancelScope::new());
        inner.set_shield(true);
        assert!(inner.shield());
        outer.cancel();
        let body = async {
            checkpoint().await?;
            inner.set_shield(false);
            assert!(checkpoint().await.is_err());
            anyhow::Ok(())
        };
        outer.enter(async { inner.enter(body).await }).await?;
        assert!(!inner.shield());
        inner.set_shield(true);
        assert!(inner.shield());
        assert!(CancelScope::new().with_shield(true).shield());
        checkpoint().await?;
        Ok(())
    });
}

#[test]
fn a_shield_in_a_cancelled_scope_keeps_the_cancellation_off_at_once() {
    run(in_cancelled(async {
        assert!(is_cancelled());
        shield(async {
            assert!(!is_cancelled());
            checkpoint().await?;
            sleep(SECOND).await?;
            anyhow::Ok(())
        })
        .await?;
        assert!(is_cancelled());
        assert!(checkpoint().await.is_err());
        Ok(())
    }));
}

#[test]
fn switching_a_shield_is_felt_by_the_running_task_at_once() {
    run(in_cancelled(async {
        let inner = CancelScope::new();
        inner
            .enter(async {
                assert!(is_cancelled());
                inner.set_shield(true);
                assert!(!is_cancelled());
                checkpoint_if_cancelled().await?;
                inner.set_shield(false);
                assert!(is_cancelled());
                anyhow::Ok(())
            })
            .await?;
        Ok(())
    }));
}

#[test]
fn cancel_shield_abort() {
    run(async {
        let outer = CancelScope::new();
        let record = RefCell::new(vec![]);
        outer
            .enter(open_nursery(async |n| -> anyhow::Result<()> {
                outer.cancel();
                n.cancel_scope().set_shield(true);
                n.start_soon(async {
                    record.borrow_mut().push("sleeping");
                    assert!(sleep_forever().await.is_err());
                    record.borrow_mut().push("cancelled");
                    Ok(())
                });
                settled().await?;
                assert_eq!(*record.borrow(), ["sleeping"]);
                n.cancel_scope().set_shield(false);
                // Not only the end of the nursery wakes it.
                shield(settled()).await?;
                assert_eq!(*record.borrow(), ["sleeping", "cancelled"]);
                Ok(())
            }))
            .await?;
        Ok(())
    });
}

#[test]
fn lowering_a_shield_wakes_a_task_that_waits_under_it_from_another_task() {
    run(async {
        let (outer, inner) = (CancelScope::new(), CancelScope::new().with_shield(true));
        open_nursery(async |n| -> anyhow::Result<()> {
            let sleeper = n.start_soon(async {
                Ok(outer.enter(async { inner.enter(sleep_forever()).await }).await?)
            });
            settled().await?;
            outer.cancel();
            settled().await?;
            assert!(!sleeper.is_finished());
            inner.set_shield(false);
            assert_eq!(sleeper.await?, None);
            assert!(outer.cancelled_caught());
            Ok(())
        })
        .await
    });
}

/// A14, with the shield raised by a guard's destructor.
#[test]
fn unshield_while_cancel_propagating() {
    struct Raise<'a>(&'a CancelScope);
    impl Drop for Raise<'_> {
        fn drop(&mut self) {
            self.0.set_shield(true);
        }
    }
    run(async {
        let (outer, inner) = (CancelScope::new(), CancelScope::new());
        let body = async {
            let _raise = Raise(&inner);
            outer.cancel();
            anyhow::Ok(checkpoint().await?)
        };
        let left = outer.enter(async { inner.enter(body).await }).await?;
        assert_eq!(left, None);
        assert!(outer.cancelled_caught());
        assert!(!inner.cancelled_caught());
        Ok(())
    });
}

/// The mirror case: who absorbs is decided by the state at the exit.
#[test]
fn a_shield_raised_while_both_are_cancelled_makes_the_inner_scope_absorb() {
    run(async {
        let (outer, inner) = (CancelScope::new(), CancelScope::new());
        let body = async {
            outer.cancel();
            inner.cancel();
            let raised = checkpoint().await;
            inner.set_shield(true);
            anyhow::Ok(raised?)
        };
        let left = outer.enter(async { inner.enter(body).await }).await?;
        assert_eq!(left, Some(None));
        assert!(inner.cancelled_caught());
        assert!(!outer.cancelled_caught());
        Ok(())
    });
}

/// A13.
#[test]
fn a_wait_that_was_cancelled_raises_although_a_shield_went_up_before_it_ran() {
    run(async {
        let (outer, inner) = (CancelScope::new(), CancelScope::new());
        let body = async {
            let mut wait = pin!(sleep_forever());
            assert!(poll!(&mut wait).is_pending());
            outer.cancel();
            inner.set_shield(true);
            assert!(wait.await.is_err());
            checkpoint().await?; // the next one is under the shield
            anyhow::Ok(())
        };
        outer.enter(async { inner.enter(body).await }).await?;
        Ok(())
    });
}

/// A13: trio lets `checkpoint` pass here, and so do we.
#[test]
fn a_checkpoint_passes_if_a_shield_goes_up_while_it_yields() {
    run(async {
        let (outer, inner) = (CancelScope::new(), CancelScope::new());
        let body = async {
            outer.cancel();
            let mut first = pin!(checkpoint());
            let mut second = pin!(checkpoint_if_cancelled());
            assert!(poll!(&mut first).is_pending());
            assert!(poll!(&mut second).is_pending());
            inner.set_shield(true);
            first.await?;
            second.await?;
            anyhow::Ok(())
        };
        outer.enter(async { inner.enter(body).await }).await?;
        Ok(())
    });
}

#[test]
fn a_nursery_opened_under_a_shield_hands_it_to_its_children() {
    run(in_cancelled(async {
        let done = Cell::new(false);
        shield(open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                sleep(SECOND).await?;
                done.set(true);
                Ok(())
            });
            Ok(())
        }))
        .await?;
        assert!(done.get());
        Ok(())
    }));
}

#[test]
fn a_nursery_whose_own_scope_is_shielded_protects_body_and_children() {
    run(async {
        let outer = CancelScope::new();
        let steps = Cell::new(0);
        outer
            .enter(open_nursery(async |n| -> anyhow::Result<()> {
                n.cancel_scope().set_shield(true);
                outer.cancel();
                n.start_soon(async {
                    sleep(SECOND).await?;
                    steps.set(steps.get() + 1);
                    Ok(())
                });
                checkpoint().await?;
                steps.set(steps.get() + 1);
                Ok(())
            }))
            .await?;
        assert_eq!(steps.get(), 2);
        assert!(!outer.cancelled_caught());
        Ok(())
    });
}

#[test]
fn a_shield_around_a_start_soon_does_not_protect_the_child() {
    run(async {
        let raised = Cell::new(false);
        open_nursery(async |n| -> anyhow::Result<()> {
            shield(async {
                n.start_soon(async {
                    raised.set(sleep_forever().await.is_err());
                    Ok(())
                });
                n.cancel_scope().cancel();
                checkpoint().await
            })
            .await?;
            Ok(())
        })
        .await?;
        assert!(raised.get());
        Ok(())
    });
}

#[test]
fn the_failure_of_a_sibling_does_not_pass_a_shield() {
    run(async {
        let saved = Cell::new(false);
        let failed = open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                shield(sleep(SECOND)).await?;
                saved.set(true);
                Ok(())
            });
            n.start_soon(async {
                checkpoint().await?;
                Err::<(), _>(anyhow::anyhow!("broken"))
            });
            Ok(())
        })
        .await;
        assert!(failed.is_err());
        assert!(saved.get());
        Ok(())
    });
}

#[test]
fn nested_shields_open_one_by_one() {
    run(async {
        let scopes = [CancelScope::new(), CancelScope::new(), CancelScope::new()];
        let [outer, first, second] = &scopes;
        let body = async {
            outer.cancel();
            first.set_shield(true);
            second.set_shield(true);
            checkpoint().await?;
            first.set_shield(false);
            checkpoint().await?; // the inner one still holds
            second.set_shield(false);
            assert!(checkpoint().await.is_err());
            first.set_shield(true);
            checkpoint().await?;
            anyhow::Ok(())
        };
        outer.enter(async { first.enter(async { second.enter(body).await }).await }).await?;
        Ok(())
    });
}

#[test]
fn a_shield_gives_the_bodys_value_whatever_its_type() {
    run(in_cancelled(async {
        assert_eq!(shield(async { 5 }).await, 5);
        assert_eq!(shield(async { Err::<(), _>("text") }).await, Err("text"));
        Ok(())
    }));
}

/// A shield without a scope of its own absorbs nothing: what is cancelled inside is not its business.
#[test]
fn a_shield_absorbs_nothing() {
    run(async {
        let scope = CancelScope::new();
        scope.cancel();
        let left = scope
            .enter(async {
                let raised = checkpoint().await.unwrap_err();
                shield(async { Err::<(), _>(anyhow::Error::from(raised)) }).await
            })
            .await?;
        assert_eq!(left, None);
        assert!(scope.cancelled_caught());
        Ok(())
    });
}

// Shielded time limits

#[test]
fn context_shields_from_outer() {
    run(async {
        let at = now() + SECOND;
        let passes = || async { anyhow::Ok(checkpoint().await?) };
        in_cancelled(async {
            assert_eq!(move_on_after(SECOND, passes()).shielded().await?, Some(()));
            assert_eq!(move_on_at(at, passes()).shielded().await?, Some(()));
            fail_after(SECOND, passes()).shielded().await?;
            fail_at(at, passes()).shielded().await?;
            // Without: the cancellation from outside passes through.
            assert!(move_on_after(SECOND, passes()).await.is_err());
            let raised = fail_after(SECOND, passes()).await.unwrap_err();
            assert!(!raised.is::<TooSlow>());
            Ok(())
        })
        .await
    });
}

#[test]
fn move_on_after_moves_on_even_if_shielded() {
    run(in_cancelled(async {
        let start = now();
        assert!(move_on_after(SECOND, sleep_forever()).shielded().await?.is_none());
        assert_eq!(now(), start + SECOND);
        Ok(())
    }));
}

#[test]
fn fail_after_fails_even_if_shielded() {
    run(in_cancelled(async {
        let start = now();
        let slow = fail_after(SECOND, async { anyhow::Ok(sleep_forever().await?) }).shielded();
        assert!(slow.await.unwrap_err().is::<TooSlow>());
        assert_eq!(now(), start + SECOND);
        Ok(())
    }));
}

#[test]
fn the_deadline_of_a_shielded_scope_works_under_an_outer_deadline() {
    run(async {
        let start = now();
        let inner = CancelScope::new().with_timeout(3 * SECOND).with_shield(true);
        let left = move_on_after(SECOND, async {
            let inside = inner
                .enter(async {
                    assert_eq!(
                        current_effective_deadline(),
                        EffectiveDeadline::At(start + 3 * SECOND)
                    );
                    anyhow::Ok(sleep_forever().await?)
                })
                .await?;
            assert_eq!(inside, None);
            assert!(inner.cancelled_caught());
            checkpoint().await?; // the outer deadline has passed meanwhile
            anyhow::Ok(())
        })
        .await?;
        assert_eq!(left, None);
        assert_eq!(now(), start + 3 * SECOND);
        Ok(())
    });
}

/// Whichever of the two runs first in the turn between.
#[test]
fn a_shield_that_goes_up_while_an_operation_yields_before_it_raises_comes_too_late() {
    for seed in 0..10 {
        let result: anyhow::Result<()> = nursery_testing::Test::new().seed(seed).run(async {
            let (outer, inner) = (CancelScope::new(), CancelScope::new());
            let lot = nursery::lowlevel::ParkingLot::<()>::new();
            open_nursery(async |n| -> anyhow::Result<()> {
                n.start_soon(async {
                    inner.set_shield(true);
                    Ok(())
                });
                let parked = inner.enter(async { anyhow::Ok(lot.park().await?) });
                outer.cancel();
                assert_eq!(outer.enter(parked).await?, None);
                Ok(())
            })
            .await
        });
        result.unwrap();
    }
}
