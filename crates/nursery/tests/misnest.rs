//! Scopes and nurseries left out of order, in another task, or in another run: what is left of trio's misnesting.
//!
//! In trio a scope can be left while one inside it is open, which is an error there. Here the future of a scope owns what
//! is inside it. What can still happen: a future that was polled inside one scope goes on under another, or
//! outlives the scope it was first polled in. Then the scope it is polled in now is its parent.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::catch_unwind;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::{FutureExt, poll_immediate};
use nursery::lowlevel::{is_cancelled, statistics};
use nursery::{
    CancelScope, Cancelled, NodeKind, Nursery, OpenNursery, checkpoint, move_on_after, now,
    open_nursery, sleep, sleep_forever, tree,
};
use nursery_testing::{Test, run, wait_all_tasks_blocked};

const SECOND: Duration = Duration::from_secs(1);

type Result<T = ()> = std::result::Result<T, Cancelled>;
type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

/// [`open_nursery`] with an error type.
fn open<'env, T, B>(body: B) -> OpenNursery<impl Future<Output = Result<Result<T>>>>
where
    B: for<'scope> AsyncFnOnce(&'scope Nursery<'scope, 'env, Cancelled>) -> Result<T>,
{
    open_nursery(body)
}

async fn all_blocked() -> Result {
    wait_all_tasks_blocked(Duration::ZERO).await
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .expect("a panic with a text")
}

/// Polls a future once, inside a scope that is then left.
async fn poll_once_in<T>(scope: &CancelScope, future: &mut Boxed<'_, T>) -> Result {
    scope
        .enter(async {
            assert!(poll_immediate(future).await.is_none());
            Ok::<_, Cancelled>(())
        })
        .await?;
    Ok(())
}

/// trio: `cancel_scope_misnesting_1`: the outer scope is left while the inner one is open.
#[test]
fn a_scope_that_outlives_the_one_it_was_polled_in_goes_on() -> Result {
    run(async {
        let (outer, inner) = (CancelScope::new(), CancelScope::new());
        let mut future: Boxed<'_, _> = Box::pin(inner.enter(sleep(SECOND)));
        poll_once_in(&outer, &mut future).await?;
        outer.cancel();
        assert!(future.await?.is_some(), "it is no longer inside `outer`");
        assert!(!inner.cancel_called());
        Ok(())
    })
}

/// trio: `cancel_scope_misnesting_1`, with a cancelled outer scope.
#[test]
fn a_scope_that_outlives_a_cancelled_one_is_no_longer_cancelled() -> Result {
    run(async {
        let (outer, inner) = (CancelScope::new(), CancelScope::new());
        let seen = RefCell::new(vec![]);
        let mut future: Boxed<'_, _> = Box::pin(inner.enter(async {
            seen.borrow_mut().push(is_cancelled());
            let _ = checkpoint().await;
            seen.borrow_mut().push(is_cancelled());
            sleep(SECOND).await
        }));
        outer.cancel();
        poll_once_in(&outer, &mut future).await?;
        // The tree is in order meanwhile.
        let orphan = tree().nodes().iter().filter(|node| node.effectively_cancelled).count();
        assert_eq!(orphan, 0, "{}", tree());
        assert!(future.await?.is_some());
        assert_eq!(*seen.borrow(), [true, false]);
        Ok(())
    })
}

#[test]
fn a_whole_tree_that_outlives_a_cancelled_scope_is_no_longer_cancelled() -> Result {
    run(async {
        let outer = CancelScope::new();
        let done = Cell::new(0);
        let mut future: Boxed<'_, _> = Box::pin(open(async |n| {
            for _ in 0..3 {
                let done = &done;
                n.start_soon(async move {
                    move_on_after(5 * SECOND, async {
                        sleep(SECOND).await?;
                        done.set(done.get() + 1);
                        Ok::<_, Cancelled>(())
                    })
                    .await
                });
            }
            Ok(())
        }));
        poll_once_in(&outer, &mut future).await?;
        outer.cancel();
        future.await?;
        assert_eq!(done.get(), 3);
        Ok(())
    })
}

/// What has been delivered stays delivered, A13: the wait was over when the scope was left.
#[test]
fn a_wait_that_was_cancelled_before_it_moved_away_raises() -> Result {
    run(async {
        let (outer, inner) = (CancelScope::new(), CancelScope::new());
        let mut future: Boxed<'_, _> = Box::pin(inner.enter(sleep_forever()));
        outer
            .enter(async {
                assert!(poll_immediate(&mut future).await.is_none());
                outer.cancel();
                Ok::<_, Cancelled>(())
            })
            .await?;
        let error = future.await.unwrap_err();
        assert_eq!(error.to_string(), "cancelled due to explicit from task \"main\"");
        assert!(!inner.cancelled_caught());
        Ok(())
    })
}

