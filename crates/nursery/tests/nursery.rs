//! The life of a nursery: who may start children, how long it stays open, and what the handles of children do.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use futures_util::future::poll_immediate;
use nursery::lowlevel::{ParkingLot, TaskId, current_task, points, statistics};
use nursery::{
    CancelScope, CancelSource, Cancelled, Child, NodeKind, Nursery, NurseryClosed, NurseryHandle,
    OpenNursery, TaskLocal, checkpoint, move_on_after, now, open_nursery, sleep, sleep_forever,
    tree,
};
use nursery_testing::{Test, run, wait_all_tasks_blocked};

const SECOND: Duration = Duration::from_secs(1);

type Result<T = ()> = std::result::Result<T, Cancelled>;

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

/// Calls a function when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

// How long it lives.

/// B2
#[test]
fn opening_is_neither_a_schedule_point_nor_a_cancel_point() -> Result {
    run(async {
        let before = points();
        open(async |_| {
            assert_eq!(points(), before);
            Ok(())
        })
        .await
    })
}

/// B3, B4
#[test]
fn returns_when_the_body_and_all_children_have_ended_and_cancels_none_of_them() -> Result {
    run(async {
        let start = now();
        let ended = RefCell::new(vec![]);
        let value = open(async |n| {
            for seconds in [3, 1, 2] {
                let ended = &ended;
                n.start_soon(async move {
                    sleep(seconds * SECOND).await?;
                    ended.borrow_mut().push(seconds);
                    Ok(())
                });
            }
            Ok("body")
        })
        .await?;
        assert_eq!((value, now() - start), ("body", 3 * SECOND));
        assert_eq!(*ended.borrow(), [1, 2, 3]);
        Ok(())
    })
}

#[test]
fn waits_for_a_body_that_outlives_its_children() -> Result {
    run(async {
        let start = now();
        open(async |n| {
            n.start_soon(async { Ok(()) });
            sleep(SECOND).await
        })
        .await?;
        assert_eq!(now() - start, SECOND);
        Ok(())
    })
}

#[test]
fn background_children_are_stopped_by_the_nurserys_scope() -> Result {
    run(async {
        let stopped = Cell::new(0);
        open(async |n| {
            for _ in 0..3 {
                n.start_soon(async {
                    let error = sleep_forever().await.unwrap_err();
                    stopped.set(stopped.get() + 1);
                    Err::<(), _>(error)
                });
            }
            all_blocked().await?;
            n.cancel_scope().cancel();
            Ok(())
        })
        .await?;
        assert_eq!(stopped.get(), 3);
        Ok(())
    })
}

/// B5
#[test]
fn start_soon_does_not_run_the_child_inline() -> Result {
    run(async {
        let ran = Cell::new(false);
        open(async |n| {
            n.start_soon(async {
                ran.set(true);
                Ok(())
            });
            assert!(!ran.get());
            Ok(())
        })
        .await?;
        assert!(ran.get());
        Ok(())
    })
}

fn order_of_three(seed: u64) -> Vec<u32> {
    let order = RefCell::new(vec![]);
    Test::new()
        .seed(seed)
        .run(async {
            open(async |n| {
                for i in 0..3 {
                    let order = &order;
                    n.start_soon(async move {
                        order.borrow_mut().push(i);
                        Ok::<_, Cancelled>(())
                    });
                }
                Ok(())
            })
            .await
        })
        .unwrap();
    order.into_inner()
}

/// B5: no order among siblings is promised, and each seed has its own.
#[test]
fn siblings_run_in_an_order_drawn_from_the_seed() {
    let mut orders: Vec<_> = (0..200).map(order_of_three).collect();
    assert_eq!(orders, (0..200).map(order_of_three).collect::<Vec<_>>());
    orders.sort();
    orders.dedup();
    assert_eq!(orders.len(), 6);
}

async fn looper(name: char, record: &RefCell<Vec<(char, u32)>>) -> Result {
    for i in 0..3 {
        record.borrow_mut().push((name, i));
        checkpoint().await?;
    }
    Ok(())
}

/// trio: `basic_interleave`
#[test]
fn basic_interleave_one_step_each_per_turn() -> Result {
    for seed in 0..50 {
        Test::new().seed(seed).run(async {
            let record = RefCell::new(vec![]);
            open(async |n| {
                n.start_soon(looper('a', &record));
                n.start_soon(looper('b', &record));
                Ok(())
            })
            .await?;
            for (i, pair) in record.into_inner().chunks(2).enumerate() {
                let mut pair = pair.to_vec();
                pair.sort_unstable();
                let i = u32::try_from(i).unwrap();
                assert_eq!(pair, [('a', i), ('b', i)], "seed {seed}");
            }
            Ok::<_, Cancelled>(())
        })?;
    }
    Ok(())
}

