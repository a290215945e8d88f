//! Values that belong to a task and are inherited at spawn ([`TaskLocal`]), or to the whole run ([`RunLocal`]).

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;

use crate::run::Run;
use crate::run::context;

/// The context of a task: what its `TaskLocal`s hold. Shared with its children until one of them changes it.
#[derive(Clone, Default)]
pub(crate) struct Locals(BTreeMap<usize, Rc<dyn Any>>);

/// The run's `RunLocal`s.
#[derive(Default)]
pub(crate) struct RunLocals(RefCell<BTreeMap<usize, Rc<dyn Any>>>);

impl RunLocals {
    pub(crate) fn take(&self) -> impl Sized + use<> {
        self.0.take()
    }
}

/// The address of a static identifies it.
fn key<T>(local: &'static T) -> usize {
    std::ptr::from_ref(local).addr()
}

/// A value that each task has for itself, and that a child inherits from the task that starts it.
///
/// Later changes on either side are invisible to the other. (trio: context variables.)
///
/// # Examples
///
/// ```
/// use nursery::{TaskLocal, open_nursery};
///
/// static REQUEST: TaskLocal<u32> = TaskLocal::new();
///
/// # nursery::run(async {
/// REQUEST.set(7);
/// open_nursery(async |n| {
///     n.start_soon(async {
///         assert_eq!(REQUEST.get(), Some(7));
///         REQUEST.set(8); // its own copy
///         Ok(())
///     });
///     Ok::<(), nursery::Cancelled>(())
/// })
/// .await?;
/// assert_eq!(REQUEST.get(), Some(7));
/// # Ok::<(), nursery::Cancelled>(())
/// # }).unwrap();
/// ```
pub struct TaskLocal<T: 'static> {
    // Not zero-sized: the address is the identity.
    _identity: u8,
    _value: PhantomData<fn() -> T>,
}

impl<T: 'static> TaskLocal<T> {
    /// Makes a task local without a value.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "used in statics only")]
    pub const fn new() -> Self {
        TaskLocal { _identity: 0, _value: PhantomData }
    }

    /// Sets the value for the current task and the children it starts from now on. Returns the old one.
    ///
    /// # Panics
    ///
    /// Outside a task.
    #[track_caller]
    pub fn set(&'static self, value: T) -> Option<Rc<T>> {
        self.replace(Some(Rc::new(value)))
    }

    /// Removes the value for the current task. Returns the old one.
    ///
    /// # Panics
    ///
    /// Outside a task.
    #[track_caller]
    pub fn unset(&'static self) -> Option<Rc<T>> {
        self.replace(None)
    }

    #[track_caller]
    fn replace(&'static self, value: Option<Rc<T>>) -> Option<Rc<T>> {
        let run = context::current_run("a `TaskLocal`");
        let task = context::task("a `TaskLocal`");
        run.has_task_locals.set(true);
        let id = task.node(&run);
        let mut state = run.state.borrow_mut();
        let node = state.nodes.get_mut(id)?;
        let locals = Rc::make_mut(node.extra().locals.get_or_insert_default());
        let old = match value {
            Some(value) => locals.0.insert(key(self), value),
            None => locals.0.remove(&key(self)),
        };
        drop(state);
        old.and_then(|old| old.downcast().ok())
    }

    /// Returns the value, shared: it is dropped when no task has it any more.
    #[must_use]
    pub fn get_shared(&'static self) -> Option<Rc<T>> {
        let run = context::try_current_run()?;
        let task = context::known_task()?; // without a node, it has none
        let state = run.state.borrow();
        let locals = state.nodes.get(task)?.extra.as_ref()?.locals.as_ref()?;
        locals.0.get(&key(self)).cloned().and_then(|value| value.downcast().ok())
    }

    /// Returns a copy of the value. `None` if there is none, and outside a task.
    #[must_use]
    pub fn get(&'static self) -> Option<T>
    where
        T: Clone,
    {
        self.get_shared().map(|value| T::clone(&value))
    }
}

