//! Whatever cuts a wait short, and whenever: no lock, token or permit is lost, nor had by two. Under 100 seeds each.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::Context;

use futures_lite::future::{or, poll_once, zip};
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use nursery::lowlevel;
use nursery::{
    CancelScope, Cancelled, checkpoint, move_on_after, now, open_nursery, sleep, sleep_forever,
};
use nursery_io::sync::{
    Barrier, Borrower, CapacityLimiter, Condition, Event, Lock, LockError, Mutex, OnceCell, RwLock,
    Semaphore,
};

mod support;

use support::{SECOND, seeds, seeds_with_budget, settled, spin, waker_that_calls};

trait Held {}
impl<T> Held for T {}

/// Something of which there is one.
#[derive(Debug)]
enum Subject {
    Lock(Lock),
    Mutex(Mutex<()>),
    Read(RwLock<()>),
    Write(RwLock<()>),
    Semaphore(Semaphore),
    Limiter(CapacityLimiter),
    Condition(Condition),
}

impl Subject {
    const ALL: [fn() -> Subject; 7] = [
        || Subject::Lock(Lock::new()),
        || Subject::Mutex(Mutex::new(())),
        || Subject::Read(RwLock::new(())),
        || Subject::Write(RwLock::new(())),
        || Subject::Semaphore(Semaphore::with_max(1, 1)),
        || Subject::Limiter(CapacityLimiter::new(1)),
        || Subject::Condition(Condition::new()),
    ];

    async fn acquire(&self) -> anyhow::Result<Box<dyn Held + '_>> {
        Ok(match self {
            Subject::Lock(l) => Box::new(l.lock().await?),
            Subject::Mutex(l) => Box::new(l.lock().await?),
            Subject::Read(l) => Box::new(l.read().await?),
            Subject::Write(l) => Box::new(l.write().await?),
            Subject::Semaphore(l) => Box::new(l.acquire().await?),
            Subject::Limiter(l) => Box::new(l.acquire_on_behalf_of(Borrower::unique()).await?),
            Subject::Condition(l) => Box::new(l.lock().lock().await?),
        })
    }

    /// Takes it so that `acquire` has to wait.
    fn hold(&self) -> Box<dyn Held + '_> {
        match self {
            Subject::Lock(l) => Box::new(l.try_lock().unwrap()),
            Subject::Mutex(l) => Box::new(l.try_lock().unwrap()),
            Subject::Read(l) | Subject::Write(l) => Box::new(l.try_write().unwrap()),
            Subject::Semaphore(l) => Box::new(l.try_acquire().unwrap()),
            Subject::Limiter(l) => {
                Box::new(l.try_acquire_on_behalf_of(Borrower::unique()).unwrap())
            }
            Subject::Condition(l) => Box::new(l.lock().try_lock().unwrap()),
        }
    }

    fn waiting(&self) -> usize {
        match self {
            Subject::Lock(l) => l.statistics().tasks_waiting,
            Subject::Mutex(l) => l.statistics().tasks_waiting,
            Subject::Read(l) | Subject::Write(l) => l.statistics().tasks_waiting,
            Subject::Semaphore(l) => l.statistics().tasks_waiting,
            Subject::Limiter(l) => l.statistics().tasks_waiting,
            Subject::Condition(l) => l.statistics().lock.tasks_waiting,
        }
    }

    /// It is whole again: free, nobody waits, and there is one of it.
    fn assert_free(&self) {
        assert_eq!(self.waiting(), 0, "{self:?}");
        self.assert_one();
        drop(self.hold());
        self.assert_one();
    }

    fn assert_one(&self) {
        match self {
            Subject::Semaphore(l) => assert_eq!(l.value(), 1),
            Subject::Limiter(l) => assert_eq!(l.borrowed_tokens(), 0),
            Subject::Read(l) | Subject::Write(l) => assert_eq!(l.statistics().readers, 0),
            Subject::Lock(l) => assert_eq!(l.statistics().owner, None),
            Subject::Mutex(l) => assert_eq!(l.statistics().owner, None),
            Subject::Condition(l) => assert_eq!(l.statistics().lock.owner, None),
        }
    }
}

/// Runs `test` with each subject under each seed; afterwards, the subject has to be whole.
fn each(test: impl AsyncFn(&Subject) -> anyhow::Result<()>) {
    each_with_budget(1, test);
}

