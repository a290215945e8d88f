//! Wakers that use the run when they are cloned, woken and dropped: nothing is borrowed or locked while they do.
#![expect(
    unsafe_code,
    reason = "a waker whose `clone` is not `Arc::clone` needs a table of its own"
)]

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::ptr;
use std::rc::Rc;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};
use std::time::Duration;

use nursery::lowlevel::{self, ParkingLot, Token};
use nursery::{
    CancelScope, Cancelled, Child, NurseryHandle, TaskStatus, cancellable, checkpoint,
    move_on_after, now, open_nursery, shield, sleep, sleep_forever, tree,
};
use nursery_testing::{MockClock, Test};

type Mischief = Rc<dyn Fn(&'static str)>;

thread_local! {
    /// What a hostile waker does whenever it gets the chance.
    static MISCHIEF: RefCell<Option<Mischief>> = const { RefCell::new(None) };
    /// How many hostile wakers there are.
    static LIVING: Cell<i32> = const { Cell::new(0) };
}

fn strike(when: &'static str) {
    let mischief = MISCHIEF.with(|mischief| mischief.borrow().clone());
    if let Some(mischief) = mischief {
        mischief(when);
    }
}

static TABLE: RawWakerVTable = RawWakerVTable::new(
    |_| {
        strike("clone");
        LIVING.set(LIVING.get() + 1);
        RawWaker::new(ptr::null(), &TABLE)
    },
    |_| {
        strike("wake");
        LIVING.set(LIVING.get() - 1);
    },
    |_| strike("wake"),
    |_| {
        strike("drop");
        LIVING.set(LIVING.get() - 1);
    },
);

fn hostile() -> Waker {
    LIVING.set(LIVING.get() + 1);
    // SAFETY: the functions of the table do not use the pointer, so there is nothing that they could do wrong with it.
    // They are safe to call from any thread: everything they touch is thread-local.
    unsafe { Waker::from_raw(RawWaker::new(ptr::null(), &TABLE)) }
}

/// Polls `inner` with a hostile waker, over and over, each time with another one.
async fn with_hostile_wakers<F: Future>(inner: F) -> F::Output {
    let mut inner = pin!(inner);
    poll_fn(|cx| {
        let waker = hostile();
        let poll = inner.as_mut().poll(&mut Context::from_waker(&waker));
        if poll.is_pending() {
            cx.waker().wake_by_ref(); // the hostile waker wakes nobody
        }
        poll
    })
    .await
}

/// What the mischief plays with.
struct Toys {
    strikes: Cell<u32>,
    seen: RefCell<Vec<&'static str>>,
    busy: Cell<bool>,
    scopes: [CancelScope; 2],
    lot: ParkingLot,
    nursery: RefCell<Option<NurseryHandle<Cancelled>>>,
    token: RefCell<Option<Token>>,
}

impl Toys {
    fn new() -> Rc<Self> {
        Rc::new(Toys {
            strikes: Cell::new(0),
            seen: RefCell::default(),
            busy: Cell::new(false),
            scopes: [CancelScope::new(), CancelScope::new()],
            lot: ParkingLot::new(),
            nursery: RefCell::default(),
            token: RefCell::default(),
        })
    }

    /// Uses everything of the run that can be used from sync code.
    fn play(&self, when: &'static str) {
        if !lowlevel::in_run() || self.busy.replace(true) {
            return;
        }
        self.strikes.set(self.strikes.get() + 1);
        self.seen.borrow_mut().push(when);
        let [toggled, cancelled] = &self.scopes;
        assert!(!tree().to_string().is_empty());
        let _ = (lowlevel::statistics(), lowlevel::tasks(), now(), format!("{toggled:?}"));
        toggled.set_shield(!toggled.shield());
        toggled.set_timeout(Duration::from_secs(3600));
        toggled.set_deadline(None);
        if self.strikes.get().is_multiple_of(3) {
            cancelled.cancel();
        }
        self.lot.unpark_all();
        let other = ParkingLot::new();
        self.lot.repark_all(&other);
        other.repark_all(&self.lot);
        if let Some(nursery) = &*self.nursery.borrow()
            && let Ok(child) = nursery.start_soon(checkpoint())
        {
            child.set_name("mischief");
            child.cancel();
        }
        if self.strikes.get().is_multiple_of(4)
            && let Some(token) = &*self.token.borrow()
        {
            token.run_soon(|| drop(tree())).ok();
        }
        if lowlevel::in_task() {
            let _ = (lowlevel::points(), lowlevel::is_cancelled(), lowlevel::current_task().name());
        }
        self.busy.set(false);
    }
}

/// Runs `body` while wakers play.
fn besieged<T>(body: impl FnOnce(&Toys) -> T) -> T {
    let toys = Toys::new();
    let mischief = toys.clone();
    MISCHIEF.set(Some(Rc::new(move |when| mischief.play(when))));
    let result = body(&toys);
    MISCHIEF.set(None);
    assert!(toys.strikes.get() > 0, "no waker was used");
    assert_eq!(LIVING.get(), 0, "each waker is woken or dropped");
    result
}

type Operation<'a> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + 'a>>;

/// Every operation that waits.
fn operations(toys: &Toys) -> Vec<Operation<'_>> {
    vec![
        Box::pin(async { Ok(sleep(Duration::from_secs(60)).await?) }),
        Box::pin(async { Ok(sleep_forever().await?) }),
        Box::pin(async { Ok(toys.lot.park().await?) }),
        Box::pin(async { Ok(cancellable(pending::<()>()).await?) }),
        Box::pin(async { Err(lowlevel::cancelled().await.into()) }),
        Box::pin(async { shield(toys.lot.park()).await.map_err(Into::into) }),
        Box::pin(async { Ok(lowlevel::wait_all_tasks_blocked(Duration::from_secs(9)).await?) }),
        Box::pin(open_nursery(async |n| {
            n.start_soon(async { Ok(sleep_forever().await?) });
            Ok(sleep_forever().await?)
        })),
        Box::pin(open_nursery(async |n| {
            let child = n.start_soon(async { Ok(sleep_forever().await?) });
            Ok(child.await?)
        })),
        Box::pin(open_nursery(async |n| {
            let starting = n.start(async |status| {
                checkpoint().await?;
                status.started(());
                Ok(sleep_forever().await?)
            });
            starting.await?;
            Ok(sleep_forever().await?)
        })),
        Box::pin(async {
            let body = async { anyhow::Ok(sleep_forever().await?) };
            move_on_after(Duration::from_secs(1), body).await?;
            Ok(sleep_forever().await?)
        }),
    ]
}

