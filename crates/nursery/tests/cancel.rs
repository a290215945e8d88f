//! Cancellation is a state, arrives at checkpoints, and is absorbed by the outermost cancelled scope.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use anyhow::bail;
use futures_util::poll;
use nursery::lowlevel::{
    self, ParkingLot, cancel_shielded_checkpoint, checkpoint_if_cancelled, statistics,
    wait_all_tasks_blocked,
};
use nursery::{
    CancelScope, Cancelled, ErrorGroup, TaskError, cancellable, checkpoint, open_nursery, shield,
    sleep, sleep_forever,
};

fn run<T>(main: impl Future<Output = anyhow::Result<T>>) -> T {
    nursery_testing::run(main).unwrap()
}

async fn forever() -> anyhow::Result<()> {
    Ok(sleep_forever().await?)
}

async fn settled() -> Result<(), Cancelled> {
    wait_all_tasks_blocked(Duration::ZERO).await
}

/// Runs `body` in a scope that is cancelled already, and gives the scope back.
async fn in_cancelled<T>(body: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let scope = CancelScope::new();
    scope.cancel();
    let value = scope.enter(body).await?;
    Ok(value.expect("the body raised"))
}

fn kinds(error: &anyhow::Error) -> Vec<String> {
    let group = error.downcast_ref::<ErrorGroup<anyhow::Error>>().expect("a group");
    let mut kinds: Vec<_> = group
        .iter()
        .map(|member| match member.as_cancelled() {
            Some(_) => "cancelled".to_owned(),
            None => member.to_string(),
        })
        .collect();
    kinds.sort();
    kinds
}

#[test]
fn each_cancel_point_raises_once_the_scope_is_cancelled() {
    run(async {
        let scope = CancelScope::new();
        scope
            .enter(async {
                checkpoint_if_cancelled().await?;
                checkpoint().await?;
                sleep(Duration::ZERO).await?;
                scope.cancel();
                assert!(checkpoint_if_cancelled().await.is_err());
                assert!(checkpoint().await.is_err());
                assert!(sleep(Duration::ZERO).await.is_err());
                assert!(sleep_forever().await.is_err());
                assert!(cancellable(async {}).await.is_err());
                anyhow::Ok(())
            })
            .await?;
        Ok(())
    });
}

#[test]
fn the_shielded_half_of_a_checkpoint_never_raises() {
    run(in_cancelled(async {
        cancel_shielded_checkpoint().await;
        cancel_shielded_checkpoint().await;
        assert!(checkpoint().await.is_err());
        Ok(())
    }));
}

#[test]
fn cancel_is_idempotent_and_raises_nothing_in_the_caller() {
    run(async {
        let scope = CancelScope::new();
        let ended = scope
            .enter(async {
                scope.cancel();
                scope.cancel();
                checkpoint().await?;
                anyhow::Ok("not reached")
            })
            .await?;
        assert_eq!(ended, None);
        assert!(scope.cancel_called());
        assert!(scope.cancelled_caught());
        Ok(())
    });
}

#[test]
fn a_swallowed_cancellation_is_raised_again_and_again() {
    run(in_cancelled(async {
        for _ in 0..3 {
            assert!(sleep_forever().await.is_err());
            assert!(checkpoint().await.is_err());
        }
        Ok(())
    }));
}

#[test]
fn a_body_that_passes_no_checkpoint_keeps_its_value() {
    run(async {
        let scope = CancelScope::new();
        let value = scope
            .enter(async {
                scope.cancel();
                anyhow::Ok(5)
            })
            .await?;
        assert_eq!(value, Some(5));
        assert!(scope.cancel_called());
        assert!(!scope.cancelled_caught());
        Ok(())
    });
}

#[test]
fn after_a_cancelled_scope_nothing_of_it_is_left() {
    run(async {
        let scope = CancelScope::new();
        scope.cancel();
        // Pending, but never delivered.
        scope
            .enter(async {
                cancel_shielded_checkpoint().await;
                anyhow::Ok(())
            })
            .await?;
        checkpoint().await?;
        assert!(!scope.cancelled_caught());
        assert!(!lowlevel::is_cancelled());
        // Delivered.
        let scope = CancelScope::new();
        scope.cancel();
        assert!(scope.enter(sleep_forever()).await?.is_none());
        checkpoint().await?;
        Ok(())
    });
}

