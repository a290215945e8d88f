//! `Instrument`: which hooks are called, in which order, and where.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::panic::Location;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use nursery::lowlevel::{self, Instrument, TaskId, wait_all_tasks_blocked};
use nursery::{
    CancelScope, Cancelled, Clock, Idle, OnIdle, cancellable, checkpoint, open_nursery, sleep,
    sleep_forever, tree,
};
use nursery_testing::{MockClock, Test};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    BeforeRun,
    Spawned(TaskId),
    Scheduled(TaskId),
    Before(TaskId),
    After(TaskId),
    Exited(TaskId),
    AfterRun,
}
use Event::{After, AfterRun, Before, BeforeRun, Exited, Scheduled, Spawned};

#[derive(Default)]
struct Recorder(RefCell<Vec<Event>>);

impl Recorder {
    fn push(&self, event: Event) {
        self.0.borrow_mut().push(event);
    }

    /// All events, or those of some tasks and of the run.
    fn of(&self, tasks: &[TaskId]) -> Vec<Event> {
        let is_one = |event: &Event| match event {
            Spawned(t) | Scheduled(t) | Before(t) | After(t) | Exited(t) => tasks.contains(t),
            BeforeRun | AfterRun => true,
        };
        self.0.borrow().iter().copied().filter(is_one).collect()
    }
}

impl Instrument for Recorder {
    fn before_run(&self) {
        self.push(BeforeRun);
    }
    fn after_run(&self) {
        self.push(AfterRun);
    }
    fn task_spawned(&self, task: TaskId) {
        self.push(Spawned(task));
    }
    fn task_scheduled(&self, task: TaskId) {
        self.push(Scheduled(task));
    }
    fn before_task_step(&self, task: TaskId) {
        assert_eq!(task, lowlevel::current_task());
        self.push(Before(task));
    }
    fn after_task_step(&self, task: TaskId) {
        assert_eq!(task, lowlevel::current_task());
        self.push(After(task));
    }
    fn task_exited(&self, task: TaskId) {
        self.push(Exited(task));
    }
}

/// J2, J3: everything, for the smallest program.
#[test]
fn the_hooks_of_a_main_task_that_passes_one_checkpoint() {
    let recorder = Rc::new(Recorder::default());
    let main = Test::new()
        .builder()
        .instrument(recorder.clone())
        .run(async {
            checkpoint().await?;
            Ok::<_, Cancelled>(lowlevel::current_task())
        })
        .unwrap();
    let step = [Before(main), Scheduled(main), After(main)];
    let last = [Before(main), Exited(main), After(main)];
    let expected = [&[BeforeRun, Spawned(main), Scheduled(main)], &step[..], &last, &[AfterRun]];
    assert_eq!(recorder.0.take(), expected.concat());
}

/// `instruments`: one task; an instrument is replaced by another half-way.
#[test]
fn instruments_can_be_changed_while_they_watch() {
    let [r1, r2, r3] = [(); 3].map(|()| Rc::new(Recorder::default()));
    let task = Cell::new(None);
    let builder = Test::new().builder().instrument(r1.clone()).instrument(r2.clone());
    builder
        .run(async {
            open_nursery(async |n| {
                n.start_soon(async {
                    task.set(Some(lowlevel::current_task()));
                    for _ in 0..4 {
                        checkpoint().await?;
                    }
                    let second: Rc<dyn Instrument> = r2.clone();
                    assert!(lowlevel::remove_instrument(&second));
                    assert!(!lowlevel::remove_instrument(&second), "it has gone");
                    lowlevel::add_instrument(r3.clone());
                    lowlevel::add_instrument(r3.clone()); // J5: counts once
                    checkpoint().await
                });
                Ok::<_, Cancelled>(())
            })
            .await
        })
        .unwrap();
    let task = task.get().unwrap();
    let mut expected = vec![BeforeRun, Spawned(task), Scheduled(task)];
    for _ in 0..5 {
        expected.extend([Before(task), Scheduled(task), After(task)]);
    }
    expected.extend([Before(task), Exited(task), After(task), AfterRun]);
    assert_eq!(r1.of(&[task]), expected);
    let (second, third) = (r2.0.take(), r3.0.take());
    assert_eq!(r1.0.take(), [second, third].concat());
}

