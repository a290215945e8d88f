//! Sockets: connecting, listening, serving; TCP, UDP and the local sockets of Unix.
//!
//! | to | look at |
//! |---|---|
//! | connect to a host, whichever of its addresses answers | [`open_tcp_stream`] |
//! | connect to one address | [`TcpStream::connect`], [`UnixStream::connect`] |
//! | listen | [`open_tcp_listeners`], [`TcpListener::bind`], [`UnixListener::bind`] |
//! | serve: a task for each connection | [`serve_tcp`], [`serve_listeners`] |
//! | send and receive datagrams | [`UdpSocket`], [`UnixDatagram`] |
//! | turn names into addresses | [`resolve()`], [`set_resolver`] |
//! | race attempts of any kind | [`happy_eyeballs`] |
//!
//! Streams and listeners keep the contracts of [`stream`](crate::stream). Sockets belong to one run, and are shared by
//! reference, or by [`Rc`](std::rc::Rc). Every wait can be cancelled; a cancelled attempt to connect leaves no socket behind.
//!
//! # Errors
//!
//! What opens a socket fails with an [`io::Error`](std::io::Error) that names the address, holding an [`AddressError`] or,
//! if there were several addresses, a [`ConnectError`] that tells how each of them failed. A [`Cancelled`](nursery::Cancelled)
//! is held by the `io::Error` too, and its scope recognises it.
//!
//! # Examples
//!
//! A server and its client:
//!
//! ```
//! use nursery::open_nursery;
//! use nursery_io::net::{TcpStream, open_tcp_stream, serve_tcp};
//! use nursery_io::stream::{BufferedReceive, HalfClose, SendStream};
//!
//! async fn echo_lines(stream: TcpStream) -> anyhow::Result<()> {
//!     let mut lines = BufferedReceive::new(&stream);
//!     while let Some(line) = lines.read_line(1000).await? {
//!         stream.send_all(format!("{line}!\n").as_bytes()).await?;
//!     }
//!     Ok(())
//! }
//!
//! # nursery_testing::run(async {
//! open_nursery(async |n| -> anyhow::Result<()> {
//!     let listeners =
//!         n.start(async |status| serve_tcp("localhost", 0, echo_lines).started(status).await).await?;
//!     let port = listeners[0].local_addr()?.port();
//!
//!     let stream = open_tcp_stream("localhost", port).await?;
//!     stream.send_all(b"hello\n").await?;
//!     stream.send_eof().await?;
//!     let mut answers = BufferedReceive::new(&stream);
//!     assert_eq!(answers.read_line(1000).await?.as_deref(), Some("hello!"));
//!     assert_eq!(answers.read_line(1000).await?, None);
//!
//!     n.cancel_scope().cancel(); // closes the server, and what it still serves
//!     Ok(())
//! })
//! .await
//! # }).unwrap();
//! ```

mod accept;
mod call;
mod error;
pub mod happy_eyeballs;
mod open;
mod resolve;
mod serve;
mod socket_stream;
mod tcp;
mod turns;
mod udp;
#[cfg(unix)]
mod unix;

pub use crate::net::accept::is_out_of_resources;
pub use crate::net::error::{AddressError, ConnectError};
pub use crate::net::open::{OpenTcpStream, open_tcp_stream};
pub use crate::net::resolve::{Resolver, resolve, set_resolver};
pub use crate::net::serve::{Serve, serve_listeners, serve_tcp};
pub use crate::net::socket_stream::SocketStream;
pub use crate::net::tcp::{DEFAULT_BACKLOG, TcpListener, TcpStream, open_tcp_listeners};
pub use crate::net::udp::UdpSocket;
#[cfg(unix)]
pub use crate::net::unix::{UnixDatagram, UnixListener, UnixStream};