#[test]
fn cancelling_an_inner_scope_concerns_neither_outer_ones_nor_siblings() {
    run(async {
        let (outer, inner, sibling) = (CancelScope::new(), CancelScope::new(), CancelScope::new());
        outer
            .enter(async {
                inner
                    .enter(async {
                        inner.cancel();
                        assert!(checkpoint().await.is_err());
                        anyhow::Ok(())
                    })
                    .await?;
                checkpoint().await?;
                sibling.enter(async { anyhow::Ok(checkpoint().await?) }).await?;
                anyhow::Ok(())
            })
            .await?;
        assert!(!outer.cancel_called());
        assert!(!sibling.cancel_called());
        Ok(())
    });
}

#[test]
fn of_nested_cancelled_scopes_the_outermost_absorbs() {
    run(async {
        let scopes = [CancelScope::new(), CancelScope::new(), CancelScope::new()];
        let [first, second, third] = &scopes;
        let ended = first
            .enter(async {
                let inside = second
                    .enter(async {
                        third
                            .enter(async {
                                third.cancel();
                                second.cancel();
                                forever().await
                            })
                            .await
                    })
                    .await?;
                assert!(inside.is_none());
                checkpoint().await?; // here, nothing is cancelled
                anyhow::Ok(())
            })
            .await?;
        assert!(ended.is_some());
        let state = |s: &CancelScope| (s.cancel_called(), s.cancelled_caught());
        assert_eq!(scopes.each_ref().map(state), [(false, false), (true, true), (true, false)]);
        Ok(())
    });
}

#[test]
fn an_outer_scope_cancelled_while_the_error_travels_absorbs_instead_of_the_inner() {
    run(async {
        let (outer, inner) = (CancelScope::new(), CancelScope::new());
        outer
            .enter(async {
                inner.cancel();
                inner
                    .enter(async {
                        let raised = checkpoint().await;
                        outer.cancel();
                        anyhow::Ok(raised?)
                    })
                    .await
            })
            .await?;
        assert!(!inner.cancelled_caught());
        assert!(outer.cancelled_caught());
        Ok(())
    });
}

#[test]
fn a_child_hears_the_scopes_around_its_nursery_not_those_around_the_call() {
    run(async {
        let around_call = CancelScope::new();
        let child_done = Cell::new(false);
        open_nursery(async |n| -> anyhow::Result<()> {
            around_call
                .enter(async {
                    n.start_soon(async {
                        sleep(Duration::from_secs(1)).await?;
                        child_done.set(true);
                        Ok(())
                    });
                    around_call.cancel();
                    anyhow::Ok(checkpoint().await?)
                })
                .await?;
            Ok(())
        })
        .await?;
        assert!(around_call.cancelled_caught());
        assert!(child_done.get());
        Ok(())
    });
}

#[test]
fn cancel_inheritance() {
    run(async {
        let record = RefCell::new(vec![]);
        let leaf = async |name: String| -> anyhow::Result<()> {
            assert!(sleep_forever().await.is_err());
            record.borrow_mut().push(name);
            Ok(())
        };
        let leaf = &leaf;
        open_nursery(async |n| -> anyhow::Result<()> {
            for worker in ["w1", "w2"] {
                n.start_soon(async move {
                    open_nursery(async |n| -> anyhow::Result<()> {
                        n.start_soon(leaf(format!("{worker}-l1")));
                        n.start_soon(leaf(format!("{worker}-l2")));
                        Ok(())
                    })
                    .await
                });
            }
            settled().await?;
            n.cancel_scope().cancel();
            Ok(())
        })
        .await?;
        let mut record = record.take();
        record.sort();
        assert_eq!(record, ["w1-l1", "w1-l2", "w2-l1", "w2-l2"]);
        Ok(())
    });
}

#[test]
fn precancelled_task() {
    run(async {
        let record = RefCell::new(vec![]);
        let value = open_nursery(async |n| -> anyhow::Result<bool> {
            n.cancel_scope().cancel();
            n.start_soon(async {
                record.borrow_mut().push("started");
                sleep_forever().await?;
                record.borrow_mut().push("not reached");
                Ok(())
            });
            let without_checkpoint = n.start_soon(async { Ok(3) });
            shield(settled()).await?;
            Ok(without_checkpoint.is_finished())
        })
        .await?;
        assert_eq!(record.take(), ["started"]);
        assert!(value);
        Ok(())
    });
}