/// All of them, polled with a hostile waker in a scope that is cancelled while it waits.
#[test]
fn operations_survive_hostile_wakers_when_they_are_cancelled() {
    let count = operations(&Toys::new()).len();
    for i in 0..count {
        for is_dropped in [false, true] {
            besieged(|toys| {
                let scope = CancelScope::new();
                let main = async {
                    open_nursery(async |n| {
                        toys.nursery.replace(Some(n.handle()));
                        toys.token.replace(Some(lowlevel::token()));
                        n.start_soon(async {
                            let mut operation =
                                Box::pin(with_hostile_wakers(operations(toys).remove(i)));
                            let wait = async {
                                if is_dropped {
                                    for _ in 0..3 {
                                        let poll = poll_fn(|cx| {
                                            Poll::Ready(operation.as_mut().poll(cx).is_ready())
                                        });
                                        if poll.await {
                                            return anyhow::Ok(());
                                        }
                                        checkpoint().await?;
                                    }
                                    drop(operation);
                                    Ok(())
                                } else {
                                    operation.await
                                }
                            };
                            let inner = async { toys.scopes[0].enter(scope.enter(wait)).await };
                            toys.scopes[1].enter(inner).await.ok();
                            Ok(())
                        });
                        for _ in 0..10 {
                            checkpoint().await?;
                        }
                        scope.cancel();
                        for _ in 0..3 {
                            checkpoint().await?;
                        }
                        n.cancel_scope().cancel();
                        Ok::<_, Cancelled>(())
                    })
                    .await
                };
                Test::new().run(main).unwrap();
            });
        }
    }
}

