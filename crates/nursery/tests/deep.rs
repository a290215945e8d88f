//! Deep and wide: many nested nurseries, scopes and children are run, cancelled and ended, without deep recursion
//! where it can be avoided, and in no more than linear time.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::thread;
use std::time::Duration;

use futures_util::future::poll_immediate;
use nursery::lowlevel::statistics;
use nursery::{
    CancelScope, Cancelled, Nursery, OpenNursery, checkpoint, open_nursery, sleep_forever, tree,
};
use nursery_testing::{run, wait_all_tasks_blocked};

type Result<T = ()> = std::result::Result<T, Cancelled>;
type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

const DEPTH: u32 = if cfg!(miri) { 20 } else { 1_000 };
const WIDTH: u32 = if cfg!(miri) { 100 } else { 100_000 };

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

/// Runs a test in a thread with the stack of a main thread.
fn with_8_mib(test: impl FnOnce() -> Result + Send + 'static) {
    let thread = thread::Builder::new().stack_size(8 << 20).spawn(move || test().unwrap());
    thread.unwrap().join().unwrap();
}

/// A nursery in a child of a nursery in a child …
fn chain(depth: u32, ends: &Cell<u32>) -> Boxed<'_, ()> {
    Box::pin(async move {
        if depth == 0 {
            let result = sleep_forever().await;
            ends.set(ends.get() + 1);
            return result;
        }
        open(async |n| {
            n.start_soon(chain(depth - 1, ends));
            Ok(())
        })
        .await?;
        ends.set(ends.get() + 1);
        Ok(())
    })
}

/// A nursery in the body of a nursery in the body …
fn bodies(depth: u32, ends: &Cell<u32>) -> Boxed<'_, ()> {
    Box::pin(async move {
        if depth == 0 {
            return sleep_forever().await;
        }
        let result = open(async |n| {
            n.start_soon(async {
                let result = sleep_forever().await;
                ends.set(ends.get() + 1);
                result
            });
            bodies(depth - 1, ends).await
        })
        .await;
        ends.set(ends.get() + 1);
        result
    })
}

fn scopes(depth: u32) -> Boxed<'static, ()> {
    Box::pin(async move {
        if depth == 0 {
            return sleep_forever().await;
        }
        match CancelScope::new().enter(scopes(depth - 1)).await? {
            Some(()) => Ok(()),
            None => panic!("only the outermost is cancelled"),
        }
    })
}

#[test]
fn a_thousand_nested_nurseries_are_cancelled_from_the_top() {
    with_8_mib(|| {
        run(async {
            let ends = Cell::new(0);
            open(async |n| {
                n.start_soon(chain(DEPTH, &ends));
                all_blocked().await?;
                assert!(statistics().nodes > 2 * DEPTH as usize);
                n.cancel_scope().cancel();
                Ok(())
            })
            .await?;
            assert_eq!(ends.get(), 1, "the cancellation went up through all the others");
            Ok(())
        })
    });
}

#[test]
fn a_thousand_nested_nurseries_end_when_the_innermost_child_does() {
    fn chain(depth: u32, deepest: &Cell<u32>) -> Boxed<'_, u32> {
        Box::pin(async move {
            if depth == 0 {
                for _ in 0..3 {
                    checkpoint().await?;
                }
                deepest.set(deepest.get() + 1);
                return Ok(0);
            }
            open(async |n| Ok(n.start_soon(chain(depth - 1, deepest)).await? + 1)).await
        })
    }
    with_8_mib(|| {
        run(async {
            let deepest = Cell::new(0);
            assert_eq!(chain(DEPTH, &deepest).await?, DEPTH);
            assert_eq!(deepest.get(), 1);
            Ok(())
        })
    });
}

#[test]
fn a_thousand_nested_bodies_are_cancelled_from_the_top() {
    with_8_mib(|| {
        run(async {
            let ends = Cell::new(0);
            let scope = CancelScope::new();
            open(async |n| {
                let child = n.start_soon(scope.enter(bodies(DEPTH, &ends)));
                all_blocked().await?;
                scope.cancel();
                assert_eq!(child.await?, None);
                Ok(())
            })
            .await?;
            assert_eq!(ends.get(), 2 * DEPTH);
            Ok(())
        })
    });
}

