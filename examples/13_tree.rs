//! The live tree: why does the program not end?
//!
//! In asyncio, `all_tasks()` is a heap of tasks without order: which belongs to which, and what each waits for, nobody
//! knows. Here tasks, nurseries and scopes are a tree, and it can be printed. First everything runs; then the nursery is
//! cancelled, the idle ones go at once, and the tree shows who is left: the client that saves, under its shield.

use std::time::Duration;

use nursery::{move_on_after, open_nursery, shield, sleep, sleep_forever, tree};
use nursery_examples::println;

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
async fn server() -> anyhow::Result<()> {
    open_nursery(async |n| {
        n.start_soon(move_on_after(60 * SECOND, idle())).set_name("idle client");
        n.start_soon(shield(save())).set_name("saving client");
        anyhow::Ok(())
    })
    .await
}

async fn idle() -> anyhow::Result<()> {
    Ok(sleep_forever().await?)
}

async fn save() -> anyhow::Result<()> {
    Ok(sleep(5 * SECOND).await?)
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    open_nursery(async |n| {
        n.start_soon(server()).set_name("server");
        n.start_soon(idle()).set_name("heartbeat");
        sleep(SECOND).await?;
        println!("after 1 s:\n{}", tree());

        n.cancel_scope().cancel_because("going home");
        shield(sleep(SECOND)).await?;
        println!("cancelled, and 1 s later:\n{}", tree());
        anyhow::Ok(())
    })
    .await?;
    println!("and now all have ended");
    Ok(())
}

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    demo().await
}
// ANCHOR_END: body
