//! Promises of `nursery_io::thread::from_thread`: ways from a thread back into the run, and who does what it asks for.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nursery::lowlevel::{self, Token, wait_all_tasks_blocked};
use nursery::{
    CancelScope, CancelSource, Cancelled, RunLocal, TaskLocal, cancellable, checkpoint, finally,
    move_on_after, now, open_nursery, shield, sleep, sleep_forever,
};
use nursery_io::sync::CapacityLimiter;
use nursery_io::thread::from_thread::{self, FromThreadError};
use nursery_io::thread::{active_thread_count, to_thread, wait_all_threads_completed};
use nursery_testing::{Test, run};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

async fn settle() -> Result<(), Cancelled> {
    wait_all_tasks_blocked(Duration::ZERO).await
}

/// Runs `f` in a thread that is none of ours, and waits for it.
async fn in_foreign_thread<T: Send + 'static>(
    f: impl FnOnce(Token) -> T + Send + 'static,
) -> anyhow::Result<T> {
    let (tx, rx) = async_channel::bounded(1);
    let token = lowlevel::token();
    thread::spawn(move || tx.send_blocking(f(token)));
    Ok(cancellable(rx.recv()).await??)
}

/// G12, `do_in_trio_thread`
#[test]
fn a_foreign_thread_with_a_token_gets_results_errors_and_panics() -> anyhow::Result<()> {
    run(async {
        let home = thread::current().id();
        in_foreign_thread(move |token| {
            let here = || thread::current().id();
            assert_ne!(here(), home);
            let t = &token;
            assert_eq!(from_thread::run_sync_in(t, here).unwrap(), home);
            assert_eq!(from_thread::run_in(t, async move || here()).unwrap(), home);
            assert_eq!(from_thread::run_sync_in(t, || Err::<(), _>(7)).unwrap(), Err(7));
            let waits = async || checkpoint().await.map(|()| Err::<(), _>(8));
            assert_eq!(from_thread::run_in(t, waits).unwrap().unwrap(), Err(8));

            // A panic goes to the thread; the run lives on.
            let panic = || resume_unwind(Box::new(9));
            let f = AssertUnwindSafe(|| from_thread::run_sync_in::<(), _>(t, panic));
            assert_eq!(catch_unwind(f).unwrap_err().downcast_ref(), Some(&9));
            let f = AssertUnwindSafe(|| from_thread::run_in::<(), _>(t, async move || panic()));
            assert_eq!(catch_unwind(f).unwrap_err().downcast_ref(), Some(&9));
        })
        .await
    })
}

/// `do_in_trio_thread_from_trio_thread`, `from_thread_inside_trio_thread`: also of another run.
#[test]
fn on_a_runs_own_thread_it_is_refused() -> anyhow::Result<()> {
    let foreign = run(async { Ok::<_, Cancelled>(lowlevel::token()) })?;
    run(async {
        for token in [lowlevel::token(), foreign] {
            let errors = [
                from_thread::run(async || ()).unwrap_err(),
                from_thread::run_sync(|| ()).unwrap_err(),
                from_thread::run_in(&token, async || ()).unwrap_err(),
                from_thread::run_sync_in(&token, || ()).unwrap_err(),
            ];
            for error in errors {
                assert!(matches!(error, FromThreadError::InRun), "{error}");
                assert!(error.to_string().contains("`to_thread::run_sync`"), "{error}");
            }
        }
        // A run in a thread of ours is a run, too.
        let nested = to_thread::run_sync(|| {
            run(async { Ok::<_, Cancelled>(from_thread::run_sync(|| ()).unwrap_err()) }).unwrap()
        });
        assert!(matches!(nested.await?, FromThreadError::InRun));
        Ok(())
    })
}

/// `from_thread_no_token`
#[test]
fn a_foreign_thread_without_a_token_is_refused() {
    for error in
        [from_thread::run(async || ()).unwrap_err(), from_thread::run_sync(|| ()).unwrap_err()]
    {
        assert!(matches!(error, FromThreadError::NoRun));
        assert!(error.to_string().contains("`lowlevel::token()`"), "{error}");
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::Other);
    }
}

