//! The timers of a run: deadlines of entered scopes, and sleepers.
//!
//! A queue of `(instant, sequence number, target)`. Changing or removing a timer leaves its old entry in
//! the queue; an entry counts only while its target still carries the same sequence number, and the stale
//! ones are swept when they outnumber the rest.
//!
//! ```text
//!  Never ──1──▶ After(d) ──2──▶ At(instant) ──3──▶ fired       1 set relative   2 the clock is read
//!    └────────────4───────────────▲                             3 expire         4 set absolute
//! ```
//!
//! # Why a relative time waits for the next reading of the clock
//!
//! Reading the clock costs more than everything else a timeout does. So `After(d)` is put on a list, and
//! counts from the first time that anybody reads the clock afterwards, which the run does at least every
//! few dozen steps. A timer can so start a little late, never early. A timeout around something that is ready
//! at once never reads the clock at all. A virtual clock, which may be moved by hand in the same step, is
//! read as soon as the time limit is set.
//!
//! # Invariants
//!
//! 1. Order is `(instant, sequence number)`: ties are settled by the order in which timers were set.
//! 2. `stale` is at least the number of entries whose target has gone or changed.

mod queue;

use std::time::{Duration, Instant};

use crate::deadlines::queue::{Entry, Queue};
use crate::nursery::erase::Task;
use crate::run::context::Deferred;
use crate::tree::NodeId;
use crate::wait::Waiter;
use crate::wait::apart::WaitId;

/// A time limit, as users give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Never,
    /// From the first poll on.
    Timeout(Duration),
    At(Instant),
}

/// Nanoseconds since the run was made: half the size of an `Instant`.
pub(crate) type Tick = u64;

/// When something is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Timer {
    #[default]
    Never,
    /// Nanoseconds, which count from the next reading of the clock.
    After {
        after: Tick,
        seq: u32,
    },
    At {
        at: Tick,
        seq: u32,
    },
}

impl Timer {
    /// Which one it is of all that were set.
    pub(crate) fn seq(self) -> Option<u32> {
        match self {
            Timer::Never => None,
            Timer::After { seq, .. } | Timer::At { seq, .. } => Some(seq),
        }
    }
}

/// Who is to be told.
pub(crate) enum Target {
    Scope(NodeId),
    /// The wait in the cell of this task. A stale entry keeps the memory of a task that has ended until it is swept.
    Sleeper(Task),
    Apart(WaitId),
}

/// Up to this many stale entries are never worth a sweep.
const SWEEP_ABOVE: usize = 64;

pub(crate) struct Deadlines {
    epoch: Instant,
    queue: Queue<Target>,
    /// Targets whose timer is `After`: resolved at the next reading of the clock.
    fresh: Vec<(Target, u32)>,
    /// With so many fresh targets, those that have gone are swept.
    sweep_fresh_at: usize,
    next_seq: u32,
    stale: usize,
    /// The buffers of [`take_due`](Self::take_due).
    due: Due,
}

/// What is due, with the number of its timer, stale entries included; and room for the sleepers among it.
#[derive(Default)]
pub(crate) struct Due {
    pub(crate) targets: Vec<(Target, u32)>,
    pub(crate) sleepers: Vec<Waiter>,
}

impl Deadlines {
    pub(crate) fn new(epoch: Instant) -> Self {
        Deadlines {
            epoch,
            queue: Queue::default(),
            fresh: Vec::new(),
            sweep_fresh_at: SWEEP_ABOVE,
            next_seq: 0,
            stale: 0,
            due: Due::default(),
        }
    }

    /// What is before the epoch is due at once.
    pub(crate) fn tick(&self, at: Instant) -> Tick {
        nanos(at.saturating_duration_since(self.epoch))
    }

    pub(crate) fn instant(&self, tick: Tick) -> Option<Instant> {
        self.epoch.checked_add(Duration::from_nanos(tick))
    }

    /// Registers `limit` for `target`, and returns what the target has to remember.
    #[inline(always)]
    pub(crate) fn set(&mut self, target: Target, limit: Limit) -> Timer {
        match limit {
            Limit::Never => Timer::Never,
            Limit::Timeout(after) => self.set_after(target, nanos(after)),
            Limit::At(at) => self.arm(target, self.tick(at)),
        }
    }

