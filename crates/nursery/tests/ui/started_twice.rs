//! A child says once that it is ready: `started` takes the status.

use nursery::{Cancelled, TaskStatus, checkpoint};

async fn listen(status: TaskStatus<u16>) -> Result<(), Cancelled> {
    status.started(80);
    checkpoint().await?;
    status.started(443);
    Ok(())
}

fn main() {}
