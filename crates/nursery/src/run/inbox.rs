//! The only door from other threads: wake-ups that did not come from the run itself, and the entry queue.
//!
//! Everything a foreign thread may touch is behind the one lock here; nothing foreign runs under it.
//! Wakers of tasks reach their inbox without counting references: inboxes are never freed but used
//! again by a later run, and a *generation* tells a waker of an old run that its run has gone.
//!
//! # Invariants
//!
//! 1. A call that [`Token::run_soon`] accepted is run, even during shutdown: [`Inbox::close`] returns
//!    what is left, and accepts nothing from then on.
//! 2. A woken task is touched on its home thread only: see [`crate::nursery::erase`].

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::nursery::erase::Sent;

pub(crate) struct Inbox {
    content: Mutex<Content>,
    /// Something is in it. Read without the lock once a turn.
    filled: AtomicBool,
}

#[derive(Default)]
struct Content {
    generation: u32,
    open: bool,
    woken: Vec<Sent>,
    calls: VecDeque<Call>,
    /// The host's waker; absent while a wake-up is on its way.
    root: Option<Waker>,
}

/// A call from outside, with the key of those that merge.
pub(crate) struct Call {
    key: Option<OnceKey>,
    pub(crate) call: Box<dyn FnOnce() + Send>,
}

static NEXT_GENERATION: AtomicU32 = AtomicU32::new(0);

static UNUSED: Mutex<Vec<&'static Inbox>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics under these locks but an allocation, which aborts.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inbox {
    /// Takes an inbox for a new run.
    pub(crate) fn open() -> Door {
        let unused = lock(&UNUSED).pop();
        // Among all runs, not only those of this inbox: the identity of tasks is made of it.
        let generation = NEXT_GENERATION.fetch_add(1, Ordering::Relaxed);
        // After four billion runs they begin again. An inbox that may have seen this one stays with its wakers.
        let inbox = unused.filter(|inbox| lock(&inbox.content).generation < generation);
        let inbox = inbox.unwrap_or_else(|| {
            Box::leak(Box::new(Inbox { content: Mutex::default(), filled: AtomicBool::new(false) }))
        });
        let mut content = lock(&inbox.content);
        content.open = true;
        content.generation = generation;
        drop(content);
        Door { inbox, generation }
    }

    /// Ends a run's use of the inbox. Returns what had been accepted.
    pub(crate) fn close(&'static self) -> VecDeque<Call> {
        let (woken, calls, root) = {
            let mut content = lock(&self.content);
            content.open = false;
            self.filled.store(false, Ordering::Relaxed);
            (
                std::mem::take(&mut content.woken),
                std::mem::take(&mut content.calls),
                content.root.take(),
            )
        };
        drop(root);
        drop(woken);
        lock(&UNUSED).push(self);
        calls
    }

    /// Passes a woken task to its run, if that has not gone.
    pub(crate) fn push_woken(&self, generation: u32, task: Sent) {
        let mut content = lock(&self.content);
        if !content.open || content.generation != generation {
            drop(content);
            return;
        }
        content.woken.push(task);
        self.filled.store(true, Ordering::Release);
        let root = content.root.take();
        drop(content);
        root.into_iter().for_each(Waker::wake);
    }

    fn push_call<F: FnOnce() + Send + 'static>(
        &self,
        generation: u32,
        key: Option<OnceKey>,
        f: F,
    ) -> Result<(), RunFinished<F>> {
        let mut content = lock(&self.content);
        if !content.open || content.generation != generation {
            return Err(RunFinished(f));
        }
        if key.is_some() && content.calls.iter().any(|pending| pending.key == key) {
            drop(content);
            return Ok(()); // merged; `f` is dropped outside the lock
        }
        content.calls.push_back(Call { key, call: Box::new(f) });
        self.filled.store(true, Ordering::Release);
        let root = content.root.take();
        drop(content);
        root.into_iter().for_each(Waker::wake);
        Ok(())
    }

    pub(crate) fn is_filled(&self) -> bool {
        self.filled.load(Ordering::Acquire)
    }

    /// Takes the tasks that were woken from outside, and says how many calls there are at this moment.
    pub(crate) fn take_woken(&self) -> (Vec<Sent>, usize) {
        let mut content = lock(&self.content);
        self.filled.store(false, Ordering::Relaxed);
        (std::mem::take(&mut content.woken), content.calls.len())
    }

    pub(crate) fn next_call(&self) -> Option<Call> {
        lock(&self.content).calls.pop_front()
    }

    pub(crate) fn calls_waiting(&self) -> usize {
        lock(&self.content).calls.len()
    }

    /// Sets whom to wake. Returns false, and sets nothing, if something came in meanwhile.
    pub(crate) fn set_root(&self, waker: &Waker) -> bool {
        let new = waker.clone();
        let mut content = lock(&self.content);
        let quiet = content.woken.is_empty() && content.calls.is_empty();
        let old = if quiet { content.root.replace(new) } else { Some(new) };
        drop(content);
        drop(old); // foreign: outside the lock
        quiet
    }

    /// Wakes the host, from the run's own thread.
    pub(crate) fn wake_root(&self, generation: u32) {
        let root = {
            let mut content = lock(&self.content);
            if content.generation == generation { content.root.take() } else { None }
        };
        root.into_iter().for_each(Waker::wake);
    }
}

/// A way into a run from any thread, from [`lowlevel::token`](crate::lowlevel::token).
///
/// `Send`, `Sync` and cheap to clone. All tokens of a run are equal, and differ from those of other runs.
///
/// # Examples
///
/// ```
/// use nursery::{CancelScope, lowlevel, sleep_forever};
///
/// # nursery::run(async {
/// let scope = CancelScope::new();
/// let remote = scope.remote();
/// std::thread::spawn(move || remote.cancel_because("a thread said so"));
/// assert!(scope.enter(sleep_forever()).await?.is_none());
/// # Ok::<(), nursery::Cancelled>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Token(Arc<Door>);

