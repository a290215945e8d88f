//! The tables for a terminal.

use crate::report::{Line, Table, short};

/// One table.
pub(crate) fn table(table: &Table) -> String {
    let header = format!(
        "{:<40} {:>10} {:>10} {:>8} {:>10}   {}\n",
        format!("{}", table.title),
        table.unit,
        "min",
        "× best",
        "× nursery",
        "target"
    );
    let lines = table.lines.iter().map(line);
    std::iter::once(header).chain(lines).collect()
}

fn line(line: &Line) -> String {
    let to_nursery = line.to_nursery.map_or_else(String::new, short);
    let goals = line.goals.iter().map(|goal| {
        let verdict = if goal.is_met { "met" } else { "MISSED" };
        format!("   {} {verdict}", goal.wanted)
    });
    format!(
        "  {:<38} {:>10} {:>10} {:>8} {:>10}{}\n",
        line.peer,
        short(line.median),
        short(line.min),
        short(line.to_best),
        to_nursery,
        goals.collect::<String>()
    )
}