#[test]
fn the_body_and_a_child_alternate_too() -> Result {
    for seed in 0..50 {
        Test::new().seed(seed).run(async {
            let record = RefCell::new(vec![]);
            open(async |n| {
                n.start_soon(looper('a', &record));
                checkpoint().await?; // the child's first step is in the next turn, B5
                looper('b', &record).await
            })
            .await?;
            let record = record.into_inner();
            for i in 0..3 {
                let at = |name| record.iter().position(|&entry| entry == (name, i)).unwrap();
                assert_eq!(at('a') / 2, at('b') / 2, "seed {seed}: {record:?}");
            }
            Ok::<_, Cancelled>(())
        })?;
    }
    Ok(())
}

/// B7
#[test]
fn stays_open_while_the_last_child_starts_another() -> Result {
    run(async {
        let generations = Cell::new(0);
        open(async |n| {
            fn spawn<'scope, 'env>(
                n: &'scope Nursery<'scope, 'env, Cancelled>,
                generations: &'env Cell<u32>,
                left: u32,
            ) {
                n.start_soon(async move {
                    checkpoint().await?;
                    generations.set(generations.get() + 1);
                    if left > 0 {
                        spawn(n, generations, left - 1);
                    }
                    Ok(())
                });
            }
            spawn(n, &generations, 9);
            Ok(())
        })
        .await?;
        assert_eq!(generations.get(), 10);
        Ok(())
    })
}

/// trio: `nursery_closure`. B6, B7, B8.
#[test]
fn nursery_closure_takes_children_while_one_is_alive_and_none_afterwards() -> Result {
    run(async {
        let ran = Rc::new(Cell::new(0));
        let count = |ran: &Rc<Cell<u32>>| {
            let ran = ran.clone();
            async move {
                ran.set(ran.get() + 1);
                Ok::<_, Cancelled>(())
            }
        };
        let handle = open(async |n| {
            let handle = n.handle();
            let inner = handle.clone();
            let second = count(&ran);
            n.start_soon(async move {
                all_blocked().await?; // the body has ended
                assert!(!inner.is_closed());
                inner.start_soon(second).unwrap();
                Ok(())
            });
            Ok(handle)
        })
        .await?;
        assert_eq!(ran.get(), 1);
        assert!(handle.is_closed());
        let NurseryClosed(rejected) = handle.start_soon(count(&ran)).unwrap_err();
        drop(rejected);
        all_blocked().await?;
        assert_eq!(ran.get(), 1);
        Ok(())
    })
}

#[test]
fn the_exit_yield_keeps_the_nursery_open_for_others() -> Result {
    for seed in 0..50 {
        Test::new().seed(seed).run(async {
            let kept = RefCell::new(None::<NurseryHandle<Cancelled>>);
            let started = Cell::new(0);
            let ran = Rc::new(Cell::new(0));
            open(async |n| {
                n.start_soon(async {
                    while kept.borrow().is_none() {
                        checkpoint().await?;
                    }
                    loop {
                        let (handle, ran) = (kept.borrow().clone().unwrap(), ran.clone());
                        let child = async move {
                            ran.set(ran.get() + 1);
                            Ok(())
                        };
                        if handle.start_soon(child).is_err() {
                            return Ok(());
                        }
                        started.set(started.get() + 1);
                        if started.get() > 3 {
                            return Ok(());
                        }
                        checkpoint().await?;
                    }
                });
                open(async |inner| {
                    kept.replace(Some(inner.handle()));
                    Ok(())
                })
                .await
            })
            .await?;
            assert_eq!(started.get(), ran.get(), "what was accepted runs; seed {seed}");
            Ok::<_, Cancelled>(())
        })?;
    }
    Ok(())
}

// Where a child belongs.

/// A7, B10
#[test]
fn a_child_is_under_the_scopes_of_the_nursery_not_of_the_call() -> Result {
    run(async {
        let start = now();
        open(async |n| {
            move_on_after(SECOND, async {
                n.start_soon(async { sleep(5 * SECOND).await });
                sleep_forever().await
            })
            .await?;
            assert_eq!(now() - start, SECOND);
            Ok(())
        })
        .await?;
        assert_eq!(now() - start, 5 * SECOND);
        Ok(())
    })
}

static WHO: TaskLocal<&'static str> = TaskLocal::new();

/// B10
#[test]
fn a_child_inherits_the_task_locals_of_whoever_starts_it() -> Result {
    run(async {
        WHO.set("main");
        open(async |n| {
            n.start_soon(async {
                WHO.set("spawner");
                n.start_soon(async {
                    assert_eq!(WHO.get(), Some("spawner"));
                    Ok(())
                });
                Ok(())
            });
            Ok(())
        })
        .await?;
        assert_eq!(WHO.get(), Some("main"));
        Ok(())
    })
}