/// G16, `do_in_trio_thread`
#[test]
fn after_the_run_it_is_refused() -> anyhow::Result<()> {
    let token = run(async { Ok::<_, Cancelled>(lowlevel::token()) })?;
    for error in [
        from_thread::run_in(&token, async || ()).unwrap_err(),
        from_thread::run_sync_in(&token, || ()).unwrap_err(),
    ] {
        assert!(matches!(error, FromThreadError::RunFinished));
        assert_eq!(error.to_string(), "the run has finished and takes no more calls");
    }
    Ok(())
}

/// G20, `run_in_trio_thread_ki`
#[test]
fn an_interrupt_goes_to_the_task_not_to_the_thread() -> anyhow::Result<()> {
    run(async {
        let scope = CancelScope::new();
        let remote = scope.remote();
        let body = async {
            let told = to_thread::run_sync(move || {
                // As `signal::cancel_on_ctrl_c` does.
                from_thread::run_sync(move || {
                    remote.cancel_because(CancelSource::KeyboardInterrupt);
                    "not interrupted"
                })
            });
            assert_eq!(told.await??, "not interrupted");
            sleep_forever().await?;
            anyhow::Ok(())
        };
        assert!(scope.enter(body).await?.is_none());
        assert_eq!(scope.reason().unwrap().source(), CancelSource::KeyboardInterrupt);
        Ok(())
    })
}

/// G16, `await_in_trio_thread_while_main_exits`
#[test]
fn when_the_main_task_ends_what_a_foreign_thread_runs_is_cancelled() {
    let (tx, result) = mpsc::channel();
    run(async {
        let token = lowlevel::token();
        let (begun_tx, begun) = async_channel::bounded(1);
        thread::spawn(move || {
            let slept = from_thread::run_in(&token, async move || {
                begun_tx.try_send(()).expect("the test listens");
                sleep_forever().await
            });
            tx.send(slept.unwrap().map(drop)).expect("the test listens");
        });
        cancellable(begun.recv()).await?.expect("it begins");
        Ok::<_, Cancelled>(())
    })
    .unwrap();
    let cancelled = result.recv().unwrap().unwrap_err();
    assert_eq!(cancelled.reason().source(), CancelSource::Shutdown);
}

static COLOUR: TaskLocal<&str> = TaskLocal::new();
static NUMBER: RunLocal<Cell<u32>> = RunLocal::with_default(Cell::default);

/// G13, `trio_from_thread_run`, `trio_from_thread_run_sync`, `from_thread_reuses_task`
#[test]
fn what_a_thread_asks_for_is_done_by_the_task_that_waits_for_it() -> anyhow::Result<()> {
    run(async {
        let me = lowlevel::current_task();
        let tasks = lowlevel::tasks().len();
        let home = thread::current().id();
        let asked = to_thread::run_sync(move || -> anyhow::Result<()> {
            assert_ne!(thread::current().id(), home);
            let who = || (lowlevel::current_task(), thread::current().id());
            assert_eq!(from_thread::run_sync(who)?, (me, home));
            assert_eq!(from_thread::run(async move || who())?, (me, home));
            assert_eq!(from_thread::run_sync(|| lowlevel::tasks().len())?, tasks);
            let waits = async || {
                checkpoint().await?;
                sleep(SECOND).await?;
                Ok::<_, Cancelled>(lowlevel::current_task())
            };
            assert_eq!(from_thread::run(waits)??, me);
            // Errors and panics.
            assert_eq!(from_thread::run(async || Err::<(), _>(7))?, Err(7));
            assert_eq!(from_thread::run_sync(|| Err::<(), _>(8))?, Err(8));
            let f = || from_thread::run_sync::<(), _>(|| resume_unwind(Box::new(9)));
            assert_eq!(catch_unwind(f).unwrap_err().downcast_ref(), Some(&9));
            let f = || {
                from_thread::run(async || {
                    checkpoint().await?;
                    resume_unwind(Box::new(10));
                    #[expect(unreachable_code, reason = "says what type it is")]
                    Ok::<(), Cancelled>(())
                })
            };
            assert_eq!(catch_unwind(f).unwrap_err().downcast_ref(), Some(&10));
            Ok(())
        });
        asked.await?
    })
}

