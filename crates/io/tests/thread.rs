//! Promises of `nursery_io::thread::to_thread`: what blocks does so in a thread, and the task that waits for it is
//! cancelled as the contract says.
//!
//! Threads and tasks keep step by channels. The run's own thread may block on one of these for as long as a thread of
//! ours needs to send: nothing of that depends on the run.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use futures_lite::future;
use nursery::lowlevel::{self, wait_all_tasks_blocked};
use nursery::{
    Builder, CancelScope, Cancelled, TaskError, TaskLocal, checkpoint, move_on_after, now,
    open_nursery, sleep, tree,
};
use nursery_io::sync::{Borrower, CapacityLimiter};
use nursery_io::thread::from_thread::{self, FromThreadError};
use nursery_io::thread::{
    Limiter, active_thread_count, default_limiter, to_thread, wait_all_threads_completed,
};
use nursery_testing::{Test, run};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

async fn settle() -> Result<(), Cancelled> {
    wait_all_tasks_blocked(Duration::ZERO).await
}

/// A job that says that it has begun, and waits until it is told to end.
struct Held {
    begun: Receiver<()>,
    end: Sender<()>,
}

impl Held {
    fn new() -> (Held, impl FnOnce() + Send + 'static) {
        let (tx, begun) = mpsc::channel();
        let (end, rx) = mpsc::channel();
        let job = move || {
            tx.send(()).expect("the test listens");
            rx.recv().expect("the test ends it");
        };
        (Held { begun, end }, job)
    }

    fn wait_begun(&self) {
        self.begun.recv().expect("it begins");
    }

    fn end(&self) {
        self.end.send(()).expect("it waits");
    }
}

/// Says when it is dropped, and in which thread.
struct Dropped(Sender<thread::ThreadId>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _may_be_over = self.0.send(thread::current().id()).is_ok();
    }
}

/// G2, `run_in_worker_thread`
#[test]
fn a_function_runs_in_another_thread_and_its_result_comes_back() -> anyhow::Result<()> {
    run(async {
        let home = thread::current().id();
        let (x, id) = to_thread::run_sync(|| (2, thread::current().id())).await?;
        assert_eq!(x, 2);
        assert_ne!(id, home);
        assert_eq!(thread::current().id(), home);
        Ok(())
    })
}

/// G2, `trio_to_thread_run_sync_expected_error`
#[test]
fn an_error_comes_back_unchanged() -> anyhow::Result<()> {
    run(async {
        let failed: Result<(), (i32, thread::ThreadId)> =
            to_thread::run_sync(|| Err((7, thread::current().id()))).await?;
        let (value, id) = failed.unwrap_err();
        assert_eq!(value, 7);
        assert_ne!(id, thread::current().id());
        Ok(())
    })
}

/// G24
#[test]
fn a_panic_goes_on_in_the_task() -> anyhow::Result<()> {
    run(async {
        let call = to_thread::run_sync(|| resume_unwind(Box::new("from the thread")));
        let call: to_thread::Call<()> = call;
        let caught = future::FutureExt::catch_unwind(AssertUnwindSafe(call)).await;
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"from the thread"));
        assert_eq!(default_limiter().borrowed_tokens(), 0);
        assert_eq!(active_thread_count(), 0);
        Ok(())
    })
}

/// `thread_cache_deref`
#[test]
fn what_the_function_held_is_dropped_before_the_result_comes() -> anyhow::Result<()> {
    run(async {
        let held = Arc::new(());
        for _ in 0..20 {
            let inside = held.clone();
            to_thread::run_sync(move || drop(Arc::clone(&inside))).await?;
            assert_eq!(Arc::strong_count(&held), 1);
        }
        Ok(())
    })
}