/// B12
#[test]
fn the_parent_of_a_child_is_the_task_that_opened_the_nursery() -> Result {
    run(async {
        let main = current_task();
        assert_eq!(main.parent(), None);
        open(async |n| {
            n.start_soon(async {
                let spawner = current_task();
                n.start_soon(async move {
                    assert_eq!(current_task().parent(), Some(main));
                    assert_ne!(current_task(), spawner);
                    Ok(())
                });
                Ok(())
            });
            Ok(())
        })
        .await
    })
}

/// trio: `task_nursery_stack`, `task_tree_introspection`. B11.
#[test]
fn nested_nurseries_stand_in_the_tree_from_the_outside_in() -> Result {
    run(async {
        open(async |outer| {
            outer.start_soon(async { sleep_forever().await }).set_name("of outer");
            open(async |inner| {
                inner.start_soon(async { sleep_forever().await }).set_name("of inner");
                all_blocked().await?;
                let shape: Vec<_> = tree()
                    .nodes()
                    .iter()
                    .filter(|node| node.name.as_deref() != Some("system"))
                    .map(|node| (node.depth, node.kind, node.name.clone().unwrap_or_default()))
                    .collect();
                let named = |depth, kind, name: &str| (depth, kind, name.to_owned());
                assert_eq!(
                    shape,
                    [
                        named(0, NodeKind::Run, ""),
                        named(1, NodeKind::Task, "main"),
                        named(2, NodeKind::Nursery, ""),
                        named(3, NodeKind::Task, "of outer"),
                        named(3, NodeKind::Nursery, ""),
                        named(4, NodeKind::Task, "of inner"),
                    ]
                );
                inner.cancel_scope().cancel();
                outer.cancel_scope().cancel();
                Ok(())
            })
            .await
        })
        .or_none()
        .await?;
        Ok(())
    })
}

// What a child may hold.

#[test]
fn children_borrow_from_around_the_nursery_also_exclusively() -> Result {
    run(async {
        let mut words = vec!["a".to_owned()];
        let (first, second) = (&mut words, String::from("b"));
        open(async |n| {
            n.start_soon(async {
                checkpoint().await?;
                first.push(second.clone());
                Ok(())
            });
            Ok(())
        })
        .await?;
        words.push(second);
        assert_eq!(words, ["a", "b", "b"]);
        Ok(())
    })
}

#[test]
fn children_need_not_be_send() -> Result {
    run(async {
        let shared = Rc::new(RefCell::new(0));
        open(async |n| {
            for _ in 0..4 {
                let shared = shared.clone();
                n.start_soon(async move {
                    checkpoint().await?;
                    *shared.borrow_mut() += 1;
                    Ok(())
                });
            }
            Ok(())
        })
        .await?;
        assert_eq!(Rc::strong_count(&shared), 1, "all children have been dropped");
        assert_eq!(*shared.borrow(), 4);
        Ok(())
    })
}

#[test]
fn children_start_siblings() -> Result {
    run(async {
        let count = Cell::new(0);
        open(async |n| {
            for _ in 0..3 {
                let count = &count;
                n.start_soon(async move {
                    n.start_soon(async move {
                        count.set(count.get() + 1);
                        Ok(())
                    });
                    Ok(())
                });
            }
            Ok(())
        })
        .await?;
        assert_eq!(count.get(), 3);
        Ok(())
    })
}

/// B6
#[test]
fn a_child_started_in_an_outer_nursery_outlives_the_inner_one() -> Result {
    run(async {
        let log = RefCell::new(vec![]);
        open(async |outer| {
            open(async |inner| {
                inner.start_soon(async {
                    outer.start_soon(async {
                        sleep(SECOND).await?;
                        log.borrow_mut().push("child of outer");
                        Ok(())
                    });
                    Ok(())
                });
                Ok(())
            })
            .await?;
            log.borrow_mut().push("inner is closed");
            Ok(())
        })
        .await?;
        assert_eq!(*log.borrow(), ["inner is closed", "child of outer"]);
        Ok(())
    })
}

#[test]
fn cancelling_the_inner_nursery_does_not_reach_what_it_started_in_the_outer() -> Result {
    run(async {
        let done = Cell::new(false);
        open(async |outer| {
            open(async |inner| {
                inner.start_soon(async {
                    outer.start_soon(async {
                        sleep(SECOND).await?;
                        done.set(true);
                        Ok(())
                    });
                    inner.cancel_scope().cancel();
                    sleep_forever().await
                });
                Ok(())
            })
            .await
        })
        .await?;
        assert!(done.get());
        Ok(())
    })
}

