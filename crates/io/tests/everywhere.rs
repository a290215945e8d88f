//! Every primitive, cancelled and dropped at each of its points, and in many orders: no token, no item, no turn is lost.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nursery::{checkpoint, move_on_after, now, open_nursery, shield, sleep};
use nursery_io::channel::{self, broadcast, watch};
use nursery_io::sync::{
    Barrier, CapacityLimiter, Condition, Event, Lock, Mutex, OnceCell, RwLock, Semaphore,
};
use nursery_io::thread::{active_thread_count, from_thread, to_thread};
use nursery_testing::{CancelEverywhere, Outcome, hostile, orders, victim};

const SECOND: Duration = Duration::from_secs(1);

type Result<T = ()> = anyhow::Result<T>;

/// Three tasks do the same with one primitive. All of them are struck together; then the second alone, while the others
/// must get through; then nobody, in a hundred orders, in some of them with wakers that look around in the run.
fn explore<S>(
    make: impl Fn() -> S,
    work: impl AsyncFn(&S) -> Result,
    check: impl AsyncFn(&S) -> Result,
) {
    let together = CancelEverywhere::new().seeds(4).run_with(
        &make,
        async |state| in_three_tasks(state, &work, false).await,
        async |state, _| check(state).await,
    );
    assert!(together.points > 4 * together.seeds, "{together:?}");
    let alone = CancelEverywhere::new().seeds(4).run_with(
        &make,
        async |state| in_three_tasks(state, &work, true).await,
        async |state, outcome| {
            assert!(matches!(outcome, Outcome::Done), "the others get through: {outcome:?}");
            check(state).await
        },
    );
    assert!(alone.points > 4 * alone.seeds, "{alone:?}");
    orders(100, async || {
        let state = make();
        in_three_tasks(&state, &work, false).await?;
        check(&state).await
    });
    orders(10, async || {
        let state = make();
        hostile(in_three_tasks(&state, &async |state: &S| hostile(work(state)).await, false))
            .await?;
        check(&state).await
    });
}

async fn in_three_tasks<S>(
    state: &S,
    work: &impl AsyncFn(&S) -> Result,
    has_victim: bool,
) -> Result {
    open_nursery(async |n| {
        n.start_soon(work(state));
        if has_victim {
            n.start_soon(victim(work(state)));
        } else {
            n.start_soon(work(state));
        }
        n.start_soon(work(state));
        Ok(())
    })
    .await
}

/// Checks that no more than so many tasks are in a stretch of code at a time.
#[derive(Default)]
struct Inside(Cell<u32>);

impl Inside {
    fn enter(&self, limit: u32) -> impl Drop + '_ {
        struct Left<'a>(&'a Cell<u32>);
        impl Drop for Left<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() - 1);
            }
        }
        self.0.set(self.0.get() + 1);
        assert!(self.0.get() <= limit, "too many at a time");
        Left(&self.0)
    }
}

#[test]
fn locks() {
    explore(
        <(Lock, Inside)>::default,
        async |(lock, inside)| {
            for _ in 0..2 {
                let _guard = lock.lock().await?;
                let _inside = inside.enter(1);
                checkpoint().await?;
            }
            Ok(())
        },
        async |(lock, _)| {
            assert_eq!(lock.statistics().tasks_waiting, 0);
            lock.try_acquire()?;
            Ok(())
        },
    );
}

#[test]
fn mutexes() {
    explore(
        || Mutex::new((0, 0)),
        async |mutex| {
            let mut pair = mutex.lock().await?;
            let (a, b) = *pair;
            checkpoint().await?;
            *pair = (a + 1, b + 1);
            Ok(())
        },
        async |mutex| {
            let pair = mutex.try_lock()?;
            assert_eq!(pair.0, pair.1);
            Ok(())
        },
    );
}

#[test]
fn read_write_locks() {
    explore(
        || RwLock::new(0),
        async |lock| {
            let seen = *lock.read().await?;
            let mut value = lock.write().await?;
            assert!(*value >= seen);
            checkpoint().await?;
            *value += 1;
            drop(value);
            let again = lock.read().await?;
            checkpoint().await?;
            assert!(*again > seen);
            Ok(())
        },
        async |lock| {
            assert!(*lock.try_write()? <= 3);
            assert_eq!(lock.statistics().tasks_waiting, 0);
            Ok(())
        },
    );
}

