//! The language, as JSON gives it: [`Program`] and its statements.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error};
use serde::{Deserialize as Derive, de::IgnoredAny};
use serde_json::Value;

/// A program: the resources it uses, and the body of its task `main`.
#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Names the program, for people and in files of traces.
    pub name: String,
    #[serde(default)]
    pub(crate) events: Vec<String>,
    #[serde(default)]
    pub(crate) locks: Vec<String>,
    #[serde(default)]
    pub(crate) conditions: Vec<String>,
    #[serde(default)]
    pub(crate) semaphores: BTreeMap<String, Tokens>,
    #[serde(default)]
    pub(crate) limiters: BTreeMap<String, usize>,
    #[serde(default)]
    pub(crate) channels: BTreeMap<String, Channel>,
    pub(crate) root: Block,
    /// What the program shows; for people.
    #[serde(default)]
    pub about: String,
    #[serde(default, rename = "area")]
    _area: IgnoredAny,
    #[serde(default, rename = "tags")]
    _tags: IgnoredAny,
}

impl Program {
    /// Reads a program from its JSON form.
    ///
    /// # Errors
    ///
    /// A text that says what is wrong, and where.
    pub fn parse(json: &Value) -> Result<Program, String> {
        let program = Program::deserialize(json).map_err(|error| error.to_string())?;
        program.check_resources()?;
        program.check_block(&program.root)?;
        Ok(program)
    }

    fn check_resources(&self) -> Result<(), String> {
        for (name, Tokens { initial, max }) in &self.semaphores {
            if max.is_some_and(|max| *initial > max) {
                return Err(format!("semaphore `{name}` begins with more than its maximum"));
            }
        }
        match self.limiters.iter().find(|&(_, &total)| total == 0) {
            Some((name, _)) => Err(format!("limiter `{name}` has no tokens")),
            None => Ok(()),
        }
    }

    /// Everything but channels, scopes and nurseries, which are bound as the program runs, has been declared.
    fn check_block(&self, block: &[Statement]) -> Result<(), String> {
        for (i, statement) in block.iter().enumerate() {
            let checked = match statement.resource() {
                Some((kind, name)) if !self.declares(kind, name) => {
                    Err(format!("{} `{name}` is not declared", kind.word()))
                }
                _ => statement.blocks().into_iter().try_for_each(|block| self.check_block(block)),
            };
            checked.map_err(|error| format!("statement {i}: {error}"))?;
        }
        Ok(())
    }

    fn declares(&self, kind: Kind, name: &str) -> bool {
        match kind {
            Kind::Event => self.events.iter().any(|other| other == name),
            Kind::Lock => self.locks.iter().any(|other| other == name),
            Kind::Condition => self.conditions.iter().any(|other| other == name),
            Kind::Semaphore => self.semaphores.contains_key(name),
            Kind::Limiter => self.limiters.contains_key(name),
        }
    }
}

/// What has to be declared.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Event,
    Lock,
    Condition,
    Semaphore,
    Limiter,
}

impl Kind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::Event => "event",
            Kind::Lock => "lock",
            Kind::Condition => "condition",
            Kind::Semaphore => "semaphore",
            Kind::Limiter => "limiter",
        }
    }
}

/// The tokens of a semaphore.
#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tokens {
    pub(crate) initial: usize,
    pub(crate) max: Option<usize>,
}

#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub(crate) struct Channel {
    pub(crate) buffer: Limit<usize>,
}

/// Statements, run in order. Clones share them: a child takes its body along.
#[derive(Clone, Debug, Default)]
pub(crate) struct Block(Rc<[Statement]>);

impl Deref for Block {
    type Target = [Statement];

    fn deref(&self) -> &[Statement] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Block {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let statements = Vec::<Value>::deserialize(from)?;
        let parse = |(i, value): (usize, Value)| {
            let op = value["op"].as_str().unwrap_or("?").to_owned();
            Statement::deserialize(value)
                .map_err(|error| D::Error::custom(format!("statement {i} ({op}): {error}")))
        };
        statements.into_iter().enumerate().map(parse).collect::<Result<_, _>>().map(Block)
    }
}

/// A duration: a number of seconds that is not negative.
#[derive(Clone, Copy, Debug, Default, Derive)]
#[serde(try_from = "f64")]
pub(crate) struct Seconds(pub(crate) Duration);

