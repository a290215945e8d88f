//! A TCP echo server with 64 connections, and a client in a thread of its own that is the same for all.
//!
//! The client writes one message of 64 bytes to each connection, then reads all answers, and so on. Almost all of a
//! round trip is the kernel's work (two sends, two receives), so the floor, a bare loop around `epoll`, is close. Two
//! figures: the time on the client's watch, and the CPU time of everything but the client's thread.

mod client;
#[cfg(target_os = "linux")]
mod epoll;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use async_io::Async;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use nursery::{Cancelled, cancellable, open_nursery};
use nursery_io::stream::{Listener, ReceiveStream, SendStream, StreamError};
use rustix::time::ClockId;
use tokio::task::JoinSet;

use crate::stopwatch::cpu_time;
use crate::workload::{Metric, Size, Target, Workload, per_op, row};
use crate::{runtimes, tally};

pub(crate) const WORKLOAD: Workload = Workload {
    name: "TCP echo, 64 connections",
    metrics: &[
        Metric { name: "round trip", unit: "ns", targets: &[Target::Ratio("tokio JoinSet", 1.0)] },
        Metric { name: "server's CPU time", unit: "ns", targets: &[] },
    ],
    rows: &[
        row("nursery", |size| measure(size, nursery)),
        row("nursery, cancellable(async-io)", |size| measure(size, nursery_foreign)),
        row("tokio JoinSet", |size| measure(size, tokio)),
        row("async-executor + async-io", |size| measure(size, executor)),
        #[cfg(target_os = "linux")]
        row("floor", |size| measure(size, epoll::serve)),
    ],
    is_slow: false,
};

/// The length of a message.
const MESSAGE: usize = 64;

/// The server's buffer for each connection.
const BUFFER: usize = 1024;

/// Serves so many connections until the client has closed all; tells the tally how many bytes came back.
type Serve = fn(listener: TcpListener, connections: usize);

fn measure(size: Size, serve: Serve) -> Vec<f64> {
    let (connections, rounds) = (size.fixed(64), size.of(1000));
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let address = listener.local_addr().expect("its address");
    let client = std::thread::spawn(move || client::run(address, connections, rounds));
    let before = cpu_time(ClockId::ProcessCPUTime);
    serve(listener, connections);
    let cpu = cpu_time(ClockId::ProcessCPUTime) - before;
    let report = client.join().expect("no panic");
    let trips = connections * rounds;
    assert_eq!(tally::take(), trips * MESSAGE, "bytes were lost");
    vec![per_op(report.time, trips), per_op(cpu.saturating_sub(report.cpu), trips)]
}

fn nursery(listener: TcpListener, connections: usize) {
    async fn echo(stream: nursery_io::net::TcpStream) -> Result<(), StreamError> {
        let mut buffer = [0; BUFFER];
        loop {
            let length = stream.receive_some(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            stream.send_all(&buffer[..length]).await?;
            tally::add(length);
        }
    }
    runtimes::nursery(async {
        let listener = nursery_io::net::TcpListener::from_std(listener).expect("a listener");
        open_nursery(async |n| {
            for _ in 0..connections {
                let stream = listener.accept().await.expect("a connection");
                n.start_soon(async {
                    echo(stream).await.expect("the client is well");
                    Ok(())
                });
            }
            Ok::<(), Cancelled>(())
        })
        .await
    });
}

/// How a socket of another library is used, without those of `nursery_io`.
fn nursery_foreign(listener: TcpListener, connections: usize) {
    async fn echo(stream: Async<TcpStream>) -> Result<(), Cancelled> {
        let mut buffer = [0; BUFFER];
        loop {
            let read = stream.read_with(|mut stream| stream.read(&mut buffer));
            let length = cancellable(read).await?.expect("the client is well");
            if length == 0 {
                return Ok(());
            }
            let mut left = &buffer[..length];
            while !left.is_empty() {
                let write = stream.write_with(|mut stream| stream.write(left));
                left = &left[cancellable(write).await?.expect("the client is well")..];
            }
            tally::add(length);
        }
    }
    runtimes::nursery(async {
        let listener = Async::new(listener).expect("a listener");
        open_nursery(async |n| {
            for _ in 0..connections {
                let accepted = cancellable(listener.accept()).await?;
                n.start_soon(echo(accepted.expect("a connection").0));
            }
            Ok(())
        })
        .await
    });
}

fn tokio(listener: TcpListener, connections: usize) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn echo(mut stream: tokio::net::TcpStream) -> io::Result<()> {
        let mut buffer = [0; BUFFER];
        loop {
            let length = stream.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            stream.write_all(&buffer[..length]).await?;
            tally::add(length);
        }
    }
    runtimes::tokio(async move {
        listener.set_nonblocking(true).expect("a listener");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        let mut set = JoinSet::new();
        for _ in 0..connections {
            set.spawn(echo(listener.accept().await.expect("a connection").0));
        }
        while let Some(end) = set.join_next().await {
            end.expect("no panic").expect("the client is well");
        }
    });
}

fn executor(listener: TcpListener, connections: usize) {
    async fn echo(mut stream: Async<TcpStream>) -> io::Result<()> {
        let mut buffer = [0; BUFFER];
        loop {
            let length = stream.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            stream.write_all(&buffer[..length]).await?;
            tally::add(length);
        }
    }
    runtimes::executor(async move |executor| {
        let listener = Async::new(listener).expect("a listener");
        let mut tasks = Vec::with_capacity(connections);
        for _ in 0..connections {
            tasks.push(executor.spawn(echo(listener.accept().await.expect("a connection").0)));
        }
        for task in tasks {
            task.await.expect("the client is well");
        }
    });
}
