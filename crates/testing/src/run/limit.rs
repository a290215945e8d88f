//! A limit in real time for a run: a failure with the tree of tasks, in place of a test that hangs.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::time::Duration;

use async_io::Timer;
use futures_lite::future::or;
use nursery::{Builder, Guest, TaskError, tree};

/// Runs `main`, and drops it where it stands when the time is up.
#[track_caller]
pub(super) fn run_within<T, E: TaskError>(
    limit: Duration,
    builder: Builder,
    main: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let mut guest = Box::pin(builder.guest(main));
    let timer = async {
        Timer::after(limit).await;
        None
    };
    if let Some(result) = async_io::block_on(or(async { Some(guest.as_mut().await) }, timer)) {
        return result;
    }
    let tree = picture(guest.as_mut());
    drop(guest);
    panic!(
        "the test is not done after {limit:?} of real time\n\
         \n\
         {tree}\n\
         Usual causes:\n\
         - a loop that swallows `Cancelled`, or that never waits, and so goes on for ever\n\
         - something outside that never comes: a socket, a thread, a signal\n\
         - a limit that is too short for this machine"
    )
}

/// What the tasks of a run do now.
fn picture<T, E>(guest: Pin<&mut Guest<'_, T, E>>) -> String {
    let (tell, told) = mpsc::channel();
    let look = move || {
        tell.send(tree().to_string()).ok();
    };
    // Not earlier: a run the token of which is in foreign hands is never taken for stuck.
    if guest.token().run_soon(look).is_ok() {
        // The entry queue comes first in a poll. What else it does is of no matter any more.
        let _ = guest.poll(&mut Context::from_waker(Waker::noop()));
    }
    told.try_recv().unwrap_or_default()
}
