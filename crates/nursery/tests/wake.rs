//! Wake-ups from the run itself, through wakers, from other threads, and several of them at once.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use nursery::lowlevel::{ParkingLot, statistics, wait_all_tasks_blocked};
use nursery::{Builder, Cancelled, open_nursery, sleep_forever};
use nursery_testing::Test;

/// Under many seeds, with a budget of 1, as in tests, and of many, as in production.
fn everywhere(main: impl AsyncFn() -> anyhow::Result<()>) {
    for seed in 0..if cfg!(miri) { 1 } else { 50 } {
        for budget in [1, 128] {
            let builder = Test::new().seed(seed).builder().checkpoint_budget(budget);
            builder.run(main()).unwrap_or_else(|e| panic!("seed {seed}, budget {budget}: {e:#}"));
        }
    }
}

async fn settled() -> anyhow::Result<()> {
    Ok(wait_all_tasks_blocked(Duration::ZERO).await?)
}

/// Waits in `lot`, and shows the waker it is polled with.
async fn parked(
    lot: &ParkingLot,
    waker: &RefCell<Option<Waker>>,
    polls: &Cell<usize>,
) -> anyhow::Result<()> {
    let mut park = pin!(lot.park());
    poll_fn(|cx| {
        polls.set(polls.get() + 1);
        waker.replace(Some(cx.waker().clone()));
        park.as_mut().poll(cx)
    })
    .await?;
    Ok(())
}

fn in_a_thread(waker: Waker) {
    std::thread::spawn(move || waker.wake()).join().unwrap();
}

/// How a task is woken, besides by the run.
const WAYS: [fn(Waker); 3] = [Waker::wake, in_a_thread, |_| ()];

/// Something whose drops are counted.
struct Value(Rc<Cell<usize>>);

