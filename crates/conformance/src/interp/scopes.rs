//! Cancel scopes: entering them, and what can be seen and set.

use std::rc::Rc;

use nursery::{CancelScope, EffectiveDeadline, current_effective_deadline, now};
use serde_json::json;

use super::{Interp, Result, Task, after, seconds};
use crate::failure::Failure;
use crate::program::{Block, Seconds, Timed, TimedAt};

/// Makes a scope; the time limit counts from entry.
pub(super) fn new_scope(shield: bool, limit: Option<Seconds>) -> CancelScope {
    let scope = CancelScope::new().with_shield(shield);
    match limit {
        Some(limit) => scope.with_timeout(limit.0),
        None => scope,
    }
}

impl Interp {
    pub(super) fn scope(&self, id: &str) -> Result<CancelScope> {
        self.scopes.borrow().get(id).cloned().ok_or_else(Failure::unbound)
    }

    pub(super) fn bind_scope(&self, id: &str, scope: &CancelScope) {
        self.scopes.borrow_mut().insert(id.to_owned(), scope.clone());
    }

    /// Runs `body` in `scope`. `None`: the scope absorbed all that left the body.
    pub(super) async fn scoped(
        self: &Rc<Self>,
        me: &Task,
        id: &str,
        scope: CancelScope,
        body: &Block,
    ) -> Result<Option<()>> {
        let inside = async {
            self.bind_scope(id, &scope);
            self.block(me, body).await
        };
        let result = scope.enter(inside).await;
        self.log_scope(me, "scope_exit", id, &scope);
        result
    }

    pub(super) async fn scope_after(
        self: &Rc<Self>,
        me: &Task,
        limit: &Timed,
    ) -> Result<Option<()>> {
        let scope = new_scope(limit.shield, Some(limit.dur));
        self.scoped(me, &limit.id, scope, &limit.body).await
    }

    pub(super) async fn scope_at(
        self: &Rc<Self>,
        me: &Task,
        limit: &TimedAt,
    ) -> Result<Option<()>> {
        let scope = new_scope(limit.shield, None);
        scope.set_deadline(self.instant(limit.at));
        self.scoped(me, &limit.id, scope, &limit.body).await
    }

    /// Sets the deadline from now on; for a scope that has a time limit and was not entered, that limit.
    pub(super) fn set_deadline_after(&self, scope: &CancelScope, limit: Option<f64>) {
        let is_relative = !scope.is_entered() && scope.timeout().is_some();
        match limit.map(Seconds::try_from) {
            Some(Ok(limit)) if is_relative => scope.set_timeout(limit.0),
            _ => scope.set_deadline(limit.and_then(|limit| after(now(), limit))),
        }
    }

    pub(super) fn log_scope(&self, me: &Task, event: &str, id: &str, scope: &CancelScope) {
        let fields = json!({
            "id": id,
            "cancel_called": scope.cancel_called(),
            "cancelled_caught": scope.cancelled_caught(),
        });
        self.log(me, event, fields);
    }

    pub(super) fn log_effective_deadline(&self, me: &Task) {
        let left = match current_effective_deadline() {
            EffectiveDeadline::Cancelled => json!("-inf"),
            EffectiveDeadline::Never => json!("inf"),
            EffectiveDeadline::At(at) => match at.checked_duration_since(now()) {
                Some(left) => seconds(left.as_secs_f64()),
                None => seconds(-(now() - at).as_secs_f64()),
            },
        };
        self.log(me, "effective_deadline", json!({ "in": left }));
    }
}
