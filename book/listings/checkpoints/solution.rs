//! A worker that tries again after an error, and ends when it is cancelled.

use std::time::Duration;

use anyhow::ensure;
use nursery::{TaskError, move_on_after, sleep};
use nursery_examples::say;

const SECOND: Duration = Duration::from_secs(1);

async fn request(number: u32) -> anyhow::Result<()> {
    sleep(2 * SECOND).await?;
    ensure!(number != 1, "no connection");
    Ok(())
}

// ANCHOR: body
async fn worker() -> anyhow::Result<()> {
    for number in 1.. {
        match request(number).await {
            Ok(()) => say!("worker: request {number} is done"),
            Err(error) if error.as_cancelled().is_some() => return Err(error),
            Err(error) => say!("worker: {error}; tries again"),
        }
        sleep(SECOND).await?;
    }
    Ok(())
}
// ANCHOR_END: body

pub(crate) async fn demo() -> anyhow::Result<()> {
    say!("main: starts the worker");
    let ended = move_on_after(7 * SECOND, worker()).await?;
    say!("main: {ended:?}");
    Ok(())
}
