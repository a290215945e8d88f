//! `?` on a checkpoint in a function whose error cannot carry a `Cancelled`.

use nursery::checkpoint;

#[derive(Debug)]
struct DiskFull;

async fn works() -> Result<(), DiskFull> {
    checkpoint().await?;
    Ok(())
}

fn main() {}
