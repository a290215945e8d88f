//! Locks, channels, streams, sockets, pipes, signals and threads for [`nursery`]: every wait can be cancelled.
//!
//! - **Each operation is a checkpoint** that either happened or did not: what is cancelled has taken nothing, and lost nothing.
//! - **Streams, listeners and closing** are traits with contracts; a socket, a pipe and a test's memory keep the same ones.
//! - **A server** is a nursery with a task for each connection; **a client** races the addresses of its host.
//! - **Fair**: first come, first served, and what is released is handed to whoever waited longest.
//! - **Threads and signals** are let in by one door; a thread is waited for, unless you say that it may be abandoned.
//!
//! What sets it apart: it is built on `nursery`'s public API only, without unsafe code, and each operation's promises about
//! cancellation are tested by cancelling it, and by dropping it, at every point.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use nursery::{fail_after, open_nursery};
//! use nursery_io::net::{TcpStream, open_tcp_stream, serve_tcp};
//! use nursery_io::stream::{BufferedReceive, SendStream};
//! use nursery_io::sync::CapacityLimiter;
//!
//! # nursery_testing::run(async {
//! let places = CapacityLimiter::new(2); // at most two are served at a time
//! let greet = async |stream: TcpStream| -> anyhow::Result<()> {
//!     let _place = places.acquire().await?; // borrowed by every connection
//!     stream.send_all(b"hello\n").await?;
//!     Ok(())
//! };
//! open_nursery(async |n| -> anyhow::Result<()> {
//!     let listeners =
//!         n.start(async |status| serve_tcp("localhost", 0, greet).started(status).await).await?;
//!
//!     let stream = open_tcp_stream("localhost", listeners[0].local_addr()?.port()).await?;
//!     let mut lines = BufferedReceive::new(&stream);
//!     let line = fail_after(Duration::from_secs(5), async { anyhow::Ok(lines.read_line(100).await?) });
//!     assert_eq!(line.await?.as_deref(), Some("hello"));
//!
//!     n.cancel_scope().cancel(); // the server ends, and so does what it still serves
//!     Ok(())
//! })
//! .await
//! # }).unwrap();
//! ```
//!
//! # Where to find what
//!
//! | for | look at |
//! |---|---|
//! | events, locks, semaphores and what else tasks agree by | [`sync`] |
//! | passing values from task to task | [`channel`] |
//! | sending and receiving bytes, whatever carries them | [`stream`] |
//! | TCP, UDP and Unix sockets: connecting, serving | [`net`] |
//! | pipes, and other file descriptors | [`pipe`] |
//! | Ctrl-C, SIGTERM and the other signals of the system | [`signal`] |
//! | what blocks or computes for long, and ways back from other threads | [`thread`] |
//!
//! Tasks, time limits and cancellation are in [`nursery`]; streams in memory, and a kit that checks streams of your own, in
//! `nursery-testing`. The folder `book` of the repository has a tutorial: `just book` builds it.
#![forbid(unsafe_code)]
#![doc(test(attr(deny(warnings))))]

#[cfg(unix)]
pub mod pipe;
#[cfg(unix)]
pub mod signal;

pub mod channel;
pub mod net;
mod source;
pub mod stream;
pub mod sync;
pub mod thread;
