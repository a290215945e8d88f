//! Panics in a nursery: the others are cancelled and waited for, then the first panic goes on. B24.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;
use std::time::Duration;

use anyhow::anyhow;
use futures_util::FutureExt;
use nursery::lowlevel::statistics;
use nursery::{
    CancelScope, Cancelled, Nursery, OpenNursery, TaskStatus, checkpoint, move_on_after, now,
    open_nursery, shield, sleep, sleep_forever,
};
use nursery_testing::{run, wait_all_tasks_blocked};

const SECOND: Duration = Duration::from_secs(1);

type Result<T = ()> = anyhow::Result<T>;

/// [`open_nursery`] with an error type.
fn open<'env, T, B>(
    body: B,
) -> OpenNursery<impl Future<Output = Result<std::result::Result<T, Cancelled>>>>
where
    B: for<'scope> AsyncFnOnce(&'scope Nursery<'scope, 'env, anyhow::Error>) -> Result<T>,
{
    open_nursery(body)
}

async fn forever() -> Result {
    Ok(sleep_forever().await?)
}

async fn panics(text: &'static str) -> Result {
    checkpoint().await?;
    panic!("{text}")
}

fn text(panic: &(dyn Any + Send)) -> String {
    let of_string = panic.downcast_ref::<String>().cloned();
    of_string.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.into())).unwrap()
}

/// The text of the panic that a future ends with.
async fn panic_of<T>(future: impl Future<Output = T>) -> String {
    match AssertUnwindSafe(future).catch_unwind().await {
        Ok(_) => panic!("it did not panic"),
        Err(panic) => text(&*panic),
    }
}

/// Panics when it is dropped.
struct Bomb(&'static str);

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("{}", self.0);
    }
}

#[test]
fn a_panic_of_a_child_goes_on_in_the_parent_after_the_siblings_have_cleaned_up() -> Result {
    run(async {
        let start = now();
        let cleaned = Cell::new(0);
        let clean = async || -> Result {
            let cancelled = forever().await;
            shield(sleep(SECOND)).await?;
            cleaned.set(cleaned.get() + 1);
            cancelled
        };
        let panic = panic_of(open(async |n| {
            n.start_soon(clean());
            n.start_soon(panics("child"));
            n.start_soon(clean());
            clean().await
        }))
        .await;
        assert_eq!(panic, "child");
        assert_eq!(cleaned.get(), 3);
        assert_eq!(now() - start, SECOND);
        checkpoint().await?; // the parent is not cancelled
        Ok(())
    })
}

#[test]
fn a_panic_of_the_body_goes_on_after_the_children_have_ended() -> Result {
    run(async {
        let start = now();
        let panic = panic_of(open(async |n| {
            n.start_soon(async {
                let cancelled = forever().await;
                shield(sleep(SECOND)).await?;
                cancelled
            });
            panics("body").await
        }))
        .await;
        assert_eq!(panic, "body");
        assert_eq!(now() - start, SECOND);
        Ok(())
    })
}

#[test]
fn the_first_of_several_panics_goes_on() -> Result {
    run(async {
        let late = async |text: &'static str, seconds| -> Result {
            shield(sleep(seconds * SECOND)).await?;
            panic!("{text}")
        };
        let start = now();
        let panic = panic_of(open(async |n| {
            n.start_soon(late("third", 3));
            n.start_soon(late("first", 1));
            late("second", 2).await
        }))
        .await;
        assert_eq!(panic, "first");
        assert_eq!(now() - start, 3 * SECOND, "all have ended");
        Ok(())
    })
}

#[test]
fn the_reason_says_who_panicked() -> Result {
    run(async {
        let seen = RefCell::new(String::new());
        let note = async || -> Result {
            let cancelled = sleep_forever().await.unwrap_err();
            seen.replace(cancelled.to_string());
            Err(cancelled.into())
        };
        panic_of(open(async |n| {
            n.start_soon(panics("child")).set_name("culprit");
            note().await
        }))
        .await;
        assert_eq!(
            seen.take(),
            "cancelled due to nursery with reason \"a child panicked\" from task \"culprit\""
        );
        panic_of(open(async |n| {
            n.start_soon(note());
            checkpoint().await?;
            panics("body").await
        }))
        .await;
        assert_eq!(
            seen.take(),
            "cancelled due to nursery with reason \"the body panicked\" from task \"main\""
        );
        Ok(())
    })
}

