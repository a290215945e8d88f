//! Graceful shutdown: on Ctrl-C, some tasks stop at once, others finish, and the program waits for all.
//!
//! In asyncio, Ctrl-C cancels whatever happens to run, shielded tasks are destroyed when the loop is closed, and to wait for
//! the right ones takes a list of tasks, a signal handler and a good deal of luck. Here six workers need 10 s each, three
//! of them under a shield. Press Ctrl-C: three are cancelled at once, three get done, and then the program ends. Press
//! it twice: it ends at once, with status 130.

use std::time::Duration;

use nursery::{Cancelled, open_nursery, shield, sleep};
use nursery_examples::println;
use nursery_io::signal::cancel_on_ctrl_c;

// ANCHOR: body
async fn worker(is_shielded: bool) -> Result<(), Cancelled> {
    let work = sleep(Duration::from_secs(10));
    let result = if is_shielded { shield(work).await } else { work.await };
    match result {
        Ok(()) => println!("Task done!"),
        Err(_) => println!("Canceled!"),
    }
    result
}

pub(crate) async fn six_workers() -> Result<(), Cancelled> {
    open_nursery(async |n| {
        for i in 0..6 {
            n.start_soon(worker(i % 2 == 0));
        }
        Ok(())
    })
    .await
}

pub(crate) fn report(done: Option<()>) {
    match done {
        Some(()) => println!("Nursery done!"),
        None => println!("Nursery Cancelled!"),
    }
}

#[nursery::main]
async fn main() -> Result<(), Cancelled> {
    eprintln!("Six workers of 10 s. Press Ctrl-C …");
    report(cancel_on_ctrl_c(six_workers()).await?);
    Ok(())
}
// ANCHOR_END: body
