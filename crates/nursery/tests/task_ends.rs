//! How a task ends: its value and its handle, its place in the tree, its nursery dropped at an odd time or place.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use futures_util::future::poll_immediate;
use nursery::lowlevel::{
    Instrument, TaskId, add_instrument, current_task, spawn_system_task, statistics, tasks,
};
use nursery::{
    Builder, Cancelled, Child, NurseryHandle, TaskLocal, TaskStatus, checkpoint, open_nursery,
    sleep_forever, tree,
};
use nursery_testing::{Test, run, wait_all_tasks_blocked};

type Result<T = ()> = std::result::Result<T, Cancelled>;
type Boxed = Pin<Box<dyn Future<Output = Result>>>;

/// Calls a function when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Counts its drops.
struct Counted(Rc<Cell<u32>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// A nursery that is open until it is dropped, and its handle.
async fn detached() -> Result<(Boxed, NurseryHandle<Cancelled>)> {
    let kept = Rc::new(RefCell::new(None));
    let inner = kept.clone();
    let mut nursery: Boxed = Box::pin(open_nursery(async move |n| -> Result {
        inner.replace(Some(n.handle()));
        sleep_forever().await
    }));
    assert!(poll_immediate(&mut nursery).await.is_none());
    Ok((nursery, kept.take().expect("the body has run")))
}

/// Lets the children of such a nursery make their steps.
async fn some_turns(nursery: &mut Boxed) -> Result {
    for _ in 0..3 {
        assert!(poll_immediate(&mut *nursery).await.is_none());
        checkpoint().await?;
    }
    Ok(())
}

// Values and handles.

/// When the handle of a child goes. It makes two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    BeforeTheFirstStep,
    InTheFirstStep,
    InTheLastStep,
    AfterTheEnd,
    AfterTheNursery,
    AfterTheRun,
    InTheNextRun,
    Taken,
}

type Slot = Rc<RefCell<Option<Child<'static, Counted>>>>;

