//! Cancel a task, let it clean up, and know that it has ended.
//!
//! In asyncio, `task.cancel()` only asks. To know that the task has ended one has to await it, and to catch a
//! `CancelledError` of which one cannot tell whether it is the task's or one's own. Here `cancel_and_join` returns when the
//! worker has ended, clean-up included, and an `Err` is always one's own cancellation.

use std::time::Duration;

use nursery::{finally, open_nursery, sleep};
use nursery_examples::say;

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
async fn worker() -> anyhow::Result<&'static str> {
    let work = async {
        say!("worker: begins to work for 5 s");
        sleep(5 * SECOND).await?;
        Ok("done")
    };
    finally(work, 3 * SECOND, async || {
        say!("worker: cleans up");
        sleep(SECOND).await?; // it can wait, although the task is cancelled
        say!("worker: has cleaned up");
        Ok(())
    })
    .await
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    open_nursery(async |n| -> anyhow::Result<()> {
        let child = n.start_soon(worker()).named("worker");
        sleep(SECOND).await?;
        say!("parent: cancels the worker");
        let result = child.cancel_and_join().await?;
        say!("parent: it has ended, and its result is {result:?}");
        Ok(())
    })
    .await
}

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    demo().await
}
// ANCHOR_END: body