/// trio: `cancel_scope_misnesting_2`: dropped out of order, the outer first.
#[test]
fn scopes_dropped_out_of_order_leave_the_tree_in_order() -> Result {
    run(async {
        let before = statistics();
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
            let scopes = [CancelScope::new(), CancelScope::new(), CancelScope::new()];
            let mut futures: Vec<Option<Boxed<'_, Option<()>>>> = vec![];
            // Each is first polled inside the one before it.
            let innermost: Boxed<'_, _> = Box::pin(scopes[2].enter(sleep_forever()));
            let shared = Rc::new(RefCell::new(Some(innermost)));
            let middle: Boxed<'_, _> = Box::pin(scopes[1].enter(polls(shared.clone())));
            let middle = Rc::new(RefCell::new(Some(middle)));
            let mut outermost: Boxed<'_, _> = Box::pin(scopes[0].enter(polls(middle.clone())));
            assert!(poll_immediate(&mut outermost).await.is_none());
            futures.push(Some(outermost));
            futures.push(middle.take());
            futures.push(shared.take());
            assert_eq!(statistics().nodes, before.nodes + 3);
            for (left, i) in order.into_iter().enumerate() {
                futures[i] = None;
                assert_eq!(statistics().nodes, before.nodes + 2 - left);
                scopes[i].cancel();
                checkpoint().await?;
            }
            assert_eq!(statistics(), before);
        }
        Ok(())
    })
}

/// Polls a future that others can take out.
async fn polls(slot: Rc<RefCell<Option<Boxed<'_, Option<()>>>>>) -> Result {
    std::future::poll_fn(|cx| match &mut *slot.borrow_mut() {
        Some(future) => future.as_mut().poll(cx).map_ok(|_| ()),
        None => Poll::Pending,
    })
    .await
}

/// trio: `cancel_scope_misnesting_3`: left in another task than the one that entered it.
#[test]
fn a_scope_that_is_moved_to_another_task_is_that_tasks() -> Result {
    run(async {
        let start = now();
        let inner = CancelScope::new();
        let mut future: Boxed<'_, _> = Box::pin(inner.enter(sleep(3 * SECOND)));
        assert!(poll_immediate(&mut future).await.is_none());
        open(async |n| {
            let child = n.start_soon(async { Ok(future.await?.is_some()) });
            sleep(SECOND).await?;
            child.cancel();
            assert!(child.await.is_err(), "the scope is inside the child now");
            Ok(())
        })
        .await?;
        assert_eq!(now() - start, SECOND);
        assert!(!inner.cancel_called() && !inner.cancelled_caught());
        Ok(())
    })
}

#[test]
fn a_scope_that_was_moved_can_be_cancelled_by_its_handle() -> Result {
    run(async {
        let inner = CancelScope::new();
        let mut future: Boxed<'_, _> = Box::pin(inner.enter(sleep_forever()));
        assert!(poll_immediate(&mut future).await.is_none());
        open(async |n| {
            let child = n.start_soon(async { Ok(future.await?.is_none()) });
            all_blocked().await?;
            inner.cancel();
            assert!(child.await?);
            Ok(())
        })
        .await?;
        assert!(inner.cancelled_caught());
        Ok(())
    })
}

/// trio: `nursery_misnest`: the future of a nursery outlives the scope it was opened in.
#[test]
fn a_nursery_that_outlives_the_scope_it_was_opened_in_goes_on() -> Result {
    run(async {
        let scope = CancelScope::new().with_timeout(SECOND);
        let done = Cell::new(false);
        let mut future: Boxed<'_, _> = Box::pin(open(async |n| {
            n.start_soon(async {
                sleep(2 * SECOND).await?;
                done.set(true);
                Ok(())
            });
            Ok(())
        }));
        poll_once_in(&scope, &mut future).await?;
        future.await?;
        assert!(done.get());
        Ok(())
    })
}

/// trio: `nursery_nested_child_misnest`: dropped by one of the outer nursery's children.
#[test]
fn a_child_drops_a_nursery_that_another_task_has_opened() -> Result {
    run(async {
        let before = statistics();
        let dropped = Rc::new(());
        open(async |n| {
            let held = dropped.clone();
            let mut future: Boxed<'_, ()> = Box::pin(open(async move |inner| {
                let child = held.clone();
                inner.start_soon(async move {
                    let _child = child;
                    sleep_forever().await
                });
                let _held = held;
                sleep_forever().await
            }));
            assert!(poll_immediate(&mut future).await.is_none());
            assert!(poll_immediate(&mut future).await.is_none());
            assert_eq!(Rc::strong_count(&dropped), 3);
            let child = n.start_soon(async move {
                drop(future);
                Ok(())
            });
            child.await?;
            assert_eq!(Rc::strong_count(&dropped), 1);
            Ok(())
        })
        .await?;
        assert_eq!(statistics(), before);
        Ok(())
    })
}

