//! `#[derive(TaskError)]` is for enums, and for structs around `anyhow::Error`.

use nursery::TaskError;

#[derive(TaskError)]
struct Unit;

#[derive(TaskError)]
struct Two {
    page: String,
    source: anyhow::Error,
}

#[derive(TaskError)]
struct Boxed(Box<dyn std::error::Error + Send + Sync>);

#[derive(TaskError)]
struct Marked(#[task_error(nested)] anyhow::Error);

#[derive(TaskError)]
union Bits {
    word: u32,
}

fn main() {}
