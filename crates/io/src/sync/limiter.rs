//! [`CapacityLimiter`]: how many may do something at a time, and who does.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nursery::Cancelled;
use nursery::lowlevel::{
    TaskId, cancel_shielded_checkpoint, checkpoint_if_cancelled, current_task,
};

use crate::sync::line::{Line, Seat};

/// A number of tokens, each borrower of which has at most one.
///
/// A restricted [`Semaphore`](crate::sync::Semaphore): it knows who holds its tokens, so that giving back what one
/// does not have is an error, and what is going on can be shown. Its size can be changed at any time; nobody loses
/// a token by that. A total of zero lets nobody in until it is raised.
///
/// The borrower is the current task, or whatever is named in the call: see [`Borrower`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use nursery::{now, open_nursery, sleep};
/// use nursery_io::sync::CapacityLimiter;
///
/// # nursery_testing::run(async {
/// let limiter = CapacityLimiter::new(2);
/// let start = now();
/// open_nursery(async |n| -> anyhow::Result<()> {
///     for _ in 0..6 {
///         n.start_soon(async {
///             let _token = limiter.acquire().await?;
///             Ok(sleep(Duration::from_secs(1)).await?)
///         });
///     }
///     Ok(())
/// })
/// .await?;
/// assert_eq!(now() - start, Duration::from_secs(3)); // two at a time
/// # anyhow::Ok(())
/// # }).unwrap();
/// ```
pub struct CapacityLimiter {
    total: Cell<usize>,
    borrowers: RefCell<BTreeSet<Borrower>>,
    waiting: Line<Data>,
    /// Who waits, and where.
    queued: RefCell<BTreeMap<Borrower, Rc<Seat<Data>>>>,
}

#[derive(Default)]
struct Data {
    borrower: RefCell<Option<Borrower>>,
    has_token: Cell<bool>,
}

impl CapacityLimiter {
    /// The total of a limiter that lets everybody in.
    pub const INFINITE: usize = usize::MAX;

    /// Makes a limiter with `total` tokens.
    #[must_use]
    pub fn new(total: usize) -> Self {
        CapacityLimiter {
            total: Cell::new(total),
            borrowers: RefCell::default(),
            waiting: Line::new(),
            queued: RefCell::default(),
        }
    }

    /// Borrows a token for the current task, waiting for one if need be. Dropped, it is given back.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it did nothing.
    ///
    /// # Errors
    ///
    /// [`LimiterError::Cancelled`]; [`AlreadyBorrowed`](LimiterError::AlreadyBorrowed) or
    /// [`AlreadyQueued`](LimiterError::AlreadyQueued) by the same borrower.
    ///
    /// # Panics
    ///
    /// Outside a run.
    #[track_caller]
    pub fn acquire(&self) -> impl Future<Output = Result<Token<'_>, LimiterError>> + use<'_> {
        let place = Location::caller();
        async move { self.borrow(None, place).await }
    }

    /// Borrows a token for somebody, waiting for one if need be. Dropped, it is given back.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it did nothing.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Panics
    ///
    /// Outside a run.
    #[track_caller]
    pub fn acquire_on_behalf_of<B: Into<Borrower>>(
        &self,
        borrower: B,
    ) -> impl Future<Output = Result<Token<'_>, LimiterError>> + use<'_, B> {
        let place = Location::caller();
        let borrower = borrower.into();
        async move { self.borrow(Some(borrower), place).await }
    }

