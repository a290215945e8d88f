//! `run` and `Builder`: the outcome, nesting, threads, numbers, time, names, and what needs a run to be used.

mod message;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::panic_any;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Barrier;
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use message::{panic_message, panic_of};
use nursery::lowlevel::{self, Instrument, ParkingLot, TaskId, wait_all_tasks_blocked};
use nursery::{
    Builder, CancelScope, Cancelled, Clock, Idle, NodeKind, OnIdle, RunLocal, TaskLocal, Tree,
    cancellable, checkpoint, current_effective_deadline, fail_after, fail_at, move_on_after,
    move_on_at, now, open_nursery, shield, sleep, sleep_forever, sleep_until, tree,
};
use nursery_testing::{MockClock, Test};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_value_of_main_comes_out() {
    let value = nursery_testing::run(async {
        checkpoint().await?;
        Ok::<_, Cancelled>(vec![1, 2, 3])
    });
    assert_eq!(value.unwrap(), [1, 2, 3]);
}

#[derive(Debug, thiserror::Error)]
#[error("of one's own")]
struct Own(u8);

#[test]
fn the_error_of_main_comes_out_unchanged() {
    let error = nursery_testing::run(async { Err::<(), _>(anyhow::Error::new(Own(7))) });
    assert_eq!(error.unwrap_err().downcast::<Own>().unwrap().0, 7);
    // And the thread can run again.
    nursery_testing::run(async { checkpoint().await }).unwrap();
}

/// A `Cancelled` that main carries out of its scope is an error like any other.
#[test]
fn the_cancelled_of_main_comes_out_unchanged() {
    let error = nursery_testing::run(async {
        let scope = CancelScope::new();
        scope.cancel_because("enough");
        let kept = scope.enter(async { Ok::<_, Cancelled>(checkpoint().await) }).await?;
        kept.expect("the body returned Ok")
    });
    assert_eq!(error.unwrap_err().reason().text(), Some("enough"));
}

#[test]
fn the_panic_of_main_comes_out_and_the_thread_can_run_again() {
    let panic = panic_of(|| {
        nursery_testing::run(async {
            checkpoint().await?;
            panic_any(Own(9));
            #[expect(unreachable_code, reason = "says what the error type is")]
            Ok::<(), Cancelled>(())
        })
    });
    assert_eq!(panic.downcast::<Own>().unwrap().0, 9);
    assert!(!lowlevel::in_run());
    assert_eq!(nursery_testing::run(async { Ok::<_, Cancelled>(1) }).unwrap(), 1);
}

#[test]
fn main_may_borrow_what_is_around_the_run() {
    let text = String::from("borrowed");
    let mut count = 0;
    nursery_testing::run(async {
        checkpoint().await?;
        count += text.len();
        Ok::<_, Cancelled>(())
    })
    .unwrap();
    assert_eq!(count, 8);
}

#[test]
fn a_run_inside_a_run_is_refused_with_advice() {
    nursery_testing::run(async {
        let refused = panic_message(|| nursery::run(async { checkpoint().await }));
        assert!(refused.starts_with("`run` was called inside a run"), "{refused}");
        assert!(refused.contains("`open_nursery`"), "{refused}");
        open_nursery(async |n| {
            n.start_soon(async {
                panic_message(|| nursery::run(async { checkpoint().await }));
                Ok(())
            });
            Ok::<_, Cancelled>(())
        })
        .await?;
        checkpoint().await // the outer run is unharmed
    })
    .unwrap();
}

#[test]
fn runs_in_two_threads_are_independent() {
    static WHO: RunLocal<usize> = RunLocal::new();
    let both_run = Barrier::new(2);
    let tokens = thread::scope(|threads| {
        let runs = [1, 2].map(|me| {
            let both_run = &both_run;
            threads.spawn(move || {
                nursery_testing::run(async move {
                    WHO.set(me);
                    both_run.wait();
                    sleep(SECOND * 60).await?;
                    both_run.wait();
                    assert_eq!(WHO.get(), Some(me));
                    Ok::<_, Cancelled>(lowlevel::token())
                })
                .unwrap()
            })
        });
        runs.map(|run| run.join().unwrap())
    });
    assert_ne!(tokens[0], tokens[1]);
}

