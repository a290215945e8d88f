//! A child belongs to its nursery, whether or not anybody keeps its handle.

use std::time::Duration;

use nursery::{checkpoint, finally, open_nursery, sleep_forever};
use nursery_examples::println;

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
async fn subscriber() -> anyhow::Result<()> {
    let listen = async { Ok(sleep_forever().await?) };
    finally(listen, SECOND, async || {
        println!("subscriber: says goodbye");
        checkpoint().await?;
        println!("subscriber: has said goodbye");
        Ok(())
    })
    .await
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    open_nursery(async |n| -> anyhow::Result<()> {
        n.start_soon(subscriber()); // nobody keeps the handle
        checkpoint().await?;
        println!("main: goes on, and ends");
        n.cancel_scope().cancel();
        Ok(())
    })
    .await
}
// ANCHOR_END: body
