//! From a thread back to the run: [`run`], [`run_sync`], [`check_cancelled`].
//!
//! All of these *block the thread*. In a thread of [`to_thread::run_sync`](crate::thread::to_thread::run_sync) they need
//! nothing else; any other thread needs a [`Token`], for [`run_in`] and [`run_sync_in`]. Who does what it asks for:
//!
//! | called in | by | `run` | `run_sync` |
//! |---|---|---|---|
//! | a thread for which a task waits | | that task itself: in its scopes, with its task-locals | the same |
//! | a thread with [`abandon_on_cancel`](crate::thread::to_thread::Call::abandon_on_cancel) | | a new system task | a call between the tasks, as [`Token::run_soon`] |
//! | any thread, with a token | | a new system task | a call between the tasks |
//!
//! A system task is under no scope of yours, and inherits no task-locals. It is cancelled when the main task ends.
//!
//! While the thread waits here it does not *work*: a virtual clock goes on.

use std::any::type_name;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use futures_lite::FutureExt as _;
use nursery::Cancelled;
use nursery::lowlevel::{self, Token};

use crate::thread::job::{Entry, Link, Pause, Request};

/// Runs an async function in the run that this thread works for, and returns what it returns.
///
/// It is called by the task that waits for this thread: its checkpoints raise if that task is cancelled. If it panics, the
/// thread does.
///
/// # Cancellation
///
/// Not async: it blocks the thread until the function has ended.
///
/// # Errors
///
/// [`FromThreadError`], if there is no run to do it.
///
/// # Panics
///
/// With the panic of `f`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use nursery::{Cancelled, sleep};
/// use nursery_io::thread::{from_thread, to_thread};
///
/// # nursery_testing::run(async {
/// let slept = to_thread::run_sync(|| {
///     from_thread::run(async || {
///         sleep(Duration::from_secs(60)).await?; // in the task below
///         Ok::<_, Cancelled>("slept")
///     })
/// });
/// assert_eq!(slept.await???, "slept");
/// # anyhow::Ok(())
/// # }).unwrap();
/// ```
pub fn run<T, F>(f: F) -> Result<T, FromThreadError>
where
    F: AsyncFnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let link = own_link()?;
    if link.abandons { system_task(&link.token, Some(&link), f) } else { ask(&link, f) }
}

/// Calls a function in the run that this thread works for, and returns what it returns.
///
/// As [`run`], for what need not wait. It is called even if the task is cancelled.
///
/// # Cancellation
///
/// Not async: it blocks the thread until the function has returned.
///
/// # Errors
///
/// As [`run`].
///
/// # Panics
///
/// With the panic of `f`.
///
/// # Examples
///
/// ```
/// use std::cell::Cell;
/// use nursery::RunLocal;
/// use nursery_io::thread::{from_thread, to_thread};
///
/// static PROGRESS: RunLocal<Cell<u32>> = RunLocal::with_default(|| Cell::new(0));
///
/// # nursery_testing::run(async {
/// to_thread::run_sync(|| {
///     // No lock: only the run's own thread touches it.
///     from_thread::run_sync(|| PROGRESS.get_shared().unwrap().set(50))
/// })
/// .await??;
/// assert_eq!(PROGRESS.get_shared().unwrap().get(), 50);
/// # anyhow::Ok(())
/// # }).unwrap();
/// ```
pub fn run_sync<T, F>(f: F) -> Result<T, FromThreadError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let link = own_link()?;
    if link.abandons { call(&link.token, f) } else { ask(&link, async move || f()) }
}

