//! A checkpoint whose answer is thrown away.

use std::time::Duration;

use nursery::sleep;

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    #![deny(unused_must_use)]
    // ANCHOR: body
    loop {
        sleep(Duration::from_secs(1)).await;
    }
    // ANCHOR_END: body
}
