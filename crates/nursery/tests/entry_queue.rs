//! `Token`: the entry queue, the way into a run from any thread.

mod message;

use std::cell::{Cell, RefCell};
use std::panic::panic_any;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use message::panic_of;
use nursery::lowlevel::{self, OnceKey, RunFinished, Token, wait_all_tasks_blocked};
use nursery::{
    CancelScope, CancelSource, Cancelled, RunLocal, TaskLocal, checkpoint, open_nursery, shield,
    sleep_forever,
};

async fn settle() -> Result<(), Cancelled> {
    wait_all_tasks_blocked(Duration::ZERO).await
}

fn drain<T>(record: &Receiver<T>) -> Vec<T> {
    record.try_iter().collect()
}

/// A call that says `value`.
fn say<T: Send + 'static>(record: &Sender<T>, value: T) -> impl FnOnce() + Send + 'static {
    let record = record.clone();
    move || record.send(value).expect("the test listens")
}

/// `TrioToken_identity`
#[test]
fn a_run_has_one_token_and_no_other_run_has_it() {
    let get = || {
        nursery_testing::run(async {
            let token = lowlevel::token();
            checkpoint().await?;
            assert_eq!(token, lowlevel::token());
            assert_eq!(token, token.clone());
            Ok::<_, Cancelled>(token)
        })
        .unwrap()
    };
    assert_ne!(get(), get());
}

#[test]
fn a_weak_token_takes_calls_while_the_run_is_there() {
    let (tx, rx) = mpsc::channel();
    let weak = nursery_testing::run(async {
        let weak = lowlevel::token().downgrade();
        let key = OnceKey::new();
        weak.run_soon_once(key, say(&tx, "called")).unwrap();
        weak.run_soon_once(key, say(&tx, "not twice")).unwrap();
        weak.run_soon(say(&tx, "called, too")).unwrap();
        checkpoint().await?;
        assert_eq!(drain(&rx), ["called", "called, too"]);
        Ok::<_, Cancelled>(weak)
    });
    let RunFinished(call) = weak.unwrap().run_soon(say(&tx, "given back")).unwrap_err();
    call();
    assert_eq!(drain(&rx), ["given back"]);
}

