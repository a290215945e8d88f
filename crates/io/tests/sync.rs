//! Events, locks, semaphores and the rest: what each promises, in the words of trio's tests where there is one.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::time::Duration;

use futures_lite::future::poll_once;
use nursery::lowlevel::current_task;
use nursery::{
    CancelScope, Cancelled, ErrorGroup, TaskError, checkpoint, now, open_nursery, sleep,
    sleep_forever, tree,
};
use nursery_io::channel;
use nursery_io::sync::{
    Barrier, Borrower, CapacityLimiter, Condition, Event, LimiterError, Lock, LockError, Mutex,
    OnceCell, Permit, RwLock, Semaphore, Token, WouldBlock,
};
use nursery_testing::Test;

mod support;

use support::{checkpoints, run, settled};

/// Awaits `op` in a scope that is cancelled already: it has to say so.
async fn is_cancelled<T, E: Into<anyhow::Error>>(op: impl Future<Output = Result<T, E>>) {
    let scope = CancelScope::new();
    scope.cancel();
    let done = scope
        .enter(async {
            let error: anyhow::Error = op.await.map(drop).map_err(Into::into).unwrap_err();
            assert!(error.as_cancelled().is_some(), "{error}");
            Err::<(), _>(error)
        })
        .await;
    assert!(matches!(done, Ok(None)), "the scope did not recognise its cancellation");
}

// Event

#[test]
fn event() {
    run(async {
        let event = Event::new();
        assert!(!event.is_set());
        assert_eq!(event.statistics().tasks_waiting, 0);
        event.set();
        event.set();
        assert!(event.is_set());
        checkpoints(event.wait()).await?;

        let event = Event::new();
        let record = RefCell::new(vec![]);
        open_nursery(async |n| -> anyhow::Result<()> {
            for _ in 0..2 {
                n.start_soon(async {
                    record.borrow_mut().push("sleeping");
                    checkpoints(event.wait()).await?;
                    record.borrow_mut().push("woken");
                    Ok(())
                });
            }
            settled().await?;
            assert_eq!(*record.borrow(), ["sleeping", "sleeping"]);
            assert_eq!(event.statistics().tasks_waiting, 2);
            event.set();
            assert_eq!(event.statistics().tasks_waiting, 0);
            settled().await?;
            assert_eq!(*record.borrow(), ["sleeping", "sleeping", "woken", "woken"]);
            Ok(())
        })
        .await
    });
}

#[test]
fn waiting_for_an_event_in_a_cancelled_scope_raises_even_if_it_is_set() {
    run(async {
        let event = Event::new();
        is_cancelled(event.wait()).await;
        event.set();
        is_cancelled(event.wait()).await;
        assert_eq!(event.statistics().tasks_waiting, 0);
        Ok(())
    });
}

// CapacityLimiter

#[test]
fn capacity_limiter() {
    run(async {
        assert_eq!(CapacityLimiter::new(0).total_tokens(), 0);
        let c = CapacityLimiter::new(2);
        assert!(format!("{c:?}").contains("total_tokens: 2"));
        assert_eq!((c.total_tokens(), c.borrowed_tokens(), c.available_tokens()), (2, 0, 2));
        assert!(matches!(c.release(), Err(LimiterError::NotBorrowed(_))));
        assert_eq!(c.borrowed_tokens(), 0);
        c.try_acquire()?.forget();
        assert_eq!((c.borrowed_tokens(), c.available_tokens()), (1, 1));

        let me = Borrower::from(current_task());
        let stats = c.statistics();
        assert_eq!((stats.borrowed_tokens, stats.total_tokens, stats.tasks_waiting), (1, 2, 0));
        assert_eq!(stats.borrowers, std::slice::from_ref(&me));

        assert!(matches!(c.try_acquire(), Err(LimiterError::AlreadyBorrowed(b)) if b == me));
        assert!(matches!(c.acquire().await, Err(LimiterError::AlreadyBorrowed(b)) if b == me));
        assert_eq!(c.borrowed_tokens(), 1);

        checkpoints(c.acquire_on_behalf_of("someone")).await?.forget();
        assert_eq!(c.borrowed_tokens(), 2);
        let third = c.try_acquire_on_behalf_of("third party");
        assert!(matches!(third, Err(LimiterError::WouldBlock)));
        assert_eq!(c.statistics().borrowers, [me, "someone".into()]);

        c.release_on_behalf_of(current_task())?;
        assert_eq!(c.statistics().borrowers, ["someone".into()]);
        c.release_on_behalf_of("someone")?;
        assert_eq!(c.borrowed_tokens(), 0);
        {
            let token = checkpoints(c.acquire()).await?;
            assert_eq!(token.borrower(), &Borrower::from(current_task()));
            assert_eq!(c.borrowed_tokens(), 1);
        }
        assert_eq!(c.borrowed_tokens(), 0);

        open_nursery(async |n| -> anyhow::Result<()> {
            c.acquire_on_behalf_of("value 1").await?.forget();
            c.acquire_on_behalf_of("value 2").await?.forget();
            n.start_soon(async {
                c.acquire_on_behalf_of("value 3").await?.forget();
                Ok(())
            });
            settled().await?;
            assert_eq!((c.borrowed_tokens(), c.statistics().tasks_waiting), (2, 1));
            c.release_on_behalf_of("value 2")?;
            // Handed over at once:
            assert_eq!((c.borrowed_tokens(), c.statistics().tasks_waiting), (2, 0));
            assert!(matches!(c.try_acquire(), Err(LimiterError::WouldBlock)));
            Ok(())
        })
        .await?;
        c.release_on_behalf_of("value 3")?;
        c.release_on_behalf_of("value 1")?;
        assert_eq!(c.borrowed_tokens(), 0);
        Ok(())
    });
}

#[test]
fn capacity_limiter_inf() {
    run(async {
        let c = CapacityLimiter::new(CapacityLimiter::INFINITE);
        assert_eq!(c.total_tokens(), CapacityLimiter::INFINITE);
        assert_eq!((c.borrowed_tokens(), c.available_tokens()), (0, isize::MAX));
        assert!(matches!(c.release(), Err(LimiterError::NotBorrowed(_))));
        c.try_acquire()?.forget();
        assert_eq!(c.borrowed_tokens(), 1);
        for i in 0..1000_u64 {
            c.try_acquire_on_behalf_of(i)?.forget();
        }
        assert_eq!((c.borrowed_tokens(), c.available_tokens()), (1001, isize::MAX));
        Ok(())
    });
}

fn numbers(numbers: impl IntoIterator<Item = u64>) -> Vec<Borrower> {
    numbers.into_iter().map(Borrower::from).collect()
}

