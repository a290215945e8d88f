//! The life of a cancel scope: before, while and after it is entered; misuse; moved, dropped, from other threads.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use futures_util::poll;
use nursery::lowlevel::{is_cancelled, statistics, wait_all_tasks_blocked};
use nursery::{
    CancelScope, CancelSource, Cancelled, RemoteScope, cancellable, checkpoint, fail_after,
    move_on_after, now, open_nursery, shield, sleep, sleep_forever,
};
use nursery_testing::{MockClock, Test};

const SECOND: Duration = Duration::from_secs(1);

type Boxed<'a, T> = Pin<Box<dyn Future<Output = anyhow::Result<T>> + 'a>>;

fn run<T>(main: impl Future<Output = anyhow::Result<T>>) -> T {
    nursery_testing::run(main).unwrap()
}

async fn settled() -> anyhow::Result<()> {
    Ok(wait_all_tasks_blocked(Duration::ZERO).await?)
}

async fn forever() -> anyhow::Result<()> {
    Ok(sleep_forever().await?)
}

/// The message with which `f` panics.
fn panic_of<T>(f: impl FnOnce() -> T) -> String {
    let Err(panic) = catch_unwind(AssertUnwindSafe(f)) else { panic!("did not panic") };
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().unwrap()).to_owned(),
    }
}

// Life

#[test]
fn a_scope_is_inert_until_its_future_is_polled() {
    run(async {
        let baseline = statistics();
        let scope = CancelScope::new();
        let entered = scope.enter(forever());
        assert!(!scope.is_entered());
        assert_eq!(statistics(), baseline);
        drop(entered);
        assert!(!scope.is_entered());
        // Never polled, so it can still be entered.
        assert_eq!(scope.enter(async { anyhow::Ok(1) }).await?, Some(1));
        assert!(scope.is_entered());
        Ok(())
    });
}

#[test]
fn a_scope_can_be_made_outside_a_run() {
    let scope = CancelScope::new().with_timeout(SECOND).with_name("early");
    scope.set_shield(true);
    assert_eq!(scope.timeout(), Some(SECOND));
    assert_eq!(scope.deadline(), None);
    assert!(!scope.cancel_called());
    assert_eq!(scope.reason(), None);
    let ended = run(async { Ok(scope.enter(sleep_forever()).await?) });
    assert_eq!(ended, None);
    assert!(scope.cancelled_caught());
    assert_eq!(scope.reason().unwrap().source(), CancelSource::Deadline);
}

#[test]
fn cancel_unbound() {
    run(async {
        let until_cancelled = async |scope: CancelScope| -> anyhow::Result<()> {
            let ended = scope.enter(async { fail_after(SECOND, forever()).await }).await?;
            assert_eq!(ended, None);
            Ok(())
        };
        // Cancelled before entry.
        let scope = CancelScope::new();
        scope.cancel();
        assert!(scope.cancel_called());
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(until_cancelled(scope.clone()));
            Ok(())
        })
        .await?;
        assert!(scope.cancelled_caught());
        // Cancelled after entry.
        let scope = CancelScope::new();
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(until_cancelled(scope.clone()));
            settled().await?;
            scope.cancel();
            Ok(())
        })
        .await?;
        assert!(scope.cancelled_caught());
        // Cancelled after exit.
        let scope = CancelScope::new();
        scope.enter(async { anyhow::Ok(checkpoint().await?) }).await?;
        scope.cancel();
        checkpoint().await?;
        assert!(scope.cancel_called());
        assert!(!scope.cancelled_caught());
        Ok(())
    });
}

#[test]
fn cancelled_before_entry_a_body_without_checkpoint_keeps_its_value() {
    run(async {
        let scope = CancelScope::new();
        scope.cancel();
        let value = scope.enter(async { anyhow::Ok(is_cancelled()) }).await?;
        assert_eq!(value, Some(true));
        assert!(!scope.cancelled_caught());
        Ok(())
    });
}

#[test]
fn a_passed_deadline_of_a_scope_not_entered_is_noticed_when_asked_and_never_taken_back() {
    run(async {
        let scope = CancelScope::new().with_deadline(now() + SECOND);
        assert!(!scope.cancel_called());
        scope.set_deadline(Some(now()));
        assert!(scope.cancel_called());
        scope.set_deadline(Some(now() + SECOND));
        assert!(scope.cancel_called());
        assert_eq!(scope.enter(sleep_forever()).await?, None);
        assert_eq!(scope.reason().unwrap().source(), CancelSource::Deadline);
        // Not asked, it has no effect.
        let scope = CancelScope::new().with_deadline(now());
        scope.set_deadline(None);
        assert!(!scope.cancel_called());
        Ok(())
    });
}

