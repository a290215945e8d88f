//! Ctrl-C cancels from the inside out: the database is closed when nobody needs it.

use std::cell::RefCell;
use std::time::Duration;

use nursery::{finally, open_nursery, sleep_forever};
use nursery_examples::println;
use nursery_io::signal::cancel_on_ctrl_c;
use rustix::process::{Signal, getpid, kill_process};

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
async fn worker(db: &RefCell<Vec<&str>>) -> anyhow::Result<()> {
    let work = async { Ok(sleep_forever().await?) };
    finally(work, SECOND, async || {
        db.borrow_mut().push("the last one");
        println!("worker: has saved");
        Ok(())
    })
    .await
}

async fn serve() -> anyhow::Result<()> {
    let db = RefCell::new(vec![]);
    let services = open_nursery(async |n| -> anyhow::Result<()> {
        n.start_soon(worker(&db));
        kill_process(getpid(), Signal::INT)?; // somebody presses Ctrl-C
        Ok(sleep_forever().await?)
    });
    finally(services, 5 * SECOND, async || {
        println!("main: closes the database, with {:?}", db.take());
        Ok(())
    })
    .await
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    if cancel_on_ctrl_c(serve()).await?.is_none() {
        println!("interrupted");
    }
    Ok(())
}
// ANCHOR_END: body