#[test]
fn a_panic_beats_the_errors_beside_it_whichever_came_first() -> Result {
    run(async {
        let panic = panic_of(open(async |n| {
            n.start_soon(async { Err::<(), _>(anyhow!("an error, first")) });
            n.start_soon(async {
                let _ = forever().await;
                panic!("then a panic") as Result
            });
            Ok(())
        }))
        .await;
        assert_eq!(panic, "then a panic");
        let panic = panic_of(open(async |n| {
            n.start_soon(panics("first a panic"));
            forever().await.map_err(|_| anyhow!("then an error"))
        }))
        .await;
        assert_eq!(panic, "first a panic");
        Ok(())
    })
}

#[test]
fn a_panic_while_cancelled_is_not_absorbed() -> Result {
    run(async {
        let panic = panic_of(open(async |n| {
            n.start_soon(async {
                let _ = forever().await;
                panic!("in clean-up") as Result
            });
            wait_all_tasks_blocked(Duration::ZERO).await?;
            n.cancel_scope().cancel();
            Ok(())
        }))
        .await;
        assert_eq!(panic, "in clean-up");

        let scope = CancelScope::new();
        let panic = panic_of(scope.enter(open(async |n| {
            n.start_soon(async {
                let _ = forever().await;
                panic!("under an outer scope") as Result
            });
            wait_all_tasks_blocked(Duration::ZERO).await?;
            scope.cancel();
            Ok(())
        })))
        .await;
        assert_eq!(panic, "under an outer scope");
        assert!(!scope.cancelled_caught());
        Ok(())
    })
}

#[test]
fn a_panic_of_a_child_that_was_cancelled_alone_is_not_absorbed() -> Result {
    run(async {
        let panic = panic_of(open(async |n| {
            let child = n.start_soon(async {
                let _ = forever().await;
                panic!("cancelled alone") as Result
            });
            wait_all_tasks_blocked(Duration::ZERO).await?;
            child.cancel();
            forever().await
        }))
        .await;
        assert_eq!(panic, "cancelled alone");
        Ok(())
    })
}

#[test]
fn a_panic_goes_up_through_nested_nurseries_which_all_wait() -> Result {
    run(async {
        let start = now();
        let waits = async |seconds| -> Result {
            let cancelled = forever().await;
            shield(sleep(seconds * SECOND)).await?;
            cancelled
        };
        let panic = panic_of(open(async |outer| {
            outer.start_soon(waits(1));
            outer.start_soon(async {
                open(async |inner| {
                    inner.start_soon(waits(1));
                    inner.start_soon(panics("deep"));
                    Ok(())
                })
                .await
            });
            Ok(())
        }))
        .await;
        assert_eq!(panic, "deep");
        assert_eq!(now() - start, 2 * SECOND, "one after the other");
        Ok(())
    })
}

#[test]
fn who_waits_for_a_child_that_panics_is_cancelled() -> Result {
    run(async {
        let told = Cell::new(false);
        let panic = panic_of(open(async |n| {
            let child = n.start_soon(panics("child"));
            told.set(child.await.is_err());
            Ok(())
        }))
        .await;
        assert_eq!(panic, "child");
        assert!(told.get());
        Ok(())
    })
}

#[test]
fn a_panic_that_was_caught_leaves_nothing_behind() -> Result {
    run(async {
        let before = statistics();
        for _ in 0..3 {
            panic_of(move_on_after(
                SECOND,
                open(async |n| {
                    n.start_soon(forever());
                    n.start(async |status: TaskStatus<()>| {
                        status.started(());
                        panics("after it had started").await
                    })
                    .await?;
                    open(async |_| forever().await).await
                }),
            ))
            .await;
        }
        assert_eq!(statistics(), before);
        Ok(())
    })
}

