//! From a task to a thread: [`run_sync`], for what blocks or computes for long.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use nursery::lowlevel::{
    self, RunFinished, UntilCancelled, cancelled, checkpoint_if_cancelled, current_task,
};
use nursery::{Shield, shield};

use crate::sync::Borrower;
use crate::thread::cache::{self, CACHE, Cache, Delivery, Job, lock};
use crate::thread::job::{Entry, Jobs, Link, Outcome};
use crate::thread::{Limiter, default_limiter};

/// Calls `f` in a thread, and returns what it returns.
///
/// Meanwhile the task waits, and others run. Threads are used again. There are at most 40 at a time in a run:
/// see [`default_limiter`].
///
/// If `f` panics, the task does. Inside `f`, [`from_thread`](crate::thread::from_thread) is the way back to the
/// run.
///
/// # Cancellation
///
/// A checkpoint, always. Cancelled before `f` is called, it did nothing: `f` is never called. A thread that runs cannot be
/// stopped from outside: the task goes on waiting, returns the result, and is cancelled at its next checkpoint.
/// `f` can help by asking [`from_thread::check_cancelled`](crate::thread::from_thread::check_cancelled) now and
/// then. With [`abandon_on_cancel`](Call::abandon_on_cancel), the task goes at once and the thread is left to
/// itself. *Dropped*, it leaves the thread to itself, too.
///
/// # Errors
///
/// [`Cancelled`](nursery::Cancelled), held by the [`io::Error`]; that of the system, if it has no thread for us; that of
/// the [`limiter`](Call::limiter).
///
/// # Panics
///
/// With the panic of `f`; outside a run.
///
/// # Examples
///
/// ```
/// use std::io;
/// use nursery_io::thread::to_thread;
///
/// # nursery_testing::run(async {
/// let sum: u64 = to_thread::run_sync(|| (1..=1_000_000).sum()).await?;
/// assert_eq!(sum, 500_000_500_000);
///
/// let missing = to_thread::run_sync(|| std::fs::read("/no/such/file")).name("reader").await?;
/// assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
/// # Ok::<(), io::Error>(())
/// # }).unwrap();
/// ```
#[track_caller]
pub fn run_sync<T, F>(f: F) -> Call<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    Call(Stage::New(Setup {
        f: Box::new(f),
        name: None,
        abandons: false,
        limiter: None,
        cache: &CACHE,
        place: Location::caller(),
    }))
}

/// The future of [`run_sync`], with its settings.
#[must_use = "futures do nothing unless they are awaited"]
pub struct Call<T>(Stage<T>);

enum Stage<T> {
    New(Setup<T>),
    Polled(Pin<Box<dyn Future<Output = io::Result<T>>>>),
}

struct Setup<T> {
    f: Box<dyn FnOnce() -> T + Send>,
    name: Option<String>,
    abandons: bool,
    limiter: Option<Rc<dyn Limiter>>,
    cache: &'static Cache,
    place: &'static Location<'static>,
}

impl<T: Send + 'static> Call<T> {
    /// Names the thread while it does this. Default: the name of the task.
    ///
    /// It is what the system shows (`top -H`, a debugger), where it can be changed: on Linux, 15 bytes of it.
    pub fn name(self, name: impl Into<String>) -> Self {
        self.set(|setup| setup.name = Some(name.into()))
    }

    /// Sets whether a task that is cancelled leaves the thread to itself. Default: false.
    ///
    /// The thread goes on; its result is dropped, and so is its panic; the limiter's token is given back when it really
    /// ends. A run does not wait for such threads at its end: see
    /// [`wait_all_threads_completed`](crate::thread::wait_all_threads_completed).
    ///
    /// Use it only where nobody minds what happens later: for a look-up, not for a write.
    pub fn abandon_on_cancel(self, on: bool) -> Self {
        self.set(|setup| setup.abandons = on)
    }

    /// Sets the limiter from which the thread borrows a token. Default: [`default_limiter`].
    ///
    /// The borrower is the thread, not the task, which may have several. Shared, because the thread has it even when the
    /// task has gone.
    pub fn limiter<L: Limiter>(self, limiter: &Rc<L>) -> Self {
        let limiter = limiter.clone();
        self.set(|setup| setup.limiter = Some(limiter))
    }

    #[track_caller]
    fn set(mut self, change: impl FnOnce(&mut Setup<T>)) -> Self {
        match &mut self.0 {
            Stage::New(setup) => change(setup),
            Stage::Polled(_) => panic!("a `to_thread::Call` cannot be set any more: it was polled"),
        }
        self
    }
}

impl<T: Send + 'static> Future for Call<T> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if let Stage::New(_) = self.0 {
            let nothing = Stage::Polled(Box::pin(std::future::pending()));
            if let Stage::New(setup) = std::mem::replace(&mut self.0, nothing) {
                self.0 = Stage::Polled(Box::pin(setup.call()));
            }
        }
        match &mut self.0 {
            Stage::Polled(call) => call.as_mut().poll(cx),
            Stage::New(_) => unreachable!("replaced above"),
        }
    }
}

impl<T> fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Setup<T> {
    async fn call(self) -> io::Result<T> {
        checkpoint_if_cancelled().await?;
        let limiter = match &self.limiter {
            Some(limiter) => limiter.clone(),
            None => default_limiter(),
        };
        let borrower = Borrower::unique();
        limiter.acquire_on_behalf_of(&borrower).await?;
        self.start(limiter, borrower)?.await
    }

