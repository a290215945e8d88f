//! Several futures at once, on top of a nursery: [`gather`], [`map_concurrent`], [`race`], [`as_completed`],
//! [`map_unordered`].
//!
//! Nothing here needs more than [`open_nursery`]: each is what its name says because of what a nursery promises. The
//! futures are started as children; who takes items from an iterator is a *worker*, a child that runs one after the
//! other:
//!
//! ```text
//!            ┌──────────────── checkpoint ◀───────────────┐
//!            ▼                                            │
//!  take an item ──▶ run it ──▶ give the value away ──▶ until it has been taken (unordered)
//!            └──▶ none left: end
//! ```
//!
//! # Invariants
//!
//! 1. No item is taken before it can be run, and none after a cancellation was noticed.
//! 2. In the unordered case a worker waits as long as its value is in the queue: so there are never more than
//!    `limit` items that run or lie there, together.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::iter::{Enumerate, Fuse};
use std::panic::Location;
use std::rc::Rc;

use crate::checkpoint::{checkpoint, checkpoint_if_cancelled};
use crate::error::{Cancelled, ErrorGroup, TaskError};
use crate::nursery::{Nursery, open_nursery};
use crate::park::{ParkError, ParkingLot};
use crate::time::shield;

/// Runs all `futures` at the same time, and returns their values, in the order of the futures.
///
/// Each is a child of a nursery. If one fails, the others are cancelled and waited for. To keep going, and have the
/// errors beside the values, make the error a value: `async { Ok(fetch(url).await) }`.
///
/// # Cancellation
///
/// As [`open_nursery`]: not a cancel point; cancelled from outside, each future gets its own
/// [`Cancelled`], and if all of them have a value nevertheless, that is returned. Dropped, it drops the futures.
///
/// # Errors
///
/// As [`open_nursery`]: an [`ErrorGroup`] of all errors, in the order in which they happened.
///
/// # Panics
///
/// With the panic of a future, after the others have been cancelled and have ended. Outside a run.
///
/// # Examples
///
/// ```
/// use nursery::{gather, sleep};
/// use std::time::Duration;
///
/// async fn fetch(url: &str) -> anyhow::Result<usize> {
///     sleep(Duration::from_millis(1)).await?;
///     Ok(url.len())
/// }
///
/// # nursery::run(async {
/// let urls = vec!["one".to_owned(), "three".to_owned()];
/// let sizes = gather(urls.iter().map(|url| fetch(url))).await?;
/// assert_eq!(sizes, [3, 5]);
/// # anyhow::Ok(())
/// # }).unwrap();
/// ```
///
/// # See also
///
/// [`map_concurrent`] limits how many run at a time; [`as_completed`] gives the values as they come.
#[doc(alias = "join_all")]
#[doc(alias = "try_join_all")]
#[track_caller]
pub fn gather<'env, T, E, F, I>(futures: I) -> impl Future<Output = Result<Vec<T>, E>>
where
    T: 'env,
    E: TaskError,
    F: Future<Output = Result<T, E>> + 'env,
    I: IntoIterator<Item = F, IntoIter: 'env>,
{
    ordered("gather", usize::MAX, futures.into_iter(), async |future: F| future.await)
}

/// Calls `each` for every item, at most `limit` at the same time, and returns the values, in the order of the items.
///
/// An item is taken from the iterator when it can be run, not earlier: so the iterator may be long, expensive or
/// without end, and `each` may borrow. If one fails, the others are cancelled and waited for, and no further
/// item is taken.
///
/// # Cancellation
///
/// A cancel point between the end of an item and the next, but not after the last; besides, as [`open_nursery`].
/// Dropped, it drops what runs.
///
/// # Errors
///
/// As [`open_nursery`]: an [`ErrorGroup`] of all errors, in the order in which they happened.
///
/// # Panics
///
/// If `limit` is 0. With the panic of an item, or of the iterator, after the others have been cancelled and have
/// ended. Outside a run.
///
/// # Examples
///
/// ```
/// use nursery::{map_concurrent, sleep};
/// use std::cell::Cell;
/// use std::time::Duration;
///
/// # nursery::run(async {
/// let (running, most) = (Cell::new(0), Cell::new(0));
/// let squares = map_concurrent(3, 1..=5, async |i| {
///     running.set(running.get() + 1);
///     most.set(most.get().max(running.get()));
///     sleep(Duration::from_millis(1)).await?;
///     running.set(running.get() - 1);
///     anyhow::Ok(i * i)
/// })
/// .await?;
/// assert_eq!(squares, [1, 4, 9, 16, 25]);
/// assert_eq!(most.get(), 3);
/// # anyhow::Ok(())
/// # }).unwrap();
/// ```
///
/// # See also
///
/// [`map_unordered`] gives the values as they come.
#[track_caller]
pub fn map_concurrent<'env, T, E, F, I>(
    limit: usize,
    items: I,
    each: F,
) -> impl Future<Output = Result<Vec<T>, E>>
where
    T: 'env,
    E: TaskError,
    F: AsyncFn(I::Item) -> Result<T, E> + 'env,
    I: IntoIterator<Item: 'env, IntoIter: 'env>,
{
    check_limit(limit);
    ordered("map_concurrent", limit, items.into_iter(), each)
}

