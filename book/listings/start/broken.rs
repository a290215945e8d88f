//! A child that ends without having said that it is ready.

use std::cell::Cell;
use std::time::Duration;

use nursery::{TaskStatus, open_nursery, sleep, sleep_forever};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Database {
    is_open: Cell<bool>,
}

impl Database {
    fn has_files(&self) -> bool {
        self.is_open.get()
    }

    // ANCHOR: body
    async fn serve(&self, status: TaskStatus<u32>) -> anyhow::Result<()> {
        sleep(2 * SECOND).await?;
        if !self.has_files() {
            return Ok(()); // nothing to serve. But who waits for `started`?
        }
        self.is_open.set(true);
        status.started(1000);
        Ok(sleep_forever().await?)
    }
    // ANCHOR_END: body
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    let database = Database::default();
    open_nursery(async |n| -> anyhow::Result<()> {
        n.start(async |status| database.serve(status).await).await?;
        Ok(())
    })
    .await
}
