//! `gather` returns when all have ended; an error that is to stay beside the values is a value.

use std::time::Duration;

use anyhow::ensure;
use nursery::{gather, sleep};
use nursery_examples::println;

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
async fn fetch(page: &str, takes: Duration) -> anyhow::Result<usize> {
    sleep(takes).await?;
    ensure!(page != "typo", "no such page");
    println!("fetch: has stored {page}");
    Ok(page.len())
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    let pages = [("typo", SECOND), ("news", 2 * SECOND)];
    if let Err(error) = gather(pages.map(|(page, takes)| fetch(page, takes))).await {
        println!("main: {error}\nmain: cleans up the store");
    }
    sleep(3 * SECOND).await?;

    let each = pages.map(async |(page, takes)| anyhow::Ok(fetch(page, takes).await));
    let results: Vec<anyhow::Result<usize>> = gather(each).await?;
    println!("main: {} bytes", results.iter().flatten().sum::<usize>());
    Ok(())
}
// ANCHOR_END: body
