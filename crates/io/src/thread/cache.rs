//! The threads, and those of them that are kept for the next job.
//!
//! ```text
//!            ┌───────────────────4────────────────────┐
//!            ▼                                        │
//!  ──1──▶ working ──2──▶ in the list of idle ones ──3─┴─▶ taken out: a job is on its way
//!                                  └──5──▶ ended
//! ```
//!
//! 1. Nobody is idle when a job comes.
//! 2. *Before* it delivers the result, so that whoever waits for that can have the same thread.
//! 3. The one that came last: the others may end.
//! 4. With the job.
//! 5. When it was idle for long; decided under the lock of the list, by whether it is still in it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SendError, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// What is to be done by a thread: the work, with all that it holds, and then the delivery of its result. The
/// work must not panic.
pub(crate) type Job = Box<dyn FnOnce() -> Delivery + Send>;
pub(crate) type Delivery = Box<dyn FnOnce() + Send>;
type Body = Box<dyn FnOnce() + Send>;

/// The name of a thread that is idle. (Linux shows 15 bytes.)
pub(crate) const IDLE_NAME: &str = "nursery idle";

/// The threads of all runs of the process.
pub(crate) static CACHE: Cache = Cache::new(Duration::from_secs(10), spawn);

pub(crate) struct Cache {
    /// The last is taken first.
    idle: Mutex<Vec<Idle>>,
    /// How long a thread stays idle.
    keep: Duration,
    spawn: fn(Body) -> io::Result<()>,
}

struct Idle {
    id: u64,
    next: Sender<Job>,
}