/// `instruments_interleave`
#[test]
fn the_steps_of_two_tasks_alternate() {
    for seed in 0..20 {
        let recorder = Rc::new(Recorder::default());
        let tasks = Test::new()
            .seed(seed)
            .builder()
            .instrument(recorder.clone())
            .run(async {
                open_nursery(async |n| {
                    let two_step = async || {
                        let me = lowlevel::current_task();
                        checkpoint().await?;
                        Ok(me)
                    };
                    let (a, b) = (n.start_soon(two_step()), n.start_soon(two_step()));
                    Ok::<_, Cancelled>([a.await?, b.await?])
                })
                .await
            })
            .unwrap();
        let [a, b] = tasks;
        let events = recorder.of(&tasks);
        let fixed = [BeforeRun, Spawned(a), Scheduled(a), Spawned(b), Scheduled(b)];
        assert_eq!(events[..5], fixed);
        let set = |events: &[Event]| events.iter().copied().collect::<BTreeSet<_>>();
        let step = |t| [Before(t), Scheduled(t), After(t)];
        let last = |t| [Before(t), Exited(t), After(t)];
        assert_eq!(set(&events[5..11]), set(&[step(a), step(b)].concat()));
        assert_eq!(set(&events[11..17]), set(&[last(a), last(b)].concat()));
        assert_eq!(events[17..], [AfterRun]);
        let is_one = |t| {
            let [step, last] = [step(t), last(t)];
            move |events: &[Event]| events == step || events == last
        };
        for events in events[5..17].chunks(3) {
            assert!(is_one(a)(events) || is_one(b)(events), "steps overlap: {events:?}");
        }
    }
}

/// A cancellation schedules who waits; a child's end schedules the parent that waits for it, before it exits.
#[test]
fn cancellation_and_the_end_of_a_child_schedule() {
    let recorder = Rc::new(Recorder::default());
    let [main, child] = Test::new()
        .builder()
        .instrument(recorder.clone())
        .run(async {
            let mut child = None;
            open_nursery(async |n| {
                child = n.start_soon(sleep_forever()).id();
                wait_all_tasks_blocked(Duration::ZERO).await?;
                recorder.0.borrow_mut().clear();
                n.cancel_scope().cancel();
                Ok::<_, Cancelled>(())
            })
            .await?;
            Ok::<_, Cancelled>([lowlevel::current_task(), child.unwrap()])
        })
        .unwrap();
    let events = recorder.0.take();
    let at = |event| events.iter().position(|&other| other == event).unwrap_or(usize::MAX);
    assert_eq!(at(Scheduled(child)), 0, "inside `cancel`: {events:?}");
    assert!(at(Before(child)) < at(Exited(child)), "{events:?}");
    assert!(at(Exited(child)) < at(After(child)), "{events:?}");
    assert!(at(After(child)) < at(Exited(main)), "{events:?}");
}

/// `null_instrument`
#[test]
fn all_hooks_are_optional() {
    struct Null;
    impl Instrument for Null {}
    Test::new().builder().instrument(Rc::new(Null)).run(async { checkpoint().await }).unwrap();
}

