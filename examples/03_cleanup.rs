//! Clean-up that waits, has a time limit of its own, and cannot fail unseen.
//!
//! In asyncio, an `await` in a `finally` block works until the task is cancelled once more; and if the other side never
//! answers, the program never ends. Here clean-up is shielded and has a limit. The first connection is closed in good
//! order after its time was up. The second's peer is silent: after 2 s the clean-up is given up, and the caller gets to
//! know.

use std::time::Duration;

use nursery::{ErrorGroup, TooSlow, finally, move_on_after, sleep, sleep_forever};
use nursery_examples::say;

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
async fn connection(peer_takes: Duration) -> anyhow::Result<()> {
    let talk = async {
        say!("connection: open");
        Ok(sleep_forever().await?)
    };
    finally(talk, 2 * SECOND, async || {
        say!("connection: says goodbye");
        sleep(peer_takes).await?;
        say!("connection: the peer has said goodbye, too");
        Ok(())
    })
    .await
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    let polite = move_on_after(SECOND, connection(SECOND)).await?;
    say!("caller: {polite:?}, the time was up");

    let silent = move_on_after(SECOND, connection(60 * SECOND)).await.unwrap_err();
    let errors: ErrorGroup<anyhow::Error> = silent.downcast()?;
    let too_slow = errors.find::<TooSlow>().expect("what was too slow is the clean-up");
    say!("caller: the time was up, and the clean-up was {too_slow}");
    Ok(())
}

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    demo().await
}
// ANCHOR_END: body
