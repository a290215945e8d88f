//! `Guest`: a run inside another executor, its host.

mod message;

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use message::{panic_message, panic_of};
use nursery::lowlevel::{self, Instrument, ParkingLot, Token, wait_all_tasks_blocked};
use nursery::{
    Builder, CancelScope, CancelSource, Cancelled, Clock, Guest, Idle, NurseryHandle, OnIdle,
    RunLocal, TaskLocal, cancellable, checkpoint, move_on_after, now, open_nursery, shield, sleep,
    sleep_forever,
};
use nursery_testing::{MockClock, Test};

const SECOND: Duration = Duration::from_secs(1);

/// The simplest host: polls its guest when it has been woken, and does what the test says in between.
struct Host<'a, T, E> {
    guest: Pin<Box<Guest<'a, T, E>>>,
    woken: Arc<Woken>,
    /// Says that somebody outside may call, so that a guest that waits is not taken for dead.
    _token: Token,
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

impl<'a, T, E> Host<'a, T, E> {
    fn new(guest: Guest<'a, T, E>) -> Self {
        let token = guest.token();
        Host { guest: Box::pin(guest), woken: Arc::default(), _token: token }
    }

    /// On a clock that stands still until it is moved.
    fn of(main: impl Future<Output = Result<T, E>> + 'a) -> Self
    where
        T: 'a,
        E: nursery::TaskError + 'a,
    {
        Host::new(Test::new().clock(&MockClock::new()).builder().guest(main))
    }

    fn poll(&mut self) -> Poll<Result<T, E>> {
        let waker = Waker::from(self.woken.clone());
        self.guest.as_mut().poll(&mut Context::from_waker(&waker))
    }

    fn is_woken(&self) -> bool {
        self.woken.0.load(Ordering::Acquire)
    }

    /// Polls until the guest sleeps, or has ended.
    fn settle(&mut self) -> Poll<Result<T, E>> {
        loop {
            self.woken.0.store(false, Ordering::Release);
            let poll = self.poll();
            if poll.is_ready() || !self.is_woken() {
                return poll;
            }
        }
    }

    /// It has been woken by what the host did just now, and ends.
    #[track_caller]
    fn ends(&mut self) -> Result<T, E> {
        assert!(self.is_woken(), "the guest sleeps on");
        match self.settle() {
            Poll::Ready(result) => result,
            Poll::Pending => panic!("the guest was woken, but does not end"),
        }
    }
}

/// `guest_trivial`
#[test]
fn the_outcome_of_a_guest_is_that_of_its_main_task() {
    let ok = async {
        checkpoint().await?;
        Ok::<_, Cancelled>("ok")
    };
    assert!(matches!(Host::of(ok).settle(), Poll::Ready(Ok("ok"))));
    let fails = async { Err::<(), _>(anyhow::anyhow!("whoopsiedaisy")) };
    let Poll::Ready(Err(error)) = Host::of(fails).settle() else { panic!("it fails") };
    assert_eq!(error.to_string(), "whoopsiedaisy");
    let mut panics = Host::of(async {
        checkpoint().await?;
        if true {
            std::panic::panic_any("at the disco");
        }
        Ok::<(), Cancelled>(())
    });
    assert_eq!(panic_of(|| panics.settle()).downcast_ref(), Some(&"at the disco"));
    drop(panics);
    assert!(!lowlevel::in_run());
}

/// `guest_is_initialized_when_start_returns`
#[test]
fn a_guest_that_was_not_polled_takes_calls() {
    let (tx, rx) = mpsc::channel();
    let mut host = Host::of(async {
        tx.send("main").unwrap();
        checkpoint().await?;
        Ok::<_, Cancelled>(lowlevel::token())
    });
    let token = host.guest.token();
    let call = tx.clone();
    token
        .run_soon(move || {
            call.send("call").unwrap();
            let system = async move {
                call.send("system task").unwrap();
                checkpoint().await
            };
            lowlevel::spawn_system_task("early", system).unwrap();
        })
        .unwrap();
    assert!(rx.try_recv().is_err(), "nothing runs before it is polled");
    let Poll::Ready(Ok(inside)) = host.settle() else { panic!("it ends") };
    assert_eq!(inside, token);
    assert!(token.run_soon(|| ()).is_err());
    let mut record: Vec<_> = rx.try_iter().collect();
    assert_eq!(record.remove(0), "call");
    record.sort_unstable();
    assert_eq!(record, ["main", "system task"]);
}

/// The second half of that test: a failure while the run starts comes out of the poll.
#[test]
fn a_clock_that_does_not_start_panics_in_the_first_poll() {
    struct Bad;
    impl Clock for Bad {
        fn start(&self) {
            panic!("whoops");
        }
        fn now(&self) -> Instant {
            MockClock::new().now()
        }
    }
    let ran = Cell::new(false);
    let mut host = Host::new(Builder::new().clock(Bad).guest(async {
        ran.set(true);
        checkpoint().await
    }));
    assert_eq!(panic_message(|| host.settle()), "whoops");
    drop(host);
    assert!(!ran.get());
}

/// `host_can_directly_wake_trio_task`
#[test]
fn the_host_can_wake_a_task() {
    let event = ParkingLot::<&str>::new();
    let mut host = Host::of(async { anyhow::Ok(event.park().await?) });
    assert!(host.settle().is_pending());
    event.unpark_one("from the host").unwrap();
    assert_eq!(host.ends().unwrap(), "from the host");
}

#[test]
fn the_host_can_cancel_a_scope() {
    let (scope, remote) = (CancelScope::new(), CancelScope::new());
    let mut host = Host::of(async {
        assert!(scope.enter(sleep_forever()).await?.is_none());
        assert_eq!(scope.reason().unwrap().task(), None, "no task did it");
        assert!(remote.enter(sleep_forever()).await?.is_none());
        Ok::<_, Cancelled>(())
    });
    assert!(host.settle().is_pending());
    scope.cancel();
    assert!(host.is_woken());
    assert!(host.settle().is_pending());
    assert!(scope.cancelled_caught());
    remote.remote().cancel();
    host.ends().unwrap();
}

#[test]
fn the_host_can_lower_a_shield() {
    let (outer, inner) = (CancelScope::new(), CancelScope::new().with_shield(true));
    let mut host = Host::of(async {
        let done = outer.enter(async { inner.enter(sleep_forever()).await }).await?;
        assert!(done.is_none());
        Ok::<_, Cancelled>(())
    });
    assert!(host.settle().is_pending());
    outer.cancel();
    assert!(host.settle().is_pending());
    inner.set_shield(false);
    host.ends().unwrap();
}

/// `host_altering_deadlines_wakes_trio_up`
#[test]
fn the_host_can_change_deadlines() {
    let clock = MockClock::new();
    let (first, second, third) = (CancelScope::new(), CancelScope::new(), CancelScope::new());
    let mut host = Host::new(Test::new().clock(&clock).builder().guest(async {
        assert!(first.enter(sleep_forever()).await?.is_none());
        assert!(second.enter(sleep(SECOND * 999)).await?.is_none());
        assert!(third.enter(sleep_forever()).await?.is_none());
        assert_eq!(third.reason().unwrap().source(), CancelSource::Deadline);
        Ok::<_, Cancelled>(())
    }));
    assert!(host.settle().is_pending());
    first.set_deadline(Some(clock.now())); // has passed
    assert!(host.is_woken());
    assert!(host.settle().is_pending());
    assert!(first.cancelled_caught());
    // A change that moves no next deadline wakes the guest, which sleeps on.
    second.set_deadline(Some(clock.now() + SECOND * 1_000_000));
    assert!(host.is_woken());
    assert!(host.settle().is_pending());
    assert!(!second.cancel_called());
    second.set_deadline(Some(clock.now()));
    assert!(host.is_woken());
    assert!(host.settle().is_pending());
    assert!(second.cancelled_caught());
    third.set_timeout(SECOND);
    assert!(host.settle().is_pending());
    clock.jump(SECOND);
    third.set_timeout(Duration::ZERO); // any change makes it look at the clock
    host.ends().unwrap();
}

#[test]
fn the_host_can_start_children() {
    let nursery: RefCell<Option<NurseryHandle<Cancelled>>> = RefCell::default();
    let mut host = Host::of(async {
        open_nursery(async |n| {
            nursery.replace(Some(n.handle()));
            sleep_forever().await
        })
        .or_none()
        .await
    });
    assert!(host.settle().is_pending());
    let ran = Rc::new(Cell::new(0));
    let nursery = nursery.borrow().clone().unwrap();
    for i in 1..=3 {
        let child_ran = ran.clone();
        let child = async move {
            checkpoint().await?;
            child_ran.set(i);
            Ok(())
        };
        nursery.start_soon(child).unwrap().set_name("from the host");
        assert!(host.is_woken(), "child {i}");
        assert!(host.settle().is_pending());
        assert_eq!(ran.get(), i);
    }
    nursery.cancel_scope().cancel();
    assert_eq!(host.ends().unwrap(), None);
    assert!(nursery.is_closed());
    assert!(nursery.start_soon(async { Ok(()) }).is_err());
}

/// A child that the host started can be named, cancelled and identified by the host.
#[test]
fn the_host_can_use_the_handle_of_a_child() {
    let nursery: RefCell<Option<NurseryHandle<Cancelled>>> = RefCell::default();
    let mut host = Host::of(async {
        open_nursery(async |n| {
            nursery.replace(Some(n.handle()));
            sleep_forever().await
        })
        .or_none()
        .await
    });
    assert!(host.settle().is_pending());
    let nursery = nursery.borrow().clone().unwrap();
    let child = nursery.start_soon(sleep_forever()).unwrap();
    child.set_name("mine");
    assert!(child.id().is_some());
    assert!(host.settle().is_pending());
    assert!(!child.is_finished());
    child.cancel_because("the host said so");
    assert!(host.is_woken());
    assert!(host.settle().is_pending());
    assert!(child.is_finished());
    assert!(!nursery.cancel_scope().cancel_called());
    nursery.cancel_scope().cancel();
    host.ends().unwrap();
}

/// Another thread wakes a host that sleeps.
#[test]
#[cfg_attr(miri, ignore = "no reactor under Miri")]
fn a_thread_can_wake_a_guest_in_any_executor() {
    let scope = CancelScope::new();
    let guest = Builder::new().guest(async {
        assert!(scope.enter(sleep_forever()).await?.is_none());
        Ok::<_, Cancelled>(())
    });
    let remote = scope.remote();
    let thread = thread::spawn(move || remote.cancel());
    futures_lite::future::block_on(guest).unwrap();
    thread.join().unwrap();
}

/// `guest_mode_trio_context_detection`
#[test]
fn between_polls_the_host_is_in_no_run() {
    static LOCAL: TaskLocal<u8> = TaskLocal::new();
    let event = ParkingLot::<()>::new();
    let mut host = Host::of(async {
        LOCAL.set(1);
        for _ in 0..2 {
            assert!(lowlevel::in_run() && lowlevel::in_task());
            event.park().await?;
        }
        anyhow::Ok(())
    });
    for _ in 0..2 {
        assert!(host.settle().is_pending());
        assert!(!lowlevel::in_run() && !lowlevel::in_task());
        assert_eq!(LOCAL.get(), None);
        panic_message(now);
        event.unpark_all();
    }
    host.ends().unwrap();
    assert!(!lowlevel::in_run());
}

/// `host_wakeup_doesnt_trigger_wait_all_tasks_blocked`, C56
#[test]
#[cfg_attr(miri, ignore = "cushions are real time: no reactor under Miri")]
fn a_wake_up_that_makes_nothing_ready_does_not_end_a_cushion() {
    let (waiting, other) = (CancelScope::new(), CancelScope::new());
    let mut host = Host::of(async {
        open_nursery(async |n| {
            n.start_soon(async {
                let waited = waiting.enter(wait_all_tasks_blocked(SECOND * 9999)).await?;
                assert!(waited.is_none(), "it returned");
                Ok(())
            });
            n.start_soon(async {
                other.enter(sleep_forever()).await?;
                Ok(())
            });
            Ok::<_, Cancelled>(())
        })
        .await
    });
    assert!(host.settle().is_pending());
    for _ in 0..3 {
        other.set_timeout(SECOND * 1_000_000);
        assert!(host.is_woken());
        assert!(host.settle().is_pending());
        assert!(host.poll().is_pending(), "a poll for no reason at all");
        host.guest.token().run_soon(|| ()).unwrap();
        assert!(host.settle().is_pending());
    }
    waiting.cancel();
    assert!(host.settle().is_pending());
    assert!(waiting.cancelled_caught());
    other.cancel();
    host.ends().unwrap();
}

/// `guest_mode_autojump_clock_threshold_changing`: a clock that the host sets free jumps when the guest is polled.
#[test]
fn the_host_can_let_the_clock_jump() {
    let clock = MockClock::new();
    clock.set_grace(Duration::ZERO);
    let mut host = Host::new(Test::new().clock(&clock).builder().guest(async {
        let start = now();
        sleep(SECOND * 3600).await?;
        Ok::<_, Cancelled>(now() - start)
    }));
    assert!(host.settle().is_pending());
    clock.set_autojump_threshold(Some(Duration::ZERO));
    host.guest.token().run_soon(|| ()).unwrap();
    assert_eq!(host.ends().unwrap(), SECOND * 3600);
}

/// Sleeps and wake-ups are visible to instruments, in pairs.
#[test]
fn each_return_to_the_host_is_bracketed() {
    #[derive(Default)]
    struct Waits(RefCell<Vec<&'static str>>);
    impl Instrument for Waits {
        fn before_run(&self) {
            self.0.borrow_mut().push("run");
        }
        fn before_io_wait(&self, timeout: Option<Duration>) {
            assert_eq!(timeout, None);
            self.0.borrow_mut().push("wait");
        }
        fn after_io_wait(&self) {
            self.0.borrow_mut().push("back");
        }
        fn after_run(&self) {
            self.0.borrow_mut().push("over");
        }
    }
    let (waits, event) = (Rc::new(Waits::default()), ParkingLot::<()>::new());
    let builder = Test::new().clock(&MockClock::new()).builder().instrument(waits.clone());
    let mut host = Host::new(builder.guest(async { anyhow::Ok(event.park().await?) }));
    assert!(host.settle().is_pending());
    assert!(host.poll().is_pending());
    event.unpark_all();
    host.ends().unwrap();
    assert_eq!(waits.0.take(), ["run", "wait", "back", "wait", "back", "over"]);
    drop(Test::new().builder().instrument(waits.clone()).guest(sleep_forever()));
    assert_eq!(waits.0.take(), ["run", "over"]);
}

#[test]
fn a_guest_polled_after_its_end_panics() {
    let mut host = Host::of(checkpoint());
    assert!(host.settle().is_ready());
    let message = panic_message(|| host.poll());
    assert_eq!(message, "a `Guest` was polled after it had ended");
    assert!(!lowlevel::in_run());
}

/// Notes who is dropped, and that it happens inside the run.
struct Dropped<'a>(&'static str, &'a RefCell<Vec<&'static str>>);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        assert!(lowlevel::in_run(), "{}", self.0);
        self.1.borrow_mut().push(self.0);
    }
}

