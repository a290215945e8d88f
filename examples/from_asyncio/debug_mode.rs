//! Two tasks that wait for each other: the test fails at once, with the tree.

use nursery::{checkpoint, open_nursery};
use nursery_examples::println;
use nursery_io::sync::Lock;

// ANCHOR: body
async fn transfer(here: &Lock, there: &Lock) -> anyhow::Result<()> {
    let _here = here.lock().await?;
    checkpoint().await?;
    let _there = there.lock().await?;
    println!("transferred");
    Ok(())
}

pub(crate) fn test_transfers() -> anyhow::Result<()> {
    let (ann, bob) = (Lock::new(), Lock::new());
    nursery_testing::run(open_nursery(async |n| {
        n.start_soon(transfer(&ann, &bob)).set_name("ann to bob");
        n.start_soon(transfer(&bob, &ann)).set_name("bob to ann");
        anyhow::Ok(())
    }))
}
// ANCHOR_END: body