/// G14, `trio_from_thread_token`, `trio_from_thread_token_kwarg`, `from_thread_reuses_task`
#[test]
fn with_a_token_it_is_done_by_a_new_task_or_by_none() -> anyhow::Result<()> {
    run(async {
        let me = lowlevel::current_task();
        for abandons in [false, true] {
            let token = lowlevel::token();
            let asked = to_thread::run_sync(move || -> anyhow::Result<()> {
                let task = async || lowlevel::current_task();
                assert_ne!(from_thread::run_in(&token, task)?, me);
                assert!(!from_thread::run_sync_in(&token, lowlevel::in_task)?);
                assert!(from_thread::run_sync_in(&token, lowlevel::in_run)?);
                assert_eq!(from_thread::run(task)? == me, !abandons);
                assert_eq!(from_thread::run_sync(lowlevel::in_task)?, !abandons);
                Ok(())
            });
            asked.abandon_on_cancel(abandons).await??;
        }
        Ok(())
    })
}

/// `trio_to_thread_run_sync_token`
#[test]
fn a_thread_can_get_at_the_token() -> anyhow::Result<()> {
    run(async {
        for abandons in [false, true] {
            let call = to_thread::run_sync(|| from_thread::run_sync(lowlevel::token));
            assert_eq!(call.abandon_on_cancel(abandons).await??, lowlevel::token());
        }
        Ok(())
    })
}

/// A thread of one run, with the token of another.
#[test]
fn a_thread_may_ask_another_run() -> anyhow::Result<()> {
    run(async {
        NUMBER.get_shared().unwrap().set(1);
        let mine = lowlevel::token();
        let inner = to_thread::run_sync(move || {
            run(async move {
                NUMBER.get_shared().unwrap().set(2);
                let number = || NUMBER.get_shared().unwrap().get();
                let both = to_thread::run_sync(move || -> anyhow::Result<_> {
                    let other = from_thread::run_in(&mine, async move || number())?;
                    Ok((from_thread::run_sync(number)?, other))
                });
                both.await?
            })
        });
        assert_eq!(inner.await??, (2, 1));
        Ok(())
    })
}

/// G17, `trio_from_thread_run_sync_contextvars`, `trio_from_thread_run_contextvars`
#[test]
fn the_tasks_context_is_that_of_what_it_does_for_the_thread() -> anyhow::Result<()> {
    run(async {
        COLOUR.set("red");
        to_thread::run_sync(|| -> anyhow::Result<()> {
            assert_eq!(COLOUR.get(), None);
            assert_eq!(from_thread::run_sync(|| COLOUR.get())?, Some("red"));
            assert_eq!(from_thread::run(async || COLOUR.get())?, Some("red"));
            from_thread::run_sync(|| drop(COLOUR.set("blue")))?; // in the task
            assert_eq!(from_thread::run(async || COLOUR.get())?, Some("blue"));
            Ok(())
        })
        .await??;
        assert_eq!(COLOUR.get(), Some("blue"));
        // A system task has none.
        let token = lowlevel::token();
        let alone = to_thread::run_sync(move || from_thread::run_in(&token, async || COLOUR.get()));
        assert_eq!(alone.await??, None);
        Ok(())
    })
}

/// G16, `from_thread_run_during_shutdown`
#[test]
fn during_the_shutdown_a_task_that_waits_still_does_it_and_no_new_task_begins() {
    let (tx, record) = mpsc::channel();
    run(async {
        let (go_tx, go) = mpsc::channel::<()>();
        lowlevel::spawn_system_task("late", async move {
            let cancelled = sleep_forever().await.map(drop);
            let token = lowlevel::token();
            let asked = to_thread::run_sync(move || {
                go.recv().expect("told to go on");
                let host = from_thread::run(async || checkpoint().await.is_ok());
                let sync = from_thread::run_sync(|| 5);
                let task = from_thread::run_in(&token, async || checkpoint().await.is_ok());
                let call = from_thread::run_sync_in(&token, || 6);
                tx.send((host, sync, task, call)).expect("the test listens");
            });
            go_tx.send(()).expect("it waits");
            shield(asked).await.expect("shielded");
            cancelled
        })
        .expect("the run is not over");
        settle().await
    })
    .unwrap();
    let (host, sync, task, call) = record.recv().unwrap();
    assert!(host.unwrap(), "shielded, as its task is");
    assert_eq!(sync.unwrap(), 5);
    assert!(matches!(task.unwrap_err(), FromThreadError::RunFinished));
    assert_eq!(call.unwrap(), 6);
}

