//! A shield: what must not be cut in half is finished, and its caller waits for it.
//!
//! In asyncio, `shield(task)` lets the *caller* go: it gets a `CancelledError` at once, while the task goes on with
//! nobody to await it, and dies half-way when the loop is closed. Here cancellation stops at the shield, and nothing is
//! orphaned: the buyer's time is up after 1 s, but it leaves only when the money has been moved, 2 s later.

use std::time::Duration;

use nursery::{move_on_after, shield, sleep};
use nursery_examples::say;

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
async fn pay() -> anyhow::Result<()> {
    say!("bank: takes the money from one account");
    sleep(3 * SECOND).await?; // a checkpoint: without a shield, it would end here
    say!("bank: adds it to the other");
    Ok(())
}

async fn buy() -> anyhow::Result<()> {
    say!("buyer: pays");
    shield(pay()).await?;
    say!("buyer: has paid, and looks at the time");
    sleep(SECOND).await?; // the next checkpoint after the shield: it ends here
    say!("buyer: never gets here");
    Ok(())
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    let bought = move_on_after(SECOND, buy()).await?;
    say!("shop: {bought:?}, the buyer has gone, and no payment is under way");
    Ok(())
}

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    demo().await
}
// ANCHOR_END: body
