//! A [`Trace`](crate::Trace) in the trace event format, which <https://ui.perfetto.dev> and `chrome://tracing` read.

use std::collections::BTreeMap;
use std::time::Duration;

use nursery::NodeKind;
use serde_json::{Value, json};

use crate::trace::record::{Event, Place, Record, What};

const PROCESS: u32 = 1;
/// Between two events.
const LEAST: Duration = Duration::from_micros(1);

pub(crate) fn render(record: &Record) -> String {
    let tracks: BTreeMap<usize, usize> = record.rows().into_iter().zip(1..).collect();
    let names = record.names();
    let mut events = vec![json!({
        "ph": "M", "pid": PROCESS, "name": "process_name", "args": { "name": "nursery" },
    })];
    for (&task, track) in &tracks {
        for (what, args) in [
            ("thread_name", json!({ "name": names[task] })),
            ("thread_sort_index", json!({ "sort_index": track })),
        ] {
            events.push(
                json!({ "ph": "M", "pid": PROCESS, "tid": track, "name": what, "args": args }),
            );
        }
    }
    let mut time = Duration::ZERO;
    for event in &record.events {
        let Some(mut shown) = show(record, &names, event) else { continue };
        shown["pid"] = json!(PROCESS);
        shown["tid"] = json!(record.task_of(event.node).and_then(|task| tracks.get(&task)));
        shown["ts"] = json!(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        events.push(shown);
        time = event.time.max(time) + LEAST;
    }
    let lines: Vec<String> = events.iter().map(Value::to_string).collect();
    format!("{{\"traceEvents\":[\n{}\n]}}\n", lines.join(",\n"))
}

fn show(record: &Record, names: &[String], event: &Event) -> Option<Value> {
    let node = &record.nodes[event.node];
    let is_task = node.kind == NodeKind::Task;
    let by = record.by(event).map(|task| names[task].as_str());
    let instant =
        |name: &str, args: Value| Some(json!({ "ph": "i", "s": "t", "name": name, "args": args }));
    match &event.what {
        What::Begins { is_own: true, .. } => Some(json!({ "ph": "B", "name": "runs" })),
        What::Ends { began } => match record.events[*began].what {
            What::Begins { is_own: true, .. } => Some(json!({ "ph": "E" })),
            _ => None,
        },
        What::Enters if is_task => instant("starts", json!({ "by": by, "at": at(node.place) })),
        What::Leaves if is_task => instant("ends", json!({ "by": by })),
        What::Enters => Some(stretch("b", kind(node.kind, node.shield), event.node, node.place)),
        What::Leaves => Some(stretch("e", kind(node.kind, node.shield), event.node, node.place)),
        What::Waits(wait) | What::WaitsNoMore(wait) => {
            let begins = matches!(event.what, What::Waits(_));
            let waited = &record.waits[*wait];
            let name = format!("waits for {}", waited.what);
            let id = record.nodes.len() + wait;
            Some(stretch(if begins { "b" } else { "e" }, &name, id, waited.place))
        }
        What::Cancelled { reason } => instant("cancelled", json!({ "by": by, "why": reason })),
        What::Fails => instant("fails", json!({})),
        What::Wakes => instant("is woken", json!({ "by": by })),
        What::Begins { .. } | What::Hit(_) => None,
    }
}

/// The begin or end of something that lasts from step to step.
fn stretch(
    phase: &str,
    name: &str,
    id: usize,
    place: &'static std::panic::Location<'static>,
) -> Value {
    json!({ "ph": phase, "cat": "nursery", "id": id, "name": name, "args": { "at": at(place) } })
}

fn at(place: &'static std::panic::Location<'static>) -> String {
    Place(place).to_string()
}

fn kind(kind: NodeKind, shield: bool) -> &'static str {
    match kind {
        NodeKind::Nursery => "nursery",
        _ if shield => "shield",
        _ => "scope",
    }
}
