//! A child that borrows what the nursery's body owns.

use std::cell::Cell;

use nursery::open_nursery;

struct Kitchen {
    eggs: Cell<u32>,
}

impl Kitchen {
    async fn cook(&self, eggs: u32) -> anyhow::Result<()> {
        self.eggs.set(self.eggs.get() - eggs);
        Ok(())
    }
}

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    // ANCHOR: body
    open_nursery(async |n| {
        let kitchen = Kitchen { eggs: Cell::new(12) }; // inside the nursery, not around it
        n.start_soon(kitchen.cook(3));
        anyhow::Ok(())
    })
    .await
    // ANCHOR_END: body
}
