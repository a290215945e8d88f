//! [`UdpSocket`].

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{self, SocketAddr};

use nursery::checkpoint;

use crate::net::error::AddressError;
use crate::net::turns::Turns;
use crate::source::Interest;
use crate::stream::{Resource, StreamError};

/// Sends and receives datagrams: each arrives whole, or not at all.
///
/// Several tasks may send, and several may receive: they take turns. Dropping it closes it.
///
/// # Examples
///
/// ```
/// use nursery_io::net::UdpSocket;
///
/// # nursery_testing::run(async {
/// let a = UdpSocket::bind(([127, 0, 0, 1], 0))?;
/// let b = UdpSocket::bind(([127, 0, 0, 1], 0))?;
/// a.send_to(b"ping", b.local_addr()?).await?;
/// let mut buffer = [0; 65536];
/// let (n, from) = b.recv_from(&mut buffer).await?;
/// assert_eq!((&buffer[..n], from), (&b"ping"[..], a.local_addr()?));
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
pub struct UdpSocket {
    socket: Turns<net::UdpSocket>,
}

impl UdpSocket {
    /// Makes a socket with an address of its own; with port 0, one that the system chooses.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// An [`AddressError`], held by the [`io::Error`].
    pub fn bind(address: impl Into<SocketAddr>) -> io::Result<UdpSocket> {
        let address = address.into();
        let bound = net::UdpSocket::bind(address).and_then(UdpSocket::from_std);
        bound.map_err(|error| AddressError::wrap("bind to", address, error))
    }

    /// Takes over a socket of the standard library.
    ///
    /// # Errors
    ///
    /// Those of the system, which may have no room for it.
    pub fn from_std(socket: net::UdpSocket) -> io::Result<UdpSocket> {
        Ok(UdpSocket { socket: Turns::new(socket)? })
    }

    /// Gives the socket back to the standard library, as one that blocks.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`], held by the [`io::Error`]; those of the system.
    pub fn into_std(self) -> io::Result<net::UdpSocket> {
        let socket = self.socket.source.into_inner()?;
        socket.set_nonblocking(false)?;
        Ok(socket)
    }

    /// Sets the peer: [`send`](Self::send) sends to it, and only its datagrams are received. Nothing is sent.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`], held by the [`io::Error`]; otherwise an [`AddressError`].
    pub fn connect(&self, peer: impl Into<SocketAddr>) -> io::Result<()> {
        let peer = peer.into();
        let connected = self.with(|io| io.connect(peer))?;
        connected.map_err(|error| AddressError::wrap("connect to", peer, error))
    }

    /// Returns the address of this end.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`], held by the [`io::Error`]; those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.with(net::UdpSocket::local_addr)?
    }

    /// Returns the address of the peer.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`], held by the [`io::Error`]; those of the system, if none is set.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.with(net::UdpSocket::peer_addr)?
    }

    /// Sends a datagram to `peer`. Returns how much of it went, which is all.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it did nothing.
    ///
    /// # Errors
    ///
    /// [`Cancelled`](nursery::Cancelled) and [`StreamError::Closed`], held by the [`io::Error`]; those of the system: it may be
    /// too large.
    ///
    /// # Panics
    ///
    /// Outside a run.
    #[track_caller]
    pub fn send_to(
        &self,
        datagram: &[u8],
        peer: impl Into<SocketAddr>,
    ) -> impl Future<Output = io::Result<usize>> {
        let peer = peer.into();
        self.run(Interest::Write, "room to send", move |io| io.send_to(datagram, peer))
    }

    /// Sends a datagram to the peer that was set by [`connect`](Self::connect).
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it did nothing.
    ///
    /// # Errors
    ///
    /// As [`send_to`](Self::send_to); those that the peer has answered to an earlier datagram.
    ///
    /// # Panics
    ///
    /// Outside a run.
    #[track_caller]
    pub fn send(&self, datagram: &[u8]) -> impl Future<Output = io::Result<usize>> {
        self.run(Interest::Write, "room to send", |io| io.send(datagram))
    }

    /// Receives a datagram, and from whom it is. What does not fit into `buffer` is lost: 65535 bytes are always enough.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it took nothing.
    ///
    /// # Errors
    ///
    /// [`Cancelled`](nursery::Cancelled) and [`StreamError::Closed`], held by the [`io::Error`]; those of the system.
    ///
    /// # Panics
    ///
    /// Outside a run.
    #[track_caller]
    pub fn recv_from(
        &self,
        buffer: &mut [u8],
    ) -> impl Future<Output = io::Result<(usize, SocketAddr)>> {
        self.run(Interest::Read, "a datagram", |io| io.recv_from(buffer))
    }

    /// Receives a datagram from the peer that was set by [`connect`](Self::connect).
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it took nothing.
    ///
    /// # Errors
    ///
    /// As [`recv_from`](Self::recv_from); those that the peer has answered to an earlier datagram.
    ///
    /// # Panics
    ///
    /// Outside a run.
    #[track_caller]
    pub fn recv(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
        self.run(Interest::Read, "a datagram", |io| io.recv(buffer))
    }

    #[track_caller]
    fn run<R>(
        &self,
        interest: Interest,
        what: &'static str,
        op: impl FnMut(&net::UdpSocket) -> io::Result<R>,
    ) -> impl Future<Output = io::Result<R>> {
        let done = self.socket.run(interest, what, op);
        async move { Ok(done.await?) }
    }

    /// Closes the socket, now. What other tasks wait for in it ends with [`Closed`](StreamError::Closed).
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
    pub fn with<R>(&self, f: impl FnOnce(&net::UdpSocket) -> R) -> Result<R, StreamError> {
        self.socket.source.with(f)
    }
}

impl Resource for UdpSocket {
    async fn aclose(&self) -> Result<(), StreamError> {
        self.close();
        Ok(checkpoint().await?)
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UdpSocket").field(&self.socket).finish()
    }
}