/// Runs an async function in the run of `token`, in a system task, and returns what it returns.
///
/// # Cancellation
///
/// Not async: it blocks the thread until the function has ended. When the main task of that run ends, the function
/// is cancelled.
///
/// # Errors
///
/// As [`run`]; [`RunFinished`](FromThreadError::RunFinished) also when the run has begun to stop.
///
/// # Panics
///
/// With the panic of `f`.
///
/// # Examples
///
/// ```
/// use nursery::{cancellable, checkpoint, lowlevel};
/// use nursery_io::thread::from_thread;
///
/// # nursery::run(async {
/// let (tx, rx) = async_channel::bounded(1);
/// let token = lowlevel::token();
/// std::thread::spawn(move || {
///     let answer = from_thread::run_in(&token, async || checkpoint().await.map(|()| 42));
///     tx.send_blocking(answer.unwrap().unwrap())
/// });
/// assert_eq!(cancellable(rx.recv()).await?, Ok(42));
/// # Ok::<(), nursery::Cancelled>(())
/// # }).unwrap();
/// ```
pub fn run_in<T, F>(token: &Token, f: F) -> Result<T, FromThreadError>
where
    F: AsyncFnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    not_in_run()?;
    system_task(token, Link::current().filter(|link| link.token == *token).as_ref(), f)
}

/// Calls a function in the run of `token`, between its tasks, and returns what it returns.
///
/// It is not in any task, so it cannot use what needs one. To do without waiting for the answer, use
/// [`Token::run_soon`].
///
/// # Cancellation
///
/// Not async: it blocks the thread until the function has returned.
///
/// # Errors
///
/// As [`run`].
///
/// # Panics
///
/// With the panic of `f`.
pub fn run_sync_in<T, F>(token: &Token, f: F) -> Result<T, FromThreadError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    not_in_run()?;
    call(token, f)
}

/// Fails if the task that waits for this thread has been cancelled since the thread began.
///
/// The way for a thread to be cancelled: carry the error out, and the task returns it to its scope, which absorbs it. Once
/// it has failed it fails always, even if a shield goes up. With
/// [`abandon_on_cancel`](crate::thread::to_thread::Call::abandon_on_cancel) it tells the thread that nobody waits
/// for it any more.
///
/// # Cancellation
///
/// Not async. It waits only for a task that is just being cancelled to say why.
///
/// # Errors
///
/// [`Cancelled`](FromThreadError::Cancelled); [`Gone`](FromThreadError::Gone) if the task's future was dropped;
/// [`NoRun`](FromThreadError::NoRun) or [`InRun`](FromThreadError::InRun) if this is not a thread of
/// [`to_thread::run_sync`](crate::thread::to_thread::run_sync).
///
/// # Examples
///
/// ```
/// use nursery::CancelScope;
/// use nursery_io::thread::{from_thread, to_thread};
///
/// # nursery_testing::run(async {
/// let scope = CancelScope::new();
/// let stop = scope.remote();
/// let sum = scope.enter(async {
///     let work = to_thread::run_sync(move || {
///         for i in 0_u64.. {
///             if i == 1000 {
///                 stop.cancel(); // as a deadline or another task would
///             }
///             from_thread::check_cancelled()?;
///         }
///         anyhow::Ok(())
///     });
///     work.await?
/// });
/// assert!(sum.await?.is_none());
/// # anyhow::Ok(())
/// # }).unwrap();
/// ```
pub fn check_cancelled() -> Result<(), FromThreadError> {
    match Link::current() {
        Some(link) => link.check(),
        None => Err(own_link().err().unwrap_or(FromThreadError::NoRun)),
    }
}

/// Why a thread could not do something in a run.
///
/// As an [`io::Error`] or [`anyhow::Error`](https://docs.rs/anyhow) it carries its `Cancelled` to the scope.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FromThreadError {
    /// This is a thread on which a run polls: it would wait for itself.
    InRun,
    /// This is no thread of [`to_thread::run_sync`](crate::thread::to_thread::run_sync), and there is no token.
    NoRun,
    /// The run is over, or was dropped meanwhile, or has begun to stop and takes no more tasks.
    RunFinished,
    /// The future that waited for this thread was dropped, and there is no task any more to do it.
    Gone,
    /// The task that waits for this thread was cancelled.
    Cancelled(Cancelled),
}

