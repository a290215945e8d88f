//! System tasks: they belong to the run, end with it, and bring it down when they panic.

mod message;

use std::cell::{Cell, RefCell};
use std::panic::panic_any;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use message::panic_of;
use nursery::lowlevel::{self, RunFinished, spawn_system_task, wait_all_tasks_blocked};
use nursery::{
    CancelScope, CancelSource, Cancelled, TaskLocal, checkpoint, open_nursery, shield, sleep,
    sleep_forever,
};

type Record = Rc<RefCell<Vec<&'static str>>>;

fn record() -> Record {
    Rc::default()
}

/// `spawn_system_task`
#[test]
fn a_system_task_runs_beside_main() {
    nursery_testing::run(async {
        let record = record();
        let task = {
            let record = record.clone();
            async move {
                record.borrow_mut().push("ran");
                checkpoint().await?;
                record.borrow_mut().push("ended");
                Ok(())
            }
        };
        let id = spawn_system_task("worker", task).unwrap();
        assert!(record.borrow().is_empty(), "not at once");
        assert_eq!((id.name().as_deref(), id.parent()), (Some("worker"), None));
        wait_all_tasks_blocked(Duration::ZERO).await?;
        assert_eq!(*record.borrow(), ["ran", "ended"]);
        assert_eq!(id.name(), None);
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// C8, C13: main's future is dropped, then the system tasks are cancelled, and waited for.
#[test]
fn system_tasks_are_cancelled_when_main_has_ended_and_waited_for() {
    struct Dropped(Record);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.borrow_mut().push("main dropped");
        }
    }
    let record = record();
    let value = nursery_testing::run(async {
        let _dropped = Dropped(record.clone());
        let task = {
            let record = record.clone();
            async move {
                let cancelled = sleep_forever().await.unwrap_err();
                let reason = cancelled.reason();
                assert_eq!((reason.source(), reason.task()), (CancelSource::Shutdown, None));
                record.borrow_mut().push("system cancelled");
                checkpoint().await.unwrap_err(); // level-triggered
                shield(sleep(Duration::from_secs(60))).await?;
                record.borrow_mut().push("system cleaned up");
                Err(cancelled)
            }
        };
        spawn_system_task("worker", task).unwrap();
        checkpoint().await?;
        record.borrow_mut().push("main ends");
        Ok::<_, Cancelled>(42)
    });
    assert_eq!(value.unwrap(), 42);
    let expected = ["main ends", "main dropped", "system cancelled", "system cleaned up"];
    assert_eq!(*record.borrow(), expected);
}

/// C9: an error and a panic of main leave as they are, after the same shutdown.
#[test]
fn system_tasks_are_waited_for_when_main_fails_or_panics() {
    fn start(record: &Record) {
        let record = record.clone();
        let task = async move {
            sleep_forever().await.unwrap_err();
            shield(checkpoint()).await?;
            record.borrow_mut().push("cleaned up");
            Ok(())
        };
        spawn_system_task("worker", task).unwrap();
    }
    let record = record();
    let failed = nursery_testing::run(async {
        start(&record);
        Err::<(), _>(anyhow::anyhow!("main"))
    });
    assert_eq!(failed.unwrap_err().to_string(), "main");
    let panic = panic_of(|| {
        nursery_testing::run(async {
            start(&record);
            if true {
                panic_any("main");
            }
            Ok::<_, Cancelled>(())
        })
    });
    assert_eq!(panic.downcast_ref(), Some(&"main"));
    assert_eq!(*record.borrow(), ["cleaned up", "cleaned up"]);
}

#[test]
fn a_system_task_that_was_never_polled_runs_to_its_first_checkpoint() {
    let ran = Rc::new(Cell::new(false));
    nursery_testing::run(async {
        let ran = ran.clone();
        let task = async move {
            ran.set(true);
            checkpoint().await
        };
        spawn_system_task("late", task).unwrap();
        Ok::<_, Cancelled>(())
    })
    .unwrap();
    assert!(ran.get());
}

/// C11
#[test]
fn a_system_task_is_under_no_scope_of_who_starts_it() {
    nursery_testing::run(async {
        let ran = Rc::new(Cell::new(false));
        let scope = CancelScope::new();
        scope.cancel();
        scope
            .enter(async {
                let ran = ran.clone();
                let task = async move {
                    checkpoint().await.expect("not cancelled");
                    ran.set(true);
                    Ok(())
                };
                spawn_system_task("free", task).unwrap();
                Ok::<_, Cancelled>(())
            })
            .await?;
        wait_all_tasks_blocked(Duration::ZERO).await?;
        assert!(ran.get());
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// `system_task_contexts`
#[test]
fn a_system_task_inherits_no_task_locals() {
    static LOCAL: TaskLocal<&str> = TaskLocal::new();
    nursery_testing::run(async {
        LOCAL.set("poison");
        open_nursery(async |n| {
            n.start_soon(async {
                assert_eq!(LOCAL.get(), Some("poison"));
                Ok(())
            });
            let task = async {
                assert_eq!(LOCAL.get(), None);
                LOCAL.set("its own");
                checkpoint().await?;
                assert_eq!(LOCAL.get(), Some("its own"));
                Ok(())
            };
            spawn_system_task("clean", task).unwrap();
            wait_all_tasks_blocked(Duration::ZERO).await
        })
        .await?;
        assert_eq!(LOCAL.get(), Some("poison"));
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

#[test]
fn system_tasks_start_system_tasks_nurseries_and_calls() {
    static CALLED: AtomicBool = AtomicBool::new(false);
    nursery_testing::run(async {
        let record = record();
        let outer = record.clone();
        let task = async move {
            let inner = outer.clone();
            let inner = async move {
                inner.borrow_mut().push("inner");
                Ok(())
            };
            spawn_system_task("inner", inner).unwrap();
            open_nursery(async |n| {
                n.start_soon(async {
                    outer.borrow_mut().push("child");
                    Ok(())
                });
                Ok::<_, Cancelled>(())
            })
            .await?;
            lowlevel::token()
                .run_soon(|| {
                    let task = async {
                        CALLED.store(true, Ordering::Relaxed);
                        Ok(())
                    };
                    spawn_system_task("from a call", task).unwrap();
                })
                .unwrap();
            Ok(())
        };
        spawn_system_task("outer", task).unwrap();
        wait_all_tasks_blocked(Duration::ZERO).await?;
        let mut record = record.take();
        record.sort_unstable();
        assert_eq!(record, ["child", "inner"]);
        assert!(CALLED.load(Ordering::Relaxed));
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// C8 (4)
#[test]
fn none_can_be_started_while_the_run_stops() {
    let given_back = Rc::new(Cell::new(0));
    nursery_testing::run(async {
        let count = given_back.clone();
        let task = async move {
            sleep_forever().await.unwrap_err();
            let seven = spawn_system_task("too late", async move { panic_any("polled") });
            let Err(RunFinished(future)) = seven else { panic!("accepted") };
            drop::<std::pin::Pin<Box<dyn Future<Output = Result<(), Cancelled>>>>>(Box::pin(
                future,
            ));
            count.set(count.get() + 1);
            Ok(())
        };
        spawn_system_task("first", task).unwrap();
        checkpoint().await
    })
    .unwrap();
    assert_eq!(given_back.get(), 1);
}

/// `system_task_crash`: main is cancelled, may clean up, and its value is lost.
#[test]
fn a_system_task_that_panics_ends_the_run_with_its_panic() {
    let record = record();
    let panic = panic_of(|| {
        nursery_testing::run(async {
            spawn_system_task("crasher", async { panic_any("crash") }).unwrap();
            let cancelled = sleep_forever().await.unwrap_err();
            assert_eq!(cancelled.reason().source(), CancelSource::Shutdown);
            shield(sleep(Duration::from_secs(60))).await?;
            record.borrow_mut().push("main cleaned up");
            Ok::<_, Cancelled>("lost")
        })
    });
    assert_eq!(panic.downcast_ref(), Some(&"crash"));
    assert_eq!(*record.borrow(), ["main cleaned up"]);
    nursery_testing::run(async { checkpoint().await }).unwrap();
}

/// `system_task_crash_ExceptionGroup`: the panic of a child of a system task is that of the task.
#[test]
fn a_panic_below_a_system_task_ends_the_run_and_all_other_tasks_are_waited_for() {
    let record = record();
    let panic = panic_of(|| {
        nursery_testing::run(async {
            let sibling = record.clone();
            let other = record.clone();
            let task = async move {
                open_nursery(async |n| {
                    n.start_soon::<()>(async { panic_any("child") });
                    n.start_soon(async {
                        sleep_forever().await.unwrap_err();
                        sibling.borrow_mut().push("sibling");
                        Ok(())
                    });
                    Ok::<_, Cancelled>(())
                })
                .await
            };
            spawn_system_task("parent", task).unwrap();
            let task = async move {
                sleep_forever().await.unwrap_err();
                other.borrow_mut().push("other system task");
                Ok(())
            };
            spawn_system_task("other", task).unwrap();
            sleep_forever().await
        }) as Result<(), Cancelled>
    });
    assert_eq!(panic.downcast_ref(), Some(&"child"));
    assert_eq!(*record.borrow(), ["sibling", "other system task"]);
}

/// `system_task_crash_plus_Cancelled`: a panic during shutdown, beside cancellations.
#[test]
fn a_panic_during_shutdown_is_not_lost_among_cancellations() {
    let panic = panic_of(|| {
        nursery_testing::run(async {
            let task = async {
                open_nursery(async |n| {
                    n.start_soon::<()>(async {
                        sleep_forever().await.unwrap_err();
                        panic_any("crash")
                    });
                    n.start_soon(sleep_forever());
                    Ok::<_, Cancelled>(())
                })
                .await
            };
            spawn_system_task("parent", task).unwrap();
            checkpoint().await // then main ends, which cancels it
        })
    });
    assert_eq!(panic.downcast_ref(), Some(&"crash"));
}

#[test]
fn of_several_panics_the_first_leaves() {
    let panic = panic_of(|| {
        nursery_testing::run(async {
            let second = async {
                sleep_forever().await.unwrap_err();
                panic_any("second")
            };
            spawn_system_task("second", second).unwrap();
            let first = async {
                sleep(Duration::from_secs(1)).await?;
                panic_any("first")
            };
            spawn_system_task("first", first).unwrap();
            sleep_forever().await
        }) as Result<(), Cancelled>
    });
    assert_eq!(panic.downcast_ref(), Some(&"first"));
}

/// A cancellation that leaves a system task is no crash, whatever it comes from.
#[test]
fn a_system_task_may_end_with_a_cancellation() {
    nursery_testing::run(async {
        let scope = CancelScope::new();
        scope.cancel();
        let stray = scope.enter(async { Ok::<_, Cancelled>(checkpoint().await) }).await?;
        let stray = stray.expect("the body's value").unwrap_err();
        spawn_system_task("stray", async { Err(stray) }).unwrap();
        wait_all_tasks_blocked(Duration::ZERO).await
    })
    .unwrap();
}

/// They do not keep the run alive, and a deadlock of all tasks is one although they wait.
#[test]
fn a_system_task_does_not_keep_the_run_alive() {
    nursery_testing::run(async {
        spawn_system_task("waiter", sleep_forever()).unwrap();
        Ok::<_, Cancelled>(())
    })
    .unwrap();
    let message = message::panic_message(|| {
        nursery_testing::run(async {
            spawn_system_task("waiter", sleep_forever()).unwrap();
            sleep_forever().await
        }) as Result<(), Cancelled>
    });
    assert!(message.starts_with("deadlock"), "{message}");
    assert!(message.contains("task \"waiter\""), "{message}");
}
