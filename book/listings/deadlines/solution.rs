//! Three mirrors, one after the other: a time limit for each, and one for all.

use std::time::Duration;

use nursery::{fail_after, move_on_after, sleep};
use nursery_examples::say;

const SECOND: Duration = Duration::from_secs(1);

async fn ask(whom: &str, takes: Duration) -> anyhow::Result<String> {
    sleep(takes).await?;
    Ok(format!("{whom} says hello"))
}

// ANCHOR: body
/// The first answer that comes within 2 s; `None` if no mirror is quick enough.
async fn first_answer(mirrors: &[(&str, Duration)]) -> anyhow::Result<Option<String>> {
    fail_after(5 * SECOND, async {
        for &(mirror, takes) in mirrors {
            if let Some(answer) = move_on_after(2 * SECOND, ask(mirror, takes)).await? {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    })
    .await
}
// ANCHOR_END: body

pub(crate) async fn demo() -> anyhow::Result<()> {
    let (slow, quick) = (60 * SECOND, SECOND);
    say!("{:?}", first_answer(&[("one", slow), ("two", quick), ("three", quick)]).await?);
    say!("{:?}", first_answer(&[("one", slow), ("two", slow)]).await?);
    say!("{}", first_answer(&[("one", slow), ("two", slow), ("three", slow)]).await.unwrap_err());
    Ok(())
}
