//! Timeouts: nested, with clean-up, and told apart from a cancellation.
//!
//! In asyncio, `wait_for` turns a cancellation into a `TimeoutError` and back, nested timeouts caught each other's
//! errors for years, and a task that sees `CancelledError` cannot tell who wants it to end. Here a timeout is a scope:
//! only the one whose time was up absorbs its cancellation, however deep they are nested.

use std::time::Duration;

use nursery::{EffectiveDeadline, TooSlow, current_effective_deadline, fail_after, finally};
use nursery::{TaskError, move_on_after, now, sleep};
use nursery_examples::say;

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
async fn slow() -> anyhow::Result<&'static str> {
    sleep(60 * SECOND).await?;
    Ok("an answer")
}

async fn nested(outer: Duration, inner: Duration) -> anyhow::Result<()> {
    let outer = move_on_after(outer, async {
        let inner = move_on_after(inner, slow()).await?; // passes on what is not its own
        say!("  inner: {inner:?}");
        anyhow::Ok("went on")
    })
    .await?;
    say!("  outer: {outer:?}");
    Ok(())
}

async fn impatient() -> anyhow::Result<&'static str> {
    let answer = fail_after(2 * SECOND, slow()).await;
    if let Err(error) = &answer {
        match error.as_cancelled() {
            Some(cancelled) => say!("  I was cancelled: {}", cancelled.reason().source()),
            None if error.is::<TooSlow>() => say!("  I timed out: {error}"),
            None => say!("  I failed: {error}"),
        }
    }
    answer
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    say!("a timeout");
    let answer = move_on_after(SECOND, slow()).await?;
    say!("  {answer:?}");

    say!("nested, the inner one fires");
    nested(3 * SECOND, SECOND).await?;

    say!("nested, the outer one fires");
    nested(SECOND, 3 * SECOND).await?;

    say!("with clean-up, which takes 1 s more");
    let polite = finally(slow(), 2 * SECOND, async || Ok(sleep(SECOND).await?));
    let answer = move_on_after(SECOND, polite).await?;
    say!("  {answer:?}");

    say!("how long have I got, inside 5 s inside 3 s?");
    let look = async { anyhow::Ok(current_effective_deadline()) };
    let seen = move_on_after(3 * SECOND, move_on_after(5 * SECOND, look)).await?.flatten();
    if let Some(EffectiveDeadline::At(deadline)) = seen {
        say!("  {:.0} s", (deadline - now()).as_secs_f64());
    }

    say!("did I time out, or was I cancelled?");
    let _ = impatient().await;
    let _ = move_on_after(SECOND, impatient()).await?;
    Ok(())
}

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    demo().await
}
// ANCHOR_END: body