// Entered once

const ADVICE: &str = "Make a new one with `CancelScope::new()` for each use";

#[test]
fn a_scope_cannot_be_entered_again() {
    let text = panic_of(|| {
        run(async {
            let scope = CancelScope::new();
            scope.enter(async { anyhow::Ok(()) }).await?;
            scope.enter(async { anyhow::Ok(()) }).await?;
            Ok(())
        })
    });
    assert!(text.contains("has been entered before"), "{text}");
    assert!(text.contains("tests/scope.rs:"), "{text}");
    assert!(text.contains(ADVICE), "{text}");
}

#[test]
fn a_scope_cannot_be_entered_inside_itself() {
    let text = panic_of(|| {
        run(async {
            let scope = CancelScope::new();
            let inner = scope.clone();
            scope.enter(async { inner.enter(async { anyhow::Ok(()) }).await }).await?;
            Ok(())
        })
    });
    assert!(text.contains("has been entered before"), "{text}");
}

#[test]
fn a_scope_cannot_be_entered_by_a_second_task_and_the_first_is_unharmed() {
    run(async {
        let scope = CancelScope::new();
        open_nursery(async |n| -> anyhow::Result<()> {
            let first = n.start_soon(async { Ok(scope.enter(sleep_forever()).await?) });
            settled().await?;
            let mut second = pin!(scope.enter(forever()));
            let refused = poll_fn(|cx| {
                let polled = catch_unwind(AssertUnwindSafe(|| second.as_mut().poll(cx)));
                Poll::Ready(polled.is_err())
            });
            assert!(refused.await);
            settled().await?;
            assert!(!first.is_finished());
            scope.cancel();
            assert_eq!(first.await?, None);
            Ok(())
        })
        .await
    });
}

#[test]
fn a_scope_is_not_entered_outside_a_run() {
    let text = panic_of(|| {
        let entered = CancelScope::new().enter(async { Ok::<(), Cancelled>(()) });
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = pin!(entered).as_mut().poll(&mut context);
    });
    assert!(text.contains("a cancel scope was used outside a run"), "{text}");
}

#[test]
fn a_scope_that_was_entered_in_one_run_cannot_be_polled_in_another() {
    let scope = CancelScope::new();
    let mut stray: Boxed<'_, Option<()>> = Box::pin(scope.enter(forever()));
    run(async {
        assert!(poll!(&mut stray).is_pending());
        Ok(())
    });
    let text = panic_of(|| run(async { stray.as_mut().await }));
    assert!(text.contains("entered in one run was polled in another"), "{text}");
    drop(stray);
    // The runs are unharmed, and so is the handle.
    assert!(scope.is_entered());
    run(async { Ok(checkpoint().await?) });
}

// Debug

#[test]
fn cancel_scope_repr() {
    run(async {
        sleep(10 * SECOND).await?; // the clock has a past
        let scope = CancelScope::new();
        assert_eq!(format!("{scope:?}"), "<CancelScope unbound>");
        scope
            .enter(async {
                assert_eq!(format!("{scope:?}"), "<CancelScope active>");
                scope.set_deadline(Some(now() + 10 * SECOND));
                assert_eq!(format!("{scope:?}"), "<CancelScope active, deadline in 10s>");
                scope.set_deadline(now().checked_sub(SECOND));
                assert_eq!(format!("{scope:?}"), "<CancelScope active, deadline 1s ago>");
                scope.set_deadline(None);
                scope.set_shield(true);
                assert_eq!(format!("{scope:?}"), "<CancelScope active, shielded>");
                scope.cancel();
                assert_eq!(format!("{scope:?}"), "<CancelScope active, cancelled, shielded>");
                anyhow::Ok(())
            })
            .await?;
        assert_eq!(format!("{scope:?}"), "<CancelScope exited, cancelled, shielded>");
        let limited = CancelScope::new().with_timeout(SECOND).with_name("upload");
        assert_eq!(format!("{limited:?}"), "<CancelScope unbound \"upload\", timeout 1s>");
        Ok(())
    });
}

#[test]
fn outside_a_run_a_deadline_is_shown_without_a_time() {
    let scope = run(async { Ok(CancelScope::new().with_deadline(now() + SECOND)) });
    assert_eq!(format!("{scope:?}"), "<CancelScope unbound, with a deadline>");
}

