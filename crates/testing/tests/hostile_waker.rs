//! `hostile`: wakers that use the run when they are woken and dropped, and what they find.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use nursery::lowlevel::{self, ParkingLot};
use nursery::{
    CancelScope, Cancelled, cancellable, checkpoint, move_on_after, open_nursery, sleep,
    sleep_forever,
};
use nursery_testing::{Strike, Test, hostile, hostile_with, orders};

const SECOND: Duration = Duration::from_secs(1);

/// Wakes, and drops.
type Count = Rc<Cell<(u32, u32)>>;

/// Mischief that counts.
fn counter() -> (Count, impl Fn(Strike) + 'static) {
    let count = Rc::new(Cell::new((0, 0)));
    let shared = count.clone();
    let mischief = move |strike| {
        let (wakes, drops) = shared.get();
        shared.set(match strike {
            Strike::Wake => (wakes + 1, drops),
            _ => (wakes, drops + 1),
        });
    };
    (count, mischief)
}

#[test]
fn wakers_wake_and_strike() {
    let (count, mischief) = counter();
    let future = hostile_with(mischief, async {
        checkpoint().await?;
        sleep(SECOND).await?;
        Ok::<_, Cancelled>(42)
    });
    assert!(format!("{future:?}").contains("is_done: false"));
    assert_eq!(nursery_testing::run(future).unwrap(), 42);
    let (wakes, drops) = count.get();
    assert_eq!(wakes, 2, "by the checkpoint, by the timer");
    assert_eq!(drops, 3, "one for each poll");
    assert_eq!(Rc::strong_count(&count), 1, "the mischief has ended");
}

/// A primitive that wakes under a borrow: what it is made to find.
#[test]
fn what_wakes_under_a_borrow_is_found() {
    #[derive(Default)]
    struct Event {
        state: RefCell<(bool, Vec<Waker>)>,
    }
    impl Event {
        fn set(&self) {
            let mut state = self.state.borrow_mut();
            state.0 = true;
            for waker in state.1.drain(..) {
                waker.wake(); // under the borrow
            }
        }
        fn is_set(&self) -> bool {
            self.state.borrow().0
        }
    }
    let event = Rc::new(Event::default());
    let wait = std::future::poll_fn({
        let event = event.clone();
        move |cx| {
            if event.is_set() {
                return Poll::Ready(());
            }
            event.state.borrow_mut().1.push(cx.waker().clone());
            Poll::Pending
        }
    });
    let looks = event.clone();
    let mischief = move |_| {
        looks.is_set();
    };
    let found = catch_unwind(AssertUnwindSafe(|| {
        nursery_testing::run(open_nursery(async |n| {
            n.start_soon(hostile_with(mischief, cancellable(wait)));
            checkpoint().await?;
            checkpoint().await?;
            event.set();
            Ok::<(), Cancelled>(())
        }))
    }));
    let text = *found.unwrap_err().downcast::<String>().unwrap();
    assert!(text.contains("already mutably borrowed"), "{text}");
}

/// Cancelled, out of time, unparked, woken by a thread, with wakers that look at everything there is.
#[test]
fn whatever_wakes_a_task_of_the_core_does_it_with_nothing_borrowed() {
    orders(10, async || {
        let lot = ParkingLot::<u32>::new();
        let scope = CancelScope::new();
        open_nursery(async |n| {
            n.start_soon(hostile(async {
                open_nursery(async |n| {
                    n.start_soon(hostile(async {
                        assert_eq!(lot.park().await?, 7);
                        Ok(())
                    }));
                    n.start_soon(async { anyhow::Ok(sleep(SECOND).await?) });
                    Ok(())
                })
                .await
            }));
            n.start_soon(hostile(async {
                let limited = move_on_after(SECOND, hostile(sleep_forever())).await?;
                assert!(limited.is_none());
                Ok(())
            }));
            n.start_soon(hostile(async { Ok(scope.enter(sleep_forever()).await.map(drop)?) }));
            n.start_soon(hostile(async {
                let (tell, told) = std::sync::mpsc::channel::<Waker>();
                let thread = thread::spawn(move || told.recv().unwrap().wake());
                let mut is_asked = false;
                let busy = lowlevel::busy();
                cancellable(std::future::poll_fn(move |cx| {
                    if std::mem::replace(&mut is_asked, true) {
                        return Poll::Ready(());
                    }
                    tell.send(cx.waker().clone()).unwrap();
                    Poll::Pending
                }))
                .await?;
                drop(busy);
                thread.join().unwrap();
                Ok(())
            }));
            lowlevel::wait_all_tasks_blocked(Duration::ZERO).await?;
            scope.cancel();
            lot.unpark_one(7).unwrap();
            anyhow::Ok(())
        })
        .await
    });
}

/// It takes part in its own waking.
#[test]
fn mischief_may_cancel_what_it_is_woken_for() {
    let scope = CancelScope::new();
    let handle = scope.clone();
    let ended = Test::new().run(async {
        let body = async {
            checkpoint().await?; // woken, it is cancelled
            checkpoint().await
        };
        scope.enter(hostile_with(move |_| handle.cancel(), body)).await
    });
    assert_eq!(ended.unwrap(), None);
}

#[test]
fn the_mischief_of_one_is_not_that_of_another() {
    let ((a, for_a), (b, for_b)) = (counter(), counter());
    nursery_testing::run(async {
        let inner = hostile_with(for_b, checkpoint());
        hostile_with(for_a, inner).await?;
        assert_eq!((a.get().0, b.get().0), (1, 1), "the inner wakes the outer");
        checkpoint().await
    })
    .unwrap();
    assert_eq!((a.get().0, b.get().0), (1, 1));
}
