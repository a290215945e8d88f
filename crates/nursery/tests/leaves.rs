//! Leaves: children that wait, and have no node in the tree. They share that of their nursery until somebody asks for
//! their own. It makes no difference, also where a task gets its node while it waits.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::{join, poll_immediate};
use nursery::lowlevel::{ParkingLot, statistics, tasks};
use nursery::{
    Builder, CancelReason, CancelScope, CancelSource, Cancelled, Child, Clock, Idle, OnIdle,
    SystemClock, checkpoint, open_nursery, shield, sleep, sleep_forever, tree,
};
use nursery_testing::wait_all_tasks_blocked;

const SECOND: Duration = Duration::from_secs(1);

type Result<T = ()> = std::result::Result<T, Cancelled>;
type Boxed<'a> = Pin<Box<dyn Future<Output = Result> + 'a>>;

async fn all_blocked() -> Result {
    wait_all_tasks_blocked(Duration::ZERO).await
}

type Ask = fn(&Child<'_, ()>);

/// Something that gives a task its node.
const ASKS: [(&str, Ask); 5] = [
    ("its id", |child| _ = child.id()),
    ("its name", |child| child.set_name("asked")),
    ("the tree", |_| _ = tree()),
    ("all tasks", |_| _ = tasks()),
    ("nothing", |_| ()),
];

#[nursery_testing::test]
async fn leaves_are_counted_like_other_tasks() -> Result {
    let before = statistics();
    open_nursery(async |n| {
        for _ in 0..3 {
            n.start_soon(sleep_forever());
        }
        all_blocked().await?;
        for ask in [|| (), || _ = tree()] {
            ask();
            let now = statistics();
            assert_eq!(now.tasks_living, before.tasks_living + 3);
            assert_eq!(now.nodes, before.nodes + 4, "a nursery and three tasks");
            assert_eq!(now.waits, 3);
        }
        n.cancel_scope().cancel();
        Ok::<(), Cancelled>(())
    })
    .await?;
    assert_eq!(statistics(), before);
    Ok(())
}

/// Asked for its node, or not, a leaf is cancelled with its nursery, alone, or not at all.
#[nursery_testing::test]
async fn a_leaf_that_gets_its_node_while_it_waits_is_still_interrupted() -> Result {
    for (what, ask) in ASKS {
        for alone in [true, false] {
            let lot = ParkingLot::<()>::new();
            let ended = Cell::new(0);
            open_nursery(async |n| {
                let child = n.start_soon(async {
                    let parked = lot.park().await;
                    ended.set(ended.get() + 1);
                    assert!(parked.is_err());
                    checkpoint().await
                });
                let sibling = n.start_soon(async {
                    let slept = sleep_forever().await;
                    ended.set(ended.get() + 1);
                    slept
                });
                all_blocked().await?;
                ask(&child);
                all_blocked().await?;
                assert_eq!((lot.len(), ended.get()), (1, 0), "{what}");
                if alone {
                    child.cancel();
                    all_blocked().await?;
                    assert_eq!((lot.len(), ended.get()), (0, 1), "{what}");
                    assert!(child.is_finished() && !sibling.is_finished());
                }
                n.cancel_scope().cancel();
                Ok::<(), Cancelled>(())
            })
            .await?;
            assert_eq!((lot.len(), ended.get()), (0, 2), "{what}");
        }
    }
    Ok(())
}

#[nursery_testing::test]
async fn a_leaf_that_gets_its_node_while_it_waits_is_still_woken() -> Result {
    for (what, ask) in ASKS {
        let lot = ParkingLot::new();
        open_nursery(async |n| {
            let parked = n.start_soon(async {
                assert_eq!(lot.park().await.ok(), Some(7));
                sleep(SECOND).await // another wait, in its own node
            });
            let slept = n.start_soon(sleep(2 * SECOND));
            all_blocked().await?;
            ask(&parked);
            ask(&slept);
            lot.hand_over(7).expect("somebody waits");
            parked.await?;
            slept.await
        })
        .await
        .unwrap_or_else(|_| panic!("{what}"));
    }
    Ok(())
}

/// The second wait is in the table, and for that the task gets a node; so the first one goes there, too.
#[nursery_testing::test]
async fn a_leaf_waits_for_two_things_at_once() -> Result {
    for alone in [true, false] {
        let lots = [ParkingLot::<()>::new(), ParkingLot::new()];
        open_nursery(async |n| {
            let child = n.start_soon(async {
                let (a, b) = join(lots[0].park(), lots[1].park()).await;
                assert!(a.is_err() && b.is_err());
                checkpoint().await
            });
            all_blocked().await?;
            assert_eq!(tree().to_string().matches("waits for a parking lot").count(), 2);
            if alone {
                child.cancel()
            } else {
                n.cancel_scope().cancel()
            }
            Ok::<(), Cancelled>(())
        })
        .await?;
        assert!(lots.iter().all(ParkingLot::is_empty));
    }
    Ok(())
}

/// A wait that a leaf has begun goes on in another leaf.
#[nursery_testing::test]
async fn a_wait_moves_from_leaf_to_leaf() -> Result {
    let (lot, handed) = (ParkingLot::<()>::new(), RefCell::new(None));
    open_nursery(async |n| {
        let mut parked = Box::pin(lot.park());
        let (lot, handed) = (&lot, &handed);
        let first = n.start_soon(async move {
            assert!(poll_immediate(&mut parked).await.is_none());
            handed.replace(Some(parked));
            sleep(SECOND).await
        });
        all_blocked().await?;
        let second = n.start_soon(async move {
            let parked = handed.take().expect("handed on");
            assert!(parked.await.is_err());
            checkpoint().await
        });
        all_blocked().await?;
        assert_eq!(lot.len(), 1);
        second.cancel();
        all_blocked().await?;
        assert!(second.is_finished() && lot.is_empty());
        first.await
    })
    .await
}

/// It was interrupted, and a shield went up before it ran: what was delivered stands, with its reason.
#[nursery_testing::test]
async fn an_interrupted_leaf_keeps_the_reason() -> Result {
    for (what, ask) in ASKS {
        let outer = CancelScope::new();
        let scope = outer.clone();
        let body = open_nursery(async move |n| {
            let child = n.start_soon(async {
                let cancelled = sleep_forever().await.unwrap_err();
                assert_eq!(cancelled.reason().text(), Some("enough"));
                Ok(())
            });
            all_blocked().await?;
            scope.cancel_because(CancelReason::new(CancelSource::Explicit).with_text("enough"));
            n.cancel_scope().set_shield(true);
            ask(&child);
            child.await
        });
        outer.enter(body).await.unwrap_or_else(|_| panic!("{what}"));
    }
    Ok(())
}

/// Children in their nursery's order of arrival, some with a node, some leaves, some that have not run yet.
#[nursery_testing::test]
async fn a_nursery_that_is_dropped_drops_its_children_oldest_first() -> Result {
    struct Noted(u32, Rc<RefCell<Vec<u32>>>);
    impl Drop for Noted {
        fn drop(&mut self) {
            self.1.borrow_mut().push(self.0);
        }
    }
    for is_cancelled in [false, true] {
        let dropped = Rc::<RefCell<Vec<u32>>>::default();
        let (noted, scope) = (dropped.clone(), RefCell::new(None));
        let mut nursery: Boxed<'_> = Box::pin(open_nursery(async |n| -> Result {
            *scope.borrow_mut() = Some(n.cancel_scope().clone());
            let start = |number| {
                let noted = Noted(number, noted.clone());
                let child = n.start_soon(async move {
                    let _noted = noted;
                    sleep_forever().await
                });
                if number % 3 == 0 {
                    child.set_name("with a node");
                }
            };
            (0..6).for_each(start);
            checkpoint().await?;
            sleep(SECOND).await?;
            (6..12).for_each(start);
            sleep_forever().await
        }));
        assert!(poll_immediate(&mut nursery).await.is_none());
        for _ in 0..4 {
            checkpoint().await?;
            assert!(poll_immediate(&mut nursery).await.is_none());
        }
        sleep(2 * SECOND).await?;
        assert!(poll_immediate(&mut nursery).await.is_none(), "the last six have not run");
        assert!(dropped.borrow().is_empty());
        if is_cancelled {
            // The leaves are on their way to their next step.
            scope.take().expect("open").cancel();
        }
        drop(nursery);
        assert!(dropped.borrow().iter().copied().eq(0..12), "{dropped:?}");
    }
    Ok(())
}