impl fmt::Display for FromThreadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FromThreadError::InRun => {
                "`from_thread` was called on a run's own thread, which it would block: `await` there, call the \
                 function directly, or move the caller into `to_thread::run_sync`"
            }
            FromThreadError::NoRun => {
                "`from_thread` was called in a thread that belongs to no run: start it with `to_thread::run_sync`, or \
                 give it the run's `lowlevel::token()`, for `from_thread::run_in`"
            }
            FromThreadError::RunFinished => "the run has finished and takes no more calls",
            FromThreadError::Gone => {
                "the task that waited for this thread has dropped its future: nobody is left to do it"
            }
            FromThreadError::Cancelled(cancelled) => return cancelled.fmt(f),
        })
    }
}

impl std::error::Error for FromThreadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            FromThreadError::Cancelled(cancelled) => Some(cancelled),
            _ => None,
        }
    }
}

impl From<FromThreadError> for io::Error {
    fn from(error: FromThreadError) -> Self {
        io::Error::other(error)
    }
}

fn not_in_run() -> Result<(), FromThreadError> {
    if lowlevel::in_run() { Err(FromThreadError::InRun) } else { Ok(()) }
}

fn own_link() -> Result<Arc<Link>, FromThreadError> {
    not_in_run()?;
    Link::current().ok_or(FromThreadError::NoRun)
}

/// What the thread waits for. Dropped without an answer, it says that there will be none.
type Reply<T> = SyncSender<thread::Result<T>>;

fn reply<T>() -> (Reply<T>, Receiver<thread::Result<T>>) {
    mpsc::sync_channel(1)
}

/// Calls `f`, in the run, and sends the thread what it returns.
async fn answer<T, F: AsyncFnOnce() -> T>(f: F, reply: Reply<T>, pause: Option<Pause>) {
    let result = AssertUnwindSafe(async { f().await }).catch_unwind().await;
    drop(pause); // the thread works again, before it can
    send(&reply, result);
}

fn send<T>(reply: &Reply<T>, result: thread::Result<T>) {
    // The thread waits for it, whatever happens.
    let _is_waiting = reply.send(result).is_ok();
}

fn wait<T>(answer: &Receiver<thread::Result<T>>) -> Option<T> {
    match answer.recv() {
        Ok(Ok(value)) => Some(value),
        Ok(Err(panic)) => resume_unwind(panic),
        Err(_) => None,
    }
}

/// Has the task that waits for this thread do it.
fn ask<T, F>(link: &Link, f: F) -> Result<T, FromThreadError>
where
    F: AsyncFnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (reply, waiting) = reply();
    let request: Request = Box::new(move |entry| Box::pin(answer(f, reply, Some(entry.pause()))));
    let id = link.id;
    link.token
        .run_soon(move || Entry::ask(id, request))
        .map_err(|_| FromThreadError::RunFinished)?;
    wait(&waiting).ok_or_else(|| {
        if link.is_gone() { FromThreadError::Gone } else { FromThreadError::RunFinished }
    })
}

/// Has a new system task do it. With `own`, it is our own run.
fn system_task<T, F>(token: &Token, own: Option<&Arc<Link>>, f: F) -> Result<T, FromThreadError>
where
    F: AsyncFnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (reply, waiting) = reply();
    let own = own.map(|link| link.id);
    let start = move || {
        let pause = own.and_then(Entry::find).map(Entry::pause);
        let task = async move {
            answer(f, reply, pause).await;
            Ok(())
        };
        // Too late: dropped with the reply, which tells the thread.
        drop(lowlevel::spawn_system_task(type_name::<F>(), task));
    };
    token.run_soon(start).map_err(|_| FromThreadError::RunFinished)?;
    wait(&waiting).ok_or(FromThreadError::RunFinished)
}

/// Has it called between the tasks.
fn call<T, F>(token: &Token, f: F) -> Result<T, FromThreadError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (reply, waiting) = reply();
    let call = move || send(&reply, catch_unwind(AssertUnwindSafe(f)));
    token.run_soon(call).map_err(|_| FromThreadError::RunFinished)?;
    wait(&waiting).ok_or(FromThreadError::RunFinished)
}