/// G8
#[test]
fn a_thread_is_used_again() -> anyhow::Result<()> {
    run(async {
        // Other tests use the same threads: but a hundred jobs in a row do not need a hundred.
        let mut ids = Vec::new();
        for _ in 0..100 {
            let id = to_thread::run_sync(|| thread::current().id()).await?;
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        assert!(ids.len() < 100);
        Ok(())
    })
}

/// G10, `named_thread`, `named_thread_os`
#[cfg(target_os = "linux")]
#[test]
fn a_thread_is_named_while_it_works() -> anyhow::Result<()> {
    fn name() -> String {
        std::fs::read_to_string("/proc/thread-self/comm").unwrap_or_default().trim_end().to_owned()
    }
    run(async {
        let named = |name_: &str| to_thread::run_sync(name).name(name_);
        assert_eq!(named("Ω resolver").await?, "Ω resolver");
        assert_eq!(named("of more than 15 bytes").await?, "of more than 15");
        assert_eq!(named("with\0nul").await?, "withnul");
        assert_eq!(to_thread::run_sync(name).await?, "main"); // the task
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                let place = to_thread::run_sync(name).await?;
                assert!(place.starts_with("thread.rs:"), "{place}");
                Ok(())
            });
            Ok(())
        })
        .await?;
        Ok(())
    })
}

/// G1, G5, `run_in_worker_thread_cancellation`: not even the limiter is asked.
#[test]
fn cancelled_before_it_calls_nothing() -> anyhow::Result<()> {
    run(async {
        for abandons in [false, true] {
            let limiter = Rc::new(Recording::default());
            let scope = CancelScope::new();
            scope.cancel();
            let call = to_thread::run_sync(|| unreachable!("cancelled before"));
            let call: to_thread::Call<()> = call;
            let entered = scope.enter(call.abandon_on_cancel(abandons).limiter(&limiter)).await?;
            assert!(entered.is_none());
            assert_eq!(limiter.said.take(), [""; 0]);
        }
        Ok(())
    })
}

/// G5, `run_in_worker_thread_cancellation`
#[test]
fn a_task_that_is_cancelled_waits_for_its_thread() -> anyhow::Result<()> {
    run(async {
        let (held, job) = Held::new();
        let record = RefCell::new(vec![]);
        let scope = CancelScope::new();
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                let body = async {
                    record.borrow_mut().push("start");
                    let result = to_thread::run_sync(|| (job(), "result").1).await?;
                    record.borrow_mut().push(result);
                    assert!(lowlevel::is_cancelled());
                    anyhow::Ok(())
                };
                // It was not cancelled, although it was asked to be: nothing raised.
                assert!(scope.enter(body).await?.is_some());
                assert!(scope.cancel_called());
                assert!(!scope.cancelled_caught());
                Ok(())
            });
            settle().await?;
            held.wait_begun();
            assert!(tree().to_string().contains("waits for a thread ("), "{}", tree());
            scope.cancel();
            settle().await?;
            assert_eq!(*record.borrow(), ["start"]);
            assert!(tree().to_string().contains("waits for a thread ("), "{}", tree());
            held.end();
            Ok(())
        })
        .await?;
        assert_eq!(record.take(), ["start", "result"]);
        Ok(())
    })
}

/// G5
#[test]
fn the_next_checkpoint_after_it_raises() -> anyhow::Result<()> {
    run(async {
        let (held, job) = Held::new();
        let scope = CancelScope::new();
        let value = Cell::new(0);
        let body = async {
            value.set(to_thread::run_sync(|| (job(), 5).1).await?);
            checkpoint().await?;
            anyhow::Ok(())
        };
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                settle().await?;
                held.wait_begun();
                scope.cancel();
                held.end();
                Ok(())
            });
            assert!(scope.enter(body).await?.is_none());
            Ok(())
        })
        .await?;
        assert_eq!(value.get(), 5);
        Ok(())
    })
}