#[test]
fn a_thousand_nested_nurseries_are_dropped() {
    with_8_mib(|| {
        run(async {
            let before = statistics();
            let ends = Cell::new(0);
            for make in [chain, bodies] {
                let mut future = make(DEPTH, &ends);
                for _ in 0..=DEPTH {
                    assert!(poll_immediate(&mut future).await.is_none());
                }
                assert!(statistics().nodes > 2 * DEPTH as usize);
                drop(future);
                assert_eq!(statistics(), before);
            }
            assert_eq!(ends.get(), 0, "nothing async has run");
            Ok(())
        })
    });
}

#[test]
fn a_panic_below_a_thousand_nested_nurseries_comes_out_at_the_top() {
    fn chain(depth: u32) -> Boxed<'static, ()> {
        Box::pin(async move {
            assert!(depth > 0, "the deepest");
            open(async |n| {
                n.start_soon(chain(depth - 1));
                Ok(())
            })
            .await
        })
    }
    let depth = if cfg!(miri) { 5 } else { 200 };
    let panic = thread::Builder::new()
        .stack_size(8 << 20)
        .spawn(move || run(chain(depth)))
        .unwrap()
        .join()
        .unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the deepest"));
}

/// trio: `very_deep_cancel_scope_nesting`
#[test]
fn very_deep_cancel_scope_nesting() {
    with_8_mib(|| {
        run(async {
            let scope = CancelScope::new();
            open(async |n| {
                let child = n.start_soon(scope.enter(scopes(2 * DEPTH)));
                all_blocked().await?;
                assert!(statistics().nodes > 2 * DEPTH as usize);
                scope.cancel();
                assert_eq!(child.await?, None);
                Ok(())
            })
            .await?;
            assert!(scope.cancelled_caught());
            Ok(())
        })
    });
}

#[test]
fn the_tree_of_a_deep_run_can_be_printed() {
    with_8_mib(|| {
        run(async {
            let ends = Cell::new(0);
            open(async |n| {
                n.start_soon(chain(DEPTH / 4, &ends));
                all_blocked().await?;
                let tree = tree();
                assert_eq!(tree.to_string().lines().count(), tree.nodes().len());
                n.cancel_scope().cancel();
                Ok(())
            })
            .await
        })
    });
}

#[test]
fn a_hundred_thousand_children_are_cancelled_and_end() -> Result {
    run(async {
        let ended = Cell::new(0);
        open(async |n| {
            for _ in 0..WIDTH {
                n.start_soon(async {
                    let result = sleep_forever().await;
                    ended.set(ended.get() + 1);
                    result
                });
            }
            all_blocked().await?;
            assert_eq!(statistics().tasks_living, WIDTH as usize + 1);
            n.cancel_scope().cancel();
            Ok(())
        })
        .await?;
        assert_eq!(ended.get(), WIDTH);
        Ok(())
    })
}

#[test]
fn a_hundred_thousand_children_are_dropped() -> Result {
    run(async {
        let before = statistics();
        for polls in 1..3 {
            let mut nursery = Box::pin(open(async |n| {
                for _ in 0..WIDTH / 2 {
                    n.start_soon(sleep_forever());
                }
                sleep_forever().await
            }));
            for _ in 0..polls {
                assert!(poll_immediate(&mut nursery).await.is_none());
            }
            assert_eq!(statistics().tasks_living, WIDTH as usize / 2 + 1);
            drop(nursery);
            assert_eq!(statistics(), before);
        }
        Ok(())
    })
}

#[test]
fn thousands_of_children_fail_and_all_errors_leave() {
    let error = run(async {
        open_nursery(async |n| -> anyhow::Result<()> {
            for i in 0..WIDTH / 10 {
                n.start_soon(async move { Err::<(), _>(anyhow::anyhow!("{i}")) });
            }
            Ok(())
        })
        .await
    })
    .unwrap_err();
    let group: nursery::ErrorGroup<anyhow::Error> = error.downcast().unwrap();
    assert_eq!(group.len(), WIDTH as usize / 10);
}
