//! Time limits around a body that waits: they have no node in the tree until they need one. It makes no difference, also
//! where they get it while the body waits, or are polled elsewhere then.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{FutureExt, join, poll_immediate, select};
use nursery::lowlevel::{ParkError, ParkingLot, cancelled, statistics};
use nursery::{
    CancelScope, CancelSource, Cancelled, EffectiveDeadline, checkpoint,
    current_effective_deadline, fail_after, move_on_after, now, open_nursery, shield, sleep,
    sleep_forever, tree,
};
use nursery_testing::wait_all_tasks_blocked;

const SECOND: Duration = Duration::from_secs(1);

type Result<T = ()> = std::result::Result<T, Cancelled>;
type Boxed<'a, T = ()> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

async fn all_blocked() -> Result {
    wait_all_tasks_blocked(Duration::ZERO).await
}

/// Waits once, for no cancel point, in the way of foreign code.
async fn foreign_yield() {
    let mut first = true;
    poll_fn(|cx| {
        if !std::mem::take(&mut first) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

async fn foreign_yields(times: usize) {
    for _ in 0..times {
        foreign_yield().await;
    }
}

async fn park(lot: &ParkingLot<()>) -> Result {
    match lot.park().await {
        Err(ParkError::Cancelled(cancelled)) => Err(cancelled),
        parked => {
            parked.unwrap();
            Ok(())
        }
    }
}

/// Ways to wait for ever that a cancellation ends.
fn waits() -> [(&'static str, Boxed<'static>); 5] {
    let lot = ParkingLot::<()>::new();
    [
        ("a sleep", sleep_forever().boxed_local()),
        ("a lot", Box::pin(async move { park(&lot).await })),
        ("a long sleep", sleep(1000 * SECOND).boxed_local()),
        ("its cancellation", Box::pin(async { Err(cancelled().await) })),
        ("something foreign", Box::pin(nursery::cancellable(pending()).inside())),
    ]
}

/// Something that gives the time limit its node, or does not.
const ASKS: [(&str, fn()); 3] = [
    ("the tree", || _ = tree()),
    ("all tasks", || _ = nursery::lowlevel::tasks()),
    ("nothing", || ()),
];

#[nursery_testing::test]
async fn whatever_waits_in_a_time_limit_is_interrupted_by_it() -> Result {
    for ((ask, of), yields) in
        ASKS.into_iter().flat_map(|ask| [0, 1, 2].map(|yields| (ask, yields)))
    {
        for (what, wait) in waits() {
            let (start, nodes) = (now(), statistics().nodes);
            open_nursery(async |n| {
                let limited = n.start_soon(async {
                    let mut raised = None;
                    let body = async {
                        foreign_yields(yields).await;
                        let waited = wait.await;
                        raised = waited.as_ref().err().map(|error| error.reason().source());
                        waited
                    };
                    let done = move_on_after(3 * SECOND, body).await?;
                    assert_eq!(raised, Some(CancelSource::Deadline), "{what}, {ask}");
                    assert_eq!(done, None, "{what}, {ask}");
                    checkpoint().await
                });
                all_blocked().await?;
                of();
                limited.await
            })
            .await?;
            assert_eq!(now() - start, 3 * SECOND, "{what}, {ask}");
            assert_eq!(statistics().nodes, nodes, "{what}, {ask}");
        }
    }
    Ok(())
}

#[nursery_testing::test]
async fn a_time_limit_lets_in_what_is_cancelled_around_it() -> Result {
    for (ask, of) in ASKS {
        for around in ["the nursery", "the task", "a scope"] {
            for (what, wait) in waits() {
                let (scope, start) = (CancelScope::new(), now());
                open_nursery(async |n| {
                    let limited = async {
                        let done = move_on_after(3 * SECOND, wait).await;
                        assert!(done.is_err(), "{what}, {ask}, {around}");
                        done.map(|_| ())
                    };
                    let inner = scope.clone();
                    let child = n.start_soon(async move {
                        if around == "a scope" {
                            inner.enter(limited).await.map(|_| ())
                        } else {
                            limited.await
                        }
                    });
                    all_blocked().await?;
                    of();
                    match around {
                        "the nursery" => n.cancel_scope().cancel(),
                        "the task" => child.cancel(),
                        _ => scope.cancel(),
                    }
                    _ = child.await;
                    Ok::<(), Cancelled>(())
                })
                .await?;
                assert_eq!(now(), start, "{what}, {ask}, {around}");
                assert_eq!(statistics().next_deadline, None, "{what}, {ask}, {around}");
            }
        }
    }
    Ok(())
}

#[nursery_testing::test]
async fn a_time_limit_without_a_node_is_counted_and_drawn() -> Result {
    open_nursery(async |n| {
        let before = statistics();
        n.start_soon(async {
            move_on_after(3 * SECOND, park(&ParkingLot::new())).await.map(|_| ())
        });
        all_blocked().await?;
        for _ in 0..2 {
            let after = statistics();
            assert_eq!(after.nodes, before.nodes + 2, "a task and a scope");
            assert_eq!(after.waits, before.waits + 1);
            assert_eq!(after.next_deadline, Some(3 * SECOND));
            let drawn = tree().to_string();
            assert!(drawn.contains("limits.rs"), "{drawn}");
            assert!(drawn.contains("3s"), "its deadline: {drawn}");
        }
        n.cancel_scope().cancel();
        Ok::<(), Cancelled>(())
    })
    .await
}

/// It is asked for a node by its own body, at the first poll or a later one.
#[nursery_testing::test]
async fn what_a_body_enters_is_below_its_time_limit() -> Result {
    for polls in 0..3 {
        let start = now();
        let done = move_on_after(3 * SECOND, async {
            foreign_yields(polls).await;
            assert_eq!(current_effective_deadline(), EffectiveDeadline::At(start + 3 * SECOND));
            foreign_yields(polls).await;
            shield(async { sleep(4 * SECOND).await }).await?;
            assert_eq!(current_effective_deadline(), EffectiveDeadline::Cancelled);
            checkpoint().await
        })
        .await?;
        assert_eq!((done, now() - start), (None, 4 * SECOND));
        let done = move_on_after(3 * SECOND, async {
            foreign_yields(polls).await;
            open_nursery(async |n| {
                n.start_soon(sleep_forever());
                Ok(())
            })
            .await
        })
        .await?;
        assert_eq!((done, now() - start), (None, 7 * SECOND));
    }
    Ok(())
}

/// Of two in one task at the same time one has to have a node.
#[nursery_testing::test]
async fn time_limits_side_by_side_keep_to_themselves() -> Result {
    for (first, second) in [(1, 2), (2, 1), (2, 2)] {
        for polls in 0..3 {
            let start = now();
            let limited = |seconds, yields| async move {
                foreign_yields(yields).await;
                let done = move_on_after(seconds * SECOND, async {
                    foreign_yields(yields).await;
                    park(&ParkingLot::new()).await
                });
                assert_eq!(done.await?, None);
                assert_eq!(now() - start, seconds * SECOND);
                checkpoint().await // that one did not reach this
            };
            let (a, b) = join(limited(first, polls), limited(second, 2 - polls)).await;
            a.and(b)?;
        }
    }
    Ok(())
}

#[nursery_testing::test]
async fn time_limits_in_each_other_end_at_their_own_time() -> Result {
    for (outer, inner) in [(1, 2), (2, 1)] {
        let start = now();
        let done = move_on_after(outer * SECOND, async {
            foreign_yield().await;
            let done = move_on_after(inner * SECOND, park(&ParkingLot::new())).await?;
            assert_eq!((done, now() - start), (None, inner * SECOND));
            sleep_forever().await
        })
        .await?;
        assert_eq!((done, now() - start), (None::<()>, outer * SECOND));
    }
    Ok(())
}

/// Alternately waits that need the timer of the task, and others.
#[nursery_testing::test]
async fn a_body_that_waits_again_and_again_keeps_its_deadline() -> Result {
    for sleep_first in [true, false] {
        let (start, rounds) = (now(), Cell::new(0));
        let lot = ParkingLot::<()>::new();
        open_nursery(async |n| {
            n.start_soon::<()>(async {
                loop {
                    sleep(SECOND / 4).await?;
                    lot.unpark(1);
                }
            });
            let done = fail_after(5 * SECOND, async {
                loop {
                    if sleep_first {
                        sleep(SECOND / 2).await?;
                    }
                    for _ in 0..3 {
                        park(&lot).await?;
                    }
                    sleep(SECOND / 2).await?;
                    rounds.set(rounds.get() + 1);
                }
            });
            let done: anyhow::Result<()> = done.await;
            let error = done.unwrap_err();
            assert!(error.is::<nursery::TooSlow>(), "{error}");
            n.cancel_scope().cancel();
            Ok::<(), Cancelled>(())
        })
        .await?;
        assert_eq!(now() - start, 5 * SECOND);
        assert!(rounds.get() >= 2);
    }
    Ok(())
}

#[nursery_testing::test]
async fn a_time_limit_that_is_dropped_or_left_leaves_nothing() -> Result {
    for (ask, of) in ASKS {
        let before = statistics();
        {
            let mut limited = pin!(move_on_after(3 * SECOND, park_for_ever()));
            assert!(poll_immediate(&mut limited).await.is_none());
            of();
            assert_eq!(statistics().next_deadline, Some(3 * SECOND));
        }
        assert_eq!(statistics(), before, "{ask}");
        let (start, lot) = (now(), ParkingLot::new());
        let mut limited = pin!(move_on_after(3 * SECOND, park(&lot)));
        assert!(poll_immediate(&mut limited).await.is_none());
        of();
        lot.unpark(1);
        assert_eq!(limited.as_mut().await?, Some(()));
        // It is still there, and has nothing to do with the next one.
        let mut next = pin!(move_on_after(SECOND, sleep_forever()));
        assert!(poll_immediate(&mut next).await.is_none());
        limited.set(move_on_after(3 * SECOND, park(&lot)));
        assert_eq!(next.await?, None);
        assert_eq!(now() - start, SECOND);
        assert_eq!(statistics(), before, "{ask}");
    }
    Ok(())
}

/// Its future is polled in a scope, after it has begun to wait outside.
#[nursery_testing::test]
async fn a_time_limit_is_moved_into_a_scope() -> Result {
    for (ask, of) in ASKS {
        for (what, wait) in waits() {
            let start = now();
            let mut limited = Box::pin(move_on_after(3 * SECOND, wait));
            assert!(poll_immediate(&mut limited).await.is_none());
            of();
            let scope = CancelScope::new();
            scope.set_deadline(Some(start + SECOND));
            assert_eq!(scope.enter(limited).await?, None, "{what}, {ask}");
            assert_eq!(now() - start, SECOND, "{what}, {ask}");
        }
    }
    Ok(())
}

/// Its future is polled by one task, then by another; that one has ended, or not.
#[nursery_testing::test]
async fn a_time_limit_goes_where_it_is_polled() -> Result {
    for (ask, of) in ASKS {
        for (ends, cancels) in [(true, true), (true, false), (false, true), (false, false)] {
            for (what, wait) in waits() {
                let limited: RefCell<Option<Boxed<Option<()>>>> =
                    RefCell::new(Some(Box::pin(move_on_after(3 * SECOND, wait))));
                let start = now();
                open_nursery(async |n| {
                    let limited = &limited;
                    let a = n.start_soon(async move {
                        let mut future = limited.take().unwrap();
                        assert!(poll_immediate(&mut future).await.is_none());
                        limited.replace(Some(future));
                        if ends { Ok(()) } else { sleep_forever().await }
                    });
                    all_blocked().await?;
                    of();
                    let b = n.start_soon(async move {
                        let future = limited.take().unwrap();
                        let done = future.await;
                        assert_eq!(done.is_err(), cancels, "{what}, {ask}");
                        assert_eq!(now() - start, if cancels { SECOND } else { 3 * SECOND });
                        checkpoint().await
                    });
                    sleep(SECOND).await?;
                    if cancels {
                        b.cancel();
                    }
                    _ = b.await;
                    a.cancel();
                    _ = a.await;
                    Ok::<(), Cancelled>(())
                })
                .await?;
                assert_eq!(statistics().next_deadline, None, "{what}, {ask}");
            }
        }
    }
    Ok(())
}

/// The deadline passes while nobody polls it, after the end of the task that did.
#[nursery_testing::test]
async fn a_deadline_that_passes_unseen_is_seen_at_the_next_poll() -> Result {
    for ends in [true, false] {
        for (what, wait) in waits() {
            let limited: Rc<RefCell<Option<Boxed<Option<()>>>>> = Rc::default();
            open_nursery(async |n| {
                let to = limited.clone();
                let mut future: Boxed<Option<()>> = Box::pin(move_on_after(3 * SECOND, wait));
                n.start_soon(async move {
                    assert!(poll_immediate(&mut future).await.is_none());
                    to.replace(Some(future));
                    if ends { Ok(()) } else { sleep(9 * SECOND).await }
                });
                sleep(4 * SECOND).await?;
                let future = limited.take().unwrap();
                assert_eq!(poll_immediate(future).await.unwrap()?, None, "{what}");
                Ok::<(), Cancelled>(())
            })
            .await?;
        }
    }
    Ok(())
}

/// What began to wait in the body goes on outside, and the other way round.
#[nursery_testing::test]
async fn a_wait_is_where_it_is_polled() -> Result {
    for left in [true, false] {
        let mut wait: Boxed = Box::pin(park_for_ever());
        let start = now();
        let mut limited = Box::pin(move_on_after(SECOND, async {
            assert!(poll_immediate(&mut wait).await.is_none());
            if !left {
                foreign_pending().await;
            }
            Ok::<(), Cancelled>(())
        }));
        let _ended = poll_immediate(&mut limited).await;
        if left {
            // The limit has been left: it does not reach what is still waiting, nor does the next one.
            drop(limited);
            let mut other = pin!(move_on_after(SECOND, async {
                foreign_pending().await;
                Ok::<(), Cancelled>(())
            }));
            assert!(poll_immediate(&mut other).await.is_none());
            sleep(2 * SECOND).await?;
            assert!(poll_immediate(&mut wait).await.is_none());
            assert_eq!(move_on_after(5 * SECOND, &mut wait).await?, None);
            assert_eq!(now() - start, 7 * SECOND);
        } else {
            sleep(2 * SECOND).await?;
            drop(limited);
            assert!(poll_immediate(&mut wait).await.is_none_or(|ended| ended.is_err()));
        }
    }
    let mut wait: Boxed = Box::pin(park_for_ever());
    assert!(poll_immediate(&mut wait).await.is_none());
    let start = now();
    assert_eq!(move_on_after(SECOND, &mut wait).await?, None);
    assert_eq!(now() - start, SECOND);
    Ok(())
}

async fn park_for_ever() -> Result {
    park(&ParkingLot::new()).await
}

async fn foreign_pending() {
    pending::<()>().await;
}

#[nursery_testing::test]
async fn a_forgotten_time_limit_does_no_harm() -> Result {
    for (ask, of) in ASKS {
        for (_, wait) in waits() {
            open_nursery(async |n| {
                n.start_soon(async move {
                    let mut limited: Boxed<Option<()>> = Box::pin(move_on_after(3 * SECOND, wait));
                    assert!(poll_immediate(&mut limited).await.is_none());
                    of();
                    _ = ManuallyDrop::new(limited); // forgotten
                    let start = now();
                    assert_eq!(
                        move_on_after(SECOND, park(&ParkingLot::new())).await?,
                        None,
                        "{ask}"
                    );
                    assert_eq!(now() - start, SECOND);
                    Ok::<(), Cancelled>(())
                });
                Ok(())
            })
            .await?;
            sleep(4 * SECOND).await?;
        }
    }
    Ok(())
}

#[nursery_testing::test]
async fn a_body_that_panics_leaves_nothing() -> Result {
    for polls in 0..3 {
        for enters in [true, false] {
            let before = statistics();
            let limited = move_on_after(3 * SECOND, async {
                foreign_yields(polls).await;
                if enters {
                    _ = current_effective_deadline();
                }
                assert!(polls > 5, "as it should");
                Ok::<(), Cancelled>(())
            });
            let mut limited = pin!(Some(limited));
            poll_fn(|cx| {
                let polled = catch_unwind(AssertUnwindSafe(|| {
                    limited.as_mut().as_pin_mut().unwrap().poll(cx).map(|_| ())
                }));
                polled.unwrap_or(Poll::Ready(()))
            })
            .await;
            limited.set(None);
            assert_eq!(statistics(), before, "{polls}, {enters}");
            assert_eq!(current_effective_deadline(), EffectiveDeadline::Never);
            checkpoint().await?;
        }
    }
    Ok(())
}

/// The node is asked for in the same poll in which something else in the body has begun to wait.
#[nursery_testing::test]
async fn what_waits_already_goes_into_the_new_node() -> Result {
    for yields in 0..3 {
        let start = now();
        let done = move_on_after(3 * SECOND, async {
            foreign_yields(yields).await;
            let asks = async {
                assert_eq!(current_effective_deadline(), EffectiveDeadline::At(start + 3 * SECOND));
                foreign_pending().await;
                Ok(())
            };
            select(pin!(park_for_ever()), pin!(asks)).await.factor_first().0
        })
        .await?;
        assert_eq!((done, now() - start), (None, 3 * SECOND));
    }
    Ok(())
}

/// A sleeper beside it, in the same task, needs the task's timer.
#[nursery_testing::test]
async fn a_sleep_beside_a_time_limit_ends_in_its_own_time() -> Result {
    for (limit, nap) in [(1, 2), (2, 1)] {
        let start = now();
        let limited = async {
            let done = move_on_after(limit * SECOND, async {
                poll_fn(|_| {
                    if now() - start < limit * SECOND { Poll::Pending } else { Poll::Ready(()) }
                })
                .await;
                checkpoint().await
            });
            assert_eq!(done.await?, None);
            Ok(now() - start)
        };
        let napped = async {
            sleep(nap * SECOND).await?;
            Ok::<_, Cancelled>(now() - start)
        };
        let last = sleep(3 * SECOND); // polls the limited one, which nothing wakes
        let (limited, (napped, last)) = join(limited, join(napped, last)).await;
        last?;
        assert_eq!(napped?, nap * SECOND);
        let limited: Result<Duration> = limited;
        assert!(limited? >= limit * SECOND);
    }
    Ok(())
}

#[nursery_testing::test]
async fn a_time_limit_in_a_scope_is_drawn_there_and_leads_back_there() -> Result {
    for yields in 0..3 {
        let (start, scope) = (now(), CancelScope::new());
        scope.set_deadline(Some(start + 9 * SECOND));
        scope
            .enter(async {
                let limited = move_on_after(3 * SECOND, async {
                    foreign_yield().await;
                    if yields == 1 {
                        _ = current_effective_deadline();
                    }
                    foreign_yield().await;
                    Ok::<(), Cancelled>(())
                });
                let mut limited = pin!(limited);
                assert!(poll_immediate(&mut limited).await.is_none());
                for _ in 0..yields.min(1) {
                    assert!(poll_immediate(&mut limited).await.is_none());
                }
                let drawn = tree().to_string();
                let depth = |what: &str| {
                    let line = drawn.lines().find(|line| line.contains(what));
                    line.and_then(|line| line.find(|c: char| c.is_alphabetic())).expect(&drawn)
                };
                assert!(depth("in 3s") > depth("in 9s"), "{drawn}");
                limited.await?;
                assert_eq!(current_effective_deadline(), EffectiveDeadline::At(start + 9 * SECOND));
                let asks = async {
                    _ = current_effective_deadline();
                    Ok::<(), Cancelled>(())
                };
                move_on_after(3 * SECOND, asks).await?;
                assert_eq!(current_effective_deadline(), EffectiveDeadline::At(start + 9 * SECOND));
                Ok::<(), Cancelled>(())
            })
            .await?;
    }
    Ok(())
}

/// The task that polled it was dropped half-way.
#[nursery_testing::test]
async fn a_time_limit_outlives_the_task_that_polled_it() -> Result {
    for (what, wait) in waits() {
        let before = statistics();
        let limited = RefCell::new(Box::pin(move_on_after(3 * SECOND, wait)));
        let nursery = open_nursery(async |n| {
            n.start_soon(async {
                poll_fn(|cx| limited.borrow_mut().as_mut().poll(cx)).await.map(|_| ())
            });
            Ok::<(), Cancelled>(())
        });
        {
            let mut nursery = pin!(nursery);
            assert!(poll_immediate(&mut nursery).await.is_none());
            assert!(poll_immediate(&mut nursery).await.is_none());
            all_blocked().await?;
        }
        assert_eq!(statistics().tasks_living, before.tasks_living, "{what}");
        sleep(4 * SECOND).await?;
        assert_eq!(statistics().tasks_living, before.tasks_living, "{what}");
        assert_eq!(limited.into_inner().await?, None, "{what}");
        assert_eq!(statistics(), before, "{what}");
    }
    Ok(())
}