/// G6, `run_in_worker_thread_cancellation`
#[test]
fn a_task_may_abandon_its_thread() -> anyhow::Result<()> {
    run(async {
        let (held, job) = Held::new();
        let (tx, dropped) = mpsc::channel();
        let limiter = Rc::new(CapacityLimiter::new(1));
        let scope = CancelScope::new();
        let call = to_thread::run_sync(move || {
            let result = Dropped(tx);
            job();
            result
        });
        let body = call.abandon_on_cancel(true).limiter(&limiter);
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                settle().await?;
                held.wait_begun();
                scope.cancel();
                Ok(())
            });
            assert!(scope.enter(body).await?.is_none());
            assert!(scope.cancelled_caught());
            Ok(())
        })
        .await?;
        // The thread goes on, and has its token.
        assert_eq!(active_thread_count(), 1);
        assert_eq!(lowlevel::statistics().busy, 1);
        settle().await?;
        assert_eq!(limiter.borrowed_tokens(), 1);
        assert!(dropped.try_recv().is_err());
        held.end();
        wait_all_threads_completed().await?;
        assert!(dropped.try_recv().is_ok(), "the result is dropped");
        assert_eq!(limiter.borrowed_tokens(), 0);
        Ok(())
    })
}

#[test]
fn the_panic_of_an_abandoned_thread_is_dropped_with_it() -> anyhow::Result<()> {
    run(async {
        let (held, job) = Held::new();
        let call = to_thread::run_sync(|| {
            job();
            resume_unwind(Box::new("nobody hears"))
        });
        let call: to_thread::Call<()> = call;
        abandon(call, &held).await?;
        held.end();
        wait_all_threads_completed().await?;
        checkpoint().await?;
        Ok(())
    })
}

/// Starts it, waits until the thread has begun, and cancels.
async fn abandon<T: Send + 'static>(call: to_thread::Call<T>, held: &Held) -> anyhow::Result<()> {
    open_nursery(async |n| -> anyhow::Result<()> {
        n.start_soon(async {
            call.abandon_on_cancel(true).await?;
            Ok(())
        });
        settle().await?;
        held.wait_begun();
        n.cancel_scope().cancel();
        Ok(())
    })
    .await
}

/// The result came first: it is returned. The cancellation came first: it is dropped, though the task runs later.
#[test]
fn with_abandon_whichever_comes_first_counts() -> anyhow::Result<()> {
    for (cancel_first, seed) in (0..20).flat_map(|seed| [(false, seed), (true, seed)]) {
        Test::new().seed(seed).run(async {
            let (held, job) = Held::new();
            let scope = CancelScope::new();
            open_nursery(async |n| -> anyhow::Result<()> {
                n.start_soon(async {
                    let call = to_thread::run_sync(job).abandon_on_cancel(true);
                    let result = scope.enter(call).await?;
                    assert_eq!(result.is_none(), cancel_first);
                    Ok(())
                });
                settle().await?;
                held.wait_begun();
                if cancel_first {
                    scope.cancel();
                    held.end();
                } else {
                    held.end();
                    // It is delivered between two turns: the task is ready then, and may run before this one or after.
                    while active_thread_count() > 0 {
                        checkpoint().await?;
                    }
                    scope.cancel();
                }
                Ok(())
            })
            .await?;
            wait_all_threads_completed().await?;
            anyhow::Ok(())
        })?;
    }
    Ok(())
}

/// G11, G22, `run_in_worker_thread_abandoned`
#[test]
fn a_run_does_not_wait_for_abandoned_threads_and_their_results_do_no_harm() {
    let (held, job) = Held::new();
    let (tx, dropped) = mpsc::channel();
    let result: anyhow::Result<()> = run(async {
        let call = to_thread::run_sync(move || {
            let result = Dropped(tx);
            job();
            // The run is over.
            let error = from_thread::run(async || ()).unwrap_err();
            assert!(matches!(error, FromThreadError::RunFinished), "{error}");
            let error = from_thread::run_sync(|| ()).unwrap_err();
            assert_eq!(error.to_string(), "the run has finished and takes no more calls");
            let error = from_thread::check_cancelled().unwrap_err();
            assert!(matches!(error, FromThreadError::Cancelled(_)), "{error}");
            result
        });
        abandon(call, &held).await
    });
    result.unwrap();
    held.end();
    dropped.recv().unwrap();
}

