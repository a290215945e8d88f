//! One turn of a run, and what happens when there is nothing to do.
//!
//! ```text
//! entry queue ─▶ due deadlines ─▶ batch: every task ready now, once ─▶ anything ready? next turn : idle
//! idle ─▶ tasks in wait_all_tasks_blocked first ─▶ else the clock's on_idle ─▶ wait in real time
//! ```
//!
//! One poll of the host makes many turns, up to [`POLL_FOR`], so that the host's own reactor is served often
//! but not after each of our steps: serving it costs as much as a hundred of them.

use std::future::Future as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::time::{Duration, Instant};

use crate::clock::{Idle, OnIdle, real_now};
use crate::run::Run;
use crate::stats;
use crate::wait::WaitState;

/// The system clock is read, and deadlines are served, at least every so many steps.
pub(crate) const READ_EVERY: u64 = 64;

/// The host gets its thread back after this time, or so many steps.
const POLL_FOR: Duration = Duration::from_micros(100);
const POLL_STEPS: u64 = 4096;

pub(crate) enum Turn {
    /// Something is ready.
    More,
    /// Something is ready, but it is the host's turn.
    Enough,
    /// Nothing is ready.
    Idle,
}

impl Run {
    pub(crate) fn turn(&self) -> Turn {
        self.serve_inbox();
        self.serve_deadlines();
        self.ready.run_batch(self);
        if self.is_idle() {
            Turn::Idle
        } else if self.is_hosts_turn() {
            Turn::Enough
        } else {
            Turn::More
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.ready.is_empty() && !self.inbox.is_filled()
    }

    fn serve_inbox(&self) {
        if !self.inbox.is_filled() {
            return;
        }
        let (woken, calls) = self.inbox.take_woken();
        for runnable in woken {
            self.schedule(runnable);
        }
        // Only those that are there now: a call that queues itself again waits for the next turn.
        for _ in 0..calls {
            if let Some(call) = self.inbox.next_call() {
                self.call(call.call);
            }
        }
    }

    /// Calls a function of the entry queue.
    pub(crate) fn call(&self, call: Box<dyn FnOnce() + Send>) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
            self.note_crash(panic);
        }
    }

    fn serve_deadlines(&self) {
        let steps = self.steps.get().wrapping_sub(self.read_at.get());
        if self.is_system_clock && steps < READ_EVERY || self.state.borrow().deadlines.is_empty() {
            return;
        }
        self.expire();
    }

    fn expire(&self) {
        let now = self.now();
        self.change(|state, fx| state.expire(now, fx));
    }

    fn is_hosts_turn(&self) -> bool {
        let steps = self.steps.get();
        let poll = self.host_poll.get();
        if steps - poll.begun_at >= POLL_STEPS {
            return true;
        }
        if steps - poll.checked_at < READ_EVERY {
            return false;
        }
        self.host_poll.set(HostPoll { checked_at: steps, ..poll });
        poll.since.is_some_and(|since| real_now().saturating_duration_since(since) >= POLL_FOR)
    }
}

/// The poll of the host that is going on.
#[derive(Clone, Copy, Default)]
pub(crate) struct HostPoll {
    /// The run's steps when it began.
    begun_at: u64,
    /// The run's steps when somebody last looked how long it has taken.
    checked_at: u64,
    /// When it began; unknown, and of no matter, under a virtual clock.
    since: Option<Instant>,
}

/// Waits for the run, when it has nothing to do.
#[derive(Default)]
pub(crate) struct Idler {
    timer: Option<(async_io::Timer, Instant)>,
    /// When the run fell idle, in real time, and after which step.
    idle_since: Option<(Instant, u64)>,
    /// The host has had a chance to see what happened outside, since this step.
    primed_at: Option<u64>,
    is_waiting: bool,
}

impl Idler {
    /// The host polls.
    pub(crate) fn begin_poll(&mut self, run: &Run) {
        let steps = run.steps.get();
        let since = run.is_system_clock.then(real_now);
        run.host_poll.set(HostPoll { begun_at: steps, checked_at: steps, since });
        if std::mem::take(&mut self.is_waiting) {
            run.instrument(|i| i.after_io_wait());
            if !run.state.borrow().deadlines.is_empty() {
                run.expire();
            }
        }
    }

