//! `RunLocal`, one value per run, and `TaskLocal`, one per task, inherited at its start.

mod message;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use message::panic_message;
use nursery::lowlevel::{self, wait_all_tasks_blocked};
use nursery::{Cancelled, RunLocal, TaskLocal, checkpoint, open_nursery, sleep_forever};

async fn settle() -> Result<(), Cancelled> {
    wait_all_tasks_blocked(Duration::ZERO).await
}

/// C51, `runvar_smoketest`
#[test]
fn a_run_local_is_fresh_in_each_run() {
    static PLAIN: RunLocal<&str> = RunLocal::new();
    static DEFAULT: RunLocal<&str> = RunLocal::with_default(|| "catfish");
    nursery_testing::run(async {
        assert_eq!(PLAIN.get(), None);
        PLAIN.set("swordfish");
        assert_eq!(PLAIN.get(), Some("swordfish"));
        assert_eq!(DEFAULT.get(), Some("catfish"));
        DEFAULT.set("goldfish");
        assert_eq!(DEFAULT.get(), Some("goldfish"));
        Ok::<_, Cancelled>(())
    })
    .unwrap();
    nursery_testing::run(async {
        assert_eq!(PLAIN.get(), None);
        assert_eq!(DEFAULT.get(), Some("catfish"));
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

#[test]
fn a_default_is_made_once_in_each_run() {
    static MADE: RunLocal<Cell<u32>> = RunLocal::with_default(|| {
        COUNT.set(COUNT.get() + 1);
        Cell::new(0)
    });
    thread_local! {
        static COUNT: Cell<u32> = const { Cell::new(0) };
    }
    for runs in 1..=2 {
        nursery_testing::run(async {
            for uses in 0..3 {
                let value = MADE.get_shared().unwrap();
                assert_eq!(value.replace(uses + 1), uses, "the same one");
            }
            Ok::<_, Cancelled>(())
        })
        .unwrap();
        assert_eq!(COUNT.get(), runs);
    }
}

/// C52, `runvar_resetting`
#[test]
fn what_set_returns_puts_the_old_state_back() {
    static PLAIN: RunLocal<&str> = RunLocal::new();
    static DEFAULT: RunLocal<&str> = RunLocal::with_default(|| "dogfish");
    static OTHER: RunLocal<&str> = RunLocal::new();
    nursery_testing::run(async {
        let before = PLAIN.set("moonfish");
        PLAIN.reset(before);
        assert_eq!(PLAIN.get(), None, "never set");
        let before = DEFAULT.set("catdogfish");
        let second = DEFAULT.set("third");
        DEFAULT.reset(second);
        assert_eq!(DEFAULT.get(), Some("catdogfish"));
        DEFAULT.reset(before); // moved: it cannot be used twice
        assert_eq!(DEFAULT.get(), Some("dogfish"));
        let others = OTHER.set("basculin");
        let message = panic_message(|| PLAIN.reset(others));
        assert!(message.contains("another run local"), "{message}");
        assert_eq!((PLAIN.get(), OTHER.get()), (None, Some("basculin")));
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// `runvar_sync`
#[test]
fn all_tasks_of_a_run_share_a_run_local() {
    static LOCAL: RunLocal<&str> = RunLocal::new();
    nursery_testing::run(async {
        open_nursery(async |n| {
            let before = LOCAL.set("cod");
            n.start_soon(async {
                LOCAL.set("plaice");
                Ok(())
            });
            settle().await?;
            assert_eq!(LOCAL.get(), Some("plaice"));
            n.start_soon(async move {
                LOCAL.reset(before);
                assert_eq!(LOCAL.get(), None);
                LOCAL.set("haddock");
                Ok(())
            });
            settle().await?;
            assert_eq!(LOCAL.get(), Some("haddock"));
            lowlevel::token().run_soon(|| drop(LOCAL.set("by a call"))).unwrap();
            lowlevel::spawn_system_task("system", async {
                assert_eq!(LOCAL.get(), Some("by a call"));
                LOCAL.set("by a system task");
                Ok(())
            })
            .unwrap();
            settle().await?;
            assert_eq!(LOCAL.get(), Some("by a system task"));
            Ok::<_, Cancelled>(())
        })
        .await
    })
    .unwrap();
}

/// C53, `accessing_runvar_outside_run_call_fails`
#[test]
fn a_run_local_outside_its_run_panics() {
    static LOCAL: RunLocal<&str> = RunLocal::new();
    let get = || nursery_testing::run(async { Ok::<_, Cancelled>(LOCAL.set("ok")) }).unwrap();
    for message in [
        panic_message(|| LOCAL.set("asdf")),
        panic_message(|| LOCAL.get()),
        panic_message(|| LOCAL.reset(get())),
    ] {
        assert!(message.contains("a `RunLocal` was used outside a run"), "{message}");
    }
    let earlier = get();
    nursery_testing::run(async {
        let message = panic_message(|| LOCAL.reset(earlier));
        assert!(message.contains("in another run"), "{message}");
        assert_eq!(LOCAL.get(), None);
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// Values are foreign code: nothing is borrowed while they are made or dropped.
#[test]
fn values_may_use_locals_when_they_are_made_and_dropped() {
    struct Curious(Rc<Cell<u32>>);
    impl Drop for Curious {
        fn drop(&mut self) {
            COUNT.set(COUNT.get().unwrap_or(0) + 1);
            let _ = TASK.get_shared();
            self.0.set(self.0.get() + 1);
        }
    }
    static COUNT: RunLocal<u32> = RunLocal::with_default(|| FIRST.get().unwrap());
    static FIRST: RunLocal<u32> = RunLocal::with_default(|| 10);
    static RUN: RunLocal<Curious> = RunLocal::new();
    static TASK: TaskLocal<Curious> = TaskLocal::new();
    let drops = Rc::new(Cell::new(0));
    let curious = || Curious(drops.clone());
    nursery_testing::run(async {
        drop(RUN.set(curious()));
        drop(RUN.set(curious()));
        assert_eq!(drops.get(), 1);
        let before = RUN.set(curious());
        RUN.reset(before);
        assert_eq!(drops.get(), 2);
        TASK.set(curious());
        TASK.set(curious());
        assert_eq!(drops.get(), 3);
        TASK.unset();
        assert_eq!(drops.get(), 4);
        assert_eq!(COUNT.get(), Some(14));
        RUN.set(curious());
        assert_eq!(drops.get(), 5);
        TASK.set(curious());
        Ok::<_, Cancelled>(())
    })
    .unwrap();
    assert_eq!(drops.get(), 7, "with the run");
}

/// `contextvars_default`, `contextvars_set`; values do not leak from run to run.
#[test]
fn a_task_local_is_empty_until_it_is_set_and_belongs_to_its_run() {
    static LOCAL: TaskLocal<&str> = TaskLocal::new();
    for _ in 0..2 {
        nursery_testing::run(async {
            assert_eq!(LOCAL.get(), None);
            assert_eq!(LOCAL.set("first"), None);
            assert_eq!(LOCAL.set("second").as_deref(), Some(&"first"));
            checkpoint().await?;
            assert_eq!(LOCAL.get(), Some("second"));
            assert_eq!(LOCAL.unset().as_deref(), Some(&"second"));
            assert_eq!(LOCAL.unset(), None);
            LOCAL.set("left");
            Ok::<_, Cancelled>(())
        })
        .unwrap();
        assert_eq!(LOCAL.get(), None);
    }
}

/// Two locals of one type are two.
#[test]
fn locals_are_told_apart_by_their_place() {
    static TASK: [TaskLocal<u8>; 2] = [TaskLocal::new(), TaskLocal::new()];
    static RUN: [RunLocal<u8>; 2] = [RunLocal::new(), RunLocal::new()];
    nursery_testing::run(async {
        TASK[0].set(1);
        RUN[0].set(2);
        assert_eq!((TASK[0].get(), TASK[1].get()), (Some(1), None));
        assert_eq!((RUN[0].get(), RUN[1].get()), (Some(2), None));
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// C54, `contextvar_multitask`
#[test]
fn later_changes_are_invisible_to_parent_child_and_siblings() {
    static LOCAL: TaskLocal<&str> = TaskLocal::new();
    nursery_testing::run(async {
        LOCAL.set("hmmm");
        open_nursery(async |n| {
            n.start_soon(async {
                assert_eq!(LOCAL.get(), Some("hmmm"));
                LOCAL.set("of the first");
                settle().await?;
                assert_eq!(LOCAL.get(), Some("of the first"));
                Ok(())
            });
            // The copy is of the moment at which the child is started, not at which it runs.
            LOCAL.set("hmmmm");
            n.start_soon(async {
                assert_eq!(LOCAL.get(), Some("hmmmm"));
                checkpoint().await?;
                assert_eq!(LOCAL.get(), Some("hmmmm"));
                LOCAL.unset();
                Ok(())
            });
            LOCAL.set("later");
            settle().await?;
            assert_eq!(LOCAL.get(), Some("later"));
            Ok::<_, Cancelled>(())
        })
        .await
    })
    .unwrap();
}

/// B10, `contextvar_support`: the context is that of who calls `start_soon`, not of who owns the nursery.
#[test]
fn a_child_inherits_from_the_task_that_starts_it() {
    static LOCAL: TaskLocal<&str> = TaskLocal::new();
    nursery_testing::run(async {
        LOCAL.set("owner");
        let seen = RefCell::new(vec![]);
        let look = async |who| {
            seen.borrow_mut().push((who, LOCAL.get()));
            Ok::<_, Cancelled>(())
        };
        open_nursery(async |n| {
            let handle = n.handle();
            let look = &look;
            n.start_soon(async move {
                LOCAL.set("sibling");
                n.start_soon(look("start_soon"));
                let seen = Rc::new(Cell::new(None));
                let child = {
                    let seen = seen.clone();
                    async move {
                        seen.set(LOCAL.get());
                        Ok(())
                    }
                };
                handle.start_soon(child).unwrap().await?;
                assert_eq!(seen.get(), Some("sibling"), "NurseryHandle");
                n.start(async |status| {
                    assert_eq!(LOCAL.get(), Some("sibling"), "start");
                    LOCAL.set("starting");
                    status.started(());
                    assert_eq!(LOCAL.get(), Some("starting"), "it moves with the task");
                    Ok(())
                })
                .await?;
                assert_eq!(LOCAL.get(), Some("sibling"));
                Ok(())
            });
            settle().await?;
            n.start_soon(look("owner"));
            Ok::<_, Cancelled>(())
        })
        .await?;
        assert_eq!(seen.take(), [("start_soon", Some("sibling")), ("owner", Some("owner"))]);
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// `contextvars_copy`; a child started by a call of the entry queue inherits from no task.
#[test]
fn a_child_that_no_task_starts_inherits_nothing() {
    static LOCAL: TaskLocal<&str> = TaskLocal::new();
    thread_local! {
        static NURSERY: RefCell<Option<nursery::NurseryHandle<Cancelled>>> =
            const { RefCell::new(None) };
    }
    nursery_testing::run(async {
        LOCAL.set("main");
        open_nursery(async |n| {
            NURSERY.set(Some(n.handle()));
            lowlevel::token()
                .run_soon(|| {
                    let child = async {
                        assert_eq!(LOCAL.get(), None);
                        Ok(())
                    };
                    NURSERY.take().unwrap().start_soon(child).unwrap();
                })
                .unwrap();
            settle().await
        })
        .await
    })
    .unwrap();
}

#[test]
fn a_value_is_dropped_with_the_last_task_that_has_it() {
    static LOCAL: TaskLocal<Rc<()>> = TaskLocal::new();
    nursery_testing::run(async {
        let value = Rc::new(());
        LOCAL.set(value.clone());
        open_nursery(async |n| {
            n.start_soon(sleep_forever());
            n.start_soon(async {
                LOCAL.set(Rc::default()); // copies the context, not the values
                sleep_forever().await
            });
            settle().await?;
            assert_eq!(Rc::strong_count(&value), 2, "all share one");
            LOCAL.unset();
            assert_eq!(Rc::strong_count(&value), 2, "the first child has it");
            n.cancel_scope().cancel();
            Ok::<_, Cancelled>(())
        })
        .await?;
        assert_eq!(Rc::strong_count(&value), 1);
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}
