//! Why a scope was cancelled: [`CancelReason`].

use std::fmt;

/// What caused a cancellation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CancelSource {
    /// Somebody called [`CancelScope::cancel`](crate::CancelScope::cancel) or a relative of it.
    Explicit,
    /// The scope's deadline passed.
    Deadline,
    /// The body or a child of the nursery failed.
    Nursery,
    /// The run is ending.
    Shutdown,
    /// Ctrl-C (SIGINT).
    KeyboardInterrupt,
    /// The process was asked to end (SIGTERM).
    Terminated,
    /// Something else, such as a scope dropped half-way.
    Unknown,
}

impl fmt::Display for CancelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CancelSource::Explicit => "explicit",
            CancelSource::Deadline => "deadline",
            CancelSource::Nursery => "nursery",
            CancelSource::Shutdown => "shutdown",
            CancelSource::KeyboardInterrupt => "keyboard interrupt",
            CancelSource::Terminated => "terminated",
            CancelSource::Unknown => "unknown",
        })
    }
}

/// Why, and by which task, a scope was cancelled.
///
/// The first cause of a scope stands: later cancels of the same scope do not change it. A scope that is
/// cancelled through a scope around it takes over that one's reason.
///
/// `Display` gives the source, then the text, then the task:
/// `explicit with reason "user pressed stop" from task "ui"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelReason {
    source: CancelSource,
    task: Option<Box<str>>,
    text: Option<Box<str>>,
}

impl CancelReason {
    /// Makes a reason without a text.
    #[must_use]
    pub fn new(source: CancelSource) -> Self {
        CancelReason { source, task: None, text: None }
    }

    /// Sets the text.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<Box<str>>) -> Self {
        self.text = Some(text.into());
        self
    }

    pub(crate) fn with_task(mut self, task: Option<Box<str>>) -> Self {
        self.task = self.task.or(task);
        self
    }

    /// Returns what caused the cancellation.
    #[must_use]
    pub fn source(&self) -> CancelSource {
        self.source
    }

    /// Returns the name of the task that caused it, if a task did.
    #[must_use]
    pub fn task(&self) -> Option<&str> {
        self.task.as_deref()
    }

    /// Returns the text that was given with it.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }
}

impl From<CancelSource> for CancelReason {
    fn from(source: CancelSource) -> Self {
        CancelReason::new(source)
    }
}

impl From<&str> for CancelReason {
    fn from(text: &str) -> Self {
        CancelReason::new(CancelSource::Explicit).with_text(text)
    }
}

impl From<String> for CancelReason {
    fn from(text: String) -> Self {
        CancelReason::new(CancelSource::Explicit).with_text(text)
    }
}

impl fmt::Display for CancelReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)?;
        if let Some(text) = &self.text {
            write!(f, " with reason {text:?}")?;
        }
        if let Some(task) = &self.task {
            write!(f, " from task {task:?}")?;
        }
        Ok(())
    }
}
