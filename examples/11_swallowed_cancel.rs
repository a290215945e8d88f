//! A cancellation that is swallowed comes again.
//!
//! In asyncio, a cancellation is delivered once. An `except` that is too wide (this worker's "try again whatever happens")
//! swallows it, the task goes on for ever, and so does shutdown, which waits for it. Here a cancellation is a state:
//! every checkpoint says so until the task has left the scope. The worker swallows it once, and ends at the next one.

use std::time::Duration;

use nursery::{move_on_after, sleep};
use nursery_examples::say;

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
async fn request() -> anyhow::Result<()> {
    sleep(2 * SECOND).await?;
    Ok(())
}

async fn worker() -> anyhow::Result<()> {
    loop {
        say!("worker: sends a request");
        if let Err(error) = request().await {
            say!("worker: {error}; never mind, it tries again"); // the bug
        }
        sleep(SECOND).await?;
    }
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    let ended = move_on_after(4 * SECOND, worker()).await?;
    say!("main: {ended:?}, the worker has ended all the same");
    Ok(())
}

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    demo().await
}
// ANCHOR_END: body
