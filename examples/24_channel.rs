//! A channel: one task makes values, two others take them, and the end of the one is the end of all.
//!
//! In asyncio, a queue has no end: one sends as many `None`s as there are workers, or cancels workers that wait for ever,
//! and hopes that none of them had an item in its hands. Here a channel ends when its last sender is gone.

use std::time::Duration;

use nursery::{open_nursery, sleep};
use nursery_examples::say;
use nursery_io::channel::{self, Receiver, Sender};

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
async fn bake(oven: Sender<u32>) -> anyhow::Result<()> {
    for loaf in 1..=4 {
        oven.send(loaf).await?; // capacity 0: waits until somebody takes it
        say!("baker: loaf {loaf} has been taken");
    }
    Ok(()) // `oven` is dropped, and with it the last sender
}

async fn eat(name: &str, table: Receiver<u32>, takes: Duration) -> anyhow::Result<u32> {
    let mut eaten = 0;
    while let Some(_loaf) = table.next().await? {
        sleep(takes).await?;
        eaten += 1;
    }
    say!("{name}: no more bread, has had {eaten}");
    Ok(eaten)
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    let (oven, table) = channel::open(0);
    let eaten = open_nursery(async |n| -> anyhow::Result<u32> {
        n.start_soon(bake(oven)).set_name("baker");
        let quick = n.start_soon(eat("quick", table.clone(), SECOND)).named("quick");
        let slow = n.start_soon(eat("slow", table, 5 * SECOND)).named("slow");
        Ok(quick.await? + slow.await?)
    })
    .await?;
    say!("{eaten} loaves eaten");
    Ok(())
}

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    demo().await
}
// ANCHOR_END: body
