//! Seeds: the same one gives the same order, step by step; many of them find what goes wrong in some orders only.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use nursery::lowlevel::{Instrument, ParkingLot, TaskId};
use nursery::{
    Builder, CancelScope, Cancelled, checkpoint, move_on_after, open_nursery, sleep, sleep_forever,
};
use nursery_testing::{Test, orders};

const SECOND: Duration = Duration::from_secs(1);

/// Writes down all that happens.
#[derive(Default)]
struct Trace(RefCell<String>);

impl Trace {
    fn line(&self, what: &str, task: TaskId) {
        let name = task.name().unwrap_or_else(|| "an ended task".to_owned());
        self.0.borrow_mut().push_str(&format!("{what} {name}\n"));
    }
}

impl Instrument for Trace {
    fn task_spawned(&self, task: TaskId) {
        self.line("spawned", task);
    }
    fn task_scheduled(&self, task: TaskId) {
        self.line("scheduled", task);
    }
    fn before_task_step(&self, task: TaskId) {
        self.line("before", task);
    }
    fn after_task_step(&self, task: TaskId) {
        self.line("after", task);
    }
    fn task_yielded(&self, task: TaskId, place: &'static std::panic::Location<'static>) {
        self.line(&format!("yielded at {place}"), task);
    }
    fn cancel_raised(&self, task: TaskId, error: &Cancelled) {
        self.line(&format!("raised {error}"), task);
    }
}

/// Tasks that yield, sleep, wait for each other, start others and are cancelled.
async fn program() -> anyhow::Result<()> {
    let (lot, scope) = (ParkingLot::new(), CancelScope::new());
    scope.cancel();
    assert!(scope.enter(checkpoint()).await?.is_none());
    open_nursery(async |n| {
        for i in 0..5 {
            let lot = &lot;
            let child = n.start_soon(async move {
                for _ in 0..i {
                    checkpoint().await?;
                }
                sleep(SECOND * (i % 2)).await?;
                if i % 2 == 0 {
                    lot.unpark_all();
                    let grandchild = n.start_soon(async { Ok(checkpoint().await?) });
                    grandchild.set_name(format!("grandchild {i}"));
                } else {
                    move_on_after(SECOND, async { anyhow::Ok(lot.park().await?) }).await?;
                }
                anyhow::Ok(())
            });
            child.set_name(format!("child {i}"));
        }
        n.start_soon(async { Ok(sleep_forever().await?) }).set_name("sleeper");
        sleep(5 * SECOND).await?;
        n.cancel_scope().cancel();
        Ok(())
    })
    .await
}

fn trace_under(seed: Option<u64>) -> String {
    let trace = Rc::new(Trace::default());
    match seed {
        Some(seed) => Test::new().seed(seed).instrument(trace.clone()).run(program()).unwrap(),
        None => Builder::new()
            .clock(nursery_testing::MockClock::autojump())
            .instrument(trace.clone())
            .run(program())
            .unwrap(),
    }
    trace.0.take()
}

/// Trio's `the_trio_scheduler_is_deterministic_if_seeded`.
#[test]
fn the_same_seed_gives_the_same_trace_byte_by_byte() {
    for seed in 0..20 {
        let trace = trace_under(Some(seed));
        assert!(trace.lines().count() > 100, "it is no small program: {trace}");
        assert!(trace.contains("raised cancelled due to explicit"), "{trace}");
        for _ in 0..3 {
            assert_eq!(trace_under(Some(seed)), trace, "seed {seed}");
        }
    }
}

/// Trio's `the_trio_scheduler_is_not_deterministic`.
#[test]
fn without_a_seed_and_under_other_seeds_the_order_varies() {
    let first = trace_under(Some(0));
    assert!((1..20).any(|seed| trace_under(Some(seed)) != first));
    // Each time it is equal with a probability far below one half.
    let free = trace_under(None);
    assert!((0..50).any(|_| trace_under(None) != free));
}

#[test]
fn orders_runs_each_seed_once() {
    let runs = Cell::new(0);
    orders(7, async || {
        checkpoint().await?;
        runs.set(runs.get() + 1);
        Ok::<(), Cancelled>(())
    });
    assert_eq!(runs.take(), 7);
    orders(0, async || {
        runs.set(1);
        Ok::<(), Cancelled>(())
    });
    assert_eq!(runs.get(), 0);
}

/// Two tasks, of which the second to run finds what the first has left.
async fn race() -> Result<bool, Cancelled> {
    let first = Cell::new(None);
    open_nursery(async |n| -> Result<(), Cancelled> {
        for i in 0..2 {
            let first = &first;
            n.start_soon(async move {
                checkpoint().await?;
                first.set(first.get().or(Some(i)));
                Ok(())
            });
        }
        Ok(())
    })
    .await?;
    Ok(first.get() == Some(0))
}

#[track_caller]
fn failure_of(f: impl FnOnce()) -> String {
    *catch_unwind(AssertUnwindSafe(f)).unwrap_err().downcast::<String>().unwrap()
}

#[test]
fn an_order_that_fails_is_named_with_the_command_that_repeats_it() {
    let command = "cargo test an_order_that_fails_is_named_with_the_command_that_repeats_it";
    let seeds = Cell::new(0);
    let panicked = failure_of(|| {
        orders(100, async || {
            seeds.set(seeds.get() + 1);
            assert!(race().await?, "the second was first");
            Ok::<(), Cancelled>(())
        });
    });
    let seed = seeds.get() - 1;
    let expected = format!(
        "under seed {seed}, it panicked: the second was first\nto repeat it: SEED={seed} {command}"
    );
    assert_eq!(panicked, expected);
    let erred = failure_of(|| {
        orders(100, async || {
            anyhow::ensure!(race().await?, "the second was first");
            Ok(())
        });
    });
    assert!(
        erred
            .starts_with(&format!("under seed {seed}, it returned an error: the second was first"))
    );
    // As the command does.
    let repeated = Test::new().seed(seed).run(race()).unwrap();
    assert!(!repeated);
}

#[test]
fn a_test_keeps_its_other_settings_in_all_orders() {
    Test::new().checkpoint_budget(2).orders(3, async || {
        let before = nursery::lowlevel::points();
        checkpoint().await?;
        assert_eq!(nursery::lowlevel::points().schedule, before.schedule, "one is free");
        checkpoint().await?;
        assert_eq!(nursery::lowlevel::points().schedule, before.schedule + 1);
        Ok::<(), Cancelled>(())
    });
}
