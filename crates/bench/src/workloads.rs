//! All workloads, in the order in which they are shown. One file each: all peers side by side, and the same work.

mod cancel;
mod channel;
mod checkpoint;
mod depth;
mod echo;
#[cfg(feature = "alloc")]
mod memory;
mod mutex;
mod race;
mod sleeps;
mod spawn;
mod timeout;
mod yields;

use crate::workload::Workload;

/// Returns what this build measures.
pub(crate) fn all() -> &'static [Workload] {
    if COUNTED.is_empty() { TIMED } else { COUNTED }
}

/// What is measured in time.
const TIMED: &[Workload] = &[
    spawn::MANY,
    spawn::TWO,
    yields::WORKLOAD,
    cancel::WORKLOAD,
    timeout::YIELD,
    timeout::READY,
    checkpoint::WORKLOAD,
    channel::ONE,
    channel::FOUR,
    channel::PING_PONG,
    mutex::WORKLOAD,
    depth::ONE,
    depth::EIGHT,
    depth::SIXTY_FOUR,
    race::WORKLOAD,
    sleeps::VIRTUAL,
    echo::WORKLOAD,
    sleeps::REAL,
];

/// What is measured in bytes, in a build of its own: counting them takes time.
const COUNTED: &[Workload] = &[
    #[cfg(feature = "alloc")]
    memory::WORKLOAD,
];

#[cfg(test)]
mod tests {
    use super::{COUNTED, TIMED};
    use crate::workload::Size;

    #[test]
    fn every_row_does_its_work() {
        for workload in TIMED.iter().chain(COUNTED) {
            for row in workload.rows {
                let figures = (row.run)(Size::Tiny);
                let name = format!("{}: {}", workload.name, row.peer);
                assert_eq!(figures.len(), workload.metrics.len(), "{name}");
                assert!(figures.iter().all(|figure| figure.is_finite()), "{name}: {figures:?}");
            }
        }
    }

    #[test]
    fn every_target_is_about_a_row() {
        for workload in TIMED.iter().chain(COUNTED) {
            for target in workload.metrics.iter().flat_map(|metric| metric.targets) {
                let peers: Vec<_> = workload.rows.iter().map(|row| row.peer).collect();
                assert!(peers.contains(&target.peer()), "{}: {}", workload.name, target.peer());
            }
        }
    }
}
