//! Where the record of a wait lies: in the cell of its task, or, if there is one already or it cannot be there, in a
//! table. It makes no difference, also where a wait goes from one to the other.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{join, join_all, poll_immediate};
use futures_util::stream::{FuturesUnordered, StreamExt};
use nursery::lowlevel::{ParkError, ParkingLot, statistics};
use nursery::{
    CancelScope, Cancelled, checkpoint, move_on_after, now, open_nursery, sleep, sleep_forever,
    tree,
};
use nursery_testing::wait_all_tasks_blocked;

const SECOND: Duration = Duration::from_secs(1);

type Result<T = ()> = std::result::Result<T, Cancelled>;
type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

async fn all_blocked() -> Result {
    wait_all_tasks_blocked(Duration::ZERO).await
}

#[nursery_testing::test]
async fn a_task_waits_for_many_things_at_once_and_all_are_interrupted() -> Result {
    let lot = ParkingLot::<()>::new();
    open_nursery(async |n| {
        let waiting = n.start_soon(async {
            let parked = (0..3).map(|_| lot.park());
            let (parked, slept) = join(join_all(parked), sleep(SECOND)).await;
            assert!(parked.iter().all(|ended| ended.is_err()) && slept.is_err());
            slept
        });
        all_blocked().await?;
        assert_eq!((lot.len(), statistics().waits), (3, 4));
        assert_eq!(tree().to_string().matches("waits for a parking lot").count(), 3);
        waiting.cancel();
        all_blocked().await?;
        assert_eq!((lot.len(), statistics().waits), (0, 0));
        Ok::<(), Cancelled>(())
    })
    .await
}

#[nursery_testing::test]
async fn waiters_with_wakers_of_their_own_are_woken_through_them() -> Result {
    let lot = ParkingLot::new();
    open_nursery(async |n| {
        let all = n.start_soon(async {
            let parked: FuturesUnordered<_> = (0..4).map(|_| lot.park()).collect();
            Ok(parked.map(|value| value.expect("woken")).collect::<Vec<i32>>().await)
        });
        all_blocked().await?;
        for i in 0..4 {
            lot.unpark_one(i).expect("somebody waits");
            all_blocked().await?;
        }
        assert_eq!(all.await?, [0, 1, 2, 3]);
        Ok::<(), Cancelled>(())
    })
    .await
}

/// A future that waits is polled by one task, then by another. It keeps its place in the queue.
#[nursery_testing::test]
async fn a_waiter_that_moves_to_another_task_keeps_its_place() -> Result {
    let lot = ParkingLot::new();
    let order = RefCell::new(Vec::new());
    let moving: RefCell<Option<Boxed<'_, _>>> = RefCell::default();
    open_nursery(async |n| {
        let first: Boxed<'_, _> = Box::pin(lot.park());
        let here = n.start_soon(async {
            let mut first = first;
            assert!(poll_immediate(&mut first).await.is_none());
            moving.replace(Some(first));
            sleep_forever().await // its own record is free again, or will be
        });
        all_blocked().await?;
        n.start_soon(async {
            let value = lot.park().await.expect("woken");
            order.borrow_mut().push(("second", value));
            Ok(())
        });
        all_blocked().await?;
        let there = n.start_soon(async {
            let mut first = moving.take().expect("put there");
            let value = (&mut first).await.expect("woken");
            order.borrow_mut().push(("first", value));
            Ok(())
        });
        all_blocked().await?;
        here.cancel(); // that is no longer where it waits
        all_blocked().await?;
        assert_eq!(lot.len(), 2);
        lot.unpark_one(1).expect("the first");
        lot.unpark_one(2).expect("the second");
        there.await?;
        all_blocked().await?;
        assert_eq!(*order.borrow(), [("first", 1), ("second", 2)]);
        Ok::<(), Cancelled>(())
    })
    .await
}

#[nursery_testing::test]
async fn a_waiter_that_moves_to_another_task_is_cancelled_with_that() -> Result {
    let lot = ParkingLot::<()>::new();
    open_nursery(async |n| {
        let mut parked = Box::pin(lot.park());
        assert!(poll_immediate(&mut parked).await.is_none());
        let there = n.start_soon(async move {
            assert!(parked.await.is_err());
            checkpoint().await
        });
        all_blocked().await?;
        there.cancel();
        all_blocked().await?;
        assert_eq!((lot.len(), there.is_finished()), (0, true));
        Ok::<(), Cancelled>(())
    })
    .await
}

