//! Several waits in one task: `join`, `select`, `FuturesUnordered` and the like, foreign wakers, spurious polls.

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_concurrency::future::FutureGroup;
use futures_concurrency::prelude::*;
use futures_util::future::{self, Either, FutureExt};
use futures_util::stream::{self, FuturesOrdered, FuturesUnordered, StreamExt};
use futures_util::{join, poll, try_join};
use nursery::lowlevel::{ParkingLot, statistics, wait_all_tasks_blocked};
use nursery::{
    CancelScope, Cancelled, cancellable, checkpoint, move_on_after, now, open_nursery, sleep,
    sleep_forever,
};

const SECOND: Duration = Duration::from_secs(1);

fn run<T>(main: impl Future<Output = anyhow::Result<T>>) -> T {
    nursery_testing::run(main).unwrap()
}

async fn settled() -> anyhow::Result<()> {
    Ok(wait_all_tasks_blocked(Duration::ZERO).await?)
}

type Waiting<'a> = Pin<Box<dyn Future<Output = Result<(), Cancelled>> + 'a>>;

/// Three waits of different kinds that end with their cancellation only; `raised` counts them.
fn waits<'a>(lot: &'a ParkingLot, raised: &'a Cell<usize>) -> [Waiting<'a>; 3] {
    let counted = move |wait: Waiting<'a>| -> Waiting<'a> {
        Box::pin(async move {
            let result = wait.await;
            raised.set(raised.get() + usize::from(result.is_err()));
            result
        })
    };
    let parked = async { if lot.park().await.is_err() { checkpoint().await } else { Ok(()) } };
    [
        counted(Box::pin(async { sleep_forever().await })),
        counted(Box::pin(parked)),
        counted(Box::pin(cancellable(std::future::pending()).inside())),
    ]
}