/// `TrioToken_run_sync_soon_basic`
#[test]
fn a_call_runs_soon_but_not_at_once() {
    nursery_testing::run(async {
        let (tx, rx) = mpsc::channel();
        lowlevel::token().run_soon(say(&tx, "called")).unwrap();
        assert!(rx.try_recv().is_err());
        checkpoint().await?;
        assert_eq!(drain(&rx), ["called"], "in the very next turn");
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// C20, `TrioToken_run_sync_soon_too_late`
#[test]
fn a_call_that_comes_too_late_is_given_back() {
    let token = nursery_testing::run(async { Ok::<_, Cancelled>(lowlevel::token()) }).unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let call = {
        let count = count.clone();
        move || _ = count.fetch_add(1, Ordering::Relaxed)
    };
    let error = token.run_soon(call.clone()).unwrap_err();
    assert_eq!(error.to_string(), "the run has finished and takes no more calls");
    let RunFinished(f) = error;
    f();
    let RunFinished(f) = token.run_soon_once(OnceKey::new(), call).unwrap_err();
    f();
    assert_eq!(count.load(Ordering::Relaxed), 2);
    // The next run, which may use the same queue, does not get it either.
    nursery_testing::run(async {
        assert!(token.run_soon(|| panic!("of another run")).is_err());
        checkpoint().await
    })
    .unwrap();
}

/// `TrioToken_run_sync_soon_idempotent`
#[test]
fn calls_with_one_key_merge_while_they_wait() {
    nursery_testing::run(async {
        let (tx, rx) = mpsc::channel();
        let token = lowlevel::token();
        let [one, two] = [OnceKey::new(), OnceKey::new()];
        token.run_soon(say(&tx, 1)).unwrap();
        token.run_soon_once(one, say(&tx, 1)).unwrap();
        token.run_soon_once(one, say(&tx, 1)).unwrap();
        token.run_soon_once(two, say(&tx, 2)).unwrap();
        token.run_soon_once(one, say(&tx, 1)).unwrap();
        token.run_soon_once(two, say(&tx, 2)).unwrap();
        assert_eq!(lowlevel::statistics().entry_queue, 3);
        settle().await?;
        assert_eq!(drain(&rx), [1, 1, 2]);

        let keys: Vec<OnceKey> = (0..100).map(|_| OnceKey::new()).collect();
        for _ in 0..3 {
            for (i, &key) in keys.iter().enumerate() {
                token.run_soon_once(key, say(&tx, i)).unwrap();
            }
        }
        settle().await?;
        assert_eq!(drain(&rx), (0..100).collect::<Vec<_>>());
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// C17, `TrioToken_run_sync_soon_idempotent_requeue`
#[test]
fn a_call_that_queues_its_own_key_is_called_again_until_the_run_ends() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    fn redo(token: &Token, key: OnceKey) {
        CALLS.fetch_add(1, Ordering::Relaxed);
        let again = token.clone();
        let _ = token.run_soon_once(key, move || redo(&again, key));
    }
    nursery_testing::run(async {
        let (token, key) = (lowlevel::token(), OnceKey::new());
        token.run_soon_once(key, move || redo(&lowlevel::token(), key)).unwrap();
        for _ in 0..3 {
            checkpoint().await?;
        }
        assert!(CALLS.load(Ordering::Relaxed) >= 2);
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// `TrioToken_run_sync_soon_FIFO`
#[test]
fn calls_run_in_the_order_in_which_they_came() {
    nursery_testing::run(async {
        let (tx, rx) = mpsc::channel();
        for i in 0..100 {
            lowlevel::token().run_soon(say(&tx, i)).unwrap();
        }
        settle().await?;
        assert_eq!(drain(&rx), (0..100).collect::<Vec<_>>());
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// C18, `TrioToken_run_sync_soon_starvation_resistance`: neither a task nor the end of the run is held up.
#[test]
fn calls_that_queue_calls_starve_nobody() {
    fn naughty(token: &Token, i: usize, end: Sender<usize>) {
        let again = token.clone();
        let on = {
            let end = end.clone();
            move || naughty(&again, i + 1, end)
        };
        if token.run_soon(on).is_err() {
            end.send(i).unwrap();
        }
    }
    let (tx, rx) = mpsc::channel();
    nursery_testing::run(async {
        let token = lowlevel::token();
        lowlevel::token().run_soon(move || naughty(&token, 0, tx)).unwrap();
        for _ in 0..20 {
            checkpoint().await?;
        }
        Ok::<_, Cancelled>(())
    })
    .unwrap();
    let calls = rx.recv().unwrap();
    assert!((19..30).contains(&calls), "{calls} calls in 20 turns");
}

/// C15, C20, `TrioToken_run_sync_soon_threaded_stress_test`: what was accepted is called, under races.
#[test]
#[cfg_attr(miri, ignore = "threads that never pause: minutes under Miri")]
fn threads_that_queue_calls_lose_none() {
    for _ in 0..20 {
        let called = Arc::new(AtomicUsize::new(0));
        let threads = nursery_testing::run(async {
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    let (token, called) = (lowlevel::token(), called.clone());
                    thread::spawn(move || {
                        let mut accepted = 0;
                        loop {
                            let called = called.clone();
                            let call = move || _ = called.fetch_add(1, Ordering::Relaxed);
                            if token.run_soon(call).is_err() {
                                return accepted;
                            }
                            accepted += 1;
                            thread::yield_now();
                        }
                    })
                })
                .collect();
            for _ in 0..10 {
                let before = called.load(Ordering::Relaxed);
                while called.load(Ordering::Relaxed) == before {
                    checkpoint().await?;
                }
            }
            Ok::<_, Cancelled>(threads)
        })
        .unwrap();
        let accepted: usize = threads.into_iter().map(|t| t.join().unwrap()).sum();
        assert_eq!(called.load(Ordering::Relaxed), accepted);
    }
}

/// Accepted or given back, never both and never neither, while the run ends.
#[test]
fn calls_that_race_with_the_end_are_called_or_given_back() {
    for _ in 0..if cfg!(miri) { 2 } else { 200 } {
        let called = Arc::new(AtomicUsize::new(0));
        let ready = Arc::new(AtomicBool::new(false));
        let thread = nursery_testing::run(async {
            let (token, ready, called) = (lowlevel::token(), ready.clone(), called.clone());
            let thread = thread::spawn({
                let ready = ready.clone();
                move || {
                    ready.store(true, Ordering::Relaxed);
                    (0..50)
                        .filter(|_| {
                            let called = called.clone();
                            token
                                .run_soon(move || _ = called.fetch_add(1, Ordering::Relaxed))
                                .is_ok()
                        })
                        .count()
                }
            });
            while !ready.load(Ordering::Relaxed) {
                checkpoint().await?;
            }
            Ok::<_, Cancelled>(thread)
        })
        .unwrap();
        assert_eq!(thread.join().unwrap(), called.load(Ordering::Relaxed));
    }
}

/// A run that sleeps in the reactor is woken.
#[test]
#[cfg_attr(miri, ignore = "no reactor under Miri")]
fn a_call_wakes_a_run_that_sleeps() {
    nursery::run(async {
        let scope = CancelScope::new();
        let (remote, token) = (scope.remote(), lowlevel::token());
        let thread = thread::spawn(move || token.run_soon(move || remote.cancel()).is_ok());
        assert!(scope.enter(sleep_forever()).await?.is_none());
        assert!(thread.join().unwrap());
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// C18, `TrioToken_run_sync_soon_massive_queue`
#[test]
fn a_million_calls_are_fine() {
    const COUNT: usize = if cfg!(miri) { 1_000 } else { 1_000_000 };
    thread_local! {
        static NEXT: Cell<usize> = const { Cell::new(0) };
    }
    nursery_testing::run(async {
        let token = lowlevel::token();
        for i in 0..COUNT {
            token.run_soon(move || NEXT.with(|next| assert_eq!(next.replace(i + 1), i))).unwrap();
        }
        settle().await?;
        assert_eq!(NEXT.get(), COUNT);
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// C19, `TrioToken_run_sync_soon_crashes`
#[test]
fn a_call_that_panics_ends_the_run_after_the_other_calls() {
    let (tx, rx) = mpsc::channel();
    let panic = panic_of(|| {
        nursery_testing::run(async {
            let token = lowlevel::token();
            token.run_soon(|| panic_any("first")).unwrap();
            token.run_soon(say(&tx, "second ran")).unwrap();
            token.run_soon(|| panic_any("third")).unwrap();
            let cancelled = sleep_forever().await.unwrap_err();
            assert_eq!(cancelled.reason().source(), CancelSource::Shutdown);
            shield(checkpoint()).await?; // clean-up
            tx.send("main cleaned up").unwrap();
            Ok::<_, Cancelled>("this value is lost")
        })
    });
    assert_eq!(panic.downcast_ref(), Some(&"first"));
    assert_eq!(drain(&rx), ["second ran", "main cleaned up"]);
}

/// `TrioToken_run_sync_soon_after_main_crash`
#[test]
fn a_call_that_was_accepted_is_called_although_main_failed() {
    let (tx, rx) = mpsc::channel();
    let result = nursery_testing::run(async {
        lowlevel::token().run_soon(say(&tx, "sync ran")).unwrap();
        Err::<(), _>(anyhow::anyhow!("error text"))
    });
    assert_eq!(result.unwrap_err().to_string(), "error text");
    assert_eq!(drain(&rx), ["sync ran"]);

    let panic = panic_of(|| {
        nursery_testing::run(async {
            lowlevel::token().run_soon(say(&tx, "sync ran")).unwrap();
            if true {
                panic_any("main");
            }
            Ok::<_, Cancelled>(())
        })
    });
    assert_eq!(panic.downcast_ref(), Some(&"main"));
    assert_eq!(drain(&rx), ["sync ran"]);
}

/// A crash takes the place of main's own result.
#[test]
fn the_panic_of_a_call_goes_before_the_error_of_main() {
    let panic = panic_of(|| {
        nursery_testing::run(async {
            lowlevel::token().run_soon(|| panic_any("call")).unwrap();
            Err::<(), _>(anyhow::anyhow!("lost"))
        })
    });
    assert_eq!(panic.downcast_ref(), Some(&"call"));
}

/// Queues two calls when it is dropped.
struct LastWords(Token, Sender<&'static str>);

impl Drop for LastWords {
    fn drop(&mut self) {
        self.0.run_soon(|| panic_any("late")).unwrap();
        self.0.run_soon(say(&self.1, "2nd ran")).unwrap();
    }
}

/// `TrioToken_run_sync_soon_late_crash`: when the last system task is dropped.
#[test]
fn a_call_that_panics_during_shutdown_is_reported() {
    let (tx, rx) = mpsc::channel();
    let panic = panic_of(|| {
        nursery_testing::run(async {
            let words = LastWords(lowlevel::token(), tx.clone());
            let system = async move {
                let _words = words;
                sleep_forever().await
            };
            lowlevel::spawn_system_task("last", system).unwrap();
            checkpoint().await?;
            tx.send("main exiting").unwrap();
            Ok::<_, Cancelled>(())
        })
    });
    assert_eq!(panic.downcast_ref(), Some(&"late"));
    assert_eq!(drain(&rx), ["main exiting", "2nd ran"]);
}

/// The latest of all crashes: in the calls that are made when the queue has been closed.
#[test]
fn a_call_that_panics_after_the_queue_was_closed_is_reported() {
    fn until_closed(token: &Token) {
        let again = token.clone();
        if token.run_soon(move || until_closed(&again)).is_err() {
            panic_any("closed");
        }
    }
    let panic = panic_of(|| {
        nursery_testing::run(async {
            let token = lowlevel::token();
            lowlevel::token().run_soon(move || until_closed(&token)).unwrap();
            checkpoint().await
        })
    });
    assert_eq!(panic.downcast_ref(), Some(&"closed"));
}

/// C21: in the run, in no task.
#[test]
fn a_call_is_in_the_run_but_in_no_task() {
    static TASK: TaskLocal<u8> = TaskLocal::new();
    static RUN: RunLocal<u8> = RunLocal::new();
    nursery_testing::run(async {
        TASK.set(1);
        RUN.set(1);
        lowlevel::token()
            .run_soon(|| {
                assert!(lowlevel::in_run() && !lowlevel::in_task());
                assert_eq!((TASK.get(), RUN.get()), (None, Some(1)));
                RUN.set(2);
                let told = message::panic_message(lowlevel::current_task);
                assert!(told.contains("outside a task"), "{told}");
                message::panic_message(|| nursery::run(async { Ok::<_, Cancelled>(()) }));
            })
            .unwrap();
        settle().await?;
        assert_eq!(RUN.get(), Some(2));
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// What is `!Send` reaches a call through a thread-local of the run's thread.
#[test]
fn a_call_can_cancel_scopes_and_start_children() {
    thread_local! {
        static SCOPE: RefCell<Option<CancelScope>> = const { RefCell::new(None) };
        static NURSERY: RefCell<Option<nursery::NurseryHandle<Cancelled>>> =
            const { RefCell::new(None) };
    }
    let ran = Rc::new(Cell::new(false));
    thread_local! {
        static RAN: RefCell<Rc<Cell<bool>>> = RefCell::default();
    }
    RAN.set(ran.clone());
    nursery_testing::run(async {
        open_nursery(async |n| {
            NURSERY.set(Some(n.handle()));
            let scope = CancelScope::new();
            SCOPE.set(Some(scope.clone()));
            lowlevel::token()
                .run_soon(|| {
                    let nursery = NURSERY.take().unwrap();
                    let ran = RAN.take();
                    nursery
                        .start_soon(async move {
                            assert_eq!(
                                lowlevel::current_task().parent(),
                                lowlevel::tasks().first().copied()
                            );
                            ran.set(true);
                            checkpoint().await
                        })
                        .unwrap();
                    SCOPE.take().unwrap().cancel_because("called");
                })
                .unwrap();
            assert!(scope.enter(sleep_forever()).await?.is_none());
            let reason = scope.reason().unwrap();
            assert_eq!((reason.text(), reason.task()), (Some("called"), None));
            Ok::<_, Cancelled>(())
        })
        .await
    })
    .unwrap();
    assert!(ran.get());
}

/// A call that merges is dropped outside the lock.
#[test]
fn a_call_that_merges_or_is_given_back_may_use_the_queue_when_it_is_dropped() {
    struct Busy(Token, Arc<Mutex<Vec<&'static str>>>);
    impl Drop for Busy {
        fn drop(&mut self) {
            let record = self.1.clone();
            let _ = self.0.run_soon(move || record.lock().unwrap().push("from drop"));
        }
    }
    let record = Arc::new(Mutex::new(vec![]));
    nursery_testing::run(async {
        let (token, key) = (lowlevel::token(), OnceKey::new());
        for _ in 0..2 {
            let busy = Busy(token.clone(), record.clone());
            token.run_soon_once(key, move || drop(busy)).unwrap();
        }
        settle().await?;
        assert_eq!(*record.lock().unwrap(), ["from drop"; 2]);
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}