#[test]
fn a_cancelled_task_may_still_spawn_set_and_cancel() {
    run(async {
        let record = RefCell::new(vec![]);
        let lot = ParkingLot::<i32>::new();
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                let got = shield(lot.park()).await?;
                record.borrow_mut().push(got);
                Ok(())
            });
            settled().await?;
            let other = CancelScope::new();
            in_cancelled(async {
                lot.unpark_one(7).unwrap();
                other.cancel();
                n.start_soon(async {
                    checkpoint().await?; // not below the cancelled scope
                    record.borrow_mut().push(8);
                    Ok(())
                });
                Ok(())
            })
            .await?;
            assert!(other.cancel_called());
            Ok(())
        })
        .await?;
        let mut record = record.take();
        record.sort();
        assert_eq!(record, [7, 8]);
        Ok(())
    });
}

#[test]
fn a_cancellation_from_a_sibling_wakes_the_sleeper_in_the_next_turn() {
    run(async {
        let scope = CancelScope::new();
        open_nursery(async |n| -> anyhow::Result<()> {
            let sleeper = n.start_soon(async { Ok(scope.enter(sleep_forever()).await?) });
            settled().await?;
            let before = nursery::now();
            scope.cancel();
            assert_eq!(sleeper.await?, None);
            assert_eq!(nursery::now(), before);
            Ok(())
        })
        .await
    });
}

// Wake and cancel

#[test]
fn a_wake_up_beats_a_later_cancel() {
    run(async {
        let lot = ParkingLot::<i32>::new();
        let scope = CancelScope::new();
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                scope
                    .enter(async {
                        assert_eq!(lot.park().await?, 7); // the item is not lost
                        assert!(checkpoint().await.is_err()); // the cancellation neither
                        anyhow::Ok(())
                    })
                    .await?;
                Ok(())
            });
            settled().await?;
            lot.unpark_one(7).unwrap();
            scope.cancel();
            Ok(())
        })
        .await
    });
}

#[test]
fn a_cancel_beats_a_later_wake_up() {
    run(async {
        let lot = ParkingLot::<i32>::new();
        let scope = CancelScope::new();
        open_nursery(async |n| -> anyhow::Result<()> {
            let first = n.start_soon(scope.enter(async { Ok(lot.park().await?) }));
            settled().await?;
            let second = n.start_soon(async { Ok(lot.park().await?) });
            settled().await?;
            scope.cancel();
            assert_eq!(lot.len(), 1); // the first has left the queue at once
            lot.unpark_one(7).unwrap(); // so this goes to the second
            assert_eq!(lot.unpark_one(8), Err(8));
            assert!(first.await?.is_none());
            assert_eq!(second.await?, 7);
            Ok(())
        })
        .await
    });
}

#[test]
fn a_task_that_runs_is_cancelled_at_its_next_wait() {
    run(async {
        let scope = CancelScope::new();
        scope
            .enter(async {
                let mut wait = pin!(sleep_forever());
                assert!(poll!(&mut wait).is_pending());
                scope.cancel(); // in the midst of its own step
                assert!(wait.await.is_err());
                anyhow::Ok(())
            })
            .await?;
        Ok(())
    });
}

// What cannot be interrupted (trio's abort callbacks that fail)

/// A future that knows nothing of cancellation.
#[derive(Default)]
struct Gate(RefCell<(bool, Option<std::task::Waker>)>);

impl Gate {
    fn open(&self) {
        let waker = {
            let mut gate = self.0.borrow_mut();
            gate.0 = true;
            gate.1.take()
        };
        waker.into_iter().for_each(std::task::Waker::wake);
    }

    async fn pass(&self) {
        std::future::poll_fn(|cx| {
            let mut gate = self.0.borrow_mut();
            if gate.0 {
                return Poll::Ready(());
            }
            gate.1 = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

#[test]
fn failed_abort() {
    run(async {
        let record = RefCell::new(vec![]);
        let (scope, gate) = (CancelScope::new(), Gate::default());
        let note = |what| record.borrow_mut().push(what);
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                scope
                    .enter(async {
                        note("sleep");
                        gate.pass().await;
                        note("woke");
                        assert!(checkpoint_if_cancelled().await.is_err());
                        note("cancelled");
                        anyhow::Ok(())
                    })
                    .await?;
                Ok(())
            });
            settled().await?;
            scope.cancel();
            settled().await?;
            assert_eq!(*record.borrow(), ["sleep"]); // cancelling did not wake it
            gate.open();
            Ok(())
        })
        .await?;
        assert_eq!(record.take(), ["sleep", "woke", "cancelled"]);
        Ok(())
    });
}

