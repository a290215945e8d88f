//! A cancellation ends at the scope that was cancelled, and there it is looked at.

use anyhow::Context as _;
use nursery::{CancelScope, Child, open_nursery, sleep_forever};
use nursery_examples::println;

// ANCHOR: body
async fn connect(patience: &CancelScope) -> anyhow::Result<()> {
    let connected = patience.enter(sleep_forever()).await?;
    connected.context("the connection was given up") // `None` is a value: one says what it means
}

async fn upload(name: &str, connection: Child<'_, ()>) -> anyhow::Result<()> {
    connection.await?;
    println!("{name}: uploaded");
    Ok(())
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    let patience = CancelScope::new();
    let outcome = open_nursery(async |n| {
        let connection = n.start_soon(connect(&patience));
        n.start_soon(upload("photo", connection));
        patience.cancel(); // somebody elsewhere had enough of it
        anyhow::Ok(())
    })
    .await;
    match outcome {
        Ok(()) => println!("main: no error"),
        Err(error) => println!("main: {error}"),
    }
    Ok(())
}
// ANCHOR_END: body
