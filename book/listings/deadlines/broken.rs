//! A caller that forgets that the time may be up.

use std::time::Duration;

use nursery::{move_on_after, sleep};

const SECOND: Duration = Duration::from_secs(1);

async fn ask() -> anyhow::Result<String> {
    sleep(60 * SECOND).await?;
    Ok("hello".into())
}

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    // ANCHOR: body
    let answer: String = move_on_after(2 * SECOND, ask()).await?;
    // ANCHOR_END: body
    println!("{answer}");
    Ok(())
}
