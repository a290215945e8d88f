//! There is no count to keep: a cancelled scope is left, and what comes after is not cancelled.

use nursery::{CancelScope, checkpoint, open_nursery, sleep_forever};
use nursery_examples::println;

// ANCHOR: body
async fn worker() -> anyhow::Result<()> {
    Ok(sleep_forever().await?)
}

async fn server(first_half: &CancelScope) -> anyhow::Result<()> {
    first_half.enter(sleep_forever()).await?;
    println!("server: cancelled; takes a break, and goes on");
    open_nursery(async |n| -> anyhow::Result<()> {
        let task = n.start_soon(worker());
        checkpoint().await?;
        task.cancel_and_join().await?;
        println!("server: has stopped the worker");
        Ok(())
    })
    .await
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    let first_half = CancelScope::new();
    open_nursery(async |n| -> anyhow::Result<()> {
        n.start_soon(server(&first_half));
        checkpoint().await?;
        first_half.cancel();
        Ok(())
    })
    .await
}
// ANCHOR_END: body