    /// Gives the job to a thread. From here on nothing is undone.
    fn start(self, limiter: Rc<dyn Limiter>, borrower: Borrower) -> io::Result<Host<T>> {
        let jobs = Jobs::current();
        let link = Link::new(lowlevel::token(), jobs.next_id(), self.abandons);
        let entry = Entry::new(link.clone(), limiter, borrower, lowlevel::busy());
        jobs.add(entry.clone());
        let outcome = Arc::new(Outcome::default());
        let name = self.name.unwrap_or_else(task_name);
        if let Err(error) = self.cache.start(job(self.f, name, link, outcome.clone())) {
            jobs.remove(entry.link.id);
            // The limiter's own complaint would hide the cause.
            match entry.release() {
                Ok(_) => return Err(error),
                Err(panic) => resume_unwind(panic),
            }
        }
        let waits = cancelled().waiting_for("a thread", self.place);
        let wait = Wait::Cancellable(waits);
        Ok(Host { request: None, wait, entry, outcome, place: self.place })
    }
}

/// What stands for the task in 15 bytes: its name, or the file and line where it was started.
fn task_name() -> String {
    let name = current_task().name().unwrap_or_default();
    name.rsplit('/').next().map(str::to_owned).unwrap_or(name)
}

/// What the thread does.
fn job<T: Send + 'static>(
    f: Box<dyn FnOnce() -> T + Send>,
    name: String,
    link: Arc<Link>,
    outcome: Arc<Outcome<T>>,
) -> Job {
    Box::new(move || -> Delivery {
        cache::set_name(&name);
        Link::set_current(Some(link.clone()));
        let result = catch_unwind(AssertUnwindSafe(f));
        Link::set_current(None);
        cache::set_name(cache::IDLE_NAME);
        Box::new(move || {
            *lock(&outcome) = Some(result);
            let id = link.id;
            if let Err(RunFinished(late)) = link.token.run_soon(move || Entry::finish(id, &outcome))
            {
                drop(late); // with the result, for which nobody waits
            }
        })
    })
}

/// The task, which waits for the thread, and does what it asks for.
struct Host<T> {
    /// What the thread has asked for.
    request: Option<Pin<Box<dyn Future<Output = ()>>>>,
    wait: Wait,
    entry: Rc<Entry>,
    outcome: Arc<Outcome<T>>,
    place: &'static Location<'static>,
}

/// How it waits.
enum Wait {
    Cancellable(UntilCancelled),
    /// It has been cancelled; this only says so in the tree.
    Cancelled(Pin<Box<Shield<UntilCancelled>>>),
}

impl<T> Host<T> {
    /// Takes the result, if the thread has ended.
    fn take_result(&self) -> Option<io::Result<T>> {
        let released = self.entry.take_finished()?;
        let result = lock(&self.outcome).take().expect("stored before it said that it had ended");
        Some(match (result, released) {
            (Err(panic), _) | (_, Err(panic)) => resume(panic),
            (Ok(_), Ok(Err(error))) => Err(error),
            (Ok(value), Ok(Ok(()))) => Ok(value),
        })
    }

    /// Looks whether the task has been cancelled since.
    fn poll_cancelled(&mut self) -> Poll<io::Result<T>> {
        let Wait::Cancellable(wait) = &mut self.wait else { return Poll::Pending };
        let link = &self.entry.link;
        let waker = Waker::from(link.clone());
        let cancelled = ready!(Pin::new(wait).poll(&mut Context::from_waker(&waker)));
        link.deliver(cancelled.clone());
        if link.abandons {
            return Poll::Ready(Err(cancelled.into()));
        }
        let wait = lowlevel::cancelled().waiting_for("a thread", self.place);
        self.wait = Wait::Cancelled(Box::pin(shield(wait)));
        Poll::Pending
    }
}

fn resume(panic: Box<dyn Any + Send>) -> ! {
    resume_unwind(panic)
}

impl<T> Future for Host<T> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let this = &mut *self;
        this.entry.link.set_task(cx.waker());
        loop {
            if let Some(result) = this.take_result() {
                return Poll::Ready(result);
            }
            if let Poll::Ready(cancelled) = this.poll_cancelled() {
                return Poll::Ready(cancelled);
            }
            if let Some(request) = &mut this.request {
                ready!(request.as_mut().poll(cx));
                this.request = None;
            }
            match this.entry.take_request() {
                Some(request) => this.request = Some(request(this.entry.clone())),
                None => break,
            }
        }
        if let Wait::Cancelled(wait) = &mut this.wait {
            let _for_ever = wait.as_mut().poll(cx);
        }
        Poll::Pending
    }
}

impl<T> Drop for Host<T> {
    fn drop(&mut self) {
        // First this: a thread whose request is dropped looks why.
        self.entry.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sync::CapacityLimiter;
    use crate::thread::active_thread_count;

    /// `run_in_worker_thread_fail_to_spawn`
    #[test]
    fn without_a_thread_it_fails_and_gives_the_token_back() {
        static NONE: Cache =
            Cache::new(Duration::ZERO, |_| Err(io::Error::from(io::ErrorKind::OutOfMemory)));

        nursery_testing::run(async {
            let limiter = Rc::new(CapacityLimiter::new(1));
            let call = run_sync(|| unreachable!("there is no thread")).limiter(&limiter);
            let call: Call<()> = call.set(|setup| setup.cache = &NONE);
            let error = call.await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
            assert_eq!(limiter.borrowed_tokens(), 0);
            assert_eq!(active_thread_count(), 0);
            assert_eq!(lowlevel::statistics().busy, 0);
            Ok::<_, io::Error>(())
        })
        .unwrap();
    }
}
