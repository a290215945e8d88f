//! The tables for other programs, with the figure of every round.

use serde_json::{Value, json};

use crate::report::{Goal, Line, Table};

/// All tables.
pub(crate) fn document(tables: &[Table], about: &str) -> Value {
    json!({ "about": about, "tables": tables.iter().map(table).collect::<Vec<_>>() })
}

fn table(table: &Table) -> Value {
    json!({
        "title": table.title,
        "unit": table.unit,
        "lines": table.lines.iter().map(line).collect::<Vec<_>>(),
    })
}

fn line(line: &Line) -> Value {
    json!({
        "peer": line.peer,
        "median": line.median,
        "min": line.min,
        "to_best": line.to_best,
        "to_nursery": line.to_nursery,
        "figures": line.figures,
        "targets": line.goals.iter().map(goal).collect::<Vec<_>>(),
    })
}

fn goal(goal: &Goal) -> Value {
    json!({ "wanted": goal.wanted, "is_met": goal.is_met })
}