/// Polls once, where no run is.
fn poll_once(future: impl Future) {
    let _ = pin!(future).poll(&mut Context::from_waker(Waker::noop()));
}

struct Blind;

impl Instrument for Blind {}

/// C3: what is used where no run is says what it is, where, and what to do.
#[test]
fn use_outside_a_run_panics_with_advice() {
    static LOCAL: TaskLocal<u8> = TaskLocal::new();
    static RUN_LOCAL: RunLocal<u8> = RunLocal::new();
    type Nothing = Result<(), anyhow::Error>;
    async fn nothing() -> Nothing {
        Ok(())
    }
    let then = nursery_testing::run(async { Ok::<_, Cancelled>(now()) }).unwrap();
    let lot = ParkingLot::<()>::new();
    let blind: Rc<dyn Instrument> = Rc::new(Blind);
    let uses: &[(&str, &dyn Fn())] = &[
        ("a checkpoint", &|| poll_once(checkpoint())),
        ("`checkpoint_if_cancelled`", &|| poll_once(lowlevel::checkpoint_if_cancelled())),
        ("a checkpoint", &|| poll_once(lowlevel::cancel_shielded_checkpoint())),
        ("a sleep", &|| poll_once(sleep(SECOND))),
        ("a sleep", &|| poll_once(sleep(Duration::ZERO))),
        ("a sleep", &|| poll_once(sleep_until(then))),
        ("`sleep_forever`", &|| poll_once(sleep_forever())),
        ("a foreign future", &|| poll_once(cancellable(async {}))),
        ("its own cancellation", &|| poll_once(lowlevel::cancelled())),
        ("a parking lot", &|| poll_once(lot.park())),
        ("all other tasks to wait", &|| poll_once(wait_all_tasks_blocked(SECOND))),
        ("`open_nursery`", &|| poll_once(open_nursery(async |_| nothing().await))),
        ("a cancel scope", &|| poll_once(CancelScope::new().enter(nothing()))),
        ("a time limit", &|| poll_once(move_on_after(SECOND, nothing()))),
        ("a time limit", &|| poll_once(move_on_at(then, nothing()))),
        ("a time limit", &|| poll_once(fail_after(SECOND, nothing()))),
        ("a time limit", &|| poll_once(fail_at(then, nothing()))),
        ("a shield", &|| poll_once(shield(nothing()))),
        ("`nursery::now`", &|| _ = now()),
        ("`nursery::tree`", &|| _ = tree()),
        ("`current_effective_deadline`", &|| _ = current_effective_deadline()),
        ("`current_task`", &|| _ = lowlevel::current_task()),
        ("`lowlevel::is_cancelled`", &|| _ = lowlevel::is_cancelled()),
        ("`lowlevel::points`", &|| _ = lowlevel::points()),
        ("`lowlevel::token`", &|| _ = lowlevel::token()),
        ("`lowlevel::statistics`", &|| _ = lowlevel::statistics()),
        ("`lowlevel::tasks`", &|| _ = lowlevel::tasks()),
        ("`lowlevel::add_instrument`", &|| lowlevel::add_instrument(blind.clone())),
        ("`lowlevel::remove_instrument`", &|| _ = lowlevel::remove_instrument(&blind)),
        ("`lowlevel::spawn_system_task`", &|| {
            _ = lowlevel::spawn_system_task("x", async { Ok(()) });
        }),
        ("`ParkingLot::break_lot`", &|| lot.break_lot()),
        ("a `TaskLocal`", &|| _ = LOCAL.set(1)),
        ("a `TaskLocal`", &|| _ = LOCAL.unset()),
        ("a `RunLocal`", &|| _ = RUN_LOCAL.set(1)),
        ("a `RunLocal`", &|| _ = RUN_LOCAL.get()),
    ];
    for (what, use_it) in uses {
        let message = panic_message(use_it);
        let first = message.lines().next().unwrap_or_default();
        assert!(first.contains(what), "not {what}: {first}");
        assert!(first.contains("was used outside a run"), "{first}");
        assert!(first.contains(file!()), "{what}: not the place of the use: {first}");
        assert!(message.contains("`nursery::run(...)`, or `#[nursery::main]`"), "{message}");
    }
}

