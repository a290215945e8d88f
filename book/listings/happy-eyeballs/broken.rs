//! Attempts that are not cancelled when one has won.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use nursery::{TaskError, move_on_after, open_nursery, sleep};
use nursery_examples::say;
use nursery_io::sync::Event;

const SECOND: Duration = Duration::from_secs(1);

async fn happy_eyeballs<A, S>(
    targets: impl IntoIterator<Item = A>,
    delay: Duration,
    connect: impl AsyncFn(A) -> io::Result<S>,
) -> io::Result<Option<S>> {
    let winner = RefCell::new(None);
    open_nursery(async |n| -> io::Result<()> {
        for target in targets {
            let failed = Rc::new(Event::new());
            let (connect, winner, tell) = (&connect, &winner, failed.clone());
            n.start_soon(async move {
                // ANCHOR: body
                match connect(target).await {
                    Ok(stream) => {
                        winner.replace(Some(stream));
                    }
                    // ANCHOR_END: body
                    Err(error) if error.as_cancelled().is_some() => return Err(error),
                    Err(_) => tell.set(),
                }
                Ok(())
            });
            move_on_after(delay, failed.wait()).await?;
        }
        Ok(())
    })
    .await?;
    Ok(winner.into_inner())
}

/// Nobody answers the first; the system gives up after two minutes.
pub(crate) async fn demo() -> io::Result<()> {
    let targets = [("black hole", 127, false), ("server", 0, true)];
    let connect = async |(name, seconds, answers): (&str, u32, bool)| {
        say!("{name}: trying");
        sleep(seconds * SECOND).await?;
        let result = if answers { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) };
        say!("{name}: {}", if answers { "connected" } else { "timed out" });
        result
    };
    happy_eyeballs(targets, SECOND, connect).await?;
    say!("there is a connection, at last");
    Ok(())
}