/// `guest_warns_if_abandoned`: nothing is abandoned; what runs is dropped, synchronously.
#[test]
fn a_guest_that_is_dropped_drops_everything_in_it() {
    let dropped = RefCell::new(vec![]);
    let (tx, rx) = mpsc::channel();
    let mut host = Host::of(async {
        let _main = Dropped("main", &dropped);
        let system = async {
            sleep_forever().await?;
            unreachable!("dropped")
        };
        lowlevel::spawn_system_task("system", system).unwrap();
        open_nursery(async |n| {
            let _body = Dropped("body", &dropped);
            for name in ["first", "second"] {
                let dropped = &dropped;
                n.start_soon(async move {
                    let _child = Dropped(name, dropped);
                    shield(sleep_forever()).await // not interrupted by being cancelled, but by being dropped
                });
            }
            sleep_forever().await
        })
        .await
    });
    assert!(host.settle().is_pending());
    let token = host.guest.token();
    token.run_soon(move || tx.send(lowlevel::in_run()).unwrap()).unwrap();
    let early = host.guest.token();
    drop(host);
    assert_eq!(dropped.take(), ["first", "second", "body", "main"]);
    assert_eq!(rx.try_recv(), Ok(true), "an accepted call is called");
    assert!(token.run_soon(|| ()).is_err());
    assert_eq!(token, early);
    assert!(!lowlevel::in_run());
}