/// A writer that waits holds up the readers behind it. When it gives up, they go on at once.
#[test]
fn readers_behind_a_writer_that_gives_up() {
    let overtaken = Cell::new(0);
    CancelEverywhere::new().seeds(4).run_with(
        || (RwLock::new(()), Cell::new(false), Cell::new(false)),
        async |(lock, is_read, must_join)| {
            let start = now();
            open_nursery(async |n| -> Result {
                let first = lock.read().await?;
                is_read.set(true);
                n.start_soon(async {
                    let written = victim(async {
                        drop(lock.write().await?);
                        anyhow::Ok(())
                    });
                    // At the very end of the first reader's time, it may be too late.
                    must_join.set(written.await?.is_none() && now() < start + 2 * SECOND);
                    Ok(())
                });
                n.start_soon(async {
                    sleep(SECOND).await?; // behind the writer
                    let _second = lock.read().await?;
                    overtaken.set(overtaken.get() + u32::from(must_join.get()));
                    assert!(is_read.get() || !must_join.get(), "it is held up by nobody");
                    Ok(())
                });
                sleep(2 * SECOND).await?;
                is_read.set(false);
                drop(first);
                Ok(())
            })
            .await
        },
        async |_, outcome| {
            assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
            Ok(())
        },
    );
    assert!(overtaken.get() > 0, "it was struck while it waited");
}

#[test]
fn semaphores() {
    explore(
        || (Semaphore::with_max(2, 2), Inside::default()),
        async |(semaphore, inside)| {
            let _permit = semaphore.acquire().await?;
            let _inside = inside.enter(2);
            Ok(checkpoint().await?)
        },
        async |(semaphore, _)| {
            let left = semaphore.statistics();
            assert_eq!((left.value, left.tasks_waiting), (2, 0));
            Ok(())
        },
    );
}

/// Taken, and given back by hand.
#[test]
fn semaphores_without_guards() {
    struct GiveBack<'a>(&'a Semaphore);
    impl Drop for GiveBack<'_> {
        fn drop(&mut self) {
            self.0.release().unwrap();
        }
    }
    explore(
        || Semaphore::new(1),
        async |semaphore| {
            semaphore.acquire().await?.forget();
            let _give_back = GiveBack(semaphore);
            Ok(checkpoint().await?)
        },
        async |semaphore| {
            assert_eq!(semaphore.value(), 1);
            Ok(())
        },
    );
}

#[test]
fn limiters() {
    explore(
        || (CapacityLimiter::new(1), Inside::default()),
        async |(limiter, inside)| {
            for _ in 0..2 {
                let _token = limiter.acquire().await?;
                let _inside = inside.enter(1);
                checkpoint().await?;
            }
            Ok(())
        },
        async |(limiter, _)| {
            let left = limiter.statistics();
            assert_eq!((left.borrowed_tokens, left.tasks_waiting, left.borrowers.len()), (0, 0, 0));
            Ok(())
        },
    );
}

/// A limiter that shrinks and grows while others wait.
#[test]
fn limiters_that_change() {
    explore(
        || CapacityLimiter::new(2),
        async |limiter| {
            let _token = limiter.acquire().await?;
            limiter.set_total_tokens(1);
            checkpoint().await?;
            limiter.set_total_tokens(2);
            Ok(())
        },
        async |limiter| {
            assert_eq!(limiter.borrowed_tokens(), 0);
            Ok(())
        },
    );
}

/// Cancelled, a task that waits has the lock again; dropped, it has not. In both cases nobody keeps it.
#[test]
fn conditions() {
    explore(
        <(Condition, Inside, Cell<u32>)>::default,
        async |(condition, inside, rounds)| {
            let _guard = condition.lock().lock().await?;
            rounds.set(rounds.get() + 1);
            if rounds.get() % 2 == 1 && condition.statistics().tasks_waiting == 0 {
                // Not for ever, should the others have been before: who notifies is the last.
                move_on_after(SECOND, async { Ok::<(), anyhow::Error>(condition.wait().await?) })
                    .await?;
            }
            let inside = inside.enter(1);
            checkpoint().await?;
            drop(inside);
            condition.notify(1)?;
            Ok(())
        },
        async |(condition, ..)| {
            let left = condition.statistics();
            assert_eq!((left.tasks_waiting, left.lock.is_locked), (0, false));
            Ok(())
        },
    );
}

