//! [`TcpStream`] and [`TcpListener`].

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{self, IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::time::Duration;

use nursery::{cancellable, checkpoint};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::net::accept::accept;
use crate::net::call;
use crate::net::error::AddressError;
use crate::net::resolve::resolve;
use crate::net::socket_stream::{Calls, SocketStream};
use crate::net::turns::Turns;
use crate::source::half::Drains;
use crate::source::{Interest, Source};
use crate::stream::{Listener, Resource, StreamError};

/// A TCP connection, from [`connect`](Self::connect), [`open_tcp_stream`](crate::net::open_tcp_stream) or a [`TcpListener`].
///
/// What is sent goes at once, not when there is enough of it (`TCP_NODELAY`): so send messages whole. The system
/// is asked not to hoard what it cannot send yet, so that
/// [`wait_send_all_might_not_block`](crate::stream::SendStream::wait_send_all_might_not_block) means something.
pub type TcpStream = SocketStream<net::TcpStream>;

const CALLS: Calls<net::TcpStream> = Calls {
    read: call::read,
    write: call::write,
    shutdown: |io| io.shutdown(Shutdown::Write),
    drains: Drains::ByShortReads,
};

/// How much the system takes that it cannot send yet.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NOTSENT_LOWAT: u32 = 1 << 14;

impl TcpStream {
    /// Connects to one address.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, no socket is left.
    ///
    /// # Errors
    ///
    /// [`Cancelled`](nursery::Cancelled), held by the [`io::Error`]; otherwise an [`AddressError`].
    ///
    /// # Panics
    ///
    /// Outside a run.
    #[track_caller]
    pub fn connect(address: impl Into<SocketAddr>) -> impl Future<Output = io::Result<TcpStream>> {
        connect(address.into(), None)
    }

    /// Takes over a connection of the standard library, and sets its options as those of its own.
    ///
    /// # Errors
    ///
    /// Those of the system, which may have no room for it.
    pub fn from_std(stream: net::TcpStream) -> io::Result<TcpStream> {
        Ok(TcpStream::from_source(Source::new(stream)?))
    }

    fn from_source(source: Source<net::TcpStream>) -> TcpStream {
        let stream = SocketStream::new(source, CALLS);
        // Wishes: without them it works, too.
        let _ = stream.set_nodelay(true);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = stream.with(|io| SockRef::from(io).set_tcp_notsent_lowat(NOTSENT_LOWAT));
        stream
    }

    /// Gives the connection back to the standard library, as one that blocks.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`], held by the [`io::Error`]; those of the system.
    pub fn into_std(self) -> io::Result<net::TcpStream> {
        let stream = self.into_inner()?;
        stream.set_nonblocking(false)?;
        Ok(stream)
    }

    /// Returns the address of this end.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`], held by the [`io::Error`]; those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.with(net::TcpStream::local_addr)?
    }

    /// Returns the address of the other end.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`], held by the [`io::Error`]; those of the system: it may be gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.with(net::TcpStream::peer_addr)?
    }

    /// Returns whether what is sent goes at once, as it does by default.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`], held by the [`io::Error`]; those of the system.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.with(net::TcpStream::nodelay)?
    }

    /// Sets whether what is sent goes at once.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`], held by the [`io::Error`]; those of the system.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.with(|io| io.set_nodelay(on))?
    }

    /// Makes the system ask the peer whether it is still there, when nothing has come from it for so long; `None`, the
    /// default, not.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`], held by the [`io::Error`]; those of the system.
    pub fn set_keepalive(&self, after: Option<Duration>) -> io::Result<()> {
        self.with(|io| match after {
            Some(after) => {
                SockRef::from(io).set_tcp_keepalive(&TcpKeepalive::new().with_time(after))
            }
            None => SockRef::from(io).set_keepalive(false),
        })?
    }
}

/// Connects, from an address of this machine if one is given.
#[track_caller]
pub(crate) fn connect(
    address: SocketAddr,
    local: Option<IpAddr>,
) -> impl Future<Output = io::Result<TcpStream>> + use<> {
    let connected = cancellable(start_and_wait(address, local)).waiting_for("a connection");
    async move {
        let connected = connected.await?;
        let source = connected.map_err(|error| AddressError::wrap("connect to", address, error))?;
        Ok(TcpStream::from_source(source))
    }
}

