//! A sender that nobody drops.

use nursery::open_nursery;
use nursery_io::channel::{self, Receiver, Sender};

async fn bake(oven: Sender<u32>) -> anyhow::Result<()> {
    for loaf in 1..=4 {
        oven.send(loaf).await?;
    }
    Ok(())
}

async fn eat(table: Receiver<u32>) -> anyhow::Result<u32> {
    let mut eaten = 0;
    while let Some(_loaf) = table.next().await? {
        eaten += 1;
    }
    Ok(eaten)
}

// ANCHOR: body
pub(crate) async fn demo() -> anyhow::Result<()> {
    let (oven, table) = channel::open(0);
    open_nursery(async |n| {
        n.start_soon(bake(oven.clone())).set_name("baker"); // keeps `oven` itself
        n.start_soon(eat(table.clone())).set_name("quick");
        n.start_soon(eat(table)).set_name("slow");
        anyhow::Ok(())
    })
    .await?;
    drop(oven); // too late
    Ok(())
}
// ANCHOR_END: body
