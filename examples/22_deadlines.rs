//! A time limit that is forgiven, one that is not, and one inside the other.
//!
//! In asyncio, a timeout is a `cancel()` that is turned into a `TimeoutError` later, and who else cancels meanwhile is
//! mistaken for it. Here a time limit is a scope, and the value says which one it was: `None` comes from the scope whose
//! time was up.

use std::time::Duration;

use nursery::{fail_after, move_on_after, sleep};
use nursery_examples::say;

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
async fn ask(whom: &str, takes: Duration) -> anyhow::Result<String> {
    sleep(takes).await?;
    Ok(format!("{whom} says hello"))
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    let quick = move_on_after(2 * SECOND, ask("the neighbour", SECOND)).await?;
    say!("forgiving: {quick:?}");

    let slow = move_on_after(2 * SECOND, ask("the oracle", 60 * SECOND)).await?;
    say!("forgiving: {slow:?}");

    let error = fail_after(2 * SECOND, ask("the oracle", 60 * SECOND)).await.unwrap_err();
    say!("strict: {error}");

    let all = move_on_after(3 * SECOND, async {
        let first = move_on_after(2 * SECOND, ask("the oracle", 60 * SECOND)).await?;
        say!("  first question: {first:?}");
        let second = move_on_after(2 * SECOND, ask("the oracle", 60 * SECOND)).await?;
        say!("  second question: {second:?}");
        anyhow::Ok("two questions asked")
    })
    .await?;
    say!("both questions: {all:?}");
    Ok(())
}

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    demo().await
}
// ANCHOR_END: body