/// `instrument_before_after_run`, J3: before the clock starts, and after everything.
#[test]
fn the_run_is_bracketed() {
    struct Bracket(Rc<RefCell<Vec<&'static str>>>);
    impl Instrument for Bracket {
        fn before_run(&self) {
            self.0.borrow_mut().push("before_run");
        }
        fn after_run(&self) {
            self.0.borrow_mut().push("after_run");
        }
    }
    struct Starts(MockClock, Rc<RefCell<Vec<&'static str>>>);
    impl Clock for Starts {
        fn start(&self) {
            self.1.borrow_mut().push("clock");
        }
        fn now(&self) -> Instant {
            self.0.now()
        }
        fn on_idle(&self, idle: &Idle) -> OnIdle {
            self.0.on_idle(idle)
        }
    }
    let record = Rc::default();
    let bracket = Bracket(Rc::clone(&record));
    let clock = Starts(MockClock::autojump(), record.clone());
    let task = record.clone();
    nursery::Builder::new()
        .clock(clock)
        .instrument(Rc::new(bracket))
        .run(async {
            let shutdown = task.clone();
            let system = async move {
                sleep_forever().await.unwrap_err();
                shutdown.borrow_mut().push("system task");
                Ok(())
            };
            lowlevel::spawn_system_task("system", system).unwrap();
            checkpoint().await?;
            task.borrow_mut().push("main");
            Ok::<_, Cancelled>(())
        })
        .unwrap();
    assert_eq!(*record.borrow(), ["before_run", "clock", "main", "system task", "after_run"]);
}

/// `instrument_task_spawn_exit`, for every way to end.
#[test]
fn every_task_that_is_spawned_exits_once() {
    #[derive(Default)]
    struct Living(RefCell<BTreeMap<TaskId, i32>>);
    impl Instrument for Living {
        fn task_spawned(&self, task: TaskId) {
            *self.0.borrow_mut().entry(task).or_default() += 1;
        }
        fn task_exited(&self, task: TaskId) {
            *self.0.borrow_mut().entry(task).or_default() -= 1;
        }
    }
    let living = Rc::new(Living::default());
    let builder = Test::new().builder().instrument(living.clone());
    builder
        .run(async {
            open_nursery(async |n| {
                n.start_soon(async { Ok(()) });
                n.start_soon(sleep_forever());
                n.start_soon(async { Err::<(), _>(anyhow::anyhow!("failed")) }.cancelled());
                n.handle().start_soon(sleep_forever()).unwrap();
                lowlevel::spawn_system_task("system", sleep_forever()).unwrap();
                n.start(async |status| {
                    status.started(());
                    sleep_forever().await
                })
                .await?;
                {
                    // Dropped half-way, with a child that has run and one that has not.
                    let mut inner = Box::pin(open_nursery(async |n| {
                        n.start_soon(sleep_forever());
                        checkpoint().await?;
                        n.start_soon(sleep_forever());
                        sleep_forever().await
                    }))
                        as std::pin::Pin<Box<dyn Future<Output = Result<(), Cancelled>>>>;
                    for _ in 0..2 {
                        std::future::poll_fn(|cx| {
                            std::task::Poll::Ready(inner.as_mut().poll(cx).is_pending())
                        })
                        .await;
                        checkpoint().await?;
                    }
                }
                n.cancel_scope().cancel();
                Ok::<_, Cancelled>(())
            })
            .await
        })
        .unwrap();
    let living = living.0.take();
    assert_eq!(living.len(), 9);
    assert!(living.values().all(|&count| count == 0), "{living:?}");
}

/// A child that fails with something that is no cancellation, in a nursery of cancellations.
trait FailQuietly: Future<Output = anyhow::Result<()>> + Sized {
    async fn cancelled(self) -> Result<(), Cancelled> {
        self.await.unwrap_err();
        Ok(())
    }
}

impl<F: Future<Output = anyhow::Result<()>>> FailQuietly for F {}

/// `instruments_crash`, J4: reported, removed, and the run and the other instruments go on.
#[test]
fn an_instrument_that_panics_is_removed() {
    struct Broken(Rc<RefCell<Vec<&'static str>>>);
    impl Instrument for Broken {
        fn task_scheduled(&self, _: TaskId) {
            self.0.borrow_mut().push("scheduled");
            panic!("oops");
        }
        fn after_run(&self) {
            self.0.borrow_mut().push("after_run");
        }
    }
    let record = Rc::new(RefCell::new(vec![]));
    let recorder = Rc::new(Recorder::default());
    let builder = Test::new().builder();
    let builder = builder.instrument(Rc::new(Broken(record.clone()))).instrument(recorder.clone());
    let main = builder
        .run(async {
            record.borrow_mut().push("main ran");
            checkpoint().await?;
            Ok::<_, Cancelled>(lowlevel::current_task())
        })
        .unwrap();
    assert_eq!(*record.borrow(), ["scheduled", "main ran"]);
    let events = recorder.0.take();
    assert!(events.contains(&Scheduled(main)), "the same event reaches the others");
    assert_eq!(events.last(), Some(&AfterRun));
}

/// A removal from inside a hook; of itself, and of another.
#[test]
fn hooks_may_add_and_remove_instruments() {
    struct Once {
        calls: Rc<Cell<u32>>,
        me: RefCell<Option<Rc<dyn Instrument>>>,
        next: RefCell<Option<Rc<dyn Instrument>>>,
    }
    impl Instrument for Once {
        fn before_task_step(&self, _: TaskId) {
            self.calls.set(self.calls.get() + 1);
            assert!(lowlevel::remove_instrument(&self.me.take().unwrap()));
            lowlevel::add_instrument(self.next.take().unwrap());
        }
    }
    let (calls, next) = (Rc::new(Cell::new(0)), Rc::new(Recorder::default()));
    let once = Rc::new(Once {
        calls: calls.clone(),
        me: RefCell::default(),
        next: RefCell::new(Some(next.clone())),
    });
    once.me.replace(Some(once.clone()));
    let main = Test::new()
        .builder()
        .instrument(once)
        .run(async {
            checkpoint().await?;
            Ok::<_, Cancelled>(lowlevel::current_task())
        })
        .unwrap();
    assert_eq!(calls.get(), 1);
    // What was added takes part from the next event on.
    assert_eq!(next.0.take()[..2], [Scheduled(main), After(main)]);
}

/// `instrument_call_trio_context`, C3: which hooks are in the run, and which in a task.
#[test]
fn every_hook_is_in_the_run_and_those_of_steps_in_the_task() {
    #[derive(Default)]
    struct Where(RefCell<BTreeMap<&'static str, BTreeSet<bool>>>, RefCell<Option<Waker>>);
    impl Where {
        fn note(&self, hook: &'static str) {
            assert!(lowlevel::in_run(), "{hook}");
            self.0.borrow_mut().entry(hook).or_default().insert(lowlevel::in_task());
            let _ = (tree().to_string(), lowlevel::statistics()); // nothing is borrowed
        }
    }
    impl Instrument for Where {
        fn before_run(&self) {
            self.note("before_run");
        }
        fn after_run(&self) {
            self.note("after_run");
        }
        fn task_spawned(&self, task: TaskId) {
            self.note("task_spawned");
            assert!(task.name().is_some());
        }
        fn task_scheduled(&self, task: TaskId) {
            self.note("task_scheduled");
            assert!(task.name().is_some());
        }
        fn before_task_step(&self, _: TaskId) {
            self.note("before_task_step");
        }
        fn after_task_step(&self, _: TaskId) {
            self.note("after_task_step");
        }
        fn task_exited(&self, _: TaskId) {
            self.note("task_exited");
        }
        fn before_io_wait(&self, _: Option<Duration>) {
            self.note("before_io_wait");
            self.1.take().into_iter().for_each(Waker::wake);
        }
        fn after_io_wait(&self) {
            self.note("after_io_wait");
        }
    }
    let place = Rc::new(Where::default());
    nursery::Builder::new()
        .instrument(place.clone())
        .run(async {
            open_nursery(async |n| {
                n.start_soon(checkpoint());
                // Until the run leaves the thread to the reactor.
                let wait = poll_fn(|cx| {
                    if place.0.borrow().contains_key("before_io_wait") {
                        return Poll::Ready(());
                    }
                    place.1.replace(Some(cx.waker().clone()));
                    Poll::Pending
                });
                cancellable(wait).await
            })
            .await
        })
        .unwrap();
    let places = place.0.take();
    let in_task = |hook| places.get(hook).map(|set| set.iter().copied().collect::<Vec<_>>());
    for hook in ["before_run", "after_run", "before_io_wait", "after_io_wait"] {
        assert_eq!(in_task(hook), Some(vec![false]), "{hook}");
    }
    for hook in ["before_task_step", "after_task_step", "task_exited"] {
        assert_eq!(in_task(hook), Some(vec![true]), "{hook}");
    }
    assert_eq!(in_task("task_spawned"), Some(vec![false, true]), "main; the child");
    assert_eq!(in_task("task_scheduled"), Some(vec![false, true]), "by the timer; by a task");
}

/// C40: the reactor is left to wait as long as the clock says, and both hooks come in pairs.
#[test]
#[cfg_attr(miri, ignore = "no reactor under Miri")]
fn waits_for_the_outside_are_bracketed() {
    #[derive(Default)]
    struct Waits(RefCell<Vec<Option<Duration>>>, Cell<i32>);
    impl Instrument for Waits {
        fn before_io_wait(&self, timeout: Option<Duration>) {
            assert_eq!(self.1.replace(1), 0);
            self.0.borrow_mut().push(timeout);
        }
        fn after_io_wait(&self) {
            assert_eq!(self.1.replace(0), 1);
        }
    }
    let waits = Rc::new(Waits::default());
    let nap = Duration::from_millis(2);
    nursery::Builder::new()
        .instrument(waits.clone())
        .run(async {
            sleep(nap).await?;
            let (tx, rx) = tokio::sync::oneshot::channel();
            let thread = std::thread::spawn(move || tx.send(()));
            cancellable(rx).await?.unwrap();
            thread.join().unwrap().unwrap();
            Ok::<_, Cancelled>(())
        })
        .unwrap();
    assert_eq!(waits.1.get(), 0);
    let waits = waits.0.take();
    let first = waits.first().copied().flatten();
    assert!(first.is_some_and(|timeout| timeout <= nap), "{waits:?}");
    assert!(waits[1..].iter().all(|timeout| timeout.is_none_or(|t| t <= nap)), "{waits:?}");
}

#[test]
fn the_tree_of_a_run_that_has_ended_is_empty() {
    #[derive(Default)]
    struct Last(Cell<Option<usize>>);
    impl Instrument for Last {
        fn after_run(&self) {
            self.0.set(Some(tree().nodes().len()));
        }
    }
    let last = Rc::new(Last::default());
    let outcome =
        nursery::Builder::new().instrument(last.clone()).run(async { checkpoint().await });
    outcome.expect("nobody cancels it");
    assert_eq!(last.0.get(), Some(0));
}

/// Where it yields and what it raises is told in the step in which it does.
#[test]
fn a_task_that_yields_and_one_that_raises_are_told_of() {
    #[derive(Default)]
    struct Watch {
        yields: RefCell<Vec<(String, u32)>>,
        raises: RefCell<Vec<String>>,
    }
    impl Instrument for Watch {
        fn task_yielded(&self, task: TaskId, place: &'static Location<'static>) {
            assert_eq!(task, lowlevel::current_task());
            self.yields.borrow_mut().push((place.file().to_owned(), place.line()));
        }
        fn cancel_raised(&self, task: TaskId, error: &Cancelled) {
            assert_eq!(task, lowlevel::current_task());
            assert!(!tree().to_string().is_empty(), "nothing is borrowed");
            self.raises.borrow_mut().push(error.to_string());
        }
    }
    let watch = Rc::new(Watch::default());
    let first = line!() + 2;
    let main = async {
        checkpoint().await?;
        lowlevel::cancel_shielded_checkpoint().await;
        lowlevel::checkpoint_if_cancelled().await?; // does not yield
        let scope = CancelScope::new();
        scope.cancel_because("enough");
        let swallowed = async {
            // Yields, and raises.
            assert!(lowlevel::checkpoint_if_cancelled().await.is_err());
            lowlevel::cancelled().await; // is told, and raises nothing
            assert!(sleep(Duration::from_secs(1)).await.is_err());
            Ok::<(), Cancelled>(())
        };
        scope.enter(swallowed).await.map(drop)
    };
    Test::new().instrument(watch.clone()).run(main).unwrap();
    let yields = watch.yields.take();
    assert_eq!(yields.len(), 4);
    let here = |line| (file!().to_owned(), line);
    assert_eq!(yields[..3], [here(first), here(first + 1), here(first + 7)]);
    let reason = "cancelled due to explicit with reason \"enough\" from task \"main\"";
    assert_eq!(watch.raises.take(), [reason, reason]);
}
