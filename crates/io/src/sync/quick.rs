//! [`Quick`]: an operation that mostly need not wait.
//!
//! The short way is a plain function, which the compiler can put into the caller's own code; the long way is an async
//! function, kept apart. So a lock that is free, or a channel with room, costs no state machine.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use nursery::lowlevel::try_checkpoint;
use pin_project_lite::pin_project;

/// Passes a checkpoint and does `at_once`, if that can be done now. Otherwise, or if it gives its input back, does `slowly`,
/// which is told whether the checkpoint was passed and the other tried.
#[inline]
pub(crate) fn quick<I, T, Q, S, F>(input: I, at_once: Q, slowly: S) -> Quick<I, Q, S, F>
where
    Q: FnOnce(I) -> Result<T, I>,
    S: FnOnce(I, bool) -> F,
    F: Future<Output = T>,
{
    Quick::New { input, at_once, slowly }
}

pin_project! {
    /// The future of [`quick`].
    #[project = Stage]
    #[project_replace = Taken]
    #[must_use = "futures do nothing unless they are awaited"]
    pub(crate) enum Quick<I, Q, S, F> {
        New { input: I, at_once: Q, slowly: S },
        Slow { #[pin] future: F },
        Done,
    }
}

impl<I, T, Q, S, F> Future for Quick<I, Q, S, F>
where
    Q: FnOnce(I) -> Result<T, I>,
    S: FnOnce(I, bool) -> F,
    F: Future<Output = T>,
{
    type Output = T;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if let Quick::New { .. } = *self
            && let Taken::New { input, at_once, slowly } =
                self.as_mut().project_replace(Quick::Done)
        {
            let is_tried = try_checkpoint();
            match if is_tried { at_once(input) } else { Err(input) } {
                Ok(done) => return Poll::Ready(done),
                Err(input) => self.set(Quick::Slow { future: slowly(input, is_tried) }),
            }
        }
        poll_slowly(self, cx)
    }
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