/// G3, `run_in_worker_thread_limiter`
#[test]
fn a_limiter_bounds_the_threads_also_the_abandoned_ones() -> anyhow::Result<()> {
    const MAX: usize = 5;
    const COUNT: usize = 50;
    for abandons in [false, true] {
        run(async {
            let limiter = Rc::new(CapacityLimiter::new(MAX));
            let [running, high] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
            let (release, gate) = mpsc::channel::<()>();
            let gate = Arc::new(std::sync::Mutex::new(gate));
            let (begun_tx, begun) = mpsc::channel();
            open_nursery(async |n| -> anyhow::Result<()> {
                for _ in 0..COUNT {
                    let (running, high) = (running.clone(), high.clone());
                    let (gate, begun) = (gate.clone(), begun_tx.clone());
                    let call = to_thread::run_sync(move || {
                        let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                        high.fetch_max(now, Ordering::SeqCst);
                        begun.send(()).expect("the test listens");
                        gate.lock().expect("nobody panics").recv().expect("the test sends");
                        running.fetch_sub(1, Ordering::SeqCst);
                    });
                    let call = call.abandon_on_cancel(abandons).limiter(&limiter);
                    n.start_soon(async move { Ok(call.await?) });
                }
                settle().await?;
                (0..MAX).for_each(|_| begun.recv().expect("they begin"));
                assert_eq!(limiter.borrowed_tokens(), MAX);
                assert_eq!(limiter.statistics().tasks_waiting, COUNT - MAX);
                assert!(begun.try_recv().is_err());
                if abandons {
                    n.cancel_scope().cancel();
                } else {
                    (0..COUNT).for_each(|_| release.send(()).expect("they listen"));
                }
                Ok(())
            })
            .await?;
            if abandons {
                // The tokens are where the threads are. What waited for one was cancelled and never ran.
                assert_eq!(limiter.borrowed_tokens(), MAX);
                assert_eq!(active_thread_count(), MAX);
                (0..MAX).for_each(|_| release.send(()).expect("they listen"));
                wait_all_threads_completed().await?;
                assert!(begun.try_recv().is_err());
            }
            assert_eq!(limiter.borrowed_tokens(), 0);
            assert_eq!(high.load(Ordering::SeqCst), MAX);
            anyhow::Ok(())
        })?;
    }
    Ok(())
}

/// G5
#[test]
fn cancelled_while_it_waits_for_the_limiter_it_never_runs() -> anyhow::Result<()> {
    run(async {
        let limiter = Rc::new(CapacityLimiter::new(1));
        let token = limiter.try_acquire_on_behalf_of("somebody else")?;
        let call = to_thread::run_sync(|| unreachable!("it has no token"));
        let call: to_thread::Call<()> = call;
        assert!(move_on_after(SECOND, call.limiter(&limiter)).await?.is_none());
        drop(token);
        assert_eq!(limiter.borrowed_tokens(), 0);
        to_thread::run_sync(|| {}).limiter(&limiter).await?;
        Ok(())
    })
}

/// G3
#[test]
fn the_borrower_is_the_thread_so_one_task_may_have_several() -> anyhow::Result<()> {
    run(async {
        let limiter = Rc::new(CapacityLimiter::new(2));
        let [(one, job1), (two, job2)] = [Held::new(), Held::new()];
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                let both = future::zip(
                    to_thread::run_sync(job1).limiter(&limiter),
                    to_thread::run_sync(job2).limiter(&limiter),
                );
                let (first, second) = both.await;
                Ok(first.and(second)?)
            });
            settle().await?;
            one.wait_begun();
            two.wait_begun();
            let borrowers = limiter.statistics().borrowers;
            assert_eq!(borrowers.len(), 2);
            for task in lowlevel::tasks() {
                assert!(!borrowers.contains(&task.into()));
            }
            one.end();
            two.end();
            Ok(())
        })
        .await
    })
}

