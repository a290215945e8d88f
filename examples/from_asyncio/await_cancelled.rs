//! An `Err` of `cancel_and_join` is one's own cancellation, and `?` passes it on.

use std::time::Duration;

use nursery::{finally, move_on_after, open_nursery, sleep, sleep_forever};
use nursery_examples::println;

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
async fn worker() -> anyhow::Result<()> {
    let work = async { Ok(sleep_forever().await?) };
    finally(work, 10 * SECOND, async || {
        println!("worker: cleans up");
        sleep(5 * SECOND).await?;
        println!("worker: has cleaned up");
        Ok(())
    })
    .await
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    open_nursery(async |n| -> anyhow::Result<()> {
        let task = n.start_soon(worker());
        sleep(SECOND).await?;
        let stop = async { anyhow::Ok(task.cancel_and_join().await?) };
        match move_on_after(SECOND, stop).await? {
            Some(_) => println!("main: stopped in time"),
            None => println!("main: too slow"),
        }
        Ok(())
    })
    .await?;
    println!("main: all have ended");
    Ok(())
}
// ANCHOR_END: body