/// What asks whether there is a run does not panic.
#[test]
fn questions_can_be_asked_outside_a_run() {
    static LOCAL: TaskLocal<u8> = TaskLocal::new();
    let task =
        nursery_testing::run(async { Ok::<_, Cancelled>(lowlevel::current_task()) }).unwrap();
    assert!(!lowlevel::in_run());
    assert!(!lowlevel::in_task());
    assert_eq!(LOCAL.get(), None);
    assert_eq!((task.name(), task.parent()), (None, None));
    assert!(format!("{task:?}").starts_with("<task "));
    let lot = ParkingLot::new();
    assert_eq!(lot.unpark_one(3), Err(3));
    assert!(lot.add_breaker(task).is_err());
    assert!(!lot.remove_breaker(task));
}

#[test]
fn context_detection() {
    fn here() -> (bool, bool) {
        (lowlevel::in_run(), lowlevel::in_task())
    }
    assert_eq!(here(), (false, false));
    nursery_testing::run(async {
        assert_eq!(here(), (true, true));
        assert_eq!(thread::spawn(here).join().unwrap(), (false, false));
        let (tx, rx) = std::sync::mpsc::channel();
        lowlevel::token().run_soon(move || tx.send(here()).unwrap()).unwrap();
        wait_all_tasks_blocked(Duration::ZERO).await?;
        assert_eq!(rx.try_recv(), Ok((true, false)));
        // In a destructor, in `drop` of a scope, in an iterator: still the task's.
        struct Dropped;
        impl Drop for Dropped {
            fn drop(&mut self) {
                assert_eq!(here(), (true, true));
            }
        }
        open_nursery(async |n| {
            n.start_soon(async move {
                let _dropped = Dropped;
                checkpoint().await
            });
            Ok::<_, Cancelled>(())
        })
        .await
    })
    .unwrap();
    assert_eq!(here(), (false, false));
}

#[test]
fn current_time_stands_still_between_jumps_of_a_mock_clock() {
    let clock = MockClock::autojump();
    Test::new()
        .clock(&clock)
        .run(async {
            let start = now();
            checkpoint().await?;
            assert_eq!(now(), start);
            clock.jump(Duration::from_millis(3150));
            assert_eq!(now() - start, Duration::from_millis(3150));
            assert_eq!(clock.now(), now());
            Ok::<_, Cancelled>(())
        })
        .unwrap();
}

