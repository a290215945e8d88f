//! The interpreter: every statement is a few calls of nursery's public API.
//!
//! A nursery of the language is a nursery, a scope a [`CancelScope`], a task a child given to a
//! [`NurseryHandle`], since any open nursery can be named from anywhere. All that is added is bookkeeping: tables
//! from names to handles, and the events of each task.

mod channels;
mod control;
mod nurseries;
mod scopes;
mod sync;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nursery::{CancelScope, NurseryHandle, TaskStatus, now};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::interp::channels::Channels;
use crate::interp::sync::Resources;
use crate::program::{Block, Program, Statement};
use crate::run::Limits;
use crate::trace::{TaskTrace, Trace};

type Result<T = (), E = Failure> = std::result::Result<T, E>;

/// A program being run.
pub(crate) struct Interp {
    program: Rc<Program>,
    /// The instant 0 of the program.
    start: Instant,
    limits: Limits,
    steps: Cell<u64>,
    /// By name.
    tasks: RefCell<BTreeMap<String, Rc<Task>>>,
    /// By id; a nursery's id names its scope too.
    scopes: RefCell<BTreeMap<String, CancelScope>>,
    nurseries: RefCell<BTreeMap<String, NurseryHandle<Failure>>>,
    counters: RefCell<BTreeMap<(Counter, String), u64>>,
    resources: Resources,
    channels: Channels,
}

/// What is counted; each kind by names of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Counter {
    Task,
    Next,
    RaiseFirst,
}

/// A task and its trace.
struct Task {
    name: String,
    status: RefCell<Status>,
    trace: RefCell<TaskTrace>,
}

/// What became of the task's [`TaskStatus`].
enum Status {
    /// `spawn` gives none; `start` gives it when the child begins.
    Absent,
    Present(TaskStatus<Value>),
    Used,
}

/// Runs the program, in a nursery run, as the body of the main task.
pub(crate) async fn run(program: Rc<Program>, limits: Limits) -> Trace {
    let interp = Rc::new(Interp::new(program, limits));
    let main = interp.add_task("main");
    let result = interp.task(&main, &interp.program.root).await;
    let (outcome, leaves) = match &result {
        Ok(()) => (json!("ok"), vec![]),
        Err(failure) => (failure.tree(), failure.names()),
    };
    let time = interp.time();
    let tasks = interp.tasks.take().into_iter();
    let tasks = tasks.map(|(name, task)| (name, task.trace.take())).collect();
    Trace { tasks, outcome, leaves, time }
}

impl Interp {
    fn new(program: Rc<Program>, limits: Limits) -> Self {
        Interp {
            start: now(),
            limits,
            steps: Cell::new(0),
            tasks: RefCell::default(),
            scopes: RefCell::default(),
            nurseries: RefCell::default(),
            counters: RefCell::default(),
            resources: Resources::new(&program),
            channels: Channels::new(&program),
            program,
        }
    }

    /// Runs a task's body, and notes its end.
    async fn task(self: &Rc<Self>, me: &Task, body: &Block) -> Result {
        let result = self.block(me, body).await;
        let mut trace = me.trace.borrow_mut();
        trace.end_t = self.time();
        trace.end = match &result {
            Ok(()) => json!("ok"),
            Err(failure) => match failure.names() {
                names if names.is_empty() => json!("cancelled"),
                names => json!(names),
            },
        };
        drop(trace);
        result
    }

