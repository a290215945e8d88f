//! The only source of time: [`Clock`], and [`SystemClock`], the one that runs outside tests use.

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Tells a run the time, and decides what to do when every task waits.
///
/// All deadlines, timeouts and sleeps of a run are measured by its clock, given to
/// [`Builder::clock`](crate::Builder::clock). A virtual clock stands still while tasks run and moves in
/// [`on_idle`](Clock::on_idle): `nursery-testing` has one that jumps to the next deadline.
///
/// # Examples
///
/// A clock on which every wait is over at once:
///
/// ```
/// use std::cell::Cell;
/// use std::time::{Duration, Instant};
/// use nursery::{Builder, Cancelled, Clock, Idle, OnIdle, now, sleep};
///
/// struct Jumping(Cell<Instant>);
///
/// impl Clock for Jumping {
///     fn now(&self) -> Instant { self.0.get() }
///     fn on_idle(&self, idle: &Idle) -> OnIdle {
///         match idle.next_deadline() {
///             Some(next) => { self.0.set(next); OnIdle::Again }
///             None => OnIdle::Wait(None),
///         }
///     }
/// }
///
/// # #[expect(clippy::disallowed_methods)]
/// let clock = Jumping(Cell::new(Instant::now()));
/// Builder::new().clock(clock).run(async {
///     let before = now();
///     sleep(Duration::from_secs(3600)).await?;
///     assert_eq!(now() - before, Duration::from_secs(3600));
///     Ok::<(), Cancelled>(())
/// })?;
/// # Ok::<(), Cancelled>(())
/// ```
pub trait Clock {
    /// Called once, when the run begins.
    fn start(&self) {}

    /// Returns the time. Must never go back.
    fn now(&self) -> Instant;

    /// Called when no task can run: says whether to wait in real time, or to go on because time has moved.
    ///
    /// It may cancel scopes and set events; the run looks again afterwards.
    fn on_idle(&self, idle: &Idle) -> OnIdle {
        OnIdle::Wait(idle.next_deadline().map(|at| at.saturating_duration_since(self.now())))
    }
}

/// What [`Clock::on_idle`] can know of the run.
#[derive(Debug)]
#[non_exhaustive]
pub struct Idle {
    pub(crate) next_deadline: Option<Instant>,
    pub(crate) outside: usize,
    pub(crate) busy: usize,
    /// When the run fell idle, in real time: read when it is first asked for.
    pub(crate) since: OnceLock<Instant>,
}

impl Idle {
    /// Returns the earliest deadline of a scope or sleeper, on this clock.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.next_deadline
    }

    /// Returns how many waits are for something outside the run: a socket, a thread, a signal, a foreign
    /// future, somebody with a [`Token`](crate::lowlevel::Token).
    ///
    /// With none of them and no deadline, no task will ever run again.
    #[must_use]
    pub fn outside(&self) -> usize {
        self.outside
    }

    /// Returns how much goes on outside that will come back to the run, above all threads that work for it: see
    /// [`lowlevel::busy`](crate::lowlevel::busy). A virtual clock waits for them.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.busy
    }

    /// Returns for how long, in real time, no task has run.
    #[must_use]
    pub fn quiet(&self) -> Duration {
        match self.since.get() {
            Some(&since) => real_now().saturating_duration_since(since),
            None => {
                self.since.get_or_init(real_now);
                Duration::ZERO
            }
        }
    }
}

/// What the run is to do when every task waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnIdle {
    /// Sleep until something wakes the run, but at most for this real time; then ask again.
    Wait(Option<Duration>),
    /// Look again at once: the time has moved.
    Again,
    /// Nothing will ever happen again: end the run with a panic that prints the tree.
    Deadlock,
}

/// The system's monotonic clock.
///
/// Nothing is woken early. A deadline that stands alone is served when it is due; where deadlines are dense, the thread
/// wakes for them at most every millisecond, and serves them together.
#[derive(Clone, Copy, Default)]
pub struct SystemClock {
    _private: (),
}

impl SystemClock {
    /// Makes the clock. All are the same.
    #[must_use]
    pub fn new() -> Self {
        SystemClock::default()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        real_now()
    }
}

impl fmt::Debug for SystemClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemClock")
    }
}

/// Real time, whatever the run's clock says: for cushions and graces, which are about the outside world.
#[expect(clippy::disallowed_methods, reason = "the one place where time enters")]
pub(crate) fn real_now() -> Instant {
    Instant::now()
}
