//! Two things at once, which share what their parent owns.
//!
//! In asyncio, tasks share objects freely, and whoever is left over after an error still writes to them. In Rust, most
//! runtimes want `'static + Send` of a task: an `Arc` and a `Mutex` for a counter. Here the children end before what they
//! borrow does, and the compiler knows it: a plain reference will do.

use std::cell::Cell;
use std::time::Duration;

use nursery::{open_nursery, sleep};
use nursery_examples::say;

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
struct Kitchen {
    eggs: Cell<u32>,
}

impl Kitchen {
    async fn cook(&self, dish: &str, eggs: u32, takes: Duration) -> anyhow::Result<u32> {
        sleep(takes).await?;
        self.eggs.set(self.eggs.get() - eggs); // no `await` in between: nobody else runs
        say!("{dish}: ready, {} eggs are left", self.eggs.get());
        Ok(eggs)
    }
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    let kitchen = Kitchen { eggs: Cell::new(12) };
    say!("cook: there are {} eggs", kitchen.eggs.get());
    let used = open_nursery(async |n| -> anyhow::Result<u32> {
        let omelette = n.start_soon(kitchen.cook("omelette", 3, SECOND)).named("omelette");
        let cake = n.start_soon(kitchen.cook("cake", 4, 3 * SECOND)).named("cake");
        Ok(omelette.await? + cake.await?)
    })
    .await?;
    say!("cook: {used} eggs used");
    Ok(())
}

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    demo().await
}
// ANCHOR_END: body