/// trio: `locals_destroyed_promptly_on_cancel`. C50.
#[test]
fn a_childs_future_is_dropped_when_it_ends_not_when_the_nursery_does() -> Result {
    run(async {
        let dropped = Cell::new(false);
        open(async |n| {
            let child = n.start_soon(async {
                let _local = OnDrop(|| dropped.set(true));
                sleep_forever().await
            });
            all_blocked().await?;
            child.cancel();
            assert!(!dropped.get());
            all_blocked().await?;
            assert!(dropped.get());
            assert!(child.is_finished());
            Ok(())
        })
        .await
    })
}

/// trio: `nursery_cancel_doesnt_create_cyclic_garbage`. A46.
#[test]
fn nothing_of_a_cancelled_nursery_is_left_behind() -> Result {
    run(async {
        let alive = Rc::new(());
        let before = statistics();
        open(async |n| {
            for _ in 0..3 {
                let alive = alive.clone();
                n.start_soon(async move {
                    let _alive = alive;
                    sleep_forever().await
                });
            }
            all_blocked().await?;
            n.cancel_scope().cancel();
            Ok(())
        })
        .await?;
        assert_eq!(Rc::strong_count(&alive), 1);
        assert_eq!(statistics(), before);
        Ok(())
    })
}

/// trio: `precancelled_task`. A36.
#[test]
fn a_child_started_in_a_cancelled_nursery_runs_to_its_first_checkpoint() -> Result {
    run(async {
        let (began, passed, ended) = (Cell::new(false), Cell::new(false), Cell::new(false));
        open(async |n| {
            n.cancel_scope().cancel();
            n.start_soon(async {
                began.set(true);
                checkpoint().await?;
                passed.set(true);
                Ok(())
            });
            n.start_soon(async {
                ended.set(true);
                Ok(())
            });
            Ok(())
        })
        .await?;
        assert_eq!((began.get(), passed.get(), ended.get()), (true, false, true));
        Ok(())
    })
}

/// trio: `cancel_inheritance`. A2, A7.
#[test]
fn cancelling_a_nursery_reaches_grandchildren_and_nested_nurseries() -> Result {
    run(async {
        let record = RefCell::new(Vec::new());
        let leaf = async |name: &'static str| -> Result {
            let error = sleep_forever().await.unwrap_err();
            assert_eq!(error.reason().source(), CancelSource::Explicit);
            record.borrow_mut().push(name);
            Err(error)
        };
        open(async |n| {
            n.start_soon(async {
                open(async |nested| {
                    nested.start_soon(leaf("grandchild"));
                    nested.start_soon(leaf("grandchild"));
                    leaf("child").await
                })
                .await
            });
            n.start_soon(leaf("child"));
            all_blocked().await?;
            n.cancel_scope().cancel();
            Ok(())
        })
        .await?;
        let mut record = record.into_inner();
        record.sort_unstable();
        assert_eq!(record, ["child", "child", "grandchild", "grandchild"]);
        Ok(())
    })
}

/// A16
#[test]
fn a_shield_of_the_nurserys_scope_protects_body_and_children() -> Result {
    run(async {
        let finished = Cell::new(0);
        let outer = CancelScope::new();
        outer
            .enter(async {
                open(async |n| {
                    n.cancel_scope().set_shield(true);
                    n.start_soon(async {
                        sleep(SECOND).await?;
                        finished.set(finished.get() + 1);
                        Ok(())
                    });
                    outer.cancel();
                    sleep(SECOND).await?;
                    finished.set(finished.get() + 1);
                    Ok(())
                })
                .await
            })
            .await?;
        assert_eq!(finished.get(), 2);
        assert!(!outer.cancelled_caught());
        Ok(())
    })
}

// The exit.

/// trio: `trivial_yields`. B21.
#[test]
fn the_end_of_an_empty_nursery_is_one_schedule_point_and_no_cancel_point() -> Result {
    run(async {
        let scope = CancelScope::new();
        scope.cancel();
        let passed = scope
            .enter(async {
                let before = points();
                open(async |_| Ok::<_, Cancelled>(())).await?;
                let after = points();
                assert_eq!(after.schedule - before.schedule, 1);
                assert_eq!(after.cancel - before.cancel, 0);
                Ok::<_, Cancelled>("not cancelled")
            })
            .await?;
        assert_eq!(passed, Some("not cancelled"));
        assert!(!scope.cancelled_caught());
        Ok(())
    })
}

/// B20
#[test]
fn the_end_of_a_nursery_that_waits_counts_as_a_schedule_point() -> Result {
    run(async {
        let before = points();
        open(async |n| {
            n.start_soon(async { sleep(SECOND).await });
            Ok(())
        })
        .await?;
        let after = points();
        assert_eq!(after.schedule - before.schedule, 1);
        assert_eq!(after.cancel - before.cancel, 0);
        Ok(())
    })
}