/// Runs all `futures` at the same time, and `body` with what receives their values as they come.
///
/// The children are started before the body. When the body returns, those that have not ended are cancelled and
/// waited for; values that it has not taken are dropped. If one fails, the others and the body are cancelled; to
/// have the errors beside the values, make the error a value: `async { Ok(fetch(url).await) }`.
///
/// # Cancellation
///
/// Not a cancel point of its own. A body that has returned a value keeps it: a cancellation
/// from outside that meets the others after that is left to the next checkpoint. Dropped, it drops the futures and the
/// body.
///
/// # Errors
///
/// As [`open_nursery`]: an [`ErrorGroup`] of all errors of the futures and the body, in the order in which they
/// happened.
///
/// # Panics
///
/// With the panic of a future or the body, after the others have been cancelled and have ended. Outside a run.
///
/// # Examples
///
/// The two fastest of three:
///
/// ```
/// use nursery::{as_completed, sleep};
/// use std::time::Duration;
///
/// async fn mirror(number: u64) -> anyhow::Result<u64> {
///     sleep(Duration::from_millis(10 * number)).await?;
///     Ok(number)
/// }
///
/// # nursery::run(async {
/// let fastest = as_completed([3, 1, 2].map(mirror), async |values| {
///     let mut fastest = vec![];
///     while fastest.len() < 2 && let Some(number) = values.next().await? {
///         fastest.push(number);
///     }
///     anyhow::Ok(fastest)
/// })
/// .await?; // the third has been cancelled, and has ended
/// assert_eq!(fastest, [1, 2]);
/// # anyhow::Ok(())
/// # }).unwrap();
/// ```
#[track_caller]
pub fn as_completed<'env, T, R, E, F, I, B>(
    futures: I,
    body: B,
) -> impl Future<Output = Result<R, E>>
where
    T: 'env,
    E: TaskError,
    F: Future<Output = Result<T, E>> + 'env,
    I: IntoIterator<Item = F, IntoIter: 'env>,
    B: AsyncFnOnce(&mut Completed<T>) -> Result<R, E>,
{
    let each = async |future: F| future.await;
    unordered("as_completed", usize::MAX, futures.into_iter(), each, body)
}

