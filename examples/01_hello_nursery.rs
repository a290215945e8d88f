//! Hello, nursery: two children, and a block that ends when both have ended.
//!
//! In asyncio, `create_task` starts a task that belongs to nobody. Forget to await it, and it is collected half-way
//! ("Task was destroyed but it is pending!"), or its error is never seen. Here every task has an owner. Look at the
//! last line: it cannot come before the children's. And the children just borrow `greeting`: no `Arc`, no `'static`.

use std::time::Duration;

use nursery::{open_nursery, sleep};
use nursery_examples::say;

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
async fn child(name: &str, greeting: &str, pause: Duration) -> anyhow::Result<()> {
    sleep(pause).await?; // a checkpoint: others run meanwhile, and it can be cancelled here
    say!("{name}: {greeting}");
    Ok(())
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    let greeting = String::from("hello, nursery");
    say!("parent: opens a nursery");
    open_nursery(async |n| {
        n.start_soon(child("first child", &greeting, SECOND));
        n.start_soon(child("second child", &greeting, 2 * SECOND));
        say!("parent: has started the children");
        anyhow::Ok(())
    })
    .await?;
    say!("parent: both have ended");
    Ok(())
}

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    demo().await
}
// ANCHOR_END: body
