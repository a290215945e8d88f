//! Messages from task to task: a stream of them through a buffer of 64, from one sender and from four, and a ball
//! that goes to and fro.

use std::hint::black_box;
use std::time::Duration;

use nursery::{Cancelled, open_nursery};
use nursery_io::channel::{self, Receiver, SendError, Sender};
use tokio::sync::mpsc;

use crate::workload::{Metric, Size, Target, Workload, per_op, row};
use crate::{runtimes, tally};

const STREAM: &[Metric] =
    &[Metric::only("ns/message", &[Target::Ratio("tokio mpsc", 3.0), Target::Ratio("flume", 1.5)])];

pub(crate) const ONE: Workload = Workload {
    name: "channel of 64, 1 sender",
    metrics: STREAM,
    rows: &[
        row("nursery", |size| stream(size, 1, nursery)),
        row("tokio mpsc", |size| stream(size, 1, tokio)),
        row("tokio mpsc, 2 threads", |size| stream(size, 1, tokio_two)),
        row("flume", |size| stream(size, 1, flume)),
        row("async-channel", |size| stream(size, 1, async_channel)),
    ],
    is_slow: false,
};

pub(crate) const FOUR: Workload = Workload {
    name: "channel of 64, 4 senders",
    metrics: STREAM,
    rows: &[
        row("nursery", |size| stream(size, 4, nursery)),
        row("tokio mpsc", |size| stream(size, 4, tokio)),
        row("tokio mpsc, 2 threads", |size| stream(size, 4, tokio_two)),
        row("flume", |size| stream(size, 4, flume)),
        row("async-channel", |size| stream(size, 4, async_channel)),
    ],
    is_slow: false,
};

pub(crate) const PING_PONG: Workload = Workload {
    name: "ping-pong over two channels of 1",
    metrics: &[Metric::only("ns/message", &[Target::Ratio("tokio mpsc", 1.5)])],
    rows: &[
        row("nursery", |size| to_and_fro(size, nursery_ping_pong)),
        row("tokio mpsc", |size| to_and_fro(size, tokio_ping_pong)),
        row("tokio mpsc, 2 threads", |size| to_and_fro(size, tokio_two_ping_pong)),
        row("flume", |size| to_and_fro(size, flume_ping_pong)),
        row("async-channel", |size| to_and_fro(size, async_channel_ping_pong)),
    ],
    is_slow: false,
};

const CAPACITY: usize = 64;

/// Sends the numbers below `messages` from each of so many senders.
type Stream = fn(senders: usize, messages: usize) -> Duration;

fn stream(size: Size, senders: usize, run: Stream) -> Vec<f64> {
    let messages = size.of(800_000) / senders;
    let time = run(senders, messages);
    let sum = senders * (messages * (messages + 1) / 2);
    assert_eq!(tally::take(), sum, "a message was lost");
    vec![per_op(time, senders * messages)]
}

/// Sends a number to and fro so many times; both ends add it up.
type PingPong = fn(trips: usize) -> Duration;

fn to_and_fro(size: Size, run: PingPong) -> Vec<f64> {
    let trips = size.of(100_000);
    let time = run(trips);
    assert_eq!(tally::take(), trips * (trips + 1), "the ball was lost");
    vec![per_op(time, 2 * trips)]
}

/// What every receiver does. (One more than the number: the first counts, too.)
fn received(i: usize) {
    tally::add(black_box(i) + 1);
}

fn received_on_any_thread(i: usize) {
    tally::add_shared(black_box(i) + 1);
}

/// The cancellation in the error of a channel that stays open.
fn not_sent<T>(error: SendError<T>) -> Cancelled {
    match error {
        SendError::Cancelled(cancelled, _) => cancelled,
        _ => unreachable!("the channel stays open"),
    }
}

fn nursery(senders: usize, messages: usize) -> Duration {
    runtimes::nursery(async {
        let (sender, receiver) = channel::open(CAPACITY);
        open_nursery(async |n| {
            for _ in 0..senders {
                let sender = sender.clone();
                n.start_soon(async move {
                    for i in 0..messages {
                        sender.send(i).await.map_err(not_sent)?;
                    }
                    Ok(())
                });
            }
            drop(sender);
            while let Ok(i) = receiver.recv().await {
                received(i);
            }
            Ok::<(), Cancelled>(())
        })
        .await
    })
}

