//! One child fails: the other ends first, and then the parent gets to know.
//!
//! In asyncio, `gather` raises the error at once, while the other task goes on writing to a file that its caller has
//! closed. Here the error waits at the end of the nursery until the sibling has been cancelled and has cleaned up.

use std::time::Duration;

use anyhow::bail;
use nursery::{finally, open_nursery, sleep};
use nursery_examples::say;

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
async fn download() -> anyhow::Result<()> {
    sleep(2 * SECOND).await?;
    say!("download: fails");
    bail!("the server has hung up")
}

async fn record() -> anyhow::Result<()> {
    let writing = async {
        say!("record: writes to the disk");
        Ok(sleep(60 * SECOND).await?)
    };
    finally(writing, 5 * SECOND, async || {
        say!("record: was cancelled, closes the file");
        sleep(SECOND).await?;
        say!("record: closed");
        Ok(())
    })
    .await
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    let outcome = open_nursery(async |n| {
        n.start_soon(download()).set_name("download");
        n.start_soon(record()).set_name("record");
        anyhow::Ok(())
    });
    match outcome.await {
        Ok(()) => say!("parent: all is well"),
        Err(error) => say!("parent: {error}"),
    }
    Ok(())
}

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    demo().await
}
// ANCHOR_END: body