    /// Boxed, since blocks nest.
    fn block<'a>(
        self: &'a Rc<Self>,
        me: &'a Task,
        body: &'a [Statement],
    ) -> Pin<Box<dyn Future<Output = Result> + 'a>> {
        Box::pin(async move {
            for statement in body {
                self.count_step();
                self.statement(me, statement).await?;
            }
            Ok(())
        })
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each op")]
    async fn statement(self: &Rc<Self>, me: &Task, statement: &Statement) -> Result {
        use Statement as S;
        match statement {
            S::Log { id } => self.log(me, "log", json!({ "id": id })),
            S::Sleep { dur } => nursery::sleep(dur.0).await?,
            S::SleepUntil { at } => self.sleep_until(*at).await?,
            S::SleepForever {} => nursery::sleep_forever().await?,
            S::Checkpoint {} => nursery::checkpoint().await?,
            S::CheckpointIfCancelled {} => nursery::lowlevel::checkpoint_if_cancelled().await?,
            S::ShieldedCheckpoint {} => nursery::lowlevel::cancel_shielded_checkpoint().await,
            S::WaitAllTasksBlocked {} => {
                nursery::lowlevel::wait_all_tasks_blocked(Duration::ZERO).await?;
            }
            S::Repeat { n, body } => self.repeat(me, *n, body).await?,
            S::Retry(retry) => self.retry(me, retry).await?,
            S::IfCaught { scope, then, otherwise } => {
                let caught = self.scope(scope)?.cancelled_caught();
                self.block(me, if caught { then } else { otherwise }).await?;
            }

            S::Raise { err } => return Err(Failure::named(err)),
            S::RaiseFirst { counter, n, err } => {
                if self.count(Counter::RaiseFirst, counter) <= *n {
                    return Err(Failure::named(err));
                }
            }
            S::Try(block) => self.try_block(me, block).await?,

            S::Scope { id, body, deadline_after, shield } => {
                let limit = deadline_after.and_then(|limit| limit.finite());
                let scope = scopes::new_scope(*shield, limit);
                self.scoped(me, id, scope, body).await?;
            }
            S::MoveOnAfter(limit) => drop(self.scope_after(me, limit).await?),
            S::MoveOnAt(limit) => drop(self.scope_at(me, limit).await?),
            S::FailAfter(limit) => self.scope_after(me, limit).await?.ok_or_else(too_slow)?,
            S::FailAt(limit) => self.scope_at(me, limit).await?.ok_or_else(too_slow)?,
            S::NewScope { id, deadline_after, relative, shield } => {
                let limit = deadline_after.and_then(|limit| limit.finite());
                let scope = scopes::new_scope(*shield, limit.filter(|_| *relative));
                if let Some(limit) = limit.filter(|_| !relative) {
                    scope.set_deadline(now().checked_add(limit.0));
                }
                self.bind_scope(id, &scope);
            }
            S::Enter { scope: id, body } => {
                let scope = self.scope(id)?;
                if scope.is_entered() {
                    return Err(Failure::named("ScopeReused"));
                }
                self.scoped(me, id, scope, body).await?;
            }
            S::Cancel { scope, reason } => match reason {
                Some(text) => self.scope(scope)?.cancel_because(text.as_str()),
                None => self.scope(scope)?.cancel(),
            },
            S::SetDeadlineAfter { scope, dur } => {
                self.set_deadline_after(&self.scope(scope)?, dur.finite());
            }
            S::SetDeadlineAt { scope, at } => {
                let at = at.finite().and_then(|at| self.instant(at));
                self.scope(scope)?.set_deadline(at);
            }
            S::SetShield { scope, value } => self.scope(scope)?.set_shield(*value),
            S::LogScope { scope } => self.log_scope(me, "scope", scope, &self.scope(scope)?),
            S::LogEffectiveDeadline {} => self.log_effective_deadline(me),

            S::Nursery { id, body } => self.nursery(me, id, body).await?,
            S::Spawn(spawn) => self.spawn(spawn)?,
            S::Start(spawn) => self.start(me, spawn).await?,
            S::Started { value, task } => self.started(me, value, task.as_deref())?,

            S::EventSet { event } => self.event(event).set(),
            S::EventWait { event } => self.event(event).wait().await?,
            S::LogEvent { event } => self.log_event(me, event),
            S::Lock { lock, body, nowait } => self.with_lock(me, lock, body, *nowait).await?,
            S::LogLock { lock } => self.log_lock(me, lock),
            S::Semaphore { sem, body, nowait } => {
                self.with_semaphore(me, sem, body, *nowait).await?;
            }
            S::SemAcquire { sem } => self.sem_acquire(me, sem).await?,
            S::SemRelease { sem } => self.semaphore(sem).release()?,
            S::LogSem { sem } => self.log_sem(me, sem),
            S::Limiter { limiter, body, nowait } => {
                self.with_limiter(me, limiter, body, *nowait).await?;
            }
            S::SetLimit { limiter, total } => self.limiter(limiter).set_total_tokens(*total),
            S::LogLimiter { limiter } => self.log_limiter(me, limiter),
            S::Condition { cond, body } => self.with_condition(me, cond, body).await?,
            S::CondWait { cond } => self.cond_wait(me, cond).await?,
            S::CondNotify { cond, n } => drop(self.condition(cond).notify(*n)?),
            S::CondNotifyAll { cond } => drop(self.condition(cond).notify_all()?),

            S::Send { ch, value } => self.send(me, ch, value).await?,
            S::SendNowait { ch, value } => self.send_nowait(me, ch, value)?,
            S::Recv { ch } => self.recv(me, ch).await?,
            S::RecvNowait { ch } => self.recv_nowait(me, ch)?,
            S::ForEach { ch, body } => self.for_each(me, ch, body).await?,
            S::CloseSend { ch } => self.channels.sender(ch)?.close(),
            S::CloseRecv { ch } => self.channels.receiver(ch)?.close(),
            S::CloneSend { ch, name } => self.channels.clone_sender(ch, name)?,
            S::CloneRecv { ch, name } => self.channels.clone_receiver(ch, name)?,
            S::LogChannel { ch } => self.log_channel(me, ch)?,
        }
        Ok(())
    }

    /// 1, 2, 3, … for each kind and name.
    fn count(&self, kind: Counter, name: &str) -> u64 {
        let mut counters = self.counters.borrow_mut();
        let count = counters.entry((kind, name.to_owned())).or_default();
        *count += 1;
        *count
    }

    /// Task names are unique: the k-th task called `w` becomes `w#k`.
    fn add_task(&self, name: &str) -> Rc<Task> {
        let name = match self.count(Counter::Task, name) {
            1 => name.to_owned(),
            k => format!("{name}#{k}"),
        };
        let task = Rc::new(Task {
            name: name.clone(),
            status: RefCell::new(Status::Absent),
            trace: RefCell::default(),
        });
        self.tasks.borrow_mut().insert(name, task.clone());
        task
    }

    /// Counts a statement, or a round of a loop, so that a program that runs for ever is found out.
    ///
    /// # Panics
    ///
    /// When one of the limits has been exceeded.
    fn count_step(&self) {
        self.steps.set(self.steps.get() + 1);
        let Limits { steps, time } = self.limits;
        assert!(self.steps.get() <= steps, "runs for ever: more than {steps} statements");
        assert!(now() - self.start <= time, "runs for ever: more than {time:?} of virtual time");
    }

    /// Adds an event to a task's trace; `fields` is an object.
    fn log(&self, me: &Task, event: &str, fields: Value) {
        let mut object = Map::new();
        object.insert("t".into(), self.time());
        object.insert("ev".into(), event.into());
        if let Value::Object(fields) = fields {
            object.extend(fields);
        }
        me.trace.borrow_mut().events.push(Value::Object(object));
    }

    /// The time since the start, as it stands in a trace.
    fn time(&self) -> Value {
        seconds((now() - self.start).as_secs_f64())
    }

    /// The instant of the run's clock that the program calls `at`. `None`: beyond what a clock can reach.
    fn instant(&self, at: f64) -> Option<Instant> {
        after(self.start, at)
    }
}

/// `seconds` may be negative.
fn after(from: Instant, seconds: f64) -> Option<Instant> {
    let by = Duration::try_from_secs_f64(seconds.abs()).ok()?;
    if seconds < 0.0 { from.checked_sub(by) } else { from.checked_add(by) }
}

/// A number of seconds as it stands in a trace: without a fraction if it is whole.
fn seconds(seconds: f64) -> Value {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it is whole, and within the limit on time"
    )]
    if seconds.fract() == 0.0 { json!(seconds as i64) } else { json!(seconds) }
}

fn too_slow() -> Failure {
    Failure::named("TooSlow")
}