impl TryFrom<f64> for Seconds {
    type Error = String;

    fn try_from(seconds: f64) -> Result<Self, String> {
        let duration = Duration::try_from_secs_f64(seconds);
        duration.map(Seconds).map_err(|error| format!("{seconds} is no duration: {error}"))
    }
}

/// A number, or `"inf"`.
#[derive(Clone, Copy, Debug, Derive)]
#[serde(untagged)]
pub(crate) enum Limit<T> {
    Finite(T),
    Infinite(Inf),
}

#[derive(Clone, Copy, Debug, Derive)]
pub(crate) enum Inf {
    #[serde(rename = "inf")]
    Inf,
}

impl<T> Limit<T> {
    pub(crate) fn finite(self) -> Option<T> {
        match self {
            Limit::Finite(value) => Some(value),
            Limit::Infinite(Inf::Inf) => None,
        }
    }
}

/// What is sent on a channel.
#[derive(Clone, Debug, Derive)]
#[serde(untagged)]
pub(crate) enum Payload {
    /// The next number of the counter of that name.
    Next {
        next: String,
    },
    Literal(Value),
}

/// Names of errors; `*` is every error.
#[derive(Clone, Debug, Derive)]
#[serde(untagged)]
pub(crate) enum Names {
    One(String),
    Several(Vec<String>),
}

impl Names {
    pub(crate) fn contain(&self, name: &str) -> bool {
        let names = match self {
            Names::One(one) => std::slice::from_ref(one),
            Names::Several(several) => several,
        };
        names.iter().any(|other| other == "*" || other == name)
    }
}

/// One statement.
#[derive(Debug, Derive)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Statement {
    // Time and control flow. Braces even around no fields: so that surplus ones are refused.
    Log {
        id: Value,
    },
    Sleep {
        dur: Seconds,
    },
    SleepUntil {
        at: f64,
    },
    SleepForever {},
    Checkpoint {},
    CheckpointIfCancelled {},
    ShieldedCheckpoint {},
    WaitAllTasksBlocked {},
    Repeat {
        n: u64,
        body: Block,
    },
    Retry(Retry),
    IfCaught {
        scope: String,
        #[serde(default)]
        then: Block,
        #[serde(default, rename = "else")]
        otherwise: Block,
    },
    // Errors.
    Raise {
        err: String,
    },
    RaiseFirst {
        counter: String,
        n: u64,
        err: String,
    },
    Try(Try),
    // Cancel scopes.
    Scope {
        id: String,
        body: Block,
        #[serde(default)]
        deadline_after: Option<Limit<Seconds>>,
        #[serde(default)]
        shield: bool,
    },
    MoveOnAfter(Timed),
    MoveOnAt(TimedAt),
    FailAfter(Timed),
    FailAt(TimedAt),
    NewScope {
        id: String,
        #[serde(default)]
        deadline_after: Option<Limit<Seconds>>,
        #[serde(default)]
        relative: bool,
        #[serde(default)]
        shield: bool,
    },
    Enter {
        scope: String,
        body: Block,
    },
    Cancel {
        scope: String,
        #[serde(default)]
        reason: Option<String>,
    },
    SetDeadlineAfter {
        scope: String,
        dur: Limit<f64>,
    },
    SetDeadlineAt {
        scope: String,
        at: Limit<f64>,
    },
    SetShield {
        scope: String,
        value: bool,
    },
    LogScope {
        scope: String,
    },
    LogEffectiveDeadline {},
    // Nurseries.
    Nursery {
        id: String,
        body: Block,
    },
    Spawn(Spawn),
    Start(Spawn),
    Started {
        #[serde(default)]
        value: Value,
        #[serde(default, rename = "for")]
        task: Option<String>,
    },
    // Synchronization.
    EventSet {
        event: String,
    },
    EventWait {
        event: String,
    },
    LogEvent {
        event: String,
    },
    Lock {
        lock: String,
        body: Block,
        #[serde(default)]
        nowait: bool,
    },
    LogLock {
        lock: String,
    },
    Semaphore {
        sem: String,
        body: Block,
        #[serde(default)]
        nowait: bool,
    },
    SemAcquire {
        sem: String,
    },
    SemRelease {
        sem: String,
    },
    LogSem {
        sem: String,
    },
    Limiter {
        limiter: String,
        body: Block,
        #[serde(default)]
        nowait: bool,
    },
    SetLimit {
        limiter: String,
        total: usize,
    },
    LogLimiter {
        limiter: String,
    },
    Condition {
        cond: String,
        body: Block,
    },
    CondWait {
        cond: String,
    },
    CondNotify {
        cond: String,
        #[serde(default = "one")]
        n: usize,
    },
    CondNotifyAll {
        cond: String,
    },
    // Channels.
    Send {
        ch: String,
        value: Payload,
    },
    Recv {
        ch: String,
    },
    SendNowait {
        ch: String,
        value: Payload,
    },
    RecvNowait {
        ch: String,
    },
    CloseSend {
        ch: String,
    },
    CloseRecv {
        ch: String,
    },
    CloneSend {
        ch: String,
        #[serde(rename = "as")]
        name: String,
    },
    CloneRecv {
        ch: String,
        #[serde(rename = "as")]
        name: String,
    },
    ForEach {
        ch: String,
        body: Block,
    },
    LogChannel {
        ch: String,
    },
}