/// G3
#[test]
fn the_default_limiter_has_40_tokens_in_each_run() -> anyhow::Result<()> {
    for _ in 0..2 {
        run(async {
            assert_eq!(default_limiter().total_tokens(), 40);
            assert!(Rc::ptr_eq(&default_limiter(), &default_limiter()));
            let inside = to_thread::run_sync(|| {
                from_thread::run_sync(|| default_limiter().borrowed_tokens())
            });
            assert_eq!(inside.await??, 1);
            assert_eq!(default_limiter().borrowed_tokens(), 0);
            default_limiter().set_total_tokens(1); // of this run
            anyhow::Ok(())
        })?;
    }
    Ok(())
}

/// A limiter of one's own: it records, and refuses or panics when it is told to.
#[derive(Default)]
struct Recording {
    said: RefCell<Vec<&'static str>>,
    borrower: RefCell<Option<Borrower>>,
    refuses: Cell<bool>,
    fails: Cell<bool>,
    panics: Cell<bool>,
}

impl Limiter for Recording {
    fn acquire_on_behalf_of<'a>(
        &'a self,
        borrower: &'a Borrower,
    ) -> Pin<Box<dyn Future<Output = io::Result<()>> + 'a>> {
        Box::pin(async move {
            self.said.borrow_mut().push("acquire");
            checkpoint().await?;
            if self.refuses.get() {
                return Err(io::Error::other("none for you"));
            }
            self.borrower.replace(Some(borrower.clone()));
            Ok(())
        })
    }

    fn release_on_behalf_of(&self, borrower: &Borrower) -> io::Result<()> {
        self.said.borrow_mut().push("release");
        assert_eq!(self.borrower.take().as_ref(), Some(borrower));
        if self.panics.get() {
            resume_unwind(Box::new("the limiter is broken"));
        }
        if self.fails.get() { Err(io::Error::other("it was not yours")) } else { Ok(()) }
    }
}

/// `run_in_worker_thread_custom_limiter`
#[test]
fn a_limiter_may_be_ones_own() -> anyhow::Result<()> {
    run(async {
        let limiter = Rc::new(Recording::default());
        assert_eq!(to_thread::run_sync(|| 3).limiter(&limiter).await?, 3);
        assert_eq!(limiter.said.take(), ["acquire", "release"]);
        limiter.refuses.set(true);
        let refused = to_thread::run_sync(|| unreachable!("refused")).limiter(&limiter);
        let refused: Result<(), io::Error> = refused.await;
        assert_eq!(refused.unwrap_err().to_string(), "none for you");
        assert_eq!(limiter.said.take(), ["acquire"]);
        assert_eq!(active_thread_count(), 0);
        Ok(())
    })
}

/// G4, `run_in_worker_thread_limiter_error`
#[test]
fn an_error_of_the_limiter_takes_the_place_of_the_result() -> anyhow::Result<()> {
    run(async {
        let limiter = Rc::new(Recording::default());
        limiter.fails.set(true);
        let error = to_thread::run_sync(|| 3).limiter(&limiter).await.unwrap_err();
        assert_eq!(error.to_string(), "it was not yours");
        // But not that of a panic, of which none is lost.
        let panics = to_thread::run_sync(|| resume_unwind(Box::new("panic"))).limiter(&limiter);
        let panics: to_thread::Call<()> = panics;
        let caught = future::FutureExt::catch_unwind(AssertUnwindSafe(panics)).await;
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"panic"));
        assert_eq!(active_thread_count(), 0);
        Ok(())
    })
}

