//! The watch by which rows are timed: the clock on the wall, or the CPU time of the process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Set once, before anything is measured.
static SHOWS_CPU_TIME: AtomicBool = AtomicBool::new(false);

/// From now on every [`Stopwatch`] shows the CPU time of all threads: for machines on which others work, too.
pub(crate) fn show_cpu_time() {
    SHOWS_CPU_TIME.store(true, Ordering::Relaxed);
}

/// A watch that runs.
#[derive(Clone, Copy)]
pub(crate) enum Stopwatch {
    Wall(Instant),
    Cpu(Duration),
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        if SHOWS_CPU_TIME.load(Ordering::Relaxed) {
            Stopwatch::Cpu(cpu_time(ClockId::ProcessCPUTime))
        } else {
            Stopwatch::Wall(Instant::now())
        }
    }

    pub(crate) fn elapsed(self) -> Duration {
        match self {
            Stopwatch::Wall(start) => start.elapsed(),
            Stopwatch::Cpu(start) => cpu_time(ClockId::ProcessCPUTime) - start,
        }
    }
}

/// Returns the CPU time of a thread or the process.
pub(crate) fn cpu_time(clock: ClockId) -> Duration {
    clock_gettime(clock).try_into().expect("not before its start")
}
