//! [`MockClock`]: time that stands still, runs at any rate, is moved by hand, or jumps to the next deadline.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nursery::{Clock, Idle, OnIdle};

/// A clock for tests.
///
/// It stands still until it is moved: by [`jump`](Self::jump), by running at a [rate](Self::set_rate) of real time, or,
/// with an [autojump threshold](Self::set_autojump_threshold), by itself: when every task has waited for that long in
/// real time, it jumps to the next deadline. All of it can be changed at any time; clones are handles of one clock.
///
/// Two refinements of what trio's clock does: while something *outside* the run is waited for (a socket, a thread, a
/// foreign future), an autojump leaves it the [grace](Self::set_grace) to happen first, and while threads *work* for the
/// run (`nursery_io::thread`, [`lowlevel::busy`](nursery::lowlevel::busy)) it does not jump at all; and a run in which
/// nothing can ever happen again ends at once, instead of hanging, with a panic that shows the tree of its tasks, and those
/// that wait for each other in a circle.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use nursery::{Builder, Cancelled, now, sleep};
/// use nursery_testing::MockClock;
///
/// Builder::new().clock(MockClock::autojump()).run(async {
///     let start = now();
///     sleep(Duration::from_secs(86_400)).await?; // no real time passes
///     assert_eq!(now() - start, Duration::from_secs(86_400));
///     Ok::<(), Cancelled>(())
/// })?;
/// # Ok::<(), Cancelled>(())
/// ```
#[derive(Clone)]
pub struct MockClock(Rc<Inner>);

struct Inner {
    /// The clock's time at `real`.
    time: Cell<Instant>,
    /// When `time` was last brought up to date, if the clock runs.
    real: Cell<Instant>,
    /// Clock seconds per real second.
    rate: Cell<f64>,
    threshold: Cell<Option<Duration>>,
    grace: Cell<Duration>,
    start: Instant,
}

/// The outside world's default share of real time before an autojump.
const GRACE: Duration = Duration::from_millis(10);

impl MockClock {
    /// Makes a clock that stands still.
    #[must_use]
    pub fn new() -> Self {
        let start = real_now();
        MockClock(Rc::new(Inner {
            time: Cell::new(start),
            real: Cell::new(start),
            rate: Cell::new(0.0),
            threshold: Cell::new(None),
            grace: Cell::new(GRACE),
            start,
        }))
    }

    /// Makes a clock that jumps to the next deadline as soon as every task waits.
    #[must_use]
    pub fn autojump() -> Self {
        let clock = MockClock::new();
        clock.set_autojump_threshold(Some(Duration::ZERO));
        clock
    }

    /// Moves the clock forward. Deadlines that pass are noticed in the next turn.
    pub fn jump(&self, by: Duration) {
        self.update();
        self.0.time.set(self.0.time.get() + by);
    }

    /// Returns how many seconds of this clock pass in one real second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.0.rate.get()
    }

    /// Sets how many seconds of this clock pass in one real second: 0 stands still. The time stays continuous.
    ///
    /// # Panics
    ///
    /// If `rate` is negative or not a finite number.
    #[track_caller]
    pub fn set_rate(&self, rate: f64) {
        assert!(
            rate.is_finite() && rate >= 0.0,
            "the rate of a `MockClock` is at least 0 and finite, not {rate}: time does not go back"
        );
        self.update();
        self.0.real.set(real_now());
        self.0.rate.set(rate);
    }

    /// Returns the autojump threshold.
    #[must_use]
    pub fn autojump_threshold(&self) -> Option<Duration> {
        self.0.threshold.get()
    }

    /// Sets for how long, in real time, every task must have waited before the clock jumps. `None`: it never does.
    pub fn set_autojump_threshold(&self, threshold: Option<Duration>) {
        self.0.threshold.set(threshold);
    }

    /// Returns the grace.
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.0.grace.get()
    }

    /// Sets how long, in real time, an autojump holds back while the run waits for something outside. Default: 10 ms.
    pub fn set_grace(&self, grace: Duration) {
        self.0.grace.set(grace);
    }

    /// Returns the time since the clock was made, on this clock.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now() - self.0.start
    }

    /// Brings `time` up to date, so that a new rate or a jump counts from now.
    fn update(&self) {
        let rate = self.0.rate.get();
        if rate > 0.0 {
            let now = real_now();
            let passed = now.saturating_duration_since(self.0.real.replace(now));
            self.0.time.set(self.0.time.get() + passed.mul_f64(rate));
        }
    }

    /// The real time until `next`, if the clock runs.
    fn real_time_until(&self, next: Option<Instant>) -> Option<Duration> {
        let rate = self.0.rate.get();
        let left = next?.saturating_duration_since(self.now());
        if left.is_zero() {
            return Some(Duration::ZERO);
        }
        (rate > 0.0).then(|| Duration::try_from_secs_f64(left.as_secs_f64() / rate).ok()).flatten()
    }
}

impl Clock for MockClock {
    fn now(&self) -> Instant {
        if self.0.rate.get() > 0.0 {
            self.update();
        }
        self.0.time.get()
    }

    fn on_idle(&self, idle: &Idle) -> OnIdle {
        let next = idle.next_deadline();
        let runs = self.0.rate.get() > 0.0 && next.is_some();
        let threshold = self.0.threshold.get();
        if idle.busy() > 0 {
            return OnIdle::Wait(self.real_time_until(next).filter(|_| runs));
        }
        if idle.outside() == 0 && !runs && (next.is_none() || threshold.is_none()) {
            return OnIdle::Deadlock;
        }
        let (Some(threshold), Some(deadline)) = (threshold, next) else {
            return OnIdle::Wait(self.real_time_until(next));
        };
        let grace = if idle.outside() > 0 { self.0.grace.get() } else { Duration::ZERO };
        let left = match threshold.max(grace) {
            Duration::ZERO => Duration::ZERO,
            threshold => threshold.saturating_sub(idle.quiet()),
        };
        if !left.is_zero() {
            return OnIdle::Wait(Some(
                self.real_time_until(next).map_or(left, |wait| wait.min(left)),
            ));
        }
        self.update();
        self.0.time.set(self.0.time.get().max(deadline));
        OnIdle::Again
    }
}

impl Default for MockClock {
    fn default() -> Self {
        MockClock::new()
    }
}

impl fmt::Debug for MockClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockClock")
            .field("elapsed", &self.elapsed())
            .field("rate", &self.rate())
            .field("autojump_threshold", &self.autojump_threshold())
            .finish()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "virtual time begins somewhere, and may run at a rate of the real one"
)]
fn real_now() -> Instant {
    Instant::now()
}
