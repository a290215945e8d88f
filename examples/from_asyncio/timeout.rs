//! `None` is said by this very time limit and by nobody else.

use std::io;
use std::time::Duration;

use nursery::{checkpoint, move_on_after};
use nursery_examples::println;

const HOUR: Duration = Duration::from_secs(3600);

// ANCHOR: body
async fn connect() -> io::Result<()> {
    checkpoint().await?;
    Err(io::Error::new(io::ErrorKind::TimedOut, "the router does not answer"))
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    match move_on_after(HOUR, connect()).await {
        Ok(Some(())) => println!("main: connected"),
        Ok(None) => println!("main: an hour is over"),
        Err(error) => println!("main: {error}"),
    }
    Ok(())
}
// ANCHOR_END: body