/// Calls `each` for every item, at most `limit` at the same time, and `body` with what receives the values as
/// they come.
///
/// An item is taken from the iterator when there is room, not earlier; and a value that the body has not taken yet
/// occupies its place. So a slow body slows down the rest, and at most `limit` items are under way or
/// waiting to be taken. The end is as with [`as_completed`].
///
/// # Cancellation
///
/// Not a cancel point of its own. A body that has returned a value keeps it: a cancellation
/// from outside that meets the others after that is left to the next checkpoint. Dropped, it drops what runs and the
/// body.
///
/// # Errors
///
/// As [`open_nursery`]: an [`ErrorGroup`] of all errors of the items and the body, in the order in which they
/// happened.
///
/// # Panics
///
/// If `limit` is 0. With the panic of an item, the iterator or the body, after the others have been cancelled and
/// have ended. Outside a run.
///
/// # Examples
///
/// ```
/// use nursery::{map_unordered, sleep};
/// use std::time::Duration;
///
/// # nursery::run(async {
/// let slow = async |ms: u64| {
///     sleep(Duration::from_millis(10 * ms)).await?;
///     anyhow::Ok(ms)
/// };
/// // The numbers have no end; the body has.
/// let sum = map_unordered(2, 1.., slow, async |values| {
///     let mut sum = 0;
///     while sum < 10 && let Some(ms) = values.next().await? {
///         sum += ms;
///     }
///     Ok(sum)
/// })
/// .await?;
/// assert_eq!(sum, 10);
/// # anyhow::Ok(())
/// # }).unwrap();
/// ```
#[doc(alias = "buffer_unordered")]
#[track_caller]
pub fn map_unordered<'env, T, R, E, F, I, B>(
    limit: usize,
    items: I,
    each: F,
    body: B,
) -> impl Future<Output = Result<R, E>>
where
    T: 'env,
    E: TaskError,
    F: AsyncFn(I::Item) -> Result<T, E> + 'env,
    I: IntoIterator<Item: 'env, IntoIter: 'env>,
    B: AsyncFnOnce(&mut Completed<T>) -> Result<R, E>,
{
    check_limit(limit);
    unordered("map_unordered", limit, items.into_iter(), each, body)
}

/// Runs all `futures` at the same time, and returns the first result; the others are cancelled and waited for.
///
/// The first *result*: an error wins, too. If it is not to, leave it out: see the example. A cancellation is
/// not a result, as long as another one comes. What a loser returns nevertheless is dropped: if that must not
/// happen, because it took something that is lost then, use [`as_completed`].
///
/// Futures of different types: box them, with `boxed_local()` of `futures-lite` or `futures-util`.
///
/// # Cancellation
///
/// Not a cancel point of its own: cancelled from outside, each future gets its own [`Cancelled`]. If one has a result
/// nevertheless, that is returned, and the cancellation is left to the next checkpoint. Dropped, it drops the
/// futures.
///
/// # Errors
///
/// That of the winner, bare. If losers fail when they are cancelled: an [`ErrorGroup`] of all errors, the
/// winner's first; a value is dropped then.
///
/// # Panics
///
/// If there are no futures. With the panic of a future, after the others have been cancelled and have ended. Outside
/// a run.
///
/// # Examples
///
/// ```
/// use nursery::{race, sleep, sleep_forever};
/// use std::time::Duration;
///
/// async fn mirror(number: u64) -> anyhow::Result<u64> {
///     sleep(Duration::from_millis(10 * number)).await?;
///     anyhow::ensure!(number != 1, "no such host");
///     Ok(number)
/// }
///
/// # nursery::run(async {
/// let first = race([3, 2].map(mirror)).await?;
/// assert_eq!(first, 2);
///
/// let failed = race([3, 1].map(mirror)).await.unwrap_err();
/// assert_eq!(failed.to_string(), "no such host");
///
/// // The first that succeeds:
/// let patient = async |number| match mirror(number).await {
///     Err(error) if !error.is::<nursery::Cancelled>() => Ok(sleep_forever().await.map(|()| 0)?),
///     result => result,
/// };
/// assert_eq!(race([3, 1, 2].map(patient)).await?, 2);
/// # anyhow::Ok(())
/// # }).unwrap();
/// ```
#[doc(alias = "select")]
#[track_caller]
pub fn race<'env, T, E, F, I>(futures: I) -> impl Future<Output = Result<T, E>>
where
    T: 'env,
    E: TaskError + 'env,
    F: Future<Output = Result<T, E>> + 'env,
    I: IntoIterator<Item = F, IntoIter: 'env>,
{
    let place = Location::caller();
    let futures = futures.into_iter();
    let winner = Rc::new(RefCell::new(None));
    let goal = winner.clone();
    let nursery = open_nursery(async move |n: &Nursery<'_, 'env, E>| {
        let mut count = 0;
        for (i, future) in futures.enumerate() {
            let goal = goal.clone();
            let runner = async move {
                let result = future.await;
                let result = cross(&goal, result);
                n.cancel_scope().cancel_because("the race is over");
                result
            };
            n.start_soon(runner).set_name(format!("race[{i}]"));
            count += 1;
        }
        assert!(
            count > 0,
            "the race at {place} is between no futures at all\n\
             \n\
             There would never be a first result. If the list can be empty, say before what is to happen then."
        );
        Ok(())
    });
    async move {
        let lost = nursery.await;
        let won = winner.take().expect("the first that ends sets it");
        match (won, lost) {
            (won, Ok(())) => won,
            (Ok(_), Err(losers)) => Err(losers),
            (Err(first), Err(losers)) => Err(in_front(first, losers)),
        }
    }
}