#[test]
fn capacity_limiter_change_total_tokens() {
    run(async {
        let c = &CapacityLimiter::new(2);
        open_nursery(async |n| -> anyhow::Result<()> {
            for i in 0..5_u64 {
                n.start_soon(async move {
                    c.acquire_on_behalf_of(i).await?.forget();
                    Ok(())
                });
                settled().await?;
            }
            assert_eq!(c.statistics().borrowers, numbers([0, 1]));
            assert_eq!(c.statistics().tasks_waiting, 3);
            c.set_total_tokens(c.total_tokens() + 2);
            assert_eq!(c.statistics().borrowers, numbers([0, 1, 2, 3]));
            assert_eq!(c.statistics().tasks_waiting, 1);
            c.set_total_tokens(c.total_tokens() - 3);
            assert_eq!((c.borrowed_tokens(), c.total_tokens()), (4, 1));
            assert_eq!(c.available_tokens(), -3);
            for i in 0..3_u64 {
                c.release_on_behalf_of(i)?;
            }
            assert_eq!(c.statistics().borrowers, numbers([3]));
            assert_eq!(c.statistics().tasks_waiting, 1);
            c.release_on_behalf_of(3)?;
            assert_eq!(c.statistics().borrowers, numbers([4]));
            assert_eq!(c.statistics().tasks_waiting, 0);
            Ok(())
        })
        .await
    });
}

#[test]
fn capacity_limiter_memleak_548() {
    run(async {
        let limiter = CapacityLimiter::new(1);
        limiter.acquire().await?.forget();
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                Ok(limiter.acquire_on_behalf_of("it").await.map(Token::forget)?)
            });
            settled().await?;
            assert_eq!(limiter.statistics().tasks_waiting, 1);
            n.cancel_scope().cancel();
            assert_eq!(limiter.statistics().tasks_waiting, 0);
            Ok(())
        })
        .await?;
        // It may queue again, and gets the token, once.
        limiter.release()?;
        assert_eq!(limiter.borrowed_tokens(), 0);
        limiter.acquire_on_behalf_of("it").await?.forget();
        assert_eq!(limiter.borrowed_tokens(), 1);
        Ok(())
    });
}

#[test]
fn capacity_limiter_zero_limit_tokens() {
    run(async {
        let c = &CapacityLimiter::new(5);
        open_nursery(async |n| -> anyhow::Result<()> {
            let acquire = async |i: u64| {
                n.start_soon(async move {
                    c.acquire_on_behalf_of(i).await?.forget();
                    Ok(())
                });
                settled().await
            };
            let state = || (c.statistics().borrowers, c.statistics().tasks_waiting);
            c.set_total_tokens(0);
            for i in 0..5 {
                acquire(i).await?;
            }
            assert_eq!(state(), (vec![], 5));
            c.set_total_tokens(5);
            assert_eq!(state(), (numbers(0..5), 0));
            acquire(5).await?;
            assert_eq!(state(), (numbers(0..5), 1));
            for i in 0..5_u64 {
                c.release_on_behalf_of(i)?;
            }
            assert_eq!(state(), (numbers([5]), 0));
            c.release_on_behalf_of(5)?;

            c.set_total_tokens(0);
            assert!(matches!(c.try_acquire(), Err(LimiterError::WouldBlock)));
            acquire(6).await?;
            assert_eq!(state(), (vec![], 1));
            c.set_total_tokens(1);
            assert_eq!(state(), (numbers([6]), 0));
            c.release_on_behalf_of(6)?;

            c.acquire_on_behalf_of(0).await?.forget();
            acquire(1).await?;
            c.set_total_tokens(0);
            assert_eq!(state(), (numbers([0]), 1));
            c.release_on_behalf_of(0)?;
            settled().await?;
            assert_eq!(state(), (vec![], 1));
            c.set_total_tokens(1);
            assert_eq!(state(), (numbers([1]), 0));
            c.release_on_behalf_of(1)?;
            Ok(())
        })
        .await
    });
}

#[test]
fn a_borrower_that_queues_twice_is_told_so() {
    run(async {
        let c = &CapacityLimiter::new(0);
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async { Ok(c.acquire_on_behalf_of("it").await.map(Token::forget)?) });
            settled().await?;
            let again = c.acquire_on_behalf_of("it").await;
            assert!(matches!(again, Err(LimiterError::AlreadyQueued(b)) if b == "it".into()));
            // Not if the first has been cancelled, even if it has not run since.
            n.cancel_scope().cancel();
            c.set_total_tokens(1);
            nursery::shield(async { Ok(c.acquire_on_behalf_of("it").await.map(Token::forget)?) })
                .await
        })
        .await?;
        assert_eq!(c.statistics().borrowers, ["it".into()]);
        assert_eq!(c.statistics().tasks_waiting, 0);
        Ok(())
    });
}

#[test]
fn unique_borrowers_differ() {
    let (a, b) = (Borrower::unique(), Borrower::unique());
    assert_ne!(a, b);
    let c = CapacityLimiter::new(2);
    let _a = c.try_acquire_on_behalf_of(&a).unwrap();
    let _b = c.try_acquire_on_behalf_of(&b).unwrap();
    assert!(matches!(c.try_acquire_on_behalf_of(&a), Err(LimiterError::AlreadyBorrowed(_))));
}

// Semaphore

#[test]
fn semaphore() {
    run(async {
        let s = Semaphore::new(1);
        assert!(format!("{s:?}").contains("value: 1"));
        assert_eq!((s.value(), s.max_value()), (1, None));
        s.release()?;
        assert_eq!((s.value(), s.statistics().tasks_waiting), (2, 0));
        s.try_acquire()?.forget();
        assert_eq!(s.value(), 1);
        checkpoints(s.acquire()).await?.forget();
        assert_eq!(s.value(), 0);
        assert_eq!(s.try_acquire().err(), Some(WouldBlock));
        s.release()?;
        {
            let _permit = checkpoints(s.acquire()).await?;
            assert_eq!(s.value(), 0);
        }
        assert_eq!(s.value(), 1);
        s.try_acquire()?.forget();

        let record = RefCell::new(vec![]);
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                record.borrow_mut().push("started");
                s.acquire().await?.forget();
                record.borrow_mut().push("finished");
                Ok(())
            });
            settled().await?;
            assert_eq!(*record.borrow(), ["started"]);
            assert_eq!((s.value(), s.statistics().tasks_waiting), (0, 1));
            s.release()?;
            // Handed over at once:
            assert_eq!((s.value(), s.statistics().tasks_waiting), (0, 0));
            assert_eq!(s.try_acquire().err(), Some(WouldBlock));
            Ok(())
        })
        .await?;
        assert_eq!(*record.borrow(), ["started", "finished"]);
        Ok(())
    });
}

#[test]
fn semaphore_bounded() {
    let too_many = catch_unwind(|| Semaphore::with_max(2, 1)).unwrap_err();
    let message = too_many.downcast_ref::<String>().unwrap();
    assert!(message.contains("cannot begin with 2"), "{message}");

    let s = Semaphore::with_max(1, 1);
    assert_eq!(s.max_value(), Some(1));
    let error = s.release().unwrap_err();
    assert_eq!((error.max, error.count), (1, 1));
    assert_eq!(s.value(), 1);
    s.try_acquire().unwrap().forget();
    assert_eq!(s.value(), 0);
    s.release().unwrap();
    assert_eq!(s.value(), 1);
}