#[test]
fn a_panic_of_the_limiter_goes_to_the_task() -> anyhow::Result<()> {
    run(async {
        let limiter = Rc::new(Recording::default());
        limiter.panics.set(true);
        let call = AssertUnwindSafe(to_thread::run_sync(|| 3).limiter(&limiter));
        let caught = future::FutureExt::catch_unwind(call).await;
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"the limiter is broken"));
        assert_eq!(active_thread_count(), 0);
        Ok(())
    })
}

/// If nobody waits any more, the panic ends the run, as that of any call between the tasks.
#[test]
fn a_panic_of_the_limiter_of_an_abandoned_thread_ends_the_run() {
    let caught = catch_unwind(|| {
        run(async {
            let limiter = Rc::new(Recording::default());
            limiter.panics.set(true);
            let (held, job) = Held::new();
            abandon(to_thread::run_sync(job).limiter(&limiter), &held).await?;
            held.end();
            wait_all_threads_completed().await?;
            anyhow::Ok(())
        })
    });
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"the limiter is broken"));
}

static COLOUR: TaskLocal<&str> = TaskLocal::new();

/// G9, `trio_to_thread_run_sync_contextvars`, `worker_thread_context_not_leaked`: a thread has no task-locals at all.
#[test]
fn a_thread_is_no_task_and_has_no_context() -> anyhow::Result<()> {
    run(async {
        COLOUR.set("red");
        for _ in 0..2 {
            let inside = || (COLOUR.get(), lowlevel::in_run(), lowlevel::in_task());
            assert_eq!(to_thread::run_sync(inside).await?, (None, false, false));
        }
        assert_eq!(COLOUR.get(), Some("red"));
        Ok(())
    })
}

/// G18, G19, `from_thread_check_cancelled_no_abandon`
#[test]
fn a_thread_may_ask_whether_its_task_was_cancelled() -> anyhow::Result<()> {
    run(async {
        let (ask, questions) = mpsc::channel::<()>();
        let (answer, answers) = mpsc::channel();
        let work = to_thread::run_sync(move || -> anyhow::Result<()> {
            loop {
                questions.recv()?;
                let checked = from_thread::check_cancelled();
                answer.send(checked.is_err())?;
                checked?;
            }
        });
        let scope = CancelScope::new();
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                let result = scope.enter(async { work.await? }).await?;
                assert!(result.is_none(), "the scope absorbs what the thread was told");
                assert!(scope.cancelled_caught());
                Ok(())
            });
            settle().await?;
            ask.send(())?;
            assert!(!answers.recv()?);
            ask.send(())?;
            assert!(!answers.recv()?);
            scope.cancel_because("enough");
            ask.send(())?; // in the same step: the thread may not miss it
            Ok(())
        })
        .await?;
        assert!(answers.recv()?);
        Ok(())
    })
}

/// G18: it stays so, though a shield goes up.
#[test]
fn what_check_cancelled_has_seen_it_sees_always() -> anyhow::Result<()> {
    run(async {
        let (held, job) = Held::new();
        let work = to_thread::run_sync(move || {
            job();
            [from_thread::check_cancelled(), from_thread::check_cancelled()]
        });
        let (outer, inner) = (CancelScope::new(), CancelScope::new());
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                let both = outer.enter(async { inner.enter(work).await }).await?.flatten().unwrap();
                for checked in both {
                    let FromThreadError::Cancelled(cancelled) = checked.unwrap_err() else {
                        panic!("not cancelled")
                    };
                    assert_eq!(cancelled.reason().text(), Some("enough"));
                }
                Ok(())
            });
            settle().await?;
            held.wait_begun();
            outer.cancel_because("enough");
            settle().await?;
            inner.set_shield(true);
            settle().await?;
            held.end();
            Ok(())
        })
        .await
    })
}

/// G18, `from_thread_check_cancelled_abandon_on_cancel`
#[test]
fn an_abandoned_thread_sees_the_cancellation_too() -> anyhow::Result<()> {
    run(async {
        let (held, job) = Held::new();
        let (tx, seen) = mpsc::channel();
        let call = to_thread::run_sync(move || {
            tx.send(from_thread::check_cancelled().is_ok()).expect("the test listens");
            job();
            tx.send(from_thread::check_cancelled().is_ok()).expect("the test listens");
        });
        abandon(call, &held).await?;
        held.end();
        wait_all_threads_completed().await?;
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [true, false]);
        Ok(())
    })
}

