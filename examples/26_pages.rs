//! Three pages, each from one server or another: the program of the README.
//!
//! In asyncio, a timeout that cancels, a sibling that fails and a caller that gives up all raise the same
//! `CancelledError`, and whoever catches the wrong one hangs. Here each limit and each nursery is a scope, which absorbs its
//! own cancellation and no other; and what the children borrow outlives them, since the nursery waits for them.

use nursery_examples::println;

// ANCHOR: body
use std::cell::RefCell;
use std::time::Duration;

use nursery::{move_on_after, open_nursery, sleep};

const SECOND: Duration = Duration::from_secs(1);

async fn ask(server: &str, page: &str) -> anyhow::Result<usize> {
    let seconds = if server == "mirror" && page != "home" { 60 } else { page.len() as u32 - 3 };
    sleep(seconds * SECOND).await?; // a checkpoint: `?` carries a cancellation out
    anyhow::ensure!(page != "typo", "no page {page:?}");
    Ok(1000 * page.len())
}

async fn fetch(page: &str) -> anyhow::Result<usize> {
    match move_on_after(2 * SECOND, ask("mirror", page)).await? {
        Some(size) => Ok(size),
        None => ask("origin", page).await, // the time was up
    }
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    let sizes = RefCell::new(vec![]); // one thread: no Arc, no Mutex
    let outcome = open_nursery(async |n| {
        for page in ["home", "weather", "typo"] {
            let sizes = &sizes; // children borrow what outlives the nursery
            let child = n.start_soon(async move {
                let size = fetch(page).await?;
                sizes.borrow_mut().push((page, size));
                Ok(())
            });
            child.set_name(page);
        }
        anyhow::Ok(())
    })
    .await; // here every child has ended: the one that failed has cancelled the others
    println!("{:?}", sizes.into_inner());
    if let Err(error) = outcome {
        println!("{error:#}");
    }
    Ok(())
}

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    demo().await
}
// ANCHOR_END: body