#[test]
fn added_permits_go_to_those_that_wait_and_the_rest_is_kept_within_the_maximum() {
    run(async {
        let s = Semaphore::with_max(0, 2);
        open_nursery(async |n| -> anyhow::Result<()> {
            for _ in 0..3 {
                n.start_soon(async { Ok(s.acquire().await.map(Permit::forget)?) });
            }
            settled().await?;
            assert!(s.add_permits(6).is_err());
            assert_eq!((s.value(), s.statistics().tasks_waiting), (0, 3));
            s.add_permits(5)?;
            assert_eq!((s.value(), s.statistics().tasks_waiting), (2, 0));
            Ok(())
        })
        .await
    });
    let s = Semaphore::new(usize::MAX);
    assert!(s.release().is_err());
    assert_eq!(s.value(), usize::MAX);
}

// Lock

#[test]
fn lock_and_strict_fifo_lock() {
    run(async {
        let l = &Lock::new();
        assert!(!l.is_locked());
        assert!(format!("{l:?}").contains("is_locked: false"));
        {
            let _guard = checkpoints(l.lock()).await?;
            assert!(l.is_locked());
            assert!(format!("{l:?}").contains("is_locked: true"));
        }
        assert!(!l.is_locked());
        l.try_acquire()?;
        assert!(l.is_locked());
        l.release()?;
        assert!(!l.is_locked());
        checkpoints(l.acquire()).await?;
        assert!(l.is_locked());
        assert!(matches!(l.try_acquire(), Err(LockError::AlreadyHeld { .. })));
        assert!(matches!(l.acquire().await, Err(LockError::AlreadyHeld { .. })));
        assert!(l.is_locked());
        l.release()?;
        assert!(matches!(l.release(), Err(LockError::NotOwner { owner: None, .. })));

        let owner = &Cell::new(None);
        open_nursery(async |n| -> anyhow::Result<()> {
            let hold = || async {
                let _guard = l.lock().await?;
                owner.set(Some(current_task()));
                Ok(sleep_forever().await?)
            };
            n.start_soon(hold());
            settled().await?;
            assert!(l.is_locked());
            assert!(matches!(l.try_acquire(), Err(LockError::WouldBlock { .. })));
            assert!(matches!(l.release(), Err(LockError::NotOwner { .. })));
            let stats = l.statistics();
            assert!(stats.is_locked && stats.owner.is_some() && stats.owner == owner.get());
            assert_eq!(stats.tasks_waiting, 0);

            n.start_soon(hold());
            settled().await?;
            assert_eq!(l.statistics().tasks_waiting, 1);
            n.cancel_scope().cancel();
            Ok(())
        })
        .await?;
        let stats = l.statistics();
        assert_eq!((stats.is_locked, stats.owner, stats.tasks_waiting), (false, None, 0));
        Ok(())
    });
}

#[test]
fn lock_acquire_unowned_lock() {
    run(async {
        let lock = Lock::new();
        let gone = open_nursery(async |n| -> anyhow::Result<_> {
            let child = n.start_soon(async {
                lock.acquire().await?;
                Ok(current_task())
            });
            Ok(child.await?)
        })
        .await?;
        for _ in 0..2 {
            let error = lock.acquire().await.unwrap_err();
            assert!(error.to_string().contains("was never released by"), "{error}");
            assert!(matches!(error, LockError::Broken { by, .. } if by == [gone]));
            assert!(matches!(lock.try_acquire(), Err(LockError::WouldBlock { .. })));
            assert!(lock.is_locked());
        }
        Ok(())
    });
}

#[test]
fn lock_multiple_acquire() {
    for seed in 0..20 {
        let error = Test::new().seed(seed).run(async {
            let lock = &Lock::new();
            open_nursery(async |n| -> anyhow::Result<()> {
                n.start_soon(async { Ok(lock.acquire().await?) });
                n.start_soon(async { Ok(lock.acquire().await?) });
                Ok(())
            })
            .await
        });
        let group: ErrorGroup<anyhow::Error> = error.unwrap_err().downcast().unwrap();
        let error: LockError = group.into_single().unwrap().downcast().unwrap();
        assert!(matches!(error, LockError::Broken { .. }), "{error}");
    }
}

#[test]
fn lock_handover() {
    run(async {
        let lock = &Lock::new();
        lock.try_acquire()?;
        let me = current_task();
        assert_eq!(lock.statistics().owner, Some(me));
        let gone = open_nursery(async |n| -> anyhow::Result<_> {
            let child = n.start_soon(async {
                lock.acquire().await?;
                Ok(current_task())
            });
            settled().await?;
            lock.release()?; // the child is the owner from now on, and never releases it
            let owner = lock.statistics().owner;
            assert!(owner.is_some() && owner != Some(me));
            assert!(lock.is_locked());
            assert!(matches!(lock.release(), Err(LockError::NotOwner { .. })));
            let child = child.await?;
            assert_eq!(owner, Some(child));
            Ok(child)
        })
        .await?;
        let error = lock.acquire().await.unwrap_err();
        assert!(matches!(error, LockError::Broken { by, .. } if by == [gone]));
        Ok(())
    });
}

/// The lock has come to a task that has not been told yet, and lets go of it by hand.
#[test]
fn a_lock_that_is_released_before_its_acquisition_returns_is_not_owned() {
    for others_wait in [false, true] {
        run(async {
            let (lock, go) = (&Lock::new(), &Event::new());
            lock.acquire().await?;
            open_nursery(async |n| -> anyhow::Result<()> {
                n.start_soon(async {
                    let me = Some(current_task());
                    let mut acquire = pin!(lock.acquire());
                    assert!(poll_once(&mut acquire).await.is_none());
                    go.wait().await?;
                    assert_eq!(lock.statistics().owner, me);
                    lock.release()?;
                    if !others_wait {
                        lock.try_acquire()?; // another time, of which the first knows nothing
                    }
                    let owner = lock.statistics().owner;
                    assert_eq!(owner == me, !others_wait);
                    let error = acquire.await.unwrap_err();
                    assert!(matches!(error, LockError::NotOwner { .. }), "{error}");
                    assert_eq!(lock.statistics().owner, owner, "it is as it was");
                    if !others_wait {
                        lock.release()?;
                    }
                    Ok(())
                });
                settled().await?;
                if others_wait {
                    n.start_soon(async {
                        lock.acquire().await?;
                        Ok(lock.release()?)
                    });
                    settled().await?;
                }
                lock.release()?;
                go.set();
                Ok(())
            })
            .await?;
            assert!(!lock.is_locked());
            Ok(())
        });
    }
}

