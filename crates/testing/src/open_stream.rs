//! [`open_stream_to_listener`]: a connection to a listener of the same test.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nursery_io::net::{TcpListener, TcpStream};

/// Connects to a listener, by the loopback if it listens at all addresses of the machine.
///
/// # Cancellation
///
/// A checkpoint, always. Cancelled or dropped, no socket is left.
///
/// # Errors
///
/// As [`TcpStream::connect`]; [`Closed`](nursery_io::stream::StreamError::Closed), held by the [`io::Error`].
///
/// # Panics
///
/// Outside a run.
///
/// # Examples
///
/// ```
/// use nursery_io::net::TcpListener;
/// use nursery_io::stream::Listener;
/// use nursery_testing::open_stream_to_listener;
///
/// # nursery_testing::run(async {
/// let listener = TcpListener::bind(([0, 0, 0, 0], 0))?;
/// let client = open_stream_to_listener(&listener).await?;
/// let server = listener.accept().await?;
/// assert_eq!(client.local_addr()?, server.peer_addr()?);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
pub async fn open_stream_to_listener(listener: &TcpListener) -> io::Result<TcpStream> {
    let mut address = listener.local_addr()?;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    TcpStream::connect(address).await
}
