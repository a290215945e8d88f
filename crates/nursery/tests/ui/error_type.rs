//! What a task fails with must be able to carry a `Cancelled`: the message says what to use instead.

use std::error::Error;
use std::time::Duration;

use nursery::{move_on_after, open_nursery};

type Boxed = Box<dyn Error + Send + Sync>;

#[derive(Debug)]
enum NoTaskError {
    DiskFull,
}

fn boxed() {
    let _ = open_nursery(async |_| Ok::<(), Boxed>(()));
}

fn an_enum() {
    let _ = move_on_after(Duration::from_secs(1), async { Err::<(), _>(NoTaskError::DiskFull) });
}

fn main() {
    let _ = nursery::run(async { Err::<(), String>("oops".to_owned()) });
}
