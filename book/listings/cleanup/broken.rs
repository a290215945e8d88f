//! Clean-up without a shield.

use std::time::Duration;

use nursery::{open_nursery, sleep};
use nursery_examples::say;

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
async fn worker() -> anyhow::Result<()> {
    say!("worker: begins to work for 5 s");
    let result = sleep(5 * SECOND).await;

    say!("worker: cleans up");
    let cleaned_up = sleep(SECOND).await; // neither `finally` nor a shield around it
    say!("worker: clean-up: {cleaned_up:?}");
    Ok(result?)
}
// ANCHOR_END: body

pub(crate) async fn demo() -> anyhow::Result<()> {
    open_nursery(async |n| -> anyhow::Result<()> {
        let child = n.start_soon(worker());
        sleep(SECOND).await?;
        child.cancel_and_join().await?;
        Ok(())
    })
    .await
}
