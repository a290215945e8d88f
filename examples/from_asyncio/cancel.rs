//! The worker has ended, clean-up and all, when the database is closed.

use std::cell::RefCell;
use std::time::Duration;

use nursery::{finally, open_nursery, sleep, sleep_forever};
use nursery_examples::println;

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
async fn worker(db: &RefCell<Vec<&str>>) -> anyhow::Result<()> {
    let work = async { Ok(sleep_forever().await?) };
    finally(work, 5 * SECOND, async || {
        sleep(SECOND).await?; // says goodbye to its peer
        db.borrow_mut().push("the last one");
        println!("worker: has saved");
        Ok(())
    })
    .await
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    let db = RefCell::new(vec![]);
    open_nursery(async |n| -> anyhow::Result<()> {
        let task = n.start_soon(worker(&db));
        sleep(SECOND).await?;
        task.cancel_and_join().await?;
        println!("main: the worker has ended");
        Ok(())
    })
    .await?;
    let orders = db.into_inner(); // it compiles, so nobody else has it any more
    println!("main: closes the database, with {orders:?}");
    Ok(())
}
// ANCHOR_END: body