#[test]
fn slow_abort_basic() {
    run(in_cancelled(async {
        // The operation notices, finishes when it can, and passes the cancellation on.
        let cancelled = lowlevel::cancelled().await;
        shield(sleep(Duration::from_secs(1))).await?;
        assert_eq!(cancelled.reason().source(), nursery::CancelSource::Explicit);
        Ok(())
    }));
}

#[test]
fn a_cancellation_that_was_delivered_stays_delivered_although_a_shield_goes_up() {
    run(async {
        let record = RefCell::new(vec![]);
        let (outer1, outer2) = (CancelScope::new(), CancelScope::new());
        let note = |what| record.borrow_mut().push(what);
        let body = async {
            open_nursery(async |n| -> anyhow::Result<()> {
                for _ in 0..2 {
                    n.start_soon(async {
                        note("sleeping");
                        let _: Cancelled = lowlevel::cancelled().await;
                        note("noticed");
                        checkpoint().await?; // shielded by now
                        note("done");
                        Ok(())
                    });
                    n.start_soon(async {
                        assert!(sleep_forever().await.is_err());
                        checkpoint().await?;
                        Ok(())
                    });
                }
                settled().await?;
                outer1.cancel();
                outer2.cancel(); // no second delivery
                n.cancel_scope().set_shield(true);
                Ok(())
            })
            .await?;
            assert_eq!(record.borrow().len(), 6);
            anyhow::Ok(())
        };
        let ended = outer1.enter(async { anyhow::Ok(outer2.enter(body).await?.is_some()) }).await?;
        assert_eq!(ended, Some(true));
        record.borrow_mut().sort_unstable();
        assert_eq!(record.take(), ["done", "done", "noticed", "noticed", "sleeping", "sleeping"]);
        Ok(())
    });
}

#[test]
#[should_panic(expected = "dropped badly")]
fn a_foreign_future_that_panics_when_it_is_dropped_by_a_cancellation_panics_in_its_task() {
    struct Bad;
    impl Future for Bad {
        type Output = ();
        fn poll(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<()> {
            Poll::Pending
        }
    }
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("dropped badly");
        }
    }
    run(async {
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async { Ok(cancellable(Bad).await?) });
            settled().await?;
            n.cancel_scope().cancel();
            Ok(())
        })
        .await
    });
}

// Groups

#[test]
fn cancel_scope_exceptiongroup_filtering() {
    run(async {
        let outer = CancelScope::new();
        let left = outer
            .enter(async {
                let failed = open_nursery(async |n| -> anyhow::Result<()> {
                    n.start_soon(forever());
                    n.start_soon(forever());
                    n.cancel_scope().cancel();
                    shield(settled()).await?;
                    n.start_soon(forever());
                    outer.cancel();
                    n.start_soon(async { bail!("broken") as anyhow::Result<()> });
                    Ok(())
                })
                .await
                .unwrap_err();
                assert_eq!(kinds(&failed), ["broken", "cancelled", "cancelled", "cancelled"]);
                Err::<(), _>(failed)
            })
            .await
            .unwrap_err();
        assert_eq!(kinds(&left), ["broken"]);
        assert!(outer.cancelled_caught());
        Ok(())
    });
}

#[test]
fn cancelled_leaves_go_at_every_depth_and_groups_that_become_empty_go_too() {
    run(async {
        let scope = CancelScope::new();
        scope.cancel();
        let left = scope
            .enter(async {
                let raised = || async { anyhow::Error::from(checkpoint().await.unwrap_err()) };
                let group =
                    |errors: Vec<anyhow::Error>| anyhow::Error::from(ErrorGroup::new(errors));
                let only_cancelled = group(vec![raised().await, raised().await]);
                let mixed = group(vec![raised().await, anyhow::anyhow!("inner")]);
                let wrapped = raised().await.context("while connecting");
                Err::<(), _>(group(vec![only_cancelled, mixed, wrapped, anyhow::anyhow!("outer")]))
            })
            .await
            .unwrap_err();
        assert!(scope.cancelled_caught());
        let text = left.to_string();
        let expected = "2 errors\n├─ 1 error\n│  └─ inner\n└─ outer";
        assert_eq!(text, expected);
        Ok(())
    });
}

#[test]
fn a_group_of_nothing_but_cancellations_is_absorbed_whole() {
    run(async {
        let scope = CancelScope::new();
        scope.cancel();
        let left = scope
            .enter(async {
                let raised = anyhow::Error::from(checkpoint().await.unwrap_err());
                let inner = anyhow::Error::from(ErrorGroup::new(vec![raised]));
                Err::<(), _>(anyhow::Error::from(ErrorGroup::new(vec![inner])))
            })
            .await?;
        assert_eq!(left, None);
        assert!(scope.cancelled_caught());
        Ok(())
    });
}