#[test]
fn others_run_during_the_exit_of_an_empty_nursery() -> Result {
    for seed in 0..20 {
        Test::new().seed(seed).run(async {
            let steps = Cell::new(0);
            open(async |n| {
                n.start_soon(async {
                    for _ in 0..50 {
                        checkpoint().await?;
                        steps.set(steps.get() + 1);
                    }
                    Ok(())
                });
                all_started(&steps).await?;
                for _ in 0..10 {
                    let before = steps.get();
                    open(async |_| Ok::<_, Cancelled>(())).await?;
                    open(async |_| Ok::<_, Cancelled>(())).await?;
                    assert!(steps.get() > before, "seed {seed}");
                }
                Ok(())
            })
            .await
        })?;
    }
    Ok(())
}

async fn all_started(steps: &Cell<u32>) -> Result {
    while steps.get() == 0 {
        checkpoint().await?;
    }
    Ok(())
}

/// B20
#[test]
fn cancelled_while_it_waits_it_returns_ok_if_all_children_do() -> Result {
    run(async {
        let scope = CancelScope::new();
        let value = scope
            .enter(async {
                open(async |n| {
                    n.start_soon(async {
                        nursery::shield(async {
                            scope.cancel();
                            sleep(SECOND).await
                        })
                        .await
                    });
                    Ok::<_, Cancelled>(7)
                })
                .await
            })
            .await?;
        assert_eq!(value, Some(7));
        assert!(scope.cancel_called() && !scope.cancelled_caught());
        Ok(())
    })
}

/// trio: `child_crash_wakes_parent` (its second half). B20.
#[test]
fn a_cancelled_nursery_whose_body_and_children_end_well_has_caught_nothing() -> Result {
    run(async {
        let scope = open(async |n| {
            n.cancel_scope().cancel();
            n.start_soon(async { Ok(()) });
            Ok::<_, Cancelled>(n.cancel_scope().clone())
        })
        .await?;
        assert!(scope.cancel_called());
        assert!(!scope.cancelled_caught());
        Ok(())
    })
}

#[test]
fn a_cancelled_nursery_that_absorbs_says_so_and_keeps_the_bodys_value() -> Result {
    run(async {
        let scope = open(async |n| {
            n.start_soon(async { sleep_forever().await });
            n.cancel_scope().cancel_because("enough");
            Ok::<_, Cancelled>(n.cancel_scope().clone())
        })
        .await?;
        assert!(scope.cancelled_caught());
        assert_eq!(scope.reason().unwrap().text(), Some("enough"));
        assert!(format!("{scope:?}").contains("exited"));
        Ok(())
    })
}

// or_none.

#[test]
fn or_none_is_none_if_the_nurserys_own_cancellation_ended_the_body() -> Result {
    run(async {
        let stopped = open(async |n| {
            n.cancel_scope().cancel();
            sleep_forever().await
        })
        .or_none()
        .await?;
        assert_eq!(stopped, None);
        Ok(())
    })
}

#[test]
fn or_none_is_some_if_the_body_returned_although_the_nursery_was_cancelled() -> Result {
    run(async {
        let value = open(async |n| {
            n.start_soon(async { sleep_forever().await });
            n.cancel_scope().cancel();
            Ok::<_, Cancelled>(5)
        })
        .or_none()
        .await?;
        assert_eq!(value, Some(5));
        Ok(())
    })
}

#[test]
fn or_none_passes_on_a_cancellation_from_outside() -> Result {
    run(async {
        let scope = CancelScope::new();
        scope.cancel();
        let inside = Cell::new(false);
        let outcome = scope
            .enter(async {
                let result = open(async |n| {
                    n.cancel_scope().cancel();
                    sleep_forever().await
                })
                .or_none()
                .await;
                inside.set(result.is_err());
                result
            })
            .await?;
        assert_eq!(outcome, None);
        assert!(inside.get(), "the outermost cancelled scope absorbs");
        Ok(())
    })
}

#[test]
fn without_or_none_a_body_that_was_cancelled_gives_that_cancellation() -> Result {
    run(async {
        let error = open(async |n| {
            n.cancel_scope().cancel_because("no value");
            sleep_forever().await
        })
        .await
        .unwrap_err();
        assert_eq!(error.reason().text(), Some("no value"));
        Ok(())
    })
}

// Child: the handle.

#[test]
fn awaiting_a_child_gives_its_value() -> Result {
    run(async {
        let sum = open(async |n| {
            let slow = n.start_soon(async {
                sleep(SECOND).await?;
                Ok(40)
            });
            let quick = n.start_soon(async { Ok(2) });
            Ok::<_, Cancelled>(slow.await? + quick.await?)
        })
        .await?;
        assert_eq!(sum, 42);
        Ok(())
    })
}