/// The one test that takes real time: a sleep is never too short, and the clock moves by itself.
#[test]
#[cfg_attr(miri, ignore = "no reactor under Miri")]
fn timekeeping() {
    let nap = Duration::from_millis(15);
    nursery::run(async {
        let start = now();
        sleep(nap).await?;
        let slept = now();
        assert!(slept - start >= nap);
        let scope = CancelScope::new();
        scope.set_deadline(Some(start + nap)); // has passed
        assert!(scope.enter(sleep_forever()).await?.is_none());
        assert!(now() >= slept);
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

#[test]
fn statistics_count_tasks_waits_nodes_deadlines_and_calls() {
    let clock = MockClock::autojump();
    Test::new()
        .clock(&clock)
        .run(async {
            let bare = lowlevel::statistics();
            assert_eq!((bare.tasks_living, bare.waits, bare.waits_outside), (1, 0, 0));
            assert_eq!((bare.next_deadline, bare.entry_queue), (None, 0));
            assert_eq!(bare.nodes, 3, "the run, its system tasks, main");

            open_nursery(async |n| {
                n.start_soon(sleep_forever());
                n.start_soon(cancellable(std::future::pending::<()>()));
                wait_all_tasks_blocked(Duration::ZERO).await?;
                let token = lowlevel::token();
                token.run_soon(|| ()).unwrap();
                token.run_soon_once(lowlevel::OnceKey::new(), || ()).unwrap();
                let busy = lowlevel::statistics();
                assert_eq!((busy.tasks_living, busy.waits, busy.waits_outside), (3, 2, 1));
                assert_eq!((busy.entry_queue, busy.nodes), (2, 6));
                assert_eq!(lowlevel::tasks().len(), 3);
                n.cancel_scope().cancel();
                Ok::<_, Cancelled>(())
            })
            .await?;
            assert_eq!(lowlevel::statistics(), bare);

            let limit = move_on_after(SECOND * 5, async {
                assert_eq!(lowlevel::statistics().next_deadline, Some(SECOND * 5));
                clock.jump(SECOND * 7);
                let overdue = lowlevel::statistics().next_deadline;
                assert_eq!(overdue, Some(Duration::ZERO));
                Ok::<_, Cancelled>(())
            });
            limit.await?;
            assert_eq!(lowlevel::statistics(), bare);
            Ok::<_, Cancelled>(())
        })
        .unwrap();
}

#[test]
fn tasks_are_named_by_their_place_or_as_they_are_told() {
    nursery_testing::run(async {
        let me = lowlevel::current_task();
        assert_eq!(me.name().as_deref(), Some("main"));
        assert_eq!(format!("{me:?}"), "<task \"main\">");
        open_nursery(async |n| {
            let line = line!() + 1;
            let plain = n.start_soon(sleep_forever());
            let named = n.start_soon(sleep_forever()).named("reader");
            let renamed = n.start_soon(sleep_forever());
            renamed.set_name("first");
            renamed.set_name(String::from("second"));
            let name = |child: &nursery::Child<'_, ()>| child.id().and_then(|id| id.name());
            assert_eq!(name(&plain), Some(format!("{}:{line}", file!())));
            assert_eq!(name(&named).as_deref(), Some("reader"));
            assert_eq!(name(&renamed).as_deref(), Some("second"));
            let id = named.id().unwrap();
            named.cancel_and_join().await?;
            assert_eq!(id.name(), None, "it has ended");
            n.cancel_scope().cancel();
            Ok::<_, Cancelled>(())
        })
        .await?;
        let system = lowlevel::spawn_system_task("janitor", sleep_forever()).unwrap();
        assert_eq!(system.name().as_deref(), Some("janitor"));
        assert_eq!(system.parent(), None);
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

/// A name whose conversion looks at the run.
struct Nosy;

impl From<Nosy> for Box<str> {
    fn from(Nosy: Nosy) -> Self {
        format!("one of {}", tree().nodes().len()).into()
    }
}

#[test]
fn making_a_name_may_look_at_the_run() {
    nursery_testing::run(async {
        open_nursery(async |n| {
            let child = n.start_soon(async { Ok(lowlevel::current_task().name()) }).named(Nosy);
            assert_eq!(child.await?.as_deref(), Some("one of 5"));
            Ok::<_, Cancelled>(())
        })
        .await
    })
    .unwrap();
}

#[test]
fn a_task_is_told_from_all_others() {
    let first = nursery_testing::run(async { Ok::<_, Cancelled>(lowlevel::current_task()) });
    let second = nursery_testing::run(async {
        let me = lowlevel::current_task();
        assert_eq!(me, lowlevel::current_task());
        checkpoint().await?;
        assert_eq!(me, lowlevel::current_task());
        assert_eq!(me.parent(), None);
        // The main task of another run has no name here, although it may stand at the same place.
        assert_eq!(first.as_ref().unwrap().name(), None);
        open_nursery(async |n| {
            let child = n.start_soon(async move {
                assert_ne!(lowlevel::current_task(), me);
                assert_eq!(lowlevel::current_task().parent(), Some(me));
                Ok(lowlevel::current_task())
            });
            let id = child.id();
            assert_eq!(Some(child.await?), id);
            assert_eq!(lowlevel::tasks(), [me], "the child has gone");
            Ok::<_, Cancelled>(())
        })
        .await?;
        Ok::<_, Cancelled>(me)
    });
    assert_ne!(first.unwrap(), second.unwrap());
}

/// The tree without the places, which change with every edit of this file.
fn without_places(tree: &Tree) -> String {
    let text = tree.to_string();
    let mut plain = String::new();
    for line in text.lines() {
        let mut rest = line;
        while let Some((before, after)) = rest.split_once(" (crates/nursery/tests/run.rs:") {
            plain.push_str(before);
            rest = after.split_once(')').map_or("", |(_, after)| after);
        }
        plain.push_str(rest);
        plain.push('\n');
    }
    plain
}

#[test]
fn the_tree_shows_who_waits_for_what_under_what() {
    let clock = MockClock::autojump();
    let builder = Test::new().clock(&clock).builder().name("example");
    builder
        .run(async {
            let lot = ParkingLot::<()>::new();
            open_nursery(async |n| {
                n.start_soon(async {
                    let scope = CancelScope::new().with_name("limit").with_timeout(SECOND * 9);
                    scope.enter(sleep_forever()).await?;
                    Ok(())
                })
                .set_name("a");
                n.start_soon(async {
                    open_nursery(async |inner| {
                        inner.start_soon(sleep(SECOND)).set_name("c");
                        inner.start_soon(lot.park_as("a lock").map_err());
                        Ok::<_, Cancelled>(())
                    })
                    .await
                })
                .set_name("b");
                wait_all_tasks_blocked(Duration::ZERO).await?;
                let picture = tree();
                let expected = "\
run \"example\"
├─ nursery \"system\"
└─ task \"main\"
   └─ nursery
      ├─ task \"a\"
      │  └─ scope \"limit\", waits for its cancellation (`sleep_forever`), deadline in 9s
      └─ task \"b\"
         └─ nursery
            ├─ task \"c\", waits for a sleep
            └─ task, waits for a lock
";
                assert_eq!(without_places(&picture), expected);
                n.cancel_scope().cancel();
                let cancelled = without_places(&tree());
                assert!(
                    cancelled.contains("nursery, CANCELLED: explicit from task \"main\"\n"),
                    "{cancelled}"
                );
                assert!(cancelled.contains("task \"b\", cancelled from above\n"), "{cancelled}");
                Ok::<_, Cancelled>(())
            })
            .await
        })
        .unwrap();
}

/// Turns `ParkError` into `Cancelled`, for lots that nobody breaks.
trait MapErr: Sized {
    async fn map_err(self) -> Result<(), Cancelled>;
}

impl MapErr for lowlevel::Park<'_, ()> {
    async fn map_err(self) -> Result<(), Cancelled> {
        match self.await {
            Err(lowlevel::ParkError::Cancelled(cancelled)) => Err(cancelled),
            other => panic!("neither unparked nor broken: {other:?}"),
        }
    }
}

/// The nodes from the root down to the current task's innermost.
fn nurseries_of_main() -> usize {
    tree().nodes().iter().filter(|node| node.kind == NodeKind::Nursery).count() - 1
}

/// trio's `task_nursery_stack`, and the nesting half of `task_tree_introspection`.
#[test]
fn nurseries_of_a_task_are_nested_and_go() {
    nursery_testing::run(async {
        assert_eq!(nurseries_of_main(), 0);
        open_nursery(async |_| {
            assert_eq!(nurseries_of_main(), 1);
            let failed = open_nursery(async |_| {
                assert_eq!(nurseries_of_main(), 2);
                let tree = tree();
                let depths: Vec<usize> = tree.nodes().iter().map(|node| node.depth).collect();
                assert_eq!(depths, [0, 1, 1, 2, 3]);
                Err::<(), _>(anyhow::Error::new(Own(1)))
            })
            .await;
            assert!(failed.is_err());
            assert_eq!(nurseries_of_main(), 1);
            anyhow::Ok(())
        })
        .await?;
        assert_eq!(nurseries_of_main(), 0);
        anyhow::Ok(())
    })
    .unwrap();
}

/// Where a task stands: its depth, and the name of the node above it.
fn place_of(task: TaskId) -> (usize, Option<String>) {
    let tree = tree();
    let nodes = tree.nodes();
    let at = nodes.iter().position(|node| node.task == Some(task)).expect("in the tree");
    let depth = nodes[at].depth;
    let above = nodes[..at].iter().rev().find(|node| node.depth < depth);
    (depth, above.and_then(|node| node.name.clone()))
}

/// trio's `task_tree_introspection`: before `started` a child stands below the caller of `start`.
#[test]
fn a_starting_child_moves_from_its_caller_to_its_nursery() {
    nursery_testing::run(async {
        let main = lowlevel::current_task();
        open_nursery(async |n| {
            let caller = n.start_soon(async {
                let me = lowlevel::current_task();
                n.start(async move |status| {
                    let child = lowlevel::current_task();
                    assert_eq!(child.parent(), Some(me));
                    assert_eq!(place_of(child).1.as_deref(), Some("start"));
                    status.started(());
                    assert_eq!(child.parent(), Some(main));
                    assert_eq!(place_of(child), (place_of(me).0, None), "side by side");
                    sleep_forever().await
                })
                .await
            });
            caller.await?;
            n.cancel_scope().cancel();
            Ok::<_, Cancelled>(())
        })
        .await
    })
    .unwrap();
}

/// trio's `error_in_run_loop`: what the run is given by its user may panic.
#[test]
fn a_clock_that_panics_ends_the_run_and_everything_in_it() {
    struct Broken(MockClock);
    impl Clock for Broken {
        fn now(&self) -> Instant {
            self.0.now()
        }
        fn on_idle(&self, _: &Idle) -> OnIdle {
            panic!("no idea")
        }
    }
    struct Count<'a>(&'a Cell<u32>);
    impl Drop for Count<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let dropped = Cell::new(0);
    let message = panic_message(|| {
        Builder::new().clock(Broken(MockClock::new())).run(async {
            let _main = Count(&dropped);
            open_nursery(async |n| {
                for _ in 0..3 {
                    n.start_soon(async {
                        let _child = Count(&dropped);
                        sleep_forever().await
                    });
                }
                Ok::<(), Cancelled>(())
            })
            .await
        })
    });
    assert_eq!(message, "no idea");
    assert_eq!(dropped.get(), 4);
    nursery_testing::run(async { checkpoint().await }).unwrap();
}

/// The real time for which no task has run counts from when the run fell idle, not from when a clock first asks.
#[test]
fn the_quiet_of_a_run_counts_from_its_first_wait() {
    struct Asking {
        clock: MockClock,
        waited: Cell<bool>,
        quiet: Rc<RefCell<Vec<Duration>>>,
    }
    impl Clock for Asking {
        fn now(&self) -> Instant {
            self.clock.now()
        }
        fn on_idle(&self, idle: &Idle) -> OnIdle {
            if !self.waited.replace(true) {
                return OnIdle::Wait(Some(Duration::from_millis(1))); // without a question
            }
            self.quiet.borrow_mut().push(idle.quiet());
            self.clock.on_idle(idle)
        }
    }
    let quiet = Rc::default();
    let clock =
        Asking { clock: MockClock::autojump(), waited: Cell::default(), quiet: Rc::clone(&quiet) };
    let main = async {
        sleep(SECOND).await?;
        sleep(SECOND).await
    };
    Builder::new().clock(clock).run(main).unwrap();
    let quiet = quiet.take();
    assert!(quiet[0] > Duration::ZERO, "it has waited before");
    assert_eq!(quiet[1..], [Duration::ZERO], "a task has run since");
}

/// trio's `calling_asyncio_function_gives_nice_error`: a future that needs another runtime says so itself.
#[test]
fn a_future_of_a_runtime_that_is_not_there_panics_in_its_own_words() {
    let message = panic_message(|| {
        nursery_testing::run(async { cancellable(tokio::time::sleep(SECOND)).await })
    });
    assert!(message.contains("Tokio"), "{message}");
}

#[test]
fn a_budget_of_zero_is_refused() {
    let message = panic_message(|| Builder::new().checkpoint_budget(0));
    assert!(message.contains("1 is the smallest"), "{message}");
}

/// The budget says how many checkpoints in a row may pass without letting others run.
#[test]
fn a_checkpoint_yields_once_in_every_budget() {
    for budget in [1, 2, 5] {
        let record = RefCell::new(String::new());
        Test::new()
            .checkpoint_budget(budget)
            .run(async {
                open_nursery(async |n| {
                    for name in ['a', 'b'] {
                        let record = &record;
                        n.start_soon(async move {
                            for _ in 0..10 {
                                record.borrow_mut().push(name);
                                checkpoint().await?;
                            }
                            Ok(())
                        });
                    }
                    Ok::<_, Cancelled>(())
                })
                .await
            })
            .unwrap();
        let record = record.take();
        let longest = ["aaaaa", "aaaa", "aaa", "aa", "a"];
        let streak = longest.iter().find(|streak| record.contains(**streak)).unwrap().len();
        let budget = usize::try_from(budget).unwrap();
        assert!(streak >= budget && streak <= 2 * budget, "budget {budget}: {record}");
    }
}
