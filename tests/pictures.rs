//! Pictures of examples, drawn from their runs, compared with `examples/pictures`. `BLESS=1` draws them anew.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::time::Duration;

use nursery::{TaskError, open_nursery, sleep, sleep_forever};
use nursery_examples::recorded;
use nursery_testing::{Test, Trace, assert_expected, lockstep_stream_pair};

mod memory;

use memory::memory_listener;

const SECOND: Duration = Duration::from_secs(1);

/// Includes a program as a module, by the name of its file.
macro_rules! programs {
    ($($name:ident: $path:literal,)*) => {
        $(
            #[path = $path]
            #[allow(dead_code, reason = "its `main` is called when it is run by hand")]
            mod $name;
        )*
    };
}

programs! {
    hello_nursery: "../examples/01_hello_nursery.rs",
    cancel_a_task: "../examples/02_cancel_a_task.rs",
    worker_states: "../examples/04_worker_states.rs",
    shield: "../examples/07_shield.rs",
    swallowed_cancel: "../examples/11_swallowed_cancel.rs",
    echo_server: "../examples/14_echo_server.rs",
    eyeballs: "../examples/16_happy_eyeballs.rs",
    borrowing: "../examples/20_borrowing.rs",
    one_fails: "../examples/21_one_fails.rs",
    deadlines: "../examples/22_deadlines.rs",
    start: "../examples/23_start.rs",
    channel: "../examples/24_channel.rs",
    workshop: "../examples/25_workshop.rs",
    pages: "../examples/26_pages.rs",
    legend: "../book/listings/legend/program.rs",
}

fn draw<E: TaskError + Debug>(
    path: &str,
    title: &str,
    example: impl Future<Output = Result<(), E>>,
) {
    let trace = Trace::new();
    let run = Test::new().seed(0).builder().instrument(trace.clone());
    run.run(async { recorded(example).await.0 }).unwrap();
    let picture = trace.svg(title);
    assert!(picture.len() <= 8 * 1024, "{path}: {} bytes", picture.len());
    assert_expected(format!("{path}.svg"), &picture);
}

#[test]
fn picture_01_hello_nursery() {
    draw("examples/pictures/01_hello_nursery", "Two children in a nursery", hello_nursery::demo());
}

#[test]
fn picture_02_cancel_a_task() {
    draw(
        "examples/pictures/02_cancel_a_task",
        "A task is cancelled, and cleans up",
        cancel_a_task::demo(),
    );
}

#[test]
fn picture_04_worker_states() {
    draw(
        "examples/pictures/04_worker_states",
        "A worker that finishes its job first",
        worker_states::demo(),
    );
}

#[test]
fn picture_07_shield() {
    draw("examples/pictures/07_shield", "A payment is finished under a shield", shield::demo());
}

#[test]
fn picture_11_swallowed_cancel() {
    draw(
        "examples/pictures/11_swallowed_cancel",
        "A cancellation is swallowed, and comes again",
        swallowed_cancel::demo(),
    );
}

/// As its demonstration, but in memory.
async fn served_in_memory() -> anyhow::Result<()> {
    let (clients, listener) = memory_listener();
    let connect = || {
        let (here, there) = lockstep_stream_pair();
        clients.try_send(there).expect("it listens");
        here
    };
    open_nursery(async |n| -> anyhow::Result<()> {
        n.start_soon(echo_server::serve(listener, sleep(3 * SECOND))).set_name("server");
        sleep(SECOND).await?;
        n.start_soon(echo_server::client("modest", 2, connect())).set_name("modest");
        sleep(SECOND).await?;
        n.start_soon(echo_server::client("greedy", 9, connect())).set_name("greedy");
        Ok(())
    })
    .await
}

#[test]
fn picture_14_echo_server() {
    draw("examples/pictures/14_echo_server", "A server stops gracefully", served_in_memory());
}

/// Three attempts: nobody answers the first, the second is refused, the third answers after half a second.
async fn raced_in_memory() -> io::Result<()> {
    let connect = async |takes: Option<u32>| match takes {
        None => sleep_forever().await.map_err(io::Error::from),
        Some(0) => Err(io::ErrorKind::ConnectionRefused.into()),
        Some(halves) => Ok(sleep(halves * SECOND / 2).await?),
    };
    eyeballs::happy_eyeballs([None, Some(0), Some(1), Some(9)], SECOND, connect).await
}

#[test]
fn picture_16_happy_eyeballs() {
    draw("examples/pictures/16_happy_eyeballs", "Three attempts, and one wins", raced_in_memory());
}

#[test]
fn picture_20_borrowing() {
    draw("examples/pictures/20_borrowing", "Two dishes and their cook", borrowing::demo());
}

#[test]
fn picture_21_one_fails() {
    draw(
        "examples/pictures/21_one_fails",
        "One child fails, and the other cleans up",
        one_fails::demo(),
    );
}

#[test]
fn picture_22_deadlines() {
    draw(
        "examples/pictures/22_deadlines",
        "Time limits, one after the other and one inside the other",
        deadlines::demo(),
    );
}

#[test]
fn picture_23_start() {
    draw(
        "examples/pictures/23_start",
        "A database starts, moves in and is cancelled",
        start::demo(),
    );
}

#[test]
fn picture_24_channel() {
    draw("examples/pictures/24_channel", "A baker and two eaters", channel::demo());
}

#[test]
fn picture_25_workshop() {
    draw(
        "examples/pictures/25_workshop",
        "A workshop that closes in the evening",
        workshop::demo(),
    );
}

#[test]
fn picture_26_pages() {
    draw(
        "examples/pictures/26_pages",
        "Three pages: one comes, one is slow, one fails",
        pages::demo(),
    );
}

#[test]
fn picture_of_the_legend() {
    draw("book/listings/legend/picture", "What a picture can show", legend::demo());
}