#[test]
fn the_end_of_a_task_that_released_a_contended_lock_breaks_nothing() {
    run(async {
        let lock = &Lock::new();
        open_nursery(async |n| -> anyhow::Result<()> {
            for _ in 0..3 {
                n.start_soon(async {
                    lock.acquire().await?;
                    checkpoint().await?;
                    lock.release()?;
                    Ok(())
                });
            }
            Ok(())
        })
        .await?;
        lock.acquire().await?;
        lock.release()?;
        Ok(())
    });
}

#[test]
fn a_waiter_of_a_lock_is_broken_with_the_successor_of_the_owner_it_came_to() {
    run(async {
        let lock = &Lock::new();
        lock.try_acquire()?;
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async { Ok(lock.acquire().await?) }); // and ends
            settled().await?;
            n.start_soon(async {
                let error = lock.acquire().await.unwrap_err();
                assert!(matches!(error, LockError::Broken { .. }), "{error}");
                Ok(())
            });
            settled().await?;
            lock.release()?;
            Ok(())
        })
        .await
    });
}

#[test]
fn errors_of_locks_name_the_lock_and_the_tasks() {
    run(async {
        let lock = Lock::new();
        let line = line!() - 1;
        let error = lock.release().unwrap_err().to_string();
        assert!(error.contains(&format!("sync.rs:{line}:")), "{error}");
        lock.try_acquire()?;
        let error = lock.try_acquire().unwrap_err().to_string();
        assert!(error.contains(&format!("sync.rs:{line}:")) && error.contains("main"), "{error}");
        Ok(())
    });
}

#[test]
fn a_guard_given_to_another_task_releases_the_lock_there() {
    run(async {
        let lock = &Lock::new();
        let guard = lock.lock().await?;
        open_nursery(async move |n| -> anyhow::Result<()> {
            n.start_soon(async move {
                drop(guard);
                Ok(())
            });
            Ok(())
        })
        .await?;
        assert!(!lock.is_locked());
        Ok(())
    });
}

#[test]
fn a_lock_whose_owner_ended_stays_broken_when_its_guard_is_dropped_later() {
    run(async {
        let lock = &Lock::new();
        let guard = open_nursery(async |n| -> anyhow::Result<_> {
            Ok(n.start_soon(async { Ok(lock.lock().await?) }).await?)
        })
        .await?;
        for _ in 0..2 {
            let error = lock.acquire().await.unwrap_err();
            assert!(matches!(error, LockError::Broken { .. }), "{error}");
        }
        drop(guard);
        assert!(lock.is_locked());
        let error = lock.acquire().await.unwrap_err();
        assert!(matches!(error, LockError::Broken { .. }), "{error}");
        Ok(())
    });
}

#[test]
fn a_lock_belongs_to_the_task_in_which_the_call_returned() {
    run(async {
        let lock = &Lock::new();
        open_nursery(async |n| -> anyhow::Result<()> {
            let mut acquire = Box::pin(lock.acquire());
            assert!(poll_once(&mut acquire).await.is_none()); // it has it, and yields
            n.start_soon(async {
                acquire.await?; // in another task
                assert_eq!(lock.statistics().owner, Some(current_task()));
                Ok(lock.release()?)
            });
            Ok(())
        })
        .await
    });
}

#[test]
fn a_guard_of_a_lock_that_was_released_by_hand_does_nothing() {
    run(async {
        let lock = &Lock::new();
        open_nursery(async |n| -> anyhow::Result<()> {
            let guard = lock.lock().await?;
            lock.release()?;
            n.start_soon(async {
                lock.acquire().await?;
                settled().await?;
                lock.release()?; // still its owner
                Ok(())
            });
            settled().await?;
            drop(guard);
            Ok(())
        })
        .await
    });
}

#[test]
fn a_lock_that_is_released_before_the_call_that_acquires_it_returns_is_not_taken_from_the_next() {
    run(async {
        let lock = &Lock::new();
        open_nursery(async |n| -> anyhow::Result<()> {
            let mut acquire = pin!(lock.acquire());
            assert!(poll_once(&mut acquire).await.is_none()); // it has it, and yields
            lock.release()?;
            n.start_soon(async {
                let _guard = lock.lock().await?;
                Ok(sleep(Duration::from_secs(1)).await?)
            });
            settled().await?;
            let owner = lock.statistics().owner;
            let error = acquire.await.unwrap_err();
            assert!(matches!(error, LockError::NotOwner { .. }), "{error}");
            assert_eq!(lock.statistics().owner, owner);
            assert!(owner.is_some_and(|owner| owner != current_task()));
            Ok(())
        })
        .await?;
        assert!(!lock.is_locked());
        Ok(())
    });
}

// What all lock-likes have in common

trait Held {}
impl<T> Held for T {}

/// A lock, or what can be used as one.
enum LockLike {
    Lock(Lock),
    Mutex(Mutex<()>),
    RwLock(RwLock<()>),
    Semaphore(Semaphore),
    Limiter(CapacityLimiter),
    Condition(Condition),
    /// A full buffer is a lock: sending acquires it.
    SendLock(channel::Sender<()>, channel::Receiver<()>),
    /// So is a buffer with one token in it: receiving acquires it.
    RecvLock(channel::Sender<()>, channel::Receiver<()>),
    /// A rendezvous, and a flag.
    Unbuffered(channel::Sender<()>, channel::Receiver<()>, Cell<bool>),
}

impl LockLike {
    fn all() -> Vec<LockLike> {
        let send_lock = |capacity| {
            let (s, r) = channel::open(capacity);
            for _ in 1..capacity {
                s.try_send(()).unwrap();
            }
            LockLike::SendLock(s, r)
        };
        let recv_lock = || {
            let (s, r) = channel::open(10);
            s.try_send(()).unwrap();
            LockLike::RecvLock(s, r)
        };
        let (s, r) = channel::open(0);
        vec![
            LockLike::Lock(Lock::new()),
            LockLike::Mutex(Mutex::new(())),
            LockLike::RwLock(RwLock::new(())),
            LockLike::Semaphore(Semaphore::new(1)),
            LockLike::Limiter(CapacityLimiter::new(1)),
            LockLike::Condition(Condition::new()),
            send_lock(10),
            send_lock(1),
            recv_lock(),
            LockLike::Unbuffered(s, r, Cell::new(false)),
        ]
    }

