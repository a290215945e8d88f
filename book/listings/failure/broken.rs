//! The clean-up of a cancelled sibling fails, too.

use std::time::Duration;

use anyhow::bail;
use nursery::{finally, open_nursery, sleep};
use nursery_examples::say;

const SECOND: Duration = Duration::from_secs(1);

async fn download() -> anyhow::Result<()> {
    sleep(2 * SECOND).await?;
    bail!("the server has hung up")
}

// ANCHOR: body
async fn record() -> anyhow::Result<()> {
    let writing = async { Ok(sleep(60 * SECOND).await?) };
    finally(writing, 5 * SECOND, async || {
        sleep(SECOND).await?;
        bail!("the disk is full") // the file cannot be closed
    })
    .await
}
// ANCHOR_END: body

pub(crate) async fn demo() -> anyhow::Result<()> {
    let outcome = open_nursery(async |n| {
        n.start_soon(download());
        n.start_soon(record());
        anyhow::Ok(())
    });
    say!("parent: opens a nursery");
    if let Err(error) = outcome.await {
        say!("parent: {error}");
    }
    Ok(())
}
