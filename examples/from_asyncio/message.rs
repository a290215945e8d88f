//! The reason goes wherever the cancellation goes.

use nursery::{Cancelled, checkpoint, open_nursery, sleep_forever};
use nursery_examples::println;

// ANCHOR: body
async fn child() -> Result<(), Cancelled> {
    let result = sleep_forever().await;
    if let Err(cancelled) = &result {
        println!("child: {}", cancelled.reason());
    }
    result
}

async fn server() -> Result<(), Cancelled> {
    open_nursery(async |n| {
        n.start_soon(child());
        Ok(())
    })
    .await
}

pub(crate) async fn demo() -> Result<(), Cancelled> {
    open_nursery(async |n| -> Result<(), Cancelled> {
        let task = n.start_soon(server());
        checkpoint().await?;
        task.cancel_because("the disk is full");
        Ok(())
    })
    .await
}
// ANCHOR_END: body
