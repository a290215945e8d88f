//! `wait_all_tasks_blocked`, and what happens when nothing can ever move again.

mod message;

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use message::panic_message;
use nursery::lowlevel::{self, ParkingLot, wait_all_tasks_blocked};
use nursery::{
    CancelScope, Cancelled, cancellable, checkpoint, move_on_after, now, open_nursery, shield,
    sleep, sleep_forever,
};
use nursery_testing::{MockClock, Test};

const SECOND: Duration = Duration::from_secs(1);

/// I1, `wait_all_tasks_blocked`
#[test]
fn it_returns_when_every_other_task_waits() {
    for seed in 0..20 {
        Test::new()
            .seed(seed)
            .run(async {
                let record = RefCell::new(vec![]);
                open_nursery(async |n| {
                    n.start_soon(async {
                        for _ in 0..10 {
                            checkpoint().await?;
                        }
                        record.borrow_mut().push("busy for ten turns");
                        sleep_forever().await
                    });
                    n.start_soon(async {
                        wait_all_tasks_blocked(Duration::ZERO).await?;
                        record.borrow_mut().push("blocked");
                        Ok(())
                    });
                    wait_all_tasks_blocked(Duration::ZERO).await?;
                    record.borrow_mut().push("blocked");
                    wait_all_tasks_blocked(Duration::ZERO).await?; // again
                    assert_eq!(lowlevel::statistics().tasks_living, 2);
                    n.cancel_scope().cancel();
                    Ok::<_, Cancelled>(())
                })
                .await?;
                assert_eq!(record.take(), ["busy for ten turns", "blocked", "blocked"]);
                Ok::<_, Cancelled>(())
            })
            .unwrap();
    }
}

