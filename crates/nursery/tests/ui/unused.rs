//! What does nothing until it is awaited says so.
#![deny(unused_must_use)]

use std::time::Duration;

use nursery::{Builder, CancelScope, Cancelled, checkpoint, move_on_after, open_nursery, sleep};

async fn forgotten() {
    sleep(Duration::from_secs(1));
    checkpoint();
    move_on_after(Duration::from_secs(1), sleep(Duration::from_secs(2)));
    open_nursery(async |_| Ok::<(), Cancelled>(()));
    CancelScope::new().enter(sleep(Duration::from_secs(2)));
    Builder::new();
}

fn main() {}
