//! The conformance kit for streams: whether a stream keeps the contract of [`nursery_io::stream`], rule by rule.
//!
//! Each chapter is a small program that uses connected ends as the contract allows, and looks at what comes of it: [`one_way`],
//! [`given_up`], [`clogged`], [`two_way`], [`half_close`]. A [`chapter`] knows which of its steps are under way, so that the report can
//! say which of them went wrong, or waits for ever.

mod chapter;
mod clogged;
mod end;
mod given_up;
mod half_close;
mod one_way;
mod step;
mod two_way;

use std::fmt;
use std::future::{Future, IntoFuture};
use std::io;
use std::pin::Pin;
use std::rc::Rc;

use nursery_io::stream::{HalfClose, ReceiveStream, SendStream};

use crate::check_stream::chapter::Kit;
use crate::check_stream::end::End;

type Local<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Makes connected ends, anew for each chapter.
type Maker<'a> = Rc<dyn Fn() -> Local<'a, io::Result<(End<'a>, End<'a>)>> + 'a>;

/// Forgets of which kind the streams are.
type Erase<'a, S, R> = fn(S, R) -> (End<'a>, End<'a>);

fn maker<'a, S: 'a, R: 'a>(
    make: impl AsyncFn() -> io::Result<(S, R)> + 'a,
    erase: Erase<'a, S, R>,
) -> Maker<'a> {
    let make = Rc::new(make);
    Rc::new(move || {
        let make = make.clone();
        Box::pin(async move { make().await.map(|(one, other)| erase(one, other)) })
    })
}

/// The same, in the other direction.
fn flipped<'a>(make: &Maker<'a>) -> Maker<'a> {
    let make = make.clone();
    Rc::new(move || {
        let made = make();
        Box::pin(async move { made.await.map(|(one, other)| (other, one)) })
    })
}

/// Checks whether a stream that sends, and one that receives what has been sent, keep the contract of
/// [`nursery_io::stream`].
///
/// `make` makes connected ends, in the state of new ones: each chapter of the contract is tried with ends of its own. With
/// [`clogged`](CheckStream::clogged) ends there are more chapters. Await it; and in many orders of tasks, by
/// [`orders()`](crate::orders()).
///
/// The chapters do not take time. On the clock of [`run()`](crate::run()) an operation that waits for ever is found at once,
/// on the system's clock in a minute.
///
/// # Cancellation
///
/// A checkpoint. Cancelled or dropped, it drops the ends that it has.
///
/// # Errors
///
/// That of `make`; [`Cancelled`](nursery::Cancelled).
///
/// # Panics
///
/// If the contract is broken, with the chapter, the step, what was expected and what came. Outside a run.
///
/// # Examples
///
/// ```
/// use nursery_testing::{check_one_way_stream, lockstep_stream_one_way_pair};
///
/// nursery_testing::orders(3, async || {
///     check_one_way_stream(async || Ok(lockstep_stream_one_way_pair()))
///         .clogged(async || Ok(lockstep_stream_one_way_pair()))
///         .await
/// });
/// ```
///
/// A stream that says nothing when it is closed:
///
/// ```text
/// check_one_way_stream: the stream breaks the contract of `nursery_io::stream`
///
/// the chapter  closing wakes a task that receives
/// the step     `receive_some`, while it is closed, at crates/testing/src/check_stream/one_way.rs:190:11
/// expected     Closed
/// got          nothing: it waits for ever
/// the check    tests/my_stream.rs:7:5
/// ```
#[track_caller]
pub fn check_one_way_stream<'a, S, R>(
    make: impl AsyncFn() -> io::Result<(S, R)> + 'a,
) -> CheckStream<'a, S, R>
where
    S: SendStream + 'a,
    R: ReceiveStream + 'a,
{
    CheckStream::new(Kit::new("check_one_way_stream"), Extent::OneWay, make, |sender, receiver| {
        (End::that_sends(sender), End::that_receives(receiver))
    })
}

/// Checks whether two connected streams that send and receive keep the contract of [`nursery_io::stream`].
///
/// The chapters of [`check_one_way_stream`] in both directions, and others about both at once.
///
/// # Cancellation
///
/// A checkpoint. Cancelled or dropped, it drops the ends that it has.
///
/// # Errors
///
/// That of `make`; [`Cancelled`](nursery::Cancelled).
///
/// # Panics
///
/// If the contract is broken. Outside a run.
///
/// # Examples
///
/// ```
/// use nursery_testing::{check_two_way_stream, memory_stream_pair};
///
/// nursery_testing::run(async {
///     check_two_way_stream(async || Ok(memory_stream_pair())).await
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn check_two_way_stream<'a, A, B>(
    make: impl AsyncFn() -> io::Result<(A, B)> + 'a,
) -> CheckStream<'a, A, B>
where
    A: SendStream + ReceiveStream + 'a,
    B: SendStream + ReceiveStream + 'a,
{
    CheckStream::new(Kit::new("check_two_way_stream"), Extent::TwoWays, make, |one, other| {
        (End::of_two_ways(one), End::of_two_ways(other))
    })
}