#[nursery_testing::test]
async fn a_sleep_that_moves_to_another_task_ends_at_its_time() -> Result {
    let start = now();
    let mut relative = Box::pin(sleep(3 * SECOND));
    let mut absolute = Box::pin(nursery::sleep_until(start + 2 * SECOND));
    assert!(poll_immediate(&mut relative).await.is_none());
    assert!(poll_immediate(&mut absolute).await.is_none());
    sleep(SECOND).await?;
    open_nursery(async |n| {
        n.start_soon(async move {
            relative.await?;
            assert_eq!(now() - start, 3 * SECOND);
            Ok(())
        });
        n.start_soon(async move {
            absolute.await?;
            assert_eq!(now() - start, 2 * SECOND);
            Ok(())
        });
        Ok::<(), Cancelled>(())
    })
    .await?;
    assert_eq!(statistics().next_deadline, None);
    Ok(())
}

/// The first future stays in the scope, waiting, while the scope goes on in another task, and waits there for something
/// else. When the first is dropped, the scope still interrupts the second.
#[nursery_testing::test]
async fn a_scope_interrupts_the_waits_of_each_task_that_polled_it() -> Result {
    let scope = CancelScope::new();
    let steps = Rc::new(Cell::new(0));
    open_nursery(async |n| {
        let step = steps.clone();
        let mut body: Boxed<'_, _> = Box::pin(scope.enter(async move {
            let mut first = Box::pin(sleep_forever());
            // Polls only the first, then only the second.
            let mut second = Box::pin(sleep_forever());
            poll_fn(|cx| match step.get() {
                0 => first.as_mut().poll(cx).map(drop),
                _ => Poll::Ready(()),
            })
            .await;
            assert!(poll_fn(|cx| Poll::Ready(second.as_mut().poll(cx).is_pending())).await);
            drop(first);
            second.await
        }));
        assert!(poll_immediate(&mut body).await.is_none());
        steps.set(1);
        let there = n.start_soon(async move { body.await.map(|ended| assert!(ended.is_none())) });
        all_blocked().await?;
        scope.cancel();
        all_blocked().await?;
        assert!(there.is_finished());
        Ok::<(), Cancelled>(())
    })
    .await
}

/// Who waited for a child, and no longer does, is not woken by its end.
#[nursery_testing::test]
async fn a_child_that_ends_wakes_nobody_who_waited_for_it_before() -> Result {
    let lot = ParkingLot::<()>::new();
    open_nursery(async |n| {
        let mut child = n.start_soon(sleep(2 * SECOND));
        let late = move_on_after(SECOND, async { (&mut child).await }).await?;
        assert!(late.is_none());
        let parked = move_on_after(3 * SECOND, async {
            match lot.park().await {
                Err(ParkError::Cancelled(cancelled)) => Err(cancelled),
                unparked => panic!("by whom? {unparked:?}"),
            }
        });
        assert_eq!(parked.await?, None::<()>);
        assert!(child.is_finished());
        Ok::<(), Cancelled>(())
    })
    .await
}

/// The same record is used again at once.
#[nursery_testing::test]
async fn a_task_that_no_longer_waits_for_all_others_is_not_woken_for_it() -> Result {
    let lot = ParkingLot::<()>::new();
    open_nursery(async |n| {
        let waiting = n.start_soon(async {
            drop(poll_immediate(Box::pin(wait_all_tasks_blocked(SECOND))).await);
            lot.park().await.expect("unparked");
            Ok(())
        });
        all_blocked().await?;
        assert_eq!(lot.len(), 1);
        lot.unpark(1);
        waiting.await
    })
    .await
}

/// Whoever is to tell it must know where it has gone.
#[nursery_testing::test]
async fn a_wait_for_a_child_or_for_all_tasks_is_told_where_it_has_gone() -> Result {
    open_nursery(async |n| {
        let child = n.start_soon(sleep(SECOND));
        let waits: [Boxed<'_, Result>; 2] = [Box::pin(child), Box::pin(all_blocked())];
        for mut wait in waits {
            assert!(poll_immediate(&mut wait).await.is_none(), "with the task's own waker");
            let mut with_others = FuturesUnordered::from_iter([wait]);
            with_others.next().await.expect("one wait")?;
        }
        Ok::<(), Cancelled>(())
    })
    .await
}
