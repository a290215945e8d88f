//! A nursery that nobody awaits.

use std::time::Duration;

use nursery::{open_nursery, sleep};

async fn child() -> anyhow::Result<()> {
    Ok(sleep(Duration::from_secs(1)).await?)
}

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    #![deny(unused_must_use)]
    // ANCHOR: body
    open_nursery(async |n| {
        n.start_soon(child());
        anyhow::Ok(())
    });
    // ANCHOR_END: body
    Ok(())
}