/// One waits for something that no cancellation interrupts.
#[nursery_testing::test]
async fn interrupted_leaves_are_seen_until_they_end() -> Result {
    for (what, ask) in ASKS {
        let before = statistics();
        let (send, foreign) = tokio::sync::oneshot::channel::<()>();
        open_nursery(async |n| {
            let sleeper = n.start_soon(sleep_forever());
            n.start_soon(sleep_forever());
            let stubborn = n.start_soon(async {
                foreign.await.expect("it is sent");
                Ok(())
            });
            checkpoint().await?;
            checkpoint().await?;
            n.cancel_scope().cancel();
            assert_eq!(statistics().tasks_living, before.tasks_living + 3, "{what}");
            assert_eq!(statistics().nodes, before.nodes + 4, "{what}");
            ask(&sleeper);
            ask(&stubborn);
            assert_eq!(statistics().tasks_living, before.tasks_living + 3, "{what}");
            shield(async { checkpoint().await }).await?;
            shield(async { checkpoint().await }).await?;
            assert_eq!(statistics().tasks_living, before.tasks_living + 1, "{what}");
            send.send(()).expect("somebody waits");
            Ok::<(), Cancelled>(())
        })
        .await?;
        assert_eq!(statistics(), before, "{what}");
    }
    Ok(())
}

