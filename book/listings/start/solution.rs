//! A time limit for the start, not for the service.

use std::time::Duration;

use nursery::{TaskStatus, move_on_after, open_nursery, sleep, sleep_forever};
use nursery_examples::say;

const SECOND: Duration = Duration::from_secs(1);

async fn serve(status: TaskStatus<u32>, takes: Duration) -> anyhow::Result<()> {
    sleep(takes).await?;
    status.started(1000);
    Ok(sleep_forever().await?)
}

// ANCHOR: body
async fn use_database(takes: Duration) -> anyhow::Result<()> {
    open_nursery(async |n| -> anyhow::Result<()> {
        let start = n.start(async move |status| serve(status, takes).await);
        match move_on_after(3 * SECOND, start).await? {
            None => say!("main: it does not start; goes on without it"),
            Some(rows) => {
                sleep(10 * SECOND).await?; // the limit is over: it does not end the database
                say!("main: has used {rows} rows");
            }
        }
        n.cancel_scope().cancel();
        Ok(())
    })
    .await
}
// ANCHOR_END: body

pub(crate) async fn demo() -> anyhow::Result<()> {
    say!("main: starts a quick database, then a slow one");
    use_database(SECOND).await?;
    use_database(60 * SECOND).await
}