#[test]
fn cancel_scope_no_cancellederror() {
    run(async {
        let scope = CancelScope::new();
        let left = scope
            .enter(async {
                scope.cancel();
                let errors = vec![anyhow::anyhow!("a"), anyhow::anyhow!("b")];
                Err::<(), _>(anyhow::Error::from(ErrorGroup::new(errors)))
            })
            .await
            .unwrap_err();
        assert_eq!(kinds(&left), ["a", "b"]);
        assert!(!scope.cancelled_caught());
        // And a bare error.
        let scope = CancelScope::new();
        scope.cancel();
        let left = scope.enter(async { Err::<(), _>(anyhow::anyhow!("c")) }).await.unwrap_err();
        assert_eq!(left.to_string(), "c");
        assert!(!scope.cancelled_caught());
        Ok(())
    });
}

#[test]
fn a_cancellation_turned_into_another_error_is_not_recognised_any_more() {
    run(async {
        let scope = CancelScope::new();
        scope.cancel();
        let left = scope
            .enter(async {
                if let Err(raised) = checkpoint().await {
                    bail!("translated: {raised}");
                }
                Ok(())
            })
            .await
            .unwrap_err();
        assert_eq!(left.to_string(), "translated: cancelled due to explicit from task \"main\"");
        assert!(!scope.cancelled_caught());
        Ok(())
    });
}

/// A23.
#[test]
fn a_stray_cancellation_is_an_ordinary_error() {
    run(async {
        let stray = in_cancelled(async { Ok(checkpoint().await.unwrap_err()) }).await?;
        let scope = CancelScope::new();
        let left = scope.enter(async { Err::<(), _>(stray.clone()) }).await.unwrap_err();
        assert_eq!(left.to_string(), stray.to_string());
        assert!(!scope.cancelled_caught());

        // It cancels a nursery, which then absorbs it.
        let sibling = RefCell::new(None);
        let caught = open_nursery(async |n| -> anyhow::Result<CancelScope> {
            n.start_soon(async { Err::<(), _>(stray.clone().into()) });
            n.start_soon(async {
                sibling.replace(sleep_forever().await.err());
                Ok(())
            });
            Ok(n.cancel_scope().clone())
        })
        .await?;
        assert!(caught.cancelled_caught());
        assert_eq!(sibling.take().unwrap().reason().source(), nursery::CancelSource::Nursery);
        Ok(())
    });
}

#[test]
fn a_cancelled_nursery_whose_tasks_end_well_has_caught_nothing() {
    run(async {
        let (value, scope) = open_nursery(async |n| -> anyhow::Result<_> {
            n.cancel_scope().cancel();
            n.start_soon(async { Ok(()) });
            Ok((5, n.cancel_scope().clone()))
        })
        .await?;
        assert_eq!(value, 5);
        assert!(scope.cancel_called());
        assert!(!scope.cancelled_caught());
        Ok(())
    });
}

// Nothing is left behind

/// Counts itself down when dropped.
struct Token<'a>(&'a Cell<usize>);

impl<'a> Token<'a> {
    fn new(alive: &'a Cell<usize>) -> Self {
        alive.set(alive.get() + 1);
        Token(alive)
    }
}

impl Drop for Token<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[test]
fn locals_destroyed_promptly_on_cancel() {
    run(async {
        let alive = Cell::new(0);
        open_nursery(async |n| -> anyhow::Result<()> {
            let child = n.start_soon(async {
                let _local = Token::new(&alive);
                forever().await
            });
            let captured = Token::new(&alive);
            let other = n.start_soon(async move {
                let _captured = captured;
                forever().await
            });
            settled().await?;
            assert_eq!(alive.get(), 2);
            child.cancel();
            settled().await?;
            assert_eq!(alive.get(), 1, "gone at the end of the task, not of the nursery");
            other.cancel_and_join().await?;
            assert_eq!(alive.get(), 0);
            Ok(())
        })
        .await
    });
}