    async fn acquire(&self) -> anyhow::Result<Box<dyn Held + '_>> {
        Ok(match self {
            LockLike::Lock(l) => Box::new(l.lock().await?),
            LockLike::Mutex(l) => Box::new(l.lock().await?),
            LockLike::RwLock(l) => Box::new(l.write().await?),
            LockLike::Semaphore(l) => Box::new(l.acquire().await?),
            LockLike::Limiter(l) => Box::new(l.acquire().await?),
            LockLike::Condition(l) => Box::new(l.lock().lock().await?),
            LockLike::SendLock(s, _) => {
                s.send(()).await?;
                Box::new(Release(self))
            }
            LockLike::RecvLock(_, r) => {
                r.recv().await?;
                Box::new(Release(self))
            }
            LockLike::Unbuffered(s, _, taken) => {
                if taken.get() {
                    s.send(()).await?;
                } else {
                    taken.set(true);
                    checkpoint().await?;
                }
                Box::new(Release(self))
            }
        })
    }

    fn try_acquire(&self) -> Option<Box<dyn Held + '_>> {
        Some(match self {
            LockLike::Lock(l) => Box::new(l.try_lock().ok()?),
            LockLike::Mutex(l) => Box::new(l.try_lock().ok()?),
            LockLike::RwLock(l) => Box::new(l.try_write().ok()?),
            LockLike::Semaphore(l) => Box::new(l.try_acquire().ok()?),
            LockLike::Limiter(l) => Box::new(l.try_acquire().ok()?),
            LockLike::Condition(l) => Box::new(l.lock().try_lock().ok()?),
            LockLike::SendLock(s, _) => {
                s.try_send(()).ok()?;
                Box::new(Release(self))
            }
            LockLike::RecvLock(_, r) => {
                r.try_recv().ok()?;
                Box::new(Release(self))
            }
            LockLike::Unbuffered(_, _, taken) => {
                (!taken.replace(true)).then_some(())?;
                Box::new(Release(self))
            }
        })
    }
}

/// Releases a lock that is made of a channel.
struct Release<'a>(&'a LockLike);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        match self.0 {
            LockLike::SendLock(_, r) => r.try_recv().unwrap(),
            LockLike::RecvLock(s, _) => s.try_send(()).unwrap(),
            LockLike::Unbuffered(_, r, taken) => taken.set(r.try_recv().is_ok()),
            _ => unreachable!(),
        }
    }
}

#[test]
fn generic_lock_exclusion() {
    for lock in &LockLike::all() {
        let (is_inside, acquired) = (&Cell::new(false), &Cell::new(0));
        run(open_nursery(async |n| {
            for _ in 0..5 {
                n.start_soon(async {
                    for _ in 0..10 {
                        let _held = lock.acquire().await?;
                        acquired.set(acquired.get() + 1);
                        assert!(!is_inside.replace(true));
                        checkpoint().await?;
                        checkpoint().await?;
                        assert!(is_inside.replace(false));
                    }
                    Ok(())
                });
            }
            Ok(())
        }));
        assert_eq!(acquired.get(), 50);
    }
}

#[test]
fn generic_lock_fifo_fairness() {
    for seed in 0..20 {
        for lock in &LockLike::all() {
            let (begun, record) = (&RefCell::new(vec![]), &RefCell::new(vec![]));
            let main = open_nursery(async |n| {
                for name in 0..3 {
                    n.start_soon(async move {
                        begun.borrow_mut().push(name);
                        for _ in 0..5 {
                            let _held = lock.acquire().await?;
                            record.borrow_mut().push(name);
                        }
                        Ok(())
                    });
                }
                Ok(())
            });
            let main: Result<(), anyhow::Error> = Test::new().seed(seed).run(main);
            main.unwrap();
            // The first three come in any order; then they take turns in that order.
            assert_eq!(*record.borrow(), begun.borrow().repeat(5));
        }
    }
}

#[test]
fn generic_lock_acquire_nowait_blocks_acquire() {
    for lock in &LockLike::all() {
        let record = &RefCell::new(vec![]);
        run(open_nursery(async |n| {
            let held = lock.try_acquire().unwrap();
            assert!(lock.try_acquire().is_none());
            n.start_soon(async {
                record.borrow_mut().push("started");
                let _held = lock.acquire().await?;
                record.borrow_mut().push("finished");
                Ok(())
            });
            settled().await?;
            assert_eq!(*record.borrow(), ["started"]);
            drop(held);
            // It belongs to the one that waits, before that has run.
            assert!(lock.try_acquire().is_none());
            Ok(())
        }));
        assert_eq!(*record.borrow(), ["started", "finished"]);
        run(async {
            assert!(lock.try_acquire().is_some());
            Ok(())
        });
    }
}

// Mutex

#[test]
fn a_mutex_gives_its_data_to_one_task_at_a_time() {
    run(async {
        let mut mutex = Mutex::new(1);
        assert_eq!(format!("{mutex:?}"), "Mutex { value: 1, tasks_waiting: 0 }");
        {
            let mut guard = checkpoints(mutex.lock()).await?;
            *guard += 1;
            assert_eq!(format!("{guard:?} {mutex:?}"), {
                "MutexGuard(2) Mutex { value: <locked>, tasks_waiting: 0 }"
            });
            assert!(mutex.is_locked());
            assert!(matches!(mutex.lock().await, Err(LockError::AlreadyHeld { .. })));
            assert!(matches!(mutex.try_lock(), Err(LockError::AlreadyHeld { .. })));
        }
        assert!(!mutex.is_locked());
        *mutex.get_mut() += 1;
        assert_eq!(*mutex.try_lock()?, 3);
        assert_eq!(mutex.into_inner(), 3);
        Ok(())
    });
}

#[test]
#[expect(clippy::mem_forget, reason = "what happens then is the question")]
fn a_mutex_whose_guard_was_leaked_breaks_when_the_task_ends() {
    run(async {
        let mutex = &Mutex::new(());
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                std::mem::forget(mutex.lock().await?);
                settled().await?;
                Ok(())
            });
            n.start_soon(async {
                checkpoint().await?;
                checkpoint().await?;
                let error = mutex.lock().await.unwrap_err();
                assert!(matches!(error, LockError::Broken { .. }), "{error}");
                Ok(())
            });
            Ok(())
        })
        .await?;
        assert!(matches!(mutex.lock().await, Err(LockError::Broken { .. })));
        assert!(mutex.is_locked());
        Ok(())
    });
}

#[test]
fn a_mutex_is_unlocked_when_its_owner_panics_and_its_data_can_be_used() {
    let mutex = Mutex::new(0);
    let panic = catch_unwind(AssertUnwindSafe(|| {
        run(async {
            *mutex.lock().await? = 1;
            let _guard = mutex.lock().await?;
            panic!("in the middle");
            #[expect(unreachable_code, reason = "for the type")]
            Ok(())
        })
    }));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"in the middle"));
    assert!(!mutex.is_locked());
    assert_eq!(mutex.into_inner(), 1);
}

// RwLock

