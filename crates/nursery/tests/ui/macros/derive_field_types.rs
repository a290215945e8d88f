//! A field of the wrong type is named by the compiler, at the field.

use nursery::{Cancelled, ErrorGroup, TaskError};

mod other {
    pub struct Cancelled;
}

#[derive(TaskError)]
enum Namesake {
    Cancelled(other::Cancelled),
    Group(ErrorGroup<Self>),
}

#[derive(TaskError)]
enum MarkedWrong {
    Cancelled(Cancelled),
    #[task_error(group)]
    Group(Vec<u8>),
}

#[derive(TaskError)]
enum NestedWrong {
    Cancelled(Cancelled),
    Group(ErrorGroup<Self>),
    #[task_error(nested)]
    Parse(std::num::ParseIntError),
}

#[derive(TaskError)]
struct NotAnyError(std::num::ParseIntError);

fn main() {}
