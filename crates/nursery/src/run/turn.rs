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
use std::sync::OnceLock;
use std::task::Context;
use std::time::{Duration, Instant};

use crate::clock::{Idle, OnIdle, real_now};
use crate::run::Run;
use crate::stats;
use crate::wait::WaitState;

/// Between two readings of the system clock there are at most so many steps …
pub(crate) const READ_EVERY: u64 = 64;

/// … and fewer, down to one, if the steps are so long that these took more than this.
const READ_WITHIN: Duration = Duration::from_millis(1);

/// So many blocks of ended tasks, of a size, are freed when the clock is read, at most.
const FREED_AT_ONCE: usize = 16;

/// The host gets its thread back after this time, or so many steps.
const POLL_FOR: Duration = Duration::from_micros(100);
const POLL_STEPS: u64 = 4096;

/// Deadlines wake the thread at most once in this time: where they are dense, they are served together. One that stands
/// alone is served at once.
const TICK: Duration = Duration::from_millis(1);

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
        if self.is_look_due() {
            self.serve_deadlines();
        }
        self.ready.run_batch(self);
        self.host.end_of_arrivals();
        if self.is_idle() {
            Turn::Idle
        } else if self.is_hosts_turn() {
            Turn::Enough
        } else {
            Turn::More
        }
    }

    /// Begins a turn in which only one nursery has something to do. Returns false if there is something else, after
    /// all. Never with a budget of 1: there tests count on one turn a poll, to interrupt between any two.
    #[inline]
    pub(crate) fn begin_turn_alone(&self) -> bool {
        !self.inbox.is_filled() && (!self.is_look_due() || self.look())
    }

    #[inline]
    fn is_look_due(&self) -> bool {
        self.steps.get() >= self.look_at.get()
    }

    /// Does what is to be done between two turns, if there is anything. Returns false if more is.
    fn look(&self) -> bool {
        if self.budget == 1 || self.crashed() {
            return false;
        }
        self.host.end_of_arrivals();
        self.serve_deadlines();
        !self.is_hosts_turn()
    }

    fn is_hosts_turn(&self) -> bool {
        let poll = self.host_poll.get();
        poll.is_long || self.steps.get() - poll.begun_at >= POLL_STEPS
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.ready.is_empty() && !self.inbox.is_filled()
    }

    fn serve_inbox(&self) {
        if !self.inbox.is_filled() {
            return;
        }
        let (woken, calls) = self.inbox.take_woken();
        for task in woken {
            self.guard(|| task.deliver(self)); // a waker of its nursery's owner may be foreign
        }
        // Only those that are there now: a call that queues itself again waits for the next turn.
        for _ in 0..calls {
            if let Some(call) = self.inbox.next_call() {
                self.guard(call.call);
            }
        }
    }

    /// Calls a function of the entry queue, or what else is no task's. If it panics, the run ends with that.
    pub(crate) fn guard(&self, call: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
            self.note_crash(panic);
        }
    }

    /// Looks at the clock, if it is time to, also for whether the host has waited long enough.
    fn serve_deadlines(&self) {
        if !self.is_system_clock {
            if !self.state.borrow().deadlines.is_empty() {
                self.expire();
            }
            return;
        }
        let pace = self.pace.get();
        let steps = self.steps.get();
        if !pace.at_once && steps - pace.looked_at < pace.every {
            return self.look_again();
        }
        let now = self.expire();
        self.pool.trim(FREED_AT_ONCE);
        self.pace.set(pace.next(steps, now));
        let poll = self.host_poll.get();
        let is_long = now.saturating_duration_since(poll.since.unwrap_or(now)) >= POLL_FOR;
        self.host_poll.set(HostPoll { is_long, ..poll });
        self.look_again();
    }

    /// Says when there is something to look at again. Where tests count on a look at every turn, it is always.
    fn look_again(&self) {
        let (pace, poll) = (self.pace.get(), self.host_poll.get());
        if self.budget > 1 && !poll.is_long && !self.host.has_arrivals() && !self.crashed() {
            self.look_at.set((pace.looked_at + pace.every).min(poll.begun_at + POLL_STEPS));
        }
    }

    /// Reads the clock, and does what is due.
    pub(super) fn expire(&self) -> Instant {
        let now = self.now();
        let is_any_due = self.state.borrow().deadlines.is_any_due(now);
        if is_any_due {
            self.change(|state, fx| state.expire(now, || self.birth(), fx));
        }
        now
    }
}