#[test]
fn events() {
    explore(
        Event::new,
        async |event| {
            if event.statistics().tasks_waiting == 1 {
                checkpoint().await.inspect_err(|_| event.set())?;
                event.set();
            }
            // The first may be alone, if the others have been struck before they began.
            move_on_after(SECOND, event.wait()).await?;
            Ok(())
        },
        async |event| {
            assert_eq!(event.statistics().tasks_waiting, 0);
            Ok(())
        },
    );
}

/// A task that gives up has not come; a group that is complete goes on whole.
#[test]
fn barriers() {
    CancelEverywhere::new().seeds(4).run_with(
        || (Barrier::new(2), Cell::new(0)),
        async |(barrier, gone)| {
            in_three_tasks(
                &(barrier, gone),
                &async |&(barrier, gone)| {
                    // Of three, one is left over.
                    if move_on_after(SECOND, barrier.wait()).await?.is_some() {
                        gone.set(gone.get() + 1);
                    }
                    Ok(())
                },
                true,
            )
            .await
        },
        async |(barrier, gone), _| {
            assert_eq!(barrier.statistics().tasks_waiting, 0);
            // Two have gone on. If the victim was dropped when it was free to go, only the other can tell.
            assert!((1..=2).contains(&gone.get()), "{}", gone.get());
            Ok(())
        },
    );
    orders(100, async || {
        let (barrier, leaders) = (Barrier::new(3), Cell::new(0));
        let work = async |barrier: &Barrier| {
            for _ in 0..3 {
                let is_leader = barrier.wait().await?.is_leader();
                leaders.set(leaders.get() + u32::from(is_leader));
            }
            Ok(())
        };
        in_three_tasks(&barrier, &work, false).await?;
        assert_eq!(leaders.get(), 3);
        Ok::<_, anyhow::Error>(())
    });
}

/// Whoever is struck while it computes the value: another one computes it.
#[test]
fn once_cells() {
    explore(
        || (OnceCell::new(), Inside::default(), Cell::new(0)),
        async |(cell, inside, computed)| {
            let value = cell
                .get_or_try_init(async || {
                    let _inside = inside.enter(1);
                    checkpoint().await?;
                    checkpoint().await?;
                    computed.set(computed.get() + 1);
                    anyhow::Ok(42)
                })
                .await?;
            assert_eq!(*value, 42);
            Ok(())
        },
        async |(cell, _, computed)| {
            assert!(computed.get() <= 1, "computed once");
            let value = cell.get_or_init(async || 42).await?;
            assert_eq!(*value, 42);
            Ok(())
        },
    );
}

/// What a channel's two sides have done.
struct Traffic {
    sender: channel::Sender<u32>,
    receiver: channel::Receiver<u32>,
    sent: RefCell<Vec<u32>>,
    received: RefCell<Vec<u32>>,
}

impl Traffic {
    fn new(capacity: usize) -> Self {
        let (sender, receiver) = channel::open(capacity);
        Traffic { sender, receiver, sent: RefCell::default(), received: RefCell::default() }
    }

    async fn send(&self, values: std::ops::Range<u32>) -> Result {
        for value in values {
            self.sender.send(value).await.map_err(|error| error.without_value())?;
            self.sent.borrow_mut().push(value);
        }
        Ok(())
    }

    async fn receive(&self, count: usize) -> Result {
        for _ in 0..count {
            let value = self.receiver.recv().await?;
            self.received.borrow_mut().push(value);
        }
        Ok(())
    }

    async fn receive_all(&self) -> Result {
        while let Some(value) = self.receiver.next().await? {
            self.received.borrow_mut().push(value);
        }
        Ok(())
    }

    /// Receives what is left.
    fn drain(&self) {
        while let Ok(value) = self.receiver.try_recv() {
            self.received.borrow_mut().push(value);
        }
        let left = self.sender.statistics();
        assert_eq!((left.tasks_waiting_send, left.tasks_waiting_recv), (0, 0));
    }
}