async fn start_and_wait(
    address: SocketAddr,
    local: Option<IpAddr>,
) -> io::Result<Source<net::TcpStream>> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(local) = local {
        socket.bind(&SocketAddr::new(local, 0).into())?;
    }
    let source = Source::new(net::TcpStream::from(socket))?;
    match source.with(|io| SockRef::from(io).connect(&address.into()))? {
        Err(error) if !is_in_progress(&error) => return Err(error),
        _ => source.would_block(Interest::Write)?,
    }
    poll_fn(|cx| source.poll_ready(Interest::Write, cx)).await?;
    match source.with(net::TcpStream::take_error)?? {
        Some(error) => Err(error),
        None => Ok(source),
    }
}

#[cfg(unix)]
fn is_in_progress(error: &io::Error) -> bool {
    rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::INPROGRESS)
}

#[cfg(not(unix))]
fn is_in_progress(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// How many connections may wait to be accepted, unless another number is asked for: as many as the system allows.
pub const DEFAULT_BACKLOG: u32 = 65535;

/// Listens for TCP connections at one address.
///
/// Several tasks may [`accept`](Listener::accept): they take turns. Dropping it closes it.
pub struct TcpListener {
    socket: Turns<net::TcpListener>,
}

impl TcpListener {
    /// Listens at one address. With port 0, the system chooses one: see [`local_addr`](Self::local_addr).
    ///
    /// An address that was in use by connections of an earlier listener can be used again at once (`SO_REUSEADDR`), and an
    /// IPv6 address is for IPv6 only.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// An [`AddressError`], held by the [`io::Error`].
    pub fn bind(address: impl Into<SocketAddr>) -> io::Result<TcpListener> {
        TcpListener::bind_with_backlog(address, DEFAULT_BACKLOG)
    }

    /// The same, with a bound on the connections that may wait to be accepted. The system may set a lower one.
    ///
    /// # Errors
    ///
    /// An [`AddressError`], held by the [`io::Error`].
    pub fn bind_with_backlog(
        address: impl Into<SocketAddr>,
        backlog: u32,
    ) -> io::Result<TcpListener> {
        let address = address.into();
        listen(address, backlog).map_err(|error| AddressError::wrap("listen at", address, error))
    }

    /// Takes over a listener of the standard library.
    ///
    /// # Errors
    ///
    /// Those of the system, which may have no room for it.
    pub fn from_std(listener: net::TcpListener) -> io::Result<TcpListener> {
        Ok(TcpListener { socket: Turns::new(listener)? })
    }

    /// Gives the listener back to the standard library, as one that blocks.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`], held by the [`io::Error`]; those of the system.
    pub fn into_std(self) -> io::Result<net::TcpListener> {
        let listener = self.socket.source.into_inner()?;
        listener.set_nonblocking(false)?;
        Ok(listener)
    }

    /// Returns the address at which it listens.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`], held by the [`io::Error`]; those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.with(net::TcpListener::local_addr)?
    }

    /// Closes the socket, now. Tasks that wait for connections get [`Closed`](StreamError::Closed).
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    pub fn close(&self) {
        self.socket.source.close();
    }

    /// Calls `f` with the socket of the standard library, for what has no method here. It does not block.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`].
    pub fn with<R>(&self, f: impl FnOnce(&net::TcpListener) -> R) -> Result<R, StreamError> {
        self.socket.source.with(f)
    }
}

fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // On Windows it means something else: that others may take the address away.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(backlog.min(DEFAULT_BACKLOG) as i32)?;
    TcpListener::from_std(socket.into())
}

