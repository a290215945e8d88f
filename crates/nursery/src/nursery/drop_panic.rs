//! Panics of what is dropped, or woken, where nobody could handle them: the first is kept for the nursery.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

pub(crate) type Panic = Box<dyn Any + Send>;

/// Drops a value of the user's, as [`quietly`] calls.
pub(crate) fn drop_quietly<T>(value: T) {
    quietly(|| drop(value));
}

/// Calls what drops or wakes something of the user's; if that panics, the panic is the nursery's.
pub(crate) fn quietly(f: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(f)) {
        note_drop_panic(panic);
    }
}

/// Keeps a panic, unless there is one already. Returns the one that is not kept, to be dropped with nothing borrowed.
#[must_use]
pub(crate) fn keep_first(first: &mut Option<Panic>, panic: Panic) -> Option<Panic> {
    if first.is_none() { first.replace(panic) } else { Some(panic) }
}

/// The first panic of several calls, none of which is to be left out because of it.
#[derive(Default)]
pub(crate) struct Panics(Option<Panic>);

impl Panics {
    pub(crate) fn catch(&mut self, f: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(f)) {
            drop_quietly(keep_first(&mut self.0, panic));
        }
    }

    /// Goes on with it.
    pub(crate) fn resume(self) {
        if let Some(panic) = self.0 {
            resume_unwind(panic);
        }
    }
}

thread_local! {
    static DROP_PANIC: RefCell<Option<Panic>> = const { RefCell::new(None) };
    /// There may be one.
    static HAS_DROP_PANIC: Cell<bool> = const { Cell::new(false) };
}

/// Keeps the panic of a value that was dropped, unless there is one already.
pub(super) fn note_drop_panic(panic: Panic) {
    HAS_DROP_PANIC.set(true);
    let surplus = DROP_PANIC.try_with(|first| keep_first(&mut first.borrow_mut(), panic));
    if let Err(worse) = catch_unwind(AssertUnwindSafe(|| drop(surplus))) {
        #[expect(clippy::mem_forget, reason = "nothing else is sure not to panic")]
        std::mem::forget(worse); // the panic of a panic: who knows what its end would bring
    }
}

/// Has a value panicked that was dropped?
pub(crate) fn has_drop_panic() -> bool {
    HAS_DROP_PANIC.get()
}

/// The first panic of a value that was dropped since this was last asked.
pub(crate) fn take_drop_panic() -> Option<Panic> {
    if !HAS_DROP_PANIC.replace(false) {
        return None;
    }
    DROP_PANIC.try_with(|first| first.borrow_mut().take()).ok().flatten()
}
