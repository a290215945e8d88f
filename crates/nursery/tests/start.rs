//! `start`: a child is its caller's until it says `started`, and the nursery's from then on.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use anyhow::anyhow;
use futures_util::future::poll_immediate;
use nursery::lowlevel::{TaskId, current_task, points};
use nursery::{
    CancelScope, Cancelled, ErrorGroup, Nursery, NurseryClosed, OpenNursery, TaskError, TaskLocal,
    TaskStatus, checkpoint, move_on_after, now, open_nursery, shield, sleep, sleep_forever, tree,
};
use nursery_testing::{Test, run, wait_all_tasks_blocked};

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

async fn sleeps(seconds: u32) -> Result {
    Ok(sleep(seconds * SECOND).await?)
}

async fn forever() -> Result {
    Ok(sleep_forever().await?)
}

async fn all_blocked() -> Result {
    Ok(wait_all_tasks_blocked(Duration::ZERO).await?)
}

/// The shape of an error: `[a, [b, Cancelled]]`.
fn shape<E: TaskError + fmt::Display>(error: &E) -> String {
    match (error.as_group(), error.as_cancelled()) {
        (Some(group), _) => {
            let members: Vec<_> = group.iter().map(shape).collect();
            format!("[{}]", members.join(", "))
        }
        (None, Some(_)) => "Cancelled".to_owned(),
        (None, None) => error.to_string(),
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .expect("a panic with a text")
}

/// Starts after one second, works for two more.
async fn slow(status: TaskStatus<u32>) -> Result {
    sleep(SECOND).await?;
    status.started(7);
    sleeps(2).await
}

// It starts. B25, B30, B31, B41.

/// trio: `nursery_start`, its first part. B25.
#[test]
fn returns_what_the_child_says_when_it_says_so() -> Result {
    run(async {
        let begin = now();
        open(async |n| {
            assert_eq!(n.start(slow).await?, 7);
            assert_eq!(now() - begin, SECOND);
            Ok(())
        })
        .await?;
        assert_eq!(now() - begin, 3 * SECOND, "the nursery waits for the rest of it");
        Ok(())
    })
}

#[test]
fn the_value_may_be_nothing_or_borrow() -> Result {
    run(async {
        let text = String::from("borrowed");
        open(async |n| {
            n.start(async |status: TaskStatus<()>| {
                status.started(());
                Ok(())
            })
            .await?;
            let got = n
                .start(async |status: TaskStatus<&str>| {
                    checkpoint().await?;
                    status.started(&text);
                    Ok(())
                })
                .await?;
            assert_eq!(got, "borrowed");
            Ok(())
        })
        .await
    })
}

/// B40, B41
#[test]
fn is_a_schedule_point_even_if_the_child_starts_at_once() -> Result {
    for seed in 0..20 {
        Test::new().seed(seed).run(async {
            open(async |n| {
                let before = points().schedule;
                n.start(async |status: TaskStatus<()>| {
                    status.started(());
                    Ok(())
                })
                .await?;
                assert!(points().schedule > before, "seed {seed}");
                Ok(())
            })
            .await
        })?;
    }
    Ok(())
}

/// B30
#[test]
fn the_child_goes_on_in_the_step_in_which_it_says_started() -> Result {
    run(async {
        let log = RefCell::new(vec![]);
        open(async |n| {
            n.start(async |status: TaskStatus<()>| {
                checkpoint().await?;
                status.started(());
                log.borrow_mut().push("child goes on");
                checkpoint().await?;
                Ok(())
            })
            .await?;
            log.borrow_mut().push("start returns");
            Ok(())
        })
        .await?;
        assert_eq!(*log.borrow(), ["child goes on", "start returns"]);
        Ok(())
    })
}

/// Not a checkpoint, B29.
#[test]
fn started_is_no_checkpoint() -> Result {
    run(async {
        open(async |n| {
            n.start(async |status: TaskStatus<()>| {
                checkpoint().await?;
                let before = points();
                status.started(());
                assert_eq!(points(), before);
                Ok(())
            })
            .await
        })
        .await
    })
}

/// B27
#[test]
fn until_it_has_started_the_callers_timeout_applies() -> Result {
    run(async {
        let begin = now();
        open(async |n| {
            let late = move_on_after(SECOND / 2, n.start(slow)).await?;
            assert_eq!(late, None);
            assert_eq!(now() - begin, SECOND / 2);
            assert!(!n.cancel_scope().cancel_called(), "the nursery is not concerned");
            Ok(())
        })
        .await?;
        assert_eq!(now() - begin, SECOND / 2, "nothing is left of the child");
        Ok(())
    })
}

/// B31
#[test]
fn after_it_has_started_the_callers_timeout_does_not_apply() -> Result {
    run(async {
        let begin = now();
        let finished = Cell::new(false);
        open(async |n| {
            let scope = CancelScope::new().with_timeout(2 * SECOND);
            let late = scope
                .enter(async {
                    let value = n
                        .start(async |status| {
                            slow(status).await?;
                            finished.set(true);
                            Ok(())
                        })
                        .await?;
                    assert_eq!(value, 7);
                    forever().await
                })
                .await?;
            assert_eq!(late, None);
            assert_eq!(now() - begin, 2 * SECOND);
            Ok(())
        })
        .await?;
        assert!(finished.get());
        assert_eq!(now() - begin, 3 * SECOND);
        Ok(())
    })
}

#[test]
fn after_it_has_started_the_nurserys_cancellation_applies() -> Result {
    run(async {
        let begin = now();
        open(async |n| {
            n.start(slow).await?;
            n.cancel_scope().cancel();
            Ok(())
        })
        .await?;
        assert_eq!(now() - begin, SECOND);
        Ok(())
    })
}

/// A3, B30: all that is below the child moves with it.
#[test]
fn scopes_and_nurseries_inside_the_child_move_with_it() -> Result {
    run(async {
        let begin = now();
        let deadline_held = Cell::new(false);
        open(async |target| {
            let caller = CancelScope::new();
            caller
                .enter(async {
                    target
                        .start(async |status: TaskStatus<()>| {
                            let inside = move_on_after(3 * SECOND, async {
                                open(async |own| {
                                    own.start_soon(forever());
                                    sleep(SECOND).await?;
                                    status.started(());
                                    forever().await
                                })
                                .await
                            })
                            .await?;
                            deadline_held.set(inside.is_none());
                            Ok(())
                        })
                        .await?;
                    caller.cancel();
                    Ok::<_, anyhow::Error>(())
                })
                .await?;
            Ok(())
        })
        .await?;
        assert!(deadline_held.get());
        assert_eq!(now() - begin, 3 * SECOND);
        Ok(())
    })
}

/// trio: `task_tree_introspection`, the hand-over.
#[test]
fn the_tree_shows_the_child_below_its_caller_then_in_the_nursery() -> Result {
    run(async {
        let path = |task: TaskId| {
            let tree = tree();
            let nodes = tree.nodes();
            let at = nodes.iter().position(|node| node.task == Some(task)).unwrap();
            let mut depth = nodes[at].depth;
            let mut path = vec![];
            for node in nodes[..at].iter().rev() {
                if node.depth < depth {
                    depth = node.depth;
                    path.push(node.name.clone().unwrap_or_default());
                }
            }
            path
        };
        open(async |target| {
            let path = &path;
            target
                .start_soon(async move {
                    let parent = target
                        .start(async move |status: TaskStatus<Option<TaskId>>| {
                            let me = current_task();
                            assert_eq!(path(me), ["start", "caller", "", "main", ""]);
                            let parent = me.parent();
                            assert_eq!(parent.unwrap().name().as_deref(), Some("caller"));
                            status.started(parent);
                            assert_eq!(path(me), ["", "main", ""]);
                            assert_eq!(me.parent().unwrap().name().as_deref(), Some("main"));
                            Ok(())
                        })
                        .await?;
                    assert_eq!(parent, Some(current_task()));
                    Ok(())
                })
                .set_name("caller");
            Ok(())
        })
        .await
    })
}

static WHO: TaskLocal<&'static str> = TaskLocal::new();

/// B40
#[test]
fn the_child_inherits_the_callers_task_locals() -> Result {
    run(async {
        open(async |target| {
            target.start_soon(async {
                WHO.set("caller");
                let seen = target
                    .start(async |status: TaskStatus<Option<&str>>| {
                        status.started(WHO.get());
                        Ok(())
                    })
                    .await?;
                assert_eq!(seen, Some("caller"));
                Ok(())
            });
            Ok(())
        })
        .await
    })
}

// It fails to start. B33.

/// trio: `start_exception_preserves_cause_and_context`
#[test]
fn start_exception_preserves_cause() -> Result {
    run(async {
        open(async |n| {
            let error = n
                .start(async |_status: TaskStatus<()>| {
                    let cause = io::Error::new(io::ErrorKind::AddrInUse, "port 80");
                    Err(anyhow::Error::new(cause).context("binding"))
                })
                .await
                .unwrap_err();
            let chain: Vec<_> = error.chain().map(ToString::to_string).collect();
            assert_eq!(chain, ["binding", "port 80"], "bare, not in a group");
            assert!(!n.cancel_scope().cancel_called());
            Ok(())
        })
        .await
    })
}

#[test]
fn an_error_after_some_waiting_is_the_callers_too() -> Result {
    run(async {
        let value = open(async |n| {
            let error = n
                .start(async |_status: TaskStatus<()>| {
                    sleep(SECOND).await?;
                    Err(anyhow!("early"))
                })
                .await
                .unwrap_err();
            assert_eq!(shape(&error), "early");
            checkpoint().await?; // not cancelled
            Ok("fine")
        })
        .await?;
        assert_eq!(value, "fine");
        Ok(())
    })
}

/// trio: `trio_run_strict_before_started`
#[test]
fn trio_run_strict_before_started_only_what_is_the_users_own_is_grouped() -> Result {
    run(async {
        open(async |n| {
            let bare = n.start(async |_: TaskStatus<()>| Err(anyhow!("e"))).await.unwrap_err();
            assert_eq!(shape(&bare), "e");
            let own = n
                .start(async |_: TaskStatus<()>| {
                    Err(ErrorGroup::new(vec![anyhow!("e"), anyhow!("f")]).into())
                })
                .await
                .unwrap_err();
            assert_eq!(shape(&own), "[e, f]");
            let nested = n
                .start(async |_: TaskStatus<()>| open(async |_| Err(anyhow!("e"))).await)
                .await
                .unwrap_err();
            assert_eq!(shape(&nested), "[e]");
            Ok(())
        })
        .await?;
        let after = open(async |n| {
            n.start(async |status: TaskStatus<()>| {
                status.started(());
                Err(anyhow!("e"))
            })
            .await?;
            forever().await
        })
        .await
        .unwrap_err();
        assert_eq!(shape(&after), "[e]");
        Ok(())
    })
}

/// B36
#[test]
fn an_error_after_it_has_started_is_the_nurserys() -> Result {
    run(async {
        let started = Cell::new(false);
        let error = open(async |n| {
            n.start(async |status: TaskStatus<()>| {
                status.started(());
                sleep(SECOND).await?;
                Err(anyhow!("late"))
            })
            .await?;
            started.set(true);
            forever().await
        })
        .await
        .unwrap_err();
        assert!(started.get());
        assert_eq!(shape(&error), "[late]");
        Ok(())
    })
}

/// B33
#[test]
fn a_child_that_ends_without_having_started_is_a_panic_with_advice() {
    let panic = catch_unwind(|| {
        run(async {
            open(async |n| {
                n.start(async |_: TaskStatus<()>| {
                    checkpoint().await?;
                    Ok(())
                })
                .await
            })
            .await
        })
    })
    .unwrap_err();
    assert_eq!(
        message(&*panic),
        "a child given to `Nursery::start` ended without calling `TaskStatus::started`\n\
         \n\
         `start` has no value to return. Usual causes:\n\
         - the child returns early, on a path that does not call `started`: return an error there\n\
         - its `TaskStatus` was dropped, or given to a task that never got to call it\n\
         - nobody has to wait for it: use `start_soon`"
    );
}

#[test]
fn a_panic_before_it_has_started_is_the_callers() {
    let panic = catch_unwind(|| {
        run(async {
            let sibling = Cell::new(false);
            let result = open(async |n| {
                n.start_soon(async {
                    let result = forever().await;
                    sibling.set(true);
                    result
                });
                n.start(async |_: TaskStatus<()>| {
                    checkpoint().await?;
                    panic!("early panic")
                })
                .await
            });
            let result = AssertUnwindSafe(result);
            let caught = futures_util::FutureExt::catch_unwind(result).await;
            assert!(sibling.get(), "siblings are cancelled and waited for");
            match caught {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    })
    .unwrap_err();
    assert_eq!(message(&*panic), "early panic");
}

/// B26: a second attempt works, also from a child while the body has ended.
#[test]
fn a_failed_start_can_be_tried_again_while_the_body_is_done() -> Result {
    run(async {
        let attempts = Cell::new(0);
        let value = Cell::new(0);
        open(async |n| {
            n.start_soon(async {
                all_blocked().await?; // the body has ended
                loop {
                    let attempts = &attempts;
                    let result = n
                        .start(async move |status: TaskStatus<u32>| {
                            checkpoint().await?;
                            attempts.set(attempts.get() + 1);
                            if attempts.get() < 3 {
                                return Err(anyhow!("not yet"));
                            }
                            status.started(attempts.get());
                            Ok(())
                        })
                        .await;
                    if let Ok(got) = result {
                        value.set(got);
                        return Ok(());
                    }
                }
            });
            Ok(())
        })
        .await?;
        assert_eq!(value.get(), 3);
        Ok(())
    })
}

// Who is cancelled. B27, B28, B32, B34.

/// B27
#[test]
fn in_a_cancelled_caller_the_child_runs_to_its_first_checkpoint() -> Result {
    run(async {
        let (began, passed) = (Cell::new(false), Cell::new(false));
        open(async |n| {
            let scope = CancelScope::new();
            scope.cancel();
            let nothing = scope
                .enter(async {
                    n.start(async |status: TaskStatus<()>| {
                        began.set(true);
                        checkpoint().await?;
                        passed.set(true);
                        status.started(());
                        Ok(())
                    })
                    .await
                })
                .await;
            assert!(nothing?.is_none());
            assert_eq!((began.get(), passed.get()), (true, false));
            Ok(())
        })
        .await
    })
}

/// B28, B32
#[test]
fn cancelling_the_nursery_does_not_reach_a_child_that_is_starting() -> Result {
    run(async {
        let begin = now();
        let got = Cell::new(0);
        open(async |target| {
            // The caller is below the target, but shielded from it.
            shield(async {
                target.cancel_scope().cancel();
                let value = target
                    .start(async |status: TaskStatus<u32>| {
                        sleep(SECOND).await?;
                        status.started(5);
                        forever().await // B32: moved into a cancelled nursery
                    })
                    .await?;
                assert_eq!(now() - begin, SECOND);
                checkpoint().await?; // the caller is not cancelled by that
                got.set(value);
                Ok(())
            })
            .await
        })
        .await?;
        assert_eq!(got.get(), 5);
        assert_eq!(now() - begin, SECOND);
        Ok(())
    })
}

/// trio: `nursery_start_with_cancelled_nursery`, first part. B32.
#[test]
fn moving_into_a_cancelled_nursery_cancels_the_child_and_not_its_caller() -> Result {
    run(async {
        let began = RefCell::new(vec![]);
        open(async |target| {
            shield(async {
                let value = target
                    .start(async |status: TaskStatus<&'static str>| {
                        began.borrow_mut().push("setup");
                        checkpoint().await?;
                        target.cancel_scope().cancel();
                        checkpoint().await?;
                        status.started("value");
                        began.borrow_mut().push("moved");
                        let cancelled = sleep_forever().await;
                        began.borrow_mut().push("cancelled");
                        Ok(cancelled?)
                    })
                    .await?;
                checkpoint().await?; // not cancelled
                assert_eq!(value, "value");
                Ok(())
            })
            .await
        })
        .await?;
        assert_eq!(*began.borrow(), ["setup", "moved", "cancelled"]);
        Ok(())
    })
}

/// trio: `nursery_start_with_cancelled_nursery`: what sleeps inside the child when it moves is woken.
#[test]
fn sleepers_inside_a_child_that_moves_into_a_cancelled_nursery_are_woken() -> Result {
    run(async {
        let woken = Cell::new(0);
        open(async |target| {
            target.cancel_scope().cancel();
            shield(target.start(async |status: TaskStatus<()>| {
                open(async |own| {
                    for _ in 0..3 {
                        own.start_soon(async {
                            let result = forever().await;
                            woken.set(woken.get() + 1);
                            result
                        });
                    }
                    all_blocked().await?;
                    assert_eq!(woken.get(), 0);
                    status.started(());
                    Ok(())
                })
                .await
            }))
            .await
        })
        .await?;
        assert_eq!(woken.get(), 3);
        Ok(())
    })
}

/// trio: `nursery_start_with_cancelled_nursery`, last part: cancelled after the move.
#[test]
fn cancelling_the_nursery_after_the_move_wakes_what_sleeps_in_the_child() -> Result {
    run(async {
        let woken = Cell::new(0);
        open(async |target| {
            target
                .start(async |status: TaskStatus<()>| {
                    open(async |own| {
                        own.start_soon(async {
                            let result = forever().await;
                            woken.set(woken.get() + 1);
                            result
                        });
                        status.started(());
                        let result = forever().await;
                        woken.set(woken.get() + 1);
                        result
                    })
                    .await
                })
                .await?;
            all_blocked().await?;
            target.cancel_scope().cancel();
            Ok(())
        })
        .await?;
        assert_eq!(woken.get(), 2);
        Ok(())
    })
}

/// B34
#[test]
fn started_in_a_cancelled_caller_the_child_stays_and_its_value_comes_when_it_ends() -> Result {
    run(async {
        let begin = now();
        let scope = CancelScope::new();
        open(async |n| {
            let value = scope
                .enter(async {
                    n.start(async |status: TaskStatus<u32>| {
                        scope.cancel();
                        status.started(3);
                        shield(sleeps(5)).await // B34: `start` waits for its whole life
                    })
                    .await
                })
                .await?;
            assert_eq!(value, Some(3), "it ended without a cancel point");
            assert_eq!(now() - begin, 5 * SECOND);
            Ok(())
        })
        .await
    })
}

/// B34
#[test]
fn started_in_a_cancelled_caller_an_error_of_the_child_is_the_callers() -> Result {
    run(async {
        let scope = CancelScope::new();
        open(async |n| {
            let error = scope
                .enter(async {
                    n.start(async |status: TaskStatus<u32>| {
                        scope.cancel();
                        status.started(3);
                        Err(anyhow!("after started"))
                    })
                    .await
                })
                .await
                .unwrap_err();
            assert_eq!(shape(&error), "after started");
            assert!(!n.cancel_scope().cancel_called());
            Ok(())
        })
        .await
    })
}

/// B34
#[test]
fn started_in_a_cancelled_caller_the_childs_cancellation_is_the_callers() -> Result {
    run(async {
        let scope = CancelScope::new();
        open(async |n| {
            let value = scope
                .enter(async {
                    n.start(async |status: TaskStatus<u32>| {
                        scope.cancel();
                        status.started(3);
                        forever().await
                    })
                    .await
                })
                .await?;
            assert_eq!(value, None);
            assert!(scope.cancelled_caught());
            Ok(())
        })
        .await
    })
}

/// B27, A10
#[test]
fn a_shield_around_the_caller_protects_the_start() -> Result {
    run(async {
        let scope = CancelScope::new();
        open(async |n| {
            let value = scope
                .enter(async {
                    scope.cancel();
                    shield(n.start(slow)).await
                })
                .await?;
            assert_eq!(value, Some(7));
            Ok(())
        })
        .await
    })
}

// The nursery stays open. B26.

/// trio: `nursery_start_keeps_nursery_open`
#[test]
fn nursery_start_keeps_nursery_open() -> Result {
    run(async {
        let begin = now();
        open(async |caller| {
            let handle = open(async |target| {
                let handle = target.handle();
                caller.start_soon(async move {
                    assert_eq!(handle.start(slow).await??, 7);
                    Ok(())
                });
                checkpoint().await?;
                checkpoint().await?;
                Ok(target.handle())
            })
            .await?;
            assert_eq!(now() - begin, 3 * SECOND);
            assert!(handle.is_closed());
            Ok(())
        })
        .await
    })
}

#[test]
fn a_pending_start_that_is_cancelled_lets_the_nursery_close() -> Result {
    run(async {
        let begin = now();
        open(async |caller| {
            open(async |target| {
                let handle = target.handle();
                caller.start_soon(async move {
                    let start = async { handle.start(slow).await? };
                    assert_eq!(move_on_after(SECOND / 2, start).await?, None);
                    Ok(())
                });
                checkpoint().await?;
                checkpoint().await?;
                Ok(())
            })
            .await?;
            assert_eq!(now() - begin, SECOND / 2);
            Ok(())
        })
        .await
    })
}

/// trio: `nursery_start` on a closed nursery. B26.
#[test]
fn a_handle_of_a_closed_nursery_gives_the_function_back() -> Result {
    run(async {
        let handle = open(async |n| Ok(n.handle())).await?;
        let NurseryClosed(function) = handle.start(slow).await.unwrap_err();
        open(async |n| {
            assert_eq!(n.handle().start(function).await??, 7);
            Ok(())
        })
        .await
    })
}

#[test]
fn a_handle_starts_like_the_nursery_itself() -> Result {
    run(async {
        let begin = now();
        open(async |n| {
            let handle = n.handle();
            assert_eq!(handle.start(slow).await??, 7);
            assert_eq!(now() - begin, SECOND);
            let early = handle.start(async |_: TaskStatus<()>| Err(anyhow!("early"))).await?;
            assert_eq!(shape(&early.unwrap_err()), "early");
            let late = move_on_after(SECOND / 2, async { handle.start(slow).await? });
            assert_eq!(late.await?, None);
            Ok(())
        })
        .await?;
        assert_eq!(now() - begin, 3 * SECOND);
        Ok(())
    })
}

// The status. B35, B37, B39.

/// B37
#[test]
fn the_status_can_be_passed_to_another_task() -> Result {
    run(async {
        let begin = now();
        open(async |n| {
            let value = n
                .start(async |status: TaskStatus<&str>| {
                    open(async |own| {
                        own.start_soon(async move {
                            sleep(SECOND).await?;
                            status.started("said by a grandchild");
                            Ok(())
                        });
                        sleeps(3).await
                    })
                    .await
                })
                .await?;
            assert_eq!(value, "said by a grandchild");
            assert_eq!(now() - begin, SECOND);
            Ok(())
        })
        .await
    })
}

#[test]
fn a_task_that_is_no_relative_can_say_started() -> Result {
    run(async {
        let mailbox: RefCell<Option<TaskStatus<u32>>> = RefCell::new(None);
        open(async |n| {
            n.start_soon(async {
                sleep(SECOND).await?;
                mailbox.take().unwrap().started(9);
                Ok(())
            });
            let value = n
                .start(async |status: TaskStatus<u32>| {
                    mailbox.replace(Some(status));
                    sleeps(2).await
                })
                .await?;
            assert_eq!(value, 9);
            Ok(())
        })
        .await
    })
}

/// trio: `nursery_start`, `TASK_STATUS_IGNORED`. B39.
#[test]
fn an_ignored_status_lets_the_function_be_called_directly() -> Result {
    run(async {
        slow(TaskStatus::ignored()).await?;
        open(async |n| {
            n.start_soon(slow(TaskStatus::ignored()));
            Ok(())
        })
        .await?;
        assert_eq!(format!("{:?}", TaskStatus::<u32>::ignored()), "TaskStatus { ignored: true }");
        Ok(())
    })
}

/// B35
#[test]
fn started_after_the_child_has_failed_does_nothing() -> Result {
    run(async {
        let kept = RefCell::new(None);
        open(async |n| {
            let error = n
                .start(async |status: TaskStatus<()>| {
                    kept.replace(Some(status));
                    Err(anyhow!("early"))
                })
                .await
                .unwrap_err();
            assert_eq!(shape(&error), "early");
            kept.take().unwrap().started(());
            checkpoint().await?;
            Ok(())
        })
        .await
    })
}

/// B35
#[test]
fn started_after_the_start_was_dropped_does_nothing() -> Result {
    run(async {
        let kept = RefCell::new(None);
        open(async |n| {
            let mut start = Box::pin(n.start(async |status: TaskStatus<()>| {
                kept.replace(Some(status));
                forever().await
            }));
            assert!(poll_immediate(&mut start).await.is_none());
            all_blocked().await?;
            drop(start);
            kept.take().unwrap().started(());
            checkpoint().await?;
            Ok(())
        })
        .await
    })
}

/// B35
#[test]
fn started_after_the_nursery_was_dropped_does_nothing() -> Result {
    run(async {
        let kept = Rc::new(RefCell::new(None));
        let mut nursery = Box::pin(open(async |n| {
            n.start(async |status: TaskStatus<()>| {
                kept.replace(Some(status));
                forever().await
            })
            .await
        }));
        assert!(poll_immediate(&mut nursery).await.is_none());
        assert!(poll_immediate(&mut nursery).await.is_none());
        drop(nursery);
        kept.take().expect("the child has run").started(());
        checkpoint().await?;
        Ok(())
    })
}

#[test]
fn started_after_the_run_has_ended_does_nothing() {
    let kept = Rc::new(RefCell::new(None));
    {
        let mut guest = Box::pin(Test::new().builder().guest(open(async |n| {
            n.start(async |status: TaskStatus<()>| {
                kept.replace(Some(status));
                nursery::cancellable(std::future::pending::<()>()).await?;
                Ok(())
            })
            .await
        })));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(guest.as_mut().poll(&mut cx).is_pending());
    }
    kept.take().expect("the child has run").started(());
}

/// Says `started` when it is dropped.
struct SaysStartedInDrop(Option<TaskStatus<&'static str>>);

impl Drop for SaysStartedInDrop {
    fn drop(&mut self) {
        if let Some(status) = self.0.take() {
            status.started("in a destructor");
        }
    }
}

#[test]
fn started_in_a_destructor_of_a_child_that_is_dropped_does_nothing() -> Result {
    run(async {
        open(async |n| {
            let mut start = Box::pin(n.start(async |status| {
                let _guard = SaysStartedInDrop(Some(status));
                forever().await
            }));
            assert!(poll_immediate(&mut start).await.is_none());
            all_blocked().await?;
            drop(start);
            checkpoint().await?;
            Ok(())
        })
        .await?;
        let mut nursery = Box::pin(open(async |n| {
            n.start(async |status| {
                let _guard = SaysStartedInDrop(Some(status));
                forever().await
            })
            .await
        }));
        assert!(poll_immediate(&mut nursery).await.is_none());
        assert!(poll_immediate(&mut nursery).await.is_none());
        drop(nursery);
        checkpoint().await?;
        Ok(())
    })
}

#[test]
fn started_in_a_destructor_of_a_child_that_ends_counts() -> Result {
    run(async {
        open(async |n| {
            let value = n
                .start(async |status| {
                    let _guard = SaysStartedInDrop(Some(status));
                    checkpoint().await?;
                    Ok(())
                })
                .await?;
            assert_eq!(value, "in a destructor");
            Ok(())
        })
        .await
    })
}

// Dropped half-way.

/// Sets a flag when it is dropped.
struct Flag<'a>(&'a Cell<bool>);

impl Drop for Flag<'_> {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

#[test]
fn a_start_that_is_dropped_drops_the_child_at_once_at_every_stage() -> Result {
    for stage in 0..3 {
        run(async {
            let dropped = Cell::new(false);
            open(async |n| {
                let mut start = Box::pin(n.start(async |_: TaskStatus<()>| {
                    let _flag = Flag(&dropped);
                    forever().await
                }));
                for _ in 0..stage {
                    assert!(poll_immediate(&mut start).await.is_none());
                    checkpoint().await?;
                    checkpoint().await?;
                }
                assert!(!dropped.get());
                drop(start);
                assert_eq!(dropped.get(), stage > 0, "its body had begun; stage {stage}");
                Ok(())
            })
            .await?;
            Ok::<_, anyhow::Error>(())
        })?;
    }
    Ok(())
}

#[test]
fn a_start_in_a_foreign_select_drops_the_child() -> Result {
    run(async {
        let dropped = Cell::new(false);
        open(async |n| {
            let start = Box::pin(n.start(async |_: TaskStatus<()>| {
                let _flag = Flag(&dropped);
                forever().await
            }));
            let timer = Box::pin(sleep(SECOND));
            let either = futures_util::future::select(start, timer).await;
            assert!(matches!(either, futures_util::future::Either::Right(_)));
            drop(either);
            assert!(dropped.get());
            Ok(())
        })
        .await
    })
}

#[test]
fn a_start_dropped_after_the_child_has_started_leaves_it_to_the_nursery() -> Result {
    run(async {
        let finished = Cell::new(false);
        open(async |n| {
            let mut start = Box::pin(n.start(async |status: TaskStatus<()>| {
                status.started(());
                sleep(SECOND).await?;
                finished.set(true);
                Ok(())
            }));
            assert!(poll_immediate(&mut start).await.is_none());
            all_blocked().await?;
            drop(start);
            Ok(())
        })
        .await?;
        assert!(finished.get());
        Ok(())
    })
}

/// The child, while it runs, drops what waits for it.
#[test]
fn a_child_that_drops_its_own_start_is_cancelled_in_the_nursery() -> Result {
    run(async {
        type Slot<'a> = RefCell<Option<Pin<Box<dyn Future<Output = Result> + 'a>>>>;
        let outcome = RefCell::new(String::new());
        let noted = &outcome;
        open(async |n| {
            let slot: Rc<Slot<'_>> = Rc::default();
            let own = slot.clone();
            let start = n.start(async move |status: TaskStatus<()>| {
                let start = own.take().expect("it waits");
                drop(start);
                let result = checkpoint().await;
                noted.replace(format!("{}", result.is_err()));
                drop(status);
                Ok(result?)
            });
            slot.replace(Some(Box::pin(start)));
            let mut start = slot.take().unwrap();
            assert!(poll_immediate(&mut start).await.is_none());
            slot.replace(Some(start));
            drop(slot);
            all_blocked().await?;
            Ok(())
        })
        .await?;
        assert_eq!(*outcome.borrow(), "true", "it was cancelled");
        Ok(())
    })
}

/// A destructor of the body finds the nursery closed.
#[test]
fn a_start_polled_while_the_nursery_is_being_dropped_starts_nothing() -> Result {
    struct StartsInDrop<'scope, 'env> {
        n: &'scope Nursery<'scope, 'env, anyhow::Error>,
        ran: &'env Cell<bool>,
        refused: &'env Cell<bool>,
    }

    impl Drop for StartsInDrop<'_, '_> {
        fn drop(&mut self) {
            let ran = self.ran;
            let mut start = Box::pin(self.n.start(async move |status: TaskStatus<()>| {
                ran.set(true);
                status.started(());
                Ok(())
            }));
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            let poll = start.as_mut().poll(&mut cx);
            self.refused.set(matches!(poll, std::task::Poll::Ready(Err(_))));
        }
    }

    run(async {
        let (ran, refused) = (Cell::new(false), Cell::new(false));
        let mut nursery = Box::pin(open(async |n| {
            let _guard = StartsInDrop { n, ran: &ran, refused: &refused };
            forever().await
        }));
        assert!(poll_immediate(&mut nursery).await.is_none());
        drop(nursery);
        assert_eq!((ran.get(), refused.get()), (false, true));
        all_blocked().await?;
        assert_eq!(nursery::lowlevel::statistics().tasks_living, 1);
        assert!(!ran.get());
        Ok(())
    })
}

#[test]
fn a_start_polled_in_another_run_panics_with_advice() {
    let panic = catch_unwind(|| {
        run(async {
            open(async |n| {
                Test::new()
                    .builder()
                    .guest(async {
                        n.start(async |status: TaskStatus<()>| {
                            status.started(());
                            Ok(())
                        })
                        .await
                    })
                    .await
            })
            .await
        })
    })
    .unwrap_err();
    assert!(message(&*panic).contains("in another run"), "{}", message(&*panic));
}
