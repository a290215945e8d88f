//! Who has shielded something waits for it.

use std::time::Duration;

use nursery::{move_on_after, shield, sleep};
use nursery_examples::println;

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
async fn pay() -> anyhow::Result<()> {
    println!("bank: takes the money from one account");
    sleep(5 * SECOND).await?;
    println!("bank: adds it to the other");
    Ok(())
}

async fn buy() -> anyhow::Result<()> {
    shield(pay()).await?;
    sleep(SECOND).await?; // the next checkpoint: the buyer leaves here
    println!("buyer: never gets here");
    Ok(())
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    if move_on_after(SECOND, buy()).await?.is_none() {
        println!("shop: the buyer has gone, we close");
    }
    Ok(())
}
// ANCHOR_END: body
