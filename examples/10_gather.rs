//! Collect the results of several tasks, errors beside values; or take the first that comes.
//!
//! In asyncio, `gather(return_exceptions=True)` mixes errors with values, cancellations among them, and
//! `wait(FIRST_COMPLETED)` leaves the losers running until somebody cancels and awaits them. Here an error that is to be
//! kept is a value, and the losers have ended before the winner is announced.

use std::time::Duration;

use anyhow::ensure;
use nursery::{finally, gather, race, sleep};
use nursery_examples::say;

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
async fn fetch(page: &str, takes: Duration) -> anyhow::Result<usize> {
    sleep(takes).await?;
    ensure!(page != "typo", "no such page");
    Ok(page.len())
}

/// Downloads the page, and then closes the connection, whether or not it has got the page.
async fn download(mirror: &str, takes: Duration) -> anyhow::Result<&str> {
    let page = async {
        sleep(takes).await?;
        say!("  {mirror}: the page is here");
        Ok(mirror)
    };
    finally(page, 5 * SECOND, async || {
        sleep(takes).await?;
        say!("  {mirror}: has closed its connection");
        Ok(())
    })
    .await
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    say!("all of them, in the order of the list");
    let pages = [("news", 2 * SECOND), ("typo", SECOND), ("index", SECOND)];
    // `fetch(…)` alone would make the first error end them all.
    let results = pages.map(async |(page, takes)| anyhow::Ok(fetch(page, takes).await));
    for result in gather(results).await? {
        match result {
            Ok(size) => say!("  {size} bytes"),
            Err(error) => say!("  {error}"),
        }
    }
    say!("the first of them");
    let mirrors = [("far", 4 * SECOND), ("near", SECOND), ("middle", 3 * SECOND)];
    let winner = race(mirrors.map(|(mirror, takes)| download(mirror, takes))).await?;
    say!("  the winner: {winner}");
    Ok(())
}

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    demo().await
}
// ANCHOR_END: body
