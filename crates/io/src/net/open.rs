//! [`open_tcp_stream`]: a connection to a host, whichever of its addresses answers.

use std::future::{Future, IntoFuture};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use crate::net::error::{ConnectError, host_and_port};
use crate::net::happy_eyeballs::{DEFAULT_DELAY, alternate, attempt_all};
use crate::net::resolve::resolve;
use crate::net::tcp::{TcpStream, connect};

/// Connects to `host`, a name or an address, at `port`.
///
/// A name may have several addresses, and some of them may not answer. They are tried by
/// [`happy_eyeballs`](crate::net::happy_eyeballs): in the order of the resolver, but the second is of the other family than the
/// first, if there is one; the next as soon as one has failed, or has not answered for 250 ms. The first connection is kept.
///
/// # Cancellation
///
/// A checkpoint, always. Cancelled or dropped, no socket is left.
///
/// # Errors
///
/// [`Cancelled`](nursery::Cancelled), held by the [`io::Error`]; that of [`resolve()`]; a [`ConnectError`] if no address could be
/// connected to, also if there was only one.
///
/// # Panics
///
/// Outside a run.
///
/// # Examples
///
/// ```
/// use nursery_io::net::{ConnectError, TcpListener, open_tcp_stream};
///
/// # nursery_testing::run(async {
/// let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
/// let port = listener.local_addr()?.port();
/// let stream = open_tcp_stream("127.0.0.1", port).await?;
/// assert_eq!(stream.peer_addr()?.port(), port);
///
/// let error = open_tcp_stream("127.0.0.1", 1).await.unwrap_err(); // nobody listens there
/// let error: ConnectError = error.downcast().unwrap();
/// assert_eq!((&*error.target, error.attempts.len()), ("127.0.0.1:1", 1));
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
pub fn open_tcp_stream(host: &str, port: u16) -> OpenTcpStream<'_> {
    OpenTcpStream { host, port, delay: DEFAULT_DELAY, local_address: None }
}

/// A connection to be opened, from [`open_tcp_stream`]: await it.
#[derive(Clone, Debug)]
#[must_use = "nothing is opened unless it is awaited"]
pub struct OpenTcpStream<'a> {
    host: &'a str,
    port: u16,
    delay: Duration,
    local_address: Option<IpAddr>,
}

impl<'a> OpenTcpStream<'a> {
    /// Sets how long an attempt may take before the next one begins, too. Default: 250 ms.
    pub fn happy_eyeballs_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sets the address of this machine to connect from. Addresses of the host that are of another family fail.
    pub fn local_address(mut self, address: impl Into<IpAddr>) -> Self {
        self.local_address = Some(address.into());
        self
    }

    async fn open(self) -> io::Result<TcpStream> {
        let mut targets = resolve(self.host, self.port).await?;
        alternate(&mut targets);
        let attempt = async |target| connect(target, self.local_address).await;
        let opened = attempt_all(targets, self.delay, attempt).await?;
        opened.map_err(|failures| ConnectError::wrap(host_and_port(self.host, self.port), failures))
    }
}

impl<'a> IntoFuture for OpenTcpStream<'a> {
    type Output = io::Result<TcpStream>;
    type IntoFuture = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}