#[test]
fn a_guest_dropped_before_its_first_poll_runs_nothing() {
    let dropped = RefCell::new(vec![]);
    let value = Dropped("main", &dropped);
    let guest = Test::new().builder().guest(async move {
        let _value = value;
        unreachable!("not polled")
    }) as Guest<'_, (), Cancelled>;
    let token = guest.token();
    drop(guest);
    assert_eq!(dropped.take(), ["main"]);
    assert!(token.run_soon(|| ()).is_err());
}

/// A panic in a destructor comes out of the drop, after everything has been dropped.
#[test]
fn a_destructor_that_panics_does_not_keep_others_from_being_dropped() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any("boom");
        }
    }
    let dropped = RefCell::new(vec![]);
    let mut host = Host::of(async {
        let _main = Dropped("main", &dropped);
        open_nursery(async |n| {
            n.start_soon(async {
                let _bomb = Bomb;
                sleep_forever().await
            });
            n.start_soon(async {
                let _child = Dropped("child", &dropped);
                sleep_forever().await
            });
            Ok::<_, Cancelled>(())
        })
        .await
    });
    assert!(host.settle().is_pending());
    assert_eq!(panic_of(|| drop(host)).downcast_ref(), Some(&"boom"));
    assert_eq!(dropped.take(), ["child", "main"]);
    nursery_testing::run(async { checkpoint().await }).unwrap();
}