/// Looking at a scope is not asking whether it is cancelled.
#[test]
fn printing_a_scope_does_not_cancel_it() {
    let clock = MockClock::new();
    Test::new()
        .clock(&clock)
        .run(async {
            let scope = CancelScope::new().with_timeout(SECOND);
            let ended = scope
                .enter(async {
                    clock.jump(2 * SECOND);
                    assert!(format!("{scope:?}").contains("deadline 1s ago"), "{scope:?}");
                    anyhow::Ok(is_cancelled())
                })
                .await?;
            assert_eq!(ended, Some(false));
            assert!(!scope.cancel_called());
            anyhow::Ok(())
        })
        .unwrap();
}

#[test]
fn the_future_of_a_scope_can_be_printed() {
    let scope = CancelScope::new();
    let text = format!("{:?}", scope.enter(forever()));
    assert_eq!(text, "Enter { scope: <CancelScope unbound>, .. }");
}

// Dropped half-way

#[test]
fn dropped_half_way_a_scope_leaves_the_tree_and_is_closed() {
    run(async {
        let baseline = statistics();
        let scope = CancelScope::new().with_timeout(SECOND);
        let dropped = Rc::new(());
        {
            let held = dropped.clone();
            let mut entered = pin!(scope.enter(async move {
                let _held = held;
                forever().await
            }));
            assert!(poll!(&mut entered).is_pending());
            assert_ne!(statistics(), baseline);
        }
        assert_eq!(Rc::strong_count(&dropped), 1);
        assert_eq!(statistics(), baseline); // its timer is gone as well
        assert_eq!(format!("{scope:?}").split(',').next(), Some("<CancelScope exited"));
        assert!(!scope.cancelled_caught());
        scope.cancel();
        checkpoint().await?;
        sleep(2 * SECOND).await?;
        Ok(())
    });
}

#[test]
fn a_scope_with_a_nursery_inside_drops_the_children_when_it_is_dropped() {
    run(async {
        let baseline = statistics();
        let alive = Rc::new(());
        {
            let scope = CancelScope::new();
            let mut entered = pin!(scope.enter(open_nursery(async |n| -> anyhow::Result<()> {
                for _ in 0..3 {
                    let alive = alive.clone();
                    n.start_soon(async move {
                        let _alive = alive;
                        forever().await
                    });
                }
                forever().await
            })));
            assert!(poll!(&mut entered).is_pending());
            assert_eq!(Rc::strong_count(&alive), 4);
        }
        assert_eq!(Rc::strong_count(&alive), 1);
        assert_eq!(statistics(), baseline);
        Ok(())
    });
}

#[test]
fn a_body_that_panics_leaves_its_scope() {
    run(async {
        let baseline = statistics();
        let scope = CancelScope::new();
        {
            let mut entered = pin!(scope.enter(async {
                checkpoint().await?;
                panic!("broken") as anyhow::Result<()>
            }));
            let panicked =
                poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| entered.as_mut().poll(cx))) {
                    Ok(Poll::Pending) => Poll::Pending,
                    Ok(Poll::Ready(_)) => Poll::Ready(false),
                    Err(_) => Poll::Ready(true),
                });
            assert!(panicked.await);
        }
        assert_eq!(statistics(), baseline);
        assert!(format!("{scope:?}").contains("exited"));
        checkpoint().await?;
        Ok(())
    });
}

// Out of order, moved (trio's misnesting)

/// Trio refuses it; here the inner scope is adopted where it is next polled.
#[test]
fn cancel_scope_misnesting_1() {
    run(async {
        let baseline = statistics();
        let (outer, inner) = (CancelScope::new(), CancelScope::new());
        let mut body: Boxed<'_, Option<()>> = Box::pin(inner.enter(async {
            sleep(SECOND).await?;
            assert!(!is_cancelled());
            anyhow::Ok(())
        }));
        outer
            .enter(async {
                assert!(poll!(&mut body).is_pending());
                anyhow::Ok(())
            })
            .await?;
        outer.cancel(); // it has ended: nothing below it
        assert_eq!(body.await?, Some(()));
        assert_eq!(statistics(), baseline);
        Ok(())
    });
}

