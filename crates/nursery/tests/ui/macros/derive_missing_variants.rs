//! `#[derive(TaskError)]` shows the line to add where a variant is missing.

use nursery::{Cancelled, ErrorGroup, TaskError};

#[derive(TaskError)]
enum Neither {
    Broken,
}

#[derive(TaskError)]
enum NoGroup {
    Cancelled(Cancelled),
}

#[derive(TaskError)]
enum Empty {
    Cancelled,
    Group,
}

#[derive(TaskError)]
enum NotAlone {
    Cancelled { cancelled: Cancelled, page: String },
    Group(ErrorGroup<Self>, String),
}

#[derive(TaskError)]
enum GroupOfOthers {
    Cancelled(Cancelled),
    Group(ErrorGroup<NoGroup>),
}

fn main() {}
