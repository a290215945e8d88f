//! A child that starts a child.

use std::time::Duration;

use nursery::{open_nursery, sleep};
use nursery_examples::say;

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
pub(crate) async fn demo() -> anyhow::Result<()> {
    say!("parent: opens a nursery");
    open_nursery(async |n| {
        n.start_soon(async {
            sleep(SECOND).await?;
            say!("first child: starts another, and ends");
            n.start_soon(async {
                sleep(2 * SECOND).await?;
                say!("second child: hello");
                Ok(())
            });
            Ok(())
        });
        anyhow::Ok(())
    })
    .await?;
    say!("parent: both have ended");
    Ok(())
}
// ANCHOR_END: body