/// A future of a race has ended: keeps its result if it is the first. What it returns concerns the nursery.
fn cross<T, E: TaskError>(
    goal: &RefCell<Option<Result<T, E>>>,
    result: Result<T, E>,
) -> Result<(), E> {
    let is_cancelled =
        |result: &Result<T, E>| result.as_ref().is_err_and(|error| error.as_cancelled().is_some());
    let is_open = goal.borrow().as_ref().is_none_or(is_cancelled);
    if is_open {
        let cancelled = goal.replace(Some(result));
        drop(cancelled);
        return Ok(());
    }
    if is_cancelled(&result) { Ok(()) } else { result.map(drop) }
}

/// Puts an error in front of those of a nursery.
fn in_front<E: TaskError>(first: E, mut others: E) -> E {
    match others.as_group_mut() {
        Some(group) => {
            group.errors_mut().insert(0, first);
            others
        }
        None => ErrorGroup::new(vec![first, others]).into(),
    }
}

#[track_caller]
fn check_limit(limit: usize) {
    assert!(
        limit > 0,
        "the limit is 0: nothing could ever run\n\
         \n\
         It is how many items run at the same time; `usize::MAX` for all of them."
    );
}

/// What the workers share.
struct Work<I: Iterator, F> {
    items: RefCell<Fuse<Enumerate<I>>>,
    each: F,
}

impl<I: Iterator, F> Work<I, F> {
    fn new(items: I, each: F) -> Rc<Self> {
        Rc::new(Work { items: RefCell::new(items.enumerate().fuse()), each })
    }

    fn take(&self) -> Option<(usize, I::Item)> {
        self.items.borrow_mut().next()
    }

    /// Is it known, without taking one, that no item is left?
    fn is_over(&self) -> bool {
        self.items.borrow().size_hint().1 == Some(0)
    }

    /// Runs items, one after the other, as long as there are any.
    async fn work<T, E, G>(&self, first: (usize, I::Item), give: G) -> Result<(), E>
    where
        E: TaskError,
        F: AsyncFn(I::Item) -> Result<T, E>,
        G: AsyncFn(usize, T) -> Result<(), E>,
    {
        let (mut index, mut item) = first;
        loop {
            let value = (self.each)(item).await?;
            give(index, value).await?;
            if self.is_over() {
                return Ok(());
            }
            checkpoint().await?; // invariant 1
            let Some(next) = self.take() else { return Ok(()) };
            (index, item) = next;
        }
    }
}

#[track_caller]
fn ordered<'env, T, E, F, I>(
    name: &'static str,
    limit: usize,
    items: I,
    each: F,
) -> impl Future<Output = Result<Vec<T>, E>>
where
    T: 'env,
    E: TaskError,
    F: AsyncFn(I::Item) -> Result<T, E> + 'env,
    I: Iterator<Item: 'env> + 'env,
{
    open_nursery(async move |n: &Nursery<'_, 'env, E>| {
        let work = Work::new(items, each);
        let values = Rc::new(RefCell::new(Vec::<Option<T>>::new()));
        let mut workers = Vec::new();
        while workers.len() < limit
            && let Some(first) = work.take()
        {
            let (work, values) = (work.clone(), values.clone());
            let worker = async move {
                let give = async |index: usize, value| {
                    let mut values = values.borrow_mut();
                    if values.len() <= index {
                        values.resize_with(index + 1, || None);
                    }
                    values[index] = Some(value);
                    Ok(())
                };
                work.work(first, give).await
            };
            let worker = n.start_soon(worker).named(format!("{name}[{}]", workers.len()));
            workers.push(worker);
        }
        // A cancellation concerns the workers: if they are done all the same, so is this. One without a value has
        // failed, and has cancelled the nursery, whose error it is.
        shield(async {
            for worker in workers {
                worker.await?;
            }
            Ok::<(), Cancelled>(())
        })
        .await?;
        let values = values.take().into_iter();
        Ok(values.map(|value| value.expect("every worker has succeeded")).collect())
    })
}

