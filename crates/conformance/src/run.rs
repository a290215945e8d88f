//! Runs a program under a seed and a budget, and whatever it does, comes back with an answer.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use nursery::{Builder, Cancelled};
use nursery_testing::MockClock;

use crate::interp;
use crate::program::Program;
use crate::trace::Trace;

/// What a program may use before it counts as running for ever.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Statements executed, rounds of loops included.
    pub(crate) steps: u64,
    /// Of the virtual clock.
    pub(crate) time: Duration,
}

const LIMITS: Limits = Limits { steps: 100_000, time: Duration::from_secs(1_000_000_000) };

/// How often the run may ask its host for another turn.
const POLLS: u64 = 1_000_000;

/// Runs `program` in virtual time, in the order of tasks that `seed` gives, with this checkpoint budget.
///
/// # Errors
///
/// A text that says why there is no trace: the program deadlocks, panics or runs for ever.
pub fn run(program: &Rc<Program>, seed: u64, budget: u32) -> Result<Trace, String> {
    let builder = Builder::new().seed(seed).checkpoint_budget(budget).name(program.name.as_str());
    host(builder, interpret(program.clone()))
}

/// Interprets `program`, as a part of any run in virtual time.
///
/// # Cancellation
///
/// If the program is cancelled from outside, `main` ends with `Cancelled`, and so says the trace. Dropped, it
/// drops all tasks.
///
/// # Panics
///
/// If the program runs for ever.
pub async fn interpret(program: Rc<Program>) -> Trace {
    interp::run(program, LIMITS).await
}

/// Makes a run of `main`, on a virtual clock that jumps, and brings it to its end, whatever that is.
///
/// # Errors
///
/// A text that says why there is none: a deadlock, a panic, a run that goes on for ever.
pub fn host<T>(builder: Builder, main: impl Future<Output = T>) -> Result<T, String> {
    let guest =
        builder.clock(MockClock::autojump()).guest(async { Ok::<T, Cancelled>(main.await) });
    let outcome = quietly(|| catch_unwind(AssertUnwindSafe(|| poll_to_end(guest))));
    outcome.unwrap_or_else(|panic| Err(text_of(&*panic)))
}

/// Polls a run to its end. In virtual time, nothing outside can wake it: if it waits, it waits for ever.
fn poll_to_end<T>(guest: impl Future<Output = Result<T, Cancelled>>) -> Result<T, String> {
    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let flag = Arc::new(Flag(AtomicBool::new(false)));
    let waker = Waker::from(flag.clone());
    let mut guest = pin!(guest);
    for _ in 0..POLLS {
        match guest.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result.map_err(|error| error.to_string()),
            Poll::Pending if flag.0.swap(false, Ordering::Relaxed) => {}
            Poll::Pending => return Err("hangs: the run waits, and nothing will wake it".into()),
        }
    }
    Err(format!("runs for ever: more than {POLLS} polls"))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a text").to_owned()
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Calls `f` without the messages that panics on this thread print: the caller reports them.
fn quietly<R>(f: impl FnOnce() -> R) -> R {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                loud(info);
            }
        }));
    });
    QUIET.set(true);
    let result = f();
    QUIET.set(false);
    result
}
