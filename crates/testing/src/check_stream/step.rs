//! The steps of a [`Chapter`]: operations of which it is known what has to come of them.

use std::fmt::{Debug, Display};
use std::future::Future;
use std::io;
use std::panic::Location;
use std::time::Duration;

use futures_lite::future::or;
use nursery::lowlevel::{is_cancelled, points, wait_all_tasks_blocked};
use nursery::{CancelScope, open_nursery};
use nursery_io::stream::StreamError;

use crate::check_stream::chapter::{Chapter, Step};
use crate::check_stream::end::End;

/// What may come of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    Closed,
    Broken,
    Busy,
    EmptyBuffer,
    Cancelled,
}

impl Outcome {
    fn of<T>(result: &Result<T, StreamError>) -> Option<Self> {
        Some(match result {
            Ok(_) => Outcome::Ok,
            Err(StreamError::Closed) => Outcome::Closed,
            Err(StreamError::Broken(_)) => Outcome::Broken,
            Err(StreamError::Busy) => Outcome::Busy,
            Err(StreamError::EmptyBuffer) => Outcome::EmptyBuffer,
            Err(StreamError::Cancelled(_)) => Outcome::Cancelled,
            Err(_) => return None,
        })
    }
}

const RECEIVE: &str = "`receive_some`";

/// Waits until the other tasks wait.
pub(super) async fn settled() -> io::Result<()> {
    Ok(wait_all_tasks_blocked(Duration::ZERO).await?)
}