/// Receives the values in [`as_completed`] and [`map_unordered`], as they come.
pub struct Completed<T> {
    queue: Rc<Queue<T>>,
}

struct Queue<T> {
    values: RefCell<VecDeque<T>>,
    /// How many workers have not ended.
    workers: Cell<usize>,
    /// The body has returned: from now on cancelled workers are nobody's concern.
    is_left: Cell<bool>,
    /// Where the body waits for a value.
    arrival: ParkingLot,
    /// Where workers wait, each for a value to be taken.
    room: ParkingLot,
}

impl<T> Completed<T> {
    /// Receives the next value, waiting for one if need be. `None` if all have been received.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it took nothing.
    ///
    /// # Errors
    ///
    /// [`Cancelled`]; also when one of the futures has failed, since everything around this is cancelled then.
    pub async fn next(&mut self) -> Result<Option<T>, Cancelled> {
        checkpoint().await?;
        loop {
            let value = self.queue.values.borrow_mut().pop_front();
            if let Some(value) = value {
                let _ = self.queue.room.hand_over(());
                return Ok(Some(value));
            }
            if self.queue.workers.get() == 0 {
                return Ok(None);
            }
            self.queue.arrival.park_as("the next result").await.map_err(only_cancelled)?;
            // The last worker may have failed: that is not the end of the values.
            checkpoint_if_cancelled().await?;
        }
    }
}

impl<T> fmt::Debug for Completed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completed")
            .field("running", &self.queue.workers.get())
            .field("ready", &self.queue.values.borrow().len())
            .finish()
    }
}

impl<T> Queue<T> {
    fn new() -> Rc<Self> {
        Rc::new(Queue {
            values: RefCell::default(),
            workers: Cell::new(0),
            is_left: Cell::new(false),
            arrival: ParkingLot::new(),
            room: ParkingLot::new(),
        })
    }

    fn push(&self, value: T) {
        self.values.borrow_mut().push_back(value);
        self.arrival.unpark_all();
    }
}

/// Counts a worker until it is dropped.
struct Counted<T>(Rc<Queue<T>>);

impl<T> Counted<T> {
    fn new(queue: &Rc<Queue<T>>) -> Self {
        queue.workers.set(queue.workers.get() + 1);
        Counted(queue.clone())
    }
}

impl<T> Drop for Counted<T> {
    fn drop(&mut self) {
        self.0.workers.set(self.0.workers.get() - 1);
        if self.0.workers.get() == 0 {
            self.0.arrival.unpark_all();
        }
    }
}

fn only_cancelled(error: ParkError) -> Cancelled {
    match error {
        ParkError::Cancelled(cancelled) => cancelled,
        ParkError::Broken(_) => unreachable!("nobody breaks it"),
    }
}

#[track_caller]
fn unordered<'env, T, R, E, F, I, B>(
    name: &'static str,
    limit: usize,
    items: I,
    each: F,
    body: B,
) -> impl Future<Output = Result<R, E>>
where
    T: 'env,
    E: TaskError,
    F: AsyncFn(I::Item) -> Result<T, E> + 'env,
    I: Iterator<Item: 'env> + 'env,
    B: AsyncFnOnce(&mut Completed<T>) -> Result<R, E>,
{
    open_nursery(async move |n: &Nursery<'_, 'env, E>| {
        let work = Work::new(items, each);
        let queue = Queue::new();
        for i in 0..limit {
            let Some(first) = work.take() else { break };
            let (work, counted) = (work.clone(), Counted::new(&queue));
            let worker = async move {
                let queue = &counted.0;
                let give = async |_, value| {
                    queue.push(value);
                    if !work.is_over() {
                        queue.room.park_as("room for a result").await.map_err(only_cancelled)?;
                    }
                    Ok(())
                };
                match work.work(first, give).await {
                    Err(error) if queue.is_left.get() && error.as_cancelled().is_some() => Ok(()),
                    result => result,
                }
            };
            n.start_soon(worker).set_name(format!("{name}[{i}]"));
        }
        drop(work);
        let mut completed = Completed { queue };
        let value = body(&mut completed).await?;
        completed.queue.is_left.set(true);
        n.cancel_scope().cancel_because("the body has returned");
        Ok(value)
    })
}
