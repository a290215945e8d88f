//! A cancellation is a state. Swallow it, and the next checkpoint says it again.

use std::time::Duration;

use nursery::{open_nursery, sleep};
use nursery_examples::println;

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
async fn request() -> anyhow::Result<()> {
    Ok(sleep(2 * SECOND).await?)
}

async fn worker() -> anyhow::Result<()> {
    loop {
        if let Err(error) = request().await {
            println!("worker: {error}; tries again"); // again whatever it was
        }
        sleep(SECOND / 10).await?;
    }
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    open_nursery(async |n| -> anyhow::Result<()> {
        let task = n.start_soon(worker());
        sleep(SECOND).await?;
        task.cancel_and_join().await?;
        println!("main: it has ended");
        Ok(())
    })
    .await
}
// ANCHOR_END: body
