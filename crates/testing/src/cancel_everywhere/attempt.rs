//! [`attempt`]: one run of the body under a [`Plan`], and what is left of it.

use std::cell::{Cell, OnceCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use nursery::lowlevel::{RunStatistics, statistics};
use nursery::{TaskError, sleep, tree};

use crate::cancel_everywhere::Outcome;
use crate::cancel_everywhere::plan::Plan;
use crate::cancel_everywhere::victim::{End, strike_at};
use crate::orders::text_of;
use crate::run::Test;

/// A run that was made, as far as it came.
pub(super) struct Attempt<E> {
    pub(super) plan: Rc<Plan>,
    /// How the body has ended.
    pub(super) outcome: Option<Outcome<E>>,
    /// What it has left behind, in words, and the tree.
    pub(super) left: Option<(String, String)>,
    /// How the check has ended.
    pub(super) checked: Option<Result<(), E>>,
    /// What stopped the run before its end.
    pub(super) panic: Option<String>,
}

/// Makes one run.
pub(super) fn attempt<S, E: TaskError>(
    test: &Test,
    plan: Rc<Plan>,
    make: &impl Fn() -> S,
    body: &impl AsyncFn(&S) -> Result<(), E>,
    check: &impl AsyncFn(&S, &Outcome<E>) -> Result<(), E>,
) -> Attempt<E> {
    let (ended, left, checked) = (OnceCell::new(), Cell::new(None), Cell::new(None));
    let main = async {
        plan.install();
        let state = make();
        let before = statistics();
        let outcome = match strike_at(plan.begin(), body(&state)).await {
            Ok(End::Done(())) => Outcome::Done,
            Ok(End::Cancelled) => Outcome::Cancelled,
            Ok(End::Dropped) => Outcome::Dropped,
            Err(error) => Outcome::Failed(error),
        };
        let outcome = ended.get_or_init(|| outcome);
        if statistics().busy > before.busy {
            // Threads that were left alone: the clock does not jump before they have come back.
            sleep(Duration::from_nanos(1)).await?;
        }
        left.set(leftovers(&before));
        checked.set(Some(check(&state, outcome).await));
        Ok::<(), E>(())
    };
    let run = || test.clone().instrument(plan.clone()).run(main);
    let result = catch_unwind(AssertUnwindSafe(run));
    Attempt {
        plan,
        outcome: ended.into_inner(),
        left: left.into_inner(),
        checked: checked.into_inner(),
        panic: result.err().map(|panic| text_of(&*panic)),
    }
}

/// What there is more than before, in words, with the tree.
fn leftovers(before: &RunStatistics) -> Option<(String, String)> {
    let now = statistics();
    let more = |count: usize, before: usize, what: &str| match count.saturating_sub(before) {
        0 => None,
        1 => Some(format!("1 {what}")),
        n => Some(format!("{n} {what}s")),
    };
    let tasks = now.tasks_living.saturating_sub(before.tasks_living);
    let others = now.nodes.saturating_sub(before.nodes).saturating_sub(tasks);
    let left = [
        more(now.tasks_living, before.tasks_living, "task"),
        more(others, 0, "nursery or scope")
            .map(|text| text.replace("nursery or scopes", "nurseries or scopes")),
        more(now.waits, before.waits, "wait"),
        more(now.busy, before.busy, "thread"),
        more(
            usize::from(now.next_deadline.is_some()),
            usize::from(before.next_deadline.is_some()),
            "deadline",
        ),
        more(now.entry_queue, before.entry_queue, "call in the entry queue"),
    ];
    let left: Vec<String> = left.into_iter().flatten().collect();
    (!left.is_empty()).then(|| (left.join(", "), tree().to_string()))
}