/// What `send` has said to be sent arrives, once, whichever receiver is struck.
#[test]
fn channels_when_a_receiver_is_struck() {
    for capacity in [0, 1, 3] {
        let explored = CancelEverywhere::new().seeds(6).run_with(
            || Traffic::new(capacity),
            async |traffic| {
                open_nursery(async |n| {
                    n.start_soon(async {
                        traffic.send(0..3).await?;
                        traffic.sender.close();
                        Ok(())
                    });
                    n.start_soon(victim(traffic.receive_all()));
                    n.start_soon(traffic.receive_all()); // what the victim leaves
                    Ok(())
                })
                .await
            },
            async |traffic, outcome| {
                assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
                traffic.drain();
                let mut received = traffic.received.take();
                received.sort_unstable();
                assert_eq!(received, [0, 1, 2], "nothing is lost, nothing comes twice");
                Ok(())
            },
        );
        assert!(explored.points > 10 * explored.seeds, "{explored:?}");
    }
}

#[test]
fn channels_when_a_sender_is_struck() {
    for capacity in [0, 1, 3] {
        CancelEverywhere::new().seeds(6).run_with(
            || (Traffic::new(capacity), Cell::new(false)),
            async |(traffic, is_over)| {
                open_nursery(async |n| {
                    n.start_soon(async {
                        open_nursery(async |n| {
                            n.start_soon(victim(traffic.send(0..3)));
                            n.start_soon(traffic.send(10..13));
                            Ok(())
                        })
                        .await?;
                        is_over.set(true);
                        traffic.sender.send(99).await.map_err(|error| error.without_value())?;
                        anyhow::Ok(())
                    });
                    while traffic.received.borrow().last() != Some(&99) {
                        traffic.receive(1).await?;
                    }
                    Ok(())
                })
                .await
            },
            async |(traffic, is_over), outcome| {
                assert!(matches!(outcome, Outcome::Done) && is_over.get(), "{outcome:?}");
                traffic.drain();
                let received = traffic.received.take();
                for value in traffic.sent.take() {
                    let times = received.iter().filter(|other| **other == value).count();
                    assert_eq!(times, 1, "{value} was sent: {received:?}");
                }
                let of = |range: std::ops::Range<u32>| {
                    received.iter().copied().filter(move |v| range.contains(v)).collect::<Vec<_>>()
                };
                assert_eq!(of(10..13), [10, 11, 12], "in order");
                assert!([0, 1, 2].starts_with(&of(0..3)), "in order, and none twice");
                Ok(())
            },
        );
    }
}

#[test]
fn channels_in_many_orders() {
    for capacity in [0, 1, 3, channel::UNBOUNDED] {
        orders(100, async || {
            let traffic = Traffic::new(capacity);
            open_nursery(async |n| {
                n.start_soon(traffic.send(0..4));
                n.start_soon(traffic.send(10..14));
                n.start_soon(traffic.receive(5));
                n.start_soon(traffic.receive(3));
                Ok(())
            })
            .await?;
            traffic.drain();
            let mut received = traffic.received.take();
            received.sort_unstable();
            assert_eq!(received, [0, 1, 2, 3, 10, 11, 12, 13]);
            anyhow::Ok(())
        });
    }
}

#[test]
fn broadcasts() {
    CancelEverywhere::new().seeds(4).run_with(
        || RefCell::new(vec![]),
        async |heard| {
            let (sender, first) = broadcast::open(8);
            let second = sender.subscribe();
            open_nursery(async |n| -> Result {
                n.start_soon(async {
                    for value in 0..4 {
                        checkpoint().await?;
                        sender.send(value).ok();
                    }
                    drop(sender);
                    Ok(())
                });
                n.start_soon(victim(async move {
                    for _ in 0..4 {
                        second.recv().await?;
                    }
                    anyhow::Ok(())
                }));
                for _ in 0..4 {
                    let value = first.recv().await?;
                    heard.borrow_mut().push(value);
                }
                Ok(())
            })
            .await
        },
        async |heard, outcome| {
            assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
            assert_eq!(*heard.borrow(), [0, 1, 2, 3]);
            Ok(())
        },
    );
}

/// A receiver that is struck has lost nothing: what it has not seen is still new.
#[test]
fn broadcasts_are_not_received_in_vain() {
    let explored = CancelEverywhere::new().seeds(4).run_with(
        || RefCell::new(vec![]),
        async |heard| {
            let (sender, receiver) = broadcast::open(8);
            let listen = async |count| {
                for _ in 0..count {
                    let value = receiver.recv().await?;
                    heard.borrow_mut().push(value);
                }
                anyhow::Ok(())
            };
            open_nursery(async |n| -> Result {
                n.start_soon(async {
                    for value in 0..4 {
                        checkpoint().await?;
                        sender.send(value).ok();
                    }
                    Ok(())
                });
                victim(listen(2)).await?;
                let left = 4 - heard.borrow().len();
                listen(left).await
            })
            .await
        },
        async |heard, _| {
            assert_eq!(*heard.borrow(), [0, 1, 2, 3]);
            Ok(())
        },
    );
    assert!(explored.points > 5 * explored.seeds, "{explored:?}");
}

