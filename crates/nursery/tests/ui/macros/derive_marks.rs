//! `#[derive(TaskError)]` knows its marks and where each may stand.

use nursery::{Cancelled, ErrorGroup, TaskError};

#[derive(TaskError)]
enum Unknown {
    Cancelled(Cancelled),
    Group(ErrorGroup<Self>),
    #[task_error(form)]
    Io(std::io::Error),
}

#[derive(TaskError)]
enum TwoRoles {
    #[task_error(cancelled, nested)]
    Cancelled(Cancelled),
    Group(ErrorGroup<Self>),
}

#[derive(TaskError)]
enum WhichField {
    Cancelled(Cancelled),
    Group(ErrorGroup<Self>),
    #[task_error(nested)]
    Io(String, std::io::Error),
}

#[derive(TaskError)]
enum FromOneOfTwo {
    Cancelled(Cancelled),
    Group(ErrorGroup<Self>),
    Io(String, #[task_error(from)] std::io::Error),
}

#[derive(TaskError)]
#[task_error(nested)]
enum OnTheType {
    Cancelled(Cancelled),
    Group(ErrorGroup<Self>),
}

#[derive(TaskError)]
enum CrateOnVariant {
    #[task_error(crate = nursery)]
    Cancelled(Cancelled),
    Group(ErrorGroup<Self>),
}

fn main() {}