#[test]
fn the_body_of_a_scope_is_dropped_before_the_scope_is_left() {
    struct InScope<'a>(&'a Cell<bool>);
    impl Drop for InScope<'_> {
        fn drop(&mut self) {
            self.0.set(lowlevel::is_cancelled());
        }
    }
    run(async {
        let cancelled_in_drop = Cell::new(false);
        let scope = CancelScope::new();
        scope.cancel();
        let captured = InScope(&cancelled_in_drop);
        scope
            .enter(async {
                let _captured = &captured;
                forever().await
            })
            .await?;
        drop(captured);
        assert!(!cancelled_in_drop.get());
        let captured = InScope(&cancelled_in_drop);
        let scope = CancelScope::new();
        scope.cancel();
        scope
            .enter(async move {
                let _captured = captured;
                forever().await
            })
            .await?;
        assert!(cancelled_in_drop.get());
        Ok(())
    });
}

/// Trio's `…_doesnt_create_cyclic_garbage`.
#[test]
fn scopes_and_nurseries_leave_nothing_in_the_run_however_they_end() {
    run(async {
        let alive = Cell::new(0);
        let baseline = statistics();
        for round in 0..20 {
            // Left normally, left by an error, left by its cancellation.
            let scope = CancelScope::new();
            let local = Token::new(&alive);
            scope
                .enter(async move {
                    let _local = local;
                    anyhow::Ok(())
                })
                .await?;
            let scope = CancelScope::new();
            let failed = scope.enter(async { Err::<(), _>(anyhow::anyhow!("{round}")) }).await;
            assert!(failed.is_err());
            let scope = CancelScope::new().with_timeout(Duration::from_secs(1));
            let local = Token::new(&alive);
            let handle = scope.clone();
            scope
                .enter(async move {
                    let (_local, _cycle) = (local, handle);
                    forever().await
                })
                .await?;
            // A nursery cancelled with children that wait.
            open_nursery(async |n| -> anyhow::Result<()> {
                for _ in 0..3 {
                    let local = Token::new(&alive);
                    let handle = n.cancel_scope().clone();
                    n.start_soon(async move {
                        let (_local, _cycle) = (local, handle);
                        forever().await
                    });
                }
                settled().await?;
                n.cancel_scope().cancel();
                Ok(())
            })
            .await?;
            // Dropped half-way.
            let scope = CancelScope::new();
            {
                let mut entered = pin!(scope.enter(forever()));
                assert!(poll!(&mut entered).is_pending());
            }
            assert_eq!(alive.get(), 0);
            assert_eq!(statistics(), baseline, "round {round}");
        }
        Ok(())
    });
}

#[test]
fn a_handle_of_a_scope_keeps_no_task_alive() {
    run(async {
        let held = Rc::new(());
        let scopes = RefCell::new(vec![]);
        for _ in 0..3 {
            let scope = CancelScope::new();
            scopes.borrow_mut().push(scope.clone());
            scope.cancel();
            let held = held.clone();
            scope
                .enter(async move {
                    let _held = held;
                    forever().await
                })
                .await?;
        }
        assert_eq!(Rc::strong_count(&held), 1);
        Ok(())
    });
}

#[test]
fn very_deep_cancel_scope_nesting() {
    type Nested = Pin<Box<dyn Future<Output = Result<(), Cancelled>>>>;
    const DEPTH: usize = 3_000;

    fn nested(outermost: CancelScope) -> Nested {
        let mut inside: Nested = Box::pin(async { sleep_forever().await });
        for _ in 0..DEPTH {
            let body = inside;
            inside = Box::pin(async move {
                let scope = CancelScope::new();
                scope.enter(body).await.map(|ended| assert!(ended.is_some(), "absorbed too deep"))
            });
        }
        Box::pin(async move {
            let ended = outermost.enter(inside).await?;
            assert!(ended.is_none());
            Ok(())
        })
    }

    let deep = || {
        run(async {
            let baseline = statistics();
            let outermost = CancelScope::new();
            open_nursery(async |n| -> anyhow::Result<()> {
                let scope = outermost.clone();
                n.start_soon(async move { Ok(nested(scope).await?) });
                settled().await?;
                assert!(statistics().nodes > DEPTH);
                outermost.cancel();
                Ok(())
            })
            .await?;
            assert!(outermost.cancelled_caught());
            // And dropped instead of cancelled.
            {
                let mut half = nested(CancelScope::new());
                assert!(poll!(&mut half).is_pending());
                assert!(statistics().nodes > DEPTH);
            }
            assert_eq!(statistics(), baseline);
            Ok(())
        });
    };
    let thread = std::thread::Builder::new().stack_size(128 << 20).spawn(deep).unwrap();
    thread.join().unwrap();
}