/// G15, `recursive_to_thread`
#[test]
fn from_thread_to_thread_and_back() -> anyhow::Result<()> {
    fn down(depth: u32) -> anyhow::Result<Vec<thread::ThreadId>> {
        let mut ids = vec![thread::current().id()];
        if depth > 0 {
            let below = async move || to_thread::run_sync(move || down(depth - 1)).await?;
            ids.append(&mut from_thread::run(below)??);
        }
        Ok(ids)
    }
    run(async {
        let mut ids = to_thread::run_sync(|| down(9)).await??;
        ids.sort_by_key(|id| format!("{id:?}"));
        ids.dedup();
        assert_eq!(ids.len(), 10);
        Ok(())
    })
}

/// G13, G14, `from_thread_host_cancelled`
#[test]
fn what_the_task_does_for_the_thread_is_cancelled_with_it_what_others_do_is_not() {
    fn record(token: &Token) -> Vec<&'static str> {
        fn say(result: Result<bool, FromThreadError>) -> &'static str {
            if result.unwrap() { "ok" } else { "cancelled" }
        }
        vec![
            say(from_thread::run(async || checkpoint().await.is_ok())),
            say(from_thread::run_sync(|| true)),
            say(from_thread::run_in(token, async || checkpoint().await.is_ok())),
            say(from_thread::run_sync_in(token, || true)),
        ]
    }
    run(async {
        let token = lowlevel::token();
        let scope = CancelScope::new();
        let (begun_tx, begun) = mpsc::channel();
        let (go, wait) = mpsc::channel();
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                let call = to_thread::run_sync(move || {
                    begun_tx.send(()).expect("the test listens");
                    wait.recv().expect("the test tells");
                    record(&token)
                });
                let said = scope.enter(call).await?.unwrap();
                assert_eq!(said, ["cancelled", "ok", "ok", "ok"]);
                Ok(())
            });
            settle().await?;
            begun.recv()?;
            scope.cancel();
            go.send(())?;
            Ok(())
        })
        .await?;

        // Abandoned, it can still do all of it, elsewhere.
        let token = lowlevel::token();
        let (begun_tx, begun) = mpsc::channel();
        let (go, wait) = mpsc::channel();
        let (tx, said) = mpsc::channel();
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                let call = to_thread::run_sync(move || {
                    begun_tx.send(()).expect("the test listens");
                    wait.recv().expect("the test tells");
                    tx.send(record(&token)).expect("the test listens");
                });
                Ok(call.abandon_on_cancel(true).await?)
            });
            settle().await?;
            begun.recv()?;
            n.cancel_scope().cancel();
            Ok(())
        })
        .await?;
        go.send(())?;
        wait_all_threads_completed().await?;
        assert_eq!(said.recv()?, ["ok"; 4]);
        anyhow::Ok(())
    })
    .unwrap();
}

/// A cancellation interrupts what the task does for the thread; the thread is told, and goes on.
#[test]
fn a_task_is_cancelled_in_the_midst_of_what_it_does_for_the_thread() -> anyhow::Result<()> {
    run(async {
        let call = to_thread::run_sync(|| {
            let slept = from_thread::run(async || sleep(HOUR).await);
            assert!(slept.unwrap().is_err());
            assert!(from_thread::check_cancelled().is_err());
            "went on"
        });
        let start = now();
        assert_eq!(move_on_after(SECOND, call).await?, Some("went on"));
        assert_eq!(now() - start, SECOND);
        Ok(())
    })
}

