//! [`victim`]: the part of a body that is cancelled, or dropped.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use nursery::{CancelScope, TaskError};

use crate::cancel_everywhere::plan::{Plan, REASON};

/// Says that within [`cancel_everywhere`](crate::cancel_everywhere()) this part of the body is to be cancelled and dropped,
/// not the whole.
///
/// The rest goes on, and sees what happens to it: the other tasks in the queue of a lock, the receiver at the other end of
/// a channel. There may be several such parts; they are cancelled and dropped one at a time. `None` if it was. Outside
/// `cancel_everywhere` it is `f`, and nothing else.
///
/// # Cancellation
///
/// As `f`.
///
/// # Errors
///
/// Those of `f`, but for the cancellation that was its own.
///
/// # Panics
///
/// Outside a run.
///
/// # Examples
///
/// Two tasks share a semaphore, and one of them is struck at each of its points:
///
/// ```
/// use nursery::open_nursery;
/// use nursery_io::sync::Semaphore;
/// use nursery_testing::{cancel_everywhere, victim};
///
/// cancel_everywhere(async || {
///     let semaphore = Semaphore::new(1);
///     open_nursery(async |n| -> anyhow::Result<()> {
///         n.start_soon(victim(async {
///             let _permit = semaphore.acquire().await?;
///             anyhow::Ok(nursery::checkpoint().await?)
///         }));
///         let _permit = semaphore.acquire().await?; // whatever happens to the other
///         Ok(())
///     })
///     .await
/// });
/// ```
pub async fn victim<T, E: TaskError>(
    f: impl Future<Output = Result<T, E>>,
) -> Result<Option<T>, E> {
    match Plan::current() {
        Some(plan) => strike_at(plan.begin(), f).await.map(|end| match end {
            End::Done(value) => Some(value),
            End::Cancelled | End::Dropped => None,
        }),
        None => f.await.map(Some),
    }
}

/// How a victim has ended, if not with an error.
pub(super) enum End<T> {
    Done(T),
    Cancelled,
    Dropped,
}

/// Polls `f` as the given victim.
pub(super) async fn strike_at<T, E: TaskError>(
    victim: Rc<Victim>,
    f: impl Future<Output = Result<T, E>>,
) -> Result<End<T>, E> {
    let life = Life(victim);
    let mut body = Some(Box::pin(life.0.scope.enter(f)));
    poll_fn(|cx| {
        let poll = life.0.poll(&mut body, cx);
        if poll.is_ready() {
            body = None;
        }
        poll
    })
    .await
}

pub(super) struct Victim {
    plan: Rc<Plan>,
    scope: CancelScope,
    /// The tick in which it was polled first.
    begun: u32,
    ended: Cell<Option<u32>>,
    has_finished: Cell<bool>,
    is_to_be_dropped: Cell<bool>,
    /// Of its last poll.
    waker: RefCell<Option<Waker>>,
}

impl Victim {
    pub(super) fn new(plan: Rc<Plan>, begun: u32) -> Self {
        Victim {
            plan,
            scope: CancelScope::new().with_name("victim"),
            begun,
            ended: Cell::new(None),
            has_finished: Cell::new(false),
            is_to_be_dropped: Cell::new(false),
            waker: RefCell::new(None),
        }
    }

    pub(super) fn begun(&self) -> u32 {
        self.begun
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.get().is_some()
    }

    /// Has it returned `Ok` by itself?
    pub(super) fn has_finished(&self) -> bool {
        self.has_finished.get()
    }

    /// For how many ticks it has lived.
    pub(super) fn ticks(&self) -> u32 {
        self.ended.get().unwrap_or_else(|| self.plan.now()) - self.begun
    }

    pub(super) fn cancel(&self) {
        self.scope.cancel_because(REASON);
    }

    /// Drops it, at once or, while it is being polled, right after.
    pub(super) fn drop_soon(&self) {
        self.is_to_be_dropped.set(true);
        let waker = self.waker.borrow().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll<T, E, F>(
        &self,
        body: &mut Option<Pin<Box<F>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<End<T>, E>>
    where
        F: Future<Output = Result<Option<T>, E>>,
    {
        let old = self.waker.replace(Some(cx.waker().clone()));
        drop(old);
        let dropped = || match self.is_to_be_dropped.get() {
            true => Poll::Ready(Ok(End::Dropped)),
            false => Poll::Pending,
        };
        if dropped().is_ready() {
            return dropped();
        }
        match body.as_mut().expect("polled after it was ready").as_mut().poll(cx) {
            Poll::Ready(result) => {
                self.has_finished.set(matches!(result, Ok(Some(_))));
                Poll::Ready(result.map(|value| value.map_or(End::Cancelled, End::Done)))
            }
            Poll::Pending => dropped(), // somebody said so meanwhile
        }
    }
}

/// Until it is dropped, the victim lives.
struct Life(Rc<Victim>);

impl Drop for Life {
    fn drop(&mut self) {
        self.0.ended.set(Some(self.0.plan.now()));
        let waker = self.0.waker.take();
        drop(waker);
    }
}
