//! A nursery's reference cannot leave its body: neither as its value, nor through a variable outside.

use nursery::{Cancelled, Nursery, open_nursery};

async fn as_value() -> Result<(), Cancelled> {
    let escaped = open_nursery(async |n| Ok::<_, Cancelled>(n)).await?;
    escaped.start_soon(async { Ok(()) });
    Ok(())
}

async fn through_a_variable() -> Result<(), Cancelled> {
    let mut escaped: Option<&Nursery<'_, '_, Cancelled>> = None;
    open_nursery(async |n| {
        escaped = Some(n);
        Ok::<_, Cancelled>(())
    })
    .await?;
    escaped.unwrap().start_soon(async { Ok(()) });
    Ok(())
}

fn main() {}