/// A panic of a call that is made because its guest is dropped is not lost.
#[test]
fn a_call_that_panics_while_its_guest_is_dropped_is_heard_of() {
    let mut host = Host::of(sleep_forever());
    assert!(host.settle().is_pending());
    host.guest.token().run_soon(|| std::panic::panic_any("call")).unwrap();
    assert_eq!(panic_of(|| drop(host)).downcast_ref(), Some(&"call"));
}

#[test]
fn two_guests_on_one_thread_take_turns() {
    static RUN: RunLocal<u8> = RunLocal::new();
    static TASK: TaskLocal<u8> = TaskLocal::new();
    let clocks = [MockClock::new(), MockClock::new()];
    clocks[1].jump(SECOND);
    let events = [(); 2].map(|()| ParkingLot::<u8>::new());
    let main = async |me: u8| {
        let i = usize::from(me);
        RUN.set(me);
        TASK.set(me);
        let (task, token) = (lowlevel::current_task(), lowlevel::token());
        for _ in 0..5 {
            let got = events[i].park().await?;
            assert_eq!(got, 1 - me);
            // The other run's task waits there: it is woken across runs.
            events[1 - i].unpark_one(me).ok();
            assert_eq!((RUN.get(), TASK.get(), now()), (Some(me), Some(me), clocks[i].now()));
            assert_eq!((lowlevel::current_task(), lowlevel::token()), (task, token.clone()));
            assert_eq!(lowlevel::tasks().len(), 1);
        }
        anyhow::Ok(task)
    };
    let guest = |me: u8| Test::new().clock(&clocks[usize::from(me)]).builder().guest(main(me));
    let (mut a, mut b) = (Host::new(guest(0)), Host::new(guest(1)));
    assert!(a.settle().is_pending());
    assert!(b.settle().is_pending());
    events[0].unpark_one(1).unwrap();
    let (mut ended_a, mut ended_b) = (None, None);
    for _ in 0..5 {
        for (host, ended) in [(&mut a, &mut ended_a), (&mut b, &mut ended_b)] {
            assert!(host.is_woken());
            if let Poll::Ready(result) = host.settle() {
                ended.replace(result.unwrap());
            }
        }
    }
    assert_ne!(ended_a.expect("a ends"), ended_b.expect("b ends"));
}

