//! Two senders: the channel ends with the second.

use std::time::Duration;

use nursery::{open_nursery, sleep};
use nursery_examples::say;
use nursery_io::channel::{self, Sender};

const SECOND: Duration = Duration::from_secs(1);

async fn bake(oven: Sender<u32>, takes: Duration) -> anyhow::Result<()> {
    for loaf in 1..=2 {
        sleep(takes).await?;
        oven.send(loaf).await?;
    }
    Ok(())
}

// ANCHOR: body
pub(crate) async fn demo() -> anyhow::Result<()> {
    say!("bakery: opens");
    let (oven, table) = channel::open(0);
    open_nursery(async |n| -> anyhow::Result<()> {
        n.start_soon(bake(oven.clone(), SECOND));
        n.start_soon(bake(oven, 5 * SECOND)); // moved: no sender is left here
        while let Some(loaf) = table.next().await? {
            say!("eater: a loaf number {loaf}");
        }
        say!("eater: both bakers have gone");
        Ok(())
    })
    .await
}
// ANCHOR_END: body