/// `from_thread_check_cancelled_raises_in_foreign_threads`
#[test]
fn check_cancelled_is_for_our_threads_only() -> anyhow::Result<()> {
    let error = thread::spawn(from_thread::check_cancelled).join().unwrap().unwrap_err();
    assert!(matches!(error, FromThreadError::NoRun));
    assert!(error.to_string().contains("`to_thread::run_sync`"), "{error}");
    run(async {
        let error = from_thread::check_cancelled().unwrap_err();
        assert!(matches!(error, FromThreadError::InRun));
        // A thread of ours, when its job is done, belongs to nobody.
        to_thread::run_sync(|| {}).await?;
        Ok(())
    })
}

/// G21, `wait_all_threads_completed`
#[test]
fn wait_all_threads_completed_waits_for_all() -> anyhow::Result<()> {
    run(async {
        let [(one, job1), (two, job2)] = [Held::new(), Held::new()];
        abandon(to_thread::run_sync(job1), &one).await?;
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async { Ok(to_thread::run_sync(job2).await?) });
            let done = n.start_soon(async { Ok(wait_all_threads_completed().await?) });
            settle().await?;
            assert_eq!(active_thread_count(), 2);
            two.wait_begun();
            two.end();
            while active_thread_count() == 2 {
                checkpoint().await?;
            }
            settle().await?;
            assert!(tree().to_string().contains("waits for all threads to end"), "{}", tree());
            one.end();
            done.await?;
            assert_eq!(active_thread_count(), 0);
            Ok(())
        })
        .await
    })
}

/// G21, `wait_all_threads_completed_no_threads`
#[test]
fn without_threads_wait_all_threads_completed_is_a_checkpoint() -> anyhow::Result<()> {
    run(async {
        let before = lowlevel::points();
        wait_all_threads_completed().await?;
        assert_ne!(lowlevel::points().cancel, before.cancel);
        assert_ne!(lowlevel::points().schedule, before.schedule);
        let scope = CancelScope::new();
        scope.cancel();
        assert!(scope.enter(wait_all_threads_completed()).await?.is_none());
        Ok(())
    })
}

#[test]
fn wait_all_threads_completed_can_be_cancelled() -> anyhow::Result<()> {
    run(async {
        let (held, job) = Held::new();
        abandon(to_thread::run_sync(job), &held).await?;
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async { Ok(wait_all_threads_completed().await?) });
            settle().await?;
            n.cancel_scope().cancel();
            Ok(())
        })
        .await?;
        held.end();
        Ok(wait_all_threads_completed().await?)
    })
}

#[test]
fn a_clock_that_jumps_does_not_while_a_thread_works() -> anyhow::Result<()> {
    run(async {
        let start = now();
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async { Ok(sleep(HOUR).await?) });
            let (held, job) = Held::new();
            let call = to_thread::run_sync(job);
            // Ended by a thread that knows nothing of the run, as late as it likes.
            thread::spawn(move || {
                held.wait_begun();
                (0..1000).for_each(|_| thread::yield_now());
                held.end();
            });
            assert!(move_on_after(SECOND, call).await?.is_some());
            assert_eq!(now(), start);
            Ok(())
        })
        .await?;
        assert_eq!(now() - start, HOUR);
        Ok(())
    })
}

/// G21: nor while an abandoned one works.
#[test]
fn a_clock_that_jumps_waits_for_abandoned_threads() -> anyhow::Result<()> {
    run(async {
        let (held, job) = Held::new();
        let ended = Arc::new(AtomicUsize::new(0));
        let says = ended.clone();
        let call = to_thread::run_sync(move || {
            job();
            says.store(1, Ordering::SeqCst);
        });
        abandon(call, &held).await?;
        thread::spawn(move || {
            (0..1000).for_each(|_| thread::yield_now());
            held.end();
        });
        sleep(HOUR).await?;
        assert_eq!(ended.load(Ordering::SeqCst), 1);
        assert_eq!(active_thread_count(), 0);
        Ok(())
    })
}

