//! A little of everything that a picture can show.

use std::time::Duration;

use anyhow::bail;
use nursery::{move_on_after, open_nursery, shield, sleep};

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
pub(crate) async fn demo() -> anyhow::Result<()> {
    let _ = open_nursery(async |n| {
        n.start_soon(fails()).set_name("fails");
        n.start_soon(move_on_after(2 * SECOND, sleep_long())).set_name("has a time limit");
        n.start_soon(shield(sleep_long())).set_name("is shielded");
        n.start_soon(sleep_long()).set_name("is cancelled");
        anyhow::Ok(())
    })
    .await;
    Ok(())
}

async fn fails() -> anyhow::Result<()> {
    sleep(4 * SECOND).await?;
    bail!("for the picture")
}

async fn sleep_long() -> anyhow::Result<()> {
    Ok(sleep(6 * SECOND).await?)
}
// ANCHOR_END: body
