//! [`Hook`] and [`AsyncHook`]: what a test wants to happen when a memory stream is used.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use nursery_io::stream::StreamError;

/// What is called when a memory stream is closed.
#[derive(Default)]
pub struct Hook(RefCell<Option<Rc<dyn Fn()>>>);

impl Hook {
    /// Sets what is called, instead of what was set before.
    pub fn set(&self, hook: impl Fn() + 'static) {
        let old = self.0.replace(Some(Rc::new(hook)));
        drop(old); // foreign: nothing is borrowed
    }

    /// Removes it: nothing is called any more.
    pub fn remove(&self) {
        let old = self.0.take();
        drop(old);
    }

    pub(super) fn call(&self) {
        let hook = self.0.borrow().clone();
        if let Some(hook) = hook {
            hook();
        }
    }
}

type Called = Pin<Box<dyn Future<Output = Result<(), StreamError>>>>;

/// What is awaited in an operation of a memory stream, which fails if it does.
#[derive(Default)]
pub struct AsyncHook(RefCell<Option<Rc<dyn Fn() -> Called>>>);

impl AsyncHook {
    /// Sets what is awaited, instead of what was set before.
    pub fn set(&self, hook: impl AsyncFn() -> Result<(), StreamError> + 'static) {
        let hook = Rc::new(hook);
        let call = move || -> Called {
            let hook = hook.clone();
            Box::pin(async move { hook().await })
        };
        let old = self.0.replace(Some(Rc::new(call)));
        drop(old); // foreign: nothing is borrowed
    }

    /// Removes it: nothing is awaited any more.
    pub fn remove(&self) {
        let old = self.0.take();
        drop(old);
    }

    pub(super) async fn call(&self) -> Result<(), StreamError> {
        let hook = self.0.borrow().clone();
        match hook {
            Some(hook) => hook().await,
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").field("is_set", &self.0.borrow().is_some()).finish()
    }
}

impl fmt::Debug for AsyncHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncHook").field("is_set", &self.0.borrow().is_some()).finish()
    }
}
