//! A time limit around all attempts.

use std::io;
use std::time::Duration;

use nursery::{fail_after, sleep_forever};
use nursery_examples::say;

#[path = "../../../examples/16_happy_eyeballs.rs"]
#[allow(dead_code, reason = "one function of it is wanted")]
mod example;

use example::happy_eyeballs;

const SECOND: Duration = Duration::from_secs(1);

pub(crate) async fn demo() -> io::Result<()> {
    let connect = async |name: &str| {
        say!("{name}: trying");
        io::Result::<()>::Err(sleep_forever().await.unwrap_err().into())
    };
    // ANCHOR: body
    let attempts = happy_eyeballs(["black hole", "another", "a third"], SECOND, connect);
    match fail_after(5 * SECOND, attempts).await {
        Ok(()) => say!("connected"),
        Err(error) => say!("given up: {error}"),
    }
    // ANCHOR_END: body
    Ok(())
}