#[test]
fn a_value_may_borrow_and_need_not_be_send() -> Result {
    run(async {
        let text = String::from("borrowed");
        open(async |n| {
            let child = n.start_soon(async { Ok(Rc::new(text.as_str())) });
            assert_eq!(**child.await?, *"borrowed");
            Ok::<_, Cancelled>(())
        })
        .await
    })
}

#[test]
fn awaiting_a_child_is_a_checkpoint_also_if_it_has_ended() -> Result {
    run(async {
        open(async |n| {
            let child = n.start_soon(async { Ok(()) });
            all_blocked().await?;
            assert!(child.is_finished());
            let before = points();
            child.await?;
            let after = points();
            assert_eq!((after.cancel - before.cancel, after.schedule - before.schedule), (1, 1));

            let child = n.start_soon(async { Ok(()) });
            all_blocked().await?;
            let scope = CancelScope::new();
            scope.cancel();
            assert_eq!(scope.enter(child).await?, None);
            Ok::<_, Cancelled>(())
        })
        .await
    })
}

#[test]
fn a_wait_for_a_child_that_is_cancelled_lets_the_child_go_on() -> Result {
    run(async {
        open(async |n| {
            let mut child = n.start_soon(async {
                sleep(2 * SECOND).await?;
                Ok("late")
            });
            assert_eq!(move_on_after(SECOND, &mut child).await?, None);
            assert!(!child.is_finished());
            assert_eq!(child.await?, "late", "the handle can be awaited again");
            Ok::<_, Cancelled>(())
        })
        .await
    })
}

#[test]
fn a_wait_for_a_child_that_is_dropped_lets_the_child_go_on() -> Result {
    run(async {
        open(async |n| {
            let mut child = n.start_soon(async {
                sleep(SECOND).await?;
                Ok("still here")
            });
            assert!(poll_immediate(&mut child).await.is_none());
            assert_eq!(child.await?, "still here");
            Ok::<_, Cancelled>(())
        })
        .await
    })
}

#[test]
fn a_child_is_cancelled_alone_and_does_not_count_as_failed() -> Result {
    run(async {
        let start = now();
        let sibling = Cell::new(false);
        open(async |n| {
            let child = n.start_soon(async { sleep_forever().await });
            n.start_soon(async {
                sleep(SECOND).await?;
                sibling.set(true);
                Ok(())
            });
            all_blocked().await?;
            child.cancel_because("only you");
            assert!(!n.cancel_scope().cancel_called());
            let error = child.await.unwrap_err();
            assert_eq!(error.reason().source(), CancelSource::Nursery, "it has no value");
            Ok(())
        })
        .await?;
        assert!(sibling.get());
        assert_eq!(now() - start, SECOND);
        Ok(())
    })
}

#[test]
fn a_child_can_be_cancelled_before_its_first_step() -> Result {
    run(async {
        let (began, passed) = (Cell::new(false), Cell::new(false));
        open(async |n| {
            let child = n.start_soon(async {
                began.set(true);
                checkpoint().await?;
                passed.set(true);
                Ok(())
            });
            child.cancel();
            assert_eq!(child.cancel_and_join().await?, None);
            Ok(())
        })
        .await?;
        assert_eq!((began.get(), passed.get()), (true, false));
        Ok(())
    })
}

#[test]
fn cancel_and_join_waits_for_the_childs_clean_up() -> Result {
    run(async {
        let start = now();
        open(async |n| {
            let child = n.start_soon(async {
                let stopped = sleep_forever().await;
                nursery::shield(sleep(SECOND)).await?;
                stopped
            });
            all_blocked().await?;
            assert_eq!(child.cancel_and_join().await?, None);
            assert_eq!(now() - start, SECOND);
            Ok(())
        })
        .await
    })
}

#[test]
fn cancel_and_join_gives_the_value_of_a_child_that_has_one_nevertheless() -> Result {
    run(async {
        open(async |n| {
            let ended = n.start_soon(async { Ok("ended before") });
            let swallows = n.start_soon(async {
                let _ = sleep_forever().await;
                Ok("swallowed it")
            });
            all_blocked().await?;
            assert_eq!(ended.cancel_and_join().await?, Some("ended before"));
            assert_eq!(swallows.cancel_and_join().await?, Some("swallowed it"));
            Ok(())
        })
        .await
    })
}