#[test]
fn a_future_that_is_dropped_takes_what_it_does_for_the_thread_with_it() -> anyhow::Result<()> {
    run(async {
        let (begun_tx, begun) = async_channel::bounded(1);
        let (tx, seen) = mpsc::channel();
        let call = to_thread::run_sync(move || {
            let asked = from_thread::run(async move || {
                begun_tx.try_send(()).expect("the test listens");
                sleep_forever().await.map(drop)
            });
            tx.send(asked.unwrap_err()).expect("the test listens");
        });
        let begun = async {
            cancellable(begun.recv()).await?.expect("it begins");
            io::Result::Ok(())
        };
        futures_lite::future::or(begun, call).await?;
        wait_all_threads_completed().await?;
        assert!(matches!(seen.recv()?, FromThreadError::Gone));
        Ok(())
    })
}

/// G15, `reentry_doesnt_deadlock`
#[test]
fn much_coming_and_going_does_not_deadlock() -> anyhow::Result<()> {
    for seed in 0..5 {
        Test::new().seed(seed).run(async {
            open_nursery(async |n| -> anyhow::Result<()> {
                for _ in 0..4 {
                    n.start_soon(async {
                        for _ in 0..25 {
                            to_thread::run_sync(|| from_thread::run(async || checkpoint().await))
                                .await???;
                        }
                        Ok(())
                    });
                }
                Ok(())
            })
            .await?;
            assert_eq!(active_thread_count(), 0);
            assert_eq!(lowlevel::statistics().busy, 0);
            anyhow::Ok(())
        })?;
    }
    Ok(())
}

/// G23
#[test]
fn a_thread_that_needs_another_of_the_same_limiter_may_wait_for_ever() -> anyhow::Result<()> {
    run(async {
        let limiter = Rc::new(CapacityLimiter::new(1));
        LIMITER.set(Some(limiter.clone()));
        let starved = to_thread::run_sync(|| {
            from_thread::run(async || {
                let limiter = LIMITER.get().flatten().expect("set above");
                move_on_after(HOUR, to_thread::run_sync(|| ()).limiter(&limiter)).await
            })
        });
        assert!(starved.limiter(&limiter).await???.is_none());
        Ok(())
    })
}

static LIMITER: TaskLocal<Option<Rc<CapacityLimiter>>> = TaskLocal::new();

/// A thread that waits for the run does not work: a clock that jumps goes on.
#[test]
fn time_passes_while_a_thread_waits_for_the_run() -> anyhow::Result<()> {
    run(async {
        for abandons in [false, true] {
            let start = now();
            let token = lowlevel::token();
            let call = to_thread::run_sync(move || -> anyhow::Result<()> {
                from_thread::run(async || sleep(HOUR).await)??;
                from_thread::run_in(&token, async || sleep(HOUR).await)??;
                Ok(())
            });
            call.abandon_on_cancel(abandons).await??;
            assert_eq!(now() - start, 2 * HOUR);
            assert_eq!(lowlevel::statistics().busy, 0);
        }
        Ok(())
    })
}

/// ... but no longer than that, not even if the task behind it is cancelled half-way.
#[test]
fn no_time_passes_after_the_answer() -> anyhow::Result<()> {
    run(async {
        let start = now();
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async { Ok(sleep(HOUR).await?) });
            let call = to_thread::run_sync(|| {
                from_thread::run(async || sleep(SECOND).await).unwrap().unwrap();
                (0..1000).for_each(|_| thread::yield_now());
            });
            call.await?;
            assert_eq!(now() - start, SECOND);
            Ok(())
        })
        .await
    })
}

/// The clean-up of a task may ask its thread to stop, and wait for it.
#[test]
fn finally_may_use_threads() -> anyhow::Result<()> {
    run(async {
        let body = async { Ok::<_, anyhow::Error>(sleep_forever().await.map(drop)?) };
        let cleaned = Cell::new(false);
        let work = finally(body, SECOND, async || {
            cleaned.set(to_thread::run_sync(|| from_thread::check_cancelled().is_ok()).await?);
            Ok(())
        });
        assert!(move_on_after(SECOND, work).await?.is_none());
        assert!(cleaned.get());
        Ok(())
    })
}
