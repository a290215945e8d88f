//! Signals of the system: [`cancel_on_ctrl_c`], which most programs need, and [`receiver`], for all others.
//!
//! A handler cannot do much: it may interrupt anything, anywhere. Here it only writes the signal's number to a
//! pipe (`async-signal`); what is to happen is said in ordinary async code that waits at the pipe's other end. So a
//! run that computes without passing a checkpoint does not notice a signal either.
//!
//! A signal that nobody listens for any more does again what it did before anybody listened: most end the process. No
//! signal is lost: one that has arrived, but that the last who listened for it has not received, does it then.
//!
//! One thing to know if other libraries of the process handle signals, too: what they had installed *before* is called
//! at all times. What they install later is called too, but cannot be known here: listen for as long as they do.

mod heard;
mod incoming;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::process;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};

use futures_lite::Stream;
use nursery::lowlevel::is_cancelled;
use nursery::{
    CancelScope, CancelSource, Cancellable, RemoteScope, TaskError, cancellable, shield,
};

pub use async_signal::Signal;

use crate::signal::incoming::Incoming;

/// Runs `body` in a cancel scope, which the first SIGINT (Ctrl-C) or SIGTERM cancels.
///
/// The reason is [`KeyboardInterrupt`](CancelSource::KeyboardInterrupt) or [`Terminated`](CancelSource::Terminated).
/// As with every cancellation, shields hold and clean-up runs: it is a request to finish, not the end. Whoever loses
/// patience sends a second signal, of either kind: that ends the process at once, with exit status 130.
///
/// Returns `None` if the cancellation ended the body, and `Some` with its value otherwise, also if a signal came but
/// the body got done nevertheless.
///
/// When it has ended, both signals do again what they did before; so does one that came too late to be noticed. See the
/// [module](self).
///
/// # Cancellation
///
/// Not a checkpoint of its own; the body is cancelled, from here or from outside, at its checkpoints. Dropped, it drops
/// the body and listens no more.
///
/// # Errors
///
/// Those of the body; of a group, absorbed cancellations are taken out first.
///
/// # Panics
///
/// When it is first polled, if the handlers cannot be installed, for want of a file descriptor; outside a run.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use nursery::{finally, sleep};
/// use nursery_io::signal::cancel_on_ctrl_c;
///
/// # fn press_ctrl_c() -> std::io::Result<()> {
/// #     let kill = format!("kill -INT {}", std::process::id());
/// #     std::process::Command::new("sh").args(["-c", &kill]).status().map(drop)
/// # }
/// # nursery::run(async {
/// let served = cancel_on_ctrl_c(async {
///     let work = async {
///         # press_ctrl_c()?;
///         sleep(Duration::from_secs(3600)).await?;
///         anyhow::Ok(())
///     };
///     finally(work, Duration::from_secs(5), async || {
///         sleep(Duration::from_millis(1)).await?; // say goodbye: it can wait, although cancelled
///         Ok(())
///     })
///     .await
/// })
/// .await?;
/// assert!(served.is_none());
/// # anyhow::Ok(())
/// # }).unwrap();
/// ```
#[track_caller]
pub fn cancel_on_ctrl_c<T, E: TaskError>(
    body: impl Future<Output = Result<T, E>>,
) -> impl Future<Output = Result<Option<T>, E>> {
    let scope = CancelScope::new().with_name("until Ctrl-C");
    let body = scope.enter(body);
    // Shielded: whoever cancels from outside must still be able to use a second Ctrl-C. Through the remote handle: so
    // the reason names no task.
    let watch = shield(watch(scope.remote()));
    async move {
        let mut body = pin!(body);
        let mut watch = pin!(watch);
        let mut bell = Bell::new(Waker::noop());
        poll_fn(move |cx| {
            if !bell.task.will_wake(cx.waker()) {
                bell = Bell::new(cx.waker());
            }
            // Not at every step of the body: a look at the pipe is a system call.
            if bell.is_rung.swap(false, Ordering::AcqRel) {
                let waker = Waker::from(bell.clone());
                let Poll::Pending = watch.as_mut().poll(&mut Context::from_waker(&waker));
            }
            body.as_mut().poll(cx)
        })
        .await
    }
}

/// Cancels the scope at the first signal, ends the process at the second.
async fn watch(scope: RemoteScope) -> Infallible {
    // Not a `SignalReceiver`, which would take two of a kind for one.
    let mut signals = Incoming::new(&[Signal::Int, Signal::Term]).unwrap_or_else(|error| {
        panic!(
            "`cancel_on_ctrl_c` cannot install its signal handlers: {error}\n\
             \n\
             It needs three file descriptors, and the process has none left. Call it first of all, or raise the limit \
             (`ulimit -n`)."
        )
    });
    let source = match next(&mut signals).await {
        Signal::Term => CancelSource::Terminated,
        _ => CancelSource::KeyboardInterrupt,
    };
    scope.cancel_because(source);
    next(&mut signals).await;
    process::exit(130)
}

async fn next(signals: &mut Incoming) -> Signal {
    let wait = cancellable(poll_fn(|cx| signals.poll_next(cx))).waiting_for("a signal").await;
    wait.expect("under a shield").expect("the pipe is open at both ends")
}

