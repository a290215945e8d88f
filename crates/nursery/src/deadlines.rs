//! The timers of a run: deadlines of entered scopes, and sleepers.
//!
//! A heap of `(instant, sequence number, target)`. Changing or removing a timer leaves its old entry in
//! the heap; an entry counts only while its target still carries the same sequence number, and the stale
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
//! few dozen steps. A timer can so start a little late, never early; under a virtual clock, where
//! running takes no time, the difference is nothing. A timeout around something that is ready at once
//! never reads the clock at all.
//!
//! # Invariants
//!
//! 1. Order is `(instant, sequence number)`: ties are settled by the order in which timers were set.
//! 2. `stale` is at least the number of entries whose target has gone or changed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use crate::tree::NodeId;
use crate::wait::WaitId;

/// When something is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Timer {
    #[default]
    Never,
    /// Counts from the next reading of the clock.
    After(Duration),
    At {
        at: Instant,
        seq: u64,
    },
}

/// Who is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Scope(NodeId),
    Sleeper(WaitId),
}

type Entry = Reverse<(Instant, u64, Target)>;

/// Up to this many stale entries are never worth a sweep.
const SWEEP_ABOVE: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    heap: BinaryHeap<Entry>,
    /// Targets whose timer is `After`: resolved at the next reading of the clock.
    fresh: Vec<Target>,
    next_seq: u64,
    stale: usize,
}

impl Deadlines {
    /// Registers `timer` for `target`, and returns what the target has to remember.
    pub(crate) fn set(&mut self, target: Target, timer: Timer) -> Timer {
        match timer {
            Timer::Never => Timer::Never,
            Timer::After(_) => {
                self.fresh.push(target);
                timer
            }
            Timer::At { at, .. } => self.arm(target, at),
        }
    }

    pub(crate) fn arm(&mut self, target: Target, at: Instant) -> Timer {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.heap.push(Reverse((at, seq, target)));
        Timer::At { at, seq }
    }

    /// Notes that a target with `timer` has gone or got another one.
    pub(crate) fn forget(&mut self, timer: Timer) {
        if matches!(timer, Timer::At { .. }) {
            self.stale += 1;
        }
    }

    pub(crate) fn take_fresh(&mut self) -> Vec<Target> {
        std::mem::take(&mut self.fresh)
    }

    /// Gives back the buffer of `take_fresh`.
    pub(crate) fn put_fresh_buffer(&mut self, mut buffer: Vec<Target>) {
        if self.fresh.is_empty() {
            buffer.clear();
            self.fresh = buffer;
        }
    }

    pub(crate) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.heap.is_empty() && self.fresh.is_empty()
    }

    /// Returns the earliest entry that `is_live`; drops stale ones on the way.
    pub(crate) fn peek(
        &mut self,
        is_live: impl Fn(Target, u64) -> bool,
    ) -> Option<(Instant, Target)> {
        while let Some(&Reverse((at, seq, target))) = self.heap.peek() {
            if is_live(target, seq) {
                return Some((at, target));
            }
            self.heap.pop();
            self.stale = self.stale.saturating_sub(1);
        }
        None
    }

    /// Removes the entry that `peek` returned. Its target must be made stale by the caller.
    pub(crate) fn pop(&mut self) {
        self.heap.pop();
    }

    /// Drops the stale entries if they outnumber the live ones.
    pub(crate) fn sweep(&mut self, is_live: impl Fn(Target, u64) -> bool) {
        if self.stale > SWEEP_ABOVE && self.stale * 2 > self.heap.len() {
            self.heap.retain(|&Reverse((_, seq, target))| is_live(target, seq));
            self.stale = 0;
        }
    }

    /// The number of entries, stale ones included.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}
