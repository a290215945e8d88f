//! `ParkingLot`: order, hand-off, moving, breaking, and every way in which a waiter can go.

mod message;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use message::panic_message;
use nursery::lowlevel::{
    self, Broken, Park, ParkError, ParkingLot, TaskId, wait_all_tasks_blocked,
};
use nursery::{
    CancelScope, Cancelled, TaskStatus, checkpoint, move_on_after, open_nursery, sleep_forever,
    tree,
};
use nursery_testing::Test;

const SEEDS: u64 = if cfg!(miri) { 3 } else { 100 };

/// Runs a test in a hundred orders.
fn orders(body: impl AsyncFn() -> anyhow::Result<()>) {
    for seed in 0..SEEDS {
        let result = Test::new().seed(seed).run(body());
        if let Err(error) = result {
            panic!("seed {seed}: {error:#}");
        }
    }
}

async fn settle() -> Result<(), Cancelled> {
    wait_all_tasks_blocked(Duration::ZERO).await
}

/// Polls a future once, with the waker of the current task.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}

#[derive(Default)]
struct Record(RefCell<Vec<String>>);

impl Record {
    fn push(&self, what: &str, who: impl std::fmt::Display) {
        self.0.borrow_mut().push(format!("{what} {who}"));
    }
    fn take(&self) -> Vec<String> {
        self.0.take()
    }
    fn take_sorted(&self) -> Vec<String> {
        let mut all = self.take();
        all.sort();
        all
    }
}

async fn waiter(i: u32, lot: &ParkingLot, record: &Record) -> anyhow::Result<()> {
    record.push("sleep", i);
    lot.park().await?;
    record.push("wake", i);
    Ok(())
}

/// `parking_lot_basic`
#[test]
fn parking_lot_basic() {
    orders(async || {
        let (lot, record) = (ParkingLot::new(), Record::default());
        open_nursery(async |n| -> anyhow::Result<()> {
            assert!(lot.is_empty());
            assert_eq!(lot.len(), 0);
            for i in 0..3 {
                n.start_soon(waiter(i, &lot, &record));
            }
            settle().await?;
            assert_eq!(record.take_sorted(), ["sleep 0", "sleep 1", "sleep 2"]);
            assert!(!lot.is_empty());
            assert_eq!(lot.len(), 3);
            assert_eq!(format!("{lot:?}"), "ParkingLot { tasks_waiting: 3, broken_by: [] }");
            assert_eq!(lot.unpark_all(), 3);
            assert_eq!(lot.len(), 0);
            settle().await?;
            assert_eq!(record.take_sorted(), ["wake 0", "wake 1", "wake 2"]);
            Ok(())
        })
        .await?;

        open_nursery(async |n| -> anyhow::Result<()> {
            for i in 0..3 {
                n.start_soon(waiter(i, &lot, &record));
                settle().await?;
            }
            for i in 0..3 {
                let woken = lot.unpark_one(()).expect("somebody waits");
                assert_eq!(woken.parent(), Some(lowlevel::current_task()), "waiter {i}");
                settle().await?;
            }
            Ok(())
        })
        .await?;
        let fifo = ["sleep 0", "sleep 1", "sleep 2", "wake 0", "wake 1", "wake 2"];
        assert_eq!(record.take(), fifo);

        // Nobody is parked: nothing happens.
        assert_eq!(lot.unpark_one(()), Err(()));
        assert_eq!((lot.unpark(1), lot.unpark(100), lot.unpark(0), lot.unpark_all()), (0, 0, 0, 0));

        open_nursery(async |n| -> anyhow::Result<()> {
            for i in 0..3 {
                n.start_soon(waiter(i, &lot, &record));
                settle().await?;
            }
            record.take();
            assert_eq!(lot.unpark(2), 2);
            settle().await?;
            assert_eq!(record.take_sorted(), ["wake 0", "wake 1"]);
            assert_eq!(lot.unpark(usize::MAX), 1);
            Ok(())
        })
        .await
    });
}

async fn cancellable_waiter(
    i: u32,
    lot: &ParkingLot,
    scope: &CancelScope,
    record: &Record,
) -> anyhow::Result<()> {
    record.push("sleep", i);
    let result = scope.enter(async { Ok::<_, anyhow::Error>(lot.park().await?) }).await?;
    record.push(if result.is_some() { "wake" } else { "cancelled" }, i);
    Ok(())
}

/// `parking_lot_cancel`
#[test]
fn a_cancelled_waiter_leaves_the_queue() {
    orders(async || {
        let (lot, record) = (ParkingLot::new(), Record::default());
        let scopes = [(); 4].map(|()| CancelScope::new());
        open_nursery(async |n| -> anyhow::Result<()> {
            for i in 1..=3 {
                n.start_soon(cancellable_waiter(i, &lot, &scopes[i as usize], &record));
                settle().await?;
            }
            assert_eq!(record.take(), ["sleep 1", "sleep 2", "sleep 3"]);
            scopes[2].cancel();
            assert_eq!(lot.len(), 2, "at once");
            settle().await?;
            assert_eq!(record.take(), ["cancelled 2"]);
            lot.unpark_all();
            settle().await?;
            assert_eq!(record.take_sorted(), ["wake 1", "wake 3"]);
            Ok(())
        })
        .await
    });
}