#[test]
fn cancel_and_join_of_a_cancelled_task_has_cancelled_the_child() -> Result {
    run(async {
        open(async |n| {
            let dropped = Rc::new(Cell::new(false));
            let child = n.start_soon({
                let dropped = dropped.clone();
                async move {
                    let _local = OnDrop(|| dropped.set(true));
                    sleep_forever().await
                }
            });
            all_blocked().await?;
            let scope = CancelScope::new();
            scope.cancel();
            assert!(scope.enter(child.cancel_and_join()).await?.is_none());
            all_blocked().await?;
            assert!(dropped.get());
            Ok(())
        })
        .await
    })
}

/// trio: `spawn_name`
#[test]
fn a_child_is_called_by_its_name_or_by_where_it_was_started() -> Result {
    run(async {
        open(async |n| {
            let named = n.start_soon(async { Ok(current_task().name()) }).named("worker 7");
            let line = line!() + 1;
            let plain = n.start_soon(async { Ok(current_task().name()) });
            assert_eq!(named.await?.as_deref(), Some("worker 7"));
            assert_eq!(plain.await?, Some(format!("{}:{line}", file!())));

            let id: TaskId = n.start_soon(async { sleep(SECOND).await }).named("x").id().unwrap();
            assert_eq!(id.name().as_deref(), Some("x"));
            assert_eq!(format!("{id:?}"), "<task \"x\">");
            sleep(2 * SECOND).await?;
            assert_eq!(id.name(), None, "it has ended");
            Ok(())
        })
        .await
    })
}

#[test]
fn the_name_of_the_canceller_is_in_the_reason() -> Result {
    run(async {
        open(async |n| {
            let sleeper = n.start_soon(async {
                let error = sleep_forever().await.unwrap_err();
                Ok(error.to_string())
            });
            all_blocked().await?;
            let canceller = n
                .start_soon(async {
                    sleeper.cancel_because("enough");
                    sleeper.await
                })
                .named("canceller");
            let text = "cancelled due to explicit with reason \"enough\" from task \"canceller\"";
            assert_eq!(canceller.await?, text);
            Ok(())
        })
        .await
    })
}

#[test]
fn dropping_the_handle_changes_nothing() -> Result {
    run(async {
        let done = Cell::new(0);
        open(async |n| {
            for _ in 0..2 {
                let child = n.start_soon(async {
                    sleep(SECOND).await?;
                    done.set(done.get() + 1);
                    Ok(())
                });
                drop(child); // before its first step
            }
            let child = n.start_soon(async {
                sleep(SECOND).await?;
                done.set(done.get() + 1);
                Ok(())
            });
            all_blocked().await?;
            drop(child); // while it waits
            Ok(())
        })
        .await?;
        assert_eq!(done.get(), 3);
        Ok(())
    })
}

#[test]
fn the_value_of_a_child_nobody_waits_for_is_dropped_when_it_is_made() -> Result {
    run(async {
        let value = Rc::new(());
        open(async |n| {
            n.start_soon(async { Ok(value.clone()) });
            all_blocked().await?;
            assert_eq!(Rc::strong_count(&value), 1);
            let kept = n.start_soon(async { Ok(value.clone()) });
            all_blocked().await?;
            assert_eq!(Rc::strong_count(&value), 2);
            drop(kept);
            assert_eq!(Rc::strong_count(&value), 1);
            Ok(())
        })
        .await
    })
}

#[test]
#[expect(clippy::mem_forget, reason = "what is tested")]
fn forgetting_the_handle_changes_nothing() -> Result {
    run(async {
        let done = Cell::new(0);
        open(async |n| {
            let child = n.start_soon(async {
                sleep(SECOND).await?;
                done.set(done.get() + 1);
                Ok(())
            });
            std::mem::forget(child);
            let mut awaited = n.start_soon(async {
                sleep(SECOND).await?;
                done.set(done.get() + 1);
                Ok(())
            });
            assert!(poll_immediate(&mut awaited).await.is_none());
            std::mem::forget(awaited);
            Ok(())
        })
        .await?;
        assert_eq!(done.get(), 2);
        Ok(())
    })
}

#[test]
fn a_handle_kept_beyond_its_run_touches_no_task_of_the_next() -> Result {
    let kept: Child<'static, ()> = run(async {
        open(async |n| {
            let child = n.handle().start_soon(async { sleep_forever().await }).unwrap();
            n.cancel_scope().cancel();
            Ok::<_, Cancelled>(child)
        })
        .await
    })?;
    kept.cancel();
    kept.set_name("outside a run");
    run(async {
        open(async |n| {
            n.start_soon(async { checkpoint().await });
            kept.cancel_because("of another run");
            kept.set_name("of another run");
            assert!(kept.is_finished());
            assert!(!tree().to_string().contains("of another run"), "{}", tree());
            checkpoint().await
        })
        .await
    })
}

// NurseryHandle.

