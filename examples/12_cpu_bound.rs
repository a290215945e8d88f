//! Computing: a loop with checkpoints can be cancelled; one in a thread is asked to stop, and waited for.
//!
//! In asyncio, a long computation freezes the loop, so no timeout fires; and one in `run_in_executor` cannot be
//! cancelled: the await ends, the thread goes on. Here a checkpoint in the loop lets others run, such as the one that
//! cancels it. In a thread there are no checkpoints; but we learn of the cancellation, raise a flag, and leave when the
//! thread has.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use blocking::unblock;
use futures_lite::future;
use nursery::{cancellable, checkpoint, lowlevel, move_on_after, open_nursery, shield};
use nursery_examples::say;

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
fn crunch() -> u64 {
    (0..10_000).fold(0, |sum, i| black_box(sum + i))
}

async fn crunch_on(rounds: &Cell<u32>) -> anyhow::Result<()> {
    loop {
        crunch();
        rounds.set(rounds.get() + 1);
        checkpoint().await?; // others run now and then, and it can be cancelled every time
    }
}

async fn with_checkpoints() -> anyhow::Result<()> {
    let rounds = Cell::new(0);
    open_nursery(async |n| -> anyhow::Result<()> {
        let cruncher = n.start_soon(crunch_on(&rounds));
        while rounds.get() < 100 {
            checkpoint().await?;
        }
        say!("main: 100 rounds are enough");
        cruncher.cancel_and_join().await?;
        say!("main: the loop has ended");
        Ok(())
    })
    .await
}

async fn in_a_thread() -> anyhow::Result<()> {
    say!("task: computes in a thread");
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let thread = unblock(move || {
        while !flag.load(Ordering::Relaxed) {
            crunch();
        }
    });
    let watch = async {
        let cancelled = lowlevel::cancelled().await; // a value, not an error
        say!("task: {cancelled}; asks the thread to stop");
        stop.store(true, Ordering::Relaxed);
        future::pending().await
    };
    future::or(shield(cancellable(thread)), watch).await?;
    say!("task: the thread has stopped");
    checkpoint().await?;
    Ok(())
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    with_checkpoints().await?;
    let result = move_on_after(SECOND, in_a_thread()).await?;
    say!("main: {result:?}, the time was up");
    Ok(())
}

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    demo().await
}
// ANCHOR_END: body