/// E9: blocking in a cancelled scope does not begin.
#[test]
fn a_cancelled_task_does_not_park() {
    nursery_testing::run(async {
        let lot = ParkingLot::<()>::new();
        let scope = CancelScope::new();
        scope.cancel();
        let mut park = lot.park();
        let done = scope
            .enter(async {
                assert!(matches!(poll_once(&mut park).await, Poll::Pending), "it yields");
                assert!(!park.is_parked() && lot.is_empty());
                match park.await {
                    Err(ParkError::Cancelled(cancelled)) => Err::<(), _>(cancelled),
                    other => panic!("{other:?}"),
                }
            })
            .await?;
        assert_eq!(done, None);
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// `parking_lot_repark`
#[test]
fn a_reparked_waiter_is_woken_and_cancelled_in_its_new_lot() {
    orders(async || {
        let [lot1, lot2] = [(); 2].map(|()| ParkingLot::new());
        let record = Record::default();
        let scopes = [(); 4].map(|()| CancelScope::new());
        open_nursery(async |n| -> anyhow::Result<()> {
            for i in 1..=3 {
                n.start_soon(cancellable_waiter(i, &lot1, &scopes[i as usize], &record));
                settle().await?;
            }
            record.take();
            lot1.repark(&lot2, 1);
            assert_eq!((lot1.len(), lot2.len()), (2, 1));
            lot2.unpark_all();
            settle().await?;
            assert_eq!(record.take(), ["wake 1"]);
            lot1.repark_all(&lot2);
            assert_eq!((lot1.len(), lot2.len()), (0, 2));
            scopes[2].cancel();
            settle().await?;
            assert_eq!(lot2.len(), 1);
            assert_eq!(record.take(), ["cancelled 2"]);
            lot2.unpark_all();
            settle().await?;
            assert_eq!(record.take(), ["wake 3"]);
            Ok(())
        })
        .await
    });
}

/// `parking_lot_repark_with_count`
#[test]
fn repark_moves_the_oldest_in_order_to_the_end() {
    orders(async || {
        let [lot1, lot2] = [(); 2].map(|()| ParkingLot::new());
        let record = Record::default();
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(waiter(9, &lot2, &record));
            settle().await?;
            for i in 1..=3 {
                n.start_soon(waiter(i, &lot1, &record));
                settle().await?;
            }
            record.take();
            lot1.repark(&lot2, 0);
            lot1.repark_all(&lot1); // to itself: nothing
            assert_eq!((lot1.len(), lot2.len()), (3, 1));
            lot1.repark(&lot2, 2);
            assert_eq!((lot1.len(), lot2.len()), (1, 3));
            while !lot2.is_empty() {
                lot2.unpark(1);
                settle().await?;
            }
            assert_eq!(record.take(), ["wake 9", "wake 1", "wake 2"]);
            lot1.repark(&lot2, 100); // more than there are
            assert_eq!((lot1.len(), lot2.len()), (0, 1));
            lot2.unpark_all();
            Ok(())
        })
        .await
    });
}

async fn dummy(status: TaskStatus<TaskId>) -> anyhow::Result<()> {
    status.started(lowlevel::current_task());
    Ok(sleep_forever().await?)
}

fn broken(error: ParkError) -> Broken {
    match error {
        ParkError::Broken(broken) => broken,
        other => panic!("not broken: {other}"),
    }
}

/// `parking_lot_breaker_basic`
#[test]
fn a_lot_that_is_broken_stays_so() {
    nursery_testing::run(async {
        let lot = ParkingLot::<()>::new();
        let me = lowlevel::current_task();
        lot.break_lot();
        assert_eq!(lot.broken_by(), [me]);
        lot.break_lot();
        assert_eq!(lot.broken_by(), [me, me]);
        let error = broken(lot.park().await.unwrap_err());
        assert_eq!(error.by, [me, me]);
        let text = "the parking lot was broken by [<task \"main\">, <task \"main\">]";
        assert_eq!(error.to_string(), text);
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// Cancellation goes before other errors (A39).
#[test]
fn a_cancelled_task_that_parks_in_a_broken_lot_is_cancelled() {
    nursery_testing::run(async {
        let lot = ParkingLot::<()>::new();
        lot.break_lot();
        let scope = CancelScope::new();
        scope.cancel();
        let parked = scope.enter(async { anyhow::Ok(lot.park().await?) }).await?;
        assert!(parked.is_none());
        anyhow::Ok(())
    })
    .unwrap();
}

/// `parking_lot_break_parking_tasks`: all who are parked, in order, when the breaker exits.
#[test]
fn a_lot_breaks_when_its_breaker_ends() {
    orders(async || {
        let (lot, record) = (ParkingLot::<()>::new(), Record::default());
        let scope = CancelScope::new();
        open_nursery(async |n| -> anyhow::Result<()> {
            let breaker = n.start_soon(async {
                lot.add_breaker(lowlevel::current_task())?;
                scope.enter(async { Ok(sleep_forever().await?) }).await
            });
            settle().await?;
            let id = breaker.id();
            for i in 0..3 {
                let (lot, record) = (&lot, &record);
                n.start_soon(async move {
                    let error = broken(lot.park().await.unwrap_err());
                    assert_eq!(Some(error.by[0]), id);
                    record.push("broken", i);
                    Ok(())
                });
                settle().await?;
            }
            scope.cancel();
            settle().await?;
            assert_eq!(record.take_sorted(), ["broken 0", "broken 1", "broken 2"]);
            assert!(lot.is_empty());
            broken(lot.park().await.unwrap_err());
            Ok(())
        })
        .await
    });
}

/// A breaker breaks however its task ends: with an error, a panic, or when its nursery is dropped.
#[test]
fn a_lot_breaks_however_its_breaker_ends() {
    for way in 0..4 {
        nursery_testing::run(async {
            let lot = ParkingLot::<()>::new();
            let mut nursery = Box::pin(open_nursery(async |n| -> anyhow::Result<()> {
                n.start_soon(async {
                    lot.add_breaker(lowlevel::current_task())?;
                    match way {
                        0 => Ok(()),
                        1 => anyhow::bail!("failed"),
                        2 => panic!("at the disco"),
                        _ => Ok(sleep_forever().await?),
                    }
                });
                Ok(())
            })) as Pin<Box<dyn Future<Output = anyhow::Result<()>>>>;
            // To its end, or until it waits for ever.
            let mut is_over = false;
            for _ in 0..5 {
                checkpoint().await?;
                is_over = is_over
                    || poll_fn(|cx| {
                        let poll = || nursery.as_mut().poll(cx).is_ready();
                        let poll = catch_unwind(AssertUnwindSafe(poll));
                        Poll::Ready(poll.unwrap_or(true))
                    })
                    .await;
            }
            assert_eq!(is_over, way != 3);
            drop(nursery);
            assert_eq!(lot.broken_by().len(), 1, "way {way}");
            anyhow::Ok(())
        })
        .unwrap();
    }
}

/// `parking_lot_breaker_registration`
#[test]
fn breakers_are_counted() {
    nursery_testing::run(async {
        let lot = ParkingLot::<()>::new();
        let me = lowlevel::current_task();
        assert!(!lot.remove_breaker(me));
        lot.add_breaker(me)?;
        lot.add_breaker(me)?;
        assert!(lot.remove_breaker(me));
        assert!(lot.remove_breaker(me));
        assert!(!lot.remove_breaker(me));
        let other = ParkingLot::<()>::new();
        other.add_breaker(me)?;
        assert!(!lot.remove_breaker(me), "of another lot");

        // A lot that is broken already takes more breakers.
        lot.break_lot();
        let mut child = None;
        open_nursery(async |n| -> anyhow::Result<()> {
            let id = n.start(dummy).await?;
            lot.add_breaker(id)?;
            child = Some(id);
            n.cancel_scope().cancel();
            Ok(())
        })
        .await?;
        assert_eq!(lot.broken_by(), [me, child.unwrap()]);
        anyhow::Ok(())
    })
    .unwrap();
}

/// What was registered twice and removed once still breaks.
#[test]
fn removing_a_breaker_once_takes_one_of_two_back() {
    nursery_testing::run(async {
        let lot = ParkingLot::<()>::new();
        open_nursery(async |n| -> anyhow::Result<()> {
            let id = n.start(dummy).await?;
            lot.add_breaker(id)?;
            lot.add_breaker(id)?;
            assert!(lot.remove_breaker(id));
            n.cancel_scope().cancel();
            Ok(())
        })
        .await?;
        assert_eq!(lot.broken_by().len(), 1);
        anyhow::Ok(())
    })
    .unwrap();
}

/// `parking_lot_breaker_rebreak`
#[test]
fn another_task_may_break_it_again() {
    nursery_testing::run(async {
        let lot = ParkingLot::<()>::new();
        lot.break_lot();
        let child = open_nursery(async |n| -> Result<_, Cancelled> {
            n.start_soon(async {
                lot.break_lot();
                Ok(lowlevel::current_task())
            })
            .await
        })
        .await?;
        assert_eq!(lot.broken_by(), [lowlevel::current_task(), child]);
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// `parking_lot_multiple_breakers_exit`
#[test]
fn every_breaker_that_ends_is_recorded() {
    orders(async || {
        let lot = ParkingLot::<()>::new();
        let mut ids = vec![];
        open_nursery(async |n| -> anyhow::Result<()> {
            for _ in 0..3 {
                let id = n.start(dummy).await?;
                lot.add_breaker(id)?;
                ids.push(id);
            }
            n.cancel_scope().cancel();
            Ok(())
        })
        .await?;
        let mut by = lot.broken_by();
        by.sort_unstable();
        ids.sort_unstable();
        assert_eq!(by, ids);
        Ok(())
    });
}

/// `parking_lot_breaker_register_exited_task`
#[test]
fn a_task_that_has_ended_cannot_be_a_breaker() {
    nursery_testing::run(async {
        let lot = ParkingLot::<()>::new();
        let id = open_nursery(async |n| -> anyhow::Result<_> {
            let id = n.start(dummy).await?;
            n.cancel_scope().cancel();
            Ok(id)
        })
        .await?;
        assert_eq!(lot.add_breaker(id).unwrap_err().by, [id]);
        assert!(!lot.remove_breaker(id));
        assert!(lot.broken_by().is_empty());
        anyhow::Ok(())
    })
    .unwrap();
}

/// `parking_lot_break_itself`: a waiter that is a breaker of its own lot breaks it when it goes.
#[test]
fn a_waiter_may_be_a_breaker_of_its_own_lot() {
    nursery_testing::run(async {
        let lot = ParkingLot::<()>::new();
        open_nursery(async |n| -> anyhow::Result<()> {
            let first = n.start_soon(async {
                lot.add_breaker(lowlevel::current_task())?;
                Ok(lot.park().await?)
            });
            settle().await?;
            n.start_soon(async {
                broken(lot.park().await.unwrap_err());
                Ok(())
            });
            settle().await?;
            first.cancel();
            Ok(())
        })
        .await?;
        assert_eq!(lot.broken_by().len(), 1);
        anyhow::Ok(())
    })
    .unwrap();
}

/// Passes a lot on. Returns what was noted.
fn pass_on<V>(lot: &ParkingLot<V>, value: V, former: TaskId) -> Result<(TaskId, bool), V> {
    let mut noted = None;
    lot.pass_on(value, Some(former), |task, breaks| noted = Some((task, breaks)))?;
    Ok(noted.expect("it was passed on"))
}

/// From owner to owner: as long as others wait, the end of each breaks the lot until it has passed it on.
#[test]
fn who_is_passed_the_lot_is_its_breaker_as_long_as_others_wait() {
    nursery_testing::run(async {
        let lot = &ParkingLot::new();
        let me = lowlevel::current_task();
        lot.add_breaker(me)?;
        open_nursery(async |n| -> anyhow::Result<()> {
            let start = |is_last: bool| {
                n.start_soon(async move {
                    let number: u32 = lot.park().await?;
                    let this = lowlevel::current_task();
                    let passed = pass_on(lot, number + 1, this);
                    assert_eq!(passed.is_err(), is_last);
                    assert!(!lot.remove_breaker(this), "it has been taken out, or never was in");
                    Ok((this, passed.ok()))
                })
            };
            let mut tasks = vec![];
            for is_last in [false, false, true] {
                tasks.push(start(is_last));
                settle().await?; // they park one after the other
            }
            let mut noted = pass_on(lot, 1, me).ok();
            assert!(!lot.remove_breaker(me));
            let mut others_wait = [true, true, false].into_iter();
            for task in tasks {
                let (this, next) = task.await?;
                assert_eq!(noted, Some((this, others_wait.next().unwrap())));
                noted = next;
            }
            assert_eq!(noted, None);
            Ok(())
        })
        .await?;
        assert!(lot.broken_by().is_empty());
        anyhow::Ok(())
    })
    .unwrap();
}

#[test]
fn who_is_passed_the_lot_and_ends_breaks_it() {
    nursery_testing::run(async {
        let lot = &ParkingLot::<()>::new();
        let first = open_nursery(async |n| -> anyhow::Result<_> {
            let first = n.start_soon(async {
                lot.park().await?;
                Ok(lowlevel::current_task())
            });
            settle().await?;
            let second = n.start_soon(async {
                let Err(ParkError::Broken(broken)) = lot.park().await else { panic!("not woken") };
                Ok(broken.by)
            });
            settle().await?;
            // Who was no breaker is not asked to be none any more.
            lot.pass_on((), None, |_, breaks| assert!(breaks)).unwrap();
            let first = first.await?;
            assert_eq!(second.await?, [first]);
            Ok(first)
        })
        .await?;
        assert_eq!(lot.broken_by(), [first]);
        anyhow::Ok(())
    })
    .unwrap();
}

#[test]
fn a_lot_that_nobody_waits_for_is_not_passed_on() {
    nursery_testing::run(async {
        let lot = ParkingLot::new();
        let me = lowlevel::current_task();
        lot.add_breaker(me)?;
        assert_eq!(lot.pass_on(5, Some(me), |_, _| panic!("to nobody")), Err(5));
        assert!(lot.remove_breaker(me), "it is as it was");
        anyhow::Ok(())
    })
    .unwrap();
}

/// The wait goes on, but its task's end has been already.
#[test]
fn a_task_that_ended_and_left_its_wait_is_no_breaker() {
    nursery_testing::run(async {
        let lot = &ParkingLot::new();
        let me = lowlevel::current_task();
        lot.add_breaker(me)?;
        let left = &RefCell::new(None);
        open_nursery(async |n| -> anyhow::Result<()> {
            let gone = n.start_soon(async {
                let mut park = lot.park();
                assert!(poll_once(&mut park).await.is_pending());
                left.replace(Some(park));
                Ok(lowlevel::current_task())
            });
            let gone = gone.await?;
            let other = n.start_soon(async { Ok(lot.park().await?) });
            settle().await?;
            assert_eq!(pass_on(lot, 1, me), Ok((gone, false)));
            assert!(!lot.remove_breaker(me));
            assert_eq!(left.take().expect("left").await?, 1);
            lot.unpark_one(2).unwrap();
            assert_eq!(other.await?, 2);
            Ok(())
        })
        .await?;
        assert!(lot.broken_by().is_empty());
        anyhow::Ok(())
    })
    .unwrap();
}

/// trio's `reschedule`: a value and an error are carried from one task to another.
#[test]
fn what_is_handed_over_may_be_a_value_or_an_error() {
    orders(async || {
        let [lot1, lot2] = [(); 2].map(|()| ParkingLot::<Result<i32, &str>>::new());
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                assert_eq!(lot1.park().await?, Ok(0));
                settle().await?;
                lot2.unpark_one(Err("error message")).unwrap();
                Ok(())
            });
            settle().await?;
            n.start_soon(async {
                lot1.unpark_one(Ok(0)).unwrap();
                assert_eq!(lot2.park().await?, Err("error message"));
                Ok(())
            });
            Ok(())
        })
        .await
    });
}

/// Values arrive in the order of the waiters, also if several are handed over before anybody runs.
#[test]
fn each_waiter_gets_its_own_value() {
    orders(async || {
        let lot = ParkingLot::<u32>::new();
        let got = RefCell::new(BTreeMap::new());
        open_nursery(async |n| -> anyhow::Result<()> {
            for i in 0..5_u32 {
                let (lot, got) = (&lot, &got);
                n.start_soon(async move {
                    let value = lot.park().await?;
                    got.borrow_mut().insert(i, value);
                    Ok(())
                });
                settle().await?;
            }
            for i in 0..5 {
                lot.unpark_one(i * 10).unwrap();
            }
            assert_eq!(lot.unpark_one(99), Err(99));
            Ok(())
        })
        .await?;
        let expected: BTreeMap<u32, u32> = (0..5).map(|i| (i, i * 10)).collect();
        assert_eq!(got.take(), expected);
        Ok(())
    });
}

/// A33: wake beats a later cancellation.
#[test]
fn a_value_that_was_handed_over_before_the_cancellation_arrives() {
    orders(async || {
        let lot = ParkingLot::<&str>::new();
        let scope = CancelScope::new();
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                let got = scope
                    .enter(async {
                        let value = lot.park().await?;
                        assert_eq!(value, "handed");
                        checkpoint().await?; // here it arrives
                        anyhow::Ok(())
                    })
                    .await?;
                assert!(got.is_none());
                Ok(())
            });
            settle().await?;
            lot.unpark_one("handed").unwrap();
            scope.cancel();
            Ok(())
        })
        .await
    });
}