#[test]
fn watches() {
    CancelEverywhere::new().seeds(4).run_with(
        || (),
        async |()| {
            let (sender, first) = watch::open(0);
            let second = sender.subscribe();
            open_nursery(async |n| -> Result {
                n.start_soon(async {
                    for value in 1..4 {
                        checkpoint().await?;
                        sender.set(value);
                    }
                    Ok(())
                });
                n.start_soon(victim(async move {
                    second.changed().await?;
                    second.wait_for(|value| *value == 3).await?;
                    assert_eq!(*second.get(), 3);
                    anyhow::Ok(())
                }));
                first.wait_for(|value| *value == 3).await?;
                assert_eq!(*first.get(), 3);
                Ok(())
            })
            .await
        },
        async |(), outcome| {
            assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
            Ok(())
        },
    );
}

#[test]
fn producers() {
    let cleaned = Cell::new(0);
    let begun = Cell::new(0);
    let body = async || {
        let sum = channel::producer(
            async |sender| {
                begun.set(begun.get() + 1);
                let _end = Count(&cleaned);
                for i in 0.. {
                    sender.send(i).await?;
                }
                Ok(())
            },
            async |receiver| {
                let mut sum = 0;
                while sum < 6 {
                    sum += receiver.recv().await?;
                }
                anyhow::Ok(sum)
            },
        )
        .await?;
        assert_eq!(sum, 6);
        anyhow::Ok(())
    };
    // A body that has its value keeps it, also when the cancellation meets the producer.
    let search = CancelEverywhere::new().seeds(4).pairs().may_swallow();
    let explored = search.run_with(
        || (),
        async |()| body().await,
        async |(), _| {
            assert_eq!(begun.get(), cleaned.get(), "it has ended");
            Ok(())
        },
    );
    assert!(begun.get() > 10 && explored.points > 10 * explored.seeds, "{explored:?}");
    orders(100, async || body().await);

    struct Count<'a>(&'a Cell<u32>);
    impl Drop for Count<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
}

/// A task waits for its thread; dropped, it leaves it alone, and the token comes back when the thread does.
#[test]
fn calls_of_threads() {
    let make = || (Rc::new(CapacityLimiter::new(1)), Arc::new(AtomicU32::new(0)), Cell::new(0));
    let explored = CancelEverywhere::new().run_with(
        make,
        async |(limiter, ran, returned)| {
            open_nursery(async |n| -> Result {
                for _ in 0..2 {
                    n.start_soon(async {
                        let ran = ran.clone();
                        to_thread::run_sync(move || ran.fetch_add(1, Ordering::SeqCst))
                            .limiter(limiter)
                            .await?;
                        returned.set(returned.get() + 1);
                        Ok(())
                    });
                }
                Ok(())
            })
            .await
        },
        async |(limiter, ran, returned), _| {
            assert_eq!(active_thread_count(), 0);
            assert_eq!(limiter.borrowed_tokens(), 0);
            assert!(returned.get() <= ran.load(Ordering::SeqCst));
            Ok(())
        },
    );
    assert!(explored.points > 5 * explored.seeds, "{explored:?}");
}

#[test]
fn calls_from_threads() {
    CancelEverywhere::new().may_fail().run_with(
        || (),
        async |()| {
            let inside = to_thread::run_sync(|| {
                from_thread::run(async || {
                    checkpoint().await?;
                    shield(checkpoint()).await?;
                    anyhow::Ok(active_thread_count())
                })
            });
            inside.await???;
            anyhow::Ok(())
        },
        async |(), outcome| {
            if let Outcome::Failed(error) = outcome {
                // The task that the thread worked for was dropped, or the thread was told in time.
                assert!(error.downcast_ref::<from_thread::FromThreadError>().is_some(), "{error}");
            }
            assert_eq!(active_thread_count(), 0);
            Ok(())
        },
    );
}
