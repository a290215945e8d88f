//! As many children as there are in a list, and their values in its order.

use std::cell::Cell;
use std::time::Duration;

use nursery::{open_nursery, sleep};
use nursery_examples::say;

const SECOND: Duration = Duration::from_secs(1);

struct Kitchen {
    eggs: Cell<u32>,
}

impl Kitchen {
    async fn cook(&self, eggs: u32, takes: Duration) -> anyhow::Result<u32> {
        sleep(takes).await?;
        self.eggs.set(self.eggs.get() - eggs);
        Ok(eggs)
    }
}

// ANCHOR: body
async fn cook_all(kitchen: &Kitchen, menu: &[(u32, Duration)]) -> anyhow::Result<Vec<u32>> {
    open_nursery(async |n| -> anyhow::Result<Vec<u32>> {
        let mut dishes = vec![];
        for &(eggs, takes) in menu {
            dishes.push(n.start_soon(kitchen.cook(eggs, takes))); // all of them cook from now on
        }
        let mut used = vec![];
        for dish in dishes {
            used.push(dish.await?);
        }
        Ok(used)
    })
    .await
}
// ANCHOR_END: body

pub(crate) async fn demo() -> anyhow::Result<()> {
    let kitchen = Kitchen { eggs: Cell::new(12) };
    let menu = [(3, 2 * SECOND), (4, SECOND), (1, 3 * SECOND)];
    say!("cook: begins");
    let used = cook_all(&kitchen, &menu).await?;
    say!("cook: {used:?} eggs used, {} left", kitchen.eggs.get());
    Ok(())
}