fn each_with_budget(budget: u32, test: impl AsyncFn(&Subject) -> anyhow::Result<()>) {
    for make in Subject::ALL {
        seeds_with_budget(budget, async || {
            let subject = make();
            test(&subject).await?;
            subject.assert_free();
            Ok(())
        });
    }
}

/// Acquires, holds for a moment, and notes it.
async fn use_it(subject: &Subject, log: &RefCell<Vec<u8>>, name: u8) -> anyhow::Result<()> {
    let _held = subject.acquire().await?;
    log.borrow_mut().push(name);
    Ok(checkpoint().await?)
}

/// The same in `scope`. Logs what came of it: the name, or a `x`.
async fn use_in(
    scope: &CancelScope,
    subject: &Subject,
    log: &RefCell<Vec<u8>>,
    name: u8,
) -> anyhow::Result<()> {
    // Under a shield once it is acquired.
    let body = async {
        let _held = subject.acquire().await?;
        log.borrow_mut().push(name);
        nursery::shield(checkpoint()).await?;
        anyhow::Ok(())
    };
    if scope.enter(body).await?.is_none() {
        log.borrow_mut().push(b'x');
    }
    Ok(())
}

fn text(log: &RefCell<Vec<u8>>) -> String {
    String::from_utf8(log.borrow().clone()).unwrap()
}

#[test]
fn cancelled_before_it_takes_nothing() {
    each(async |subject| {
        let (scope, log) = (CancelScope::new(), RefCell::default());
        scope.cancel();
        use_in(&scope, subject, &log, b'a').await?;
        assert_eq!(text(&log), "x");
        Ok(())
    });
}