/// A guest may be awaited in a task of another run: the other run is its host.
#[test]
#[cfg_attr(miri, ignore = "the clock's grace is real time: no reactor under Miri")]
fn a_guest_inside_a_run_is_a_future_like_any_other() {
    static LOCAL: TaskLocal<&str> = TaskLocal::new();
    nursery_testing::run(async {
        LOCAL.set("outer");
        let me = lowlevel::current_task();
        let inner = async {
            assert_eq!(LOCAL.get(), None);
            assert_ne!(lowlevel::current_task(), me);
            let refused = panic_message(|| nursery::run(async { Ok::<_, Cancelled>(()) }));
            assert!(refused.contains("inside a run"), "{refused}");
            open_nursery(async |n| {
                n.start_soon(async {
                    sleep(SECOND).await // a virtual clock of its own
                });
                checkpoint().await?;
                Ok::<_, Cancelled>("inner")
            })
            .await
        };
        let value = cancellable(Test::new().builder().guest(inner)).await?;
        assert_eq!(value.unwrap(), "inner");
        assert_eq!((LOCAL.get(), lowlevel::current_task()), (Some("outer"), me));
        checkpoint().await?;

        // A scope of the outer run cancels the wait for the inner one, which is dropped.
        let dropped = RefCell::new(vec![]);
        let inner = async {
            let _inner = Dropped("inner", &dropped);
            let _token = lowlevel::token();
            sleep_forever().await
        };
        let guest = cancellable(Test::new().builder().guest(inner));
        assert!(move_on_after(SECOND, guest).await?.is_none());
        assert_eq!(dropped.take(), ["inner"]);
        assert_eq!(lowlevel::current_task(), me);
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// Whether a task is cancelled is told of the run that polls, not of the one around it.
#[test]
fn cancellation_of_an_outer_run_does_not_reach_into_a_guest() {
    nursery_testing::run(async {
        let scope = CancelScope::new();
        scope.cancel();
        scope
            .enter(async {
                assert!(lowlevel::is_cancelled());
                let inner = Test::new().builder().guest(async {
                    assert!(!lowlevel::is_cancelled());
                    checkpoint().await?;
                    sleep(SECOND).await?;
                    Ok::<_, Cancelled>(())
                });
                inner.await.expect("not cancelled");
                assert!(lowlevel::is_cancelled());
                checkpoint().await.unwrap_err();
                Ok::<_, Cancelled>(())
            })
            .await?;
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

fn tokio() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

/// `guest_mode_on_asyncio`: tokio's timers, channels and tasks inside, two guests in one `LocalSet`.
#[test]
#[cfg_attr(miri, ignore = "no reactor under Miri")]
fn guests_in_a_local_set_of_tokio() {
    let local = tokio::task::LocalSet::new();
    let main = async |start: u32| {
        let (tx, mut rx) = tokio::sync::mpsc::channel(1);
        open_nursery(async |n| -> anyhow::Result<u32> {
            n.start_soon(async {
                let tx = tx; // dropped at the end: the channel closes
                for i in start..start + 3 {
                    cancellable(tokio::time::sleep(Duration::from_micros(50))).await?;
                    cancellable(tx.send(i)).await??;
                }
                Ok(())
            });
            let mut sum = 0;
            while let Some(i) = cancellable(rx.recv()).await? {
                sum += i;
                sleep(Duration::from_micros(50)).await?; // our timer, in tokio's thread
            }
            let doubled = tokio::spawn(async move { sum * 2 });
            Ok(cancellable(doubled).await??)
        })
        .await
    };
    let sums = local.block_on(&tokio(), async move {
        let a = tokio::task::spawn_local(Builder::new().guest(main(1)));
        let b = tokio::task::spawn_local(Builder::new().guest(main(10)));
        [a.await.unwrap().unwrap(), b.await.unwrap().unwrap()]
    });
    assert_eq!(sums, [12, 66]);
}

/// A cancelled `cancellable` drops what it waits for; a value that is there stays.
#[test]
#[cfg_attr(miri, ignore = "no reactor under Miri")]
fn a_foreign_future_is_dropped_when_it_is_cancelled() {
    tokio().block_on(async {
        let guest = Builder::new().guest(async {
            let (tx, rx) = tokio::sync::oneshot::channel::<()>();
            let limit = Duration::from_micros(200);
            assert!(move_on_after(limit, cancellable(rx)).await?.is_none());
            assert!(tx.is_closed(), "the receiver was dropped");
            let timeout = tokio::time::timeout(limit, pending::<()>());
            assert!(cancellable(timeout).await?.is_err());
            Ok::<_, Cancelled>(())
        });
        guest.await.unwrap();
    });
}

/// A host that drops its guest half-way, as `select!` does.
#[test]
#[cfg_attr(miri, ignore = "no reactor under Miri")]
fn a_guest_in_a_select_of_tokio_is_dropped() {
    let dropped = RefCell::new(vec![]);
    tokio().block_on(async {
        let guest = Builder::new().guest(async {
            open_nursery(async |n| {
                n.start_soon(async {
                    let _child = Dropped("child", &dropped);
                    sleep_forever().await
                });
                Ok::<_, Cancelled>(())
            })
            .await
        });
        tokio::select! {
            _ = guest => unreachable!("it sleeps for ever"),
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
        }
    });
    assert_eq!(dropped.take(), ["child"]);
}

/// `guest_can_do_io`: the timer is async-io's, which wakes any executor.
#[test]
#[cfg_attr(miri, ignore = "no reactor under Miri")]
fn a_guest_in_block_on_of_futures_lite() {
    let nap = Duration::from_micros(500);
    let slept = futures_lite::future::block_on(Builder::new().guest(async {
        open_nursery(async |n| {
            let sleeper = n.start_soon(async {
                let start = now();
                sleep(nap).await?;
                Ok(now() - start)
            });
            let (tx, rx) = tokio::sync::oneshot::channel();
            let thread = thread::spawn(move || tx.send(7));
            assert_eq!(cancellable(rx).await?, Ok(7));
            thread.join().unwrap().unwrap();
            sleeper.await
        })
        .await
    }) as Guest<'_, Duration, Cancelled>)
    .unwrap();
    assert!(slept >= nap);
}

/// A busy guest lets its host go on: a poll does not take for ever.
#[test]
#[cfg_attr(miri, ignore = "thousands of steps: minutes under Miri")]
fn a_busy_guest_returns_to_its_host() {
    let stop = Cell::new(false);
    let mut host = Host::of(async {
        while !stop.get() {
            checkpoint().await?;
        }
        Ok::<_, Cancelled>(())
    });
    for _ in 0..3 {
        assert!(host.poll().is_pending());
        assert!(host.is_woken(), "it wants to go on");
    }
    stop.set(true);
    host.ends().unwrap();
}

/// `guest_mode_internal_errors`: a hook of the user that panics later on comes out of the poll.
#[test]
fn a_clock_that_panics_later_comes_out_of_the_poll() {
    struct Late(MockClock, Cell<bool>);
    impl Clock for Late {
        fn now(&self) -> Instant {
            self.0.now()
        }
        fn on_idle(&self, _: &Idle) -> OnIdle {
            assert!(!self.1.replace(true), "late");
            OnIdle::Wait(None)
        }
    }
    let dropped = RefCell::new(vec![]);
    let clock = Late(MockClock::new(), Cell::new(false));
    let mut host = Host::new(Builder::new().clock(clock).guest(async {
        let _main = Dropped("main", &dropped);
        sleep_forever().await
    })) as Host<'_, (), Cancelled>;
    assert!(host.settle().is_pending());
    assert_eq!(panic_message(|| host.poll()), "late");
    drop(host);
    assert_eq!(dropped.take(), ["main"]);
}

/// Wakers of the guest that others keep after its end do nothing.
#[test]
fn a_waker_that_outlives_its_guest_is_harmless() {
    let kept = RefCell::new(vec![]);
    let keep = |cx: &mut Context<'_>| kept.borrow_mut().push(cx.waker().clone());
    let mut host = Host::of(async {
        open_nursery(async |n| {
            n.start_soon(async {
                cancellable(poll_fn(|cx| {
                    keep(cx);
                    Poll::<()>::Pending
                }))
                .await
            });
            cancellable(poll_fn(|cx| {
                keep(cx);
                Poll::<()>::Pending
            }))
            .await
        })
        .await
    });
    assert!(host.settle().is_pending());
    drop(host);
    let wakers = kept.take();
    assert!(wakers.len() >= 2);
    // Also while another run is in progress, which may use the same inbox; and in another thread.
    nursery_testing::run(async {
        for waker in &wakers {
            waker.wake_by_ref();
        }
        checkpoint().await
    })
    .unwrap();
    thread::spawn(move || wakers.into_iter().for_each(Waker::wake)).join().unwrap();
    nursery_testing::run(async { checkpoint().await }).unwrap();
}

/// System tasks are dropped like all others, whether they wait, have been woken, or have not run yet.
#[test]
fn a_guest_that_is_dropped_drops_its_system_tasks() {
    let event = Rc::new(ParkingLot::<()>::new());
    let dropped = Rc::new(RefCell::new(vec![]));
    struct Owned(&'static str, Rc<RefCell<Vec<&'static str>>>);
    impl Drop for Owned {
        fn drop(&mut self) {
            assert!(lowlevel::in_run());
            self.1.borrow_mut().push(self.0);
        }
    }
    let mut host = Host::of(async {
        let task = |name, event: &Rc<ParkingLot>| {
            let (owned, event) = (Owned(name, dropped.clone()), event.clone());
            async move {
                let _owned = owned;
                event.park().await.unwrap();
                Ok(())
            }
        };
        lowlevel::spawn_system_task("woken", task("woken", &event)).unwrap();
        let other = Rc::default();
        lowlevel::spawn_system_task("waits", task("waits", &other)).unwrap();
        wait_all_tasks_blocked(Duration::ZERO).await?;
        lowlevel::spawn_system_task("new", task("new", &other)).unwrap();
        cancellable(poll_fn(|_| Poll::<()>::Pending)).await
    });
    assert!(host.settle().is_pending());
    assert_eq!(event.unpark_all(), 1);
    drop(host);
    let mut dropped = dropped.take();
    dropped.sort_unstable();
    assert_eq!(dropped, ["new", "waits", "woken"]);
}

/// The same at a moment when they stand on the run's own list.
#[test]
#[cfg_attr(miri, ignore = "thousands of steps: minutes under Miri; valgrind sees what it is about")]
fn a_busy_guest_that_is_dropped_drops_its_system_tasks_once() {
    for seed in 0..8 {
        let lot = Rc::new(ParkingLot::<()>::new());
        let (made, drops) = (Cell::new(0), Rc::new(Cell::new(0)));
        struct Count(Rc<Cell<u32>>);
        impl Drop for Count {
            fn drop(&mut self) {
                self.0.set(self.0.get() + 1);
            }
        }
        let guest = Test::new().seed(seed).builder().guest(async {
            loop {
                if made.get() < 5 {
                    made.set(made.get() + 1);
                    let (count, lot) = (Count(drops.clone()), lot.clone());
                    let task = async move {
                        let _count = count;
                        loop {
                            lot.park().await.unwrap();
                        }
                    };
                    lowlevel::spawn_system_task("busy", task).unwrap();
                }
                lot.unpark_all();
                checkpoint().await?;
            }
        }) as Guest<'_, (), Cancelled>;
        let mut host = Host::new(guest);
        assert!(host.poll().is_pending());
        assert!(host.is_woken(), "it is busy");
        drop(host);
        assert_eq!(drops.get(), made.get(), "seed {seed}");
    }
}

/// A hook that is called last of all before the host gets its thread back may still wake somebody.
#[test]
fn a_hook_that_wakes_a_task_before_the_wait_is_heard() {
    struct Last(CancelScope);
    impl Instrument for Last {
        fn before_io_wait(&self, _: Option<Duration>) {
            self.0.cancel();
        }
    }
    let scope = CancelScope::new();
    let builder = Test::new().clock(&MockClock::new()).builder();
    let guest = builder.instrument(Rc::new(Last(scope.clone()))).guest(async {
        assert!(scope.enter(sleep_forever()).await?.is_none());
        Ok::<_, Cancelled>(())
    });
    let mut host = Host::new(guest);
    assert!(matches!(host.settle(), Poll::Ready(Ok(()))));
}

/// Two tasks never have the same identity, whatever run they belong to.
#[test]
fn tasks_of_runs_at_the_same_time_are_told_apart() {
    let mut ids = std::collections::BTreeSet::new();
    let mut first = None;
    for round in 0..3 {
        let mut hosts: Vec<_> = (0..20)
            .map(|_| Host::of(async { Ok::<_, Cancelled>(lowlevel::current_task()) }))
            .collect();
        for host in &mut hosts {
            let Poll::Ready(Ok(id)) = host.settle() else { panic!("it ends") };
            assert!(ids.insert(id), "round {round}");
            first.get_or_insert(id);
        }
    }
    let first = first.expect("the first");
    nursery_testing::run(async {
        assert_eq!((first.name(), first.parent()), (None, None));
        assert!(ParkingLot::<()>::new().add_breaker(first).is_err());
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}