/// Keeps a nursery in a struct, as a server would.
struct Pool {
    nursery: NurseryHandle<Cancelled>,
    served: Rc<Cell<u32>>,
}

impl Pool {
    fn submit(&self, job: u32) -> bool {
        let served = self.served.clone();
        let job = async move {
            checkpoint().await?;
            served.set(served.get() + job);
            Ok(())
        };
        self.nursery.start_soon(job).is_ok()
    }
}

#[test]
fn a_nursery_can_be_kept_in_a_struct() -> Result {
    run(async {
        let served = Rc::new(Cell::new(0));
        let pool = open(async |n| {
            let pool = Pool { nursery: n.handle(), served: served.clone() };
            assert!(pool.submit(1) && pool.submit(2));
            Ok::<_, Cancelled>(pool)
        })
        .await?;
        assert_eq!(served.get(), 3);
        assert!(!pool.submit(4), "the handle does not keep the nursery open");
        assert_eq!(format!("{:?}", pool.nursery), "NurseryHandle { closed: true }");
        Ok(())
    })
}

#[test]
fn a_closed_nursery_gives_the_future_back_and_it_still_works() -> Result {
    run(async {
        let closed = open(async |n| Ok::<_, Cancelled>(n.handle())).await?;
        let polled = Rc::new(Cell::new(false));
        let job = {
            let polled = polled.clone();
            async move {
                polled.set(true);
                checkpoint().await?;
                Ok::<_, Cancelled>("works")
            }
        };
        let refused = closed.start_soon(job).unwrap_err();
        assert_eq!(refused.to_string(), "the nursery has ended and takes no more children");
        assert!(!polled.get());
        let NurseryClosed(job) = refused;
        let value = open(async |n| n.handle().start_soon(job).unwrap().await).await?;
        assert_eq!(value, "works");
        Ok(())
    })
}

#[test]
fn a_handle_awaits_names_and_cancels_like_any() -> Result {
    run(async {
        open(async |n| {
            let handle = n.handle();
            assert!(!handle.is_closed());
            let a = handle.start_soon(async { Ok(current_task().name()) }).unwrap().named("a");
            assert_eq!(a.await?.as_deref(), Some("a"));
            let b = handle.start_soon(async { sleep_forever().await }).unwrap();
            assert_eq!(b.cancel_and_join().await?, None);
            handle.start_soon(async { sleep_forever().await }).unwrap();
            handle.cancel_scope().cancel();
            assert!(n.cancel_scope().cancel_called());
            Ok(())
        })
        .await
    })
}

/// C56: a host that has the thread between two polls.
#[test]
fn a_host_starts_children_through_a_handle_between_polls() {
    let handle: RefCell<Option<NurseryHandle<Cancelled>>> = RefCell::new(None);
    let ran = Rc::new(Cell::new(false));
    let lot = ParkingLot::<()>::new();
    let mut guest = Box::pin(Test::new().builder().guest(async {
        open(async |n| {
            handle.replace(Some(n.handle()));
            nursery::cancellable(std::future::pending::<()>()).await?;
            lot.unpark_all();
            Ok::<_, Cancelled>(())
        })
        .await
    }));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(guest.as_mut().poll(&mut cx).is_pending());
    let kept = handle.borrow().clone().unwrap();
    let child = {
        let ran = ran.clone();
        async move {
            ran.set(true);
            Ok(())
        }
    };
    drop(kept.start_soon(child).unwrap());
    assert!(guest.as_mut().poll(&mut cx).is_pending());
    assert!(ran.get());
    kept.cancel_scope().cancel();
    let mut polls = 0;
    let result = loop {
        polls += 1;
        assert!(polls < 20);
        if let std::task::Poll::Ready(result) = guest.as_mut().poll(&mut cx) {
            break result;
        }
    };
    assert!(result.is_err(), "the body ended with the nursery's own cancellation");
    assert!(kept.is_closed());
}

#[test]
fn a_handle_that_asks_for_the_scope_after_the_end_learns_how_it_ended() -> Result {
    run(async {
        let handle = open(async |n| {
            n.cancel_scope().cancel();
            Ok(n.handle())
        })
        .await?;
        assert!(handle.cancel_scope().cancel_called());

        let kept = RefCell::new(None);
        open(async |n| {
            n.start_soon(async {
                kept.replace(Some(n.handle()));
                Ok(())
            });
            Ok(())
        })
        .await?;
        let handle = kept.take().expect("the child put it there");
        assert!(handle.is_closed() && !handle.cancel_scope().cancel_called());
        assert!(handle.cancel_scope().is_entered());
        handle.cancel_scope().cancel(); // too late: sets the flag, and nothing else
        assert!(handle.cancel_scope().cancel_called());
        Ok(())
    })
}
