//! What a program did: [`Trace`], and how two of them differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The canonical trace of one run: what can be seen of it that does not depend on the scheduler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// By the task's name.
    pub tasks: BTreeMap<String, TaskTrace>,
    /// `"ok"`, or the tree of errors that left `main`.
    pub outcome: Value,
    /// The sorted names of the leaves of `outcome`.
    pub leaves: Vec<String>,
    /// When `main` ended.
    pub time: Value,
}

/// What one task did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskTrace {
    /// In order.
    pub events: Vec<Value>,
    /// How it ended: `"ok"`, `"cancelled"`, or the sorted names of its errors.
    pub end: Value,
    /// When it ended.
    pub end_t: Value,
}

impl Trace {
    /// Brings the members of groups into the canonical order.
    pub(crate) fn canonical(mut self) -> Self {
        self.outcome = canonical(self.outcome);
        self
    }

    /// Says, in lines, how this trace differs from the one that was expected. No lines: it does not.
    #[must_use]
    pub fn differences(&self, expected: &Trace) -> Vec<String> {
        let mut lines = vec![];
        let names: BTreeSet<_> = expected.tasks.keys().chain(self.tasks.keys()).collect();
        for name in names {
            match (expected.tasks.get(name), self.tasks.get(name)) {
                (Some(want), Some(got)) if want == got => {}
                (Some(want), Some(got)) => {
                    lines.push(format!("task {name}:"));
                    lines.extend(first_difference(&task_lines(want), &task_lines(got)));
                }
                (Some(_), None) => lines.push(format!("task {name}: missing")),
                (None, _) => lines.push(format!("task {name}: not expected")),
            }
        }
        let rest = [
            ("outcome", expected.outcome.clone(), self.outcome.clone()),
            ("leaves", json!(expected.leaves), json!(self.leaves)),
            ("time", expected.time.clone(), self.time.clone()),
        ];
        for (what, want, got) in rest {
            if want != got {
                lines.push(format!("{what}: expected {want}, got {got}"));
            }
        }
        lines
    }
}

fn task_lines(task: &TaskTrace) -> Vec<String> {
    let mut lines: Vec<_> = task.events.iter().map(event_line).collect();
    lines.push(format!("t={} end {}", task.end_t, task.end));
    lines
}

fn event_line(event: &Value) -> String {
    let mut line = format!("t={} {}", event["t"], event["ev"].as_str().unwrap_or("?"));
    for (key, value) in event.as_object().into_iter().flatten() {
        if key != "t" && key != "ev" {
            let _ = write!(line, " {key}={value}");
        }
    }
    line
}

/// The lines around the first one that differs: a few before, and what each side has after.
fn first_difference(want: &[String], got: &[String]) -> Vec<String> {
    const AROUND: usize = 3;
    let same = want.iter().zip(got).take_while(|(a, b)| a == b).count();
    let mut lines = vec![];
    if same > AROUND {
        lines.push(format!("    … {} events as expected", same - AROUND));
    }
    lines.extend(want[same.saturating_sub(AROUND)..same].iter().map(|line| format!("    {line}")));
    for (sign, side) in [("- expected", want), ("+ got     ", got)] {
        let rest = &side[same..];
        lines.extend(rest.iter().take(AROUND).map(|line| format!("  {sign} {line}")));
        if rest.len() > AROUND {
            lines.push(format!("  {sign} … {} more", rest.len() - AROUND));
        }
    }
    lines
}

/// An error tree with the members of its groups in canonical order.
fn canonical(tree: Value) -> Value {
    let Value::Object(mut object) = tree else { return tree };
    if let Some(Value::Array(members)) = object.get_mut("group") {
        *members = std::mem::take(members).into_iter().map(canonical).collect();
        members.sort_by_cached_key(python_text);
    }
    Value::Object(object)
}

/// The text that Python's `json.dumps` makes of an error tree.
pub(crate) fn python_text(tree: &Value) -> String {
    match tree {
        Value::Object(object) => {
            let members =
                object.iter().map(|(k, v)| format!("{}: {}", python_string(k), python_text(v)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
        Value::Array(members) => {
            format!("[{}]", members.iter().map(python_text).collect::<Vec<_>>().join(", "))
        }
        Value::String(text) => python_string(text),
        other => other.to_string(),
    }
}

/// JSON without any character beyond ASCII.
fn python_string(text: &str) -> String {
    let mut out = String::new();
    for c in Value::from(text).to_string().chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}
