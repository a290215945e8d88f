//! `Spot`: a place for one suspended task.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{join, poll_immediate};
use futures_util::stream::{FuturesUnordered, StreamExt};
use nursery::lowlevel::{ParkInSpot, Spot, statistics};
use nursery::{Cancelled, checkpoint, move_on_after, open_nursery, sleep, tree};
use nursery_testing::{run, wait_all_tasks_blocked};

mod message;
use message::panic_message;

const SECOND: Duration = Duration::from_secs(1);

type Result<T = ()> = std::result::Result<T, Cancelled>;

async fn all_blocked() -> Result {
    wait_all_tasks_blocked(Duration::ZERO).await
}

#[nursery_testing::test]
async fn who_parks_is_woken_once() -> Result {
    let spot = Spot::new();
    assert!(!spot.unpark() && !spot.is_taken());
    open_nursery(async |n| {
        for _ in 0..3 {
            let parked = n.start_soon(spot.park());
            all_blocked().await?;
            assert!(spot.is_taken());
            assert_eq!(format!("{spot:?}"), "Spot { is_taken: true }");
            assert!(tree().to_string().contains("waits for a spot"));
            assert!(spot.unpark());
            assert!(!spot.is_taken() && !spot.unpark(), "woken, though it has not run yet");
            parked.await?;
        }
        Ok::<(), Cancelled>(())
    })
    .await?;
    assert_eq!(statistics().waits, 0);
    Ok(())
}

#[nursery_testing::test]
async fn it_is_a_checkpoint_on_every_call() -> Result {
    let spot = Spot::new();
    let parked = move_on_after(Duration::ZERO, async {
        checkpoint().await.unwrap_err();
        spot.park().await
    });
    assert!(parked.await?.is_none());
    assert!(!spot.is_taken());
    Ok(())
}

/// Before the wake-up it has left the spot; after it, it is woken all the same.
#[nursery_testing::test]
async fn a_cancellation_that_comes_first_empties_it_and_one_that_comes_later_changes_nothing()
-> Result {
    for is_woken_first in [false, true] {
        let spot = Spot::new();
        open_nursery(async |n| {
            let child = n.start_soon(async {
                assert_eq!(spot.park().await.is_ok(), is_woken_first);
                Ok(())
            });
            all_blocked().await?;
            if is_woken_first {
                assert!(spot.unpark());
                child.cancel();
            } else {
                child.cancel();
                assert!(
                    !spot.is_taken() && !spot.unpark(),
                    "interrupted, though it has not run yet"
                );
            }
            Ok::<(), Cancelled>(())
        })
        .await?;
    }
    Ok(())
}

#[nursery_testing::test]
async fn dropped_it_leaves_the_spot() -> Result {
    let spot = Spot::new();
    for is_woken in [false, true] {
        let mut parked = spot.park();
        assert!(poll_immediate(&mut parked).await.is_none());
        assert!(format!("{parked:?}").contains("is_parked: true"));
        assert!(spot.is_taken());
        assert!(!is_woken || spot.unpark());
        drop(parked);
        assert!(!spot.is_taken() && !spot.unpark());
    }
    assert_eq!(statistics().waits, 0);
    Ok(())
}

/// The wait is known by another name then.
#[nursery_testing::test]
async fn who_parked_may_be_polled_by_another_task_or_with_another_waker() -> Result {
    let spot = Spot::new();
    let handed: RefCell<Option<ParkInSpot<'_>>> = RefCell::new(None);
    open_nursery(async |n| {
        let mut parked = spot.park();
        assert!(poll_immediate(&mut parked).await.is_none());
        handed.replace(Some(parked));
        let other = n.start_soon(async {
            let parked = handed.take().expect("handed on");
            let mut among_others = FuturesUnordered::from_iter([parked]);
            among_others.next().await.expect("one")
        });
        all_blocked().await?;
        assert!(spot.is_taken());
        assert!(spot.unpark());
        assert!(!spot.is_taken());
        other.await
    })
    .await
}

/// Two waits of one task: the second one is in the table.
#[nursery_testing::test]
async fn one_task_parks_in_two_spots() -> Result {
    let spots = [Spot::new(), Spot::new()];
    open_nursery(async |n| {
        let both = n.start_soon(async {
            let (a, b) = join(spots[0].park(), spots[1].park()).await;
            a.and(b)
        });
        all_blocked().await?;
        for spot in spots.iter().rev() {
            assert!(spot.is_taken() && spot.unpark());
            all_blocked().await?;
        }
        both.await
    })
    .await
}

#[test]
fn it_has_room_for_one() {
    let spot = Spot::new();
    let message = panic_message(|| {
        run(async {
            open_nursery(async |n| {
                n.start_soon(spot.park());
                n.start_soon(spot.park());
                sleep(SECOND).await
            })
            .await
        })
    });
    assert!(message.contains("a second task parked in a `Spot`"), "{message}");
}

#[test]
fn outside_a_run_it_panics_with_advice() {
    let spot = Spot::new();
    let message = panic_message(|| _ = futures_lite::future::block_on(spot.park()));
    assert!(message.contains("a spot was used outside a run"), "{message}");
}

/// A future that was forgotten in one run does not keep the spot from those of the next.
#[test]
fn it_is_free_again_when_the_run_is_over() -> Result {
    let spot = Rc::new(Spot::new());
    let mut kept: Vec<Pin<Box<dyn Future<Output = Result>>>> = Vec::new();
    for _ in 0..2 {
        let parked = spot.clone();
        run(async {
            assert!(!parked.is_taken());
            let mut parked = Box::pin(async move { parked.park().await });
            assert!(poll_immediate(&mut parked).await.is_none());
            kept.push(parked);
            Ok::<(), Cancelled>(())
        })?;
        assert!(!spot.is_taken() && !spot.unpark());
    }
    Ok(())
}