/// Dropped, not cancelled: by a foreign `race`, say.
#[test]
fn a_future_that_is_dropped_leaves_its_thread_to_itself() -> anyhow::Result<()> {
    run(async {
        let (held, job) = Held::new();
        let limiter = Rc::new(CapacityLimiter::new(1));
        let (tx, seen) = mpsc::channel();
        let call = to_thread::run_sync(move || {
            job();
            let errors = [
                from_thread::check_cancelled().unwrap_err(),
                from_thread::run(async || ()).unwrap_err(),
                from_thread::run_sync(|| ()).unwrap_err(),
            ];
            tx.send(errors).expect("the test listens");
        });
        let mut call = Box::pin(call.limiter(&limiter));
        while active_thread_count() == 0 {
            assert!(future::poll_once(&mut call).await.is_none());
        }
        held.wait_begun();
        drop(call);
        assert_eq!(limiter.borrowed_tokens(), 1);
        held.end();
        wait_all_threads_completed().await?;
        for error in seen.recv()? {
            assert!(matches!(error, FromThreadError::Gone), "{error:?}");
        }
        assert_eq!(limiter.borrowed_tokens(), 0);
        Ok(())
    })
}

#[test]
fn a_guest_that_is_dropped_leaves_its_threads() {
    let (held, job) = Held::new();
    let (tx, seen) = mpsc::channel();
    let guest = Builder::new().guest(async {
        to_thread::run_sync(move || {
            job();
            tx.send(from_thread::run(async || ()).unwrap_err()).expect("the test listens");
        })
        .await?;
        Ok::<_, io::Error>(())
    });
    let mut guest = Box::pin(guest);
    assert!(future::block_on(future::poll_once(&mut guest)).is_none());
    held.wait_begun();
    drop(guest);
    held.end();
    assert!(matches!(seen.recv().unwrap(), FromThreadError::RunFinished));
}

#[test]
fn a_thread_may_be_waited_for_in_a_race_within_a_task() -> anyhow::Result<()> {
    run(async {
        // Both are polled with wakers that are not the task's.
        let calls: futures_util::stream::FuturesUnordered<_> =
            (0..8).map(|i| to_thread::run_sync(move || i)).collect();
        let mut results: Vec<io::Result<i32>> = futures_util::StreamExt::collect(calls).await;
        results.sort_by_key(|result| result.as_ref().ok().copied());
        let results: Vec<i32> = results.into_iter().collect::<Result<_, _>>()?;
        assert_eq!(results, (0..8).collect::<Vec<_>>());
        Ok(())
    })
}

#[test]
fn settings_come_before_the_first_poll() -> anyhow::Result<()> {
    run(async {
        let mut call = to_thread::run_sync(|| ());
        let first = future::poll_once(&mut call).await;
        assert!(first.is_none());
        let panic = catch_unwind(AssertUnwindSafe(|| drop(call.name("too late")))).unwrap_err();
        let text = panic.downcast_ref::<&str>().copied().unwrap_or_default();
        assert!(text.contains("it was polled"), "{text}");
        Ok(())
    })
}

#[test]
fn a_cancelled_call_is_recognised_as_such() -> anyhow::Result<()> {
    run(async {
        let scope = CancelScope::new();
        scope.cancel_because("over");
        let body = async {
            let error = to_thread::run_sync(|| ()).await.unwrap_err();
            assert_eq!(error.as_cancelled().unwrap().reason().text(), Some("over"));
            Err::<(), _>(error)
        };
        assert!(scope.enter(body).await?.is_none());
        Ok(())
    })
}
