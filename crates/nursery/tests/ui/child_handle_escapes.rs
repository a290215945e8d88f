//! The handle of a child cannot leave its nursery: by then the child has ended, with what it borrowed.

use nursery::{Cancelled, Child, open_nursery};

async fn as_value() -> Result<(), Cancelled> {
    let child = open_nursery(async |n| Ok::<_, Cancelled>(n.start_soon(async { Ok(1) }))).await?;
    child.await?;
    Ok(())
}

async fn through_a_variable() -> Result<(), Cancelled> {
    let mut kept: Option<Child<'_, u8>> = None;
    open_nursery(async |n| {
        kept = Some(n.start_soon(async { Ok(1) }));
        Ok::<_, Cancelled>(())
    })
    .await?;
    kept.unwrap().await?;
    Ok(())
}

fn main() {}
