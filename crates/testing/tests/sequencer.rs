//! `Sequencer`: blocks of several tasks in one order. Trio's tests of it, and what happens under cancellation and drop.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use nursery::{Cancelled, checkpoint, open_nursery};
use nursery_testing::{
    CancelEverywhere, Outcome, Sequencer, Test, assert_checkpoints, orders, victim,
    wait_all_tasks_blocked,
};

#[track_caller]
fn panic_of(f: impl FnOnce()) -> String {
    *catch_unwind(AssertUnwindSafe(f)).unwrap_err().downcast::<String>().unwrap()
}

/// Trio's `Sequencer`.
#[test]
fn turns_come_in_the_order_of_their_numbers() {
    orders(20, async || {
        let (seq, record) = (Sequencer::new(), RefCell::new(vec![]));
        open_nursery(async |n| -> Result<(), Cancelled> {
            for child in 0..2 {
                let (seq, record) = (&seq, &record);
                n.start_soon(async move {
                    for i in 0..3 {
                        let number = if child == 0 { i } else { 5 - i };
                        // One goes up, the other down.
                        let _turn = seq.turn(if child == 0 { number } else { 3 + i }).await?;
                        record.borrow_mut().push((child, i));
                        checkpoint().await?; // nobody else comes in
                    }
                    Ok(())
                });
            }
            Ok(())
        })
        .await?;
        assert_eq!(record.take(), [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]);
        Ok::<(), Cancelled>(())
    });
}

#[test]
fn a_turn_is_a_checkpoint_and_ends_however_its_block_ends() {
    nursery_testing::run(async {
        let seq = Sequencer::new();
        assert!(format!("{seq:?}").contains("next: 0"));
        let turn = assert_checkpoints(seq.turn(0)).await?;
        assert!(format!("{turn:?}").contains("n: 0"));
        drop(turn);
        let fails = async {
            let _turn = seq.turn(1).await?;
            anyhow::bail!("no luck") as anyhow::Result<()>
        };
        assert_eq!(fails.await.unwrap_err().to_string(), "no luck");
        drop(seq.turn(2).await?);
        Ok::<(), Cancelled>(())
    })
    .unwrap();
}

#[test]
fn a_number_that_is_asked_for_twice_is_a_mistake() {
    let text = panic_of(|| {
        let twice = async {
            let seq = Sequencer::new();
            drop(seq.turn(0).await?);
            drop(seq.turn(0).await?);
            Ok::<(), Cancelled>(())
        };
        nursery_testing::run(twice).unwrap();
    });
    assert!(text.starts_with("turn 0 is asked for at "), "{text}");
    assert!(text.contains("each comes once"), "{text}");
}

/// Trio's `Sequencer_cancel`. In place of errors there are panics, which nobody can ignore.
#[test]
fn a_turn_that_never_comes_breaks_those_after_it_now_and_later() {
    for is_dropped in [false, true] {
        for late in [false, true] {
            let text = panic_of(|| {
                let main = async {
                    let seq = &Sequencer::new();
                    let _first = seq.turn(0).await?;
                    if is_dropped {
                        let mut second = Box::pin(seq.turn(1));
                        let waits = futures_lite::future::poll_once(&mut second).await;
                        assert!(waits.is_none());
                        drop(second);
                    } else {
                        let second = open_nursery(async |n| {
                            let second = n.start_soon(async { seq.turn(1).await.map(drop) });
                            wait_all_tasks_blocked(Default::default()).await?;
                            second.cancel();
                            Ok::<(), Cancelled>(())
                        });
                        second.await?;
                    }
                    if late {
                        drop(seq.turn(2).await?);
                    }
                    drop(seq.turn(7).await?);
                    Ok::<(), Cancelled>(())
                };
                Test::new().run(main).unwrap();
            });
            assert!(text.starts_with("turn 1 of a sequence will never come"), "{text}");
        }
    }
}

/// Those that wait already are woken, and panic.
#[test]
fn a_turn_that_never_comes_wakes_those_that_wait() {
    let text = panic_of(|| {
        let seq = Sequencer::new();
        let main = open_nursery(async |n| {
            let first = seq.turn(0).await?;
            n.start_soon(async { seq.turn(2).await.map(drop) });
            let second = n.start_soon(async { seq.turn(1).await.map(drop) });
            wait_all_tasks_blocked(Default::default()).await?;
            second.cancel();
            wait_all_tasks_blocked(Default::default()).await?;
            drop(first);
            Ok::<(), Cancelled>(())
        });
        Test::new().run(main).unwrap();
    });
    assert!(text.starts_with("turn 1 of a sequence will never come"), "{text}");
}

/// Nobody is left waiting, wherever it ends.
#[test]
fn a_task_that_waits_for_its_turn_can_be_cancelled_and_dropped_anywhere() {
    let explored = CancelEverywhere::new().seeds(4).run_with(
        Sequencer::new,
        async |seq| {
            open_nursery(async |n| -> Result<(), Cancelled> {
                let first = seq.turn(0).await?;
                n.start_soon(async {
                    checkpoint().await?;
                    drop(first);
                    checkpoint().await
                });
                n.start_soon(victim(async {
                    drop(seq.turn(1).await?);
                    checkpoint().await
                }));
                Ok(())
            })
            .await
        },
        async |_, outcome| {
            assert!(matches!(outcome, Outcome::Done));
            Ok(())
        },
    );
    assert!(explored.points > 5 * explored.seeds, "{explored:?}");
}
