//! Catches a panic and returns what it says.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `f` panics with.
#[track_caller]
pub(crate) fn panic_of<R>(f: impl FnOnce() -> R) -> Box<dyn Any + Send> {
    match catch_unwind(AssertUnwindSafe(|| drop(f()))) {
        Ok(()) => panic!("it did not panic"),
        Err(panic) => panic,
    }
}

/// The message with which `f` panics.
#[track_caller]
pub(crate) fn panic_message<R>(f: impl FnOnce() -> R) -> String {
    match panic_of(f).downcast::<String>() {
        Ok(message) => *message,
        Err(other) => (*other.downcast_ref::<&str>().expect("a panic with a message")).to_owned(),
    }
}
