//! The tables for the book.

use std::fmt::Write;

use crate::report::{Line, Table, short};

/// All tables, as one page.
pub(crate) fn page(tables: &[Table], about: &str) -> String {
    let mut page = format!("{about}\n");
    for table in tables {
        let Table { title, unit, lines } = table;
        let _ = write!(
            page,
            "\n| {title} | {unit} | min | × best | × nursery | target |\n|---|---:|---:|---:|---:|---|\n"
        );
        lines.iter().for_each(|line| page.push_str(&markdown_line(line)));
    }
    page
}

fn markdown_line(line: &Line) -> String {
    let goals = line.goals.iter().map(|goal| {
        let verdict = if goal.is_met { "met" } else { "**missed**" };
        format!("{} {verdict}", goal.wanted)
    });
    format!(
        "| {} | {} | {} | {} | {} | {} |\n",
        line.peer,
        short(line.median),
        short(line.min),
        short(line.to_best),
        line.to_nursery.map_or_else(String::new, short),
        goals.collect::<Vec<_>>().join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::page;
    use crate::report::{Goal, Line, Table};

    #[test]
    fn a_page_has_one_table_for_each_figure() {
        let line = Line {
            peer: "tokio",
            figures: vec![30.0],
            median: 30.0,
            min: 29.5,
            to_best: 3.0,
            to_nursery: Some(3.0),
            goals: vec![Goal { wanted: "× ≥ 5".to_owned(), is_met: false }],
        };
        let table = Table { title: "yield".to_owned(), unit: "ns", lines: vec![line] };
        assert_eq!(
            page(&[table], "About."),
            "About.\n\n\
             | yield | ns | min | × best | × nursery | target |\n\
             |---|---:|---:|---:|---:|---|\n\
             | tokio | 30 | 29.5 | 3 | 3 | × ≥ 5 **missed** |\n"
        );
    }
}
