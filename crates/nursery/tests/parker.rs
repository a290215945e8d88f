//! `Parker`: where the thread of a run waits.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use nursery::lowlevel::{Parker, Spot, set_parker};
use nursery::{
    Builder, CancelScope, Cancelled, Clock, SystemClock, now, open_nursery, sleep, sleep_forever,
};

type Result<T = ()> = std::result::Result<T, Cancelled>;

/// Waits in a condition variable, unless a function says that something has happened.
struct InCondvar<F> {
    on_park: F,
    bell: Arc<Bell>,
    times: Cell<usize>,
}

#[derive(Default)]
struct Bell {
    is_rung: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.is_rung.lock().unwrap() = true;
        self.changed.notify_one();
    }
}

fn in_condvar<F: Fn(Option<Instant>) -> bool>(on_park: F) -> Rc<InCondvar<F>> {
    Rc::new(InCondvar { on_park, bell: Arc::default(), times: Cell::new(0) })
}

impl<F: Fn(Option<Instant>) -> bool> Parker for InCondvar<F> {
    fn park(&self, until: Option<Instant>) {
        self.times.set(self.times.get() + 1);
        let has_happened = (self.on_park)(until);
        let limit = until.map(|at| at.saturating_duration_since(SystemClock::new().now()));
        let is_rung = self.bell.is_rung.lock().unwrap();
        let is_quiet = |is_rung: &mut bool| !*is_rung && !has_happened;
        let mut is_rung = match limit {
            Some(limit) => {
                self.bell.changed.wait_timeout_while(is_rung, limit, is_quiet).unwrap().0
            }
            None => self.bell.changed.wait_while(is_rung, is_quiet).unwrap(),
        };
        *is_rung = false;
    }

    fn unparker(&self) -> Waker {
        self.bell.clone().into()
    }
}

#[test]
fn it_waits_for_deadlines() -> Result {
    let asked = Rc::new(RefCell::new(vec![]));
    let parker = in_condvar({
        let asked = asked.clone();
        move |until| {
            asked.borrow_mut().push(until);
            false
        }
    });
    nursery::run(async {
        let before = now();
        assert!(set_parker(parker.clone()));
        sleep(Duration::from_millis(2)).await?;
        assert!(now() >= before + Duration::from_millis(2));
        Ok::<(), Cancelled>(())
    })?;
    let deadlines: Vec<Instant> = asked.take().into_iter().flatten().collect();
    assert!(!deadlines.is_empty() && deadlines.iter().all(|at| *at == deadlines[0]));
    assert_eq!(Rc::strong_count(&parker), 1, "the run has let go of it");
    Ok(())
}

/// Each time the thread is about to wait, another one cancels what it waits for.
#[test]
fn other_threads_end_its_wait() -> Result {
    let scope = Rc::new(RefCell::new(None::<nursery::RemoteScope>));
    let parker = in_condvar({
        let scope = scope.clone();
        move |_| {
            let remote = scope.take();
            thread::spawn(move || remote.iter().for_each(nursery::RemoteScope::cancel));
            false
        }
    });
    nursery::run(async {
        assert!(set_parker(parker.clone()));
        for _ in 0..100 {
            let own = CancelScope::new();
            scope.replace(Some(own.remote()));
            assert!(own.enter(sleep_forever()).await?.is_none());
        }
        Ok::<(), Cancelled>(())
    })?;
    assert!(parker.times.get() >= 100);
    Ok(())
}

/// It is called inside the run, and tells its tasks what has happened; in an order that is kept.
#[test]
fn it_wakes_tasks_in_its_order() -> Result {
    let spots: Rc<[Spot; 6]> = Rc::default();
    let woken = RefCell::new(vec![]);
    let parker = in_condvar({
        let spots = spots.clone();
        move |_| {
            let all_wait = spots.iter().all(Spot::is_taken);
            all_wait && spots.iter().rev().all(Spot::unpark)
        }
    });
    nursery::run(async {
        assert!(set_parker(parker.clone()));
        for _ in 0..20 {
            open_nursery(async |n| {
                for (i, spot) in spots.iter().enumerate() {
                    let woken = &woken;
                    n.start_soon(async move {
                        spot.park_as("news").outside().await?;
                        woken.borrow_mut().push(i);
                        Ok(())
                    });
                }
                Ok::<(), Cancelled>(())
            })
            .await?;
            assert_eq!(woken.take(), [5, 4, 3, 2, 1, 0]);
        }
        Ok::<(), Cancelled>(())
    })
}

/// What tasks wake, they wake in no order that can be relied on.
#[test]
fn what_tasks_wake_is_turned_round_or_not() -> Result {
    let parker = in_condvar(|_| false);
    let orders = RefCell::new([0, 0]);
    nursery::run(async {
        assert!(set_parker(parker.clone()));
        for _ in 0..100 {
            sleep(Duration::from_micros(1)).await?; // it has parked
            let first = Cell::new(None);
            open_nursery(async |n| {
                for i in 0..2 {
                    let first = &first;
                    n.start_soon(async move {
                        first.set(first.get().or(Some(i)));
                        Ok(())
                    });
                }
                Ok::<(), Cancelled>(())
            })
            .await?;
            orders.borrow_mut()[first.get().expect("both ran")] += 1;
        }
        Ok::<(), Cancelled>(())
    })?;
    assert!(!orders.take().contains(&0), "always the same");
    Ok(())
}

#[test]
fn a_run_has_one_and_a_guest_none() -> Result {
    let parker = in_condvar(|_| false);
    let main = async |is_guest: bool| {
        assert_eq!(set_parker(parker.clone()), !is_guest);
        assert!(!set_parker(parker.clone()), "it has one");
        sleep(Duration::from_millis(1)).await
    };
    nursery::run(main(false))?;
    assert!(parker.times.get() > 0);
    parker.times.set(0);
    futures_lite::future::block_on(Builder::new().guest(main(true)))?;
    assert_eq!(parker.times.get(), 0);
    Ok(())
}

#[test]
fn its_panic_is_that_of_the_run() {
    let parker = in_condvar(|_| panic!("no way to wait"));
    let run = || nursery::run(async { sleep_forever_in(parker.clone()).await });
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"no way to wait"));
    assert_eq!(Rc::strong_count(&parker), 1);
}

async fn sleep_forever_in(parker: Rc<dyn Parker>) -> Result {
    assert!(set_parker(parker));
    sleep_forever().await
}
