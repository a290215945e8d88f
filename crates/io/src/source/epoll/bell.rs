//! [`Bell`]: what wakes a thread that waits in the epoll of its run, beside its sockets: other threads, and a deadline.
//!
//! ```text
//!            ┌──────────1──────────┐
//!            ▼                     │           1 park: falls asleep   2 awake again
//!         asleep ───────2───────▶ awake        3 rung: the thread is woken by an event
//!            └───3──▶ rung ──2──────▲          4 rung while it is awake: it will not fall asleep
//!                       ▲           │
//!                       └─────4─────┘
//! ```

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use nursery::lowlevel::Parker;
use nursery::{Clock as _, SystemClock};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::source::epoll::driver;

/// An event's data: no socket's key.
const NO_SOCKET: EventData = EventData::new_u64(0);

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const RUNG: u8 = 2;

/// At the run's end of it.
pub(super) struct Bell {
    rope: Arc<Rope>,
    timer: OwnedFd,
    /// When the timer will report, or has reported.
    timer_at: Cell<Option<Instant>>,
}

/// What any thread may pull.
struct Rope {
    state: AtomicU8,
    event: OwnedFd,
}

impl Bell {
    pub(super) fn new(epoll: &OwnedFd) -> io::Result<Rc<Bell>> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // Edges are reported: neither has ever to be read.
        for fd in [&event, &timer] {
            epoll::add(epoll, fd, NO_SOCKET, EventFlags::IN | EventFlags::ET)?;
        }
        let rope = Arc::new(Rope { state: AtomicU8::new(AWAKE), event });
        Ok(Rc::new(Bell { rope, timer, timer_at: Cell::new(None) }))
    }

    /// How long the thread may wait in the epoll: not at all, or until something is reported. It is asleep from now on.
    fn fall_asleep(&self, until: Option<Instant>, now: Instant) -> Option<Timespec> {
        let is_quiet = until.is_none_or(|at| at > now) && self.rope.fall_asleep();
        if !is_quiet {
            return Some(Timespec::default());
        }
        if let Some(at) = until {
            self.set_timer(at, now);
        }
        None
    }

    /// Makes the timer report at that time.
    fn set_timer(&self, at: Instant, now: Instant) {
        if self.timer_at.replace(Some(at)) == Some(at) {
            return; // it will, as it has not yet
        }
        let it_value = timespec(at - now);
        let once = Itimerspec { it_interval: Timespec::default(), it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)
            .expect("a timer of ours takes any time to come");
    }
}

impl Parker for Bell {
    fn park(&self, until: Option<Instant>) {
        driver::look_at_all(|| self.fall_asleep(until, SystemClock::new().now()));
        self.rope.state.store(AWAKE, Ordering::SeqCst);
    }

    fn unparker(&self) -> Waker {
        self.rope.clone().into()
    }
}

impl Rope {
    /// Returns false if the bell has been rung, which is heard so.
    fn fall_asleep(&self) -> bool {
        let asleep = self.state.compare_exchange(AWAKE, ASLEEP, Ordering::SeqCst, Ordering::SeqCst);
        asleep.is_ok()
    }
}

impl Wake for Rope {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(RUNG, Ordering::SeqCst) == ASLEEP {
            // If it is full, it has been rung.
            let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