async fn two_steps(when: When, handle: Slot, value: Counted) -> Result<Counted> {
    let mut first = true;
    poll_fn(|cx| {
        if when == (if first { When::InTheFirstStep } else { When::InTheLastStep }) {
            handle.take();
        }
        cx.waker().wake_by_ref(); // also in its last step
        if std::mem::take(&mut first) { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    Ok(value)
}

async fn one_child(when: When, handle: Slot, drops: Rc<Cell<u32>>) -> Result {
    let (own, value) = (handle.clone(), Counted(drops.clone()));
    open_nursery(async move |n| -> Result {
        let child = n.handle().start_soon(two_steps(when, own, value)).expect("open");
        handle.replace(Some(child));
        if when == When::BeforeTheFirstStep {
            handle.take();
        }
        if when == When::Taken {
            let child = handle.take().expect("just put there");
            let value = child.await?;
            assert_eq!(drops.get(), 0);
            drop(value);
            return Ok(());
        }
        for _ in 0..6 {
            checkpoint().await?;
        }
        if when == When::AfterTheEnd {
            let child = handle.take().expect("nobody took it");
            assert!(child.is_finished());
            assert_eq!(drops.get(), 0);
            drop(child);
        }
        Ok(())
    })
    .await
}

#[test]
fn a_value_is_dropped_once_whenever_its_handle_goes() {
    let all = [
        When::BeforeTheFirstStep,
        When::InTheFirstStep,
        When::InTheLastStep,
        When::AfterTheEnd,
        When::AfterTheNursery,
        When::AfterTheRun,
        When::InTheNextRun,
        When::Taken,
    ];
    for (when, seed) in all.into_iter().flat_map(|when| (0..3).map(move |seed| (when, seed))) {
        let (drops, handle) = (Rc::new(Cell::new(0)), Slot::default());
        let program = async {
            one_child(when, handle.clone(), drops.clone()).await?;
            if when == When::AfterTheNursery {
                assert_eq!(drops.get(), 0);
                handle.take();
            }
            assert_eq!(statistics().tasks_living, 1);
            Result::Ok(())
        };
        Test::new().seed(seed).run(program).unwrap();
        match when {
            When::AfterTheRun => drop(handle.take()),
            // A value that is there can be taken anywhere.
            When::InTheNextRun => drop(run(handle.take().expect("nobody took it")).unwrap()),
            _ => {}
        }
        assert_eq!(drops.get(), 1, "{when:?}, seed {seed}");
    }
}

#[test]
fn the_handle_of_a_child_that_ended_unseen_can_still_be_used() {
    run(async {
        open_nursery(async |n| -> Result {
            let a = n.start_soon(async { Ok(1) });
            let b = n.start_soon(async { Ok(2) });
            for _ in 0..3 {
                checkpoint().await?;
            }
            assert!(a.is_finished());
            let (ids, others) = ((a.id(), b.id()), tasks());
            assert_ne!(ids.0, ids.1);
            assert!(ids.0.is_some_and(|id| !others.contains(&id)), "it has ended");
            a.set_name("a");
            a.cancel();
            a.cancel_because("late");
            assert_eq!((a.id(), b.id()), ids);
            assert_eq!(statistics().tasks_living, 1, "{}", tree());
            assert_eq!(a.cancel_and_join().await?, Some(1));
            assert_eq!(b.await?, 2);
            Ok(())
        })
        .await?;
        assert_eq!(statistics().nodes, 3, "the run, the system tasks, main: {}", tree());
        Result::Ok(())
    })
    .unwrap();
}

// The tree.

#[test]
fn children_that_were_never_polled_are_in_every_picture_in_the_order_of_their_start() {
    for seed in 0..10 {
        let look = async {
            open_nursery(async |n| -> Result {
                n.start_soon(checkpoint());
                n.start_soon(checkpoint()).set_name("in the tree before its elder");
                n.start_soon(checkpoint());
                n.start_soon(sleep_forever()).cancel();
                n.start_soon(checkpoint());
                assert_eq!(statistics().tasks_living, 6);
                assert_eq!(tasks().len(), 6);
                let picture = tree();
                let lines: Vec<u32> = picture
                    .nodes()
                    .iter()
                    .filter(|node| node.task.is_some() && node.name.as_deref() != Some("main"))
                    .map(|node| node.place.line())
                    .collect();
                assert_eq!(lines.len(), 5);
                assert!(lines.is_sorted(), "{picture}");
                Ok(())
            })
            .await
        };
        Test::new().seed(seed).run(look).unwrap();
    }
}

#[test]
fn children_are_dropped_oldest_first_whatever_the_order_in_which_they_ran() {
    for (seed, turns) in (0..10).flat_map(|seed| (0..4).map(move |turns| (seed, turns))) {
        let order = RefCell::new(Vec::new());
        let program = async {
            let mut nursery = Box::pin(open_nursery(async |n| -> Result {
                for i in 0..8 {
                    let order = &order;
                    let mark = OnDrop(move || order.borrow_mut().push(i));
                    let child = n.start_soon(async move {
                        let _mark = mark;
                        for _ in 0..i % 3 {
                            checkpoint().await?;
                        }
                        sleep_forever().await
                    });
                    if i == 5 {
                        child.set_name("in the tree before its elders");
                    }
                }
                sleep_forever().await
            }));
            for _ in 0..turns {
                assert!(poll_immediate(&mut nursery).await.is_none());
                checkpoint().await?;
            }
            drop(nursery);
            Result::Ok(())
        };
        Test::new().seed(seed).run(program).unwrap();
        let expected: Vec<i32> = if turns == 0 { Vec::new() } else { (0..8).collect() };
        assert_eq!(order.take(), expected, "seed {seed}, {turns} turns");
    }
}

#[test]
fn a_value_whose_destructor_looks_around_leaves_nothing_in_the_tree() {
    run(async {
        open_nursery(async |n| -> Result {
            n.start_soon(async { Ok(OnDrop(|| _ = current_task())) });
            n.start_soon(async { Ok(OnDrop(|| _ = (statistics(), tree()))) });
            Ok(())
        })
        .await?;
        assert_eq!(statistics().tasks_living, 1, "{}", tree());
        Result::Ok(())
    })
    .unwrap();
}

#[derive(Default)]
struct Log(RefCell<Vec<(&'static str, Option<String>)>>);

impl Log {
    fn add(&self, what: &'static str, task: TaskId) {
        self.0.borrow_mut().push((what, task.name()));
    }
}

impl Instrument for Log {
    fn task_spawned(&self, task: TaskId) {
        self.add("spawned", task);
    }
    fn task_scheduled(&self, task: TaskId) {
        self.add("scheduled", task);
    }
    fn before_task_step(&self, task: TaskId) {
        self.add("before", task);
    }
    fn after_task_step(&self, task: TaskId) {
        self.add("after", task);
    }
    fn task_exited(&self, task: TaskId) {
        self.add("exited", task);
    }
}

#[test]
fn an_instrument_that_a_task_installs_in_its_only_step_is_told_of_its_end() {
    let log = Rc::new(Log::default());
    run(async {
        open_nursery(async |n| -> Result {
            n.start_soon(async {
                add_instrument(log.clone());
                Ok(())
            });
            Ok(())
        })
        .await?;
        assert_eq!(statistics().tasks_living, 1, "{}", tree());
        Result::Ok(())
    })
    .unwrap();
    let what: Vec<&str> = log.0.borrow().iter().map(|(what, _)| *what).collect();
    assert_eq!(what[..2], ["exited", "after"]);
}

#[test]
fn an_instrument_that_comes_late_is_told_of_tasks_that_are_queued_already() {
    let log = Rc::new(Log::default());
    run(async {
        open_nursery(async |n| -> Result {
            n.start_soon(async { Ok(()) });
            n.start_soon(checkpoint());
            add_instrument(log.clone());
            Ok(())
        })
        .await
    })
    .unwrap();
    let log = log.0.borrow();
    let count = |what| log.iter().filter(|(other, _)| *other == what).count();
    assert_eq!(count("exited"), 3, "{log:?}");
    assert_eq!(count("spawned"), 0);
    assert_eq!(count("before") + 1, count("after"), "but for the step that it came in");
}

// A nursery that is dropped, with somebody who waits for a child of it elsewhere.

#[test]
fn who_waits_for_a_child_of_a_nursery_that_is_dropped_gets_an_error() {
    run(async {
        let (nursery, handle) = detached().await?;
        let child = handle.start_soon(sleep_forever()).expect("open");
        open_nursery(async |n| -> Result {
            n.start_soon(async {
                let error = child.await.unwrap_err();
                assert!(error.to_string().contains("failed or was cancelled"), "{error}");
                Ok(())
            });
            wait_all_tasks_blocked(Duration::ZERO).await?;
            drop(nursery);
            Ok(())
        })
        .await
    })
    .unwrap();
}

#[test]
fn who_waits_for_a_start_in_a_nursery_that_is_dropped_gets_an_error() {
    run(async {
        let (nursery, handle) = detached().await?;
        let started = Cell::new(None);
        open_nursery(async |n| -> Result {
            n.start_soon(async {
                let child = async |_: TaskStatus<()>| sleep_forever().await;
                started.set(Some(handle.start(child).await.expect("open")));
                Ok(())
            });
            wait_all_tasks_blocked(Duration::ZERO).await?;
            drop(nursery);
            Ok(())
        })
        .await?;
        let error = started.take().expect("it returned").unwrap_err();
        assert!(error.to_string().contains("was dropped"), "{error}");
        Result::Ok(())
    })
    .unwrap();
}

thread_local! {
    static KEPT: RefCell<Option<Boxed>> = const { RefCell::new(None) };
}

/// Drops what is kept when a task comes, or goes.
struct Drops(&'static str);

impl Drops {
    fn drop_it(&self, when: &str) {
        if when == self.0 {
            drop(KEPT.take());
        }
    }
}

impl Instrument for Drops {
    fn task_spawned(&self, _: TaskId) {
        self.drop_it("spawned");
    }
    fn task_exited(&self, _: TaskId) {
        self.drop_it("exited");
    }
}

#[test]
fn a_hook_may_drop_the_nursery_in_which_a_task_is_just_started() {
    run(async {
        let (nursery, handle) = detached().await?;
        let drops = Rc::new(Cell::new(0));
        KEPT.set(Some(nursery));
        add_instrument(Rc::new(Drops("spawned")));
        let held = Counted(drops.clone());
        let child = async move |_: TaskStatus<()>| {
            let _held = held;
            sleep_forever().await
        };
        assert!(handle.start(child).await.expect("it was open").is_err());
        assert_eq!(drops.get(), 1);

        let (nursery, handle) = detached().await?;
        KEPT.set(Some(nursery));
        assert!(handle.start_soon(checkpoint()).expect("it was open").await.is_err());
        Result::Ok(())
    })
    .unwrap();
}

#[test]
fn a_hook_may_drop_the_start_of_a_child_that_is_just_ending() {
    run(async {
        open_nursery(async |n| -> Result {
            let handle = n.handle();
            let mut start: Boxed = Box::pin(async move {
                let child = async |_: TaskStatus<()>| checkpoint().await;
                handle.start(child).await.expect("open")
            });
            assert!(poll_immediate(&mut start).await.is_none());
            KEPT.set(Some(start));
            add_instrument(Rc::new(Drops("exited")));
            for _ in 0..3 {
                checkpoint().await?;
            }
            assert!(KEPT.take().is_none(), "the hook has dropped it");
            Ok(())
        })
        .await
    })
    .unwrap();
}

// At odd times and places.

#[test]
fn a_nursery_that_is_moved_out_of_its_run_drops_its_children_when_it_is_dropped() {
    for turns in 0..3 {
        let order = Rc::new(RefCell::new(Vec::new()));
        let kept = RefCell::new(None);
        run(async {
            let order = order.clone();
            let mut nursery: Boxed = Box::pin(open_nursery(async move |n| -> Result {
                let mark = |name| {
                    let order = order.clone();
                    OnDrop(move || order.borrow_mut().push(name))
                };
                let _mark = mark("body");
                for name in ["a", "b", "c"] {
                    let mark = mark(name);
                    n.start_soon(async move {
                        let _mark = mark;
                        sleep_forever().await
                    });
                }
                sleep_forever().await
            }));
            assert!(poll_immediate(&mut nursery).await.is_none());
            for _ in 0..turns {
                some_turns(&mut nursery).await?;
            }
            kept.replace(Some(nursery));
            Result::Ok(())
        })
        .unwrap();
        assert!(order.borrow().is_empty());
        drop(kept.take());
        assert_eq!(*order.borrow(), ["a", "b", "c", "body"], "{turns} turns");
    }
}

static LOCAL: TaskLocal<OnDrop<Box<dyn FnMut()>>> = TaskLocal::new();

/// A value that panics when it is dropped, once.
fn bomb(armed: &Rc<Cell<bool>>) -> OnDrop<Box<dyn FnMut()>> {
    let armed = armed.clone();
    OnDrop(Box::new(move || assert!(!armed.replace(false), "bomb")))
}

#[test]
fn a_task_local_that_panics_does_not_keep_other_children_from_being_dropped() {
    let (drops, armed) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    run(async {
        let (mut nursery, handle) = detached().await?;
        for _ in 0..3 {
            let (bomb, held) = (bomb(&armed), Counted(drops.clone()));
            let child = async move {
                LOCAL.set(bomb);
                let _held = held;
                sleep_forever().await
            };
            drop(handle.start_soon(child).expect("open"));
        }
        some_turns(&mut nursery).await?;
        armed.set(true);
        assert!(catch_unwind(AssertUnwindSafe(|| drop(nursery))).is_err());
        Result::Ok(())
    })
    .unwrap();
    assert_eq!(drops.get(), 3);
}

#[test]
fn a_task_local_that_panics_at_the_end_of_its_task_is_the_nurserys_panic() {
    let armed = Rc::new(Cell::new(true));
    let was_cancelled = Cell::new(false);
    let result = catch_unwind(AssertUnwindSafe(|| {
        run(open_nursery(async |n| -> Result {
            n.start_soon(async {
                LOCAL.set(bomb(&armed));
                checkpoint().await
            });
            n.start_soon(async {
                was_cancelled.set(sleep_forever().await.is_err());
                Ok(())
            });
            Ok(())
        }))
    }));
    assert!(result.is_err());
    assert!(was_cancelled.get());
}

#[test]
fn a_task_local_of_the_main_task_that_panics_is_the_runs_panic() {
    let armed = Rc::new(Cell::new(true));
    let main = async {
        LOCAL.set(bomb(&armed));
        Result::Ok(())
    };
    assert!(catch_unwind(AssertUnwindSafe(|| run(main))).is_err());
    run(open_nursery(async |_| Result::Ok(()))).unwrap(); // and no later one's
}

/// A panic whose value panics in its turn.
struct Worse;

impl Drop for Worse {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic_any("worse");
        }
    }
}

#[test]
#[expect(clippy::mem_forget, reason = "its end panics")]
fn panics_that_panic_do_not_keep_other_children_from_being_dropped() {
    let drops = Rc::new(Cell::new(0));
    run(async {
        let (mut nursery, handle) = detached().await?;
        for _ in 0..4 {
            let held = Counted(drops.clone());
            let child = async move {
                let _held = OnDrop(move || {
                    let _ = &held;
                    panic_any(Worse);
                });
                sleep_forever().await
            };
            drop(handle.start_soon(child).expect("open"));
        }
        some_turns(&mut nursery).await?;
        let panic = catch_unwind(AssertUnwindSafe(|| drop(nursery)));
        std::mem::forget(panic);
        Result::Ok(())
    })
    .unwrap();
    assert_eq!(drops.get(), 4);
}

#[test]
fn a_destructor_of_a_run_that_is_dropped_starts_no_system_task() {
    let drops = Rc::new(Cell::new(0));
    let held = Counted(drops.clone());
    let mut guest = Box::pin(Builder::new().guest(async move {
        let mut held = Some(held);
        let respawn = OnDrop(move || {
            let held = held.take();
            let task = async move {
                let _held = held;
                sleep_forever().await
            };
            assert!(spawn_system_task("late", task).is_err());
        });
        let task = async move {
            let _respawn = respawn;
            sleep_forever().await
        };
        assert!(spawn_system_task("early", task).is_ok());
        sleep_forever().await
    }));
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..3 {
        assert!(guest.as_mut().poll(&mut cx).is_pending());
    }
    drop(guest);
    assert_eq!(drops.get(), 1);
}

#[test]
fn a_run_that_is_kept_in_a_thread_local_is_dropped_with_its_thread() {
    thread_local! {
        static LAST: RefCell<Option<Box<dyn Any>>> = const { RefCell::new(None) };
    }
    let (tx, rx) = std::sync::mpsc::channel();
    thread::spawn(move || {
        LAST.set(None); // before the run's own: it is dropped after those
        let main = async move {
            let _dropped = OnDrop(move || tx.send(()).unwrap());
            sleep_forever().await
        };
        let mut guest = Box::pin(Builder::new().guest(main));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(guest.as_mut().poll(&mut cx).is_pending());
        LAST.set(Some(Box::new(guest)));
    })
    .join()
    .unwrap();
    assert_eq!(rx.recv(), Ok(()));
}

/// It has no node of its own yet when its handle asks for one, and gets it while it runs.
#[test]
fn a_child_that_is_asked_for_by_its_own_handle_in_its_first_step_can_be_cancelled_alone() {
    let ended = Rc::new(Cell::new(0));
    nursery_testing::run(async {
        open_nursery(async |n| {
            for cancels_itself in [true, false] {
                let own = Rc::new(RefCell::new(None::<Child<'static, ()>>));
                let (mine, ended) = (own.clone(), ended.clone());
                let child = n.handle().start_soon(async move {
                    match &*mine.borrow() {
                        Some(child) if cancels_itself => child.cancel(),
                        Some(child) => assert!(child.id().is_some()),
                        None => unreachable!("put there before the first step"),
                    }
                    let result =
                        if cancels_itself { checkpoint().await } else { sleep_forever().await };
                    ended.set(ended.get() + usize::from(result.is_err()));
                    result
                });
                own.replace(child.ok());
                wait_all_tasks_blocked(Duration::ZERO).await?;
                own.borrow().iter().for_each(Child::cancel);
            }
            Ok::<(), Cancelled>(())
        })
        .await
    })
    .unwrap();
    assert_eq!(ended.get(), 2);
}

/// Of any size, and at any address that its future may have to be at; the memory is used again, by tasks of the same size
/// and others, and may go last of all with a waker, on another thread, or after the run.
#[test]
fn children_of_any_size_and_alignment() {
    #[derive(Default)]
    #[repr(align(16))]
    struct At16(u64);
    #[derive(Default)]
    #[repr(align(128))]
    struct At128(u64);

    async fn child<T: Default>(
        value: impl Fn(&T) -> u64,
        kept: &RefCell<Vec<Waker>>,
    ) -> Result<u64> {
        let state = T::default();
        let address = std::ptr::from_ref(&state).addr();
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        kept.borrow_mut().push(waker);
        checkpoint().await?;
        assert_eq!(address % align_of::<T>(), 0);
        assert_eq!(address, std::ptr::from_ref(&state).addr());
        Ok(value(&state))
    }

    const OF_EACH: usize = if cfg!(miri) { 6 } else { 40 };
    let kept = RefCell::new(Vec::new());
    run(async {
        for round in 0..3 {
            open_nursery(async |n| {
                let mut children = Vec::new();
                for _ in 0..OF_EACH {
                    children.push(n.start_soon(child::<u64>(|value| *value, &kept)));
                    children.push(n.start_soon(child::<[u64; 32]>(|values| values[31], &kept)));
                    children.push(n.start_soon(child::<[[u64; 32]; 8]>(|v| v[7][31], &kept)));
                    children.push(n.start_soon(child::<At16>(|value| value.0, &kept)));
                    children.push(n.start_soon(child::<At128>(|value| value.0, &kept)));
                    children.push(n.start_soon(child::<[At128; 8]>(|v| v[7].0, &kept)));
                }
                for child in children {
                    assert_eq!(child.await?, 0);
                }
                Ok::<(), Cancelled>(())
            })
            .await?;
            let wakers = kept.take();
            match round {
                0 => drop(wakers),
                1 => thread::spawn(|| drop(wakers)).join().expect("no panic"),
                _ => _ = kept.replace(wakers),
            }
        }
        Ok::<(), Cancelled>(())
    })
    .unwrap();
    assert_eq!(kept.take().len(), 6 * OF_EACH);
}