/// Checks whether two connected streams, each of which can say that it will send no more, keep the contract of
/// [`nursery_io::stream`].
///
/// The chapters of [`check_two_way_stream`], and those of [`HalfClose`] in both directions.
///
/// # Cancellation
///
/// A checkpoint. Cancelled or dropped, it drops the ends that it has.
///
/// # Errors
///
/// That of `make`; [`Cancelled`](nursery::Cancelled).
///
/// # Panics
///
/// If the contract is broken. Outside a run.
///
/// # Examples
///
/// ```
/// use nursery_io::net::UnixStream;
/// use nursery_testing::check_half_closeable_stream;
///
/// nursery_testing::run(async {
///     check_half_closeable_stream(async || UnixStream::pair()).await
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn check_half_closeable_stream<'a, A, B>(
    make: impl AsyncFn() -> io::Result<(A, B)> + 'a,
) -> CheckStream<'a, A, B>
where
    A: HalfClose + ReceiveStream + 'a,
    B: HalfClose + ReceiveStream + 'a,
{
    let kit = Kit::new("check_half_closeable_stream");
    CheckStream::new(kit, Extent::HalfCloseable, make, |one, other| {
        (End::half_closeable(one), End::half_closeable(other))
    })
}

/// A check that is to be made, from [`check_one_way_stream`] and its likes: await it.
#[must_use = "nothing is checked unless it is awaited"]
pub struct CheckStream<'a, S, R> {
    check: Check<'a>,
    erase: Erase<'a, S, R>,
}

impl<'a, S: 'a, R: 'a> CheckStream<'a, S, R> {
    fn new(
        kit: Kit,
        extent: Extent,
        make: impl AsyncFn() -> io::Result<(S, R)> + 'a,
        erase: Erase<'a, S, R>,
    ) -> Self {
        let check = Check { kit, extent, make: maker(make, erase), make_clogged: None };
        CheckStream { check, erase }
    }

    /// Also tries what happens when a stream has no room.
    ///
    /// `make` makes connected ends, the first of which has sent so many zeros that it has to wait, also for room for a single
    /// byte, until some of them have been received. To check both directions, it is the second end that has to be clogged as
    /// well.
    pub fn clogged(mut self, make: impl AsyncFn() -> io::Result<(S, R)> + 'a) -> Self {
        self.check.make_clogged = Some(maker(make, self.erase));
        self
    }
}

impl<'a, S: 'a, R: 'a> IntoFuture for CheckStream<'a, S, R> {
    type Output = io::Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = io::Result<()>> + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.check.run())
    }
}

impl<S, R> fmt::Debug for CheckStream<'_, S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Check { kit, extent, make_clogged, .. } = &self.check;
        f.debug_struct("CheckStream")
            .field("kit", kit)
            .field("extent", extent)
            .field("has_clogged", &make_clogged.is_some())
            .finish_non_exhaustive()
    }
}

/// How much the ends can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Extent {
    OneWay,
    TwoWays,
    HalfCloseable,
}

struct Check<'a> {
    kit: Kit,
    extent: Extent,
    make: Maker<'a>,
    make_clogged: Option<Maker<'a>>,
}

impl Check<'_> {
    async fn run(self) -> io::Result<()> {
        self.one_direction().await?;
        if self.extent >= Extent::TwoWays {
            self.flipped().one_direction().await?;
            two_way::check(&self.kit, &self.make).await?;
        }
        Ok(())
    }

    fn flipped(&self) -> Self {
        Check {
            kit: self.kit.flipped(),
            extent: self.extent,
            make: flipped(&self.make),
            make_clogged: self.make_clogged.as_ref().map(flipped),
        }
    }

    /// All chapters but those of both directions at once.
    async fn one_direction(&self) -> io::Result<()> {
        let Check { kit, make, .. } = self;
        one_way::check(kit, make).await?;
        given_up::check(kit, make).await?;
        if self.extent == Extent::HalfCloseable {
            half_close::check(kit, make).await?;
        }
        let Some(clogged) = &self.make_clogged else { return Ok(()) };
        clogged::check(kit, clogged).await?;
        if self.extent == Extent::HalfCloseable {
            half_close::check_clogged(kit, clogged).await?;
        }
        Ok(())
    }
}