#[test]
fn the_panic_of_a_child_leaves_the_run() {
    let panic = catch_unwind(|| {
        run(open(async |n| {
            n.start_soon(panics("child"));
            forever().await
        }))
    })
    .unwrap_err();
    assert_eq!(text(&*panic), "child");
    assert!(run(async { Ok::<_, Cancelled>(true) }).unwrap(), "the thread can run again");
}

// Destructors.

#[test]
fn a_panic_in_the_destructor_of_what_a_child_holds_counts_as_the_childs() -> Result {
    run(async {
        let sibling = Cell::new(false);
        let panic = panic_of(open(async |n| {
            n.start_soon(async {
                sibling.set(sleep_forever().await.is_err());
                Ok(())
            });
            let bomb = Bomb("captured");
            n.start_soon(async move {
                let _bomb = &bomb;
                checkpoint().await?;
                Ok(())
            });
            Ok(())
        }))
        .await;
        assert_eq!(panic, "captured");
        assert!(sibling.get());
        Ok(())
    })
}

/// The future itself is dropped only after it has ended, when nothing unwinds any more.
#[test]
fn a_panic_in_the_destructor_of_a_future_that_ended_counts_as_the_childs() -> Result {
    run(async {
        let panic = panic_of(open(async |n| {
            let bomb = Bomb("future");
            n.start_soon(poll_fn(move |_| {
                let _ = &bomb;
                Poll::Ready(Ok(()))
            }));
            forever().await
        }))
        .await;
        assert_eq!(panic, "future");
        Ok(())
    })
}

#[test]
fn a_panic_in_a_destructor_after_a_panic_does_not_replace_it() -> Result {
    run(async {
        let panic = panic_of(open(async |n| {
            let bomb = Bomb("second");
            n.start_soon(poll_fn(move |_| -> Poll<Result> {
                let _ = &bomb;
                panic!("first")
            }));
            forever().await
        }))
        .await;
        assert_eq!(panic, "first");
        Ok(())
    })
}

#[test]
fn a_panic_in_the_destructor_of_what_the_body_holds_is_the_bodys() -> Result {
    run(async {
        let sibling = Cell::new(false);
        let panic = panic_of(open(async |n| {
            n.start_soon(async {
                sibling.set(sleep_forever().await.is_err());
                Ok(())
            });
            let _bomb = Bomb("body");
            checkpoint().await?;
            Ok(())
        }))
        .await;
        assert_eq!(panic, "body");
        assert!(sibling.get());
        Ok(())
    })
}

#[test]
fn a_panic_in_the_destructor_of_a_value_nobody_waits_for_is_the_nurserys() -> Result {
    run(async {
        let sibling = Cell::new(false);
        let panic = panic_of(open(async |n| {
            n.start_soon(async {
                sibling.set(sleep_forever().await.is_err());
                Ok(())
            });
            n.start_soon(async { Ok(Bomb("value")) });
            Ok(())
        }))
        .await;
        assert_eq!(panic, "value");
        assert!(sibling.get());
        Ok(())
    })
}

#[test]
fn a_panic_in_the_destructor_of_a_value_whose_handle_is_dropped_is_the_holders() -> Result {
    run(async {
        let panic = panic_of(open(async |n| {
            let child = n.start_soon(async { Ok(Bomb("kept value")) });
            wait_all_tasks_blocked(Duration::ZERO).await?;
            drop(child);
            Ok(())
        }))
        .await;
        assert_eq!(panic, "kept value");
        Ok(())
    })
}

#[test]
fn a_child_whose_future_and_value_both_panic_when_dropped_has_ended_nevertheless() -> Result {
    run(async {
        let panic = panic_of(open(async |n| {
            let bomb = Bomb("future");
            let mut value = Some(Bomb("value"));
            n.start_soon(poll_fn(move |_| {
                let _ = &bomb;
                Poll::Ready(Ok(value.take().unwrap()))
            }));
            n.start_soon(forever());
            Ok(())
        }))
        .await;
        assert_eq!(panic, "future");
        assert_eq!(statistics().tasks_living, 1, "it is out of the tree");
        Ok(())
    })
}