/// Wakes a task, and tells it who did.
struct Bell {
    is_rung: AtomicBool,
    task: Waker,
}

impl Bell {
    /// Makes one that is rung, so that what waits for it is polled with it.
    fn new(task: &Waker) -> Arc<Self> {
        Arc::new(Bell { is_rung: AtomicBool::new(true), task: task.clone() })
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_rung.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

/// Listens for `signals`: from now on they go to the [`SignalReceiver`], and no longer do what they would do otherwise.
///
/// Several receivers may listen for the same signal: each gets it. When the last is dropped, the signal does again what it
/// did before; and if it had arrived, but not been received, does it at once. Can be called outside a run.
///
/// # Errors
///
/// [`InvalidInput`](io::ErrorKind::InvalidInput) if there are no signals in the list, or some that cannot be listened
/// for: `Kill`, `Stop`, `Ill`, `Fpe` and `Segv`; then it listens for none. Those of the system, which is out of file
/// descriptors.
///
/// # Examples
///
/// ```
/// use nursery_io::signal::{self, Signal};
///
/// # fn send_hangup() -> std::io::Result<()> {
/// #     let kill = format!("kill -HUP {}", std::process::id());
/// #     std::process::Command::new("sh").args(["-c", &kill]).status().map(drop)
/// # }
/// # nursery::run(async {
/// let mut signals = signal::receiver(&[Signal::Hup, Signal::Usr1])?;
/// # send_hangup()?;
/// match signals.recv().await? {
///     Signal::Hup => println!("reading the configuration again"),
///     other => println!("{other:?}"),
/// }
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
pub fn receiver(signals: &[Signal]) -> io::Result<SignalReceiver> {
    // Looked at first: the handlers that are installed stay.
    let refused = match signals {
        [] => Some("a receiver needs at least one signal to listen for".to_owned()),
        _ => signals
            .iter()
            .find(|signal| FORBIDDEN.contains(signal))
            .map(|signal| format!("nobody can listen for the signal {signal:?}")),
    };
    if let Some(why) = refused {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let inbox = Inbox { incoming: Incoming::new(signals)?, arrived: RefCell::default() };
    Ok(SignalReceiver { inbox: Rc::new(inbox), wait: None })
}

/// For the first two the system has no handlers; after the others a program cannot go on.
const FORBIDDEN: [Signal; 5] = [Signal::Kill, Signal::Stop, Signal::Ill, Signal::Fpe, Signal::Segv];

/// Receives signals, from [`receiver`]. One task at a time.
///
/// Signals come in the order in which they arrived. One that arrives again before it has been received is received once:
/// signals say that something happened, not how often.
///
/// It is also a [`Stream`], without end, of what [`recv`](Self::recv) returns.
#[derive(Debug)]
pub struct SignalReceiver {
    inbox: Rc<Inbox>,
    /// Of the stream: it outlives the call.
    wait: Option<Cancellable<Arrival>>,
}

impl SignalReceiver {
    /// Receives the next signal, waiting for one if need be.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it took nothing.
    ///
    /// # Errors
    ///
    /// [`Cancelled`](nursery::Cancelled), held by the [`io::Error`].
    ///
    /// # Panics
    ///
    /// Outside a run.
    #[track_caller]
    pub fn recv(&mut self) -> impl Future<Output = io::Result<Signal>> + '_ {
        self.wait = None;
        let wait = self.inbox.wait();
        async move {
            wait.await??;
            Ok(self.inbox.take())
        }
    }
}

impl Stream for SignalReceiver {
    type Item = io::Result<Signal>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let SignalReceiver { inbox, wait } = &mut *self;
            let waiting = wait.get_or_insert_with(|| inbox.wait());
            let result = ready!(Pin::new(waiting).poll(cx));
            *wait = None;
            return Poll::Ready(Some(match result {
                Ok(arrived) => arrived.map(|()| inbox.take()),
                // It was meant for a call that was given up since, in a scope that has been left.
                Err(_) if !is_cancelled() => continue,
                Err(cancelled) => Err(cancelled.into()),
            }));
        }
    }
}

#[derive(Debug)]
struct Inbox {
    incoming: Incoming,
    /// What has been read off the pipe and not been received yet: no signal twice.
    arrived: RefCell<VecDeque<Signal>>,
}

impl Inbox {
    #[track_caller]
    fn wait(self: &Rc<Self>) -> Cancellable<Arrival> {
        cancellable(Arrival(self.clone())).waiting_for("a signal")
    }

    fn take(&self) -> Signal {
        self.arrived.borrow_mut().pop_front().expect("the wait for it is over")
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.incoming.end(self.arrived.take());
    }
}

/// Waits until a signal has arrived. It takes none, so that none is lost with it.
#[derive(Debug)]
struct Arrival(Rc<Inbox>);

impl Future for Arrival {
    type Output = io::Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Inbox { incoming, arrived } = &*self.0;
        while let Poll::Ready(signal) = incoming.poll_next(cx) {
            let signal = signal?;
            let mut arrived = arrived.borrow_mut();
            if !arrived.contains(&signal) {
                arrived.push_back(signal);
            }
        }
        if arrived.borrow().is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}