/// Wake-ups of all kinds reach a hostile waker while nothing is borrowed: unpark, timer, cancel, deadline, break.
#[test]
fn every_kind_of_wake_up_survives_a_hostile_waker() {
    besieged(|toys| {
        let lots = [(); 2].map(|()| ParkingLot::<u8>::new());
        let main = async {
            open_nursery(async |n| -> anyhow::Result<()> {
                n.start_soon(async {
                    // The operation registers a hostile waker, and is woken for another reason beside it.
                    let waker = hostile();
                    let mut cx = Context::from_waker(&waker);
                    let mut parks = [lots[0].park(), lots[0].park(), lots[0].park()];
                    for park in &mut parks {
                        assert!(Pin::new(park).poll(&mut cx).is_pending());
                    }
                    let mut nap = pin!(sleep(Duration::from_secs(1)));
                    assert!(nap.as_mut().poll(&mut cx).is_pending());
                    let scope = CancelScope::new().with_timeout(Duration::from_secs(2));
                    let mut limited = pin!(scope.enter(sleep_forever()));
                    assert!(limited.as_mut().poll(&mut cx).is_pending());

                    let strikes = toys.strikes.get();
                    lots[0].unpark_one(1).unwrap();
                    assert!(toys.strikes.get() > strikes, "woken at once");
                    lots[0].repark(&lots[1], 1);
                    lots[1].unpark_one(2).unwrap();
                    lots[0].break_lot();
                    let [a, b, c] = parks;
                    assert_eq!((a.await?, b.await?, c.await.is_err()), (1, 2, true));
                    let strikes = toys.strikes.get();
                    sleep(Duration::from_secs(3)).await?;
                    assert!(toys.strikes.get() >= strikes + 2, "the timer, and the deadline");
                    assert!(nap.as_mut().poll(&mut cx).is_ready());
                    assert!(limited.as_mut().poll(&mut cx).is_ready());
                    Ok(())
                });
                Ok(())
            })
            .await
        };
        Test::new().run(main).unwrap();
        let seen = toys.seen.borrow();
        for when in ["clone", "wake", "drop"] {
            assert!(seen.contains(&when), "no {when}: {seen:?}");
        }
    });
}

/// Re-polled with another waker each time, and with its task's own in between.
#[test]
fn changing_wakers_survives() {
    besieged(|toys| {
        let main = async {
            let mut nap = pin!(sleep(Duration::from_secs(1)));
            for i in 0..6 {
                poll_fn(|cx| {
                    let poll = if i % 3 == 2 {
                        nap.as_mut().poll(cx)
                    } else {
                        nap.as_mut().poll(&mut Context::from_waker(&hostile()))
                    };
                    assert!(poll.is_pending());
                    Poll::Ready(())
                })
                .await;
            }
            nap.await?; // with its own again, which wakes it
            let _ = toys;
            Ok::<_, Cancelled>(())
        };
        Test::new().run(main).unwrap();
    });
}

/// The host's own waker is foreign code as well.
#[test]
fn the_wakers_of_a_host_may_use_the_run() {
    besieged(|toys| {
        let event = ParkingLot::<()>::new();
        let mut guest = pin!(Test::new().clock(&MockClock::new()).builder().guest(async {
            toys.token.replace(Some(lowlevel::token()));
            toys.lot.park().await.unwrap();
            event.park().await.unwrap();
            open_nursery(async |n| {
                n.start_soon(sleep_forever());
                checkpoint().await?;
                n.cancel_scope().cancel();
                Ok::<_, Cancelled>(())
            })
            .await
        }));
        let mut poll = || {
            let waker = hostile();
            guest.as_mut().poll(&mut Context::from_waker(&waker))
        };
        let token = loop {
            let _ = poll();
            if let Some(token) = toys.token.borrow().clone() {
                break token;
            }
        };
        for _ in 0..10 {
            token.run_soon(|| drop(tree())).unwrap();
            assert!(poll().is_pending());
            toys.lot.unpark_all();
        }
        event.unpark_all();
        toys.token.replace(None);
        drop(token);
        let mut polls = 0;
        while poll().is_pending() {
            polls += 1;
            assert!(polls < 20, "the guest does not end");
        }
    });
}