/// The inbox of a run, which another may have by now.
#[derive(Clone, Copy)]
pub(crate) struct Door {
    pub(crate) inbox: &'static Inbox,
    /// Tells the run from others that had the inbox before, or will have it.
    pub(crate) generation: u32,
}

impl PartialEq for Door {
    fn eq(&self, other: &Door) -> bool {
        std::ptr::eq(self.inbox, other.inbox) && self.generation == other.generation
    }
}

impl Door {
    fn push<F: FnOnce() + Send + 'static>(
        &self,
        key: Option<OnceKey>,
        f: F,
    ) -> Result<(), RunFinished<F>> {
        self.inbox.push_call(self.generation, key, f)
    }
}

impl Token {
    pub(crate) fn new(door: Door) -> Self {
        Token(Arc::new(door))
    }

    /// Queues `f` to be called by the run, on its thread, between two turns.
    ///
    /// Never blocks on the run, and wakes it if it sleeps. Calls run in the order in which they were queued;
    /// only those that were there when a turn began run in it, so that a call that queues itself again
    /// starves nobody. `f` is not in any task: it can cancel scopes, set events and start children, but not
    /// wait. If it panics, the run ends with that panic, after the other calls have run.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// [`RunFinished`], which gives `f` back, if the run is over. A call that was accepted is run, even while
    /// the run shuts down.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::mpsc;
    /// # nursery::run(async {
    /// let token = nursery::lowlevel::token();
    /// let (tx, rx) = mpsc::channel();
    /// token.run_soon(move || tx.send("on the run's thread").unwrap()).unwrap();
    /// while rx.try_recv() != Ok("on the run's thread") {
    ///     nursery::checkpoint().await?;
    /// }
    /// # Ok::<(), nursery::Cancelled>(())
    /// # }).unwrap();
    /// ```
    pub fn run_soon<F: FnOnce() + Send + 'static>(&self, f: F) -> Result<(), RunFinished<F>> {
        self.0.push(None, f)
    }

    /// Like [`run_soon`](Self::run_soon), but does nothing while a call with the same key is still waiting.
    ///
    /// For signals of the kind "there is something to look at", of which one is as good as ten. A call that
    /// queues its own key while it runs is queued: it no longer waits.
    ///
    /// # Errors
    ///
    /// [`RunFinished`], as [`run_soon`](Self::run_soon).
    pub fn run_soon_once<F: FnOnce() + Send + 'static>(
        &self,
        key: OnceKey,
        f: F,
    ) -> Result<(), RunFinished<F>> {
        self.0.push(Some(key), f)
    }

    /// Makes a weak token of it, which does not say that anything is to be expected from outside.
    #[must_use]
    pub fn downgrade(&self) -> WeakToken {
        WeakToken(*self.0)
    }

    /// Are there tokens besides the run's own? Then somebody outside may still have something to say.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").finish_non_exhaustive()
    }
}

/// A [`Token`] that lets the run be taken for stuck, from [`Token::downgrade`].
///
/// As long as somebody outside has a token, the run may hear of them, and is in no deadlock whatever its tasks wait for.
/// A weak one is for those who bring what tasks wait for *as a wait on the outside world* anyway, such as the events of
/// their sockets: if there is no such wait, nothing is to be expected.
///
/// # Examples
///
/// ```
/// use std::sync::mpsc;
/// # nursery::run(async {
/// let weak = nursery::lowlevel::token().downgrade();
/// let (tx, rx) = mpsc::channel();
/// weak.run_soon(move || tx.send("on the run's thread").unwrap()).unwrap();
/// while rx.try_recv() != Ok("on the run's thread") {
///     nursery::checkpoint().await?;
/// }
/// # Ok::<(), nursery::Cancelled>(())
/// # }).unwrap();
/// ```
// It holds no reference, so that none is to be seen while a call is made, when the run may ask whether it is stuck.
#[derive(Clone)]
pub struct WeakToken(Door);

impl WeakToken {
    /// Queues `f` to be called by the run: see [`Token::run_soon`].
    ///
    /// # Errors
    ///
    /// [`RunFinished`], which gives `f` back, if the run is over.
    pub fn run_soon<F: FnOnce() + Send + 'static>(&self, f: F) -> Result<(), RunFinished<F>> {
        self.0.push(None, f)
    }

    /// Like [`run_soon`](Self::run_soon), but does nothing while a call with the same key is still waiting: see
    /// [`Token::run_soon_once`].
    ///
    /// # Errors
    ///
    /// [`RunFinished`], as [`run_soon`](Self::run_soon).
    pub fn run_soon_once<F: FnOnce() + Send + 'static>(
        &self,
        key: OnceKey,
        f: F,
    ) -> Result<(), RunFinished<F>> {
        self.0.push(Some(key), f)
    }
}

impl fmt::Debug for WeakToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakToken").finish_non_exhaustive()
    }
}

/// Which calls of [`Token::run_soon_once`] merge with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OnceKey(u64);

impl OnceKey {
    /// Makes a key that differs from all others.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a default that differs each time surprises")]
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        OnceKey(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The run is over; the call is given back.
pub struct RunFinished<F>(pub F);

impl<F> fmt::Debug for RunFinished<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RunFinished")
    }
}

impl<F> fmt::Display for RunFinished<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the run has finished and takes no more calls")
    }
}

impl<F> std::error::Error for RunFinished<F> {}