/// How often the system clock is read: every so many steps, depending on how long they take.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    every: u64,
    /// The run's steps when it was last read, and the time.
    looked_at: u64,
    time: Option<Instant>,
    /// It is to be read in the next turn.
    at_once: bool,
}

impl Pace {
    /// Short steps make the interval longer, a long one makes it one step.
    fn next(self, steps: u64, now: Instant) -> Pace {
        let took = self.time.map_or(READ_WITHIN, |time| now.saturating_duration_since(time));
        let every = if took < READ_WITHIN { (self.every * 2).min(READ_EVERY) } else { 1 };
        Pace { every, looked_at: steps, time: Some(now), at_once: false }
    }

    pub(crate) fn at_once(self) -> Pace {
        Pace { at_once: true, ..self }
    }
}

impl Default for Pace {
    fn default() -> Self {
        Pace { every: 1, looked_at: 0, time: None, at_once: false }
    }
}

/// The poll of the host that is going on.
#[derive(Clone, Copy, Default)]
pub(crate) struct HostPoll {
    /// The run's steps when it began.
    begun_at: u64,
    /// When it began; unknown, and of no matter, under a virtual clock.
    since: Option<Instant>,
    /// It has taken longer than [`POLL_FOR`].
    is_long: bool,
}

/// Waits for the run, when it has nothing to do.
#[derive(Default)]
pub(crate) struct Idler {
    timer: Option<async_io::Timer>,
    /// The deadline for which it sleeps, or slept last.
    armed_at: Option<Instant>,
    /// The last deadline for which the thread slept till the end.
    last_tick: Option<Instant>,
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
        run.host_poll.set(HostPoll { begun_at: steps, since, is_long: false });
        run.look_soon();
        if std::mem::take(&mut self.is_waiting) {
            run.instrument(|i| i.after_io_wait());
            // The time that was spent waiting says nothing about the length of steps.
            let time = Some(run.expire());
            run.pace.set(Pace { time, ..run.pace.get() });
        }
    }

    /// Nothing is ready. Returns true if the host is to be left, false if there is something to do after all.
    pub(crate) fn wait(&mut self, run: &Rc<Run>, cx: &mut Context<'_>) -> bool {
        run.pool.trim(usize::MAX);
        let now = run.now();
        let next = run.state.borrow_mut().next_deadline();
        if next.is_some_and(|at| at <= now) {
            run.expire();
            return false;
        }
        let has_hooks = !run.is_system_clock || !run.blocked.borrow().is_empty();
        if !has_hooks {
            let until = next.map(|at| self.next_tick(at, now));
            return self.sleep(run, until, None, cx);
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

    /// When to wake for a deadline.
    fn next_tick(&mut self, at: Instant, now: Instant) -> Instant {
        self.last_tick = self.armed_at.filter(|armed_at| *armed_at <= now).or(self.last_tick);
        self.last_tick.map_or(at, |last| at.max(last + TICK))
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
        let steps = run.steps.get();
        if self.idle_since.is_some_and(|(_, since)| since != steps) {
            self.idle_since = None;
        }
        let idle = Idle {
            next_deadline: next,
            outside: match next {
                None => stats::waits_outside(run),
                Some(_) => run.state.borrow().outside,
            },
            busy: run.busy.get(),
            since: self.idle_since.map_or_else(OnceLock::new, |(since, _)| since.into()),
        };
        let decision = wake_blocked(run, &idle).unwrap_or_else(|| run.clock.on_idle(&idle));
        if matches!(decision, OnIdle::Wait(_)) {
            idle.since.get_or_init(real_now); // it counts from now at the latest
        }
        self.idle_since = idle.since.into_inner().map(|since| (since, steps));
        match decision {
            // A clock that stands still: whoever has a token may move it, or cancel somebody.
            OnIdle::Deadlock if stats::waits_outside(run) > 0 => OnIdle::Wait(None),
            decision => decision,
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
        if self.arm(run, until, cx) || !run.inbox.set_root(cx.waker()) {
            return false;
        }
        self.is_waiting = true;
        run.instrument(|i| {
            i.before_io_wait(
                limit.or_else(|| until.map(|at| at.saturating_duration_since(real_now()))),
            )
        });
        if !run.is_idle() {
            // The hook, or the clone of the host's waker, which is foreign too, has woken somebody.
            cx.waker().wake_by_ref();
        }
        true
    }

    /// Returns true if the time is up already.
    fn arm(&mut self, run: &Run, until: Option<Instant>, cx: &mut Context<'_>) -> bool {
        let old = std::mem::replace(&mut self.armed_at, until);
        if run.host.has_parker() {
            self.timer = None;
            run.host.wake_at(until);
            return until.is_some_and(|at| at <= real_now());
        }
        let Some(at) = until else {
            self.timer = None;
            return false;
        };
        let timer = self.timer.get_or_insert_with(|| async_io::Timer::at(at));
        if old != until {
            timer.set_at(at);
        }
        let is_up = Pin::new(timer).poll(cx).is_ready();
        if is_up {
            self.timer = None;
        }
        is_up
    }
}

/// Wakes the tasks in `wait_all_tasks_blocked` whose cushion is over: the smallest, all of them together.
fn wake_blocked(run: &Run, idle: &Idle) -> Option<OnIdle> {
    if run.blocked.borrow().is_empty() {
        return None;
    }
    {
        // Those that were dropped do not count.
        let state = run.state.borrow();
        run.blocked.borrow_mut().retain(|(_, wait)| state.has_wait(wait));
    }
    let smallest = run.blocked.borrow().iter().map(|&(cushion, _)| cushion).min()?;
    let quiet = idle.quiet();
    if quiet < smallest {
        return Some(OnIdle::Wait(Some(smallest - quiet)));
    }
    let mut due = Vec::new();
    run.blocked.borrow_mut().retain(|(cushion, wait)| {
        let is_due = *cushion == smallest;
        if is_due {
            due.push(wait.clone());
        }
        !is_due
    });
    run.change(|state, fx| {
        for wait in &due {
            state.wake_wait(wait, WaitState::Woken, fx);
        }
    });
    Some(OnIdle::Again)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An idler whose timer was armed for `armed_at`.
    fn armed(armed_at: Instant) -> Idler {
        Idler { armed_at: Some(armed_at), ..Idler::default() }
    }

    #[test]
    fn a_deadline_that_stands_alone_is_served_at_once() {
        let start = real_now();
        let at = start + Duration::from_micros(10);
        assert_eq!(Idler::default().next_tick(at, start), at);
        let now = start + TICK;
        assert_eq!(armed(start).next_tick(now + TICK, now), now + TICK);
    }

    #[test]
    fn dense_deadlines_wake_once_in_a_tick() {
        let start = real_now();
        let mut idler = armed(start);
        let now = start + Duration::from_micros(20);
        let soon = now + Duration::from_micros(5);
        assert_eq!(idler.next_tick(soon, now), start + TICK);
        // Woken earlier, by something else, it is still the same tick.
        idler.armed_at = Some(start + TICK);
        assert_eq!(idler.next_tick(soon, now), start + TICK);
    }
}