/// trio: `asyncexitstack_nursery_misnest`, `asyncexitstack_nursery_misnest_cleanup`: the nursery in which it was
/// opened ends first; its children still clean up, under the nursery that polls them now.
#[test]
fn a_nursery_that_outlives_the_nursery_it_was_opened_in_cleans_up_its_children() -> Result {
    run(async {
        let log = RefCell::new(vec![]);
        let mut future: Boxed<'_, Option<()>> = Box::pin(
            open(async |inner| {
                inner.start_soon(async {
                    let cancelled = sleep_forever().await;
                    log.borrow_mut().push("clean-up begins");
                    nursery::shield(sleep(SECOND)).await?;
                    log.borrow_mut().push("clean-up ends");
                    cancelled
                });
                sleep_forever().await
            })
            .or_none(),
        );
        open(async |n| {
            assert!(poll_immediate(&mut future).await.is_none());
            assert!(poll_immediate(&mut future).await.is_none());
            n.cancel_scope().cancel();
            Ok(())
        })
        .await?;
        log.borrow_mut().push("outer is closed");
        let scope = CancelScope::new();
        scope.cancel();
        assert_eq!(scope.enter(&mut future).await?, None);
        assert_eq!(*log.borrow(), ["outer is closed", "clean-up begins", "clean-up ends"]);
        Ok(())
    })
}

#[test]
fn a_nursery_that_is_handed_round_between_tasks_keeps_its_children() -> Result {
    run(async {
        let log = RefCell::new(vec![]);
        let mut future: Boxed<'_, ()> = Box::pin(open(async |n| {
            for i in 0..3 {
                let log = &log;
                n.start_soon(async move {
                    sleep(SECOND * (2 * i + 1)).await?;
                    log.borrow_mut().push(i);
                    Ok(())
                });
            }
            Ok(())
        }));
        let slot = RefCell::new(Some(&mut future));
        open(async |n| {
            for hop in 0..3 {
                let slot = &slot;
                n.start_soon(async move {
                    sleep(2 * SECOND * hop).await?;
                    let future = slot.take().expect("nobody else has it");
                    // Not awaited to its end: given on when the time is up.
                    let mut timer = Box::pin(sleep(2 * SECOND - Duration::from_millis(1)));
                    futures_util::future::select(&mut *future, &mut timer).await;
                    slot.replace(Some(future));
                    Ok(())
                });
            }
            Ok(())
        })
        .await?;
        assert_eq!(*log.borrow(), [0, 1, 2]);
        Ok(())
    })
}

#[test]
fn the_tree_shows_a_moved_nursery_where_it_is_polled() -> Result {
    run(async {
        let mut future: Boxed<'_, ()> = Box::pin(open(async |_| sleep(SECOND).await));
        assert!(poll_immediate(&mut future).await.is_none());
        open(async |n| {
            n.start_soon(future).set_name("new home");
            all_blocked().await?;
            let tree = tree();
            let home =
                tree.nodes().iter().position(|node| node.name.as_deref() == Some("new home"));
            let below = &tree.nodes()[home.unwrap() + 1];
            assert_eq!(below.kind, NodeKind::Nursery);
            assert_eq!(below.depth, tree.nodes()[home.unwrap()].depth + 1);
            Ok(())
        })
        .await
    })
}

/// trio: `cancel_unbound`. A44.
#[test]
fn a_scope_cannot_be_entered_twice_and_the_first_use_is_unharmed() -> Result {
    run(async {
        let scope = CancelScope::new();
        let value = scope
            .enter(async {
                let again = std::panic::AssertUnwindSafe(scope.enter(checkpoint()));
                let panic = again.catch_unwind().await.unwrap_err();
                assert!(message(&*panic).contains("has been entered before"));
                scope.cancel();
                checkpoint().await
            })
            .await?;
        assert_eq!(value, None);
        assert!(scope.cancelled_caught());
        Ok(())
    })
}

#[test]
fn a_nursery_or_scope_polled_in_another_run_panics_with_advice() {
    fn scope<'a>() -> Boxed<'a, ()> {
        Box::pin(async {
            CancelScope::new().enter(sleep_forever()).await?;
            Ok(())
        })
    }
    fn nursery<'a>() -> Boxed<'a, ()> {
        Box::pin(open(async |n| {
            n.start_soon(sleep_forever());
            sleep_forever().await
        }))
    }
    for make in [scope, nursery] {
        let mut future = make();
        let mut first = Box::pin(Test::new().builder().guest(async {
            assert!(poll_immediate(&mut future).await.is_none());
            nursery::cancellable(std::future::pending::<()>()).await
        }));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(first.as_mut().poll(&mut cx).is_pending());
        drop(first);
        let panic =
            catch_unwind(std::panic::AssertUnwindSafe(|| run(async { future.await.map(|_| ()) })))
                .unwrap_err();
        assert!(message(&*panic).contains("was polled in another"), "{}", message(&*panic));
    }
}

#[test]
fn opened_outside_a_run_it_panics_with_advice() {
    let mut cx = Context::from_waker(Waker::noop());
    let mut nursery = Box::pin(open(async |_| Ok(())));
    let poll = std::panic::AssertUnwindSafe(|| nursery.as_mut().poll(&mut cx));
    let panic = catch_unwind(poll).unwrap_err();
    assert!(message(&*panic).contains("`open_nursery` was used outside a run"));
}