/// The outer scope is cancelled first: what waits inside has been told, and what comes later is free.
#[test]
fn a_scope_that_outlives_a_cancelled_one_is_free_where_it_is_polled_next() {
    run(async {
        let baseline = statistics();
        let (outer, inner) = (CancelScope::new(), CancelScope::new());
        let told = Cell::new(false);
        let mut body: Boxed<'_, Option<()>> = Box::pin(inner.enter(async {
            told.set(sleep_forever().await.is_err());
            checkpoint().await?;
            sleep(SECOND).await?;
            anyhow::Ok(())
        }));
        outer
            .enter(async {
                assert!(poll!(&mut body).is_pending());
                outer.cancel();
                anyhow::Ok(())
            })
            .await?;
        // Meanwhile, the tree changes around what has no place in it.
        shield(sleep(SECOND)).await?;
        assert_eq!(body.await?, Some(()));
        assert!(told.get());
        assert!(!inner.cancel_called());
        assert_eq!(statistics(), baseline);
        Ok(())
    });
}

/// Other tasks inside the abandoned part live on below the new parent.
#[test]
fn cancel_scope_misnesting_2() {
    run(async {
        let baseline = statistics();
        let (outer, later) = (CancelScope::new(), CancelScope::new());
        let told = Cell::new(0);
        let mut inside: Boxed<'_, ()> = Box::pin(open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                let raised = sleep_forever().await.is_err();
                told.set(told.get() + i32::from(raised));
                Ok(())
            });
            n.start_soon(async {
                let scope = CancelScope::new();
                scope
                    .enter(async {
                        let raised = sleep_forever().await.is_err();
                        told.set(told.get() + i32::from(raised));
                        anyhow::Ok(())
                    })
                    .await?;
                Ok(())
            });
            Ok(())
        }));
        outer
            .enter(async {
                for _ in 0..4 {
                    assert!(poll!(&mut inside).is_pending());
                }
                anyhow::Ok(())
            })
            .await?;
        outer.cancel();
        settled().await?;
        assert_eq!(told.get(), 0);
        later
            .enter(async {
                assert!(poll!(&mut inside).is_pending());
                later.cancel();
                inside.await
            })
            .await?;
        assert_eq!(told.get(), 2);
        assert_eq!(statistics(), baseline);
        Ok(())
    });
}

/// Polled in a foreign task, a scope moves there: trio refuses that.
#[test]
fn cancel_scope_misnesting_3() {
    run(async {
        let baseline = statistics();
        let (first, second, moved) = (CancelScope::new(), CancelScope::new(), CancelScope::new());
        let slot = RefCell::new(None::<Boxed<'_, Option<()>>>);
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                first
                    .enter(async {
                        let mut body: Boxed<'_, _> = Box::pin(moved.enter(forever()));
                        assert!(poll!(&mut body).is_pending());
                        slot.replace(Some(body));
                        forever().await
                    })
                    .await?;
                Ok(())
            });
            settled().await?;
            let taker = n.start_soon(async {
                let body = slot.take().unwrap();
                second.enter(body).await
            });
            settled().await?;
            first.cancel(); // it is not there any more
            settled().await?;
            assert!(!taker.is_finished());
            second.cancel(); // it is here
            assert_eq!(taker.await?, None);
            assert!(second.cancelled_caught());
            assert!(!moved.cancelled_caught());
            Ok(())
        })
        .await?;
        assert_eq!(statistics(), baseline);
        Ok(())
    });
}

#[test]
fn a_scope_moved_into_a_cancelled_one_is_cancelled_and_out_of_it_is_not() {
    run(async {
        let cancelled = CancelScope::new();
        let inner = CancelScope::new();
        let raised = Cell::new(0);
        let mut body: Boxed<'_, Option<()>> = Box::pin(inner.enter(async {
            for _ in 0..3 {
                let is_raised = sleep(SECOND).await.is_err();
                raised.set(raised.get() + i32::from(is_raised));
            }
            anyhow::Ok(())
        }));
        assert!(poll!(&mut body).is_pending());
        cancelled
            .enter(async {
                cancelled.cancel();
                assert!(poll!(&mut body).is_pending()); // raises; the second sleep yields first
                assert_eq!(raised.get(), 1);
                anyhow::Ok(())
            })
            .await?;
        assert_eq!(body.await?, Some(()));
        assert_eq!(raised.get(), 2, "what the second has seen stands; the third is not cancelled");
        Ok(())
    });
}

