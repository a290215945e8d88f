//! A child that others depend on: `start` returns when it is ready.
//!
//! In asyncio, one starts the server, sleeps a little, and hopes; or one shares an event, and hangs if the server fails
//! before it sets it. Here the child says when it is ready, and a value with it. If it fails before, `start` fails.

use std::cell::Cell;
use std::time::Duration;

use anyhow::ensure;
use nursery::{TaskStatus, open_nursery, sleep, sleep_forever};
use nursery_examples::say;

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
#[derive(Default)]
struct Database {
    is_open: Cell<bool>,
}

impl Database {
    async fn serve(&self, status: TaskStatus<u32>) -> anyhow::Result<()> {
        say!("database: reads its files");
        sleep(2 * SECOND).await?;
        self.is_open.set(true);
        status.started(1000); // from here on, it is the nursery's
        say!("database: open");
        Ok(sleep_forever().await?)
    }

    async fn count(&self) -> anyhow::Result<u32> {
        ensure!(self.is_open.get(), "the database is not open");
        sleep(SECOND).await?;
        Ok(42)
    }
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    let database = Database::default();
    open_nursery(async |n| -> anyhow::Result<()> {
        let rows = n.start(async |status| database.serve(status).await).await?;
        say!("main: {rows} rows, {} of them new", database.count().await?);
        n.cancel_scope().cancel();
        Ok(())
    })
    .await?;
    say!("main: the database has ended");
    Ok(())
}

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    demo().await
}
// ANCHOR_END: body