    /// Nothing is ready. Returns true if the host is to be left, false if there is something to do after all.
    pub(crate) fn wait(&mut self, run: &Rc<Run>, cx: &mut Context<'_>) -> bool {
        let now = run.now();
        let next = run.state.borrow_mut().next_deadline();
        if next.is_some_and(|at| at <= now) {
            run.expire();
            return false;
        }
        let has_hooks = !run.is_system_clock || !run.blocked.borrow().is_empty();
        if !has_hooks {
            return self.sleep(run, next, None, cx);
        }
        if self.prime(run, cx) {
            return true;
        }
        match self.on_idle(run, next) {
            OnIdle::Again => false,
            OnIdle::Deadlock => stats::panic_deadlock(run),
            OnIdle::Wait(limit) => {
                let until = limit.and_then(|limit| real_now().checked_add(limit));
                // A hook may have woken somebody.
                run.is_idle() && self.sleep(run, until, limit, cx)
            }
        }
    }

    /// With waits on the outside world, the host's reactor is asked once before the run calls itself idle.
    fn prime(&mut self, run: &Run, cx: &Context<'_>) -> bool {
        let steps = run.steps.get();
        if run.state.borrow().outside == 0 || self.primed_at == Some(steps) {
            return false;
        }
        self.primed_at = Some(steps);
        cx.waker().wake_by_ref();
        true
    }

    fn on_idle(&mut self, run: &Run, next: Option<Instant>) -> OnIdle {
        let quiet = self.quiet(run);
        if let Some(decision) = wake_blocked(run, quiet) {
            return decision;
        }
        let outside = match next {
            None => stats::waits_outside(run),
            Some(_) => run.state.borrow().outside,
        };
        run.clock.on_idle(&Idle { next_deadline: next, outside, quiet })
    }

    fn quiet(&mut self, run: &Run) -> Duration {
        let now = real_now();
        match self.idle_since {
            Some((since, steps)) if steps == run.steps.get() => {
                now.saturating_duration_since(since)
            }
            _ => {
                self.idle_since = Some((now, run.steps.get()));
                Duration::ZERO
            }
        }
    }

    /// Arms the timer and leaves the thread to the host, unless something came in meanwhile.
    fn sleep(
        &mut self,
        run: &Run,
        until: Option<Instant>,
        limit: Option<Duration>,
        cx: &mut Context<'_>,
    ) -> bool {
        if self.arm(until, cx) || !run.inbox.set_root(cx.waker()) {
            return false;
        }
        self.is_waiting = true;
        run.instrument(|i| {
            i.before_io_wait(
                limit.or_else(|| until.map(|at| at.saturating_duration_since(real_now()))),
            )
        });
        true
    }

    /// Returns true if the time is up already.
    fn arm(&mut self, until: Option<Instant>, cx: &mut Context<'_>) -> bool {
        let Some(at) = until else {
            self.timer = None;
            return false;
        };
        let (timer, armed_at) = self.timer.get_or_insert_with(|| (async_io::Timer::at(at), at));
        if *armed_at != at {
            timer.set_at(at);
            *armed_at = at;
        }
        let is_up = Pin::new(timer).poll(cx).is_ready();
        if is_up {
            self.timer = None;
        }
        is_up
    }
}

/// Wakes the tasks in `wait_all_tasks_blocked` whose cushion is over: the smallest, all of them together.
fn wake_blocked(run: &Run, quiet: Duration) -> Option<OnIdle> {
    let smallest = run.blocked.borrow().iter().map(|&(cushion, _)| cushion).min()?;
    if quiet < smallest {
        return Some(OnIdle::Wait(Some(smallest - quiet)));
    }
    let mut due = Vec::new();
    run.blocked.borrow_mut().retain(|&(cushion, wait)| {
        let is_due = cushion == smallest;
        if is_due {
            due.push(wait);
        }
        !is_due
    });
    run.change(|state, fx| {
        for wait in due {
            state.wake_wait(wait, WaitState::Woken, fx);
        }
    });
    Some(OnIdle::Again)
}
