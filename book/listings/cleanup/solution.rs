//! A shield with a time limit of its own.

use std::time::Duration;

use anyhow::bail;
use nursery::{move_on_after, sleep};
use nursery_examples::say;

const SECOND: Duration = Duration::from_secs(1);

async fn pay(takes: Duration) -> anyhow::Result<()> {
    sleep(takes).await?;
    Ok(())
}

// ANCHOR: body
async fn buy(takes: Duration) -> anyhow::Result<()> {
    // Cancellation from outside does not get in, but the time limit works.
    let paid = move_on_after(4 * SECOND, pay(takes)).shielded().await?;
    if paid.is_none() {
        bail!("the bank does not answer")
    }
    say!("buyer: has paid");
    sleep(SECOND).await?;
    Ok(())
}
// ANCHOR_END: body

pub(crate) async fn demo() -> anyhow::Result<()> {
    say!("shop: opens");
    let bought = move_on_after(SECOND, buy(3 * SECOND)).await?;
    say!("shop: {bought:?}");
    let error = move_on_after(SECOND, buy(60 * SECOND)).await.unwrap_err();
    say!("shop: {error}");
    Ok(())
}
