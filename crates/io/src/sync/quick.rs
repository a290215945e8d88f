//! [`Quick`]: an operation that mostly need not wait.
//!
//! The short way is a plain function, which the compiler can put into the caller's own code; all the rest is kept
//! apart. So a lock that is free, or a channel with room, costs no state machine, and hardly a call.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use nursery::lowlevel::try_checkpoint;
use pin_project_lite::pin_project;

/// Passes a checkpoint and does `at_once`, if that can be done now. Otherwise, or if it gives its input back, it is up to
/// `otherwise`, which is told whether the checkpoint was passed.
#[inline]
pub(crate) fn quick<I, T, Q, S, F>(input: I, at_once: Q, otherwise: S) -> Quick<I, Q, S, F>
where
    Q: FnOnce(I) -> Result<T, I>,
    S: FnOnce(I, bool) -> Rest<T, F>,
    F: Future<Output = T>,
{
    Quick::New { input, at_once, otherwise }
}

/// What is left of an operation for which the short way is not open.
pub(crate) enum Rest<T, F> {
    /// Nothing.
    Done(T),
    /// This, and it may have to wait.
    Slow(F),
}

pin_project! {
    /// The future of [`quick`].
    #[project = Stage]
    #[project_replace = Taken]
    #[must_use = "futures do nothing unless they are awaited"]
    pub(crate) enum Quick<I, Q, S, F> {
        New { input: I, at_once: Q, otherwise: S },
        Slow { #[pin] future: F },
        Done,
    }
}

impl<I, T, Q, S, F> Future for Quick<I, Q, S, F>
where
    Q: FnOnce(I) -> Result<T, I>,
    S: FnOnce(I, bool) -> Rest<T, F>,
    F: Future<Output = T>,
{
    type Output = T;

    #[inline(always)] // it is shorter than the call
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Quick::New { .. } = *self else { return poll_slowly(self, cx) };
        let new = self.as_mut().project_replace(Quick::Done);
        let Taken::New { input, at_once, otherwise } = new else { unreachable!() };
        let is_checked = try_checkpoint();
        match if is_checked { at_once(input) } else { Err(input) } {
            Ok(done) => Poll::Ready(done),
            Err(input) => begin_slowly(self, otherwise, input, is_checked, cx),
        }
    }
}

/// The future is made in its place: it may be large.
#[cold]
#[inline(never)]
fn begin_slowly<I, T, Q, S, F>(
    mut quick: Pin<&mut Quick<I, Q, S, F>>,
    otherwise: S,
    input: I,
    is_checked: bool,
    cx: &mut Context<'_>,
) -> Poll<T>
where
    S: FnOnce(I, bool) -> Rest<T, F>,
    F: Future<Output = T>,
{
    match otherwise(input, is_checked) {
        Rest::Done(done) => return Poll::Ready(done),
        Rest::Slow(future) => quick.set(Quick::Slow { future }),
    }
    poll_slowly(quick, cx)
}

#[cold]
#[inline(never)]
fn poll_slowly<I, Q, S, F: Future>(
    quick: Pin<&mut Quick<I, Q, S, F>>,
    cx: &mut Context<'_>,
) -> Poll<F::Output> {
    match quick.project() {
        Stage::Slow { future } => future.poll(cx),
        _ => panic!("polled after it was ready"),
    }
}

/// Acquires something, and makes the guard that lets go of it, where it is wanted: from the future it would come through
/// memory, stored by parts and read as a whole.
#[inline]
pub(crate) fn guarded<A, F>(acquire: A, guard: F) -> Guarded<A, F> {
    Guarded { acquire, guard }
}

pin_project! {
    /// The future of [`guarded`].
    #[must_use = "futures do nothing unless they are awaited"]
    pub(crate) struct Guarded<A, F> {
        #[pin]
        acquire: A,
        guard: F,
    }
}

impl<A, F, G, E> Future for Guarded<A, F>
where
    A: Future<Output = Result<(), E>>,
    F: Fn() -> G,
{
    type Output = Result<G, E>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<G, E>> {
        let this = self.project();
        this.acquire.poll(cx).map_ok(|()| (this.guard)())
    }
}