    /// Borrows a token for the current task if there is one.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// [`LimiterError::WouldBlock`] if there is none, or others wait;
    /// [`AlreadyBorrowed`](LimiterError::AlreadyBorrowed).
    ///
    /// # Panics
    ///
    /// Outside a task.
    #[track_caller]
    pub fn try_acquire(&self) -> Result<Token<'_>, LimiterError> {
        self.try_acquire_on_behalf_of(current_task())
    }

    /// Borrows a token for somebody if there is one.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire).
    pub fn try_acquire_on_behalf_of(
        &self,
        borrower: impl Into<Borrower>,
    ) -> Result<Token<'_>, LimiterError> {
        let borrower = borrower.into();
        let mut borrowers = self.borrowers.borrow_mut();
        if borrowers.contains(&borrower) {
            return Err(LimiterError::AlreadyBorrowed(borrower));
        }
        // Nobody waits while there is one to lend: `lend` sees to that.
        if borrowers.len() >= self.total.get() {
            return Err(LimiterError::WouldBlock);
        }
        borrowers.insert(borrower.clone());
        Ok(Token { limiter: self, borrower })
    }

    async fn borrow(
        &self,
        borrower: Option<Borrower>,
        place: &'static Location<'static>,
    ) -> Result<Token<'_>, LimiterError> {
        checkpoint_if_cancelled().await?;
        let borrower = borrower.unwrap_or_else(|| current_task().into());
        match self.try_acquire_on_behalf_of(borrower.clone()) {
            Ok(token) => {
                cancel_shielded_checkpoint().await;
                return Ok(token);
            }
            Err(LimiterError::WouldBlock) => {}
            Err(error) => return Err(error),
        }
        let waiting = self.queue(borrower)?;
        waiting.seat().park("a capacity limiter", place).await?;
        Ok(waiting.arrive())
    }

    fn queue(&self, borrower: Borrower) -> Result<Waiting<'_>, LimiterError> {
        let mut queued = self.queued.borrow_mut();
        if queued.get(&borrower).is_some_and(|seat| seat.is_waiting()) {
            return Err(LimiterError::AlreadyQueued(borrower));
        }
        let seat = self.waiting.enter(|data| {
            data.borrower.replace(Some(borrower.clone()));
        });
        queued.insert(borrower.clone(), seat.clone());
        Ok(Waiting { limiter: self, seat: Some(seat), borrower })
    }

    /// Gives back the token of the current task.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// [`LimiterError::NotBorrowed`].
    ///
    /// # Panics
    ///
    /// Outside a task.
    #[track_caller]
    pub fn release(&self) -> Result<(), LimiterError> {
        self.release_on_behalf_of(current_task())
    }

    /// Gives back somebody's token.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// [`LimiterError::NotBorrowed`].
    pub fn release_on_behalf_of(&self, borrower: impl Into<Borrower>) -> Result<(), LimiterError> {
        let borrower = borrower.into();
        if self.give_back(&borrower) { Ok(()) } else { Err(LimiterError::NotBorrowed(borrower)) }
    }

    fn give_back(&self, borrower: &Borrower) -> bool {
        let had_one = self.borrowers.borrow_mut().remove(borrower);
        self.lend();
        had_one
    }

    /// Lends what there is to those that wait.
    fn lend(&self) {
        while self.borrowers.borrow().len() < self.total.get() {
            let Some(seat) = self.waiting.next(|_| true) else { break };
            let borrower = seat.data.borrower.take().expect("set while it waits");
            self.unqueue(&borrower, &seat);
            self.borrowers.borrow_mut().insert(borrower);
            seat.data.has_token.set(true);
            seat.wake();
        }
    }

    fn unqueue(&self, borrower: &Borrower, seat: &Rc<Seat<Data>>) {
        let mut queued = self.queued.borrow_mut();
        if queued.get(borrower).is_some_and(|other| Rc::ptr_eq(other, seat)) {
            queued.remove(borrower);
        }
    }

    /// Returns how many tokens there are in all; [`INFINITE`](Self::INFINITE) if there is no limit.
    #[must_use]
    pub fn total_tokens(&self) -> usize {
        self.total.get()
    }

    /// Sets how many tokens there are in all.
    ///
    /// If there are more now, tasks that wait get them at once; if there are fewer, nobody loses one.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    pub fn set_total_tokens(&self, total: usize) {
        self.total.set(total);
        self.lend();
    }

    /// Returns how many tokens are borrowed.
    #[must_use]
    pub fn borrowed_tokens(&self) -> usize {
        self.borrowers.borrow().len()
    }

    /// Returns how many tokens can be borrowed: fewer than none if the total was lowered; [`isize::MAX`] if there is no
    /// limit.
    #[must_use]
    pub fn available_tokens(&self) -> isize {
        match isize::try_from(self.total.get()) {
            Ok(total) => total.saturating_sub_unsigned(self.borrowed_tokens()),
            Err(_) => isize::MAX,
        }
    }

    /// Returns who holds tokens, and how many tasks wait.
    #[must_use]
    pub fn statistics(&self) -> LimiterStatistics {
        LimiterStatistics {
            borrowed_tokens: self.borrowed_tokens(),
            total_tokens: self.total_tokens(),
            borrowers: self.borrowers.borrow().iter().cloned().collect(),
            tasks_waiting: self.waiting.len(),
        }
    }
}

impl fmt::Debug for CapacityLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CapacityLimiter")
            .field("total_tokens", &self.total_tokens())
            .field("borrowers", &self.borrowers.borrow())
            .field("tasks_waiting", &self.waiting.len())
            .finish()
    }
}

/// A place in the queue. Dropped, it leaves the queue, or gives back what it was given.
struct Waiting<'a> {
    limiter: &'a CapacityLimiter,
    /// Present until it is dropped.
    seat: Option<Rc<Seat<Data>>>,
    borrower: Borrower,
}

impl<'a> Waiting<'a> {
    fn seat(&self) -> &Seat<Data> {
        self.seat.as_deref().expect("not dropped")
    }

    fn arrive(self) -> Token<'a> {
        self.seat().data.has_token.set(false);
        Token { limiter: self.limiter, borrower: self.borrower.clone() }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(seat) = self.seat.take() else { return };
        self.limiter.unqueue(&self.borrower, &seat);
        seat.data.borrower.take();
        let has_token = seat.data.has_token.take();
        self.limiter.waiting.leave(seat);
        if has_token {
            self.limiter.give_back(&self.borrower);
        }
    }
}