/// A34: cancellation beats a later wake, which goes to the next.
#[test]
fn a_waiter_that_was_cancelled_gets_nothing_any_more() {
    orders(async || {
        let lot = ParkingLot::<&str>::new();
        let scope = CancelScope::new();
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                let got = scope.enter(async { anyhow::Ok(lot.park().await?) }).await?;
                assert_eq!(got, None);
                Ok(())
            });
            settle().await?;
            let next = n.start_soon(async { Ok(lot.park().await?) });
            settle().await?;
            scope.cancel();
            assert_eq!(Some(lot.unpark_one("to the next").unwrap()), next.id());
            assert_eq!(lot.unpark_one("to nobody"), Err("to nobody"));
            assert_eq!(next.await?, "to the next");
            Ok(())
        })
        .await
    });
}

/// A permit that passes itself on when it is dropped.
struct Permit {
    lot: Rc<ParkingLot<Permit>>,
    free: Rc<Cell<u32>>,
    is_valid: bool,
}

impl Permit {
    fn new(lot: &Rc<ParkingLot<Permit>>, free: &Rc<Cell<u32>>) -> Self {
        Permit { lot: lot.clone(), free: free.clone(), is_valid: true }
    }

    fn release(lot: &Rc<ParkingLot<Permit>>, free: &Rc<Cell<u32>>) {
        if let Err(mut permit) = lot.unpark_one(Permit::new(lot, free)) {
            free.set(free.get() + 1);
            permit.is_valid = false;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.is_valid {
            Permit::release(&self.lot, &self.free);
        }
    }
}

/// A hand-off to a waiter that is dropped before it runs goes to the next waiter.
#[test]
fn a_value_handed_to_a_waiter_that_is_dropped_passes_itself_on() {
    orders(async || {
        let (lot, free) = (Rc::new(ParkingLot::new()), Rc::new(Cell::new(0)));
        open_nursery(async |n| -> anyhow::Result<()> {
            let mut dropped: Vec<Park<'_, Permit>> = vec![lot.park(), lot.park(), lot.park()];
            for park in &mut dropped {
                assert!(poll_once(park).await.is_pending());
            }
            let last = n.start_soon(async {
                let permit = lot.park().await?;
                assert_eq!(permit.free.get(), 0);
                Ok(())
            });
            settle().await?;
            assert_eq!(lot.len(), 4);
            Permit::release(&lot, &free);
            assert_eq!(lot.len(), 3);
            drop(dropped); // the first, which has it; then the second …
            assert_eq!(free.get(), 0);
            assert_eq!(lot.len(), 0);
            last.await?;
            assert_eq!(free.get(), 1, "the last gave it back");
            Ok(())
        })
        .await
    });
}

/// The same when the task itself is dropped, with its nursery.
#[test]
fn a_value_handed_to_a_task_that_is_dropped_passes_itself_on() {
    nursery_testing::run(async {
        let (lot, free) = (Rc::new(ParkingLot::new()), Rc::new(Cell::new(0)));
        let mut nursery = Box::pin(open_nursery(async |n| -> anyhow::Result<()> {
            for _ in 0..3 {
                let lot = lot.clone();
                n.start_soon(async move {
                    drop(lot.park().await?);
                    Ok(())
                });
            }
            Ok(sleep_forever().await?)
        })) as Pin<Box<dyn Future<Output = anyhow::Result<()>>>>;
        while lot.len() < 3 {
            assert!(poll_once(&mut nursery).await.is_pending());
            checkpoint().await?;
        }
        Permit::release(&lot, &free);
        drop(nursery);
        assert_eq!((lot.len(), free.get()), (0, 1));
        anyhow::Ok(())
    })
    .unwrap();
}

/// A waiter that is dropped while it waits just leaves.
#[test]
fn a_waiter_that_is_dropped_leaves_the_queue() {
    nursery_testing::run(async {
        let lot = ParkingLot::<u8>::new();
        let mut parks = vec![lot.park(), lot.park(), lot.park()];
        for park in &mut parks {
            assert!(!park.is_parked());
            assert!(poll_once(park).await.is_pending());
            assert!(park.is_parked());
        }
        drop(parks.remove(1));
        assert_eq!(lot.len(), 2);
        drop(parks.remove(0));
        lot.unpark_one(7).unwrap();
        assert_eq!(parks.remove(0).await?, 7);
        drop(lot.park()); // never polled
        assert_eq!(lot.len(), 0);
        anyhow::Ok(())
    })
    .unwrap();
}

/// Every fate of a waiter that has been moved, also over several lots and back.
#[test]
fn a_reparked_waiter_is_handed_to_cancelled_broken_or_dropped() {
    #[derive(Debug)]
    struct Noisy(Rc<Cell<u32>>);
    impl Drop for Noisy {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    for path in [&[1][..], &[1, 2], &[1, 0], &[1, 0, 1], &[1, 2, 0, 2, 1, 0]] {
        nursery_testing::run(async {
            let lots = [(); 3].map(|()| ParkingLot::<Noisy>::new());
            let drops = Rc::new(Cell::new(0));
            let travel = || {
                let mut at = 0;
                for &to in path {
                    lots[at].repark_all(&lots[to]);
                    at = to;
                }
                assert_eq!(lots.iter().map(ParkingLot::len).sum::<usize>(), lots[at].len());
                &lots[at]
            };
            // Handed to.
            let mut park = lots[0].park();
            assert!(poll_once(&mut park).await.is_pending());
            travel().unpark_one(Noisy(drops.clone())).unwrap();
            assert_eq!(drops.get(), 0);
            drop(park.await?);
            assert_eq!(drops.replace(0), 1);
            // Handed to, then dropped.
            let mut park = lots[0].park();
            assert!(poll_once(&mut park).await.is_pending());
            travel().unpark_one(Noisy(drops.clone())).unwrap();
            drop(park);
            assert_eq!(drops.replace(0), 1);
            // Dropped.
            let mut park = lots[0].park();
            assert!(poll_once(&mut park).await.is_pending());
            assert_eq!(travel().len(), 1);
            drop(park);
            assert!(lots.iter().all(ParkingLot::is_empty));
            // Cancelled.
            let limit = Duration::from_secs(1);
            let parked = move_on_after(limit, async {
                let mut park = lots[0].park();
                assert!(poll_once(&mut park).await.is_pending());
                travel();
                anyhow::Ok(park.await?)
            });
            assert!(parked.await?.is_none());
            assert!(lots.iter().all(ParkingLot::is_empty));
            // Broken, by the lot it is in.
            let mut park = lots[0].park();
            assert!(poll_once(&mut park).await.is_pending());
            let last = travel();
            last.break_lot();
            assert_eq!(broken(park.await.unwrap_err()).by, [lowlevel::current_task()]);
            assert_eq!(drops.get(), 0);
            anyhow::Ok(())
        })
        .unwrap();
    }
}

/// Waiters that travelled different ways do not get each other's values.
#[test]
fn values_find_waiters_that_have_been_moved_about() {
    orders(async || {
        let lots = [(); 3].map(|()| ParkingLot::<usize>::new());
        let mut parks: Vec<_> = (0..6).map(|_| lots[0].park()).collect();
        for park in &mut parks {
            assert!(poll_once(park).await.is_pending());
        }
        lots[0].repark(&lots[1], 4); // 0 1 2 3 | 4 5
        lots[1].repark(&lots[2], 2); // 2 3 in the second, 0 1 in the third
        lots[2].repark(&lots[0], 1); // 4 5 0 in the first
        lots[0].repark(&lots[1], 2); // 2 3 4 5
        for (lot, values) in [(0, &[0][..]), (1, &[2, 3, 4, 5]), (2, &[1])] {
            for &value in values {
                lots[lot].unpark_one(value).unwrap();
            }
            assert!(lots[lot].is_empty());
        }
        for (i, park) in parks.into_iter().enumerate() {
            assert_eq!(park.await?, i);
        }
        Ok(())
    });
}

/// Hand-over while others come and go: nothing is lost, nobody waits for ever, in any order.
#[test]
fn permits_are_neither_lost_nor_doubled() {
    orders(async || {
        let (lot, free) = (Rc::new(ParkingLot::new()), Rc::new(Cell::new(2)));
        let (in_use, done) = (Cell::new(0), Cell::new(0));
        open_nursery(async |n| -> anyhow::Result<()> {
            for i in 0..12_u64 {
                let (lot, free, in_use, done) = (&lot, &free, &in_use, &done);
                n.start_soon(async move {
                    let limit = Duration::from_millis(1 + i % 5);
                    let used = move_on_after(limit, async {
                        let permit = if free.get() > 0 {
                            free.set(free.get() - 1);
                            Permit::new(lot, free)
                        } else {
                            lot.park().await?
                        };
                        in_use.set(in_use.get() + 1);
                        assert!(in_use.get() <= 2);
                        checkpoint().await.ok();
                        let nap = nursery::sleep(Duration::from_millis(i % 3)).await;
                        in_use.set(in_use.get() - 1);
                        drop(permit);
                        anyhow::Ok(nap?)
                    });
                    used.await?;
                    done.set(done.get() + 1);
                    Ok(())
                });
            }
            Ok(())
        })
        .await?;
        assert_eq!((lot.len(), in_use.get(), free.get(), done.get()), (0, 0, 2, 12));
        Ok(())
    });
}

/// The words of `park_as`, and where it is called, are in the tree.
#[test]
fn the_tree_says_what_is_waited_for_and_where() {
    nursery_testing::run(async {
        let lot = ParkingLot::<()>::new();
        open_nursery(async |n| -> anyhow::Result<()> {
            let line = line!() + 1;
            n.start_soon(async { Ok(lot.park_as("a permit").await?) }).set_name("waiter");
            settle().await?;
            let expected = format!("waits for a permit ({}:{line})", file!());
            let tree = tree().to_string();
            assert!(tree.contains(&expected), "{tree}");
            lot.unpark_all();
            Ok(())
        })
        .await
    })
    .unwrap();
}

/// A lot serves one run at a time.
#[test]
fn a_lot_used_by_two_runs_at_once_panics_with_advice() {
    let lot = Rc::new(ParkingLot::<&str>::new());
    let mut first = pin!(Test::new().builder().guest(async {
        let token = lowlevel::token(); // somebody outside may wake it
        let value = lot.park().await?;
        drop(token);
        anyhow::Ok(value)
    }));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(first.as_mut().poll(&mut cx).is_pending());
    let message =
        panic_message(|| nursery_testing::run(async { anyhow::Ok(lot.park().await?) }).map(|_| ()));
    assert!(message.contains("where tasks of another run wait"), "{message}");
    assert!(message.contains("`nursery::cancellable`"), "{message}");
    // Neither run nor lot is harmed; who is in no task of the run, or in another run, may unpark.
    nursery_testing::run(async {
        lot.unpark_one("from another run").unwrap();
        Ok::<_, Cancelled>(())
    })
    .unwrap();
    match first.as_mut().poll(&mut cx) {
        Poll::Ready(Ok(value)) => assert_eq!(value, "from another run"),
        other => panic!("{other:?}"),
    }
    // And one after the other is fine.
    nursery_testing::run(async {
        open_nursery(async |n| -> anyhow::Result<()> {
            let child = n.start_soon(async { Ok(lot.park().await?) });
            settle().await?;
            lot.unpark_one("in the next run").unwrap();
            assert_eq!(child.await?, "in the next run");
            Ok(())
        })
        .await
    })
    .unwrap();
}

/// A `Park` that outlives its run is nobody's waiter any more, whatever happens to it then.
#[test]
fn a_waiter_that_outlives_its_run_does_not_spoil_the_lot_for_the_next_run() {
    let lot = ParkingLot::<u8>::new();
    for is_polled in [false, true] {
        let mut old = [lot.park(), lot.park()];
        let [waits, woken] = &mut old;
        nursery_testing::run(async {
            assert!(poll_once(woken).await.is_pending());
            assert!(poll_once(waits).await.is_pending());
            lot.unpark_one(1).unwrap();
            Ok::<_, Cancelled>(())
        })
        .unwrap();
        assert_eq!(lot.unpark_one(2), Err(2), "nobody is there");
        nursery_testing::run(async {
            open_nursery(async |n| -> anyhow::Result<()> {
                let children = [(); 2].map(|()| n.start_soon(async { Ok(lot.park().await?) }));
                settle().await?;
                assert_eq!(lot.len(), 2);
                lot.unpark_one(3).unwrap();
                lot.unpark_one(4).unwrap();
                if is_polled {
                    for park in &mut old {
                        assert!(!matches!(poll_once(park).await, Poll::Ready(Ok(3 | 4))));
                    }
                }
                drop(old); // what the others have been handed is not theirs
                let mut got = vec![];
                for child in children {
                    got.push(child.await?);
                }
                got.sort_unstable();
                assert_eq!(got, [3, 4]);
                Ok(())
            })
            .await
        })
        .unwrap();
    }
}

/// What a destructor takes back is taken back, also when the whole nursery is dropped.
#[test]
fn a_breaker_that_its_destructor_removes_breaks_nothing() {
    struct Guard<'a>(&'a ParkingLot, TaskId);
    impl Drop for Guard<'_> {
        fn drop(&mut self) {
            assert!(self.0.remove_breaker(self.1));
        }
    }
    for is_dropped in [false, true] {
        nursery_testing::run(async {
            let lot = ParkingLot::new();
            let mut nursery = Box::pin(open_nursery(async |n| -> anyhow::Result<()> {
                n.start_soon(async {
                    lot.add_breaker(lowlevel::current_task())?;
                    let _guard = Guard(&lot, lowlevel::current_task());
                    Ok(sleep_forever().await?)
                });
                for _ in 0..2 {
                    checkpoint().await?;
                }
                n.cancel_scope().cancel();
                Ok(())
            })) as Pin<Box<dyn Future<Output = anyhow::Result<()>>>>;
            if is_dropped {
                for _ in 0..2 {
                    assert!(poll_once(&mut nursery).await.is_pending());
                    checkpoint().await?;
                }
                drop(nursery);
            } else {
                nursery.await?;
            }
            assert!(lot.broken_by().is_empty());
            anyhow::Ok(())
        })
        .unwrap();
    }
}

/// Waking everybody is linear, and reparking too; each of them gets its own value.
#[test]
fn many_waiters_are_moved_and_woken_at_once() {
    const COUNT: usize = if cfg!(miri) { 100 } else { 5_000 };
    nursery_testing::run(async {
        let [lot, other] = [(); 2].map(|()| ParkingLot::<usize>::new());
        let sum = Cell::new(0);
        open_nursery(async |n| -> anyhow::Result<()> {
            for _ in 0..COUNT {
                n.start_soon(async {
                    let value = lot.park().await?;
                    sum.set(sum.get() + value);
                    Ok(())
                });
            }
            settle().await?;
            lot.repark_all(&other);
            other.repark(&lot, COUNT / 2);
            for i in 0..COUNT / 2 {
                lot.unpark_one(i).unwrap();
                other.unpark_one(COUNT / 2 + i).unwrap();
            }
            assert!(lot.is_empty() && other.is_empty());
            Ok(())
        })
        .await?;
        assert_eq!(sum.get(), COUNT * (COUNT - 1) / 2);
        anyhow::Ok(())
    })
    .unwrap();
}