impl Resource for TcpListener {
    async fn aclose(&self) -> Result<(), StreamError> {
        self.close();
        Ok(checkpoint().await?)
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    #[track_caller]
    fn accept(&self) -> impl Future<Output = Result<TcpStream, StreamError>> {
        accept(&self.socket, |io| TcpStream::from_std(io.accept()?.0))
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TcpListener").field(&self.socket).finish()
    }
}

/// Listens at all addresses of a host of this machine, or, without a host, at all addresses of the machine.
///
/// There is a listener for each address. With port 0, each may get another one. Families that this machine does not know
/// are passed over.
///
/// # Cancellation
///
/// A checkpoint, always. Cancelled or dropped, no socket is left.
///
/// # Errors
///
/// [`Cancelled`](nursery::Cancelled), held by the [`io::Error`]; that of [`resolve()`]; an [`AddressError`] if one
/// of the addresses cannot be listened at: then at none.
///
/// # Panics
///
/// Outside a run.
///
/// # Examples
///
/// ```
/// use nursery_io::net::open_tcp_listeners;
///
/// # nursery_testing::run(async {
/// for listener in open_tcp_listeners("localhost", 0).await? {
///     println!("listening at {}", listener.local_addr()?);
/// }
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
pub async fn open_tcp_listeners<'a>(
    host: impl Into<Option<&'a str>>,
    port: u16,
) -> io::Result<Vec<TcpListener>> {
    let addresses = match host.into() {
        Some(host) => resolve(host, port).await?,
        None => {
            checkpoint().await?;
            vec![(Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()]
        }
    };
    listen_at_all(addresses, TcpListener::bind)
}

/// All or none, but for families that are not known.
fn listen_at_all<L>(
    addresses: Vec<SocketAddr>,
    listen: impl Fn(SocketAddr) -> io::Result<L>,
) -> io::Result<Vec<L>> {
    let mut listeners = Vec::new();
    let mut unknown = None;
    for address in addresses {
        match listen(address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_unknown_family(&error) => unknown = Some(error),
            Err(error) => return Err(error),
        }
    }
    match unknown {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

fn is_unknown_family(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|error| error.downcast_ref::<AddressError>());
    let cause = cause.map_or(error, |error| &error.cause);
    #[cfg(unix)]
    let unknown = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
    #[cfg(not(unix))]
    let unknown = 10047; // WSAEAFNOSUPPORT
    cause.raw_os_error() == Some(unknown)
}

#[cfg(all(test, unix))]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use rustix::io::Errno;

    use super::*;

    /// Listens at all addresses but those for which there is an error. Returns what the last listeners were, and whether all
    /// are closed.
    fn listen_with(errors: &[(u16, Errno)]) -> (io::Result<Vec<u16>>, bool) {
        let open = Rc::new(RefCell::new(()));
        let addresses = [80, 6, 81].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let listeners = listen_at_all(addresses.to_vec(), |address| {
            match errors.iter().find(|(port, _)| *port == address.port()) {
                Some((_, errno)) => Err(AddressError::wrap("listen at", address, (*errno).into())),
                None => Ok((address.port(), open.clone())),
            }
        });
        let listeners = listeners.map(|all| all.into_iter().map(|(port, _)| port).collect());
        (listeners, Rc::strong_count(&open) == 1)
    }

    /// `open_tcp_listeners_some_address_families_unavailable`
    #[test]
    fn families_that_are_not_known_are_passed_over_unless_none_is_left() {
        assert_eq!(listen_with(&[]).0.unwrap(), [80, 6, 81]);
        let unknown = Errno::AFNOSUPPORT;
        assert_eq!(listen_with(&[(6, unknown)]).0.unwrap(), [80, 81]);
        let (none, _) = listen_with(&[(80, unknown), (6, unknown), (81, unknown)]);
        assert!(is_unknown_family(&none.unwrap_err()));
    }

    /// `open_tcp_listeners_socket_fails_not_afnosupport`, `open_tcp_listeners_multiple_host_cleanup_on_error`
    #[test]
    fn any_other_error_closes_all() {
        let (failed, are_closed) = listen_with(&[(81, Errno::INVAL), (6, Errno::AFNOSUPPORT)]);
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert!(are_closed);
    }

    /// `open_tcp_listeners_backlog`
    #[test]
    fn any_backlog_is_accepted() -> io::Result<()> {
        for backlog in [0, 1, DEFAULT_BACKLOG, u32::MAX] {
            TcpListener::bind_with_backlog((Ipv4Addr::LOCALHOST, 0), backlog)?;
        }
        Ok(())
    }
}