/// It is a checkpoint like any other, also when it need not wait.
#[test]
fn it_is_a_checkpoint() {
    nursery_testing::run(async {
        let before = lowlevel::points();
        wait_all_tasks_blocked(Duration::ZERO).await?;
        let after = lowlevel::points();
        assert_eq!(after.cancel - before.cancel, 1);
        assert!(after.schedule > before.schedule);
        let scope = CancelScope::new();
        scope.cancel();
        assert!(scope.enter(wait_all_tasks_blocked(Duration::ZERO)).await?.is_none());
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// I2, `wait_all_tasks_blocked_with_timeouts`: sleeps count as waiting, and the clock does not jump meanwhile.
#[test]
fn it_goes_before_a_jump_of_the_clock() {
    nursery_testing::run(async {
        let start = now();
        let record = RefCell::new(vec![]);
        open_nursery(async |n| {
            n.start_soon(async {
                record.borrow_mut().push("tt start");
                for _ in 0..10 {
                    sleep(SECOND).await?;
                }
                record.borrow_mut().push("tt finished");
                Ok(())
            });
            wait_all_tasks_blocked(Duration::ZERO).await?;
            assert_eq!(*record.borrow(), ["tt start"]);
            assert_eq!(now(), start);
            Ok::<_, Cancelled>(())
        })
        .await?;
        assert_eq!(*record.borrow(), ["tt start", "tt finished"]);
        assert_eq!(now() - start, SECOND * 10);
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// `wait_all_tasks_blocked_with_cushion`: the smallest first, equal ones together, larger ones start again.
#[test]
#[cfg_attr(miri, ignore = "cushions are real time: no reactor under Miri")]
fn smaller_cushions_go_first_and_equal_ones_together() {
    for seed in 0..5 {
        Test::new()
            .seed(seed)
            .run(async {
                let record = RefCell::new(vec![]);
                open_nursery(async |n| {
                    n.start_soon(async {
                        record.borrow_mut().push("blink start");
                        sleep_forever().await
                    });
                    for micros in [0, 300, 300, 600, 300] {
                        let record = &record;
                        n.start_soon(async move {
                            wait_all_tasks_blocked(Duration::from_micros(micros)).await?;
                            record.borrow_mut().push(match micros {
                                0 => "0",
                                300 => "300",
                                _ => "600",
                            });
                            if micros == 600 {
                                n.cancel_scope().cancel();
                            }
                            checkpoint().await.ok();
                            Ok(())
                        });
                    }
                    Ok::<_, Cancelled>(())
                })
                .await?;
                assert_eq!(record.take(), ["blink start", "0", "300", "300", "300", "600"]);
                Ok::<_, Cancelled>(())
            })
            .unwrap();
    }
}

/// A cushion is about real time: a jumping clock waits for it too (D18).
#[test]
#[cfg_attr(miri, ignore = "cushions are real time: no reactor under Miri")]
fn a_cushion_goes_before_a_jump_too() {
    nursery_testing::run(async {
        let start = now();
        open_nursery(async |n| {
            n.start_soon(sleep(SECOND));
            wait_all_tasks_blocked(Duration::from_micros(200)).await?;
            assert_eq!(now(), start);
            Ok::<_, Cancelled>(())
        })
        .await?;
        assert_eq!(now() - start, SECOND);
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// Cancelled while it waits for others that never rest.
#[test]
fn it_can_be_cancelled() {
    nursery_testing::run(async {
        let scope = CancelScope::new();
        let stop = Cell::new(false);
        open_nursery(async |n| {
            n.start_soon(async {
                for _ in 0..10 {
                    checkpoint().await?;
                }
                scope.cancel();
                while !stop.get() {
                    checkpoint().await?;
                }
                Ok(())
            });
            let waited = scope.enter(wait_all_tasks_blocked(SECOND * 60)).await?;
            assert!(waited.is_none());
            stop.set(true);
            wait_all_tasks_blocked(Duration::ZERO).await // nothing is left of the other
        })
        .await
    })
    .unwrap();
}

/// Dropped while it waits: it is forgotten, and keeps neither the clock nor a smaller cushion waiting.
#[test]
fn it_can_be_dropped() {
    nursery_testing::run(async {
        for cushion in [Duration::ZERO, SECOND * 60] {
            let mut wait = Box::pin(wait_all_tasks_blocked(cushion));
            let is_pending = poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx).is_pending())).await;
            assert!(is_pending);
            assert_eq!(lowlevel::statistics().waits, 1);
            drop(wait);
            assert_eq!(lowlevel::statistics().waits, 0);
            let before = now();
            sleep(SECOND).await?;
            assert_eq!(now() - before, SECOND);
            wait_all_tasks_blocked(Duration::ZERO).await?;
        }
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// It does not return while a task can run, although that task is many levels down.
#[test]
fn a_task_that_is_ready_anywhere_counts() {
    nursery_testing::run(async {
        let steps = Cell::new(0);
        open_nursery(async |n| {
            n.start_soon(async {
                open_nursery(async |inner| {
                    inner.start_soon(async {
                        for _ in 0..7 {
                            checkpoint().await?;
                            steps.set(steps.get() + 1);
                        }
                        Ok(())
                    });
                    Ok::<_, Cancelled>(())
                })
                .await
            });
            wait_all_tasks_blocked(Duration::ZERO).await?;
            assert_eq!(steps.get(), 7);
            Ok::<_, Cancelled>(())
        })
        .await
    })
    .unwrap();
}

/// Calls in the entry queue count as something that moves.
#[test]
fn calls_in_the_entry_queue_run_first() {
    nursery_testing::run(async {
        let (tx, rx) = std::sync::mpsc::channel();
        let token = lowlevel::token();
        let again = token.clone();
        token
            .run_soon(move || {
                again.run_soon(move || tx.send(()).unwrap()).unwrap();
            })
            .unwrap();
        wait_all_tasks_blocked(Duration::ZERO).await?;
        assert!(rx.try_recv().is_ok());
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// The report of a deadlock, without the places.
fn deadlock<E: nursery::TaskError>(main: impl Future<Output = Result<(), E>>) -> String {
    panic_message(|| nursery_testing::run(main).is_ok())
}

#[test]
fn a_deadlock_is_reported_with_who_waits_for_what_and_where() {
    let line = Cell::new(0);
    let report = deadlock(async {
        let lot = ParkingLot::<()>::new();
        open_nursery(async |n| -> anyhow::Result<()> {
            line.set(line!() + 1);
            n.start_soon(async { Ok(lot.park_as("an event").await?) }).set_name("consumer");
            n.start_soon(async {
                let scope = CancelScope::new().with_name("careful").with_shield(true);
                scope.enter(async { Ok(sleep_forever().await?) }).await
            })
            .set_name("guard");
            Ok(())
        })
        .await
    });
    let mut lines = report.lines();
    let first = "deadlock: every task waits for something that only another task could bring";
    assert_eq!(lines.next(), Some(first));
    let at = format!("({}:{}", file!(), line.get());
    let consumer = report.lines().find(|line| line.contains("\"consumer\"")).expect("consumer");
    assert!(consumer.contains(&format!("task \"consumer\" {at})")), "{consumer}");
    assert!(consumer.contains(&format!("waits for an event {at})")), "{consumer}");
    let scope = report.lines().find(|line| line.contains("\"careful\"")).expect("the scope");
    assert!(scope.contains("waits for its cancellation (`sleep_forever`)"), "{scope}");
    assert!(scope.ends_with(", shielded"), "{scope}");
    for expected in ["run\n", "task \"main\"", "task \"guard\"", "└─ nursery", "Usual causes:"]
    {
        assert!(report.contains(expected), "no {expected:?} in {report}");
    }
}

/// All that is known to wait for another task of the run.
#[test]
fn every_wait_inside_the_run_can_be_part_of_a_deadlock() {
    let lot = ParkingLot::<()>::new();
    let reports = [
        deadlock(sleep_forever()),
        deadlock(shield(sleep_forever())),
        deadlock(async { anyhow::Ok(lot.park().await?) }),
        deadlock(async {
            lowlevel::cancelled().await;
            Ok::<_, Cancelled>(())
        }),
        deadlock(cancellable(pending()).inside().waiting_for("a friend")),
        deadlock(async {
            let _theirs = lowlevel::token().downgrade();
            sleep_forever().await
        }),
        deadlock(open_nursery(async |n| Ok::<_, Cancelled>(n.start_soon(sleep_forever()).await?))),
        deadlock(open_nursery(async |n| {
            n.start(async |_status: nursery::TaskStatus<()>| sleep_forever().await).await
        })),
        // Two tasks that wait for each other's end.
        deadlock(async {
            let lots = [ParkingLot::<()>::new(), ParkingLot::new()];
            open_nursery(async |n| -> anyhow::Result<()> {
                for i in 0..2 {
                    let lots = &lots;
                    n.start_soon(async move {
                        lots[i].park().await?;
                        lots[1 - i].unpark_all();
                        Ok(())
                    });
                }
                Ok(())
            })
            .await
        }),
    ];
    for report in reports {
        assert!(report.starts_with("deadlock: "), "{report}");
        assert!(report.contains("waits for "), "{report}");
    }
}

/// A deadline, or a wait for somebody else, is a way out.
#[test]
fn what_can_still_move_is_no_deadlock() {
    nursery_testing::run(async {
        assert!(move_on_after(SECOND * 3600, sleep_forever()).await?.is_none());
        Ok::<_, Cancelled>(())
    })
    .unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    type Main = Pin<Box<dyn Future<Output = Result<(), Cancelled>>>>;
    let outside: [Main; 3] = [
        Box::pin(cancellable(pending())),
        Box::pin(async {
            pending::<()>().await; // nobody knows what this waits for
            Ok(())
        }),
        Box::pin(async {
            let _theirs = lowlevel::token(); // somebody may call
            sleep_forever().await
        }),
    ];
    for main in outside {
        let mut guest = pin!(Test::new().builder().guest(main));
        for _ in 0..5 {
            assert!(guest.as_mut().poll(&mut cx).is_pending());
        }
    }
}

/// After the report the run is gone, with all that was in it, and the thread can run again.
#[test]
fn a_deadlock_ends_the_run_and_drops_everything() {
    struct Flag<'a>(&'a Cell<u32>);
    impl Drop for Flag<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let dropped = Cell::new(0);
    deadlock(async {
        let _main = Flag(&dropped);
        open_nursery(async |n| {
            n.start_soon(async {
                let _child = Flag(&dropped);
                sleep_forever().await
            });
            Ok::<_, Cancelled>(())
        })
        .await
    });
    assert_eq!(dropped.get(), 2);
    assert!(!lowlevel::in_run());
    nursery_testing::run(async { checkpoint().await }).unwrap();
}

/// A clock that stands still and does not jump: a sleep is for ever.
#[test]
fn a_sleep_on_a_clock_that_stands_is_a_deadlock() {
    let clock = MockClock::new();
    let report = panic_message(|| Test::new().clock(&clock).run(sleep(SECOND)));
    assert!(report.starts_with("deadlock: "), "{report}");
    assert!(report.contains("waits for a sleep"), "{report}");
}
