//! A [`Trace`](crate::Trace) in words: a line for each event.

use std::panic::Location;

use nursery::NodeKind;

use crate::trace::record::{Event, Place, Record, Seconds, What};

pub(crate) fn render(record: &Record) -> String {
    let names = record.names();
    let words = Words { record, names: &names, is_brief: false };
    let lines: Vec<[String; 3]> =
        record.events.iter().filter_map(|event| words.deed(event)).collect();
    let width = |column: usize| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default()
    };
    let (times, actors) = (width(0), width(1));
    let mut text = String::new();
    for [time, actor, what] in &lines {
        text += &format!("{time:>times$}  {actor:>actors$}  {what}\n");
    }
    text
}

/// The starts and ends of tasks, cancellations and failures, in sentences.
pub(crate) fn summary(record: &Record, names: &[String]) -> String {
    let words = Words { record, names, is_brief: true };
    let is_told = |event: &&Event| match event.what {
        What::Enters | What::Leaves => record.nodes[event.node].kind == NodeKind::Task,
        What::Cancelled { .. } | What::Fails => true,
        _ => false,
    };
    let deeds = record.events.iter().filter(is_told).filter_map(|event| words.deed(event));
    let sentences = deeds.map(|[time, actor, what]| format!("{time}: {actor} {what}."));
    sentences.collect::<Vec<_>>().join("\n")
}

struct Words<'a> {
    record: &'a Record,
    names: &'a [String],
    /// Without places and reasons.
    is_brief: bool,
}

impl Words<'_> {
    /// When, who and what.
    fn deed(&self, event: &Event) -> Option<[String; 3]> {
        let by = self.record.by(event);
        let task = self.record.task_of(event.node);
        let actor = match event.what {
            What::Cancelled { .. } => by,
            _ => by.or(task), // what nobody does to a task, it does itself
        };
        let what = self.what(event, actor == task)?;
        let actor = actor.map_or("(time)", |task| &self.names[task]).to_owned();
        Some([Seconds(event.time).to_string(), actor, what])
    }

    /// What the task does to itself, or somebody else to it.
    fn what(&self, event: &Event, to_itself: bool) -> Option<String> {
        let node = &self.record.nodes[event.node];
        let name = &self.names[event.node];
        let owner = self.record.task_of(event.node).map_or("nobody", |task| &self.names[task]);
        let place = self.place(node.place);
        let kind = match node.kind {
            _ if node.shield => "shield",
            NodeKind::Nursery => "nursery",
            _ => "scope",
        };
        Some(match (&event.what, node.kind) {
            (What::Enters, NodeKind::Task) if to_itself => format!("starts{place}"),
            (What::Enters, NodeKind::Task) => format!("starts {name}{place}"),
            (What::Enters, _) => format!("opens a {kind}{place}"),
            (What::Leaves, NodeKind::Task) if to_itself => "ends".to_owned(),
            (What::Leaves, NodeKind::Task) => format!("drops {name}"),
            (What::Leaves, _) if to_itself => format!("leaves the {kind}{place}"),
            (What::Leaves, _) => format!("drops the {kind} of {owner}{place}"),
            (What::Cancelled { reason }, NodeKind::Task) => {
                format!("cancels {name}{}", self.reason(reason))
            }
            (What::Cancelled { reason }, _) => {
                format!("cancels the {kind} of {owner}{place}{}", self.reason(reason))
            }
            (What::Fails, _) => "fails".to_owned(),
            (What::Waits(wait), _) => {
                let wait = &self.record.waits[*wait];
                format!("waits for {}{}", wait.what, self.place(wait.place))
            }
            (What::Begins { is_own: true, shows: false }, _) => "runs".to_owned(),
            _ => return None,
        })
    }

    fn place(&self, place: &'static Location<'static>) -> String {
        if self.is_brief { String::new() } else { format!(" ({})", Place(place)) }
    }

    fn reason(&self, reason: &str) -> String {
        if self.is_brief { String::new() } else { format!(": {reason}") }
    }
}