#[test]
fn a_wait_that_is_moved_to_another_task_wakes_that_task() {
    run(async {
        let scope = CancelScope::new();
        let slot = RefCell::new(None);
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                let mut wait = Box::pin(sleep(SECOND));
                assert!(poll!(&mut wait).is_pending());
                slot.replace(Some(wait));
                forever().await
            });
            settled().await?;
            let wait = slot.take().unwrap();
            let start = now();
            wait.await?;
            assert_eq!(now(), start + SECOND);
            // And so does its cancellation, which is the new place's.
            let mut wait = Box::pin(sleep_forever());
            assert!(poll!(&mut wait).is_pending());
            let child = n.start_soon(async { Ok(scope.enter(wait).await?) });
            settled().await?;
            scope.cancel();
            assert_eq!(child.await?, None);
            n.cancel_scope().cancel();
            Ok(())
        })
        .await
    });
}

/// A nursery opened in a child, kept by somebody else: it ends where it is dropped.
#[test]
fn nursery_misnest() {
    run(async {
        let baseline = statistics();
        let alive = Rc::new(());
        let slot = RefCell::new(None::<Boxed<'_, ()>>);
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                let mut inner: Boxed<'_, ()> =
                    Box::pin(open_nursery(async |n| -> anyhow::Result<()> {
                        let alive = alive.clone();
                        n.start_soon(async move {
                            let _alive = alive;
                            Ok(sleep(SECOND).await?)
                        });
                        Ok(())
                    }));
                assert!(poll!(&mut inner).is_pending());
                slot.replace(Some(inner));
                Ok(())
            });
            Ok(())
        })
        .await?;
        assert_eq!(Rc::strong_count(&alive), 2); // suspended: nobody polls it
        drop(slot.take());
        assert_eq!(Rc::strong_count(&alive), 1);
        assert_eq!(statistics(), baseline);
        Ok(())
    });
}

/// A task ends with a nursery of its own half-way: it is dropped with the task's locals.
#[test]
fn nursery_nested_child_misnest() {
    run(async {
        let baseline = statistics();
        let alive = Rc::new(());
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                let mut inner = pin!(open_nursery(async |n| -> anyhow::Result<()> {
                    let alive = alive.clone();
                    n.start_soon(async move {
                        let _alive = alive;
                        forever().await
                    });
                    Ok(())
                }));
                assert!(poll!(&mut inner).is_pending());
                Ok(())
            });
            Ok(())
        })
        .await?;
        assert_eq!(Rc::strong_count(&alive), 1);
        assert_eq!(statistics(), baseline);
        Ok(())
    });
}

/// A nursery that outlives the one it was opened in, awaited afterwards: its children run to their end.
#[test]
fn asyncexitstack_nursery_misnest() {
    run(async {
        let baseline = statistics();
        let log = RefCell::new(vec![]);
        let slot = RefCell::new(None::<Boxed<'_, ()>>);
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                let mut inner: Boxed<'_, ()> =
                    Box::pin(open_nursery(async |n| -> anyhow::Result<()> {
                        n.start(async |status| {
                            status.started(());
                            sleep(SECOND).await?;
                            log.borrow_mut().push("slept");
                            Ok(())
                        })
                        .await?;
                        n.start_soon(async {
                            checkpoint().await?;
                            log.borrow_mut().push("started late");
                            Ok(())
                        });
                        Ok(())
                    }));
                assert!(poll!(&mut inner).is_pending());
                slot.replace(Some(inner));
                Ok(())
            });
            Ok(())
        })
        .await?;
        slot.take().unwrap().await?;
        assert_eq!(log.take(), ["started late", "slept"]);
        assert_eq!(statistics(), baseline);
        Ok(())
    });
}

// From other threads

#[test]
fn a_scope_can_be_cancelled_from_another_thread() {
    run(async {
        let scope = CancelScope::new();
        let remote = scope.remote();
        let ended = scope
            .enter(async {
                let thread = thread::spawn(move || remote.cancel_because("from afar"));
                let raised = sleep_forever().await;
                thread.join().unwrap();
                anyhow::Ok(raised?)
            })
            .await?;
        assert_eq!(ended, None);
        assert!(scope.cancelled_caught());
        let reason = scope.reason().unwrap();
        assert_eq!(reason.source(), CancelSource::Explicit);
        assert_eq!(reason.text(), Some("from afar"));
        assert_eq!(reason.task(), None);
        Ok(())
    });
}

#[test]
fn a_remote_handle_made_inside_works_for_the_nurserys_own_scope_too() {
    run(async {
        let stopped = open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(forever());
            let remote = n.cancel_scope().remote();
            let thread = thread::spawn(move || remote.cancel());
            let raised = sleep_forever().await;
            thread.join().unwrap();
            Ok(raised?)
        })
        .or_none()
        .await?;
        assert_eq!(stopped, None);
        Ok(())
    });
}

