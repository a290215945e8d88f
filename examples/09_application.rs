//! An application: a worker, a periodic task, and a database that is closed at the end; SIGTERM stops it.
//!
//! In asyncio, this is where `add_signal_handler`, a stop event, a list of tasks and `gather(return_exceptions=True)`
//! meet, and one forgotten task keeps the process alive or loses its last order. Here the signal cancels one nursery.
//! The order that is being shipped is finished; the database is closed last, when nobody uses it any more.

use std::io;
use std::time::Duration;

use nursery::{CancelSource, finally, open_nursery, shield, sleep};
use nursery_examples::say;
use nursery_io::signal::{self, Signal};

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
async fn ship_orders() -> anyhow::Result<()> {
    for order in 1.. {
        sleep(2 * SECOND).await?; // until it comes in
        say!("order {order}: begun");
        shield(sleep(2 * SECOND)).await?;
        say!("order {order}: shipped");
    }
    Ok(())
}

async fn report_health() -> anyhow::Result<()> {
    sleep(SECOND).await?;
    loop {
        say!("health: fine");
        sleep(4 * SECOND).await?;
    }
}

/// Runs until `stop` says why it is to end.
pub(crate) async fn application(
    stop: impl Future<Output = io::Result<Signal>>,
) -> anyhow::Result<()> {
    say!("application: opens the database");
    let services = open_nursery(async |n| -> anyhow::Result<()> {
        n.start_soon(ship_orders());
        n.start_soon(report_health());
        let signal = stop.await?;
        say!("application: {signal:?}, stopping");
        n.cancel_scope().cancel_because(CancelSource::Terminated);
        Ok(())
    });
    finally(services, 5 * SECOND, async || {
        say!("application: writes what is left");
        sleep(SECOND).await?;
        say!("application: has closed the database");
        Ok(())
    })
    .await
}

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    eprintln!("Stop me: kill {}", std::process::id());
    let mut signals = signal::receiver(&[Signal::Term, Signal::Int])?;
    application(signals.recv()).await
}
// ANCHOR_END: body