#[test]
fn readers_share_and_a_writer_is_alone() {
    run(async {
        let mut lock = RwLock::new(0);
        {
            let a = checkpoints(lock.read()).await?;
            let b = lock.try_read()?;
            assert_eq!((*a, *b), (0, 0));
            assert_eq!(lock.statistics().readers, 2);
            assert!(lock.try_write().is_err());
        }
        {
            let mut w = checkpoints(lock.write()).await?;
            *w += 1;
            assert!(lock.statistics().is_written);
            assert!(lock.try_read().is_err() && lock.try_write().is_err());
            assert_eq!(format!("{lock:?}"), "RwLock { value: <locked>, tasks_waiting: 0 }");
        }
        *lock.get_mut() += 1;
        assert_eq!(*lock.try_read()?, 2);
        assert_eq!(lock.into_inner(), 2);
        Ok(())
    });
}

/// Starts readers (`r`) and writers (`w`) one after the other behind a writer, and says who came in together.
fn rw_groups(queue: &str, cancel: Option<usize>) -> Vec<String> {
    let groups = RefCell::new(vec![]);
    run(async {
        let lock = &RwLock::new(());
        let groups = &groups;
        open_nursery(async |n| -> anyhow::Result<()> {
            let first = lock.write().await?;
            let scope = CancelScope::new();
            for (i, kind) in queue.chars().enumerate() {
                let scope = if cancel == Some(i) { scope.clone() } else { CancelScope::new() };
                n.start_soon(async move {
                    let body = async {
                        let (_r, _w) = match kind {
                            'r' => (Some(lock.read().await?), None),
                            _ => (None, Some(lock.write().await?)),
                        };
                        groups.borrow_mut().push((now(), kind));
                        Ok(sleep(Duration::from_secs(1)).await?)
                    };
                    scope.enter(body).await.map(drop)
                });
                settled().await?;
            }
            assert_eq!(lock.statistics().tasks_waiting, queue.len());
            assert!(lock.try_read().is_err());
            scope.cancel();
            sleep(Duration::from_secs(1)).await?;
            drop(first);
            Ok(())
        })
        .await
    });
    let groups = groups.into_inner();
    let groups = groups.chunk_by(|a, b| a.0 == b.0);
    groups.map(|group| group.iter().map(|(_, kind)| kind).collect()).collect()
}

#[test]
fn readers_and_writers_stand_in_one_queue() {
    assert_eq!(rw_groups("rrwrww", None), ["rr", "w", "r", "w", "w"]);
    assert_eq!(rw_groups("wr", None), ["w", "r"]);
    assert_eq!(rw_groups("rwr", Some(1)), ["rr"]);
    assert_eq!(rw_groups("wrwr", Some(0)), ["r", "w", "r"]);
}

#[test]
fn a_reader_may_not_overtake_a_writer_that_waits_but_goes_on_when_that_gives_up() {
    for drops in [false, true] {
        run(async {
            let (lock, scope) = (&RwLock::new(()), &CancelScope::new());
            let is_reading = &Cell::new(false);
            open_nursery(async |n| -> anyhow::Result<()> {
                let _reading = lock.read().await?;
                n.start_soon(async move {
                    let write = async { anyhow::Ok(lock.write().await.map(drop)?) };
                    if drops {
                        // Dropped by the other branch, when the scope is cancelled.
                        let watch = async {
                            nursery::lowlevel::cancelled().await;
                            Ok(())
                        };
                        scope.enter(futures_lite::future::or(watch, write)).await?;
                    } else {
                        scope.enter(write).await?;
                    }
                    Ok(())
                });
                settled().await?;
                n.start_soon(async {
                    let _reading = lock.read().await?;
                    is_reading.set(true);
                    Ok(())
                });
                settled().await?;
                assert!(!is_reading.get());
                assert_eq!(lock.statistics().tasks_waiting, 2);
                scope.cancel();
                settled().await?;
                assert!(is_reading.get());
                assert_eq!(lock.statistics().tasks_waiting, 0);
                Ok(())
            })
            .await
        });
    }
}

// Condition

#[test]
fn condition() {
    run(async {
        let l = Lock::new();
        let c = Condition::with_lock(&l);
        assert!(!l.is_locked() && !c.lock().is_locked());
        checkpoints(c.lock().acquire()).await?;
        assert!(l.is_locked() && c.lock().is_locked());

        let c = &Condition::new();
        assert!(!c.lock().is_locked());
        c.lock().try_acquire()?;
        assert!(c.lock().is_locked());
        assert!(matches!(c.lock().try_acquire(), Err(LockError::AlreadyHeld { .. })));
        c.lock().release()?;

        assert!(matches!(c.wait().await, Err(LockError::NotOwner { .. })));
        assert!(matches!(c.notify(1), Err(LockError::NotOwner { .. })));
        assert!(matches!(c.notify_all(), Err(LockError::NotOwner { .. })));

        let finished = &RefCell::new(vec![]);
        let wait = |i: i32| async move {
            let _guard = c.lock().lock().await?;
            checkpoints(c.wait()).await?;
            finished.borrow_mut().push(i);
            Ok(())
        };
        open_nursery(async |n| -> anyhow::Result<()> {
            for i in 0..3 {
                n.start_soon(wait(i));
                settled().await?;
            }
            c.lock().acquire().await?;
            assert_eq!(c.notify(1)?, 1);
            c.lock().release()?;
            assert!(c.lock().is_locked());
            settled().await?;
            assert_eq!(*finished.borrow(), [0]);
            c.lock().acquire().await?;
            assert_eq!(c.notify_all()?, 2);
            c.lock().release()?;
            settled().await?;
            assert_eq!(finished.take(), [0, 1, 2]);
            Ok(())
        })
        .await?;

        open_nursery(async |n| -> anyhow::Result<()> {
            for i in 0..3 {
                n.start_soon(wait(i));
                settled().await?;
            }
            c.lock().acquire().await?;
            assert_eq!(c.notify(2)?, 2);
            let stats = c.statistics();
            assert_eq!((stats.tasks_waiting, stats.lock.tasks_waiting), (1, 2));
            c.lock().release()?;
            // That handed it to the first.
            assert_eq!(c.statistics().lock.tasks_waiting, 1);
            settled().await?;
            assert_eq!(*finished.borrow(), [0, 1]);
            c.lock().acquire().await?;
            c.notify_all()?;
            c.lock().release()?;
            Ok(())
        })
        .await?;

        // After it was cancelled, the lock is still held.
        let scope = CancelScope::new();
        let done = scope.enter(async {
            c.lock().acquire().await?;
            scope.cancel();
            let result = c.wait().await;
            assert!(matches!(result, Err(LockError::Cancelled(_))));
            assert!(c.lock().is_locked());
            c.lock().release()?;
            Ok::<_, anyhow::Error>(result?)
        });
        assert!(done.await?.is_none());
        Ok(())
    });
}

#[test]
fn a_notification_that_finds_nobody_is_forgotten() {
    run(async {
        let c = &Condition::new();
        c.lock().acquire().await?;
        assert_eq!(c.notify(5)?, 0);
        assert_eq!(c.notify_all()?, 0);
        let waited = nursery::move_on_after(Duration::from_secs(1), async { Ok(c.wait().await?) });
        let waited: anyhow::Result<_> = waited.await;
        assert!(waited?.is_none());
        assert!(c.lock().is_locked());
        Ok(())
    });
}

