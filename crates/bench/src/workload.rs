//! [`Workload`]: one thing to do, who does it, what is measured of it and what we want to reach.

use std::time::Duration;

/// The peer that all others are compared with.
pub(crate) const NURSERY: &str = "nursery";

/// One thing to do, in as many ways as there are rows.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) metrics: &'static [Metric],
    pub(crate) rows: &'static [Row],
    /// One run takes about a second whatever the size: it gets fewer rounds.
    pub(crate) is_slow: bool,
}

/// One figure of a workload; less is better.
pub(crate) struct Metric {
    /// Which of the workload's figures; empty if it is the only one.
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) targets: &'static [Target],
}

impl Metric {
    /// The only figure of a workload.
    pub(crate) const fn only(unit: &'static str, targets: &'static [Target]) -> Self {
        Metric { name: "", unit, targets }
    }
}

/// What nursery wants to reach.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// The peer's figure is at least this many times ours.
    Ratio(&'static str, f64),
    /// Our figure is at most this.
    AtMost(f64),
}

impl Target {
    /// Returns the peer in whose row the target is shown.
    pub(crate) fn peer(self) -> &'static str {
        match self {
            Target::Ratio(peer, _) => peer,
            Target::AtMost(_) => NURSERY,
        }
    }
}

/// One peer's way to do a workload.
pub(crate) struct Row {
    pub(crate) peer: &'static str,
    /// Does it once, and returns one figure for each metric. Panics if it was not done.
    pub(crate) run: fn(Size) -> Vec<f64>,
}

/// Makes a row.
pub(crate) const fn row(peer: &'static str, run: fn(Size) -> Vec<f64>) -> Row {
    Row { peer, run }
}

/// How much of it is done in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// Just enough to see that it works.
    Tiny,
    /// To warm up: as many tasks at a time as ever, but fewer of them.
    Warm,
    Quick,
    Full,
}

impl Size {
    /// Scales the number of operations.
    pub(crate) fn of(self, full: usize) -> usize {
        match self {
            Size::Tiny => (full / 1000).max(2),
            Size::Warm => (full / 40).max(2),
            Size::Quick => (full / 4).max(2),
            Size::Full => full,
        }
    }

    /// A number that belongs to the workload, and is smaller only to see that it works.
    pub(crate) fn fixed(self, number: usize) -> usize {
        if self == Size::Tiny { number.min(4) } else { number }
    }
}

/// Nanoseconds per operation.
#[expect(clippy::cast_precision_loss, reason = "a mean needs no more digits")]
pub(crate) fn per_op(elapsed: Duration, operations: usize) -> f64 {
    elapsed.as_nanos() as f64 / operations as f64
}
