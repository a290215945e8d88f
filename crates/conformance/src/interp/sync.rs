//! Events, locks, semaphores, limiters, conditions.

use std::collections::BTreeMap;
use std::rc::Rc;

use nursery_io::sync::{
    CapacityLimiter, Condition, Event, LimiterError, Lock, LockError, Semaphore, TooManyPermits,
    WouldBlock,
};
use serde_json::json;

use super::{Interp, Result, Task};
use crate::failure::Failure;
use crate::program::{Block, Kind, Program};

/// What a program declares, by name. That it declares what it uses was checked when it was read.
pub(super) struct Resources {
    events: BTreeMap<String, Event>,
    locks: BTreeMap<String, Lock>,
    semaphores: BTreeMap<String, Semaphore>,
    limiters: BTreeMap<String, CapacityLimiter>,
    conditions: BTreeMap<String, Condition>,
}

impl Resources {
    pub(super) fn new(program: &Program) -> Self {
        let semaphores = program.semaphores.iter().map(|(name, tokens)| {
            let semaphore = match tokens.max {
                Some(max) => Semaphore::with_max(tokens.initial, max),
                None => Semaphore::new(tokens.initial),
            };
            (name.clone(), semaphore)
        });
        let limiters = program.limiters.iter();
        let limiters = limiters.map(|(name, &total)| (name.clone(), CapacityLimiter::new(total)));
        Resources {
            events: program.events.iter().map(|name| (name.clone(), Event::new())).collect(),
            locks: program.locks.iter().map(|name| (name.clone(), Lock::new())).collect(),
            semaphores: semaphores.collect(),
            limiters: limiters.collect(),
            conditions: program
                .conditions
                .iter()
                .map(|name| (name.clone(), Condition::new()))
                .collect(),
        }
    }
}

impl Interp {
    pub(super) fn event(&self, name: &str) -> &Event {
        &self.resources.events[name]
    }

    fn lock(&self, name: &str) -> &Lock {
        &self.resources.locks[name]
    }

    pub(super) fn semaphore(&self, name: &str) -> &Semaphore {
        &self.resources.semaphores[name]
    }

    pub(super) fn limiter(&self, name: &str) -> &CapacityLimiter {
        &self.resources.limiters[name]
    }

    pub(super) fn condition(&self, name: &str) -> &Condition {
        &self.resources.conditions[name]
    }

    fn log_acquired(&self, me: &Task, kind: Kind, name: &str) {
        self.log(me, "acquired", json!({ "kind": kind.word(), "name": name }));
    }

    pub(super) async fn with_lock(
        self: &Rc<Self>,
        me: &Task,
        name: &str,
        body: &Block,
        nowait: bool,
    ) -> Result {
        let lock = self.lock(name);
        let guard = if nowait { lock.try_lock()? } else { lock.lock().await? };
        self.log_acquired(me, Kind::Lock, name);
        let result = self.block(me, body).await;
        drop(guard);
        result
    }

    /// The body may give back more than there is room for: then the end fails, whatever the body did.
    pub(super) async fn with_semaphore(
        self: &Rc<Self>,
        me: &Task,
        name: &str,
        body: &Block,
        nowait: bool,
    ) -> Result {
        let semaphore = self.semaphore(name);
        let permit = if nowait { semaphore.try_acquire()? } else { semaphore.acquire().await? };
        permit.forget();
        self.log_acquired(me, Kind::Semaphore, name);
        let result = self.block(me, body).await;
        semaphore.release()?;
        result
    }

    pub(super) async fn sem_acquire(&self, me: &Task, name: &str) -> Result {
        self.semaphore(name).acquire().await?.forget();
        self.log_acquired(me, Kind::Semaphore, name);
        Ok(())
    }

    pub(super) async fn with_limiter(
        self: &Rc<Self>,
        me: &Task,
        name: &str,
        body: &Block,
        nowait: bool,
    ) -> Result {
        let limiter = self.limiter(name);
        let token = if nowait { limiter.try_acquire()? } else { limiter.acquire().await? };
        self.log_acquired(me, Kind::Limiter, name);
        let result = self.block(me, body).await;
        drop(token);
        result
    }

    /// The lock is the condition's own; what happens to it inside the body is up to `cond_wait`.
    pub(super) async fn with_condition(
        self: &Rc<Self>,
        me: &Task,
        name: &str,
        body: &Block,
    ) -> Result {
        let condition = self.condition(name);
        condition.lock().acquire().await?;
        self.log_acquired(me, Kind::Condition, name);
        let result = self.block(me, body).await;
        condition.lock().release()?;
        result
    }

    pub(super) async fn cond_wait(&self, me: &Task, name: &str) -> Result {
        self.condition(name).wait().await?;
        self.log(me, "notified", json!({ "name": name }));
        Ok(())
    }

    pub(super) fn log_event(&self, me: &Task, name: &str) {
        self.log(me, "event", json!({ "name": name, "value": self.event(name).is_set() }));
    }

    pub(super) fn log_lock(&self, me: &Task, name: &str) {
        let lock = self.lock(name).statistics();
        let fields =
            json!({ "name": name, "locked": lock.is_locked, "waiting": lock.tasks_waiting });
        self.log(me, "lock", fields);
    }

    pub(super) fn log_sem(&self, me: &Task, name: &str) {
        let sem = self.semaphore(name).statistics();
        let fields = json!({ "name": name, "value": sem.value, "waiting": sem.tasks_waiting });
        self.log(me, "sem", fields);
    }

    pub(super) fn log_limiter(&self, me: &Task, name: &str) {
        let limiter = self.limiter(name).statistics();
        let fields = json!({
            "name": name,
            "total": limiter.total_tokens,
            "borrowed": limiter.borrowed_tokens,
            "waiting": limiter.tasks_waiting,
        });
        self.log(me, "limiter", fields);
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Cancelled(cancelled) => cancelled.into(),
            LockError::WouldBlock { .. } => Failure::named("WouldBlock"),
            LockError::AlreadyHeld { .. } => Failure::named("AlreadyHeld"),
            LockError::NotOwner { .. } => Failure::named("NotOwner"),
            other => Failure::Named(other.to_string()),
        }
    }
}

impl From<LimiterError> for Failure {
    fn from(error: LimiterError) -> Self {
        match error {
            LimiterError::Cancelled(cancelled) => cancelled.into(),
            LimiterError::WouldBlock => Failure::named("WouldBlock"),
            LimiterError::AlreadyBorrowed(_) => Failure::named("AlreadyHeld"),
            other => Failure::Named(other.to_string()),
        }
    }
}

impl From<WouldBlock> for Failure {
    fn from(_: WouldBlock) -> Self {
        Failure::named("WouldBlock")
    }
}

impl From<TooManyPermits> for Failure {
    fn from(_: TooManyPermits) -> Self {
        Failure::named("TooManyReleases")
    }
}
