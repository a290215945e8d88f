//! What the core promises, cancelled and dropped at each point, in many orders: nothing outlives its nursery, and no
//! error, hand-over or clean-up is lost.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use nursery::lowlevel::ParkingLot;
use nursery::{
    CancelScope, as_completed, checkpoint, fail_after, finally, gather, map_concurrent,
    map_unordered, move_on_after, open_nursery, race, shield, sleep, sleep_forever,
};
use nursery_testing::{CancelEverywhere, Outcome, orders, victim};

const SECOND: Duration = Duration::from_secs(1);

type Result<T = ()> = anyhow::Result<T>;

/// Counts what has begun and not ended.
#[derive(Clone, Debug, Default)]
struct Living(Rc<Cell<i32>>);

impl Living {
    fn one(&self) -> One {
        self.0.set(self.0.get() + 1);
        One(self.0.clone())
    }
}

struct One(Rc<Cell<i32>>);

impl Drop for One {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Lives for so many checkpoints.
async fn live(living: &Living, checkpoints: u32) -> Result<u32> {
    let _one = living.one();
    for _ in 0..checkpoints {
        checkpoint().await?;
    }
    Ok(checkpoints)
}

/// Strikes `body` everywhere, also while it cleans up, and then runs it in a hundred orders: what it began has ended when
/// it has, and not later.
#[track_caller]
fn explore(search: CancelEverywhere, body: impl AsyncFn(&Living) -> Result) {
    strike(search.clone().pairs(), &body);
    strike(search.seeds(8), &body);
    orders(100, async || {
        let living = Living::default();
        body(&living).await?;
        assert_eq!(living.0.get(), 0);
        anyhow::Ok(())
    });
}

#[track_caller]
fn strike(search: CancelEverywhere, body: &impl AsyncFn(&Living) -> Result) {
    let explored = search.run_with(
        Living::default,
        async |living| {
            let result = body(living).await;
            assert_eq!(living.0.get(), 0, "at the end of the block");
            result
        },
        async |living, _| {
            assert_eq!(living.0.get(), 0, "at its end");
            Ok(())
        },
    );
    assert!(explored.points > 10 * explored.seeds, "{explored:?}");
}

#[test]
fn nurseries() {
    explore(CancelEverywhere::new(), async |living| {
        open_nursery(async |n| -> Result {
            n.start_soon(live(living, 2));
            n.start_soon(async {
                open_nursery(async |n| -> Result {
                    n.start_soon(live(living, 1));
                    live(living, 3).await.map(drop)
                })
                .await
            });
            n.start_soon(live(living, 3)).await.map(drop)?;
            live(living, 1).await.map(drop)
        })
        .await
    });
}

/// A child in the middle is struck: its siblings do not notice.
#[test]
fn children_of_a_nursery() {
    CancelEverywhere::new().seeds(8).run_with(
        || (Living::default(), Cell::new(0)),
        async |(living, sum)| {
            open_nursery(async |n| -> Result {
                let siblings = [2, 3].map(|i| n.start_soon(live(living, i)));
                n.start_soon(victim(async {
                    open_nursery(async |n| -> Result {
                        n.start_soon(live(living, 2));
                        n.start_soon(async { live(living, 1).await });
                        Ok(())
                    })
                    .await
                }));
                for sibling in siblings {
                    sum.set(sum.get() + sibling.await?);
                }
                Ok(())
            })
            .await
        },
        async |(living, sum), _| {
            assert_eq!((living.0.get(), sum.get()), (0, 5));
            Ok(())
        },
    );
}

/// The error that a child has is not lost, whatever comes beside it.
#[test]
fn errors_of_children() {
    // The body catches its own error, and so the cancellation that came at the same time.
    CancelEverywhere::new().seeds(8).may_swallow().run_with(
        || (Living::default(), [Cell::new(false), Cell::new(false)]),
        async |(living, [has_failed, is_told])| {
            let result = open_nursery(async |n| -> Result {
                n.start_soon(live(living, 3));
                n.start_soon(async {
                    checkpoint().await?;
                    has_failed.set(true);
                    anyhow::bail!("its own") as Result
                });
                live(living, 1).await.map(drop)
            })
            .await;
            match result {
                Err(error) if error.to_string().contains("its own") => {
                    is_told.set(true);
                    Ok(())
                }
                other => other,
            }
        },
        async |(living, [has_failed, is_told]), outcome| {
            assert_eq!(living.0.get(), 0);
            match outcome {
                Outcome::Done => assert!(has_failed.get() && is_told.get()),
                Outcome::Cancelled => assert!(!has_failed.get(), "the error is lost"),
                Outcome::Dropped => assert!(!is_told.get()),
                other => panic!("{other:?}"),
            }
            Ok(())
        },
    );
}

#[test]
fn starts() {
    explore(CancelEverywhere::new(), async |living| {
        open_nursery(async |n| -> Result {
            let service = n.start(async |status| {
                let _one = living.one();
                checkpoint().await?;
                status.started(7);
                checkpoint().await?;
                checkpoint().await?;
                Ok(())
            });
            assert_eq!(service.await?, 7);
            let failed = n.start::<(), _>(async |_status| {
                checkpoint().await?;
                anyhow::bail!("it does not start")
            });
            match failed.await {
                Err(error) if error.to_string() == "it does not start" => Ok(()),
                other => other,
            }
        })
        .await
    });
}

/// The caller of `start` is struck; what has moved in stays, what has not is gone.
#[test]
fn starts_that_are_struck() {
    CancelEverywhere::new().seeds(8).run_with(
        || (Living::default(), Cell::new(false), Cell::new(0)),
        async |(living, is_started, ended)| {
            open_nursery(async |n| -> Result {
                victim(async {
                    n.start(async |status| {
                        let _one = living.one();
                        checkpoint().await?;
                        checkpoint().await?;
                        status.started(());
                        is_started.set(true);
                        checkpoint().await?;
                        ended.set(ended.get() + 1);
                        Ok(())
                    })
                    .await
                })
                .await?;
                Ok(())
            })
            .await
        },
        async |(living, is_started, ended), outcome| {
            assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
            assert_eq!(living.0.get(), 0);
            assert_eq!(
                ended.get() == 1,
                is_started.get(),
                "in the nursery it is not the caller's any more"
            );
            Ok(())
        },
    );
}

#[test]
fn scopes_and_time_limits() {
    explore(CancelEverywhere::new(), async |living| {
        let scope = CancelScope::new();
        open_nursery(async |n| -> Result {
            n.start_soon(async {
                let ended = scope.enter(async {
                    let _one = living.one();
                    Ok(sleep_forever().await?)
                });
                let ended: Result<Option<()>> = ended.await;
                assert!(ended?.is_none());
                Ok(())
            });
            let slow = move_on_after(SECOND, async { Ok(sleep(2 * SECOND).await?) });
            let slow: Result<Option<()>> = slow.await;
            assert!(slow?.is_none());
            let quick: Result<u32> = fail_after(SECOND, live(living, 1)).await;
            assert_eq!(quick?, 1);
            scope.cancel();
            Ok(())
        })
        .await
    });
}

/// What is in a shield is done, whole or, dropped, not at all; what comes after it is not.
#[test]
fn shields() {
    CancelEverywhere::new().seeds(2).run_with(
        || [Cell::new(0), Cell::new(0)],
        async |[inside, outside]| {
            checkpoint().await?;
            shield(async {
                for _ in 0..3 {
                    inside.set(inside.get() + 1);
                    sleep(SECOND).await?;
                }
                anyhow::Ok(())
            })
            .await?;
            checkpoint().await?;
            outside.set(1);
            Ok(())
        },
        async |[inside, outside], outcome| {
            match outcome {
                Outcome::Cancelled => assert!(matches!((inside.get(), outside.get()), (0 | 3, 0))),
                Outcome::Done => assert_eq!((inside.get(), outside.get()), (3, 1)),
                _ => assert_eq!(outside.get(), 0),
            }
            anyhow::Ok(())
        },
    );
}

/// It runs whenever the body has begun, unless all of it is dropped.
#[test]
fn clean_ups() {
    CancelEverywhere::new().seeds(2).pairs().run_with(
        <[Cell<u32>; 2]>::default,
        async |[begun, cleaned]| {
            let body = async {
                begun.set(1);
                checkpoint().await?;
                Ok(sleep(SECOND).await?)
            };
            finally(body, SECOND, async || {
                sleep(SECOND / 2).await?;
                cleaned.set(1);
                anyhow::Ok(())
            })
            .await
        },
        async |[begun, cleaned], outcome| {
            match outcome {
                Outcome::Dropped => assert!(cleaned.get() <= begun.get()),
                _ => assert_eq!(cleaned.get(), 1),
            }
            anyhow::Ok(())
        },
    );
}

#[test]
fn gathering() {
    explore(CancelEverywhere::new(), async |living| {
        let values = gather([2, 1, 0].map(|i| live(living, i))).await?;
        assert_eq!(values, [2, 1, 0]);
        Ok(())
    });
    explore(CancelEverywhere::new(), async |living| {
        let values = map_concurrent(2, 0..4, async |i| live(living, i % 2 + 1).await).await?;
        assert_eq!(values, [1, 2, 1, 2]);
        Ok(())
    });
}

/// Who has won keeps it, also when the cancellation meets the losers: see the docs of each.
#[test]
fn racing() {
    explore(CancelEverywhere::new().may_swallow(), async |living| {
        let slow = async {
            live(living, 5).await?;
            Ok(sleep(SECOND).await.map(|()| 9)?)
        };
        let first = race([Box::pin(live(living, 2)) as Racer<'_>, Box::pin(slow)]).await?;
        assert_eq!(first, 2);
        Ok(())
    });
    explore(CancelEverywhere::new().may_swallow(), async |living| {
        let sum = as_completed([1, 2, 30].map(|i| live(living, i)), async |completed| {
            let mut sum = 0;
            while sum < 3 {
                sum += completed.next().await?.unwrap_or(100);
            }
            Ok(sum)
        });
        assert_eq!(sum.await?, 3);
        Ok(())
    });
    explore(CancelEverywhere::new().may_swallow(), async |living| {
        let sum = map_unordered(
            2,
            1..,
            async |i| live(living, i).await,
            async |completed| {
                let mut sum = 0;
                while sum < 6 {
                    sum += completed.next().await?.unwrap_or(100);
                }
                Ok(sum)
            },
        );
        assert_eq!(sum.await?, 6);
        Ok(())
    });

    type Racer<'a> = std::pin::Pin<Box<dyn Future<Output = Result<u32>> + 'a>>;
}

/// A value that is handed over arrives, or is dropped with the waiter that had it, and then it says so.
#[test]
fn hand_overs_of_a_parking_lot() {
    struct Baton<'a>(&'a Lots, bool);
    struct Lots {
        lot: ParkingLot<u32>,
        fetched: RefCell<Vec<u32>>,
    }
    impl Drop for Baton<'_> {
        fn drop(&mut self) {
            if !self.1 {
                self.0.fetched.borrow_mut().push(100);
            }
        }
    }
    let explored = CancelEverywhere::new().only_cancel().seeds(8).run_with(
        || Lots { lot: ParkingLot::new(), fetched: RefCell::default() },
        async |lots| {
            let wait = async || {
                let value = lots.lot.park().await?;
                lots.fetched.borrow_mut().push(value);
                anyhow::Ok(())
            };
            open_nursery(async |n| -> Result {
                n.start_soon(wait());
                n.start_soon(victim(async {
                    let mut baton = Baton(lots, false);
                    wait().await?;
                    baton.1 = true;
                    anyhow::Ok(())
                }));
                n.start_soon(wait());
                let mut given = 0;
                while given < 3 {
                    checkpoint().await?;
                    let gone = lots.fetched.borrow().iter().filter(|value| **value == 100).count();
                    if gone == 1 && given == 2 {
                        break;
                    }
                    given += u32::from(lots.lot.unpark_one(given).is_ok());
                }
                Ok(())
            })
            .await
        },
        async |lots, _| {
            assert!(lots.lot.is_empty());
            let mut fetched = lots.fetched.take();
            fetched.sort_unstable();
            // Cancelled first, it got nothing, and the others have both; handed over first, it has its value.
            assert!([&[0, 1, 2][..], &[0, 1, 100]].contains(&&fetched[..]), "{fetched:?}");
            anyhow::Ok(())
        },
    );
    assert!(explored.points > 5 * explored.seeds, "{explored:?}");
}
