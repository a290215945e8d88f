//! A child whose error does not concern its siblings.

use std::time::Duration;

use anyhow::bail;
use nursery::{TaskError, open_nursery, sleep};
use nursery_examples::say;

const SECOND: Duration = Duration::from_secs(1);

async fn download() -> anyhow::Result<()> {
    sleep(2 * SECOND).await?;
    bail!("the server has hung up")
}

async fn record() -> anyhow::Result<()> {
    say!("record: writes to the disk");
    sleep(60 * SECOND).await?;
    say!("record: done");
    Ok(())
}

// ANCHOR: body
async fn try_to_download() -> anyhow::Result<()> {
    match download().await {
        Err(error) if error.as_cancelled().is_none() => {
            say!("download: {error}, never mind"); // the error ends here
            Ok(())
        }
        ended => ended, // well, or cancelled: a cancellation is never kept
    }
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    open_nursery(async |n| {
        n.start_soon(try_to_download());
        n.start_soon(record());
        anyhow::Ok(())
    })
    .await
}
// ANCHOR_END: body