impl Drop for Value {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn a_task_that_is_woken_in_two_ways_at_once_ends_once_with_its_value() {
    for (before, after) in WAYS.iter().flat_map(|a| WAYS.map(|b| (*a, b))) {
        everywhere(async || {
            let (lot, waker, polls) = (ParkingLot::new(), RefCell::default(), Cell::new(0));
            let drops = Rc::new(Cell::new(0));
            open_nursery(async |n| {
                let child = n.start_soon(async {
                    parked(&lot, &waker, &polls).await?;
                    anyhow::Ok(Value(drops.clone()))
                });
                settled().await?;
                let woken = waker.take().unwrap();
                before(woken.clone());
                lot.unpark_all();
                after(woken);
                let value = child.await?;
                assert_eq!(drops.get(), 0);
                drop(value);
                anyhow::Ok(())
            })
            .await?;
            assert_eq!(drops.get(), 1);
            assert!((2..=3).contains(&polls.get()), "{}", polls.get());
            assert_eq!(statistics().tasks_living, 1);
            Ok(())
        });
    }
}

#[test]
fn a_task_whose_handle_is_gone_drops_its_value_where_it_ends() {
    for way in WAYS {
        everywhere(async || {
            let (lot, waker, polls) = (ParkingLot::new(), RefCell::default(), Cell::new(0));
            let drops = Rc::new(Cell::new(0));
            open_nursery(async |n| {
                n.start_soon(async {
                    parked(&lot, &waker, &polls).await?;
                    anyhow::Ok(Value(drops.clone()))
                });
                settled().await?;
                way(waker.take().unwrap());
                lot.unpark_all();
                anyhow::Ok(())
            })
            .await?;
            assert_eq!(drops.get(), 1);
            Ok(())
        });
    }
}

/// Another thread has woken the task, and it ends in a step of the run's before that wake-up arrives. Until then the
/// nursery stays open; here it is dropped first.
#[test]
fn a_value_that_is_on_its_way_home_is_dropped_with_its_nursery() {
    for seed in 0..if cfg!(miri) { 2 } else { 20 } {
        let drops = Rc::new(Cell::new(0));
        let result = Test::new().seed(seed).run(async {
            let (lot, waker, polls) = (ParkingLot::new(), RefCell::default(), Cell::new(0));
            let kept = RefCell::new(None);
            {
                let mut nursery = pin!(open_nursery(async |n| {
                    let child = n.start_soon(async {
                        parked(&lot, &waker, &polls).await?;
                        anyhow::Ok(Value(drops.clone()))
                    });
                    kept.replace(Some(child.id()));
                    let _child = child;
                    Ok(sleep_forever().await?)
                }));
                let mut turns = 0;
                poll_fn(|cx| {
                    if polls.get() == 1 {
                        in_a_thread(waker.take().unwrap());
                        lot.unpark_all();
                    }
                    turns += 1;
                    match nursery.as_mut().poll(cx) {
                        Poll::Ready(result) => Poll::Ready(result),
                        Poll::Pending if turns > 3 || polls.get() > 1 => Poll::Ready(Ok(())),
                        Poll::Pending => {
                            cx.waker().wake_by_ref();
                            Poll::Pending
                        }
                    }
                })
                .await?;
            }
            assert_eq!(drops.get(), 1, "seed {seed}");
            assert_eq!(statistics().tasks_living, 1);
            anyhow::Ok(())
        });
        result.unwrap();
    }
}

async fn yield_often(times: usize, steps: &Cell<usize>) -> Result<(), Cancelled> {
    let mut left = times;
    poll_fn(|cx| {
        steps.set(steps.get() + 1);
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
    Ok(())
}

/// A nursery that has the run to itself makes many turns in one poll; what shares its task is not seen by the run.
#[test]
fn what_shares_a_task_with_a_busy_nursery_waits_a_bounded_number_of_steps() {
    const STEPS: usize = if cfg!(miri) { 500 } else { 10_000 };
    let steps = Cell::new(0);
    let waits = Cell::new(0);
    Builder::new()
        .seed(1)
        .run(async {
            let busy = open_nursery(async |n| -> Result<(), Cancelled> {
                n.start_soon(yield_often(STEPS, &steps));
                Ok(())
            });
            let mut last = 0;
            let watched = poll_fn(|cx| {
                let now = steps.get();
                waits.set(waits.get().max(now - last));
                last = now;
                if now > STEPS / 10 * 9 {
                    return Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            });
            futures_util::join!(busy, watched).0
        })
        .unwrap();
    assert_eq!(steps.get(), STEPS + 1);
    assert!(waits.get() <= 40, "{} steps", waits.get());
}

#[test]
fn a_sibling_of_a_busy_nurserys_task_gets_every_second_step() {
    const STEPS: usize = if cfg!(miri) { 50 } else { 1_000 };
    let (busy, sibling) = (Cell::new(0), Cell::new(0));
    Builder::new()
        .seed(1)
        .run(open_nursery(async |n| -> Result<(), Cancelled> {
            n.start_soon(open_nursery(async |n| {
                n.start_soon(yield_often(5 * STEPS, &busy));
                Ok(())
            }));
            n.start_soon(async {
                for _ in 0..STEPS {
                    let before = busy.get();
                    yield_often(1, &sibling).await?;
                    assert!(busy.get() - before <= 2, "{} steps", busy.get() - before);
                }
                Ok(())
            });
            Ok(())
        }))
        .unwrap();
}

#[test]
#[cfg_attr(miri, ignore = "too many steps for Miri")]
fn a_busy_nursery_leaves_the_thread_to_the_host() {
    let steps = Cell::new(0);
    let mut guest = pin!(Builder::new().guest(open_nursery(async |n| -> Result<(), Cancelled> {
        n.start_soon(open_nursery(async |n| {
            n.start_soon(yield_often(100_000, &steps));
            Ok(())
        }));
        Ok(())
    })));
    let mut cx = Context::from_waker(Waker::noop());
    let mut polls = 0;
    let mut last = 0;
    while guest.as_mut().poll(&mut cx).is_pending() {
        polls += 1;
        assert!(steps.get() - last <= 5_000, "{} steps in one poll", steps.get() - last);
        last = steps.get();
    }
    assert!(polls >= 20, "{polls} polls");
}

/// Deep nurseries make their turns at the bottom; a cancellation from the top still arrives at the next step.
#[test]
fn a_cancellation_reaches_a_busy_leaf_at_once() {
    let steps = Cell::new(0);
    let after = Cell::new(0);
    Builder::new()
        .seed(3)
        .run(open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(open_nursery(async |n| {
                n.start_soon(async {
                    for _ in 0..if cfg!(miri) { 1_000 } else { 10_000 } {
                        yield_often(1, &steps).await?;
                        nursery::checkpoint().await?;
                    }
                    anyhow::Ok(())
                });
                Ok(())
            }));
            yield_often(100, &Cell::new(0)).await?;
            n.cancel_scope().cancel();
            after.set(steps.get());
            Ok(())
        }))
        .unwrap();
    assert!(steps.get() <= after.get() + 3, "{} steps more", steps.get() - after.get());
}

/// A child that ends in its `steps`-th step, and what its wakers are.
async fn shows_its_waker(steps: usize, polls: &Cell<usize>, seen: &RefCell<Vec<Waker>>) {
    poll_fn(|cx| {
        polls.set(polls.get() + 1);
        seen.borrow_mut().push(cx.waker().clone());
        if polls.get() == steps {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Wakes in every way there is, here and in a thread.
fn wake_in_all_ways(waker: Waker) {
    waker.wake_by_ref();
    let by_value = waker.clone();
    by_value.wake();
    in_a_thread(waker.clone());
    thread::spawn(move || {
        waker.wake_by_ref();
        let _clone = waker.clone();
        drop(waker);
    })
    .join()
    .unwrap();
}

#[test]
fn a_wake_up_after_the_end_of_a_task_does_nothing() {
    let seen = RefCell::new(Vec::new());
    let polls = Cell::new(0);
    Test::new()
        .seed(1)
        .run(async {
            open_nursery(async |n| -> anyhow::Result<()> {
                let child = n.start_soon(async {
                    shows_its_waker(2, &polls, &seen).await;
                    Ok(())
                });
                child.await?; // its handle goes with this
                seen.borrow().iter().for_each(|waker| wake_in_all_ways(waker.clone()));
                settled().await
            })
            .await?;
            seen.borrow().iter().for_each(|waker| wake_in_all_ways(waker.clone()));
            assert_eq!(statistics().tasks_living, 1);
            settled().await
        })
        .unwrap();
    // After the run, and in the next, which uses the same inbox.
    let all = seen.take();
    all.iter().for_each(|waker| wake_in_all_ways(waker.clone()));
    Builder::new()
        .run(async {
            all.iter().for_each(|waker| wake_in_all_ways(waker.clone()));
            nursery::checkpoint().await
        })
        .unwrap();
    all.into_iter().for_each(in_a_thread);
    assert_eq!(polls.get(), 2);
}

#[test]
fn a_task_that_is_woken_in_its_last_step_has_ended() {
    for seed in 0..4 {
        let polls = Cell::new(0);
        Test::new()
            .seed(seed)
            .run(async {
                open_nursery(async |n| -> Result<(), Cancelled> {
                    n.start_soon(async {
                        poll_fn(|cx| {
                            polls.set(polls.get() + 1);
                            wake_in_all_ways(cx.waker().clone());
                            if polls.get() < 2 { Poll::Pending } else { Poll::Ready(()) }
                        })
                        .await;
                        Ok(())
                    });
                    Ok(())
                })
                .await?;
                assert_eq!(polls.get(), 2);
                assert_eq!(statistics().tasks_living, 1);
                nursery::checkpoint().await
            })
            .unwrap();
    }
}

#[test]
fn a_clone_of_a_waker_counts_as_the_tasks_own() {
    let (lot, polls) = (ParkingLot::new(), Cell::new(0));
    Test::new()
        .seed(1)
        .run(open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                let mut park = pin!(lot.park());
                poll_fn(|cx| {
                    polls.set(polls.get() + 1);
                    let clone = cx.waker().clone();
                    assert!(clone.will_wake(cx.waker()));
                    park.as_mut().poll(&mut Context::from_waker(&clone)) // the clone goes before the end
                })
                .await?;
                Ok(())
            });
            settled().await?;
            lot.unpark_all();
            settled().await?;
            assert_eq!(polls.get(), 2);
            Ok(())
        }))
        .unwrap();
}

/// Wakers are cloned, woken and dropped by threads while their task ends, so that any of them may be the last to go.
#[test]
fn any_thread_may_let_the_last_reference_go() {
    for round in 0..if cfg!(miri) { 4 } else { 200 } {
        let threads = RefCell::new(Vec::new());
        let child = poll_fn(|cx| {
            let barrier = Arc::new(Barrier::new(3));
            threads.borrow_mut().extend((0..2).map(|_| {
                let (barrier, waker) = (barrier.clone(), cx.waker().clone());
                thread::spawn(move || {
                    barrier.wait();
                    let by_value = waker.clone();
                    by_value.wake();
                    waker.wake_by_ref();
                })
            }));
            barrier.wait();
            Poll::Ready(anyhow::Ok(Box::new(round)))
        });
        let program = open_nursery(async |n| anyhow::Ok(n.start_soon(child).await?));
        assert_eq!(Builder::new().seed(round).run(program).unwrap(), Box::new(round));
        threads.take().into_iter().for_each(|thread| thread.join().unwrap());
    }
}