/// A token of a [`CapacityLimiter`], until it is dropped.
#[must_use = "dropped, it gives the token back"]
pub struct Token<'a> {
    limiter: &'a CapacityLimiter,
    borrower: Borrower,
}

impl Token<'_> {
    /// Returns who has borrowed it.
    #[must_use]
    pub fn borrower(&self) -> &Borrower {
        &self.borrower
    }

    /// Keeps the token from being given back, until somebody [releases](CapacityLimiter::release_on_behalf_of) it.
    #[expect(clippy::mem_forget, reason = "it owns nothing but the duty to give the token back")]
    pub fn forget(mut self) {
        drop(std::mem::replace(&mut self.borrower, Borrower(Key::Number(0))));
        std::mem::forget(self);
    }
}

impl Drop for Token<'_> {
    fn drop(&mut self) {
        // It may have been released by hand.
        let _had_one = self.limiter.give_back(&self.borrower);
    }
}

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("borrower", &self.borrower).finish()
    }
}

/// Who borrows a token from a [`CapacityLimiter`]: a task, a number, a name, or something
/// [`unique`](Self::unique).
///
/// # Examples
///
/// ```
/// use nursery_io::sync::{Borrower, CapacityLimiter};
///
/// let limiter = CapacityLimiter::new(1);
/// let _token = limiter.try_acquire_on_behalf_of("the nightly job")?;
/// assert_eq!(limiter.statistics().borrowers, [Borrower::from("the nightly job")]);
/// # Ok::<(), nursery_io::sync::LimiterError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Borrower(Key);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Key {
    Task(TaskId),
    Number(u64),
    Name(Arc<str>),
    Unique(u64),
}

impl Borrower {
    /// Makes a borrower that is equal to no other.
    #[must_use]
    pub fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Borrower(Key::Unique(NEXT.fetch_add(1, Ordering::Relaxed)))
    }
}

impl From<TaskId> for Borrower {
    fn from(task: TaskId) -> Self {
        Borrower(Key::Task(task))
    }
}

impl From<u64> for Borrower {
    fn from(number: u64) -> Self {
        Borrower(Key::Number(number))
    }
}

impl From<&str> for Borrower {
    fn from(name: &str) -> Self {
        Borrower(Key::Name(name.into()))
    }
}

impl From<String> for Borrower {
    fn from(name: String) -> Self {
        Borrower(Key::Name(name.into()))
    }
}

impl From<&Borrower> for Borrower {
    fn from(borrower: &Borrower) -> Self {
        borrower.clone()
    }
}

impl fmt::Debug for Borrower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Key::Task(task) => task.fmt(f),
            Key::Number(number) => number.fmt(f),
            Key::Name(name) => name.fmt(f),
            Key::Unique(number) => write!(f, "<borrower {number}>"),
        }
    }
}

/// Numbers of a [`CapacityLimiter`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimiterStatistics {
    /// Tokens that somebody has.
    pub borrowed_tokens: usize,
    /// Tokens in all.
    pub total_tokens: usize,
    /// Who has them.
    pub borrowers: Vec<Borrower>,
    /// Tasks that wait for one.
    pub tasks_waiting: usize,
}

/// Why a [`CapacityLimiter`] refused.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LimiterError {
    /// The scope was cancelled.
    Cancelled(Cancelled),
    /// There is no token to take, or others wait for it.
    WouldBlock,
    /// The borrower has a token.
    AlreadyBorrowed(Borrower),
    /// The borrower waits for a token.
    AlreadyQueued(Borrower),
    /// The borrower has no token to give back.
    NotBorrowed(Borrower),
}

impl From<Cancelled> for LimiterError {
    fn from(cancelled: Cancelled) -> Self {
        LimiterError::Cancelled(cancelled)
    }
}

impl fmt::Display for LimiterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LimiterError::Cancelled(cancelled) => cancelled.fmt(f),
            LimiterError::WouldBlock => f.write_str("the capacity limiter has no token to lend"),
            LimiterError::AlreadyBorrowed(borrower) => {
                write!(f, "{borrower:?} already has a token of this capacity limiter")
            }
            LimiterError::AlreadyQueued(borrower) => {
                write!(f, "{borrower:?} already waits for a token of this capacity limiter")
            }
            LimiterError::NotBorrowed(borrower) => {
                write!(f, "{borrower:?} has no token of this capacity limiter")
            }
        }
    }
}

impl std::error::Error for LimiterError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LimiterError::Cancelled(cancelled) => Some(cancelled),
            _ => None,
        }
    }
}

impl From<LimiterError> for io::Error {
    fn from(error: LimiterError) -> Self {
        match error {
            LimiterError::WouldBlock => io::Error::new(io::ErrorKind::WouldBlock, error),
            other => io::Error::other(other),
        }
    }
}