/// Does `mischief` once, at the first chance of this kind.
fn once(chance: &'static str, mischief: impl FnOnce() + 'static) {
    let mischief = Cell::new(Some(mischief));
    MISCHIEF.set(Some(Rc::new(move |when| {
        if when == chance
            && let Some(mischief) = mischief.take()
        {
            mischief();
        }
    })));
}

type Detached = Pin<Box<dyn Future<Output = Result<(), Cancelled>>>>;

thread_local! {
    static NURSERY: RefCell<Option<Detached>> = const { RefCell::new(None) };
    static CHILD: RefCell<Option<Child<'static, u8>>> = const { RefCell::new(None) };
}

/// Puts a nursery into `NURSERY`, and gives its handle.
async fn detached() -> NurseryHandle<Cancelled> {
    let kept = Rc::new(RefCell::new(None));
    let inner = kept.clone();
    let mut nursery: Detached = Box::pin(open_nursery(async move |n| {
        inner.replace(Some(n.handle()));
        sleep_forever().await
    }));
    poll_fn(|cx| {
        assert!(nursery.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    NURSERY.set(Some(nursery));
    kept.take().unwrap()
}

/// Polls once with a hostile waker, which is gone afterwards but for its clones.
async fn poll_hostile<F: Future + Unpin>(mut future: F) -> Poll<F::Output> {
    let waker = hostile();
    poll_fn(|_| Poll::Ready(Pin::new(&mut future).poll(&mut Context::from_waker(&waker)))).await
}

#[test]
fn a_child_that_is_woken_while_its_nurserys_waker_is_cloned_is_polled() {
    let polls = Rc::new(Cell::new(0));
    Test::new()
        .run(async {
            let child = Rc::new(RefCell::new(None::<Waker>));
            let (seen, count) = (child.clone(), polls.clone());
            let mut nursery = Box::pin(open_nursery(async move |n| -> Result<(), Cancelled> {
                n.start_soon(async move {
                    poll_fn(|cx| {
                        count.set(count.get() + 1);
                        seen.replace(Some(cx.waker().clone()));
                        if count.get() == 2 { Poll::Ready(()) } else { Poll::Pending }
                    })
                    .await;
                    Ok(())
                });
                Ok(())
            }));
            let woken = Rc::new(Cell::new(false));
            let was_woken = woken.clone();
            MISCHIEF.set(Some(Rc::new(move |when| match when {
                "clone" => child.take().into_iter().for_each(Waker::wake),
                "wake" => was_woken.set(true),
                _ => {}
            })));
            for _ in 0..6 {
                // An executor that polls what was woken, and nothing else.
                if polls.get() == 0 || woken.take() {
                    let _ = poll_hostile(&mut nursery).await;
                }
                if polls.get() == 2 {
                    break;
                }
            }
            MISCHIEF.set(None);
            Ok::<(), Cancelled>(())
        })
        .unwrap();
    assert_eq!(polls.get(), 2);
}

#[test]
fn a_child_whose_nursery_is_dropped_while_the_waiters_waker_is_cloned_has_no_value() {
    Test::new()
        .run(async {
            let child = detached().await.start_soon(sleep_forever()).unwrap();
            once("clone", || drop(NURSERY.take()));
            let poll = poll_hostile(child).await;
            MISCHIEF.set(None);
            assert!(matches!(poll, Poll::Ready(Err(_))), "{poll:?}");
            Ok::<(), Cancelled>(())
        })
        .unwrap();
}

#[test]
fn a_wait_whose_scope_is_cancelled_while_its_waker_is_cloned_is_interrupted() {
    Test::new()
        .run(async {
            let scope = CancelScope::new();
            let handle = scope.clone();
            let interrupted = scope.enter(async move {
                once("clone", move || handle.cancel());
                let mut waiting = sleep_forever();
                let first = poll_hostile(&mut waiting).await;
                MISCHIEF.set(None);
                assert!(first.is_pending());
                assert!(poll_hostile(&mut waiting).await.is_ready());
                Ok::<(), Cancelled>(())
            });
            interrupted.await.map(drop)
        })
        .unwrap();
}

/// It never had a place in the queue, so nothing that is handed over there is its own.
#[test]
fn who_is_cancelled_while_its_waker_is_cloned_takes_nothing_from_who_is_parked() {
    Test::new()
        .run(async {
            let lot = ParkingLot::new();
            let mut parked = Box::pin(lot.park());
            assert!(poll_hostile(&mut parked).await.is_pending());
            assert!(lot.unpark_one(7).is_ok());
            let scope = CancelScope::new();
            let handle = scope.clone();
            let interrupted = scope.enter(async {
                once("clone", move || handle.cancel());
                assert!(poll_hostile(Box::pin(lot.park())).await.is_pending()); // and dropped
                MISCHIEF.set(None);
                Ok::<(), Cancelled>(())
            });
            interrupted.await?;
            assert!(matches!(parked.await, Ok(7)));
            Ok::<(), Cancelled>(())
        })
        .unwrap();
}

#[test]
fn a_start_whose_child_says_so_while_the_callers_waker_is_cloned_returns() {
    thread_local! {
        static STATUS: RefCell<Option<TaskStatus<u8>>> = const { RefCell::new(None) };
    }
    Test::new()
        .run(async {
            let handle = detached().await;
            let mut start = Box::pin(handle.start(async |status: TaskStatus<u8>| {
                STATUS.set(Some(status));
                sleep_forever().await
            }));
            assert!(poll_hostile(&mut start).await.is_pending());
            let mut nursery = NURSERY.take().unwrap();
            poll_fn(|cx| Poll::Ready(nursery.as_mut().poll(cx).is_pending())).await;
            once("clone", || STATUS.take().unwrap().started(7));
            let poll = poll_hostile(&mut start).await;
            MISCHIEF.set(None);
            assert!(matches!(poll, Poll::Ready(Ok(Ok(7)))), "{poll:?}");
            Ok::<(), Cancelled>(())
        })
        .unwrap();
}

#[test]
fn a_waker_that_polls_for_the_value_of_an_ended_child_gets_it() {
    Test::new()
        .run(open_nursery(async |n| -> Result<(), Cancelled> {
            let child = n.handle().start_soon(async { Ok(7) }).unwrap();
            CHILD.set(Some(child));
            let got = Rc::new(Cell::new(None));
            let result = got.clone();
            once("wake", move || {
                let mut child = CHILD.take().unwrap();
                let poll = Pin::new(&mut child).poll(&mut Context::from_waker(Waker::noop()));
                result.set(Some(poll));
            });
            let mut child = CHILD.take().unwrap();
            assert!(poll_hostile(&mut child).await.is_pending());
            CHILD.set(Some(child));
            for _ in 0..3 {
                checkpoint().await?;
            }
            MISCHIEF.set(None);
            assert!(matches!(got.take(), Some(Poll::Ready(Ok(7)))));
            Ok(())
        }))
        .unwrap();
}

/// A wait that was begun with the task's own waker goes on with another one, whose clone is what wakes it: it is ready at
/// once, as nothing will wake it any more.
#[nursery_testing::test]
async fn a_wait_that_is_woken_by_the_clone_with_which_it_moves_is_ready() -> Result<(), Cancelled> {
    let lot = Rc::new(ParkingLot::<()>::new());
    let woken = lot.clone();
    let mut parked = pin!(lot.park());
    poll_fn(|cx| {
        assert!(parked.as_mut().poll(cx).is_pending());
        MISCHIEF.set(Some(Rc::new(unpark_when_cloned(woken.clone()))));
        let moved = parked.as_mut().poll(&mut Context::from_waker(&hostile()));
        MISCHIEF.set(None);
        assert!(matches!(moved, Poll::Ready(Ok(()))), "it waits for ever");
        Poll::Ready(())
    })
    .await;
    Ok(())
}

fn unpark_when_cloned(lot: Rc<ParkingLot>) -> impl Fn(&'static str) {
    move |when| {
        if when == "clone" {
            assert_eq!(lot.unpark(1), 1);
        }
    }
}