    /// The same, of one that was deferred.
    #[inline(always)]
    pub(crate) fn set_deferred(&mut self, target: Target, deferred: &Deferred) -> Timer {
        if deferred.is_after {
            self.set_after(target, deferred.tick)
        } else {
            self.arm(target, deferred.tick)
        }
    }

    /// The same, of a relative one.
    #[inline(always)]
    fn set_after(&mut self, target: Target, after: Tick) -> Timer {
        let seq = self.number();
        self.fresh.push((target, seq));
        Timer::After { after, seq }
    }

    /// Returns what becomes of a relative timer that counts from `now`. It is to be [put](Self::put) into the queue.
    pub(crate) fn resolve(&mut self, after: Tick, now: Instant) -> Timer {
        self.timer_at(self.tick(now).saturating_add(after))
    }

    fn timer_at(&mut self, at: Tick) -> Timer {
        match at {
            Tick::MAX => Timer::Never, // in 584 years
            at => Timer::At { at, seq: self.number() },
        }
    }

    /// Adds a timer to the queue.
    #[inline(always)]
    pub(crate) fn put(&mut self, target: Target, timer: Timer) {
        if let Timer::At { at, seq } = timer {
            self.queue.push(Entry { at, seq, target });
        }
    }

    #[inline(always)]
    fn arm(&mut self, target: Target, at: Tick) -> Timer {
        let timer = self.timer_at(at);
        self.put(target, timer);
        timer
    }

    fn number(&mut self) -> u32 {
        let seq = self.next_seq;
        self.next_seq = seq.wrapping_add(1);
        seq
    }

    /// Registers a timer for another target than before.
    pub(crate) fn hand_on(&mut self, timer: Timer, target: Target) -> Timer {
        match timer {
            Timer::Never => Timer::Never,
            Timer::After { after, .. } => {
                self.set(target, Limit::Timeout(Duration::from_nanos(after)))
            }
            Timer::At { at, .. } => {
                self.stale += 1;
                self.arm(target, at)
            }
        }
    }

    /// Notes that an entry stands for nothing any more. Returns whether it is time to [sweep](Self::sweep).
    #[inline]
    pub(crate) fn forget(&mut self) -> bool {
        self.stale += 1;
        self.stale > SWEEP_ABOVE && self.stale * 2 > self.queue.len()
    }

    pub(crate) fn take_fresh(&mut self) -> Vec<(Target, u32)> {
        std::mem::take(&mut self.fresh)
    }

    /// Gives back the buffer of `take_fresh`, empty.
    pub(crate) fn put_fresh_buffer(&mut self, buffer: Vec<(Target, u32)>) {
        if self.fresh.is_empty() {
            self.fresh = buffer;
        }
    }

    /// Takes out what is due at `now`. The caller makes the targets stale.
    pub(crate) fn take_due(&mut self, now: Instant) -> Due {
        let now = self.tick(now);
        let mut due = std::mem::take(&mut self.due);
        while self.queue.peek().is_some_and(|entry| entry.at <= now) {
            due.targets.extend(self.queue.pop().map(|entry| (entry.target, entry.seq)));
        }
        due
    }

    /// Gives back the buffers of `take_due`, empty.
    pub(crate) fn put_due_buffers(&mut self, due: Due) {
        self.due = due;
    }

    pub(crate) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.fresh.is_empty()
    }

    /// Is an entry of this tick due?
    pub(crate) fn is_due(&self, at: Tick, now: Instant) -> bool {
        at <= self.tick(now)
    }

    /// May something be due? Stale entries count.
    pub(crate) fn is_any_due(&self, now: Instant) -> bool {
        self.queue.peek().is_some_and(|entry| self.is_due(entry.at, now))
    }

    /// An entry that was taken out stood for nothing.
    pub(crate) fn one_was_stale(&mut self) {
        self.stale = self.stale.saturating_sub(1);
    }

    /// Returns when the earliest entry that `is_live` is due.
    pub(crate) fn next(&mut self, is_live: impl Fn(&Target, u32) -> bool) -> Option<Instant> {
        loop {
            let entry = self.queue.peek()?;
            if is_live(&entry.target, entry.seq) {
                return self.instant(entry.at);
            }
            self.queue.pop();
            self.one_was_stale();
        }
    }

    /// Is it time to [sweep the fresh targets](Self::sweep_fresh)?
    #[inline]
    pub(crate) fn has_many_fresh(&self) -> bool {
        self.fresh.len() >= self.sweep_fresh_at
    }

    /// Drops fresh targets that have gone: a task may enter any number of time limits in one step.
    pub(crate) fn sweep_fresh(&mut self, is_fresh: impl Fn(&Target, u32) -> bool) {
        self.fresh.retain(|(target, seq)| is_fresh(target, *seq));
        self.sweep_fresh_at = SWEEP_ABOVE.max(self.fresh.len() * 2);
    }

    /// Drops the stale entries.
    #[cold]
    pub(crate) fn sweep(&mut self, is_live: impl Fn(&Target, u32) -> bool) {
        self.queue.retain(|entry| is_live(&entry.target, entry.seq));
        self.stale = 0;
    }

    /// The number of entries, stale ones included.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}

