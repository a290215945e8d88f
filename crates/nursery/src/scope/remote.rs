//! [`RemoteScope`]: cancel a scope from another thread.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::run::context;
use crate::run::inbox::Token;
use crate::scope::reason::{CancelReason, CancelSource};
use crate::tree::NodeId;

/// What a scope and its remote handles share.
#[derive(Default)]
pub(crate) struct Remote(Mutex<State>);

#[derive(Default)]
struct State {
    reason: Option<CancelReason>,
    /// Where the scope is, while it is entered.
    target: Option<(Token, NodeId)>,
}

impl Remote {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends cancellations to the node from now on. Returns the one that came before.
    pub(crate) fn bind(&self, token: Token, node: NodeId) -> Option<CancelReason> {
        let mut state = self.lock();
        state.target = Some((token, node));
        state.reason.clone()
    }

    pub(crate) fn unbind(&self) {
        let target = self.lock().target.take();
        drop(target);
    }

    /// Why it was cancelled from another thread, if it was.
    pub(crate) fn reason(&self) -> Option<CancelReason> {
        self.lock().reason.clone()
    }
}

/// A handle with which any thread can cancel a scope, from [`CancelScope::remote`](crate::CancelScope::remote).
///
/// `Send`, `Sync` and cheap to clone. Before the scope is entered the cancellation is remembered; after its
/// end, and after the end of its run, it has no effect.
#[derive(Clone)]
pub struct RemoteScope(Arc<Remote>);

impl RemoteScope {
    pub(crate) fn new(remote: Arc<Remote>) -> Self {
        RemoteScope(remote)
    }

    /// Cancels the scope. See [`CancelScope::cancel`](crate::CancelScope::cancel).
    pub fn cancel(&self) {
        self.cancel_because(CancelSource::Explicit);
    }

    /// The same, with a reason.
    pub fn cancel_because(&self, reason: impl Into<CancelReason>) {
        let reason = reason.into();
        let target = {
            let mut state = self.0.lock();
            if state.reason.is_some() {
                return;
            }
            state.reason = Some(reason.clone());
            state.target.clone()
        };
        if let Some((token, node)) = target {
            // A run that has finished needs no cancelling.
            let _ = token.run_soon(move || {
                if let Some(run) = context::try_current_run() {
                    run.cancel(node, reason);
                }
            });
        }
    }
}

impl fmt::Debug for RemoteScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteScope").finish_non_exhaustive()
    }
}