async fn over_tokio(senders: usize, messages: usize, received: fn(usize)) {
    let (sender, mut receiver) = mpsc::channel(CAPACITY);
    for _ in 0..senders {
        let sender = sender.clone();
        tokio::spawn(async move {
            for i in 0..messages {
                sender.send(i).await.expect("open");
            }
        });
    }
    drop(sender);
    while let Some(i) = receiver.recv().await {
        received(i);
    }
}

fn tokio(senders: usize, messages: usize) -> Duration {
    runtimes::tokio(over_tokio(senders, messages, received))
}

fn tokio_two(senders: usize, messages: usize) -> Duration {
    let time = runtimes::tokio_two(over_tokio(senders, messages, received_on_any_thread));
    tally::collect_shared();
    time
}

fn flume(senders: usize, messages: usize) -> Duration {
    runtimes::tokio(async move {
        let (sender, receiver) = flume::bounded(CAPACITY);
        for _ in 0..senders {
            let sender = sender.clone();
            tokio::spawn(async move {
                for i in 0..messages {
                    sender.send_async(i).await.expect("open");
                }
            });
        }
        drop(sender);
        while let Ok(i) = receiver.recv_async().await {
            received(i);
        }
    })
}

fn async_channel(senders: usize, messages: usize) -> Duration {
    runtimes::tokio(async move {
        let (sender, receiver) = async_channel::bounded(CAPACITY);
        for _ in 0..senders {
            let sender = sender.clone();
            tokio::spawn(async move {
                for i in 0..messages {
                    sender.send(i).await.expect("open");
                }
            });
        }
        drop(sender);
        while let Ok(i) = receiver.recv().await {
            received(i);
        }
    })
}

fn nursery_ping_pong(trips: usize) -> Duration {
    async fn echo(from: Receiver<usize>, to: Sender<usize>) -> Result<(), Cancelled> {
        while let Ok(i) = from.recv().await {
            received(i);
            to.send(i).await.map_err(not_sent)?;
        }
        Ok(())
    }
    runtimes::nursery(async {
        let (ping, pinged) = channel::open(1);
        let (pong, ponged) = channel::open(1);
        open_nursery(async |n| {
            n.start_soon(echo(pinged, pong));
            for i in 0..trips {
                ping.send(i).await.map_err(not_sent)?;
                received(ponged.recv().await.expect("open"));
            }
            drop(ping);
            Ok::<(), Cancelled>(())
        })
        .await
    })
}

async fn ping_pong_over_tokio(trips: usize, received: fn(usize)) {
    let (ping, mut pinged) = mpsc::channel(1);
    let (pong, mut ponged) = mpsc::channel(1);
    let echo = tokio::spawn(async move {
        while let Some(i) = pinged.recv().await {
            received(i);
            pong.send(i).await.expect("open");
        }
    });
    for i in 0..trips {
        ping.send(i).await.expect("open");
        received(ponged.recv().await.expect("open"));
    }
    drop(ping);
    echo.await.expect("no panic");
}

fn tokio_ping_pong(trips: usize) -> Duration {
    runtimes::tokio(ping_pong_over_tokio(trips, received))
}

fn tokio_two_ping_pong(trips: usize) -> Duration {
    let time = runtimes::tokio_two(ping_pong_over_tokio(trips, received_on_any_thread));
    tally::collect_shared();
    time
}

fn flume_ping_pong(trips: usize) -> Duration {
    runtimes::tokio(async move {
        let (ping, pinged) = flume::bounded(1);
        let (pong, ponged) = flume::bounded(1);
        let echo = tokio::spawn(async move {
            while let Ok(i) = pinged.recv_async().await {
                received(i);
                pong.send_async(i).await.expect("open");
            }
        });
        for i in 0..trips {
            ping.send_async(i).await.expect("open");
            received(ponged.recv_async().await.expect("open"));
        }
        drop(ping);
        echo.await.expect("no panic");
    })
}

fn async_channel_ping_pong(trips: usize) -> Duration {
    runtimes::tokio(async move {
        let (ping, pinged) = async_channel::bounded(1);
        let (pong, ponged) = async_channel::bounded(1);
        let echo = tokio::spawn(async move {
            while let Ok(i) = pinged.recv().await {
                received(i);
                pong.send(i).await.expect("open");
            }
        });
        for i in 0..trips {
            ping.send(i).await.expect("open");
            received(ponged.recv().await.expect("open"));
        }
        drop(ping);
        echo.await.expect("no panic");
    })
}
