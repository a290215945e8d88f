//! When one fails, the others are cancelled and waited for, and all errors arrive.
//!
//! In asyncio, `gather` raises the first error and leaves the other tasks running, with nobody to see how they end. Here
//! a nursery ends when all have ended, whoever fails: a child, or the body itself. And when another fails while it is
//! being cancelled, its error arrives, too.

use std::time::Duration;

use anyhow::bail;
use nursery::{finally, open_nursery, shield, sleep};
use nursery_examples::say;

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
async fn fails() -> anyhow::Result<()> {
    sleep(SECOND).await?;
    say!("  one fails");
    bail!("connection refused")
}

async fn tidy() -> anyhow::Result<()> {
    let work = async { Ok(sleep(60 * SECOND).await?) };
    finally(work, 5 * SECOND, async || {
        sleep(SECOND).await?;
        say!("  its sibling was cancelled, and has tidied up");
        Ok(())
    })
    .await
}

async fn unlucky() -> anyhow::Result<()> {
    if sleep(60 * SECOND).await.is_err() {
        shield(sleep(2 * SECOND)).await?;
        say!("  another was cancelled, and cannot save its work");
        bail!("disk full");
    }
    Ok(())
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    say!("a child fails");
    let outcome = open_nursery(async |n| {
        n.start_soon(fails());
        n.start_soon(tidy());
        anyhow::Ok(())
    });
    say!("{}", outcome.await.unwrap_err());

    say!("the body fails");
    let outcome = open_nursery(async |n| {
        n.start_soon(tidy());
        fails().await
    });
    say!("{}", outcome.await.unwrap_err());

    say!("several fail");
    let outcome = open_nursery(async |n| {
        n.start_soon(fails());
        n.start_soon(tidy());
        n.start_soon(unlucky());
        anyhow::Ok(())
    });
    say!("{}", outcome.await.unwrap_err());
    Ok(())
}

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    demo().await
}
// ANCHOR_END: body