/// The list of leaves has gaps, and is closed up when most of it is.
#[nursery_testing::test]
async fn leaves_end_in_any_order() -> Result {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let lots: Vec<ParkingLot> = (0..200).map(|_| ParkingLot::new()).collect();
        let woken = Cell::new(0);
        let interrupted = Cell::new(0);
        open_nursery(async |n| {
            for lot in &lots {
                let (woken, interrupted) = (&woken, &interrupted);
                n.start_soon(async move {
                    let counter = if lot.park().await.is_ok() { woken } else { interrupted };
                    counter.set(counter.get() + 1);
                    Ok(())
                });
            }
            all_blocked().await?;
            let mut order: Vec<usize> = (0..lots.len()).collect();
            random.shuffle(&mut order);
            for (i, at) in order.into_iter().take(150).enumerate() {
                assert_eq!(lots[at].unpark(1), 1);
                if i % 10 == 0 {
                    checkpoint().await?;
                    n.start_soon(sleep_forever()); // those who come go to the end
                }
            }
            all_blocked().await?;
            n.cancel_scope().cancel();
            Ok::<(), Cancelled>(())
        })
        .await?;
        assert_eq!((woken.get(), interrupted.get()), (150, 50), "seed {seed}");
    }
    Ok(())
}

/// Each of them cancels the nursery when it ends: the others are woken while the list of leaves is looked at.
#[nursery_testing::test]
async fn a_leaf_that_fails_cancels_the_others() {
    let lot = ParkingLot::<()>::new();
    let group = open_nursery(async |n| -> anyhow::Result<()> {
        for i in 0..30 {
            let lot = &lot;
            n.start_soon(async move {
                lot.park().await?;
                Err::<(), _>(anyhow::anyhow!("number {i}"))
            });
        }
        all_blocked().await?;
        lot.unpark(2);
        Ok(())
    })
    .await
    .unwrap_err();
    assert!(lot.is_empty());
    let text = format!("{group:?}");
    assert!(text.starts_with("2 errors"), "{text}");
}

/// Sends when every task waits.
struct SendWhenIdle(RefCell<Option<tokio::sync::oneshot::Sender<usize>>>);

impl Clock for SendWhenIdle {
    fn now(&self) -> Instant {
        SystemClock::new().now()
    }

    fn on_idle(&self, idle: &Idle) -> OnIdle {
        if let Some(sender) = self.0.take() {
            sender.send(idle.outside()).expect("somebody waits");
        }
        OnIdle::Again
    }
}

/// What a leaf waits for the run does not know: it may come from outside.
#[test]
fn a_leaf_that_waits_for_a_foreign_future_is_no_deadlock() -> Result {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    Builder::new().clock(SendWhenIdle(RefCell::new(Some(sender)))).run(async {
        open_nursery(async |n| {
            n.start_soon(async {
                assert_eq!(receiver.await, Ok(1), "one wait for something outside");
                Ok(())
            });
            Ok(())
        })
        .await
    })
}

#[test]
#[should_panic(expected = "waits for a parking lot")]
fn a_leaf_that_waits_for_another_task_is_a_deadlock() {
    let lot = ParkingLot::<()>::new();
    _ = nursery_testing::run(async {
        open_nursery(async |n| {
            n.start_soon(async { lot.park().await.map_err(|_| unreachable!("nobody breaks it")) });
            Ok::<(), Cancelled>(())
        })
        .await
    });
}