#[test]
fn who_is_notified_queues_for_the_lock_behind_those_that_are_there() {
    run(async {
        let c = &Condition::new();
        let order = &RefCell::new(vec![]);
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                let _guard = c.lock().lock().await?;
                c.wait().await?;
                order.borrow_mut().push("notified");
                Ok(())
            });
            settled().await?;
            let _guard = c.lock().lock().await?;
            n.start_soon(async {
                let _guard = c.lock().lock().await?;
                order.borrow_mut().push("came before");
                Ok(())
            });
            settled().await?;
            c.notify(1)?;
            Ok(())
        })
        .await?;
        assert_eq!(*order.borrow(), ["came before", "notified"]);
        Ok(())
    });
}

#[test]
fn a_notified_waiter_that_is_cancelled_before_it_has_the_lock_raises_owning_it() {
    run(async {
        let (c, scope, notified) = (&Condition::new(), &CancelScope::new(), &Cell::new(0));
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async move {
                let body = async {
                    c.lock().acquire().await?;
                    let result = c.wait().await;
                    assert!(matches!(result, Err(LockError::Cancelled(_))));
                    c.lock().release()?; // it owns it
                    Ok::<_, anyhow::Error>(result?)
                };
                assert!(scope.enter(body).await?.is_none());
                Ok(())
            });
            settled().await?;
            n.start_soon(async move {
                let _guard = c.lock().lock().await?;
                c.wait().await?;
                notified.set(notified.get() + 1);
                Ok(())
            });
            settled().await?;
            c.lock().acquire().await?;
            c.notify(1)?;
            scope.cancel();
            settled().await?;
            c.lock().release()?;
            settled().await?;
            assert_eq!(notified.get(), 0); // its notification is not passed on
            let _guard = c.lock().lock().await?;
            c.notify(1)?;
            Ok(())
        })
        .await
    });
}

#[test]
fn several_conditions_share_a_lock() {
    run(async {
        let lock = Lock::new();
        let (full, empty) = (&Condition::with_lock(&lock), &Condition::with_lock(&lock));
        let slot = &Cell::new(None);
        let received = &RefCell::new(vec![]);
        open_nursery(async |n| -> anyhow::Result<()> {
            for i in 0..4 {
                n.start_soon(async move {
                    let _guard = full.lock().lock().await?;
                    while slot.get().is_some() {
                        empty.wait().await?;
                    }
                    slot.set(Some(i));
                    full.notify(1)?;
                    Ok(())
                });
            }
            n.start_soon(async move {
                for _ in 0..4 {
                    let _guard = empty.lock().lock().await?;
                    while slot.get().is_none() {
                        full.wait().await?;
                    }
                    received.borrow_mut().extend(slot.take());
                    empty.notify(1)?;
                }
                Ok(())
            });
            Ok(())
        })
        .await?;
        received.borrow_mut().sort_unstable();
        assert_eq!(*received.borrow(), [0, 1, 2, 3]);
        assert!(!lock.is_locked());
        Ok(())
    });
}

#[test]
fn waiters_of_a_condition_are_broken_when_a_notifier_ends_with_the_lock() {
    run(async {
        let c = &Condition::new();
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                c.lock().acquire().await?;
                let error = c.wait().await.unwrap_err();
                assert!(matches!(error, LockError::Broken { .. }), "{error}");
                Ok(())
            });
            settled().await?;
            n.start_soon(async {
                c.lock().acquire().await?;
                c.notify(1)?;
                Ok(())
            });
            Ok(())
        })
        .await
    });
}

// Barrier

#[test]
fn a_barrier_lets_groups_through_and_names_one_leader_each() {
    for seed in 0..20 {
        let leaders = Cell::new(0);
        let done = Test::new().seed(seed).run(async {
            let (barrier, arrived, leaders) = (&Barrier::new(3), &Cell::new(0), &leaders);
            open_nursery(async |n| -> Result<(), Cancelled> {
                for _ in 0..6 {
                    n.start_soon(async {
                        arrived.set(arrived.get() + 1);
                        let leader = checkpoints(barrier.wait()).await?.is_leader();
                        leaders.set(leaders.get() + i32::from(leader));
                        assert!(arrived.get() >= 3);
                        Ok(())
                    });
                }
                Ok(())
            })
            .await?;
            assert_eq!(barrier.statistics().tasks_waiting, 0);
            Ok::<_, Cancelled>(())
        });
        done.unwrap();
        assert_eq!(leaders.get(), 2);
    }
}

#[test]
fn a_waiter_that_gives_up_does_not_count_at_a_barrier() {
    run(async {
        let (barrier, scope, passed) = (&Barrier::new(2), &CancelScope::new(), &Cell::new(0));
        is_cancelled(barrier.wait()).await;
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async move {
                let waited: anyhow::Result<_> =
                    scope.enter(async { Ok(barrier.wait().await?) }).await;
                assert!(waited?.is_none());
                Ok(())
            });
            settled().await?;
            assert_eq!(barrier.statistics().tasks_waiting, 1);
            scope.cancel();
            for _ in 0..2 {
                assert_eq!(passed.get(), 0);
                n.start_soon(async {
                    barrier.wait().await?;
                    passed.set(passed.get() + 1);
                    Ok(())
                });
                settled().await?;
            }
            assert_eq!(passed.get(), 2);
            Ok(())
        })
        .await
    });
}

#[test]
fn nobody_waits_at_a_barrier_of_one_or_none() {
    run(async {
        for size in [0, 1] {
            let barrier = Barrier::new(size);
            assert!(checkpoints(barrier.wait()).await?.is_leader());
            assert_eq!(barrier.statistics().size, size);
        }
        Ok(())
    });
}

// OnceCell

#[test]
fn a_once_cell_is_initialised_once() {
    for seed in 0..20 {
        let made = Cell::new(0);
        let cell = OnceCell::new();
        let done = Test::new().seed(seed).run(async {
            let (cell, made) = (&cell, &made);
            open_nursery(async |n| -> Result<(), Cancelled> {
                for i in 0..4 {
                    n.start_soon(async move {
                        let init = async || {
                            made.set(made.get() + 1);
                            checkpoint().await?;
                            Ok::<_, Cancelled>(i)
                        };
                        let value = checkpoints(cell.get_or_try_init(init)).await?;
                        assert_eq!(Some(value), cell.get());
                        Ok::<_, Cancelled>(())
                    });
                }
                Ok(())
            })
            .await?;
            let value = *checkpoints(cell.get_or_init(async || 99)).await?;
            assert_ne!(value, 99);
            is_cancelled(cell.get_or_init(async || 99)).await;
            Ok::<_, Cancelled>(())
        });
        done.unwrap();
        assert_eq!(made.get(), 1);
        assert_eq!(cell.set(7), Err(7));
        assert!(cell.into_inner().is_some());
    }
}