#[test]
fn cancelled_in_the_queue_it_leaves_the_queue_and_the_others_keep_their_order() {
    each(async |subject| {
        let scopes: Vec<_> = (0..4).map(|_| CancelScope::new()).collect();
        let log = &RefCell::default();
        open_nursery(async |n| {
            let held = subject.hold();
            for (scope, name) in scopes.iter().zip(b'a'..) {
                n.start_soon(use_in(scope, subject, log, name));
                settled().await?;
            }
            assert_eq!(subject.waiting(), 4);
            scopes[1].cancel();
            scopes[2].cancel();
            assert_eq!(subject.waiting(), 2);
            settled().await?;
            assert_eq!(text(log), "xx");
            drop(held);
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        let shared = matches!(subject, Subject::Read(_));
        assert!(text(log) == "xxad" || shared && text(log) == "xxda");
        Ok(())
    });
}

#[test]
fn cancelled_after_the_hand_over_it_has_it() {
    each(async |subject| {
        let (scope, log) = (&CancelScope::new(), &RefCell::default());
        open_nursery(async |n| {
            let held = subject.hold();
            n.start_soon(use_in(scope, subject, log, b'a'));
            settled().await?;
            drop(held);
            scope.cancel();
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        assert_eq!(text(log), "a");
        Ok(())
    });
}

#[test]
fn cancelled_before_the_release_it_has_nothing_and_the_next_has_it() {
    each(async |subject| {
        let (scope, log) = (&CancelScope::new(), &RefCell::default());
        open_nursery(async |n| {
            let held = subject.hold();
            n.start_soon(use_in(scope, subject, log, b'a'));
            settled().await?;
            n.start_soon(use_it(subject, log, b'b'));
            settled().await?;
            scope.cancel();
            drop(held);
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        assert!(["xb", "bx"].contains(&&*text(log)));
        Ok(())
    });
}

#[test]
fn cancelled_in_the_yield_after_it_was_free_it_has_it() {
    each(async |subject| {
        let scope = &CancelScope::new();
        let done = scope.enter(async {
            let mut acquire = pin!(subject.acquire());
            assert!(poll_once(&mut acquire).await.is_none()); // it yields, as the budget is 1
            scope.cancel();
            let _held = acquire.await?;
            assert!(checkpoint().await.is_err());
            anyhow::Ok(())
        });
        assert_eq!(done.await?, Some(()));
        Ok(())
    });
}

#[test]
fn dropped_before_or_in_its_first_poll_it_takes_nothing() {
    each(async |subject| {
        drop(subject.acquire());
        subject.assert_free();
        // It is acquired, and yields: the guard has not reached the caller yet.
        assert!(poll_once(subject.acquire()).await.is_none());
        subject.assert_free();
        Ok(())
    });
}

#[test]
fn dropped_in_the_queue_it_leaves_the_queue() {
    each(async |subject| {
        let (stop, log) = (&Event::new(), &RefCell::default());
        open_nursery(async |n| {
            let held = subject.hold();
            for name in [b'a', b'b', b'c'] {
                let stopped = async move {
                    match name {
                        b'b' => Ok(stop.wait().await?),
                        _ => Ok(sleep_forever().await?),
                    }
                };
                n.start_soon(or(stopped, use_it(subject, log, name)));
                settled().await?;
            }
            stop.set();
            settled().await?;
            assert_eq!(subject.waiting(), 2);
            drop(held);
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        let shared = matches!(subject, Subject::Read(_));
        assert!(text(log) == "ac" || shared && text(log) == "ca");
        Ok(())
    });
}

#[test]
fn dropped_after_the_hand_over_it_passes_it_on() {
    each(async |subject| {
        let (stop, log) = (&Event::new(), &RefCell::default());
        open_nursery(async |n| {
            let held = subject.hold();
            for _ in 0..2 {
                n.start_soon(or(async { Ok(stop.wait().await?) }, use_it(subject, log, b'a')));
                settled().await?;
            }
            n.start_soon(use_it(subject, log, b'c'));
            settled().await?;
            drop(held); // to the first
            stop.set(); // which drops it, and so does the second, before or after it is handed to that
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        assert_eq!(text(log), "c");
        Ok(())
    });
}

#[test]
fn dropped_after_the_hand_over_with_nobody_behind_it_is_free() {
    each(async |subject| {
        let (stop, log) = (&Event::new(), &RefCell::default());
        open_nursery(async |n| {
            let held = subject.hold();
            n.start_soon(or(async { Ok(stop.wait().await?) }, use_it(subject, log, b'a')));
            settled().await?;
            drop(held);
            stop.set();
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        assert_eq!(text(log), "");
        Ok(())
    });
}

#[test]
fn dropped_with_its_nursery_after_the_hand_over_it_passes_it_on() {
    each(async |subject| {
        let (stop, log) = (&Event::new(), &RefCell::default());
        open_nursery(async |n| {
            let held = subject.hold();
            let inner = open_nursery(async |inner| {
                inner.start_soon(use_it(subject, log, b'a'));
                Ok(sleep_forever().await?)
            });
            n.start_soon(or(async { Ok(stop.wait().await?) }, inner));
            settled().await?;
            n.start_soon(use_it(subject, log, b'b'));
            settled().await?;
            drop(held);
            stop.set();
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        assert_eq!(text(log), "b");
        Ok(())
    });
}

#[test]
fn a_deadline_at_the_instant_of_the_release_comes_first() {
    each(async |subject| {
        let log = &RefCell::default();
        open_nursery(async |n| {
            let held = subject.hold();
            n.start_soon(async {
                let timed = move_on_after(SECOND, use_it(subject, log, b'a')).await?;
                assert!(timed.is_none());
                Ok(())
            });
            settled().await?;
            n.start_soon(use_it(subject, log, b'b'));
            sleep(SECOND).await?;
            drop(held);
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        assert_eq!(text(log), "b");
        Ok(())
    });
}

#[test]
fn a_release_at_the_instant_of_a_deadline_set_later_comes_first() {
    each(async |subject| {
        let (scope, log) = (&CancelScope::new(), &RefCell::default());
        open_nursery(async |n| {
            let held = subject.hold();
            n.start_soon(use_in(scope, subject, log, b'a'));
            sleep(SECOND).await?;
            drop(held);
            scope.set_deadline(Some(now()));
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        assert_eq!(text(log), "a");
        Ok(())
    });
}

#[test]
fn under_a_foreign_waker_each_gets_its_turn() {
    each(async |subject| {
        let log = &RefCell::default();
        open_nursery(async |n| {
            let held = subject.hold();
            for names in [*b"ab", *b"cd"] {
                n.start_soon(async move {
                    let uses = names.map(|name| use_it(subject, log, name));
                    let mut uses: FuturesUnordered<_> = uses.into_iter().collect();
                    while let Some(done) = uses.next().await {
                        done?;
                    }
                    Ok(())
                });
            }
            settled().await?;
            assert_eq!(subject.waiting(), 4);
            drop(held);
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        log.borrow_mut().sort_unstable();
        assert_eq!(text(log), "abcd");
        Ok(())
    });
}

#[test]
fn under_a_foreign_waker_each_is_cancelled() {
    each(async |subject| {
        let (scope, log) = (&CancelScope::new(), &RefCell::default());
        open_nursery(async |n| {
            let held = subject.hold();
            n.start_soon(async {
                let body = async {
                    let uses = [b'a', b'b'].map(|name| use_it(subject, log, name));
                    let mut uses: FuturesUnordered<_> = uses.into_iter().collect();
                    let mut error = Ok(());
                    while let Some(done) = uses.next().await {
                        error = done;
                        assert!(error.is_err());
                    }
                    error
                };
                assert!(scope.enter(body).await?.is_none());
                Ok(())
            });
            settled().await?;
            scope.cancel();
            settled().await?;
            assert_eq!(subject.waiting(), 0);
            drop(held);
            Ok::<_, anyhow::Error>(())
        })
        .await
    });
}

#[test]
fn polled_for_nothing_it_stays_where_it_is_in_the_queue() {
    each(async |subject| {
        let log = &RefCell::default();
        open_nursery(async |n| {
            let held = subject.hold();
            n.start_soon(async {
                let spin = spin(10, || assert!(subject.waiting() <= 2));
                let ((), used) = zip(spin, use_it(subject, log, b'a')).await;
                used
            });
            checkpoint().await?;
            checkpoint().await?;
            assert_eq!(subject.waiting(), 1);
            n.start_soon(use_it(subject, log, b'b'));
            settled().await?;
            assert_eq!(subject.waiting(), 2);
            drop(held);
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        let shared = matches!(subject, Subject::Read(_));
        assert!(text(log) == "ab" || shared && text(log) == "ba");
        Ok(())
    });
}

/// Begins so many waits: the first that is woken drops all of them, inside the call that wakes it.
async fn doom(subject: &Rc<Subject>, count: usize) -> anyhow::Result<()> {
    let waits: Rc<RefCell<Vec<LocalBoxFuture<'static, ()>>>> = Rc::default();
    let waker = waker_that_calls({
        let waits = waits.clone();
        move || drop(waits.take())
    });
    for _ in 0..count {
        let subject = subject.clone();
        let mut wait = Box::pin(async move { drop(subject.acquire().await) });
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        waits.borrow_mut().push(wait);
    }
    Ok(())
}

#[test]
fn a_waker_that_drops_the_wait_it_would_wake_and_others_passes_it_on() {
    for make in Subject::ALL {
        for count in 1..=3 {
            seeds(async || {
                let (subject, log) = (&Rc::new(make()), &RefCell::default());
                for is_last in [false, true] {
                    open_nursery(async |n| {
                        let held = subject.hold();
                        n.start_soon(doom(subject, count)); // not in the task that holds it
                        settled().await?;
                        if !is_last {
                            n.start_soon(use_it(subject, log, b'a'));
                            settled().await?;
                        }
                        assert_eq!(subject.waiting(), count + usize::from(!is_last));
                        drop(held);
                        assert_eq!(subject.waiting(), 0);
                        Ok::<_, anyhow::Error>(())
                    })
                    .await?;
                    subject.assert_free();
                }
                assert_eq!(text(log), "a");
                Ok(())
            });
        }
    }
}

#[test]
fn in_a_storm_of_time_limits_nothing_is_lost() {
    for budget in [1, 3] {
        each_with_budget(budget, async |subject| {
            let (got, lost) = (&Cell::new(0), &Cell::new(0));
            open_nursery(async |n| {
                for i in 0..12_u32 {
                    n.start_soon(async move {
                        for j in 0..4 {
                            let limit = SECOND * ((i * 7 + j * 5) % 6);
                            let timed = move_on_after(limit, async {
                                let _held = subject.acquire().await?;
                                got.set(got.get() + 1);
                                Ok::<_, anyhow::Error>(sleep(SECOND * (i % 3)).await?)
                            });
                            let timed = timed.await?;
                            lost.set(lost.get() + usize::from(timed.is_none()));
                        }
                        Ok(())
                    });
                }
                Ok::<_, anyhow::Error>(())
            })
            .await?;
            assert!(got.get() > 0 && lost.get() > 0);
            Ok(())
        });
    }
}

// The others

#[test]
fn an_event_set_before_the_cancellation_wins_and_after_it_loses() {
    seeds(async || {
        let (event, scopes) = (&Event::new(), [CancelScope::new(), CancelScope::new()]);
        let woken = &RefCell::new(vec![]);
        open_nursery(async |n| {
            for (i, scope) in scopes.iter().enumerate() {
                n.start_soon(async move {
                    if scope.enter(event.wait()).await?.is_some() {
                        woken.borrow_mut().push(i);
                    }
                    Ok(())
                });
            }
            settled().await?;
            scopes[0].cancel();
            event.set();
            scopes[1].cancel();
            Ok::<_, Cancelled>(())
        })
        .await?;
        assert_eq!(*woken.borrow(), [1]);
        Ok(())
    });
}

#[test]
fn an_event_wakes_waits_under_foreign_wakers_and_forgets_those_that_were_dropped() {
    seeds(async || {
        let (event, stop) = (&Event::new(), &Event::new());
        open_nursery(async |n| {
            n.start_soon(async {
                let mut waits: FuturesUnordered<_> = (0..3).map(|_| event.wait()).collect();
                while let Some(woken) = waits.next().await {
                    woken?;
                }
                Ok(())
            });
            n.start_soon(or(stop.wait(), event.wait()));
            settled().await?;
            assert_eq!(event.statistics().tasks_waiting, 4);
            stop.set();
            settled().await?;
            assert_eq!(event.statistics().tasks_waiting, 3);
            event.set();
            Ok::<_, Cancelled>(())
        })
        .await?;
        Ok(())
    });
}

#[test]
fn a_condition_wait_that_is_cut_short_leaves_the_lock_whole() {
    // How the wait of the first of two ends; `notified` of the second.
    for (way, notified) in [("cancelled", 1), ("dropped", 1), ("notified, then dropped", 0)] {
        seeds(async || {
            let (c, scope, stop) = (&Condition::new(), &CancelScope::new(), &Event::new());
            let woken = &Cell::new(0);
            open_nursery(async |n| {
                n.start_soon(async move {
                    let guard = c.lock().lock().await?;
                    if way == "cancelled" {
                        let body = async {
                            let result = c.wait().await;
                            assert!(matches!(result, Err(LockError::Cancelled(_))));
                            assert!(c.lock().statistics().owner == Some(lowlevel::current_task()));
                            Ok::<_, anyhow::Error>(result?)
                        };
                        assert!(scope.enter(body).await?.is_none());
                    } else {
                        let wait = async { anyhow::Ok(c.wait().await?) };
                        or(async { Ok(stop.wait().await?) }, wait).await?;
                        assert!(c.lock().statistics().owner != Some(lowlevel::current_task()));
                    }
                    drop(guard); // releases it only if it is still owned
                    Ok(())
                });
                settled().await?;
                n.start_soon(async move {
                    let _guard = c.lock().lock().await?;
                    let wait = async { anyhow::Ok(c.wait().await?) };
                    let done: anyhow::Result<_> = move_on_after(SECOND, wait).await;
                    woken.set(i32::from(done?.is_some()));
                    Ok(())
                });
                settled().await?;
                let guard = c.lock().lock().await?;
                if way == "notified, then dropped" {
                    assert_eq!(c.notify(1)?, 1);
                    stop.set();
                } else {
                    scope.cancel();
                    stop.set();
                    drop(guard);
                    settled().await?;
                    let _guard = c.lock().lock().await?;
                    assert_eq!(c.notify(1)?, 1);
                }
                Ok::<_, anyhow::Error>(())
            })
            .await?;
            assert_eq!(woken.get(), notified);
            assert_eq!(c.statistics().tasks_waiting, 0);
            c.lock().try_acquire()?;
            Ok(())
        });
    }
}

#[test]
fn a_condition_wait_dropped_with_the_lock_in_its_hands_passes_it_on() {
    seeds(async || {
        let (c, stop) = (&Condition::new(), &Event::new());
        open_nursery(async |n| {
            n.start_soon(async move {
                c.lock().acquire().await?;
                let wait = async { anyhow::Ok(c.wait().await?) };
                or(async { Ok(stop.wait().await?) }, wait).await
            });
            settled().await?;
            c.lock().acquire().await?;
            n.start_soon(async {
                c.lock().acquire().await?;
                c.lock().release()?;
                Ok(())
            });
            settled().await?;
            c.notify(1)?;
            c.lock().release()?; // to the one that came, which passes it to the notified one, which is gone
            stop.set();
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        c.lock().try_acquire()?;
        Ok(())
    });
}

#[test]
fn waits_at_a_barrier_that_end_early_do_not_count() {
    seeds(async || {
        let (barrier, stop, scope) = (&Barrier::new(3), &Event::new(), &CancelScope::new());
        let passed = &Cell::new(0);
        open_nursery(async |n| {
            let wait = || async {
                barrier.wait().await?;
                passed.set(passed.get() + 1);
                Ok(())
            };
            n.start_soon(or(stop.wait(), wait()));
            n.start_soon(async move { scope.enter(wait()).await.map(drop) });
            settled().await?;
            stop.set();
            scope.cancel();
            n.start_soon(wait());
            settled().await?;
            assert_eq!((passed.get(), barrier.statistics().tasks_waiting), (0, 1));
            n.start_soon(async move {
                let mut waits: FuturesUnordered<_> = [wait(), wait()].into_iter().collect();
                while let Some(done) = waits.next().await {
                    done?;
                }
                Ok(())
            });
            Ok::<_, Cancelled>(())
        })
        .await?;
        assert_eq!(passed.get(), 3);
        Ok(())
    });
}

#[test]
fn a_turn_to_initialise_that_was_handed_to_a_dropped_wait_goes_to_the_next() {
    seeds(async || {
        let (cell, stop, fail) = (&OnceCell::new(), &Event::new(), &Event::new());
        open_nursery(async |n| {
            n.start_soon(async {
                let made = cell.get_or_try_init(async || {
                    fail.wait().await?;
                    stop.set(); // drops the next in the same turn
                    anyhow::bail!("it fails")
                });
                assert_eq!(made.await.unwrap_err().to_string(), "it fails");
                Ok(())
            });
            settled().await?;
            n.start_soon(or(async { Ok(stop.wait().await?) }, async {
                Ok(cell.get_or_init(async || ()).await.copied()?)
            }));
            settled().await?;
            n.start_soon(async { Ok(cell.get_or_init(async || ()).await.copied()?) });
            settled().await?;
            fail.set();
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        assert!(cell.get().is_some());
        Ok(())
    });
}

/// What is cancelled yields before it raises; a shield that goes up meanwhile comes too late, and it does not wait.
async fn shielded_in_the_yield<F: Future<Output = anyhow::Result<()>>>(
    wait: F,
    meanwhile: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (cancelled, scope) = (CancelScope::new(), CancelScope::new());
    cancelled.cancel();
    let body = scope.enter(async {
        let mut wait = pin!(wait);
        assert!(poll_once(&mut wait).await.is_none());
        scope.set_shield(true);
        meanwhile().await?;
        assert!(wait.await.is_err(), "what it has seen stands");
        anyhow::Ok(())
    });
    assert!(cancelled.enter(body).await?.is_some());
    Ok(())
}

#[test]
fn the_wait_for_an_event_that_has_seen_its_cancellation_raises_it() {
    seeds(async || {
        let event = Event::new();
        let wait = async { Ok(event.wait().await?) };
        shielded_in_the_yield(wait, async || {
            event.set();
            Ok(())
        })
        .await
    });
}

#[test]
fn the_wait_for_a_notification_that_has_seen_its_cancellation_raises_it() {
    seeds(async || {
        let c = &Condition::new();
        open_nursery(async |n| {
            c.lock().acquire().await?;
            n.start_soon(async {
                let _guard = c.lock().lock().await?;
                c.notify(1)?;
                Ok(())
            });
            settled().await?;
            let wait = async { Ok(c.wait().await?) };
            shielded_in_the_yield(wait, async || Ok(settled().await?)).await?;
            c.lock().release()?;
            Ok::<_, anyhow::Error>(())
        })
        .await
    });
}