fn one() -> usize {
    1
}

impl Statement {
    /// The resource that the statement uses, if it is of a kind that has to be declared.
    fn resource(&self) -> Option<(Kind, &str)> {
        use Statement as S;
        Some(match self {
            S::EventSet { event } | S::EventWait { event } | S::LogEvent { event } => {
                (Kind::Event, event)
            }
            S::Lock { lock, .. } | S::LogLock { lock } => (Kind::Lock, lock),
            S::Semaphore { sem, .. }
            | S::SemAcquire { sem }
            | S::SemRelease { sem }
            | S::LogSem { sem } => (Kind::Semaphore, sem),
            S::Limiter { limiter, .. }
            | S::SetLimit { limiter, .. }
            | S::LogLimiter { limiter } => (Kind::Limiter, limiter),
            S::Condition { cond, .. }
            | S::CondWait { cond }
            | S::CondNotify { cond, .. }
            | S::CondNotifyAll { cond } => (Kind::Condition, cond),
            _ => return None,
        })
    }

    /// The blocks inside.
    fn blocks(&self) -> Vec<&Block> {
        use Statement as S;
        match self {
            S::Repeat { body, .. }
            | S::Scope { body, .. }
            | S::Enter { body, .. }
            | S::Nursery { body, .. }
            | S::Lock { body, .. }
            | S::Semaphore { body, .. }
            | S::Limiter { body, .. }
            | S::Condition { body, .. }
            | S::ForEach { body, .. } => vec![body],
            S::MoveOnAfter(timed) | S::FailAfter(timed) => vec![&timed.body],
            S::MoveOnAt(timed) | S::FailAt(timed) => vec![&timed.body],
            S::Spawn(spawn) | S::Start(spawn) => vec![&spawn.body],
            S::Retry(retry) => vec![&retry.body],
            S::IfCaught { then, otherwise, .. } => vec![then, otherwise],
            S::Try(block) => {
                let mut blocks = vec![&block.body, &block.on_error, &block.finally];
                blocks.extend(&block.on_cancel);
                blocks
            }
            _ => vec![],
        }
    }
}

#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retry {
    pub(crate) n: u64,
    pub(crate) catch: Names,
    pub(crate) body: Block,
    #[serde(default)]
    pub(crate) delay: Seconds,
}

#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub(crate) struct Try {
    pub(crate) body: Block,
    #[serde(default)]
    pub(crate) catch: Option<Names>,
    #[serde(default)]
    pub(crate) on_error: Block,
    #[serde(default)]
    pub(crate) on_cancel: Option<Block>,
    #[serde(default)]
    pub(crate) swallow_cancel: bool,
    #[serde(default)]
    pub(crate) finally: Block,
    #[serde(default)]
    pub(crate) log_reason: bool,
}

/// A scope with a time limit.
#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub(crate) struct Timed {
    pub(crate) id: String,
    pub(crate) dur: Seconds,
    pub(crate) body: Block,
    #[serde(default)]
    pub(crate) shield: bool,
}

/// A scope with a deadline.
#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub(crate) struct TimedAt {
    pub(crate) id: String,
    pub(crate) at: f64,
    pub(crate) body: Block,
    #[serde(default)]
    pub(crate) shield: bool,
}

/// A child of a nursery.
#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spawn {
    pub(crate) nursery: String,
    pub(crate) task: String,
    pub(crate) body: Block,
}
