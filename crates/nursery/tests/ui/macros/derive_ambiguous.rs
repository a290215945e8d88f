//! `#[derive(TaskError)]` does not guess between two variants.

use nursery::{Cancelled, ErrorGroup, TaskError, TooSlow};

#[derive(TaskError)]
enum TwoCancelled {
    Cancelled(Cancelled),
    Stopped(Cancelled),
    Group(ErrorGroup<Self>),
}

#[derive(TaskError)]
enum TwoMarks {
    #[task_error(cancelled)]
    Cancelled(Cancelled),
    #[task_error(cancelled)]
    Stopped(Cancelled),
    Group(ErrorGroup<Self>),
}

#[derive(TaskError)]
enum TwoTooSlow {
    Cancelled(Cancelled),
    Group(ErrorGroup<Self>),
    Connect(TooSlow),
    Read(TooSlow),
}

#[derive(TaskError)]
enum BareParameter<T> {
    Cancelled(Cancelled),
    Group(ErrorGroup<Self>),
    #[task_error(from)]
    Other(T),
}

fn main() {}