impl Chapter<'_> {
    /// Does `op`, of which one of these has to come.
    #[track_caller]
    pub(super) fn one_of<T: Debug>(
        &self,
        outcomes: &'static [Outcome],
        what: &'static str,
        op: impl Future<Output = Result<T, StreamError>>,
    ) -> impl Future<Output = io::Result<Result<T, StreamError>>> {
        self.one_of_at(Location::caller(), outcomes, what, op)
    }

    async fn one_of_at<T: Debug>(
        &self,
        place: &'static Location<'static>,
        outcomes: &[Outcome],
        what: &'static str,
        op: impl Future<Output = Result<T, StreamError>>,
    ) -> io::Result<Result<T, StreamError>> {
        let names: Vec<_> = outcomes.iter().map(|outcome| format!("{outcome:?}")).collect();
        let step = Step::new(what, place, names.join(" or "));
        let result = self.watch(&step, op).await;
        match &result {
            result if Outcome::of(result).is_some_and(|one| outcomes.contains(&one)) => Ok(()),
            // From outside: it is the chapter that is cancelled.
            Err(StreamError::Cancelled(cancelled)) if is_cancelled() => Err(cancelled.clone()),
            result => self.fail(&step, &format!("{result:?}")),
        }?;
        Ok(result)
    }

    /// Does `op`, which has to succeed.
    #[track_caller]
    pub(super) fn ok<T: Debug>(
        &self,
        what: &'static str,
        op: impl Future<Output = Result<T, StreamError>>,
    ) -> impl Future<Output = io::Result<T>> {
        let done = self.one_of(&[Outcome::Ok], what, op);
        async move { Ok(done.await??) }
    }

    /// Does `op`, which has to succeed, and to be a checkpoint.
    #[track_caller]
    pub(super) fn checkpoint<T: Debug>(
        &self,
        what: &'static str,
        op: impl Future<Output = Result<T, StreamError>>,
    ) -> impl Future<Output = io::Result<T>> {
        let step = Step::new(what, Location::caller(), "to be a checkpoint");
        let done = self.ok(what, op);
        async move {
            let before = points();
            let value = done.await?;
            let after = points();
            if before.cancel == after.cancel {
                self.fail(&step, "no cancel point");
            }
            if before.schedule == after.schedule {
                self.fail(&step, "no schedule point");
            }
            Ok(value)
        }
    }

    /// Does `op`, which has to fail in this way.
    #[track_caller]
    pub(super) fn fails<T: Debug>(
        &self,
        how: &'static [Outcome; 1],
        what: &'static str,
        op: impl Future<Output = Result<T, StreamError>>,
    ) -> impl Future<Output = io::Result<StreamError>> {
        let done = self.one_of(how, what, op);
        async move { Ok(done.await?.expect_err("it has to fail")) }
    }

    /// Does `op` in a scope that has been cancelled, which it has to notice.
    #[track_caller]
    pub(super) fn cancelled<T: Debug>(
        &self,
        what: &'static str,
        op: impl Future<Output = Result<T, StreamError>>,
    ) -> impl Future<Output = io::Result<()>> {
        let done = self.one_of(&[Outcome::Cancelled], what, op);
        async move {
            let scope = CancelScope::new();
            scope.cancel();
            let entered = scope.enter(async { done.await.map(drop) });
            entered.await.map(drop)
        }
    }

    /// Does `op`, which has to wait, and is cancelled while it does.
    #[track_caller]
    pub(super) fn interrupted<T: Debug>(
        &self,
        what: &'static str,
        op: impl Future<Output = Result<T, StreamError>>,
    ) -> impl Future<Output = io::Result<()>> {
        let done = self.one_of(&[Outcome::Cancelled], what, op);
        async move {
            let scope = CancelScope::new();
            let waiting = async {
                let entered = scope.enter(async { done.await.map(drop) });
                entered.await.map(drop)
            };
            self.together(waiting, async {
                settled().await?;
                scope.cancel();
                Ok(())
            })
            .await
        }
    }

    /// Does `op`, which has to wait, and is dropped while it does.
    #[track_caller]
    pub(super) fn dropped<T: Debug>(
        &self,
        what: &'static str,
        op: impl Future<Output = Result<T, StreamError>>,
    ) -> impl Future<Output = io::Result<()>> {
        let step = Step::new(what, Location::caller(), "to wait");
        async move {
            let waiting = async {
                let result = op.await;
                self.fail(&step, &format!("{result:?}"))
            };
            or(waiting, settled()).await
        }
    }

    /// Receives exactly these bytes, in as many pieces as they come.
    #[track_caller]
    pub(super) fn receive(
        &self,
        stream: &End<'_>,
        expected: &[u8],
    ) -> impl Future<Output = io::Result<()>> {
        let place = Location::caller();
        async move {
            let mut buffer = vec![0; expected.len()];
            let mut filled = 0;
            while filled < expected.len() {
                let some = stream.receive_some(&mut buffer[filled..]);
                match self.one_of_at(place, &[Outcome::Ok], RECEIVE, some).await?? {
                    0 => break,
                    count => filled += count,
                }
            }
            if buffer[..filled] != *expected {
                let step = Step::new(RECEIVE, place, format!("{expected:?}"));
                self.fail(&step, &format!("{:?}", &buffer[..filled]));
            }
            Ok(())
        }
    }

    /// Receives all there is. Returns it, and how it ended: with the end, or broken.
    #[track_caller]
    pub(super) fn receive_all(
        &self,
        stream: &End<'_>,
    ) -> impl Future<Output = io::Result<(Vec<u8>, Outcome)>> {
        let place = Location::caller();
        async move {
            let (mut all, mut buffer) = (vec![], vec![0; 1 << 16]);
            loop {
                let some = stream.receive_some(&mut buffer);
                let outcomes = &[Outcome::Ok, Outcome::Broken];
                match self.one_of_at(place, outcomes, RECEIVE, some).await? {
                    Ok(0) => return Ok((all, Outcome::Ok)),
                    Ok(count) => all.extend(&buffer[..count]),
                    Err(_) => return Ok((all, Outcome::Broken)),
                }
            }
        }
    }

    /// Fails unless it is so.
    #[track_caller]
    pub(super) fn require(&self, is_so: bool, expected: impl Display, got: impl Debug) {
        if !is_so {
            let step = Step::new("what came of it", Location::caller(), expected.to_string());
            self.fail(&step, &format!("{got:?}"));
        }
    }

    /// Runs two tasks at the same time.
    pub(super) async fn together(
        &self,
        one: impl Future<Output = io::Result<()>>,
        other: impl Future<Output = io::Result<()>>,
    ) -> io::Result<()> {
        open_nursery(async |n| -> io::Result<()> {
            n.start_soon(one);
            n.start_soon(other);
            Ok(())
        })
        .await
    }
}