impl<T> fmt::Debug for TaskLocal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskLocal").finish_non_exhaustive()
    }
}

/// One value per run, shared by all its tasks, and fresh in each run.
///
/// # Examples
///
/// ```
/// use nursery::RunLocal;
///
/// static LIMIT: RunLocal<u32> = RunLocal::with_default(|| 40);
///
/// # nursery::run(async {
/// assert_eq!(LIMIT.get(), Some(40));
/// let before = LIMIT.set(10);
/// assert_eq!(LIMIT.get(), Some(10));
/// LIMIT.reset(before);
/// assert_eq!(LIMIT.get(), Some(40));
/// # Ok::<(), nursery::Cancelled>(())
/// # }).unwrap();
/// ```
pub struct RunLocal<T: 'static> {
    default: Option<fn() -> T>,
}

/// What a [`RunLocal`] held before [`RunLocal::set`]. Used up by [`RunLocal::reset`].
pub struct Previous<T: 'static> {
    run: Rc<Run>,
    key: usize,
    value: Option<Rc<T>>,
}

impl<T: 'static> RunLocal<T> {
    /// Makes a run local without a value.
    #[must_use]
    pub const fn new() -> Self {
        RunLocal { default: None }
    }

    /// Makes a run local whose first use in a run makes its value.
    #[must_use]
    pub const fn with_default(default: fn() -> T) -> Self {
        RunLocal { default: Some(default) }
    }

    /// Returns the value, shared. `None` if it was never set in this run and has no default.
    ///
    /// # Panics
    ///
    /// Outside a run.
    #[must_use]
    #[track_caller]
    pub fn get_shared(&'static self) -> Option<Rc<T>> {
        let run = context::current_run("a `RunLocal`");
        let found = run.locals.0.borrow().get(&key(self)).cloned();
        match found {
            Some(value) => value.downcast().ok(),
            None => {
                let value = Rc::new(self.default?());
                run.locals.0.borrow_mut().insert(key(self), value.clone());
                Some(value)
            }
        }
    }

    /// Returns a copy of the value.
    ///
    /// # Panics
    ///
    /// Outside a run.
    #[must_use]
    #[track_caller]
    pub fn get(&'static self) -> Option<T>
    where
        T: Clone,
    {
        self.get_shared().map(|value| T::clone(&value))
    }

    /// Sets the value for this run. What it returns can put the old state back, "never set" included.
    ///
    /// # Panics
    ///
    /// Outside a run.
    #[track_caller]
    pub fn set(&'static self, value: T) -> Previous<T> {
        let run = context::current_run("a `RunLocal`");
        let old = run.locals.0.borrow_mut().insert(key(self), Rc::new(value));
        Previous { run, key: key(self), value: old.and_then(|old| old.downcast().ok()) }
    }

    /// Puts back what was there before the `set` that returned `previous`.
    ///
    /// # Panics
    ///
    /// If `previous` comes from another run local, or from another run; outside a run.
    #[track_caller]
    pub fn reset(&'static self, previous: Previous<T>) {
        let run = context::current_run("a `RunLocal`");
        assert!(
            previous.key == key(self),
            "`RunLocal::reset` was given what the `set` of another run local returned"
        );
        assert!(
            Rc::ptr_eq(&run, &previous.run),
            "`RunLocal::reset` was given what a `set` in another run returned: each run has its own value"
        );
        let mut locals = run.locals.0.borrow_mut();
        let old = match previous.value {
            Some(value) => locals.insert(previous.key, value),
            None => locals.remove(&previous.key),
        };
        drop(locals);
        drop(old);
    }
}

impl<T> Default for RunLocal<T> {
    fn default() -> Self {
        RunLocal::new()
    }
}

impl<T> fmt::Debug for RunLocal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunLocal").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Previous<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Previous").finish_non_exhaustive()
    }
}
