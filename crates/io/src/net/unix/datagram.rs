//! [`UnixDatagram`].

use std::fmt;
use std::future::Future;
use std::io;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;

use nursery::checkpoint;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::net::error::AddressError;
use crate::net::turns::Turns;
use crate::net::unix::file::SocketFile;
use crate::source::Interest;
use crate::stream::{Resource, StreamError};

/// Sends and receives datagrams within this machine: each arrives whole, in order, and none is lost.
///
/// Several tasks may send, and several may receive: they take turns. When it is closed or dropped, its file is removed, if
/// it has one, and it is still its own.
///
/// # Examples
///
/// ```
/// use nursery_io::net::UnixDatagram;
///
/// # nursery_testing::run(async {
/// let (a, b) = UnixDatagram::pair()?;
/// a.send(b"ping").await?;
/// let mut buffer = [0; 100];
/// assert_eq!(b.recv(&mut buffer).await?, 4);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
pub struct UnixDatagram {
    socket: Turns<net::UnixDatagram>,
    file: SocketFile,
}

impl UnixDatagram {
    /// Makes a socket at `path`, where there must be no file yet.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// An [`AddressError`], held by the [`io::Error`].
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixDatagram> {
        let path = path.as_ref();
        let bound = (|| {
            let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
            socket.bind(&SockAddr::unix(path)?)?;
            let file = SocketFile::of(path)?;
            let mut bound = UnixDatagram::from_std(socket.into())?;
            bound.file = file;
            Ok(bound)
        })();
        bound.map_err(|error| AddressError::wrap("bind to", path.display(), error))
    }

    /// Makes a socket without an address: it can send, and cannot be answered.
    ///
    /// # Errors
    ///
    /// Those of the system, which may have no room for it.
    pub fn unbound() -> io::Result<UnixDatagram> {
        UnixDatagram::from_std(net::UnixDatagram::unbound()?)
    }

    /// Makes two sockets that are each other's peers.
    ///
    /// # Errors
    ///
    /// Those of the system, which may have no room for them.
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let (one, other) = net::UnixDatagram::pair()?;
        Ok((UnixDatagram::from_std(one)?, UnixDatagram::from_std(other)?))
    }

    /// Takes over a socket of the standard library, whose file stays.
    ///
    /// # Errors
    ///
    /// Those of the system, which may have no room for it.
    pub fn from_std(socket: net::UnixDatagram) -> io::Result<UnixDatagram> {
        let socket = Turns::new(socket)?;
        Ok(UnixDatagram { socket, file: SocketFile::default() })
    }

    /// Sets the peer: [`send`](Self::send) sends to it, and only its datagrams are received.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`], held by the [`io::Error`]; otherwise an [`AddressError`].
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        let connected = self.with(|io| io.connect(path))?;
        connected.map_err(|error| AddressError::wrap("connect to", path.display(), error))
    }

    /// Returns the address of this end, which may have none.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`], held by the [`io::Error`]; those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.with(net::UnixDatagram::local_addr)?
    }

    /// Sends a datagram to the socket at `path`, waiting for room if need be. Returns how much of it went, which is all.
    ///
    /// When the other's queue has room again is not always reported, so while it is full this tries every 10 milliseconds.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it did nothing.
    ///
    /// # Errors
    ///
    /// [`Cancelled`](nursery::Cancelled) and [`StreamError::Closed`], held by the [`io::Error`]; those of the system: it may be
    /// too large, or nobody may be there.
    ///
    /// # Panics
    ///
    /// Outside a run.
    #[track_caller]
    pub fn send_to(
        &self,
        datagram: &[u8],
        path: impl AsRef<Path>,
    ) -> impl Future<Output = io::Result<usize>> {
        // The system calls it ready as long as it has room itself.
        let sent = self
            .socket
            .run_retrying(Interest::Write, "room to send", move |io| io.send_to(datagram, &path));
        async move { Ok(sent.await?) }
    }

    /// Sends a datagram to the peer that was set by [`connect`](Self::connect), or is the other of a [`pair`](Self::pair).
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it did nothing.
    ///
    /// # Errors
    ///
    /// As [`send_to`](Self::send_to).
    ///
    /// # Panics
    ///
    /// Outside a run.
    #[track_caller]
    pub fn send(&self, datagram: &[u8]) -> impl Future<Output = io::Result<usize>> {
        self.run(Interest::Write, "room to send", |io| io.send(datagram))
    }

    /// Receives a datagram, and from whom it is. What does not fit into `buffer` is lost.
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

    /// Receives a datagram. What does not fit into `buffer` is lost.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it took nothing.
    ///
    /// # Errors
    ///
    /// As [`recv_from`](Self::recv_from).
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
        op: impl FnMut(&net::UnixDatagram) -> io::Result<R>,
    ) -> impl Future<Output = io::Result<R>> {
        let done = self.socket.run(interest, what, op);
        async move { Ok(done.await?) }
    }

    /// Closes the socket, now, and removes its file. What other tasks wait for in it ends with
    /// [`Closed`](StreamError::Closed).
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    pub fn close(&self) {
        self.file.remove();
        self.socket.source.close();
    }

    /// Calls `f` with the socket of the standard library, for what has no method here. It does not block.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`].
    pub fn with<R>(&self, f: impl FnOnce(&net::UnixDatagram) -> R) -> Result<R, StreamError> {
        self.socket.source.with(f)
    }
}

impl Resource for UnixDatagram {
    async fn aclose(&self) -> Result<(), StreamError> {
        self.close();
        Ok(checkpoint().await?)
    }
}

impl fmt::Debug for UnixDatagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UnixDatagram").field(&self.socket).finish()
    }
}