fn spawn(body: Body) -> io::Result<()> {
    thread::Builder::new().name(IDLE_NAME.into()).spawn(body).map(drop)
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics under these locks but an allocation, which aborts.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cache {
    pub(crate) const fn new(keep: Duration, spawn: fn(Body) -> io::Result<()>) -> Self {
        Cache { idle: Mutex::new(Vec::new()), keep, spawn }
    }

    /// Has a thread do `job`: an idle one, or else a new one.
    pub(crate) fn start(&'static self, mut job: Job) -> io::Result<()> {
        while let Some(idle) = self.take_idle() {
            match idle.next.send(job) {
                Ok(()) => return Ok(()),
                Err(SendError(back)) => job = back, // it died: something panicked when it was dropped
            }
        }
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let (next, jobs) = mpsc::channel();
        (self.spawn)(Box::new(move || self.work(id, job, &next, &jobs)))
    }

    fn take_idle(&self) -> Option<Idle> {
        lock(&self.idle).pop()
    }

    fn work(&self, id: u64, mut job: Job, next: &Sender<Job>, jobs: &Receiver<Job>) {
        loop {
            let delivery = job();
            lock(&self.idle).push(Idle { id, next: next.clone() });
            // The panic has been reported by the hook; nobody waits for it.
            drop(catch_unwind(AssertUnwindSafe(delivery)));
            let Some(next) = self.next_job(id, jobs) else { return };
            job = next;
        }
    }

    /// Waits for a job; not for long.
    fn next_job(&self, id: u64, jobs: &Receiver<Job>) -> Option<Job> {
        if let Ok(job) = jobs.recv_timeout(self.keep) {
            return Some(job);
        }
        {
            let mut idle = lock(&self.idle);
            if let Some(at) = idle.iter().position(|other| other.id == id) {
                idle.remove(at);
                return None;
            }
        }
        jobs.recv().ok() // somebody was faster, and is about to send it
    }
}

/// Names the current thread, as the system and its debuggers show it.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn set_name(name: &str) {
    let bytes: Vec<u8> = name.bytes().filter(|&byte| byte != 0).take(15).collect();
    if let Ok(name) = std::ffi::CString::new(bytes) {
        // It is for people only.
        let _shown = rustix::thread::set_name(&name).is_ok();
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn set_name(_name: &str) {}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::thread::ThreadId;

    use super::*;

    /// Keeps its threads; each test has its own.
    fn cache(keep: Duration) -> &'static Cache {
        Box::leak(Box::new(Cache::new(keep, spawn)))
    }

    const LONG: Duration = Duration::from_secs(3600);

    /// Starts a job that returns `value`, and returns where it is delivered, by which thread.
    fn start<T: Send + 'static>(cache: &'static Cache, value: T) -> Receiver<(T, ThreadId)> {
        let (tx, rx) = mpsc::channel();
        let job = move || -> Delivery {
            Box::new(move || tx.send((value, thread::current().id())).expect("the test listens"))
        };
        cache.start(Box::new(job)).unwrap();
        rx
    }

    /// `thread_cache_basics`, `spawning_new_thread_from_deliver_reuses_starting_thread`
    #[test]
    fn a_thread_is_idle_before_it_delivers_so_the_next_job_has_it() {
        let cache = cache(LONG);
        let (value, first) = start(cache, 1).recv().unwrap();
        assert_eq!(value, 1);
        for i in 0..100 {
            assert_eq!(start(cache, i).recv().unwrap(), (i, first));
        }
        // Also one that is started by the delivery itself.
        let (tx, rx) = mpsc::channel();
        let job = move || -> Delivery {
            Box::new(move || tx.send(start(cache, ())).expect("the test listens"))
        };
        cache.start(Box::new(job)).unwrap();
        assert_eq!(rx.recv().unwrap().recv().unwrap(), ((), first));
    }

    #[test]
    fn the_thread_that_came_last_goes_first() {
        let cache = cache(LONG);
        // Both have to be at work at once, and end one after the other.
        let [(tx1, rx1), (tx2, rx2)] = [(); 2].map(|()| mpsc::channel::<()>());
        let [done1, done2] = [rx1, rx2].map(|go| {
            let (tx, rx) = mpsc::channel();
            let job = move || -> Delivery {
                go.recv().expect("the test sends");
                Box::new(move || tx.send(thread::current().id()).expect("the test listens"))
            };
            cache.start(Box::new(job)).unwrap();
            rx
        });
        tx2.send(()).unwrap();
        done2.recv().unwrap();
        tx1.send(()).unwrap();
        let last = done1.recv().unwrap();
        assert_eq!(start(cache, ()).recv().unwrap().1, last);
        assert_eq!(lock(&cache.idle).len(), 2);
    }

    /// `idle_threads_exit`
    #[test]
    fn an_idle_thread_ends() {
        struct Tell(Sender<()>);
        impl Drop for Tell {
            fn drop(&mut self) {
                self.0.send(()).expect("the test listens");
            }
        }
        thread_local!(static AT_EXIT: RefCell<Option<Tell>> = const { RefCell::new(None) });

        let cache = cache(Duration::ZERO);
        let (tx, ended) = mpsc::channel();
        let job = move || -> Delivery {
            AT_EXIT.set(Some(Tell(tx)));
            Box::new(|| {})
        };
        cache.start(Box::new(job)).unwrap();
        ended.recv().unwrap(); // waits for the thread's end
        assert!(lock(&cache.idle).is_empty());
    }

    /// `race_between_idle_exit_and_job_assignment`
    #[test]
    fn a_job_given_at_the_moment_of_the_exit_is_not_lost() {
        let cache = cache(Duration::ZERO);
        for i in 0..100 {
            assert_eq!(start(cache, i).recv().unwrap().0, i);
        }
        // The time is up, and the thread is out of the list: the job is on its way.
        let (next, jobs) = mpsc::channel::<Job>();
        let (tx, rx) = mpsc::channel();
        let waits = thread::spawn(move || {
            let job = cache.next_job(u64::MAX, &jobs);
            tx.send(job.is_some()).unwrap();
        });
        next.send(Box::new(|| Box::new(|| {}))).unwrap();
        assert!(rx.recv().unwrap());
        waits.join().unwrap();
    }

    /// `raise_in_deliver`
    #[test]
    fn a_thread_survives_a_delivery_that_panics() {
        let cache = cache(LONG);
        let (_, first) = start(cache, ()).recv().unwrap();
        let (tx, delivers) = mpsc::channel();
        let job = move || -> Delivery {
            Box::new(move || {
                tx.send(()).expect("the test listens");
                std::panic::resume_unwind(Box::new("ignored"))
            })
        };
        cache.start(Box::new(job)).unwrap();
        delivers.recv().unwrap(); // it is in the list
        assert_eq!(start(cache, ()).recv().unwrap().1, first);
    }

    #[test]
    fn a_thread_that_died_is_passed_over() {
        let cache = cache(LONG);
        let (next, jobs) = mpsc::channel();
        drop(jobs);
        lock(&cache.idle).push(Idle { id: u64::MAX, next });
        assert_eq!(start(cache, 7).recv().unwrap().0, 7);
    }
}