/// Gives a combinator three waits, and cancels the scope around it, from another task and by a deadline.
async fn reaches<'a, F>(
    what: &str,
    all: bool,
    combine: impl Fn([Waiting<'a>; 3]) -> F,
    lot: &'a ParkingLot,
    raised: &'a Cell<usize>,
) -> anyhow::Result<()>
where
    F: Future<Output = ()>,
{
    let baseline = statistics();
    // From another task.
    let scope = CancelScope::new();
    raised.set(0);
    open_nursery(async |n| -> anyhow::Result<()> {
        let combined = n.start_soon(async {
            Ok(scope
                .enter(async {
                    combine(waits(lot, raised)).await;
                    checkpoint().await
                })
                .await?)
        });
        settled().await?;
        assert!(!combined.is_finished(), "{what} waits");
        scope.cancel();
        assert_eq!(combined.await?, None, "{what}");
        Ok(())
    })
    .await?;
    let expected = if all { 3 } else { 1 };
    assert!(raised.get() >= expected, "{what}: {} raised", raised.get());
    // By a deadline.
    let start = now();
    let ended = move_on_after(SECOND, async {
        combine(waits(lot, raised)).await;
        checkpoint().await
    });
    assert_eq!(ended.await?, None, "{what}");
    assert_eq!(now(), start + SECOND, "{what}");
    assert_eq!(statistics(), baseline, "{what} leaves nothing");
    assert!(lot.is_empty(), "{what}");
    Ok(())
}

#[test]
fn a_scopes_cancellation_reaches_every_wait_of_a_join() {
    run(async {
        let (lot, raised) = (ParkingLot::new(), Cell::new(0));
        let join_macro = async |[a, b, c]: [Waiting<'_>; 3]| {
            let _ = join!(a, b, c);
        };
        reaches("join!", true, join_macro, &lot, &raised).await?;
        let join_all = async |all: [Waiting<'_>; 3]| drop(future::join_all(all).await);
        reaches("join_all", true, join_all, &lot, &raised).await?;
        let try_join = async |[a, b, c]: [Waiting<'_>; 3]| assert!(try_join!(a, b, c).is_err());
        reaches("try_join!", false, try_join, &lot, &raised).await?;
        let tokio_join = async |[a, b, c]: [Waiting<'_>; 3]| {
            let _ = tokio::join!(a, b, c);
        };
        reaches("tokio::join!", true, tokio_join, &lot, &raised).await?;
        let tuple = async |[a, b, c]: [Waiting<'_>; 3]| drop((a, b, c).join().await);
        reaches("a tuple's join", true, tuple, &lot, &raised).await?;
        let array = async |all: [Waiting<'_>; 3]| drop(all.join().await);
        reaches("an array's join", true, array, &lot, &raised).await?;
        let vector = async |all: [Waiting<'_>; 3]| drop(Vec::from(all).join().await);
        reaches("a vector's join", true, vector, &lot, &raised).await
    });
}

#[test]
fn a_scopes_cancellation_reaches_the_waits_of_a_select_or_race() {
    run(async {
        let (lot, raised) = (ParkingLot::new(), Cell::new(0));
        let select = async |[a, b, c]: [Waiting<'_>; 3]| {
            futures_util::select! {
                r = a.fuse() => assert!(r.is_err()),
                r = b.fuse() => assert!(r.is_err()),
                r = c.fuse() => assert!(r.is_err()),
            }
        };
        reaches("select!", false, select, &lot, &raised).await?;
        let select_fn = async |[a, b, _c]: [Waiting<'_>; 3]| match future::select(a, b).await {
            Either::Left((r, _)) | Either::Right((r, _)) => assert!(r.is_err()),
        };
        reaches("select()", false, select_fn, &lot, &raised).await?;
        let select_all = async |all: [Waiting<'_>; 3]| {
            let (first, _, _rest) = future::select_all(all).await;
            assert!(first.is_err());
        };
        reaches("select_all", false, select_all, &lot, &raised).await?;
        let tokio_select = async |[a, b, c]: [Waiting<'_>; 3]| {
            tokio::select! {
                r = a => assert!(r.is_err()),
                r = b => assert!(r.is_err()),
                r = c => assert!(r.is_err()),
            }
        };
        reaches("tokio::select!", false, tokio_select, &lot, &raised).await?;
        let race = async |[a, b, c]: [Waiting<'_>; 3]| assert!((a, b, c).race().await.is_err());
        reaches("a tuple's race", false, race, &lot, &raised).await?;
        let array = async |all: [Waiting<'_>; 3]| assert!(all.race().await.is_err());
        reaches("an array's race", false, array, &lot, &raised).await
    });
}

/// These give each future a waker of their own.
#[test]
fn a_scopes_cancellation_reaches_the_waits_of_groups_and_streams() {
    run(async {
        let (lot, raised) = (ParkingLot::new(), Cell::new(0));
        let unordered = async |all: [Waiting<'_>; 3]| {
            let mut all: FuturesUnordered<_> = all.into_iter().collect();
            while let Some(result) = all.next().await {
                assert!(result.is_err());
            }
        };
        reaches("FuturesUnordered", true, unordered, &lot, &raised).await?;
        let ordered = async |all: [Waiting<'_>; 3]| {
            let mut all: FuturesOrdered<_> = all.into_iter().collect();
            while let Some(result) = all.next().await {
                assert!(result.is_err());
            }
        };
        reaches("FuturesOrdered", true, ordered, &lot, &raised).await?;
        let buffered = async |all: [Waiting<'_>; 3]| {
            stream::iter(all).for_each_concurrent(None, |wait| wait.map(drop)).await;
        };
        reaches("for_each_concurrent", true, buffered, &lot, &raised).await?;
        let group = async |all: [Waiting<'_>; 3]| {
            let mut group = FutureGroup::from_iter(all);
            while let Some(result) = group.next().await {
                assert!(result.is_err());
            }
        };
        reaches("FutureGroup", true, group, &lot, &raised).await?;
        let merge = async |all: [Waiting<'_>; 3]| {
            let mut merged = all.map(stream::once).merge();
            while let Some(result) = merged.next().await {
                assert!(result.is_err());
            }
        };
        reaches("merge", true, merge, &lot, &raised).await
    });
}

#[test]
fn each_branch_can_have_a_scope_of_its_own() {
    run(async {
        let scopes = [CancelScope::new(), CancelScope::new(), CancelScope::new()];
        let [a, b, c] = &scopes;
        let start = now();
        let canceller = async {
            sleep(SECOND).await?;
            a.cancel();
            sleep(SECOND).await?;
            b.cancel();
            Ok::<_, Cancelled>(())
        };
        let timed = async |scope: &CancelScope, wait: Duration| {
            let ended = scope.enter(sleep(wait)).await?;
            Ok::<_, Cancelled>((ended.is_some(), now() - start))
        };
        let (a_end, b_end, c_end, done) =
            join!(timed(a, 10 * SECOND), timed(b, 10 * SECOND), timed(c, 3 * SECOND), canceller);
        done?;
        assert_eq!(a_end?, (false, SECOND));
        assert_eq!(b_end?, (false, 2 * SECOND));
        assert_eq!(c_end?, (true, 3 * SECOND));
        let caught = scopes.each_ref().map(CancelScope::cancelled_caught);
        assert_eq!(caught, [true, true, false]);
        // The same with wakers of their own.
        let limits = (1..=3).map(|i: u32| move_on_after(i * SECOND, sleep(2 * SECOND)));
        let mut all: FuturesOrdered<_> = limits.collect();
        let mut ended = vec![];
        while let Some(result) = all.next().await {
            ended.push(result?.is_some());
        }
        assert_eq!(ended, [false, false, true]);
        Ok(())
    });
}

#[test]
fn a_nursery_can_be_a_branch() {
    run(async {
        let baseline = statistics();
        let steps = Cell::new(0);
        let step = async || -> anyhow::Result<()> {
            open_nursery(async |n| -> anyhow::Result<()> {
                for _ in 0..3 {
                    n.start_soon(async {
                        sleep(SECOND).await?;
                        steps.set(steps.get() + 1);
                        Ok(())
                    });
                }
                Ok(())
            })
            .await
        };
        let (a, b) = join!(step(), step());
        a?;
        b?;
        let mut all: FuturesUnordered<_> = (0..3).map(|_| step()).collect();
        while let Some(result) = all.next().await {
            result?;
        }
        assert_eq!(steps.get(), 15);
        // The loser of a race is dropped with its children.
        let (short, long) = (sleep(SECOND / 2), step());
        match future::select(short, pin!(long)).await {
            Either::Left((slept, _)) => slept?,
            Either::Right(_) => panic!("too early"),
        }
        sleep(2 * SECOND).await?;
        assert_eq!(steps.get(), 15);
        assert_eq!(statistics(), baseline);
        Ok(())
    });
}

#[test]
fn a_wait_dropped_by_a_select_leaves_its_queue() {
    run(async {
        let lot = ParkingLot::<i32>::new();
        let baseline = statistics();
        for _ in 0..3 {
            let slept = tokio::select! {
                _ = lot.park() => false,
                slept = sleep(SECOND) => { slept?; true }
            };
            assert!(slept);
            assert_eq!(lot.unpark_one(1), Err(1));
        }
        assert_eq!(statistics(), baseline);
        Ok(())
    });
}

/// Both branches are ready in one step: what was handed to the loser is dropped with it, not left somewhere.
#[test]
fn a_hand_off_to_the_loser_of_a_select_is_dropped() {
    run(async {
        let lot = ParkingLot::new();
        let item = std::rc::Rc::new(());
        open_nursery(async |n| -> anyhow::Result<()> {
            let chosen = n.start_soon(async {
                let chosen = tokio::select! {
                    biased;
                    slept = sleep(SECOND) => { slept?; "slept" }
                    handed = lot.park() => { handed?; "handed" }
                };
                Ok(chosen)
            });
            n.start_soon(async {
                // Woken in the same turn as the sleeper, or before it.
                sleep(SECOND).await?;
                drop(lot.unpark_one(item.clone()));
                Ok(())
            });
            let chosen = chosen.await?;
            assert!(chosen == "slept", "{chosen}");
            Ok(())
        })
        .await?;
        assert_eq!(std::rc::Rc::strong_count(&item), 1);
        assert!(lot.is_empty());
        Ok(())
    });
}

// Foreign wakers

/// Counts how often it is woken.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Counting {
    fn new() -> (Arc<Counting>, Waker) {
        let counting = Arc::new(Counting::default());
        (counting.clone(), counting.into())
    }

    fn take(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// Polls with a waker that is not the task's.
fn poll_with<F: Future>(waker: &Waker, future: &mut Pin<&mut F>) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(waker))
}

#[test]
fn a_wait_is_woken_through_the_waker_it_was_last_polled_with() {
    run(async {
        let ((first, first_waker), (second, second_waker)) = (Counting::new(), Counting::new());
        let scope = CancelScope::new();
        scope
            .enter(async {
                let mut wait = pin!(sleep_forever());
                assert!(poll_with(&first_waker, &mut wait).is_pending());
                assert!(poll_with(&second_waker, &mut wait).is_pending());
                scope.cancel();
                assert_eq!((first.take(), second.take()), (0, 1));
                assert!(matches!(poll_with(&second_waker, &mut wait), Poll::Ready(Err(_))));
                anyhow::Ok(())
            })
            .await?;
        // By an unpark.
        let lot = ParkingLot::<i32>::new();
        let mut wait = pin!(lot.park());
        assert!(poll_with(&first_waker, &mut wait).is_pending());
        lot.unpark_one(5).unwrap();
        assert_eq!((first.take(), second.take()), (1, 0));
        // Polled by the task itself: the value is there, whoever was woken.
        assert_eq!(wait.await?, 5);
        assert_eq!((first.take(), second.take()), (0, 0));
        Ok(())
    });
}

#[test]
fn a_wait_that_goes_back_to_the_tasks_own_waker_forgets_the_foreign_one() {
    run(async {
        let (foreign, foreign_waker) = Counting::new();
        let mut wait = pin!(sleep(SECOND));
        assert!(poll_with(&foreign_waker, &mut wait).is_pending());
        assert!(poll!(&mut wait).is_pending());
        assert_eq!(Arc::strong_count(&foreign), 2, "only `foreign_waker` is left");
        wait.await?;
        assert_eq!(foreign.take(), 0);
        Ok(())
    });
}

#[test]
fn the_foreign_waker_of_a_wait_goes_with_the_wait() {
    run(async {
        let (foreign, foreign_waker) = Counting::new();
        {
            let mut wait = pin!(sleep(SECOND));
            assert!(poll_with(&foreign_waker, &mut wait).is_pending());
            assert_eq!(Arc::strong_count(&foreign), 3);
        }
        assert_eq!(Arc::strong_count(&foreign), 2);
        sleep(2 * SECOND).await?;
        assert_eq!(foreign.take(), 0);
        Ok(())
    });
}

#[test]
fn spurious_polls_change_nothing() {
    run(async {
        let lot = ParkingLot::<i32>::new();
        let baseline = statistics();
        let mut sleeping = pin!(sleep(SECOND));
        let mut parked = pin!(lot.park());
        let mut limited = pin!(move_on_after(2 * SECOND, sleep_forever()));
        let start = now();
        for _ in 0..50 {
            assert!(poll!(&mut sleeping).is_pending());
            assert!(poll!(&mut parked).is_pending());
            assert!(poll!(&mut limited).is_pending());
        }
        assert_eq!(statistics().waits, baseline.waits + 3);
        assert_eq!(lot.len(), 1);
        lot.unpark_one(5).unwrap();
        assert_eq!(parked.await?, 5);
        sleeping.await?;
        assert_eq!(now(), start + SECOND);
        assert_eq!(limited.await?, None);
        assert_eq!(now(), start + 2 * SECOND);
        assert_eq!(statistics(), baseline);
        Ok(())
    });
}

/// A task is woken by what it polled in a branch, although it waits for something else by now.
#[test]
fn a_wait_left_behind_wakes_its_task_for_nothing_and_harmlessly() {
    run(async {
        let lot = ParkingLot::<i32>::new();
        let mut left = pin!(lot.park());
        assert!(poll!(&mut left).is_pending());
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                sleep(SECOND).await?;
                lot.unpark_one(5).unwrap();
                Ok(())
            });
            sleep(2 * SECOND).await?;
            Ok(())
        })
        .await?;
        assert_eq!(left.await?, 5);
        Ok(())
    });
}

#[test]
fn a_hundred_waits_in_one_task_are_all_cancelled_by_one_scope() {
    run(async {
        let scope = CancelScope::new();
        let ended = scope
            .enter(async {
                let mut all: FuturesUnordered<_> = (0..100).map(|_| sleep_forever()).collect();
                assert!(poll!(all.next()).is_pending());
                assert_eq!(statistics().waits, 100);
                scope.cancel();
                let mut raised = 0;
                while let Some(result) = all.next().await {
                    raised += usize::from(result.is_err());
                }
                anyhow::Ok(raised)
            })
            .await?;
        assert_eq!(ended, Some(100));
        Ok(())
    });
}