#[test]
fn after_a_failed_initialiser_the_next_waiter_tries() {
    for way in ["fails", "is cancelled", "is dropped", "panics"] {
        let cell = OnceCell::new();
        let result = catch_unwind(AssertUnwindSafe(|| {
            nursery_testing::run(async {
                let (cell, scope, go) = (&cell, &CancelScope::new(), &Event::new());
                open_nursery(async |n| -> anyhow::Result<()> {
                    n.start_soon(async move {
                        let make = cell.get_or_try_init(async || {
                            go.wait().await?;
                            assert!(way != "panics", "it panics");
                            anyhow::bail!("it fails")
                        });
                        let scoped = scope.enter(async {
                            if way == "is dropped" {
                                let watch = async {
                                    nursery::lowlevel::cancelled().await;
                                    Ok(&0)
                                };
                                futures_lite::future::or(watch, make).await
                            } else {
                                make.await
                            }
                        });
                        match scoped.await {
                            Err(error) => assert_eq!(error.to_string(), "it fails"),
                            Ok(value) => assert_eq!(value.is_some(), way == "is dropped"),
                        }
                        Ok(())
                    });
                    settled().await?;
                    assert_eq!(cell.set(5), Err(5));
                    for i in 1..3 {
                        n.start_soon(nursery::shield(async move {
                            assert_eq!(cell.get_or_init(async || i).await?, &1);
                            Ok(())
                        }));
                        settled().await?;
                    }
                    match way {
                        "fails" | "panics" => go.set(),
                        _ => scope.cancel(),
                    }
                    Ok(())
                })
                .await
            })
        }));
        match result {
            Ok(result) => result.unwrap(),
            Err(panic) => assert_eq!(panic.downcast_ref(), Some(&"it panics")),
        }
        assert_eq!(cell.get(), Some(&1), "after the first {way}");
    }
}

// All of them

#[test]
fn the_tree_shows_what_is_waited_for_and_where() {
    run(async {
        let (event, lock, mutex, rw) =
            (&Event::new(), &Lock::new(), &Mutex::new(()), &RwLock::new(()));
        let (semaphore, limiter, barrier) =
            (&Semaphore::new(0), &CapacityLimiter::new(0), &Barrier::new(2));
        let cell = &OnceCell::<()>::new();
        let condition = &Condition::new();
        lock.try_acquire()?;
        let (_mutex, _rw) = (mutex.try_lock()?, rw.try_read()?);
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                let never = async || sleep_forever().await;
                Ok(cell.get_or_try_init(never).await.copied()?)
            });
            settled().await?;
            let first = line!() + 1;
            n.start_soon(async { Ok(event.wait().await?) });
            n.start_soon(async { Ok(lock.acquire().await?) });
            n.start_soon(async { Ok(mutex.lock().await.map(drop)?) });
            n.start_soon(async { Ok(rw.write().await.map(drop)?) });
            n.start_soon(async { Ok(semaphore.acquire().await.map(drop)?) });
            n.start_soon(async { Ok(limiter.acquire().await.map(drop)?) });
            n.start_soon(async { barrier.wait().await.map(|_| ()).map_err(Into::into) });
            n.start_soon(async {
                condition.lock().acquire().await?;
                Ok(condition.wait().await?)
            });
            n.start_soon(async { Ok(cell.get_or_init(async || ()).await.copied()?) });
            settled().await?;
            let tree = tree().to_string();
            let expected = [
                ("an event", 0),
                ("a lock", 1),
                ("a mutex", 2),
                ("a lock, to write", 3),
                ("a semaphore", 4),
                ("a capacity limiter", 5),
                ("a barrier", 6),
                ("a condition", 9),
                ("a value to be made", 11),
            ];
            for (what, offset) in expected {
                let place = format!("sync.rs:{}", first + offset);
                let shown = tree.lines().any(|line| line.contains(what) && line.contains(&place));
                assert!(shown, "{what} at {place} is not in\n{tree}");
            }
            n.cancel_scope().cancel();
            Ok(())
        })
        .await
    });
}

#[test]
fn they_can_be_made_outside_a_run_and_used_in_several() {
    let (event, lock, semaphore) = (Event::new(), Lock::new(), Semaphore::new(0));
    let limiter = CapacityLimiter::new(1);
    for _ in 0..2 {
        run(open_nursery(async |n| {
            n.start_soon(async {
                event.wait().await?;
                let _guard = lock.lock().await?;
                let _token = limiter.acquire().await?;
                semaphore.release()?;
                Ok(())
            });
            settled().await?;
            event.set();
            semaphore.acquire().await?.forget();
            Ok(())
        }));
    }
    assert!(!lock.is_locked());
}

#[test]
fn each_fails_in_a_cancelled_scope_with_nothing_done() {
    run(async {
        let lock = Lock::new();
        is_cancelled(lock.acquire()).await;
        is_cancelled(lock.lock()).await;
        assert!(!lock.is_locked());
        let rw = RwLock::new(());
        is_cancelled(rw.read()).await;
        is_cancelled(rw.write()).await;
        assert!(rw.try_write().is_ok());
        let semaphore = Semaphore::new(1);
        is_cancelled(semaphore.acquire()).await;
        assert_eq!(semaphore.value(), 1);
        let limiter = CapacityLimiter::new(1);
        is_cancelled(limiter.acquire()).await;
        assert_eq!(limiter.borrowed_tokens(), 0);
        let cell = OnceCell::new();
        is_cancelled(cell.get_or_init(async || unreachable!())).await;
        assert_eq!(cell.set(()), Ok(()));
        Ok(())
    });
}

#[test]
fn a_cancellation_inside_an_io_error_is_recognised() {
    let done = nursery_testing::run(async {
        let scope = CancelScope::new();
        scope.cancel();
        let done = scope
            .enter(async {
                let lock = Lock::new();
                lock.acquire().await?;
                Ok::<_, std::io::Error>(())
            })
            .await?;
        let limited = scope_of_io(async { Ok(CapacityLimiter::new(1).acquire().await.map(drop)?) });
        Ok::<_, std::io::Error>((done, limited.await?))
    });
    assert_eq!(done.unwrap(), (None, None));
}

async fn scope_of_io<T>(
    body: impl Future<Output = std::io::Result<T>>,
) -> std::io::Result<Option<T>> {
    let scope = CancelScope::new();
    scope.cancel();
    scope.enter(body).await
}

#[test]
fn try_operations_convert_into_io_errors_that_would_block() {
    run(async {
        let semaphore = Semaphore::new(0);
        let error: std::io::Error = semaphore.try_acquire().unwrap_err().into();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        let limiter = CapacityLimiter::new(0);
        let error: std::io::Error = limiter.try_acquire().unwrap_err().into();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        Ok(())
    });
}
