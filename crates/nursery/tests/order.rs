//! The order in which ready tasks run: drawn from the seed, and fair.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::time::Duration;

use nursery::lowlevel::ParkingLot;
use nursery::{Builder, Cancelled, checkpoint, move_on_after, open_nursery, sleep, sleep_forever};
use nursery_testing::Test;

/// What a program of children, nurseries, hand-offs and sleeps does, in order.
fn trace(builder: Builder) -> String {
    let record = RefCell::new(String::new());
    builder
        .run(async {
            let lot = ParkingLot::<char>::new();
            open_nursery(async |n| -> anyhow::Result<()> {
                for name in 'a'..='f' {
                    let (record, lot) = (&record, &lot);
                    let say = move |what| record.borrow_mut().push(what);
                    n.start_soon(async move {
                        say(name);
                        checkpoint().await?;
                        say(name);
                        sleep(Duration::from_millis(u64::from(name) % 2)).await?;
                        say(name.to_ascii_uppercase());
                        if lot.unpark_one(name).is_err() {
                            say(lot.park().await?);
                        }
                        open_nursery(async |inner| {
                            for digit in '0'..='2' {
                                inner.start_soon(async move {
                                    checkpoint().await?;
                                    say(digit);
                                    Ok(())
                                });
                            }
                            anyhow::Ok(())
                        })
                        .await?;
                        say(name);
                        Ok(())
                    });
                }
                Ok(())
            })
            .await
        })
        .unwrap();
    record.take()
}

/// `the_trio_scheduler_is_deterministic_if_seeded`
#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..20 {
        let first = trace(Test::new().seed(seed).builder());
        assert_eq!(first, trace(Test::new().seed(seed).builder()), "seed {seed}");
        assert!(first.len() > 40, "{first}");
    }
}

/// A run draws from its own seed only: what has run before on the thread makes no difference.
#[test]
fn the_trace_of_a_seed_does_not_depend_on_the_past() {
    let alone = std::thread::spawn(|| trace(Test::new().seed(7).builder())).join().unwrap();
    for noise in 0..5 {
        trace(Test::new().seed(noise).builder());
        trace(Test::new().builder().checkpoint_budget(3));
        assert_eq!(trace(Test::new().seed(7).builder()), alone);
    }
}

#[test]
fn different_seeds_give_different_orders() {
    let traces: BTreeSet<_> = (0..50).map(|seed| trace(Test::new().seed(seed).builder())).collect();
    assert!(traces.len() > 45, "{} of 50", traces.len());
    // Every child is the first at some time.
    let firsts: BTreeSet<_> = traces.iter().filter_map(|trace| trace.chars().next()).collect();
    assert_eq!(firsts.into_iter().collect::<String>(), "abcdef");
}

/// `the_trio_scheduler_is_not_deterministic`: of 30 batches, each is reversed or not.
#[test]
fn without_a_seed_the_order_varies() {
    let trace = || {
        let record = RefCell::new(String::new());
        Builder::new()
            .checkpoint_budget(1)
            .run(async {
                open_nursery(async |n| {
                    for name in ['a', 'b'] {
                        let record = &record;
                        n.start_soon(async move {
                            for _ in 0..30 {
                                record.borrow_mut().push(name);
                                checkpoint().await?;
                            }
                            Ok(())
                        });
                    }
                    Ok::<_, Cancelled>(())
                })
                .await
            })
            .unwrap();
        record.take()
    };
    let traces: BTreeSet<_> = (0..4).map(|_| trace()).collect();
    assert!(traces.len() > 1, "{traces:?}");
}

/// A74, C41, `basic_interleave`
#[test]
fn every_ready_task_runs_one_step_a_turn() {
    for seed in 0..50 {
        let record = RefCell::new(vec![]);
        Test::new()
            .seed(seed)
            .run(async {
                open_nursery(async |n| {
                    for name in ["a", "b", "c"] {
                        let record = &record;
                        n.start_soon(async move {
                            for i in 0..5 {
                                record.borrow_mut().push((i, name));
                                checkpoint().await?;
                            }
                            Ok(())
                        });
                    }
                    Ok::<_, Cancelled>(())
                })
                .await
            })
            .unwrap();
        for (turn, steps) in record.take().chunks(3).enumerate() {
            let set: BTreeSet<_> = steps.iter().copied().collect();
            let expected = BTreeSet::from([(turn, "a"), (turn, "b"), (turn, "c")]);
            assert_eq!(set, expected, "seed {seed}");
        }
    }
}

/// Tasks at every depth of the tree, and the body of a nursery, get the same share.
#[test]
fn nobody_starves_at_any_depth() {
    async fn count(steps: &Cell<u32>) -> Result<(), Cancelled> {
        loop {
            steps.set(steps.get() + 1);
            checkpoint().await?;
        }
    }
    async fn nest(steps: &[Cell<u32>]) -> Result<(), Cancelled> {
        let Some((mine, deeper)) = steps.split_first() else { return sleep_forever().await };
        open_nursery(async |n| {
            n.start_soon(count(mine));
            n.start_soon(Box::pin(nest(deeper)) as std::pin::Pin<Box<dyn Future<Output = _>>>);
            sleep_forever().await
        })
        .await
    }
    for seed in 0..if cfg!(miri) { 1 } else { 10 } {
        let steps: Vec<Cell<u32>> = (0..8).map(|_| Cell::new(0)).collect();
        let body = Cell::new(0);
        Test::new()
            .seed(seed)
            .run(async {
                open_nursery(async |n| {
                    n.start_soon(nest(&steps));
                    for _ in 0..200 {
                        body.set(body.get() + 1);
                        checkpoint().await?;
                    }
                    n.cancel_scope().cancel();
                    Ok::<_, Cancelled>(())
                })
                .await
            })
            .unwrap();
        for (depth, steps) in steps.iter().enumerate() {
            let steps = steps.get();
            assert!((170..=205).contains(&steps), "depth {depth}: {steps} of 200, seed {seed}");
        }
    }
}

/// Tasks that are never idle do not hold up deadlines, on the system clock either (C43).
#[test]
#[cfg_attr(miri, ignore = "no reactor under Miri")]
fn busy_tasks_do_not_hold_up_deadlines() {
    nursery::run(async {
        async fn busy() -> Result<(), Cancelled> {
            loop {
                checkpoint().await?;
            }
        }
        let done: Option<()> = move_on_after(Duration::from_millis(2), async {
            open_nursery(async |n| {
                n.start_soon(busy());
                Ok::<_, Cancelled>(())
            })
            .await
        })
        .await?;
        assert!(done.is_none());
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// A task that swallows its cancellation cannot keep others from running: a checkpoint that raises yields too.
#[test]
fn a_task_that_swallows_cancellation_starves_nobody() {
    nursery_testing::run(async {
        let (stop, rounds) = (Cell::new(false), Cell::new(0));
        open_nursery(async |n| {
            n.start_soon(async {
                while !stop.get() {
                    rounds.set(rounds.get() + 1);
                    checkpoint().await.ok();
                    assert!(rounds.get() < 1_000, "nobody else runs");
                }
                Ok(())
            })
            .cancel();
            for _ in 0..20 {
                checkpoint().await?;
            }
            stop.set(true);
            Ok::<_, Cancelled>(())
        })
        .await?;
        assert!((15..=25).contains(&rounds.get()), "{}", rounds.get());
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}