#[test]
fn cancelled_from_another_thread_before_entry_it_is_remembered() {
    let scope = CancelScope::new();
    let remote: RemoteScope = scope.remote();
    thread::spawn(move || remote.cancel_because("early")).join().unwrap();
    assert!(scope.cancel_called());
    run(async {
        assert_eq!(scope.enter(sleep_forever()).await?, None);
        assert_eq!(scope.reason().unwrap().text(), Some("early"));
        Ok(())
    });
}

#[test]
fn of_several_remote_cancels_the_first_reason_stands() {
    let scope = CancelScope::new();
    let (first, second) = (scope.remote(), scope.remote().clone());
    thread::spawn(move || first.cancel_because("first")).join().unwrap();
    thread::spawn(move || second.cancel_because("second")).join().unwrap();
    assert_eq!(scope.reason().unwrap().text(), Some("first"));
}

#[test]
fn cancelled_from_another_thread_after_its_end_or_after_the_run_nothing_happens() {
    let scope = CancelScope::new();
    let remote = scope.remote();
    run(async {
        scope.enter(async { anyhow::Ok(checkpoint().await?) }).await?;
        thread::scope(|s| s.spawn(|| remote.cancel()).join().unwrap());
        sleep(SECOND).await?;
        assert!(!scope.cancelled_caught());
        Ok(())
    });
    thread::spawn(move || remote.cancel()).join().unwrap();
    let inside = run(async {
        let scope = CancelScope::new();
        Ok(scope.enter(async { anyhow::Ok(scope.remote()) }).await?.unwrap())
    });
    thread::spawn(move || inside.cancel()).join().unwrap();
}

/// Many races of entering against cancelling: whichever comes first, the scope is cancelled.
#[test]
fn a_remote_cancel_that_races_with_the_entry_is_not_lost() {
    for _ in 0..200 {
        let scope = CancelScope::new();
        let remote = scope.remote();
        let thread = thread::spawn(move || remote.cancel());
        let ended = run(async { Ok(scope.enter(sleep_forever()).await?) });
        thread.join().unwrap();
        assert_eq!(ended, None);
    }
}

// From elsewhere in the run

#[test]
fn the_handle_works_from_any_task_and_from_the_body_itself() {
    run(async {
        let scope = CancelScope::new();
        let handles = RefCell::new(vec![scope.clone(), scope.clone()]);
        open_nursery(async |n| -> anyhow::Result<()> {
            let child = n.start_soon(async { Ok(scope.enter(sleep_forever()).await?) });
            settled().await?;
            n.start_soon(async {
                handles.borrow_mut().pop().unwrap().cancel();
                Ok(())
            });
            assert_eq!(child.await?, None);
            Ok(())
        })
        .await?;
        assert!(handles.borrow().iter().all(CancelScope::cancelled_caught));
        Ok(())
    });
}

#[test]
fn one_scope_covers_the_waits_of_all_tasks_of_a_nursery_inside() {
    run(async {
        let scope = CancelScope::new();
        let raised = Cell::new(0);
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                scope
                    .enter(open_nursery(async |inner| -> anyhow::Result<()> {
                        for _ in 0..10 {
                            inner.start_soon(async {
                                let is_raised = sleep_forever().await.is_err();
                                raised.set(raised.get() + i32::from(is_raised));
                                Ok(())
                            });
                        }
                        Ok(())
                    }))
                    .await?;
                Ok(())
            });
            settled().await?;
            scope.cancel();
            Ok(())
        })
        .await?;
        assert_eq!(raised.get(), 10);
        assert!(!scope.cancelled_caught()); // they all ended well
        Ok(())
    });
}

#[test]
fn time_limits_and_shields_dropped_half_way_leave_nothing() {
    run(async {
        let baseline = statistics();
        {
            let mut limited = pin!(move_on_after(SECOND, forever()));
            let mut failing = pin!(fail_after(SECOND, forever()));
            let mut shielded = pin!(shield(forever()));
            let mut foreign = pin!(cancellable(std::future::pending::<()>()));
            assert!(poll!(&mut limited).is_pending());
            assert!(poll!(&mut failing).is_pending());
            assert!(poll!(&mut shielded).is_pending());
            assert!(poll!(&mut foreign).is_pending());
            assert!(statistics().nodes > baseline.nodes);
        }
        assert_eq!(statistics(), baseline);
        Ok(())
    });
}