/// Nanoseconds; the longest, if there are too many.
pub(crate) fn nanos(duration: Duration) -> Tick {
    Tick::try_from(duration.as_nanos()).unwrap_or(Tick::MAX)
}

#[cfg(test)]
mod tests {
    use std::panic::Location;

    use super::*;
    use crate::clock::real_now;
    use crate::tree::{Kind, Node, State};

    fn scope(state: &mut State) -> NodeId {
        state.insert(None, Node::new(Kind::Scope(Timer::Never), Location::caller()))
    }

    /// Trio's `test_cancel_scope_deadline_duplicates`.
    #[test]
    fn a_deadline_that_is_set_again_and_again_leaves_few_stale_entries() {
        let epoch = real_now();
        let mut state = State::new(epoch);
        let changing = scope(&mut state);
        let steady = scope(&mut state);
        state.set_limit(steady, Limit::At(epoch + Duration::from_secs(5)));
        for i in 0..10_000 {
            state.set_limit(changing, Limit::At(epoch + Duration::from_secs(10 + i % 7)));
            assert!(state.deadlines.len() <= 2 * SWEEP_ABOVE + 2, "{}", state.deadlines.len());
        }
        // And with a scope of its own each time.
        for i in 0..10_000 {
            let id = scope(&mut state);
            state.set_limit(id, Limit::At(epoch + Duration::from_secs(10 + i % 7)));
            state.remove(id);
            assert!(state.deadlines.len() <= 2 * SWEEP_ABOVE + 2, "{}", state.deadlines.len());
        }
        assert_eq!(state.next_deadline(), Some(epoch + Duration::from_secs(5)));
        state.remove(steady);
        state.remove(changing);
        assert_eq!(state.next_deadline(), None);
        assert_eq!(state.deadlines.len(), 0);
    }

    /// Set again before anybody has read the clock, it counts from when it was set last.
    #[test]
    fn timers_that_are_due_together_come_in_the_order_in_which_they_were_set() {
        let start = real_now();
        let mut state = State::new(start);
        let again = scope(&mut state);
        let steady = scope(&mut state);
        for id in [again, steady, again] {
            state.set_limit(id, Limit::Timeout(Duration::from_secs(5)));
        }
        state.resolve(start);
        let due = state.deadlines.take_due(start + Duration::from_secs(5)).targets;
        assert!(matches!(
            &due[..],
            [(Target::Scope(first), _), (Target::Scope(second), _)] if (*first, *second) == (steady, again)
        ));
    }

    /// A task may enter any number of time limits in one step, before anybody reads the clock.
    #[test]
    fn time_limits_that_come_and_go_in_one_step_leave_few_targets() {
        let mut state = State::new(real_now());
        let kept = scope(&mut state);
        state.set_limit(kept, Limit::Timeout(Duration::from_secs(5)));
        for _ in 0..10_000 {
            let id = scope(&mut state);
            state.set_limit(id, Limit::Timeout(Duration::from_secs(10)));
            state.remove(id);
            assert!(state.deadlines.fresh.len() <= SWEEP_ABOVE, "{}", state.deadlines.fresh.len());
        }
        let is_kept = |target: &Target| matches!(target, Target::Scope(id) if *id == kept);
        assert!(state.deadlines.fresh.iter().any(|(target, _)| is_kept(target)));
    }
}
